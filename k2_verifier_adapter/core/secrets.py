"""Credentials: which values of a configuration are some, and how they are taken out of texts.

Two rules, for two needs. What shows a configuration hides by place: every value of a header or of a query
parameter, whatever it is (`replace_secrets`). What a vendor sends back is searched for the values
themselves, and there only what is a credential by its name or its form is masked: a region, a version, the
model's name may stand in an answer that is to be judged (`secrets_in`).
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

_HEX = "[0-9a-fA-F]"

_NEEDLESS_ESCAPE = re.compile(rf"(?:{_RUN_START}\\+(?:u00|x)|%|&#[xX])([2-7]{_HEX});?|&#(\d{{2,3}});")
r"""An escape of a printable character, which nothing needs: `\u0073` or `%73` for `s` hides a secret."""

_PERCENT = re.compile(rf"%[2-7]{_HEX}")

_SPELLING = re.compile(
    rf"{_RUN_START}\\+(?:"
    rf"u(?P<high>[dD][89abAB]{_HEX}{{2}})\\+u(?P<low>[dD][c-fC-F]{_HEX}{{2}})"
    rf"|u(?P<unit>{_HEX}{{4}})"
    rf"|U(?P<point>{_HEX}{{8}})"
    rf"|(?P<utf8>x[c-fC-F]{_HEX}(?:\\+x[89abAB]{_HEX})+)"
    rf"|x(?P<byte>{_HEX}{{2}})"
    r"|(?P<quoted>[\"'/])"
    r"|)"
    rf"|(?P<percent>%[c-fC-F]{_HEX}(?:%[89abAB]{_HEX})+|%[0-7]{_HEX})"
    r"|&(?:#(?P<decimal>\d{1,7})|#[xX](?P<hexadecimal>[0-9a-fA-F]{1,6})|(?P<entity>amp|lt|gt|quot));"
)
r"""All ways in which JSON, JSON within JSON, `repr` of text and bytes, URLs and HTML spell one character."""

_LAST_CODE = 0x10FFFF

_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"'}

_CUT = re.compile(r"…|\.\.\.")
"""Behind this something was left out."""

_HALF_SPELLED = re.compile(
    rf"(?:(?:\\+x|%)[c-fC-F]{_HEX}(?:(?:\\+x|%)[89abAB]{_HEX}){{0,2}}|\\+u[dD][89abAB]{_HEX}{{2}})?"
    rf"(?:\\+(?:[uUx]{_HEX}{{0,7}})?|%{_HEX}?|&#?\w{{0,7}})?$"
)
"""The beginning of a spelling that was cut off."""

_LONGEST_SPELLING = 24
"""Characters that one may take: ten, behind the backslashes of JSON within JSON within JSON."""

_PLAIN = re.compile(r"[A-Za-z0-9._~-]+")
"""Characters that neither JSON nor a URL has to escape."""

SHORTEST = 8
"""Characters from which on a value is searched for: a shorter one would be found in innocent words."""

_SHORTEST_UNNAMED = 16
"""The same of a value whose name does not say that it is a credential."""

_RANDOM = re.compile(r"(?=[A-Za-z]*[0-9])[A-Za-z0-9]{10,}|(?=[^a-z]*[a-z])(?=[^A-Z]*[A-Z])[A-Za-z0-9]{20,}")
"""What a key has in it and words, versions and regions have not: a long run of letters with digits."""

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
_SPEAKS_OF_A_SECRET = re.compile(
    r"(?:^|-)(?:[a-z]*(?:key|token|secret|passwd|passwords?|passphrase|pwd|cookies?|jwt|signature|credentials?|session)"
    r"|pass|auth|authorization|sig|bearer)(?:$|-)"
)
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


def holds_secret(name: object) -> bool:
    """Whether all that stands under a key of a configuration is secret."""
    return str(name).lower() in _HOLDERS or is_secret_name(name)


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
                held=held or holds_secret(key),
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
    if _is_credential(value, named=named):
        yield value
    yield from (part for part in _basic(value) if _is_credential(part, named=True))
    if "://" in value:
        for text, secret in _url_parts(value):
            if secret is not None:
                yield from _searchable(secret, text)
    if _SEPARATOR.search(value) or "=" in value:
        for part in _SEPARATOR.split(value):
            key, _, rest = part.partition("=")
            if rest.strip('="'):
                # Of a cookie, say: each pair has a name of its own.
                yield from _searchable(key, rest.strip('"'))
            elif _is_credential(part, named=named) and not _WORD.fullmatch(part):
                yield part


_SEPARATOR = re.compile(r"[\s;,]+")


def _is_credential(text: str, *, named: bool) -> bool:
    if named:
        return len(text) >= SHORTEST
    return len(text) >= _SHORTEST_UNNAMED and _RANDOM.search(text) is not None


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
    """Takes secrets out of texts, the longest first, however JSON, Python, a URL or HTML spells them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self.secrets = tuple(sorted({*secrets} - {""}, key=lambda secret: (-len(secret), secret)))
        # What is in a text in whatever way it spells the secret: a quick test before the slow search.
        self._anchors = tuple(max(_PLAIN.findall(secret), key=len, default="") for secret in self.secrets)
        # A form writes a blank as `+`.
        spelled = {_unspelled(form) for secret in self.secrets for form in (secret, secret.replace(" ", "+"))}
        self._unspelled = tuple(sorted(spelled, key=len, reverse=True))
        self._pattern = re.compile("|".join(map(re.escape, self._unspelled)))

    def text(self, text: str) -> str:
        """Give a text without the secrets, whole or cut off by an excerpt."""
        if not self.secrets:
            return text
        text = self._without_whole(text)
        return self._without_cut(text) if _CUT.search(text) else text

    def _without_whole(self, text: str) -> str:
        if not self.secrets or not self._may_be_in(text):
            return text
        plain = _unspelled(text)
        found = [match.span() for match in self._pattern.finditer(plain)]
        return _masked(text, found) if found else text

    def _may_be_in(self, text: str) -> bool:
        if any(anchor in text for anchor in self._anchors):
            return True
        if not any(sign in text for sign in ("\\u00", "\\x", "&#")) and not _PERCENT.search(text):
            return False
        plain = _NEEDLESS_ESCAPE.sub(_needed, text)
        return any(anchor in plain for anchor in self._anchors)

    def _without_cut(self, text: str) -> str:
        kept, done = [], 0
        for cut in _CUT.finditer(text):
            before = text[max(done, cut.start() - _LONGEST_SPELLING * len(self.secrets[0])) : cut.start()]
            for whole in (before, _HALF_SPELLED.sub("", before)):
                plain = _unspelled(whole)
                rest = max((_rest_of(secret, plain) for secret in self._unspelled), default=0)
                if rest >= _SHORTEST_REST:
                    masked = _masked(whole, [(len(plain) - rest, len(plain))])
                    kept += [text[done : cut.start() - len(before)], masked]
                    done = cut.start()
                    break
        return "".join([*kept, text[done:]])

    def json_text(self, text: str) -> str:
        """Give a JSON text without the secrets; one that holds none comes back byte for byte."""
        masked = self._without_whole(text)
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
            return self._without_whole(value)
        if isinstance(value, Mapping):
            return {self.value(key): self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value


def _unspelled(text: str) -> str:
    """Give a text with every spelling of a character undone."""
    return _SPELLING.sub(_character, text)


def _character(match: re.Match[str]) -> str:
    kind, found = match.lastgroup, match[match.lastgroup] if match.lastgroup else ""
    if kind == "low":
        return (bytes.fromhex(match["high"]) + bytes.fromhex(found)).decode("utf-16-be")
    if kind in ("utf8", "percent"):
        return bytes.fromhex(re.sub(r"[\\x%]", "", found)).decode("utf-8", "replace")
    if kind in ("unit", "point", "byte", "hexadecimal", "decimal"):
        code = int(found, 10 if kind == "decimal" else 16)
        return chr(code) if code <= _LAST_CODE else match[0]
    # A run of backslashes that spells nothing is the spelling of one.
    return _ENTITIES[found] if kind == "entity" else found or "\\"


def _needed(match: re.Match[str]) -> str:
    return chr(int(match[1], 16) if match[1] else int(match[2]))


def _rest_of(secret: str, plain: str) -> int:
    """Count the first characters of a secret that a text ends with."""
    lengths = range(min(len(secret), len(plain)), 0, -1)
    return next((length for length in lengths if plain.endswith(secret[:length])), 0)


def _masked(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Mask spans of the unspelled text in the text as it is spelled."""
    spellings = _SPELLING.finditer(text)
    spelling = next(spellings, None)
    kept: list[str] = []
    place = at = done = 0  # In the unspelled text, in the text, and up to where it is kept.

    def spelled(target: int) -> int:
        """Give the place in the text of one in the unspelled text."""
        nonlocal place, at, spelling
        while spelling is not None and place + spelling.start() - at < target:
            place += spelling.start() - at + len(_character(spelling))
            at = spelling.end()
            spelling = next(spellings, None)
        return at + max(0, target - place)

    for start, end in spans:
        kept += [text[done : spelled(start)], MASK]
        done = spelled(end)
    return "".join([*kept, text[done:]])
