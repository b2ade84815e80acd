"""Reading a response of a status 2xx: a body or an event stream, within size and silence limits."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from dataclasses import dataclass

import aiohttp

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.json_text import dumps_ascii, escape_to_ascii, excerpt
from k2_verifier_adapter.core.responses import NotACompletion, decode_body, parse_completion
from k2_verifier_adapter.core.streams.assembler import ChunkAssembler
from k2_verifier_adapter.core.streams.decoder import EventDecoder, is_done

# Not `asyncio.wait_for`: on 3.10 and 3.11 it needs a task of its own, and before that is resumed, aiohttp may
# have seen the connection close, and raises instead of giving the data that came before.
if sys.version_info >= (3, 11):
    deadline = asyncio.timeout
else:
    import async_timeout

    deadline = async_timeout.timeout

_AFTER_DONE_S = 0.25
"""Seconds that a server may take to end the body behind `[DONE]`, so that the connection is reused."""

_AFTER_FINISH_S = 10.0
"""Seconds that a stream may go on behind its finish_reason, where the usage comes or never, and a whole body
behind its last byte."""

_AFTER_MINUTES_S = 60.0
"""Seconds without content after which a stream is left alone that outlives the user's minutes."""

REFUSAL_BYTES = 64 * 1024
_REFUSAL_S = 5.0
"""Size and seconds of an error body that are waited for."""


