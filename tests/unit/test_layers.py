"""Imports point downwards only, and the core does no I/O."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import k2_verifier_adapter

PACKAGE = "k2_verifier_adapter"
ROOT = Path(k2_verifier_adapter.__file__).parent
LAYERS = ["cli", "evalscope_plugin", "offline", "reports", "simulator", "formats", "core", "data"]
FREE = {"", "__init__", "__main__", "errors", "version", "_hook"}
"""Modules at the top that any layer may import; they import no layer but lazily."""
IO_MODULES = {
    "aiohttp",
    "asyncio",
    "ftplib",
    "http",
    "io",
    "multiprocessing",
    "os",
    "pathlib",
    "requests",
    "shutil",
    "socket",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "urllib",
}
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def layer_of(path: Path) -> str:
    """Name the layer of a module: the first part of its path."""
    return path.parts[0].removesuffix(".py")


def imports(source: str, package: str) -> Iterator[str]:
    """Yield the dotted name of everything that a module imports, inside functions too.

    Imports under `if TYPE_CHECKING:` count: a layer does not know of those above it.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *filter(None, [base])])
            yield from (f"{base}.{name.name}" for name in node.names)


def imports_of(path: Path) -> list[str]:
    """List what a module of the package imports."""
    package = ".".join([PACKAGE, *path.parent.parts])
    return list(imports((ROOT / path).read_text(encoding="utf-8"), package))


def upward(path: Path, imported: list[str]) -> list[str]:
    """List the imports of a module that point upwards."""
    own = layer_of(path)
    if own in FREE or own not in LAYERS:
        return []
    return [
        name
        for name in imported
        if name.split(".")[0] == PACKAGE
        and (layer := [*name.split("."), ""][1]) in LAYERS
        and LAYERS.index(layer) < LAYERS.index(own)
    ]


def test_every_module_belongs_to_a_layer() -> None:
    """A new directory or module at the top must be given its place in the order."""
    assert len(MODULES) > 20
    assert {layer_of(path) for path in MODULES} <= {*LAYERS, *FREE}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_downwards(path: Path) -> None:
    """No module imports from a layer above its own."""
    assert upward(path, imports_of(path)) == []


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_only_the_plugin_imports_evalscope(path: Path) -> None:
    """EvalScope is known to one layer alone."""
    if layer_of(path) not in ("evalscope_plugin", "_hook"):
        assert [name for name in imports_of(path) if name.split(".")[0] == "evalscope"] == []


@pytest.mark.parametrize("path", [path for path in MODULES if layer_of(path) == "core"], ids=str)
def test_the_core_does_no_io(path: Path) -> None:
    """The core imports nothing that reaches a file, a process or the network, and opens nothing."""
    assert [name for name in imports_of(path) if name.split(".")[0] in IO_MODULES] == []
    calls = [
        node.func.id
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert not {"open", "input", "print", "exec", "eval", "__import__"} & set(calls)


@pytest.mark.parametrize("path", [path for path in MODULES if layer_of(path) == "data"], ids=str)
def test_the_data_layer_stands_alone(path: Path) -> None:
    """The lowest layer imports nothing from the rest of the package."""
    others = [
        name for name in imports_of(path) if name.startswith(f"{PACKAGE}.") and f"{PACKAGE}.data" not in name
    ]
    assert others == []


def test_the_rule_finds_offenders() -> None:
    """Imports in functions, relative ones and those of a whole layer are all seen."""
    package = f"{PACKAGE}.core"
    source = "def f():\n    from ..formats import rows\nimport k2_verifier_adapter.reports.text\nfrom . import cases\n"
    found = list(imports(source, package))
    expected = ["k2_verifier_adapter.reports.text", f"{package}.cases", f"{PACKAGE}.formats.rows"]
    assert sorted(found) == sorted(expected)
    assert len(upward(Path("core/x.py"), found)) == 2
    assert upward(Path("cli/x.py"), found) == []
    assert upward(Path("core/x.py"), list(imports(f"from {PACKAGE} import reports", package))) != []
