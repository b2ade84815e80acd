"""What the answer to a probe is worth: the expectations that it does not meet, in the vocabulary's order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from k2_verifier_adapter.core.conformance.probes import VOCABULARY, ProbeCase
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.json_text import excerpt, shown
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.messages import function_of, name_of, texts_of
from k2_verifier_adapter.core.printable import plural
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.responses import NotACompletion, Response, parse_completion, reported_tokens
from k2_verifier_adapter.core.schemas.bounded_keywords import SchemaTimeoutError
from k2_verifier_adapter.core.schemas.compiled import BrokenSchemaError, unchecked_schema
from k2_verifier_adapter.core.streams.frames import FRAME_FAULTS

OK = 200

_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a completion, or a refusal in the server's words.

    Attributes:
        frames: What was wrong with the frames of a stream.
        usage_in_choice: Whether a stream reported its usage inside a choice.
    """

    status: int
    words: str = ""
    response: Response | None = None
    anomalies: tuple[FailureClass, ...] = ()
    frames: tuple[str, ...] = ()
    usage_in_choice: bool = False


@dataclass(frozen=True, slots=True)
class Unmet:
    """One expectation that was not met; `path` names it, `calls.arguments`."""

    path: str
    expected: str
    got: str

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.path}: expected {self.expected}, got {self.got}"

    def as_json(self) -> dict[str, str]:
        """Give the JSON form."""
        return {"path": self.path, "expected": self.expected, "got": self.got}


def answer_of(record: ResponseRecord) -> Answer | FailedRequest:
    """Read a stored answer; what is no completion under status 200 is a failed request."""
    if record.status != OK:
        return Answer(record.status, words=str(json.loads(record.response)))
    response = parse_completion(record.response)
    if isinstance(response, NotACompletion):
        why = Failure(response.failure_class, response.reason)
        return FailedRequest(record.case_index, why, record.status, record.attempts, record.repeat)
    return Answer(
        OK,
        response=response,
        anomalies=record.stream_anomalies,
        frames=record.frames,
        usage_in_choice=record.usage_in_choice,
    )


def judge_probe(case: ProbeCase, answer: Answer, twin: Answer | None = None) -> tuple[Unmet, ...]:
    """List what an answer does not meet; empty if it passes.

    Of an answer with another status than 200 that is expected, nothing else is asked. `twin` is the answer to
    the probe that `same_as` names; without it, that expectation is not looked at.
    """
    expect = case.probe.expect
    statuses = expect["status"] if isinstance(expect["status"], list) else [expect["status"]]
    if answer.status not in statuses:
        words = answer.words if answer.response is None else _in_short(answer.response)
        expected = " or ".join(f"HTTP {status}" for status in statuses)
        return (Unmet("status", expected, f"HTTP {answer.status}: {words}".rstrip(": ")),)
    if answer.response is None:
        return ()
    found: list[Unmet] = []
    for word in VOCABULARY:
        if word in expect and word in _JUDGES:
            found += _JUDGES[word](expect[word], case, answer, answer.response)
        elif word == "same_as" and word in expect and twin is not None:
            found += _same(expect[word], case, answer, twin)
    return tuple(found)


def _in_short(response: Response) -> str:
    calls = ", ".join(str(name_of(call)) for call in response.tool_calls)
    said = f"finish_reason {response.finish_reason}"
    return f"{said}, calls {calls}" if calls else said


# --- one function a word -------------------------------------------------------------------------


def _finish(expected: Any, _: ProbeCase, __: Answer, response: Response) -> Iterator[Unmet]:
    reasons = expected if isinstance(expected, list) else [expected]
    if response.finish_reason not in reasons:
        yield Unmet("finish_reason", " or ".join(reasons), str(response.finish_reason))


def _calls(expected: Mapping[str, Any], case: ProbeCase, _: Answer, response: Response) -> Iterator[Unmet]:
    calls = response.tool_calls
    listed = ", ".join(shown(name_of(call), 60) for call in calls) or "no call"
    content = texts_of(response.message).content
    got = f"{listed}; content {shown(content, 80)}" if content and not calls else listed
    some = expected.get("some")
    if some is not None and some is not bool(calls):
        yield Unmet("calls.some", "a call" if some else "no call", got)
        return
    if not calls:
        return
    names = expected.get("names")
    if names and not any(name_of(call) in names for call in calls):
        yield Unmet("calls.names", f"a call of {' or '.join(names)}", listed)
    count = expected.get("count")
    if count is not None:
        low, high = count if isinstance(count, list) else (count, count)
        if not low <= len(calls) <= high:
            asked = f"{low} to {high} calls" if low != high else plural(low, "call")
            yield Unmet("calls.count", asked, f"{len(calls)}: {listed}")
    if expected.get("arguments"):
        # As KVV does: of the tool that is asked about, the first call decides.
        named = [call for call in calls if names and name_of(call) in names][:1]
        violation = next(filter(None, (_violation(call, case) for call in named or calls)), None)
        if violation is not None:
            yield Unmet("calls.arguments", "arguments that the tool's schema allows", violation)


