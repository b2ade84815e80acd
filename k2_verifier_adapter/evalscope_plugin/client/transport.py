"""The transport: the exact request out, the raw bytes in, one retry layer around both.

aiohttp, because EvalScope's own client both costs most of the time of a run and hides what must be
judged; streams are read by this package's own parser.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import aiohttp

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.gateways import gateways_of, other_provider, pinned_providers
from k2_verifier_adapter.core.json_text import excerpt
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.printable import plural, printable
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.refusals import RefusalReason, sort_refusal
from k2_verifier_adapter.core.requests import Request
from k2_verifier_adapter.core.responses import Response, judged_alike, parse_completion, reported_tokens
from k2_verifier_adapter.core.secrets import Masker
from k2_verifier_adapter.evalscope_plugin.client.environment import environment_proxy, explained
from k2_verifier_adapter.evalscope_plugin.client.pacing import Budget, BudgetSpentError, Pacer
from k2_verifier_adapter.evalscope_plugin.client.reading import (
    REFUSAL_BYTES,
    Attempt,
    Limits,
    NoCompletionError,
    Reading,
    deadline,
    describe,
    read_body,
    read_refusal,
    read_stream,
)
from k2_verifier_adapter.evalscope_plugin.client.retries import RetryBudget, RetryPolicy, retry_after_seconds

if TYPE_CHECKING:
    from typing_extensions import Self

_CONNECT_TIMEOUT_S = 30.0
_ANY_NUMBER = 4096
_PROXYS_TOO = frozenset({403, 407, 502, 503, 504})
"""Statuses that a proxy of plain HTTP gives as well as the endpoint."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the requests go, and the secrets that must never appear in a message."""

    url: str
    headers: Mapping[str, str]
    query: Sequence[tuple[str, str]]
    secrets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """How the requests go.

    Attributes:
        timeout_s: Seconds that an attempt may go without progress, unless a request has its own. Progress is
            the response head and each event of a stream that carries a choice; a body that is not streamed
            must be whole within it.
        max_response_bytes: Decompressed size at which a response is given up.
        requests_per_minute: Requests that start in a minute at most, retries included; 0 for no limit.
        proven: Whether the endpoint has answered before.
        total: Requests that will be sent; None if that is not known.
    """

    timeout_s: float
    retry: RetryPolicy
    max_response_bytes: int = 64 * 1024 * 1024
    requests_per_minute: float = 0.0
    proven: bool = False
    total: int | None = None


@dataclass(frozen=True, slots=True)
class _FailedAttempt:
    failure: Failure
    status: int | None = None
    retry_after_s: float | None = None
    reason: RefusalReason | None = None


