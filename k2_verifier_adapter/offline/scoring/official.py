"""The official answers that a results file is scored against: from rows, or from official results."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from k2_verifier_adapter.core.cases import Case, OfficialAnswer
from k2_verifier_adapter.core.history import HistoryOptions, RequestMarks, marks_of
from k2_verifier_adapter.core.json_text import dumps_ascii
from k2_verifier_adapter.core.presets import preset_for
from k2_verifier_adapter.core.responses import Response, read_completion
from k2_verifier_adapter.core.run_facts import RowsInfo
from k2_verifier_adapter.errors import DataError, UsageError
from k2_verifier_adapter.formats.baseline_file import read_standard
from k2_verifier_adapter.formats.counted_lines import CountedLines
from k2_verifier_adapter.formats.line_notes import LineNote
from k2_verifier_adapter.formats.rows import decode_each, find_file, read_records
from k2_verifier_adapter.formats.upstream import (
    ARCHIVE_SUFFIXES,
    RESULTS_MEMBERS,
    BadLine,
    Result,
    open_lines,
    read_results,
)
from k2_verifier_adapter.offline.scoring.official_index import (
    FAILED,
    MAX_DATA_INDEX,
    OfficialIndex,
    answer_code,
)


@contextmanager
def official_of_rows(path: Path | str, subset: str) -> Iterator[OfficialIndex]:
    """Index the official answers of rows; a row's `data_index` is its own, or its number.

    Args:
        path: A file or directory of rows, or `bundled`, as `formats.rows.load_cases` takes it.
        subset: The subset.

    Raises:
        DataError: If the rows cannot be read.
        BadRowsError: If any row cannot be used.
    """
    with tempfile.TemporaryFile() as storage:
        index, digest, synthetic = OfficialIndex(storage), hashlib.sha256(), False
        cases = decode_each(read_records(path, subset), str(path), HistoryOptions(), digest)
        for case in cases:
            synthetic = synthetic or case.synthetic
            _append_row(index, case)
        info = RowsInfo(str(path), digest.hexdigest(), synthetic)
        index.finish(info, read_standard(find_file(path, subset)) or preset_for(subset).standard, None)
        yield index


def _append_row(index: OfficialIndex, case: Case) -> None:
    sent = marks_of({"messages": case.messages(), "tools": case.tools()})
    # The case is decoded with its malformed arguments repaired, and says how many there were.
    marks = RequestMarks(sent.content, case.repairs.malformed_history, sent.ids)
    calls, tools = case.official.tool_calls_json, case.tools_json
    # A raw line end is white space in JSON text; stored, it would end the line.
    stored = b"[%b,%b]" % (b"null" if calls is None else calls.encode(), tools or b"null")
    index.append(
        min(case.data_index, MAX_DATA_INDEX),
        answer_code(case.official),
        stored.replace(b"\n", b" ").replace(b"\r", b" "),
        marks,
        input_role=bool(case.repairs.input_role),
    )


@contextmanager
def official_of_results(
    path: Path, subset: str | None, advance: Callable[[int], None] | None = None
) -> Iterator[OfficialIndex]:
    """Index an official results file, or the one of a subset in the official archive.

    An answer is judged from the raw response, like the vendor's: one that is no completion is a
    failed official request.

    Args:
        path: The file or archive.
        subset: The subset, for its standard and for its member of the archive.
        advance: Told how many bytes were read, now and then.

    Raises:
        DataError: If it cannot be read or holds no official answer.
        UsageError: If an archive is given without the subset.
    """
    with ExitStack() as stack:
        storage = stack.enter_context(tempfile.TemporaryFile())
        lines: IO[bytes] = stack.enter_context(open_lines(path, member_of(path, subset)))
        if path.name.endswith(ARCHIVE_SUFFIXES):
            # Lines are read again, which a compressed member is slow at.
            unpacked = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(lines, unpacked)
            unpacked.seek(0)
            lines = unpacked
        index, digest = OfficialIndex(storage), hashlib.sha256()
        read = CountedLines(lines, advance, digest)
        for result in read_results(iter(read)):
            _append_result(index, result, read.line_start, path)
        if not len(index):
            raise DataError(
                f"{path}: holds no official result; expected one JSON object a line, with data_index, "
                "request, response and status"
            )
        standard = None if subset is None else preset_for(subset).standard
        index.finish(RowsInfo(str(path), digest.hexdigest(), synthetic=False), standard, lines)
        yield index


def member_of(path: Path, subset: str | None) -> str | None:
    """Name the archive's member that holds the official results of a subset.

    Raises:
        UsageError: If an archive is given without a subset that it holds.
    """
    if not path.name.endswith(ARCHIVE_SUFFIXES):
        return None
    if subset not in RESULTS_MEMBERS:
        known = " or ".join(RESULTS_MEMBERS)
        raise UsageError(f"{path}: an archive holds several results files; choose with --subset {known}")
    return RESULTS_MEMBERS[subset]


def _append_result(index: OfficialIndex, result: Result | BadLine, line_start: int, path: Path) -> None:
    if isinstance(result, BadLine) or result.data_index is None or result.data_index > MAX_DATA_INDEX:
        index.facts.unusable.add(result.number)
        return
    if LineNote.from_json(result.note).redaction is not None:
        raise DataError(
            f"{path}: line {result.number}: is redacted, and holds no answer to score against; give the file "
            "that was exported without --redact"
        )
    marks = None if result.request is None else marks_of(result.body)
    response = read_completion(result.response) if result.succeeded else None
    if not isinstance(response, Response):
        index.append(result.data_index, FAILED, None, marks, line_start=line_start)
        return
    answer = OfficialAnswer(response.finish_reason == "tool_calls", response.finish_reason or "")
    stored = None
    if answer.should_call:
        stored = b"[%b]" % dumps_ascii(response.tool_calls).encode()
    index.append(result.data_index, answer_code(answer), stored, marks, line_start=line_start)
