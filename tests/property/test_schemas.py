"""Compiled schemas say what `jsonschema.validate` says, but in bounded time."""

import itertools
import json
import os
import re
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, validators
from support.the_library import theirs

from k2_verifier_adapter.core.schemas import compiled, patterns
from k2_verifier_adapter.core.schemas.bounded_keywords import SchemaTimeoutError, bounded_class, time_budget
from k2_verifier_adapter.core.schemas.compiled import (
    VALIDATION_TIME_S,
    BrokenSchemaError,
    compile_schema,
)

SECONDS_ALLOWED = 40 * VALIDATION_TIME_S
D4 = "http://json-schema.org/draft-04/schema#"
D7 = "http://json-schema.org/draft-07/schema#"
D2020 = "https://json-schema.org/draft/2020-12/schema"


def ours(schema: Any, instance: Any) -> bool:
    """Judge with the module under test; broken is invalid."""
    try:
        return not compile_schema(schema).violations(instance)
    except BrokenSchemaError:
        return False


NAMES = st.sampled_from(["a", "b", "ab", "x1", ""])
NUMBERS = st.one_of(st.integers(-3, 3), st.sampled_from([0.0, 1.0, 1.5, float("nan")]))
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, st.sampled_from(["a", "b", "ab", "x1", "aaa", ""]))
INSTANCES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)
PATTERNS = st.sampled_from(["^a", "b$", r"\d", "^(a|b)+$", "^[ab]{2}$", "x?1", "(a+)+$", "", "("])
TYPES = st.sampled_from(["array", "boolean", "integer", "null", "number", "object", "string"])


