"""Write synthetic rows to a file: `python tools/synthetic --output FILE`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

_TOOLS = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    # Run by its path, the folder that holds this package is not where Python looks.
    sys.path[0] = str(_TOOLS)

from synthetic.rows import Row, generate_rows, write_row

BUNDLED_PATH = _TOOLS.parent / "k2_verifier_adapter" / "data" / "bundled_rows.jsonl"
BUNDLED_COUNT = 240
BUNDLED_SEED = 20251121


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments and write the file; without any, the bundled one."""
    parser = argparse.ArgumentParser(prog="python tools/synthetic", description=__doc__)
    parser.add_argument("--count", type=int, default=BUNDLED_COUNT, help="number of rows (%(default)s)")
    parser.add_argument("--seed", type=int, default=BUNDLED_SEED, help="seed (%(default)s)")
    parser.add_argument("--output", type=Path, default=BUNDLED_PATH, help="file to write (the bundled rows)")
    parser.add_argument("--distinct-tools", action="store_true", help="make every tool schema differ")
    parser.add_argument("--mean-chars", type=int, default=4300, help="mean size of a request (%(default)s)")
    options = parser.parse_args(arguments)
    rows = generate_rows(
        options.count, options.seed, distinct_tools=options.distinct_tools, mean_chars=options.mean_chars
    )
    write_atomically(options.output, rows)


def write_atomically(path: Path, rows: Iterable[Row]) -> None:
    """Write rows to a file that is either complete or not there (or the old one).

    Raises:
        OSError: If the directory is missing or cannot be written.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(write_row(row) for row in rows)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    main()
