"""Event streams: from bytes to events, in reads of any size.

The framing follows the WHATWG event-stream rules: LF, CR and CRLF line ends, comments, data fields of
several lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

_DONE = b"[DONE]"
_BOM = b"\xef\xbb\xbf"


def is_done(data: bytes) -> bool:
    """Whether an event ends the stream; upstream does not look at what follows in its data."""
    return data.lstrip().startswith(_DONE)


class EventDecoder:
    """Cut a byte stream into the data of its events.

    Lines are only decoded as a whole, so a multi-byte character split between two reads is safe.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._after_cr = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """Give the data of every event that `chunk` completes."""
        if self._after_cr and chunk:
            # The line ended at the CR already; a LF that follows belongs to it.
            chunk = chunk[1:] if chunk[:1] == b"\n" else chunk
            self._after_cr = False
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._rest:
            self._rest += chunk
            if b"\n" not in chunk:
                return []
            chunk = bytes(self._rest)
        complete: list[bytes] = []
        *events, rest = chunk.split(b"\n\n")
        for event in events:
            if event.startswith(b"data: ") and b"\n" not in event and not self._data:
                # What nearly all events are: one line of data.
                self._at_start = False
                complete.append(event[6:])
            else:
                self._take_lines([*event.split(b"\n"), b""], complete)
        if b"\n" in rest:
            *lines, rest = rest.split(b"\n")
            self._take_lines(lines, complete)
        self._rest = bytearray(rest)
        return complete

    def _take_lines(self, lines: list[bytes], complete: list[bytes]) -> None:
        """Take whole lines, and add the data of the events that they complete."""
        for line in lines:
            if self._at_start:
                self._at_start = False
                line = line.removeprefix(_BOM)
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif not line and self._data:
                complete.append(self._take())

    def close(self) -> Iterator[bytes]:
        """Yield the data of a last event that lacks its blank line, as some servers send it.

        Only a whole event counts: one that was cut off in the middle is dropped, as clients in the
        field do, so that a cut stream is a cut stream and not one with a bad event.
        """
        line = bytes(self._rest)
        self._rest = bytearray()
        if self._at_start:
            line = line.removeprefix(_BOM)
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        if self._data:
            data = self._take()
            if is_done(data) or _is_json(data):
                yield data

    def _take(self) -> bytes:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data = []
        return data


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return False
    return True
