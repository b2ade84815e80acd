"""Detectors, notes, and of several failures of one response the one that is their cause."""

from __future__ import annotations

import json

import pytest
from judged_answers import END, GOOD, LEAKED, call, case_of, judged, text

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.failure_classes import FailureClass as C
from k2_verifier_adapter.core.failure_classes import Group
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.judgement import NoteKind
from k2_verifier_adapter.core.judging.arguments import is_repairable
from k2_verifier_adapter.core.judging.causes import INVALID_CALL, REST, WITHOUT_CALL
from k2_verifier_adapter.core.records import judgement_as_json
from k2_verifier_adapter.core.requests import token_limit_of


def classes(judgement):
    """List the classes of a judgement."""
    return [failure.failure_class for failure in judgement.failures]


# --- detectors ------------------------------------------------------------------------------------


def test_official_answers_show_nothing():
    """A valid call, a text, and an end like the official one are no failures."""
    for judgement in (
        judged(call()),
        text(official=False),
        text(case=case_of(calls=False, finish="length"), finish="length"),
        text("", case=case_of(calls=False, finish="length"), finish="length", reasoning_content="Hm"),
        text(case=case_of(calls=False, finish="content_filter"), finish="content_filter"),
        text(case=case_of(calls=False, finish="length"), usage={"completion_tokens": 100}, limit=100),
    ):
        assert judgement.failures == ()
        assert (judgement.primary, judgement.fixes, judgement.notes) == (None, (), ())


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": ""}, C.EMPTY_RESPONSE),
        ({"content": None}, C.EMPTY_RESPONSE),
        ({}, C.EMPTY_RESPONSE),
        ({"content": " \n"}, C.EMPTY_RESPONSE),
        ({"content": []}, C.EMPTY_RESPONSE),
        ({"content": "", "reasoning_content": "\n"}, C.EMPTY_RESPONSE),
        ({"content": "", "reasoning_content": "Hm."}, C.REASONING_ONLY),
        ({"content": None, "reasoning": "Hm."}, C.REASONING_ONLY),
        ({"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]}, C.REASONING_ONLY),
        ({"content": "", "refusal": "No."}, None),
        ({"content": [{"type": "image_url", "image_url": {"url": "x"}}]}, None),
        ({"content": "x", "reasoning_content": "Hm."}, None),
    ],
)
def test_answers_that_say_nothing(message, expected):
    """Nothing at all and reasoning alone are told apart; a refusal and a picture say something."""
    found = classes(judged(finish="stop", official=False, **message))
    assert found == ([] if expected is None else [expected])


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_a_cut_answer_is_not_called_empty(finish):
    """Where the cause is known, that nothing is said is no class of its own."""
    kind = {"length": C.TRUNCATED_BY_LENGTH, "content_filter": C.CONTENT_FILTERED}[finish]
    assert classes(text("", official=False, finish=finish)) == [kind]
    assert classes(text("", official=False, finish=finish, reasoning="Hm.")) == [kind]


@pytest.mark.parametrize(
    ("usage", "limit", "cut"),
    [
        ({"completion_tokens": 100}, 100, True),
        ({"completion_tokens": 99}, 100, False),
        # A vendor that does not apply the limit at all has not cut the answer.
        ({"completion_tokens": 101}, 100, False),
        ({"completion_tokens": 100}, None, False),
        ({"completion_tokens": True}, 1, False),
        ({"completion_tokens": "100"}, 100, False),
        (None, 100, False),
        ([], 100, False),
    ],
)
@pytest.mark.parametrize("finish", ["stop", "tool_calls", None])
def test_tokens_at_the_limit_are_a_cut_under_any_finish_reason(finish, usage, limit, cut):
    """As many completion tokens as the request allows tell that the answer was cut."""
    judgement = judged(call(), finish=finish, usage=usage, limit=limit)
    assert (C.TRUNCATED_BY_LENGTH in classes(judgement)) == cut


