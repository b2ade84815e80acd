"""What is fuzzed: each target takes bytes, holds the invariants, and says what the bytes reached."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from math import inf
from multiprocessing.util import Finalize
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import seeds
import strategies
from hostile import EVIL_TEXT, SCHEMAS
from hypothesis import strategies as st
from support.rendered import render_text

from k2_verifier_adapter.core.cases import Case, RowError, decode_row
from k2_verifier_adapter.core.counts import Counts
from k2_verifier_adapter.core.dataset_findings import BadRow, Place
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass, Group
from k2_verifier_adapter.core.history import HistoryOptions, MalformedHistory
from k2_verifier_adapter.core.json_text import (
    JsonTextError,
    dumps_ascii,
    escape_to_ascii,
    loads_strict,
)
from k2_verifier_adapter.core.judged import judge_record
from k2_verifier_adapter.core.judgement import FailedRequest, Judgement
from k2_verifier_adapter.core.judging import tool_calls
from k2_verifier_adapter.core.judging.judge import judge
from k2_verifier_adapter.core.metrics import CALL_SURPLUS, compute_metrics
from k2_verifier_adapter.core.records import (
    ResponseRecord,
    judgement_as_json,
)
from k2_verifier_adapter.core.requests import RequestIdentity, build_request
from k2_verifier_adapter.core.responses import NotACompletion, Response, parse_completion, read_completion
from k2_verifier_adapter.core.schemas import compiled as schemas
from k2_verifier_adapter.core.streams.assembler import ChunkAssembler
from k2_verifier_adapter.core.streams.decoder import EventDecoder, is_done
from k2_verifier_adapter.core.tally import Tally
from k2_verifier_adapter.errors import DataError, K2VerifierError
from k2_verifier_adapter.formats.rows import Record, decode_or_explain
from k2_verifier_adapter.formats.runs import RunPaths, read_run
from k2_verifier_adapter.offline.export import results_of, upstream_summary
from k2_verifier_adapter.offline.official import OfficialAnswers, official_of_results, official_of_rows
from k2_verifier_adapter.offline.official_runs import Source, load_official_run
from k2_verifier_adapter.offline.scoring import Log, score_log
from k2_verifier_adapter.offline.stored import summary_of
from k2_verifier_adapter.reports.json_report import dump_report

Reached = frozenset[str]
"""What an input reached: result types, failure classes, the names of errors."""


@contextlib.contextmanager
def limits(validation_s: float, others_s: float) -> Iterator[None]:
    """Set the seconds that a validation may take, and those that a check or a response may."""
    chosen = (
        (schemas, "VALIDATION_TIME_S", validation_s),
        (schemas, "CHECK_TIME_S", others_s),
        (tool_calls, "RESPONSE_TIME_S", others_s),
    )
    before = [(module, name, getattr(module, name)) for module, name, _ in chosen]
    for module, name, seconds in chosen:
        setattr(module, name, seconds)
    try:
        yield
    finally:
        for module, name, seconds in before:
            setattr(module, name, seconds)


def short_limits() -> contextlib.AbstractContextManager[None]:
    """Let a validation end soon, so that many inputs fit into a minute."""
    return limits(0.05, 0.2)


# --- what holds of every judgement ---------------------------------------------------------------


def _judged(
    case: Case | _Asked, index: int, response: Response, anomalies: tuple[FailureClass, ...] = ()
) -> Judgement:
    """Judge, hold what holds of every judgement, and give it."""
    judgement = judge(case, response, anomalies)
    stored = judgement_as_json(index, judgement)
    assert json.loads(dumps_ascii(stored)) == stored
    for failure in judgement.failures:
        _check_failure(failure)
        assert failure.failure_class.group is not Group.TRANSPORT
    called = judgement.calls and bool(response.tool_calls)
    assert (judgement.tool_calls_valid is not None) == called
    assert judgement.schema_error == (judgement.calls and not judgement.successful)
    agreement = judgement.argument_agreement
    assert agreement is None or 0 <= agreement <= 1
    return judgement


def _check_alike(one: Callable[[], Judgement], other: Callable[[], Judgement]) -> None:
    """Judging one response twice, on whatever way, gives the same."""
    if one() != other():
        # On a busy machine, short limits end anywhere; with long ones, nothing is left to chance.
        with limits(1.0, 20.0):
            assert one() == other()


def _now_and_then(data: bytes, every: int) -> bool:
    """Whether to look closer at this input: what is slow is done for one input in so many."""
    return crc32(data) % every == 0


def _check_failure(failure: Failure) -> None:
    assert len(failure.detail) < 2_000
    assert "\n" not in failure.detail
    assert "MemoryError" not in failure.detail


def _reached(judgement: Judgement) -> set[str]:
    found = {failure.failure_class.value for failure in judgement.failures}
    found |= {f"keyword {failure.keyword}" for failure in judgement.failures if failure.keyword in _KEYWORDS}
    return found | {f"{judgement.bucket.value} {judgement.tool_calls_valid}"}


_KEYWORDS = frozenset(name for schema in SCHEMAS if isinstance(schema, dict) for name in schema)


def _check_counts(counts: Counts) -> None:
    assert counts.tp + counts.fp + counts.fn + counts.tn == counts.completed
    assert counts.stop + counts.tool_calls + counts.others <= counts.completed
    assert 0 <= counts.successful <= counts.tool_calls == counts.tp + counts.fp
    assert counts.name_matches <= counts.name_pairs <= counts.tp


def _check_metrics(tally: Tally) -> None:
    _check_counts(tally.counts)
    _check_counts(tally.unrepaired)
    for metric in compute_metrics(tally):
        if metric.value is not None and metric.interval is not None:
            # A surplus of calls is relative to the official ones: none at all is -1, and there is no most.
            least, most = (-1, inf) if metric.name == CALL_SURPLUS else (0, 1)
            assert least <= metric.interval.low <= metric.value <= metric.interval.high <= most


def _check_refusal(refusal: NotACompletion) -> None:
    assert refusal.failure_class.group is Group.TRANSPORT
    _check_failure(Failure(refusal.failure_class, refusal.reason))
    # It is logged as it stands.
    refusal.reason.encode()


# --- responses -----------------------------------------------------------------------------------


class _Asked:
    """A case with its columns decoded once, so that judging is what takes the time."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self.messages = cache(case.messages)
        self.tools = cache(case.tools)
        self.official_tool_calls = cache(case.official_tool_calls)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._case, name)


