"""Questions → the tokens of their prompts, and the tokens of their options' labels, by the code of transformers.

`pipeline("decision")` and `transformers serve` call the same functions, so a model is trained on exactly what they
give it. Source: transformers 5.23, `transformers/decision/template_utils.py`, `prepare_inputs` and `label_token_ids`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from transformers.decision import DECISION_PROMPT, DecisionConfig, Question, label_token_ids

from finetune_decision.questions import NAME

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Labels = Mapping[str, Sequence[str]]


def config_of(tokenizer: PreTrainedTokenizerBase, labels: Labels) -> DecisionConfig:
    """Return the settings of a model, without temperatures.

    The prompt is the user's message in the chat template of the tokenizer. A base model has no chat template; its
    prompt is the text of the message alone, after the token with which its texts begin. transformers would refuse such
    a model without a template of its own.

    Args:
        tokenizer: The tokenizer of the model.
        labels: Labels of the options per question type; those of transformers for the others.
    """
    settings: dict[str, Any] = {"labels": {kind: list(names) for kind, names in labels.items()}}
    if tokenizer.chat_template is None:
        begin = "{{ bos_token }}" if _begins_with_bos(tokenizer) else ""
        settings["chat_template"] = begin + DECISION_PROMPT + '{{ "\\n" }}'
    return DecisionConfig(**settings)


def _begins_with_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id


@dataclass(eq=False)
class Prompts:
    """Makes the prompts of one tokenizer.

    Args:
        tokenizer: It is copied, because transformers adds two tokens to it that never reach the model.
        labels: See `config_of`.
    """

    tokenizer: PreTrainedTokenizerBase
    labels: Labels
    config: DecisionConfig = field(init=False)
    _ids: dict[tuple[str, ...], list[int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.config = config_of(self.tokenizer, self.labels)
        self.tokenizer = copy.deepcopy(self.tokenizer)

    def tokens(self, state: Any, question: Mapping[str, Any]) -> list[int]:
        """Return the tokens of a prompt up to the place where the pipeline reads the answer.

        Args:
            state: What the question is about.
            question: The question as a request holds it.

        Raises:
            ValueError: transformers refuses the question.
        """
        request = {"state": state, "questions": {NAME: question}}
        ((inputs, _),) = self.config.prepare_inputs(request, self.tokenizer)
        if "get_vocab" not in vars(self.tokenizer):
            # transformers looks for its two tokens in the whole vocabulary, which takes nine tenths of the time of a
            # prompt with 49,152 tokens; now that it has added them, a copy of the vocabulary says the same
            vocabulary = self.tokenizer.get_vocab()
            vars(self.tokenizer)["get_vocab"] = lambda: vocabulary
        tokens: list[int] = inputs["input_ids"][0, : int(inputs["marks"][0])].tolist()
        return tokens

    def option_ids(self, question: Question) -> list[int]:
        """Return the token of each option's label.

        Raises:
            ValueError: The labels are no single tokens, or not distinct.
        """
        labels = tuple(question.labels)
        if labels not in self._ids:
            self._ids[labels] = label_token_ids(self.tokenizer, labels)
        return self._ids[labels]

    def bad_labels(self, question: Question) -> tuple[list[str], list[str]]:
        """Return the labels of a question that are no single token, and those that share a token with another."""
        unknown = self.tokenizer.unk_token_id
        seen: dict[int, str] = {}
        split: list[str] = []
        same: list[str] = []
        for label in question.labels:
            ids = self.tokenizer([label], add_special_tokens=False)["input_ids"][0]
            if len(ids) != 1 or ids[0] == unknown:
                split.append(label)
            elif ids[0] in seen:
                same += [seen[ids[0]], label]
            else:
                seen[ids[0]] = label
        return split, list(dict.fromkeys(same))


@lru_cache(maxsize=4)
def _prompts(tokenizer: PreTrainedTokenizerBase, template: str | None, labels: Any) -> Prompts:
    return Prompts(tokenizer, dict(labels))


def prompts_of(tokenizer: PreTrainedTokenizerBase, labels: Labels) -> Prompts:
    """Return what makes the prompts of a tokenizer; it is made once."""
    frozen = tuple((kind, tuple(names)) for kind, names in sorted(labels.items()))
    return _prompts(tokenizer, str(tokenizer.chat_template), frozen)
