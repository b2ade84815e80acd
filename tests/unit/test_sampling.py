"""Which rows a limit leaves: the stratified draw, its settings, and the note of it in files and reports."""

from __future__ import annotations

import json
import types
from collections import Counter
from dataclasses import replace
from importlib import resources

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from stored_runs import FACTS, answering, make_row, write_run
from support.rendered import render_text

from k2_verifier_adapter.cli import main
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.run_facts import RowsInfo, dump_facts, facts_from_json
from k2_verifier_adapter.core.sampling import RowsSample, SampleMethod, draw_stratified
from k2_verifier_adapter.core.secrets import Masker
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.evalscope_plugin import loading, running
from k2_verifier_adapter.evalscope_plugin.planning import RequestPlanner
from k2_verifier_adapter.formats.rows import decode_records, records_of
from k2_verifier_adapter.formats.runs import choose_run, read_run
from k2_verifier_adapter.offline.stored import summary_of
from k2_verifier_adapter.reports.json_report import report_as_json

STRATIFIED = RowsSample(SampleMethod.STRATIFIED, 42, 50, 2000)


class TestTheDraw:
    """`draw_stratified`."""

    def test_the_rows_of_a_seed_never_change(self):
        """The smallest SHA-256 of `SEED:NUMBER` come first, whatever the version or the machine."""
        decisions = {number: number % 3 == 0 for number in range(1, 31)}
        # By `printf 42:21 | sha256sum` and the like: 21 and 6 call, 1, 13, 29 and 20 do not.
        assert sorted(draw_stratified(decisions, 6, 42)) == [1, 6, 13, 20, 21, 29]
        assert sorted(draw_stratified(decisions, 6, 43)) == [2, 6, 14, 15, 19, 23]

    @pytest.mark.parametrize(
        ("calling", "others", "size", "calls"),
        [
            (1000, 1000, 100, 50),
            (637, 1363, 100, 32),
            (637, 1363, 50, 16),
            # Halves go up.
            (1, 3, 2, 1),
            (3, 1, 2, 1),
            (5, 5, 1, 1),
            (5, 5, 3, 2),
            # Two rows hold one of each kind, however rare it is; one row cannot.
            (1, 999, 2, 1),
            (999, 1, 2, 1),
            (1, 999, 1, 0),
            # A kind that is not there cannot be drawn.
            (0, 10, 4, 0),
            (10, 0, 4, 4),
            # All rows, and more than all.
            (3, 5, 8, 3),
            (3, 5, 80, 3),
        ],
    )
    def test_the_share_of_calls_is_kept(self, calling, others, size, calls):
        """So many of the drawn rows call as the share says, rounded; the rest does not."""
        decisions = {number: number < calling for number in range(calling + others)}
        drawn = draw_stratified(decisions, size, 7)
        found = Counter(decisions[number] for number in drawn)
        assert (found[True], found[False]) == (calls, min(size, calling + others) - calls)

    def test_every_row_is_drawn_about_as_often(self):
        """Over many seeds no row is preferred: the counts spread as chance lets them."""
        decisions = {number: number % 4 == 0 for number in range(80)}
        seeds = 2000
        times = Counter(number for seed in range(seeds) for number in draw_stratified(decisions, 20, seed))
        # Each is binomial with p = 1/4; five standard deviations are 97.
        assert all(abs(times[number] - seeds / 4) < 97 for number in decisions)


def _rows(number, calls):
    """Decode rows of which the first ones call."""
    rows = [make_row(f"question {index}", call=index < calls) for index in range(number)]
    return decode_records(records_of(rows), "rows.jsonl", HistoryOptions())


def _adapter(limit, *, shuffle=False, seed=42):
    return types.SimpleNamespace(limit=limit, shuffle=shuffle, seed=seed)


