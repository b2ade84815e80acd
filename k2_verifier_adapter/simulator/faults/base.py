"""What a fault is: data that names a failure class, says where it applies, and does the damage."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Any

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.simulator.answers import Completion
from k2_verifier_adapter.simulator.modes import Modes

Damage = Callable[[Completion, Case, Random], "Completion | None"]
"""Gives the damaged completion, or None where the fault cannot apply; the argument is not changed."""

Chunk = dict[str, Any]
"""One decoded event of a stream."""


class Needs(Enum):
    """Which official answers a fault can apply to."""

    ANY = "any answer"
    CALL = "an answer with tool calls"
    NO_CALL = "an answer without tool calls"

    def met_by(self, *, has_calls: bool) -> bool:
        """Say whether an answer with or without tool calls qualifies."""
        return self is Needs.ANY or (self is Needs.CALL) == has_calls


@dataclass(frozen=True, slots=True)
class PayloadFault:
    """A completion that arrives whole, and is wrong.

    Attributes:
        name: Name in profiles; the class's, or a variant's.
        failure_class: What goes wrong.
        damage: What is done to the official completion.
        needs: Which official answers it can apply to; `damage` decides the rest.
        modes: Which requests it can apply to.
        as_body: Whether it comes as one JSON body although a stream was asked for.
    """

    name: str
    failure_class: FailureClass
    damage: Damage
    needs: Needs = Needs.ANY
    modes: Modes = Modes.ANY
    as_body: bool = False


@dataclass(frozen=True, slots=True)
class StreamFault:
    """A completion whose chunks are wrong.

    Attributes:
        name: Name in profiles.
        failure_class: What goes wrong.
        prepare: Gives the completion to stream, or None where the fault cannot apply.
        rewrite: What is done to its chunks.
        seen: The completion that upstream's reassembly makes of the rewritten chunks.
        needs: Which official answers it can apply to.
        modes: Streams only.
    """

    name: str
    failure_class: FailureClass
    prepare: Damage
    rewrite: Callable[[list[Chunk]], list[Chunk]]
    seen: Callable[[Completion], Completion]
    needs: Needs = Needs.CALL
    modes: Modes = Modes.STREAM


class RetryAfter(Enum):
    """How an error answer says when to come back."""

    ABSENT = "absent"
    SECONDS = "seconds"
    DATE = "date"


class Where(Enum):
    """How far an answer gets."""

    BEFORE_HEADERS = "before headers"
    MID_BODY = "mid-body"


@dataclass(frozen=True, slots=True)
class ErrorStatus:
    """An OpenAI-style error body under an HTTP error status."""

    status: int
    retry_after: RetryAfter = RetryAfter.ABSENT


@dataclass(frozen=True, slots=True)
class Redirect:
    """A redirect to another path of the same server."""

    status: int


@dataclass(frozen=True, slots=True)
class WrongBody:
    """Status 200 with a body that is no completion."""

    content_type: str
    make: Callable[[Completion], bytes]


@dataclass(frozen=True, slots=True)
class Reset:
    """A connection that is reset."""

    where: Where


@dataclass(frozen=True, slots=True)
class Stall:
    """An answer that stops coming, over a connection that stays open.

    Attributes:
        where: How far it gets.
        dripping: Whether single bytes go on coming that never complete anything.
    """

    where: Where
    dripping: bool = False


@dataclass(frozen=True, slots=True)
class CutStream:
    """A stream that ends too early: regularly but without its terminal chunk, or by a reset."""

    reset: bool


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """A stream that ends with an error event."""


@dataclass(frozen=True, slots=True)
class OversizedBody:
    """A body that goes on and on."""


Action = ErrorStatus | Redirect | WrongBody | Reset | Stall | CutStream | ErrorEvent | OversizedBody


@dataclass(frozen=True, slots=True)
class TransportFault:
    """An attempt that does not end in a completion.

    Attributes:
        name: Name in profiles; the class's, or a variant's.
        failure_class: What goes wrong.
        action: What the server does.
        needs: Any answer.
        modes: Which requests it can apply to.
    """

    name: str
    failure_class: FailureClass
    action: Action
    needs: Needs = Needs.ANY
    modes: Modes = Modes.ANY

    @property
    def status(self) -> int | None:
        """The HTTP status that the client sees, or None if it sees none."""
        if isinstance(self.action, (ErrorStatus, Redirect)):
            return self.action.status
        if isinstance(self.action, (Reset, Stall)) and self.action.where is Where.BEFORE_HEADERS:
            return None
        return 200


Fault = PayloadFault | StreamFault | TransportFault


def calls_of(completion: Completion) -> list[dict[str, Any]]:
    """Give copies of the tool calls of a completion."""
    return copy.deepcopy(completion["choices"][0]["message"].get("tool_calls") or [])


def altered(completion: Completion, finish_reason: str | None, **members: Any) -> Completion:
    """Give a copy with another finish_reason and other message members; None removes a member."""
    choice = completion["choices"][0]
    message = {**choice["message"], **members}
    message = {key: value for key, value in message.items() if value is not None}
    return {**completion, "choices": [{**choice, "message": message, "finish_reason": finish_reason}]}


def finish_of(completion: Completion) -> str | None:
    """Give the finish_reason of choice 0."""
    finish_reason: str | None = completion["choices"][0]["finish_reason"]
    return finish_reason


def content_of(completion: Completion) -> str:
    """Give the content of choice 0."""
    content: str = completion["choices"][0]["message"]["content"]
    return content


def with_calls(completion: Completion, calls: list[dict[str, Any]]) -> Completion:
    """Give a copy with these tool calls."""
    return altered(completion, finish_of(completion), tool_calls=calls)
