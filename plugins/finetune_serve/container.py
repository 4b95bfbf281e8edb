"""The files with which a model is served in a container."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

from finetune.errors import BadOptions, OutputExists
from finetune.kit import (
    RESULT,
    discover,
    is_local_package,
    packages_of,
    recipe_from_mapping,
    wheel_of,
    write_atomically,
)

NAMES = ("Dockerfile", "Dockerfile.dockerignore", "compose.yaml", "requirements.txt", "packages")
"""The files."""
ADAPTER = "adapter_config.json"
"""A file of a run that holds only an adapter."""
EXPORTED = "export.json"
"""A file of a folder that `finetune export` wrote for another runtime."""
WEIGHTS = ("*.safetensors", "*.onnx", "*.xml", "*.pt2")
"""Files that hold weights, one kind for each runtime."""
_LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "peft", "trl", "fastapi", "uvicorn")
_RUNTIMES = ("onnx", "onnxruntime", "openvino")
"""Libraries whose versions are those of this machine, where the model was tried."""
WHEELS = "packages"
"""The folder with packages that are on no index."""
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""Where PyTorch is without the libraries of GPUs, which are several gigabytes."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written."""

    folder: Path
    model: str
    """The run, as the container finds it: a path relative to the folder of the build."""
    context: Path
    """The folder of the build, which holds the run and the folder of the files."""


def write(folder: Path, run: Path, *, overwrite: bool = False, options: Mapping[str, str] | None = None) -> Written:
    """Write the files of a container that serves a run.

    Args:
        folder: Where they go.
        run: The run folder, which is copied into the image.
        overwrite: Whether to replace the files.
        options: Options of `finetune serve`: ``{"--max-requests": "64"}``.

    Raises:
        OutputExists: A file exists.
        BadOptions: The run is not in the same tree as the folder, or its base model is not in the run; or a package is
            on no index and has compiled files.
    """
    if not overwrite:
        for name in NAMES:
            if (folder / name).exists():
                raise OutputExists(f"--dockerfile: {str(folder / name)!r} exists. Name another folder.")
    _require_whole(run)
    context = _common(folder.absolute(), run.absolute())
    model = run.absolute().relative_to(context).as_posix()
    own = folder.absolute().relative_to(context).as_posix()
    values = {
        "PYTHON": f"{sys.version_info.major}.{sys.version_info.minor}",
        "MODEL": _quoted(model),
        "FILES": _quoted(own),
        "INDEX": CPU_INDEX,
        "OPTIONS": "".join(f', "{name}", "{value}"' for name, value in (options or {}).items()),
        "CONTEXT": _quoted(Path(*[".."] * len(Path(own).parts)).as_posix() if own != "." else "."),
        "DOCKERFILE": _quoted(f"{own}/Dockerfile" if own != "." else "Dockerfile"),
        "NAME": "".join(sign if sign.isalnum() else "-" for sign in run.absolute().name.lower()).strip("-") or "model",
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "Dockerfile", _filled("dockerfile.txt", values))
    write_atomically(folder / "compose.yaml", _filled("compose.txt", values))
    write_atomically(folder / "Dockerfile.dockerignore", _filled("dockerignore.txt", values))
    _write_requirements(folder, run)
    return Written(folder=folder, model=model, context=context)


def _common(folder: Path, run: Path) -> Path:
    """Return the deepest folder that holds both.

    Raises:
        BadOptions: That is the root of the file system, which a build would read as a whole.
    """
    for parent in (folder, *folder.parents):
        if run.is_relative_to(parent) and parent != Path(parent.anchor):
            return parent
    raise BadOptions(
        f"--dockerfile: {str(folder)!r} and the run {str(run)!r} are in no common folder, and a build reads all files "
        "of one folder. Name a folder next to the run."
    )


def _quoted(path: str) -> str:
    if any(sign in path for sign in '"\\\n\r$'):
        raise BadOptions(f"--dockerfile: the path {path!r} has a sign that a Dockerfile cannot hold. Rename it.")
    return path


def _require_whole(run: Path) -> None:
    if (run / ADAPTER).is_file():
        raise BadOptions(
            f"--dockerfile: {str(run)!r} holds an adapter without its base model. Merge them: finetune merge {run}"
        )
    if not any(any(run.glob(pattern)) for pattern in WEIGHTS):
        raise BadOptions(f"--dockerfile: {str(run)!r} holds no weights ({', '.join(WEIGHTS)}). Name a finished run.")


def packages(run: Path) -> list[str]:
    """Return the packages of finetune and its plugins that serve a run: ``["finetune-kit[serve]==0.1.0"]``."""
    file = run / RESULT
    content = json.loads(file.read_text(encoding="utf-8"))["recipe"] if file.is_file() else None
    recipe = None
    if content is not None:
        recipe = recipe_from_mapping({**content, "model": {"path": str(run)}})  # its own weights, not the base model
    return packages_of(recipe, discover(), ["serve", "export"] if (run / EXPORTED).is_file() else ["serve"])


def versions(run: Path) -> list[str]:
    """Return the libraries of the image, with the versions of this machine."""
    lines = []
    for name in (*_LIBRARIES, *(_RUNTIMES if (run / EXPORTED).is_file() else ())):
        try:
            lines.append(f"{name}=={version(name).partition('+')[0]}")
        except PackageNotFoundError:
            continue
    return lines


def _write_requirements(folder: Path, run: Path) -> None:
    """Write requirements.txt, and a wheel of each package that was not installed from an index."""
    lines, wheels = [], {}
    for needed in packages(run):
        wanted = needed.partition("==")[0]
        package = wanted.partition("[")[0]
        if is_local_package(package):
            name, content = wheel_of(package)
            wheels[name] = content
            needed = f"{wanted} @ file:///srv/{WHEELS}/{name}"
        lines.append(needed)
    (folder / WHEELS).mkdir(exist_ok=True)
    for name, content in wheels.items():
        write_atomically(folder / WHEELS / name, content)
    write_atomically(folder / "requirements.txt", "\n".join([*lines, *versions(run)]) + "\n")


def _filled(name: str, values: Mapping[str, str]) -> str:
    text = files("finetune_serve").joinpath(name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text
