"""The synthetic rows are what the docs promise: deterministic, valid, and as odd as real rows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.history import HistoryOptions, MalformedHistory
from k2_verifier_adapter.data import bundled_rows_path
from synthetic.__main__ import BUNDLED_COUNT, BUNDLED_SEED, main, write_atomically
from synthetic.rows import generate_rows, write_row

CJK = re.compile("[\u4e00-\u9fff]")
EMOJI = re.compile("[\U0001f300-\U0001faff]")
ROWS = list(generate_rows(BUNDLED_COUNT, BUNDLED_SEED))
REQUESTS: list[tuple[list[Any], list[Any]]] = [
    (json.loads(row["messages"]), json.loads(row["tools"])) for row in ROWS
]
MESSAGES = [message for messages, _ in REQUESTS for message in messages]
FUNCTIONS = [tool["function"] for _, tools in REQUESTS for tool in tools]
SCHEMA_WORDS = (
    "$ref",
    "$defs",
    "$schema",
    "enum",
    "const",
    "items",
    "anyOf",
    "oneOf",
    "allOf",
    "not",
    "if",
    "then",
    "else",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
    "default",
    "patternProperties",
    "additionalProperties",
    "dependentRequired",
    "definitions",
)


def nested(value: Any) -> Iterator[Any]:
    """Yield a JSON value and all values in it."""
    yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nested(item)


def historical_calls() -> list[tuple[list[Any], dict[str, Any]]]:
    """Pair every call of every history with its row's tools."""
    return [
        (tools, call)
        for messages, tools in REQUESTS
        for message in messages
        for call in message.get("tool_calls", [])
    ]


def is_json(text: str) -> bool:
    """Whether a text parses."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def kind_of_malformed(text: str) -> str:
    """Name what is wrong with a text that is not JSON, without knowing how it was made."""
    if not text:
        return "empty"
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError:
        if not text.startswith("{"):
            return "plain_words"
        if text.startswith("{'"):
            return "single_quoted"
        return "truncated" if text.startswith('{"') else "unquoted_keys"
    return "concatenated" if text[end:].lstrip().startswith("{") else "trailing_text"


SCHEMAS = [function["parameters"] for function in FUNCTIONS if function.get("parameters")]
FEATURES = {
    "name on a system message": lambda: any(m["role"] == "system" and "name" in m for m in MESSAGES),
    "several system messages": lambda: any(
        sum(message["role"] == "system" for message in messages) > 1 for messages, _ in REQUESTS
    ),
    "name on a tool message": lambda: any(m["role"] == "tool" and "name" in m for m in MESSAGES),
    "tool message without name": lambda: any(m["role"] == "tool" and "name" not in m for m in MESSAGES),
    "assistant without content": lambda: any("tool_calls" in m and "content" not in m for m in MESSAGES),
    "assistant with null content": lambda: any(m.get("content", "") is None for m in MESSAGES),
    "content parts": lambda: any(isinstance(m.get("content"), list) for m in MESSAGES),
    "role _input": lambda: any(m["role"] == "_input" for m in MESSAGES),
    "role developer": lambda: any(m["role"] == "developer" for m in MESSAGES),
    "call without id": lambda: any("id" not in call for _, call in historical_calls()),
    "call with a foreign id": lambda: any(
        call.get("id", "").startswith("call_") for _, call in historical_calls()
    ),
    "unknown tool": lambda: any(
        call["function"]["name"] not in [tool["function"]["name"] for tool in tools]
        for tools, call in historical_calls()
    ),
    "tool without description": lambda: any("description" not in function for function in FUNCTIONS),
    "tool without parameters": lambda: any("parameters" not in function for function in FUNCTIONS),
    "tool with empty parameters": lambda: any(function.get("parameters") == {} for function in FUNCTIONS),
    "union type": lambda: any(
        isinstance(v, dict) and v.get("type") == ["string", "null"] for v in nested(SCHEMAS)
    ),
    "boolean schema": lambda: any(v is True for schema in SCHEMAS for v in schema["properties"].values()),
    "array without items": lambda: any(
        isinstance(v, dict) and v.get("type") == "array" and "items" not in v for v in nested(SCHEMAS)
    ),
    "nested object": lambda: any(
        v.get("type") == "object" for s in SCHEMAS for v in s["properties"].values() if v is not True
    ),
    "recursive reference": lambda: any(
        json.dumps({"$ref": f"#/$defs/{name}"}) in json.dumps(definition)
        for schema in SCHEMAS
        for name, definition in schema.get("$defs", {}).items()
    ),
    "draft-07 and 2020-12": lambda: (
        {schema.get("$schema") for schema in SCHEMAS}
        >= {"http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2020-12/schema"}
    ),
    "Chinese argument names": lambda: any(CJK.search(name) for s in SCHEMAS for name in s["properties"]),
    "big integer": lambda: any(isinstance(v, int) and v > 2**53 for v in nested(SCHEMAS)),
    "number spelled 1.0": lambda: any('"default": 1.0' in row["tools"] for row in ROWS),
    "number spelled 1e3": lambda: any('"default": 1e3' in row["tools"] for row in ROWS),
    "emoji": lambda: any(EMOJI.search(row["messages"]) for row in ROWS),
    "escapes of Chinese": lambda: any(
        re.search(r"\\u[4-9][0-9a-f]{3}", row["messages"]) and not CJK.search(row["messages"]) for row in ROWS
    ),
    "lone surrogate": lambda: any(
        r"\ud83d" in row["messages"] and EMOJI.search(row["messages"]) is None for row in ROWS
    ),
    "compact JSON": lambda: any('[{"role":' in row["messages"] for row in ROWS if '": ' not in row["tools"]),
    "parallel calls": lambda: any(len(json.loads(row["official_tool_calls"] or "[]")) == 3 for row in ROWS),
    "finish_reason length": lambda: any(row["official_finish_reason"] == "length" for row in ROWS),
    "row parameters": lambda: 2 <= sum(row["parameters"] is not None for row in ROWS) <= 6,
}


@pytest.mark.parametrize("feature", FEATURES)
def test_each_oddity_of_real_rows_occurs(feature: str) -> None:
    """Every oddity that real rows have is found in the bundled rows."""
    assert FEATURES[feature]()


@pytest.mark.parametrize("word", SCHEMA_WORDS)
def test_each_schema_keyword_occurs(word: str) -> None:
    """Every schema keyword that a vendor's schema compiler may trip over is used by some tool."""
    assert any(isinstance(value, dict) and word in value for value in nested(SCHEMAS))