@pytest.mark.parametrize(
    ("parameters", "limit"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7, "max_tokens": 5}, 7),
        ({"max_tokens": None}, None),
        ({"max_tokens": 0}, None),
        ({"max_tokens": True}, None),
        ({"max_tokens": "5"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_token_limit_of_a_request(parameters, limit):
    """`max_completion_tokens` comes before `max_tokens`; what is no count is no limit."""
    assert token_limit_of(parameters) == limit


def test_a_missed_and_an_extra_call_name_the_tool():
    """A missed call names the official tool, an extra one the tool that was called."""
    (missed,) = text(case=case_of(official=[call()])).failures
    assert (missed.failure_class, missed.tool) == (C.MISSED_CALL, "get_weather")
    (extra,) = judged(call("{}", "list_cities"), official=False).failures
    assert (extra.failure_class, extra.tool) == (C.EXTRA_CALL, "list_cities")


@pytest.mark.parametrize(
    ("messages", "in_history"),
    [
        ([{"role": "user", "content": "img_gen"}], False),
        (
            [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call("{}", "img_gen")]}],
            True,
        ),
        ([{"role": "tool", "name": "img_gen", "content": "x"}], True),
    ],
)
def test_an_undeclared_tool_may_be_copied_from_history(messages, in_history):
    """It is said whether the name of an undeclared tool occurs among the calls of the history."""
    failure, *_ = judged(call("{}", "img_gen"), case=case_of(messages=messages)).failures
    assert (failure.failure_class, failure.in_history) == (C.UNDECLARED_TOOL, in_history)


def test_every_violation_has_its_path_and_keyword():
    """All violations of a call are listed, each with JSON path and keyword."""
    judgement = judged(call('{"unit": "k", "x": 1}'))
    assert {(failure.failure_class, failure.path, failure.keyword) for failure in judgement.failures} == {
        (C.MISSING_REQUIRED, "$", "required"),
        (C.UNEXPECTED_PROPERTY, "$", "additionalProperties"),
        (C.ENUM_VIOLATION, "$.unit", "enum"),
    }


# --- notes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "notes"),
    [
        (GOOD, []),
        ('{"city": "a", "city": "b"}', [NoteKind.DUPLICATE_KEYS]),
        ('{"city": "a", "x": {"b": 1, "b": 2}}', [NoteKind.DUPLICATE_KEYS]),
        ('{"city": NaN}', [NoteKind.NOT_A_NUMBER]),
        ('{"city": -Infinity, "city": 1}', [NoteKind.DUPLICATE_KEYS, NoteKind.NOT_A_NUMBER]),
        ('{"city": "NaN"}', []),
        ('{"city": "a"', [NoteKind.REPAIRABLE_JSON]),
        ("{'city': 'a'}", [NoteKind.REPAIRABLE_JSON]),
        ("{city: 'a', unit: None,}", [NoteKind.REPAIRABLE_JSON]),
        ('```json\n{"city": "a"}\n```', [NoteKind.REPAIRABLE_JSON]),
        ("no idea", []),
        ("", []),
        ({"city": "a"}, [NoteKind.ARGUMENTS_NOT_TEXT]),
        (None, []),
    ],
)
def test_notes_on_arguments(arguments, notes):
    """Duplicate keys, numbers that are none and repairable text are notes, and never failures."""
    assert [note.kind for note in judged(call(arguments)).notes] == notes


def test_notes_change_no_judgement():
    """What a repair could read stays invalid, and duplicate keys stay valid."""
    assert judged(call('{"city": "a"')).tool_calls_valid is False
    assert judged(call('{"city": "a", "city": "b"}')).tool_calls_valid is True


def test_empty_arguments_where_an_empty_object_would_do():
    """Of empty arguments it is noted where `{}` would be valid."""
    assert [note.kind for note in judged(call("", "list_cities")).notes] == [NoteKind.EMPTY_OBJECT_FITS]
    assert judged(call("")).notes == ()


