"""The report as Markdown: it says what the summary says, and vendors cannot write in it."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from support.hostile_summaries import HOSTILE, plain_summary, with_texts
from support.rendered import render_markdown

from k2_verifier_adapter.core.printable import amount, printable
from k2_verifier_adapter.core.redaction import redact_summary
from k2_verifier_adapter.core.verdict import Requirements, strict_verdict
from k2_verifier_adapter.reports.markdown import MAX_BYTES, plain

PARSER = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough")
JOINER = "\u2060"
GITHUB_LINKS = re.compile(r"(?i)@\w|#\d|\bgh-\d|https?:|ftp:|mailto:|www\.|\b[0-9a-f]{7,40}\b")


def tokens_of(text):
    """Parse Markdown into one flat list of tokens."""
    found = []
    for token in PARSER.parse(text):
        found += [token, *(token.children or [])]
    return found


def structure(text):
    """List everything but the words."""
    words = ("text", "text_special")
    return [(token.type, token.tag, token.attrs) for token in tokens_of(text) if token.type not in words]


def words_of(text):
    """Give the words that a reader sees, without the invisible joiners."""
    return "".join(token.content for token in tokens_of(text) if token.type == "text").replace(JOINER, "")


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_forges_nothing(text):
    """Whatever a vendor writes, headings, rows, links and tags are those of a harmless report."""
    assert structure(render_markdown(with_texts(text))) == structure(render_markdown(with_texts("x")))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*"|`<>[]()!*_~#@:-+=.\\&$\n\r\t x1/", "http", "www.", "<b>"])).map("".join))
def test_any_text_stays_a_text(text):
    """In a cell, a paragraph or a quote, a text is one run of words that reads as it was."""
    shown = printable(text).strip()
    assert words_of(plain(text)) == re.sub(" +(?=$)", "", shown)
    cell = f"| head |\n|---|\n| {plain(text)} |\n"
    assert structure(cell) == structure("| head |\n|---|\n| x |\n")
    assert words_of(cell) == f"head{words_of(plain(text))}"
    assert not any(token.type == "link_open" for token in tokens_of(f"> {plain(text)}"))


@pytest.mark.parametrize("text", HOSTILE)
def test_nobody_is_mentioned_and_nothing_is_linked(text):
    """What GitHub turns into mentions, references and links after Markdown is broken up, and reads alike."""
    escaped = plain(text)
    seen = "".join(token.content for token in tokens_of(escaped) if token.type == "text")
    assert not GITHUB_LINKS.search(seen)
    assert words_of(escaped) == printable(text).strip()


def test_the_source_reads_well():
    """Who reads the source meets words, numbers, times and digests as they are, and no numbered characters."""
    digest = "56fdc25f92807ffb985068a545210dd2a45a1afc28aeaaeea292bcdfd815b9e5"
    for text in (
        "a - b: 8 + 3 > 5 {}",
        "2026-11-28T08:47:30+00:00",
        f"rows (sha256 {digest})",
        "functions.f:0",
    ):
        assert plain(text) == text
    assert plain("+3.1%", starts=False) == "+3.1%"
    assert plain("-13.64% <think> a|b *c* [d]") == r"\-13.64% \<think> a\|b \*c\* \[d\]"
    for text in ("+1", "1. one", "1) one", "> quote", "- item", "= head"):
        assert structure(plain(text)) == structure("x")
    assert plain(":smile: :100: :30:") == "&#58;smile: &#58;100: :30:"
    assert "&#" not in render_markdown(plain_summary())


def test_the_verdict_comes_first_and_the_numbers_follow():
    """A reader meets verdict, both rules and every metric with its interval, in this order."""
    summary = plain_summary()
    text = render_markdown(summary)
    words = words_of(text)
    assert text.startswith("## K2 vendor verification: kimi-k2, k2_thinking\n\n**")
    assert "Verdict: INCONCLUSIVE" in text.split("\n\n")[1]
    assert "upstream's rule: not met" in words
    assert "The official model against itself: lowest 75.81%, mean 76.00%; this vendor: " in words
    for metric in summary.metrics:
        assert f"{metric.name}{amount(metric, metric.value)}" in words
        if metric.interval is not None:
            assert f"{metric.interval.low:.2%}" in words
    assert "truncated_json" in text
    assert "2026-11-22T10:00:00+00:00" in words.replace(JOINER, "")


def test_a_void_verdict_says_why():
    """Without a verdict the reason stands in its place, and the thresholds are named."""
    summary = plain_summary()
    void = strict_verdict(summary.tally, Requirements(0.73), void_reason="several models answered")
    text = render_markdown(replace(summary, verdict=void))
    assert "Verdict: none** (several models answered)" in text
    assert "not applied: 73%" in text


@pytest.mark.parametrize("text", ["|" * 1000, "\x00" * 1000, "字" * 1000, "🙂" * 1000, "\U000e0001" * 1000])
def test_it_fits_a_comment(text):
    """However much a vendor writes, the report stays below GitHub's limit, and says what is left out."""
    summary = with_texts(text)
    counts = next(iter(summary.tally.tools.by_name.values()))
    tools = {f"{number}{text}": counts for number in range(3000)}
    many = replace(
        summary,
        warnings=summary.warnings * 50,
        findings=summary.findings * 50,
        facts=replace(summary.facts, parameters={f"{number}{text}": text for number in range(500)}),
        tally=replace(
            summary.tally,
            tools=replace(summary.tally.tools, by_name=tools),
            others_detail={f"{number}{text}": 1 for number in range(500)},
        ),
    )
    rendered = render_markdown(many)
    assert len(rendered.encode()) <= MAX_BYTES
    assert "… and " in rendered
    assert "### Failure classes" in rendered


def test_redaction_reaches_markdown():
    """A redacted report holds no word of tools, answers or parameters, and says so."""
    summary = redact_summary(replace(with_texts("SECRETWORD"), warnings=(), findings=()))
    kept = replace(plain_summary().facts, parameters=summary.facts.parameters)
    text = render_markdown(replace(summary, facts=kept, observed=plain_summary().observed))
    assert "Redacted: what may repeat" in text
    assert "tool 1" in text
    assert "SECRETWORD" not in re.sub(r"\| pSECRETWORD", "", text)
