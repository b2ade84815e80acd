"""Judging agrees, response by response, with a second implementation of upstream's rules."""

import json
import socket
import urllib.request
from dataclasses import dataclass
from typing import Any

import jsonschema
import pytest

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.failure_classes import FailureClass, Group
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.judgement import Judgement
from k2_verifier_adapter.core.judging.judge import judge
from k2_verifier_adapter.core.responses import NotACompletion, Response, parse_completion

MISSING = object()


def tool(name: Any, parameters: Any = MISSING) -> dict[str, Any]:
    """Declare a function tool."""
    function = {"name": name}
    if parameters is not MISSING:
        function["parameters"] = parameters
    return {"type": "function", "function": function}


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
STRICT = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 1},
        "unit": {"type": "string", "enum": ["c", "f"]},
        "tag": {"const": "x"},
        "day": {"type": "string", "pattern": r"^\d{4}-\d{2}$"},
        "when": {"type": "string", "format": "date"},
        "of": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "list": {"type": "array", "items": {"type": "number"}, "uniqueItems": True},
    },
    "additionalProperties": False,
}
REMOTE = {"$ref": "https://example.invalid/schema.json"}
D4 = "http://json-schema.org/draft-04/schema#"
D7 = "http://json-schema.org/draft-07/schema#"
TOOLS = [
    tool("city", CITY),
    tool("strict", STRICT),
    tool("empty", {}),
    tool("null", None),
    tool("absent"),
    tool("twice", CITY),
    tool("twice", {"type": "object"}),
    tool("bare_first", {}),
    tool("bare_first", CITY),
    tool("anything", True),
    tool("nothing", False),
    tool("list", []),
    tool("text", "object"),
    tool("number", 5),
    tool("any_json", {"description": "no type at all"}),
    tool("array", {"type": "array"}),
    tool("required_object", {"type": "object", "required": {"city": True}}),
    tool("unknown_type", {"type": "str"}),
    tool("unknown_draft", {"$schema": "https://example.invalid/draft", "type": "object"}),
    tool("null_draft", {"$schema": None, "type": "object"}),
    tool("list_draft", {"$schema": ["x"], "type": "object"}),
    tool(
        "draft4",
        {"$schema": D4, "properties": {"n": {"minimum": 1, "exclusiveMinimum": True}}, "type": "object"},
    ),
    tool("draft4_without_schema", {"properties": {"n": {"minimum": 1, "exclusiveMinimum": True}}}),
    tool(
        "draft7",
        {
            "$schema": D7,
            "properties": {"a": {"$ref": "#/definitions/s", "maxLength": 1}},
            "definitions": {"s": {"type": "string"}},
        },
    ),
    tool("draft7_items", {"$schema": D7, "properties": {"a": {"items": [{"type": "string"}]}}}),
    tool("list_items_in_2020", {"properties": {"a": {"items": [{"type": "string"}]}}}),
    tool("local_ref", {"properties": {"a": {"$ref": "#/$defs/s"}}, "$defs": {"s": {"type": "string"}}}),
    tool("dangling_ref", {"properties": {"a": {"$ref": "#/$defs/none"}}}),
    tool("remote_ref", {"properties": {"a": REMOTE}}),
    tool("file_ref", {"properties": {"a": {"$ref": "file:///etc/passwd"}}}),
    tool("self_ref", {"$ref": "#"}),
    tool(
        "recursive", {"type": "object", "properties": {"child": {"$ref": "#"}}, "additionalProperties": False}
    ),
    tool("bad_pattern", {"properties": {"a": {"pattern": "(unclosed"}}}),
    tool("unevaluated", {"properties": {"a": True}, "unevaluatedProperties": False}),
    tool("forbidden", {"properties": {"a": False}}),
    tool("property_names", {"propertyNames": {"maxLength": 2}}),
    tool("nested_array", {"properties": {"a": {"items": {"properties": {"b": {"type": "integer"}}}}}}),
    tool("nullable", {"type": "object", "nullable": True, "properties": {"a": {"type": ["string", "null"]}}}),
    tool("metaschema_ref", {"$ref": "https://json-schema.org/draft/2020-12/schema"}),
]


