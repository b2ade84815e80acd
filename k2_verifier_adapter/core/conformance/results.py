"""What the probes of a run came to: by probe, by suite, and whether the contract holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Any

from k2_verifier_adapter.core.conformance.causes import Cause, cause_of
from k2_verifier_adapter.core.conformance.judging import Answer, Unmet, answer_of, judge_probe
from k2_verifier_adapter.core.conformance.probes import Mode, ProbeCase
from k2_verifier_adapter.core.gate import GATE_FAILED, INCONCLUSIVE, PASSED, Decision
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.model_profiles import ModelProfile
from k2_verifier_adapter.core.printable import plural
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.redaction import ToolNames, redact_failure
from k2_verifier_adapter.core.responses import reported_tokens
from k2_verifier_adapter.core.run_facts import RunFacts
from k2_verifier_adapter.core.verdict import Status


class Outcome(str, Enum):
    """What became of a probe; the value is the name used in files."""

    PASSED = "passed"
    FLAKY = "flaky"
    """It failed at the first try, and passed at a later one."""
    FAILED = "failed"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True)
class Try:
    """One answer to a probe, and what it does not meet."""

    record: ResponseRecord
    answer: Answer
    unmet: tuple[Unmet, ...]


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One probe in one mode: its answers in the order of the tries, or why there is none.

    Attributes:
        cause: What is probably wrong, of one that did not pass at the first try.
    """

    case: ProbeCase
    tries: tuple[Try, ...]
    failed: FailedRequest | None = None
    cause: Cause | None = None

    @property
    def outcome(self) -> Outcome:
        """What became of it."""
        if not self.tries:
            return Outcome.UNANSWERED
        if not self.tries[0].unmet:
            return Outcome.PASSED
        return Outcome.FAILED if all(found.unmet for found in self.tries) else Outcome.FLAKY

    def as_json(self) -> dict[str, Any]:
        """Give what reports and reviews hold of it."""
        probe, cause = self.case.probe, self.cause
        return {
            "id": probe.id,
            "suite": probe.suite,
            "mode": self.case.mode.value,
            "outcome": self.outcome.value,
            "tries": [[unmet.as_json() for unmet in one.unmet] for one in self.tries],
            "status": self.tries[0].answer.status if self.tries else None,
            "failed": None if self.failed is None else self.failed.failure.as_json(),
            "cause": None if cause is None else cause.name,
            "advice": [] if cause is None else list(cause.advice),
            "why": probe.why,
            "source": probe.source,
            "note": probe.note,
        }

    @property
    def rate_interval(self) -> tuple[float, float]:
        """The exact 95 % interval of the share of tries that pass, where they go on until one does.

        Clopper and Pearson's bounds of a geometric distribution: `n` tries of which the last one passed, or
        of which none did.
        """
        n, alpha = len(self.tries), 0.025
        if self.outcome is Outcome.FAILED:
            return 0.0, 1 - alpha ** (1 / n)
        return 1 - (1 - alpha) ** (1 / n), 1.0 if n == 1 else 1 - alpha ** (1 / (n - 1))

    @property
    def unmet(self) -> Unmet | None:
        """The first expectation that the first answer does not meet."""
        return self.tries[0].unmet[0] if self.tries and self.tries[0].unmet else None

    @property
    def why_not(self) -> str:
        """What keeps it from having passed, in a line; empty if it passed."""
        if self.tries:
            return str(self.unmet or "")
        return "not asked" if self.failed is None else str(self.failed.failure)


@dataclass(frozen=True, slots=True)
class Share:
    """How many of some probes passed at the first try, and how many at any."""

    passed: int
    eventually: int
    answered: int
    total: int


