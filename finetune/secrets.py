"""Credentials: a recipe with one is refused, and those of this process are taken out of everything that is printed.

A run folder holds the recipe and is meant to be shared. A message can hold a credential because a library puts a URL
or a header into its errors.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from finetune.errors import BadRecipe

KEYS = re.compile(r"(?i)(^|_)(token|password|passwd|secret|credentials?|(api|access|private|secret)_?key)$")
"""Options that hold a credential."""

VALUES = re.compile(
    r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|xox[abp]-[A-Za-z0-9-]{10,})"
)
"""Texts in the form of a token: of the Hub, OpenAI, GitHub, AWS and Slack."""

VARIABLES = re.compile(r"(?i)(TOKEN|API_?KEY|(ACCESS|PRIVATE|SECRET|AUTH)_KEY|SECRET|PASSWORD|PASSWD|PASSPHRASE)$")
"""Environment variables that hold a credential, by the end of their name."""

IN_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s@'\"]+@")
"""The beginning of a URL with a name and a password, or a token: ``https://me:word@``."""

HIDDEN = "***"
"""What is printed instead of a credential."""

_SHORTEST = 8
"""Characters of the shortest value of a variable that counts as a credential."""

_SPECIAL_TOKENS = re.compile(r"(?i)^(bos|eos|unk|sep|pad|cls|mask|image|audio|start|end|decoder_start)_token$")
"""Options that name a special token of a tokenizer."""


def refuse(recipe: Mapping[str, Any]) -> None:
    """Check that a recipe holds no credential.

    Raises:
        BadRecipe: It does. The message names the key, and not the value.
    """
    secret = own()
    for place, value in _texts(recipe, ""):
        section, _, key = place.rpartition(".")
        # the keys of `columns` and `constants` are names of columns, and a column of words is often named `token`
        is_option = not section.endswith(("columns", "constants"))
        named = is_option and KEYS.search(key) is not None and _SPECIAL_TOKENS.match(key) is None
        looks_secret = VALUES.search(value) or IN_URL.search(value)
        if named or looks_secret or any(each in value for each in secret):
            raise BadRecipe(
                f"{place} looks like a credential. The run folder would hold it as readable text. Take it out of the "
                "recipe; for the Hub, set HF_TOKEN or log in with `hf auth login`."
            )


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield each text of a recipe with its place: ``model.options.token``."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, below in value.items():
            yield from _texts(below, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for number, below in enumerate(value):
            yield from _texts(below, f"{place}[{number}]")


def own() -> set[str]:
    """Return the credentials of this process: in its environment, in the URL of a proxy, and the stored Hub token."""
    found = set()
    for name, value in os.environ.items():
        if VARIABLES.search(name) and not value.startswith("/"):  # else the path of a file
            found.add(value.strip())
        if name.lower().endswith("_proxy"):
            found.update(re.findall(r"://[^/\s@:]*:([^/\s@]+)@", value))
    with suppress(OSError, ValueError):  # nobody has logged in
        found.add(_token_file().read_text(encoding="utf-8").strip())
    return {value for value in found if len(value) >= _SHORTEST}


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
    return _without(text, own())


def _without(text: str, values: Collection[str], *, looks: bool = True) -> str:
    """Return a text without some values, and if wanted without all that looks like a credential."""
    for value in sorted(values, key=len, reverse=True):
        for written in (value, quote(value, safe="")):
            text = text.replace(written, HIDDEN)
    return VALUES.sub(HIDDEN, IN_URL.sub(rf"\1{HIDDEN}@", text)) if looks else text


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
    make_record, values = logging.getLogRecordFactory(), own()

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
