"""The request of a case: parameters by precedence, body bytes, hashes that identify it, and its tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from k2_verifier_adapter.core.cases import NOT_PARAMETERS, Case
from k2_verifier_adapter.core.json_text import differ, dumps_ascii, shown
from k2_verifier_adapter.core.presets import PRESETS
from k2_verifier_adapter.core.secrets import MASK, holds_secret

ASCII_PER_TOKEN = 4.0
"""ASCII characters of messages and tools, as JSON, that make one prompt token."""

OTHERS_PER_TOKEN = 2.25
"""Characters beyond ASCII (Chinese, in the main) that make one prompt token."""

TOOLS_TOKENS = 95
"""Prompt tokens of what a chat template writes around the tools of a request that declares any."""

_NO_TOOLS = (None, b"", b"[]", b"null")
_ASCII = bytes(range(128))
_UTF8_BYTES = 3
_ESCAPE = len(rb"\u4e2d")


@dataclass(frozen=True, slots=True)
class Request:
    """One chat completion request, ready to send."""

    body: bytes
    stream: bool
    identity: RequestIdentity


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """What makes two requests the same.

    Attributes:
        row_sha256: Digest of messages and tools alone, to tell a changed row from changed parameters.
        parameters: Everything in the body but messages and tools, `model` included.
    """

    sha256: str
    row_sha256: str
    parameters: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Give the form that is stored with a prediction."""
        return {
            "sha256": self.sha256,
            "row_sha256": self.row_sha256,
            "parameters": dict(self.parameters),
        }

    @classmethod
    def from_json(cls, value: Any) -> RequestIdentity | None:
        """Read the stored form back; None if it is not one."""
        if not isinstance(value, Mapping):
            return None
        sha256, row_sha256 = value.get("sha256"), value.get("row_sha256")
        parameters = value.get("parameters")
        if not isinstance(sha256, str) or not isinstance(row_sha256, str):
            return None
        return cls(sha256, row_sha256, parameters if isinstance(parameters, Mapping) else {})

    def difference_from(self, stored: RequestIdentity) -> str | None:
        """Say in one line how this request differs from a stored one; None if it does not."""
        if self.sha256 == stored.sha256:
            return None
        changed = [
            f"{name}: {stored.parameters.get(name, 'unset')!r} then, "
            f"{self.parameters.get(name, 'unset')!r} now"
            for name in sorted({*self.parameters, *stored.parameters})
            if self.parameters.get(name, _ABSENT) != stored.parameters.get(name, _ABSENT)
        ]
        if self.row_sha256 != stored.row_sha256:
            changed.insert(0, "the row's messages or tools")
        if changed:
            return "; ".join(changed)
        hidden = MASK in dumps_ascii(dict(self.parameters))
        return "the order of its parameters" + (", or a value that is not shown" if hidden else "")


_ABSENT = object()


def merge_parameters(
    preset: Mapping[str, Any], row: Mapping[str, Any], user: Mapping[str, Any]
) -> dict[str, Any]:
    """Merge request parameters in rising precedence: preset, row, user.

    `max_tokens` and `max_completion_tokens` name one limit: where a higher layer sets either, a
    lower layer's other one is dropped. `stream_options` asks for the token usage of a stream
    unless a layer says otherwise, and is not sent without `stream`.
    """
    merged: dict[str, Any] = {}
    for layer in (preset, row, user):
        if "max_tokens" in layer or "max_completion_tokens" in layer:
            merged.pop("max_tokens", None)
            merged.pop("max_completion_tokens", None)
        merged.update(layer)
    if merged.get("stream"):
        merged.setdefault("stream_options", {"include_usage": True})
    else:
        merged.pop("stream_options", None)
    return merged


def build_request(case: Case, model: str, parameters: Mapping[str, Any]) -> Request:
    """Build the request of a case, whose messages and tools are copied byte by byte.

    A `model`, `messages` or `tools` among the merged parameters is ignored.
    """
    sent = {"model": model}
    sent.update((name, value) for name, value in parameters.items() if name not in NOT_PARAMETERS)
    head = dumps_ascii({"model": model})[:-1].encode()
    rest = {name: value for name, value in sent.items() if name != "model"}
    tail = dumps_ascii(rest)[1:].encode()
    parts = [head, b',"messages":', case.messages_json]
    if case.tools_json is not None:
        parts += [b',"tools":', case.tools_json]
    body = b"".join([*parts, b"," if rest else b"", tail])
    identity = RequestIdentity(hashlib.sha256(body).hexdigest(), row_sha256(case), sent)
    return Request(body, bool(parameters.get("stream")), identity)


