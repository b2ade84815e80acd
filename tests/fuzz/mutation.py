"""Seeded mutation: JSON as a tree (JSON inside of strings too), event streams, lines, plain bytes.

Pure Python and reproducible: the same `Random` gives the same input, with or without a coverage guide.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from enum import Enum
from random import Random
from typing import Any

from hostile import ATOMS, ENDLESS, LINES, NAMES, RAW, SCHEMAS

MAX_SIZE = 60_000
"""Bytes at which an input is cut: what is larger only takes longer."""


class Shape(Enum):
    """What an input consists of."""

    DOCUMENT = "one JSON document"
    LINES = "JSON lines"
    EVENTS = "an event stream"


class Mutator:
    """Change inputs of one shape."""

    def __init__(self, shape: Shape, rng: Random) -> None:
        self._shape = shape
        self._rng = rng

    def mutate(self, data: bytes, pool: Sequence[bytes]) -> bytes:
        """Give a changed input; `pool` holds others to take parts from."""
        for _ in range(self._rng.choice((1, 1, 1, 2, 2, 3, 5))):
            if self._shape is Shape.DOCUMENT:
                data = self._document(data, pool)
            elif self._shape is Shape.LINES:
                data = self._lines(data, pool)
            else:
                data = self._events(data, pool)
        if self._rng.random() < 0.08:
            data = self._bytes(data)
        return data[:MAX_SIZE]

    def _lines(self, data: bytes, pool: Sequence[bytes]) -> bytes:
        lines = data.split(b"\n")
        place = self._rng.randrange(len(lines))
        if self._rng.random() < 0.75:
            lines[place] = self._document(lines[place], pool)
        else:
            self._rearrange(lines, place, self._rng.choice(self._rng.choice(pool).split(b"\n")))
        return b"\n".join(lines)

    def _events(self, data: bytes, pool: Sequence[bytes]) -> bytes:
        rng = self._rng
        lines = data.split(b"\n")
        filled = [place for place, line in enumerate(lines) if line.startswith(b"data: {")]
        kind = rng.random()
        if kind < 0.6 and filled:
            place = rng.choice(filled)
            text = self._document(lines[place][6:], pool)
            # A document over several lines is an event of several data lines, or a broken one.
            lines[place] = b"data: " + (text.replace(b"\n", b"\ndata: ") if rng.random() < 0.9 else text)
        elif kind < 0.9:
            donor = LINES if rng.random() < 0.5 else rng.choice(pool).split(b"\n")
            self._rearrange(lines, rng.randrange(len(lines)), rng.choice(donor))
        else:
            end = rng.choice((b"\r\n", b"\r", b"\n\n", b"\n"))
            return rng.choice((b"", b"\xef\xbb\xbf", b"\n", b"\r")) + end.join(lines)
        return b"\n".join(lines)

    def _rearrange(self, items: list[bytes], place: int, foreign: bytes) -> None:
        kind = self._rng.randrange(5)
        if kind == 0:
            del items[place]
        elif kind == 1:
            items.insert(place, items[place])
        elif kind == 2:
            other = self._rng.randrange(len(items))
            items[place], items[other] = items[other], items[place]
        elif kind == 3:
            items.insert(place, foreign)
        else:
            items[place] = foreign
        if not items:
            items.append(b"")

    def _document(self, data: bytes, pool: Sequence[bytes]) -> bytes:
        """Change one JSON document; what is none is changed as bytes."""
        try:
            tree = [json.loads(data)]
            raw = self._edit(tree, lambda: self._part_of(self._rng.choice(pool)))
            text = json.dumps(tree[0], ensure_ascii=self._rng.random() < 0.8)
        except (ValueError, RecursionError):
            return self._bytes(data)
        if raw is not None:
            text = text.replace(_MARK_TEXT, raw)
            if self._rng.random() < 0.5:
                # Inside of a string that holds JSON, the mark stands with its quotes escaped.
                text = text.replace(_MARK_INSIDE, json.dumps(raw)[1:-1])
        return text.encode("utf-8", "surrogatepass")

    def _part_of(self, data: bytes) -> Any:
        """Give some subtree of another input."""
        start = data.find(b"{")
        end = data.find(b"\n", start)
        try:
            node = json.loads(data[start : end if end > 0 else None])
        except (ValueError, RecursionError):
            return data[:50].decode("utf-8", "replace")
        while isinstance(node, (dict, list)) and node and self._rng.random() < 0.8:
            node = node[self._place(node)]
        return node

    def _place(self, node: dict[str, Any] | list[Any]) -> Any:
        return self._rng.choice(list(node)) if isinstance(node, dict) else self._rng.randrange(len(node))

    def _edit(self, tree: list[Any], foreign: Callable[[], Any]) -> str | None:
        """Change one node of a tree; give the raw text that its mark stands for, if there is one."""
        rng = self._rng
        parent: Any = tree
        key: Any = 0
        while True:
            node = parent[key]
            if isinstance(node, (dict, list)) and node and rng.random() < 0.8:
                parent, key = node, self._place(node)
                continue
            if isinstance(node, str) and node[:1] in ("{", "[") and rng.random() < 0.6:
                inner = self._edit_text(parent, key, node, foreign)
                if inner is not _NOT_JSON:
                    return inner
            break
        return self._change(parent, key, node, foreign)

    def _edit_text(self, parent: Any, key: Any, text: str, foreign: Callable[[], Any]) -> Any:
        try:
            tree = [json.loads(text)]
        except (ValueError, RecursionError):
            return _NOT_JSON
        raw = self._edit(tree, foreign)
        parent[key] = json.dumps(tree[0], ensure_ascii=self._rng.random() < 0.5)
        return raw

    def _change(self, parent: Any, key: Any, node: Any, foreign: Callable[[], Any]) -> str | None:
        rng = self._rng
        kind = rng.randrange(13)
        if kind == 3:
            parent[key] = _MARK
            return rng.choice(RAW)
        if kind <= 4:
            parent[key] = _copy(rng.choice((*SCHEMAS, *ENDLESS) if kind == 4 else ATOMS))
        elif kind == 5:
            parent[key] = foreign()
        elif kind == 6 and not (isinstance(parent, list) and len(parent) == 1):
            del parent[key]
        elif kind == 7:
            self._grow(parent, key, node)
        elif kind == 8:
            parent[key] = json.dumps(node)
        elif kind == 9:
            parent[key] = rng.choice(([node], {rng.choice(NAMES): node}, [node] * 3))
        elif isinstance(node, str):
            parent[key] = self._text(node)
        elif isinstance(node, (int, float)) and not isinstance(node, bool):
            parent[key] = rng.choice((-node, node + 1, str(node)))
        else:
            parent[key] = _copy(rng.choice(ATOMS))
        return None

    def _grow(self, parent: Any, key: Any, node: Any) -> None:
        """Repeat an item, or give a member to an object."""
        rng = self._rng
        if isinstance(parent, list):
            parent[key:key] = [node] * rng.choice((1, 1, 2, 40))
        elif isinstance(parent, dict):
            parent[rng.choice(NAMES)] = node
        if isinstance(node, dict):
            node[rng.choice(NAMES)] = _copy(rng.choice(SCHEMAS if rng.random() < 0.3 else ATOMS))

    def _text(self, text: str) -> str:
        rng = self._rng
        start, end = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
        inserted = rng.choice(ATOMS)
        middle = inserted if isinstance(inserted, str) else ""
        return rng.choice(
            (
                text[:start],
                text[:start] + middle + text[end:],
                text + text,
                text.upper(),
                text[:start] + "'" + text[start:],
                "x" * rng.choice((1, 200, 3_000)) + text,
            )
        )

    def _bytes(self, data: bytes) -> bytes:
        """Change some bytes, whatever they mean."""
        rng = self._rng
        changed = bytearray(data or b" ")
        for _ in range(rng.choice((1, 1, 2, 8))):
            place = rng.randrange(len(changed) + 1)
            kind = rng.randrange(6)
            if kind == 0:
                changed[place : place + 1] = bytes([rng.randrange(256)])
            elif kind == 1:
                del changed[place : place + rng.choice((1, 1, 4, 100))]
            elif kind == 2:
                changed[place:place] = rng.choice(RAW).encode("utf-8", "surrogatepass")
            elif kind == 3:
                changed[place:place] = rng.choice(b'"{}[],:\\\n\r\x00 0\xff\xc3').to_bytes(1, "big")
            elif kind == 4:
                changed[place:place] = changed[place // 2 : place]
            else:
                del changed[place:]
        return bytes(changed)


_MARK = "\x01raw\x01"
_MARK_TEXT = json.dumps(_MARK)
_MARK_INSIDE = json.dumps(_MARK_TEXT)[1:-1]
_NOT_JSON = object()


def _copy(value: Any) -> Any:
    """Copy what an edit may change later."""
    return json.loads(json.dumps(value)) if isinstance(value, (dict, list)) else value
