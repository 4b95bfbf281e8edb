"""Features of chats: a template, and labels for the turns of the assistant only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ 'Assistant:' }}"
    "{% generation %}{{ ' ' + message['content'] }}{{ eos_token }}{% endgeneration %}{{ '\\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n' }}"
    "{% else %}{{ message['content'] + '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""Roles are written as names and colons, and a turn of the assistant ends with the end of a text, so that the template
needs no token that the base model does not know."""

Chat = Sequence[Mapping[str, str]]


def features(chats: Sequence[Chat], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """Return the token ids of chats, and as labels those of the assistant's turns; all others are -100."""
    made: Any = tokenizer.apply_chat_template(
        [[dict(message) for message in chat] for chat in chats], return_dict=True, return_assistant_tokens_mask=True
    )
    return [
        {"input_ids": ids, "labels": [token if said else -100 for token, said in zip(ids, mask, strict=True)]}
        for ids, mask in zip(made["input_ids"], made["assistant_masks"], strict=True)
    ]
