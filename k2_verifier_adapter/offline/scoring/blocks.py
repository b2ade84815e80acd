"""Blocks of lines that can be scored apart: where they end, and how they are found without scoring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from k2_verifier_adapter.formats.upstream import READ_BYTES, BadLine, Result, read_results

BLOCK_BYTES = 4 << 20
"""A block ends before the first line behind so many bytes that begins another case."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some lines of a file.

    Attributes:
        path: The file.
        start: Where they begin, in bytes.
        size: Their bytes.
        first_line: The number of the first one.
        line_count: Their number.
    """

    path: Path
    start: int
    size: int
    first_line: int
    line_count: int

    def read(self) -> bytes:
        """Read the lines as they stand."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)

    def lines(self) -> Iterator[bytes]:
        """Read the lines."""
        with self.path.open("rb", buffering=READ_BYTES) as file:
            file.seek(self.start)
            left = self.size
            while left > 0 and (line := file.readline()):
                left -= len(line)
                yield line


def begins_case(result: Result | BadLine, data_index: int | None) -> bool:
    """Whether a line begins another case than that of the `data_index` before it."""
    return isinstance(result, Result) and result.data_index not in (None, data_index)


def plan_blocks(path: Path, first_line: int = 1) -> Iterator[Block]:
    """Cut a file into the blocks in which `LineScorer.blocks` scores it, reading few of its lines.

    Args:
        path: The file.
        first_line: The number of its first line.
    """
    start = 0
    with path.open("rb") as file:
        while content := file.read(BLOCK_BYTES):
            content += b"" if content.endswith(b"\n") else file.readline()
            rest, rest_lines = _rest_of_case(file, _last_data_index(content))
            line_count = content.count(b"\n") + (not content.endswith(b"\n")) + rest_lines
            size = len(content) + rest
            yield Block(path, start, size, first_line, line_count)
            start += size
            first_line += line_count
            file.seek(start)


def _rest_of_case(file: IO[bytes], data_index: int | None) -> tuple[int, int]:
    """Measure the lines that do not begin another case, in bytes and in number."""
    size = number = 0
    while line := file.readline():
        if any(begins_case(result, data_index) for result in _results(line)):
            break
        size += len(line)
        number += 1
    return size, number


def _last_data_index(content: bytes) -> int | None:
    """Find the last `data_index` in some lines; None if there is none, as only a first block can have."""
    end = len(content)
    while end:
        start = content.rfind(b"\n", 0, end - 1) + 1
        for result in _results(content[start:end]):
            if isinstance(result, Result) and result.data_index is not None:
                return result.data_index
        end = start
    return None


def _results(line: bytes) -> Iterator[Result | BadLine]:
    return read_results(iter((line,)))
