"""Rows from upstream's samples and official runs."""

import contextlib
import copy
import gzip
import json
import os
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from stored_runs import TOOL, answering, calling, malformed_history, write_run
from support.files import write_archive, write_lines

from k2_verifier_adapter.core.dataset_findings import FindingKind, count_by_kind, ranges
from k2_verifier_adapter.core.history import HistoryOptions, MalformedHistory
from k2_verifier_adapter.core.presets import SelfAgreement, Standard, preset_for
from k2_verifier_adapter.core.requests import build_request
from k2_verifier_adapter.core.self_agreement import pairwise_agreement, self_agreement, threshold_for
from k2_verifier_adapter.errors import BadRowsError, DataError, UsageError
from k2_verifier_adapter.formats.request_texts import request_texts
from k2_verifier_adapter.formats.rows import load_cases
from k2_verifier_adapter.formats.runs import choose_run, read_run
from k2_verifier_adapter.offline.dataset_build import build_subset
from k2_verifier_adapter.offline.dataset_check import check_subset
from k2_verifier_adapter.offline.export import results_of, write_results
from k2_verifier_adapter.offline.official_runs import Source
from k2_verifier_adapter.offline.stored import summary_of
from k2_verifier_adapter.reports.dataset_document import build_document
from k2_verifier_adapter.reports.text import UNFOLDED, render_text

REALDATA = os.environ.get("K2_VERIFIER_REALDATA")
needs_realdata = pytest.mark.skipif(not REALDATA, reason="K2_VERIFIER_REALDATA is not set")
KEEP = HistoryOptions(MalformedHistory.KEEP)
COLUMNS = [
    "messages",
    "tools",
    "should_call_tool",
    "official_finish_reason",
    "official_tool_calls",
    "parameters",
    "data_index",
]


def render_build(build):
    """Say what was built, as the command does."""
    return render_text(build_document(build), width=UNFOLDED)


def sample(number, **changes):
    """Make one line of samples.jsonl, as upstream's look."""
    return {
        "model": "kimi-k2",
        "messages": [
            {"role": "_input", "content": "briefing"},
            {"role": "user", "content": f"天气 {number}?"},
        ],
        "max_tokens": 16000,
        "temperature": 0.6,
        "stream": True,
        "user": "somebody",
        "tools": [TOOL],
        **changes,
    }


def as_sent(request):
    """Make the request that upstream sends for a sample."""
    sent = copy.deepcopy(request)
    for message in sent["messages"]:
        message["role"] = "system" if message["role"] == "_input" else message["role"]
    return {**sent, "temperature": 1.0, "max_tokens": 64000}


def result(number, response, request=None, **changes):
    """Make one line of results.jsonl."""
    choices = response.get("choices")
    finish_reason = choices[0].get("finish_reason") if choices and isinstance(choices[0], dict) else None
    return {
        "data_index": number,
        "request": as_sent(sample(number)) if request is None else request,
        "extra_body": {},
        "response": response,
        "status": "success" if "choices" in response else "failed",
        "finish_reason": finish_reason,
        "tool_calls_valid": None,
        "last_run_at": "2025-11-07T00:00:00",
        "duration_ms": 12,
        "hash": "00",
        **changes,
    }


def failing(number):
    """Make the line of a failed request."""
    return result(number, {"error": "Error code: 503 - overloaded"})


class Bench:
    """A directory to build in."""

    def __init__(self, path):
        self.path = path
        self.output = path / "rows"

    def build(self, results, samples=None, *, others=(), subset="mine", name="results.jsonl", **options):
        """Build from lines; `samples` may be left out."""
        prompts = None if samples is None else Source(write_lines(self.path / "samples.jsonl", samples))
        runs = [Source(write_lines(self.path / name, results))]
        runs += [Source(write_lines(self.path / f"run{n}.jsonl", lines)) for n, lines in enumerate(others, 2)]
        return build_subset(subset, self.output, prompts, runs, **options)

    def rows(self, subset="mine"):
        """Read the rows that were built."""
        path = self.output / f"{subset}_test.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def baseline(self, subset="mine"):
        """Read the baseline file that was built."""
        return json.loads((self.output / f"{subset}.baseline.json").read_text())


@pytest.fixture
def bench(tmp_path):
    """A directory to build in."""
    return Bench(tmp_path)


def kinds(build):
    """Count what a build found."""
    return {kind.key: count for kind, count in count_by_kind(build.findings).items()}


