"""How the bytes of one answer go out: in the wire shapes that were drawn for it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping

from aiohttp import web

from k2_verifier_adapter.simulator.shapes import WireShape

JSON_TYPE = "application/json"
EVENT_STREAM_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}

_GZIP_FORMAT = 31
_FASTEST = 1


class Wire:
    """Writes one answer.

    Attributes:
        shapes: The shapes that apply; gzip only if the client accepts it.
    """

    def __init__(self, request: web.Request, shapes: Iterable[WireShape] = ()) -> None:
        accepts_gzip = "gzip" in request.headers.get("Accept-Encoding", "")
        self.shapes = tuple(shape for shape in shapes if accepts_gzip or not shape.gzip)
        self._request = request
        self._encoder = _Encoder(self.shapes)
        self._response = web.StreamResponse()

    async def send_body(
        self,
        body: bytes,
        content_type: str = JSON_TYPE,
        *,
        status: int = 200,
        reason: str | None = None,
        headers: Mapping[str, str] | None = None,
        half: bool = False,
    ) -> web.StreamResponse:
        """Send a body that is no stream, or only its first half.

        Raises:
            ConnectionError: If the client left.
        """
        for shape in self.shapes:
            body = body if shape.body is None else shape.body(body)
        writes = [*self._encoder.encode(body), *self._encoder.end()]
        size = sum(map(len, writes))
        given = {"Content-Type": content_type, **(headers or {})}
        if not any(shape.unsized for shape in self.shapes):
            given["Content-Length"] = str(size)
        response = await self.start(given, status, reason)
        left = size // 2 if half else size
        for piece in writes:
            await response.write(piece[:left])
            left -= len(piece)
            if left <= 0:
                break
        if not half:
            await response.write_eof()
        return response

    async def send_events(
        self, events: list[bytes], *, singly: bool = False, end: bool = True
    ) -> web.StreamResponse:
        """Send an event stream.

        Args:
            events: The events, each as it is written.
            singly: Whether each is a write of its own, rather than all of them one.
            end: Whether the stream ends behind them.

        Raises:
            ConnectionError: If the client left.
        """
        shaped = self.shaped(events)
        response = await self.start(EVENT_STREAM_HEADERS)
        for block in shaped if singly else [b"".join(shaped)]:
            await self.write(block)
        if end:
            await self.end()
        return response

    def shaped(self, events: list[bytes]) -> list[bytes]:
        """Give events as their shapes write them."""
        for shape in self.shapes:
            events = events if shape.events is None else shape.events(events)
        return events

    async def start(
        self, headers: Mapping[str, str], status: int = 200, reason: str | None = None
    ) -> web.StreamResponse:
        """Send the head of an answer."""
        self._response = web.StreamResponse(status=status, reason=reason, headers=headers)
        if self._encoder.compresses:
            self._response.headers["Content-Encoding"] = "gzip"
        await self._response.prepare(self._request)
        return self._response

    async def write(self, block: bytes) -> None:
        """Send the next block of an answer that was started.

        Raises:
            ConnectionError: If the client left.
        """
        for piece in self._encoder.encode(block):
            await self._response.write(piece)

    async def end(self) -> None:
        """End an answer that was started.

        Raises:
            ConnectionError: If the client left.
        """
        for piece in self._encoder.end():
            await self._response.write(piece)
        await self._response.write_eof()


class _Encoder:
    """Cuts and compresses what is written."""

    def __init__(self, shapes: tuple[WireShape, ...]) -> None:
        self._parts = [shape.parts for shape in shapes if shape.parts is not None]
        self._writes = [shape.writes for shape in shapes if shape.writes is not None]
        compresses = any(shape.gzip for shape in shapes)
        self._gzip = zlib.compressobj(_FASTEST, wbits=_GZIP_FORMAT) if compresses else None

    @property
    def compresses(self) -> bool:
        """Whether what is written is compressed."""
        return self._gzip is not None

    def encode(self, block: bytes) -> Iterator[bytes]:
        """Yield the writes of a block; compressed, each can be read before the next one comes."""
        parts = [block]
        for cut in self._parts:
            parts = [piece for part in parts for piece in cut(part)]
        for part in parts:
            if self._gzip is not None:
                part = self._gzip.compress(part) + self._gzip.flush(zlib.Z_SYNC_FLUSH)
            yield from self._as_writes(part)

    def end(self) -> Iterator[bytes]:
        """Yield what completes the compressed answer."""
        if self._gzip is not None:
            yield from self._as_writes(self._gzip.flush())

    def _as_writes(self, data: bytes) -> list[bytes]:
        writes = [data]
        for cut in self._writes:
            writes = [piece for part in writes for piece in cut(part)]
        return writes
