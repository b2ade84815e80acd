"""The generator of rows, which stands in `tools`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from synthetic.rows import generate_rows

__all__ = ["generate_rows"]
