"""What to do about a finding, by engine and model, with its source: read from `data/advice.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from k2_verifier_adapter.core.model_profiles import DEFAULT, ModelProfile
from k2_verifier_adapter.data import read_data


@dataclass(frozen=True, slots=True)
class Advice:
    """The name of an advice in the data file."""

    name: str


@cache
def advice_file() -> dict[str, list[dict[str, Any]]]:
    """Read the lines of advice by name, each with its `text`, `source` and `date`.

    A line with `models` is for these profiles only.
    """
    listed: dict[str, list[dict[str, Any]]] = json.loads(read_data("advice.json"))["advice"]
    return listed


def resolved(checks: Iterable[str | Advice], profile: ModelProfile | None) -> tuple[str, ...]:
    """Write out what is advised for a model: each line with its source and its date."""
    model = DEFAULT if profile is None else profile.name
    lines: dict[str, None] = {}
    for check in checks:
        if isinstance(check, str):
            lines[check] = None
            continue
        for line in advice_file()[check.name]:
            if model in line.get("models", [model]):
                lines[f"{line['text']} ({line['source']}, {line['date']})."] = None
    return tuple(lines)
