"""The options that all preprocessors of answers to learn preferences from have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune.interfaces import Preprocessor
from finetune_trl.chat.converters import MessageFormat


@dataclass(frozen=True, kw_only=True)
class AnswersPreprocessor(Preprocessor):
    """A prompt with one or two answers, as text or as messages."""

    max_length: int = 1024
    """Longest prompt with answer, in tokens; the rest is cut from the end and counted."""
    chat_template: str | None = None
    """How messages become text: `chatml`, `plain`, a `.jinja` file or a template; None for the tokenizer's own."""
    converter: MessageFormat | None = None
    """`sharegpt` if messages are written `{from: human, value: …}`; the prompt may then be `conversations`."""
    conversational: bool | None = None
    """Whether the answers are turns of a chat. True makes turns of text, for a model that was trained on chats; None
    decides by the training data."""

    def trainer_options(self) -> Mapping[str, Any]:
        """Return ``conversational``: whether prompts are turns of a chat, whose end ends a generated answer."""
        return {"conversational": bool(self.conversational)}
