"""What a report says of the results file that was scored, beside its numbers."""

from __future__ import annotations

from typing import Any

from k2_verifier_adapter.core.log_facts import FailedRule, LogFacts, Places
from k2_verifier_adapter.core.printable import plural

_FIRST_PLACES = 20

_LEFT_OUT = {
    "unreadable": ("no JSON object", "line"),
    "without_data_index": ("without data_index", "line"),
    "duplicates": ("data_index again, not in a row; the first counts", "data_index"),
    "without_official": ("no official answer", "data_index"),
    "official_failed": ("the official request failed", "data_index"),
}
_RULES = {
    FailedRule.LEFT_OUT: 'failed requests, on either side, are left out; not counted as "did not call"',
    FailedRule.NO_CALL: 'failed requests, on either side, count as "did not call" (--failed-as-no-call)',
}


def log_as_json(log: LogFacts) -> dict[str, Any]:
    """Give what was found; places are listed up to `log_facts.MAX_PLACES`, counts are exact."""
    official = log.official
    return {
        "failed_requests_count_as": log.failed_rule.value,
        "lines": log.lines,
        "scored": log.scored,
        "left_out": {name: _places(places) for name, places in log.left_out.items()},
        "disagreements": {name: _places(places) for name, places in log.disagreements.items()},
        "other_request": _places(log.other_request),
        # Lines that were taken as logged, until redacted logs were refused.
        "redacted": 0,
        "official": {
            "rows": official.rows,
            "failed": official.failed,
            "unused": official.unused,
            "unusable": _places(official.unusable),
            "duplicates": _places(official.duplicates),
        },
    }


def _places(places: Places) -> dict[str, Any]:
    return {"count": places.count, "listed": list(places.listed)}


def log_as_pairs(log: LogFacts) -> list[tuple[str, str]]:
    """Give what was found as names and values for a text."""
    pairs = [("lines", f"{log.lines:,}, of which {log.scored:,} scored"), ("rule", _RULES[log.failed_rule])]
    pairs += [
        ("left out", f"{_where(places, noun)}: {reason}")
        for name, (reason, noun) in _LEFT_OUT.items()
        if (places := log.left_out[name]).count
    ]
    pairs += [
        ("disagreement", f"{_where(places, 'data_index')}: the log's {name} is not what the response says")
        for name, places in log.disagreements.items()
        if places.count
    ]
    if not any(places.count for places in log.disagreements.values()):
        pairs.append(("disagreements", "none: the lines' own judgements are all confirmed"))
    if log.other_request.count:
        pairs.append(("other request", _where(log.other_request, "data_index")))
    official = log.official
    said = (
        f"{plural(official.rows, 'answer')}, {official.failed:,} failed, {official.unused:,} without a line"
    )
    pairs.append(("official", said))
    if official.duplicates.count:
        where = _where(official.duplicates, "data_index")
        pairs.append(("", f"{where}: data_index again; the first completed counts"))
    if official.unusable.count:
        pairs.append(("", f"{_where(official.unusable, 'line')}: not usable"))
    return pairs


def _where(places: Places, noun: str) -> str:
    """Give the count and the first places."""
    listed = ", ".join(map(str, places.listed[:_FIRST_PLACES]))
    more = ", ..." if places.count > _FIRST_PLACES else ""
    return f"{plural(places.count, 'line')} ({noun} {listed}{more})"
