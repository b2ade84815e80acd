"""Leaks of K2's markup and tokens: found in every text, read out where possible, told from quotations."""

from __future__ import annotations

import json

import pytest

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.failure_classes import FailureClass, Group, LeakedCall
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.judging.detectors import LeakContext, leak_failures
from k2_verifier_adapter.core.judging.judge import judge
from k2_verifier_adapter.core.judging.markup import MARKERS, find_markers, find_tokens, name_in_id, read_calls
from k2_verifier_adapter.core.judging.tool_calls import DeclaredTools, id_failures
from k2_verifier_adapter.core.messages import MessageTexts, texts_of
from k2_verifier_adapter.core.responses import read_completion

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}]
BEGIN, CALL, ARGUMENTS, END_CALL, END = MARKERS
ARGS = '{"city": "北京"}'
WHOLE = f"{BEGIN}{CALL}functions.get_weather:0{ARGUMENTS}{ARGS}{END_CALL}{END}"
COMPLETE, INVALID = LeakedCall.COMPLETE, LeakedCall.INVALID


def leaks(message, *, prompt="Weather in Beijing?", finish_reason="stop", should_call=True):
    """Judge a message and give its leaks."""
    row = {
        "messages": [{"role": "user", "content": prompt}],
        "tools": TOOLS,
        "should_call_tool": should_call,
        "official_finish_reason": "tool_calls" if should_call else "stop",
    }
    case = decode_row(row, 0, HistoryOptions())
    completion = {"choices": [{"finish_reason": finish_reason, "message": message}]}
    judgement = judge(case, read_completion(json.loads(json.dumps(completion))))
    return [failure for failure in judgement.failures if failure.failure_class.group is Group.LEAKS]


def leak(text, **settings):
    """Give the one leak of a content."""
    (found,) = leaks({"content": text}, **settings)
    return found


# --- markup ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "marker", "leaked"),
    [
        (WHOLE, BEGIN, COMPLETE),
        (f"Let me look.\n{WHOLE} Done.", BEGIN, COMPLETE),
        # With blanks between the parts, as some detokenizers write.
        (f"{BEGIN} {CALL} functions.get_weather:0 {ARGUMENTS} {ARGS} {END_CALL} {END}", BEGIN, COMPLETE),
        # The section's begin or end is lost, or the token limit came before the end.
        (f"{CALL}functions.get_weather:0{ARGUMENTS}{ARGS}{END_CALL}", CALL, COMPLETE),
        (f"functions.get_weather:0{ARGUMENTS}{ARGS}", ARGUMENTS, COMPLETE),
        (f"get_weather:0{ARGUMENTS}{ARGS}", ARGUMENTS, COMPLETE),
        (f"{BEGIN}{CALL}functions.get_weather:0{ARGUMENTS}{ARGS}", BEGIN, COMPLETE),
        (f"{WHOLE[:-9]}", BEGIN, COMPLETE),
        # The singular form of the section marker.
        (WHOLE.replace("calls_section", "call_section"), "<|tool_call_section_begin|>", COMPLETE),
        # Ids of another form: a declared name can still be told, an opaque id cannot.
        (WHOLE.replace("functions.get_weather:0", "functions_get_weather_0"), BEGIN, COMPLETE),
        (WHOLE.replace("functions.get_weather:0", "functionsget_weather5"), BEGIN, COMPLETE),
        (WHOLE.replace("functions.get_weather:0", "mcp.server.get_weather:3"), BEGIN, COMPLETE),
        (WHOLE.replace("functions.get_weather:0", "call_59adf5614cfe4f4b8a71be54"), BEGIN, None),
        # Arguments that are not valid, a tool that is not declared, two calls of which one is bad.
        (WHOLE.replace(ARGS, '{"city": 3}'), BEGIN, INVALID),
        (WHOLE.replace(ARGS, '{"city": "Bei'), BEGIN, INVALID),
        (WHOLE.replace("get_weather", "img_gen"), BEGIN, INVALID),
        (WHOLE + WHOLE.replace(ARGS, "{}"), BEGIN, INVALID),
        # Nothing to read: cut off before the arguments, or mere remains.
        (f"Sure. {BEGIN}", BEGIN, None),
        (f"Sure. {BEGIN}{CALL}functions.get_wea", BEGIN, None),
        (END, END, None),
        # Pieces of markers.
        ("Sure. <|tool_calls_sec", "<|tool_calls_sec", None),
        ("Sure. <|to", "<|to", None),
        (f"tool_call_argument_begin|>{ARGS}", "tool_call_argument_begin|>", None),
        (f"gin|>functions.get_weather:0{ARGUMENTS}{ARGS}", "gin|>", COMPLETE),
        ("Sure. <|tool_call_begin", "<|tool_call_begin", None),
        # All markers skipped as special tokens: the bare call of a declared tool.
        (f"functions.get_weather:0{ARGS}", "functions.", COMPLETE),
        (f"functions.get_weather:0 {ARGS}", "functions.", COMPLETE),
        ('functions.get_weather:0{"city": 3}', "functions.", INVALID),
    ],
)
def test_markup_in_content(text, marker, leaked):
    """The first marker is recorded as it stands, and what can be read out of the text."""
    found = leak(text)
    assert found.failure_class is FailureClass.MARKUP_IN_CONTENT
    assert (found.marker, found.where, found.leaked_call) == (marker, "content", leaked)
    if leaked is COMPLETE:
        assert found.tool == "get_weather"


