"""Credentials: a recipe with one is refused, and those of this process are taken out of everything that is printed.

A run folder holds the recipe and is meant to be shared. A message can hold a credential because a library puts a URL
or a header into its errors.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from finetune import credentials
from finetune.errors import BadRecipe

_SHORTEST = 8
"""Characters of the shortest value of a variable that counts as a credential."""

_NAMES_OF_USERS = ("columns", "constants", "mixture")
"""Sections whose keys the user chooses: a column of words is often named `token`."""


def refuse(recipe: Mapping[str, Any]) -> None:
    """Check that a recipe holds no credential.

    Raises:
        BadRecipe: It does. The message names the key, and not the value.
    """
    values = _written(own())
    for place, value, named in _values(recipe):
        text = value if isinstance(value, str) else str(value)
        if named or _without(text, values) != text:
            raise BadRecipe(
                f"{_without(place, values)} looks like a credential. The run folder would hold it as readable text. "
                "Take it out of the recipe; for the Hub, set HF_TOKEN or log in with `hf auth login`."
            )


def _values(
    value: Any, place: str = "", *, named: bool = False, is_option: bool = True
) -> Iterator[tuple[str, Any, bool]]:
    """Yield each text and number below a value of a recipe, and each key.

    Args:
        value: The value.
        place: Where it is: ``model.options.token``.
        named: Whether its name, or that of a section around it, is that of a credential.
        is_option: Whether the keys of a mapping are names of options.

    Yields:
        The place, the text or number, and whether it is a credential by its name alone.
    """
    if isinstance(value, Mapping):
        for key, below in value.items():
            inner = f"{place}.{key}" if place else str(key)
            yield inner, str(key), False
            by_name = is_option and credentials.names_credential(str(key))
            yield from _values(below, inner, named=named or by_name, is_option=key not in _NAMES_OF_USERS)
    elif isinstance(value, list | tuple):
        for number, below in enumerate(value):
            yield from _values(below, f"{place}[{number}]", named=named, is_option=is_option)
    elif isinstance(value, str):
        yield place, value, named and bool(value) and not credentials.is_placeholder(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield place, value, named


def own() -> set[str]:
    """Return the credentials of this process: those in its environment, and the stored Hub token."""
    found = set()
    for name, value in os.environ.items():
        if credentials.variable_holds_credential(name) and not _is_path(value):
            found.add(value.strip())
        for password in credentials.passwords(value):
            found.update((password, unquote(password)))
    with suppress(OSError, ValueError):  # nobody has logged in
        found.add(_token_file().read_text(encoding="utf-8").strip())
    return {value for value in found if len(value) >= _SHORTEST}


def _is_path(value: str) -> bool:
    """Return whether a value is the path of a file that exists; a password can begin with a slash, too."""
    return value.startswith(("/", "~")) and os.path.lexists(Path(value).expanduser())


def _token_file() -> Path:
    """Return where `hf auth login` stores the token."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    return Path(os.environ.get("HF_TOKEN_PATH") or f"{home}/token").expanduser()


def redacted(text: str) -> str:
    """Return a message without the credentials of this process, and without all that looks like one.

    >>> redacted("401 for https://me:secret@example.org/x")
    '401 for https://***@example.org/x'
    """
    return _without(text, _written(own()))


def _written(values: Collection[str]) -> list[str]:
    """Return values in each way in which they may be written, the longest first: as in a URL, in Python and in JSON."""
    found = set()
    for value in values:
        found |= {value, quote(value), quote(value, safe=""), quote_plus(value)}
        found |= {repr(value)[1:-1], json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    return sorted(found, key=len, reverse=True)


def _without(text: str, values: Sequence[str], *, looks: bool = True) -> str:
    """Return a text without some values, and if wanted without all that looks like a credential."""
    for value in values:
        text = text.replace(value, credentials.HIDDEN)
    return credentials.without(text) if looks else text


class _Stream:
    """A text stream that changes each text before it is written."""

    def __init__(self, stream: Any, change: Callable[[str], str]) -> None:
        self._stream, self._change = stream, change

    def write(self, text: Any) -> Any:
        return self._stream.write(self._change(text) if isinstance(text, str) else text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def close(self) -> None:
        """Do nothing: absl closes each stream of its log at the end that is not standard error itself."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def hidden() -> Iterator[None]:
    """Take credentials out of what this process prints and logs within a `with` block.

    Standard output can hold data, so only the credentials of this process are taken out there. If an error leaves the
    block, nothing is put back, because Python still prints its traceback.
    """
    make_record, values = logging.getLogRecordFactory(), _written(own())

    def record(*arguments: Any, **named: Any) -> logging.LogRecord:
        made = make_record(*arguments, **named)
        try:
            text = made.getMessage()
        except (TypeError, ValueError):  # the handler reports it
            return made
        shown = _without(text, values)
        if shown != text:
            made.msg, made.args = shown, ()
        return made

    data = partial(_without, values=values, looks=False)
    messages = partial(_without, values=values)
    until_the_end = ExitStack()
    until_the_end.enter_context(redirect_stdout(_Stream(sys.stdout, data)))
    until_the_end.enter_context(redirect_stderr(_Stream(sys.stderr, messages)))
    until_the_end.callback(logging.setLogRecordFactory, make_record)
    logging.setLogRecordFactory(record)
    try:
        yield
    except Exception:
        raise
    except BaseException:  # the end of the command
        until_the_end.close()
        raise
    else:
        until_the_end.close()
