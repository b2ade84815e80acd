import gc
import gzip
import json
import os
import tracemalloc
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from stored_runs import (
    FACTS,
    MODEL,
    PARAMETERS,
    SUBSET,
    TOOL,
    answering,
    calling,
    completion,
    failed,
    make_record,
    make_row,
    malformed_history,
    prediction_line,
    results_line,
    write_run,
)
from support.commands import invoke
from support.files import write_archive, write_lines
from support.rendered import render_text

from k2_verifier_adapter.core.counts import MAX_DISTINCT, OTHER_TEXTS, count_text
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.history import HistoryOptions, RequestMarks, marks_of, repair_messages
from k2_verifier_adapter.core.log_facts import MAX_PLACES, FailedRule, Places
from k2_verifier_adapter.core.sampling import RowsSample, SampleMethod
from k2_verifier_adapter.core.tally import MAX_LISTED_CASES, Tally
from k2_verifier_adapter.errors import BadRowsError, DataError
from k2_verifier_adapter.formats.runs import choose_run, read_run
from k2_verifier_adapter.formats.upstream import LineNote, note_of_error
from k2_verifier_adapter.offline import scoring
from k2_verifier_adapter.offline.export import write_results
from k2_verifier_adapter.offline.official import official_of_results, official_of_rows
from k2_verifier_adapter.offline.scoring import Log, score_log
from k2_verifier_adapter.offline.stored import summary_of
from k2_verifier_adapter.reports.json_report import report_as_json

REALDATA = os.environ.get("K2_VERIFIER_REALDATA")
needs_realdata = pytest.mark.skipif(not REALDATA, reason="K2_VERIFIER_REALDATA is not set")

TRUNCATED = '{"city": '
OTHER_TOOL = {"type": "function", "function": {**TOOL["function"], "name": "other"}}


def line(data_index, response, text=None, /, **changes):
    """Make a results line as upstream writes it, judged by its log, with a question and a time of its own."""
    plain = results_line(data_index, response)
    if text:
        plain["request"]["messages"] = [{"role": "user", "content": text}]
    if plain["finish_reason"] == "tool_calls":
        plain["tool_calls_valid"] = True
    plain |= {"last_run_at": f"2026-11-22T10:00:{(data_index or 0) % 60:02d}", "hash": "0" * 32, **changes}
    return {name: value for name, value in plain.items() if value is not ABSENT}


ABSENT = object()


@pytest.fixture
def score(tmp_path):
    """Score lines against official lines, or rows."""

    def run(lines, official=None, *, rows=None, subset=None, failed_rule=FailedRule.LEFT_OUT, **settings):
        if rows is None:
            answers = official_of_results(write_lines(tmp_path / "official.jsonl", official), subset)
        elif rows == "bundled":
            answers = official_of_rows(rows, subset or "")
        else:
            path = tmp_path / "rows.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            answers = official_of_rows(path, subset or "")
        log = Log([write_lines(tmp_path / "log.jsonl", lines)], subset, failed_rule)
        return score_log(log, answers, **settings)[0]

    return run


def confusion(summary):
    """Give TP, FP, FN, TN."""
    counts = summary.tally.counts
    return counts.tp, counts.fp, counts.fn, counts.tn


def places(found: Places):
    """Give count and listed places."""
    return found.count, list(found.listed)


