"""Scoring the files of a log, in this process or in several: the result is the same, to the byte."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from k2_verifier_adapter.core.log_facts import FailedRule, LogFacts
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.errors import DataError
from k2_verifier_adapter.formats.counted_lines import CountedLines
from k2_verifier_adapter.offline.result_files import is_plain, open_result_lines
from k2_verifier_adapter.offline.scoring.blocks import Block, plan_blocks
from k2_verifier_adapter.offline.scoring.line_scorer import LineScorer
from k2_verifier_adapter.offline.scoring.official_index import OfficialIndex, SharedIndex
from k2_verifier_adapter.offline.scoring.scored_lines import ScoredLines
from k2_verifier_adapter.offline.scoring.workers import ScoreWorkers

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Log:
    """What is to be scored.

    Attributes:
        files: The files of results, in their order; their lines are numbered through.
        subset: Name of the subset, or None if it is not known.
        failed_rule: What failed requests count as.
    """

    files: Sequence[Path]
    subset: str | None = None
    failed_rule: FailedRule = FailedRule.LEFT_OUT


class Engine(Protocol):
    """What scores blocks, in whatever processes."""

    def score(self, blocks: Iterable[Block]) -> Iterator[tuple[Block, ScoredLines]]:
        """Score blocks, and give what they add up to in their order."""


OpenEngine = Callable[[SharedIndex, FailedRule], AbstractContextManager[Engine]]


def worker_processes(count: int) -> OpenEngine:
    """Give an engine of some processes on this machine."""
    return lambda shared, failed_rule: ScoreWorkers(count, shared, failed_rule)


def score_files(
    log: Log,
    official: OfficialIndex,
    *,
    minimums: Mapping[str, float] | None = None,
    advance: Advance = lambda _: None,
    engine: OpenEngine | None = None,
) -> Summary:
    """Judge every line of some files and summarize them; see `scoring.score_results`.

    Args:
        log: What is to be scored.
        official: The official answers; each is marked as used.
        minimums: The user's thresholds by metric name.
        advance: Told how many bytes were scored, now and then.
        engine: What scores the blocks; None for this process alone.

    Raises:
        DataError: If a file cannot be read, or no line could be scored.
    """
    total = ScoredLines(LogFacts(failed_rule=log.failed_rule, official=official.facts))
    scored = _in_this_process(log, official, advance)
    if engine is not None:
        scored = _by_an_engine(log, official, advance, engine)
    with closing(scored):
        for part in scored:
            total.merge(part)
    return total.summary(official, log.subset, minimums)


def _in_this_process(log: Log, official: OfficialIndex, advance: Advance) -> Generator[ScoredLines]:
    scorer = LineScorer(official, log.failed_rule)
    first_line = 1
    for path in log.files:
        with open_result_lines(path, log.subset) as lines:
            counted = CountedLines(lines, advance)
            yield from scorer.blocks(counted, first_line)
            first_line += counted.count


def _by_an_engine(
    log: Log, official: OfficialIndex, advance: Advance, open_engine: OpenEngine
) -> Generator[ScoredLines]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="k2-verifier-")))
        engine = stack.enter_context(open_engine(official.share(folder), log.failed_rule))
        scorer = LineScorer(official, log.failed_rule)
        for block, scored in engine.score(_blocks(log, folder)):
            advance(block.size)
            if official.claim(scored.positions):
                yield scored
            else:
                # A case of it stood further up as well, which only this process knows.
                yield scorer.block(block.lines(), block.first_line)


def _blocks(log: Log, folder: Path) -> Iterator[Block]:
    first_line = 1
    for number, path in enumerate(log.files):
        plain = path if is_plain(path) else folder / f"{number}.jsonl"
        if plain is not path:
            with open_result_lines(path, log.subset) as lines, plain.open("wb") as file:
                file.writelines(line if line.endswith(b"\n") else line + b"\n" for line in lines)
        try:
            for block in plan_blocks(plain, first_line):
                yield block
                first_line = block.first_line + block.line_count
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
