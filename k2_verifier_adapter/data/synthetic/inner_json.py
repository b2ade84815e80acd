"""Writing the inner JSON texts of a row, with spellings that `json.dumps` alone cannot produce."""

from __future__ import annotations

import json
import re
from typing import Any

_SPELLED = "@number:"
_SPELLED_IN_TEXT = re.compile(rf'"{_SPELLED}([-+.0-9eE]+)"')
_SURROGATE = re.compile("[\ud800-\udfff]")


def spelled(number: str) -> str:
    """Stand for a number that the JSON text must spell in exactly this way, such as `1e3`.

    Python reads `1e3` and writes `1000.0`, so a value cannot carry the spelling; only a text can.
    """
    return _SPELLED + number


def write_json(value: Any, *, ascii_only: bool = False, compact: bool = False) -> str:
    """Write JSON text that has a UTF-8 form: a lone surrogate stays an escape even in non-ASCII text."""
    separators = (",", ":") if compact else (", ", ": ")
    text = json.dumps(value, ensure_ascii=ascii_only, separators=separators)
    text = _SURROGATE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
    return _SPELLED_IN_TEXT.sub(r"\1", text)
