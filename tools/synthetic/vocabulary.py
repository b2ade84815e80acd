"""What rows are made of: the tools, texts and argument values in the JSON files beside this module."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Language = Literal["en", "zh"]
Json = dict[str, Any]


@dataclass(frozen=True)
class ToolSpec:
    """One tool of the catalogue; texts in it exist in both languages.

    Attributes:
        name: Function name.
        domain: The field of work it belongs to; the tools of one domain appear together.
        parameters: JSON schema of the arguments.
        asks: What a user says to get this tool called; `{name}` stands for a required argument.
        description: What the tool does, or None for a tool that never says it.
        result: What the tool's output looks like: `records`, `log` or `document`.
    """

    name: str
    domain: str
    parameters: Json
    asks: Json
    description: Json | None = None
    result: str = "records"

    @property
    def needs_arguments(self) -> bool:
        """Whether every call has at least one argument."""
        return bool(self.parameters.get("required"))


def localise(value: Any, language: Language) -> Any:
    """Copy a JSON value, with every `{"en": …, "zh": …}` in it replaced by the text in one language."""
    if isinstance(value, dict):
        if value.keys() == {"en", "zh"}:
            return value[language]
        return {key: localise(item, language) for key, item in value.items()}
    if isinstance(value, list):
        return [localise(item, language) for item in value]
    return value


def _read(name: str) -> Any:
    return json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


CATALOGUE = [ToolSpec(**record) for record in _read("tools.json")]
TEXTS: Json = _read("texts.json")
ARGUMENT_VALUES: Json = _read("argument_values.json")
