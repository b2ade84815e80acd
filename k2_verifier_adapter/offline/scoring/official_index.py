"""Official answers by `data_index`, indexed instead of held in memory.

Of each answer some 40 bytes are kept: its `data_index`, its decision, marks of its request, and where
the rest stands. The official calls wait in a temporary file, and so do the tools of a row; the tools
of a logged official request are read again from the log in the rare case that they are needed.
"""

from __future__ import annotations

import json
import shutil
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from k2_verifier_adapter.core.cases import OfficialAnswer
from k2_verifier_adapter.core.history import RequestMarks
from k2_verifier_adapter.core.log_facts import OfficialFacts
from k2_verifier_adapter.core.presets import Standard
from k2_verifier_adapter.core.run_facts import RowsInfo

FAILED = 0
"""The code of a failed official request."""

MAX_DATA_INDEX = 2**63 - 1

_ANSWERS = (
    None,
    OfficialAnswer(should_call=True, finish_reason="tool_calls"),
    OfficialAnswer(should_call=False, finish_reason="stop"),
    OfficialAnswer(should_call=False, finish_reason="others"),
    OfficialAnswer(should_call=False, finish_reason=""),
    OfficialAnswer(should_call=False, finish_reason="length"),
    OfficialAnswer(should_call=False, finish_reason="content_filter"),
)
"""All that judging tells apart; the first stands for a failed official request."""

_UNKNOWN = -1


def answer_code(answer: OfficialAnswer) -> int:
    """Give the code under which the index keeps an answer."""
    if answer.should_call:
        return 1
    if answer.finish_reason is None:
        return 2
    return {"stop": 2, "": 4, "length": 5, "content_filter": 6}.get(answer.finish_reason, 3)


class OfficialIndex:
    """Official answers by `data_index`.

    A position is the 0-based place of an answer in its file. Of several answers with one
    `data_index` the first that completed counts.

    Attributes:
        info: Where they come from.
        standard: What the numbers are held against, or None.
        facts: What was found in the file.
    """

    def __init__(self, storage: IO[bytes]) -> None:
        self.info = RowsInfo("", "", synthetic=False)
        self.standard: Standard | None = None
        self.facts = OfficialFacts()
        self._storage = storage
        self._end = 0
        self._lines: IO[bytes] | None = None
        self._keys = array("q")
        self._order = array("q")
        self._answers = bytearray()
        self._stored = array("q")
        self._line_starts = array("q")
        self._content = array("I")
        self._ids = array("I")
        self._malformed = array("I")
        self._input_role = bytearray()
        self._used = bytearray()
        self._read_last: tuple[int, list[Any]] = (-1, [])

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, data_index: int) -> int | None:
        """Find the position of an answer; None if there is none."""
        place = bisect_left(self._keys, data_index)
        if place == len(self._keys) or self._keys[place] != data_index:
            return None
        return self._order[place]

    def use(self, position: int) -> bool:
        """Mark an answer as used; say whether it is for the first time."""
        first = not self._used[position]
        self._used[position] = True
        return first

    def claim(self, positions: Sequence[int]) -> bool:
        """Mark answers as used if none of them is yet; say whether that was so."""
        if any(self._used[position] for position in positions):
            return False
        for position in positions:
            self._used[position] = True
        return True

    def release(self, positions: Sequence[int]) -> None:
        """Mark answers as not used."""
        for position in positions:
            self._used[position] = False

    def share(self, folder: Path) -> SharedIndex:
        """Give what other processes need to open the same index.

        Args:
            folder: Where to put what they read; it has to stay as long as they do.
        """
        return SharedIndex(
            columns={name: getattr(self, name) for name in _COLUMNS},
            info=self.info,
            stored=_copy(self._storage, folder / "stored.jsonl"),
            lines=None if self._lines is None else _copy(self._lines, folder / "lines.jsonl"),
        )

    def case_index(self, position: int, data_index: int) -> int:
        """Give the 0-based row number that reports show."""
        return position if self._lines is None else data_index - 1

    def answer(self, position: int) -> OfficialAnswer | None:
        """Give the official answer without its calls; None if the official request failed."""
        return _ANSWERS[self._answers[position]]

    def marks(self, position: int) -> RequestMarks | None:
        """Give the marks of the official request or row; None if the log does not hold it."""
        if self._content[position] == 0:
            return None
        return RequestMarks(self._content[position], self._malformed[position], self._ids[position])

    def input_role(self, position: int) -> bool:
        """Whether the row has messages of the role `_input`."""
        return bool(self._input_role[position])

    def calls(self, position: int) -> list[Any] | None:
        """Read the official calls; None if they are not known."""
        calls: list[Any] | None = self._read(position)[0]
        return calls

    def tools(self, position: int) -> Any:
        """Read the tools of the row, or of the official request."""
        if self._lines is None:
            return self._read(position)[1] or []
        self._lines.seek(self._line_starts[position])
        return _tools_of(json.loads(self._lines.readline()))

    @property
    def has_rows(self) -> bool:
        """Whether the answers come from rows, whose tools are then the truth."""
        return self._lines is None

    def _read(self, position: int) -> list[Any]:
        start = self._stored[position]
        if start == _UNKNOWN:
            return [None, None]
        # Calls and tools are asked for one after the other, and again for each repeat.
        if self._read_last[0] != position:
            self._storage.seek(start)
            self._read_last = (position, json.loads(self._storage.readline()))
        return self._read_last[1]

    def append(
        self,
        data_index: int,
        answer: int,
        stored: bytes | None,
        marks: RequestMarks | None,
        *,
        line_start: int = _UNKNOWN,
        input_role: bool = False,
    ) -> None:
        """Take in one answer; `finish` ends the file."""
        self._keys.append(data_index)
        self._answers.append(answer)
        if stored is None:
            self._stored.append(_UNKNOWN)
        else:
            self._stored.append(self._end)
            self._end += self._storage.write(stored + b"\n")
        self._line_starts.append(line_start)
        # The checksum 0 stands for a request that is not known.
        self._content.append(0 if marks is None else marks.content)
        self._ids.append(0 if marks is None else marks.ids)
        self._malformed.append(0 if marks is None else marks.malformed)
        self._input_role.append(input_role)

    def finish(self, info: RowsInfo, standard: Standard | None, lines: IO[bytes] | None) -> None:
        """End the file: from now on it is read."""
        self.info, self.standard, self._lines = info, standard, lines
        self._storage.flush()
        self._used = bytearray(len(self))
        self.facts.rows = len(self)
        self.facts.failed = self._answers.count(FAILED)
        if all(one < other for one, other in pairwise(self._keys)):
            self._order = array("q", range(len(self)))
            return
        # Of equals, what completed comes first, then what stands first; `find` finds the first.
        self._order = array("q", sorted(range(len(self)), key=self._rank))
        self._keys = array("q", (self._keys[position] for position in self._order))
        for one, other in pairwise(self._keys):
            if one == other:
                self.facts.duplicates.add(other)

    def reopen(self, info: RowsInfo, lines: IO[bytes] | None) -> None:
        """Begin to read an index that was finished elsewhere."""
        self.info, self._lines = info, lines
        self._used = bytearray(len(self))

    def _rank(self, position: int) -> int:
        return 2 * self._keys[position] + (self._answers[position] == FAILED)

    def count_unused(self) -> None:
        """Count the official answers that no line answered."""
        firsts = (
            place for place in range(len(self)) if not place or self._keys[place] != self._keys[place - 1]
        )
        self.facts.unused = sum(
            not self._used[position] and self._answers[position] != FAILED
            for position in (self._order[place] for place in firsts)
        )


