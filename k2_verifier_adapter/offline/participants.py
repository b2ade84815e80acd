"""From run directories and results files to what is compared."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.comparison.compare import Participant, compare, not_worse
from k2_verifier_adapter.core.comparison.matrix import VendorResult
from k2_verifier_adapter.core.comparison.pairs import CaseOutcome
from k2_verifier_adapter.core.gate import GATE_FAILED, INCONCLUSIVE, PASSED, UNUSABLE, exit_code
from k2_verifier_adapter.core.history import marks_of
from k2_verifier_adapter.core.judged import Item
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.observed import Spent
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.errors import K2VerifierError, UsageError
from k2_verifier_adapter.formats.runs import RunPaths, StoredRun, find_runs, read_run
from k2_verifier_adapter.formats.vendors import Vendor
from k2_verifier_adapter.offline.conformance import holds_probes, read_conformance
from k2_verifier_adapter.offline.official import LoggedCase, OfficialAnswers
from k2_verifier_adapter.offline.scoring import Log, score_log
from k2_verifier_adapter.offline.stored import judge_run, summary_of


def participants_of_run(run: Path, subset: str | None = None) -> list[Participant]:
    """Read every model of a run directory.

    Raises:
        DataError: If the directory holds no run, or a part of it is missing or damaged.
        UsageError: If it holds several subsets, and none of them is chosen.
    """
    found = find_runs(run)
    chosen = [paths for paths in found if subset in (None, paths.subset)]
    if len({paths.subset for paths in chosen}) != 1:
        held = ", ".join(sorted({paths.subset for paths in found}))
        what = "several subsets" if chosen else f"no subset {subset!r}"
        raise UsageError(f"{run}: holds {what}; choose with --subset one of: {held}")
    return [participant_of_run(read_run(paths)) for paths in chosen]


def participant_of_run(run: StoredRun) -> Participant:
    """Judge every response of a stored run again."""
    items = judge_run(run)
    return _participant(run, items, summary_of(run, items=items))


def result_of_vendor(vendor: Vendor, paths: RunPaths, code: int, error: str | None) -> VendorResult:
    """Read what one vendor's run of a matrix left, and say how it ended.

    `code` is the exit code of its process, none of this package's if something else ended it; `error` is the
    error that it told of.
    """
    code = code if code in (PASSED, GATE_FAILED, UNUSABLE) else INCONCLUSIVE
    participant, reason = None, error
    try:
        run = read_run(paths)
        items = judge_run(run)
        summary = held_against(run, items, summary_of(run, items=items))
        decided = exit_code(summary).reason
    except K2VerifierError as unreadable:
        reason = reason or str(unreadable)
    else:
        participant = replace(_participant(run, items, summary), label=vendor.name, prices=vendor.prices)
        reason = reason or decided
    conformance = None
    if holds_probes(paths.run):
        with suppress(K2VerifierError):
            conformance = read_conformance(paths.run)
    return VendorResult(vendor.name, str(paths.run), code, reason, participant, conformance)


def _participant(run: StoredRun, items: Iterable[Item], summary: Summary) -> Participant:
    outcomes: dict[int, CaseOutcome] = {}
    spent = Spent()
    for item in items:
        _add(_outcome(outcomes, run.cases[item.case_index]), item)
        spent.add(item)
    return Participant(run.facts.model, str(run.paths.run), summary, outcomes, spent)


def _outcome(outcomes: dict[int, CaseOutcome], case: Case) -> CaseOutcome:
    """Give the outcome of a case; a new one the first time."""
    if case.data_index not in outcomes:
        content = marks_of({"messages": case.messages(), "tools": case.tools()}).content
        outcomes[case.data_index] = CaseOutcome(case.index, content, case.official.should_call)
    return outcomes[case.data_index]


def held_against(run: StoredRun, items: Iterable[Item], summary: Summary) -> Summary:
    """Add to the summary of a run whether it is not worse than the baseline of its gate, if it has one.

    Of several models in the baseline, the one of the same name counts. `items` is what `judge_run` gave for
    the run.

    Raises:
        DataError: If the baseline is missing or damaged, or the two have no case in common.
        UsageError: If it holds no such subset, or several models and none of this name.
    """
    gate = summary.facts.gate
    if gate.baseline is None:
        return summary
    baseline = Path(gate.baseline)
    found = participants_of_run(baseline, run.paths.subset)
    named = [participant for participant in found if participant.label == run.facts.model]
    if len(found) > 1 and len(named) != 1:
        models = ", ".join(participant.label for participant in found)
        raise UsageError(f"{baseline}: holds several models ({models}), none of them {run.facts.model!r}")
    chosen = named[0] if named else found[0]
    own = _participant(run, items, summary)
    return replace(summary, baseline=not_worse(compare([own, chosen]), gate.margin))


def participant_of_results(
    path: Path, official: OfficialAnswers, source: str, subset: str | None = None
) -> Participant:
    """Judge every line of a results file.

    Raises:
        DataError: If it cannot be read, or no line could be scored.
        UsageError: If an archive is given without the subset.
    """
    outcomes: dict[int, CaseOutcome] = {}
    spent = Spent()

    def note(case: LoggedCase, item: Item) -> None:
        if case.data_index not in outcomes:
            marks = case.held_against.marks
            content = None if marks is None else marks.content
            outcomes[case.data_index] = CaseOutcome(case.index, content, case.official.should_call)
        _add(outcomes[case.data_index], item)
        spent.add(item)

    summary, _ = score_log(Log([path], subset), official, on_case=note)
    return Participant(summary.facts.model, source, summary, outcomes, spent)


def _add(outcome: CaseOutcome, item: Item) -> None:
    if isinstance(item, FailedRequest):
        outcome.failed.append(item)
    else:
        outcome.answers.append(item.judgement)
