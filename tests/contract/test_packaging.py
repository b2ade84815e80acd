"""What is published: the contents and the metadata of the sdist and the wheel."""

from __future__ import annotations

import ast
import email
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.forks import ROOT

from k2_verifier_adapter.data import BUNDLED_SUITES
from k2_verifier_adapter.version import __version__

pytest.importorskip("hatchling", reason="hatchling is not installed")

NAME = f"k2_verifier_adapter-{__version__}"
DIST_INFO = f"{NAME}.dist-info"
HOOKS = ["k2_verifier_adapter_hook.pth", "k2_verifier_adapter_hook.start"]
DATA = [
    "data/README.md",
    "data/advice.json",
    "data/bundled_rows.jsonl",
    "data/models.json",
    *(f"data/suites/{name}.jsonl" for name in BUNDLED_SUITES),
    "py.typed",
    "reports/assets/report.css",
    "reports/assets/report.js",
    "reports/schema/comparison.schema.json",
    "reports/schema/history.schema.json",
    "reports/schema/conformance.schema.json",
    "reports/schema/matrix.schema.json",
    "reports/schema/report.schema.json",
]
"""What the package holds beside its modules."""

SDIST_FOLDERS = ["benchmarks", "configs", "docs", "hooks", "k2_verifier_adapter", "tests", "tools"]
SDIST_FILES = [".gitignore", "LICENSE", "PKG-INFO", "pyproject.toml"]

BUILD = """
import sys
from hatchling.builders.{kind} import {builder}
print(next({builder}(sys.argv[1]).build(directory=sys.argv[2], versions=["standard"])))
"""


def _build(kind: str, tree: Path, folder: Path) -> Path:
    code = BUILD.format(kind=kind, builder=f"{kind.capitalize()}Builder")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tree), str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip().splitlines()[-1])


def _is_kept(path: Path) -> bool:
    """Whether a file of the working tree belongs to the project."""
    names = path.relative_to(ROOT).parts
    return path.is_file() and not any(name.startswith(".") or name == "__pycache__" for name in names)


@dataclass(frozen=True)
class Built:
    """The distributions of the working tree."""

    sdist: Path
    wheel: Path

    def read(self, name: str) -> str:
        """Read a file of the wheel's metadata."""
        with zipfile.ZipFile(self.wheel) as wheel:
            return wheel.read(f"{DIST_INFO}/{name}").decode()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build both from the working tree."""
    folder = tmp_path_factory.mktemp("dist")
    return Built(_build("sdist", ROOT, folder), _build("wheel", ROOT, folder))


def test_the_wheel_holds_the_package_and_nothing_else(built):
    """Every module, the data, both start-up files at the top and the licence; no tests, no caches."""
    package = ROOT / "k2_verifier_adapter"
    modules = [f"k2_verifier_adapter/{path.relative_to(package)}" for path in package.rglob("*.py")]
    data = [f"k2_verifier_adapter/{name}" for name in DATA]
    about = ["METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"]
    with zipfile.ZipFile(built.wheel) as wheel:
        names = wheel.namelist()
        for hook in HOOKS:
            assert wheel.read(hook) == (ROOT / "hooks" / hook).read_bytes()
    assert sorted(names) == sorted([*modules, *data, *HOOKS, *(f"{DIST_INFO}/{name}" for name in about)])
    recorded = [line.split(",")[0] for line in built.read("RECORD").splitlines()]
    assert sorted(recorded) == sorted(names), "pip uninstall removes what RECORD lists"
    assert built.read("licenses/LICENSE") == (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_the_sdist_holds_the_project_and_nothing_else(built):
    """Package, hooks, tests, configs, benchmarks and documents as a whole; no caches, nothing left by a run."""
    with tarfile.open(built.sdist) as sdist:
        names = [name.partition("/")[2] for name in sdist.getnames()]
        assert {name.partition("/")[0] for name in sdist.getnames()} == {NAME}
    inside = [path for folder in SDIST_FOLDERS for path in (ROOT / folder).rglob("*") if _is_kept(path)]
    inside += ROOT.glob("*.md")
    assert sorted(names) == sorted([*SDIST_FILES, *(str(path.relative_to(ROOT)) for path in inside)])
    assert {"README.md", "CHANGELOG.md"} < set(names)


def test_the_wheel_of_the_sdist_is_the_wheel_of_the_tree(built, tmp_path):
    """Whoever builds from the sdist gets the same wheel, byte by byte."""
    with tarfile.open(built.sdist) as sdist:
        sdist.extractall(tmp_path, filter="data")
    again = _build("wheel", tmp_path / NAME, tmp_path)
    assert again.name == built.wheel.name == f"{NAME}-py3-none-any.whl"
    assert again.read_bytes() == built.wheel.read_bytes()


def test_the_metadata(built):
    """Name, version, Python, licence, classifiers, extras and start-up are what the project says."""
    from trove_classifiers import classifiers

    metadata = email.message_from_string(built.read("METADATA"))
    assert (metadata["Name"], metadata["Version"]) == ("k2-verifier-adapter", __version__)
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
    assert metadata.get_all("Provides-Extra") == ["dev", "ray", "test"]
    named = metadata.get_all("Classifier")
    assert set(named) <= set(classifiers)
    assert not [name for name in named if name.startswith("License")], "the expression says it"
    pythons = [name.rpartition(" ")[2] for name in named if "Python :: 3." in name]
    assert pythons == ["3.10", "3.11", "3.12", "3.13"]
    assert metadata.get_all("Project-URL") is None, "there is none to give"


def test_the_newest_release_in_the_changelog_is_this_version():
    """The changelog's newest entry, if anything is released, is of the package's version."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d[^]]*)\]", text, re.MULTILINE)
    assert released[:1] in ([], [__version__])


# --- dependencies --------------------------------------------------------------------------------

DISTRIBUTIONS = {
    "async_timeout": "async-timeout",
    "jsonschema_specifications": "jsonschema-specifications",
    "yaml": "pyyaml",
}
"""Import name to distribution, where they differ."""
OPTIONAL = {"ray"}
LOADED_BY_EVALSCOPE = {"datasets", "modelscope"}
"""Never imported here; EvalScope loads the hosted rows with them, and says too little of their versions."""


def _imported(source: str) -> set[str]:
    """Name the top-level packages that a module imports, but for those of `if TYPE_CHECKING:`."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
    return found - sys.stdlib_module_names - {"k2_verifier_adapter"}


def test_what_is_imported_is_what_is_required(built):
    """Every package that is imported is a dependency, and every dependency is imported, each with a bound."""
    modules = (ROOT / "k2_verifier_adapter").rglob("*.py")
    imported = set().union(*(_imported(path.read_text(encoding="utf-8")) for path in modules))
    required = email.message_from_string(built.read("METADATA")).get_all("Requires-Dist")
    required = [line for line in required if "extra ==" not in line]
    names = {re.match(r"[\w-]+", line)[0] for line in required}
    assert names == {DISTRIBUTIONS.get(name, name) for name in imported - OPTIONAL} | LOADED_BY_EVALSCOPE
    assert not [line for line in required if ">=" not in line]
