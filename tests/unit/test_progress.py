"""Progress bars: on a terminal, and nowhere else."""

import contextlib
import io
import logging
import os
import sys

import pytest
from evalscope.utils import tqdm_utils
from evalscope.utils.logger import get_logger

from k2_verifier_adapter.cli.output import progress
from k2_verifier_adapter.evalscope_plugin.console import REPEATED, bar_stream, quiet

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


def test_evalscopes_own_words_go_to_the_log_alone(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    """The terminal gets warnings and what this package says; the run's log file gets everything."""
    logger = get_logger(log_file=str(tmp_path / "eval.log"), force=True)
    console = logging.StreamHandler(sys.stderr)
    logger.addHandler(console)
    here = {"pathname": "/x/k2_verifier_adapter/loading.py"}
    try:
        with quiet():
            for level, words, fields in (
                ("INFO", "settings", {}),
                ("WARNING", "warned", {}),
                ("INFO", "rows", here),
                ("INFO", "verdict", {**here, **REPEATED}),
            ):
                record = {
                    "name": logger.name,
                    "msg": words,
                    "levelname": level,
                    "levelno": getattr(logging, level),
                }
                logger.handle(logging.makeLogRecord({**record, **fields}))
        logger.info("after")
    finally:
        logger.removeHandler(console)
    assert capsys.readouterr().err.split() == ["warned", "rows", "after"]
    words = [line.rpartition(" ")[2] for line in (tmp_path / "eval.log").read_text().splitlines()]
    assert words == ["settings", "warned", "rows", "verdict", "after"]


def test_no_bar_is_drawn_into_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where standard error is no terminal, EvalScope's bar counts and is not drawn."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with quiet(), tqdm_utils.TqdmLogging(total=2, desc="Running[eval]") as bar:
        bar.update(2)
        assert bar.n == 2
    with tqdm_utils.TqdmLogging(total=2, desc="Evaluating[k2_verifier]", file=bar_stream()) as bar:
        bar.update(2)
    assert stream.getvalue() == ""
