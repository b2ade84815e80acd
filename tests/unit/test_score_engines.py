"""Whoever scores a log, in whatever blocks: the report is the same, to the byte."""

import gzip
import json
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_runs import PARAMETERS, TOOL, answering, calling
from stored_runs import results_line as line
from support.commands import invoke
from support.files import write_archive, write_lines, write_parquet_log

from k2_verifier_adapter.core.log_facts import FailedRule
from k2_verifier_adapter.core.verdict import NO_GATE
from k2_verifier_adapter.errors import DataError
from k2_verifier_adapter.offline import scoring
from k2_verifier_adapter.offline.official import official_of_results, official_of_rows
from k2_verifier_adapter.offline.reruns import find_dropped
from k2_verifier_adapter.offline.scored_lines import ScoredLines
from k2_verifier_adapter.offline.scoring import (
    Block,
    LineScorer,
    Log,
    OpenEngine,
    ScoreBlocks,
    cut_into_blocks,
    score_log,
)
from k2_verifier_adapter.reports.json_report import dump_report

TRUNCATED = '{"city": '


ANSWERS = [
    calling(),
    calling(TRUNCATED),
    calling('{"city": "Rome", "unit": "c"}', model="other", system_fingerprint="fp"),
    answering(),
    answering(finish_reason="length"),
    {"choices": []},
    "Error code: 503 - overloaded",
    "Request timed out.",
]
INDEXES = [1, 2, 3, 4, 5, 6, 99, None, 0, True, "1"]
JUNK = [b"", b"  ", b"{", b"[1]", b"null", b"\xff\xfe", b"\xef\xbb\xbf", b'{"data_index": 1']


def case_lines(index: Any, answers: Sequence[Any], marked: bool, more: Mapping[str, Any]) -> list[bytes]:
    """Give the lines of one case: repeats if they are marked, else reruns."""
    return [
        json.dumps(line(index, answer, **({"repeat": repeat} if marked else {}), **more)).encode()
        for repeat, answer in enumerate(answers)
    ]


MORE = [
    *({}, {}, {"request": None}, {"extra_body": {"top_p": 0.5}}, {"duration_ms": 7}),
    *({"last_run_at": None}, {"last_run_at": "2026-11-23"}),
]
RUNS = st.lists(
    st.one_of(
        *[
            st.builds(
                case_lines,
                st.sampled_from(INDEXES[:6] if usual else INDEXES),
                st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=3),
                st.booleans(),
                st.sampled_from(MORE),
            )
            for usual in (True, True, False)
        ],
        st.sampled_from(JUNK).map(lambda text: [text]),
    ),
    max_size=12,
).map(lambda runs: [text for lines in runs for text in lines])
HISTORY = [
    {"role": "assistant", "tool_calls": [{"id": "0", "function": {"name": "weather", "arguments": "{'"}}]}
]
OFFICIAL = [
    *(line(number, calling() if number % 2 else answering()) for number in range(1, 5)),
    line(5, calling(), request={**PARAMETERS, "messages": HISTORY, "tools": [TOOL]}),
    line(6, "x"),
]


@contextmanager
def elsewhere(scorer: LineScorer) -> Iterator[ScoreBlocks]:
    """Score every block apart, with all that is needed as another process gets it."""

    def score_blocks(blocks: Iterable[Block]) -> Iterator[ScoredLines]:
        for block in blocks:
            copied: tuple[LineScorer, Block] = pickle.loads(pickle.dumps((scorer, block)))
            yield pickle.loads(pickle.dumps(copied[0].score(copied[1])))

    yield score_blocks


def report(
    files: Sequence[Path],
    official: Path,
    engine: OpenEngine | None = None,
    rule: FailedRule = FailedRule.LEFT_OUT,
    subset: str | None = None,
) -> str:
    """Score files and give the report; of files that hold nothing to score, the error."""
    try:
        answers = official_of_results(official, None)
        return dump_report(score_log(Log(files, subset, rule), answers, open_engine=engine)[0])
    except DataError as error:
        return str(error)


