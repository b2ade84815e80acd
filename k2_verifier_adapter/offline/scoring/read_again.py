"""Reading the failed lines of a log once more, after it was scored: only these, and one at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import islice

from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.log_facts import FailedLines
from k2_verifier_adapter.formats.counted_lines import CountedLines
from k2_verifier_adapter.formats.upstream import Result, read_results
from k2_verifier_adapter.offline.result_files import open_result_lines
from k2_verifier_adapter.offline.scoring.line_scorer import LineScorer
from k2_verifier_adapter.offline.scoring.log import Advance, Log
from k2_verifier_adapter.offline.scoring.logged_cases import ScoredLine
from k2_verifier_adapter.offline.scoring.official_index import OfficialIndex


def read_failed_lines(
    log: Log, official: OfficialIndex, failed: FailedLines, advance: Advance = lambda _: None
) -> Iterator[ScoredLine]:
    """Judge the failed lines of a log that was scored once more, in the order of their rows.

    The files are read up to the last such line, whose like wait in a temporary file; no other line is
    decoded, except in a parquet file. A line that is no longer what it was, as in a file that is being
    written, is left out. So are all if one of the files cannot be read twice, as a pipe.

    Args:
        log: What was scored.
        official: The official answers that it was scored against.
        failed: Where its failed lines stand.
        advance: Told how many bytes were read, now and then.

    Raises:
        DataError: If a file cannot be read.
    """
    wanted = list(failed)
    if not all(path.is_file() for path in log.files):
        return
    scorer = LineScorer(official, log.failed_rule)
    with tempfile.TemporaryFile() as storage:
        numbers = {number for _, number, _ in wanted}
        starts: dict[int, int] = {}
        for number, line in _lines(log, max(numbers, default=0), advance):
            if number in numbers:
                starts[number] = storage.tell()
                storage.write(line.rstrip(b"\n") + b"\n")
        for row, number, repeat in wanted:
            if number not in starts:
                continue
            storage.seek(starts[number])
            for result in read_results(iter((storage.readline(),)), number):
                found = scorer.again(result, repeat) if isinstance(result, Result) else None
                if found is not None and found.case.index == row and _has_failed(found):
                    yield found


def _lines(log: Log, last: int, advance: Advance) -> Iterator[tuple[int, bytes]]:
    """Read the lines of all files with their numbers, up to the last one that is wanted."""
    first = 1
    for path in log.files:
        if first > last:
            return
        with open_result_lines(path, log.subset) as lines:
            counted = CountedLines(lines, advance)
            yield from enumerate(islice(counted, last + 1 - first), first)
            first += counted.count


def _has_failed(line: ScoredLine) -> bool:
    return isinstance(line.judged, FailedRequest) or bool(line.judged.failures)
