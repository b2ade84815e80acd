"""How a simulated vendor behaves: faults and wire shapes with their rates, as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.simulator.faults import Selection, select, suggestion
from k2_verifier_adapter.simulator.wire import SHAPES, WireShape


@dataclass(frozen=True)
class Profile:
    """The behaviour of a simulated vendor.

    A request has at most one fault, or one sequence of faults, and any number of wire shapes. A rate
    is the share of the requests to which the fault or shape can apply; the rates of all faults that
    can meet in one request add up to 1 at most.

    Attributes:
        rates: Rate by the name of a fault, as `faults.select` takes it, or of a wire shape.

    Raises:
        UsageError: If a name is unknown, or a rate is no share.
    """

    name: str
    description: str
    rates: Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", MappingProxyType(dict(self.rates)))
        for name, rate in self.rates.items():
            kind = "wire shape" if name in SHAPES else "fault"
            if kind == "fault":
                select(name)
            if not 0 <= rate <= 1:
                raise UsageError(f"rate {rate!r} of {kind} {name!r} is not between 0 and 1")
        for has_calls, stream in product((True, False), repeat=2):
            total = sum(rate for _, rate in self.eligible(has_calls=has_calls, stream=stream))
            if total > 1 + 1e-9:
                raise UsageError(
                    f"rates of profile {self.name!r} add up to {total:g} for one request, expected at most 1"
                )

    def eligible(self, *, has_calls: bool, stream: bool) -> Iterator[tuple[Selection, float]]:
        """Yield the faults that can apply to such a request, variants that cannot left out."""
        for name, rate in self.rates.items():
            if name not in SHAPES:
                selection = select(name).fitting(has_calls=has_calls, stream=stream)
                if selection is not None:
                    yield selection, rate

    def shapes(self, *, stream: bool) -> Iterator[tuple[WireShape, float]]:
        """Yield the wire shapes that can apply to such a request, in the order in which they do."""
        for name, shape in SHAPES.items():
            if name in self.rates and shape.stream in (None, stream):
                yield shape, self.rates[name]


def profile_with(faults: Mapping[str, float]) -> Profile:
    """Make a profile of chosen faults and wire shapes; arguments and errors are those of `Profile`."""
    listed = ", ".join(f"{name} at {rate:g}" for name, rate in faults.items())
    return Profile("custom", f"chosen faults: {listed or 'none'}", faults)


_BROKEN_RATES: Mapping[str, float] = {
    "truncated_json": 0.04,
    "concatenated_json": 0.02,
    "trailing_text": 0.02,
    "single_quoted_json": 0.02,
    "empty_arguments": 0.02,
    "not_an_object": 0.02,
    "other_invalid_json": 0.02,
    "missing_required": 0.04,
    "unexpected_property": 0.03,
    "wrong_type": 0.04,
    "enum_violation": 0.03,
    "other_schema_violation": 0.03,
    "undeclared_tool": 0.03,
    "tool_name_case_or_prefix": 0.02,
    "nonstandard_tool_call_id": 0.04,
    "duplicate_tool_call_id": 0.02,
    "finish_tool_calls_without_calls": 0.03,
    "calls_without_finish_tool_calls": 0.03,
    "finish_reason_missing": 0.04,
    "finish_reason_unknown": 0.04,
    "truncated_by_length": 0.03,
    "content_filtered": 0.02,
    "markup_in_content": 0.04,
    "markup_in_reasoning": 0.03,
    "special_token_leak": 0.05,
    "empty_response": 0.02,
    "reasoning_only": 0.02,
    "missed_call": 0.03,
    "extra_call": 0.10,
    "stream_index_missing": 0.02,
    "stream_id_missing": 0.02,
    "stream_name_repeated": 0.02,
    "http_400": 0.01,
    "http_503@1": 0.02,
    "rate_limited@1": 0.02,
    "connection_reset@1": 0.02,
    "stream_cut@1": 0.01,
    "stream_error_event@1": 0.01,
    "not_a_completion": 0.02,
}
"""What can end in minutes only (`timed_out`, `response_too_large`) or stops a run (401, 402, 404) is
left to profiles of its own."""

_ALL = (
    Profile("official", "agrees with the official answers always", {}),
    Profile(
        "noisy",
        "flips decisions: misses some calls, makes some that the official API does not",
        {"missed_call": 0.15, "extra_call": 0.15},
    ),
    Profile("broken", "a mix of faults from every group, transport included", _BROKEN_RATES),
    Profile(
        "truncating",
        "ends the arguments too early, or glues calls together: a streaming assembly with a bug",
        {"truncated_json": 0.45, "concatenated_json": 0.15},
    ),
    Profile(
        "leaky-parser",
        "writes most calls as K2 markup into the content: the tool parser is off or leaks",
        {"markup_in_content": 0.6, "special_token_leak": 0.1},
    ),
    Profile(
        "reasoning-eater",
        "leaves calls and answers in the reasoning text: the reasoning parser takes too much",
        {"markup_in_reasoning": 0.4, "reasoning_only": 0.3},
    ),
    Profile(
        "no-guided-decoding",
        "breaks the tools' schemas: nothing keeps the arguments to them",
        {
            "missing_required": 0.12,
            "wrong_type": 0.08,
            "unexpected_property": 0.06,
            "enum_violation": 0.06,
            "other_schema_violation": 0.04,
        },
    ),
    Profile(
        "wrong-template",
        "answers in words where it should call: the chat template misses the generation prompt",
        {"missed_call": 0.62},
    ),
    Profile(
        "over-triggering", "calls where it should answer: a wrong template, or sampling", {"extra_call": 0.5}
    ),
    Profile(
        "bad-ids",
        "gives calls ids that are not K2's, or the same one twice, and drops a few calls over it",
        {
            "nonstandard_tool_call_id": 0.8,
            "duplicate_tool_call_id": 0.05,
            "finish_tool_calls_without_calls": 0.05,
        },
    ),
    Profile("length-limited", "runs into its token limit before it is done", {"truncated_by_length": 0.3}),
    Profile(
        "stop-with-calls",
        "says `stop` over its calls: finish_reason is set before they are parsed",
        {"calls_without_finish_tool_calls": 0.9},
    ),
    Profile(
        "flaky-network",
        "loses connections, is overloaded and limits rates; some requests never get through",
        {
            "http_503@1": 0.1,
            "rate_limited@1": 0.1,
            "connection_reset@1": 0.1,
            "stream_cut@1": 0.05,
            "http_502": 0.05,
            "connection_reset": 0.05,
            "stream_cut": 0.04,
            "stream_error_event": 0.03,
        },
    ),
)

PROFILES: Mapping[str, Profile] = MappingProxyType({profile.name: profile for profile in _ALL})
"""The shipped profiles by name."""


def profile_named(name: str) -> Profile:
    """Look a shipped profile up, or raise `UsageError`."""
    if name not in PROFILES:
        raise UsageError(f"unknown profile {name!r}: {suggestion(name, PROFILES)}")
    return PROFILES[name]
