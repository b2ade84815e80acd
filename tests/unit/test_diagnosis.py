"""The what-if, what is counted for it, and the rules of the diagnosis."""

from __future__ import annotations

import json
import string
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from judged_answers import GOOD, LEAKED, MARKERS, call, case_of, judged, tally_of, text

from k2_verifier_adapter.core.counts import MAX_TOOLS, OTHER_TOOLS, Counts, ToolTally
from k2_verifier_adapter.core.diagnosis.advice import resolved
from k2_verifier_adapter.core.diagnosis.findings import (
    Base,
    Condition,
    Rule,
    diagnose,
    metrics_if_fixed,
    metrics_of,
    what_ifs,
)
from k2_verifier_adapter.core.diagnosis.measures import Context, Measure, Measures
from k2_verifier_adapter.core.diagnosis.rules import RULES
from k2_verifier_adapter.core.failure_classes import Failure
from k2_verifier_adapter.core.failure_classes import FailureClass as C
from k2_verifier_adapter.core.judgement import FailedRequest, ToolUse
from k2_verifier_adapter.core.judging.causes import INVALID_CALL
from k2_verifier_adapter.core.model_profiles import model_profiles
from k2_verifier_adapter.core.tally import MAX_EVIDENCE, Tally

# --- what-if --------------------------------------------------------------------------------------


def test_what_if_by_hand():
    """Of 4 right calls, 2 leaked, 1 missed, 1 extra and 2 invalid ones, each fix is computed by hand."""
    tally = tally_of(
        *[judged(call())] * 4,
        *[text(LEAKED)] * 2,
        text(),
        judged(call(), official=False),
        judged(call("{}")),
        judged(call("{"), official=False),
    )
    assert (tally.counts.tp, tally.counts.fn, tally.counts.fp) == (5, 3, 2)
    assert metrics_of(tally.counts).trigger_similarity == pytest.approx(10 / 15)
    assert metrics_of(tally.counts).schema_accuracy == pytest.approx(5 / 7)
    found = {item.failure_class: item.metrics for item in what_ifs(tally)}
    assert set(found) == {
        C.MARKUP_IN_CONTENT,
        C.MISSED_CALL,
        C.EXTRA_CALL,
        C.MISSING_REQUIRED,
        C.TRUNCATED_JSON,
    }
    expected = {
        # Two more calls, both valid.
        C.MARKUP_IN_CONTENT: (14 / 17, 7 / 9),
        C.MISSED_CALL: (12 / 16, 6 / 8),
        # Two calls fewer, one of them valid.
        C.EXTRA_CALL: (10 / 13, 4 / 5),
        C.MISSING_REQUIRED: (10 / 15, 6 / 7),
        C.TRUNCATED_JSON: (10 / 15, 6 / 7),
    }
    for kind, (similarity, accuracy) in expected.items():
        assert found[kind].trigger_similarity == pytest.approx(similarity), kind
        assert found[kind].schema_accuracy == pytest.approx(accuracy), kind


def test_everything_fixed_is_perfect():
    """With every class of the vendor's fixed, both metrics are 100 %."""
    tally = tally_of(
        judged(call()), text(LEAKED), text(), judged(call(), official=False), judged(call("{}")), text("")
    )
    kinds = (C.MARKUP_IN_CONTENT, C.MISSED_CALL, C.EXTRA_CALL, C.MISSING_REQUIRED, C.EMPTY_RESPONSE)
    fixed = metrics_if_fixed(tally, kinds)
    assert (fixed.trigger_similarity, fixed.schema_accuracy) == (1.0, 1.0)


def test_a_fix_may_cost():
    """A leaked call that the official API does not make would be an extra one, were it parsed."""
    tally = tally_of(judged(call()), text(LEAKED, official=False))
    (item,) = what_ifs(tally)
    assert item.metrics.trigger_similarity == pytest.approx(2 / 3)


@pytest.mark.parametrize("against", [None, True, False])
def test_a_failed_request_changes_the_metrics_only_where_it_counts(against):
    """Answered, a request that counts as "did not call" would decide as the official API does."""
    tally = tally_of(judged(call()), judged(call(), official=False), text())
    tally.add_failed(FailedRequest(9, Failure(C.TIMED_OUT, "x"), as_no_call_against=against))
    before = metrics_of(tally.counts)
    after = metrics_if_fixed(tally, (C.TIMED_OUT,))
    if against is True:
        assert before.trigger_similarity == pytest.approx(2 / 5)
        assert after.trigger_similarity == pytest.approx(4 / 6)
    else:
        assert after == before