class TestJoin:
    """Which line is held against which official answer."""

    OFFICIAL = (line(1, calling()), line(2, answering()), line(3, calling()), line(4, answering()))

    def test_by_data_index(self, score):
        """Lines are joined by data_index, in whatever order either file stands."""
        lines = [line(4, calling()), line(3, answering()), line(1, calling()), line(2, answering())]
        summary = score(lines, reversed(self.OFFICIAL))
        assert confusion(summary) == (1, 1, 1, 1)
        assert summary.log.lines == summary.log.scored == 4

    def test_numbers_with_gaps(self, score):
        """A file of some of the samples is joined by their numbers, not by its lines."""
        official = [line(7, calling()), line(30, answering())]
        summary = score([line(7, calling()), line(30, calling(TRUNCATED))], official)
        assert confusion(summary) == (1, 1, 0, 0)
        assert summary.tally.failure_cases[FailureClass.TRUNCATED_JSON] == {29: None}

    def test_without_official(self, score):
        """A line without an official answer is left out and listed."""
        summary = score([line(1, calling()), line(9, calling()), line(9, calling())], self.OFFICIAL)
        assert summary.completed == 1
        assert places(summary.log.without_official) == (2, [9, 9])

    def test_unused_official_answers(self, score):
        """Official answers without a line are counted, and a warning says so."""
        summary = score([line(1, calling())], [*self.OFFICIAL, line(5, "Connection error.")])
        assert summary.log.official.unused == 3
        assert any("3 of 4 official answers have no line" in text for text in summary.warnings)
        assert (summary.total, summary.missing, summary.coverage) == (4, 3, 0.25)
        # All three might have agreed, one of them by a call, or all might have disagreed.
        assert summary.similarity_bounds == (0.4, 1.0)

    @pytest.mark.parametrize("of_rows", [False, True])
    def test_other_parameters(self, score, of_rows):
        """Parameters that differ from the official request's, line by line, are a warning; the same are none."""
        cold = {**PARAMETERS, "temperature": 0.5}
        lines = [line(number, calling()) for number in range(1, 5)]
        lines[2]["request"].update(temperature=0.0, top_p=0.5)
        lines[3]["extra_body"] = {"temperature": 0.0}
        official = [line(number, calling(), request=dict(lines[0]["request"])) for number in range(1, 5)]
        official[0]["request"], lines[0]["request"] = cold, cold
        rows = [make_row(f"question {number}", call=True) for number in range(1, 5)]
        rows[0]["parameters"] = {"temperature": 0.5}
        summary = score(lines, rows=rows, subset=SUBSET) if of_rows else score(lines, official)
        (warning,) = [text for text in summary.warnings if "official run's" in text]
        assert warning == (
            "The parameters are not the official run's: temperature 0.0 (official 1.0) in 2 requests; "
            "top_p 0.5 (official not set) in 1 request."
        )
        again = score(lines[:2], rows=rows, subset=SUBSET) if of_rows else score(lines[:2], official)
        assert not any("official run's" in text for text in again.warnings)

    @pytest.mark.parametrize("value", [ABSENT, None, "1", 0, -1, True, 1.0])
    def test_without_data_index(self, score, value):
        """A line whose data_index is missing or no number is left out and listed by line number."""
        summary = score([line(1, calling()), line(1, answering(), data_index=value)], self.OFFICIAL)
        assert places(summary.log.without_data_index) == (1, [2])
        assert summary.completed == 1

    def test_huge_data_index(self, score):
        """A data_index beyond any file is joined like any other."""
        huge = 10**30
        summary = score(
            [line(1, calling()), line(huge, calling(TRUNCATED))], [*self.OFFICIAL, line(huge, calling())]
        )
        assert confusion(summary) == (2, 0, 0, 0)
        assert summary.tally.failure_cases[FailureClass.TRUNCATED_JSON] == {huge - 1: None}

    def test_unreadable_lines(self, score):
        """What is no JSON object is left out and listed by line number; empty lines are nothing."""
        lines = [line(1, calling()), b"\n", b"{half\n", b"[]\n"]
        summary = score(lines, self.OFFICIAL)
        assert places(summary.log.unreadable) == (2, [3, 4])
        assert summary.log.lines == 3

    def test_repeats_are_marked(self, score):
        """Lines of one data_index that say so are repeats of one case, failed ones too."""
        lines = [
            line(1, calling(), repeat=0),
            line(1, answering(), repeat=1),
            line(1, "Connection error.", repeat=2),
            line(2, answering(), repeat=0),
        ]
        summary = score(lines, self.OFFICIAL)
        assert summary.facts.repeats == 3
        assert summary.log.duplicates.count == 0
        assert summary.tally.repeated.counts.completed == 2
        assert (summary.tally.repeated.pairs, summary.tally.repeated.flips) == (1, 1)

    def test_repeats_apart(self, score):
        """A repeat that stands apart from the others would be a case of its own: it is left out, and said."""
        lines = [line(1, calling()), line(2, answering()), line(1, answering(), repeat=1)]
        summary = score(lines, self.OFFICIAL)
        assert confusion(summary) == (1, 0, 0, 1)
        assert places(summary.log.duplicates) == (1, [1])
        assert summary.facts.repeats == 1

    @pytest.mark.parametrize("mark", [True, -1, "1", 1.0, None])
    def test_no_mark_of_a_repeat(self, score, mark):
        """A mark that is no number from 0 is none: the line is a rerun."""
        summary = score([line(1, answering()), line(1, calling(), repeat=mark)], self.OFFICIAL)
        assert (confusion(summary), summary.facts.repeats) == ((1, 0, 0, 0), 1)

    @pytest.mark.parametrize("between", [[], [line(2, answering())]], ids=["in a row", "apart"])
    @pytest.mark.parametrize(
        ("first", "second", "counts"),
        [
            ("2026-01-01T10:00:00", "2026-01-01T12:00:00", "second"),
            ("2026-01-01T12:00:00", "2026-01-01T10:00:00", "first"),
            ("2026-01-01T10:00:00", "2026-01-01T10:00:00", "second"),
            ("2026-01-01T10:00:00", "2026-01-01T10:00:00.000001", "second"),
            (None, "2026-01-01T10:00:00", "second"),
            ("2026-01-01T12:00:00", ABSENT, "second"),
            (1, 0, "second"),
        ],
    )
    def test_reruns(self, score, first, second, counts, between):
        """Of two lines the newest counts, else the last, as a log or as the official file; the other is said."""
        lines = [
            line(1, "Connection error.", last_run_at=first),
            *between,
            line(1, calling(), last_run_at=second),
        ]
        summary = score(lines, self.OFFICIAL)
        assert summary.tally.counts.tp == (counts == "second")
        assert summary.tally.failed == (counts == "first")
        assert (places(summary.log.superseded), summary.facts.repeats) == ((1, [1]), 1)
        assert summary.log.duplicates.count == 0
        official = score([line(1, calling()), line(2, answering())], [*lines, line(2, answering())])
        assert places(official.log.official.duplicates)[0] == 1 + bool(between)
        assert (official.log.official.rows, official.log.official.failed) == (2, counts == "first")
        assert (official.completed, official.log.official_failed.count) == (
            (2, 0) if counts == "second" else (1, 1)
        )

    def test_three_lines(self, score):
        """The newest of all lines of a number counts, wherever it stands; half-written ones are none of them."""
        at = "2026-01-01T1{}:00:00".format
        half = json.dumps(line(1, calling(), last_run_at=at(9))).encode()[:-40] + b"\n"
        lines = [
            line(1, answering(), last_run_at=at(1)),
            line(1, calling(), last_run_at=at(3)),
            line(1, answering(), last_run_at=at(2)),
        ]
        summary = score([*lines, half], self.OFFICIAL)
        assert confusion(summary) == (1, 0, 0, 0)
        assert (summary.log.superseded.count, summary.log.unreadable.count) == (2, 1)

    def test_official_repeats(self, score):
        """Of a run with repeats the first answer to each case is the official one."""
        official = [line(1, calling(), repeat=0), line(1, answering(), repeat=1), line(2, answering())]
        summary = score([line(1, calling()), line(2, answering())], official)
        assert confusion(summary) == (1, 0, 0, 1)
        assert places(summary.log.official.duplicates) == (1, [1])

    def test_unusable_official_lines(self, score):
        """Official lines that cannot be used are listed, the rest is used."""
        official = [b"no json\n", line(1, calling()), line(1, calling(), data_index=None)]
        summary = score([line(1, calling())], official)
        assert places(summary.log.official.unusable) == (2, [1, 3])
        assert summary.completed == 1

    def test_nothing_to_score(self, score):
        """If no line can be scored, the error says why."""
        with pytest.raises(DataError, match="without_data_index 1, without_official 1"):
            score([line(9, calling()), line(1, calling(), data_index=None)], self.OFFICIAL)
        with pytest.raises(DataError, match="the file is empty"):
            score([], self.OFFICIAL)

    def test_no_official_line(self, score):
        """An official file that holds no result is an error that says what was expected."""
        with pytest.raises(DataError, match="holds no official result; expected one JSON object a line"):
            score([line(1, calling())], [b"{}\n"])

    def test_other_request(self, score):
        """A line whose messages or tools are not those of the official request is scored and reported."""
        request = {**line(2, calling())["request"], "tools": [OTHER_TOOL]}
        lines = [
            line(1, calling(), "another question"),
            line(2, answering(), request=request),
            line(3, calling()),
        ]
        summary = score(lines, self.OFFICIAL)
        assert places(summary.log.other_request) == (2, [1, 2])
        assert any("another prompt set" in text for text in summary.warnings)


