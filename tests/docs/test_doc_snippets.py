"""What the documents show works: every command is run or parsed, every program run, every data block read.

A snippet that is neither run nor declared in `DECLARED`, with a reason, fails.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import re
import runpy
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from documents import ROOT, Block, documents, name_of, paragraphs, parse, read, spans
from evalscope import TaskConfig
from shell_lines import Command, commands_in
from snippet_world import VENDORS, call_evalscope, call_k2_verifier, hub_out_of_reach, prepared
from support.runs import EVALSCOPES_WARNINGS

from k2_verifier_adapter import simulator
from k2_verifier_adapter.cli import main
from k2_verifier_adapter.evalscope_plugin.asked import check_dataset_args
from k2_verifier_adapter.evalscope_plugin.running import explicit_flags

LANGUAGES = {"bash", "python", "json", "yaml", "text", ""}
ENVIRONMENT = {
    "API_KEY": "sk-docs-0123456789",
    "K2_VERIFIER_API_KEY": "sk-docs-0123456789",
    "K2_VERIFIER_API_URL": "https://api.example.com/v1",
    "K2_VERIFIER_MODEL": "kimi-k2-thinking",
    "K2_VERIFIER_ROWS": "k2_thinking_test.jsonl",
    "GITHUB_STEP_SUMMARY": "step-summary.md",
}
"""What a reader has set, as the text around the snippets says."""

_LEFT_OUT = re.compile(r"\[(\.\.\.|…+) ?.*\]")
"""A line in shown output that stands for others."""

_TIME_OF_RUN = re.compile(r"outputs/k2-verifier-demo/\d{8}_\d{6}")


@dataclass(frozen=True)
class Declared:
    """Commands that are not run here.

    Attributes:
        pattern: What the whole command looks like.
        reason: Why it is not run.
    """

    pattern: str
    reason: str


DECLARED = (
    Declared(r"pip install .*", "downloads packages; that the extras exist is checked"),
    Declared(r"pytest( .*)?", "is what runs this test; that its paths exist is checked"),
    Declared(r"(ruff (check|format --check) \.|mypy)", "checks the tree, not the documents"),
    Declared(r"\.ci/run", "runs all tests in fresh environments, these included"),
    Declared(r"python -m venv \.venv", "makes an environment to install into"),
    Declared(r"\. \.venv/bin/activate", "changes the shell it is typed into"),
    Declared(r"python -m build", "downloads the build backend; `.ci/run` builds the wheel"),
    Declared(r"twine check .*", "needs what was built before it"),
    Declared(r"mutmut .*", "changes the source; its runner is a command of pytest as above"),
    Declared(r"evalscope service .*", "serves until it is stopped"),
    Declared(
        r"k2-verifier matrix .*", "starts a process for each vendor of a file; tests/e2e/test_matrix.py does"
    ),
    Declared(r"k2-verifier score .*--engine ray.*", "Ray is an extra that need not be installed"),
)

_GATED = {
    "eval": ("--gate", "--min-", "--max-", "--baseline"),
    "report": ("--gate", "--min-", "--baseline"),
    "score": ("--gate", "--min-"),
    "compare": ("--gate",),
    "history": ("--gate",),
}
"""What lets a command end with 1 or 3."""

_ANY_RUN = re.compile(r"outputs/[\w.-]+")
"""How the documents name runs that a reader has: earlier ones, or other vendors'."""


# --- reading ---------------------------------------------------------------------------------------


def blocks_of(language: str) -> list[Any]:
    """List the blocks of a language, as parameters for tests."""
    return [
        pytest.param(path, block, id=f"{name_of(path)}:{block.number}")
        for path in documents()
        for block in read(path)[1]
        if block.language == language
    ]


def all_commands() -> Iterator[tuple[str, Command]]:
    """Yield every command of every document, and where it stands."""
    for path in documents():
        environment = dict(ENVIRONMENT)
        for block in read(path)[1]:
            if block.language == "bash":
                where = f"{name_of(path)}:{block.number}"
                yield from ((where, command) for command in commands_in(block.text, environment))


def declared(command: Command) -> Declared | None:
    """Give the declaration that covers a command, or None."""
    return next((item for item in DECLARED if re.fullmatch(item.pattern, str(command))), None)


def parse_k2_verifier(words: Sequence[str]) -> None:
    """Let the command line's own parser read the words, EvalScope's flags by EvalScope's; nothing is run."""
    command: click.Command = main
    rest = list(words)
    while isinstance(command, click.Group):
        name = rest.pop(0)
        command = command.get_command(click.Context(command), name) or pytest.fail(f"no command {name!r}")
    context = command.make_context(command.name, rest)
    explicit_flags(context.params.get("evalscope_flags", ()))


