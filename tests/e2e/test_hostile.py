"""Hostile rows, responses and results files: each gets its class, the others' scores stay, all ends well.

That any JSON in any place of a response is judged is `tests/contract/test_upstream_rules.py`'s to say.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from support import commands
from support.raw_server import DONE, RawServer, chunk, event, reply, stream
from support.runs import (
    EVALSCOPES_WARNINGS,
    MODEL,
    bundled_rows,
    evaluate,
    judged,
    raises_cleanly,
    report_of,
    stored,
    values_of,
    write_rows,
)

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.failure_classes import FailureClass, Group
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.json_text import loads_strict
from k2_verifier_adapter.errors import BadRowsError
from k2_verifier_adapter.simulator.completions import official_completion

pytestmark = EVALSCOPES_WARNINGS

NORMAL = bundled_rows(20)
MEGABYTE = 1_000_000
LARGE = 900_000
"""Of rows: bytes for which aiohttp does not warn yet."""
MOST_MEMORY_MB = 600
LIMIT_MB = 8
"""Size at which the run gives a response up."""

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
OSLO = '{"city": "Oslo"}'


@dataclass(frozen=True)
class Hostile:
    """One hostile case.

    Attributes:
        answer: The bytes of the vendor's answer.
        expected: `valid`, or `invalid` or `None` (no call that counts) with the failure class; of a failed
            request its class alone, or `failed` for any.
        schema: The schema of the row's only tool, `f`.
        streamed: Whether the request asks for a stream.
        history: Messages in front of the row's own.
    """

    answer: bytes
    expected: str
    schema: Any = None
    streamed: bool = False
    history: tuple[dict[str, Any], ...] = ()


# --- answers -------------------------------------------------------------------------------------


def body(text: str) -> bytes:
    """Answer with a text as body; a lone surrogate in it becomes the bytes that are no UTF-8."""
    return reply(text.encode("utf-8", "surrogatepass"))


def calling(arguments: Any = OSLO, name: Any = "f", call_id: Any = "functions.f:0", count: int = 1) -> bytes:
    """Answer with calls."""
    call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call] * count}
    return body(json.dumps({"model": "m", "choices": [{"message": message, "finish_reason": "tool_calls"}]}))


def calling_raw(arguments: bytes) -> bytes:
    """Answer with a call whose arguments stand in the body as these bytes."""
    head, _, content = calling("@").partition(b"\r\n\r\n")
    assert head
    return reply(content.replace(b'"@"', arguments))


def deep(levels: int, opening: str = "[", closing: str = "]") -> str:
    """Nest that deep."""
    return opening * levels + closing * levels


CALL_CHUNK = chunk(
    {"tool_calls": [{"index": 0, "id": "functions.f:0", "function": {"name": "f", "arguments": ""}}]}
)
FINISHED = event(chunk({}, "tool_calls")) + DONE


def arguments_chunk(arguments: Any) -> dict[str, Any]:
    """Give a chunk with more arguments."""
    return chunk({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]})


def calls_streamed(*events: bytes, end: bytes = FINISHED) -> bytes:
    """Stream a call, these events within it."""
    return stream(event(CALL_CHUNK), event(arguments_chunk(OSLO)), *events, end)


HISTORY: tuple[dict[str, Any], ...] = (
    {"role": "_input", "content": "a\x00b\ud800"},
    {"role": "user", "content": [json.loads(deep(390))], "name": "n" * LARGE},
    {"role": "assistant", "tool_calls": [{"id": 5, "function": {"name": "f", "arguments": "{"}}, None, "x"]},
    {"role": "tool", "tool_call_id": ["x"], "content": None, "tool_calls": {"function": 1}},
)


VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "0": 0,
    "1.5": 1.5,
    "empty text": "",
    "text": "x",
    "empty list": [],
    "list": [1],
    "empty object": {},
    "object": {"a": 1},
}
CALL: dict[str, Any] = {
    "id": "functions.f:0",
    "type": "function",
    "function": {"name": "f", "arguments": OSLO},
}
NOT_A_COMPLETION = "not_a_completion"
UNDECLARED = "invalid undeclared_tool"
FINE = "valid"


def _completion(**message: Any) -> dict[str, Any]:
    return {
        "choices": [
            {"message": {"content": None, "tool_calls": [CALL], **message}, "finish_reason": "tool_calls"}
        ]
    }


# --- the table -----------------------------------------------------------------------------------


def responses() -> dict[str, Hostile]:
    """Give hostile answers to a usual row."""
    million_digits = '{"city": "Oslo", "n": ' + "9" * MEGABYTE + "}"
    plain = {
        "integer of a million digits": (calling(million_digits), "invalid other_invalid_json"),
        "integer of a million digits in the body": (
            calling_raw(b"9" * MEGABYTE),
            NOT_A_COMPLETION,
        ),
        "NaN in the body": (calling_raw(b"NaN"), "invalid not_an_object"),
        "infinite": (calling('{"city": "Oslo", "n": 1e999}'), FINE),
        "lone surrogate": (calling('{"city": "\\ud800"}'), FINE),
        "lone surrogate as name": (calling(OSLO, "\ud800"), UNDECLARED),
        "lone surrogate as id": (calling(OSLO, call_id="\udfff"), FINE),
        "lone surrogate as key": (calling('{"city": "Oslo", "\\udfff": 1}'), FINE),
        "bytes that are no UTF-8": (
            calling_raw(rb'"{\"city\": \"' + b"\xed\xa0\x80\xff" + rb'\"}"'),
            FINE,
        ),
        "name of a megabyte": (calling(OSLO, "n" * MEGABYTE), UNDECLARED),
        "id of a megabyte": (calling(OSLO, call_id="functions.f:" + "1" * MEGABYTE), FINE),
        "text of a megabyte": (calling(json.dumps({"city": ["x" * MEGABYTE]})), "invalid wrong_type"),
        "arguments 200,000 deep": (calling(deep(200_000)), "invalid other_invalid_json"),
        "arguments 900 deep": (calling('{"city": "Oslo", "n": ' + deep(900) + "}"), FINE),
        "object arguments 380 deep": (calling_raw(deep(380).encode()), "invalid not_an_object"),
        "body 100,000 deep": (body(deep(100_000)), NOT_A_COMPLETION),
        "body open 100,000 times": (body('{"a":' * 100_000), NOT_A_COMPLETION),
        "thousands of calls": (calling(OSLO, count=5_000), FINE),
        "thousands of undeclared calls": (calling(OSLO, "g", count=5_000), UNDECLARED),
        "thousands of choices": (
            body(json.dumps({"choices": _completion()["choices"] * 5_000})),
            FINE,
        ),
        "finish_reason of a megabyte": (
            body(json.dumps({"choices": [{"message": {}, "finish_reason": "f" * MEGABYTE}]})),
            "None finish_reason_unknown",
        ),
        "finish_reason a lone surrogate": (
            body('{"choices": [{"message": {}, "finish_reason": "\\ud800"}]}'),
            "None finish_reason_unknown",
        ),
        "terminal codes": (calling(OSLO, "\x1b]0;pwned\x07\x1b[2J\r\n\u202e"), UNDECLARED),
        "markup as name": (calling(OSLO, "<script>alert(1)</script>]]>"), UNDECLARED),
        "markup as finish_reason": (
            body('{"choices": [{"message": {}, "finish_reason": "<script>alert(1)</script>]]>\\u0000"}]}'),
            "None finish_reason_unknown",
        ),
        "usage of a googol": (
            body(json.dumps({**_completion(), "usage": {"prompt_tokens": 10**4000, "total_tokens": -1}})),
            FINE,
        ),
        "behind a hostile history": (calling(), FINE),
        "an endless error": (body(json.dumps({"error": {"message": "e" * MEGABYTE}})), NOT_A_COMPLETION),
        "a gzip bomb": (
            reply(gzip.compress(b" " * (3 * LIMIT_MB * MEGABYTE)), 200, "Content-Encoding: gzip"),
            "response_too_large",
        ),
        "too large": (reply(b" " * ((LIMIT_MB + 2) * 2**20)), "response_too_large"),
    }
    return {
        name: Hostile(answer, expected, history=HISTORY if "history" in name else ())
        for name, (answer, expected) in plain.items()
    }


def broken_http(port: int) -> dict[str, Hostile]:
    """Give answers that break HTTP, or send the client elsewhere.

    Args:
        port: Where somebody listens who must not be asked.
    """
    sound = json.dumps(_completion()).encode()
    plain = {
        "redirect": reply(b"", 307, f"Location: http://127.0.0.1:{port}/v1/chat/completions"),
        "header of a megabyte": reply(sound, 200, "X-Long: " + "h" * MEGABYTE),
        "thousands of headers": reply(sound, 200, *[f"X-{n}: {n}" for n in range(50_000)]),
        "no status": b"\x00\xff\r\n\r\n" + sound,
        "status beyond all": b"HTTP/1.1 99999999999 Huge\r\nContent-Length: 2\r\n\r\n{}",
        "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + sound,
        "length beyond all": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 400 + b"\r\n\r\n" + sound,
        "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n" + sound,
        "chunk of no size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n" + sound,
        "gzip that is none": reply(sound, 200, "Content-Encoding: gzip"),
        "deflate that is none": reply(sound, 200, "Content-Encoding: deflate"),
        "charset that is none": reply(b"{", 200, content_type="application/json; charset=\x7f\xe9"),
        "error of a megabyte": reply(b'{"error": "' + b"e" * MEGABYTE + b'"}', 400),
        "error that is no text": reply(b"\x00\xff\x1b[2J", 400),
    }
    return {f"HTTP: {name}": Hostile(answer, "failed") for name, answer in plain.items()}


def streams() -> dict[str, Hostile]:
    """Give hostile streams."""
    huge = event(arguments_chunk("9" * MEGABYTE))
    plain = {
        "thousands of calls": (
            stream(
                *(event(chunk({"tool_calls": [{**CALL, "index": index}]})) for index in range(2_000)),
                FINISHED,
            ),
            FINE,
        ),
        "thousands of empty events": (calls_streamed(event(chunk({})) * 20_000), FINE),
        "a comment of a megabyte": (calls_streamed(b":" + b"c" * MEGABYTE + b"\n\n"), FINE),
        "arguments that go on": (calls_streamed(huge), "invalid trailing_text"),
        "an event 10,000 deep": (calls_streamed(event(deep(10_000))), NOT_A_COMPLETION),
        "a delta 900 deep": (
            calls_streamed(event('{"choices": [{"delta": {"x": ' + deep(900) + "}}]}")),
            NOT_A_COMPLETION,
        ),
        "an error": (calls_streamed(event('{"error": "\\ud800"}')), "stream_error_event"),
        "lone surrogates": (
            calls_streamed(event('{"choices":[{"delta":{"content":"\\ud800","x":"\\udfff"}}]}')),
            FINE,
        ),
        "bytes": (stream(b"\xff\xfe\x00" * 1_000, b"\r\r\n\n"), NOT_A_COMPLETION),
        "too large": (stream(*[b"data: " + b"x" * MEGABYTE] * (LIMIT_MB + 2)), "response_too_large"),
    }
    return {
        f"stream: {name}": Hostile(answer, expected, streamed=True)
        for name, (answer, expected) in plain.items()
    }


def schemas(port: int, file: Path) -> dict[str, Hostile]:
    """Give rows with hostile schemas, and an answer that calls their tool.

    Args:
        port: Where somebody listens who must not be asked.
        file: A file that must not be read, with a schema that would make the call valid.
    """
    broken, timeout = "invalid broken_tool_schema", "invalid schema_timeout"
    evil = "(a|aa)+$"
    long = json.dumps({"city": "a" * 60 + "!"})

    def pattern(text: str) -> dict[str, Any]:
        return {"properties": {"city": {"pattern": text}}}

    rows: dict[str, tuple[Any, str, str]] = {
        "remote $ref": ({"$ref": f"http://127.0.0.1:{port}/x"}, OSLO, broken),
        "remote $schema": ({**CITY, "$schema": f"http://127.0.0.1:{port}/x"}, OSLO, FINE),
        "file $ref": ({"$ref": file.as_uri()}, OSLO, broken),
        "file $ref as path": ({"$ref": str(file)}, OSLO, broken),
        "file $id": ({"$id": file.parent.as_uri() + "/", "$ref": file.name}, OSLO, broken),
        "recursive $ref": ({"properties": {"n": {"$ref": "#"}}}, '{"n":' * 20 + "{}" + "}" * 20, FINE),
        "recursive $ref, 900 deep": ({"items": {"$ref": "#"}}, deep(900), broken),
        "schema 390 deep": (json.loads('{"items":' * 390 + "{}" + "}" * 390), deep(395), broken),
        "pattern that explodes": (pattern(evil), long, timeout),
        "pattern that fills memory": (pattern("(?:" * 90 + "a" + "){2}" * 90), long, timeout),
        "pattern slow to compile": (pattern("(?i)" + "[!-\uffff]" * 20_000), long, timeout),
        "pattern of a megabyte": (pattern("a" * LARGE), long, timeout),
        "pattern on a long text": (
            pattern("^([a-z]+-?)*$"),
            json.dumps({"city": "ab-" * (2 * MEGABYTE)}),
            timeout,
        ),
        "multipleOf tiny": (
            {"properties": {"n": {"multipleOf": 1e-320}}},
            '{"n": 1e308}',
            "invalid other_schema_violation",
        ),
        "lone surrogates": ({"properties": {"\ud800": {"enum": ["\udfff"]}}}, '{"\\ud800": "\\udfff"}', FINE),
        "name of a megabyte": ({"required": ["r" * LARGE]}, OSLO, "invalid missing_required"),
        "bound of 4,000 digits": (
            {"properties": {"n": {"maximum": 10**4_000}}},
            '{"n": 1e999}',
            "invalid other_schema_violation",
        ),
        "keys of no use": ({**CITY, "\x00": "\x00", "__proto__": {}, "k" * LARGE: 1}, OSLO, FINE),
    }
    return {
        f"schema: {name}": Hostile(calling(arguments), expected, schema)
        for name, (schema, arguments, expected) in rows.items()
    }


# --- the run -------------------------------------------------------------------------------------


def row_of(name: str, case: Hostile) -> dict[str, Any]:
    """Give the row of a hostile case; its name in the message tells the server what to answer."""
    function = {"name": "f", "parameters": CITY if case.schema is None else case.schema}
    return {
        "messages": [*case.history, {"role": "user", "content": f"hostile: {name}"}],
        "tools": [{"type": "function", "function": function}],
        "should_call_tool": True,
        "official_finish_reason": "tool_calls",
        "official_tool_calls": [CALL] if case.schema is None else None,
        "parameters": {"stream": case.streamed},
        "synthetic": True,
    }


class Vendor:
    """Answers hostile rows as their case says, and normal ones as the official API does."""

    def __init__(self, cases: dict[str, Hostile]) -> None:
        self._answers = {name: case.answer for name, case in cases.items()}
        for number, row in enumerate(NORMAL):
            case = decode_row(row, number, HistoryOptions())
            key = json.dumps(case.messages(), sort_keys=True)
            self._answers[key] = reply(official_completion(row, case, "m"))

    async def answer(self, arrival: Any, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        messages = arrival.json()["messages"]
        hostile = re.fullmatch("hostile: (.*)", str(messages[-1]["content"]))
        writer.write(self._answers[hostile[1] if hostile else json.dumps(messages, sort_keys=True)])


@dataclass(frozen=True)
class Finished:
    """A run of hostile and normal rows that ended, and one of the normal rows alone.

    Attributes:
        path: The run directory.
        rows: Its rows file.
        names: The name of each row, None for a normal one.
        cases: The hostile cases by name.
        asked: Connections to whom a schema names.
        memory_mb: By how much the process grew at most.
        alone: The run directory of the normal rows alone.
    """

    path: Path
    rows: Path
    names: list[str | None]
    cases: dict[str, Hostile]
    asked: int
    memory_mb: float
    alone: Path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Run everything once."""
    folder = tmp_path_factory.mktemp("hostile")
    file = folder / "schema.json"
    file.write_text("{}")
    bystander = RawServer(_never)
    with bystander.in_thread():
        port = int(bystander.url.rsplit(":", 1)[1].removesuffix("/v1"))
        cases = {
            **responses(),
            **broken_http(port),
            **streams(),
            **schemas(port, file),
        }
        half = len(NORMAL) // 2
        mixed = [(None, row) for row in NORMAL]
        # In turns: where nearly all of the last requests fail, a run is given up.
        shuffled = random.Random(0).sample(list(cases.items()), len(cases))
        mixed[half:half] = [(name, row_of(name, case)) for name, case in shuffled]
        # The user's own setting would stand above the rows'.
        plain = [{**row, "parameters": {"stream": False}} for row in NORMAL]
        rows = write_rows(
            folder / "rows.jsonl",
            [row if name else {**row, "parameters": {"stream": False}} for name, row in mixed],
        )
        extra = {"extra_params": {"max_response_mb": LIMIT_MB}}
        server = RawServer(Vendor(cases).answer)
        with server.in_thread():
            evaluate(server.url, folder / "alone", write_rows(folder / "normal.jsonl", plain))
            before = _peak_mb()
            evaluate(server.url, folder / "run", rows, dataset_args=extra)
            memory = _peak_mb() - before
    names = [name for name, _ in mixed]
    return Finished(folder / "run", rows, names, cases, bystander.connections, memory, folder / "alone")


