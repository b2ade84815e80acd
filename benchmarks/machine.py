"""The machine a benchmark ran on, and how much of it other processes took."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

PACKAGES = ("evalscope", "k2-verifier-adapter", "aiohttp", "openai", "pydantic", "datasets", "jsonschema")


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
