import json
import re
from contextlib import nullcontext
from dataclasses import replace

import pytest
from stored_runs import (
    FACTS,
    PARAMETERS,
    answering,
    calling,
    failed,
    make_cases,
    make_facts,
    make_record,
    make_row,
    malformed_history,
)
from support.rendered import render_text

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.gate import exit_code, refuse_undecidable, worst
from k2_verifier_adapter.core.judged import judge_all
from k2_verifier_adapter.core.metrics import Metric
from k2_verifier_adapter.core.presets import Standard
from k2_verifier_adapter.core.printable import amount, percent, percent_beside, printable
from k2_verifier_adapter.core.redaction import redact_summary
from k2_verifier_adapter.core.run_facts import RowsInfo
from k2_verifier_adapter.core.statistics.intervals import wilson
from k2_verifier_adapter.core.summary import summarize
from k2_verifier_adapter.core.verdict import (
    Check,
    Gate,
    GateOptions,
    Requirements,
    Status,
    Verdict,
    WhenInconclusive,
)
from k2_verifier_adapter.errors import DataError, UsageError
from k2_verifier_adapter.reports.brief import MOST_LINES, last_line, render_brief
from k2_verifier_adapter.reports.failed_cases import answered_case
from k2_verifier_adapter.reports.formats import FORMATS, RunReport
from k2_verifier_adapter.reports.json_report import dump_report, report_as_json

OF_RUNS = [form for form in FORMATS if RunReport in form.of]

DESIGN_KEYS = [
    "schema_version",
    "model",
    "subset",
    "parameters",
    "provenance",
    "usage",
    "latency_s",
    "requests",
    "finish_reasons",
    "confusion",
    "counts",
    "metrics",
    "verdict",
    "failures",
    "repairs",
]

