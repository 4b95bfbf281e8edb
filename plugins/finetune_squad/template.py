"""How a tokenizer joins a question and a context, found by trying it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PROBES = (("ab?", "c ab c, b"), ("c b ca", "a."))
"""Two pairs of different lengths: what they have in common is the template."""


@dataclass(frozen=True, kw_only=True)
class Template:
    """The special tokens before, between and after the two texts, as in ``[CLS] question [SEP] context [SEP]``."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    types: tuple[tuple[int, ...], int, tuple[int, ...], int, tuple[int, ...]]
    """Token type of each special token and of the two texts, in reading order."""
    null: tuple[int, int]
    """Where "no answer" points: 0, 1 or 2 for before, between or after, and the index in that part."""

    @property
    def specials(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """The three parts."""
        return self.before, self.between, self.after

    @property
    def size(self) -> int:
        """How many special tokens there are."""
        return sum(map(len, self.specials))


def template_of(tokenizer: Any) -> Template | None:
    """Return how a tokenizer joins two texts, or None if it follows no plain pattern.

    A plain pattern is: special tokens, the question, special tokens, the context, special tokens.
    The special tokens do not depend on the texts, and each text has the same tokens as by itself.
    """
    first, second = (_template(tokenizer, *probe) for probe in PROBES)
    return first if first == second else None


def null_position(tokenizer: Any, ids: list[int], special: list[bool]) -> int:
    """Return the position that "no answer" points to: the CLS token, else the BOS token, else the first token.

    >>> from finetune.testing.tokenizers import tokenizer
    >>> null_position(tokenizer("xlnet"), [8, 4, 9, 4, 3], [False, True, False, True, True])  # <cls> is last
    4
    """
    for wanted in (tokenizer.cls_token_id, tokenizer.bos_token_id):
        for position, (token, is_special) in enumerate(zip(ids, special, strict=True)):
            if is_special and token == wanted:
                return position
    return 0


def _template(tokenizer: Any, question: str, context: str) -> Template | None:
    pair = tokenizer(question, context, return_token_type_ids=True)
    ids, types, sequence = pair["input_ids"], pair["token_type_ids"], pair.sequence_ids(0)
    owners = [owner for owner in sequence if owner is not None]
    if set(owners) != {0, 1} or owners != sorted(owners):
        return None
    if sequence.count(None) != tokenizer.num_special_tokens_to_add(pair=True):
        return None
    # Where each text begins and ends: the question at q0 and q1, the context at c0 and c1.
    q0, q1 = sequence.index(0), len(sequence) - sequence[::-1].index(0)
    c0, c1 = sequence.index(1), len(sequence) - sequence[::-1].index(1)
    separate = tokenizer.backend_tokenizer.encode_batch([question, context], add_special_tokens=False)
    if (
        [ids[q0:q1], ids[c0:c1]] != [encoding.ids for encoding in separate]
        or len(set(types[q0:q1])) != 1
        or len(set(types[c0:c1])) != 1
    ):
        return None
    return Template(
        before=tuple(ids[:q0]),
        between=tuple(ids[q1:c0]),
        after=tuple(ids[c1:]),
        types=(tuple(types[:q0]), types[q0], tuple(types[q1:c0]), types[c0], tuple(types[c1:])),
        null=_null(null_position(tokenizer, ids, [owner is None for owner in sequence]), q0, q1, c0, c1),
    )


def _null(position: int, q0: int, q1: int, c0: int, c1: int) -> tuple[int, int]:
    if position >= c1:
        return 2, position - c1
    return (1, position - q1) if q1 <= position < c0 else (0, position)
