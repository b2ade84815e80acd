"""From samples and official runs to the rows of a subset, and the standard that belongs to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from k2_verifier_adapter.core.cases import RowError, decode_row
from k2_verifier_adapter.core.dataset_findings import (
    Finding,
    FindingKind,
    RunUsed,
    SubsetBuild,
    count_by_kind,
)
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.json_text import JsonTextError, dumps_ascii, dumps_strict
from k2_verifier_adapter.core.presets import Standard, preset_for
from k2_verifier_adapter.core.self_agreement import (
    pairwise_agreement,
    self_agreement,
    threshold_for,
)
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.formats.files import atomic_write, check_name
from k2_verifier_adapter.formats.lines import Advance
from k2_verifier_adapter.formats.request_texts import RequestTexts
from k2_verifier_adapter.formats.rows import baseline_path, rows_path
from k2_verifier_adapter.formats.upstream import RESULTS_MEMBERS
from k2_verifier_adapter.offline.official_runs import (
    Attempt,
    OfficialRun,
    Samples,
    Source,
    load_official_run,
    load_samples,
)

SCHEMA_VERSION = 1


def build_subset(
    subset: str,
    output: Path,
    samples: Source | None,
    baselines: Sequence[Source],
    *,
    threshold: float | None = None,
    advance: Advance = lambda _: None,
) -> SubsetBuild:
    """Build the rows of a subset and their baseline file; both are written, or neither.

    The same input gives the same bytes. Nothing is written if no row remains.

    Args:
        subset: Name of the subset.
        output: Directory to write to.
        samples: The prompt set; None takes messages and tools from the baseline's own requests.
        baselines: Official runs. The first gives the answers, the others only measure self-agreement.
        threshold: Threshold of `trigger_similarity`, instead of the one that follows.
        advance: Told how many bytes were read, now and then.

    Raises:
        UsageError: If the name cannot name a file, or two baselines are the same file.
        DataError: If a file cannot be read or written.
    """
    check_name("--subset", subset)
    prompts = None if samples is None else load_samples(samples, advance)
    runs = [load_official_run(source, advance) for source in baselines]
    _refuse_same_runs(runs)
    baseline = runs[0]
    requests = baseline.requests if prompts is None else prompts.requests
    attempts = [_matching(run, requests, compared_with=prompts or baseline) for run in runs]
    findings = [*(prompts.findings if prompts else ()), *baseline.findings]
    findings += _gaps(baseline, prompts)
    decisions = [_decisions(found) for found in attempts]
    rows = list(_rows(attempts[0], requests, baseline, decisions, findings))
    pairs = pairwise_agreement(decisions)
    standard = _standard(subset, baselines, decisions, threshold)
    path = rows_path(output, subset)
    build = SubsetBuild(
        subset=subset,
        rows_path=str(path),
        baseline_path=str(baseline_path(path)),
        rows=len(rows),
        calls=sum(row["should_call_tool"] for row in rows),
        standard=standard,
        runs=[
            RunUsed(run.name, run.sha256, run.completed, run.requested_models, run.served_models)
            for run in runs
        ],
        pairs=pairs,
        findings=findings,
        other_findings=[finding for run in runs[1:] for finding in run.findings],
    )
    if rows:
        _write(build, prompts, rows)
    return build


def _refuse_same_runs(runs: Sequence[OfficialRun]) -> None:
    seen: dict[str, str] = {}
    for run in runs:
        if run.sha256 in seen:
            raise UsageError(
                f"--baseline {run.name} holds the same bytes as {seen[run.sha256]}; self-agreement needs "
                "different runs"
            )
        seen[run.sha256] = run.name


def _matching(
    run: OfficialRun, requests: Mapping[int, RequestTexts], *, compared_with: Samples | OfficialRun
) -> dict[int, Attempt]:
    """Give the answers whose request is the sample's; note the others with the run."""
    found: dict[int, Attempt] = {}
    for data_index, attempt in run.answers.items():
        sample = requests.get(data_index)
        if sample is None:
            if compared_with is not run:
                detail = f"data_index {data_index} has no usable line in {compared_with.name}"
                run.note(FindingKind.NO_SAMPLE, attempt.line, detail=detail)
            else:
                run.note(FindingKind.UNUSABLE, attempt.line, detail="the line holds no request")
            continue
        differing = [] if attempt.request is None else attempt.request.differing(sample)
        if differing:
            detail = f"{' and '.join(differing)} of data_index {data_index}"
            run.note(FindingKind.REQUEST_DIFFERS, attempt.line, detail=detail)
            continue
        found[data_index] = attempt
    return found


