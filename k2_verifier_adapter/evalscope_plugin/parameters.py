"""The benchmarks' own parameters, each declared once.

From this table come EvalScope's declaration (`extra_params`), the checks, the flags of `k2-verifier eval` and
the tables in docs/parameters.md and docs/conformance.md, which tests compare. The command line imports it: it
needs no EvalScope.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from k2_verifier_adapter.core.model_profiles import model_profiles
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.version import BENCHMARK, CONFORMANCE

if TYPE_CHECKING:
    from k2_verifier_adapter.core.verdict import GateOptions


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of `dataset_args.BENCHMARK.extra_params`.

    Attributes:
        description: What it does, as EvalScope and docs/parameters.md show it.
        example: Parameters that set it, itself among them, as docs/parameters.md shows them.
        choices: The texts that it may be; empty if it is no text.
        minimum: The least number that it may be, or None.
        maximum: The most that it may be, or None.
        flag_help: Help of its flag of `k2-verifier eval` or `conform`; None if it has no flag.
        metavar: What the flag's help calls the value.
        of_session: Whether it says how fast and how far one session goes, or what decides in the end, and
            not what is asked: another session may go on with another value.
        of_gate: Whether it says what decides the exit code; its flag belongs to `report` and `score`, too.
        is_new: Whether runs have been cached without it: only where it is set is it part of what EvalScope
            takes for a run's identity, so that those can be gone on with.
    """

    name: str
    kind: type[str | bool | float]
    default: str | bool | float | None
    description: str
    example: Mapping[str, Any]
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    flag_help: str | None = None
    metavar: str = "N"
    of_session: bool = False
    of_gate: bool = False
    is_new: bool = False

    @property
    def flag(self) -> str:
        """The name of its flag."""
        return f"--{self.name.replace('_', '-')}"

    def spec(self) -> dict[str, Any]:
        """Give EvalScope's declaration."""
        choices: list[Any] = [True, False] if self.kind is bool else list(self.choices)
        if choices and self.default is None:
            choices.append(None)
        return {
            "type": self.kind.__name__,
            "description": self.description,
            "value": self.default,
            **({"choices": choices} if choices else {}),
        }

    def check(self, value: Any) -> Any:
        """Give a value as the parameter's type; `UsageError` if it cannot be one, or is out of range."""
        expected = self._expectation(value)
        if expected is not None:
            raise UsageError(f"extra_params.{self.name} is {value!r}, expected {expected}")
        return None if value is None else self.kind(value)

    def _expectation(self, value: Any) -> str | None:
        """Say what the value should have been; None if it can be used."""
        if value is None and self.default is None:
            return None
        if self.choices:
            return None if value in self.choices else " or ".join(map(repr, self.choices))
        if self.kind is bool:
            return None if isinstance(value, bool) else "true or false"
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf
        if self.kind is str:
            return None if isinstance(value, str) else "a text"
        if self.maximum is not None:
            if number and (self.minimum or 0) <= value <= self.maximum:
                return None
            return f"a number from {self.minimum or 0:g} to {self.maximum:g}"
        if self.minimum is not None and not (number and value >= self.minimum):
            return f"a number of at least {self.minimum:g}"
        if self.kind is int:
            return None if number and value == int(value) else "a whole number"
        return None if number else "a number"


