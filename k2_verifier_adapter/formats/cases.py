"""Cases as a run keeps them: one JSON line a case, gzipped, as they were sent."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from k2_verifier_adapter.core.cases import Case, OfficialAnswer
from k2_verifier_adapter.core.history import Repairs
from k2_verifier_adapter.core.json_text import json_object, text, text_or_none, whole
from k2_verifier_adapter.errors import DataError
from k2_verifier_adapter.formats.files import atomic_write
from k2_verifier_adapter.formats.lines import json_lines, open_lines


def case_as_json(case: Case) -> dict[str, Any]:
    """Give the stored form: the columns of the hosted format, plus position and repairs."""
    return {
        "index": case.index,
        "data_index": case.data_index,
        "messages": case.messages_json.decode(),
        "tools": None if case.tools_json is None else case.tools_json.decode(),
        "should_call_tool": case.official.should_call,
        "official_finish_reason": case.official.finish_reason,
        "official_tool_calls": case.official.tool_calls_json,
        "parameters": dict(case.parameters),
        "synthetic": case.synthetic,
        "repairs": {
            "malformed_history": case.repairs.malformed_history,
            "input_role": case.repairs.input_role,
            "tool_call_ids": case.repairs.tool_call_ids,
        },
    }


def case_from_json(value: Mapping[str, Any]) -> Case:
    """Read the stored form back.

    Raises:
        KeyError, TypeError, ValueError: If it is not one.
    """
    tools, index = text_or_none(value["tools"]), whole(value["index"])
    return Case(
        index=index,
        data_index=whole(value.get("data_index", index + 1)),
        messages_json=text(value["messages"]).encode(),
        tools_json=None if tools is None else tools.encode(),
        official=OfficialAnswer(
            bool(value["should_call_tool"]),
            text_or_none(value["official_finish_reason"]),
            text_or_none(value["official_tool_calls"]),
        ),
        parameters=json_object(value["parameters"]),
        repairs=Repairs(**{name: whole(count) for name, count in value["repairs"].items()}),
        synthetic=bool(value["synthetic"]),
    )


def write_cases(path: Path, cases: Iterable[Case]) -> None:
    """Write cases; the same cases give the same bytes."""
    with atomic_write(path) as raw, gzip.GzipFile("", "wb", 1, raw, mtime=0) as file:
        for case in cases:
            text = json.dumps(case_as_json(case), ensure_ascii=False)
            # An official answer may hold a lone surrogate; `json.loads` reads this form back.
            file.write(text.encode("utf-8", "surrogatepass") + b"\n")


def read_cases(path: Path) -> dict[int, Case]:
    """Read cases, by 0-based row number.

    Raises:
        DataError: If the file is missing or damaged.
    """
    if not path.exists():
        raise DataError(f"{path}: not found; the run directory is not complete")
    cases: dict[int, Case] = {}
    try:
        with open_lines(path) as lines:
            for _, value in json_lines(lines):
                case = case_from_json(value)
                cases[case.index] = case
    except (DataError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged after {len(cases)} cases: {error}") from None
    if not cases and path.stat().st_size == 0:
        # `gzip` reads an empty file as one without lines.
        raise DataError(f"{path}: damaged after 0 cases: the file is empty")
    return cases
