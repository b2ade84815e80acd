"""What upstream's fields of a results line cannot say, kept beside them where there is something to say.

Upstream's readers do not look at further fields; lines of upstream's own have none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from k2_verifier_adapter.core.failure_classes import FailureClass, Group

NOTE_KEY = "k2_verifier"
"""Key of the note in a line of `results.jsonl`."""

_REDACTED_KEY = "redacted"

# The texts of the `openai` package's exceptions, which upstream logs as they are.
_STATUS_ERROR = re.compile(r"Error code: (\d{3})\b")
_TIMEOUT = "Request timed out."
_CONNECTION = "Connection error."


@dataclass(frozen=True, slots=True)
class LineNote:
    """What a line says beside upstream's fields.

    Attributes:
        stream_anomalies: Stream failure classes noticed while the response was assembled.
        failure_class: How the request failed, or None.
        redacted: What was judged before messages, tools and response were left out, as JSON; None if
            they are there. It is written for people, and never read back.
    """

    stream_anomalies: tuple[FailureClass, ...] = ()
    raw: bool = True
    failure_class: FailureClass | None = None
    http_status: int | None = None
    redacted: Mapping[str, Any] | None = None

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
        if self.redacted is not None:
            said[_REDACTED_KEY] = dict(self.redacted)
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
        )


NO_NOTE = LineNote()


def is_redacted(note: Any) -> bool:
    """Whether a note, in its stored form, says that its line was redacted."""
    return isinstance(note, Mapping) and isinstance(note.get(_REDACTED_KEY), Mapping)


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
