"""A seeded generator of rows that look like the hosted dataset, and are marked as synthetic."""

from __future__ import annotations

from k2_verifier_adapter.data.synthetic.rows import generate_rows

__all__ = ["generate_rows"]
