"""A run that is bound to fail ends early, with a typed error and one line of advice."""

from __future__ import annotations

import socket

import pytest
from support.raw_server import RawServer, completion, reply, says
from support.runs import (
    EVALSCOPES_WARNINGS,
    KEY,
    MODEL,
    bundled_rows,
    evalscope_eval,
    evaluate,
    raises_cleanly,
    resume,
    stored,
    write_rows,
)

from k2_verifier_adapter.errors import EndpointError, RunStoppedError
from k2_verifier_adapter.simulator import PROFILES, SimulatedVendor, profile_with

pytestmark = EVALSCOPES_WARNINGS

ROWS = bundled_rows(60)
OFFICIAL = PROFILES["official"]
BATCH = 8


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A file with the rows."""
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", ROWS)


def _vendor(profile=OFFICIAL, **settings):
    return SimulatedVendor(ROWS, profile, record_requests=True, **settings)


REFUSALS = {
    "wrong key": (_vendor(api_key="another"), "http_4xx: HTTP 401", "check the API key (--api-key"),
    "no credit": (
        _vendor(profile_with({"http_402": 1.0})),
        "http_4xx: HTTP 402",
        "the account has no credit",
    ),
    "forbidden": (
        _vendor(profile_with({"http_403": 1.0})),
        "http_4xx: HTTP 403",
        "the API key may not use this model",
    ),
    "unknown model": (_vendor(strict_model=True), "http_4xx: HTTP 404", "check the model name (--model)"),
    "parameters": (_vendor(profile_with({"http_400": 1.0})), "http_4xx: HTTP 400", "check the parameters"),
    "no API": (
        _vendor(profile_with({"not_a_completion_html": 1.0})),
        "not_a_completion",
        "up to and including /v1?",
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_of_everything_stops_the_run(tmp_path, rows, refusal):
    """If the first requests are all refused alike, `run_task` raises `EndpointError` after few of them."""
    vendor, said, advice = REFUSALS[refusal]
    start = len(vendor.requests)
    with (
        vendor.running() as endpoint,
        raises_cleanly(EndpointError, said, advice, "none succeeded") as caught,
    ):
        evaluate(endpoint.url, tmp_path, rows, eval_batch_size=BATCH)
    assert len(vendor.requests) - start <= 3 * BATCH
    assert KEY not in str(caught.value)
    run = stored(tmp_path)
    assert not run.facts.complete
    assert run.records == []
    assert run.failed


def test_an_unreachable_address_stops_the_run(tmp_path, rows):
    """Where nobody listens, the run ends within seconds, naming the address, whatever the retry settings."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    generation = {"retries": 5, "retry_interval": 10}
    with raises_cleanly(
        EndpointError, "connection_failed", f"127.0.0.1:{port}", "check the API URL (--api-url)"
    ):
        evaluate(f"http://127.0.0.1:{port}/v1", tmp_path, rows, generation_config=generation)


def test_an_unknown_host_stops_the_run(tmp_path, rows):
    """A host name that does not exist ends the run, naming it."""
    with raises_cleanly(EndpointError, "connection_failed", "no-such-host.invalid"):
        evaluate("http://no-such-host.invalid/v1", tmp_path, rows, generation_config={"retries": 0})


def test_a_url_without_v1_stops_the_run(tmp_path, rows):
    """A wrong path that answers 404 ends the run with advice on model and URL."""
    vendor = _vendor()
    with vendor.running() as endpoint, raises_cleanly(EndpointError, "HTTP 404", "the API URL (--api-url)"):
        evaluate(endpoint.url.removesuffix("/v1"), tmp_path, rows)


def test_the_stock_command_ends_with_the_advice(tmp_path, rows):
    """Under the stock command the last line is the error, and the exit code is not 0."""
    with _vendor(api_key="another").running() as endpoint:
        done = evalscope_eval(endpoint.url, tmp_path, rows)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("k2_verifier_adapter.errors.EndpointError: stopped: the first ")
    assert "check the API key" in last
    assert KEY not in done.stdout + done.stderr


def test_single_failures_do_not_stop_a_run(tmp_path, rows):
    """Refusals between successes are counted, and the run goes on to its end."""
    vendor = _vendor(profile_with({"http_400": 0.5}))
    with vendor.running() as endpoint:
        report = evaluate(endpoint.url, tmp_path, rows)
    totals = vendor.truth.totals()
    assert report.execution_summary.errored == totals.failed > 16
    assert report.execution_summary.succeeded == totals.completed > 16


def test_a_run_of_one_row_stops_too(tmp_path, rows):
    """With a limit below the usual number of failures, the only request's failure ends the run."""
    vendor = _vendor(api_key="another")
    with (
        vendor.running() as endpoint,
        raises_cleanly(EndpointError, "the first 1 requests", "check the API key"),
    ):
        evaluate(endpoint.url, tmp_path, rows, limit=1)


def test_earlier_answers_are_kept(tmp_path, rows):
    """A resumed run that stops early keeps the answers of before, and a third run needs only the rest."""
    vendor = _vendor(profile_with({"http_400": 0.5}))
    port = None
    with vendor.running() as endpoint:
        port, url = endpoint.port, endpoint.url
        evaluate(url, tmp_path, rows)
    path = tmp_path / "predictions" / MODEL / "k2_verifier_k2_thinking.jsonl"
    answered = path.read_bytes()
    with _vendor(api_key="another").running(port), raises_cleanly(EndpointError, "HTTP 401"):
        evaluate(url, tmp_path, rows, use_cache=str(tmp_path))
    assert path.read_bytes() == answered
    healthy = _vendor()
    with healthy.running(port):
        report = evaluate(url, tmp_path, rows, use_cache=str(tmp_path))
    assert len(healthy.requests) == len(ROWS) - len(answered.splitlines())
    assert report.execution_summary.succeeded == len(ROWS)


