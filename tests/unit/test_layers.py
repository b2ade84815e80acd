"""Every module imports what the sign on its layer allows, and no imports run in a circle."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import k2_verifier_adapter

PACKAGE = "k2_verifier_adapter"
ROOT = Path(k2_verifier_adapter.__file__).parent
LAYERS = ["cli", "evalscope_plugin", "offline", "reports", "simulator", "formats", "core", "data"]
FREE = {"__init__", "__main__", "errors", "version"}
"""Modules at the top that any layer may import."""
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
JUDGING = {f"{PACKAGE}.core.judging", f"{PACKAGE}.core.judged", f"{PACKAGE}.core.schemas"}
"""What makes a judgement of a response. What a judgement is may be known to all."""

FORBIDDEN: Mapping[str, set[str]] = {
    "cli": {"aiohttp"},
    "evalscope_plugin/client": {f"{PACKAGE}.{layer}" for layer in ("offline", "reports", "formats")}
    | JUDGING,
    "offline": {"aiohttp"},
    "reports": {*(IO_MODULES - {"io"}), *JUDGING, f"{PACKAGE}.simulator", f"{PACKAGE}.formats"},
    "simulator": JUDGING,
    "formats": {"aiohttp", *JUDGING},
    "core": IO_MODULES,
    "data": {f"{PACKAGE}.{module}" for module in ("errors", "version")},
}
"""What the modules of a folder do not import, beside the layers above them and EvalScope."""

KNOWS_EVALSCOPE = "evalscope_plugin"
CLIENT = Path("evalscope_plugin/client")
"""The part of that layer that knows neither EvalScope nor the rest of its layer."""

FORBIDDEN_CALLS = {"open", "input", "print", "exec", "eval", "__import__"}
SILENT = ("core", "reports")
"""Layers that open and print nothing."""

MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def dotted(path: Path) -> str:
    """Give the name under which a module is imported."""
    parts = [PACKAGE, *path.with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


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


def source_of(path: Path) -> str:
    """Read a module of the package."""
    return (ROOT / path).read_text(encoding="utf-8")


def imports_of(path: Path) -> list[str]:
    """List what a module of the package imports."""
    return list(imports(source_of(path), ".".join([PACKAGE, *path.parent.parts])))


def is_within(name: str, areas: set[str]) -> bool:
    """Whether a dotted name is one of the areas or stands in one."""
    return any(name == area or name.startswith(f"{area}.") for area in areas)


def offences(path: Path, imported: list[str]) -> list[str]:
    """List the imports of a module that its layer does not allow."""
    layer = path.parts[0]
    forbidden = {name for folder, names in FORBIDDEN.items() if path.is_relative_to(folder) for name in names}
    if layer in LAYERS:
        forbidden |= {f"{PACKAGE}.{above}" for above in LAYERS[: LAYERS.index(layer)]}
    elif layer.removesuffix(".py") not in ("__init__", "__main__"):
        forbidden |= {f"{PACKAGE}.{above}" for above in LAYERS}
    if layer != KNOWS_EVALSCOPE or path.is_relative_to(CLIENT):
        forbidden.add("evalscope")
    found = {name for name in imported if is_within(name, forbidden)}
    if path.is_relative_to(CLIENT):
        others = [name for name in imported if not is_within(name, {dotted(CLIENT)})]
        found |= {name for name in others if is_within(name, {f"{PACKAGE}.{KNOWS_EVALSCOPE}"})}
    return sorted(found)


def circles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """List the groups of modules each of which imports itself through others of its group."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = graph.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        return seen

    reached = {module: reachable(module) for module in graph}
    left = {module for module in graph if module in reached[module]}
    found = []
    while left:
        first = min(left)
        group = {module for module in left if module in reached[first] and first in reached[module]}
        found.append(group)
        left -= group
    return found


def import_graph() -> dict[str, set[str]]:
    """Give the modules that each module of the package imports."""
    modules = {dotted(path): path for path in MODULES}
    graph = {}
    for name, path in modules.items():
        graph[name] = {
            imported if imported in modules else imported.rpartition(".")[0]
            for imported in imports_of(path)
            if imported.startswith(f"{PACKAGE}.")
        }
    return graph


def test_every_module_belongs_to_a_layer() -> None:
    """A new directory or module at the top must be given its place in the order."""
    assert len(MODULES) > 20
    assert {path.parts[0].removesuffix(".py") for path in MODULES} <= {*LAYERS, *FREE}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_module_imports_what_its_layer_allows(path: Path) -> None:
    """No module imports from a layer above its own, nor what its layer has nothing to do with."""
    assert offences(path, imports_of(path)) == []


def test_no_imports_run_in_a_circle() -> None:
    """No module imports itself through others, under TYPE_CHECKING and inside functions included."""
    assert circles(import_graph()) == []


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[0] in SILENT], ids=str)
def test_core_and_reports_open_and_print_nothing(path: Path) -> None:
    """The layers that compute and render do no more than that."""
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(source_of(path)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not FORBIDDEN_CALLS & calls


def test_the_rules_find_offenders() -> None:
    """Imports in functions, relative ones and those of a whole layer are all seen."""
    package = f"{PACKAGE}.core"
    source = "def f():\n    from ..formats import rows\nimport k2_verifier_adapter.reports.text\nfrom . import cases\n"
    found = list(imports(source, package))
    expected = ["k2_verifier_adapter.reports.text", f"{package}.cases", f"{PACKAGE}.formats.rows"]
    assert sorted(found) == sorted(expected)
    assert len(offences(Path("core/x.py"), found)) == 2
    assert offences(Path("cli/x.py"), found) == []
    assert offences(Path("core/x.py"), list(imports(f"from {PACKAGE} import reports", package))) != []
    assert offences(Path("version.py"), ["evalscope.api"]) == ["evalscope.api"]
    assert offences(Path("formats/x.py"), [f"{PACKAGE}.core.judged.judge_record"]) != []
    assert offences(Path("formats/x.py"), [f"{PACKAGE}.core.judgements.Judgement"]) == []
    assert offences(CLIENT / "x.py", ["evalscope"]) != []
    assert offences(CLIENT / "x.py", [f"{PACKAGE}.evalscope_plugin.settings"]) != []
    assert offences(CLIENT / "x.py", [f"{PACKAGE}.evalscope_plugin.client.pacing"]) == []
    assert offences(Path("evalscope_plugin/x.py"), ["evalscope"]) == []


def test_the_search_finds_circles() -> None:
    """A circle is found whatever leads into it or out of it, and two are told apart."""
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"f"}, "f": {"e", "a"}}
    assert circles(graph) == [{"b", "c"}, {"e", "f"}]
    assert circles({"a": {"b"}, "b": set()}) == []
