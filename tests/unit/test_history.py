"""One vendor over time: what changed since when, by a bound that holds over all looks."""

import json
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import combinations_with_replacement, product
from math import factorial, prod
from random import Random

import pytest
from stored_runs import answering, calling, failed, make_row, results_line, write_run
from support.commands import invoke
from support.compared import structure_of_markdown, tags_of_html
from support.hostile_summaries import HOSTILE
from support.published import Published

from k2_verifier_adapter.core.comparison.history import (
    SHOWN_METRICS,
    CaseCounts,
    HistoryRun,
    Sums,
    history_of,
)
from k2_verifier_adapter.core.gate import HistoryGate, by_history
from k2_verifier_adapter.core.metrics import Metric
from k2_verifier_adapter.core.run_facts import RowsInfo
from k2_verifier_adapter.core.sampling import RowsSample, SampleMethod
from k2_verifier_adapter.core.statistics import decisions
from k2_verifier_adapter.core.statistics.changes import ERROR, find_changes
from k2_verifier_adapter.core.statistics.decisions import CaseDecisions, surplus_test
from k2_verifier_adapter.core.statistics.paired import sign_test
from k2_verifier_adapter.errors import DataError, UsageError
from k2_verifier_adapter.offline.history import read_history
from k2_verifier_adapter.reports.formats import BY_NAME, HistoryReport
from k2_verifier_adapter.reports.history_json import dump_history

SCHEMA = Published("history")
NIGHTS, DROP, ROWS = 30, 20, 60
FIRST = datetime(2026, 11, 1, 2, tzinfo=timezone.utc)


def write_nights(folder, *, nights=NIGHTS, drop=DROP, keeps=0.4, rows=ROWS):
    """Write runs of a vendor, night by night, that from night `drop` on keeps only a share of its calls."""
    chance = Random(5)
    likely = [chance.betavariate(0.4, 0.4) for _ in range(rows)]
    asked = [make_row(f"question {number}", call=p > 0.5) for number, p in enumerate(likely)]
    runs = []
    for night in range(1, nights + 1):
        changed = night >= drop
        said = {"system_fingerprint": "fp_b" if changed else "fp_a"}
        calls = [chance.random() < p * (keeps if changed else 1) for p in likely]
        answers = [calling(**said) if call else answering(**said) for call in calls]
        started = (FIRST + timedelta(days=night - 1)).isoformat()
        runs.append(write_run(folder / f"night{night:02}", asked, answers, started_at=started))
    return runs


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    """Thirty nights with a drop at night 20."""
    return write_nights(tmp_path_factory.mktemp("nights"))


def run(calls, *, night=0, first=1, content=7, **changes):
    """Make a run from whether each case's answer calls."""
    cases = {
        first + number: CaseCounts(content, number % 2 == 0, 1, int(call), int(call))
        for number, call in enumerate(calls)
    }
    tp, fn, fp, tn = (
        sum(case.should_call == should and bool(case.calls) == calling for case in cases.values())
        for should, calling in ((True, True), (True, False), (False, True), (False, False))
    )
    fields = {
        "source": f"night{night}",
        "model": "kimi",
        "subset": "k2_thinking",
        "started_at": (FIRST + timedelta(days=night)).isoformat(),
        "complete": True,
        "completed": len(cases),
        "failed": 0,
        "metrics": {name: Metric(name, None, 0) for name in SHOWN_METRICS},
        "setup": {"model": "kimi"},
        "rows": RowsInfo("rows.jsonl", "ab", synthetic=False),
        "void": None,
        "warnings": (),
        "cases": cases,
        "sums": Sums(tp, fn, fp, tn, tp + fp),
    }
    return HistoryRun(**{**fields, **changes})


def half_off(count=40, *, nights=6, drop=4, **changes):
    """Make runs that call in every case, and from night `drop` on, counted from 0, in none."""
    return [run([night < drop] * count, night=night, **changes) for night in range(nights)]


# --- the statistic -----------------------------------------------------------------------------------


def test_it_errs_no_more_often_than_said_over_all_looks():
    """Of all ways in which four cases can fall out on three nights, no more than the error are called a change."""
    error, nights, cases = 0.9, 3, 4
    alarms = ways = 0
    # In whatever order the cases stand, the same is found.
    for fell in combinations_with_replacement(list(product((0, 1), repeat=nights)), cases):
        orders = factorial(cases) // prod(map(factorial, Counter(fell).values()))
        series = [{case: (fell[case][night], 1) for case in range(cases)} for night in range(nights)]
        alarms += orders * bool(find_changes(series, error))
        ways += orders
    assert ways == 2 ** (nights * cases)
    assert 0 < alarms / ways <= error


