"""Rows whose official answers, and a vendor's, are drawn from probabilities of a call, one for each case."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}}},
}
TOOLS = json.dumps([TOOL])

_SHAPE = 0.46
"""Of the beta distribution of the cases: half of the answers call, and two of them agree with F1 0.76."""

Row = dict[str, Any]


def probabilities(cases: int, seed: int = 1) -> list[float]:
    """Draw how probable a call is in each case."""
    rng = Random(seed)
    return [rng.betavariate(_SHAPE, _SHAPE) for _ in range(cases)]


def row(number: int, *, calls: bool, synthetic: bool = False) -> Row:
    """Give a small row whose official answer calls, or does not."""
    call = {
        "id": "functions.look:0",
        "type": "function",
        "function": {"name": "look", "arguments": '{"n":1}'},
    }
    return {
        "messages": json.dumps([{"role": "user", "content": f"Look at {number}."}]),
        "tools": TOOLS,
        "should_call_tool": calls,
        "official_finish_reason": "tool_calls" if calls else "stop",
        "official_tool_calls": json.dumps([call]) if calls else None,
        "synthetic": synthetic,
    }


def official_rows(chances: list[float], runs: int = 1, seed: int = 2) -> list[Row]:
    """Draw the official answers; of several runs, how often each case calls, the row's own answer first."""
    rng = Random(seed)
    rows = []
    for number, chance in enumerate(chances):
        answers = [rng.random() < chance for _ in range(runs)]
        several = {} if runs == 1 else {"official_calls": [sum(answers), runs]}
        rows.append({**row(number, calls=answers[0]), **several})
    return rows


def vendor_rows(
    chances: list[float], change: Callable[[float], float] = lambda p: p, seed: int = 3
) -> list[Row]:
    """Draw a vendor's answers: the rows that a simulated vendor replays.

    Args:
        chances: How probable an official call is.
        change: How probable the vendor's is, given that.
        seed: Another seed draws other answers.
    """
    rng = Random(seed)
    return [row(number, calls=rng.random() < change(chance)) for number, chance in enumerate(chances)]


def at_random(share: float) -> Callable[[float], float]:
    """Decide by a coin in a share of the answers; where half call, F1 is 0.76 less 0.26 times the share."""
    return lambda p: (1 - share) * p + share / 2
