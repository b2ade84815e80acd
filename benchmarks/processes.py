"""The processes of a benchmark: its scripts, one side or the other, and its endpoint."""

from __future__ import annotations

import json
import os
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
