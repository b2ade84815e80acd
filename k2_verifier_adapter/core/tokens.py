"""Tokens: as a request limits them, as a vendor reports them, and roughly, without a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ASCII_PER_TOKEN = 2.5
"""ASCII characters of messages and tools, as JSON, that make one prompt token."""

OTHERS_PER_TOKEN = 1.1
"""Characters beyond ASCII (Chinese, in the main) that make one prompt token."""

_ASCII = bytes(range(128))
_UTF8_BYTES = 3
_ESCAPE = len(rb"\u4e2d")


def estimate_prompt_tokens(*parts: bytes | None) -> float:
    r"""Estimate the prompt tokens of messages and tools, given as JSON text in UTF-8 or with `\u` escapes.

    The two constants are the least-squares fit of 1,023 logged requests with tools, half of them in
    Chinese, to the `prompt_tokens` of two vendors: 4 % off in the sum, 10 % for the median request. Prompts
    of another kind, and other tokenizers, differ more: it is for the order of a bill, not for paying it.
    """
    tokens = 0.0
    for part in parts:
        if part is None:
            continue
        escapes = part.count(rb"\u")
        beyond = 0 if part.isascii() else len(part.translate(None, _ASCII))
        tokens += (len(part) - beyond - escapes * _ESCAPE) / ASCII_PER_TOKEN
        tokens += (beyond / _UTF8_BYTES + escapes) / OTHERS_PER_TOKEN
    return tokens


def token_limit_of(parameters: Mapping[str, Any] | None) -> int | None:
    """Give the most completion tokens that request parameters allow; None if they set no limit."""
    for name in ("max_completion_tokens", "max_tokens"):
        value = parameters.get(name) if parameters is not None else None
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def reported_tokens(completion: Mapping[str, Any], name: str) -> int:
    """Read a count out of a completion's `usage`; 0 where it gives none that can be one.

    Args:
        completion: The completion.
        name: `prompt_tokens`, `completion_tokens` or `total_tokens`.
    """
    usage = completion.get("usage")
    value = usage.get(name) if isinstance(usage, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        return 0
    return value


_MOST = 1 << 40
"""No completion has as many tokens; what is beyond would only break sums and files."""
