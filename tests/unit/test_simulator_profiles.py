"""Profiles: which faults and wire shapes a request meets, and what a profile may say."""

from __future__ import annotations

import re

import pytest

from k2_verifier_adapter.cli.simulate import PROFILE_HELP, profile_of
from k2_verifier_adapter.core.failure_classes import Group
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.simulator import (
    PROFILES,
    Profile,
    fault_names,
    profile_named,
    profile_with,
    shape_names,
)
from k2_verifier_adapter.simulator.faults import FAULTS, select
from k2_verifier_adapter.simulator.planning import Lottery


def test_the_official_profile_draws_nothing():
    """The profile `official` has no fault for any request."""
    lottery = Lottery(PROFILES["official"], seed=1)
    assert all(lottery.draw(i, 0, has_calls=True, stream=True) is None for i in range(100))


def _faulty(lottery, number, occurrence):
    return lottery.draw(number, occurrence, has_calls=True, stream=True) is not None


def _shaped(lottery, number, occurrence):
    return bool(lottery.draw_shapes(number, occurrence, stream=True))


@pytest.mark.parametrize(("name", "hit"), [("missed_call", _faulty), ("crlf", _shaped)])
def test_a_draw_depends_on_seed_case_and_occurrence(name, hit):
    """The same three numbers give the same fault or shape, and other seeds and repetitions other ones."""

    def pattern(seed, occurrence):
        lottery = Lottery(profile_with({name: 0.5}), seed)
        return tuple(hit(lottery, number, occurrence) for number in range(64))

    assert pattern(1, 0) == pattern(1, 0)
    assert len({pattern(1, 0), pattern(2, 0), pattern(1, 1)}) == 3


def test_a_rate_is_a_share_of_the_requests_that_the_fault_fits():
    """About the given share of calling answers is hit, and no other answer."""
    lottery = Lottery(profile_with({"missed_call": 0.3, "extra_call": 1.0}), seed=0)
    hit = sum(lottery.draw(i, 0, has_calls=True, stream=False) is not None for i in range(10_000))
    assert 2_800 < hit < 3_200
    assert all(
        lottery.draw(i, 0, has_calls=False, stream=False)[0].faults_at(1)[0].name == "extra_call"
        for i in range(100)
    )


def test_a_class_draws_all_its_variants():
    """A class that has variants draws each of them, and only those that fit the request."""
    lottery = Lottery(profile_with({"connection_reset": 1.0}), seed=0)
    plain = {lottery.draw(i, 0, has_calls=True, stream=False)[0].faults_at(1)[0].name for i in range(50)}
    stream = {lottery.draw(i, 0, has_calls=True, stream=True)[0].faults_at(1)[0].name for i in range(50)}
    assert plain == {"connection_reset_before_headers", "connection_reset_mid_body"}
    assert stream == {"connection_reset_before_headers"}


def test_the_shipped_profiles_are_complete():
    """`--help` names every shipped profile, and `broken` has a fault of every group but that of loops."""
    assert set(re.findall(r"[a-z]+(?:-[a-z]+)*", PROFILE_HELP)) >= PROFILES.keys()
    assert len(PROFILES) == 13
    classes = {fault.failure_class for name in PROFILES["broken"].rates for fault in select(name).faults}
    assert {c.group for c in classes} == {c.group for c in FAULTS} - {Group.GENERATION}


def test_a_profile_cannot_be_changed():
    """The rates of a profile are frozen, also against changes of the mapping they came from."""
    rates = {"missed_call": 0.1}
    profile = Profile("mine", "…", rates)
    rates["missed_call"] = 0.9
    assert profile.rates["missed_call"] == 0.1
    with pytest.raises(TypeError):
        profile.rates["missed_call"] = 0.5


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"truncated_jsn": 0.1}, "unknown fault 'truncated_jsn': did you mean 'truncated_json'?"),
        ({"connection_failed": 0.1}, "fault 'connection_failed' cannot be simulated: "),
        ({"schema_timeout": 0.1}, "it is a property of the row"),
        ({"http_503@0": 0.1}, "'0' after '@' is not a number of attempts"),
        ({"http_503@x": 0.1}, "'x' after '@' is not a number of attempts"),
        ({"missed_call@1": 0.1}, "'missed_call' is answered and never retried"),
        ({"missed_call@1+http_503": 0.1}, "'missed_call' is answered and never retried"),
        (
            {"http_503+http_429@1": 0.1},
            "'http_503' leaves no attempt to what follows; say how many it hits, such as 'http_503@1'",
        ),
        ({"http_503@1+": 0.1}, "unknown fault ''"),
        ({"http_503@1+htp_429": 0.1}, "unknown fault 'htp_429': did you mean 'http_429'?"),
        ({"http_503@1+connection_failed": 0.1}, "fault 'connection_failed' cannot be simulated: "),
        ({"clrf": 0.1}, "unknown fault 'clrf': did you mean 'crlf'?"),
        ({"byte_by_bite": 0.1}, "did you mean 'byte_by_byte'?"),
        ({"crlf@1": 0.1}, "'crlf' is a wire shape and fails no attempt: give it alone"),
        ({"http_503@1+gzip": 0.1}, "'gzip' is a wire shape and fails no attempt"),
        ({"gzip": 2}, "rate 2 of wire shape 'gzip' is not between 0 and 1"),
        ({"missed_call": 1.5}, "rate 1.5 of fault 'missed_call' is not between 0 and 1"),
        ({"missed_call": float("nan")}, "rate nan of fault"),
        ({"missed_call": 0.6, "truncated_json": 0.6}, "add up to 1.2 for one request"),
    ],
)
def test_a_wrong_profile_says_what_is_wrong(faults, said):
    """A profile that cannot be meant is refused with the offending value and what to do."""
    with pytest.raises(UsageError, match=re.escape(said)):
        profile_with(faults)


