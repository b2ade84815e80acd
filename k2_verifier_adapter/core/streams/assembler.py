"""Event streams: from completion chunks to one completion.

The assembly follows upstream's: the first choice of each chunk counts, its deltas are collected by
`index` (null counts as 0), id and type come from the first delta, a later name overwrites, arguments are
concatenated. Declared deviation 5: of several choices the one that is numbered 0 counts, and deltas of
the wrong type are read as far as they can be.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.json_text import MAX_VALUES, JsonTextError, check_values, shown
from k2_verifier_adapter.core.responses import NotACompletion, Response, read_completion
from k2_verifier_adapter.core.streams.envelopes import Envelope, find_envelope
from k2_verifier_adapter.core.streams.frames import FrameWatch

_TRIES = 4
"""Envelopes in a row that may be learnt in vain: a stream whose chunks share none is only parsed."""


_WHOLE_NUMBER = re.compile(r"\s*([+-]?\d{1,18})(?:\.0*)?\s*", re.ASCII)


def _number(index: Any) -> Any:
    """Read an index as upstream's client does: "0" and 0.0 are 0; what is no whole number stays a text."""
    if isinstance(index, int):
        return index
    text = index if isinstance(index, str) else json.dumps(index)
    match = _WHOLE_NUMBER.fullmatch(text)
    return int(match[1]) if match else text


def _call_key(index: Any) -> Any:
    """Give the key under which the deltas of a call are collected."""
    return 0 if index is None else _number(index)


@dataclass(slots=True)
class _Call:
    """A tool call under construction."""

    id: Any
    type: Any
    name: Any = ""
    arguments: list[Any] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        function = {"name": self.name, "arguments": self._joined()}
        return {"id": self.id, "type": self.type, "function": function}

    def _joined(self) -> Any:
        parts = [part for part in self.arguments if part != ""]
        if len(parts) == 1 and isinstance(parts[0], dict):
            # It came parsed, and is stored as it came.
            return parts[0]
        # A parsed value cannot be concatenated; its text can.
        return "".join(part if isinstance(part, str) else json.dumps(part) for part in parts)


def _choice_number(choice: Any) -> Any:
    index = choice.get("index") if isinstance(choice, dict) else None
    return None if index is None else _number(index)


_LEAST_CUMULATIVE = 3
"""Pieces of a text, each beginning with the one before it, from which on a stream counts as cumulative."""

_LEAST_GROWTH = 16
"""Characters that the last of them has at least: "ha", "haha", "hahaha" is text."""


def _is_cumulative(pieces: list[Any], *, arguments: bool = False) -> bool:
    """Whether each piece is the one before it and more: what a stream said is said again.

    Of arguments two pieces are enough, if the last is all of them.
    """
    said = [piece for piece in pieces if piece]
    if len(said) < 2 or not all(isinstance(piece, str) for piece in said):
        return False
    if not all(len(later) > len(earlier) and later.startswith(earlier) for earlier, later in pairwise(said)):
        return False
    if len(said) >= _LEAST_CUMULATIVE and len(said[-1]) >= _LEAST_GROWTH:
        return True
    try:
        return arguments and isinstance(json.loads(said[-1]), dict)
    except (ValueError, RecursionError):
        return False


