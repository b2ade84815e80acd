"""How fast and how far requests go: the pool, the gate that every attempt passes, and what may be spent.

A rate limit is the key's, not the request's. So one 429 makes every request wait, and halves the
requests in flight; answers let them grow again, by a sixteenth of the full number for every round of
answers (additive increase, multiplicative decrease, as TCP does).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_ROUNDS_TO_RECOVER = 16

_CANCEL_PATIENCE_S = 4.0
"""Seconds that an interrupted pool may take to let go of its connections."""


class BudgetSpentError(Exception):
    """A request was not sent, or not sent again, because a maximum is reached."""


class Budget:
    """What the user lets a session spend, and what it has `sent` and used (`tokens`); on one event loop."""

    def __init__(
        self,
        max_requests: int = 0,
        max_total_tokens: int = 0,
        max_minutes: float = 0.0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start counting; the minutes run from now. A maximum of 0 is none.

        Args:
            max_requests: HTTP requests, retries included.
            max_total_tokens: Prompt and completion tokens, as the vendor's `usage` counts them. No request
                is sent once they are reached; the answers under way may go beyond.
            max_minutes: Minutes after which no request is sent; the answers under way are waited for.
            clock: Seconds by a clock that never goes back.
        """
        self._max_requests = max_requests
        self._max_total_tokens = max_total_tokens
        self._max_minutes = max_minutes
        self._clock = clock
        self._deadline = clock() + max_minutes * 60 if max_minutes else None
        self._over = asyncio.Event()
        self._reason: str | None = None
        self.sent = 0
        self.tokens = 0

    @property
    def spent(self) -> str | None:
        """The maximum that is reached, by name and value; None while there is something left."""
        if self._reason is None and self._deadline is not None and self._clock() >= self._deadline:
            self._end(f"max_minutes {self._max_minutes:g}")
        return self._reason

    def take(self) -> None:
        """Take one request out of the budget, just before it is sent; `BudgetSpentError` if none is left."""
        if self._max_requests and self.sent >= self._max_requests:
            self._end(f"max_requests {self._max_requests}")
        if self.spent is not None:
            raise BudgetSpentError(self.spent)
        self.sent += 1

    def use(self, tokens: int) -> None:
        """Count the tokens of an answer."""
        self.tokens += tokens
        if self._max_total_tokens and self.tokens >= self._max_total_tokens:
            self._end(f"max_total_tokens {self._max_total_tokens}")

    def close(self, reason: str) -> None:
        """Let nothing more be sent."""
        self._end(reason)

    @property
    def minutes_over_since(self) -> float | None:
        """When the user's minutes were over, by the clock; None if they are not."""
        over = self._deadline is not None and self._clock() >= self._deadline
        return self._deadline if over else None

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than until a maximum is reached."""
        if seconds <= 0 or self.spent is not None:
            # One turn all the same: a connection that the server has closed is noticed in it.
            await asyncio.sleep(0)
            return
        if self._deadline is not None:
            seconds = min(seconds, max(0.0, self._deadline - self._clock()))
        try:
            await asyncio.wait_for(self._over.wait(), seconds)
        except (TimeoutError, asyncio.TimeoutError):
            return

    def _end(self, reason: str) -> None:
        if self._reason is None:
            self._reason = reason
            self._over.set()


class Pacer:
    """The gate that every attempt of every request passes, on one event loop."""

    def __init__(
        self,
        budget: Budget,
        concurrency: int,
        requests_per_minute: float = 0.0,
        *,
        on_change: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Open the gate for `concurrency` requests in flight; 0 requests per minute is no limit.

        A pause ends where the budget is spent. `on_change` is told, in a line, when the vendor's rate limit
        lowers the number in flight.
        """
        self._budget = budget
        self._concurrency = concurrency
        self._interval_s = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._on_change = on_change
        self._limit = float(concurrency)
        self._in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._not_before = 0.0
        self._next_start = 0.0
        self._lowered_at = 0.0
        self._starting = asyncio.Lock()

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""
        return max(1, int(self._limit))

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[float]:
        """Wait for the turn of one attempt, and take it out of the budget, or raise; gives its start."""
        while self._in_flight >= self.limit:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        self._in_flight += 1
        try:
            await self._wait_for_start()
            self._budget.take()
            yield time.monotonic()
        finally:
            self._in_flight -= 1
            self._wake()

    async def _wait_for_start(self) -> None:
        if not self._interval_s and self._not_before <= time.monotonic():
            return
        # One after the other, so that whoever waits for the interval waits for a rate limit that comes
        # meanwhile as well, and the starts behind it are spaced again.
        async with self._starting:
            now = begun = time.monotonic()
            while (start := max(self._not_before, self._next_start)) > now and self._budget.spent is None:
                await self._budget.pause(start - now)
                now = time.monotonic()
            self._next_start = max(begun, start) + self._interval_s

    def _wake(self) -> None:
        free = self.limit - self._in_flight
        while self._waiting and free > 0:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1

    def answered(self) -> None:
        """Note an answer: a lowered number in flight grows again."""
        if self._limit < self._concurrency:
            step = self._concurrency / _ROUNDS_TO_RECOVER / self._limit
            self._limit = min(float(self._concurrency), self._limit + step)
            self._wake()

    def rate_limited(self, delay_s: float, started: float) -> None:
        """Note a 429: everybody waits, and fewer go at a time.

        Args:
            delay_s: Seconds until the next start.
            started: When the refused attempt started; what started before the last lowering was
                refused for the same crowd, and lowers nothing more.
        """
        now = time.monotonic()
        self._not_before = max(self._not_before, now + delay_s)
        if started < self._lowered_at or self.limit == 1:
            return
        self._lowered_at = now
        self._limit = max(1.0, min(self._limit, self._in_flight + 1) / 2)
        self._on_change(f"rate limited: {self.limit} requests at a time from now on")


