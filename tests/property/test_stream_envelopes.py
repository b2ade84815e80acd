"""A chunk that is only partly parsed means what it means when it is parsed whole."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.plain_streams import PlainAssembler, plain_events

from k2_verifier_adapter.core.responses import NotACompletion, Response
from k2_verifier_adapter.core.streams import envelopes as stream_envelopes
from k2_verifier_adapter.core.streams.assembler import ChunkAssembler
from k2_verifier_adapter.core.streams.decoder import EventDecoder
from k2_verifier_adapter.core.streams.envelopes import find_envelope

PIECES = st.one_of(
    st.text(max_size=4),
    st.sampled_from(
        ["", '"', "\\", '\\"', '","content":"x', '"}', "\n", "\x00", "é", "😀", "\ud83d", "\ude00", "0"]
    ),
)
NAMES = st.sampled_from(["content", "reasoning_content", "role", "x"])
ODD = st.sampled_from([None, "", "a", 0, 1, True, [], ["a"], {}, {"content": "a"}])
DELTAS = st.one_of(
    *[st.builds(lambda name, piece: {name: piece}, NAMES, PIECES)] * 3,
    st.builds(lambda piece: {"role": "assistant", "content": piece, "tool_calls": None}, PIECES),
    st.builds(lambda piece, other: {"content": piece, "reasoning_content": other}, PIECES, PIECES),
    st.dictionaries(NAMES, ODD, max_size=3),
)
INDEXES = st.sampled_from([0, 0, 0, 1, None, "0", [0]])
FUNCTIONS = st.one_of(
    *[st.builds(lambda piece: {"arguments": piece}, PIECES)] * 4,
    st.builds(
        lambda name, piece: {"name": name, "arguments": piece}, st.sampled_from(["", "f", None]), PIECES
    ),
    st.dictionaries(st.sampled_from(["name", "arguments"]), ODD, max_size=2),
)
PARTS = st.one_of(
    *[st.builds(lambda index, function: {"index": index, "function": function}, INDEXES, FUNCTIONS)] * 3,
    st.builds(lambda index, function: {"index": index, "id": "i", "function": function}, INDEXES, FUNCTIONS),
    st.builds(lambda function: {"function": function}, FUNCTIONS),
    ODD,
)
CALL_DELTAS = st.lists(PARTS, min_size=1, max_size=2).map(lambda parts: {"tool_calls": parts})
CHOICES = st.builds(
    lambda delta, finish, index, more: {"index": index, "delta": delta, "finish_reason": finish, **more},
    st.one_of(*[DELTAS] * 4, *[CALL_DELTAS] * 4, ODD),
    st.sampled_from([None, None, None, None, "stop", "tool_calls"]),
    st.sampled_from([0, 0, 0, None, 1]),
    st.sampled_from([{}, {}, {"usage": {"total_tokens": 1}}, {"logprobs": None}]),
)
USUAL = st.builds(
    lambda delta, finish, more: {"id": "c", "choices": [{"index": 0, "delta": delta, **finish}], **more},
    st.one_of(
        st.builds(lambda name, piece: {name: f"{piece}."}, NAMES, PIECES),
        st.builds(lambda piece: {"role": "assistant", "content": f"{piece}.", "tool_calls": None}, PIECES),
        st.builds(
            lambda index, piece: {"tool_calls": [{"index": index, "function": {"arguments": piece}}]},
            INDEXES,
            PIECES,
        ),
    ),
    st.sampled_from([{}, {"finish_reason": None}, {"finish_reason": "stop"}]),
    st.sampled_from([{}, {"usage": None}, {"usage": {"total_tokens": 3}}]),
)
CHUNKS = st.builds(
    lambda choices, more: {"id": "c", **more, "choices": choices},
    st.one_of(*[st.lists(CHOICES, min_size=1, max_size=1)] * 6, st.lists(CHOICES, max_size=2), ODD),
    st.sampled_from(
        [{}, {}, {}, {"model": "m"}, {"usage": {"total_tokens": 2}}, {"model": None}, {"error": {}}]
    ),
)


@st.composite
def events(draw: st.DrawFn) -> list[bytes]:
    """Draw the events of a stream: runs of chunks that differ in one string, and some that are odd.

    A run is written by one writer, and its strings are put into the text, so that what is put there
    may also end the string, or the chunk.
    """
    found: list[bytes] = []
    for _ in range(draw(st.integers(2, 5))):
        spaces, ascii_only = draw(st.booleans()), draw(st.booleans())
        separators = (", ", ": ") if spaces else (",", ":")
        chunk = draw(USUAL if draw(st.integers(0, 3)) else CHUNKS)
        text = json.dumps(chunk, ensure_ascii=ascii_only, separators=separators)
        if draw(st.integers(0, 7)) == 0:
            text = text.replace('"delta":', '"delta": {"content": "first"}, "delta":', 1)
        found.append(text.encode("utf-8", "surrogatepass"))
        places = [place for place in range(len(text)) if text[place] == '"']
        if not places:
            continue
        place = draw(st.sampled_from(places))
        for name in ('"content"', '"reasoning_content"', '"arguments"'):
            if name in text and draw(st.integers(0, 7)):
                # Where the pieces of most streams stand.
                place = min(text.index(name) + len(name) + len(separators[1]), len(text) - 1)
        end = text.find('"', place + 1)
        for piece in draw(st.lists(PIECES, min_size=1, max_size=4)):
            raw = json.dumps(piece)[1:-1] if draw(st.integers(0, 7)) else piece
            found.append(f"{text[: place + 1]}{raw}{text[end:]}".encode("utf-8", "surrogatepass"))
    if draw(st.booleans()):
        found.append(b'{"choices":[{"delta":{},"finish_reason":"stop"}]}')
    if draw(st.integers(0, 5)) == 0:
        found.insert(draw(st.integers(0, len(found))), draw(st.sampled_from([b"{", b"[1]", b"\xff", b"{}"])))
    return found


def state_of(assembler: ChunkAssembler) -> Any:
    """Give all that can be asked of an assembler."""
    anomalies = [kind.value for kind in assembler.anomalies]
    finish_reason = assembler.completion()["choices"][0]["finish_reason"]
    return (
        assembler.failed,
        assembler.has_output,
        finish_reason,
        anomalies,
        json.dumps(assembler.completion()),
    )


def plain_state_of(assembler: PlainAssembler) -> Any:
    """Give the same of the plain one."""
    completion = json.dumps(assembler.completion())
    return (assembler.failed, assembler.has_output, assembler.finish_reason, assembler.anomalies, completion)


def test_every_stream_assembles_as_the_plain_reading_does() -> None:
    """After each event all that can be asked is what whole parsing gives; most chunks take the short cut."""
    seen = {"whole": 0, "short": 0}

    @settings(max_examples=200)
    @given(events())
    def compare(stream: list[bytes]) -> None:
        ours, plain = ChunkAssembler(), PlainAssembler()
        for number, data in enumerate(stream, start=1):
            whole = ours._add_event
            parsed: list[bytes] = []
            ours._add_event = lambda data, text, whole=whole, parsed=parsed: (
                parsed.append(data),
                whole(data, text),
            )
            ours.add(data)
            del ours._add_event
            plain.add(data)
            seen["whole" if parsed else "short"] += 1
            assert ours.events == number
            assert state_of(ours) == plain_state_of(plain)
        result = ours.result()
        assert isinstance(result, Response) == (not plain.failed and bool(plain.finish_reason))
        if not isinstance(result, NotACompletion):
            assert json.dumps(result.completion) == json.dumps(plain.completion())

    compare()
    assert min(seen.values()) >= 150, seen


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"data: {}", b"data:", b"x", b"", b"", b": c"]),
            st.sampled_from([b"\n", b"\r\n", b"\r"]),
        ),
        max_size=16,
    ),
    st.integers(1, 9),
)
def test_events_are_cut_as_the_plain_reading_does(lines: list[tuple[bytes, bytes]], size: int) -> None:
    """Reads of any size give the events of a line by line reading."""
    stream = b"".join(line + end for line, end in lines)
    decoder = EventDecoder()
    found = [data for at in range(0, len(stream), size) for data in decoder.feed(stream[at : at + size])]
    assert found == plain_events(stream)


def content(piece: str, **more: Any) -> str:
    """Give a usual chunk as text."""
    choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
    return json.dumps({"id": "c", "choices": [choice], **more})


def test_a_usual_chunk_has_an_envelope() -> None:
    """The envelope is the text around the piece, and gives the piece of the next chunk, escapes decoded."""
    text = content("Hel")
    found = find_envelope(text, json.loads(text))
    assert found is not None
    envelope, path = found
    assert envelope.head + "Hel" + envelope.tail == text
    assert path == ("choices", 0, "delta", "content")
    for piece in ("lo", "", '"', "\\", "\n", "é", "😀"):
        assert envelope.piece(content(piece)) == piece


@pytest.mark.parametrize(
    "text",
    [
        content("x", id="d"),
        content("x")[:-1],
        content("x") + " ",
        content("x").replace('"x"', '"x", "content": "y"'),
        content("x").replace('"x"', '"x\n"'),
        content("x").replace('"x"', "null"),
        content("x").replace("x", '", "role": "tool'),
        content("").replace('""', '"'),
    ],
)
def test_another_chunk_is_none_of_the_envelope(text: str) -> None:
    """Whatever else is new in a chunk, it is parsed whole."""
    first = content("Hel")
    found = find_envelope(first, json.loads(first))
    assert found is not None
    assert found[0].piece(text) is None


@pytest.mark.parametrize(
    "text",
    [
        content("x").replace('"content"', '"c\\u006fntent"'),
        content("x").replace('"content": "x"', '"content": "x", "content": "x"'),
        content("x").replace('"delta"', '"delta": {"content": "x"}, "Delta"').replace("Delta", "delta"),
        content("x").replace(
            '"delta": {"content": "x"}', '"x": {"content": "x"}, "delta": {"c\\u006fntent": "x"}'
        ),
        content("x").replace('"id"', '"content": "x", "id"'),
        content(""),
        content("x", choices=[]),
        '{"choices": [{"delta": {"content": "a", "x": "b"}}]}',
        '{"choices": [{"delta": {"content": ["a"]}}]}',
        '{"choices": [{"delta": {"role": ["a"], "content": "a"}}]}',
        '{"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]}',
        '{"choices": [{"index": 1, "delta": {"content": "a"}}]}',
        '{"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": "a"}}]}}]}',
    ],
)
def test_what_is_not_sure_has_no_envelope(text: str) -> None:
    """Repeated keys, several strings, and all that a second time would do more than add a piece."""
    assert find_envelope(text, json.loads(text)) is None


def test_a_stream_that_shares_nothing_is_not_learnt_from_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every chunk is new (a time in each, say), learning ends after a few; use renews it."""
    learnt: list[str] = []
    plain = stream_envelopes.find_envelope

    def counting(text: str, chunk: dict[str, Any]) -> Any:
        learnt.append(text)
        return plain(text, chunk)

    monkeypatch.setattr("k2_verifier_adapter.core.streams.assembler.find_envelope", counting)
    assembler = ChunkAssembler()
    for number in range(50):
        assembler.add(content("x", created=number).encode())
    assert len(learnt) == 4
    learnt.clear()
    assembler = ChunkAssembler()
    for number in range(50):
        assembler.add(content("x", created=number // 2).encode())
    assert len(learnt) == 25
    assert assembler.completion()["choices"][0]["message"]["content"] == "x" * 50