def test_two_runs_are_compared_by_the_sign_test():
    """At the first look the p-value is McNemar's exact one, one-sided, and has a fourth of the error."""
    for count in range(5, 15):
        runs = [dict.fromkeys(range(count), (yes, 1)) for yes in (1, 0)]
        level = ERROR / 2 / 2 / 2
        found = find_changes(runs)
        assert bool(found) == (sign_test(count, 0) / 2 < level)
        for change in found:
            assert (change.since, change.seen_at, change.more) == (1, 1, False)
            assert change.p == pytest.approx(0.5**count)
            assert change.level == level


def test_a_later_run_changes_nothing_of_what_was_found():
    """Looked at every night, a history says what it says looked at once, and goes on after a change."""
    chance = Random(2)
    rates = [0.9] * 8 + [0.4] * 8 + [0.9] * 8
    series = [{case: (int(chance.random() < rate), 1) for case in range(60)} for rate in rates]
    found = find_changes(series)
    assert [(change.since, change.more) for change in found] == [(8, False), (16, True)]
    assert found[1].before_from == 8
    for nights in range(1, len(series) + 1):
        assert find_changes(series[:nights]) == [change for change in found if change.seen_at < nights]


def plainly(series, error):
    """Find changes by testing every place at every look exactly, one after the other."""
    found, start, looks = [], 0, 0
    for last in range(1, len(series)):
        looks += 1
        shown = []
        for split in range(start + 1, last + 1):
            table, excess, variance = Counter(), 0.0, 0.0
            for case in {case for night in series[start : last + 1] for case in night}:
                before, after = (
                    [sum(night.get(case, (0, 0))[which] for night in nights) for which in (0, 1)]
                    for nights in (series[start:split], series[split : last + 1])
                )
                (yes, ours), n = after, before[1] + after[1]
                share = (before[0] + yes) / n
                table[CaseDecisions(*before, *after)] += 1
                excess += yes - ours * share
                variance += ours * before[1] * share * (1 - share) / max(1, n - 1)
            test, ago = surplus_test(table), last + 1 - split
            level = error / 2 / (looks * (looks + 1)) / (ago * (ago + 1))
            p = test.more if excess > 0 else test.less
            if p < level:
                shown.append((abs(excess) / variance**0.5, split, last, excess > 0))
        if shown:
            found.append(max(shown, key=lambda item: (round(item[0], 9), -item[1]))[1:])
            start, looks = found[-1][0], 0
    return found


def test_what_is_skipped_could_not_have_been_shown():
    """Only places far from significant are spared the exact test: the changes are those of the plain way."""
    seen = 0
    for seed in range(40):
        chance = Random(seed)
        likely = [chance.betavariate(0.3, 0.3) for _ in range(chance.choice([8, 30, 60]))]
        drop, repeats = chance.choice([1, 0.8, 0.5]), chance.choice([1, 1, 3])
        series = [
            {
                case: (
                    sum(chance.random() < p * (drop if night >= 4 else 1) for _ in range(repeats)),
                    repeats,
                )
                for case, p in enumerate(likely)
                if chance.random() < 0.8
            }
            for night in range(8)
        ]
        found = [(item.since, item.seen_at, item.more) for item in find_changes(series, 0.9)]
        assert found == plainly(series, 0.9)
        seen += len(found)
    assert seen > 10


def test_runs_over_other_samples_pair_where_they_share_cases():
    """A case that stands on one side of a change only says nothing of it."""
    first = dict.fromkeys(range(40), (1, 1))
    other = dict.fromkeys(range(100, 180), (0, 1))
    assert find_changes([first, other, first, other]) == []
    assert find_changes([first, {**other, **dict.fromkeys(range(30), (0, 1))}])[0].since == 1
    assert find_changes([first, {}]) == []
    assert find_changes([]) == []