def row_sha256(case: Case) -> str:
    """Give the digest of the messages and tools of a case, as they are sent."""
    digest = hashlib.sha256(case.messages_json)
    digest.update(b"\0")
    digest.update(case.tools_json or b"")
    return digest.hexdigest()


_NOT_OF_THE_ANSWER = NOT_PARAMETERS | {
    *("stream", "stream_options", "user", "metadata", "store", "service_tier", "provider")
}
"""What a request holds beside the parameters that decide what is generated."""

_DEFAULTS: Mapping[str, Any] = {
    "n": 1,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "repetition_penalty": 1,
    "logprobs": False,
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "response_format": {"type": "text"},
}
"""What the API takes where a parameter is not set: setting it changes nothing."""


def official_parameters(subset: str, own: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Give the parameters of the official run's request of a row; None if they are not known.

    `own` are the row's own parameters, which go before those of the subset.
    """
    preset = PRESETS[subset].parameters if subset in PRESETS else {}
    return merge_parameters(preset, own, {}) or None


def differing_parameters(sent: Mapping[str, Any], official: Mapping[str, Any]) -> list[str]:
    """Say which parameters that decide what is generated are not the official run's.

    Only numbers are quoted: a text may be secret, or belong to what is redacted.
    """
    ours, theirs = _deciding(sent), _deciding(official)
    return [
        f"{name} {_value_of(name, ours)} (official {_value_of(name, theirs)})"
        for name in sorted({*ours, *theirs})
        if differ(ours.get(name, _ABSENT), theirs.get(name, _ABSENT))
    ]


def _deciding(parameters: Mapping[str, Any]) -> dict[str, Any]:
    kept = {
        name: value
        for name, value in parameters.items()
        if name not in _NOT_OF_THE_ANSWER and value is not None and differ(value, _DEFAULTS.get(name))
    }
    if "max_completion_tokens" in kept:
        kept["max_tokens"] = kept.pop("max_completion_tokens")
    return kept


def _value_of(name: str, parameters: Mapping[str, Any]) -> str:
    if name not in parameters:
        return "not set"
    value = parameters[name]
    if isinstance(value, bool) or (isinstance(value, (int, float)) and not holds_secret(name)):
        return shown(value, 60)
    return "set otherwise"


def upstream_hash(request: Mapping[str, Any]) -> str:
    """Compute upstream's `hash` of a request: md5 of its JSON, keys sorted, non-ASCII kept.

    A lone surrogate, on which upstream fails, is hashed by its three-byte form.
    """
    text = json.dumps(request, sort_keys=True, ensure_ascii=False)
    return hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def token_limit_of(parameters: Mapping[str, Any] | None) -> int | None:
    """Give the most completion tokens that request parameters allow; None if they set no limit."""
    for name in ("max_completion_tokens", "max_tokens"):
        value = parameters.get(name) if parameters is not None else None
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def estimate_prompt_tokens(messages: bytes, tools: bytes | None) -> float:
    r"""Estimate the prompt tokens of a request from its messages and tools, given as JSON text.

    The three constants are the least-squares fit of 1,023 logged requests with tools, half of them in
    Chinese, to the `prompt_tokens` of two vendors: 2 % off in the sum, and for the median request. Prompts
    of another kind, and other tokenizers, differ more: it is for the order of a bill, not for paying it.
    """
    return estimate_tokens(messages, tools) + (0 if tools in _NO_TOOLS else TOOLS_TOKENS)


def estimate_tokens(*parts: bytes | None) -> float:
    r"""Estimate the tokens of texts, in UTF-8 or with `\u` escapes, by their characters."""
    tokens = 0.0
    for part in parts:
        if part is None:
            continue
        escapes = part.count(rb"\u")
        beyond = 0 if part.isascii() else len(part.translate(None, _ASCII))
        tokens += (len(part) - beyond - escapes * _ESCAPE) / ASCII_PER_TOKEN
        tokens += (beyond / _UTF8_BYTES + escapes) / OTHERS_PER_TOKEN
    return tokens
