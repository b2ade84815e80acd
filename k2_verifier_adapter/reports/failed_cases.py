"""The failed cases of a run, for a reader who wants to see them: request, answer, official answer, marks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.counts import FailedRequest
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.judging.judgement import Judgement
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.responses import Response
from k2_verifier_adapter.core.secrets.redaction import ToolNames, redact_failure, redact_finish_reason
from k2_verifier_adapter.core.summary import Summary, judge_record
from k2_verifier_adapter.formats.runs import StoredRun
from k2_verifier_adapter.reports.html.marked_text import Piece, arguments_of_call, cut, marked, shown_lines

MOST_CASES = 3_000
"""Failed cases that are looked at; a page cannot hold more."""

_LAST_TURNS = 4
_MOST_CALLS = 20
_MOST_FAILURES = 20


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
        data_index: Upstream's 1-based number.
        repeat: 0-based repetition.
        failures: What went wrong.
        ended: How the answer ended: its finish_reason, or that there is none.
        official: How the official answer ended.
        turns: The last messages of the request.
        turns_before: Messages before these.
        texts: Reasoning and content of the answer, by name.
        calls: Its tool calls.
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

    def as_json(self, limit: int) -> dict[str, Any]:
        """Give what a page holds of the case, no text longer than about `limit` characters."""
        value: dict[str, Any] = {
            "row": self.row,
            "data_index": self.data_index,
            "repeat": self.repeat,
            "classes": list(dict.fromkeys(failure.failure_class.value for failure in self.failures)),
            "failures": [_failure(failure, limit) for failure in self.failures[:_MOST_FAILURES]],
            "ended": _cut(self.ended, limit),
            "official": _cut(self.official, limit),
            "before": self.turns_before,
            "turns": [[_cut(turn.role, 40), _cut(turn.text, limit)] for turn in self.turns],
            "texts": {name: _marked(pieces, limit) for name, pieces in self.texts.items()},
            "calls": [_call(call, limit) for call in self.calls],
            "raw": _cut(self.raw, limit),
            "official_calls": [_call(call, limit) for call in self.official_calls],
            "effort": self.effort,
        }
        return {name: item for name, item in value.items() if item not in ("", [], {}, 0) or name == "row"}


def failed_cases_of_run(
    run: StoredRun, *, redact: bool = False, tools: Iterable[str] = ()
) -> Iterator[FailedCase]:
    """Judge the stored responses again and give those with a failure, and the failed requests, by row.

    Args:
        run: The run.
        redact: Whether to leave out whatever may repeat prompts, tools or answers.
        tools: Names of tools in the order in which a redacted summary numbers them.
    """
    names = ToolNames()
    for name in tools:
        names.of(name)
    found = (item for item in _of_run(run) if item.failures)
    for item in islice(found, MOST_CASES):
        yield redacted(item, names) if redact else item


def failed_cases_of_summary(summary: Summary) -> Iterator[FailedCase]:
    """Give what a summary alone knows of the failed cases: their rows and failure classes."""
    found: dict[int, list[Failure]] = {}
    for kind in FailureClass:
        for row in summary.tally.failure_cases.get(kind, ()):
            found.setdefault(row, []).append(Failure(kind, ""))
    for row in sorted(found)[:MOST_CASES]:
        yield FailedCase(row, row + 1, 0, tuple(found[row]))


def _of_run(run: StoredRun) -> Iterator[FailedCase]:
    items: list[ResponseRecord | FailedRequest] = [
        *run.records,
        *(request for request in run.failed if request.case_index in run.cases),
    ]
    for item in sorted(items, key=lambda item: (item.case_index, item.repeat)):
        case = run.cases[item.case_index]
        if isinstance(item, FailedRequest):
            yield request_case(case, item)
            continue
        judged = judge_record(case, item)
        took = f"{item.duration_s:.2f} s" + (f", {item.attempts} attempts" if item.attempts > 1 else "")
        if isinstance(judged, FailedRequest):
            yield request_case(case, judged, raw=item.response)
        elif judged[1].failures:
            yield answered_case(case, *judged, repeat=item.repeat, effort=took)


def request_case(case: Case, request: FailedRequest, *, raw: str = "") -> FailedCase:
    """Give the view of a failed request."""
    said = [f"HTTP {request.status}"] if request.status is not None else []
    said += [f"{request.duration_s:.2f} s", f"{request.attempts} attempts" if request.attempts > 1 else ""]
    turns, before = last_turns(case.messages())
    return FailedCase(
        row=case.index,
        data_index=case.data_index,
        repeat=request.repeat,
        failures=(request.failure,),
        ended="no completion: the request failed",
        official=_official(case.official.should_call, case.official.finish_reason),
        turns=turns,
        turns_before=before,
        raw=shown_lines(raw),
        official_calls=_calls(case.official_tool_calls() or [], ()),
        effort=", ".join(filter(None, said)),
    )


def answered_case(
    case: Case, response: Response, judgement: Judgement, *, repeat: int, effort: str
) -> FailedCase:
    """Give the view of a judged response."""
    turns, before = last_turns(case.messages())
    return FailedCase(
        row=case.index,
        data_index=case.data_index,
        repeat=repeat,
        failures=judgement.failures,
        ended=_ended(judgement.finish_reason),
        official=_official(case.official.should_call, case.official.finish_reason),
        turns=turns,
        turns_before=before,
        texts=dict(_texts(response, judgement.failures)),
        calls=_calls(response.tool_calls, judgement.failures),
        raw=_raw(response),
        official_calls=_calls(case.official_tool_calls() or [], ()),
        effort=effort,
    )


def redacted(case: FailedCase, names: ToolNames) -> FailedCase:
    """Give the case without a word of prompts, tools or answers; see `core.secrets.redaction`."""
    ended = case.ended.removeprefix(_ENDED)
    return FailedCase(
        row=case.row,
        data_index=case.data_index,
        repeat=case.repeat,
        failures=tuple(redact_failure(failure, names) for failure in case.failures),
        ended=case.ended if ended == case.ended else f"{_ENDED}{redact_finish_reason(ended)}",
        official=case.official,
        effort=case.effort,
    )


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


_ENDED = "finish_reason "


def _ended(finish_reason: str | None) -> str:
    return "no finish_reason" if finish_reason is None else f"{_ENDED}{shown_lines(finish_reason)}"


def _official(should_call: bool, finish_reason: str | None) -> str:  # noqa: FBT001 - as `OfficialAnswer` has it
    said = "calls" if should_call else "does not call"
    return f"{said} (finish_reason {shown_lines(finish_reason)})" if finish_reason else said


def _failure(failure: Failure, limit: int) -> dict[str, Any]:
    value = {
        "class": failure.failure_class.value,
        "detail": shown_lines(_cut(failure.detail, limit)),
        "call": failure.call,
        "tool": None if failure.tool is None else shown_lines(_cut(failure.tool, limit)),
        "path": None if failure.path is None else shown_lines(_cut(failure.path, limit)),
        "keyword": failure.keyword,
    }
    return {name: item for name, item in value.items() if item not in (None, "")}


def _call(call: Call, limit: int) -> dict[str, Any]:
    return {
        "name": _cut(call.name, limit),
        "id": _cut(call.call_id, limit),
        "arguments": _marked(call.arguments, limit),
    }


def _marked(pieces: list[Piece], limit: int) -> list[Any]:
    """Give a marked text: what is not marked as a text, what is as a list of one text."""
    return [[text] if is_marked else text for text, is_marked in cut(pieces, limit)]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"
