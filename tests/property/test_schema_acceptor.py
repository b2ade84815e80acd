"""The acceptor is sound: what it lets pass, the library's meta-schemas let pass."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, validators

from k2_verifier_adapter.core.schemas.compiled import BrokenSchemaError, compile_schema
from k2_verifier_adapter.core.schemas.schema_acceptor import is_surely_valid

DRAFTS = [
    "http://json-schema.org/draft-03/schema#",
    "http://json-schema.org/draft-04/schema#",
    "http://json-schema.org/draft-04/schema",
    "http://json-schema.org/draft-06/schema#",
    "http://json-schema.org/draft-07/schema#",
    "http://json-schema.org/draft-07/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2020-12/schema#",
    "https://example.invalid/unknown",
]

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, -1.0, 1.5, 2.0, float("nan"), float("inf"), 1e300, 10**40]),
    st.sampled_from(
        ["", "a", "(", "[", "^a+$", "#", "#/$defs/a", "#/%zz", "string", "str", "\ud800", "a b", "::"]
    ),
)
JUNK = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.dictionaries(st.sampled_from(["a", "type", "("]), SCALARS, max_size=2),
)
TYPES = ["array", "boolean", "integer", "null", "number", "object", "string"]
NUMBERS = st.one_of(st.integers(-5, 5), st.floats(allow_nan=True))
COUNTS = st.integers(0, 5)
STRINGS = st.sampled_from(["", "a", "b", "c"])
STRING_LISTS = st.lists(STRINGS, max_size=3)
PATTERNS = st.sampled_from(
    ["", "^a+$", "(a|b)*", r"\d{2}", "(", "[", "*", r"\p{L}", "a{99999999999999}", "(?i)a"]
)
REFERENCES = st.sampled_from(
    ["#", "#/$defs/a", "#/a/0/b", "#a", "other.json", "http://x.invalid/#", "#/%zz", " ", "#/a b"]
)


def plausible(schemas: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    """Give, for each keyword, values of which most are valid."""
    maps = st.dictionaries(st.one_of(STRINGS, PATTERNS), schemas, max_size=2)
    lists = st.lists(schemas, max_size=2)
    return {
        **dict.fromkeys(["$comment", "description", "format", "title", "contentEncoding"], STRINGS),
        **dict.fromkeys(["const", "default", "nullable", "x-order", "strict"], JUNK),
        **dict.fromkeys(["exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum"], NUMBERS),
        "multipleOf": st.one_of(st.integers(1, 3), NUMBERS),
        **dict.fromkeys(
            [
                "maxItems",
                "maxLength",
                "maxProperties",
                "minItems",
                "minLength",
                "minProperties",
                "minContains",
            ],
            st.one_of(COUNTS, st.sampled_from([1.0, 1.5, -1, True])),
        ),
        **dict.fromkeys(["readOnly", "uniqueItems", "writeOnly", "deprecated"], st.booleans()),
        **dict.fromkeys(["enum", "examples"], st.lists(JUNK, max_size=3)),
        "type": st.one_of(st.sampled_from([*TYPES, "any"]), st.lists(st.sampled_from(TYPES), max_size=3)),
        "required": STRING_LISTS,
        "pattern": PATTERNS,
        **dict.fromkeys(["$ref", "$id", "id", "$anchor", "$dynamicRef", "$recursiveRef"], REFERENCES),
        "$schema": st.sampled_from(DRAFTS),
        **dict.fromkeys(
            ["additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then"],
            schemas,
        ),
        **dict.fromkeys(
            ["unevaluatedItems", "unevaluatedProperties", "additionalItems", "contentSchema"], schemas
        ),
        **dict.fromkeys(["allOf", "anyOf", "oneOf", "prefixItems"], lists),
        **dict.fromkeys(
            ["$defs", "definitions", "patternProperties", "properties", "dependentSchemas"], maps
        ),
        **dict.fromkeys(
            ["dependentRequired", "dependencies"], st.dictionaries(STRINGS, STRING_LISTS, max_size=2)
        ),
        "$vocabulary": st.dictionaries(
            st.sampled_from(["http://a.invalid", "x y"]), st.booleans(), max_size=1
        ),
    }


KEYWORDS = sorted(plausible(st.nothing()))


@st.composite
def schema_values(draw: st.DrawFn, depth: int = 3, junk: int = 12) -> Any:
    """Draw a schema; about one keyword in `junk` holds a value of any type."""
    if depth == 0 or draw(st.integers(0, 9)) == 0:
        return draw(st.one_of(st.booleans(), st.just({})))
    values = plausible(schema_values(depth - 1, junk) if depth > 1 else st.one_of(st.booleans(), st.just({})))
    return {
        keyword: draw(JUNK) if draw(st.integers(0, junk)) == 0 else draw(values[keyword])
        for keyword in draw(st.lists(st.sampled_from(KEYWORDS), max_size=4, unique=True))
    }


SCHEMAS = st.builds(
    lambda schema, draft: {"$schema": draft, **schema} if draft and isinstance(schema, dict) else schema,
    schema_values(),
    st.one_of(st.none(), st.sampled_from(DRAFTS)),
)


def check(schema: Any) -> bool:
    """Say whether `check_schema` accepts, of the class that `jsonschema.validate` would choose.

    An exception of another kind (a `$schema` that is a list) is no acceptance either.
    """
    try:
        validators.validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except Exception:
        return False
    return True


def test_what_is_accepted_is_valid() -> None:
    """The acceptor never accepts what `check_schema` refuses; the schemas tried are of both kinds."""
    seen = {(accepted, valid): 0 for accepted in (True, False) for valid in (True, False)}

    @settings(max_examples=400)
    @given(SCHEMAS)
    def compare(schema: Any) -> None:
        accepted = is_surely_valid(schema)
        valid = check(schema)
        event(f"accepted={accepted} valid={valid}")
        seen[accepted, valid] += isinstance(schema, dict) and len(schema) > 1
        assert valid or not accepted

    compare()
    assert min(seen[True, True], seen[False, False], seen[False, True]) >= 7, seen
    assert seen[True, False] == 0


@given(st.sampled_from(KEYWORDS), JUNK, st.one_of(st.none(), st.sampled_from(DRAFTS)), st.integers(0, 3))
@settings(max_examples=200)
def test_one_junk_keyword_is_never_accepted_wrongly(
    keyword: str, value: Any, draft: str | None, depth: int
) -> None:
    """Any value under any keyword, at the root or nested, is accepted only if it is valid."""
    schema: Any = {keyword: value}
    for step in range(depth):
        schema = [{"properties": {"a": schema}}, {"items": schema}, {"anyOf": [schema]}][step % 3]
    if draft:
        schema = {"$schema": draft, **schema}
    assert check(schema) or not is_surely_valid(schema)


@pytest.mark.parametrize("draft", [None, *DRAFTS])
@pytest.mark.parametrize("keyword", ["properties", "patternProperties", "$defs", "definitions"])
def test_a_broken_subschema_is_found_everywhere(keyword: str, draft: str | None) -> None:
    """A broken subschema under any name is not accepted."""
    schema = {keyword: {"a": {"type": "str"}}} | ({"$schema": draft} if draft else {})
    assert not is_surely_valid(schema)


def test_a_deep_schema_is_left_to_the_library() -> None:
    """A schema of any depth gets an answer."""
    schema: Any = {}
    for _ in range(10_000):
        schema = {"items": schema}
    assert not is_surely_valid(schema)


# --- real schemas ---------------------------------------------------------------------------------

REALDATA = os.environ.get("K2_VERIFIER_REALDATA")
needs_realdata = pytest.mark.skipif(not REALDATA, reason="K2_VERIFIER_REALDATA is not set")


def real_schemas() -> list[Any]:
    """Give all distinct schemas of the real data."""
    folder = Path(REALDATA or "")
    found: dict[str, Any] = {}
    for file in sorted((folder / "walle_schema_cases").glob("*.jsonl")):
        for line in file.read_text().splitlines():
            if line.strip():
                found.setdefault(line, json.loads(line))
    for line in (folder / "deepseek_samples.jsonl").read_text().splitlines():
        for tool in json.loads(line).get("tools") or []:
            schema = tool["function"].get("parameters")
            found.setdefault(json.dumps(schema), schema)
    return list(found.values())


@needs_realdata
def test_real_schemas_are_never_accepted_wrongly_and_mostly_accepted(record_property: Any) -> None:
    """On real schemas the acceptor is sound, and knows at least 90 % of the valid ones."""
    schemas = real_schemas()
    valid = [schema for schema in schemas if check(schema)]
    accepted = [schema for schema in schemas if is_surely_valid(schema)]
    record_property("distinct", len(schemas))
    record_property("valid", len(valid))
    record_property("accepted", len(accepted))
    assert all(check(schema) for schema in accepted)
    assert len(schemas) > 200
    assert len(accepted) >= 0.9 * len(valid), (len(schemas), len(valid), len(accepted))


@needs_realdata
def test_real_schemas_compile_or_are_broken() -> None:
    """Every real schema compiles, or is called broken exactly where the library refuses it."""
    for schema in real_schemas():
        try:
            compile_schema(schema)
        except BrokenSchemaError:
            assert not check(schema), schema
        else:
            assert check(schema), schema
