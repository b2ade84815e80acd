"""Upstream's own files: samples.jsonl, results.jsonl, and the official archive that holds both.

One sample is one request body a line. One result is one line with `data_index` (the 1-based line of
its sample), `request`, `response` and what upstream made of it. Older logs lack some fields.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import IO, Any

from k2_verifier_adapter.errors import DataError
from k2_verifier_adapter.formats.files import json_lines
from k2_verifier_adapter.formats.line_notes import NOTE_KEY

ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar")
READ_BYTES = 1 << 18
"""What is read at a time: many lines, which are some kilobytes long."""

SAMPLES_MEMBER = "samples.jsonl"
RESULTS_MEMBERS = {
    "k2_thinking": "kimi-k2-thinking_results.jsonl",
    "k2_0905": "kimi-k2-0905-preview_results.jsonl",
}
"""The official results of a subset, by their name inside the official archive."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be used.

    Attributes:
        number: 1-based line number.
        reason: What is wrong with it.
    """

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One request of the prompt set.

    Attributes:
        data_index: 1-based line number, which results refer to.
        request: The request body.
    """

    data_index: int
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """One line of a results file, as it stands.

    Attributes:
        number: 1-based line number.
        data_index: The sample it answers, 1-based; None if the line does not say.
        request: The request as sent, or None if the line does not hold it.
        extra_body: Further body parameters of the request; empty if the line holds none.
        response: The raw completion, or what stands in its place.
        succeeded: Whether `status` is `success`; a line without status succeeded if it has a response.
        finish_reason: The log's own finish_reason, or None.
        tool_calls_valid: The log's own verdict, or None.
        has_tool_calls_valid: Whether the line has that field at all.
        duration_ms: Milliseconds that the request took, or None.
        last_run_at: When it was made, as logged, or None.
        has_finish_reason: Whether the line has that field at all.
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

    @property
    def body(self) -> dict[str, Any]:
        """The request body with `extra_body` merged in, as the server saw it."""
        return {**(self.request or {}), **self.extra_body}


@contextmanager
def open_lines(path: Path, member: str | None = None) -> Iterator[IO[bytes]]:
    """Open a file of JSON lines, or a member of a tar archive, for reading.

    Args:
        path: The file or archive.
        member: The member's file name, in whatever folder; needed for an archive.

    Raises:
        DataError: If it does not exist or cannot be read.
    """
    try:
        if not path.name.endswith(ARCHIVE_SUFFIXES):
            with path.open("rb", buffering=READ_BYTES) as file:
                yield file
            return
        with tarfile.open(path) as archive:
            names = archive.getnames()
            found = [name for name in names if PurePosixPath(name).name == member]
            if len(found) != 1:
                raise DataError(
                    f"{path}: expected one member {member!r}, found {len(found)} among: "
                    f"{', '.join(names[:10])}"
                )
            try:
                extracted = archive.extractfile(found[0])
            except (KeyError, RecursionError):
                # A link to nothing, or to itself.
                extracted = None
            if extracted is None:
                raise DataError(f"{path}: member {found[0]!r} is not a file")
            with extracted:
                yield extracted
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None


def read_samples(lines: Iterator[bytes]) -> Iterator[Sample | BadLine]:
    """Read a samples file; the line number is the sample's `data_index`, as upstream counts."""
    for number, value in json_lines(lines):
        if isinstance(value, ValueError):
            yield BadLine(number, f"is not JSON: {value}")
        elif not isinstance(value, dict):
            yield BadLine(number, "is not a JSON object")
        else:
            yield Sample(number, value)


def read_results(lines: Iterator[bytes], first_line: int = 1) -> Iterator[Result | BadLine]:
    """Read a results file, old or new; nothing is judged and nothing is dropped."""
    for number, value in json_lines(lines, first_line):
        if isinstance(value, ValueError):
            yield BadLine(number, f"is not JSON: {value}")
        elif not isinstance(value, dict):
            yield BadLine(number, "is not a JSON object")
        else:
            yield _result(number, value)


def _result(number: int, value: Mapping[str, Any]) -> Result:
    data_index = value.get("data_index")
    request, extra_body = value.get("request"), value.get("extra_body")
    response, status = value.get("response"), value.get("status")
    valid, duration = value.get("tool_calls_valid"), value.get("duration_ms")
    run_at = value.get("last_run_at")
    is_index = isinstance(data_index, int) and not isinstance(data_index, bool) and data_index >= 1
    return Result(
        number=number,
        data_index=data_index if is_index else None,
        request=request if isinstance(request, dict) else None,
        extra_body=extra_body if isinstance(extra_body, dict) else {},
        response=response,
        succeeded=status == "success" if status is not None else bool(response),
        finish_reason=value.get("finish_reason"),
        tool_calls_valid=valid if isinstance(valid, bool) else None,
        has_tool_calls_valid="tool_calls_valid" in value,
        duration_ms=_number(duration),
        last_run_at=run_at if isinstance(run_at, str) else None,
        has_finish_reason="finish_reason" in value,
        note=value.get(NOTE_KEY),
    )


def _number(value: Any) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None
