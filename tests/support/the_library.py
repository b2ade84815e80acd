"""What `jsonschema` itself says of a schema and an instance."""

import warnings
from typing import Any

import jsonschema


def theirs(schema: Any, instance: Any) -> bool:
    """Judge with `jsonschema.validate`; any exception is invalid, as upstream has it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jsonschema.validate(instance, schema)
    except Exception:
        return False
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        return False
    return True