def _share(results: Iterable[ProbeResult], mode: Mode | None) -> Share:
    """Count what became of some probes, of one mode or all."""
    outcomes = [result.outcome for result in results if mode in (None, result.case.mode)]
    passed = outcomes.count(Outcome.PASSED)
    unanswered = outcomes.count(Outcome.UNANSWERED)
    return Share(passed, passed + outcomes.count(Outcome.FLAKY), len(outcomes) - unanswered, len(outcomes))


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """One suite of a run.

    Attributes:
        left_out: What of the suite is not asked, and why: reason to number.
    """

    name: str
    facts: RunFacts
    results: tuple[ProbeResult, ...]
    left_out: Mapping[str, int]

    @property
    def status(self) -> Status:
        """Whether all of its probes passed at the first try; undecided while some have no answer."""
        outcomes = {result.outcome for result in self.results}
        if outcomes & {Outcome.FAILED, Outcome.FLAKY}:
            return Status.FAIL
        if Outcome.UNANSWERED in outcomes or not self.facts.complete:
            return Status.INCONCLUSIVE
        return Status.PASS

    def share(self, mode: Mode | None = None) -> Share:
        """Count its probes, of one mode or all."""
        return _share(self.results, mode)


@dataclass(frozen=True)
class Conformance:
    """All suites of a run against one model."""

    profile: ModelProfile
    suites: tuple[SuiteResult, ...]
    gate: bool = False
    redacted: bool = False

    @property
    def facts(self) -> RunFacts:
        """What is known of the run; of several suites, of the first."""
        return self.suites[0].facts

    @cached_property
    def results(self) -> tuple[ProbeResult, ...]:
        """The probes of all suites."""
        return tuple(result for suite in self.suites for result in suite.results)

    @cached_property
    def troubled(self) -> tuple[ProbeResult, ...]:
        """The probes that did not pass at the first try, failed ones first."""
        order = (Outcome.FAILED, Outcome.FLAKY, Outcome.UNANSWERED)
        found = [result for result in self.results if result.outcome is not Outcome.PASSED]
        return tuple(sorted(found, key=lambda result: order.index(result.outcome)))

    @property
    def status(self) -> Status:
        """Whether all suites pass."""
        statuses = {suite.status for suite in self.suites}
        return next(
            (status for status in (Status.FAIL, Status.INCONCLUSIVE) if status in statuses), Status.PASS
        )

    def share(self, mode: Mode | None = None) -> Share:
        """Count the probes of all suites, of one mode or all."""
        return _share(self.results, mode)

    @cached_property
    def causes(self) -> Mapping[Cause, list[ProbeResult]]:
        """The probable causes with their probes, the commonest first."""
        found: dict[Cause, list[ProbeResult]] = {}
        for result in self.troubled:
            if result.cause is not None:
                found.setdefault(result.cause, []).append(result)
        return dict(sorted(found.items(), key=lambda item: -len(item[1])))

    @property
    def tokens(self) -> tuple[int, int]:
        """The prompt and completion tokens that all answers report."""
        answered = [
            one.answer.response.completion
            for result in self.results
            for one in result.tries
            if one.answer.response is not None
        ]
        prompt, completion = (
            sum(reported_tokens(one, name) for one in answered)
            for name in ("prompt_tokens", "completion_tokens")
        )
        return prompt, completion

    @property
    def token_offset(self) -> str | None:
        """Name what all counted prompts have too much or too little of; None if they have nothing alike."""
        offsets = {
            tokens - result.case.probe.expect["prompt_tokens"][0]
            for result in self.results
            if "prompt_tokens" in result.case.probe.expect and (tokens := prompt_tokens_of(result))
        }
        if len(offsets) != 1 or offsets == {0}:
            return None
        offset = offsets.pop()
        meaning = _OFFSETS.get(offset)
        said = f"every prompt is counted with {offset:+d} tokens"
        return said if meaning is None else f"{said}: {meaning}"


_OFFSETS = {
    3: "the generation stub, which the reference does not count",
    -67: "the directive for the thinking effort is missing, which the reference writes unasked",
    -64: "the directive for the thinking effort is missing, and the generation stub is counted",
}


def prompt_tokens_of(result: ProbeResult) -> int:
    """Give the prompt tokens that the first answer reports; 0 if it reports none."""
    response = result.tries[0].answer.response if result.tries else None
    return 0 if response is None else reported_tokens(response.completion, "prompt_tokens")


