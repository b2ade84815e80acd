"""Where a command's output goes: a terminal, a pipe or a file."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from k2_verifier_adapter.core.summary import Summary


def colour_wanted() -> bool:
    """Whether standard output is a terminal that may be coloured (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def columns() -> int:
    """Columns of a text report: 80, or fewer on a narrower terminal."""
    return min(80, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 80


def print_report(summary: Summary) -> None:
    """Print a text report to standard output."""
    from k2_verifier_adapter.reports.text import render_text

    click.echo(render_text(summary, colour=colour_wanted(), width=columns()), nl=False)


def write_or_print(text: str | bytes, output: Path | None) -> None:
    """Write a text, or the bytes of a document, to a file, whole or not at all, or print it.

    Raises:
        DataError: If the file cannot be written.
    """
    if output is None or str(output) == "-":
        click.echo(text, nl=False)
        return
    from k2_verifier_adapter.formats.files import atomic_write
    from k2_verifier_adapter.reports.printable import printable

    with atomic_write(output) as file:
        file.write(text.encode("utf-8", "backslashreplace") if isinstance(text, str) else text)
    click.echo(f"k2-verifier: written to {printable(str(output))}", err=True)
