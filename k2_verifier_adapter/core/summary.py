"""The summary of a run: what every report shows, computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.comparison.baseline import NotWorse
from k2_verifier_adapter.core.counts import count_text
from k2_verifier_adapter.core.diagnosis.findings import Finding, WhatIf, diagnose, what_ifs
from k2_verifier_adapter.core.diagnosis.measures import Context
from k2_verifier_adapter.core.diagnosis.rules import RULES
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.forecast import Forecast, of_rows
from k2_verifier_adapter.core.gateways import pinned_providers
from k2_verifier_adapter.core.json_text import dumps_ascii
from k2_verifier_adapter.core.judged import Item
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.log_facts import LogFacts
from k2_verifier_adapter.core.metrics import Metric, compute_metrics
from k2_verifier_adapter.core.observed import Observed
from k2_verifier_adapter.core.presets import SelfAgreement
from k2_verifier_adapter.core.printable import plural
from k2_verifier_adapter.core.requests import differing_parameters, merge_parameters, official_parameters
from k2_verifier_adapter.core.responses import reported_tokens
from k2_verifier_adapter.core.run_facts import RunFacts
from k2_verifier_adapter.core.sampling import in_stratified_order
from k2_verifier_adapter.core.tally import Tally
from k2_verifier_adapter.core.verdict import Status, Verdict, similarity_bounds, strict_verdict

SYNTHETIC_REASON = "synthetic rows: no verdict"


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything that a report says.

    Attributes:
        metrics: The metrics, in report order.
        repairs: Evaluated cases by repair.
        log: What was found in the results file that was scored; None for a run.
        redacted: Whether the words of prompts and answers are left out; see `core.redaction`.
        findings: Probable causes, those that explain most of the loss first.
        what_if: The two metrics as if one class were fixed, for every class that changes them.
        baseline: Whether the run is not worse than a baseline; None if it was held against none.
        similarity_bounds: What trigger_similarity would be if every request without an answer had
            disagreed, and if each had agreed; None if all have one.
        forecast: Of an inconclusive verdict, what the rows that were not asked would bring; None if there
            are none, or a check is undefined.
        under_way: Requests that were under way when a run that stops was decided; no part of the numbers.
        under_way_tokens: The tokens that they used, as the vendor counts them.
    """

    facts: RunFacts
    tally: Tally
    metrics: tuple[Metric, ...]
    verdict: Verdict
    observed: Observed
    repairs: Mapping[str, int]
    warnings: tuple[str, ...]
    log: LogFacts | None = None
    redacted: bool = False
    findings: tuple[Finding, ...] = ()
    what_if: tuple[WhatIf, ...] = ()
    baseline: NotWorse | None = None
    similarity_bounds: tuple[float, float] | None = None
    forecast: Forecast | None = None
    under_way: int = 0
    under_way_tokens: int = 0

    @property
    def self_agreement(self) -> SelfAgreement | None:
        """The official model against itself, or None if unknown."""
        standard = self.facts.standard
        return None if standard is None else standard.self_agreement

    @property
    def completed(self) -> int:
        """Requests with a judged answer."""
        return self.tally.counts.completed

    @property
    def total(self) -> int:
        """Requests that the run was to make, asked or not."""
        return max(self.facts.planned, self.completed + self.tally.failed)

    @property
    def missing(self) -> int:
        """Requests that neither completed nor failed: the run was interrupted."""
        return self.total - self.completed - self.tally.failed

    @property
    def coverage(self) -> float | None:
        """Completed requests / all requests; None for an empty run."""
        return self.completed / self.total if self.total else None


def summarize(facts: RunFacts, cases: Collection[Case], items: Iterable[Item]) -> Summary:
    """Summarize a run; of one that stopped when it was decided, the cases that decided it.

    There is at most one item for each case and repeat.
    """
    tally, observed, tokens = Tally(), Observed(), 0
    items = list(items)
    asked = len(items)
    differing = not_as_official(facts, cases)
    if facts.complete and facts.stopping is not None:
        cases = in_stratified_order(cases, facts.stopping.seed)[: facts.stopping.cases]
        judged = {case.index for case in cases}
        tokens = sum(
            reported_tokens(item.response.completion, "total_tokens")
            for item in items
            if item.case_index not in judged and not isinstance(item, FailedRequest)
        )
        items = [item for item in items if item.case_index in judged]
    # In the order of the cases: all that belongs to one case makes one cluster.
    for item in sorted(items, key=lambda item: (item.case_index, item.repeat)):
        if isinstance(item, FailedRequest):
            tally.add_failed(item)
        else:
            tally.add(item.case_index, item.judgement)
            observed.add(
                item.response.completion,
                item.duration_s,
                raw=item.raw,
                masked=item.masked,
                attempts=item.attempts,
                gateways=item.gateways,
            )
    calls = sum(case.official.should_call for case in cases) * facts.repeats
    counts = tally.counts
    unanswered = (
        calls - counts.tp - counts.fn,
        len(cases) * facts.repeats - calls - counts.fp - counts.tn,
    )
    summary = build_summary(
        facts, tally, observed, count_repairs(cases), unanswered=unanswered, differing=differing
    )
    return replace(summary, under_way=asked - len(items), under_way_tokens=tokens)


