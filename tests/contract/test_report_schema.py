"""The published JSON Schema describes what `report` and `score` print, and nothing else."""

import json
from dataclasses import replace

import pytest
from support.planned_answers import answered
from support.published import Published
from support.runs import bundled_rows

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

SCHEMA = Published("report")
ROWS = bundled_rows()[::5]
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
    return build_summary(facts, tally, observed, count_repairs(CASES))


def problems(summary):
    """List what the schema says against a report, as it is printed."""
    return SCHEMA.problems(json.loads(dump_report(summary)))


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
    definitions = SCHEMA.content["$defs"]
    assert definitions["failure_class"]["enum"] == [kind.value for kind in FailureClass]
    failure = SCHEMA.content["properties"]["failures"]["items"]
    assert failure["properties"]["group"]["enum"] == [group.value for group in Group]
    names = {definition.name for definition in DEFINITIONS} | {ERROR_RATE, FLIP_RATE}
    assert set(SCHEMA.content["properties"]["metrics"]["properties"]) == names


def test_nothing_else_is_accepted():
    """A name that is not published is refused everywhere, and a missing one too."""
    report = json.loads(dump_report(summary_of_profile(PROFILES["broken"])))
    counters = ("parameters", "others_detail", "models", "providers", "system_fingerprints", "gateways")
    free = ("classes", "what_if", "failures", *(f"{name}: *" for name in counters))
    assert SCHEMA.accepted_changes(report, *free) == []
