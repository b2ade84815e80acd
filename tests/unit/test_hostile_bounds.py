"""Bounds that no timeout gives: sizes, depths, numbers and runs of characters that cost time or memory."""

from __future__ import annotations

import io
import json
import sys
from itertools import pairwise
from typing import Any

import pytest
from stored_runs import FACTS, calling, make_row, write_run

from k2_verifier_adapter.core import json_text
from k2_verifier_adapter.core.cases import Case, RowError, decode_row
from k2_verifier_adapter.core.counts import MAX_TEXT
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.json_text import (
    MAX_DEPTH,
    MAX_PARAMETER_DEPTH,
    MAX_VALUES,
    is_too_deep,
    reportable,
)
from k2_verifier_adapter.core.judged import KEPT_ELEMENTS, judge_record, kept_of
from k2_verifier_adapter.core.judging import tool_calls
from k2_verifier_adapter.core.judging.agreement import argument_agreement
from k2_verifier_adapter.core.judging.arguments import is_repairable
from k2_verifier_adapter.core.judging.judge import judge
from k2_verifier_adapter.core.records import ResponseRecord, failed_request_from_json
from k2_verifier_adapter.core.requests import RequestIdentity
from k2_verifier_adapter.core.responses import NotACompletion, Response, parse_completion, read_completion
from k2_verifier_adapter.core.run_facts import facts_as_json, facts_from_json
from k2_verifier_adapter.core.schemas import patterns
from k2_verifier_adapter.core.schemas.bounded_keywords import SchemaTimeoutError, time_budget
from k2_verifier_adapter.core.schemas.compiled import compile_schema
from k2_verifier_adapter.core.schemas.patterns import PatternTimeoutError
from k2_verifier_adapter.core.secrets import Masker
from k2_verifier_adapter.core.streams import assembler as assembler_module
from k2_verifier_adapter.core.streams.assembler import ChunkAssembler
from k2_verifier_adapter.core.streams.decoder import EventDecoder
from k2_verifier_adapter.core.tally import Tally
from k2_verifier_adapter.errors import DataError
from k2_verifier_adapter.formats.runs import choose_run, read_facts, read_run
from k2_verifier_adapter.formats.upstream import read_results
from k2_verifier_adapter.offline import dataset_check

TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "parameters": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
    },
}


def deep(levels: int) -> str:
    """Nest that deep."""
    return "[" * levels + "]" * levels


def case_of(**columns: Any) -> Any:
    """Decode a row."""
    row = {"messages": [{"role": "user", "content": "x"}], "tools": [TOOL], "should_call_tool": True}
    return decode_row({**row, **columns}, 0, HistoryOptions())