async def _never(_arrival: Any, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(b"{}"))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _outcomes(run: Path) -> dict[int, tuple[str, set[str]]]:
    """Give, by case, what became of it and the failure classes that it shows."""
    found = {
        case: (str(judgement["tool_calls_valid"]), {item["class"] for item in judgement["failures"]})
        for (case, _), judgement in judged(run).items()
    }
    for request in stored(run).failed:
        found[request.case_index] = ("failed", {request.failure.failure_class.value})
    return found


_VALIDITY = {"valid": "True", "invalid": "False", "None": "None"}


def test_every_hostile_case_gets_its_class(finished: Finished) -> None:
    """Every hostile row and response ends as the table says, and none is lost."""
    outcomes = _outcomes(finished.path)
    assert len(outcomes) == len(finished.names)
    wrong = {}
    for number, name in enumerate(finished.names):
        if name is None:
            continue
        expected = finished.cases[name].expected.split()
        validity, classes = outcomes[number]
        wanted = _VALIDITY.get(expected[0], "failed")
        if validity != wanted or (expected[-1] not in ("valid", "failed") and expected[-1] not in classes):
            wrong[name] = (" ".join(expected), validity, sorted(classes))
    assert not wrong


def test_what_is_not_the_vendors_fault_is_not_its_score_elsewhere(finished: Finished) -> None:
    """A schema that hits a bound or is broken shows no class of the arguments."""
    outcomes = _outcomes(finished.path)
    arguments = {kind.value for kind in FailureClass if kind.group is Group.ARGUMENTS}
    for number, name in enumerate(finished.names):
        if name and finished.cases[name].expected in ("invalid schema_timeout", "invalid broken_tool_schema"):
            assert not outcomes[number][1] & arguments, name