PARAMETERS = (
    Parameter(
        "malformed_history",
        str,
        "sanitize",
        "What to do with historical `tool_calls[].function.arguments` that are not JSON: `sanitize` replaces "
        "them by `{}`, `keep` sends them as they are, as upstream does.",
        {"malformed_history": "keep"},
        choices=("sanitize", "keep"),
    ),
    Parameter(
        "normalize_tool_call_ids",
        bool,
        False,
        "Rename historical tool call ids to `functions.NAME:IDX`, with the `tool_call_id` that refers to "
        "them.",
        {"normalize_tool_call_ids": True},
    ),
    Parameter(
        "sample",
        str,
        "first",
        "Which rows a limit leaves: `first`, EvalScope's way, the first ones (of the shuffled rows, with "
        "`shuffle`); `stratified`, a draw with the share of official calls of all rows.",
        {"sample": "stratified"},
        choices=("first", "stratified"),
        flag_help="Which rows --limit leaves: the first, or a draw with the share of official calls of all "
        "rows.",
    ),
    Parameter(
        "sample_seed",
        int,
        42,
        "Seed of the stratified draw, and of the order of a run that stops when it is decided. With the same "
        "seed a larger limit keeps the rows of a smaller one. Refused where nothing is drawn.",
        {"sample": "stratified", "sample_seed": 7},
        flag_help="Draw other rows. With the same seed a larger --limit keeps the rows of a smaller one.",
    ),
    Parameter(
        "stop_when_decided",
        bool,
        False,
        "Stop as soon as the strict verdict is decided. The rows are asked in a random order, and all that "
        "have been asked are looked at up to twelve times, from 60 cases to the limit, or all rows; a limit "
        "leaves a stratified draw. The looks are planned so that all of them together err as seldom as one.",
        {"stop_when_decided": True},
        flag_help="Ask in a random order, and stop as soon as the strict verdict is decided; --limit is the "
        "most cases.",
        is_new=True,
    ),
    Parameter(
        "profile",
        str,
        None,
        "The model whose faithful answers these are held against: its ids, its markup, its advice. Without "
        "it, the model's name tells, else the subset.",
        {"profile": "k3"},
        choices=tuple(model_profiles()),
        flag_help="The model that answers, where its name does not tell.",
        is_new=True,
    ),
    Parameter(
        "max_response_mb",
        int,
        64,
        "Decompressed size in MiB at which a response is given up (`response_too_large`).",
        {"max_response_mb": 16},
        minimum=1,
    ),
    Parameter(
        "requests_per_minute",
        float,
        0,
        "Requests that start in a minute at most, retries included, evenly spaced; 0 for no limit.",
        {"requests_per_minute": 90},
        minimum=0,
        flag_help="Start at most N requests a minute, evenly spaced.",
        of_session=True,
    ),
    Parameter(
        "max_requests",
        int,
        0,
        "Requests after which this session stops, retries included; 0 for no maximum. The run is then "
        "incomplete, and goes on with `use_cache`.",
        {"max_requests": 500},
        minimum=0,
        flag_help="Stop after N requests, retries included; exit code 3, go on with --use-cache.",
        of_session=True,
    ),
    Parameter(
        "max_total_tokens",
        int,
        0,
        "Prompt and completion tokens, as the vendor counts them, after which this session stops; 0 for no "
        "maximum.",
        {"max_total_tokens": 2000000},
        minimum=0,
        flag_help="Stop once the vendor has counted N prompt and completion tokens.",
        of_session=True,
    ),
    Parameter(
        "max_minutes",
        float,
        0,
        "Minutes after which this session sends nothing more; 0 for no maximum.",
        {"max_minutes": 45},
        minimum=0,
        flag_help="Send nothing more after X minutes.",
        metavar="X",
        of_session=True,
    ),
    Parameter(
        "gate",
        str,
        "none",
        "The rule that decides the exit code of `k2-verifier`: `upstream`, trigger_similarity reaches its "
        "threshold; `strict`, the worst of all checks. It is stored with the run, and all files that the run "
        "leaves state its verdict.",
        {"gate": "strict"},
        choices=("none", "upstream", "strict"),
        flag_help="The rule that decides the exit code: upstream, trigger_similarity >= threshold, nothing "
        "else; strict, the worst of the checks, each by its 95% interval. Without it, none.",
        of_session=True,
        of_gate=True,
        is_new=True,
    ),
    Parameter(
        "inconclusive",
        str,
        None,
        "What an inconclusive verdict means for the exit code: 1 (`fail`) or 0 (`ok`); 3 unless set.",
        {"gate": "strict", "inconclusive": "fail"},
        choices=("fail", "ok"),
        flag_help="What an inconclusive verdict means for the exit code: 1 (fail) or 0 (ok); 3 without it.",
        of_session=True,
        of_gate=True,
        is_new=True,
    ),
    Parameter(
        "min_trigger_similarity",
        float,
        None,
        "Threshold of `trigger_similarity`, instead of the rows' own.",
        {"min_trigger_similarity": 0.75},
        minimum=0,
        maximum=1,
        flag_help="Threshold of trigger_similarity, instead of the rows' own.",
        metavar="X",
        of_session=True,
        of_gate=True,
        is_new=True,
    ),
    Parameter(
        "min_schema_accuracy",
        float,
        0.95,
        "The least `schema_accuracy`; 0.95 unless set.",
        {"min_schema_accuracy": 0.98},
        minimum=0,
        maximum=1,
        flag_help="The least schema_accuracy; 0.95 unless set.",
        metavar="X",
        of_session=True,
        of_gate=True,
        is_new=True,
    ),
    Parameter(
        "call_surplus_tolerance",
        float,
        0.1,
        "How many more or fewer calls than the official API a vendor may make, as a share of these; 0.1 "
        "unless set.",
        {"call_surplus_tolerance": 0.05},
        minimum=0,
        maximum=1,
        flag_help="How many more or fewer calls than the official API may be made, as a share; 0.1 unless "
        "set.",
        metavar="X",
        of_session=True,
        of_gate=True,
        is_new=True,
    ),
    Parameter(
        "min_coverage",
        float,
        None,
        "Share of the requests that must have completed, else exit code 3; 0.95 unless set, and 0.98 for the "
        "strict verdict.",
        {"min_coverage": 0.99},
        minimum=0,
        maximum=1,
        flag_help="Share of the requests that must have completed, else exit code 3; 0.95 unless set, 0.98 "
        "for the strict verdict.",
        metavar="X",
        of_session=True,
        of_gate=True,
        is_new=True,
    ),
    Parameter(
        "baseline",
        str,
        None,
        "Directory of a run over the same rows, an earlier one or another vendor's: the exit code also says "
        "whether this one is not worse.",
        {"baseline": "outputs/20261115_101500"},
        of_session=True,
        is_new=True,
    ),
    Parameter(
        "margin",
        float,
        0.03,
        "How much worse than the baseline the run may be, as a share; 0.03 unless set.",
        {"baseline": "outputs/20261115_101500", "margin": 0.02},
        minimum=0,
        maximum=1,
        of_session=True,
        is_new=True,
    ),
)


BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}

CONFORMANCE_PARAMETERS = (
    replace(
        BY_NAME["profile"],
        description="The model whose contract is asked about. Without it, the model's name has to tell.",
        flag_help="The model whose contract is asked about, where its name does not tell.",
    ),
    Parameter(
        "modes",
        str,
        "both",
        "How each probe is asked: `plain`, `stream`, or `both`, as far as it is for both.",
        {"modes": "plain"},
        choices=("both", "plain", "stream"),
        flag_help="How each probe is asked; both ways without it.",
    ),
    Parameter(
        "attempts",
        int,
        1,
        "How often a probe is asked at most: one that fails is asked again until it passes. It is then shown "
        "as flaky, not as passed.",
        {"attempts": 3},
        minimum=1,
        flag_help="Ask a probe that fails up to N times; one that passes later is flaky, not passed.",
        of_session=True,
    ),
    *(
        BY_NAME[name]
        for name in (
            "max_response_mb",
            "requests_per_minute",
            "max_requests",
            "max_total_tokens",
            "max_minutes",
        )
    ),
    replace(
        BY_NAME["gate"],
        description="What decides the exit code of `k2-verifier`: `strict`, every suite has to pass; `none`, "
        "only whether every probe was answered.",
        choices=("none", "strict"),
        flag_help=None,
    ),
)

PARAMETERS_OF: Mapping[str, tuple[Parameter, ...]] = {
    BENCHMARK: PARAMETERS,
    CONFORMANCE: CONFORMANCE_PARAMETERS,
}


def gate_options(values: Mapping[str, Any]) -> GateOptions:
    """Put the parameters together that say what decides the exit code; those not given are the defaults."""
    from k2_verifier_adapter.core.verdict import Gate, GateOptions, Requirements, WhenInconclusive

    def value(name: str) -> Any:
        return values.get(name, BY_NAME[name].default)

    inconclusive = value("inconclusive")
    return GateOptions(
        gate=Gate(value("gate")),
        inconclusive=None if inconclusive is None else WhenInconclusive(inconclusive),
        requirements=Requirements(
            similarity=value("min_trigger_similarity"),
            surplus=value("call_surplus_tolerance"),
            accuracy=value("min_schema_accuracy"),
            coverage=value("min_coverage"),
        ),
        baseline=value("baseline"),
        margin=value("margin"),
    )


def checked_values(benchmark: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give every parameter's value, or its default; `UsageError` if one cannot be used."""
    return {
        parameter.name: parameter.check(given.get(parameter.name, parameter.default))
        for parameter in PARAMETERS_OF[benchmark]
    }


def check_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Give the values of `k2_verifier`'s; `UsageError` if one cannot be used or has no effect."""
    values = checked_values(BENCHMARK, given)
    sample, seed = values["sample"], values["sample_seed"]
    default_seed = BY_NAME["sample_seed"].default
    stopping = values["stop_when_decided"]
    if sample != "stratified" and not stopping and seed != default_seed:
        raise UsageError(
            f"extra_params.sample_seed is {seed!r}, but sample is {sample!r}, which draws nothing; "
            "set sample to 'stratified', or leave sample_seed out"
        )
    if stopping and values["gate"] == "upstream":
        raise UsageError(
            "extra_params.stop_when_decided is set, but gate is 'upstream', whose rule has no level at which "
            "it could be looked at early; take gate 'strict', or leave stop_when_decided out"
        )
    if stopping and values["baseline"] is not None:
        raise UsageError(
            "extra_params.stop_when_decided is set, but a baseline is held against all rows; leave one of "
            "the two out"
        )
    return values
