"""Proxies from the environment: used where they are named, and never told the API key."""

import asyncio

import pytest

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.requests import Request, RequestIdentity
from k2_verifier_adapter.evalscope_plugin.client.retries import RetryPolicy
from k2_verifier_adapter.evalscope_plugin.client.transport import (
    Endpoint,
    Transport,
    TransportOptions,
    environment_proxy,
)

KEY = "sk-marked-0123456789"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
REQUEST = Request(b"{}", stream=False, identity=RequestIdentity("", "", {}))
OPTIONS = TransportOptions(timeout_s=5.0, retry=RetryPolicy(retries=0, interval_s=0))


@pytest.fixture
def environment(monkeypatch):
    """Start from an environment that names no proxy."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("settings", "url", "expected"),
    [
        ({}, "https://api.example.com/v1", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://api.example.com/v1", "http://p:1"),
        ({"HTTPS_PROXY": "p:1"}, "https://api.example.com/v1", "http://p:1"),
        ({"https_proxy": "http://p:1"}, "https://api.example.com/v1", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "http://api.example.com/v1", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://api.example.com/v1", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example.com"}, "https://api.example.com/v1", None),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "127.0.0.1"}, "http://127.0.0.1:8000/v1", None),
    ],
)
def test_the_environment_names_the_proxy(environment, settings, url, expected):
    """The proxy is the one for the URL's scheme, unless NO_PROXY exempts the host."""
    for name, value in settings.items():
        environment.setenv(name, value)
    assert environment_proxy(url) == expected


async def ask_through_proxy(environment, variable, url):
    """Ask through a proxy that refuses; give what it received and the outcome."""
    received = []

    async def proxy(reader, writer):
        received.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    async with server:
        environment.setenv(variable, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        endpoint = Endpoint(url, {"Authorization": f"Bearer {KEY}", "X-Key": KEY}, {}, (KEY,))
        async with Transport(endpoint, OPTIONS) as transport:
            outcome = await transport.send(REQUEST)
    return received, outcome


def test_the_proxy_of_an_https_endpoint_never_sees_the_key(environment):
    """A tunnel is asked for by host alone: no header of the request, the key least of all."""
    received, outcome = asyncio.run(
        ask_through_proxy(environment, "HTTPS_PROXY", "https://vendor.invalid/v1/chat/completions")
    )
    assert len(received) == 1
    assert received[0].startswith(b"CONNECT vendor.invalid:443 ")
    assert KEY.encode() not in received[0]
    assert isinstance(outcome, FailedRequest)
    assert KEY not in outcome.failure.detail


def test_an_http_endpoint_is_asked_through_its_proxy(environment):
    """An unencrypted endpoint is asked with its whole address, and the proxy's refusal is its status."""
    received, outcome = asyncio.run(
        ask_through_proxy(environment, "HTTP_PROXY", "http://vendor.invalid/v1/chat/completions")
    )
    assert received[0].startswith(b"POST http://vendor.invalid/v1/chat/completions ")
    assert isinstance(outcome, FailedRequest)
    assert outcome.failure.failure_class is FailureClass.HTTP_5XX
