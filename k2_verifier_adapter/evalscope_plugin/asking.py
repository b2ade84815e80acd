"""How a request is answered: by the transport, or through EvalScope where the API is another one."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from evalscope.api.messages import dict_to_chat_message
from evalscope.api.model import Model, ModelAPI, ModelOutput
from evalscope.api.tool import ToolInfo
from evalscope.config import TaskConfig
from evalscope.utils.logger import get_logger
from yarl import URL

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.json_text import dumps_ascii, excerpt
from k2_verifier_adapter.core.printable import printable
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.requests import Request
from k2_verifier_adapter.core.responses import NotACompletion, read_completion
from k2_verifier_adapter.core.secrets import Masker, secrets_in
from k2_verifier_adapter.evalscope_plugin import hiding, settings
from k2_verifier_adapter.evalscope_plugin.client.budget import Budget, BudgetSpentError, RunLimits
from k2_verifier_adapter.evalscope_plugin.client.exchange import (
    Answer,
    Endpoint,
    NoAnswer,
    TransportOptions,
    utc_now,
)
from k2_verifier_adapter.evalscope_plugin.client.pacing import Pacer
from k2_verifier_adapter.evalscope_plugin.client.transport import Transport
from k2_verifier_adapter.evalscope_plugin.pool import run_pool

logger = get_logger()

Result = TypeVar("Result")


class Asker(Protocol):
    """One way of asking.

    Attributes:
        api: The model API behind it.
        model_name: The model name that requests carry.
        host: Host and port asked, or None where there is no URL.
        masker: Takes the secrets out of what comes back.
    """

    api: ModelAPI
    model_name: str
    host: str | None
    masker: Masker

    def session(self, options: TransportOptions, concurrency: int, budget: Budget) -> Any:
        """Give the async context in which `ask` may be called."""

    async def ask(self, request: Request, case: Case) -> Answer | NoAnswer:
        """Answer one request.

        Raises:
            BudgetSpentError: If the session's budget is spent.
        """


def choose(model: Model, task_config: TaskConfig) -> Asker:
    """Choose the transport for an OpenAI-compatible API, and EvalScope's own client for any other."""
    endpoint = settings.raw_endpoint(model.api, task_config.generation_config)
    asker: Asker
    if endpoint is not None:
        asker = RawAsker(model.api, endpoint)
    else:
        logger.warning(
            f"{type(model.api).__name__} is not EvalScope's OpenAI-compatible API: requests go through "
            "EvalScope, whose own parsing stands between the response and the judgement."
        )
        # A model that was made in Python has a key that the task does not know.
        own = secrets_in({"api_key": getattr(model.api, "api_key", None)})
        asker = EvalScopeAsker(model, Masker(hiding.secrets_of(task_config) | own))
    hiding.hide_in_logs(asker.masker.secrets)
    return asker


class RawAsker:
    """Ask with the exact request, judge the raw bytes."""

    def __init__(self, api: ModelAPI, endpoint: Endpoint) -> None:
        self.api = api
        self.model_name = str(api.model_name)
        url = URL(endpoint.url)
        self.host: str | None = str(url.host) if url.is_default_port() else f"{url.host}:{url.port}"
        self.masker = Masker(endpoint.secrets)
        self._endpoint = endpoint
        self._transport: Transport | None = None

    @asynccontextmanager
    async def session(
        self, options: TransportOptions, concurrency: int, budget: Budget
    ) -> AsyncIterator[None]:
        """Open the transport."""
        async with Transport(
            self._endpoint, options, concurrency=concurrency, budget=budget, on_event=logger.warning
        ) as transport:
            self._transport = transport
            try:
                yield
            finally:
                self._transport = None

    async def ask(self, request: Request, case: Case) -> Answer | NoAnswer:
        """Send the request."""
        del case
        assert self._transport is not None, "ask is called inside of the session"
        return _without_secrets(await self._transport.ask(request), self.masker)