_COLUMNS = (
    "_keys",
    "_order",
    "_answers",
    "_stored",
    "_line_starts",
    "_content",
    "_ids",
    "_malformed",
    "_input_role",
)


@dataclass(frozen=True, slots=True)
class SharedIndex:
    """An index as it goes to another process.

    Attributes:
        columns: What the index keeps in memory.
        info: Where the answers come from.
        stored: The calls, and the tools of rows.
        lines: The lines of a log; None where the answers come from rows.
    """

    columns: Mapping[str, Any]
    info: RowsInfo
    stored: Path
    lines: Path | None

    @contextmanager
    def open(self) -> Iterator[OfficialIndex]:
        """Open the index, none of its answers marked as used."""
        with ExitStack() as stack:
            stored = stack.enter_context(self.stored.open("rb"))
            yield self.index_of(
                stored, None if self.lines is None else stack.enter_context(self.lines.open("rb"))
            )

    def index_of(self, stored: IO[bytes], lines: IO[bytes] | None) -> OfficialIndex:
        """Make the index of what its two files hold, wherever that is read from."""
        index = OfficialIndex(stored)
        for name, column in self.columns.items():
            setattr(index, name, column)
        index.reopen(self.info, lines)
        return index


def _copy(file: IO[bytes], path: Path) -> Path:
    """Give a file under a name, its own if it has one: temporary files have none."""
    if isinstance(getattr(file, "name", None), str) and Path(file.name).is_file():
        return Path(file.name).absolute()
    at = file.tell()
    file.seek(0)
    with path.open("wb") as copy:
        shutil.copyfileobj(file, copy)
    file.seek(at)
    return path


def _tools_of(line: Any) -> Any:
    request = line.get("request")
    extra_body = line.get("extra_body")
    body = {**(request if isinstance(request, dict) else {})}
    body.update(extra_body if isinstance(extra_body, dict) else {})
    return body.get("tools") or []
