"""Rows become cases, and cases requests, without losing a byte that need not change."""

import hashlib
import json
from typing import Any

import pytest
from support.row_shapes import SHAPES, ordered

from k2_verifier_adapter.core.cases import RowError, decode_row
from k2_verifier_adapter.core.history import (
    HistoryOptions,
    MalformedHistory,
    Repairs,
    RequestMarks,
    marks_of,
)
from k2_verifier_adapter.core.requests import (
    RequestIdentity,
    build_request,
    differing_parameters,
    estimate_prompt_tokens,
    estimate_tokens,
    merge_parameters,
    official_parameters,
    token_limit_of,
    upstream_hash,
)
from k2_verifier_adapter.formats.rows import BUNDLED, load_cases

KEEP = HistoryOptions(MalformedHistory.KEEP)
IDS = HistoryOptions(normalize_tool_call_ids=True)


def row(messages: Any = None, tools: Any = None, **fields: Any) -> dict[str, Any]:
    """Give a row with an official decision."""
    default = [{"role": "user", "content": "x"}]
    return {
        "messages": default if messages is None else messages,
        "tools": tools,
        "should_call_tool": False,
        **fields,
    }


def call(name: Any = "f", arguments: Any = "{}", **fields: Any) -> dict[str, Any]:
    """Give a historical tool call."""
    return {**fields, "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_sent_as_it_stands(name: str, as_text: bool) -> None:
    """Messages and tools reach the body equal as JSON values, key order included, whatever their shape."""
    messages, tools = SHAPES[name]
    texts = [json.dumps(value, ensure_ascii=as_text) for value in (messages, tools)]
    columns = texts if as_text else [messages, tools]
    case = decode_row(row(columns[0], None if tools is None else columns[1]), 0, HistoryOptions())
    expected = f'{{"model": "m", "messages": {texts[0]}, "tools": {texts[1]}, "temperature": 0.6}}'
    if tools is None:
        expected = expected.replace(', "tools": null', "")
    assert ordered(build_request(case, "m", {"temperature": 0.6}).body) == ordered(expected)
    assert not case.repairs.any
    assert case.tools() == (tools or [])
    if as_text:
        assert case.messages_json == texts[0].encode()


def test_the_rows_own_bytes_are_kept() -> None:
    """Number spellings, escapes, spaces, repeated keys and big integers are not rewritten."""
    messages = '[ {"role":"user", "content":"\\u4f60 \\/ é", "n":[1.0, 1e3, 1E+2, -0, 123456789012345678901234567890]} ]'
    tools = '[{"type":"function","function":{"name":"f","name":"g","parameters":{"default":1.50}}}]'
    case = decode_row(row(messages, tools), 0, HistoryOptions())
    body = build_request(case, 'a "model"', {"n": 1.5}).body
    expected = '{"model":"a \\"model\\"","messages":' + messages + ',"tools":' + tools + ',"n":1.5}'
    assert body == expected.encode()


@pytest.mark.parametrize("tools", [None, ..., []])
def test_absent_tools_stay_absent(tools: Any) -> None:
    """A row without tools sends none; an empty list is sent as one."""
    record = row(tools=tools)
    if tools is ...:
        del record["tools"]
    body = json.loads(build_request(decode_row(record, 0, HistoryOptions()), "m", {}).body)
    assert body.get("tools", "absent") == ([] if tools == [] else "absent")


def test_lone_surrogates_survive() -> None:
    """A surrogate without its partner is sent as its escape, in text and in lists."""
    messages = [{"role": "user", "content": "a\ud800b"}]
    for value in (messages, json.dumps(messages), json.dumps(messages, ensure_ascii=False)):
        assert (
            json.loads(build_request(decode_row(row(value), 0, HistoryOptions()), "m", {}).body)["messages"]
            == messages
        )


def test_the_callers_row_is_left_alone() -> None:
    """Repairs are made in a copy."""
    messages = [{"role": "_input", "tool_calls": [call(arguments="{", id="a")]}]
    before = json.dumps(messages)
    assert decode_row(row(messages), 0, IDS).repairs == Repairs(1, 1, 1)
    assert json.dumps(messages) == before


# --- history --------------------------------------------------------------------------------------

MALFORMED = [
    "",
    " ",
    "{",
    '{"a": 1',
    "{'a': 1}",
    '{"a": 1} x',
    '{"a": 1}{"b": 2}',
    "plain",
    '{"a": 1,}',
    "None",
    "[" * 100_000,
]


@pytest.mark.parametrize("arguments", MALFORMED)
def test_malformed_history_is_sanitized_or_kept(arguments: str) -> None:
    """A historical arguments string that is not JSON becomes `{}`, or is sent as it is with `keep`."""
    messages = [{"role": "assistant", "tool_calls": [call(arguments=arguments), call(arguments='{"ok": 1}')]}]
    case = decode_row(row(messages), 0, HistoryOptions())
    sent = [item["function"]["arguments"] for item in case.messages()[0]["tool_calls"]]
    assert sent == ["{}", '{"ok": 1}']
    assert case.repairs == Repairs(malformed_history=1)
    assert case.repairs.beyond_upstream
    text = json.dumps(messages)
    kept = decode_row(row(text), 0, KEEP)
    assert kept.messages_json == text.encode()
    assert not kept.repairs.any


@pytest.mark.parametrize(
    "arguments", ["{}", "[]", "null", "5", '"x"', ' {"a": 1} ', '{"a": 1, "a": 2}', None, {}, [], 5]
)
def test_wellformed_history_is_not_touched(arguments: Any) -> None:
    """Anything that is JSON, or no string at all, is no malformed history."""
    messages = [{"role": "assistant", "tool_calls": [call(arguments=arguments)]}]
    assert not decode_row(row(messages), 0, HistoryOptions()).repairs.any


def test_the_input_role_becomes_system() -> None:
    """Upstream's rule, so it does not count as sent differently from upstream; nothing else changes."""
    messages = [{"name": "n", "role": "_input", "content": "a"}, {"role": "input", "content": "_input"}]
    case = decode_row(row(messages), 0, KEEP)
    assert ordered(case.messages_json) == ordered(
        json.dumps([{**messages[0], "role": "system"}, messages[1]])
    )
    assert case.repairs == Repairs(input_role=1)
    assert not case.repairs.beyond_upstream


def assistant(*calls: Any) -> dict[str, Any]:
    """Give an assistant message with calls."""
    return {"role": "assistant", "tool_calls": list(calls)}


def answer(call_id: Any = ...) -> dict[str, Any]:
    """Give a tool message."""
    return {"role": "tool", "content": "x"} | ({} if call_id is ... else {"tool_call_id": call_id})


CONVERSATIONS = {
    "counted through, references follow in any order": (
        [
            assistant(call("f", id="a"), call("g", id="b")),
            answer("b"),
            answer("a"),
            assistant(call("f", id="c")),
            answer("c"),
        ],
        ["functions.f:0", "functions.g:1", "functions.f:2"],
        ["functions.g:1", "functions.f:0", "functions.f:2"],
        3,
    ),
    "used twice: the closest earlier call is meant": (
        [assistant(call("f", id="x")), answer("x"), assistant(call("f", id="x")), answer("x")],
        ["functions.f:0", "functions.f:1"],
        ["functions.f:0", "functions.f:1"],
        2,
    ),
    "missing: given, and matched by position": (
        [assistant(call("f"), call("g", id=None)), answer(), answer(None)],
        ["functions.f:0", "functions.g:1"],
        ["functions.f:0", "functions.g:1"],
        2,
    ),
    "equal within a message: one each, matched by position": (
        [assistant(call("f", id="x"), call("g", id="x")), answer("x"), answer("x"), answer("x")],
        ["functions.f:0", "functions.g:1"],
        ["functions.f:0", "functions.g:1", "functions.g:1"],
        2,
    ),
    "empty: as missing": (
        [assistant(call("f", id=""), call("g", id="")), answer(""), answer(None), answer(None)],
        ["functions.f:0", "functions.g:1"],
        ["functions.f:0", "functions.g:1", None],
        2,
    ),
    "missing in two rounds: each round's own": (
        [
            assistant(call("f", id=None), call("g", id=None)),
            answer(None),
            assistant(call("h", id=None)),
            answer(None),
        ],
        ["functions.f:0", "functions.g:1", "functions.h:2"],
        ["functions.f:0", "functions.h:2"],
        3,
    ),
    "a foreign reference stays, though a call waits for its answer": (
        [assistant(call("f")), answer("elsewhere"), answer()],
        ["functions.f:0"],
        ["elsewhere", "functions.f:0"],
        1,
    ),
    "right already: no repair, foreign references stay": (
        [assistant(call("f", id="functions.f:0")), answer("functions.f:0"), answer("elsewhere")],
        ["functions.f:0"],
        ["functions.f:0", "elsewhere"],
        0,
    ),
}


@pytest.mark.parametrize(
    ("messages", "called", "referred", "repaired"), CONVERSATIONS.values(), ids=CONVERSATIONS
)
def test_ids_are_normalised(
    messages: list[Any], called: list[str], referred: list[str], repaired: int
) -> None:
    """Ids become functions.NAME:IDX over all calls, and tool messages go on referring to theirs."""
    sent = decode_row(row(messages), 0, IDS)
    calls = [item for message in sent.messages() for item in message.get("tool_calls") or []]
    assert [item.get("id") for item in calls] == called
    assert [item.get("tool_call_id") for item in sent.messages() if item["role"] == "tool"] == referred
    assert sent.repairs.tool_call_ids == repaired


@pytest.mark.parametrize("item", [None, 5, "x", {}, {"function": None}, {"function": {"name": 5}}, []])
def test_malformed_historical_calls_are_left_alone(item: Any) -> None:
    """What is no call keeps its form, and the calls around it their numbers."""
    messages = [{"role": "assistant", "tool_calls": [item, call("f", id="a")]}]
    sent = decode_row(row(messages), 0, IDS).messages()[0]["tool_calls"]
    assert sent[0] == item
    assert sent[1]["id"] in ("functions.f:0", "functions.f:1")


def test_every_repair_is_counted() -> None:
    """Repairs are counted one by one, and a call without a name takes a number wherever it stands."""
    nameless: dict[str, Any] = {"function": {}}
    messages = [
        {"role": "_input", "content": "x"},
        {"role": "_input", "content": "y"},
        assistant(call("f", "{"), call("g", "{"), nameless, call("h", id="x")),
    ]
    sent = decode_row(row(messages), 0, IDS)
    assert sent.repairs == Repairs(malformed_history=2, input_role=2, tool_call_ids=3)
    assert sent.messages()[2]["tool_calls"][3]["id"] == "functions.h:3"


def marks(**changes: Any) -> RequestMarks:
    """Give the marks of a request, of which some parts are others."""
    request = {
        "messages": [{"role": "user", "content": "a"}, assistant(call("f", "{", id="x"), call("g", id="y"))],
        "tools": [{"function": {"name": "f"}}, {"function": {"name": "g"}}],
    }
    return marks_of({**request, **changes})


def test_the_marks_of_a_request() -> None:
    """Marks tell contents, names of tools, malformed arguments and ids apart, and nothing else."""
    plain = marks()
    assert (plain.malformed, bool(plain.content), bool(plain.ids)) == (1, True, True)
    user = {"role": "user", "content": "a"}
    same = [{**user, "name": "me"}, "no message", assistant(call("F", "[", id="x"), call("g", "1", id="y"))]
    assert marks(messages=same) == plain
    other = [{**user, "content": "b"}, *same[1:]]
    assert marks(messages=other).content != plain.content
    assert marks(messages=other).ids == plain.ids
    parts = [{**user, "content": [{"text": "a", "type": "text"}]}, *same[1:]]
    turned = [{**user, "content": [{"type": "text", "text": "a"}]}, *same[1:]]
    assert marks(messages=parts) == marks(messages=turned) != plain
    assert marks(tools=[{"function": {"name": "f"}}]).content != plain.content
    assert marks(tools=[{"function": {"name": "f"}}, {"function": {"name": "h"}}]).content != plain.content
    assert marks(tools=None).content == marks(tools=[]).content != plain.content
    ids = [user, assistant(call("f", "{", id="x"), call("g", id="z"))]
    assert marks(messages=ids).ids != plain.ids
    assert marks(messages=[user]).ids == 0
    assert marks(messages=None) == marks(messages=[])
    joined = [{"content": "a"}, {"content": "b"}]
    assert marks(messages=joined).content != marks(messages=[{"content": "ab"}, {"content": ""}]).content
    assert marks(messages=[{"content": "\ud800"}]).content


def test_repairs_are_told_from_marks() -> None:
    """What was repaired is the difference of the marks; what is not known was not repaired."""
    plain = RequestMarks(content=1, malformed=3, ids=5)
    assert plain.repairs(None) == Repairs()
    assert plain.repairs(None, input_role=True) == Repairs(input_role=1)
    assert plain.repairs(RequestMarks(1, 1, 5)) == Repairs(malformed_history=2)
    assert plain.repairs(RequestMarks(1, 4, 6), input_role=True) == Repairs(input_role=1, tool_call_ids=1)
    kinds = [Repairs(1), Repairs(0, 1), Repairs(0, 0, 1), Repairs()]
    assert [repairs.any for repairs in kinds] == [True, True, True, False]
    assert [repairs.beyond_upstream for repairs in kinds] == [True, False, True, False]


# --- bad rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"messages": None}, "messages", "is missing"),
        ({"messages": []}, "messages", "is empty"),
        ({"messages": "[]"}, "messages", "is empty"),
        ({"messages": "not json"}, "messages", "'not json' is not JSON"),
        ({"messages": '{"role": "user"}'}, "messages", "is not a list"),
        ({"messages": 5}, "messages", "5 is not a list"),
        ({"messages": "[5]"}, "messages[0]", "5 is not an object"),
        ({"messages": [{"role": "user"}, {"content": "x"}]}, "messages[1].role", "None is not a string"),
        ({"messages": '[{"role": "user", "n": NaN}]'}, "messages", "NaN is not JSON"),
        ({"messages": [{"role": "user", "n": float("inf")}]}, "messages", "not JSON compliant"),
        ({"messages": b"[]"}, "messages", "bytes"),
        ({"messages": '[{"role": "user", "n": ' + "1" * 5_000 + "}]"}, "messages", "digits"),
        ({"tools": "{}"}, "tools", "{} is not a list"),
        ({"tools": "["}, "tools", "is not JSON"),
        ({"tools": ["f"]}, "tools[0]", "'f' is not an object"),
        ({"tools": [{"x": b""}]}, "tools", "bytes"),
        ({"should_call_tool": "yes"}, "should_call_tool", "'yes' is not a boolean"),
        ({"should_call_tool": None}, "should_call_tool", "is missing, and so is 'official_finish_reason'"),
        ({"official_finish_reason": 5}, "official_finish_reason", "5 is not a string"),
        ({"official_tool_calls": "{}"}, "official_tool_calls", "{} is not a list"),
        ({"official_tool_calls": "x"}, "official_tool_calls", "'x' is not JSON"),
        ({"tool_calls": "x"}, "tool_calls", "'x' is not JSON"),
        ({"parameters": "x"}, "parameters", "'x' is not JSON"),
        ({"parameters": [1]}, "parameters", "[1] is not an object"),
        ({"parameters": {"temperature": float("nan")}}, "parameters", "not JSON compliant"),
    ],
)
def test_a_bad_field_is_named_with_its_value(fields: dict[str, Any], field: str, reason: str) -> None:
    """A row error says which field, what its value is, and what is wrong."""
    with pytest.raises(RowError) as caught:
        decode_row({**row(), **fields}, 0, HistoryOptions())
    assert caught.value.field == field
    assert reason in caught.value.reason


