"""Find the turns of the assistant in a rendered dialogue, for any chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from finetune.errors import BadData
from finetune_trl.chat import templates
from finetune_trl.chat.messages import ASSISTANT, USER, Message
from finetune_trl.chat.templates import NO_INPUTS, Rendered, TemplateInputs
from finetune_trl.chat.tokens import common_prefix

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One turn of the assistant in a rendered dialogue."""

    message: int
    """Its position in the dialogue."""
    spans: tuple[tuple[int, int], ...]
    """Its characters, half-open, from the end of the generation prompt to the token that ends the turn."""
    follows_prompt: bool = True
    """Whether the characters before it are those that prediction gives the model."""
    is_rewritten: bool = False
    """Whether the template writes it in another way where it is the last turn, as Qwen 3 does with ``<think>``."""


class TurnFinder:
    """Finds the turns of the assistant in rendered dialogues, with one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def _ends(self) -> tuple[str, ...]:
        return templates.ends_of_turn(self._tokenizer)

    @cached_property
    def _header(self) -> str:
        """The text that opens an answer, such as ``<|im_start|>assistant``."""
        asked: list[Message] = [{"role": USER, "content": "Fog"}]
        without = templates.render(self._tokenizer, asked)
        opened = templates.render(self._tokenizer, asked, add_generation_prompt=True)
        return opened[common_prefix(opened, without) :]

    def find(self, dialogue: Sequence[Message], rendered: Rendered, inputs: TemplateInputs = NO_INPUTS) -> list[Answer]:
        """Return the turns of the assistant in the text of a dialogue.

        If the template marks what the assistant writes, its marks are used. Otherwise two more texts are rendered for
        each turn: the dialogue before it with the words that open an answer, and the dialogue up to the end of the
        turn. If the whole text does not begin with them, because the template writes earlier turns in another way than
        the last, the turn is found by its content.

        Raises:
            BadData: The template refuses a part of the dialogue.
        """
        search = _Search(self._tokenizer, dialogue, rendered.text, inputs)
        turns = [number for number, message in enumerate(dialogue) if message["role"] == ASSISTANT]
        if rendered.spans is not None:
            return _assign(rendered.spans, turns, search)
        answers: list[Answer] = []
        floor = 0
        for turn in turns:
            answer = self._find_one(turn, search, floor=floor)
            if answer.spans:
                floor = answer.spans[-1][1]
            answers.append(answer)
        return answers

    def _find_one(self, turn: int, search: _Search, *, floor: int) -> Answer:
        text = search.text
        before = search.render(turn, add_generation_prompt=True)
        up_to = text if turn + 1 == len(search.dialogue) else search.render(turn + 1)
        follows_prompt = text.startswith(before)
        start = len(before) if follows_prompt else self._start_by_header(turn, search, floor=floor)
        if start is None:
            return Answer(message=turn, spans=(), follows_prompt=False)
        if text.startswith(up_to):
            return Answer(
                message=turn, spans=((start, self._stop(text, start, len(up_to))),), follows_prompt=follows_prompt
            )
        bound = search.start_of_next(turn)
        stop = self._stop(text, start, bound)
        if stop == bound:  # no token ends the turn, so the header of the next message must not be taken with it
            content = search.content(turn)
            stop = content[1] if content else bound
        as_last = up_to[len(before) : self._stop(up_to, len(before), len(up_to))] if up_to.startswith(before) else None
        return Answer(
            message=turn,
            spans=((start, stop),) if start < stop else (),
            follows_prompt=follows_prompt,
            is_rewritten=as_last != text[start:stop],
        )

    def _start_by_header(self, turn: int, search: _Search, *, floor: int) -> int | None:
        """Return where a turn begins: after the words that open an answer, or else with its content."""
        content = search.content(turn)
        if content is None:
            return None
        header = search.text.rfind(self._header, floor, content[0]) if self._header else -1
        return content[0] if header < 0 else header + len(self._header)

    def _stop(self, text: str, start: int, bound: int) -> int:
        """Return the end of the last token in a part of a text that ends a turn; the end of the part if there is none.

        A token that a message holds as text is marked, and does not count.
        """
        last = -1
        for token in self._ends:
            place = templates.rfind_unmarked(text, token, start, bound)
            if place >= 0:
                last = max(last, place + len(token))
        return bound if last < 0 else last


class _Search:
    """The places of messages in one rendered dialogue."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        dialogue: Sequence[Message],
        text: str,
        inputs: TemplateInputs,
    ) -> None:
        self.dialogue, self.text = dialogue, text
        self._tokenizer, self._inputs = tokenizer, inputs
        self._contents: dict[int, tuple[int, int] | None] = {}

    def render(self, length: int, *, add_generation_prompt: bool = False) -> str:
        """Return the text of the first messages."""
        first = self.dialogue[:length]
        return templates.render(
            self._tokenizer, first, inputs=self._inputs, add_generation_prompt=add_generation_prompt
        )

    def content(self, message: int) -> tuple[int, int] | None:
        """Return the characters of a message's content, or of its tool calls; None if the template leaves it out.

        The dialogue is rendered once more with another content. The characters that change are the content.
        """
        if message not in self._contents:
            self._contents[message] = self._locate(message)
        return self._contents[message]

    def start_of_next(self, message: int) -> int:
        """Return where the content of the next message begins that the template writes; the end if there is none."""
        for later in range(message + 1, len(self.dialogue)):
            content = self.content(later)
            if content is not None:
                return content[0]
        return len(self.text)

    def _locate(self, message: int) -> tuple[int, int] | None:
        try:
            changed = templates.render_probed(self._tokenizer, self.dialogue, message, inputs=self._inputs)
        except BadData:  # the template looks into the content, such as a number that it calculates with
            return None
        if templates.PROBE not in changed:
            return None
        start = common_prefix(self.text, changed)
        most = min(len(self.text), len(changed)) - start
        tail = common_prefix(self.text[::-1][:most], changed[::-1][:most])
        return start, len(self.text) - tail


def _assign(spans: Sequence[tuple[int, int]], turns: Sequence[int], search: _Search) -> list[Answer]:
    """Return each turn with the marked characters that belong to it: those after its content begins."""
    if len(turns) == 1:
        return [Answer(message=turns[0], spans=tuple(spans))]
    owned: dict[int, list[tuple[int, int]]] = {turn: [] for turn in turns}
    for span in spans:
        owner = turns[0]
        for turn in turns:
            content = search.content(turn)
            if content is not None and content[0] < span[1]:
                owner = turn
        owned[owner].append(span)
    return [Answer(message=turn, spans=tuple(spans)) for turn, spans in owned.items()]