def call(
    name: Any = MISSING, arguments: Any = MISSING, call_id: Any = MISSING, **extra: Any
) -> dict[str, Any]:
    """Build one tool call; what is MISSING is left out."""
    function = {
        key: value for key, value in (("name", name), ("arguments", arguments)) if value is not MISSING
    }
    if call_id is MISSING:
        call_id = f"functions.{name}:0"
    return {"id": call_id, "type": "function", "function": function, **extra}


def upstream(choice: dict[str, Any], tools: Any) -> tuple[str | None, bool | None]:
    """Judge as UPSTREAM_SEMANTICS.md words it; returns the bucket and `tool_calls_valid`."""
    finish = choice.get("finish_reason")
    bucket = {"stop": "stop", "tool_calls": "tool_calls"}.get(finish, "others") if finish else None
    if finish != "tool_calls":
        return bucket, None
    # Deviation 2: a null message counts as one without calls.
    calls = (choice.get("message") or {}).get("tool_calls")
    return bucket, all(upstream_valid(item, tools) for item in calls) if calls else None


def upstream_valid(tool_call: Any, tools: Any) -> bool:
    """Judge one call by the rules; any exception makes it invalid."""
    try:
        name = tool_call["function"]["name"]
        schema = next(
            item["function"].get("parameters") for item in tools if item["function"]["name"] == name
        )
        if not schema:
            return False
        # Its client fills a missing key in with null.
        arguments = tool_call["function"].get("arguments")
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        jsonschema.validate(arguments, schema)
    except Exception:
        return False
    return True


@dataclass(frozen=True)
class Example:
    """One response, and what is to be said of it."""

    name: str
    choice: dict[str, Any]
    classes: tuple[str, ...] = ()
    valid: bool | None = None
    tools: Any = None


def called(name: str, calls: Any, *classes: str, valid: bool | None, tools: Any = None) -> Example:
    """Give an example with finish_reason `tool_calls`."""
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    return Example(name, {"finish_reason": "tool_calls", "message": message}, classes, valid, tools)


def one(name: str, function: str, arguments: Any, *classes: str, valid: bool, tools: Any = None) -> Example:
    """Give an example with one call."""
    return called(name, [call(function, arguments)], *classes, valid=valid, tools=tools)


def ended(name: str, finish: Any, *classes: str, calls: Any = MISSING) -> Example:
    """Give an example that ends otherwise than with a call."""
    message: dict[str, Any] = {"role": "assistant", "content": "text"}
    if calls is not MISSING:
        message["tool_calls"] = calls
    return Example(name, {"finish_reason": finish, "message": message}, classes)


OK = call("city", '{"city": "Paris"}')
BROKEN = "broken_tool_schema"
NO_SCHEMA = "tool_without_schema"
NO_CALLS = "finish_tool_calls_without_calls"
UNASKED = "calls_without_finish_tool_calls"

