"""What can be wrong with words and their tags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

from finetune.errors import did_you_mean
from finetune.interfaces import Finding
from finetune.kit import is_blank
from finetune_text import label_checks, tags
from finetune_text.labels import class_label_names
from finetune_text.tags import DataScheme, Scheme
from finetune_text.words import TOKENS, words_of

TAGS = "ner_tags"
"""The column."""
_OTHER_FORMATS = "A cell of csv cannot hold a list: give JSON lines, parquet or CoNLL."


def tag_text(tag: Any) -> str | None:
    """Return a tag as text, or None where it is neither text nor a whole number.

    >>> tag_text("B-PER"), tag_text(3), tag_text(""), tag_text(1.5), tag_text(True)
    ('B-PER', '3', None, None, None)
    """
    return str(tag) if isinstance(tag, str | int) and not isinstance(tag, bool) and tag != "" else None


def tag_texts(value: Any) -> tuple[str, ...]:
    """Return those tags of a cell that are text or whole numbers, as text, whatever else the cell holds.

    >>> tag_texts(["B-PER", None, 3]), tag_texts("B-PER")
    (('B-PER', '3'), ())
    """
    if not is_list(value):
        return ()
    if set(map(type, value)) == {str}:  # the usual case
        return tuple(filter(None, value))
    return tuple(filter(None, map(tag_text, value)))


def is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    """Say whether a cell holds a list."""
    return isinstance(value, list | tuple)


def check_words(value: Any, row: int, *, tagged: bool) -> Iterator[Finding]:
    """Yield what is wrong with the words of one row; where there are no tags, text is split into words."""
    if value is None:
        yield _word_finding("tokens-missing", "the row has no words.", row, fix="Fill them in, or drop the row.")
        return
    if isinstance(value, str) and not tagged:
        value = words_of(value)
    if not is_list(value):
        message = f"expected a list of words, found {type(value).__name__}."
        yield _word_finding("tokens-not-list", message, row, value=str(value), level="error", fix=_OTHER_FORMATS)
        return
    if not value:
        yield _word_finding("tokens-empty", "the row has no words.", row, fix="Fill them in, or drop the row.")
    for place, word in enumerate(value):
        if type(word) is not str or not word or not word[0].isalnum():  # else it is sound: it has a visible character
            yield from _check_word(word, place, row)


def _check_word(word: Any, place: int, row: int) -> Iterator[Finding]:
    if not isinstance(word, str):
        message = f"word {place} is {type(word).__name__}; expected text."
        yield _word_finding("token-not-text", message, row, value=str(word), level="error", fix="Write words as text.")
    elif not word:
        fix = "Remove it with its tag, or drop the row."
        yield _word_finding("token-empty", f"word {place} is empty.", row, fix=fix)
    elif is_blank(word):
        yield _word_finding(
            "token-invisible", f"word {place} has no visible character; many tokenizers have no token for it.", row,
            value=ascii(word), level="warning", fix="If it is a mistake, remove it with its tag.",
        )  # fmt: skip


def check_tags(
    value: Any, row: int, *, words: int, known: Mapping[str, int], labels: Sequence[str], scheme: Scheme
) -> Finding | None:
    """Return what is wrong with the tags of one row, the most serious first.

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
    if not is_list(value):
        message = f"expected a list of tags, found {type(value).__name__}."
        return tag_finding("tags-not-list", message, row=row, value=str(value), level="error", fix=_OTHER_FORMATS)
    names = []
    if set(map(type, value)) == {str} and known.keys() >= set(value) and "" not in value:  # the usual case
        names = [labels[known[tag]] for tag in value]
    else:
        for place, tag in enumerate(value):
            wrong = _check_tag(tag, place, row, known)
            if wrong is not None:
                return wrong
            names.append(labels[known[tag_text(tag) or ""]])
    if len(value) != words:
        message = f"there are {len(value):,} tags for {words:,} words."
        return tag_finding("tags-uneven", message, row=row, fix="Give every word one tag, or drop the row.")
    return _check_scheme(names, row, scheme)


