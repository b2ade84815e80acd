"""What lines of a results file add up to: sums that merge, and the summary at the end."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from k2_verifier_adapter.core.cases import NOT_PARAMETERS
from k2_verifier_adapter.core.counts import count_text, merge_texts
from k2_verifier_adapter.core.history import Repairs
from k2_verifier_adapter.core.json_text import differ, reportable
from k2_verifier_adapter.core.log_facts import LogFacts, Places
from k2_verifier_adapter.core.observed import Observed
from k2_verifier_adapter.core.requests import differing_parameters
from k2_verifier_adapter.core.run_facts import INTERRUPTED, WHOLE_SET, RunFacts, RunPlan
from k2_verifier_adapter.core.secrets import hide_secrets
from k2_verifier_adapter.core.summary import Summary, build_summary
from k2_verifier_adapter.core.tally import Tally
from k2_verifier_adapter.core.verdict import GateOptions
from k2_verifier_adapter.errors import DataError
from k2_verifier_adapter.offline.failed_cases import FirstFailedCases
from k2_verifier_adapter.offline.official import OfficialAnswers
from k2_verifier_adapter.version import __version__


@dataclass(slots=True)
class ScoredLines:
    """What some lines add up to.

    Attributes:
        models: Requests by the model that they ask for.
        parameters: The parameters that all requests share; None before the first request.
        repeats: The most lines of one case.
        answered: The `data_index` of every official answer that a scored line is for.
        plans: What the runs were to ask that the lines are of.
        differing: Lines by how their parameters differ from the official request's.
        under_way: Lines of requests that were under way when such a run was decided; they are not scored.
        failed_cases: The first failed cases; None where nobody wants to see them.
    """

    log: LogFacts
    tally: Tally = field(default_factory=Tally)
    observed: Observed = field(default_factory=Observed)
    repairs: dict[str, int] = field(
        default_factory=lambda: {"malformed_history": 0, "input_role": 0, "tool_call_ids": 0}
    )
    models: Counter[str] = field(default_factory=Counter)
    parameters: dict[str, Any] | None = None
    first_at: str | None = None
    last_at: str | None = None
    repeats: int = 0
    answered: set[int] = field(default_factory=set)
    plans: set[RunPlan] = field(default_factory=set)
    differing: Counter[str] = field(default_factory=Counter)
    under_way: int = 0
    failed_cases: FirstFailedCases | None = None

    def note_request(
        self, body: Mapping[str, Any] | None, run_at: str | None, official: Mapping[str, Any] | None
    ) -> None:
        """Take in a request as sent and when it was made, and the official parameters; None is unknown."""
        if run_at is not None:
            self._note_times(run_at, run_at)
        if body is None:
            return
        model = body.get("model")
        if isinstance(model, str) and model:
            count_text(self.models, model)
        for said in () if official is None else differing_parameters(body, official):
            count_text(self.differing, said)
        if self.parameters is None:
            self.parameters = {
                name: value for name, value in body.items() if name == "model" or name not in NOT_PARAMETERS
            }
        else:
            self._keep_shared(self.parameters, body)

    def note_repairs(self, repairs: Repairs) -> None:
        """Take in the repairs of one case."""
        for name in self.repairs:
            self.repairs[name] += bool(getattr(repairs, name))

    def _note_times(self, first: str, last: str) -> None:
        self.first_at = first if self.first_at is None else min(self.first_at, first)
        self.last_at = last if self.last_at is None else max(self.last_at, last)

    @staticmethod
    def _keep_shared(parameters: dict[str, Any], others: Mapping[str, Any]) -> None:
        differing = [
            name for name, value in parameters.items() if name not in others or differ(others[name], value)
        ]
        for name in differing:
            del parameters[name]

    def merge(self, other: ScoredLines) -> None:
        """Take in what the lines that follow add up to; no case has lines on both sides."""
        self.log.merge(other.log)
        self.tally.merge(other.tally)
        self.observed.merge(other.observed)
        for name, count in other.repairs.items():
            self.repairs[name] += count
        merge_texts(self.models, other.models)
        if other.first_at is not None and other.last_at is not None:
            self._note_times(other.first_at, other.last_at)
        self.repeats = max(self.repeats, other.repeats)
        self.answered |= other.answered
        self.plans |= other.plans
        merge_texts(self.differing, other.differing)
        self.under_way += other.under_way
        if self.failed_cases is not None and other.failed_cases is not None:
            self.failed_cases.merge(other.failed_cases)
        if other.parameters is not None:
            if self.parameters is None:
                self.parameters = dict(other.parameters)
            else:
                self._keep_shared(self.parameters, other.parameters)

    def summary(
        self, official: OfficialAnswers, subset: str | None, gate: GateOptions, profile: str | None = None
    ) -> Summary:
        """Put the summary together, or raise `DataError` if no line could be scored."""
        log = self.log
        if not log.scored:
            found = ", ".join(
                f"{name} {places.count}" for name, places in log.left_out.items() if places.count
            )
            raise DataError(
                f"no line of the results could be scored against {official.info.source}: "
                f"{found or 'the file is empty'}"
            )
        several = len(self.models) > 1
        asked = ", ".join(f"{name} ({count})" for name, count in self.models.most_common(5))
        void_reason = f"the requests ask for several models: {asked}" if several else None
        plan = next(iter(self.plans)) if len(self.plans) == 1 else WHOLE_SET
        if len({found.stopping for found in self.plans}) > 1:
            void_reason = void_reason or "the lines are of runs that stopped by different rules, or by none"
        elif plan.stopping is not None and not plan.stopping.design.is_planned:
            void_reason = void_reason or "the looks that the lines tell are not those of any run"
        planned = official.planned(plan, log.failed_rule, self.answered)
        log.official.unused = len(planned) - len(self.answered)
        repeats = max(self.repeats, plan.repeats)
        counts, calls = self.tally.counts, repeats * sum(planned)
        without = (calls - counts.tp - counts.fn, repeats * len(planned) - calls - counts.fp - counts.tn)
        model = self.models or self.observed.models or Counter({"unknown": 1})
        # A log of the client's own arguments may hold headers.
        parameters = {name: reportable(value) for name, value in (self.parameters or {}).items()}
        facts = RunFacts(
            model=model.most_common(1)[0][0],
            subset=subset or "",
            parameters=hide_secrets(parameters),
            rows=official.info,
            planned=repeats * len(planned),
            repeats=repeats,
            started_at=self.first_at or "",
            finished_at=self.last_at,
            complete=plan.ended is None,
            endpoint_host=None,
            adapter=__version__,
            evalscope="",
            python=platform.python_version(),
            standard=official.standard,
            stopped=None if plan.ended == INTERRUPTED else plan.ended,
            gate=gate,
            stopping=plan.stopping,
            profile=profile,
        )
        summary = build_summary(
            facts,
            self.tally,
            self.observed,
            self.repairs,
            unanswered=without,
            void_reason=void_reason,
            log=log,
            differing=self.differing,
        )
        warnings = [*summary.warnings, *_warnings(log)]
        if void_reason is not None:
            warnings.append(f"No verdict: {void_reason}.")
        return replace(summary, warnings=tuple(warnings), under_way=self.under_way)


def _warnings(log: LogFacts) -> list[str]:
    official = log.official
    warnings = [f"{sentence}." for sentence in log.in_words()]
    if log.other_request.count:
        warnings.append(
            f"{_lines(log.other_request)} hold other messages or tools than the official request of the "
            "same data_index: the official file may belong to another prompt set."
        )
    if official.unused:
        answers = official.rows - official.failed
        warnings.append(
            f"{official.unused} of {answers} official answers have no line in the results: missing requests."
        )
    not_used = (
        (official.duplicates, "another of the same data_index is newer, or they are repeats"),
        (official.unusable, "they cannot be read, or name no data_index"),
    )
    warnings += [
        f"{_lines(places)} of the official file do not count: {why}."
        for places, why in not_used
        if places.count
    ]
    return warnings


def _lines(places: Places) -> str:
    return "1 line" if places.count == 1 else f"{places.count} lines"