# --- tally ----------------------------------------------------------------------------------------


def test_primary_cases_are_few_and_first():
    """Of each primary class the first cases are kept, and all are counted."""
    tally = tally_of(*[text()] * 25)
    assert tally.primary_counts == {C.MISSED_CALL: 25}
    assert list(tally.symptoms[C.MISSED_CALL, None].primary_cases) == list(range(MAX_EVIDENCE))


def test_tools_are_counted_with_what_they_show():
    """Each tool has its calls, its invalid calls, and responses by class; leaks and misses included."""
    tally = tally_of(
        judged(call(), call("{}", "list_cities", index=1)),
        judged(call("{}"), call("{}", call_id="call_1")),
        text(LEAKED),
        text(case=case_of(official=[call()])),
    )
    weather = tally.tools.by_name["get_weather"]
    assert (weather.calls, weather.invalid) == (3, 2)
    assert weather.responses == {C.MISSING_REQUIRED: 1, C.MARKUP_IN_CONTENT: 1, C.MISSED_CALL: 1}
    cities = tally.tools.by_name["list_cities"]
    assert (cities.calls, cities.invalid, cities.responses) == (1, 0, Counter())
    assert [name for name, _ in tally.tools.worst()] == ["get_weather"]


def test_tools_without_number_are_bounded():
    """From `MAX_TOOLS` names on, further ones are counted together; so are names of any length."""
    tools = ToolTally()
    for number in range(MAX_TOOLS + 50):
        tools.add([ToolUse(f"tool_{number}", 1, 0)], [])
    assert len(tools.by_name) == MAX_TOOLS + 1
    assert tools.by_name[OTHER_TOOLS].calls == 50
    long = judged(call("{}", "n" * 100_000))
    (use,) = long.tools
    assert len(use.name) < 300


# --- rules ----------------------------------------------------------------------------------------


def test_every_class_is_spoken_of_by_a_rule():
    """No failure class is without a hypothesis."""
    assert {kind for rule in RULES for kind in rule.classes} == set(C)


def test_the_documentation_knows_every_class_and_every_rule():
    """`docs/failures.md` has a row for each class, and one for each rule with its thresholds."""
    lines = (Path(__file__).parents[2] / "docs" / "failures.md").read_text(encoding="utf-8").splitlines()
    classes_there = {
        name for line in lines if line.startswith("| `") for name in line.split("|")[1].split("`")
    }
    assert {kind.value for kind in C} <= classes_there
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        (row,) = [line for line in lines if line.startswith(f"| `{rule.name}` |")]
        kinds, least = row.split("|")[2], row.split("|")[3].strip()
        assert all(f"`{kind.value}`" in kinds for kind in rule.classes), rule.name
        assert least == f"{rule.minimum}, {100 * rule.least_share:g} % of {rule.base.value}", rule.name
        assert row.endswith(f"| {rule.hypothesis} |"), rule.name


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_reads_as_a_hypothesis(rule):
    """A hypothesis is one sentence that says "probably", evidence one with numbers, and advice is given."""
    assert "probably" in rule.hypothesis
    assert rule.hypothesis.endswith(".")
    assert "\n" not in rule.hypothesis + rule.evidence
    assert "{count}" in rule.evidence or "{differing}" in rule.evidence
    assert rule.checks
    for profile in model_profiles().values():
        assert all(check.endswith((".", "?")) for check in resolved(rule.checks, profile))
    assert rule.refuted_by.startswith("Refuted if ")
    assert rule.refuted_by.endswith(".")
    assert rule.minimum >= 1


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_quotes_known_numbers_only(rule):
    """Every field of an evidence is a measure or one of the rule's own numbers."""
    fields = {name for _, name, _, _ in string.Formatter().parse(rule.evidence) if name}
    known = {*Measures(Tally(), Context()).words(), "count", "base", "share", "tools", "statuses"}
    assert fields <= known


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rules_classes_can_be_fixed_together(rule):
    """No rule mixes an extra call with what makes calls invalid: one response may have both."""
    if C.EXTRA_CALL in rule.classes:
        assert not {kind for kind, _ in INVALID_CALL} & set(rule.classes)
    if rule.beside_others:
        assert len(rule.classes) == 1


