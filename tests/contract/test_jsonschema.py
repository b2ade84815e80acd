"""What this package relies on in `jsonschema`: the rules of `validate` and the names that are overridden."""

import inspect
from typing import Any

import jsonschema
import pytest
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError

from k2_verifier_adapter.core.schemas import compiled as schemas
from k2_verifier_adapter.core.schemas.bounded_keywords import bounded_class, deadline

DRAFTS = [
    validators.Draft3Validator,
    validators.Draft4Validator,
    validators.Draft6Validator,
    validators.Draft7Validator,
    validators.Draft201909Validator,
    validators.Draft202012Validator,
]


def test_validate_uses_no_format_checker() -> None:
    """`jsonschema.validate` lets any string pass for any `format`."""
    jsonschema.validate("no date", {"format": "date-time", "type": "string"})


def test_the_default_is_the_latest_draft() -> None:
    """Without `$schema`, and with an unknown one, `validate` applies draft 2020-12."""
    assert validators.validator_for({}) is Draft202012Validator
    with pytest.raises(ValidationError):
        jsonschema.validate([1], {"prefixItems": [{"type": "string"}]})
    assert (
        validators.validator_for({"$schema": "x:unknown"}, default=Draft202012Validator)
        is Draft202012Validator
    )


@pytest.mark.parametrize("plain", DRAFTS, ids=lambda plain: plain.__name__)
def test_every_searching_keyword_is_bounded(plain: Any) -> None:
    """Of each draft, every keyword whose code searches with `re` or compares pairwise is overridden."""
    bounded = bounded_class(plain)
    for keyword, function in plain.VALIDATORS.items():
        source = inspect.getsource(function)
        if any(
            word in source for word in ("re.search", "uniq(", "find_additional_properties", "find_evaluated")
        ):
            assert bounded.VALIDATORS[keyword] is not function, keyword


@pytest.mark.parametrize("plain", DRAFTS, ids=lambda plain: plain.__name__)
def test_a_subschema_with_its_own_draft_stays_bounded(plain: Any) -> None:
    """The library goes on with its plain class where a subschema names a `$schema`; ours does not."""
    bounded = bounded_class(plain)
    other = {"$schema": validators.Draft7Validator.META_SCHEMA["$schema"]}
    assert type(plain({}).evolve(schema=other)) is validators.Draft7Validator
    with deadline(10.0):
        assert type(bounded({}).evolve(schema=other)) is bounded_class(validators.Draft7Validator)
        assert type(bounded({}).evolve(schema={})) is bounded


def test_the_librarys_own_check_is_unbounded_only_in_time() -> None:
    """The bounded check of a schema accepts and refuses what `check_schema` does."""
    for plain in DRAFTS:
        for schema in (
            {},
            {"type": "str"},
            {"required": 5},
            {"pattern": "("},
            {"minLength": -1},
            {"enum": 5},
            5,
            None,
        ):
            try:
                plain.check_schema(schema)
            except Exception as error:
                with pytest.raises(type(error)):
                    schemas._check(plain, schema)
            else:
                schemas._check(plain, schema)
