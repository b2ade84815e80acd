"""Plain or streamed: which requests something can apply to."""

from __future__ import annotations

from enum import Enum


class Modes(Enum):
    """Which requests a fault or a wire shape can apply to."""

    ANY = "any request"
    PLAIN = "requests without stream"
    STREAM = "requests with stream"

    def include(self, *, stream: bool) -> bool:
        """Say whether a request with or without `stream` qualifies."""
        return self is Modes.ANY or (self is Modes.STREAM) == stream