def lines_of(build, kind):
    """List the line numbers of a kind of finding."""
    return [finding.lines for finding in build.findings if finding.kind is kind]


def plain_run(decisions):
    """Make a run that calls or does not, by decision."""
    return [
        result(number, calling() if calls else answering()) for number, calls in enumerate(decisions, start=1)
    ]


class TestRows:
    """The rows that are written."""

    def test_gzipped_files(self, bench):
        """Samples and results build the same rows gzipped as plain."""
        lines = [result(1, calling()), result(2, answering())], [sample(1), sample(2)]
        bench.build(*lines)
        plain = bench.rows()
        packed = []
        for name in ("samples.jsonl", "results.jsonl"):
            packed.append(bench.path / f"{name}.gz")
            packed[-1].write_bytes(gzip.compress((bench.path / name).read_bytes()))
        build_subset("packed", bench.output, Source(packed[0]), [Source(packed[1])])
        assert bench.rows("packed") == plain

    def test_columns(self, bench):
        """A row holds the hosted columns: the sample's request and the official answer to it."""
        build = bench.build([result(1, calling()), result(2, answering())], [sample(1), sample(2)])
        called, stopped = bench.rows()
        assert list(called) == COLUMNS
        assert json.loads(called["messages"]) == sample(1)["messages"]
        assert json.loads(called["tools"]) == [TOOL]
        assert (called["should_call_tool"], called["official_finish_reason"]) == (True, "tool_calls")
        assert json.loads(called["official_tool_calls"]) == calling()["choices"][0]["message"]["tool_calls"]
        assert (stopped["should_call_tool"], stopped["official_finish_reason"]) == (False, "stop")
        assert stopped["official_tool_calls"] is None
        assert (build.rows, build.calls) == (2, 1)

    def test_parameters(self, bench):
        """Parameters are the baseline's, not the sample's, `extra_body` merged in and the caller left away."""
        request = {**as_sent(sample(1)), "extra_body": {"top_k": 3}, "extra_headers": {"key": "secret"}}
        extra = {"thinking": {"type": "enabled"}, "temperature": 0.9}
        bench.build([result(1, calling(), request, extra_body=extra)], [sample(1)])
        assert json.loads(bench.rows()[0]["parameters"]) == {
            "max_tokens": 64000,
            "temperature": 0.9,
            "stream": True,
            "top_k": 3,
            "thinking": {"type": "enabled"},
        }

    def test_rows_load_and_send_the_sample(self, bench):
        """The rows that were built load, and their requests are the samples', `_input` sent as system."""
        samples = [sample(1), sample(2, messages=[*malformed_history(), {"role": "user", "content": "?"}])]
        results = [result(n, calling(), as_sent(item)) for n, item in enumerate(samples, start=1)]
        bench.build(results, samples)
        for case, item in zip(load_cases(bench.output, "mine", KEEP).cases, samples, strict=True):
            body = json.loads(build_request(case, "kimi-k2", case.parameters).body)
            sent = as_sent(item)
            assert json.dumps([body["messages"], body["tools"]]) == json.dumps(
                [sent["messages"], sent["tools"]]
            )

    def test_text_is_kept(self, bench):
        """Messages and tools keep the spelling of the samples file: numbers, escapes, key order, spaces."""
        messages = '[ {"content":"\\u00e9\\ud83d\\ude00 é","role":"user", "n": 1.50e+2, "big": 123456789012345678901} ]'
        tools = '[{"b": 1.0, "a": [ ]}]'
        request = f'{{"tools": {tools}, "messages": {messages}}}'
        line = f' {{"model": "m" ,"messages":{messages}, "tools" : {tools}}}'
        log = json.dumps(result(1, answering(), {})).replace('"request": {}', f'"request": {request}')
        bench.build([log], [line])
        assert (bench.rows()[0]["messages"], bench.rows()[0]["tools"]) == (messages, tools)

    def test_lone_surrogates(self, bench):
        """A lone surrogate, which has no UTF-8 form, becomes its escape; the value stays."""
        for lone in ("\\ud800", "\ud800"):
            line = f'{{"messages": [{{"role": "user", "content": "a{lone}b 天"}}]}}'
            log = f'{{"data_index": 1, "request": {line}, "response": {json.dumps(answering(finish_reason="x" + lone))}}}'
            bench.build([log], [line])
            (case,) = load_cases(bench.output, "mine", KEEP).cases
            assert case.messages() == [{"role": "user", "content": "a\ud800b 天"}]
            assert "天" in bench.rows()[0]["messages"]

    def test_order_is_that_of_data_index(self, bench):
        """Rows stand in the order of data_index, whatever the order of the results."""
        bench.build([result(n, calling()) for n in (3, 1, 2)], [sample(n) for n in (1, 2, 3)])
        assert [row["data_index"] for row in bench.rows()] == [1, 2, 3]

    def test_empty_call_list(self, bench):
        """An official answer that calls without a call carries an empty list, so it counts as invalid."""
        response = calling()
        response["choices"][0]["message"] = None
        bench.build([result(1, response)], [sample(1)])
        assert bench.rows()[0]["official_tool_calls"] == "[]"

    def test_calls_without_the_decision_are_left_away(self, bench):
        """Calls under another finish_reason, which upstream does not look at, are not in the row."""
        bench.build([result(1, calling(finish_reason="stop"))], [sample(1)])
        assert bench.rows()[0]["official_tool_calls"] is None

    def test_without_tools(self, bench):
        """A sample without tools gives a row without tools."""
        item = sample(1)
        del item["tools"]
        bench.build([result(1, answering(), as_sent(item))], [item])
        assert bench.rows()[0]["tools"] is None
        assert load_cases(bench.output, "mine", KEEP).cases[0].tools_json is None


