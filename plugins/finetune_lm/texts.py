"""Texts: what is wrong with them, and their tokens."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from finetune.errors import Incompatible
from finetune.interfaces import Finding, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXT = "text"
"""The column."""
NO_WORD = -1
"""Word of a token that belongs to none: special tokens."""
_INVISIBLE = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
_SURROGATE = re.compile(r"[\ud800-\udfff]")
# The names that tokenizers of the Hub give to their special tokens: [CLS], <s>, </s>, <|endoftext|>, <extra_id_0> …
_SPECIAL = re.compile(
    r"\[(?:CLS|SEP|PAD|UNK|MASK)\]|</?s>|<(?:pad|unk|mask|cls|sep|bos|eos|extra_id_\d+|(?:start|end)_of_turn)>"
    r"|<\|[a-z0-9_]+\|>"
)


class Encoded(NamedTuple):
    """The tokens of one text, special ones left out."""

    ids: list[int]
    words: list[int]
    """Which word of the text each token belongs to; empty unless asked for."""


def check_texts(examples: Sequence[Row], *, max_length: int) -> Iterator[Finding]:
    """Yield what is wrong with the texts of one split."""
    seen: set[bytes] = set()
    special: list[tuple[int, str]] = []
    repeats: list[int] = []
    tokens = 0
    for number, row in enumerate(examples):
        value = row.get(TEXT)
        problem = _problem(value)
        if problem is not None:
            surrogate = problem["code"] == "text-surrogate"
            shown = None if value is None else ascii(value) if surrogate else str(value)
            yield Finding(**problem, row=number, column=TEXT, value=shown)
        if not isinstance(value, str):
            continue
        content = value.encode("utf-8", "surrogatepass")
        tokens += len(content) + 1
        if found := _SPECIAL.search(value):
            special.append((number, found.group()))
        digest = blake2b(content, digest_size=8).digest()
        if digest in seen:
            repeats.append(number)
        seen.add(digest)
    yield from _warnings(special, repeats)
    if len(examples) > 0 and tokens <= max_length:
        # A byte is a token at most, and so is the end of a document: fewer tokens than this there cannot be known to be
        # without the tokenizer.
        yield Finding(
            code="corpus-smaller-than-block", level="warning", column=TEXT,
            message=f"all {len(examples):,} texts together fit into one block of {max_length:,} tokens.",
            fix="Is that all the text there is? Lower preprocessor.max_length, or bring more.",
        )  # fmt: skip


def _warnings(special: list[tuple[int, str]], repeats: list[int]) -> Iterator[Finding]:
    if special:
        row, value = special[0]
        yield Finding(
            code="special-token-in-text", level="warning", row=row, column=TEXT, value=value,
            message=f"{len(special):,} texts hold what looks like a special token. It is read as plain text, except "
            "that a masked language model takes its own mask token for a gap to fill.",
            fix="If it is a leftover of earlier processing, remove it.",
        )  # fmt: skip
    if repeats:
        yield Finding(
            code="duplicate-rows", level="warning", row=repeats[0], column=TEXT,
            message=f"{len(repeats):,} rows repeat an earlier text.",
            fix="Remove them: what is repeated is learnt by heart.",
        )  # fmt: skip


def _problem(value: Any) -> dict[str, Any] | None:
    if value is None:
        return {"code": "text-missing", "message": "the row has no text.", "fix": "Fill it in, or drop the row."}
    if not isinstance(value, str):
        message = f"text was wanted, not {type(value).__name__}."
        return {"code": "text-not-text", "message": message, "fix": "Write the column as text.", "level": "error"}
    if all(unicodedata.category(character) in _INVISIBLE for character in value):
        message = "nothing in the text can be seen."
        return {"code": "text-empty", "message": message, "fix": "Fill it in, or drop the row."}
    if _SURROGATE.search(value):
        message = "the text holds half of a surrogate pair, which no tokenizer reads."
        return {"code": "text-surrogate", "message": message, "fix": "Repair the encoding.", "level": "error"}
    return None


def encode(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, words: bool = False, mask_token: str | None = None
) -> list[Encoded]:
    """Return the tokens of each text; no text can write a special token, but for the unknown one.

    Args:
        texts: Good ones.
        tokenizer: Fast, where words are asked for.
        words: Whether to say which word each token belongs to.
        mask_token: Where a text holds it, that text's special tokens are taken for what they are.

    Raises:
        Incompatible: Words are asked for, and the tokenizer does not know them.
    """
    if words and not tokenizer.is_fast:
        raise Incompatible(
            f"whole_word_mask needs a fast tokenizer, which knows what word a token belongs to; "
            f"{type(tokenizer).__name__} is not one. Set preprocessor.whole_word_mask to false."
        )
    marked = [mask_token is not None and mask_token in text for text in texts]
    encoded: dict[int, Encoded] = {}
    for special in (False, True):
        chosen = [position for position, mark in enumerate(marked) if mark is special]
        made = _tokens([texts[position] for position in chosen], tokenizer, words=words, split=not special)
        encoded.update(zip(chosen, made, strict=True))
    forbidden = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    for position, mark in enumerate(marked):
        if not mark and not forbidden.isdisjoint(encoded[position].ids):
            encoded[position] = _spelt_out(texts[position], tokenizer, words=words)
    return [encoded[position] for position in range(len(texts))]


def _tokens(texts: list[str], tokenizer: PreTrainedTokenizerBase, *, words: bool, split: bool) -> list[Encoded]:
    if not texts:
        return []
    made = tokenizer(
        texts,
        add_special_tokens=False,
        split_special_tokens=split,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    return [Encoded(list(ids), _words(made, position) if words else []) for position, ids in enumerate(made.input_ids)]


def _words(made: Any, position: int) -> list[int]:
    return [NO_WORD if word is None else word for word in made.word_ids(position)]


def _spelt_out(text: str, tokenizer: PreTrainedTokenizerBase, *, words: bool) -> Encoded:
    """Return the tokens of a text whose special tokens are cut in two after their first character.

    ``split_special_tokens`` is not enough for Unigram vocabularies such as XLM-R's: ``</s>`` is one of their pieces,
    and the most likely reading of its own spelling. Seen with tokenizers 0.23.
    """
    names = sorted(tokenizer.all_special_tokens, key=len, reverse=True)
    places = [found.start() + 1 for found in re.finditer("|".join(map(re.escape, names)), text)]
    parts = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
    joined = Encoded([], [])
    for part in _tokens(parts, tokenizer, words=words, split=True):
        later = max(joined.words, default=NO_WORD) + 1
        joined.ids.extend(part.ids)
        joined.words.extend(NO_WORD if word == NO_WORD else word + later for word in part.words)
    return joined


def shown(ids: Sequence[int], seen: Sequence[bool], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return tokens as a person reads them, with ``⟦…⟧`` round each run of those that the loss sees."""
    tokens: list[str] = []
    inside = False
    for token, inner in zip(tokenizer.convert_ids_to_tokens(list(ids)), seen, strict=True):
        if inner != inside:
            tokens.append("⟦" if inner else "⟧")
            inside = inner
        tokens.append(token)
    text: str = tokenizer.convert_tokens_to_string([*tokens, "⟧"] if inside else tokens)
    return text