class TestFailedRequests:
    """Requests that failed on either side."""

    def test_left_out(self, score):
        """By this project's rule a failure on either side is never "did not call"."""
        official = [line(1, "Connection error."), line(2, calling()), line(3, answering())]
        lines = [line(1, calling()), line(2, "Connection error."), line(3, answering())]
        summary = score(lines, official)
        assert confusion(summary) == (0, 0, 0, 1)
        assert places(summary.log.official_failed) == (1, [1])
        assert (summary.completed, summary.tally.failed, summary.total) == (1, 1, 2)
        assert summary.verdict.barred is None

    def test_as_no_call(self, score):
        """By the other rule each is "did not call", and the requests still show as failed."""
        official = [
            line(1, "Connection error."),
            line(2, calling()),
            line(3, answering()),
            line(4, answering()),
        ]
        lines = [line(1, calling()), line(2, "failed"), line(3, "failed"), line(4, answering())]
        summary = score(lines, official, failed_rule=FailedRule.NO_CALL)
        assert confusion(summary) == (0, 1, 1, 2)
        assert (summary.completed, summary.tally.failed) == (2, 2)
        assert summary.log.official_failed.count == 0
        # Nothing was repaired.
        assert summary.tally.unrepaired == summary.tally.counts
        f1 = next(metric for metric in summary.metrics if metric.name == "trigger_similarity")
        assert (f1.value, f1.n) == (0, 2)

    def test_as_no_call_with_repeats(self, score):
        """The rule holds for a failed repeat in its cluster too."""
        official = [line(1, calling()), line(2, calling())]
        lines = [line(1, calling()), line(1, "failed", repeat=1), line(2, calling())]
        summary = score(lines, official, failed_rule=FailedRule.NO_CALL)
        assert confusion(summary) == (2, 0, 1, 0)
        assert (summary.tally.repeated.counts.tp, summary.tally.repeated.counts.fn) == (1, 1)

    def test_no_completion(self, score):
        """A success without a completion is a failed request, on either side, and a disagreement."""
        empty = {"id": "x", "choices": []}
        broken = line(1, calling(), response=empty, finish_reason=None, tool_calls_valid=None)
        official = [line(1, calling()), {**broken, "data_index": 2}, line(3, calling())]
        summary = score([broken, line(2, calling()), line(3, calling())], official)
        assert (summary.completed, summary.tally.failed) == (1, 1)
        assert summary.tally.failure_counts[FailureClass.NOT_A_COMPLETION] == 1
        assert places(summary.log.no_completion) == (1, [1])
        assert summary.log.official.failed == 1

    @pytest.mark.parametrize(
        ("error", "kind", "status"),
        [
            ("Error code: 503 - {'error': 'overloaded'}", FailureClass.HTTP_5XX, 503),
            ("Error code: 400 - bad schema", FailureClass.HTTP_4XX, 400),
            ("Error code: 429 - slow down", FailureClass.RATE_LIMITED, 429),
            ("Request timed out.", FailureClass.TIMED_OUT, None),
            ("Connection error.", FailureClass.CONNECTION_FAILED, None),
            ("Error code: 600 - odd", FailureClass.HTTP_5XX, 600),
            ("Error code: 999 - denied", FailureClass.HTTP_5XX, 999),
            ("Error code: 302 - moved", FailureClass.NOT_A_COMPLETION, None),
            ("the server said Error code: 503", FailureClass.NOT_A_COMPLETION, None),
            ("", FailureClass.NOT_A_COMPLETION, None),
        ],
    )
    def test_class_of_a_logged_error(self, error, kind, status):
        """The texts of the client that upstream uses say the class; any other says only that it failed."""
        assert note_of_error(error) == LineNote(failure_class=kind, http_status=status)

    @pytest.mark.parametrize("response", [None, {}, {"error": {"message": "no"}}, "text", 3, [1]])
    def test_failed_line_of_any_shape(self, score, response):
        """A failed line counts as failed whatever stands for its response."""
        lines = [line(1, calling(), response=response, status="failed"), line(2, answering())]
        summary = score(lines, [line(1, calling()), line(2, answering())])
        assert (summary.completed, summary.tally.failed) == (1, 1)

    def test_foreign_note(self):
        """A note that another program wrote changes nothing."""
        for value in (None, 3, {"failure_class": ["x"], "stream_anomalies": "x", "http_status": True}):
            assert LineNote.from_json(value) == LineNote()
        assert LineNote.from_json({"failure_class": "missing_required"}).failure_class is None


class TestJudging:
    """What a line is judged by."""

    def test_raw_response_counts(self, score):
        """The raw response decides, not what the log says of it."""
        lines = [
            line(1, calling(), finish_reason="stop", tool_calls_valid=None),
            line(2, calling(TRUNCATED), tool_calls_valid=True),
            line(3, answering()),
        ]
        summary = score(lines, [line(number, calling()) for number in (1, 2, 3)])
        assert confusion(summary) == (2, 0, 1, 0)
        assert summary.tally.counts.successful == 1
        assert places(summary.log.finish_reason_differs) == (1, [1])
        assert places(summary.log.tool_calls_valid_differs) == (2, [1, 2])

    def test_old_logs(self, score):
        """Logs without tool_calls_valid, finish_reason, extra_body and status are judged, nothing to differ."""
        gone = dict.fromkeys(
            ("tool_calls_valid", "finish_reason", "extra_body", "status", "duration_ms"), ABSENT
        )
        lines = [line(1, calling(), **gone), line(2, calling(TRUNCATED), **gone)]
        summary = score(lines, [line(1, calling(), **gone), line(2, answering(), **gone)])
        assert confusion(summary) == (1, 1, 0, 0)
        assert summary.tally.counts.successful == 1
        assert [found.count for found in summary.log.disagreements.values()] == [0, 0, 0]
        assert summary.observed.latency()["p50"] is None

    @pytest.mark.parametrize("logged", [False, None])
    def test_empty_call_list(self, score, logged):
        """Of "calls, but none there" a log may say false or null: both mean a schema validation error."""
        empty = completion({"role": "assistant", "content": None, "tool_calls": []}, "tool_calls")
        summary = score([line(1, empty, tool_calls_valid=logged)], [line(1, calling())])
        assert summary.tally.counts.schema_errors == 1
        assert summary.log.tool_calls_valid_differs.count == 0

    def test_validity_of_a_response_that_does_not_call(self, score):
        """A log that judges calls where upstream does not look disagrees."""
        summary = score([line(1, answering(), tool_calls_valid=False)], [line(1, calling())])
        assert places(summary.log.tool_calls_valid_differs) == (1, [1])

    @pytest.mark.parametrize(
        ("tools", "extra_body", "undeclared"),
        [([OTHER_TOOL], {}, 1), (ABSENT, {}, 1), (ABSENT, {"tools": [TOOL]}, 0)],
        ids=["another tool", "no tools", "in extra_body"],
    )
    def test_own_tools(self, score, tools, extra_body, undeclared):
        """A call is judged against the tools of the line's own request, `extra_body` included."""
        request = {**line(1, calling())["request"], "tools": tools}
        if tools is ABSENT:
            del request["tools"]
        summary = score([line(1, calling(), request=request, extra_body=extra_body)], [line(1, calling())])
        assert summary.tally.failure_counts[FailureClass.UNDECLARED_TOOL] == undeclared
        assert summary.tally.counts.successful == 1 - undeclared

    def test_line_without_request(self, score):
        """Where a line holds no request, the official request's tools are used."""
        lines = [line(number, calling(), request=ABSENT) for number in (1, 2)]
        official = [line(1, calling()), line(2, calling('{"city": 3}'))]
        summary = score(lines, official)
        assert summary.tally.counts.successful == 2
        assert summary.tally.counts.official_successful == 1
        assert summary.facts.model == "kimi-k2"
        assert summary.facts.parameters == {}

    def test_rows_tools(self, score):
        """With rows, the row's tools are used, whatever the line holds."""
        request = {**line(1, calling())["request"], "tools": []}
        summary = score([line(1, calling(), request=request)], rows=[make_row("question 1")])
        assert summary.tally.counts.successful == 1

    def test_official_calls(self, score):
        """Names and arguments are compared with the official calls, whose own validity is judged."""
        official = [line(1, calling('{"city": "Oslo"}')), line(2, calling('{"city": 3}'))]
        lines = [
            line(1, calling('{"city": "Rome"}')),
            line(2, calling('{"city": 3}'), tool_calls_valid=False),
        ]
        counts = score(lines, official).tally.counts
        assert (counts.name_pairs, counts.name_matches) == (2, 2)
        assert counts.argument_sum == 1
        assert (counts.official_tool_calls, counts.official_successful) == (2, 1)

    def test_official_finish_reasons(self, score):
        """The official answers are counted by finish_reason; a null one is in no bucket."""
        reasons = ["stop", "length", None, "tool_calls"]
        official = [
            line(number, answering(finish_reason=reason)) for number, reason in enumerate(reasons, start=1)
        ]
        counts = score([line(number, answering()) for number in range(1, 5)], official).tally.counts
        assert (counts.official_stop, counts.official_others, counts.official_tool_calls) == (1, 1, 1)
        assert counts.official_schema_errors == 1

    def test_an_unusual_end_of_both(self, score):
        """An answer that ends as the official one did is no failure, however unusual the end."""
        lines = [line(1, answering(finish_reason="abort")), line(2, answering(finish_reason="eos"))]
        summary = score(lines, [line(number, answering(finish_reason="abort")) for number in (1, 2)])
        assert summary.tally.failure_cases == {FailureClass.FINISH_REASON_UNKNOWN: {1: None}}


