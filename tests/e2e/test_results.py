"""What EvalScope reports equals what the simulated vendor knows it did."""

from __future__ import annotations

import json
from math import sqrt

import pytest
from evalscope.api.evaluator.cache import ModelResult
from evalscope.report import Report, gen_table, get_report_list
from evalscope.report.data_frames import get_model_prediction
from support.runs import (
    EVALSCOPES_WARNINGS,
    MODEL,
    bundled_rows,
    evalscope_eval,
    evaluate,
    judged,
    metadata_of,
    report_of,
    values_of,
)

from k2_verifier_adapter.simulator import PROFILES, SimulatedVendor
from k2_verifier_adapter.simulator.truth import tool_calls_valid

pytestmark = EVALSCOPES_WARNINGS

ROWS = bundled_rows()
NAMES = [
    "trigger_similarity",
    "schema_accuracy",
    "call_surplus",
    "count_finish_reason_tool_calls",
    "count_successful_tool_call",
    "tool_call_precision",
    "tool_call_recall",
    "count_finish_reason_stop",
    "count_finish_reason_others",
    "schema_validation_error_count",
    "official_similarity",
    "tool_name_agreement",
    "argument_agreement",
    "inference_error_rate",
]
ENDS = {"truncated_by_length": "length", "content_filtered": "content_filter"}
"""Faults that leave no trace where the official answer ends as they would have it end."""


class Finished:
    """A run that ended, and the truth about it."""

    def __init__(self, run, vendor, report, output=""):
        self.run, self.vendor, self.report, self.output = run, vendor, report, output
        self.totals = vendor.truth.totals()


@pytest.fixture(scope="module", params=["official", "noisy", "broken"])
def finished(request, tmp_path_factory):
    """A run over all bundled rows; `broken` through the stock command, the others in this process."""
    run = tmp_path_factory.mktemp(request.param)
    vendor = SimulatedVendor(ROWS, PROFILES[request.param], seed=3)
    with vendor.running() as endpoint:
        if request.param != "broken":
            return Finished(run, vendor, evaluate(endpoint.url, run, page=True))
        done = evalscope_eval(endpoint.url, run)
    assert done.returncode == 0, done.stderr
    return Finished(run, vendor, report_of(run), done.stdout + done.stderr)


def _ratio(numerator, denominator):
    return (round(numerator / denominator, 4), denominator)


def _official_similarity(answers):
    """1 - Euclidean distance of the five counts / N, from the ledger and the rows alone."""

    def five(finish_reasons, valid):
        calls = finish_reasons.count("tool_calls")
        others = sum(reason not in ("stop", "tool_calls", None) for reason in finish_reasons)
        return finish_reasons.count("stop"), calls, others, calls - valid, valid

    rows = [ROWS[answer.case_index] for answer in answers]
    official_valid = sum(
        bool(tool_calls_valid("tool_calls", json.loads(row["official_tool_calls"]), json.loads(row["tools"])))
        for row in rows
        if row["should_call_tool"]
    )
    ours = five([answer.finish_reason for answer in answers], sum(bool(a.tool_calls_valid) for a in answers))
    official = five([row["official_finish_reason"] for row in rows], official_valid)
    distance = sqrt(sum((a - b) ** 2 for a, b in zip(ours, official, strict=True)))
    return (round(1 - distance / len(answers), 4), len(answers))


def test_every_number_is_the_truth(finished):
    """Rates, counts and denominators in EvalScope's report equal the vendor's ledger exactly."""
    totals, values = finished.totals, values_of(finished.report)
    tp, fp, fn = totals.tp, totals.fp, totals.fn
    completed, reasons = totals.completed, totals.finish_reasons
    calls = reasons["tool_calls"]
    assert completed + totals.failed == len(ROWS)
    expected = {
        "trigger_similarity": (round(2 * tp / (2 * tp + fp + fn), 4), tp + fp + fn),
        "schema_accuracy": _ratio(totals.count_successful_tool_call, calls),
        "call_surplus": _ratio(fp - fn, tp + fn),
        "count_finish_reason_tool_calls": (calls, completed),
        "count_successful_tool_call": (totals.count_successful_tool_call, completed),
        "tool_call_precision": _ratio(tp, tp + fp),
        "tool_call_recall": _ratio(tp, tp + fn),
        "count_finish_reason_stop": (reasons["stop"], completed),
        "count_finish_reason_others": (
            sum(count for reason, count in reasons.items() if reason not in ("stop", "tool_calls", "null")),
            completed,
        ),
        "schema_validation_error_count": (totals.schema_validation_error_count, completed),
        "official_similarity": _official_similarity(
            [a for a in finished.vendor.truth.answers if a.completed]
        ),
        "inference_error_rate": _ratio(totals.failed, len(ROWS)),
    }
    assert {name: values[name] for name in expected} == expected


def test_the_metrics_have_their_own_names(finished):
    """The report holds exactly the declared metrics, in order, `trigger_similarity` as its conclusion."""
    assert [metric.identity.name for metric in finished.report.metrics] == NAMES
    assert finished.report.primary_metric.identity.name == "trigger_similarity"
    assert finished.report.score == finished.report.primary_metric.score


@pytest.mark.parametrize("finished", ["broken"], indirect=True)
def test_the_stock_command_ends_with_the_verdict(finished):
    """The last line of `evalscope eval` is the verdict with its numbers and where the page is."""
    last = finished.output.rstrip().splitlines()[-1]
    value = values_of(finished.report)["trigger_similarity"][0]
    assert last.startswith("k2_thinking: verdict none (synthetic rows: no verdict); trigger_similarity ")
    assert f"trigger_similarity {value:.2%}"[:-3] in last
    assert last.endswith("reports/kimi/k2_verifier/k2_thinking.html")


