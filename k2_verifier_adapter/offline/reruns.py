"""Which lines of a results file count, where several are for one request: reruns that were appended."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from k2_verifier_adapter.formats.lines import json_objects
from k2_verifier_adapter.formats.upstream import data_index_of, is_newer, repeat_of, run_at_of

_BEGINNING = re.compile(rb'\{"data_index": ?([1-9]\d{0,17}),(?: ?"repeat": ?(0|[1-9]\d{0,8}),)?')
"""How upstream's lines begin, and this package's: what is behind it need not be decoded."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Lines that do not count, by number.

    Attributes:
        superseded: Those of which a newer one is for the same `data_index` and repeat.
        apart: Repeats of a `data_index` whose first line stands further up, with others between.
    """

    superseded: frozenset[int] = frozenset()
    apart: frozenset[int] = frozenset()


NOTHING_DROPPED = Dropped()


def find_dropped(logs: Iterable[Iterable[bytes]], again: Iterable[Iterable[bytes]]) -> Dropped:
    """Say which lines do not count; the lines of all files are numbered through.

    Both arguments give the lines; those of a `data_index` that has several are decoded the second time.
    """
    several = _with_several_lines(logs)
    if not several:
        return NOTHING_DROPPED
    superseded: set[int] = set()
    newest: dict[tuple[int, int], tuple[int, str | None]] = {}
    stretches: dict[int, int] = {}
    stretch = last = 0
    for number, data_index, _, line in _indexed(again):
        if data_index != last:
            stretch, last = stretch + 1, data_index
        if data_index not in several:
            continue
        for _, value in json_objects((line,), number):
            if not isinstance(value, dict) or data_index_of(value) != data_index:
                continue
            stretches[number] = stretch
            request, run_at = (data_index, repeat_of(value)), run_at_of(value)
            kept = newest.get(request)
            if kept is not None:
                superseded.add(kept[0] if is_newer(run_at, kept[1]) else number)
            if kept is None or kept[0] in superseded:
                newest[request] = (number, run_at)
    first: dict[int, int] = {}
    counting = sorted((number, data_index) for (data_index, _), (number, _) in newest.items())
    apart = {
        number
        for number, data_index in counting
        if first.setdefault(data_index, stretches[number]) != stretches[number]
    }
    return Dropped(frozenset(superseded), frozenset(apart))


def _with_several_lines(logs: Iterable[Iterable[bytes]]) -> set[int]:
    """List the `data_index` of several lines, unless they stand in a row and begin with different repeats."""
    seen: set[int] = set()
    several: set[int] = set()
    in_row: set[int | None] = set()
    last = 0
    for _, data_index, repeat, _ in _indexed(logs):
        if data_index != last:
            if data_index in seen:
                several.add(data_index)
            in_row, last = set(), data_index
        elif repeat is None or not in_row.isdisjoint({repeat, None}):
            several.add(data_index)
        in_row.add(repeat)
        seen.add(data_index)
    return several


def _indexed(logs: Iterable[Iterable[bytes]]) -> Iterator[tuple[int, int, int | None, bytes]]:
    """Give the lines that name a sample: number, `data_index`, the repeat if it begins with it, and text."""
    number = 0
    for lines in logs:
        for line in lines:
            number += 1
            data_index, repeat = _sample_of(line, number)
            if data_index is not None:
                yield number, data_index, repeat, line


def line_data_index(line: bytes, number: int) -> int | None:
    """Give the sample that a line answers, decoding it only where it has to be."""
    return _sample_of(line, number)[0]


def _sample_of(line: bytes, number: int) -> tuple[int | None, int | None]:
    if match := _BEGINNING.match(line):
        return int(match[1]), None if match[2] is None else int(match[2])
    for _, value in json_objects((line,), number):
        return data_index_of(value) if isinstance(value, dict) else None, None
    return None, None


@contextmanager
def rereadable(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Give files to read in the place of some paths: a pipe, which can be read once, is copied."""
    with tempfile.TemporaryDirectory(prefix="k2-verifier-") as folder:
        files = []
        for place, path in enumerate(paths):
            file = path
            if path.exists() and not path.is_file():
                file = Path(folder, f"{place}-{path.name}")
                with path.open("rb") as read, file.open("wb") as written:
                    shutil.copyfileobj(read, written)
            files.append(file)
        yield files
