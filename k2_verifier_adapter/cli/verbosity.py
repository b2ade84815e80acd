"""`--verbose`: the log of this package, EvalScope's debug log and tracebacks, on standard error."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import logging

LOGGER = "k2_verifier_adapter"
_VERBOSE = "k2_verifier_adapter.verbose"
_EVALSCOPES_LEVEL = "EVALSCOPE_LOG_LEVEL"
"""EvalScope 1.14.1 reads its level from here when it is imported, and so do processes that are started."""


def verbose_option() -> click.Option:
    """Make the option, which stands before the command or behind it."""
    return click.Option(
        ["-v", "--verbose"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_be_verbose,
        help="Log to standard error what is done, with EvalScope's debug log; show tracebacks.",
    )


def is_verbose(ctx: click.Context) -> bool:
    """Whether the user asked for it."""
    return bool(ctx.meta.get(_VERBOSE))


def _be_verbose(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001, FBT001 - click's
    if not value or is_verbose(ctx):
        return
    import logging
    import platform
    import time

    from k2_verifier_adapter.version import __version__

    ctx.meta[_VERBOSE] = True
    root, started = ctx.find_root(), time.monotonic()
    set_for_command(ctx, _EVALSCOPES_LEVEL, "DEBUG")
    logger = _logger(root)
    logger.setLevel(logging.DEBUG)
    logger.debug("k2-verifier %s, Python %s, %s", __version__, platform.python_version(), platform.platform())
    root.call_on_close(lambda: logger.debug("ended after %.2f s", time.monotonic() - started))


def set_for_command(ctx: click.Context, name: str, value: str) -> None:
    """Set an environment variable until the command ends."""
    before = os.environ.get(name)
    os.environ[name] = value

    def restore() -> None:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before

    ctx.find_root().call_on_close(restore)


def _logger(root: click.Context) -> logging.Logger:
    """Give this package's logger, which writes to standard error until the command ends."""
    import logging

    logger = logging.getLogger(LOGGER)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("k2-verifier: %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False

        def restore() -> None:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
            logger.propagate = True

        root.call_on_close(restore)
    return logger


def say_defect(ctx: click.Context, error: Exception) -> None:
    """Say in one line what went wrong unexpectedly; with `--verbose`, show where.

    Through the log, which hides the keys that a run knows.
    """
    from k2_verifier_adapter.core.printable import printable

    logger = _logger(ctx.find_root())
    if is_verbose(ctx):
        logger.error("error: unexpected", exc_info=error)
        return
    said = printable(str(error)) or "no message"
    logger.error(
        "error: unexpected %s: %s (an error of k2-verifier: again with -v for the traceback, to report it)",
        type(error).__name__,
        said,
    )
