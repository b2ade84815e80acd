"""The simulated vendor's faults do what their names say, checked with plain json and jsonschema."""

from __future__ import annotations

import ast
import copy
import json
import re
from random import Random

import jsonschema
import pytest

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.errors import BadRowsError
from k2_verifier_adapter.simulator import fault_names
from k2_verifier_adapter.simulator.completions import chunks_of, official_completion
from k2_verifier_adapter.simulator.faults import FAULTS, NOT_SIMULATED, TransportFault, select
from k2_verifier_adapter.simulator.instances import instance_of
from k2_verifier_adapter.simulator.planning import decode_rows, request_key

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 1},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
    },
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "…", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "list_cities", "parameters": {"type": "object"}}},
]
ARGUMENTS = {"city": "北京", "unit": "celsius", "days": 3}
CALL = {
    "id": "functions.get_weather:0",
    "type": "function",
    "function": {"name": "get_weather", "arguments": json.dumps(ARGUMENTS, ensure_ascii=False)},
}
CALLING_ROW = {
    "messages": json.dumps([{"role": "user", "content": "北京天气"}], ensure_ascii=False),
    "tools": json.dumps(TOOLS),
    "should_call_tool": True,
    "official_finish_reason": "tool_calls",
    "official_tool_calls": json.dumps([CALL]),
}
STOP_ROW = {
    "messages": [{"role": "user", "content": "Hello"}],
    "tools": TOOLS,
    "should_call_tool": False,
    "official_finish_reason": "stop",
    "official_content": "Hello! How can I help you today? 你好",
}
SEEDS = range(20)


def _case_of(row):
    return decode_row(row, 0, HistoryOptions())


def _official(row):
    return official_completion(row, _case_of(row), "m")


def _damaged(name, row, seed=0, variant=0):
    fault = select(name).faults[variant]
    return fault.damage(_official(row), _case_of(row), Random(seed))


def _message(completion):
    return completion["choices"][0]["message"]


def _finish(completion):
    return completion["choices"][0]["finish_reason"]


def _arguments(completion, call=0):
    return _message(completion)["tool_calls"][call]["function"]["arguments"]


def _violations(text):
    errors = jsonschema.Draft202012Validator(WEATHER).iter_errors(json.loads(text))
    return {error.validator for error in errors}


def test_every_class_has_a_fault_or_a_reason_for_having_none():
    """Each failure class of the design is either simulated or says why it cannot be."""
    assert FAULTS.keys() | NOT_SIMULATED.keys() == set(FailureClass)
    assert not FAULTS.keys() & NOT_SIMULATED.keys()


def test_fault_names_are_unique_and_selectable():
    """Every name that is listed selects faults of one class."""
    names = fault_names()
    assert len(names) == len(set(names))
    for name in names:
        assert len({fault.failure_class for fault in select(name).faults}) == 1


# --- arguments -----------------------------------------------------------------------------------

WHOLE = CALL["function"]["arguments"]


