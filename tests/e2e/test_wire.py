"""What arrives at the vendor, sent by the stock command: the row itself, and parameters by precedence."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from support.raw_server import DONE, HELLO, STOP, RawServer, completion, reply, stream
from support.row_shapes import SHAPES, USER, call, ordered, with_schema
from support.runs import (
    EVALSCOPES_WARNINGS,
    KEY,
    MODEL,
    bundled_rows,
    evalscope_eval,
    evaluate,
    raises_cleanly,
    settings,
    stored,
    write_rows,
)

from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.evalscope_plugin.client.transport import Transport

pytestmark = EVALSCOPES_WARNINGS


async def _answers(arrival, writer):
    writer.write(stream(*HELLO, STOP, DONE) if arrival.json().get("stream") else reply(completion()))


REALDATA = os.environ.get("K2_VERIFIER_REALDATA")
REPAIRED = {
    "_input": (
        [{"role": "_input", "content": "ctx", "name": "n"}, USER],
        [{"role": "system", "content": "ctx", "name": "n"}, USER],
    ),
    "malformed": (
        [
            USER,
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [call('{"a": '), call("{'a': 1}"), call("[1]")],
            },
        ],
        [USER, {"role": "assistant", "content": "", "tool_calls": [call("{}"), call("{}"), call("[1]")]}],
    ),
}


@dataclass
class Sent:
    """A finished run against a recording server."""

    run: Path
    arrivals: list
    names: list[str]

    def body(self, name) -> bytes:
        """The bytes that arrived for a row; with one request at a time, rows arrive in order."""
        return self.arrivals[self.names.index(name)].body

    def fields(self, name) -> dict[str, Any]:
        """The same, decoded."""
        return json.loads(self.body(name))


def _row(messages, tools, *, as_text, **more):
    row = {"messages": messages, "tools": tools, "should_call_tool": False, "official_finish_reason": "stop"}
    if as_text:
        # As the hosted rows are written, and with an escape that must not matter.
        row["messages"] = json.dumps(messages, ensure_ascii=False, indent=1).replace("hi", "h\\u0069")
        row["tools"] = None if tools is None else json.dumps(tools)
    return {key: value for key, value in row.items() if key != "tools" or value is not None} | more


def _members(body):
    """Give the members of a body, with all that makes a difference."""
    return dict(ordered(body)[1])


@pytest.fixture(scope="module", params=["lists", "texts"])
def sent(request, tmp_path_factory):
    """Every shape, sent by the stock command, with the columns as lists and as JSON texts."""
    folder = tmp_path_factory.mktemp(request.param)
    shapes = {**SHAPES, **{name: (messages, []) for name, (messages, _) in REPAIRED.items()}}
    as_text = request.param == "texts"
    rows = [_row(*shape, as_text=as_text) for shape in shapes.values()]
    path = write_rows(folder / "rows.jsonl", rows)
    with RawServer(_answers).in_thread() as server:
        generation = {"stream": not as_text}
        done = evalscope_eval(
            server.url, folder / "run", path, eval_batch_size=1, generation_config=generation
        )
    assert done.returncode == 0, done.stderr
    assert len(server.arrivals) == len(rows)
    return Sent(folder / "run", server.arrivals, list(shapes))


@pytest.mark.parametrize("name", SHAPES)
def test_the_row_arrives_as_it_is(sent, name):
    """Messages and tools arrive equal to the row as JSON: key order, number spelling, absent and null kept."""
    messages, tools = SHAPES[name]
    body = _members(sent.body(name))
    assert body["messages"] == ordered(json.dumps(messages))
    if tools is None:
        assert "tools" not in body
    else:
        assert body["tools"] == ordered(json.dumps(tools))


@pytest.mark.parametrize("name", REPAIRED)
def test_only_the_declared_repairs_are_made(sent, name):
    """`_input` becomes `system` and arguments that are not JSON become `{}`; the rest of the row stays."""
    body = _members(sent.body(name))
    assert body["messages"] == ordered(json.dumps(REPAIRED[name][1]))


def test_nothing_else_is_sent(sent):
    """Beside model, messages, tools and the preset there is nothing: no tool_choice, no temperature 0.0."""
    first = sent.fields("messages: plain")
    rest = {key: value for key, value in first.items() if key not in ("messages", "tools")}
    streamed = (
        {"stream": True, "stream_options": {"include_usage": True}} if first["stream"] else {"stream": False}
    )
    assert rest == {"model": MODEL, "temperature": 1.0, "max_tokens": 64000, **streamed}
    assert next(iter(first)) == "model"


def test_the_headers_are_in_order(sent):
    """The key goes as bearer token, the body as JSON, and the user agent names this package."""
    headers = sent.arrivals[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("k2-verifier-adapter/")
    assert sent.arrivals[0].target == "/v1/chat/completions"
    assert not [name for name in headers if name.startswith("x-stainless")]


def test_repairs_are_counted(sent):
    """The run remembers which cases were repaired."""
    cases = stored(sent.run).cases
    assert sum(case.repairs.malformed_history for case in cases.values()) == 2
    assert sum(case.repairs.input_role for case in cases.values()) == 1


# --- options and parameters ----------------------------------------------------------------------

HISTORY = [
    USER,
    {"role": "assistant", "content": "", "tool_calls": [call('{"a": ', id="call_x")]},
    {"role": "tool", "tool_call_id": "call_x", "content": "x"},
    USER,
]


def _fields_sent(tmp_path, row=None, **changes):
    """Run one row in this process; give what arrived."""
    path = write_rows(tmp_path / "rows.jsonl", [row or _row([USER], [], as_text=True)])
    with RawServer(_answers).in_thread() as server:
        evaluate(changes.pop("url", server.url), tmp_path / "run", path, **changes)
    (arrival,) = server.arrivals
    return arrival.json(), arrival


RENAMED = json.loads(json.dumps(HISTORY).replace("call_x", "functions.f:0").replace('{\\"a\\": ', "{}"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"malformed_history": "keep"}, HISTORY), ({"normalize_tool_call_ids": True}, RENAMED)],
    ids=["keep", "normalize"],
)
def test_histories_are_repaired_as_asked(tmp_path, options, expected):
    """`keep` sends broken arguments as they stand; normalized ids are K2's, and the tool message follows."""
    row = _row(HISTORY, [], as_text=False)
    body, _ = _fields_sent(tmp_path, row, dataset_args={"extra_params": options})
    assert body["messages"] == expected


