"""A faithful endpoint of one model: it answers by rules, and refuses what the official API refuses.

Its rules are its own, not those of the probes or of their judgement, so that a mistake in one shows in the
other. The faults, each made for one kind of expectation, are data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from jsonschema import Draft202012Validator

from k2_verifier_adapter.core.model_profiles import ModelProfile, without_reasoning
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.simulator.completions import (
    BYTES_A_TOKEN,
    CREATED,
    FINGERPRINT,
    Chunk,
    Completion,
    altered,
    call_deltas,
    calls_of,
    chunks_of,
    finish_of,
    is_terminal,
    with_calls,
    with_choice,
    with_usage,
)
from k2_verifier_adapter.simulator.faults import suggestion
from k2_verifier_adapter.simulator.instances import instance_of

Body = dict[str, Any]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_FIXED: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "temperature": (0.0, 0.6, 1.0),
        "top_p": (0.95,),
        "presence_penalty": (0,),
        "frequency_penalty": (0,),
        "n": (1,),
    }
)
_MOST_CHOICES = 5
_COUNTED = {'[{"content":"你好","role":"assistant"}]': 99}
"""Prompt tokens of K3's reference with the effort high, from KVV's README."""


class RefusedError(Exception):
    """What the official API answers with status 400; the message is its words."""


@dataclass(frozen=True, slots=True)
class ContractFault:
    """One way to break the contract.

    Attributes:
        breaks: The expectation that it breaks.
        request: What the engine sees of a request, in the place of it.
        refuse: Why a request is refused that the official API takes; None if it is not.
        completion: What becomes of an answer, given the request.
        chunks: What becomes of the chunks of a stream.
        checks: Whether anything is refused at all.
        done: Whether a stream ends with `[DONE]`.
    """

    name: str
    breaks: str
    request: Callable[[Body], Body] = lambda body: body
    refuse: Callable[[Body], str | None] = lambda _: None
    completion: Callable[[Completion, Body], Completion] = lambda completion, _: completion
    chunks: Callable[[list[Chunk]], list[Chunk]] = lambda chunks: chunks
    checks: bool = True
    done: bool = True


class FaithfulEndpoint:
    """Answers requests for a model as its official API does, but for the faults."""

    def __init__(self, profile: ModelProfile, faults: Iterable[str] = (), model: str = "") -> None:
        """Take the model; an unknown fault is a `UsageError`."""
        self._profile = profile
        self._model = model or profile.name
        self._faults = [_fault_named(name) for name in faults]

    def answer(self, body: Body) -> Completion:
        """Give the completion, or raise `RefusedError`."""
        if all(fault.checks for fault in self._faults):
            _check(body, self._profile)
        for fault in self._faults:
            why = fault.refuse(body)
            if why is not None:
                raise RefusedError(why)
            body = fault.request(body)
        completion = _completion(body, self._profile, self._model)
        for fault in self._faults:
            completion = fault.completion(completion, body)
        return completion

    def chunks(self, completion: Completion, *, include_usage: bool) -> tuple[list[Chunk], bool]:
        """Give the chunks of a stream, and whether `[DONE]` follows them."""
        with_count = include_usage and "usage" in completion
        chunks = chunks_of(completion, None, include_usage=with_count)
        for fault in self._faults:
            chunks = fault.chunks(chunks)
        return chunks, all(fault.done for fault in self._faults)


# --- what is refused -----------------------------------------------------------------------------


def _check(body: Body, profile: ModelProfile) -> None:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RefusedError("messages must not be empty")
    tools = body.get("tools") or []
    names = [_checked_name(tool, "tools") for tool in tools]
    for place, message in enumerate(messages):
        if "tools" in message:
            names += _declared(message, place, profile)
        if message.get("role") == "tool" and not message.get("tool_call_id"):
            raise RefusedError(f"message at position {place}: tool_call_id is not found")
    if len(set(names)) != len(names):
        raise RefusedError("function name is duplicated in tools")
    _check_sampling(body, profile)
    _check_choice(body, profile, has_tools=bool(names))
    _check_format(body.get("response_format"))
    missing = without_reasoning(messages, profile) if thinks(body, profile) else []
    if missing:
        raise RefusedError(
            "thinking is enabled but reasoning_content is missing in assistant tool call message at index "
            f"{missing[0]}"
        )


def _declared(message: Mapping[str, Any], place: int, profile: ModelProfile) -> list[str]:
    where = f"message at position {place}"
    if not profile.dynamic_tools:
        raise RefusedError(f"{where}: tokenization failed")
    if message.get("role") != "system":
        raise RefusedError(f"{where}: tools are allowed in system messages only")
    if message.get("content"):
        raise RefusedError(f"{where}: tools cannot be used with content")
    if not isinstance(message["tools"], list):
        raise RefusedError(f"{where}: tools must be a list")
    return [_checked_name(tool, where) for tool in message["tools"]]


def _checked_name(tool: Any, where: str) -> str:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type") != "function":
        raise RefusedError(f"{where}: a tool must be of type function, with a function")
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RefusedError(f"{where}: function name is invalid")
    return name


def _check_sampling(body: Body, profile: ModelProfile) -> None:
    if profile.fixed_sampling:
        for name, allowed in _FIXED.items():
            if name in body and body[name] not in allowed:
                raise RefusedError(f"invalid {name}: only {allowed[-1]:g} is allowed for this model")
    elif body.get("temperature", 0) < 0 or body.get("n", 1) > _MOST_CHOICES:
        raise RefusedError("invalid temperature or n")


def _check_choice(body: Body, profile: ModelProfile, *, has_tools: bool) -> None:
    choice = body.get("tool_choice", "auto")
    of_k2 = thinks(body, profile) and profile.markup == "k2"
    if isinstance(choice, dict):
        if of_k2:
            raise RefusedError("tool_choice 'specified' is incompatible with thinking enabled")
        return
    if choice not in ("auto", "none", "required"):
        raise RefusedError(f"invalid tool_choice: {choice}")
    if choice == "required" and not has_tools:
        raise RefusedError("tool_choice 'required' needs tools")
    if choice == "required" and of_k2:
        raise RefusedError("tool_choice 'required' is incompatible with thinking enabled")


def _check_format(wanted: Any) -> None:
    if wanted is None:
        return
    if wanted.get("type") not in ("text", "json_object", "json_schema"):
        raise RefusedError("invalid response_format.type")
    if wanted["type"] == "json_schema":
        given = wanted.get("json_schema")
        fits = isinstance(given, dict) and isinstance(given.get("name"), str)
        if not fits or not isinstance(given.get("schema"), dict):
            raise RefusedError("response_format.json_schema needs a name and a schema")
        if not isinstance(given.get("strict", True), bool):
            raise RefusedError("response_format.json_schema.strict must be a boolean")


# --- what is answered ----------------------------------------------------------------------------


def thinks(body: Mapping[str, Any], profile: ModelProfile) -> bool:
    """Whether the model reasons about a request."""
    thinking = body.get("thinking")
    disabled = isinstance(thinking, dict) and thinking.get("type") == "disabled"
    return bool(profile.reasoning_fields) and not (disabled and profile.thinking["off"] == "on_request")


def _tools_of(body: Body) -> list[dict[str, Any]]:
    declared = [tool for message in body["messages"] for tool in message.get("tools") or ()]
    functions = [
        tool.get("function") for tool in (*(body.get("tools") or ()), *declared) if isinstance(tool, dict)
    ]
    return [function for function in functions if isinstance(function, dict) and function.get("name")]


def _completion(body: Body, profile: ModelProfile, model: str) -> Completion:
    calls = [_call(function, body, profile, place) for place, function in enumerate(_called(body))]
    message: dict[str, Any] = {"role": "assistant", "content": "" if calls else _content(body)}
    if thinks(body, profile):
        message["reasoning_content"] = "I look at what is asked, and at the tools that I have."
    if calls:
        message["tool_calls"] = calls
    finish = "tool_calls" if calls else "stop"
    return with_usage(
        {
            "id": "chatcmpl-faithful",
            "object": "chat.completion",
            "created": CREATED,
            "model": model,
            "system_fingerprint": FINGERPRINT,
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {"prompt_tokens": _prompt_tokens(body)},
        }
    )


def _called(body: Body) -> list[dict[str, Any]]:
    """Choose the tools that are called: those that the prompt names, else the one that fits it best."""
    functions, choice = _tools_of(body), body.get("tool_choice", "auto")
    asked: dict[str, Any] = next((m for m in reversed(body["messages"]) if m.get("role") == "user"), {})
    text = str(asked.get("content", "")).lower()
    if not functions or choice == "none":
        return []
    if choice == "auto" and (body["messages"][-1].get("role") == "tool" or not _asks_for_tools(text)):
        return []
    named = [function for function in functions if function["name"].lower() in text]
    if named:
        return named
    scores = [
        sum(part in text for part in re.split(r"[_-]", function["name"].lower())) for function in functions
    ]
    return [functions[scores.index(max(scores))]]


def _asks_for_tools(text: str) -> bool:
    return "tool" in text and "do not" not in text


def _call(function: Mapping[str, Any], body: Body, profile: ModelProfile, place: int) -> dict[str, Any]:
    before = sum(len(message.get("tool_calls") or ()) for message in body["messages"])
    name, number = function["name"], before + place
    arguments = json.dumps(valid_instance(function.get("parameters") or {}), ensure_ascii=False)
    call_id = f"{name}_{number}" if profile.any_id else f"functions.{name}:{number}"
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def valid_instance(schema: Any) -> Any:
    """Generate a value that a schema allows; of a union that recurses, by its other members."""
    found = None
    for candidate in (schema, _unions_reversed(schema)):
        found = instance_of(candidate)
        if Draft202012Validator(schema).is_valid(found):
            break
    return found


def _unions_reversed(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: [_unions_reversed(part) for part in reversed(item)]
            if key == "anyOf" and isinstance(item, list)
            else _unions_reversed(item)
            for key, item in value.items()
        }
    return [_unions_reversed(item) for item in value] if isinstance(value, list) else value


def _content(body: Body) -> str:
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        schema = (wanted.get("json_schema") or {}).get("schema")
        return json.dumps(valid_instance(schema if isinstance(schema, dict) else {}), ensure_ascii=False)
    return '{"city": "Lisbon"}' if wanted.get("type") == "json_object" else "It is sunny in Lisbon."


def _prompt_tokens(body: Body) -> int:
    text = json.dumps(body["messages"], ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    if text in _COUNTED:
        return _COUNTED[text]
    return (len(text) + len(json.dumps(body.get("tools") or []))) // BYTES_A_TOKEN + 1


# --- faults --------------------------------------------------------------------------------------


def _without_choice(body: Body) -> Body:
    return {name: value for name, value in body.items() if name != "tool_choice"}


def _without_dynamic_tools(body: Body) -> Body:
    messages = [{key: item for key, item in m.items() if key != "tools"} for m in body["messages"]]
    return {**body, "messages": messages}


def _each_call(change: Callable[[dict[str, Any]], Any]) -> Callable[[Completion, Body], Completion]:
    def damage(completion: Completion, _: Body) -> Completion:
        calls = calls_of(completion)
        for call in calls:
            change(call["function"])
        return with_calls(completion, calls) if calls else completion

    return damage


def _finish_stop(completion: Completion, _: Body) -> Completion:
    return altered(completion, "stop")


def _double_calls(completion: Completion, _: Body) -> Completion:
    calls = calls_of(completion)
    return with_calls(completion, [*calls, *calls]) if calls else completion


def _member(name: str, value: Any) -> Callable[[Completion, Body], Completion]:
    return lambda completion, _: altered(completion, finish_of(completion), **{name: value})


def _plain_text(completion: Completion, body: Body) -> Completion:
    wanted = "response_format" in body
    return altered(completion, "stop", content="The city is Lisbon.") if wanted else completion


def _counted_with(offset: int) -> Callable[[Completion, Body], Completion]:
    def damage(completion: Completion, _: Body) -> Completion:
        usage = completion["usage"]
        return {**completion, "usage": {**usage, "prompt_tokens": usage["prompt_tokens"] + offset}}

    return damage


def _without_usage(completion: Completion, _: Body) -> Completion:
    return {key: value for key, value in completion.items() if key != "usage"}


def _lose_calls(chunks: list[Chunk]) -> list[Chunk]:
    kept = [chunk for chunk in chunks if not call_deltas(chunk)]
    return [with_choice(chunk, finish_reason="stop") if is_terminal(chunk) else chunk for chunk in kept]


def _with_delta(chunk: Chunk, **members: Any) -> Chunk:
    return {
        **chunk,
        "choices": [{**choice, "delta": {**choice["delta"], **members}} for choice in chunk["choices"]],
    }


def _other_ids(chunks: list[Chunk]) -> list[Chunk]:
    return [{**chunk, "id": f"{chunk['id']}-{number}"} for number, chunk in enumerate(chunks)]


def _on_calls(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[list[Chunk]], list[Chunk]]:
    def rewrite(chunks: list[Chunk]) -> list[Chunk]:
        return [
            _with_delta(chunk, tool_calls=[change(delta) for delta in call_deltas(chunk)])
            if call_deltas(chunk)
            else chunk
            for chunk in chunks
        ]

    return rewrite


def _head_late(chunks: list[Chunk]) -> list[Chunk]:
    """Send the head of each call behind an empty delta of it."""
    found: list[Chunk] = []
    for chunk in chunks:
        heads = [delta for delta in call_deltas(chunk) if "id" in delta]
        found += [_with_delta(chunk, tool_calls=[{"index": delta["index"]}]) for delta in heads]
        found.append(chunk)
    return found


def _parsed_arguments(delta: dict[str, Any]) -> dict[str, Any]:
    function = delta.get("function", {})
    return {**delta, "function": {**function, "arguments": {"piece": function.get("arguments")}}}


def _finish_twice(chunks: list[Chunk]) -> list[Chunk]:
    return [copy for chunk in chunks for copy in [chunk] * (1 + is_terminal(chunk))]


def _finish_first(chunks: list[Chunk]) -> list[Chunk]:
    ends = [chunk for chunk in chunks if is_terminal(chunk)]
    return [*ends, *(chunk for chunk in chunks if not is_terminal(chunk))]


_ALL = (
    ContractFault("checks_nothing", "status", checks=False),
    ContractFault(
        "refuses_tool_turns",
        "status",
        refuse=lambda body: (
            "messages of role tool are not supported"
            if any(message.get("role") == "tool" for message in body["messages"])
            else None
        ),
    ),
    ContractFault("finish_stop", "finish_reason", completion=_finish_stop),
    ContractFault("ignores_tool_choice", "calls.some", request=_without_choice),
    ContractFault("ignores_dynamic_tools", "calls.some", request=_without_dynamic_tools),
    ContractFault(
        "renames_tools",
        "calls.names",
        completion=_each_call(lambda function: function.update(name=f"my_{function['name']}")),
    ),
    ContractFault("doubles_calls", "calls.count", completion=_double_calls),
    ContractFault(
        "breaks_schemas",
        "calls.arguments",
        completion=_each_call(lambda function: function.update(arguments='["no object"]')),
    ),
    ContractFault("drops_content", "content", completion=_member("content", "")),
    ContractFault("ignores_response_format", "content", completion=_plain_text),
    ContractFault("drops_reasoning", "reasoning", completion=_member("reasoning_content", None)),
    ContractFault(
        "ignores_thinking_setting",
        "reasoning",
        request=lambda body: {name: value for name, value in body.items() if name != "thinking"},
    ),
    ContractFault("drops_usage", "usage", completion=_without_usage),
    ContractFault("counts_four_more", "prompt_tokens", completion=_counted_with(4)),
    ContractFault("no_effort_directive", "prompt_tokens", completion=_counted_with(-67)),
    ContractFault("stream_loses_calls", "same_as", chunks=_lose_calls),
    ContractFault("stream_other_ids", "frames.one_id", chunks=_other_ids),
    ContractFault(
        "stream_role_repeated",
        "frames.role_once",
        chunks=lambda chunks: [_with_delta(chunk, role="assistant") for chunk in chunks],
    ),
    ContractFault(
        "stream_without_index",
        "frames.call_index",
        chunks=_on_calls(lambda delta: {key: item for key, item in delta.items() if key != "index"}),
    ),
    ContractFault("stream_head_late", "frames.call_head", chunks=_head_late),
    ContractFault("stream_arguments_parsed", "frames.argument_texts", chunks=_on_calls(_parsed_arguments)),
    ContractFault("stream_finish_twice", "frames.finish_once", chunks=_finish_twice),
    ContractFault("stream_finish_first", "frames.finish_last", chunks=_finish_first),
    ContractFault("stream_without_done", "frames.done", done=False),
)

CONTRACT_FAULTS: Mapping[str, ContractFault] = MappingProxyType({fault.name: fault for fault in _ALL})
"""The faults by name: at least one for every kind of expectation."""


def _fault_named(name: str) -> ContractFault:
    if name not in CONTRACT_FAULTS:
        raise UsageError(
            f"unknown fault {name!r} of a faithful endpoint: {suggestion(name, CONTRACT_FAULTS)}"
        )
    return CONTRACT_FAULTS[name]
