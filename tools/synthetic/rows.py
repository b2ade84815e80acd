"""Rows in the hosted format, made from a seed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from random import Random
from typing import Any

from synthetic.conversations import Conversation, call_object, converse
from synthetic.plans import Plan, Quirk, plan_rows, row_random
from synthetic.quirks import apply_quirk
from synthetic.toolbox import Toolbox

Row = dict[str, Any]

_SPELLED_NUMBER = re.compile(r'"@number:([-+.0-9eE]+)"')
"""A number that the JSON text must spell in exactly this way: Python reads `1e3` and writes `1000.0`."""
_SURROGATE = re.compile("[\ud800-\udfff]")

_ROW_PARAMETERS = (
    {"temperature": 1.0, "max_tokens": 64000, "stream": True},
    {"temperature": 0.6, "max_tokens": 16000, "stream": True},
)
_ESCAPE_CHARS = 6
"""Characters of one escaped Chinese character, such as `\\u5929`."""
_WORTH_FILLING = 60
"""A request that lacks fewer characters than this stays as it is."""


def generate_rows(
    count: int, seed: int, *, distinct_tools: bool = False, mean_chars: int = 4300
) -> Iterator[Row]:
    """Generate rows of the hosted format, each marked `synthetic`.

    The same arguments give the same rows on every supported Python, and fewer rows are a prefix of more.

    Args:
        count: Number of rows.
        seed: Seed of everything that varies.
        distinct_tools: Give every tool schema a property of its own, so that no two are equal and no cache
            of compiled schemas hides the cost of compiling.
        mean_chars: How many characters `messages` and `tools` have together, on average, to within a tenth
            or so; sizes scale with it, up to about eight times the mean.
    """
    for plan in plan_rows(count, seed, mean_chars):
        yield _row(plan, row_random(seed, "row", plan.index), distinct_tools=distinct_tools)


def write_row(row: Row) -> str:
    """Write one row as a line of JSONL, line end included."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def _row(plan: Plan, rng: Random, *, distinct_tools: bool) -> Row:
    toolbox = Toolbox(plan, rng, distinct=distinct_tools)
    tools = toolbox.rendered
    conversation = converse(plan, rng, toolbox)
    _fill(plan, rng, conversation, tools)
    apply_quirk(plan, rng, conversation, tools)
    parameters = _ROW_PARAMETERS[plan.quirk_number % 2] if plan.quirk is Quirk.ROW_PARAMETERS else None
    return {
        "messages": _write_json(conversation.messages, plan.quirk),
        "tools": _write_json(tools, plan.quirk),
        "should_call_tool": plan.finish_reason == "tool_calls",
        "official_finish_reason": plan.finish_reason,
        "official_tool_calls": _official_calls(conversation, rng),
        "official_content": conversation.answer,
        "parameters": None if parameters is None else json.dumps(parameters),
        "synthetic": True,
    }


def _write_json(value: Any, quirk: Quirk = Quirk.NONE) -> str:
    """Write JSON text that has a UTF-8 form: a lone surrogate stays an escape even in non-ASCII text."""
    separators = (",", ":") if quirk is Quirk.COMPACT_JSON else (", ", ": ")
    text = json.dumps(value, ensure_ascii=quirk is Quirk.ASCII_ESCAPES, separators=separators)
    text = _SURROGATE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
    return _SPELLED_NUMBER.sub(r"\1", text)


def _official_calls(conversation: Conversation, rng: Random) -> str | None:
    if not conversation.wishes:
        return None
    compact = rng.random() < 0.5
    calls = [
        call_object(f"functions.{wish.tool_name}:{index}", wish, compact=compact)
        for index, wish in enumerate(conversation.wishes, start=conversation.historical_calls)
    ]
    return _write_json(calls)


def _fill(plan: Plan, rng: Random, conversation: Conversation, tools: list[dict[str, Any]]) -> None:
    """Lengthen a few messages until the request has its size."""
    missing = plan.size - len(_write_json(conversation.messages)) - len(_write_json(tools))
    slots = conversation.slots
    rng.shuffle(slots)
    chosen = slots[: 1 + rng.randrange(3)]
    if missing < _WORTH_FILLING or not chosen:
        return
    if plan.quirk is Quirk.ASCII_ESCAPES and plan.language == "zh":
        missing //= _ESCAPE_CHARS
    share = missing // len(chosen)
    for slot in chosen:
        present = len(slot.message["content"]) - len(slot.opening)
        slot.message["content"] = slot.opening + slot.compose(rng, plan.language, share + max(0, present))
