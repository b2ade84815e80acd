"""What a faithful answer looks like, model by model: read from `data/models.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from k2_verifier_adapter.core.messages import calls_of
from k2_verifier_adapter.data import read_data

if TYPE_CHECKING:
    from k2_verifier_adapter.core.cases import Case

_ANY_ID = "any"

_LONGEST_NAME = 200
"""Characters of a model's name that are read."""


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """One model, as far as answers and requests of it differ from those of others.

    Attributes:
        models: Pieces of names by which it is known; of several that fit, the longest counts.
        subsets: Subsets whose rows are of it.
        ids: The form of its tool call ids, `functions.NAME:IDX` or `any`.
        markup: The notation in which it writes calls, `k2` or `k3`.
        reasoning_fields: Where its reasoning may stand; empty if it does not reason.
        thinking: When it does not reason, and by which request parameters that is chosen.
        history_reasoning: Which assistant messages of a history need their `reasoning_content`: `no`,
            `current_turn` (those with calls behind the last user message), or `all`.
        dynamic_tools: Whether system messages may declare tools.
        forced_call: Request parameters by which its API lets a call be forced, or at best be asked for.
        fixed_sampling: Whether its API refuses other sampling parameters than its own.
        parameters: Request parameters of its official runs.
        sources: Where all that comes from.
    """

    name: str
    title: str
    models: tuple[str, ...]
    subsets: tuple[str, ...]
    ids: str
    markup: str
    reasoning_fields: tuple[str, ...]
    thinking: Mapping[str, Any]
    history_reasoning: str
    dynamic_tools: bool
    forced_call: Mapping[str, Any]
    fixed_sampling: bool
    parameters: Mapping[str, Any]
    sources: tuple[str, ...]

    @property
    def any_id(self) -> bool:
        """Whether an id may have any form."""
        return self.ids == _ANY_ID


@cache
def model_profiles() -> Mapping[str, ModelProfile]:
    """Read the profiles, by name."""
    listed: list[dict[str, Any]] = json.loads(read_data("models.json"))["profiles"]
    for value in listed:
        value.update({key: tuple(item) for key, item in value.items() if isinstance(item, list)})
    return {value["name"]: ModelProfile(**value) for value in listed}


DEFAULT = "k2"
"""The profile of a model that is not known: K2's family is what this package is made for."""


def choose_profile(*, model: str = "", subset: str = "", chosen: str | None = None) -> ModelProfile:
    """Choose the profile: the one that is asked for, the one of the model's name, else that of the subset.

    A name that says no more than "kimi-k2" leaves it to the subset.

    Raises:
        KeyError: If the one that is asked for does not exist.
    """
    return _chosen(_read(model), subset, chosen)


@lru_cache(maxsize=1_000)
def _chosen(model: str, subset: str, chosen: str | None) -> ModelProfile:
    profiles = model_profiles()
    if chosen:
        return profiles[chosen]
    named = profile_of_name(model)
    name = DEFAULT if named is None else named.name
    if name == DEFAULT:
        name = next((profile.name for profile in profiles.values() if subset in profile.subsets), name)
    return profiles[name]


def profile_of_name(model: str) -> ModelProfile | None:
    """Give the profile that a model's name tells; None if it tells none."""
    name = _read(model)
    fitting = [
        (len(piece), profile.name)
        for profile in model_profiles().values()
        for piece in profile.models
        if re.search(rf"(?<![a-z0-9]){re.escape(piece)}(?![0-9])", name)
    ]
    return model_profiles()[max(fitting)[1]] if fitting else None


def _read(model: str) -> str:
    return model.lower()[:_LONGEST_NAME]


def profile_or_none(name: Any) -> str | None:
    """Give the name of a profile, read back from a file; None for what is none."""
    return name if isinstance(name, str) and name in model_profiles() else None


def without_reasoning(messages: Sequence[Any], profile: ModelProfile) -> list[int]:
    """List the positions of the history's messages that lack the `reasoning_content` their API demands.

    Moonshot's API refuses them with 400 ("thinking is enabled but reasoning_content is missing in
    assistant tool call message at index N"); an empty text satisfies it.
    """
    if profile.history_reasoning == "no":
        return []
    begin = 0
    if profile.history_reasoning == "current_turn":
        users = [place for place, message in enumerate(messages) if _role(message) == "user"]
        begin = users[-1] if users else 0
    return [
        place
        for place, message in enumerate(messages[begin:], begin)
        if _role(message) == "assistant"
        and (calls_of(message) or profile.history_reasoning == "all")
        and not isinstance(message.get("reasoning_content", message.get("reasoning")), str)
    ]


def lacking_reasoning(cases: Iterable[Case], profile: ModelProfile) -> list[int]:
    """List the 0-based row numbers of the cases whose history lacks what the model's API demands."""
    if profile.history_reasoning == "no":
        return []
    held = "assistant" if profile.history_reasoning == "all" else "tool_calls"
    return [
        case.index for case in cases if case.mentions(held) and without_reasoning(case.messages(), profile)
    ]


@cache
def profiles_by_demand() -> Mapping[str, tuple[ModelProfile, ...]]:
    """Give the profiles by what they demand of a history, where they demand anything."""
    return {
        demand: tuple(profile for profile in model_profiles().values() if profile.history_reasoning == demand)
        for demand in ("current_turn", "all")
    }


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None