STREAMED = {"stream": True, "stream_options": {"include_usage": True}}
PRESET = {"temperature": 1.0, "max_tokens": 64000, **STREAMED}
ROWS_OWN = {
    "temperature": 0.6,
    "max_tokens": 16000,
    "stream": True,
    "seed": 5,
    "model": "ignored",
    "messages": [],
}
PARAMETERS = {
    "preset": ({}, None, PRESET),
    "extra_body over all": (
        {"temperature": 0.3, "extra_body": {"temperature": 0.0, "thinking": {"type": "enabled"}}},
        ROWS_OWN,
        {"temperature": 0.0, "max_tokens": 16000, "seed": 5, "thinking": {"type": "enabled"}, **STREAMED},
    ),
    "asked 0.0 among others": (
        {"temperature": 0.0, "top_p": 1.0},
        None,
        {**PRESET, "temperature": 0.0, "top_p": 1.0},
    ),
    "token limit by its other name": (
        {"extra_body": {"max_completion_tokens": 100}},
        None,
        {"temperature": 1.0, "max_completion_tokens": 100, **STREAMED},
    ),
    "stop and penalties": (
        {"stop_seqs": ["END"], "presence_penalty": 0.5},
        None,
        {**PRESET, "stop": ["END"], "presence_penalty": 0.5},
    ),
    "unknown field": ({"min_p": 0.1}, None, {**PRESET, "min_p": 0.1}),
    "what EvalScope makes of n": ({"n": 1, "top_p": 0.9}, None, {**PRESET, "top_p": 0.9}),
    "what belongs to the row": (
        {"extra_body": {"model": "other", "messages": [], "tools": [], "seed": 3}},
        None,
        {**PRESET, "seed": 3},
    ),
}