def test_places_that_are_almost_as_likely_are_told():
    """A change that came by and by is named with the earliest and the latest place that it may have."""
    chance = Random(6)
    rates = [0.8] * 6 + [0.65] + [0.5] * 3
    slow = [run([chance.random() < rate for _ in range(60)], night=night) for night, rate in enumerate(rates)]
    slow[5] = replace(slow[5], setup={"model": "kimi", "system_fingerprints": ["fp_b"]})
    slow[6:] = [replace(item, setup=slow[5].setup) for item in slow[6:]]
    history = history_of(slow)
    (change,) = history.changes
    assert history.in_words(change) == (
        "calls less often since 2026-11-07, between runs 6 and 7, at the earliest 5 and 6, at the latest 7 and 8 "
        "(fingerprint changed)"
    )
    clear = history_of(half_off()).changes[0]
    assert clear.earliest == clear.latest == (clear.before, clear.since) == (3, 4)


def test_large_sums_have_the_p_value_of_the_exact_test(monkeypatch):
    """Beyond 500 answers, where whole numbers get too large, the p-values are the same to nine digits."""
    table = {CaseDecisions(300, 400, 70, 130): 1, CaseDecisions(20, 350, 9, 160): 1}
    fast = surplus_test(table)
    monkeypatch.setattr(decisions, "_MANY_ANSWERS", 10_000)
    exact = surplus_test(table)
    assert fast.more == pytest.approx(exact.more, rel=1e-9)
    assert fast.less == pytest.approx(exact.less, rel=1e-9)
    assert 0.9 < exact.more + exact.less < 1.2


# --- the command -------------------------------------------------------------------------------------


def test_thirty_nights_with_a_drop_at_night_20_name_the_night(nights):
    """The night is named with its date and what changed there, in whatever order the runs are given."""
    shuffled = Random(1).sample(nights, len(nights))
    result = invoke("history", *shuffled, "--gate", "no-change")
    said = "alls less often since 2026-11-20, between runs 19 and 20 (fingerprint changed)"
    assert result.exit_code == 1
    assert f"C{said}" in " ".join(result.stdout.split())
    assert f"gate no-change: failed: c{said}" in result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "…" not in result.stdout


def test_the_job_fails_on_the_night_of_the_change(nights):
    """`no-new-change` is red once, `no-change` from then on; before it, both are green."""
    runs = read_history(nights)
    seen = min(change.seen_at for change in history_of(runs).changes) + 1
    assert DROP <= seen <= DROP + 1
    codes = {
        gate.value: [by_history(history_of(runs[:last]), gate).code for last in (DROP - 1, seen, NIGHTS)]
        for gate in (HistoryGate.NO_NEW_CHANGE, HistoryGate.NO_CHANGE)
    }
    assert codes == {"no-new-change": [0, 1, 0], "no-change": [0, 1, 1]}
    assert invoke("history", *nights[:3]).exit_code == 0