class _ParsedError(Exception):
    """A program's options were read."""


@contextlib.contextmanager
def stopped_at_parsing() -> Iterator[pytest.MonkeyPatch]:
    """Have programs read their options, and stop there."""
    original = argparse.ArgumentParser.parse_args

    def parse_args(parser: argparse.ArgumentParser, *given: Any, **named: Any) -> argparse.Namespace:
        original(parser, *given, **named)
        raise _ParsedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        yield patch


def parse_program(path: Path, arguments: Sequence[str]) -> None:
    """Let a program read its options, and stop it there."""
    before = set(sys.modules)
    with stopped_at_parsing() as patch:
        patch.setattr(sys, "argv", [str(path), *arguments])
        patch.setattr(sys, "path", [str(path.parent), *sys.path])
        try:
            with pytest.raises(_ParsedError):
                runpy.run_path(str(path), run_name="__main__")
        finally:
            for name in set(sys.modules) - before:
                # Its neighbours have names that others may have, too.
                if Path(getattr(sys.modules[name], "__file__", None) or "").parent == path.parent:
                    del sys.modules[name]


# --- running ---------------------------------------------------------------------------------------


def check_pip(words: Sequence[str]) -> None:
    """Check that the extras that are to be installed exist."""
    for word in words:
        found = re.fullmatch(r"([\w.-]+)\[([\w,]+)\]", word)
        if found:
            name = "k2-verifier-adapter" if found[1] == "." else found[1]
            assert set(found[2].split(",")) <= set(metadata.metadata(name).get_all("Provides-Extra")), word


def serve_and_stop(vendor: simulator.SimulatedVendor, _port: int, *, on_ready: Any) -> None:
    """Stand in for a vendor that serves until Ctrl-C."""
    with vendor.running() as endpoint:
        on_ready(endpoint)


def check_declared(words: Sequence[str]) -> None:
    """Check of a command that is not run what can be checked all the same."""
    if words[0] == "k2-verifier":
        parse_k2_verifier(words[1:])
    elif words[0] == "evalscope":
        with stopped_at_parsing(), pytest.raises(_ParsedError):
            call_evalscope(words[1:])
    elif words[0] == "pip":
        check_pip(words)
    elif words[0] in ("pytest", ".ci/run"):
        for word in words:
            # A source distribution holds all but the scripts of the checkout.
            given = "/" in word and (not word.startswith(".ci/") or (ROOT / ".ci").is_dir())
            assert not given or (ROOT / word).exists(), word


def filled_in(word: str) -> list[str]:
    """Fill in the runs that a pattern of a shell stands for, of which a reader has two."""
    if not re.fullmatch(r"outputs/[\w.-]+\*", word):
        return [word]
    names = [word.replace("*", number) for number in "12"]
    for name, run_of in zip(names, ("RUN", "OTHER_RUN"), strict=True):
        shutil.copytree(f"outputs/{run_of}", name, dirs_exist_ok=True)
    return names


def run_k2_verifier(words: Sequence[str]) -> bytes:
    """Run `k2-verifier`; it has to end well, or as a gate may end. Runs that a reader has are put in place."""
    words = [name for word in words for name in filled_in(word)]
    for before, word in pairwise(words):
        if _ANY_RUN.fullmatch(word) and before != "--work-dir" and not Path(word).exists():
            shutil.copytree("outputs/OTHER_RUN", word)
    code, output = call_k2_verifier(words[1:])
    gated = any(word.startswith(_GATED.get(words[1], ("no flag",))) for word in words)
    assert code in ((0, 1, 3) if gated else (0,)), f"{words} ended with exit code {code}"
    return output


def run(command: Command) -> bytes:
    """Run a command, or parse it if it is declared; fail if it is neither known nor declared."""
    words = command.words
    if declared(command) is not None:
        check_declared(words)
        return b""
    if words[0] == "python" and words[1].endswith(".py"):
        parse_program(ROOT / words[1], words[2:])
        return b""
    assert not re.search(r"https?://(?!127\.0\.0\.1)", str(command)), "nothing is sent beyond this machine"
    output = b""
    if words[0] == "k2-verifier":
        output = run_k2_verifier(words)
    elif words[0] == "evalscope":
        _, output = call_evalscope(words[1:])
    elif words[:2] == ("python", "-c"):
        exec(compile(words[2], "-c", "exec"), {"__name__": "__main__"})
    else:
        pytest.fail(f"{command}: neither run nor declared; teach this test, or declare it with a reason")
    if command.output is not None:
        name, mode = command.output
        assert output
        with Path(name).open(f"{mode}b") as file:
            file.write(output)
    for flag in ("--output", "--summary"):
        if flag in words:
            assert Path(words[words.index(flag) + 1]).exists(), f"{command} wrote no {flag}"
    return output


