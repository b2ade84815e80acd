"""Did the take-over work? Who serves `k2_verifier` in this interpreter, and in the next one?"""

from __future__ import annotations

import os
import site
from dataclasses import dataclass
from pathlib import Path

from k2_verifier_adapter.errors import TakeoverError
from k2_verifier_adapter.evalscope_plugin.registration import DISABLE_VARIABLE, is_disabled
from k2_verifier_adapter.version import BENCHMARK

HOOK_FILE = "k2_verifier_adapter_hook.pth"


@dataclass(frozen=True)
class TakeoverStatus:
    """Whether this adapter serves the name in this interpreter.

    Attributes:
        active: Whether a lookup of the name gives this adapter.
        reason: Why it does or does not, one line.
        start_up_file: Path of the start-up file that every interpreter of this installation reads,
            or None if only `import k2_verifier_adapter` takes over.
    """

    active: bool
    reason: str
    start_up_file: str | None


def status() -> TakeoverStatus:
    """Look the name up as EvalScope does, and say who serves it. Imports EvalScope."""
    start_up_file = find_start_up_file()
    if is_disabled():
        return TakeoverStatus(
            active=False,
            reason=f"switched off by {DISABLE_VARIABLE}={os.environ[DISABLE_VARIABLE]!r}",
            start_up_file=start_up_file,
        )
    try:
        import evalscope.benchmarks
        from evalscope.api.registry import BENCHMARK_REGISTRY

        meta = BENCHMARK_REGISTRY.get(BENCHMARK)
    except Exception as error:  # noqa: BLE001 - any failure of EvalScope's import is the answer
        return TakeoverStatus(
            active=False, reason=f"EvalScope cannot be imported: {error!r}", start_up_file=start_up_file
        )
    served_by = getattr(getattr(meta, "data_adapter", None), "__module__", "nothing")
    active = served_by.startswith("k2_verifier_adapter.")
    reason = f"{BENCHMARK} is served by {served_by} (EvalScope {evalscope.__version__})"
    return TakeoverStatus(active=active, reason=reason, start_up_file=start_up_file)


def find_start_up_file() -> str | None:
    """Find the start-up file among the directories that `site` reads."""
    for folder in (*site.getsitepackages(), site.getusersitepackages()):
        candidate = Path(folder, HOOK_FILE)
        if candidate.is_file():
            return str(candidate)
    return None


def require_active() -> TakeoverStatus:
    """Give the status, if this adapter serves the name.

    Raises:
        TakeoverError: If EvalScope's own benchmark would run instead.
    """
    found = status()
    if not found.active:
        raise TakeoverError(f"EvalScope's own {BENCHMARK} benchmark would run instead: {found.reason}")
    return found
