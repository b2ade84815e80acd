"""The real client against simulated vendors, many at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.requests import Request, build_request
from k2_verifier_adapter.core.responses import Response, parse_completion
from k2_verifier_adapter.evalscope_plugin.client.retries import RetryPolicy
from k2_verifier_adapter.evalscope_plugin.client.transport import (
    Endpoint,
    Transport,
    TransportOptions,
)
from k2_verifier_adapter.simulator import SimulatedVendor

Outcome = ResponseRecord | FailedRequest


def response_of(outcome: Outcome) -> Response:
    """Read an answer as it is judged: from its text."""
    assert isinstance(outcome, ResponseRecord), outcome
    response = parse_completion(outcome.response)
    assert isinstance(response, Response), response
    return response


PINNED = {"provider": {"only": ["simulated"], "allow_fallbacks": False}}
"""Pins the provider: without that, the answer of another one is an answer."""


def requests_of(
    rows: Iterable[Mapping[str, Any]], *, stream: bool, more: Mapping[str, Any] = PINNED
) -> list[Request]:
    """Build the requests of rows; a stream is asked for its usage, as by default."""
    parameters = {"stream": True, "stream_options": {"include_usage": True}} if stream else {"stream": False}
    return [
        build_request(decode_row(row, number, HistoryOptions()), "kimi", {**parameters, **more})
        for number, row in enumerate(rows)
    ]


def transport_to(
    url: str,
    *,
    retries: int = 0,
    timeout_s: float = 20.0,
    limit: int = 1 << 20,
    **settings: Any,
) -> Transport:
    """Make a client that pauses nowhere; `limit` is the size of a response in bytes."""
    endpoint = Endpoint(f"{url}/chat/completions", {}, (), ())
    return Transport(endpoint, TransportOptions(timeout_s, RetryPolicy(retries, 0.0), limit), **settings)


def ask(vendor: SimulatedVendor, requests: Iterable[Request], **options: Any) -> list[Outcome]:
    """Ask a vendor one request after the other."""
    (outcomes,) = ask_each([(vendor, list(requests))], **options)
    return outcomes


def ask_each(
    work: Sequence[tuple[SimulatedVendor, Sequence[Request]]], **options: Any
) -> list[list[Outcome]]:
    """Ask all vendors at once, each one request after the other on one transport."""

    async def one(url: str, requests: Sequence[Request]) -> list[Outcome]:
        async with transport_to(url, **options) as transport:
            return [await transport.send(request) for request in requests]

    async def main(urls: Iterable[str]) -> list[list[Outcome]]:
        tasks = [one(url, requests) for url, (_, requests) in zip(urls, work, strict=True)]
        return await asyncio.wait_for(asyncio.gather(*tasks), 60)

    with running(vendor for vendor, _ in work) as urls:
        return asyncio.run(main(urls))


def ask_at_once(vendor: SimulatedVendor, requests: Iterable[Request], **options: Any) -> list[Outcome]:
    """Ask a vendor all requests at once."""

    async def main(url: str) -> list[Outcome]:
        async with transport_to(url, **options) as transport:
            return await asyncio.wait_for(asyncio.gather(*map(transport.send, requests)), 60)

    with vendor.running() as endpoint:
        return asyncio.run(main(endpoint.url))


@contextlib.contextmanager
def running(vendors: Iterable[SimulatedVendor]) -> Iterator[list[str]]:
    """Run vendors; give their base URLs."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(vendor.running()).url for vendor in vendors]