EXAMPLES = [
    # The finish_reason and its buckets.
    ended("stop", "stop"),
    ended("stop with null calls", "stop", calls=None),
    ended("stop with empty calls", "stop", calls=[]),
    ended("stop with calls", "stop", UNASKED, calls=[OK]),
    ended("stop with bad calls", "stop", UNASKED, calls=[call("none", "{")]),
    ended("length", "length", "truncated_by_length"),
    ended("length with calls", "length", "truncated_by_length", UNASKED, calls=[OK]),
    ended("content_filter", "content_filter", "content_filtered"),
    ended("function_call", "function_call", "finish_reason_unknown"),
    ended("tool_use", "tool_use", "finish_reason_unknown"),
    ended("case matters", "Tool_Calls", "finish_reason_unknown", UNASKED, calls=[OK]),
    ended("space matters", "stop ", "finish_reason_unknown"),
    ended("null finish", None, "finish_reason_missing"),
    ended("null finish with calls", None, "finish_reason_missing", UNASKED, calls=[OK]),
    ended("empty finish", "", "finish_reason_missing"),
    ended("finish 0", 0, "finish_reason_missing"),
    ended("finish false", False, "finish_reason_missing"),
    ended("finish 1", 1, "finish_reason_unknown"),
    ended("finish true", True, "finish_reason_unknown"),
    Example("finish absent", {"message": {"content": "x"}}, ("finish_reason_missing",)),
    # No calls behind the finish_reason.
    called("null calls", None, NO_CALLS, valid=None),
    called("empty calls", [], NO_CALLS, valid=None),
    Example("absent calls", {"finish_reason": "tool_calls", "message": {"content": ""}}, (NO_CALLS,)),
    Example("null message", {"finish_reason": "tool_calls", "message": None}, (NO_CALLS,)),
    Example("absent message", {"finish_reason": "tool_calls"}, (NO_CALLS,)),
    Example("null message, stop", {"finish_reason": "stop", "message": None}),
    # Arguments.
    one("valid", "city", '{"city": "Paris"}', valid=True),
    one("valid object", "city", {"city": "Paris"}, valid=True),
    one("extra field allowed", "city", '{"city": "Paris", "x": 1}', valid=True),
    one("spaces around", "city", ' {"city": "Paris"}\n', valid=True),
    one("duplicate keys, last wins", "city", '{"city": 1, "city": "Paris"}', valid=True),
    one("duplicate keys, last loses", "city", '{"city": "Paris", "city": 1}', "wrong_type", valid=False),
    one("NaN", "any_json", "NaN", valid=True),
    one("NaN inside", "city", '{"city": "x", "n": NaN, "i": -Infinity}', valid=True),
    one("empty string", "city", "", "empty_arguments", valid=False),
    one("blank string", "city", " \n", "empty_arguments", valid=False),
    one("null arguments", "city", None, "not_an_object", valid=False),
    one("null arguments, no type asked", "any_json", None, valid=True),
    called("arguments missing", [call("city")], "empty_arguments", valid=False),
    called("arguments missing, no type asked", [call("any_json")], valid=True),
    called("arguments missing, any list", [call("array")], "empty_arguments", valid=False),
    one("list arguments", "city", ["Paris"], "not_an_object", valid=False),
    one("list text", "city", '["Paris"]', "not_an_object", valid=False),
    one("list where asked", "array", "[1]", valid=True),
    one("number arguments", "city", 5, "not_an_object", valid=False),
    one("scalar text", "city", "5", "not_an_object", valid=False),
    one("null text", "city", "null", "not_an_object", valid=False),
    one("scalar without type", "any_json", '"text"', valid=True),
    one("doubly encoded", "city", '"{\\"city\\": \\"Paris\\"}"', "not_an_object", valid=False),
    one("truncated object", "city", '{"city": "Par', "truncated_json", valid=False),
    one("truncated after comma", "city", '{"city": "Paris",', "truncated_json", valid=False),
    one("truncated literal", "city", '{"city": tru', "truncated_json", valid=False),
    one("truncated number", "city", '{"city": 1.', "truncated_json", valid=False),
    one("truncated escape", "city", '{"city": "\\u4', "truncated_json", valid=False),
    one("only a brace", "city", "{", "truncated_json", valid=False),
    one("concatenated", "city", '{"city": "a"}{"city": "b"}', "concatenated_json", valid=False),
    one("trailing text", "city", '{"city": "a"} done', "trailing_text", valid=False),
    one("trailing fence", "city", '{"city": "a"}\n```', "trailing_text", valid=False),
    one("single quotes", "city", "{'city': 'a'}", "single_quoted_json", valid=False),
    one("plain text", "city", "Paris", "other_invalid_json", valid=False),
    one("literal cut", "city", "tru", "other_invalid_json", valid=False),
    one("fence", "city", '```json\n{"city": "a"}\n```', "other_invalid_json", valid=False),
    one("raw newline in string", "city", '{"city": "a\nb"}', "other_invalid_json", valid=False),
    one("bom", "city", '\ufeff{"city": "a"}', "other_invalid_json", valid=False),
    one("unquoted key", "city", '{city: "a"}', "other_invalid_json", valid=False),
    one("million digits", "any_json", "1" * 1_000_000, "other_invalid_json", valid=False),
    one("10,000 deep", "any_json", "[" * 200_000 + "]" * 200_000, "other_invalid_json", valid=False),
    one("lone surrogate", "city", '{"city": "\\ud800"}', valid=True),
    one("NUL", "city", '{"city": "\\u0000"}', valid=True),
    # Schemas.
    one("required missing", "city", "{}", "missing_required", valid=False),
    one("wrong type", "city", '{"city": 1}', "wrong_type", valid=False),
    one("true is no integer", "strict", '{"n": true}', "wrong_type", valid=False),
    one("1.0 is an integer", "strict", '{"n": 1.0}', valid=True),
    one("minimum", "strict", '{"n": 0}', "other_schema_violation", valid=False),
    one("enum", "strict", '{"unit": "k"}', "enum_violation", valid=False),
    one("const", "strict", '{"tag": "y"}', "enum_violation", valid=False),
    one("pattern", "strict", '{"day": "2024"}', "other_schema_violation", valid=False),
    one("format is not checked", "strict", '{"when": "no date"}', valid=True),
    one("unexpected property", "strict", '{"x": 1}', "unexpected_property", valid=False),
    one("anyOf", "strict", '{"of": 1}', "wrong_type", valid=False),
    one("anyOf null", "strict", '{"of": null}', valid=True),
    one("unique items", "strict", '{"list": [1, 1.0]}', "other_schema_violation", valid=False),
    one("two violations", "strict", '{"n": "1", "x": 1}', "unexpected_property", "wrong_type", valid=False),
    one("array item", "nested_array", '{"a": [{"b": "x"}]}', "wrong_type", valid=False),
    one("property names", "property_names", '{"long": 1}', "unexpected_property", valid=False),
    one("property with schema false", "forbidden", '{"a": 1}', "unexpected_property", valid=False),
    one("unevaluated", "unevaluated", '{"b": 1}', "unexpected_property", valid=False),
    one("nullable is ignored", "nullable", '{"a": null}', valid=True),
    one("empty schema", "empty", "{}", NO_SCHEMA, valid=False),
    one("null schema", "null", "{}", NO_SCHEMA, valid=False),
    one("absent schema", "absent", "{}", NO_SCHEMA, valid=False),
    one("list as schema, empty", "list", "{}", NO_SCHEMA, valid=False),
    one("false as schema", "nothing", "{}", NO_SCHEMA, valid=False),
    one("true as schema", "anything", "{}", valid=True),
    one("true as schema, scalar", "anything", "5", valid=True),
    one("text as schema", "text", "{}", BROKEN, valid=False),
    one("number as schema", "number", "{}", BROKEN, valid=False),
    one("required is an object", "required_object", '{"city": "a"}', BROKEN, valid=False),
    one("unknown type", "unknown_type", "{}", BROKEN, valid=False),
    one("unknown $schema", "unknown_draft", "{}", valid=True),
    one("unknown $schema still checks", "unknown_draft", "[]", "not_an_object", valid=False),
    one("null $schema", "null_draft", "{}", BROKEN, valid=False),
    one("list $schema", "list_draft", "{}", BROKEN, valid=False),
    one("draft-04 keyword", "draft4", '{"n": 1}', "other_schema_violation", valid=False),
    one("draft-04 keyword met", "draft4", '{"n": 2}', valid=True),
    one("draft-04 keyword without $schema", "draft4_without_schema", '{"n": 2}', BROKEN, valid=False),
    one("draft-07 ignores beside $ref", "draft7", '{"a": "long"}', valid=True),
    one("draft-07 $ref", "draft7", '{"a": 1}', "wrong_type", valid=False),
    one("draft-07 list items", "draft7_items", '{"a": [1]}', "wrong_type", valid=False),
    one("list items in the latest draft", "list_items_in_2020", '{"a": ["x"]}', BROKEN, valid=False),
    one("local $ref", "local_ref", '{"a": 1}', "wrong_type", valid=False),
    one("local $ref met", "local_ref", '{"a": "x"}', valid=True),
    one("dangling $ref", "dangling_ref", '{"a": "x"}', BROKEN, valid=False),
    one("dangling $ref not reached", "dangling_ref", "{}", valid=True),
    one("remote $ref", "remote_ref", '{"a": "x"}', BROKEN, valid=False),
    one("remote $ref not reached", "remote_ref", "{}", valid=True),
    one("file $ref", "file_ref", '{"a": "x"}', BROKEN, valid=False),
    one("endless $ref", "self_ref", "{}", BROKEN, valid=False),
    one("recursive schema", "recursive", '{"child": {"child": {}}}', valid=True),
    one("recursive schema violated", "recursive", '{"child": {"x": 1}}', "unexpected_property", valid=False),
    one("$ref to a known metaschema", "metaschema_ref", '{"type": "str"}', "other", valid=False),
    one("broken pattern", "bad_pattern", '{"a": "x"}', BROKEN, valid=False),
    # Names and tools.
    one("first of two tools", "twice", "{}", "missing_required", valid=False),
    one("first of two tools without schema", "bare_first", '{"city": "a"}', NO_SCHEMA, valid=False),
    one("undeclared", "weather", "{}", "undeclared_tool", valid=False),
    one("name in another case", "City", '{"city": "a"}', "tool_name_case_or_prefix", valid=False),
    one("name with prefix", "functions.city", '{"city": "a"}', "tool_name_case_or_prefix", valid=False),
    one("name with index", "functions.city:0", '{"city": "a"}', "tool_name_case_or_prefix", valid=False),
    called(
        "name missing", [call(arguments="{}")], "undeclared_tool", "nonstandard_tool_call_id", valid=False
    ),
    called("function missing", [{"id": OK["id"]}], "undeclared_tool", valid=False),
    called("call a list", [[OK]], "undeclared_tool", valid=False),
    one("no tools", "city", '{"city": "a"}', "undeclared_tool", valid=False, tools=[]),
    one(
        "a malformed tool in front",
        "city",
        '{"city": "a"}',
        BROKEN,
        valid=False,
        tools=[{"type": "builtin"}, tool("city", CITY)],
    ),
    one(
        "a tool with null function in front",
        "city",
        '{"city": "a"}',
        BROKEN,
        valid=False,
        tools=[{"type": "function", "function": None}, tool("city", CITY)],
    ),
    one(
        "a malformed tool behind",
        "city",
        '{"city": "a"}',
        valid=True,
        tools=[tool("city", CITY), {"type": "builtin"}],
    ),
    one(
        "a tool whose name is a number in front",
        "city",
        '{"city": "a"}',
        valid=True,
        tools=[tool(5, CITY), tool("city", CITY)],
    ),
    # Several calls, ids, further fields.
    called("two valid calls", [OK, call("city", '{"city": "b"}', "functions.city:1")], valid=True),
    called("one of two invalid", [OK, call("city", "{", "functions.city:1")], "truncated_json", valid=False),
    called("id integer", [{**OK, "id": 7}], "nonstandard_tool_call_id", valid=True),
    called("id null", [{**OK, "id": None}], "nonstandard_tool_call_id", valid=True),
    called("id missing", [{"function": OK["function"]}], "nonstandard_tool_call_id", valid=True),
    called("id of another form", [{**OK, "id": "call_1"}], "nonstandard_tool_call_id", valid=True),
    called(
        "id of another tool", [{**OK, "id": "functions.strict:0"}], "nonstandard_tool_call_id", valid=True
    ),
    called("id twice", [OK, OK], "duplicate_tool_call_id", valid=True),
    called("type missing, extra fields", [{**OK, "type": None, "index": None, "x": 1}], valid=True),
]


