"""No secret leaves: marked keys in every place that takes one, and a search of all files and both streams."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import logging
import os
import re
import subprocess
import sys
from urllib.parse import quote

import pytest
import yaml
from evalscope import TaskConfig, run_task
from evalscope.api.registry import MODEL_APIS, register_model_api
from evalscope.models.openai_compatible import OpenAICompatibleAPI
from support.commands import invoke
from support.raw_server import DONE, RawServer, chunk, completion, event, reply, says, stream
from support.runs import (
    EVALSCOPES_WARNINGS,
    MODEL,
    bundled_rows,
    evalscope_eval,
    evaluate,
    raises_cleanly,
    resume,
    settings,
    stored,
    values_of,
    without_proxy,
    write_rows,
)

from k2_verifier_adapter.errors import CacheMismatchError, EndpointError, UsageError
from k2_verifier_adapter.evalscope_plugin import running
from k2_verifier_adapter.evalscope_plugin.running import estimate_eval, run_eval
from k2_verifier_adapter.offline.stored import summary_of

pytestmark = EVALSCOPES_WARNINGS

SECRETS = {
    "api key": "sk-marked/key+0123456789==",
    "header": "marked-gateway-0123456789",
    "auth header": "marked-auth-0123456789",
    "cookie": "marked-cookie-0123456789",
    "query": "marked-query-0123456789",
    "client header": "marked-client-0123456789",
    "body": "marked-body-0123456789",
}
BASIC = base64.b64encode(b"me:marked-basic-0123456789").decode()
EVERY = {*SECRETS.values(), BASIC, "marked-basic-0123456789"}

GENERATION = {
    "retries": 0,
    "extra_headers": {
        "X-Gateway-Pass": SECRETS["header"],
        "X-API-Key": SECRETS["auth header"],
        "X-Basic": f"Basic {BASIC}",
        "Cookie": f"session={SECRETS['cookie']}; theme=dark",
        "HTTP-Referer": "https://example.com/verifier",
    },
    "extra_query": {"sig": SECRETS["query"], "api-version": "2024-10-21"},
    "extra_body": {"user_token": SECRETS["body"]},
}
MODEL_ARGS = {"default_headers": {"X-Client": SECRETS["client header"]}}

ROWS = [
    {**row, "parameters": json.dumps({"stream": number % 2 == 0})}
    for number, row in enumerate(bundled_rows(60))
]
CALLING = next(number for number, row in enumerate(ROWS) if row["should_call_tool"])


def unspelled(text):
    """Give a text, and behind it what is left of it where the escapes of ASCII characters are undone."""
    plain = re.sub(
        r"\\+u00([2-7].)|\\+x([2-7].)|%([2-7][\dA-Fa-f])|\\+(?=[\"\\])",
        lambda match: chr(int(next(filter(None, match.groups()), "5c"), 16)) if match.lastindex else "",
        text,
    )
    return f"{text}\n{plain}"


def leaks(folder, *texts, secrets=EVERY):
    """List where a secret stands, in whatever spelling: in files, packed ones too, their names, and texts."""
    spellings = {
        spelling
        for secret in secrets
        for spelling in (secret, quote(secret, safe=""), json.dumps(secret).replace("/", "\\/")[1:-1])
    }
    contents = {f"text {number}": unspelled(text) for number, text in enumerate(texts)}
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            content = gzip.decompress(content) if path.suffix == ".gz" else content
            contents[str(path)] = unspelled(f"{path} {content.decode('utf-8', 'replace')}")
    return sorted(
        (where, secret) for where, text in contents.items() for secret in spellings if secret in text
    )


def repeated(arrival):
    """Give all that a client sent that is secret, as a sloppy vendor repeats it."""
    return f"{arrival.head.decode('latin-1')} {SECRETS['body']} marked-basic-0123456789"


async def repeats_everything(arrival, writer):
    """Answer in many ways, all of which repeat the secrets."""
    said = repeated(arrival)
    head, error = " ".join(said.split()), {"error": {"message": said, "param": {said: [said]}}}
    call = {"index": 0, "id": f"id {SECRETS['api key']}", "type": "function"}
    call["function"] = {"name": SECRETS["header"], "arguments": json.dumps({"auth": said})}
    streamed = [
        stream(event(chunk({"content": said[:200]})), event(chunk({"content": said[200:]}, "stop")), DONE),
        stream(event(chunk({"reasoning_content": said}, SECRETS["query"], system_fingerprint=said)), DONE),
        stream(event(chunk({"tool_calls": [call]}, "tool_calls", model=SECRETS["api key"])), DONE),
        stream(event(error)),
        stream(event(f'{{"broken {said}')),
    ]
    whole = [
        reply(completion(said)),
        reply(json.dumps(completion(said)).replace("/", "\\/").replace("marked", "m\\u0061rked").encode()),
        reply(error, 400),
        reply(f"<html>{said}</html>".encode(), 400, content_type="text/html"),
        reply(f"<html>{said}</html>".encode(), content_type="text/html"),
        reply(error),
        reply(f"{'x' * 480} {head}".encode(), 503, f"Retry-After: {SECRETS['api key']}"),
        reply(b"", 302, f"Location: https://elsewhere.invalid/?{quote(head)}"),
        reply({"choices": [said]}),
    ]
    answers = streamed if arrival.json()["stream"] else whole
    writer.write(answers[arrival.number // 2 % len(answers)])


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Run in a folder of one's own: working, home and temporary directory all lie in it."""
    for name, variable in (("home", "HOME"), ("tmp", "TMPDIR"), ("cwd", None)):
        (tmp_path / name).mkdir()
        if variable:
            monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.chdir(tmp_path / "cwd")
    write_rows(tmp_path / "rows.jsonl", ROWS)
    return tmp_path


