"""Fuzz everything: `python tests/fuzz/run.py --inputs 1000000 --seed 1`.

Needs nothing beyond the package. With `--coverage` and `atheris` installed, coverage guides what is
mutated further; the mutations are the same.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import sys
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

SHARES = {"response": 0.42, "stream": 0.24, "row": 0.24, "results": 0.06, "stored": 0.04}
"""The part of the inputs that each target gets: the slow ones get few."""

PATIENCE_S = 20.0
MEMORY_BYTES = 4 << 30
_FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request", "subprocess.Popen")


def main(arguments: list[str] | None = None) -> int:
    """Run; the exit code is 1 if an invariant was broken."""
    options = _parser().parse_args(arguments)
    if options.coverage:
        return _with_coverage(options)
    import targets
    from exploring import Exploration, store, worth_keeping

    names = options.target or list(targets.TARGETS)
    weight = sum(SHARES[name] for name in names)
    plan = [
        (name, round(options.inputs * SHARES[name] / weight / options.jobs), options.seed + job)
        for name in names
        for job in range(options.jobs)
    ]
    merged = {name: Exploration() for name in names}
    with ProcessPoolExecutor(options.jobs) as pool:
        for (name, inputs, seed), found in zip(plan, pool.map(_explore, plan), strict=True):
            _merge(merged[name], found)
            _say(f"done: {inputs:,} of {name}, seed {seed}, {found.seconds:.0f} s")
    for name, found in merged.items():
        _say(
            f"{name}: {found.inputs:,} inputs in {found.seconds:.0f} s ({found.inputs / found.seconds:,.0f}/s), "
            f"{len(found.reached):,} combinations reached, {found.broken:,} broke an invariant"
        )
        for key, finding in found.findings.items():
            path = Path(tempfile.gettempdir()) / f"finding-{name}-{abs(hash(key)) % 10**6}.bin"
            path.write_bytes(finding.data)
            _say(f"\n{key}\ninput of {len(finding.data)} bytes: {path}\n{finding.error}")
        for seconds, data in found.slowest[:3]:
            path = Path(tempfile.gettempdir()) / f"slow-{name}-{seconds:.1f}.bin"
            path.write_bytes(data)
            _say(f"  slow: {seconds:.1f} s: {path}")
    total = sum(found.inputs for found in merged.values())
    _say(f"total: {total:,} inputs, seed {options.seed}")
    if options.keep:
        with targets.short_limits():
            for name, found in merged.items():
                kept = worth_keeping(targets.TARGETS[name], found, options.keep // len(merged))
                store(targets.TARGETS[name], kept)
                _say(f"{name}: corpus of {len(kept)} inputs, {sum(map(len, kept)):,} bytes")
    return 1 if any(found.findings for found in merged.values()) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="inputs over all targets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", action="append", choices=SHARES, help="only this one; may be repeated")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument(
        "--keep", type=int, default=0, metavar="BYTES", help="write a new corpus of that size"
    )
    parser.add_argument("--coverage", action="store_true", help="let atheris guide; needs one --target")
    return parser


def _explore(job: tuple[str, int, int]) -> Any:
    from exploring import explore
    from targets import TARGETS, short_limits

    name, inputs, seed = job
    with _confined(), short_limits():
        return explore(TARGETS[name], inputs, seed, patience_s=PATIENCE_S)


@contextlib.contextmanager
def _confined() -> Iterator[None]:
    """Bound memory, refuse the network, and treat warnings as errors."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.RLIM_INFINITY))
    sys.addaudithook(_refuse_network)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # `re` warns of patterns whose meaning may change; a schema's author is not here to read it.
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


def _refuse_network(event: str, _arguments: tuple[Any, ...]) -> None:
    if event in _FORBIDDEN:
        raise AssertionError(f"an input led to {event}")


def _merge(merged: Any, found: Any) -> None:
    merged.inputs += found.inputs
    merged.seconds += found.seconds
    merged.broken += found.broken
    merged.slowest = sorted([*merged.slowest, *found.slowest], reverse=True)[:10]
    for key, finding in found.findings.items():
        merged.findings.setdefault(key, finding)
    for reached, data in found.reached.items():
        known = merged.reached.get(reached)
        if known is None or len(data) < len(known):
            merged.reached[reached] = data


def _with_coverage(options: argparse.Namespace) -> int:
    """Let libFuzzer choose; it ends the process itself, with its own report."""
    import atheris

    with atheris.instrument_imports(include=["k2_verifier_adapter"]):
        import targets
    from exploring import CORPUS
    from mutation import Mutator

    (name,) = options.target
    target = targets.TARGETS[name]
    seeds = target.seeds()

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        return Mutator(target.shape, Random(seed)).mutate(data, seeds)[:max_size]

    def run(data: bytes) -> None:
        target.run(data)

    (CORPUS / name).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"coverage-{name}-"))
    for number, data in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(data)
    _say(f"inputs that cover something new go to {folder}")
    command = ["fuzz", str(folder), str(CORPUS / name), f"-runs={options.inputs}", f"-seed={options.seed}"]
    atheris.Setup(
        [*command, "-max_len=60000", "-timeout=20", "-rss_limit_mb=3000", f"-artifact_prefix={folder}-"],
        run,
        custom_mutator=mutate,
    )
    with targets.short_limits():
        atheris.Fuzz()
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