def called(calls: list[Any]) -> Response:
    """Give a response that calls."""
    response = read_completion(
        {"choices": [{"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}
    )
    assert isinstance(response, Response)
    return response


# --- patterns ------------------------------------------------------------------------------------

FILLING = {
    "exact repeats": "(?:" * 90 + "a" + "){2}" * 90,
    "repeats": "(?:" * 60 + "ax" + ")+" * 60,
    "captured repeats": "(" * 60 + "a" + "){3}" * 60,
    "large repeats": "(?:(?:(?:ab){1000}){1000}){1000}",
    "repeats behind inline flags": "(?i)" + "(?:" * 60 + "ax" + ")+" * 60,
    "repeated lookaheads": "(?=" * 60 + "ax" + ")+" * 60 + "(b+)+",
}


@pytest.mark.parametrize("name", FILLING)
def test_a_pattern_that_would_fill_memory_is_not_run(name: str) -> None:
    """`regex` writes nested repeats out, which doubles its memory with each level: it never sees them."""
    with pytest.raises(PatternTimeoutError, match="cannot be run with a time limit"):
        patterns.search(FILLING[name], "ab" * 20, 1.0)
    schema = {"properties": {"a": {"pattern": FILLING[name]}}}
    with pytest.raises(SchemaTimeoutError):
        compile_schema(schema).violations({"a": "ab" * 20})


@pytest.mark.parametrize(
    ("pattern", "nodes"),
    [("a+", 5), ("(?:ab)+", 7), ("(?:ab){3}", 13), ("(?:(?:ab){2}){2}", 31), ("[a-c]{1000}", 5)],
)
def test_repeated_groups_are_counted_as_often_as_they_are_written_out(pattern: str, nodes: int) -> None:
    """A group counts once more than it must occur, in each group around it; a single character does not."""
    assert patterns._nodes(patterns._read(pattern).items) == nodes


@pytest.mark.parametrize("pattern", [r"^([a-z]+-?)*$", "((((a)|b)|c)|d)*e"])
def test_a_long_text_is_not_searched_with_captures(pattern: str) -> None:
    """What a search remembers of each character would fill memory within the time limit."""
    assert not patterns.search(pattern, "ab-" * 1_000 + "!", 5.0)
    with pytest.raises(PatternTimeoutError, match="on a text of 6000000 characters"):
        patterns.search(pattern, "ab-" * 2_000_000, 5.0)


RUNS = ["[", "(?#", r"\N{", "(?#[", "[^", "[]", "(?x)#[", "{", "(?P=", "\\"]


@pytest.mark.parametrize("run", RUNS)
def test_runs_in_a_pattern_are_read_once(run: str) -> None:
    """As many openings as are read, none of which closes, are looked at once each."""
    patterns.is_cheap(run * (100_000 // len(run)), 10)


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        (r"(?#[)(?:ab|cd)+", "xcdab", True),
        (r"(?#\N{)(?:ab|cd)+[\[:]{2}$", "ab[:", True),
        (r"(?:a|bb)+[]a]{2}(?#{)", "a]]", True),
        (r"(?:[\]x]{2})+", "]x]", True),
        (r"(?:a{)+", "a{a{", True),
        ("(?x) (?:a|bb)+ # [", "bb", True),
        ("(?x) ^ (?: a | [ b#] b )+ # ( [\n c $", "a bc", True),
        ("(?x) ^ (?: a | [ b#] b )+ # ( [\n c $", "a  c", False),
        (r"(?x) ^ (?: \  \# )+ $", " # #", True),
        ("(?i)^(?:ab)+$", "abAB", True),
        ("^(?i:ab)+(?:c-)+$", "ABabc-c-", True),
        ("^(?i:ab)+(?:c-)+$", "ABabC-c-", False),
        ("(?i)^(?-i:ab)+(?:c-)+$", "ABC-", False),
        ("(?s)^(?:a.)+$", "a\na\n", True),
        ("(?m)^(?:ab)+$", "x\nabab\nx", True),
        (r"(?a)^(?:\w-)+$", "é-", False),
        (r"^(?P<n>ab|c)(?:(?P=n)-)+(?(n)1|2)$", "cc-c-1", True),
        (r"(?<=ab)(?:c-)+(?<!x-)(?!d)$", "abc-c-", True),
        (r"^(?:[^\d\-\]\[{]|[a-c]{2,3}?){2,}$", "[[", False),
        (r"^(?:a{e}|[[:x]-)+$", "a{e}:-[-", True),
    ],
)
def test_comments_and_classes_keep_their_meaning(pattern: str, text: str, matches: bool) -> None:
    """What is translated for `regex` means there what it means to `re`."""
    assert not patterns.is_cheap(pattern, len(text))
    assert patterns.search(pattern, text, 5.0) is matches


def test_flags_that_regex_has_for_whole_patterns_only_are_left_to_re() -> None:
    """A scoped ASCII flag is searched for by `re` where that is cheap, and else given up."""
    assert not patterns.search(r"(?a:\w)", "é", 1.0)
    with pytest.raises(PatternTimeoutError, match="cannot be run with a time limit"):
        patterns.search(r"(?a:(\w-)+)", "é-", 1.0)


WIDE = "(?i)" + "[!-\uffff]"


@pytest.mark.parametrize(
    "pattern", [WIDE * 20_000, r"[\u0021-\uffff]" * 10_000, "a" * 200_000], ids=["wide", "escaped", "long"]
)
def test_a_pattern_slow_to_compile_is_not_compiled(pattern: str) -> None:
    """`re` takes milliseconds for each class of many characters, and cannot be interrupted."""
    for schema in ({"pattern": pattern}, {"$id": "http://x/", "patternProperties": {pattern: {}}}):
        with pytest.raises(SchemaTimeoutError, match="too large to compile in time"):
            compile_schema(schema)
    with pytest.raises(PatternTimeoutError, match="too large to compile in time"):
        patterns.search(pattern, "x", 1.0)


def test_many_patterns_share_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patterns that are each quick to compile end together, in a check of rows as in a judgement."""
    monkeypatch.setattr(dataset_check, "CHECK_TIME_S", 0.2)
    wide = "(?i)" + "[!-\uffff]" * 40
    schema = {"properties": {str(n): {"pattern": f"{wide}{n}"} for n in range(2_000)}}
    with time_budget(0.2), pytest.raises(SchemaTimeoutError):
        compile_schema(schema)
    found = dataset_check._compile(schema)
    assert found is not None
    assert found[0] is FailureClass.SCHEMA_TIMEOUT


def test_long_patterns_stay_out_of_the_details() -> None:
    """A timeout quotes the beginning of its pattern."""
    for schema in (
        {"pattern": f"({'ab' * 30_000}|c)+"},
        {"unevaluatedProperties": False, "patternProperties": {f"({'ab' * 30_000}|c)+": {}}},
        {"pattern": "a" * 200_000},
    ):
        with pytest.raises(SchemaTimeoutError) as caught:
            compile_schema(schema).violations("x" if "pattern" in schema else {"a" * 100: 1})
        assert len(str(caught.value)) < 500


# --- depth ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [MAX_DEPTH - 4, MAX_DEPTH + 1, 900])
@pytest.mark.parametrize(
    "template",
    [
        '{"choices": [{"message": {"content": @}, "finish_reason": "stop"}]}',
        '{"choices": [{"message": {"tool_calls": [@]}, "finish_reason": "tool_calls"}]}',
        '{"x": @, "choices": [{"message": {}, "finish_reason": "stop"}]}',
    ],
)
def test_a_completion_has_one_depth_for_all_who_read_it(template: str, levels: int) -> None:
    """Beyond `MAX_DEPTH` it is none, however shallow the stack; up to there it can be written from any."""
    response = parse_completion(template.replace("@", deep(levels)))
    if levels > MAX_DEPTH:
        assert isinstance(response, NotACompletion)
        assert "nested deeper than 400 levels" in response.reason
    elif isinstance(response, Response):
        assert at_depth(sys.getrecursionlimit() - 600, lambda: json.dumps(response.completion))


def at_depth(frames: int, action: Any) -> Any:
    """Run an action with that many frames more on the stack."""
    return action() if frames == 0 else at_depth(frames - 1, action)


def test_depth_is_counted_in_lists_and_objects() -> None:
    """Scalars have no depth, each list or object around them has one."""
    assert not is_too_deep("[[[[", 0)
    assert is_too_deep([], 0)
    for value in ([[1], {"a": 2}], {"a": [1]}, [[], [[]]][:1]):
        assert not is_too_deep(value, 2)
        assert is_too_deep([value], 2)


def test_parameters_may_not_be_deep() -> None:
    """Reports walk the parameters by recursion: a row's own that are deeper make it unusable."""
    decode = case_of(parameters={"a": json.loads(deep(MAX_PARAMETER_DEPTH - 1))})
    assert decode.parameters
    with pytest.raises(RowError, match=r"'parameters'.*deeper than 100 levels"):
        case_of(parameters={"a": json.loads(deep(MAX_PARAMETER_DEPTH))})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.6, 0.6),
        ({"a": [1]}, {"a": [1]}),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (
            {"api_key": "sk-1", "x": float("nan")},
            "(no JSON: Out of range float values are not JSON compliant",
        ),
        (json.loads(deep(101)), "(nested deeper than 100 levels)"),
    ],
)
def test_a_logged_parameter_becomes_reportable(value: Any, shown: Any) -> None:
    """What a report cannot hold as JSON becomes a text, which quotes nothing of an object."""
    found = reportable(value)
    assert found == shown or (isinstance(found, str) and found.startswith(shown))
    assert "sk-1" not in json.dumps(found, allow_nan=False)


