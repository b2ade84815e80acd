"""How runs were made differently, which a difference between their numbers may be due to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from k2_verifier_adapter.core.summary import Summary

_UNSET = None


@dataclass(frozen=True, slots=True)
class SetupDifference:
    """One thing in which runs were made differently.

    Attributes:
        name: What it is; a request parameter by its own name behind `parameters.`.
        values: The value of each run, as JSON can hold it; None where it is not set or not known.
    """

    name: str
    values: tuple[Any, ...]


def setup_differences(summaries: Sequence[Summary]) -> list[SetupDifference]:
    """List everything in which runs were made differently, in a fixed order."""
    setups = [_setup(summary) for summary in summaries]
    names = {name: None for setup in setups for name in setup}
    found = []
    for name in names:
        values = tuple(setup.get(name, _UNSET) for setup in setups)
        if any(value != values[0] for value in values):
            found.append(SetupDifference(name, values))
    return found


def _setup(summary: Summary) -> Mapping[str, Any]:
    facts = summary.facts
    setup: dict[str, Any] = {
        "model": facts.model,
        "subset": facts.subset or None,
        "endpoint": facts.endpoint_host,
        "served_models": sorted(summary.observed.models),
        "rows_sha256": facts.rows.sha256,
        "repeats": facts.repeats,
        "adapter": facts.adapter,
        "evalscope": facts.evalscope or None,
    }
    # The model stands above.
    parameters = {name: value for name, value in facts.parameters.items() if name != "model"}
    setup.update((f"parameters.{name}", value) for name, value in sorted(parameters.items()))
    return setup
