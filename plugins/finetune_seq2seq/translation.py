"""Sentences and their translations, in two columns or in one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from finetune.errors import BadData
from finetune.interfaces import Columns, Finding, Row
from finetune_seq2seq.preprocessor import PREFIX, Seq2SeqPreprocessor

SOURCE, TARGET, TRANSLATION = "source", "target", "translation"
"""The columns."""


@dataclass(frozen=True, kw_only=True)
class TranslationPreprocessor(Seq2SeqPreprocessor):
    """A text and its translation: columns `source` and `target`, or one `translation` as on the Hub.

    ``{"translation": {"en": "Fog.", "de": "Nebel."}}`` with ``source_lang: en, target_lang: de`` is the same as
    ``{"source": "Fog.", "target": "Nebel."}``. Where a row has `translation`, the other columns do not count. Several
    translations of one source are a list, of which training uses the first and scoring all.
    """

    source_lang: str | None = None
    """Language of the source: the key in `translation`, and the code of a multilingual tokenizer. A code `en_XX` finds
    the key `en` by itself."""
    target_lang: str | None = None
    """Language of the target, likewise; the decoder of mBART-50, M2M100 and NLLB is made to begin with it."""
    keys: tuple[str, str] | None = None
    """Keys of source and target in `translation`, where they are others than the languages: `[en, de]` beside
    `source_lang: eng_Latn` and `target_lang: deu_Latn`."""

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(optional=(SOURCE, TARGET, TRANSLATION, PREFIX), group=SOURCE)

    def fit(self, train: Sequence[Row]) -> Self:
        """Refuse rows that cannot be trained on, whatever they hold.

        Neither form of the columns can be declared as required, because the other one would do.

        Raises:
            BadData: There are no columns with source and target.
        """
        names = set(train[0]) if len(train) else {TRANSLATION}
        if TRANSLATION not in names and not {SOURCE, TARGET} <= names:
            raise BadData(
                f"translation needs the columns `source` and `target`, or one column `translation`; there are: "
                f"{', '.join(sorted(names))}. Rename them under dataset.columns: {{theirs: source, others: target}}."
            )
        return self

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split; columns first, then every row."""
        names = set(examples[0]) if len(examples) else {SOURCE}
        if not names & {SOURCE, TRANSLATION}:
            yield Finding(
                code="no-source", level="error", message=f"there is neither `source` nor `translation`, but: "
                f"{', '.join(sorted(names))}.", fix="Rename one under dataset.columns: {theirs: source}.",
            )  # fmt: skip
        elif TRANSLATION in names and None in self._keys():
            yield Finding(
                code="languages-not-named", level="error", column=TRANSLATION,
                message="the column holds several languages, and which is the source and which the target is not said.",
                fix="Set preprocessor.source_lang and preprocessor.target_lang.",
            )  # fmt: skip
        else:
            yield from super().check(examples)

    def broken(self, row: Row, number: int) -> Finding | None:
        """Return what is wrong with the cell `translation`; a cell with the source alone is one to predict."""
        if TRANSLATION not in row:
            return None
        cell = row[TRANSLATION]
        if not isinstance(cell, Mapping):
            kind = "nothing" if cell is None else type(cell).__name__
            return Finding(
                code="translation-not-an-object", level="row" if cell is None else "error", row=number,
                column=TRANSLATION, message=f"an object {{language: text}} was wanted, not {kind}.", value=str(cell),
                fix="Write JSON lines, or two columns `source` and `target`.",
            )  # fmt: skip
        missing = [name for name in self._keys() if _key(cell, str(name)) is None]
        if not missing or (missing == [self._keys()[1]] and len(cell) == 1):
            return None
        return Finding(
            code="translation-without-language", row=number, column=TRANSLATION, value=", ".join(cell),
            message=f"{' and '.join(map(repr, missing))} is not among the languages of the row.",
            fix="Are source_lang and target_lang right? Name other keys by preprocessor.keys.",
        )  # fmt: skip

    def pair(self, row: Row) -> tuple[Any, Any]:
        """Return source and target, of whichever form."""
        if TRANSLATION not in row:
            return row.get(SOURCE), row.get(TARGET)
        cell = row[TRANSLATION]
        if not isinstance(cell, Mapping):
            return None, None
        source, target = (None if key is None else cell.get(_key(cell, key)) for key in self._keys())
        return source, target

    def places(self, row: Row) -> tuple[str, str]:
        """Return columns, or places in the one column."""
        if TRANSLATION not in row:
            return SOURCE, TARGET
        source, target = (f"{TRANSLATION}.{_key(row[TRANSLATION], str(key)) or key}" for key in self._keys())
        return source, target

    def languages(self) -> Mapping[str, str | None]:
        """Return the language of each."""
        return {"source_lang": self.source_lang, "target_lang": self.target_lang}

    def _keys(self) -> tuple[str | None, str | None]:
        return self.keys or (self.source_lang, self.target_lang)


def _key(cell: Mapping[str, Any], name: str) -> str | None:
    """Return the key of a cell that a language goes by: itself, or what stands before the first ``_``."""
    return next((key for key in (name, name.partition("_")[0]) if key in cell), None)
