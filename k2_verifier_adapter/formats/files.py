"""Small helpers around files: atomic writes, JSON lines with positions."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from k2_verifier_adapter.errors import DataError


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that appears whole or not at all; an existing one stays until then.

    Raises:
        DataError: If the directory cannot be written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def json_lines(lines: Iterator[bytes]) -> Iterator[tuple[int, Any]]:
    """Parse JSON lines; yield the 1-based line number and the value, or the ValueError in its place.

    Empty lines are skipped; a byte order mark is dropped, which some editors put in front.
    """
    for number, line in enumerate(lines, start=1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        stripped = line.strip()
        if not stripped:
            continue
        try:
            yield number, json.loads(stripped)
        except RecursionError:
            yield number, ValueError("nested too deeply")
        except ValueError as error:
            yield number, error