def parts_shown(text: str) -> list[str]:
    """Split shown output where lines are left out."""
    lines = ["\0" if _LEFT_OUT.fullmatch(line) else line for line in text.strip().splitlines()]
    return [part.strip("\n") for part in "\n".join(lines).split("\0")]


def check_shown(text: str, output: bytes) -> None:
    """Find what a document shows as output in the output, part by part."""
    rest = _TIME_OF_RUN.sub("outputs/demo", output.decode())
    for part in parts_shown(_TIME_OF_RUN.sub("outputs/demo", text)):
        before, found, rest = rest.partition(part)
        assert found, f"not in the output, or not in this order:\n{part}\n\nbut:\n{before}"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Prepare what the snippets name, once; give the folder and the vendor's URL."""
    folder = tmp_path_factory.mktemp("world") / "template"
    with prepared(folder) as url, hub_out_of_reach():
        yield folder, url


@pytest.fixture
def here(world, tmp_path, monkeypatch):
    """Work in a copy of the prepared folder; give a function that points a snippet at the vendor."""
    folder, url = world
    copy = tmp_path / "here"
    shutil.copytree(folder, copy)
    monkeypatch.chdir(copy)
    monkeypatch.setattr(simulator, "serve_forever", serve_and_stop)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")

    def pointed(text: str) -> str:
        for vendor in VENDORS:
            text = text.replace(vendor, url)
        return text

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, pointed(value))
    return pointed


def shown_by(path: Path) -> tuple[str, ...]:
    """Give what a document shows to run, without its comments."""
    environment = dict(ENVIRONMENT)
    shown: list[str] = []
    for block in read(path)[1]:
        if block.language == "python":
            shown.append(ast.dump(ast.parse(block.text)))
        elif block.language == "bash":
            shown += map(repr, commands_in(block.text, environment))
    return tuple(shown)


def with_snippets() -> list[Path]:
    """List the documents that hold something to run; of a document and its translation, one."""
    documents_by_content = {shown_by(path): path for path in reversed(documents())}
    return [path for shown, path in reversed(documents_by_content.items()) if shown]


@EVALSCOPES_WARNINGS
@pytest.mark.parametrize("path", with_snippets(), ids=name_of)
def test_the_snippets_run(path, here, monkeypatch):
    """From top to bottom, in one folder and one environment, what a document shows runs.

    A `text` block is what the command before it prints.
    """
    output = b""
    for block in read(path)[1]:
        text = here(block.text)
        if block.language == "python":
            exec(compile(text, f"{name_of(path)}:{block.number}", "exec"), {"__name__": "__main__"})
        elif block.language == "bash":
            environment = dict(os.environ)
            for command in commands_in(text, environment):
                for name, value in environment.items():
                    monkeypatch.setenv(name, value)
                with pytest.MonkeyPatch.context() as patch:
                    for name, value in command.variables.items():
                        patch.setenv(name, value)
                    output = run(command)
        elif block.language == "text" and output:
            check_shown(block.text, output)


# --- blocks and mentions ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", documents(), ids=name_of)
def test_every_block_has_a_known_language(path):
    """A code block is of a language that is checked here; a command stands in a `bash` block."""
    for block in read(path)[1]:
        assert block.language in LANGUAGES, f"line {block.number}"
        if not block.language:
            assert not re.search(r"^(k2-verifier|evalscope|python|pip) ", block.text, re.MULTILINE), (
                block.number
            )


@pytest.mark.parametrize(("path", "block"), blocks_of("json"))
def test_json_blocks_are_json(path, block):
    """A JSON block parses."""
    json.loads(block.text)


@pytest.mark.parametrize(("path", "block"), blocks_of("yaml"))
def test_yaml_blocks_are_yaml(path, block):
    """A YAML block parses; as a task file, it names settings and dataset arguments that exist."""
    check_yaml(block)


def check_yaml(block: Block) -> None:
    """Parse a YAML block, and hold a task file against EvalScope's settings."""
    content = yaml.safe_load(block.text)
    assert content
    if isinstance(content, dict) and {"dataset_args", "datasets", "api_url"} & content.keys():
        assert content.keys() <= set(TaskConfig.model_fields)
        own = content.get("dataset_args", {}).get("k2_verifier", {})
        check_dataset_args({"k2_verifier": own}, ["k2_verifier"])


