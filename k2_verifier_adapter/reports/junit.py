"""The report as JUnit XML, for the test views of CI systems: one suite a run, one case a check.

A case fails where the exit code is 1, and errs where the run is incomplete. What the chosen gate leaves
undecided is skipped, with the reason: neither a success nor a failure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from k2_verifier_adapter.core.gate import required_coverage
from k2_verifier_adapter.core.metrics import PRIMARY_METRIC
from k2_verifier_adapter.core.printable import percent, percent_beside, plural, points, printable
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.core.verdict import Check, Gate, GateOptions, Status, WhenInconclusive
from k2_verifier_adapter.reports import wording
from k2_verifier_adapter.reports.json_report import failures_as_json, statuses_in_words

if TYPE_CHECKING:
    from k2_verifier_adapter.core.conformance.results import Conformance, ProbeResult

_LONGEST_LINE = 2_000
_FIRST_CASES = 6
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


@dataclass(frozen=True, slots=True)
class _Outcome:
    """One case of the suite.

    Attributes:
        element: `failure`, `error` or `skipped`; None if it passed.
        message: Why; of a passed case, what was found.
        kind: The `type` of a failure or an error.
    """

    name: str
    element: str | None
    message: str
    kind: str = ""


def render_junit(summary: Summary) -> str:
    """Give the report as JUnit XML; the gate decides which rule's checks can fail."""
    options = summary.facts.gate
    outcomes = [
        _completeness(summary),
        _coverage(summary, options),
        *_left_out(summary),
        *_checks(summary, options),
        *_margins(summary, options),
    ]
    counts = _counts(outcomes)
    name = ", ".join(wording.name(text) for text in (summary.facts.model, summary.facts.subset) if text)
    suites = Element("testsuites", {"name": "k2-verifier", **counts, "time": "0"})
    suite = SubElement(suites, "testsuite", {"name": name, **counts, "time": "0"})
    started = _TIMESTAMP.match(summary.facts.started_at)
    if started:
        suite.set("timestamp", started[0])
    if summary.facts.endpoint_host:
        suite.set("hostname", printable(summary.facts.endpoint_host))
    properties = SubElement(suite, "properties")
    for key, value in _properties(summary, options):
        SubElement(properties, "property", {"name": key, "value": value})
    for outcome in outcomes:
        _add_case(suite, outcome, name)
    SubElement(suite, "system-out").text = "\n".join(
        printable(line)[:_LONGEST_LINE] for line in _words(summary)
    )
    indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(suites, encoding="unicode")}\n'


def render_probes(found: Conformance) -> str:
    """Give the probes of a run as JUnit XML: a suite for each suite, a case for each probe and mode."""
    suites = Element("testsuites", {"name": "k2-verifier", "time": "0"})
    totals: Counter[str] = Counter()
    for one in found.suites:
        outcomes = list(map(_probe, one.results))
        counts = _counts(outcomes)
        totals.update({name: int(count) for name, count in counts.items()})
        suite = SubElement(suites, "testsuite", {"name": wording.name(one.name), **counts, "time": "0"})
        properties = SubElement(suite, "properties")
        for key, value in (("profile", found.profile.name), ("sha256", one.facts.rows.sha256)):
            SubElement(properties, "property", {"name": key, "value": value})
        for outcome in outcomes:
            _add_case(suite, outcome, wording.name(one.name))
    for name, total in totals.items():
        suites.set(name, str(total))
    indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(suites, encoding="unicode")}\n'


def _probe(result: ProbeResult) -> _Outcome:
    """Give a probe as a case: a flaky one has failed, one without an answer is an error."""
    name, said = result.case.name, result.why_not
    if result.unmet is not None:
        if result.cause is not None:
            said += f". {result.cause.hypothesis} {' '.join(result.cause.advice)}"
        return _Outcome(name, "failure", f"{result.outcome.value}: {said}", result.unmet.path)
    if said:
        return _Outcome(name, "error", said, "unanswered")
    return _Outcome(name, None, "passed")


def _counts(outcomes: Sequence[_Outcome]) -> dict[str, str]:
    counts = {"tests": str(len(outcomes))}
    for plural_name, element in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        counts[plural_name] = str(sum(outcome.element == element for outcome in outcomes))
    return counts


def _add_case(suite: Element, outcome: _Outcome, name: str) -> None:
    case = SubElement(suite, "testcase", {"classname": name, "name": outcome.name, "time": "0"})
    message = printable(outcome.message)[:_LONGEST_LINE]
    if outcome.element is None:
        SubElement(case, "system-out").text = message
        return
    found = SubElement(case, outcome.element, {"message": message})
    if outcome.kind:
        found.set("type", outcome.kind)
        found.text = message


def _completeness(summary: Summary) -> _Outcome:
    name = "all requests were made"
    if summary.facts.complete:
        return _Outcome(name, None, wording.requests(summary))
    why = f"stopped ({summary.facts.stopped})" if summary.facts.stopped else "interrupted"
    missing = plural(summary.missing, "request")
    return _Outcome(name, "error", f"the run was {why}, {missing} not made", "incomplete")


def _coverage(summary: Summary, options: GateOptions) -> _Outcome:
    coverage, required = summary.coverage, required_coverage(options)
    if not summary.completed or coverage is None:
        return _Outcome("requests completed", "error", "no request completed", "incomplete")
    name = f"requests completed: at least {percent(required)}"
    found = f"{percent_beside(coverage, required)}: {wording.requests(summary)}"
    if coverage < required:
        return _Outcome(name, "error", found, "incomplete")
    return _Outcome(name, None, found)


