"""Prompts alone, and what earns a reward: what reinforcement learning starts from.

A reward may be learned first, by a recipe of its own, whose output folder the next one names::

    task: reward                               task: rloo
    model: HuggingFaceTB/SmolLM2-135M          model: runs/sft
    dataset: pairs.csv                         dataset: prompts.csv
    strategy: lora                             strategy: lora
    output: runs/judge                         preprocessor: {reward: runs/judge}
                                               output: runs/polite

Proximal policy optimization is left out: TRL 1.16 keeps it among its experiments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from finetune.errors import BadOptions
from finetune.interfaces import Batch, Columns, Finding, Preprocessor, Row
from finetune_trl.chat import messages as chat
from finetune_trl.chat import templates
from finetune_trl.chat.messages import USER
from finetune_trl.chat.rows import has_messages, rows_of
from finetune_trl.chat.tokens import asked_ids
from finetune_trl.padding import ensure_pad
from finetune_trl.preference.checks import check_form
from finetune_trl.preference.pairs import CONVERSATIONS, PROMPT, Converter, as_turn, turns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GIVEN = "given"
"""Feature column: the values of a row's `reward_columns`."""


@dataclass(frozen=True, kw_only=True)
class RLPreprocessor(Preprocessor):
    """Prompts, as text or as messages, whose answers the model writes itself, and a reward tells good from bad."""

    reward: str | tuple[str, ...] = ()
    """What rewards an answer, and must be given: a Python function, `my_rewards:brevity`, that takes prompts,
    completions and `**columns` and returns a number for each completion; or the output folder of a finished run of the
    task `reward`. Of several, the sum counts, weighted by training.reward_weights."""
    reward_columns: tuple[str, ...] = ()
    """Further columns of the data that reward functions are given, such as a solution to compare with."""
    allow_constant: bool = False
    """Whether to train although no reward differs between the answers that the base model writes to one prompt."""
    chat_template: str | None = None
    """How messages are written: `chatml`, `plain`, a `.jinja` file or a template; None for the tokenizer's own."""
    converter: Converter | None = None
    """`sharegpt` where messages are written `{from: human, value: …}`; the prompt may then be `conversations`."""
    conversational: bool | None = None
    """Whether the prompts are turns of a chat. True makes turns of text, for a model that was trained on chats; None
    for what the data are."""

    @property
    def rewards(self) -> tuple[str, ...]:
        """The names of all rewards."""
        given = (self.reward,) if isinstance(self.reward, str) else self.reward
        return tuple(name for name in given if name)

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(optional=(PROMPT, CONVERSATIONS), answers=self.reward_columns, group=PROMPT)

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy that knows whether the data are chats, and holds its chat template as text.

        Raises:
            BadOptions: There is no reward.
        """
        if not self.rewards:
            raise BadOptions(
                "preprocessor: reward is missing. Name a Python function as module:function, or the output folder of a "
                "finished run of the task 'reward'."
            )
        chats = has_messages(train, (PROMPT, CONVERSATIONS)) if self.conversational is None else self.conversational
        return replace(self, chat_template=templates.load(self.chat_template), conversational=chats)

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with the prompts of one split."""
        seen: Counter[str] = Counter()
        first = None
        for position, row in enumerate(examples):
            prompt = self._prompt(row, conversational=False)
            found = list(check_form(prompt, row=position, column=PROMPT, part="prompt", empty="prompt-missing"))
            yield from found
            if not found:
                seen[repr(prompt)] += 1
                first = position if first is None and seen[repr(prompt)] > 1 else first
        repeats = sum(seen.values()) - len(seen)
        if repeats:
            yield Finding(
                code="duplicate-rows", message=f"{repeats:,} rows repeat an earlier prompt.", level="warning",
                fix="Remove them, or know that they count more than once.", column=PROMPT, row=first,
            )  # fmt: skip

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return the prompts, their ids and, where rewards need more, the columns that they are given.

        ``{"prompt": ["Who?"], "solution": ["Inès"]}`` gives
        ``{'prompt': ['Who?'], 'input_ids': [[1, 90, 4]], 'given': [{'solution': 'Inès'}]}``.
        """
        rows = rows_of(examples)
        prompts = [self._prompt(row, conversational=bool(self.conversational)) for row in rows]
        ensure_pad(tokenizer)
        if any(map(chat.are_messages, prompts)):
            templates.ensure(tokenizer, self.chat_template)
        made = {PROMPT: prompts, "input_ids": asked_ids(prompts, tokenizer)}
        if not self.reward_columns or any(name not in examples for name in self.reward_columns):
            return made
        return {**made, GIVEN: [{name: row[name] for name in self.reward_columns} for row in rows]}

    def _prompt(self, row: Row, *, conversational: bool) -> Any:
        prompt = turns(row.get(PROMPT), self.converter)
        if prompt is None:
            prompt = turns(row.get(CONVERSATIONS), self.converter)
        return as_turn(prompt, USER) if conversational else prompt
