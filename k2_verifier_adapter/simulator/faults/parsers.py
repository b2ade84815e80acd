"""Faults of parsers, of generation and of whole streams: calls in the wrong place, loops, odd chunks."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.failure_classes import FailureClass as C
from k2_verifier_adapter.simulator.completions import (
    Chunk,
    Completion,
    altered,
    call_deltas,
    call_id,
    calls_of,
    declared_tools,
    finish_of,
    is_terminal,
    with_calls,
)
from k2_verifier_adapter.simulator.faults.answers import PayloadFault, unchanged

_MANY = 6
"""Calls that a model in a loop makes."""

# --- calls in the wrong place ---------------------------------------------------------------------


def _in_other_notation(completion: Completion, case: Case, rng: Random) -> Completion | None:
    """Write the calls into the content as another model would."""
    declared = {name for name, _ in declared_tools(case.declared_tools())}
    values = [
        (call["function"].get("name"), _value(call["function"]["arguments"])) for call in calls_of(completion)
    ]
    if not all(name in declared and isinstance(value, dict) for name, value in values):
        return None
    write = rng.choice((_hermes, _fenced, _k3))
    text = "\n".join(write(str(name), value) for name, value in values)
    return altered(completion, "stop", content=text, tool_calls=None)


def _value(arguments: Any) -> Any:
    try:
        return json.loads(arguments)
    except (TypeError, ValueError):
        return None


def _hermes(name: str, arguments: dict[str, Any]) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def _fenced(name: str, arguments: dict[str, Any]) -> str:
    return f"```json\n{json.dumps({'name': name, 'arguments': arguments})}\n```"


def _k3(name: str, arguments: dict[str, Any]) -> str:
    written = ""
    for key, value in arguments.items():
        kind = "string" if isinstance(value, str) else "object" if isinstance(value, dict) else "array"
        kind = "number" if isinstance(value, (int, float)) else kind
        body = value if isinstance(value, str) else json.dumps(value)
        written += f'<|open|>argument key="{key}" type="{kind}"<|sep|>{body}<|close|>argument<|sep|>'
    call = f'<|open|>call tool="{name}" index="1"<|sep|>{written}<|close|>call<|sep|>'
    return f"<|open|>tools<|sep|>{call}<|close|>tools<|sep|>"


def _markup_in_arguments(completion: Completion, _: Case, rng: Random) -> Completion | None:
    calls = calls_of(completion)
    function = rng.choice(calls)["function"]
    function["arguments"] += rng.choice(("<|tool_call_end|>", "<|tool_calls_section_end|>"))
    return with_calls(completion, calls)


def _swallowed_into_id(completion: Completion, _: Case, __: Random) -> Completion | None:
    """Take the first of two calls for a part of the second one's id, as vLLM 0.10.1.1 does."""
    calls = calls_of(completion)
    first = calls[0]
    call = calls[-1]
    call["id"] = (
        f"{first['id']}<|tool_call_argument_begin|>{first['function']['arguments']}<|tool_call_end|>"
        f"<|tool_call_begin|>{call['id']}"
    )
    return with_calls(completion, [call])


def _reused_id(completion: Completion, case: Case, _: Random) -> Completion | None:
    calls = calls_of(completion)
    given = [
        str(call.get("id"))
        for message in case.messages()
        for call in (isinstance(message, dict) and message.get("tool_calls")) or ()
    ]
    for call in calls:
        own = f"functions.{call['function'].get('name')}:"
        reused = next((identifier for identifier in given if identifier.startswith(own)), None)
        if reused is not None:
            call["id"] = reused
            return with_calls(completion, calls)
    return None


# --- generation -----------------------------------------------------------------------------------


