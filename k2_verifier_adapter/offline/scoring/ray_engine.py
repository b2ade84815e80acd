"""Scoring blocks of lines on a Ray cluster, or on an instance of Ray on this machine.

Everything that a task needs goes through Ray's object store, so the machines of a cluster need this
package, but not the files.
"""

from __future__ import annotations

import io
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from k2_verifier_adapter.core.log_facts import FailedRule
from k2_verifier_adapter.errors import DataError, UsageError
from k2_verifier_adapter.offline.scoring.blocks import Block
from k2_verifier_adapter.offline.scoring.line_scorer import LineScorer
from k2_verifier_adapter.offline.scoring.official_index import OfficialIndex, SharedIndex
from k2_verifier_adapter.offline.scoring.scored_lines import ScoredLines


@dataclass(frozen=True, slots=True)
class _Content:
    """An official index with what its files hold."""

    shared: SharedIndex
    stored: bytes
    lines: bytes | None

    def open(self) -> OfficialIndex:
        lines = None if self.lines is None else io.BytesIO(self.lines)
        return self.shared.index_of(io.BytesIO(self.stored), lines)


_opened: dict[str, OfficialIndex] = {}
"""The index that a process of Ray scores against, by the token of the command that it scores for."""


def _score(token: str, held: list[Any], failed_rule: FailedRule, first_line: int, data: bytes) -> ScoredLines:
    """Score a block, in a process of Ray.

    Args:
        token: Name of the official answers.
        held: The reference to them, in a list so that Ray does not fetch them for every block.
        failed_rule: What failed requests count as.
        first_line: Number of the first line.
        data: The lines.
    """
    if token not in _opened:
        import ray

        _opened.clear()
        _opened[token] = ray.get(held[0]).open()
    scored = LineScorer(_opened[token], failed_rule).block(io.BytesIO(data), first_line)
    _opened[token].release(scored.positions)
    return scored


class RayEngine:
    """Scores blocks as tasks of Ray."""

    def __init__(self, ray: Any, shared: SharedIndex, failed_rule: FailedRule) -> None:
        """Hand the official answers to Ray.

        Args:
            ray: The package, connected.
            shared: The official answers.
            failed_rule: What failed requests count as.
        """
        self._ray = ray
        lines = None if shared.lines is None else shared.lines.read_bytes()
        self._held = [ray.put(_Content(shared, shared.stored.read_bytes(), lines))]
        self._rule = failed_rule
        self._ahead = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))

    def score(self, blocks: Iterable[Block]) -> Iterator[tuple[Block, ScoredLines]]:
        """Score blocks, and give what they add up to in their order.

        Raises:
            DataError: If Ray fails.
        """
        task = self._ray.remote(_score)
        token = uuid4().hex
        pending: deque[tuple[Block, Any]] = deque()
        try:
            for block in blocks:
                task_of_block = task.remote(token, self._held, self._rule, block.first_line, block.read())
                pending.append((block, task_of_block))
                if len(pending) > self._ahead:
                    yield self._finished(*pending.popleft())
            while pending:
                yield self._finished(*pending.popleft())
        finally:
            for _, unfinished in pending:
                self._ray.cancel(unfinished, force=True)

    def _finished(self, block: Block, reference: Any) -> tuple[Block, ScoredLines]:
        try:
            return block, self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            raise DataError(f"{block.path}: Ray failed: {_one_line(error)}") from error


@contextmanager
def ray_engine(shared: SharedIndex, failed_rule: FailedRule) -> Iterator[RayEngine]:
    """Connect to the cluster that RAY_ADDRESS names, or start Ray on this machine.

    Raises:
        UsageError: If Ray is not installed.
        DataError: If the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError:
        raise UsageError(
            "--engine ray needs Ray, which is not installed: pip install 'k2-verifier-adapter[ray]'"
        ) from None
    is_ours = not ray.is_initialized()
    if is_ours:
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            address = os.environ.get("RAY_ADDRESS", "this machine")
            raise DataError(f"Ray cannot be used at {address}: {_one_line(error)}") from error
    try:
        yield RayEngine(ray, shared, failed_rule)
    finally:
        if is_ours:
            ray.shutdown()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