def is_json(text):
    """Whether a text parses."""
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def breaks_off(text):
    """Whether a parser wants more at the very end of a text."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.msg.startswith("Unterminated string") or error.pos >= len(text.rstrip())
    return False


def behind(text):
    """Give what stands behind the official arguments."""
    first, end = json.JSONDecoder().raw_decode(text)
    assert first == ARGUMENTS
    return text[end:].strip()


def violates(*keywords):
    """Make the claim that an object violates the schema, in these keywords only."""
    return lambda text: isinstance(json.loads(text), dict) and set() < _violations(text) <= set(keywords)


ARGUMENT_FAULTS = {
    "truncated_json": lambda text: WHOLE.startswith(text) and text != WHOLE and breaks_off(text),
    "concatenated_json": lambda text: json.loads(behind(text)) == ARGUMENTS,
    "trailing_text": lambda text: behind(text) and not is_json(behind(text)),
    "single_quoted_json": lambda text: not is_json(text) and ast.literal_eval(text) == ARGUMENTS,
    "empty_arguments": lambda text: text == "",
    "other_invalid_json": lambda text: (
        not is_json(text) and json.loads(re.sub(r"(city|unit|days):", r'"\1":', text)) == ARGUMENTS
    ),
    "not_an_object": lambda text: not isinstance(json.loads(text), dict) and _violations(text) == {"type"},
    "missing_required": violates("required"),
    "unexpected_property": violates("additionalProperties"),
    "wrong_type": violates("type"),
    "enum_violation": violates("enum"),
    "other_schema_violation": violates("minimum", "maximum", "minLength"),
}


@pytest.mark.parametrize("name", ARGUMENT_FAULTS)
def test_an_argument_fault_does_what_it_says_and_no_more(name):
    """What holds of the arguments holds for any seed; all else stays as the official answer has it."""
    for seed in SEEDS:
        completion = _damaged(name, CALLING_ROW, seed)
        call = _message(completion)["tool_calls"][0]
        text = call["function"]["arguments"]
        assert ARGUMENT_FAULTS[name](text), text
        call["function"]["arguments"] = WHOLE
        assert completion == _official(CALLING_ROW)


def test_a_schema_fault_reaches_into_nested_values():
    """A schema whose only enum lies in an item of a list can still be violated there."""
    schema = {
        "type": "object",
        "properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/item"}}},
        "$defs": {"item": {"type": "object", "properties": {"kind": {"enum": ["a", "b"]}}}},
    }
    row = _row_with(schema, {"items": [{"kind": "a"}]})
    value = json.loads(_arguments(_damaged("enum_violation", row)))
    assert value["items"][0]["kind"] not in ("a", "b")


def _row_with(schema, value):
    tools = [{"type": "function", "function": {"name": "t", "parameters": schema}}]
    call = {
        "id": "functions.t:0",
        "type": "function",
        "function": {"name": "t", "arguments": json.dumps(value)},
    }
    return {**CALLING_ROW, "tools": tools, "official_tool_calls": [call]}


@pytest.mark.parametrize(
    ("name", "schema", "value"),
    [
        ("enum_violation", {"type": "object", "properties": {"a": {"type": "string"}}}, {"a": "x"}),
        ("unexpected_property", {"type": "object"}, {}),
        ("missing_required", {"type": "object", "properties": {"a": {}}}, {"a": 1}),
        ("wrong_type", {"type": "object"}, {}),
        ("other_schema_violation", {"type": "object", "properties": {"a": {"type": "string"}}}, {"a": "x"}),
        ("not_an_object", {"properties": {}}, {}),
        ("single_quoted_json", {"type": "object"}, {}),
    ],
)
def test_a_fault_that_the_schema_has_no_place_for_does_not_apply(name, schema, value):
    """Without the keyword, or the content, that it needs, a fault gives None."""
    assert _damaged(name, _row_with(schema, value)) is None


# --- names, ids, finish reasons, leaks, decisions --------------------------------------------------

K2_CALL = re.compile(
    r"<\|tool_calls_section_begin\|><\|tool_call_begin\|>functions\.get_weather:0"
    r"<\|tool_call_argument_begin\|>(.*)<\|tool_call_end\|><\|tool_calls_section_end\|>"
)


def leaked(text):
    """Give the arguments of the call that a text holds in K2's markup."""
    return json.loads(K2_CALL.search(text if isinstance(text, str) else text[0]["text"])[1])


def called(message):
    """Give name, id and arguments of the first call."""
    call = message["tool_calls"][0]
    return call["function"]["name"], call["id"], call["function"]["arguments"]


def undeclared(message, _):
    """The name is declared in no spelling; the id follows it."""
    name, identifier, arguments = called(message)
    assert name not in ("get_weather", "list_cities")
    return (identifier, arguments) == (f"functions.{name}:0", WHOLE)


def misspelt(message, _):
    """The name is a declared one, but for its case or the prefix `functions.`; the id follows it."""
    name, identifier, _ = called(message)
    assert name.removeprefix("functions.").lower() == "get_weather" != name
    return identifier == f"functions.{name}:0"