RULE = Rule(
    "r",
    (C.MISSED_CALL,),
    Base.OFFICIAL_CALLS,
    "Something is probably wrong.",
    "{count} of {base} ({share}).",
    ("Look.",),
    "Refuted if not.",
    minimum=3,
    least_share=0.5,
)


@pytest.mark.parametrize(
    ("missed", "called", "fires"), [(3, 3, True), (2, 0, False), (3, 4, False), (0, 0, False)]
)
def test_a_finding_needs_enough_evidence(missed, called, fires):
    """A rule fires from its count and its share on."""
    tally = tally_of(*[text()] * missed, *[judged(call())] * called)
    found = diagnose(tally, Context(), (RULE,))
    assert bool(found) == fires
    if fires:
        (finding,) = found
        assert (finding.count, finding.base) == (missed, missed + called)
        assert finding.evidence == "3 of 6 official calls (50 %)."
        assert finding.cases == (0, 1, 2)
        assert finding.classes == {C.MISSED_CALL: 3}


@pytest.mark.parametrize(
    ("condition", "fires"),
    [
        (Condition(Measure.MISSED, at_least=3), True),
        (Condition(Measure.MISSED, below=3), False),
        (Condition(Measure.MISSED, at_least=4), False),
        # A measure without a denominator never holds.
        (Condition(Measure.VALID_SHARE, below=2), False),
    ],
)
def test_a_condition_has_to_hold(condition, fires):
    """A rule fires only if its measures lie within their bounds."""
    rule = replace(RULE, conditions=(condition,))
    assert bool(diagnose(tally_of(*[text()] * 3), Context(), (rule,))) == fires


def test_findings_are_ordered_by_what_they_explain():
    """What explains more of the loss comes first, whatever the order of the rules."""
    tally = tally_of(*[judged(call())] * 20, *[text("")] * 3, *[judged(call("{}"))] * 12)
    names = [finding.rule for finding in diagnose(tally, Context(), RULES)]
    assert names == ["no_guided_decoding", "empty_answers"]
    first, second = diagnose(tally, Context(), RULES)
    assert first.explains.schema_accuracy == 1.0
    assert first.explains.trigger_similarity == 0.0
    assert second.explains.trigger_similarity == 1.0
    assert second.if_fixed.trigger_similarity == 1.0


def test_the_evidence_of_a_leak_says_how_many_calls_would_be_valid():
    """The share of readable calls, and of calls that were parsed, are quoted."""
    bad = LEAKED.replace(GOOD, "{}")
    tally = tally_of(*[text(LEAKED)] * 3, text(bad), *[judged(call())] * 4)
    (finding,) = diagnose(tally, Context(), RULES)
    assert finding.rule == "tool_parser_leaks"
    assert finding.evidence == (
        "4 of 8 responses carry K2 markup in their content (75 % of them with a valid call), "
        "while 50 % of all calls were parsed."
    )
    (off,) = diagnose(tally_of(*[text(LEAKED)] * 4), Context(), RULES)
    assert off.rule == "tool_parser_off"


@pytest.mark.parametrize(
    ("missed", "extra", "agreement", "expected"),
    [
        (24, 24, 0.76, []),
        (24, 24, None, ["decisions_differ_both_ways"]),
        (40, 36, 0.76, ["decisions_differ_both_ways"]),
        (62, 5, 0.76, ["chat_template_misses_calls"]),
        (62, 0, None, ["chat_template_misses_calls"]),
        (0, 60, None, ["calls_too_often"]),
        (4, 60, 0.76, ["calls_too_often"]),
        (2, 2, None, []),
    ],
)
def test_decisions_are_held_against_what_the_official_model_varies(missed, extra, agreement, expected):
    """What differs no more than the official model from itself is noise; what differs one way is not."""
    tally = tally_of(
        *[text()] * missed, *[judged(call())] * (100 - missed), *[judged(call(), official=False)] * extra
    )
    findings = diagnose(tally, Context(self_agreement=agreement), RULES)
    assert [finding.rule for finding in findings] == expected


def test_failed_requests_are_weighed_by_what_is_lost():
    """Requests that fail change no metric, but a third of them outweighs one missed call in a hundred."""
    tally = tally_of(*[judged(call())] * 60)
    for number in range(30):
        tally.add_failed(FailedRequest(100 + number, Failure(C.HTTP_4XX, "x"), 400))
    (finding,) = diagnose(tally, Context(), RULES)
    assert finding.rule == "requests_not_accepted"
    assert "30 x 400" in finding.evidence
    assert finding.explains.trigger_similarity is None


