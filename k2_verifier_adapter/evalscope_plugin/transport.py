"""The transport: the exact request out, the raw bytes in, one retry layer around both.

aiohttp, because EvalScope's own client both costs most of the time of a run and hides what must be
judged; streams are read by this package's own parser.
"""

from __future__ import annotations

import asyncio
import random
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from types import TracebackType
from urllib.parse import urlsplit

import aiohttp

from k2_verifier_adapter.core.event_stream import DONE, ChunkAssembler, EventDecoder
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.json_text import dumps_ascii, escape_to_ascii, excerpt
from k2_verifier_adapter.core.requests import Request
from k2_verifier_adapter.core.responses import NotACompletion, Response, parse_completion
from k2_verifier_adapter.evalscope_plugin.retries import RetryBudget, RetryPolicy, retry_after_seconds

_ERROR_BODY_BYTES = 64 * 1024
_CONNECT_TIMEOUT_S = 30.0
_SHORTEST_REST = 4
"""Characters of a cut-off secret from which on it is masked."""

_AFTER_DONE_S = 0.25
"""Seconds that a server may take to end the body behind `[DONE]`, so that the connection is reused."""


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
        """Give the text without the endpoint's secrets, whole or cut off by an excerpt."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
            if "…" in text:
                for length in range(len(secret) - 1, _SHORTEST_REST - 1, -1):
                    text = text.replace(f"{secret[:length]}…", "***…")
        return text


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """How the requests go.

    Attributes:
        timeout_s: Seconds that an attempt may go without progress. Progress is the response head
            and each event of a stream; a body that is not streamed must be whole within it.
        retry: The retry policy.
        max_response_bytes: Decompressed size at which a response is given up.
    """

    timeout_s: float
    retry: RetryPolicy
    max_response_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion, as it came.

    Attributes:
        response: Choice 0.
        text: The completion as ASCII-escaped JSON text.
        anomalies: Stream failure classes noticed on the way.
        attempts: Requests sent until it came.
        duration_s: Seconds from the request that was answered to the end of the answer.
        ttft_s: Seconds to the first output of a stream, else None.
        finished_at: When it was complete, ISO 8601 in UTC.
        raw: Whether the response is the endpoint's own, not what EvalScope made of it.
    """

    response: Response
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


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One failed attempt."""

    failure: Failure
    status: int | None = None
    retry_after_s: float | None = None


class Transport:
    """One HTTP session for one endpoint, on one event loop."""

    def __init__(
        self,
        endpoint: Endpoint,
        options: TransportOptions,
        *,
        on_event: Callable[[str], None] = lambda _: None,
        rng: random.Random | None = None,
    ) -> None:
        """Prepare the session; nothing is sent before `ask`.

        Args:
            endpoint: Where the requests go.
            options: How they go.
            on_event: Told, in a line, of every attempt that is repeated.
            rng: Source of the jitter.
        """
        self._endpoint = endpoint
        self._options = options
        self._on_event = on_event
        self._rng = rng or random.Random()
        self._proven = False
        self._not_before = 0.0
        self._proxy = environment_proxy(endpoint.url)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Transport:
        # The evaluator bounds the concurrency; total time is bounded by progress, not as a whole.
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=min(_CONNECT_TIMEOUT_S, self._options.timeout_s),
            sock_read=self._options.timeout_s,
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, request: Request) -> Answer | NoAnswer:
        """Send one request, as often as the retry policy says."""
        budget = RetryBudget(self._options.retry, self._rng)
        first = time.monotonic()
        attempts = 0
        while True:
            await self._wait_for_rate_limit()
            attempts += 1
            outcome = await self._attempt(request, attempts)
            if isinstance(outcome, Answer):
                self._proven = True
                return outcome
            kind = outcome.failure.failure_class
            delay = budget.next_delay(kind, outcome.status, outcome.retry_after_s, proven=self._proven)
            if delay is None:
                return NoAnswer(outcome.failure, outcome.status, attempts, time.monotonic() - first)
            self._on_event(f"{outcome.failure.detail}; again in {delay:.1f} s (attempt {attempts})")
            if kind is FailureClass.RATE_LIMITED:
                # Everybody waits: a limit is the key's, not the request's.
                self._not_before = max(self._not_before, time.monotonic() + delay)
            else:
                await asyncio.sleep(delay)

    async def _wait_for_rate_limit(self) -> None:
        while (wait := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    async def _attempt(self, request: Request, attempts: int) -> Answer | _Attempt:
        assert self._session is not None, "the transport is used as a context manager"
        started = time.monotonic()
        status: int | None = None
        try:
            async with self._session.post(
                self._endpoint.url,
                params=self._endpoint.query,
                data=request.body,
                # Not the session's: aiohttp (3.14) sends those to the proxy as well, the key included.
                headers=self._endpoint.headers,
                proxy=self._proxy,
                allow_redirects=False,
            ) as response:
                status = response.status
                if status != 200:
                    return await self._refusal(response)
                read = self._read_stream if request.stream else self._read_body
                outcome = await read(response, started, attempts)
        except aiohttp.ClientError as error:
            kind = _class_of(error)
            detail = self._silence() if kind is FailureClass.TIMED_OUT else _describe(error)
            return self._failed(kind, detail, status)
        except (TimeoutError, asyncio.TimeoutError):
            return self._failed(FailureClass.TIMED_OUT, self._silence(), status)
        except OSError as error:
            return self._failed(FailureClass.CONNECTION_RESET, _describe(error), status)
        return outcome

    async def _read_body(
        self, response: aiohttp.ClientResponse, started: float, attempts: int
    ) -> Answer | _Attempt:
        parts: list[bytes] = []
        size = 0
        progress = time.monotonic()
        async for chunk in response.content.iter_any():
            parts.append(chunk)
            size += len(chunk)
            if size > self._options.max_response_bytes:
                return self._too_large(response)
            if time.monotonic() - progress > self._options.timeout_s:
                response.close()
                return self._failed(FailureClass.TIMED_OUT, self._silence(), 200)
        text = b"".join(parts).decode("utf-8", "replace")
        result = parse_completion(text)
        if isinstance(result, NotACompletion):
            return self._failed(result.failure_class, result.reason, 200)
        duration = time.monotonic() - started
        return Answer(result, escape_to_ascii(text), (), attempts, duration, None, utc_now())

    async def _read_stream(
        self, response: aiohttp.ClientResponse, started: float, attempts: int
    ) -> Answer | _Attempt:
        decoder, assembler = EventDecoder(), ChunkAssembler()
        size = 0
        ttft: float | None = None
        progress = time.monotonic()
        done = False
        try:
            async for chunk in response.content.iter_any():
                size += len(chunk)
                if size > self._options.max_response_bytes:
                    return self._too_large(response)
                now = time.monotonic()
                for data in decoder.feed(chunk):
                    progress = now
                    if data.strip() == DONE:
                        done = True
                        break
                    assembler.add(data)
                if ttft is None and assembler.has_output:
                    ttft = now - started
                if done or assembler.failed:
                    break
                if now - progress > self._options.timeout_s:
                    response.close()
                    return self._failed(FailureClass.TIMED_OUT, self._silence(), 200)
        except aiohttp.ServerTimeoutError:
            if not assembler.finished:
                raise
        except aiohttp.ClientError as error:
            # A connection that breaks behind the finish_reason takes nothing away.
            if not assembler.finished:
                return self._failed(FailureClass.STREAM_CUT, _describe(error), 200)
        else:
            if done:
                await _drain(response)
            elif not assembler.failed:
                for data in decoder.close():
                    if data.strip() != DONE:
                        assembler.add(data)
        result = assembler.result()
        if isinstance(result, NotACompletion):
            response.close()
            return self._failed(result.failure_class, result.reason, 200)
        return Answer(
            response=result,
            text=dumps_ascii(result.completion),
            anomalies=tuple(assembler.anomalies),
            attempts=attempts,
            duration_s=time.monotonic() - started,
            ttft_s=ttft,
            finished_at=utc_now(),
        )

    async def _refusal(self, response: aiohttp.ClientResponse) -> _Attempt:
        try:
            body = await response.content.read(_ERROR_BODY_BYTES)
        except aiohttp.ClientError:
            body = b""  # the status says what matters
        status = response.status
        text = " ".join(body.decode("utf-8", "replace").split())
        detail = f"HTTP {status}: {excerpt(text, 500)}" if text else f"HTTP {status}"
        retry_after = retry_after_seconds(response.headers.get("Retry-After"), time.time())
        if 300 <= status < 400:
            target = response.headers.get("Location", "nowhere")
            detail = f"HTTP {status}: redirected to {target}; give that address as the API URL"
            return self._failed(FailureClass.NOT_A_COMPLETION, detail, status)
        if status == 429:
            return self._failed(FailureClass.RATE_LIMITED, detail, status, retry_after)
        if status >= 500:
            return self._failed(FailureClass.HTTP_5XX, detail, status, retry_after)
        if status >= 400:
            return self._failed(FailureClass.HTTP_4XX, detail, status, retry_after)
        return self._failed(FailureClass.NOT_A_COMPLETION, detail, status)

    def _too_large(self, response: aiohttp.ClientResponse) -> _Attempt:
        response.close()
        limit = self._options.max_response_bytes
        return self._failed(FailureClass.RESPONSE_TOO_LARGE, f"more than {limit} bytes", 200)

    def _silence(self) -> str:
        return f"no progress for {self._options.timeout_s:g} s"

    def _failed(
        self, kind: FailureClass, detail: str, status: int | None, retry_after_s: float | None = None
    ) -> _Attempt:
        return _Attempt(Failure(kind, self._endpoint.masked(detail)), status, retry_after_s)


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


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read to the end of the body, so that the connection can be used again."""
    if response.content.at_eof():
        return
    try:
        await asyncio.wait_for(response.content.readany(), _AFTER_DONE_S)
    except (asyncio.TimeoutError, aiohttp.ClientError):
        response.close()


def _class_of(error: aiohttp.ClientError) -> FailureClass:
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        return FailureClass.CONNECTION_FAILED
    if isinstance(error, aiohttp.ServerTimeoutError):
        return FailureClass.TIMED_OUT
    if isinstance(error, aiohttp.ClientResponseError):
        return FailureClass.NOT_A_COMPLETION
    return FailureClass.CONNECTION_RESET


def _describe(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {excerpt(text, 300)}" if text else type(error).__name__


def utc_now() -> str:
    """Give the time in UTC, ISO 8601 to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
