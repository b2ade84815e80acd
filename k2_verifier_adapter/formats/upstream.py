"""Upstream's own files: samples.jsonl, results.jsonl, and the official archive that holds both.

One sample is one request body a line. One result is one line with `data_index` (the 1-based line of
its sample), `request`, `response` and what upstream made of it. Older logs lack some fields. What upstream's
fields cannot say, `export` notes beside them: upstream's readers do not look at further fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from k2_verifier_adapter.core.failure_classes import FailureClass, Group
from k2_verifier_adapter.core.run_facts import WHOLE_SET, RunPlan
from k2_verifier_adapter.errors import DataError, UsageError
from k2_verifier_adapter.formats.lines import (
    ARCHIVE_SUFFIXES,
    SUFFIXES,
    Advance,
    json_objects,
    open_lines,
    read_parquet,
)
from k2_verifier_adapter.version import BENCHMARK

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
        masked: Whether a secret was taken out of what is judged.
        failure_class: How the request failed, or None.
        plan: What the run was to ask.
        redacted: What was judged before messages, tools and response were left out, as JSON; None if
            they are there. It is written for people, and never read back.
    """

    stream_anomalies: tuple[FailureClass, ...] = ()
    raw: bool = True
    masked: bool = False
    failure_class: FailureClass | None = None
    http_status: int | None = None
    attempts: int = 1
    plan: RunPlan = WHOLE_SET
    redacted: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Give the stored form, empty where there is nothing to say."""
        said: dict[str, Any] = {}
        if self.stream_anomalies:
            said["stream_anomalies"] = [kind.value for kind in self.stream_anomalies]
        if not self.raw:
            said["raw"] = False
        if self.masked:
            said["masked"] = True
        if self.failure_class is not None:
            said["failure_class"] = self.failure_class.value
        if self.http_status is not None:
            said["http_status"] = self.http_status
        if self.attempts > 1:
            said["attempts"] = self.attempts
        said |= self.plan.as_json()
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
        status, attempts = value.get("http_status"), value.get("attempts")
        failure_class = _failure_class(value.get("failure_class"))
        return cls(
            stream_anomalies=tuple(kind for kind in found if kind and kind.group is Group.STREAM),
            raw=value.get("raw") is not False,
            masked=value.get("masked") is True,
            failure_class=failure_class if failure_class and failure_class.group is Group.TRANSPORT else None,
            http_status=status if isinstance(status, int) and not isinstance(status, bool) else None,
            attempts=attempts if isinstance(attempts, int) and attempts > 1 else 1,
            plan=RunPlan.from_json(value),
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
        if status >= 400:
            # Gateways make up statuses beyond 599 for errors of theirs.
            kind = FailureClass.HTTP_4XX if status < 500 else FailureClass.HTTP_5XX
            return LineNote(failure_class=kind, http_status=status)
    if error == _TIMEOUT:
        return LineNote(failure_class=FailureClass.TIMED_OUT)
    if error == _CONNECTION:
        return LineNote(failure_class=FailureClass.CONNECTION_FAILED)
    return LineNote(failure_class=FailureClass.NOT_A_COMPLETION)


SAMPLES_MEMBER = "samples.jsonl"
RESULTS_MEMBERS = {
    "k2_thinking": "kimi-k2-thinking_results.jsonl",
    "k2_0905": "kimi-k2-0905-preview_results.jsonl",
}
"""The official results of a subset, by their name inside the official archive."""

_JSON_COLUMNS = ("request", "extra_body", "response", NOTE_KEY)
"""Columns of a parquet file of results that hold JSON text."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be used, by its 1-based number, and why."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Result:
    """One line of a results file, as it stands.

    Attributes:
        data_index: The sample it answers, 1-based; None if the line does not say.
        repeat: Which of several requests for the sample, from 0; only `export` marks it.
        extra_body: Further body parameters of the request; empty if the line holds none.
        response: The raw completion, or what stands in its place.
        succeeded: Whether `status` is `success`; a line without status succeeded if it has a response.
        finish_reason: The log's own finish_reason, or None.
        tool_calls_valid: The log's own verdict, or None.
        note: What `export` of this package noted beside upstream's fields, undecoded.
    """

    number: int
    data_index: int | None
    request: Mapping[str, Any] | None
    extra_body: Mapping[str, Any]
    response: Any
    succeeded: bool
    finish_reason: Any
    tool_calls_valid: bool | None
    has_tool_calls_valid: bool
    duration_ms: float | None
    last_run_at: str | None
    has_finish_reason: bool = True
    note: Any = None
    repeat: int = 0

    @property
    def body(self) -> dict[str, Any]:
        """The request body with `extra_body` merged in, as the server saw it."""
        return {**(self.request or {}), **self.extra_body}


def member_of(path: Path, subset: str | None) -> str | None:
    """Name the member of an archive that holds a subset, or raise `UsageError`; None for a plain file."""
    if not path.name.endswith(ARCHIVE_SUFFIXES):
        return None
    if subset not in RESULTS_MEMBERS:
        known = " or ".join(RESULTS_MEMBERS)
        raise UsageError(f"{path}: an archive holds several results files; choose with --subset {known}")
    return RESULTS_MEMBERS[subset]


