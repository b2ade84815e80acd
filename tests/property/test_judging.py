"""Judging never raises, counts add up, and the order of keys does not matter."""

import json
import random
import sys
import time
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from support.tallies import tally_of

from k2_verifier_adapter.core.cases import Case, RowError, decode_row
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass, Group
from k2_verifier_adapter.core.history import HistoryOptions, MalformedHistory
from k2_verifier_adapter.core.judgement import FailedRequest, Judgement
from k2_verifier_adapter.core.judging import tool_calls
from k2_verifier_adapter.core.judging.judge import judge
from k2_verifier_adapter.core.metrics import CALL_SURPLUS, compute_metrics
from k2_verifier_adapter.core.requests import build_request
from k2_verifier_adapter.core.responses import NotACompletion, Response, parse_completion

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(
        ["stop", "tool_calls", "f", "functions.f:0", "{}", "{", "", "\ud800", "\0", '{"a": 1}', "[DONE]"]
    ),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(
                st.sampled_from(
                    ["name", "arguments", "function", "id", "type", "parameters", "tool_calls", "role"]
                ),
                st.text(max_size=3),
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=10,
)
TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}}},
}
CALL = {"id": "functions.f:0", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def mostly(value: Any) -> st.SearchStrategy[Any]:
    """Give the value twice as often as any JSON in its place."""
    return st.one_of(st.just(value), st.just(value), JSON)


FUNCTIONS = st.one_of(
    JSON,
    st.fixed_dictionaries({"name": mostly("f"), "arguments": st.one_of(JSON, JSON.map(json.dumps))}),
    st.sampled_from(
        [
            {"name": "f", "arguments": text}
            for text in ('{"a": 1}', '{"a": "x"}', '{"a"', "{}{}", "", "{'a': 1}", "nul")
        ]
    ),
)
CALLS = st.one_of(JSON, st.fixed_dictionaries({"id": mostly("functions.f:0"), "function": FUNCTIONS}))
MESSAGES = st.one_of(
    JSON, st.fixed_dictionaries({"tool_calls": st.one_of(JSON, st.lists(CALLS, max_size=3))})
)
FINISH = st.one_of(st.sampled_from(["stop", "tool_calls", "tool_calls", "tool_calls", "length", None]), JSON)
CHOICES = st.one_of(JSON, st.fixed_dictionaries({"finish_reason": FINISH, "message": MESSAGES}))
COMPLETIONS = st.one_of(
    JSON, st.fixed_dictionaries({"choices": st.one_of(JSON, st.lists(CHOICES, max_size=2))})
)
TOOLS = st.one_of(
    st.just([TOOL]),
    st.lists(st.one_of(JSON.filter(lambda value: isinstance(value, dict)), st.just(TOOL)), max_size=3),
    st.lists(
        st.fixed_dictionaries(
            {"function": st.fixed_dictionaries({"name": mostly("f"), "parameters": mostly({})})}
        ),
        max_size=2,
    ),
)
DECISIONS = st.sampled_from([(True, "tool_calls"), (False, "stop"), (False, "length"), (False, None)])


def case_of(
    tools: Any = (TOOL,),
    decision: tuple[bool, Any] = (True, "tool_calls"),
    official: Any = None,
    repaired: bool = False,
) -> Case:
    """Decode a row; NaN in generated tools is no JSON, so it is replaced before."""
    message: dict[str, Any] = {"role": "user", "content": "x"}
    if repaired:
        message["tool_calls"] = [{"function": {"name": "f", "arguments": "{"}}]
    row = {
        "messages": [message],
        "tools": _finite(list(tools)),
        "should_call_tool": decision[0],
        "official_finish_reason": decision[1],
        "official_tool_calls": _finite(official),
    }
    return decode_row(row, 0, HistoryOptions())


def _finite(value: Any) -> Any:
    return json.loads(json.dumps(value), parse_constant=lambda _name: 0)


CASES = st.builds(case_of, TOOLS, DECISIONS, st.one_of(st.none(), st.lists(CALLS, max_size=2)), st.booleans())


def judged(case: Case, completion: Any) -> Judgement | NotACompletion:
    """Parse and judge the text of a completion."""
    response = parse_completion(json.dumps(completion))
    return judge(case, response) if isinstance(response, Response) else response


@given(CASES, COMPLETIONS)
@settings(max_examples=100)
def test_judging_never_raises(case: Case, completion: Any) -> None:
    """Any JSON in any place of a completion and of the tools gives a judgement or a failed request."""
    result = judged(case, completion)
    event(type(result).__name__)
    if isinstance(result, NotACompletion):
        assert result.failure_class.group is Group.TRANSPORT
    else:
        event(f"valid={result.tool_calls_valid}")
        json.dumps([failure.as_json() for failure in result.failures])
        assert all(len(failure.detail) < 2_000 for failure in result.failures)
        invalidated = result.calls and result.tool_calls_valid is not True
        assert result.schema_error == invalidated


CALLED = (
    '{"choices": [{"finish_reason": "tool_calls", "message": '
    '{"tool_calls": [{"function": {"name": "f", "arguments": #}}]}}]}'
)
DEEP = [390, 700, 900, 940, 960, 970, 975, 980, 985, 990, 5_000, 100_000]


@pytest.mark.parametrize("depth", DEEP)
@pytest.mark.parametrize(
    "template",
    [
        "@",
        '{"choices": @}',
        '{"choices": [@]}',
        '{"error": @}',
        '{"choices": [{"finish_reason": @}]}',
        '{"choices": [{"finish_reason": "tool_calls", "message": {"tool_calls": @}}]}',
        '{"choices": [{"finish_reason": "tool_calls", "message": {"tool_calls": [{"function": {"name": @}}]}}]}',
        '{"choices": [{"finish_reason": "tool_calls", "message": {"tool_calls": [{"id": @}]}}]}',
        CALLED.replace("#", '{"a": @}'),
        CALLED.replace("#", '"{\\"a\\": @}"'),
    ],
)
def test_any_depth_in_any_place_is_judged(template: str, depth: int) -> None:
    """Nesting up to and beyond what Python can follow gives a judgement or a failed request."""
    case = case_of(official=[CALL])
    response = parse_completion(template.replace("@", "[" * depth + "]" * depth))
    if isinstance(response, Response):
        judgement = judge(case, response)
        json.dumps([failure.as_json() for failure in judgement.failures])


def at_depth(frames: int, action: Any) -> Any:
    """Run an action with that many frames more on the stack."""
    return action() if frames == 0 else at_depth(frames - 1, action)


def test_a_row_that_decodes_can_be_judged_from_a_deep_stack() -> None:
    """The nesting allowed in a row leaves room for whoever judges it later."""
    nested: Any = 1
    for _ in range(380):
        nested = [nested]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"default": nested}}}]
    case = case_of(tools, official=[CALL])
    frames = sys.getrecursionlimit() - 600
    judgement = at_depth(
        frames,
        lambda: judged(
            case, {"choices": [{"finish_reason": "tool_calls", "message": {"tool_calls": [CALL]}}]}
        ),
    )
    assert judgement.tool_calls_valid is not None


