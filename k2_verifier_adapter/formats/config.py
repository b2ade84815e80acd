"""Task files for `k2-verifier eval --config`: YAML or JSON, with `${NAME}` from the environment."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import yaml

from k2_verifier_adapter.errors import UsageError

_REFERENCE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


_QUOTED = re.compile(r"(['\"]).*\1|#x[0-9a-f]+", re.DOTALL)
"""What a message says between its first quotation mark and the last one of that kind."""


def load_config(
    path: Path, environment: Mapping[str, str] | None = None, *, without: Container[str] = ()
) -> dict[str, Any]:
    """Read a task file, some settings left out, and fill in the environment.

    `${NAME}` inside a string value becomes the variable's value; `${NAME:-default}` the default where the
    variable is unset or empty. It happens after parsing, so that no value, however odd, changes the structure
    of the file. Keys are left alone. A `.json` file is read as JSON, any other as YAML; the environment is
    the process's own unless one is given.

    Raises:
        UsageError: If the file cannot be read or parsed, or names an unset variable without default.
    """
    path = Path(path)
    config = values_of(path, read_text(path))
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        shown = type(config).__name__
        raise UsageError(f"{path}: expected a mapping of settings, such as 'model: NAME', found {shown}")
    config = {name: value for name, value in config.items() if name not in without}
    missing: dict[str, str] = {}
    expanded = expand(config, "", os.environ if environment is None else environment, missing)
    if missing:
        listed = ", ".join(f"key {key!r} needs {name}" for key, name in missing.items())
        first = next(iter(missing.values()))
        raise UsageError(
            f"{path}: environment variable not set: {listed}; set it (export {first}=...), or give a "
            f"default in the file: ${{{first}:-value}}"
        )
    assert isinstance(expanded, dict)
    return expanded


def read_text(path: Path) -> str:
    """Read a file of settings, or raise `UsageError`."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not UTF-8: {error.reason} at byte {error.start}") from None


def values_of(path: Path, text: str) -> Any:
    """Parse a file of settings, or raise `UsageError` without showing what it holds."""
    try:
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        # PyYAML quotes the file, where a key may stand: tags, anchors, aliases, characters.
        problem = _QUOTED.sub("...", getattr(error, "problem", None) or "it holds a character that is none")
        raise UsageError(f"{path}: is not YAML: {where}{problem}") from None
    except RecursionError:
        raise UsageError(f"{path}: nested too deeply") from None
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}: is not JSON: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError):
        # PyYAML's, of a value such as `!!int sk-...`, which the message quotes.
        raise UsageError(f"{path}: a value is not what its tag says, or is too long a number") from None


def expand(value: Any, key: str, environment: Mapping[str, str], missing: dict[str, str]) -> Any:
    """Fill the environment in; of a variable that is not set, `missing` notes the key that needs it."""
    if isinstance(value, dict):
        return {
            name: expand(item, f"{key}.{name}" if key else str(name), environment, missing)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [expand(item, f"{key}[{place}]", environment, missing) for place, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match[str]) -> str:
        found = environment.get(match["name"])
        if match["default"] is not None:
            return found or match["default"]
        if found is None:
            missing[key] = match["name"]
            return ""
        return found

    return _REFERENCE.sub(replacement, value)