# --- numbers -------------------------------------------------------------------------------------


def test_a_number_beyond_floats_is_sent_as_it_stands_or_not_at_all() -> None:
    """`1e999` is JSON, but Python would write it as `Infinity`, which is none."""
    text = '[{"role": "@", "content": 1e999}]'
    assert case_of(messages=text.replace("@", "user")).messages_json == text.replace("@", "user").encode()
    surrogate = text.replace("@", "user").replace("1e999", '[1e999, "\ud800"]')
    assert b"1e999" in case_of(messages=surrogate).messages_json
    with pytest.raises(RowError, match=r"'messages'.*cannot be written again as JSON"):
        case_of(messages=text.replace("@", "_input"))
    with pytest.raises(RowError, match=r"'parameters'.*cannot be written again as JSON"):
        case_of(parameters='{"temperature": 1e999}')


@pytest.mark.parametrize("duration", ["NaN", "Infinity", "1e999", "9" * 400, "true", '"5"', "null"])
def test_a_duration_that_is_none_is_left_out(duration: str) -> None:
    """A results file may say anything of its durations; only a finite number is one."""
    line = f'{{"data_index": 1, "response": {{}}, "duration_ms": {duration}}}\n'.encode()
    (result,) = read_results(io.BytesIO(line))
    assert getattr(result, "duration_ms", "") is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, "0.5", None, True])
