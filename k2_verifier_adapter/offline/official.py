"""The official answers that a results file is scored against: from rows, or from official results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from k2_verifier_adapter.core.cases import NOT_PARAMETERS, Case, OfficialAnswer
from k2_verifier_adapter.core.history import HistoryOptions, Repairs, RequestMarks, marks_of
from k2_verifier_adapter.core.json_text import dumps_ascii
from k2_verifier_adapter.core.log_facts import FailedRule, OfficialFacts
from k2_verifier_adapter.core.messages import tools_in
from k2_verifier_adapter.core.presets import Standard, preset_for
from k2_verifier_adapter.core.requests import official_parameters
from k2_verifier_adapter.core.responses import Response, read_completion
from k2_verifier_adapter.core.run_facts import RowsInfo, RunFacts, RunPlan, StoppingRule
from k2_verifier_adapter.core.sampling import stratified_order
from k2_verifier_adapter.errors import DataError
from k2_verifier_adapter.formats.lines import Advance, open_lines
from k2_verifier_adapter.formats.rows import decode_each, find_file, read_records, read_standard
from k2_verifier_adapter.formats.upstream import BadLine, Result, is_newer, member_of, read_results

NO_CALL = OfficialAnswer(should_call=False, finish_reason="")
"""What a failed official request counts as where it counts at all."""


@dataclass(frozen=True, slots=True)
class OfficialCase:
    """One official answer, and what scoring needs of its request.

    Attributes:
        answer: The answer; None if the official request failed.
        marks: Marks of the row, or of the official request; None if the log does not hold it.
        parameters: What the official request asked for beside messages and tools; None if it is not known.
    """

    index: int
    answer: OfficialAnswer | None
    marks: RequestMarks | None
    tools_json: bytes | None
    input_role: bool = False
    parameters: Mapping[str, Any] | None = None


def _index_of(item: tuple[int, OfficialCase]) -> int:
    return item[1].index


@dataclass(slots=True)
class OfficialAnswers:
    """Official answers by `data_index`, all of them in memory.

    Attributes:
        has_rows: Whether they come from rows, whose tools are then the truth.
        cases: The answers.
        tools_texts: JSON texts of tools, each held once, for many requests declare the same.
        known_parameters: Parameters of requests, each held once, by their JSON text.
    """

    info: RowsInfo
    standard: Standard | None
    has_rows: bool
    facts: OfficialFacts = field(default_factory=OfficialFacts)
    cases: dict[int, OfficialCase] = field(default_factory=dict)
    tools_texts: dict[bytes, bytes] = field(default_factory=dict)
    known_parameters: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def several_runs(self) -> bool:
        """Whether the answers carry the decisions of several official runs."""
        answers = (case.answer for case in self.cases.values())
        return any(answer is not None and (answer.runs or (0, 1))[1] > 1 for answer in answers)

    def decisions(self, rule: FailedRule = FailedRule.LEFT_OUT) -> dict[int, bool]:
        """Give the decisions that a log is held against, in the order of the rows."""
        return {
            data_index: (case.answer or NO_CALL).should_call
            for data_index, case in sorted(self.cases.items(), key=_index_of)
            if case.answer is not None or rule is FailedRule.NO_CALL
        }

    def looked_at(self, rule: StoppingRule) -> frozenset[int]:
        """Give the cases that a rule's last look judged.

        They follow from the rows; what a log says of its own order is not asked.
        """
        known = self.decisions()
        drawn = stratified_order(known, rule.seed)[: rule.design.maximum]
        order = stratified_order({data_index: known[data_index] for data_index in drawn}, rule.seed)
        return frozenset(order[: rule.cases])

    def planned(self, plan: RunPlan, rule: FailedRule, answered: AbstractSet[int]) -> list[bool]:
        """Give the decisions of the cases that a log has to hold: those of its plan, and those it holds."""
        decisions = self.decisions(rule)
        asked: AbstractSet[int] = decisions.keys()
        if plan.stopping is not None:
            asked = self.looked_at(plan.stopping)
        elif plan.sample is not None and plan.sample.of == len(self.cases):
            asked = plan.sample.drawn_of(decisions)
        held = asked | answered
        return [calls for data_index, calls in decisions.items() if data_index in held]

    def parameters(self, found: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """Give parameters as they are held; None for None, and where they are nested too deeply."""
        if found is None:
            return None
        kept = {name: value for name, value in found.items() if name not in NOT_PARAMETERS}
        try:
            return self.known_parameters.setdefault(dumps_ascii(kept), kept)
        except RecursionError:
            return None


@dataclass(frozen=True, slots=True)
class LoggedCase:
    """What is known of one logged request, `core.cases.Case` being what is known of a row.

    Attributes:
        own_tools: The tools that the line holds; None if it holds none, or rows do.
    """

    index: int
    data_index: int
    held_against: OfficialCase
    repairs: Repairs
    own_tools: Any
    own_messages: Any

    @property
    def official(self) -> OfficialAnswer:
        """The official answer; of a failed official request, that it does not call."""
        return self.held_against.answer or NO_CALL

    def declared_tools(self) -> Any:
        """Give the tools that the response is judged against."""
        tools = self.own_tools
        if tools is None:
            tools_json = self.held_against.tools_json
            tools = [] if tools_json is None else json.loads(tools_json)
        in_messages = tools_in(self.messages())
        return [*tools, *in_messages] if in_messages and isinstance(tools, list) else tools

    def official_tool_calls(self) -> list[Any] | None:
        """Decode the official calls; None if they are not known."""
        text = self.official.tool_calls_json
        calls: list[Any] | None = None if text is None else json.loads(text)
        return calls

    def messages(self) -> list[Any] | None:
        """Give the messages of the request; None if the line does not hold them."""
        return self.own_messages if isinstance(self.own_messages, list) else None

    def mentions(self, _: str) -> bool:
        """Whether there are messages to look at: they are decoded."""
        return bool(self.messages())


def load_official(
    baseline: Path | None, rows: str | None, subset: str | None, advance: Advance = lambda _: None
) -> OfficialAnswers:
    """Read the official answers from a results file or from rows, whichever is given."""
    if baseline is not None:
        return official_of_results(baseline, subset, advance)
    return official_of_rows(str(rows), subset or "")


def official_of_rows(path: Path | str, subset: str) -> OfficialAnswers:
    """Read the official answers of rows, as `load_cases`; a row's `data_index` is its own, or its number."""
    digest, synthetic = hashlib.sha256(), False
    standard = read_standard(find_file(path, subset)) or preset_for(subset).standard
    official = OfficialAnswers(RowsInfo("", "", synthetic=False), standard, has_rows=True)
    for case in decode_each(read_records(path, subset), str(path), HistoryOptions(), digest):
        synthetic = synthetic or case.synthetic
        official.cases[case.data_index] = _of_row(official, case, subset)
    official.facts.rows = len(official.cases)
    official.info = RowsInfo(str(path), digest.hexdigest(), synthetic)
    return official


