"""The table of failures in docs/requests.md, row by row: the simulator's faults against the real client."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.asking import ask, ask_each, requests_of, response_of, transport_to

from k2_verifier_adapter.core.failure_classes import FailureClass as C
from k2_verifier_adapter.core.failure_classes import Group
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.evalscope_plugin.client.failfast import AT_ONCE, LEAST, FailFast
from k2_verifier_adapter.simulator import SimulatedVendor, profile_with, shape_names
from k2_verifier_adapter.simulator.faults import FAULTS, NOT_SIMULATED, TransportFault

DOCUMENT = Path(__file__).parents[2] / "docs" / "requests.md"
ROW = {
    "messages": [{"role": "user", "content": "你好"}],
    "tools": [],
    "should_call_tool": False,
    "official_content": "Hello! 你好",
}
PLAIN, STREAMED = (requests_of([ROW], stream=stream)[0] for stream in (False, True))
PATIENCE_S = 0.25
RETRIES = 2


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


# --- the tables ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One row of the table of failures."""

    what: str
    faults: tuple[str, ...]
    kind: C
    retried: str
    limit: int


def _tables():
    """Give the tables of the section on retries as lists of cells, without head and rule."""
    section = DOCUMENT.read_text(encoding="utf-8").split("\n## Retries\n")[1].split("\n## ")[0]
    blocks = re.findall(r"(?:^\|.*\n)+", section, flags=re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|\n").split("|")] for line in block.splitlines()[2:]]
        for block in blocks
    ]


def _names(cell):
    return tuple(re.findall(r"`([^`]+)`", cell))


FAILURES, HARMLESS = _tables()
LIMITS = {"first 3": AT_ONCE, "two rounds": LEAST}
LINES = [
    Line(what, _names(faults), C(*_names(kind)), retried, LIMITS[limit])
    for what, faults, kind, retried, limit in FAILURES
]
each_line = pytest.mark.parametrize("line", LINES, ids=lambda line: line.what)
BY_NAME = {fault.name: fault for faults in FAULTS.values() for fault in faults}


def test_every_transport_fault_has_one_row():
    """Each transport fault of the simulator stands in exactly one row, and nothing else does."""
    listed = [name for line in LINES for name in line.faults]
    assert sorted(listed) == sorted(
        fault.name for fault in BY_NAME.values() if isinstance(fault, TransportFault)
    )


def test_every_transport_class_has_a_row():
    """No failure class of the transport is missing, and what has no fault in its row cannot have one."""
    assert {line.kind for line in LINES} == {kind for kind in C if kind.group is Group.TRANSPORT}
    for line in LINES:
        assert {BY_NAME[name].failure_class for name in line.faults} == (
            {line.kind} if line.faults else set()
        )
        assert bool(line.faults) != (line.kind in NOT_SIMULATED)


def test_every_wire_shape_has_one_row():
    """Each wire shape of the simulator stands in exactly one row, in order, and has no effect."""
    assert [_names(name) for name, _, _ in HARMLESS] == [(name,) for name in shape_names()]
    assert {effect for _, _, effect in HARMLESS} == {"none"}


# --- the columns ---------------------------------------------------------------------------------


def _modes(name):
    return [request for request in (PLAIN, STREAMED) if BY_NAME[name].stream in (None, request.stream)]


def _vendor(fault):
    return SimulatedVendor(
        [ROW],
        profile_with({fault: 1}),
        retry_after_s=0,
        oversized_bytes=2 << 20,
        drip_interval_s=0.02,
        record_requests=True,
    )


@dataclass(frozen=True)
class Lasting:
    """What came of one request whose every attempt meets a fault."""

    fault: TransportFault
    vendor: SimulatedVendor
    outcome: FailedRequest | ResponseRecord


@functools.cache
def _lasting(line):
    """Perform the faults of a line, plain and streamed, on every attempt of a request."""
    if not line.faults:
        return [Lasting(None, None, outcome) for outcome in asyncio.run(_ask_nobody())]
    work = [(_vendor(name), [request]) for name in line.faults for request in _modes(name)]
    faults = [BY_NAME[name] for name in line.faults for _ in _modes(name)]
    timeout_s = PATIENCE_S if line.kind is C.TIMED_OUT else 20.0
    outcomes = ask_each(work, retries=RETRIES, timeout_s=timeout_s)
    return [
        Lasting(fault, vendor, outcome)
        for fault, (vendor, _), (outcome,) in zip(faults, work, outcomes, strict=True)
    ]


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


async def _ask_nobody():
    async with transport_to(f"http://127.0.0.1:{_free_port()}/v1", retries=RETRIES) as transport:
        return [await transport.send(PLAIN), await transport.send(STREAMED)]


LASTING = {"no": 1, "yes": 1 + RETRIES, "yes, once": 2, "yes, once at first": 2}
"""Attempts at a request that fails for ever, at an endpoint that never answered."""