def test_a_stored_duration_is_a_finite_number(value: Any) -> None:
    """A record whose duration is none is no record."""
    request = {"sha256": "a", "row_sha256": "b", "parameters": {}}
    record = {"case": 0, "response": "{}", "request": request}
    assert ResponseRecord.from_json({**record, "duration_s": 0.5}) is not None
    assert ResponseRecord.from_json({**record, "duration_s": value}) is None
    failed = {"case": 0, "failure": {"class": "timed_out", "detail": "x"}}
    assert failed_request_from_json({**failed, "duration_s": 0.5}) is not None
    assert failed_request_from_json({**failed, "duration_s": value}) is None


# --- stored runs ---------------------------------------------------------------------------------

DAMAGES: list[tuple[str, Any]] = [
    ("model", 5),
    ("planned", float("inf")),
    ("planned", "5"),
    ("repeats", None),
    ("finished_at", 1.5),
    ("started_at", None),
    ("rows", []),
    ("parameters", [["a", 1]]),
    ("parameters", {"temperature": float("nan")}),
    ("parameters", {"a": json.loads(deep(200))}),
    ("endpoint_host", {}),
    ("standard", {"threshold": "0.73", "self_agreement": None, "source": ""}),
    ("standard", {"threshold": 0.73, "self_agreement": {"lowest": 10**400, "mean": 1}, "source": ""}),
]


@pytest.mark.parametrize(("name", "value"), DAMAGES)
def test_facts_of_another_type_are_damage(name: str, value: Any) -> None:
    """What is known of a run has the types that were written, or the file is damaged."""
    stored = facts_as_json(FACTS)
    assert facts_from_json(stored) == FACTS
    with pytest.raises((KeyError, TypeError, ValueError)):
        facts_from_json({**stored, name: value})


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "null", '{"rows": 5}', '{"a":' * 100_000, "9" * 5_000])
def test_a_damaged_run_file_is_a_data_error(tmp_path, text: str) -> None:
    """Whatever a run's file holds, the error names it."""
    paths = choose_run(write_run(tmp_path, [make_row()], [calling()]))
    paths.facts.write_text(text)
    with pytest.raises(DataError, match=r"run\.json: cannot be read"):
        read_facts(paths)


@pytest.mark.parametrize(
    "change",
    [
        {"index": float("inf")},
        {"index": "0"},
        {"tools": 5},
        {"messages": None},
        {"parameters": [1]},
        {"repairs": 5},
    ],
)
def test_a_damaged_case_is_a_data_error(tmp_path, change: dict[str, Any]) -> None:
    """A stored case of another shape is damage, not a crash later on."""
    import gzip

    paths = choose_run(write_run(tmp_path, [make_row()], [calling()]))
    stored = json.loads(gzip.decompress(paths.cases.read_bytes()))
    paths.cases.write_bytes(gzip.compress(json.dumps({**stored, **change}).encode()))
    with pytest.raises(DataError, match="damaged after 0 cases"):
        read_run(paths)


