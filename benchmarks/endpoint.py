"""An endpoint of known latency, in a process of its own: every answer is made before the first request.

It answers any chat completion, whatever has been done to the request on the way: the row is known by a
tag that its tool schemas carry. It is no simulated vendor, but only what a client's cost can be measured
against; its own CPU time is reported by `GET /stats`, so that nobody need believe that it is small.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from aiohttp import web

NONE = "none"


def _uniform(shortest_s: float, longest_s: float) -> Callable[[random.Random], float]:
    return lambda rng: rng.uniform(shortest_s, longest_s)


def _slow_tail(rng: random.Random) -> float:
    return 6.0 if rng.random() < 0.05 else 0.2


LATENCIES: Mapping[str, Callable[[random.Random], float]] = {
    NONE: lambda _: 0.0,
    "0.1-0.9 s": _uniform(0.1, 0.9),
    "0.2 s, 5 % 6 s": _slow_tail,
    "2-6 s": _uniform(2.0, 6.0),
}
"""Seconds until an answer, by name; drawn for each row from a generator of its own."""


def latency_of(name: str, tag: int) -> float:
    """Give the seconds until the answer to a row, the same in every run."""
    return LATENCIES[name](random.Random(f"{name}:{tag}"))


def ideal_s(latencies: Iterable[float], concurrency: int) -> float:
    """Give the seconds that a client without any cost of its own needs.

    It asks in this order, and again as soon as one of its places is free: the sum over the concurrency,
    and the tail of the last answers.
    """
    ends: list[float] = []
    for latency in latencies:
        start = heapq.heappop(ends) if len(ends) >= concurrency else 0.0
        heapq.heappush(ends, start + latency)
    return max(ends, default=0.0)


_TAG = re.compile(rb'"tag_(\d+)_')
_STREAM = re.compile(rb'"stream": ?true')
_HEAD = {"id": "chatcmpl-benchmark", "created": 1_764_000_000, "model": "k2-benchmark"}
_USAGE = {"prompt_tokens": 2_500, "completion_tokens": 120, "total_tokens": 2_620}


@dataclass(frozen=True, slots=True)
class Prepared:
    """One answer, ready to send.

    Attributes:
        body: The completion.
        events: The same as an event stream, cut into events.
    """

    body: bytes
    events: list[bytes]


def prepare(answer: dict[str, Any], chunks: int) -> Prepared:
    """Make both forms of an answer.

    Args:
        answer: `content`, `tool_calls` and `finish_reason`.
        chunks: Events of the stream, `[DONE]` not counted.
    """
    message: dict[str, Any] = {"role": "assistant", "content": answer["content"]}
    if answer["tool_calls"]:
        message["tool_calls"] = answer["tool_calls"]
    choice = {"index": 0, "message": message, "finish_reason": answer["finish_reason"]}
    body = {**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _USAGE}
    return Prepared(_dump(body), _events(answer, chunks))


def _events(answer: dict[str, Any], chunks: int) -> list[bytes]:
    """Cut an answer into `chunks` events: role, content and arguments piece by piece, finish, usage."""
    calls = answer["tool_calls"]
    fixed = 3 + len(calls)
    texts = [answer["content"], *(call["function"]["arguments"] for call in calls)]
    total = max(1, sum(map(len, texts)))
    pieces = [_cut(text, max(1, (chunks - fixed) * len(text) // total)) for text in texts]
    pieces[0] = _cut(texts[0], max(1, chunks - fixed - sum(map(len, pieces[1:]))))
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in pieces[0]]
    for index, (call, arguments) in enumerate(zip(calls, pieces[1:], strict=True)):
        function = {"name": call["function"]["name"], "arguments": ""}
        opening = {"index": index, "id": call["id"], "type": "function", "function": function}
        deltas.append({"tool_calls": [opening]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in arguments
        ]
    choices: list[list[dict[str, Any]]] = [
        [{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas
    ]
    choices.append([{"index": 0, "delta": {}, "finish_reason": answer["finish_reason"]}])
    head = {**_HEAD, "object": "chat.completion.chunk"}
    events: list[dict[str, Any]] = [{**head, "choices": choice} for choice in choices]
    events.append({**head, "choices": [], "usage": _USAGE})
    return [b"data: " + _dump(event) + b"\n\n" for event in events]


def _cut(text: str, parts: int) -> list[str]:
    bounds = [len(text) * part // parts for part in range(parts + 1)]
    return [text[start:end] for start, end in pairwise(bounds)]


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class Endpoint:
    """The request handler."""

    def __init__(self, answers: dict[bytes, Prepared], latency: str) -> None:
        self._answers = answers
        self._latency = latency
        self._requests = 0
        # Arrival and end by the monotonic clock, and the latency between them, in order of arrival.
        self._served: list[list[float]] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if request.method == "GET":
            stats = {"requests": self._requests, "cpu_s": time.process_time(), "served": self._served}
            return web.json_response(stats)
        body = await request.read()
        self._requests += 1
        found = _TAG.search(body)
        answer = self._answers.get(found[1]) if found else None
        if answer is None:
            return web.json_response({"error": {"message": "no row of this benchmark"}}, status=400)
        assert found is not None
        if self._latency == NONE:
            return await self._send(request, body, answer)
        latency = latency_of(self._latency, int(found[1]))
        served = [time.monotonic(), 0.0, latency]
        self._served.append(served)
        await asyncio.sleep(latency)
        response = await self._send(request, body, answer)
        served[1] = time.monotonic()
        return response

    @staticmethod
    async def _send(request: web.BaseRequest, body: bytes, answer: Prepared) -> web.StreamResponse:
        if _STREAM.search(body) is None:
            return web.Response(body=answer.body, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in answer.events:
            await response.write(event)
            # One write an event, other connections in between, as a vendor's tokens come.
            await asyncio.sleep(0)
        await response.write(b"data: [DONE]\n\n")
        return response


async def serve(answers: dict[bytes, Prepared], latency: str) -> None:
    """Serve until the process is ended; the port is the first line of standard output."""
    runner = web.ServerRunner(web.Server(Endpoint(answers, latency).handle, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--chunks", type=int, default=50, help="events of a stream (%(default)s)")
    parser.add_argument("--latency", choices=LATENCIES, default=NONE, help="seconds until an answer")
    options = parser.parse_args()
    answers: dict[bytes, Prepared] = {}
    with options.answers.open(encoding="utf-8") as file:
        for line in file:
            value = json.loads(line)
            answers[str(value["tag"]).encode()] = prepare(value["answer"], options.chunks)
    asyncio.run(serve(answers, options.latency))


if __name__ == "__main__":
    main()