METRIC_NAMES = [
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


def summary_of(rows, answers, failures=(), *, planned=None, rows_info=FACTS.rows, **facts):
    """Summarize a run; None stands for a request without answer."""
    cases = make_cases(rows)
    records = [make_record(case, answer) for case, answer in zip(cases, answers, strict=True) if answer]
    known = {case.index: case for case in cases}
    planned = len(cases) if planned is None else planned
    return summarize(
        make_facts(planned, rows=rows_info, **facts),
        cases,
        [*judge_all(known, records), *failures],
    )


def mixed_summary(**settings):
    """TP 2 (one invalid), FP 1, FN 1, TN 1, one `length`, two failed, one never made."""
    rows = [make_row(f"question {number}", call=number in (0, 1, 3, 5)) for number in range(9)]
    answers = [
        calling(),
        calling('{"city": 3}'),
        calling(),
        answering(),
        answering(),
        answering(finish_reason="length"),
        None,
        None,
        None,
    ]
    failures = [failed(6), failed(7, FailureClass.TIMED_OUT, None)]
    return summary_of(rows, answers, failures, **settings)


def faithful_summary(count=200, **settings):
    """Summarize a run in which the vendor always agrees."""
    questions = [make_row(f"question {number}", call=number % 2 == 0) for number in range(count)]
    answers = [calling() if number % 2 == 0 else answering() for number in range(count)]
    return summary_of(questions, answers, **settings)


def words(text):
    """Give the text with single blanks."""
    return " ".join(text.split())


class TestJson:
    """The JSON report."""

    def test_has_the_designs_keys(self):
        """Every top-level key of the design is there, with the additions that are documented."""
        report = report_as_json(mixed_summary())
        assert set(DESIGN_KEYS) <= set(report)
        assert set(report) - set(DESIGN_KEYS) == {
            *("complete", "stopped", "warnings", "self_agreement"),
            *("findings", "what_if", "tools", "baseline", "gate", "similarity_bounds", "server_messages"),
        }

    def test_counts(self):
        """Requests, finish reasons, confusion and counts are those of the responses."""
        report = report_as_json(mixed_summary())
        assert report["requests"] == {
            "total": 9,
            "completed": 6,
            "failed": 2,
            "missing": 1,
            "coverage": 6 / 9,
        }
        assert report["finish_reasons"] == {
            "stop": 2,
            "tool_calls": 3,
            "others": 1,
            "others_detail": {"length": 1},
            "missing": 0,
        }
        assert report["confusion"] == {"tp": 2, "fp": 1, "fn": 2, "tn": 1}
        assert report["counts"] == {
            "count_finish_reason_tool_calls": 3,
            "count_successful_tool_call": 2,
            "schema_validation_error_count": 1,
        }
        assert report["usage"] == {"prompt_tokens": 60, "completion_tokens": 30, "total_tokens": 90}
        assert report["latency_s"] == {"p50": 0.25, "p95": 0.25, "max": 0.25}

    def test_metrics(self):
        """Every metric of the design stands under its name, with value, interval, n and method."""
        metrics = report_as_json(mixed_summary())["metrics"]
        assert list(metrics) == METRIC_NAMES
        interval = wilson(2, 3)
        assert metrics["schema_accuracy"] == {
            "value": 2 / 3,
            "low": interval.low,
            "high": interval.high,
            "n": 3,
            "method": "wilson",
            "without_repaired": 2 / 3,
        }
        assert metrics["trigger_similarity"]["value"] == 4 / 7
        assert metrics["inference_error_rate"]["value"] == 2 / 8
        assert metrics["count_finish_reason_stop"]["low"] is None

    def test_undefined_metric_is_null(self):
        """A rate with denominator 0 is null, never 0."""
        metric = report_as_json(summary_of([make_row(call=False)], [answering()]))["metrics"][
            "schema_accuracy"
        ]
        assert metric == {
            "value": None,
            "low": None,
            "high": None,
            "n": 0,
            "method": None,
            "without_repaired": None,
        }

    def test_failures(self):
        """Failure classes are sorted by count, with group, cases and the HTTP statuses."""
        rows = [make_row(f"question {number}") for number in range(5)]
        failures = [failed(1), failed(2, status=500), failed(3), failed(4, FailureClass.RATE_LIMITED, 429)]
        report = report_as_json(summary_of(rows, [calling('{"city": 3}'), *[None] * 4], failures))
        assert report["failures"] == [
            {
                "class": "http_5xx",
                "group": "transport",
                "count": 3,
                "cases": [1, 2, 3],
                "by_status": {"500": 1, "503": 2},
            },
            {"class": "wrong_type", "group": "arguments", "count": 1, "cases": [0]},
            {"class": "rate_limited", "group": "transport", "count": 1, "cases": [4]},
        ]

    def test_provenance(self):
        """The provenance names rows, versions, dates and what was served."""
        rows = [make_row("one"), make_row("two")]
        answers = [calling(provider="A", system_fingerprint="fp_1"), calling(provider="B")]
        provenance = report_as_json(summary_of(rows, answers))["provenance"]
        assert provenance["rows"] == {"source": "rows.jsonl", "sha256": "ab" * 32, "synthetic": False}
        assert provenance["served"] == {
            "models": {"kimi-k2": 2},
            "providers": {"A": 1, "B": 1},
            "system_fingerprints": {"fp_1": 1},
            "gateways": {},
        }
        assert provenance["endpoint_host"] == "api.example.com"
        assert {provenance[name] for name in ("adapter", "evalscope", "python")} == {
            "0.1.0",
            "1.14.1",
            "3.11.9",
        }

    def test_verdict(self):
        """The verdict shows both rules, and every check with its value."""
        report = report_as_json(faithful_summary())
        verdict = report["verdict"]
        assert verdict["status"] == "pass"
        assert verdict["upstream"] == "met"
        assert verdict["reason"] is None
        first, *others = verdict["checks"]
        assert first == {
            "metric": "trigger_similarity",
            "threshold": 0.73,
            "value": 1.0,
            "low": report["metrics"]["trigger_similarity"]["low"],
            "high": 1.0,
            "most": None,
            "applied": True,
            "upstream_met": True,
            "status": "pass",
        }
        assert [(check["metric"], check["threshold"], check["most"]) for check in others] == [
            ("call_surplus", -0.1, 0.1),
            ("schema_accuracy", 0.95, None),
        ]

    def test_no_verdict_on_synthetic_rows(self):
        """Synthetic rows have no verdict, and the reason says why."""
        report = report_as_json(faithful_summary(rows_info=RowsInfo("bundled", "00", synthetic=True)))
        assert report["verdict"]["status"] == "none"
        assert report["verdict"]["upstream"] == "none"
        assert report["verdict"]["reason"] == "synthetic rows: no verdict"
        assert report["provenance"]["rows"]["synthetic"] is True

    def test_is_ascii_and_deterministic(self):
        """Whatever a vendor sends, the text is ASCII, and the same summary gives the same text."""
        rows = [make_row("one"), make_row("two")]
        answers = [calling(model="模型\u202e"), answering(finish_reason="\ud800结束\x1b[2J")]
        text = dump_report(summary_of(rows, answers))
        assert text.isascii()
        assert "\x1b" not in text
        assert text == dump_report(summary_of(rows, answers))
        assert json.loads(text)["finish_reasons"]["others_detail"] == {"\ud800结束\x1b[2J": 1}


class TestText:
    """The text report."""

    def test_headline(self):
        """The first lines name model, subset and the verdict by both rules."""
        lines = render_text(faithful_summary()).splitlines()
        assert lines[0] == "K2 vendor verification: kimi-k2, k2_thinking"
        assert lines[1] == "Verdict: PASS by the strict rule; upstream's rule: met"

    def test_shows_the_reports_numbers(self):
        """Values, intervals, denominators, counts and failure classes stand in the text."""
        text = words(render_text(mixed_summary()))
        assert "schema_accuracy 66.67% 20.77% - 93.85% 3" in text
        assert "count_finish_reason_tool_calls 3 6" in text
        assert "inference_error_rate 25.00%" in text
        assert "both call 2 (TP), only the vendor 1 (FP), only the official 2 (FN), neither 1 (TN)" in text
        assert "stop 2, tool_calls 3, others 1 (length 1)" in text
        assert "wrong_type 1 1" in text
        assert "http_5xx 1 6 (HTTP status: 1 x 503)" in text
        assert "prompt 60, completion 30, total 90" in text
        assert "api.example.com" in text
        assert "max_tokens 64000" in text

    def test_incomplete(self):
        """A run that lacks answers says INCOMPLETE, a whole one does not."""
        text = render_text(mixed_summary())
        assert (
            "Requests: 9 total, 6 completed, 2 failed, 1 missing, 90 tokens\nINCOMPLETE: 66.67% of the"
            in text
        )
        assert "INCOMPLETE" not in render_text(faithful_summary())

    def test_undefined_metric(self):
        """An undefined rate reads so, and is no percentage."""
        text = render_text(summary_of([make_row(call=False)], [answering()]))
        line = [line for line in text.splitlines() if "schema_accuracy" in line][1]
        assert words(line) == "schema_accuracy undefined 0"

    def test_unrepaired_column(self):
        """Values without repaired cases are shown where there are repaired cases, and only there."""
        rows = [make_row("one", history=malformed_history()), make_row("two"), make_row("three")]
        text = render_text(summary_of(rows, [answering(), calling(), calling()]))
        line = next(
            line
            for line in text.splitlines()
            if "trigger_similarity" in line
            and " - " in line
            and "pass" not in line
            and "inconclusive" not in line
        )
        assert words(line).endswith("3 100.00%")
        assert "without 1 response whose history was repaired" in text
        assert "unrepaired" not in render_text(faithful_summary())

    def test_no_verdict_on_synthetic_rows(self):
        """Synthetic rows show no verdict, no check and a warning."""
        text = words(render_text(faithful_summary(rows_info=RowsInfo("bundled", "00", synthetic=True))))
        assert "Verdict: none (synthetic rows: no verdict)" in text
        assert "WARNING: The rows are synthetic" in text
        assert "rows SYNTHETIC, bundled" in text
        assert not re.search(r"\bPASS\b|\bmet\b", text)

    def test_several_served_models_void_the_verdict(self):
        """Two models under one name are named in a warning and leave no verdict."""
        rows = [make_row("one"), make_row("two")]
        text = words(render_text(summary_of(rows, [calling(), calling(model="other")])))
        assert "Verdict: none (several models answered" in text
        assert "served models kimi-k2 1, other 1" in text

    def test_fits_80_columns(self):
        """No line is longer than 80 columns, however long the names are."""
        rows = [make_row(f"question {number}", history=malformed_history()) for number in range(12)]
        answers = [calling(finish_reason="x" * 300, model="m" * 200) for _ in rows]
        settings = {"model": "m" * 50, "parameters": {**PARAMETERS, "stop": ["y" * 400]}}
        text = render_text(summary_of(rows, answers, **settings))
        assert max(map(len, text.splitlines())) <= 80
        for name in METRIC_NAMES:
            assert name in text
        checks = [line for line in text.splitlines() if " at least " in line or " within " in line]
        assert len(checks) == 3

    def test_vendor_text_cannot_steer_the_terminal(self):
        """Control characters and markup from a vendor are shown, not obeyed."""
        rows = [make_row("one"), make_row("two")]
        hostile = "\x1b[2J[red]evil[/red]\x9b\u202e\nend"
        answers = [calling(model=hostile), answering(finish_reason=hostile)]
        for colour in (False, True):
            text = render_text(summary_of(rows, answers), colour=colour)
            assert "\x1b[2J" not in text
            assert "\x9b" not in text
            assert "\u202e" not in text
            assert "[red]evil[/red]" in text.replace("\n", "")

    def test_colours_only_when_asked(self):
        """The text is plain unless colours are asked for."""
        assert "\x1b[" not in render_text(faithful_summary())
        assert "\x1b[" in render_text(faithful_summary(), colour=True)
        assert render_text(faithful_summary()).isascii()

    def test_value_that_rounds_to_its_threshold(self):
        """A value that only rounding puts on the threshold is shown with the decimals that differ."""
        check = Check("trigger_similarity", 0.73, 0.729999, upstream_met=False, status=Status.INCONCLUSIVE)
        summary = replace(faithful_summary(), verdict=Verdict(Status.INCONCLUSIVE, (check,)))
        text = words(render_text(summary))
        assert "trigger_similarity inconclusive 72.9999% at least 73%" in text

    def test_undefined_check(self):
        """A check of an undefined metric says so."""
        text = words(render_text(summary_of([make_row(call=False)], [answering()])))
        assert "trigger_similarity inconclusive undefined at least 73%" in text


UNSEEN = "\u3164\u034f\ufe0f\U000e0101\u2800\u115f\u17b4\uffa0\u180b"
HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\u202e\u200b\u2066\U000e0041\ud800[red]\r\n\x08" + UNSEEN + "x" * 5
)


