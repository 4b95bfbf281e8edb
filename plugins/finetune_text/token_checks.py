"""What can be wrong with words and their tags."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from finetune.errors import did_you_mean
from finetune.interfaces import Finding
from finetune_text import labels as names
from finetune_text import tags
from finetune_text.tags import Scheme
from finetune_text.words import TOKENS

TAGS = "ner_tags"
"""The column."""
_INVISIBLE = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
_ELSEWHERE = "A cell of csv cannot hold a list: give JSON lines, parquet or CoNLL."


def spelt(tag: Any) -> str | None:
    """Return a tag as text, or None where it is neither text nor a whole number.

    >>> spelt("B-PER"), spelt(3), spelt(""), spelt(1.5), spelt(True)
    ('B-PER', '3', None, None, None)
    """
    return str(tag) if isinstance(tag, str | int) and not isinstance(tag, bool) and tag != "" else None


def listed(value: Any) -> TypeGuard[Sequence[Any]]:
    """Say whether a cell holds a list."""
    return isinstance(value, list | tuple)


def check_words(value: Any, row: int, *, tagged: bool) -> Iterator[Finding]:
    """Yield what is wrong with the words of one row; text is parted at white space where there are no tags."""
    if value is None:
        yield _words("tokens-missing", "the row has no words.", row, fix="Fill them in, or drop the row.")
        return
    if isinstance(value, str) and not tagged:
        value = value.split()
    if not listed(value):
        message = f"a list of words was wanted, not {type(value).__name__}."
        yield _words("tokens-not-list", message, row, value=str(value), level="error", fix=_ELSEWHERE)
        return
    if not value:
        yield _words("tokens-empty", "there is no word in the row.", row, fix="Fill them in, or drop the row.")
    for place, word in enumerate(value):
        if not isinstance(word, str):
            message = f"word {place} is {type(word).__name__}; text was wanted."
            yield _words("token-not-text", message, row, value=str(word), level="error", fix="Write words as text.")
        elif not word:
            fix = "Remove it with its tag, or drop the row."
            yield _words("token-empty", f"word {place} is empty.", row, fix=fix)
        elif not word[0].isalnum() and all(unicodedata.category(letter) in _INVISIBLE for letter in word):
            message = f"nothing can be seen in word {place}; many tokenizers have no token for it."
            yield _words(
                "token-invisible", message, row, value=ascii(word), level="warning",
                fix="If it was not meant, remove it with its tag.",
            )  # fmt: skip


def check_tags(
    value: Any, row: int, *, words: int, known: Mapping[str, int], labels: Sequence[str], scheme: Scheme
) -> Finding | None:
    """Return what is wrong with the tags of one row, the worst first.

    Args:
        value: The cell.
        row: Its row.
        words: How many words the row has.
        known: Tag, as the data write it → its id.
        labels: Names of the tags in order of their ids.
        scheme: What they are written in.
    """
    if value is None:
        return tag_finding("tags-missing", "the row has no tags.", row=row, fix="Tag the row, or drop it.")
    if not listed(value):
        message = f"a list of tags was wanted, not {type(value).__name__}."
        return tag_finding("tags-not-list", message, row=row, value=str(value), level="error", fix=_ELSEWHERE)
    for place, tag in enumerate(value):
        wrong = _check_tag(tag, place, row, known)
        if wrong is not None:
            return wrong
    if len(value) != words:
        message = f"there are {len(value):,} tags for {words:,} words."
        return tag_finding("tags-uneven", message, row=row, fix="Give every word one tag, or drop the row.")
    return _check_scheme([labels[known[spelt(tag) or ""]] for tag in value], row, scheme)


def _check_tag(tag: Any, place: int, row: int, known: Mapping[str, int]) -> Finding | None:
    if tag is None or tag == "":
        fix = f"Write {tags.OUTSIDE} for a word outside every entity, or drop the row."
        return tag_finding("tag-missing", f"word {place} has no tag.", row=row, fix=fix)
    text = spelt(tag)
    if text is None:
        message = f"the tag of word {place} is {type(tag).__name__}; text or a whole number was wanted."
        fix = "Write tags as names, or as whole numbers with the option `labels`."
        return tag_finding("tag-not-text", message, row=row, value=str(tag), level="error", fix=fix)
    if text not in known:
        fix = f"Correct it, add training rows with it, or name every tag in `labels`.{did_you_mean(text, known)}"
        message = f"word {place}: no training row has this tag."
        return tag_finding("unseen-tag", message, row=row, value=text, level="error", fix=fix)
    return None


def _check_scheme(row_tags: Sequence[str], row: int, scheme: Scheme) -> Finding | None:
    """Return a finding with the first place where the tags break their scheme."""
    found = list(tags.problems(row_tags, scheme))
    if not found:
        return None
    place, what = found[0]
    more = f" (and {len(found) - 1:,} more in this row)" if len(found) > 1 else ""
    code, fix = "broken-bilou", "An entity of one word is U- (S-); of several: B- first, I- within, L- (E-) last."
    if scheme == "BIO":
        code = "inside-without-begin"
        fix = "Begin every entity with B-. Where I- begins most of them, the data are IOB1: rewrite them as BIO."
    return tag_finding(code, f"word {place}: {what}{more}.", row=row, value=row_tags[place], fix=fix)


def check_train(
    labels: Sequence[str], counts: Mapping[str, int], *, scheme: Scheme, told: bool, spare: bool
) -> Iterator[Finding]:
    """Yield what is wrong with the tags of the training data as a whole.

    Args:
        labels: Names of the tags.
        counts: Words of each in train.
        scheme: What they are written in.
        told: Whether the recipe says so.
        spare: Whether tags may be there that no word has.
    """
    if len([name for name in labels if counts.get(name)]) < 2:
        given = f"every word has the tag {labels[0]!r}." if labels else "no word has a tag."
        yield tag_finding("one-class", given, level="error", fix="Learning needs at least two tags in train.")
        return
    for found in names.check_names(labels):
        yield Finding(**{**vars(found), "column": TAGS})
    outside = [name for name in labels if not tags.belongs(name, scheme)]
    if outside:
        fix = f"Correct the tags, or leave out the option `scheme: {scheme}`."
        yield tag_finding(
            "tag-outside-scheme", f"the tag is not one of {scheme}.", value=outside[0], level="error", fix=fix
        )
    if scheme == "none" and not told:
        fix = "Say `scheme: none` if that is right; where tags are numbers, give their names in the option `labels`."
        some = ", ".join(labels[:5]) + (", …" if len(labels) > 5 else "")
        message = f"the tags ({some}) are neither BIO nor BILOU, so every word is scored by itself."
        yield tag_finding("tags-without-scheme", message, level="warning", fix=fix)
    for name in () if spare else labels:
        if not counts.get(name):
            fix = "Take it out of `labels` if it is not wanted."
            yield tag_finding(
                "tag-without-words", "no word of train has this tag.", value=name, level="warning", fix=fix
            )


def check_order(examples: Any, labels: Sequence[str]) -> Iterator[Finding]:
    """Yield an error where a split's own tag names stand in another order than the model's."""
    own = names.class_label_names(examples, TAGS)
    if own and own != tuple(labels[: len(own)]):
        yield tag_finding(
            "label-order", "the split numbers its tags otherwise than the model.", level="error", value=", ".join(own),
            fix="Encode all splits with one list of names, or give the tags as text.",
        )  # fmt: skip


def tag_finding(code: str, message: str, **rest: Any) -> Finding:
    """Return a finding in the column of tags."""
    return Finding(code=code, message=message, column=TAGS, **rest)


def _words(code: str, message: str, row: int, **rest: Any) -> Finding:
    return Finding(code=code, message=message, column=TOKENS, row=row, **rest)
