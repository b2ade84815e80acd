"""How often the findings of a run are right: mixtures of simulated faults against what is made of them.

Each mixture has two to four fault classes, each on 5 to 25 % of the requests that it can fall on, over the
bundled rows, half of the mixtures streamed. A finding is right where a class that it counts was injected.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from importlib import resources
from random import Random
from typing import Any

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.diagnosis.findings import Finding, diagnose
from k2_verifier_adapter.core.diagnosis.measures import Context
from k2_verifier_adapter.core.diagnosis.rules import RULES
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.judging.judge import judge
from k2_verifier_adapter.core.responses import Response, read_completion
from k2_verifier_adapter.core.streams.assembler import ChunkAssembler
from k2_verifier_adapter.core.tally import Tally
from k2_verifier_adapter.simulator import profile_with
from k2_verifier_adapter.simulator.completions import chunks_of
from k2_verifier_adapter.simulator.faults import FAULTS, TransportFault
from k2_verifier_adapter.simulator.planning import Plan, Planner, Slot

LOOKED_AT = 3
"""Findings of which none should be about what was not injected."""


def bundled() -> tuple[list[dict[str, Any]], list[Any]]:
    """Read the bundled rows, and decode them."""
    text = resources.files("k2_verifier_adapter.data").joinpath("bundled_rows.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    return rows, [decode_row(row, index, HistoryOptions()) for index, row in enumerate(rows)]


def answered(plan: Plan) -> tuple[Any, tuple[FailureClass, ...]]:
    """Give what a client makes of a planned answer."""
    if plan.fault is None or isinstance(plan.fault, TransportFault) or plan.fault.rewrite is None:
        ignored = plan.fault is not None and getattr(plan.fault, "as_body", False)
        return read_completion(plan.completion), (FailureClass.STREAM_IGNORED,) if ignored else ()
    assembler = ChunkAssembler()
    for chunk in plan.fault.rewrite(chunks_of(plan.completion, None, include_usage=True)):
        assembler.add(json.dumps(chunk).encode())
    return assembler.result(), tuple(assembler.anomalies)


def findings_of(
    rows: list[dict[str, Any]], cases: list[Any], faults: dict[str, float], *, stream: bool, seed: int
) -> tuple[tuple[Finding, ...], set[FailureClass]]:
    """Judge a vendor with these faults; give the findings, and the classes that fell on any request."""
    planner = Planner(rows, cases, profile_with(faults), seed=seed, model="m")
    tally, injected = Tally(), set()
    for number, case in enumerate(cases):
        plan = planner.plan(Slot(b"", 0, number, 0, 1), stream=stream)
        if plan.fault is not None:
            injected.add(plan.fault.failure_class)
        if isinstance(plan.fault, TransportFault):
            failure = Failure(plan.fault.failure_class, "simulated")
            tally.add_failed(FailedRequest(number, failure, plan.fault.status))
            continue
        response, anomalies = answered(plan)
        assert isinstance(response, Response)
        tally.add(number, judge(case, response, anomalies, token_limit=16_000))
    tally.close()
    return diagnose(tally, Context(), RULES), injected


def main() -> None:
    """Measure, and print the two rates and what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mixtures", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = Random(options.seed)
    rows, cases = bundled()
    with_first = first_right = looked_at = wrong = 0
    wrong_rules: Counter[str] = Counter()
    for number in range(options.mixtures):
        kinds = rng.sample(list(FAULTS), rng.randint(2, 4))
        faults = {kind.value: round(rng.uniform(0.05, 0.25), 3) for kind in kinds}
        findings, injected = findings_of(rows, cases, faults, stream=number % 2 == 0, seed=number)
        right = [not injected.isdisjoint(finding.classes) for finding in findings]
        if right:
            with_first += 1
            first_right += right[0]
        looked_at += len(right[:LOOKED_AT])
        wrong += right[:LOOKED_AT].count(False)
        wrong_rules.update(
            f"{finding.rule} of {', '.join(sorted(faults))}"
            for finding, is_right in zip(findings[:LOOKED_AT], right, strict=False)
            if not is_right
        )
    print(f"{options.mixtures} mixtures, {with_first} with a finding")
    print(f"first finding injected      {first_right} of {with_first} ({first_right / with_first:.1%})")
    print(f"not injected, in first {LOOKED_AT}    {wrong} of {looked_at} ({wrong / looked_at:.1%})")
    for line, count in wrong_rules.most_common(20):
        print(f"  {count} x {line}")


if __name__ == "__main__":
    main()
