"""What people expect of any command: help, suggestions, one-line errors, `-v`, Ctrl-C, closed pipes."""

from __future__ import annotations

import inspect
import io
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from stored_runs import answering, calling, make_row, write_run
from support.commands import invoke

from k2_verifier_adapter import __version__
from k2_verifier_adapter.cli import commands, evaluate, main, output, report
from k2_verifier_adapter.cli.verbosity import LOGGER
from k2_verifier_adapter.formats import runs

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and descriptors")


def command_line(*arguments: object) -> list[str]:
    """Give the command for a subprocess."""
    return [sys.executable, "-m", "k2_verifier_adapter", *map(str, arguments)]


# Buffered, as a user's Python is: what could not be written is tried again at the end.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}


def paths(command: click.Command = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give the words that name each command, those of groups included."""
    yield path
    for name, child in command.commands.items() if isinstance(command, click.Group) else ():
        yield from paths(child, (*path, name))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Give a run of two rows."""
    return write_run(tmp_path / "run", [make_row(), make_row("two", call=False)], [calling(), answering()])


@pytest.mark.parametrize("path", list(paths()), ids=" ".join)
class TestHelp:
    """`--help` of every command."""

    def test_it_names_no_file_of_the_repository(self, path: tuple[str, ...]) -> None:
        """Whoever has the wheel alone can type every example."""
        words = re.split(r"[\s'=]+", invoke(*path, "--help").stdout)
        tracked = {file.name for file in ROOT.iterdir() if not file.name.startswith(".")}
        assert not [word for word in words if "/" in word and word.partition("/")[0] in tracked - {"outputs"}]

    def test_it_fits_80_columns(self, path: tuple[str, ...]) -> None:
        """No line of any help is wider than a terminal."""
        assert [text for text in invoke(*path, "--help").stdout.splitlines() if len(text) > 80] == []

    def test_it_has_an_example(self, path: tuple[str, ...]) -> None:
        """Each help shows a command line that begins with the command itself."""
        assert f"\n  {' '.join(('k2-verifier', *path))}" in invoke(*path, "--help").stdout

    def test_it_has_a_short_form(self, path: tuple[str, ...]) -> None:
        """`-h` is `--help`, and both end with exit code 0."""
        short, long = invoke(*path, "-h"), invoke(*path, "--help")
        assert (short.stdout, short.exit_code, long.exit_code) == (long.stdout, 0, 0)


def test_without_arguments_it_explains_itself() -> None:
    """`k2-verifier` alone shows its help, and so does a group of commands."""
    for path in ((), ("dataset",)):
        shown = invoke(*path)
        assert "Commands:" in shown.stdout + shown.stderr


def test_version() -> None:
    """`--version` names the package's own."""
    assert __version__ in invoke("--version").stdout


class TestSuggestions:
    """What was probably meant."""

    @pytest.mark.parametrize(
        ("arguments", "meant"),
        [
            ("reprot", "report"),
            ("report run --fromat json", "--format"),
            ("report run --format htlm", "html"),
            ("report run --gate stric", "strict"),
            ("report run --inconclusive fial", "fail"),
            ("compare a b --format jsn", "json"),
            ("dataset check rows --format jsno", "json"),
            ("score log.jsonl --engine rai", "ray"),
            ("demo --profile nosy", "noisy"),
            ("simulate --profile truncatng", "truncating"),
        ],
    )
    def test_a_mistyped_word(self, arguments: str, meant: str) -> None:
        """A mistyped command, option, value or profile is answered with the right one, exit code 2."""
        result = invoke(*arguments.split())
        assert (result.exit_code, result.stdout) == (2, "")
        assert "id you mean" in result.stderr
        assert f"'{meant}'" in result.stderr.partition("id you mean")[2]

    @pytest.mark.parametrize("flag", ["--modle", "--gte", "--min-coverge"])
    def test_a_mistyped_flag_of_eval(self, flag: str) -> None:
        """Flags that `eval` hands on are compared with EvalScope's and with its own."""
        result = invoke("eval", flag, "x")
        meant = {"--modle": "--model", "--gte": "--gate", "--min-coverge": "--min-coverage"}[flag]
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.endswith(f"Did you mean '{meant}'?\n")

    def test_nothing_close(self) -> None:
        """What resembles nothing gets no suggestion."""
        assert "id you mean" not in invoke("report", "x", "--format", "zzz").stderr
        assert invoke("eval", "--zzzz", "x").stderr.endswith("`evalscope eval --help`.\n")

    def test_an_older_click(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Before 8.3 click itself suggests no command; the suggestion is the same."""
        monkeypatch.delattr(click, "NoSuchCommand", raising=False)
        result = invoke("reprot")
        assert result.exit_code == 2
        assert "No such command 'reprot'. Did you mean 'report'?" in result.stderr
        assert "No such option" in invoke("--reprot").stderr

    def test_the_commands_themselves_stay_as_they_are(self) -> None:
        """What is added is added to copies."""
        invoke("report", "--help")
        assert "--verbose" not in {name for param in report.report.params for name in param.opts}


class TestDefects:
    """Errors that nobody expected."""

    @pytest.fixture(autouse=True)
    def broken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Break the reading of runs."""

        def choose_run(*_: object) -> None:
            raise KeyError("no\nsuch \x1b[2Jkey")

        monkeypatch.setattr(runs, "choose_run", choose_run)

    def test_one_line(self) -> None:
        """Without -v one line says what happened and how to see more; the code is not that of a gate."""
        result = invoke("report", "run")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.count("\n") == 1
        assert "unexpected KeyError: 'no\\nsuch \\x1b[2Jkey'" in result.stderr
        assert "again with -v for the traceback" in result.stderr

    @pytest.mark.parametrize("arguments", ["-v report run", "report -v run", "report run --verbose"])
    def test_traceback(self, arguments: str) -> None:
        """With -v, before the command or behind it, the traceback is there."""
        result = invoke(*arguments.split())
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"k2-verifier: k2-verifier {__version__}, Python ")
        assert "Traceback (most recent call last)" in result.stderr
        assert "in choose_run" in result.stderr

    @pytest.mark.parametrize("flags", [(), ("-v",)])
    def test_known_keys_are_hidden(self, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]) -> None:
        """A key that a run has learnt stands neither in the line nor in the traceback."""
        from k2_verifier_adapter.evalscope_plugin import masking

        def choose_run(*_: object) -> None:
            raise ValueError("key sk-hidden-0123456789 refused")

        monkeypatch.setattr(runs, "choose_run", choose_run)
        before = logging.getLogRecordFactory()
        try:
            masking.mask_logs(["sk-hidden-0123456789"])
            result = invoke("report", "run", *flags)
        finally:
            logging.setLogRecordFactory(before)
        assert "refused" in result.stderr
        assert "sk-hidden-0123456789" not in result.stderr

    def test_what_the_system_refuses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An error of the operating system is one line as well, and -v shows where."""

        def choose_run(*_: object) -> None:
            raise PermissionError(13, "Permission denied", "/tmp/x")

        monkeypatch.setattr(runs, "choose_run", choose_run)
        result = invoke("report", "run")
        said = "k2-verifier: error: [Errno 13] Permission denied: '/tmp/x' (again with -v for where)\n"
        assert (result.exit_code, result.stderr) == (2, said)
        assert "in choose_run" in invoke("report", "run", "-v").stderr


class TestVerbose:
    """`-v`."""

    def test_the_log_of_a_command(self, run: Path, tmp_path: Path) -> None:
        """The log goes to standard error, standard output is as without; nothing is left behind."""
        rows = tmp_path / "rows.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in (make_row(), make_row("two"))))
        log = tmp_path / "log.jsonl"
        assert invoke("export", run, "--output", log).exit_code == 0
        plain = invoke("score", log, "--rows", rows)
        for _ in range(2):
            verbose = invoke("score", log, "--rows", rows, "-v")
            assert (verbose.exit_code, verbose.stdout) == (plain.exit_code, plain.stdout)
            said = verbose.stderr.splitlines()
            assert said[1:3] == [
                f"k2-verifier: 2 official answers in {rows}",
                "k2-verifier: 2 lines in 1 files scored",
            ]
            assert said[3].startswith("k2-verifier: ended after ")
        assert plain.stderr == ""
        logger = logging.getLogger(LOGGER)
        assert (logger.handlers, logger.level, logger.propagate) == ([], logging.NOTSET, True)

    @pytest.mark.parametrize("flags", [(), ("-v",)])
    def test_evalscopes_level(self, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]) -> None:
        """While a command runs, EvalScope's level is DEBUG with -v and the user's own without."""
        seen = []
        monkeypatch.setattr(runs, "choose_run", lambda *_: seen.append(os.environ["EVALSCOPE_LOG_LEVEL"]))
        monkeypatch.setenv("EVALSCOPE_LOG_LEVEL", "INFO")
        invoke("report", "run", *flags)
        assert seen == ["DEBUG" if flags else "INFO"]
        assert os.environ["EVALSCOPE_LOG_LEVEL"] == "INFO"

    def test_evalscope_reads_its_level_there(self) -> None:
        """EvalScope takes its level from the variable that -v sets."""
        from evalscope.utils import logger

        source = inspect.getsource(logger)
        assert (
            "DEFAULT_LEVEL = logging.DEBUG if os.getenv('EVALSCOPE_LOG_LEVEL', 'INFO') == 'DEBUG'" in source
        )
        assert "log_level: int = DEFAULT_LEVEL" in source


class _Stream(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


class TestColour:
    """Colours for terminals only."""

    @pytest.mark.parametrize(
        ("out", "variables", "expected"),
        [
            (True, {"TERM": "xterm"}, True),
            (False, {"TERM": "xterm"}, False),
            (True, {"TERM": "dumb"}, False),
            (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        ],
    )
    @pytest.mark.parametrize("err", [True, False])
    def test_reports(
        self,
        monkeypatch: pytest.MonkeyPatch,
        out: bool,
        err: bool,
        variables: dict[str, str],
        expected: bool,
    ) -> None:
        """A report is coloured on a terminal, wherever the log goes, but for NO_COLOR and TERM=dumb.

        EvalScope's log, which only looks at NO_COLOR, is plain wherever standard error is to be.
        """
        monkeypatch.delenv("NO_COLOR", raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdout", _Stream(terminal=out))
        monkeypatch.setattr(sys, "stderr", _Stream(terminal=err))
        before = os.environ.get("NO_COLOR")
        with click.Context(main) as ctx:
            output.decide_colour(ctx)
            with ctx.scope():
                assert output.colour_wanted() is expected
            is_plain = not err or variables != {"TERM": "xterm"}
            assert ("NO_COLOR" in os.environ) is is_plain
        assert os.environ.get("NO_COLOR") == before
        assert output.colour_wanted() is expected


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize(
    "flags",
    [
        ("eval", "--model", "m", "--min-trigger-similarity"),
        ("eval", "--model", "m", "--min-schema-accuracy"),
        ("eval", "--model", "m", "--call-surplus-tolerance"),
        ("eval", "--model", "m", "--min-coverage"),
        ("eval", "--model", "m", "--margin"),
        ("eval", "--model", "m", "--max-minutes"),
        ("eval", "--model", "m", "--requests-per-minute"),
        ("eval", "--model", "m", "--price-in"),
        ("eval", "--model", "m", "--price-out"),
        ("compare", "a", "b", "--gate", "not-worse", "--margin"),
        ("dataset", "build", "--subset", "s", "--output", "o", "--threshold"),
        ("simulate", "--fault"),
    ],
    ids=lambda flags: f"{flags[0]} {flags[-1]}",
)
def test_what_is_no_finite_number_is_no_number(flags: tuple[str, ...], value: str) -> None:
    """NaN, which is below and above nothing, and infinity are refused as the value of every flag."""
    given = f"truncated_json={value}" if flags[-1] == "--fault" else value
    refused = invoke(*flags, given)
    assert refused.exit_code == 2
    assert value in refused.stderr


class TestEndings:
    """A file's ending tells the format, where none is given."""

    @pytest.mark.parametrize(
        ("name", "begins"),
        [
            ("x.html", "<!DOCTYPE html>"),
            ("x.HTM", "<!DOCTYPE html>"),
            ("x.json", "{"),
            ("x.md", "## K2"),
            ("x.junit.xml", "<?xml"),
            ("x.txt", "K2 vendor verification"),
            ("x", "K2 vendor verification"),
        ],
    )
    def test_the_ending_tells(self, run: Path, tmp_path: Path, name: str, begins: str) -> None:
        """HTML goes into `.html`; text into what has no known ending."""
        assert invoke("report", run, "--output", tmp_path / name).exit_code in (0, 3)
        assert (tmp_path / name).read_text().startswith(begins)

    def test_what_is_given_counts(self, run: Path, tmp_path: Path) -> None:
        """A format that is given stands above the ending; one that a command lacks is refused."""
        invoke("report", run, "--output", tmp_path / "x.html", "--format", "json")
        assert json.loads((tmp_path / "x.html").read_text())
        refused = invoke("compare", run, run, "--output", tmp_path / "x.xml")
        assert refused.exit_code == 2
        assert "there is no junit here" in refused.stderr