def find_result_files(paths: Sequence[Path]) -> list[Path]:
    """List the files that some paths name; of a directory, those that lie in it, by name.

    A path that does not exist, or a directory without such a file, raises `DataError`.
    """
    found: list[Path] = []
    for path in paths:
        if (path / BENCHMARK).is_dir():
            raise DataError(f"{path}: is a run directory; see 'k2-verifier report {path}'")
        if not path.is_dir():
            if not path.exists():
                raise DataError(f"{path}: no such file or directory")
            found.append(path)
            continue
        files = sorted(file for file in path.iterdir() if file.name.endswith(SUFFIXES) and file.is_file())
        if not files:
            raise DataError(f"{path}: the directory holds no .jsonl or .parquet file")
        found += files
    return found


@contextmanager
def open_results(
    path: Path, subset: str | None, advance: Advance = lambda _: None
) -> Iterator[Iterable[bytes]]:
    """Open a file of results, or the member of an archive that belongs to a subset, as JSON lines.

    Raises:
        DataError: If it cannot be read.
        UsageError: If an archive is given without the subset.
    """
    if path.name.endswith(".parquet"):
        yield map(_line_of, read_parquet(path, _JSON_COLUMNS, "what was logged cannot be told"))
        return
    with open_lines(path, member_of(path, subset), advance) as lines:
        yield lines


def _line_of(row: dict[str, Any]) -> bytes:
    for name in _JSON_COLUMNS:
        text = row.get(name)
        if isinstance(text, (str, bytes)):
            try:
                row[name] = json.loads(text)
            except (ValueError, RecursionError) as error:
                # Not JSON either, so that it is counted as a line that cannot be read.
                return f"column {name!r} is not JSON: {error}".encode("utf-8", "backslashreplace") + b"\n"
    return json.dumps(row, default=str).encode() + b"\n"


def read_results(
    lines: Iterable[bytes], first_line: int = 1, *, source: str = "the log"
) -> Iterator[Result | BadLine]:
    """Read a results file, old or new; nothing is judged and nothing is dropped.

    Raises:
        DataError: If a line was exported redacted: it holds no response that could be judged.
    """
    for number, value in json_objects(lines, first_line):
        if isinstance(value, ValueError):
            yield BadLine(number, str(value))
            continue
        if number == 1:
            _refuse_prompts(value, source)
        result = _result(number, value)
        if is_redacted(result.note):
            raise DataError(
                f"{source}: line {number} is redacted: messages, tools and response were left out, so there "
                "is nothing to judge; export the run without --redact, or share its report"
            )
        yield result


def _refuse_prompts(first: Mapping[str, Any], source: str) -> None:
    """Say what a file is whose first line is a prompt, and not a result."""
    if "messages" not in first or {"request", "response", "status"} & first.keys():
        return
    if "should_call_tool" in first or "official_finish_reason" in first:
        raise DataError(f"{source}: holds rows, which are no results; hold results against them by --rows")
    raise DataError(
        f"{source}: holds samples, the requests alone; give the results.jsonl of what was answered, as "
        "upstream's tool and 'k2-verifier export' write it"
    )


def data_index_of(value: Mapping[str, Any]) -> int | None:
    """Give the sample that a line answers, 1-based; None if the line does not say."""
    found = value.get("data_index")
    is_index = isinstance(found, int) and not isinstance(found, bool) and found >= 1
    return found if is_index else None


def _result(number: int, value: Mapping[str, Any]) -> Result:
    request, extra_body = value.get("request"), value.get("extra_body")
    response, status = value.get("response"), value.get("status")
    valid, duration = value.get("tool_calls_valid"), value.get("duration_ms")
    return Result(
        number=number,
        data_index=data_index_of(value),
        request=request if isinstance(request, dict) else None,
        extra_body=extra_body if isinstance(extra_body, dict) else {},
        response=response,
        succeeded=status == "success" if status is not None else bool(response),
        finish_reason=value.get("finish_reason"),
        tool_calls_valid=valid if isinstance(valid, bool) else None,
        has_tool_calls_valid="tool_calls_valid" in value,
        duration_ms=_number(duration),
        last_run_at=run_at_of(value),
        has_finish_reason="finish_reason" in value,
        note=value.get(NOTE_KEY),
        repeat=repeat_of(value),
    )


def is_newer(run_at: str | None, kept: str | None) -> bool:
    """Whether a line replaces one further up that is for the same request, as upstream has it.

    The newest `last_run_at` counts, which are compared as texts; where they are equal or one is missing, the
    last line.
    """
    return run_at is None or kept is None or run_at >= kept


def repeat_of(value: Mapping[str, Any]) -> int:
    """Give which of several requests for the sample a line is of, from 0; without a mark it is the first."""
    found = value.get("repeat")
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else 0


def run_at_of(value: Mapping[str, Any]) -> str | None:
    """Give when the request of a line was made, as the line has it; None if it does not say."""
    found = value.get("last_run_at")
    return found if isinstance(found, str) else None


def _number(value: Any) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None
