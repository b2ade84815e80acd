"""What each row shall be: decks of cards, shuffled, so that shares hold exactly in every block of rows.

Drawing every trait at random would let a small file miss the rare ones; a deck deals each card.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Literal, TypeVar

from synthetic.vocabulary import CATALOGUE, Language

T = TypeVar("T")
FinishReason = Literal["tool_calls", "stop", "length"]

BLOCK = 120
"""Rows in a block; each deck has as many cards."""

LARGEST = 36_000
"""Characters of the largest request at the usual mean."""


class History(Enum):
    """What happened before the last message."""

    NONE = "none"
    TALK = "talk"
    TOOLS = "tools"


class Quirk(Enum):
    """One oddity of real rows, and how many rows of a block have it; a row has at most one."""

    NONE = ("none", 38)
    TINY = ("tiny", 1)
    LARGEST = ("largest", 1)
    MALFORMED_HISTORY = ("malformed_history", 5)
    SEVERAL_SYSTEM = ("several_system", 7)
    NAMED_SYSTEM = ("named_system", 6)
    TOOL_MESSAGE_WITHOUT_NAME = ("tool_message_without_name", 6)
    NO_CONTENT = ("no_content", 5)
    NULL_CONTENT = ("null_content", 5)
    CALL_WITHOUT_ID = ("call_without_id", 2)
    FOREIGN_IDS = ("foreign_ids", 3)
    CONTENT_PARTS = ("content_parts", 6)
    INPUT_ROLE = ("input_role", 4)
    DEVELOPER_ROLE = ("developer_role", 3)
    UNKNOWN_TOOL = ("unknown_tool", 3)
    TOOL_WITHOUT_DESCRIPTION = ("tool_without_description", 4)
    TOOL_WITHOUT_PARAMETERS = ("tool_without_parameters", 4)
    EMOJI = ("emoji", 6)
    ASCII_ESCAPES = ("ascii_escapes", 3)
    COMPACT_JSON = ("compact_json", 4)
    LONE_SURROGATE = ("lone_surrogate", 1)
    LARGEST_TOOL_SET = ("largest_tool_set", 1)
    ROW_PARAMETERS = ("row_parameters", 2)

    @property
    def rows(self) -> int:
        """Rows in a block that have it."""
        return self.value[1]


NEEDS_TOOL_HISTORY = frozenset(
    {
        Quirk.MALFORMED_HISTORY,
        Quirk.TOOL_MESSAGE_WITHOUT_NAME,
        Quirk.NO_CONTENT,
        Quirk.NULL_CONTENT,
        Quirk.CALL_WITHOUT_ID,
        Quirk.FOREIGN_IDS,
        Quirk.UNKNOWN_TOOL,
    }
)
"""Quirks that change calls of the history, so there have to be some."""

_LANGUAGE_COUNTS: tuple[tuple[Language, int], ...] = (("en", 60), ("zh", 60))
_FINISH_COUNTS: tuple[tuple[FinishReason, int], ...] = (("tool_calls", 60), ("stop", 59), ("length", 1))
_SIZE_COUNTS: tuple[tuple[tuple[int, int], int], ...] = (
    ((200, 700), 32),
    ((700, 1_500), 28),
    ((1_500, 3_500), 30),
    ((3_500, 8_000), 17),
    ((8_000, 16_000), 10),
    ((16_000, 28_000), 3),
)
"""Ranges of the request's characters, messages and tools together, at the usual mean."""


@dataclass(frozen=True)
class Plan:
    """What one row shall be.

    Attributes:
        index: 0-based number of the row.
        language: Language of the conversation.
        tool_language: Language of the tools, which sometimes differs.
        finish_reason: The official finish_reason.
        call_count: Number of official calls, 0 if the official answer is no call.
        history: What happened before.
        quirk: The oddity of the row.
        quirk_number: 0-based count of this quirk up to the row, for quirks that come in kinds.
        size: Characters that the request shall have, messages and tools together.
        main_tool: Position in the catalogue of the tool that the row is about.
    """

    index: int
    language: Language
    tool_language: Language
    finish_reason: FinishReason
    call_count: int
    history: History
    quirk: Quirk
    quirk_number: int
    size: int
    main_tool: int


def plan_rows(count: int, seed: int, mean_chars: int) -> Iterator[Plan]:
    """Plan rows one after another; a shorter plan is a prefix of a longer one."""
    for start in range(0, count, BLOCK):
        block = list(_plan_block(start, seed, mean_chars))
        yield from block[: count - start]


def row_random(seed: int, *labels: object) -> Random:
    """Return a generator that depends on the seed and the labels only, on every Python alike."""
    digest = hashlib.sha256(repr((seed, *labels)).encode()).digest()
    return Random(int.from_bytes(digest, "big"))


def _plan_block(start: int, seed: int, mean_chars: int) -> Iterator[Plan]:
    languages = _deck(seed, start, "language", _LANGUAGE_COUNTS)
    swapped = _deck(seed, start, "swap", ((True, 12), (False, 108)))
    finishes = _deck(seed, start, "finish", _FINISH_COUNTS)
    calls = _deck(seed, start, "calls", ((1, 92), (2, 19), (3, 9)))
    histories = _deck(seed, start, "history", ((History.NONE, 42), (History.TALK, 34), (History.TOOLS, 44)))
    ranges = _deck(seed, start, "size", _SIZE_COUNTS)
    quirks = _deck(seed, start, "quirk", [(quirk, quirk.rows) for quirk in Quirk])
    mains = _deck(seed, start, "main", tuple((card % len(CATALOGUE), 1) for card in range(BLOCK)))
    for offset in range(BLOCK):
        language, quirk, finish = languages[offset], quirks[offset], finishes[offset]
        low, high = _size_range(quirk, ranges[offset])
        scale = 1.0 if quirk is Quirk.TINY else mean_chars / 4300
        yield Plan(
            index=start + offset,
            language=language,
            tool_language=_other(language) if swapped[offset] else language,
            finish_reason=finish,
            call_count=calls[offset] if finish == "tool_calls" else 0,
            history=_history(quirk, histories[offset]),
            quirk=quirk,
            quirk_number=start // BLOCK * quirk.rows + quirks[:offset].count(quirk),
            size=int(scale * (low + row_random(seed, "size", start + offset).randrange(high - low))),
            main_tool=mains[offset],
        )


def _deck(seed: int, start: int, name: str, counts: Sequence[tuple[T, int]]) -> list[T]:
    cards = [card for card, number in counts for _ in range(number)]
    row_random(seed, name, start).shuffle(cards)
    return cards


def _size_range(quirk: Quirk, usual: tuple[int, int]) -> tuple[int, int]:
    if quirk is Quirk.TINY:
        return (155, 156)
    if quirk is Quirk.LARGEST:
        return (LARGEST - 400, LARGEST - 300)
    if quirk is Quirk.LARGEST_TOOL_SET:
        return (9_000, 12_000)
    return usual


def _history(quirk: Quirk, usual: History) -> History:
    if quirk is Quirk.TINY:
        return History.NONE
    return History.TOOLS if quirk in NEEDS_TOOL_HISTORY else usual


def _other(language: Language) -> Language:
    return "zh" if language == "en" else "en"
