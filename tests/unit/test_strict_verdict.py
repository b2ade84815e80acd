"""The strict verdict: checks by interval and range, differences beside them, and what keeps it from deciding."""

from math import log1p
from typing import ClassVar

import pytest

from k2_verifier_adapter.core.counts import Counts
from k2_verifier_adapter.core.differences import LEVEL, differences
from k2_verifier_adapter.core.metrics import compute_metrics
from k2_verifier_adapter.core.presets import PRESETS, SelfAgreement, Standard
from k2_verifier_adapter.core.self_agreement import chance_to_pass, official_decisions, self_agreement
from k2_verifier_adapter.core.statistics.decisions import CaseDecisions
from k2_verifier_adapter.core.statistics.intervals import at_level
from k2_verifier_adapter.core.statistics.sequential import Level
from k2_verifier_adapter.core.tally import Tally
from k2_verifier_adapter.core.verdict import (
    NO_THRESHOLD,
    NON_INFERIORITY,
    Requirements,
    Status,
    similarity_bounds,
    strict_verdict,
)

THINKING = Requirements(similarity=0.73)
PUBLISHED = PRESETS["k2_thinking"].standard.self_agreement


def tally(tp, fp, fn, tn=0, invalid=0):
    """Make the tally of a run of one answer a case, against one official run."""
    counts = Counts(completed=tp + fp + fn + tn, tp=tp, fp=fp, fn=fn, tn=tn)
    counts.tool_calls, counts.successful = tp + fp, tp + fp - invalid
    kinds = {(1, 1): tp, (0, 1): fp, (1, 0): fn, (0, 0): tn}
    made = Tally(counts=counts)
    for (official, calls), count in kinds.items():
        if count:
            made.decisions[CaseDecisions(official, 1, calls, 1)] = count
    return made


def against_runs(table, tp, fp, fn, tn):
    """Make the tally of a run against several official runs."""
    made = tally(tp, fp, fn, tn)
    made.decisions.clear()
    made.decisions.update(table)
    return made


def statuses(verdict):
    """Give the status of every check, by name."""
    return {check.metric: check.status.value for check in verdict.checks}


FAITHFUL = tally(800, 200, 205, 795)


