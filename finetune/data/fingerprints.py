"""Fingerprints: SHA-256 of the content of kept rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel

from finetune.data.splits import Blocks


def fingerprint(split: Blocks) -> str:
    """Return the SHA-256 of the content of a split: the order of rows, column names and values.

    File names, times, block sizes and Arrow's memory layout do not matter: a csv and a parquet file
    with the same text have the same fingerprint.
    """
    digest = hashlib.sha256()
    for name, feature in sorted(split.columns.features.items()):
        names = feature.names if isinstance(feature, ClassLabel) else ()
        digest.update(_sized(name, *names))
    for block in split.blocks():
        for name in sorted(block.column_names):
            for part in content(block.column(name).combine_chunks()):
                digest.update(len(part).to_bytes(8, "little"))
                digest.update(part)
    return digest.hexdigest()


def _sized(*texts: str) -> bytes:
    encoded = [text.encode() for text in texts]
    return b"".join(len(data).to_bytes(8, "little") + data for data in encoded)


def content(array: pa.Array) -> Iterator[bytes]:
    """Yield the bytes of the values of an array, independent of its memory layout."""
    kind = array.type
    if array.null_count == len(array):
        yield b"null" + len(array).to_bytes(8, "little")
        return
    yield np.packbits(np.asarray(array.is_valid())).tobytes() if array.null_count else b""
    if pa.types.is_struct(kind):
        for field in sorted(kind, key=lambda field: field.name):
            yield field.name.encode()
            yield from content(pc.struct_field(array, field.name))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield b"list" + np.asarray(pc.fill_null(pc.list_value_length(array), 0), dtype=np.int64).tobytes()
        yield from content(pc.list_flatten(array))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield from _text(array)
    elif pa.types.is_boolean(kind):
        yield b"boolean" + np.packbits(np.asarray(array.fill_null(False))).tobytes()
    elif pa.types.is_signed_integer(kind):
        yield b"integer" + np.asarray(array.fill_null(0)).astype("<i8").tobytes()
    elif pa.types.is_floating(kind):
        yield b"number" + np.asarray(array.fill_null(0.0)).astype("<f8").tobytes()
    else:
        yield str(kind).encode()
        yield repr(array.to_pylist()).encode()


def _text(array: pa.Array) -> Iterator[bytes]:
    array = array.fill_null("").cast(pa.large_string())
    yield b"text" + np.asarray(pc.binary_length(array), dtype="<i8").tobytes()
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    data = array.buffers()[2]
    yield data.to_pybytes()[offsets[0] : offsets[-1]] if data is not None else b""