@pytest.mark.parametrize(
    ("message", "where"),
    [
        ({"reasoning_content": f"Hm. {WHOLE}"}, "reasoning_content"),
        ({"reasoning": WHOLE}, "reasoning"),
        ({"reasoning_details": [{"type": "reasoning.text", "text": WHOLE}]}, "reasoning_details"),
        ({"reasoning_details": [{"type": "reasoning.summary", "summary": WHOLE}]}, "reasoning_details"),
        ({"reasoning": {"text": WHOLE}}, "reasoning"),
        # The same text in two fields is one leak.
        ({"reasoning": WHOLE, "reasoning_details": [{"text": WHOLE}]}, "reasoning"),
        # Split over two parts.
        ({"reasoning_details": [{"text": WHOLE[:40]}, {"text": WHOLE[40:]}]}, "reasoning_details"),
    ],
)
def test_markup_in_every_form_of_reasoning(message, where):
    """Reasoning is looked at in all three fields and in parts."""
    (found,) = leaks({"content": "One moment.", **message})
    assert found.failure_class is FailureClass.MARKUP_IN_REASONING
    assert (found.where, found.leaked_call) == (where, COMPLETE)


def test_content_in_parts_is_read_as_one_text():
    """A list of text parts is one text, wherever the stream was cut."""
    parts = [{"type": "text", "text": WHOLE[:10]}, {"type": "text", "text": WHOLE[10:]}]
    (found,) = leaks({"content": parts})
    assert (found.failure_class, found.leaked_call) == (FailureClass.MARKUP_IN_CONTENT, COMPLETE)


def test_a_marker_split_between_reasoning_and_content():
    """Each side shows its piece of the marker."""
    (content, reasoning) = leaks({"reasoning_content": "Hm. <|tool_calls_sec", "content": WHOLE[16:]})
    assert reasoning.failure_class is FailureClass.MARKUP_IN_REASONING
    assert reasoning.marker == "<|tool_calls_sec"
    assert (content.marker, content.leaked_call) == ("tion_begin|>", COMPLETE)


# --- tokens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("Hello!<|im_end|>", "<|im_end|>"),
        ("Hello!<|im_end|><|im_user|>user<|im_middle|>And now?", "<|im_end|>"),
        ("<|im_assistant|>assistant<|im_middle|>Hello", "<|im_assistant|>"),
        ("Hello<|im_system|>", "<|im_system|>"),
        ("Hello[EOS]", "[EOS]"),
        ("[BOS]Hello", "[BOS]"),
        ("<think>I should greet.</think>Hello", "<think>"),
        ("I should greet.</think>Hello", "</think>"),
        ("◁think▷I should greet.◁/think▷Hello", "◁think▷"),
        ("Hello<|im_e", "<|im_e"),
        ("im_end|>Hello", "im_end|>"),
        ("Hello<|eot_id|>", "<|eot_id|>"),
        ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁begin｜>"),
    ],
)
def test_special_tokens(text, token):
    """A token of K2's, or of another family, is found where no text has it."""
    found = leak(text)
    assert (found.failure_class, found.marker, found.where) == (
        FailureClass.SPECIAL_TOKEN_LEAK,
        token,
        "content",
    )


def test_markup_and_tokens_are_two_failures():
    """A text with both shows both."""
    found = leaks({"content": f"{WHOLE}<|im_end|>"})
    assert [failure.failure_class for failure in found] == [
        FailureClass.MARKUP_IN_CONTENT,
        FailureClass.SPECIAL_TOKEN_LEAK,
    ]


@pytest.mark.parametrize(
    ("name", "arguments"), [("get_weather", ARGS + END_CALL), (f"get_weather{CALL}", ARGS)]
)
def test_a_marker_in_an_invalid_call_is_found(name, arguments):
    """A marker in the name or the arguments of a call that is invalid for it has leaked, too."""
    call = {"id": "functions.get_weather:0", "function": {"name": name, "arguments": arguments}}
    (found,) = leaks({"tool_calls": [call]}, finish_reason="tool_calls")
    assert (found.failure_class, found.where, found.call) == (
        FailureClass.MARKUP_IN_ARGUMENTS,
        "arguments",
        0,
    )


