"""Rows with a state, a question and an answer → prompts and the tokens of the options."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transformers.decision import DecisionConfig

from finetune.errors import BadData
from finetune.interfaces import Batch, Columns, DataForm, Finding, Preprocessor, Row, Values
from finetune.kit import PadRight
from finetune_decision import checks
from finetune_decision.collator import PadDecisions, cross_entropy
from finetune_decision.prompts import prompts_of
from finetune_decision.questions import TYPES, position_of, question_of, request_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class DecisionPreprocessor(Preprocessor):
    """A question about a state, in the words of `transformers.decision`, and its right option.

    `type` is `choice` (one of several options), `noul` (yes or no) or `score` (one of several levels, the lowest
    first). The prompt is the one that `pipeline("decision")` makes. It is never truncated, because the pipeline does
    not truncate either.
    """

    max_length: int = 1024
    """Longest prompt, in tokens; a row with a longer one is an error, and can be dropped."""
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Labels of the options per question type, each a single token: `{choice: ["1", "2", "3"]}`. If not given, those of
    transformers: `Yes` and `No` for `noul`, else `A` to `Z`."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.labels) - set(TYPES))
        if unknown:
            raise ValueError(f"labels: {unknown[0]!r} is no question type; the types are {', '.join(TYPES)}")
        if self.max_length < 1:
            raise ValueError(f"max_length={self.max_length} must be at least 1")

    @property
    def config(self) -> DecisionConfig:
        """The settings that do not depend on the tokenizer."""
        return DecisionConfig(labels={kind: list(names) for kind, names in self.labels.items()})

    def needs(self) -> Columns:
        """Return the columns that are read; questions about one state stay together."""
        return Columns(
            required=("state", "type"), optional=("instructions", "criteria"), answers=("answer",), group="state"
        )

    def forms(self) -> Sequence[DataForm]:
        """Return the form of the data; its columns are found by their names only."""
        kinds = ", ".join(f"`{kind}`" for kind in TYPES)
        return (
            DataForm(
                columns={
                    "state": Values(what="what the question is about: a text"),
                    "type": Values(what=f"the type of the question: {kinds} (yes or no)"),
                    "answer": Values(what="the right option, `true` or `false`, or the level of a score from 0"),
                },
                optional={
                    "instructions": Values(what="the question"),
                    "criteria": Values(
                        what="the options of a choice or the levels of a score: a list, or JSON as in a request"
                    ),
                },
            ),
        )

    def strata(self, example: Row) -> Collection[str]:
        """Return the type of the question with the answer."""
        answer = example.get("answer")
        return () if answer is None else (f"{example.get('type')}: {answer}",)

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split."""
        yield from checks.check_rows(examples, self.config)

    def check_with_tokenizer(self, examples: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Iterator[Finding]:
        """Yield labels that are no single tokens of the model, and prompts that are too long."""
        prompts = prompts_of(tokenizer, self.labels)
        yield from checks.check_prompts(examples, prompts, max_length=self.max_length)

    def canonical(self, example: Row) -> Row:
        """Return the state, the question as transformers parses it, and the position of the right option, or None."""
        question, answer = question_of(example, self.config), example.get("answer")
        label = None if answer is None else position_of(answer, question)
        return {"state": example.get("state"), "question": question, "label": label}

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return the tokens of each prompt, the token of each option's label, and the position of the right option.

        ``{"state": ["Fog."], "type": ["noul"], "instructions": ["Is it clear?"], "answer": ["false"]}`` gives
        ``{'input_ids': [[…]], 'option_ids': [[Yes, No]], 'labels': [1]}``.
        """
        prompts = prompts_of(tokenizer, self.labels)
        features: dict[str, list[Any]] = {"input_ids": [], "option_ids": []}
        labels = []
        for values in zip(*examples.values(), strict=True):
            row = dict(zip(examples, values, strict=True))
            known = self.canonical(row)
            features["input_ids"].append(prompts.tokens(row["state"], request_of(row)))
            features["option_ids"].append(prompts.option_ids(known["question"]))
            if row.get("answer") is not None:
                labels.append(_right(known, row))
        if labels:
            features["labels"] = labels
        return features

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return a prompt, and after it the labels of the options, the right one in ``⟦…⟧``."""
        labels = []
        for number, token in enumerate(feature["option_ids"]):
            label = str(tokenizer.decode([token]))
            labels.append(f"⟦{label}⟧" if number == feature.get("labels") else label)
        return f"{tokenizer.decode(feature['input_ids'])}\n→ {' | '.join(labels)}"

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> PadDecisions:
        """Return a collator that pads on the right, whatever side the tokenizer pads for generation."""
        return PadDecisions(pad=PadRight(pad_token_id=tokenizer.pad_token_id or 0))

    def loss(self) -> Callable[..., Any]:
        """Return the cross entropy over the options."""
        return cross_entropy


def _right(known: Row, row: Row) -> int:
    if known["label"] is None:
        raise BadData(f"{row['answer']!r} is no option of the question: {', '.join(known['question'].options)}.")
    return int(known["label"])