def test_table_json_and_page_show_the_names(finished):
    """EvalScope's table, its JSON and its HTML page call the metrics by their own names."""
    (report,) = get_report_list([str(finished.run / "reports" / MODEL)])
    assert isinstance(report, Report)
    table = gen_table(report_list=[report], add_overall_metric=True)
    page = (finished.run / "reports" / "report.html").read_text(encoding="utf-8")
    text = (finished.run / "reports" / MODEL / "k2_verifier.json").read_text(encoding="utf-8")
    for name in NAMES:
        for place in (table, page, text):
            assert name in place, name
    for hidden in ("Similarity", "Accuracy"):
        assert f"| {hidden} " not in table


def test_confusion_and_interval_are_in_the_metadata(finished):
    """Each metric's metadata holds the confusion counts; each rate's the interval around its value."""
    totals = finished.totals
    for metric in finished.report.metrics:
        metadata = metadata_of(finished.report, metric.identity.name)
        assert metadata["confusion"] == {"tp": totals.tp, "fp": totals.fp, "fn": totals.fn, "tn": totals.tn}
        assert (metadata["completed"], metadata["failed"]) == (totals.completed, totals.failed)
        name = metric.identity.name
        if name.startswith("count_") or name in ("schema_validation_error_count", "official_similarity"):
            assert "interval" not in metadata
        else:
            interval = metadata["interval"]
            assert interval["low"] - 5e-5 <= metric.score <= interval["high"] + 5e-5, name
            least, most = (-1, float("inf")) if name == "call_surplus" else (0, 1)
            assert least <= interval["low"] <= interval["high"] <= most
            assert interval["confidence"] == 0.95
    assert metadata_of(finished.report, "trigger_similarity")["interval"]["method"] == "f1_logit"
    assert metadata_of(finished.report, "schema_accuracy")["interval"]["method"] == "wilson"


def test_the_run_is_described(finished):
    """The primary metric's metadata says which rows, which parameters and which adapter."""
    metadata = metadata_of(finished.report, "trigger_similarity")
    assert metadata["rows"]["source"] == "bundled"
    assert metadata["rows"]["synthetic"] is True
    assert metadata["parameters"]["model"] == MODEL
    assert metadata["parameters"]["stream"] is True
    assert 5 <= metadata["repaired_cases"] < len(ROWS)


def test_synthetic_rows_are_labelled(finished):
    """Name and description of the report say that the rows are synthetic."""
    assert finished.report.dataset_pretty_name == "K2 Vendor Verifier (synthetic rows)"
    assert finished.report.dataset_description.startswith("**Synthetic rows: no verdict.**")
    assert "(synthetic rows)" in (finished.run / "reports" / "report.html").read_text(encoding="utf-8")


def test_the_execution_summary_counts_failed_requests(finished):
    """EvalScope's summary is incomplete exactly when requests failed, and counts them."""
    summary, totals = finished.report.execution_summary, finished.totals
    assert (summary.requested, summary.succeeded, summary.errored) == (
        len(ROWS),
        totals.completed,
        totals.failed,
    )
    assert summary.incomplete == (totals.failed > 0)
    assert list(summary.subsets) == ["k2_thinking"]


def test_every_case_is_judged_as_the_vendor_meant_it(finished):
    """Case by case, the stored judgement agrees with the ledger, and names the fault that was put in."""
    judgements = judged(finished.run)
    answers = {a.case_index: a for a in finished.vendor.truth.answers if a.completed}
    assert {case for case, _ in judgements} == set(answers)
    for (case, _), judgement in judgements.items():
        answer = answers[case]
        assert judgement["finish_reason"] == answer.finish_reason, case
        assert judgement["tool_calls_valid"] == answer.tool_calls_valid, case
        assert judgement["should_call"] == answer.official_call, case
        fault = None if answer.failure_class is None else answer.failure_class.value
        if fault is None or ENDS.get(fault) == ROWS[case]["official_finish_reason"]:
            assert judgement["failures"] == [], case
        else:
            assert judgement["primary"] == fault, case


def test_evalscopes_readers_take_the_files(finished):
    """Predictions load as `ModelResult`, reviews through EvalScope's own data frame."""
    path = finished.run / "predictions" / MODEL / "k2_verifier_k2_thinking.jsonl"
    lines = path.read_text(encoding="ascii").splitlines()
    results = [ModelResult.model_validate(json.loads(line)) for line in lines]
    assert len({result.index for result in results}) == finished.totals.completed
    frame = get_model_prediction(str(finished.run), MODEL, "k2_verifier", "k2_thinking")
    assert len(frame) == finished.totals.completed
    assert {json.loads(line)["model_output"]["model"] for line in lines} == {MODEL}


def test_the_command_logs_what_serves_and_what_is_sent(finished):
    """The stock command's log says once which adapter serves, and what the requests carry."""
    log = (finished.run / "logs" / "eval_log.log").read_text(encoding="utf-8")
    assert log.count("k2_verifier is served by k2-verifier-adapter") == 1
    assert log.count("k2_thinking: sent with {'model': 'kimi', 'stream': True") == 1
    assert log.count("10 rows hold 10 historical calls whose arguments are not JSON") == 1
    assert "240 SYNTHETIC rows from bundled" in log
