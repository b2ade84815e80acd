"""Faults of a whole answer, and those around the arguments: names and ids, finish_reason, texts, deltas."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.failure_classes import FailureClass as C
from k2_verifier_adapter.simulator.completions import (
    Chunk,
    Completion,
    altered,
    call_deltas,
    call_id,
    calls_of,
    content_of,
    declared_tools,
    finish_of,
    generated_call,
    with_calls,
)

Damage = Callable[[Completion, Case, Random], "Completion | None"]
"""Gives the damaged completion, or None where the fault cannot apply; the argument is not changed."""


@dataclass(frozen=True, slots=True)
class PayloadFault:
    """A completion that arrives whole, and is wrong.

    Attributes:
        calls: Whether it applies to official answers with tool calls or without; None for both. `damage`
            decides the rest.
        stream: Whether it applies to requests with `stream` or without; None for both.
        as_body: Whether it comes as one JSON body although a stream was asked for.
        rewrite: What is done to the chunks of the damaged completion, for a fault of streams.
        seen: The completion that upstream's reassembly makes of the rewritten chunks; None for the one sent.
    """

    failure_class: FailureClass
    damage: Damage
    calls: bool | None = None
    stream: bool | None = None
    variant: str | None = None
    as_body: bool = False
    rewrite: Callable[[list[Chunk]], list[Chunk]] | None = None
    seen: Callable[[Completion], Completion] | None = None

    @property
    def name(self) -> str:
        """Name in profiles."""
        return self.variant or self.failure_class.value


_TEXT_INSTEAD_OF_CALL = "I can answer that without looking anything up: it depends on the details. 好的。"
_THOUGHT = "The user wants me to do this. I should look at the tools that I have. 我先想一想。"
_TEXT = "One moment, please."

# --- names and ids -------------------------------------------------------------------------------


def _undeclared(completion: Completion, case: Case, rng: Random) -> Completion | None:
    declared = {name.casefold() for name, _ in declared_tools(case.declared_tools())}
    name = "run_shell_command"
    while name in declared:
        name += "_v2"
    calls = calls_of(completion)
    position = rng.randrange(len(calls))
    calls[position]["function"]["name"] = name
    calls[position]["id"] = call_id(case, name, position)
    return with_calls(completion, calls)


def _misspelt(completion: Completion, case: Case, rng: Random) -> Completion | None:
    declared = {name for name, _ in declared_tools(case.declared_tools())}
    calls = calls_of(completion)
    position = rng.randrange(len(calls))
    function = calls[position]["function"]
    name = function.get("name")
    if name not in declared:
        return None
    spellings = [f"functions.{name}", name.upper(), name.swapcase(), name.capitalize()]
    function["name"] = rng.choice([spelling for spelling in spellings if spelling not in declared])
    calls[position]["id"] = call_id(case, function["name"], position)
    return with_calls(completion, calls)


def _opaque_id(completion: Completion, _: Case, rng: Random) -> Completion | None:
    calls = calls_of(completion)
    for call in calls:
        call["id"] = f"call_{rng.getrandbits(96):024x}"
    return with_calls(completion, calls)


def _same_id(completion: Completion, _: Case, __: Random) -> Completion | None:
    calls = calls_of(completion)
    return with_calls(completion, [*calls, copy.deepcopy(calls[-1])])


# --- finish_reason and decision ------------------------------------------------------------------


def _alter(finish_reason: str | None, **members: Any) -> Damage:
    return lambda completion, _case, _rng: altered(completion, finish_reason, **members)


def _finish_unknown(completion: Completion, _: Case, rng: Random) -> Completion | None:
    return altered(completion, rng.choice(("function_call", "eos", "tool_use")))


def _cut(finish_reason: str, completion: Completion, _: Case, rng: Random) -> Completion | None:
    text = content_of(completion) or _TEXT_INSTEAD_OF_CALL
    kept = text[: rng.randint(1, max(1, len(text) - 1))]
    return altered(completion, finish_reason, content=kept, tool_calls=None)


def _miss(completion: Completion, _: Case, __: Random) -> Completion | None:
    content = content_of(completion) or _TEXT_INSTEAD_OF_CALL
    return altered(completion, "stop", content=content, tool_calls=None)


def _call_anyway(completion: Completion, case: Case, _: Random) -> Completion | None:
    call = generated_call(case)
    return None if call is None else altered(completion, "tool_calls", content="", tool_calls=[call])


# --- texts ---------------------------------------------------------------------------------------

_REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_details")
"""Where vendors put reasoning text; newer vLLM and OpenRouter use the last two."""


def _leak_into_content(completion: Completion, _: Case, __: Random) -> Completion | None:
    markup = content_of(completion) + _k2_markup(calls_of(completion))
    return altered(completion, "stop", content=markup, tool_calls=None)


def _leak_into_reasoning(field: str, completion: Completion, _: Case, __: Random) -> Completion | None:
    text = _THOUGHT + _k2_markup(calls_of(completion))
    return _with_reasoning(completion, field, text, content=content_of(completion) or _TEXT)


def _only_reasoning(field: str, completion: Completion, _: Case, __: Random) -> Completion | None:
    return _with_reasoning(completion, field, _THOUGHT, content="")


def _with_reasoning(completion: Completion, field: str, text: str, *, content: str) -> Completion:
    """Stop with this reasoning and this content, without calls."""
    plain = altered(completion, "stop", content=content, tool_calls=None, reasoning_content=None)
    reasoning = [{"type": "reasoning.text", "text": text}] if field == "reasoning_details" else text
    return altered(plain, "stop", **{field: reasoning})


def _k2_markup(calls: list[dict[str, Any]]) -> str:
    """Write tool calls in K2's own markup, as a model does before a tool parser reads it."""
    written = ""
    for number, call in enumerate(calls):
        function = call["function"]
        standard = str(call["id"]).startswith("functions.")
        name = call["id"] if standard else f"functions.{function['name']}:{number}"
        written += f"<|tool_call_begin|>{name}<|tool_call_argument_begin|>{function['arguments']}"
        written += "<|tool_call_end|>"
    return f"<|tool_calls_section_begin|>{written}<|tool_calls_section_end|>"


