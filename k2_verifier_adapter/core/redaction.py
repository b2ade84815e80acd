"""Redaction: what a report or an export may still say where prompts and answers are left out.

It works on the data, so that no format has to think of it. What stays are numbers, names that this
package, the API or JSON Schema define, and what names the run: model, rows' file, served models. What goes
is whatever a prompt, a tool, an answer or an error body can put into words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from k2_verifier_adapter.core.counts import OTHER_TOOLS, ToolTally
from k2_verifier_adapter.core.failure_classes import Failure
from k2_verifier_adapter.core.judgement import WITHOUT_NAME, Note
from k2_verifier_adapter.core.summary import Summary

REDACTED = "(redacted)"

_FINISH_REASONS = frozenset(
    {
        *("stop", "tool_calls", "length", "content_filter", "function_call"),
        # What servers are seen to say instead.
        *("abort", "end_turn", "eos", "eos_token", "error", "max_tokens", "stop_sequence", "tool_use"),
    }
)
_PARAMETERS_OF_NAMES = frozenset({"model", "reasoning_effort", "service_tier", "tool_choice", "type"})
"""Parameters whose value is one of a few names, or the model's."""

_PATH_STEP = re.compile(r"\[\d+\]|\.(?:(?!\[\d+\]|\.).)*", re.DOTALL)


class ToolNames:
    """Gives tools numbers for names, the same tool the same number."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of(self, name: str) -> str:
        """Give the name that stands for a tool's."""
        if name in (OTHER_TOOLS, WITHOUT_NAME):
            return name
        return self._known.setdefault(name, f"tool {len(self._known) + 1}")


def redact_summary(summary: Summary) -> Summary:
    """Give a summary in which no word of a prompt, a tool or an answer stands.

    Counts, metrics, verdict and findings are as they were. A finish_reason that is none of the usual ones
    is counted as redacted, tools have numbers for names, request parameters keep their numbers.
    """
    finish_reasons: Counter[str] = Counter()
    for finish_reason, count in summary.tally.others_detail.items():
        finish_reasons[redact_finish_reason(finish_reason) or REDACTED] += count
    names = ToolNames()
    tools = ToolTally({names.of(name): counts for name, counts in summary.tally.tools.by_name.items()})
    return replace(
        summary,
        facts=replace(summary.facts, parameters=redact_parameters(summary.facts.parameters)),
        tally=replace(
            summary.tally,
            others_detail=finish_reasons,
            tools=tools,
            refusals=summary.tally.refusals.without_words(REDACTED),
        ),
        findings=tuple(replace(finding, quotes=()) for finding in summary.findings),
        redacted=True,
    )


def redact_finish_reason(finish_reason: str | None) -> str | None:
    """Give a finish_reason, if it is a usual one."""
    return finish_reason if finish_reason is None or finish_reason in _FINISH_REASONS else REDACTED


def redact_failure(failure: Failure, names: ToolNames) -> Failure:
    """Give a failure without its detail, which quotes, and without the names of tools and properties.

    Of `$.address[0].city`, the path keeps `$.*[0].*`.
    """
    path = failure.path
    if path is not None:
        steps = _PATH_STEP.findall(path)
        path = "$" + "".join(step if step.startswith("[") else ".*" for step in steps)
    tool = None if failure.tool is None else names.of(failure.tool)
    return replace(failure, detail=REDACTED, tool=tool, path=path)


def redact_note(note: Note, names: ToolNames) -> Note:
    """Give a note without its detail and the tool's name."""
    return replace(note, detail=REDACTED, tool=None if note.tool is None else names.of(note.tool))


def redact_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Give request parameters with their numbers and switches; texts and lists are left out."""
    return {name: _redact_parameter(name, value) for name, value in parameters.items()}


def _redact_parameter(name: str, value: Any, *, inner: bool = False) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str) and name in _PARAMETERS_OF_NAMES:
        return value
    if isinstance(value, Mapping) and not inner:
        return {key: _redact_parameter(key, item, inner=True) for key, item in value.items()}
    return REDACTED
