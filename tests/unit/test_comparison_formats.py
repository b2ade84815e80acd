"""Text, JSON, Markdown and HTML of one comparison: the same numbers, and no word of a vendor's but as text."""

import json
import re
from itertools import pairwise

import pytest
from support.compared import (
    crowd,
    structure_of_markdown,
    tags_of_html,
    varied,
    words_of_html,
    words_of_markdown,
)
from support.hostile_summaries import HOSTILE
from support.rendered import comparison_as_html, comparison_as_markdown, comparison_as_text

from k2_verifier_adapter.core.comparison.compare import not_worse
from k2_verifier_adapter.core.redaction import REDACTED
from k2_verifier_adapter.reports.charts import picture
from k2_verifier_adapter.reports.comparison_document import p_value
from k2_verifier_adapter.reports.comparison_json import dump_comparison
from k2_verifier_adapter.reports.document import Axis, Column, Interval, Kind, Table
from k2_verifier_adapter.reports.markdown import MAX_BYTES

MAX_PAGE = 3_000_000


@pytest.fixture(scope="module")
def comparisons(tmp_path_factory):
    """Comparisons of every sort, by name."""
    return varied(tmp_path_factory.mktemp("varied"))


def said_of(comparison, found=None):
    """Give what each format for people says, as words with single spaces."""
    return {
        "text": " ".join(comparison_as_text(comparison, found).split()),
        "markdown": words_of_markdown(comparison_as_markdown(comparison, found)),
        "html": words_of_html(comparison_as_html(comparison, found)),
    }


def share(value):
    """Write a share as reports do."""
    return "undefined" if value is None else f"{value:.2%}"


def signed(value):
    """Write a difference of shares as reports do."""
    return "0.00" if value == 0 else f"{100 * value:+.2f}"


def p_of(value):
    """Write a p-value as reports do."""
    return "undefined" if value is None else "<0.0001" if value < 0.0001 else f"{value:.4f}"


def difference_of(found):
    """Write a difference with its interval."""
    if found is None:
        return "undefined"
    return f"{signed(found['difference'])} {signed(found['low'])} to {signed(found['high'])}"


def rows_of_json(value):
    """Write the rows of all tables that must stand in every format, from the JSON comparison alone."""
    for run in value["runs"]:
        metrics, (best, worst) = run["metrics"], run["rank"].values()
        similarity, surplus = metrics["trigger_similarity"], metrics["call_surplus"]
        yield f"{run['run']} {best if best == worst else f'{best}-{worst}'} "
        cells = [share(similarity["value"])]
        if similarity["low"] is not None:
            cells.append(f"{share(similarity['low'])} - {share(similarity['high'])}")
        cells.append("undefined" if surplus["value"] is None else f"{signed(surplus['value'])}%")
        yield " ".join(cells)
        yield share(metrics["schema_accuracy"]["value"])
        yield run["verdict"]["status"]
        yield from (found["name"] for found in run["verdict"]["differences"])
        seconds = [f"{value:,.2f}" for value in run["latency_s"].values() if value is not None]
        spent = run["spent"]
        tokens = (spent[name] for name in ("requests", "prompt_tokens", "completion_tokens"))
        yield " ".join((run["run"], *seconds, *(f"{count:,}" for count in tokens)))
    for row in value["upstream_table"]:
        similarity = "-" if row["model"] == "official" else share(row["trigger_similarity"])
        counts = f"{row['count_finish_reason_tool_calls']} {row['count_successful_tool_call']}"
        yield f"{similarity} {counts} {share(row['schema_accuracy'])}"
    for pair in value["pairs"]:
        name = f"{pair['first']} - {pair['second']}"
        similarity, agreement = pair["trigger_similarity"], pair["agreement"]
        p_value = None if similarity is None else similarity["p_value_of_all_pairs"]
        yield f"{name} {difference_of(similarity)} {p_of(p_value)} {pair['better'] or 'not shown'}"
        counts = [agreement[key] for key in ("first_better", "second_better", "ties")]
        shown = " ".join(map(str, [pair["cases"]["completed_by_both"], *counts]))
        yield f"{name} {shown} {p_of(agreement['p_value_of_all_pairs'])}"
        validity = pair["validity"]
        both = sum(validity[key] for key in ("first_better", "second_better", "ties"))
        counts = f"{validity['first_better']} {validity['second_better']}"
        p_value = p_of(validity["p_value_of_all_pairs"])
        yield f"{name} {both} {difference_of(pair['schema_accuracy'])} {counts} {p_value}"


