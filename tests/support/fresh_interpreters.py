"""Many fresh interpreters for the price of one: a process that has only third-party modules loaded, forked.

In a fork neither EvalScope nor this package has been imported, and no start-up file has been read: the
parent runs with `-S`. A job that asks for the hook has `site` read the start-up files first, as the
interpreter does. What is saved are the seconds that pandas, openai and the like take.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import k2_verifier_adapter

ROOT = Path(k2_verifier_adapter.__file__).parents[1]
PACKAGES = [path for path in sys.path if path.endswith("-packages")]
_NOT_FRESH = {"evalscope", "k2_verifier_adapter", "pytest", "_pytest", "hypothesis", "support", "conftest"}


@dataclass(frozen=True)
class Job:
    """Code for a fresh interpreter.

    Attributes:
        code: What it runs.
        hook: Whether the start-up files are read first.
        variables: Environment variables to set.
    """

    code: str
    hook: bool = True
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """How a job ended: exit code and both streams."""

    code: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        """The last line of the standard output of a job that succeeded."""
        assert self.code == 0, self.stderr
        return self.stdout.strip().splitlines()[-1]


_PARENT = """
import contextlib, importlib, json, os, sys, tempfile, traceback, warnings
modules, jobs = json.load(sys.stdin)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for module in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(module)
assert not {"evalscope", "k2_verifier_adapter"} & set(sys.modules)

def run(job, out, err):
    for stream, file in ((1, out), (2, err)):
        os.dup2(file.fileno(), stream)
    os.environ.update(job["variables"])
    if job["hook"]:
        import site
        site.main()
    code = 1
    try:
        exec(compile(job["code"], "<job>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

def wait(running, done):
    pid, status = os.wait()
    key, out, err = running.pop(pid)
    for file in (out, err):
        file.seek(0)
    done[key] = [os.waitstatus_to_exitcode(status), out.read(), err.read()]

running, done = {}, {}
for key, job in jobs.items():
    out, err = (tempfile.TemporaryFile("w+") for _ in "12")
    pid = os.fork()
    if pid == 0:
        run(job, out, err)
    running[pid] = key, out, err
    if len(running) == 2:
        wait(running, done)
while running:
    wait(running, done)
json.dump(done, sys.stdout)
"""


def run_jobs(jobs: Mapping[str, Job]) -> dict[str, Done]:
    """Run every job in an interpreter of its own, two at a time."""
    # Loading everything here brings the third-party modules that are worth preloading.
    import evalscope.benchmarks  # noqa: F401
    from evalscope.api.registry import BENCHMARK_REGISTRY

    assert "k2_verifier" in list(BENCHMARK_REGISTRY)
    modules = [name for name in sys.modules if name.partition(".")[0] not in _NOT_FRESH]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *PACKAGES])
    done = subprocess.run(
        [sys.executable, "-S", "-c", _PARENT],
        input=json.dumps([modules, {name: asdict(job) for name, job in jobs.items()}]),
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: Done(*result) for name, result in json.loads(done.stdout).items()}
