"""One vendor over time, on the same rows: its runs, what differs between neighbours, and since when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from itertools import pairwise
from math import erfc, hypot, sqrt
from typing import Any, NamedTuple

from k2_verifier_adapter.core.comparison.compare import (
    Participant,
    SetupDifference,
    differing_setups,
    setup_of,
    shared_and_own,
)
from k2_verifier_adapter.core.metrics import ACCURACY, CALL_SURPLUS, ERROR_RATE, PRIMARY_METRIC, Metric
from k2_verifier_adapter.core.printable import percent, plural
from k2_verifier_adapter.core.run_facts import RowsInfo
from k2_verifier_adapter.core.sampling import SampleMethod
from k2_verifier_adapter.core.statistics.changes import ERROR, Series, find_changes
from k2_verifier_adapter.core.statistics.intervals import Z, wilson
from k2_verifier_adapter.core.statistics.paired import (
    Decisions,
    Difference,
    Validity,
    WinsLosses,
    agreement_of,
    f1_difference,
    validity_difference,
)
from k2_verifier_adapter.core.summary import SYNTHETIC_REASON
from k2_verifier_adapter.core.verdict import NO_THRESHOLD
from k2_verifier_adapter.errors import DataError, UsageError

SHOWN_METRICS = (PRIMARY_METRIC, CALL_SURPLUS, ACCURACY, ERROR_RATE)
"""What is shown of every run."""

MIN_COMPLETED = 0.95
"""Share of a run's requests that must have completed for a change to be looked for in it."""

UNPAIRED = "unpaired_mover"


class Measure(str, Enum):
    """What may change; the value is what names begin with."""

    CALLS = "calls"
    AGREEMENT = "agrees"
    VALIDITY = "valid"


class CaseCounts(NamedTuple):
    """What a run made of one case: its answers, those that call, and those whose calls are all valid.

    Attributes:
        content: Checksum that tells whether two runs mean the same case; None if it is not known.
    """

    content: int | None
    should_call: bool
    answers: int
    calls: int
    valid: int

    def of(self, measure: Measure) -> tuple[int, int]:
        """Give how many answers are a yes to what is measured, and how many there are."""
        if measure is Measure.VALIDITY:
            return self.valid, self.calls
        yes = self.calls if self.should_call or measure is Measure.CALLS else self.answers - self.calls
        return yes, self.answers


class Sums(NamedTuple):
    """What a run made of all of its cases: its decisions against the official ones, and its valid calls."""

    tp: int
    fn: int
    fp: int
    tn: int
    valid: int

    def of(self, measure: Measure) -> dict[Hashable, tuple[int, int]]:
        """Give the same as a case does, apart where the official API calls and where it does not."""
        if measure is Measure.VALIDITY:
            return {None: (self.valid, self.tp + self.fp)}
        yes = self.fp if measure is Measure.CALLS else self.tn
        return {True: (self.tp, self.tp + self.fn), False: (yes, self.fp + self.tn)}