@pytest.fixture
def logged():
    """All that reaches a handler, of any logger, formatted."""
    written = []
    handler = logging.Handler(logging.DEBUG)
    handler.setFormatter(logging.Formatter())
    handler.emit = lambda record: written.append(handler.format(record))
    loggers = [logging.getLogger(), logging.getLogger("evalscope")]
    for logger in loggers:
        logger.addHandler(handler)
    yield written
    for logger in loggers:
        logger.removeHandler(handler)


# --- the whole chain -----------------------------------------------------------------------------


def test_the_stock_command_and_all_that_follows(place, monkeypatch):
    """Whatever a vendor repeats, with all debugging on: no secret in any file, stream, report or export."""
    for name, value in (
        ("EVALSCOPE_LOG_LEVEL", "DEBUG"),
        ("PYTHONASYNCIODEBUG", "1"),
        ("OPENAI_LOG", "debug"),
    ):
        monkeypatch.setenv(name, value)
    run = place / "run"
    with RawServer(repeats_everything).in_thread() as server:
        done = evalscope_eval(
            server.url,
            run,
            place / "rows.jsonl",
            "--debug",
            "--model-args",
            json.dumps(MODEL_ARGS),
            api_key=SECRETS["api key"],
            generation_config=GENERATION,
        )
    assert done.returncode == 0, done.stderr
    arrived = repeated(server.arrivals[0])
    assert len(server.arrivals) == len(ROWS)
    assert all(secret in arrived for secret in EVERY)
    found = stored(run)
    assert len(found.records) > 15
    assert len(found.failed) > 15
    assert leaks(place, done.stdout, done.stderr) == []

    outputs = []
    for arguments in (
        ["report", run],
        ["report", run, "--format", "json"],
        ["report", run, "--redact"],
        ["export", run, "--output", place / "results.jsonl", "--summary", place / "summary.json"],
        ["export", run, "--output", place / "redacted.jsonl", "--redact"],
        ["score", place / "results.jsonl", "--rows", place / "rows.jsonl"],
        ["score", place / "results.jsonl", "--rows", place / "rows.jsonl", "--format", "json"],
    ):
        result = invoke(*arguments)
        # Half of the requests failed, which makes every report an incomplete one.
        assert result.exit_code == (0 if arguments[0] == "export" else 3), result.stderr
        outputs += [result.stdout, result.stderr]
    assert "***" in (place / "results.jsonl").read_text()
    assert leaks(place, *outputs) == []


