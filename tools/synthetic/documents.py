"""Long texts, composed from varied sentences: handbooks, pasted documents, logs, JSON results."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

from synthetic.vocabulary import TEXTS, Language

Composer = Callable[[Random, Language, int], str]
"""Composes a text whose JSON form has about the given number of characters, at least one unit."""

_RECORD_FIELDS = (
    ("id", "title", "updated", "score"),
    ("id", "url", "summary"),
    ("id", "amount", "currency", "note"),
    ("id", "title", "summary", "in_stock", "parent"),
)


def document(rng: Random, language: Language, size: int) -> str:
    """Compose titled sections of prose."""
    return _grow(rng, language, size, _section, "\n\n")


def rule_book(rng: Random, language: Language, size: int) -> str:
    """Compose numbered rules, and sections after them where the rules do not fill the size."""
    rules = list(TEXTS["rules"][language])
    rng.shuffle(rules)
    lines: list[str] = []
    for number, rule in enumerate(rules, start=1):
        if lines and _json_size(lines) >= size:
            break
        lines.append(f"{number}. {rule}")
    text = "\n".join(lines)
    missing = size - _json_size([text])
    return text if missing <= 0 else f"{text}\n\n{document(rng, language, missing)}"


def log(rng: Random, language: Language, size: int) -> str:
    """Compose log lines; they are English in either language, as logs are."""
    return _grow(rng, language, size, _log_line, "\n")


def records(rng: Random, language: Language, size: int) -> str:
    """Compose a JSON result with a list of records."""
    fields = rng.choice(_RECORD_FIELDS)
    items: list[str] = []
    while not items or _json_size(items) < size:
        record = {name: _field(name, rng, language) for name in fields}
        items.append(json.dumps(record, ensure_ascii=False))
    return f'{{"status": "ok", "total": {len(items)}, "items": [{", ".join(items)}]}}'


def sentence(rng: Random, language: Language) -> str:
    """Compose one sentence."""
    parts = [rng.choice(TEXTS[part][language]) for part in ("subjects", "predicates", "tails")]
    if language == "zh":
        return _filled(f"{parts[0]}{parts[1]}，{parts[2]}。", rng)
    return _filled(f"{parts[0]} {parts[1]}, {parts[2]}.", rng)


def _grow(
    rng: Random, language: Language, size: int, unit: Callable[[Random, Language], str], separator: str
) -> str:
    units: list[str] = []
    while not units or _json_size(units) < size:
        units.append(unit(rng, language))
    return separator.join(units)


def _json_size(texts: list[str]) -> int:
    escaped = sum(text.count('"') + text.count("\\") + text.count("\n") + text.count("\t") for text in texts)
    return sum(map(len, texts)) + escaped + 2 * len(texts)


def _section(rng: Random, language: Language) -> str:
    sentences = [sentence(rng, language) for _ in range(2 + rng.randrange(4))]
    joined = ("" if language == "zh" else " ").join(sentences)
    return f"## {rng.choice(TEXTS['section_titles'][language])}\n{joined}"


def _log_line(rng: Random, _language: Language) -> str:
    clock = f"2025-11-{1 + rng.randrange(28):02}T{_time(rng)}:{rng.randrange(60):02}Z"
    return f"{clock} {rng.choice(TEXTS['log_levels']):5} {_filled(rng.choice(TEXTS['log_events']), rng)}"


def _field(name: str, rng: Random, language: Language) -> object:
    if name == "id":
        return rng.randrange(10**6)
    if name == "url":
        return f"https://example.org/items/{rng.randrange(10**4)}"
    if name in ("score", "amount"):
        return rng.randrange(10**5) / 100
    if name == "currency":
        return rng.choice(("CNY", "EUR", "USD"))
    if name == "in_stock":
        return rng.random() < 0.5
    if name == "parent":
        return None
    if name == "updated":
        return _date(rng)
    return sentence(rng, language)


def _filled(template: str, rng: Random) -> str:
    return template.format(
        n=2 + rng.randrange(97), id=1000 + rng.randrange(9000), time=_time(rng), date=_date(rng)
    )


def _time(rng: Random) -> str:
    return f"{rng.randrange(24):02}:{rng.randrange(60):02}"


def _date(rng: Random) -> str:
    return f"2025-{1 + rng.randrange(12):02}-{1 + rng.randrange(28):02}"
