"""Files: rows, cases and runs, read and written, damaged and whole."""

import gzip
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stored_runs import FACTS, failed, make_facts, prediction_line, write_run

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.requests import RequestIdentity
from k2_verifier_adapter.errors import BadRowsError, DataError, StorageError, UsageError
from k2_verifier_adapter.evalscope_plugin.run_files import check_regular
from k2_verifier_adapter.formats import files, lines
from k2_verifier_adapter.formats.files import LineWriter, atomic_write, end_last_line
from k2_verifier_adapter.formats.rows import BUNDLED, find_file, find_subsets, load_cases
from k2_verifier_adapter.formats.runs import (
    RunPaths,
    choose_run,
    find_runs,
    read_cases,
    read_facts,
    read_predictions,
    read_run,
    write_cases,
    write_facts,
)

OPTIONS = HistoryOptions()


def row(content: str = "x", **fields: Any) -> dict[str, Any]:
    """Give a row in the hosted format."""
    messages = json.dumps([{"role": "user", "content": content}], ensure_ascii=False)
    return {
        "messages": messages,
        "tools": "[]",
        "should_call_tool": True,
        "official_finish_reason": "tool_calls",
        **fields,
    }


def write_lines(path: Path, *rows: Any, end: str = "\n") -> Path:
    """Write JSON lines; a string is written as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in rows]
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def write_gzip(path: Path, *rows: Any) -> Path:
    """Write JSON lines, gzipped."""
    write_lines(path, *rows)
    path.write_bytes(gzip.compress(path.read_bytes()))
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as parquet."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def contents(path: Path, subset: str = "s") -> list[str]:
    """Load rows and give the content of their first messages."""
    return [case.messages()[0]["content"] for case in load_cases(path, subset, OPTIONS).cases]


# --- rows -----------------------------------------------------------------------------------------


def test_jsonl_keeps_order_and_text(tmp_path: Path) -> None:
    """Rows come in file order, numbered from 0, their text unchanged."""
    path = write_lines(tmp_path / "any.jsonl", row("a"), row("你好 \u2028"), row("c"))
    loaded = load_cases(path, "s", OPTIONS)
    assert [case.index for case in loaded.cases] == [0, 1, 2]
    assert contents(path) == ["a", "你好 \u2028", "c"]
    assert loaded.info.source == str(path)
    assert not loaded.info.synthetic


def test_byte_order_mark_crlf_and_empty_lines_are_fine(tmp_path: Path) -> None:
    """What editors add is not part of a row."""
    path = write_lines(tmp_path / "r.jsonl", "\ufeff" + json.dumps(row("a")), "", row("b"), "  ", end="\r\n")
    assert contents(path) == ["a", "b"]


def test_the_last_line_needs_no_end(tmp_path: Path) -> None:
    """A file that ends without a line end is whole."""
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(row("a")))
    assert contents(path) == ["a"]


def test_parquet_equals_jsonl(tmp_path: Path) -> None:
    """The same rows from parquet give the same cases and the same digest."""
    rows = [row("a", parameters=json.dumps({"temperature": 0.6})), row("b", parameters="")]
    jsonl = load_cases(write_lines(tmp_path / "r.jsonl", *rows), "s", OPTIONS)
    parquet = load_cases(write_parquet(tmp_path / "r.parquet", rows), "s", OPTIONS)
    assert parquet.cases == jsonl.cases
    assert parquet.info.sha256 == jsonl.info.sha256


def test_gzipped_lines_equal_plain_ones(tmp_path: Path) -> None:
    """Rows are found and read gzipped as they are plain, bad ones included; what is cut off is an error."""
    plain = load_cases(write_lines(tmp_path / "r.jsonl", row("a"), row("b")), "s", OPTIONS)
    folder = tmp_path / "packed"
    path = write_gzip(folder / "mine_test.jsonl.gz", row("a"), row("b"))
    assert find_subsets(folder) == find_subsets(path) == ["mine"]
    packed = load_cases(folder, "mine", OPTIONS)
    assert (packed.cases, packed.info.sha256) == (plain.cases, plain.info.sha256)
    with pytest.raises(BadRowsError, match="line 2: is not JSON"):
        load_cases(write_gzip(tmp_path / "bad.jsonl.gz", row(), "x"), "s", OPTIONS)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"mine_test\.jsonl\.gz: cannot be read"):
        load_cases(path, "mine", OPTIONS)


@pytest.mark.parametrize("column", ["messages", "tools", "official_tool_calls"])
def test_a_nested_parquet_column_is_refused(tmp_path: Path, column: str) -> None:
    """Nested columns fill absent keys with nulls, so the request would differ: refused, with the remedy."""
    path = write_parquet(tmp_path / "r.parquet", [row(**{column: [{"role": "user", "content": "x"}]})])
    with pytest.raises(
        DataError, match=f"column '{column}' is of a nested type.*store the column as JSON text"
    ):
        load_cases(path, "s", OPTIONS)


def test_parquet_of_bytes_is_a_bad_row(tmp_path: Path) -> None:
    """A binary column is said to be bytes, not a crash."""
    path = write_parquet(tmp_path / "r.parquet", [row(messages=b"[]")])
    with pytest.raises(BadRowsError, match=r"row 1: field 'messages'.*bytes"):
        load_cases(path, "s", OPTIONS)


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    """A damaged parquet file is named."""
    path = write_lines(tmp_path / "r.parquet", "no parquet")
    pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match=r"r.parquet: cannot be read as parquet"):
        load_cases(path, "s", OPTIONS)


@pytest.mark.parametrize(
    "name",
    ["s_test.jsonl", "s.jsonl", "s/test.jsonl", "s/test-00000-of-00001.jsonl", "data/s/test.jsonl"],
)
def test_directories_and_snapshots(tmp_path: Path, name: str) -> None:
    """A subset is found under every name that the design lists, beside other subsets."""
    write_lines(tmp_path / name, row("mine"))
    write_lines(tmp_path / "other_test.jsonl", row("other"))
    assert contents(tmp_path) == ["mine"]


def test_the_split_name_goes_first(tmp_path: Path) -> None:
    """`SUBSET_test` is preferred to `SUBSET`, JSON lines to parquet."""
    write_lines(tmp_path / "s.jsonl", row("plain"))
    write_lines(tmp_path / "s_test.jsonl", row("split"))
    write_parquet(tmp_path / "s_test.parquet", [row("parquet")])
    assert contents(tmp_path) == ["split"]


def test_an_unknown_subset_says_what_is_there(tmp_path: Path) -> None:
    """The message names the subset, the names expected and the files found."""
    write_lines(tmp_path / "k2_test.jsonl", row())
    write_lines(tmp_path / "sub" / "x.jsonl", row())
    with pytest.raises(DataError) as caught:
        load_cases(tmp_path, "k3", OPTIONS)
    for text in ("'k3'", "k3_test.jsonl", "k3.parquet", "k2_test.jsonl", "sub/x.jsonl"):
        assert text in str(caught.value)


def test_a_split_snapshot_is_refused(tmp_path: Path) -> None:
    """Several files of one subset are not silently reduced to the first."""
    for number in (0, 1):
        write_lines(tmp_path / "s" / f"test-{number:05}-of-00002.jsonl", row())
    with pytest.raises(DataError, match=r"split over 2 files"):
        load_cases(tmp_path, "s", OPTIONS)


def test_missing_paths_and_types(tmp_path: Path) -> None:
    """A missing path names the bundled rows; an unknown type the types that are known."""
    with pytest.raises(DataError, match=r"no such file or directory.*'bundled'"):
        find_file(tmp_path / "none", "s")
    with pytest.raises(DataError, match=r"unknown file type '\.csv', expected \.jsonl or \.parquet"):
        find_file(write_lines(tmp_path / "r.csv", "x"), "s")
    with pytest.raises(DataError, match=r"found no .jsonl or .parquet file"):
        find_file(tmp_path, "s")


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
def test_an_empty_file_holds_no_rows(tmp_path: Path, text: str) -> None:
    """A file without rows is an error, not a run of nothing."""
    path = tmp_path / "r.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=r"r.jsonl: holds no rows"):
        load_cases(path, "s", OPTIONS)


def test_samples_are_told_from_rows(tmp_path: Path) -> None:
    """Where no row has an official decision, the error says how prompts become rows."""
    path = tmp_path / "samples.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "x"}], "tools": []}\n' * 3)
    with pytest.raises(BadRowsError, match=r"3 of 3 rows .* dataset build --samples .*samples\.jsonl"):
        load_cases(path, "k2_thinking", HistoryOptions())


def test_all_bad_rows_are_listed(tmp_path: Path) -> None:
    """One error lists every bad row with line, field and reason, and how many rows there are."""
    path = write_lines(
        tmp_path / "r.jsonl",
        row("good"),
        "{not json",
        row(tools="{}"),
        "",
        "[1]",
        row(messages=None),
        '"\\ud800"',
        "[" * 200_000,
    )
    with pytest.raises(BadRowsError) as caught:
        load_cases(path, "s", OPTIONS)
    problems = caught.value.problems
    assert [problem.split(":")[0] for problem in problems] == [
        "line 2",
        "line 3",
        "line 5",
        "line 6",
        "line 7",
        "line 8",
    ]
    assert "is not JSON" in problems[0]
    assert "field 'tools': {} is not a list" in problems[1]
    assert "is not a JSON object" in problems[2]
    assert "field 'messages': is missing" in problems[3]
    assert "nested too deeply" in problems[5]
    assert "6 of 7 rows cannot be used" in str(caught.value)
    assert "nothing was sent" in str(caught.value)


def test_bytes_that_are_no_text_are_a_bad_row(tmp_path: Path) -> None:
    """A line that is not UTF-8 is listed, and so are the lines of a file in UTF-16."""
    path = tmp_path / "r.jsonl"
    for raw in (b'{"messages": "\xff\xfe"}\n', f"{json.dumps(row())}\n".encode("utf-16") * 2):
        path.write_bytes(raw)
        with pytest.raises(BadRowsError, match=r"line 1"):
            load_cases(path, "s", OPTIONS)


def test_many_bad_rows_are_counted(tmp_path: Path) -> None:
    """The message stays readable; the attribute holds all."""
    path = write_lines(tmp_path / "r.jsonl", *["x"] * 100)
    with pytest.raises(BadRowsError, match=r"100 of 100 rows.*and 80 more") as caught:
        load_cases(path, "s", OPTIONS)
    assert len(caught.value.problems) == 100


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    """Another content, order or official answer is another digest; another file name is not."""

    def digest(*rows: Any, name: str = "r.jsonl") -> str:
        return load_cases(write_lines(tmp_path / name, *rows), "s", OPTIONS).info.sha256

    one = digest(row("a"), row("b"))
    assert digest(row("a"), row("b"), name="q.jsonl") == one
    others = {
        digest(row("b"), row("a")),
        digest(row("a")),
        digest(row("a"), row("c")),
        digest(row("a"), row("b", should_call_tool=False)),
        digest(row("a"), row("b", tools='[{"x": 1}]')),
    }
    assert len(others) == 5
    assert one not in others


def test_the_bundled_rows_load_for_any_subset() -> None:
    """The bundled rows are synthetic, and say so."""
    loaded = load_cases(BUNDLED, "whatever", OPTIONS)
    assert len(loaded.cases) >= 200
    assert loaded.info.synthetic
    assert loaded.info.source == "bundled"


# --- cases ----------------------------------------------------------------------------------------


def test_cases_round_trip_byte_by_byte(tmp_path: Path) -> None:
    """What a run keeps is what it sent: spellings, escapes, surrogates, repairs, parameters."""
    rows = [
        row(
            messages='[ {"role":"user","content":"\\u4f60 \\/ é 你","n":[1.0,1e3,12345678901234567890123]} ]'
        ),
        row(tools=None, should_call_tool=None, official_finish_reason="\ud800 length"),
        row(
            messages=[
                {"role": "_input", "content": "\ud800", "tool_calls": [{"function": {"arguments": "{"}}]}
            ]
        ),
        row(parameters={"temperature": 1.0, "user": "\udfff"}, official_tool_calls='[{"a": 1.0}]'),
        row(synthetic=True),
    ]
    cases = [decode_row(item, index, OPTIONS) for index, item in enumerate(rows)]
    path = tmp_path / "deep" / "cases.jsonl.gz"
    write_cases(path, cases)
    assert read_cases(path) == dict(enumerate(cases))
    first = path.read_bytes()
    write_cases(path, cases)
    assert path.read_bytes() == first


def test_damaged_case_files_are_said_to_be(tmp_path: Path) -> None:
    """Missing, truncated, corrupted and foreign files are one clear error."""
    path = tmp_path / "cases.jsonl.gz"
    with pytest.raises(DataError, match=r"not found"):
        read_cases(path)
    write_cases(path, [decode_row(row(str(n)), n, OPTIONS) for n in range(50)])
    whole = path.read_bytes()
    corrupt = whole[:40] + bytes(byte ^ 0x5A for byte in whole[40:60]) + whole[60:]
    foreign = [gzip.compress(line) for line in (b"x\n", b"[]\n", b"{}\n", b'{"index": 1}\n', b"\xff\n")]
    for content in (b"", b"no gzip", whole[:-20], whole[: len(whole) // 2], corrupt, *foreign):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"damaged after"):
            read_cases(path)


# --- files ----------------------------------------------------------------------------------------


def test_atomic_write_leaves_the_old_file_on_error(tmp_path: Path) -> None:
    """A write that fails in the middle changes nothing and leaves nothing behind."""
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def write(error: BaseException) -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(KeyboardInterrupt):
        write(KeyboardInterrupt())
    with pytest.raises(DataError, match=r"cannot be written: No space left"):
        write(OSError(28, "No space left on device"))
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["f"]


def test_atomic_write_replaces_and_makes_directories(tmp_path: Path) -> None:
    """The new content is there, with the usual permissions."""
    path = tmp_path / "a" / "b" / "f"
    for content in (b"1", b"22"):
        with atomic_write(path) as file:
            file.write(content)
        assert path.read_bytes() == content
    reference = tmp_path / "plain"
    reference.touch()
    assert path.stat().st_mode == reference.stat().st_mode


def test_atomic_write_below_a_file_is_a_data_error(tmp_path: Path) -> None:
    """A directory that cannot be made is a clear error."""
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be written"), atomic_write(tmp_path / "file" / "x"):
        pass


# --- runs -----------------------------------------------------------------------------------------


def record(case: int, repeat: int = 0, response: str = "{}") -> ResponseRecord:
    """Give a stored response."""
    identity = RequestIdentity("a", "b", {"temperature": 0.6})
    return ResponseRecord(
        case, repeat, response, (FailureClass.STREAM_ID_MISSING,), identity, 2, 1.25, 0.5, "2025"
    )


def stored_run(
    tmp_path: Path, records: list[ResponseRecord], failures: list[FailedRequest], repeats: int = 2
) -> RunPaths:
    """Write a run of two cases, its responses in this order."""
    paths = choose_run(write_run(tmp_path, [row("0"), row("1")], [None, None], failures, repeats=repeats))
    paths.predictions.write_text("".join(map(prediction_line, records)))
    return paths


def test_a_run_reads_back_whole(tmp_path: Path) -> None:
    """Facts, cases, responses and failures are what was written, in row order."""
    records = [record(1, 1), record(0, 0), record(0, 1)]
    run = read_run(stored_run(tmp_path, records, [failed(1)]))
    assert run.facts == make_facts(2, repeats=2)
    assert sorted(run.cases) == [0, 1]
    assert run.records == [record(0, 0), record(0, 1), record(1, 1)]
    assert run.failed == [failed(1)]
    assert run.damaged_lines == 0


@pytest.mark.parametrize("cut", [1, 30, -1])
def test_a_half_written_last_line_is_counted_not_judged(tmp_path: Path, cut: int) -> None:
    """A line that a crash cut off is damage, and the lines before it stand."""
    paths = stored_run(tmp_path, [record(0)], [])
    with paths.predictions.open("a") as file:
        file.write(prediction_line(record(1)).rstrip()[:cut])
    run = read_run(paths)
    assert run.records == [record(0)]
    assert run.damaged_lines == 1


def test_the_last_of_several_responses_counts(tmp_path: Path) -> None:
    """Duplicates of a case and repeat are one response, the latest."""
    records = [record(0, 0, '"first"'), record(1), record(0, 0, '"last"')]
    assert [item.response for item in read_run(stored_run(tmp_path, records, [])).records] == ['"last"', "{}"]


def test_a_later_response_replaces_a_failure(tmp_path: Path) -> None:
    """A failure counts only while no response of that case and repeat exists."""
    run = read_run(stored_run(tmp_path, [record(0, 1)], [failed(1), failed(0, repeat=1), failed(0)]))
    assert run.failed == [failed(0), failed(1)]


def test_answers_beyond_the_run_are_left_out(tmp_path: Path) -> None:
    """Responses of cases and repeats that a smaller rerun does not have are not part of it."""
    run = read_run(stored_run(tmp_path, [record(0), record(7), record(0, 1)], [], repeats=1))
    assert run.records == [record(0)]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"model_output": null}',
        '{"model_output": {"metadata": {"k2_verifier": 5}}}',
        "{",
    ],
)
def test_foreign_predictions_hold_no_record(tmp_path: Path, line: str) -> None:
    """Any JSON, or none, in the predictions is skipped and counted."""
    path = tmp_path / "p.jsonl"
    path.write_text(f"{line}\n{prediction_line(record(0))}")
    assert read_predictions(path) == ([record(0)], bool(line))
    assert read_predictions(tmp_path / "none") == ([], 0)


@pytest.mark.parametrize(
    "field", ["case", "repeat", "attempts", "duration_s", "ttft_s", "stream_anomalies", "request", "response"]
)
@pytest.mark.parametrize("value", ["x", [], {}, float("inf"), float("nan"), ["unknown"]])
def test_a_damaged_record_is_none_or_a_record(field: str, value: Any) -> None:
    """Any JSON in any field of a stored record reads without a crash."""
    ResponseRecord.from_json({**record(0).as_json(), field: value})


def test_missing_parts_are_named(tmp_path: Path) -> None:
    """A run without facts or cases is one clear error."""
    paths = RunPaths(tmp_path, "m", "s")
    assert read_facts(paths) is None
    with pytest.raises(DataError, match=r"run.json: not found"):
        read_run(paths)
    write_facts(paths, FACTS)
    with pytest.raises(DataError, match=r"cases.jsonl.gz: not found"):
        read_run(paths)


def test_runs_are_found_and_chosen(tmp_path: Path) -> None:
    """One run is chosen by itself; several ask for a model or subset; none says where one is."""
    with pytest.raises(DataError, match=r"no such directory"):
        find_runs(tmp_path / "none")
    inside = tmp_path / "20251121_000000"
    first = RunPaths(inside, "m", "s")
    write_facts(first, FACTS)
    with pytest.raises(DataError, match=f"did you mean {inside}"):
        find_runs(tmp_path)
    assert choose_run(inside) == first
    second = RunPaths(inside, "n", "s")
    write_facts(second, FACTS)
    with pytest.raises(UsageError, match=r"--model m --subset s, --model n --subset s"):
        choose_run(inside)
    assert choose_run(inside, model="n") == second
    with pytest.raises(UsageError, match=r"no such model and subset"):
        choose_run(inside, subset="t")


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "/tmp/x",
        "..",
        ".",
        "a/../b",
        "a//b",
        "a\\b",
        "",
        " ",
        "x\n",
        "\0",
        "-x",
        "x" * 181,
        "é" * 91,
        5,
    ],
)
def test_names_are_no_paths(tmp_path: Path, name: Any) -> None:
    """A subset or model that would lead out of a run, or cannot name a file, is refused; nothing is rewritten."""
    write_lines(tmp_path / "x_test.jsonl", row())
    (tmp_path / "rows").mkdir()
    with pytest.raises(UsageError, match=r"files are named by it"):
        RunPaths(tmp_path, "m", name)
    with pytest.raises(UsageError, match=r"files are named by it"):
        RunPaths(tmp_path, str(name) if name != 5 else "a/./b", "s")
    # Without a name, rows are of the one subset that a directory holds.
    refused = pytest.raises(DataError if name == "" else UsageError, match=r"named by it|holds no rows")
    with refused:
        find_file(tmp_path / "rows", name)


@pytest.mark.parametrize("name", ["k2_thinking", "a b", "思考", "kimi-k2:free", "v1.5"])
def test_plain_names_stay(tmp_path: Path, name: str) -> None:
    """What is a file name names its files as it stands."""
    assert RunPaths(tmp_path, name, name).folder == tmp_path / "k2_verifier" / name / name


@pytest.mark.parametrize("name", ["run.json", "cases.jsonl.gz", "failures.jsonl", "predictions", "model"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_run_of_others_holds_regular_files_only(tmp_path: Path, name: str, kind: str) -> None:
    """A link, which would be followed, and a pipe, which would block, make one clear error."""
    run = tmp_path / "run"
    paths = stored_run(run, [record(0)], [])
    places = {"predictions": paths.predictions, "model": paths.folder.parent}
    place = places.get(name, paths.folder / name)
    place.rename(tmp_path / "target")
    if kind == "link":
        place.symlink_to(tmp_path / "target")
    else:
        os.mkfifo(place)
    with pytest.raises(DataError, match=r"which a run does not hold; remove it"):
        choose_run(run)
    with pytest.raises(DataError, match=r"which a run does not hold; remove it"):
        check_regular(run)


def test_lines_are_not_written_through_links(tmp_path: Path) -> None:
    """Neither a new file nor one that is gone on with is a link's target."""
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text('{"a": 1}\n{"b"')
    link.symlink_to(target)
    for attempt in (
        lambda: LineWriter(link, new=True),
        lambda: LineWriter(link),
        lambda: end_last_line(link),
    ):
        with pytest.raises(StorageError, match=r"link: cannot be written"):
            attempt()
    assert target.read_text() == '{"a": 1}\n{"b"'