def decide(conformance: Conformance) -> Decision:
    """Decide the exit code: all suites have to pass where a gate was asked.

    Requests without an answer leave a run incomplete, gate or not.
    """
    failed = [suite.name for suite in conformance.suites if suite.status is Status.FAIL]
    if conformance.gate and failed:
        return Decision(GATE_FAILED, f"gate: failed in {', '.join(failed)}")
    unanswered = sum(result.outcome is Outcome.UNANSWERED for result in conformance.results)
    if unanswered or not all(suite.facts.complete for suite in conformance.suites):
        return Decision(INCONCLUSIVE, f"incomplete: {plural(unanswered, 'probe')} without an answer")
    return Decision(PASSED, "gate: passed" if conformance.gate else None)


def judge_suite(
    cases: Sequence[ProbeCase],
    records: Iterable[ResponseRecord],
    failed: Iterable[FailedRequest],
    facts: RunFacts,
    left_out: Mapping[str, int],
) -> SuiteResult:
    """Judge all stored answers of a suite; the cases by their number."""
    profile = facts.model_profile
    answers: dict[int, dict[int, tuple[ResponseRecord, Answer]]] = {}
    failures = {request.case_index: request for request in failed}
    for record in records:
        answer = answer_of(record)
        if isinstance(answer, FailedRequest):
            failures[record.case_index] = answer
        else:
            answers.setdefault(record.case_index, {})[record.repeat] = record, answer
    twins = {
        (case.probe.id, case.mode): answers[case.case.index][0][1]
        for case in cases
        if 0 in answers.get(case.case.index, {})
    }
    results = []
    for case in cases:
        found = answers.get(case.case.index, {})
        twin = _twin(case, twins)
        tries = tuple(
            Try(record, answer, judge_probe(case, answer, twin))
            for _, (record, answer) in sorted(found.items())
        )
        unmet = tries[0].unmet if tries else ()
        cause = cause_of(case, tries[0].answer, unmet[0], profile) if unmet else None
        failure = None if tries else failures.get(case.case.index)
        results.append(ProbeResult(case, tries, failure, cause))
    return SuiteResult(facts.subset, facts, tuple(results), left_out)


def _twin(case: ProbeCase, twins: Mapping[tuple[str, Mode], Answer]) -> Answer | None:
    """Find the answer to the probe that `same_as` names: the plain one, if it was asked so."""
    name: Any = case.probe.expect.get("same_as")
    return next((twins[name, mode] for mode in Mode if (name, mode) in twins), None)


def recorded_tokens(conformance: Conformance) -> Iterator[dict[str, Any]]:
    """Give the prompts with the tokens that the endpoint counted, as KVV's prompt-token cases.

    One for each probe of which an answer says them, but for those that send an answer back: of an official
    endpoint, what others are held to.
    """
    seen = set()
    for result in conformance.results:
        probe, tokens = result.case.probe, prompt_tokens_of(result)
        if not tokens or probe.id in seen or probe.continues:
            continue
        seen.add(probe.id)
        yield {
            "id": probe.id,
            "description": probe.why,
            "request": {**probe.request, **(conformance.profile.forced_call if probe.forced else {})},
            "expected_prompt_tokens": tokens,
        }


_LEFT_OUT = "(left out)"


def redact(conformance: Conformance) -> Conformance:
    """Give the same results without a word of what the endpoint answered."""

    def redacted_try(one: Try) -> Try:
        unmet = tuple(replace(found, got=_LEFT_OUT) for found in one.unmet)
        return replace(one, unmet=unmet, answer=replace(one.answer, words=""))

    def redacted_result(result: ProbeResult) -> ProbeResult:
        failed = result.failed
        if failed is not None:
            failed = replace(failed, failure=redact_failure(failed.failure, ToolNames()))
        return replace(result, tries=tuple(map(redacted_try, result.tries)), failed=failed)

    suites = tuple(
        replace(suite, results=tuple(map(redacted_result, suite.results))) for suite in conformance.suites
    )
    return replace(conformance, suites=suites, redacted=True)