def hostile_summary():
    """Summarize a run in which every text that is not this package's own is hostile."""
    rows = [make_row(f"question {number}", call=number < 3) for number in range(5)]
    answers = [
        calling(model=HOSTILE, provider=HOSTILE, system_fingerprint=HOSTILE),
        calling(f'{{"{HOSTILE}": 1}}', provider="other"),
        calling(HOSTILE, id=HOSTILE),
        answering(HOSTILE, finish_reason=HOSTILE),
        None,
    ]
    summary = summary_of(
        rows,
        answers,
        [failed(4, detail=HOSTILE)],
        rows_info=RowsInfo(HOSTILE, HOSTILE, synthetic=False),
        model=HOSTILE,
        subset=HOSTILE,
        parameters={HOSTILE: HOSTILE, "nested": {HOSTILE: [HOSTILE]}},
        endpoint_host=HOSTILE,
        adapter=HOSTILE,
        evalscope=HOSTILE,
        python=HOSTILE,
        started_at=HOSTILE,
        finished_at=HOSTILE,
    )
    verdict = Verdict(Status.NONE, (), HOSTILE)
    return replace(summary, warnings=(*summary.warnings, HOSTILE), verdict=verdict)


@pytest.mark.parametrize("form", OF_RUNS, ids=lambda form: form.name)
def test_other_parameters_than_the_official_ones_are_said(form):
    """What differs from the official run's parameters stands beside the verdict in every format."""
    parameters = {**PARAMETERS, "temperature": 0.0}
    asked = summary_of([make_row("q"), make_row("r")], [calling(), calling()], parameters=parameters)
    text = " ".join(form.render(RunReport(asked)).split())
    assert re.search(r"temperature 0.0 \S+official 1.0\S+ in 2 requests", text)
    as_official = summary_of([make_row("q")], [calling()])
    assert "official 1.0" not in form.render(RunReport(as_official))


