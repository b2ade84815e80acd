"""The vendors of a matrix: YAML or JSON, `provider.json` of MiniMax-Provider-Verifier included."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from k2_verifier_adapter.core.json_text import number, shown
from k2_verifier_adapter.core.observed import Prices
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.formats.config import expand, read_text, values_of
from k2_verifier_adapter.formats.files import check_name

PAGE = "matrix"
"""What the files of the page are named by, which lie beside the vendors' folders."""

OF_A_VENDOR = ("model", "model_id", "api_url", "api_key")
"""Settings of a task that are each vendor's own; in a task file they are meant for single runs."""

_LIST = "vendors"
_DEEPEST = 4
"""Levels of the file whose lines are noted: headers and their names are the deepest that a message names."""

_SYNONYMS = {"base_url": "api_url", "default_headers": "headers"}
"""What MiniMax-Provider-Verifier calls fields; its `api_key` holds the key itself."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NO_KEY = re.compile(r"[A-Z][A-Z0-9]{0,15}(_[A-Z0-9]{1,15})*")
"""What is a variable's name for sure; anything else may be the key itself, which no message shows."""

_NUMBERS = {
    "concurrency": (int, 1),
    "retries": (int, 0),
    "timeout": (float, 0),
    "requests_per_minute": (float, 0),
    "max_requests": (int, 1),
    "max_total_tokens": (int, 1),
    "max_minutes": (float, 0),
    "price_in": (float, 0),
    "price_out": (float, 0),
}
"""Fields that are numbers: of which kind, and the least; a float is above it, unless it is a price."""

_LIMITS = ("requests_per_minute", "max_requests", "max_total_tokens", "max_minutes")
_FIELDS = ("name", "model", "api_url", "key", "api_key", "headers", "extra_body", *_NUMBERS)
_SECRET = frozenset({"key", "api_key", "headers", "default_headers"})


@dataclass(frozen=True, slots=True)
class Vendor:
    """One endpoint of a matrix.

    Attributes:
        where: File, line and name, for messages.
        api_key: The key itself; None if it needs none.
        limits: Its own pace and budget, by the names of the benchmark's parameters.
        timeout: Seconds without progress, or None for the task's.
    """

    where: str
    name: str
    model: str
    api_url: str
    api_key: str | None
    headers: Mapping[str, str]
    extra_body: Mapping[str, Any]
    concurrency: int | None
    retries: int | None
    timeout: float | None
    limits: Mapping[str, float]
    prices: Prices


def read_vendors(
    path: Path, environment: Mapping[str, str] | None = None, only: Sequence[str] = ()
) -> list[Vendor]:
    """Read a vendor file: a list of vendors, or a mapping that holds one as `vendors`; or only some of it.

    `${NAME}` and `${NAME:-default}` in values come from the environment, by default the process's own.

    Raises:
        UsageError: For the first thing in it that cannot be used, with file, line and field.
    """
    return _VendorFile(Path(path), os.environ if environment is None else environment).vendors(only)


