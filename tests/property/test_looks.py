"""Looks depend on the answers alone: not on the order in which they come, on kills, or on what is under way."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from support.drawn_rows import row

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.judged import judge_response
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.looks import Looks
from k2_verifier_adapter.core.presets import Standard
from k2_verifier_adapter.core.responses import read_completion
from k2_verifier_adapter.core.run_facts import (
    RowsInfo,
    RunFacts,
    StoppingRule,
    facts_as_json,
    facts_from_json,
)
from k2_verifier_adapter.core.sampling import in_stratified_order
from k2_verifier_adapter.core.statistics.sequential import plan
from k2_verifier_adapter.core.summary import summarize
from k2_verifier_adapter.core.verdict import GateOptions, Requirements, Status

CASES = [decode_row(row(n, calls=n % 2 == 0), n, HistoryOptions()) for n in range(300)]
CALL = {"id": "functions.look:0", "type": "function", "function": {"name": "look", "arguments": '{"n":1}'}}
RULE = StoppingRule(7, plan(len(CASES)))
ORDER = [case.index for case in in_stratified_order(CASES, RULE.seed)]
FACTS = RunFacts(
    model="m",
    subset="s",
    parameters={},
    rows=RowsInfo("rows", "0", synthetic=False),
    planned=len(CASES),
    repeats=1,
    started_at="",
    finished_at=None,
    complete=False,
    endpoint_host=None,
    adapter="",
    evalscope="",
    python="",
    standard=Standard(0.73, None, "test"),
    gate=GateOptions(requirements=Requirements(surplus=None)),
    stopping=RULE,
)


def answer(case, *, calls, repeat=0):
    """Judge an answer that calls, or does not."""
    message = {"content": "", "tool_calls": [CALL]} if calls else {"content": "Looked."}
    finish = "tool_calls" if calls else "stop"
    response = read_completion({"choices": [{"finish_reason": finish, "message": message}]})
    return judge_response(case, response, parameters=None, repeat=repeat)


ITEMS = {case.index: {calls: answer(case, calls=calls) for calls in (True, False)} for case in CASES}


def drawn(rng, agreement, failing=0.0):
    """Draw what becomes of every request."""
    items = {}
    for case in CASES:
        calls = case.official.should_call == (rng.random() < agreement)
        failed = FailedRequest(case.index, Failure(FailureClass.TIMED_OUT, "late"), None)
        items[case.index] = failed if rng.random() < failing else ITEMS[case.index][calls]
    return items


def followed(items, order):
    """Follow the items as they finish; give the looks when nothing more would be sent."""
    looks = Looks(FACTS, RULE, CASES)
    for index in order:
        looks.add(items[index])
        if looks.decided:
            break
    return looks


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**30), st.sampled_from([0.5, 0.7, 0.75, 0.9, 1.0]), st.sampled_from([0.0, 0.01, 0.3]))
def test_the_look_of_the_decision_is_that_of_the_order(seed, agreement, failing):
    """Finished out of order, with up to 16 under way, a run is decided at the look of a run one by one."""
    rng = random.Random(seed)
    items = drawn(rng, agreement, failing)
    alone = followed(items, ORDER)
    assert alone.decided
    under_way, finishing = list(ORDER), []
    while under_way:
        finishing.append(under_way.pop(rng.randrange(min(16, len(under_way)))))
    together = followed(items, finishing)
    assert (together.rule, together.settled) == (alone.rule, alone.settled)
    # Killed anywhere and gone on with: stored answers come first, in row order.
    cut = rng.randrange(len(finishing))
    resumed = followed(items, [*sorted(finishing[:cut]), *finishing[cut:]])
    assert (resumed.rule, resumed.settled) == (alone.rule, alone.settled)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**30), st.sampled_from([0.5, 0.75, 1.0]))
def test_the_report_says_what_the_look_said(seed, agreement):
    """The facts are stored and read back; the summary is of the prefix, whatever else was answered."""
    rng = random.Random(seed)
    items = drawn(rng, agreement)
    looks = followed(items, ORDER)
    facts = facts_from_json(facts_as_json(looks.facts_of(replace(FACTS, complete=True))))
    assert facts.stopping == looks.rule
    prefix = ORDER[: facts.stopping.cases]
    beyond = ORDER[len(prefix) : len(prefix) + rng.randrange(17)]
    summary = summarize(facts, CASES, [items[index] for index in (*beyond, *prefix)])
    exact = summarize(facts, CASES, [items[index] for index in prefix])
    assert summary.total == summary.completed == len(prefix) == facts.planned
    assert summary.under_way == len(beyond)
    assert summary.verdict == exact.verdict
    assert looks.settled is (summary.verdict.status in {Status.PASS, Status.FAIL})


def test_too_many_failures_are_never_decided():
    """Where more than one request in fifty failed, no look can pass or fail, and the last one ends it."""
    looks = followed(drawn(random.Random(1), 0.5, 0.3), ORDER)
    assert not looks.settled
    assert looks.rule.cases == len(CASES)


def test_a_case_has_finished_when_all_its_repeats_have():
    """With two requests a case, the first look waits for both of all its cases."""
    facts = replace(FACTS, repeats=2)
    looks = Looks(facts, RULE, CASES)
    first = ORDER[: RULE.design.looks[0]]
    for repeat in (0, 1):
        for index in first:
            assert looks.rule.look is None
            case = CASES[index]
            looks.add(answer(case, calls=case.official.should_call, repeat=repeat))
    assert looks.rule.look == 0
    assert looks.facts_of(replace(facts, complete=True)).planned == 2 * len(first)


def test_an_unfinished_run_keeps_its_plan():
    """Facts of a run that was interrupted keep all requests as planned, and the last look that was judged."""
    looks = followed(drawn(random.Random(1), 0.8), ORDER[: RULE.design.looks[1]])
    facts = looks.facts_of(FACTS)
    assert not facts.complete
    assert facts.planned == len(CASES)
    assert facts.stopping == replace(RULE, look=1)
    assert str(looks).startswith("look 2 of 12: 0 of 2 checks decided, end ~")