@cache
def _stored_case() -> Case:
    """Give a case that declares every tool that the seeds call."""
    called = {
        call["function"].get("name")
        for completion in seeds.completions()
        for call in completion["choices"][0]["message"].get("tool_calls") or []
    }
    tools = {
        tool["function"]["name"]: tool
        for row in seeds.rows()
        for tool in json.loads(row["tools"] or "[]")
        if tool["function"]["name"] in called
    }
    official = next(row["official_tool_calls"] for row in seeds.rows() if row["official_tool_calls"])
    row = {
        "messages": [{"role": "user", "content": "x"}],
        "tools": list(tools.values()),
        "should_call_tool": True,
        "official_tool_calls": official,
    }
    return decode_row(row, 0, HistoryOptions())


@cache
def _usual_case() -> _Asked:
    return _Asked(_stored_case())


@cache
def _hostile_cases() -> tuple[_Asked, ...]:
    """Give cases whose tools all have one hostile schema, and one that has no tools."""
    call = {"id": "x", "function": {"name": "f", "arguments": "{"}}
    messages = [{"role": "assistant", "tool_calls": [call]}, {"role": "user", "content": "x"}]
    rows: list[dict[str, Any]] = [{"should_call_tool": False, "official_finish_reason": "length"}]
    for schema in SCHEMAS:
        tools = [
            {"type": "function", "function": {"name": tool["function"]["name"], "parameters": schema}}
            for tool in _usual_case().tools()
        ]
        rows.append({"should_call_tool": True, "tools": tools, "official_tool_calls": []})
    return tuple(_Asked(decode_row({"messages": messages, **row}, 1, HistoryOptions())) for row in rows)


def _judging_cases(data: bytes) -> tuple[_Asked, _Asked]:
    hostile = _hostile_cases()
    return _usual_case(), hostile[crc32(data) % len(hostile)]


@cache
def _usual() -> tuple[Response, Judgement]:
    """Give a usual response, and how it is judged before any hostile one came."""
    response = read_completion(seeds.completions()[0])
    assert isinstance(response, Response)
    with limits(1.0, 20.0):
        return response, judge(_usual_case(), response)


