"""JSON: reading without surprises, writing without losses, and values read back as the type they were."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from math import isfinite
from typing import Any


class JsonTextError(ValueError):
    """A text is not JSON; the message says why, in words for a person."""


def _refuse_constant(name: str) -> Any:
    raise JsonTextError(f"{name} is not JSON")


_strict_decoder = json.JSONDecoder(parse_constant=_refuse_constant)

MAX_DEPTH = 400
"""Nesting that a row or a completion may have: far above real ones, far below what Python follows from
any stack, so that whatever was read once can be judged, stored and shown everywhere."""

MAX_PARAMETER_DEPTH = 100
"""Nesting that a request parameter may have: reports show them all, and walk them by recursion."""

MAX_VALUES = 2_000_000
"""Brackets, colons and commas of a JSON text, those in its strings included: each may become a value, which
takes many times as much memory as its text."""

_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


def loads_strict(text: str) -> Any:
    """Parse JSON, refusing `NaN` and `Infinity`, which are no JSON and which servers reject.

    Raises:
        JsonTextError: If the text is not JSON, is nested deeper than `MAX_DEPTH`, may hold more than
            `MAX_VALUES`, or holds a number longer than Python parses.
    """
    check_values(text)
    try:
        value = _strict_decoder.decode(text)
    except JsonTextError:
        raise
    except RecursionError:
        raise JsonTextError(_TOO_DEEP) from None
    except ValueError as error:
        raise JsonTextError(str(error)) from None
    if text.count("[") + text.count("{") > MAX_DEPTH and is_too_deep(value):
        raise JsonTextError(_TOO_DEEP)
    return value


def check_values(text: str | bytes) -> None:
    """Raise `JsonTextError` for a text that could become more than `MAX_VALUES` values; it is not decoded."""
    if len(text) <= MAX_VALUES:
        return
    if isinstance(text, bytes):
        counted = sum(text.count(mark) for mark in b"[{:,")
    else:
        counted = sum(text.count(mark) for mark in "[{:,")
    if counted > MAX_VALUES:
        raise JsonTextError(f"it may hold more than {MAX_VALUES:,} values")


def is_too_deep(value: Any, limit: int = MAX_DEPTH) -> bool:
    """Whether a JSON value is nested deeper than the limit."""
    # Level by level, for the depth is what is in question.
    level = [value] if isinstance(value, (dict, list)) else []
    depth = 0
    while level:
        depth += 1
        if depth > limit:
            return True
        below = []
        for parent in level:
            for item in parent.values() if isinstance(parent, dict) else parent:
                if isinstance(item, (dict, list)):
                    below.append(item)  # noqa: PERF401 - twice as fast as the comprehension, for few qualify
        level = below
    return False


def dumps_strict(value: Any) -> str:
    """Write compact ASCII JSON, refusing what has no JSON form.

    Raises:
        JsonTextError: If the value holds `NaN`, bytes or the like, or is nested too deeply.
    """
    try:
        return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise JsonTextError(_TOO_DEEP) from None
    except (TypeError, ValueError) as error:
        raise JsonTextError(str(error)) from None


def dumps_ascii(value: Any) -> str:
    """Write compact JSON in ASCII, so that a lone surrogate survives any file and any wire."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def reportable(value: Any) -> Any:
    """Give a parameter that a report can hold as JSON; of any other value, a text in its place."""
    try:
        dumps_strict(value)
    except JsonTextError as error:
        # What is inside may be secret.
        return shown(value) if isinstance(value, float) else f"(no JSON: {error})"
    too_deep = is_too_deep(value, MAX_PARAMETER_DEPTH)
    return f"(nested deeper than {MAX_PARAMETER_DEPTH} levels)" if too_deep else value


def cut_to(value: Any, most: int) -> Any:
    """Give a JSON value with that many members and items at most; of members, the small ones come first."""
    left = most

    def size(part: Any) -> int:
        return len(part) + 1 if isinstance(part, (dict, list)) else 0

    def cut(part: Any) -> Any:
        nonlocal left
        if not isinstance(part, (dict, list)):
            return part
        kept: Any
        if isinstance(part, list):
            kept = []
            for item in part:
                if left <= 0:
                    break
                left -= 1
                kept.append(cut(item))
            return kept
        first = sorted(part, key=lambda name: size(part[name]))[: max(0, left)]
        left -= len(first)
        found = {name: cut(part[name]) for name in first}
        return {name: found[name] for name in part if name in found}

    return cut(value)


def differ(one: Any, other: Any) -> bool:
    """Whether two values differ; those nested too deeply to compare do."""
    try:
        return bool(one != other)
    except RecursionError:
        return True


def excerpt(text: str, limit: int = 120) -> str:
    """Shorten a text for a message; what is left out is counted."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({len(text) - limit} more characters)"


_NON_ASCII = re.compile(r"[^\x00-\x7f]+")


def escape_to_ascii(text: str) -> str:
    r"""Escape what is not ASCII in a JSON text as `\uXXXX`; everything else stays as it stands.

    Outside of strings JSON is ASCII, so the text stays equal as JSON.
    """
    if text.isascii():
        return text
    return _NON_ASCII.sub(lambda match: json.dumps(match[0])[1:-1], text)


def shown(value: Any, limit: int = 120) -> str:
    """Quote any JSON value for a message, shortened; never raises.

    A value from a vendor may be nested so deeply that `repr` fails on it although it could be parsed.
    """
    try:
        return excerpt(repr(value), limit)
    except (RecursionError, ValueError):
        return f"a value of type {type(value).__name__} that is too deep or long to show"


def text(value: Any) -> str:
    """Give a stored text; a TypeError says that it is none."""
    if not isinstance(value, str):
        raise TypeError(f"{shown(value, 60)} is not a text")
    return value


def text_or_none(value: Any) -> str | None:
    """Give a stored text or None; a TypeError says that it is neither."""
    return None if value is None else text(value)


def whole(value: Any) -> int:
    """Give a stored whole number; a TypeError says that it is none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{shown(value, 60)} is not a whole number")
    return value


def number(value: Any) -> float:
    """Give a stored finite number; a TypeError says that it is none, as `NaN` and what no float can hold."""
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise TypeError(f"{shown(value, 60)} is not a finite number")


def number_or_none(value: Any) -> float | None:
    """Give a stored finite number or None; a TypeError says that it is neither."""
    return None if value is None else number(value)


def json_object(value: Any) -> dict[str, Any]:
    """Give a stored object of strict JSON, as parameters are.

    Raises:
        TypeError: If it is none, or nested too deeply.
        JsonTextError: If it holds `NaN` or `Infinity`.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"{shown(value, 60)} is not an object")
    dumps_strict(value)
    if is_too_deep(value, MAX_PARAMETER_DEPTH):
        raise TypeError(f"{shown(value, 60)} is nested deeper than {MAX_PARAMETER_DEPTH} levels")
    return dict(value)
