"""How long do the parts of the work take: loading, judging, scoring a log, starting a command?

    load      2,000 rows (20 MB) until EvalScope has its samples: from a local file, and through the data sets
              library's cache, as from the hub; EvalScope's own benchmark through that cache
    judge     2,000 responses with calls, all schemas distinct, failure classes included; beside it the bare
              `jsonschema.validate` of the same calls, which EvalScope's own benchmark makes
    score     a results file of 9 kB a line, by one process: every line of a case of its own, so
              that as much is read of official rows, and ten repeats of each case
    start     `k2-verifier --help`, `score` and `report`, until the first byte on standard output

Each figure is the best of several runs in a fresh process, imports excluded but for `start`. As a script,
this is that process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from processes import ADAPTER, BUILT_IN, environment_of, script
from workload import generate_rows

ROWS = 2000
LINES = 20_000
SCORE_REPEATS = 10
REPEATS = 3
SUBSET = "k2_thinking"
SEED = 20_25_11
_MEAN_CHARS = 8_500


def load(folder: Path) -> dict[str, Any]:
    """Load the rows of the snapshot, each way in a fresh process."""
    script("workload.py", [folder, ROWS], BUILT_IN, folder)
    rows = folder / "snapshot" / "data" / SUBSET / "test.jsonl"
    ways = {
        "k2-verifier-adapter, local file": (ADAPTER, rows),
        "k2-verifier-adapter, through the cache": (ADAPTER, folder / "snapshot"),
        "EvalScope's own, through the cache": (BUILT_IN, folder / "snapshot"),
    }
    found = {}
    for name, (side, source) in ways.items():
        arguments = ["load", "--source", source]
        if side == ADAPTER and source.is_dir():
            arguments.append("--cached")
        runs = [
            json.loads(script("parts.py", arguments, side, folder).splitlines()[-1]) for _ in range(REPEATS)
        ]
        found[name] = {figure: min(run[figure] for run in runs) for figure in runs[0]}
    return found


def load_in_process(source: Path, *, cached: bool) -> dict[str, float]:
    """Load once small and once in full; measure the second."""
    from evalscope.api.registry import get_benchmark
    from evalscope.config import TaskConfig

    def samples(limit: int) -> int:
        config = TaskConfig(
            model="k2",
            api_url="http://127.0.0.1:1/v1",
            eval_type="openai_api",
            datasets=["k2_verifier"],
            dataset_args={"k2_verifier": {"local_path": str(source)}},
            limit=limit,
        )
        adapter = get_benchmark("k2_verifier", config)
        if cached:
            from k2_verifier_adapter.core.history import HistoryOptions
            from k2_verifier_adapter.evalscope_plugin import loading
            from k2_verifier_adapter.formats.rows import decode_records, records_of

            records = loading._load_from_hub(adapter, SUBSET)  # noqa: SLF001 - the hub itself is out of reach
            rows = decode_records(records_of(records), str(source), HistoryOptions())
            return len(loading.to_dataset(adapter, loading.choose_rows(adapter, rows, None)))
        return len(adapter.load_dataset()[SUBSET])

    samples(8)
    before, started = _peak_rss_mb(), time.perf_counter()
    loaded = samples(ROWS)
    assert loaded == ROWS, loaded
    return {"seconds": time.perf_counter() - started, "mb": _peak_rss_mb() - before}


def judge(folder: Path) -> dict[str, Any]:
    """Judge in a fresh process."""
    return json.loads(script("parts.py", ["judge"], ADAPTER, folder).splitlines()[-1])


def _rows_with_calls(number: int) -> Iterator[dict[str, Any]]:
    for row in generate_rows(4 * number, SEED, distinct_tools=True, mean_chars=_MEAN_CHARS):
        if row["official_tool_calls"]:
            yield row
            number -= 1
        if not number:
            return


def judge_in_process() -> dict[str, float]:
    """Judge every response once with cold schemas; validate the same calls with jsonschema alone."""
    import jsonschema

    from k2_verifier_adapter.core.cases import decode_row
    from k2_verifier_adapter.core.history import HistoryOptions
    from k2_verifier_adapter.core.judging.judge import judge as judge_response
    from k2_verifier_adapter.core.responses import NotACompletion, parse_completion

    rows = list(_rows_with_calls(ROWS + 20))
    cases = [decode_row(row, number, HistoryOptions()) for number, row in enumerate(rows)]
    responses = []
    for row in rows:
        message = {"role": "assistant", "content": None, "tool_calls": json.loads(row["official_tool_calls"])}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        response = parse_completion(json.dumps({"choices": [choice]}))
        assert not isinstance(response, NotACompletion)
        responses.append(response)
    pairs = list(zip(cases, responses, strict=True))
    for case, response in pairs[:20]:
        judge_response(case, response)
    best = {}
    started = time.perf_counter()
    valid = sum(judge_response(case, response).tool_calls_valid is True for case, response in pairs[20:])
    best["seconds"] = time.perf_counter() - started
    started = time.perf_counter()
    for case, response in pairs[20:]:
        tools = {tool["function"]["name"]: tool["function"].get("parameters") for tool in case.tools()}
        for call in response.tool_calls:
            function = call["function"]
            with contextlib.suppress(Exception):  # as EvalScope's own benchmark does
                jsonschema.validate(json.loads(function["arguments"]), tools[function["name"]])
    best["jsonschema_seconds"] = time.perf_counter() - started
    return {**best, "responses": len(pairs) - 20, "valid": valid}


def _results(folder: Path, lines: int, repeats: int = 1) -> tuple[Path, Path]:
    """Write rows and a results file of their official answers, about 9 kB a line.

    Args:
        folder: Where to write them.
        lines: Lines of the results file.
        repeats: Lines of each row.
    """
    rows_path, results_path = folder / "rows.jsonl", folder / "results.jsonl"
    rows = list(generate_rows(min(lines, 2000), SEED, distinct_tools=True, mean_chars=7_000))
    with rows_path.open("wb") as file:
        for number in range(lines // repeats):
            file.write(_line(rows[number % len(rows)]))
    with results_path.open("wb") as file:
        for number in range(lines):
            row = rows[number // repeats % len(rows)]
            calls = json.loads(row["official_tool_calls"] or "null")
            message = {
                "role": "assistant",
                "content": "" if calls else "An answer. " * 20,
                "tool_calls": calls,
            }
            finish_reason = "tool_calls" if calls else "stop"
            choice = {"index": 0, "message": message, "finish_reason": finish_reason}
            request = {"messages": json.loads(row["messages"]), "tools": json.loads(row["tools"])}
            line = {
                "data_index": number // repeats + 1,
                **({"repeat": number % repeats} if repeats > 1 else {}),
                "request": {"model": "k2", **request},
                "response": {"choices": [choice]},
                "status": "success",
                "finish_reason": finish_reason,
            }
            file.write(_line(line))
    return rows_path, results_path


def _line(value: Any) -> bytes:
    # Some official answers hold a lone surrogate.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def score(folder: Path) -> dict[str, Any]:
    """Score logs; what starting costs is taken off."""
    return {
        "a row for each line": _score(folder, 1),
        f"{SCORE_REPEATS} repeats": _score(folder, SCORE_REPEATS),
    }


def _score(folder: Path, repeats: int) -> dict[str, float]:
    taken: dict[int, float] = {}
    for lines in (LINES // 10, LINES):
        rows, results = _results(folder, lines, repeats)
        command = [sys.executable, "-m", "k2_verifier_adapter", "score", str(results), "--rows", str(rows)]
        runs = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            _run([*command, "--format", "json"], folder)
            runs.append(time.perf_counter() - started)
        taken[lines] = min(runs)
    return {
        "line_bytes": round(results.stat().st_size / LINES),
        "lines_per_s": (LINES - LINES // 10) / (taken[LINES] - taken[LINES // 10]),
    }


def start(folder: Path) -> dict[str, Any]:
    """Time the commands until their first byte."""
    rows, results = _results(folder, 10)
    commands = {
        "--help": ["--help"],
        "score": ["score", str(results), "--rows", str(rows)],
        "report": ["report", str(_small_run(folder))],
    }
    found = {}
    for name, arguments in commands.items():
        runs = []
        for _ in range(2 * REPEATS):
            started = time.perf_counter()
            with subprocess.Popen(
                [sys.executable, "-m", "k2_verifier_adapter", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment_of(ADAPTER, folder),
            ) as process:
                assert process.stdout is not None
                process.stdout.read(1)
                runs.append(time.perf_counter() - started)
                process.stdout.read()
        found[name] = {"seconds": min(runs)}
    return found


def _small_run(folder: Path) -> Path:
    """Leave a run directory of ten rows."""
    work_dir = folder / "run"
    _run(
        [sys.executable, "-m", "k2_verifier_adapter", "demo", "--limit", "10", "--work-dir", str(work_dir)],
        folder,
    )
    return work_dir


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, capture_output=True, env=environment_of(ADAPTER, folder), check=False)
    if done.returncode != 0:
        raise SystemExit(f"{command[3]} ended with {done.returncode}: {done.stderr.decode()[-2000:]}")


def _peak_rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


PARTS: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "load": load,
    "judge": judge,
    "score": score,
    "start": start,
}


def measure(names: Sequence[str]) -> dict[str, Any]:
    """Measure parts, each in a directory of its own."""
    found = {}
    for name in names:
        with tempfile.TemporaryDirectory(prefix="k2-parts-") as folder:
            print(f"{name} ...", file=sys.stderr)
            found[name] = PARTS[name](Path(folder))
    return found


def table(parts: dict[str, Any]) -> list[str]:
    """Write the result for people."""
    lines: list[str] = []
    if "load" in parts:
        lines += ["", f"load {ROWS:,} rows"]
        lines += [
            f"  {name:42}{run['seconds']:>8.2f} s {run['mb']:>8.0f} MB" for name, run in parts["load"].items()
        ]
    if "judge" in parts:
        run = parts["judge"]
        lines += ["", f"judge {run['responses']:,} responses with calls"]
        lines += [f"  {'k2-verifier-adapter, classes included':42}{run['seconds']:>8.2f} s"]
        lines += [f"  {'jsonschema.validate alone':42}{run['jsonschema_seconds']:>8.2f} s"]
    for way, run in parts.get("score", {}).items():
        lines += ["", f"score {LINES:,} lines of {run['line_bytes'] / 1000:.1f} kB, {way}"]
        lines += [f"  {'k2-verifier score':42}{run['lines_per_s']:>8,.0f} lines/s"]
    if "start" in parts:
        lines += ["", "start to first output"]
        lines += [
            f"  {'k2-verifier ' + name:42}{run['seconds']:>8.2f} s" for name, run in parts["start"].items()
        ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="One of the processes of performance.py.")
    parser.add_argument("part", choices=["load", "judge"])
    parser.add_argument("--source", type=Path)
    parser.add_argument("--cached", action="store_true")
    options = parser.parse_args()
    found = (
        judge_in_process()
        if options.part == "judge"
        else load_in_process(options.source, cached=options.cached)
    )
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