def test_reports_and_results_files_are_runs_too(nights, tmp_path):
    """Results files are paired as the runs are; with a report among them only sums are compared."""
    runs, files = nights[DROP - 8 : DROP + 4], []
    for number, path in enumerate(runs):
        files.append(tmp_path / f"{number:02}.jsonl")
        assert invoke("export", path, "--output", files[-1]).exit_code == 0
    refused = invoke("history", *files)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--baseline OFFICIAL.jsonl or by --rows ROWS" in refused.stderr
    result = invoke("history", *files, "--baseline", files[0], "--subset", "k2_thinking", "--format", "json")
    assert json.loads(result.stdout)["paired"] is True
    report = tmp_path / "first.json"
    invoke("report", runs[0], "--format", "json", "--output", report)
    mixed = json.loads(invoke("history", report, *runs[1:], "--format", "json").stdout)
    assert mixed["paired"] is False
    assert mixed["neighbours"][0]["setup"] == []
    assert "Run 1 does not tell case by case" in mixed["warnings"][0]
    assert mixed["changes"][0]["said"].startswith("calls less often since 2026-11-20, between runs 7 and 8 (")
    assert SCHEMA.problems(mixed) == []
    twice = invoke("history", runs[0], report)
    assert twice.exit_code == 2
    assert "are one run" in twice.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "is no report as"),
        ("[]", "is no report as"),
        ('{"provenance": 1, "requests": {}}', "is no report as"),
        ("x", "is no report as"),
    ],
)
def test_a_file_that_is_no_report_is_refused(nights, tmp_path, content, said):
    """Whatever stands in a .json that is no report is one line on standard error."""
    path = tmp_path / "report.json"
    path.write_text(content)
    result = invoke("history", nights[0], path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_report_with_impossible_numbers_is_refused(nights, tmp_path):
    """Counts below 0, beyond any run, or more valid calls than calls, are no report, nor shares that are none."""
    path = tmp_path / "report.json"
    invoke("report", nights[0], "--format", "json", "--output", path)
    report = json.loads(path.read_text())
    similarity = report["metrics"]["trigger_similarity"]
    for group, name, value in (
        ("metrics", "trigger_similarity", {**similarity, "low": -0.5}),
        ("metrics", "trigger_similarity", {**similarity, "value": 7}),
        ("metrics", "call_surplus", {**similarity, "low": -1.5}),
        ("metrics", "call_surplus", {**similarity, "n": -1}),
        ("verdict", "reason", True),
        ("confusion", "tp", -1),
        ("confusion", "tn", 10**9),
        ("counts", "count_successful_tool_call", 61),
        ("requests", "completed", True),
    ):
        path.write_text(json.dumps({**report, group: {**report[group], name: value}}))
        result = invoke("history", nights[1], path, "--format", "html")
        assert (result.exit_code, "is no report as" in result.stderr) == (2, True), result.stderr


def test_what_is_no_history_is_refused(nights):
    """One run, a run given twice, and several models are errors that say what to do."""
    for paths, said in (
        (nights[:1], "two runs or more"),
        ([nights[0], nights[0]], "is given twice"),
        ([nights[0], nights[0].parent / "none"], "no such directory"),
    ):
        result = invoke("history", *paths)
        assert (result.exit_code, result.stdout) == (2, "")
        assert said in result.stderr
    with pytest.raises(UsageError, match=r"several models: kimi \(5 runs\), other \(1 run\).*--model"):
        history_of([*half_off()[:5], run([True], night=9, model="other")])
    assert "holds no model 'x', only: kimi-k2" in invoke("history", *nights[:2], "--model", "x").stderr


# --- order, gaps and mixtures ------------------------------------------------------------------------


def test_runs_are_in_the_order_of_their_start_or_as_given():
    """Where one run does not say when it began, none is moved, and the page names it."""
    runs = half_off()
    runs[2] = run([True] * 40, night=2, started_at=None)
    history = history_of(runs)
    assert not history.by_start
    assert history.warnings[0].startswith("Run 3 does not say when it began, so the order is the one given")
    assert history_of(list(reversed(half_off()))).runs == half_off()
    hours = [replace(item, started_at=f"2026-11-01T0{hour}:30:00Z") for hour, item in enumerate(half_off())]
    said = history_of(hours).in_words(history_of(hours).changes[0])
    assert said.startswith("calls less often since 2026-11-01 04:30, between runs 4 and 5 (")
    mixed = [run([True], night=1), run([False], started_at="2026-11-01T03:00:00Z"), run([True], night=3)]
    assert history_of(mixed).runs[0].started_at == "2026-11-01T03:00:00Z"


def test_rows_that_are_others_are_not_paired():
    """The same number with another content is another case; one that does not tell its content is neither."""
    before, after = [True] * 40, [False] * 40
    with pytest.raises(DataError, match="no run has an answered case in common with the next"):
        history_of([run(before, content=1), run(after, night=1, content=2)])
    history = history_of([run(before, content=1), run(after, night=1, content=None)])
    assert [change.name for change in history.changes] == ["calls_less"]
    assert history.neighbours[0].cases == 40


def test_other_official_decisions_are_refused():
    """Runs that were held against different official runs are no history."""
    other = run([True] * 4, night=1)
    cases = {key: case._replace(should_call=not case.should_call) for key, case in other.cases.items()}
    with pytest.raises(DataError, match="official decision differs"):
        history_of([run([True] * 4), run([True] * 4, night=1, cases=cases)])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"void": "several models answered under one name: a (1), b (1)"}, "several models answered"),
        ({"completed": 90, "failed": 10}, "90 of 100 requests completed (90.00%)"),
        ({"completed": 0}, "0 of 0 requests completed"),
    ],
)
def test_a_run_that_tells_nothing_is_left_out_of_the_search(changes, said):
    """A run that several models answered, or that lacks answers, is shown, not tested, and cannot pass."""
    history = history_of([*half_off()[:4], run([False] * 40, night=5, **changes)])
    assert history.changes == []
    assert any(said in line for line in history.warnings)
    assert history.tested == [0, 1, 2, 3]


