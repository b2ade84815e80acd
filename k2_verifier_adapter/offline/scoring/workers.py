"""Scoring blocks of lines in several processes.

Processes of our own and not an executor's: those can neither be ended when the user interrupts nor be
seen to have died without waiting for ever.
"""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import TYPE_CHECKING, cast

from k2_verifier_adapter.core.log_facts import FailedRule
from k2_verifier_adapter.errors import DataError, K2VerifierError
from k2_verifier_adapter.offline.scoring.blocks import Block
from k2_verifier_adapter.offline.scoring.line_scorer import LineScorer
from k2_verifier_adapter.offline.scoring.official_index import OfficialIndex, SharedIndex
from k2_verifier_adapter.offline.scoring.scored_lines import ScoredLines

if TYPE_CHECKING:
    from typing_extensions import Self

_AHEAD = 4
"""Blocks for each process that may be done before one that comes first is."""

_PATIENCE_S = 5.0


def score_block(official: OfficialIndex, failed_rule: FailedRule, block: Block) -> ScoredLines:
    """Score a block as if no line before it answered any of its cases.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        scored = LineScorer(official, failed_rule).block(block.lines(), block.first_line)
    except OSError as error:
        raise DataError(f"{block.path}: cannot be read: {error.strerror or error}") from error
    official.release(scored.positions)
    return scored


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why a process could not score a block.

    Attributes:
        message: What went wrong.
        is_expected: Whether the message is meant for the user.
    """

    message: str
    is_expected: bool


def _work(connection: Connection, shared: SharedIndex, failed_rule: FailedRule) -> None:
    """Score every block that is sent, until there is nobody who sends."""
    answer: ScoredLines | _Failed
    with connection, shared.open() as official:
        while True:
            try:
                block = connection.recv()
            except (EOFError, OSError):
                return
            try:
                answer = score_block(official, failed_rule, block)
            except K2VerifierError as error:
                answer = _Failed(str(error), is_expected=True)
            except Exception:  # noqa: BLE001 - any defect is raised again where the user sees it
                answer = _Failed(traceback.format_exc(), is_expected=False)
            try:
                connection.send(answer)
            except OSError:
                return


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold interrupts back; processes that are started meanwhile never see one.

    Ctrl-C goes to all processes of a terminal, and the one that the user started decides. Windows has
    no such mask; there each process says that it was interrupted.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # It starts with the first process, and lets interrupts through again when it has (Python 3.10 to 3.14).
    resource_tracker.ensure_running()
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


class ScoreWorkers:
    """Some processes that score blocks."""

    def __init__(self, count: int, shared: SharedIndex, failed_rule: FailedRule) -> None:
        """Prepare the processes.

        Args:
            count: Their number.
            shared: The official answers.
            failed_rule: What failed requests count as.
        """
        self._count = count
        self._arguments = (shared, failed_rule)
        self._processes: dict[Connection, BaseProcess] = {}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._end(at_once=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(at_once=error is not None)

    def _start(self) -> None:
        # Fresh interpreters everywhere: a fork would copy the threads' locks, and is not to be had on
        # every system.
        context = multiprocessing.get_context("spawn")
        with _interrupts_held():
            for _ in range(self._count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, *self._arguments), daemon=True)
                process.start()
                theirs.close()
                self._processes[ours] = process

    def _end(self, *, at_once: bool) -> None:
        for connection, process in self._processes.items():
            if at_once:
                process.terminate()
            connection.close()
        for process in self._processes.values():
            process.join(_PATIENCE_S)
            if process.is_alive():
                process.kill()
                process.join()

    def score(self, blocks: Iterable[Block]) -> Iterator[tuple[Block, ScoredLines]]:
        """Score blocks, and give what they add up to in their order.

        Raises:
            DataError: If a file cannot be read, or a process has died.
        """
        waiting = enumerate(blocks)
        idle = list(self._processes)
        busy: dict[Connection, tuple[int, Block]] = {}
        done: dict[int, tuple[Block, ScoredLines]] = {}
        following = 0
        while True:
            while idle and len(done) < _AHEAD * self._count and (task := next(waiting, None)) is not None:
                connection = idle.pop()
                busy[connection] = task
                # A process that is gone is noticed where its answer is missing.
                with suppress(OSError):
                    connection.send(task[1])
            if not busy:
                return
            for ready in wait(list(busy)):
                connection = cast("Connection", ready)
                number, block = busy.pop(connection)
                done[number] = (block, self._receive(connection, block))
                idle.append(connection)
            while following in done:
                yield done.pop(following)
                following += 1

    def _receive(self, connection: Connection, block: Block) -> ScoredLines:
        try:
            answer: ScoredLines | _Failed = connection.recv()
        except (EOFError, OSError):
            process = self._processes[connection]
            process.join(_PATIENCE_S)
            raise DataError(
                f"{block.path}: the process that scored lines {block.first_line} to "
                f"{block.first_line + block.line_count - 1} ended with code {process.exitcode}; if memory is "
                "short, use fewer --workers"
            ) from None
        if not isinstance(answer, _Failed):
            return answer
        if answer.is_expected:
            raise DataError(answer.message)
        raise RuntimeError(f"scoring failed in a process of its own:\n{answer.message}")