def run_pool(
    items: Sequence[Item],
    work: Callable[[Item], Awaitable[None]],
    *,
    concurrency: int,
    context: AbstractAsyncContextManager[None],
) -> None:
    """Work on all items, `concurrency` at a time, on one event loop in a thread of its own.

    A thread, so that it also runs where the caller's thread has a running loop (a notebook). `work` runs on
    the loop, so what it touches needs no lock; its first exception, or an interrupt of the calling thread,
    cancels all other work and is raised.
    """
    finished: Future[None] = Future()
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()
    interrupted = threading.Event()

    async def work_on_all() -> None:
        task = asyncio.current_task()
        assert task is not None
        started.set_result((asyncio.get_running_loop(), task))
        if interrupted.is_set():
            raise asyncio.CancelledError
        async with context:
            remaining = iter(items)

            async def worker() -> None:
                for item in remaining:
                    await work(item)

            workers = [asyncio.create_task(worker()) for _ in range(min(concurrency, len(items)))]
            try:
                done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                for task_done in done:
                    task_done.result()
            finally:
                for unfinished in workers:
                    unfinished.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    try:
        start_daemon(lambda: asyncio.run(work_on_all()), finished)
        finished.result()
    except BaseException:
        if not finished.done():
            # An interrupt may come while the thread is being started: then whichever of the two
            # is later finds the other's note.
            interrupted.set()
            if started.done():
                loop, task = started.result()
                with suppress(RuntimeError):  # the loop has just been closed
                    loop.call_soon_threadsafe(task.cancel)
            wait([finished], _CANCEL_PATIENCE_S)
        raise


def start_daemon(function: Callable[[], Result], outcome: Future[Result]) -> None:
    """Call a function in a thread of its own, and hand its outcome over.

    No executor: its threads are waited for when the interpreter ends, so that a call that hangs would
    keep an interrupted run from ending.
    """

    def call() -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - handed over to who waits
            hand_over: Callable[[], None] = partial(outcome.set_exception, error)
        else:
            hand_over = partial(outcome.set_result, result)
        with suppress(InvalidStateError):  # nobody waits any more where the run was interrupted
            hand_over()

    threading.Thread(target=call, name="k2-verifier", daemon=True).start()
