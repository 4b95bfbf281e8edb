"""A decoder writes the answer of a chat, piece by piece."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from finetune.kit import generation_options
from finetune_serve.chat import Chat
from finetune_serve.refusals import Refused

if TYPE_CHECKING:
    from finetune.api import FineTuned

INCOMPLETE = "\ufffd"
"""What a tokenizer decodes the first bytes of a character to."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """An answer."""

    text: str
    reason: str
    """Why it ends: ``stop``, or ``length`` at the limit."""
    prompt_tokens: int
    completion_tokens: int

    @property
    def usage(self) -> dict[str, int]:
        """The numbers of tokens, as OpenAI names them."""
        both = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens, "total_tokens": both
        }  # fmt: skip


def can_chat(model: FineTuned) -> bool:
    """Return whether a model is a decoder with a chat template, of a task without an API of its own."""
    if model.plan.task.apis:
        return False
    return model.plan.task.model_class == "AutoModelForCausalLM" and bool(model.tokenizer.chat_template)


@dataclass(eq=False)
class Text:
    """Turns tokens into pieces of text, none of which is taken back.

    Space at either end of an answer is left out. What may become a stop text, a space at the end or the rest of a
    character is held back until more is known.

    Args:
        decode: Returns the text of tokens.
        stop: Texts before which the answer ends.
    """

    decode: Callable[[list[int]], str]
    stop: Sequence[str] = ()
    ids: list[int] = field(default_factory=list)
    sent: str = ""
    is_stopped: bool = False

    def add(self, ids: Sequence[int]) -> str:
        """Take tokens, and return the text that can be sent."""
        if self.is_stopped:
            return ""
        self.ids += ids
        text = self.decode(self.ids).lstrip()
        found = [place for place in (text.find(stop) for stop in self.stop) if place >= 0]
        if found:
            self.is_stopped = True
            return self._send(text[: min(found)].rstrip())
        return self._send(text[: len(text) - self._held(text)].rstrip())

    def end(self) -> str:
        """Return the text that was held back."""
        return "" if self.is_stopped else self._send(self.decode(self.ids).strip())

    def _send(self, text: str) -> str:
        if len(text) <= len(self.sent):
            return ""
        piece, self.sent = text[len(self.sent) :], text
        return piece

    def _held(self, text: str) -> int:
        """Return how many characters at the end of a text must wait."""
        held = len(text) - len(text.rstrip(INCOMPLETE))
        for stop in self.stop:
            for size in range(1, len(stop)):
                if text.endswith(stop[:size]):
                    held = max(held, size)
        return held


class _Pieces(BaseStreamer):
    """Gets the tokens from ``generate``; the first call has the prompt."""

    def __init__(self, text: Text, emit: Callable[[str], None]) -> None:
        self._text, self._emit = text, emit
        self._has_prompt = False

    def put(self, value: Any) -> None:
        if not self._has_prompt:
            self._has_prompt = True
        elif piece := self._text.add(value.reshape(-1).tolist()):
            self._emit(piece)

    def end(self) -> None:
        """Do nothing: what is left is sent when it is known why the answer ends."""


class _Stop(StoppingCriteria):
    def __init__(self, text: Text, cancelled: threading.Event) -> None:
        self._text, self._cancelled = text, cancelled

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        ends = self._text.is_stopped or self._cancelled.is_set()
        return torch.full((input_ids.shape[0],), ends, device=input_ids.device, dtype=torch.bool)


class Writer:
    """Writes answers with the model of a run; use it in one thread only.

    Args:
        model: A decoder with a chat template.
    """

    def __init__(self, model: FineTuned) -> None:
        self._model = model.model
        self._tokenizer = model.tokenizer
        self._given = dict(model.plan.recipe.generation)
        options: Mapping[str, Any] = model.result.preprocessor.get("options", {})
        self._template_options = dict(options.get("chat_template_kwargs") or {})

    def write(self, chat: Chat, emit: Callable[[str], None], cancelled: threading.Event) -> Written:
        """Write the answer to a chat.

        Args:
            chat: The chat.
            emit: Called with each piece of the answer.
            cancelled: Ends the answer when it is set.

        Raises:
            Refused: The template refuses the messages, or they leave no room for an answer.
        """
        prompt = self._prompt(chat)
        wanted = generation_options(self._model, self._tokenizer, {**self._given, **chat.options})
        most = self._room(len(prompt), wanted["max_new_tokens"])
        wanted = {name: value for name, value in {**wanted, "max_new_tokens": most}.items() if value is not None}
        text = Text(self._decode, chat.stop)
        inputs = torch.tensor([prompt], device=self._model.device)
        torch.manual_seed(secrets.randbits(63) if chat.seed is None else chat.seed)
        self._model.eval()
        with torch.no_grad():
            written = self._model.generate(
                input_ids=inputs,
                attention_mask=torch.ones_like(inputs),
                generation_config=GenerationConfig(**wanted),  # type: ignore[no-untyped-call]
                # beams are not written from left to right
                streamer=_Pieces(text, emit) if wanted.get("num_beams", 1) == 1 else None,
                stopping_criteria=StoppingCriteriaList([_Stop(text, cancelled)]),
            )
        ids = written[0, len(prompt) :].tolist()
        ends = wanted.get("eos_token_id") or []
        is_whole = text.is_stopped or (bool(ids) and ids[-1] in ends)
        if wanted.get("num_beams", 1) > 1 and (piece := text.add(ids)):
            emit(piece)
        if piece := text.end():
            emit(piece)
        return Written(
            text=text.sent,
            reason="stop" if is_whole or text.is_stopped else "length",
            prompt_tokens=len(prompt),
            completion_tokens=len(ids),
        )

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _prompt(self, chat: Chat) -> list[int]:
        try:
            made = self._tokenizer.apply_chat_template(
                chat.messages, add_generation_prompt=True, tokenize=True, return_dict=True, **self._template_options
            )
        except Exception as error:  # a template is code of the model's author, and raises what it likes
            raise Refused(
                "bad-parameter", f"the chat template of the model refuses the messages: {error}.", "Correct them."
            ) from error
        ids: list[int] = made["input_ids"]
        return ids

    def _room(self, prompt: int, wanted: int) -> int:
        """Return how many tokens the answer can have."""
        positions: int | None = getattr(self._model.config, "max_position_embeddings", None)
        if positions is None:
            return wanted
        if prompt >= positions:
            raise Refused(
                "prompt-too-long",
                f"the messages have {prompt:,} tokens, and the model reads {positions:,} with its answer.",
                "Leave out the first messages.",
            )
        return min(wanted, positions - prompt)
