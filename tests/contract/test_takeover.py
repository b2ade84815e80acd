"""Taking the benchmark's name over, in fresh interpreters: every lookup order, and every way to fail."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import site
import subprocess
import sys
from pathlib import Path

import pytest
from support.forks import PACKAGES, ROOT, Job, run_fresh

import k2_verifier_adapter
from k2_verifier_adapter.evalscope_plugin.takeover import HOOK_FILE, find_start_up_file, status

BUILT_IN = "evalscope.benchmarks.k2_verifier.k2_verifier_adapter"
OURS = "k2_verifier_adapter.evalscope_plugin.adapter"
WARNING = "k2-verifier-adapter: EvalScope's own k2_verifier benchmark is running, not this adapter ("

needs_hook = pytest.mark.skipif(find_start_up_file() is None, reason="the start-up file is not installed")


def _python(code, *flags, **variables):
    """Run code in a fresh interpreter; `-S` ones find the packages but no start-up file."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    if "-S" in flags:
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *PACKAGES])
    environment |= variables
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _stdout(code, *flags, **variables):
    done = _python(code, *flags, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


REGISTRY = "from evalscope.api.registry import BENCHMARK_REGISTRY as registry\n"
CATALOG = "import evalscope.benchmarks\n" + REGISTRY
SERVED_BY = "\nprint(registry['k2_verifier'].data_adapter.__module__)"
ORDERS = {
    "registry alone": REGISTRY,
    "item": CATALOG,
    "get": CATALOG + "registry.get('k2_verifier')",
    "in": CATALOG + "assert 'k2_verifier' in registry",
    "keys": CATALOG + "assert 'k2_verifier' in list(registry.keys())",
    "items": CATALOG + f"assert dict(registry.items())['k2_verifier'].data_adapter.__module__ == '{OURS}'",
    "iteration and len": CATALOG + "assert len(registry) == len([name for name in registry])",
    "lookup": CATALOG + "registry.lookup('k2_verifier')",
    "pop is the registry's own": CATALOG
    + "meta = registry.pop('k2_verifier')\nregistry['k2_verifier'] = meta",
    "built-in module first": f"import {BUILT_IN}\n" + REGISTRY,
    "built-in package first": "import evalscope.benchmarks.k2_verifier\n" + CATALOG,
    "another benchmark first": CATALOG + "registry['gsm8k']",
    "mistyped name first": CATALOG + "assert 'k2_verifer' not in registry",
    "get_benchmark": "from evalscope.api.registry import get_benchmark\n"
    f"assert type(get_benchmark('k2_verifier')).__module__ == '{OURS}'\n" + REGISTRY,
    "run_task imported first": "from evalscope import TaskConfig, run_task\n" + REGISTRY,
    "our adapter imported first": f"import {OURS}\n" + REGISTRY,
    "our evaluator imported first": "import k2_verifier_adapter.evalscope_plugin.evaluator\n" + REGISTRY,
    "from many threads": CATALOG + "from concurrent.futures import ThreadPoolExecutor\n"
    "with ThreadPoolExecutor(8) as pool:\n"
    "    found = list(pool.map(lambda _: registry['k2_verifier'].data_adapter.__module__, range(8)))\n"
    f"assert set(found) == {{'{OURS}'}}, found",
}
WITHOUT_HOOK = {
    "adapter first": "import k2_verifier_adapter\n" + CATALOG,
    "EvalScope first": "import evalscope\nimport k2_verifier_adapter\n" + CATALOG,
    "catalog first": CATALOG + "import k2_verifier_adapter",
    "looked up before": CATALOG + f"assert registry['k2_verifier'].data_adapter.__module__ == '{BUILT_IN}'\n"
    "import k2_verifier_adapter",
    "listed before": CATALOG + "list(registry.keys())\nimport k2_verifier_adapter",
    "installed twice": "import k2_verifier_adapter\nk2_verifier_adapter.install()\n" + CATALOG,
}


BROKEN_ADAPTER = f"import sys\nsys.modules['{OURS}'] = None\n"
"""Makes the import of our adapter raise, as a change in EvalScope would."""

NO_BUILT_IN = """
import sys
class Hides:
    def find_spec(self, name, path=None, target=None):
        if name.startswith('evalscope.benchmarks.k2_verifier'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Hides())
"""
"""Makes EvalScope lack the module that is waited for, as a renaming in a future version would."""

OTHERS = """
from evalscope.api.registry import EVALUATOR_REGISTRY as evaluators
import json
names = [registry[name].data_adapter.__module__ for name in ('gsm8k', 'k2_verifier')]
names += [evaluators['k2_verifier'].__module__, evaluators['default'].__module__, 'gsm8k' in evaluators]
print(json.dumps(names))
"""

REQUIRE = "from k2_verifier_adapter.evalscope_plugin.takeover import require_active\nrequire_active()"
COMMAND = "import sys\nsys.argv = ['evalscope', 'benchmark-info', %r]\nfrom evalscope.cli.cli import run_cmd\nrun_cmd()"
DISABLE = "K2_VERIFIER_ADAPTER_DISABLE"

JOBS = {
    **{f"hook, {name}": Job(code + SERVED_BY) for name, code in ORDERS.items()},
    **{f"-S, {name}": Job(code + SERVED_BY, hook=False) for name, code in WITHOUT_HOOK.items()},
    "-S alone": Job(CATALOG + SERVED_BY, hook=False),
    "others": Job(CATALOG + OTHERS),
    "disabled": Job(CATALOG + SERVED_BY, variables={DISABLE: "1"}),
    "disabled by 0": Job(CATALOG + SERVED_BY, variables={DISABLE: "0"}),
    "required": Job(REQUIRE, variables={DISABLE: "yes"}),
    "broken, one": Job(BROKEN_ADAPTER + CATALOG + SERVED_BY),
    "broken, all": Job(BROKEN_ADAPTER + CATALOG + "list(registry.keys())" + SERVED_BY),
    "renamed": Job(NO_BUILT_IN + CATALOG + "print(registry['gsm8k'].name)"),
    "--list": Job(COMMAND % "--list"),
    "mistyped": Job(COMMAND % "k2_verifer"),
    "described": Job(COMMAND % "k2_verifier"),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What came of all the jobs; without an installed start-up file, of those that need none."""
    installed = find_start_up_file() is not None
    jobs = {name: job for name, job in JOBS.items() if installed or not job.hook}
    return run_fresh(jobs, tmp_path_factory.mktemp("fresh"))


@needs_hook
@pytest.mark.parametrize("order", ORDERS)
def test_the_hook_takes_over_in_every_lookup_order(found, order):
    """With the package installed and nothing imported, the name gives this adapter, whatever comes first."""
    done = found[f"hook, {order}"]
    assert done.last_line == OURS
    assert "k2-verifier-adapter:" not in done.stderr


@pytest.mark.parametrize("order", WITHOUT_HOOK)
def test_the_import_takes_over_without_the_hook(found, order):
    """Without start-up file (`-S`), `import k2_verifier_adapter` takes over, before or after EvalScope."""
    done = found[f"-S, {order}"]
    assert done.last_line == OURS
    assert "k2-verifier-adapter:" not in done.stderr


def test_without_hook_and_import_evalscopes_own_is_left_alone(found):
    """Under `-S` without our import, EvalScope serves its own benchmark: the tests above test something."""
    assert found["-S alone"].last_line == BUILT_IN


@needs_hook
@pytest.mark.parametrize("flags", [(), ("-I",)], ids=["plain", "-I"])
def test_a_plain_interpreter_uses_this_adapter(flags):
    """A really fresh interpreter, isolated or not, gives this adapter."""
    assert _stdout(CATALOG + SERVED_BY, *flags) == OURS


@needs_hook
def test_other_benchmarks_and_the_evaluator_are_what_they_were(found):
    """Another benchmark keeps its adapter and evaluator; this one has its own evaluator."""
    gsm8k, k2, evaluator, default, special = json.loads(found["others"].last_line)
    assert gsm8k.startswith("evalscope.benchmarks.gsm8k")
    assert (k2, evaluator) == (OURS, "k2_verifier_adapter.evalscope_plugin.evaluator")
    assert (default.startswith("evalscope."), special) == (True, False)


@needs_hook
def test_the_disable_variable_gives_the_built_in_back(found):
    """`K2_VERIFIER_ADAPTER_DISABLE` leaves EvalScope's benchmark in place, and "0" does not."""
    assert found["disabled"].last_line == BUILT_IN
    assert found["disabled by 0"].last_line == OURS
    assert found["required"].code == 1
    assert found["required"].stderr.strip().splitlines()[-1] == (
        "k2_verifier_adapter.errors.TakeoverError: EvalScope's own k2_verifier benchmark would run instead: "
        "switched off by K2_VERIFIER_ADAPTER_DISABLE='yes'"
    )


def test_status_says_who_serves_the_name():
    """In this interpreter the status is active and names the adapter and EvalScope's version."""
    said = status()
    version = importlib.metadata.version("evalscope")
    assert said.active
    assert said.reason == f"k2_verifier is served by {OURS} (EvalScope {version})"


# --- broken --------------------------------------------------------------------------------------


@needs_hook
@pytest.mark.parametrize("lookup", ["one", "all"])
def test_a_broken_adapter_leaves_evalscope_running(found, lookup):
    """If our adapter cannot be imported, one line on stderr says so and EvalScope's own benchmark serves."""
    done = found[f"broken, {lookup}"]
    assert done.last_line == BUILT_IN
    (line,) = [line for line in done.stderr.splitlines() if "k2-verifier-adapter" in line]
    assert line.startswith(WARNING)
    assert "ModuleNotFoundError" in line
    assert "Traceback" not in done.stderr


@needs_hook
def test_an_evalscope_without_the_module_is_warned_about(found):
    """If EvalScope has no such module, one line says so as soon as its catalog loads; the rest works."""
    done = found["renamed"]
    assert done.last_line == "gsm8k"
    (line,) = [line for line in done.stderr.splitlines() if "k2-verifier-adapter" in line]
    assert line.startswith(WARNING)
    assert BUILT_IN in line


def test_the_start_up_line_cannot_raise(tmp_path):
    """With the package gone, or broken, the .pth line writes one line and the interpreter goes on."""
    (tmp_path / HOOK_FILE).write_text((ROOT / "hooks" / HOOK_FILE).read_text())
    run = f"import site\nsite.addsitedir({str(tmp_path)!r})\nprint('on')"
    done = _python(run, "-I", "-S")
    assert (done.returncode, done.stdout.strip()) == (0, "on")
    (line,) = done.stderr.splitlines()
    assert line.startswith("k2-verifier-adapter: not active: ModuleNotFoundError")

    package = tmp_path / "k2_verifier_adapter"
    package.mkdir()
    (package / "__init__.py").write_text("raise ValueError('broken')")
    done = _python(run, "-I", "-S")
    assert (done.returncode, done.stdout.strip()) == (0, "on")
    assert done.stderr.splitlines() == ["k2-verifier-adapter: not active: ValueError('broken')"]


def test_both_start_up_files_do_the_same():
    """The .pth line is one line that starts with `import`; the .start entry names an existing function."""
    (line,) = (ROOT / "hooks" / HOOK_FILE).read_text().splitlines()
    assert line.startswith("import ")
    (entry,) = (ROOT / "hooks" / "k2_verifier_adapter_hook.start").read_text().split()
    module, _, function = entry.partition(":")
    assert getattr(importlib.import_module(module), function) is k2_verifier_adapter.install


MEASURE = """
import os, sys
before = set(sys.modules)
import k2_verifier_adapter
added = set(sys.modules) - before
import importlib, time
durations = []
for _ in range(200):
    for name in [name for name in sys.modules if name.partition('.')[0] == 'k2_verifier_adapter']:
        del sys.modules[name]
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != '_Finder']
    began = time.perf_counter()
    import k2_verifier_adapter
    durations.append(time.perf_counter() - began)
print(' '.join(sorted(added)), sorted(durations)[100] * 1000)
"""


def test_the_start_up_hook_imports_next_to_nothing(record_property):
    """What every interpreter start pays for is four modules of ours and `__future__`: no EvalScope."""
    *added, milliseconds = _stdout(MEASURE, "-S").split()
    ours = {"", ".version", ".evalscope_plugin", ".evalscope_plugin.registration"}
    assert set(added) - {"__future__"} == {f"k2_verifier_adapter{name}" for name in ours}
    record_property("median_start_up_ms", milliseconds)


@needs_hook
def test_an_interpreter_start_imports_no_evalscope():
    """A start with the hook brings neither EvalScope nor anything slow."""
    code = "import sys\nprint(sorted({m.partition('.')[0] for m in sys.modules} & {'evalscope', 'aiohttp', 'asyncio', 'json', 're'}))"
    plain = _stdout(code, "-S")
    assert _stdout(code) == plain == "[]"


# --- the stock command ---------------------------------------------------------------------------


@needs_hook
def test_benchmark_info_describes_this_adapter(found):
    """`evalscope benchmark-info k2_verifier` shows our description and parameters."""
    done = found["described"]
    assert done.code == 0, done.stderr
    for text in (
        "Served by k2-verifier-adapter",
        "malformed_history",
        "normalize_tool_call_ids",
        "trigger_similarity",
    ):
        assert text in done.stdout


@needs_hook
def test_benchmark_info_lists_everything(found):
    """`evalscope benchmark-info --list` works and lists this benchmark and the others."""
    done = found["--list"]
    assert done.code == 0, done.stderr
    assert "k2_verifier" in done.stdout
    assert "gsm8k" in done.stdout


@needs_hook
def test_a_mistyped_name_is_still_suggested(found):
    """A mistyped benchmark name ends in EvalScope's own suggestion."""
    done = found["mistyped"]
    assert done.code == 1
    assert "Did you mean: 'k2_verifier'" in done.stderr.strip().splitlines()[-1]


# --- the distribution ----------------------------------------------------------------------------


@pytest.mark.skipif(find_start_up_file() is None, reason="the package is not installed")
def test_uninstalling_leaves_nothing_behind():
    """Every file of the installation, the start-up files included, is in the RECORD that pip works by."""
    recorded = {Path(file).name for file in importlib.metadata.files("k2-verifier-adapter")}
    folder = Path(find_start_up_file()).parent
    assert str(folder) in {*site.getsitepackages(), site.getusersitepackages()}
    left = {path.name for path in folder.iterdir() if "k2_verifier" in path.name and path.is_file()}
    assert left <= recorded
    assert {HOOK_FILE, "k2_verifier_adapter_hook.start"} <= left
