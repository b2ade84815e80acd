"""What stands between a client and a model: gateways and routers, told by headers, fields and words.

A bounded list. That an answer names none does not mean that there is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from k2_verifier_adapter.core.json_text import shown

_HEADERS: tuple[tuple[str, str, str], ...] = (
    ("x-litellm-", "", "LiteLLM"),
    ("x-openrouter-", "", "OpenRouter"),
    ("cf-ray", "", "Cloudflare"),
    ("server", "cloudflare", "Cloudflare"),
    ("server", "openresty", "OpenResty"),
    ("server", "nginx", "nginx"),
    ("server", "envoy", "Envoy"),
    ("server", "istio-envoy", "Envoy"),
    ("x-envoy-", "", "Envoy"),
    ("server", "awselb", "AWS load balancer"),
    ("x-amz-apigw-id", "", "AWS API Gateway"),
    ("server", "caddy", "Caddy"),
    ("server", "haproxy", "HAProxy"),
    ("server", "kong", "Kong"),
    ("x-kong-", "", "Kong"),
    ("x-portkey-", "", "Portkey"),
    ("helicone-", "", "Helicone"),
    ("x-vercel-id", "", "Vercel"),
    ("x-azure-ref", "", "Azure Front Door"),
    ("apim-request-id", "", "Azure API Management"),
    ("x-oneapi-request-id", "", "One API"),
    ("x-new-api-version", "", "New API"),
)
"""A header, or its beginning up to a hyphen; the beginning of its value; who sends it, as documented."""

_WORDS: tuple[tuple[str, str], ...] = (
    (r"\blitellm\.|\bReceived Model Group=", "LiteLLM"),
    (r"\bProvider returned error\b|\"provider_name\"", "OpenRouter"),
    (r"\bcloudflare\b|\bcf-error-details\b|\berror code: (?:1\d{3}|52\d)\b", "Cloudflare"),
    (r"<(?:center|hr|body)>\s{0,20}(?:<center>)?openresty", "OpenResty"),
    (r"<(?:center|hr|body)>\s{0,20}(?:<center>)?nginx|\bnginx/\d", "nginx"),
    (r"\bupstream connect error or disconnect/reset\b|\bno healthy upstream\b", "Envoy"),
    (r"\bno Route matched with those values\b", "Kong"),
    (r"\bNo server is available to handle this request\b", "HAProxy"),
    (r"\bnew_api_error\b", "New API"),
    (r"\bone_api_error\b", "One API"),
)
"""Words that are a gateway's own, as its source and public reports have them."""

_NAMED_OTHERWISE = {"google": "googlevertex"}
"""Titles of OpenRouter that do not begin with their slug, as letters, and that slug."""

_NAMES = (*dict.fromkeys(begin for begin, _, _ in _HEADERS), "via")

_COMPILED = tuple((re.compile(pattern, re.IGNORECASE), name) for pattern, name in _WORDS)
_MOST_HEADERS = 200
_LONGEST_VIA = 60
_READ = 4_000


def gateways_of(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Name what the headers of a response say that it passed through, `via` in its own words."""
    found: dict[str, None] = {}
    for header, value in list(headers.items())[:_MOST_HEADERS]:
        name = header.lower()
        # Nearly all headers of nearly all responses end here.
        if not name.startswith(_NAMES):
            continue
        said = value.strip().lower()
        for begin, of_value, gateway in _HEADERS:
            whole = name.startswith(begin) if begin.endswith("-") else name == begin
            if whole and said.startswith(of_value):
                found[gateway] = None
        if name == "via" and said:
            found[f"via {value.strip()[:_LONGEST_VIA]}"] = None
    return tuple(found)


def gateway_in_words(text: str) -> str | None:
    """Name the gateway whose own words an error is; None if it may be the server's."""
    beginning = text[:_READ]
    return next((name for pattern, name in _COMPILED if pattern.search(beginning)), None)


def router_of(completion: Mapping[str, Any]) -> str | None:
    """Name the router whose fields a completion holds."""
    choices = completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    native = isinstance(choice, Mapping) and "native_finish_reason" in choice
    return "OpenRouter" if native and isinstance(completion.get("provider"), str) else None


def pinned_providers(parameters: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Name the providers that a request lets a router choose from; none where it may fall back to any.

    It is OpenRouter's `provider` object: `only`, or `order` with `allow_fallbacks: false`.
    """
    routing = (parameters or {}).get("provider")
    if not isinstance(routing, Mapping):
        return ()
    named = routing.get("only") or (routing.get("order") if routing.get("allow_fallbacks") is False else None)
    return tuple(name for name in named if isinstance(name, str)) if isinstance(named, list) else ()


def other_provider(parameters: Mapping[str, Any] | None, completion: Mapping[str, Any]) -> str | None:
    """Say that another provider answered than a request pins; None if none is pinned, or none is named.

    Requests name providers by a slug, with a variant behind a slash (`novita/fp8`), answers by a title
    (`NovitaAI`), of which the slug is the beginning.
    """
    pinned = pinned_providers(parameters)
    served = completion.get("provider")
    if not pinned or not isinstance(served, str) or not served:
        return None
    title = _letters(served)
    title = _NAMED_OTHERWISE.get(title, title)
    slugs = (_letters(slug.partition("/")[0]) for slug in pinned)
    if any(slug and title.startswith(slug) for slug in slugs):
        return None
    return f"answered by {shown(served, 60)}, but the request pins {shown(', '.join(pinned), 120)}"


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))
