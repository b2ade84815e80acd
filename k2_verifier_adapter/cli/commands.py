"""What all commands of `k2-verifier` have in common: errors in one line, suggestions, `--verbose`."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import IO, Any

import click

from k2_verifier_adapter.cli.evaluate import INTERRUPTED, TYPED
from k2_verifier_adapter.cli.output import decide_colour, reader_is_gone, ready_streams, silence
from k2_verifier_adapter.cli.verbosity import is_verbose, say_defect, verbose_option
from k2_verifier_adapter.errors import K2VerifierError, UnknownFlagError

READER_GONE = 141
"""Exit code where the reader of a pipe is gone, as shells report it."""


class Failure(click.ClickException):
    """An error in one line on standard error."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message, made safe for a terminal."""
        from k2_verifier_adapter.core.printable import printable

        click.echo(f"k2-verifier: error: {printable(self.format_message())}", file=file, err=file is None)


class Commands(click.Group):
    """The commands; errors end in one line, an interruption as incomplete."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what was typed, of which a command may say how to go on."""
        ctx.meta[TYPED] = list(args)
        return super().parse_args(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Give a command with what all of them have."""
        command = super().get_command(ctx, cmd_name)
        return None if command is None else with_conveniences(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; of a name that is none, say which was probably meant."""
        name = args[0]
        # From click 8.3 on it suggests commands itself.
        if not hasattr(click, "NoSuchCommand") and name not in self.commands and not name.startswith("-"):
            ctx.fail(f"No such command {name!r}.{did_you_mean(name, self.commands)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        ready_streams()
        decide_colour(ctx)
        try:
            return super().invoke(ctx)
        except UnknownFlagError as error:
            raise Failure(f"{error}.{self._flag_meant(ctx, error)}") from None
        except K2VerifierError as error:
            raise Failure(str(error)) from None
        except KeyboardInterrupt:
            click.echo("k2-verifier: interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:  # noqa: BLE001 - it is told as this package's own, not as the vendor's
            if isinstance(error, BrokenPipeError) and reader_is_gone():
                silence()
                ctx.exit(READER_GONE)
            if isinstance(error, OSError) and not is_verbose(ctx):
                raise Failure(f"{error} (again with -v for where)") from None
            # A traceback is for who can correct the code; who runs a command is told in one line.
            say_defect(ctx, error)
            ctx.exit(Failure.exit_code)

    def _flag_meant(self, ctx: click.Context, error: UnknownFlagError) -> str:
        """Suggest one of EvalScope's flags or one of the command's own, or what there is in its place."""
        from k2_verifier_adapter.cli.flags import SAMPLES_HINT, UPSTREAMS_FLAGS

        if error.flag in UPSTREAMS_FLAGS:
            return f" {UPSTREAMS_FLAGS[error.flag]}"
        if ".jsonl" in error.flag:
            return f" {SAMPLES_HINT}"
        if not error.flag.startswith("-"):
            return ""
        command = self.commands[ctx.invoked_subcommand or ""]
        return did_you_mean(
            error.flag, [*error.known, *(name for param in command.params for name in param.opts)]
        )


def with_conveniences(command: click.Command) -> click.Command:
    """Give a copy of a command that suggests values of its options, and takes `--verbose`."""
    copied = copy.copy(command)
    copied.params = [_suggesting(param) for param in command.params]
    if isinstance(copied, click.Group):
        copied.commands = {name: with_conveniences(child) for name, child in copied.commands.items()}
    else:
        copied.params.append(verbose_option())
    return copied


def _suggesting(param: click.Parameter) -> click.Parameter:
    kind = param.type
    if type(kind) is not click.Choice:
        return param
    copied = copy.copy(param)
    copied.type = _Choice(kind.choices, case_sensitive=kind.case_sensitive)
    return copied


class _Choice(click.Choice[Any]):
    """One of some values; of another one it says which was probably meant."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Say what is wrong with a value."""
        return super().get_invalid_choice_message(value, ctx) + did_you_mean(str(value), self.choices)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant, with a space in front; nothing if none is close."""
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