@pytest.mark.parametrize("case", PARAMETERS)
def test_parameters_by_precedence(tmp_path, case):
    """What the settings hold, `extra_body` above all, goes before the row's own and the preset; so it is reported."""
    user, own, expected = PARAMETERS[case]
    row = _row([USER], [], as_text=True, **({"parameters": json.dumps(own)} if own else {}))
    body, _ = _fields_sent(tmp_path, row, generation_config=user)
    assert body.pop("messages") == [USER]
    assert body.pop("tools") == []
    assert body == {"model": MODEL, **expected}
    assert stored(tmp_path / "run").facts.parameters == body


@pytest.mark.parametrize(
    ("flags", "config"),
    [
        (["--generation-config", '{"temperature": 0.0}'], {}),
        (["--generation-config", "temperature=0"], {}),
        ([], {"generation_config": {"temperature": 0.0, "n": 1, "top_p": None}}),
        ([], {"generation_config": {}}),
    ],
    ids=["flag", "flag, other form", "task file", "nothing"],
)
def test_a_temperature_that_was_asked_for_is_sent(flags, config):
    """`k2-verifier eval` tells a temperature of 0.0 that somebody set from EvalScope's default."""
    from k2_verifier_adapter.evalscope_plugin.running import estimate_eval

    task = settings("http://127.0.0.1:9/v1", Path("never-written"), limit=1)
    del task["generation_config"]
    (estimate,) = estimate_eval(flags, {**task, **config})
    expected = 1.0 if config == {"generation_config": {}} else 0.0
    assert estimate.parameters == {"model": MODEL, **PRESET, "temperature": expected}


def test_a_lone_default_temperature_is_not_sent(tmp_path):
    """EvalScope's default configuration, temperature 0.0 and nothing else, leaves the preset in force."""
    rows = write_rows(tmp_path / "rows.jsonl", [_row([USER], [], as_text=True)])
    from evalscope import TaskConfig, run_task

    with RawServer(_answers).in_thread() as server:
        chosen = settings(server.url, tmp_path / "run", rows)
        del chosen["generation_config"]
        run_task(TaskConfig(**chosen))
    (arrival,) = server.arrivals
    assert {**PRESET}.items() <= arrival.json().items()
    log = (tmp_path / "run" / "logs" / "eval_log.log").read_text(encoding="utf-8")
    assert log.count("default temperature 0.0: the preset applies") == 1


def test_the_0905_preset(tmp_path):
    """The subset `k2_0905`, from a directory of local rows, is asked with its own preset."""
    write_rows(tmp_path / "k2_0905.jsonl", [_row([USER], [], as_text=True)])
    with RawServer(_answers).in_thread() as server:
        evaluate(server.url, tmp_path / "run", tmp_path, dataset_args={"subset_list": ["k2_0905"]})
    (arrival,) = server.arrivals
    assert {"temperature": 0.6, "max_tokens": 16000, **STREAMED}.items() <= arrival.json().items()
    assert stored(tmp_path / "run").facts.subset == "k2_0905"


def test_url_key_headers_and_query_are_the_users(tmp_path):
    """The key, `extra_headers` (an own Authorization included) and `extra_query` arrive."""
    extra = {
        "extra_headers": {"X-Team": "blue", "authorization": "Token abc"},
        "extra_query": {"api-version": "7", "none": None, "yes": True, "all": [1, "b"], "of": {"a": False}},
    }
    _, arrival = _fields_sent(tmp_path, generation_config=extra)
    path, _, query = arrival.target.partition("?")
    assert path == "/v1/chat/completions"
    # So the openai client of EvalScope 1.14.1 sends them.
    pairs = [("api-version", "7"), ("yes", "true"), ("all[]", "1"), ("all[]", "b"), ("of[a]", "false")]
    assert parse_qsl(query) == pairs
    assert (arrival.headers["x-team"], arrival.headers["authorization"]) == ("blue", "Token abc")
    assert arrival.head.lower().count(b"authorization:") == 1


