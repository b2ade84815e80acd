"""How alike two lists of tool calls are, where both sides called."""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

from k2_verifier_adapter.core.messages import function_of, name_of


def same_tool_names(ours: Sequence[Any], official: Sequence[Any]) -> bool:
    """Whether both sides call the same multiset of tool names."""
    return Counter(map(name_of, ours)) == Counter(map(name_of, official))


def argument_agreement(ours: Sequence[Any], official: Sequence[Any]) -> float | None:
    """Compute the mean, over aligned calls, of the share of equal leaf values.

    The k-th call of a tool is aligned with the k-th official call of that tool; calls without a
    counterpart are left out (`tool_name_agreement` counts them). The leaves of a call are the
    scalars, empty lists and empty objects of its parsed arguments, each with its path; the share is
    the number of paths that hold equal values on both sides, over the number of paths of either
    side. Object keys are unordered, list items ordered. Two calls without any leaf agree fully;
    arguments that are not JSON are one leaf, their text.

    Returns:
        A share in [0, 1], or None if no call can be aligned.
    """
    waiting: dict[str | None, deque[Any]] = defaultdict(deque)
    for call in official:
        waiting[name_of(call)].append(call)
    shares = []
    for call in ours:
        counterparts = waiting[name_of(call)]
        if counterparts:
            shares.append(_share_of_calls(call, counterparts.popleft()))
    return sum(shares) / len(shares) if shares else None


def _share_of_calls(ours: Any, official: Any) -> float:
    text = function_of(ours).get("arguments")
    if isinstance(text, str) and text == function_of(official).get("arguments") and "NaN" not in text:
        # The same value, of which every leaf equals itself, as NaN alone does not.
        return 1.0
    return _share(_arguments(ours), _arguments(official))


def _arguments(call: Any) -> Any:
    arguments = function_of(call).get("arguments")
    if isinstance(arguments, str):
        try:
            return json.loads(arguments)
        except (ValueError, RecursionError):
            return arguments
    return arguments


_ABSENT = object()


def _share(ours: Any, official: Any) -> float:
    """Walk both sides at once and without recursion: depth and size are the vendor's to choose."""
    paths = equal = 0
    waiting = [(ours, official)]
    if {} in (ours, official):
        # No arguments at all are no leaf.
        waiting = [(_ABSENT if ours == {} else ours, _ABSENT if official == {} else official)]
    while waiting:
        left, right = waiting.pop()
        if _is_node(left) and type(left) is type(right) and _is_node(right):
            waiting += _children(left, right)
            continue
        for side in (left, right):
            if _is_node(side):
                waiting += ((item, _ABSENT) for item in _items(side))
        leaves = [side for side in (left, right) if side is not _ABSENT and not _is_node(side)]
        if len(leaves) == 2:
            paths += 1
            equal += _equal(left, right)
        else:
            paths += len(leaves)
    return equal / paths if paths else 1.0


def _is_node(value: Any) -> bool:
    return isinstance(value, (dict, list)) and bool(value)


def _items(node: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return node.values() if isinstance(node, dict) else node


def _children(left: Any, right: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(left, list):
        return zip_longest(left, right, fillvalue=_ABSENT)
    return ((left.get(name, _ABSENT), right.get(name, _ABSENT)) for name in left.keys() | right.keys())


def _equal(left: Any, right: Any) -> bool:
    # JSON tells true from 1, Python does not.
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)