def test_official_answers_are_read_in_every_spelling() -> None:
    """The decision comes from `should_call_tool`, else from the finish_reason; calls under both names."""
    calls = [call("f")]
    cases = [
        ({"should_call_tool": None, "official_finish_reason": "tool_calls"}, True, None),
        ({"should_call_tool": None, "official_finish_reason": "length"}, False, None),
        ({"should_call_tool": 1}, True, None),
        ({"should_call_tool": True, "official_tool_calls": calls}, True, calls),
        ({"should_call_tool": True, "official_tool_calls": json.dumps(calls)}, True, calls),
        ({"should_call_tool": True, "tool_calls": json.dumps(calls)}, True, calls),
        ({"should_call_tool": False, "official_tool_calls": ""}, False, None),
        ({"should_call_tool": False, "official_tool_calls": "null"}, False, None),
    ]
    for fields, should_call, expected in cases:
        case = decode_row({**row(), **fields}, 0, HistoryOptions())
        assert (case.official.should_call, case.official_tool_calls()) == (should_call, expected), fields


def test_row_parameters_never_replace_model_messages_or_tools() -> None:
    """A row's parameters are taken without what the request has from elsewhere."""
    given = {"model": "x", "messages": [], "tools": [], "temperature": 1.0}
    for value in (given, json.dumps(given)):
        assert decode_row(row(parameters=value), 0, HistoryOptions()).parameters == {"temperature": 1.0}
    body = json.loads(build_request(decode_row(row(), 0, HistoryOptions()), "m", given).body)
    assert (body["model"], len(body["messages"]), "tools" in body) == ("m", 1, False)


