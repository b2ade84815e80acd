"""The runs of a matrix: each vendor's is `k2-verifier eval` in a process of its own.

So one vendor's 429, its death or a full disk of its own slows no other, and each leaves an ordinary run.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.evalscope_plugin.run_files import begun
from k2_verifier_adapter.evalscope_plugin.running import Estimate, estimate_eval, merged_settings, settings_of
from k2_verifier_adapter.formats.files import regular_files, storing
from k2_verifier_adapter.formats.vendors import OF_A_VENDOR, Vendor
from k2_verifier_adapter.version import BENCHMARK, CONFORMANCE

COMMAND: Sequence[str] = (sys.executable, "-m", "k2_verifier_adapter")
"""`k2-verifier` of this installation."""

_OF_THE_MATRIX = ("work_dir", "no_timestamp", "use_cache")
_NO_KEY = "EMPTY"
"""EvalScope's own; without it, a vendor would be sent the key that the environment holds for single runs."""

_LAST_BYTES = 4_000
_PREFIX = "k2-verifier: error: "


def shared_settings(
    flags: Sequence[str],
    config: Mapping[str, Any] | None,
    parameters: Mapping[str, Any],
    typed: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Put together what all runs share, or raise `UsageError` for a flag that the vendor file replaces."""
    given = settings_of(flags, None, {}, typed=typed)
    for name in (*OF_A_VENDOR, *_OF_THE_MATRIX):
        if name in given:
            where = (
                "each vendor has its own in the vendor file" if name in OF_A_VENDOR else "the matrix sets it"
            )
            raise UsageError(f"--{name.replace('_', '-')} does not go with a matrix: {where}")
    shared = settings_of(flags, config, parameters, typed=typed)
    return {name: value for name, value in shared.items() if name not in (*OF_A_VENDOR, *_OF_THE_MATRIX)}


def settings_of_vendor(vendor: Vendor, shared: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """Give the task of one vendor's run: what all share, above it its own; a run that is there goes on."""
    generation = dict(shared.get("generation_config") or {})
    for name, own in (("extra_headers", vendor.headers), ("extra_body", vendor.extra_body)):
        if own:
            generation[name] = {**(generation.get(name) or {}), **own}
    own = {"retries": vendor.retries, "timeout": vendor.timeout}
    generation |= {name: value for name, value in own.items() if value is not None}
    limits = {benchmark: {"extra_params": dict(vendor.limits)} for benchmark in shared["datasets"]}
    return {
        **shared,
        "model": vendor.model,
        "api_url": vendor.api_url,
        "api_key": vendor.api_key or _NO_KEY,
        "generation_config": generation,
        "dataset_args": merged_settings(shared.get("dataset_args") or {}, limits),
        "work_dir": str(run),
        "no_timestamp": True,
        **({} if vendor.concurrency is None else {"eval_batch_size": vendor.concurrency}),
        **({"use_cache": str(run)} if begun(run) else {}),
    }


def with_suites(shared: Mapping[str, Any], suites: Sequence[str]) -> dict[str, Any]:
    """Have each run ask suites of probes as well, by their names and files, before its rows."""
    every = shared.get("dataset_args") or {}
    of_rows = (every.get(BENCHMARK) or {}).get("extra_params") or {}
    extra = {name: of_rows[name] for name in ("profile", "gate") if of_rows.get(name)}
    if extra.get("gate") == "upstream":
        del extra["gate"]  # it is about rows
    probes = merged_settings(
        {"extra_params": extra}, {**(every.get(CONFORMANCE) or {}), "subset_list": list(suites)}
    )
    return {
        **shared,
        "datasets": [CONFORMANCE, BENCHMARK],
        "dataset_args": {**every, CONFORMANCE: probes},
    }


class VendorRun:
    """One vendor's run: what it will send, its process, how far it is.

    Attributes:
        vendor: Whose it is.
        run: The run directory.
        log: What its last session has printed.
        estimate: What it will send, with all of its settings checked.
    """

    def __init__(self, vendor: Vendor, shared: Mapping[str, Any], folder: Path) -> None:
        """Check everything that a run checks before its first request; sends nothing, writes nothing."""
        self.vendor = vendor
        self.run = folder / vendor.name
        self.log = self.run / "logs" / "matrix.log"
        self._settings = settings_of_vendor(vendor, shared, self.run)
        if self.run.is_dir():
            for _ in regular_files(self.run):
                pass
        try:
            found = estimate_eval([], self._settings, prices=vendor.prices)
            if CONFORMANCE in self._settings["datasets"]:
                estimate_eval([], self._settings, benchmark=CONFORMANCE)
        except UsageError as error:
            raise UsageError(f"{vendor.where}: {error}") from None
        if len(found) != 1:
            named = ", ".join(estimate.subset for estimate in found)
            raise UsageError(
                f"subset_list holds several subsets ({named}); a matrix compares one: name it alone"
            )
        self.estimate: Estimate = found[0]
        self._process: subprocess.Popen[bytes] | None = None
        self._counted: dict[Path, tuple[int, int]] = {}

    def start(self) -> None:
        """Start the process; its settings, the key among them, go through a pipe.

        The pipe stays open as long as this process lives: its end interrupts the run (`eval --config -`).
        """
        with storing(self.log):
            self.log.parent.mkdir(parents=True, exist_ok=True)
            log = self.log.open("wb")
        with log:
            self._process = process = subprocess.Popen(  # noqa: S603 - this program itself, no shell
                [*COMMAND, "eval", "--config", "-"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A terminal's Ctrl-C is passed on once, by this process.
                start_new_session=True,
            )
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(yaml.safe_dump(self._settings, explicit_end=True).encode())
            process.stdin.flush()

    @property
    def started(self) -> bool:
        """Whether it was."""
        return self._process is not None

    @property
    def total(self) -> int:
        """Requests of the run, those answered before included."""
        cost = self.estimate.cost
        return cost.requests + cost.stored

    @property
    def ended(self) -> int:
        """Requests that were answered or failed by now."""
        paths = self.estimate.paths
        return min(self.total, sum(map(self._lines_of, (paths.predictions, paths.failures))))

    def _lines_of(self, path: Path) -> int:
        """Count the lines of a file that grows, by what has come since the last time."""
        with suppress(FileNotFoundError), path.open("rb") as file:
            size, lines = self._counted.get(path, (0, 0))
            if file.seek(0, 2) < size:
                size = lines = 0
            file.seek(size)
            read = file.read()
            self._counted[path] = size + len(read), lines + read.count(b"\n")
        return self._counted.get(path, (0, 0))[1]

    @property
    def code(self) -> int | None:
        """The exit code; negative if a signal ended it, None while it runs, or if it was not started."""
        process = self._process
        if process is None or process.poll() is None:
            return None
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        return process.returncode

    def interrupt(self) -> None:
        """Have it store and report what it has; nothing happens where it does not run."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)

    @property
    def error(self) -> str | None:
        """The error that ended the last session, in its words; None if none did."""
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - _LAST_BYTES))
            lines = log.read().decode("utf-8", "replace").splitlines()
        said = [line.removeprefix(_PREFIX) for line in lines if line.startswith(_PREFIX)]
        return said[-1] if said else None
