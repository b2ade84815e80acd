"""What a client makes of an answer that the simulated vendor plans."""

import json

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.responses import read_completion
from k2_verifier_adapter.core.streams.assembler import ChunkAssembler
from k2_verifier_adapter.simulator.completions import chunks_of


def answered(plan, number):
    """Give the response that a client makes of a plan, and what it noticed in the stream."""
    if plan.fault is None or plan.fault.rewrite is None:
        ignored = plan.fault is not None and plan.fault.as_body
        return read_completion(plan.completion), (FailureClass.STREAM_IGNORED,) if ignored else ()
    assembler = ChunkAssembler()
    for chunk in plan.fault.rewrite(chunks_of(plan.completion, number, include_usage=False)):
        assembler.add(json.dumps(chunk).encode())
    return assembler.result(), tuple(assembler.anomalies)
