"""The page of a scored log shows its failed cases as that of a run does, wherever their lines stand."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored_runs import answering, calling, completion, failed, make_row, write_run
from stored_runs import results_line as line
from support.commands import invoke
from support.files import write_archive, write_lines, write_parquet_log

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.formats.runs import choose_run, read_run
from k2_verifier_adapter.offline import failed_cases, scoring
from k2_verifier_adapter.offline.failed_cases import FirstFailedCases, failed_cases_of_run
from k2_verifier_adapter.offline.official import official_of_results
from k2_verifier_adapter.offline.scoring import Log, score_log
from k2_verifier_adapter.offline.stored import judge_run
from k2_verifier_adapter.reports.failed_cases import FailedCase, Turn
from k2_verifier_adapter.reports.page import fit_cases

LEAK = "I call. <|tool_calls_section_begin|>x"
LEAKING = completion({"role": "assistant", "content": LEAK}, "stop")


OFFICIAL = [line(number, calling() if number % 2 else answering()) for number in range(1, 8)]
LINES = [
    line(1, calling('{"city": 7}')),
    line(2, answering()),
    line(3, calling()),
    line(3, calling('{"city": "Os'), repeat=1),
    line(3, answering(), repeat=2),
    line(4, LEAKING),
    line(5, "Error code: 503 - overloaded"),
    line(6, answering(finish_reason="length")),
]


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
    result = invoke("score", *arguments, "--format", "html", "--min-coverage", "0.3")
    assert result.exit_code == 0, result.stderr
    scripts = _Scripts()
    scripts.feed(result.stdout)
    found: list[dict[str, Any]] = json.loads(scripts.found[0])
    return found


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an official file of 7 answers, which call in turn."""
    return write_lines(tmp_path_factory.mktemp("official") / "official.jsonl", OFFICIAL)


