"""Probes as data: every word is checked, judged by a good answer and a near miss, and broken by a fault."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support.asking import ask_each

from k2_verifier_adapter.core.conformance.causes import cause_of
from k2_verifier_adapter.core.conformance.judging import Answer, Unmet, judge_probe
from k2_verifier_adapter.core.conformance.probes import (
    Mode,
    ProbeCase,
    ProbeError,
    SchemaLeftOutError,
    cases_of,
    continued,
    decode_probe,
)
from k2_verifier_adapter.core.conformance.schemas import request_of, wrap
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.model_profiles import model_profiles
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.requests import build_request, merge_parameters
from k2_verifier_adapter.core.responses import Response, parse_completion
from k2_verifier_adapter.core.streams.assembler import ChunkAssembler
from k2_verifier_adapter.core.streams.frames import FRAME_FAULTS
from k2_verifier_adapter.data import BUNDLED_SUITES
from k2_verifier_adapter.errors import DataError, UsageError
from k2_verifier_adapter.formats.suites import load_suite, suite_names
from k2_verifier_adapter.simulator import FaithfulVendor
from k2_verifier_adapter.simulator.completions import to_json
from k2_verifier_adapter.simulator.faithful import CONTRACT_FAULTS, FaithfulEndpoint, RefusedError

K3 = model_profiles()["k3"]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PROBE = {
    "id": "mine/one",
    "request": {"messages": [{"role": "user", "content": "Hi."}], "tools": [TOOL]},
    "expect": {"status": 200},
    "why": "it matters",
    "source": "here",
}


def probe_case(expect: dict[str, Any], mode: Mode = Mode.PLAIN) -> ProbeCase:
    """Make the case of a probe that expects this."""
    probe = decode_probe({**PROBE, "expect": expect}, "mine", K3)
    return cases_of([probe], K3, [mode])[0]


def answered(
    *calls: tuple[str, Any], content: str = "", finish: str = "stop", usage: Any = None, **message: Any
) -> Answer:
    """Make an answer of status 200."""
    listed = [
        {"id": f"c{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(calls)
    ]
    said = {"role": "assistant", "content": content, **({"tool_calls": listed} if listed else {}), **message}
    completion = {"choices": [{"index": 0, "message": said, "finish_reason": finish}], "usage": usage}
    response = parse_completion(json.dumps(completion))
    assert isinstance(response, Response)
    return Answer(200, response=response)


CALL = ("get_weather", '{"city": "Lisbon"}')
PLAIN = answered(content="Hello.", usage={"prompt_tokens": 12})
CALLED = answered(CALL, finish="tool_calls")

WORDS: list[tuple[str, dict[str, Any], Answer, Answer]] = [
    ("status", {"status": [400, 422]}, Answer(422, "no"), PLAIN),
    ("finish_reason", {"finish_reason": "stop"}, PLAIN, answered(content="Hello.", finish="length")),
    ("calls.some", {"calls": {"some": True}}, CALLED, PLAIN),
    ("calls.some", {"calls": {"some": False}}, PLAIN, CALLED),
    (
        "calls.names",
        {"calls": {"names": ["get_weather"]}},
        CALLED,
        answered(("get_Weather", "{}"), finish="tool_calls"),
    ),
    ("calls.count", {"calls": {"count": 1}}, CALLED, answered(CALL, CALL, finish="tool_calls")),
    (
        "calls.arguments",
        {"calls": {"arguments": "schema"}},
        CALLED,
        answered(("get_weather", '{"city": 7}'), finish="tool_calls"),
    ),
    ("content", {"content": "some"}, PLAIN, answered(content="")),
    ("content", {"content": "none"}, CALLED, PLAIN),
    ("content", {"content": "json"}, answered(content='{"a": 1}'), answered(content="{'a': 1}")),
    ("reasoning", {"reasoning": "some"}, answered(reasoning_content="Hm."), answered(reasoning_content="")),
    ("reasoning", {"reasoning": "none"}, PLAIN, answered(content="Hello.", reasoning="Hm.")),
    ("usage", {"usage": "some"}, PLAIN, answered(content="Hello.")),
    ("usage", {"usage": "choice"}, Answer(200, response=PLAIN.response, usage_in_choice=True), PLAIN),
    (
        "prompt_tokens",
        {"prompt_tokens": [9, 12]},
        PLAIN,
        answered(content="Hello.", usage={"prompt_tokens": 13}),
    ),
    (
        "frames.done",
        {"frames": ["done"]},
        Answer(200, response=PLAIN.response, frames=("one_id",)),
        Answer(200, response=PLAIN.response, frames=("done",)),
    ),
]


@pytest.mark.parametrize(("path", "expect", "good", "miss"), WORDS)
def test_a_word_takes_a_good_answer_and_names_a_near_miss(
    path: str, expect: dict[str, Any], good: Answer, miss: Answer
) -> None:
    """Every word of the vocabulary is met by one answer and not by its neighbour."""
    case = probe_case(expect)
    assert judge_probe(case, good) == ()
    (found, *_) = judge_probe(case, miss)
    assert found.path == path
    assert found.expected
    assert found.got


def test_a_twin_has_the_same_shape_and_validity() -> None:
    """Texts may differ between two answers to one request; the calls and whether they are valid may not."""
    case = probe_case({"same_as": "mine/one"})
    assert judge_probe(case, answered(CALL, finish="tool_calls"), CALLED) == ()
    assert judge_probe(case, PLAIN, answered(content="Good day.", usage={"prompt_tokens": 3})) == ()
    broken = answered(("get_weather", '{"city": '), finish="tool_calls")
    assert judge_probe(case, broken, CALLED) == (
        Unmet("same_as", "arguments valid as in mine/one", "arguments invalid"),
    )


def test_an_unexpected_refusal_is_told_in_the_servers_words() -> None:
    """Of a refusal nothing else is asked, whether it was expected or not."""
    case = probe_case({"finish_reason": "stop", "content": "some"})
    assert judge_probe(case, Answer(400, "bad field")) == (
        Unmet("status", "HTTP 200", "HTTP 400: bad field"),
    )
    either = probe_case({"status": [200, 400], "calls": {"some": True}})
    assert judge_probe(either, Answer(400, "bad field")) == ()
    assert judge_probe(either, PLAIN)[0].path == "calls.some"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"expect": {"latency": 3}}, "expect.latency"),
        ({"expect": {"calls": {"any": True}}}, "expect.calls.any"),
        ({"expect": {"status": 429}}, "expect.status"),
        ({"expect": {"content": ["some"]}}, "expect.content"),
        ({"expect": {"prompt_tokens": [9, 3]}}, "expect.prompt_tokens"),
        ({"expect": {"frames": ["tidy"]}}, "expect.frames"),
        ({"expect": {}}, "expect"),
        ({"expects": {"status": 200}}, "expects"),
        ({"request": []}, "request"),
        ({"request": {"model": "x"}}, "request.model"),
        ({"request": {"n": float("nan")}}, "request"),
        ({"models": ["k9"]}, "models"),
        ({"modes": "plain"}, "modes"),
        ({"forced": 1}, "forced"),
        ({"id": " "}, "id"),
        ({"schema": {}}, "schema"),
    ],
)
def test_a_probe_that_cannot_be_used_names_its_field(change: dict[str, Any], field: str) -> None:
    """No unknown word and no value of another shape is passed over."""
    with pytest.raises(ProbeError) as raised:
        decode_probe({**PROBE, **change}, "mine", K3)
    assert raised.value.field == field


def test_a_file_with_bad_lines_names_all_of_them(tmp_path: Path) -> None:
    """One error names file, line and field of every line that cannot be used."""
    file = tmp_path / "mine.jsonl"
    lines = [
        json.dumps(PROBE),
        "{",
        json.dumps({**PROBE, "id": "two", "expect": {"speed": 1}}),
        json.dumps(PROBE),
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError) as raised:
        load_suite("mine", str(file), K3)
    said = str(raised.value)
    assert f"{file} line 2: is not JSON" in said
    assert f"{file} line 3: field 'expect.speed'" in said
    assert f"{file} line 4: field 'id': 'mine/one' occurs twice" in said
    assert "nothing was sent" in said


def test_a_suite_is_a_bundled_one_or_a_file_with_probes(tmp_path: Path) -> None:
    """A name that is none is answered with the nearest, and an empty file is no suite."""
    with pytest.raises(UsageError, match="did you mean 'history'"):
        suite_names(["histroy"])
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n", encoding="utf-8")
    assert suite_names(["stream", str(empty)]) == {"stream": "stream", "empty": str(empty)}
    with pytest.raises(DataError, match="holds no probes"):
        load_suite("empty", str(empty), K3)
    twin = tmp_path / "twin.jsonl"
    twin.write_text(json.dumps({**PROBE, "expect": {"same_as": "mine/none"}}), encoding="utf-8")
    with pytest.raises(DataError, match="'mine/none' is no probe of the suite"):
        load_suite("twin", str(twin), K3)


def test_kvvs_token_cases_are_read_as_they_are(tmp_path: Path) -> None:
    """Three tokens more are taken, as KVV takes them; prompts with its image fixtures are left out."""
    image = {"type": "image_url", "image_url": {"url": "fixture://x.png?width=1&height=1"}}
    cases = [
        {
            "id": "one",
            "request": {"messages": [{"role": "user", "content": "Hi."}]},
            "expected_prompt_tokens": 40,
        },
        {
            "id": "two",
            "request": {"messages": [{"role": "user", "content": [image]}]},
            "expected_prompt_tokens": 9,
        },
    ]
    file = tmp_path / "cases.jsonl"
    file.write_text("\n".join(map(json.dumps, cases)), encoding="utf-8")
    suite = load_suite("cases", str(file), K3)
    (probe,) = suite.probes
    assert probe.expect == {"status": 200, "prompt_tokens": [40, 43]}
    assert probe.modes == (Mode.STREAM,)
    assert suite.left_out == {"a prompt with an image fixture, whose file is KVV's": 1}


def test_schemas_are_wrapped_as_kvv_wraps_them() -> None:
    """Definitions and `$id` move to the root, references to the root to a definition, defaults go."""
    schema = {
        "$id": "x",
        "$defs": {"d": {"type": "string"}},
        "type": "object",
        "properties": {"n": {"$ref": "#"}},
    }
    assert wrap(schema) == {
        "type": "object",
        "required": ["value"],
        "additionalProperties": False,
        "properties": {"value": {"$ref": "#/$defs/__case_schema"}},
        "$defs": {
            "d": {"type": "string"},
            "__case_schema": {"type": "object", "properties": {"n": {"$ref": "#/$defs/__case_schema"}}},
        },
        "$id": "x",
    }
    request = request_of({"type": "integer", "default": 3})
    assert request["tools"][0]["function"]["parameters"]["properties"] == {"value": {"type": "integer"}}
    for left_out in (
        {"type": "string", "minLength": 1001},
        {"type": "object", "properties": {" a": {"type": "string"}}},
        {
            "$defs": {"a": {"type": "object", "properties": {"b": {"$ref": "#/$defs/a"}}, "required": ["b"]}},
            "$ref": "#/$defs/a",
        },
    ):
        with pytest.raises(SchemaLeftOutError):
            request_of(left_out)


# --- the bundled suites against faithful and faulty endpoints ------------------------------------


def ask(endpoint: FaithfulEndpoint, case: ProbeCase) -> Answer:
    """Ask without a wire, but through the frames and the assembly of a stream."""
    sent = case.case
    body = {**sent.parameters, "messages": sent.messages()}
    if sent.tools_json is not None:
        body["tools"] = sent.tools()
    try:
        completion = endpoint.answer(body)
    except RefusedError as error:
        return Answer(400, str(error))
    if case.mode is Mode.PLAIN:
        response = parse_completion(json.dumps(completion))
        assert isinstance(response, Response)
        return Answer(200, response=response)
    assembler = ChunkAssembler()
    chunks, done = endpoint.chunks(completion, include_usage=True)
    for chunk in chunks:
        assembler.add(to_json(chunk))
    result = assembler.result()
    assert isinstance(result, Response)
    faults = assembler.frames.faults(done=done)
    return Answer(200, response=result, anomalies=tuple(assembler.anomalies), frames=faults)


def unmet_of(name: str, *faults: str) -> list[tuple[ProbeCase, Answer, tuple[Unmet, ...]]]:
    """Ask a model's endpoint all bundled probes; list those that fail."""
    profile, found = model_profiles()[name], []
    endpoint = FaithfulEndpoint(profile, faults)
    for suite in BUNDLED_SUITES:
        cases = cases_of(load_suite(suite, suite, profile).probes, profile, Mode)
        answers = {case.name: ask(endpoint, case) for case in cases if not case.probe.continues}
        named = {case.name: case for case in cases}
        for case in cases:
            before = f"{case.probe.continues} [{case.mode.value}]"
            response = answers[before].response if before in named else None
            if response is not None and response.message is not None:
                sent = continued(case.case, named[before].case, response.message)
                answers[case.name] = ask(endpoint, replace(case, case=sent))
        for case in cases:
            if case.name not in answers:
                continue  # there is no answer to send back
            twin = answers.get(f"{case.probe.expect.get('same_as')} [plain]")
            unmet = judge_probe(case, answers[case.name], twin)
            if unmet:
                found.append((case, answers[case.name], unmet))
    return found


