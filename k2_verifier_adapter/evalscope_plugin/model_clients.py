"""How the requests of a model of EvalScope are answered: by the HTTP client, or else through EvalScope."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from copy import copy
from typing import Any, TypeAlias

from evalscope.api.messages import dict_to_chat_message
from evalscope.api.model import GenerateConfig, Model, ModelAPI, ModelOutput
from evalscope.api.tool import ToolInfo
from evalscope.config import TaskConfig
from evalscope.models.openai_compatible import OpenAICompatibleAPI
from evalscope.utils import get_secret_value
from evalscope.utils.logger import get_logger
from yarl import URL

from k2_verifier_adapter.core.cases import NOT_PARAMETERS, Case
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.json_text import dumps_ascii, excerpt
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.presets import Preset
from k2_verifier_adapter.core.printable import printable
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.requests import Request
from k2_verifier_adapter.core.responses import NotACompletion, judged_alike, parse_completion
from k2_verifier_adapter.core.secrets import Masker, secrets_in
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.evalscope_plugin import masking
from k2_verifier_adapter.evalscope_plugin.client.pacing import Budget, BudgetSpentError, Pacer, start_daemon
from k2_verifier_adapter.evalscope_plugin.client.retries import RetryPolicy
from k2_verifier_adapter.evalscope_plugin.client.transport import (
    Endpoint,
    Transport,
    TransportOptions,
    utc_now,
)
from k2_verifier_adapter.version import __version__

logger = get_logger()

ModelClient: TypeAlias = "HttpClient | EvalScopeClient"
Outcome: TypeAlias = ResponseRecord | FailedRequest

_UNSENT_HEADERS = ("x-stainless-", "user-agent", "content-length", "host")


def client_for(model: Model, task_config: TaskConfig) -> ModelClient:
    """Choose the HTTP client for an OpenAI-compatible API, and EvalScope's own for any other."""
    endpoint = raw_endpoint(model.api, task_config.generation_config)
    if endpoint is not None:
        client: ModelClient = HttpClient(model.api, endpoint)
    else:
        logger.warning(
            f"{type(model.api).__name__} is not EvalScope's OpenAI-compatible API: requests go through "
            "EvalScope, whose own parsing stands between the response and the judgement."
        )
        # A model that was made in Python has a key that the task does not know.
        own = secrets_in({"api_key": getattr(model.api, "api_key", None)})
        client = EvalScopeClient(model, Masker(masking.secrets_of(task_config) | own))
    masking.mask_logs(client.masker.secrets)
    return client


class HttpClient:
    """Sends the exact request and gives the raw response; what comes back holds no secret."""

    raw = True

    def __init__(self, api: ModelAPI, endpoint: Endpoint) -> None:
        self.api = api
        self.model_name = str(api.model_name)
        url = URL(endpoint.url)
        self.host: str | None = str(url.host) if url.is_default_port() else f"{url.host}:{url.port}"
        self.masker = Masker(endpoint.secrets)
        self._endpoint = endpoint
        self._transport: Transport

    @asynccontextmanager
    async def session(
        self, options: TransportOptions, concurrency: int, budget: Budget
    ) -> AsyncIterator[None]:
        """Open the transport."""
        async with Transport(
            self._endpoint, options, concurrency=concurrency, budget=budget, on_event=logger.warning
        ) as self._transport:
            yield

    async def send(
        self, request: Request, case: Case, repeat: int = 0, timeout_s: float | None = None
    ) -> Outcome:
        """Send the request, with a timeout of its own or the session's."""
        return await self._transport.send(request, case.index, repeat, timeout_s)


class EvalScopeClient:
    """The same through `model.generate`; the completion is rebuilt from EvalScope's output."""

    raw = False

    def __init__(self, model: Model, masker: Masker) -> None:
        self.masker = masker
        self.api = model.api
        self.model_name = str(model.name)
        self.host: str | None = None
        # The request says what is sent; EvalScope's default temperature is not to be added to it.
        self._model = copy(model)
        self._model.config = model.config.model_copy(update={"temperature": None})
        self._pacer: Pacer

    @asynccontextmanager
    async def session(
        self, options: TransportOptions, concurrency: int, budget: Budget
    ) -> AsyncIterator[None]:
        """Open the gate; timeout and retries are EvalScope's own here."""
        self._pacer = Pacer(budget, concurrency, options.requests_per_minute)
        yield

    async def send(
        self, request: Request, case: Case, repeat: int = 0, timeout_s: float | None = None
    ) -> Outcome:
        """Let EvalScope send the messages, and rebuild a completion from what it makes of the answer."""
        del timeout_s  # EvalScope has its own
        started = time.monotonic()

        def failed(detail: str, attempts: int = 1) -> FailedRequest:
            text = printable(excerpt(self.masker.text(" ".join(detail.split())), 300))
            failure = Failure(FailureClass.NOT_A_COMPLETION, text)
            return FailedRequest(case.index, failure, None, attempts, repeat, time.monotonic() - started)

        try:
            messages = [dict_to_chat_message(message) for message in case.messages()]
            tools = [ToolInfo.model_validate(tool["function"]) for tool in case.tools()]
            config = generate_config(json.loads(request.body))
        except (ValueError, KeyError, TypeError) as error:
            return failed(f"EvalScope cannot represent this row: {error}", attempts=0)
        try:
            async with self._pacer.turn():
                generated: Future[ModelOutput] = Future()
                start_daemon(lambda: self._model.generate(messages, tools, config=config), generated)
                output = await asyncio.wrap_future(generated)
        except BudgetSpentError:
            raise
        except Exception as error:  # noqa: BLE001 - any model API, any exception; it is this request's
            return failed(f"{type(error).__name__}: {error}")
        if output.error:
            return failed(output.error)
        came = dumps_ascii(completion_of_output(output))
        text = self.masker.json_text(came)
        response = parse_completion(text)
        if isinstance(response, NotACompletion):
            return failed(response.reason)
        return ResponseRecord(
            case_index=case.index,
            repeat=repeat,
            response=text,
            stream_anomalies=(),
            request=request.identity,
            attempts=1,
            duration_s=time.monotonic() - started,
            ttft_s=None,
            finished_at=utc_now(),
            raw=self.raw,
            masked=text != came and not judged_alike(text, came),
        )


