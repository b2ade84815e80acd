"""Pace and budget on a clock of their own: who may start when, and when nothing may start any more."""

from __future__ import annotations

import asyncio
import time

import pytest

from k2_verifier_adapter.evalscope_plugin.client.pacing import Budget, BudgetSpentError, Pacer


def _take(budget, times):
    for _ in range(times):
        budget.take()


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        """Tell the time in seconds."""
        return self.now


class TestBudget:
    """What may still be sent."""

    def test_without_maximums_nothing_ends(self):
        """Neither requests nor tokens nor time end a session without maximums."""
        clock = Clock()
        budget = Budget(clock=clock)
        _take(budget, 10_000)
        budget.use(10**12)
        clock.now += 10**9
        assert budget.spent is None

    def test_requests_are_counted_exactly(self):
        """The request after the last one is refused, under the maximum's name and value."""
        budget = Budget(max_requests=3)
        _take(budget, 3)
        assert budget.spent is None
        with pytest.raises(BudgetSpentError, match="max_requests 3"):
            budget.take()
        assert (budget.sent, budget.spent) == (3, "max_requests 3")

    def test_tokens_end_it_once_they_are_reached(self):
        """Reached exactly is reached; the request that is refused does not count as sent."""
        budget = Budget(max_total_tokens=100)
        budget.take()
        budget.use(99)
        assert budget.spent is None
        budget.use(1)
        assert budget.spent == "max_total_tokens 100"
        with pytest.raises(BudgetSpentError):
            budget.take()
        assert budget.sent == 1

    def test_minutes_end_it_by_the_clock(self):
        """At the deadline nothing starts any more."""
        clock = Clock()
        budget = Budget(max_minutes=0.5, clock=clock)
        clock.now += 29.9
        budget.take()
        clock.now += 0.1
        assert budget.spent == "max_minutes 0.5"

    def test_a_pause_ends_with_the_budget(self):
        """Who waits for an hour is woken when another one uses up the tokens."""

        async def main():
            budget = Budget(max_total_tokens=1)
            waiting = asyncio.create_task(budget.pause(3600))
            await asyncio.sleep(0)
            budget.use(1)
            await asyncio.wait_for(waiting, 20)

        asyncio.run(main())

    def test_a_pause_ends_at_the_deadline(self):
        """A pause is never longer than the minutes that are left."""

        async def main():
            budget = Budget(max_minutes=0.0005)
            await asyncio.wait_for(budget.pause(3600), 20)
            assert budget.spent == "max_minutes 0.0005"

        asyncio.run(main())


def _crowd(pacer, number, work):
    """Send a crowd of attempts through the gate."""

    async def one(index):
        async with pacer.turn() as started:
            await work(index, started)

    async def main():
        await asyncio.gather(*(one(index) for index in range(number)))

    asyncio.run(main())


class TestPacer:
    """Who may start when."""

    def test_no_more_in_flight_than_allowed(self):
        """However many wait, the number in flight never passes the limit, and all get their turn."""
        inside, most, seen = 0, 0, []

        async def work(index, _):
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            for _turn in range(3):
                await asyncio.sleep(0)
            inside -= 1
            seen.append(index)

        _crowd(Pacer(Budget(), 4), 50, work)
        assert (most, sorted(seen)) == (4, list(range(50)))

    def test_starts_are_spaced(self):
        """With 6,000 requests a minute, the n-th start is no earlier than n times 10 ms after the first."""
        starts = []

        async def work(_, started):
            starts.append(started)

        _crowd(Pacer(Budget(), 100, 6000), 10, work)
        starts.sort()
        assert all(start - starts[0] >= 0.01 * number - 0.002 for number, start in enumerate(starts))

    def test_a_429_halves_the_crowd_once(self):
        """Of eight in flight that are all refused, the first lowers the number to four, the others no more."""
        notes = []
        pacer = Pacer(Budget(), 8, on_change=notes.append)

        async def main():
            async def refused():
                async with pacer.turn() as started:
                    await asyncio.sleep(0)
                    pacer.rate_limited(0.0, started)

            await asyncio.gather(*(refused() for _ in range(8)))

        asyncio.run(main())
        assert pacer.limit == 4
        assert notes == ["rate limited: 4 requests at a time from now on"]

    def test_it_is_lowered_from_what_was_in_flight(self):
        """Where far fewer were in flight than allowed, half of those is the new number, and one is the least."""
        pacer = Pacer(Budget(), 1000)

        async def main():
            for _ in range(3):
                async with pacer.turn() as started:
                    pass
                pacer.rate_limited(0.0, started)

        asyncio.run(main())
        assert pacer.limit == 1

    def test_answers_raise_it_again(self):
        """From one at a time, answers bring it back to the full number, step by step and never beyond."""
        pacer = Pacer(Budget(), 32)
        pacer.rate_limited(0.0, time.monotonic())
        limits = []
        while pacer.limit < 32:
            pacer.answered()
            limits.append(pacer.limit)
        pacer.answered()
        assert limits == sorted(limits)
        assert pacer.limit == 32
        assert 32 < len(limits) < 32 * 32

    def test_everybody_waits_for_the_rate_limit(self):
        """After a 429 nothing starts before its time, not even what was not refused."""
        pacer = Pacer(Budget(), 8)
        starts = []

        async def work(_, started):
            starts.append(started)

        begun = time.monotonic()
        pacer.rate_limited(0.05, begun)
        _crowd(pacer, 5, work)
        assert min(starts) >= begun + 0.05

    def test_a_rate_limit_holds_back_who_waits_for_the_interval(self):
        """A 429 that comes while others wait for their turn delays them, and they start spaced after it."""
        pacer = Pacer(Budget(), 8, 60 / 0.02)
        starts = []

        async def work(index, started):
            starts.append(started)
            if index == 0:
                pacer.rate_limited(0.2, started)
                for _answer in range(200):
                    pacer.answered()

        _crowd(pacer, 5, work)
        first, *others = sorted(starts)
        # A busy machine may start them later, never earlier.
        assert all(start >= first + 0.2 + 0.018 * place for place, start in enumerate(others))

    def test_an_answer_wakes_who_waits_for_the_number_in_flight(self):
        """When the lowered number grows again, one who waits starts, though nobody has ended."""
        pacer = Pacer(Budget(), 4)
        pacer.rate_limited(0.0, time.monotonic())
        assert pacer.limit < 4
        inside = []

        async def one():
            async with pacer.turn():
                inside.append(1)
                await asyncio.Event().wait()

        async def main():
            tasks = [asyncio.create_task(one()) for _ in range(4)]
            for _turn in range(5):
                await asyncio.sleep(0)
            before = len(inside)
            while pacer.limit < 4:
                pacer.answered()
            for _turn in range(5):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return before

        assert asyncio.run(main()) < 4
        assert len(inside) == 4

    def test_a_spent_budget_lets_nobody_through(self):
        """Those who wait at the gate are refused when the budget is spent, instead of waiting for ever."""
        budget = Budget(max_requests=5)
        pacer = Pacer(budget, 2)
        outcomes = []

        async def main():
            async def one():
                try:
                    async with pacer.turn():
                        await asyncio.sleep(0)
                        outcomes.append("sent")
                except BudgetSpentError:
                    outcomes.append("refused")

            await asyncio.gather(*(one() for _ in range(20)))

        asyncio.run(main())
        assert outcomes.count("sent") == 5
        assert outcomes.count("refused") == 15
