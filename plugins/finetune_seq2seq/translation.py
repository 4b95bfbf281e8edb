"""Texts and their translations, in two columns or in one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from finetune.errors import BadData
from finetune.interfaces import Columns, DataForm, Finding, Row, Values
from finetune_seq2seq.preprocessor import PREFIX, PREFIX_VALUES, SOURCE, TARGET, Seq2SeqPreprocessor

TRANSLATION = "translation"
"""The column that holds both texts; otherwise they are in `source` and `target`."""


@dataclass(frozen=True, kw_only=True)
class TranslationPreprocessor(Seq2SeqPreprocessor):
    """A text and its translation: columns `source` and `target`, or one `translation` as on the Hub.

    ``{"translation": {"en": "Fog.", "de": "Nebel."}}`` with ``source_lang: en, target_lang: de`` is
    the same as ``{"source": "Fog.", "target": "Nebel."}``. If a row has `translation`, the other
    columns are ignored. Several translations of one source are a list, of which training uses the
    first and scoring all.
    """

    source_lang: str | None = None
    """Language of the source: the key in `translation`, and the code of a multilingual tokenizer.
    The code `en_XX` also finds the key `en`."""
    target_lang: str | None = None
    """Language of the target, likewise; the decoder of mBART-50, M2M100 and NLLB begins with it."""
    keys: tuple[str, str] | None = None
    """Keys of source and target in `translation`, if they differ from the languages: `[en, de]`
    with `source_lang: eng_Latn` and `target_lang: deu_Latn`."""

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(
            optional=(SOURCE, TRANSLATION, PREFIX), consistent=(PREFIX,), optional_answers=(TARGET,), group=SOURCE
        )

    def forms(self) -> Sequence[DataForm]:
        """Return the forms of the data: two columns, or one with a text for each language."""
        learned = {"source_lang": "first", "target_lang": "second"}
        pair = Values(what='a text for each language: {"en": "…", "de": "…"}', kind="pair")
        languages = ("en", "english", "de", "german", "fr", "french", "es", "spanish", "it", "italian", "nl", "dutch")
        return (
            DataForm(columns={TRANSLATION: pair}, learned=learned),
            DataForm(
                columns={
                    SOURCE: Values(what="the text to translate", kind="text", names=("src", *languages)),
                    TARGET: Values(what="the translation", kind="text", names=("tgt", "trg", *languages)),
                },
                optional={PREFIX: PREFIX_VALUES},
                learned=learned,
                weight=0.92,
            ),
        )

    def fit(self, train: Sequence[Row]) -> Self:
        """Check that there are columns to train on.

        `needs` cannot declare either form of the columns as required, because the other form is
        enough.

        Raises:
            BadData: There are no columns with source and target.
        """
        names = set(train[0]) if len(train) else {TRANSLATION}
        if TRANSLATION not in names and not {SOURCE, TARGET} <= names:
            raise BadData(
                f"translation needs the columns `source` and `target`, or one column `translation`; the data has: "
                f"{', '.join(sorted(names))}. Rename them under dataset.columns: {{english: source, german: target}}."
            )
        return self

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split: with its columns, or else with its rows."""
        names = set(examples[0]) if len(examples) else {SOURCE}
        if not names & {SOURCE, TRANSLATION}:
            yield Finding(
                code="no-source",
                level="error",
                message=f"there is no column `source` or `translation`; the data has: {', '.join(sorted(names))}.",
                fix="Rename one under dataset.columns: {english: source}.",
            )
        elif TRANSLATION in names and None in self._keys():
            yield Finding(
                code="languages-not-named",
                level="error",
                column=TRANSLATION,
                message="the column holds several languages, and the recipe does not name source and target.",
                fix="Set preprocessor.source_lang and preprocessor.target_lang.",
            )
        else:
            yield from super().check(examples)

    def check_row(self, row: Row, number: int) -> Finding | None:
        """Return what is wrong with the cell `translation`; a cell with the source alone is one to predict."""
        if TRANSLATION not in row:
            return None
        cell = row[TRANSLATION]
        if not isinstance(cell, Mapping):
            kind = "nothing" if cell is None else type(cell).__name__
            return Finding(
                code="translation-not-an-object",
                level="row" if cell is None else "error",
                row=number,
                column=TRANSLATION,
                value=str(cell),
                message=f"expected an object {{language: text}}, found {kind}.",
                fix="Write JSON lines, or two columns `source` and `target`.",
            )
        missing = [name for name in self._keys() if _key(cell, str(name)) is None]
        has_source_alone = missing == [self._keys()[1]] and len(cell) == 1
        if not missing or has_source_alone:
            return None
        return Finding(
            code="translation-without-language",
            row=number,
            column=TRANSLATION,
            value=", ".join(cell),
            message=f"{' and '.join(map(repr, missing))} is not among the languages of the row.",
            fix="Check source_lang and target_lang, or name other keys under preprocessor.keys.",
        )

    def canonical(self, example: Row) -> Row:
        """Return source and target, of either form."""
        if TRANSLATION not in example:
            return {SOURCE: example.get(SOURCE), TARGET: example.get(TARGET)}
        cell = example[TRANSLATION]
        texts: list[Any] = []
        for name in self._keys():
            key = _key(cell, name) if name is not None and isinstance(cell, Mapping) else None
            texts.append(None if key is None else cell[key])
        return dict(zip((SOURCE, TARGET), texts, strict=True))

    def places(self, row: Row) -> tuple[str, str]:
        """Return the columns, or the places in the one column."""
        if TRANSLATION not in row:
            return SOURCE, TARGET
        source, target = (f"{TRANSLATION}.{_key(row[TRANSLATION], str(name)) or name}" for name in self._keys())
        return source, target

    def languages(self) -> Mapping[str, str | None]:
        """Return the language of each."""
        return {"source_lang": self.source_lang, "target_lang": self.target_lang}

    def _keys(self) -> tuple[str | None, str | None]:
        return self.keys or (self.source_lang, self.target_lang)


def _key(cell: Mapping[str, Any], language: str) -> str | None:
    """Return the key of a cell that stands for a language: the same, or the part before the first ``_``."""
    for key in (language, language.partition("_")[0]):
        if key in cell:
            return key
    return None