def test_a_row_nested_deeper_is_a_row_error() -> None:
    """More nesting than that is the row's fault, said so, whatever the stack."""
    for field, template in (("messages", '[{"role": "user", "content": @}]'), ("tools", '[{"x": @}]')):
        for depth in (401, 700, 950, 5_000, 200_000):
            row = {"messages": '[{"role": "user"}]', "should_call_tool": True}
            row[field] = template.replace("@", "[" * depth + "]" * depth)
            with pytest.raises(RowError, match="nested deeper than 400 levels"):
                decode_row(row, 0, HistoryOptions())


def test_thousands_of_calls_end_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand calls against a slow schema share one time budget."""
    monkeypatch.setattr(tool_calls, "RESPONSE_TIME_S", 0.5)
    slow = {"pattern": "(a|aa)+$"}
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": slow}}}}]
    calls = [
        {"id": f"functions.f:{n}", "function": {"name": "f", "arguments": json.dumps({"a": "a" * 60 + "!"})}}
        for n in range(10_000)
    ]
    start = time.process_time()
    judgement = judged(
        case_of(tools), {"choices": [{"finish_reason": "tool_calls", "message": {"tool_calls": calls}}]}
    )
    assert judgement.tool_calls_valid is False
    assert {failure.failure_class for failure in judgement.failures} == {
        FailureClass.SCHEMA_TIMEOUT,
        FailureClass.REPEATED_CALL,
    }
    assert time.process_time() - start < 8


def test_wide_and_deep_arguments_fill_no_memory() -> None:
    """Agreement over many leaves far below the root walks them without copying their paths."""
    arguments = '{"a": ' + "[" * 900 + ",".join(["1"] * 200_000) + "]" * 900 + "}"
    call = {"id": "functions.f:0", "function": {"name": "f", "arguments": arguments}}
    judgement = judged(
        case_of(official=[CALL]),
        {"choices": [{"finish_reason": "tool_calls", "message": {"tool_calls": [call]}}]},
    )
    assert judgement.argument_agreement == 0.0


@pytest.mark.parametrize("size", [10_000_000])
def test_megabyte_long_names_stay_out_of_the_details(size: int) -> None:
    """Names, ids and reasons of any length leave short details."""
    long = "n" * size
    for call in ({"id": long, "function": {"name": long, "arguments": long}}, long):
        judgement = judged(
            case_of(), {"choices": [{"finish_reason": "tool_calls", "message": {"tool_calls": [call]}}]}
        )
        assert judgement.failures
        assert all(len(failure.detail) < 1_000 for failure in judgement.failures)
    judgement = judged(case_of(), {"choices": [{"finish_reason": long, "message": {"tool_calls": [CALL]}}]})
    assert all(len(failure.detail) < 1_000 for failure in judgement.failures)


# --- rows -----------------------------------------------------------------------------------------

ROWS = st.one_of(
    JSON.filter(lambda value: isinstance(value, dict)),
    st.fixed_dictionaries(
        {},
        optional={
            "messages": st.one_of(
                JSON,
                JSON.map(json.dumps),
                st.lists(st.fixed_dictionaries({"role": mostly("user"), "tool_calls": JSON})),
            ),
            "tools": st.one_of(JSON, JSON.map(json.dumps), TOOLS, st.binary()),
            "should_call_tool": st.one_of(st.booleans(), JSON),
            "official_finish_reason": st.one_of(st.sampled_from(["stop", "tool_calls"]), JSON),
            "official_tool_calls": st.one_of(JSON, JSON.map(json.dumps), st.binary()),
            "parameters": st.one_of(JSON, JSON.map(json.dumps), st.binary()),
            "synthetic": JSON,
        },
    ),
)
OPTIONS = st.builds(HistoryOptions, st.sampled_from(MalformedHistory), st.booleans())


@given(ROWS, OPTIONS)
@settings(max_examples=80)
def test_any_row_decodes_or_is_a_row_error(row: dict[str, Any], options: HistoryOptions) -> None:
    """Any row is a case whose request is strict JSON, or a RowError."""
    try:
        case = decode_row(row, 0, options)
    except RowError as error:
        event("row error")
        message = str(error)
    else:
        message = ""
    assert len(message) < 1_000
    if message:
        return
    event("case")
    body = build_request(case, "m", case.parameters).body
    json.loads(body, parse_constant=lambda name: pytest.fail(f"{name} in a request"))
    judged(case, {"choices": [{"finish_reason": "tool_calls", "message": {"tool_calls": [CALL]}}]})


def shuffled(value: Any, rng: random.Random) -> Any:
    """Give the value with the keys of every object in another order."""
    if isinstance(value, dict):
        names = list(value)
        rng.shuffle(names)
        return {name: shuffled(value[name], rng) for name in names}
    return [shuffled(item, rng) for item in value] if isinstance(value, list) else value


@given(TOOLS, DECISIONS, st.lists(CALLS, max_size=2), COMPLETIONS, st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_key_order_does_not_matter(
    tools: Any, decision: Any, official: Any, completion: Any, rng: random.Random
) -> None:
    """Rows and responses with their keys in another order are worth the same."""
    one = judged(case_of(tools, decision, official), completion)
    other = judged(
        case_of(shuffled(tools, rng), decision, shuffled(official, rng)), shuffled(completion, rng)
    )
    if isinstance(one, NotACompletion) or isinstance(other, NotACompletion):
        assert type(one) is type(other)
        return
    for name in ("bucket", "tool_calls_valid", "official_valid", "same_names", "argument_agreement"):
        assert getattr(one, name) == getattr(other, name)
    assert sorted(f.failure_class for f in one.failures) == sorted(f.failure_class for f in other.failures)


# --- counts ---------------------------------------------------------------------------------------

JUDGEMENTS = (
    st.tuples(
        CASES,
        st.fixed_dictionaries(
            {"choices": st.lists(CHOICES.filter(lambda c: isinstance(c, dict)), min_size=1, max_size=1)}
        ),
    )
    .map(lambda pair: judged(*pair))
    .filter(lambda result: isinstance(result, Judgement))
)
FAILED = st.builds(
    FailedRequest,
    st.integers(0, 3),
    st.builds(Failure, st.sampled_from([FailureClass.TIMED_OUT, FailureClass.HTTP_5XX]), st.just("x")),
    st.sampled_from([None, 500]),
)
ENTRIES = st.lists(st.one_of(st.tuples(st.integers(0, 3), JUDGEMENTS), FAILED), max_size=6)


@given(ENTRIES)
@settings(max_examples=100)
def test_counts_add_up(entries: list[Any]) -> None:
    """The four decisions, the buckets and the two outcomes of a call partition what they should."""
    tally = tally_of(entries)
    judgements = [entry[1] for entry in entries if not isinstance(entry, FailedRequest)]
    for counts in (tally.counts, tally.unrepaired):
        assert counts.tp + counts.fp + counts.fn + counts.tn == counts.completed
        assert counts.tp + counts.fp == counts.tool_calls
        assert counts.stop + counts.tool_calls + counts.others <= counts.completed
        assert counts.successful + counts.schema_errors == counts.tool_calls
        assert counts.official_stop + counts.official_tool_calls + counts.official_others == counts.completed
        assert counts.official_successful + counts.official_schema_errors == counts.official_tool_calls
        assert counts.name_matches <= counts.name_pairs <= counts.tp
        assert 0 <= counts.argument_sum <= counts.argument_pairs <= counts.name_pairs
    assert tally.counts.completed == len(judgements)
    assert tally.unrepaired.completed == sum(not judgement.repaired for judgement in judgements)
    assert tally.failed == len(entries) - len(judgements)
    assert sum(tally.others_detail.values()) == tally.counts.others
    for kind, count in tally.failure_counts.items():
        assert count >= len(tally.failure_cases[kind]) >= 1
    for metric in compute_metrics(tally):
        if metric.value is not None and metric.interval is not None:
            low, high = metric.interval.low, metric.interval.high
            assert low <= metric.value <= high
            assert (low >= -1) if metric.name == CALL_SURPLUS else (0 <= low <= high <= 1)
        if metric.n == 0 and not metric.name.startswith(("count", "schema_validation")):
            assert metric.value is None


def test_one_bad_call_is_one_schema_error_and_several_failures() -> None:
    """A response counts once for each class that it shows, however often it shows it."""
    calls = [{"id": "functions.f:0", "function": {"name": "f", "arguments": "{"}}] * 3
    judgement = judged(
        case_of(), {"choices": [{"finish_reason": "tool_calls", "message": {"tool_calls": calls}}]}
    )
    tally = tally_of([(7, judgement), (7, judgement)])
    assert tally.failure_counts == {FailureClass.TRUNCATED_JSON: 2, FailureClass.DUPLICATE_TOOL_CALL_ID: 2}
    assert tally.failure_cases[FailureClass.TRUNCATED_JSON] == {7: None}
    assert (tally.counts.tool_calls, tally.counts.schema_errors) == (2, 2)