def report_without_merging(path: Path, official: Path, rule: FailedRule) -> str:
    """Score a file as one block, so that nothing is merged."""
    answers = official_of_results(official, None)
    lines = path.read_bytes().splitlines(keepends=True)
    scored = LineScorer(answers, rule, find_dropped([lines], [lines])).score(Block("log", 1, lines))
    scored.log.official = answers.facts
    try:
        return dump_report(scored.summary(answers, None, NO_GATE))
    except DataError as error:
        return str(error)


@contextmanager
def blocks_of(size: int) -> Iterator[None]:
    """Cut blocks of this many bytes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scoring, "BLOCK_BYTES", size)
        yield


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an official file of 6 answers, the last of them failed."""
    return write_lines(tmp_path_factory.mktemp("official") / "official.jsonl", OFFICIAL)


def test_blocks_of_any_size_add_up_to_the_same(official: Path, tmp_path: Path) -> None:
    """Repeats, duplicates and junk, cut into any blocks and scored together or apart, give one report."""
    seen = {"several blocks": 0, "repeats": 0, "superseded": 0}

    @settings(max_examples=50)
    @given(st.lists(RUNS, min_size=1, max_size=2), st.integers(1, 5_000), st.sampled_from(FailedRule))
    def compare(logs: list[list[bytes]], size: int, rule: FailedRule) -> None:
        files = [write_lines(tmp_path / f"{number}.jsonl", lines) for number, lines in enumerate(logs)]
        whole = report(files, official, rule=rule)
        if len(files) == 1:
            assert report_without_merging(files[0], official, rule) == whole
        with blocks_of(size):
            assert report(files, official, rule=rule) == whole
            assert report(files, official, elsewhere, rule) == whole
            blocks = list(cut_into_blocks(files[0].read_bytes().splitlines(keepends=True)))
            seen["several blocks"] += len(blocks) > 1
        if whole.startswith("{"):
            found = json.loads(whole)
            seen["repeats"] += "repeats" in found
            seen["superseded"] += found["log"]["left_out"]["superseded"]["count"] > 0

    compare()
    assert min(seen.values()) >= 5, seen


@given(RUNS, st.integers(1, 4_000))
@settings(max_examples=60)
def test_blocks_are_the_file(lines: list[bytes], size: int) -> None:
    """Blocks follow each other without gap, and so do their line numbers; no case stands in two."""
    with blocks_of(size):
        blocks = list(cut_into_blocks(lines, 5))
    assert [text for block in blocks for text in block.lines] == lines
    numbers = [*(block.first_line for block in blocks), 5 + len(lines)]
    assert numbers == [5, *(block.first_line + len(block.lines) for block in blocks)]


LINES_OF_A_SAMPLE = st.tuples(
    st.integers(1, 3), st.sampled_from([None, 0, 1, 2]), st.sampled_from([None, "1", "2"])
)


@given(st.lists(LINES_OF_A_SAMPLE, max_size=12))
@settings(max_examples=100)
def test_a_line_need_not_begin_with_its_mark(named: list[tuple[int, int | None, str | None]]) -> None:
    """The same lines count wherever they say what they are of; at the beginning, it is read without decoding."""
    began, ended = [], []
    for data_index, repeat, run_at in named:
        said = {"data_index": data_index, "repeat": repeat, "last_run_at": run_at}
        kept = {name: value for name, value in said.items() if value is not None}
        began.append(json.dumps(kept | {"status": "success"}).encode())
        ended.append(json.dumps({"status": "success"} | kept).encode())
    assert find_dropped([began], [began]) == find_dropped([ended], [ended])


def test_rows_reach_an_engine_too(tmp_path: Path) -> None:
    """Tools and calls of rows are read where the blocks are scored, from a copy of the same index."""
    rows = [
        {
            "messages": [{"role": "user", "content": f"question {number}"}],
            "tools": [TOOL],
            "should_call_tool": number % 2 == 1,
            "official_tool_calls": calling()["choices"][0]["message"]["tool_calls"] if number % 2 else None,
        }
        for number in range(1, 5)
    ]
    path = write_lines(tmp_path / "rows.jsonl", rows)
    log = write_lines(
        tmp_path / "log.jsonl", [line(number % 4 + 1, ANSWERS[number % 4]) for number in range(9)]
    )
    found = []
    for engine in (None, elsewhere):
        with blocks_of(900):
            summary, _ = score_log(Log([log]), official_of_rows(path, "mine"), open_engine=engine)
        found.append(dump_report(summary))
    assert found[0] == found[1]
    assert json.loads(found[0])["metrics"]["argument_agreement"]["n"] > 0