@pytest.mark.parametrize("token", [END_CALL, "<|close|>argument<|sep|>", "<|im_end|>"])
def test_markup_in_valid_arguments_is_a_leak_unless_the_conversation_names_it(token):
    """What satisfies the schema may hold markup all the same; a call may also be about it."""
    arguments = json.dumps({"city": f"Oslo{token}"})
    call = {"id": "functions.get_weather:0", "function": {"name": "get_weather", "arguments": arguments}}
    message = {"tool_calls": [call]}
    (found,) = leaks(message, finish_reason="tool_calls")
    assert found.where == "arguments"
    prompt = f"What do the tokens {token.replace('argument', ' ')} {token} do in Oslo?"
    assert leaks(message, finish_reason="tool_calls", prompt=prompt) == []


@pytest.mark.parametrize(
    ("call_id", "kind", "variant"),
    [
        ("functions.get_weather:0", None, None),
        (f"functions.get_weather:0{ARGUMENTS}{ARGS}", "markup_in_tool_call_id", None),
        (" functions.get_weather:0", "nonstandard_tool_call_id", "nearly_standard"),
        ("get_weather:3", "nonstandard_tool_call_id", "nearly_standard"),
        ("functions_get_weather_0", "nonstandard_tool_call_id", "nearly_standard"),
        ("call_1f2e3d4c5b6a", "nonstandard_tool_call_id", None),
        ("functions.other:0", "nonstandard_tool_call_id", None),
        ("", "nonstandard_tool_call_id", "absent"),
        (None, "nonstandard_tool_call_id", "absent"),
    ],
)
def test_ids_are_told_apart(call_id, kind, variant):
    """An id of K2's form in other words is not one that a server made up, and markup in it has leaked."""
    call = {"id": call_id, "function": {"name": "get_weather", "arguments": ARGS}}
    found = id_failures([call], lambda: ["get_weather"])
    assert [(failure.failure_class.value, failure.variant) for failure in found] == (
        [] if kind is None else [(kind, variant)]
    )
    any_form = id_failures([call], lambda: ["get_weather"], any_form=True)
    assert bool(any_form) == (kind == "markup_in_tool_call_id" or variant == "absent")


K3 = (
    '<|open|>call tool="get_weather" index="1"<|sep|><|open|>argument key="city" type="string"<|sep|>Oslo'
    "<|close|>argument<|sep|><|close|>call<|sep|>"
)
JSON_CALL = '{"name": "get_weather", "arguments": {"city": "Oslo"}}'


@pytest.mark.parametrize(
    "text",
    [
        K3,
        f"<|open|>tools<|sep|>{K3}<|close|>tools<|sep|>",
        K3.replace("<|open|>", "<|open|> ").replace("<|sep|>", " <|sep|> "),
        f"<tool_call>\n{JSON_CALL}\n</tool_call>",
        f"One moment.<tool_call>{JSON_CALL}",
        "<tool_call><function=get_weather><parameter=city>\nOslo\n</parameter></function></tool_call>",
        '<function_calls><invoke name="get_weather"><parameter name="city">Oslo</parameter></invoke>',
        '<function=get_weather>{"city": "Oslo"}</function>',
        f"[TOOL_CALLS][{JSON_CALL}]",
        JSON_CALL,
        f"```json\n{JSON_CALL}\n```",
        f"[{JSON_CALL}]",
        f"I will look it up: {JSON_CALL}",
        '{"name": "get_weather", "parameters": {"city": "Oslo"}}',
        '{"tool": "get_weather", "args": {"city": "Oslo"}}',
        '{"tool_calls": [{"id": "x", "function": {"name": "get_weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}}]}',
        '{"name": "functions.get_weather:0", "arguments": {"city": "Oslo"}}',
    ],
)
def test_a_call_in_another_notation_is_read(text):
    """JSON, tags and K3's elements that are a call of a declared tool count, and are read."""
    found = leak(text)
    assert (found.failure_class, found.leaked_call) == (FailureClass.CALL_IN_CONTENT, COMPLETE)
    assert found.tool == "get_weather"
    assert leaks({"content": text}, prompt=f"Why does this not work? {text}") == []


@pytest.mark.parametrize(
    "text",
    [
        JSON_CALL.replace("get_weather", "other"),
        f"The schema of a call is {JSON_CALL}, as you see.",
        '{"name": "get_weather", "description": "It tells the weather."}',
        '{"city": "Oslo", "temperature": 3}',
        "<tool_call> is a tag of Hermes.",
        "Use get_weather with city=Oslo.",
    ],
)
def test_json_and_tags_that_are_no_call_are_left_alone(text):
    """Tools that are not declared, descriptions, and an example in an answer that is to be text."""
    assert leaks({"content": text}, should_call=False) == []


