"""Regular expressions from untrusted schemas: Python's `re`, bounded in time.

`re` cannot be interrupted. A pattern whose worst case is small for the text at hand runs on `re`
itself; any other runs on the `regex` library, which knows `re`'s dialect and takes a timeout. What no
timeout bounds, compiling and memory, is bounded by size.
"""

from __future__ import annotations

import re
from functools import lru_cache
from math import prod
from typing import Any

import regex

from k2_verifier_adapter.core.json_text import shown

_CHEAP_STEPS = 2_000_000
"""Backtracking steps that `re` may need at worst: some tens of milliseconds."""

_TOKEN = re.compile(
    r"""
    (?P<backreference>\\[1-9]\d?|\(\?P=\w+\))
    | \\. | \[\^?\]?(?:\\.|[^\]\\])*(?:\]|\\?\Z) | \(\?\#[^)]*(?:\)|\Z)  # nothing to count in these
    | (?P<variable>[*+]|\{\d*,\d*\})   # a quantifier of variable length
    | (?P<optional>\?)
    | (?P<fixed>\{\d+\})              # one of fixed length
    | (?P<group>\((?:\?(?:P?<\w+>|P?[=!:>]|<[=!]|\(\w+\)))?)
    | (?P<group_end>\))
    | (?P<alternative>\|)
    """,
    re.VERBOSE | re.DOTALL,
)
_INLINE_FLAGS = re.compile(r"\(\?(?!P)[a-zA-Z-]")


class PatternTimeoutError(Exception):
    """A pattern needed longer than it was given."""


@lru_cache(maxsize=1024)
def _effort(pattern: str) -> tuple[int, int] | None:
    """Count what backtracking can vary; None where counting bounds nothing.

    That is a quantified group, which may hold further quantifiers (where exponential time comes
    from), and inline flags, which change how the pattern reads.

    Returns:
        The quantifiers of variable length (each may try every length of the text), and the product
        of all choices (`a?` has two, `(a|b|c)` three).
    """
    if _INLINE_FLAGS.search(pattern):
        return None
    quantifiers, choices = 0, 1
    alternatives = [1]
    end_of_group = -1
    for match in _TOKEN.finditer(pattern):
        kind = match.lastgroup
        if kind in ("variable", "fixed", "optional") and match.start() == end_of_group:
            if kind != "optional":
                return None
            choices *= 2
        elif kind in ("variable", "backreference"):
            quantifiers += 1
        elif kind == "optional":
            choices *= 2
        elif kind == "group":
            alternatives.append(1)
        elif kind == "alternative":
            alternatives[-1] += 1
        elif kind == "group_end":
            end_of_group = match.end()
            choices *= alternatives.pop() if len(alternatives) > 1 else 1
    return quantifiers, choices * prod(alternatives)


def is_cheap(pattern: str, length: int, limit: int = _CHEAP_STEPS) -> bool:
    """Whether `re` surely searches a text of this length within `limit` steps."""
    effort = _effort(pattern)
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
    """Refuse a pattern that may take long to compile, for `re` cannot be interrupted there either.

    Raises:
        PatternTimeoutError: If it may.
    """
    if len(pattern) < _USUAL_LENGTH:
        return
    wide = not pattern.isascii() or re.search(r"\\[uUN]", pattern) is not None
    if len(pattern) > _MOST_CHARACTERS or (wide and pattern.count("[") > _MOST_WIDE_CLASSES):
        raise PatternTimeoutError(f"pattern {shown(pattern)} is too large to compile in time")


_MOST_NODES = 50_000
"""Nodes of a pattern that `regex` compiles: up to 700 bytes and 4 microseconds each (2026.11)."""

_MOST_CAPTURES = 4_000_000
"""Groups times characters that `regex` may have to remember: up to 50 bytes each."""

_VERBOSE = re.compile(r"\(\?[a-zA-Z]*x")

# Private, but the same since Python 3.10, where it has another name; it has just compiled the pattern.
_parser: Any = getattr(re, "_parser", None) or vars(re)["sre_parse"]

_ONE_CHARACTER = frozenset({"LITERAL", "NOT_LITERAL", "ANY", "IN"})


@lru_cache(maxsize=1024)
def _written_out(pattern: str) -> int:
    """Count the nodes that `regex` makes of a pattern.

    It writes a repeated group out as often as it must occur, and once more: nested repeats multiply.
    """
    return _nodes(_parser.parse(pattern))


def _nodes(items: Any) -> int:
    total = 1
    for operator, value in items:
        name = str(operator)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            least, _, item = value
            is_single = len(item) == 1 and str(item[0][0]) in _ONE_CHARACTER
            total += (2 if is_single else int(least) + 1) * _nodes(item)
        elif name == "IN":
            total += len(value)
        else:
            total += 1 + sum(map(_nodes, _parts(name, value)))
    return total


def _parts(name: str, value: Any) -> tuple[Any, ...]:
    """Give the patterns that an operator holds."""
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


_DIALECT = re.compile(
    r"""
    (?P<kept>\\N\{[^}]*(?:\}|\Z)|\\.|\{\d+(?:,\d*)?\}|\{,\d*\}|\(\?\#[^)]*(?:\)|\Z))
    | (?P<class>\[\^?\]?)(?P<members>(?:\\.|[^\]\\])*)(?P<class_end>\]|\\?\Z)
    | \{
    """,
    re.VERBOSE | re.DOTALL,
)


def _for_regex(pattern: str) -> str:
    """Escape what `re` takes literally and `regex` does not: fuzzy braces, POSIX classes."""

    def escaped(match: re.Match[str]) -> str:
        if match["kept"]:
            return str(match["kept"])
        if match["class"]:
            members = re.sub(r"(?s)(\\.)|\[", lambda part: part[1] or r"\[", match["members"])
            return f"{match['class']}{members}{match['class_end']}"
        return r"\{"

    return _DIALECT.sub(escaped, pattern)


def search(pattern: str, text: str, timeout_s: float) -> bool:
    """Tell whether the pattern matches anywhere in the text, as `re.search` would.

    Raises:
        re.error: If the pattern is not a regular expression for Python's `re`.
        PatternTimeoutError: If the search took longer than `timeout_s`, or may take too much of
            time or memory in a way that nothing can interrupt.
    """
    check_size(pattern)
    compiled = re.compile(pattern)
    if is_cheap(pattern, len(text)):
        return compiled.search(text) is not None
    if (compiled.groups + 1) * len(text) > _MOST_CAPTURES:
        raise PatternTimeoutError(f"pattern {shown(pattern)} on a text of {len(text)} characters")
    if _VERBOSE.search(pattern) or _written_out(pattern) > _MOST_NODES:
        raise PatternTimeoutError(f"pattern {shown(pattern)} cannot be run with a time limit")
    try:
        return regex.search(_for_regex(pattern), text, timeout=max(timeout_s, 0.001)) is not None
    except TimeoutError:
        raise PatternTimeoutError(f"pattern {shown(pattern)} on a text of {len(text)} characters") from None
    except regex.error:
        # Not of the common dialect: nothing bounds it, so it is not run.
        raise PatternTimeoutError(f"pattern {shown(pattern)} cannot be run with a time limit") from None
