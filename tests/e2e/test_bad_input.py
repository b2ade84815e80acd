"""Bad input ends in one clear error: what, where, and what to do."""

from __future__ import annotations

import json
import re
import threading
import time

import pytest
from evalscope import TaskConfig, run_task
from evalscope.api.model import GenerateConfig
from support.runs import (
    EVALSCOPES_WARNINGS,
    MODEL,
    bundled_rows,
    evalscope_eval,
    evaluate,
    raises_cleanly,
    write_rows,
)

from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.errors import BadRowsError, DataError, K2VerifierError, UsageError
from k2_verifier_adapter.evalscope_plugin.asked import check_endpoint
from k2_verifier_adapter.evalscope_plugin.loading import log_rows
from k2_verifier_adapter.evalscope_plugin.running import estimate_eval
from k2_verifier_adapter.formats.rows import load_cases

pytestmark = EVALSCOPES_WARNINGS

NOWHERE = "http://127.0.0.1:9/v1"
"""Never asked: all of these errors come before the first request."""

GOOD = bundled_rows(1)[0]


def _lines(tmp_path, *lines):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def _without(field):
    return {name: value for name, value in GOOD.items() if name != field}


BAD_ROWS = {
    "not JSON": ("{oops", "line 2: is not JSON: Expecting property name"),
    "not an object": ("[1, 2]", "line 2: is not a JSON object"),
    "no messages": (
        _without("messages"),
        "line 2: field 'messages': is missing, expected a list or its JSON text",
    ),
    "messages empty": (GOOD | {"messages": "[]"}, "line 2: field 'messages': [] is empty"),
    "messages no JSON": (GOOD | {"messages": "{"}, "line 2: field 'messages': '{' is not JSON"),
    "a message no object": (
        GOOD | {"messages": ["hi"]},
        "line 2: field 'messages[0]': 'hi' is not an object",
    ),
    "no role": (
        GOOD | {"messages": [{"content": "hi"}]},
        "line 2: field 'messages[0].role': None is not a string",
    ),
    "tools an object": (GOOD | {"tools": '{"a": 1}'}, "line 2: field 'tools': {'a': 1} is not a list"),
    "a tool no object": (GOOD | {"tools": [1]}, "line 2: field 'tools[0]': 1 is not an object"),
    "no decision": (
        GOOD | {"should_call_tool": None, "official_finish_reason": None},
        "line 2: field 'should_call_tool': is missing",
    ),
    "decision no boolean": (
        GOOD | {"should_call_tool": "yes"},
        "field 'should_call_tool': 'yes' is not a boolean",
    ),
    "parameters a list": (GOOD | {"parameters": "[1]"}, "line 2: field 'parameters': [1] is not an object"),
}


@pytest.mark.parametrize("bad", BAD_ROWS)
def test_a_bad_row_is_named(tmp_path, bad):
    """A row that cannot be used is reported with file, line, field and reason, before anything is sent."""
    line, said = BAD_ROWS[bad]
    path = _lines(tmp_path, GOOD, line, GOOD)
    with raises_cleanly(
        BadRowsError, f"{path}: 1 of 3 row", said, "Correct or remove them; nothing was sent."
    ):
        evaluate(NOWHERE, tmp_path / "run", path)


def test_one_bad_row_does_not_hide_the_others(tmp_path):
    """All bad rows are listed in one error."""
    path = _lines(tmp_path, "{oops", GOOD, GOOD | {"tools": 1}, _without("messages"))
    with raises_cleanly(
        BadRowsError, "3 of 4 rows", "line 1: ", "line 3: field 'tools'", "line 4: field 'messages'"
    ):
        evaluate(NOWHERE, tmp_path / "run", path)


@pytest.mark.parametrize(
    "name", ["missing.jsonl", "missing.jsonl.gz", "nowhere/at/all.jsonl", "./no_such_directory"]
)
def test_a_missing_file_is_named(tmp_path, name):
    """A path that does not exist is named, with what could be given instead."""
    path = name if name.startswith("./") else str(tmp_path / name)
    with raises_cleanly(DataError, path.removeprefix("./"), "no such file or directory", "'bundled'"):
        evaluate(NOWHERE, tmp_path / "run", path)


