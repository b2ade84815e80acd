"""What reports of every kind and format say in the same words; foreign text in them is `printable`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from k2_verifier_adapter.core.comparison.baseline import NotWorse
from k2_verifier_adapter.core.gate import GATE_FAILED, INCONCLUSIVE, PASSED, exit_code
from k2_verifier_adapter.core.json_text import dumps_ascii, excerpt
from k2_verifier_adapter.core.metrics import CALL_SURPLUS
from k2_verifier_adapter.core.presets import SelfAgreement
from k2_verifier_adapter.core.printable import percent, percent_beside, plural, points, printable
from k2_verifier_adapter.core.statistics.intervals import Interval
from k2_verifier_adapter.core.statistics.paired import Difference
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.core.verdict import NON_INFERIORITY, Check, Gate, Status

if TYPE_CHECKING:
    from k2_verifier_adapter.core.conformance.results import Conformance

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

_SIGNED = frozenset({CALL_SURPLUS, NON_INFERIORITY})
"""Relative to the official API: above or below 0."""

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


def bounds(metric: str, interval: Interval | None) -> str:
    """Give the interval of a metric or of a check, or nothing."""
    if interval is None:
        return ""
    if metric in _SIGNED:
        return f"{points(interval.low, signed=True)}% to {points(interval.high, signed=True)}%"
    return f"{percent(interval.low)} - {percent(interval.high)}"


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


def requests_and_cost(summary: Summary) -> str:
    """Count the requests, and the tokens where the vendor says them."""
    said, tokens = request_counts(summary), summary.observed.usage["total_tokens"]
    if tokens:
        said += f", {tokens:,} tokens"
    if summary.under_way:
        said += f"; and {summary.under_way:,} under way at the decision, no part of it"
        said += f" ({summary.under_way_tokens:,} tokens)" if summary.under_way_tokens else ""
    return said


def stopped_at(summary: Summary) -> str | None:
    """Say where a run that stops when it is decided stands; None for any other."""
    rule = summary.facts.stopping
    if rule is None:
        return None
    settled = summary.facts.complete and summary.verdict.status in {Status.PASS, Status.FAIL}
    return f"{'decided' if settled else 'not decided'} {rule}"


def server_messages(summary: Summary) -> list[str]:
    """Quote what the servers of failed requests said, with counts, the commonest first."""
    messages = summary.tally.refusals.commonest()
    said = []
    for message in messages[:_MOST_NAMES]:
        status = "no status" if message.status is None else str(message.status)
        whose = "" if message.gateway is None else f" (the words of {message.gateway})"
        said.append(f"{message.count:,} x {status}{whose}: {printable(message.text)}")
    left = sum(message.count for message in messages[_MOST_NAMES:]) + summary.tally.refusals.others
    return [*said, f"{left:,} other messages"] if left else said


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
    rows = f"{facts.rows.source} (sha256 {facts.rows.sha256})"
    standard = facts.standard
    pairs = [
        ("model", facts.model),
        ("subset", facts.subset),
        ("endpoint", facts.endpoint_host or ("none (no URL)" if summary.log is None else "-")),
        ("served models", listed(observed.models) or "not reported"),
        ("providers", listed(observed.providers)),
        ("fingerprints", listed(observed.system_fingerprints)),
        ("gateways", listed(observed.gateways)),
        ("judged as", facts.model_profile.title),
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


def headline(summary: Summary) -> tuple[Status, str]:
    """Give the verdict as the gate states it, and in a few words what stands behind it.

    Without a gate it is the strict rule's.
    """
    verdict, gate = summary.verdict, summary.facts.gate
    strict = f"the strict rule: {verdict.status.value}"
    upstream = f"upstream's rule: {UPSTREAM_WORDS[verdict.upstream_status]}"
    if gate.decides and (summary.completed or summary.tally.failed):
        decision = exit_code(summary)
        status, reason = _STATUS_OF_CODE[decision.code], printable(decision.reason or "")
        if gate.gate is Gate.UPSTREAM:
            by_itself, rule, other = verdict.upstream_status, "upstream's rule", strict
        else:
            by_itself, rule, other = verdict.status, "the strict rule", upstream
        whole = verdict.incomplete is None and verdict.barred is None
        complete = summary.facts.complete and whole and summary.baseline is None
        return status, f"{f'by {rule} (the gate)' if status is by_itself and complete else reason}; {other}"
    if verdict.status is Status.NONE:
        return Status.NONE, printable(verdict.reason or "no check")
    reasons = ", ".join(filter(None, (verdict.incomplete, verdict.barred)))
    why = f" ({reasons})" if reasons else ""
    return verdict.status, f"by the strict rule{why}; {upstream}"


_STATUS_OF_CODE = {PASSED: Status.PASS, GATE_FAILED: Status.FAIL, INCONCLUSIVE: Status.INCONCLUSIVE}


def checked_value(check: Check) -> str:
    """Give the value of a check, as exactly as it takes to tell it from its limit."""
    if check.value is None:
        return UNDEFINED
    if check.metric in _SIGNED:
        return f"{points(check.value, signed=True)}%"
    return percent_beside(check.value, check.threshold)


def behind_baseline(found: NotWorse) -> str:
    """Say what stands behind the outcome against a baseline."""
    held = f"{name(found.model)} ({printable(found.baseline)}), {plural(found.cases, 'common case')}"
    if found.status is Status.NONE:
        return f"{printable(found.reason or 'no check')}; baseline {held}"
    return f"{_WORSE[found.status]} by more than {points(found.margin)} points than {held}"


def conformance(found: Conformance) -> str:
    """Say what the probes of a run came to."""
    passing = sum(suite.status is Status.PASS for suite in found.suites)
    share = found.share()
    said = (
        f"{passing} of {plural(len(found.suites), 'suite')} passed, {share.passed:,} of "
        f"{plural(share.total, 'probe')} at the first try"
    )
    later = share.eventually - share.passed
    if later:
        said += f", {later:,} later (flaky)"
    unanswered = share.total - share.answered
    return f"{said}, {unanswered:,} without an answer" if unanswered else said


def conformance_line(found: Conformance) -> str:
    """Give what the probes of a run came to in one line."""
    failing = [suite.name for suite in found.suites if suite.status is Status.FAIL]
    named = f"; failed: {', '.join(failing)}" if failing else ""
    return f"{found.profile.title}: contract {found.status.value.upper()} ({conformance(found)}){named}"


def verdict_line(summary: Summary) -> str:
    """Give the verdict with its checks and differences in one line."""
    status, said = headline(summary)
    word = status.value if status is Status.NONE else status.value.upper()
    found = [
        f"{check.metric} {checked_value(check)}"
        f"{f' ({bounds(check.metric, check.interval)})' if check.interval else ''}"
        f"{'' if status is Status.NONE or not check.applied else f' {check.status.value}'}"
        for check in summary.verdict.checks
    ]
    found += [f"differs: {difference.name}" for difference in summary.verdict.raised]
    named = name(summary.facts.subset) if summary.facts.subset else name(summary.facts.model)
    if design := stopped_at(summary):
        found.append(design)
    return f"{named}: verdict {word} ({said}); {', '.join(found)}"
