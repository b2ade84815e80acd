"""What goes into the transport and what comes out of it."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import urlsplit

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.printable import printable
from k2_verifier_adapter.core.secrets import Masker
from k2_verifier_adapter.evalscope_plugin.client.retries import RetryPolicy


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the requests go.

    Attributes:
        url: URL of the chat completions.
        headers: Headers of every request, the credentials among them.
        query: Query parameters of every request.
        secrets: Strings that must never appear in a message.
    """

    url: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    secrets: tuple[str, ...]

    def masked(self, text: str) -> str:
        """Give a vendor's text fit for a message: without the endpoint's secrets and control characters."""
        return printable(Masker(self.secrets).text(text))


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """How the requests go.

    Attributes:
        timeout_s: Seconds that an attempt may go without progress. Progress is the response head
            and each event of a stream; a body that is not streamed must be whole within it.
        retry: The retry policy.
        max_response_bytes: Decompressed size at which a response is given up.
        requests_per_minute: Requests that start in a minute at most, retries included; 0 for no limit.
    """

    timeout_s: float
    retry: RetryPolicy
    max_response_bytes: int = 64 * 1024 * 1024
    requests_per_minute: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion, as it came.

    Attributes:
        text: The completion as ASCII-escaped JSON text.
        anomalies: Stream failure classes noticed on the way.
        attempts: Requests sent until it came.
        duration_s: Seconds from the request that was answered to the end of the answer.
        ttft_s: Seconds to the first output of a stream, else None.
        finished_at: When it was complete, ISO 8601 in UTC.
        raw: Whether the response is the endpoint's own, not what EvalScope made of it.
    """

    text: str
    anomalies: tuple[FailureClass, ...]
    attempts: int
    duration_s: float
    ttft_s: float | None
    finished_at: str
    raw: bool = True


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """A request that failed for good.

    Attributes:
        failure: The class and a line without secrets.
        status: HTTP status of the last attempt, None if none came.
        attempts: Requests sent; 0 if the row could not be asked.
        duration_s: Seconds from the first attempt to the end of the last, pauses included.
    """

    failure: Failure
    status: int | None
    attempts: int
    duration_s: float


def environment_proxy(url: str) -> str | None:
    """Give the proxy that the environment names for a URL; None if it is to be asked directly.

    Looked up once and here, for aiohttp's own `trust_env` (3.14) does it for every request, in a thread,
    which took a third of a run's time; it also reads ~/.netrc, and fails where that knows the host.
    """
    parts = urlsplit(url)
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return None
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy:
        return None
    # curl takes `host:port`, too; without a scheme aiohttp does not.
    return proxy if "://" in proxy else f"http://{proxy}"


def utc_now() -> str:
    """Give the time in UTC, ISO 8601 to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