class TestJoin:
    """Joining by data_index: nothing is joined in silence."""

    SAMPLES = (sample(1), sample(2), sample(3))

    def test_gap(self, bench):
        """A sample without result is left out and listed; the other rows keep their data_index."""
        build = bench.build([result(1, calling()), result(3, calling())], self.SAMPLES)
        assert kinds(build) == {"no_result": 1}
        assert lines_of(build, FindingKind.NO_RESULT) == [(2,)]
        cases = load_cases(bench.output, "mine", KEEP).cases
        assert [(case.index, case.data_index) for case in cases] == [(0, 1), (1, 3)]

    def test_result_without_sample(self, bench):
        """A result that no sample belongs to is left out and listed."""
        build = bench.build([*plain_run([True] * 3), result(9, calling())], self.SAMPLES)
        assert kinds(build) == {"no_sample": 1}
        assert lines_of(build, FindingKind.NO_SAMPLE) == [(4,)]
        assert build.rows == 3

    @pytest.mark.parametrize(
        "line",
        [
            failing(2),
            result(2, {"error": {"message": "no"}}, status="success"),
            result(2, {"choices": []}, status="success"),
            result(2, calling(), status="failed"),
            {"data_index": 2, "response": None},
            {"data_index": 2},
        ],
    )
    def test_failed(self, bench, line):
        """An official request without completion is no "did not call": its row is left out."""
        build = bench.build([result(1, calling()), line, result(3, answering())], self.SAMPLES)
        assert kinds(build) == {"failed": 1}
        assert lines_of(build, FindingKind.FAILED) == [(2,)]
        assert [row["data_index"] for row in bench.rows()] == [1, 3]

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"messages": [{"role": "user", "content": "else"}]}, "messages"),
            ({"messages": [{"content": "天气 2?", "role": "user"}]}, "messages"),
            ({"tools": []}, "tools"),
            ({"tools": None}, "tools"),
            ({"messages": None, "tools": None}, "messages and tools"),
        ],
    )
    def test_request_differs(self, bench, change, field):
        """A row whose official request was another one is left out, and the field is named."""
        other = result(2, calling(), {**as_sent(sample(2)), **change})
        build = bench.build([result(1, calling()), other, result(3, calling())], self.SAMPLES)
        assert kinds(build) == {"request_differs": 1}
        finding = next(item for item in build.findings if item.kind is FindingKind.REQUEST_DIFFERS)
        assert (finding.lines, finding.detail) == ((2,), f"{field} of data_index 2")

    def test_parameters_may_differ(self, bench):
        """Other parameters, another model or user make no difference."""
        request = {**as_sent(sample(1)), "model": "else", "user": "other", "seed": 1}
        assert kinds(bench.build([result(1, calling(), request)], [sample(1)])) == {}

    def test_duplicates_that_differ(self, bench):
        """Of two results that decide or call differently none is used."""
        for second in (answering(), calling('{"city": "Rome"}'), answering(finish_reason="length")):
            lines = [result(1, calling()), result(2, calling()), result(2, second)]
            build = bench.build(lines, self.SAMPLES[:2])
            assert kinds(build) == {"duplicate": 1}
            assert lines_of(build, FindingKind.DUPLICATE) == [(2, 3)]
            assert [row["data_index"] for row in bench.rows()] == [1]

    def test_duplicates_asked_differently(self, bench):
        """Two equal answers to different requests are no answer either."""
        other = result(1, calling(), {**as_sent(sample(1)), "tools": []})
        build = bench.build([result(1, calling()), other, result(2, calling())], self.SAMPLES[:2])
        assert kinds(build) == {"duplicate": 1}

    def test_duplicates_alike(self, bench):
        """Two results that decide and call alike, ids aside, give one row and are noted."""
        second = calling(id="other")
        second["choices"][0]["message"]["tool_calls"][0]["id"] = "call_2"
        build = bench.build([result(1, calling()), result(1, second)], [sample(1)])
        assert kinds(build) == {"repeated_alike": 1}
        assert build.rows == 1

    def test_retried(self, bench):
        """A failed line beside a completed one, as a resumed run leaves it, is noted and not used."""
        build = bench.build([failing(1), result(1, calling())], [sample(1)])
        assert kinds(build) == {"retried": 1}
        assert bench.rows()[0]["should_call_tool"] is True

    @pytest.mark.parametrize(
        "line",
        ["{", "[1]", "\x00", '"text"', "[" * 100_000, '{"data_index": NaN}', "\udcff"]
        + [json.dumps({"data_index": bad}) for bad in (None, "1", 0, -1, True, 1.0)]
        + ["{}"],
    )
    def test_bad_result_lines(self, bench, line):
        """A line that cannot be read or names no data_index is listed; the others are used."""
        build = bench.build([line, result(1, calling())], [sample(1)])
        assert kinds(build) == {"bad_result": 1}
        assert lines_of(build, FindingKind.BAD_RESULT) == [(1,)]
        assert build.rows == 1

    def test_bad_sample_line(self, bench):
        """A sample that cannot be read keeps its line number, and its result has no sample."""
        build = bench.build(plain_run([True, True]), ["{", sample(2)])
        assert kinds(build) == {"bad_sample": 1, "no_sample": 1}
        assert [row["data_index"] for row in bench.rows()] == [2]

    @pytest.mark.parametrize(
        "messages",
        [[], None, "text", [1], [{"content": "no role"}], json.loads("[" * 450 + "]" * 450)],
    )
    def test_unusable_request(self, bench, messages):
        """A request that no row can hold is left out, with the field and the reason."""
        item = sample(1, messages=messages)
        lines = [result(1, calling(), item), result(2, calling())]
        build = bench.build(lines, [item, sample(2)])
        assert kinds(build) == {"unusable": 1}
        finding = next(item for item in build.findings if item.kind is FindingKind.UNUSABLE)
        assert finding.lines == (1,)
        assert "field 'messages" in finding.detail

    def test_hostile_answers(self, bench):
        """Answers of odd shapes give rows that load, or are listed; none stops the build."""
        deep = json.loads("[" * 900 + "]" * 900)
        odd = [
            {"choices": [{"finish_reason": "tool_calls", "message": {"tool_calls": [1, None, "x"]}}]},
            {"choices": [{"finish_reason": "tool_calls", "message": {"tool_calls": "x"}}]},
            {"choices": [{"finish_reason": {"a": 1}, "message": 3}], "model": 4},
            {"choices": [{"finish_reason": None}]},
            {"choices": [{"finish_reason": "tool_calls", "message": {"tool_calls": [{"function": deep}]}}]},
            {"choices": [{"finish_reason": "tool_calls", "message": {"tool_calls": [float("nan")]}}]},
            {"choices": [1]},
        ]
        lines = [result(n, answer, finish_reason=None) for n, answer in enumerate(odd, start=1)]
        lines.append(result(8, calling(), {**as_sent(sample(8)), "logit_bias": float("nan")}))
        build = bench.build(lines, [sample(n) for n in range(1, 9)])
        assert build.rows + sum(kinds(build).values()) == 8
        assert len(load_cases(bench.output, "mine", KEEP).cases) == build.rows == 4
        assert render_build(build)

    def test_old_logs(self, bench):
        """A log without request, extra_body, status and validity is used; that it was not compared is noted."""
        lines = [{"data_index": 1, "response": calling()}, {"data_index": 2, "response": answering()}]
        build = bench.build(lines, self.SAMPLES[:2])
        assert kinds(build) == {"not_compared": 2}
        assert [row["parameters"] for row in bench.rows()] == ["{}", "{}"]

    def test_log_disagrees(self, bench):
        """The decision is the response's; where the log says otherwise, that is noted."""
        build = bench.build([result(1, answering(), finish_reason="tool_calls")], [sample(1)])
        assert kinds(build) == {"log_disagrees": 1}
        assert bench.rows()[0]["should_call_tool"] is False

    @pytest.mark.parametrize(
        ("samples", "results"), [([], [result(1, calling())]), ([sample(1)], ["{", "{}"])]
    )
    def test_nothing_to_join(self, bench, samples, results):
        """A file without any sample or result is an error that says what was expected."""
        with pytest.raises(DataError, match=r"holds no (samples|results), expected"):
            bench.build(results, samples)

    def test_listing(self, bench):
        """The summary lists every line number that was left out, as ranges."""
        lines = [failing(n) if n in (2, 3, 4, 7) else result(n, calling()) for n in range(1, 9)]
        text = render_build(bench.build(lines, [sample(n) for n in range(1, 9)]))
        assert "4 official requests that failed: results.jsonl, lines 2-4, 7" in text
        assert "line 2: Error code: 503 - overloaded" in text


