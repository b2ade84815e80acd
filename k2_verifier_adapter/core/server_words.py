"""What the servers of failed requests say: counted by message, in their own words."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.gateways import gateway_in_words
from k2_verifier_adapter.core.json_text import excerpt
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.refusals import RefusalReason, sort_refusal

MAX_MESSAGES = 200
"""Different messages that are kept; further ones are counted together."""

MAX_CASES = 10
LONGEST_MESSAGE = 300

_SPEAKING = frozenset(
    {
        FailureClass.HTTP_4XX,
        FailureClass.HTTP_5XX,
        FailureClass.RATE_LIMITED,
        FailureClass.STREAM_ERROR_EVENT,
        FailureClass.NOT_A_COMPLETION,
    }
)
"""Failures whose detail holds a server's words; those of lost connections are the client's."""

_PREFIX = re.compile(r"(?:HTTP \d{3}|Error code: \d{3}|error event|status 200 with an error object)(?::| -) ")
_MEMBER = r"""['"]{}['"]\s{{0,5}}:\s{{0,5}}(?P<quote>['"])(?P<words>(?:\\.|(?!(?P=quote)|\\).){{1,600}})"""
_MEMBERS = tuple(re.compile(_MEMBER.format(name)) for name in ("message", "msg", "detail", "error"))
_TITLE = re.compile(r"<title>([^<]{1,200})</title>", re.IGNORECASE)
_CHANGING = re.compile(r"[0-9a-f]{8,64}(?:-[0-9a-f]{4,12}){0,4}|\d{1,20}", re.IGNORECASE)


@dataclass(slots=True)
class ServerMessage:
    """One message, and the failed requests that got it.

    Attributes:
        text: It as the first of them got it; others may differ in numbers.
        gateway: The gateway whose words it is; None if it may be the server's own.
        cases: The 0-based row numbers of the first of those requests.
    """

    failure_class: FailureClass
    reason: RefusalReason | None
    status: int | None
    text: str
    gateway: str | None
    count: int = 0
    cases: dict[int, None] = field(default_factory=dict)


@dataclass(slots=True)
class Refusals:
    """The messages of a run's failed requests; those beyond the first `MAX_MESSAGES` only by number."""

    messages: dict[tuple[FailureClass, int | None, str], ServerMessage] = field(default_factory=dict)
    others: int = 0

    def add(self, request: FailedRequest) -> RefusalReason | None:
        """Count a failed request; give what its server says is in the way."""
        kind, detail = request.failure.failure_class, request.failure.detail
        if kind not in _SPEAKING:
            return None
        said = _PREFIX.sub("", detail, count=1)
        reason, words = sort_refusal(said), words_of(said)
        key = (kind, request.status, _CHANGING.sub("#", words))
        message = self.messages.get(key)
        if message is None:
            if len(self.messages) >= MAX_MESSAGES:
                self.others += 1
                return reason
            gateway = gateway_in_words(said)
            message = ServerMessage(kind, reason, request.status, words, gateway)
            self.messages[key] = message
        message.count += 1
        if len(message.cases) < MAX_CASES:
            message.cases[request.case_index] = None
        return reason

    def merge(self, other: Refusals) -> None:
        """Take in those of other cases."""
        self.others += other.others
        for key, message in other.messages.items():
            ours = self.messages.get(key)
            if ours is None:
                if len(self.messages) >= MAX_MESSAGES:
                    self.others += message.count
                    continue
                ours = ServerMessage(key[0], message.reason, key[1], message.text, message.gateway)
                self.messages[key] = ours
            ours.count += message.count
            for case in message.cases:
                if len(ours.cases) < MAX_CASES:
                    ours.cases[case] = None

    def commonest(self) -> list[ServerMessage]:
        """List the messages, the commonest first."""
        return sorted(self.messages.values(), key=_rank)

    def without_words(self, redacted: str) -> Refusals:
        """Give the same numbers, with this in the place of the words."""
        return Refusals(
            {key: replace(message, text=redacted) for key, message in self.messages.items()}, self.others
        )


def _rank(message: ServerMessage) -> tuple[int, int, str, int]:
    """Order by number, then by what stays where the words are redacted."""
    first = min(message.cases, default=0)
    return -message.count, first, message.failure_class.value, message.status or 0


def words_of(said: str) -> str:
    """Give the words of an error body, be it JSON, Python's repr of it, cut off, HTML or plain text."""
    for pattern in _MEMBERS:
        match = pattern.search(said)
        if match:
            words = match["words"].replace("\\n", " ").replace('\\"', '"').replace("\\'", "'")
            return excerpt(" ".join(words.split()), LONGEST_MESSAGE)
    title = _TITLE.search(said)
    return excerpt(" ".join((title[1] if title else said).split()), LONGEST_MESSAGE)