NAMES = ("two", "three", "alike", "undefined", "failed", "synthetic", "failing first")


@pytest.mark.parametrize("name", NAMES)
def test_every_format_says_the_numbers_of_the_json(comparisons, name):
    """Each row that can be made from the JSON stands, cell by cell, in text, Markdown and HTML."""
    rows = list(rows_of_json(json.loads(dump_comparison(comparisons[name]))))
    assert len(rows) >= 8
    for form, said in said_of(comparisons[name]).items():
        assert [row for row in rows if row not in said] == [], form


@pytest.mark.parametrize("name", ["two", "three"])
def test_every_format_says_which_cases_differ(comparisons, name):
    """The cases of each kind of difference, and what only one run shows, are those of the JSON."""
    value = json.loads(dump_comparison(comparisons[name]))
    said = said_of(comparisons[name])
    for pair in value["pairs"]:
        assert pair["changes"]
        for change in pair["changes"]:
            states = [change[side].replace("_", " ") for side in ("first", "second")]
            official = "call" if change["official_calls"] else "no call"
            row = " ".join([official, *states, str(change["count"])])
            cases = ", ".join(map(str, change["data_index"]))
            for form in ("markdown", "html"):
                assert f"{row} {cases}" in said[form], form
            assert f"{row} {', '.join(map(str, change['data_index'][:5]))}" in said["text"]
            for side in ("first", "second"):
                for kind, count in list(change[f"failures_of_{side}_only"].items())[:3]:
                    assert all(f"{kind} {count}" in words for words in said.values())


def test_every_format_says_what_was_done_differently(comparisons):
    """Settings stand with the value of each run, as does every warning."""
    comparison = comparisons["three"]
    said = said_of(comparison)
    for words in said.values():
        assert 'parameters.stop A, B: -; C: ["x"]' in words
        assert "endpoint A, C: api.example.com; B: b.example.com" in words
        assert all(" ".join(warning.split()) in words for warning in comparison.warnings)
        assert all(standing.participant.source.split("/")[-1] in words for standing in comparison.standings)


@pytest.mark.parametrize("name", ["two", "alike", "undefined", "synthetic"])
def test_every_format_says_the_outcome_of_the_gate(comparisons, name):
    """The differences against the margin, their results and the verdict are those of the JSON."""
    comparison = comparisons[name]
    found = not_worse(comparison, 0.05)
    value = json.loads(dump_comparison(comparison, found))["not_worse"]
    assert value["margin"] == 0.05
    for form, said in said_of(comparison, found).items():
        word = value["status"]
        assert f"A against B: {word if form == 'html' or word == 'none' else word.upper()}" in said
        for check in value["checks"]:
            shown = difference_of(None if check["low"] is None else check)
            result = "-" if value["status"] == "none" else check["status"]
            assert f"{check['metric']} {shown} -5.00 {result}" in said, form
    assert json.loads(dump_comparison(comparison))["not_worse"] is None
    assert all("A against B" not in said for said in said_of(comparison).values())


def test_p_values_are_never_rounded_to_the_edge():
    """A p-value says on which side of 0.05 it lies, and is never shown as 0."""
    shown = [p_value(value) for value in (None, 0.0, 0.00009, 0.04996, 0.05, 0.05004, 0.049999999999, 1.0)]
    assert shown == [
        "undefined",
        "<0.0001",
        "<0.0001",
        "0.049960",
        "0.05",
        "0.050040",
        "0.049999999999",
        "1.0000",
    ]


