"""Credentials: which values of a configuration are some, and how they are taken out of texts.

Two rules, for two needs. What shows a configuration hides by place: every value of a header or of a query
parameter, whatever it is (`replace_secrets`). What a vendor sends back is searched for the values
themselves, and there one that is no credential (a title, a version, the model's name) is left alone, for
it may stand in an answer that is to be judged (`secrets_in`).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from k2_verifier_adapter.core.json_text import dumps_ascii

MASK = "***"

_SHORTEST_REST = 4
"""Characters of a cut-off secret from which on it is masked."""

_RUN_START = r"(?<!\\)"
"""Where a run of backslashes starts: tried from each of them, a run of a million takes hours."""

_NEEDLESS_ESCAPE = re.compile(_RUN_START + r"\\+u00([2-7][0-9a-fA-F])")
r"""An escape of a printable character, which JSON does not need: `\u0073` for `s` hides a secret."""

_PLAIN = re.compile(r"[A-Za-z0-9._~-]+")
"""Characters that neither JSON nor a URL has to escape."""

SHORTEST = 8
"""Characters from which on a value is searched for: a shorter one would be found in innocent words."""

_HOLDERS = frozenset(
    {"extra_headers", "default_headers", "headers", "extra_query", "default_query", "cookies"}
)
"""Keys of a configuration whose values are all secret."""

_URL_NAMES = frozenset({"api_url", "base_url"})

_SECRET_NAME = re.compile(
    r"(?:^|-)(?:api-?key|(?:access|auth|private|secret|signing|subscription)-?key|secret|pass|passwd|password"
    r"|(?:access|api|auth|bearer|csrf|id|jwt|refresh|secret|security|session|user)-?token|jwt|cookie"
    r"|authorization|credentials?)$|^(?:key|token)$"
)
_SPEAKS_OF_A_SECRET = re.compile(r"key|token|secret|pass|auth|cred|cookie|session|sign|sig$|jwt")
_PUBLIC_NAMES = frozenset(
    {
        *(
            "accept",
            "accept-encoding",
            "accept-language",
            "anthropic-version",
            "api-version",
            "cache-control",
        ),
        *("connection", "content-type", "host", "http-referer", "openai-beta", "origin", "referer"),
        *("user-agent", "x-title"),
    }
)
_WORD = re.compile(r"[A-Z]?[a-z]+")
_HOST_AND_PORT = re.compile(r"(?:\[[^\]]*\]|[^:\[\]]*)(?::\d*)?")

Replace = Callable[[str, Any], Any]
"""Gives what stands in a secret's place, from its name and value."""


def is_secret_name(name: object) -> bool:
    """Whether a value of this name is a credential, wherever it stands."""
    return _SECRET_NAME.search(_plain(name)) is not None


def _plain(name: object) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", str(name)).lower().replace("_", "-")


def replace_secrets(value: Any, replace: Replace, *, name: str = "", held: bool = False) -> Any:
    """Rebuild a configuration with every secret replaced.

    Secret are the values of headers and query parameters, values whose name says so, and in every URL the
    user, the password and the query. `name` is the key that the value stands under; all of a value is secret
    that is `held`.
    """
    if isinstance(value, Mapping):
        return {
            key: replace_secrets(
                item,
                replace,
                name=str(key),
                held=held or str(key).lower() in _HOLDERS or is_secret_name(key),
            )
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [replace_secrets(item, replace, name=name, held=held) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if held:
        return replace(name, value)
    if isinstance(value, str) and ("://" in value or name in _URL_NAMES):
        return "".join(
            text if secret is None else str(replace(secret, text)) for text, secret in _url_parts(value)
        )
    return value


def _url_parts(url: str) -> Iterator[tuple[str, str | None]]:
    """Yield the parts of a URL in order, those that are secret with their name."""
    scheme = re.match(r"[a-z0-9+.-]*://", url, re.IGNORECASE)
    rest = url[scheme.end() :] if scheme else url
    yield url[: len(url) - len(rest)], None
    authority = rest.partition("/")[0]
    # An unencoded password may hold whatever ends a host; what stands before the last @ is credentials.
    if "@" in authority or ("@" in rest and not _HOST_AND_PORT.fullmatch(authority)):
        credentials, _, rest = rest.rpartition("@")
        user, colon, password = credentials.partition(":")
        yield user, "user"
        if colon:
            yield colon, None
            yield password, "password"
        yield "@", None
    mark = re.search(r"[?#]", rest)
    if mark is None:
        yield rest, None
        return
    yield rest[: mark.end()], None
    for number, pair in enumerate(rest[mark.end() :].split("&")):
        if number:
            yield "&", None
        name, equals, value = pair.partition("=")
        if equals:
            yield f"{name}=", None
        yield (value, name) if equals else (name, "key")


def secrets_in(config: Any, public: Iterable[str] = ()) -> frozenset[str]:
    """Collect the credentials of a configuration that a text can be searched for.

    What is public is no secret wherever it stands: the model's name, say.
    """
    found: set[str] = set()

    def note(name: str, value: Any) -> Any:
        found.update(_searchable(name, str(value)))
        return value

    replace_secrets(config, note)
    return frozenset(found - set(public))


def _searchable(name: str, value: str) -> Iterator[str]:
    """Yield a value and its parts: of `Bearer KEY`, a vendor repeats the key alone."""
    plain = _plain(name)
    if plain in _PUBLIC_NAMES:
        return
    named = _SPEAKS_OF_A_SECRET.search(plain) is not None
    for part in {value, *value.split(), *re.split(r"[\s;,=]+", value), *_basic(value)}:
        if len(part) >= SHORTEST and (named or not _WORD.fullmatch(part)):
            yield part


def _basic(value: str) -> tuple[str, ...]:
    """Decode the credentials of HTTP's basic authentication."""
    scheme, _, encoded = value.partition(" ")
    if scheme.lower() != "basic":
        return ()
    try:
        decoded = base64.b64decode(encoded, validate=True).decode()
    except ValueError:
        return ()
    return decoded, decoded.partition(":")[2]


def hide_secrets(config: Any) -> Any:
    """Give a configuration with `MASK` in place of every secret."""
    return replace_secrets(config, lambda _name, _value: MASK)


class Masker:
    """Takes secrets out of texts, the longest first, however JSON or a URL spells them."""

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
