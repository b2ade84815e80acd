"""Scoring blocks of lines on a Ray cluster, or on an instance of Ray on this machine.

Everything that a task needs goes through Ray's object store, so the machines of a cluster need this
package, but not the files.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from k2_verifier_adapter.errors import DataError, UsageError
from k2_verifier_adapter.offline.scored_lines import ScoredLines
from k2_verifier_adapter.offline.scoring import Block, LineScorer, ScoreBlocks

_scorers: dict[str, LineScorer] = {}
"""The scorer of a process of Ray, by the token of the command that it scores for."""


def _score(token: str, held: list[Any], block: Block) -> ScoredLines:
    """Score a block, in a process of Ray; `held` is a reference, in a list so that Ray does not fetch it."""
    if token not in _scorers:
        import ray

        _scorers.clear()
        _scorers[token] = ray.get(held[0])
    return _scorers[token].score(block)


@contextmanager
def ray_engine(scorer: LineScorer) -> Iterator[ScoreBlocks]:
    """Connect to the cluster that RAY_ADDRESS names, or start Ray on this machine.

    A `UsageError` says that Ray is not installed, a `DataError` that the cluster cannot be reached, or fails.
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
        yield lambda blocks: _score_all(ray, scorer, blocks)
    finally:
        if is_ours:
            ray.shutdown()


def _score_all(ray: Any, scorer: LineScorer, blocks: Iterable[Block]) -> Iterator[ScoredLines]:
    """Score blocks as tasks, some of them ahead, and give what they add up to in their order."""
    task, token, held = ray.remote(_score), uuid4().hex, [ray.put(scorer)]
    ahead = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    pending: deque[tuple[Block, Any]] = deque()

    def first() -> ScoredLines:
        block, reference = pending.popleft()
        try:
            scored: ScoredLines = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise DataError(f"{block.source}: Ray failed: {_one_line(error)}") from error
        return scored

    try:
        for block in blocks:
            pending.append((block, task.remote(token, held, block)))
            if len(pending) > ahead:
                yield first()
        while pending:
            yield first()
    finally:
        for _, unfinished in pending:
            ray.cancel(unfinished, force=True)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
