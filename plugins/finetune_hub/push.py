"""A run folder → the Hub: checked first, then in one commit."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from finetune.errors import FinetuneError
from finetune.kit import DROPPED, LOG, PREDICTIONS, RECIPE, RESULT, Result
from finetune_hub.card import CARD, write
from finetune_hub.facts import facts_of

PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill"}
"""Files that can run code when they are loaded."""
_PICKLED = re.compile(rb"\x80[\x02-\x05]|PK\x03\x04")
"""How a pickle begins, whatever it is called, and the archive in which torch keeps one."""
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
HOLDS_DATA = (PREDICTIONS, DROPPED, "report.html")
"""Files of a run that hold rows of its data; they stay here unless asked for."""
STAYS = (LOG,)
_TOKEN = re.compile(rb"hf_[A-Za-z0-9]{30,}")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_CHUNK = 1 << 24


class NotReady(FinetuneError):
    """A run folder that must not be pushed as it is, with every reason."""


class PushFailed(FinetuneError):
    """A push that the Hub did not take, with what is there now."""

    exit_code = 1


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What was pushed, and where it is."""

    url: str
    commit: str
    files: Sequence[str]


def push(
    run: str | Path, repo: str, *, private: bool = False, with_data: bool = False, token: str | None = None
) -> Pushed:
    """Write the card for the repository, check the folder, and upload it in one commit.

    Checkpoints, logs and pickles never leave; the rows of the data (predictions, report, the worst errors in
    `result.json`) only with ``with_data``. To push again after a failure is safe: what the Hub has already is not sent
    twice.

    Args:
        run: A finished run's folder.
        repo: ``user/name``.
        private: Whether to make the repository private, where it is new.
        with_data: Whether to upload `report.html`, `predictions.jsonl` and the rows that `result.json` holds.
        token: Of the Hub; None for the one that is logged in, or ``HF_TOKEN``.

    Raises:
        NotReady: The folder must not be pushed as it is.
        PushFailed: The Hub refused, or cannot be reached.
    """
    directory, result = Path(run), Result.load(run)
    if not _REPO.fullmatch(repo):
        raise NotReady(f"{repo!r} is no name of a repository. Write user/name.")
    files = chosen(directory, with_data=with_data)
    if problems := list(find_problems(result, directory, files)):
        raise NotReady("not pushed:\n" + "\n".join(f"- {problem}" for problem in problems))
    write(result, directory, repo=repo)
    api = HfApi(token=token)
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.create_commit(
            repo,
            operations=[_operation(directory, name, result, with_data=with_data) for name in files],
            commit_message=f"{result.recipe['task']} by finetune-kit",
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise PushFailed(f"the push to {repo} failed: {_said(error)}. {_there(api, repo)}") from error
    return Pushed(url=f"{api.endpoint}/{repo}", commit=commit.oid, files=files)


def _operation(directory: Path, name: str, result: Result, *, with_data: bool) -> CommitOperationAdd:
    if name != RESULT or with_data:
        return CommitOperationAdd(path_in_repo=name, path_or_fileobj=directory / name)
    return CommitOperationAdd(path_in_repo=name, path_or_fileobj=without_rows(result).text().encode())


def without_rows(result: Result) -> Result:
    """Return a result without the rows of data that it holds, with which a model can be loaded all the same."""
    leakage = {split: {**found, "pairs": []} for split, found in result.leakage.items()}
    return replace(result, worst={split: [] for split in result.worst}, leakage=leakage)


def chosen(directory: Path, *, with_data: bool) -> list[str]:
    """Return the files of a run folder that are uploaded: those on its root, but for logs and rows of the data."""
    left = {*STAYS, *(() if with_data else HOLDS_DATA)}
    names = sorted(path.name for path in directory.iterdir() if path.is_file() and not path.name.startswith("."))
    return [name for name in dict.fromkeys([*names, CARD]) if name not in left]


def find_problems(result: Result, directory: Path, files: Sequence[str]) -> Iterator[str]:
    """Yield every reason why a folder must not be pushed."""
    licence = facts_of(result, directory).license
    if licence is None:
        yield f"its licence is unknown. Say it: finetune card {directory} license=apache-2.0"
    elif not _LICENSE.fullmatch(licence):
        yield (
            f"its licence is {licence!r}, and the Hub takes a short name such as apache-2.0, cc-by-4.0, or other. "
            f"Say it: finetune card {directory} license=other"
        )
    if not any(name.endswith(".safetensors") for name in files):
        yield "it holds no weights (*.safetensors)."
    if RECIPE not in files:
        yield f"it holds no {RECIPE}."
    for name in files:
        path = directory / name
        if path.suffix in PICKLES or is_pickle(path):
            yield f"{name} is a pickle, which can run code when it is loaded. Remove it."
        elif path.is_symlink():
            yield f"{name} is a link to {os.readlink(path)}. Copy the file, or remove it."
        elif path.is_file() and holds_token(path):
            yield f"{name} holds what looks like a token of the Hub (hf_…). Remove it, and revoke the token."


def is_pickle(path: Path) -> bool:
    """Say whether a file begins as a pickle does; the length that begins a safetensors file may look like one."""
    if path.suffix == ".safetensors" or not path.is_file():
        return False
    with path.open("rb") as file:
        return _PICKLED.match(file.read(4)) is not None


def holds_token(path: Path) -> bool:
    """Say whether a file holds what looks like a token, wherever it is cut into pieces for reading."""
    tail = b""
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            if _TOKEN.search(tail + piece):
                return True
            tail = (tail + piece)[-64:]
    return False


def _there(api: HfApi, repo: str) -> str:
    """Say what the repository holds after a failed push."""
    try:
        names = api.list_repo_files(repo)
    except (HfHubHTTPError, HFValidationError, OSError):
        return "What is there cannot be read. Push again: what arrived is not sent twice."
    held = f"The repository holds {len(names)} files ({', '.join(sorted(names)[:8])})" if names else "It is empty"
    return f"{held}; a commit comes whole or not at all. Push again: what arrived is not sent twice."


def _said(error: Exception) -> str:
    text = str(error).strip()
    return _TOKEN.sub(b"hf_***", text.encode()).decode().splitlines()[0] if text else type(error).__name__