def test_sums_of_other_rows_are_not_compared():
    """Where only sums are known, a run over other rows, or of a part of them, is left out of the search."""
    first = RowsSample(SampleMethod.FIRST, None, 40, 200)
    drawn = RowsSample(SampleMethod.STRATIFIED, 7, 40, 200)
    rows = RowsInfo("rows.jsonl", "ab", synthetic=False, sample=drawn)
    others = [
        replace(rows, sample=first),
        replace(rows, sha256="cd"),
        replace(rows, sample=replace(drawn, seed=8)),
    ]
    runs = [item if night else replace(item, cases=None) for night, item in enumerate(half_off(rows=rows))]
    changed = [(change.since, change.name) for change in history_of(runs).changes]
    assert (4, "calls_less") in changed
    for other, is_tested in zip(others, (False, False, True), strict=True):
        history = history_of(
            [*runs[:-1], replace(runs[-1], rows=rows), run([True] * 40, night=9, rows=other)]
        )
        assert (0 in history.tested) is is_tested
    cut = history_of([*runs[:2], replace(runs[2], complete=False), *runs[3:]])
    assert cut.untested[2] == "only sums are known, and it did not come to its end"
    assert history_of([replace(item, rows=others[0]) for item in half_off()]).tested == [*range(6)]


def test_an_incomplete_last_run_cannot_pass_the_gate(tmp_path):
    """Where the last run failed too often, or was interrupted, the exit code is 3."""
    rows = [make_row(f"question {number}") for number in range(10)]
    first = write_run(tmp_path / "first", rows, [calling()] * 10)
    failing = [failed(number) for number in range(10)]
    later = {"started_at": "2026-12-01T00:00:00+00:00"}
    for last in (
        write_run(tmp_path / "failing", rows, [None] * 10, failing, **later),
        write_run(tmp_path / "cut", rows, [calling()] * 10, complete=False, **later),
    ):
        result = invoke("history", first, last, "--gate", "no-change")
        assert (result.exit_code, "inconclusive: the last run" in result.stderr) == (3, True)


# --- formats -----------------------------------------------------------------------------------------


def test_json_is_as_published(nights):
    """The schema describes what is printed, and accepts nothing else."""
    printed = json.loads(invoke("history", *nights[DROP - 4 : DROP + 1], "--format", "json").stdout)
    assert SCHEMA.problems(printed) == []
    assert SCHEMA.accepted_changes(printed, "before: *", "after: *") == []
    assert printed["changes"]
    assert printed["neighbours"][2]["setup"] == [
        {"name": "system_fingerprints", "before": ["fp_a"], "after": ["fp_b"]}
    ]


def test_hostile_names_harm_no_format():
    """Whatever a vendor calls itself makes no markup, no cell and no control character, in any format."""
    plain = history_of([run([True] * 30), run([False] * 30, night=1, setup={"model": "x"})])
    for text in HOSTILE:
        hostile = {"source": text, "model": text, "subset": text, "warnings": (text,)}
        history = history_of(
            [
                run([True] * 30, setup={"model": text}, **hostile),
                run([False] * 30, night=1, setup={text: [text]}, **hostile),
            ]
        )
        assert SCHEMA.problems(json.loads(dump_history(history))) == []
        shown = {name: BY_NAME[name].render(HistoryReport(history)) for name in ("text", "markdown", "html")}
        assert "\x1b" not in "".join(shown.values())
        allowed = {
            kind for kind, _, _ in structure_of_markdown(BY_NAME["markdown"].render(HistoryReport(plain)))
        }
        assert {kind for kind, _, _ in structure_of_markdown(shown["markdown"])} <= allowed | {"softbreak"}
        assert not any(tag == "script" for tag, _ in tags_of_html(shown["html"]))


def test_results_lines_without_a_time_keep_the_order_given(tmp_path):
    """A log of which no line says when it was made is a run all the same."""
    files = []
    for name, answer in (("a", calling()), ("b", answering())):
        files.append(tmp_path / f"{name}.jsonl")
        lines = [results_line(number, answer, last_run_at=None) for number in range(1, 30)]
        files[-1].write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = invoke("history", *files, "--baseline", files[0], "--format", "json")
    printed = json.loads(result.stdout)
    assert printed["order"] == "given"
    assert [change["name"] for change in printed["changes"]] == ["calls_less", "agrees_less"]
    assert printed["changes"][0]["since"] is None
    assert "calls less often, between runs 1 and 2" in printed["changes"][0]["said"]