def _loop(completion: Completion, _: Case, rng: Random) -> Completion | None:
    piece = rng.choice(("!", "I should look at the tools first. ", "好的，我来查一下。"))
    text = piece * (600 // len(piece) + 8)
    finish_reason = rng.choice(("stop", "length"))
    if rng.random() < 0.5:
        return altered(completion, finish_reason, content=text, tool_calls=None)
    return altered(completion, finish_reason, content="", tool_calls=None, reasoning_content=text)


def _many_calls(completion: Completion, case: Case, _: Random) -> Completion | None:
    (call, *others) = calls_of(completion)
    if others:
        return None
    calls = [copy.deepcopy(call) for _ in range(_MANY)]
    for position, one in enumerate(calls):
        one["id"] = call_id(case, one["function"].get("name"), position)
    return with_calls(completion, calls)


# --- streams --------------------------------------------------------------------------------------


def _cumulative(chunks: list[Chunk]) -> list[Chunk]:
    """Send the arguments of each call in two deltas, of which the second is all of them."""
    texts: dict[Any, str] = {}
    for chunk in chunks:
        for delta in call_deltas(chunk):
            texts[delta["index"]] = texts.get(delta["index"], "") + delta["function"]["arguments"]
    changed: list[Chunk] = []
    sent: set[Any] = set()
    for chunk in chunks:
        deltas = call_deltas(chunk)
        if not deltas or not deltas[0]["function"]["arguments"]:
            changed.append(chunk)
            continue
        index = deltas[0]["index"]
        if index not in sent:
            sent.add(index)
            for text in (_half(texts[index]), texts[index]):
                changed.append(copy.deepcopy(chunk))
                call_deltas(changed[-1])[0]["function"]["arguments"] = text
    return changed


def _half(text: str) -> str:
    return text[: max(1, len(text) // 2)]


def _said_twice(completion: Completion) -> Completion:
    calls = calls_of(completion)
    for call in calls:
        text = call["function"]["arguments"]
        call["function"]["arguments"] = _half(text) + text
    return with_calls(completion, calls)


def _has_objects(completion: Completion, _: Case, __: Random) -> Completion | None:
    values = [_value(call["function"]["arguments"]) for call in calls_of(completion)]
    return completion if all(isinstance(value, dict) for value in values) else None


def _without_calls(completion: Completion, _: Case, __: Random) -> Completion | None:
    return altered(completion, "stop", content="", tool_calls=None, reasoning_content=None)


def _with_empty_calls(chunks: list[Chunk]) -> list[Chunk]:
    changed = copy.deepcopy(chunks)
    empty = copy.deepcopy(changed[0])
    empty["choices"][0]["delta"] = {"tool_calls": []}
    # Not the last one, with which some servers send the finish_reason.
    last = copy.deepcopy(changed[0])
    last["choices"][0]["delta"] = {"content": ""}
    return [changed[0], empty, last, *changed[1:]]


def _as_messages(chunks: list[Chunk]) -> list[Chunk]:
    changed = copy.deepcopy(chunks)
    for chunk in changed:
        for choice in chunk["choices"]:
            choice["message"] = {"role": "assistant", **choice["delta"]}
            choice["delta"] = {}
    return changed


def _saying_nothing(completion: Completion) -> Completion:
    return altered(completion, finish_of(completion), content="", tool_calls=None, reasoning_content=None)


def _in_choice_1(chunks: list[Chunk]) -> list[Chunk]:
    changed = copy.deepcopy(chunks)
    for chunk in changed:
        if call_deltas(chunk):
            chunk["choices"][0]["index"] = 1
    # The finish_reason, with whatever delta it comes, is that of choice 0.
    place = next(place for place, chunk in enumerate(changed) if is_terminal(chunk))
    last = copy.deepcopy(changed[0])
    last["choices"][0]["delta"] = {"content": ""}
    return [*changed[:place], last, *changed[place:]]


def _calling_nothing(completion: Completion) -> Completion:
    return altered(completion, finish_of(completion), tool_calls=None)


FAULTS = (
    PayloadFault(C.TOOL_CALL_ID_REUSED, _reused_id, calls=True),
    PayloadFault(C.MARKUP_IN_ARGUMENTS, _markup_in_arguments, calls=True),
    PayloadFault(C.MARKUP_IN_TOOL_CALL_ID, _swallowed_into_id, calls=True),
    PayloadFault(C.CALL_IN_CONTENT, _in_other_notation, calls=True),
    PayloadFault(C.DEGENERATE_TEXT, _loop),
    PayloadFault(C.REPEATED_CALL, _many_calls, calls=True),
    PayloadFault(
        C.STREAM_CUMULATIVE, _has_objects, calls=True, stream=True, rewrite=_cumulative, seen=_said_twice
    ),
    PayloadFault(
        C.STREAM_EMPTY_TOOL_CALLS, _without_calls, calls=True, stream=True, rewrite=_with_empty_calls
    ),
    PayloadFault(
        C.STREAM_MESSAGE_FOR_DELTA, unchanged, stream=True, rewrite=_as_messages, seen=_saying_nothing
    ),
    PayloadFault(
        C.CALL_IN_OTHER_CHOICE,
        unchanged,
        calls=True,
        stream=True,
        rewrite=_in_choice_1,
        seen=_calling_nothing,
    ),
)
