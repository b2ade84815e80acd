"""The simulated vendor: an OpenAI-compatible server that replays the official answers of its rows."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from k2_verifier_adapter.core.model_profiles import ModelProfile
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.simulator.completions import CREATED, DONE, events, to_json, with_choices
from k2_verifier_adapter.simulator.faithful import FaithfulEndpoint, RefusedError
from k2_verifier_adapter.simulator.faults import PayloadFault, TransportFault
from k2_verifier_adapter.simulator.faults.transport import Exchange, Extent
from k2_verifier_adapter.simulator.planning import (
    Demands,
    Plan,
    Planner,
    Slot,
    decode_rows,
    request_key,
    surviving_key,
)
from k2_verifier_adapter.simulator.profiles import Profile, profile_named
from k2_verifier_adapter.simulator.truth import Truth
from k2_verifier_adapter.simulator.wire import JSON_TYPE, StreamSettings, Wire, error_body

if sys.version_info >= (3, 11):
    deadline = asyncio.timeout
else:
    import async_timeout

    deadline = async_timeout.timeout

LOOPBACK = "127.0.0.1"

_LARGEST_REQUEST = 32 << 20
_MOST_UPLOADED = 128 << 20
"""Bytes of the bodies that are being received, all together."""
_UNSAID = 4 << 20
"""What a body of unsaid size counts for."""
_UPLOAD_S = 30.0
"""Seconds in which a request's body has to be whole."""
_NAMES = frozenset({LOOPBACK, "localhost"})
_INTERNAL = "/__simulator__/"
_STOPPING = web.AppKey("stopping", asyncio.Event)
_BACKLOG = 1024
_GRACE_S = 1.0
"""Seconds that answers under way get at shutdown, and an upload that was refused, to take the answer."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a simulated vendor listens: the API's base URL, `http://127.0.0.1:PORT/v1`, and the port."""

    url: str
    port: int


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request as it arrived: path with query, headers (case-insensitive names), raw body."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class SimulatedVendor:
    """A vendor whose every answer is known.

    Attributes:
        truth: The ledger of all answers.
        requests: The requests as they arrived, if they are recorded.
    """

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any]],
        profile: Profile,
        *,
        seed: int = 0,
        model: str = "kimi-k2-simulated",
        api_key: str | None = None,
        strict_model: bool = False,
        latency: Callable[[int], float] | None = None,
        stream_chunks: int | None = None,
        write_events_singly: bool = False,
        record_requests: bool = False,
        retry_after_s: int = 1,
        oversized_bytes: int = 200 << 20,
        drip_interval_s: float = 1.0,
        upload_s: float = _UPLOAD_S,
        by_rules: ModelProfile | None = None,
    ) -> None:
        """Decode the rows and prepare their official answers.

        Args:
            rows: The rows to answer.
            profile: What goes wrong, and how often.
            seed: Chooses the requests that go wrong.
            model: The model that is served.
            api_key: The key to ask for, or None to accept all.
            strict_model: Whether to refuse a request for another model.
            latency: Seconds before the answer to a row, given its 0-based number.
            stream_chunks: Deltas a text in a stream, or None for deltas of about 24 characters.
            write_events_singly: Whether each event of a stream is a write of its own, rather than
                the stream one write.
            record_requests: Whether to keep every request's headers and body.
            retry_after_s: What a `Retry-After` header says, in seconds from now.
            oversized_bytes: Size of a body that is too large, before it is compressed.
            drip_interval_s: Seconds between two bytes of an answer that drips.
            upload_s: Seconds in which a request's body has to be whole.
            by_rules: The model as whose official API requests are answered that are of no row; without it,
                they are refused.

        Raises:
            BadRowsError: If rows cannot be used.
        """
        listed = list(rows)
        self.truth = Truth()
        self.requests: list[RecordedRequest] = []
        cases, self._index = decode_rows(listed)
        self._planner = Planner(listed, cases, profile, seed=seed, model=model)
        self._official_streams: dict[tuple[int, bool], list[bytes]] = {}
        self._model = model
        self._api_key = api_key
        self._strict_model = strict_model
        self._latency = latency
        self._stream_chunks = stream_chunks
        self._write_events_singly = write_events_singly
        self._record_requests = record_requests
        self._upload_s = upload_s
        self._uploaded = 0
        self._by_rules = None if by_rules is None else FaithfulEndpoint(by_rules, model=model)
        self._extent = Extent(retry_after_s, oversized_bytes, drip_interval_s)

    @contextlib.contextmanager
    def running(self, port: int = 0, host: str = LOOPBACK) -> Iterator[Endpoint]:
        """Serve in a background thread with its own event loop, until the `with` block ends.

        Port 0 takes a free one; a host other than 127.0.0.1, or a port that cannot be listened on, is a
        `UsageError`.
        """
        started: Future[tuple[Endpoint, Callable[[], object]]] = Future()

        async def main() -> None:
            stopping = asyncio.Event()
            loop = asyncio.get_running_loop()

            def ready(endpoint: Endpoint) -> None:
                started.set_result((endpoint, lambda: loop.call_soon_threadsafe(stopping.set)))

            try:
                await self.serve(host, port, stopping, ready)
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

    async def serve(
        self, host: str, port: int, stopping: asyncio.Event, on_ready: Callable[[Endpoint], None]
    ) -> None:
        """Serve until `stopping` is set, which also ends delays and stalls; errors are those of `running`."""
        if host != LOOPBACK:
            raise UsageError(
                f"host {host!r} is refused: the simulated vendor listens on {LOOPBACK} only, "
                "for it has no business with other machines"
            )
        app = web.Application(client_max_size=_LARGEST_REQUEST, middlewares=[self._guard])
        app[_STOPPING] = stopping
        app.router.add_post("/v1/chat/completions", self._chat_completions)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/models/{model:.+}", self._one_model)
        app.router.add_get(f"{_INTERNAL}truth", self._state_truth)
        # Handlers are cancelled when the client leaves, so that no stall and no delay outlives it.
        runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=_GRACE_S,
            lingering_time=_GRACE_S,
        )
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
            except (OSError, OverflowError) as error:
                raise UsageError(
                    f"port {port!r} on {host} cannot be listened on: {error}; "
                    "choose another, or 0 for a free one"
                ) from error
            bound = runner.addresses[0][1]
            on_ready(Endpoint(f"http://{host}:{bound}/v1", bound))
            await stopping.wait()
        finally:
            await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what a page of a browser sends, receive the body within bounds, check the key."""
        if _host_of(request) not in _NAMES or "Origin" in request.headers:
            return self._refuse(403, "only programs of this machine are served, by its loopback address")
        if (body := await self._receive(request)) is None:
            refusal = self._refuse(413, "the body is too large or was not whole in time")
            refusal.force_close()
            return refusal
        if self._record_requests and not request.path.startswith(_INTERNAL):
            headers = request.headers.copy()
            self.requests.append(RecordedRequest(request.method, request.path_qs, headers, body))
        if self._api_key is not None:
            given = request.headers.get("Authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {self._api_key}".encode()):
                return self._refuse(401, "Invalid Authentication: the API key is wrong or missing")
        try:
            return await handler(request)
        except web.HTTPException as error:
            # No such path, or no such method there: an API says so in its own form.
            if error.status not in (404, 405):
                raise
            self.truth.refused[error.status] += 1
            body = error_body(error.status, f"{request.method} {request.path}: {error.reason}")
            allowed = {name: value for name, value in error.headers.items() if name == "Allow"}
            return web.Response(body=body, status=error.status, headers=allowed, content_type=JSON_TYPE)

    async def _receive(self, request: web.Request) -> bytes | None:
        """Give the body; None if it, or all that are under way, are too large or too slow."""
        size = request.content_length or (_UNSAID if request.can_read_body else 0)
        if size > _LARGEST_REQUEST or self._uploaded + size > _MOST_UPLOADED:
            return None
        self._uploaded += size
        try:
            async with deadline(self._upload_s):
                return await request.read()
        except (asyncio.TimeoutError, web.HTTPRequestEntityTooLarge):
            return None
        finally:
            self._uploaded -= size

    def _refuse(self, status: int, message: str) -> web.Response:
        self.truth.refused[status] += 1
        return web.Response(body=error_body(status, message), status=status, content_type=JSON_TYPE)

    async def _models(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": [self._entry()]})

    async def _one_model(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["model"]
        if name != self._model:
            return self._refuse(404, f"Not found the model {name!r}; served is {self._model!r}")
        return web.json_response(self._entry())

    def _entry(self) -> dict[str, Any]:
        return {"id": self._model, "object": "model", "created": CREATED, "owned_by": "simulator"}

    async def _state_truth(self, _: web.Request) -> web.StreamResponse:
        # Validity is computed on reading, which must not hold up the answers under way.
        return web.json_response(await asyncio.to_thread(self.truth.as_json))

    async def _chat_completions(self, request: web.Request) -> web.StreamResponse:
        body, slot, demands = None, None, Demands()
        try:
            body = json.loads(await request.read())
            messages, tools = body["messages"], body.get("tools")
            demands = Demands.of(body)
            slot = self._index.take(request_key(messages, tools))
            # A gateway on the way may have taken out what means nothing.
            slot = slot or self._index.take(surviving_key(messages, tools))
        except (ValueError, RecursionError, TypeError, LookupError, AttributeError) as error:
            # Rules have words of their own for an object that is no request.
            if self._by_rules is None or not isinstance(body, dict):
                return self._refuse(400, f"the body is not a chat completion request: {error!r}")
        if slot is None and self._by_rules is None:
            return self._refuse(
                422,
                "unmatched: messages and tools equal those of no row, neither raw nor with the declared "
                "history repairs",
            )
        if self._strict_model and body.get("model") != self._model:
            if slot is not None:
                self._index.give_back(slot)
            return self._refuse(
                404,
                f"Not found the model {body.get('model')!r} or permission denied; served is {self._model!r}",
            )
        if slot is None:
            return await self._answer_by_rules(request, body)
        return await self._answer(request, slot, _stream_settings(body, self._stream_chunks), demands)

    async def _answer_by_rules(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        assert self._by_rules is not None
        try:
            completion = self._by_rules.answer(body)
        except RefusedError as error:
            return self._refuse(400, str(error))
        except (ValueError, RecursionError, TypeError, LookupError, AttributeError) as error:
            return self._refuse(400, f"the body is not a chat completion request: {error!r}")
        await self._wait(request, 0)
        wire, stream = Wire(request), _stream_settings(body, None)
        if stream is None:
            return await wire.send_body(to_json(completion))
        chunks, done = self._by_rules.chunks(completion, include_usage=stream.include_usage)
        return await wire.send_events([*events(chunks), *([DONE] if done else [])])

    async def _wait(self, request: web.Request, row: int) -> None:
        """Hold an answer back for its latency, or until the vendor stops."""
        seconds = 0.0 if self._latency is None else self._latency(row)
        if seconds > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(request.app[_STOPPING].wait(), seconds)

    async def _answer(
        self, request: web.Request, slot: Slot, stream: StreamSettings | None, demands: Demands
    ) -> web.StreamResponse:
        plan = self._planner.plan(slot, stream=stream is not None, demands=demands)
        # Entered before it is sent, so that who has the answer finds it in the ledger.
        number = self.truth.add(*self._planner.entry(slot, plan))
        stopping = request.app[_STOPPING]
        try:
            await self._wait(request, slot.case_index)
            wire = Wire(request, plan.shapes)
            if isinstance(plan.fault, TransportFault):
                self._index.give_back(slot)
                exchange = Exchange(request, wire, plan.completion, stream, stopping, self._extent)
                return await plan.fault.perform(exchange)
            return await self._send(wire, slot.case_index, plan, stream, demands.choices)
        except (asyncio.CancelledError, ConnectionError) as error:
            # The client left before the answer was complete, which is its right.
            if plan.completes:
                self.truth.withdraw(number)
                self._index.give_back(slot)
            if isinstance(error, asyncio.CancelledError):
                raise
            # Raised, aiohttp would log it as the server's error.
            return web.StreamResponse()

    async def _send(
        self, wire: Wire, case_index: int, plan: Plan, stream: StreamSettings | None, choices: int
    ) -> web.StreamResponse:
        fault = plan.fault if isinstance(plan.fault, PayloadFault) else None
        if stream is None or (fault is not None and fault.as_body):
            return await wire.send_body(to_json(with_choices(plan.completion, choices)))
        official = self._planner.official[case_index]
        if fault is None and not plan.shapes and choices == 1 and plan.completion is official:
            key = case_index, stream.include_usage
            if key not in self._official_streams:
                self._official_streams[key] = [*events(stream.chunks(official)), DONE]
            written = self._official_streams[key]
        else:
            chunks = stream.chunks(plan.completion, wire.shapes, None if fault is None else fault.rewrite)
            written = [*events(with_choices(chunk, choices) for chunk in chunks), DONE]
        return await wire.send_events(written, singly=self._write_events_singly)


class FaithfulVendor(SimulatedVendor):
    """A vendor that answers any request as one model's official API does, but for chosen faults."""

    def __init__(self, profile: ModelProfile, faults: Iterable[str] = (), **settings: Any) -> None:
        """Take the model and the names of faults; `settings` are those of `SimulatedVendor`."""
        super().__init__([], profile_named("official"), **settings)
        self._by_rules = FaithfulEndpoint(profile, faults, self._model)


def _host_of(request: web.Request) -> str:
    """Give the host that a request names, without its port."""
    return request.headers.get("Host", "").rpartition(":")[0] or request.headers.get("Host", "")


def _stream_settings(body: Mapping[str, Any], pieces: int | None) -> StreamSettings | None:
    if not body.get("stream"):
        return None
    options = body.get("stream_options")
    include_usage = isinstance(options, Mapping) and bool(options.get("include_usage"))
    return StreamSettings(pieces, include_usage)


def serve_forever(
    vendor: SimulatedVendor,
    port: int = 0,
    *,
    host: str = LOOPBACK,
    on_ready: Callable[[Endpoint], None] = lambda _: None,
) -> None:
    """Serve in the foreground until SIGINT or SIGTERM, printing nothing.

    `on_ready` is called once the vendor listens; the other arguments and the errors are those of
    `SimulatedVendor.running`.
    """

    async def main() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        # Not there on Windows, and refused outside the main thread: Ctrl-C then ends asyncio.run.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(signal.SIGINT, stopping.set)
            loop.add_signal_handler(signal.SIGTERM, stopping.set)
        await vendor.serve(host, port, stopping, on_ready)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
