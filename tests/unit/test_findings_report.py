"""How the reports show probable causes, what-if and tools."""

from __future__ import annotations

import json

import pytest
from judged_answers import LEAKED, call, judged, tally_of, text
from support.rendered import render_text

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.judgement import ToolUse
from k2_verifier_adapter.core.observed import Observed
from k2_verifier_adapter.core.presets import preset_for
from k2_verifier_adapter.core.run_facts import RowsInfo, RunFacts
from k2_verifier_adapter.core.summary import build_summary
from k2_verifier_adapter.core.tally import Tally
from k2_verifier_adapter.reports.json_report import MAX_TOOLS, dump_report, report_as_json, tools_as_json


def summary_of(tally, *, synthetic=False, observed=None):
    """Summarize a tally of the subset `k2_thinking`."""
    facts = RunFacts(
        model="kimi",
        subset="k2_thinking",
        parameters={},
        rows=RowsInfo("rows.jsonl", "ab" * 32, synthetic=synthetic),
        planned=tally.counts.completed + tally.failed,
        repeats=1,
        started_at="",
        finished_at="",
        complete=True,
        endpoint_host=None,
        adapter="1",
        evalscope="1.14.1",
        python="3.11",
        standard=preset_for("k2_thinking").standard,
    )
    return build_summary(facts, tally, observed or Observed(), {})


def leaking():
    """Give a tally with leaks in six of fifteen responses, and three that break the schema."""
    return tally_of(*[judged(call())] * 6, *[text(LEAKED)] * 6, *[judged(call("{}"))] * 3)


def test_the_json_report_holds_causes_what_if_and_tools():
    """Each finding stands there with its evidence, its effect and its advice."""
    report = json.loads(dump_report(summary_of(leaking())))
    first, second = report["findings"]
    assert (first["finding"], second["finding"]) == ("tool_parser_leaks", "no_guided_decoding")
    assert (first["count"], first["of"], first["cases"]) == (6, 15, [6, 7, 8, 9, 10, 11])
    assert first["classes"] == {"markup_in_content": 6}
    assert first["explains"]["trigger_similarity"] == 1.0
    # No fix lifts it above what the official model reaches with itself.
    assert first["if_fixed"]["trigger_similarity"] == 0.76
    assert second["if_fixed"] == {"trigger_similarity": 0.75, "schema_accuracy": 1.0}
    assert all(isinstance(check, str) for check in first["check"])
    assert report["what_if"] == {
        "missing_required": {"trigger_similarity": 0.75, "schema_accuracy": 1.0},
        "markup_in_content": {"trigger_similarity": 0.76, "schema_accuracy": 0.8},
    }
    assert report["tools"] == [
        {
            "tool": "get_weather",
            "calls": 9,
            "invalid": 3,
            "failures": {"markup_in_content": 6, "missing_required": 3},
        }
    ]


def test_the_text_report_shows_them_in_80_columns():
    """Hypothesis, evidence, effect, cases and advice fit the width, and tools have their table."""
    shown = render_text(summary_of(leaking()))
    assert max(map(len, shown.splitlines())) <= 80
    joined = " ".join(shown.split())
    assert "Probable causes 1. The tool parser probably lets some calls through" in joined
    assert "6 of 15 responses carry K2 markup in their content (100 % of them with a valid call)" in joined
    assert "If fixed: trigger_similarity from 75.00% to 76.00%" in joined
    assert "explains 100.00% of the loss" not in joined
    assert "Cases (rows, from 0): 6, 7, 8, 9, 10, 11" in joined
    assert "- vLLM: update;" in joined
    assert "get_weather 9 3 markup_in_content 6, missing_required 3" in joined


def test_a_vendor_without_failures_has_no_such_sections():
    """Where nothing failed, neither causes nor tools are shown."""
    summary = summary_of(tally_of(judged(call()), text(official=False)))
    shown = render_text(summary)
    assert "Probable causes" not in shown
    assert "Tools that fail" not in shown
    report = report_as_json(summary)
    assert (report["findings"], report["what_if"], report["tools"]) == ([], {}, [])


def test_an_empty_run_is_shown():
    """A report without any response has no causes and breaks nothing."""
    assert "Probable causes" not in render_text(summary_of(Tally()))


@pytest.mark.parametrize(("synthetic", "found"), [(True, True), (False, False)])
def test_noise_is_allowed_for_on_real_rows_only(synthetic, found):
    """On real rows the official model differs from itself; a simulated one does not."""
    tally = tally_of(*[text()] * 10, *[judged(call())] * 90, *[judged(call(), official=False)] * 10)
    assert bool(summary_of(tally, synthetic=synthetic).findings) == found


def test_tools_in_the_report_are_bounded():
    """Of many failing tools the worst are listed."""
    tally = tally_of(judged(call("{}")))
    for number in range(MAX_TOOLS + 5):
        uses = [ToolUse(f"tool_{number:03}", 1, 1)] * (2 if number == 7 else 1)
        tally.tools.add(uses, [])
        tally.tools.by_name[f"tool_{number:03}"].responses[FailureClass.WRONG_TYPE] += 1
    listed = tools_as_json(summary_of(tally))
    assert len(listed) == MAX_TOOLS
    assert listed[0]["tool"] == "tool_007"


def test_names_of_tools_cannot_steer_a_terminal():
    """A tool's name from the wire is printed without control characters."""
    shown = render_text(summary_of(tally_of(*[judged(call("{}", "\x1b[2Jevil\n" + "x" * 500))] * 3)))
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_several_served_models_are_a_finding():
    """A router that falls back is told, beside the warning."""
    observed = Observed()
    for model in ("kimi", "kimi", "other"):
        observed.add({"model": model}, None)
    summary = summary_of(tally_of(*[judged(call())] * 3), observed=observed)
    assert [finding.rule for finding in summary.findings] == ["router_falls_back"]


def test_answers_after_retries_are_counted():
    """What took more than one attempt is seen, though it changes no metric."""
    observed = Observed()
    for attempts in (1, 2, 3, 2):
        observed.add({}, None, attempts=attempts)
    summary = summary_of(tally_of(*[judged(call())] * 4), observed=observed)
    (finding,) = summary.findings
    assert (finding.rule, finding.count) == ("needs_retries", 3)
