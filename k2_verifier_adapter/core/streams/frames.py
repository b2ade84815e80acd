"""The frames of one stream against the contract: what clients rely on beyond the text that comes of them.

No score depends on it; `kimi_conformance` asks about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FRAME_FAULTS: Mapping[str, str] = {
    "one_id": "chunks carry different ids",
    "role_once": "the role does not come exactly once, in the first delta",
    "call_index": "a tool call delta carries no index",
    "call_head": "the first delta of a call lacks its id or its name",
    "argument_texts": "a piece of arguments is no text",
    "finish_once": "no finish_reason comes, or several do",
    "finish_last": "a delta with output follows the finish_reason",
    "done": "the stream does not end with [DONE]",
}
"""What is looked at, by the name used in files, and what is wrong where it is not as it should be."""


class FrameWatch:
    """Watch the chunks of one stream.

    Attributes:
        usage_in_choice: Whether a usage came inside a choice, as Moonshot's API reports it.
    """

    def __init__(self) -> None:
        self.usage_in_choice = False
        self._broken: dict[str, None] = {}
        self._id: Any = None
        self._deltas = self._roles = self._finishes = 0
        self._heads: set[str] = set()
        self._last: tuple[bool, bool] = (False, False)

    def add(self, chunk: Mapping[str, Any]) -> None:
        """Take one chunk."""
        identity = chunk.get("id")
        # Some servers leave it out of a chunk without choices.
        if identity:
            if self._id is not None and identity != self._id:
                self._broken["one_id"] = None
            self._id = identity
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return
        self.usage_in_choice = self.usage_in_choice or bool(choice.get("usage"))
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        self._add_delta(delta)
        finish = bool(choice.get("finish_reason"))
        self._finishes += finish
        self._last = bool(delta.get("role")), finish

    def repeated(self) -> None:
        """Note that the last chunk came again, but for its piece of text."""
        role, finish = self._last
        self._roles += role
        self._finishes += finish

    def _add_delta(self, delta: Mapping[str, Any]) -> None:
        output = any(value for name, value in delta.items() if name != "role")
        if self._finishes and output:
            self._broken["finish_last"] = None
        if delta.get("role"):
            self._roles += 1
            if self._deltas:
                self._broken["role_once"] = None
        self._deltas += bool(delta)
        calls = delta.get("tool_calls")
        for part in calls if isinstance(calls, list) else ():
            if isinstance(part, dict):
                self._add_call(part)

    def _add_call(self, part: Mapping[str, Any]) -> None:
        index, function = part.get("index"), part.get("function")
        function = function if isinstance(function, dict) else {}
        if index is None:
            self._broken["call_index"] = None
        key = repr(index)
        if key not in self._heads:
            self._heads.add(key)
            if not part.get("id") or not function.get("name"):
                self._broken["call_head"] = None
        arguments = function.get("arguments")
        if arguments is not None and not isinstance(arguments, str):
            self._broken["argument_texts"] = None

    def faults(self, *, done: bool) -> tuple[str, ...]:
        """List what was not as it should be; `done` says whether `[DONE]` came."""
        broken = dict(self._broken)
        if self._roles != 1:
            broken["role_once"] = None
        if self._finishes != 1:
            broken["finish_once"] = None
        if not done:
            broken["done"] = None
        return tuple(name for name in FRAME_FAULTS if name in broken)
