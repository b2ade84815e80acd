"""Evidence to hand over: a run as a bundle, and what a bundle is worth, alone and beside runs."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from k2_verifier_adapter.core.cases import Case, RowError, decode_row
from k2_verifier_adapter.core.comparison.compare import Participant
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.json_text import dumps_ascii, json_object, shown, text, whole
from k2_verifier_adapter.core.judged import Item
from k2_verifier_adapter.core.presets import preset_for
from k2_verifier_adapter.core.printable import plural
from k2_verifier_adapter.core.redaction import redact_finish_reason, redact_parameters, redact_summary
from k2_verifier_adapter.core.requests import build_request, row_sha256
from k2_verifier_adapter.core.run_facts import RunFacts, dump_facts, facts_from_json
from k2_verifier_adapter.core.secrets import MASK
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.core.verdict import NO_GATE
from k2_verifier_adapter.errors import DataError, UsageError
from k2_verifier_adapter.formats.bundles import SUFFIX, pack_bundle, unpack_bundle
from k2_verifier_adapter.formats.files import read_small
from k2_verifier_adapter.formats.lines import json_objects, open_lines
from k2_verifier_adapter.formats.rows import load_cases
from k2_verifier_adapter.formats.runs import StoredRun, case_as_json, read_cases, write_cases
from k2_verifier_adapter.formats.upstream import data_index_of
from k2_verifier_adapter.offline.export import SUCCESS, write_results
from k2_verifier_adapter.offline.official import OfficialAnswers, official_of_cases
from k2_verifier_adapter.offline.participants import participant_of_results, participants_of_run
from k2_verifier_adapter.offline.stored import summary_of
from k2_verifier_adapter.reports.bundle_document import Recount
from k2_verifier_adapter.reports.json_report import dump_report

RUN, CASES, RESULTS, DIGESTS, REPORT = NAMES = (
    "run.json",
    "cases.jsonl.gz",
    "results.jsonl.gz",
    "digests.jsonl.gz",
    "report.json",
)
"""What a bundle holds beside its manifest, in this order."""

UNCHECKABLE = (
    "who answered: endpoint, models, times and versions are the sender's word",
    "that rows, answers held against and thresholds are the official ones, but by --rows or --baseline",
)
"""What no bundle shows."""

UNCHECKABLE_REDACTED = (
    "that the calls are valid, and which failures there are: tools and answers are left out",
    "that requests and answers are those of the digests, without the full bundle",
)
"""What a redacted one does not show either."""


def write_bundle(path: Path, run: StoredRun, items: Sequence[Item], *, redact: bool = False) -> str:
    """Pack a run, judged as `items`, without secrets; give the SHA-256 of the manifest.

    A redacted bundle holds no word of prompts, tools and answers, but the digests of all of them.
    """
    rows = replace(run.facts.rows, source=_shared_source(run.facts.rows.source))
    facts = replace(run.facts, rows=rows, gate=NO_GATE)
    summary = summary_of(replace(run, facts=facts), items)
    summary = replace(
        summary, warnings=tuple(line for line in summary.warnings if str(run.paths.run) not in line)
    )
    if redact:
        summary = redact_summary(summary)
        facts = replace(facts, parameters=redact_parameters(facts.parameters))
    with TemporaryDirectory(prefix="k2-verifier-") as name:
        folder = Path(name)
        (folder / RUN).write_text(dump_facts(facts), encoding="utf-8")
        if redact:
            _write_lines(folder / CASES, map(_redacted_case, run.cases.values()))
        else:
            write_cases(folder / CASES, run.cases.values())
        write_results(folder / RESULTS, run, items, redact=redact)
        _write_lines(folder / DIGESTS, _digests(run, items))
        (folder / REPORT).write_text(dump_report(summary), encoding="utf-8")
        about = {
            "redacted": redact,
            "model": facts.model,
            "subset": facts.subset,
            "started_at": facts.started_at,
            "finished_at": facts.finished_at,
            "adapter": facts.adapter,
            "rows": rows.as_json(),
            "requests": {
                "completed": summary.completed,
                "failed": summary.tally.failed,
                "missing": summary.missing,
            },
            "cannot_be_checked": [*(UNCHECKABLE_REDACTED if redact else ()), *UNCHECKABLE],
        }
        return pack_bundle(path, folder, NAMES, about)


def _shared_source(source: str) -> str:
    """Give where rows come from without the folders of the sender's machine."""
    return Path(source).name if Path(source).is_absolute() else source


