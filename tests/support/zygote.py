"""Runs in processes of their own that may be killed, without the seconds that EvalScope takes to load.

One process loads EvalScope and this package; every run is a fork of it, which takes milliseconds.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.runs import without_proxy

_PATIENCE_S = 120
"""Seconds after which a child hangs for good."""


@dataclass
class Child:
    """A run under way, or ended.

    Attributes:
        pid: Its process id, valid until it is waited for.
        folder: Where it runs, and where its output is kept.
    """

    zygote: Zygote
    pid: int
    folder: Path
    name: str

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self) -> int | None:
        """Wait for its end; give the exit code, negative if a signal ended it, None if one stopped it."""
        try:
            return self.zygote.ask({"wait": self.pid})["code"]
        except TimeoutError:
            os.kill(self.pid, signal.SIGKILL)
            raise

    @property
    def stdout(self) -> str:
        """What it has printed."""
        return (self.folder / f"{self.name}.out").read_text()

    @property
    def stderr(self) -> str:
        """What it has printed to standard error."""
        return (self.folder / f"{self.name}.err").read_text()


class Zygote:
    """The process that is forked."""

    def __init__(self) -> None:
        """Start it."""
        script = Path(__file__).with_name("zygote_process.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Forks of a process with threads may hang.
            env=without_proxy({**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}),
        )
        self._answer()

    def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        """Send a command; wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], _PATIENCE_S)[0]:
            raise TimeoutError
        return json.loads(self._process.stdout.readline())

    def start(
        self,
        folder: Path,
        *,
        arguments: Sequence[str] = (),
        settings: dict[str, Any] | None = None,
        name: str = "child",
        trace: Path | None = None,
        at: int = 0,
        number: int = signal.SIGKILL,
        file_size: int = 0,
        unprivileged: bool = False,
    ) -> Child:
        """Fork a run.

        Args:
            folder: Where it runs.
            arguments: The command line of `k2-verifier`.
            settings: Settings for a stock `run_task` instead.
            name: Names the files of its output.
            trace: A file for everything that it does to files below the folder's parent, one step a line.
            at: The step, counted from 1, at which it sends itself a signal.
            number: That signal.
            file_size: How large a file it may write, in bytes; 0 for any.
            unprivileged: Whether permissions bind it even if it is root's.
        """
        answer = self.ask(
            {
                "folder": str(folder),
                "arguments": list(arguments),
                "settings": settings,
                "stdout": str(folder / f"{name}.out"),
                "stderr": str(folder / f"{name}.err"),
                "trace": None if trace is None else str(trace),
                "at": at,
                "signal": int(number),
                "file_size": file_size,
                "unprivileged": unprivileged,
            }
        )
        return Child(self, answer["pid"], folder, name)

    def run(self, folder: Path, **options: Any) -> tuple[int | None, Child]:
        """Fork a run and wait for its end; give the exit code and the child."""
        child = self.start(folder, **options)
        return child.wait(), child

    def close(self) -> None:
        """End it."""
        self._process.communicate()
