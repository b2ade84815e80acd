"""Every fault of the simulated vendor is found as what it is, and named by the first finding."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from importlib import resources

import pytest
from support.planned_answers import answered

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.diagnosis.findings import diagnose, what_ifs
from k2_verifier_adapter.core.diagnosis.measures import Context, Measure, Measures
from k2_verifier_adapter.core.diagnosis.rules import RULES
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.judging.judge import judge
from k2_verifier_adapter.core.responses import Response
from k2_verifier_adapter.core.tally import Tally
from k2_verifier_adapter.simulator import PROFILES, profile_named, profile_with
from k2_verifier_adapter.simulator.faults import FAULTS, TransportFault
from k2_verifier_adapter.simulator.planning import Planner, Slot

TOKEN_LIMIT = 16_000


@cache
def rows():
    """Read every fourth of the bundled rows, and decode them."""
    lines = (
        resources.files("k2_verifier_adapter.data").joinpath("bundled_rows.jsonl").read_text().splitlines()
    )
    chosen = [json.loads(line) for line in lines[::4]]
    return chosen, [decode_row(row, index, HistoryOptions()) for index, row in enumerate(chosen)]


def verified(profile, *, stream):
    """Plan and judge an answer to every row; give the tally, and for each fault the judgements."""
    chosen, cases = rows()
    planner = Planner(chosen, cases, profile, seed=1, model="m")
    tally, found = Tally(), []
    for number, case in enumerate(cases):
        plan = planner.plan(Slot("", 0, number, 0, 1), stream=stream)
        fault = plan.fault
        if isinstance(fault, TransportFault):
            failure = Failure(fault.failure_class, "simulated")
            tally.add_failed(FailedRequest(number, failure, fault.status))
            found.append((case, fault, None))
            continue
        response, anomalies = answered(plan, number)
        assert isinstance(response, Response)
        judgement = judge(case, response, anomalies, token_limit=TOKEN_LIMIT)
        tally.add(number, judgement)
        found.append((case, fault, judgement))
    return tally, found


def is_invisible(case, fault):
    """Whether the official answer ends as the fault would have it end."""
    ends = {FailureClass.TRUNCATED_BY_LENGTH: "length", FailureClass.CONTENT_FILTERED: "content_filter"}
    return case.official.finish_reason == ends.get(fault.failure_class)


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.value)
def test_the_class_found_is_the_injected_one(kind):
    """Of every answer with the fault, the primary class is the fault's; answers without it show nothing."""
    stream = any(fault.stream is not False for fault in FAULTS[kind])
    tally, found = verified(profile_with({kind.value: 1.0}), stream=stream)
    hit = [(case, judgement) for case, fault, judgement in found if fault and not is_invisible(case, fault)]
    assert len(hit) >= 5
    for case, judgement in hit:
        assert judgement is None or judgement.primary is kind, (case.index, judgement.failures)
    for case, fault, judgement in found:
        if fault is None or is_invisible(case, fault):
            assert judgement.failures == (), case.index
    findings = diagnose(tally, Context(), RULES)
    assert kind in findings[0].classes
    # What is told apart within a class, such as an empty object that fits, may be too little for a finding.
    counted = sum(found.classes.get(kind, 0) for found in findings)
    assert len(hit) - 2 <= max(counted, findings[0].count) <= len(hit)


@pytest.mark.parametrize("stream", [True, False])
def test_the_official_vendor_shows_nothing_at_all(stream):
    """On official answers there is no failure, no note, no what-if and no finding."""
    tally, found = verified(profile_named("official"), stream=stream)
    assert len(found) == 60
    for case, _, judgement in found:
        assert (judgement.failures, judgement.notes, judgement.fixes) == ((), (), ()), case.index
    assert not tally.failure_counts
    assert not tally.traits
    assert what_ifs(tally) == ()
    assert diagnose(tally, Context(models=Counter(m=60)), RULES) == ()


FIRST_FINDINGS = {
    "noisy": "decisions_differ_both_ways",
    "truncating": "arguments_cut_short",
    "leaky-parser": "tool_parser_leaks",
    "reasoning-eater": "reasoning_parser_swallows_calls",
    "no-guided-decoding": "no_guided_decoding",
    "wrong-template": "chat_template_misses_calls",
    "over-triggering": "calls_too_often",
    "bad-ids": "ids_not_normalised",
    "length-limited": "token_limit_too_low",
    "stop-with-calls": "finish_reason_before_parsing",
    "flaky-network": "flaky_network",
}


@pytest.mark.parametrize("name", FIRST_FINDINGS)
def test_every_profile_is_named_by_its_first_finding(name):
    """Of every answer the primary class is the injected fault's, and the first finding is the profile's."""
    tally, found = verified(profile_named(name), stream=True)
    for case, fault, judgement in found:
        if judgement is not None and fault is not None and not is_invisible(case, fault):
            assert judgement.primary is fault.failure_class, (case.index, judgement.failures)
        elif judgement is not None:
            assert judgement.failures == (), case.index
    assert diagnose(tally, Context(), RULES)[0].rule == FIRST_FINDINGS[name]


def test_every_profile_has_an_expected_finding():
    """No shipped profile but the sound one and the mix of everything is left out above."""
    assert {*FIRST_FINDINGS, "official", "broken"} == PROFILES.keys()


def test_a_call_that_leaks_can_be_read_as_well_as_the_official_one():
    """Where the official call is valid, so is what is read out of its leaked markup."""
    _, found = verified(profile_with({"markup_in_content": 0.5, "markup_in_reasoning": 0.5}), stream=True)
    leaks = [judgement.failures[0] for _, fault, judgement in found if fault]
    assert len(leaks) > 20
    assert {failure.leaked_call.value for failure in leaks} == {"complete"}


def test_a_mixed_vendor_is_explained_as_a_whole():
    """Several faults at once: each cause is found, and what they explain adds up to the loss."""
    mixed = {"markup_in_content": 0.3, "missing_required": 0.3, "extra_call": 0.3}
    tally, _ = verified(profile_with(mixed), stream=True)
    findings = {finding.rule: finding for finding in diagnose(tally, Context(), RULES)}
    assert set(findings) == {"tool_parser_leaks", "no_guided_decoding", "calls_too_often"}
    assert findings["no_guided_decoding"].explains.schema_accuracy == pytest.approx(1)
    shares = [finding.explains.trigger_similarity for finding in findings.values()]
    assert sum(shares) == pytest.approx(1, abs=0.1)


def test_shares_are_never_more_than_the_whole():
    """On a vendor with every fault, each share that evidence quotes is one, repairable arguments included."""
    tally, _ = verified(profile_named("broken"), stream=True)
    measures = Measures(tally, Context())
    shares = {measure: measures.value(measure) for measure in Measure if measure.value.endswith("share")}
    shares[Measure.REPAIRABLE] = measures.value(Measure.REPAIRABLE)
    assert 0 < shares[Measure.REPAIRABLE] <= 1
    assert all(share is None or 0 <= share <= 1 for share in shares.values()), shares
