"""parquet and arrow: tables that bring their own types, copied block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from finetune.data import storage
from finetune.data.findings import Report
from finetune.data.table import BLOCK_ROWS, Table

_KEPT = b"huggingface"
"""Metadata of a schema by which `datasets` knows a ClassLabel."""


def read(paths: Sequence[Path], *, names: Sequence[str], kinds: Sequence[str], split: str, report: Report) -> Table:
    """Return the rows of some files as one table; a file that cannot be read is reported.

    Rows are known by their position: such files have no lines.
    """
    writer: Any = None
    schema: Any = None
    folder = storage.folder()
    count = 0
    errors = report.levels["error"]
    for path, name, kind in zip(paths, names, kinds, strict=True):
        try:
            for batch in _batches(path, kind):
                if writer is None:
                    schema = _single(batch.schema)
                    writer = pa.ipc.new_stream(str(folder / "rows.arrow"), schema)
                differs = _difference(schema, batch.schema)
                if differs:
                    fix = "Files of one split must have the same columns, of the same types."
                    message = f"{differs} in {names[0]}"
                    report.error("columns-differ", message, fix=fix, file=name, split=split)
                    break
                writer.write_batch(batch.select(schema.names).replace_schema_metadata(schema.metadata))
                count += len(batch)
        except (pa.ArrowException, OSError) as error:
            message = f"not a {kind} file that can be read: {str(error).strip() or type(error).__name__}"
            report.error("corrupt-file", message, fix="Copy or write it again.", file=name, split=split)
    if writer is not None:
        writer.close()
    rows = Dataset.from_file(str(folder / "rows.arrow")) if count else None
    return Table(rows=rows, files=tuple(names), read=count, sound=report.levels["error"] == errors)


def _batches(path: Path, kind: str) -> Iterator[pa.RecordBatch]:
    """Yield the blocks of a file, every buffer checked."""
    for batch in _parquet(path) if kind == "parquet" else _arrow(path):
        batch.validate(full=True)
        for start in range(0, len(batch), BLOCK_ROWS):
            yield _plain(batch.slice(start, BLOCK_ROWS))


def _parquet(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        yield from file.iter_batches(batch_size=BLOCK_ROWS)


def _arrow(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as source:
        if source.read(6) == b"ARROW1":
            file = pa.ipc.open_file(source)
            yield from (file.get_batch(i) for i in range(file.num_record_batches))
        else:
            source.seek(0)
            yield from pa.ipc.open_stream(source)


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a block without dictionaries (pandas' categories) and without metadata that is not ours."""
    columns: list[Any] = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in batch.columns
    ]
    metadata = {key: value for key, value in (batch.schema.metadata or {}).items() if key == _KEPT}
    fields = [pa.field(name, column.type) for name, column in zip(batch.schema.names, columns, strict=True)]
    return pa.record_batch(columns, schema=pa.schema(fields, metadata=metadata))


def _single(schema: pa.Schema) -> pa.Schema:
    """Refuse a schema that has a name twice.

    Raises:
        pyarrow.ArrowInvalid: It has.
    """
    twice = [name for name in schema.names if schema.names.count(name) > 1]
    if twice:
        raise pa.ArrowInvalid(f"two columns are called {twice[0]!r}")
    return schema


def _difference(first: pa.Schema, other: pa.Schema) -> str:
    """Say how the columns of a further file differ, but for their order."""
    for name in first.names:
        if name not in other.names:
            return f"column {name!r} is not in this file, but"
        if other.field(name).type != first.field(name).type:
            return f"column {name!r} is {other.field(name).type} here and {first.field(name).type}"
    extra = [name for name in other.names if name not in first.names]
    return f"column {extra[0]!r} is here, and not" if extra else ""
