"""How fast is this adapter against EvalScope's own `k2_verifier`, side by side on the same machine?

What is measured, for each side in a fresh process: one `run_task` over the rows, from its call to its
return (loading, requests, judging, prediction and review files, reports). Not measured: the interpreter's
start and imports, for a run over a few rows goes before. The endpoint is a process of its own that answers
from memory. Both sides load the same file, the schemas of all tools differ, answers are of about half a
kilobyte and half of them call a tool.

    samples/s      samples over the wall time of `run_task`
    CPU ms/sample  user and system time of the client process over samples, all threads
    peak RSS       of the client process, EvalScope's imports included
    files          all that the run leaves in its work directory
    over ideal     where the endpoint takes its time: from the first request to the end of the last answer,
                   as the endpoint sees it, over the time of a client that costs nothing and never waits

Without latency the client's speed is what limits; with it, how well the client keeps its places filled.
The sides alternate, and the order changes from repeat to repeat. The table shows medians; the last line
compares the best run of either side, which other work on the machine disturbs least. How much of the
machine other processes took is measured (on Linux) and stated: above a few percent, run it again.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from client import WARM_UP_ROWS
from endpoint import NONE, ideal_s
from processes import ADAPTER, BUILT_IN, SERVED_BY, SIDES, busy_s, children_cpu_s, endpoint, script, stats_of

MUCH_CPU_PERCENT = 5.0
SHORT_ROWS = 200


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way of asking for the same rows.

    Attributes:
        name: Its name in the table.
        stream: Whether the answers are streamed.
        chunks: Events of a streamed answer.
        concurrency: Requests at the same time.
        latency: How long the endpoint takes, by the names of `latency.py`.
        rows: Rows of the scenario.
        repeats: Runs of each side.
    """

    name: str
    stream: bool = True
    chunks: int = 50
    concurrency: int = 32
    latency: str = NONE
    rows: int = 2000
    repeats: int = 3

    @property
    def title(self) -> str:
        """Its line in the table."""
        how = f"{self.chunks} chunks" if self.stream else "not streamed"
        latency = "" if self.latency == NONE else f", latency {self.latency}"
        return f"{self.name} ({self.rows:,} rows, {how}, {self.concurrency} at once{latency})"


SCENARIOS = (
    Scenario("plain", stream=False),
    Scenario("streamed"),
    Scenario("uneven", latency="0.1-0.9 s", rows=400, repeats=1),
    Scenario("slow tail", latency="0.2 s, 5 % 6 s", rows=400, repeats=1),
    Scenario("many", latency="2-6 s", concurrency=256, repeats=1),
)


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
    Figure("over_ideal", "over ideal", 2),
)


def measure(scenarios: Sequence[Scenario], folder: Path) -> dict[str, Any]:
    """Run both sides through scenarios, all over the same rows.

    Args:
        scenarios: The scenarios.
        folder: Where to put rows, answers and runs.
    """
    rows = max(scenario.rows for scenario in scenarios)
    print(f"writing {rows} rows ...", file=sys.stderr)
    workload = json.loads(script("workload.py", [folder, rows], BUILT_IN, folder))
    return {"workload": workload, "scenarios": [_measure(scenario, folder) for scenario in scenarios]}


def short(scenarios: Sequence[Scenario]) -> list[Scenario]:
    """Give what shows gross changes in under a minute: few rows, without the known latencies."""
    return [
        replace(scenario, rows=SHORT_ROWS, repeats=1) for scenario in scenarios if scenario.latency == NONE
    ]


def slowest_ratio(result: dict[str, Any]) -> float:
    """Give the smallest throughput ratio, by the best runs."""
    ratios = (scenario["ratios_of_best"].get("samples_per_s") for scenario in result["scenarios"])
    return min((ratio for ratio in ratios if ratio is not None), default=float("inf"))


def _measure(scenario: Scenario, folder: Path) -> dict[str, Any]:
    """Run both sides in turn, as often as the scenario says."""
    runs: dict[str, list[dict[str, Any]]] = {BUILT_IN: [], ADAPTER: []}
    with endpoint(folder / "answers.jsonl", scenario.chunks, scenario.latency) as url:
        for repeat in range(scenario.repeats):
            order = (BUILT_IN, ADAPTER) if repeat % 2 == 0 else (ADAPTER, BUILT_IN)
            for side in order:
                run = _run(scenario, side, url, folder)
                runs[side].append(run)
                print(
                    f"{scenario.name} {repeat + 1}/{scenario.repeats} {side}: "
                    + ", ".join(f"{figure.title} {run[figure.name]:,g}" for figure in _figures(run)),
                    file=sys.stderr,
                )
    if len({run["calls"] for side in runs for run in runs[side]}) != 1:
        raise SystemExit(f"{scenario.name}: the sides do not count the same calls: nothing to compare")
    medians = {side: _over(runs[side], statistics.median) for side in runs}
    best = {side: _over(runs[side], None) for side in runs}
    busy = [run["others_cpu_percent"] for side in runs for run in runs[side]]
    return {
        **asdict(scenario),
        "title": scenario.title,
        "medians": medians,
        "ratios": _ratios(medians[BUILT_IN], medians[ADAPTER]),
        "ratios_of_best": _ratios(best[BUILT_IN], best[ADAPTER]),
        "others_cpu_percent": None if None in busy else round(statistics.mean(busy), 1),
        "runs": runs,
    }


