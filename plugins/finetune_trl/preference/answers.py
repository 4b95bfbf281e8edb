"""The options that all preprocessors of answers to learn preferences from have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from finetune.errors import BadData
from finetune.interfaces import Finding, Preprocessor, Row
from finetune.kit import within_context
from finetune_trl.chat.converters import MessageFormat
from finetune_trl.chat.rows import PromptCompletion
from finetune_trl.chat.template_checks import TemplateChecker
from finetune_trl.chat.templates import TemplateInputs, set_template
from finetune_trl.preference.pairs import PreferencePair, dialogues_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

MAX_SPOILED = 0.2
"""Share of training rows with the same issue from which training is refused."""


@dataclass(frozen=True, kw_only=True)
class AnswersPreprocessor(Preprocessor):
    """A prompt with one or two answers, as text or as messages."""

    max_length: int = 1024
    """Longest prompt with answer, in tokens; the rest is cut from the end and counted."""
    chat_template: str | None = None
    """How messages become text: `chatml`, `plain`, a `.jinja` file or a template; None for the tokenizer's own."""
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the chat template, such as `enable_thinking: false` of Qwen 3."""
    converter: MessageFormat | None = None
    """`sharegpt` if messages are written `{from: human, value: …}`; the prompt may then be `conversations`."""
    conversational: bool | None = None
    """Whether the answers are turns of a chat. True makes turns of text, for a model that was trained on chats; None
    decides by the training data."""

    def for_model(self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Return a copy with the length that a trained model takes, for chats if its tokenizer has a template."""
        chats = self.conversational
        if chats is None:
            chats = bool(self.chat_template or tokenizer.chat_template)
        return replace(within_context(self, config), conversational=chats)

    def learn_form(self, examples: Sequence[Row]) -> Self:
        """Return a copy that knows whether the rows are chats, and which labels they have."""
        return self.fit(examples)

    @abstractmethod
    def reader(self, rows: Sequence[Row]) -> Callable[[Row], PreferencePair | PromptCompletion]:
        """Return the function that reads the rows of a split: with their answers, or as they are to be predicted."""

    def template_inputs(self, item: PreferencePair | PromptCompletion) -> TemplateInputs:
        """Return what the chat template gets besides the messages of a row."""
        return TemplateInputs(tools=item.tools, options=self.chat_template_kwargs)

    def check_with_tokenizer(self, examples: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Iterator[Finding]:
        """Yield which messages the chat template refuses, and what it does not write or read of them."""
        if not self.conversational:
            return
        set_template(tokenizer, self.chat_template)
        checker, read = TemplateChecker(tokenizer), self.reader(examples)
        for number, row in enumerate(examples):
            item = read(row)
            dialogues = dialogues_of(item, row, self.converter)
            yield from checker.check(dialogues, row=number, inputs=self.template_inputs(item))
        yield from checker.findings()

    def trainer_options(self) -> Mapping[str, Any]:
        """Return ``conversational``: whether prompts are turns of a chat, whose end ends a generated answer."""
        return {"conversational": bool(self.conversational)}

    def validate_counts(self, counts: Mapping[str, int], *, split: str) -> None:
        """Refuse training rows of which a fifth or more cannot be learned from as they should be.

        Raises:
            BadData: With their number, and what to do.
        """
        if split != "train":
            return
        for name, problem in self.problems().items():
            if counts.get(name, 0) >= max(MAX_SPOILED * counts["features"], 1):
                raise BadData(f"train: {counts[name]:,} of {counts['features']:,} {problem}")

    def problems(self) -> dict[str, str]:
        """Return what a great count means: its name → how the message goes on after the number of rows."""
        remedy = f"max_length ({self.max_length}). Raise preprocessor.max_length, or leave them out."
        return {
            "answers_lost": f"answers are cut away by {remedy}",
            "identical_after_truncation": f"pairs have the same chosen and rejected tokens once cut to {remedy}",
        }
