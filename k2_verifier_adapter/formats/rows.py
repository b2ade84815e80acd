"""Dataset rows: local files and directories, read row by row, every bad row reported."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from k2_verifier_adapter.core.cases import Case, RowError, decode_row
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.presets import Standard
from k2_verifier_adapter.core.run_facts import RowsInfo
from k2_verifier_adapter.data import bundled_rows_path
from k2_verifier_adapter.errors import BadRowsError, DataError
from k2_verifier_adapter.formats.baseline_file import SPLIT, read_standard
from k2_verifier_adapter.formats.files import json_lines
from k2_verifier_adapter.formats.parquet import read_parquet

BUNDLED = "bundled"
"""The `local_path` that names the bundled synthetic rows."""

SUFFIXES = (".jsonl", ".parquet")
_NESTED = ("messages", "tools", "official_tool_calls", "tool_calls", "parameters")


@dataclass(frozen=True, slots=True)
class LoadedRows:
    """All rows of a subset, decoded.

    Attributes:
        cases: The cases, in row order.
        info: Which rows they are.
        standard: What the rows' own baseline says the numbers are held against, or None.
    """

    cases: list[Case]
    info: RowsInfo
    standard: Standard | None = None


def load_cases(path: str | Path, subset: str, options: HistoryOptions) -> LoadedRows:
    """Load the rows of a subset from a local file or directory.

    Args:
        path: A `.jsonl` or `.parquet` file, a directory with `SUBSET_test.jsonl` or `SUBSET.jsonl`
            (or parquet), a hub snapshot, or `bundled`.
        subset: Name of the subset.
        options: History repairs to make.

    Raises:
        DataError: If there is no such file, it cannot be read, or it is not the one that the baseline
            file beside it was built with.
        BadRowsError: If any row cannot be used; all of them are listed.
    """
    loaded = decode_records(read_records(path, subset), str(path), options)
    return replace(loaded, standard=read_standard(find_file(path, subset)))


def read_records(path: str | Path, subset: str) -> Iterator[Record]:
    """Read the undecoded rows of a subset, one by one; see `load_cases`.

    Raises:
        DataError: If there is no such file, or it cannot be read.
    """
    file = find_file(path, subset)
    return _read_jsonl(file) if file.suffix == ".jsonl" else _read_parquet(file)


def find_file(path: str | Path, subset: str) -> Path:
    """Find the file that holds a subset.

    Raises:
        DataError: If there is none; the message lists what was expected and what is there.
    """
    if str(path) == BUNDLED:
        return bundled_rows_path()
    path = Path(path).expanduser()
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise DataError(f"{path}: unknown file type {path.suffix!r}, expected .jsonl or .parquet")
        return path
    if not path.is_dir():
        raise DataError(
            f"{path}: no such file or directory; give local_path a .jsonl or .parquet file, a "
            f"directory, or {BUNDLED!r} for the bundled synthetic rows"
        )
    candidates = [path / f"{stem}{suffix}" for stem in (f"{subset}_{SPLIT}", subset) for suffix in SUFFIXES]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    # A hub snapshot: SUBSET/test-00000-of-00001.parquet, data/SUBSET/test.jsonl and the like.
    snapshot = sorted(
        file
        for folder in (path / subset, path / "data" / subset)
        if folder.is_dir()
        for file in folder.iterdir()
        if file.suffix in SUFFIXES and file.name.startswith(SPLIT)
    )
    if len(snapshot) == 1:
        return snapshot[0]
    if snapshot:
        raise DataError(
            f"{path}: subset {subset!r} is split over {len(snapshot)} files; join them into one "
            f"{subset}_{SPLIT}.parquet"
        )
    there = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.suffix in SUFFIXES)
    listed = ", ".join(there[:10]) or "no .jsonl or .parquet file"
    expected = " or ".join(candidate.name for candidate in candidates)
    raise DataError(f"{path}: no rows of subset {subset!r}; expected {expected}, found {listed}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands.

    Attributes:
        unit: What is counted: `line` of a text file, `row` of anything else.
        number: 1-based.
    """

    unit: str
    number: int

    def __str__(self) -> str:
        return f"{self.unit} {self.number}"


@dataclass(frozen=True, slots=True)
class Record:
    """One undecoded row: its place, and its columns or the reason why it has none.

    Attributes:
        place: Where it stands.
        content: Its columns, or what is wrong with it.
    """

    place: Place
    content: Mapping[str, Any] | ValueError


def records_of(rows: Iterable[Any]) -> Iterator[Record]:
    """Number rows that come without a file, 1-based."""
    for number, row in enumerate(rows, start=1):
        place = Place("row", number)
        yield Record(place, row if isinstance(row, Mapping) else ValueError("is not an object"))


def decode_records(records: Iterable[Record], source: str, options: HistoryOptions) -> LoadedRows:
    """Decode all rows of a source.

    Raises:
        BadRowsError: If any row cannot be used; all of them are listed.
        DataError: If there is no row at all.
    """
    digest = hashlib.sha256()
    cases = list(decode_each(records, source, options, digest))
    synthetic = any(case.synthetic for case in cases)
    return LoadedRows(cases, RowsInfo(source, digest.hexdigest(), synthetic))


def decode_each(
    records: Iterable[Record], source: str, options: HistoryOptions, digest: hashlib._Hash
) -> Iterator[Case]:
    """Decode the rows of a source one by one, and put their content into a digest.

    Raises:
        BadRowsError: At the end, if any row cannot be used; all of them are listed.
        DataError: If there is no row at all.
    """
    problems: list[str] = []
    total = 0
    for item in decode_or_explain(records, options):
        total += 1
        if isinstance(item, BadRow):
            problems.append(str(item))
            continue
        case = item[1]
        for part in (
            case.messages_json,
            case.tools_json or b"",
            repr((case.official, case.parameters)).encode("utf-8", "surrogatepass"),
        ):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        yield case
    if problems:
        raise BadRowsError(source, problems, total)
    if not total:
        raise DataError(f"{source}: holds no rows")


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used.

    Attributes:
        place: Where it stands.
        field: The field at fault, or None where it is the row as a whole.
        reason: What is wrong.
    """

    place: Place
    field: str | None
    reason: str

    def __str__(self) -> str:
        field = "" if self.field is None else f"field {self.field!r}: "
        return f"{self.place}: {field}{self.reason}"


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


def _read_jsonl(path: Path) -> Iterator[Record]:
    try:
        with path.open("rb") as file:
            for number, value in json_lines(file):
                place = Place("line", number)
                if isinstance(value, ValueError):
                    yield Record(place, ValueError(f"is not JSON: {value}"))
                elif isinstance(value, dict):
                    yield Record(place, value)
                else:
                    yield Record(place, ValueError("is not a JSON object"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read_parquet(path: Path) -> Iterator[Record]:
    rows = read_parquet(path, _NESTED, "the request would differ from the row")
    return (Record(Place("row", number), row) for number, row in enumerate(rows, 1))
