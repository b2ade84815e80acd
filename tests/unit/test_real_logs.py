"""Known answers: real logs judged as they were, and the published figures recomputed."""

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.counts import SHARE_UNIT, Counts
from k2_verifier_adapter.core.history import HistoryOptions, MalformedHistory
from k2_verifier_adapter.core.judging.judge import judge
from k2_verifier_adapter.core.metrics import compute_metrics, official_similarity
from k2_verifier_adapter.core.requests import upstream_hash
from k2_verifier_adapter.core.responses import FinishBucket, Response, read_completion
from k2_verifier_adapter.core.tally import Tally

REALDATA = os.environ.get("K2_VERIFIER_REALDATA")
needs_realdata = pytest.mark.skipif(not REALDATA, reason="K2_VERIFIER_REALDATA is not set")


def log(name: str) -> list[dict[str, Any]]:
    """Read one results file."""
    return [json.loads(line) for line in (Path(REALDATA or "") / name).read_text().splitlines()]


def judged(record: dict[str, Any], should_call: bool = False) -> Any:
    """Judge one line of a log against its own request; None if it holds no completion."""
    row = {
        "messages": record["request"]["messages"],
        "tools": record["request"].get("tools"),
        "should_call_tool": should_call,
    }
    case = decode_row(row, record["data_index"] - 1, HistoryOptions(MalformedHistory.KEEP))
    response = read_completion(record["response"])
    return judge(case, response) if isinstance(response, Response) else None


@needs_realdata
@pytest.mark.parametrize("name", ["deepseek_official_results.jsonl", "deepseek_novita_results.jsonl"])
def test_every_real_line_is_judged_as_its_log_says(name: str) -> None:
    """Each of the 512 lines keeps its finish_reason and its `tool_calls_valid`."""
    records = log(name)
    assert len(records) == 512
    compared = Counter[Any]()
    for record in records:
        judgement = judged(record)
        assert (judgement is None) == (record["status"] != "success"), record["data_index"]
        if judgement is None:
            continue
        assert judgement.finish_reason == record["finish_reason"]
        if record["finish_reason"] == "tool_calls":
            # A log that lacks the field, or counts an empty list as invalid, says False or None.
            assert (judgement.tool_calls_valid is True) == (record["tool_calls_valid"] is True), record[
                "data_index"
            ]
        compared[judgement.tool_calls_valid] += 1
    assert compared[True] > 400
    assert compared[False] > 0


@needs_realdata
def test_the_real_vendor_against_the_real_official_run() -> None:
    """TP 412, FP 22, FN 39, TN 38 and F1 0.9311, the failed official request left out."""
    official = {record["data_index"]: record for record in log("deepseek_official_results.jsonl")}
    tally = Tally()
    for record in log("deepseek_novita_results.jsonl"):
        reference = official[record["data_index"]]
        if reference["status"] == "success":
            judgement = judged(record, reference["finish_reason"] == "tool_calls")
            if judgement is not None:
                tally.add(record["data_index"] - 1, judgement)
    counts = tally.counts
    assert (counts.tp, counts.fp, counts.fn, counts.tn) == (412, 22, 39, 38)
    metrics = {metric.name: metric for metric in compute_metrics(tally)}
    assert round(metrics["trigger_similarity"].value or 0, 4) == 0.9311


@needs_realdata
def test_the_hash_of_real_requests() -> None:
    """The hash of a logged request is the one in the log."""
    records = log("deepseek_official_results.jsonl")
    assert all(upstream_hash(record["request"]) == record["hash"] for record in records)


# stop, tool_calls, others, schema errors, successful; published similarity in percent.
OFFICIAL_0905_OCTOBER = (2679, 1286, 35, 0, 1286)
VENDORS_0905_OCTOBER = {
    "Moonshot AI Turbo": ((2659, 1301, 40, 0, 1301), 99.26),
    "NovitaAI": ((2717, 1279, 4, 195, 1084), 92.87),
    "Groq": ((2739, 989, 26, 0, 989), 89.39),
    "Fireworks": ((2546, 1443, 8, 347, 1096), 88.83),
    "Baseten": ((2598, 1396, 6, 358, 1038), 88.57),
    "DeepInfra": ((2552, 1446, 2, 374, 1072), 88.05),
    "Volc": ((2572, 1368, 60, 376, 992), 87.59),
    "Together": ((2725, 1271, 1, 369, 902), 86.6),
    "SiliconFlow": ((2626, 985, 389, 1, 984), 86.08),
    "Infinigence": ((2729, 860, 411, 2, 858), 82.17),
    "Nebius": ((3327, 633, 37, 82, 551), 70.49),
    "Chutes": ((3866, 131, 0, 27, 104), 49.12),
    "AtlasCloud": ((3867, 128, 2, 33, 95), 48.93),
}


