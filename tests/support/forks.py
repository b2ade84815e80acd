"""Processes of their own without the seconds that EvalScope takes to load.

One process loads modules; every child is a fork of it, which takes milliseconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from support.fork_server import LONGEST_MESSAGE
from support.runs import without_proxy

import k2_verifier_adapter

ROOT = Path(k2_verifier_adapter.__file__).parents[1]
PACKAGES = [path for path in sys.path if path.endswith("-packages")]

A_RUN_LOADS = (
    "evalscope.benchmarks",
    "evalscope.report.renderer",
    "evalscope.run",
    "k2_verifier_adapter.cli",
    "k2_verifier_adapter.evalscope_plugin.running",
    "k2_verifier_adapter.reports.text",
    "openai.resources.chat",
)
_NOT_FRESH = {"evalscope", "k2_verifier_adapter", "pytest", "_pytest", "hypothesis", "support", "conftest"}
_PATIENCE_S = 120
"""Seconds after which a child hangs for good."""


@dataclass(frozen=True)
class Point:
    """When a child sends itself a signal: at the nth `open`, `rename` or `write` of a file; see `fork_server.watch`."""

    event: str
    path: str
    times: int = 1
    number: int = signal.SIGKILL


@dataclass(frozen=True)
class Call:
    """What a child does.

    Attributes:
        arguments: The command line of `k2-verifier`.
        settings: Settings for a stock `run_task` instead.
        code: Code to run instead.
        hook: Whether the start-up files are read first.
        point: When it sends itself a signal.
        file_size: How large a file it may write, in bytes; 0 for any.
        unprivileged: Whether permissions bind it even if it is root's.
    """

    arguments: Sequence[str] = ()
    settings: Mapping[str, Any] | None = None
    code: str | None = None
    folder: str = "."
    environment: Mapping[str, str] = field(default_factory=dict)
    hook: bool = False
    point: Point | None = None
    file_size: int = 0
    unprivileged: bool = False


class Child:
    """A child under way, or ended."""

    def __init__(self, connection: socket.socket, out: Path, err: Path) -> None:
        """Wait for its start."""
        self._connection, self._out, self._err = connection, out, err
        self.pid = self._answer()

    def _answer(self) -> Any:
        return json.loads(self._connection.recv(LONGEST_MESSAGE))

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self) -> int | None:
        """Wait for its end; give the exit code, negative if a signal ended it, None if one stopped it."""
        try:
            code = self._answer()
        except TimeoutError:
            os.kill(self.pid, signal.SIGKILL)
            raise
        if code is not None:
            self._connection.close()
        return code

    @property
    def stdout(self) -> str:
        """What it has printed."""
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        """What it has printed to standard error."""
        return self._err.read_text()


class ForkServer:
    """The process that is forked, until it is closed."""

    def __init__(
        self,
        modules: Iterable[str] = A_RUN_LOADS,
        flags: Sequence[str] = (),
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """Start it."""
        # A socket's address may have about a hundred characters, which pytest's folders can exceed.
        self._folder = tempfile.TemporaryDirectory(prefix="k2-")
        self.address = str(Path(self._folder.name, "socket"))
        script = Path(__file__).with_name("fork_server.py")
        # Forks of a process with threads may hang.
        self.environment = without_proxy({**environment, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"})
        self._process = subprocess.Popen(
            [sys.executable, *flags, str(script), self.address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.environment,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(list(modules)).encode() + b"\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == b"ready\n"

    def start(
        self, folder: Path, *, name: str = "child", variables: Mapping[str, str] = {}, **call: Any
    ) -> Child:
        """Fork a child that does what a `Call` of these fields says; `name` names the files of its output."""
        out, err = folder / f"{name}.out", folder / f"{name}.err"
        chosen = Call(folder=str(folder), environment={**self.environment, **variables}, **call)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(_PATIENCE_S)
        connection.connect(self.address)
        with Path(os.devnull).open() as nothing, out.open("w") as stdout, err.open("w") as stderr:
            streams = [stream.fileno() for stream in (nothing, stdout, stderr)]
            socket.send_fds(connection, [json.dumps(asdict(chosen)).encode()], streams)
        return Child(connection, out, err)

    def run(self, folder: Path, **options: Any) -> tuple[int | None, Child]:
        """Fork a child and wait for its end; give the exit code and the child."""
        child = self.start(folder, **options)
        return child.wait(), child

    def close(self) -> None:
        """End it."""
        self._process.communicate()
        self._folder.cleanup()


# --- the command on a shell's path -----------------------------------------------------------------

_STUB = """#!/bin/sh
'exec' '{python}' '-SE' "$0" "$@"
import json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({address!r})
    environment = {{**os.environ, "K2_COMMAND": os.path.abspath(sys.argv[0])}}
    call = {{**{call!r}, "arguments": sys.argv[1:], "folder": os.getcwd(), "environment": environment}}
    socket.send_fds(server, [json.dumps(call).encode()], [0, 1, 2])
    pid = json.loads(server.recv(99))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.kill(pid, number))
    sys.exit(json.loads(server.recv(99)) % 256)
"""


@contextlib.contextmanager
def installed(forks: ForkServer | None = None) -> Iterator[Path]:
    """Give a folder for the path, with `k2-verifier` and `python`, as an installation makes one."""
    server = forks or ForkServer()
    with tempfile.TemporaryDirectory(prefix="k2-") as name:
        stub = _STUB.format(python=sys.executable, address=server.address, call=asdict(Call()))
        texts = {"python": f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', "k2-verifier": stub}
        for command, text in texts.items():
            path = Path(name, command)
            path.write_text(text)
            path.chmod(0o755)
        yield Path(name)
    if forks is None:
        server.close()


# --- fresh interpreters ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """Code for a fresh interpreter: neither EvalScope nor this package has been imported there.

    Attributes:
        code: What it runs.
        hook: Whether the start-up files are read first, as an interpreter does.
        variables: Environment variables to set.
    """

    code: str
    hook: bool = True
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """How a job ended: exit code and both streams."""

    code: int | None
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        """The last line of the standard output of a job that succeeded."""
        assert self.code == 0, self.stderr
        return self.stdout.strip().splitlines()[-1]


def run_fresh(jobs: Mapping[str, Job], folder: Path) -> dict[str, Done]:
    """Run every job in an interpreter of its own, two at a time."""
    # Loading everything here brings the third-party modules that are worth preloading.
    import evalscope.benchmarks  # noqa: F401
    from evalscope.api.registry import BENCHMARK_REGISTRY

    assert "k2_verifier" in list(BENCHMARK_REGISTRY)
    modules = [name for name in sys.modules if name.partition(".")[0] not in _NOT_FRESH]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *PACKAGES])
    # No start-up file has been read there.
    server = ForkServer(modules, ["-S"], environment)

    def run(item: tuple[str, Job]) -> tuple[str, Done]:
        name, job = item
        code, child = server.run(folder, name=name, **asdict(job))
        return name, Done(code, child.stdout, child.stderr)

    with contextlib.closing(server), ThreadPoolExecutor(2) as pool:
        return dict(pool.map(run, jobs.items()))
