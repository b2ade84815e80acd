"""What a page shows of a failed case: its last turns, its texts and calls, each safe to show."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from k2_verifier_adapter.core.cases import CaseLike, OfficialAnswer
from k2_verifier_adapter.core.failure_classes import Failure
from k2_verifier_adapter.core.judgement import FailedRequest, Judgement
from k2_verifier_adapter.core.redaction import ToolNames, redact_failure, redact_finish_reason
from k2_verifier_adapter.core.responses import Response
from k2_verifier_adapter.reports.failed_cases.case import Call, FailedCase, Turn
from k2_verifier_adapter.reports.html.marked_text import Piece, arguments_of_call, marked, shown_lines

_LAST_TURNS = 4
_MOST_CALLS = 20
_ENDED = "finish_reason "


class ShownCase(CaseLike, Protocol):
    """A request with the numbers under which it is shown; `core.cases.Case` is one."""

    @property
    def index(self) -> int:
        """0-based row number."""

    @property
    def data_index(self) -> int:
        """Upstream's 1-based number."""


def request_case(case: ShownCase, request: FailedRequest, *, raw: Any = None) -> FailedCase:
    """Give the view of a failed request.

    Args:
        case: The request and the official answer.
        request: How it failed.
        raw: What came in place of a completion; None if nothing did.
    """
    said = [f"HTTP {request.status}"] if request.status is not None else []
    said += [took(request.duration_s, request.attempts)] if request.duration_s else []
    turns, before = last_turns(case.messages())
    return FailedCase(
        row=case.index,
        data_index=case.data_index,
        repeat=request.repeat,
        failures=(request.failure,),
        ended="no completion: the request failed",
        official=official(case.official),
        turns=turns,
        turns_before=before,
        raw="" if raw is None else _as_text(raw),
        official_calls=_calls(case.official_tool_calls() or [], ()),
        effort=", ".join(said),
    )


def answered_case(
    case: ShownCase, response: Response, judgement: Judgement, *, repeat: int, effort: str
) -> FailedCase:
    """Give the view of a judged response."""
    turns, before = last_turns(case.messages())
    return FailedCase(
        row=case.index,
        data_index=case.data_index,
        repeat=repeat,
        failures=judgement.failures,
        ended=ended(judgement.finish_reason),
        official=official(case.official),
        turns=turns,
        turns_before=before,
        texts=dict(_texts(response, judgement.failures)),
        calls=_calls(response.tool_calls, judgement.failures),
        raw=_raw(response),
        official_calls=_calls(case.official_tool_calls() or [], ()),
        effort=effort,
    )


def redacted(case: FailedCase, names: ToolNames) -> FailedCase:
    """Give the case without a word of prompts, tools or answers; see `core.redaction`."""
    finish_reason = case.ended.removeprefix(_ENDED)
    return FailedCase(
        row=case.row,
        data_index=case.data_index,
        repeat=case.repeat,
        failures=tuple(redact_failure(failure, names) for failure in case.failures),
        ended=case.ended if finish_reason == case.ended else ended(redact_finish_reason(finish_reason)),
        official=case.official,
        effort=case.effort,
    )


def took(duration_s: float, attempts: int = 1) -> str:
    """Say how long an answer took, and how many attempts, where it was more than one."""
    return f"{duration_s:.2f} s" + (f", {attempts} attempts" if attempts > 1 else "")


def last_turns(messages: list[Any] | None) -> tuple[tuple[Turn, ...], int]:
    """Give the last messages of a request, and how many stand before them."""
    if not messages:
        return (), 0
    last = messages[-_LAST_TURNS:]
    return tuple(_turn(message) for message in last), len(messages) - len(last)


def _turn(message: Any) -> Turn:
    if not isinstance(message, Mapping):
        return Turn("?", _as_text(message))
    parts = [_content(message.get("content"))]
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        parts += [
            f"→ {call.name} {''.join(text for text, _ in call.arguments)}" for call in _calls(calls, ())
        ]
    role = str(message.get("role"))
    answered = message.get("tool_call_id")
    return Turn(shown_lines(f"{role} ({answered})" if answered else role), "\n".join(filter(None, parts)))


def _content(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, list) and all(isinstance(part, Mapping) and "text" in part for part in content):
        return shown_lines("\n".join(str(part["text"]) for part in content))
    return _as_text(content)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return shown_lines(value)
    try:
        return shown_lines(json.dumps(value, ensure_ascii=False))
    except RecursionError:
        return "nested too deeply to show"


def _texts(response: Response, failures: Iterable[Failure]) -> Iterator[tuple[str, list[Piece]]]:
    message = response.message or {}
    for name in ("reasoning_content", "reasoning", "content"):
        text = message.get(name)
        if text:
            markers = [failure.marker for failure in failures if failure.marker and failure.where == name]
            yield name, marked(_content(text), markers)


def _calls(calls: list[Any], failures: Iterable[Failure]) -> tuple[Call, ...]:
    listed = tuple(failures)
    shown = []
    for position, call in enumerate(calls[:_MOST_CALLS]):
        given = call if isinstance(call, Mapping) else {}
        function = given.get("function")
        function = function if isinstance(function, Mapping) else {}
        paths = {failure.path for failure in listed if failure.call == position and failure.path is not None}
        arguments = arguments_of_call(function.get("arguments"), paths)
        shown.append(
            Call(_as_text(function.get("name", "")), _as_text(given.get("id") or ""), arguments),
        )
    return tuple(shown)


def _raw(response: Response) -> str:
    choices = response.completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else response.completion
    return _as_text(choice)


def ended(finish_reason: str | None) -> str:
    """Say how an answer ended."""
    return "no finish_reason" if finish_reason is None else f"{_ENDED}{shown_lines(finish_reason)}"


def official(answer: OfficialAnswer) -> str:
    """Say what the official API decided."""
    said = "calls" if answer.should_call else "does not call"
    reason = answer.finish_reason
    return f"{said} (finish_reason {shown_lines(reason)})" if reason else said