def test_normal_rows_are_judged_as_without_hostile_ones(finished: Finished) -> None:
    """The judgement of every normal row equals that of a run that held nothing else."""
    mixed, alone = judged(finished.path), judged(finished.alone)
    places = [number for number, name in enumerate(finished.names) if name is None]
    assert len(alone) == len(places) == len(NORMAL)
    for number, place in enumerate(places):
        ours, theirs = mixed[place, 0], alone[number, 0]
        assert {**ours, "case": number} == theirs
        assert ours["tool_calls_valid"] is not False


def test_nobody_is_asked_and_nothing_is_read(finished: Finished) -> None:
    """A remote `$ref` reaches nobody; a `$ref` to a file makes no call valid."""
    assert finished.asked == 0
    outcomes = _outcomes(finished.path)
    for number, name in enumerate(finished.names):
        if name and name.startswith("schema: file"):
            assert outcomes[number] == ("False", {"broken_tool_schema"} | outcomes[number][1]), name


def test_memory_stays_bounded(finished: Finished) -> None:
    """The whole run needs a few hundred megabytes, whatever a pattern or an answer would take."""
    assert finished.memory_mb < MOST_MEMORY_MB


# --- reports of it -------------------------------------------------------------------------------


def invoke(*arguments: Any) -> str:
    """Run a command; give its standard output. Reports say that the run is incomplete, if they say anything."""
    result = commands.invoke(*arguments)
    assert result.exit_code in (0, 3), result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def report(finished: Finished) -> dict[str, Any]:
    """The run's report as JSON, strictly parsed."""
    decoded = loads_strict(invoke("report", finished.path, "--format", "json"))
    assert isinstance(decoded, dict)
    return decoded


