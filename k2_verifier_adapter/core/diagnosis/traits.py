"""Traits: what findings rest on beside the failure classes, counted by response."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum

from k2_verifier_adapter.core.failure_classes import FailureClass, LeakedCall
from k2_verifier_adapter.core.judgement import Judgement, NoteKind
from k2_verifier_adapter.core.judging.leaks import ARGUMENTS
from k2_verifier_adapter.core.judging.markup import FOREIGN_TOKENS


class Trait(str, Enum):
    """One trait of a response; the value is the name used in files."""

    VALID_CALL_IN_CONTENT = "valid_call_in_content"
    VALID_CALL_IN_REASONING = "valid_call_in_reasoning"
    UNDECLARED_BUT_IN_HISTORY = "undeclared_but_in_history"
    EMPTY_OBJECT_FITS = "empty_object_fits"
    REPAIRABLE_JSON = "repairable_json"
    DUPLICATE_KEYS = "duplicate_keys"
    NOT_A_NUMBER = "not_a_number"
    LEAK_IN_ARGUMENTS = "leak_in_arguments"
    FOREIGN_MARKUP = "foreign_markup"
    CALLS_UNDER_NULL = "calls_under_null"


AS_WRITTEN = frozenset(
    {FailureClass.TRAILING_TEXT, FailureClass.SINGLE_QUOTED_JSON, FailureClass.OTHER_INVALID_JSON}
)
"""What arguments that are not JSON show where the model wrote them so."""

_NOTED = {
    NoteKind.EMPTY_OBJECT_FITS: Trait.EMPTY_OBJECT_FITS,
    NoteKind.REPAIRABLE_JSON: Trait.REPAIRABLE_JSON,
    NoteKind.DUPLICATE_KEYS: Trait.DUPLICATE_KEYS,
    NoteKind.NOT_A_NUMBER: Trait.NOT_A_NUMBER,
}
_VALID_CALL_IN = {
    FailureClass.MARKUP_IN_CONTENT: Trait.VALID_CALL_IN_CONTENT,
    FailureClass.MARKUP_IN_REASONING: Trait.VALID_CALL_IN_REASONING,
}


def traits_of(judgement: Judgement) -> Iterable[Trait]:
    """List the traits of one response, each once."""
    traits: dict[Trait, None] = {}
    for failure in judgement.failures:
        kind = failure.failure_class
        if kind in _VALID_CALL_IN and failure.leaked_call is LeakedCall.COMPLETE:
            traits[_VALID_CALL_IN[kind]] = None
        elif kind is FailureClass.UNDECLARED_TOOL and failure.in_history:
            traits[Trait.UNDECLARED_BUT_IN_HISTORY] = None
        elif kind is FailureClass.SPECIAL_TOKEN_LEAK:
            if failure.where == ARGUMENTS:
                traits[Trait.LEAK_IN_ARGUMENTS] = None
            if failure.marker in FOREIGN_TOKENS:
                traits[Trait.FOREIGN_MARKUP] = None
        elif kind is FailureClass.CALLS_WITHOUT_FINISH_TOOL_CALLS and judgement.finish_reason is None:
            traits[Trait.CALLS_UNDER_NULL] = None
    traits.update(dict.fromkeys(_noted(judgement)))
    return list(traits)


def _noted(judgement: Judgement) -> Iterator[Trait]:
    for note in judgement.notes:
        # Of arguments that were cut or glued together, a repair would only guess.
        guessed = note.kind is NoteKind.REPAIRABLE_JSON and not _shows(judgement, AS_WRITTEN)
        if note.kind in _NOTED and not guessed:
            yield _NOTED[note.kind]


def _shows(judgement: Judgement, kinds: frozenset[FailureClass]) -> bool:
    return any(failure.failure_class in kinds for failure in judgement.failures)
