"""Data files: the bundled rows, and what is known of models and engines, with its sources.

The rows are synthetic, so that the whole chain runs with nothing downloaded.

This is the lowest layer: it imports nothing from the rest of the package, and only the standard library.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent

BUNDLED_SUITES = (
    "parameters",
    "tool_choice",
    "tool_schema",
    "dynamic_tools",
    "history",
    "stream",
    "prompt_tokens",
)
"""The suites of probes in `suites/`, in the order of reports."""


def bundled_rows_path() -> Path:
    """Return the path of the bundled rows, one JSON object a line in the hosted format."""
    return _FOLDER / "bundled_rows.jsonl"


def read_data(name: str) -> str:
    """Read one of the data files."""
    return (_FOLDER / name).read_text(encoding="utf-8")
