"""Take over the name `k2_verifier` in EvalScope and add `kimi_conformance`, without ever breaking it.

EvalScope 1.14.1 has no plugin mechanism and reserves the names of its own benchmarks. What works in
every lookup order: let its own module register first, then overwrite the entry. So a finder on
`sys.meta_path` waits for that module and overwrites right behind it, whoever imports it: a lookup of
the name, a listing of the catalog, or a direct import.

The finder is installed by `import k2_verifier_adapter`, which the start-up files
(`k2_verifier_adapter_hook.pth`, and `.start` from Python 3.15 on) do in every interpreter. This
module is therefore imported at every interpreter start: it imports nothing that is not there anyway
(`takeover.py` says whether it worked).
"""

from __future__ import annotations

import os
import sys

from k2_verifier_adapter.version import BENCHMARK, CONFORMANCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

DISABLE_VARIABLE = "K2_VERIFIER_ADAPTER_DISABLE"

_CONFIG = "evalscope.config"
_CATALOG = "evalscope.benchmarks"
_BUILT_IN = "evalscope.benchmarks.k2_verifier.k2_verifier_adapter"
_RESOURCES = "evalscope.utils.resource_utils"


def install() -> None:
    """Install the finder, or take over at once where EvalScope is loaded already. Never raises."""
    if is_disabled() or any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Finder())
    for name in _AFTER_IMPORT:
        module = sys.modules.get(name)
        if module is not None:
            _act_after(name)


def is_disabled() -> bool:
    """Whether the environment variable switches the take-over off."""
    return os.environ.get(DISABLE_VARIABLE, "").lower() not in ("", "0", "false", "no")


def take_over() -> None:
    """Overwrite EvalScope's entry; its own module must be imported."""
    from evalscope.api.registry import BENCHMARK_REGISTRY

    # Importing the evaluator registers it under the benchmark's name, where EvalScope looks for it.
    import k2_verifier_adapter.evalscope_plugin.evaluator  # noqa: F401
    from k2_verifier_adapter.evalscope_plugin.adapter import benchmark_meta

    BENCHMARK_REGISTRY[BENCHMARK] = benchmark_meta()


def _watch_settings() -> None:
    """Have this benchmark's tasks refuse what cannot be meant, and show no credentials in their dumps."""
    from evalscope.config import TaskConfig

    from k2_verifier_adapter.evalscope_plugin.asked import checked_from_dict, checked_init
    from k2_verifier_adapter.evalscope_plugin.masking import masked_settings

    TaskConfig.to_dict = masked_settings(TaskConfig.to_dict)
    TaskConfig.__init__ = checked_init(TaskConfig.__init__)
    TaskConfig.from_dict = checked_from_dict(TaskConfig.from_dict)


def _describe() -> None:
    """Have EvalScope's pages show this benchmark's description, not its built-in one's."""
    from k2_verifier_adapter.evalscope_plugin.description import describe_everywhere

    describe_everywhere()


def _add_to_catalog() -> None:
    """Add our second benchmark; notice a catalog without the first, for which we would wait for ever."""
    from importlib.util import find_spec

    from evalscope import benchmarks
    from evalscope.api.registry import BENCHMARK_REGISTRY

    def load_one(name: str) -> bool:
        if name != CONFORMANCE:
            return bool(benchmarks.load_benchmark(name))
        register(tell=True)
        return bool(BENCHMARK_REGISTRY.is_materialized(CONFORMANCE))

    def load_all() -> None:
        benchmarks.load_all()
        register(tell=False)

    def register(*, tell: bool) -> None:
        try:
            if not BENCHMARK_REGISTRY.is_materialized(CONFORMANCE):
                from k2_verifier_adapter.evalscope_plugin.conformance import conformance_meta

                BENCHMARK_REGISTRY[CONFORMANCE] = conformance_meta()
        except Exception as error:  # noqa: BLE001 - EvalScope must go on, whatever keeps us out
            if tell:
                _say(f"{CONFORMANCE} cannot be loaded", error)

    # EvalScope 1.14.1 looks names up in an index of its own modules, and has no other way in.
    BENCHMARK_REGISTRY.set_resolvers(load_one, load_all, benchmarks._INDEX.get)  # noqa: SLF001

    try:
        found = find_spec(_BUILT_IN) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise LookupError(f"this EvalScope has no module {_BUILT_IN}")


def _act_after(name: str) -> None:
    action, otherwise = _AFTER_IMPORT[name]
    try:
        action()
    except Exception as error:  # noqa: BLE001 - EvalScope must go on, whatever keeps us out
        _say(otherwise, error)


def _say(what: str, error: Exception) -> None:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    sys.stderr.write(f"k2-verifier-adapter: {what} ({reason})\n")


_NOT_SERVED = f"EvalScope's own {BENCHMARK} benchmark is running, not this adapter"
_NOT_HIDDEN = "EvalScope may write the values of headers and query parameters to its log"
_NOT_DESCRIBED = f"EvalScope's pages describe its own {BENCHMARK} benchmark"
_AFTER_IMPORT = {
    _RESOURCES: (_describe, _NOT_DESCRIBED),
    _CONFIG: (_watch_settings, _NOT_HIDDEN),
    _CATALOG: (_add_to_catalog, _NOT_SERVED),
    _BUILT_IN: (take_over, _NOT_SERVED),
}


class _Finder:
    """Wrap the loader of the modules waited for; every other import passes by."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _AFTER_IMPORT:
            return None
        for finder in sys.meta_path:
            find_spec = getattr(finder, "find_spec", None)
            if finder is self or find_spec is None:
                continue
            spec: ModuleSpec | None = find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, fullname)  # type: ignore[assignment]
                return spec
        return None


class _Loader:
    """Load as the wrapped loader does, then act."""

    def __init__(self, wrapped: Any, name: str) -> None:
        self._wrapped = wrapped
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._wrapped.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        # Resources and reloads of the module are the wrapped loader's business.
        module.__loader__ = self._wrapped
        if module.__spec__ is not None:
            module.__spec__.loader = self._wrapped
        self._wrapped.exec_module(module)
        _act_after(self._name)
