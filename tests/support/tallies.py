"""Tallies of judgements and failed requests."""

from typing import Any

from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.tally import Tally


def tally_of(*parts: list[Any]) -> Tally:
    """Count all entries of all parts one by one."""
    tally = Tally()
    for entry in (item for part in parts for item in part):
        if isinstance(entry, FailedRequest):
            tally.add_failed(entry)
        else:
            tally.add(*entry)
    return tally


def merged(*tallies: Tally) -> Tally:
    """Merge into a new tally."""
    result = Tally()
    for tally in tallies:
        result.merge(tally)
    return result