def opaque(message, _):
    """The id has OpenAI's form instead of K2's, and nothing else changes."""
    (call,) = message["tool_calls"]
    return re.fullmatch(r"call_[0-9a-f]{24}", call["id"]) and {**call, "id": CALL["id"]} == CALL


def cut(reason):
    """Some text is left, calls are gone and finish_reason says why."""
    return lambda message, finish: (
        finish == reason
        and "tool_calls" not in message
        and message["content"] not in ("", STOP_ROW["official_content"])
    )


def leaks_into(field):
    """The call stands in one of the forms of reasoning text, beside ordinary content."""
    return lambda message, _: (
        leaked(message[field]) == ARGUMENTS and message["content"] and "<|" not in message["content"]
    )


def reasons_in(field):
    """There is reasoning, and neither text nor a call."""
    return lambda message, _: (
        message.keys() == {"role", "content", field} and message["content"] == "" and message[field]
    )


def valid_call(message, finish):
    """A valid call to a declared tool stands there."""
    name, identifier, arguments = called(message)
    assert (name, identifier, _violations(arguments)) == ("get_weather", "functions.get_weather:0", set())
    return finish == "tool_calls"


EMPTY = {"role": "assistant", "content": ""}
BOTH = [CALLING_ROW, STOP_ROW]
KNOWN = {"stop", "tool_calls", "length", "content_filter"}
FORMS = ("reasoning_content", "reasoning", "reasoning_details")
CLAIMS = [
    ("undeclared_tool", [CALLING_ROW], undeclared),
    ("tool_name_case_or_prefix", [CALLING_ROW], misspelt),
    ("nonstandard_tool_call_id", [CALLING_ROW], opaque),
    (
        "duplicate_tool_call_id",
        [CALLING_ROW],
        lambda message, _: [call["id"] for call in message["tool_calls"]] == [CALL["id"]] * 2,
    ),
    (
        "finish_tool_calls_without_calls",
        [CALLING_ROW],
        lambda message, finish: (finish, message["tool_calls"]) == ("tool_calls", []),
    ),
    (
        "calls_without_finish_tool_calls",
        [CALLING_ROW],
        lambda message, finish: (finish, message["tool_calls"]) == ("stop", [CALL]),
    ),
    ("finish_reason_missing", [STOP_ROW], lambda _, finish: finish is None),
    ("finish_reason_unknown", [STOP_ROW], lambda _, finish: finish not in KNOWN),
    ("truncated_by_length", BOTH, cut("length")),
    ("content_filtered", BOTH, cut("content_filter")),
    (
        "markup_in_content",
        [CALLING_ROW],
        lambda message, finish: (
            leaked(message["content"]) == ARGUMENTS and finish == "stop" and "tool_calls" not in message
        ),
    ),
    *(("markup_in_reasoning", [CALLING_ROW], leaks_into(field)) for field in FORMS),
    (
        "special_token_leak",
        [STOP_ROW],
        lambda message, _: (
            message["content"].removeprefix(STOP_ROW["official_content"]) in ("<|im_end|>", "<|im_middle|>")
        ),
    ),
    ("empty_response", BOTH, lambda message, finish: (message, finish) == (EMPTY, "stop")),
    *(("reasoning_only", BOTH, reasons_in(field)) for field in FORMS),
    (
        "missed_call",
        [CALLING_ROW],
        lambda message, finish: (
            finish == "stop" and message.keys() == {"role", "content"} and message["content"]
        ),
    ),
    ("extra_call", [STOP_ROW], valid_call),
]


@pytest.mark.parametrize("number", range(len(CLAIMS)), ids=[name for name, _, _ in CLAIMS])
def test_a_fault_does_what_it_says(number):
    """What holds of the answer holds for any seed; the variants of a fault come in order."""
    name, rows, claim = CLAIMS[number]
    variant = [other for other, _, _ in CLAIMS[:number]].count(name)
    for row in rows:
        for seed in SEEDS:
            completion = _damaged(name, row, seed, variant)
            assert claim(_message(completion), completion["choices"][0]["finish_reason"]), completion


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("special_token_leak", {**STOP_ROW, "official_content": ""}),
        ("special_token_leak", {**STOP_ROW, "official_finish_reason": "length"}),
        ("extra_call", {**STOP_ROW, "tools": None}),
        (
            "extra_call",
            {**STOP_ROW, "tools": [{"type": "function", "function": {"name": "t", "parameters": {}}}]},
        ),
    ],
)
def test_a_fault_that_an_answer_has_no_place_for_does_not_apply(name, row):
    """A stop token needs a text that stops, a further call a tool that it can be valid for."""
    assert _damaged(name, row) is None


