"""Values read back from files, each of the type that was written: anything else is damage."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from k2_verifier_adapter.core.json_text import MAX_PARAMETER_DEPTH, dumps_strict, is_too_deep, shown


def text(value: Any) -> str:
    """Give a text.

    Raises:
        TypeError: If it is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"{shown(value, 60)} is not a text")
    return value


def text_or_none(value: Any) -> str | None:
    """Give a text or None.

    Raises:
        TypeError: If it is neither.
    """
    return None if value is None else text(value)


def whole(value: Any) -> int:
    """Give a whole number.

    Raises:
        TypeError: If it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{shown(value, 60)} is not a whole number")
    return value


def number(value: Any) -> float:
    """Give a finite number.

    Raises:
        TypeError: If it is none, `NaN` and what no float can hold included.
    """
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise TypeError(f"{shown(value, 60)} is not a finite number")


def json_object(value: Any) -> dict[str, Any]:
    """Give an object of strict JSON, as parameters are.

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
