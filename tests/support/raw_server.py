"""A loopback server that keeps the exact bytes of requests and answers with exact bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Arrival:
    """One request as it arrived.

    Attributes:
        number: 0-based position among all requests.
        connection: 0-based number of the TCP connection.
        head: Request line and header lines, as sent.
        body: The body, as sent.
    """

    number: int
    connection: int
    head: bytes
    body: bytes

    @property
    def target(self) -> str:
        """Path and query of the request line."""
        return self.head.split(b" ", 2)[1].decode()

    @property
    def headers(self) -> dict[str, str]:
        """The headers, names in lower case."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines if line)
        return {name.lower(): value.strip() for name, _, value in pairs}

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


Handler = Callable[[Arrival, asyncio.StreamWriter], Awaitable[None]]


class RawServer:
    """Serve on a free loopback port; the handler writes the bytes of each answer itself.

    Attributes:
        arrivals: The requests so far, in order of arrival.
        connections: TCP connections so far.
        url: The API's base URL, once it runs.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()
        self.arrivals: list[Arrival] = []
        self.connections = 0
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[RawServer]:
        """Serve on the running event loop until the block ends."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[RawServer]:
        """Serve in a background thread until the block ends."""
        started: Future[Callable[[], object]] = Future()

        async def main() -> None:
            stopping = asyncio.Event()
            loop = asyncio.get_running_loop()
            async with self.running():
                started.set_result(lambda: loop.call_soon_threadsafe(stopping.set))
                await stopping.wait()

        thread = threading.Thread(target=lambda: asyncio.run(main()), name="raw-server", daemon=True)
        thread.start()
        stop = started.result()
        try:
            yield self
        finally:
            stop()
            thread.join()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = self.connections
        self.connections += 1
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                lengths = (
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                )
                length = next(lengths, 0)
                body = await reader.readexactly(length)
                arrival = Arrival(len(self.arrivals), connection, head, body)
                self.arrivals.append(arrival)
                await self._handler(arrival, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)


def says(*parts: bytes) -> Handler:
    """Answer every request with these bytes, one write a part."""

    async def handler(_: Arrival, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return handler


def says_in_turn(*answers: bytes) -> Handler:
    """Give each request the next answer; the last one again and again."""

    async def handler(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(answers[min(arrival.number, len(answers) - 1)])

    return handler


def then_closes(*parts: bytes) -> Handler:
    """Answer with these bytes and close the connection."""

    async def handler(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.writelines(parts)
        await writer.drain()
        writer.close()

    return handler


def then_resets(*parts: bytes) -> Handler:
    """Answer with these bytes, let them arrive, and reset the connection."""

    async def handler(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.writelines(parts)
        await writer.drain()
        # The client reads on one loop with this server: a few turns let it take what was written.
        for _turn in range(20):
            await asyncio.sleep(0)
        reset(writer)

    return handler


def then_stalls(*parts: bytes) -> Handler:
    """Answer with these bytes and never go on; the connection stays open."""

    async def handler(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.writelines(parts)
        await writer.drain()
        await asyncio.Event().wait()

    return handler


def drips(head: bytes, piece: bytes, every_s: float) -> Handler:
    """Answer with a piece every few moments, until the client leaves."""

    async def handler(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(every_s)

    return handler


def reset(writer: asyncio.StreamWriter) -> None:
    """Send RST at once."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# --- answers, as bytes ---------------------------------------------------------------------------


def reply(
    body: bytes | dict[str, Any], status: int = 200, *headers: str, content_type: str = "application/json"
) -> bytes:
    """Write a whole answer with its length."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head(status, f"Content-Length: {len(content)}", *headers, content_type=content_type) + content


def head(status: int, *headers: str, content_type: str = "application/json") -> bytes:
    """Write status line and headers."""
    lines = [f"HTTP/1.1 {status} Status", f"Content-Type: {content_type}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def completion(content: str = "Hello", finish_reason: str | None = "stop", **fields: Any) -> dict[str, Any]:
    """Give a chat completion."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], **fields}


def chunk(delta: dict[str, Any], finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    """Give one chunk of a streamed completion."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **fields}


def event(data: dict[str, Any] | str, end: str = "\n\n") -> bytes:
    """Write one event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"data: {text}{end}".encode()


DONE = event("[DONE]")
HELLO = (event(chunk({"role": "assistant", "content": "Hel"})), event(chunk({"content": "lo"})))
STOP = event(chunk({}, "stop"))
STREAM_HEAD = head(200, "Transfer-Encoding: chunked", content_type="text/event-stream; charset=utf-8")
END = b"0\r\n\r\n"


def framed(data: bytes) -> bytes:
    """Frame bytes as one HTTP chunk."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def stream(*events: bytes) -> bytes:
    """Write a whole streamed answer, each event a chunk of its own."""
    return STREAM_HEAD + b"".join(map(framed, events)) + END
