"""The benchmark's own parameters: declared once, checked before anything is sent."""

from __future__ import annotations

import pytest

from k2_verifier_adapter.core.history import MalformedHistory
from k2_verifier_adapter.core.sampling import SampleMethod
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.evalscope_plugin.parameters import PARAMETERS, check_parameters

NAMED = {parameter.name: parameter for parameter in PARAMETERS}


def test_what_is_not_given_has_its_default():
    """Every parameter has a value, and the default passes its own check."""
    assert check_parameters({}) == {name: parameter.default for name, parameter in NAMED.items()}


def test_numbers_may_be_written_as_json_has_them():
    """`2e6` is a whole number, and a whole number is a number."""
    values = check_parameters({"max_total_tokens": 2e6, "max_minutes": 45})
    assert (values["max_total_tokens"], values["max_minutes"]) == (2_000_000, 45.0)
    assert isinstance(values["max_total_tokens"], int)


def test_the_seed_of_a_draw_may_be_any_whole_number():
    """A stratified draw takes a negative seed, and the default seed may be written out without a draw."""
    assert check_parameters({"sample": "stratified", "sample_seed": -3})["sample_seed"] == -3
    assert check_parameters({"sample": "first", "sample_seed": 42})["sample_seed"] == 42


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sample": "random"}, "extra_params.sample is 'random', expected 'first' or 'stratified'"),
        ({"sample": None}, "extra_params.sample is None"),
        ({"sample": ["first"]}, r"extra_params.sample is \['first'\]"),
        ({"malformed_history": "drop"}, "is 'drop', expected 'sanitize' or 'keep'"),
        ({"normalize_tool_call_ids": 1}, "normalize_tool_call_ids is 1, expected true or false"),
        ({"sample_seed": "x"}, "extra_params.sample_seed is 'x', expected a whole number"),
        ({"sample_seed": True}, "extra_params.sample_seed is True"),
        ({"sample": "stratified", "sample_seed": 1.5}, "extra_params.sample_seed is 1.5"),
        ({"sample_seed": 7}, "sample_seed is 7, but sample is 'first', .* set sample to 'stratified'"),
        ({"max_response_mb": 0}, "max_response_mb is 0, expected a number of at least 1"),
        (
            {"requests_per_minute": float("nan")},
            "requests_per_minute is nan, expected a number of at least 0",
        ),
        ({"max_minutes": float("inf")}, "max_minutes is inf, expected a number of at least 0"),
        ({"max_requests": -3}, "max_requests is -3, expected a number of at least 0"),
        ({"max_requests": 1.5}, "max_requests is 1.5, expected a whole number"),
        ({"max_total_tokens": "9"}, "max_total_tokens is '9', expected a number"),
    ],
)
def test_what_cannot_be_used_is_named(given, message):
    """A wrong value is refused by name and value, and so is a seed that would do nothing."""
    with pytest.raises(UsageError, match=message):
        check_parameters(given)


def test_choices_are_those_of_the_core():
    """What may be written is what the core has a meaning for."""
    assert set(NAMED["malformed_history"].choices) == {way.value for way in MalformedHistory}
    assert set(NAMED["sample"].choices) == {method.value for method in SampleMethod} - {"shuffled"}
