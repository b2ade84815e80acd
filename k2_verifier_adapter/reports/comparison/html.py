"""The comparison of runs as one HTML file: no network, no font, no script at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from k2_verifier_adapter.core.comparison.baseline import NotWorse
from k2_verifier_adapter.core.comparison.compare import Comparison, letter
from k2_verifier_adapter.core.comparison.pairs import Pair
from k2_verifier_adapter.core.printable import plural
from k2_verifier_adapter.reports import tables as run_tables
from k2_verifier_adapter.reports import verdicts
from k2_verifier_adapter.reports.comparison import charts, tables
from k2_verifier_adapter.reports.comparison.changes import changes_of, title_of
from k2_verifier_adapter.reports.html.document import asset, document
from k2_verifier_adapter.reports.html.elements import Markup, element, join
from k2_verifier_adapter.reports.html.sections import definitions, section, small, strict_status, table
from k2_verifier_adapter.reports.tables import Grid

_MOST = 100
"""Rows of a table; two runs in a hundred make a pair each of 4,950."""

_CHANGES_BYTES, _SETUP_BYTES, _PROVENANCE_BYTES = 1_200_000, 300_000, 700_000
"""What may grow with runs and cases; the rest of a page takes far below 800,000."""

_LONGEST_VALUES = (200, 60, 20)
_MOST_CASES = (1_000, 200, 50, 10)
_KINDS = 50
"""All that there are: two official decisions, and five states of either run."""

_CLASSES = 8
_MOST_PARAMETERS = 40


def render_html(comparison: Comparison, found: NotWorse | None = None) -> str:
    """Give the comparison as HTML.

    Args:
        comparison: What to report.
        found: Whether the first run is not worse than the second, where it was asked.
    """
    main = join(
        _not_worse(found),
        _warnings(comparison),
        _leaderboard(comparison),
        _differences(comparison, found),
        _wins_and_losses(comparison),
        _fitting(_CHANGES_BYTES, _all_changes(comparison)),
        _fitting(_SETUP_BYTES, _all_setups(comparison)),
        _fitting(_PROVENANCE_BYTES, _all_provenance(comparison)),
    )
    return document(
        tables.title(comparison),
        _header(comparison),
        main,
        skip="Skip to the results",
        style=asset("report.css") + asset("comparison.css"),
    )


def _fitting(limit: int, sections: Iterable[Markup]) -> Markup:
    """Give the first section that takes no more bytes than the limit, else the last one."""
    chosen = Markup()
    for chosen in sections:
        if len(chosen.encode(errors="backslashreplace")) <= limit:
            break
    return chosen


def _header(comparison: Comparison) -> Markup:
    anchors = [
        ("#leaderboard", "Leaderboard"),
        ("#differences", "Differences"),
        ("#agreement", "Case by case"),
        ("#changes", "Cases that differ"),
        ("#setup", tables.SETUP_TITLE),
        ("#provenance", "Provenance"),
    ]
    return element(
        "header",
        element("p", tables.KIND, class_="kicker"),
        element("h1", tables.scope(comparison)),
        element("nav", *(element("a", text, href=target) for target, text in anchors), aria_label="Sections"),
    )


def _not_worse(found: NotWorse | None) -> Markup | None:
    if found is None:
        return None
    word, rest = verdicts.not_worse_headline(found)
    shown = {"none": "no verdict"}.get(word, word)
    return element(
        "section",
        element("h2", f"{tables.NOT_WORSE_TITLE}: {shown}", id="not-worse-title"),
        element("p", rest[:1].upper() + rest[1:], class_="lead"),
        table(verdicts.not_worse_checks(found, "A - B"), "Differences, in percentage points", strict_status),
        class_=f"verdict {word}",
        aria_labelledby="not-worse-title",
    )


def _warnings(comparison: Comparison) -> Markup | None:
    lines = [element("li", element("strong", "Warning: "), line) for line in tables.warnings(comparison)]
    return element("ul", *lines, class_="warnings") if lines else None


def _leaderboard(comparison: Comparison) -> Markup:
    return join(
        section(
            "leaderboard",
            "Leaderboard",
            charts.similarity_plot(comparison),
            *_table(tables.leaderboard(comparison), "Leaderboard", tables.leaderboard_notes(comparison)),
        ),
        section("runs", "Runs", element("div", definitions(tables.runs(comparison)[:_MOST]), class_="runs")),
        section(
            "upstream", tables.UPSTREAM_TITLE, *_table(tables.upstream(comparison), tables.UPSTREAM_TITLE)
        ),
    )


def _differences(comparison: Comparison, found: NotWorse | None) -> Markup:
    return section(
        "differences",
        tables.SIMILARITY_TITLE,
        charts.difference_plot(comparison.pairs[:_MOST], None if found is None else found.margin),
        *_table(tables.similarity(comparison), tables.SIMILARITY_TITLE, tables.similarity_notes(comparison)),
    )


def _wins_and_losses(comparison: Comparison) -> Markup:
    return join(
        section(
            "agreement",
            tables.AGREEMENT_TITLE,
            *_table(tables.agreement(comparison), tables.AGREEMENT_TITLE, tables.agreement_notes(comparison)),
        ),
        section(
            "validity",
            tables.VALIDITY_TITLE,
            *_table(tables.validity(comparison), tables.VALIDITY_TITLE, [tables.VALIDITY_NOTE]),
        ),
    )


def _table(grid: Grid, label: str, notes: Iterable[str] = ()) -> Iterator[Markup]:
    """Lay out the first rows of a table, with what there is to say of it below."""
    shown, more = grid.first_rows(_MOST)
    yield table(shown, label, _cell)
    if more:
        yield small(f"and {plural(more, 'more row')}: --format json lists them")
    yield from map(small, notes)


def _cell(column: str, cell: str) -> Markup | None:
    if column == "pair":
        return element("span", cell, class_="whole")
    if column == "verdict":
        return element("span", cell, class_=f"status {cell}")
    if column == "higher" and cell != tables.NOT_SHOWN:
        return element("b", cell)
    return None


def _all_changes(comparison: Comparison) -> Iterator[Markup]:
    """Give the changed cases, fewer of them each time."""
    pairs = comparison.pairs[:_MOST]
    more = len(comparison.pairs) - len(pairs)
    left = small(f"and {plural(more, 'more pair')}: --format json lists them") if more else None
    for most in _MOST_CASES:
        shown = [_changes_of(pair, most, is_open=len(pairs) == 1) for pair in pairs]
        is_cut = any(change.count > most for pair in pairs for change in pair.changes)
        note = small(f"The first {most:,} cases of a kind; --format json lists more.") if is_cut else None
        yield section("changes", "Cases that differ", *shown, left, note)
    yield section("changes", "Cases that differ", element("p", "Too many to show: --format json lists them."))


def _changes_of(pair: Pair, most: int, *, is_open: bool) -> Markup:
    title = title_of(pair)
    grid = changes_of(pair, kinds=_KINDS, cases=most, classes=_CLASSES)
    if grid is None:
        return element("p", f"{title}: none")
    total = sum(change.count for change in pair.changes)
    heading = element("summary", f"{title} ", element("span", f"({plural(total, 'case')})", class_="quiet"))
    return element("details", heading, table(grid, title), open=is_open, class_="pair")


def _all_setups(comparison: Comparison) -> Iterator[Markup]:
    """Give what was done differently, in fewer words each time."""
    for longest in _LONGEST_VALUES:
        grid = tables.setup(comparison, longest=longest)
        if grid is None:
            yield section("setup", tables.SETUP_TITLE, element("p", "Nothing that is known."))
            return
        yield section("setup", tables.SETUP_TITLE, table(grid, tables.SETUP_TITLE))
    yield section("setup", tables.SETUP_TITLE, element("p", "Too much to show: --format json lists it."))


def _all_provenance(comparison: Comparison) -> Iterator[Markup]:
    """Give where each run comes from, in less detail each time."""
    for runs, parameters in ((_MOST, _MOST_PARAMETERS), (_MOST, 0), (10, 0)):
        shown = [_provenance(comparison, place, parameters) for place in range(len(comparison.standings))]
        more = len(shown) - runs
        left = small(f"and {plural(more, 'more run')}") if more > 0 else None
        yield section("provenance", "Provenance", *shown[:runs], left)


def _provenance(comparison: Comparison, place: int, most: int) -> Markup:
    standing = comparison.standings[place]
    summary = standing.participant.summary
    pairs = [
        ("requests", run_tables.requests(summary)),
        ("cases left out", f"{standing.left_out:,}"),
        *run_tables.provenance(summary),
    ]
    parameters = run_tables.parameters(summary)
    more = len(parameters) - most
    return element(
        "details",
        element("summary", element("b", letter(place)), f" {tables.runs(comparison)[place][1]}"),
        definitions(pairs),
        element("h3", "Parameters of all requests"),
        definitions(parameters[:most] or [("none", "")]) if most or not parameters else None,
        small(f"and {plural(more, 'more parameter')}") if more > 0 else None,
        class_="pair",
    )
