"""parquet and arrow: tables that store their types, copied block by block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from finetune.data import storage
from finetune.data.columns import bad_name, too_many_columns
from finetune.data.findings import Report
from finetune.data.kinds import MOST_COLUMNS, MOST_LEVELS, control_in
from finetune.data.table import BLOCK_ROWS, Table
from finetune.interfaces import Finding
from finetune.user_code import first_line

_KEPT = b"huggingface"
"""Metadata of a schema in which `datasets` stores a ClassLabel."""


def read(paths: Sequence[Path], *, names: Sequence[str], kinds: Sequence[str], split: str, report: Report) -> Table:
    """Return the rows of some files as one table; report the files that cannot be read.

    The place of a row is its position in its file, because such files have no lines.
    """
    writer: Any = None
    folder = storage.folder()
    sizes = [0] * len(paths)
    errors = report.levels["error"]
    for number, batch in blocks(paths, names=names, kinds=kinds, split=split, report=report):
        if writer is None:
            writer = pa.ipc.new_stream(str(folder / "rows.arrow"), batch.schema)
        writer.write_batch(batch)
        sizes[number] += len(batch)
    if writer is not None:
        writer.close()
    count = sum(sizes)
    rows = None
    if count:
        try:
            rows = Dataset.from_file(str(folder / "rows.arrow"))
        except ValueError as error:  # the metadata name a type that `datasets` does not have
            refuse_metadata(error, file=names[0], split=split, report=report)
    is_sound = report.levels["error"] == errors
    return Table(rows=rows, files=tuple(names), sizes=tuple(sizes), read=count, sound=is_sound)


def refuse_metadata(error: ValueError, *, file: str, split: str, report: Report) -> None:
    """Report metadata that name a type that `datasets` does not have."""
    fix = "Write the file again, without the metadata 'huggingface' of its schema."
    report.error("corrupt-file", f"{first_line(error)}.", fix=fix, file=file, split=split)


def blocks(
    paths: Sequence[Path], *, names: Sequence[str], kinds: Sequence[str], split: str, report: Report
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the blocks of some files, each with the number of its file; report the files that cannot be read.

    All blocks have the schema of the first one.
    """
    schema: Any = None
    name = ""

    def refuse(finding: Finding) -> None:
        report.add(replace(finding, file=name, split=split))

    for number, (path, name, kind) in enumerate(zip(paths, names, kinds, strict=True)):
        try:
            for batch in _batches(path, kind, refuse):
                schema = schema or batch.schema
                differs = difference(schema, batch.schema)
                if differs:
                    fix = "All files of a split must have the same columns with the same types."
                    message = f"{differs} in {names[0]}."
                    report.error("columns-differ", message, fix=fix, file=name, split=split)
                    break
                yield number, batch.select(schema.names).replace_schema_metadata(schema.metadata)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            message = f"the {kind} file cannot be read: {str(error).strip() or type(error).__name__}."
            report.error("corrupt-file", message, fix="Copy it or write it again.", file=name, split=split)


def file_blocks(path: Path, kind: str) -> Iterator[pa.RecordBatch]:
    """Yield the blocks of a file whose columns are known to be usable."""
    return _batches(path, kind, lambda finding: None)


def _batches(path: Path, kind: str, refuse: Callable[[Finding], None]) -> Iterator[pa.RecordBatch]:
    """Yield the blocks of a file, with every buffer validated; none if its columns are refused."""
    for batch in (_parquet if kind == "parquet" else _arrow)(path, refuse):
        batch.validate(full=True)
        for start in range(0, len(batch), BLOCK_ROWS):
            yield plain(batch.slice(start, BLOCK_ROWS))