class EvalScopeAsker:
    """Ask through `model.generate`; the completion is rebuilt from EvalScope's output."""

    def __init__(self, model: Model, masker: Masker) -> None:
        self.masker = masker
        self.api = model.api
        self.model_name = str(model.name)
        self.host: str | None = None
        self._model = model
        self._pacer: Pacer | None = None

    @asynccontextmanager
    async def session(
        self, options: TransportOptions, concurrency: int, budget: Budget
    ) -> AsyncIterator[None]:
        """Open the gate; timeout and retries are EvalScope's own here."""
        self._pacer = Pacer(budget, concurrency, options.requests_per_minute)
        yield

    async def ask(self, request: Request, case: Case) -> Answer | NoAnswer:
        """Let EvalScope ask, and rebuild a completion from what it makes of the answer."""
        del request
        return _without_secrets(await self._ask(case), self.masker)

    async def _ask(self, case: Case) -> Answer | NoAnswer:
        started = time.monotonic()
        try:
            messages = [dict_to_chat_message(message) for message in case.messages()]
            tools = [ToolInfo.model_validate(tool["function"]) for tool in case.tools()]
        except (ValueError, KeyError, TypeError) as error:
            return _no_answer(f"EvalScope cannot represent this row: {error}", started, attempts=0)
        assert self._pacer is not None, "ask is called inside of the session"
        try:
            async with self._pacer.turn():
                output = await _in_daemon_thread(lambda: self._model.generate(messages, tools))
        except BudgetSpentError:
            raise
        except Exception as error:  # noqa: BLE001 - any model API, any exception; it is this request's
            return _no_answer(f"{type(error).__name__}: {error}", started)
        if output.error:
            return _no_answer(output.error, started)
        completion = completion_of_output(output)
        response = read_completion(completion)
        if isinstance(response, NotACompletion):
            return _no_answer(response.reason, started)
        return Answer(
            text=dumps_ascii(completion),
            anomalies=(),
            attempts=1,
            duration_s=time.monotonic() - started,
            ttft_s=None,
            finished_at=utc_now(),
            raw=False,
        )


async def _in_daemon_thread(function: Callable[[], Result]) -> Result:
    """Call a function that blocks in a thread of its own.

    No executor: its threads are waited for when the interpreter ends, so that a call that hangs would
    keep an interrupted run from ending.
    """
    done: Future[Result] = Future()

    def call() -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - handed over to who waits
            with contextlib.suppress(InvalidStateError):
                done.set_exception(error)
        else:
            with contextlib.suppress(InvalidStateError):
                # Nobody waits any more where the run was interrupted.
                done.set_result(result)

    threading.Thread(target=call, name="k2-verifier-ask", daemon=True).start()
    return await asyncio.wrap_future(done)


def _without_secrets(outcome: Answer | NoAnswer, masker: Masker) -> Answer | NoAnswer:
    """Give an outcome in which the vendor repeats no secret; one that it does not repeat stays as it is."""
    if isinstance(outcome, NoAnswer):
        failure = outcome.failure
        return replace(outcome, failure=replace(failure, detail=printable(masker.text(failure.detail))))
    text = masker.json_text(outcome.text)
    return outcome if text == outcome.text else replace(outcome, text=text)


def record_of(answer: Answer, request: Request, case_index: int, repeat: int) -> ResponseRecord:
    """Make the record of an answer that is stored."""
    return ResponseRecord(
        case_index=case_index,
        repeat=repeat,
        response=answer.text,
        stream_anomalies=answer.anomalies,
        request=request.identity,
        attempts=answer.attempts,
        duration_s=answer.duration_s,
        ttft_s=answer.ttft_s,
        finished_at=answer.finished_at,
        raw=answer.raw,
    )


def ask_once(asker: Asker, request: Request, case: Case, options: TransportOptions) -> Answer | NoAnswer:
    """Ask for one case, outside of a run."""
    outcomes: list[Answer | NoAnswer] = []

    async def ask(item: Case) -> None:
        outcomes.append(await asker.ask(request, item))

    run_pool([case], ask, concurrency=1, context=asker.session(options, 1, Budget(RunLimits())))
    return outcomes[0]


def completion_of_output(output: ModelOutput) -> dict[str, Any]:
    """Rebuild a chat completion from EvalScope's parsed output."""
    choices = []
    for choice in output.choices[:1]:
        message: dict[str, Any] = {"role": "assistant", "content": choice.message.text}
        if choice.message.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {
                        "name": call.function.name,
                        "arguments": dumps_ascii(call.function.arguments),
                    },
                }
                for call in choice.message.tool_calls
            ]
        # EvalScope renames `length`, and calls `unknown` what it was not told.
        finish_reason = {"max_tokens": "length", "unknown": None}.get(choice.stop_reason, choice.stop_reason)
        choices.append({"index": 0, "message": message, "finish_reason": finish_reason})
    usage = None
    if output.usage is not None:
        usage = {
            "prompt_tokens": output.usage.input_tokens,
            "completion_tokens": output.usage.output_tokens,
            "total_tokens": output.usage.total_tokens,
        }
    return {"object": "chat.completion", "model": output.model, "choices": choices, "usage": usage}


def _no_answer(detail: str, started: float, attempts: int = 1) -> NoAnswer:
    failure = Failure(FailureClass.NOT_A_COMPLETION, excerpt(" ".join(detail.split()), 300))
    return NoAnswer(failure, None, attempts, time.monotonic() - started)