def _gaps(baseline: OfficialRun, prompts: Samples | None) -> Iterator[Finding]:
    if prompts is not None:
        for data_index in sorted(prompts.requests.keys() - baseline.seen):
            yield Finding(FindingKind.NO_RESULT, prompts.name, (data_index,))
        return
    missing = max(baseline.seen) - len(baseline.seen)
    if missing:
        edges = [0, *sorted(baseline.seen)]
        gaps = [
            f"{low + 1}" if high - low == 2 else f"{low + 1}-{high - 1}"
            for low, high in pairwise(edges)
            if high - low > 1
        ]
        yield Finding(FindingKind.NUMBERS_MISSING, baseline.name, (), ", ".join(gaps), missing)


def _rows(
    attempts: Mapping[int, Attempt],
    requests: Mapping[int, RequestTexts],
    baseline: OfficialRun,
    decisions: Sequence[Mapping[int, bool]],
    findings: list[Finding],
) -> Iterator[dict[str, Any]]:
    """Yield the rows in the order of `data_index`, each checked as the adapter will check it."""
    for data_index in sorted(attempts):
        attempt, request = attempts[data_index], requests[data_index]
        answer = attempt.answer
        assert answer is not None
        calls = [run[data_index] for run in decisions if data_index in run]
        try:
            row = {
                "messages": request.messages,
                "tools": request.tools,
                "should_call_tool": answer.should_call,
                # "" for none at all: null would say that it is not known.
                "official_finish_reason": answer.finish_reason or "",
                "official_tool_calls": answer.tool_calls_json,
                **({"official_calls": [sum(calls), len(calls)]} if len(decisions) > 1 else {}),
                "parameters": dumps_strict(attempt.parameters),
                "data_index": data_index,
            }
            decode_row(row, data_index - 1, HistoryOptions())
        except (RowError, JsonTextError) as error:
            findings.append(Finding(FindingKind.UNUSABLE, baseline.name, (attempt.line,), str(error)))
        else:
            yield row


def _decisions(attempts: Mapping[int, Attempt]) -> dict[int, bool]:
    return {
        data_index: attempt.answer.should_call
        for data_index, attempt in attempts.items()
        if attempt.answer is not None
    }


def _standard(
    subset: str, baselines: Sequence[Source], runs: Sequence[Mapping[int, bool]], threshold: float | None
) -> Standard:
    """Choose the standard: measured over several runs, upstream's for its own files, else none."""
    published = preset_for(subset).standard
    if len(runs) > 1:
        agreement = self_agreement(runs)
        chosen = None if agreement is None else threshold_for(agreement.mean)
        standard = Standard(chosen, agreement, f"self-agreement of {len(baselines)} official runs")
    elif published is not None and baselines[0].name == RESULTS_MEMBERS.get(subset):
        standard = published
    else:
        standard = Standard(None, None, "one official run: its self-agreement is not known")
    if threshold is None:
        return standard
    return replace(standard, threshold=threshold, source=f"{standard.source}; threshold set when built")


def _write(build: SubsetBuild, prompts: Samples | None, rows: Iterable[Mapping[str, Any]]) -> None:
    digest = hashlib.sha256()
    rows_path, baseline_path = Path(build.rows_path), Path(build.baseline_path)
    with atomic_write(rows_path) as rows_file, atomic_write(baseline_path) as baseline_file:
        for row in rows:
            line = _line(row)
            digest.update(line)
            rows_file.write(line)
        provenance = _provenance(build, prompts, digest.hexdigest())
        baseline_file.write(json.dumps(provenance, indent=2, ensure_ascii=True).encode() + b"\n")


def _line(row: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        # A lone surrogate in a finish_reason.
        return dumps_ascii(row).encode() + b"\n"


def _provenance(build: SubsetBuild, prompts: Samples | None, sha256: str) -> dict[str, Any]:
    left_out = [finding for finding in build.findings if finding.kind.leaves_out]
    noted = [finding for finding in build.findings if not finding.kind.leaves_out]
    rows_file = Path(build.rows_path).name
    return {
        "schema_version": SCHEMA_VERSION,
        "subset": build.subset,
        "rows": {"file": rows_file, "sha256": sha256, "rows": build.rows, "calls": build.calls},
        "standard": build.standard.as_json(),
        "samples": None if prompts is None else {"file": prompts.name, "sha256": prompts.sha256},
        "runs": [
            {
                "file": run.name,
                "sha256": run.sha256,
                "requested_models": dict(sorted(run.requested_models.items())),
                "served_models": dict(sorted(run.served_models.items())),
                "completed": run.completed,
            }
            for run in build.runs
        ],
        "pairs": [
            {
                "runs": [pair.first, pair.second],
                "cases": pair.cases,
                "f1": None if pair.f1 is None else round(pair.f1, 4),
            }
            for pair in build.pairs
        ],
        "left_out": {kind.key: count for kind, count in count_by_kind(left_out).items()},
        "noted": {kind.key: count for kind, count in count_by_kind(noted).items()},
    }
