"""Faults as data: what a simulated vendor can do wrong, under the names of the failure classes."""

from __future__ import annotations

from k2_verifier_adapter.simulator.faults.base import (
    Fault,
    Needs,
    PayloadFault,
    StreamFault,
    TransportFault,
)
from k2_verifier_adapter.simulator.faults.registry import (
    FAULTS,
    NOT_SIMULATED,
    Selection,
    Step,
    fault_names,
    select,
    suggestion,
)

__all__ = [
    "FAULTS",
    "NOT_SIMULATED",
    "Fault",
    "Needs",
    "PayloadFault",
    "Selection",
    "Step",
    "StreamFault",
    "TransportFault",
    "fault_names",
    "select",
    "suggestion",
]