def test_a_table_does_without_its_spare_columns():
    """A column that can go leaves the others with their kinds and cells."""
    run, model, value = (
        Column("run", Kind.NAME),
        Column("model", Kind.FOREIGN, spare=True),
        Column("value", Kind.NUMBER),
    )
    table = Table("runs", (run, model, value), (("A", "kimi", "1"), ("B", "k", "2")), ranked=True)
    narrow = Table("runs", (run, value), (("A", "1"), ("B", "2")), ranked=True)
    assert table.without_spare_columns() == narrow


@pytest.fixture(scope="module")
def harmless():
    """A comparison in which a harmless text stands wherever a foreign one can."""
    return crowd(3, 12, text="x")


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_forges_nothing(text, harmless):
    """Whatever a vendor is called, headings, rows, links and elements are those of a harmless page."""
    hostile = crowd(3, 12, text=text or " ")
    markdown, page = comparison_as_markdown(hostile), comparison_as_html(hostile)
    page.encode(errors="backslashreplace")
    assert structure_of_markdown(markdown) == structure_of_markdown(comparison_as_markdown(harmless))

    def shape(tags):
        return [(tag, attrs.get("class"), attrs.get("id")) for tag, attrs in tags if tag != "wbr"]

    tags = tags_of_html(page)
    assert shape(tags) == shape(tags_of_html(comparison_as_html(harmless)))
    assert not {"script", "img", "iframe", "form", "link", "base"} & {tag for tag, _ in tags}
    assert all(attrs.get("href", "#").startswith("#") for _, attrs in tags)
    assert not any(name.startswith("on") for _, attrs in tags for name in attrs)


def test_hostile_text_fits_a_terminal():
    """Names and sources of any sort leave the text printable and within 80 columns."""
    for text in HOSTILE:
        lines = comparison_as_text(crowd(3, 12, text=text)).splitlines()
        assert max(map(len, lines)) <= 80
        assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("runs", "text"),
    [(2, "@" * 900), (10, ""), (10, "@#" * 400), (30, "字🙂" * 300), (40, "\U000e0001" * 500)],
)
def test_markdown_fits_a_comment(runs, text):
    """However many runs there are, and whatever they are called, the page stays below GitHub's limit."""
    rendered = comparison_as_markdown(crowd(runs, 60, text=text))
    assert len(rendered.encode()) <= MAX_BYTES
    assert "### Leaderboard" in rendered
    assert "### Trigger similarity, pair by pair" in rendered
    if runs > 10:
        assert "… and " in rendered


def test_a_large_page_stays_small():
    """Ten runs over 2,000 cases of which most differ make a page below 3 MB that lists the cases."""
    page = comparison_as_html(crowd(10, 2_000))
    assert len(page.encode()) < MAX_PAGE
    assert page.count("<details") >= 45 + 10


def test_long_names_and_many_runs_stay_within_the_page():
    """What vendors choose is shortened, and what there is too much of is counted."""
    page = comparison_as_html(crowd(16, 300, text="<&'\">" * 2_000, settings=300))
    assert len(page.encode()) < MAX_PAGE
    words = words_of_html(page)
    assert words.count("and 20 more: see --format json") == 4
    assert "and 202 more: see --format json" in words


def test_cases_are_left_out_until_they_fit(monkeypatch):
    """Where all cases that differ take too much room, fewer of each kind are listed, and the others counted."""
    monkeypatch.setattr("k2_verifier_adapter.reports.page.MAX_BYTES", 110_000)
    comparison = crowd(4, 2_000, first_case=10**15)
    page = comparison_as_html(comparison)
    assert len(page.encode()) < 110_000
    listed, left = re.search(r"((?: 1\d{15},)+) and (\d+) more ", words_of_html(page)).groups()
    counts = {change.count for pair in comparison.pairs for change in pair.changes}
    assert listed.count(",") + int(left) in counts


