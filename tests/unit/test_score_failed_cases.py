"""The page of a scored log shows its failed cases as that of a run does, wherever their lines stand."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored_runs import answering, calling, completion, failed, make_row, write_run
from stored_runs import results_line as line
from support.commands import invoke

from k2_verifier_adapter.core import log_facts
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass, LeakedCall
from k2_verifier_adapter.core.log_facts import FailedLines
from k2_verifier_adapter.core.redaction import ToolNames, redact_failure
from k2_verifier_adapter.formats.line_notes import LineNote, Redaction
from k2_verifier_adapter.offline.failed_cases_of_log import failed_cases_of_log
from k2_verifier_adapter.offline.failed_cases_of_run import failed_cases_of_run
from k2_verifier_adapter.offline.scoring import read_again
from k2_verifier_adapter.offline.scoring.log import Log, score_files
from k2_verifier_adapter.offline.scoring.official import official_of_results
from k2_verifier_adapter.reports.html.page import fit

LEAK = "I call. <|tool_calls_section_begin|>x"
LEAKING = completion({"role": "assistant", "content": LEAK}, "stop")


OFFICIAL = [line(number, calling() if number % 2 else answering()) for number in range(1, 8)]
LINES = [
    line(1, calling('{"city": 7}')),
    line(2, answering()),
    line(3, calling()),
    line(3, calling('{"city": "Os')),
    line(3, answering()),
    line(4, LEAKING),
    line(5, "Error code: 503 - overloaded"),
    line(6, answering(finish_reason="length")),
]


def write(path: Path, lines: Iterable[Any]) -> Path:
    """Write lines, which are texts or values."""
    texts = (item if isinstance(item, bytes) else json.dumps(item).encode() for item in lines)
    path.write_bytes(b"\n".join(texts))
    return path


class _Scripts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found.append(data)


def cases_of(*arguments: object) -> list[dict[str, Any]]:
    """Give the failed cases as the page's script gets them."""
    result = invoke("score", *arguments, "--format", "html")
    assert result.exit_code == 0, result.stderr
    scripts = _Scripts()
    scripts.feed(result.stdout)
    found: list[dict[str, Any]] = json.loads(scripts.found[0])
    return found


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an official file of 7 answers, which call in turn."""
    return write(tmp_path_factory.mktemp("official") / "official.jsonl", OFFICIAL)


@pytest.fixture(scope="module")
def expected(official: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Give the failed cases of the plain file."""
    log = write(tmp_path_factory.mktemp("plain") / "log.jsonl", LINES)
    return cases_of(log, "--baseline", official)


def test_a_failed_line_shows_what_was_asked_answered_and_wrong(expected: list[dict[str, Any]]) -> None:
    """Each failed line has its last turns, its answer, the official one, and the violated place marked."""
    wrong, broken, missed, leaked, refused, cut = expected
    assert [(case["row"], case.get("repeat", 0)) for case in expected] == [
        *((0, 0), (2, 1), (2, 2), (3, 0), (4, 0), (5, 0))
    ]
    assert wrong["classes"] == ["wrong_type"]
    assert wrong["failures"][0]["path"] == "$.city"
    assert wrong["calls"][0]["arguments"] == ['{\n  "city": ', ["7"], "\n}"]
    assert wrong["official"] == "calls (finish_reason tool_calls)"
    assert wrong["official_calls"][0]["arguments"] == ['{\n  "city": "Oslo"\n}']
    assert wrong["turns"] == [["user", "question 1"]]
    assert json.loads(wrong["raw"]) == LINES[0]["response"]["choices"][0]
    assert (wrong["ended"], wrong["effort"]) == ("finish_reason tool_calls", "1.50 s")
    assert broken["calls"][0]["arguments"] == ['{"city": ', ['"Os']]
    assert missed["classes"] == ["missed_call"]
    assert leaked["texts"]["content"] == ["I call. ", ["<|tool_calls_section_begin|>"], "x"]
    assert leaked["official"] == "does not call (finish_reason stop)"
    assert (refused["classes"], refused["effort"]) == (["http_5xx"], "HTTP 503, 1.50 s")
    assert json.loads(refused["raw"]) == {"error": "Error code: 503 - overloaded"}
    assert cut["classes"] == ["truncated_by_length"]