def test_an_empty_file_is_no_data(tmp_path):
    """A file without rows is an error, not an empty success."""
    with raises_cleanly(DataError, "rows.jsonl: holds no rows"):
        evaluate(NOWHERE, tmp_path / "run", _lines(tmp_path))


def test_an_unknown_subset_of_a_directory_lists_what_is_there(tmp_path):
    """A directory without the subset's file says which names were expected and which were found."""
    write_rows(tmp_path / "k2_thinking_test.jsonl", [GOOD])
    with raises_cleanly(
        DataError, "no rows of subset 'k2_thinkin'", "k2_thinkin_test.jsonl", "found k2_thinking_test.jsonl"
    ):
        evaluate(NOWHERE, tmp_path / "run", tmp_path, dataset_args={"subset_list": ["k2_thinkin"]})


def test_an_unknown_subset_of_the_hub_needs_local_rows(tmp_path):
    """A subset that the hub does not hold is refused at once, and local_path named."""
    changes = {"local_path": "evalscope/K2VendorVerifier", "subset_list": ["k2_0905"]}
    with raises_cleanly(
        DataError, "subset 'k2_0905' is not on the hub, which holds k2_thinking", "local_path"
    ):
        evaluate(NOWHERE, tmp_path / "run", dataset_args=changes)


def test_an_unreachable_hub_is_not_waited_for(tmp_path, monkeypatch):
    """Without network, the hub error comes in English, before its client gives up, and names local_path and the bundled rows."""
    monkeypatch.setenv("MODELSCOPE_DOMAIN", "127.0.0.1:9")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    # The hub's client retries with pauses in between, which do not end here before the run does.
    ended = threading.Event()
    monkeypatch.setattr(time, "sleep", lambda _: ended.wait(3600))
    changes = {"local_path": "evalscope/K2VendorVerifier", "dataset_dir": str(tmp_path / "data")}
    with raises_cleanly(
        DataError, "'evalscope/K2VendorVerifier'", "127.0.0.1 is out of reach", "local_path", "'bundled'"
    ) as caught:
        evaluate(
            NOWHERE,
            tmp_path / "run",
            dataset_args={"local_path": changes["local_path"]},
            dataset_dir=changes["dataset_dir"],
        )
    ended.set()
    assert str(caught.value).isascii()


BAD_SETTINGS = {
    "malformed_history": (
        {"dataset_args": {"extra_params": {"malformed_history": "drop"}}},
        "Value drop not in choices ['sanitize', 'keep'] in k2_verifier extra_params",
    ),
    "normalize_tool_call_ids": (
        {"dataset_args": {"extra_params": {"normalize_tool_call_ids": "maybe"}}},
        "Value maybe not in choices [True, False] in k2_verifier extra_params",
    ),
    "misspelled argument": (
        {"dataset_args": {"local_pth": "x"}},
        "dataset_args.k2_verifier.local_pth is unknown; did you mean 'local_path'?",
    ),
    "timeout": (
        {"generation_config": {"timeout": -1}},
        "generation_config.timeout is -1.0, expected a number of at least",
    ),
    "retries": (
        {"generation_config": {"retries": -1}},
        "generation_config.retries is -1, expected a number of at least 0",
    ),
    "size limit": (
        {"dataset_args": {"extra_params": {"max_response_mb": 0}}},
        "extra_params.max_response_mb is 0",
    ),
    "a subset that is a path": (
        {"dataset_args": {"subset_list": ["../../out"]}},
        "subset is '../../out', expected a plain name",
    ),
    "a model that is a path": ({"model_id": "/out"}, "a part of model_id '/out' is '', expected a name"),
}


@pytest.mark.parametrize("bad", BAD_SETTINGS)
def test_a_setting_that_cannot_be_used_is_named(tmp_path, bad):
    """A setting out of range is refused by name and value before anything is sent."""
    changes, said = BAD_SETTINGS[bad]
    run = tmp_path / "a" / "b" / "run"
    with pytest.raises((UsageError, ValueError), match=re.escape(said)):
        evaluate(NOWHERE, run, **changes)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and run not in path.parents] == []


