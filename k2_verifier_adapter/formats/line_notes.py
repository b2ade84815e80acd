"""What upstream's fields of a results line cannot say, kept beside them where there is something to say.

Upstream's readers do not look at further fields; lines of upstream's own have none.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass, Group
from k2_verifier_adapter.core.history import Repairs
from k2_verifier_adapter.core.judgement import Judgement, Note, ToolUse
from k2_verifier_adapter.core.redaction import REDACTED, ToolNames, redact_failure, redact_note

Item = TypeVar("Item")

NOTE_KEY = "k2_verifier"
"""Key of the note in a line of `results.jsonl`."""

# The texts of the `openai` package's exceptions, which upstream logs as they are.
_STATUS_ERROR = re.compile(r"Error code: (\d{3})\b")
_TIMEOUT = "Request timed out."
_CONNECTION = "Connection error."


@dataclass(frozen=True, slots=True)
class Redaction:
    """What a redacted line says in place of what was left out, see `core.redaction`.

    Attributes:
        failures: The failures that the response showed.
        notes: What was worth knowing of its calls.
        tools: Its calls by tool.
        repairs: Repairs that were made in the messages.
    """

    failures: tuple[Failure, ...] = ()
    notes: tuple[Note, ...] = ()
    tools: tuple[ToolUse, ...] = ()
    repairs: Repairs = field(default_factory=Repairs)

    @classmethod
    def of(cls, judgement: Judgement | None, repairs: Repairs, names: ToolNames) -> Redaction:
        """Redact what was judged; of a failed request there is nothing."""
        if judgement is None:
            return cls(repairs=repairs)
        return cls(
            failures=tuple(redact_failure(failure, names) for failure in judgement.failures),
            notes=tuple(redact_note(note, names) for note in judgement.notes),
            tools=tuple(replace(use, name=names.of(use.name)) for use in judgement.tools),
            repairs=repairs,
        )

    def as_json(self) -> dict[str, Any]:
        """Give the stored form."""
        said: dict[str, Any] = {
            "failures": [_without_detail(failure.as_json()) for failure in self.failures],
            "notes": [_without_detail(note.as_json()) for note in self.notes],
            "tools": [asdict(use) for use in self.tools],
            "repairs": {name: count for name, count in asdict(self.repairs).items() if count},
        }
        return {name: value for name, value in said.items() if value}

    @classmethod
    def from_json(cls, value: Any) -> Redaction | None:
        """Read the stored form back; what is not understood is left out, None if there is none."""
        if not isinstance(value, Mapping):
            return None
        repairs = _of_types(value.get("repairs"), {item.name: int for item in fields(Repairs)})
        return cls(
            failures=tuple(_listed(value.get("failures"), _FAILURE, Failure.from_json)),
            notes=tuple(_listed(value.get("notes"), _NOTE, Note.from_json)),
            tools=tuple(_listed(value.get("tools"), _TOOL, _tool_use)),
            repairs=Repairs(**repairs),
        )


_FAILURE = {
    **dict.fromkeys(("class", "tool", "path", "keyword", "marker", "where", "leaked_call"), str),
    "call": int,
    "in_history": bool,
}
_NOTE = {"note": str, "call": int, "tool": str}
_TOOL = {"name": str, "calls": int, "invalid": int}


def _without_detail(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in value.items() if name != "detail"}


def _of_types(value: Any, types: Mapping[str, type]) -> dict[str, Any]:
    known = value if isinstance(value, Mapping) else {}
    return {name: known[name] for name, kind in types.items() if type(known.get(name)) is kind}


def _listed(
    values: Any, types: Mapping[str, type], read: Callable[[Mapping[str, Any]], Item]
) -> Iterator[Item]:
    for value in values if isinstance(values, list) else ():
        with contextlib.suppress(KeyError, ValueError):
            yield read({**_of_types(value, types), "detail": REDACTED})


def _tool_use(value: Mapping[str, Any]) -> ToolUse:
    return ToolUse(value["name"], value["calls"], value["invalid"])


@dataclass(frozen=True, slots=True)
class LineNote:
    """What a line says beside upstream's fields.

    Attributes:
        stream_anomalies: Stream failure classes noticed while the response was assembled.
        raw: Whether the response is the endpoint's own, not parsed by EvalScope before.
        failure_class: How the request failed, or None.
        http_status: The HTTP status of a failed request, or None.
        redaction: What was judged before messages, tools and response were left out; None if they are there.
    """

    stream_anomalies: tuple[FailureClass, ...] = ()
    raw: bool = True
    failure_class: FailureClass | None = None
    http_status: int | None = None
    redaction: Redaction | None = None

    def as_json(self) -> dict[str, Any]:
        """Give the stored form, empty where there is nothing to say."""
        said: dict[str, Any] = {}
        if self.stream_anomalies:
            said["stream_anomalies"] = [kind.value for kind in self.stream_anomalies]
        if not self.raw:
            said["raw"] = False
        if self.failure_class is not None:
            said["failure_class"] = self.failure_class.value
        if self.http_status is not None:
            said["http_status"] = self.http_status
        if self.redaction is not None:
            said["redacted"] = self.redaction.as_json()
        return said

    @classmethod
    def from_json(cls, value: Any) -> LineNote:
        """Read the stored form back; what is not understood is left out."""
        if not isinstance(value, Mapping):
            return NO_NOTE
        anomalies = value.get("stream_anomalies")
        found = map(_failure_class, anomalies if isinstance(anomalies, list) else ())
        status = value.get("http_status")
        failure_class = _failure_class(value.get("failure_class"))
        return cls(
            stream_anomalies=tuple(kind for kind in found if kind and kind.group is Group.STREAM),
            raw=value.get("raw") is not False,
            failure_class=failure_class if failure_class and failure_class.group is Group.TRANSPORT else None,
            http_status=status if isinstance(status, int) and not isinstance(status, bool) else None,
            redaction=Redaction.from_json(value.get("redacted")),
        )


NO_NOTE = LineNote()


def _failure_class(value: Any) -> FailureClass | None:
    try:
        return FailureClass(value)
    except ValueError:
        return None


def note_of_error(error: str) -> LineNote:
    """Tell how a request of upstream's own log failed, from the exception's text that it holds.

    A text that says neither a status nor a time-out nor a lost connection is `not_a_completion`:
    nothing more is known than that there is none.
    """
    match = _STATUS_ERROR.match(error)
    if match:
        status = int(match[1])
        if status == 429:
            return LineNote(failure_class=FailureClass.RATE_LIMITED, http_status=status)
        if 400 <= status < 600:
            kind = FailureClass.HTTP_4XX if status < 500 else FailureClass.HTTP_5XX
            return LineNote(failure_class=kind, http_status=status)
    if error == _TIMEOUT:
        return LineNote(failure_class=FailureClass.TIMED_OUT)
    if error == _CONNECTION:
        return LineNote(failure_class=FailureClass.CONNECTION_FAILED)
    return LineNote(failure_class=FailureClass.NOT_A_COMPLETION)