@pytest.mark.parametrize("name", model_profiles())
def test_a_faithful_endpoint_passes_every_probe(name: str) -> None:
    """Plain and streamed, for every model."""
    assert [(case.name, unmet) for case, _, unmet in unmet_of(name)] == []


@pytest.mark.parametrize("fault", CONTRACT_FAULTS.values(), ids=lambda fault: fault.name)
def test_every_fault_is_caught_by_the_expectation_made_for_it(fault: Any) -> None:
    """The expectation that a fault breaks is among those that are not met, and each failure has a cause."""
    model = "k2_6" if fault.name == "ignores_thinking_setting" else "k3"
    found = unmet_of(model, fault.name)
    assert fault.breaks in {each.path for _, _, unmet in found for each in unmet}
    for case, answer, unmet in found:
        cause = cause_of(case, answer, unmet[0], model_profiles()[model])
        assert cause.hypothesis
        assert cause.advice


def test_every_kind_of_expectation_has_a_fault() -> None:
    """What no fault can break might as well not be asked."""
    broken = {fault.breaks for fault in CONTRACT_FAULTS.values()}
    asked = {path.partition(".")[0] if path.startswith("frames") else path for path, *_ in WORDS}
    assert asked - {path.partition(".")[0] if path.startswith("frames") else path for path in broken} == set()
    assert {f"frames.{name}" for name in FRAME_FAULTS} <= broken