NAN, INFINITY = float("nan"), float("inf")
OURS = {"model": MODEL, "api_url": NOWHERE, "datasets": ["k2_verifier"]}
UNASKED = {
    "limit 0": ({"limit": 0}, "limit is 0, which EvalScope takes for no limit at all"),
    "limit 0.0": ({"limit": 0.0}, "limit is 0"),
    "limit '0'": ({"limit": "0"}, "limit is 0"),
    "dataset": (
        {"dataset_args": {"k2_verfier": {"local_path": "bundled"}}},
        "dataset_args.k2_verfier is no dataset of this task (k2_verifier); did you mean 'k2_verifier'?",
    ),
    "dataset beside the right one": (
        {"dataset_args": {"K2-Verifier": {}, "k2_verifier": {}}},
        "dataset_args.K2-Verifier is no dataset of this task (k2_verifier); did you mean 'k2_verifier'?",
    ),
    "another dataset alone": ({"dataset_args": {"gsm8k": {}}}, "dataset_args.gsm8k is no dataset"),
    "no dataset": (
        {"dataset_args": {"local_path": "bundled"}},
        "dataset_args.local_path names no dataset; did you mean {'k2_verifier': {'local_path': ...}}?",
    ),
    "extra parameter": (
        {"dataset_args": {"k2_verifier": {"extra_params": {"malformd_history": "keep"}}}},
        "extra_params.malformd_history is unknown; did you mean 'malformed_history'?",
    ),
    "no object": ({"dataset_args": {"k2_verifier": "bundled"}}, "is 'bundled', expected an object"),
    "NaN": ({"generation_config": {"temperature": NAN}}, "generation_config.temperature is nan"),
    "infinity inside": (
        {"generation_config": {"extra_body": {"stop": [1, {"p": -INFINITY}]}}},
        "generation_config.extra_body.stop[1].p is -inf, expected a finite number",
    ),
    "NaN in a typed config": (
        {"generation_config": GenerateConfig(top_p=NAN)},
        "generation_config.top_p is nan",
    ),
    "NaN as a parameter": (
        {"dataset_args": {"k2_verifier": {"extra_params": {"min_trigger_similarity": NAN}}}},
        "extra_params.min_trigger_similarity is nan",
    ),
}


@pytest.mark.parametrize("bad", UNASKED)
@pytest.mark.parametrize(
    "make", [lambda task: TaskConfig(**task), TaskConfig.from_dict], ids=["call", "dict"]
)
def test_what_cannot_be_meant_is_refused(bad, make):
    """What EvalScope would pass over, or understand otherwise, ends the task before it begins."""
    changes, said = UNASKED[bad]
    with raises_cleanly(UsageError, said):
        make({**OURS, **changes})
    assert make({**OURS, "datasets": ["gsm8k"], "limit": 0}).limit is None
    fine = {"limit": None, "dataset_args": {"gsm8k": {}, "k2_verifier": {"local_path": "bundled"}}}
    assert make({**OURS, **fine}).limit is None


def test_what_could_not_be_read_back_is_not_sent(tmp_path):
    """An extra body that is nested too deeply for stored parameters costs no request."""
    deep = {"a": 1}
    for _ in range(150):
        deep = {"a": deep}
    with raises_cleanly(UsageError, "generation_config holds what could not be read back", "nested deeper"):
        evaluate("http://127.0.0.1:9/v1", tmp_path, generation_config={"extra_body": {"x": deep}})


def test_no_rows_are_asked_twice(tmp_path):
    """A subset named twice, and one file under two subset names, are refused by name."""
    path = _lines(tmp_path, GOOD)
    for subsets, said in ((["a", "b", "a"], "names 'a' twice"), (["a", "b"], "is one file, and subset_list")):
        with raises_cleanly(UsageError, said):
            evaluate("http://127.0.0.1:9/v1", tmp_path / "run", path, dataset_args={"subset_list": subsets})


