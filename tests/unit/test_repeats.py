"""Repeats of a case: one cluster for the intervals, and the rate at which its decision flips."""

import random
from collections import defaultdict
from itertools import combinations
from math import isclose

import numpy as np
import pytest

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.judgement import FailedRequest, Judgement
from k2_verifier_adapter.core.metrics import compute_metrics
from k2_verifier_adapter.core.responses import FinishBucket
from k2_verifier_adapter.core.statistics.decisions import CaseDecisions
from k2_verifier_adapter.core.statistics.intervals import f1_interval, wilson
from k2_verifier_adapter.core.tally import Tally

RATES = (
    "trigger_similarity",
    "schema_accuracy",
    "tool_call_precision",
    "tool_call_recall",
    "tool_name_agreement",
    "argument_agreement",
    "inference_error_rate",
)


def judgement(*, calls, should_call=True, valid=True, names=None, agreement=None):
    """Make the judgement of a response that calls or stops."""
    both = calls and should_call
    return Judgement(
        finish_reason="tool_calls" if calls else "stop",
        bucket=FinishBucket.TOOL_CALLS if calls else FinishBucket.STOP,
        tool_calls_valid=valid if calls else None,
        should_call=should_call,
        official_bucket=FinishBucket.TOOL_CALLS if should_call else FinishBucket.STOP,
        official_valid=True if should_call else None,
        same_names=names if both else None,
        argument_agreement=agreement if both else None,
        repaired=False,
        failures=(),
    )


def failure(case):
    """Make a failed request."""
    return FailedRequest(case, Failure(FailureClass.TIMED_OUT, "no answer"))


def tally_of(cases, start=0):
    """Tally cases, each a list of judgements; None is a failed request."""
    tally = Tally()
    for case, responses in enumerate(cases, start=start):
        for response in responses:
            if response is None:
                tally.add_failed(failure(case))
            else:
                tally.add(case, response)
    return tally


def metrics_of(cases):
    """Give the metrics of cases, by name."""
    return {metric.name: metric for metric in compute_metrics(tally_of(cases))}


def random_cases(seed, count=60, most=4, least=1):
    """Make cases of some repeats each, whose responses depend on the case."""
    rng = random.Random(seed)
    cases = []
    for _ in range(count):
        leaning, should_call = rng.random(), rng.random() < 0.6
        cases.append(
            [
                None
                if rng.random() < 0.08
                else judgement(
                    calls=rng.random() < leaning,
                    should_call=should_call,
                    valid=rng.random() < 0.3 + 0.7 * leaning,
                    names=rng.random() < 0.8,
                    agreement=rng.choice([0.0, 0.25, 0.5, 1.0, leaning]),
                )
                for _ in range(rng.randint(least, most))
            ]
        )
    return cases


def ratio_terms(name, response):
    """Give numerator and denominator that one response adds to a rate, from the metric's definition."""
    if response is None:
        return (1.0, 1.0) if name == "inference_error_rate" else (0.0, 0.0)
    calls, should_call = response.calls, response.should_call
    both = calls and should_call
    return {
        "trigger_similarity": (float(both), float(calls or should_call)),
        "schema_accuracy": (float(response.successful), float(calls)),
        "tool_call_precision": (float(both), float(calls)),
        "tool_call_recall": (float(both), float(should_call)),
        "tool_name_agreement": (float(bool(response.same_names)), float(both)),
        "argument_agreement": (response.argument_agreement or 0.0, float(both)),
        "inference_error_rate": (0.0, 1.0),
    }[name]


def design_effect(name, cases):
    """Compute value, denominator and design effect with numpy, every cluster apart, two or four added."""
    sums = np.array([np.sum([ratio_terms(name, item) for item in case], axis=0) for case in cases])
    sums = sums[sums[:, 1] > 0]
    size = sums[:, 1].sum() / len(sums)
    ends = [[0.0, size], [size, size]] * (2 if name == "argument_agreement" else 1)
    more = np.concatenate([sums, ends])
    x, n = more[:, 0], more[:, 1]
    value = x.sum() / n.sum()
    effect = np.sum((x - value * n) ** 2) / (n.sum() * value * (1 - value))
    return sums[:, 0].sum() / sums[:, 1].sum(), sums[:, 1].sum(), effect


