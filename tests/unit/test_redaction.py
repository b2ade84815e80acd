"""Redaction: no word of prompts, tools or answers in what is shared, and nothing that counts is lost."""

import json

import pytest
from stored_runs import completion, failed, make_row, malformed_history, write_run
from support import commands

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.redaction import (
    ToolNames,
    redact_failure,
    redact_finish_reason,
)
from k2_verifier_adapter.formats.upstream import LineNote, is_redacted

MARK = "MARKED"


def marked(what):
    """Give a text that can be found again."""
    return f"{MARK} {what} {MARK}"


def tool(name):
    """Make a tool whose every word is marked."""
    parameters = {
        "type": "object",
        "description": marked("schema"),
        "properties": {
            f"{MARK}_city": {"type": "integer", "enum": [1, 2], "description": marked("property")}
        },
        "required": [f"{MARK}_city"],
        "additionalProperties": False,
    }
    return {
        "type": "function",
        "function": {"name": name, "description": marked("tool"), "parameters": parameters},
    }


TOOLS = [tool(f"{MARK}_weather"), tool(f"{MARK}_time")]


def call(arguments, name=f"{MARK}_weather", call_id=f"functions.{MARK}_weather:0"):
    """Make a tool call."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*given, finish_reason="tool_calls", **extra):
    """Make a completion that calls."""
    message = {"role": "assistant", "content": marked("content"), "tool_calls": list(given)}
    return completion(message, finish_reason, **extra)


def says(content, finish_reason="stop", **message):
    """Make a completion that answers in words."""
    return completion({"role": "assistant", "content": content, **message}, finish_reason)


VALID = json.dumps({f"{MARK}_city": 1})
MARKUP = f"<|tool_call_begin|>functions.{MARK}_weather:0<|tool_call_argument_begin|>{VALID}<|tool_call_end|>"
ANSWERS = [
    calls(call(VALID)),
    calls(call(VALID), call(VALID, f"{MARK}_time", f"functions.{MARK}_time:1")),
    calls(call(json.dumps({f"{MARK}_city": marked("value")}))),
    calls(call(json.dumps({f"{MARK}_city": 3, marked("unexpected"): [marked("deep")]}))),
    calls(call("{}", f"{MARK}_time")),
    calls(call(f'{{"{MARK}_city": ')),
    calls(call(marked("no JSON"))),
    calls(call(VALID, marked("undeclared"))),
    calls(call(VALID, call_id=marked("id"))),
    calls(call(VALID), finish_reason=marked("finish")),
    says(marked("content")),
    says(MARKUP),
    says("", reasoning_content=marked("reasoning")),
    says(marked("cut"), "length"),
    says(marked("other"), f"{MARK}_REASON"),
    f'{{"error": "{marked("error")}"}}',
    None,
    None,
]
FAILED = [
    failed(len(ANSWERS) - 2, FailureClass.HTTP_4XX, 400, f"HTTP 400: {marked('body')}"),
    failed(len(ANSWERS) - 1, FailureClass.NOT_A_COMPLETION, 200, marked("HTML")),
]


def rows():
    """Rows whose every word is marked."""
    found = []
    for number in range(len(ANSWERS)):
        row = make_row(marked(f"question {number}"), call=number % 3 != 0)
        row["tools"] = TOOLS
        if number % 4 == 0:
            history = json.loads(json.dumps(malformed_history()).replace("weather", f"{MARK}_weather"))
            history[1]["content"] = marked("result")
            row["messages"] = [*history, *row["messages"]]
        if row["should_call_tool"]:
            row["official_tool_calls"] = [call(VALID)]
        found.append(row)
    return found


@pytest.fixture
def run(tmp_path):
    """A run with every kind of answer, all of them marked."""
    parameters = {
        "model": "kimi-k2",
        "temperature": 1.0,
        "stream": True,
        "stop": [marked("stop")],
        "user": marked("user"),
        "thinking": {"type": "enabled", "note": marked("note"), "budget": 5},
        "response_format": {"type": "json_schema", "json_schema": {marked("schema"): 1}},
        "tool_choice": "auto",
        "n": None,
    }
    return write_run(tmp_path / "run", rows(), ANSWERS, FAILED, parameters=parameters)


def invoke(*arguments):
    """Run the command, which has to succeed; of the run, a report says that it is incomplete."""
    result = commands.invoke(*arguments)
    assert result.exit_code == (3 if arguments[0] in ("report", "score") else 0), result.stderr
    return result.stdout + result.stderr


def report(*arguments):
    """Give a JSON report."""
    return json.JSONDecoder().raw_decode(invoke(*arguments, "--format", "json"))[0]


@pytest.fixture
def exported(run, tmp_path):
    """Both exports of the run, and its rows."""
    paths = {name: tmp_path / f"{name}.jsonl" for name in ("full", "redacted", "rows")}
    invoke("export", run, "--output", paths["full"])
    invoke("export", run, "--output", paths["redacted"], "--redact", "--summary", tmp_path / "summary.json")
    paths["rows"].write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return paths


def test_no_word_in_what_is_redacted(run, exported, tmp_path):
    """Of all that is marked nothing is in a redacted report, score or export, in whatever format."""
    texts = [exported["redacted"].read_text(), (tmp_path / "summary.json").read_text()]
    for form in ("text", "json"):
        texts.append(invoke("report", run, "--redact", "--format", form))
        texts.append(
            invoke("score", exported["full"], "--rows", exported["rows"], "--redact", "--format", form)
        )
    assert len(texts) == 6
    assert not [text for text in texts if MARK.lower() in text.lower()]


def test_without_redaction_the_words_are_there(run, exported):
    """Without the flag the export holds all words, and the report those of parameters and finish reasons."""
    full = exported["full"].read_text()
    for what in (
        "question 1",
        "tool",
        "property",
        "value",
        "reasoning",
        "error",
        "body",
        "content",
        "result",
    ):
        assert marked(what) in full
    for form in ("text", "json"):
        full = ["--full"] if form == "text" else []
        text = " ".join(invoke("report", run, "--format", form, *full).split())
        for what in ("stop", "user", "finish"):
            assert marked(what) in text


def test_a_redacted_report_counts_the_same(run):
    """Counts, metrics, verdict and failure classes are those of the full report; the redaction is said."""
    full, redacted = report("report", run), report("report", run, "--redact")
    assert redacted.pop("redacted") is True
    assert "Redacted: " in invoke("report", run, "--redact")
    assert "redacted" not in full
    for item in (full, redacted):
        del item["finish_reasons"]["others_detail"], item["parameters"]
        item.pop("tools", None)
        for message in item["server_messages"]:
            assert (message.pop("message") == "(redacted)") == (item is redacted)
        for finding in item["findings"]:
            quotes = finding.pop("quotes")
            assert not quotes or item is full
    assert redacted == full


def test_what_stays_of_a_redacted_report(run):
    """Usual finish reasons, numbers and switches stay; the rest is named as redacted."""
    redacted = report("report", run, "--redact")
    assert redacted["finish_reasons"]["others_detail"] == {"(redacted)": 2, "length": 1}
    assert redacted["parameters"] == {
        "model": "kimi-k2",
        "temperature": 1.0,
        "stream": True,
        "stop": "(redacted)",
        "user": "(redacted)",
        "thinking": {"type": "enabled", "note": "(redacted)", "budget": 5},
        "response_format": {"type": "json_schema", "json_schema": "(redacted)"},
        "tool_choice": "auto",
        "n": None,
    }
    assert [redact_finish_reason(reason) for reason in (None, "stop")] == [None, "stop"]


def test_what_stays_of_a_redacted_line(exported):
    """A redacted line keeps upstream's fields, with hash, times and judgement, but no message, tool or answer."""
    full, redacted = (
        [json.loads(line) for line in exported[name].read_text().splitlines()]
        for name in ("full", "redacted")
    )
    kept = ("data_index", "status", "tool_calls_valid", "last_run_at", "duration_ms", "hash", "extra_body")
    assert len(full) == len(redacted) == len(ANSWERS)
    for one, other in zip(full, redacted, strict=True):
        assert {name: one[name] for name in kept} == {name: other[name] for name in kept}
        assert list(one) == list(other) or list(other) == [*one, "k2_verifier"]
        assert not {"messages", "tools"} & set(other["request"])
        assert other["request"]["temperature"] == one["request"]["temperature"]
        assert "choices" not in other["response"]
        if one["status"] == "success":
            assert other["response"] == {"model": "kimi-k2", "usage": one["response"]["usage"]}
        else:
            assert other["response"] == {"error": "(redacted)"}
    (shown,) = redacted[2]["k2_verifier"]["redacted"]["failures"][:1]
    assert shown == {"class": "wrong_type", "call": 0, "tool": "tool 1", "path": "$.*", "keyword": "type"}