def test_routers_and_retries_are_findings_of_their_own():
    """Another model under the same name, and answers after retries, are told without any failure."""
    tally = tally_of(*[judged(call())] * 10)
    context = Context(models=Counter(kimi=9, other=1), retried=4)
    names = [finding.rule for finding in diagnose(tally, context, RULES)]
    assert names == ["needs_retries", "router_falls_back"]


def test_an_empty_run_has_no_findings():
    """Nothing asked, nothing found."""
    assert diagnose(Tally(), Context(), RULES) == ()
    assert what_ifs(Tally()) == ()
    assert metrics_of(Counts()).trigger_similarity is None


# --- shapes that nearly fit -----------------------------------------------------------------------

QUOTING = [{"role": "user", "content": f"What do {LEAKED} and {MARKERS[0]} mean?"}]
TOLD = {"completion_tokens": 10}
MUCH = {"completion_tokens": 400}


def failed(status, detail, kind=C.HTTP_4XX):
    """Make a failed request."""
    return FailedRequest(0, Failure(kind, detail), status)


def refused(words, status=400, kind=C.HTTP_4XX):
    """Make a request that a server refuses in these words."""
    return failed(status, f'HTTP {status}: {{"error": {{"message": "{words}"}}}}', kind)


def quoted_call():
    """Call a tool about markers that the request names."""
    return judged(call(json.dumps({"city": MARKERS[0]})), case=case_of(messages=QUOTING))


HISTORY_OF_IDS = case_of(
    messages=[
        {"role": "assistant", "tool_calls": [call(index=0)]},
        {"role": "tool", "tool_call_id": "functions.get_weather:0", "content": "x"},
        {"role": "user", "content": "and?"},
    ],
    calls=False,
)

