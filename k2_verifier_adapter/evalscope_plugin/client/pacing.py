"""How fast requests may go out: as the user says, and slower where the vendor says 429.

A rate limit is the key's, not the request's. So one 429 makes every request wait, and halves the
requests in flight; answers let them grow again, by a sixteenth of the full number for every round of
answers (additive increase, multiplicative decrease, as TCP does).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from k2_verifier_adapter.evalscope_plugin.client.budget import Budget

_ROUNDS_TO_RECOVER = 16


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
        """Open the gate.

        Args:
            budget: What may be spent; a pause ends where it is spent.
            concurrency: Requests in flight at most.
            requests_per_minute: Requests that start in a minute at most, evenly spaced; 0 for no limit.
            on_change: Told, in a line, when the vendor's rate limit lowers the number in flight.
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

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""
        return max(1, int(self._limit))

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[float]:
        """Wait for the turn of one attempt, and take it out of the budget; gives its start.

        Raises:
            BudgetSpentError: If the budget is spent before it is this attempt's turn.
        """
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
        # The time may move on while it is waited for.
        while (wait := self._not_before - time.monotonic()) > 0 and self._budget.spent is None:
            await self._budget.pause(wait)
        if self._interval_s:
            now = time.monotonic()
            start = max(now, self._next_start)
            self._next_start = start + self._interval_s
            await self._budget.pause(start - now)

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