class Transport:
    """One HTTP session for one endpoint, on one event loop."""

    def __init__(
        self,
        endpoint: Endpoint,
        options: TransportOptions,
        *,
        concurrency: int = _ANY_NUMBER,
        budget: Budget | None = None,
        on_event: Callable[[str], None] = lambda _: None,
        rng: random.Random | None = None,
    ) -> None:
        """Prepare the session; nothing is sent before `send`.

        By default, the caller bounds the requests in flight, and everything may be spent. `on_event` is told,
        in a line, of every attempt that is repeated; `rng` gives the jitter.
        """
        self._endpoint = endpoint
        self._masker = Masker(endpoint.secrets)
        self._options = options
        self._on_event = on_event
        self._rng = rng or random.Random()
        self._proven = options.proven
        self._begun = self._ended = self._answered = 0
        self._under_way: set[Attempt] = set()
        self._watch: asyncio.Task[None] | None = None
        self._budget = budget or Budget()
        self._pacer = Pacer(self._budget, concurrency, options.requests_per_minute, on_change=on_event)
        self._proxy = environment_proxy(endpoint.url)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # The pacer bounds the concurrency; time is bounded by progress, which only the payload shows.
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=min(_CONNECT_TIMEOUT_S, self._options.timeout_s)
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._watch = asyncio.create_task(self._watch_attempts(min(1.0, self._options.timeout_s / 4)))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        if self._session is not None:
            await self._session.close()

    async def _watch_attempts(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            now, over_since = time.monotonic(), self._budget.minutes_over_since
            for attempt in list(self._under_way):
                attempt.watch(now, over_since)

    async def send(
        self, request: Request, case_index: int = 0, repeat: int = 0, timeout_s: float | None = None
    ) -> ResponseRecord | FailedRequest:
        """Send one request, as often as the retry policy says; nothing that comes back holds a secret.

        `timeout_s` is its own, in the place of the session's. A `BudgetSpentError` says that a maximum was
        reached before it was answered or given up.
        """
        limits = Limits(timeout_s or self._options.timeout_s, self._options.max_response_bytes)
        self._begun += 1
        try:
            return await self._send(request, case_index, repeat, limits)
        finally:
            self._ended += 1

    async def _send(
        self, request: Request, case_index: int, repeat: int, limits: Limits
    ) -> ResponseRecord | FailedRequest:
        retries = RetryBudget(self._options.retry, self._rng)
        first = time.monotonic()
        attempts = 0
        answered_before: int | None = None
        while True:
            async with self._pacer.turn() as started:
                attempts += 1
                outcome = await self._attempt(request, limits, started)
            if isinstance(outcome, Reading):
                self._proven = True
                self._answered += 1
                self._pacer.answered()
                text = self._masker.json_text(outcome.text)
                if (void := self._void(request, text)) is not None:
                    return FailedRequest(case_index, void, 200, attempts, repeat, time.monotonic() - first)
                return ResponseRecord(
                    case_index=case_index,
                    repeat=repeat,
                    response=text,
                    masked=text != outcome.text and not judged_alike(text, outcome.text),
                    stream_anomalies=outcome.anomalies,
                    request=request.identity,
                    attempts=attempts,
                    duration_s=time.monotonic() - started,
                    ttft_s=outcome.ttft_s,
                    gateways=outcome.gateways,
                    frames=outcome.frames,
                    usage_in_choice=outcome.usage_in_choice,
                    finished_at=utc_now(),
                )
            if answered_before is None:
                answered_before = self._answered
            failure, status = outcome.failure, outcome.status
            delay = retries.next_delay(
                failure.failure_class,
                status,
                outcome.retry_after_s,
                proven=self._proven,
                reason=outcome.reason,
                others_answered=self._answered > answered_before or self._nothing_else_to_send,
            )
            if delay is None:
                duration_s = time.monotonic() - first
                return FailedRequest(
                    case_index,
                    failure,
                    status,
                    attempts,
                    repeat,
                    duration_s,
                    retry_after_s=outcome.retry_after_s,
                )
            self._on_event(
                f"case {case_index}: {failure.detail}; again in {delay:.1f} s (attempt {attempts})"
                f"{self._what_is_left}"
            )
            if failure.failure_class is FailureClass.RATE_LIMITED:
                self._pacer.rate_limited(delay, started)
            else:
                await self._budget.pause(delay)

    def _void(self, request: Request, text: str) -> Failure | None:
        """Say why an answer is another provider's than the request pins, or None; its tokens are spent."""
        parameters = request.identity.parameters
        response = parse_completion(text) if pinned_providers(parameters) else None
        if not isinstance(response, Response):
            return None
        said = other_provider(parameters, response.completion)
        if said is None:
            return None
        self._budget.use(reported_tokens(response.completion, "total_tokens"))
        return Failure(FailureClass.OTHER_PROVIDER, printable(said))

    @property
    def _nothing_else_to_send(self) -> bool:
        return self._proven and self._begun == self._options.total

    @property
    def _what_is_left(self) -> str:
        if self._begun != self._options.total:
            return ""
        left = plural(self._begun - self._ended, "request")
        return f"; all else is sent, {left} of {self._begun} still to end"

    async def _attempt(self, request: Request, limits: Limits, started: float) -> Reading | _FailedAttempt:
        assert self._session is not None, "the transport is used as a context manager"
        attempt = Attempt(limits, stream=request.stream)
        self._under_way.add(attempt)
        status: int | None = None
        try:
            async with deadline(limits.timeout_s):
                posted = await self._session.post(
                    self._endpoint.url,
                    params=self._endpoint.query,
                    data=request.body,
                    # Not the session's: aiohttp (3.14) sends those to the proxy as well, the key included.
                    headers=self._endpoint.headers,
                    proxy=self._proxy and self._proxy.url,
                    allow_redirects=False,
                )
            async with posted as response:
                attempt.begin(response)
                status = response.status
                if not 200 <= status < 300:
                    return await self._refusal(response, limits)
                try:
                    read = (
                        read_stream(response, attempt, started)
                        if request.stream
                        else read_body(response, attempt)
                    )
                    return replace(await read, gateways=gateways_of(response.headers))
                except NoCompletionError as error:
                    # What is left of the body is not worth waiting for.
                    response.close()
                    if attempt.left:
                        raise BudgetSpentError(str(self._budget.spent)) from None
                    detail = error.detail if status == 200 else f"HTTP {status}: {error.detail}"
                    return self._failed(error.failure_class, detail, status)
        except aiohttp.ClientError as error:
            kind = FailureClass.TIMED_OUT if attempt.silent else _class_of(error)
            said = explained(error, self._proxy) or describe(error)
            detail = limits.silence if kind is FailureClass.TIMED_OUT else said
            return self._failed(kind, detail, status)
        except (TimeoutError, asyncio.TimeoutError):
            return self._failed(FailureClass.TIMED_OUT, limits.silence, status)
        except OSError as error:
            return self._failed(FailureClass.CONNECTION_RESET, describe(error), status)
        finally:
            self._under_way.discard(attempt)

    async def _refusal(self, response: aiohttp.ClientResponse, limits: Limits) -> _FailedAttempt:
        body = await read_refusal(response, limits)
        status = response.status
        text = " ".join(body.decode("utf-8", "replace").split())
        if len(body) >= REFUSAL_BYTES:
            text += "…"
        detail = f"HTTP {status}: {excerpt(text, 500)}" if text else f"HTTP {status}"
        if self._proxy is not None and status in _PROXYS_TOO and response.url.scheme == "http":
            detail += f"; asked through {self._proxy}"
        retry_after = retry_after_seconds(response.headers.get("Retry-After"), time.time())
        if status >= 400:
            kind = FailureClass.HTTP_5XX if status >= 500 else FailureClass.HTTP_4XX
            kind = FailureClass.RATE_LIMITED if status == 429 else kind
            return self._failed(kind, detail, status, retry_after, sort_refusal(text))
        if status >= 300:
            target = response.headers.get("Location", "nowhere")
            detail = f"HTTP {status}: redirected to {target}; give that address as the API URL"
        return self._failed(FailureClass.NOT_A_COMPLETION, detail, status)

    def _failed(
        self,
        kind: FailureClass,
        detail: str,
        status: int | None,
        retry_after_s: float | None = None,
        reason: RefusalReason | None = None,
    ) -> _FailedAttempt:
        failure = Failure(kind, printable(self._masker.text(detail)))
        return _FailedAttempt(failure, status, retry_after_s, reason)


def _class_of(error: aiohttp.ClientError) -> FailureClass:
    if isinstance(
        error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)
    ):
        return FailureClass.CONNECTION_FAILED
    if isinstance(error, aiohttp.ServerTimeoutError):
        return FailureClass.TIMED_OUT
    if isinstance(error, aiohttp.ClientResponseError):
        return FailureClass.NOT_A_COMPLETION
    return FailureClass.CONNECTION_RESET


def utc_now() -> str:
    """Give the time in UTC, ISO 8601 to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