def test_an_unknown_profile_suggests_one():
    """A mistyped profile name gets the nearest one suggested."""
    with pytest.raises(UsageError, match=r"unknown profile 'nosy': did you mean 'noisy'\?"):
        profile_named("nosy")
    assert profile_named("noisy") is PROFILES["noisy"]


# --- sequences -----------------------------------------------------------------------------------


def _names(lottery, attempts, *, stream=False, has_calls=True):
    selection, _ = lottery.draw(0, 0, has_calls=has_calls, stream=stream)
    return [[fault.name for fault in selection.faults_at(attempt)] for attempt in range(1, attempts + 1)]


def test_a_sequence_gives_each_attempt_its_fault():
    """Joined by `+`, faults hit as many attempts as each says, in this order, and then none."""
    lottery = Lottery(profile_with({"http_503@2+http_429@1+connection_reset_before_headers@1": 1}), seed=0)
    assert _names(lottery, 6) == [
        ["http_503"],
        ["http_503"],
        ["http_429"],
        ["connection_reset_before_headers"],
        [],
        [],
    ]


def test_the_last_of_a_sequence_may_last():
    """Without a number, the last fault of a sequence hits all attempts that are left."""
    lottery = Lottery(profile_with({"http_503@1+missed_call": 1}), seed=0)
    assert _names(lottery, 4) == [["http_503"], ["missed_call"], ["missed_call"], ["missed_call"]]


def test_a_sequence_goes_to_requests_that_all_of_it_fits():
    """A sequence is drawn only where each of its faults can apply."""
    lottery = Lottery(profile_with({"http_503@1+stream_cut@1": 0.5, "http_503@1+missed_call": 0.5}), seed=0)
    drawn = {
        (has_calls, stream): {
            tuple(step.attempts for step in draw[0].steps)
            for number in range(50)
            if (draw := lottery.draw(number, 0, has_calls=has_calls, stream=stream))
        }
        for has_calls in (True, False)
        for stream in (True, False)
    }
    cut, missed = (1, 1), (1, None)
    assert drawn == {
        (True, True): {cut, missed},
        (True, False): {missed},
        (False, True): {cut},
        (False, False): set(),
    }


def test_a_sequence_does_not_change_other_draws():
    """Which requests are hit depends on the rates alone, not on what hits them."""

    def hit(name):
        lottery = Lottery(profile_with({name: 0.5}), seed=0)
        return [lottery.draw(i, 0, has_calls=True, stream=True) is not None for i in range(100)]

    assert hit("http_503") == hit("http_503@1+http_429@1") == hit("missed_call")


# --- wire shapes ---------------------------------------------------------------------------------


def test_faults_and_shapes_have_different_names():
    """No name means both a fault and a wire shape."""
    assert not set(fault_names()) & set(shape_names())


def test_shapes_are_drawn_each_for_itself():
    """Any number of shapes meet in one request, about as often as their rates say."""
    lottery = Lottery(profile_with({"crlf": 0.5, "gzip": 0.5, "comments": 1.0}), seed=0)
    drawn = [tuple(shape.name for shape in lottery.draw_shapes(i, 0, stream=True)) for i in range(1_000)]
    assert set(drawn) == {
        ("comments",),
        ("comments", "crlf"),
        ("comments", "gzip"),
        ("comments", "crlf", "gzip"),
    }
    assert 400 < sum("gzip" in names for names in drawn) < 600
    assert 150 < sum(len(names) == 3 for names in drawn) < 350


def test_shapes_of_streams_are_for_streams():
    """A shape is drawn only for the kind of request that it fits, and applies in the registry's order."""
    lottery = Lottery(profile_with(dict.fromkeys(reversed(shape_names()), 1)), seed=0)
    plain, streamed = (
        [shape.name for shape in lottery.draw_shapes(0, 0, stream=stream)] for stream in (False, True)
    )
    assert plain == ["blank_lines", "unsized_body", "split_characters", "gzip", "byte_by_byte"]
    assert streamed == [name for name in shape_names() if name not in ("blank_lines", "unsized_body")]


def test_shapes_do_not_change_the_faults():
    """A profile draws the same faults with shapes as without, and shapes use up no rate."""
    rates = {"missed_call": 0.5, "http_503": 0.5}
    alone, shaped = (
        Lottery(profile_with({**rates, **dict.fromkeys(names, 1)}), seed=0) for names in ((), shape_names())
    )
    for number in range(100):
        one, other = (lottery.draw(number, 0, has_calls=True, stream=True) for lottery in (alone, shaped))
        assert one[0] == other[0]


def test_the_command_line_takes_sequences_and_shapes():
    """`--fault` takes a sequence of faults and a wire shape like any fault."""
    profile = profile_of("noisy", ["http_503@1+http_429@1=0.25", "gzip=1"])
    assert profile.rates == {
        "missed_call": 0.15,
        "extra_call": 0.15,
        "http_503@1+http_429@1": 0.25,
        "gzip": 1.0,
    }