def test_an_answer_without_finish_reason_is_for_plain_requests():
    """A stream without one would be a cut stream, so streams are spared."""
    assert select("finish_reason_missing").faults[0].stream is False


# --- streams -------------------------------------------------------------------------------------


def _spoilt_deltas(name):
    (fault,) = select(name).faults
    completion = _damaged(name, CALLING_ROW)
    chunks = fault.rewrite(chunks_of(completion, 3, include_usage=False))
    deltas = [d for c in chunks for d in c["choices"][0]["delta"].get("tool_calls", [])]
    return fault, completion, deltas


def test_stream_index_missing_merges_two_calls():
    """Two calls arrive without index, so upstream's reassembly makes one invalid call of them."""
    fault, completion, deltas = _spoilt_deltas("stream_index_missing")
    assert len(_message(completion)["tool_calls"]) == 2
    assert all("index" not in delta for delta in deltas)
    (seen,) = _message(fault.seen(completion))["tool_calls"]
    assert seen["function"]["arguments"] == CALL["function"]["arguments"] * 2
    assert seen["id"] == CALL["id"]


def test_stream_index_missing_spares_calls_of_several_tools():
    """Calls of two tools are left alone, for their merger would be wrong in its name as well."""
    other = {**CALL, "function": {"name": "list_cities", "arguments": "{}"}}
    row = {**CALLING_ROW, "official_tool_calls": [CALL, other]}
    assert _damaged("stream_index_missing", row) is None


def test_stream_id_missing_never_brings_an_id():
    """No delta carries an id, and the call is whole otherwise."""
    fault, completion, deltas = _spoilt_deltas("stream_id_missing")
    assert all("id" not in delta for delta in deltas)
    assert _message(fault.seen(completion))["tool_calls"] == [{**CALL, "id": None}]


def test_stream_name_repeated_is_in_every_delta():
    """Each delta of a call repeats its name."""
    _, _, deltas = _spoilt_deltas("stream_name_repeated")
    assert len(deltas) > 2
    assert {delta["function"]["name"] for delta in deltas} == {"get_weather"}


# --- all faults ----------------------------------------------------------------------------------


PAYLOAD_FAULTS = [
    fault for faults in FAULTS.values() for fault in faults if not isinstance(fault, TransportFault)
]