NEARLY = {
    "tool_parser_off": lambda: text(f"It is {MARKERS[0]}.", case=case_of(calls=False, messages=QUOTING)),
    "tool_parser_leaks": lambda: text(f"It is {MARKERS[0]}.", case=case_of(calls=False, messages=QUOTING)),
    "reasoning_parser_swallows_calls": lambda: text(reasoning="I think of functions and of calls."),
    "another_model": lambda: text("Fine.<|im_end|>", official=False),
    "special_tokens_in_text": lambda: text("So.</think>Fine.", official=False),
    "think_tags_in_text": lambda: text("Fine.<|im_end|>", official=False),
    "call_in_other_notation": lambda: text('{"name": "other", "arguments": {"city": "x"}}'),
    "tool_parser_spoils_calls": quoted_call,
    "reasoning_parser_eats_answers": lambda: text("", reasoning="Hm. I call.", usage=MUCH),
    "empty_answers": lambda: text("", usage=MUCH),
    "parser_drops_calls": lambda: text("", reasoning="Hm. I call.", usage=TOLD),
    "finish_reason_before_parsing": lambda: judged(call(), finish="length"),
    "finish_reason_not_of_the_api": lambda: text(finish="length", official=False),
    "token_limit_too_low": lambda: text(finish="length", case=case_of(calls=False, finish="length")),
    "content_filter": lambda: text(
        finish="content_filter", case=case_of(calls=False, finish="content_filter")
    ),
    "chat_template_misses_calls": lambda: text(usage=MUCH),
    "calls_too_often": lambda: judged(call(index=1), case=HISTORY_OF_IDS),
    "decisions_differ_both_ways": text,
    "no_guided_decoding": lambda: judged(call("{")),
    "arguments_not_json": lambda: judged(call("{'city': 'x'}")),
    "arguments_single_quoted": lambda: judged(call(f"{GOOD} done")),
    "arguments_sent_again": lambda: judged(call("{city: 1}")),
    "arguments_cut_short": lambda: judged(call(GOOD + GOOD)),
    "calls_glued_together": lambda: judged(call(GOOD[:-3])),
    "empty_object_dropped": lambda: judged(call("")),
    "arguments_lost": lambda: judged(call("", "list_cities")),
    "names_from_history": lambda: judged(call("{}", "other")),
    "names_made_up": lambda: judged(
        call("{}", "other"), case=case_of(messages=[{"role": "tool", "name": "other", "content": "x"}])
    ),
    "names_not_cut_from_ids": lambda: judged(call("{}", "other")),
    "ids_not_normalised": lambda: judged(call(call_id="get_weather:0")),
    "ids_left_out": lambda: judged(call(call_id="call_1f"), anomalies=(C.STREAM_INDEX_MISSING,)),
    "ids_not_as_written": lambda: judged(call(call_id="call_1f")),
    "ids_reused": lambda: judged(call('{"city": "Oslo"}', index=1), case=HISTORY_OF_IDS),
    "ids_repeated": lambda: judged(call(), call(index=1)),
    "stream_without_ids": lambda: judged({**call(), "id": None}),
    "stream_repeats_names": lambda: judged(call(), anomalies=(C.STREAM_ID_MISSING,)),
    "stream_not_served": lambda: judged(call()),
    "generation_loops": lambda: text(f"Fine.\n{'-' * 120}\nThat is all.", official=False),
    "calls_repeated": lambda: judged(call(), call(index=1), call(index=2)),
    "stream_repeats_itself": lambda: judged(call(GOOD + GOOD)),
    "stream_carries_messages": lambda: text("", usage=TOLD),
    "calls_in_other_choices": lambda: text("One moment.", usage=TOLD),
    "context_too_short": lambda: refused("max_tokens must be at least 1"),
    "history_refused": lambda: refused("The prompt is too long: 9, model maximum context length: 8"),
    "schema_rule_refuses": lambda: refused("xgrammar: unsupported keyword minItems"),
    "schema_compiler_refuses": lambda: refused("is not a valid moonshot flavored json schema"),
    "parameter_refused": lambda: refused("reasoning_content is missing in assistant message"),
    "tool_name_refused": lambda: refused("the tool is not available"),
    "request_too_large": lambda: refused("The prompt is too long: 9, model maximum context length: 8"),
    "model_not_served": lambda: refused("the request is wrong"),
    "content_refused": lambda: refused("text content is empty"),
    "account_exhausted": lambda: refused("Requests per minute exceeded", 429, C.RATE_LIMITED),
    "requests_not_accepted": lambda: refused("reasoning_content is missing in assistant message"),
    "rate_limit": lambda: refused("insufficient balance", 429, C.RATE_LIMITED),
    "server_fails": lambda: refused("Failed to compile the grammar", 500, C.HTTP_5XX),
    "server_not_there": lambda: failed(None, "reset", C.CONNECTION_RESET),
    "flaky_network": lambda: failed(None, "refused", C.CONNECTION_FAILED),
    "not_an_api_answer": lambda: failed(
        200, "status 200 with an error object: {'message': 'maximum context length'}", C.NOT_A_COMPLETION
    ),
    "needs_retries": lambda: judged(call()),
    "router_falls_back": lambda: judged(call()),
    "pin_not_kept": lambda: refused("No endpoints found that match your provider routing", 404),
    "rows_with_unusable_schemas": lambda: judged(call("{}", "other")),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_shape_that_nearly_fits_does_not_raise_a_finding(rule):
    """Eight answers that are like the rule's own, but for what the rule is about."""
    item = NEARLY[rule.name]()
    tally = Tally()
    for index in range(8):
        if isinstance(item, FailedRequest):
            tally.add_failed(replace(item, case_index=index))
        else:
            tally.add(index, item)
    assert rule.name not in {finding.rule for finding in diagnose(tally, Context(), RULES)}


def test_no_rule_is_without_a_shape_that_nearly_fits():
    """The table above is complete."""
    assert NEARLY.keys() == {rule.name for rule in RULES}


def test_an_advice_is_given_once():
    """Two findings that advise the same say it in the first of them only."""
    tally = tally_of(*[judged(call("{}"))] * 6, *[judged(call("{}", "other"))] * 5)
    lines = [line for finding in diagnose(tally, Context(), RULES) for line in finding.checks]
    assert len(lines) == len(set(lines))
    assert any("--tool-strict-level" in line for line in lines)


def test_a_server_is_quoted_and_its_words_are_sorted():
    """What a server says decides over the finding, and stands in it with its number."""
    tally = tally_of(*[judged(call())] * 4)
    for index in range(6):
        words = f"The prompt is too long: {40_000 + index}, model maximum context length: 32767"
        tally.add_failed(replace(refused(words), case_index=10 + index))
    (finding,) = diagnose(tally, Context(), RULES)
    assert finding.rule == "context_too_short"
    assert finding.evidence == "6 of 10 requests are refused for their length (6 x 400)."
    assert finding.quotes == ("6 x 400: The prompt is too long: 40000, model maximum context length: 32767",)
