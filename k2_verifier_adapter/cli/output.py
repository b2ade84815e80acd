"""Where a command's output goes: a terminal, a pipe or a file; and its form."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from k2_verifier_adapter.cli.verbosity import set_for_command
from k2_verifier_adapter.reports.formats import (
    BY_NAME,
    FORMATS,
    ComparisonReport,
    ConformanceReport,
    Media,
    RunReport,
)

if TYPE_CHECKING:
    from k2_verifier_adapter.core.conformance.results import Conformance
    from k2_verifier_adapter.core.gate import Decision
    from k2_verifier_adapter.formats.runs import RunPaths
    from k2_verifier_adapter.reports.formats import Report

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


full_option = click.option(
    "--full",
    is_flag=True,
    help="Print the whole report, not the thirty lines of it that a terminal gets.",
)


def check_full(*, full: bool, form: str) -> None:
    """Refuse `--full` where nothing is ever left out."""
    if full and BY_NAME[form].media is not Media.TERMINAL:
        raise click.UsageError(f"--full goes with text: --format {form} is always whole")


def deliver_run(
    report: RunReport,
    form: str,
    output: Path | None,
    decision: Decision,
    *,
    full: bool,
    places: Sequence[tuple[str, str]] = (),
    page: Path | None = None,
) -> None:
    """Deliver the report on a run; the verdict stands in the last line of a terminal.

    Args:
        report: What to deliver, redacted already, if it is to be.
        form: Name of the format.
        output: The file to write, or None to print.
        decision: What decides the exit code.
        full: Whether all of a text is printed, and not thirty lines.
        places: What a text names below: files and commands, with where they are.
        page: The page that shows all of it and states the same verdict.
    """
    from k2_verifier_adapter.reports.brief import last_line, render_brief

    if BY_NAME[form].media is Media.TERMINAL and _is_printed(output):
        say(decision)
        if full:
            click.echo(_printed(report))
        else:
            shown = render_brief(report.summary, places, colour=colour_wanted(), width=columns())
            click.echo(shown, nl=False)
        click.echo(last_line(report.summary, None if page is None else str(page)))
        return
    deliver(report, form, output)
    say(decision)
    if output is not None and not _is_printed(output):
        click.echo(f"k2-verifier: {last_line(report.summary, str(output))}", err=True)


def deliver_probes(found: Conformance, form: str = "text", output: Path | None = None) -> int:
    """Deliver the report on the probes of a run; give the exit code."""
    from k2_verifier_adapter.core.conformance.results import decide

    deliver(ConformanceReport(found), form, output)
    decision = decide(found)
    say(decision)
    return decision.code


def page_of(paths: RunPaths) -> Path | None:
    """Give the page that a run has left, which states the verdict of the run's own gate; None without one."""
    page = paths.reports / f"{paths.subset}.html"
    return page if page.is_file() else None


def _is_printed(output: Path | None) -> bool:
    return output is None or str(output) == "-"


def _printed(report: Report) -> str:
    """Give a report as text as it suits standard output."""
    from k2_verifier_adapter.reports.text import render_text

    return render_text(report.document(), colour=colour_wanted(), width=columns())


_ENDINGS = {
    **{f".{form.ending.rpartition('.')[2]}": form.name for form in reversed(FORMATS)},
    ".htm": "html",
    ".markdown": "markdown",
}


class _FormatOption(click.Option):
    """The option of the format; where none is given, the ending of `--output` tells."""

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, Any]:
        """Take what was given, else what the file's ending names."""
        value, source = super().consume_value(ctx, opts)
        output = ctx.params.get("output")  # There already if it is given: defaults come last.
        if output is None or source is not click.core.ParameterSource.DEFAULT:
            return value, source
        meant = _ENDINGS.get(output.suffix.lower())
        if meant is not None and isinstance(self.type, click.Choice) and meant not in self.type.choices:
            raise click.BadParameter(
                f"{output}: there is no {meant} here; take one of {', '.join(self.type.choices)}",
                param_hint="--output",
            )
        return value if meant is None else meant, source


def format_option(*names: str) -> Callable[..., Any]:
    """Make the option that chooses one of some formats, the first of them unless told otherwise."""
    return click.option(
        "--format",
        "form",
        cls=_FormatOption,
        type=click.Choice(names),
        default=names[0],
        show_default=True,
        help="The report owns standard output; everything else goes to standard error. Without it, the "
        "ending of --output tells.",
    )


any_format_option = format_option(*BY_NAME)
run_format_option = format_option(*(form.name for form in FORMATS if RunReport in form.of))
comparison_format_option = format_option(*(form.name for form in FORMATS if ComparisonReport in form.of))

output_option = click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file instead of printing."
)

redact_option = click.option(
    "--redact",
    is_flag=True,
    help="Leave out whatever may repeat prompts, tools or answers: for sharing.",
)


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def check_destination(form: str, output: Path | None) -> None:
    """Refuse to fill a terminal with a page, before the work is done."""
    from k2_verifier_adapter.errors import UsageError

    if BY_NAME[form].media is Media.PAGE and output is None and is_terminal():
        raise UsageError(
            f"--format {form}: a page is not for a terminal; add --output report.{BY_NAME[form].ending}"
        )


def deliver(report: Report, form: str, output: Path | None) -> None:
    """Print a report, or write it to a file, whole or not at all."""
    from k2_verifier_adapter.errors import UsageError

    chosen = BY_NAME[form]
    if not chosen.fits(report):
        raise UsageError(
            f"--format {form}: is of another kind of report; take one of {', '.join(_fitting(report))}"
        )
    if _is_printed(output) and chosen.media is Media.TERMINAL:
        click.echo(_printed(report), nl=False)
        return
    content = chosen.render(report).encode("utf-8", "backslashreplace")
    if output is None or _is_printed(output):
        click.echo(content, nl=False)
        return
    from k2_verifier_adapter.core.printable import printable
    from k2_verifier_adapter.formats.files import atomic_write

    with atomic_write(output) as file:
        file.write(content)
    click.echo(f"k2-verifier: written to {printable(str(output))}", err=True)


def _fitting(report: Report) -> list[str]:
    return [form.name for form in FORMATS if form.fits(report)]


def say(decision: Decision) -> None:
    """Say on standard error what decided the exit code."""
    from k2_verifier_adapter.core.printable import printable

    if decision.reason is not None:
        click.echo(f"k2-verifier: {printable(decision.reason)}", err=True)


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show how far a command is; in a pipe or a file, nothing.

    Yields a function to call with the number of steps made since its last call.
    """
    with progress_of_many([(label, total)]) as advance:
        yield lambda steps: advance(0, steps)


@contextmanager
def progress_of_many(labels: Iterable[tuple[str, int | None]]) -> Iterator[Callable[[int, int], None]]:
    """Show how far several things are, each by a label and the number of its steps, None if unknown.

    Yields a function to call with the place of one and the number of steps made since its last call.
    """
    if not sys.stderr.isatty():
        yield lambda _place, _steps: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks = [bar.add_task(escape(label), total=total) for label, total in labels]
        yield lambda place, steps: bar.advance(tasks[place], steps)