def raw_endpoint(api: ModelAPI, config: GenerateConfig) -> Endpoint | None:
    """Give the endpoint of an OpenAI-compatible API; None for any other.

    An API that overrides `generate` does something of its own with a request, and is asked through it.
    """
    if not isinstance(api, OpenAICompatibleAPI) or type(api).generate is not OpenAICompatibleAPI.generate:
        return None
    masking.refuse_credentials_in(str(api.base_url))
    url = URL(f"{api.base_url}/chat/completions")
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError(f"api_url is {api.base_url!r}, expected http://… or https://…")
    headers = {
        str(name): str(value)
        for name, value in api.client.default_headers.items()
        if isinstance(value, str) and not str(name).lower().startswith(_UNSENT_HEADERS)
    }
    extra_headers = get_secret_value(config.extra_headers) if config.extra_headers else {}
    for name, value in (extra_headers or {}).items():
        for known in [known for known in headers if known.lower() == str(name).lower()]:
            del headers[known]
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            raise UsageError(
                f"extra_headers.{name} is {type(value).__name__}, expected a text: EvalScope's client sends "
                "no other"
            )
        headers[str(name)] = str(value)
    if not any(name.lower() == "authorization" for name in headers):
        headers["Authorization"] = f"Bearer {api.api_key}"
    headers["User-Agent"] = f"k2-verifier-adapter/{__version__}"
    for name, value in headers.items():
        if not f"{name}{value}".isprintable():
            raise UsageError(
                f"header {name!r}, from api_key or extra_headers, holds a line end or another control "
                "character; remove it"
            )
    query = {**api.client.default_query, **(config.extra_query or {})}
    body = {"extra_body": get_secret_value(config.extra_body), **(config.model_extra or {})}
    sent = {"api_key": api.api_key, "extra_headers": headers, "extra_query": query, "generation_config": body}
    secrets = secrets_in(sent, public=[str(api.model_name)]) | masking.environment_secrets()
    # As EvalScope's client writes them: true for True, nothing for None, `name[]` for each of a list.
    pairs = tuple(api.client.qs.stringify_items(query))
    return Endpoint(str(url), headers, pairs, tuple(sorted(secrets)))


def transport_options(
    config: GenerateConfig, preset: Preset, parameters: Mapping[str, Any]
) -> TransportOptions:
    """Read timeout, retries, the size limit and the rate limit; `UsageError` if one is out of range."""
    timeout = preset.timeout_s if config.timeout is None else config.timeout
    retries = 0 if config.retries is None else config.retries
    interval = 0.0 if config.retry_interval is None else float(config.retry_interval)
    for name, value, minimum in (
        ("timeout", timeout, 0.001),
        ("retries", retries, 0),
        ("retry_interval", interval, 0),
    ):
        if not minimum <= value < math.inf:
            raise UsageError(
                f"generation_config.{name} is {value!r}, expected a number of at least {minimum}"
            )
    return TransportOptions(
        timeout_s=float(timeout),
        retry=RetryPolicy(retries, interval),
        max_response_bytes=parameters["max_response_mb"] * 1024 * 1024,
        requests_per_minute=parameters["requests_per_minute"],
    )


_FIELD_OF_PARAMETER = {"stop": "stop_seqs", "max_completion_tokens": "max_tokens"}
"""What EvalScope calls what the API calls otherwise."""


def generate_config(body: Mapping[str, Any]) -> GenerateConfig:
    """Give a request's parameters to EvalScope: by its own names, or else as the extra body.

    A `ValueError` says that it refuses one.
    """
    fields: dict[str, Any] = {}
    extra_body: dict[str, Any] = {}
    for name, value in body.items():
        field = _FIELD_OF_PARAMETER.get(name, name)
        if field in GenerateConfig.model_fields:
            fields[field] = value
        # EvalScope asks for the usage of every stream by itself.
        elif name not in (*NOT_PARAMETERS, "stream_options"):
            extra_body[name] = value
    return GenerateConfig(**fields, extra_body=extra_body)


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