def test_bundled_file_is_the_generators_output() -> None:
    """The committed file equals what the generator writes, byte for byte."""
    assert bundled_rows_path().read_bytes() == "".join(map(write_row, ROWS)).encode()


def test_other_process_and_prefix_give_the_same_rows(tmp_path: Path) -> None:
    """The command as documented, with another hash seed and asked for fewer rows, writes the same first rows."""
    program, output = Path(__file__).parents[2] / "tools" / "synthetic", tmp_path / "rows.jsonl"
    command = [sys.executable, program, "--count", "50", "--output", output]
    subprocess.run(command, check=True, cwd=tmp_path, env={"PYTHONHASHSEED": "7"})
    assert output.read_bytes() == "".join(map(write_row, ROWS[:50])).encode()


def test_seeds_differ() -> None:
    """Another seed gives other rows."""
    assert list(generate_rows(20, BUNDLED_SEED + 1)) != ROWS[:20]


def test_sizes_spread_as_in_the_official_set() -> None:
    """Requests have from 155 to about 36,000 characters, about 4,300 on average, and 1 to 12 tools."""
    sizes = [len(row["messages"]) + len(row["tools"]) for row in ROWS]
    tool_counts = {len(tools) for _, tools in REQUESTS}
    assert 155 <= min(sizes) <= 165
    assert 35_000 <= max(sizes) <= 37_000
    assert 4_000 <= sum(sizes) / len(sizes) <= 4_600
    assert tool_counts == set(range(1, 13))


def test_half_of_the_rows_call() -> None:
    """Half of the official answers are calls, and decision, finish_reason and calls agree in every row."""
    called = [row for row in ROWS if row["should_call_tool"]]
    assert 0.48 <= len(called) / len(ROWS) <= 0.52
    for row in ROWS:
        assert row["should_call_tool"] == (row["official_finish_reason"] == "tool_calls")
        assert row["should_call_tool"] == (row["official_tool_calls"] is not None)
        assert row["should_call_tool"] == (row["official_content"] is None)


def test_both_languages_are_about_equal() -> None:
    """About half of the conversations are Chinese, and the others have no Chinese character in the messages."""
    chinese = [bool(CJK.search(json.dumps(messages, ensure_ascii=False))) for messages, _ in REQUESTS]
    assert 0.45 <= sum(chinese) / len(ROWS) <= 0.55


