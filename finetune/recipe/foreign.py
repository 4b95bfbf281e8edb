"""Read the files with which other tools describe a run: YAML, JSON, or a shell script with one command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from finetune.errors import BadRecipe
from finetune.files import not_a_file
from finetune.recipe.strict_yaml import LARGEST, MOST_VALUES


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """The settings of another tool."""

    name: str
    """Name of the file, without its folder."""
    folder: Path
    """The folder that holds it."""
    content: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)
    """Key, such as ``datasets[0].type`` → its line."""
    command: tuple[str, ...] = ()
    """What a shell script calls before the options: ``("trl", "sft")`` or ``("run_qa.py",)``."""


def read(path: Path, *, programs: Collection[str] = ()) -> Foreign:
    """Read the settings in a file.

    Values are read as the tools read them: ``yes`` is true, ``1e-5`` is a number, the last of equal keys counts.

    Args:
        path: The file.
        programs: Names of programs whose first word says what they train: ``trl`` in ``trl sft --…``.

    Raises:
        BadRecipe: The file cannot be read, or holds no settings. The message gives line and column.
    """
    if what := not_a_file(path):
        raise BadRecipe(f"cannot read {str(path)!r}: it is {what}, not a file.")
    if path.suffix == ".py":
        raise BadRecipe(
            f"{str(path)!r} is Python, which is neither run nor read. Write its settings into a JSON file, "
            '{"model_name_or_path": …, "train_file": …, "learning_rate": …}, and import that. Or give its objects to '
            "finetune.train: training=TrainingArguments(…), dataset=…, model=…."
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecipe(f"cannot read {str(path)!r}: {error}.") from error
    if len(text) > LARGEST:
        raise BadRecipe(f"{path} has {len(text):,} characters. A file of settings has at most {LARGEST:,}.")
    if path.suffix in {".sh", ".bash"} or text.startswith("#!"):
        return _read_command(text, path, programs)
    content, lines = _load(text, name=str(path))
    if not isinstance(content, dict) or not content or not all(isinstance(key, str) for key in content):
        raise BadRecipe(f"{path}: settings must be a mapping of keys to values.")
    return Foreign(name=path.name, folder=path.parent, content=content, lines=lines)


class _Loader(yaml.SafeLoader):
    """YAML as PyYAML reads it, with ``1e-5`` as a number and without dates."""

    yaml_implicit_resolvers = {  # noqa: RUF012, yaml's own attribute
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _load(text: str, *, name: str) -> tuple[Any, dict[str, int]]:
    """Return what YAML or JSON holds, and the line of each key."""
    if text.lstrip().startswith("{"):
        text = text.replace("\t", "  ")  # JSON may be indented with tabs
    lines: dict[str, int] = {}
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise BadRecipe(f"{name}: the file is empty.")
        if _size(node, {}) > MOST_VALUES:
            raise BadRecipe(f"{name}: settings have at most {MOST_VALUES:,} keys and values.")
        _note_lines(node, "", lines)
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise BadRecipe(f"{name}{place}: {error.problem or error}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise BadRecipe(f"{name}: {error}") from error
    except RecursionError as error:
        raise BadRecipe(f"{name}: the values are nested too deeply.") from error
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Return how many values a node stands for, each alias written out."""
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            raise yaml.MarkedYAMLError(problem="a value holds itself", problem_mark=node.start_mark)
        return size
    known[id(node)] = None
    size = 1
    for child in _children(node):
        size += _size(child, known)
    known[id(node)] = size
    return size


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _note_lines(node: yaml.Node, place: str, lines: dict[str, int]) -> None:
    """Note the line of each key below a node."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{place}.{key.value}" if place else str(key.value)
            lines[name] = key.start_mark.line + 1
            _note_lines(value, name, lines)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            lines[f"{place}[{number}]"] = value.start_mark.line + 1
            _note_lines(value, f"{place}[{number}]", lines)


# --- shell scripts ----------------------------------------------------------------------------------------------------


def _read_command(text: str, path: Path, programs: Collection[str]) -> Foreign:
    """Return the options of the one command in a script that trains: ``python run_qa.py …`` or ``trl sft …``.

    Raises:
        BadRecipe: There is none, or several, or it uses shell variables.
    """
    found: list[tuple[int, list[str], list[str]]] = []
    for line, command in _commands(text):
        try:
            words = shlex.split(command, comments=True)
        except ValueError as error:
            raise BadRecipe(f"{path}, line {line}: {error}.") from error
        start = _end_of_program(words, programs)
        if start is not None and any(word.startswith("--") for word in words[start:]):
            found.append((line, words[:start], words[start:]))
    if len(found) != 1:
        what = (
            "several commands that train. Keep one"
            if found
            else "no command that trains: a script in Python, or a program, with options"
        )
        raise BadRecipe(f"{path}: the script has {what}.")
    line, program, arguments = found[0]
    content = _options(arguments)
    for name, value in content.items():
        if isinstance(value, str) and re.search(r"\$[\w{(]", value):
            raise BadRecipe(f"{path}, line {line}: --{name} is {value!r}. Write the value of the variable instead.")
    called = tuple(Path(word).name for word in (program[-1:] if program[-1].endswith(".py") else program[-2:]))
    return Foreign(
        name=path.name, folder=path.parent, content=content, lines=dict.fromkeys(content, line), command=called
    )


def _commands(text: str) -> list[tuple[int, str]]:
    """Return the commands of a script with their lines; a line that ends in a backslash goes on in the next."""
    commands: list[tuple[int, str]] = []
    open_command = ""
    first = 1
    for number, line in enumerate(text.splitlines(), 1):
        if not open_command:
            first = number
        if line.rstrip().endswith("\\"):
            open_command += line.rstrip()[:-1] + " "
            continue
        commands.append((first, open_command + line))
        open_command = ""
    return [*commands, (first, open_command)] if open_command else commands


def _end_of_program(words: list[str], programs: Collection[str]) -> int | None:
    """Return where the options of a script or of a program begin; None if a command is neither."""
    for number, word in enumerate(words):
        if word.endswith(".py"):
            return number + 1
        if number and Path(words[number - 1]).name in programs and not word.startswith("-"):
            return number + 1
    return None


def _options(arguments: list[str]) -> dict[str, Any]:
    """Return option → value; True for an option without one, and a list for several."""
    given: dict[str, list[str]] = {}
    name = ""
    for word in arguments:
        if re.match(r"--[A-Za-z]", word):
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            given[name] = [value] if equals else []
        elif name:
            given[name].append(word)
    content: dict[str, Any] = {}
    for option, words in given.items():
        values = [yaml.load(word, Loader=_Loader) if word else word for word in words]
        if not values:
            is_negated = option.startswith("no_")
            content[option.removeprefix("no_") if is_negated else option] = not is_negated
        else:
            content[option] = values[0] if len(values) == 1 else values
    return content
