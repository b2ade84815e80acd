"""Evidence to hand over: a bundle is judged like its run, and refused where a byte of it is another."""

import gzip
import io
import json
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from stored_runs import answering, calling, failed, make_row, malformed_history, write_run
from support.commands import invoke

from k2_verifier_adapter.core.verdict import Gate, GateOptions
from k2_verifier_adapter.errors import DataError
from k2_verifier_adapter.formats import bundles
from k2_verifier_adapter.formats.bundles import MANIFEST, pack_bundle, unpack_bundle
from k2_verifier_adapter.formats.runs import choose_run, read_facts, write_facts
from k2_verifier_adapter.offline.bundle import CASES, DIGESTS, NAMES, REPORT, RESULTS, RUN

WORD = "Zanzibar"
ROWS = [
    make_row(f"{WORD} {number}?", call=number % 2 == 0, history=malformed_history() if number == 1 else None)
    for number in range(6)
]
ANSWERS = [
    calling(f'{{"city": "{WORD}"}}'),
    answering(f"{WORD} is sunny."),
    calling('{"town": 1}'),
    calling(),
    answering(finish_reason=WORD),
    None,
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with valid and invalid calls, a wrong decision, a repaired history and a failed request."""
    folder = tmp_path_factory.mktemp("run")
    return write_run(folder / "run", ROWS, ANSWERS, [failed(5, detail=f"HTTP 503: {WORD}")])


@pytest.fixture(scope="module")
def packed(run):
    """Its bundle."""
    return exported(run, run.parent / "evidence.zip")


@pytest.fixture(scope="module")
def rows(run):
    """Its rows."""
    path = run.parent / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def exported(run, path, *flags):
    """Export a run as a bundle."""
    result = invoke("export", run, "--bundle", path, *flags)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert "SHA-256 of its manifest" in result.stderr
    return path


def scored(bundle, *flags, code=0):
    """Score a bundle as JSON."""
    result = invoke("score", bundle, *flags, "--min-coverage", "0.5", "--format", "json")
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout)


def refusal(bundle, *flags):
    """Give the one line with which a bundle is refused."""
    result = invoke("score", bundle, *flags)
    assert (result.exit_code, result.stdout) == (2, "")
    line = result.stderr.splitlines()[-1]
    assert line.startswith("k2-verifier: error: ")
    assert "Traceback" not in result.stderr
    assert "/k2-verifier-" not in result.stderr
    return line


def repacked(packed, target, **changes):
    """Pack a bundle anew with other files, sums and all, as a sender can who wants to deceive."""
    folder = target.parent / f"{target.stem}-files"
    folder.mkdir()
    manifest, _ = unpack_bundle(packed, folder, NAMES)
    for name, change in changes.items():
        file = folder / next(item for item in NAMES if item.startswith(name))
        zipped = file.suffix == ".gz"
        content = gzip.decompress(file.read_bytes()) if zipped else file.read_bytes()
        content = change(content)
        file.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    about = {
        name: value for name, value in manifest.items() if name not in ("kind", "schema_version", "files")
    }
    pack_bundle(target, folder, NAMES, about)
    return target


# --- what a bundle is worth --------------------------------------------------------------------------


def test_a_bundle_is_judged_like_its_run(run, packed):
    """Metrics, counts, failures and repairs are those of the report, against its own rows, as it says."""
    report = json.loads(invoke("report", run, "--min-coverage", "0.5", "--format", "json").stdout)
    judged = scored(packed)
    for name in ("metrics", "confusion", "counts", "failures", "finish_reasons", "repairs", "verdict"):
        assert judged[name] == report[name], name
    assert judged["warnings"][0].startswith("Held against the rows and official answers in the bundle")
    assert not any("report says otherwise" in line for line in judged["warnings"])


def test_a_bundle_is_held_against_rows_of_ones_own(packed, rows, run, tmp_path):
    """With --rows it is the results file that it holds: what was left out of it is missing."""
    results = tmp_path / "results.jsonl"
    invoke("export", run, "--output", results)
    more = tmp_path / "more.jsonl"
    more.write_text(rows.read_text() + json.dumps(make_row("one more")) + "\n")
    for own in (rows, more):
        flags = ("--rows", own, "--subset", "k2_thinking")
        assert scored(packed, *flags) == scored(results, *flags)
    assert scored(packed, "--rows", more)["requests"]["missing"] == 1


def test_the_same_run_packs_to_the_same_bytes(run, packed, tmp_path):
    """Nothing of the archive depends on when and where it was made, and any program opens it."""
    assert exported(run, tmp_path / "again.zip").read_bytes() == packed.read_bytes()
    with zipfile.ZipFile(packed) as archive:
        assert archive.namelist() == [MANIFEST, *NAMES]
        assert archive.testzip() is None


def test_nothing_of_the_senders_machine_is_in_it(tmp_path):
    """A bundle holds no path of the run, of its rows or of its baseline, also where the run was cut off."""
    run = write_run(tmp_path / "run", ROWS, ANSWERS, planned=6, complete=False)
    paths = choose_run(run)
    facts = read_facts(paths)
    rows_info = replace(facts.rows, source=str(tmp_path / "rows.jsonl"))
    gate = GateOptions(Gate.STRICT, baseline=str(tmp_path / "baseline"))
    write_facts(paths, replace(facts, rows=rows_info, gate=gate))
    with zipfile.ZipFile(exported(run, tmp_path / "evidence.zip")) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            content = gzip.decompress(content) if name.endswith(".gz") else content
            assert str(tmp_path).encode() not in content, name
        assert json.loads(archive.read(RUN))["rows"]["source"] == "rows.jsonl"
    assert scored(tmp_path / "evidence.zip", code=3)["complete"] is False


def test_a_report_that_says_otherwise_is_told(packed, tmp_path):
    """What the sender's report says decides nothing; where the answers say otherwise, it is the first line."""

    def flatter(content):
        return content.replace(
            b'"trigger_similarity": {\n      "value": 0.', b'"trigger_similarity": {\n      "value": 0.9'
        )

    flattered = repacked(packed, tmp_path / "flattered.zip", report=flatter)
    judged = scored(flattered)
    assert judged["metrics"] == scored(packed)["metrics"]
    assert any(
        "report says otherwise than its answers: trigger_similarity 0.9" in line
        for line in judged["warnings"]
    )
    cheap = repacked(
        packed,
        tmp_path / "cheap.zip",
        run=lambda content: content.replace(b'"threshold": 0.73', b'"threshold": 0.3'),
    )
    assert any("threshold is the sender's own, 0.3, not 0.73" in line for line in scored(cheap)["warnings"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cases": lambda content: content.replace(b"Zanzibar 0?", b"Zanzibar 9?")}, "row_sha256 is not"),
        ({"results": lambda content: content.replace(b"is sunny", b"is rainy")}, "response_sha256 is not"),
        ({"results": lambda content: content.replace(b": 64000", b": 64001")}, "request_sha256 is not"),
        ({"results": lambda content: content.split(b"\n", 1)[1]}, "has no counterpart"),
        ({"digests": lambda content: content + b"{}\n"}, "has no counterpart"),
        ({"digests": lambda _: b"[" * 9 + b"\n"}, "cannot be read"),
        (
            {"results": lambda content: content.replace(b'"data_index": 2', b'"data_index": 77')},
            "has no counterpart",
        ),
        (
            {"cases": lambda content: content.split(b"\n", 1)[1]},
            "holds the cases of 5 requests, run.json says 6",
        ),
        ({"cases": lambda _: b"{}\n"}, "damaged after 0 cases"),
        ({"cases": lambda content: content.replace(b'"[{', b'"[[{', 1)}, "data_index 1: field 'messages'"),
        ({"run": lambda content: content.replace(b": 0.73", b": -1")}, "threshold -1.0 is no share"),
        ({"run": lambda content: content.replace(b'"mean": 0.76', b'"mean": 0')}, "are no shares"),
        ({"run": lambda _: b"{}"}, "run.json or report.json is not as a run has it"),
        ({"run": lambda _: b"[" * 100_000}, "run.json or report.json is not as a run has it"),
        ({"report": lambda _: b"3"}, "run.json or report.json is not as a run has it"),
    ],
)
def test_files_that_contradict_each_other_are_refused(packed, tmp_path, changes, said):
    """Sums that fit do not help where rows, requests, answers and digests do not belong together."""
    assert said in refusal(repacked(packed, tmp_path / "forged.zip", **changes))


def test_bundles_are_compared_like_their_runs(run, packed, rows, redacted):
    """A bundle and its run differ in no case, in a comparison and in a history; a redacted one is refused."""
    result = invoke("compare", packed, run, "--format", "json")
    (pair,) = json.loads(result.stdout)["pairs"]
    assert (pair["cases"]["completed_by_both"], pair["changes"]) == (5, [])
    for flags in ((), ("--rows", rows, "--subset", "k2_thinking")):
        result = invoke("history", packed, run, *flags)
        assert (result.exit_code, "are one run" in result.stderr) == (2, True), result.stderr
    for command in ("compare", "history"):
        result = invoke(command, redacted, run)
        assert (result.exit_code, "is redacted" in result.stderr) == (2, True)


# --- redacted ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redacted(run):
    """The redacted bundle."""
    return exported(run, run.parent / "redacted.zip", "--redact")


def test_a_redacted_bundle_holds_no_word_and_says_what_it_cannot_show(redacted):
    """Prompts, tools, answers and errors are out, digests are in; the page lists what cannot be checked."""
    with zipfile.ZipFile(redacted) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            content = gzip.decompress(content) if name.endswith(".gz") else content
            assert WORD.encode() not in content, name
            assert b"weather" not in content, name
        digests = gzip.decompress(archive.read(DIGESTS)).splitlines()
        manifest = json.loads(archive.read(MANIFEST))
    assert len({json.loads(line)["row_sha256"] for line in digests}) == 6
    result = invoke("score", redacted)
    words = " ".join(result.stdout.split())
    assert (result.exit_code, "5 of 6 requests completed" in result.stderr) == (3, True)
    for line in manifest["cannot_be_checked"]:
        assert line in words
    assert "1 both call, 1 only the vendor, 1 only the official API, 1 neither" not in words
    assert "2 both call, 1 only the vendor, 1 only the official API, 1 neither" in words
    assert max(map(len, result.stdout.splitlines())) <= 80
    for form in ("markdown", "html", "json"):
        assert invoke("score", redacted, "--format", form).exit_code == 3
    assert scored(redacted)["warnings"][0].startswith(
        "Redacted bundle, which cannot show that the calls are valid"
    )


def test_a_redacted_bundle_is_held_against_ones_own_rows_by_digest(redacted, rows, tmp_path):
    """The rows of the receiver are recognised; other rows are counted, other decisions refused."""
    assert "6 of 6 rows" not in invoke("score", redacted).stdout
    assert "6 of 6 have the digest of one of yours" in " ".join(
        invoke("score", redacted, "--rows", rows).stdout.split()
    )
    other, flipped = tmp_path / "other.jsonl", tmp_path / "flipped.jsonl"
    other.write_text(rows.read_text().replace(f"{WORD} 3?", "Oslo?"))
    flipped.write_text(rows.read_text().replace('"should_call_tool": true', '"should_call_tool": false', 1))
    assert "5 of 6 have" in " ".join(invoke("score", redacted, "--rows", other).stdout.split())
    mine = tmp_path / "rows" / "mine_test.jsonl"
    mine.parent.mkdir()
    mine.write_text(rows.read_text())
    result = invoke("score", redacted, "--rows", mine.parent, "--subset", "mine")
    assert "6 of 6 have" in " ".join(result.stdout.split())
    assert "official decision is not that of" in refusal(redacted, "--rows", flipped)


def test_a_redacted_bundle_decides_no_gate(redacted, packed):
    """What cannot be judged is no pass and no fail; what asks for answers is refused."""
    result = invoke("score", redacted, "--gate", "strict")
    assert (result.exit_code, "cannot be judged again" in result.stderr) == (3, True)
    for named, *flags in (
        ("--baseline", "--baseline", packed),
        ("--failed-as-no-call", "--failed-as-no-call"),
        ("--engine ray", "--engine", "ray"),
        ("--profile, --full", "--full", "--profile", "k2"),
        ("--subset", "--subset", "k2_thinking"),
    ):
        said = refusal(redacted, *flags)
        assert f"error: {named}: without effect" in said
        assert "hold its digests against --rows" in said
    assert "has no checks to count" in refusal(redacted, "--format", "junit")


@pytest.mark.parametrize(
    "changes",
    [
        {"report": lambda content: content.replace(b'"tp": 2', b'"tp": 3')},
        {"report": lambda content: content.replace(b'"confusion"', b'"confused"')},
        {"report": lambda content: content.replace(b'"warnings": []', b'"warnings": 3')},
        {
            "results": lambda content: content.replace(
                b'"finish_reason": "stop"', b'"finish_reason": "tool_calls"'
            )
        },
        {"cases": lambda content: content.replace(b'"should_call_tool":true', b'"should_call_tool":false')},
        {"cases": lambda content: content.replace(b'"should_call_tool":true', b'"should_call_tool":1')},
        {"cases": lambda content: content.replace(b'"data_index":1', b'"data_index":[1]')},
    ],
)
def test_a_redacted_bundle_that_contradicts_itself_is_refused(redacted, tmp_path, changes):
    """Its report has to say what its lines add up to, case by case against its official decisions."""
    refusal(repacked(redacted, tmp_path / "forged.zip", **changes))


# --- one changed byte, and archives that are none ----------------------------------------------------


def test_one_changed_byte_is_refused_with_the_files_name(packed, tmp_path):
    """Wherever a byte is flipped, in contents, headers or the directory, the member there is named."""
    content = packed.read_bytes()
    with zipfile.ZipFile(packed) as archive:
        starts = [member.header_offset for member in archive.infolist()]
        directory = archive.start_dir
    positions = {
        *range(0, len(content), 97),
        *(start + step for start in [*starts, directory] for step in range(0, 46, 2)),
    }
    for number, position in enumerate(sorted(positions)):
        changed = bytearray(content)
        changed[position] ^= 1 << number % 8
        (tmp_path / "changed.zip").write_bytes(changed)
        folder = tmp_path / str(position)
        folder.mkdir()
        with pytest.raises(DataError) as refused:
            unpack_bundle(tmp_path / "changed.zip", folder, NAMES)
        place = sum(start <= position for start in starts) - 1
        named = "directory" if position >= directory else (MANIFEST, *NAMES)[place]
        assert named in str(refused.value), position
        assert str(tmp_path / "changed.zip") in str(refused.value)


@pytest.mark.parametrize("cut", [0, 3, 29, 40, 300, 1600, -1])
def test_a_bundle_that_is_cut_off_is_refused(packed, tmp_path, cut):
    """However little is left, one line says what is missing."""
    short = tmp_path / "short.zip"
    short.write_bytes(packed.read_bytes()[:cut])
    refusal(short)


def zipped(*members, compression=zipfile.ZIP_STORED):
    """Make an archive as any program does."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", compression) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return raw.getvalue()


def unzipped(packed):
    """Give the members of a bundle."""
    with zipfile.ZipFile(packed) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_hostile_archives_are_refused(packed, tmp_path):
    """Paths outside, duplicate and further names, bombs, missing files: a clear line, and nothing is written."""
    members = unzipped(packed)
    manifest = json.loads(members[0][1])
    other = [(name, content[::-1] if name == RESULTS else content) for name, content in members]
    huge = json.dumps(
        {**manifest, "files": {name: {"bytes": 1 << 40, "sha256": ""} for name in NAMES}}
    ).encode()
    fewer = {name: entry for name, entry in manifest["files"].items() if name != RESULTS}
    missing = json.dumps({**manifest, "files": fewer}).encode()
    outside = json.dumps({**manifest, "files": {"../evil": fewer[RUN], **fewer}}).encode()
    for number, (content, said) in enumerate(
        [
            (
                zipped(("../../evil", b"x"), *members),
                "does not begin with manifest.json ('../../evil' stands there)",
            ),
            (zipped(members[0], ("../evil", b"x"), *members[1:]), "run.json was changed"),
            (zipped(*members, ("../evil", b"x")), "its directory"),
            (zipped(*members, members[1]), "its directory"),
            (zipped(*other), "results.jsonl.gz was changed: its SHA-256 is"),
            (zipped(*members[:2], *members[1:]), "cases.jsonl.gz was changed"),
            (zipped(*members, compression=zipfile.ZIP_DEFLATED), "manifest.json was changed"),
            (zipped(*members[1:]), "does not begin with manifest.json ('run.json'"),
            (zipped((MANIFEST, missing), *members[1:]), "missing: results.jsonl.gz"),
            (zipped((MANIFEST, outside), *members[1:]), "unknown: ../evil"),
            (zipped((MANIFEST, huge), *members[1:]), "more than 1024 MiB"),
            (zipped((MANIFEST, b"[" * 100_000), *members[1:]), "is not that of a bundle"),
            (
                zipped((MANIFEST, b" " * (1 << 20) + b"{}"), *members[1:]),
                "manifest.json was changed or cut off",
            ),
            (packed.read_bytes() + b"\0", "its directory"),
            (b"\0" + packed.read_bytes(), "is no bundle"),
            (zipped(), "is no bundle"),
            (b"", "is no bundle"),
            (b"PK\3\4" + struct.pack("<26x") + b"manifest.json", "manifest.json was changed"),
        ]
    ):
        hostile = tmp_path / "inner" / f"{number}.zip"
        hostile.parent.mkdir(exist_ok=True)
        hostile.write_bytes(content)
        assert said in refusal(hostile), number
    assert not list(tmp_path.rglob("*evil*"))
    assert "no such file" in refusal(tmp_path / "none.zip")
    (tmp_path / "folder.zip").mkdir()
    assert "is no regular file" in refusal(tmp_path / "folder.zip")


def test_what_is_compressed_is_bounded(packed, tmp_path, monkeypatch):
    """A member that would grow beyond any run's is refused before a line of it is read."""
    monkeypatch.setattr(bundles, "MAX_KEPT_BYTES", 1 << 20)
    bomb = repacked(packed, tmp_path / "bomb.zip", results=lambda _: bytes(2 << 20))
    assert "results.jsonl.gz holds more than 1 MiB, decompressed" in refusal(bomb)
    broken = repacked(packed, tmp_path / "broken.zip")
    members = [(name, b"no gzip" if name == CASES else content) for name, content in unzipped(broken)]
    folder = tmp_path / "broken-again"
    folder.mkdir()
    for name, content in members[1:]:
        (folder / name).write_bytes(content)
    pack_bundle(broken, folder, NAMES, {"redacted": False, "cannot_be_checked": []})
    assert "cases.jsonl.gz cannot be decompressed" in refusal(broken)


# --- usage -------------------------------------------------------------------------------------------


def test_a_bundle_needs_its_own_name(run, packed, tmp_path):
    """Nothing to write, two outputs of one name, another ending, and several bundles are usage errors."""
    same = tmp_path / "same.zip"
    for flags, said in (
        ((), "nothing to write"),
        (("--bundle", same, "--output", same), "name the same file"),
        (("--bundle", tmp_path / "evidence.tar"), "ends with .zip"),
    ):
        result = invoke("export", run, *flags)
        assert (result.exit_code, said in result.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []
    assert "one at a time" in refusal(packed, packed)
    assert "either by --baseline OFFICIAL.jsonl or by --rows ROWS" in refusal(
        packed, "--rows", "x", "--baseline", "y"
    )
    assert Path(exported(run, tmp_path / "both.zip", "--output", tmp_path / "both.jsonl")).exists()
    assert (tmp_path / "both.jsonl").exists()
    assert REPORT in NAMES