def keyword_values(inner: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    """Give strategies for the values of every keyword that validates something."""
    maps = st.dictionaries(NAMES, inner, max_size=2)
    lists = st.lists(inner, min_size=1, max_size=3)
    counts = st.integers(0, 3)
    return {
        "type": st.one_of(TYPES, st.lists(TYPES, min_size=1, max_size=3, unique=True)),
        "properties": maps,
        "patternProperties": st.dictionaries(PATTERNS, inner, max_size=2),
        "required": st.lists(NAMES, max_size=2, unique=True),
        "enum": st.lists(INSTANCES, max_size=3),
        "const": INSTANCES,
        "pattern": PATTERNS,
        "uniqueItems": st.booleans(),
        **dict.fromkeys(
            ["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"], counts
        ),
        **dict.fromkeys(["minimum", "maximum", "exclusiveMinimum"], st.integers(-2, 2)),
        "multipleOf": st.sampled_from([1, 2, 0.5]),
        **dict.fromkeys(["additionalProperties", "unevaluatedProperties", "unevaluatedItems"], inner),
        **dict.fromkeys(["items", "contains", "not", "propertyNames", "if", "then", "else"], inner),
        **dict.fromkeys(["allOf", "anyOf", "oneOf", "prefixItems"], lists),
        **dict.fromkeys(["dependentSchemas", "$defs"], maps),
        "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, max_size=2, unique=True), max_size=2),
        "$ref": st.sampled_from(["#", "#/$defs/a", "#/properties/b"]),
        "$schema": st.sampled_from([D4, D7, "https://json-schema.org/draft/2019-09/schema", "x:unknown"]),
    }


@st.composite
def schema_values(draw: st.DrawFn, depth: int = 3) -> Any:
    """Draw a schema that is mostly valid."""
    if depth == 0 or draw(st.integers(0, 7)) == 0:
        return draw(st.one_of(st.booleans(), st.just({})))
    strategies = keyword_values(schema_values(depth - 1))
    keywords = draw(st.lists(st.sampled_from(sorted(strategies)), min_size=1, max_size=4, unique=True))
    return {keyword: draw(strategies[keyword]) for keyword in keywords}


def test_validity_equals_the_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over generated schemas and instances the verdict is that of `jsonschema.validate`."""
    # How busy the machine is decides nothing.
    for limit in ("VALIDATION_TIME_S", "CHECK_TIME_S"):
        monkeypatch.setattr(compiled, limit, 60.0)
    seen = {True: 0, False: 0}

    @settings(max_examples=80)
    @given(schema_values(), st.lists(INSTANCES, min_size=1, max_size=3))
    def compare(schema: Any, instances: list[Any]) -> None:
        for instance in instances:
            expected = theirs(schema, instance)
            found = ours(schema, instance)
            seen[expected] += 1
            assert found == expected

    compare()
    assert min(seen.values()) >= 25, seen


@given(st.lists(INSTANCES, max_size=6))
@example([1, True])
@example([0, False])
@example([1, 1.0])
@example([{"a": 1}, {"a": True}])
@example([{"a": [1, 2], "b": None}, {"b": None, "a": [1, 2]}])
@example([10**30, 1e30])
@example(json.loads("[NaN, NaN]"))
@example(json.loads("[[NaN], [NaN]]"))
@settings(max_examples=200)
def test_unique_items_equals_the_librarys(items: list[Any]) -> None:
    """Uniqueness is the library's: 1 is 1.0, but not true; NaN is itself alone."""
    expected = theirs({"uniqueItems": True}, items)
    event(f"unique={expected}")
    assert ours({"uniqueItems": True}, items) == expected


REALDATA = os.environ.get("K2_VERIFIER_REALDATA")


@pytest.mark.skipif(not REALDATA, reason="K2_VERIFIER_REALDATA is not set")
def test_real_schemas_judge_real_and_odd_arguments_alike() -> None:
    """Every real schema gives the library's verdict on the arguments that were really sent."""
    folder = Path(REALDATA or "")
    pairs: list[tuple[Any, Any]] = []
    for line in (folder / "deepseek_official_results.jsonl").read_text().splitlines():
        record = json.loads(line)
        schemas = [tool["function"].get("parameters") for tool in record["request"]["tools"]]
        choices = (record["response"] or {}).get("choices") or [{}]
        for call in (choices[0].get("message") or {}).get("tool_calls") or []:
            text = call["function"]["arguments"]
            pairs += [(schema, json.loads(text) if text else None) for schema in schemas]
    for file in sorted((folder / "walle_schema_cases").glob("*.jsonl")):
        for line in file.read_text().splitlines():
            odd = [{}, [], None, "x", 5, {"name": "x"}, {"value": 1}]
            pairs += [(json.loads(line), instance) for instance in odd]
    assert len(pairs) > 1500
    for schema, instance in pairs:
        assert ours(schema, instance) == theirs(schema, instance), (schema, instance)


# --- bounds ---------------------------------------------------------------------------------------


def deep(depth: int, step: Any, end: Any) -> Any:
    """Nest a value."""
    for _ in range(depth):
        end = step(end)
    return end


EVIL = "(a|aa)+$"
LONG = "a" * 60 + "!"
CATASTROPHES = {
    "pattern": ({"pattern": EVIL}, LONG),
    "pattern below": ({"properties": {"x": {"items": {"pattern": EVIL}}}}, {"x": [LONG]}),
    "alternatives without a quantifier": ({"pattern": "(a|a)" * 40 + "b"}, "a" * 41 + "cb"),
    "patternProperties": ({"patternProperties": {EVIL: False}}, {LONG: 1}),
    "additionalProperties": ({"additionalProperties": False, "patternProperties": {EVIL: True}}, {LONG: 1}),
    "unevaluatedProperties": ({"unevaluatedProperties": False, "patternProperties": {EVIL: True}}, {LONG: 1}),
    "unevaluatedProperties above": (
        {"unevaluatedProperties": False, "allOf": [{"patternProperties": {EVIL: True}}]},
        {LONG: 1},
    ),
    "a subschema of another draft": ({"properties": {"x": {"$schema": D7, "pattern": EVIL}}}, {"x": LONG}),
    "a referenced schema of another draft": (
        {"$ref": "#/$defs/e", "$defs": {"e": {"$schema": D4, "pattern": EVIL}}},
        LONG,
    ),
    "$ref branching": (
        {
            "$ref": "#/$defs/0",
            "$defs": {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(60)} | {"60": {}},
        },
        {},
    ),
    "anyOf branching": (
        {
            "$ref": "#/$defs/0",
            "$defs": {str(n): {"anyOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(60)}
            | {"60": False},
        },
        {},
    ),
    "dependentSchemas branching": (
        {
            "unevaluatedProperties": False,
            "$ref": "#/$defs/0",
            "$defs": {
                str(n): {"dependentSchemas": {name: {"$ref": f"#/$defs/{n + 1}"} for name in "ab"}}
                for n in range(60)
            }
            | {"60": {}},
        },
        {"a": 1, "b": 2},
    ),
}


@pytest.mark.parametrize("name", CATASTROPHES)
def test_catastrophes_end_as_a_timeout(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would run for years is a SchemaTimeoutError after about the time limit."""
    monkeypatch.setattr(compiled, "VALIDATION_TIME_S", 0.2)
    schema, instance = CATASTROPHES[name]
    start = time.process_time()
    with pytest.raises(SchemaTimeoutError):
        compile_schema(schema).violations(instance)
    assert time.process_time() - start < SECONDS_ALLOWED


def nested_refs(depth: int) -> Any:
    """A schema that can be followed without end."""
    return deep(depth, lambda inner: {"items": inner}, {"type": "string"})


BOUNDED = {
    "deep schema": (deep(10_000, lambda inner: {"items": inner}, {}), []),
    "deep schema in allOf": (deep(10_000, lambda inner: {"allOf": [inner]}, {}), []),
    "deep instance, flat schema": ({"type": "object"}, deep(10_000, lambda inner: [inner], 1)),
    "deep instance, recursive schema": ({"items": {"$ref": "#"}}, deep(10_000, lambda inner: [inner], 1)),
    "deep instance, const": ({"const": deep(500, lambda i: [i], 1)}, deep(10_000, lambda i: [i], 1)),
    "deep instances, unique": ({"uniqueItems": True}, [deep(5_000, lambda i: [i], n) for n in (1, 2)]),
    "deep and wrong": ({"type": "string"}, deep(10_000, lambda inner: [inner], 1)),
    "endless $ref": ({"$ref": "#"}, {}),
    "circular $ref": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {},
    ),
    "huge integer": ({"type": "string", "maximum": 5, "multipleOf": 0.1}, 10**1_000_000),
    "huge float": ({"multipleOf": 0.5, "maximum": 5}, 1e308),
    "lone surrogates": ({"pattern": "\ud800", "enum": ["\udfff"], "properties": {"\ud800": False}}, "\udbff"),
    "long text, wrong": ({"enum": ["x"], "const": 5, "maxLength": 5}, "x" * 5_000_000),
    "unique mixed scalars": (
        {"uniqueItems": True},
        list(itertools.chain.from_iterable((n, str(n)) for n in range(50_000))),
    ),
    "unique objects": ({"uniqueItems": True}, [{"n": n} for n in range(50_000)]),
    "unique colliding numbers": ({"uniqueItems": True}, ["x", *(n * (2**61 - 1) for n in range(20_000))]),
    "unique required": ({"required": [{"n": n} for n in range(3_000)]}, {}),
    "unique enum of draft-04": ({"$schema": D4, "enum": [{"n": n} for n in range(30_000)]}, {}),
    "many unevaluated": (
        {"unevaluatedProperties": {"type": "integer"}},
        {str(n): n for n in range(100_000)},
    ),
    "many unevaluated items": ({"items": {}, "unevaluatedItems": False}, list(range(100_000))),
    "many alternatives, large instance": ({"anyOf": [{"type": "string"}] * 2_000}, ["x" * 100] * 20_000),
    "optional characters": ({"pattern": "a?" * 40 + "a" * 40 + "c"}, "a" * 40 + "bc"),
    "long names": ({"additionalProperties": False}, {"n" * 1_000_000: 1}),
    "NaN": ({"minimum": 1, "multipleOf": 2, "enum": [1]}, float("nan")),
    "infinity": ({"multipleOf": 2}, float("inf")),
    "pattern with a huge repeat": ({"pattern": "(?:a{1,1000}){1,1000}(?:b{1,1000}){1,1000}"}, "a" * 500),
    "pattern of many groups": ({"pattern": "(" * 90 + "a" + ")" * 90}, "a"),
    "pattern beyond Python": ({"pattern": "a{99999999999999}"}, "a"),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_hostile_pairs_end_in_bounded_time(name: str) -> None:
    """Any depth, size and value ends in a verdict, a broken schema or a timeout, and soon."""
    schema, instance = BOUNDED[name]
    start = time.process_time()
    try:
        violations = compile_schema(schema).violations(instance)
        messages = [violation.message for violation in violations]
    except (BrokenSchemaError, SchemaTimeoutError) as error:
        messages = [str(error)]
    assert all(len(message) < 1_000 for message in messages)
    assert time.process_time() - start < SECONDS_ALLOWED


def test_a_pattern_that_only_re_finds_hard_is_bounded() -> None:
    """`regex` sees at once that `(a+)+b` cannot match; nothing then hands the pattern to `re`."""
    name = "a" * 40
    for keyword in ("additionalProperties", "unevaluatedProperties"):
        schema = compile_schema({"patternProperties": {"^(a+)+b$": True}, keyword: False})
        assert [item.keyword for item in schema.violations({name: 1})] == [keyword]


class PanicException(BaseException):
    """What `pyo3` raises where Rust code panics."""


def test_a_panic_of_the_registry_breaks_the_schema_not_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A panic inside the library's registry, which is no Exception, is a broken schema like any other."""

    def panic(*_arguments: Any, **_options: Any) -> Any:
        raise PanicException("__eq__ failed!: RecursionError")

    validator = bounded_class(Draft202012Validator)
    compiled = compile_schema({"$ref": "#/$defs/a", "$defs": {"a": {}, "b": {"prefixItems": [True]}}})
    monkeypatch.setattr(validator, "iter_errors", panic)
    with pytest.raises(BrokenSchemaError):
        compiled.violations({})
    monkeypatch.setattr(validator, "__init__", panic)
    with pytest.raises(BrokenSchemaError):
        compile_schema({"prefixItems": [True]})
    with pytest.raises(BrokenSchemaError):
        compile_schema({"type": "string"}).violations({})


def test_an_interrupt_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during a validation stops the run."""

    def interrupt(*_arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(bounded_class(Draft202012Validator), "iter_errors", interrupt)
    with pytest.raises(KeyboardInterrupt):
        compile_schema({"type": "string"}).violations({})


def test_a_budget_bounds_all_validations_together() -> None:
    """With the budget used up, the next validation is a timeout at once; outside it, all is as before."""
    compiled = compile_schema({"allOf": [{"properties": {"a": {"type": "string"}}}]})
    with time_budget(0.0), pytest.raises(SchemaTimeoutError):
        compiled.violations({"a": "x"})
    assert compiled.violations({"a": "x"}) == []


def test_broken_schemas_say_where() -> None:
    """The message of a broken schema holds the path and the library's reason."""
    with pytest.raises(BrokenSchemaError, match=r"at \$\.properties\.a\.type: 'str' is not valid"):
        compile_schema({"properties": {"a": {"type": "str"}}})


def test_violations_say_keyword_path_and_message() -> None:
    """A violation names the keyword, the place in the arguments and the value."""
    schema = {"properties": {"a": {"items": {"properties": {"b c": {"type": "string"}}}}}}
    (violation,) = compile_schema(schema).violations({"a": [{}, {"b c": 5}]})
    assert violation.keyword == "type"
    assert violation.message == "5 is not of type 'string'"
    assert violation.path.startswith("$.a[1]")


# --- patterns -------------------------------------------------------------------------------------

ATOMS = st.sampled_from(
    [
        "a",
        "b",
        ".",
        r"\d",
        r"\w",
        r"\s",
        "[ab]",
        "[^a]",
        "[]a]",
        "[[:x]",
        "^",
        "$",
        r"\b",
        r"\.",
        "é",
        "{",
        "{e}",
        "{a<=1}",
        "}",
        "1",
    ]
)
QUANTIFIED = st.builds(
    str.__add__,
    ATOMS,
    st.sampled_from(["", "", "", "?", "*", "+", "{2}", "{1,2}", "{,2}", "{2,}", "*?", "+?", "??"]),
)
EXPRESSIONS = st.recursive(
    QUANTIFIED,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map("|".join),
        st.builds(
            "{}{}){}".format,
            st.sampled_from(["(", "(?:", "(?=", "(?!", "(?i:", "(?s:"]),
            inner,
            st.sampled_from(["", "", "?", "*", "{2}"]),
        ),
        inner.map(r"({})\1".format),
    ),
    max_leaves=6,
)
FLAGGED = st.builds(
    str.__add__, st.sampled_from(["", "", "", "(?i)", "(?s)", "(?m)", "(?a)", "(?x) ", "(?x)#("]), EXPRESSIONS
)
TEXTS = st.text(alphabet="abA1 é.\n{}e:x", max_size=12)


@given(FLAGGED, st.lists(TEXTS, min_size=1, max_size=4))
@settings(max_examples=200)
def test_search_equals_re(pattern: str, texts: list[str]) -> None:
    """Cheap or not, a pattern matches exactly what `re.search` matches."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compiled = re.compile(pattern)
        except re.error:
            assume(False)
        for text in texts:
            cheap = patterns.is_cheap(pattern, len(text))
            found = compiled.search(text) is not None
            event(f"cheap={cheap} found={found}")
            assert patterns.search(pattern, text, 5.0) == found


@given(FLAGGED, TEXTS)
@settings(max_examples=200)
def test_the_bounded_engine_equals_re(pattern: str, text: str) -> None:
    """The engine with the time limit reads every pattern of the common dialect as `re` does."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patched:
        warnings.simplefilter("ignore")
        patched.setattr(patterns, "is_cheap", lambda _pattern, _length: False)
        try:
            found = re.search(pattern, text) is not None
        except re.error:
            assume(False)
        assert patterns.search(pattern, text, 5.0) == found


@pytest.mark.parametrize(
    "pattern",
    [
        r"^\d{4}-\d{2}-\d{2}$",
        r"^[a-z0-9-]+$",
        r"^(https?|ftp)://[^\s]+$",
        r"^#[0-9a-fA-F]{6}$",
        "^(mon|tue|wed)$",
        "^.+@.+$",
        "(?i)^[a-z]+$",
        "(?x) a b",
        "(?i:a)",
    ],
)
def test_usual_patterns_are_cheap(pattern: str) -> None:
    """The patterns of real tool schemas run on `re` itself."""
    assert patterns.is_cheap(pattern, 60)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|aa)+$",
        "(a*)*",
        "(?:a+){9}",
        "(a|a)" * 30,
        "a?" * 30,
        "a*a*a*a*a*",
        r"(.*)(.*)\1\2",
        "(?i)(a+)+",
        "(?x) ( a + ) +",
        r"[]](a+)+",
        "(?=(a+)+)b",
    ],
)
def test_patterns_that_can_explode_are_not_cheap(pattern: str) -> None:
    """Whatever may take `re` more than some milliseconds on a text of 200 characters is run bounded."""
    assert not patterns.is_cheap(pattern, 200)


