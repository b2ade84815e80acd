"""Lines of a file, with their place, their bytes told to a listener and put into a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator


class CountedLines:
    """Lines of a file: the place of the last one, their bytes told to a listener and put into a digest.

    Attributes:
        line_start: Offset of the line that was given last.
        count: Lines that were given.
    """

    _STEP = 1 << 20

    def __init__(
        self,
        lines: Iterable[bytes],
        advance: Callable[[int], None] | None = None,
        digest: hashlib._Hash | None = None,
    ) -> None:
        self.line_start = 0
        self.count = 0
        self._lines = lines
        self._advance = advance
        self._digest = digest

    def __iter__(self) -> Iterator[bytes]:
        position = told = 0
        for line in self._lines:
            self.line_start = position
            self.count += 1
            position += len(line)
            if self._digest is not None:
                self._digest.update(line)
            if self._advance is not None and position - told >= self._STEP:
                self._advance(position - told)
                told = position
            yield line
        if self._advance is not None:
            self._advance(position - told)
