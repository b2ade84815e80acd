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
from k2_verifier_adapter.core.failure_classes import FailureClass, Group
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
REASONING = list(enumerate(["reasoning_content", "reasoning", "reasoning_details"]))


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


def _with_official_arguments(completion):
    restored = copy.deepcopy(completion)
    _message(restored)["tool_calls"][0]["function"]["arguments"] = _arguments(_official(CALLING_ROW))
    return restored


def _violations(text):
    return [
        error.validator for error in jsonschema.Draft202012Validator(WEATHER).iter_errors(json.loads(text))
    ]


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


@pytest.mark.parametrize("seed", SEEDS)
def test_truncated_json_stops_at_the_end_of_the_text(seed):
    """Truncated arguments are a proper prefix, and a parser wants more at its very end."""
    text = _arguments(_damaged("truncated_json", CALLING_ROW, seed))
    whole = _arguments(_official(CALLING_ROW))
    assert whole.startswith(text)
    assert len(text) < len(whole)
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(text)
    assert caught.value.msg.startswith("Unterminated string") or caught.value.pos >= len(text.rstrip())


def test_concatenated_json_is_the_same_object_twice():
    """Concatenated arguments are two complete JSON objects in a row."""
    text = _arguments(_damaged("concatenated_json", CALLING_ROW))
    first, end = json.JSONDecoder().raw_decode(text)
    second, _ = json.JSONDecoder().raw_decode(text, end)
    assert first == second == ARGUMENTS


@pytest.mark.parametrize("seed", SEEDS)
def test_trailing_text_follows_a_complete_object(seed):
    """What follows the object is text, not more JSON."""
    text = _arguments(_damaged("trailing_text", CALLING_ROW, seed))
    first, end = json.JSONDecoder().raw_decode(text)
    assert first == ARGUMENTS
    assert text[end:].strip()
    with pytest.raises(json.JSONDecodeError):
        json.loads(text[end:].strip())


def test_single_quoted_json_is_a_python_literal():
    """Single-quoted arguments are what Python's repr makes of the object."""
    text = _arguments(_damaged("single_quoted_json", CALLING_ROW))
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    assert ast.literal_eval(text) == ARGUMENTS


def test_other_invalid_json_has_bare_keys():
    """The keys of otherwise whole arguments lack their quotes."""
    text = _arguments(_damaged("other_invalid_json", CALLING_ROW))
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    assert json.loads(re.sub(r"(city|unit|days):", r'"\1":', text)) == ARGUMENTS


@pytest.mark.parametrize("seed", SEEDS)
def test_not_an_object_is_valid_json_of_another_type(seed):
    """Arguments that are no object violate the schema's type and nothing else."""
    text = _arguments(_damaged("not_an_object", CALLING_ROW, seed))
    assert not isinstance(json.loads(text), dict)
    assert _violations(text) == ["type"]


@pytest.mark.parametrize(
    ("name", "keywords"),
    [
        ("missing_required", {"required"}),
        ("unexpected_property", {"additionalProperties"}),
        ("wrong_type", {"type"}),
        ("enum_violation", {"enum"}),
        ("other_schema_violation", {"minimum", "maximum", "minLength"}),
    ],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_schema_violation_is_of_its_keyword_only(name, keywords, seed):
    """Each schema fault leaves an object that violates exactly the keywords of its class."""
    text = _arguments(_damaged(name, CALLING_ROW, seed))
    assert isinstance(json.loads(text), dict)
    assert _violations(text)
    assert set(_violations(text)) <= keywords


@pytest.mark.parametrize("name", [kind.value for kind in FAULTS if kind.group is Group.ARGUMENTS])
def test_an_argument_fault_changes_the_arguments_alone(name):
    """All but the arguments of one call stays as the official answer has it."""
    assert _with_official_arguments(_damaged(name, CALLING_ROW)) == _official(CALLING_ROW)


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


# --- names and ids -------------------------------------------------------------------------------


def test_undeclared_tool_is_unlike_every_declared_name():
    """The name called is declared in no spelling."""
    call = _message(_damaged("undeclared_tool", CALLING_ROW))["tool_calls"][0]
    assert call["function"]["name"] not in ("get_weather", "list_cities")
    assert call["function"]["arguments"] == CALL["function"]["arguments"]
    assert call["id"] == f"functions.{call['function']['name']}:0"


@pytest.mark.parametrize("seed", SEEDS)
def test_tool_name_differs_in_case_or_prefix_only(seed):
    """The name called is a declared one, but for its case or the prefix `functions.`; the id follows it."""
    call = _message(_damaged("tool_name_case_or_prefix", CALLING_ROW, seed))["tool_calls"][0]
    name = call["function"]["name"]
    assert name != "get_weather"
    assert name.removeprefix("functions.").lower() == "get_weather"
    assert call["id"] == f"functions.{name}:0"


def test_nonstandard_id_is_opaque():
    """The id has OpenAI's form instead of K2's, and nothing else changes."""
    completion = _damaged("nonstandard_tool_call_id", CALLING_ROW)
    call = _message(completion)["tool_calls"][0]
    assert re.fullmatch(r"call_[0-9a-f]{24}", call["id"])
    assert {**call, "id": CALL["id"]} == CALL


def test_duplicate_id_is_shared_by_two_calls():
    """Two calls carry the same id, which is a standard one."""
    calls = _message(_damaged("duplicate_tool_call_id", CALLING_ROW))["tool_calls"]
    assert [call["id"] for call in calls] == ["functions.get_weather:0"] * 2


# --- finish against payload ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "finish_reason", "calls"),
    [
        ("finish_tool_calls_without_calls", "tool_calls", []),
        ("calls_without_finish_tool_calls", "stop", [CALL]),
        ("empty_arguments", "tool_calls", [{**CALL, "function": {"name": "get_weather", "arguments": ""}}]),
    ],
)
def test_finish_reason_and_calls_are_as_the_name_says(name, finish_reason, calls):
    """The list is empty under tool_calls, the calls stand under stop, or their arguments are empty."""
    completion = _damaged(name, CALLING_ROW)
    assert _finish(completion) == finish_reason
    assert _message(completion)["tool_calls"] == calls


