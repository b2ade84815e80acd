"""What a run shows on a terminal: this package's own words, and no more of EvalScope's than its warnings."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any, TextIO

from evalscope.utils import tqdm_utils
from evalscope.utils.logger import get_logger

_OWN = f"{os.sep}k2_verifier_adapter{os.sep}"
_HEARTBEAT = "tqdm_logging.py"
_BENCHMARKS = "Running["
REPEATED = {"is_repeated": True}
"""`extra` of a message that the report says again; it stays in the log of the run."""


@contextmanager
def quiet() -> Iterator[None]:
    """Show neither what EvalScope 1.14.1 logs of itself, nor its bar over the benchmarks, which are one.

    The log file of the run holds all of it. At EvalScope's debug level nothing is left out.
    """
    logger = get_logger()
    if logger.isEnabledFor(logging.DEBUG):
        yield
        return
    bar = tqdm_utils.TqdmLogging

    class OwnBars(bar):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, desc: str = "", **kwargs: Any) -> None:
            if desc.startswith(_BENCHMARKS):
                kwargs["file"] = _Nowhere()
            super().__init__(*args, desc=desc, **kwargs)

    logger.addFilter(_is_shown)
    tqdm_utils.TqdmLogging = OwnBars
    try:
        yield
    finally:
        tqdm_utils.TqdmLogging = bar
        logger.removeFilter(_is_shown)


def bar_stream() -> TextIO | None:
    """Where a progress bar is drawn: on a terminal; in a file or a pipe every step of it would be debris."""
    return None if sys.stderr.isatty() else _Nowhere()


class _Nowhere(StringIO):
    """Takes everything, and keeps nothing."""

    def write(self, text: str) -> int:
        """Say that it was written."""
        return len(text)


def _is_shown(record: logging.LogRecord) -> bool:
    """Let a record through to the terminal, or to the log file of the run alone."""
    is_told = record.levelno >= logging.WARNING or (
        _OWN in record.pathname and not hasattr(record, "is_repeated")
    )
    is_heartbeat = record.filename == _HEARTBEAT and not record.getMessage().startswith(_BENCHMARKS)
    if is_told or (is_heartbeat and not sys.stderr.isatty()):
        return True
    for handler in logging.getLogger(record.name).handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
    return False
