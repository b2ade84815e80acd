"""Whatever a vendor or a dataset sends is judged or refused; a corpus of hostile inputs, and new ones."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from random import Random

import pytest
from exploring import CORPUS, corpus_of, explore
from mutation import Mutator, Shape
from targets import TARGETS, Target, short_limits

INPUTS = int(os.environ.get("K2_VERIFIER_FUZZ_INPUTS", "0"))
"""Inputs of the seeded round, in the place of the usual few."""

USUAL_INPUTS = {"response": 1_500, "stream": 1_000, "row": 1_500, "results": 150, "stored": 200}

each_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@pytest.fixture(autouse=True)
def confined() -> Iterator[None]:
    """Let validations end soon, and `re` say what it likes of a hostile pattern."""
    with short_limits(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@each_target
def test_the_corpus_breaks_no_invariant(target: Target) -> None:
    """Every input that once reached something new is handled, and the corpus is not empty."""
    inputs = corpus_of(target)
    assert inputs
    for data in inputs:
        target.run(data)


@each_target
def test_a_seeded_round_breaks_no_invariant(target: Target) -> None:
    """New inputs, the same in every run, are handled; they reach what the corpus reaches and more."""
    found = explore(target, INPUTS or USUAL_INPUTS[target.name], seed=20_251_122)
    assert not found.findings, "\n".join(finding.error for finding in found.findings.values())
    assert len(found.reached) > 10


@pytest.mark.parametrize("shape", Shape)
def test_the_same_seed_gives_the_same_inputs(shape: Shape) -> None:
    """A finding can be found again from its seed."""
    pool = next(target.seeds() for target in TARGETS.values() if target.shape is shape)
    one, other = (
        [Mutator(shape, Random(seed)).mutate(pool[seed % len(pool)], pool) for seed in range(300)]
        for _ in range(2)
    )
    assert one == other
    assert len(set(one)) > 250


def test_the_corpus_stays_small() -> None:
    """The corpus is a fraction of the repository."""
    assert sum(path.stat().st_size for path in CORPUS.rglob("*.json")) < 400_000
