"""How fast is this adapter against EvalScope's own `k2_verifier`, side by side on the same machine?

    python benchmarks/throughput.py                         2,000 rows, three repeats, about six minutes
    python benchmarks/throughput.py --short                 200 rows, one repeat, under a minute
    python benchmarks/throughput.py --output result.json    the same numbers, and every single run, as JSON

What is measured, for each side in a fresh process: one `run_task` over the rows, from its call to its
return (loading, requests, judging, prediction and review files, reports). Not measured: the interpreter's
start and imports, for a run over a few rows goes before. The endpoint is a process of its own that answers
without latency from memory, so the client's speed is what limits. Both sides load the same file, the
schemas of all tools differ, answers are of about half a kilobyte and half of them call a tool.

    samples/s      samples over the wall time of `run_task`
    CPU ms/sample  user and system time of the client process over samples, all threads
    peak RSS       of the client process, EvalScope's imports included
    files          all that the run leaves in its work directory

The sides alternate, and the order changes from repeat to repeat. The table shows medians; the last line
compares the best run of either side, which other work on the machine disturbs least. How much of the
machine other processes took is measured (on Linux) and stated: above a few percent, run it again.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BUILT_IN, ADAPTER = "built_in", "adapter"
MUCH_CPU_PERCENT = 5.0
SERVED_BY = {BUILT_IN: "evalscope", ADAPTER: "k2_verifier_adapter"}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way of asking for the same rows.

    Attributes:
        name: Its name in the table.
        stream: Whether the answers are streamed.
        chunks: Events of a streamed answer.
        concurrency: Requests at the same time.
    """

    name: str
    stream: bool
    chunks: int = 50
    concurrency: int = 32


SCENARIOS = (Scenario("plain", stream=False), Scenario("streamed", stream=True))


@dataclass(frozen=True, slots=True)
class Figure:
    """One column of the table.

    Attributes:
        name: Its name in the JSON result.
        title: Its name in the table.
        digits: Decimals shown.
        more_is_better: Which way the ratio goes: above 1 is always in the adapter's favour.
    """

    name: str
    title: str
    digits: int
    more_is_better: bool = False


FIGURES = (
    Figure("samples_per_s", "samples/s", 1, more_is_better=True),
    Figure("cpu_ms_per_sample", "CPU ms/sample", 2),
    Figure("peak_rss_mb", "peak RSS MB", 0),
    Figure("files_mb", "files MB", 1),
)


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="k2-benchmark-") as name:
        folder = Path(name)
        print(f"writing {options.rows} rows ...", file=sys.stderr)
        workload = json.loads(_script("workload.py", [folder, options.rows], BUILT_IN, folder))
        scenarios = [
            _measure(scenario, options.rows, options.repeat, folder)
            for scenario in SCENARIOS
            if scenario.name in options.scenario
        ]
    result = {
        "schema_version": 1,
        "machine": describe_machine(),
        "workload": workload,
        "repeats": options.repeat,
        "scenarios": scenarios,
    }
    print(table(result))
    for scenario in scenarios:
        busy = scenario["others_cpu_percent"]
        if busy is not None and busy > MUCH_CPU_PERCENT:
            print(f"{scenario['name']}: other processes took {busy:.0f} % of the machine", file=sys.stderr)
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    slowest = min(scenario["ratios_of_best"]["samples_per_s"] for scenario in scenarios)
    if slowest < options.min_ratio:
        print(f"{slowest:.1f} times the throughput, expected {options.min_ratio:g}", file=sys.stderr)
        return 1
    return 0


def _options() -> argparse.Namespace:
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, help="rows to evaluate (2000, or 200 with --short)")
    parser.add_argument("--repeat", type=int, help="runs of each side (3, or 1 with --short)")
    parser.add_argument("--short", action="store_true", help="a rough idea in under a minute")
    parser.add_argument("--scenario", nargs="+", choices=names, default=names, help="only these")
    parser.add_argument("--output", type=Path, help="write the result as JSON")
    parser.add_argument(
        "--min-ratio", type=float, default=0.0, help="exit code 1 below this throughput ratio"
    )
    options = parser.parse_args()
    options.rows = options.rows or (200 if options.short else 2000)
    options.repeat = options.repeat or (1 if options.short else 3)
    return options


