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
    """F1 of the official model against itself, over several official runs.

    Attributes:
        lowest: Of the pair of runs that agree least.
        error: The mean's standard error over cases; None if it is not known.
    """

    lowest: float
    mean: float
    error: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Give the form that files hold."""
        known = {} if self.error is None else {"standard_error": self.error}
        return {"lowest": self.lowest, "mean": self.mean, **known}

    @classmethod
    def from_json(cls, value: Any) -> SelfAgreement | None:
        """Read the stored form back; None for None.

        Raises:
            KeyError, TypeError, ValueError: If it is neither.
        """
        if value is None:
            return None
        lowest, mean, error = number(value["lowest"]), number(value["mean"]), value.get("standard_error")
        if not (0 <= lowest <= 1 and 0 < mean <= 1):
            raise ValueError(f"lowest {lowest} and mean {mean} are no shares")
        return cls(lowest, mean, None if error is None else number(error))


@dataclass(frozen=True, slots=True)
class Standard:
    """What the numbers of a subset are held against.

    Attributes:
        threshold: Acceptance threshold of `trigger_similarity`, or None.
        source: Where the two come from, one line.
    """

    threshold: float | None
    self_agreement: SelfAgreement | None
    source: str

    def as_json(self) -> dict[str, Any]:
        """Give the form that files hold."""
        return {
            "threshold": self.threshold,
            "self_agreement": self.self_agreement and self.self_agreement.as_json(),
            "source": self.source,
        }

    @classmethod
    def from_json(cls, value: Any) -> Standard | None:
        """Read the stored form back; None for None.

        Raises:
            KeyError, TypeError, ValueError: If it is neither.
        """
        if value is None:
            return None
        threshold = None if value["threshold"] is None else number(value["threshold"])
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"threshold {threshold} is no share")
        return cls(
            threshold=threshold,
            self_agreement=SelfAgreement.from_json(value["self_agreement"]),
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
    """

    parameters: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({"stream": True}))
    timeout_s: float = 3600.0
    standard: Standard | None = None


_PUBLISHED = "upstream's published results"
_PUBLISHED_ERROR = 0.008
"""Upstream states no error. F1 of two runs over its 4,000 requests varies by 0.0075 (0.76) and 0.0078 (0.84);
a mean over more than one pair by less, but it is stated to two digits (0.003)."""

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "k2_thinking": Preset(
            parameters=MappingProxyType({"stream": True, "temperature": 1.0, "max_tokens": 64000}),
            timeout_s=3600.0,
            standard=Standard(
                0.73, SelfAgreement(lowest=0.7581, mean=0.76, error=_PUBLISHED_ERROR), _PUBLISHED
            ),
        ),
        "k2_0905": Preset(
            parameters=MappingProxyType({"stream": True, "temperature": 0.6, "max_tokens": 16000}),
            timeout_s=1200.0,
            standard=Standard(
                0.80, SelfAgreement(lowest=0.8271, mean=0.84, error=_PUBLISHED_ERROR), _PUBLISHED
            ),
        ),
    }
)


def preset_for(subset: str) -> Preset:
    """Give the preset of a subset; a subset of any other name streams and has no threshold."""
    return PRESETS.get(subset, Preset())
