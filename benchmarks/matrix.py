"""What a slow, a rate-limiting and a dead vendor cost the others of a matrix: each one's time over the ideal.

The ideal is what a client without any cost of its own needs for the same rows at the same concurrency
(`endpoint.ideal_s`); both are taken from the vendors' own clocks, first request to last answer, in one run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from endpoint import ideal_s, latency_of

from k2_verifier_adapter.data import bundled_rows_path
from k2_verifier_adapter.simulator import Profile, SimulatedVendor, profile_named, profile_with

CONCURRENCY = 8


@dataclass
class Timed:
    """One vendor of the matrix, and when it was asked.

    Attributes:
        spans: From arrival to answer of every request, by row; retries included.
    """

    profile: Profile
    seconds: Callable[[int], float]
    spans: list[tuple[float, float]] = field(default_factory=list)

    def latency(self, row: int) -> float:
        """Note an arrival; give the seconds until its answer."""
        now, seconds = time.monotonic(), self.seconds(row)
        self.spans.append((now, now + seconds))
        return seconds

    @property
    def took_s(self) -> float:
        """Seconds from the first request to the last answer."""
        return max(end for _, end in self.spans) - min(start for start, _ in self.spans)

    @property
    def ideal_s(self) -> float:
        """Seconds that the same requests take at best."""
        return ideal_s([end - start for start, end in self.spans], CONCURRENCY)


def vendors() -> dict[str, Timed]:
    """Make the vendors that live."""
    return {
        "steady": Timed(profile_named("official"), lambda row: latency_of("0.1-0.9 s", row)),
        "slow": Timed(profile_named("noisy"), lambda row: latency_of("2-6 s", row)),
        "limiting": Timed(profile_with({"http_429@1": 0.1}), lambda row: latency_of("0.1-0.9 s", row)),
    }


def run_matrix(timed: Mapping[str, Timed], *, dead: bool) -> int:
    """Run a matrix of these vendors, and of one that nobody serves; give the exit code."""
    rows = [json.loads(line) for line in bundled_rows_path().read_text(encoding="utf-8").splitlines()]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        urls = {}
        for name, vendor in timed.items():
            served = SimulatedVendor(rows, vendor.profile, latency=vendor.latency, retry_after_s=1)
            urls[name] = stack.enter_context(served.running()).url
        if dead:
            nobody = stack.enter_context(socket.socket())
            nobody.bind(("127.0.0.1", 0))
            urls["dead"] = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        listed = [{"name": name, "model": "m", "api_url": url} for name, url in urls.items()]
        (folder / "vendors.yaml").write_text(yaml.safe_dump(listed), encoding="utf-8")
        shared = ["--dataset-args", '{"k2_verifier": {"local_path": "bundled"}}']
        shared += ["--eval-batch-size", f"{CONCURRENCY}", "--generation-config", '{"retry_interval": 1}']
        command = [sys.executable, "-m", "k2_verifier_adapter", "matrix", str(folder / "vendors.yaml")]
        done = subprocess.run(
            [*command, "--work-dir", str(folder / "runs"), *shared],
            env={**os.environ, "NO_PROXY": "127.0.0.1"},
            stdout=subprocess.DEVNULL,
            check=False,
        )
    return done.returncode


def main() -> None:
    """Print each vendor's time over the ideal: all together, and the steady one alone."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print("| vendors | vendor | requests | took s | ideal s | ratio |\n|---|---|---:|---:|---:|---:|")
    for label, chosen, dead in (
        ("all four", vendors(), True),
        ("alone", {"steady": vendors()["steady"]}, False),
    ):
        run_matrix(chosen, dead=dead)
        for name, vendor in chosen.items():
            numbers = f"{vendor.took_s:.1f} | {vendor.ideal_s:.1f} | {vendor.took_s / vendor.ideal_s:.3f}"
            print(f"| {label} | {name} | {len(vendor.spans)} | {numbers} |")


if __name__ == "__main__":
    main()