class TestChecks:
    """Each check by its interval and its range; the worst decides."""

    @pytest.mark.parametrize(
        ("made", "expected", "status"),
        [
            (FAITHFUL, ("pass", "pass", "pass"), "pass"),
            # Of 2,000 cases F1 0.76 passes 0.73 by its interval only just.
            (tally(760, 235, 245, 760), ("pass", "pass", "pass"), "pass"),
            (tally(700, 210, 300, 790), ("inconclusive", "inconclusive", "pass"), "inconclusive"),
            (tally(900, 300, 100, 700), ("pass", "fail", "pass"), "fail"),
            (tally(800, 200, 205, 795, invalid=250), ("pass", "pass", "fail"), "fail"),
            (tally(800, 200, 205, 795, invalid=45), ("pass", "pass", "inconclusive"), "inconclusive"),
            (tally(500, 500, 500, 500), ("fail", "pass", "pass"), "fail"),
            (tally(0, 0, 40, 60), ("fail", "fail", "inconclusive"), "fail"),
        ],
    )
    def test_statuses(self, made, expected, status):
        """A check passes inside its range, fails outside, and the verdict is the worst of them."""
        verdict = strict_verdict(made, THINKING)
        names = ("trigger_similarity", "call_surplus", "schema_accuracy")
        assert statuses(verdict) == dict(zip(names, expected, strict=True))
        assert verdict.status.value == status

    @pytest.mark.parametrize(
        ("limits", "expected"),
        [
            (("low", "low", "low"), ("pass", "pass", "pass")),
            (("high", "high", "high"), ("inconclusive", "inconclusive", "inconclusive")),
        ],
    )
    def test_a_limit_that_an_interval_just_touches(self, limits, expected):
        """An interval that begins at the minimum passes, and one that ends there does not fail."""
        made = tally(800, 260, 205, 735, invalid=70)
        checks = strict_verdict(made, THINKING).checks
        similarity, surplus, accuracy = (check.interval for check in checks)
        assert surplus.low > 0
        ends = {"low": surplus.high, "high": surplus.low}
        asked = Requirements(
            getattr(similarity, limits[0]), surplus=ends[limits[1]], accuracy=getattr(accuracy, limits[2])
        )
        assert tuple(statuses(strict_verdict(made, asked)).values()) == expected

    def test_a_surplus_below_the_range_fails(self):
        """Too few calls fail as too many do, and just at the tolerance neither does."""
        made = tally(700, 100, 300, 900)
        interval = strict_verdict(made, THINKING).checks[1].interval
        for tolerance, status in ((-interval.high, "inconclusive"), (-interval.high - 1e-9, "fail")):
            asked = Requirements(0.5, surplus=tolerance)
            assert statuses(strict_verdict(made, asked))["call_surplus"] == status
        asked = Requirements(0.5, surplus=-interval.low)
        assert statuses(strict_verdict(made, asked))["call_surplus"] == "pass"

    def test_what_was_left_out_bars_a_pass_only(self):
        """A pass becomes inconclusive, a fail stays, and neither coverage nor a reason is made up for it."""
        verdict = strict_verdict(FAITHFUL, THINKING, barred="1 line left out")
        assert (verdict.status, verdict.incomplete, verdict.reason) == (Status.INCONCLUSIVE, None, None)
        assert (verdict.barred, verdict.upstream_status) == ("1 line left out", Status.PASS)
        failing = tally(500, 500, 500, 500)
        assert strict_verdict(failing, THINKING, barred="1 line left out").status is Status.FAIL
        both = strict_verdict(failing, THINKING, barred="1 line left out", coverage=0.5)
        assert both.status is Status.INCONCLUSIVE
        assert strict_verdict(FAITHFUL, Requirements(), barred="x").barred == "x"

    def test_a_check_says_what_it_rests_on(self):
        """Value, interval and range stand in the check."""
        similarity, surplus, accuracy = strict_verdict(FAITHFUL, THINKING).checks
        assert similarity.value == pytest.approx(1600 / 2005)
        assert (similarity.threshold, similarity.most) == (0.73, None)
        assert surplus.value == pytest.approx(-5 / 1005)
        assert (surplus.threshold, surplus.most) == (-0.1, 0.1)
        assert surplus.interval.low < surplus.value < surplus.interval.high
        # log(1 + s) ± 1.96 √(406 / (1000.5 · 1005.5)), half a case added to both errors.
        half = 1.959964 * (406 / (1000.5 * 1005.5)) ** 0.5
        assert log1p(surplus.interval.high) - log1p(surplus.interval.low) == pytest.approx(2 * half, rel=1e-5)
        assert (accuracy.threshold, accuracy.value) == (0.95, 1.0)

    def test_what_is_not_applied_says_what_it_would_say(self):
        """A check without a requirement is held against its default, and decides nothing."""
        made = tally(800, 350, 50, 800, invalid=400)
        verdict = strict_verdict(made, Requirements(0.73, surplus=None, accuracy=None))
        assert statuses(verdict) == {
            "trigger_similarity": "pass",
            "call_surplus": "fail",
            "schema_accuracy": "fail",
        }
        assert [check.applied for check in verdict.checks] == [True, False, False]
        assert verdict.status is Status.PASS

    def test_no_threshold_no_verdict(self):
        """Where nobody states a threshold there is no verdict, but what the checks would say."""
        verdict = strict_verdict(FAITHFUL, Requirements())
        assert (verdict.status, verdict.reason) == (Status.NONE, NO_THRESHOLD)
        assert statuses(verdict) == {"call_surplus": "pass", "schema_accuracy": "pass"}

    def test_void(self):
        """A reason against any verdict outweighs all checks, and nothing is said to differ."""
        verdict = strict_verdict(FAITHFUL, THINKING, void_reason="synthetic rows: no verdict")
        assert (verdict.status, verdict.reason) == (Status.NONE, "synthetic rows: no verdict")
        assert verdict.differences == ()

    @pytest.mark.parametrize(
        ("coverage", "status"), [(None, "pass"), (1.0, "pass"), (0.98, "pass"), (0.979, "inconclusive")]
    )
    def test_coverage(self, coverage, status):
        """Below 98 % the verdict is inconclusive, whatever the checks say."""
        verdict = strict_verdict(FAITHFUL, THINKING, coverage=coverage)
        assert verdict.status.value == status
        assert (verdict.incomplete is None) == (status == "pass")

    def test_the_level_of_a_look(self):
        """A pass is held against one level and a fail against another; the interval shown is that one."""
        made = tally(800, 350, 50, 800)
        assert statuses(strict_verdict(made, THINKING))["call_surplus"] == "fail"
        strict = Level(passing=2.0, failing=30.0)
        similarity, surplus, _ = strict_verdict(made, THINKING, level=strict).checks
        assert (similarity.status, surplus.status) == (Status.PASS, Status.INCONCLUSIVE)
        shown = at_level(similarity.value, similarity.interval, 2.0)
        assert (similarity.interval.low, similarity.interval.high) == (shown.low, shown.high)
        lenient = Level(passing=30.0, failing=2.0)
        similarity, surplus, _ = strict_verdict(made, THINKING, level=lenient).checks
        assert (similarity.status, surplus.status) == (Status.INCONCLUSIVE, Status.FAIL)
        shown = at_level(surplus.value, surplus.interval, 2.0)
        assert (surplus.interval.low, surplus.interval.high) == pytest.approx((shown.low, shown.high))


