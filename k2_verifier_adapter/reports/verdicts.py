"""The verdict in words: what every report says of thresholds, of the official model, and of a baseline.

Nothing is escaped here, but every foreign text is `printable`.
"""

from __future__ import annotations

from k2_verifier_adapter.core.comparison.baseline import NotWorse
from k2_verifier_adapter.core.metrics import PRIMARY_METRIC
from k2_verifier_adapter.core.printable import amount, percent, percent_beside, plural, points, printable
from k2_verifier_adapter.core.statistics.paired import Difference
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.core.verdict import Check, Status
from k2_verifier_adapter.reports.json_report import UPSTREAM_WORDS
from k2_verifier_adapter.reports.tables import INTERVAL, Grid, bounds, name

_MET = {True: "met", False: "not met", None: "undefined"}
_WORSE = {Status.PASS: "not worse", Status.FAIL: "worse", Status.INCONCLUSIVE: "perhaps worse"}


def headline(summary: Summary) -> tuple[str, str]:
    """Give the verdict as a word, and what stands behind it."""
    verdict = summary.verdict
    if verdict.status is Status.NONE:
        return "none", printable(verdict.reason or "no check")
    upstream = UPSTREAM_WORDS[verdict.upstream_status]
    return verdict.status.value, f"by the strict rule; upstream's rule: {upstream}"


def one_line(summary: Summary) -> str:
    """Give the verdict with its numbers in one line."""
    word, rest = headline(summary)
    metrics = {metric.name: metric for metric in summary.metrics}
    said = []
    for metric_name in (PRIMARY_METRIC, "schema_accuracy"):
        metric = metrics[metric_name]
        interval = bounds(metric.interval)
        said.append(f"{metric_name} {amount(metric, metric.value)}" + (f" ({interval})" if interval else ""))
    named = name(summary.facts.subset) if summary.facts.subset else name(summary.facts.model)
    return f"{named}: verdict {word.upper() if word != 'none' else word} ({rest}); {', '.join(said)}"


def thresholds_not_applied(summary: Summary) -> str | None:
    """Name the thresholds that a void verdict leaves without effect, or None."""
    verdict = summary.verdict
    if verdict.status is not Status.NONE or not verdict.checks:
        return None
    return ", ".join(f"{check.metric} {percent(check.threshold)}" for check in verdict.checks)


def checks(summary: Summary) -> Grid | None:
    """Give each check by both rules; None where there is no verdict to check for."""
    verdict = summary.verdict
    if verdict.status is Status.NONE or not verdict.checks:
        return None
    intervals = {metric.name: metric.interval for metric in summary.metrics}
    rows = tuple(
        (
            check.metric,
            _checked_value(check),
            percent(check.threshold),
            bounds(intervals.get(check.metric)),
            _MET[check.upstream_met],
            check.status.value,
        )
        for check in verdict.checks
    )
    return Grid(("check", "value", "minimum", INTERVAL, "upstream", "strict"), rows, 3)


def settling(summary: Summary) -> str | None:
    """Say how many further answers would settle an inconclusive verdict; None for any other."""
    verdict = summary.verdict
    if verdict.status is not Status.INCONCLUSIVE:
        return None
    if verdict.further is None:
        return "Inconclusive, and more answers of the same kind would hardly settle it."
    return f"Inconclusive; about {plural(verdict.further, 'further answer')} would settle it."


def against_itself(summary: Summary) -> str | None:
    """Say how well the official model agrees with itself, and where the vendor stands.

    None if it is not known, and on synthetic rows, which it says nothing about.
    """
    agreement = summary.self_agreement
    if agreement is None or summary.facts.rows.synthetic:
        return None
    official = (
        f"The official model against itself: lowest {percent(agreement.lowest)}, "
        f"mean {percent(agreement.mean)}"
    )
    value = next(metric.value for metric in summary.metrics if metric.name == PRIMARY_METRIC)
    return official if value is None else f"{official}; this vendor: {percent(value)}"


def warnings(summary: Summary) -> list[str]:
    """List what a reader must see, of the run and of its baseline."""
    of_baseline = () if summary.baseline is None else summary.baseline.warnings
    return [printable(line) for line in (*summary.warnings, *of_baseline)]


def baseline_headline(summary: Summary) -> tuple[str, str] | None:
    """Give the outcome against the baseline as a word, and what stands behind it; None without one."""
    return None if summary.baseline is None else not_worse_headline(summary.baseline)


def not_worse_headline(found: NotWorse) -> tuple[str, str]:
    """Give the outcome against a baseline as a word, and what stands behind it."""
    held = f"{name(found.model)} ({printable(found.baseline)}), {plural(found.cases, 'common case')}"
    if found.status is Status.NONE:
        return "none", f"{printable(found.reason or 'no check')}; baseline {held}"
    margin = f"{points(found.margin)} points"
    return found.status.value, f"{_WORSE[found.status]} by more than {margin} than {held}"


def baseline_checks(summary: Summary) -> Grid | None:
    """Give each difference from the baseline, in percentage points; None without one."""
    return None if summary.baseline is None else not_worse_checks(summary.baseline, "run - baseline")


def not_worse_checks(found: NotWorse, what: str) -> Grid:
    """Give each difference from a baseline, in percentage points.

    Args:
        found: The outcome against the baseline.
        what: What is less what.
    """
    rows = tuple(
        (
            check.metric,
            "undefined" if check.difference is None else points(check.difference.value, signed=True),
            difference_bounds(check.difference),
            points(-found.margin),
            check.status.value if found.status is not Status.NONE else "-",
        )
        for check in found.checks
    )
    return Grid((what, "difference", INTERVAL, "at least", "result"), rows, 3)


def difference_bounds(difference: Difference | None) -> str:
    """Give the interval of a difference in percentage points, or nothing."""
    if difference is None:
        return ""
    return f"{points(difference.low, signed=True)} to {points(difference.high, signed=True)}"


def _checked_value(check: Check) -> str:
    return "undefined" if check.value is None else percent_beside(check.value, check.threshold)
