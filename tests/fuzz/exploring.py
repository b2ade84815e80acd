"""Running a target over many inputs: what was reached, what broke, and what is worth keeping."""

from __future__ import annotations

import contextlib
import json
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

from mutation import Mutator, Shape
from targets import Reached, Target

CORPUS = Path(__file__).parent / "corpus"

_POOL_LIMIT = 3_000
"""Inputs that mutation starts from; those found first are kept."""

_SLOW_S = 1.0

_MOST_KEPT = 90


class HungError(BaseException):
    """An input took longer than it may; no `except Exception` of the code under test stops it."""


@dataclass(frozen=True)
class Finding:
    """An input that broke an invariant.

    Attributes:
        data: The input.
        error: The end of the traceback.
    """

    data: bytes
    error: str


@dataclass
class Exploration:
    """What came of many inputs.

    Attributes:
        inputs: Number of inputs.
        seconds: Wall time.
        reached: The smallest input of each combination that was reached.
        findings: Inputs that broke an invariant, one for each place in the code.
        broken: Inputs that broke an invariant, all of them.
        slowest: Seconds of the slowest inputs, with the input.
    """

    inputs: int = 0
    seconds: float = 0.0
    reached: dict[Reached, bytes] = field(default_factory=dict)
    findings: dict[str, Finding] = field(default_factory=dict)
    broken: int = 0
    slowest: list[tuple[float, bytes]] = field(default_factory=list)


def corpus_of(target: Target) -> list[bytes]:
    """Give the stored inputs of a target."""
    return [path.read_bytes() for path in sorted((CORPUS / target.name).glob("*.json"))]


def explore(
    target: Target, inputs: int, seed: int, *, patience_s: float | None = None, until_s: float | None = None
) -> Exploration:
    """Run a target over its corpus and seeds, and then over mutations of them.

    Args:
        target: The target.
        inputs: How many mutations.
        seed: Gives the same inputs again, as long as seeds and corpus are the same.
        patience_s: Seconds after which an input counts as hung; only the main thread may ask for it.
        until_s: Seconds after which no further input is begun.
    """
    found = Exploration()
    pool = [*corpus_of(target), *target.seeds()]
    begun = time.monotonic()
    with _patience(patience_s) as watched:
        for data in pool:
            _try(target, data, found, watched)
        for number in range(inputs):
            if until_s is not None and time.monotonic() - begun > until_s:
                break
            rng = Random(f"{seed} {target.name} {number}")
            data = Mutator(target.shape, rng).mutate(rng.choice(pool), pool)
            if _try(target, data, found, watched) and len(pool) < _POOL_LIMIT:
                pool.append(data)
    found.seconds = time.monotonic() - begun
    return found


Watched = Callable[[], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def _patience(seconds: float | None) -> Iterator[Watched]:
    """Give what runs one input; with a number of seconds, until they are over."""
    if seconds is None:
        yield contextlib.nullcontext
        return

    def give_up(_number: int, _frame: Any) -> None:
        raise HungError

    @contextlib.contextmanager
    def watched() -> Iterator[None]:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    before = signal.signal(signal.SIGALRM, give_up)
    try:
        yield watched
    finally:
        signal.signal(signal.SIGALRM, before)


def _try(target: Target, data: bytes, found: Exploration, watched: Watched) -> bool:
    """Run one input; say whether it reached something new."""
    found.inputs += 1
    begun = time.monotonic()
    try:
        with watched():
            reached = target.run(data)
    except (Exception, HungError) as error:
        found.broken += 1
        _note_finding(found, data, error)
        return False
    took = time.monotonic() - begun
    if took > _SLOW_S:
        found.slowest = sorted([*found.slowest, (took, data)], reverse=True)[:10]
    known = found.reached.get(reached)
    if known is None or len(data) < len(known):
        found.reached[reached] = data
    return known is None


def _note_finding(found: Exploration, data: bytes, error: BaseException) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    place = next((frame for frame in reversed(frames) if "k2_verifier_adapter" in frame.filename), frames[-1])
    key = f"{type(error).__name__} at {place.filename}:{place.lineno}"
    known = found.findings.get(key)
    if known is None or len(data) < len(known.data):
        found.findings[key] = Finding(data, "".join(traceback.format_exception(error))[-1_500:])


# --- what is worth keeping -----------------------------------------------------------------------


def worth_keeping(target: Target, found: Exploration, budget: int) -> list[bytes]:
    """Choose inputs that together reach every thing, and as many pairs of things as `_MOST_KEPT` can.

    Args:
        target: The target.
        found: What was found.
        budget: Bytes that they may take.
    """
    chosen: dict[bytes, Reached] = {}
    covered: set[frozenset[str]] = set()
    by_size = sorted(found.reached.items(), key=lambda item: (len(item[1]), item[1]))
    for size in (1, 2):
        for reached, data in by_size:
            parts = set(map(frozenset, combinations(sorted(reached), size)))
            if len(chosen) < _MOST_KEPT and not parts <= covered:
                covered |= parts
                chosen[data] = reached
    kept = sorted({minimised(target, data, reached) for data, reached in chosen.items()}, key=len)
    while sum(map(len, kept)) > budget:
        kept.pop()
    return kept


def store(target: Target, inputs: list[bytes]) -> None:
    """Replace the corpus of a target."""
    folder = CORPUS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):
        path.unlink()
    for data in inputs:
        (folder / f"{sha256(data).hexdigest()[:12]}.json").write_bytes(data)


def minimised(target: Target, data: bytes, reached: Reached) -> bytes:
    """Make an input smaller as long as it reaches the same."""

    def same(candidate: bytes) -> bool:
        try:
            return target.run(candidate) == reached
        except Exception:
            return False

    pieces = data.split(b"\n") if target.shape is not Shape.DOCUMENT else [data]
    place = 0

    def same_with(piece: bytes) -> bool:
        return same(b"\n".join([*pieces[:place], piece, *pieces[place + 1 :]]))

    while place < len(pieces):
        fewer = pieces[:place] + pieces[place + 1 :]
        if fewer and same(b"\n".join(fewer)):
            del pieces[place]
            continue
        pieces[place] = _smaller_document(pieces[place], same_with)
        place += 1
    return b"\n".join(pieces)


def _smaller_document(data: bytes, same: Callable[[bytes], bool]) -> bytes:
    head = data[: data.find(b"{")] if b"{" in data else b""
    try:
        tree = [json.loads(data[len(head) :])]
        whole = head + json.dumps(tree[0]).encode()
    except (ValueError, RecursionError):
        return data
    if not same(whole):
        return data
    _shrink(tree, 0, lambda: same(head + json.dumps(tree[0]).encode()), [150])
    return head + json.dumps(tree[0]).encode()


def _shrink(parent: Any, key: Any, same: Callable[[], bool], tries: list[int]) -> None:
    """Take members and items away, and shorten texts, while `same` holds."""
    node = parent[key]
    if isinstance(node, (dict, list)):
        for place in reversed(range(len(node))) if isinstance(node, list) else list(node):
            if tries[0] <= 0:
                return
            tries[0] -= 1
            before = list(node.items()) if isinstance(node, dict) else list(node)
            del node[place]
            if not same():
                node.clear()
                node.update(before) if isinstance(node, dict) else node.extend(before)
                _shrink(node, place, same, tries)
    elif isinstance(node, str) and len(node) > 12 and tries[0] > 0:
        for shorter in ("", node[:8], node[: len(node) // 4], node[: len(node) // 2]):
            tries[0] -= 1
            parent[key] = shorter
            if same():
                return
        parent[key] = node