class TestWithoutSamples:
    """A baseline's own requests as rows."""

    def test_exported_run(self, bench):
        """A run against an official endpoint, exported, becomes the baseline of a subset of any name."""
        bench.build(plain_run([True, False, True]), [sample(n) for n in (1, 2, 3)])
        rows = bench.rows()
        run = write_run(bench.path / "run", rows, [calling(), answering(), calling()])
        exported = bench.path / "exported.jsonl"
        write_results(exported, read_run(choose_run(run)))
        build = build_subset("k2_5", bench.output, None, [Source(exported)])
        assert kinds(build) == {}
        for before, after in zip(rows, bench.rows("k2_5"), strict=True):
            assert (
                json.loads(after["messages"])
                == as_sent({"messages": json.loads(before["messages"])})["messages"]
            )
            assert json.loads(after["tools"]) == json.loads(before["tools"])
            assert after["should_call_tool"] == before["should_call_tool"]
            assert after["data_index"] == before["data_index"]

    def test_missing_numbers_are_noted(self, bench):
        """Numbers that no line answers are noted, however large the last one is."""
        build = bench.build([result(2, calling()), result(4, calling()), result(10**15, calling())])
        (finding,) = build.findings
        assert finding.kind is FindingKind.NUMBERS_MISSING
        assert (finding.detail, finding.count) == ("1, 3, 5-999999999999999", 10**15 - 3)

    def test_lines_without_request(self, bench):
        """A line that holds no request gives no row."""
        build = bench.build([{"data_index": 1, "response": calling()}, result(2, calling())])
        assert kinds(build)["unusable"] == 1
        assert build.rows == 1


