"""Dataset rows: local files and directories, read row by row, every bad row reported.

Beside the rows that `dataset build` made stands `SUBSET.baseline.json`: which official runs they were built
from, and what their numbers are held against.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from k2_verifier_adapter.core.cases import Case, RowError, decode_row
from k2_verifier_adapter.core.dataset_findings import BadRow, Place
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.presets import PRESETS, Standard
from k2_verifier_adapter.core.run_facts import RowsInfo
from k2_verifier_adapter.data import bundled_rows_path
from k2_verifier_adapter.errors import BadRowsError, DataError, UsageError
from k2_verifier_adapter.formats.files import check_kept, check_name, read_small
from k2_verifier_adapter.formats.lines import SUFFIXES, json_objects, open_lines, read_parquet, stem_of

BUNDLED = "bundled"
"""The `local_path` that names the bundled synthetic rows."""

SPLIT = "test"

_NESTED = ("messages", "tools", "official_tool_calls", "tool_calls", "parameters")


@dataclass(frozen=True, slots=True)
class LoadedRows:
    """All rows of a subset, decoded, and what their own baseline says the numbers are held against."""

    cases: list[Case]
    info: RowsInfo
    standard: Standard | None = None


def load_cases(path: str | Path, subset: str, options: HistoryOptions) -> LoadedRows:
    """Load the rows of a subset from a local file or directory.

    The path is a `.jsonl` or `.parquet` file, a directory with `SUBSET_test.jsonl` or `SUBSET.jsonl` (or
    parquet), a hub snapshot, or `bundled`.

    Raises:
        DataError: If there is no such file, it cannot be read, or it is not the one that the baseline
            file beside it was built with.
        BadRowsError: If any row cannot be used; all of them are listed.
    """
    loaded = decode_records(read_records(path, subset), str(path), options)
    return replace(loaded, standard=read_standard(find_file(path, subset)))


def read_records(path: str | Path, subset: str) -> Iterator[Record]:
    """Read the undecoded rows of a subset, one by one; paths and errors are those of `load_cases`."""
    file = find_file(path, subset)
    return _read_parquet(file) if file.name.endswith(".parquet") else _read_lines(file)


def find_file(path: str | Path, subset: str) -> Path:
    """Find the file that holds a subset; a `DataError` lists what was expected and what is there.

    A subset that is no plain name is a `UsageError`.
    """
    if str(path) == BUNDLED:
        return bundled_rows_path()
    path = Path(path).expanduser()
    if path.is_file():
        if not path.name.endswith((*SUFFIXES, ".json", ".gz")):
            raise DataError(f"{path}: unknown file type {path.suffix!r}, expected .jsonl or .parquet")
        return path
    if not path.is_dir():
        raise DataError(
            f"{path}: no such file or directory; give local_path a .jsonl or .parquet file, a "
            f"directory, or {BUNDLED!r} for the bundled synthetic rows"
        )
    subset = subset or _only_subset_of(path)
    check_name("subset", subset)
    named = _named(path, subset)
    for candidate in named:
        if candidate.is_file():
            return candidate
    snapshot = [file for folder in (path, path / "data") for file in _split_files(folder / subset)]
    if len(snapshot) == 1:
        return snapshot[0]
    if snapshot:
        raise DataError(
            f"{path}: subset {subset!r} is split over {len(snapshot)} files; join them into one "
            f"{subset}_{SPLIT}.parquet"
        )
    there = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.name.endswith(SUFFIXES))
    listed = ", ".join(there[:10]) or "no .jsonl or .parquet file"
    expected = " or ".join(candidate.name for candidate in named)
    raise DataError(f"{path}: no rows of subset {subset!r}; expected {expected}, found {listed}")


def only_subset(path: str | Path) -> str | None:
    """Name the subset that rows are of, where a directory holds one, or a file is called as a known one."""
    folder = Path(path).expanduser()
    if str(path) == BUNDLED or not folder.exists():
        return None
    subset, *others = find_subsets(path)
    return subset if not others and (folder.is_dir() or subset in PRESETS) else None


def _only_subset_of(folder: Path) -> str:
    found = find_subsets(folder)
    if len(found) > 1:
        raise UsageError(f"{folder}: holds several subsets, {', '.join(found)}; name one of them")
    return found[0]


def find_subsets(path: str | Path) -> list[str]:
    """Name the subsets that a file or directory holds; a `DataError` says that there are none."""
    if str(path) == BUNDLED:
        return [BUNDLED]
    path = Path(path).expanduser()
    if not path.is_dir():
        # Also says what is wrong where there is no such file.
        return [_subset_of(find_file(path, ""))]
    names = {_subset_of(file) for file in _rows_files(path) if not file.name.startswith(".")}
    for folder in (path, path / "data"):
        inner = folder.iterdir() if folder.is_dir() else ()
        names |= {directory.name for directory in inner if _split_files(directory)}
    if not names:
        raise DataError(f"{path}: holds no rows, expected SUBSET_{SPLIT}.jsonl or .parquet")
    return sorted(names)


def _named(folder: Path, subset: str) -> list[Path]:
    return [folder / f"{stem}{suffix}" for stem in (f"{subset}_{SPLIT}", subset) for suffix in SUFFIXES]


def _rows_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.name.endswith(SUFFIXES) and file.is_file())


def _split_files(folder: Path) -> list[Path]:
    """List the files of a hub snapshot's folder: test.jsonl, test-00000-of-00001.parquet and the like."""
    return [file for file in _rows_files(folder) if file.name.startswith(SPLIT)]


