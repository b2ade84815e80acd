"""Where a command's output goes: a terminal, a pipe or a file."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from k2_verifier_adapter.cli.verbosity import set_for_command

if TYPE_CHECKING:
    from k2_verifier_adapter.core.summary import Summary


_COLOUR = "k2_verifier_adapter.colour"
_NO_COLOUR = "NO_COLOR"


def colour_wanted() -> bool:
    """Whether standard output is a terminal that may be coloured (https://no-color.org)."""
    ctx = click.get_current_context(silent=True)
    decided = None if ctx is None else ctx.meta.get(_COLOUR)
    return _may_be_coloured(sys.stdout) if decided is None else bool(decided)


def decide_colour(ctx: click.Context) -> None:
    """Settle whether standard output is coloured; have EvalScope's log plain where it is not to be.

    EvalScope 1.14.1 colours its log on standard error even in a file, but for NO_COLOR.
    """
    ctx.meta[_COLOUR] = _may_be_coloured(sys.stdout)
    if not _may_be_coloured(sys.stderr):
        set_for_command(ctx, _NO_COLOUR, "1")


def _may_be_coloured(stream: IO[str]) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def ready_streams() -> None:
    """Have a stream that cannot show a character show its escape; one that is closed takes everything."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
        reconfigure = getattr(getattr(sys, name), "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def reader_is_gone() -> bool:
    """Whether nobody reads standard output or standard error any more, as behind `| head`."""
    return _is_broken(sys.stdout) or _is_broken(sys.stderr)


def _is_broken(stream: IO[str]) -> bool:
    import select

    if not hasattr(select, "poll"):
        return False  # Windows
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False


def silence() -> None:
    """Send what is still to be written nowhere, so that the interpreter does not fail on it at its end."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a descriptor is needed
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                os.dup2(nowhere.fileno(), stream.fileno())


def columns() -> int:
    """Columns of a text report: 80, or fewer on a narrower terminal."""
    return min(80, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 80


def printed_report(summary: Summary) -> str:
    """Give a text report as it suits standard output."""
    from k2_verifier_adapter.reports.text import render_text

    return render_text(summary, colour=colour_wanted(), width=columns())


def print_report(summary: Summary) -> None:
    """Print a text report to standard output."""
    click.echo(printed_report(summary), nl=False)


def write_or_print(text: str | bytes, output: Path | None) -> None:
    """Write a text, or the bytes of a document, to a file, whole or not at all, or print it.

    Raises:
        DataError: If the file cannot be written.
    """
    if output is None or str(output) == "-":
        click.echo(text, nl=False)
        return
    from k2_verifier_adapter.core.printable import printable
    from k2_verifier_adapter.formats.files import atomic_write

    with atomic_write(output) as file:
        file.write(text.encode("utf-8", "backslashreplace") if isinstance(text, str) else text)
    click.echo(f"k2-verifier: written to {printable(str(output))}", err=True)
