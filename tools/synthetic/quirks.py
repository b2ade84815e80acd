"""The oddities of real rows, each made on purpose in a few rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from random import Random

from synthetic.conversations import Conversation, Message
from synthetic.plans import Plan, Quirk
from synthetic.vocabulary import TEXTS, Json

MALFORMATIONS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("truncated", lambda text: text[: max(2, len(text) * 2 // 3)]),
    ("empty", lambda _text: ""),
    ("single_quoted", lambda text: text.replace('"', "'")),
    ("trailing_text", lambda text: f"{text}\n\nI hope this is what you meant."),
    ("concatenated", lambda text: text + text),
    ("plain_words", lambda _text: "use the same values as last time"),
    ("unquoted_keys", lambda text: re.sub(r'"(\w+)":', r"\1:", text)),
)
"""Kinds of malformed arguments, each made from well-formed ones that are not empty."""


def apply_quirk(plan: Plan, rng: Random, conversation: Conversation, tools: list[Json]) -> None:
    """Make the row's quirk, if it is one of the messages or the tools."""
    message_quirk = _MESSAGE_QUIRKS.get(plan.quirk)
    if message_quirk is not None:
        message_quirk(plan, rng, conversation.messages)
    tool_quirk = _TOOL_QUIRKS.get(plan.quirk)
    if tool_quirk is not None:
        tool_quirk(plan, rng, tools)


def _calls(messages: list[Message]) -> Iterator[Json]:
    for message in messages:
        yield from message.get("tool_calls", [])


def _results(messages: list[Message]) -> Iterator[Message]:
    return (message for message in messages if message["role"] == "tool")


def _last_user(messages: list[Message]) -> int:
    return max(position for position, message in enumerate(messages) if message["role"] == "user")


def _malform(plan: Plan, _rng: Random, messages: list[Message]) -> None:
    call = next(_calls(messages))
    _, malformed = MALFORMATIONS[plan.quirk_number % len(MALFORMATIONS)]
    call["function"]["arguments"] = malformed(call["function"]["arguments"])
    next(_results(messages))["content"] = TEXTS["argument_error"][plan.language]


def _add_system_messages(plan: Plan, rng: Random, messages: list[Message]) -> None:
    first, second = rng.choice(((0, 1), (1, 2), (2, 3)))
    reminders = TEXTS["reminders"][plan.language]
    messages.insert(0, {"role": "system", "content": reminders[first]})
    messages.insert(_last_user(messages), {"role": "system", "name": "memory", "content": reminders[second]})


def _name_system_message(plan: Plan, rng: Random, messages: list[Message]) -> None:
    named: Message = {"role": "system", "name": rng.choice(("policy", "session", "profile"))}
    if messages[0]["role"] == "system":
        messages[0] = {**named, "content": messages[0]["content"]}
    else:
        messages.insert(0, {**named, "content": rng.choice(TEXTS["reminders"][plan.language])})


def _drop_result_names(_plan: Plan, _rng: Random, messages: list[Message]) -> None:
    for message in _results(messages):
        message.pop("name", None)


def _drop_content(_plan: Plan, _rng: Random, messages: list[Message]) -> None:
    for message in messages:
        if "tool_calls" in message:
            del message["content"]


def _null_content(_plan: Plan, _rng: Random, messages: list[Message]) -> None:
    for message in messages:
        if "tool_calls" in message:
            message["content"] = None


def _drop_call_id(plan: Plan, _rng: Random, messages: list[Message]) -> None:
    del next(_calls(messages))["id"]
    if plan.quirk_number % 2:
        del next(_results(messages))["tool_call_id"]


def _rename_ids(_plan: Plan, rng: Random, messages: list[Message]) -> None:
    renamed = {call["id"]: f"call_{rng.getrandbits(64):016x}" for call in _calls(messages)}
    for call in _calls(messages):
        call["id"] = renamed[call["id"]]
    for message in _results(messages):
        message["tool_call_id"] = renamed[message["tool_call_id"]]


def _split_content(_plan: Plan, rng: Random, messages: list[Message]) -> None:
    for message in messages:
        if message["role"] == "user":
            cut = rng.randrange(len(message["content"]))
            parts = (message["content"][:cut], message["content"][cut:])
            message["content"] = [{"type": "text", "text": part} for part in parts if part]


def _add_input_message(plan: Plan, rng: Random, messages: list[Message]) -> None:
    content = rng.choice(TEXTS["reminders"][plan.language])
    messages.insert(_last_user(messages), {"role": "_input", "content": content})


def _add_developer_message(plan: Plan, rng: Random, messages: list[Message]) -> None:
    if messages[0]["role"] == "system":
        messages[0]["role"] = "developer"
    else:
        messages.insert(0, {"role": "developer", "content": rng.choice(TEXTS["reminders"][plan.language])})


def _use_unknown_tool(_plan: Plan, rng: Random, messages: list[Message]) -> None:
    name = rng.choice(("legacy_lookup", "internal_router", "get_context"))
    call, result = next(_calls(messages)), next(_results(messages))
    call["function"]["name"] = name
    call["id"] = result["tool_call_id"] = f"functions.{name}:0"
    if "name" in result:
        result["name"] = name


def _add_emoji(_plan: Plan, rng: Random, messages: list[Message]) -> None:
    for message in messages:
        if message["role"] in ("user", "assistant") and message["content"]:
            message["content"] += f" {rng.choice(TEXTS['emoji'])}{rng.choice(TEXTS['emoji'])}"


def _add_lone_surrogate(_plan: Plan, _rng: Random, messages: list[Message]) -> None:
    # Half of an emoji, as a client leaves it that cuts texts by UTF-16 units.
    messages[_last_user(messages)]["content"] += " \ud83d"


def _drop_description(_plan: Plan, rng: Random, tools: list[Json]) -> None:
    rng.choice(tools)["function"].pop("description", None)


def _add_tool_without_parameters(plan: Plan, rng: Random, tools: list[Json]) -> None:
    function: Json = {
        "name": rng.choice(("get_session_status", "end_conversation")),
        "description": TEXTS["no_arguments"][plan.tool_language],
    }
    if plan.quirk_number % 2:
        function["parameters"] = {}
    tools.append({"type": "function", "function": function})


_MESSAGE_QUIRKS: dict[Quirk, Callable[[Plan, Random, list[Message]], None]] = {
    Quirk.MALFORMED_HISTORY: _malform,
    Quirk.SEVERAL_SYSTEM: _add_system_messages,
    Quirk.NAMED_SYSTEM: _name_system_message,
    Quirk.TOOL_MESSAGE_WITHOUT_NAME: _drop_result_names,
    Quirk.NO_CONTENT: _drop_content,
    Quirk.NULL_CONTENT: _null_content,
    Quirk.CALL_WITHOUT_ID: _drop_call_id,
    Quirk.FOREIGN_IDS: _rename_ids,
    Quirk.CONTENT_PARTS: _split_content,
    Quirk.INPUT_ROLE: _add_input_message,
    Quirk.DEVELOPER_ROLE: _add_developer_message,
    Quirk.UNKNOWN_TOOL: _use_unknown_tool,
    Quirk.EMOJI: _add_emoji,
    Quirk.LONE_SURROGATE: _add_lone_surrogate,
}
_TOOL_QUIRKS: dict[Quirk, Callable[[Plan, Random, list[Json]], None]] = {
    Quirk.TOOL_WITHOUT_DESCRIPTION: _drop_description,
    Quirk.TOOL_WITHOUT_PARAMETERS: _add_tool_without_parameters,
}
