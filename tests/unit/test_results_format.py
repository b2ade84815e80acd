import hashlib
import json

import pytest
from stored_runs import (
    PARAMETERS,
    TOOL,
    answering,
    calling,
    failed,
    make_row,
    malformed_history,
    prediction_line,
    write_run,
)

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.errors import DataError
from k2_verifier_adapter.formats.runs import choose_run, read_run
from k2_verifier_adapter.offline.export import (
    results_of,
    upstream_summary,
    write_results,
    write_summary,
)
from k2_verifier_adapter.offline.stored import summary_of

FIELDS = [
    "data_index",
    "request",
    "extra_body",
    "response",
    "status",
    "finish_reason",
    "tool_calls_valid",
    "last_run_at",
    "duration_ms",
    "hash",
]


def upstream_md5(request):
    """Upstream's formula, written down apart from the code under test."""
    return hashlib.md5(json.dumps(request, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()


def export(run, tmp_path):
    """Export a run and read the lines back."""
    stored = read_run(choose_run(run))
    path = tmp_path / "results.jsonl"
    count = write_results(path, stored)
    lines = path.read_bytes().splitlines()
    assert len(lines) == count
    return [json.loads(line) for line in lines]


@pytest.fixture
def mixed(tmp_path):
    """A run with a valid call, an invalid one, a stop, a failure, and a request never made."""
    rows = [make_row(f"天气 {number}", call=number < 2) for number in range(5)]
    answers = [calling(), calling('{"city": 3}'), answering("晴"), None, None]
    return write_run(tmp_path / "run", rows, answers, [failed(3)])


class TestResults:
    """The lines of results.jsonl."""

    def test_one_line_a_case_in_row_order(self, mixed, tmp_path):
        """Lines stand in row order, numbered from 1; requests never made have none."""
        lines = export(mixed, tmp_path)
        assert [line["data_index"] for line in lines] == [1, 2, 3, 4]
        assert all(list(line) == FIELDS for line in lines if line["status"] == "success")

    def test_what_upstreams_fields_cannot_say(self, mixed, tmp_path):
        """How a request failed and what a stream did stand in a note behind upstream's fields."""
        from dataclasses import replace

        from stored_runs import make_record

        stored = read_run(choose_run(mixed))
        late = replace(
            make_record(stored.cases[4], calling()),
            stream_anomalies=(FailureClass.STREAM_ID_MISSING,),
            raw=False,
        )
        with stored.paths.predictions.open("a") as file:
            file.write(prediction_line(late))
        failure, streamed = export(mixed, tmp_path)[3:]
        assert list(failure) == list(streamed) == [*FIELDS, "k2_verifier"]
        assert failure["k2_verifier"] == {"failure_class": "http_5xx", "http_status": 503, "attempts": 3}
        assert streamed["k2_verifier"] == {"stream_anomalies": ["stream_id_missing"], "raw": False}

    def test_success(self, mixed, tmp_path):
        """A completed request has the completion, its finish_reason and upstream's validity."""
        valid, invalid, stop, _ = export(mixed, tmp_path)
        assert valid["response"] == calling()
        assert [line["tool_calls_valid"] for line in (valid, invalid, stop)] == [True, False, None]
        assert [line["finish_reason"] for line in (valid, stop)] == ["tool_calls", "stop"]
        assert {line["status"] for line in (valid, invalid, stop)} == {"success"}
        assert valid["duration_ms"] == 250
        assert valid["last_run_at"] == "2026-11-22T10:00:01+00:00"
        assert valid["extra_body"] == {}

    def test_request_as_sent(self, mixed, tmp_path):
        """The request holds model, messages, tools, then the other parameters, as they were sent."""
        request = export(mixed, tmp_path)[0]["request"]
        assert list(request) == ["model", "messages", "tools", "temperature", "max_tokens", "stream"]
        assert request == {**PARAMETERS, "messages": [{"role": "user", "content": "天气 0"}], "tools": [TOOL]}

    def test_failed_request(self, mixed, tmp_path):
        """A failed request keeps its request, its error in place of the response, and no judgement."""
        line = export(mixed, tmp_path)[3]
        line["request"].pop("stream_options")
        assert line["status"] == "failed"
        assert line["response"] == {"error": "HTTP 503: overloaded"}
        assert (line["finish_reason"], line["tool_calls_valid"]) == (None, None)
        assert line["request"] == {
            **PARAMETERS,
            "messages": [{"role": "user", "content": "天气 3"}],
            "tools": [TOOL],
        }
        assert line["duration_ms"] == 1500

    @pytest.mark.parametrize(
        ("row_parameters", "shared", "expected"),
        [
            ({}, {"model": "m"}, {"temperature": 1.0, "max_tokens": 64000}),
            ({"top_p": 0.9, "temperature": 0.6}, {"model": "m"}, {"top_p": 0.9, "temperature": 0.6}),
            ({"temperature": 0.6}, {"model": "m", "temperature": 0.0}, {"temperature": 0.0}),
            ({"max_completion_tokens": 9}, {"model": "m"}, {"max_completion_tokens": 9, "max_tokens": None}),
        ],
    )
    def test_parameters_of_a_failed_request(self, tmp_path, row_parameters, shared, expected):
        """A failed request's parameters are the preset's, the row's, and those that all requests share."""
        run = write_run(
            tmp_path / "run",
            [make_row(parameters=row_parameters)],
            [None],
            [failed(0)],
            parameters={**shared, "stream": True, "stream_options": {"include_usage": True}},
        )
        request = export(run, tmp_path)[0]["request"]
        assert (request["model"], request["stream"]) == ("m", True)
        assert {name: request.get(name) for name in expected} == expected

    def test_hash_is_upstreams(self, mixed, tmp_path):
        """The hash is the md5 of the request as JSON, keys sorted, non-ASCII kept."""
        lines = export(mixed, tmp_path)
        assert [line["hash"] for line in lines] == [upstream_md5(line["request"]) for line in lines]
        assert len({line["hash"] for line in lines}) == len(lines)

    def test_row_without_tools(self, tmp_path):
        """A row without tools was sent without, so its request has none."""
        row = make_row(call=False)
        del row["tools"]
        request = export(write_run(tmp_path / "run", [row], [answering()]), tmp_path)[0]["request"]
        assert "tools" not in request

    def test_repaired_history_is_exported_as_sent(self, tmp_path):
        """The request is the one that was sent, repairs included."""
        run = write_run(tmp_path / "run", [make_row(history=malformed_history())], [calling()])
        request = export(run, tmp_path)[0]["request"]
        assert request["messages"][0]["tool_calls"][0]["function"]["arguments"] == "{}"

    def test_response_that_is_no_completion(self, tmp_path):
        """A stored body that is no completion is a failed line that says what came."""
        run = write_run(tmp_path / "run", [make_row()], ['{"choices": []}'])
        line = export(run, tmp_path)[0]
        assert (line["status"], line["finish_reason"]) == ("failed", None)
        assert "no choice 0" in line["response"]["error"]

    def test_non_ascii_kept_unless_a_lone_surrogate(self, tmp_path):
        """Text stays readable; only a line that holds a lone surrogate is escaped, and loses nothing."""
        run = write_run(
            tmp_path / "run", [make_row("一"), make_row("二")], [answering("好"), answering("\ud800好")]
        )
        stored = read_run(choose_run(run))
        path = tmp_path / "results.jsonl"
        write_results(path, stored)
        plain, escaped = path.read_bytes().splitlines()
        assert "一".encode() in plain
        assert escaped.isascii()
        assert json.loads(escaped)["response"]["choices"][0]["message"]["content"] == "\ud800好"

    def test_repeats(self, tmp_path):
        """Every repeat has its line, in order, under the row's number."""
        from stored_runs import make_record

        run = write_run(
            tmp_path / "run", [make_row()], [calling()], [failed(0, repeat=1)], repeats=3, planned=3
        )
        stored = read_run(choose_run(run))
        late = make_record(stored.cases[0], answering(), repeat=2)
        with stored.paths.predictions.open("a") as file:
            file.write(prediction_line(late))
        lines = export(run, tmp_path)
        assert [(line["data_index"], line["repeat"]) for line in lines] == [(1, 0), (1, 1), (1, 2)]
        assert [line["finish_reason"] for line in lines] == ["tool_calls", None, "stop"]

    def test_failure_of_a_row_that_is_not_in_the_run(self, tmp_path):
        """A failure left by a larger earlier session has no line."""
        run = write_run(tmp_path / "run", [make_row()], [calling()], [failed(7)])
        assert [result.data_index for result in results_of(read_run(choose_run(run)))] == [1]

    def test_file_that_cannot_be_written(self, mixed, tmp_path):
        """A path that cannot be written to is an error that names it."""
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match=r"results\.jsonl: cannot be written"):
            write_results(tmp_path / "file" / "results.jsonl", read_run(choose_run(mixed)))


class TestSummary:
    """Upstream's summary.json."""

    def test_upstreams_fields(self, mixed):
        """The summary has upstream's fields, in upstream's order, with the run's numbers."""
        summary = upstream_summary(summary_of(read_run(choose_run(mixed))))
        assert summary == {
            "model": "kimi-k2",
            "success_count": 3,
            "failure_count": 1,
            "finish_stop": 1,
            "finish_tool_calls": 2,
            "finish_others": 0,
            "finish_others_detail": {},
            "schema_validation_error_count": 1,
            "successful_tool_call_count": 1,
            "usage": {"prompt_tokens": 30, "completion_tokens": 15, "total_tokens": 45},
            "eval_started_at": "2026-11-22T10:00:00+00:00",
            "eval_finished_at": "2026-11-22T10:00:05.250000+00:00",
            "eval_duration_ms": 5250,
        }

    @pytest.mark.parametrize(
        ("started", "finished", "duration"),
        [
            ("2026-11-22T10:00:00Z", "2026-11-22T10:00:01+00:00", 1000),
            ("2026-11-22T10:00:00Z", None, None),
            ("2026-11-22T10:00:00", "2026-11-22T10:00:01+00:00", None),
            ("yesterday", "today", None),
        ],
    )
    def test_duration(self, tmp_path, started, finished, duration):
        """The duration is the time between the dates, or null where it is not known."""
        run = write_run(tmp_path / "run", [make_row()], [calling()], started_at=started, finished_at=finished)
        summary = upstream_summary(summary_of(read_run(choose_run(run))))
        assert summary["eval_duration_ms"] == duration

    def test_counts_agree_with_the_lines(self, tmp_path):
        """What the summary counts is what the lines say."""
        rows = [make_row(f"question {number}") for number in range(6)]
        answers = [calling(), calling("{"), answering(), answering(finish_reason="length"), None, "{}"]
        run = write_run(tmp_path / "run", rows, answers, [failed(4, FailureClass.TIMED_OUT, None)])
        lines = export(run, tmp_path)
        path = tmp_path / "summary.json"
        write_summary(path, summary_of(read_run(choose_run(run))))
        summary = json.loads(path.read_text())
        statuses = [line["status"] for line in lines]
        assert summary["success_count"] == statuses.count("success") == 4
        assert summary["failure_count"] == statuses.count("failed") == 2
        assert summary["finish_others_detail"] == {"length": 1}
        assert summary["successful_tool_call_count"] == sum(
            line["tool_calls_valid"] is True for line in lines
        )