# --- parameters, hashes, identity -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "of_row", "user", "expected"),
    [
        ({"temperature": 1.0}, {}, {}, {"temperature": 1.0}),
        ({"temperature": 1.0}, {"temperature": 0.6}, {}, {"temperature": 0.6}),
        ({"temperature": 1.0}, {"temperature": 0.6}, {"temperature": 0.0}, {"temperature": 0.0}),
        ({"max_tokens": 64}, {}, {"max_completion_tokens": 5}, {"max_completion_tokens": 5}),
        ({"max_tokens": 64}, {"max_completion_tokens": 7}, {"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_tokens": 64}, {"temperature": 1}, {}, {"max_tokens": 64, "temperature": 1}),
        (
            {},
            {},
            {"max_tokens": 1, "max_completion_tokens": 2},
            {"max_tokens": 1, "max_completion_tokens": 2},
        ),
        ({"stream": True}, {}, {}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"stream": True}, {}, {"stream": False}, {"stream": False}),
        (
            {"stream": True},
            {"stream_options": {"include_usage": False}},
            {"stream": False},
            {"stream": False},
        ),
        (
            {"stream": True},
            {"stream_options": {"include_usage": False}},
            {},
            {"stream": True, "stream_options": {"include_usage": False}},
        ),
    ],
)
def test_parameters_by_precedence(
    preset: dict[str, Any], of_row: dict[str, Any], user: dict[str, Any], expected: dict[str, Any]
) -> None:
    """The user overrides the row, the row the preset, key by key; one limit, not two; usage of a stream asked for."""
    assert merge_parameters(preset, of_row, user) == expected


