"""The files that hold results: JSON lines, parquet, a member of an archive, directories of those."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from k2_verifier_adapter.errors import DataError
from k2_verifier_adapter.formats.line_notes import NOTE_KEY
from k2_verifier_adapter.formats.parquet import read_parquet
from k2_verifier_adapter.formats.rows import SUFFIXES
from k2_verifier_adapter.formats.upstream import ARCHIVE_SUFFIXES, open_lines
from k2_verifier_adapter.offline.scoring.official import member_of

_JSON_COLUMNS = ("request", "extra_body", "response", NOTE_KEY)
"""Columns of a parquet file that hold JSON text."""


def find_result_files(paths: Sequence[Path]) -> list[Path]:
    """List the files that some paths name; of a directory, those that lie in it, by name.

    Raises:
        DataError: If a path does not exist, or a directory holds no such file.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            if not path.exists():
                raise DataError(f"{path}: no such file or directory")
            found.append(path)
            continue
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
        if not files:
            raise DataError(f"{path}: the directory holds no .jsonl or .parquet file")
        found += files
    return found


def is_plain(path: Path) -> bool:
    """Whether the lines of a file stand in it as they are, and can be read from any place."""
    return path.suffix != ".parquet" and not path.name.endswith(ARCHIVE_SUFFIXES) and path.is_file()


@contextmanager
def open_result_lines(path: Path, subset: str | None) -> Iterator[Iterable[bytes]]:
    """Open a file of results as JSON lines.

    Args:
        path: The file.
        subset: The subset, for its member of an archive.

    Raises:
        DataError: If it cannot be read.
        UsageError: If an archive is given without the subset.
    """
    if path.suffix == ".parquet":
        yield map(_line, read_parquet(path, _JSON_COLUMNS, "what was logged cannot be told"))
        return
    with open_lines(path, member_of(path, subset)) as lines:
        yield lines


def _line(row: dict[str, Any]) -> bytes:
    for name in _JSON_COLUMNS:
        text = row.get(name)
        if isinstance(text, (str, bytes)):
            try:
                row[name] = json.loads(text)
            except (ValueError, RecursionError) as error:
                # Not JSON either, so that it is counted as a line that cannot be read.
                return f"column {name!r} is not JSON: {error}".encode("utf-8", "backslashreplace") + b"\n"
    return json.dumps(row, default=str).encode() + b"\n"
