"""What can be told of a redacted bundle, as a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from k2_verifier_adapter.core.json_text import excerpt, shown
from k2_verifier_adapter.core.metrics import PRIMARY_METRIC
from k2_verifier_adapter.core.printable import percent, plural, printable
from k2_verifier_adapter.core.verdict import Status
from k2_verifier_adapter.reports import document as doc
from k2_verifier_adapter.reports.document import Column, Kind, Section, Table

_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Recount:
    """What can be told again of a redacted bundle.

    Attributes:
        counts: Decisions against the official ones (`tp`, `fp`, `fn`, `tn`), valid calls (`valid`) and failed
            requests (`failed`), from its lines.
        metrics: Value, low and high by name, as its report has them.
        warnings: Its report's.
        rows: Rows that it holds.
        asked: Rows of which it holds a line.
        own: How many of these are, by digest, those of the rows given; None if none were.
    """

    counts: Mapping[str, int]
    metrics: Mapping[str, tuple[Any, Any, Any]]
    warnings: Sequence[str]
    rows: int
    asked: int
    own: int | None


def bundle_document(recount: Recount, uncheckable: Sequence[str], report: Mapping[str, Any]) -> doc.Document:
    """Make the report on a redacted bundle."""
    said = "redacted: its decisions were counted again, its answers cannot be judged"
    named = [str(report[name])[:_LONGEST_NAME] for name in ("model", "subset") if report.get(name)]
    columns = (Column("metric", Kind.IDENTIFIER), *doc.numbers("value", "low", "high"))
    rows = tuple((name, *map(_number, values)) for name, values in recount.metrics.items())
    return doc.Document(
        kind="K2 evidence bundle",
        title=printable(", ".join(named)) or "unnamed",
        lead=(doc.Judged("bundle", "Bundle", Status.INCONCLUSIVE, said),),
        sections=(
            Section("checked", "Checked", (doc.Facts(tuple(_checked(recount))),)),
            Section("unchecked", "What it cannot show", (doc.Notes(tuple(uncheckable)),)),
            Section("claimed", "Metrics, as its own report has them", (Table("Metrics", columns, rows),)),
        ),
    )


def _checked(recount: Recount) -> list[tuple[str, str]]:
    counts = recount.counts
    tp, fp, fn, tn = (counts[name] for name in ("tp", "fp", "fn", "tn"))
    f1 = percent(2 * tp / (2 * tp + fp + fn)) if tp + fp + fn else "undefined"
    checked = [
        ("files", "every byte is as it was packed"),
        ("rows", f"{plural(recount.rows, 'row')}, {recount.asked:,} of them asked"),
        (
            "decisions",
            f"{tp:,} both call, {fp:,} only the vendor, {fn:,} only the official API, {tn:,} neither",
        ),
        (PRIMARY_METRIC, f1),
        ("failed requests", f"{counts['failed']:,}"),
        ("valid calls", f"{counts['valid']:,} of {tp + fp:,}, as its lines say"),
    ]
    if recount.own is not None:
        checked.insert(
            2, ("your rows", f"{recount.own:,} of {recount.asked:,} have the digest of one of yours")
        )
    return checked


def _number(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return "-" if value is None else excerpt(shown(value, 40), 40)
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
