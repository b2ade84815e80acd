"""EvalScope's settings, as the transport and the requests need them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalscope.api.model import GenerateConfig, ModelAPI
from evalscope.config import DEFAULT_TEXT_GEN_SERVICE_CONFIG, TaskConfig
from evalscope.models.openai_compatible import OpenAICompatibleAPI
from evalscope.models.utils.openai import openai_completion_params
from evalscope.utils import get_secret_value
from yarl import URL

from k2_verifier_adapter.core.history import HistoryOptions, MalformedHistory
from k2_verifier_adapter.core.presets import Preset
from k2_verifier_adapter.core.sampling import SampleMethod
from k2_verifier_adapter.core.secrets import secrets_in
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.evalscope_plugin import hiding
from k2_verifier_adapter.evalscope_plugin.client.budget import RunLimits
from k2_verifier_adapter.evalscope_plugin.client.exchange import Endpoint, TransportOptions
from k2_verifier_adapter.evalscope_plugin.client.retries import RetryPolicy
from k2_verifier_adapter.version import __version__

DEFAULT_SAMPLE_SEED = 42

EXTRA_PARAMS: Mapping[str, Mapping[str, Any]] = {
    "malformed_history": {
        "type": "str",
        "description": "What to do with historical tool call arguments that are not JSON: `sanitize` "
        "replaces them by `{}`, `keep` sends them as they are.",
        "value": "sanitize",
        "choices": ["sanitize", "keep"],
    },
    "normalize_tool_call_ids": {
        "type": "bool",
        "description": "Rename historical tool call ids to `functions.NAME:IDX`, with the "
        "`tool_call_id` that refers to them.",
        "value": False,
        "choices": [True, False],
    },
    "sample": {
        "type": "str",
        "description": "Which rows a limit leaves: `first`, EvalScope's way, the first ones (of the shuffled "
        "rows, with `shuffle`); `stratified`, a draw with the share of official calls of all rows.",
        "value": "first",
        "choices": ["first", "stratified"],
    },
    "sample_seed": {
        "type": "int",
        "description": "Seed of the stratified draw. With the same seed a larger limit keeps the rows of a "
        "smaller one.",
        "value": DEFAULT_SAMPLE_SEED,
    },
    "max_response_mb": {
        "type": "int",
        "description": "Decompressed size in MiB at which a response is given up as too large.",
        "value": 64,
    },
    "requests_per_minute": {
        "type": "float",
        "description": "Requests that start in a minute at most, retries included, evenly spaced; 0 for no "
        "limit.",
        "value": 0,
    },
    "max_requests": {
        "type": "int",
        "description": "Requests after which this session stops, retries included; 0 for no maximum. The "
        "run is then incomplete, and goes on with `use_cache`.",
        "value": 0,
    },
    "max_total_tokens": {
        "type": "int",
        "description": "Prompt and completion tokens, as the vendor counts them, after which this session "
        "stops; 0 for no maximum.",
        "value": 0,
    },
    "max_minutes": {
        "type": "float",
        "description": "Minutes after which this session stops; 0 for no maximum.",
        "value": 0,
    },
}
"""The benchmark's own parameters, as EvalScope declares them."""

PACE_PARAMS = ("requests_per_minute", "max_requests", "max_total_tokens", "max_minutes")
"""Those that say how fast and how far a session goes, not what is asked or how it is judged."""

_TRANSPORT_KEYS = frozenset({"timeout", "extra_headers", "extra_query", "extra_body"})
_UNSENT_HEADERS = ("x-stainless-", "user-agent", "content-length", "host")


@dataclass(frozen=True, slots=True)
class UserParameters:
    """What the user asks for in `generation_config`.

    Attributes:
        body: Request body parameters that the user set, `extra_body` included.
        default_temperature: Whether EvalScope's own default of 0.0 was all there was, and is ignored.
    """

    body: Mapping[str, Any]
    default_temperature: bool


def history_options(extra_params: Mapping[str, Any]) -> HistoryOptions:
    """Read the history repairs.

    Raises:
        UsageError: If a value is none of the choices.
    """
    repair = extra_params.get("malformed_history", "sanitize")
    try:
        malformed = MalformedHistory(repair)
    except ValueError:
        raise UsageError(
            f"extra_params.malformed_history is {repair!r}, expected 'sanitize' or 'keep'"
        ) from None
    normalize = extra_params.get("normalize_tool_call_ids", False)
    if not isinstance(normalize, bool):
        raise UsageError(f"extra_params.normalize_tool_call_ids is {normalize!r}, expected true or false")
    return HistoryOptions(malformed, normalize)


def sample_seed(extra_params: Mapping[str, Any]) -> int | None:
    """Give the seed of the stratified draw; None if the rows are chosen in EvalScope's way.

    Raises:
        UsageError: If a value is none of the choices, or the seed would have no effect.
    """
    sample = extra_params.get("sample", SampleMethod.FIRST.value)
    choices = (SampleMethod.FIRST.value, SampleMethod.STRATIFIED.value)
    if sample not in choices:
        raise UsageError(f"extra_params.sample is {sample!r}, expected 'first' or 'stratified'")
    seed = extra_params.get("sample_seed", DEFAULT_SAMPLE_SEED)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise UsageError(f"extra_params.sample_seed is {seed!r}, expected a whole number")
    if sample == SampleMethod.STRATIFIED.value:
        return seed
    if seed != DEFAULT_SAMPLE_SEED:
        raise UsageError(
            f"extra_params.sample_seed is {seed!r}, but sample is {sample!r}, which draws nothing; "
            "set sample to 'stratified', or leave sample_seed out"
        )
    return None