class TestDifferences:
    """Tests beside the verdict, in words for whoever buys."""

    def raised(self, made, agreement=PUBLISHED):
        """Give what is raised, by name."""
        metrics = {metric.name: metric for metric in compute_metrics(made)}
        found = differences(made.decisions, metrics["trigger_similarity"], agreement)
        return {item.name: item for item in found if item.raised}

    def test_a_faithful_vendor_does_not_differ(self):
        """What chance alone explains is no difference."""
        assert self.raised(tally(760, 240, 240, 760)) == {}

    def test_calls_less(self):
        """160 against 290: binomial, two-sided 7.6e-10, with the size in words."""
        found = self.raised(tally(710, 160, 290, 840))["calls_less"]
        assert found.estimate == pytest.approx(-0.13)
        assert found.p == pytest.approx(2 * 4.6e-10, rel=0.2)
        assert found.evidence == "calls 13.00% less than the official API"

    def test_calls_more(self):
        """The other direction has a name of its own."""
        found = self.raised(tally(760, 390, 240, 610))
        assert set(found) == {"calls_more"}
        assert "15.00% more" in found["calls_more"].evidence

    def test_agrees_too_much(self):
        """0.83 where the official model has 0.76 ± 0.008 with itself."""
        found = self.raised(tally(830, 170, 170, 830))
        assert set(found) == {"agrees_too_much"}
        assert found["agrees_too_much"].estimate == pytest.approx(0.07)
        assert "the temperature is probably not honoured" in found["agrees_too_much"].evidence
        assert self.raised(tally(830, 170, 170, 830), SelfAgreement(0.82, 0.83, 0.008)) == {}
        assert self.raised(tally(830, 170, 170, 830), None) == {}

    def test_the_level(self):
        """A difference is raised below the level, and the verdict holds those that are not as well."""
        verdict = strict_verdict(
            tally(760, 240, 240, 760), THINKING, standard=Standard(0.73, PUBLISHED, "here")
        )
        assert [item.name for item in verdict.differences] == ["calls_more", "calls_less", "agrees_too_much"]
        assert all(item.p >= LEVEL and not item.raised for item in verdict.differences)

    def test_decides_differently(self):
        """A vendor that follows the majority of three official runs is told so, though it calls as often."""
        table = {
            CaseDecisions(3, 3, 1, 1): 300,
            CaseDecisions(2, 3, 1, 1): 100,
            CaseDecisions(1, 3, 0, 1): 100,
            CaseDecisions(0, 3, 0, 1): 300,
        }
        made = against_runs(table, 366, 34, 34, 366)
        found = self.raised(made)
        assert set(found) == {"agrees_too_much", "decides_differently"}
        assert "sides with the usual decision too often" in found["decides_differently"].evidence
        assert found["agrees_too_much"].estimate == pytest.approx(
            2 * (300 + 200 / 3) / 800 - (300 + 100 / 3) / 400
        )