@dataclass(frozen=True, slots=True)
class HistoryRun:
    """One run of a history.

    Attributes:
        started_at: When it began, as its files have it; None if they do not say.
        metrics: `SHOWN_METRICS` by name, over all of its own cases.
        setup: What it was made with, by name.
        rows: Which rows it asked.
        void: Why nothing may be said of the vendor by its numbers; None if nothing speaks against it.
        warnings: What its own report warns of.
        cases: What it made of its cases, by `data_index`; None where only the sums are known.
        sums: What it made of all of them together.
    """

    source: str
    model: str
    subset: str
    started_at: str | None
    complete: bool
    completed: int
    failed: int
    metrics: Mapping[str, Metric]
    setup: Mapping[str, Any]
    rows: RowsInfo
    void: str | None
    warnings: Sequence[str]
    cases: Mapping[int, CaseCounts] | None
    sums: Sums

    @property
    def moment(self) -> datetime | None:
        """When it began; a time without a zone is taken for UTC."""
        try:
            # Before Python 3.11, `fromisoformat` does not know `Z`.
            found = datetime.fromisoformat((self.started_at or "").replace("Z", "+00:00"))
        except ValueError:
            return None
        return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)

    def untested(self, newest: HistoryRun, *, paired: bool) -> str | None:
        """Say why no change is looked for in it, or None; sums are only those of the same rows comparable."""
        requests = self.completed + self.failed
        if not self.completed or self.completed < MIN_COMPLETED * requests:
            share = f" ({percent(self.completed / requests)})" if requests else ""
            return self.void or f"{self.completed:,} of {plural(requests, 'request')} completed{share}"
        if self.void is not None or paired:
            return self.void
        if _asked(self.rows) != _asked(newest.rows):
            return "only sums are known, and it asked other rows than the last run"
        return None if self.complete else "only sums are known, and it did not come to its end"


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A run and the one before it, over the cases that both answer.

    Attributes:
        later: Place of the later one; the other stands before it.
        cases: These cases; None where only sums are known, and the differences are not paired.
        similarity: trigger_similarity of the later less that of the earlier; None if undefined.
        agreement: In how many cases the later or the earlier agrees better with the official decision.
        accuracy: The same difference of schema_accuracy, over the cases in which both call.
        setup: In what they were made differently, the earlier first.
    """

    later: int
    cases: int | None
    similarity: Difference | None
    agreement: WinsLosses | None
    accuracy: Difference | None
    setup: Sequence[SetupDifference]


@dataclass(frozen=True, slots=True)
class Change:
    """A change that was shown; places are those of the history's runs.

    Attributes:
        before: Place of the last run before it.
        since: Place of the first run after it.
        earliest: The earliest two places that it may lie between as well.
        latest: The latest two.
        seen_at: Place of the run after which it was seen.
        difference: The share since then, until the next change, less that before it.
        setup: In what the runs before the earliest and at the latest place were made differently.
    """

    measure: Measure
    more: bool
    before: int
    since: int
    earliest: tuple[int, int]
    latest: tuple[int, int]
    seen_at: int
    p: float
    level: float
    difference: Difference
    setup: Sequence[SetupDifference]

    @property
    def name(self) -> str:
        """Its name, as files have it."""
        return f"{self.measure.value}_{'more' if self.more else 'less'}"


@dataclass(frozen=True, slots=True)
class History:
    """One vendor over time.

    Attributes:
        runs: The runs, in the order of their start; in the order given where one does not tell its own.
        untested: Of each run, why no change is looked for in it, or None.
        changes: The changes, by their place.
    """

    runs: Sequence[HistoryRun]
    untested: Sequence[str | None]
    neighbours: Sequence[Neighbours]
    changes: Sequence[Change]
    warnings: Sequence[str]

    @property
    def by_start(self) -> bool:
        """Whether the order is that of their start."""
        return all(run.moment is not None for run in self.runs)

    @property
    def paired(self) -> bool:
        """Whether what they made of each case is known, and not only their sums."""
        return all(run.cases is not None for run in self.runs)

    @property
    def tested(self) -> list[int]:
        """Places of the runs in which changes were looked for."""
        return _places_of(self.untested)

    @property
    def looks(self) -> int:
        """Number of looks: one after each of these runs but the first."""
        return max(0, len(self.tested) - 1)

    def in_words(self, change: Change) -> str:
        """Say what changed since when, and what was made differently there."""
        ended, began = (self.runs[place].moment for place in (change.before, change.since))
        since = ""
        if began is not None:
            is_next_day = ended is None or ended.date() != began.date()
            since = f" since {began:%Y-%m-%d}" if is_next_day else f" since {began:%Y-%m-%d %H:%M}"
        differing = ", ".join(_KNOWN_AS.get(item.name, item.name) for item in change.setup)
        there = f"{differing} changed" if differing else "nothing that is known was made differently"
        between = f"between runs {change.before + 1} and {change.since + 1}"
        for word, (before, after) in (("earliest", change.earliest), ("latest", change.latest)):
            if after != change.since:
                between += f", at the {word} {before + 1} and {after + 1}"
        return f"{_IN_WORDS[change.name]}{since}, {between} ({there})"


_IN_WORDS = {
    "calls_less": "calls less often",
    "calls_more": "calls more often",
    "agrees_less": "agrees less often with the official decision",
    "agrees_more": "agrees more often with the official decision",
    "valid_less": "fewer of its calls are valid",
    "valid_more": "more of its calls are valid",
}
_KNOWN_AS = {
    "system_fingerprints": "fingerprint",
    "served_models": "served model",
    "providers": "provider",
    "rows_sha256": "rows",
}


def run_of(participant: Participant) -> HistoryRun:
    """Take what a history needs from a run that was judged case by case."""
    summary = participant.summary
    facts, observed, counts = summary.facts, summary.observed, summary.tally.counts
    reason = summary.verdict.reason
    return HistoryRun(
        source=participant.source,
        model=participant.label,
        subset=facts.subset,
        started_at=facts.started_at or None,
        complete=facts.complete,
        completed=counts.completed,
        failed=summary.tally.failed,
        metrics={metric.name: metric for metric in summary.metrics if metric.name in SHOWN_METRICS},
        setup={
            **setup_of(summary),
            "providers": sorted(observed.providers),
            "system_fingerprints": sorted(observed.system_fingerprints),
        },
        rows=facts.rows,
        void=observed.mixed or observed.altered or void_of(reason),
        warnings=summary.warnings,
        cases={
            data_index: CaseCounts(
                outcome.content,
                outcome.should_call,
                len(outcome.answers),
                sum(answer.calls for answer in outcome.answers),
                sum(answer.successful for answer in outcome.answers),
            )
            for data_index, outcome in participant.outcomes.items()
        },
        sums=Sums(counts.tp, counts.fn, counts.fp, counts.tn, counts.successful),
    )


def void_of(reason: str | None) -> str | None:
    """Give why a verdict is void, unless the rows are why: a vendor is held against itself here."""
    return None if reason in (NO_THRESHOLD, SYNTHETIC_REASON) else reason


def history_of(runs: Sequence[HistoryRun]) -> History:
    """Put runs of one vendor in order, hold neighbours against each other, and look for changes.

    Where only the sums of a run are known, the sums of all are compared: that is valid as well, for given
    their total, sums over cases that are not alike vary less than the test supposes, but sees less.

    Raises:
        UsageError: If there is one run, or they are of several models or subsets, or one is given twice.
        DataError: If they have no case in common, or were held against different official decisions.
    """
    _check_alike(runs)
    ordered = list(runs)
    if all(run.moment is not None for run in runs):
        ordered.sort(key=lambda run: run.moment or _NEVER)
    _check_apart(ordered)
    known = _same_cases([run.cases for run in ordered if run.cases is not None])
    paired = len(known) == len(ordered)
    neighbours = [
        _paired(later, known, ordered) if paired else _unpaired(later, ordered)
        for later in range(1, len(ordered))
    ]
    untested = [run.untested(ordered[-1], paired=paired) for run in ordered]
    tested = _places_of(untested)
    if paired and len(tested) == len(ordered) and not any(pair.cases for pair in neighbours):
        held = ", ".join(f"{run.source}: {len(run.cases or ())} cases" for run in ordered)
        raise DataError(
            f"no run has an answered case in common with the next ({held}); give runs over the same rows"
        )
    changes: list[Change] = []
    for measure in Measure:
        series: Series = [run.sums.of(measure) for run in ordered]
        if paired:
            series = [{case: counts.of(measure) for case, counts in cases.items()} for cases in known]
        changes += _changes(measure, ordered, tested, series, paired=paired)
    return History(
        runs=ordered,
        untested=untested,
        neighbours=neighbours,
        changes=sorted(changes, key=lambda change: change.since),
        warnings=_warnings(ordered, neighbours, untested),
    )


def _places_of(untested: Sequence[str | None]) -> list[int]:
    return [place for place, reason in enumerate(untested) if reason is None]


def _asked(rows: RowsInfo) -> tuple[str, int | None]:
    """Tell rows apart that are no random sample of the same ones."""
    sample = rows.sample
    return rows.sha256, sample.rows if sample is not None and sample.method is SampleMethod.FIRST else None


_NEVER = datetime.max.replace(tzinfo=timezone.utc)


def _check_alike(runs: Sequence[HistoryRun]) -> None:
    if len(runs) < 2:
        raise UsageError("a history needs two runs or more")
    for what, flag, named in (
        ("models", "--model", Counter(run.model for run in runs)),
        ("subsets", "--subset", Counter(run.subset for run in runs if run.subset)),
    ):
        if len(named) > 1:
            found = ", ".join(f"{name} ({plural(count, 'run')})" for name, count in named.most_common(5))
            raise UsageError(
                f"the runs are of several {what}: {found}; a history is of one vendor over the same rows: "
                f"choose with {flag}, or use 'k2-verifier compare'"
            )


def _check_apart(ordered: Sequence[HistoryRun]) -> None:
    """Refuse a run that is given twice, as itself and as its report: it would count twice."""
    for earlier, later in pairwise(ordered):
        if earlier.moment is not None and (earlier.moment, earlier.sums) == (later.moment, later.sums):
            raise UsageError(
                f"{earlier.source} and {later.source} are one run: both began at {later.started_at}, with "
                "the same outcome; give each run once"
            )


def _same_cases(runs: Sequence[Mapping[int, CaseCounts]]) -> list[dict[Hashable, CaseCounts]]:
    """Name the answered cases so that only the same case has the same name, whatever rows a run had."""
    contents: dict[int, set[int | None]] = {}
    decisions: dict[Hashable, bool] = {}
    for run in runs:
        for data_index, counts in run.items():
            contents.setdefault(data_index, set()).add(counts.content)
    named: list[dict[Hashable, CaseCounts]] = []
    for run in runs:
        answered: dict[Hashable, CaseCounts] = {}
        for data_index, counts in run.items():
            several = contents[data_index] - {None}
            # Of several requests by one number, an answer that does not tell its own belongs to none.
            if counts.answers and not (counts.content is None and len(several) > 1):
                case = data_index, counts.content if counts.content is not None else next(iter(several), None)
                answered[case] = counts
                if decisions.setdefault(case, counts.should_call) is not counts.should_call:
                    raise DataError(
                        f"the official decision differs between the runs in data_index {data_index}: they "
                        "were held against different official runs; export them, and give the results files "
                        "with one --baseline"
                    )
        named.append(answered)
    return named


def _paired(
    later: int, known: Sequence[Mapping[Hashable, CaseCounts]], runs: Sequence[HistoryRun]
) -> Neighbours:
    """Hold a run against the one before, case by case."""
    ours, theirs = known[later], known[later - 1]
    common = [case for case in ours if case in theirs]
    decisions: Counter[Decisions] = Counter()
    validity: Counter[Validity] = Counter()
    for one, other in ((ours[case], theirs[case]) for case in common):
        decisions[Decisions(one.should_call, one.calls / one.answers, other.calls / other.answers)] += 1
        if one.calls and other.calls:
            validity[Validity(one.valid / one.calls, other.valid / other.calls)] += 1
    return Neighbours(
        later=later,
        cases=len(common),
        similarity=f1_difference(decisions),
        agreement=agreement_of(decisions),
        accuracy=validity_difference(validity),
        setup=_differing(runs, later - 1, later),
    )


def _unpaired(later: int, runs: Sequence[HistoryRun]) -> Neighbours:
    """Hold the metrics of a run against those of the one before, each with its own interval."""
    ours, theirs = runs[later].metrics, runs[later - 1].metrics
    similarity, accuracy = (
        unpaired_difference(ours.get(name), theirs.get(name)) for name in (PRIMARY_METRIC, ACCURACY)
    )
    return Neighbours(later, None, similarity, None, accuracy, _differing(runs, later - 1, later))


def unpaired_difference(first: Metric | None, second: Metric | None) -> Difference | None:
    """Compare a metric of two runs that are not known case by case, from the interval of either.

    The bounds are as far from the difference as those of the two together (MOVER, Zou and Donner 2008). None
    where either is undefined.
    """
    if first is None or second is None or first.value is None or second.value is None:
        return None
    if first.interval is None or second.interval is None:
        return None
    value = first.value - second.value
    down = hypot(first.value - first.interval.low, second.interval.high - second.value)
    up = hypot(first.interval.high - first.value, second.value - second.interval.low)
    towards_0 = down if value > 0 else up
    return Difference(
        first=first.value,
        second=second.value,
        low=max(-1.0, value - down),
        high=min(1.0, value + up),
        p_value=erfc(abs(value) / towards_0 * Z / sqrt(2)) if towards_0 else float(value == 0),
        n=min(first.n, second.n),
        method=UNPAIRED,
    )


def _changes(
    measure: Measure, runs: Sequence[HistoryRun], tested: Sequence[int], series: Series, *, paired: bool
) -> Iterator[Change]:
    """Look for changes of one measure in the runs that are tested."""
    points = find_changes([series[place] for place in tested], ERROR / len(Measure))
    for number, point in enumerate(points):
        until = points[number + 1].since if number + 1 < len(points) else len(tested)
        before = _summed(series[place] for place in tested[point.before_from : point.since])
        after = _summed(series[place] for place in tested[point.since : until])
        difference = _of_cases(after, before) if paired else _of_sums(after, before)
        assert difference is not None, "a case that changed was answered before and after"
        (last, since), earliest, latest = (
            (tested[place - 1], tested[place]) for place in (point.since, point.earliest, point.latest)
        )
        yield Change(
            measure=measure,
            more=point.more,
            before=last,
            since=since,
            earliest=earliest,
            latest=latest,
            seen_at=tested[point.seen_at],
            p=point.p,
            level=point.level,
            difference=difference,
            setup=_differing(runs, earliest[0], latest[1]),
        )


_Totals = Mapping[Hashable, tuple[int, int]]


def _summed(runs: Iterable[_Totals]) -> _Totals:
    """Add up what several runs made of each case."""
    total: dict[Hashable, tuple[int, int]] = {}
    for run in runs:
        for case, (yes, answers) in run.items():
            so_far = total.get(case, (0, 0))
            total[case] = so_far[0] + yes, so_far[1] + answers
    return {case: counts for case, counts in total.items() if counts[1]}


def _of_cases(after: _Totals, before: _Totals) -> Difference | None:
    """Compare the mean share of a yes over the cases of both sides."""
    shares = (
        Validity(after[case][0] / after[case][1], before[case][0] / before[case][1])
        for case in after
        if case in before
    )
    return validity_difference(Counter(shares))


def _of_sums(after: _Totals, before: _Totals) -> Difference | None:
    """Compare the shares of a yes among all answers of either side."""
    rates = []
    for totals in (after, before):
        yes, answers = (sum(column) for column in zip(*totals.values(), strict=True))
        rates.append(Metric("", yes / answers, answers, wilson(yes, answers)))
    return unpaired_difference(*rates)


def _differing(runs: Sequence[HistoryRun], earlier: int, later: int) -> list[SetupDifference]:
    return differing_setups([runs[earlier].setup, runs[later].setup])


def _warnings(
    runs: Sequence[HistoryRun],
    neighbours: Sequence[Neighbours],
    untested: Sequence[str | None],
) -> list[str]:
    shared, own = shared_and_own([run.warnings for run in runs], named=lambda place: f"Run {place + 1}")
    warnings = []
    if undated := [place for place, run in enumerate(runs) if run.moment is None]:
        warnings.append(
            f"{_runs(undated)} not say when it began, so the order is the one given, not that of time."
        )
    if sums := [place for place, run in enumerate(runs) if run.cases is None]:
        warnings.append(
            f"{_runs(sums)} not tell case by case (a report): only sums are compared, which sees a change "
            "later; give the run directories."
        )
    for place, (run, reason) in enumerate(zip(runs, untested, strict=True)):
        if reason is not None:
            warnings.append(f"Run {place + 1} is no part of the search for changes: {reason}.")
        elif not run.complete:
            warnings.append(f"Run {place + 1} did not come to its end; what it answered counts.")
    apart = [pair.later + 1 for pair in neighbours if pair.cases == 0]
    warnings += [f"Runs {later - 1} and {later} have no answered case in common." for later in apart]
    return [*shared, *warnings, *own]


_LISTED = 8


def _runs(places: Sequence[int]) -> str:
    listed = ", ".join(str(place + 1) for place in places[:_LISTED])
    more = f" and {len(places) - _LISTED} more" if len(places) > _LISTED else ""
    return f"Run {listed} does" if len(places) == 1 else f"Runs {listed}{more} do"
