"""Documents or dialogues, and their summaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from finetune.interfaces import Columns, Row
from finetune_seq2seq.preprocessor import PREFIX, SOURCE, TARGET, Seq2SeqPreprocessor

DOCUMENT, SUMMARY = "document", "summary"
"""The columns, with the names that XSum uses."""


@dataclass(frozen=True, kw_only=True)
class SummarizationPreprocessor(Seq2SeqPreprocessor):
    """A document or dialogue, and its summary; or several, of which training uses the first and scoring all.

    Rename columns with other names: ``dataset.columns: {article: document, highlights: summary}``.
    A random split keeps rows with the same document together.
    """

    lang: str | None = None
    """Language code of document and summary, for a multilingual tokenizer: `en_XX` for mBART, `en`
    for M2M100."""

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(
            required=(DOCUMENT,), optional=(PREFIX,), consistent=(PREFIX,), answers=(SUMMARY,), group=DOCUMENT
        )

    def canonical(self, example: Row) -> Row:
        """Return document and summary as source and target."""
        return {SOURCE: example.get(DOCUMENT), TARGET: example.get(SUMMARY)}

    def places(self, row: Row) -> tuple[str, str]:
        """Return their columns."""
        return DOCUMENT, SUMMARY

    def languages(self) -> Mapping[str, str | None]:
        """Return the one language of both."""
        return {"lang": self.lang}
