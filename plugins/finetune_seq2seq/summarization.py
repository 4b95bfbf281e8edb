"""Documents and dialogues, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune.interfaces import Columns, Row
from finetune_seq2seq.preprocessor import PREFIX, Seq2SeqPreprocessor

DOCUMENT, SUMMARY = "document", "summary"
"""The columns, as XSum calls them."""


@dataclass(frozen=True, kw_only=True)
class SummarizationPreprocessor(Seq2SeqPreprocessor):
    """A document or dialogue, and its summary; or several, of which training uses the first and scoring all.

    Rename what is called otherwise: ``dataset.columns: {article: document, highlights: summary}``. Rows of one document
    are never parted by a random split.
    """

    lang: str | None = None
    """Language code of document and summary, for a multilingual tokenizer: `en_XX` for mBART, `en` for M2M100."""

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(required=(DOCUMENT,), optional=(PREFIX,), answers=(SUMMARY,), group=DOCUMENT)

    def pair(self, row: Row) -> tuple[Any, Any]:
        """Return document and summary."""
        return row.get(DOCUMENT), row.get(SUMMARY)

    def places(self, row: Row) -> tuple[str, str]:
        """Return their columns."""
        return DOCUMENT, SUMMARY

    def languages(self) -> Mapping[str, str | None]:
        """Return the one language of both."""
        return {"lang": self.lang}