def _parquet(path: Path, refuse: Callable[[Finding], None]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        if _are_usable(file.schema_arrow, refuse):
            yield from file.iter_batches(batch_size=BLOCK_ROWS)


def _arrow(path: Path, refuse: Callable[[Finding], None]) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as source:
        if source.read(6) == b"ARROW1":
            file = pa.ipc.open_file(source)
            for number in range(file.num_record_batches if _are_usable(file.schema, refuse) else 0):
                yield file.get_batch(number)
        else:
            source.seek(0)
            stream = pa.ipc.open_stream(source)
            if _are_usable(stream.schema, refuse):
                yield from stream


def plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a block without categories (pandas), views (polars) and metadata of other programs."""
    columns = [_plain_column(column) for column in batch.columns]
    metadata = {key: value for key, value in (batch.schema.metadata or {}).items() if key == _KEPT}
    fields = [pa.field(name, column.type) for name, column in zip(batch.schema.names, columns, strict=True)]
    return pa.record_batch(columns, schema=pa.schema(fields, metadata=metadata))


def _plain_column(column: pa.Array) -> pa.Array:
    """Return a column of a type that `datasets` can select rows of."""
    kind = _plain_type(column.type)
    if kind == column.type:
        return column
    if "view" in str(column.type) and column.type not in (pa.string_view(), pa.binary_view()):
        # pyarrow 26 casts large_list_view to empty lists, and cannot decode a dictionary of views
        return pa.array(column.to_pylist(), kind)
    return column.cast(kind)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Return a type without dictionaries and views, inside lists and structs, too."""
    types = pa.types
    if types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if kind == pa.string_view():
        return pa.string()
    if kind == pa.binary_view():
        return pa.binary()
    if types.is_large_list(kind) or types.is_large_list_view(kind):
        return pa.large_list(_plain_type(kind.value_type))
    if types.is_list(kind) or types.is_list_view(kind):
        return pa.list_(_plain_type(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, _plain_type(field.type)) for field in kind])
    return kind


def _are_usable(schema: pa.Schema, refuse: Callable[[Finding], None]) -> bool:
    """Return whether a table can have these columns; report those that it cannot have.

    Raises:
        pyarrow.ArrowInvalid: A name is not UTF-8.
    """
    try:
        fields, names = list(schema), schema.names
    except UnicodeDecodeError as error:
        raise pa.ArrowInvalid(f"the name of a column is not UTF-8 ({error})") from error
    if len(fields) > MOST_COLUMNS:
        refuse(too_many_columns(len(fields)))
        return False
    found = []
    for name, times in Counter(names).items():
        if times > 1:
            message = f"{times} columns have the name {name!r}."
            fix = "Give them different names."
            found.append(Finding(code="duplicate-column", message=message, fix=fix, level="error", column=name))
    for field in fields:
        found += _wrong_names(field, path=field.name)
    for finding in found:
        refuse(finding)
    return not found


def _wrong_names(field: pa.Field, *, path: str, level: int = 0) -> list[Finding]:
    """Return what is wrong with the names in a column, and with its depth."""
    control = control_in(field.name)
    if control:
        return [bad_name(path, control)]
    kind = field.type
    if level > MOST_LEVELS:
        message = f"the column has more than {MOST_LEVELS} lists or objects inside each other."
        return [Finding(code="unsupported-type", message=message, level="error", column=path.partition(".")[0])]
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    found = []
    for number in range(kind.num_fields):
        below = kind.field(number)
        inner = f"{path}.{below.name}" if pa.types.is_struct(kind) else path
        found += _wrong_names(below, path=inner, level=level + 1)
    return found


def difference(first: pa.Schema, other: pa.Schema) -> str:
    """Return how the columns of another file differ from those of the first, apart from their order."""
    for name in first.names:
        if name not in other.names:
            return f"column {name!r} is missing here, but present"
        if other.field(name).type != first.field(name).type:
            return f"column {name!r} has the type {other.field(name).type} here, but {first.field(name).type}"
    extra = [name for name in other.names if name not in first.names]
    return f"column {extra[0]!r} is present here, but missing" if extra else ""
