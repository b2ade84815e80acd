"""The published JSON Schema describes what `compare` prints, and nothing else."""

import json
from dataclasses import replace

import pytest
from support.compared import crowd, varied
from support.hostile_summaries import HOSTILE
from support.published import Published, at

from k2_verifier_adapter.core.comparison.compare import compare, not_worse
from k2_verifier_adapter.core.comparison.pairs import MAX_LISTED_CHANGES, CaseOutcome, State
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.gate import not_worse_outcome
from k2_verifier_adapter.core.metrics import DEFINITIONS, ERROR_RATE, FLIP_RATE
from k2_verifier_adapter.core.redaction import redact_summary
from k2_verifier_adapter.reports.comparison_json import (
    SCHEMA_VERSION,
    UPSTREAM_COLUMNS,
    dump_comparison,
)

SCHEMA = Published("comparison")


@pytest.fixture(scope="module")
def comparisons(tmp_path_factory):
    """Comparisons of every sort, by name."""
    return varied(tmp_path_factory.mktemp("varied"))


def problems(comparison, found=None):
    """List what the schema says against a comparison, as it is printed."""
    return SCHEMA.problems(json.loads(dump_comparison(comparison, found)))


def test_every_sort_of_comparison_fits(comparisons):
    """Two runs and three, undefined metrics, failures, synthetic rows: each is as published, gated too."""
    assert len(comparisons) == 7
    for name, comparison in comparisons.items():
        assert problems(comparison) == [], name
        if len(comparison.standings) == 2:
            assert problems(comparison, not_worse(comparison)) == [], name
            assert problems(comparison, not_worse_outcome(comparison, 1.0)) == [], name


def test_repeats_fit(comparisons):
    """Cases that were asked several times, with answers that are not alike, are as published."""
    runs = [standing.participant for standing in comparisons["two"].standings]
    mixed = replace(
        runs[0],
        outcomes={
            case: CaseOutcome(
                item.case_index, item.content, item.should_call, [*item.answers, *other.answers]
            )
            for (case, item), other in zip(runs[0].outcomes.items(), runs[1].outcomes.values(), strict=True)
        },
    )
    comparison = compare([mixed, runs[1]])
    assert "mixed" in dump_comparison(comparison)
    assert problems(comparison) == []


def test_hostile_and_redacted_names_fit():
    """Whatever a run is called, and however its parameters were redacted, the JSON is as published."""
    for text in HOSTILE:
        comparison = crowd(3, 12, text=text)
        assert problems(comparison) == []
        assert dump_comparison(comparison).isascii()
        redacted = [
            replace(run, summary=redact_summary(run.summary))
            for run in (standing.participant for standing in comparison.standings)
        ]
        assert problems(compare(redacted)) == []


def test_more_than_26_runs_and_long_lists_fit():
    """Runs are named AA and on, and of a frequent change the first cases are listed."""
    assert problems(crowd(28, 6)) == []
    comparison = crowd(2, 2 * MAX_LISTED_CHANGES)
    assert problems(comparison) == []


def test_the_names_are_those_of_the_code():
    """Classes, states, metrics and upstream's columns of the schema are those that the code knows."""
    definitions = SCHEMA.content["$defs"]
    assert SCHEMA.content["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    assert list(definitions["by_failure_class"]["properties"]) == [kind.value for kind in FailureClass]
    assert definitions["state"]["enum"] == [state.value for state in State]
    names = {definition.name for definition in DEFINITIONS} | {ERROR_RATE, FLIP_RATE}
    assert set(definitions["run"]["properties"]["metrics"]["properties"]) == names
    assert tuple(definitions["upstream_row"]["properties"]) == UPSTREAM_COLUMNS
    assert definitions["change"]["properties"]["data_index"]["maxItems"] == MAX_LISTED_CHANGES


def schemas(value, path=()):
    """Walk through all schemas that describe an object."""
    if isinstance(value, dict):
        if value.get("type") == "object":
            yield path, value
        for key, item in value.items():
            yield from schemas(item, (*path, key))


def test_every_object_is_closed_and_every_field_described():
    """No object accepts a name that is not published, and each field says what it is."""
    without_words = ("metrics", "by_failure_class")
    for path, schema in schemas(SCHEMA.content):
        assert schema["additionalProperties"] is False, path
        if path[-1:] and path[-1] in without_words:
            continue
        for name, field in schema.get("properties", {}).items():
            assert field.get("description"), (path, name)


def test_nothing_else_is_accepted(comparisons):
    """A name that is not published is refused everywhere, and so is a missing one."""
    comparison = comparisons["two"]
    printed = json.loads(dump_comparison(comparison, not_worse(comparison)))
    free = ("failures_of_first_only", "failures_of_second_only", "values")
    assert SCHEMA.accepted_changes(printed, *free) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("pairs", 0, "trigger_similarity", "low"), -1.5),
        (("pairs", 0, "trigger_similarity", "p_value"), 2),
        (("pairs", 0, "better"), "a"),
        (("pairs", 0, "changes", 0, "count"), 0),
        (("runs", 0, "metrics", "schema_accuracy", "low"), 95.0),
        (("runs", 0, "requests", "failed"), -1),
        (("not_worse", "status"), "ok"),
        (("not_worse", "margin"), 3),
        (("leaderboard",), ["A"]),
    ],
)
def test_values_out_of_range_are_refused(comparisons, path, value):
    """Percent for shares, negative counts and unknown words are not what is published."""
    comparison = comparisons["two"]
    printed = json.loads(dump_comparison(comparison, not_worse(comparison)))
    at(printed, path[:-1])[path[-1]] = value
    assert not SCHEMA.accepts(printed)