def _check_tag(tag: Any, place: int, row: int, known: Mapping[str, int]) -> Finding | None:
    if tag is None or tag == "":
        fix = f"Write {tags.OUTSIDE} for a word outside every entity, or drop the row."
        return tag_finding("tag-missing", f"word {place} has no tag.", row=row, fix=fix)
    text = tag_text(tag)
    if text is None:
        message = f"the tag of word {place} is {type(tag).__name__}; expected text or a whole number."
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
        fix = "Begin every entity with B-. If I- begins most of them, set the preprocessor's option data_scheme: IOB1."
    return tag_finding(code, f"word {place}: {what}{more}.", row=row, value=row_tags[place], fix=fix)


def check_written(names: Sequence[str], row: int, scheme: DataScheme) -> Finding | None:
    """Return what is wrong with the tags of one row as the data write them, before they are converted."""
    if scheme == "IOB1":
        scheme, problem = "BIO", None  # I- may begin an entity, and B-, too
    else:
        problem = _check_scheme(names, row, scheme)
    for place, name in enumerate(names):
        if not tags.belongs(name, scheme):
            message = f"word {place}: the tag is not one of {scheme}, so it cannot be converted."
            return tag_finding("tag-outside-scheme", message, row=row, value=name, fix="Correct it, or drop the row.")
    return problem


def not_converted(data_scheme: str) -> Finding:
    """Return the finding that says that numbers cannot be converted."""
    message = f"data_scheme: {data_scheme} has no effect, because the tags are numbers."
    return tag_finding("tags-are-numbers", message, level="error", fix="Write the tags as names, such as B-PER.")


def converted(data_scheme: str, scheme: Scheme) -> Finding:
    """Return the finding that says that the tags of the data are converted."""
    how = "I- begins an entity, and B- only one right after another of its type" if data_scheme == "IOB1" else ""
    message = f"the tags are {data_scheme}{f' ({how})' if how else ''}, and are converted to {scheme}."
    return tag_finding(
        "tags-converted", message, level="warning", fix="If the data are in another scheme, set data_scheme."
    )


def check_train(
    labels: Sequence[str], counts: Mapping[str, int], *, scheme: Scheme, scheme_given: bool, unused_allowed: bool
) -> Iterator[Finding]:
    """Yield what is wrong with the tags of the training data as a whole.

    Args:
        labels: Names of the tags.
        counts: Words of each in train.
        scheme: What they are written in.
        scheme_given: Whether the recipe names the scheme.
        unused_allowed: Whether there may be tags that no word has.
    """
    unused = [name for name in labels if not counts.get(name)]
    if len(labels) - len(unused) < 2:
        message = f"every word has the tag {labels[0]!r}." if labels else "no word has a tag."
        yield tag_finding("one-class", message, level="error", fix="Learning needs at least two tags in train.")
        return
    for finding in label_checks.check_names(labels):
        yield replace(finding, column=TAGS)
    for name in labels:
        if not tags.belongs(name, scheme):
            fix = f"Correct the tags, or leave out the option `scheme: {scheme}`."
            yield tag_finding(
                "tag-outside-scheme", f"the tag is not one of {scheme}.", value=name, level="error", fix=fix
            )
            break
    if scheme == "none" and not scheme_given:
        yield tag_finding(
            "tags-without-scheme",
            f"the tags ({label_checks.listed(labels)}) are neither BIO nor BILOU, so every word is scored by itself.",
            level="warning",
            fix="Write `scheme: none` if that is right; if tags are numbers, give their names in the option `labels`.",
        )
    for name in () if unused_allowed else unused:
        yield tag_finding(
            "tag-without-words", "no word of train has this tag.", value=name, level="warning",
            fix="Take it out of `labels` if it is not needed.",
        )  # fmt: skip


def check_order(examples: Any, labels: Sequence[str]) -> Iterator[Finding]:
    """Yield an error where a split's own tag names stand in another order than the model's."""
    own = class_label_names(examples, TAGS)
    if own and own != tuple(labels[: len(own)]):
        yield tag_finding(
            "label-order", "the split numbers its tags in another order than the model.", level="error",
            value=", ".join(own), fix="Encode all splits with one list of names, or give the tags as text.",
        )  # fmt: skip


def tag_finding(code: str, message: str, **rest: Any) -> Finding:
    """Return a finding in the column of tags."""
    return Finding(code=code, message=message, column=TAGS, **rest)


def _word_finding(code: str, message: str, row: int, **rest: Any) -> Finding:
    return Finding(code=code, message=message, column=TOKENS, row=row, **rest)