def _case(tools: Any):
    row = {"messages": [{"role": "user", "content": "x"}], "tools": tools, "should_call_tool": True}
    return decode_row(row, 0, HistoryOptions())


def _judge(example: Example) -> Judgement:
    response = parse_completion(json.dumps({"choices": [example.choice]}))
    assert isinstance(response, Response)
    return judge(_case(TOOLS if example.tools is None else example.tools), response)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Refuse every connection and file URL, and say which were tried."""
    tried: list[Any] = []

    def refuse(*arguments: Any, **options: Any) -> None:
        tried.append(arguments)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return tried


def test_the_table_is_wide() -> None:
    """At least 60 different responses are compared, and their names tell them apart."""
    assert len(EXAMPLES) >= 60
    assert len({example.name for example in EXAMPLES}) == len(EXAMPLES)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what upstream's own call emits
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_judgement_equals_upstreams(example: Example, no_network: list[Any]) -> None:
    """Bucket and validity are those of the second implementation, and of the table."""
    bucket, valid = upstream(example.choice, TOOLS if example.tools is None else example.tools)
    no_network.clear()
    judgement = _judge(example)
    assert (None if judgement.bucket == "missing" else judgement.bucket.value) == bucket
    assert judgement.tool_calls_valid is valid
    assert judgement.tool_calls_valid is example.valid
    assert judgement.schema_error == (bucket == "tool_calls" and valid is not True)
    assert judgement.successful == (bucket == "tool_calls" and valid is True)
    assert no_network == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_failure_classes_are_those_of_the_table(example: Example) -> None:
    """Every response shows exactly the failure classes that it was written for.

    The table is about finish_reasons and calls: that the official API calls, and that a bare message says
    nothing, is true of many of its rows and left out.
    """
    failures = [failure.failure_class for failure in _judge(example).failures]
    classes = [kind.value for kind in failures if kind.group not in (Group.DECISION, Group.NOTHING)]
    if example.classes == ("other",):
        assert classes
    else:
        assert sorted(classes) == sorted(example.classes)


@pytest.mark.parametrize("tool_calls", ["abc", {"a": 1}, OK, 5, True], ids=repr)
def test_calls_that_are_no_list_are_invalid(tool_calls: Any) -> None:
    """Upstream walks over a text or an object and finds no call in it; on a number it loses the row."""
    judgement = _judge(called("x", tool_calls, valid=False))
    assert judgement.tool_calls_valid is False
    assert judgement.schema_error
    assert [failure.failure_class for failure in judgement.failures] == [FailureClass.UNDECLARED_TOOL]


@pytest.mark.parametrize("tool_calls", ["", {}, 0, False], ids=repr)
def test_nothing_in_the_place_of_the_calls_is_no_call(tool_calls: Any) -> None:
    """What is falsy is an empty list to upstream: neither valid nor invalid, and a schema error."""
    judgement = _judge(called("x", tool_calls, NO_CALLS, valid=None))
    assert judgement.tool_calls_valid is None
    assert judgement.schema_error


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": REMOTE}},
        {"properties": {"a": {"$ref": "http://127.0.0.1:9/schema"}}},
        {"properties": {"a": {"$ref": "file:///etc/hostname"}}},
        {"$id": "http://127.0.0.1:9/base", "properties": {"a": {"$ref": "other.json"}}},
        {"properties": {"a": {"$dynamicRef": "http://127.0.0.1:9/schema#x"}}},
        {"$schema": "http://127.0.0.1:9/metaschema", "properties": {"a": {"$ref": "http://127.0.0.1:9/x"}}},
        {"$schema": D7, "properties": {"a": {"$schema": D4, "$ref": "http://127.0.0.1:9/schema"}}},
    ],
    ids=repr,
)
def test_remote_references_are_never_fetched(schema: Any, no_network: list[Any]) -> None:
    """A reference that leads out of the schema makes the call invalid and opens nothing."""
    judgement = _judge(one("x", "f", '{"a": 1}', valid=False, tools=[tool("f", schema)]))
    assert [failure.failure_class for failure in judgement.failures] == [FailureClass.BROKEN_TOOL_SCHEMA]
    assert no_network == []


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>",
        '{"error": {"message": "overloaded"}}',
        '{"choices": [{"finish_reason": "stop"}',
    ],
)
def test_no_completion_is_a_failed_request(body: str) -> None:
    """Deviation 1: a body without choice 0 is no completion, so nothing is judged."""
    result = parse_completion(body)
    assert isinstance(result, NotACompletion)
    assert result.failure_class is FailureClass.NOT_A_COMPLETION


def test_only_choice_0_counts() -> None:
    """Further choices change nothing but that they are named."""
    choices = [
        {"finish_reason": "stop", "message": {"content": "x"}},
        {"finish_reason": "tool_calls", "message": {"tool_calls": [OK]}},
    ]
    response = parse_completion(json.dumps({"choices": choices}))
    assert isinstance(response, Response)
    judgement = judge(_case(TOOLS), response)
    assert judgement.bucket.value == "stop"
    assert [failure.failure_class for failure in judgement.failures] == [
        FailureClass.CALL_IN_OTHER_CHOICE,
        FailureClass.MISSED_CALL,
    ]


JSON_TYPES = (None, True, False, 0, 1.5, "", "x", [], [1], {}, {"a": 1})
each_type = pytest.mark.parametrize("value", JSON_TYPES, ids=repr)


@each_type
def test_any_value_in_the_place_of_a_call_is_an_undeclared_tool(value: Any) -> None:
    """A call, a function or a name of any other type makes the response invalid, as upstream has it."""
    for item in (value, {**OK, "function": value}, call(value, "{}")):
        judgement = _judge(called("x", [item], valid=False))
        assert not upstream_valid(item, TOOLS)
        assert judgement.tool_calls_valid is False
        assert FailureClass.UNDECLARED_TOOL in {failure.failure_class for failure in judgement.failures}


@each_type
def test_any_value_in_the_place_of_the_message_is_no_call(value: Any) -> None:
    """What is no message with calls is neither valid nor invalid, and a schema error."""
    judgement = _judge(Example("x", {"finish_reason": "tool_calls", "message": value}))
    assert judgement.tool_calls_valid is None
    assert judgement.schema_error


@each_type
def test_other_fields_change_nothing(value: Any) -> None:
    """Texts, ids, usage, the model and unknown fields have no say, whatever they hold."""
    message = {"content": value, "reasoning_content": value, "tool_calls": [{**OK, "id": value}]}
    choice = {"finish_reason": "tool_calls", "message": message}
    for fields in (dict.fromkeys(("usage", "model", "id", "x"), value), {"usage": {"prompt_tokens": value}}):
        response = parse_completion(json.dumps({"choices": [choice], **fields}))
        assert isinstance(response, Response)
        assert judge(_case(TOOLS), response).successful


@each_type
def test_any_other_list_of_choices_is_no_completion(value: Any) -> None:
    """A body, or choices, of any type but a list that begins with an object is a failed request."""
    for body in (value, {"choices": value}, *([] if isinstance(value, dict) else [{"choices": [value]}])):
        assert isinstance(parse_completion(json.dumps(body)), NotACompletion)
