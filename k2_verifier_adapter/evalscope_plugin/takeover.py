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
    """Whether a lookup of the name gives this adapter, why, and what takes over in other interpreters.

    Without a start-up file, which every interpreter reads, only `import k2_verifier_adapter` does.
    """

    active: bool
    reason: str
    start_up_file: str | None


def status() -> TakeoverStatus:
    """Look the name up as EvalScope does, and say who serves it. Imports EvalScope."""
    active = False
    if is_disabled():
        reason = f"switched off by {DISABLE_VARIABLE}={os.environ[DISABLE_VARIABLE]!r}"
    else:
        try:
            import evalscope.benchmarks
            from evalscope.api.registry import BENCHMARK_REGISTRY

            meta = BENCHMARK_REGISTRY.get(BENCHMARK)
        except Exception as error:  # noqa: BLE001 - any failure of EvalScope's import is the answer
            reason = f"EvalScope cannot be imported: {error!r}"
        else:
            served_by = getattr(getattr(meta, "data_adapter", None), "__module__", "nothing")
            active = served_by.startswith("k2_verifier_adapter.")
            reason = f"{BENCHMARK} is served by {served_by} (EvalScope {evalscope.__version__})"
    return TakeoverStatus(active=active, reason=reason, start_up_file=find_start_up_file())


def find_start_up_file() -> str | None:
    """Find the start-up file among the directories that `site` reads."""
    for folder in (*site.getsitepackages(), site.getusersitepackages()):
        candidate = Path(folder, HOOK_FILE)
        if candidate.is_file():
            return str(candidate)
    return None


def require_active() -> TakeoverStatus:
    """Give the status; `TakeoverError` if EvalScope's own benchmark would run instead."""
    found = status()
    if not found.active:
        raise TakeoverError(f"EvalScope's own {BENCHMARK} benchmark would run instead: {found.reason}")
    return found
