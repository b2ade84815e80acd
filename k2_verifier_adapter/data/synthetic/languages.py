"""Text that exists in English and in Chinese."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

Language = Literal["en", "zh"]
T = TypeVar("T")


@dataclass(frozen=True)
class Localised(Generic[T]):
    """One thing in both languages."""

    en: T
    zh: T

    def pick(self, language: Language) -> T:
        """Return the thing in one language."""
        return self.zh if language == "zh" else self.en


def both(en: T, zh: T) -> Localised[T]:
    """Pair an English and a Chinese text, or two lists of them."""
    return Localised(en, zh)


def localise(value: Any, language: Language) -> Any:
    """Copy a JSON-like value, with every `Localised` in it replaced by the text in one language."""
    if isinstance(value, Localised):
        return value.pick(language)
    if isinstance(value, dict):
        return {key: localise(item, language) for key, item in value.items()}
    if isinstance(value, list):
        return [localise(item, language) for item in value]
    return value
