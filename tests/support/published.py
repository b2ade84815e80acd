"""Published JSON Schemas, and documents that have a name too much or one too few."""

import copy
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator


class Published:
    """A schema of the package."""

    def __init__(self, name: str) -> None:
        """Read it, and see that it is one."""
        file = resources.files("k2_verifier_adapter.reports").joinpath("schema", f"{name}.schema.json")
        self.content = json.loads(file.read_text(encoding="utf-8"))
        Draft202012Validator.check_schema(self.content)
        assert self.content["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        self._validator = Draft202012Validator(self.content)

    def problems(self, document: Any) -> list[Any]:
        """List what the schema says against a document."""
        return [(list(error.absolute_path), error.message) for error in self._validator.iter_errors(document)]

    def accepts(self, document: Any) -> bool:
        """Whether the schema says nothing against a document."""
        return self._validator.is_valid(document)

    def accepted_changes(self, document: Any, *free: str) -> list[Any]:
        """List the changes of a sound document that the schema accepts: a member more or less, anywhere.

        Args:
            document: The document.
            free: Objects whose members may be missing; `name: *` for those that may have any.
        """
        assert self.accepts(document)
        found = []
        for path in _objects(document):
            open_names = {name.removesuffix(": *") for name in free if name.endswith(": *")}
            if open_names & set(path):
                continue
            names = [] if set(path[-1:]) & set(free) else list(at(document, path))
            for name in [*names, "unpublished"]:
                changed = copy.deepcopy(document)
                if at(changed, path).pop(name, self) is self:
                    at(changed, path)[name] = 1
                if self.accepts(changed):
                    found.append((*path, name))
        return found


def _objects(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Walk through all objects of a document, of a list through the first two."""
    if isinstance(value, dict):
        yield path
    items = (
        value.items() if isinstance(value, dict) else enumerate(value[:2] if isinstance(value, list) else ())
    )
    for key, item in items:
        yield from _objects(item, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """Follow a path."""
    for step in path:
        value = value[step]
    return value