class TestHostileText:
    """Nothing that a vendor, a row or a file's name says reaches a terminal as it is."""

    @pytest.mark.parametrize("redact", [False, True])
    def test_text(self, redact):
        """Whatever the texts hold, a report has printable characters and line ends only, and can be encoded."""
        summary = redact_summary(hostile_summary()) if redact else hostile_summary()
        text = render_text(summary)
        assert "".join(text.splitlines()).isprintable()
        assert text.splitlines() == text.split("\n")[:-1]
        assert text.encode()
        assert "\\x1b" in text
        assert max(map(len, text.splitlines())) <= 80

    def test_colours_are_the_only_escapes(self):
        """On a terminal the only control sequences are the report's own colours."""
        text = re.sub(r"\x1b\[[0-9;]*m", "", render_text(hostile_summary(), colour=True))
        assert "".join(text.splitlines()).isprintable()

    @pytest.mark.parametrize("redact", [False, True])
    def test_json(self, redact):
        """The JSON report is printable ASCII, and gives back what came."""
        summary = redact_summary(hostile_summary()) if redact else hostile_summary()
        text = dump_report(summary)
        assert text.isascii()
        assert "".join(text.split("\n")).isprintable()
        assert json.loads(text)["provenance"]["rows"]["source"] == HOSTILE


