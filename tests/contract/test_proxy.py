"""Proxies from the environment: used where they are named, and never told the API key."""

import asyncio
import ssl
from types import SimpleNamespace

import aiohttp
import pytest

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.requests import Request, RequestIdentity
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.evalscope_plugin.client import environment as client_environment
from k2_verifier_adapter.evalscope_plugin.client.environment import (
    check_environment,
    environment_proxy,
    explained,
)
from k2_verifier_adapter.evalscope_plugin.client.retries import RetryPolicy
from k2_verifier_adapter.evalscope_plugin.client.transport import Endpoint, Transport, TransportOptions

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
        ({"ALL_PROXY": "http://p:1"}, "https://api.example.com/v1", "http://p:1"),
        (
            {"ALL_PROXY": "socks5://p:1", "HTTPS_PROXY": "http://q:1"},
            "https://api.example.com/v1",
            "http://q:1",
        ),
    ],
)
def test_the_environment_names_the_proxy(environment, settings, url, expected):
    """The proxy is the one for the URL's scheme, unless NO_PROXY exempts the host."""
    for name, value in settings.items():
        environment.setenv(name, value)
    found = environment_proxy(url)
    assert (None if found is None else found.url) == expected


@pytest.mark.parametrize("variable", ["ALL_PROXY", "HTTPS_PROXY", "all_proxy"])
def test_a_socks_proxy_is_refused_by_its_name(environment, variable):
    """EvalScope cannot even make a client with it, and this one does not speak it: say which variable it is."""
    environment.setenv(variable, "socks5://127.0.0.1:1080")
    with pytest.raises(UsageError, match=f"^{variable} names a socks5 proxy.*NO_PROXY"):
        environment_proxy("https://api.example.com/v1")
    environment.setattr(client_environment, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=f"^{variable} names a SOCKS proxy.*unset it, or install.*socksio"):
        check_environment()
    environment.setattr(client_environment, "find_spec", lambda name: name)
    check_environment()


@pytest.mark.parametrize("kind", ["missing", "no PEM", "directory"])
def test_a_certificate_file_that_cannot_be_used_is_named(environment, tmp_path, kind):
    """The variable, the file and the reason, before EvalScope's client or a handshake fails over it."""
    path = tmp_path / "ca.pem"
    if kind == "no PEM":
        path.write_text("hello")
    elif kind == "directory":
        path.mkdir()
    environment.setenv("SSL_CERT_FILE", str(path))
    why = {"missing": "No such file", "no PEM": "PEM format", "directory": "is a directory"}[kind]
    with pytest.raises(UsageError, match=rf"^SSL_CERT_FILE names .*ca\.pem.*{why}.*correct or unset it"):
        check_environment()


def test_a_certificate_of_its_own_names_the_variable():
    """An endpoint whose certificate nobody known has signed: what to set, and to what."""
    key = SimpleNamespace(host="vendor", port=443, is_ssl=True, ssl=True)
    error = aiohttp.ClientConnectorCertificateError(key, ssl.SSLCertVerificationError("self-signed"))
    assert "set SSL_CERT_FILE to a PEM file" in explained(error, None)


def test_a_proxy_that_is_down_is_named(environment):
    """Where the proxy cannot be reached, the message is about the proxy and its variable."""
    environment.setenv("HTTPS_PROXY", "http://user:secret@127.0.0.1:9")

    async def main():
        endpoint = Endpoint("https://vendor.invalid/v1/chat/completions", {}, (), ("secret",))
        async with Transport(endpoint, OPTIONS) as transport:
            return await transport.send(REQUEST)

    outcome = asyncio.run(main())
    assert outcome.failure.failure_class is FailureClass.CONNECTION_FAILED
    assert outcome.failure.detail.startswith("the proxy 127.0.0.1:9 (HTTPS_PROXY) cannot be reached")


async def ask_through_proxy(environment, variable, url, status=b"502 Bad Gateway"):
    """Ask through a proxy that refuses; give what it received and the outcome."""
    received = []

    async def proxy(reader, writer):
        received.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    async with server:
        environment.setenv(variable, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        endpoint = Endpoint(url, {"Authorization": f"Bearer {KEY}", "X-Key": KEY}, (), (KEY,))
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


@pytest.mark.parametrize("status", [b"403 Forbidden", b"407 Proxy Authentication Required"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses_is_named(environment, scheme, status):
    """A refusal on the way names the proxy and its variable, tunnel or not."""
    variable = f"{scheme.upper()}_PROXY"
    url = f"{scheme}://vendor.invalid/v1/chat/completions"
    _, outcome = asyncio.run(ask_through_proxy(environment, variable, url, status))
    detail = outcome.failure.detail
    assert f"HTTP {status[:3].decode()}" in detail
    assert "the proxy 127.0.0.1:" in detail
    assert f"({variable})" in detail