def test_k2_verifier_eval_with_keys_from_file_and_environment(place):
    """A refused run with the key from the environment and headers from a config file ends without showing them."""
    (place / "task.yaml").write_text(
        yaml.safe_dump(
            {
                "model": MODEL,
                "api_url": "${URL}",
                "generation_config": {"extra_headers": {"X-Gateway-Pass": "${PASS}"}, "retries": 0},
                "model_args": MODEL_ARGS,
                "dataset_args": {"k2_verifier": {"local_path": str(place / "rows.jsonl")}},
                "work_dir": "out",
            }
        )
    )
    (place / "config").mkdir()
    (place / "task.yaml").rename(place / "config" / "task.yaml")
    refusal = reply({"error": {"message": " ".join(EVERY)}}, 401)

    with RawServer(says(refusal)).in_thread() as server:
        environment = {
            "URL": server.url,
            "PASS": SECRETS["header"],
            "K2_VERIFIER_API_KEY": SECRETS["api key"],
        }
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "k2_verifier_adapter",
                "eval",
                "--config",
                "../config/task.yaml",
                "--debug",
            ],
            env=without_proxy({**os.environ, **environment}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 2
    assert "HTTP 401" in done.stderr.splitlines()[-1]
    (place / "config" / "task.yaml").unlink()
    used = {SECRETS["api key"], SECRETS["header"], SECRETS["client header"]}
    assert all(secret in server.arrivals[0].head.decode() for secret in used)
    assert leaks(place, done.stdout, done.stderr, secrets=used) == []


# --- what EvalScope dumps ------------------------------------------------------------------------


def _task(run, **changes):
    chosen = settings(
        "http://127.0.0.1:9/v1", run, api_key=SECRETS["api key"], model_args=MODEL_ARGS, **changes
    )
    chosen["generation_config"] = GENERATION
    return chosen


def test_a_dry_run_shows_no_secret(place, logged, capfd):
    """EvalScope's own dry run logs the settings before any benchmark is loaded: without the secrets."""
    run_task(TaskConfig(**_task(place / "run", dry_run=True)))
    text = "\n".join(logged)
    assert '"X-Gateway-Pass": "**********"' in text
    assert '"sig": "**********"' in text
    assert leaks(place, text, *capfd.readouterr()) == []


def test_what_a_dry_run_would_send_is_told_without_secrets(place, logged, capfd, monkeypatch):
    """`k2-verifier eval --dry-run` builds the model and the requests, and shows no secret of either."""
    monkeypatch.setattr(running, "quiet", contextlib.nullcontext)
    (estimate,) = estimate_eval([], _task(place / "run"))
    assert estimate.parameters["user_token"] == "***"
    assert any("rows from bundled" in line for line in logged)
    assert leaks(place, repr(estimate), *logged, *capfd.readouterr()) == []


def test_other_benchmarks_are_dumped_as_ever():
    """Of a task without this benchmark, EvalScope shows what it always did."""
    headers = {"X-Team": "blue", "X-API-Key": "key"}
    other = TaskConfig(model="m", datasets=["gsm8k"], generation_config={"extra_headers": headers})
    ours = TaskConfig(
        model="m", datasets=["gsm8k", "k2_verifier"], generation_config={"extra_headers": headers}
    )
    assert other.to_dict()["generation_config"]["extra_headers"] == {
        "X-Team": "blue",
        "X-API-Key": "**********",
    }
    assert set(ours.to_dict()["generation_config"]["extra_headers"].values()) == {"**********"}
    assert ours.generation_config.extra_headers["X-Team"] == "blue"


def test_a_run_goes_on_with_other_keys(place):
    """With key, headers and query all renewed, `use_cache` sends nothing again; another body is refused unseen."""
    rows = write_rows(place / "rows.jsonl", ROWS[:4])
    run = place / "run"

    def renewed(value):
        return json.loads(json.dumps(value).replace("marked-", "renewed-"))

    first = {**GENERATION, "stream": True}
    later = {**renewed(first), "extra_body": first["extra_body"]}
    with RawServer(says(stream(event(chunk({"content": "fine"}, "stop")), DONE))).in_thread() as server:
        evaluate(server.url, run, rows, api_key="sk-marked-1", generation_config=first, model_args=MODEL_ARGS)
        keys = {"api_key": "sk-renewed-1", "model_args": renewed(MODEL_ARGS)}
        report = resume(server.url, run, rows, generation_config=later, **keys)
        with raises_cleanly(CacheMismatchError, "a value that is not shown") as caught:
            resume(server.url, run, rows, generation_config=renewed(first), **keys)
    assert len(server.arrivals) == 4
    assert report.execution_summary.succeeded == 4
    assert leaks(place, str(caught.value), secrets={"marked-", "renewed-"}) == []


# --- what is stored ------------------------------------------------------------------------------


def _answered(place, body, headers):
    """Ask for one row with these headers; give the response as it is stored."""
    rows = write_rows(place / "row.jsonl", [ROWS[CALLING]])
    with RawServer(says(reply(body))).in_thread() as server:
        generation = {"stream": False, "extra_headers": headers}
        evaluate(server.url, place / "run", rows, generation_config=generation)
    (record,) = stored(place / "run").records
    return record.response


def test_only_the_secret_is_masked_in_a_response(place):
    """A response is stored byte for byte but for the secret; spacing, escapes and numbers stay."""
    key = SECRETS["header"]
    body = f'{{ "choices" :[{{"finish_reason":"stop", "message":{{"content":"{key} \\u0041 1.0e2"}}}}],"n":1.0e2}}'
    assert _answered(place, body.encode(), {"X-Gateway-Pass": key}) == body.replace(key, "***")


def test_what_is_no_credential_stays_in_a_response(place):
    """Headers that name a title, a version, a team or the model change nothing in an answer that says the same."""
    headers = {
        "X-Title": "K2 verification run",
        "X-Team": "engineering",
        "X-Route": MODEL,
        "api-version": "2024-10-21",
        "Content-Type": "application/json",
    }
    body = json.dumps(completion(f"{json.dumps(headers)}", model=MODEL))
    assert _answered(place, body.encode(), headers) == body


def calling(call):
    """Give a completion with a call."""
    answer = completion("", "tool_calls")
    answer["choices"][0]["message"]["tool_calls"] = [call]
    return answer


VOIDING = {
    "finish_reason": ({"X-Auth": "tool_calls"}, {}),
    "arguments": ({"X-Session": "session-of-row"}, {"arguments": '{"where": "session-of-row"}'}),
}


@pytest.mark.parametrize("case", VOIDING)
def test_there_is_no_verdict_on_what_a_mask_altered(place, case):
    """Where a credential stands in what is judged, run, report and the score of its export say so, and judge nothing."""
    headers, function = VOIDING[case]
    row = {name: value for name, value in ROWS[CALLING].items() if name not in ("synthetic", "parameters")}
    rows = write_rows(place / "row.jsonl", [row])
    call = {
        "id": "functions.f:0",
        "type": "function",
        "function": {"name": "f", "arguments": "{}", **function},
    }
    with RawServer(says(reply(calling(call)))).in_thread() as server:
        generation = {"stream": False, "extra_headers": headers}
        evaluate(server.url, place / "run", rows, generation_config=generation)
    invoke("export", place / "run", "--output", place / "results.jsonl")
    reports = [invoke("report", place / "run", "--format", "json", "--gate", "strict")]
    reports.append(
        invoke(
            "score",
            place / "results.jsonl",
            "--rows",
            rows,
            "--format",
            "json",
            "--gate",
            "strict",
            "--subset",
            "k2_thinking",
        )
    )
    for done in reports:
        verdict = json.loads(done.stdout)["verdict"]
        assert done.exit_code == 3
        assert verdict["status"] == "none"
        assert "of 1 response, and was masked" in verdict["reason"]


@pytest.mark.parametrize("headers", [{"X-Benchmark": "tool_calls"}, {"X-Region": "us-east-1"}])
def test_what_is_no_credential_is_judged_as_it_came(place, headers):
    """A header that says what an answer must say leaves finish_reason and an enum alone."""
    parameters = {"type": "object", "properties": {"region": {"enum": ["us-east-1"]}}, "required": ["region"]}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    rows = write_rows(place / "row.jsonl", [{**ROWS[CALLING], "tools": json.dumps([tool])}])
    call = {"id": "functions.f:0", "type": "function"}
    call["function"] = {"name": "f", "arguments": '{"region": "us-east-1"}'}
    with RawServer(says(reply(calling(call)))).in_thread() as server:
        generation = {"stream": False, "extra_headers": headers}
        report = evaluate(server.url, place / "run", rows, generation_config=generation)
    assert values_of(report)["count_successful_tool_call"] == (1, 1)
    assert not any("masked" in text for text in summary_of(stored(place / "run")).warnings)


# --- cuts ------------------------------------------------------------------------------------------

MARKED = 'sk-Zq7+Wj3/Kx9Vb5Nm1Rt8Yp2Lc6Hd4Gf0Sa"\\Qe-Uo=='
"""A key of 48 characters, some of which every writing escapes."""


def _cuts():
    """Give answers that hold the key, in different spellings, at the places where excerpts are cut."""
    spellings = [
        lambda key: key,
        lambda key: json.dumps(key)[1:-1],
        lambda key: "".join(f"\\u{ord(letter):04x}" for letter in key),
        lambda key: quote(key, safe=""),
        lambda key: "".join(f"%{byte:02X}" for byte in key.encode()),
    ]
    answers = []
    for number in range(60):
        spelled = spellings[number % 5](MARKED)
        # Excerpts of 120, 300 and 500 characters, and of the 64 KiB of an error body that are read.
        limit = (120, 300, 500, 65_536)[number // 5 % 4]
        cut = 2 + number * 5 % (len(spelled) - 1)
        if limit == 65_536:
            start = (limit - cut - len("wrong key")) * b" "
            answers.append(reply(start + b"wrong key" + spelled.encode() + b"." * 200, 400 + number % 3))
            continue
        text = f"{'-' * max(0, limit - cut - 30)} {spelled} and so on {'.' * 200}"
        kinds = [
            reply(text.encode(), 400),
            reply(text.encode(), 503),
            reply({"error": {"message": text, text: 1}}),
            reply(f'{{"error": "{text}"}}'.encode(), 500),
            stream(event({"error": {"message": text}})),
            stream(event(text)),
            reply(text.encode()),
            reply({"choices": [text]}),
        ]
        answers.append(kinds[number % len(kinds)])
    return answers


def test_no_cut_shows_a_part_of_a_key(place, logged, capfd, monkeypatch):
    """Wherever an excerpt cuts a marked key, and however a vendor spells it, no part of it is found anywhere."""
    answers = _cuts()
    fine = stream(event(chunk({"content": "fine"}, "stop")), DONE)

    async def cuts(arrival, writer):
        # In turns: a run of failures alone is given up.
        writer.write(answers[arrival.number // 2] if arrival.number % 2 else fine)

    rows = write_rows(place / "rows.jsonl", bundled_rows(2 * len(answers)))
    with RawServer(cuts).in_thread() as server:
        evaluate(
            server.url,
            place / "run",
            rows,
            api_key=MARKED,
            eval_batch_size=1,
            generation_config={"retries": 0},
        )
    failed = stored(place / "run").failed
    assert sum("***" in item.failure.detail for item in failed) > 40
    rows.unlink()

    monkeypatch.setenv("K2_VERIFIER_API_KEY", MARKED)
    outputs = [*logged, *capfd.readouterr()]
    for number in (10, 11, 15):
        with RawServer(says(answers[number])).in_thread() as server:
            done = invoke("doctor", "--api-url", server.url, "--model", MODEL)
        outputs += [done.stdout, done.stderr]
    parts = {MARKED[start : start + 6] for start in range(len(MARKED) - 5)}
    assert leaks(place, *outputs, secrets=parts) == []


# --- addresses -----------------------------------------------------------------------------------

PASSWORD = "marked-pass-0123456789"
ADDRESSES = {
    "password": (f"http://me:{PASSWORD}@127.0.0.1:9/v1", "user name or password"),
    "key as user": (f"http://{PASSWORD}@127.0.0.1:9/v1", "user name or password"),
    "password with #": (f"http://me:x#{PASSWORD}@127.0.0.1:9/v1", "no usable URL"),
    "password with /": (f"http://me:x/{PASSWORD}@127.0.0.1:9/v1", "no usable URL"),
    "no scheme": (f"me:{PASSWORD}@127.0.0.1:9/v1", "user name or password"),
    "key in query": (f"http://127.0.0.1:9/v1?key={PASSWORD}", "extra_query"),
    "key in fragment": (f"http://127.0.0.1:9/v1#{PASSWORD}", "extra_query"),
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_with_credentials_is_refused_unseen(place, address, logged, capfd):
    """A URL that holds credentials ends the run with advice, before anything shows or stores it."""
    url, advice = ADDRESSES[address]
    with raises_cleanly(UsageError, "api_url", advice) as caught:
        evaluate(url, place / "run", place / "rows.jsonl")
    doctor = invoke("doctor", "--api-url", url, "--model", MODEL)
    assert doctor.exit_code == 2
    shown = (str(caught.value), *logged, *capfd.readouterr(), doctor.stdout, doctor.stderr)
    assert leaks(place, *shown, secrets={PASSWORD}) == []


@pytest.mark.parametrize(
    "url", [f"http://me:x#{PASSWORD}@127.0.0.1:9", f"http://me:{PASSWORD}@127.0.0.1:port"]
)
def test_a_proxy_that_cannot_be_read_is_refused_unseen(place, url, monkeypatch, capfd):
    """A proxy URL that clients would quote in an error is refused without showing it."""
    monkeypatch.setenv("http_proxy", url)
    with raises_cleanly(UsageError, "the environment's http proxy is no usable URL") as caught:
        evaluate("http://vendor.invalid/v1", place / "run", place / "rows.jsonl")
    assert leaks(place, str(caught.value), *capfd.readouterr(), secrets={PASSWORD}) == []


def test_a_proxys_password_stays_secret(place, monkeypatch, logged, capfd):
    """A proxy that repeats its credentials brings them into no file and no message."""

    async def refuses(arrival, writer):
        word = arrival.headers["proxy-authorization"].split()[1]
        writer.write(reply(f"{PASSWORD} {word}".encode(), 407))

    with RawServer(refuses).in_thread() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1").replace("//", f"//me:{PASSWORD}@"))
        with raises_cleanly(EndpointError, "HTTP 407") as caught:
            evaluate("http://vendor.invalid/v1", place / "run", place / "rows.jsonl")
    word = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    assert proxy.arrivals[0].headers["proxy-authorization"] == f"Basic {word}"
    shown = (str(caught.value), *logged, *capfd.readouterr())
    assert leaks(place, *shown, secrets={PASSWORD, word}) == []


def test_a_dead_endpoint_shows_no_query(place, logged, capfd):
    """The error of a connection that cannot be made names the host, not the query or the key."""
    with raises_cleanly(EndpointError, "connection_failed", "127.0.0.1:9") as caught:
        run_task(TaskConfig(**_task(place / "run")))
    assert leaks(place, str(caught.value), *logged, *capfd.readouterr()) == []


REFUSAL = b"no\x1b]0;owned\x07 \x1b[2J\xc2\x9b31m \xe2\x80\xae way"


@pytest.mark.parametrize("answer", [reply(REFUSAL, 401), reply(b"", 302, "Location: /\x1b[2J")])
def test_a_refusal_cannot_steer_the_terminal(place, answer, logged, capfd):
    """Control characters in an error body or an address are shown as escapes, in log, file and error."""
    rows = write_rows(place / "rows.jsonl", ROWS[:3])
    with RawServer(says(answer)).in_thread() as server, raises_cleanly(EndpointError, "\\x1b") as caught:
        evaluate(server.url, place / "run", rows)
    details = [item.failure.detail for item in stored(place / "run").failed]
    assert details
    assert all(text.isprintable() for text in (str(caught.value), *details))
    said = [line for line in (*logged, *capfd.readouterr().err.splitlines()) if "HTTP " in line]
    assert said
    for line in said:
        assert re.sub(r"\x1b\[(\d+m|A)|[\r\n]", "", line).isprintable()


# --- other ways ----------------------------------------------------------------------------------


def test_another_api_that_repeats_the_key(place, logged, capfd):
    """An API that is asked through EvalScope, and whose errors and answers repeat secrets, leaks none."""

    @register_model_api("k2_test_repeats")
    def repeats():
        class Repeats(OpenAICompatibleAPI):
            asked = 0

            def generate(self, **arguments):
                Repeats.asked += 1
                if Repeats.asked % 2:
                    raise RuntimeError(
                        f"no access: {self.api_key} {arguments['config'].extra_headers['X-Gateway-Pass']}\x1b[2J"
                    )
                return super().generate(**arguments)

        return Repeats

    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}

    async def says_it_again(arrival, writer):
        writer.write(reply(completion(repeated(arrival), usage=usage, created=1)))

    rows = write_rows(place / "rows.jsonl", ROWS[:8])
    try:
        with RawServer(says_it_again).in_thread() as server:
            chosen = {
                **_task(place / "run", eval_type="k2_test_repeats", eval_batch_size=1),
                "api_url": server.url,
            }
            chosen["dataset_args"]["k2_verifier"]["local_path"] = str(rows)
            chosen["generation_config"] = {**GENERATION, "stream": False}
            run_task(TaskConfig(**chosen))
    finally:
        MODEL_APIS.pop("k2_test_repeats")
    found = stored(place / "run")
    assert found.records
    details = [item.failure.detail for item in found.failed]
    assert "RuntimeError: no access: *** ***\\x1b[2J" in details
    assert any("***" in record.response for record in found.records)
    assert leaks(place, *logged, *capfd.readouterr()) == []


class _FailsWithItsKey(OpenAICompatibleAPI):
    def generate(self, **_):
        logging.getLogger("some.client").warning("asking with %s", self.api_key)
        raise RuntimeError(f"no access with {self.api_key}")


@pytest.mark.parametrize("kind", [OpenAICompatibleAPI, _FailsWithItsKey])
def test_a_model_that_was_made_with_a_key(place, kind, logged, capfd):
    """The key of a model object, which the task's settings do not hold, is as secret as any."""
    rows = write_rows(place / "rows.jsonl", [ROWS[number] for number in (0, 1, 3)])
    refusal = reply(f"wrong key {SECRETS['api key']}".encode(), 401)

    with RawServer(says(refusal)).in_thread() as server, raises_cleanly(EndpointError, "***") as caught:
        model = kind(model_name=MODEL, base_url=server.url, api_key=SECRETS["api key"])
        evaluate(server.url, place / "run", rows, model=model, api_key="unused")
    assert leaks(place, str(caught.value), *logged, *capfd.readouterr()) == []


FLAGS = {
    "unknown flag": (["--apikey=" + PASSWORD], "unknown flag '--apikey'"),
    "value without flag": (["--model", "m", PASSWORD], "belongs to no flag: '...'"),
    "wrong type": (["--generation-config", json.dumps({"extra_headers": PASSWORD})], "extra_headers"),
    "misplaced": ({"extra_headers": {"X-Key": PASSWORD}}, "extra_headers"),
    "wrong key": ({"api_key": [PASSWORD]}, "api_key"),
}


@pytest.mark.parametrize("case", FLAGS)
def test_a_refused_setting_is_not_quoted(case, capfd):
    """What EvalScope refuses is named, its value is not."""
    given, said = FLAGS[case]
    flags, config = (given, {}) if isinstance(given, list) else ([], given)
    with raises_cleanly(UsageError, said) as caught:
        run_eval([*flags, "--limit", "1"], {"model": "m", "api_url": "http://127.0.0.1:9/v1", **config})
    assert PASSWORD[:12] not in str(caught.value) + "".join(capfd.readouterr())


def test_doctor_shows_and_forwards_no_key(place, monkeypatch):
    """`doctor` masks a key that the endpoint repeats, and takes it to no other host by a redirect."""
    monkeypatch.setenv("K2_VERIFIER_API_KEY", SECRETS["api key"])
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    async def lists(arrival, writer):
        writer.write(reply({"data": [{"id": repeated(arrival)}, {"id": MODEL}]}))

    async def redirects(_, writer):
        writer.write(reply(b"", 302, f"Location: {elsewhere.url}/{quote(SECRETS['api key'])}"))

    async def answers(arrival, writer):
        await (lists if b"GET" in arrival.head else repeats_everything)(arrival, writer)

    with RawServer(lists).in_thread() as elsewhere, RawServer(redirects).in_thread() as redirecting:
        redirected = invoke("doctor", "--api-url", redirecting.url)
    assert "HTTP 302" in redirected.stdout
    assert SECRETS["api key"] in redirecting.arrivals[0].head.decode()
    assert elsewhere.arrivals == []
    outputs = [redirected.stdout, redirected.stderr]
    with RawServer(answers).in_thread() as server:
        for arguments in ((), ("--model", "other"), ("--model", MODEL), ("--model", MODEL)):
            result = invoke("doctor", "--api-url", server.url, *arguments)
            outputs += [result.stdout, result.stderr]
        monkeypatch.setenv("https_proxy", "http://[broken")
        assert invoke("doctor", "--api-url", server.url).exit_code == 0
    assert sum(b"GET" in arrival.head for arrival in server.arrivals) == 5
    assert "***" in outputs[2]
    assert leaks(place, *outputs, secrets={SECRETS["api key"]}) == []
