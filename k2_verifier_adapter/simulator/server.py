"""The simulated vendor: an OpenAI-compatible server that replays the official answers of its rows."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from k2_verifier_adapter.simulator.answers import CREATED
from k2_verifier_adapter.simulator.faults import PayloadFault, StreamFault, TransportFault
from k2_verifier_adapter.simulator.matching import Slot, decode_rows, request_key
from k2_verifier_adapter.simulator.planning import Plan, Planner
from k2_verifier_adapter.simulator.profiles import Profile
from k2_verifier_adapter.simulator.responder import (
    Misbehaviour,
    StreamSettings,
    error_response,
)
from k2_verifier_adapter.simulator.serving import LOOPBACK, Endpoint, serve_in_foreground, serve_in_thread
from k2_verifier_adapter.simulator.streaming import to_json
from k2_verifier_adapter.simulator.truth import Truth
from k2_verifier_adapter.simulator.wire import Wire

_LARGEST_REQUEST = 256 << 20
_INTERNAL = "/__simulator__/"
_STOPPING = web.AppKey("stopping", asyncio.Event)


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request as it arrived.

    Attributes:
        method: The HTTP method.
        path: Path and query.
        headers: The headers; names compare without regard to case.
        body: The raw body.
    """

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

        Raises:
            BadRowsError: If rows cannot be used.
        """
        listed = list(rows)
        self.truth = Truth()
        self.requests: list[RecordedRequest] = []
        cases, self._index = decode_rows(listed)
        self._planner = Planner(listed, cases, profile, seed=seed, model=model)
        self._official_bodies = [to_json(completion) for completion in self._planner.official]
        self._official_streams: dict[tuple[int, bool], list[bytes]] = {}
        self._model = model
        self._api_key = api_key
        self._strict_model = strict_model
        self._latency = latency
        self._stream_chunks = stream_chunks
        self._write_events_singly = write_events_singly
        self._record_requests = record_requests
        self._misbehaviour = Misbehaviour(retry_after_s, oversized_bytes, drip_interval_s)

    def running(self, port: int = 0, host: str = LOOPBACK) -> AbstractContextManager[Endpoint]:
        """Serve in a background thread until the `with` block ends; port 0 takes a free one.

        Raises:
            UsageError: If the host is not 127.0.0.1, or the port cannot be listened on.
        """
        return serve_in_thread(self.application, host, port)

    def application(self, stopping: asyncio.Event) -> web.Application:
        """Make the web application; `stopping` ends delays and stalls."""
        app = web.Application(client_max_size=_LARGEST_REQUEST, middlewares=[self._guard])
        app[_STOPPING] = stopping
        app.router.add_post("/v1/chat/completions", self._chat_completions)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get(f"{_INTERNAL}truth", self._state_truth)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Record the request and check its key."""
        if request.path.startswith(_INTERNAL):
            return await handler(request)
        if self._record_requests:
            body = await request.read()
            headers = request.headers.copy()
            self.requests.append(RecordedRequest(request.method, request.path_qs, headers, body))
        if self._api_key is not None:
            given = request.headers.get("Authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {self._api_key}".encode()):
                return self._refuse(401, "Invalid Authentication: the API key is wrong or missing")
        return await handler(request)

    def _refuse(self, status: int, message: str) -> web.Response:
        self.truth.refused[status] += 1
        return error_response(status, message)

    async def _models(self, _: web.Request) -> web.StreamResponse:
        entry = {"id": self._model, "object": "model", "created": CREATED, "owned_by": "simulator"}
        return web.json_response({"object": "list", "data": [entry]})

    async def _state_truth(self, _: web.Request) -> web.StreamResponse:
        # Validity is computed on reading, which must not hold up the answers under way.
        return web.json_response(await asyncio.to_thread(self.truth.as_json))

    async def _chat_completions(self, request: web.Request) -> web.StreamResponse:
        try:
            body = json.loads(await request.read())
            messages, tools = body["messages"], body.get("tools")
            slot = self._index.take(request_key(messages, tools))
        except (ValueError, RecursionError, TypeError, LookupError, AttributeError) as error:
            return self._refuse(400, f"the body is not a chat completion request: {error!r}")
        if slot is None:
            return self._refuse(
                422,
                "unmatched: messages and tools equal those of no row, neither raw nor with the declared "
                "history repairs",
            )
        if self._strict_model and body.get("model") != self._model:
            self._index.give_back(slot)
            return self._refuse(404, f"Not found the model {body.get('model')!r}, served is {self._model!r}")
        return await self._answer(request, slot, _stream_settings(body, self._stream_chunks))

    async def _answer(
        self, request: web.Request, slot: Slot, stream: StreamSettings | None
    ) -> web.StreamResponse:
        plan = self._planner.plan(slot, stream=stream is not None)
        # Entered before it is sent, so that who has the answer finds it in the ledger.
        number = self.truth.add(self._planner.entry(slot, plan), self._planner.validity(slot, plan))
        stopping = request.app[_STOPPING]
        try:
            await self._delay(slot.case_index, stopping)
            if isinstance(plan.fault, TransportFault):
                self._index.give_back(slot)
                return await self._misbehaviour.perform(request, plan.fault.action, plan, stream, stopping)
            return await self._send(Wire(request, plan.shapes), slot.case_index, plan, stream)
        except asyncio.CancelledError:
            self._withdraw(slot, plan, number)
            raise
        except ConnectionError:
            self._withdraw(slot, plan, number)
            # The client left, which is its right; raised, aiohttp would log it as the server's error.
            return web.StreamResponse()

    def _withdraw(self, slot: Slot, plan: Plan, number: int) -> None:
        """Note that the client left before the answer was complete."""
        if plan.completes:
            self.truth.withdraw(number)
            self._index.give_back(slot)

    async def _delay(self, case_index: int, stopping: asyncio.Event) -> None:
        seconds = 0.0 if self._latency is None else self._latency(case_index)
        if seconds > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stopping.wait(), seconds)

    async def _send(
        self, wire: Wire, case_index: int, plan: Plan, stream: StreamSettings | None
    ) -> web.StreamResponse:
        if stream is None or (isinstance(plan.fault, PayloadFault) and plan.fault.as_body):
            official = self._official_bodies[case_index] if plan.fault is None else None
            return await wire.send_body(official or to_json(plan.completion))
        singly = self._write_events_singly
        if plan.fault is None and not plan.shapes:
            return await wire.send_events(self._official_stream(case_index, stream), singly=singly)
        spoilt = plan.fault if isinstance(plan.fault, StreamFault) else None
        return await wire.send_events(stream.events(plan.completion, wire.shapes, spoilt), singly=singly)

    def _official_stream(self, case_index: int, stream: StreamSettings) -> list[bytes]:
        key = case_index, stream.include_usage
        if key not in self._official_streams:
            events = stream.events(self._planner.official[case_index])
            self._official_streams[key] = events if self._write_events_singly else [b"".join(events)]
        return self._official_streams[key]


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

    Args:
        vendor: The vendor.
        port: The port; 0 takes a free one.
        host: 127.0.0.1; any other is refused.
        on_ready: Called with the endpoint once it listens.

    Raises:
        UsageError: If the host is not 127.0.0.1, or the port cannot be listened on.
    """
    serve_in_foreground(vendor.application, host, port, on_ready)