# --- what is no leak ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Paris is in France. These functions.",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "xs |> List.map f <| ys",
        "The begin|> of it",
        "a <| b",
        "Write <think> and </think> around it.",
        "The token [EOS] ends a sequence, [BOS] begins one.",
        "tool_calls_section_begin is the name of a marker.",
        'functions.other_tool:0{"city": "x"}',
        "functions.get_weather:0 is the id.",
        "functions.get_weather",
        "",
        "   ",
    ],
)
def test_ordinary_text_is_no_leak(text):
    """Pipes, prose about functions, a pair of think tags and unknown tools are left alone."""
    assert leaks({"content": text}, should_call=False) == []


@pytest.mark.parametrize("quoted", [*MARKERS, "<|im_end|>", "</think>", "<|tool_calls_sec"])
def test_a_marker_that_the_conversation_names_may_be_a_quotation(quoted):
    """What stands in the request's messages as well is no leak by itself."""
    prompt = f"What does {quoted} mean?"
    assert leaks({"content": f"It is a marker: {quoted}"}, prompt=prompt, should_call=False) == []
    assert leaks({"content": f"It is a marker: {quoted}"}, should_call=False)


def test_a_whole_valid_call_is_a_leak_whatever_the_conversation_names():
    """A call of a declared tool with valid arguments is no quotation."""
    assert leak(WHOLE, prompt=f"Explain {' '.join(MARKERS)}").leaked_call is COMPLETE


def test_markers_that_the_conversation_does_not_name_still_count():
    """One quoted marker does not excuse another one."""
    found = leak(f"<|im_end|> and {END}", prompt="What is <|im_end|>?")
    assert (found.failure_class, found.marker) == (FailureClass.MARKUP_IN_CONTENT, END)


def test_a_clean_text_asks_for_nothing():
    """Where nothing can be markup, neither messages nor tools are decoded."""

    def never(*_):
        raise AssertionError("asked for")

    texts = MessageTexts("Plain text about functions.", (("reasoning", "Hm."),), other_content=False)
    context = LeakContext(never, DeclaredTools(never), (), calls=False, should_call=True)
    assert leak_failures(texts, context) == []


# --- the pieces -----------------------------------------------------------------------------------


def test_markers_and_tokens_are_listed_once_and_in_order():
    """A text's different markers come in the order in which they stand."""
    assert find_markers(WHOLE * 3) == list(MARKERS)
    assert find_tokens("<|im_end|>x<|im_user|><|im_end|>") == ["<|im_end|>", "<|im_user|>"]


def test_parallel_calls_are_all_read():
    """Each call between the section's markers is read with its own arguments."""
    calls = "".join(
        f"{CALL}functions.get_weather:{number}{ARGUMENTS}{json.dumps({'city': city})}{END_CALL}"
        for number, city in enumerate(["a", "b", "c"])
    )
    read = read_calls(f"{BEGIN}{calls}{END}", ["get_weather"])
    assert [json.loads(call["function"]["arguments"])["city"] for call in read] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("call_id", "name"),
    [
        ("functions.get_weather:0", "get_weather"),
        ("get_weather:12", "get_weather"),
        ("functions.a.b:0", "a.b"),
        ("functions.unknown:0", "unknown"),
        ("functions_get_weather_1", "get_weather"),
        ("functionsget_weather1", "get_weather"),
        ("get_weather", "get_weather"),
        ("call_0", None),
        ("", None),
        (":0", None),
    ],
)
def test_the_name_in_an_id(call_id, name):
    """A name is told from K2's form of an id, and from others if it is declared."""
    assert name_in_id(call_id, ["get_weather", "a.b"]) == name


def test_texts_of_odd_messages():
    """Content that is no text is noticed; a message of any shape gives texts."""
    assert texts_of(None) == MessageTexts("", (), other_content=False)
    assert texts_of({"content": [{"type": "image_url", "image_url": {}}]}).other_content
    assert texts_of({"content": None, "refusal": "No."}).other_content
    assert texts_of({"content": ["a", {"text": "b"}, 3, None, {}]}) == MessageTexts(
        "ab", (), other_content=False
    )
    assert texts_of({"content": 3, "reasoning": 3, "reasoning_content": []}).content == ""


def test_long_hostile_texts_take_no_time():
    """Megabytes of markers, of openings and of ids are scanned once."""
    for piece in (
        ARGUMENTS,
        "<|",
        "functions.",
        "functions.a:0{",
        "a" * 200 + ARGUMENTS,
        "<|   ",
        "</think>",
    ):
        text = piece * (1_000_000 // len(piece))
        found = leaks({"content": text})
        assert all(len(failure.detail) < 1_000 for failure in found)
