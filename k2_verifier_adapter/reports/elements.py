"""HTML elements, built so that a text can never become markup by accident."""

from __future__ import annotations

from html import escape

from k2_verifier_adapter.core.printable import printable

_VOID = frozenset({"input", "meta", "wbr"})


class Markup(str):
    """A text that is HTML already; every other text is escaped where it is put into an element."""

    __slots__ = ()


def element(tag: str, /, *children: str | None, **attributes: str | int | bool | None) -> Markup:
    """Build an element.

    The tag and the names of attributes are not foreign; texts among the children are escaped, `Markup` is
    not. A name is written with `_` for `-` and behind a Python keyword; None and False are left out, True is
    an attribute without value.
    """
    listed = "".join(_attribute(key, value) for key, value in attributes.items())
    if tag in _VOID:
        return Markup(f"<{tag}{listed}>")
    return Markup(f"<{tag}{listed}>{join(*children)}</{tag}>")


def join(*children: str | None) -> Markup:
    """Put texts and markup behind each other."""
    return Markup("".join(safe(child) for child in children if child is not None))


def safe(child: str) -> Markup:
    """Escape a text, of which nothing stays invisible, unless it is markup."""
    return child if isinstance(child, Markup) else Markup(escape(printable(child)))


def _attribute(name: str, value: str | int | bool | None) -> str:  # noqa: FBT001 - HTML has such attributes
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(printable(str(value)))}"'
