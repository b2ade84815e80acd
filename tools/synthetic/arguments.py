"""From a schema to arguments that are valid against it.

Covers the keywords that the catalogue uses, no more. Whatever it makes is checked with `jsonschema` by
the tests; the program itself needs nothing but the standard library.
"""

from __future__ import annotations

from random import Random
from typing import Any

from synthetic.vocabulary import ARGUMENT_VALUES, Json, Language

_DEEP = 2
"""Nesting of references from which on only what is required is made, so that recursion ends."""


def make_arguments(parameters: Json, rng: Random, language: Language) -> dict[str, Any]:
    """Make valid arguments, with keys in the order of the schema as a model writes them."""
    made = _ValueMaker(parameters, rng, language).value(parameters, "", 0)
    assert isinstance(made, dict)
    return made


class _ValueMaker:
    """Makes values for one root schema, which references are resolved against."""

    def __init__(self, root: Json, rng: Random, language: Language) -> None:
        self._root = root
        self._rng = rng
        self._language = language

    def value(self, schema: Any, name: str, depth: int) -> Any:
        """Make one value for the property `name`."""
        if schema is True:
            return self._words(name)
        excluded = schema.get("not", {}).get("enum", [])
        made = self._any_value(schema, name, depth)
        while made in excluded:
            made = self._any_value(schema, name, depth)
        return made

    def _any_value(self, schema: Json, name: str, depth: int) -> Any:
        if "$ref" in schema:
            return self.value(self._resolve(schema["$ref"]), name, depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._rng.choice(schema["enum"])
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = self._rng.choice(kind)
        if kind == "object" or "allOf" in schema:
            return self._object(schema, depth)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                # By convention of the catalogue the first branch does not recurse.
                branches = schema[keyword] if depth < _DEEP else schema[keyword][:1]
                return self.value(self._rng.choice(branches), name, depth)
        return self._simple(kind, schema, name, depth)

    def _simple(self, kind: Any, schema: Json, name: str, depth: int) -> Any:
        if kind == "array":
            return self._array(schema, name, depth)
        if kind == "boolean":
            return self._rng.random() < 0.5
        if kind == "integer":
            return self._integer(schema)
        if kind == "number":
            return self._number(schema)
        if kind == "null":
            return None
        return self._string(schema, name)

    def _resolve(self, reference: str) -> Any:
        found: Any = self._root
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
        return found

    def _words(self, name: str) -> str:
        words = ARGUMENT_VALUES["by_name"].get(name, ARGUMENT_VALUES["otherwise"])
        return str(self._rng.choice(words[self._language]))

    def _string(self, schema: Json, name: str) -> str:
        for keyword in ("pattern", "format"):
            if keyword in schema:
                return str(self._rng.choice(ARGUMENT_VALUES[f"by_{keyword}"][schema[keyword]]))
        return self._words(name)

    def _integer(self, schema: Json) -> int:
        low = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
        high = schema.get("maximum", low + 500)
        step = schema.get("multipleOf", 1)
        made: int = low + self._rng.randrange((high - low) // step + 1) * step
        return made

    def _number(self, schema: Json) -> float:
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        high = schema.get("maximum", low + 500)
        made: float = low + self._rng.randrange(int(high - low) * 2) / 2
        return made

    def _array(self, schema: Json, name: str, depth: int) -> list[Any]:
        low = schema.get("minItems", 0 if depth >= _DEEP else 1)
        high = schema.get("maxItems", low + 2)
        size = low if depth >= _DEEP else low + self._rng.randrange(high - low + 1)
        made: list[Any] = []
        for _ in range(size):
            item = self.value(schema.get("items", True), name, depth)
            if not (schema.get("uniqueItems") and item in made):
                made.append(item)
        return made

    def _object(self, schema: Json, depth: int) -> dict[str, Any]:
        parts = [schema, *schema.get("allOf", [])]
        properties = {name: sub for part in parts for name, sub in part.get("properties", {}).items()}
        required = [name for part in parts for name in part.get("required", [])]
        required += self._required_by_branch(schema)
        barred = _barred_by_one_of(schema, required)
        made: dict[str, Any] = {}
        for name, sub in properties.items():
            if name in required or (depth < _DEEP and name not in barred and self._rng.random() < 0.4):
                made[name] = self.value(sub, name, depth)
        for part in parts:
            self._obey_condition(part, properties, made, depth)
        for name, needed in schema.get("dependentRequired", {}).items():
            if name in made:
                self._add(needed, properties, made, depth)
        self._add_free_properties(schema, made, depth)
        return {name: made[name] for name in [*properties, *made] if name in made}

    def _required_by_branch(self, schema: Json) -> list[str]:
        branches = [*schema.get("oneOf", []), *schema.get("anyOf", [])]
        return list(self._rng.choice(branches)["required"]) if branches else []

    def _obey_condition(self, part: Json, properties: Json, made: dict[str, Any], depth: int) -> None:
        if "if" not in part:
            return
        holds = all(made.get(name) == sub["const"] for name, sub in part["if"]["properties"].items())
        consequence = part.get("then" if holds else "else", {})
        self._add(consequence.get("required", []), properties, made, depth)
        for name in consequence.get("not", {}).get("required", []):
            made.pop(name, None)

    def _add(self, names: list[str], properties: Json, made: dict[str, Any], depth: int) -> None:
        for name in names:
            if name not in made:
                made[name] = self.value(properties[name], name, depth)

    def _add_free_properties(self, schema: Json, made: dict[str, Any], depth: int) -> None:
        for pattern, sub in schema.get("patternProperties", {}).items():
            made[self._rng.choice(ARGUMENT_VALUES["by_pattern"][pattern])] = self.value(sub, "", depth)
        free = schema.get("additionalProperties")
        if isinstance(free, dict):
            made[self._words("name")] = self.value(free, "", depth)


def _barred_by_one_of(schema: Json, required: list[str]) -> list[str]:
    """Name the properties that would make a second branch of `oneOf` true."""
    of_branches = [name for branch in schema.get("oneOf", []) for name in branch["required"]]
    return [name for name in of_branches if name not in required]
