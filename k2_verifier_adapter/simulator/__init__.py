"""A simulated vendor on loopback: replays the official answers of rows, with faults by profile."""

from __future__ import annotations

from k2_verifier_adapter.simulator.faults import fault_names
from k2_verifier_adapter.simulator.profiles import PROFILES, Profile, profile_named, profile_with
from k2_verifier_adapter.simulator.server import Endpoint, FaithfulVendor, SimulatedVendor, serve_forever
from k2_verifier_adapter.simulator.wire import shape_names

__all__ = [
    "PROFILES",
    "Endpoint",
    "FaithfulVendor",
    "Profile",
    "SimulatedVendor",
    "fault_names",
    "profile_named",
    "profile_with",
    "serve_forever",
    "shape_names",
]
