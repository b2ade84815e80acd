"""The reports on summaries and comparisons in each format for people."""

from k2_verifier_adapter.reports import markdown, page, text
from k2_verifier_adapter.reports.comparison_document import comparison_document
from k2_verifier_adapter.reports.run_document import run_document


def render_text(summary, **look):
    """Report on a run as text."""
    return text.render_text(run_document(summary), **look)


def render_markdown(summary):
    """Report on a run as Markdown."""
    return markdown.render_markdown(run_document(summary))


def render_html(summary, cases):
    """Report on a run as HTML."""
    return page.render_html(run_document(summary, cases))


def comparison_as_text(comparison, found=None, **look):
    """Report on a comparison as text."""
    return text.render_text(comparison_document(comparison, found), **look)


def comparison_as_markdown(comparison, found=None):
    """Report on a comparison as Markdown."""
    return markdown.render_markdown(comparison_document(comparison, found))


def comparison_as_html(comparison, found=None):
    """Report on a comparison as HTML."""
    return page.render_html(comparison_document(comparison, found))