class TestRows:
    """Rows as the official side."""

    def test_own_data_index(self, score):
        """A row's own data_index counts; cases are named by their row, as `report` does."""
        rows = [make_row("question 5", data_index=5), make_row("question 9", call=False, data_index=9)]
        summary = score([line(9, calling(TRUNCATED)), line(5, calling())], rows=rows)
        assert confusion(summary) == (1, 1, 0, 0)
        assert summary.tally.failure_cases[FailureClass.TRUNCATED_JSON] == {1: None}

    def test_row_number(self, score):
        """Without its own, a row's data_index is its number, from 1."""
        rows = [make_row("question 1"), make_row("question 2", call=False)]
        assert confusion(score([line(2, answering()), line(1, calling())], rows=rows)) == (1, 0, 0, 1)

    def test_json_text_with_line_ends(self, score):
        """Columns of JSON text may be written over several lines."""
        row = make_row("question 1")
        row["tools"] = json.dumps(row["tools"], indent=2)
        row["official_tool_calls"] = json.dumps(calling()["choices"][0]["message"]["tool_calls"], indent=2)
        counts = score([line(1, calling())], rows=[row]).tally.counts
        assert (counts.successful, counts.name_matches) == (1, 1)

    def test_synthetic_rows(self, score):
        """Against synthetic rows there is no verdict, whatever the subset and the user's thresholds."""
        row = make_row("question 1", synthetic=True)
        summary = score([line(1, calling())], rows=[row], subset=SUBSET)
        assert summary.verdict.status.value == "none"
        assert summary.verdict.reason == "synthetic rows: no verdict"

    def test_bundled_rows_are_synthetic(self, score):
        """The bundled rows are found by their name, and are synthetic."""
        summary = score([line(1, answering())], rows="bundled", subset=SUBSET)
        assert summary.facts.rows.synthetic
        assert summary.facts.rows.source == "bundled"

    def test_bad_rows(self, score):
        """A row that cannot be used stops everything, and is named."""
        with pytest.raises(BadRowsError, match="line 2: field 'messages'"):
            score([line(1, calling())], rows=[make_row(), {}])

    def test_repairs_are_seen_in_the_request(self, score):
        """A repair counts where the request was sent repaired, not where the row would have needed it."""
        rows = [make_row("a", history=malformed_history()), make_row("b", history=malformed_history())]
        sent = [row["messages"] for row in json.loads(json.dumps(rows))]
        repair_messages(sent[0], HistoryOptions())
        lines = [
            line(number, calling(), request={**PARAMETERS, "messages": messages, "tools": [TOOL]})
            for number, messages in enumerate(sent, start=1)
        ]
        summary = score(lines, rows=rows)
        assert summary.repairs == {"malformed_history": 1, "input_role": 0, "tool_call_ids": 0}
        assert summary.tally.unrepaired.completed == 1
        assert summary.log.other_request.count == 0

    def test_renamed_ids_are_seen(self):
        """Historical ids that are not the row's were renamed."""
        history = malformed_history()
        history[0]["tool_calls"][0]["id"] = "call_1"
        row = marks_of({"messages": history})
        repair_messages(history, HistoryOptions(normalize_tool_call_ids=True))
        repairs = row.repairs(marks_of({"messages": history}), input_role=True)
        assert (repairs.malformed_history, repairs.input_role, repairs.tool_call_ids) == (1, 1, 1)
        assert not row.repairs(None).any

    @pytest.mark.parametrize(
        "request_body",
        [
            {},
            {"messages": 3, "tools": {}},
            {"messages": [3, {"tool_calls": [3, {}, {"function": 1}]}], "tools": [3]},
        ],
    )
    def test_marks_of_any_shape(self, request_body):
        """Marks can be taken of a request of any shape."""
        assert isinstance(marks_of(request_body), RequestMarks)


class TestFacts:
    """What the report says of the run behind the log."""

    def test_from_the_log(self, score):
        """Model, shared parameters, dates and latencies are those of the lines."""
        other = {**line(2, answering())["request"], "temperature": 0.2}
        lines = [line(1, calling()), line(2, answering(), request=other, extra_body={"top_k": 3})]
        summary = score(lines, [line(1, calling()), line(2, answering())], subset=SUBSET)
        facts = summary.facts
        assert (facts.model, facts.subset) == (MODEL, SUBSET)
        assert facts.parameters == {"model": MODEL, "max_tokens": 64000, "stream": True}
        assert (facts.started_at, facts.finished_at) == ("2026-11-22T10:00:01", "2026-11-22T10:00:02")
        assert summary.observed.latency()["max"] == 1.5
        assert facts.standard.threshold == 0.73
        assert summary.verdict.status.value == "inconclusive"

    def test_digest_of_the_official_file(self, score, tmp_path):
        """The official file is named with its sha256."""
        import hashlib

        rows = score([line(1, calling())], [line(1, calling())]).facts.rows
        assert rows.sha256 == hashlib.sha256((tmp_path / "official.jsonl").read_bytes()).hexdigest()
        assert rows.source == str(tmp_path / "official.jsonl")

    def test_no_subset(self, score):
        """Without a subset there is no threshold, so no verdict; reports show no name."""
        summary = score([line(1, calling())], [line(1, calling())])
        assert summary.verdict.reason == "no threshold is known for this subset"
        assert report_as_json(summary)["subset"] is None
        assert render_text(summary).startswith(f"K2 vendor verification: {MODEL}\n")

    def test_several_models(self, score):
        """A file whose requests ask for several models is no run of one vendor: no verdict."""
        other = {**line(2, answering())["request"], "model": "another"}
        lines = [line(1, calling()), line(2, answering(), request=other)]
        summary = score(lines, [line(1, calling()), line(2, answering())], subset=SUBSET)
        assert "several models" in summary.verdict.reason
        assert any("kimi-k2 (1), another (1)" in text for text in summary.warnings)