class TestSeveralOfficialRuns:
    """The similarity against several official runs, and what these say of themselves."""

    TABLE: ClassVar = {
        CaseDecisions(3, 3, 1, 1): 600,
        CaseDecisions(2, 3, 1, 1): 110,
        CaseDecisions(2, 3, 0, 1): 40,
        CaseDecisions(1, 3, 1, 1): 45,
        CaseDecisions(1, 3, 0, 1): 105,
        CaseDecisions(0, 3, 0, 1): 600,
    }

    def test_the_margin_replaces_the_threshold(self):
        """Non-inferiority decides; the threshold says what it would say."""
        made = against_runs(self.TABLE, 700, 55, 50, 695)
        verdict = strict_verdict(made, Requirements(similarity=0.99))
        against, threshold, *_ = verdict.checks
        assert (against.metric, against.threshold, against.status) == (NON_INFERIORITY, -0.03, Status.PASS)
        assert (threshold.metric, threshold.status, threshold.applied) == (
            "trigger_similarity",
            Status.FAIL,
            False,
        )
        assert verdict.status is Status.PASS

    def test_no_threshold_is_needed(self):
        """Official runs are a standard of their own."""
        made = against_runs(self.TABLE, 700, 55, 50, 695)
        assert strict_verdict(made, Requirements()).status is Status.PASS

    def test_self_agreement(self):
        """Lowest, mean and the mean's error; further runs do not lower the mean."""
        runs = [{n: n % 2 == 0 or n % 7 == k for n in range(700)} for k in (1, 3, 5)]
        found = self_agreement(runs)
        # In 50 of 350 odd cases each run calls, none of them alike: 350 common calls of 400.
        assert (found.lowest, found.mean) == (0.875, 0.875)
        # 350 cases move it by 0.125 / 400 each, 150 by 0.875 / 3 / 400.
        assert found.error == round((350 * 0.125**2 + 150 * (0.875 / 3) ** 2) ** 0.5 / 400, 4)
        assert SelfAgreement.from_json(found.as_json()) == found
        standard = Standard(0.8, found, "three runs")
        assert Standard.from_json(standard.as_json()) == standard

    def test_decisions_of_official_runs(self):
        """A case that a run lacks has fewer answers; the first run stands in a vendor's place."""
        table = official_decisions([{1: True, 2: False}, {1: False, 2: False, 3: True}])
        assert table == {
            CaseDecisions(1, 2, 1, 1): 1,
            CaseDecisions(0, 2, 0, 1): 1,
            CaseDecisions(1, 1, 1, 1): 1,
        }

    def test_a_further_run_helps(self):
        """The chance of a faithful vendor grows with official runs and with cases."""
        chances = [chance_to_pass(0.5, 0.76, runs, 2000) for runs in (2, 3, 5)]
        assert chances == pytest.approx([0.86, 0.97, 0.997], abs=0.02)
        assert chance_to_pass(0.5, 0.76, 3, 500) < chances[1]
        # Coins, and certainty: neither is out of reach of the formula.
        assert chance_to_pass(0.5, 0.5, 2, 500) < 0.5
        assert chance_to_pass(0.5, 1.0, 2, 500) > 0.95


@pytest.mark.parametrize(
    ("calling", "others", "expected"),
    [
        (0, 0, (0.8, 0.8)),
        (10, 0, (160 / 210, 180 / 220)),
        (0, 10, (160 / 210, 0.8)),
        (5, 5, (160 / 210, 170 / 210)),
    ],
)
def test_bounds_of_the_unanswered(calling, others, expected):
    """What failed might all have disagreed, or all have agreed: 160 / 200 lies between the two."""
    made = Counts(tp=80, fp=20, fn=20, tn=80)
    assert similarity_bounds(made, calling, others) == pytest.approx(expected)
    assert similarity_bounds(Counts(), 0, 0) == (0.0, 1.0)
