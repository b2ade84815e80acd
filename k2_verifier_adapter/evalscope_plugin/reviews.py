"""What EvalScope's pages show of one judged response or probe: its score, its messages, its review.

Messages of every shape are shown, with no schema that could refuse one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalscope.api.metric import SampleScore, Score

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.conformance.results import Outcome, ProbeResult
from k2_verifier_adapter.core.json_text import dumps_ascii, excerpt
from k2_verifier_adapter.core.judged import JudgedResponse
from k2_verifier_adapter.core.judgement import Judgement
from k2_verifier_adapter.core.messages import texts_of
from k2_verifier_adapter.core.records import METADATA_KEY, judgement_as_json
from k2_verifier_adapter.core.responses import Response

_ROLES = {
    "system": "system",
    "developer": "system",
    "_input": "system",
    "assistant": "assistant",
    "tool": "tool",
}
_ANSWER_LIMIT = 8_000
"""Characters of an answer that are shown; the prediction holds all of it."""

_REQUEST_LIMIT = 6_000
"""Characters of a request's messages that are shown, if more than `_LEAST` of each."""

_LEAST = 200


def sample_score(
    sample_id: int | str | None, group_id: int | str | None, case: Case, judged: JudgedResponse
) -> SampleScore:
    """Convert a judgement to EvalScope's score."""
    judgement = judged.judgement
    score = Score(
        value={
            "finish_reason_tool_calls": int(judgement.calls),
            "successful_tool_call": int(judgement.successful),
            "should_call_tool": int(judgement.should_call),
            "decision_agrees": int(judgement.calls == judgement.should_call),
        },
        prediction="",
        extracted_prediction=judgement.finish_reason or "",
        explanation=_explanation(judgement),
        metadata={METADATA_KEY: judgement_as_json(case.index, judgement)},
        main_score_name="decision_agrees",
    )
    return SampleScore(
        score=score,
        sample_id=int(sample_id or 0),
        group_id=group_id,
        generation_index=judged.repeat,
        sample_metadata={"row": case.index, "data_index": case.data_index},
    )


def review(score: SampleScore, case: Case, response: Response) -> dict[str, Any]:
    """Give the line of a review file."""
    messages = display_messages(case.messages())
    messages.append(display_answer(response.message, response.finish_reason))
    return {
        "index": score.sample_id,
        "target": ["tool_calls" if case.official.should_call else case.official.finish_reason or "stop"],
        "messages": messages,
        "agent_trace": None,
        "sample_score": score.model_dump(),
    }


def probe_score(result: ProbeResult) -> SampleScore:
    """Convert what became of a probe, which was answered, to EvalScope's score."""
    probe, unmet = result.case.probe, result.unmet
    lines = [f"{probe.id}, {result.case.mode.value}: {result.outcome.value}"]
    if unmet is not None:
        lines += [f"expected {unmet.path}: {unmet.expected}", f"got {unmet.got}"]
    if result.cause is not None:
        lines += [result.cause.hypothesis, *result.cause.advice]
    score = Score(
        value={"passed": int(unmet is None), "passed_eventually": int(result.outcome is not Outcome.FAILED)},
        prediction="",
        extracted_prediction=result.outcome.value,
        explanation=_printable("\n".join(lines)),
        metadata={METADATA_KEY: result.as_json()},
        main_score_name="passed",
    )
    index = result.case.case.index
    metadata = {"probe": probe.id, "mode": result.case.mode.value}
    return SampleScore(score=score, sample_id=index, group_id=index, sample_metadata=metadata)


def probe_review(result: ProbeResult) -> dict[str, Any]:
    """Give the line of a review file for a probe that was answered."""
    answer = result.tries[0].answer
    messages = display_messages(result.case.case.messages())
    if answer.response is None:
        refused = _printable(f"[HTTP {answer.status}]\n\n{answer.words}")
        messages.append({"role": "assistant", "content": excerpt(refused, _ANSWER_LIMIT)})
    else:
        messages.append(display_answer(answer.response.message, answer.response.finish_reason))
    return {
        "index": result.case.case.index,
        "target": [dumps_ascii(dict(result.case.probe.expect))],
        "messages": messages,
        "agent_trace": None,
        "sample_score": probe_score(result).model_dump(),
    }


def display_messages(messages: list[Any]) -> list[dict[str, Any]]:
    """Render a request's messages: every one, long ones without their middle.

    The last message gets half of the room if it needs it, the one before half of what is left, and so
    on, for the last turns say most about the answer. `cases.jsonl.gz` holds them whole.
    """
    shown = [_display(message) for message in messages]
    left = _REQUEST_LIMIT
    for message in reversed(shown):
        message["content"] = _without_middle(message["content"], max(_LEAST, left // 2))
        left -= len(message["content"])
    return shown


def display_answer(message: Mapping[str, Any] | None, finish_reason: str | None) -> dict[str, Any]:
    """Render a response's message, the finish_reason last."""
    parts = [f"[{name}]\n{text}" for name, text in texts_of(message).reasoning]
    parts += _parts(message or {})
    parts.append(f"[finish_reason: {finish_reason}]")
    return {"role": "assistant", "content": _printable(excerpt("\n\n".join(parts), _ANSWER_LIMIT))}


def _display(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        return {"role": "user", "content": _printable(repr(message))}
    role = message.get("role")
    shown = _ROLES.get(role, "user") if isinstance(role, str) else "user"
    head = [] if role == shown else [f"[role: {role}]"]
    name = message.get("name")
    if isinstance(name, str):
        head.append(f"[name: {name}]")
    return {"role": shown, "content": _printable("\n\n".join([*head, *_parts(message)]))}


def _parts(message: Mapping[str, Any]) -> list[str]:
    parts = []
    content = message.get("content")
    if isinstance(content, str):
        if content:
            parts.append(content)
    elif content is not None:
        parts.append(_content_parts(content))
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        parts += [_call(call) for call in calls]
    return parts


def _content_parts(content: Any) -> str:
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        if len(texts) == len(content) and all(isinstance(text, str) for text in texts):
            return "\n".join(str(text) for text in texts)
    return dumps_ascii(content)


def _call(call: Any) -> str:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return f"[tool call] {dumps_ascii(call)}"
    arguments = function.get("arguments")
    shown = arguments if isinstance(arguments, str) else dumps_ascii(arguments)
    return f"[tool call {call.get('id')}] {function.get('name')}({shown})"


def _without_middle(text: str, limit: int) -> str:
    """Keep the first two thirds and the last third of what may be shown."""
    if len(text) <= limit:
        return text
    tail = limit // 3
    omitted = len(text) - limit
    note = f"[… {omitted:,} characters left out; the run's cases.jsonl.gz has them …]"
    return f"{text[: limit - tail]}\n\n{note}\n\n{text[-tail:]}"


def _printable(text: str) -> str:
    """Replace what UTF-8 cannot hold: EvalScope writes its files without escapes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _explanation(judgement: Judgement) -> str:
    official = "calls" if judgement.should_call else "does not call"
    vendor = "calls" if judgement.calls else "does not call"
    lines = [f"The official API {official}, the vendor {vendor} (finish_reason {judgement.finish_reason})."]
    lines += map(str, judgement.failures)
    if judgement.primary is not None:
        lines.append(f"Primary class: {judgement.primary.value}.")
    lines += [f"Note: {note.kind.value}: {note.detail}" for note in judgement.notes]
    return "\n".join(lines).encode("utf-8", "replace").decode()
