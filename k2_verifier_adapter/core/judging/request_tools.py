"""The tools of one request, as they are needed to judge its response."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from k2_verifier_adapter.core.failure_classes import Failure
from k2_verifier_adapter.core.judging.tool_calls import Compiled, count_violations, judge_calls


class RequestTools:
    """The tools of a request, decoded and compiled when they are needed, and once."""

    def __init__(self, decode: Callable[[], Any]) -> None:
        """Take what gives the decoded tools."""
        self._decode = decode
        self._compiled: Compiled = {}
        self._declared: Any = None

    def _decoded(self) -> Any:
        if self._declared is None:
            self._declared = self._decode()
        return self._declared

    def judge(self, calls: list[Any]) -> list[Failure]:
        """List what makes calls invalid."""
        return judge_calls(calls, self._decoded(), self._compiled)

    def count_violations(self, call: Any) -> int:
        """Count the violations of a call that has more than are listed."""
        return count_violations(call, self._decoded(), self._compiled)

    def names(self) -> list[str]:
        """List the names of the declared tools."""
        declared = self._decoded()
        functions = (
            tool.get("function") if isinstance(tool, dict) else None
            for tool in (declared if isinstance(declared, list) else ())
        )
        names = (function.get("name") for function in functions if isinstance(function, dict))
        return [name for name in names if isinstance(name, str)]