def test_merging_changes_no_layer() -> None:
    """The layers are shared between cases, so they stay as they are."""
    layers = {"max_tokens": 1, "stream": True}, {"max_completion_tokens": 2}, {"stream": False}
    before = json.dumps(layers)
    merge_parameters(*layers)
    assert json.dumps(layers) == before


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"temperature": 1, "max_tokens": 64000}, []),
        ({"temperature": 1.0, "max_completion_tokens": 64000, "stream": False, "user": "me"}, []),
        ({"temperature": 1.0, "max_tokens": 64000, "n": 1, "top_p": 1.0, "stop": None, "model": "m"}, []),
        (
            {"temperature": 0.0, "max_tokens": 64000, "top_p": 0.5},
            ["temperature 0.0 (official 1.0)", "top_p 0.5 (official not set)"],
        ),
        ({"temperature": 1.0, "max_tokens": 64000, "frequency_penalty": 0, "repetition_penalty": 1.0}, []),
        ({"temperature": 1.0, "max_tokens": 64000, "presence_penalty": 0.0, "logprobs": False}, []),
        ({"temperature": 1.0, "max_tokens": 64000, "tool_choice": "auto", "metadata": {}, "store": True}, []),
        (
            {"temperature": 1.0, "max_tokens": 64000, "parallel_tool_calls": True, "provider": {"order": []}},
            [],
        ),
        (
            {
                "temperature": 1.0,
                "max_tokens": 64000,
                "response_format": {"type": "text"},
                "stream_options": {},
                "service_tier": "x",
                "messages": [1],
                "tools": [1],
            },
            [],
        ),
        ({"max_tokens": 500}, ["max_tokens 500 (official 64000)", "temperature not set (official 1.0)"]),
        (
            {"temperature": 1.0, "max_tokens": 64000, "api_token": 123456789, "stop": ["x"]},
            ["api_token set otherwise (official not set)", "stop set otherwise (official not set)"],
        ),
    ],
)
def test_parameters_are_held_against_the_official_ones(sent: dict[str, Any], said: list[str]) -> None:
    """What decides what is generated is compared by value, where unset means the API's own default."""
    official = official_parameters("k2_thinking", {})
    assert official is not None
    assert differing_parameters(sent, official) == said


