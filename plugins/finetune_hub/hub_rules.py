"""What the Hub refuses in a card or a name, checked before anything is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from finetune.errors import BadRecipe, did_you_mean
from finetune_hub.portable import relative

ADAPTER = "adapter_config.json"
BASE_KEY = "base_model_name_or_path"
OTHER = "other"
LICENSES = frozenset((
    "afl-3.0", "agpl-3.0", "apache-2.0", "apple-amlr", "apple-ascl", "artistic-2.0", "bigcode-openrail-m",
    "bigscience-bloom-rail-1.0", "bigscience-openrail-m", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "bsl-1.0", "c-uda", "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0",
    "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0",
    "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "creativeml-openrail-m",
    "deepfloyd-if-license", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "eupl-1.2",
    "fair-noncommercial-research-license", "gemma", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "grok2-community",
    "h-research", "intel-research", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "lgpl-lr", "llama2", "llama3",
    "llama3.1", "llama3.2", "llama3.3", "llama4", "lppl-1.3c", "mit", "mpl-2.0", "ms-pl", "ncsa", "odbl", "odc-by",
    "ofl-1.1", "openmdw-1.0", "openrail", "openrail++", "osl-3.0", "pddl", "postgresql", "unknown", "unlicense",
    "wtfpl", "zlib", "other",
))  # fmt: skip
"""The Hub's list of licences (huggingface.co/docs/hub/repositories-licenses)."""
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*|code|multilingual")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def is_hub_id(path: str) -> bool:
    """Say whether a path is an id on the Hub, ``user/name``, and not a folder or a name of a plugin's scheme."""
    return _HUB_ID.fullmatch(path) is not None and not Path(path).exists()


def is_model_id(path: str) -> bool:
    """Say whether a path is the id of a model on the Hub, also an old one without a user: ``gpt2``."""
    return is_hub_id(path) or (_NAME.fullmatch(path) is not None and not Path(path).exists())


def repo_problem(repo: str) -> str | None:
    """Return why a name is not that of a repository, or None."""
    try:
        validate_repo_id(repo)
        is_name = repo.count("/") == 1
    except HFValidationError:
        is_name = False
    if is_name:
        return None
    return (
        f"{repo!r} is not the name of a repository. Write user/name, with letters, digits, '-', '_' and '.', and "
        "neither '--' nor '..'."
    )


def license_problem(name: Any, fields: Mapping[str, Any], directory: Path) -> str | None:
    """Return why the Hub would refuse a stated licence, or None."""
    if not isinstance(name, str):
        return f"its licence is {name!r}, and the Hub takes one. State it: finetune card {directory} license=apache-2.0"
    if name not in LICENSES:
        return (
            f"its licence is {name!r}, which is not in the list of the Hub.{did_you_mean(name.lower(), LICENSES)} For "
            f"any other licence: finetune card {directory} license=other license_name=… license_link=…"
        )
    missing = [field for field in ("license_name", "license_link") if not fields.get(field)]
    if name == OTHER and missing:
        return f"its licence is 'other', without {' and '.join(missing)}. State them: finetune card {directory} " + (
            " ".join(f"{field}=…" for field in missing)
        )
    return None


def languages(fields: Mapping[str, Any]) -> list[str]:
    """Return the stated languages: a list, or one text with commas between them.

    >>> languages({"language": "en, de"})
    ['en', 'de']
    """
    given = fields.get("language") or []
    parts = given.split(",") if isinstance(given, str) else [str(part) for part in given]
    return [part.strip() for part in parts if part.strip()]


def language_problems(fields: Mapping[str, Any], directory: Path) -> Iterator[str]:
    """Yield the stated languages that are no codes."""
    for name in languages(fields):
        if not _LANGUAGE.fullmatch(name):
            yield (
                f"its language is {name!r}, which is not a code of ISO 639. Write en, de, or en,de for both: finetune "
                f"card {directory} language=en"
            )


def base_problem(fields: Mapping[str, Any], directory: Path) -> str | None:
    """Return why others cannot find the base model, or None."""
    stated = fields.get("base_model")
    if stated:
        if is_model_id(str(stated)):
            return None
        return f"its base_model is {stated!r}, which is not an id on the Hub. Write user/name."
    base = base_of_adapter(directory)
    if base is None or is_model_id(base):
        return None
    return (
        f"{ADAPTER} names a folder of this machine as the base model ({base}), so the adapter cannot be loaded "
        f"on another machine. Push the base model too, and state its id: finetune card {directory} base_model=user/name"
    )


def read_adapter(directory: Path) -> dict[str, Any] | None:
    """Return PEFT's configuration in a folder; None if there is none.

    Raises:
        BadRecipe: It is damaged.
    """
    path = directory / ADAPTER
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadRecipe(f"{path} is damaged: {error}. Restore the file as the run wrote it.") from error
    if not isinstance(content, dict):
        raise BadRecipe(f"{path} is damaged: it holds no JSON object. Restore the file as the run wrote it.")
    return content


def base_of_adapter(directory: Path) -> str | None:
    """Return the base model that an adapter's configuration names; None if the folder holds no adapter."""
    content = read_adapter(directory)
    return None if content is None else str(content.get(BASE_KEY))


def portable_adapter(directory: Path, fields: Mapping[str, Any]) -> bytes:
    """Return an adapter's configuration without folders of this machine: the stated id replaces that of its base."""
    content = read_adapter(directory) or {}
    base = content.get(BASE_KEY)
    if fields.get("base_model") and not is_model_id(str(base)):
        for name, value in content.items():
            if value == base:  # prompt tuning names the base model as its tokenizer, too
                content[name] = str(fields["base_model"])
    return (json.dumps(relative(content), indent=2) + "\n").encode()


def card_problems(fields: Mapping[str, Any], license_name: Any, directory: Path) -> Iterator[str]:
    """Yield what the Hub would refuse in a card, or what would make the model useless to others."""
    if license_name is None:
        yield f"its licence is unknown. State it: finetune card {directory} license=apache-2.0"
    else:
        problem = license_problem(license_name, fields, directory)
        if problem:
            yield problem
    yield from language_problems(fields, directory)
    problem = base_problem(fields, directory)
    if problem:
        yield problem
