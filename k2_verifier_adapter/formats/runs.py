"""EvalScope runs of this benchmark: what is kept beside EvalScope's own files, and reading it all.

RUN/predictions/MODEL/k2_verifier_SUBSET.jsonl   EvalScope's predictions, with the raw responses
RUN/k2_verifier/MODEL/SUBSET/run.json            what is known of the run (RunFacts)
RUN/k2_verifier/MODEL/SUBSET/cases.jsonl.gz      the evaluated cases, as they were sent
RUN/k2_verifier/MODEL/SUBSET/failures.jsonl      the failed requests of the last session
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from k2_verifier_adapter.core.cases import Case, OfficialAnswer
from k2_verifier_adapter.core.history import Repairs
from k2_verifier_adapter.core.json_text import json_object, text, text_or_none, whole
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.records import METADATA_KEY, ResponseRecord, failed_request_from_json
from k2_verifier_adapter.core.run_facts import RunFacts, dump_facts, facts_from_json
from k2_verifier_adapter.errors import DataError, UsageError
from k2_verifier_adapter.formats.files import atomic_write, check_kept, check_name, read_small, regular_files
from k2_verifier_adapter.formats.lines import json_lines, open_lines
from k2_verifier_adapter.version import BENCHMARK


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Where one model's answers to one subset are kept inside a run.

    Names that would lead out of it are a `UsageError`; a model id may hold slashes, and then has a folder for
    each part.
    """

    run: Path
    model: str
    subset: str
    benchmark: str = BENCHMARK

    def __post_init__(self) -> None:
        check_name("subset", self.subset)
        for part in self.model.split("/"):
            check_name("model_id" if part == self.model else f"a part of model_id {self.model!r}", part)

    @property
    def folder(self) -> Path:
        """What is kept beside EvalScope's own files."""
        return self.run / self.benchmark / self.model / self.subset

    @property
    def facts(self) -> Path:
        """What is known of the run."""
        return self.folder / "run.json"

    @property
    def cases(self) -> Path:
        """The evaluated cases."""
        return self.folder / "cases.jsonl.gz"

    @property
    def probes(self) -> Path:
        """The probes of a suite, beside its cases."""
        return self.folder / "probes.jsonl"

    @property
    def failures(self) -> Path:
        """The failed requests of the last session."""
        return self.folder / "failures.jsonl"

    @property
    def reports(self) -> Path:
        """The folder of this package's own reports, inside of the one that EvalScope has for the model."""
        return self.run / "reports" / self.model / self.benchmark

    @property
    def predictions(self) -> Path:
        """EvalScope's predictions."""
        return self.run / "predictions" / self.model / f"{self.benchmark}_{self.subset}.jsonl"


@dataclass(frozen=True, slots=True)
class StoredRun:
    """One model's answers to one subset, read back.

    Attributes:
        cases: The evaluated cases by 0-based row number.
        records: The stored responses, one for each case and repeat, in row order.
        failed: The failed requests that no later response replaced, in row order.
        damaged_lines: Lines of the predictions that could not be read: half-written ones.
    """

    paths: RunPaths
    facts: RunFacts
    cases: dict[int, Case]
    records: list[ResponseRecord]
    failed: list[FailedRequest]
    damaged_lines: int


def write_facts(paths: RunPaths, facts: RunFacts) -> None:
    """Write `run.json`, whole or not at all."""
    with atomic_write(paths.facts) as file:
        file.write(dump_facts(facts).encode())


