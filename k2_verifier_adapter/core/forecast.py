"""What the rows that are left would do to a verdict, and what a verdict will probably cost.

The estimate of a check moves as more cases come in. What it will be is uncertain twice: by the chance of
the coming cases, and because what is estimated is not known any better than by the cases so far (a flat
prior). Both are drawn, on the scale on which the check's interval is symmetric, and every look of the design
is held against its boundaries. The draws are seeded: the same numbers give the same forecast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log, log1p, sqrt

from k2_verifier_adapter.core.self_agreement import spread_of_faithful
from k2_verifier_adapter.core.statistics.intervals import F1_LOGIT, LOG_RATIO, SKEWNESS_CORRECTED
from k2_verifier_adapter.core.statistics.sequential import FIXED, Design
from k2_verifier_adapter.core.verdict import Check, Requirements

PATHS = 4_000


@dataclass(frozen=True, slots=True)
class Forecast:
    """What will probably come out.

    Attributes:
        cases: Cases after which it is settled, on average; the maximum where it is not.
    """

    passing: float
    failing: float
    cases: float
    maximum: int

    @property
    def settled(self) -> float:
        """Probability that it is settled at all."""
        return self.passing + self.failing

    def __str__(self) -> str:
        """Say it in a sentence."""
        either = f"pass {self.passing:.0%}, fail {self.failing:.0%}"
        return f"all {self.maximum:,} rows would settle it with {self.settled:.0%} ({either})"


@dataclass(frozen=True, slots=True)
class Outlook:
    """One check, on the scale on which its estimate moves as a random walk does.

    Attributes:
        value: The estimate.
        noise: Standard deviation of one case's part in it.
        ruler: The same, as the check's interval takes it; Wilson's takes that at the limit.
        least: Where it has to lie above.
        most: Where it has to lie below.
    """

    value: float
    noise: float
    ruler: float
    least: float
    most: float = inf


def outlook(check: Check, cases: int) -> Outlook | None:
    """Put a check that rests on so many cases on its scale; None if it is undefined."""
    if check.value is None or check.interval is None:
        return None
    interval, least = check.interval, check.threshold
    if interval.method in {LOG_RATIO, SKEWNESS_CORRECTED}:
        noise = interval.spread * sqrt(cases)
        if interval.method == SKEWNESS_CORRECTED:
            return Outlook(interval.centre, noise, noise, least)
        most = inf if check.most is None else log1p(check.most)
        return Outlook(interval.centre, noise, noise, log1p(least), most)
    n = interval.n
    if interval.method.startswith(F1_LOGIT):
        # Where all answers agree, or none does, half an answer is taken for one that does otherwise.
        hits = min(max(n * check.value / (2 - check.value), 0.5), n - 0.5) if n > 1 else n / 2
        noise = sqrt(cases * (1 / hits + 1 / (n - hits)))
        return Outlook(log(2 * hits / (n - hits)), noise, noise, _logit(least))
    rate = (check.value * n + 0.5) / (n + 1)
    each = sqrt(cases / n)
    return Outlook(rate, each * sqrt(rate * (1 - rate)), each * sqrt(least * (1 - least)), least)


def forecast(outlooks: Sequence[Outlook], done: int, design: Design) -> Forecast:
    """Forecast checks that all have to pass, and of which none may fail.

    Cases `done` may be 0 if the values are taken for the truth; the looks at as many or fewer have been.
    """
    import numpy as np

    looks = [
        (cases, level)
        for cases, level in zip(design.looks, design.levels, strict=True)
        if cases > done or cases == design.maximum
    ]
    cases = np.array([cases for cases, _ in looks], dtype=float)
    passing = np.array([level.passing for _, level in looks])
    failing = np.array([level.failing for _, level in looks])
    steps = np.sqrt(np.maximum(np.diff(cases, prepend=done), 0.0))
    rng = np.random.default_rng(0)
    shape = PATHS, len(looks)
    passed, failed = np.ones(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for item in outlooks:
        unknown = rng.standard_normal((PATHS, 1)) / sqrt(done) if done else 0.0
        walk = np.cumsum(steps * rng.standard_normal(shape), axis=1)
        estimate = item.value + item.noise * ((cases - done) * unknown + walk) / cases
        error = item.ruler / np.sqrt(cases)
        passed &= (estimate - passing * error >= item.least) & (estimate + passing * error <= item.most)
        failed |= (estimate + failing * error < item.least) | (estimate - failing * error > item.most)
    settled = passed | failed
    first = np.where(settled.any(axis=1), settled.argmax(axis=1), len(looks) - 1)
    every = np.arange(PATHS)
    fails = failed[every, first]
    return Forecast(
        passing=float((passed[every, first] & ~fails).mean()),
        failing=float(fails.mean()),
        cases=float(cases[first].mean()),
        maximum=design.maximum,
    )


def of_rows(checks: Sequence[Check], done: int, rows: int) -> Forecast | None:
    """Forecast what all rows would settle, looked at once, at the end; None where a check is undefined.

    The arguments are those of `of_checks`, but for the number of all rows.
    """
    return of_checks(checks, done, Design((max(rows, done),), (FIXED,)))


def of_checks(checks: Sequence[Check], done: int, design: Design) -> Forecast | None:
    """Forecast what the looks that are left would settle; None where a check is undefined.

    Args:
        checks: The checks, one alone or all that are applied.
        done: Cases so far.
        design: The looks.
    """
    found = [outlook(check, done) for check in checks]
    known = [item for item in found if item is not None]
    if not known or len(known) < len(found):
        return None
    return forecast(known, done, design)


@dataclass(frozen=True, slots=True)
class Assumed:
    """A vendor that is assumed, by its F1 and its share of valid calls."""

    similarity: float
    accuracy: float = 0.99


def cost(
    vendor: Assumed,
    requirements: Requirements,
    design: Design,
    *,
    base: float,
    agreement: float,
    runs: int = 1,
) -> Forecast:
    """Forecast the verdict on a vendor that calls as often as the official API.

    `base` is the share of the official answers that call, `agreement` the F1 of the official model against
    itself over so many runs.
    """
    errors, hits = 2 * base * (1 - vendor.similarity), base * vendor.similarity
    found = []
    if runs > 1:
        noise = spread_of_faithful(base, agreement, runs)
        found.append(Outlook(vendor.similarity - agreement, noise, noise, -requirements.margin))
    elif requirements.similarity is not None:
        noise = sqrt(1 / hits + 1 / errors)
        found.append(Outlook(_logit(vendor.similarity), noise, noise, _logit(requirements.similarity)))
    if requirements.surplus is not None:
        # Of the variance of a case's difference, half is the vendor's and half that of one official run.
        noise = sqrt(errors * (1 + 1 / runs) / 2) / base
        least, most = log1p(-requirements.surplus), log1p(requirements.surplus)
        found.append(Outlook(0.0, noise, noise, least, most))
    if requirements.accuracy is not None:
        least, rate = requirements.accuracy, vendor.accuracy
        noise, ruler = (sqrt(share * (1 - share) / base) for share in (rate, least))
        found.append(Outlook(rate, noise, ruler, least))
    return forecast(found, 0, design)


def _logit(share: float) -> float:
    if share in (0.0, 1.0):
        return inf if share else -inf
    return log(share / (1 - share))
