"""How much a session may spend: requests, tokens, minutes. At a maximum it stops, resumable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What the user lets one session spend; 0 is no maximum.

    Attributes:
        max_requests: HTTP requests, retries included.
        max_total_tokens: Prompt and completion tokens, as the vendor's `usage` counts them. No request
            is sent once they are reached; the answers under way may go beyond.
        max_minutes: Minutes after which no request is sent; the answers under way are waited for.
    """

    max_requests: int = 0
    max_total_tokens: int = 0
    max_minutes: float = 0.0


class BudgetSpentError(Exception):
    """A request was not sent, or not sent again, because a maximum is reached."""


class Budget:
    """What a session has left to spend, on one event loop.

    Attributes:
        sent: Requests sent so far.
        tokens: Tokens used so far.
    """

    def __init__(self, limits: RunLimits, clock: Callable[[], float] = time.monotonic) -> None:
        """Start counting; the minutes run from now.

        Args:
            limits: The maximums.
            clock: Seconds by a clock that never goes back.
        """
        self._limits = limits
        self._clock = clock
        self._deadline = clock() + limits.max_minutes * 60 if limits.max_minutes else None
        self._over = asyncio.Event()
        self._reason: str | None = None
        self.sent = 0
        self.tokens = 0

    @property
    def spent(self) -> str | None:
        """The maximum that is reached, by name and value; None while there is something left."""
        if self._reason is None and self._deadline is not None and self._clock() >= self._deadline:
            self._end(f"max_minutes {self._limits.max_minutes:g}")
        return self._reason

    def take(self) -> None:
        """Take one request out of the budget, just before it is sent.

        Raises:
            BudgetSpentError: If there is none left; it must not be sent.
        """
        if self._reason is None and self._limits.max_requests and self.sent >= self._limits.max_requests:
            self._end(f"max_requests {self._limits.max_requests}")
        if self.spent is not None:
            raise BudgetSpentError(self.spent)
        self.sent += 1

    def use(self, tokens: int) -> None:
        """Count the tokens of an answer."""
        self.tokens += tokens
        if self._limits.max_total_tokens and self.tokens >= self._limits.max_total_tokens:
            self._end(f"max_total_tokens {self._limits.max_total_tokens}")

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
