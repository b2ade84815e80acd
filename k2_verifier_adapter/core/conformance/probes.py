"""Probes: requests with what the contract expects of their answers, as data with a closed vocabulary.

One probe is one JSON object. A probe with `schema` in the place of `request` and `expect` asks for a call of
one tool whose only argument has that schema (`core.conformance.schemas`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from k2_verifier_adapter.core.cases import NOT_PARAMETERS, Case, OfficialAnswer
from k2_verifier_adapter.core.conformance.schemas import (
    SchemaLeftOutError,
    expectation_of,
    request_of,
    selection_reason,
)
from k2_verifier_adapter.core.history import Repairs
from k2_verifier_adapter.core.json_text import JsonTextError, dumps_strict, shown
from k2_verifier_adapter.core.messages import calls_of
from k2_verifier_adapter.core.model_profiles import ModelProfile, model_profiles
from k2_verifier_adapter.core.streams.frames import FRAME_FAULTS

STATUSES = frozenset({200, 400, 422})
"""The statuses that are answers; every other one is a failed request, whatever a probe expects."""


class Mode(str, Enum):
    """How a probe is asked; the value is the name used in files."""

    PLAIN = "plain"
    STREAM = "stream"


class ProbeError(ValueError):
    """One field of one probe (`expect.calls.some`) cannot be used, and why."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"field {field!r}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Probe:
    """One request, and what the contract expects of the answer.

    Attributes:
        models: Profiles that it is for; empty for all.
        request: The body, but for `model`, `stream` and what `forced` adds.
        expect: What is expected, by the words of `VOCABULARY`.
        why: What goes wrong in practice where it fails.
        source: Where the expectation comes from.
        forced: Whether the model is made to call, in the way that its API allows.
        note: What the report is to say of how it is asked; empty if nothing.
        continues: The id of the probe whose answer is sent back, before this one's own messages; or empty.
        selection: Of a probe that was made of a schema, why KVV's report lists it; else empty.
    """

    id: str
    suite: str
    request: Mapping[str, Any]
    expect: Mapping[str, Any]
    why: str
    source: str
    models: tuple[str, ...] = ()
    modes: tuple[Mode, ...] = (Mode.PLAIN, Mode.STREAM)
    forced: bool = False
    note: str = ""
    continues: str = ""
    selection: str = ""

    def is_for(self, profile: ModelProfile) -> bool:
        """Whether it is for a model."""
        return not self.models or profile.name in self.models

    def as_json(self) -> dict[str, Any]:
        """Give the form that files hold."""
        return {
            "id": self.id,
            "suite": self.suite,
            **({"models": list(self.models)} if self.models else {}),
            "modes": [mode.value for mode in self.modes],
            "request": dict(self.request),
            **({"forced": True} if self.forced else {}),
            "expect": dict(self.expect),
            "why": self.why,
            "source": self.source,
            **({"note": self.note} if self.note else {}),
            **({"continues": self.continues} if self.continues else {}),
            **({"selection": self.selection} if self.selection else {}),
        }


@dataclass(frozen=True, slots=True)
class ProbeCase:
    """One probe, asked in one mode: what the transport sends, and what is expected."""

    probe: Probe
    mode: Mode
    case: Case

    @property
    def name(self) -> str:
        """How reports call it."""
        return f"{self.probe.id} [{self.mode.value}]"


def cases_of(
    probes: Iterable[Probe], profile: ModelProfile, modes: Iterable[Mode], *, first: int = 0
) -> list[ProbeCase]:
    """Write out the probes for a model, each in its modes, numbered from `first`."""
    asked = [
        (probe, mode) for probe in probes if probe.is_for(profile) for mode in modes if mode in probe.modes
    ]
    return [_case(probe, mode, index, profile) for index, (probe, mode) in enumerate(asked, first)]


def _case(probe: Probe, mode: Mode, index: int, profile: ModelProfile) -> ProbeCase:
    request = {**probe.request, **(profile.forced_call if probe.forced else {})}
    parameters = {name: value for name, value in request.items() if name not in NOT_PARAMETERS}
    expects_call = bool(probe.expect.get("calls", {}).get("some"))
    case = Case(
        index=index,
        data_index=index + 1,
        messages_json=dumps_strict(request.get("messages", [])).encode(),
        tools_json=dumps_strict(request["tools"]).encode() if "tools" in request else None,
        official=OfficialAnswer(expects_call, "tool_calls" if expects_call else "stop"),
        parameters={**parameters, "stream": mode is Mode.STREAM},
        repairs=Repairs(),
    )
    return ProbeCase(probe, mode, case)


def continued(case: Case, before: Case, message: Mapping[str, Any]) -> Case:
    """Send the answer to a probe back: that one's messages, the answer as it came, and the case's own ones.

    Behind the answer stand results of its calls; of one without calls, a further message of the user's.
    """
    results = [
        {"role": "tool", "tool_call_id": call.get("id"), "content": _RESULT} for call in calls_of(message)
    ]
    behind = results or [{"role": "user", "content": "Thank you. Say it in one word."}]
    messages = [*before.messages(), dict(message), *behind, *case.messages()]
    return replace(case, messages_json=dumps_strict(messages).encode())


_RESULT = '{"weather": "sunny, 21 degrees"}'


# --- reading -------------------------------------------------------------------------------------

Check = Callable[[Any], bool]


def _one_of(*words: str) -> tuple[Check, str]:
    return (lambda value: value in words and isinstance(value, str)), " or ".join(map(repr, words))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_whole, value)) and value[0] <= value[1]


def _is_texts(value: Any) -> bool:
    return bool(value) and isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