class TestPrintable:
    """Numbers and foreign text for a person."""

    @pytest.mark.parametrize(
        ("share", "shown"),
        [(0.0, "0.00%"), (1.0, "100.00%"), (0.5, "50.00%"), (0.99996, ">99.99%"), (0.00001, "<0.01%")],
    )
    def test_percent(self, share, shown):
        """Rounding never turns some into none, or nearly all into all."""
        assert percent(share) == shown

    @pytest.mark.parametrize(
        ("share", "threshold", "shown"),
        [
            (0.73, 0.73, "73.00%"),
            (0.729, 0.73, "72.90%"),
            (0.72996, 0.73, "72.996%"),
            (0.9999999999999, 1.0, "0.9999999999999"),
        ],
    )
    def test_percent_beside(self, share, threshold, shown):
        """A share is told from the threshold that it misses."""
        assert percent_beside(share, threshold) == shown

    def test_amount(self):
        """Counts are numbers, rates are percentages, and no value is a word."""
        assert amount(Metric("count_finish_reason_stop", 1200, 2000), 1200) == "1,200"
        assert amount(Metric("schema_accuracy", 0.5, 2), 0.5) == "50.00%"
        assert amount(Metric("schema_accuracy", None, 0), None) == "undefined"

    def test_printable(self):
        """Blanks become spaces, other controls, hidden marks and lone surrogates become escapes."""
        assert printable("a\r\nb\tc\x1b\x85\u2028\ud83d 好") == "a  b c\\x1b\\x85\\u2028\\ud83d 好"
        assert printable("a\xa0b\u3000c\u200bd\u202ee\x7ff\U000e0041") == (
            "a b c\\u200bd\\u202ee\\x7ff\\U000e0041"
        )
        assert printable(f"a{UNSEEN}b") == f"a{json.dumps(UNSEEN)[1:-1]}b".replace(
            "\\udb40\\udd01", "\\U000e0101"
        )

    def test_marks_in_a_pile(self):
        """As many combining marks as a script puts on a letter stay; a pile of them is told."""
        assert printable("x" + "\u0301" * 3) == "x\u0301\\u0301\\u0301"
        assert printable("x\u0301\u0302\u0303\u0304\u0305") == "x\u0301\u0302\u0303\u0304\\u0305"
        assert printable("\u0301 \u0301\u200b\u0301") == "\\u0301 \\u0301\\u200b\\u0301"

    @pytest.mark.parametrize(
        "text",
        ["naïve 模型 🔑 👍🏽", "nai\u0308ve", "हिन्दी में कार्ड", "שָׁלוֹם", "ភាសាខ្មែរ", "བརྒྱད", "Việt", "ไม้โท"],
    )
    def test_writing_of_all_kinds_stays(self, text):
        """Emoji, accents and the signs of all scripts are shown as they are."""
        assert printable(text) == text

    @pytest.mark.parametrize("form", OF_RUNS, ids=lambda form: form.name)
    def test_every_format_shows_what_is_there(self, form):
        """What cannot be seen is an escape in every format, in the failed cases of a page as well."""
        row = make_row(UNSEEN)
        (case,) = make_cases([row])
        (item,) = judge_all({0: case}, [make_record(case, calling(f'{{"{UNSEEN}": "{UNSEEN}{{', id=UNSEEN))])
        shown = answered_case(case, item.response, item.judgement, repeat=0, effort="")
        summary = replace(hostile_summary(), warnings=(UNSEEN,))
        text = form.render(RunReport(summary, [shown])).replace("⚠\ufe0f", "")
        assert not set(UNSEEN) & set(text)
        assert "u3164" in text


