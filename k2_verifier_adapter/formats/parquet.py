"""Rows of a parquet file, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from k2_verifier_adapter.errors import DataError


def read_parquet(path: Path, json_columns: Iterable[str], what_is_lost: str) -> Iterator[dict[str, Any]]:
    """Read a parquet file.

    Args:
        path: The file.
        json_columns: Columns that have to hold JSON as text: in a nested type absent keys become null.
        what_is_lost: What such a column would cost, for the error.

    Raises:
        DataError: If the file cannot be read, or one of these columns is of a nested type.
    """
    # Slow to import, and only needed here.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for name in json_columns:
                position = file.schema_arrow.get_field_index(name)
                if position >= 0 and pa.types.is_nested(file.schema_arrow.field(position).type):
                    raise DataError(
                        f"{path}: column {name!r} is of a nested type, in which absent keys became null, so "
                        f"{what_is_lost}; store the column as JSON text"
                    )
            for batch in file.iter_batches(batch_size=256):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as parquet: {error}") from error