class TestReports:
    """The additions to the reports."""

    def test_text(self, score):
        """The text says which rule was used, what was left out, and every disagreement."""
        official = [line(1, calling()), line(2, "Connection error."), line(3, answering())]
        lines = [line(1, calling(), finish_reason="stop"), line(2, calling()), line(3, answering())]
        text = " ".join(render_text(score(lines, official)).split())
        assert "lines 3, of which 2 scored" in text
        assert "failed requests, on either side, are left out" in text
        assert "left out 1 line (data_index 2): the official request failed" in text
        assert "disagreement 1 line (data_index 1): the log's finish_reason is not what the response" in text
        assert "endpoint -" in text
        assert "EvalScope -," in text

    def test_first_twenty(self, score):
        """A long list of places is cut after twenty; the count is whole."""
        lines = [line(number, answering(), finish_reason="length") for number in range(1, 31)]
        text = " ".join(render_text(score(lines, lines)).split())
        assert "30 lines (data_index 1, 2, 3," in text
        assert "19, 20, ...): the log's finish_reason" in text

    def test_all_agree(self, score):
        """Without a disagreement the text says that all is confirmed."""
        text = render_text(score([line(1, calling())], [line(1, calling())], failed_rule=FailedRule.NO_CALL))
        assert "none: the lines' own judgements are all confirmed" in text
        assert "--failed-as-no-call" in text

    def test_json(self, score):
        """The JSON report lists every finding under `log`."""
        lines = [line(1, calling()), line(2, answering(), tool_calls_valid=True), line(8, answering())]
        log = report_as_json(score(lines, [line(1, calling()), line(2, calling())]))["log"]
        assert log["failed_requests_count_as"] == "left_out"
        assert (log["lines"], log["scored"]) == (3, 2)
        assert log["left_out"]["without_official"] == {"count": 1, "listed": [8]}
        assert log["disagreements"]["tool_calls_valid"] == {"count": 1, "listed": [2]}
        assert log["official"]["rows"] == 2

    def test_repeats(self, score):
        """With repeats, both reports show the flip rate and its number of pairs."""
        official = [line(1, calling()), line(2, answering())]
        lines = [
            *(line(1, answer, repeat=n) for n, answer in enumerate((calling(), answering(), calling()))),
            line(2, answering()),
        ]
        summary = score(lines, official)
        report = report_as_json(summary)
        assert report["repeats"] == {"n": 3, "decision_flip_rate": {"value": 2 / 3, "n": 3}}
        assert report["metrics"]["decision_flip_rate"]["value"] == 2 / 3
        text = " ".join(render_text(summary).split())
        assert "repeats 3; of 3 pairs of responses to the same case, 2 decide differently (66.67%)" in text
        assert "repeats" not in report_as_json(score(lines[:1], official))

    def test_repeats_without_pairs(self, score):
        """Where no two repeats of a case completed, there is no flip rate."""
        summary = score([line(1, calling()), line(1, "failed", repeat=1)], [line(1, calling())])
        assert report_as_json(summary)["repeats"]["decision_flip_rate"] == {"value": None, "n": 0}
        assert "2; no two of them completed for one case" in render_text(summary)