class TestArchive:
    """Straight from the official archive."""

    @pytest.fixture
    def archive(self, tmp_path):
        """An archive laid out as the official one."""
        members = {
            "samples.jsonl": [sample(1), sample(2)],
            "kimi-k2-thinking_results.jsonl": plain_run([True, False]),
            "kimi-k2-0905-preview_results.jsonl": plain_run([False, False]),
        }
        files = {name: write_lines(tmp_path / name, lines) for name, lines in members.items()}
        return write_archive(tmp_path / "tool-calls.tar.gz", files)

    @pytest.mark.parametrize(
        ("subset", "member", "calls"),
        [
            ("k2_thinking", "kimi-k2-thinking_results.jsonl", 1),
            ("k2_0905", "kimi-k2-0905-preview_results.jsonl", 0),
        ],
    )
    def test_both_subsets(self, bench, archive, subset, member, calls):
        """Either subset is built from its member, with upstream's published threshold."""
        samples, results = Source(archive, "samples.jsonl"), Source(archive, member)
        build = build_subset(subset, bench.output, samples, [results])
        assert (build.rows, build.calls, kinds(build)) == (2, calls, {})
        loaded = load_cases(bench.output, subset, KEEP)
        assert loaded.standard == preset_for(subset).standard
        assert bench.baseline(subset)["runs"][0]["file"] == member

    def test_damaged_archive(self, bench, archive):
        """A damaged archive is never a traceback, at whatever byte it is damaged."""
        content = archive.read_bytes()
        source = Source(archive, "kimi-k2-thinking_results.jsonl")
        named = []
        for position in range(0, len(content), 7):
            archive.write_bytes(content[:position] + b"\xff\x00\xff" + content[position + 3 :])
            with contextlib.suppress(DataError):
                build_subset("x", bench.output, None, [source])
                continue
            named.append(position)
        # What is damaged behind the member's end goes unnoticed.
        assert len(named) > len(content) / 14

    def test_links_in_an_archive(self, bench, archive):
        """A member that links to nothing or to itself is no file."""
        for target in ("nowhere", "results.jsonl"):
            with tarfile.open(archive, "w:gz") as tar:
                info = tarfile.TarInfo("results.jsonl")
                info.type, info.linkname = tarfile.SYMTYPE, target
                tar.addfile(info)
            with pytest.raises(DataError, match="is not a file"):
                build_subset("x", bench.output, None, [Source(archive, "results.jsonl")])


