"""Bundles: the files of a run in one archive, of which no byte can change unnoticed.

A bundle is a ZIP archive that any program opens: its members stored, the manifest first, the others as the
manifest lists them, without dates, comments and extra fields. So the manifest tells every byte of the archive
but the contents, and of these it holds the SHA-256: what differs from it is refused, before anything is
decompressed or decoded. Nothing that an archive says of itself decides how much is read or where it is
written.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from k2_verifier_adapter.core.json_text import check_values, excerpt, json_object, text, whole
from k2_verifier_adapter.errors import DataError
from k2_verifier_adapter.formats.files import MAX_KEPT_BYTES, atomic_write

SUFFIX = ".zip"
MANIFEST = "manifest.json"
KIND = "k2-verifier bundle"
SCHEMA_VERSION = 1

_MOST_MANIFEST_BYTES = 1 << 20
_BLOCK = 1 << 18
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_VERSION, _UNIX_FILE, _FIRST_DAY = 20, 0o100644 << 16, 0x21


@dataclass(frozen=True, slots=True)
class _Member:
    """What the archive says of a member."""

    name: str
    size: int
    checksum: int

    def header(self) -> bytes:
        """Give the bytes in front of its content."""
        name = self.name.encode()
        fields = (b"PK\3\4", _VERSION, 0, 0, 0, _FIRST_DAY, self.checksum, self.size, self.size, len(name), 0)
        return _LOCAL.pack(*fields) + name

    def entry(self, offset: int) -> bytes:
        """Give its bytes in the directory."""
        name = self.name.encode()
        made_by = 3 << 8 | _VERSION
        fields = (made_by, _VERSION, 0, 0, 0, _FIRST_DAY, self.checksum, self.size, self.size, len(name))
        return _CENTRAL.pack(b"PK\1\2", *fields, 0, 0, 0, 0, _UNIX_FILE, offset) + name


def _directory(members: Sequence[_Member]) -> bytes:
    entries, offset = [], 0
    for member in members:
        entries.append(member.entry(offset))
        offset += len(member.header()) + member.size
    listed = b"".join(entries)
    return listed + _END.pack(b"PK\5\6", 0, 0, len(members), len(members), len(listed), offset, 0)


def pack_bundle(path: Path, folder: Path, names: Sequence[str], about: Mapping[str, Any]) -> str:
    """Write a bundle of some files of a folder, whole or not at all; give the SHA-256 of its manifest.

    `about` is what the manifest says of them; the same files give the same bytes.
    """
    members, files = [], {}
    for name in names:
        with (folder / name).open("rb") as file:
            digest, checksum, size = _measured(file)
        files[name] = {"bytes": size, "sha256": digest}
        members.append(_Member(name, size, checksum))
    head = {"kind": KIND, "schema_version": SCHEMA_VERSION, **about, "files": files}
    manifest = json.dumps(head, indent=2, ensure_ascii=True).encode() + b"\n"
    first = _Member(MANIFEST, len(manifest), zlib.crc32(manifest))
    if sum(member.size for member in members) > MAX_KEPT_BYTES:
        raise DataError(f"{path}: the run holds more than the {MAX_KEPT_BYTES >> 20} MiB of a bundle")
    with atomic_write(path) as archive:
        archive.write(first.header() + manifest)
        for member in members:
            archive.write(member.header())
            with (folder / member.name).open("rb") as file:
                while block := file.read(_BLOCK):
                    archive.write(block)
        archive.write(_directory([first, *members]))
    return hashlib.sha256(manifest).hexdigest()


def _measured(file: IO[bytes]) -> tuple[str, int, int]:
    digest, checksum, size = hashlib.sha256(), 0, 0
    while block := file.read(_BLOCK):
        digest.update(block)
        checksum = zlib.crc32(block, checksum)
        size += len(block)
    return digest.hexdigest(), checksum, size


def unpack_bundle(path: Path, folder: Path, names: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Write the files of a bundle into a folder of one's own, byte for byte as the manifest has them.

    Gives the manifest and its SHA-256. In memory is one block at a time; what is compressed is measured
    before anybody reads it.

    Raises:
        DataError: If anything in it is not as `pack_bundle` writes just these files.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is no regular file")
    try:
        with path.open("rb") as archive:
            reader = _Reader(archive, path)
            manifest, content = reader.manifest(names)
            for name in names:
                entry = manifest["files"][name]
                reader.member(name, entry["bytes"], entry["sha256"], folder / name)
            reader.end()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    for name in names:
        if name.endswith(".gz"):
            _check_inside(path, folder / name)
    return manifest, hashlib.sha256(content).hexdigest()


class _Reader:
    """Reads an archive from its first byte to its last; all but the contents are known before."""

    def __init__(self, archive: IO[bytes], path: Path) -> None:
        self._archive = archive
        self._path = path
        self._members: list[_Member] = []

    def manifest(self, names: Sequence[str]) -> tuple[dict[str, Any], bytes]:
        """Read the manifest, the first member; give what it says, and its bytes."""
        header = self._archive.read(len(_Member(MANIFEST, 0, 0).header()))
        if header[:4] != b"PK\3\4" or header[_LOCAL.size :] != MANIFEST.encode():
            raise DataError(
                f"{self._path}: is no bundle as 'k2-verifier export --bundle' writes it: it does not "
                f"begin with {MANIFEST}{_named(header)}"
            )
        checksum, size = _LOCAL.unpack(header[: _LOCAL.size])[6:8]
        member = _Member(MANIFEST, min(size, _MOST_MANIFEST_BYTES), checksum)
        content = self._archive.read(member.size)
        if member.header() != header or zlib.crc32(content) != checksum or len(content) != size:
            raise DataError(
                f"{self._path}: {MANIFEST} was changed or cut off: it is not what its checksum says"
            )
        self._members.append(member)
        try:
            check_values(content)
            return _checked(json_object(json.loads(content)), names), content
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{self._path}: {MANIFEST} is not that of a bundle: {error}") from None

    def member(self, name: str, size: int, sha256: str, target: Path) -> None:
        """Write a member to a file, if it is what the manifest says."""
        blank = _Member(name, size, 0).header()
        header = self._archive.read(len(blank))
        checksum = _LOCAL.unpack(header[: _LOCAL.size])[6] if len(header) == len(blank) else 0
        member = _Member(name, size, checksum)
        if header != member.header():
            raise DataError(
                f"{self._path}: {name} was changed: what stands in front of it is not as it was "
                f"written{_named(header)}"
            )
        digest, found, left = hashlib.sha256(), 0, size
        with target.open("xb") as file:
            while left and (block := self._archive.read(min(left, _BLOCK))):
                digest.update(block)
                found = zlib.crc32(block, found)
                left -= len(block)
                file.write(block)
        if left:
            raise DataError(f"{self._path}: {name} is cut off: {left:,} of {size:,} bytes are missing")
        if digest.hexdigest() != sha256 or found != checksum:
            raise DataError(
                f"{self._path}: {name} was changed: its SHA-256 is {digest.hexdigest()}, and {sha256} "
                f"in {MANIFEST}"
            )
        self._members.append(member)

    def end(self) -> None:
        """See that nothing but the directory follows."""
        expected = _directory(self._members)
        if (found := self._archive.read(len(expected) + 1)) != expected:
            raise DataError(
                f"{self._path}: its directory, behind the last file, is not that of the files in "
                f"{MANIFEST}{_named(found)}"
            )


def _named(header: bytes) -> str:
    """Say which member stands somewhere else than one is expected, if one does."""
    if header[:4] != b"PK\3\4" or len(header) < _LOCAL.size:
        return ""
    name = header[_LOCAL.size :][: _LOCAL.unpack(header[: _LOCAL.size])[9]]
    return f" ({excerpt(repr(name.decode('utf-8', 'backslashreplace')), 80)} stands there)"


def _checked(manifest: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Give a manifest that lists just these files, in their order; an error says what else it does."""
    if manifest["kind"] != KIND or manifest["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"it is a {text(manifest['kind'])!r}, version {manifest['schema_version']!r}")
    files = json_object(manifest["files"])
    if list(files) != list(names):
        missing = [name for name in names if name not in files]
        more = [name for name in files if name not in names]
        raise ValueError(
            f"it lists {excerpt(', '.join(files), 200)!r}, expected {', '.join(names)!r}"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; unknown: {excerpt(', '.join(more), 100)}" if more else "")
        )
    sizes = [whole(entry["bytes"]) for entry in files.values()]
    if min(sizes) < 0 or sum(sizes) > MAX_KEPT_BYTES:
        raise ValueError(f"its files hold {sum(sizes):,} bytes, more than {MAX_KEPT_BYTES >> 20} MiB")
    for entry in files.values():
        text(entry["sha256"])
    return manifest


def _check_inside(path: Path, file: Path) -> None:
    """Refuse a compressed file that is broken, or holds more than any run leaves."""
    size = 0
    try:
        with gzip.open(file) as inside:
            while block := inside.read(_BLOCK):
                size += len(block)
                if size > MAX_KEPT_BYTES:
                    raise DataError(
                        f"{path}: {file.name} holds more than {MAX_KEPT_BYTES >> 20} MiB, decompressed"
                    )
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: {file.name} cannot be decompressed: {error}") from None
