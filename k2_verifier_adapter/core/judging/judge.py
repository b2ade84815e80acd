"""What one response is worth, by upstream's rules, and which failures it shows.

The rules are those of `tool_calls_eval.py`; where a rule is a declared deviation, the code says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

from k2_verifier_adapter.core.cases import CaseLike
from k2_verifier_adapter.core.failure_classes import INVALID_JSON, Failure, FailureClass, Variant
from k2_verifier_adapter.core.judgement import Fix, Judgement, Note, NoteKind
from k2_verifier_adapter.core.judging.agreement import argument_agreement, same_tool_names
from k2_verifier_adapter.core.judging.arguments import notes_on
from k2_verifier_adapter.core.judging.causes import Situation, primary_and_fixes
from k2_verifier_adapter.core.judging.detectors import (
    LeakContext,
    Messages,
    decision_failures,
    finish_failures,
    leak_failures,
    leaks_in_calls,
    nothing_failures,
)
from k2_verifier_adapter.core.judging.generation import degenerate_text, has_unseen_tokens, repeated_call
from k2_verifier_adapter.core.judging.markup import FOREIGN_TOKENS
from k2_verifier_adapter.core.judging.notations import K3_TOKENS
from k2_verifier_adapter.core.judging.tool_calls import (
    DeclaredTools,
    id_failures,
    invalid_positions,
    reused_ids,
    tool_uses,
)
from k2_verifier_adapter.core.messages import calls_of, name_of, names_in_history, texts_of
from k2_verifier_adapter.core.model_profiles import ModelProfile
from k2_verifier_adapter.core.responses import FinishBucket, Response, reported_tokens
from k2_verifier_adapter.core.schemas.compiled import MAX_COUNTED, MAX_VIOLATIONS

_COUNTED_CALLS = 5
"""Calls of one response whose violations are counted beyond those that are listed."""

FOREIGN_TO_K2 = frozenset({*FOREIGN_TOKENS, *K3_TOKENS})
"""Tokens of other models, K3 among them."""

_STREAM_DETAILS = {
    FailureClass.STREAM_INDEX_MISSING: "a tool call delta without index; counted as index 0",
    FailureClass.STREAM_ID_MISSING: "a streamed tool call whose id never arrived",
    FailureClass.STREAM_NAME_REPEATED: "a tool call's name arrived more than once; the last counts",
    FailureClass.STREAM_IGNORED: "a stream was asked for, and a whole completion came",
    FailureClass.STREAM_CUMULATIVE: "each delta repeats what the ones before it said",
    FailureClass.STREAM_EMPTY_TOOL_CALLS: "deltas of tool calls came that are empty, and no call",
    FailureClass.STREAM_MESSAGE_FOR_DELTA: "chunks carry `message` in the place of `delta`; it is not read",
    FailureClass.CALL_IN_OTHER_CHOICE: "another choice than 0 carries calls; choice 0 counts",
}


def judge(
    case: CaseLike,
    response: Response,
    stream_anomalies: Iterable[FailureClass] = (),
    *,
    token_limit: int | None = None,
    profile: ModelProfile | None = None,
) -> Judgement:
    """Judge one completed response, of a model of K2's family unless a profile says otherwise.

    `token_limit` is the most completion tokens that the request allows; None if there is no limit, or it is
    not known.
    """
    calls = response.tool_calls
    official = case.official_tool_calls() if case.official.should_call else None
    called = response.bucket is FinishBucket.TOOL_CALLS and bool(calls)
    # Decoded at most once, and only where something looks into them.
    messages = cache(case.messages)
    # Decoded and compiled once for both sides, which mostly call the same tool.
    tools = DeclaredTools(case.declared_tools)
    found = tools.judge(calls) if called else []
    invalid = invalid_positions(found)
    valid = not invalid if called else None

    texts = texts_of(response.message)
    unseen = has_unseen_tokens(response, texts)
    of_k3 = profile is not None and profile.markup == "k3"
    context = LeakContext(
        messages=messages,
        tools=tools,
        foreign=FOREIGN_TOKENS if of_k3 else FOREIGN_TO_K2,
        calls=bool(calls),
        should_call=case.official.should_call,
    )
    anomalies = dict.fromkeys(stream_anomalies)
    if not case.official.should_call:
        # Nothing was dropped where there is nothing to call.
        anomalies.pop(FailureClass.STREAM_EMPTY_TOOL_CALLS, None)
    if not calls and _calls_elsewhere(response):
        anomalies[FailureClass.CALL_IN_OTHER_CHOICE] = None
    failures = [Failure(kind, _STREAM_DETAILS[kind]) for kind in anomalies]
    failures += finish_failures(response, case.official, token_limit)
    if called:
        failures += _with_history(found, messages)
    if calls:
        failures += leaks_in_calls(calls, invalid, official, context)
        any_form = profile is not None and profile.any_id
        absent = Variant.ABSENT_IN_STREAM if FailureClass.STREAM_ID_MISSING in anomalies else Variant.ABSENT
        failures += id_failures(calls, tools.names, any_form=any_form, absent=absent)
        failures += reused_ids(calls, messages, case.mentions)
    failures += leak_failures(texts, context)
    loop = degenerate_text(texts, messages)
    history = messages if calls and case.mentions("tool_call_id") else _no_messages
    repeated = repeated_call(calls, official, history, official_calls=case.official.should_call)
    failures += filter(None, (loop, repeated))
    lost = not calls and case.official.should_call and loop is None
    dropped = lost and (unseen or _ends_with_calls(response))
    failures += nothing_failures(response, texts, dropped=dropped or (lost and not _has_usage(response)))
    failures += decision_failures(response, case.official, official, dropped=dropped)

    primary: FailureClass | None = None
    fixes: tuple[Fix, ...] = ()
    if failures:
        primary, fixes = primary_and_fixes(
            Situation(
                failures,
                calls=response.bucket is FinishBucket.TOOL_CALLS,
                valid=valid is True,
                should_call=case.official.should_call,
                payload_valid=bool(calls) and (valid is True if called else not tools.judge(calls)),
            )
        )
    compared = official if called else None
    return Judgement(
        finish_reason=response.finish_reason,
        bucket=response.bucket,
        tool_calls_valid=valid,
        should_call=case.official.should_call,
        official_bucket=_official_bucket(case),
        official_valid=_official_valid(case, official, tools),
        same_names=same_tool_names(calls, compared) if compared else None,
        argument_agreement=argument_agreement(calls, compared) if compared else None,
        repaired=case.repairs.beyond_upstream,
        failures=tuple(failures),
        primary=primary,
        fixes=fixes,
        notes=tuple(_notes(calls, found, tools)) if called else (),
        tools=tool_uses(calls, invalid) if called else (),
        unseen_tokens=unseen,
        official_runs=case.official.runs,
    )


def _no_messages() -> None:
    """Stand for a history without results, so that none is decoded."""


def _calls_elsewhere(response: Response) -> bool:
    """Whether another choice of the completion carries calls."""
    others = response.completion["choices"][1:]
    return any(calls_of(choice.get("message")) for choice in others if isinstance(choice, dict))


def _ends_with_calls(response: Response) -> bool:
    """Whether the provider behind a router ended with calls, as OpenRouter passes it on."""
    choice = response.completion["choices"][0]
    return isinstance(choice, dict) and choice.get("native_finish_reason") in ("tool_calls", "tool_use")


def _has_usage(response: Response) -> bool:
    return reported_tokens(response.completion, "completion_tokens") > 0


def _with_history(found: list[Failure], request_messages: Messages) -> list[Failure]:
    """Say of undeclared tools whether the request's messages name them."""
    if not any(failure.failure_class is FailureClass.UNDECLARED_TOOL for failure in found):
        return found
    messages = request_messages()
    if messages is None:
        return found
    names = names_in_history(messages)
    return [
        replace(failure, in_history=failure.tool in names)
        if failure.failure_class is FailureClass.UNDECLARED_TOOL
        else failure
        for failure in found
    ]