def fuzz_response(data: bytes) -> Reached:
    """Judge a body; whatever it is, it is judged or refused, and a usual response after it as before."""
    usual, expected = _usual()
    text = data.decode("utf-8", "replace")
    response = parse_completion(text)
    if isinstance(response, NotACompletion):
        _check_refusal(response)
        return frozenset({"not a completion", response.reason[:20]})
    tally = Tally()
    reached: set[str] = set()
    for index, case in enumerate(_judging_cases(data)):
        judgement = _judged(case, index, response)
        reached |= _reached(judgement)
        tally.add(index, judgement)
    if _now_and_then(data, 4):
        for case in _judging_cases(data):
            _check_alike(lambda case=case: judge(case, response), lambda case=case: judge(case, response))
        tally.add(1, judgement)
        _check_metrics(tally)
        _check_stored(text, response)
        _check_alike(lambda: judge(_usual_case(), usual), lambda: expected)
    return frozenset(reached)


def _check_stored(text: str, response: Response) -> None:
    """What is stored of a response is ASCII, reads back, and is judged alike."""
    case = _stored_case()
    stored = escape_to_ascii(text)
    assert stored.isascii()
    record = ResponseRecord(case.index, 0, stored, (), RequestIdentity("", "", {}), 1, 0.1, None, "")
    assert ResponseRecord.from_json(json.loads(dumps_ascii(record.as_json()))) == record

    def judged_again() -> Judgement:
        again = judge_record(case, record)
        assert not isinstance(again, FailedRequest)
        return again.judgement

    _check_alike(judged_again, lambda: judge(case, response))


# --- streams -------------------------------------------------------------------------------------


def _assembled(parts: list[bytes], *, parsing_all: bool = False) -> tuple[ChunkAssembler, bool]:
    """Read a stream in these parts as the transport does: up to `[DONE]`, or to what fails it.

    Args:
        parts: The parts.
        parsing_all: Whether every event is parsed, also where it looks like the one before.
    """
    decoder, assembler = EventDecoder(), ChunkAssembler()
    if parsing_all:
        assembler._tries = 0
    for part in parts:
        for event in decoder.feed(part):
            if is_done(event):
                return assembler, True
            assembler.add(event)
        if assembler.failed:
            return assembler, False
    for event in decoder.close():
        if not is_done(event):
            assembler.add(event)
    return assembler, False


def _parts_of(data: bytes, rng: Random) -> list[bytes]:
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((1, 3, 20))))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _outcome(assembler: ChunkAssembler) -> Any:
    result = assembler.result()
    if isinstance(result, NotACompletion):
        return (result.failure_class, result.reason)
    return (dumps_ascii(result.completion), list(assembler.anomalies))


def fuzz_stream(data: bytes) -> Reached:
    """Read a stream whole, in parts and (a short one) byte by byte: the same comes out, and is judged."""
    assembler, done = _assembled([data])
    outcome = _outcome(assembler)
    ways = [_parts_of(data, Random(crc32(data)))]
    if len(data) < 2_000:
        ways.append([data[place : place + 1] for place in range(len(data))])
    for number, parts in enumerate(ways):
        other, _ = _assembled(parts, parsing_all=number == 0)
        assert _outcome(other) == outcome
    response = assembler.result()
    reached = {f"done {done}", f"output {assembler.has_output}"}
    if isinstance(response, NotACompletion):
        _check_refusal(response)
        return frozenset({response.failure_class.value, *reached})
    anomalies = tuple(assembler.anomalies)
    for index, case in enumerate(_judging_cases(data)):
        judgement = _judged(case, index, response, anomalies)
        reached |= _reached(judgement)
        if _now_and_then(data, 4):
            stored = parse_completion(dumps_ascii(response.completion))
            assert isinstance(stored, Response)
            _check_alike(
                lambda case=case, stored=stored: judge(case, stored, anomalies),
                lambda case=case: judge(case, response, anomalies),
            )
    return frozenset(reached)


# --- rows ----------------------------------------------------------------------------------------

_OPTIONS = tuple(
    HistoryOptions(malformed, normalize) for malformed in MalformedHistory for normalize in (False, True)
)