def _leak_token(completion: Completion, _: Case, rng: Random) -> Completion | None:
    content, finish_reason = content_of(completion), finish_of(completion)
    if not content or finish_reason != "stop":
        return None
    token = rng.choice(("<|im_end|>", "<|im_middle|>"))
    return altered(completion, finish_reason, content=content + token)


# --- deltas of calls, of a completion that is sound ----------------------------------------------


def _at_least_two(completion: Completion, case: Case, _: Random) -> Completion | None:
    """Call twice where the official answer calls once; one call loses nothing with its index.

    Calls of several tools are left out: merged, they would be wrong in their name and id, too.
    """
    calls = calls_of(completion)
    if len({call["function"].get("name") for call in calls}) > 1:
        return None
    if len(calls) == 1:
        second = copy.deepcopy(calls[0])
        second["id"] = call_id(case, second["function"].get("name"), 1)
        calls.append(second)
    return with_calls(completion, calls)


def _drop_from_deltas(member: str, chunks: list[Chunk]) -> list[Chunk]:
    changed = copy.deepcopy(chunks)
    for chunk in changed:
        for delta in call_deltas(chunk):
            delta.pop(member, None)
    return changed


def _merged(completion: Completion) -> Completion:
    """Upstream takes every missing index for 0: first id, last name, all arguments in a row."""
    calls = calls_of(completion)
    merged = copy.deepcopy(calls[0])
    merged["function"]["name"] = calls[-1]["function"].get("name")
    merged["function"]["arguments"] = "".join(call["function"]["arguments"] for call in calls)
    return with_calls(completion, [merged])


def unchanged(completion: Completion, _: Case, __: Random) -> Completion | None:
    """Leave the answer as it is: the fault is in the stream, or in what stands beside it."""
    return completion


def _without_ids(completion: Completion) -> Completion:
    return with_calls(completion, [{**call, "id": None} for call in calls_of(completion)])


def _has_arguments(completion: Completion, _: Case, __: Random) -> Completion | None:
    return completion if all(call["function"]["arguments"] for call in calls_of(completion)) else None


def _repeat_names(chunks: list[Chunk]) -> list[Chunk]:
    changed = copy.deepcopy(chunks)
    names: dict[int, Any] = {}
    for chunk in changed:
        for delta in call_deltas(chunk):
            delta["function"]["name"] = names.setdefault(delta["index"], delta["function"].get("name"))
    return changed


FAULTS = (
    PayloadFault(C.UNDECLARED_TOOL, _undeclared, calls=True),
    PayloadFault(C.TOOL_NAME_CASE_OR_PREFIX, _misspelt, calls=True),
    PayloadFault(C.NONSTANDARD_TOOL_CALL_ID, _opaque_id, calls=True),
    PayloadFault(C.DUPLICATE_TOOL_CALL_ID, _same_id, calls=True),
    PayloadFault(C.FINISH_TOOL_CALLS_WITHOUT_CALLS, _alter("tool_calls", tool_calls=[]), calls=True),
    PayloadFault(C.CALLS_WITHOUT_FINISH_TOOL_CALLS, _alter("stop"), calls=True),
    # A stream without a terminal finish_reason is a cut stream (declared deviation 1).
    PayloadFault(C.FINISH_REASON_MISSING, _alter(None), calls=False, stream=False),
    PayloadFault(C.FINISH_REASON_UNKNOWN, _finish_unknown, calls=False),
    PayloadFault(C.TRUNCATED_BY_LENGTH, partial(_cut, "length")),
    PayloadFault(C.CONTENT_FILTERED, partial(_cut, "content_filter")),
    PayloadFault(C.MISSED_CALL, _miss, calls=True),
    PayloadFault(C.EXTRA_CALL, _call_anyway, calls=False),
    PayloadFault(C.MARKUP_IN_CONTENT, _leak_into_content, calls=True),
    *(
        PayloadFault(
            C.MARKUP_IN_REASONING,
            partial(_leak_into_reasoning, field),
            calls=True,
            variant=f"markup_in_reasoning_as_{field}",
        )
        for field in _REASONING_FIELDS
    ),
    PayloadFault(C.SPECIAL_TOKEN_LEAK, _leak_token, calls=False),
    PayloadFault(C.EMPTY_RESPONSE, _alter("stop", content="", tool_calls=None, reasoning_content=None)),
    *(
        PayloadFault(C.REASONING_ONLY, partial(_only_reasoning, field), variant=f"reasoning_only_as_{field}")
        for field in _REASONING_FIELDS
    ),
    PayloadFault(
        C.STREAM_INDEX_MISSING,
        _at_least_two,
        calls=True,
        stream=True,
        rewrite=partial(_drop_from_deltas, "index"),
        seen=_merged,
    ),
    PayloadFault(
        C.STREAM_ID_MISSING,
        unchanged,
        calls=True,
        stream=True,
        rewrite=partial(_drop_from_deltas, "id"),
        seen=_without_ids,
    ),
    PayloadFault(C.STREAM_NAME_REPEATED, _has_arguments, calls=True, stream=True, rewrite=_repeat_names),
    PayloadFault(C.STREAM_IGNORED, unchanged, stream=True, as_body=True),
)
