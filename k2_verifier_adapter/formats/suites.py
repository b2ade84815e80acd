"""Suites of probes: the bundled ones, users' files, walle's directories of schemas, KVV's token cases.

A file of a suite holds one JSON object a line: a probe (`core.conformance.probes`), or one of KVV's
prompt-token cases. A directory holds walle's cases: `SUITE/valid.jsonl` or `SUITE.jsonl`, one schema a line.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k2_verifier_adapter.core.conformance.probes import (
    Mode,
    Probe,
    ProbeCase,
    ProbeError,
    SchemaLeftOutError,
    cases_of,
    decode_probe,
)
from k2_verifier_adapter.core.json_text import shown
from k2_verifier_adapter.core.model_profiles import ModelProfile
from k2_verifier_adapter.data import BUNDLED_SUITES, read_data
from k2_verifier_adapter.errors import DataError, UsageError
from k2_verifier_adapter.formats.files import atomic_write
from k2_verifier_adapter.formats.lines import json_objects, open_lines, stem_of

_MOST_SHOWN = 10
_OVERCOUNT = 3
"""Tokens beyond the expected ones that KVV accepts: the generation stub, which some servers count."""


@dataclass(frozen=True, slots=True)
class Suite:
    """The probes of one suite for one model.

    Attributes:
        sha256: Digest of the probes as they are asked.
        left_out: What of it is not asked, and why: reason to number.
    """

    name: str
    source: str
    probes: tuple[Probe, ...]
    sha256: str
    left_out: Mapping[str, int]


def suite_names(sources: Iterable[str]) -> dict[str, str]:
    """Name suites: a bundled one by itself, a file or directory by its stem; to each, where it comes from.

    Raises:
        UsageError: If one is neither, or two have the same name.
    """
    found: dict[str, str] = {}
    for source in sources:
        path = Path(source).expanduser()
        if source in BUNDLED_SUITES:
            name = source
        elif path.exists():
            name = stem_of(path)
        else:
            close = difflib.get_close_matches(source, BUNDLED_SUITES, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"bundled are {', '.join(BUNDLED_SUITES)}"
            raise UsageError(f"suite {source!r} is neither a bundled one nor a file or directory; {hint}")
        if name in found:
            raise UsageError(f"two suites are called {name!r}: {found[name]} and {source}; rename one")
        found[name] = source
    return found


def load_suite(name: str, source: str, profile: ModelProfile) -> Suite:
    """Read a suite for a model; what of it is for other models is left out.

    Raises:
        DataError: If it cannot be read or holds no probe, or a line cannot be used; the lines are named.
    """
    problems: list[str] = []
    left_out: Counter[str] = Counter()
    probes: dict[str, Probe] = {}
    lines = 0
    for place, value in _lines(source):
        lines += 1
        try:
            if isinstance(value, ValueError):
                raise value
            probe = decode_probe(_written_out(value), name, profile)
            if probe.id in probes:
                raise ProbeError("id", f"{probe.id!r} occurs twice")
        except SchemaLeftOutError as error:
            left_out[str(error)] += 1
        except ValueError as error:
            problems.append(f"{place}: {error}")
        else:
            probes[probe.id] = probe
    if problems:
        more = f"; and {len(problems) - _MOST_SHOWN} more" if len(problems) > _MOST_SHOWN else ""
        raise DataError(
            f"suite {name!r}: {'; '.join(problems[:_MOST_SHOWN])}{more}. Correct or remove them; nothing was "
            "sent."
        )
    if not lines:
        raise DataError(f"suite {name!r}: {source} holds no probes; expected one JSON object a line")
    asked = tuple(probe for probe in probes.values() if probe.is_for(profile))
    others = len(probes) - len(asked)
    if others:
        left_out[f"for other models than {profile.title}"] = others
    _check_named(name, asked)
    text = "\n".join(json.dumps(probe.as_json(), sort_keys=True) for probe in asked)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Suite(name, source, asked, digest, dict(left_out))


def _check_named(name: str, probes: Iterable[Probe]) -> None:
    """Refuse a probe that names one that is not asked, or that continues one which continues another."""
    asked = {probe.id: probe for probe in probes}
    for probe in asked.values():
        for field, named in (
            ("expect.same_as", probe.expect.get("same_as")),
            ("continues", probe.continues or None),
        ):
            if named is not None and named not in asked:
                raise DataError(
                    f"suite {name!r}: {probe.id}: field {field!r}: {named!r} is no probe of the suite; "
                    "nothing was sent"
                )
        if probe.continues and asked[probe.continues].continues:
            raise DataError(
                f"suite {name!r}: {probe.id}: field 'continues': {probe.continues!r} continues another one; "
                "nothing was sent"
            )


def _lines(source: str) -> Iterator[tuple[str, dict[str, Any] | ValueError]]:
    """Give the objects of a suite, each with where it stands."""
    if source in BUNDLED_SUITES:
        text = read_data(f"suites/{source}.jsonl").encode()
        for number, value in json_objects(text.splitlines(keepends=True)):
            yield f"{source}.jsonl line {number}", value
        return
    path = Path(source).expanduser()
    if path.is_dir():
        yield from _schemas(path)
        return
    with open_lines(path) as lines:
        for number, value in json_objects(lines):
            yield f"{path} line {number}", value


def _schemas(folder: Path) -> Iterator[tuple[str, dict[str, Any] | ValueError]]:
    """Give walle's schemas as probes; every suite's `valid.jsonl`, or a file of its own for each."""
    nested = sorted(path for path in folder.glob("*/valid.jsonl") if path.is_file())
    named = [(path.parent.name, path) for path in nested] or [
        (path.stem, path) for path in sorted(folder.glob("*.jsonl"))
    ]
    if not named:
        raise DataError(f"{folder}: holds no schemas, expected SUITE/valid.jsonl or SUITE.jsonl")
    for suite, path in named:
        with open_lines(path) as lines:
            for number, value in json_objects(lines):
                place = f"{path} line {number}"
                if isinstance(value, ValueError):
                    yield place, value
                else:
                    why = "an argument schema that Moonshot's flavour allows is held to"
                    made = {"id": f"{suite}:{number}", "schema": value, "why": why, "source": "walle"}
                    yield place, made


def _written_out(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a probe of one of KVV's prompt-token cases; give any other line as it is."""
    if "expected_prompt_tokens" not in value:
        return value
    expected, request = value["expected_prompt_tokens"], value.get("request")
    if not isinstance(expected, int) or isinstance(expected, bool):
        raise ProbeError("expected_prompt_tokens", f"{shown(expected, 60)} is not a whole number")
    if not isinstance(request, dict):
        raise ProbeError("request", f"{shown(request, 60)} is not an object")
    if "fixture://" in json.dumps(request.get("messages")):
        raise SchemaLeftOutError("a prompt with an image fixture, whose file is KVV's")
    kept = {name: item for name, item in request.items() if name not in ("model", "stream")}
    return {
        "id": value.get("id"),
        "modes": [Mode.STREAM.value],
        "request": kept,
        "expect": {"prompt_tokens": [expected, expected + _OVERCOUNT]},
        "why": value.get("description") or "the prompt is rendered as by the reference",
        "source": "KVV testdata/prompt_token_cases",
    }


# --- of a run ------------------------------------------------------------------------------------


def write_probes(path: Path, suite: Suite, cases: Iterable[ProbeCase]) -> None:
    """Write down what a run asks: the suite's own facts, then one line for each case, in their order."""
    head = {"source": suite.source, "sha256": suite.sha256, "left_out": dict(suite.left_out)}
    with atomic_write(path) as file:
        for value in (head, *({**case.probe.as_json(), "mode": case.mode.value} for case in cases)):
            file.write(json.dumps(value).encode() + b"\n")


def read_probes(path: Path, name: str, profile: ModelProfile) -> tuple[list[ProbeCase], Mapping[str, int]]:
    """Read back what a run asked, and what it left out; a `DataError` if the file is damaged."""
    try:
        with open_lines(path) as lines:
            read: list[Any] = [value for _, value in json_objects(lines)]
        head, *values = read
        left_out = {str(reason): int(number) for reason, number in head["left_out"].items()}
        cases: list[ProbeCase] = []
        for value in values:
            mode = Mode(value.pop("mode"))
            probe = decode_probe(value, name, profile)
            (case,) = cases_of([probe], profile, [mode], first=len(cases))
            cases.append(case)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged: {error!r}") from None
    return cases, left_out