def fuzz_row(data: bytes) -> Reached:
    """Decode a row: what can be used gives a strict request, and any response to it can be judged."""
    try:
        row = json.loads(data)
    except (ValueError, RecursionError):
        return frozenset({"not JSON"})
    if not isinstance(row, dict):
        return frozenset({"not an object"})
    reached: set[str] = set()
    for options in _OPTIONS:
        try:
            case = decode_row(row, 3, options)
        except RowError as error:
            str(error).encode("utf-8", "backslashreplace")
            reached.add(f"bad {error.field.partition('[')[0]} {len(error.reason) < 500}")
            continue
        _check_request(case, row, options)
        reached.add(f"repairs {case.repairs.any}")
    assert not any(what.endswith("False") and what.startswith("bad") for what in reached), (
        "a reason of any length"
    )
    (explained,) = decode_or_explain([Record(Place("line", 1), row)], _OPTIONS[0])
    if isinstance(explained, BadRow):
        assert reached
        return frozenset(reached)
    case = explained[1]
    asked = _Asked(case)
    for response in _answers_to(asked):
        judgement = _judged(asked, case.index, response)
        if _now_and_then(data, 8):
            _check_alike(
                lambda response=response: judge(case, response),
                lambda response=response: judge(asked, response),
            )
        reached |= _reached(judgement)
    return frozenset(reached)


def _check_request(case: Case, row: dict[str, Any], options: HistoryOptions) -> None:
    request = build_request(case, "m", {"stream": True, **case.parameters})
    body = loads_strict(request.body.decode())
    assert body["messages"] == case.messages()
    assert body.get("tools", []) == case.tools()
    if not case.repairs.any:
        given = row["messages"]
        assert body["messages"] == (json.loads(given) if isinstance(given, str) else given)
    assert request == build_request(decode_row(row, 3, options), "m", {"stream": True, **case.parameters})
    assert RequestIdentity.from_json(json.loads(dumps_ascii(request.identity.as_json()))) == request.identity
    assert request.identity.difference_from(request.identity) is None


_ARGUMENTS = (
    "{}",
    json.dumps({"a": EVIL_TEXT, EVIL_TEXT: "x", "city": "Oslo", "b": [1, 1.0, True, None], "c": {"a": {}}}),
    json.dumps([EVIL_TEXT, {"a": 1}]),
    json.dumps(EVIL_TEXT),
)


def _answers_to(case: _Asked) -> Iterator[Response]:
    """Give responses to a row: its own official calls, and calls of its first tools."""
    named = [
        tool["function"].get("name") for tool in case.tools()[:3] if isinstance(tool.get("function"), dict)
    ]
    calls = [
        {"id": f"functions.{name}:0", "function": {"name": name, "arguments": arguments}}
        for name in named
        for arguments in _ARGUMENTS
    ]
    for given in (case.official_tool_calls() or [], calls):
        message = {"role": "assistant", "content": None, "tool_calls": given}
        response = read_completion({"choices": [{"message": message, "finish_reason": "tool_calls"}]})
        if isinstance(response, Response):
            yield response


# --- results files -------------------------------------------------------------------------------


def _official(name: str, path: Path) -> OfficialAnswers:
    """Give the official answers of a few rows, or those of the file that is scored."""
    if name == "rows":
        rows = _scratch() / "rows.jsonl"
        if not rows.exists():
            rows.write_text("".join(json.dumps(row) + "\n" for row in seeds.rows()[:3]))
        return official_of_rows(rows, "k2_thinking")
    return official_of_results(path, "k2_thinking")


def fuzz_results(data: bytes) -> Reached:
    """Score lines against rows and against themselves, and read them as a baseline."""
    reached: set[str] = set()
    path = _scratch() / "results.jsonl"
    path.write_bytes(data)
    for name in ("rows", "results"):
        try:
            summary, _ = score_log(Log([path]), _official(name, path))
        except DataError as error:
            str(error).encode()
            reached.add(f"{name}: no line")
            continue
        _check_metrics(summary.tally)
        _check_report(summary, as_text=_now_and_then(data, 16))
        reached |= {kind.value for kind in summary.tally.failure_counts}
        assert summary.log is not None
        reached |= {what for what, places in summary.log.left_out.items() if places.count}
        reached |= {what for what, places in summary.log.disagreements.items() if places.count}
    if not _now_and_then(data, 4):
        return frozenset(reached)
    try:
        run = load_official_run(Source(path), lambda _: None)
    except DataError as error:
        str(error).encode()
        reached.add("no baseline")
    else:
        reached |= {finding.kind.name.lower() for finding in run.findings}
        for attempt in run.answers.values():
            dumps_ascii(attempt.parameters)
    return frozenset(reached)


