"""The report on the probes of a run as JSON: this package's form, and the one of Moonshot's own suite."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from k2_verifier_adapter.core.conformance.probes import Mode
from k2_verifier_adapter.core.conformance.results import (
    Conformance,
    Outcome,
    ProbeResult,
    Share,
    SuiteResult,
    decide,
)
from k2_verifier_adapter.core.conformance.schemas import TOOL_NAME
from k2_verifier_adapter.reports.json_report import dump_json

SCHEMA_VERSION = 1


def dump_conformance(found: Conformance) -> str:
    """Give the report's text."""
    return dump_json(conformance_as_json(found))


def conformance_as_json(found: Conformance) -> dict[str, Any]:
    """Give the report's content; `reports/schema/conformance.schema.json` describes it."""
    facts = found.facts
    prompt, completion = found.tokens
    return {
        "schema_version": SCHEMA_VERSION,
        "model": facts.model,
        "profile": found.profile.name,
        "status": found.status.value,
        "gate": found.gate,
        "exit_code": decide(found).code,
        "complete": all(suite.facts.complete for suite in found.suites),
        "attempts": facts.repeats,
        "suites": [_suite(suite) for suite in found.suites],
        "token_offset": found.token_offset,
        "causes": [
            {
                "name": cause.name,
                "hypothesis": cause.hypothesis,
                "advice": list(cause.advice),
                "probes": [result.case.name for result in results],
            }
            for cause, results in found.causes.items()
        ],
        "probes": [result.as_json() for result in found.results],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion},
        "provenance": {
            "endpoint_host": facts.endpoint_host,
            "started_at": facts.started_at,
            "finished_at": facts.finished_at,
            "parameters": dict(facts.parameters),
            "adapter": facts.adapter,
            "evalscope": facts.evalscope,
            "python": facts.python,
        },
    }


def _suite(suite: SuiteResult) -> dict[str, Any]:
    rows = suite.facts.rows
    return {
        "name": suite.name,
        "status": suite.status.value,
        "source": rows.source,
        "sha256": rows.sha256,
        "left_out": dict(suite.left_out),
        **{mode.value: _share(suite.share(mode)) for mode in Mode},
    }


def _share(share: Share) -> dict[str, int]:
    return {
        "passed": share.passed,
        "passed_eventually": share.eventually,
        "answered": share.answered,
        "total": share.total,
    }


_KVV_STATUS = {Outcome.PASSED: "passed", Outcome.FLAKY: "passed"}
"""Moonshot's suite is run again where it fails, and its last word counts."""


def dump_kvv(found: Conformance) -> str:
    """Give the probes that were made of schemas in the form of Moonshot's `tool-call-schema-report.json`.

    Source: MoonshotAI/Kimi-Vendor-Verifier, tests/tool_call_json_schema/conftest.py.
    """
    results = [_kvv_result(result) for result in found.results if result.case.probe.selection]
    results.sort(key=lambda result: (result["suite"], result["line"], result["mode"]))
    cases = {
        (result["suite"], result["line"]): {
            name: result[name] for name in ("suite", "line", "selection_reason", "schema")
        }
        for result in results
    }
    by_mode: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        by_mode[result["mode"]][result["status"]] += 1
    facts = found.facts
    report = {
        "generated_at": facts.finished_at or facts.started_at,
        "model": facts.model,
        "base_url": facts.endpoint_host,
        "tool_name": TOOL_NAME,
        "dry_run": False,
        "thinking": bool(found.profile.reasoning_fields),
        "think_mode": found.profile.name,
        "modes": sorted(by_mode),
        "selected_cases": list(cases.values()),
        "summary": {
            "total": len(results),
            "by_status": _counted(result["status"] for result in results),
            "by_selection_reason": _counted(result["selection_reason"] for result in results),
            "by_mode": {mode: dict(sorted(counts.items())) for mode, counts in sorted(by_mode.items())},
        },
        "results": results,
    }
    return dump_json(report)


def _kvv_result(result: ProbeResult) -> dict[str, Any]:
    probe = result.case.probe
    suite, _, line = probe.id.rpartition(":")
    numbered = suite and line.isdigit()
    mode = {Mode.PLAIN: "non-stream", Mode.STREAM: "stream"}[result.case.mode]
    return {
        "suite": suite if numbered else probe.suite,
        "line": int(line) if numbered else result.case.case.data_index,
        "mode": mode,
        "selection_reason": probe.selection,
        "schema": probe.request["tools"][0]["function"]["parameters"],
        "status": _KVV_STATUS.get(result.outcome, "failed"),
        "message": result.why_not,
    }


def _counted(words: Any) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))