def user_parameters(task_config: TaskConfig, api: ModelAPI | None) -> UserParameters:
    """Collect the request parameters that the user set, key by key.

    EvalScope fills an empty `generation_config` with temperature 0.0, which cannot be told from the
    user's own; if that is all there is, it is taken for the default.

    Args:
        task_config: The task.
        api: The model API, whose own naming of the parameters is followed; None for EvalScope's.
    """
    fields, is_default = _chosen_fields(task_config)
    chosen = GenerateConfig(**fields)
    if isinstance(api, OpenAICompatibleAPI):
        body = dict(api.completion_params(config=chosen, tools=True))
    else:
        name = str(getattr(api, "model_name", task_config.model))
        body = dict(openai_completion_params(model=name, config=chosen, tools=True))
    extra_body = body.get("extra_body") or {}
    unset_stream = chosen.stream is None
    for name in (*_TRANSPORT_KEYS, "model", *(("stream", "stream_options") if unset_stream else ())):
        body.pop(name, None)
    # Fields that EvalScope's config does not know are the user's all the same.
    body.update(chosen.model_extra or {})
    body.update(extra_body)
    return UserParameters(body, is_default)


def _chosen_fields(task_config: TaskConfig) -> tuple[dict[str, Any], bool]:
    """Give the fields that the user set, and whether EvalScope's default was left out."""
    config = task_config.generation_config
    fields = {
        name: getattr(config, name)
        for name in sorted(config.model_fields_set - {"batch_size"})
        if getattr(config, name) is not None
    }
    if fields.get("n") == 1:
        # What EvalScope leaves behind where it turned `n` into repeats.
        del fields["n"]
    # EvalScope adds these behind the default, from its deprecated flags.
    from_flags = {name for name in ("timeout", "stream") if getattr(task_config, name) is not None}
    asked = {name: value for name, value in fields.items() if name not in from_flags}
    if asked != DEFAULT_TEXT_GEN_SERVICE_CONFIG:
        return fields, False
    return {name: value for name, value in fields.items() if name in from_flags}, True


def raw_endpoint(api: ModelAPI, config: GenerateConfig) -> Endpoint | None:
    """Give the endpoint of an OpenAI-compatible API; None for any other.

    An API that overrides `generate` does something of its own with a request, and is asked through it.

    Raises:
        UsageError: If the URL cannot be used.
    """
    if not isinstance(api, OpenAICompatibleAPI) or type(api).generate is not OpenAICompatibleAPI.generate:
        return None
    hiding.refuse_credentials_in(str(api.base_url))
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
    query = {str(name): str(value) for name, value in api.client.default_query.items()}
    query.update({str(name): str(value) for name, value in (config.extra_query or {}).items()})
    body = {"extra_body": get_secret_value(config.extra_body), **(config.model_extra or {})}
    sent = {"api_key": api.api_key, "extra_headers": headers, "extra_query": query, "generation_config": body}
    secrets = secrets_in(sent, public=[str(api.model_name)]) | hiding.environment_secrets()
    return Endpoint(
        url=str(url),
        headers=headers,
        query=query,
        secrets=tuple(sorted(secrets)),
    )


def transport_options(
    config: GenerateConfig,
    preset: Preset,
    extra_params: Mapping[str, Any],
    pace: Mapping[str, Any] | None = None,
) -> TransportOptions:
    """Read timeout, retries, the size limit and the rate limit.

    Args:
        config: EvalScope's generation config.
        preset: The subset's preset.
        extra_params: The benchmark's own parameters.
        pace: Those of them that are named in `PACE_PARAMS`.

    Raises:
        UsageError: If a value is out of range.
    """
    pace = pace or {}
    timeout = preset.timeout_s if config.timeout is None else config.timeout
    retries = 0 if config.retries is None else config.retries
    interval = 0.0 if config.retry_interval is None else float(config.retry_interval)
    megabytes = extra_params.get("max_response_mb", 64)
    for name, value, minimum in (
        ("generation_config.timeout", timeout, 0.001),
        ("generation_config.retries", retries, 0),
        ("generation_config.retry_interval", interval, 0),
        ("extra_params.max_response_mb", megabytes, 1),
        ("extra_params.requests_per_minute", pace.get("requests_per_minute", 0), 0),
    ):
        _check_number(name, value, minimum)
    return TransportOptions(
        timeout_s=float(timeout),
        retry=RetryPolicy(retries, interval),
        max_response_bytes=int(megabytes * 1024 * 1024),
        requests_per_minute=float(pace.get("requests_per_minute", 0)),
    )


def run_limits(pace: Mapping[str, Any]) -> RunLimits:
    """Read what a session may spend.

    Args:
        pace: The extra parameters named in `PACE_PARAMS`.

    Raises:
        UsageError: If a value is out of range.
    """
    for name in ("max_requests", "max_total_tokens", "max_minutes"):
        value = pace.get(name, 0)
        _check_number(f"extra_params.{name}", value, 0)
        if name != "max_minutes" and int(value) != value:
            raise UsageError(f"extra_params.{name} is {value!r}, expected a whole number")
    return RunLimits(
        max_requests=int(pace.get("max_requests", 0)),
        max_total_tokens=int(pace.get("max_total_tokens", 0)),
        max_minutes=float(pace.get("max_minutes", 0)),
    )


def _check_number(name: str, value: Any, minimum: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not minimum <= value < math.inf:
        raise UsageError(f"{name} is {value!r}, expected a number of at least {minimum}")