def _check_report(summary: Any, *, as_text: bool) -> None:
    text = dump_report(summary)
    assert text.isascii()
    # They are JSON for other programs too.
    for written in (text, json.dumps(upstream_summary(summary))):
        json.loads(written, parse_constant=_refuse_constant)
    if as_text:
        render_text(summary).encode()


def _refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@cache
def _scratch() -> Path:
    folder = tempfile.mkdtemp(prefix="fuzz-")
    # As `atexit` does, but in the workers of a pool as well.
    Finalize(None, shutil.rmtree, (folder,), {"ignore_errors": True}, exitpriority=0)
    return Path(folder)


# --- stored runs ---------------------------------------------------------------------------------


def fuzz_stored(data: bytes) -> Reached:
    """Read a stored run whose files hold anything: an error of the package, or a report and an export."""
    import gzip

    try:
        files = json.loads(data)
    except (ValueError, RecursionError):
        return frozenset({"not JSON"})
    if not isinstance(files, dict):
        return frozenset({"not an object"})
    if not all(map(_holds_json, _list_of(files.get("cases")))):
        # The rows of a run are this package's own, in a file with a checksum.
        return frozenset({"case of no row"})
    paths = RunPaths(_scratch(), "m", "s")
    paths.folder.mkdir(parents=True, exist_ok=True)
    paths.predictions.parent.mkdir(parents=True, exist_ok=True)
    paths.facts.write_bytes(_content(files.get("facts")))
    paths.cases.write_bytes(gzip.compress(_lines_of(files.get("cases")), 0))
    paths.predictions.write_bytes(_lines_of(files.get("predictions")))
    paths.failures.write_bytes(_lines_of(files.get("failures")))
    try:
        run = read_run(paths)
    except K2VerifierError as error:
        str(error).encode("utf-8", "backslashreplace")
        return frozenset({f"{type(error).__name__} {str(error).rpartition('/')[2][:12]}"})
    summary = summary_of(run)
    _check_metrics(summary.tally)
    _check_report(summary, as_text=_now_and_then(data, 8))
    reached = {kind.value for kind in summary.tally.failure_counts}
    for result in results_of(run):
        line = result.as_line()
        assert line.endswith(b"\n")
        reached.add(f"exported {result.status}")
    return frozenset(reached | {f"damaged {bool(run.damaged_lines)}"})


def _content(value: Any) -> bytes:
    """Write a file: a text as it stands, anything else as JSON."""
    text = value if isinstance(value, str) else _dumped(value)
    return text.encode("utf-8", "surrogatepass")


def _dumped(value: Any) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        return "["


def _list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _lines_of(value: Any) -> bytes:
    return b"".join(_content(line) + b"\n" for line in _list_of(value))


def _holds_json(case: Any) -> bool:
    """Whether a stored case holds texts that once were decoded."""
    if isinstance(case, str):
        # A line as it stands.
        try:
            case = json.loads(case)
        except (ValueError, RecursionError):
            return True
    columns = ("messages", "tools", "official_tool_calls")
    for text in (case.get(name) for name in columns) if isinstance(case, dict) else ():
        try:
            decoded = loads_strict(text) if isinstance(text, str) else []
        except JsonTextError:
            return False
        if not isinstance(decoded, list) or not all(isinstance(item, dict) for item in decoded):
            return False
    return True


# --- the list ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """One surface.

    Attributes:
        name: Its name, and that of its folder in the corpus.
        run: Takes an input; raises only where an invariant is broken.
        inputs: Gives what new inputs are drawn from.
    """

    name: str
    run: Callable[[bytes], Reached]
    inputs: Callable[[], st.SearchStrategy[bytes]]


TARGETS = {
    target.name: target
    for target in (
        Target("response", fuzz_response, lambda: strategies.documents(seeds.responses())),
        Target("stream", fuzz_stream, lambda: strategies.events(seeds.streams())),
        Target("row", fuzz_row, lambda: strategies.documents(seeds.row_lines())),
        Target("results", fuzz_results, lambda: strategies.lines(seeds.results())),
        Target("stored", fuzz_stored, lambda: strategies.documents(seeds.stored_runs())),
    )
}
