"""Any task as text-to-text: a prefix before the source names the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finetune.interfaces import Columns, DataForm, Row, Values
from finetune_seq2seq.preprocessor import PREFIX, PREFIX_VALUES, SOURCE, TARGET, Seq2SeqPreprocessor


@dataclass(frozen=True, kw_only=True)
class TextToTextPreprocessor(Seq2SeqPreprocessor):
    """A text to read and one to write, or several, of which training uses the first and scoring all.

    Several tasks are a mixture of data sets, each with its own prefix in
    `dataset.mixture.NAME.constants`: ``{prefix: "heading: "}``. A label is a target like any other.
    Rename columns with other names: ``columns: {question: source, answer: target}``.

    Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified
        Text-to-Text Transformer".
    """

    lang: str | None = None
    """Language code of source and target, for a multilingual tokenizer: `en_XX` for mBART, `en` for
    M2M100."""

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(required=(SOURCE,), optional=(PREFIX,), consistent=(PREFIX,), answers=(TARGET,), group=SOURCE)

    def forms(self) -> Sequence[DataForm]:
        """Return the form of the data: two texts."""
        read = ("input", "source_text", "input_text", "question", "query", "text", "from", "original")
        written = ("output", "target_text", "output_text", "answer", "response", "to", "corrected")
        return (
            DataForm(
                columns={
                    SOURCE: Values(what="the text to read", kind="text", names=read),
                    TARGET: Values(what="the text to write", kind="text", names=written),
                },
                optional={PREFIX: PREFIX_VALUES},
                weight=0.9,
            ),
        )

    def canonical(self, example: Row) -> Row:
        """Return source and target."""
        return {SOURCE: example.get(SOURCE), TARGET: example.get(TARGET)}

    def places(self, row: Row) -> tuple[str, str]:
        """Return their columns."""
        return SOURCE, TARGET

    def languages(self) -> Mapping[str, str | None]:
        """Return the one language of both."""
        return {"lang": self.lang}
