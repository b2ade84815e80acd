"""Regular expressions from untrusted schemas: Python's `re`, bounded in time.

`re` cannot be interrupted. A pattern whose worst case is small for the text at hand runs on `re`
itself; any other runs on the `regex` library, which takes a timeout, as `re` has understood it: written
anew from what `re`'s parser made of it. What no timeout bounds, compiling and memory, is bounded by size.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import regex

from k2_verifier_adapter.core.json_text import shown

_CHEAP_STEPS = 2_000_000
"""Backtracking steps that `re` may need at worst: some tens of milliseconds."""

# Private, but the same since Python 3.10, where it has another name.
_parser: Any = getattr(re, "_parser", None) or vars(re)["sre_parse"]

_REPEATS = {"MAX_REPEAT": "", "MIN_REPEAT": "?", "POSSESSIVE_REPEAT": "+"}
"""The operators that repeat, and the sign that tells them apart."""

_ONE_CHARACTER = frozenset({"LITERAL", "NOT_LITERAL", "ANY", "IN"})


class PatternTimeoutError(Exception):
    """A pattern needed longer than it was given."""


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A pattern as `re` understands it, with its parse tree and its `_effort`."""

    compiled: re.Pattern[str]
    items: Any
    effort: tuple[int, int] | None


@lru_cache(maxsize=1024)
def _read(pattern: str) -> _Pattern:
    """Compile and parse a pattern; one that may take long raises `PatternTimeoutError`."""
    check_size(pattern)
    with without_warnings():
        compiled, items = re.compile(pattern), _parser.parse(pattern)
    return _Pattern(compiled, items, _effort(items))