TRIED = {
    "verbose": ({"pattern": "(?x) a b"}, ["ab", "a b", "xaby"]),
    "verbose, and hard": ({"pattern": "(?x) ^ ( a | aa ) + $ # ("}, ["aaa", "ab", ""]),
    "flags": ({"pattern": "(?i)^(ab)+$"}, ["ABab", "ba"]),
    **{
        f"unevaluated beside {pattern}": (
            {"$schema": draft, "patternProperties": {pattern: True}, "unevaluatedProperties": False},
            [{"x-x-": 1}, {"x": 1}, {"x-": 1, "y": 2}, {}],
        )
        for pattern in ("^(x-)+", "(?x) ^ x -")
        for draft in ("https://json-schema.org/draft/2019-09/schema", D2020)
    },
    "unevaluated above": (
        {"allOf": [{"patternProperties": {"^(x-)+": {"type": "integer"}}}], "unevaluatedProperties": False},
        [{"x-x-": 1}, {"x-x-": "no integer"}, {"y": 1}],
    ),
}


@pytest.mark.parametrize("name", TRIED)
def test_what_is_not_slow_is_tried(name: str) -> None:
    """No pattern is given up for its looks: flags, repeated groups, and both beside `unevaluatedProperties`."""
    schema, instances = TRIED[name]
    verdicts = [theirs(schema, instance) for instance in instances]
    assert [ours(schema, instance) for instance in instances] == verdicts
    assert set(verdicts) == {True, False}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("pattern", ["[[:alpha:]]", "^([[:alpha:]]-)+", "[a||b]", "[[:alpha:]("])
