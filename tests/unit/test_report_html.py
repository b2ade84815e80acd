"""The HTML report: one file, complete without the network, in which no vendor can write."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_runs import answering, calling, completion, failed, make_row, write_run
from support.commands import invoke
from support.hostile_summaries import HOSTILE, plain_summary, with_texts
from support.rendered import render_html, render_markdown, render_text

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.printable import amount
from k2_verifier_adapter.core.redaction import redact_summary
from k2_verifier_adapter.formats.runs import choose_run, read_run
from k2_verifier_adapter.offline.failed_cases import failed_cases_of_run, redacted_cases
from k2_verifier_adapter.offline.stored import judge_run, summary_of
from k2_verifier_adapter.reports.elements import Markup, element
from k2_verifier_adapter.reports.failed_cases import Call, FailedCase, Turn
from k2_verifier_adapter.reports.json_report import report_as_json
from k2_verifier_adapter.reports.junit import render_junit
from k2_verifier_adapter.reports.marked_text import arguments_of_call, cut, marked
from k2_verifier_adapter.reports.page import MAX_CASE_BYTES, fit_cases
from k2_verifier_adapter.reports.wording import bounds

VOID = {"meta", "input", "wbr"}


class Page(HTMLParser):
    """A page, taken apart: its tags, its texts, its scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open, self.scripts = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """Close the tag that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Note a text."""
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def words(self):
        """All that can be read without a script."""
        return "".join(self.texts)

    @property
    def cases(self):
        """The failed cases, as the page's script gets them."""
        return json.loads(self.scripts[0])

    @property
    def shape(self):
        """The tags with their classes and ids."""
        return [(tag, attrs.get("class"), attrs.get("id")) for tag, attrs in self.tags]