def test_the_official_parameters_of_a_row() -> None:
    """The row's own go before its subset's; of other subsets without any, none are known."""
    preset = official_parameters("k2_0905", {"temperature": 0.3})
    assert preset is not None
    assert (preset["temperature"], preset["max_tokens"]) == (0.3, 16000)
    assert official_parameters("own", {"temperature": 0.3}) == {"temperature": 0.3}
    assert official_parameters("own", {}) is None


def test_upstream_hash_by_its_formula() -> None:
    """md5 over the request as JSON with sorted keys and non-ASCII kept."""
    request = {"model": "m", "messages": [{"role": "user", "content": "你好"}], "temperature": 0.6}
    text = '{"messages": [{"content": "你好", "role": "user"}], "model": "m", "temperature": 0.6}'
    assert upstream_hash(request) == hashlib.md5(text.encode()).hexdigest()
    assert upstream_hash(dict(reversed(request.items()))) == upstream_hash(request)
    assert upstream_hash({"a": "\ud800"}) != upstream_hash({"a": "\ud801"})


def identity(parameters: dict[str, Any], content: str = "x", tools: Any = None) -> RequestIdentity:
    """Give the identity of a request."""
    case = decode_row(row([{"role": "user", "content": content}], tools), 0, HistoryOptions())
    return build_request(case, "m", parameters).identity


