"""What is known of models: which profile is chosen, and that faithful answers of each show nothing."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from importlib import resources
from itertools import cycle

import pytest

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.diagnosis.advice import advice_file, resolved
from k2_verifier_adapter.core.diagnosis.findings import diagnose
from k2_verifier_adapter.core.diagnosis.measures import Context
from k2_verifier_adapter.core.diagnosis.rules import RULES
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.judging.judge import judge
from k2_verifier_adapter.core.model_profiles import choose_profile, model_profiles, without_reasoning
from k2_verifier_adapter.core.responses import decode_body, parse_completion, read_completion
from k2_verifier_adapter.core.streams.assembler import ChunkAssembler
from k2_verifier_adapter.core.streams.decoder import EventDecoder, is_done
from k2_verifier_adapter.core.tally import Tally
from k2_verifier_adapter.simulator.completions import (
    DONE,
    chunks_of,
    events,
    official_completion,
    to_json,
    with_usage,
)
from k2_verifier_adapter.simulator.wire import SHAPES

PROFILES = model_profiles()


@pytest.mark.parametrize(
    ("model", "subset", "chosen", "expected"),
    [
        ("kimi-k2", "", None, "k2"),
        ("kimi-k2", "k2_thinking", None, "k2_thinking"),
        ("moonshotai/Kimi-K2-Thinking", "k2_0905", None, "k2_thinking"),
        ("accounts/x/models/kimi-k2p5", "k2_thinking", None, "k2_5"),
        ("kimi-k2.6", "", None, "k2_6"),
        ("Kimi-K2.7-Code-highspeed", "", None, "k2_7_code"),
        ("k3-256k", "", None, "k3"),
        ("kimi-k3.1-pro", "k2_thinking", None, "k3"),
        ("some-model", "", None, "k2"),
        ("work3", "", None, "k2"),
        ("kimi-k2", "k2_thinking", "k3", "k3"),
    ],
)
def test_a_profile_is_chosen_by_wish_name_and_subset(model, subset, chosen, expected):
    """The wish counts, then the model's name, then the subset."""
    assert choose_profile(model=model, subset=subset, chosen=chosen).name == expected


@cache
def rows():
    """Read the bundled rows, and decode the first 200."""
    text = resources.files("k2_verifier_adapter.data").joinpath("bundled_rows.jsonl").read_text()
    listed = [json.loads(line) for line in text.splitlines()][:200]
    return listed, [decode_row(row, index, HistoryOptions()) for index, row in enumerate(listed)]


def faithful(row, case, profile, number):
    """Give the official answer as this model's API gives it."""
    completion = official_completion(row, case, profile.name)
    message = completion["choices"][0]["message"]
    message.pop("reasoning_content", None)
    if profile.reasoning_fields:
        field = profile.reasoning_fields[number % len(profile.reasoning_fields)]
        message[field] = f"The user asks for number {number}. I look at what I have."
    if profile.any_id:
        for place, call in enumerate(message.get("tool_calls", ())):
            name = call["function"]["name"]
            call["id"] = (f"{name}_{place + 90}", f"call_{number:08x}{place}")[number % 2]
    return with_usage(completion)


def received(completion, shape):
    """Give what a client makes of an answer that is written in a wire shape."""
    if shape.stream is False or (shape.stream is None and shape.chunks is None and shape.events is None):
        body = to_json(completion)
        return parse_completion(decode_body(shape.body(body) if shape.body else body)), ()
    chunks = chunks_of(completion, None, include_usage=True)
    if shape.chunks is not None:
        chunks = shape.chunks(chunks, completion["usage"])
    written = [*events(chunks), DONE]
    written = shape.events(written) if shape.events is not None else written
    decoder, assembler = EventDecoder(), ChunkAssembler()
    data = b"".join(written)
    for part in (data[:777], data[777:]):
        for event in decoder.feed(part):
            if is_done(event):
                break
            assembler.add(event)
    return assembler.result(), tuple(assembler.anomalies)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_faithful_answers_of_every_model_show_nothing(profile, streamed):
    """200 of them, whole and streamed, in every wire shape in turn: no failure, and no finding."""
    tally = Tally()
    shapes = cycle(SHAPES.values())
    for number, (row, case) in enumerate(zip(*rows(), strict=True)):
        completion = faithful(row, case, profile, number)
        response, anomalies = received(completion, next(shapes)) if streamed else (None, ())
        response = read_completion(completion) if response is None else response
        judgement = judge(case, response, anomalies, profile=profile)
        assert judgement.failures == (), (number, judgement.failures)
        tally.add(number, judgement)
    tally.close()
    assert diagnose(tally, Context(models=Counter(m=200), profile=profile), RULES) == ()


def test_an_id_of_k3_is_none_of_k2s():
    """The same opaque id is right for K3 and non-standard for K2."""
    row, case = next(pair for pair in zip(*rows(), strict=True) if pair[1].official.should_call)
    response = read_completion(faithful(row, case, PROFILES["k3"], 1))
    found = judge(case, response, profile=PROFILES["k2"]).failures
    assert {failure.failure_class.value for failure in found} == {"nonstandard_tool_call_id"}


CALL = {"id": "a", "function": {"name": "f", "arguments": "{}"}}
HISTORY = [
    {"role": "user", "content": "x"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "a", "content": "y"},
]


def test_a_history_may_lack_what_a_model_demands():
    """Reasoning is demanded in the current turn, in all of them, or not at all; an empty text is enough."""
    k2, k25, k27 = PROFILES["k2"], PROFILES["k2_5"], PROFILES["k2_7_code"]
    later = [*HISTORY, {"role": "assistant", "content": "z"}, {"role": "user", "content": "again"}]
    assert [without_reasoning(HISTORY, profile) for profile in (k2, k25, k27)] == [[], [1], [1]]
    assert [without_reasoning(later, profile) for profile in (k2, k25, k27)] == [[], [], [1, 3]]
    thought = [{**message, "reasoning_content": ""} for message in HISTORY]
    assert without_reasoning(thought, k25) == []


def test_every_advice_has_a_source_and_a_date_and_exists_for_every_model():
    """No line of advice is without either, and each is written for known models."""
    for name, lines in advice_file().items():
        for line in lines:
            assert line["source"], name
            assert line["date"] >= "2025-10", name
            assert set(line.get("models", PROFILES)) <= set(PROFILES), name
            assert not line["text"].endswith("."), name
    for rule in RULES:
        for profile in PROFILES.values():
            assert resolved(rule.checks, profile), (rule.name, profile.name)