def test_rows_that_contradict_themselves_are_named(tmp_path, caplog):
    """Official calls beside the decision not to call are passed over, and the log says in which rows."""
    calls = json.dumps([{"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}])
    path = _lines(tmp_path, GOOD, GOOD | {"should_call_tool": False, "official_tool_calls": calls})
    rows = load_cases(path, "k2_thinking", HistoryOptions())
    with caplog.at_level("WARNING", logger="evalscope"):
        log_rows("k2_thinking", rows, rows)
    assert "1 row with should_call_tool false carry official tool calls" in caplog.text
    assert "data_index 2" in caplog.text


def test_a_number_that_was_set_later_is_not_sent(tmp_path):
    """What came past the settings is refused where requests are planned."""
    task = TaskConfig(
        **{**OURS, "work_dir": str(tmp_path), "dataset_args": {"k2_verifier": {"local_path": "bundled"}}}
    )
    task.generation_config.temperature = NAN
    with raises_cleanly(UsageError, "generation_config holds what cannot be sent as JSON"):
        run_task(task)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"api_url": NOWHERE}, "no model is named; give --model NAME and --api-url URL"),
        ({}, "no model is named"),
        ({"model": "kimi"}, "model 'kimi' has no endpoint; give --api-url URL"),
        ({"model": "kimi", "eval_type": "openai_api"}, "model 'kimi' has no endpoint"),
        ({"model": "kimi", "eval_type": "llm_ckpt"}, "model 'kimi' has no endpoint"),
    ],
)
def test_nothing_is_judged_that_was_not_asked_for(task, said, monkeypatch, tmp_path):
    """Neither EvalScope's stand-in model nor weights that it would look for are judged, in dry runs either."""
    monkeypatch.delenv("EVALSCOPE_BASE_URL", raising=False)
    args = {"k2_verifier": {"local_path": "bundled"}}
    chosen = {**task, "datasets": ["k2_verifier"], "dataset_args": args, "work_dir": str(tmp_path)}
    with raises_cleanly(UsageError, said):
        run_task(TaskConfig(**chosen))
    with raises_cleanly(UsageError, said):
        estimate_eval([], chosen)


def test_what_was_asked_for_by_name_is_judged(monkeypatch, tmp_path):
    """A stand-in model that is asked for, weights in a directory, and an endpoint of the environment."""
    monkeypatch.setenv("EVALSCOPE_BASE_URL", NOWHERE)
    for asked in (
        {"eval_type": "mock_llm"},
        {"model": "kimi", "eval_type": "mock_llm"},
        {"model": str(tmp_path)},
        {"model": "kimi", "eval_type": "openai_api"},
    ):
        check_endpoint(TaskConfig(**asked, datasets=["k2_verifier"]))


BAD_ENDPOINTS = {
    "no scheme": ({"api_url": "example.com/v1"}, "expected http://… or https://…"),
    "other scheme": ({"api_url": "ftp://example.com/v1"}, "expected http://… or https://…"),
    "a user in it": ({"api_url": "http://me:secret-word@127.0.0.1:9/v1"}, "give the key as api_key instead"),
    "a key with a line end": ({"api_key": "sk-0123456789\n"}, "api_key"),
    "a header with a line end": (
        {"generation_config": {"extra_headers": {"X-Team": "blue\nX-Evil: 1"}}},
        "extra_headers",
    ),
}


@pytest.mark.parametrize("bad", BAD_ENDPOINTS)
def test_an_endpoint_that_cannot_be_asked_is_named(tmp_path, bad):
    """A URL, key or header that cannot be sent is a `UsageError`, without the secrets in it."""
    changes, said = BAD_ENDPOINTS[bad]
    with raises_cleanly(UsageError, said) as caught:
        evaluate(
            changes.get("api_url", NOWHERE),
            tmp_path,
            **{name: changes[name] for name in changes if name != "api_url"},
        )
    for secret in ("secret-word", "0123456789"):
        assert secret not in str(caught.value)


def test_the_stock_command_ends_with_the_error(tmp_path):
    """Under the stock command the last line is the error's message, and the exit code is not 0."""
    path = _lines(tmp_path, GOOD, "{oops")
    done = evalscope_eval(NOWHERE, tmp_path / "run", path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"k2_verifier_adapter.errors.BadRowsError: {path}: 1 of 2 row")
    assert last.endswith("Correct or remove them; nothing was sent.")


def test_every_error_is_of_one_family():
    """All errors that the package raises on purpose share one base class."""
    for kind in (BadRowsError, DataError, UsageError):
        assert issubclass(kind, K2VerifierError)


def test_a_limit_that_leaves_no_row_is_refused(tmp_path):
    """A fraction that comes to no row at all is an error, not an empty report."""
    with raises_cleanly(UsageError, "limit 0.001 of 240 rows leaves none"):
        evaluate(NOWHERE, tmp_path / "run", limit=0.001)