@pytest.mark.parametrize("path", documents(), ids=name_of)
def test_commands_in_the_text_parse(path, tmp_path, monkeypatch):
    """A command between backticks is one that the command line takes; a name alone is one it has."""
    monkeypatch.chdir(tmp_path)
    for number, paragraph in paragraphs(read(path)[0]):
        for span in spans(paragraph):
            if not span.startswith("k2-verifier "):
                continue
            for command in commands_in(span, dict(ENVIRONMENT)):
                words = command.words[1:]
                for flag, value in pairwise(words):
                    if flag == "--baseline" and "." not in value:
                        # A run, which has to exist for the parser.
                        Path(value).mkdir(parents=True, exist_ok=True)
                if len(words) == 1 or (words[0] == "dataset" and len(words) == 2):
                    assert set(words[:1]) <= set(main.commands) | {"--help"}, f"line {number}"
                else:
                    parse_k2_verifier(words)


def test_every_declaration_is_used():
    """A declaration that covers no command is forgotten, and has to go; each has its reason."""
    used = {declared(command) for _, command in all_commands()}
    assert set(DECLARED) <= used
    assert all(len(item.reason) > 10 for item in DECLARED)


# --- the checks themselves -------------------------------------------------------------------------


def test_the_shell_reader():
    """Comments, quotes, variables, continuation lines, redirections and operators are read as a shell does."""
    environment = {"NAME": "value"}
    text = (
        "export A=1 B='two words'  # a comment\n"
        "one '$NAME #1' \"$NAME\" ${A} \\\n  last && C=3 two --flag='{\"a\": 1}' > out.txt; three >> more.txt &\n"
        'python -c "import os\nprint(1)"\n'
    )
    found = list(commands_in(text, environment))
    assert [command.words for command in found] == [
        ("one", "$NAME #1", "value", "1", "last"),
        ("two", '--flag={"a": 1}'),
        ("three",),
        ("python", "-c", "import os\nprint(1)"),
    ]
    assert [command.output for command in found] == [None, ("out.txt", "w"), ("more.txt", "a"), None]
    assert found[1].variables == {"C": "3"}
    assert environment == {"NAME": "value", "A": "1", "B": "two words"}
    with pytest.raises(KeyError):
        list(commands_in("echo $UNSET", {}))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("curl --version", "neither run nor declared"),
        ("curl https://api.example.com/v1", "nothing is sent beyond this machine"),
        (
            "k2-verifier doctor --api-url https://elsewhere.example.com/v1",
            "nothing is sent beyond this machine",
        ),
        ("k2-verifier report RUN --no-such-flag", "No such option"),
        ("k2-verifier no-such-command", "No such command"),
        ("k2-verifier eval --config configs/smoke.yaml --no-such-flag", "--no-such-flag"),
        ("evalscope eval --no-such-flag 1", "unrecognized arguments"),
        ("evalscope service --no-such-flag 1", "unrecognized arguments"),
        ("python benchmarks/performance.py --no-such-flag", "unrecognized arguments"),
        ("python benchmarks/no_such_program.py", "No such file"),
        ('pip install ".[no_such_extra]"', "no_such_extra"),
        ("pytest tests/no_such_folder", "no_such_folder"),
        ("k2-verifier score results.jsonl --rows rows --engine ray --no-such-flag", "No such option"),
    ],
)
def test_a_snippet_that_does_not_work_is_found(line, why, tmp_path, monkeypatch, capfd):
    """Unknown commands, options, programs, extras, paths and hosts all fail, each for its reason."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    (command,) = commands_in(line, {})
    with pytest.raises(
        (AssertionError, pytest.fail.Exception, SystemExit, OSError, click.ClickException)
    ) as caught:
        run(command)
    said = [str(caught.value), str(getattr(caught.value, "message", "")), capfd.readouterr().err]
    assert why in "\n".join(said)


def test_a_translation_shows_the_same_output():
    """What is shown as output in one language is shown in the other."""
    shown = [
        [
            part
            for block in read(ROOT / name)[1]
            if block.language == "text"
            for part in parts_shown(block.text)
        ]
        for name in ("README.md", "README_zh.md")
    ]
    assert shown[0] == shown[1]


def test_output_that_is_not_printed_is_found():
    """Shown output is found part by part and in order, whenever the run was made."""
    output = b"one\ntwo\nthree\nfour outputs/k2-verifier-demo/20261122_101500/x\n"
    check_shown("one\ntwo\n[... more]\nfour outputs/k2-verifier-demo/20261128_090000/x\n", output)
    for wrong in ("one\nthree\n", "three\n[... more]\none\n", "five\n"):
        with pytest.raises(AssertionError):
            check_shown(wrong, output)


def test_blocks_are_found_wherever_they_stand():
    """A block in a list, and one with tildes, is a block; its language is its first word."""
    _, blocks = parse("1. Do:\n\n   ```Bash title=x\n   echo\n   ```\n\n~~~json\n{}\n```\n~~~\n")
    assert [(block.number, block.language, block.text) for block in blocks] == [
        (3, "bash", "echo\n"),
        (7, "json", "{}\n```\n"),
    ]