def _subset_of(file: Path) -> str:
    return stem_of(file).removesuffix(f"_{SPLIT}")


@dataclass(frozen=True, slots=True)
class Record:
    """One undecoded row: its place, and its columns or the reason why it has none."""

    place: Place
    content: Mapping[str, Any] | ValueError


def records_of(rows: Iterable[Any]) -> Iterator[Record]:
    """Number rows that come without a file, 1-based."""
    for number, row in enumerate(rows, start=1):
        place = Place("row", number)
        yield Record(place, row if isinstance(row, Mapping) else ValueError("is not an object"))


def decode_records(records: Iterable[Record], source: str, options: HistoryOptions) -> LoadedRows:
    """Decode all rows of a source; there has to be one, and errors are those of `load_cases`."""
    digest = hashlib.sha256()
    cases = list(decode_each(records, source, options, digest))
    synthetic = any(case.synthetic for case in cases)
    return LoadedRows(cases, RowsInfo(source, digest.hexdigest(), synthetic))


_OF_SAMPLES = (
    "Prompts alone, such as upstream's samples, are no rows yet: 'k2-verifier dataset build "
    "--samples {source} --baseline RESULTS.jsonl' adds the official decisions"
)


def decode_each(
    records: Iterable[Record], source: str, options: HistoryOptions, digest: hashlib._Hash
) -> Iterator[Case]:
    """Decode the rows of a source one by one, and put their content into a digest.

    A `BadRowsError` comes at the end and lists all that cannot be used; no row at all is a `DataError`.
    """
    problems: list[str] = []
    total = size = undecided = 0
    for item in decode_or_explain(records, options):
        total += 1
        if isinstance(item, BadRow):
            problems.append(str(item))
            undecided += item.field == "should_call_tool"
            continue
        case = item[1]
        size += case.size
        check_kept(size)
        official = repr((case.official, case.parameters)).encode("utf-8", "surrogatepass")
        parts = [case.messages_json, case.tools_json or b"", official]
        if case.official.runs is not None:
            parts.append(repr(case.official.runs).encode())
        for part in parts:
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        yield case
    if problems:
        if undecided == total:
            raise BadRowsError(source, problems, total, shown=1, advice=_OF_SAMPLES.format(source=source))
        raise BadRowsError(source, problems, total)
    if not total:
        raise DataError(f"{source}: holds no rows")


def decode_or_explain(
    records: Iterable[Record], options: HistoryOptions
) -> Iterator[tuple[Place, Case] | BadRow]:
    """Decode row by row: give the case and where it stands, or why the row cannot be used."""
    stands: dict[int, Place] = {}
    for index, record in enumerate(records):
        if isinstance(record.content, ValueError):
            yield BadRow(record.place, None, str(record.content))
            continue
        try:
            case = decode_row(record.content, index, options)
        except RowError as error:
            yield BadRow(record.place, error.field, error.reason)
            continue
        first = stands.setdefault(case.data_index, record.place)
        if first != record.place:
            yield BadRow(record.place, "data_index", f"{case.data_index} is the number of {first} already")
        else:
            yield record.place, case


def _read_lines(path: Path) -> Iterator[Record]:
    with open_lines(path) as lines:
        for number, value in json_objects(lines):
            yield Record(Place("line", number), value)


def _read_parquet(path: Path) -> Iterator[Record]:
    rows = read_parquet(path, _NESTED, "the request would differ from the row")
    return (Record(Place("row", number), row) for number, row in enumerate(rows, 1))


def rows_path(directory: Path, subset: str) -> Path:
    """Name the rows file of a subset."""
    return directory / f"{subset}_{SPLIT}.jsonl"


def baseline_path(rows: Path) -> Path:
    """Name the baseline file that belongs to a rows file."""
    return rows.with_name(f"{_subset_of(rows)}.baseline.json")


def read_standard(rows: Path) -> Standard | None:
    """Read what the rows' own baseline says their numbers are held against.

    None if there is no baseline file, or it belongs to another rows file.

    Raises:
        DataError: If the baseline file is damaged, or the rows were changed after it was written.
    """
    path = baseline_path(rows)
    try:
        value = json.loads(read_small(path))
        file, recorded = value["rows"]["file"], value["rows"]["sha256"]
        standard = Standard.from_json(value["standard"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: is no baseline file: {error!r}; {_ADVICE.format(path=path)}") from None
    if file != rows.name:
        return None
    found = hashlib.sha256(rows.read_bytes()).hexdigest()
    if found != recorded:
        raise DataError(
            f"{rows}: was changed after its baseline was built: its sha256 is {found[:16]}…, {path.name} "
            f"records {str(recorded)[:16]}…; {_ADVICE.format(path=path)}"
        )
    return standard


_ADVICE = "build both anew with 'k2-verifier dataset build', or delete {path} to go without its threshold"
