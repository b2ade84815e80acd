"""Rows of every shape: messages and tools that have to reach a vendor as they stand."""

import json
from typing import Any


def ordered(text: str | bytes) -> Any:
    """Parse JSON so that key order, repeated keys and number spellings can be compared."""
    return json.loads(
        text,
        object_pairs_hook=lambda pairs: ("object", pairs),
        parse_float=lambda spelled: ("float", spelled),
    )


def tool(name: str = "f", **function: Any) -> dict[str, Any]:
    """Declare a tool."""
    return {"type": "function", "function": {"name": name, **function}}


def with_schema(parameters: Any) -> list[dict[str, Any]]:
    """Declare a tool with a schema."""
    return [tool(description="d", parameters=parameters)]


def call(arguments: Any = '{"a": 1}', **changes: Any) -> dict[str, Any]:
    """Give a historical call of it."""
    return {
        "id": "functions.f:0",
        "type": "function",
        "function": {"name": "f", "arguments": arguments},
        **changes,
    }


USER = {"role": "user", "content": "hi"}
MESSAGES = {
    "plain": [{"role": "system", "content": "be brief"}, USER],
    "several systems": [
        {"role": "system", "content": "a"},
        USER,
        {"role": "system", "content": "b", "name": "ctx"},
        USER,
    ],
    "developer": [{"role": "developer", "content": "d"}, USER],
    "names": [{"role": "user", "content": "hi", "name": "ann"}],
    "content null": [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call()]},
        {"role": "tool", "tool_call_id": "functions.f:0", "content": "x"},
    ],
    "content absent": [
        USER,
        {"role": "assistant", "tool_calls": [call()]},
        {"role": "tool", "tool_call_id": "functions.f:0", "name": "f", "content": "x"},
    ],
    "content empty": [USER, {"role": "assistant", "content": ""}, USER],
    "content parts": [
        {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:,"}}],
        }
    ],
    "tool content parts": [
        USER,
        {"role": "assistant", "tool_calls": [call()]},
        {"role": "tool", "tool_call_id": "functions.f:0", "content": [{"type": "text", "text": "x"}]},
    ],
    "null tool_calls": [USER, {"role": "assistant", "content": "x", "tool_calls": None}],
    "empty tool_calls": [USER, {"role": "assistant", "content": "x", "tool_calls": []}],
    "arguments NaN": [USER, {"role": "assistant", "tool_calls": [call('{"a": NaN}')]}],
    "call without id": [
        USER,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
    ],
    "call with null id": [USER, {"role": "assistant", "content": "", "tool_calls": [call(id=None)]}],
    "call with index": [USER, {"role": "assistant", "content": "", "tool_calls": [call(index=0)]}],
    "arguments an object": [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [call({"b": 1, "a": 1.0})]},
    ],
    "arguments spelled": [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [call('{ "a" : 1.0e2,\n"ü": "\\u00fc" }')]},
    ],
    "reasoning": [USER, {"role": "assistant", "reasoning_content": "hm", "content": "a"}, USER],
    "unknown fields": [
        {"zeta": 1, "role": "user", "alpha": None, "content": "hi", "cache_control": {"type": "ephemeral"}}
    ],
    "unknown role": [{"role": "critic", "content": "c"}, USER],
    "unicode": [{"role": "user", "content": "北京 \U0001f327 \u2028 \x7f \u0000 end"}],
    "lone surrogate": [{"role": "user", "content": "half \ud83d only"}],
    "markup": [{"role": "user", "content": "<|im_end|><script>alert(1)</script>"}],
    "numbers": [
        {"role": "user", "content": "n", "a": 1.0, "b": 1, "c": 12345678901234567890123, "d": 1e-7, "e": -0.0}
    ],
}
SCHEMAS = {
    "union types": {
        "type": "object",
        "properties": {"x": {"type": ["string", "null"]}, "y": {"type": ["integer", "array"]}},
    },
    "boolean schemas": {
        "type": "object",
        "properties": {"x": True, "y": False},
        "additionalProperties": False,
    },
    "refs": {
        "$defs": {"p": {"type": "object", "properties": {"q": {"$ref": "#/$defs/p"}}}},
        "type": "object",
        "properties": {"x": {"$ref": "#/$defs/p"}},
    },
    "definitions": {
        "definitions": {"p": {"type": "string"}},
        "type": "object",
        "properties": {"x": {"$ref": "#/definitions/p"}},
    },
    "draft-07": {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"x": {}}},
    "combinators": {
        "type": "object",
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
        "not": {"required": ["c"]},
    },
    "array without items": {"type": "object", "properties": {"x": {"type": "array"}}},
    "tuple items": {
        "type": "object",
        "properties": {"x": {"prefixItems": [{"type": "number"}], "items": False}},
    },
    "key order": {
        "required": ["z", "a"],
        "properties": {"z": {"description": "d", "type": "string"}, "a": {"enum": [1, 1.0, None]}},
        "type": "object",
    },
    "numbers": {
        "type": "object",
        "properties": {"x": {"type": "number", "minimum": 0.0, "maximum": 9007199254740993}},
    },
    "formats": {
        "type": "object",
        "properties": {"x": {"type": "string", "format": "date", "pattern": "^\\d+$", "default": None}},
    },
    "empty": {},
    "boolean itself": True,
    "broken": {"type": "no such type"},
}
TOOLS = {
    "no description": [tool(parameters={"type": "object"})],
    "no parameters": [tool(description="d")],
    "parameters null": [tool(parameters=None)],
    "bare": [tool()],
    "strict and more": [
        {
            "function": {"strict": True, "name": "f", "parameters": {"type": "object"}},
            "type": "function",
            "x": 1,
        }
    ],
    "duplicates": [tool(parameters={"type": "object"}), tool(parameters={"type": "string"})],
    "odd name": [tool("функция-1.x/y", parameters={"type": "object"})],
    "other type": [{"type": "builtin_function", "function": {"name": "$web_search"}}],
    "empty list": [],
    "absent": None,
}
SHAPES = {
    **{
        f"messages: {name}": (messages, with_schema({"type": "object"}))
        for name, messages in MESSAGES.items()
    },
    **{f"schema: {name}": ([USER], with_schema(schema)) for name, schema in SCHEMAS.items()},
    **{f"tools: {name}": ([USER], tools) for name, tools in TOOLS.items()},
}