@pytest.mark.parametrize("suite", BUNDLED_SUITES)
def test_every_bundled_probe_says_why_and_whence(suite: str) -> None:
    """A probe without a reason and a source convinces nobody."""
    for profile in model_profiles().values():
        for probe in load_suite(suite, suite, profile).probes:
            assert probe.why
            assert probe.source
            assert probe.id.startswith(f"{suite}/")


def test_the_bundled_schemas_are_schemas() -> None:
    """At least 60, none left out, each one that JSON Schema's own meta-schema accepts."""
    suite = load_suite("tool_schema", "tool_schema", K3)
    assert len(suite.probes) >= 60
    assert not suite.left_out
    for probe in suite.probes:
        Draft202012Validator.check_schema(probe.request["tools"][0]["function"]["parameters"])


def test_a_faithful_vendor_serves_what_its_endpoint_answers() -> None:
    """Over a socket: a refusal with status 400, a stream with whole frames, a fault that is seen."""
    cases = cases_of(load_suite("tool_choice", "tool_choice", K3).probes, K3, Mode)
    chosen = {case.name: case for case in cases}
    refused = chosen["tool_choice/unknown_value_refused [plain]"]
    streamed = chosen["tool_choice/forced_calls [stream]"]
    requests = [
        build_request(case.case, "kimi", merge_parameters({}, case.case.parameters, {}))
        for case in (refused, streamed)
    ]
    faithful, faulty = FaithfulVendor(K3), FaithfulVendor(K3, ["stream_other_ids"])
    (refusal, answer), (_, broken) = ask_each([(faithful, requests), (faulty, requests)])
    assert isinstance(refusal, FailedRequest)
    assert refusal.status == 400
    assert "invalid tool_choice" in refusal.failure.detail
    assert isinstance(answer, ResponseRecord)
    assert isinstance(broken, ResponseRecord)
    assert answer.frames == ()
    assert broken.frames == ("one_id",)
    stored = ResponseRecord.from_json(broken.as_json())
    assert stored is not None
    assert stored.frames == broken.frames
