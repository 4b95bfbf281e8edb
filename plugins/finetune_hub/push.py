"""Push a run folder to the Hub: check it, then upload it in one commit."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from finetune.errors import FinetuneError, Incompatible
from finetune.kit import BASELINES, DROPPED, LOG, PREDICTIONS, RECIPE, RESULT, Result, check_saved, dump_yaml
from finetune_hub.card import CARD, write
from finetune_hub.facts import facts_of
from finetune_hub.hub_rules import ADAPTER, card_problems, portable_adapter, repo_problem
from finetune_hub.portable import without_paths

PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill"}
"""Suffixes of files that can run code when they are loaded."""
_PICKLE_START = re.compile(rb"\x80[\x02-\x05]|PK\x03\x04")
"""The first bytes of a pickle, and of the archive in which torch stores one."""
HOLDS_DATA = (PREDICTIONS, DROPPED, BASELINES, "report.html")
"""Files of a run that hold rows of its data; they are uploaded only on request."""
NEVER_UPLOADED = (LOG,)
_TOKEN = re.compile(rb"hf_[A-Za-z0-9]{30,}")
_CHUNK = 1 << 24
_OVERLAP = 64
"""Bytes that two chunks share, so that a token on their border is found; a token of the Hub has 37."""
_RETRY = "Push again: files that arrived are not sent twice."


class NotReady(FinetuneError):
    """A run folder that must not be pushed as it is, with every reason."""


class PushFailed(FinetuneError):
    """A push that the Hub did not accept, with the state of the repository."""

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
    """Check a run folder, write its card for the repository, and upload it in one commit.

    Card, recipe and result are uploaded without the folders of this machine.
    Checkpoints, logs and pickles are never uploaded. Rows of the data (predictions, report, the worst errors in
    `result.json`) are uploaded only with ``with_data``. Pushing again after a failure is safe: files that the Hub has
    already are not sent twice.

    Args:
        run: The folder of a finished run.
        repo: ``user/name``.
        private: Whether to make the repository private if it is new.
        with_data: Whether to upload `report.html`, `predictions.jsonl` and the rows in `result.json`.
        token: A token of the Hub; None for the one that is logged in, or ``HF_TOKEN``.

    Raises:
        NotReady: The folder must not be pushed as it is.
        PushFailed: The Hub refused the push, or cannot be reached.
    """
    directory, result = Path(run), Result.load(run)
    wrong_name = repo_problem(repo)
    if wrong_name:
        raise NotReady(wrong_name)
    files = files_to_upload(directory, with_data=with_data)
    problems = list(find_problems(result, directory, files))
    if problems:
        raise NotReady(f"{directory} was not pushed:\n" + "\n".join(f"- {problem}" for problem in problems))
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
        state = _repository_state(api, repo)
        raise PushFailed(f"the push to {repo} failed: {_first_line(error)}. {state}") from error
    return Pushed(url=f"{api.endpoint}/{repo}", commit=commit.oid, files=files)


def _operation(directory: Path, name: str, result: Result, *, with_data: bool) -> CommitOperationAdd:
    if name == ADAPTER:
        content = portable_adapter(directory, result.recipe.get("card") or {})
        return CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
    if name == RESULT:
        shared = without_paths(result if with_data else without_rows(result))
        return CommitOperationAdd(path_in_repo=name, path_or_fileobj=shared.text().encode())
    if name == RECIPE:
        return CommitOperationAdd(path_in_repo=name, path_or_fileobj=dump_yaml(without_paths(result).recipe).encode())
    return CommitOperationAdd(path_in_repo=name, path_or_fileobj=directory / name)


def without_rows(result: Result) -> Result:
    """Return a result without the rows of data in it; a model can still be loaded with it."""
    leakage = {split: {**counts, "pairs": []} for split, counts in result.leakage.items()}
    return replace(result, worst={split: [] for split in result.worst}, leakage=leakage)


def files_to_upload(directory: Path, *, with_data: bool) -> list[str]:
    """Return the files of a run folder that are uploaded: no subfolders, no logs, and no rows of data by default."""
    excluded = {*NEVER_UPLOADED, *(() if with_data else HOLDS_DATA)}
    names = {CARD}
    for path in directory.iterdir():
        if path.is_file() and not path.name.startswith(".") and path.name not in excluded:
            names.add(path.name)
    return sorted(names)


def find_problems(result: Result, directory: Path, files: Sequence[str]) -> Iterator[str]:
    """Yield every reason why a folder must not be pushed."""
    facts = facts_of(result, directory)
    yield from card_problems(facts.fields, facts.license, directory)
    if not any(name.endswith(".safetensors") for name in files):
        yield "it holds no weights (*.safetensors)."
    if RECIPE not in files:
        yield f"it holds no {RECIPE}."
    try:
        check_saved(result.base, directory)
    except Incompatible as error:
        yield str(error)
    for name in files:
        path = directory / name
        if path.suffix in PICKLES or is_pickle(path):
            yield f"{name} is a pickle, which can run code when it is loaded. Remove it."
        elif path.is_symlink():
            yield f"{name} is a link to {os.readlink(path)}. Copy the file, or remove it."
        elif path.is_file() and holds_token(path):
            yield f"{name} holds what looks like a token of the Hub (hf_…). Remove it, and revoke the token."


def is_pickle(path: Path) -> bool:
    """Say whether a file begins as a pickle does.

    Safetensors files are skipped: the length at their beginning may look like a pickle.
    """
    if path.suffix == ".safetensors" or not path.is_file():
        return False
    with path.open("rb") as file:
        return _PICKLE_START.match(file.read(4)) is not None


def holds_token(path: Path) -> bool:
    """Say whether a file holds what looks like a token, even across two chunks."""
    tail = b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            if _TOKEN.search(tail + chunk):
                return True
            tail = (tail + chunk)[-_OVERLAP:]
    return False


def _repository_state(api: HfApi, repo: str) -> str:
    """Return what the repository holds after a failed push, as a sentence."""
    try:
        names = api.list_repo_files(repo)
    except (HfHubHTTPError, HFValidationError, OSError):
        return f"The content of the repository cannot be read. {_RETRY}"
    content = f"The repository holds {len(names)} files ({', '.join(sorted(names)[:8])})" if names else "It is empty"
    return f"{content}; a commit arrives completely or not at all. {_RETRY}"


def _first_line(error: Exception) -> str:
    """Return the first line of an error, without tokens."""
    text = str(error).strip()
    return _TOKEN.sub(b"hf_***", text.encode()).decode().splitlines()[0] if text else type(error).__name__
