"""Progress bars: on a terminal, and nowhere else."""

import contextlib
import io
import os

import pytest

from k2_verifier_adapter.cli.output import progress

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar names what is done, goes to its end, and leaves the line when all is done."""
    reading, writing = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with os.fdopen(writing, "w") as terminal, monkeypatch.context() as patched:
        patched.setattr("sys.stderr", terminal)
        with progress("scoring", 10) as advance:
            advance(4)
            advance(6)
    shown = _all_of(reading).decode()
    assert "scoring" in shown
    assert "100%" in shown
    assert shown.rstrip().endswith("\x1b[2K")


def _all_of(reading: int) -> bytes:
    """Read what was written to a pseudo-terminal whose other end is closed."""
    found = b""
    with contextlib.suppress(OSError):  # Linux ends with EIO
        while chunk := os.read(reading, 1 << 16):
            found += chunk
    os.close(reading)
    return found


def test_a_pipe_stays_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where standard error is no terminal, nothing is written."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with progress("scoring", 10) as advance:
        advance(10)
    assert stream.getvalue() == ""