def summary_with(status, options, *, met=None, reason=None, **changes):
    """Make a summary whose verdict has this status."""
    checks = () if status is Status.NONE else (Check("trigger_similarity", 0.73, 0.8, met, status),)
    return replace(faithful_summary(20, gate=options, **changes), verdict=Verdict(status, checks, reason))


STRICT, UPSTREAM, NO_GATE = (
    GateOptions(gate=Gate.STRICT),
    GateOptions(gate=Gate.UPSTREAM),
    GateOptions(),
)


def asking(options, coverage):
    """Ask for another coverage."""
    return replace(options, requirements=Requirements(coverage=coverage))


UNCHECKED = asking(STRICT, 0.0)
FAIL, OK = WhenInconclusive.FAIL, WhenInconclusive.OK


KNOWN, UNKNOWN = Standard(0.73, None, "upstream"), Standard(None, None, "one official run")
SIMILARITY = Requirements(similarity=0.7)


@pytest.mark.parametrize(
    ("gate", "standard", "more", "said"),
    [
        (Gate.NONE, None, {}, None),
        (Gate.NONE, None, {"synthetic": True}, None),
        (Gate.STRICT, KNOWN, {}, None),
        (Gate.UPSTREAM, KNOWN, {}, None),
        (Gate.STRICT, KNOWN, {"synthetic": True}, "gate is 'strict', but mine has synthetic rows"),
        (Gate.NONE, KNOWN, {"synthetic": True, "stopping": True}, "leave stop_when_decided away"),
        (Gate.STRICT, None, {}, "gate is 'strict', but mine has no threshold"),
        (Gate.UPSTREAM, UNKNOWN, {}, "has no threshold"),
        (Gate.STRICT, UNKNOWN, {"several_runs": True}, None),
        (Gate.UPSTREAM, UNKNOWN, {"several_runs": True}, "has no threshold"),
        (Gate.NONE, UNKNOWN, {"several_runs": True, "stopping": True}, None),
        (Gate.NONE, UNKNOWN, {"stopping": True}, "stop_when_decided is set, but mine has no threshold"),
        (Gate.STRICT, None, {"requirements": SIMILARITY}, None),
        (Gate.UPSTREAM, UNKNOWN, {"requirements": SIMILARITY}, None),
    ],
)
def test_a_gate_that_no_answer_could_decide(gate, standard, more, said):
    """Without threshold and official runs, or over synthetic rows, nothing could decide: it is refused."""
    options = GateOptions(gate=gate, requirements=more.get("requirements", Requirements()))
    flags = {"synthetic": False, "several_runs": False, **more}
    flags.pop("requirements", None)
    refused = nullcontext() if said is None else pytest.raises(UsageError, match=said)
    with refused:
        refuse_undecidable(options, "mine", standard, **flags)


