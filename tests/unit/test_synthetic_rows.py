"""The synthetic rows are what the docs promise: deterministic, valid, and as odd as real rows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.history import HistoryOptions, MalformedHistory
from k2_verifier_adapter.data import bundled_rows_path
from k2_verifier_adapter.formats.rows import load_cases
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
SCHEMA_WORDS = """
    $ref $defs $schema enum const items anyOf oneOf allOf not if then else pattern format minimum maximum
    exclusiveMinimum multipleOf minLength maxLength minItems maxItems uniqueItems default patternProperties
    additionalProperties dependentRequired definitions
"""


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


SCHEMAS = [function["parameters"] for function in FUNCTIONS if function.get("parameters")]
CALLS = [(call, [tool["function"]["name"] for tool in tools]) for tools, call in historical_calls()]
NODES = [value for value in nested(SCHEMAS) if isinstance(value, dict)]
FEATURES = {
    "several system messages": (REQUESTS, lambda request: sum(m["role"] == "system" for m in request[0]) > 1),
    "name on a system message": (MESSAGES, lambda m: m["role"] == "system" and "name" in m),
    "name on a tool message": (MESSAGES, lambda m: m["role"] == "tool" and "name" in m),
    "tool message without name": (MESSAGES, lambda m: m["role"] == "tool" and "name" not in m),
    "assistant without content": (MESSAGES, lambda m: "tool_calls" in m and "content" not in m),
    "assistant with null content": (MESSAGES, lambda m: m.get("content", "") is None),
    "content parts": (MESSAGES, lambda m: isinstance(m.get("content"), list)),
    "role _input": (MESSAGES, lambda m: m["role"] == "_input"),
    "role developer": (MESSAGES, lambda m: m["role"] == "developer"),
    "call without id": (CALLS, lambda item: "id" not in item[0]),
    "call with a foreign id": (CALLS, lambda item: item[0].get("id", "").startswith("call_")),
    "unknown tool": (CALLS, lambda item: item[0]["function"]["name"] not in item[1]),
    "malformed arguments": (CALLS, lambda item: not is_json(item[0]["function"]["arguments"])),
    "tool without description": (FUNCTIONS, lambda function: "description" not in function),
    "tool without parameters": (FUNCTIONS, lambda function: "parameters" not in function),
    "tool with empty parameters": (FUNCTIONS, lambda function: function.get("parameters") == {}),
    "union type": (NODES, lambda node: node.get("type") == ["string", "null"]),
    "boolean schema": (SCHEMAS, lambda schema: any(v is True for v in schema["properties"].values())),
    "array without items": (NODES, lambda node: node.get("type") == "array" and "items" not in node),
    "recursive reference": (
        SCHEMAS,
        lambda schema: any(
            f'{{"$ref": "#/$defs/{name}"}}' in json.dumps(v) for name, v in schema.get("$defs", {}).items()
        ),
    ),
    "draft-07": (SCHEMAS, lambda schema: "draft-07" in schema.get("$schema", "")),
    "2020-12": (SCHEMAS, lambda schema: "2020-12" in schema.get("$schema", "")),
    "Chinese argument names": (SCHEMAS, lambda schema: any(map(CJK.search, schema["properties"]))),
    "big integer": (list(nested(SCHEMAS)), lambda value: isinstance(value, int) and value > 2**53),
    "number spelled 1.0": (ROWS, lambda row: '"default": 1.0' in row["tools"]),
    "number spelled 1e3": (ROWS, lambda row: '"default": 1e3' in row["tools"]),
    "emoji": (ROWS, lambda row: EMOJI.search(row["messages"])),
    "escapes of Chinese": (
        ROWS,
        lambda row: re.search(r"\\u[4-9][0-9a-f]{3}", row["messages"]) and not CJK.search(row["messages"]),
    ),
    "lone surrogate": (ROWS, lambda row: r"\ud83d" in row["messages"] and not EMOJI.search(row["messages"])),
    "compact JSON": (ROWS, lambda row: '[{"role":' in row["messages"] and '": ' not in row["tools"]),
    "parallel calls": (ROWS, lambda row: len(json.loads(row["official_tool_calls"] or "[]")) == 3),
    "finish_reason length": (ROWS, lambda row: row["official_finish_reason"] == "length"),
    "row parameters": (ROWS, lambda row: row["parameters"] is not None),
    **{f"keyword {word}": (NODES, lambda node, word=word: word in node) for word in SCHEMA_WORDS.split()},
}


@pytest.mark.parametrize("feature", FEATURES)
def test_each_oddity_of_real_rows_occurs(feature: str) -> None:
    """Every oddity of real rows, and every schema keyword that a vendor may trip over, is in the bundled rows."""
    things, has = FEATURES[feature]
    assert any(map(has, things))


def test_bundled_file_is_the_generators_output() -> None:
    """The committed file equals what the generator writes, byte for byte."""
    assert bundled_rows_path().read_bytes() == "".join(map(write_row, ROWS)).encode()


def test_the_digest_is_that_of_every_version() -> None:
    """Runs of any version over the same rows can be compared: this is what their `run.json` holds."""
    info = load_cases(bundled_rows_path(), "k2_thinking", HistoryOptions()).info
    assert info.sha256 == "19c3bdccf22d542d02350c9dfad7bf4c5d50cbe46a353bfa5ae6d1320431d394"


def test_other_process_and_prefix_give_the_same_rows(tmp_path: Path) -> None:
    """The command as documented, with another hash seed and asked for fewer rows, writes the same first rows."""
    program, output = Path(__file__).parents[2] / "tools" / "synthetic", tmp_path / "rows.jsonl"
    command = [sys.executable, program, "--count", "50", "--output", output]
    subprocess.run(command, check=True, cwd=tmp_path, env={"PYTHONHASHSEED": "7"})
    assert output.read_bytes() == "".join(map(write_row, ROWS[:50])).encode()


def test_seeds_differ() -> None:
    """Another seed gives other rows."""
    assert list(generate_rows(20, BUNDLED_SEED + 1)) != ROWS[:20]


def test_the_rows_are_spread_as_in_the_official_set() -> None:
    """Sizes, tools, languages and decisions are as the documents say; decision, finish and calls agree in each row."""
    sizes = [len(row["messages"]) + len(row["tools"]) for row in ROWS]
    assert 155 <= min(sizes) <= 165
    assert 35_000 <= max(sizes) <= 37_000
    assert 4_000 <= sum(sizes) / len(sizes) <= 4_600
    assert {len(tools) for _, tools in REQUESTS} == set(range(1, 13))
    assert 0.48 <= sum(row["should_call_tool"] for row in ROWS) / len(ROWS) <= 0.52
    chinese = [bool(CJK.search(json.dumps(messages, ensure_ascii=False))) for messages, _ in REQUESTS]
    assert 0.45 <= sum(chinese) / len(ROWS) <= 0.55
    malformed = [
        any(not is_json(call["function"]["arguments"]) for m in messages for call in m.get("tool_calls", []))
        for messages, _ in REQUESTS
    ]
    assert 0.03 <= sum(malformed) / len(ROWS) <= 0.05
    for row in ROWS:
        assert row["should_call_tool"] == (row["official_finish_reason"] == "tool_calls")
        assert row["should_call_tool"] == (row["official_tool_calls"] is not None)
        assert row["should_call_tool"] == (row["official_content"] is None)


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
    rows = list(generate_rows(200, 11, distinct_tools=distinct)) + ROWS
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
    assert seen > 200


def test_schemas_and_well_formed_history_are_valid() -> None:
    """No tool schema is broken, and history calls with JSON arguments obey the schema of a declared tool."""
    for schema in map(json.loads, set(map(json.dumps, SCHEMAS))):
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
    """The mean size of 240 requests is within 15 % of what was asked for."""
    rows = generate_rows(240, 3, mean_chars=mean)
    measured = sum(len(row["messages"]) + len(row["tools"]) for row in rows) / 240
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
