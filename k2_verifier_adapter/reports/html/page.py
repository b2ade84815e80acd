"""The report as one HTML file that needs nothing else: no network, no font, no script from elsewhere.

What vendors write is put into the page as text only. The failed cases stand in it as JSON, which the
page's own script shows with `textContent`; a policy in the page forbids any other script, and all loading.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterable
from hashlib import sha256
from importlib import resources
from typing import Any

from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.reports import tables
from k2_verifier_adapter.reports.failed_cases import MOST_CASES, FailedCase
from k2_verifier_adapter.reports.html import sections
from k2_verifier_adapter.reports.html.elements import Markup, element, join
from k2_verifier_adapter.reports.printable import plural

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
    shown, note = fit(list(cases))
    style, script = _asset("report.css"), _asset("report.js")
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
    title = tables.title(summary)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", Markup(style)),
    )
    body = element(
        "body",
        element("a", "Skip to the verdict", class_="skip", href="#main"),
        _header(summary),
        element("main", main, id="main", tabindex="-1"),
        element("script", Markup(_data(shown)), type="application/json", id="cases-data"),
        element("script", Markup(script)),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def fit(cases: list[FailedCase]) -> tuple[list[dict[str, Any]], str | None]:
    """Shorten the cases until they fit a page; also give a note on what was left out, or None."""
    notes = [f"only the first {MOST_CASES:,} are here"] if len(cases) >= MOST_CASES else []
    # The longest limit at which all cases fit; halving the list of limits, as every trial costs.
    low, high = 0, len(_LIMITS) - 1
    while low < high:
        middle = (low + high) // 2
        if _size(cases, _LIMITS[middle]) <= MAX_CASE_BYTES:
            high = middle
        else:
            low = middle + 1
    limit = _LIMITS[low]
    shown: list[dict[str, Any]] = []
    total = 0
    for case in cases:
        value = case.as_json(limit)
        total += len(_data([value]).encode())
        if total > MAX_CASE_BYTES:
            notes = [f"only the first {len(shown):,} of {plural(len(cases), 'failed case')} are here"]
            break
        shown.append(value)
    if any(case.ended for case in cases):
        notes.append(f"texts are cut after {limit:,} characters")
    said = "; ".join([*notes, "the run itself holds everything"])
    return shown, f"{said[:1].upper()}{said[1:]}." if notes else None


def _size(cases: list[FailedCase], limit: int) -> int:
    return sum(len(_data([case.as_json(limit)]).encode()) for case in cases)


def _asset(name: str) -> str:
    return (resources.files("k2_verifier_adapter.reports.html") / "assets" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Allow this style and this script, by their digests, and nothing else."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


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
