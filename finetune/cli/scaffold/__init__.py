"""Write the folder of a new plugin; the templates are the text files of this package.

A file of the plugin is a template with ``$name`` for the name, and so on: see `_words`.
"""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

from finetune import __version__
from finetune.errors import BadOptions, OutputExists

KINDS = ("task", "strategy")
PREFIX = "finetune-"
"""What the names of plugins' distributions usually begin with; left out of what a recipe names."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

_SHARED = {
    "pyproject.toml": "pyproject.txt",
    "README.md": "readme.txt",
    ".gitignore": "gitignore.txt",
    ".github/workflows/ci.yml": "ci.txt",
}
_OWN = {
    "task": {
        "$module/__init__.py": "task_init.txt",
        "$module/task.py": "task.txt",
        "tests/test_$module.py": "task_test.txt",
        "recipe.yaml": "task_recipe.txt",
        "data.csv": "task_data.txt",
    },
    "strategy": {
        "$module/__init__.py": "strategy_init.txt",
        "$module/strategy.py": "strategy.txt",
        "tests/test_$module.py": "strategy_test.txt",
        "recipe.yaml": "strategy_recipe.txt",
    },
}
"""Kind → path in the plugin → template."""


def write(name: str, *, kind: str, parent: Path) -> list[Path]:
    """Write a plugin into a new folder of its name, and return the files.

    Args:
        name: Name of the distribution and of the folder: ``finetune-mine``.
        kind: One of `KINDS`.
        parent: Where the folder is made.

    Raises:
        BadOptions: The name cannot be that of a Python package, or the folder cannot be made.
        OutputExists: The folder exists.
    """
    module = name.replace("-", "_")
    if not (_NAME.fullmatch(name) and _NAME.fullmatch(short_name(name))) or keyword.iskeyword(module):
        raise BadOptions(
            f"{name!r} is not a name for a plugin: begin with a small letter, and use small letters, digits and "
            "hyphens: finetune-mine."
        )
    if find_spec(module) is not None:
        raise BadOptions(f"a module {module!r} is already installed. Choose another name.")
    folder = parent / name
    if folder.exists():
        raise OutputExists(f"{str(folder)!r} exists. Choose another name, or remove the folder.")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise BadOptions(f"{str(folder)!r} cannot be made: {error.strerror}. Name another --parent.") from error
    words = _words(name, kind)
    written = []
    for path, template in {**_SHARED, **_OWN[kind]}.items():
        target = folder / Template(path).substitute(words)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_template(template).substitute(words), encoding="utf-8")
        written.append(target)
    return written


def short_name(name: str) -> str:
    """Return what recipes call the task or strategy of a plugin.

    >>> short_name("finetune-mine"), short_name("other")
    ('mine', 'other')
    """
    return name.removeprefix(PREFIX) or name


def _words(name: str, kind: str) -> dict[str, str]:
    """Return the values for the placeholders of the templates.

    >>> words = _words("finetune-sentence-order", "task")
    >>> words["module"], words["short"], words["cls"]
    ('finetune_sentence_order', 'sentence-order', 'SentenceOrder')
    """
    short = short_name(name)
    module = name.replace("-", "_")
    return {
        "name": name,
        "short": short,
        "module": module,
        "cls": "".join(part.capitalize() for part in short.split("-")),
        "kind": kind,
        "core": ".".join(__version__.split(".")[:2]),
    }


def _template(file: str) -> Template:
    return Template(files(__name__).joinpath(file).read_text(encoding="utf-8"))
