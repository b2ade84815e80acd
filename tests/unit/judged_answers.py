"""Judged answers for tests: a few tools, a call or a text, and the tally of some of them."""

from __future__ import annotations

import json

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.judging.judge import judge
from k2_verifier_adapter.core.judging.markup import MARKERS
from k2_verifier_adapter.core.responses import read_completion
from k2_verifier_adapter.core.tally import Tally

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "list_cities", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "bare", "parameters": {}}},
]
BEGIN, CALL, ARGUMENTS, END_CALL, END = MARKERS
GOOD = '{"city": "Beijing"}'
LEAKED = f"{BEGIN}{CALL}functions.get_weather:0{ARGUMENTS}{GOOD}{END_CALL}{END}"


def case_of(*, calls=True, finish=None, messages=None, official=None):
    """Decode a row whose official answer calls or not."""
    return decode_row(
        {
            "messages": messages or [{"role": "user", "content": "x"}],
            "tools": TOOLS,
            "should_call_tool": calls,
            "official_finish_reason": finish or ("tool_calls" if calls else "stop"),
            "official_tool_calls": official,
        },
        0,
        HistoryOptions(),
    )


def call(arguments=GOOD, name="get_weather", call_id=None, index=0):
    """Make a tool call."""
    return {
        "id": call_id or f"functions.{name}:{index}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def judged(
    *calls, official=True, finish="tool_calls", case=None, usage=None, anomalies=(), limit=None, **message
):
    """Judge one response."""
    body = {**message, **({"tool_calls": list(calls)} if calls else {})}
    completion = {"choices": [{"finish_reason": finish, "message": body}], "usage": usage}
    response = read_completion(json.loads(json.dumps(completion)))
    return judge(case or case_of(calls=official), response, anomalies, token_limit=limit)


def text(content="Fine.", **settings):
    """Judge an answer without a call."""
    return judged(finish=settings.pop("finish", "stop"), content=content, **settings)


def tally_of(*judgements):
    """Count judgements, each of a case of its own."""
    tally = Tally()
    for index, judgement in enumerate(judgements):
        tally.add(index, judgement)
    return tally