@each_line
def test_what_lasts_fails_the_request(line):
    """A failure that lasts ends the request, under its class, after the attempts that the row promises."""
    for lasting in _lasting(line):
        outcome = lasting.outcome
        assert isinstance(outcome, FailedRequest)
        assert outcome.failure.failure_class is line.kind
        if line.retried == "yes, beside the retries":
            assert 1 + RETRIES < outcome.attempts <= 60
        else:
            assert outcome.attempts == LASTING[line.retried]
        if lasting.fault is not None:
            assert outcome.status == lasting.fault.status
            totals = lasting.vendor.truth.totals()
            assert totals.failed_attempts == {line.kind.value: outcome.attempts}
            assert (totals.failed, totals.completed) == (1, 0)


@each_line
def test_failures_alike_stop_the_run(line):
    """Exactly as many first failures as the row says stop a run."""
    for lasting in _lasting(line):
        failfast = FailFast(2000)
        found = [failfast.failed(lasting.outcome) for _ in range(line.limit)]
        assert found[:-1] == [None] * (line.limit - 1)
        assert found[-1].reason.startswith(f"the first {line.limit} requests all failed alike")


FAILS, ANSWERED = FailedRequest, ResponseRecord
PASSING = {
    "no": (2, [(FAILS, 1), (FAILS, 1), (ANSWERED, 1)]),
    "yes": (2, [(ANSWERED, 3), (ANSWERED, 3), (ANSWERED, 3)]),
    "yes, once at first": (2, [(FAILS, 2), (ANSWERED, 1), (ANSWERED, 3)]),
    "yes, beside the retries": (4, [(ANSWERED, 5), (ANSWERED, 5), (ANSWERED, 5)]),
}
"""How many first attempts of an answer fail, and how a row asked about three times over then ends: each
time an answer or a failed request, after so many attempts. A failed request leaves the rest of the failing
attempts to the next one."""


@pytest.mark.parametrize(
    "line",
    # Stalls have a test of their own, for under a short timeout an answer may be late, too.
    [line for line in LINES if line.faults and line.kind is not C.TIMED_OUT],
    ids=lambda line: line.what,
)
def test_what_passes_is_survived(line):
    """A failure of the first attempts is survived with the retries that the row promises, and not without."""
    hits, expected = PASSING[line.retried]
    work = [(_vendor(f"{name}@{hits}"), [request] * 3) for name in line.faults for request in _modes(name)]
    for outcomes in ask_each(work, retries=RETRIES):
        assert [(type(outcome), outcome.attempts) for outcome in outcomes] == expected


def test_a_stall_that_passes_is_survived():
    """A first attempt that stalls or drips is given up and the next one is answered."""
    (line,) = [line for line in LINES if line.kind is C.TIMED_OUT]
    work = [(_vendor(f"{name}@1"), [request]) for name in line.faults for request in _modes(name)]
    for (vendor, _), (outcome,) in zip(work, ask_each(work, retries=RETRIES, timeout_s=0.5), strict=True):
        assert isinstance(outcome, ResponseRecord)
        assert outcome.attempts >= 2
        assert vendor.truth.answers[0].failure_class is C.TIMED_OUT


# --- what single rows say besides ----------------------------------------------------------------


def test_a_refused_connection_is_survived():
    """A vendor that is not there yet at the first attempt is asked again, and answers."""
    vendor, port = SimulatedVendor([ROW], profile_with({})), _free_port()
    notes = []

    async def main(start):
        async with transport_to(f"http://127.0.0.1:{port}/v1", retries=1, on_event=start) as transport:
            return await transport.send(STREAMED)

    with contextlib.ExitStack() as stack:

        def start(note):
            notes.append(note)
            stack.enter_context(vendor.running(port))

        outcome = asyncio.run(main(start))
    assert (type(outcome), outcome.attempts, len(notes)) == (ResponseRecord, 2, 1)


def test_the_words_of_a_refusal_arrive_whole():
    """An error body that comes in pieces is quoted from its beginning to its end."""
    vendor = SimulatedVendor([ROW], profile_with({"http_400": 1, "byte_by_byte": 1}))
    for outcome in ask(vendor, [PLAIN, STREAMED]):
        assert outcome.failure.detail.startswith('HTTP 400: {"error":{"message":"simulated fault')
        assert outcome.failure.detail.endswith('"code":null}}')


def test_faults_come_one_after_the_other():
    """503, then 429, then a reset, then an answer: two retries are enough, and the ledger has all four."""
    sequence = "http_503@1+http_429@1+connection_reset_before_headers@1"
    vendor = _vendor(sequence)
    for outcome in ask(vendor, [PLAIN, STREAMED], retries=RETRIES):
        assert (type(outcome), outcome.attempts) == (ResponseRecord, 4)
    once = ["http_503", "http_429", "connection_reset_before_headers", None]
    assert [answer.fault for answer in vendor.truth.answers] == once * 2
    totals = vendor.truth.totals()
    assert (totals.completed, totals.failed) == (2, 0)
    assert totals.failed_attempts == {"http_5xx": 2, "rate_limited": 2, "connection_reset": 2}


def test_a_sequence_can_end_in_a_wrong_answer():
    """Behind a failed attempt the answer itself can be wrong, and is what is judged."""
    vendor = _vendor("http_503@1+empty_response")
    (outcome,) = ask(vendor, [STREAMED], retries=RETRIES)
    assert (response_of(outcome).message["content"], outcome.attempts) == ("", 2)
    assert [answer.fault for answer in vendor.truth.answers] == ["http_503", "empty_response"]
