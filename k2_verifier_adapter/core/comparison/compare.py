"""Several runs over the same cases: who stands where, and what differs case by case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from k2_verifier_adapter.core.comparison.baseline import DEFAULT_MARGIN, MarginCheck, NotWorse, margin_status
from k2_verifier_adapter.core.comparison.pairs import CaseOutcome, Pair, compare_pairs
from k2_verifier_adapter.core.counts import Counts
from k2_verifier_adapter.core.metrics import PRIMARY_METRIC, Metric, compute_metrics
from k2_verifier_adapter.core.observed import NO_PRICES, Prices, Spent
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.core.tally import Tally
from k2_verifier_adapter.core.verdict import (
    NO_THRESHOLD,
    Requirements,
    Status,
    Verdict,
    strict_verdict,
    worst_status,
)
from k2_verifier_adapter.errors import DataError

_SHOWN_PLACES = 5


@dataclass(frozen=True, slots=True)
class Participant:
    """One run or scored log that is compared.

    Attributes:
        label: What it is called; need not be unique.
        outcomes: What it made of each case that has an answer or a failed request, by `data_index`.
        spent: What all of its requests have cost, whatever is compared.
    """

    label: str
    source: str
    summary: Summary
    outcomes: Mapping[int, CaseOutcome]
    spent: Spent = field(default_factory=Spent)
    prices: Prices = NO_PRICES

    @property
    def provider(self) -> str | None:
        """Who served it: the provider that a router names, else the endpoint; None if unknown."""
        providers = self.summary.observed.providers
        return providers.most_common(1)[0][0] if providers else self.summary.facts.endpoint_host


@dataclass(frozen=True, slots=True)
class SetupDifference:
    """One thing in which runs were made differently.

    Attributes:
        name: What it is; a request parameter by its own name behind `parameters.`.
        values: The value of each run, as JSON can hold it; None where it is not set or not known.
    """

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """What one run is worth over the common cases; `left_out` counts its cases that are not common."""

    participant: Participant
    counts: Counts
    metrics: Mapping[str, Metric]
    verdict: Verdict
    left_out: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several runs, held against each other over the cases that they share.

    Attributes:
        standings: The runs, in the order in which they were given.
        ranks: For each of them the best and the worst rank that it may have, see `rank_ranges`.
        ranking: Their places in that order, by these ranks.
        official_calls: Common cases in which the official API calls.
        official_valid: Those in which its calls are valid, or not known.
        other_content: `data_index` of cases that hold different requests in different runs; left out.
    """

    standings: Sequence[Standing]
    ranks: Sequence[tuple[int, int]]
    ranking: Sequence[int]
    cases: int
    official_calls: int
    official_valid: int
    other_content: Sequence[int]
    setup: Sequence[SetupDifference]
    pairs: Sequence[Pair]
    warnings: Sequence[str]


def compare(participants: Sequence[Participant]) -> Comparison:
    """Hold runs against each other over the cases that all of them hold.

    Raises:
        DataError: If they have no case in common, or were held against different official decisions.
    """
    common, other_content = _common_cases(participants)
    standings = [_standing(participant, common) for participant in participants]
    official = [_official(participants, case) for case in common]
    pairs = compare_pairs([participant.outcomes for participant in participants], common)
    ranks = rank_ranges(standings, pairs)
    return Comparison(
        standings=standings,
        ranks=ranks,
        ranking=sorted(
            range(len(standings)), key=lambda place: (ranks[place], len(standings[place].verdict.raised))
        ),
        cases=len(common),
        official_calls=sum(should_call for should_call, _ in official),
        official_valid=sum(should_call and valid for should_call, valid in official),
        other_content=other_content,
        setup=setup_differences([participant.summary for participant in participants]),
        pairs=pairs,
        warnings=_warnings(standings, len(common), other_content),
    )


def _common_cases(participants: Sequence[Participant]) -> tuple[list[int], list[int]]:
    """Give the cases that all runs hold, and those of the same number that are not the same case."""
    shared = set[int].intersection(*(set(participant.outcomes) for participant in participants))
    common, other_content, other_decision = [], [], []
    for case in sorted(shared):
        outcomes = [participant.outcomes[case] for participant in participants]
        contents = {outcome.content for outcome in outcomes} - {None}
        if len(contents) > 1:
            other_content.append(case)
        elif len({outcome.should_call for outcome in outcomes}) > 1:
            other_decision.append(case)
        else:
            common.append(case)
    if other_decision:
        raise DataError(
            f"the official decision differs between the runs in {len(other_decision)} of "
            f"{len(common) + len(other_decision)} common cases ({_places(other_decision)}): they were held "
            "against different official runs; export them, and compare the results files with one --baseline"
        )
    if not common:
        held = ", ".join(f"{item.source}: {len(item.outcomes)} cases" for item in participants)
        why = (
            f"the {len(other_content)} cases of the same data_index hold different requests"
            if other_content
            else "no data_index stands in all of them"
        )
        raise DataError(f"the runs have no case in common: {why} ({held}); compare runs over the same rows")
    return common, other_content


def _places(cases: Sequence[int]) -> str:
    shown = ", ".join(map(str, cases[:_SHOWN_PLACES]))
    return f"data_index {shown}{', ...' if len(cases) > _SHOWN_PLACES else ''}"


def _standing(participant: Participant, common: Sequence[int]) -> Standing:
    tally = Tally()
    for case in common:
        outcome = participant.outcomes[case]
        for answer in outcome.answers:
            tally.add(outcome.case_index, answer)
        for request in outcome.failed:
            tally.add_failed(request)
    metrics = compute_metrics(tally)
    facts = participant.summary.facts
    return Standing(
        participant=participant,
        counts=tally.counts,
        metrics={metric.name: metric for metric in metrics},
        verdict=strict_verdict(
            tally, Requirements(), standard=facts.standard, void_reason=void_reason(participant)
        ),
        left_out=len(participant.outcomes) - len(common),
    )


