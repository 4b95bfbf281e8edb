"""Modules of 🤗 evaluate as further metrics, and the scores of any task as such a module."""

from finetune import hookimpl


@hookimpl
def metrics() -> dict[str, str]:
    """Answer for `evaluate:…` in the recipe's ``metrics``."""
    return {"evaluate:": "finetune_evaluate.metric:metric"}