def test_malformed_history_is_rare_and_of_many_kinds() -> None:
    """About 4 % of the rows have malformed historical arguments, of all seven kinds."""
    malformed = [
        (index, call["function"]["arguments"])
        for index, (messages, _) in enumerate(REQUESTS)
        for message in messages
        for call in message.get("tool_calls", [])
        if not is_json(call["function"]["arguments"])
    ]
    assert 0.03 <= len({index for index, _ in malformed}) / len(ROWS) <= 0.05
    kinds = Counter(kind_of_malformed(text) for _, text in malformed)
    assert set(kinds) == {
        "truncated", "empty", "single_quoted", "trailing_text", "concatenated", "plain_words", "unquoted_keys",
    }  # fmt: skip


def test_every_row_decodes() -> None:
    """Each row becomes a case marked synthetic, and with repairs off only `_input` changes it."""
    for index, row in enumerate(ROWS):
        assert decode_row(row, index, HistoryOptions()).synthetic
        kept = decode_row(row, index, HistoryOptions(malformed_history=MalformedHistory.KEEP))
        assert not kept.repairs.beyond_upstream
        if not kept.repairs.any:
            assert kept.messages_json == row["messages"].encode()
        assert row["synthetic"] is True


def official_calls(rows: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], int, dict[str, Any]]]:
    """Yield each official call with its row and the index that its id must have."""
    for row in rows:
        messages = json.loads(row["messages"])
        before = sum(len(message.get("tool_calls", [])) for message in messages)
        for index, call in zip(count(before), json.loads(row["official_tool_calls"] or "[]"), strict=False):
            yield row, index, call


@pytest.mark.parametrize("distinct", [False, True])
def test_official_calls_are_valid(distinct: bool) -> None:
    """Each official call passes upstream's rule, and its id counts on from the calls of the history."""
    rows = list(generate_rows(480, 11, distinct_tools=distinct)) + ROWS
    seen = 0
    for row, index, call in official_calls(rows):
        function = call["function"]
        first = next(
            t["function"] for t in json.loads(row["tools"]) if t["function"]["name"] == function["name"]
        )
        assert first["parameters"]
        jsonschema.validate(json.loads(function["arguments"]), first["parameters"])
        assert call["id"] == f"functions.{function['name']}:{index}"
        assert call["type"] == "function"
        seen += 1
    assert seen > 360


def test_schemas_and_well_formed_history_are_valid() -> None:
    """No tool schema is broken, and history calls with JSON arguments obey the schema of a declared tool."""
    for schema in SCHEMAS:
        jsonschema.validators.validator_for(schema).check_schema(schema)
    for tools, call in historical_calls():
        schemas = [
            t["function"]["parameters"] for t in tools if t["function"]["name"] == call["function"]["name"]
        ]
        if schemas and is_json(call["function"]["arguments"]):
            jsonschema.validate(json.loads(call["function"]["arguments"]), schemas[0])


def test_distinct_tools_have_pairwise_distinct_schemas() -> None:
    """With `distinct_tools` no schema of 300 rows equals another, so that no cache can serve two."""
    texts = [
        json.dumps(tool["function"]["parameters"], sort_keys=True)
        for row in generate_rows(300, 5, distinct_tools=True)
        for tool in json.loads(row["tools"])
        if tool["function"].get("parameters")
    ]
    assert len(texts) > 600
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("mean", [4_300, 8_500])
def test_mean_size_scales(mean: int) -> None:
    """The mean size of 480 requests is within 15 % of what was asked for."""
    rows = generate_rows(480, 3, mean_chars=mean)
    measured = sum(len(row["messages"]) + len(row["tools"]) for row in rows) / 480
    assert abs(measured / mean - 1) < 0.15


def test_lines_are_utf8_json_without_special_numbers() -> None:
    """Each line is UTF-8 JSON with Chinese as it is, and without NaN, and ends with a line feed only."""
    data = bundled_rows_path().read_bytes()
    assert b"\r" not in data
    assert data.count(b"\n") == BUNDLED_COUNT
    assert CJK.search(data.decode())
    for line in data.decode().splitlines():
        row = json.loads(line, parse_constant=pytest.fail)
        for field in ("messages", "tools"):
            json.loads(row[field], parse_constant=pytest.fail)


def test_command_writes_rows(tmp_path: Path) -> None:
    """The command writes the asked-for rows and leaves nothing else behind."""
    main(["--count", "7", "--seed", "3", "--output", str(tmp_path / "rows.jsonl")])
    lines = (tmp_path / "rows.jsonl").read_bytes()
    assert lines == "".join(map(write_row, generate_rows(7, 3))).encode()
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    """A generator that fails halfway leaves the old file as it was and no temporary file."""

    def failing() -> Iterator[dict[str, Any]]:
        yield from islice(ROWS, 3)
        raise RuntimeError("stop")

    path = tmp_path / "rows.jsonl"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="stop"):
        write_atomically(path, failing())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
