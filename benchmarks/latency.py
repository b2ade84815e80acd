"""How long the endpoint of a benchmark takes to answer, and the least time in which a client can be done."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Mapping

NONE = "none"


def _uniform(shortest_s: float, longest_s: float) -> Callable[[random.Random], float]:
    return lambda rng: rng.uniform(shortest_s, longest_s)


def _slow_tail(rng: random.Random) -> float:
    return 6.0 if rng.random() < 0.05 else 0.2


LATENCIES: Mapping[str, Callable[[random.Random], float]] = {
    NONE: lambda _: 0.0,
    "0.1-0.9 s": _uniform(0.1, 0.9),
    "0.2 s, 5 % 6 s": _slow_tail,
    "2-6 s": _uniform(2.0, 6.0),
}
"""Seconds until an answer, by name; drawn for each row from a generator of its own."""


def latency_of(name: str, tag: int) -> float:
    """Give the seconds until the answer to a row, the same in every run."""
    return LATENCIES[name](random.Random(f"{name}:{tag}"))


def ideal_s(latencies: Iterable[float], concurrency: int) -> float:
    """Give the seconds that a client without any cost of its own needs.

    It asks in this order, and again as soon as one of its places is free: the sum over the concurrency,
    and the tail of the last answers.
    """
    ends: list[float] = []
    for latency in latencies:
        start = heapq.heappop(ends) if len(ends) >= concurrency else 0.0
        heapq.heappush(ends, start + latency)
    return max(ends, default=0.0)