class TestGate:
    """The exit code."""

    @pytest.mark.parametrize(
        ("status", "met", "options", "code"),
        [
            (Status.PASS, True, NO_GATE, 0),
            (Status.FAIL, False, NO_GATE, 0),
            (Status.INCONCLUSIVE, False, NO_GATE, 0),
            (Status.NONE, None, NO_GATE, 0),
            (Status.PASS, True, STRICT, 0),
            (Status.FAIL, False, STRICT, 1),
            (Status.INCONCLUSIVE, True, STRICT, 3),
            (Status.NONE, None, STRICT, 3),
            (Status.INCONCLUSIVE, True, replace(STRICT, inconclusive=FAIL), 1),
            (Status.INCONCLUSIVE, True, replace(STRICT, inconclusive=OK), 0),
            (Status.FAIL, False, replace(STRICT, inconclusive=OK), 1),
            (Status.PASS, True, replace(STRICT, inconclusive=FAIL), 0),
            (Status.NONE, None, replace(STRICT, inconclusive=OK), 3),
            (Status.INCONCLUSIVE, True, UPSTREAM, 0),
            (Status.INCONCLUSIVE, False, UPSTREAM, 1),
            (Status.INCONCLUSIVE, None, UPSTREAM, 3),
            (Status.INCONCLUSIVE, None, replace(UPSTREAM, inconclusive=FAIL), 1),
            (Status.NONE, None, UPSTREAM, 3),
        ],
    )
    def test_rule_decides(self, status, met, options, code):
        """The chosen rule, and what an inconclusive verdict is to mean, decide the exit code."""
        reason = "no threshold is known" if status is Status.NONE else None
        decision = exit_code(summary_with(status, options, met=met, reason=reason))
        assert decision.code == code
        assert (decision.reason is None) == (options.gate is Gate.NONE)

    def test_reason_of_no_verdict(self):
        """A gate without a verdict says why there is none."""
        decision = exit_code(summary_with(Status.NONE, STRICT, reason="synthetic rows: no verdict"))
        assert decision.reason == "gate strict: no verdict possible: synthetic rows: no verdict"

    @pytest.mark.parametrize(
        ("planned", "options", "code"),
        [
            (20, STRICT, 0),
            (21, STRICT, 3),
            (21, NO_GATE, 0),
            (21, UPSTREAM, 0),
            (22, NO_GATE, 3),
            (22, UPSTREAM, 3),
            (22, asking(STRICT, 0.9), 0),
            (22, asking(NO_GATE, 0.9), 0),
            (20, asking(NO_GATE, 1.0), 0),
            (21, asking(NO_GATE, 1.0), 3),
            (22, UNCHECKED, 0),
        ],
    )
    def test_coverage(self, planned, options, code):
        """Below the minimum coverage nothing is decided: 0.95 with a gate and without, 0.98 if it is strict."""
        decision = exit_code(summary_with(Status.PASS, options, met=True, planned=planned))
        assert decision.code == code
        if code:
            assert f"20 of {planned} requests completed" in decision.reason

    @pytest.mark.parametrize("options", [NO_GATE, STRICT, replace(STRICT, inconclusive=OK)])
    def test_interrupted(self, options):
        """An interrupted run is incomplete, gate or not."""
        decision = exit_code(summary_with(Status.PASS, options, met=True, complete=False, planned=25))
        assert decision.code == 3
        assert decision.reason == "incomplete: the run was interrupted, 5 requests not made"

    @pytest.mark.parametrize("options", [NO_GATE, UNCHECKED])
    def test_nothing_completed(self, options):
        """A run whose requests all failed is incomplete, gate or not."""
        decision = exit_code(summary_of([make_row()], [None], [failed(0)], gate=options))
        assert (decision.code, decision.reason) == (3, "incomplete: 1 request failed and none completed")

    def test_no_data(self):
        """A run without any answer or failure is an error that names it."""
        with pytest.raises(DataError, match="kimi-k2, k2_thinking: the run holds no completed"):
            exit_code(summary_of([make_row()], [None]))

    def test_upstream_gate_heeds_one_metric(self):
        """By upstream's rule only trigger_similarity counts; undefined, it has not missed its threshold."""
        missed = Check("schema_accuracy", 0.9, 0.5, upstream_met=False, status=Status.FAIL)
        met = Check("trigger_similarity", 0.73, 0.8, upstream_met=True, status=Status.INCONCLUSIVE)
        undefined = Check("trigger_similarity", 0.73, None, None, Status.INCONCLUSIVE)
        assert Verdict(Status.FAIL, (met, missed)).upstream_status is Status.PASS
        assert Verdict(Status.FAIL, (undefined, missed)).upstream_status is Status.INCONCLUSIVE

    @pytest.mark.parametrize(
        ("codes", "code"), [([], 0), ([0, 0], 0), ([0, 3], 3), ([3, 1, 0], 1), ([1, 2, 3], 2)]
    )
    def test_worst(self, codes, code):
        """Of several reports, unusable comes before failed, failed before inconclusive."""
        assert worst(codes) == code