def _figures(values: dict[str, Any]) -> list[Figure]:
    """List the figures that a run has."""
    return [figure for figure in FIGURES if figure.name in values]


def _over(runs: list[dict[str, Any]], statistic: Callable[[list[float]], float] | None) -> dict[str, float]:
    """Give a statistic of each figure over runs; without one, the best."""
    return {
        figure.name: (statistic or (max if figure.more_is_better else min))(
            [run[figure.name] for run in runs]
        )
        for figure in _figures(runs[0])
    }


def _run(scenario: Scenario, side: str, url: str, folder: Path) -> dict[str, Any]:
    before, busy_before, started = stats_of(url), busy_s(), time.perf_counter()
    children = children_cpu_s()
    with tempfile.TemporaryDirectory(dir=folder) as work_dir:
        arguments = [
            *("--api-url", f"{url}/v1", "--rows", folder / "snapshot", "--limit", scenario.rows),
            *("--concurrency", scenario.concurrency, "--work-dir", work_dir),
            *(["--stream"] if scenario.stream else []),
        ]
        run = json.loads(script("client.py", arguments, side, folder).splitlines()[-1])
    after, busy_after, elapsed = stats_of(url), busy_s(), time.perf_counter() - started
    endpoint_s = after["cpu_s"] - before["cpu_s"]
    others = None
    if busy_before is not None and busy_after is not None:
        others_s = busy_after - busy_before - endpoint_s - (children_cpu_s() - children)
        others = round(max(0.0, 100 * others_s / elapsed / (os.cpu_count() or 1)), 1)
    expected = {"served_by": SERVED_BY[side], "succeeded": scenario.rows}
    found = {name: run.pop(name) for name in expected}
    if found != expected:
        raise SystemExit(f"{scenario.name}, {side}: {found}, expected {expected}: nothing to compare")
    answered = after["requests"] - before["requests"]
    figures = {
        "samples_per_s": round(scenario.rows / run["wall_s"], 2),
        "cpu_ms_per_sample": round(1000 * run["cpu_s"] / scenario.rows, 3),
        "files_mb": round(sum(run["files_bytes"].values()) / 1e6, 2),
        "endpoint_cpu_ms_per_request": round(1000 * endpoint_s / answered, 3),
        "others_cpu_percent": others,
        **run,
    }
    if scenario.latency != NONE:
        served = after["served"][len(before["served"]) + WARM_UP_ROWS :]
        took = max(end for _, end, _ in served) - served[0][0]
        ideal = ideal_s([latency for *_, latency in served], scenario.concurrency)
        figures |= {
            "requests_s": round(took, 3),
            "ideal_s": round(ideal, 3),
            "over_ideal": round(took / ideal, 3),
        }
        # What limits is the endpoint: throughput and CPU say nothing here.
        del figures["samples_per_s"], figures["cpu_ms_per_sample"]
    return figures


def _ratios(built_in: dict[str, Any], adapter: dict[str, Any]) -> dict[str, float]:
    """Give for each figure how many times better the adapter is."""
    return {
        figure.name: round(
            adapter[figure.name] / built_in[figure.name]
            if figure.more_is_better
            else built_in[figure.name] / adapter[figure.name],
            2,
        )
        for figure in _figures(adapter)
    }


def table(result: dict[str, Any]) -> list[str]:
    """Write the result for people."""
    kilobytes = result["workload"]["mean_request_bytes"] / 1000
    lines = [f"rows of {kilobytes:.1f} kB, half of the answers with calls; medians of the runs of a side"]
    for scenario in result["scenarios"]:
        figures = _figures(scenario["medians"][ADAPTER])
        lines += ["", scenario["title"], f"{'':26}" + "".join(f"{figure.title:>14}" for figure in figures)]
        for side, name in SIDES.items():
            values = scenario["medians"][side]
            cells = [f"{values[figure.name]:>14,.{figure.digits}f}" for figure in figures]
            lines.append(f"  {name:24}" + "".join(cells))
        for name, title in (("ratios", "better by"), ("ratios_of_best", "better by, best runs")):
            if name == "ratios" or scenario["repeats"] > 1:
                better = [f"{scenario[name][figure.name]:>13.1f}x" for figure in figures]
                lines.append(f"  {title:24}" + "".join(better))
        busy = scenario["others_cpu_percent"]
        if busy is not None and busy > MUCH_CPU_PERCENT:
            lines.append(f"  other processes took {busy:.0f} % of the machine: run it again")
    return lines
