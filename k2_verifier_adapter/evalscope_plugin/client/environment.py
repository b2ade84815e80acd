"""What the environment says of the way to an endpoint: proxies and certificates, named where they fail."""

from __future__ import annotations

import os
import ssl
import urllib.request
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from k2_verifier_adapter.errors import UsageError

_CERTIFICATES = "SSL_CERT_FILE"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and the variable that names it."""

    url: str
    variable: str

    def __str__(self) -> str:
        """Name it without its user and password."""
        parts = urlsplit(self.url)
        return f"the proxy {parts.hostname}:{parts.port or 80} ({self.variable})"


def environment_proxy(url: str) -> Proxy | None:
    """Give the proxy that the environment names for a URL; None if it is to be asked directly.

    Looked up once and here, for aiohttp's own `trust_env` (3.14) does it for every request, in a thread,
    which took a third of a run's time; it also reads ~/.netrc, and fails where that knows the host.

    Raises:
        UsageError: If it is no HTTP proxy.
    """
    parts = urlsplit(url)
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return None
    proxies = urllib.request.getproxies()
    kind = parts.scheme if proxies.get(parts.scheme) else "all"
    proxy = proxies.get(kind)
    if not proxy:
        return None
    # curl takes `host:port`, too; without a scheme aiohttp does not.
    found = Proxy(proxy if "://" in proxy else f"http://{proxy}", _variable(kind))
    if urlsplit(found.url).scheme not in ("http", "https"):
        raise UsageError(
            f"{found.variable} names a {urlsplit(found.url).scheme} proxy, expected an HTTP proxy: unset it, "
            f"set {parts.scheme.upper()}_PROXY to an HTTP proxy, or except the host with NO_PROXY"
        )
    return found


def check_environment() -> None:
    """Refuse what no client can be made with, before EvalScope makes one of its own, used or not.

    Raises:
        UsageError: It names the variable, and what to do.
    """
    for kind, proxy in urllib.request.getproxies().items():
        if kind in ("http", "https", "all") and proxy.startswith("socks") and find_spec("socksio") is None:
            raise UsageError(
                f"{_variable(kind)} names a SOCKS proxy, with which EvalScope's client cannot be made: unset "
                "it, or install the package socksio and except the endpoint's host with NO_PROXY"
            )
    path = os.environ.get(_CERTIFICATES)
    if not path:
        return
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        why = (
            "is a directory"
            if Path(path).is_dir()
            else error.strerror or "holds no certificate in PEM format"
        )
        if isinstance(error, ssl.SSLError):
            why = "holds no certificate in PEM format"
        raise UsageError(
            f"{_CERTIFICATES} names {path!r}, which cannot be used: {why}; correct or unset it"
        ) from None


def explained(error: aiohttp.ClientError, proxy: Proxy | None) -> str | None:
    """Say what of the environment an error is about, and what to do; None if of nothing."""
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"{proxy} cannot be reached: {error.os_error}; start it, or correct or unset the variable"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"{proxy} refuses: HTTP {error.status} {error.message}; correct or unset the variable"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return (
            f"{error.certificate_error}: set {_CERTIFICATES} to a PEM file with the certificate of whoever "
            "signed the endpoint's, which may be itself"
        )
    return None


def _variable(kind: str) -> str:
    """Name the variable as it is set; urllib prefers the lower case."""
    name = f"{kind}_proxy"
    return name if os.environ.get(name) else name.upper()
