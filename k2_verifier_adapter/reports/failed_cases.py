"""A failed case as a page shows it: request, answer, official answer, what is wrong marked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from k2_verifier_adapter.core.cases import CaseLike, OfficialAnswer
from k2_verifier_adapter.core.failure_classes import Failure
from k2_verifier_adapter.core.json_text import excerpt
from k2_verifier_adapter.core.judgement import FailedRequest, Judgement
from k2_verifier_adapter.core.redaction import ToolNames, redact_failure, redact_finish_reason
from k2_verifier_adapter.core.responses import Response
from k2_verifier_adapter.reports.marked_text import Piece, arguments_of_call, cut, marked, shown_lines

MOST_CASES = 3_000
"""Failed cases that are looked at; a page cannot hold more."""

_MOST_FAILURES = 20
_LAST_TURNS = 4
_MOST_CALLS = 20
_PROMPT = 200
"""Characters of the prompt beside a case's numbers."""
_ENDED = "finish_reason "


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a request: who speaks, and what is said."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of an answer."""

    name: str
    call_id: str
    arguments: list[Piece]


@dataclass(frozen=True, slots=True)
class FailedCase:
    """One response with a failure, or one failed request.

    Attributes:
        row: 0-based row number.
        ended: How the answer ended: its finish_reason, or that there is none.
        turns_before: Messages before these.
        texts: Reasoning and content of the answer, by name.
        raw: The answer as it came: choice 0, as JSON.
        official_calls: The official calls, as far as they are known.
        effort: Duration, attempts, HTTP status, in words.
    """

    row: int
    data_index: int
    repeat: int
    failures: tuple[Failure, ...]
    ended: str = ""
    official: str = ""
    turns: tuple[Turn, ...] = ()
    turns_before: int = 0
    texts: Mapping[str, list[Piece]] = field(default_factory=dict)
    calls: tuple[Call, ...] = ()
    raw: str = ""
    official_calls: tuple[Call, ...] = ()
    effort: str = ""

    @property
    def prompt(self) -> str:
        """What the user said last, or whoever spoke last, on one line."""
        turns = [turn for turn in self.turns if turn.role == "user"] or self.turns
        return " ".join(turns[-1].text.split()) if turns else ""

    @property
    def tools(self) -> list[str]:
        """The tools that were called, or that a failure is about."""
        named = [failure.tool for failure in self.failures] + [call.name for call in self.calls]
        return list(dict.fromkeys(filter(None, named)))

    def as_json(self, limit: int) -> dict[str, Any]:
        """Give what a page holds of the case, no text longer than about `limit` characters."""
        value: dict[str, Any] = {
            "row": self.row,
            "data_index": self.data_index,
            "repeat": self.repeat,
            "classes": list(dict.fromkeys(failure.failure_class.value for failure in self.failures)),
            "prompt": excerpt(self.prompt, min(limit, _PROMPT)),
            "tools": [shown_lines(excerpt(name, limit)) for name in self.tools],
            "failures": [_failure(failure, limit) for failure in self.failures[:_MOST_FAILURES]],
            "ended": excerpt(self.ended, limit),
            "official": excerpt(self.official, limit),
            "before": self.turns_before,
            "turns": [[excerpt(turn.role, 40), excerpt(turn.text, limit)] for turn in self.turns],
            "texts": {name: _marked(pieces, limit) for name, pieces in self.texts.items()},
            "calls": [_call(call, limit) for call in self.calls],
            "raw": excerpt(self.raw, limit),
            "official_calls": [_call(call, limit) for call in self.official_calls],
            "effort": self.effort,
        }
        return {name: item for name, item in value.items() if item not in ("", [], {}, 0) or name == "row"}


def _failure(failure: Failure, limit: int) -> dict[str, Any]:
    value = {
        "class": failure.failure_class.value,
        "detail": shown_lines(excerpt(failure.detail, limit)),
        "call": failure.call,
        "tool": None if failure.tool is None else shown_lines(excerpt(failure.tool, limit)),
        "path": None if failure.path is None else shown_lines(excerpt(failure.path, limit)),
        "keyword": failure.keyword,
    }
    return {name: item for name, item in value.items() if item not in (None, "")}


def _call(call: Call, limit: int) -> dict[str, Any]:
    return {
        "name": excerpt(call.name, limit),
        "id": excerpt(call.call_id, limit),
        "arguments": _marked(call.arguments, limit),
    }


def _marked(pieces: list[Piece], limit: int) -> list[Any]:
    """Give a marked text: what is not marked as a text, what is as a list of one text."""
    return [[text] if is_marked else text for text, is_marked in cut(pieces, limit)]


class ShownCase(CaseLike, Protocol):
    """A request with the numbers under which it is shown; `core.cases.Case` is one."""

    @property
    def index(self) -> int:
        """0-based row number."""

    @property
    def data_index(self) -> int:
        """Upstream's 1-based number."""


def request_case(case: ShownCase, request: FailedRequest, *, raw: Any = None) -> FailedCase:
    """Give the view of a failed request."""
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