def _left_out(summary: Summary) -> Iterator[_Outcome]:
    """Say whether all lines of a results file count."""
    if summary.log is not None:
        said = "; ".join(summary.log.in_words()) or "none"
        barred = summary.verdict.barred
        yield (
            _Outcome("no line was left out", None, said)
            if barred is None
            else _Outcome("no line was left out", "error", f"{barred}; {said}", "incomplete")
        )


def _checks(summary: Summary, options: GateOptions) -> Iterator[_Outcome]:
    verdict = summary.verdict
    if not verdict.checks:
        yield _Outcome("verdict", "skipped", verdict.reason or "no check")
    for check in verdict.checks:
        # Upstream's rule is of one metric.
        for rule in (Gate.UPSTREAM, Gate.STRICT) if check.metric == PRIMARY_METRIC else (Gate.STRICT,):
            found = _found(check, rule)
            name = f"{check.metric}: {_needed(check)}, {_RULES[rule]}"
            if verdict.reason is not None:
                yield _Outcome(name, "skipped", f"{verdict.reason}; {found}")
            elif rule is Gate.STRICT and not check.applied:
                yield _Outcome(name, "skipped", f"not applied (would be {check.status.value}): {found}")
            else:
                yield _judged(name, _status(check, rule), found, rule, options)


def _margins(summary: Summary, options: GateOptions) -> Iterator[_Outcome]:
    """Hold the run against its baseline, which always decides where there is one."""
    found = summary.baseline
    if found is None:
        return
    for check in found.checks:
        difference, interval = wording.difference_cells(check.difference)
        name = f"{check.metric}: not worse than the baseline by more than {points(found.margin)} points"
        said = f"difference {difference}"
        if interval:
            said += f", {wording.INTERVAL} {interval}"
        if found.reason is not None:
            yield _Outcome(name, "skipped", f"{found.reason}; {said}")
        else:
            yield _decided(name, check.status, said, options)


def _needed(check: Check) -> str:
    if check.most is not None:
        return f"within {percent(check.most)}"
    return f"at least {points(check.threshold)}%"


_RULES = {Gate.UPSTREAM: "upstream's rule (value)", Gate.STRICT: "strict rule (95% interval)"}
_UPSTREAM_STATUS = {True: Status.PASS, False: Status.FAIL, None: Status.INCONCLUSIVE}


def _status(check: Check, rule: Gate) -> Status:
    return check.status if rule is Gate.STRICT else _UPSTREAM_STATUS[check.upstream_met]


def _found(check: Check, rule: Gate) -> str:
    if check.value is None:
        return f"{check.metric} is undefined: no response counts towards it"
    value = f"{check.metric} is {wording.checked_value(check)}"
    if rule is Gate.STRICT:
        value += f", {wording.INTERVAL} {wording.bounds(check.metric, check.interval)}"
    return value


def _judged(name: str, status: Status, found: str, rule: Gate, options: GateOptions) -> _Outcome:
    if status is Status.PASS:
        return _Outcome(name, None, found)
    word = "inconclusive" if status is Status.INCONCLUSIVE else "failed"
    if rule is not options.gate:
        chosen = "no gate is chosen" if options.gate is Gate.NONE else f"the gate is {options.gate.value}"
        return _Outcome(name, "skipped", f"{word}, but {chosen}: {found}")
    return _decided(name, status, found, options)


def _decided(name: str, status: Status, found: str, options: GateOptions) -> _Outcome:
    if status is Status.PASS:
        return _Outcome(name, None, found)
    if status is Status.FAIL:
        return _Outcome(name, "failure", found, "threshold")
    if options.inconclusive is WhenInconclusive.FAIL:
        return _Outcome(name, "failure", f"inconclusive, which fails: {found}", "inconclusive")
    if options.inconclusive is WhenInconclusive.OK:
        return _Outcome(name, None, f"inconclusive, which passes: {found}")
    return _Outcome(name, "skipped", f"inconclusive: {found}")


def _properties(summary: Summary, options: GateOptions) -> Iterator[tuple[str, str]]:
    yield "verdict", summary.verdict.status.value
    yield "gate", options.gate.value
    if summary.verdict.barred is not None:
        yield "no pass with", summary.verdict.barred
    yield from wording.provenance(summary)
    for metric in summary.metrics:
        yield metric.name, "undefined" if metric.value is None else repr(metric.value)
        if metric.interval is not None:
            yield f"{metric.name}.low", repr(metric.interval.low)
            yield f"{metric.name}.high", repr(metric.interval.high)
        yield f"{metric.name}.n", str(metric.n)


def _words(summary: Summary) -> Iterator[str]:
    status, said = wording.headline(summary)
    yield f"Verdict: {status.value} ({said})"
    yield f"Requests: {wording.requests(summary)}"
    if design := wording.stopped_at(summary):
        yield f"Looks: {design}"
    if (found := summary.baseline) is not None:
        yield f"Against the baseline: {found.status.value} ({wording.behind_baseline(found)})"
    yield from (f"WARNING: {line}" for line in wording.warnings(summary))
    for finding in summary.findings:
        yield f"Probable cause: {finding.hypothesis} {finding.evidence} {finding.refuted_by}"
    for message in wording.server_messages(summary):
        yield f"The server said: {message}"
    for entry in failures_as_json(summary.tally):
        shown = wording.first_of(entry["cases"], _FIRST_CASES)
        if statuses := statuses_in_words(entry):
            shown += f" ({statuses})"
        yield f"{entry['class']}: {entry['count']:,}; {wording.FIRST_CASES}: {shown}"