@posix
class TestStreams:
    """Interrupts and closed streams, in the real command."""

    def test_an_interrupt_is_one_line(self, tmp_path: Path) -> None:
        """Ctrl-C ends a command with one line and the documented code of what is incomplete."""
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        command = command_line("score", pipe, "--rows", "bundled")
        with (
            subprocess.Popen(command, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True) as process,
            # Opening the pipe waits until the command reads from it.
            pipe.open("wb"),
        ):
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (commands.INTERRUPTED, "k2-verifier: interrupted\n")

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_the_first_interrupt_counts(
        self, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
    ) -> None:
        """Others find the run ending already; the fifth ends a process that does not come to its end."""
        ended: list[int] = []
        clock = [100.0]
        monkeypatch.setattr(os, "_exit", ended.append)
        monkeypatch.setattr(evaluate.time, "monotonic", lambda: clock[0])
        handlers = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}
        try:
            with evaluate.patient_interrupts():
                pass
            assert {kind: signal.getsignal(kind) for kind in handlers} == handlers
            with evaluate.patient_interrupts():
                with pytest.raises(KeyboardInterrupt):
                    signal.raise_signal(number)
                for _ in range(9):
                    signal.raise_signal(number)
                    signal.raise_signal(signal.SIGINT)
                assert ended == []
                clock[0] += 10
                signal.raise_signal(number)
                assert ended == [3]
            # Up to the end of the process: the interpreter's own would kill.
            assert {signal.getsignal(kind) for kind in handlers} == {signal.SIG_IGN}
        finally:
            for kind, handler in handlers.items():
                signal.signal(kind, handler)

    @pytest.mark.parametrize("form", ["text", "html"])
    def test_a_closed_pipe_is_quiet(self, run: Path, form: str) -> None:
        """Where the reader is gone, as behind `| head`, nothing is said, and no gate seems to have failed."""
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "wb") as closed:
            done = subprocess.run(
                command_line("report", run, "--format", form),
                stdout=closed,
                stderr=subprocess.PIPE,
                env=ENVIRONMENT,
                timeout=60,
                check=False,
            )
        assert (done.returncode, done.stderr) == (commands.READER_GONE, b"")

    @pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
    def test_a_stream_that_is_closed_from_the_start(self, run: Path, closed: str) -> None:
        """A closed standard output or error takes everything, and the code is that of the gate."""
        done = subprocess.run(
            ["/bin/sh", "-c", f"{shlex.join(command_line('report', run, '--gate', 'strict'))} {closed}"],
            capture_output=True,
            env=ENVIRONMENT,
            timeout=60,
            check=False,
        )
        assert done.returncode == 3
        assert b"Traceback" not in done.stderr

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_full_disk_behind_standard_output(self, run: Path) -> None:
        """What cannot be written to standard output is an error in one line."""
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                command_line("report", run, "--format", "json"),
                stdout=full,
                stderr=subprocess.PIPE,
                env=ENVIRONMENT,
                timeout=60,
                check=False,
                text=True,
            )
        assert done.returncode == 2
        assert done.stderr.startswith("k2-verifier: error: [Errno 28] No space left on device")
        assert done.stderr.count("\n") == 1


def test_exit_codes_of_the_group_are_its_own() -> None:
    """Exit codes that click raises on its way out are not taken for defects."""

    @click.command()
    @click.argument("how")
    def ending(how: str) -> Any:
        if how == "abort":
            raise click.Abort
        click.get_current_context().exit(3)

    group = commands.Commands("group", commands={"ending": ending})
    assert CliRunner().invoke(group, ["ending", "code"]).exit_code == 3
    assert CliRunner().invoke(group, ["ending", "abort"]).exit_code == 1
