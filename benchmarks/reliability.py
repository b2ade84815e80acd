"""How reliable is this adapter? One command for every figure in docs/reliability.md.

    python benchmarks/reliability.py                     everything; the fuzzer takes most of the time
    python benchmarks/reliability.py --inputs 2000       a short fuzzing round
    python benchmarks/reliability.py --only faults load  these parts only

    faults   every fault of the simulated vendor against the real client, and all of them in one run
    kills    SIGKILL, SIGINT and SIGTERM at points all over a run, a full and a read-only disk; then resumed
    fuzz     hostile responses, streams, rows and stored files against the pure core
    load     2,000 cases over 256 streams at once, the report held against the vendor's own ledger

Needs the `test` extra. Every part says how many it tried and how many it survived; the exit code is 1 if
one of them lost, invented or broke anything.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CASES = 2000
STREAMS = 256


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one part found.

    Attributes:
        part: Its name.
        tried: How many it tried.
        survived: How many of them held.
        skipped: How many could not be tried on this machine.
        seconds: How long it took.
        says: One line for a person.
    """

    part: str
    tried: int
    survived: int
    skipped: int
    seconds: float
    says: str


def run_tests(*arguments: str, **variables: str) -> tuple[int, int, int]:
    """Run pytest; give the numbers of tests tried, survived and skipped."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        environment = {**os.environ, **variables}
        subprocess.run([*command, *arguments], cwd=ROOT, env=environment, stdout=sys.stderr, check=False)
        suite = ET.parse(report).getroot().find("testsuite")
    assert suite is not None
    number = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    tried = number["tests"] - number["skipped"]
    return tried, tried - number["failures"] - number["errors"], number["skipped"]


def faults(_: argparse.Namespace) -> tuple[int, int, int, str]:
    """Try every fault of the table in docs/requests.md."""
    tests = ("contract/test_fault_table.py", "contract/test_wire_shapes.py", "e2e/test_faults.py")
    tried, survived, skipped = run_tests(*(f"tests/{name}" for name in tests))
    return tried, survived, skipped, f"{survived} of {tried} fault cases survived"


def kills(_: argparse.Namespace) -> tuple[int, int, int, str]:
    """Kill runs, fill disks, take write permission away; resume."""
    tried, survived, skipped = run_tests("tests/e2e/test_kills.py", "tests/e2e/test_storage.py")
    return tried, survived, skipped, f"{survived} of {tried} deaths survived"


def fuzz(options: argparse.Namespace) -> tuple[int, int, int, str]:
    """Fuzz the core."""
    tried, survived, skipped = run_tests(
        "tests/fuzz",
        "--dist=load",
        "--numprocesses=auto",
        f"--hypothesis-seed={options.seed}",
        K2_VERIFIER_FUZZ_INPUTS=str(options.inputs),
    )
    return tried, survived, skipped, f"{survived} of {tried} held, {options.inputs:,} new inputs a target"


def load(_: argparse.Namespace) -> tuple[int, int, int, str]:
    """Hold 256 streams, with a vendor that behaves and with one that breaks in every way."""
    lines = []
    held = 0
    for profile in ("official", "broken"):
        command = [sys.executable, str(ROOT / "benchmarks/load.py"), "--profile", profile]
        command += ["--rows", str(CASES), "--concurrency", str(STREAMS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        held += done.returncode == 0
        lines.append(f"{profile}: {done.stdout.strip().splitlines()[-1] if done.stdout.strip() else 'broke'}")
    return 2, held, 0, "; ".join(lines)


PARTS: Mapping[str, Callable[[argparse.Namespace], tuple[int, int, int, str]]] = {
    "faults": faults,
    "kills": kills,
    "fuzz": fuzz,
    "load": load,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts only")
    parser.add_argument("--inputs", type=int, default=100_000, help="new inputs a target (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the fuzzer (%(default)s)")
    parser.add_argument("--output", type=Path, help="write the result as JSON")
    options = parser.parse_args()
    outcomes = []
    for part in options.only:
        started = time.perf_counter()
        tried, survived, skipped, says = PARTS[part](options)
        seconds = round(time.perf_counter() - started, 1)
        outcomes.append(Outcome(part, tried, survived, skipped, seconds, says))
    for outcome in outcomes:
        skipped = f", {outcome.skipped} skipped" if outcome.skipped else ""
        print(f"{outcome.part:8}{outcome.says}{skipped} ({outcome.seconds:,.0f} s)")
    if options.output is not None:
        options.output.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    return 0 if all(outcome.tried == outcome.survived for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