def test_an_axis_places_its_ends_at_the_edges():
    """The low end stands at 0 % of the width, the high one at 100 %, and all else in proportion."""
    axis = Axis(-0.2, 0.2, ("-20", "+20"))
    drawn = tags_of_html(picture(Interval(0.1, low=-0.2, high=0.2, threshold=-0.1), axis))
    lines = {attrs["class"]: (attrs["x1"], attrs["x2"]) for tag, attrs in drawn if tag == "line"}
    assert lines["interval"] == lines["track"] == ("0.000%", "100.000%")
    assert (lines["zero"][0], lines["threshold"][0]) == ("50.000%", "25.000%")
    assert [attrs["cx"] for tag, attrs in drawn if tag == "circle"] == ["75.000%"]
    bar = tags_of_html(picture(0.25, Axis(0, 1)))
    assert [attrs["width"] for tag, attrs in bar if tag == "rect"] == ["25.00%"]


@pytest.mark.parametrize("name", ["two", "three", "synthetic"])
def test_everything_drawn_lies_inside_its_plot(comparisons, name):
    """Axes are wide enough for every interval, threshold and margin."""
    comparison = comparisons[name]
    found = not_worse(comparison, 0.35) if len(comparison.standings) == 2 else None
    drawn = [
        attrs
        for tag, attrs in tags_of_html(comparison_as_html(comparison, found))
        if tag in ("line", "circle", "rect")
    ]
    places = [
        attrs[key] for attrs in drawn for key in ("x", "x1", "x2", "cx") if attrs.get(key, "").endswith("%")
    ]
    assert len(places) > 15
    assert all(-0.001 <= float(place.rstrip("%")) <= 100.001 for place in places)


def test_the_page_works_without_a_script_and_loads_nothing(comparisons):
    """Its policy allows one style sheet by its digest and nothing else; the same comparison, the same bytes."""
    page = comparison_as_html(comparisons["three"])
    (policy,) = re.findall(r'content="(default-src[^"]*)"', page)
    assert re.fullmatch(
        r"default-src &#x27;none&#x27;; style-src &#x27;sha256-[\w+/=]+&#x27;; "
        r"base-uri &#x27;none&#x27;; form-action &#x27;none&#x27;",
        policy,
    )
    assert "<script" not in page
    assert not re.search(r"url\(|@import|https?://", page)
    assert page == comparison_as_html(comparisons["three"])


def test_the_page_can_be_used_without_eyes(comparisons):
    """Headings go down one step at a time, tables have heads, links have targets."""
    page = comparison_as_html(comparisons["three"])
    tags = tags_of_html(page)
    headings = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(headings))
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in tags:
        assert attrs.get("href", "#main")[1:] in ids
        assert attrs.get("aria-labelledby", "main") in ids
    # What is drawn stands beside it as a number.
    assert all(attrs["aria-hidden"] == "true" for tag, attrs in tags if tag == "svg")
    assert sum(tag == "circle" for tag, _ in tags) == 3 + 3
    assert sum(attrs.get("class") == "threshold" for _, attrs in tags) == 3 + 1


@pytest.mark.parametrize("name", ["undefined", "failed", "synthetic"])
def test_what_is_not_known_is_not_drawn(comparisons, name):
    """An undefined value has no row in a plot, and synthetic rows no threshold."""
    page = comparison_as_html(comparisons[name])
    drawn = [attrs.get("class") for tag, attrs in tags_of_html(page) if tag in ("line", "circle", "rect")]
    assert (drawn == []) == (name != "synthetic")
    assert not {"threshold", "band"} & set(drawn)


def test_redacted_names_are_shown_as_they_are():
    """A run whose parameters were redacted is compared and shown as redacted."""
    comparison = crowd(2, 12, text=REDACTED)
    for said in said_of(comparison).values():
        assert f"{REDACTED}kimi{REDACTED}" in said.replace(" ", "")