def test_what_python_warns_of_in_a_pattern_is_not_said(pattern: str) -> None:
    """Its FutureWarning is for the schema's author; not even a broken pattern lets it out."""
    for schema, instance in (
        ({"pattern": pattern}, "x-"),
        ({"$comment": 5, "pattern": pattern}, "x-"),
        ({"$anchor": "a", "pattern": pattern}, "x-"),
        ({"patternProperties": {pattern: True}, "additionalProperties": False}, {"x-": 1}),
        ({"patternProperties": {pattern: True}, "unevaluatedProperties": False}, {"x-": 1}),
    ):
        re.purge()
        patterns._read.cache_clear()
        with suppress(BrokenSchemaError):
            compile_schema(schema).violations(instance)


def test_a_broken_pattern_is_an_error_of_re() -> None:
    """What `re` cannot compile raises, also where `regex` could."""
    for pattern in ("(", r"\p{L}", "(?<n>a)", "*"):
        with pytest.raises(re.error):
            patterns.search(pattern, "a", 1.0)


@given(INSTANCES)
def test_validator_choice_equals_the_librarys(draft: Any) -> None:
    """Any JSON under `$schema` chooses the class that the library chooses, or is broken."""
    schema = {"$schema": draft, "type": "object"}
    try:
        validators.validator_for(schema, default=Draft202012Validator)
    except Exception:
        with pytest.raises(BrokenSchemaError):
            compile_schema(schema)
    else:
        assert ours(schema, {}) == theirs(schema, {})
