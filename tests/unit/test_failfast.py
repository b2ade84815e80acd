"""When a run is hopeless: the table in docs/requests.md, cell by cell, and the rules behind it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from k2_verifier_adapter.core.failure_classes import Failure
from k2_verifier_adapter.core.failure_classes import FailureClass as C
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.evalscope_plugin.client.failfast import AT_ONCE, LEAST, FailFast

DOCUMENT = Path(__file__).parents[2] / "docs" / "requests.md"
CONCURRENCY = 8


def _failed(kind, status=None, words="", case=0, **more):
    detail = f"HTTP {status}: {words}" if status else "OSError"
    return FailedRequest(case, Failure(kind, detail), status, **more)


def _http(status, words="", **more):
    kind = C.RATE_LIMITED if status == 429 else C.HTTP_5XX if status >= 500 else C.HTTP_4XX
    return _failed(kind, status, words, **more)


NO_CREDIT = _http(429, "Your account is suspended due to insufficient balance")
FAILURES = {
    "permanent, one kind: 401, 403, 404, 407, no such host": [_http(401)],
    "permanent, mixed: 401, 404, no credit": [_http(401), _http(404), NO_CREDIT],
    "the account: no credit, no quota": [
        NO_CREDIT,
        _http(402),
        _http(429, "You exceeded your current quota"),
    ],
    "`Retry-After` of hours": [_http(429, retry_after_s=7200.0)],
    "refused, the words name the request: too long, its history, a schema": [
        _http(400, "The prompt is too long"),
        _http(400, "reasoning_content is missing"),
        _http(500, "grammar error: not supported"),
    ],
    "refused without such words: 400, 422": [_http(422)],
    "temporary, one kind: 503": [_http(503)],
    "temporary, mixed: 502, 503, resets, one 400": [
        _http(400),
        *[_http(502), _http(503), _failed(C.CONNECTION_RESET)] * 20,
    ],
}


def _table():
    section = (
        DOCUMENT.read_text(encoding="utf-8").split("\n## Runs that cannot succeed\n")[1].split("\n## ")[0]
    )
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in re.findall(r"^\|.*", section, re.MULTILINE)
    ]
    return [
        (answered, what, kind, cell)
        for answered, what, *cells in rows
        for kind, cell in zip(head[2:], cells, strict=True)
    ]


TABLE = _table()


def test_the_table_is_whole():
    """Every kind of failure stands in it twice: before anything was answered, and after."""
    found = {(answered, what) for answered, what, _, _ in TABLE}
    assert found == set(itertools.product(("nothing", "one request"), FAILURES))
    kinds = ["fresh", "resumed", "resumed, the same rows again", "extended"]
    assert [kind for _, _, kind, _ in TABLE] == kinds * len(found)


@pytest.mark.parametrize(("answered", "what", "kind", "cell"), TABLE)
def test_a_run_stops_as_the_table_says(answered, what, kind, cell):
    """After exactly as many failures, with that exit code, or not at all."""
    stored = 0 if kind == "fresh" else 100
    failures = [
        FailedRequest(case, one.failure, one.status, retry_after_s=one.retry_after_s)
        for case, one in zip(range(100), itertools.cycle(FAILURES[what]), strict=False)
    ]
    before = {("s", one.case_index, 0): one for one in failures}
    failfast = FailFast(
        1000,
        CONCURRENCY,
        answered=stored,
        before=before if kind == "resumed, the same rows again" else {},
    )
    if answered == "one request":
        failfast.succeeded()
    found = "goes on"
    for count, one in enumerate(failures, start=1):
        hopeless = failfast.failed(one, "s")
        if hopeless is not None:
            assert one.failure.detail in hopeless.reason
            found = f"{count}, exit code {2 if hopeless.to_change else 3}"
            break
    assert found == cell


def _until_hopeless(failfast, *requests):
    for count, request in enumerate(requests, start=1):
        hopeless = failfast.failed(request)
        if hopeless is not None:
            return count, hopeless
    return None, None


def test_three_at_once_have_to_be_all_there_was():
    """A server error among wrong keys leaves it open whether the key is wrong: the share decides then."""
    requests = [_http(401), _http(503), *[_http(401)] * 20]
    count, hopeless = _until_hopeless(FailFast(2000), *requests)
    assert count == LEAST > AT_ONCE
    assert "all failed and none succeeded" in hopeless.reason
    assert "7 x http_4xx 401, 1 x http_5xx 503" in hopeless.reason
    assert not hopeless.to_change


def test_an_answer_in_twenty_is_not_enough():
    """Of two rounds of 32, three may be answered; four keep the run going."""
    for answers, stops in ((3, True), (4, False)):
        failfast = FailFast(2000, 32)
        requests = [_http(503)] * (64 - answers)
        found = []
        for request in requests:
            found.append(failfast.failed(request))
            if len(found) <= answers:
                failfast.succeeded()
        assert (found[-1] is not None) is stops
        assert not any(found[:-1])


def test_an_answer_asked_for_before_does_not_clear_the_account():
    """Long answers that end after the account was refused do not speak for it; one asked for later does."""
    for duration_s, stops in ((50.0, True), (1.0, False)):
        failfast = FailFast(2000, clock=iter((100.0, 101.0, 110.0, 111.0)).__next__)
        failfast.succeeded()
        failfast.failed(NO_CREDIT)
        failfast.failed(NO_CREDIT)
        failfast.succeeded(duration_s)
        assert (failfast.failed(NO_CREDIT) is not None) is stops


def test_a_dead_server_is_not_the_rows_fault():
    """No connection counts though the same rows had none in the session before."""
    dead = [_failed(C.CONNECTION_FAILED, case=case) for case in range(20)]
    failfast = FailFast(20, answered=10, before={("", one.case_index, 0): one for one in dead})
    assert _until_hopeless(failfast, *dead)[0] == AT_ONCE


@pytest.mark.parametrize("request_", [_http(401), _http(400), _http(422)], ids=["401", "400", "422"])
def test_a_run_of_one_row_stops(request_):
    """With fewer requests than it would take, all of them are enough; server errors are counted only."""
    assert FailFast(1).failed(request_).to_change
    assert FailFast(1).failed(_http(503)) is None
