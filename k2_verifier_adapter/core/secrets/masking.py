"""Taking known secrets out of texts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from k2_verifier_adapter.core.json_text import dumps_ascii
from k2_verifier_adapter.core.secrets.credentials import replace_secrets

MASK = "***"

_SHORTEST_REST = 4
"""Characters of a cut-off secret from which on it is masked."""

_RUN_START = r"(?<!\\)"
"""Where a run of backslashes starts: tried from each of them, a run of a million takes hours."""

_NEEDLESS_ESCAPE = re.compile(_RUN_START + r"\\+u00([2-7][0-9a-fA-F])")
r"""An escape of a printable character, which JSON does not need: `\u0073` for `s` hides a secret."""

_PLAIN = re.compile(r"[A-Za-z0-9._~-]+")
"""Characters that neither JSON nor a URL has to escape."""


def hide_secrets(config: Any) -> Any:
    """Give a configuration with `MASK` in place of every secret; see `core.secrets.credentials`."""
    return replace_secrets(config, lambda _name, _value: MASK)


class Masker:
    """Takes secrets out of texts, however JSON or a URL spells them.

    Attributes:
        secrets: The secrets, the longest first.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self.secrets = tuple(sorted({*secrets} - {""}, key=lambda secret: (-len(secret), secret)))
        # What is in a text in whatever way it spells the secret: a quick test before the slow search.
        self._anchors = tuple(max(_PLAIN.findall(secret), key=len, default="") for secret in self.secrets)
        self._pattern = re.compile(
            "|".join(pattern for secret in self.secrets for pattern in _patterns(secret))
        )

    def text(self, text: str) -> str:
        """Give a text without the secrets, whole or cut off by an excerpt."""
        if not self.secrets:
            return text
        if self._may_be_in(text):
            text = self._pattern.sub(MASK, text)
        if "…" in text:
            for secret in self.secrets:
                for length in range(len(secret) - 1, _SHORTEST_REST - 1, -1):
                    text = text.replace(f"{secret[:length]}…", f"{MASK}…")
        return text

    def _may_be_in(self, text: str) -> bool:
        if any(anchor in text for anchor in self._anchors):
            return True
        if "\\u00" not in text:
            return False
        plain = _NEEDLESS_ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
        return any(anchor in plain for anchor in self._anchors)

    def json_text(self, text: str) -> str:
        """Give a JSON text without the secrets; one that holds none comes back byte for byte."""
        masked = self.text(text)
        if masked == text:
            return text
        try:
            json.loads(masked)
        except ValueError:
            # A secret of digits alone may stand where a number does.
            return dumps_ascii(self.value(json.loads(text)))
        return masked

    def value(self, value: Any) -> Any:
        """Give a JSON value whose strings and keys hold no secret."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.value(key): self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value


def _patterns(secret: str) -> Iterator[str]:
    r"""Match a secret any of whose characters is escaped, `s` as `\u0073`, in nested JSON or in a URL."""
    # After a secret that ends in a backslash, the next one may begin in the middle of a run.
    start = "" if "\\" in secret else _RUN_START
    yield _with_any_escape(secret[0], start) + "".join(map(_with_any_escape, secret[1:]))
    yield "".join(map(_percent_encoded, secret))


def _with_any_escape(character: str, start: str = "") -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    escaped = "".join(rf"\\+u(?i:{units[place : place + 4]})" for place in range(0, len(units), 4))
    backslashes = rf"{start}\\*" if character in "\"'\\/" else ""
    return f"(?:{backslashes}{re.escape(character)}|{start}{escaped})"


def _percent_encoded(character: str) -> str:
    if _PLAIN.fullmatch(character):
        return re.escape(character)
    encoded = "".join(f"%(?i:{byte:02x})" for byte in character.encode("utf-8", "replace"))
    unescaped = {" ": r"\+", "/": "/"}.get(character)
    return encoded if unescaped is None else f"(?:{encoded}|{unescaped})"
