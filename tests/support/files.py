"""Files of rows and results, as users have them: JSON lines, parquet, and upstream's archive."""

import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def write_lines(path: Path, lines: Iterable[Any]) -> Path:
    """Write JSON lines; a text, and bytes, are a line as they stand."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for line in lines:
            if isinstance(line, bytes):
                content = line.removesuffix(b"\n")
            else:
                text = line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)
                content = text.encode("utf-8", "surrogatepass")
            file.write(content + b"\n")
    return path


def write_parquet_log(path: Path, lines: Iterable[Mapping[str, Any]]) -> Path:
    """Write results lines as parquet, their objects as JSON text."""
    texts = ("request", "extra_body", "response")
    rows = [
        {name: json.dumps(value) if name in texts else value for name, value in item.items()}
        for item in lines
    ]
    columns = {name: [row.get(name) for row in rows] for row in rows for name in row}
    pq.write_table(pa.table(columns), path)
    return path


def write_archive(path: Path, members: Mapping[str, Path]) -> Path:
    """Write an archive laid out as the official one, of these files."""
    with tarfile.open(path, "w:gz") as archive:
        for name, member in members.items():
            archive.add(member, f"tool-calls/{name}")
    return path
