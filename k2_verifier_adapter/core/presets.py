"""What is known of the subsets: request parameters, thresholds, official self-agreement.

Sources: the published result tables of the K2 Vendor Verifier (temperature, max_tokens, acceptance
threshold, lowest and mean F1 of the official model against itself).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from k2_verifier_adapter.core.json_text import number, text


@dataclass(frozen=True, slots=True)
class SelfAgreement:
    """F1 of the official model against itself, over several official runs."""

    lowest: float
    mean: float


@dataclass(frozen=True, slots=True)
class Standard:
    """What the numbers of a subset are held against.

    Attributes:
        threshold: Acceptance threshold of `trigger_similarity`, or None.
        self_agreement: The official model against itself, or None if unknown.
        source: Where the two come from, one line.
    """

    threshold: float | None
    self_agreement: SelfAgreement | None
    source: str

    def as_json(self) -> dict[str, Any]:
        """Give the form that files hold."""
        agreement = self.self_agreement
        return {
            "threshold": self.threshold,
            "self_agreement": agreement and {"lowest": agreement.lowest, "mean": agreement.mean},
            "source": self.source,
        }

    @classmethod
    def from_json(cls, value: Any) -> Standard | None:
        """Read the form that files hold back; None for None.

        Raises:
            KeyError, TypeError: If it is neither.
        """
        if value is None:
            return None
        threshold, agreement = value["threshold"], value["self_agreement"]
        if agreement is not None:
            agreement = SelfAgreement(number(agreement["lowest"]), number(agreement["mean"]))
        return cls(
            threshold=None if threshold is None else number(threshold),
            self_agreement=agreement,
            source=text(value["source"]),
        )


@dataclass(frozen=True, slots=True)
class Preset:
    """The defaults of one subset.

    Attributes:
        parameters: Request body parameters, lowest in precedence.
        timeout_s: Seconds that one attempt may go without progress; long enough for
            `max_tokens` tokens at about 15 to 20 tokens a second from a server that sends
            everything at the end.
        standard: What its numbers are held against, or None where upstream states nothing.
    """

    parameters: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({"stream": True}))
    timeout_s: float = 3600.0
    standard: Standard | None = None


_PUBLISHED = "upstream's published results"

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "k2_thinking": Preset(
            parameters=MappingProxyType({"stream": True, "temperature": 1.0, "max_tokens": 64000}),
            timeout_s=3600.0,
            standard=Standard(0.73, SelfAgreement(lowest=0.7581, mean=0.76), _PUBLISHED),
        ),
        "k2_0905": Preset(
            parameters=MappingProxyType({"stream": True, "temperature": 0.6, "max_tokens": 16000}),
            timeout_s=1200.0,
            standard=Standard(0.80, SelfAgreement(lowest=0.8271, mean=0.84), _PUBLISHED),
        ),
    }
)


def preset_for(subset: str) -> Preset:
    """Give the preset of a subset; a subset of any other name streams and has no threshold."""
    return PRESETS.get(subset, Preset())
