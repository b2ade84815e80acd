"""EvalScope's HTML page without its drawings, which take longer than all the rest of a small run."""

from pathlib import Path


def write_page(reports_dir, output_html_name="report.html"):
    """Stand in for `evalscope.report.gen_html_report_file`: write the file, give its path."""
    page = Path(reports_dir, output_html_name)
    page.write_text("<!DOCTYPE html>", encoding="utf-8")
    return str(page)
