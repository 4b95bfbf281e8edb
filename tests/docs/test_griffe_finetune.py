"""What the page of hooks says about a hook comes from its decorator and its signature."""

from __future__ import annotations

import griffe
import pytest
from griffe_finetune import COLLECTS, NOTIFIES, HookspecExtension, QuietAttributes

SOURCE = '''
import pluggy
hookspec = pluggy.HookspecMarker("finetune")

OPTION: int = 1
"""An option."""

@hookspec{options}
def things() -> {returns}:
    """Say which things you bring.

    More about it.
    """

def helper() -> None:
    """No hook."""
'''


def visited(tmp_path, *, options: str = "", returns: str = "dict[str, str]") -> griffe.Module:
    (tmp_path / "specs.py").write_text(SOURCE.format(options=options, returns=returns))
    extensions = griffe.load_extensions(HookspecExtension(), QuietAttributes())
    loaded = griffe.load("specs", search_paths=[str(tmp_path)], extensions=extensions)
    assert isinstance(loaded, griffe.Module)
    return loaded


def test_a_hook_that_returns_something_collects(tmp_path):
    hook = visited(tmp_path)["things"]
    assert "collects" in hook.labels
    assert hook.docstring.value == f"Say which things you bring.\n\n{COLLECTS}\n\nMore about it."


def test_a_hook_that_returns_nothing_notifies(tmp_path):
    module = visited(tmp_path, returns="None")
    assert "notifies" in module["things"].labels
    assert NOTIFIES in module["things"].docstring.value
    assert module["helper"].docstring.value == "No hook."


def test_a_hook_with_options_is_not_documented_as_if_it_had_none(tmp_path):
    with pytest.raises(ValueError, match=r"specs\.things: hookspec has options"):
        visited(tmp_path, options="(firstresult=True)")


def test_an_option_bears_no_label_that_every_option_has(tmp_path):
    assert not visited(tmp_path)["OPTION"].labels
