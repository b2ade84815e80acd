"""How a run ends: this package's reports beside EvalScope's, and the verdict as the last line."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from evalscope.utils.logger import get_logger

from k2_verifier_adapter.core.gate import GateOptions
from k2_verifier_adapter.core.judged import Item
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.summary import summarize
from k2_verifier_adapter.evalscope_plugin.run_files import SubsetFiles
from k2_verifier_adapter.formats.files import atomic_write
from k2_verifier_adapter.offline.failed_cases_of_run import failed_cases_of_items
from k2_verifier_adapter.offline.stored import with_its_end
from k2_verifier_adapter.reports import verdicts
from k2_verifier_adapter.reports.html.page import render_html
from k2_verifier_adapter.reports.json_report import dump_report
from k2_verifier_adapter.reports.junit import render_junit
from k2_verifier_adapter.reports.markdown import render_markdown
from k2_verifier_adapter.reports.text import render_text

logger = get_logger()


def write_reports(files: SubsetFiles, failed: Iterable[FailedRequest]) -> str:
    """Write every format of a subset's report; give the verdict in one line.

    The JSON file stands where EvalScope looks for reports of its own; it has none of their keys, and is
    passed over.

    Args:
        files: The subset's files, which hold what was judged.
        failed: The failed requests.

    Raises:
        StorageError: If a file cannot be written.
    """
    paths = files.paths
    items: list[Item] = [*files.judged, *failed]
    summary = with_its_end(summarize(files.facts, files.cases, items), paths.run)
    cases = {case.index: case for case in files.cases}
    formats: Mapping[str, Callable[[], str]] = {
        "txt": lambda: render_text(summary),
        "json": lambda: dump_report(summary),
        "md": lambda: render_markdown(summary),
        "junit.xml": lambda: render_junit(summary, GateOptions()),
        "html": lambda: render_html(summary, failed_cases_of_items(items, cases)),
    }
    for ending, render in formats.items():
        try:
            text = render()
        except Exception:
            # The answers are stored, and EvalScope's own reports are still to come.
            logger.exception(f"{paths.subset}: the {ending} report could not be written")
            continue
        with atomic_write(paths.reports / f"{paths.subset}.{ending}") as file:
            file.write(text.encode("utf-8", "backslashreplace"))
    return f"{verdicts.one_line(summary)}; {paths.reports / paths.subset}.html"


def say(endings: Iterable[str]) -> None:
    """Log the verdicts; the stock command line says them once more as its last lines."""
    for ending in endings:
        logger.info(ending)
        if _is_the_stock_command(Path(sys.argv[0])):
            # EvalScope's tables come behind the evaluation, and a verdict is what one looks for at the end.
            atexit.register(_print, ending)


def _print(line: str) -> None:
    # Whoever ends the process may have closed the stream before.
    if sys.stderr is not None and not sys.stderr.closed:
        print(line, file=sys.stderr)  # noqa: T201 - EvalScope's own tables are printed, too


def _is_the_stock_command(program: Path) -> bool:
    """Whether a program is `evalscope`, or `python -m evalscope.cli.cli`."""
    return program.stem == "evalscope" or program.parts[-3:] == ("evalscope", "cli", "cli.py")
