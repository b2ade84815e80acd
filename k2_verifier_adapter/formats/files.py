"""Files: names that are no paths, and writing whole files and whole lines, or nothing."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from k2_verifier_adapter.core.json_text import check_values
from k2_verifier_adapter.errors import DataError, StorageError, UsageError

_BLOCK = 1 << 16

MAX_KEPT_BYTES = 1 << 30
_SMALL = 16 << 20

_LONGEST_NAME = 180
"""Bytes; a file system takes 255, and what is written beside a name adds to it."""


def check_name(what: str, name: object) -> None:
    """Raise `UsageError` for a name that files could not be named by, or would lie elsewhere by.

    Refused rather than rewritten, so that two names never share one file.
    """
    if not isinstance(name, str) or not name.isprintable() or not name.strip():
        expected = "a name in printable characters"
    elif "/" in name or "\\" in name or name.startswith((".", "-")):
        expected = "a plain name, without slashes, and no dot or dash in front"
    elif len(os.fsencode(name)) > _LONGEST_NAME:
        expected = f"a name of at most {_LONGEST_NAME} bytes"
    else:
        return
    raise UsageError(f"{what} is {name!r}, expected {expected}: files are named by it")


def check_kept(size: int) -> None:
    """Raise `DataError` where the rows of a file, which stay in memory, are larger than any that are real."""
    if size > MAX_KEPT_BYTES:
        raise DataError(f"the rows hold more than {MAX_KEPT_BYTES >> 20} MiB")


def regular_files(folder: Path) -> Iterator[Path]:
    """List the files below a folder that somebody else may have filled.

    Raises:
        DataError: If anything in it is no regular file: a link leads elsewhere, a pipe or a device blocks.
    """
    folders = [folder]
    while folders:
        try:
            entries = sorted(os.scandir(folders.pop()), key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be read: {error.strerror or error}") from None
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)
            else:
                kind = "a link" if entry.is_symlink() else "no regular file"
                raise DataError(f"{entry.path}: is {kind}, which a run does not hold; remove it")


def read_small(path: Path) -> bytes:
    """Read a JSON file that describes others; a ValueError says that it is no regular one, or large."""
    if path.exists() and not path.is_file():
        raise ValueError("is no regular file")
    with path.open("rb") as file:
        content = file.read(_SMALL + 1)
    if len(content) > _SMALL:
        raise ValueError(f"is larger than {_SMALL >> 20} MiB")
    check_values(content)
    return content


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Make a `StorageError` of any error of the operating system with this path."""
    try:
        yield
    except OSError as error:
        raise StorageError(path, error) from error


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that appears whole or not at all (`StorageError`); an existing one stays until then."""
    path = Path(path)
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what `atomic_write` of a killed process left; nobody else may be writing the file now.

    A `StorageError` says that it cannot be removed.
    """
    with storing(path):
        for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
            leftover.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


class LineWriter:
    """Append JSON lines to a file, each whole or not at all.

    A line belongs to the operating system as soon as it is written: it survives the end of this
    process, however that comes about. To survive a power failure, it takes `sync`.
    """

    def __init__(self, path: Path, *, new: bool = False) -> None:
        """Open the file, or raise `StorageError` before there is anything to write.

        Its directories are made if they are missing; a `new` file is emptied first.
        """
        self._path = path
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = "wb" if new else "ab"
            self._file = open(path, mode, buffering=0, opener=_no_link)  # noqa: SIM115 - until `close`
            self._end = os.fstat(self._file.fileno()).st_size
        self._torn = False

    def write(self, record: Any) -> None:
        """Append a record, or raise `StorageError` and leave nothing of it in the file."""
        # What UTF-8 cannot hold, a lone surrogate, becomes JSON's own escape of it.
        line = json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        with storing(self._path):
            self._mend()
            self._torn = True
            try:
                written = 0
                while written < len(line):
                    # A disk that fills up takes the first part of a line before it refuses.
                    written += os.write(self._file.fileno(), line[written:])
            except OSError:
                with contextlib.suppress(OSError):
                    self._mend()
                raise
            self._torn = False
            self._end += len(line)

    def _mend(self) -> None:
        """Cut off the part of a line that did not fit."""
        if self._torn:
            os.ftruncate(self._file.fileno(), self._end)
            self._torn = False

    def sync(self) -> None:
        """Have all lines written to the device, or raise `StorageError`."""
        with storing(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def end_last_line(path: Path) -> None:
    """Make the next line start on its own: remove a last line that was cut off, end one that is whole.

    What was cut off is the start of a JSON object, and the start of an object is no JSON.
    """
    with (
        storing(path),
        contextlib.suppress(FileNotFoundError),
        open(path, "rb+", opener=_no_link) as file,
    ):
        size = file.seek(0, os.SEEK_END)
        last, block = b"", min(size, _BLOCK)
        while block:
            file.seek(-block, os.SEEK_END)
            _, line_break, last = file.read(block).rpartition(b"\n")
            if line_break or block == size:
                break
            block = min(size, 2 * block)
        if not last:
            return
        try:
            json.loads(last)
        except (ValueError, RecursionError):
            file.seek(-len(last), os.SEEK_END)
            file.truncate()
        else:
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
