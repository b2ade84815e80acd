"""The files of one subset of a run: EvalScope's, and what is kept beside them."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from evalscope.api.metric import SampleScore
from evalscope.utils.io_utils import JsonlWriter
from evalscope.utils.logger import get_logger
from filelock import FileLock, Timeout

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.counts import FailedRequest
from k2_verifier_adapter.core.records import METADATA_KEY, ResponseRecord, failed_request_as_json
from k2_verifier_adapter.core.responses import Response
from k2_verifier_adapter.core.run_facts import RunFacts
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.evalscope_plugin.display import display_answer, display_messages
from k2_verifier_adapter.formats.cases import write_cases
from k2_verifier_adapter.formats.files import atomic_write
from k2_verifier_adapter.formats.runs import RunPaths, write_facts

logger = get_logger()


class SubsetFiles:
    """Write predictions and failures as they come, reviews and facts when all is done.

    Predictions are what was paid for: every line is on disk before its score exists. Reviews are
    derived from them, so they are written as a whole, or not at all.
    """

    def __init__(self, paths: RunPaths, reviews: str) -> None:
        """Name the files.

        Args:
            paths: Where this model's answers to this subset are kept.
            reviews: Path of EvalScope's review file.
        """
        self._paths = paths
        self._reviews_path = Path(reviews)
        self._predictions = JsonlWriter(str(paths.predictions))
        self._failures = JsonlWriter(str(paths.failures))
        self._reviews: list[tuple[SampleScore, Case, Response]] = []
        self._lock = FileLock(paths.folder / ".lock", timeout=0)
        self.cases: list[Case] = []

    def open(self, facts: RunFacts, cases: list[Case], *, resume: bool) -> None:
        """Begin a session: note what is to be done, forget the failures of an earlier session.

        Args:
            facts: What is known of the run.
            cases: The cases to evaluate.
            resume: Whether earlier predictions belong to this run; if not, they are put aside.

        Raises:
            UsageError: If another process is writing the same files.
        """
        self._paths.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise UsageError(
                f"{self._paths.run}: another run is writing here; wait for it, or give another --work-dir"
            ) from None
        self.cases = cases
        predictions = self._paths.predictions
        predictions.parent.mkdir(parents=True, exist_ok=True)
        if resume:
            _end_last_line(predictions)
        elif predictions.exists():
            stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S%f")
            aside = predictions.with_name(f"{predictions.name}.{stamp}.earlier")
            predictions.rename(aside)
            logger.warning(f"{predictions} held an earlier run's answers, which are kept as {aside.name}")
        write_cases(self._paths.cases, cases)
        write_facts(self._paths, facts)
        self._paths.failures.write_bytes(b"")

    def save_prediction(self, sample_id: int, model: str, record: ResponseRecord) -> None:
        """Append one answer in EvalScope's format, the raw response in its metadata."""
        output = {"model": model, "choices": [], "metadata": {METADATA_KEY: record.as_json()}}
        self._predictions.write(
            {
                "index": sample_id,
                "model": model,
                "model_output": output,
                "messages": [],
                "agent_trace": None,
                "metadata": {},
            }
        )

    def save_failure(self, failed: FailedRequest) -> None:
        """Append one failed request."""
        self._failures.write(failed_request_as_json(failed))

    def keep_review(self, score: SampleScore, case: Case, response: Response) -> None:
        """Keep what the review file will say of one sample."""
        self._reviews.append((score, case, response))

    def finish(self, facts: RunFacts) -> None:
        """Write the reviews in sample order, and the final facts."""
        with atomic_write(self._reviews_path) as file:
            for score, case, response in sorted(self._reviews, key=lambda review: int(review[0].sample_id)):
                line = json.dumps(_review(score, case, response), ensure_ascii=False)
                file.write(line.encode("utf-8", "replace") + b"\n")
        write_facts(self._paths, facts)

    def close(self) -> None:
        """Close the files, and let others write them."""
        self._predictions.close()
        self._failures.close()
        self._lock.release()


def _review(score: SampleScore, case: Case, response: Response) -> dict[str, Any]:
    messages = display_messages(case.messages())
    messages.append(display_answer(response.message, response.finish_reason))
    return {
        "index": score.sample_id,
        "target": ["tool_calls" if case.official.should_call else case.official.finish_reason or "stop"],
        "messages": messages,
        "agent_trace": None,
        "sample_score": score.model_dump(),
    }


def _end_last_line(path: Path) -> None:
    """End a half-written last line, so that the next one starts on its own."""
    try:
        with path.open("rb+") as file:
            if file.seek(0, 2) == 0:
                return
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
    except FileNotFoundError:
        return
