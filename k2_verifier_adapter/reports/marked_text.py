"""Texts of which a part is to be seen at once: the value that violates a schema, the leaked marker."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from k2_verifier_adapter.core.json_text import is_too_deep
from k2_verifier_adapter.core.printable import printable

Piece = tuple[str, bool]
"""A part of a text, and whether it is marked."""

_INDENT = "  "
_NEXT = ",\n"
_LINE_END = re.compile(r"\r\n?|\n")


def arguments_of_call(arguments: Any, paths: Collection[str]) -> list[Piece]:
    """Lay out the arguments of a call: as indented JSON where they are JSON, else as they are.

    The paths are of the values to mark (`$.city`). Of what is not JSON, all from the place on where it stops
    being JSON is marked.
    """
    value = arguments
    if isinstance(arguments, str):
        try:
            value = json.loads(arguments)
        except json.JSONDecodeError as error:
            return _pieces([(arguments[: error.pos], False), (arguments[error.pos :], True)])
        except (RecursionError, ValueError):
            return _pieces([(arguments, True)])
    if is_too_deep(value):
        return _pieces([(str(arguments) if isinstance(arguments, str) else "nested too deeply", False)])
    return _pieces(_json_pieces(value, "$", "", frozenset(paths), inside=False))


def marked(text: str, markers: Iterable[str]) -> list[Piece]:
    """Mark every place in a text where one of some markers stands."""
    found = sorted({marker for marker in markers if marker}, key=len, reverse=True)
    if not found:
        return _pieces([(text, False)])
    parts = re.split(f"({'|'.join(map(re.escape, found))})", text)
    return _pieces((part, part in found) for part in parts)


def cut(pieces: list[Piece], limit: int) -> list[Piece]:
    """Shorten a text to about `limit` characters around its first mark; what is left out is counted."""
    length = sum(len(text) for text, _ in pieces)
    if length <= limit:
        return pieces
    first = 0
    for text, is_marked in pieces:
        if is_marked:
            break
        first += len(text)
    start = 0 if first < limit * 3 // 4 or first >= length else first - limit // 2
    kept = [(f"… ({start:,} characters)\n", False)] if start else []
    place = 0
    for text, is_marked in pieces:
        inside = text[max(0, start - place) : max(0, start + limit - place)]
        if inside:
            kept.append((inside, is_marked))
        place += len(text)
    left = length - start - limit
    return kept + ([(f"\n… ({left:,} more characters)", False)] if left > 0 else [])


def shown_lines(text: str) -> str:
    """Make a text of several lines safe to show: its lines stay, what is invisible becomes visible."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in _LINE_END.split(text))


def _json_pieces(
    value: Any, path: str, indent: str, paths: frozenset[str], *, inside: bool
) -> Iterator[Piece]:
    # Arguments that are wrong as a whole are marked at their braces only.
    is_marked = inside or (path in paths and path != "$")
    edge = is_marked or path in paths
    deeper = indent + _INDENT
    if isinstance(value, dict) and value:
        yield "{\n", edge
        for place, (key, item) in enumerate(value.items()):
            yield f"{_NEXT if place else ''}{deeper}", False
            yield f"{json.dumps(key, ensure_ascii=False)}: ", is_marked
            yield from _json_pieces(item, f"{path}.{key}", deeper, paths, inside=is_marked)
        yield f"\n{indent}", False
        yield "}", edge
    elif isinstance(value, list) and value:
        yield "[\n", edge
        for place, item in enumerate(value):
            yield f"{_NEXT if place else ''}{deeper}", False
            yield from _json_pieces(item, f"{path}[{place}]", deeper, paths, inside=is_marked)
        yield f"\n{indent}", False
        yield "]", edge
    else:
        yield json.dumps(value, ensure_ascii=False), edge


def _pieces(parts: Iterable[Piece]) -> list[Piece]:
    """Join neighbours of one kind."""
    joined: list[Piece] = []
    for text, is_marked in parts:
        if joined and joined[-1][1] == is_marked:
            joined[-1] = (joined[-1][0] + text, is_marked)
        elif text:
            joined.append((text, is_marked))
    return [(shown_lines(text), is_marked) for text, is_marked in joined]