# --- many and long -------------------------------------------------------------------------------


def test_of_each_class_the_first_failures_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of thousands of wrong calls the first are listed; every class is among the listed."""
    monkeypatch.setattr(tool_calls, "RESPONSE_TIME_S", 600.0)
    wrong = {"id": "x", "function": {"name": "f", "arguments": "{}"}}
    last = {"id": "y", "function": {"name": "f", "arguments": "{"}}
    judgement = judge(case_of(), called([*[wrong] * 5_000, last]))
    kinds = [failure.failure_class for failure in judgement.failures]
    assert kinds.count(FailureClass.MISSING_REQUIRED) == tool_calls.MAX_LISTED
    assert kinds.count(FailureClass.DUPLICATE_TOOL_CALL_ID) == tool_calls.MAX_LISTED
    assert kinds.count(FailureClass.TRUNCATED_JSON) == 1
    assert judgement.tool_calls_valid is False


def test_messages_are_decoded_once_however_many_calls_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call with a token is held against the request's messages; these are decoded once a response."""
    decoded = []
    messages = Case.messages
    monkeypatch.setattr(Case, "messages", lambda case: decoded.append(case) or messages(case))
    calls = [
        {"id": f"functions.f:{number}", "function": {"name": "f", "arguments": '{"a": "<|im_end|>"}'}}
        for number in range(3)
    ]
    judgement = judge(case_of(), called(calls))
    assert judgement.primary is FailureClass.SPECIAL_TOKEN_LEAK
    assert len(decoded) == 1


