"""What a verdict will probably cost: requests, tokens and money, for a faithful vendor and for a bad one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.forecast import Assumed, cost
from k2_verifier_adapter.core.observed import NO_PRICES, Prices
from k2_verifier_adapter.core.presets import Standard
from k2_verifier_adapter.core.statistics.sequential import FIXED, Design, plan
from k2_verifier_adapter.core.verdict import Requirements
from k2_verifier_adapter.evalscope_plugin.planning import Cost, rough

BAD = 0.60
"""F1 of the bad vendor."""

_MILLION = 1_000_000


def verdict_costs(
    cases: Sequence[Case],
    standard: Standard | None,
    requirements: Requirements,
    requests: Cost,
    *,
    repeats: int,
    prices: Prices,
) -> Iterator[str]:
    """Say what a strict verdict will probably cost, asked to the end and stopped when it is decided.

    Args:
        cases: The cases, all of which may be asked.
        standard: What they are held against, or None.
        requirements: What the verdict asks for.
        requests: What the requests come to.
        repeats: Requests for each case.
        prices: What tokens cost.
    """
    agreement = None if standard is None else standard.self_agreement
    base = sum(case.official.should_call for case in cases) / len(cases)
    if standard is None or agreement is None or any(case.synthetic for case in cases) or not 0 < base < 1:
        return
    if requirements.similarity is None:
        requirements = replace(requirements, similarity=standard.threshold)
    runs = max((case.official.runs or (0, 1))[1] for case in cases)
    vendors = (f"faithful, F1 {agreement.mean:.2f}", agreement.mean), (f"F1 {BAD:.2f}", BAD)
    designs = ("all rows", Design((len(cases),), (FIXED,))), ("--stop-when-decided", plan(len(cases)))
    for vendor, similarity in vendors:
        for name, design in designs:
            found = cost(
                Assumed(similarity),
                requirements,
                design,
                base=base,
                agreement=agreement.mean,
                runs=runs,
            )
            needed = _tokens_and_money(found.cases * repeats, requests, prices)
            yield f"{vendor}, {name}: {needed}; pass {found.passing:.0%}, fail {found.failing:.0%}"


def _tokens_and_money(number: float, requests: Cost, prices: Prices) -> str:
    prompt = number * requests.of_prompt
    said = f"{number:,.0f} requests, about {rough(prompt)} prompt"
    money = 0.0 if prices.prompt is None else prompt * prices.prompt / _MILLION
    if requests.of_answer is not None:
        completion = number * requests.of_answer
        said += f" and {rough(completion)} completion tokens"
        money += 0.0 if prices.completion is None else completion * prices.completion / _MILLION
    else:
        said += " tokens"
    if prices != NO_PRICES:
        said += f", price {money:,.2f}"
    if requests.of_answer is None and prices.completion is not None:
        each = number * prices.completion / 1_000
        said += f" + {each:,.2f} for every 1,000 completion tokens of an answer"
    return said