def not_as_official(facts: RunFacts, cases: Iterable[Case]) -> Counter[str]:
    """Count the cases by how the parameters of their requests differ from those of the official run's."""
    found, known = Counter[str](), dict[str, list[str]]()
    for case in cases:
        key = dumps_ascii(dict(case.parameters))
        if key not in known:
            official = official_parameters(facts.subset, case.parameters)
            sent = merge_parameters(official or {}, {}, facts.parameters)
            known[key] = [] if official is None else differing_parameters(sent, official)
        for said in known[key]:
            count_text(found, said)
    return found


def _said_of(differing: Counter[str]) -> str:
    said = [f"{what} in {plural(count, 'request')}" for what, count in differing.most_common(_LISTED)]
    left = len(differing) - len(said)
    more = f"; and {left:,} more" if left else ""
    return f"The parameters are not the official run's: {'; '.join(said)}{more}."


_LISTED = 8
"""Differing parameters that a warning names."""


def count_repairs(cases: Iterable[Case]) -> dict[str, int]:
    """Count the cases by repair."""
    repairs = {"malformed_history": 0, "input_role": 0, "tool_call_ids": 0}
    for case in cases:
        repairs["malformed_history"] += bool(case.repairs.malformed_history)
        repairs["input_role"] += bool(case.repairs.input_role)
        repairs["tool_call_ids"] += bool(case.repairs.tool_call_ids)
    return repairs


def build_summary(
    facts: RunFacts,
    tally: Tally,
    observed: Observed,
    repairs: Mapping[str, int],
    *,
    unanswered: tuple[int, int] = (0, 0),
    void_reason: str | None = None,
    log: LogFacts | None = None,
    differing: Counter[str] | None = None,
) -> Summary:
    """Put a summary together from a finished tally.

    `differing` counts the requests by how their parameters differ from the official run's.
    """
    metrics = tuple(compute_metrics(tally))
    mixed, masked = observed.mixed, observed.altered
    warnings = []
    if facts.rows.synthetic:
        warnings.append("The rows are synthetic: these numbers say nothing about a real vendor.")
    warnings += [f"No verdict: {reason}." for reason in (mixed, masked) if reason is not None]
    if observed.not_raw:
        warnings.append(
            f"{observed.not_raw} responses were parsed by EvalScope before they could be judged: "
            "the API is not OpenAI-compatible."
        )
    broken = tally.failure_counts[FailureClass.BROKEN_TOOL_SCHEMA]
    if broken:
        warnings.append(f"{broken} responses were judged against a tool schema that is itself broken.")
    if differing:
        warnings.append(_said_of(differing))
    nameless = tally.counts.completed - observed.providers.total()
    if nameless > 0 and pinned_providers(facts.parameters):
        warnings.append(
            f"The requests pin a provider, but {plural(nameless, 'response')} name none: which one answered "
            "these is not known."
        )
    void_reason = SYNTHETIC_REASON if facts.rows.synthetic else mixed or masked or void_reason
    total = max(facts.planned, tally.counts.completed + tally.failed)
    barred = None if log is None else log.bars(missing_is_fine=facts.gate.requirements.coverage is not None)
    verdict = strict_verdict(
        tally,
        facts.gate.requirements,
        standard=facts.standard,
        level=facts.level,
        coverage=tally.counts.completed / total if total else None,
        void_reason=void_reason,
        barred=barred,
    )
    context = Context(
        models=observed.models,
        providers=observed.providers,
        retried=observed.retried,
        self_agreement=_self_agreement(facts),
        profile=facts.model_profile,
    )
    return Summary(
        facts=facts,
        tally=tally,
        metrics=metrics,
        verdict=verdict,
        observed=observed,
        repairs=dict(repairs),
        warnings=tuple(warnings),
        log=log,
        findings=diagnose(tally, context, RULES),
        what_if=what_ifs(tally, context.ceiling),
        forecast=_forecast(facts, tally, verdict),
        similarity_bounds=similarity_bounds(tally.counts, *unanswered) if any(unanswered) else None,
    )


def _forecast(facts: RunFacts, tally: Tally, verdict: Verdict) -> Forecast | None:
    if facts.stopping is not None:
        return None  # What further rows would settle was for the looks to find out.
    sample, done = facts.rows.sample, tally.decisions.total()
    rows = facts.planned // max(1, facts.repeats) if sample is None else sample.of
    if verdict.status is not Status.INCONCLUSIVE or not 0 < done < rows:
        return None
    return of_rows([check for check in verdict.checks if check.applied], done, rows)


def _self_agreement(facts: RunFacts) -> float | None:
    """Give the official model's mean F1 against itself; nothing differs by chance on synthetic rows."""
    agreement = None if facts.standard is None else facts.standard.self_agreement
    return None if agreement is None or facts.rows.synthetic else agreement.mean
