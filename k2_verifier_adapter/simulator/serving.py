"""Run a web application on loopback: in a thread of its own, or in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread

from aiohttp import web

from k2_verifier_adapter.errors import UsageError

LOOPBACK = "127.0.0.1"

_BACKLOG = 1024
_GRACE_S = 1.0
"""Seconds that answers under way get at shutdown."""

Application = Callable[[asyncio.Event], web.Application]
"""Makes the application; the event is set when the server stops."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a simulated vendor listens.

    Attributes:
        url: The API's base URL, `http://127.0.0.1:PORT/v1`.
        port: The port.
    """

    url: str
    port: int


async def serve(
    application: Application,
    host: str,
    port: int,
    stopping: asyncio.Event,
    on_ready: Callable[[Endpoint], None],
) -> None:
    """Serve until `stopping` is set.

    Raises:
        UsageError: If the host is not 127.0.0.1, or the port cannot be listened on.
    """
    if host != LOOPBACK:
        raise UsageError(
            f"host {host!r} is refused: the simulated vendor listens on {LOOPBACK} only, "
            "for it has no business with other machines"
        )
    # Handlers are cancelled when the client leaves, so that no stall and no delay outlives it.
    runner = web.AppRunner(
        application(stopping), access_log=None, handler_cancellation=True, shutdown_timeout=_GRACE_S
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"port {port!r} on {host} cannot be listened on: {error}; choose another, or 0 for a free one"
            ) from error
        bound = runner.addresses[0][1]
        on_ready(Endpoint(f"http://{host}:{bound}/v1", bound))
        await stopping.wait()
    finally:
        await runner.cleanup()


@contextlib.contextmanager
def serve_in_thread(application: Application, host: str, port: int) -> Iterator[Endpoint]:
    """Serve in a background thread with its own event loop, until the block ends.

    Raises:
        UsageError: If the host is not 127.0.0.1, or the port cannot be listened on.
    """
    started: Future[tuple[Endpoint, Callable[[], object]]] = Future()

    async def main() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()

        def ready(endpoint: Endpoint) -> None:
            started.set_result((endpoint, lambda: loop.call_soon_threadsafe(stopping.set)))

        try:
            await serve(application, host, port, stopping, ready)
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = Thread(target=lambda: asyncio.run(main()), name="simulated-vendor", daemon=True)
    thread.start()
    try:
        endpoint, stop = started.result()
    except BaseException:
        thread.join()
        raise
    try:
        yield endpoint
    finally:
        stop()
        thread.join()


def serve_in_foreground(
    application: Application, host: str, port: int, on_ready: Callable[[Endpoint], None]
) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        UsageError: If the host is not 127.0.0.1, or the port cannot be listened on.
    """

    async def main() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        # Not there on Windows, and refused outside the main thread: Ctrl-C then ends asyncio.run.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(signal.SIGINT, stopping.set)
            loop.add_signal_handler(signal.SIGTERM, stopping.set)
        await serve(application, host, port, stopping, on_ready)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
