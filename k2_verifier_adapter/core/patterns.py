"""Regular expressions from untrusted schemas: Python's `re`, bounded in time.

`re` cannot be interrupted. A pattern whose worst case is small for the text at hand runs on `re`
itself; any other runs on the `regex` library, which knows `re`'s dialect and takes a timeout.
"""

from __future__ import annotations

import re
from functools import lru_cache
from math import prod

import regex

_CHEAP_STEPS = 2_000_000
"""Backtracking steps that `re` may need at worst: some tens of milliseconds."""

_TOKEN = re.compile(
    r"""
    (?P<backreference>\\[1-9]\d?|\(\?P=\w+\))
    | \\. | \[\^?\]?(?:\\.|[^\]\\])*\] | \(\?\#[^)]*\)  # an escape, a class, a comment: nothing to count
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


def is_cheap(pattern: str, length: int) -> bool:
    """Whether `re` surely searches a text of this length within a bounded number of steps."""
    effort = _effort(pattern)
    if effort is None:
        return False
    quantifiers, choices = effort
    steps: int = choices * (length + 1) ** (quantifiers + 1)
    return steps <= _CHEAP_STEPS


_DIALECT = re.compile(
    r"""
    (?P<kept>\\N\{[^}]*\}|\\.|\{\d+(?:,\d*)?\}|\{,\d*\})
    | (?P<class>\[\^?\]?)(?P<members>(?:\\.|[^\]\\])*)\]
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
            return f"{match['class']}{members}]"
        return r"\{"

    return _DIALECT.sub(escaped, pattern)


def search(pattern: str, text: str, timeout_s: float) -> bool:
    """Tell whether the pattern matches anywhere in the text, as `re.search` would.

    Raises:
        re.error: If the pattern is not a regular expression for Python's `re`.
        PatternTimeoutError: If the search took longer than `timeout_s`.
    """
    compiled = re.compile(pattern)
    if is_cheap(pattern, len(text)):
        return compiled.search(text) is not None
    try:
        return regex.search(_for_regex(pattern), text, timeout=max(timeout_s, 0.001)) is not None
    except TimeoutError:
        raise PatternTimeoutError(f"pattern {pattern!r} on a text of {len(text)} characters") from None
    except regex.error:
        # Not of the common dialect: nothing bounds it, so it is not run.
        raise PatternTimeoutError(f"pattern {pattern!r} cannot be run with a time limit") from None