class TestChoosing:
    """`choose_rows`."""

    @pytest.mark.parametrize("limit", [10, 0.25])
    def test_a_number_and_a_share_of_rows(self, limit):
        """Both leave ten of forty rows, in row order, with a quarter of calls, and say so."""
        chosen = loading.choose_rows(_adapter(limit), _rows(40, 10), 42)
        indices = [case.index for case in chosen.cases]
        assert indices == sorted(indices)
        assert sum(case.official.should_call for case in chosen.cases) == 3
        assert chosen.info.sample == RowsSample(SampleMethod.STRATIFIED, 42, 10, 40)
        assert chosen.info.sha256 == _rows(40, 10).info.sha256

    def test_rows_are_drawn_by_their_number(self):
        """The same `data_index`es are drawn whichever order a file holds its rows in."""
        rows = [make_row(f"question {index}", call=index < 10, data_index=900 + index) for index in range(40)]
        drawn = []
        for ordered in (rows, rows[::-1]):
            loaded = decode_records(records_of(ordered), "rows.jsonl", HistoryOptions())
            chosen = loading.choose_rows(_adapter(10), loaded, 42)
            drawn.append({case.data_index for case in chosen.cases})
        assert drawn[0] == drawn[1]
        assert drawn[0] == draw_stratified({900 + index: index < 10 for index in range(40)}, 10, 42)

    def test_shuffling_orders_the_drawn_rows_and_draws_no_others(self):
        """With `shuffle` the same rows are asked in another order."""
        rows = _rows(40, 10)
        plain = loading.choose_rows(_adapter(12), rows, 42)
        shuffled = loading.choose_rows(_adapter(12, shuffle=True), rows, 42)
        assert shuffled.cases != plain.cases
        assert sorted(shuffled.cases, key=lambda case: case.index) == plain.cases

    def test_the_first_rows_and_shuffled_ones_are_noted_too(self):
        """Without a draw the first rows are left, in EvalScope's order, and the note says which."""
        rows = _rows(40, 10)
        first = loading.choose_rows(_adapter(5), rows, None)
        assert [case.index for case in first.cases] == [0, 1, 2, 3, 4]
        assert first.info.sample == RowsSample(SampleMethod.FIRST, None, 5, 40)
        shuffled = loading.choose_rows(_adapter(5, shuffle=True, seed=7), rows, None)
        assert shuffled.info.sample == RowsSample(SampleMethod.SHUFFLED, 7, 5, 40)

    @pytest.mark.parametrize(
        ("adapter", "stratified"),
        [
            (_adapter(5), None),
            (_adapter(12, shuffle=True, seed=7), None),
            (_adapter(12), 3),
            (_adapter(12, shuffle=True), 3),
        ],
    )
    def test_the_note_tells_the_rows(self, adapter, stratified):
        """Whoever has the rows can draw them once more."""
        rows = _rows(40, 10)
        chosen = loading.choose_rows(adapter, rows, stratified)
        decisions = {case.data_index: case.official.should_call for case in rows.cases}
        drawn = chosen.info.sample.drawn_of(decisions)
        assert drawn == {case.data_index for case in chosen.cases}
        unknown = replace(chosen.info.sample, method=SampleMethod.SHUFFLED, seed=None)
        assert unknown.drawn_of(decisions) == decisions.keys()

    @pytest.mark.parametrize("limit", [None, 0, 40, 41, 1.0])
    @pytest.mark.parametrize("stratified", [None, 42])
    def test_all_rows_are_no_sample(self, limit, stratified):
        """Where nothing is left out, there is nothing to note."""
        rows = _rows(40, 10)
        assert loading.choose_rows(_adapter(limit), rows, stratified) == rows

    def test_a_share_that_leaves_no_row_is_refused(self):
        """A hundredth of forty rows is none."""
        with pytest.raises(UsageError, match=r"limit 0.01 of 40 rows leaves none"):
            loading.choose_rows(_adapter(0.01), _rows(40, 10), 42)