class TestCommand:
    """`k2-verifier score`."""

    @pytest.fixture
    def files(self, tmp_path):
        """Give a results file and an official one over 40 cases that agree."""
        lines = [line(number, calling() if number % 2 else answering()) for number in range(1, 41)]
        return write_lines(tmp_path / "results.jsonl", lines), write_lines(tmp_path / "official.jsonl", lines)

    def test_json_owns_standard_output(self, files, tmp_path):
        """JSON stands alone on standard output, or goes to a file."""
        results, official = files
        result = invoke("score", results, "--baseline", official, "--format", "json")
        assert result.exit_code == 0
        assert json.loads(result.stdout)["confusion"] == {"tp": 20, "fp": 0, "fn": 0, "tn": 20}
        assert result.stderr == ""
        to_file = tmp_path / "report.json"
        invoke("score", results, "--baseline", official, "--format", "json", "--output", to_file)
        assert to_file.read_text() == result.stdout

    def test_gzip_by_any_name(self, files, tmp_path):
        """What is gzipped is read, whatever the file is called."""
        results, official = files
        (tmp_path / "log").write_bytes(gzip.compress(Path(results).read_bytes()))
        (tmp_path / "official.gz").write_bytes(gzip.compress(Path(official).read_bytes()))
        result = invoke("score", tmp_path / "log", "--baseline", tmp_path / "official.gz", "--format", "json")
        assert json.loads(result.stdout)["requests"]["completed"] == 40

    def test_a_directory_of_one_subset_names_it(self, files, tmp_path):
        """Rows of one subset need no --subset; of several, one has to be named."""
        results, _ = files
        rows = [make_row(f"question {number}", call=number % 2 == 1) for number in range(1, 41)]
        write_lines(tmp_path / "rows" / "k2_0905_test.jsonl", rows)
        result = invoke("score", results, "--rows", tmp_path / "rows", "--format", "json")
        assert json.loads(result.stdout)["subset"] == "k2_0905"
        write_lines(tmp_path / "rows" / "other.jsonl", rows)
        refused = invoke("score", results, "--rows", tmp_path / "rows")
        assert (refused.exit_code, "holds several subsets, k2_0905, other" in refused.stderr) == (2, True)

    @pytest.mark.parametrize(
        ("first", "said"),
        [
            ({"messages": [], "tools": []}, "holds samples, the requests alone"),
            (make_row(), "holds rows, which are no results"),
        ],
    )
    def test_what_is_no_results_file_is_named(self, files, tmp_path, first, said):
        """Samples and rows are told apart from results, as a log and as a baseline."""
        results, official = files
        other = write_lines(tmp_path / "other.jsonl", [first])
        for log, baseline in ((other, official), (results, other)):
            refused = invoke("score", log, "--baseline", baseline)
            assert (refused.exit_code, said in refused.stderr) == (2, True)

    def test_a_run_directory_is_named(self, files, tmp_path):
        """A run is for `report`."""
        (tmp_path / "run" / "k2_verifier").mkdir(parents=True)
        refused = invoke("score", tmp_path / "run", "--baseline", files[1])
        assert "is a run directory; see 'k2-verifier report" in refused.stderr

    def test_text(self, files, tmp_path):
        """Text goes to standard output, or to a file."""
        results, official = files
        result = invoke("score", results, "--baseline", official, "--subset", SUBSET)
        assert result.stdout.startswith("K2 vendor verification: kimi-k2, k2_thinking\nVerdict: INCONCLUSIVE")
        last = result.stdout.splitlines()[-1]
        assert last == "INCONCLUSIVE kimi-k2, k2_thinking (no gate, exit code 0)"
        full = invoke("score", results, "--baseline", official, "--subset", SUBSET, "--full").stdout
        to_file = tmp_path / "report.txt"
        written = invoke("score", results, "--baseline", official, "--subset", SUBSET, "--output", to_file)
        assert full == f"{to_file.read_text()}\n{last}\n"
        assert written.stderr.endswith(f"{last}; report: {to_file}\n")

    def test_gate(self, files):
        """The gate flags decide the exit code as they do for `report`."""
        results, official = files
        lenient = ("--min-schema-accuracy", "0.8", "--call-surplus-tolerance", "0.2", "--gate", "strict")
        passing = invoke("score", results, "--baseline", official, "--subset", SUBSET, *lenient)
        assert passing.exit_code == 0
        strict = (*lenient, "--min-trigger-similarity", "0.99")
        assert invoke("score", results, "--baseline", official, *strict).exit_code == 3

    def test_a_gate_that_cannot_be_decided(self, files, tmp_path):
        """Without a threshold, or against synthetic rows, a gate is a usage error, as it is for a run."""
        results, official = files
        for gate in ("strict", "upstream"):
            refused = invoke("score", results, "--baseline", official, "--gate", gate)
            assert refused.exit_code == 2
            assert "a log without --subset has no threshold; give --min-trigger" in refused.stderr
        rows = [make_row(f"question {number}", synthetic=True) for number in (1, 2)]
        flags = ("--rows", write_lines(tmp_path / "rows.jsonl", rows), "--subset", SUBSET)
        refused = invoke("score", results, *flags, "--gate", "strict")
        assert (refused.exit_code, "has synthetic rows, which carry no verdict" in refused.stderr) == (
            2,
            True,
        )

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (
                lambda lines: [item for item in lines if item["data_index"] != 7],
                "1 official answer without a line",
            ),
            (lambda lines: [*lines, lines[4]], "1 line left out"),
            (lambda lines: [*lines, line(3, "Connection error.", last_run_at="2020")], "1 line left out"),
            (lambda lines: [*lines, line(41, calling())], "1 line left out"),
            (lambda lines: [*lines, line(7, calling(), repeat=1)], "1 line left out"),
            (lambda lines: [*lines, b"{half"], "1 line left out"),
            (lambda lines: [*lines, line(None, calling())], "1 line left out"),
            (
                lambda lines: [*lines[1:], line(1, calling(), "another")],
                "1 line of other requests than the official",
            ),
        ],
        ids=["missing", "again", "older", "unmatched", "apart", "half", "nameless", "other request"],
    )
    @pytest.mark.parametrize("gate", ["strict", "upstream"])
    def test_what_was_left_out_bars_a_pass(self, files, tmp_path, change, said, gate):
        """Whatever is not held against its official answer keeps both gates from passing, and is said on top."""
        results, official = files
        lines = change([json.loads(text) for text in results.read_bytes().splitlines()])
        lenient = ("--min-schema-accuracy", "0.8", "--call-surplus-tolerance", "0.2", "--subset", SUBSET)
        flags = ("score", write_lines(tmp_path / "changed.jsonl", lines), "--baseline", official, *lenient)
        for means, code in (((), 3), (("--inconclusive", "ok"), 3), (("--inconclusive", "fail"), 1)):
            found = invoke(*flags, "--gate", gate, *means)
            too_few = "39 of 40 requests completed" in found.stderr
            assert too_few or said in found.stderr
            assert found.exit_code == (3 if too_few else code), found.stderr
        for form in ("text", "markdown", "json", "junit"):
            top = "".join(
                invoke(*flags, "--gate", gate, "--format", form).stdout.splitlines(keepends=True)[:20]
            )
            words = (
                "left out",
                "39 of 40 requests",
                "without a line",
                "have no line",
                "other messages",
                "other requests",
            )
            assert any(word in top for word in words), (form, top)
        failing = (*flags, "--min-trigger-similarity", "1.0", "--gate", gate)
        assert invoke(*failing).exit_code == 3
        # Without a gate nothing passes, and one line of forty is no reason to call the log incomplete.
        assert invoke(*flags).exit_code == 0

    def test_a_failed_verdict_stays_failed(self, files, tmp_path):
        """What was left out keeps a log from passing, and never from failing."""
        results, official = files
        lines = [json.loads(text) for text in results.read_bytes().splitlines()]
        wrong = [line(item["data_index"], answering()) for item in lines]
        path = write_lines(tmp_path / "wrong.jsonl", [*wrong, b"{half"])
        for gate in ("strict", "upstream"):
            flags = ("--baseline", official, "--subset", SUBSET, "--gate", gate)
            assert invoke("score", path, *flags).exit_code == 1

    def test_coverage_is_over_the_official_answers(self, files, tmp_path):
        """A log of two of forty lines is incomplete, without a gate too; --min-coverage says what will do."""
        lines = files[0].read_bytes().splitlines(keepends=True)
        few = write_lines(tmp_path / "few.jsonl", lines[:2])
        flags = ("score", few, "--baseline", files[1], "--subset", SUBSET)
        found = invoke(*flags)
        assert found.exit_code == 3
        assert "2 of 40 requests completed (5.00%), below --min-coverage 0.95" in found.stderr
        most = write_lines(tmp_path / "most.jsonl", lines[:36])
        lenient = ("--min-schema-accuracy", "0.8", "--call-surplus-tolerance", "0.3", "--gate", "strict")
        flags = ("score", most, "--baseline", files[1], "--subset", SUBSET, *lenient)
        assert [invoke(*flags, *more).exit_code for more in ((), ("--min-coverage", "0.9"))] == [3, 0]

    def test_rows_directory(self, files, tmp_path):
        """Rows may be a directory, of which the subset chooses the file."""
        rows = [
            make_row(f"question {number}", call=bool(number % 2), data_index=number)
            for number in range(1, 41)
        ]
        (tmp_path / "rows").mkdir()
        (tmp_path / "rows" / "mine_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        result = invoke(
            "score", files[0], "--rows", tmp_path / "rows", "--subset", "mine", "--format", "json"
        )
        assert json.loads(result.stdout)["confusion"]["tp"] == 20

    def test_archive(self, files, tmp_path):
        """The official results may stay in upstream's archive, even for lines without request."""
        lines = [json.loads(text) for text in files[0].read_bytes().splitlines()]
        results = write_lines(tmp_path / "bare.jsonl", [{**item, "request": None} for item in lines])
        archive = write_archive(tmp_path / "tool-calls.tar.gz", {"kimi-k2-thinking_results.jsonl": files[1]})
        result = invoke("score", results, "--baseline", archive, "--subset", SUBSET, "--format", "json")
        report = json.loads(result.stdout)
        assert report["confusion"] == {"tp": 20, "fp": 0, "fn": 0, "tn": 20}
        assert report["counts"]["count_successful_tool_call"] == 20
        refused = invoke("score", results, "--baseline", archive)
        assert refused.exit_code == 2
        assert "choose with --subset k2_thinking or k2_0905" in refused.stderr

    @pytest.mark.parametrize("flags", [(), ("--baseline", "x", "--rows", "y")])
    def test_one_official_side(self, files, flags):
        """Exactly one of --baseline and --rows is needed."""
        result = invoke("score", files[0], *flags)
        assert result.exit_code == 2
        assert "either by --baseline OFFICIAL.jsonl or by --rows ROWS" in result.stderr

    @pytest.mark.parametrize("missing", ["results", "official"])
    def test_missing_file(self, files, tmp_path, missing):
        """A file that is not there is an error of one line."""
        paths = {"results": files[0], "official": files[1], missing: tmp_path / "nowhere.jsonl"}
        result = invoke("score", paths["results"], "--baseline", paths["official"])
        assert result.exit_code == 2
        assert "nowhere.jsonl: no such file" in result.stderr


