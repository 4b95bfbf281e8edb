"""What spoils a model that learns from instructions, when it concerns many rows."""

from __future__ import annotations

from collections.abc import Mapping

from finetune.errors import BadData

REMEDIES: Mapping[str, str] = {
    "truncated": "The model would not learn to end. Raise preprocessor.max_length.",
    "prompt_not_prefix": "The model would be asked otherwise than it was trained. Use a template that writes earlier "
    "turns as it writes the last (preprocessor.chat_template), or end prompts where a token ends.",
    "end_of_turn_outside_loss": "The model would not learn to stop. Use a template that ends a turn of the assistant "
    "with a special token, inside its generation block if it has one.",
    "double_bos": "The tokenizer begins each row with that token; take it out of the data.",
}
"""What spoils a model when it concerns many rows, and what to do."""


def refuse_faults(counts: Mapping[str, int], *, split: str, max_length: int, tolerance: float, keep: bool) -> None:
    """Refuse rows that spoil a model, beyond what is tolerated.

    Args:
        counts: What was counted.
        split: Its name.
        max_length: Of the preprocessor, for the message.
        tolerance: Share of the rows that may have a fault.
        keep: Whether some rows may have no trained token.

    Raises:
        BadData: With the number of such rows, and what to do.
    """
    rows, untrained = counts["features"], counts.get("rows_without_trained_tokens", 0)
    if untrained == rows or (untrained and not keep):
        raise BadData(
            f"{split}: {untrained:,} of {rows:,} rows have no trained token: the prompt alone fills max_length "
            f"({max_length}). Raise preprocessor.max_length, or set preprocessor.untrained_rows: keep."
        )
    for name, remedy in REMEDIES.items():
        if counts.get(name, 0) > tolerance * rows:
            raise BadData(
                f"{split}: {name} counts {counts[name]:,} of {rows:,} rows, more than preprocessor.tolerance "
                f"({tolerance:g}) allows. {remedy}"
            )
