"""The published JSON Schema describes what `report` and `score` print, and nothing else."""

import copy
import json
from dataclasses import replace
from importlib import resources

import pytest
from jsonschema import Draft202012Validator
from support.planned_answers import answered

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass, Group
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.judging.judge import judge
from k2_verifier_adapter.core.log_facts import LogFacts, Places
from k2_verifier_adapter.core.metrics import DEFINITIONS, ERROR_RATE, FLIP_RATE
from k2_verifier_adapter.core.observed import Observed
from k2_verifier_adapter.core.presets import preset_for
from k2_verifier_adapter.core.redaction import redact_summary
from k2_verifier_adapter.core.responses import Response
from k2_verifier_adapter.core.run_facts import RowsInfo, RunFacts
from k2_verifier_adapter.core.summary import build_summary, count_repairs
from k2_verifier_adapter.core.tally import Tally
from k2_verifier_adapter.reports.json_report import dump_report
from k2_verifier_adapter.simulator import PROFILES
from k2_verifier_adapter.simulator.faults import TransportFault
from k2_verifier_adapter.simulator.planning import Planner, Slot

PACKAGE = resources.files("k2_verifier_adapter")
SCHEMA = json.loads(PACKAGE.joinpath("reports", "schema", "report.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
LINES = PACKAGE.joinpath("data", "bundled_rows.jsonl").read_text().splitlines()[::5]
ROWS = [json.loads(line) for line in LINES]
CASES = [decode_row(row, index, HistoryOptions()) for index, row in enumerate(ROWS)]


def summary_of_profile(profile, *, repeats=1, synthetic=True):
    """Judge what a simulated vendor would answer to some of the bundled rows."""
    planner = Planner(ROWS, CASES, profile, seed=1, model="m")
    tally, observed = Tally(), Observed()
    for number, case in enumerate(CASES):
        for repeat in range(repeats):
            plan = planner.plan(Slot("", 0, number, repeat, 1), stream=True)
            if isinstance(plan.fault, TransportFault):
                failure = Failure(plan.fault.failure_class, "simulated")
                tally.add_failed(FailedRequest(number, failure, plan.fault.status, repeat=repeat))
                continue
            response, anomalies = answered(plan, number)
            assert isinstance(response, Response)
            tally.add(number, judge(case, response, anomalies, token_limit=16_000))
            observed.add(response.completion, 0.25)
    facts = RunFacts(
        model="m",
        subset="k2_thinking",
        parameters={"temperature": 1.0, "stop": ["x"]},
        rows=RowsInfo("rows.jsonl", "ab" * 32, synthetic=synthetic),
        planned=len(CASES) * repeats,
        repeats=repeats,
        started_at="2026-11-22T10:00:00+00:00",
        finished_at=None,
        complete=False,
        endpoint_host=None,
        adapter="0.1.0",
        evalscope="",
        python="3.11.9",
        standard=preset_for("k2_thinking").standard,
        stopped="max_requests",
    )
    return build_summary(facts, tally, observed, count_repairs(CASES), minimums={"schema_accuracy": 0.95})


def problems(summary):
    """List what the schema says against a report, as it is printed."""
    return [error.message for error in VALIDATOR.iter_errors(json.loads(dump_report(summary)))]


def test_the_schema_is_one():
    """The published file is a valid schema of draft 2020-12."""
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_the_report_on_every_profile_fits(name):
    """Whatever a simulated vendor gets wrong, the report on it is as published; redacted as well."""
    summary = summary_of_profile(PROFILES[name], synthetic=name == "official")
    assert problems(summary) == []
    assert problems(redact_summary(summary)) == []


def test_repeats_a_results_file_and_an_empty_tally_fit():
    """The parts that only some reports have are as published, and so is a report without a number."""
    summary = summary_of_profile(PROFILES["broken"], repeats=2)
    places = Places()
    places.add(7)
    assert problems(replace(summary, log=LogFacts(lines=3, scored=3, duplicates=places))) == []
    empty = build_summary(
        replace(summary.facts, subset="", standard=None), Tally(), Observed(), summary.repairs
    )
    assert problems(empty) == []


def test_the_names_are_those_of_the_code():
    """Classes, groups and metrics of the schema are those that the code knows."""
    definitions = SCHEMA["$defs"]
    assert definitions["failure_class"]["enum"] == [kind.value for kind in FailureClass]
    failure = SCHEMA["properties"]["failures"]["items"]
    assert failure["properties"]["group"]["enum"] == [group.value for group in Group]
    names = {definition.name for definition in DEFINITIONS} | {ERROR_RATE, FLIP_RATE}
    assert set(SCHEMA["properties"]["metrics"]["properties"]) == names


def objects(value, path=()):
    """Walk through all objects of a report that are no free counters."""
    if isinstance(value, dict):
        yield path
        for key, item in value.items():
            yield from objects(item, (*path, key))
    elif isinstance(value, list):
        for position, item in enumerate(value[:1]):
            yield from objects(item, (*path, position))


COUNTERS = {"parameters", "others_detail", "models", "providers", "system_fingerprints"}


def test_nothing_else_is_accepted():
    """A name that is not published is refused everywhere, and a missing one too."""
    report = json.loads(dump_report(summary_of_profile(PROFILES["broken"])))
    for path in objects(report):
        if path and (path[-1] in COUNTERS or COUNTERS & set(map(str, path))):
            continue
        changed = copy.deepcopy(report)
        target = changed
        for step in path:
            target = target[step]
        target["unpublished"] = 1
        assert not VALIDATOR.is_valid(changed), path
    for name in report:
        assert not VALIDATOR.is_valid({key: value for key, value in report.items() if key != name}), name
