"""Measure all that docs/performance.md states, this adapter beside EvalScope's own benchmark.

    python benchmarks/performance.py                        everything, about 15 minutes
    python benchmarks/performance.py --only plain load      these scenarios and parts only
    python benchmarks/performance.py --short --min-ratio 2  few rows, once: fails on gross changes only
    python benchmarks/performance.py --output result.json   the same numbers, and every single run, as JSON

`throughput.py` says what a scenario is, `parts.py` what a part is. Run it on a machine that does nothing
else: ratios of one run are what counts, absolute times are the machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import parts
import throughput
from processes import describe, describe_machine


def main() -> int:
    options = _options()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    scenarios = [scenario for scenario in throughput.SCENARIOS if scenario.name in options.only]
    names = [name for name in parts.PARTS if name in options.only]
    if options.short:
        scenarios, names = throughput.short(scenarios), []
    result: dict[str, Any] = {"schema_version": 3, "machine": describe_machine()}
    lines = describe(result["machine"])
    if scenarios:
        with tempfile.TemporaryDirectory(prefix="k2-benchmark-") as folder:
            result |= throughput.measure(scenarios, Path(folder))
        lines += throughput.table(result)
    if names:
        result["parts"] = parts.measure(names)
        lines += parts.table(result["parts"])
    print("\n".join(lines))
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    slowest = throughput.slowest_ratio(result) if scenarios else float("inf")
    if slowest < options.min_ratio:
        print(f"{slowest:.1f} times the throughput, expected {options.min_ratio:g}", file=sys.stderr)
        return 1
    return 0


def _options() -> argparse.Namespace:
    names = [*(scenario.name for scenario in throughput.SCENARIOS), *parts.PARTS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="a rough idea in under a minute")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="only these")
    parser.add_argument("--output", type=Path, help="write the result as JSON")
    parser.add_argument(
        "--min-ratio", type=float, default=0.0, help="exit code 1 below this throughput ratio"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