class NoCompletionError(Exception):
    """What was read is no completion, or passes a limit; the detail says in one line what came instead."""

    def __init__(self, failure_class: FailureClass, detail: str) -> None:
        super().__init__(detail)
        self.failure_class = failure_class
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is read, decompressed, and how many seconds without progress are waited for."""

    timeout_s: float
    max_bytes: int

    @property
    def silence(self) -> str:
        """What is said of an attempt that went without progress for too long."""
        return f"no progress for {self.timeout_s:g} s"


@dataclass(frozen=True, slots=True)
class Reading:
    """A completion as ASCII-escaped JSON text.

    Attributes:
        anomalies: What was noticed of a stream.
        frames: What was wrong with its frames.
        usage_in_choice: Whether it reported its usage inside a choice.
        ttft_s: Seconds to the first output of a stream.
        gateways: What the headers say that it passed through.
    """

    text: str
    anomalies: tuple[FailureClass, ...] = ()
    ttft_s: float | None = None
    gateways: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()
    usage_in_choice: bool = False


class Attempt:
    """One attempt under way: what it got, and when it last got on.

    The deadline is for the payload, wherever the bytes stop: what comes without any (a chunk's extension,
    empty blocks of a compression, trailers) is silence, which only somebody beside the reading notices.

    Attributes:
        limits: What is read and waited for.
        stream: Whether a stream was asked for.
        progress: When the head, or the last event with a choice, came.
        content: When the last content came.
        silent: Whether it was closed for silence.
        left: Whether it was closed because the session is over.
    """

    def __init__(self, limits: Limits, *, stream: bool) -> None:
        self.limits = limits
        self.stream = stream
        self.progress = self.content = time.monotonic()
        self.silent = False
        self.left = False
        self._response: aiohttp.ClientResponse | None = None
        self._size = 0
        self._tried = 0
        self._body: list[bytes] = []

    def begin(self, response: aiohttp.ClientResponse) -> None:
        """Note that the head has come."""
        self._response = response
        self.progress = self.content = time.monotonic()

    def take(self, chunk: bytes) -> None:
        """Count a chunk, or raise `NoCompletionError`."""
        self._size += len(chunk)
        if self._size > self.limits.max_bytes:
            detail = f"more than {self.limits.max_bytes} bytes"
            raise NoCompletionError(FailureClass.RESPONSE_TOO_LARGE, detail)

    def keep(self, chunk: bytes) -> None:
        """Keep a chunk of a body."""
        self.take(chunk)
        self._body.append(chunk)
        self.content = time.monotonic()

    def body(self) -> bytes:
        """Give what has come of a body."""
        return b"".join(self._body)

    def watch(self, now: float, minutes_over_since: float | None) -> None:
        """Close the response where it gets on no more; whoever reads it is told by a connection error."""
        if self._response is None:
            return
        if now - self.progress > self.limits.timeout_s:
            self.silent = True
        elif self.stream and minutes_over_since is not None:
            self.left = now - max(self.content, minutes_over_since) > _AFTER_MINUTES_S
        if self.silent or self.left or self._is_whole(now):
            self._response.close()

    def _is_whole(self, now: float) -> bool:
        """Whether a body is complete whose end does not come."""
        if self._tried == self._size or self.stream or now - self.content < _AFTER_FINISH_S:
            return False
        self._tried = self._size
        return _is_completion(self.body())


async def read_body(response: aiohttp.ClientResponse, attempt: Attempt) -> Reading:
    """Read a body that has to be whole within the timeout, or raise `NoCompletionError`."""
    try:
        async for chunk in response.content.iter_any():
            attempt.keep(chunk)
    except aiohttp.ClientError:
        # A whole body is an answer, whatever becomes of its trailers.
        if not _is_completion(attempt.body()):
            raise
    return _reading_of_body(attempt.body())


def _is_completion(body: bytes) -> bool:
    return body.rstrip().endswith(b"}") and not isinstance(
        parse_completion(decode_body(body)), NotACompletion
    )


def _reading_of_body(body: bytes, anomalies: tuple[FailureClass, ...] = ()) -> Reading:
    text = decode_body(body)
    result = parse_completion(text)
    if isinstance(result, NotACompletion):
        raise NoCompletionError(result.failure_class, result.reason)
    return Reading(escape_to_ascii(text), anomalies)


async def read_refusal(response: aiohttp.ClientResponse, limits: Limits) -> bytes:
    """Read what an error status says, as far as it comes soon; the status says what matters."""
    body = bytearray()
    with contextlib.suppress(asyncio.TimeoutError, aiohttp.ClientError):
        async with deadline(min(limits.timeout_s, _REFUSAL_S)):
            async for chunk in response.content.iter_any():
                body.extend(chunk)
                if len(body) >= REFUSAL_BYTES:
                    break
    return bytes(body[:REFUSAL_BYTES])


async def read_stream(response: aiohttp.ClientResponse, attempt: Attempt, started: float) -> Reading:
    """Read an event stream, of which each event with a choice is progress, or raise `NoCompletionError`."""
    stream = _Stream(attempt, started)
    patience: asyncio.TimerHandle | None = None
    try:
        async for chunk in response.content.iter_any():
            if stream.ends_with(chunk):
                break
            if patience is None and stream.finished:
                loop = asyncio.get_running_loop()
                patience = loop.call_later(_AFTER_FINISH_S, response.close)
    except aiohttp.ClientError as error:
        # A connection that breaks behind the finish_reason takes nothing away.
        if not stream.finished:
            if attempt.silent:
                raise
            raise NoCompletionError(FailureClass.STREAM_CUT, describe(error)) from None
    else:
        await stream.end(response)
    finally:
        if patience is not None:
            patience.cancel()
    return stream.reading()


class _Stream:
    """A stream that is being read."""

    def __init__(self, attempt: Attempt, started: float) -> None:
        self._attempt = attempt
        self._started = started
        self._decoder = EventDecoder()
        self._assembler = ChunkAssembler()
        self._before_events = bytearray()
        self._ttft_s: float | None = None
        self._done = False

    @property
    def finished(self) -> bool:
        """Whether a finish_reason has come."""
        return self._assembler.finished

    def ends_with(self, chunk: bytes) -> bool:
        """Take a chunk; tell whether nothing behind it matters."""
        assembler, attempt = self._assembler, self._attempt
        chunks, outputs = assembler.chunks, assembler.outputs
        if not assembler.events:
            self._before_events += chunk
        for data in self._decoder.feed(chunk):
            if is_done(data):
                self._done = True
                break
            assembler.add(data)
        if assembler.chunks > chunks:
            attempt.progress = now = time.monotonic()
            if assembler.outputs > outputs:
                attempt.content = now
                if self._ttft_s is None:
                    self._ttft_s = now - self._started
        attempt.take(chunk)
        return self._done or assembler.failed

    async def end(self, response: aiohttp.ClientResponse) -> None:
        """Take what the end of the stream still holds, so that the connection can be used again."""
        if self._done and not response.content.at_eof():
            try:
                await asyncio.wait_for(response.content.readany(), _AFTER_DONE_S)
            except (asyncio.TimeoutError, aiohttp.ClientError):
                response.close()
        elif not self._done and not self._assembler.failed:
            for data in self._decoder.close():
                if is_done(data):
                    self._done = True
                else:
                    self._assembler.add(data)

    def reading(self) -> Reading:
        """Give the completion, or raise `NoCompletionError`."""
        if not self._assembler.events and not self._done:
            return _whole_completion(bytes(self._before_events))
        result = self._assembler.result()
        if isinstance(result, NotACompletion):
            raise NoCompletionError(result.failure_class, result.reason)
        anomalies = tuple(self._assembler.anomalies)
        watched = self._assembler.frames
        return Reading(
            dumps_ascii(result.completion),
            anomalies,
            self._ttft_s,
            frames=watched.faults(done=self._done),
            usage_in_choice=watched.usage_in_choice,
        )


def _whole_completion(body: bytes) -> Reading:
    """Read the answer to a streamed request that is no event stream.

    Declared deviation 1: a whole completion is judged, where upstream records an empty `stop`.
    """
    try:
        return _reading_of_body(body, (FailureClass.STREAM_IGNORED,))
    except NoCompletionError as error:
        detail = f"a stream was asked for and the body is no event stream: {error.detail}"
        raise NoCompletionError(error.failure_class, detail) from None


def describe(error: BaseException) -> str:
    """Name an error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {excerpt(text, 300)}" if text else type(error).__name__
