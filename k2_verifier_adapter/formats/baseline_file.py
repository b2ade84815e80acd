"""`SUBSET.baseline.json`: which official runs the rows beside it were built from, and their standard."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from k2_verifier_adapter.core.presets import Standard
from k2_verifier_adapter.errors import DataError

SPLIT = "test"


def rows_path(directory: Path, subset: str) -> Path:
    """Name the rows file of a subset."""
    return directory / f"{subset}_{SPLIT}.jsonl"


def baseline_path(rows: Path) -> Path:
    """Name the baseline file that belongs to a rows file."""
    return rows.with_name(f"{rows.stem.removesuffix(f'_{SPLIT}')}.baseline.json")


def read_standard(rows: Path) -> Standard | None:
    """Read what the rows' own baseline says their numbers are held against.

    Returns:
        None if there is no baseline file, or it belongs to another rows file.

    Raises:
        DataError: If the baseline file is damaged, or the rows were changed after it was written.
    """
    path = baseline_path(rows)
    try:
        value = json.loads(path.read_bytes())
        file, recorded = value["rows"]["file"], value["rows"]["sha256"]
        standard = Standard.from_json(value["standard"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: is no baseline file: {error!r}; {_ADVICE.format(path=path)}") from None
    if file != rows.name:
        return None
    found = hashlib.sha256(rows.read_bytes()).hexdigest()
    if found != recorded:
        raise DataError(
            f"{rows}: was changed after its baseline was built: its sha256 is {found[:16]}…, {path.name} "
            f"records {str(recorded)[:16]}…; {_ADVICE.format(path=path)}"
        )
    return standard


_ADVICE = "build both anew with 'k2-verifier dataset build', or delete {path} to go without its threshold"