@pytest.mark.parametrize("vendor", VENDORS_0905_OCTOBER)
def test_official_similarity_equals_the_published_value(vendor: str) -> None:
    """1 - distance / 4000 gives the value that upstream published, to two decimals of a percent."""
    (stop, calls, others, errors, successful), published = VENDORS_0905_OCTOBER[vendor]
    ostop, ocalls, oothers, _, osuccessful = OFFICIAL_0905_OCTOBER
    counts = Counts(
        completed=4000,
        stop=stop,
        tool_calls=calls,
        others=others,
        successful=successful,
        official_stop=ostop,
        official_tool_calls=ocalls,
        official_others=oothers,
        official_successful=osuccessful,
    )
    assert counts.schema_errors == errors
    value = official_similarity(counts)
    assert value is not None
    assert round(100 * value, 2) == published


# responses that call, successful ones; published schema accuracy in percent.
SCHEMA_ACCURACIES = [
    (1274, 1274, 100.0), (1296, 1296, 100.0), (1405, 1405, 100.0), (1249, 1249, 100.0), (1263, 1263, 100.0),
    (1280, 1276, 99.69), (1225, 1187, 96.9), (1325, 1007, 76.0), (1269, 928, 73.13), (1294, 945, 73.03),
    (1272, 925, 72.72), (1363, 982, 72.05), (1260, 900, 71.43), (1344, 962, 71.58), (1443, 1443, 100.0),
    (1016, 1016, 100.0), (636, 549, 86.32),
    (1958, 1958, 100.0), (1984, 1984, 100.0), (1703, 1703, 100.0), (1827, 1825, 99.89), (2119, 2097, 98.96),
    (1850, 1775, 95.95), (1878, 1798, 95.74), (1874, 1790, 95.52), (2128, 1856, 87.22), (2108, 1837, 87.14),
    (2071, 1800, 86.91), (1945, 1668, 85.76), (1893, 1602, 84.63), (1778, 1715, 96.46), (3657, 3037, 83.05),
    (1494, 1494, 100.0),
    (1398, 1398, 100.0), (1365, 1365, 100.0), (1453, 1453, 100.0), (1257, 1257, 100.0), (1299, 1299, 100.0),
    (1305, 1302, 99.77), (1271, 1229, 96.7), (1330, 969, 72.86), (1243, 901, 72.49), (1277, 925, 72.44),
    (1266, 911, 71.96), (1042, 1042, 100.0), (644, 544, 84.47),
]  # fmt: skip


@pytest.mark.parametrize(("calls", "successful", "published"), SCHEMA_ACCURACIES)
def test_schema_accuracy_equals_the_published_value(calls: int, successful: int, published: float) -> None:
    """Successful over calling responses gives the value that upstream published."""
    counts = Counts(completed=4000, tool_calls=calls, successful=successful)
    (metric,) = [item for item in compute_metrics(Tally(counts=counts)) if item.name == "schema_accuracy"]
    assert metric.value is not None
    assert round(100 * metric.value, 2) == published
    assert metric.n == calls
    assert metric.interval is not None
    assert metric.interval.low <= metric.value <= metric.interval.high


def test_undefined_metrics_are_none() -> None:
    """With nothing completed, no rate has a value; counts are 0."""
    for metric in compute_metrics(Tally()):
        is_count = metric.name.startswith(("count_", "schema_validation"))
        assert metric.value == (0 if is_count else None), metric.name
        assert metric.interval is None


def test_metrics_by_hand() -> None:
    """The definitions, computed once by hand."""
    counts = Counts(
        completed=20, tp=6, fp=2, fn=3, tn=9, stop=10, tool_calls=8, others=1, successful=5,
        official_stop=11, official_tool_calls=9, official_successful=9,
        name_pairs=4, name_matches=3, argument_pairs=2,
        argument_units=3 * SHARE_UNIT // 2, argument_square_units=5 * SHARE_UNIT**2 // 4,
    )  # fmt: skip
    metrics = {metric.name: metric for metric in compute_metrics(Tally(counts=replace(counts, failed=5)))}
    expected = {
        "trigger_similarity": (12 / 17, 11),
        "schema_accuracy": (5 / 8, 8),
        "call_surplus": (-1 / 9, 9),
        "count_finish_reason_tool_calls": (8, 20),
        "count_successful_tool_call": (5, 20),
        "tool_call_precision": (6 / 8, 8),
        "tool_call_recall": (6 / 9, 9),
        "count_finish_reason_stop": (10, 20),
        "count_finish_reason_others": (1, 20),
        "schema_validation_error_count": (3, 20),
        "official_similarity": (1 - (1 + 1 + 1 + 9 + 16) ** 0.5 / 20, 20),
        "tool_name_agreement": (3 / 4, 4),
        "argument_agreement": (0.75, 2),
        "inference_error_rate": (5 / 25, 25),
    }
    assert {name: (metric.value, metric.n) for name, metric in metrics.items()} == expected
    assert {bucket.value for bucket in FinishBucket} == {"stop", "tool_calls", "others", "missing"}