class TestStandard:
    """Thresholds from several official runs."""

    @pytest.mark.parametrize(("mean", "threshold"), [(0.7601, 0.7301), (1.0, 0.97), (0.01, 0.0)])
    def test_threshold(self, mean, threshold):
        """It lies 0.03 below the mean self-agreement, and never below 0."""
        assert threshold_for(mean) == threshold

    def test_f1_by_hand(self):
        """F1 is 2 TP / (2 TP + FP + FN) over the cases that both completed, whatever their order."""
        first = {1: True, 2: True, 3: False, 4: False, 5: True}
        second = {1: True, 2: False, 3: True, 4: False, 6: True}
        (pair,) = pairwise_agreement([first, second])
        assert (pair.cases, pair.f1) == (4, 0.5)
        (swapped,) = pairwise_agreement([second, first])
        assert (swapped.cases, swapped.f1) == (pair.cases, pair.f1)

    def test_undefined(self):
        """Where neither run ever calls there is no F1, and so no self-agreement."""
        runs = [{1: False}, {1: False}, {1: True}]
        assert [pair.f1 for pair in pairwise_agreement(runs)] == [None, 0.0, 0.0]
        assert self_agreement(runs) is None
        assert self_agreement([]) is None

    RUNS = ([True] * 8 + [False] * 2, [True] * 9 + [False], [True] * 6 + [False] * 4)

    def three_runs(self, bench, **options):
        """Build from three official runs over ten samples."""
        first, *others = [plain_run(decisions) for decisions in self.RUNS]
        return bench.build(first, [sample(n) for n in range(1, 11)], others=others, **options)

    def test_several_runs(self, bench):
        """Lowest and mean of all pairs and the threshold are stored beside the rows, and loaded with them."""
        build = self.three_runs(bench)
        f1 = [round(16 / 17, 4), round(12 / 14, 4), 0.8]
        assert [pair["f1"] for pair in bench.baseline()["pairs"]] == f1
        expected = SelfAgreement(0.8, round((16 / 17 + 12 / 14 + 0.8) / 3, 4), error=0.0783)
        standard = load_cases(bench.output, "mine", KEEP).standard
        assert standard == build.standard == Standard(0.8361, expected, "self-agreement of 3 official runs")
        text = render_build(build)
        assert "83.61%; self-agreement lowest 80.00%" in text
        assert "runs 2 and 3 F1 80.00% over 10 cases" in " ".join(text.split())

    def test_first_run_is_the_baseline(self, bench):
        """Further runs change no row."""
        self.three_runs(bench)
        assert [row["should_call_tool"] for row in bench.rows()] == self.RUNS[0]

    def test_only_common_cases_count(self, bench):
        """Cases that a run failed, or was asked differently, are not compared."""
        first, second = plain_run([True, True, True]), plain_run([True, False, False])
        second[1] = failing(2)
        second[2]["request"]["tools"] = []
        build = bench.build(first, [sample(n) for n in (1, 2, 3)], others=[second])
        assert [(pair.cases, pair.f1) for pair in build.pairs] == [(1, 1.0)]
        assert build.rows == 3
        assert Counter(item.kind.key for item in build.other_findings) == {"failed": 1, "request_differs": 1}

    def test_chosen_threshold(self, bench):
        """A threshold of the user's own replaces the computed one, and the source says so."""
        standard = self.three_runs(bench, threshold=0.5).standard
        assert (standard.threshold, standard.self_agreement.lowest) == (0.5, 0.8)
        assert "threshold set when built" in standard.source

    @pytest.mark.parametrize("subset", ["mine", "k2_thinking"])
    def test_one_run_has_no_threshold(self, bench, subset):
        """One own run gives no threshold, not even under a name that upstream has one for."""
        build = bench.build([result(1, calling())], [sample(1)], subset=subset)
        standard = load_cases(bench.output, subset, KEEP).standard
        assert (standard.threshold, standard.self_agreement) == (None, None)
        assert "no verdict" in render_build(build)
        run = write_run(bench.path / "run", bench.rows(subset), [calling()], standard=standard)
        verdict = summary_of(read_run(choose_run(run))).verdict
        assert verdict.reason == "no threshold is known for this subset"

    def test_unpacked_official_file(self, bench):
        """Upstream's own results file has upstream's threshold outside of the archive too."""
        name = "kimi-k2-0905-preview_results.jsonl"
        build = bench.build([result(1, calling())], [sample(1)], subset="k2_0905", name=name)
        assert build.standard == preset_for("k2_0905").standard

    def test_the_same_run_twice(self, bench):
        """A file given twice is refused: it would agree with itself."""
        with pytest.raises(UsageError, match=r"run2\.jsonl holds the same bytes as results\.jsonl"):
            bench.build(plain_run([True]), others=[plain_run([True])])