def expected_interval(name, cases):
    """Give the interval that follows from the design effect, by the formulas of the docs."""
    value, n, effect = design_effect(name, cases)
    if name != "argument_agreement":  # shares vary less than yes and no do; a rate never does
        effect = max(1.0, effect)
    if name == "trigger_similarity":
        base = f1_interval(value * n / effect, (1 - value) * n / effect, 0)
    else:
        base = wilson(value * n / effect, n / effect)
    return base.low, base.high


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("seed", range(5))
def test_clustered_interval_equals_an_independent_computation(name, seed):
    """The interval is that of the design effect, computed cluster by cluster."""
    cases = random_cases(seed)
    metric = metrics_of(cases)[name]
    assert metric.interval.method.endswith("_clustered")
    value, n, _ = design_effect(name, cases)
    shown = 2 * value / (1 + value) if name == "trigger_similarity" else value
    assert isclose(metric.value, shown, abs_tol=1e-12)
    assert metric.n == n
    low, high = expected_interval(name, cases)
    assert isclose(metric.interval.low, low, abs_tol=1e-9)
    assert isclose(metric.interval.high, high, abs_tol=1e-9)


@pytest.mark.parametrize("name", RATES)
def test_without_repeats_nothing_changes(name):
    """Cases asked once have the plain interval, to the last bit and by its plain name."""
    cases = random_cases(7, most=1)
    metric = metrics_of(cases)[name]
    terms = [ratio_terms(name, item) for case in cases for item in case]
    successes, n = sum(x for x, _ in terms), sum(n for _, n in terms)
    assert "clustered" not in metric.interval.method
    if name == "argument_agreement":
        return
    is_f1 = name == "trigger_similarity"
    plain = f1_interval(successes, n - successes, 0) if is_f1 else wilson(successes, n)
    assert (metric.interval.low, metric.interval.high) == (plain.low, plain.high)
    assert "decision_flip_rate" not in metrics_of(cases)


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("repeats", [2, 5])
def test_identical_repeats_say_nothing_new(name, repeats):
    """N equal answers to each case give the interval of one answer each: the design effect is N."""
    once = random_cases(3, count=200, most=1)
    plain = metrics_of(once)[name]
    repeated = metrics_of([case * repeats for case in once])[name]
    assert isclose(repeated.value, plain.value)
    assert repeated.n == repeats * plain.n
    width = repeated.interval.high - repeated.interval.low
    assert isclose(width, plain.interval.high - plain.interval.low, rel_tol=0.04)


def test_independent_repeats_narrow_the_interval():
    """Where the repeats of a case have nothing to do with each other, they count nearly in full."""
    rng = random.Random(11)
    cases = [[judgement(calls=rng.random() < 0.7) for _ in range(4)] for _ in range(400)]
    metric = metrics_of(cases)["tool_call_recall"]
    successes = sum(item.calls for case in cases for item in case)
    plain = wilson(successes, 1600)
    assert isclose(metric.interval.high - metric.interval.low, plain.high - plain.low, rel_tol=0.12)


def test_one_case_is_one_observation():
    """A hundred answers to a single case say hardly more of other cases than one answer does."""
    cases = [[judgement(calls=number % 2 == 0) for number in range(100)]]
    interval = metrics_of(cases)["tool_call_recall"].interval
    # Of three clusters of 100 with 0, 50 and 100 calls the effect is 5000 / 75.
    assert interval.n == pytest.approx(100 / (5000 / 75))


@pytest.mark.parametrize("calls", [True, False])
def test_a_rate_without_variance(calls):
    """Where all answers are alike each case counts once, however often it was asked."""
    cases = [[judgement(calls=calls)] * 5 for _ in range(20)]
    interval = metrics_of(cases)["tool_call_recall"].interval
    once = wilson(20 if calls else 0, 20)
    assert (interval.low, interval.high) == pytest.approx((once.low, once.high), abs=1e-12)