def test_violations_beyond_the_listed_are_counted():
    """20 violations of a call are listed; a note counts the rest."""
    schema = {"type": "object", "additionalProperties": {"type": "integer"}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    row = {"messages": [{"role": "user", "content": "x"}], "tools": tools, "should_call_tool": True}
    arguments = json.dumps({f"p{number}": "x" for number in range(57)})
    judgement = judged(call(arguments, "f"), case=decode_row(row, 0, HistoryOptions()))
    assert len(judgement.failures) == 20
    (note,) = judgement.notes
    assert note.kind is NoteKind.FURTHER_VIOLATIONS
    assert note.detail.startswith("57 ")


@pytest.mark.parametrize(
    ("damaged", "repairable"),
    [
        ('{"a": [1, {"b": "c', True),
        ('{"a": 1, "b', True),
        ('{"a":', True),
        ('{"a": "\\u00', True),
        ("{'it''s': 1}", False),
        ("{'a': 'it\\'s \"so\"'}", True),
        ('{"a": 1} and more', True),
        ('{"a": 1]', False),
        ('{"a" 1}', False),
        ("42", False),
        ("", False),
        ("{" * 100_000, False),
    ],
)
def test_what_a_repair_could_read(damaged, repairable):
    """The repair closes, quotes and drops; it does not guess a structure."""
    assert is_repairable(damaged) == repairable


# --- causes ---------------------------------------------------------------------------------------

GOOD_CALL, BAD_CALL, NO_CALL = (True, True), (True, False), (False, True)
CAUSES = [
    # (judgement, primary class, the others shown, what fixing the primary gives: (calls, valid))
    (text, C.MISSED_CALL, set(), GOOD_CALL),
    (lambda: text(LEAKED), C.MARKUP_IN_CONTENT, {C.MISSED_CALL}, GOOD_CALL),
    # A call that leaks where the official API does not call would be one too many.
    (lambda: text(LEAKED, official=False), C.MARKUP_IN_CONTENT, set(), GOOD_CALL),
    (
        lambda: text(LEAKED.replace("city", "town"), official=False),
        C.MARKUP_IN_CONTENT,
        set(),
        BAD_CALL,
    ),
    (lambda: text(END, official=False), C.MARKUP_IN_CONTENT, set(), None),
    (lambda: text(END), C.MARKUP_IN_CONTENT, {C.MISSED_CALL}, GOOD_CALL),
    # A leak that is nothing but a remainder beside a call that was parsed.
    (lambda: judged(call(), content=END), C.MARKUP_IN_CONTENT, set(), None),
    (lambda: judged(call('{"x": 1'), content=END), C.MARKUP_IN_CONTENT, {C.TRUNCATED_JSON}, GOOD_CALL),
    (lambda: judged(call("{}"), content=END), C.MISSING_REQUIRED, {C.MARKUP_IN_CONTENT}, GOOD_CALL),
    # The parser said tool_calls and left the call in the text.
    (
        lambda: judged(content=LEAKED),
        C.MARKUP_IN_CONTENT,
        {C.FINISH_TOOL_CALLS_WITHOUT_CALLS},
        GOOD_CALL,
    ),
    (lambda: judged(content="Fine."), C.FINISH_TOOL_CALLS_WITHOUT_CALLS, set(), GOOD_CALL),
    (
        lambda: judged(content="Fine.", official=False),
        C.FINISH_TOOL_CALLS_WITHOUT_CALLS,
        {C.EXTRA_CALL},
        NO_CALL,
    ),
    (
        lambda: judged(call(), finish="stop"),
        C.CALLS_WITHOUT_FINISH_TOOL_CALLS,
        {C.MISSED_CALL},
        GOOD_CALL,
    ),
    (
        lambda: judged(call("{}"), finish=None, official=False),
        C.FINISH_REASON_MISSING,
        {C.CALLS_WITHOUT_FINISH_TOOL_CALLS},
        BAD_CALL,
    ),
    (
        lambda: judged(call('{"city": "B'), finish="length"),
        C.TRUNCATED_BY_LENGTH,
        {C.CALLS_WITHOUT_FINISH_TOOL_CALLS, C.MISSED_CALL},
        GOOD_CALL,
    ),
    (
        lambda: judged(call('{"city": "B'), usage={"completion_tokens": 9}, limit=9),
        C.TRUNCATED_BY_LENGTH,
        {C.TRUNCATED_JSON},
        GOOD_CALL,
    ),
    (lambda: text("x", finish="length", official=False), C.TRUNCATED_BY_LENGTH, set(), None),
    (lambda: text(""), C.EMPTY_RESPONSE, {C.MISSED_CALL}, GOOD_CALL),
    (lambda: text("", official=False), C.EMPTY_RESPONSE, set(), None),
    (lambda: judged(call(), official=False), C.EXTRA_CALL, set(), NO_CALL),
    # Deltas without index glue calls together.
    (
        lambda: judged(call(GOOD + GOOD), anomalies=(C.STREAM_INDEX_MISSING,)),
        C.STREAM_INDEX_MISSING,
        {C.CONCATENATED_JSON},
        GOOD_CALL,
    ),
    (
        lambda: judged(call("{}"), anomalies=(C.STREAM_INDEX_MISSING,)),
        C.MISSING_REQUIRED,
        {C.STREAM_INDEX_MISSING},
        GOOD_CALL,
    ),
    # No vendor can call a tool without a schema validly.
    (
        lambda: judged(call("{}"), call("{}", "bare", index=1)),
        C.TOOL_WITHOUT_SCHEMA,
        {C.MISSING_REQUIRED},
        GOOD_CALL,
    ),
    (lambda: judged(call(call_id="call_1")), C.NONSTANDARD_TOOL_CALL_ID, set(), None),
    (
        lambda: judged(call("{}", call_id="call_1")),
        C.MISSING_REQUIRED,
        {C.NONSTANDARD_TOOL_CALL_ID},
        GOOD_CALL,
    ),
    # A token tells nothing of a call: the decision stays its own failure.
    (lambda: text("Hi<|im_end|>"), C.MISSED_CALL, {C.SPECIAL_TOKEN_LEAK}, GOOD_CALL),
]


@pytest.mark.parametrize(("make", "primary", "others", "fixed"), CAUSES)
def test_causes_come_before_symptoms(make, primary, others, fixed):
    """The primary class is the cause, and fixing it changes what it hides; the stored form says so too."""
    judgement = make()
    assert set(classes(judgement)) == {primary, *others}
    assert judgement.primary is primary
    fixes = {fix.failure_class: (fix.calls, fix.valid) for fix in judgement.fixes}
    assert fixes == ({} if fixed is None else {primary: fixed})
    stored = json.loads(json.dumps(judgement_as_json(3, judgement)))
    assert (stored["case"], stored["primary"]) == (3, primary.value)
    assert [failure["class"] for failure in stored["failures"]] == [kind.value for kind in classes(judgement)]
    assert set(stored["if_fixed"]) == {kind.value for kind in fixes}
    assert len(stored["notes"]) == len(judgement.notes)
    assert set(stored["tools"]) == {use.name for use in judgement.tools}


def test_an_extra_call_that_is_invalid_is_fixed_twice():
    """What is wrong with an extra call and that it was made are each fixed for itself."""
    judgement = judged(call("{}"), official=False)
    assert set(classes(judgement)) == {C.MISSING_REQUIRED, C.EXTRA_CALL}
    assert judgement.primary is C.MISSING_REQUIRED
    fixes = {fix.failure_class: (fix.calls, fix.valid) for fix in judgement.fixes}
    assert fixes == {C.MISSING_REQUIRED: GOOD_CALL, C.EXTRA_CALL: NO_CALL}


def test_every_class_of_a_response_has_its_place():
    """Each class but those of failed requests stands in the orders from which the primary is chosen."""
    placed = {*WITHOUT_CALL, *REST, *(kind for kind, _ in INVALID_CALL)}
    assert placed == {kind for kind in C if kind.group is not Group.TRANSPORT}
