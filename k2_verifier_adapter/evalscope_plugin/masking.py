"""Keeping the credentials of a task out of what EvalScope shows: its dumped settings and its log.

EvalScope 1.14.1 hides the API key and the headers Authorization, Proxy-Authorization, X-API-Key and
X-Auth-Token, and writes every other header, query parameter and `model_args` to its log and to
`configs/task_config.yaml`.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from k2_verifier_adapter.core.secrets import Masker, replace_secrets, secrets_in
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.version import BENCHMARKS

if TYPE_CHECKING:
    from evalscope.config import TaskConfig

_SHOWN = "**********"
"""What EvalScope itself shows of a secret."""

ToDict = Callable[["TaskConfig"], dict[str, Any]]


def masked_settings(to_dict: ToDict) -> ToDict:
    """Wrap `TaskConfig.to_dict`, from which log, snapshot and cache identity are made.

    Tasks of other benchmarks are dumped as ever. With the values hidden, the cache identity does not
    depend on them: a run may go on with another key.
    """

    def masked_to_dict(task_config: TaskConfig) -> dict[str, Any]:
        dumped = to_dict(task_config)
        if set(BENCHMARKS) & set(task_config.datasets):
            dumped = replace_secrets(dumped, lambda _name, _value: _SHOWN)
        return dumped

    return masked_to_dict


def check_and_mask(task_config: TaskConfig) -> None:
    """Refuse addresses that hold credentials, and hide the task's credentials in every log from now on."""
    refuse_credentials_in(task_config.api_url or os.environ.get("EVALSCOPE_BASE_URL"))
    _check_proxies()
    mask_logs(secrets_of(task_config))


def refuse_credentials_in(api_url: str | None) -> None:
    """Raise `UsageError` for an API URL with a user, a password, a query or a fragment, without showing it.

    EvalScope appends its path to the text of the URL, behind a query; and a URL is shown.
    """
    try:
        parts = urlsplit(api_url or "")
        _ = parts.port
    except ValueError:
        raise UsageError(
            "api_url is no usable URL (host or port); credentials do not belong in it: give the key as "
            "api_key, anything else as generation_config.extra_headers"
        ) from None
    if "@" in (parts.netloc or (api_url or "").partition("/")[0]):
        raise UsageError("api_url holds a user name or password; give the key as api_key instead")
    if parts.query or parts.fragment:
        raise UsageError(
            "api_url holds a query or fragment, expected the base URL alone, such as https://HOST/v1; give "
            "query parameters as generation_config.extra_query instead"
        )


def secrets_of(task_config: TaskConfig) -> frozenset[str]:
    """Collect the credentials of a task, and those that the environment adds to its requests."""
    from evalscope.utils import get_secret_value

    generation = task_config.generation_config
    settings = {
        "api_key": get_secret_value(task_config.api_key),
        "model_args": get_secret_value(task_config.model_args),
        "generation_config": get_secret_value(
            generation if isinstance(generation, dict) else generation.model_dump(exclude_unset=True)
        ),
    }
    public = {str(task_config.model), str(task_config.model_id)}
    return secrets_in(settings, public) | environment_secrets()


def environment_secrets() -> frozenset[str]:
    """Collect the credentials that EvalScope and the transport read from the environment."""
    found: list[dict[str, str]] = [{"api_key": os.environ.get("EVALSCOPE_API_KEY", "")}]
    for scheme, proxy in urllib.request.getproxies().items():
        if scheme != "no":
            found += _proxy_secrets(_with_scheme(proxy))
    return secrets_in(found)


def _proxy_secrets(proxy: str) -> Iterator[dict[str, str]]:
    yield {"proxy": proxy}
    try:
        parts = urlsplit(proxy)
    except ValueError:
        return
    if parts.password:
        # As the header says it.
        user, password = unquote(parts.username or ""), unquote(parts.password)
        word = base64.b64encode(f"{user}:{password}".encode()).decode()
        yield {"password": password, "authorization": f"Basic {word}"}


def _check_proxies() -> None:
    """Refuse a proxy URL that no client can read, and that a client's error would show in part."""
    for scheme in ("http", "https", "all"):
        proxy = urllib.request.getproxies().get(scheme)
        try:
            parts = urlsplit(_with_scheme(proxy or ""))
            usable = parts.port is None or bool(parts.hostname)
        except ValueError:
            usable = False
        if not usable or (proxy and re.search(r"[?#].*@", proxy)):
            raise UsageError(
                f"the environment's {scheme} proxy is no usable URL; escape special characters of its user "
                "name and password, '#' as %23"
            )


def _with_scheme(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{proxy}"


def mask_logs(secrets: Iterable[str]) -> None:
    """Mask these secrets in every log record of this process from now on, whoever writes it."""
    records = _records()
    records.masker = Masker({*records.masker.secrets, *secrets})


def masked_message(message: str) -> str:
    """Take the secrets hidden so far out of a message, and the values that pydantic quotes in part."""
    quoted = re.compile(r", input_value=.*(, input_type=\w+\])$", re.MULTILINE)
    return _records().masker.text(quoted.sub(r"\1", message))


def _records() -> _MaskedRecords:
    factory = logging.getLogRecordFactory()
    if not isinstance(factory, _MaskedRecords):
        factory = _MaskedRecords(factory)
        logging.setLogRecordFactory(factory)
    return factory


class _MaskedRecords:
    """Make log records whose text holds no known secret.

    At the one place that all loggers share: EvalScope's own has several handlers, made anew for each
    run, and its clients log on their own.
    """

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make
        self.masker = Masker(())

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - a broken log call of anybody's; logging itself says what is wrong
            return record
        masked = self.masker.text(text)
        if masked != text:
            record.msg, record.args = masked, None
        if record.exc_info:
            # What a formatter finds there it does not format again.
            record.exc_text = self.masker.text(_FORMATTER.formatException(record.exc_info))
        return record


_FORMATTER = logging.Formatter()
