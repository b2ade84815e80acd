"""The report as one HTML file that needs nothing else: no network, no font, no script from elsewhere.

What vendors write is put into the page as text only. The failed cases stand in it as JSON, which the
page's own script shows with `textContent`; a policy in the page forbids any other script, and all loading.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from k2_verifier_adapter.core.printable import plural
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.reports import tables
from k2_verifier_adapter.reports.failed_cases import MOST_CASES, FailedCase
from k2_verifier_adapter.reports.html import sections
from k2_verifier_adapter.reports.html.document import asset, document
from k2_verifier_adapter.reports.html.elements import Markup, element, join

MAX_CASE_BYTES = 2_400_000
"""Bytes of all failed cases together; the rest of a page takes far below 600,000."""

_LIMITS = (4_000, 2_000, 1_000, 500, 250, 120, 60, 25)
"""Characters of one text of a case, the longest first."""

_UNSAFE_IN_JSON = ("<", ">", "&", "\u2028", "\u2029")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def render_html(summary: Summary, cases: Iterable[FailedCase]) -> str:
    """Give the report as HTML.

    Args:
        summary: What to report; already redacted, if it is to be.
        cases: The failed cases, in row order; redacted as well.
    """
    shown, note = fit(cases)
    style, script = asset("report.css"), asset("report.js")
    links = _linker({case["row"] for case in shown})
    main = join(
        sections.verdict_section(summary),
        sections.metrics_section(summary),
        sections.findings_section(summary, links),
        sections.failures_section(summary, links),
        sections.what_if_section(summary),
        sections.tools_section(summary),
        _cases_section(shown, note),
        sections.details_sections(summary),
    )
    return document(
        tables.title(summary),
        _header(summary),
        main,
        skip="Skip to the verdict",
        style=style,
        data=element("script", Markup(_data(shown)), type="application/json", id="cases-data"),
        script=script,
    )


def fit(cases: Iterable[FailedCase]) -> tuple[list[dict[str, Any]], str | None]:
    """Shorten the cases until they fit a page; also give a note on what was left out, or None.

    Of the limits the longest is taken at which all cases fit. They are tried side by side, and one at
    which the cases have become too many is given up: no case is held with the whole of its texts.
    """
    tried = {limit: _Shortened() for limit in _LIMITS}
    found, has_texts = 0, False
    for case in cases:
        found += 1
        has_texts = has_texts or bool(case.ended)
        for limit in list(tried):
            tried[limit].add(case.as_json(limit))
            if tried[limit].is_over and limit != _LIMITS[-1]:
                del tried[limit]
    limit = max(tried)
    shown = tried[limit].cases
    notes = [f"only the first {MOST_CASES:,} are here"] if found >= MOST_CASES else []
    if len(shown) < found:
        notes = [f"only the first {len(shown):,} of {plural(found, 'failed case')} are here"]
    if has_texts:
        notes.append(f"texts are cut after {limit:,} characters")
    said = "; ".join([*notes, "the run itself holds everything"])
    return shown, f"{said[:1].upper()}{said[1:]}." if notes else None


class _Shortened:
    """The cases as they are at one limit, as many of the first ones as fit.

    Attributes:
        cases: What the page would hold of them.
        is_over: Whether there were more than fit.
    """

    def __init__(self) -> None:
        self.cases: list[dict[str, Any]] = []
        self.is_over = False
        self._bytes = 0

    def add(self, case: dict[str, Any]) -> None:
        """Take in the next case, if it fits."""
        self._bytes += len(_data([case]).encode())
        self.is_over = self.is_over or self._bytes > MAX_CASE_BYTES
        if not self.is_over:
            self.cases.append(case)


def _data(cases: list[dict[str, Any]]) -> str:
    r"""Write JSON in which nothing can end the script element: `<` becomes `\u003c`, and so on."""
    text = json.dumps(cases, ensure_ascii=False, separators=(",", ":"))
    for sign in _UNSAFE_IN_JSON:
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _linker(rows: set[int]) -> Callable[[int], Markup]:
    def link(row: int) -> Markup:
        if row not in rows:
            return element("span", str(row))
        return element("a", str(row), href=f"#case-{row}")

    return link


def _header(summary: Summary) -> Markup:
    facts = summary.facts
    when = facts.finished_at or facts.started_at
    said = [facts.endpoint_host or "", f"{when[:16].replace('T', ' ')} UTC" if when else ""]
    anchors = [
        ("#metrics", "Metrics"),
        ("#causes", "Causes") if summary.findings else None,
        ("#failures", "Failures") if summary.tally.failure_counts else None,
        ("#tools", "Tools") if summary.tally.tools.worst() else None,
        ("#cases", "Cases"),
        ("#provenance", "Provenance"),
    ]
    links = [element("a", text, href=target) for target, text in filter(None, anchors)]
    return element(
        "header",
        element("p", "K2 vendor verification", class_="kicker"),
        element("h1", tables.name(facts.model)),
        element("p", " · ".join(tables.name(text) for text in (facts.subset, *said) if text)),
        element("nav", *links, aria_label="Sections"),
    )


def _cases_section(cases: list[dict[str, Any]], note: str | None) -> Markup:
    if not cases:
        return sections.section("cases", "Failed cases", element("p", "None to show."))
    kinds: dict[str, int] = {}
    for case in cases:
        for kind in case["classes"]:
            kinds[kind] = kinds.get(kind, 0) + 1
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    options = [element("option", f"all classes ({len(cases):,})", value="")]
    options += [element("option", f"{kind} ({count:,})", value=kind) for kind, count in ordered]
    controls = element(
        "div",
        element("label", "Failure class ", element("select", *options, id="case-class")),
        element("label", "Row ", element("input", id="case-row", inputmode="numeric", size="6")),
        element("p", id="case-count", role="status"),
        class_="controls",
    )
    browser = element(
        "div",
        controls,
        element("div", id="case-list"),
        element("button", "Show more", type="button", id="case-more", hidden=True),
        id="case-browser",
        hidden=True,
    )
    without = element("noscript", element("p", "Browsing the failed cases needs JavaScript."))
    return sections.section("cases", "Failed cases", sections.small(note) if note else None, without, browser)
