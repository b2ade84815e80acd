"""Messages as EvalScope's pages show them."""

import pytest

from k2_verifier_adapter.evalscope_plugin.reviews import display_answer, display_messages


def said(content, role="user", **more):
    """Give a message."""
    return {"role": role, "content": content, **more}


def _characters_kept(text):
    """Count what is left of a message, the note about the rest not counted."""
    beginning, _, rest = text.partition("\n\n[… ")
    return len(beginning) + len(rest.partition(" …]\n\n")[2])


def test_short_messages_are_shown_whole():
    """What fits is not touched, whatever its role and shape."""
    call = {"id": "functions.f:0", "function": {"name": "f", "arguments": "{}"}}
    shown = display_messages(
        [
            said("be kind", "_input"),
            said([{"type": "text", "text": "hi"}]),
            said(None, "assistant", tool_calls=[call]),
            said("1", "tool", name="f"),
            5,
        ]
    )
    assert shown == [
        {"role": "system", "content": "[role: _input]\n\nbe kind"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "[tool call functions.f:0] f({})"},
        {"role": "tool", "content": "[name: f]\n\n1"},
        {"role": "user", "content": "5"},
    ]


def test_long_messages_lose_their_middle_the_first_ones_most():
    """Every message stays, with its beginning and end; the last keeps most, and what is gone is counted."""
    texts = [f"<{number}>" + "x" * 20_000 + f"</{number}>" for number in range(5)]
    shown = [message["content"] for message in display_messages([said(text) for text in texts])]
    assert len(shown) == 5
    for number, text in enumerate(shown):
        assert text.startswith(f"<{number}>")
        assert text.endswith(f"</{number}>")
        omitted = len(texts[number]) - _characters_kept(text)
        assert f"\n\n[… {omitted:,} characters left out; the run's cases.jsonl.gz has them …]\n\n" in text
    sizes = [len(text) for text in shown]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 3_000
    assert 200 < sizes[0] < 2_000
    assert sum(sizes) < 7_500


def test_room_that_the_last_messages_do_not_need_goes_to_the_earlier_ones():
    """A long prompt in front of short turns keeps half of all the room."""
    shown = display_messages([said("x" * 20_000, "system"), said("short"), said("short too")])
    assert 2_900 < shown[0]["content"].count("x") < 3_000
    assert [message["content"] for message in shown[1:]] == ["short", "short too"]


def test_many_messages_stay_readable():
    """However many there are, each shows a little."""
    shown = display_messages([said("y" * 1_000) for _ in range(100)])
    assert all(message["content"].count("y") >= 200 for message in shown)
    assert sum(len(message["content"]) for message in shown) < 40_000


@pytest.mark.parametrize("content", ["\ud800", "a\udfffb" * 5_000])
def test_what_utf8_cannot_hold_is_replaced(content):
    """A lone surrogate does not keep EvalScope from writing the file."""
    shown = [*display_messages([said(content)]), display_answer(said(content), "stop")]
    assert all(message["content"].encode() for message in shown)


def test_a_long_answer_is_cut():
    """Of an answer the beginning is shown: the prediction holds all of it."""
    shown = display_answer({"reasoning": "r", "content": "z" * 50_000}, "length")
    assert shown["content"].startswith("[reasoning]\nr\n\nzzz")
    assert len(shown["content"]) < 8_100
