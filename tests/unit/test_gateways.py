"""What headers, words and fields tell of the gateways between a client and a model."""

from __future__ import annotations

import pytest

from k2_verifier_adapter.core.gateways import (
    gateway_in_words,
    gateways_of,
    other_provider,
    pinned_providers,
    router_of,
)


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"Server": "uvicorn", "Content-Type": "application/json", "Date": "now"}, ()),
        ({"Server": "cloudflare", "CF-Ray": "8c1f-FRA"}, ("Cloudflare",)),
        ({"server": "nginx/1.22.1", "x-litellm-version": "1.80"}, ("nginx", "LiteLLM")),
        ({"Via": "1.1 varnish", "X-Envoy-Upstream-Service-Time": "12"}, ("via 1.1 varnish", "Envoy")),
        ({"X-Server": "nginx", "X-Via": "1.1 a", "X-Litellm": "1"}, ()),
        ({"Server-Timing": "nginx;dur=1", "CF-Ray-Status": "x"}, ()),
        ({"Via": " "}, ()),
    ],
)
def test_headers_name_what_an_answer_passed_through(headers, named):
    """Names and values are read whatever their case; a header that only resembles one says nothing."""
    assert gateways_of(headers) == named


def test_only_so_many_headers_are_read_and_so_much_of_one_is_kept():
    """A hostile server's headers cost no more than ordinary ones."""
    assert gateways_of({f"X-{number}": "" for number in range(500)} | {"Server": "nginx"}) == ()
    assert gateways_of({"Via": "x" * 10_000}) == ("via " + "x" * 60,)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("litellm.BadRequestError: no", "LiteLLM"),
        ("<html><center>nginx</center></html>", "nginx"),
        ("upstream connect error or disconnect/reset before headers", "Envoy"),
        ("the tool nginx is not declared", None),
    ],
)
def test_an_error_is_a_gateways_own_by_its_words(words, named):
    """What a gateway writes itself names it; the same name in a sentence does not."""
    assert gateway_in_words(words) == named


def test_a_router_is_told_by_its_fields():
    """Either field alone is other vendors' as well."""
    choice = {"native_finish_reason": "stop"}
    assert router_of({"provider": "Someone", "choices": [choice]}) == "OpenRouter"
    assert router_of({"provider": "Someone", "choices": [{}]}) is None
    assert router_of({"choices": [choice]}) is None


@pytest.mark.parametrize(
    ("routing", "pinned"),
    [
        ({"only": ["a", "b/fp8"]}, ("a", "b/fp8")),
        ({"order": ["a"], "allow_fallbacks": False}, ("a",)),
        ({"only": ["a"], "order": ["b"], "allow_fallbacks": False}, ("a",)),
        ({"order": ["a"]}, ()),
        ({"order": ["a"], "allow_fallbacks": True}, ()),
        ({"order": ["a"], "allow_fallbacks": 0}, ()),
        ({"sort": "price"}, ()),
        ({"only": "a"}, ()),
        ({"only": [1, None]}, ()),
        ("novita", ()),
        (None, ()),
    ],
)
def test_what_pins_a_provider(routing, pinned):
    """A list of those allowed, or an order without fallbacks, pins; whatever else `provider` holds does not."""
    assert pinned_providers({"provider": routing}) == pinned
    assert pinned_providers({}) == pinned_providers(None) == ()


@pytest.mark.parametrize(
    ("pinned", "served", "is_other"),
    [
        ("moonshotai", "Moonshot AI", False),
        ("novita/fp8", "NovitaAI", False),
        ("google-vertex", "Google", False),
        ("z-ai", "Z.AI", False),
        ("Fireworks", "Fireworks", False),
        ("google-ai-studio", "Google", True),
        ("google-vertex", "Google AI Studio", True),
        ("moonshotai", "DeepInfra", True),
        ("", "DeepInfra", True),
        ("/fp8", "DeepInfra", True),
        ("novita", "", False),
        ("novita", None, False),
        ("novita", 3, False),
    ],
)
def test_who_answered_in_the_place_of_the_pinned(pinned, served, is_other):
    """A slug is the beginning of its provider's title; an answer that names none cannot be another's."""
    said = other_provider({"provider": {"only": [pinned, "elsewhere"]}}, {"provider": served})
    assert (said is not None) is is_other
    if is_other:
        assert f"answered by '{served}'" in said
    assert other_provider({}, {"provider": served}) is None
