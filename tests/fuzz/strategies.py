"""What Hypothesis draws: stored inputs with some of their parts changed for hostile ones.

An input is one JSON document, JSON lines, or an event stream; JSON inside of strings is changed as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from hostile import ATOMS, ENDLESS, LINES, NAMES, RAW, SCHEMAS
from hypothesis import strategies as st

MAX_SIZE = 60_000
"""Bytes at which an input is cut: what is larger only takes longer."""

_MARK = "\x01raw\x01"
"""Stands in a tree for text that no encoder writes."""

_VALUES = st.recursive(
    st.sampled_from(ATOMS)
    | st.sampled_from((*SCHEMAS, *ENDLESS))
    | st.integers()
    | st.floats()
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=5,
)
_CHANGES = st.sampled_from(
    (
        "replace",
        "replace",
        "raw",
        "delete",
        "repeat",
        "member",
        "rename",
        "encode",
        "wrap",
        "shorten",
        "insert",
    )
)

Draw = Callable[[st.SearchStrategy[Any]], Any]


@st.composite
def documents(draw: Draw, pool: Sequence[bytes]) -> bytes:
    """Give a document of the pool, changed in a few places."""
    return _few_times(draw, draw(st.sampled_from(pool)), _change_document)


@st.composite
def lines(draw: Draw, pool: Sequence[bytes]) -> bytes:
    """Give JSON lines of the pool, changed in a few places."""

    def change(draw: Draw, data: bytes) -> bytes:
        return _change_line(draw, data.split(b"\n"), b"", draw(st.sampled_from(pool)).split(b"\n"))

    return _few_times(draw, draw(st.sampled_from(pool)), change)


@st.composite
def events(draw: Draw, pool: Sequence[bytes]) -> bytes:
    """Give an event stream of the pool, changed in a few places, perhaps with other line ends."""

    def change(draw: Draw, data: bytes) -> bytes:
        others = LINES if draw(st.booleans()) else draw(st.sampled_from(pool)).split(b"\n")
        return _change_line(draw, data.split(b"\n"), b"data: ", others)

    data = _few_times(draw, draw(st.sampled_from(pool)), change)
    if draw(st.integers(0, 5)):
        return data
    start, end = (
        draw(st.sampled_from((b"", b"\xef\xbb\xbf", b"\r"))),
        draw(st.sampled_from((b"\r\n", b"\r", b"\n\n"))),
    )
    return start + end.join(data.split(b"\n"))


def _few_times(draw: Draw, data: bytes, change: Callable[[Draw, bytes], bytes]) -> bytes:
    for _ in range(draw(st.integers(1, 4))):
        data = change(draw, data)
    return data[:MAX_SIZE]


def _change_line(draw: Draw, given: list[bytes], prefix: bytes, others: Sequence[bytes]) -> bytes:
    """Change the document of a line, or the order of lines."""
    place = draw(st.integers(0, len(given) - 1))
    line = given[place]
    kind = draw(st.sampled_from(("document", "document", "document", "delete", "repeat", "swap", "foreign")))
    if kind == "document" and line.startswith(prefix):
        given[place] = prefix + _change_document(draw, line.removeprefix(prefix))
    elif kind == "delete":
        del given[place]
    elif kind == "repeat":
        given.insert(place, line)
    elif kind == "swap":
        other = draw(st.integers(0, len(given) - 1))
        given[place], given[other] = given[other], line
    else:
        given.insert(place, draw(st.sampled_from(others)))
    return b"\n".join(given)


def _change_document(draw: Draw, data: bytes) -> bytes:
    """Change one JSON document; what is none is changed as bytes."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return _change_bytes(draw, data)
    if not draw(st.integers(0, 9)):
        return _change_bytes(draw, data)
    text = json.dumps(_changed(draw, tree), ensure_ascii=draw(st.booleans()))
    mark = json.dumps(_MARK)
    if mark[1:-1] in text:
        raw = draw(st.sampled_from(RAW))
        text = text.replace(mark, raw)
        # Inside of a string that holds JSON, the mark stands with its quotes escaped.
        text = text.replace(json.dumps(mark)[1:-1], json.dumps(raw)[1:-1])
    return text.encode("utf-8", "surrogatepass")


def _change_bytes(draw: Draw, data: bytes) -> bytes:
    """Put some bytes in the place of others."""
    start, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
    texts = st.sampled_from(RAW).map(lambda text: text.encode("utf-8", "surrogatepass"))
    middle = draw(texts | st.binary(max_size=3) | st.just(data[start:end] * 2))
    return data[:start] + middle + data[draw(st.sampled_from((start, end))) :]


def _changed(draw: Draw, node: Any) -> Any:
    """Give a tree with one of its nodes changed."""
    if node and isinstance(node, (dict, list)) and draw(st.integers(0, 4)):
        place = draw(st.sampled_from(list(node)) if isinstance(node, dict) else st.integers(0, len(node) - 1))
        change = draw(_CHANGES)
        if change in ("delete", "repeat", "member", "rename"):
            return _rearranged(draw, node, place, change)
        items = dict(node) if isinstance(node, dict) else list(node)
        items[place] = _changed(draw, node[place])
        return items
    if isinstance(node, str) and node[:1] in ("{", "[") and draw(st.integers(0, 2)):
        try:
            return json.dumps(_changed(draw, json.loads(node)))
        except (ValueError, RecursionError):
            pass
    return _another(draw, node)


def _rearranged(draw: Draw, node: Any, place: Any, change: str) -> Any:
    """Give an object or a list with a member less or more."""
    if isinstance(node, list):
        if change == "delete":
            return node[:place] + node[place + 1 :]
        times = 40 if change == "rename" else 1
        return node[:place] + [draw(_VALUES) if change == "member" else node[place]] * times + node[place:]
    if change == "delete":
        return {name: value for name, value in node.items() if name != place}
    value = draw(_VALUES) if change == "member" else node[place]
    kept = {name: value for name, value in node.items() if change != "rename" or name != place}
    return {**kept, draw(st.sampled_from(NAMES)): value}


def _another(draw: Draw, node: Any) -> Any:
    """Give what stands in the place of a node."""
    change = draw(_CHANGES)
    if change == "raw":
        return _MARK
    if change == "encode":
        return json.dumps(node)
    if change == "wrap":
        return draw(st.sampled_from(([node], {draw(st.sampled_from(NAMES)): node}, [node] * 3)))
    if isinstance(node, str) and change in ("shorten", "insert", "repeat"):
        place = draw(st.integers(0, len(node)))
        if change == "shorten":
            return node[:place]
        inserted = draw(
            st.sampled_from([atom for atom in ATOMS if isinstance(atom, str)] + ["'", "x" * 3_000, node])
        )
        return node[:place] + inserted + node[place:]
    if (
        isinstance(node, (int, float))
        and not isinstance(node, bool)
        and change in ("shorten", "insert", "repeat")
    ):
        return draw(st.sampled_from((-node, node + 1, str(node))))
    return draw(_VALUES)
