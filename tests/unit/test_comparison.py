import json
from collections import Counter
from dataclasses import replace

import pytest
from stored_runs import FACTS, answering, calling, failed, make_cases, make_row, write_run
from support.rendered import comparison_as_text

from k2_verifier_adapter.core.comparison.baseline import DEFAULT_MARGIN, NotWorse, margin_status
from k2_verifier_adapter.core.comparison.compare import Comparison, Participant, compare, letter, not_worse
from k2_verifier_adapter.core.comparison.pairs import MAX_LISTED_CHANGES, CaseOutcome, State
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.judging.judge import judge
from k2_verifier_adapter.core.responses import read_completion
from k2_verifier_adapter.core.run_facts import RowsInfo
from k2_verifier_adapter.core.statistics.paired import Difference, WinsLosses
from k2_verifier_adapter.core.verdict import Status
from k2_verifier_adapter.errors import DataError, UsageError
from k2_verifier_adapter.offline.participants import participants_of_run
from k2_verifier_adapter.reports.comparison_json import (
    comparison_as_json,
    dump_comparison,
    upstream_table,
)

TRUNCATED = '{"city": '


def rows_of(count, **changes):
    """Make rows; the official API calls in every other one."""
    return [make_row(f"question {number}", call=number % 2 == 0, **changes) for number in range(count)]


def right(count):
    """Make the answers of a vendor that always agrees."""
    return [answering() if number % 2 else calling() for number in range(count)]


@pytest.fixture
def participant(tmp_path):
    """Write a run and read it as a participant."""
    names = iter("abcdefgh")

    def make(answers, failures=(), *, rows=None, **changes) -> Participant:
        rows = rows_of(len(answers)) if rows is None else rows
        run = write_run(tmp_path / next(names), rows, answers, failures, **changes)
        (found,) = participants_of_run(run)
        return found

    return make


@pytest.fixture
def better_and_worse(participant):
    """A vendor that always agrees, and one that misses 4 calls, calls twice too often and breaks 3 calls."""
    answers = right(40)
    for number in (0, 2, 4, 6):
        answers[number] = answering()
    for number in (1, 3):
        answers[number] = calling()
    for number in (8, 10, 12):
        answers[number] = calling(TRUNCATED)
    return participant(right(40)), participant(answers)


