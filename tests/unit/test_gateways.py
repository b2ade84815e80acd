"""What headers, words and fields tell of the gateways between a client and a model."""

from __future__ import annotations

import pytest

from k2_verifier_adapter.core.gateways import gateway_in_words, gateways_of, router_of


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"Server": "uvicorn", "Content-Type": "application/json", "Date": "now"}, ()),
        ({"Server": "cloudflare", "CF-Ray": "8c1f-FRA"}, ("Cloudflare",)),
        ({"server": "nginx/1.22.1", "x-litellm-version": "1.80"}, ("nginx", "LiteLLM")),
        ({"Via": "1.1 varnish", "X-Envoy-Upstream-Service-Time": "12"}, ("via 1.1 varnish", "Envoy")),
        ({"X-Server": "nginx", "X-Via": "1.1 a", "X-Litellm": "1"}, ()),
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
