"""The files of one subset of a run: EvalScope's, what is kept beside them, and this package's reports."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from evalscope.api.metric import SampleScore
from evalscope.config import TaskConfig
from evalscope.utils.io_utils import OutputsStructure
from evalscope.utils.logger import get_logger
from filelock import FileLock, Timeout

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.judged import Item, JudgedResponse
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.printable import plural
from k2_verifier_adapter.core.records import METADATA_KEY, ResponseRecord, failed_request_as_json
from k2_verifier_adapter.core.run_facts import RunFacts
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.errors import DataError, K2VerifierError, StorageError, UsageError
from k2_verifier_adapter.evalscope_plugin.reviews import review
from k2_verifier_adapter.formats.files import (
    LineWriter,
    atomic_write,
    end_last_line,
    regular_files,
    remove_leftovers,
    storing,
)
from k2_verifier_adapter.formats.runs import (
    RunPaths,
    read_facts,
    read_predictions,
    read_run,
    write_cases,
    write_facts,
)
from k2_verifier_adapter.offline.failed_cases import failed_cases_of_items
from k2_verifier_adapter.offline.participants import held_against
from k2_verifier_adapter.offline.stored import with_its_end
from k2_verifier_adapter.reports.formats import FORMATS, Report, RunReport
from k2_verifier_adapter.reports.wording import verdict_line
from k2_verifier_adapter.version import BENCHMARKS

logger = get_logger()


def begun(run: Path) -> bool:
    """Whether a session got as far as to this package."""
    return any((run / benchmark).is_dir() for benchmark in BENCHMARKS)


def nothing_to_resume(run: Path, subsets: Sequence[RunPaths]) -> bool:
    """Whether a session that is to be resumed died before EvalScope had noted its settings.

    EvalScope 1.14.1 resumes nothing without them. No answer is stored then, so a new run is the same. Where
    no session began at all, the path is likely misspelled: `UsageError`.
    """
    if (run / OutputsStructure.CONFIGS_DIR / "task_config.yaml").exists():
        return False
    if not begun(run):
        raise UsageError(
            f"--use-cache {run}: no run of {subsets[0].benchmark} was begun there; correct the path, or "
            "start one with --work-dir"
        )
    return not any(paths.predictions.exists() for paths in subsets)


def check_regular(run: Path) -> None:
    """Raise `DataError` if a run directory, which somebody else may have filled, leads out of itself."""
    if run.is_dir():
        for _ in regular_files(run):
            pass


@contextlib.contextmanager
def writing_alone(subsets: Iterable[RunPaths]) -> Iterator[None]:
    """Keep every other process from writing the same files; a `UsageError` if one does."""
    with contextlib.ExitStack() as locks:
        for paths in subsets:
            locks.callback(_lock(paths).release)
        yield


def _lock(paths: RunPaths) -> FileLock:
    lock = FileLock(paths.folder / ".lock", timeout=0)
    try:
        paths.folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"{paths.run}: another run is writing here; wait for it, or give another --work-dir"
        ) from None
    except OSError as error:
        raise explain(StorageError(paths.folder, error), paths.run, ()) from error
    return lock


class SubsetFiles:
    """Write predictions and failures as they come, reviews and facts when all is done.

    Predictions are what was paid for: every line is on disk before its score exists. Reviews are
    derived from them, so they are written as a whole, or not at all. Whenever the process ends, what
    is there makes a run that can be reported on and gone on with. What cannot be written raises a
    `StorageError`.

    Attributes:
        unsaved: Answers that came and could not be written.
    """

    def __init__(
        self,
        paths: RunPaths,
        reviews: str,
        facts: RunFacts,
        cases: list[Case],
        *,
        resume: bool,
        failed_before: Iterable[FailedRequest] = (),
    ) -> None:
        """Begin a session: note what is to be done.

        Everything is opened before anything is sent. In between, the files of the earlier session are
        taken for an unfinished run, never for a part of this one. Without `resume`, earlier predictions do
        not belong to this run, and are put aside. `reviews` is the path of EvalScope's review file. A request
        that failed in an earlier session counts as failed until this one has asked for it again.
        """
        self.paths, self.facts, self.cases = paths, facts, cases
        self.unsaved = 0
        self._reviews_path = Path(reviews)
        self._reviews: list[tuple[SampleScore, Callable[[], Mapping[str, Any]]]] = []
        self._judged: list[JudgedResponse] = []
        self._failed: list[FailedRequest] = []
        self._failed_before = {(item.case_index, item.repeat): item for item in failed_before}
        for path in (paths.facts, paths.cases, self._reviews_path):
            remove_leftovers(path)
        _mark_unfinished(paths)
        if resume:
            end_last_line(paths.predictions)
        elif paths.predictions.exists():
            _put_aside(paths.predictions)
        with contextlib.ExitStack() as opened:
            self._failures = LineWriter(paths.failures, new=True)
            opened.callback(self._failures.close)
            self._predictions = LineWriter(paths.predictions)
            opened.callback(self._predictions.close)
            for item in self._failed_before.values():
                self._failures.write(failed_request_as_json(item))
            write_cases(paths.cases, cases)
            write_facts(paths, facts)
            self.close = opened.pop_all().close

    def save_prediction(self, sample_id: int, model: str, record: ResponseRecord) -> None:
        """Append one answer in EvalScope's format, the raw response in its metadata."""
        output = {"model": model, "choices": [], "metadata": {METADATA_KEY: record.as_json()}}
        prediction = {
            "index": sample_id,
            "model": model,
            "model_output": output,
            "messages": [],
            "agent_trace": None,
            "metadata": {},
        }
        try:
            self._predictions.write(prediction)
        except StorageError:
            self.unsaved += 1
            raise

    def save_failure(self, failed: FailedRequest) -> None:
        """Append one failed request."""
        self._failures.write(failed_request_as_json(failed))
        self._failed.append(failed)
        self._failed_before.pop((failed.case_index, failed.repeat), None)

    def keep_judged(self, judged: JudgedResponse, score: SampleScore, case: Case) -> None:
        """Keep a judged response, and what the review file will say of it."""
        self._judged.append(judged)
        self._reviews.append((score, partial(review, score, case, judged.response)))
        self._failed_before.pop((judged.case_index, judged.repeat), None)

    @property
    def scores(self) -> list[SampleScore]:
        """EvalScope's scores of the judged responses."""
        return [score for score, _ in self._reviews]

    @property
    def items(self) -> list[Item]:
        """What became of the requests: the judged responses and the failed requests, as they came."""
        return [*self._judged, *self._failed, *self._failed_before.values()]

    @property
    def whole(self) -> bool:
        """Whether every request of the run was answered or failed, in this session or an earlier one."""
        return len(self.items) >= self.facts.planned

    def finish(self, facts: RunFacts) -> None:
        """Write the reviews in sample order, and the final facts."""
        # A run that says it is complete has its answers on the device, even if the power fails now.
        self._predictions.sync()
        with atomic_write(self._reviews_path) as file:
            for _, line in sorted(self._reviews, key=lambda review: int(review[0].sample_id)):
                file.write(json.dumps(line(), ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        write_facts(self.paths, facts)
        self.facts = facts


def write_reports(files: SubsetFiles, summary: Summary) -> str:
    """Write every format of a subset's report; give the verdict in one line.

    The JSON file stands where EvalScope looks for reports of its own; it has none of their keys, and is
    passed over.
    """
    paths = files.paths
    summary = with_its_end(summary, paths.run)
    if summary.facts.gate.baseline is not None:
        summary = held_against(read_run(paths), files.items, summary)
    cases = {case.index: case for case in files.cases}
    page = write_every_format(
        RunReport(summary, failed_cases_of_items(files.items, cases)), paths.reports, paths.subset
    )
    return f"{verdict_line(summary)}; {page}"


def write_every_format(report: Report, folder: Path, name: str) -> Path:
    """Write a report in every format that it has; give the path of the page."""
    for form in FORMATS:
        if not form.fits(report):
            continue
        try:
            text = form.render(report)
        except Exception:
            # The answers are stored, and EvalScope's own reports are still to come.
            logger.exception(f"{name}: the {form.name} report could not be written")
            continue
        path = folder / f"{name}.{form.ending}"
        remove_leftovers(path)
        with atomic_write(path) as file:
            file.write(text.encode("utf-8", "backslashreplace"))
    return folder / f"{name}.html"


def explain(error: StorageError, run: Path, opened: Iterable[SubsetFiles]) -> StorageError:
    """Say what a storage error means for a run: what is stored, what is lost, and how to go on.

    Nothing is sent before the files of all subsets are opened.
    """
    files = list(opened)
    if not files:
        return StorageError(error.path, error.cause, "nothing was sent", _remedy(error))
    kept = f"{plural(sum(_answers_in(subset.paths) for subset in files), 'answer')} stored"
    lost = sum(subset.unsaved for subset in files)
    if lost:
        kept += f", {lost} came and could not be stored, the requests in flight were given up"
    return StorageError(error.path, error.cause, kept, f"{_remedy(error)}, then go on with --use-cache {run}")


@contextlib.contextmanager
def storage_errors_told(task: TaskConfig) -> Iterator[None]:
    """Raise a `StorageError` also where it is EvalScope's own files that cannot be written."""
    # A log file on a full disk would bring a traceback for every line of the log.
    logging_raises, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        yield
    except OSError as error:
        # EvalScope 1.14.1 writes its progress file while an error passes, and raises another in its place.
        hidden = error.__context__
        while hidden is not None and not isinstance(hidden, (K2VerifierError, KeyboardInterrupt)):
            hidden = hidden.__context__
        if hidden is not None:
            raise hidden from None
        refused = StorageError.of(error, task.work_dir)
        if refused is None:
            raise
        again = f"then go on with --use-cache {task.work_dir}"
        raise StorageError(refused.path, error, f"{_remedy(refused)}, {again}") from error
    finally:
        logging.raiseExceptions = logging_raises


def _remedy(error: StorageError) -> str:
    return "free space" if error.full else "make it writable, or give another --work-dir"


def _answers_in(paths: RunPaths) -> int:
    try:
        records, _ = read_predictions(paths.predictions)
    except DataError:
        return 0
    return len({(record.case_index, record.repeat) for record in records})


def _mark_unfinished(paths: RunPaths) -> None:
    """Take back what an earlier session said of its completeness, for its files are about to change."""
    try:
        earlier = read_facts(paths)
    except DataError:
        return  # It says nothing, and is about to be replaced.
    if earlier is not None and earlier.complete:
        write_facts(paths, replace(earlier, complete=False))


def _put_aside(predictions: Path) -> None:
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S%f")
    aside = predictions.with_name(f"{predictions.name}.{stamp}.earlier")
    with storing(predictions):
        predictions.rename(aside)
    logger.warning(f"{predictions} held an earlier run's answers, which are kept as {aside.name}")