class TestCompare:
    """Runs over the same cases."""

    def test_case_by_case(self, better_and_worse):
        """Wins, losses and ties on the decision, and on validity where both call, are counted by hand."""
        (pair,) = compare(better_and_worse).pairs
        assert pair.agreement == WinsLosses(wins=6, losses=0, ties=34)
        assert pair.agreement.p_value == pytest.approx(2 / 2**6)
        assert pair.validity == WinsLosses(wins=3, losses=0, ties=13)
        assert (pair.similarity.first, pair.similarity.second) == (1.0, pytest.approx(2 * 16 / (2 * 16 + 6)))
        assert (pair.accuracy.first, pair.accuracy.second, pair.accuracy.n) == (1.0, 13 / 16, 16)
        assert pair.completed == 40

    def test_which_cases_changed_and_how(self, better_and_worse):
        """Every kind of change stands with its cases by data_index, and what only one of the runs shows."""
        (pair,) = compare(better_and_worse).pairs
        assert [(item.should_call, item.first, item.second, list(item.cases)) for item in pair.changes] == [
            (True, State.VALID_CALL, State.NO_CALL, [1, 3, 5, 7]),
            (True, State.VALID_CALL, State.INVALID_CALL, [9, 11, 13]),
            (False, State.NO_CALL, State.VALID_CALL, [2, 4]),
        ]
        assert pair.changes[1].first_failures == Counter()
        assert {kind.value: count for kind, count in pair.changes[1].second_failures.items()} == {
            "truncated_json": 3
        }

    def test_a_run_against_itself(self, participant):
        """Equal runs tie: no difference, nothing changed, and no one is better."""
        answers = [*right(30), *[answering()] * 10]
        comparison = compare([participant(answers), participant(answers)])
        (pair,) = comparison.pairs
        assert (pair.similarity.value, pair.similarity.p_value, pair.better, pair.changes) == (0, 1, None, [])
        assert pair.agreement == WinsLosses(0, 0, 40)
        assert comparison.setup == []

    def test_the_standings_are_those_of_the_reports(self, better_and_worse):
        """Where all runs hold the same cases, metrics and verdict are those of each run's own report."""
        for standing in compare(better_and_worse).standings:
            summary = standing.participant.summary
            assert list(standing.metrics.values()) == list(summary.metrics)
            assert standing.verdict == summary.verdict
            assert standing.counts == summary.tally.counts

    def test_runs_that_are_not_told_apart_share_their_ranks(self, participant):
        """Where nothing is shown, and where a similarity is undefined, the order is that of the runs."""
        rows = [make_row(f"question {number}", call=False) for number in range(4)]
        quiet = participant([answering()] * 4, rows=rows)
        extra = participant([calling()] * 4, rows=rows)
        comparison = compare([quiet, extra])
        assert (comparison.ranks, comparison.ranking) == ([(1, 2), (1, 2)], [0, 1])

    def test_a_large_difference_is_shown(self, participant):
        """Of three runs the one that is much worse is told from both others, which are not told apart."""
        bad = right(400)
        for number in range(0, 120, 2):
            bad[number] = answering()
        comparison = compare([participant(right(400)), participant(bad), participant(right(400))])
        assert [pair.better for pair in comparison.pairs] == [0, None, 2]
        assert [standing.verdict.status for standing in comparison.standings] == ["pass", "fail", "pass"]

    def test_who_agrees_too_much_is_ahead_of_nobody(self, participant):
        """A run is ahead only if it shows no difference from the official API that the other does not."""
        faithful, worse = right(400), right(400)
        for number in range(0, 96, 2):
            faithful[number], faithful[number + 1] = answering(), calling()
        for number in range(0, 400, 4):
            worse[number], worse[number + 1] = answering(), calling()
        comparison = compare([participant(worse), participant(right(400)), participant(faithful)])
        raised = [[found.name for found in standing.verdict.raised] for standing in comparison.standings]
        assert raised == [[], ["agrees_too_much"], []]
        assert [pair.better for pair in comparison.pairs] == [1, 2, 1]
        assert comparison.ranks == [(2, 3), (1, 3), (1, 2)]
        assert comparison.ranking == [2, 1, 0]

    def test_holm_over_all_pairs(self, better_and_worse, participant):
        """With three pairs the smallest p-value counts three times as much."""
        comparison = compare([*better_and_worse, participant(right(40))])
        (first, second, third) = comparison.pairs
        smallest = min(first.agreement.p_value, third.agreement.p_value)
        assert first.agreement_p_of_all == pytest.approx(3 * smallest)
        assert second.agreement_p_of_all == 1
        assert first.similarity_p_of_all > first.similarity.p_value

    def test_better_takes_all_pairs_into_account(self, participant):
        """A difference that only looks large because many pairs were tried is not called one."""
        answers = right(100)
        for number in range(0, 14, 2):
            answers[number] = answering()
        runs = [participant(right(100)), participant(answers)]
        assert compare(runs).pairs[0].better == 0
        crowd = [participant(right(100)) for _ in range(6)]
        pair = compare([*runs, *crowd]).pairs[0]
        assert pair.similarity.p_value < 0.05 < pair.similarity_p_of_all
        assert pair.better is None

    def test_failed_requests_are_no_decisions(self, participant):
        """A case that failed in one run is in none of the pair's numbers, and is counted."""
        answers = right(10)
        # One that is no completion failed as well.
        one = participant([*answers[:7], '{"error": "overloaded"}', None, None], [failed(8), failed(9)])
        other = participant([None, *answers[1:9], None], [failed(0), failed(9)])
        comparison = compare([one, other])
        (pair,) = comparison.pairs
        assert [standing.counts.failed for standing in comparison.standings] == [3, 2]
        assert dict(pair.changes[1].first_failures) == {FailureClass.NOT_A_COMPLETION: 1}
        assert (pair.completed, pair.only_first_failed, pair.only_second_failed) == (6, 2, 1)
        assert [(item.first, item.second, list(item.cases)) for item in pair.changes] == [
            (State.VALID_CALL, State.FAILED, [1]),
            (State.FAILED, State.NO_CALL, [8]),
            (State.FAILED, State.VALID_CALL, [9]),
        ]

    def test_changes_are_listed_within_bounds(self, participant):
        """Of a frequent change the first cases are listed, and all are counted."""
        count = 2 * MAX_LISTED_CHANGES + 10
        (pair,) = compare([participant(right(count)), participant([answering()] * count)]).pairs
        (change,) = pair.changes
        assert (change.count, len(change.cases)) == (count // 2, MAX_LISTED_CHANGES)


class TestCommonCases:
    """Runs over different cases."""

    def test_common_cases_only(self, participant):
        """Everything is over the cases that all runs hold, and a warning says so."""
        rows = rows_of(30)
        long = participant(right(30), rows=rows)
        short = participant(right(20), rows=rows[:20])
        comparison = compare([long, short])
        assert (comparison.cases, [item.left_out for item in comparison.standings]) == (20, [10, 0])
        assert comparison.standings[0].counts == comparison.standings[1].counts
        assert comparison.warnings == [
            "The runs hold different cases (30, 20): all is over the 20 that all of them hold."
        ]

    def test_cases_are_matched_by_number_and_content(self, participant):
        """A case of the same number that asks something else is left out, with a warning."""
        rows = rows_of(10)
        others = [*rows[:8], make_row("something else"), make_row("and else", call=False)]
        comparison = compare([participant(right(10), rows=rows), participant(right(10), rows=others)])
        assert (comparison.cases, comparison.other_content) == (8, [9, 10])
        assert (
            "2 cases hold other requests in other runs and are left out (data_index 9, 10)"
            in (comparison.warnings[-1])
        )

    def test_cases_are_matched_by_data_index_not_by_row(self, participant):
        """Rows that stand elsewhere in another file are still the same cases."""
        rows = [{**row, "data_index": number + 1} for number, row in enumerate(rows_of(6))]
        comparison = compare([participant(right(6), rows=rows), participant(right(6)[::-1], rows=rows[::-1])])
        assert comparison.cases == 6
        assert comparison.pairs[0].changes == []

    def test_a_repaired_history_is_the_same_case(self, participant):
        """How a run repaired the history does not make it another case."""
        function = {"name": "weather", "arguments": "{"}
        call = {"id": "x", "type": "function", "function": function}
        broken = [{"role": "assistant", "content": "", "tool_calls": [call]}]
        mended = [{**broken[0], "tool_calls": [{**call, "function": {**function, "arguments": "{}"}}]}]
        runs = [participant([calling()], rows=[make_row(history=kept)]) for kept in (broken, mended)]
        assert compare(runs).cases == 1

    def test_no_common_case(self, participant):
        """Runs over other rows cannot be compared, and the error says what each holds."""
        one = participant(right(3))
        other = participant([calling()] * 2, rows=[make_row("x"), make_row("y")])
        with pytest.raises(DataError, match="the 2 cases of the same data_index hold different requests"):
            compare([one, other])

    def test_no_common_number(self, participant):
        """Runs over other numbers cannot be compared either."""
        one = participant(right(3))
        other = participant([calling()], rows=[make_row("x", data_index=70)])
        with pytest.raises(DataError, match=r"no data_index stands in all of them .*: 3 cases, .*: 1 cases"):
            compare([one, other])

    def test_other_official_decisions_are_refused(self, participant):
        """Runs that were held against different official answers have no common truth."""
        rows = rows_of(10)
        others = [*rows[:9], make_row("question 9", call=True)]
        runs = [participant(right(10), rows=rows), participant(right(10), rows=others)]
        with pytest.raises(
            DataError, match=r"differs between the runs in 1 of 10 .*data_index 10.*--baseline"
        ):
            compare(runs)


class TestRepeats:
    """Cases that were asked more than once."""

    def outcome(self, *answers):
        """Judge some answers to one case in which the official API calls."""
        (case,) = make_cases([make_row()])
        return CaseOutcome(
            0, None, should_call=True, answers=[judge(case, read_completion(one)) for one in answers]
        )

    def test_shares_of_a_case(self):
        """A case counts by the share of its answers; mixed ones have a state of their own."""
        outcome = self.outcome(calling(), calling(TRUNCATED), answering())
        assert (outcome.calling, outcome.valid, outcome.state) == (2 / 3, 1 / 2, State.MIXED)
        assert self.outcome(calling(), calling()).state is State.VALID_CALL
        assert self.outcome(calling(TRUNCATED), calling(TRUNCATED)).state is State.INVALID_CALL
        assert self.outcome(answering(), answering()).state is State.NO_CALL
        empty = CaseOutcome(0, None, should_call=True)
        assert (empty.calling, empty.valid, empty.state) == (None, None, State.FAILED)

    def test_mixed_cases_that_differ_are_listed(self, participant):
        """Two runs that decide a case differently often are listed with it, though both are mixed."""
        (found,) = [participant([calling()], rows=[make_row()])]
        content = found.outcomes[1].content
        runs = []
        for answers in ((calling(), answering(), answering()), (calling(), calling(), answering())):
            outcome = replace(self.outcome(*answers), content=content)
            runs.append(replace(found, outcomes={1: outcome}))
        (change,) = compare(runs).pairs[0].changes
        assert (change.first, change.second, list(change.cases)) == (State.MIXED, State.MIXED, [1])

    def test_a_case_is_one_observation(self, participant):
        """Ten equal answers to each case say no more than one answer each."""
        once = participant(right(40)), participant([*right(30), *[answering()] * 10])
        tenfold = [
            replace(
                run,
                outcomes={
                    case: CaseOutcome(item.case_index, item.content, item.should_call, item.answers * 10)
                    for case, item in run.outcomes.items()
                },
            )
            for run in once
        ]
        (single,), (repeated,) = compare(once).pairs, compare(tenfold).pairs
        assert repeated.similarity == single.similarity
        assert repeated.agreement == single.agreement


class TestNotWorse:
    """A run against its baseline."""

    @pytest.mark.parametrize(
        ("low", "high", "status"),
        [
            (-0.03, 0.1, Status.PASS),
            (-0.031, 0.1, Status.INCONCLUSIVE),
            (-0.2, -0.03, Status.INCONCLUSIVE),
            (-0.2, -0.031, Status.FAIL),
        ],
    )
    def test_the_strict_rule_with_the_margin(self, low, high, status):
        """The lower bound that reaches -margin passes, the upper one below it fails."""
        assert margin_status(Difference(0.5, 0.5, low, high, 0.5, 10), 0.03) is status

    def test_undefined(self):
        """What is undefined is not shown to be as good."""
        assert margin_status(None, 0.03) is Status.INCONCLUSIVE

    def verdict(self, participant, answers, **settings) -> NotWorse:
        """Hold answers against a baseline that always agrees."""
        return not_worse(compare([participant(answers), participant(right(len(answers)))]), **settings)

    def test_equal_runs_pass(self, participant):
        """A run that does as its baseline did is not worse."""
        found = self.verdict(participant, right(400))
        assert (found.status, found.margin, found.reason) == (Status.PASS, DEFAULT_MARGIN, None)

    def test_broken_calls_fail(self, participant):
        """A run whose decisions are as good but whose calls are broken is worse."""
        answers = right(400)
        for number in range(0, 100, 2):
            answers[number] = calling(TRUNCATED)
        found = self.verdict(participant, answers)
        assert [(item.metric, item.status) for item in found.checks] == [
            ("trigger_similarity", Status.PASS),
            ("schema_accuracy", Status.FAIL),
        ]
        assert found.status is Status.FAIL

    def test_the_margin_decides(self, participant):
        """What is too much for one margin is not for a wider one; the first run is the one on trial."""
        answers = right(400)
        for number in range(0, 60, 2):
            answers[number] = answering()
        assert self.verdict(participant, answers).status is Status.FAIL
        assert self.verdict(participant, answers, margin=0.2).status is Status.PASS
        turned = compare([participant(right(400)), participant(answers)])
        assert not_worse(turned).status is Status.PASS

    def test_a_few_cases_decide_nothing(self, participant):
        """Ten cases cannot show that a run is as good as another."""
        assert self.verdict(participant, right(10)).status is Status.INCONCLUSIVE

    def test_synthetic_rows_decide_nothing(self, participant):
        """On synthetic rows there is no verdict, whatever the difference."""
        rows = RowsInfo("bundled", "00", synthetic=True)
        found = not_worse(compare([participant(right(400), rows_info=rows) for _ in range(2)]))
        assert (found.status, found.reason) == (Status.NONE, "synthetic rows: no verdict")

    def test_a_missing_threshold_is_no_reason(self, participant):
        """A subset without threshold can still be held against a baseline."""
        found = not_worse(compare([participant(right(400), subset="own") for _ in range(2)]))
        assert (found.status, found.reason) == (Status.PASS, None)


class TestSetup:
    """What was done differently."""

    def test_parameters_and_endpoints(self, participant):
        """Only what differs is listed, with the value of every run."""
        one = participant(right(2))
        other = participant(
            right(2), parameters={**FACTS.parameters, "stream": False}, endpoint_host="b.example.com"
        )
        assert [(item.name, item.values) for item in compare([one, other]).setup] == [
            ("endpoint", ("api.example.com", "b.example.com")),
            ("parameters.stream", (True, False)),
        ]

    def test_the_model_is_listed_once(self, participant):
        """The model stands by its name, not among the parameters as well."""
        one = participant(right(2))
        other = participant(right(2), model="kimi-b", parameters={**FACTS.parameters, "model": "kimi-b"})
        assert [item.name for item in compare([one, other]).setup] == ["model"]

    def test_letters(self):
        """Runs are named A to Z, then AA and on."""
        assert [letter(place) for place in (0, 25, 26, 27, 51, 52, 701, 702)] == [
            *("A", "Z", "AA", "AB", "AZ", "BA", "ZZ", "AAA")
        ]


def words(text):
    """Give a text with single spaces."""
    return " ".join(text.split())


class TestReports:
    """Text and JSON of one comparison."""

    @pytest.fixture
    def comparison(self, better_and_worse) -> Comparison:
        """Compare a vendor that always agrees with one that does not."""
        return compare(better_and_worse)

    def test_both_say_the_same_numbers(self, comparison):
        """What the text shows of a pair is what the JSON holds."""
        text = words(comparison_as_text(comparison))
        (pair,) = comparison_as_json(comparison)["pairs"]
        shown = pair["trigger_similarity"]
        low, high = (f"{100 * shown[bound]:+.2f}" for bound in ("low", "high"))
        assert f"A - B {100 * shown['difference']:+.2f} {low} to {high} {shown['p_value']:.4f}" in text
        agreement = pair["agreement"]
        assert (
            f"A - B 40 {agreement['first_better']} {agreement['second_better']} {agreement['ties']}" in text
        )
        assert "call valid call invalid call 3 9, 11, 13 only B: truncated_json 3" in text

    def test_the_text_fits_80_columns(self, participant):
        """Long names and many runs do not widen it, and vendors' words cannot steer the terminal."""
        runs = [
            participant([*right(30), None], [failed(30)], endpoint_host=f"{'x' * 70}.example.com")
            for _ in range(5)
        ]
        hostile = [replace(run, label="kimi\x1b[2J" + "k" * 90) for run in runs]
        text = comparison_as_text(compare(hostile))
        assert max(map(len, text.splitlines())) <= 80
        assert "\x1b" not in text
        assert "..., " not in text

    def test_colours_only_when_asked(self, comparison):
        """The text is plain unless colours are asked for."""
        assert comparison_as_text(comparison).isascii()
        assert "\x1b[" in comparison_as_text(comparison, colour=True)

    def test_upstreams_table(self, comparison):
        """Upstream's columns, the official answers first and the best run next."""
        official, first, second = upstream_table(comparison)
        assert official == {
            "model": "official",
            "provider": None,
            "trigger_similarity": None,
            "count_finish_reason_tool_calls": 20,
            "count_successful_tool_call": 20,
            "schema_accuracy": 1.0,
        }
        assert (first["trigger_similarity"], first["provider"]) == (1.0, "api.example.com")
        assert second["count_finish_reason_tool_calls"] == 18
        assert second["count_successful_tool_call"] == 15
        assert second["schema_accuracy"] == 15 / 18

    def test_official_calls_that_are_invalid(self, participant):
        """The official row counts as valid what is valid, as upstream's tables do."""
        function = {"name": "weather", "arguments": TRUNCATED}
        broken = [{"id": "functions.weather:0", "type": "function", "function": function}]
        rows = [make_row("one", official_tool_calls=broken), make_row("two")]
        (official, *_) = upstream_table(compare([participant([calling()] * 2, rows=rows) for _ in "ab"]))
        assert (official["count_finish_reason_tool_calls"], official["count_successful_tool_call"]) == (2, 1)

    def test_json_is_json(self, comparison):
        """The JSON text reads back to its content, and names every run by its letter."""
        loaded = json.loads(dump_comparison(comparison))
        assert loaded == json.loads(json.dumps(comparison_as_json(comparison)))
        assert (loaded["schema_version"], loaded["cases"], loaded["leaderboard"]) == (1, 40, ["A", "B"])
        assert [run["run"] for run in loaded["runs"]] == ["A", "B"]
        assert loaded["runs"][1]["confusion"] == {"tp": 16, "fp": 2, "fn": 4, "tn": 18}

    def test_of_many_pairs_the_first_are_shown(self, participant):
        """Of many pairs the text shows the cases of the first that differ, and says where the others are."""
        silent = [answering() for _ in range(4)]
        runs = [participant(silent if number < 2 else right(4)) for number in range(5)]
        text = words(comparison_as_text(compare(runs)))
        assert [f"{first} and {second}: 2 cases" in text for first, second in ("AC", "BD", "BE")] == [
            *[True, True],
            False,
        ]
        assert "and 1 more: see --format json" in text
        assert "No case differs between: A and B, C and D, C and E, D and E" in text

    def test_warnings_name_their_run(self, participant):
        """A warning of one run stands behind its letter, one of all runs once."""
        rows = RowsInfo("bundled", "00", synthetic=True)
        whole = participant(right(4), rows_info=rows)
        part = participant([*right(3), None], rows_info=rows, complete=False)
        warnings = compare([whole, part]).warnings
        assert sum("synthetic" in warning for warning in warnings) == 1
        assert any(warning.startswith("B: The run was interrupted") for warning in warnings)


class TestParticipants:
    """Run directories as participants."""

    def test_several_models(self, tmp_path):
        """A directory with several subsets needs a choice."""
        run = write_run(tmp_path / "run", rows_of(2), right(2))
        write_run(run, rows_of(2), right(2), subset="k2_0905")
        with pytest.raises(
            UsageError, match="several subsets; choose with --subset one of: k2_0905, k2_thinking"
        ):
            participants_of_run(run)
        with pytest.raises(UsageError, match="no subset 'x'"):
            participants_of_run(run, "x")
        (found,) = participants_of_run(run, "k2_0905")
        assert found.summary.facts.subset == "k2_0905"
