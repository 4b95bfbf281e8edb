"""Griffe extensions: what the pages made from the code say beyond it."""

from __future__ import annotations

from typing import Any

import griffe

COLLECTS = (
    "**A collecting hook.** Every plugin is called at discovery, and the mappings are merged. The hook can be called more "
    "than once. If two plugins give the same name, the error names both."
)
NOTIFIES = "**A notification.** Every plugin is called, the last registered first. The return value is ignored."


class HookspecExtension(griffe.Extension):
    """Label every hookspec ``collects`` or ``notifies`` and say under its first line what that means.

    Raises:
        ValueError: A hookspec has options (``firstresult``); no page could say yet what they mean.
    """

    def on_function(self, *, func: griffe.Function, **kwargs: Any) -> None:
        """Visit one function."""
        specs = [decorator for decorator in func.decorators if decorator.callable_path.endswith(".hookspec")]
        if not specs:
            return
        if isinstance(specs[0].value, griffe.ExprCall):
            raise ValueError(f"{func.path}: hookspec has options; say in {__file__} what they mean")
        if func.docstring is None:
            raise ValueError(f"{func.path}: a hookspec without a docstring")
        notifies = str(func.returns) == "None"
        func.labels.add("notifies" if notifies else "collects")
        summary, _, rest = func.docstring.value.partition("\n")
        func.docstring.value = f"{summary}\n\n{NOTIFIES if notifies else COLLECTS}\n{rest}"


class QuietAttributes(griffe.Extension):
    """Leave out the labels that say where an attribute lives, which every option has."""

    def on_attribute(self, *, attr: griffe.Attribute, **kwargs: Any) -> None:
        """Visit one attribute."""
        attr.labels -= {"class-attribute", "instance-attribute", "module-attribute"}
