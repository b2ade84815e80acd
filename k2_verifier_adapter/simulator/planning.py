"""What a simulated vendor answers: the official completion, or what a drawn fault makes of it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.simulator.answers import Completion, official_completion, with_usage
from k2_verifier_adapter.simulator.faults import Fault, PayloadFault, StreamFault, TransportFault
from k2_verifier_adapter.simulator.faults.base import calls_of, finish_of
from k2_verifier_adapter.simulator.matching import Slot
from k2_verifier_adapter.simulator.profiles import Lottery, Profile
from k2_verifier_adapter.simulator.reference import tool_calls_valid
from k2_verifier_adapter.simulator.shapes import WireShape
from k2_verifier_adapter.simulator.truth import Answer, Validity


@dataclass(frozen=True, slots=True)
class Plan:
    """One answer.

    Attributes:
        completion: The completion to send; under a transport fault, the one that does not arrive.
        fault: What is wrong, or None.
        seen: The completion that upstream's reassembly makes of what is sent.
        shapes: How it is written.
    """

    completion: Completion
    fault: Fault | None
    seen: Completion
    shapes: tuple[WireShape, ...] = ()

    @property
    def completes(self) -> bool:
        """Whether a completion is sent to its end."""
        return not isinstance(self.fault, TransportFault)


class Planner:
    """Plans the answer to every request, the same one for the same rows, profile and seed.

    Attributes:
        official: The official completion of every row.
    """

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any]],
        cases: list[Case],
        profile: Profile,
        *,
        seed: int,
        model: str,
    ) -> None:
        self._cases = cases
        self._lottery = Lottery(profile, seed)
        self.official = [official_completion(row, case, model) for row, case in zip(rows, cases, strict=True)]
        self._official_validity = functools.cache(self._validity_of_official)

    def plan(self, slot: Slot, *, stream: bool) -> Plan:
        """Plan the answer to one attempt."""
        case, official = self._cases[slot.case_index], self.official[slot.case_index]
        has_calls = bool(official["choices"][0]["message"].get("tool_calls"))
        draw = self._lottery.draw(slot.case_index, slot.occurrence, has_calls=has_calls, stream=stream)
        shapes = self._lottery.draw_shapes(slot.case_index, slot.occurrence, stream=stream)
        if draw is None:
            return Plan(official, None, official, shapes)
        for fault in draw.faults_at(slot.attempt):
            if isinstance(fault, TransportFault):
                return Plan(official, fault, official, shapes)
            damage = fault.damage if isinstance(fault, PayloadFault) else fault.prepare
            damaged = damage(official, case, draw.rng)
            if damaged is not None:
                sent = with_usage(damaged)
                seen = fault.seen(sent) if isinstance(fault, StreamFault) else sent
                return Plan(sent, fault, seen, shapes)
        return Plan(official, None, official, shapes)

    def entry(self, slot: Slot, plan: Plan) -> Answer:
        """Write the ledger's entry of a planned answer, its validity left open."""
        return Answer(
            case_index=slot.case_index,
            occurrence=slot.occurrence,
            attempt=slot.attempt,
            status=plan.fault.status if isinstance(plan.fault, TransportFault) else 200,
            failure_class=plan.fault.failure_class if plan.fault else None,
            fault=plan.fault.name if plan.fault else None,
            completed=plan.completes,
            finish_reason=finish_of(plan.completion) if plan.completes else None,
            official_call=self._cases[slot.case_index].official.should_call,
            tool_calls_valid=None,
        )

    def validity(self, slot: Slot, plan: Plan) -> Validity:
        """Give the computation of upstream's `tool_calls_valid` for a planned answer."""
        if plan.fault is None:
            return functools.partial(self._official_validity, slot.case_index)
        if not plan.completes:
            return lambda: None
        return functools.cache(lambda: _validity_of(plan.seen, self._cases[slot.case_index]))

    def _validity_of_official(self, case_index: int) -> bool | None:
        return _validity_of(self.official[case_index], self._cases[case_index])


def _validity_of(completion: Completion, case: Case) -> bool | None:
    return tool_calls_valid(finish_of(completion), calls_of(completion), case.tools())