def test_a_file_beside_the_rows_is_a_regular_one(tmp_path: Path) -> None:
    """A pipe in the place of the baseline is an error and not waited for; so is one without bounds."""
    rows = write_lines(tmp_path / "s_test.jsonl", row())
    os.mkfifo(tmp_path / "s.baseline.json")
    with pytest.raises(DataError, match=r"is no regular file"):
        load_cases(rows, "s", OPTIONS)
    (tmp_path / "s.baseline.json").unlink()
    (tmp_path / "s.baseline.json").write_bytes(b" " * ((16 << 20) + 1))
    with pytest.raises(DataError, match=r"is larger than 16 MiB"):
        load_cases(rows, "s", OPTIONS)


def test_a_line_and_what_is_kept_have_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gzipped line without end, JSON that would inflate and rows without number are refused while they are read."""
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 1 << 20)
    path = write_gzip(tmp_path / "s.jsonl.gz", row("x" * (1 << 20)))
    with pytest.raises(DataError, match=r"holds a line of more than 1 MiB"):
        load_cases(path, "s", OPTIONS)
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 64 << 20)
    inflating = write_lines(tmp_path / "i.jsonl", "[" + "[]," * 1_000_000 + "[]]")
    with pytest.raises(DataError, match=r"is not JSON: it may hold more than 2,000,000 values"):
        load_cases(inflating, "s", OPTIONS)
    monkeypatch.setattr(files, "MAX_KEPT_BYTES", 1000)
    with pytest.raises(DataError, match=r"the rows hold more than"):
        load_cases(write_lines(tmp_path / "m.jsonl", *[row("x" * 100)] * 20), "s", OPTIONS)


def test_a_parquet_value_is_not_multiplied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that is written once and stands in all rows is refused before it is one for each; so are lists."""
    monkeypatch.setattr(lines, "_MAX_BATCH_BYTES", 1 << 20)
    text = json.dumps([{"role": "user", "content": "x" * 5000}])
    indices = pa.array([0] * 300, pa.int32())
    column = pa.DictionaryArray.from_arrays(indices, pa.array([text]))
    path = tmp_path / "s.parquet"
    pq.write_table(pa.table({"messages": column}), path, store_schema=False)
    with pytest.raises(DataError, match=r"256 rows hold more than 1 MiB of text"):
        load_cases(path, "s", OPTIONS)
    small = pa.table({**{key: [value] for key, value in row().items()}, "other": [[1, 2]]})
    pq.write_table(small, path)
    assert [case.messages() for case in load_cases(path, "s", OPTIONS).cases] == [
        json.loads(row()["messages"])
    ]


def test_a_model_id_may_hold_slashes(tmp_path: Path) -> None:
    """`moonshotai/kimi-k2` has a folder for each part, and is found under its whole name."""
    paths = RunPaths(tmp_path, "moonshotai/kimi-k2", "k2_thinking")
    write_facts(paths, replace(FACTS, model=paths.model))
    assert choose_run(tmp_path) == paths
    assert choose_run(tmp_path, model="moonshotai/kimi-k2") == paths
