"""However a stream is split, the same events come out."""

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from k2_verifier_adapter.core.streams.assembler import ChunkAssembler
from k2_verifier_adapter.core.streams.decoder import EventDecoder

LINES = st.sampled_from(
    [
        b"data: {}",
        b"data:",
        b"data: \xe4\xbd\xa0\xe5\xa5\xbd",
        b"data: \xf0\x9f\x98\x80",
        b": c",
        b"",
        b"",
        b"event: e",
    ]
)
STREAMS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=20).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


def decode(chunks: list[bytes]) -> list[bytes]:
    """Give all events of a stream."""
    decoder = EventDecoder()
    return [data for chunk in chunks for data in decoder.feed(chunk)] + list(decoder.close())


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    """Cut a stream at the given positions."""
    edges = [0, *sorted({cut % (len(stream) + 1) for cut in cuts}), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


@given(STREAMS, st.lists(st.integers(0, 10_000), max_size=12), st.booleans())
def test_any_split_gives_the_same_events(stream: bytes, cuts: list[int], bom: bool) -> None:
    """Reads of any size, byte by byte included, give what one read gives."""
    stream = b"\xef\xbb\xbf" * bom + stream
    whole = decode([stream])
    assert decode(pieces(stream, cuts)) == whole
    assert decode([stream[i : i + 1] for i in range(len(stream))]) == whole


@given(STREAMS)
def test_line_ends_do_not_matter(stream: bytes) -> None:
    """LF, CR and CRLF, mixed or not, give the events of the stream with LF alone."""
    normalized = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert decode([stream]) == decode([normalized])


@given(st.lists(st.text(max_size=8), max_size=6), st.lists(st.integers(0, 10_000), max_size=12))
def test_texts_survive_any_split(texts: list[str], cuts: list[int]) -> None:
    """Multi-byte characters cut between reads arrive whole."""
    chunks = [{"choices": [{"delta": {"content": text}}]} for text in texts]
    chunks.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    stream = b"".join(
        b"data: " + json.dumps(chunk, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n\n"
        for chunk in chunks
    )
    assembler = ChunkAssembler()
    for data in decode(pieces(stream, cuts)):
        assembler.add(data)
    assert assembler.completion()["choices"][0]["message"]["content"] == "".join(texts)