def void_reason(participant: Participant) -> str | None:
    """Say why the numbers of a run may carry no verdict; None if nothing speaks against one."""
    reason = participant.summary.verdict.reason
    return None if reason == NO_THRESHOLD else reason


def rank_ranges(standings: Sequence[Standing], pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    """Give the best and the worst rank that each run may have.

    A run is ahead of another only where that is shown: it has the higher trigger_similarity or validity, the
    other has neither, and it shows no difference from the official API that the other does not show. So a
    vendor that ignores the temperature, and agrees too much, is ahead of no faithful one.
    """
    raised = [{found.name for found in standing.verdict.raised} for standing in standings]
    ahead = {
        (winner, loser)
        for pair in pairs
        for winner, loser in ((pair.first, pair.second), (pair.second, pair.first))
        if pair.shown_better == {winner} and raised[winner] <= raised[loser]
    }
    runs = range(len(standings))
    return [
        (
            1 + sum((other, run) in ahead for other in runs),
            len(standings) - sum((run, other) in ahead for other in runs),
        )
        for run in runs
    ]


def _official(participants: Sequence[Participant], case: int) -> tuple[bool, bool]:
    """Give the official decision of a case, and whether its calls are valid or not known."""
    outcomes = [participant.outcomes[case] for participant in participants]
    judged = [answer.official_valid for outcome in outcomes for answer in outcome.answers]
    return outcomes[0].should_call, False not in judged


def _warnings(standings: Sequence[Standing], common: int, other_content: Sequence[int]) -> list[str]:
    warnings = []
    if any(standing.left_out for standing in standings):
        held = ", ".join(f"{len(standing.participant.outcomes):,}" for standing in standings)
        warnings.append(
            f"The runs hold different cases ({held}): all is over the {common:,} that all of them hold."
        )
    if other_content:
        warnings.append(
            f"{len(other_content):,} cases hold other requests in other runs and are left out "
            f"({_places(other_content)}): the runs may be over different rows."
        )
    shared, own = shared_and_own(
        [standing.participant.summary.warnings for standing in standings], named=letter
    )
    return [*shared, *warnings, *own]


def shared_and_own(each: Sequence[Sequence[str]], named: Callable[[int], str]) -> tuple[list[str], list[str]]:
    """Part the warnings of several runs into those of all, and those of single ones, by the run's name."""
    shared = [warning for warning in each[0] if all(warning in others for others in each)]
    own = [
        f"{named(place)}: {warning}"
        for place, found in enumerate(each)
        for warning in found
        if warning not in shared
    ]
    return shared, own


def letter(place: int) -> str:
    """Name a run by its place: A to Z, then AA, AB and so on."""
    place, last = divmod(place, 26)
    return (letter(place - 1) if place else "") + chr(ord("A") + last)


def setup_differences(summaries: Sequence[Summary]) -> list[SetupDifference]:
    """List everything in which runs were made differently, in a fixed order."""
    return differing_setups([setup_of(summary) for summary in summaries])


def differing_setups(setups: Sequence[Mapping[str, Any]]) -> list[SetupDifference]:
    """List everything that is not the same in all setups, in a fixed order."""
    names = {name: None for setup in setups for name in setup}
    found = []
    for name in names:
        values = tuple(setup.get(name) for setup in setups)
        if any(value != values[0] for value in values):
            found.append(SetupDifference(name, values))
    return found


def setup_of(summary: Summary) -> dict[str, Any]:
    """Give what a run was made with, by name."""
    facts = summary.facts
    setup: dict[str, Any] = {
        "model": facts.model,
        "subset": facts.subset or None,
        "endpoint": facts.endpoint_host,
        "served_models": sorted(summary.observed.models),
        "rows_sha256": facts.rows.sha256,
        "repeats": facts.repeats,
        "adapter": facts.adapter,
        "evalscope": facts.evalscope or None,
    }
    # The model stands above.
    parameters = {name: value for name, value in facts.parameters.items() if name != "model"}
    setup.update((f"parameters.{name}", value) for name, value in sorted(parameters.items()))
    return setup


def not_worse(comparison: Comparison, margin: float = DEFAULT_MARGIN) -> NotWorse:
    """Decide whether the first run is not worse than the second, its baseline.

    It is the strict rule of a verdict, with the paired difference in place of the value and −margin in
    place of the threshold (a test of non-inferiority, 2.5 % one-sided).
    """
    (pair,) = comparison.pairs
    checks = (
        MarginCheck(PRIMARY_METRIC, pair.similarity, margin_status(pair.similarity, margin)),
        MarginCheck("schema_accuracy", pair.accuracy, margin_status(pair.accuracy, margin)),
    )
    reasons = [void_reason(standing.participant) for standing in comparison.standings]
    reason = next((found for found in reasons if found is not None), None)
    baseline = comparison.standings[1].participant
    return NotWorse(
        status=Status.NONE if reason is not None else worst_status(item.status for item in checks),
        margin=margin,
        baseline=baseline.source,
        model=baseline.label,
        cases=comparison.cases,
        checks=checks,
        warnings=tuple(_of_baseline(comparison)),
        reason=reason,
    )


def _of_baseline(comparison: Comparison) -> list[str]:
    """Give the warnings that the run's own report does not have."""
    run, baseline = (f"{letter(place)}: " for place in range(2))
    own = comparison.standings[0].participant.summary.warnings
    said = [line for line in comparison.warnings if line not in own and not line.startswith(run)]
    return [f"Baseline: {line.removeprefix(baseline)}" for line in said]