def test_the_report_counts_what_happened(finished: Finished, report: dict[str, Any]) -> None:
    """The JSON report counts every case; a class has the cases that the table gives it."""
    outcomes = _outcomes(finished.path)
    failed = sum(validity == "failed" for validity, _ in outcomes.values())
    assert report["requests"]["total"] == len(finished.names)
    assert report["requests"]["failed"] == failed
    cases = {entry["class"]: entry["cases"] for entry in report["failures"]}
    for kind in ("schema_timeout", "broken_tool_schema", "response_too_large", "not_a_completion"):
        assert cases[kind] == sorted(case for case, (_, found) in outcomes.items() if kind in found)


def test_the_text_report_is_harmless(finished: Finished) -> None:
    """Nothing that a vendor sent steers a terminal or breaks the encoding."""
    text = invoke("report", finished.path)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", text)
    assert len(text) < 100_000
    text.encode()


def test_the_documents_are_well_formed(finished: Finished, tmp_path: Path) -> None:
    """What a vendor sent is text in a page and in XML, whatever it looks like."""
    invoke("report", finished.path, "--format", "html", "--output", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "alert(1)" in page
    invoke("report", finished.path, "--format", "junit", "--output", tmp_path / "report.xml")
    assert ET.fromstring((tmp_path / "report.xml").read_bytes()).tag == "testsuites"


def test_evalscopes_own_report_is_complete(finished: Finished) -> None:
    """EvalScope's report reads back, and counts what the judgements say."""
    values = values_of(report_of(finished.path))
    validities = [validity for validity, _ in _outcomes(finished.path).values()]
    completed = len(validities) - validities.count("failed")
    assert values["count_successful_tool_call"] == (validities.count("True"), completed)
    assert values["inference_error_rate"][1] == len(validities)
    assert MODEL in str(report_of(finished.path).model_name)


def test_an_export_of_it_is_scored_alike(finished: Finished, report: dict[str, Any], tmp_path: Path) -> None:
    """`export` writes a line for each case, and `score` of them counts what the report counts."""
    results = tmp_path / "results.jsonl"
    invoke("export", finished.path, "--output", results, "--summary", tmp_path / "summary.json")
    assert len(results.read_bytes().splitlines()) == len(finished.names)
    loads_strict((tmp_path / "summary.json").read_text())
    scored = loads_strict(invoke("score", results, "--rows", finished.rows, "--format", "json"))
    for part in ("confusion", "counts", "usage"):
        assert scored[part] == report[part]
    assert {**scored["requests"]} == {**report["requests"]}


# --- a hostile results file ----------------------------------------------------------------------

ODD_LINES = (
    b"{",
    b"[1]",
    b"\xff\xfe\x00",
    b"null",
    deep(50_000).encode(),
    b'{"data_index": ' + b"9" * 5_000 + b"}",
    b'{"data_index": 1e999, "response": {}}',
    b'{"data_index": true}',
    b'{"data_index": "1"}',
    b'{"data_index": 99999999999999999999, "status": "success"}',
)


def _line(number: int, response: bytes, **fields: Any) -> bytes:
    members = {"request": {"model": "m", "temperature": float("nan")}, "status": "success", **fields}
    texts = [f'"data_index": {number}'.encode(), b'"response": ' + response]
    texts += [
        json.dumps(name).encode() + b": " + json.dumps(value).encode() for name, value in members.items()
    ]
    return b"{" + b", ".join(texts) + b"}\n"


def _odd_fields(number: int) -> list[bytes]:
    """Give lines whose own fields are hostile."""
    completion = json.dumps(_completion()).encode()
    values: list[Any] = [
        *VALUES.values(),
        float("nan"),
        float("inf"),
        10**400,
        "\ud800",
        json.loads(deep(300)),
    ]
    names = ("request", "extra_body", "status", "finish_reason", "tool_calls_valid", "last_run_at")
    names += ("duration_ms", "hash", "k2_verifier")
    return [_line(number, completion, **{name: value}) for name in names for value in values]


def test_a_hostile_results_file_is_scored(finished: Finished, tmp_path: Path) -> None:
    """Every line is scored or named; the normal lines count as they do without the hostile ones."""
    normal, hostile = [], list(ODD_LINES)
    for number, (name, line) in enumerate(
        zip(finished.names, finished.rows.read_bytes().splitlines(), strict=True), 1
    ):
        if name is None:
            row = json.loads(line)
            completion = official_completion(row, decode_row(row, number, HistoryOptions()), "m")
            normal.append(_line(number, json.dumps(completion).encode()))
        elif not (finished.cases[name].streamed or name.startswith("HTTP") or "explodes" in name):
            content = finished.cases[name].answer.partition(b"\r\n\r\n")[2]
            hostile.append(_line(number, content.replace(b"\n", b" ")[:3_000_000] or b"{}"))
            if name == "usage of a googol":
                hostile += _odd_fields(number)
    counted = {}
    files = {"normal": normal, "hostile": hostile, "both": hostile + normal, "one": normal[:1]}
    for what, lines in files.items():
        file = tmp_path / f"{what}.jsonl"
        file.write_bytes(b"".join(line if line.endswith(b"\n") else line + b"\n" for line in lines))
        counted[what] = loads_strict(invoke("score", file, "--rows", finished.rows, "--format", "json"))
    assert invoke("score", file, "--rows", finished.rows)
    for part in ("confusion", "counts"):
        for name, count in counted["both"][part].items():
            assert count == counted["normal"][part][name] + counted["hostile"][part][name]
    assert counted["both"]["log"]["lines"] == len(hostile) + len(normal)
    # Of several lines, a parameter that is equal to nothing is not shared.
    assert counted["one"]["parameters"] == {"model": "m", "temperature": "nan"}


# --- rows that cannot be used --------------------------------------------------------------------

UNUSABLE = {
    "line 10,000 deep": deep(10_000),
    "messages 10,000 deep": {"messages": '[{"role": "user", "content": ' + deep(10_000) + "}]"},
    "messages 401 deep": {"messages": [{"role": "user", "content": json.loads(deep(401))}]},
    "tools 10,000 deep": {"tools": '[{"function": {"parameters": ' + '{"items":' * 10_000},
    "official calls 10,000 deep": {"official_tool_calls": deep(10_000)},
    "parameters 10,000 deep": {"parameters": '{"a":' * 10_000 + "1" + "}" * 10_000},
    "integer of a million digits": '{"messages": [{"role": "user"}], "n": ' + "9" * MEGABYTE + "}",
    "integer of a million digits in a text": {"tools": '[{"maximum": ' + "9" * MEGABYTE + "}]"},
    "NaN": {"tools": '[{"maximum": NaN}]'},
    "NaN as a value": {"tools": [{"maximum": float("nan")}]},
    "infinite parameter": {"parameters": '{"temperature": Infinity}'},
    "endless data_index": {"data_index": float("inf")},
    "every type but a list": {"messages": {"role": "user"}},
}


def test_rows_that_cannot_be_used_are_all_named(tmp_path: Path) -> None:
    """A row beyond the bounds is named with its line before anything is sent, and hides no other."""
    path = tmp_path / "rows.jsonl"
    lines = [row if isinstance(row, str) else json.dumps({**NORMAL[0], **row}) for row in UNUSABLE.values()]
    path.write_text("\n".join([*lines, json.dumps(NORMAL[1])]))
    named = [f"line {number}: " for number in range(1, len(UNUSABLE) + 1)]
    with raises_cleanly(BadRowsError, f"{len(UNUSABLE)} of {len(UNUSABLE) + 1} rows", *named) as caught:
        evaluate("http://127.0.0.1:9/v1", tmp_path / "run", path)
    assert len(str(caught.value)) < 10_000
