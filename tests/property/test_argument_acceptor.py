"""The acceptor is sound: arguments that it lets pass, `jsonschema.validate` lets pass."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator
from support.the_library import theirs

from k2_verifier_adapter.core.schemas.argument_acceptor import surely_satisfies
from k2_verifier_adapter.core.schemas.schema_acceptor import is_surely_valid

DRAFTS = [None, "http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2020-12/schema"]
NAMES = st.sampled_from(["a", "b", "c", "é", "$ref", "type"])
SCALARS = st.sampled_from(
    [
        *(None, True, False, 0, 1, 2, -1, 0.0, 1.0, 2.0, 1.5, 10**30, 1e30, float("nan"), float("inf")),
        *("", "a", "aa", "b", "1", "é", "\ud800"),
    ]
)
INSTANCES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)
TYPES = st.sampled_from(["array", "boolean", "integer", "null", "number", "object", "string"])
BOUNDS = st.sampled_from([-1, 0, 1, 2, 1.0, 1.5, 10**30, float("nan")])
COUNTS = st.integers(0, 3)


def keyword_values(inner: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    """Give, for each keyword, values of the right shape."""
    maps = st.dictionaries(NAMES, inner, max_size=3)
    lists = st.lists(inner, min_size=1, max_size=3)
    return {
        "type": st.one_of(TYPES, st.lists(TYPES, min_size=1, max_size=3, unique=True)),
        **dict.fromkeys(["properties", "$defs", "definitions"], maps),
        "patternProperties": st.dictionaries(st.sampled_from(["a", "^b$"]), inner, max_size=1),
        "required": st.lists(NAMES, max_size=2, unique=True),
        "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, max_size=2, unique=True), max_size=2),
        "enum": st.lists(INSTANCES, max_size=4),
        **dict.fromkeys(["const", "default", "nullable", "x-unknown"], INSTANCES),
        "format": st.sampled_from(["date", "email", "unknown"]),
        "description": st.just("d"),
        "pattern": st.sampled_from(["", "^a+$", "(a|b)*", "^.?$", "b"]),
        "uniqueItems": st.booleans(),
        **dict.fromkeys(
            ["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"], COUNTS
        ),
        **dict.fromkeys(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"], BOUNDS),
        "multipleOf": st.sampled_from([1, 2, 0.5]),
        **dict.fromkeys(
            ["additionalProperties", "items", "not", "if", "then", "else", "contains", "propertyNames"], inner
        ),
        **dict.fromkeys(["allOf", "anyOf", "oneOf"], lists),
        "$ref": st.sampled_from(["#/$defs/a", "#/$defs/b", "#/definitions/a", "#", "#/properties/a"]),
        "$schema": st.sampled_from(DRAFTS[1:]),
    }


RARE = {"patternProperties", "contains", "propertyNames", "$schema", "dependentRequired"}
KEYWORDS = sorted(keyword_values(st.nothing()))
COMMON = sorted({*KEYWORDS} - RARE)


@st.composite
def schema_values(draw: st.DrawFn, depth: int = 3) -> Any:
    """Draw a schema whose keywords have their shapes; the rare ones seldom."""
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        return draw(st.one_of(st.booleans(), st.just({}), st.builds(lambda name: {"type": name}, TYPES)))
    keywords = st.sampled_from(KEYWORDS if draw(st.integers(0, 9)) == 0 else COMMON)
    values = keyword_values(schema_values(depth - 1))
    return {
        keyword: draw(values[keyword])
        for keyword in draw(st.lists(keywords, min_size=1, max_size=4, unique=True))
    }


SCHEMAS = st.builds(
    lambda schema, draft: {"$schema": draft, **schema} if draft and isinstance(schema, dict) else schema,
    schema_values(),
    st.sampled_from(DRAFTS),
)


def as_json(value: Any) -> Any:
    """Give a value as `json.loads` gives it: every NaN is the same object, for one."""
    return json.loads(json.dumps(value))


def test_what_is_accepted_is_valid() -> None:
    """Nothing is accepted that the library refuses or fails on, and much that is valid is accepted."""
    seen = {(accepted, valid): 0 for accepted in (True, False) for valid in (True, False)}

    @settings(max_examples=100)
    @given(SCHEMAS, st.lists(INSTANCES, min_size=1, max_size=4))
    def compare(schema: Any, instances: list[Any]) -> None:
        schema = as_json(schema)
        if not is_surely_valid(schema):
            return
        for instance in map(as_json, instances):
            accepted = surely_satisfies(schema, instance)
            valid = theirs(schema, instance)
            seen[accepted, valid] += isinstance(schema, dict) and len(schema) > 1
            assert valid or not accepted

    compare()
    assert seen[True, True] >= 20, seen
    assert seen[False, False] >= 20, seen


def test_violations_below_alternatives_are_violations() -> None:
    """Where a violation makes a value valid (`not`, `oneOf`, `if`), it is one for the library, too."""
    seen = {True: 0, False: 0}

    @settings(max_examples=100)
    @given(
        schema_values(2), INSTANCES, st.sampled_from(["not", "oneOf", "if", "anyOf"]), st.sampled_from(DRAFTS)
    )
    def compare(inner: Any, instance: Any, keyword: str, draft: str | None) -> None:
        schema: dict[str, Any] = {
            "not": {"not": inner},
            "oneOf": {"oneOf": [inner, True]},
            "if": {"if": inner, "then": False},
            "anyOf": {"anyOf": [inner, {"type": ["null", "string", "array", "object", "integer"]}]},
        }[keyword]
        schema, instance = as_json({"$schema": draft, **schema} if draft else schema), as_json(instance)
        if is_surely_valid(schema):
            accepted = surely_satisfies(schema, instance)
            seen[accepted] += 1
            assert theirs(schema, instance) or not accepted

    compare()
    assert min(seen.values()) >= 5, seen


VALUES = [
    *(None, True, False, 0, 1, 2, 0.0, 1.0, 1.5, 10**30, 1e30, float("nan"), float("inf")),
    *("", "a", "1", [], [1], [True], {}, {"a": 1}),
]


@pytest.mark.parametrize("draft", [Draft7Validator, Draft202012Validator])
def test_every_pair_of_values_is_compared_as_the_library_does(draft: Any) -> None:
    """Equality, order and type of all odd pairs, plain and negated: 1 is 1.0 but not true, NaN itself."""
    accepted = 0
    for wanted, instance in itertools.product(as_json(VALUES), as_json(VALUES)):
        schemas: list[dict[str, Any]] = [{"enum": [wanted]}, {"const": wanted}, {"items": {"const": wanted}}]
        if type(wanted) in (int, float):
            bounds = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
            schemas += [{keyword: wanted} for keyword in (*bounds, *(["multipleOf"] if wanted > 0 else []))]
        pairs: list[tuple[Any, Any]] = [(schema, instance) for schema in schemas]
        pairs.append(({"uniqueItems": True}, [wanted, instance]))
        for schema, value in (*pairs, *(({"not": schema}, value) for schema, value in pairs)):
            if surely_satisfies(schema, value):
                accepted += 1
                assert draft(schema).is_valid(value), (schema, value)
    assert accepted > 1_500


@pytest.mark.parametrize(
    ("schema", "instance"),
    [
        ({"not": {"dependentRequired": {"a": ["b"]}}}, {"a": 1}),
        ({"not": {"$ref": "#/definitions/a", "type": "string"}, "definitions": {"a": True}}, 5),
        ({"not": {"$ref": "#/definitions/a", "x-note": 1}, "definitions": {"a": {"type": "null"}}}, 5),
    ],
)
def test_where_the_drafts_differ_both_are_kept_to(schema: dict[str, Any], instance: Any) -> None:
    """What one draft passes over and the other does not is decided for neither."""
    for draft in DRAFTS:
        schema_of_draft = {"$schema": draft, **schema} if draft else schema
        assert theirs(schema_of_draft, instance) or not surely_satisfies(schema_of_draft, instance)


TYPICAL = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 1, "description": "City"},
        "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
        "days": {"type": "integer", "minimum": 1, "maximum": 16},
        "when": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "place": {"$ref": "#/$defs/place"},
    },
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"place": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]}},
}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"city": "Paris"}', True),
        ('{"city": "Paris", "unit": "f", "days": 3, "when": null, "tags": ["a", "b"]}', True),
        ('{"city": "Paris", "days": 3.0}', True),
        ('{"city": "北京", "place": {"lat": 1}}', True),
        ('{"city": 5, "city": "Paris"}', True),
        ('{"city": "Paris", "city": 5}', False),
        ('{"city": "Paris", "days": true}', False),
        ('{"city": "Paris", "days": 3.5}', False),
        ('{"city": "Paris", "days": 1e400}', False),
        ('{"city": "Paris", "days": NaN}', False),
        ('{"city": "Paris", "unit": "k"}', False),
        ('{"city": "Paris", "tags": ["a", "a"]}', False),
        ('{"city": "Paris", "\\u0063ity ": 1}', False),
        ('{"city": ""}', False),
        ('{"place": {"lat": 1}}', False),
        ("[]", False),
        ("null", False),
    ],
)
def test_typical_arguments(arguments: str, expected: bool) -> None:
    """Arguments of everyday tools are decided without the library, and rightly."""
    instance = json.loads(arguments)
    assert surely_satisfies(TYPICAL, instance) is expected
    assert theirs(TYPICAL, instance) is expected


@pytest.mark.parametrize("keyword", sorted({*Draft7Validator.VALIDATORS, *Draft202012Validator.VALIDATORS}))
def test_every_keyword_of_the_library_is_looked_at(keyword: str) -> None:
    """No keyword that the library applies is passed over: each can keep a value from being accepted."""
    refusing: dict[str, Any] = {
        "$ref": "#/$defs/missing",
        "enum": ["x"],
        "const": "x",
        "required": ["x"],
        "type": "string",
        "format": "date",
        "uniqueItems": True,
        "dependentRequired": {"a": ["x"]},
        "if": {"not": {"type": "string"}},
        "pattern": "x",
        **{name: [False] for name in ("allOf", "anyOf", "oneOf")},
        **dict.fromkeys(["minItems", "minLength", "minProperties", "exclusiveMinimum", "minimum"], 9),
        **dict.fromkeys(["maxItems", "maxLength", "maxProperties", "exclusiveMaximum", "maximum"], 0),
        "multipleOf": 2,
        "not": True,
        "properties": {"a": False},
        "dependencies": {"a": ["x"]},
    }
    schema = {keyword: refusing.get(keyword, False), "then": False}
    values: list[Any] = [{"a": 1, "b": 2}, [1, 1], "s", 3]
    accepted = [surely_satisfies(schema, value) for value in values]
    assert all(accepted) is (keyword == "format"), accepted


def nested(depth: int, step: Any, end: Any) -> Any:
    """Nest a value."""
    for _ in range(depth):
        end = step(end)
    return end


@pytest.mark.parametrize(
    ("schema", "instance"),
    [
        ({"items": {"type": "integer"}}, list(range(20_000))),
        ({"enum": [*range(20_000)]}, 5),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, {}),
        (
            {"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "items": {"$ref": "#/$defs/a"}},
            nested(90, lambda inner: [inner], 1),
        ),
        (nested(59, lambda inner: {"allOf": [inner, inner]}, {}), {}),
        ({"pattern": "(a|b)*c?" * 20}, "ab" * 300),
        ({"anyOf": [{"type": "string"}, {"type": "array"}]}, nested(900, lambda inner: [inner], 1)),
    ],
    ids=[
        "long list",
        "long enum",
        "endless reference",
        "deep value",
        "branching",
        "slow pattern",
        "deep message",
    ],
)
def test_what_is_large_or_deep_is_left_to_the_library(schema: Any, instance: Any) -> None:
    """Beyond its bounds the acceptor says nothing, and soon: the library's own limits hold there."""
    assert not surely_satisfies(schema, instance)
