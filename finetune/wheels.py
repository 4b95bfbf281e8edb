"""Packages that are on no index, as wheels that another machine installs."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import re
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from finetune.errors import BadOptions

_OF_THIS_MACHINE = frozenset({"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"})
"""Files of the metadata that pip writes at an installation (https://packaging.python.org/specifications/recording-installed-packages)."""
_DATE = (1980, 1, 1, 0, 0, 0)
"""The date of each file in the archive, so that equal files give equal bytes."""


def is_local(package: str) -> bool:
    """Return whether an installed package came from a folder, a file or a repository, and not from an index.

    Source: `PEP 610 <https://peps.python.org/pep-0610/>`_.
    """
    try:
        return distribution(package).read_text("direct_url.json") is not None
    except PackageNotFoundError:
        return False


def wheel(package: str) -> tuple[str, bytes]:
    """Return the file name and the bytes of a wheel with the files of an installed package.

    Args:
        package: A package of Python code, installed in any way; editable ones too.

    Raises:
        BadOptions: It has compiled files, or modules whose files are not to be found.
    """
    installed = distribution(package)
    if "Root-Is-Purelib: true" not in (installed.read_text("WHEEL") or ""):
        raise BadOptions(f"{package} has compiled files, so no wheel can be made of what is installed.")
    name, version = (re.sub(r"[-_.]+", "_", installed.name), installed.version.replace("-", "_"))
    stem = f"{name}-{version}"  # https://packaging.python.org/specifications/binary-distribution-format
    metadata = f"{stem}.dist-info"
    found = dict(_modules(installed))
    for name, content in _metadata(installed):
        found[f"{metadata}/{name}"] = content
    lines = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in sorted(found.items())]
    found[f"{metadata}/RECORD"] = "\n".join([*lines, f"{metadata}/RECORD,,", ""]).encode()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in found.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            written.writestr(entry, content)
    return f"{stem}-py3-none-any.whl", archive.getvalue()


def _modules(installed: Distribution) -> Iterator[tuple[str, bytes]]:
    """Yield the files of the modules, by their names in the archive."""
    for module in (installed.read_text("top_level.txt") or "").split() or sorted(_recorded(installed)):
        spec = importlib.util.find_spec(module)
        if spec is None or not (spec.origin or spec.submodule_search_locations):
            raise BadOptions(f"{installed.name}: the files of its module {module!r} were not found in {sys.prefix}.")
        if not spec.submodule_search_locations:
            yield f"{module}.py", Path(str(spec.origin)).read_bytes()
            continue
        for folder in map(Path, spec.submodule_search_locations):
            for file in sorted(folder.rglob("*")):
                if file.is_file() and "__pycache__" not in file.parts:
                    yield f"{module}/{file.relative_to(folder).as_posix()}", file.read_bytes()


def _recorded(installed: Distribution) -> set[str]:
    """Return the modules of a package whose builder writes no top_level.txt."""
    roots = {PurePosixPath(str(file)) for file in installed.files or () if str(file).endswith(".py")}
    return {file.parts[0].removesuffix(".py") for file in roots if ".." not in file.parts}


def _metadata(installed: Distribution) -> Iterator[tuple[str, bytes]]:
    for file in installed.files or ():
        parts = PurePosixPath(str(file)).parts
        if parts[0].endswith(".dist-info") and parts[-1] not in _OF_THIS_MACHINE:
            yield "/".join(parts[1:]), Path(str(installed.locate_file(file))).read_bytes()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
