"""Detectors never raise, whatever comes; what is counted of their findings adds up and merges."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from math import isclose
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st
from support.tallies import merged, tally_of

from k2_verifier_adapter.core.cases import Case, decode_row
from k2_verifier_adapter.core.counts import Counts
from k2_verifier_adapter.core.diagnosis.findings import diagnose, metrics_if_fixed, metrics_of, what_ifs
from k2_verifier_adapter.core.diagnosis.measures import Context
from k2_verifier_adapter.core.diagnosis.rules import RULES
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass, Group
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.judgement import FailedRequest, Judgement
from k2_verifier_adapter.core.judging.arguments import is_repairable, notes_on
from k2_verifier_adapter.core.judging.judge import judge
from k2_verifier_adapter.core.judging.markup import (
    FOREIGN_TOKENS,
    K2_TOKENS,
    MARKERS,
    find_markers,
    find_tokens,
    may_be_bare_call,
    may_hold_markup,
    read_calls,
)
from k2_verifier_adapter.core.messages import names_in_history, texts_of
from k2_verifier_adapter.core.records import judgement_as_json
from k2_verifier_adapter.core.requests import token_limit_of
from k2_verifier_adapter.core.responses import Response, read_completion
from k2_verifier_adapter.core.tally import Tally

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}

PIECES = st.one_of(
    st.sampled_from([*MARKERS, *K2_TOKENS, *FOREIGN_TOKENS]),
    st.sampled_from(
        ["functions.f:0", "f:0", "call_1", '{"a": 1}', '{"a": ', "<|", "|>", "{", " ", "\n", "Hi.", "'", "\\"]
    ),
    st.text(max_size=4),
)
TEXTS = st.lists(PIECES, max_size=8).map("".join)
CUT_TEXTS = st.builds(lambda text, begin, end: text[begin : len(text) - end], TEXTS, *[st.integers(0, 9)] * 2)
ARGUMENTS = st.one_of(
    CUT_TEXTS,
    st.sampled_from(['{"a": 1}', '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": "x"}', "", "{}{}", "{'a': 1}"]),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), CUT_TEXTS)
KEYS = st.one_of(
    st.sampled_from(["text", "content", "summary", "type", "name", "arguments", "function", "role"]),
    st.text(max_size=3),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)
CALLS = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {
            "id": st.one_of(st.just("functions.f:0"), JSON),
            "function": st.fixed_dictionaries({"name": st.sampled_from(["f", "g"]), "arguments": ARGUMENTS}),
        }
    ),
)
MESSAGES = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {},
        optional={
            "content": st.one_of(CUT_TEXTS, JSON),
            "reasoning_content": st.one_of(CUT_TEXTS, JSON),
            "reasoning": st.one_of(CUT_TEXTS, JSON),
            "reasoning_details": st.lists(st.fixed_dictionaries({"text": CUT_TEXTS}), max_size=2),
            "refusal": JSON,
            "tool_calls": st.one_of(JSON, st.lists(CALLS, max_size=3)),
        },
    ),
)
FINISH = st.one_of(
    st.sampled_from(["stop", "tool_calls", "tool_calls", "length", "content_filter", None]), JSON
)
USAGE = st.one_of(JSON, st.fixed_dictionaries({"completion_tokens": st.one_of(st.just(5), JSON)}))
COMPLETIONS = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.fixed_dictionaries({"finish_reason": FINISH, "message": MESSAGES}), min_size=1, max_size=1
        ),
        "usage": USAGE,
    }
)
ENDS = st.sampled_from(
    [(True, "tool_calls"), (False, "stop"), (False, "length"), (False, "content_filter"), (False, "")]
)
PROMPTS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool"])},
        optional={
            "content": st.one_of(CUT_TEXTS, JSON),
            "name": JSON,
            "tool_calls": st.lists(CALLS, max_size=2),
        },
    ),
    min_size=1,
    max_size=3,
)
STREAM = st.lists(
    st.sampled_from([kind for kind in FailureClass if kind.group is Group.STREAM]), max_size=2, unique=True
)


def finite(value: Any) -> Any:
    """Replace what is no JSON."""
    return json.loads(json.dumps(value), parse_constant=lambda _: 0)


def judged(prompt: Any, end: Any, official: Any, completion: Any, anomalies: Any) -> Judgement:
    """Judge a completion against a row."""
    row = {
        "messages": finite(prompt),
        "tools": [TOOL],
        "should_call_tool": end[0],
        "official_finish_reason": end[1],
        "official_tool_calls": finite(official),
    }
    response = read_completion(json.loads(json.dumps(completion)))
    assert isinstance(response, Response)
    return judge(decode_row(row, 0, HistoryOptions()), response, anomalies, token_limit=5)


JUDGEMENTS = st.builds(
    judged, PROMPTS, ENDS, st.one_of(st.none(), st.lists(CALLS, max_size=1)), COMPLETIONS, STREAM
)


@given(JUDGEMENTS)
@settings(max_examples=80)
def test_any_response_has_its_failures_and_one_primary(judgement: Judgement) -> None:
    """Detectors give data for any response: short details, a primary among the classes, storable."""
    event(f"primary {judgement.primary and judgement.primary.value}")
    kinds = {failure.failure_class for failure in judgement.failures}
    assert (judgement.primary is None) == (not kinds)
    assert judgement.primary is None or judgement.primary in kinds
    assert {fix.failure_class for fix in judgement.fixes} <= kinds
    assert len(judgement.fixes) <= 2
    assert all(len(failure.detail) < 2_000 for failure in judgement.failures)
    stored = judgement_as_json(0, judgement)
    assert json.loads(json.dumps(stored)) == stored


@given(JUDGEMENTS)
@settings(max_examples=100)
def test_failures_say_what_the_judgement_counts(judgement: Judgement) -> None:
    """A decision class is shown exactly where the decisions differ, an invalidating cause where it must be."""
    kinds = {failure.failure_class for failure in judgement.failures}
    assert (FailureClass.MISSED_CALL in kinds) == (judgement.should_call and not judgement.calls)
    assert (FailureClass.EXTRA_CALL in kinds) == (judgement.calls and not judgement.should_call)
    if judgement.schema_error or judgement.should_call != judgement.calls:
        assert judgement.fixes
    for fix in judgement.fixes:
        assert (fix.calls, fix.calls and fix.valid) != (
            judgement.calls,
            judgement.successful,
        )


@given(CUT_TEXTS)
@settings(max_examples=100)
def test_any_text_is_scanned(text: str) -> None:
    """Whatever a text holds, its markup is listed as it stands, and found only where it may be."""
    found = [*find_markers(text), *find_tokens(text)]
    assert all(marker.strip() in text for marker in found)
    if found or may_be_bare_call(text):
        assert may_hold_markup(text)
    for call in read_calls(text, ["f"]):
        assert call["function"]["name"]
        assert call["function"]["arguments"] in text
    is_repairable(text)


@given(JSON, JSON)
@settings(max_examples=100)
def test_any_json_in_the_place_of_parts(one: Any, other: Any) -> None:
    """Texts, notes, names and limits are taken out of anything."""
    message = {"content": one, "reasoning": other, "reasoning_details": one, "refusal": other}
    texts_of(message)
    notes_on(
        [one, {"function": other}, {"function": {"name": one, "arguments": other}}], frozenset({0, 1, 2})
    )
    names_in_history([one, {"role": "tool", "name": other}, {"tool_calls": one}, {"tool_calls": [other]}])
    token_limit_of({"max_tokens": one, "max_completion_tokens": other})


@given(
    st.recursive(
        st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    )
)
@settings(max_examples=80)
def test_what_is_json_needs_no_repair(value: Any) -> None:
    """An object or a list is read by the repair, whole or cut behind its first character."""
    if isinstance(value, (dict, list)):
        text = json.dumps(value)
        assert is_repairable(text)
        assert is_repairable(text[:1])


FAILED = st.builds(
    FailedRequest,
    st.integers(0, 3),
    st.builds(Failure, st.sampled_from([FailureClass.TIMED_OUT, FailureClass.HTTP_4XX]), st.just("x")),
    st.sampled_from([None, 400, 404]),
    as_no_call_against=st.sampled_from([None, True, False]),
)
ENTRIES = st.lists(st.one_of(st.tuples(st.integers(0, 3), JUDGEMENTS), FAILED), max_size=6)


def assert_same(one: Tally, other: Tally) -> None:
    """Compare what reports and the diagnosis rest on; sums of shares as floats, all else exactly."""
    for name in ("counts", "unrepaired"):
        for item in Counts.__slots__:
            found = getattr(getattr(one, name), item)
            assert isclose(found, getattr(getattr(other, name), item), abs_tol=1e-9)
    for name in ("failed", "others_detail", "failure_counts", "failed_statuses"):
        assert getattr(one, name) == getattr(other, name)
    for name in ("primary_counts", "traits", "tools", "changes"):
        assert getattr(one, name) == getattr(other, name)
    for name in ("symptoms", "sound", "sound_unseen"):
        assert getattr(one, name) == getattr(other, name)
    assert {kind: list(cases) for kind, cases in one.failure_cases.items()} == {
        kind: list(cases) for kind, cases in other.failure_cases.items()
    }
    assert diagnose(one, Context(), RULES) == diagnose(other, Context(), RULES)
    assert what_ifs(one) == what_ifs(other)


@given(ENTRIES, ENTRIES, ENTRIES)
@settings(max_examples=60)
def test_merging_equals_counting_one_by_one(a: list[Any], b: list[Any], c: list[Any]) -> None:
    """Counts, causes, traits and tools merge in whatever way; the empty tally changes nothing."""
    x, y, z = tally_of(a), tally_of(b), tally_of(c)
    everything = tally_of(a, b, c)
    assert_same(merged(merged(x, y), z), everything)
    assert_same(merged(x, merged(y, z)), everything)
    assert_same(merged(Tally(), everything), everything)


@given(ENTRIES)
@settings(max_examples=80)
def test_what_if_is_judging_again(entries: list[Any]) -> None:
    """The sums give what counting every response with the class fixed gives."""
    tally = tally_of(entries)
    for kind in tally.changes:
        counts = Counts()
        for entry in entries:
            if isinstance(entry, FailedRequest):
                counts.add_failed(entry)
                if entry.failure.failure_class is kind and entry.as_no_call_against:
                    counts.add_completion()
            else:
                counts.add(fixed(entry[1], kind))
        expected, found = metrics_of(counts), metrics_if_fixed(tally, (kind,))
        for name in ("trigger_similarity", "schema_accuracy"):
            one, other = getattr(expected, name), getattr(found, name)
            assert (one is None) == (other is None)
            assert one is None or isclose(one, other)


def fixed(judgement: Judgement, kind: FailureClass) -> Judgement:
    """Give a judgement with one class fixed."""
    for fix in judgement.fixes:
        if fix.failure_class is kind:
            bucket = "tool_calls" if fix.calls else "stop"
            return replace(
                judgement,
                bucket=type(judgement.bucket)(bucket),
                tool_calls_valid=fix.valid if fix.calls else None,
            )
    return judgement


@given(ENTRIES)
@settings(max_examples=100)
def test_every_response_has_one_cause(entries: list[Any]) -> None:
    """Primary counts add up to the responses and requests that show any failure."""
    tally = tally_of(entries)
    failing = sum(isinstance(entry, FailedRequest) or bool(entry[1].failures) for entry in entries)
    assert sum(tally.primary_counts.values()) == failing
    for kind, count in tally.primary_counts.items():
        assert 1 <= count <= tally.failure_counts[kind]
    for counts in tally.tools.by_name.values():
        assert 0 <= counts.invalid <= counts.calls


def steps_of(case: Case, message: dict[str, Any]) -> int:
    """Count the calls of functions, Python's and built-in ones, that judging a message takes."""
    response = read_completion({"choices": [{"finish_reason": "stop", "message": message}]})
    assert isinstance(response, Response)
    steps = 0

    def count(_frame: Any, event_name: str, _argument: Any) -> None:
        nonlocal steps
        steps += event_name in ("call", "c_call")

    sys.setprofile(count)
    try:
        judgement = judge(case, response)
    finally:
        sys.setprofile(None)
    assert judgement.failures == ()
    return steps


def test_a_clean_answer_costs_next_to_nothing() -> None:
    """An answer without markup takes a few steps, hardly more for a long text than for a short one."""
    row = {"messages": [{"role": "user", "content": "x"}], "should_call_tool": False}
    case = decode_row(row, 0, HistoryOptions())
    text = "The quick brown fox | jumps over < the lazy dog. "
    short = steps_of(case, {"content": text, "reasoning_content": text})
    assert short < 100
    long = "".join(f"{number} {text}" for number in range(10_000))
    # Whether it goes round in a loop is looked up in five places of each text.
    assert steps_of(case, {"content": long, "reasoning_content": long}) < short + 100