def many(count: int, **changes: Any) -> list[dict[str, Any]]:
    """Give lines of all kinds, some cases three times."""
    found = []
    for number in range(1, count + 1):
        answer = ANSWERS[number % 5] if number % 7 else "Error code: 429 - slow down"
        found += [
            line(number, answer, repeat=repeat, **changes) for repeat in range(3 if number % 4 == 0 else 1)
        ]
    return found


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Give a log of 300 cases, of which 20 stand at its end again, but older, and its official file."""
    folder = tmp_path_factory.mktemp("big")
    lines = [*many(300), b"junk", *many(20, last_run_at="2020")]
    return write_lines(folder / "results.jsonl", lines), write_lines(folder / "official.jsonl", many(300))


def test_progress_adds_up(big: tuple[Path, Path]) -> None:
    """What is told of the bytes that were read adds up to the file, engine or none."""
    results, official = big
    for engine in (None, elsewhere):
        told: list[int] = []
        answers = official_of_results(official, None)
        with blocks_of(8_000):
            summary, _ = score_log(Log([results]), answers, advance=told.append, open_engine=engine)
        assert sum(told) == results.stat().st_size
        assert summary.log is not None
        assert summary.log.superseded.count > 20
        assert summary.facts.repeats == 3


class TestFiles:
    """Several files, directories, parquet and archives."""

    def test_files_are_one_log(self, official: Path, tmp_path: Path) -> None:
        """Lines are numbered through; a case of an earlier file is answered anew, and no repeat."""
        first = write_lines(tmp_path / "b.jsonl", [line(1, calling()), line(2, answering()), b"{"])
        second = write_lines(tmp_path / "a.jsonl", [b"{", line(2, answering()), line(3, calling())])
        found = json.loads(report([first, second], official))
        assert found["requests"]["completed"] == 3
        assert found["log"]["left_out"]["unreadable"]["listed"] == [3, 4]
        assert found["log"]["left_out"]["superseded"]["listed"] == [2]
        assert report([first, second], official, elsewhere) == report([first, second], official)

    def test_parquet_is_read_as_lines_are(self, official: Path, tmp_path: Path) -> None:
        """The same log as parquet, in columns of JSON text, gives the same report, engine or none."""
        lines = [line(number, answer) for number, answer in enumerate(ANSWERS[:6], start=1)]
        expected = report([write_lines(tmp_path / "log.jsonl", lines)], official)
        log = write_parquet_log(tmp_path / "log.parquet", lines)
        assert report([log], official) == expected
        with blocks_of(700):
            assert report([log], official, elsewhere) == expected

    def test_a_cell_that_is_no_json_is_an_unreadable_line(self, official: Path, tmp_path: Path) -> None:
        """One bad cell does not hide the other rows."""
        log = write_parquet_log(tmp_path / "log.parquet", [line(1, calling()), line(2, answering())])
        rows = pq.read_table(log).to_pylist()
        rows[1]["response"] = "{'choices'"
        pq.write_table(pa.Table.from_pylist(rows), log)
        found = json.loads(report([log], official))
        assert found["log"]["left_out"]["unreadable"] == {"count": 1, "listed": [2]}
        assert found["requests"]["completed"] == 1

    def test_a_nested_column_is_refused(self, official: Path, tmp_path: Path) -> None:
        """A response in which absent keys became null cannot be judged."""
        log = tmp_path / "log.parquet"
        pq.write_table(pa.Table.from_pylist([{"data_index": 1, "response": {"choices": []}}]), log)
        assert "column 'response' is of a nested type" in report([log], official)
        (tmp_path / "text.parquet").write_text("no parquet")
        assert "cannot be read as parquet" in report([tmp_path / "text.parquet"], official)

    def test_gzipped_lines_are_read_as_lines_are(self, official: Path, tmp_path: Path) -> None:
        """The same log and official file, gzipped, give the same report; one that is cut off is an error."""
        log = write_lines(tmp_path / "log.jsonl", many(5))
        packed = {path: tmp_path / f"{path.name}.gz" for path in (log, official)}
        for path, gzipped in packed.items():
            gzipped.write_bytes(gzip.compress(path.read_bytes()))
        expected = report([log], official).replace(str(official), str(packed[official]))
        assert report([packed[log]], packed[official]) == expected
        packed[log].write_bytes(packed[log].read_bytes()[:-9])
        assert "log.jsonl.gz: cannot be read" in report([packed[log]], official)

    def test_an_archive_is_read_with_an_engine(self, official: Path, tmp_path: Path) -> None:
        """A member of an archive gives the same report, engine or none."""
        log = write_lines(tmp_path / "log.jsonl", many(5))
        packed = [write_archive(tmp_path / "log.tar.gz", {"kimi-k2-thinking_results.jsonl": log})]
        expected = report(packed, official, subset="k2_thinking")
        assert json.loads(expected)["requests"]["completed"] == 7
        assert report(packed, official, elsewhere, subset="k2_thinking") == expected


class TestCommand:
    """The flags of `k2-verifier score`."""

    def test_a_directory_is_its_files_by_name(self, official: Path, tmp_path: Path) -> None:
        """Of a directory .jsonl, .jsonl.gz and .parquet files count, by name; others and deeper ones do not."""
        folder = tmp_path / "logs"
        (folder / "deeper").mkdir(parents=True)
        write_lines(folder / "b.jsonl", [line(3, calling())])
        write_lines(folder / "a.jsonl", [line(1, calling()), b"{"])
        write_parquet_log(folder / "c.parquet", [line(5, calling())])
        (folder / "d.jsonl.gz").write_bytes(gzip.compress(json.dumps(line(4, answering())).encode()))
        write_lines(folder / "notes.txt", [b"x"])
        write_lines(folder / "deeper" / "d.jsonl", [line(2, answering())])
        result = invoke("score", folder, "--baseline", official, "--format", "json")
        assert result.exit_code == 3, result.stderr
        found = json.loads(result.stdout)
        assert (found["requests"]["completed"], found["requests"]["missing"]) == (4, 1)
        assert found["log"]["left_out"]["unreadable"]["listed"] == [2]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["missing.jsonl"], "missing.jsonl: no such file or directory"),
            (["empty"], "the directory holds no .jsonl or .parquet file"),
            (["log.jsonl", "--workers", "2"], "No such option"),
            (["log.jsonl", "--engine", "spark"], "'spark' is not one of"),
            ([], "Missing argument"),
        ],
    )
    def test_usage(
        self,
        official: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        arguments: list[str],
        message: str,
    ) -> None:
        """Whatever cannot be done is said in a line, with exit code 2."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "empty").mkdir()
        write_lines(tmp_path / "log.jsonl", [line(1, calling())])
        result = invoke("score", *arguments, "--baseline", official)
        assert result.exit_code == 2
        assert message in " ".join(result.stderr.split())


def test_ray_gives_the_same_report(big: tuple[Path, Path], tmp_path: Path) -> None:
    """On a local instance of Ray the report is that of this process, to the byte."""
    ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    from k2_verifier_adapter.offline.ray_engine import ray_engine

    results, official = big
    log = write_parquet_log(tmp_path / "log.parquet", [line(7, calling(), request=None)])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with blocks_of(100_000):
            expected = report([results, log], official)
            assert report([results, log], official, ray_engine) == expected
    finally:
        ray.shutdown()


def test_without_ray_the_extra_is_named(
    official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Ray is not installed, the message says how to install it."""
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    log = write_lines(tmp_path / "log.jsonl", [line(1, calling())])
    result = invoke("score", log, "--baseline", official, "--engine", "ray")
    assert result.exit_code == 2
    assert "pip install 'k2-verifier-adapter[ray]'" in result.stderr