def _measure(scenario: Scenario, rows: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Run both sides in turn, as often as asked."""
    runs: dict[str, list[dict[str, Any]]] = {BUILT_IN: [], ADAPTER: []}
    with _endpoint(folder / "answers.jsonl", scenario.chunks) as url:
        for repeat in range(repeats):
            order = (BUILT_IN, ADAPTER) if repeat % 2 == 0 else (ADAPTER, BUILT_IN)
            for side in order:
                run = _run(scenario, side, rows, url, folder)
                runs[side].append(run)
                print(
                    f"{scenario.name} {repeat + 1}/{repeats} {side}: {run['samples_per_s']:.1f} samples/s, "
                    f"{run['cpu_ms_per_sample']:.2f} ms CPU",
                    file=sys.stderr,
                )
    medians = {side: _over(runs[side], statistics.median) for side in runs}
    best = {side: _over(runs[side], None) for side in runs}
    busy = [run["others_cpu_percent"] for side in runs for run in runs[side]]
    return {
        **asdict(scenario),
        "rows": rows,
        "medians": medians,
        "ratios": _ratios(medians[BUILT_IN], medians[ADAPTER]),
        "ratios_of_best": _ratios(best[BUILT_IN], best[ADAPTER]),
        "others_cpu_percent": None if None in busy else round(statistics.mean(busy), 1),
        "ratios_by_repeat": [_ratios(*pair) for pair in zip(runs[BUILT_IN], runs[ADAPTER], strict=True)],
        "runs": runs,
    }


def _over(runs: list[dict[str, Any]], statistic: Callable[[list[float]], float] | None) -> dict[str, float]:
    """Give a statistic of each figure over runs; without one, the best."""
    values = {figure: [run[figure.name] for run in runs] for figure in FIGURES}
    return {
        figure.name: (statistic or (max if figure.more_is_better else min))(found)
        for figure, found in values.items()
    }


def _run(scenario: Scenario, side: str, rows: int, url: str, folder: Path) -> dict[str, Any]:
    before, busy_before, started = _stats(url), _busy_s(), time.perf_counter()
    children = _children_cpu_s()
    with tempfile.TemporaryDirectory(dir=folder) as work_dir:
        arguments = [
            *("--api-url", f"{url}/v1", "--rows", folder / "snapshot", "--limit", rows),
            *("--concurrency", scenario.concurrency, "--work-dir", work_dir),
            *(["--stream"] if scenario.stream else []),
        ]
        run = json.loads(_script("client.py", arguments, side, folder).splitlines()[-1])
    after, busy_after, elapsed = _stats(url), _busy_s(), time.perf_counter() - started
    endpoint_s = after["cpu_s"] - before["cpu_s"]
    others = None
    if busy_before is not None and busy_after is not None:
        others_s = busy_after - busy_before - endpoint_s - (_children_cpu_s() - children)
        others = round(max(0.0, 100 * others_s / elapsed / (os.cpu_count() or 1)), 1)
    expected = {"served_by": SERVED_BY[side], "succeeded": rows, "calls": rows // 2}
    found = {name: run.pop(name) for name in expected}
    if found != expected:
        raise SystemExit(f"{scenario.name}, {side}: {found}, expected {expected}: nothing to compare")
    answered = after["requests"] - before["requests"]
    return {
        "samples_per_s": round(rows / run["wall_s"], 2),
        "cpu_ms_per_sample": round(1000 * run["cpu_s"] / rows, 3),
        "files_mb": round(sum(run["files_bytes"].values()) / 1e6, 2),
        "endpoint_cpu_ms_per_request": round(1000 * endpoint_s / answered, 3),
        "others_cpu_percent": others,
        **run,
    }


def _children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _busy_s() -> float | None:
    """Give the CPU seconds that all processes of the machine have used; None where it does not say."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _ratios(built_in: dict[str, Any], adapter: dict[str, Any]) -> dict[str, float]:
    """Give for each figure how many times better the adapter is."""
    return {
        figure.name: round(
            adapter[figure.name] / built_in[figure.name]
            if figure.more_is_better
            else built_in[figure.name] / adapter[figure.name],
            2,
        )
        for figure in FIGURES
    }


def _environment(side: str, folder: Path) -> dict[str, str]:
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


def _script(name: str, arguments: list[Any], side: str, folder: Path) -> str:
    """Run one of the scripts beside this one; give its standard output."""
    log = folder / "log.txt"
    with log.open("w", encoding="utf-8") as stderr:
        done = subprocess.run(
            [sys.executable, HERE / name, *map(str, arguments)],
            env=_environment(side, folder),
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
def _endpoint(answers: Path, chunks: int) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, HERE / "endpoint.py", answers, "--chunks", str(chunks)],
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


def _stats(url: str) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/stats", timeout=30) as response:
        stats: dict[str, Any] = json.load(response)
    return stats


def describe_machine() -> dict[str, Any]:
    """Describe the machine and the software, without names or paths."""
    packages = ("evalscope", "k2-verifier-adapter", "aiohttp", "openai", "pydantic", "datasets", "jsonschema")
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "cpu": _cpu_model(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: importlib.metadata.version(name) for name in packages},
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


def table(result: dict[str, Any]) -> str:
    """Write the result for people."""
    machine, workload = result["machine"], result["workload"]
    software = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    kilobytes = workload["mean_request_bytes"] / 1000
    lines = [
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB, {machine['system']}",
        f"{machine['python']}, {software}",
        f"{workload['rows']} rows of {kilobytes:.1f} kB, {workload['answers_with_calls']} answers with calls",
        f"{'medians of ' + str(result['repeats']) + ' runs' if result['repeats'] > 1 else 'one run'} a side",
        "",
        f"{'':30}" + "".join(f"{figure.title:>16}" for figure in FIGURES),
    ]
    for scenario in result["scenarios"]:
        how = f"{scenario['chunks']} chunks" if scenario["stream"] else "not streamed"
        title = f"{scenario['name']} ({how}, {scenario['concurrency']} at once)"
        lines.append(title)
        for side, name in ((BUILT_IN, "EvalScope's own"), (ADAPTER, "k2-verifier-adapter")):
            values = scenario["medians"][side]
            cells = [f"{values[figure.name]:>16,.{figure.digits}f}" for figure in FIGURES]
            lines.append(f"  {name:28}" + "".join(cells))
        for name, title in (("ratios", "better by"), ("ratios_of_best", "better by, best runs")):
            better = [f"{scenario[name][figure.name]:>15.1f}x" for figure in FIGURES]
            lines.append(f"  {title:28}" + "".join(better))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