def read_facts(paths: RunPaths) -> RunFacts | None:
    """Read `run.json`, or raise `DataError` if it is damaged; None if there is none."""
    try:
        return facts_from_json(json.loads(read_small(paths.facts)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{paths.facts}: cannot be read: {error!r}") from None


def find_runs(run: Path, benchmark: str = BENCHMARK) -> list[RunPaths]:
    """List what a run directory holds, by model and subset; a `DataError` says that it is no run."""
    run = Path(run)
    if not run.is_dir():
        raise DataError(f"{run}: no such directory; give the run directory that EvalScope printed")
    folder = run / benchmark
    found = sorted(
        path for path in _files_of(run, benchmark) if path.name == "run.json" and folder in path.parents
    )
    if not found:
        # With time stamps, the work directory holds one directory a run.
        inside = sorted({path.parents[3] for path in run.glob(f"*/{benchmark}/*/*/run.json")})
        hint = f"; did you mean {inside[-1]}?" if inside else ""
        raise DataError(f"{run}: holds no run of this benchmark (no {benchmark}/MODEL/SUBSET/run.json){hint}")
    return [
        RunPaths(run, path.parents[1].relative_to(folder).as_posix(), path.parent.name, benchmark)
        for path in found
    ]


def _files_of(run: Path, benchmark: str) -> Iterator[Path]:
    """List what is read of a run, or raise `DataError` if anything in there is no regular file."""
    for folder in (run / benchmark, run / "predictions"):
        if folder.is_symlink():
            raise DataError(f"{folder}: is a link, which a run does not hold; remove it")
        if folder.is_dir():
            yield from regular_files(folder)


def choose_run(run: Path, model: str | None = None, subset: str | None = None) -> RunPaths:
    """Choose one model and subset of a run directory, or raise `UsageError` if none or several fit."""
    found = find_runs(run)
    fitting = [paths for paths in found if model in (None, paths.model) and subset in (None, paths.subset)]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(f"--model {paths.model} --subset {paths.subset}" for paths in found)
    what = "several models or subsets" if fitting else "no such model and subset"
    raise UsageError(f"{run}: holds {what}; choose one of: {listed}")


def read_run(paths: RunPaths) -> StoredRun:
    """Read everything that is stored of one model and subset, or raise `DataError`."""
    facts = read_facts(paths)
    if facts is None:
        raise DataError(f"{paths.facts}: not found; the run directory is not complete")
    cases = read_cases(paths.cases)
    records, damaged = read_predictions(paths.predictions)
    responses = {
        (record.case_index, record.repeat): record
        for record in records
        # A smaller rerun leaves earlier answers in the file; they are not part of this run.
        if record.case_index in cases and record.repeat < facts.repeats
    }
    failed = {
        (request.case_index, request.repeat): request
        for request in read_failures(paths)
        if (request.case_index, request.repeat) not in responses
    }
    return StoredRun(
        paths=paths,
        facts=facts,
        cases=cases,
        records=[responses[key] for key in sorted(responses)],
        failed=[failed[key] for key in sorted(failed)],
        damaged_lines=damaged,
    )


def case_as_json(case: Case) -> dict[str, Any]:
    """Give the stored form: the columns of the hosted format, plus position and repairs."""
    return {
        "index": case.index,
        "data_index": case.data_index,
        "messages": case.messages_json.decode(),
        "tools": None if case.tools_json is None else case.tools_json.decode(),
        "should_call_tool": case.official.should_call,
        "official_finish_reason": case.official.finish_reason,
        "official_tool_calls": case.official.tool_calls_json,
        **({} if case.official.runs is None else {"official_calls": list(case.official.runs)}),
        "parameters": dict(case.parameters),
        "synthetic": case.synthetic,
        "repairs": asdict(case.repairs),
    }


def case_from_json(value: Mapping[str, Any]) -> Case:
    """Read the stored form back; a KeyError, TypeError or ValueError says that it is not one."""
    tools, index = text_or_none(value["tools"]), whole(value["index"])
    runs = value.get("official_calls")
    return Case(
        index=index,
        data_index=whole(value.get("data_index", index + 1)),
        messages_json=text(value["messages"]).encode(),
        tools_json=None if tools is None else tools.encode(),
        official=OfficialAnswer(
            bool(value["should_call_tool"]),
            text_or_none(value["official_finish_reason"]),
            text_or_none(value["official_tool_calls"]),
            None if runs is None else (whole(runs[0]), whole(runs[1])),
        ),
        parameters=json_object(value["parameters"]),
        repairs=Repairs(**{name: whole(count) for name, count in value["repairs"].items()}),
        synthetic=bool(value["synthetic"]),
    )


def write_cases(path: Path, cases: Iterable[Case]) -> None:
    """Write cases; the same cases give the same bytes."""
    with atomic_write(path) as raw, gzip.GzipFile("", "wb", 1, raw, mtime=0) as file:
        for case in cases:
            text = json.dumps(case_as_json(case), ensure_ascii=False)
            # An official answer may hold a lone surrogate; `json.loads` reads this form back.
            file.write(text.encode("utf-8", "surrogatepass") + b"\n")


def read_cases(path: Path) -> dict[int, Case]:
    """Read cases, by 0-based row number; a file that is missing or damaged raises `DataError`."""
    if not path.exists():
        raise DataError(f"{path}: not found; the run directory is not complete")
    cases: dict[int, Case] = {}
    size = 0
    try:
        with open_lines(path) as lines:
            for _, value in json_lines(lines):
                case = case_from_json(value)
                cases[case.index] = case
                size += case.size
                check_kept(size)
    except (DataError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged after {len(cases)} cases: {error}") from None
    if not cases and path.stat().st_size == 0:
        # `gzip` reads an empty file as one without lines.
        raise DataError(f"{path}: damaged after 0 cases: the file is empty")
    return cases


def read_predictions(path: Path) -> tuple[list[ResponseRecord], int]:
    """Read the records of a predictions file; also count the lines that hold none."""
    found = [record_of_prediction(value) for value in _values(path)]
    records = [record for record in found if record is not None]
    return records, len(found) - len(records)


def read_failures(paths: RunPaths) -> list[FailedRequest]:
    """Read the failed requests of the last session."""
    found = map(failed_request_from_json, _values(paths.failures))
    return [request for request in found if request is not None]


def _values(path: Path) -> Iterator[Any]:
    """Give what the lines of a file hold, which need not be there: a value, or a ValueError."""
    if path.exists():
        with open_lines(path) as lines:
            yield from (value for _, value in json_lines(lines))


def record_of_prediction(value: Any) -> ResponseRecord | None:
    """Take this benchmark's record out of one of EvalScope's predictions; None if it has none."""
    output = value.get("model_output") if isinstance(value, dict) else None
    metadata = output.get("metadata") if isinstance(output, dict) else None
    return ResponseRecord.from_json(metadata.get(METADATA_KEY)) if isinstance(metadata, dict) else None
