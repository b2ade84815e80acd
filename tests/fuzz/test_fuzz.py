"""Whatever a vendor or a dataset sends is judged or refused; a corpus of hostile inputs, and new ones.

`K2_VERIFIER_FUZZ_INPUTS=100000 pytest tests/fuzz --dist=load -n auto` gives each target so many new ones.
"""

from __future__ import annotations

import os
import resource
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from targets import TARGETS, Target, short_limits

CORPUS = Path(__file__).parent / "corpus"
INPUTS = int(os.environ.get("K2_VERIFIER_FUZZ_INPUTS", "0"))
USUAL_INPUTS = {"response": 800, "stream": 500, "row": 800, "results": 80, "stored": 100}

PATIENCE_MS = 20_000
MEMORY_BYTES = 8 << 30
FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request", "subprocess.Popen")

each_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


class Watch:
    """Refuses what no input may lead to, while it is on; a hook cannot be taken away again."""

    on = False

    def __call__(self, happening: str, _: tuple[Any, ...]) -> None:
        """Look at what happens."""
        if self.on and happening in FORBIDDEN:
            raise AssertionError(f"an input led to {happening}")


WATCH = Watch()


@pytest.fixture(scope="module")
def watched() -> Watch:
    """Have the hook."""
    sys.addaudithook(WATCH)
    return WATCH


@pytest.fixture(autouse=True)
def confined(watched: Watch) -> Iterator[None]:
    """Refuse the network, let validations end soon, and `re` say what it likes of a hostile pattern."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    if INPUTS:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, before[1]))
    watched.on = True
    with short_limits(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
    watched.on = False
    resource.setrlimit(resource.RLIMIT_AS, before)


@each_target
def test_the_corpus_breaks_no_invariant(target: Target) -> None:
    """Every input that once reached something new is handled; together they reach many things."""
    reached: set[str] = set()
    for path in sorted((CORPUS / target.name).glob("*.json")):
        reached |= target.run(path.read_bytes())
    assert len(reached) > 10


@each_target
def test_new_inputs_break_no_invariant(target: Target) -> None:
    """Inputs that Hypothesis makes of known ones are handled: few and always the same, or many on demand."""

    @settings(
        max_examples=INPUTS or USUAL_INPUTS[target.name],
        derandomize=not INPUTS,
        database=None,
        deadline=PATIENCE_MS if INPUTS else None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.large_base_example,
        ],
    )
    @given(target.inputs())
    def run(data: bytes) -> None:
        for what in target.run(data):
            event(what)

    run()


def test_the_corpus_stays_small() -> None:
    """The corpus is a fraction of the repository."""
    assert sum(path.stat().st_size for path in CORPUS.rglob("*.json")) < 400_000
