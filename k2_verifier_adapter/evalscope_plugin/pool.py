"""A work-conserving pool: a slot that becomes free takes the next item at once.

EvalScope 1.14.1's own pool waits up to a second before it refills, which leaves half of the
concurrency idle at latencies below that.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractAsyncContextManager, suppress
from typing import TypeVar

Item = TypeVar("Item")

_CANCEL_PATIENCE_S = 4.0
"""Seconds that an interrupted pool may take to let go of its connections."""


def run_pool(  # noqa: C901 - three small functions inside
    items: Sequence[Item],
    work: Callable[[Item], Awaitable[None]],
    *,
    concurrency: int,
    context: AbstractAsyncContextManager[None],
) -> None:
    """Work on all items, `concurrency` at a time, on one event loop in a thread of its own.

    A thread, so that it also runs where the caller's thread has a running loop (a notebook).

    Args:
        items: What to work on, in this order.
        work: Works on one item; it runs on the loop, so what it touches needs no lock.
        concurrency: Items in work at the same time.
        context: Entered around all work.

    Raises:
        BaseException: The first exception that `work` raises; the other items are cancelled. An
            interrupt of the calling thread cancels them, too.
    """
    finished: Future[None] = Future()
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()
    interrupted = threading.Event()

    async def work_on_all() -> None:
        task = asyncio.current_task()
        assert task is not None
        started.set_result((asyncio.get_running_loop(), task))
        if interrupted.is_set():
            raise asyncio.CancelledError
        async with context:
            remaining = iter(items)

            async def worker() -> None:
                for item in remaining:
                    await work(item)

            workers = [asyncio.create_task(worker()) for _ in range(min(concurrency, len(items)))]
            try:
                done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                for task_done in done:
                    task_done.result()
            finally:
                for unfinished in workers:
                    unfinished.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    def run() -> None:
        try:
            asyncio.run(work_on_all())
        except BaseException as error:  # noqa: BLE001 - handed over to the calling thread
            finished.set_exception(error)
        else:
            finished.set_result(None)

    thread = threading.Thread(target=run, name="k2-verifier-pool", daemon=True)
    try:
        thread.start()
        finished.result()
    except BaseException:
        if not finished.done():
            # An interrupt may come while the thread is being started: then whichever of the two
            # is later finds the other's note.
            interrupted.set()
            if started.done():
                loop, task = started.result()
                with suppress(RuntimeError):  # the loop has just been closed
                    loop.call_soon_threadsafe(task.cancel)
            wait([finished], _CANCEL_PATIENCE_S)
        raise
    thread.join()