def test_differences_are_said_in_one_line() -> None:
    """A changed parameter is named with both values, a changed row as such, and order as order."""
    stored = identity({"temperature": 0.6, "top_p": 1})
    assert identity({"temperature": 0.6, "top_p": 1}).difference_from(stored) is None
    assert (
        identity({"temperature": 1.0, "top_p": 1}).difference_from(stored) == "temperature: 0.6 then, 1.0 now"
    )
    assert identity({"temperature": 0.6, "n": 2}).difference_from(stored) == (
        "n: 'unset' then, 2 now; top_p: 1 then, 'unset' now"
    )
    assert (
        identity({"temperature": 0.6, "top_p": 1}, "y").difference_from(stored)
        == "the row's messages or tools"
    )
    assert identity({"temperature": 0.6, "top_p": 1}, tools=[]).difference_from(stored) == (
        "the row's messages or tools"
    )
    assert identity({"temperature": 1, "top_p": 1}, "y").difference_from(stored) == (
        "the row's messages or tools; temperature: 0.6 then, 1 now"
    )
    unset = identity({"temperature": 0.6}).difference_from(identity({"temperature": 0.6, "top_p": None}))
    assert unset == "top_p: None then, 'unset' now"
    assert identity({"top_p": 1, "temperature": 0.6}).difference_from(stored) == "the order of its parameters"