UNKNOWABLE = ("started_at", "finished_at", "endpoint_host", "adapter", "evalscope", "python")


def comparable(report):
    """Take away what a results file cannot know of a run."""
    report = json.loads(json.dumps(report))
    for name in UNKNOWABLE:
        del report["provenance"][name]
    del report["provenance"]["rows"]
    report.pop("log", None)
    return report


def test_score_of_an_export_equals_the_report_of_the_run(tmp_path):
    """Failures, repeats, repaired histories and streams included, the exported file tells all of it."""
    rows = [
        make_row("a", history=malformed_history()),
        make_row("b", call=False),
        make_row("c", official_tool_calls=calling('{"city": "Rome"}')["choices"][0]["message"]["tool_calls"]),
        make_row("d", messages=[{"role": "_input", "content": "x"}, {"role": "user", "content": "d"}]),
        make_row("e", call=False, official_finish_reason="length"),
        make_row("f", history=malformed_history(), call=False),
    ]
    firsts = [calling(), calling(TRUNCATED), calling(), answering(finish_reason="length"), None, "{}"]
    failures = [
        failed(4),
        failed(4, FailureClass.TIMED_OUT, None, "no answer in time", repeat=1),
        failed(1, FailureClass.RATE_LIMITED, 429, "HTTP 429", repeat=2),
    ]
    run = write_run(tmp_path / "run", rows, firsts, failures, repeats=3, planned=18)
    stored = read_run(choose_run(run))
    seconds = {0: answering(), 1: calling(), 2: calling('{"city": "Rome"}'), 3: calling(), 5: answering()}
    thirds = {
        0: calling("{'city': 1}"),
        2: answering(),
        3: calling(),
        4: answering(),
        5: calling(model="kimi-k2"),
    }
    with stored.paths.predictions.open("a") as file:
        for repeat, answers in ((1, seconds), (2, thirds)):
            for case_index, answer in answers.items():
                record = make_record(stored.cases[case_index], answer, repeat=repeat, duration_s=0.5 + repeat)
                anomalies = (FailureClass.STREAM_ID_MISSING,) if case_index == 0 else ()
                file.write(prediction_line(replace(record, stream_anomalies=anomalies)))
    results = tmp_path / "results.jsonl"
    stored = read_run(choose_run(run))
    assert write_results(results, stored) == 18
    rows_file = tmp_path / "rows.jsonl"
    rows_file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    reported = report_as_json(summary_of(stored))
    summary, _ = score_log(Log([results], SUBSET), official_of_rows(rows_file, SUBSET))
    assert comparable(report_as_json(summary)) == comparable(reported)
    # None of it is equal for want of anything to compare.
    assert {entry["class"] for entry in reported["failures"]} >= {
        "truncated_json", "stream_id_missing", "http_5xx", "timed_out", "rate_limited", "not_a_completion",
    }  # fmt: skip
    assert reported["repairs"] == {"malformed_history": 2, "input_role": 1, "tool_call_ids": 0}
    assert reported["repeats"]["decision_flip_rate"]["n"] == 11
    assert [found.count for found in summary.log.disagreements.values()] == [0, 0, 0]


SHUFFLED = RowsSample(SampleMethod.SHUFFLED, 7, 24, 30)


@pytest.mark.parametrize(
    ("asked", "changes", "code"),
    [
        (range(30), {}, 0),
        (range(20), {"complete": False, "stopped": "max_requests 20 reached"}, 3),
        (range(20), {"complete": False}, 3),
        (range(24), {"sample": RowsSample(SampleMethod.FIRST, None, 24, 30)}, 0),
        (
            sorted(number - 1 for number in SHUFFLED.drawn_of(dict.fromkeys(range(1, 31), True))),
            {"sample": SHUFFLED},
            0,
        ),
        (range(20), {"sample": RowsSample(SampleMethod.FIRST, None, 24, 30), "complete": False}, 3),
    ],
    ids=["whole", "stopped", "interrupted", "limited", "shuffled", "limited and interrupted"],
)
def test_a_run_and_its_export_end_with_the_same_code(tmp_path, asked, changes, code):
    """What a run was to ask, and whether it did, is in its export: `report` and `score` decide alike."""
    rows = [
        make_row(f"question {number}", call=number % 2 == 0, data_index=number + 1) for number in range(30)
    ]
    rows_file = write_lines(tmp_path / "rows.jsonl", rows)
    answers = [calling() if number % 2 == 0 else answering() for number in asked]
    changes = dict(changes)
    sample = changes.pop("sample", None)
    planned = 30 if sample is None else sample.rows
    run = write_run(
        tmp_path / "run",
        [rows[number] for number in asked],
        answers,
        rows_info=replace(FACTS.rows, sample=sample),
        planned=planned,
        **changes,
    )
    log = tmp_path / "log.jsonl"
    assert invoke("export", run, "--output", log).exit_code == 0
    lenient = ("--gate", "strict", "--min-schema-accuracy", "0.5", "--call-surplus-tolerance", "0.5")
    found = [
        invoke(*command, "--format", "json", *lenient, *coverage)
        for command in (("report", run), ("score", log, "--rows", rows_file, "--subset", SUBSET))
        for coverage in ((), ("--min-coverage", "0.5"))
    ]
    assert [result.exit_code for result in found] == [code] * 4
    reports = [json.loads(result.stdout) for result in found]
    assert all(report["requests"] == reports[0]["requests"] for report in reports)
    assert reports[0]["requests"]["total"] == planned
    # A line that was taken out afterwards is missing, whatever the run says of itself.
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[1:]))
    assert invoke("score", log, "--rows", rows_file, "--subset", SUBSET, *lenient).exit_code == 3


