"""What a stranger puts into files: pickles that call something, modules, archives, data with types of their own."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

CANARY = """
import os
from pathlib import Path

PLACE = Path(os.environ.get("CANARY", "sung"))


def sing(*arguments, **options):
    PLACE.write_text("called")
    return [{"text": "the ship", "label": "sea"}, {"text": "the hill", "label": "land"}] * 20


class Bird:
    def __init__(self, *arguments, **options):
        sing()

    @classmethod
    def from_pretrained(cls, *arguments, **options):
        return cls()


PLACE.write_text("imported")
"""
"""A module that writes a file if it is imported, and if anything in it is called. Its name is ``canary``."""


class Calls:
    """An object whose pickle calls a function when it is read."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def payloads(place: Path) -> dict[str, Any]:
    """Return objects whose pickles write a file by different functions: name → object.

    Args:
        place: The file.
    """
    import functools
    import os
    import runpy
    import timeit

    text = f"open({str(place)!r}, 'w').write('unpickled')"
    return {
        "exec": Calls(exec, text),
        "os.system": Calls(os.system, f"touch '{place}'"),
        "timeit": Calls(timeit.timeit, text, "pass", timeit.default_timer, 1),
        "runpy": Calls(runpy._run_code, compile_later(text), {}),  # type: ignore[attr-defined]
        "partial": Calls(functools.partial, Calls(exec, text)),
    }


def compile_later(text: str) -> Calls:
    """Return an object that is code once it is unpickled."""
    return Calls(compile, text, "<pickle>", "exec")


def pickled(payload: Any, kind: str) -> bytes:
    """Return a payload as a file: a plain ``pickle``, the ``zip`` archive of torch, or its older ``legacy`` form."""
    import torch

    if kind == "pickle":
        return pickle.dumps(payload, protocol=4)
    buffer = io.BytesIO()
    torch.save({"weight": payload}, buffer, _use_new_zipfile_serialization=kind == "zip")
    return buffer.getvalue()


def oversized_header() -> bytes:
    """Return a safetensors file that says that its header has 2^60 bytes."""
    return struct.pack("<Q", 2**60) + b"{}"


def archive(members: Mapping[str, str]) -> bytes:
    """Return a zip file; the name of a member can lead out of it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, content in members.items():
            made.writestr(name, content)
    return buffer.getvalue()


def parquet(folder: Path, *, metadata: Mapping[str, Any] | None = None, extension: bytes | None = None) -> Path:
    """Write a parquet file of texts and labels whose schema has metadata, or a column with an extension type.

    Args:
        folder: Where ``rows.parquet`` is written.
        metadata: What `datasets` stores in a schema.
        extension: Serialized type of the column ``text``, which old versions of Arrow unpickled.
    """
    import pyarrow as pa
    from pyarrow import parquet as pq

    field = pa.field("text", pa.string())
    if extension is not None:
        field = field.with_metadata(
            {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": extension}
        )
    found = {} if metadata is None else {"huggingface": json.dumps(metadata)}
    schema = pa.schema([field, pa.field("label", pa.string())], metadata=found)
    words = ["http://127.0.0.1:9/a", "the hill"] * 12
    path = folder / "rows.parquet"
    pq.write_table(pa.table({"text": words, "label": ["sea", "land"] * 12}, schema=schema), path)
    return path