def test_finish_reason_missing_is_null_and_for_plain_requests():
    """finish_reason is null; a stream without one would be a cut stream, so streams are spared."""
    assert _finish(_damaged("finish_reason_missing", STOP_ROW)) is None
    assert select("finish_reason_missing").faults[0].stream is False


@pytest.mark.parametrize("seed", SEEDS)
def test_finish_reason_unknown_is_no_value_of_the_api(seed):
    """finish_reason is a word that the API does not define for a completion with text."""
    known = {"stop", "tool_calls", "length", "content_filter"}
    assert _finish(_damaged("finish_reason_unknown", STOP_ROW, seed)) not in known


@pytest.mark.parametrize(
    ("name", "reason"), [("truncated_by_length", "length"), ("content_filtered", "content_filter")]
)
@pytest.mark.parametrize("row", [CALLING_ROW, STOP_ROW])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_cut_answer_keeps_some_text_and_no_calls(name, reason, row, seed):
    """Text is cut, calls are gone and finish_reason says why."""
    completion = _damaged(name, row, seed)
    assert _finish(completion) == reason
    assert "tool_calls" not in _message(completion)
    assert _message(completion)["content"]
    assert _message(completion)["content"] != STOP_ROW["official_content"]


# --- leaks and nothing ---------------------------------------------------------------------------

K2_CALL = re.compile(
    r"<\|tool_calls_section_begin\|><\|tool_call_begin\|>functions\.get_weather:0"
    r"<\|tool_call_argument_begin\|>(.*)<\|tool_call_end\|><\|tool_calls_section_end\|>"
)


def test_markup_in_content_holds_the_whole_call():
    """The call stands in the content in K2's markup, and nowhere else."""
    completion = _damaged("markup_in_content", CALLING_ROW)
    assert json.loads(K2_CALL.search(_message(completion)["content"])[1]) == ARGUMENTS
    assert _finish(completion) == "stop"
    assert "tool_calls" not in _message(completion)


@pytest.mark.parametrize(("variant", "field"), REASONING)
def test_markup_in_reasoning_leaves_a_clean_content(variant, field):
    """The call stands in one of the three forms of reasoning text, beside ordinary content."""
    completion = _damaged("markup_in_reasoning", CALLING_ROW, variant=variant)
    text = _message(completion)[field]
    text = text if isinstance(text, str) else text[0]["text"]
    assert json.loads(K2_CALL.search(text)[1]) == ARGUMENTS
    assert _message(completion)["content"]
    assert "<|" not in _message(completion)["content"]


@pytest.mark.parametrize("seed", SEEDS)
def test_special_token_follows_the_text(seed):
    """A stop token stands at the end of an otherwise official answer."""
    content = _message(_damaged("special_token_leak", STOP_ROW, seed))["content"]
    assert content.removeprefix(STOP_ROW["official_content"]) in ("<|im_end|>", "<|im_middle|>")


def test_special_token_needs_a_text_that_stops():
    """An answer without text, or one that is cut by length, gets no stop token."""
    assert _damaged("special_token_leak", {**STOP_ROW, "official_content": ""}) is None
    assert _damaged("special_token_leak", {**STOP_ROW, "official_finish_reason": "length"}) is None


@pytest.mark.parametrize("row", [CALLING_ROW, STOP_ROW])
def test_empty_response_says_nothing(row):
    """There is no text, no call and no reasoning, and finish_reason says stop."""
    completion = _damaged("empty_response", row)
    assert _message(completion) == {"role": "assistant", "content": ""}
    assert _finish(completion) == "stop"


@pytest.mark.parametrize(("variant", "field"), REASONING)
@pytest.mark.parametrize("row", [CALLING_ROW, STOP_ROW])
def test_reasoning_only_has_nothing_else(row, variant, field):
    """There is reasoning in one of its three forms, and neither text nor a call."""
    completion = _damaged("reasoning_only", row, variant=variant)
    assert _message(completion).keys() == {"role", "content", field}
    assert _message(completion)["content"] == ""
    assert _message(completion)[field]


# --- decision ------------------------------------------------------------------------------------


def test_missed_call_answers_with_text():
    """An ordinary answer with text stands where the official API calls."""
    completion = _damaged("missed_call", CALLING_ROW)
    assert _finish(completion) == "stop"
    assert _message(completion).keys() == {"role", "content"}
    assert _message(completion)["content"]


def test_extra_call_is_valid_in_itself():
    """A valid call to a declared tool stands where the official API answers with text."""
    completion = _damaged("extra_call", STOP_ROW)
    (call,) = _message(completion)["tool_calls"]
    assert _finish(completion) == "tool_calls"
    assert call["function"]["name"] == "get_weather"
    assert call["id"] == "functions.get_weather:0"
    assert _violations(call["function"]["arguments"]) == []


def test_extra_call_needs_a_usable_tool():
    """Without tools, or with no tool that a call can be valid for, no call is added."""
    assert _damaged("extra_call", {**STOP_ROW, "tools": None}) is None
    tool = {"type": "function", "function": {"name": "t", "parameters": {}}}
    assert _damaged("extra_call", {**STOP_ROW, "tools": [tool]}) is None


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
    assert _violations(call["function"]["arguments"]) == []


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
