"""The number of further answers that would settle an inconclusive check is the smallest one that does."""

from math import ceil

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from k2_verifier_adapter.core.metrics import COMPLETED_COUNT, Metric
from k2_verifier_adapter.core.statistics.intervals import (
    Interval,
    f1_interval,
    interval_at,
    size_to_clear,
    wilson,
)
from k2_verifier_adapter.core.verdict import (
    MOST_FURTHER,
    Check,
    Status,
    Verdict,
    check,
    decide,
    further_answers,
    strict_status,
)

THRESHOLDS = st.floats(0.02, 0.98)


@st.composite
def intervals(draw: st.DrawFn) -> tuple[float, Interval, int]:
    """Draw a value with its interval, by any method, and the completed answers behind it."""
    n = draw(st.integers(1, 4000))
    x = draw(st.integers(0, n))
    completed = n + draw(st.integers(0, 4000))
    method = draw(st.sampled_from(["f1_logit", "wilson", "f1_logit_clustered", "wilson_clustered"]))
    s, effect = x / n, draw(st.floats(1, 8)) if method.endswith("clustered") else 1.0
    value = 2 * s / (1 + s) if method.startswith("f1") else s
    return value, interval_at(value, n / effect, method), completed


def grown(value: float, interval: Interval, completed: int, further: int) -> Interval:
    """Give the interval that the same value would have after further answers."""
    return interval_at(value, interval.n * (1 + further / completed), interval.method)


@settings(suppress_health_check=[*settings().suppress_health_check, HealthCheck.filter_too_much])
@given(intervals(), THRESHOLDS)
def test_it_is_the_smallest_number_that_settles(found: tuple[float, Interval, int], threshold: float) -> None:
    """With so many further answers of the same value the check is settled, with one fewer it is not."""
    value, interval, completed = found
    assume(strict_status(interval, threshold) is Status.INCONCLUSIVE)
    further = further_answers(value, interval, threshold, completed)
    if further is None:
        after = grown(value, interval, completed, MOST_FURTHER)
        assert strict_status(after, threshold) is Status.INCONCLUSIVE
        return
    assert 1 <= further <= MOST_FURTHER
    settled = strict_status(grown(value, interval, completed, further), threshold)
    assert settled is (Status.PASS if value > threshold else Status.FAIL)
    if further > 1:
        before = grown(value, interval, completed, further - 1)
        assert strict_status(before, threshold) is Status.INCONCLUSIVE


@given(intervals())
def test_a_value_on_the_threshold_is_never_settled(found: tuple[float, Interval, int]) -> None:
    """No number of answers tells a value from a threshold that it equals."""
    value, interval, completed = found
    assert further_answers(value, interval, value, completed) is None


def test_by_hand() -> None:
    """8 of 10 against 0.7 by Wilson: the bound reaches it at n = 1.96² · 0.7 · 0.3 / 0.1² = 80.7."""
    interval = wilson(8, 10)
    assert interval is not None
    assert further_answers(0.8, interval, 0.7, completed=10) == 71
    # Where half of the answers are in the denominator, twice as many are needed.
    assert further_answers(0.8, interval, 0.7, completed=20) == ceil(2 * 70.68)
    # All of n agree: 0.025 ** (1 / n) is to reach 0.9 / 1.1.
    alike = f1_interval(5, 0, 0)
    assert alike is not None
    assert further_answers(1.0, alike, 0.9, completed=5) == 14


def metric(name: str, hits: int, n: int) -> Metric:
    """Make a rate."""
    return Metric(name, hits / n, n, wilson(hits, n))


def test_checks_and_verdicts_carry_it() -> None:
    """An inconclusive check says its number; a verdict the largest of its inconclusive checks."""
    metrics = [
        Metric("trigger_similarity", 0.8, 60, f1_interval(40, 10, 10)),
        metric("schema_accuracy", 45, 50),
        Metric(COMPLETED_COUNT, 50, 100),
    ]
    verdict = decide(metrics, threshold=0.75, minimums={"schema_accuracy": 0.85})
    numbers = [item.further for item in verdict.checks]
    assert None not in numbers
    assert verdict.further == max(numbers) == verdict.checks[1].further
    settled = decide(metrics, threshold=0.5)
    assert (settled.status, settled.further, settled.checks[0].further) == (Status.PASS, None, None)


def test_a_verdict_without_a_number() -> None:
    """Where one inconclusive check has no number, or the verdict is another, the verdict has none."""
    on_it = check(metric("schema_accuracy", 8, 10), 0.8, 10)
    undefined = check(Metric("schema_accuracy", None, 0), 0.8, 10)
    near = check(metric("tool_call_recall", 8, 10), 0.7, 10)
    assert (on_it.further, undefined.further) == (None, None)
    assert Verdict(Status.INCONCLUSIVE, (near,)).further == near.further
    for other in (on_it, undefined):
        assert Verdict(Status.INCONCLUSIVE, (near, other)).further is None
    assert Verdict(Status.FAIL, (near,)).further is None
    passed = Check("schema_accuracy", 0.5, 0.9, upstream_met=True, status=Status.PASS)
    assert Verdict(Status.INCONCLUSIVE, (near, passed)).further == near.further


def test_too_many_are_none() -> None:
    """A difference that a million further answers would not show has no number."""
    interval = wilson(500, 1000)
    assert interval is not None
    assert further_answers(0.5, interval, 0.4999, completed=1000) is None
    assert further_answers(0.5, interval, 0.499, completed=1000) == pytest.approx(959_000, rel=0.01)


@given(
    st.one_of(st.sampled_from([0.0, 1.0]), st.floats(1e-6, 1 - 1e-6)),
    THRESHOLDS,
    st.sampled_from(["wilson", "f1_logit"]),
)
def test_at_the_size_to_clear_a_bound_stands_on_the_threshold(
    value: float, threshold: float, method: str
) -> None:
    """The size from which an interval clears a threshold is the one at which a bound reaches it."""
    assume(abs(value - threshold) > 1e-3)
    size = size_to_clear(value, threshold, method)
    assert size is not None
    interval = interval_at(value, size, method)
    bound = interval.low if value > threshold else interval.high
    assert bound == pytest.approx(threshold, abs=1e-7)