@pytest.fixture(scope="module")
def expected(official: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Give the failed cases of the plain file."""
    log = write_lines(tmp_path_factory.mktemp("plain") / "log.jsonl", LINES)
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
    """Write lines as parquet."""
    return write_parquet_log(folder / "b.parquet", lines)


def archive(folder: Path, lines: list[dict[str, Any]]) -> Path:
    """Write lines as the member of an archive that the subset k2_0905 stands for."""
    member = write_lines(folder / "member.jsonl", lines)
    return write_archive(folder / "log.tar.gz", {"kimi-k2-0905-preview_results.jsonl": member})


def several(folder: Path, lines: list[dict[str, Any]]) -> Path:
    """Write lines as a directory of files of two kinds."""
    write_lines(folder / "a.jsonl", [b"{", *lines[:2], b"", b"junk"])
    parquet(folder, lines[2:5])
    write_lines(folder / "c.jsonl", [b"\xff", *lines[5:]])
    return folder


@pytest.mark.parametrize(
    ("writer", "flags"),
    [
        (parquet, ()),
        (archive, ("--subset", "k2_0905")),
        (several, ()),
    ],
)
def test_the_cases_are_the_same_wherever_the_lines_stand(
    official: Path,
    tmp_path: Path,
    expected: list[dict[str, Any]],
    writer: Callable[[Path, list[dict[str, Any]]], Path],
    flags: tuple[object, ...],
) -> None:
    """Parquet, an archive and several files show the cases that one plain file shows."""
    assert cases_of(writer(tmp_path, LINES), "--baseline", official, *flags) == expected


def test_cases_come_by_row_and_superseded_lines_do_not_come(
    official: Path, tmp_path: Path, expected: list[dict[str, Any]]
) -> None:
    """Whatever the order of the file, cases come by row; a line of which there is a newer one is not shown."""
    older = {"last_run_at": "2020-01-01T00:00:00"}
    lines = [line(6, calling(), **older), *LINES[5:], LINES[1], *LINES[2:5], LINES[0]]
    log = write_lines(tmp_path / "log.jsonl", [*lines, line(1, answering(), **older)])
    assert cases_of(log, "--baseline", official) == expected


def test_rows_in_place_of_results(tmp_path: Path) -> None:
    """Held against rows, a case shows the row's official calls, and is numbered as the row is."""
    official_calls = calling()["choices"][0]["message"]["tool_calls"]
    rows = write_lines(
        tmp_path / "rows.jsonl",
        [make_row("question 1", call=False), make_row("question 2", official_tool_calls=official_calls)],
    )
    log = write_lines(tmp_path / "log.jsonl", [line(2, calling("{")), line(1, answering())])
    (case,) = cases_of(log, "--rows", rows, "--subset", "mine")
    assert (case["row"], case["turns"]) == (1, [["user", "question 2"]])
    assert case["official_calls"][0]["name"] == "weather"
    assert case["calls"][0]["arguments"] == ["{"]


def test_failed_official_requests_are_named(tmp_path: Path) -> None:
    """Where a failed official request counts as "did not call", the case says so."""
    official = write_lines(tmp_path / "official.jsonl", [line(1, "Request timed out."), line(2, calling())])
    log = write_lines(tmp_path / "log.jsonl", [line(1, calling()), line(2, calling())])
    (case,) = cases_of(log, "--baseline", official, "--failed-as-no-call")
    assert case["classes"] == ["extra_call"]
    assert case["official"] == "no completion: the official request failed, which counts as: does not call"


def test_redacted_cases_hold_no_word(official: Path, tmp_path: Path, expected: list[dict[str, Any]]) -> None:
    """With --redact, class, place and keyword stay, and everything that was said goes."""
    log = write_lines(tmp_path / "log.jsonl", LINES)
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


def test_a_log_and_its_run_show_the_same(tmp_path: Path) -> None:
    """The cases of a run and those of its export, scored, are the same but for what a log does not hold."""
    answers = [calling('{"city": 7}'), LEAKING, None]
    run = write_run(tmp_path / "run", ROWS, answers, [failed(2)])
    log = tmp_path / "results.jsonl"
    assert invoke("export", run, "--output", log).exit_code == 0
    rows = write_lines(tmp_path / "rows.jsonl", ROWS)
    stored = read_run(choose_run(run))
    of_run, _ = fit_cases(failed_cases_of_run(stored, judge_run(stored)))
    of_log = cases_of(log, "--rows", rows)
    assert of_run[:2] == of_log[:2]
    assert of_run[2]["failures"][0]["class"] == of_log[2]["failures"][0]["class"] == "http_5xx"


@pytest.mark.parametrize("form", ["text", "json", "markdown", "junit"])
def test_other_formats_keep_no_case(
    official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Only for the page the failed cases are kept."""
    log = write_lines(tmp_path / "log.jsonl", LINES)
    monkeypatch.setattr(scoring, "failed_case_of_line", None)
    scored = invoke("score", log, "--baseline", official, "--format", form, "--min-coverage", "0.3")
    assert scored.exit_code == 0
    page = invoke("score", log, "--baseline", official, "--format", "html")
    assert "unexpected TypeError" in page.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_shows_the_same_cases(official: Path, tmp_path: Path, expected: list[dict[str, Any]]) -> None:
    """A log may come from a pipe, which can be read but once."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=write_lines, args=(pipe, LINES))
    writer.start()
    cases = cases_of(pipe, "--baseline", official)
    writer.join()
    assert cases == expected


def test_cases_of_blocks_are_those_of_the_log(official: Path, tmp_path: Path) -> None:
    """Cut into a block for each case, a log shows the same cases."""
    log = Log([write_lines(tmp_path / "log.jsonl", LINES)])
    found = []
    for size in (1, 1 << 20):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(scoring, "BLOCK_BYTES", size)
            _, cases = score_log(log, official_of_results(official, None), keep_failed=True)
        found.append(list(cases))
    assert found[0] == found[1]
    assert len(found[0]) == 6


def case_of(row: int, repeat: int, characters: int) -> FailedCase:
    """Give a failed case with so many characters of text."""
    failure = Failure(FailureClass.TRUNCATED_JSON, "")
    return FailedCase(row, row + 1, repeat, (failure,), ended="x", turns=(Turn("user", "x" * characters),))


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3)), max_size=60, unique=True),
    st.integers(0, 9),
    st.integers(0, 60),
)
def test_the_cases_of_the_first_rows_are_kept(places: list[tuple[int, int]], size: int, cut: int) -> None:
    """However many cases come, in whatever order and by whatever parts, the first ones and texts are kept."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(failed_cases, "MOST_CASES", 5)
        patched.setattr(failed_cases, "MOST_CHARACTERS", 20)
        whole, parts = FirstFailedCases(), [FirstFailedCases(), FirstFailedCases()]
        for number, (row, repeat) in enumerate(places):
            case = case_of(row, repeat, (size + row) % 10)
            for cases in (whole, parts[number >= cut]):
                if cases.wants(row):
                    cases.add(case)
                assert len(cases._held) < 10
                assert sum(len(turn.text) for held in cases._held for turn in held.turns) <= 40
        parts[0].merge(parts[1])
        found = list(whole)
        assert found == list(parts[0])
    assert [(case.row, case.repeat) for case in found] == sorted(places)[:5]
    sizes = [(size + case.row) % 10 for case in found]
    assert [bool(case.ended) for case in found] == [sum(sizes[: n + 1]) <= 20 for n in range(len(found))]


def test_a_redacted_log_is_refused(official: Path, tmp_path: Path) -> None:
    """A line that was exported redacted is an error that says which, why, and what to do instead."""
    run = write_run(tmp_path / "run", ROWS, [calling(), LEAKING, None], [failed(2)])
    redacted = tmp_path / "shared.jsonl"
    assert invoke("export", run, "--output", redacted, "--redact").exit_code == 0
    log = tmp_path / "log.jsonl"
    lines = [json.dumps(LINES[0]).encode(), *redacted.read_bytes().splitlines()]
    write_lines(log, lines)
    rows = write_lines(tmp_path / "rows.jsonl", ROWS)
    for arguments, line_number in (
        (("score", redacted, "--rows", rows), 1),
        (("score", log, "--baseline", official), 2),
        (("score", log, "--baseline", redacted), 1),
        (("compare", log, log, "--baseline", official), 2),
        (("dataset", "build", "--baseline", redacted, "--subset", "s", "--output", tmp_path / "o"), 1),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 2
        assert f".jsonl: line {line_number} is redacted" in result.stderr
        assert "export the run without --redact" in result.stderr