def hostile_case(text, row=2):
    """Make a failed case in which a text stands wherever a foreign one can."""
    failure = Failure(FailureClass.WRONG_TYPE, text, call=0, tool=text, path=f"$.{text}", keyword="type")
    arguments = arguments_of_call(json.dumps({text: [text]}), [f"$.{text}"])
    return FailedCase(
        row=row,
        data_index=row + 1,
        repeat=0,
        failures=(failure,),
        ended=f"finish_reason {text}",
        official=f"calls (finish_reason {text})",
        turns=(Turn(text, text), Turn("user", text)),
        turns_before=3,
        texts={"content": marked(text, [text[:3]])},
        calls=(Call(text, text, arguments),),
        raw=text,
        official_calls=(Call(text, text, arguments),),
        effort="0.10 s",
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_adds_no_element(text):
    """Whatever a vendor writes, the elements are those of a harmless page, and so are the scripts."""
    page = Page(render_html(with_texts(text), [hostile_case(text)]))
    harmless = Page(render_html(with_texts("x"), [hostile_case("x")]))
    # A tool without a name is none to choose.
    chosen = [[each for each in shape if each[0] != "option"] for shape in (page.shape, harmless.shape)]
    assert chosen[0] == chosen[1]
    assert len(harmless.shape) - len(page.shape) == (not text)
    assert page.scripts[1:] == harmless.scripts[1:]
    assert len(page.scripts) == 2


@settings(max_examples=40, deadline=None)
@given(st.text(st.one_of(st.sampled_from("<>&\"'/=`!-]["), st.characters(exclude_categories=[]))))
def test_any_text_comes_back_as_it_was(text):
    """The embedded cases are JSON in which nothing can end the script, and hold the text unchanged."""
    rendered = render_html(with_texts("x"), [hostile_case(text)])
    rendered.encode()
    page = Page(rendered)
    assert "<" not in page.scripts[0]
    assert page.cases[0]["failures"][0]["class"] == "wrong_type"
    if text and text.isprintable():
        assert page.cases[0]["raw"] == text


def test_an_element_escapes_all_but_markup():
    """A text and an attribute are escaped; markup is not escaped twice."""
    inner = element("b", "<i>", title='"><script>')
    assert inner == '<b title="&quot;&gt;&lt;script&gt;">&lt;i&gt;</b>'
    assert element("p", inner, None, hidden=True, class_=None) == f"<p hidden>{inner}</p>"
    assert isinstance(inner, Markup)


def test_the_policy_allows_this_script_and_style_alone():
    """The page forbids all loading; the digests are those of what stands in it."""
    rendered = render_html(plain_summary(), [hostile_case("x")])
    policy = next(attrs["content"] for tag, attrs in Page(rendered).tags if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    for kind in ("script", "style"):
        inline = re.findall(f"<{kind}>(.*?)</{kind}>", rendered, re.DOTALL)
        assert len(inline) == 1
        digest = base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(
        r"style=|\son\w+=\"|src=|@import|url\(", re.sub(r"(?s)<script.*?</script>", "", rendered)
    )


def test_all_links_stay_in_the_page():
    """A link leads to an anchor of the page or to one of its cases."""
    page = Page(render_html(with_texts("x"), [hostile_case("x")]))
    anchors = {f"#{attrs['id']}" for _, attrs in page.tags if "id" in attrs}
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links
    assert {link for link in links if not link.startswith("#case-")} <= anchors
    assert {link for link in links if link.startswith("#case-")} == {"#case-2"}


def test_the_page_can_be_found_through():
    """Landmarks, one first heading, headings without gaps, heads of tables, names of pictures."""
    page = Page(render_html(with_texts("x"), [hostile_case("x")]))
    tags = [tag for tag, _ in page.tags]
    for landmark in ("header", "nav", "main", "h1"):
        assert tags.count(landmark) == 1
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(behind - before <= 1 for before, behind in pairwise(levels))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in page.tags:
        if tag == "section":
            assert attrs["aria-labelledby"] in ids
        if tag == "svg":
            assert attrs["aria-hidden"] == "true"
        if tag == "th":
            assert attrs["scope"] in ("col", "row")
    assert next(attrs["lang"] for tag, attrs in page.tags if tag == "html") == "en"


ROWS = [
    make_row("first", call=True, official_tool_calls=[{"function": {"name": "weather", "arguments": "{}"}}]),
    make_row("second", call=False, history=[{"role": "user", "content": str(n)} for n in range(9)]),
    make_row("third", call=True),
    make_row("fourth", call=True),
    make_row("fifth", call=True),
    make_row("sixth", call=False),
]
LEAK = "I call. <|tool_calls_section_begin|>x"
ANSWERS = [
    calling('{"city": 7}'),
    calling(),
    calling('{"city": "Os'),
    completion({"role": "assistant", "content": LEAK, "reasoning_content": "hm"}, "stop"),
    None,
    answering(),
]


@pytest.fixture
def run(tmp_path):
    """A run in which each case but the last fails in its own way."""
    return write_run(tmp_path / "run", ROWS, ANSWERS, [failed(4)])


def cases_of(run, redacted_tools=None):
    """Give the failed cases of a run as the page holds them."""
    stored = read_run(choose_run(run))
    cases = failed_cases_of_run(stored, judge_run(stored))
    if redacted_tools is not None:
        cases = redacted_cases(cases, redacted_tools)
    return [case.as_json(1000) for case in cases]


def test_a_failed_case_shows_what_was_asked_answered_and_wrong(run):
    """Each failed case has its last turns, its answer, the official one, and the violated place marked."""
    wrong, extra, broken, leaked, refused = cases_of(run)
    assert [case["row"] for case in (wrong, extra, broken, leaked, refused)] == [0, 1, 2, 3, 4]
    assert wrong["classes"] == ["wrong_type"]
    assert wrong["calls"][0]["arguments"] == ['{\n  "city": ', ["7"], "\n}"]
    assert wrong["official_calls"][0]["name"] == "weather"
    assert wrong["turns"] == [["user", "first"]]
    assert json.loads(wrong["raw"]) == ANSWERS[0]["choices"][0]
    assert extra["before"] == 6
    assert [text for _, text in extra["turns"]] == ["6", "7", "8", "second"]
    assert extra["official"] == "does not call (finish_reason stop)"
    assert broken["calls"][0]["arguments"] == ['{"city": ', ['"Os']]
    assert leaked["texts"]["content"] == ["I call. ", ["<|tool_calls_section_begin|>"], "x"]
    assert leaked["texts"]["reasoning_content"] == ["hm"]
    assert refused["failures"] == [{"class": "http_5xx", "detail": "HTTP 503: overloaded"}]
    assert refused["effort"] == "HTTP 503, 1.50 s, 3 attempts"


def test_redacted_cases_hold_no_word(run):
    """With --redact, class, place and keyword stay, and everything that was said goes."""
    cases = cases_of(run, redacted_tools=["other", "weather"])
    assert len(cases) == 5
    assert cases[0]["failures"] == [
        {
            "class": "wrong_type",
            "detail": "(redacted)",
            "call": 0,
            "tool": "tool 2",
            "path": "$.*",
            "keyword": "type",
        }
    ]
    text = json.dumps(cases)
    for word in ("first", "city", "weather", "overloaded", "I call", "turns", "raw"):
        assert word not in text


@pytest.mark.parametrize(("text", "number"), [("x", 3_000), ("字", 2_000), ("<", 2_000)])
def test_two_thousand_long_cases_stay_below_3_megabytes(text, number):
    """However long the texts are, and in whatever script, the page stays small and says what is cut."""
    case = hostile_case(text * 5_000)
    cases = [replace(case, row=row, data_index=row + 1) for row in range(number)]
    rendered = render_html(with_texts("x"), cases)
    assert len(rendered.encode()) < 3_000_000
    assert "the run itself holds everything" in rendered
    assert len(Page(rendered).cases) >= 500


def test_cases_that_fit_are_not_cut():
    """A few cases keep their texts whole, up to 4,000 characters."""
    shown, note = fit_cases([hostile_case("x" * 3_900)])
    assert shown[0]["raw"] == "x" * 3_900
    assert "4,000" in note
    assert MAX_CASE_BYTES < 3_000_000


@pytest.mark.parametrize(
    ("arguments", "paths", "expected"),
    [
        ('{"a": {"b": [1, 2]}}', ["$.a.b[1]"], "2"),
        ('{"a": {"b": [1, 2]}}', ["$.a.b"], "[12]"),
        ('{"a": 1}', ["$"], "{}"),
        ('{"a": 1}', ["$.missing"], ""),
        ('{"a": 1} and', [], "and"),
        ("{'a': 1}", [], "'a':1}"),
        ("", [], ""),
        ({"a": 1}, ["$.a"], "1"),
        (None, [], ""),
        ("[" * 5_000, [], "[" * 5_000),
    ],
)
def test_the_violated_place_is_marked(arguments, paths, expected):
    """The value at the path is marked; of what is no JSON, all from where it stops being JSON."""
    pieces = arguments_of_call(arguments, paths)
    assert re.sub(r"\s", "", "".join(text for text, is_marked in pieces if is_marked)) == expected


@given(st.lists(st.tuples(st.text(min_size=1), st.booleans())), st.integers(1, 50))
def test_a_cut_text_counts_what_it_leaves_out(pieces, limit):
    """Shortened or not, what is shown and what is counted add up, and the first mark is in it."""
    length = sum(len(text) for text, _ in pieces)
    shown = cut(pieces, limit)
    if length <= limit:
        assert shown == pieces
        return
    notes = [text for text, _ in (shown[0], shown[-1]) if re.fullmatch(r"\n?… \(.*\)\n?", text)]
    counted = sum(int(re.search(r"[\d,]+", note)[0].replace(",", "")) for note in dict.fromkeys(notes))
    assert counted >= length - limit
    if any(is_marked for _, is_marked in pieces):
        assert any(is_marked for _, is_marked in shown)


def test_all_formats_carry_the_same_numbers():
    """Text, JSON, Markdown, JUnit and HTML of one summary show the same value of every metric."""
    summary = plain_summary()
    report = report_as_json(summary)
    others = {
        "text": render_text(summary),
        "markdown": render_markdown(summary),
        "html": Page(render_html(summary, [])).words,
    }
    junit = render_junit(summary)
    for metric in summary.metrics:
        assert report["metrics"][metric.name]["value"] == metric.value
        written = "undefined" if metric.value is None else repr(metric.value)
        assert f'name="{metric.name}" value="{written}"' in junit
        for name, text in others.items():
            assert amount(metric, metric.value) in text, (name, metric.name)
            if metric.interval is not None:
                said = unescape(text).replace("\u2060", "")
                assert bounds(metric.name, metric.interval) in said, (name, metric.name)
    for text in (*others.values(), junit):
        assert f"{summary.total:,} total, {summary.completed:,} completed" in text or "of 6" in text
        for entry in report["failures"]:
            assert entry["class"] in text.replace("&#8288;", "")


@pytest.mark.parametrize(
    ("form", "begins"),
    [
        ("html", "<!DOCTYPE html>"),
        ("markdown", "## K2 vendor verification"),
        ("junit", "<?xml version"),
        ("json", "{"),
    ],
)
def test_the_command_prints_and_writes_every_format(run, tmp_path, form, begins):
    """Each format owns standard output, or goes to a file as it is; the exit code is that of the gate."""
    printed = invoke("report", run, "--format", form, "--gate", "strict")
    assert printed.exit_code == 3
    assert printed.stdout.startswith(begins)
    file = tmp_path / "report"
    assert invoke("report", run, "--format", form, "--gate", "strict", "--output", file).exit_code == 3
    assert file.read_bytes() == printed.stdout_bytes
    redacted = invoke("report", run, "--format", form, "--redact").stdout
    assert "I call" not in redacted
    assert "overloaded" not in redacted


def test_a_terminal_is_not_filled_with_html(run, monkeypatch):
    """On a terminal, --format html asks for a file."""
    monkeypatch.setattr("k2_verifier_adapter.cli.output.is_terminal", lambda: True)
    refused = invoke("report", run, "--format", "html")
    assert refused.exit_code == 2
    assert "--output report.html" in refused.stderr


def test_a_redacted_page_says_so():
    """The reader is told that words are left out."""
    assert "Redacted: what may repeat" in Page(render_html(redact_summary(plain_summary()), [])).words


def test_the_summary_of_the_page_is_that_of_the_run(run):
    """The page of a run shows the run's own failures, and every failed case can be reached."""
    stored = read_run(choose_run(run))
    page = Page(render_html(summary_of(stored), failed_cases_of_run(stored, judge_run(stored))))
    rows = {case["row"] for case in page.cases}
    assert rows == {0, 1, 2, 3, 4}
    linked = {
        int(attrs["href"][6:]) for tag, attrs in page.tags if attrs.get("href", "").startswith("#case-")
    }
    assert linked == rows
