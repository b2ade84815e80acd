"""Forecasts: probabilities that hold what is certain, and follow the hand-computed normal case."""

from math import log, sqrt
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_verifier_adapter.core.counts import Counts
from k2_verifier_adapter.core.forecast import Assumed, Outlook, cost, forecast, of_rows, outlook
from k2_verifier_adapter.core.statistics.decisions import CaseDecisions
from k2_verifier_adapter.core.statistics.sequential import FIXED, Design, plan
from k2_verifier_adapter.core.tally import Tally
from k2_verifier_adapter.core.verdict import Check, Requirements, Status, strict_verdict

DESIGN = plan(2000)


def checks(tp: int, fp: int, fn: int, tn: int) -> tuple[Check, ...]:
    """Give the checks of a run of one answer a case."""
    counts = Counts(completed=tp + fp + fn + tn, tp=tp, fp=fp, fn=fn, tn=tn, tool_calls=tp + fp)
    counts.successful = tp + fp
    tally = Tally(counts=counts)
    kinds = ((1, 1, tp), (0, 1, fp), (1, 0, fn), (0, 0, tn))
    tally.decisions.update({CaseDecisions(k, 1, x, 1): count for k, x, count in kinds if count})
    return strict_verdict(tally, Requirements(similarity=0.73)).checks


def test_by_hand() -> None:
    """At 500 of 2,000 cases the estimate still moves by √(1 / 500 − 1 / 2000) of a case's noise."""
    similarity = checks(190, 60, 60, 190)[0]
    found = of_rows([similarity], 500, 2000)
    assert found is not None
    noise = sqrt(500 * (1 / 190 + 1 / 120))
    value, limit = log(380 / 120), log(0.73 / 0.27)
    moves, error = noise * sqrt(1 / 500 - 1 / 2000), noise / sqrt(2000)
    passing = NormalDist().cdf((value - 1.959964 * error - limit) / moves)
    failing = NormalDist().cdf((limit - value - 1.959964 * error) / moves)
    assert (found.passing, found.failing) == pytest.approx((passing, failing), abs=0.025)
    assert str(found).startswith(f"all 2,000 rows would settle it with {found.settled:.0%} (pass ")


@settings(max_examples=40)
@given(
    st.integers(0, 300), st.integers(0, 100), st.integers(0, 100), st.integers(0, 300), st.integers(0, 1500)
)
def test_probabilities(tp: int, fp: int, fn: int, tn: int, more: int) -> None:
    """A forecast is of probabilities, and where no rows are left it is what the checks say."""
    done = tp + fp + fn + tn
    if not done:
        return
    found = checks(tp, fp, fn, tn)
    made = of_rows(found, done, done + more)
    if made is None:
        assert any(check.value is None for check in found)
        return
    assert 0 <= made.passing + made.failing <= 1 + 1e-9
    if not more and min(tp, fp + fn) > 5:
        statuses = {check.status for check in found[:2]}
        if Status.FAIL in statuses:
            assert made.failing == 1.0


def test_undefined_checks_have_no_outlook() -> None:
    """Where the official API never calls there is no surplus to forecast."""
    undefined = checks(0, 5, 0, 5)[1]
    assert undefined.value is None
    assert outlook(undefined, 10) is None
    assert of_rows([undefined], 10, 100) is None


@settings(max_examples=30)
@given(st.floats(-1, 1), st.floats(0.1, 2))
def test_a_known_truth_settles_as_a_fixed_design_does(value: float, noise: float) -> None:
    """Without any case so far the value is the truth, and one look has the power of the normal test."""
    design = Design((400,), (FIXED,))
    found = forecast([Outlook(value, noise, noise, 0.0)], 0, design)
    passing = NormalDist().cdf(value / noise * 20 - 1.959964)
    assert found.passing == pytest.approx(passing, abs=0.035)
    assert found.cases == 400


def test_what_a_verdict_costs() -> None:
    """A bad vendor costs little, a good one more, a faithful one most; official runs make it cheaper."""
    wanted = Requirements(similarity=0.73)
    by_f1 = [cost(Assumed(f1), wanted, DESIGN, base=0.5, agreement=0.76) for f1 in (0.53, 0.63, 0.80, 0.76)]
    assert [made.cases for made in by_f1] == sorted(made.cases for made in by_f1)
    assert by_f1[0].cases < 130
    assert by_f1[0].failing > 0.99
    assert by_f1[3].passing == pytest.approx(0.76, abs=0.04)
    five = cost(Assumed(0.76), wanted, DESIGN, base=0.5, agreement=0.76, runs=5)
    assert five.cases < 0.75 * by_f1[3].cases
    assert five.passing > 0.98
    invalid = cost(Assumed(0.76, accuracy=0.75), wanted, DESIGN, base=0.5, agreement=0.76)
    assert invalid.failing > 0.99
    assert invalid.cases < 100