def test_a_log_tells_retries_and_token_limits(score):
    """An export says how often a request was sent, and a line's request how long its answer might get."""
    full = answering(usage={"completion_tokens": 64000})
    longer = {**line(2, full)["request"], "max_tokens": 64001}
    notes = [{"k2_verifier": {"attempts": attempts}} for attempts in (3, True)]
    lines = [line(1, full, **notes[0]), line(2, full, request=longer, **notes[1])]
    summary = score(lines, [line(1, answering()), line(2, answering())])
    assert summary.tally.failure_cases == {FailureClass.TRUNCATED_BY_LENGTH: {0: None}}
    assert summary.observed.retried == 1


class TestMemory:
    """What is kept is the official answers and the tally, whatever the size of the log."""

    def peak(self, tmp_path, official, log):
        """Measure the peak of the memory allocated while lines are scored in blocks of 100 kB."""
        official = write_lines(tmp_path / "official.jsonl", official)
        path = write_lines(tmp_path / "log.jsonl", log)
        gc.collect()
        tracemalloc.start()
        try:
            score_log(Log([path]), official_of_results(official, None))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    @pytest.fixture(autouse=True)
    def small_blocks(self, monkeypatch):
        """Cut small blocks."""
        monkeypatch.setattr(scoring, "BLOCK_BYTES", 100_000)

    def test_flat(self, tmp_path):
        """Four times the lines need not twice the memory."""

        def lines(count):
            for number in range(count):
                fields = {"model": "x" * 2000, "system_fingerprint": f"fp_{number}"}
                yield line(1 + number % 2, calling(TRUNCATED, id=f"chatcmpl-{number}", **fields))

        few, many = (self.peak(tmp_path, [line(1, calling())], lines(count)) for count in (500, 2000))
        assert many < 2 * few + 2**20

    def test_flat_over_many_cases(self, tmp_path):
        """Of another official answer, whose tools others declare as well, less than 2 KB is kept."""

        def lines(count):
            return (line(number, calling(TRUNCATED)) for number in range(1, count + 1))

        few, many = (self.peak(tmp_path, lines(count), lines(count)) for count in (500, 2000))
        assert many - few < 1500 * 2_000

    def test_listed_places(self):
        """Places are listed up to a limit and counted beyond it."""
        found = Places()
        for number in range(MAX_PLACES + 5):
            found.add(number)
        found.add(2**80)
        assert (found.count, len(found.listed)) == (MAX_PLACES + 6, MAX_PLACES)

    def test_listed_cases(self):
        """Cases of a failure class are listed up to a limit, also where tallies are merged."""
        tally, other = Tally(), Tally()
        for number in range(MAX_LISTED_CASES + 5):
            tally.add_failed(failed(number))
            other.add_failed(failed(number + MAX_LISTED_CASES))
        tally.merge(other)
        assert tally.failure_counts[FailureClass.HTTP_5XX] == 2 * MAX_LISTED_CASES + 10
        (symptom,) = tally.symptoms.values()
        counted = (
            tally.failed,
            symptom.shown,
            symptom.primary,
            tally.failed_statuses[503],
            symptom.statuses[503],
        )
        assert set(counted) == {2 * MAX_LISTED_CASES + 10}
        assert list(tally.failure_cases[FailureClass.HTTP_5XX]) == list(range(MAX_LISTED_CASES))

    def test_distinct_texts(self):
        """Texts that a vendor makes up without end are counted together beyond a limit."""
        from collections import Counter

        counter = Counter()
        for number in range(MAX_DISTINCT + 7):
            count_text(counter, f"fp_{number}")
        count_text(counter, "fp_3")
        assert (counter[OTHER_TEXTS], counter["fp_3"], len(counter)) == (7, 2, MAX_DISTINCT + 1)


@needs_realdata
class TestRealLogs:
    """The known answers of the real logs."""

    @pytest.mark.parametrize(
        ("flags", "fp", "f1", "scored"), [((), 22, 0.9311, 511), (("--failed-as-no-call",), 23, 0.9300, 512)]
    )
    def test_known_answers(self, flags, fp, f1, scored):
        """The vendor's run against the official one gives the known answer by either rule."""
        folder = Path(REALDATA or "")
        result = invoke(
            "score", folder / "deepseek_novita_results.jsonl",
            "--baseline", folder / "deepseek_official_results.jsonl", "--format", "json", *flags,
        )  # fmt: skip
        report = json.loads(result.stdout)
        assert report["confusion"] == {"tp": 412, "fp": fp, "fn": 39, "tn": 38}
        assert round(report["metrics"]["trigger_similarity"]["value"], 4) == f1
        assert report["log"]["scored"] == scored
        assert [found["count"] for found in report["log"]["disagreements"].values()] == [0, 0, 0]


def test_bar_only_on_a_terminal(monkeypatch, tmp_path):
    """On a terminal a bar is told how many bytes were read, of the official file and of the results."""
    from k2_verifier_adapter.cli import score as module

    path = write_lines(tmp_path / "results.jsonl", [line(number, calling()) for number in range(1, 4)])
    told = {}

    def fake(label, total):
        told[label] = [total]
        return nullcontext(told[label].append)

    monkeypatch.setattr(module, "progress", fake)
    invoke("score", path, "--baseline", path)
    size = path.stat().st_size
    assert {label: (total, sum(steps)) for label, (total, *steps) in told.items()} == {
        "official answers": (size, size),
        "scoring": (size, size),
    }


def test_a_pin_that_was_not_kept_counts_alike_in_report_and_score(tmp_path):
    """The answers of another provider than the pinned are failed requests in the run and in its export."""
    pin = {"provider": {"only": ["moonshotai"], "allow_fallbacks": False}}
    rows = [make_row(f"question {number}", parameters=pin) for number in range(8)]
    served = ["Moonshot AI"] * 5 + ["DeepInfra"] * 3
    run = write_run(tmp_path / "run", rows, [calling(provider=name) for name in served])
    log, official = tmp_path / "results.jsonl", tmp_path / "rows.jsonl"
    official.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert invoke("export", run, "--output", log).exit_code == 0
    scored = invoke("score", log, "--rows", official, "--format", "json")
    for result in (invoke("report", run, "--format", "json"), scored):
        found = json.loads(result.stdout)
        assert (found["requests"]["completed"], found["requests"]["failed"]) == (5, 3)
        assert [(item["class"], item["count"]) for item in found["failures"]] == [("other_provider", 3)]
        assert found["provenance"]["served"]["providers"] == {"Moonshot AI": 5}
        assert "provider" not in (found["verdict"]["reason"] or "")


def test_a_pin_that_no_answer_confirms_is_told(tmp_path):
    """Where answers name no provider, a warning says that the pin could not be checked."""
    rows = [make_row(parameters={"provider": {"only": ["moonshotai"]}})]
    facts = {"parameters": {**PARAMETERS, **rows[0]["parameters"]}}
    run = write_run(tmp_path / "run", rows, [calling()], **facts)
    warnings = json.loads(invoke("report", run, "--format", "json").stdout)["warnings"]
    assert any("pin a provider, but 1 response name none" in line for line in warnings), warnings
