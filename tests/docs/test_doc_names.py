"""Files, modules and functions that the documents name are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from documents import DOCS, PACKAGE, ROOT, documents, headings, name_of, paragraphs, read, spans

from k2_verifier_adapter.core.failure_classes import FailureClass

BASES = (ROOT, PACKAGE)
"""What a path in a document may be relative to."""

_TOP = {path.name for base in BASES for path in base.iterdir() if path.is_dir() and path.name[0] not in "._"}
_PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)+/?")
_CALL = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*)\(\)")
_OF_A_RUN = re.compile(
    r"outputs\b|RUN\b|reports/(?:[A-Z]|kimi|report\.html)|predictions/|reviews/|k2_verifier/|configs/task_config\.yaml"
)
"""What lies in a run directory, which has folders of the same names."""

_NOT_OURS = {"json.dumps", "json.loads", "str"}


def files_named(span: str) -> list[str]:
    """List the paths in a code span that would have to lie in this project."""
    found = () if "//" in span or " /" in span else _PATH.findall(span)
    ours = (path.strip("/") for path in found if path.split("/")[0] in _TOP)
    return [path for path in ours if not _OF_A_RUN.match(path)]


def located(path: str) -> Path | None:
    """Find what a path in a document names."""
    return next((base / path for base in BASES if (base / path).exists()), None)


@cache
def defined_in(path: Path) -> frozenset[str]:
    """Give the functions and classes that a module defines, methods as `Class.method`."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names.add(node.name)
            methods = (ast.FunctionDef, ast.AsyncFunctionDef)
            names.update(f"{node.name}.{item.name}" for item in node.body if isinstance(item, methods))
    return frozenset(names)


def missing(text_of: list[tuple[int, str]]) -> list[str]:
    """List the paths that do not exist."""
    return [
        f"line {number}: {path}"
        for number, paragraph in text_of
        for span in spans(paragraph)
        for path in files_named(span)
        if located(path) is None
    ]


@pytest.mark.parametrize("path", documents(), ids=name_of)
def test_every_file_named_exists(path):
    """A path between backticks that begins with a folder of this project is one of its files."""
    assert missing(list(paragraphs(read(path)[0]))) == []


def unknown_functions(path: Path) -> list[str]:
    """List the functions that no file named in the same section defines."""
    prose, _ = read(path)
    starts = [0, *(number for number, _, _ in headings(prose)), 10**9]
    found = []
    for begin, end in pairwise(starts):
        named = [
            span
            for _, text in paragraphs([x for x in prose if begin <= x.number < end])
            for span in spans(text)
        ]
        files = [located(file) for span in named for file in files_named(span) if file.endswith(".py")]
        known = {name for file in files if file is not None for name in defined_in(file)}
        called = {call[1] for span in named if (call := _CALL.fullmatch(span))}
        found += [f"line {begin}: {name}()" for name in sorted(called - known - _NOT_OURS)]
    return found


@pytest.mark.parametrize("name", ["architecture.md", "extending.md"])
def test_every_function_named_is_defined_in_a_file_of_its_section(name):
    """A name with parentheses is a function or method of a module that the same section names."""
    assert unknown_functions(DOCS / name) == []


def test_the_walk_names_what_it_walks_through():
    """The architecture names each layer and each sub-package, and functions enough to follow a row."""
    page = DOCS / "architecture.md"
    picture = next(block.text for block in read(page)[1] if block.language == "text")
    drawn = set()
    layer = ""
    for line in picture.splitlines():
        names = re.match(r"(?:  )?((?:[a-z_]+ )*[a-z_]+)(?:  |$)", line)[1].split()
        layer = layer if line.startswith(" ") else names[0]
        drawn |= {f"{layer}/{name}" for name in names} if line.startswith(" ") else {layer}
    packages = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("__init__.py")}
    assert drawn == packages - {"."}
    assert len(set(_CALL.findall(page.read_text(encoding="utf-8")))) > 50


@pytest.mark.parametrize(
    ("name", "said"), [("README.md", "{} failure classes"), ("README_zh.md", "{} 个失败类别")]
)
def test_the_number_of_failure_classes_is_stated(name, said):
    """It grows with every class."""
    assert said.format(len(FailureClass)) in (ROOT / name).read_text(encoding="utf-8")


def test_the_checks_find_what_is_gone(tmp_path):
    """A file and a function that do not exist are found; so is a function of another section."""
    assert missing([(3, "`core/no_such.py` and `core/cases.py`, `a/b.py`, `https://core/x`")]) == [
        "line 3: core/no_such.py"
    ]
    page = tmp_path / "page.md"
    page.write_text("# One\n`core/cases.py`: `decode_row()`, `no_such()`\n# Two\n`decode_row()` `str()`\n")
    assert unknown_functions(page) == ["line 1: no_such()", "line 3: decode_row()"]