def parquet(folder: Path, lines: list[dict[str, Any]]) -> Path:
    """Write lines as parquet, their objects as JSON text."""
    path = folder / "b.parquet"
    texts = ("request", "extra_body", "response")
    rows = [
        {name: json.dumps(value) if name in texts else value for name, value in item.items()}
        for item in lines
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def archive(folder: Path, lines: list[dict[str, Any]]) -> Path:
    """Write lines as the member of an archive that the subset k2_0905 stands for."""
    path = folder / "log.tar.gz"
    content = b"".join(json.dumps(item).encode() + b"\n" for item in lines)
    with tarfile.open(path, "w:gz") as file:
        member = tarfile.TarInfo("results/kimi-k2-0905-preview_results.jsonl")
        member.size = len(content)
        file.addfile(member, io.BytesIO(content))
    return path


def several(folder: Path, lines: list[dict[str, Any]]) -> Path:
    """Write lines as a directory of files of two kinds."""
    write(folder / "a.jsonl", [b"{", *lines[:2], b"", b"junk"])
    parquet(folder, lines[2:5])
    write(folder / "c.jsonl", [b"\xff", *lines[5:]])
    return folder


@pytest.mark.parametrize(
    ("writer", "flags"),
    [
        (parquet, ()),
        (archive, ("--subset", "k2_0905")),
        (several, ()),
        (several, ("--workers", 2)),
    ],
)
def test_the_cases_are_the_same_wherever_the_lines_stand(
    official: Path,
    tmp_path: Path,
    expected: list[dict[str, Any]],
    writer: Callable[[Path, list[dict[str, Any]]], Path],
    flags: tuple[object, ...],
) -> None:
    """Parquet, an archive, several files and processes show the cases that one plain file shows."""
    assert cases_of(writer(tmp_path, LINES), "--baseline", official, *flags) == expected


def test_cases_come_by_row_and_duplicates_do_not_come(
    official: Path, tmp_path: Path, expected: list[dict[str, Any]]
) -> None:
    """Whatever the order of the file, cases come by row; a line whose case stood further up is not shown."""
    again = line(1, answering())
    lines = [*LINES[5:], LINES[1], *LINES[2:5], LINES[0], line(6, calling()), again]
    log = write(tmp_path / "log.jsonl", [*lines[:-1], LINES[3], again])
    assert cases_of(log, "--baseline", official) == expected


def test_rows_in_place_of_results(tmp_path: Path) -> None:
    """Held against rows, a case shows the row's official calls, and is numbered as the row is."""
    official_calls = calling()["choices"][0]["message"]["tool_calls"]
    rows = write(
        tmp_path / "rows.jsonl",
        [make_row("question 1", call=False), make_row("question 2", official_tool_calls=official_calls)],
    )
    log = write(tmp_path / "log.jsonl", [line(2, calling("{")), line(1, answering())])
    (case,) = cases_of(log, "--rows", rows, "--subset", "mine")
    assert (case["row"], case["turns"]) == (1, [["user", "question 2"]])
    assert case["official_calls"][0]["name"] == "weather"
    assert case["calls"][0]["arguments"] == ["{"]


def test_failed_official_requests_are_named(tmp_path: Path) -> None:
    """Where a failed official request counts as "did not call", the case says so."""
    official = write(tmp_path / "official.jsonl", [line(1, "Request timed out."), line(2, calling())])
    log = write(tmp_path / "log.jsonl", [line(1, calling()), line(2, calling())])
    (case,) = cases_of(log, "--baseline", official, "--failed-as-no-call")
    assert case["classes"] == ["extra_call"]
    assert case["official"] == "no completion: the official request failed, which counts as: does not call"


def test_redacted_cases_hold_no_word(official: Path, tmp_path: Path, expected: list[dict[str, Any]]) -> None:
    """With --redact, class, place and keyword stay, and everything that was said goes."""
    log = write(tmp_path / "log.jsonl", LINES)
    cases = cases_of(log, "--baseline", official, "--redact")
    assert [(case["row"], case["classes"]) for case in cases] == [
        (case["row"], case["classes"]) for case in expected
    ]
    assert cases[0]["failures"] == [
        {
            "class": "wrong_type",
            "detail": "(redacted)",
            "call": 0,
            "tool": "tool 1",
            "path": "$.*",
            "keyword": "type",
        }
    ]
    said = json.dumps(cases)
    for word in ("question", "city", "weather", "overloaded", "I call", "turns", "raw"):
        assert word not in said


OFFICIAL_CALLS = calling()["choices"][0]["message"]["tool_calls"]
ROWS = [
    make_row("question 1", official_tool_calls=OFFICIAL_CALLS),
    make_row("question 2", call=False),
    make_row("question 3", official_tool_calls=OFFICIAL_CALLS),
]


def test_lines_exported_redacted_show_what_they_hold(tmp_path: Path) -> None:
    """A line that was exported redacted has no texts: its failures, how it ended, and how long it took."""
    run = write_run(tmp_path / "run", ROWS, [calling('{"city": 7}'), LEAKING, None], [failed(2)])
    log = tmp_path / "shared.jsonl"
    assert invoke("export", run, "--output", log, "--redact").exit_code == 0
    rows = write(tmp_path / "rows.jsonl", ROWS)
    wrong, leaked, refused = cases_of(log, "--rows", rows)
    assert wrong == {
        "row": 0,
        "data_index": 1,
        "classes": ["wrong_type"],
        "failures": [
            {
                "class": "wrong_type",
                "detail": "(redacted)",
                "call": 0,
                "tool": "tool 1",
                "path": "$.*",
                "keyword": "type",
            }
        ],
        "ended": "finish_reason tool_calls",
        "official": "calls (finish_reason tool_calls)",
        "effort": "0.25 s",
    }
    assert leaked["classes"] == ["markup_in_content"]
    assert refused["classes"] == ["http_5xx"]
    assert {"raw", "turns", "texts", "calls", "official_calls"}.isdisjoint({*leaked, *refused})


def test_a_log_and_its_run_show_the_same(tmp_path: Path) -> None:
    """The cases of a run and those of its export, scored, are the same but for what a log does not hold."""
    answers = [calling('{"city": 7}'), LEAKING, None]
    run = write_run(tmp_path / "run", ROWS, answers, [failed(2)])
    log = tmp_path / "results.jsonl"
    assert invoke("export", run, "--output", log).exit_code == 0
    rows = write(tmp_path / "rows.jsonl", ROWS)
    from k2_verifier_adapter.formats.runs import choose_run, read_run

    of_run, _ = fit(failed_cases_of_run(read_run(choose_run(run))))
    of_log = cases_of(log, "--rows", rows)
    assert of_run[:2] == of_log[:2]
    assert of_run[2]["failures"][0]["class"] == of_log[2]["failures"][0]["class"] == "http_5xx"


@pytest.mark.parametrize("form", ["text", "json", "markdown", "junit"])
def test_other_formats_read_nothing_again(
    official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Only the page opens the log twice."""
    log = write(tmp_path / "log.jsonl", LINES)
    monkeypatch.setattr(read_again, "open_result_lines", None)
    assert invoke("score", log, "--baseline", official, "--format", form).exit_code == 0
    page = invoke("score", log, "--baseline", official, "--format", "html")
    assert "unexpected TypeError" in page.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_read_twice(official: Path, tmp_path: Path, expected: list[dict[str, Any]]) -> None:
    """Of a log from a pipe the page lists rows and classes."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=write, args=(pipe, LINES))
    writer.start()
    cases = cases_of(pipe, "--baseline", official)
    writer.join()
    assert [case["row"] for case in cases] == [0, 2, 3, 4, 5]
    assert {name for case in expected for name in case["classes"]} == {
        name for case in cases for name in case["classes"]
    }
    assert all(case.keys() == {"row", "data_index", "classes", "failures"} for case in cases)


def test_a_line_that_has_changed_is_not_shown(official: Path, tmp_path: Path) -> None:
    """Where a file was written anew in between, a case is shown by row and class alone."""
    path = write(tmp_path / "log.jsonl", LINES)
    log = Log([path])
    with official_of_results(official, None) as index:
        summary = score_files(log, index)
        assert summary.log is not None
        write(
            path, [LINES[0], b"{", line(2, calling()), line(3, calling()), line(9, calling()), *LINES[5::2]]
        )
        lines = read_again.read_failed_lines(log, index, summary.log.failed_lines)
        cases = list(failed_cases_of_log(summary, lines))
    assert [(case.row, bool(case.ended)) for case in cases] == [
        *((0, True), (2, False), (3, True), (4, False), (5, False))
    ]


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 99), st.integers(0, 3)), max_size=60, unique=True)
)
def test_the_lines_of_the_first_rows_are_remembered(lines: list[tuple[int, int, int]]) -> None:
    """However many lines come, in whatever order and by whatever parts, those of the first rows are kept."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(log_facts, "MAX_FAILED_LINES", 5)
        whole, parts = FailedLines(), [FailedLines(), FailedLines()]
        for place, numbers in enumerate(lines):
            whole.add(*numbers)
            parts[place * 2 // len(lines)].add(*numbers)
        parts[0].merge(parts[1])
        assert list(whole) == list(parts[0]) == sorted(lines)[:5]
        assert len(whole._flat) < 30


def test_memory_is_flat(tmp_path: Path) -> None:
    """However many failed cases with long texts a log holds, one is held at a time."""
    peaks = []
    for count in (40, 160):
        text = "x" * 200_000
        lines = (line(number, answering(text)) for number in range(1, count + 1))
        path = write(tmp_path / "log.jsonl", lines)
        official = write(
            tmp_path / "official.jsonl", (line(number, calling()) for number in range(1, count + 1))
        )
        with official_of_results(official, None) as index:
            log = Log([path])
            summary = score_files(log, index)
            assert summary.log is not None
            tracemalloc.start()
            try:
                found = read_again.read_failed_lines(log, index, summary.log.failed_lines)
                shown, _ = fit(failed_cases_of_log(summary, found))
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
        assert len(shown) == count
    assert peaks[1] < peaks[0] + 10_000_000


def test_a_redacted_line_keeps_what_findings_rest_on() -> None:
    """K2's own markup, its field, what could be read of it, and whether a name is in the history stay."""
    found = [
        Failure(
            FailureClass.MARKUP_IN_CONTENT,
            "content holds '<|tool_call_begin|>'",
            tool="weather",
            marker="<|tool_call_begin|>",
            where="content",
            leaked_call=LeakedCall.COMPLETE,
        ),
        Failure(FailureClass.UNDECLARED_TOOL, "'wether' is not declared", 1, "wether", in_history=True),
    ]
    names = ToolNames()
    redaction = Redaction(failures=tuple(redact_failure(failure, names) for failure in found))
    stored = json.loads(json.dumps(LineNote(redaction=redaction).as_json()))
    assert stored["redacted"]["failures"] == [
        {
            "class": "markup_in_content",
            "tool": "tool 1",
            "marker": "<|tool_call_begin|>",
            "where": "content",
            "leaked_call": "complete",
        },
        {"class": "undeclared_tool", "call": 1, "tool": "tool 2", "in_history": True},
    ]
    assert LineNote.from_json(stored).redaction == redaction


def test_a_redacted_export_gives_the_same_findings(tmp_path: Path) -> None:
    """Leaks of complete calls and names copied from the history are told apart in a redacted export too."""
    whole = (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>"
        '{"city": "Oslo"}<|tool_call_end|><|tool_calls_section_end|>'
    )
    undeclared = calling()
    undeclared["choices"][0]["message"]["tool_calls"][0]["function"]["name"] = "forecast"
    history = [{"role": "user", "content": "Use forecast."}]
    rows = [make_row(f"question {number}", history=history) for number in range(20)]
    leaking = completion({"role": "assistant", "content": whole}, "stop")
    run = write_run(tmp_path / "run", rows, [leaking] * 10 + [undeclared] * 10)
    path = write(tmp_path / "rows.jsonl", rows)
    found = []
    for flags in ((), ("--redact",)):
        log = tmp_path / "log.jsonl"
        assert invoke("export", run, "--output", log, *flags).exit_code == 0
        result = invoke("score", log, "--rows", path, "--format", "json", "--redact")
        found.append(json.loads(result.stdout))
    full, redacted = found
    assert full["findings"]
    assert redacted["findings"] == full["findings"]
