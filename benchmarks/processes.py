"""The machine of a benchmark, and its processes: scripts, one side or the other, the endpoint."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BUILT_IN, ADAPTER = "built_in", "adapter"
SIDES = {BUILT_IN: "EvalScope's own", ADAPTER: "k2-verifier-adapter"}
PACKAGES = ("evalscope", "k2-verifier-adapter", "aiohttp", "openai", "pydantic", "datasets", "jsonschema")
SERVED_BY = {BUILT_IN: "evalscope", ADAPTER: "k2_verifier_adapter"}


def environment_of(side: str, folder: Path) -> dict[str, str]:
    """Give the environment of a child: compiled modules, caches of its own, one of the two sides."""
    environment = {
        **os.environ,
        "HF_HOME": str(folder / "cache"),
        "HF_DATASETS_OFFLINE": "1",
        "MODELSCOPE_CACHE": str(folder / "cache" / "modelscope"),
        "NO_PROXY": "127.0.0.1",
    }
    for name in ("PYTHONDONTWRITEBYTECODE", "K2_VERIFIER_ADAPTER_DISABLE"):
        environment.pop(name, None)
    if side == BUILT_IN:
        environment["K2_VERIFIER_ADAPTER_DISABLE"] = "1"
    return environment


def script(name: str, arguments: list[Any], side: str, folder: Path) -> str:
    """Run one of the scripts beside this one; give its standard output."""
    log = folder / "log.txt"
    with log.open("w", encoding="utf-8") as stderr:
        done = subprocess.run(
            [sys.executable, HERE / name, *map(str, arguments)],
            env=environment_of(side, folder),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        tail = log.read_text(encoding="utf-8", errors="replace")[-4000:]
        raise SystemExit(f"{name} ended with {done.returncode}:\n{done.stdout[-1000:]}\n{tail}")
    return done.stdout


@contextmanager
def endpoint(answers: Path, chunks: int, latency: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, HERE / "endpoint.py", answers, "--chunks", str(chunks), "--latency", latency],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise SystemExit("the endpoint did not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def stats_of(url: str) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/stats", timeout=30) as response:
        stats: dict[str, Any] = json.load(response)
    return stats


def describe_machine() -> dict[str, Any]:
    """Describe the machine and the software, without names or paths."""
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "cpu": _cpu_model(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else None


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, OSError, ValueError):
        return None


def children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def busy_s() -> float | None:
    """Give the CPU seconds that all processes of the machine have used; None where it does not say."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def describe(machine: dict[str, Any]) -> list[str]:
    """Say in two lines what `describe_machine` found."""
    software = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return [
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB, {machine['system']}",
        f"{machine['python']}, {software}",
    ]
