"""Documents or dialogues, and their summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finetune.interfaces import Columns, DataForm, Row, Values
from finetune_seq2seq.preprocessor import PREFIX, PREFIX_VALUES, SOURCE, TARGET, Seq2SeqPreprocessor

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

    def forms(self) -> Sequence[DataForm]:
        """Return the form of the data: a long text and a short one."""
        long = ("dialogue", "article", "text", "content", "body", "transcript", "report", "maintext")
        short = ("highlights", "abstract", "headline", "headlines", "tldr", "tl_dr", "summary1", "title", "target")
        return (
            DataForm(
                columns={
                    DOCUMENT: Values(what="a long text, or a dialogue", kind="text", names=long),
                    SUMMARY: Values(what="the short text: one, or a list of several", kind="summary", names=short),
                },
                optional={PREFIX: PREFIX_VALUES},
                weight=0.95,
            ),
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