@pytest.mark.parametrize("fault", PAYLOAD_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_pure_and_repeatable(fault):
    """A fault leaves its argument alone and does the same to it for the same seed."""
    row = STOP_ROW if fault.calls is False else CALLING_ROW
    if fault.failure_class is FailureClass.TOOL_CALL_ID_REUSED:
        row = {
            **row,
            "messages": [{"role": "assistant", "tool_calls": [CALL]}, {"role": "user", "content": "x"}],
        }
    completion = _official(row)
    before = copy.deepcopy(completion)
    first = fault.damage(completion, _case_of(row), Random(7))
    assert first is not None
    assert first == fault.damage(completion, _case_of(row), Random(7))
    assert completion == before


# --- answers and instances -----------------------------------------------------------------------


def test_a_call_that_the_row_does_not_carry_is_made_up():
    """Where the official answer calls and the row has no calls, a valid call stands in."""
    row = {key: value for key, value in CALLING_ROW.items() if key != "official_tool_calls"}
    (call,) = _message(_official(row))["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert _violations(call["function"]["arguments"]) == set()


def test_a_made_up_call_is_empty_where_no_tool_has_a_schema():
    """Where no valid call can be made up, the first tool is called with no arguments."""
    tool = {"type": "function", "function": {"name": "t"}}
    row = {**CALLING_ROW, "tools": [tool], "official_tool_calls": None}
    (call,) = _message(_official(row))["tool_calls"]
    assert call["function"] == {"name": "t", "arguments": "{}"}


@pytest.mark.parametrize(("stated", "sent"), [(None, "stop"), ("length", "length"), ("tool_calls", "stop")])
def test_the_decision_of_a_row_outweighs_its_finish_reason(stated, sent):
    """A row that should not call never gets finish_reason tool_calls."""
    assert _finish(_official({**STOP_ROW, "official_finish_reason": stated})) == sent


@pytest.mark.parametrize(
    "schema",
    [
        WEATHER,
        True,
        {"type": ["object", "null"], "properties": {"a": {"type": "number"}}, "required": ["a"]},
        {"type": "array", "items": {"type": "string"}, "minItems": 3, "uniqueItems": True},
        {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True},
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "boolean"}], "minItems": 2},
        {"type": "integer", "exclusiveMinimum": 4, "multipleOf": 5},
        {"type": "number", "maximum": -3},
        {"type": "number", "minimum": 2, "maximum": 2.5},
        {"type": "string", "minLength": 40},
        {"type": "string", "maxLength": 2},
        {"type": "string", "pattern": "^[A-Z]{3}-\\d{3}$"},
        {"type": "string", "format": "date"},
        {"const": {"a": [1]}},
        {"anyOf": [{"type": "null"}, {"type": "string"}]},
        {"allOf": [{"required": ["a"]}, {"properties": {"a": {"type": "boolean"}}}], "type": "object"},
        {"type": "object", "minProperties": 2, "properties": {"a": {}, "b": {"type": "null"}}},
        {
            "$ref": "#/$defs/node",
            "$defs": {"node": {"type": "object", "required": ["x"], "properties": {"x": {}}}},
        },
        {"type": "object", "required": ["z"], "additionalProperties": {"type": "integer"}},
    ],
)
def test_an_instance_satisfies_its_schema(schema):
    """The generator meets the common keywords of JSON Schema."""
    jsonschema.validate(instance_of(schema), schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "required": ["next"], "properties": {"next": {"$ref": "#"}}},
        {"$ref": "#"},
        {"$ref": "https://example.com/remote.json"},
        {"type": "string", "pattern": "("},
        {"type": "object", "required": {"a": True}, "properties": []},
        {"type": 5, "enum": {}, "allOf": 3},
        None,
        [],
    ],
)
def test_an_odd_schema_does_not_break_the_generator(schema):
    """Recursive, remote and broken schemas give some JSON value."""
    json.dumps(instance_of(schema))


# --- matching ------------------------------------------------------------------------------------


def test_rows_with_the_same_request_take_turns():
    """Two equal rows are answered alternately, and each repetition counts for its row."""
    _, index = decode_rows([STOP_ROW, STOP_ROW])
    key = request_key(STOP_ROW["messages"], STOP_ROW["tools"])
    slots = [index.take(key) for _ in range(4)]
    assert [(slot.case_index, slot.occurrence) for slot in slots] == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_a_failed_attempt_is_taken_up_again():
    """A repetition that got no answer is the next one tried, as its second attempt."""
    _, index = decode_rows([STOP_ROW])
    key = request_key(STOP_ROW["messages"], STOP_ROW["tools"])
    first, second = index.take(key), index.take(key)
    index.give_back(first)
    again = index.take(key)
    assert (second.occurrence, again.occurrence, again.attempt) == (1, 0, 2)


def test_absent_null_and_empty_tools_are_one_request():
    """A row without tools is found whether the request says null, an empty list or nothing."""
    _, index = decode_rows([{**STOP_ROW, "tools": None}])
    assert index.take(request_key(STOP_ROW["messages"], None)) is not None
    assert index.take(request_key(STOP_ROW["messages"], [])) is not None


def test_bad_rows_are_all_named():
    """Rows that cannot be replayed are refused together, each with its number and field."""
    with pytest.raises(BadRowsError, match=r"row 1, field 'messages'.*row 3, field 'messages'"):
        decode_rows([{}, STOP_ROW, {"messages": "["}])
