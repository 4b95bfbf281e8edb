"""Texts and pairs of texts: their checks, their tokens, and what truncation removes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finetune.errors import BadOptions, Incompatible
from finetune.interfaces import Batch, Columns, DataForm, Finding, Row, Values
from finetune.kit import check_text, context_length, encode_truncated
from finetune_text.labels import LABEL

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXT, PAIR = "text", "text_pair"
"""The columns."""
NO_LIMIT = 10**9
"""Tokenizers without a limit state a number above this one."""
TOKENS_LOST = "tokens_lost"
"""Helper column of the features: how many tokens `max_length` cut off."""


def columns(answers: Sequence[str] = (LABEL,)) -> Columns:
    """Return the columns that are read: a text, perhaps a second one, and a label, or several columns with labels."""
    return Columns(required=(TEXT,), optional=(PAIR,), consistent=(PAIR,), answers=tuple(answers))


def form(
    label: Values | None,
    *,
    weight: float = 1.0,
    groups: Mapping[str, Values] = {},
    learned: Mapping[str, str] = {},
) -> DataForm:
    """Return the form of data with a text, perhaps a second one, and what is to be predicted.

    Args:
        label: The values of the label column; None if there is none.
        weight: How likely the task is for such data.
        groups: As in `DataForm`.
        learned: As in `DataForm`.
    """
    return DataForm(
        columns={
            TEXT: Values(
                what="a text",
                kind="text",
                names=("sentence", "review", "review_text", "comment_text", "full_text", "content", "body", "comment",
                       "message", "tweet", "document", "utterance", "article", "abstract", "description", "premise",
                       "sentence1", "sentence_a", "text1", "text_a", "question1", "headline", "title"),
            ),
            **({} if label is None else {LABEL: label}),
        },
        optional={
            PAIR: Values(
                what="a second text, of which the label depends too",
                names=("hypothesis", "sentence2", "sentence_b", "text2", "text_b", "question2"),
            )
        },
        groups=groups,
        weight=weight,
        learned=learned,
    )  # fmt: skip


def has_values(examples: Sequence[Row], column: str) -> bool:
    """Say whether the first example has a column, and any example a value in it."""
    if len(examples) == 0 or column not in examples[0]:
        return False
    return any(row.get(column) is not None for row in examples)


def check_texts(row: Row, number: int, columns: Sequence[str]) -> Iterator[Finding]:
    """Yield what is wrong with the texts of one row."""
    for column in columns:
        yield from check_text(row.get(column), row=number, column=column)


def longest_input(config: Any, tokenizer: PreTrainedTokenizerBase, *, default: int) -> int:
    """Return how many tokens a trained model takes, as its tokenizer or else its configuration says.

    Families that count positions from the padding token, such as RoBERTa, state two more than a text can have.

    Args:
        config: The configuration of the model.
        tokenizer: The tokenizer of the model.
        default: The value if neither says it.
    """
    if tokenizer.model_max_length < NO_LIMIT:
        return int(tokenizer.model_max_length)
    stated = context_length(config)
    return default if stated is None else stated - stated % 8


def encode(examples: Batch, tokenizer: PreTrainedTokenizerBase, *, max_length: int) -> dict[str, list[Any]]:
    """Return the model's inputs for a batch of texts or pairs, at most ``max_length`` tokens each.

    The column `TOKENS_LOST` counts the tokens that were cut off. Of a pair, tokens are removed from
    the end of the longer text.

    >>> from finetune.testing.tokenizers import tokenizer
    >>> encode({"text": ["tar", "salt, tar and nets"]}, tokenizer("bert"), max_length=4)["tokens_lost"]
    [0, 3]

    Raises:
        BadOptions: The model cannot take ``max_length`` tokens, or ``max_length`` leaves no room
            for text.
        Incompatible: The tokenizer cannot pad.
    """
    texts = examples[TEXT]
    has_pairs = any(pair is not None for pair in examples.get(PAIR, ()))
    pairs = examples[PAIR] if has_pairs else None
    require_usable(tokenizer, max_length, pair=has_pairs)
    encoded, lost = encode_truncated(tokenizer, texts, pairs, max_length=max_length)
    return {**encoded, TOKENS_LOST: lost}


def require_usable(tokenizer: PreTrainedTokenizerBase, max_length: int, *, pair: bool) -> None:
    """Refuse a tokenizer that cannot pad, and a length that does not fit the model or leaves no room for text."""
    if tokenizer.pad_token is None:
        raise Incompatible(
            f"the tokenizer ({type(tokenizer).__name__}) has no padding token, so texts of different lengths cannot "
            "stand in one batch. Save a copy of it with `tokenizer.pad_token = tokenizer.eos_token`, and of the model "
            "with the same `config.pad_token_id`; name the copies in the recipe."
        )
    if max_length > tokenizer.model_max_length:
        raise BadOptions(
            f"preprocessor: max_length {max_length:,} is more than the {tokenizer.model_max_length:,} tokens that the "
            f"model takes. Set max_length to {tokenizer.model_max_length:,} or less."
        )
    special = tokenizer.num_special_tokens_to_add(pair=pair)
    least = special + 1 + pair
    if max_length < least:
        raise BadOptions(
            f"preprocessor: max_length {max_length} leaves no room for text next to {special} special tokens. "
            f"Set it to {least} or more."
        )


def truncation(features: Batch) -> dict[str, int]:
    """Return how many texts of a batch of features lost tokens, and how many tokens."""
    lost = features[TOKENS_LOST]
    return {"truncated": sum(count > 0 for count in lost), TOKENS_LOST: sum(lost)}


def shown(feature: Row, tokenizer: PreTrainedTokenizerBase, label: str | None) -> str:
    """Return one feature as a person reads it, the label in ``⟦…⟧``."""
    text = str(tokenizer.decode(feature["input_ids"]))
    return text if label is None else f"{text} → ⟦{label}⟧"