def test_undeclared_calls_use_up_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for a similar name among many tools counts as validation: it ends with the budget."""
    monkeypatch.setattr(tool_calls, "RESPONSE_TIME_S", 0.0)
    call = {"id": "functions.g:0", "function": {"name": "g", "arguments": "{}"}}
    judgement = judge(case_of(), called([call]))
    assert FailureClass.SCHEMA_TIMEOUT in {failure.failure_class for failure in judgement.failures}
    assert judgement.tool_calls_valid is False


def test_long_texts_are_counted_by_their_beginning() -> None:
    """A finish_reason of a megabyte is counted, and not kept."""
    tally = Tally()
    for number, text in enumerate(("f" * 1_000_000, "f" * 1_000_000, "g")):
        response = read_completion({"choices": [{"message": {}, "finish_reason": text}]})
        assert isinstance(response, Response)
        tally.add(number, judge(case_of(), response))
    assert sorted(tally.others_detail.values()) == [1, 2]
    assert all(len(text) < MAX_TEXT + 100 for text in tally.others_detail)


def test_many_aligned_calls_are_compared_in_order() -> None:
    """The k-th call of a tool is held against the k-th official one, thousands of them."""
    calls = [{"function": {"name": "f", "arguments": json.dumps({"n": n})}} for n in range(20_000)]
    assert argument_agreement(calls, calls) == 1.0
    assert argument_agreement(calls[1:], calls) == 0.0


@pytest.mark.parametrize("name", ["a.f", "a:b/f", "functions.f:0", "F", "f:1", " f() ", "x-f/F"])
def test_names_with_prefixes_are_still_found(name: str) -> None:
    """The part behind the last separator is the bare name."""
    judgement = judge(case_of(), called([{"id": "x", "function": {"name": name, "arguments": "{}"}}]))
    assert FailureClass.TOOL_NAME_CASE_OR_PREFIX in {failure.failure_class for failure in judgement.failures}


# --- streams and secrets -------------------------------------------------------------------------


def test_the_first_failure_counts_in_however_many_reads_it_comes() -> None:
    """What follows a failed event changes nothing, whether it came with the same packet or not."""
    stream = b'data: {"choices": []}\n\ndata: [\n\ndata: {"error": "late"}\n\ndata: x\n\n'
    reasons = set()
    for size in (1, 30, 1_000):
        decoder, assembler = EventDecoder(), ChunkAssembler()
        for start, end in pairwise([*range(0, len(stream), size), len(stream)]):
            for event in decoder.feed(stream[start:end]):
                assembler.add(event)
        result = assembler.result()
        assert isinstance(result, NotACompletion)
        reasons.add((result.failure_class, result.reason))
    ((kind, reason),) = reasons
    assert kind is FailureClass.NOT_A_COMPLETION
    assert reason.startswith("an event is not JSON")
    assert reason.endswith("b'['")


@pytest.mark.parametrize("start", ['{"a": "\\u0041', '{"a": "sk-test-0123456789 '])
def test_backslashes_are_read_once_for_a_secret(start: str) -> None:
    """Two million backslashes do not hide a secret, and are not each a place to start from."""
    masker = Masker({"sk-test-0123456789"})
    text = start + "\\" * 2_000_000
    masked = masker.text(text + 'n\\u0073k-test-0123456789"}')
    assert masked.endswith('n***"}')


@pytest.mark.parametrize(
    ("text", "repairable"),
    [
        ("```json\n{'a': 1}\n```", True),
        ("  ``` {'a': 1}```  ", True),
        ("```{'a': 1}", True),
        ("```json {" + " " * 900_000 + "]", False),
        ("```" + "\n" * 900_000 + "x", False),
        ("```json {'a': 1" + " " * 900_000 + "}```", True),
    ],
    ids=["fenced", "spaced", "open", "spaces", "lines", "spaces inside"],
)
def test_a_fence_is_taken_off_in_one_pass(text: str, repairable: bool) -> None:
    """A long run of spaces between two fences, or behind one, is looked at once."""
    assert is_repairable(text) is repairable


# --- what an answer may become --------------------------------------------------------------------


def _with_list(items):
    listed = "[" + ",".join(["[]"] * items) + "]"
    return json.dumps(
        {
            "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}],
            "x": 0,
            "usage": {"total_tokens": 3},
        }
    ).replace('"x": 0', f'"x": {listed}')


def test_an_answer_that_would_fill_the_memory_is_given_up():
    """A few KB of gzip unpack to millions of lists; they are counted in the text, and never made."""
    response = parse_completion(_with_list(MAX_VALUES // 2 + 10))
    assert isinstance(response, NotACompletion)
    assert response.failure_class is FailureClass.RESPONSE_TOO_LARGE


@pytest.mark.parametrize("events", [1, 30], ids=["in one event", "in many"])
def test_a_stream_that_would_fill_the_memory_is_given_up(events, monkeypatch):
    """Neither one event nor all lists of a stream together may hold more values than a body."""
    most = 20_000
    for module in (json_text, assembler_module):
        monkeypatch.setattr(module, "MAX_VALUES", most)
    assembler = ChunkAssembler()
    listed = [[]] * (2 * most // events)
    for _ in range(events):
        choice = {"index": 0, "delta": {"x": listed}, "finish_reason": "stop"}
        assembler.add(json.dumps({"choices": [choice]}, separators=(",", ":")).encode())
    assert assembler.failed
    assert assembler.result().failure_class is FailureClass.RESPONSE_TOO_LARGE


def test_of_a_large_answer_only_what_matters_is_kept():
    """What no report shows is dropped once it is judged; usage and message stay, and small answers as they are."""
    case = decode_row(
        {"messages": [{"role": "user", "content": "x"}], "should_call_tool": False}, 0, HistoryOptions()
    )
    identity = RequestIdentity("", "", {})
    for items, whole in ((100, True), (100_000, False)):
        text = _with_list(items)
        record = ResponseRecord(0, 0, text, (), identity, 1, 0.1, None, "")
        judged = judge_record(case, record)
        kept = kept_of(judged, text)
        assert (kept is judged) is whole
        assert kept.response.message == {"content": "x"}
        assert kept.response.completion["usage"] == {"total_tokens": 3}
        assert (
            len(kept.response.completion["x"])
            == min(items, len(kept.response.completion["x"]))
            <= KEPT_ELEMENTS
        )
