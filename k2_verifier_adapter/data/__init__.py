"""The bundled rows: synthetic, so that the whole chain runs with nothing downloaded.

This is the lowest layer: it imports nothing from the rest of the package, and only the standard library.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def bundled_rows_path() -> Path:
    """Return the path of the bundled rows, one JSON object a line in the hosted format."""
    return Path(str(files(__name__) / "bundled_rows.jsonl"))