def test_one_case_that_differs_changes_little():
    """One invalid answer among 500 to 50 cases does not make the interval that of a handful of cases."""
    alike = [[judgement(calls=True)] * 10 for _ in range(50)]
    one = [*alike[1:], [*alike[0][1:], judgement(calls=True, valid=False)]]
    widths = [
        interval.high - interval.low
        for interval in (metrics_of(cases)["schema_accuracy"].interval for cases in (alike, one))
    ]
    assert 0.8 * widths[0] < widths[1] < 1.2 * widths[0]


def test_flip_rate_by_hand():
    """Of all pairs of completed answers to one case, the share that decides differently."""
    yes, no = judgement(calls=True), judgement(calls=False)
    cases = [[yes, yes, no], [no, no, no], [yes, no], [yes], [yes, None, no], [None, None]]
    pairs = [pair for case in cases for pair in combinations([item for item in case if item], 2)]
    flips = sum(one.calls != other.calls for one, other in pairs)
    assert (flips, len(pairs)) == (2 + 0 + 1 + 1, 3 + 3 + 1 + 1)
    metric = metrics_of(cases)["decision_flip_rate"]
    assert (metric.value, metric.n) == (4 / 8, 8)


def test_no_flip_rate_without_pairs():
    """Where no two answers to one case completed, there is no flip rate."""
    assert "decision_flip_rate" not in metrics_of([[judgement(calls=True), None], [None, None]])


def test_failed_repeats_make_clusters():
    """Failed requests of one case are not independent of each other either."""
    cases = [[None] * 4 if number < 5 else [judgement(calls=True)] * 4 for number in range(50)]
    interval = metrics_of(cases)["inference_error_rate"].interval
    plain = wilson(5, 50)
    assert isclose(interval.high - interval.low, plain.high - plain.low, rel_tol=0.02)


@pytest.mark.parametrize("cut", [0, 1, 20, 59, 60])
def test_merging_disjoint_cases_is_exact(cut):
    """The tallies of two halves, merged, give the metrics and intervals of the whole."""
    cases = random_cases(5)
    left, right = tally_of(cases[:cut]), tally_of(cases[cut:], start=cut)
    left.merge(right)
    whole = tally_of(cases)
    assert left.counts.completed == whole.counts.completed
    for merged, metric in zip(compute_metrics(left), compute_metrics(whole), strict=True):
        assert (merged.name, merged.n) == (metric.name, metric.n)
        assert merged.value == pytest.approx(metric.value, abs=1e-12)
        if metric.interval is not None:
            bounds = (metric.interval.low, metric.interval.high)
            assert (merged.interval.low, merged.interval.high) == pytest.approx(bounds, abs=1e-9)
    assert left.repeated.pairs == whole.repeated.pairs
    assert left.decisions == whole.decisions
    assert left.failure_cases == whole.failure_cases


def test_the_interval_covers_the_truth():
    """In 400 seeded runs of correlated repeats the 95 % interval holds the truth 93 to 99 % of the time.

    Wilson's plain interval over all answers, which takes them for independent, does so much less.
    """
    rng = random.Random(2026)
    covered = defaultdict(int)
    runs, truth = 400, 0.7
    for _ in range(runs):
        cases = []
        for _ in range(80):
            # A case calls with probability 0.97 or 0.1: on average with 0.7.
            leaning = 0.97 if rng.random() < (truth - 0.1) / 0.87 else 0.1
            cases.append([judgement(calls=rng.random() < leaning) for _ in range(5)])
        interval = metrics_of(cases)["tool_call_recall"].interval
        covered["clustered"] += interval.low <= truth <= interval.high
        plain = wilson(sum(item.calls for case in cases for item in case), 400)
        covered["plain"] += plain.low <= truth <= plain.high
    assert 0.93 <= covered["clustered"] / runs <= 0.99
    assert covered["plain"] / runs < 0.80


def test_decisions_by_case():
    """A case is one entry of the table, whatever its repeats; one without an answer is none."""
    yes, no = judgement(calls=True), judgement(calls=False)
    extra = judgement(calls=True, should_call=False)
    tally = tally_of([[yes, no, None], [yes], [yes], [extra], [None]])
    tally.close()
    assert tally.decisions == {
        CaseDecisions(1, 1, 1, 2): 1,
        CaseDecisions(1, 1, 1, 1): 2,
        CaseDecisions(0, 1, 1, 1): 1,
    }
