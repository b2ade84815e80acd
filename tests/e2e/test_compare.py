"""Two runs of stock EvalScope against simulated vendors, compared by the command."""

import json
from importlib import resources

import jsonschema
import pytest
from click.testing import CliRunner
from support.compared import words_of_html, words_of_markdown
from support.runs import EVALSCOPES_WARNINGS, bundled_rows, evaluate, write_rows

from k2_verifier_adapter.cli import main
from k2_verifier_adapter.simulator import PROFILES, SimulatedVendor

ROWS = bundled_rows(60)

pytestmark = EVALSCOPES_WARNINGS


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A faithful vendor, streamed, and a noisy one, not streamed; what the ledgers and the command say."""
    folder = tmp_path_factory.mktemp("compared")
    rows = write_rows(folder / "rows.jsonl", ROWS)
    ledgers = []
    for name, stream in (("official", True), ("noisy", False)):
        vendor = SimulatedVendor(ROWS, PROFILES[name], seed=4)
        with vendor.running() as endpoint:
            evaluate(endpoint.url, folder / name, rows, generation_config={"stream": stream})
        ledgers.append(vendor.truth.answers)
    return folder, ledgers


def command(folder, *flags):
    """Run `compare` on both runs."""
    runs = [str(folder / name) for name in ("official", "noisy")]
    result = CliRunner().invoke(main, ["compare", *runs, *flags], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_wins_and_losses_are_those_of_the_ledgers(compared):
    """The decisions that differ are those that the vendors know to have made."""
    folder, ledgers = compared
    (pair,) = json.loads(command(folder, "--format", "json"))["pairs"]
    decisions = [
        {answer.case_index: answer.finish_reason == "tool_calls" for answer in answers if answer.completed}
        for answers in ledgers
    ]
    both = decisions[0].keys() & decisions[1].keys()
    losses = wins = 0
    for case in both:
        should_call = ROWS[case]["official_finish_reason"] == "tool_calls"
        first, second = (found[case] == should_call for found in decisions)
        wins += first and not second
        losses += second and not first
    assert (pair["agreement"]["first_better"], pair["agreement"]["second_better"]) == (wins, losses)
    assert pair["cases"]["completed_by_both"] == len(both)
    assert wins > 0


def test_what_was_done_differently_is_said(compared):
    """The comparison says that one run streamed and the other did not, and that the rows are synthetic."""
    text = command(compared[0])
    assert "WARNING: The rows are synthetic" in text
    assert "A: true; B: false" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


def test_every_format_says_the_same(compared):
    """Text, Markdown and HTML of the two runs show the differences of the JSON, which is as published."""
    folder, _ = compared
    value = json.loads(command(folder, "--format", "json"))
    schema = resources.files("k2_verifier_adapter.reports") / "schema" / "comparison.schema.json"
    jsonschema.validate(value, json.loads(schema.read_text(encoding="utf-8")))
    (pair,) = value["pairs"]
    similarity, agreement = pair["trigger_similarity"], pair["agreement"]
    low, high = (f"{100 * similarity[bound]:+.2f}" for bound in ("low", "high"))
    counts = " ".join(str(agreement[key]) for key in ("first_better", "second_better", "ties"))
    for said in (
        " ".join(command(folder).split()),
        words_of_markdown(command(folder, "--format", "markdown")),
        words_of_html(command(folder, "--format", "html")),
    ):
        assert f"A - B {100 * similarity['difference']:+.2f} {low} to {high}" in said
        assert f"A - B {pair['cases']['completed_by_both']} {counts}" in said
        assert "parameters.stream" in said
