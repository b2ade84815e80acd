"""Why a probe probably failed: in the words of `k2_verifier`'s findings wherever it has any for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from k2_verifier_adapter.core.conformance.judging import Answer, Unmet
from k2_verifier_adapter.core.conformance.probes import ProbeCase
from k2_verifier_adapter.core.diagnosis.advice import Advice, resolved
from k2_verifier_adapter.core.diagnosis.rules import RULES
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.judging.judge import judge
from k2_verifier_adapter.core.model_profiles import ModelProfile
from k2_verifier_adapter.core.refusals import sort_refusal


@dataclass(frozen=True, slots=True)
class Cause:
    """A probable cause: its name in files, a sentence, and what to change."""

    name: str
    hypothesis: str
    advice: tuple[str, ...]


_RULES = {rule.name: rule for rule in RULES}

_UNDECIDED = frozenset({FailureClass.MISSED_CALL, FailureClass.EXTRA_CALL})
"""Classes of the decision to call, which a probe may have forced."""

_OWN: tuple[tuple[str, str, str, tuple[str | Advice, ...]], ...] = (
    (
        "refusal_missing",
        "status",
        "The server probably does not check what the official API refuses.",
        ("Refuse with 400 and say which field is wrong, as the official API does.",),
    ),
    (
        "tool_choice_ignored",
        "calls.some",
        "tool_choice probably does not reach the engine, or nothing enforces it.",
        (
            "required forces a call, by guided decoding; none keeps the model from calling.",
            Advice("guided_decoding"),
            Advice("versions"),
        ),
    ),
    (
        "names_of_other_tools",
        "calls.names",
        "The tools that the request declares probably do not all reach the model.",
        (Advice("chat_template"), Advice("versions")),
    ),
    (
        "calls_counted_otherwise",
        "calls.count",
        "The tool parser probably drops or doubles calls.",
        (Advice("tool_parser"), Advice("versions")),
    ),
    (
        "no_guided_decoding",
        "calls.arguments",
        "Arguments are probably generated without guided decoding.",
        (Advice("guided_decoding"),),
    ),
    (
        "content_missing",
        "content",
        "A parser probably drops the answer, or response_format is ignored.",
        (Advice("reasoning_parser"), Advice("versions")),
    ),
    (
        "reasoning_misplaced",
        "reasoning",
        "The reasoning parser is probably off, or the request's thinking setting is ignored.",
        (
            Advice("reasoning_parser"),
            "thinking.type has to reach the chat template (vLLM and SGLang: chat_template_kwargs).",
        ),
    ),
    (
        "usage_missing",
        "usage",
        "The server, or a gateway, probably does not report the usage that is asked for.",
        ("With stream_options.include_usage, a chunk before [DONE] carries the usage.",),
    ),
    (
        "prompt_differs",
        "prompt_tokens",
        "The prompt is probably rendered otherwise than by the model's own template.",
        (Advice("chat_template"), Advice("versions")),
    ),
    (
        "frames_differ",
        "frames",
        "The server, or a gateway, probably writes chunks that clients put together wrongly.",
        (
            "The first delta carries the role, the first delta of a call its index, id, type and name.",
            "Every further one carries its index and a text of arguments; one finish_reason comes last.",
            Advice("versions"),
        ),
    ),
    (
        "stream_differs",
        "same_as",
        "The streaming path probably parses otherwise than the plain one.",
        (Advice("tool_parser"), Advice("versions")),
    ),
    (
        "decision_differs",
        "finish_reason",
        "The server probably ends the answer otherwise than the official API.",
        (Advice("versions"), Advice("sampling")),
    ),
)
"""Name, what it explains, the sentence and the advice, where no finding has words for it."""

_FINISH = {
    FailureClass.CALLS_WITHOUT_FINISH_TOOL_CALLS,
    FailureClass.FINISH_REASON_MISSING,
    FailureClass.FINISH_REASON_UNKNOWN,
    FailureClass.FINISH_TOOL_CALLS_WITHOUT_CALLS,
    FailureClass.TRUNCATED_BY_LENGTH,
}


def cause_of(case: ProbeCase, answer: Answer, unmet: Unmet, profile: ModelProfile) -> Cause:
    """Say what is probably wrong where an answer does not meet an expectation."""
    name = _rule_of(case, answer, unmet, profile)
    if name is not None:
        rule = _RULES[name]
        return Cause(name, rule.hypothesis, resolved(rule.checks, profile))
    kind = unmet.path if unmet.path.startswith("calls.") else unmet.path.partition(".")[0]
    for own, explains, hypothesis, advice in _OWN:
        if explains == kind:
            return Cause(own, hypothesis, resolved(advice, profile))
    raise AssertionError(f"no cause explains {unmet.path}")


def _rule_of(case: ProbeCase, answer: Answer, unmet: Unmet, profile: ModelProfile) -> str | None:
    """Find the finding of `k2_verifier` that says it."""
    if unmet.path == "status":
        return None if answer.response is not None else _refused(answer.words)
    response = answer.response
    if response is None or unmet.path.startswith(("usage", "prompt_tokens", "same_as")):
        return None
    if unmet.path.startswith("frames"):
        return "stream_not_served" if FailureClass.STREAM_IGNORED in answer.anomalies else None
    judged = judge(case.case, response, answer.anomalies, profile=profile)
    seen = [failure.failure_class for failure in judged.failures]
    if judged.primary is not None:
        seen.insert(0, judged.primary)
    if unmet.path == "finish_reason":
        seen = [kind for kind in seen if kind in _FINISH] or seen
    elif unmet.path == "calls.names":
        seen = [FailureClass.UNDECLARED_TOOL] if FailureClass.UNDECLARED_TOOL in seen else []
    return _first_rule(kind for kind in seen if kind not in _UNDECIDED)


def _first_rule(classes: Iterable[FailureClass]) -> str | None:
    for kind in classes:
        for rule in RULES:
            if kind in rule.classes and rule.reasons is None:
                return rule.name
    return None


def _refused(words: str) -> str:
    reason = sort_refusal(words)
    fitting = (rule.name for rule in RULES if rule.reasons is not None and reason in rule.reasons)
    return next(fitting, "requests_not_accepted")