@pytest.mark.parametrize("value", [None, True, ["a"], {"a": 1}])
def test_a_header_that_is_no_text_is_refused(tmp_path, value):
    """EvalScope's client refuses it with a traceback; nothing made of it is sent here either."""
    rows = write_rows(tmp_path / "rows.jsonl", [_row([USER], [], as_text=True)])
    extra = {"extra_headers": {"X-Flag": value}}
    with raises_cleanly(UsageError, "extra_headers.X-Flag is", "expected a text"):
        evaluate("http://127.0.0.1:9/v1", tmp_path / "run", rows, generation_config=extra)


def test_two_subsets_are_asked_with_their_own_presets(tmp_path, monkeypatch):
    """Two subsets of one run are sent, waited for, stored and reported apart."""
    waited = []
    send = Transport.send

    async def noted(self, request, case_index, repeat, timeout_s):
        waited.append(timeout_s)
        return await send(self, request, case_index, repeat, timeout_s)

    monkeypatch.setattr(Transport, "send", noted)
    for subset in ("k2_thinking", "k2_0905"):
        write_rows(tmp_path / f"{subset}_test.jsonl", [_row([USER], [], as_text=True)] * 2)
    with RawServer(_answers).in_thread() as server:
        subsets = {"subset_list": ["k2_thinking", "k2_0905"]}
        report = evaluate(server.url, tmp_path / "run", tmp_path, dataset_args=subsets)
    assert sorted(waited) == [1200.0, 1200.0, 3600.0, 3600.0]
    assert sorted(arrival.json()["temperature"] for arrival in server.arrivals) == [0.6, 0.6, 1.0, 1.0]
    assert {name: item.succeeded for name, item in report.execution_summary.subsets.items()} == {
        "k2_thinking": 2,
        "k2_0905": 2,
    }


def test_the_bundled_rows_arrive_as_they_are(tmp_path):
    """Every bundled row without a repair arrives byte for byte as its texts stand in the file."""
    rows = bundled_rows()
    with RawServer(_answers).in_thread() as server:
        evaluate(server.url, tmp_path / "run", eval_batch_size=1)
    assert len(server.arrivals) == len(rows)
    cases = stored(tmp_path / "run").cases
    untouched = 0
    for number, (row, arrival) in enumerate(zip(rows, server.arrivals, strict=True)):
        if not cases[number].repairs.any:
            untouched += 1
            assert f'"messages":{row["messages"]}'.encode() in arrival.body
            assert f'"tools":{row["tools"]}'.encode() in arrival.body
    assert untouched > 200


@pytest.mark.skipif(REALDATA is None, reason="K2_VERIFIER_REALDATA is not set")
def test_real_schemas_arrive_as_they_are(tmp_path):
    """Every schema of the real schema cases, broken ones included, is sent unchanged and crashes nothing."""
    files = sorted((Path(REALDATA) / "walle_schema_cases").glob("*.jsonl"))
    schemas = [json.loads(line) for file in files for line in file.read_text().splitlines() if line.strip()]
    assert len(schemas) > 50
    path = write_rows(
        tmp_path / "rows.jsonl", [_row([USER], with_schema(schema), as_text=False) for schema in schemas]
    )
    with RawServer(_answers).in_thread() as server:
        report = evaluate(server.url, tmp_path / "run", path, eval_batch_size=1)
    arrived = [_members(arrival.body)["tools"] for arrival in server.arrivals]
    assert arrived == [ordered(json.dumps(with_schema(schema))) for schema in schemas]
    assert report.execution_summary.succeeded == len(schemas)