def _violation(call: Any, case: ProbeCase) -> str | None:
    """Say how a call breaks the schema of its tool; None if it does not."""
    name, arguments = name_of(call), function_of(call).get("arguments")
    schemas = [
        function_of(tool).get("parameters")
        for tool in case.case.declared_tools()
        if name is not None and name_of(tool) == name
    ]
    if not schemas:
        return f"{shown(name, 60)} is no declared tool"
    if arguments is None:
        return f"{name}: the arguments are missing"
    try:
        instance = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError) as error:
        return f"{name}: the arguments are not JSON ({error}): {shown(arguments, _SHOWN)}"
    try:
        violations = [] if schemas[0] is None else unchecked_schema(schemas[0]).violations(instance)
    except (BrokenSchemaError, SchemaTimeoutError) as error:
        return f"{name}: the schema cannot be applied: {error}"
    if not violations:
        return None
    first = violations[0]
    return f"{name}: {first.keyword} at {first.path}: {first.message}; arguments {shown(arguments, _SHOWN)}"


def _content(expected: str, _: ProbeCase, __: Answer, response: Response) -> Iterator[Unmet]:
    content = texts_of(response.message).content
    got = shown(content, _SHOWN) if content else "no content"
    if expected == "json":
        try:
            json.loads(content)
        except (ValueError, RecursionError) as error:
            yield Unmet("content", "JSON", f"{got} ({error})")
    elif (expected == "some") is not bool(content):
        yield Unmet("content", "a text" if expected == "some" else "no content", got)


def _reasoning(expected: str, _: ProbeCase, __: Answer, response: Response) -> Iterator[Unmet]:
    texts = [text for _, text in texts_of(response.message).reasoning if text]
    if (expected == "some") is not bool(texts):
        got = shown(texts[0], _SHOWN) if texts else "no reasoning"
        yield Unmet("reasoning", "reasoning" if expected == "some" else "no reasoning", got)


def _usage(expected: str, _: ProbeCase, answer: Answer, response: Response) -> Iterator[Unmet]:
    usage = response.completion.get("usage")
    place = "choice" if answer.usage_in_choice else "top_level"
    got = ("some", place) if usage else ("none",)
    if expected not in got:
        yield Unmet("usage", expected, f"{got[-1]}: {shown(usage, 80)}")


def _prompt_tokens(expected: list[int], _: ProbeCase, __: Answer, response: Response) -> Iterator[Unmet]:
    got = reported_tokens(response.completion, "prompt_tokens")
    low, high = expected
    if not low <= got <= high:
        told = f"{got} ({got - low:+d})" if got else shown(response.completion.get("usage"), 80)
        yield Unmet("prompt_tokens", f"{low} to {high}", told)


def _frames(expected: list[str], _: ProbeCase, answer: Answer, __: Response) -> Iterator[Unmet]:
    if FailureClass.STREAM_IGNORED in answer.anomalies:
        yield Unmet("frames", "an event stream", "one whole completion")
        return
    for name in expected:
        if name in answer.frames:
            yield Unmet(f"frames.{name}", "frames of a chat completion stream", FRAME_FAULTS[name])


def _same(name: str, case: ProbeCase, answer: Answer, twin: Answer) -> Iterator[Unmet]:
    ours, theirs = _shape(answer, case), _shape(twin, case)
    for what, value in theirs.items():
        if ours[what] != value:
            yield Unmet("same_as", f"{what} {value} as in {name}", f"{what} {ours[what]}")
            return


def _shape(answer: Answer, case: ProbeCase) -> dict[str, str]:
    """Say what two answers to one request have in common, whatever their texts are."""
    if answer.response is None:
        return {"status": str(answer.status)}
    response = answer.response
    names = sorted({str(name_of(call)) for call in response.tool_calls})
    valid = all(_violation(call, case) is None for call in response.tool_calls)
    reasoning = any(text for _, text in texts_of(response.message).reasoning)
    return {
        "status": str(answer.status),
        "finish_reason": str(response.finish_reason),
        "calls": excerpt(", ".join(names), _SHOWN) or "none",
        "arguments": "valid" if valid else "invalid",
        "content": "some" if names or texts_of(response.message).content else "none",
        "reasoning": "some" if reasoning else "none",
    }


_Judge = Callable[[Any, ProbeCase, Answer, Response], Iterator[Unmet]]

_JUDGES: Mapping[str, _Judge] = {
    "finish_reason": _finish,
    "calls": _calls,
    "content": _content,
    "reasoning": _reasoning,
    "usage": _usage,
    "prompt_tokens": _prompt_tokens,
    "frames": _frames,
}
