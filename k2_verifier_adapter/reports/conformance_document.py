"""The report on the probes of a run, as a document: the table to paste first, then each probe that failed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from k2_verifier_adapter.core.conformance.probes import Mode
from k2_verifier_adapter.core.conformance.results import Conformance, Outcome, ProbeResult, Share, SuiteResult
from k2_verifier_adapter.core.printable import percent, plural
from k2_verifier_adapter.core.verdict import Status
from k2_verifier_adapter.reports import document as doc
from k2_verifier_adapter.reports import wording
from k2_verifier_adapter.reports.document import Column, Depth, Kind, Section, Value

_MOST_SHOWN = 300
"""Probes whose request and answer a page shows."""


def conformance_document(found: Conformance) -> doc.Document:
    """Make the report; all of it is redacted already, if it is to be."""
    facts = found.facts
    when = facts.finished_at or facts.started_at
    about = (facts.endpoint_host or "", f"{when[:16].replace('T', ' ')} UTC")
    return doc.Document(
        kind="Kimi conformance",
        title=f"{wording.name(facts.model)}, as {found.profile.title}",
        about=" · ".join(wording.name(text) for text in about if text),
        lead=tuple(_lead(found)),
        sections=tuple(_sections(found)),
    )


def _lead(found: Conformance) -> Iterator[doc.Block]:
    said = wording.conformance(found)
    yield doc.Judged("contract", "Contract", found.status, said, (_table(found),))
    if offset := found.token_offset:
        yield doc.Notes((wording.sentence(offset),), Status.INCONCLUSIVE)
    if facts := [suite.facts for suite in found.suites if not suite.facts.complete]:
        why = facts[0].stopped or "interrupted"
        yield doc.Notes(
            (f"INCOMPLETE: {why}; {len(facts)} suites are not asked to their end",), Status.INCONCLUSIVE
        )
    if found.redacted:
        yield doc.Paragraph("Redacted: what the endpoint answered is left out")


def _table(found: Conformance) -> doc.Table:
    again = found.facts.repeats > 1
    columns = (
        Column("suite", Kind.IDENTIFIER),
        Column("result"),
        *doc.numbers("plain", "streamed", *(("eventually",) if again else ())),
    )
    rows = [_row(suite.name, suite, again=again) for suite in found.suites]
    if len(rows) > 1:
        rows.append(_row("all", found, again=again))
    return doc.Table("Probes passed at the first try, of those asked", columns, tuple(rows))


def _row(name: str, of: SuiteResult | Conformance, *, again: bool) -> tuple[doc.Cell, ...]:
    share = of.share()
    last = (f"{share.eventually}/{share.total}",) if again else ()
    return (name, Value(of.status.value, of.status), *(_counts(of.share(mode)) for mode in Mode), *last)


def _counts(share: Share) -> str:
    return f"{share.passed}/{share.total}" if share.total else "-"


def _sections(found: Conformance) -> Iterator[Section]:
    troubled = found.troubled
    if troubled:
        items = tuple(_item(results) for results in _alike(troubled))
        yield Section("probes", "Probes that did not pass", (doc.Items(items, ranked=True),), link="Probes")
    if found.causes:
        causes = tuple(
            doc.Item(f"{cause.hypothesis} ({cause.name}, {plural(len(results), 'probe')})", (), cause.advice)
            for cause, results in found.causes.items()
        )
        yield Section("causes", "Probable causes", (doc.Items(causes),), link="Causes")
    notes = tuple(
        f"{suite.name}: {count} left out: {reason}"
        for suite in found.suites
        for reason, count in suite.left_out.items()
    )
    asked = {result.case.probe.note: None for result in found.results if result.case.probe.note}
    if notes or asked:
        yield Section(
            "asked", "What was asked otherwise, or not", (doc.Notes((*notes, *asked)),), Depth.DETAIL
        )
    yield Section("provenance", "Provenance", (doc.Facts(tuple(_facts(found))),), Depth.DETAIL, "Provenance")
    if troubled and not found.redacted:
        folds = tuple(map(_fold, troubled[:_MOST_SHOWN]))
        yield Section("answers", "Requests and answers", folds, Depth.PAGE, "Answers")


def _alike(results: Iterable[ProbeResult]) -> list[list[ProbeResult]]:
    """Put the modes of a probe together that fail in the same way."""
    found: dict[Any, list[ProbeResult]] = {}
    for result in results:
        key = (result.case.probe.id, result.outcome, len(result.tries), result.unmet, result.failed is None)
        found.setdefault(key, []).append(result)
    return list(found.values())


def _item(results: list[ProbeResult]) -> doc.Item:
    """Give a probe that did not pass in three lines: expected, got, what to change."""
    first = results[0]
    modes = ", ".join(result.case.mode.value for result in results)
    title = f"{first.case.probe.id} [{modes}]: {first.outcome.value}"
    if first.outcome is Outcome.FLAKY:
        low, high = map(percent, first.rate_interval)
        title += f", passed at try {len(first.tries)} (of all tries, {low} to {high} pass)"
    elif len(first.tries) > 1:
        title += f" at {len(first.tries)} tries"
    if first.unmet is None:
        return doc.Item(title, (doc.Paragraph(first.why_not, "no answer"),))
    pairs = [("expected", f"{first.unmet.path}: {first.unmet.expected}"), ("got", first.unmet.got)]
    if first.cause is not None:
        pairs.append(("change", next(iter(first.cause.advice), first.cause.hypothesis)))
    return doc.Item(title, tuple(doc.Paragraph(text, label) for label, text in pairs))


def _facts(found: Conformance) -> Iterator[tuple[str, str]]:
    facts = found.facts
    yield "model", wording.name(facts.model)
    yield "profile", f"{found.profile.title} ({found.profile.name})"
    yield "endpoint", wording.name(facts.endpoint_host or "unknown")
    yield "asked", f"{facts.started_at} to {facts.finished_at or 'not ended'}"
    for suite in found.suites:
        rows = suite.facts.rows
        yield suite.name, f"{wording.name(rows.source)}, sha256 {rows.sha256[:16]}"
    tries = sum(len(result.tries) for result in found.results)
    prompt, completion = found.tokens
    yield "requests", f"{plural(tries, 'answer')}, {prompt:,} prompt and {completion:,} completion tokens"
    shown = {name: value for name, value in facts.parameters.items() if name != "model"}
    yield "added to every probe", json.dumps(shown) if shown else "nothing"
    yield (
        "versions",
        f"k2-verifier-adapter {facts.adapter}, evalscope {facts.evalscope}, Python {facts.python}",
    )


def _fold(result: ProbeResult) -> doc.Fold:
    probe = result.case.probe
    blocks: list[doc.Block] = [doc.Facts((("why", probe.why), ("source", probe.source)))]
    blocks.append(doc.Paragraph(json.dumps(dict(probe.request), ensure_ascii=False), "Request"))
    for number, one in enumerate(result.tries, 1):
        label = "Answer" if len(result.tries) == 1 else f"Answer {number}"
        blocks.append(doc.Paragraph(one.answer.words or one.record.response, label))
    return doc.Fold(result.case.name, result.outcome.value, tuple(blocks))
