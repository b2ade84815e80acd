"""The numbers that the rules of the diagnosis compare and quote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from k2_verifier_adapter.core.failure_classes import FailureClass as C
from k2_verifier_adapter.core.model_profiles import ModelProfile
from k2_verifier_adapter.core.statistics.ratios import ratio_interval
from k2_verifier_adapter.core.tally import AS_WRITTEN, Tally, Trait


class Measure(str, Enum):
    """One number; the value is the name by which evidence quotes it.

    Shares are written as percentages, all others as whole numbers.
    """

    PARSED_SHARE = "parsed_share"
    VALID_IN_CONTENT = "valid_in_content"
    VALID_IN_REASONING = "valid_in_reasoning"
    MISSED_OF_DIFFERING = "missed_of_differing"
    MISSED_BEYOND_NOISE = "missed_beyond_noise"
    EXTRA_BEYOND_NOISE = "extra_beyond_noise"
    DIFFERING_BEYOND_NOISE = "differing_beyond_noise"
    SHORTFALL = "shortfall"
    VALID_SHARE = "valid_share"
    OF_FAILURES_CUT = "of_failures_cut"
    IN_HISTORY = "in_history"
    REPAIRABLE = "repairable"
    UNDER_NULL = "under_null"
    OTHERS_SERVED = "others_served"
    RETRIED = "retried"
    FAILURES = "failures"
    MISSED = "missed"
    EXTRA = "extra"
    DIFFERING = "differing"


_NUMBERS = frozenset(
    {
        Measure.OTHERS_SERVED,
        Measure.RETRIED,
        Measure.FAILURES,
        Measure.MISSED,
        Measure.EXTRA,
        Measure.DIFFERING,
    }
)

_TELLING_NOTHING = 0.5
"""Share of sound answers with unseen tokens from which on such tokens tell nothing of a dropped call."""


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of a run beside its tally.

    Attributes:
        retried: Requests that took more than one attempt until an answer came.
        self_agreement: Mean F1 of the official model against itself, or None if it is not known or
            does not apply. What differs as much as that is noise.
        profile: The model's.
    """

    models: Mapping[str, int] = field(default_factory=dict)
    providers: Mapping[str, int] = field(default_factory=dict)
    retried: int = 0
    self_agreement: float | None = None
    profile: ModelProfile | None = None

    @property
    def ceiling(self) -> float:
        """The trigger_similarity of a vendor at which nothing is broken."""
        return 1.0 if self.self_agreement is None else self.self_agreement


class Measures:
    """The measures of one run."""

    def __init__(self, tally: Tally, context: Context) -> None:
        self._tally = tally
        self._values = _values(tally, context)
        agreement = context.self_agreement
        self._noise = (
            "how often the official model differs from itself is not known"
            if agreement is None
            else f"against itself, the official model reaches {100 * agreement:.0f} %"
        )

    def value(self, measure: Measure) -> float | None:
        """Give a measure; None if it is undefined."""
        return self._values[measure]

    def words(self) -> dict[str, str]:
        """Give all measures as evidence quotes them."""
        words = {measure.value: _word(measure, value) for measure, value in self._values.items()}
        words["noise"] = self._noise
        return words

    @property
    def tokens_tell_nothing(self) -> bool:
        """Whether sound answers as well have more tokens than can be seen, as where reasoning is hidden."""
        return self._tally.sound_unseen > _TELLING_NOTHING * self._tally.sound

    def tools_showing(self, kinds: Iterable[C]) -> str:
        """Say how many tools show any of these classes."""
        number = self._tally.tools.showing(kinds)
        return "1 tool" if number == 1 else f"{number:,} tools"


def _word(measure: Measure, value: float | None) -> str:
    if value is None:
        return "an unknown share"
    return f"{value:,.0f}" if measure in _NUMBERS else f"{100 * value:.0f} %"


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _beyond(share: float | None, noise: float) -> float | None:
    return None if share is None else share - noise


def _values(tally: Tally, context: Context) -> dict[Measure, float | None]:
    counts, primary, traits = tally.counts, tally.primary_counts, tally.traits
    shown = tally.failure_counts
    missed, extra = primary[C.MISSED_CALL], primary[C.EXTRA_CALL]
    leaked = primary[C.MARKUP_IN_CONTENT]
    noise, differing_noise = _noise(context.self_agreement)
    others = max(_not_the_first(context.models), _not_the_first(context.providers))
    failures = sum(primary.values())
    return {
        Measure.PARSED_SHARE: _share(counts.tool_calls, counts.tool_calls + leaked),
        Measure.VALID_IN_CONTENT: _share(traits[Trait.VALID_CALL_IN_CONTENT], shown[C.MARKUP_IN_CONTENT]),
        Measure.VALID_IN_REASONING: _share(
            traits[Trait.VALID_CALL_IN_REASONING], shown[C.MARKUP_IN_REASONING]
        ),
        Measure.MISSED_OF_DIFFERING: _share(missed, missed + extra),
        Measure.MISSED_BEYOND_NOISE: _beyond(_share(missed, counts.tp + counts.fn), noise),
        Measure.EXTRA_BEYOND_NOISE: _beyond(_share(extra, counts.tp + counts.fp), noise),
        Measure.DIFFERING_BEYOND_NOISE: _beyond(
            _share(missed + extra, counts.tp + counts.fp + counts.fn), differing_noise
        ),
        Measure.SHORTFALL: _shortfall(tally, context.ceiling),
        Measure.VALID_SHARE: _share(counts.successful, counts.tool_calls),
        Measure.OF_FAILURES_CUT: _share(primary[C.TRUNCATED_BY_LENGTH], failures),
        Measure.IN_HISTORY: _share(traits[Trait.UNDECLARED_BUT_IN_HISTORY], shown[C.UNDECLARED_TOOL]),
        Measure.REPAIRABLE: _share(
            traits[Trait.REPAIRABLE_JSON],
            sum(shown[kind] for kind in AS_WRITTEN),
        ),
        Measure.UNDER_NULL: _share(traits[Trait.CALLS_UNDER_NULL], shown[C.CALLS_WITHOUT_FINISH_TOOL_CALLS]),
        Measure.OTHERS_SERVED: others,
        Measure.RETRIED: context.retried,
        Measure.FAILURES: failures,
        Measure.MISSED: missed,
        Measure.EXTRA: extra,
        Measure.DIFFERING: missed + extra,
    }


def _shortfall(tally: Tally, ceiling: float) -> float | None:
    """Give how far the interval of trigger_similarity lies below the ceiling; below 0 it reaches it."""
    counts = tally.counts
    if not counts.tp + counts.fp + counts.fn:
        return None
    f1 = 2 * counts.tp / (2 * counts.tp + counts.fp + counts.fn)
    return ceiling - ratio_interval("trigger_similarity", f1, counts, tally.repeated).high


def _noise(self_agreement: float | None) -> tuple[float, float]:
    """Tell how much the official model differs from itself.

    Its F1 of m against itself means that, misses and extra calls being as many, 1 - m of its calls are
    missed, and that 1 - m / (2 - m) of all cases where either run calls are decided differently.
    """
    if self_agreement is None:
        return 0.0, 0.0
    return 1 - self_agreement, 1 - self_agreement / (2 - self_agreement)


def _not_the_first(served: Mapping[str, int]) -> int:
    return sum(served.values()) - max(served.values(), default=0)
