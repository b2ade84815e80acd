"""The commands of a shell snippet: as much of the shell as documents need, and no more."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass

_COMMENT = re.compile(r"('[^']*'|\"[^\"]*\")|(?<!\S)#[^\n]*")
_VARIABLE = re.compile(r"('[^']*')|\$\{(\w+)\}|\$(\w+)")
_ASSIGNMENT = re.compile(r"(\w+)=(.*)", re.DOTALL)
_BETWEEN = {"&&", ";", "|", "&"}
_REDIRECTS = {">": "w", ">>": "a"}


@dataclass(frozen=True)
class Command:
    """One simple command.

    Attributes:
        words: Its words, quotes removed and variables filled in.
        variables: What is set for it alone.
        output: Where its standard output goes: file and mode; None for nowhere.
    """

    words: tuple[str, ...]
    variables: Mapping[str, str]
    output: tuple[str, str] | None = None

    def __str__(self) -> str:
        return shlex.join(self.words)


def commands_in(text: str, environment: MutableMapping[str, str]) -> Iterator[Command]:
    """Yield the commands of a snippet, in order; `export` changes the environment instead.

    Raises:
        KeyError: If a variable is used that is not set.
        ValueError: If a quote is left open, or something else is too much for this reader.
    """
    text = _COMMENT.sub(lambda found: found[1] or "", text).replace("\\\n", " ")
    for line in _lines(text):
        filled = _VARIABLE.sub(lambda found: found[1] or environment[found[2] or found[3]], line)
        lexer = shlex.shlex(filled, posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split, lexer.commenters = True, ""
        yield from _simple(list(lexer), environment)


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of a snippet; a line break inside of quotes ends none."""
    pending = ""
    for line in text.splitlines():
        pending = f"{pending}\n{line}" if pending else line
        try:
            shlex.split(pending)
        except ValueError:
            continue
        if pending.strip():
            yield pending
        pending = ""
    if pending:
        raise ValueError(f"a quote is left open: {pending!r}")


def _simple(tokens: list[str], environment: MutableMapping[str, str]) -> Iterator[Command]:
    words: list[str] = []
    output: tuple[str, str] | None = None
    tokens = [*tokens, ";"]
    while tokens:
        token = tokens.pop(0)
        if token in _REDIRECTS:
            output = (tokens.pop(0), _REDIRECTS[token])
        elif token in _BETWEEN:
            if words:
                yield from _command(words, output, environment)
            words, output = [], None
        else:
            words.append(token)


def _command(
    words: list[str], output: tuple[str, str] | None, environment: MutableMapping[str, str]
) -> Iterator[Command]:
    if words[0] == "export":
        environment.update(_ASSIGNMENT.fullmatch(word).groups() for word in words[1:])
        return
    variables = {}
    while words and (found := _ASSIGNMENT.fullmatch(words[0])):
        variables[found[1]] = found[2]
        words = words[1:]
    if words:
        yield Command(tuple(words), variables, output)
    else:
        environment.update(variables)
