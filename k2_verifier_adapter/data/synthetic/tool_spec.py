"""The shape of one catalogue entry, and short forms for the schemas in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from k2_verifier_adapter.data.synthetic.languages import Localised, both

ResultKind = Literal["records", "log", "document"]
Schema = dict[str, Any]

DRAFT_07 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020_12 = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True)
class ToolSpec:
    """One tool of the catalogue.

    Attributes:
        name: Function name.
        domain: The field of work it belongs to; the tools of one domain appear together.
        description: What the tool does, or None for a tool that never says it.
        parameters: JSON schema whose texts are `Localised`.
        asks: What a user says to get this tool called; `{name}` stands for a required argument.
        result: What the tool's output looks like.
    """

    name: str
    domain: str
    description: Localised[str] | None
    parameters: Schema
    asks: Localised[tuple[str, ...]]
    result: ResultKind = "records"

    @property
    def needs_arguments(self) -> bool:
        """Whether every call has at least one argument."""
        return bool(self.parameters.get("required"))


def text(en: str, zh: str, **more: Any) -> Schema:
    """A string property."""
    return {"type": "string", "description": both(en, zh), **more}


def whole(en: str, zh: str, **more: Any) -> Schema:
    """An integer property."""
    return {"type": "integer", "description": both(en, zh), **more}


def number(en: str, zh: str, **more: Any) -> Schema:
    """A number property."""
    return {"type": "number", "description": both(en, zh), **more}


def flag(en: str, zh: str, **more: Any) -> Schema:
    """A boolean property."""
    return {"type": "boolean", "description": both(en, zh), **more}


def choice(en: str, zh: str, *values: Any, **more: Any) -> Schema:
    """A string property with an enumeration."""
    return {"type": "string", "enum": list(values), "description": both(en, zh), **more}


def listing(en: str, zh: str, items: Any, **more: Any) -> Schema:
    """An array property."""
    return {"type": "array", "description": both(en, zh), "items": items, **more}


def arguments(required: str, properties: Schema, **more: Any) -> Schema:
    """The schema of all arguments; `required` names them separated by spaces."""
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required.split()
    return {**schema, **more}