def _write_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        for value in values:
            file.write(dumps_ascii(value).encode() + b"\n")


def _redacted_case(case: Case) -> dict[str, Any]:
    """Give what may be said of a row without its words."""
    official = case.official
    return {
        "index": case.index,
        "data_index": case.data_index,
        "should_call_tool": official.should_call,
        "official_finish_reason": redact_finish_reason(official.finish_reason),
        "official_calls": None if official.runs is None else list(official.runs),
        "synthetic": case.synthetic,
    }


def _digests(run: StoredRun, items: Iterable[Item]) -> Iterator[dict[str, Any]]:
    """Give the digests of row, request and answer of every line of the results, in their order."""
    records = {(record.case_index, record.repeat): record for record in run.records}
    for item in sorted(items, key=lambda item: (item.case_index, item.repeat)):
        case, record = run.cases[item.case_index], records.get((item.case_index, item.repeat))
        answer = getattr(item, "response", None)
        yield {
            "data_index": case.data_index,
            "row_sha256": row_sha256(case),
            "request_sha256": None if record is None else record.request.sha256,
            "response_sha256": None if answer is None else _sha256(answer.completion),
        }


def _sha256(value: Any) -> str:
    return hashlib.sha256(dumps_ascii(value).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files are what its manifest says.

    Attributes:
        folder: Where its files are, while it is open.
        manifest_sha256: What the sender can be asked to confirm.
        report: Its own report, as JSON.
    """

    path: Path
    folder: Path
    manifest_sha256: str
    redacted: bool
    uncheckable: Sequence[str]
    facts: RunFacts
    report: dict[str, Any]

    @property
    def results(self) -> Path:
        """The answers, one line each."""
        return self.folder / RESULTS

    def official(self) -> OfficialAnswers:
        """Give the official answers of its own rows, once every digest is recomputed.

        Raises:
            DataError: If rows, answers and digests do not belong together.
        """
        cases = read_cases(self.folder / CASES)
        planned = len(cases) * self.facts.repeats
        if planned != self.facts.planned:
            raise DataError(
                f"{self.path}: {CASES} holds the cases of {plural(planned, 'request')}, {RUN} says "
                f"{self.facts.planned:,}"
            )
        for case in cases.values():
            self._check_row(case)
        by_number = {case.data_index: case for case in cases.values()}
        self._check_lines(lambda line, digests: _check_digests(by_number[line["data_index"]], line, digests))
        return official_of_cases(cases.values(), self.facts)

    def _check_row(self, case: Case) -> None:
        try:
            decode_row(case_as_json(case), case.index, HistoryOptions())
        except RowError as error:
            raise DataError(f"{self.path}: {CASES}: data_index {case.data_index}: {error}") from None

    def recount(self, rows: str | None = None, subset: str | None = None) -> Recount:
        """Count the decisions of a redacted bundle again, and hold its report and one's own rows against it.

        `subset` is that of the rows; the bundle's own unless it is given.

        Raises:
            DataError: If its files contradict each other, or its official decisions those of the rows.
        """
        decisions: dict[int, bool] = {}
        with open_lines(self.folder / CASES) as lines:
            for number, value in json_objects(lines):
                found = value if isinstance(value, dict) else {}
                data_index, decision = data_index_of(found), found.get("should_call_tool")
                if data_index is None or not isinstance(decision, bool):
                    raise DataError(f"{self.path}: {CASES}: line {number} is no redacted case")
                decisions[data_index] = decision
        own = {} if rows is None else _own_rows(rows, subset or self.facts.subset)
        counts = dict.fromkeys(("tp", "fp", "fn", "tn", "valid", "failed"), 0)
        seen: set[tuple[int, int]] = set()
        same: set[int] = set()

        def count(line: dict[str, Any], digests: dict[str, Any]) -> None:
            data_index = whole(line["data_index"])
            should_call, place = decisions[data_index], (data_index, whole(line.get("repeat", 0)))
            if place in seen or len(seen) >= self.facts.planned:
                raise ValueError("it is one more than were planned")
            seen.add(place)
            digest, decision = own.get(data_index, ("", should_call))
            if decision is not should_call:
                raise ValueError(f"the official decision is not that of {rows}")
            if digest == digests["row_sha256"]:
                same.add(data_index)
            counts[_outcome(line, should_call)] += 1
            counts["valid"] += line["status"] == SUCCESS and line["tool_calls_valid"] is True

        self._check_lines(count)
        try:
            said = {name: self.report["confusion"][name] for name in ("tp", "fp", "fn", "tn")}
            said["valid"] = self.report["counts"]["count_successful_tool_call"]
            said["failed"] = self.report["requests"]["failed"]
            metrics = {
                name: (item["value"], item["low"], item["high"])
                for name, item in self.report["metrics"].items()
            }
            warnings = [text(line) for line in self.report["warnings"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{self.path}: {REPORT} is no report: {error!r}") from None
        # Of a run that stopped when it was decided, the report is of the cases that decided it.
        if self.facts.stopping is None and said != counts:
            raise DataError(
                f"{self.path}: {REPORT} says {said}, and the lines of {RESULTS} add up to {counts}"
            )
        asked = {data_index for data_index, _ in seen}
        return Recount(
            counts, metrics, warnings, len(decisions), len(asked), None if rows is None else len(same)
        )

    def _check_lines(self, check: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
        """Hold every line of the results against its digests; the two files have the same order."""
        with open_lines(self.folder / RESULTS) as results, open_lines(self.folder / DIGESTS) as digests:
            for line, known in zip_longest(json_objects(results), json_objects(digests)):
                where = f"{self.path}: {RESULTS}: line {(line or known)[0]}"
                if line is None or known is None or line[0] != known[0]:
                    raise DataError(f"{where} has no counterpart: {DIGESTS} holds other lines")
                if isinstance(line[1], ValueError) or isinstance(known[1], ValueError):
                    raise DataError(f"{where} or its digests cannot be read")
                try:
                    same = line[1]["data_index"] == known[1]["data_index"]
                    if same:
                        check(line[1], known[1])
                except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
                    raise DataError(f"{where} does not fit: {error}") from None
                if not same:
                    raise DataError(f"{where} has no counterpart: {DIGESTS} holds other lines")


def _outcome(line: Mapping[str, Any], should_call: bool) -> str:  # noqa: FBT001 - the decision of the row
    if line["status"] != SUCCESS:
        return "failed"
    if line["finish_reason"] == "tool_calls":
        return "tp" if should_call else "fp"
    return "fn" if should_call else "tn"


def _check_digests(case: Case, line: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """See that row, request and answer are those of the digests; a ValueError says which is not."""
    if row_sha256(case) != known["row_sha256"]:
        raise ValueError("row_sha256 is not that of the row")
    if known["request_sha256"] is not None:
        body = line["request"]
        request = build_request(case, text(body["model"]), body)
        is_same = request.identity.sha256 == known["request_sha256"]
        # What was masked, a credential, cannot be hashed again.
        if not is_same and MASK not in dumps_ascii(request.identity.parameters):
            raise ValueError("request_sha256 is not that of the request")
    if known["response_sha256"] is not None and _sha256(line["response"]) != known["response_sha256"]:
        raise ValueError("response_sha256 is not that of the answer")


def _own_rows(rows: str, subset: str) -> dict[int, tuple[str, bool]]:
    """Give digest and official decision of one's own rows, by `data_index`."""
    cases = load_cases(rows, subset, HistoryOptions()).cases
    return {case.data_index: (row_sha256(case), case.official.should_call) for case in cases}


@contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """Verify a bundle, and keep its files as long as it is open.

    Raises:
        DataError: If it is not, byte for byte, what `write_bundle` wrote, or is damaged inside.
    """
    with TemporaryDirectory(prefix="k2-verifier-") as name:
        folder = Path(name)
        manifest, digest = unpack_bundle(path, folder, NAMES)
        try:
            facts = facts_from_json(json.loads(read_small(folder / RUN)))
            report = json_object(json.loads(read_small(folder / REPORT)))
            redacted = manifest["redacted"] is True
            listed = [text(line) for line in manifest["cannot_be_checked"]]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{path}: {RUN} or {REPORT} is not as a run has it: {error!r}") from None
        try:
            yield Bundle(path, folder, digest, redacted, listed, facts, report)
        except DataError as error:
            # The folder is nothing that anybody knows.
            raise DataError(str(error).replace(f"{folder}/", f"{path}: ")) from error


def participant_of_bundle(path: Path, given: OfficialAnswers | None = None) -> Participant:
    """Verify a bundle, and judge its answers against its own rows unless official answers are given.

    Raises:
        DataError: If it was changed, contradicts itself, or is redacted.
    """
    with open_bundle(path) as bundle:
        if bundle.redacted:
            raise DataError(f"{path}: is redacted: it holds no answers that could be judged and compared")
        facts, own = bundle.facts, bundle.official()
        found = participant_of_results(bundle.results, given or own, str(path), facts.subset)
    known = replace(found.summary.facts, started_at=facts.started_at, endpoint_host=facts.endpoint_host)
    return replace(found, label=facts.model, summary=replace(found.summary, facts=known))


def participants_of(
    path: Path, official: Callable[[], OfficialAnswers] | None, subset: str | None = None
) -> list[Participant]:
    """Read what is named: a run directory, a bundle or a results file.

    `official` gives the answers that a results file is held against; a bundle has its own where it is None.

    Raises:
        DataError: If it cannot be read.
        UsageError: If it holds no such subset or several, or is a results file without official answers.
    """
    if not path.is_file():
        return participants_of_run(path, subset)
    if path.suffix == SUFFIX:
        return [participant_of_bundle(path, official and official())]
    if official is None:
        raise UsageError(
            f"{path}: is a results file; give the official answers to hold it against, "
            "by --baseline OFFICIAL.jsonl or by --rows ROWS"
        )
    return [participant_of_results(path, official(), str(path), subset)]


def held_against_its_report(summary: Summary, bundle: Bundle, official: OfficialAnswers) -> Summary:
    """Add to what a bundle is worth, judged again, what a reader must know of it."""
    facts, said = bundle.facts, bundle.report.get("metrics")
    if official.info != facts.rows:
        return summary
    lines = ["Held against the rows and official answers in the bundle, which are the sender's word."]
    usual = preset_for(facts.subset).standard
    if usual is not None and facts.standard is not None and facts.standard.threshold != usual.threshold:
        lines.append(f"The threshold is the sender's own, {facts.standard.threshold}, not {usual.threshold}.")
    known = said if isinstance(said, dict) else {}
    values = {name: item.get("value") for name, item in known.items() if isinstance(item, dict)}
    others = [
        f"{metric.name} {shown(values.get(metric.name), 40)}, not {metric.value}"
        for metric in summary.metrics
        if values.get(metric.name) != metric.value
    ]
    if others:
        lines.append(f"The bundle's report says otherwise than its answers: {'; '.join(others)}.")
    return replace(summary, warnings=(*lines, *summary.warnings))