class TestFiles:
    """The files themselves."""

    def test_deterministic(self, bench):
        """The same input gives the same bytes."""
        lines, others = plain_run([True, False]), [plain_run([True, True])]
        written = []
        for output in ("one", "two"):
            bench.output = bench.path / output
            bench.build(lines, [sample(1), sample(2)], others=others)
            written.append({path.name: path.read_bytes() for path in bench.output.iterdir()})
        assert written[0] == written[1]
        assert sorted(written[0]) == ["mine.baseline.json", "mine_test.jsonl"]

    def test_an_error_leaves_the_old_files(self, bench, monkeypatch):
        """If anything fails while writing, the files of an earlier build stay as they were."""
        bench.build(plain_run([True]), [sample(1)])
        before = {path.name: path.read_bytes() for path in bench.output.iterdir()}

        def fail(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(DataError, match="No space left"):
            bench.build(plain_run([False]), [sample(1)])
        assert {path.name: path.read_bytes() for path in bench.output.iterdir()} == before

    def test_baseline_that_cannot_be_written(self, bench):
        """Where the baseline file cannot be put in its place, the rows are not replaced either."""
        bench.build(plain_run([True]), [sample(1)])
        rows = bench.rows()
        (bench.output / "mine.baseline.json").unlink()
        (bench.output / "mine.baseline.json").mkdir()
        with pytest.raises(DataError, match="cannot be written"):
            bench.build(plain_run([False]), [sample(1)])
        assert bench.rows() == rows

    @pytest.mark.parametrize("name", ["", "a/b", "..", ".", " ", "-x", "x\n"])
    def test_subset_names(self, bench, name):
        """A name that cannot stand in a file name is refused."""
        with pytest.raises(UsageError, match="files are named by it"):
            bench.build(plain_run([True]), subset=name)

    def test_changed_rows(self, bench):
        """Rows changed after their baseline was built are refused, with what to do."""
        bench.build(plain_run([True, False]), [sample(1), sample(2)])
        path = bench.output / "mine_test.jsonl"
        path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
        with pytest.raises(DataError, match=r"was changed after .* dataset build.* or delete"):
            load_cases(path, "mine", KEEP)
        (bench.output / "mine.baseline.json").unlink()
        assert load_cases(path, "mine", KEEP).standard is None

    @pytest.mark.parametrize(
        "content", ["", "{", "[]", "{}", '{"rows": {"file": 1}}', '{"rows": [], "standard": 1}']
    )
    def test_damaged_baseline_file(self, bench, content):
        """A baseline file that is none is an error, not a missing threshold."""
        bench.build(plain_run([True]), [sample(1)])
        (bench.output / "mine.baseline.json").write_text(content)
        with pytest.raises(DataError, match="is no baseline file"):
            load_cases(bench.output, "mine", KEEP)

    def test_baseline_of_other_rows(self, bench):
        """A baseline file that belongs to another rows file is not applied."""
        bench.build(plain_run([True]), [sample(1)])
        source, other = bench.output / "mine_test.jsonl", bench.output / "mine.jsonl"
        other.write_bytes(source.read_bytes())
        assert load_cases(other, "mine", KEEP).standard is None
        assert load_cases(source, "mine", KEEP).standard is not None

    def test_the_standard_follows_the_rows(self, bench):
        """The standard is found by the rows file, whatever the subset is called in the run."""
        bench.build(plain_run([True]), [sample(1)], threshold=0.6)
        standard = load_cases(bench.output / "mine_test.jsonl", "k2_thinking", KEEP).standard
        assert standard.threshold == 0.6


class TestDataIndex:
    """The column data_index, from rows to results."""

    def test_export_keeps_it(self, bench):
        """A run over rows with gaps is exported under the numbers of the samples."""
        bench.build(
            [result(2, calling()), failing(3), result(5, answering())], [sample(n) for n in range(1, 6)]
        )
        run = write_run(bench.path / "run", bench.rows(), [calling(), answering()])
        assert [line.data_index for line in results_of(read_run(choose_run(run)))] == [2, 5]

    def test_default(self, tmp_path):
        """Rows that do not say are numbered by their position, from 1."""
        row = {"messages": [{"role": "user", "content": "?"}], "should_call_tool": False}
        path = write_lines(tmp_path / "x.jsonl", [row, {**row, "data_index": None}, {**row, "data_index": 7}])
        assert [case.data_index for case in load_cases(path, "x", KEEP).cases] == [1, 2, 7]

    @pytest.mark.parametrize("value", [0, -1, "1", True, 1.0, [1]])
    def test_unusable(self, tmp_path, value):
        """A data_index that is no whole number of at least 1 makes a bad row."""
        row = {"messages": [{"role": "user", "content": "?"}], "should_call_tool": False, "data_index": value}
        with pytest.raises(BadRowsError, match="field 'data_index'"):
            load_cases(write_lines(tmp_path / "x.jsonl", [row]), "x", KEEP)

    def test_twice(self, tmp_path):
        """Two rows of one number are refused, for results could not be told apart."""
        row = {"messages": [{"role": "user", "content": "?"}], "should_call_tool": False, "data_index": 4}
        with pytest.raises(
            BadRowsError, match="line 2: field 'data_index': 4 is the number of line 1 already"
        ):
            load_cases(write_lines(tmp_path / "x.jsonl", [row, row]), "x", KEEP)


def test_ranges():
    """Numbers are written as ranges, without repetition, in order."""
    assert ranges([]) == ""
    assert ranges([5, 1, 2, 3, 3, 7]) == "1-3, 5, 7"


def test_repeated_member():
    """Of a repeated member the last counts, as for every JSON parser of Python."""
    texts = request_texts('{"messages": [1], "tools": [2], "messages": [ 3 ]}')
    assert (texts.messages, texts.tools) == ("[ 3 ]", "[2]")


@needs_realdata
class TestRealData:
    """Real logs in upstream's format."""

    @pytest.fixture
    def deepseek(self, bench):
        """A subset built from a real official run over 512 requests."""
        folder = Path(REALDATA)
        samples = Source(folder / "deepseek_samples.jsonl")
        official = Source(folder / "deepseek_official_results.jsonl")
        return build_subset("deepseek", bench.output, samples, [official])

    def test_build(self, bench, deepseek):
        """One failed official row is left out; no request differs; 451 of 511 rows call."""
        assert (deepseek.rows, deepseek.calls) == (511, 451)
        assert kinds(deepseek) == {"failed": 1}
        assert lines_of(deepseek, FindingKind.FAILED) == [(344,)]
        parameters = {"max_tokens": 4096, "temperature": 0.6, "stream": False}
        assert all(json.loads(row["parameters"]) == parameters for row in bench.rows("deepseek"))
        assert bench.baseline("deepseek")["runs"][0]["requested_models"] == {"deepseek-reasoner": 512}

    def test_requests_are_the_samples(self, bench, deepseek):
        """Every row's request holds messages and tools of its sample, key order included."""
        lines = (Path(REALDATA) / "deepseek_samples.jsonl").read_text(encoding="utf-8").splitlines()
        samples = [json.loads(line) for line in lines]
        cases = load_cases(bench.output, "deepseek", KEEP).cases
        assert len(cases) == deepseek.rows
        for case in cases:
            body = json.loads(build_request(case, "m", case.parameters).body)
            item = samples[case.data_index - 1]
            assert json.dumps([body["messages"], body["tools"]]) == json.dumps(
                [item["messages"], item["tools"]]
            )

    def test_check(self, bench, deepseek):
        """The built rows can be used; four official answers are invalid, as the log says."""
        check = check_subset(bench.output, "deepseek")
        assert check.usable
        assert (check.rows, check.calls, check.with_official_calls) == (511, 451, 451)
        # One row less before the last of them: line 364 holds data_index 365.
        assert {note.place.number for note in check.call_notes} == {13, 44, 176, 364}
        assert check.tool_notes == []
