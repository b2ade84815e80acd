"""What reports of every kind and format say in the same words; foreign text in them is `printable`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from k2_verifier_adapter.core.comparison.baseline import NotWorse
from k2_verifier_adapter.core.json_text import dumps_ascii, excerpt
from k2_verifier_adapter.core.metrics import PRIMARY_METRIC
from k2_verifier_adapter.core.presets import SelfAgreement
from k2_verifier_adapter.core.printable import amount, percent, plural, points, printable
from k2_verifier_adapter.core.statistics.intervals import Interval
from k2_verifier_adapter.core.statistics.paired import Difference
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.core.verdict import Status

INTERVAL = "95% interval"
UNDEFINED = "undefined"
UPSTREAM_WORDS = {
    Status.PASS: "met",
    Status.FAIL: "not met",
    Status.INCONCLUSIVE: UNDEFINED,
    Status.NONE: "none",
}
"""What upstream's rule says, by status."""

FIRST_CASES = "first cases (rows, from 0)"

_WORSE = {Status.PASS: "not worse", Status.FAIL: "worse", Status.INCONCLUSIVE: "perhaps worse"}
_MOST_NAMES = 8
_LONGEST_VALUE = 200
_LONGEST_NAME = 80
_LONGEST_LINE = 1_000

Pairs = list[tuple[str, str]]


def name(text: str) -> str:
    """Give a foreign name, shortened."""
    return excerpt(printable(text), _LONGEST_NAME)


def listed(counter: Mapping[str, int]) -> str:
    """List foreign names with their counts, the most frequent first."""
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    said = [f"{name(text)} {number:,}" for text, number in ordered[:_MOST_NAMES]]
    if len(ordered) > _MOST_NAMES:
        said.append(f"and {len(ordered) - _MOST_NAMES:,} more")
    return ", ".join(said)


def first_of(numbers: Sequence[int], most: int) -> str:
    """List the first of some numbers."""
    return ", ".join(map(str, numbers[:most])) + (", ..." if len(numbers) > most else "")


def share(value: float | None, otherwise: str = UNDEFINED) -> str:
    """Give a share in percent, or why there is none."""
    return otherwise if value is None else percent(value)


def bounds(interval: Interval | None) -> str:
    """Give an interval, or nothing."""
    return "" if interval is None else f"{percent(interval.low)} - {percent(interval.high)}"


def difference_cells(difference: Difference | None) -> tuple[str, str]:
    """Give a difference and its interval, in percentage points."""
    if difference is None:
        return UNDEFINED, ""
    interval = f"{points(difference.low, signed=True)} to {points(difference.high, signed=True)}"
    return points(difference.value, signed=True), interval


def agreement_bounds(agreement: SelfAgreement) -> str:
    """Say how well the official model agrees with itself."""
    return f"lowest {percent(agreement.lowest)}, mean {percent(agreement.mean)}"


def sentence(text: str) -> str:
    """Begin a text with a capital letter."""
    return text[:1].upper() + text[1:]


def request_counts(summary: Summary) -> str:
    """Count the requests."""
    return (
        f"{summary.total:,} total, {summary.completed:,} completed, "
        f"{summary.tally.failed:,} failed, {summary.missing:,} missing"
    )


def incomplete(summary: Summary) -> str | None:
    """Say how many of the requests completed, where it is not all of them."""
    if summary.coverage is None or summary.coverage == 1:
        return None
    return f"INCOMPLETE: {percent(summary.coverage)} of the requests completed"


def requests(summary: Summary) -> str:
    """Count the requests, and say so where not all of them completed."""
    return "; ".join(filter(None, (request_counts(summary), incomplete(summary))))


def effort(summary: Summary) -> Pairs:
    """Give tokens and latency."""
    usage, latency = summary.observed.usage, summary.observed.latency()
    tokens = ", ".join(
        f"{kind.removesuffix('_tokens')} {usage[kind]:,}"
        for kind in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    seconds = [f"{kind} {value:.2f} s" for kind, value in latency.items() if value is not None]
    return [("tokens", tokens if usage else "not reported"), ("latency", ", ".join(seconds) or "unknown")]


def provenance(summary: Summary) -> Pairs:
    """Give what was asked, when, and with which versions."""
    facts, observed = summary.facts, summary.observed
    rows = f"{facts.rows.source} (sha256 {facts.rows.sha256[:12]})"
    standard = facts.standard
    pairs = [
        ("model", facts.model),
        ("subset", facts.subset),
        ("endpoint", facts.endpoint_host or ("none (no URL)" if summary.log is None else "-")),
        ("served models", listed(observed.models) or "not reported"),
        ("providers", listed(observed.providers)),
        ("fingerprints", listed(observed.system_fingerprints)),
        ("rows", f"SYNTHETIC, {rows}" if facts.rows.synthetic else rows),
        ("rows asked", "" if facts.rows.sample is None else str(facts.rows.sample)),
        ("threshold from", "" if standard is None else standard.source),
        ("started", facts.started_at or "-"),
        ("finished", facts.finished_at or ("not finished" if summary.log is None else "-")),
        (
            "versions",
            f"k2-verifier-adapter {facts.adapter}, EvalScope {facts.evalscope or '-'}, Python {facts.python}",
        ),
    ]
    return [(what, excerpt(printable(value), _LONGEST_LINE)) for what, value in pairs if value]


def parameters(summary: Summary) -> Pairs:
    """Give the parameters of all requests."""
    return [
        (name(key), excerpt(printable(dumps_ascii(value)), _LONGEST_VALUE))
        for key, value in summary.facts.parameters.items()
    ] or [("none", "")]


def warnings(summary: Summary) -> list[str]:
    """List what a reader must see, of the run and of its baseline."""
    of_baseline = () if summary.baseline is None else summary.baseline.warnings
    return [printable(line) for line in (*summary.warnings, *of_baseline)]


def behind_verdict(summary: Summary) -> str:
    """Say what stands behind the verdict."""
    verdict = summary.verdict
    if verdict.status is Status.NONE:
        return printable(verdict.reason or "no check")
    return f"by the strict rule; upstream's rule: {UPSTREAM_WORDS[verdict.upstream_status]}"


def behind_baseline(found: NotWorse) -> str:
    """Say what stands behind the outcome against a baseline."""
    held = f"{name(found.model)} ({printable(found.baseline)}), {plural(found.cases, 'common case')}"
    if found.status is Status.NONE:
        return f"{printable(found.reason or 'no check')}; baseline {held}"
    return f"{_WORSE[found.status]} by more than {points(found.margin)} points than {held}"


def verdict_line(summary: Summary) -> str:
    """Give the verdict with its numbers in one line."""
    status = summary.verdict.status
    word = status.value if status is Status.NONE else status.value.upper()
    metrics = {metric.name: metric for metric in summary.metrics}
    said = []
    for metric_name in (PRIMARY_METRIC, "schema_accuracy"):
        metric = metrics[metric_name]
        interval = bounds(metric.interval)
        said.append(f"{metric_name} {amount(metric, metric.value)}" + (f" ({interval})" if interval else ""))
    named = name(summary.facts.subset) if summary.facts.subset else name(summary.facts.model)
    return f"{named}: verdict {word} ({behind_verdict(summary)}); {', '.join(said)}"