@contextmanager
def without_warnings() -> Iterator[None]:
    """Compile inside: what `re` warns of is for the schema's author, who is not here to read it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _effort(items: Any) -> tuple[int, int] | None:
    """Count what backtracking can vary; None where counting bounds nothing.

    That is a repeated group, which may hold further quantifiers (where exponential time comes from).

    Returns:
        The quantifiers of variable length (each may try every length of the text), and the product
        of all choices (`a?` has two, `(a|b|c)` three).
    """
    quantifiers, choices = 0, 1
    for operator, value in items:
        name = str(operator)
        if name in _REPEATS:
            least, most, item = value
            if (least, most) == (0, 1):
                choices *= 2
            elif not _is_one_character(item):
                return None
            elif least != most:
                quantifiers += 1
        elif name == "BRANCH":
            choices *= len(value[1])
        elif name == "GROUPREF":
            quantifiers += 1
        for part in _parts(name, value):
            inner = _effort(part)
            if inner is None:
                return None
            quantifiers += inner[0]
            choices *= inner[1]
    return quantifiers, choices


def is_cheap(pattern: str, length: int, limit: int = _CHEAP_STEPS) -> bool:
    """Whether `re` surely searches a text of this length within `limit` steps."""
    try:
        effort = _read(pattern).effort
    except (re.error, RecursionError, OverflowError, PatternTimeoutError):
        return False
    if effort is None:
        return False
    quantifiers, choices = effort
    steps: int = choices * (length + 1) ** (quantifiers + 1)
    return steps <= limit


_USUAL_LENGTH = 500
_MOST_CHARACTERS = 100_000
"""Characters of a pattern that is compiled: a microsecond each."""

_MOST_WIDE_CLASSES = 100
"""Classes of a pattern that may reach beyond Latin-1: up to 7 ms each, for `re` lists their members."""


def check_size(pattern: str) -> None:
    """Raise `PatternTimeoutError` if compiling a pattern may take long, for nothing could interrupt it."""
    if len(pattern) < _USUAL_LENGTH:
        return
    wide = not pattern.isascii() or re.search(r"\\[uUN]", pattern) is not None
    if len(pattern) > _MOST_CHARACTERS or (wide and pattern.count("[") > _MOST_WIDE_CLASSES):
        raise PatternTimeoutError(f"pattern {shown(pattern)} is too large to compile in time")


_MOST_NODES = 50_000
"""Nodes of a pattern that `regex` compiles: up to 700 bytes and 4 microseconds each (2026.11)."""

_MOST_CAPTURES = 4_000_000
"""Groups times characters that `regex` may have to remember: up to 50 bytes each."""


def _nodes(items: Any) -> int:
    """Count the nodes that `regex` makes of a pattern.

    It writes a repeated group out as often as it must occur, and once more: nested repeats multiply.
    """
    total = 1
    for operator, value in items:
        name = str(operator)
        if name in _REPEATS:
            least, _, item = value
            total += (2 if _is_one_character(item) else int(least) + 1) * _nodes(item)
        elif name == "IN":
            total += len(value)
        else:
            total += 1 + sum(map(_nodes, _parts(name, value)))
    return total


def _is_one_character(items: Any) -> bool:
    return len(items) == 1 and str(items[0][0]) in _ONE_CHARACTER


def _parts(name: str, value: Any) -> tuple[Any, ...]:
    """Give the patterns that an operator holds."""
    if name in _REPEATS:
        return (value[2],)
    if name == "BRANCH":
        return tuple(value[1])
    if name == "SUBPATTERN":
        return (value[3],)
    if name in ("ASSERT", "ASSERT_NOT"):
        return (value[1],)
    if name == "ATOMIC_GROUP":
        return (value,)
    if name == "GROUPREF_EXISTS":
        return tuple(part for part in value[1:] if part is not None)
    return ()


_FLAGS = {re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s", re.ASCII: "a"}
"""The flags that change what a pattern matches once it is parsed."""

_SPELT = {
    "AT_BEGINNING": "^",
    "AT_BEGINNING_STRING": r"\A",
    "AT_BOUNDARY": r"\b",
    "AT_NON_BOUNDARY": r"\B",
    "AT_END": "$",
    "AT_END_STRING": r"\Z",
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}


def _letters(flags: int) -> str:
    return "".join(letter for flag, letter in _FLAGS.items() if flags & flag)


def _for_regex(pattern: _Pattern) -> str:
    """Write a pattern for `regex`; nothing is left of what only one of the two reads in a special way.

    A KeyError says that it holds what `regex` has no word for.
    """
    letters = _letters(pattern.compiled.flags)
    return (f"(?{letters})" if letters else "") + _written(pattern.items)


def _written(items: Any) -> str:
    return "".join(
        _WRITERS[str(operator)](value, [_written(part) for part in _parts(str(operator), value)])
        for operator, value in items
    )


def _character(value: int) -> str:
    return re.escape(chr(value))


def _class(members: Any) -> str:
    negated = str(members[0][0]) == "NEGATE"
    return f"[{'^' if negated else ''}{_written(members[1:] if negated else members)}]"


def _group(value: Any, inner: str) -> str:
    number, added, removed, _ = value
    if number is not None:
        return f"({inner})"
    if added & (re.ASCII | re.UNICODE):
        raise KeyError("to `regex` these are flags of the whole pattern")
    without = _letters(removed)
    return f"(?{_letters(added)}{f'-{without}' if without else ''}:{inner})"


def _repeat(sign: str) -> Callable[[Any, list[str]], str]:
    def written(value: Any, parts: list[str]) -> str:
        least, most, item = value
        repeated = parts[0] if _is_one_character(item) else f"(?:{parts[0]})"
        return f"{repeated}{{{least},{'' if most is _parser.MAXREPEAT else most}}}{sign}"

    return written


_WRITERS: dict[str, Callable[[Any, list[str]], str]] = {
    **{name: _repeat(sign) for name, sign in _REPEATS.items()},
    "ANY": lambda _, __: ".",
    "ASSERT": lambda value, parts: f"(?{'<' if value[0] < 0 else ''}={parts[0]})",
    "ASSERT_NOT": lambda value, parts: f"(?{'<' if value[0] < 0 else ''}!{parts[0]})",
    "AT": lambda value, _: _SPELT[str(value)],
    "ATOMIC_GROUP": lambda _, parts: f"(?>{parts[0]})",
    "BRANCH": lambda _, parts: f"(?:{'|'.join(parts)})",
    "CATEGORY": lambda value, _: _SPELT[str(value)],
    "FAILURE": lambda _, __: "(?!)",
    "GROUPREF": lambda value, _: rf"\g<{value}>",
    "GROUPREF_EXISTS": lambda value, parts: f"(?({value[0]}){'|'.join(parts)})",
    "IN": lambda value, _: _class(value),
    "LITERAL": lambda value, _: _character(value),
    "NOT_LITERAL": lambda value, _: f"[^{_character(value)}]",
    "RANGE": lambda value, _: "-".join(map(_character, value)),
    "SUBPATTERN": lambda value, parts: _group(value, parts[0]),
}
"""How each operator of `re`'s parse tree is written for `regex`, from its value and its written parts."""


def search(pattern: str, text: str, timeout_s: float) -> bool:
    """Tell whether the pattern matches anywhere in the text, as `re.search` would.

    Raises:
        re.error: If the pattern is not a regular expression for Python's `re`.
        PatternTimeoutError: If the search took longer than `timeout_s`, or may take too much of
            time or memory in a way that nothing can interrupt.
    """
    found = _read(pattern)
    if is_cheap(pattern, len(text)):
        return found.compiled.search(text) is not None
    if (found.compiled.groups + 1) * len(text) > _MOST_CAPTURES:
        raise PatternTimeoutError(f"pattern {shown(pattern)} on a text of {len(text)} characters")
    unbounded = PatternTimeoutError(f"pattern {shown(pattern)} cannot be run with a time limit")
    if _nodes(found.items) > _MOST_NODES:
        raise unbounded
    try:
        return regex.search(_for_regex(found), text, timeout=max(timeout_s, 0.001)) is not None
    except TimeoutError:
        raise PatternTimeoutError(f"pattern {shown(pattern)} on a text of {len(text)} characters") from None
    except (regex.error, KeyError):
        # Not of the common dialect: nothing bounds it, so it is not run.
        raise unbounded from None