_CALLS: Mapping[str, tuple[Check, str]] = {
    "some": (lambda value: isinstance(value, bool), "true or false"),
    "names": (_is_texts, "a list of tool names"),
    "count": (lambda value: _is_whole(value) or _is_range(value), "a number, or [low, high]"),
    "arguments": _one_of("schema"),
}

VOCABULARY: Mapping[str, tuple[Check, str]] = {
    "status": (
        lambda value: bool(_listed(value)) and all(item in STATUSES for item in _listed(value)),
        f"one or several of {', '.join(map(str, sorted(STATUSES)))}",
    ),
    "calls": (lambda value: isinstance(value, dict) and bool(value), "an object"),
    "finish_reason": (
        lambda value: _is_texts(_listed(value)),
        "one or several finish reasons",
    ),
    "content": _one_of("some", "none", "json"),
    "reasoning": _one_of("some", "none"),
    "usage": _one_of("some", "none", "top_level", "choice"),
    "prompt_tokens": (_is_range, "[low, high]"),
    "frames": (
        lambda value: _is_texts(value) and set(value) <= FRAME_FAULTS.keys(),
        f"a list of {', '.join(FRAME_FAULTS)}",
    ),
    "same_as": (lambda value: isinstance(value, str) and bool(value), "the id of another probe"),
}
"""What may be expected, in the order in which it is looked at."""

_FIELDS = frozenset(
    {
        "continues",
        "expect",
        "forced",
        "id",
        "models",
        "modes",
        "note",
        "request",
        "schema",
        "selection",
        "source",
        "suite",
        "why",
    }
)


def decode_probe(value: Mapping[str, Any], suite: str, profile: ModelProfile) -> Probe:
    """Check one probe of a suite, and make it.

    A probe with a `schema` is written out for the profile, which decides how a call can be forced.

    Raises:
        ProbeError: If a field is unknown, missing or of another shape.
        SchemaLeftOutError: If its schema is one that is not asked about.
    """
    for name in value:
        if name not in _FIELDS:
            raise ProbeError(name, f"is unknown, expected one of {', '.join(sorted(_FIELDS))}")
    request, expect = value.get("request"), value.get("expect")
    forced, selection = value.get("forced", False), _text(value, "selection", "")
    if "schema" in value:
        if request is not None or expect is not None:
            raise ProbeError("schema", "stands in the place of 'request' and 'expect'; leave these out")
        request, expect, forced = request_of(value["schema"]), expectation_of(), True
        selection = selection_reason(value["schema"])
    if not isinstance(request, dict):
        raise ProbeError("request", f"{shown(request, 60)} is not an object, expected the body of a request")
    for name in ("model", "stream"):
        if name in request:
            raise ProbeError(f"request.{name}", "is set by the run; leave it out")
    try:
        dumps_strict(request)
    except JsonTextError as error:
        raise ProbeError("request", f"cannot be sent as JSON: {error}") from None
    if not isinstance(forced, bool):
        raise ProbeError("forced", f"{shown(forced, 60)} is not true or false")
    return Probe(
        id=_text(value, "id"),
        suite=suite,
        request=request,
        expect=_expectation(expect),
        why=_text(value, "why", ""),
        source=_text(value, "source", ""),
        models=_models(value.get("models", [])),
        modes=_modes(value.get("modes", [mode.value for mode in Mode])),
        forced=forced,
        note=_text(value, "note", "") or (_note(profile) if forced else ""),
        continues=_text(value, "continues", ""),
        selection=selection,
    )


def _note(profile: ModelProfile) -> str:
    """Say how a model is made to call, where its API does not take `required` as it stands."""
    asked = dict(profile.forced_call)
    if asked == {"tool_choice": "required"}:
        return ""
    listed = ", ".join(f"{name} {dumps_strict(item)}" for name, item in asked.items())
    thinks = " while it thinks" if profile.reasoning_fields else ""
    return f"a call is asked for with {listed}: {profile.title} does not take tool_choice required{thinks}"


def _expectation(expect: Any) -> dict[str, Any]:
    if not isinstance(expect, dict) or not expect:
        raise ProbeError("expect", f"{shown(expect, 60)} is not an object of expectations")
    _check_words("expect", expect, VOCABULARY)
    _check_words("expect.calls", expect.get("calls", {}), _CALLS)
    return {"status": 200, **expect}


def _check_words(where: str, words: Mapping[str, Any], known: Mapping[str, tuple[Check, str]]) -> None:
    for word, value in words.items():
        if word not in known:
            listed = ", ".join(known)
            raise ProbeError(f"{where}.{word}", f"is no word of the vocabulary, expected one of {listed}")
        fits, expected = known[word]
        if not fits(value):
            raise ProbeError(f"{where}.{word}", f"is {shown(value, 60)}, expected {expected}")


def _text(value: Mapping[str, Any], name: str, default: str | None = None) -> str:
    found = value.get(name, default)
    if not isinstance(found, str) or (default is None and not found.strip()):
        raise ProbeError(name, f"{shown(found, 60)} is not a text")
    return found


def _models(names: Any) -> tuple[str, ...]:
    known = model_profiles()
    if not isinstance(names, list) or not all(isinstance(name, str) and name in known for name in names):
        raise ProbeError("models", f"{shown(names, 60)}, expected a list of {', '.join(known)}")
    return tuple(names)


def _modes(names: Any) -> tuple[Mode, ...]:
    try:
        modes = tuple(map(Mode, names))
    except (TypeError, ValueError):
        modes = ()
    if not modes or isinstance(names, str):
        raise ProbeError("modes", f"{shown(names, 60)}, expected a list of plain and stream")
    return modes


__all__ = [
    "STATUSES",
    "VOCABULARY",
    "Mode",
    "Probe",
    "ProbeCase",
    "ProbeError",
    "SchemaLeftOutError",
    "cases_of",
    "decode_probe",
]