class _VendorFile:
    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self._path, self._environment = path, environment
        text = read_text(path)
        self._content = values_of(path, text)
        self._lines: dict[str, int] = {}
        self._twice: list[str] = []
        # Of JSON that is no YAML, a tab in it for one, the lines stay unknown.
        try:
            self._note_lines(yaml.compose(text, Loader=yaml.SafeLoader), "")
        except (yaml.YAMLError, RecursionError):
            self._lines.clear()

    def _note_lines(self, node: yaml.Node | None, path: str, depth: int = 0) -> None:
        if node is None or depth > _DEEPEST:
            return
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            for place, item in enumerate(node.value):
                self._note_lines(item, f"{path}[{place}]", depth + 1)
        elif isinstance(node, yaml.MappingNode):
            for key, item in node.value:
                inside = f"{path}.{key.value}" if path else str(key.value)
                if inside in self._lines:
                    self._twice.append(inside)
                self._lines[inside] = key.start_mark.line + 1
                self._note_lines(item, inside, depth + 1)

    def _where(self, field: str) -> str:
        """Give file and line of a field; of one that is missing, those of what should hold it."""
        while field not in self._lines and field:
            field = field[: max(field.rfind("."), field.rfind("["), 0)]
        line = self._lines.get(field)
        return str(self._path) if line is None else f"{self._path}: line {line}"

    def _refuse(self, field: str, what: str) -> UsageError:
        return UsageError(f"{self._where(field)}: {field or 'the file'} {what}")

    def vendors(self, only: Sequence[str]) -> list[Vendor]:
        """Read those of these names, or all; what others need is not asked for."""
        if self._twice:
            raise self._refuse(self._twice[0], "stands twice; leave one of the two out")
        content, base = self._content, ""
        if isinstance(content, dict):
            self._check_names(content, "", (_LIST,))
            content, base = content.get(_LIST), _LIST
        if not isinstance(content, list) or not content:
            found = "nothing" if not content else shown(type(content).__name__)
            raise self._refuse(
                base, f"holds {found}, expected a list of vendors, each with name, model and api_url"
            )
        items = {f"{base}[{place}]": item for place, item in enumerate(content)}
        names = {path: item.get("name") for path, item in items.items() if isinstance(item, dict)}
        for name in only:
            if name not in names.values():
                known = ", ".join(map(str, names.values()))
                raise UsageError(f"{self._path}: holds no vendor {name!r}; known are {known}")
        chosen = {path: item for path, item in items.items() if not only or names.get(path) in only}
        return list(self._distinct(self._vendor(item, path) for path, item in chosen.items()))

    def _distinct(self, vendors: Iterator[Vendor]) -> Iterator[Vendor]:
        names: dict[str, str] = {}
        for place, vendor in enumerate(vendors):
            # Some file systems do not tell them apart.
            earlier = names.setdefault(vendor.name.casefold(), vendor.name)
            if len(names) == place:
                raise UsageError(
                    f"{vendor.where}: the name is taken by {earlier!r} above, and names a folder; "
                    "give another"
                )
            yield vendor

    def _check_names(self, given: Mapping[Any, Any], path: str, known: tuple[str, ...]) -> None:
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(str(name).lower().replace("-", "_"), known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
                raise self._refuse(f"{path}.{name}" if path else str(name), f"is unknown; {hint}")

    def _vendor(self, item: Any, path: str) -> Vendor:
        if not isinstance(item, dict):
            raise self._refuse(path, f"is {shown(item)}, expected a vendor: name, model, api_url and so on")
        fields: dict[str, Any] = {}
        self._check_names(item, path, (*_FIELDS, *_SYNONYMS))
        for name, value in item.items():
            meant = str(_SYNONYMS.get(name, name))
            if meant in fields or (meant == "api_key" and "key" in item):
                other = "key" if meant == "api_key" else meant
                raise self._refuse(f"{path}.{name}", f"says the same as {other}; leave one of the two out")
            fields[meant] = None if value is None else self._expanded(value, f"{path}.{name}")
        names = {meant: name for name, meant in _SYNONYMS.items() if name in item}
        read = _Fields(self, path, fields, names)
        name = read.text("name", required=True)
        try:
            check_name(f"{path}.name", name)
        except UsageError as error:
            raise UsageError(f"{self._where(f'{path}.name')}: {error}") from None
        if name.casefold().startswith(f"{PAGE}."):
            raise self._refuse(f"{path}.name", f"is {name!r}, by which the page is named; give another")
        numbers = {number: read.number(number) for number in _NUMBERS}
        return Vendor(
            where=f"{self._where(path)}: vendor {name!r}",
            name=name,
            model=read.text("model", required=True),
            api_url=read.text("api_url", required=True),
            api_key=self._key(read.text("key"), f"{path}.key") or read.text("api_key") or None,
            headers=read.headers(),
            extra_body=read.mapping("extra_body"),
            concurrency=numbers["concurrency"],
            retries=numbers["retries"],
            timeout=numbers["timeout"],
            limits={limit: value for limit in _LIMITS if (value := numbers[limit]) is not None},
            prices=Prices(numbers["price_in"], numbers["price_out"]),
        )

    def _expanded(self, value: Any, path: str) -> Any:
        missing: dict[str, str] = {}
        expanded = expand(value, path, self._environment, missing)
        if missing:
            field, variable = next(iter(missing.items()))
            raise self._refuse(
                field,
                f"needs the environment variable {variable}, which is not set; set it (export "
                f"{variable}=...), or give a default in the file: ${{{variable}:-value}}",
            )
        return expanded

    def _key(self, variable: str, path: str) -> str | None:
        if not variable:
            return None
        if not _VARIABLE.fullmatch(variable):
            raise self._refuse(
                path, "is no name of an environment variable, such as VENDOR_KEY (not shown: it may be a key)"
            )
        key = self._environment.get(variable)
        if not key:
            said = f"{variable}, which is not set; set it (export {variable}=...)"
            if not _NO_KEY.fullmatch(variable):
                said = "that it names, which is not set (not shown: it may be the key itself)"
            raise self._refuse(path, f"needs the environment variable {said}")
        return key

    def refuse_value(self, field: str, value: Any, expected: str) -> UsageError:
        """Say what a field holds, unless it may be secret, and what it should."""
        secret = not _SECRET.isdisjoint(re.split(r"[.\]]", field))
        found = f"holds {type(value).__name__}" if secret else f"is {shown(value)}"
        return self._refuse(field, f"{found}, expected {expected}")


@dataclass(frozen=True, slots=True)
class _Fields:
    """The fields of one vendor, by this package's names; `names` has those that the file calls otherwise."""

    file: _VendorFile
    path: str
    values: Mapping[str, Any]
    names: Mapping[str, str]

    def _refuse(self, name: str, expected: str) -> UsageError:
        field = f"{self.path}.{self.names.get(name, name)}"
        return self.file.refuse_value(field, self.values.get(name), expected)

    def text(self, name: str, *, required: bool = False) -> str:
        """Give a text, empty if there is none."""
        value = self.values.get(name)
        if (value is None or value == "") and not required:
            return ""
        if not isinstance(value, str) or not value.strip():
            raise self._refuse(name, "a text" if name not in self.values else "a text that is not empty")
        return value

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Give an object, empty if there is none."""
        value = self.values.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise self._refuse(name, "names with their values")
        return value

    def headers(self) -> Mapping[str, str]:
        """Give the headers, numbers as texts."""
        found = self.mapping("headers")
        for value in found.values():
            if not isinstance(value, (str, int, float)) or isinstance(value, bool):
                raise self._refuse("headers", "names with texts")
        return {name: str(value) for name, value in found.items()}

    def number(self, name: str) -> Any:
        """Give a number of the field's kind, None if there is none."""
        value, (kind, least) = self.values.get(name), _NUMBERS[name]
        if value is None:
            return None
        is_price = name.startswith("price")
        expected = f"a number of at least {least}" if is_price else f"a number above {least}"
        if kind is int:
            expected = f"a whole number of at least {least}"
        try:
            found = number(value)
        except TypeError:
            raise self._refuse(name, expected) from None
        is_large_enough = found >= least if kind is int or is_price else found > least
        if not is_large_enough or (kind is int and not found.is_integer()):
            raise self._refuse(name, expected)
        return kind(value)
