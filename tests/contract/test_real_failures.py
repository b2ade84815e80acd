"""The real logs' failures, each looked at by hand: which class is it?

The logs are of other models than K2 and of other schemas. Their content stays where it is: here are
line numbers and class names only.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.history import HistoryOptions, MalformedHistory
from k2_verifier_adapter.core.judgement import Judgement
from k2_verifier_adapter.core.judging.judge import judge
from k2_verifier_adapter.core.requests import token_limit_of
from k2_verifier_adapter.core.responses import Response, read_completion
from k2_verifier_adapter.formats.upstream import note_of_error

REALDATA = os.environ.get("K2_VERIFIER_REALDATA")
pytestmark = pytest.mark.skipif(not REALDATA, reason="K2_VERIFIER_REALDATA is not set")

OFFICIAL = "deepseek_official_results.jsonl"
VENDOR = "deepseek_novita_results.jsonl"

IDS = "nonstandard_tool_call_id"
"""Neither of the two endpoints gives ids of K2's form, so that every call has this one."""

# File, data_index, classes beside the ids, primary class.
INVALID = [
    (OFFICIAL, 13, {"empty_arguments"}, "empty_arguments"),
    (OFFICIAL, 44, {"empty_arguments"}, "empty_arguments"),
    (OFFICIAL, 176, {"missing_required"}, "missing_required"),
    (OFFICIAL, 365, {"empty_arguments"}, "empty_arguments"),
    (VENDOR, 344, {"broken_tool_schema"}, "broken_tool_schema"),
]
FAILED = [(OFFICIAL, 344, "http_4xx")]


@cache
def _log(name: str) -> dict[int, dict[str, Any]]:
    lines = (Path(REALDATA or "") / name).read_text(encoding="utf-8").splitlines()
    return {record["data_index"]: record for record in map(json.loads, lines)}


def _judged(record: dict[str, Any], should_call: bool) -> Judgement:
    row = {
        "messages": record["request"]["messages"],
        "tools": record["request"].get("tools"),
        "should_call_tool": should_call,
    }
    case = decode_row(row, record["data_index"] - 1, HistoryOptions(MalformedHistory.KEEP))
    response = read_completion(record["response"])
    assert isinstance(response, Response)
    return judge(case, response, token_limit=token_limit_of(record["request"]))


def _classes(judgement: Judgement) -> set[str]:
    return {failure.failure_class.value for failure in judgement.failures}


@pytest.mark.parametrize(("name", "data_index", "classes", "primary"), INVALID)
def test_an_invalid_line_has_the_class_that_a_person_gave_it(name, data_index, classes, primary):
    """The classes of an invalid line are those found by hand; none is a rest class."""
    judgement = _judged(_log(name)[data_index], should_call=True)
    assert judgement.tool_calls_valid is False
    assert _classes(judgement) == classes | {IDS}
    assert judgement.primary is not None
    assert judgement.primary.value == primary
    assert not any(found.startswith("other_") for found in _classes(judgement))


@pytest.mark.parametrize("name", [OFFICIAL, VENDOR])
def test_no_invalid_line_is_missing_here(name):
    """The list above holds every line that its log, or this project, calls invalid or failed."""
    listed = {index for log, index, *_ in [*INVALID, *FAILED] if log == name}
    failed = {index for index, record in _log(name).items() if record["status"] != "success"}
    assert failed == {index for log, index, _ in FAILED if log == name}
    invalid = {
        index
        for index, record in _log(name).items()
        if index not in failed
        and (
            record["tool_calls_valid"] is False or _judged(record, should_call=True).tool_calls_valid is False
        )
    }
    assert failed | invalid == listed


@pytest.mark.parametrize(("name", "data_index", "expected"), FAILED)
def test_a_failed_line_has_its_transport_class(name, data_index, expected):
    """A failed request of the logs is classed by the error text that its line holds."""
    failure_class = note_of_error(_log(name)[data_index]["response"]["error"]).failure_class
    assert failure_class is not None
    assert failure_class.value == expected


def test_the_vendors_other_lines_show_nothing_but_ids_and_decisions():
    """Read by hand, the other lines are plain text or valid calls: 39 calls missed, 22 too many."""
    invalid = {(name, index) for name, index, *_ in INVALID}
    decisions = {"missed_call": 0, "extra_call": 0}
    for data_index, record in _log(VENDOR).items():
        official = _log(OFFICIAL)[data_index]
        if official["status"] != "success" or (VENDOR, data_index) in invalid:
            continue
        found = _classes(_judged(record, should_call=official["finish_reason"] == "tool_calls"))
        for decision in decisions.keys() & found:
            decisions[decision] += 1
        assert found - decisions.keys() == ({IDS} if record["finish_reason"] == "tool_calls" else set())
    assert decisions == {"missed_call": 39, "extra_call": 22}


def test_the_official_runs_other_lines_show_nothing_but_ids():
    """Against its own decisions the official run shows no failure beside the ids and the lines above."""
    listed = {index for name, index, *_ in [*INVALID, *FAILED] if name == OFFICIAL}
    for data_index, record in _log(OFFICIAL).items():
        if data_index not in listed:
            called = record["finish_reason"] == "tool_calls"
            assert _classes(_judged(record, should_call=called)) == ({IDS} if called else set())