def official_of_cases(cases: Iterable[Case], facts: RunFacts) -> OfficialAnswers:
    """Take the official answers from the cases of a run."""
    official = OfficialAnswers(facts.rows, facts.standard, has_rows=True)
    for case in cases:
        official.cases[case.data_index] = _of_row(official, case, facts.subset)
    official.facts.rows = len(official.cases)
    return official


def _of_row(official: OfficialAnswers, case: Case, subset: str) -> OfficialCase:
    messages = case.messages()
    sent = marks_of({"messages": messages, "tools": case.tools()})
    # The case is decoded with its malformed arguments repaired, and says how many there were.
    marks = RequestMarks(sent.content, case.repairs.malformed_history, sent.ids)
    tools = case.tools_json if not tools_in(messages) else dumps_ascii(case.declared_tools()).encode()
    return OfficialCase(
        index=case.index,
        answer=case.official,
        marks=marks,
        tools_json=None if tools is None else official.tools_texts.setdefault(tools, tools),
        input_role=bool(case.repairs.input_role),
        parameters=official.parameters(official_parameters(subset, case.parameters)),
    )


def official_of_results(path: Path, subset: str | None, advance: Advance = lambda _: None) -> OfficialAnswers:
    """Read an official results file, or the one of a subset in the official archive.

    An answer is judged from the raw response, like the vendor's: one that is no completion is a failed
    official request. Of several lines of one `data_index` the newest counts, and no repeat. The subset tells
    the standard, and the member of the archive.

    Raises:
        DataError: If it cannot be read or holds no official answer.
        UsageError: If an archive is given without the subset.
    """
    standard = None if subset is None else preset_for(subset).standard
    official = OfficialAnswers(RowsInfo("", "", synthetic=False), standard, has_rows=False)
    run_at: dict[int, str | None] = {}
    with open_lines(path, member_of(path, subset), advance, digest=True) as lines:
        for result in read_results(lines, source=str(path)):
            if isinstance(result, BadLine) or result.data_index is None:
                official.facts.unusable.add(result.number)
                continue
            data_index = result.data_index
            again = data_index in run_at
            if again:
                official.facts.duplicates.add(data_index)
            if result.repeat == 0 and not (again and not is_newer(result.last_run_at, run_at[data_index])):
                run_at[data_index] = result.last_run_at
                official.cases[data_index] = _of_result(official, result, data_index)
        official.info = RowsInfo(str(path), lines.sha256(), synthetic=False)
    if not official.cases:
        raise DataError(
            f"{path}: holds no official result; expected one JSON object a line, with data_index, "
            "request, response and status"
        )
    official.facts.rows = len(official.cases)
    official.facts.failed = sum(case.answer is None for case in official.cases.values())
    return official


def _of_result(official: OfficialAnswers, result: Result, data_index: int) -> OfficialCase:
    body = result.body
    try:
        tools_json = dumps_ascii(body.get("tools") or []).encode()
    except RecursionError:
        # Nested so deeply that no call could be valid against it.
        tools_json = b"[]"
    response = read_completion(result.response) if result.succeeded else None
    answer = None
    if isinstance(response, Response):
        calls = response.finish_reason == "tool_calls"
        calls_json = dumps_ascii(response.tool_calls) if calls else None
        answer = OfficialAnswer(calls, response.finish_reason or "", calls_json)
    return OfficialCase(
        index=data_index - 1,
        answer=answer,
        marks=None if result.request is None else marks_of(body),
        tools_json=official.tools_texts.setdefault(tools_json, tools_json),
        parameters=official.parameters(None if result.request is None else body),
    )