@pytest.mark.parametrize(
    ("parameters", "limit"),
    [
        (None, None),
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 1, "max_tokens": 5}, 1),
        ({"max_completion_tokens": None, "max_tokens": 5}, 5),
        ({"max_tokens": True}, None),
        ({"max_tokens": 0}, None),
        ({"max_tokens": "5"}, None),
        ({"max_tokens": 5.0}, None),
    ],
)
def test_the_token_limit(parameters: dict[str, Any] | None, limit: int | None) -> None:
    """The limit is what either name says as a whole number of at least 1."""
    assert token_limit_of(parameters) == limit


def test_tokens_are_estimated_by_characters() -> None:
    """4 ASCII characters make a token, or 2.25 others, raw or escaped; parts add up, and tools have a frame."""
    assert estimate_tokens() == estimate_tokens(None) == 0
    assert estimate_tokens(None, b"x" * 40) == pytest.approx(10)
    assert estimate_tokens("一".encode() * 9) == pytest.approx(4)
    assert estimate_tokens(rb"\u4e2d" * 9, b"x" * 40) == pytest.approx(14)
    assert estimate_tokens(rb"\u4e2d" + "好xxxx".encode()) == pytest.approx(2 / 2.25 + 1)
    assert estimate_prompt_tokens(b"x" * 40, b"x" * 4) == pytest.approx(10 + 1 + 95)
    assert estimate_prompt_tokens(b"x" * 40, None) == pytest.approx(10)


def test_the_bundled_rows_cost_what_is_estimated() -> None:
    """The estimate of the bundled rows is within a tenth of what the simulated vendor counts for them."""
    cases = load_cases(BUNDLED, "k2_thinking", HistoryOptions()).cases
    counted = sum((len(case.messages_json) + len(case.tools_json or b"")) // 4 + 1 for case in cases)
    estimated = sum(estimate_prompt_tokens(case.messages_json, case.tools_json) for case in cases)
    assert estimated == pytest.approx(counted, rel=0.1)


def test_a_request_is_one_body() -> None:
    """The body holds model, messages, tools and parameters in this order, and its digest is the identity's."""
    case = decode_row(row([{"role": "user", "content": "x"}], []), 0, HistoryOptions())
    given = {"seed": 1, "stream": True, "model": "other", "tools": [1]}
    request = build_request(case, "m", given)
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[],"seed":1,"stream":true}'
    assert (request.body, request.stream) == (body, True)
    assert request.identity.sha256 == hashlib.sha256(body).hexdigest()
    rows_own = hashlib.sha256(b'[{"role":"user","content":"x"}]\0[]').hexdigest()
    assert request.identity.as_json() == {
        "sha256": request.identity.sha256,
        "row_sha256": rows_own,
        "parameters": {"model": "m", "seed": 1, "stream": True},
    }
    bare = build_request(decode_row(row([{"role": "user", "content": "x"}]), 0, HistoryOptions()), "m", {})
    assert bare.body == b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
    assert bare.stream is False
    assert bare.identity.row_sha256 == hashlib.sha256(b'[{"role":"user","content":"x"}]\0').hexdigest()


def test_a_hidden_difference_is_named_as_such() -> None:
    """Where a secret is masked in both, all that can be told is that a hidden value may be another."""
    stored = RequestIdentity("a", "r", {"user_token": "***"})
    assert RequestIdentity("b", "r", {"user_token": "***"}).difference_from(stored) == (
        "the order of its parameters, or a value that is not shown"
    )


def test_an_identity_round_trips() -> None:
    """The stored form reads back equal; what is no identity reads as None."""
    one = identity({"temperature": 0.6})
    assert RequestIdentity.from_json(json.loads(json.dumps(one.as_json()))) == one
    for value in (None, 5, {}, {"sha256": "x"}, {"row_sha256": "x"}, {"sha256": 1, "row_sha256": "x"}):
        assert RequestIdentity.from_json(value) is None
    assert RequestIdentity.from_json({"sha256": "x", "row_sha256": "y"}) == RequestIdentity("x", "y", {})