class Faulty:
    """The official vendor until so many answers were given, and then one failure after the other."""

    def __init__(self, good, *failures):
        self.good, self.failures, self.asked = good, failures, 0

    async def __call__(self, _, writer):
        """Answer the next request."""
        number, self.asked = self.asked, self.asked + 1
        writer.write(SOUND if number < self.good else self.failures[number % len(self.failures)])


SOUND = reply(completion())
BAD_GATEWAY, NO_UPSTREAM = reply({"error": "bad gateway"}, 502), reply({"error": "no upstream"}, 503)
NO_CREDIT = reply({"error": {"message": "Your account is suspended due to insufficient balance"}}, 429)
PLAIN = {"stream": False, "retries": 1, "retry_interval": 0}
HOPELESS = {
    "mixed from the start": (Faulty(0, BAD_GATEWAY, NO_UPSTREAM), "502", 4 * BATCH),
    "dead after one answer": (Faulty(1, BAD_GATEWAY, NO_UPSTREAM), "503", 1 + 4 * BATCH),
    "no credit in mid-run": (Faulty(10, NO_CREDIT), "recharge it", 10 + 3),
}


@pytest.mark.parametrize("case", HOPELESS)
def test_a_run_that_cannot_succeed_stops_and_goes_on(tmp_path, rows, case):
    """It stops within two rounds, says why, keeps what was answered and every report; then it goes on."""
    vendor, said, most = HOPELESS[case]
    with RawServer(vendor).in_thread() as server:
        with raises_cleanly(RunStoppedError, said, f"--use-cache {tmp_path}") as caught:
            evaluate(server.url, tmp_path, rows, eval_batch_size=BATCH, generation_config=PLAIN)
        assert isinstance(caught.value, EndpointError)
        assert len(server.arrivals) <= most + 2 * BATCH
        run = stored(tmp_path)
        assert (len(run.records), run.facts.complete) == (vendor.good, False)
        assert "requests failed" in run.facts.stopped or "in a row" in run.facts.stopped or not vendor.good
        assert (tmp_path / "reports" / MODEL / "k2_verifier" / "k2_thinking.html").exists()
        vendor.good = 10**9
        resume(server.url, tmp_path, rows, generation_config=PLAIN)
        run = stored(tmp_path)
        assert (len(run.records), run.failed, run.facts.complete) == (len(ROWS), [], True)


class Refusing:
    """A vendor that always refuses the row that asks 5, or everybody."""

    def __init__(self):
        self.everybody = False

    async def __call__(self, arrival, writer):
        """Answer a request."""
        if self.everybody:
            writer.write(reply({"error": "wrong key"}, 401))
        else:
            refused = arrival.json()["messages"][0]["content"] == "5"
            writer.write(reply({"error": "no"}, 400) if refused else SOUND)


def test_a_finished_run_stays_finished(tmp_path):
    """A row that is always refused leaves a run complete, resumed, extended or resumed with a wrong key."""
    path = write_rows(
        tmp_path / "rows.jsonl",
        [
            {"messages": [{"role": "user", "content": str(number)}], "tools": [], "should_call_tool": False}
            for number in range(24)
        ],
    )
    run, vendor = tmp_path / "run", Refusing()

    def state():
        found = stored(run)
        return len(found.records), [one.case_index for one in found.failed], found.facts.complete

    with RawServer(vendor).in_thread() as server:
        evaluate(server.url, run, path, generation_config=PLAIN, limit=12)
        assert state() == (11, [5], True)
        resume(server.url, run, path, generation_config=PLAIN, limit=12)
        assert state() == (11, [5], True)
        assert len(server.arrivals) == 13
        vendor.everybody = True
        resume(server.url, run, path, generation_config=PLAIN, limit=12)
        assert state() == (11, [5], True)
        with raises_cleanly(RunStoppedError, "HTTP 401"):
            resume(server.url, run, path, generation_config=PLAIN, rerun_review=True)
        assert state()[::2] == (11, False)
        vendor.everybody = False
        resume(server.url, run, path, generation_config=PLAIN, rerun_review=True)
        assert state() == (23, [5], True)


def test_a_key_that_the_vendor_echoes_is_in_no_file(tmp_path, rows):
    """A vendor that repeats key and header in its refusal brings them into no error and no file."""
    token = "Bearer tok-0123456789abcdef"
    refusal = reply({"error": {"message": f"{KEY} and {token.split()[1]} are wrong"}}, 401)
    with (
        RawServer(says(refusal)).in_thread() as server,
        raises_cleanly(EndpointError, "*** and *** are wrong"),
    ):
        headers = {"X-Gateway-Token": token}
        evaluate(server.url, tmp_path, rows, generation_config={"extra_headers": headers})
    for path in tmp_path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert KEY.encode() not in content, path
            assert token.split()[1].encode() not in content, path
    said = [
        line for line in (tmp_path / "logs" / "eval_log.log").read_text().splitlines() if "HTTP 401" in line
    ]
    assert said
    assert not any(token.split()[1] in line for line in said)
