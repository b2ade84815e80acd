"""JSON lines wherever they stand, plain, gzipped or in an archive, and the rows of a parquet file."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedReader, FileIO
from pathlib import Path, PurePosixPath
from typing import IO, Any

from k2_verifier_adapter.core.json_text import check_values
from k2_verifier_adapter.errors import DataError

LINES_SUFFIXES = (".jsonl", ".jsonl.gz")
SUFFIXES = (*LINES_SUFFIXES, ".parquet")
"""What the files of rows and of results end with."""

ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar")

_GZIP = b"\x1f\x8b"
"""How gzip begins, whatever the file is called."""

_READ_BYTES = 1 << 18
"""What is read at a time: many lines, which are some kilobytes long."""

_TELL_BYTES = 1 << 20

MAX_LINE_BYTES = 64 << 20
"""Size of a line, decompressed: far above any row or answer."""

_BATCH_ROWS = 256
_MAX_BATCH_BYTES = 256 << 20
"""Size of so many rows of a parquet file, decompressed; a value may be written once and stand in all."""

Advance = Callable[[int], None]


def stem_of(path: Path) -> str:
    """Give a file's name without its suffix, which may be of two parts."""
    suffix = next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), path.suffix)
    return path.name.removesuffix(suffix)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Make a `DataError` of whatever keeps a file from being read."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


class Lines:
    """The lines of an open file, their bytes told to a listener; `last` is the one given last."""

    def __init__(
        self, file: IO[bytes] | gzip.GzipFile, path: Path, advance: Advance, *, digest: bool
    ) -> None:
        self.last = b""
        self._file = file
        self._path = path
        self._advance = advance
        self._digest = hashlib.sha256() if digest else None

    def __iter__(self) -> Iterator[bytes]:
        untold = 0
        with _reading(self._path):
            while line := self._file.readline(MAX_LINE_BYTES + 1):
                if len(line) > MAX_LINE_BYTES:
                    raise DataError(f"{self._path}: holds a line of more than {MAX_LINE_BYTES >> 20} MiB")
                self.last = line
                if self._digest is not None:
                    self._digest.update(line)
                untold += len(line)
                if untold >= _TELL_BYTES:
                    self._advance(untold)
                    untold = 0
                yield line
        self._advance(untold)

    def text(self) -> str:
        """Decode the last line, which `json.loads` accepted, in the way that `json.loads` does."""
        line = self.last.removeprefix(b"\xef\xbb\xbf")
        return line.decode(json.detect_encoding(line), "surrogatepass")

    def sha256(self) -> str:
        """Give the digest of the lines so far; the file was opened with `digest`."""
        assert self._digest is not None
        return self._digest.hexdigest()


@contextmanager
def open_lines(
    path: Path, member: str | None = None, advance: Advance = lambda _: None, *, digest: bool = False
) -> Iterator[Lines]:
    """Open a file of lines, which may be gzipped, or a member of a tar archive.

    `advance` is told how many bytes were read, now and then. A member of an archive is named by its file
    name, in whatever folder it lies.

    Raises:
        DataError: If it does not exist or cannot be read.
    """
    with ExitStack() as opened:
        with _reading(path):
            file = _open(path, member, opened)
        yield Lines(file, path, advance, digest=digest)


def _open(path: Path, member: str | None, opened: ExitStack) -> IO[bytes] | gzip.GzipFile:
    if path.name.endswith(ARCHIVE_SUFFIXES):
        return _open_member(path, member, opened)
    file = opened.enter_context(BufferedReader(FileIO(path), _READ_BYTES))
    if path.name.endswith(".gz") or file.peek(len(_GZIP)).startswith(_GZIP):
        return opened.enter_context(gzip.open(file))
    return file


def _open_member(path: Path, member: str | None, opened: ExitStack) -> IO[bytes] | gzip.GzipFile:
    archive = opened.enter_context(tarfile.open(path))  # noqa: SIM115 - closed with what it holds
    names = archive.getnames()
    found = [name for name in names if PurePosixPath(name).name == member]
    if len(found) != 1:
        raise DataError(
            f"{path}: expected one member {member!r}, found {len(found)} among: {', '.join(names[:10])}"
        )
    try:
        extracted = archive.extractfile(found[0])
    except (KeyError, RecursionError):
        # A link to nothing, or to itself.
        extracted = None
    if extracted is None:
        raise DataError(f"{path}: member {found[0]!r} is not a file")
    return opened.enter_context(extracted)


def json_lines(lines: Iterable[bytes], first_line: int = 1) -> Iterator[tuple[int, Any]]:
    """Parse JSON lines; yield the line number and the value, or the ValueError in its place.

    Empty lines are skipped; a byte order mark is dropped, which some editors put in front.
    """
    for number, line in enumerate(lines, start=first_line):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        stripped = line.strip()
        if not stripped:
            continue
        try:
            check_values(stripped)
            yield number, json.loads(stripped)
        except RecursionError:
            yield number, ValueError("nested too deeply")
        except ValueError as error:
            yield number, error


def json_objects(
    lines: Iterable[bytes], first_line: int = 1
) -> Iterator[tuple[int, dict[str, Any] | ValueError]]:
    """Parse JSON lines of objects; yield the line number and the object, or what is wrong in its place."""
    for number, value in json_lines(lines, first_line):
        if isinstance(value, dict):
            yield number, value
        elif isinstance(value, ValueError):
            yield number, ValueError(f"is not JSON: {value}")
        else:
            yield number, ValueError("is not a JSON object")


def read_parquet(path: Path, json_columns: Iterable[str], what_is_lost: str) -> Iterator[dict[str, Any]]:
    """Read a parquet file row by row.

    `json_columns` have to hold JSON as text, for in a nested type absent keys become null; the error says
    what that would cost. Other columns of a nested type are left out.

    Raises:
        DataError: If the file cannot be read, is far larger inside, or one of these columns is of a nested
            type.
    """
    # Slow to import, and only needed here.
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            texts = [field.name for field in file.schema_arrow if field.type in (pa.string(), pa.binary())]
        # Read so, a value that stands in many rows is in memory once, until its size is known.
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            for name in json_columns:
                position = file.schema_arrow.get_field_index(name)
                if position >= 0 and pa.types.is_nested(file.schema_arrow.field(position).type):
                    raise DataError(
                        f"{path}: column {name!r} is of a nested type, in which absent keys became null, so "
                        f"{what_is_lost}; store the column as JSON text"
                    )
            flat = [field.name for field in file.schema_arrow if not pa.types.is_nested(field.type)]
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=flat):
                columns = [column for column in batch.columns if pa.types.is_dictionary(column.type)]
                lengths = (pc.take(pc.binary_length(column.dictionary), column.indices) for column in columns)
                if sum(pc.sum(each).as_py() or 0 for each in lengths) > _MAX_BATCH_BYTES:
                    limit = f"{_MAX_BATCH_BYTES >> 20} MiB"
                    raise DataError(f"{path}: {batch.num_rows} rows hold more than {limit} of text")
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as parquet: {error}") from error