@pytest.mark.parametrize(
    ("path", "structure"),
    [
        (None, None),
        ("$", "$"),
        ("$.city", "$.*"),
        ("$.address[0].city", "$.*[0].*"),
        ("$[12][3].a b", "$[12][3].*"),
        ("$.a.b", "$.*.*"),
        ("$.we\nird[name]", "$.*"),
        ("$.", "$.*"),
    ],
)
def test_a_path_keeps_its_structure(path, structure):
    """Of a JSON path only steps and indexes stay, for names are the schema's own words."""
    failure = Failure(FailureClass.WRONG_TYPE, "detail", 1, "tool", path, "type")
    redacted = redact_failure(failure, ToolNames())
    assert redacted == Failure(FailureClass.WRONG_TYPE, "(redacted)", 1, "tool 1", structure, "type")


def test_tools_have_numbers_for_names():
    """The same tool has the same number, and what is no tool's name stays."""
    names = ToolNames()
    assert [names.of(name) for name in ("b", "a", "b", "(no name)", "(other tools)")] == [
        "tool 1",
        "tool 2",
        "tool 1",
        "(no name)",
        "(other tools)",
    ]


@pytest.mark.parametrize(
    ("note", "redacted"),
    [
        *(
            (note, True)
            for note in ({"redacted": {}}, {"redacted": {"failures": 1}}, {"redacted": {"x": [None]}})
        ),
        *((note, False) for note in (None, 1, {}, {"redacted": 1}, {"failure_class": "?"})),
    ],
)
def test_a_line_is_redacted_whatever_its_note_holds(note, redacted):
    """That a line is redacted is known without reading what its note says; other notes redact nothing."""
    assert is_redacted(note) is redacted
    assert LineNote.from_json(note) == LineNote()
