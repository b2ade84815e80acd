"""The frame of every HTML page: one file that may load nothing and run nothing but its own script."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib import resources

from k2_verifier_adapter.reports.html.elements import Markup, element


def document(
    title: str,
    header: Markup,
    main: Markup,
    *,
    skip: str,
    style: str,
    data: Markup | None = None,
    script: str | None = None,
) -> str:
    """Put a page together.

    Args:
        title: Its title.
        header: What stands above the content.
        main: The content.
        skip: Text of the link that leads to the content, past the header.
        style: The style sheet.
        data: An element with what the script reads.
        script: The only script that may run; none if None.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", Markup(style)),
    )
    body = element(
        "body",
        element("a", skip, class_="skip", href="#main"),
        header,
        element("main", main, id="main", tabindex="-1"),
        data,
        None if script is None else element("script", Markup(script)),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def asset(name: str) -> str:
    """Read a style sheet or a script of this package."""
    return (resources.files("k2_verifier_adapter.reports.html") / "assets" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str | None) -> str:
    """Allow this style and this script, by their digests, and nothing else."""
    scripts = "" if script is None else f" script-src '{_digest(script)}';"
    return f"default-src 'none'; style-src '{_digest(style)}';{scripts} base-uri 'none'; form-action 'none'"


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
