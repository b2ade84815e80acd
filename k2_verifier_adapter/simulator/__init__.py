"""A simulated vendor on loopback: replays the official answers of rows, with faults by profile."""

from __future__ import annotations

from k2_verifier_adapter.simulator.faults import fault_names
from k2_verifier_adapter.simulator.profiles import Profile, profile_with
from k2_verifier_adapter.simulator.server import RecordedRequest, SimulatedVendor, serve_forever
from k2_verifier_adapter.simulator.serving import Endpoint
from k2_verifier_adapter.simulator.shapes import shape_names
from k2_verifier_adapter.simulator.shipped import PROFILES, profile_named
from k2_verifier_adapter.simulator.truth import Answer, Totals, Truth, totals_of

__all__ = [
    "PROFILES",
    "Answer",
    "Endpoint",
    "Profile",
    "RecordedRequest",
    "SimulatedVendor",
    "Totals",
    "Truth",
    "fault_names",
    "profile_named",
    "profile_with",
    "serve_forever",
    "shape_names",
    "totals_of",
]