def test_shared_parameters_are_those_of_all_requests():
    """What a row has for itself, or has otherwise, is no parameter of all requests."""
    own = [{"top_p": 0.9, "stop": ["x"]}, {"top_p": 0.9, "stop": ["y"]}, {"top_p": 0.9}]
    cases = decode_records(
        records_of([make_row(parameters=parameters) for parameters in own]), "rows.jsonl", HistoryOptions()
    ).cases
    planner = RequestPlanner("kimi", {"temperature": 0.5}, Masker(frozenset()))
    shared = planner.shared_parameters("k2_thinking", cases)
    assert (shared["model"], shared["top_p"], shared["temperature"]) == ("kimi", 0.9, 0.5)
    assert "stop" not in shared
    assert "stop" not in planner.shared_parameters("k2_thinking", cases[1:])
    assert planner.shared_parameters("k2_thinking", cases[:1])["stop"] == ["x"]


class TestTheNote:
    """What a reader is told."""

    @pytest.mark.parametrize(
        "sample",
        [None, STRATIFIED, RowsSample(SampleMethod.FIRST, None, 5, 24), replace(STRATIFIED, seed=-1)],
    )
    def test_it_is_stored_with_the_run(self, sample):
        """What `run.json` says is read back as it was."""
        facts = replace(FACTS, rows=replace(FACTS.rows, sample=sample))
        assert facts_from_json(json.loads(dump_facts(facts))) == facts

    @pytest.mark.parametrize(
        "change",
        [{"method": "other"}, {"seed": "x"}, {"rows": 0}, {"rows": 2001}, {"of": 2.5}, {"rows": None}],
    )
    def test_a_damaged_note_is_no_note(self, change):
        """A value that was never written is damage, not a sample."""
        with pytest.raises((TypeError, ValueError)):
            RowsSample.from_json({**STRATIFIED.as_json(), **change})

    @pytest.mark.parametrize(
        ("sample", "said"),
        [
            (STRATIFIED, "50 of 2,000, stratified, seed 42"),
            (RowsSample(SampleMethod.SHUFFLED, 7, 5, 24), "5 of 24, shuffled, seed 7"),
            (RowsSample(SampleMethod.SHUFFLED, None, 5, 24), "5 of 24, shuffled"),
            (RowsSample(SampleMethod.FIRST, None, 5, 24), "the first 5 of 24"),
        ],
    )
    def test_it_is_said_in_words(self, sample, said):
        """Method, seed and both numbers of rows."""
        assert str(sample) == said

    def test_reports_show_it(self, tmp_path):
        """JSON and text say that the rows were drawn; of a whole set neither says anything."""
        write_run(tmp_path, [make_row()], [answering()])
        stored = read_run(choose_run(tmp_path))
        assert "sample" not in report_as_json(summary_of(stored))["provenance"]["rows"]
        info = RowsInfo("rows.jsonl", "ab" * 32, synthetic=False, sample=STRATIFIED)
        summary = summary_of(replace(stored, facts=replace(stored.facts, rows=info)))
        assert report_as_json(summary)["provenance"]["rows"]["sample"] == {
            "method": "stratified",
            "seed": 42,
            "rows": 50,
            "of": 2000,
        }
        schema = resources.files("k2_verifier_adapter").joinpath("reports", "schema", "report.schema.json")
        assert Draft202012Validator(json.loads(schema.read_text())).is_valid(report_as_json(summary))
        assert "rows asked 50 of 2,000, stratified, seed 42" in " ".join(render_text(summary).split())


def test_the_flags_of_eval_are_handed_over(tmp_path, monkeypatch):
    """`--sample` and `--sample-seed` become extra parameters beside those of the pace; unset ones do not."""
    write_run(tmp_path, [make_row()], [answering()])
    seen = []

    def run_eval(_flags, _config, extra_params, *, typed):
        seen.append(dict(extra_params))
        return tmp_path

    monkeypatch.setattr(running, "run_eval", run_eval)
    for flags in (["--sample", "stratified", "--sample-seed", "7", "--max-requests", "9"], []):
        CliRunner().invoke(main, ["eval", "--model", "m", *flags], catch_exceptions=False)
    assert seen == [{"sample": "stratified", "sample_seed": 7, "max_requests": 9}, {}]
    refused = CliRunner().invoke(main, ["eval", "--model", "m", "--sample", "random"])
    assert refused.exit_code == 2
    assert "'random' is not one of 'first', 'stratified'" in refused.stderr
