"""The tools of one row, and requests to use them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from synthetic.arguments import make_arguments
from synthetic.plans import History, Plan, Quirk
from synthetic.vocabulary import CATALOGUE, Json, Language, ToolSpec, localise

MOST_TOOLS = 12
_CHARS_PER_TOOL = 600
"""How much of a request's size one tool may take, about."""

_CLOCK = next(spec for spec in CATALOGUE if spec.name == "now")
"""The smallest tool: no description and no arguments."""
_SEARCH = next(spec for spec in CATALOGUE if spec.name == "web_search")
"""A tool that every conversation can have used."""


@dataclass(frozen=True)
class Wish:
    """What a user wants, and the call that does it."""

    ask: str
    tool_name: str
    arguments: Json
    result: str


class Toolbox:
    """The tools that one row offers.

    Attributes:
        rendered: The tools as the request holds them.
        main: The tool that the row is about.
    """

    def __init__(self, plan: Plan, rng: Random, *, distinct: bool) -> None:
        self._plan = plan
        self._rng = rng
        self.main = _CLOCK if plan.quirk is Quirk.TINY else CATALOGUE[plan.main_tool]
        self._specs = _choose_specs(plan, self.main, rng)
        self.rendered = [_render(spec, plan.tool_language) for spec in self._specs]
        if distinct:
            for position, tool in enumerate(self.rendered):
                _make_schema_distinct(tool, plan.index, position)

    def wish_for_main(self) -> Wish:
        """Wish something that the main tool does."""
        return self._wish(self.main)

    def wish_with_arguments(self) -> Wish:
        """Wish something that any tool does which takes arguments."""
        return self._wish(self._rng.choice([spec for spec in self._specs if spec.needs_arguments]))

    def wish_for_any(self) -> Wish:
        """Wish something that any tool of the row does."""
        return self._wish(self._rng.choice(self._specs))

    def _wish(self, spec: ToolSpec) -> Wish:
        parameters = self.rendered[self._specs.index(spec)]["function"]["parameters"]
        language = self._plan.language
        arguments = make_arguments(parameters, self._rng, language)
        said = {name: _spoken(value) for name, value in arguments.items()}
        ask = self._rng.choice(spec.asks[language]).format_map(said)
        return Wish(ask, spec.name, arguments, spec.result)


def _choose_specs(plan: Plan, main: ToolSpec, rng: Random) -> list[ToolSpec]:
    related = [spec for spec in CATALOGUE if spec.domain == main.domain and spec is not main]
    others = [spec for spec in CATALOGUE if spec.domain != main.domain]
    rng.shuffle(related)
    rng.shuffle(others)
    chosen = [main, *[*related, *others][: _tool_count(plan, rng) - 1]]
    if plan.history is History.TOOLS and not any(spec.needs_arguments for spec in chosen):
        chosen.append(_SEARCH)
    rng.shuffle(chosen)
    return chosen


def _tool_count(plan: Plan, rng: Random) -> int:
    if plan.quirk is Quirk.TINY:
        return 1
    if plan.quirk is Quirk.LARGEST_TOOL_SET:
        return MOST_TOOLS
    return 1 + rng.randrange(min(MOST_TOOLS - 1, 1 + plan.size // _CHARS_PER_TOOL))


def _render(spec: ToolSpec, language: Language) -> Json:
    function: Json = {"name": spec.name}
    if spec.description is not None:
        function["description"] = spec.description[language]
    function["parameters"] = localise(spec.parameters, language)
    return {"type": "function", "function": function}


def _make_schema_distinct(tool: Json, row: int, position: int) -> None:
    """Give a tool's schema an optional property of its own, so that no schema cache can serve two rows."""
    properties = tool["function"]["parameters"].setdefault("properties", {})
    properties[f"tag_{row}_{position}"] = {
        "type": "string",
        "description": f"Tag of request {row}, tool {position}; copied into the audit log.",
        "maxLength": 64 + row % 64,
    }


def _spoken(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