class ChunkAssembler:
    """Assemble the chunks of one streamed completion.

    Attributes:
        anomalies: The stream failure classes seen, in order of appearance, without repetition.
        error: The error of an error event, once one has come.
        chunks: Events that carried a choice.
        outputs: Deltas with content, reasoning or a call.
        frames: What watches the frames.
    """

    def __init__(self) -> None:
        self.anomalies: dict[FailureClass, None] = {}
        self.error: Any = None
        self.frames = FrameWatch()
        self.events = 0
        self.chunks = 0
        self.outputs = 0
        self._head: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {}
        self._lists: dict[str, list[Any]] = {}
        self._fields: dict[str, Any] = {}
        self._calls: dict[Any, _Call] = {}
        self._finish_reason: Any = None
        self._native_finish_reason: Any = None
        self._choice: Any = None
        self._calls_elsewhere = False
        self._empty_calls = False
        self._begun = False
        self._usage: Any = None
        self._bad_event: str | None = None
        self._too_many = False
        self._event = ""
        self._values = 0
        self._envelope: Envelope | None = None
        self._pieces: list[Any] = []
        self._learnt_at = 0
        self._tries = _TRIES

    @property
    def failed(self) -> bool:
        """Whether what has come so far already makes the request a failed one."""
        return self.error is not None or self._bad_event is not None or self._too_many

    @property
    def has_output(self) -> bool:
        """Whether any delta with content, reasoning or a call has come."""
        return self.outputs > 0

    @property
    def finished(self) -> bool:
        """Whether a terminal finish_reason has come."""
        return bool(self._finish_reason)

    def add(self, data: bytes) -> None:
        """Take the data of one event; `[DONE]` is the caller's, and an event without data is none."""
        if not data or data.isspace():
            return
        self.events += 1
        text = data.decode("utf-8", "replace")
        if self._envelope is not None:
            piece = self._envelope.piece(text)
            if piece is not None:
                # Parsed whole, it would do nothing else: all that is around the piece came before.
                self._pieces.append(piece)
                self.chunks += 1
                self.outputs += bool(piece)
                return
        try:
            self._add_event(data, text)
        except RecursionError:
            self._bad_event = f"an event is nested too deeply: {shown(data)}"

    def _add_event(self, data: bytes, text: str) -> None:
        if self.failed:
            # The first failure counts, in however many reads the events come.
            return
        self._forget_envelope()
        try:
            check_values(text)
        except JsonTextError:
            self._too_many = True
            return
        self._event = text
        try:
            chunk = json.loads(text)
        except ValueError as error:
            self._bad_event = f"an event is not JSON ({error}): {shown(data)}"
            return
        if not isinstance(chunk, dict):
            # Passed over, as upstream does: some servers send `null` or "ping" to stay connected.
            return
        if chunk.get("error"):
            self.error = chunk["error"]
            return
        self._add_chunk(chunk)
        if self._tries:
            self._learn_envelope(text, chunk)

    def _add_chunk(self, chunk: dict[str, Any]) -> None:
        self.frames.add(chunk)
        for name in ("id", "created", "model", "system_fingerprint", "service_tier", "provider"):
            value = chunk.get(name)
            if value is not None and name not in self._head:
                self._head[name] = value
        if chunk.get("usage"):
            self._usage = chunk["usage"]
        choices = chunk.get("choices")
        if isinstance(choices, list) and choices:
            self.chunks += 1
            self._add_choice_of(choices)

    def _add_choice_of(self, choices: list[Any]) -> None:
        """Add the choice that counts: the one that is numbered 0, and the first until there is one."""
        choice, number = choices[0], _choice_number(choices[0])
        self._calls_elsewhere = self._calls_elsewhere or any(map(_carries_calls, choices[1:]))
        if number != 0 and len(choices) > 1:
            choice = next((other for other in choices if _choice_number(other) == 0), choice)
            number = _choice_number(choice)
        if number is None:
            # Of the choice that the stream is about.
            number = self._choice
        elif number == 0 and self._choice not in (None, 0):
            # Until now the stream had one choice, of another number.
            self._calls_elsewhere = self._calls_elsewhere or bool(self._calls)
            for collected in (self._texts, self._lists, self._fields, self._calls, self.anomalies):
                collected.clear()
            self._finish_reason = None
        elif self._choice == 0 != number:
            self._calls_elsewhere = self._calls_elsewhere or _carries_calls(choice)
            return
        self._choice = number
        if isinstance(choice, dict):
            self._add_choice(choice)

    def _learn_envelope(self, text: str, chunk: dict[str, Any]) -> None:
        """Learn what the next chunk will look like if nothing but one string is new in it."""
        found = find_envelope(text, chunk)
        if found is None:
            return
        self._tries -= 1
        self._envelope, path = found
        self._learnt_at = self.events
        if path[-1] == "arguments" and len(path) > 4:
            part = chunk["choices"][0]["delta"]["tool_calls"][0]
            self._pieces = self._calls[_call_key(part.get("index"))].arguments
        else:
            self._pieces = self._texts[str(path[-1])]

    def _forget_envelope(self) -> None:
        if self._envelope is not None and self.events > self._learnt_at + 1:
            # It was of use.
            self._tries = _TRIES
            self.frames.repeated()
        self._envelope = None

    def _add_choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            for name, value in delta.items():
                self._add_delta(name, value)
        is_empty = not isinstance(delta, dict) or _says_nothing(delta)
        if is_empty and choice.get("message") and isinstance(choice["message"], dict):
            self.anomalies[FailureClass.STREAM_MESSAGE_FOR_DELTA] = None
        if choice.get("finish_reason"):
            self._finish_reason = choice["finish_reason"]
        elif self._begun and is_empty and isinstance(delta, dict) and delta.get("tool_calls") == []:
            # By itself, and not beside a text or at the beginning, as some servers write it.
            self._empty_calls = True
        self._begun = True
        if choice.get("native_finish_reason"):
            self._native_finish_reason = choice["native_finish_reason"]
        if choice.get("usage"):
            # Moonshot reports the usage inside the last choice.
            self._usage = choice["usage"]

    def _add_delta(self, name: str, value: Any) -> None:
        if name == "tool_calls":
            if isinstance(value, list) and all(isinstance(part, dict) for part in value):
                for part in value:
                    self._add_call(part)
            elif value:
                # It stands in the place of the calls, and makes the response invalid as in a body.
                self.outputs += 1
                self._fields[name] = value
        elif isinstance(value, str) and name != "role":
            self.outputs += bool(value)
            self._texts.setdefault(name, []).append(value)
        elif isinstance(value, list):
            self.outputs += bool(value)
            self._lists.setdefault(name, []).extend(value)
            # Counted by commas, those of the whole event: a bound is enough.
            self._values += 1 + self._event.count(",")
            self._too_many = self._too_many or self._values > MAX_VALUES
        elif value is not None:
            self._fields[name] = value

    def _add_call(self, part: dict[str, Any]) -> None:
        self.outputs += 1
        index = part.get("index")
        if index is None:
            self.anomalies[FailureClass.STREAM_INDEX_MISSING] = None
        key = _call_key(index)
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = _Call(part.get("id"), part.get("type"))
        function = part.get("function")
        if not isinstance(function, dict):
            return
        name = function.get("name")
        if name:
            if call.name:
                self.anomalies[FailureClass.STREAM_NAME_REPEATED] = None
            call.name = name
        arguments = function.get("arguments")
        if arguments:
            # What is empty adds nothing, of whatever type it is (upstream).
            call.arguments.append(arguments)

    def completion(self) -> dict[str, Any]:
        """Give what has come so far as a completion object."""
        message: dict[str, Any] = {"role": "assistant", "content": ""}
        message.update((name, "".join(parts)) for name, parts in self._texts.items())
        message.update(self._lists)
        message.update(self._fields)
        if self._calls and "tool_calls" not in self._fields:
            message["tool_calls"] = [call.as_json() for call in self._calls.values()]
        choice = {"index": 0, "message": message, "finish_reason": self._finish_reason}
        if self._native_finish_reason is not None:
            # OpenRouter's: how the provider behind it ended.
            choice["native_finish_reason"] = self._native_finish_reason
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": self._usage,
        }

    def result(self) -> Response | NotACompletion:
        """Judge the end of the stream: a completion, or the reason why there is none.

        Declared deviation 1: a stream without a terminal finish_reason, with an error event, or
        with a body that is no event stream, is a failed request.
        """
        if self.error is not None:
            return NotACompletion(FailureClass.STREAM_ERROR_EVENT, f"error event: {shown(self.error, 300)}")
        if self._bad_event is not None:
            return NotACompletion(FailureClass.NOT_A_COMPLETION, self._bad_event)
        if self._too_many:
            return NotACompletion(
                FailureClass.RESPONSE_TOO_LARGE, f"it may hold more than {MAX_VALUES:,} values"
            )
        if not self.events:
            return NotACompletion(
                FailureClass.NOT_A_COMPLETION, "a stream was asked for and the body is no event stream"
            )
        if not self.finished:
            return NotACompletion(
                FailureClass.STREAM_CUT,
                f"the stream ended after {self.events} events without a finish_reason",
            )
        if self._envelope is not None and self.events > self._learnt_at:
            self.frames.repeated()
        self._note_calls()
        return read_completion(self.completion())

    def _note_calls(self) -> None:
        """Note what only the whole stream tells."""
        calls = self._calls.values()
        if any(call.id is None for call in calls):
            self.anomalies[FailureClass.STREAM_ID_MISSING] = None
        if (self._empty_calls and not calls) or (calls and not any(map(_says_something, calls))):
            self.anomalies[FailureClass.STREAM_EMPTY_TOOL_CALLS] = None
        if self._calls_elsewhere and not calls:
            self.anomalies[FailureClass.CALL_IN_OTHER_CHOICE] = None
        if any(map(_is_cumulative, self._texts.values())) or any(
            _is_cumulative(call.arguments, arguments=True) for call in calls
        ):
            self.anomalies[FailureClass.STREAM_CUMULATIVE] = None


def _says_nothing(delta: dict[str, Any]) -> bool:
    return not any(value for name, value in delta.items() if name != "role")


def _carries_calls(choice: Any) -> bool:
    delta = choice.get("delta") if isinstance(choice, dict) else None
    return isinstance(delta, dict) and bool(delta.get("tool_calls"))


def _says_something(call: _Call) -> bool:
    return bool(call.id or call.name or call.arguments)