class TestBrief:
    """The thirty lines that a terminal gets."""

    def test_everything_at_once(self):
        """Verdict, checks, the two metrics, requests, causes with advice, and below where the rest is."""
        rows = [make_row(f"question {number}") for number in range(40)]
        markup = "<|tool_calls_section_begin|>functions.get_weather:0"
        summary = summary_of(rows, [calling()] * 20 + [answering(markup)] * 20)
        text = render_brief(summary, [("report", "a/long path/report.html")])
        assert text.splitlines()[1].startswith("Verdict: ")
        for check in summary.verdict.checks:
            assert re.search(rf"^{check.metric} +\(?{check.status.value}", text, re.MULTILINE)
        counts = summary.tally.counts
        assert f"both call {counts.tp}, vendor alone {counts.fp}, official alone {counts.fn}" in text
        assert f"Requests: {summary.total} total" in text
        first = summary.findings[0]
        assert words(first.hypothesis) in words(text)
        assert words(first.checks[0])[:60] in words(text)
        assert text.endswith("\nreport      a/long path/report.html\n")

    @pytest.mark.parametrize("width", [80, 120])
    def test_thirty_lines_at_most(self, width):
        """However much there is to say, the last of thirty lines is left for the verdict."""
        for summary in (hostile_summary(), mixed_summary(), faithful_summary()):
            lines = render_brief(summary, [("report", "x" * 300)] * 3, width=width).splitlines()
            assert len(lines) < MOST_LINES
            assert all(len(line) <= width for line in lines[:-3])

    @pytest.mark.parametrize(
        ("gate", "expected"),
        [
            (Gate.NONE, r"INCONCLUSIVE .* \(no gate, exit code 3\); report: page\.html"),
            (Gate.STRICT, r"INCONCLUSIVE .* \(gate strict, exit code 3\); report: page\.html"),
        ],
    )
    def test_the_verdict_with_its_exit_code(self, gate, expected):
        """The last line says the verdict, gate or not, what the exit code is, and where the page is."""
        summary = mixed_summary(gate=GateOptions(gate))
        assert re.fullmatch(expected, last_line(summary, "page.html"))
        assert last_line(summary, None).endswith("exit code 3)")