def _notes(calls: list[Any], found: list[Failure], tools: DeclaredTools) -> Iterable[Note]:
    """List what is worth knowing of the calls; empty arguments are tried as an empty object."""
    kinds: dict[int, list[FailureClass]] = {}
    for failure in found:
        if failure.call is not None:
            kinds.setdefault(failure.call, []).append(failure.failure_class)
    not_json = (position for position, classes in kinds.items() if classes[0] in INVALID_JSON)
    yield from notes_on(calls, frozenset(not_json))
    full = [position for position, classes in kinds.items() if len(classes) >= MAX_VIOLATIONS]
    for position in full[:_COUNTED_CALLS]:
        count = tools.count_violations(calls[position])
        if count > len(kinds[position]):
            at_least = "at least " if count == MAX_COUNTED else ""
            detail = f"{at_least}{count} violations of the schema, {len(kinds[position])} of them listed"
            yield Note(NoteKind.FURTHER_VIOLATIONS, detail, position, name_of(calls[position]))
    empty = {failure.tool: failure for failure in found if failure.variant is Variant.EMPTY_OBJECT_FITS}
    for failure in empty.values():
        detail = "the call has no arguments; it would be valid, were they written as {}"
        yield Note(NoteKind.EMPTY_OBJECT_FITS, detail, failure.call or 0, failure.tool)


def _official_bucket(case: CaseLike) -> FinishBucket:
    if case.official.should_call:
        return FinishBucket.TOOL_CALLS
    if case.official.finish_reason in (None, "stop"):
        return FinishBucket.STOP
    # Empty: the official answer is known to have ended without one.
    return FinishBucket.OTHERS if case.official.finish_reason else FinishBucket.MISSING


def _official_valid(case: CaseLike, official: list[Any] | None, tools: DeclaredTools) -> bool | None:
    if not case.official.should_call:
        return None
    if official is None:
        return True
    return bool(official) and not tools.judge(official)
