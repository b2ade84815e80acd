"""Which values of a configuration are credentials.

Two rules, for two needs. What shows a configuration hides by place: every value of a header or of a query
parameter, whatever it is (`replace_secrets`). What a vendor sends back is searched for the values
themselves, and there one that is no credential (a title, a version, the model's name) is left alone, for
it may stand in an answer that is to be judged (`secrets_in`).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

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

    Secret are the values of headers and query parameters, values whose name says so, and in every URL
    the user, the password and the query.

    Args:
        value: Strings, numbers, lists and mappings.
        replace: Gives what stands in a secret's place.
        name: The key that the value stands under.
        held: Whether all of the value is secret.
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

    Args:
        config: Settings, as nested mappings and lists.
        public: Values that are no secret wherever they stand: the model's name, say.
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
