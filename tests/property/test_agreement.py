"""Agreement of tool calls: equal leaf values over all leaf paths of both sides."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_verifier_adapter.core.judging.agreement import argument_agreement, same_tool_names


def call(arguments: Any, name: Any = "f") -> dict[str, Any]:
    """Give a tool call."""
    return {"function": {"name": name, "arguments": arguments}}


def agreement(ours: Any, official: Any) -> float | None:
    """Compare one call with one call."""
    return argument_agreement([call(ours)], [call(official)])


@pytest.mark.parametrize(
    ("ours", "official", "share"),
    [
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', 1.0),
        ('{"a": 1}', {"a": 1}, 1.0),
        ('{"a": 1, "b": 2}', '{"a": 1, "b": 3}', 1 / 2),
        ('{"a": 1}', '{"a": 1, "b": 3}', 1 / 2),
        ('{"a": 1, "c": 2}', '{"a": 1, "b": 3}', 1 / 3),
        ('{"a": [1, 2, 3]}', '{"a": [1, 3, 2]}', 1 / 3),
        ('{"a": [1, 2]}', '{"a": [1, 2, 3]}', 2 / 3),
        ('{"a": true}', '{"a": 1}', 0.0),
        ('{"a": 1}', '{"a": 1.0}', 1.0),
        ('{"a": null}', "{}", 0.0),
        ("{}", "{}", 1.0),
        ('{"a": {}}', '{"a": {}}', 1.0),
        ('{"a": {}}', '{"a": []}', 0.0),
        ('{"a": {}}', '{"a": "dict()"}', 0.0),
        ('{"a": 1}', '{"a": {"b": 1}}', 0.0),
        ('{"a": {"b": 1}}', '{"a": {"b": 1, "c": {"d": 2}}}', 1 / 2),
        ("not json", "not json", 1.0),
        ('{"a": NaN}', '{"a": NaN}', 0.0),
        ('{"a": NaN, "b": [1, 2]}', '{"a": NaN, "b": [1, 2]}', 2 / 3),
        ('{"a": Infinity}', '{"a": Infinity}', 1.0),
        ("not json", "{}", 0.0),
        ('{"a": {"0": 1}}', '{"a": [1]}', 0.0),
    ],
)
def test_shares_by_hand(ours: Any, official: Any, share: float) -> None:
    """Keys are unordered, items ordered, and true is not 1."""
    assert agreement(ours, official) == pytest.approx(share)
    assert agreement(official, ours) == pytest.approx(share)


def test_calls_are_aligned_by_name_and_order() -> None:
    """The k-th call of a name meets the k-th official one; calls without counterpart are left out."""
    ours = [call('{"a": 1}'), call('{"b": 1}', "g"), call('{"a": 2}'), call("{}", "h")]
    official = [call('{"a": 1}'), call('{"a": 3}'), call('{"b": 1}', "g"), call("{}", "i")]
    assert argument_agreement(ours, official) == pytest.approx((1 + 1 + 0) / 3)
    assert argument_agreement([call("{}", "h")], [call("{}", "i")]) is None
    assert argument_agreement([], official) is None


def test_names_are_a_multiset() -> None:
    """Order does not matter, number does."""
    assert same_tool_names([call("", "f"), call("", "g")], [call("", "g"), call("", "f")])
    assert not same_tool_names([call("", "f")], [call("", "f"), call("", "f")])
    assert not same_tool_names([call("", "f")], [call("", "F")])
    assert not same_tool_names([], [call("", "f")])


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(0, 2), st.sampled_from(["a", "dict()", 1.0])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "0"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, Any]]:
    """Give path and value of every leaf, the type beside the value so that true is not 1."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    elif isinstance(value, list) and value:
        for position, item in enumerate(value):
            yield from leaves(item, (*path, position))
    elif path or value != {}:
        kind = type(value).__name__ if isinstance(value, (bool, dict, list)) else ""
        yield path, (kind, json.dumps(value) if kind else value)


@given(JSON, JSON)
@settings(max_examples=120)
def test_the_walk_equals_the_definition(ours: Any, official: Any) -> None:
    """The share is that of the paths with equal leaves, over the paths of either side."""
    left, right = dict(leaves(ours)), dict(leaves(official))
    paths = left.keys() | right.keys()
    equal = sum(path in left and path in right and left[path] == right[path] for path in paths)
    expected = equal / len(paths) if paths else 1.0
    assert agreement(json.dumps(ours), json.dumps(official)) == pytest.approx(expected)
