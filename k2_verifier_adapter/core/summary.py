"""The summary of a run: what every report shows, computed once."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.counts import FailedRequest
from k2_verifier_adapter.core.diagnosis.measures import Context
from k2_verifier_adapter.core.diagnosis.rule import Finding, diagnose
from k2_verifier_adapter.core.diagnosis.rules import RULES
from k2_verifier_adapter.core.diagnosis.what_if import WhatIf, what_ifs
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.judging.judgement import Judgement, judge
from k2_verifier_adapter.core.log_facts import LogFacts
from k2_verifier_adapter.core.metrics import Metric, compute_metrics
from k2_verifier_adapter.core.presets import SelfAgreement
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.responses import NotACompletion, Response, parse_completion
from k2_verifier_adapter.core.run_facts import RunFacts
from k2_verifier_adapter.core.tally import Tally, count_text, merge_texts
from k2_verifier_adapter.core.tokens import reported_tokens
from k2_verifier_adapter.core.verdict import Verdict, decide

if TYPE_CHECKING:
    # The comparison of runs is made of their summaries.
    from k2_verifier_adapter.core.comparison.not_worse import NotWorse

SYNTHETIC_REASON = "synthetic rows: no verdict"


@dataclass(slots=True)
class Observed:
    """What the responses say of themselves.

    Attributes:
        models: Responses by the `model` field of the completion.
        providers: Responses by the `provider` field, which routers set.
        system_fingerprints: Responses by `system_fingerprint`.
        usage: Sums of the token counts.
        durations_s: Seconds that each answer took.
        not_raw: Responses that passed through EvalScope's own parsing.
        retried: Responses that took more than one attempt.
    """

    models: Counter[str] = field(default_factory=Counter)
    providers: Counter[str] = field(default_factory=Counter)
    system_fingerprints: Counter[str] = field(default_factory=Counter)
    usage: Counter[str] = field(default_factory=Counter)
    durations_s: array[float] = field(default_factory=lambda: array("d"))
    not_raw: int = 0
    retried: int = 0

    def add(
        self,
        completion: Mapping[str, Any],
        duration_s: float | None,
        *,
        raw: bool = True,
        attempts: int = 1,
    ) -> None:
        """Take in one completion."""
        for counter, name in (
            (self.models, "model"),
            (self.providers, "provider"),
            (self.system_fingerprints, "system_fingerprint"),
        ):
            value = completion.get(name)
            if isinstance(value, str) and value:
                count_text(counter, value)
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            tokens = reported_tokens(completion, name)
            if tokens:
                self.usage[name] += tokens
        if duration_s is not None:
            self.durations_s.append(duration_s)
        self.not_raw += not raw
        self.retried += attempts > 1

    def merge(self, other: Observed) -> None:
        """Take in what other responses say."""
        merge_texts(self.models, other.models)
        merge_texts(self.providers, other.providers)
        merge_texts(self.system_fingerprints, other.system_fingerprints)
        self.usage += other.usage
        self.durations_s.extend(other.durations_s)
        self.not_raw += other.not_raw
        self.retried += other.retried

    @property
    def mixed(self) -> str | None:
        """A warning if more than one model or provider answered under one name, else None."""
        for what, counter in (("models", self.models), ("providers", self.providers)):
            if len(counter) > 1:
                names = ", ".join(f"{name} ({count})" for name, count in counter.most_common(5))
                return f"several {what} answered under one name: {names}"
        return None

    def latency(self) -> dict[str, float | None]:
        """Give the 50th and 95th percentile (nearest rank) and the maximum, in seconds."""
        ordered = sorted(self.durations_s)
        if not ordered:
            return {"p50": None, "p95": None, "max": None}
        nearest_rank = {share: ordered[ceil(share * len(ordered)) - 1] for share in (0.5, 0.95)}
        return {
            "p50": round(nearest_rank[0.5], 6),
            "p95": round(nearest_rank[0.95], 6),
            "max": round(ordered[-1], 6),
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything that a report says.

    Attributes:
        facts: What is known of the run.
        tally: Counts and failure classes.
        metrics: The metrics, in report order.
        verdict: The verdict.
        observed: What the responses say of themselves.
        repairs: Evaluated cases by repair.
        warnings: Lines that a reader must see.
        log: What was found in the results file that was scored; None for a run.
        redacted: Whether the words of prompts and answers are left out; see `core.secrets.redaction`.
        findings: Probable causes, those that explain most of the loss first.
        what_if: The two metrics as if one class were fixed, for every class that changes them.
        baseline: Whether the run is not worse than a baseline; None if it was held against none.
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


def judge_record(case: Case, record: ResponseRecord) -> tuple[Response, Judgement] | FailedRequest:
    """Judge a stored response; one that is no completion is a failed request."""
    response = parse_completion(record.response)
    if isinstance(response, NotACompletion):
        failure = Failure(response.failure_class, response.reason)
        return FailedRequest(case.index, failure, repeat=record.repeat, duration_s=record.duration_s)
    anomalies, limit = record.stream_anomalies, record.token_limit
    return response, judge(case, response, anomalies, token_limit=limit)


def summarize(
    facts: RunFacts,
    cases: Mapping[int, Case],
    records: Iterable[ResponseRecord],
    failed: Iterable[FailedRequest],
    *,
    minimums: Mapping[str, float] | None = None,
) -> Summary:
    """Judge every stored response and summarize the run.

    Args:
        facts: What is known of the run.
        cases: The evaluated cases by 0-based row number.
        records: The stored responses, at most one for each case and repeat.
        failed: The failed requests.
        minimums: The user's thresholds by metric name.
    """
    tally, observed = Tally(), Observed()
    # In the order of the cases: all that belongs to one case makes one cluster.
    items: list[ResponseRecord | FailedRequest] = [*records, *failed]
    for item in sorted(items, key=lambda item: (item.case_index, item.repeat)):
        case = cases[item.case_index]
        if isinstance(item, FailedRequest):
            tally.add_failed(item)
            continue
        judged = judge_record(case, item)
        if isinstance(judged, FailedRequest):
            tally.add_failed(judged)
            continue
        response, judgement = judged
        tally.add(case.index, judgement)
        observed.add(response.completion, item.duration_s, raw=item.raw, attempts=item.attempts)
    repairs = count_repairs(cases.values())
    return build_summary(facts, tally, observed, repairs, minimums=minimums)


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
    minimums: Mapping[str, float] | None = None,
    void_reason: str | None = None,
    log: LogFacts | None = None,
) -> Summary:
    """Put a summary together from a finished tally.

    Args:
        facts: What is known of the run.
        tally: The tally of all responses and failed requests.
        observed: What the responses say of themselves.
        repairs: Evaluated cases by repair.
        minimums: The user's thresholds by metric name.
        void_reason: A further reason why these numbers may carry no verdict.
        log: What was found in the results file that was scored.
    """
    metrics = tuple(compute_metrics(tally))
    mixed = observed.mixed
    warnings = []
    if facts.rows.synthetic:
        warnings.append("The rows are synthetic: these numbers say nothing about a real vendor.")
    if mixed:
        warnings.append(f"No verdict: {mixed}.")
    if observed.not_raw:
        warnings.append(
            f"{observed.not_raw} responses were parsed by EvalScope before they could be judged: "
            "the API is not OpenAI-compatible."
        )
    broken = tally.failure_counts[FailureClass.BROKEN_TOOL_SCHEMA]
    if broken:
        warnings.append(f"{broken} responses were judged against a tool schema that is itself broken.")
    void_reason = SYNTHETIC_REASON if facts.rows.synthetic else mixed or void_reason
    threshold = facts.standard.threshold if facts.standard is not None else None
    verdict = decide(metrics, threshold=threshold, minimums=minimums, void_reason=void_reason)
    context = Context(
        models=observed.models,
        providers=observed.providers,
        retried=observed.retried,
        self_agreement=_self_agreement(facts),
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
        what_if=what_ifs(tally),
    )


def _self_agreement(facts: RunFacts) -> float | None:
    """Give the official model's mean F1 against itself; nothing differs by chance on synthetic rows."""
    agreement = None if facts.standard is None else facts.standard.self_agreement
    return None if agreement is None or facts.rows.synthetic else agreement.mean
