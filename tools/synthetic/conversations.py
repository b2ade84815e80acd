"""Message histories: system messages, talk, rounds of tool calls, and the last request."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

from synthetic.documents import Composer, document, log, records, rule_book
from synthetic.plans import History, Plan, Quirk
from synthetic.toolbox import Toolbox, Wish
from synthetic.vocabulary import TEXTS

Message = dict[str, Any]

_RESULT_COMPOSERS: dict[str, Composer] = {"records": records, "log": log, "document": document}
_SMALLEST_WITH_SYSTEM = 450
"""Requests below this many characters have no system message."""


@dataclass
class Slot:
    """A message that can be made longer, so that the request reaches its size.

    Attributes:
        message: The message.
        opening: What its content begins with, whatever follows.
        compose: Composes what follows.
    """

    message: Message
    opening: str
    compose: Composer


@dataclass
class Conversation:
    """The messages of a row, and what the official model made of them.

    Attributes:
        messages: The history, last request included.
        slots: Messages that can grow.
        historical_calls: Number of tool calls in the history, which later ids count on from.
        wishes: What the official answer calls; empty if it calls nothing.
        answer: The official answer as text; None if it is a call.
    """

    messages: list[Message] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    historical_calls: int = 0
    wishes: list[Wish] = field(default_factory=list)
    answer: str | None = None


def call_object(call_id: str, wish: Wish, *, compact: bool) -> dict[str, Any]:
    """Write one tool call; `arguments` is JSON text, as a model writes it."""
    separators = (",", ":") if compact else (", ", ": ")
    text = json.dumps(wish.arguments, ensure_ascii=False, separators=separators)
    return {"id": call_id, "type": "function", "function": {"name": wish.tool_name, "arguments": text}}


def converse(plan: Plan, rng: Random, toolbox: Toolbox) -> Conversation:
    """Write the conversation that the plan asks for."""
    return _Writer(plan, rng, toolbox).write()


class _Writer:
    def __init__(self, plan: Plan, rng: Random, toolbox: Toolbox) -> None:
        self._plan = plan
        self._rng = rng
        self._toolbox = toolbox
        self._names_on_results = rng.random() < 0.6
        self._compact = rng.random() < 0.3
        self._made = Conversation()

    def write(self) -> Conversation:
        """Write all messages."""
        self._system()
        if self._plan.history is History.TALK:
            for _ in range(1 + self._rng.randrange(3)):
                user, assistant = self._small_talk()
                self._say("user", user)
                self._say("assistant", assistant)
        if self._plan.history is History.TOOLS:
            for _ in range(1 + self._rng.randrange(2 + min(3, self._plan.size // 4000))):
                self._finished_round()
        self._last_request()
        return self._made

    def _system(self) -> None:
        if self._plan.size >= _SMALLEST_WITH_SYSTEM and self._rng.random() < 0.8:
            role = TEXTS["roles"][self._toolbox.main.domain][self._plan.language]
            self._made.slots.append(Slot(self._say("system", role), f"{role}\n\n", rule_book))

    def _finished_round(self) -> None:
        wishes = [self._toolbox.wish_with_arguments()]
        if self._rng.random() < 0.2:
            wishes.append(self._toolbox.wish_with_arguments())
        self._say("user", self._joined([wish.ask for wish in wishes]))
        self._call(wishes)
        self._say("assistant", self._one_of("summaries"))

    def _last_request(self) -> None:
        made = self._made
        done = []
        if self._plan.history is History.TOOLS and self._rng.random() < 0.4:
            done = [self._toolbox.wish_with_arguments()]
        if self._plan.call_count:
            made.wishes = [self._toolbox.wish_for_main()]
            made.wishes += [self._another_wish() for _ in range(1, self._plan.call_count)]
            asked = [wish.ask for wish in (*done, *made.wishes)]
        elif done:
            asked = [done[0].ask]
            made.answer = self._one_of("summaries")
        else:
            asked, made.answer = self._request_without_call()
        if self._plan.finish_reason == "length":
            made.answer = document(self._rng, self._plan.language, 2_000)[:-7]
        text = self._joined(asked)
        message = self._say("user", text)
        if not done and self._plan.quirk is not Quirk.TINY:
            made.slots.append(Slot(message, f"{text}\n\n", document))
        if done:
            self._call(done)

    def _another_wish(self) -> Wish:
        return self._toolbox.wish_for_main() if self._rng.random() < 0.5 else self._toolbox.wish_for_any()

    def _request_without_call(self) -> tuple[list[str], str]:
        if self._plan.quirk is not Quirk.TINY and self._rng.random() < 0.6:
            user, assistant = self._small_talk()
            return [user], assistant
        ask = self._toolbox.wish_for_main().ask
        return [ask], self._one_of("clarifications")

    def _call(self, wishes: list[Wish]) -> None:
        made = self._made
        calls = []
        for wish in wishes:
            call_id = f"functions.{wish.tool_name}:{made.historical_calls}"
            calls.append(call_object(call_id, wish, compact=self._compact))
            made.historical_calls += 1
        made.messages.append({"role": "assistant", "content": "", "tool_calls": calls})
        for call, wish in zip(calls, wishes, strict=True):
            compose = _RESULT_COMPOSERS[wish.result]
            message: Message = {"role": "tool", "tool_call_id": call["id"]}
            if self._names_on_results:
                message["name"] = wish.tool_name
            message["content"] = compose(self._rng, self._plan.language, 40)
            made.messages.append(message)
            made.slots.append(Slot(message, "", compose))

    def _say(self, role: str, content: str) -> Message:
        message: Message = {"role": role, "content": content}
        self._made.messages.append(message)
        return message

    def _joined(self, asks: list[str]) -> str:
        text = asks[0]
        for ask in asks[1:]:
            text += self._one_of("connectors") + ask
        return text

    def _small_talk(self) -> tuple[str, str]:
        user, assistant = self._rng.choice(TEXTS["small_talk"][self._plan.language])
        return user, assistant

    def _one_of(self, texts: str) -> str:
        return str(self._rng.choice(TEXTS[texts][self._plan.language]))
