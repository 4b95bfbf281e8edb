"""Prompts alone, and the rewards of their answers, for reinforcement learning.

A reward may be learned first, by its own recipe, whose output folder the second recipe names::

    task: reward                               task: rloo
    model: HuggingFaceTB/SmolLM2-135M          model: runs/sft
    dataset: pairs.csv                         dataset: prompts.csv
    strategy: lora                             strategy: lora
    output: runs/reward                        preprocessor: {reward: runs/reward}
                                               output: runs/polite

Proximal policy optimization is left out: TRL 1.16 keeps it among its experiments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from finetune.errors import BadOptions
from finetune.interfaces import Batch, Columns, DataForm, Finding, Preprocessor, Row, Values
from finetune.kit import DuplicateCounter
from finetune_trl.chat import templates
from finetune_trl.chat.columns import check_unread
from finetune_trl.chat.converters import MessageFormat, read_prompt, text_to_turn
from finetune_trl.chat.messages import (
    MESSAGE_KEYS,
    SHAREGPT_KEYS,
    USER,
    are_messages,
    check_text_or_messages,
    turn_places,
)
from finetune_trl.chat.rows import CONVERSATIONS, PROMPT, has_messages, rows_of
from finetune_trl.chat.template_checks import Dialogue, TemplateChecker
from finetune_trl.chat.tokens import encode_prompts, ensure_pad_token
from finetune_trl.reinforcement.functions import find_columns, is_function

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

GIVEN = "given"
"""Feature column: the values of a row's `reward_columns`."""


@dataclass(frozen=True, kw_only=True)
class RLPreprocessor(Preprocessor):
    """Prompts, as text or as messages. The model writes the answers itself, and rewards score them."""

    reward: str | tuple[str, ...] = ()
    """The reward of an answer; required. A Python function, `my_rewards:brevity`, that takes prompts, completions and
    `**columns` and returns a number for each completion; or the output folder of a finished run of the task `reward`.
    Several rewards are added, weighted by training.reward_weights."""
    reward_columns: tuple[str, ...] = ()
    """Columns of the data to pass to reward functions, such as a solution to compare with. Those that are parameters of
    a function need not be listed."""
    allow_constant: bool = False
    """Whether to train even if the answers that the base model writes to one prompt all have the same reward."""
    chat_template: str | None = None
    """How messages become text: `chatml`, `plain`, a `.jinja` file or a template; None for the tokenizer's own."""
    converter: MessageFormat | None = None
    """`sharegpt` if messages are written `{from: human, value: …}`; the prompt may then be `conversations`."""
    conversational: bool | None = None
    """Whether the prompts are turns of a chat. True makes turns of text, for a model that was trained on chats; None
    decides by the training data."""

    @property
    def rewards(self) -> tuple[str, ...]:
        """The names of all rewards."""
        names = (self.reward,) if isinstance(self.reward, str) else self.reward
        return tuple(filter(None, names))

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(
            optional=(PROMPT, CONVERSATIONS, *self.reward_columns), answers=self.reward_columns, group=PROMPT
        )

    def forms(self) -> Sequence[DataForm]:
        """Return the form of the data: a prompt."""
        prompt = Values(what="the question: a text, or messages", names=("question", "query", "instruction"))
        return (DataForm(columns={PROMPT: prompt}, weight=0.7),)

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy that knows the columns of its rewards and whether the data are chats, with its chat template.

        Raises:
            BadOptions: There is no reward, it is no function, or the data lacks a column that it needs.
        """
        if not self.rewards:
            raise BadOptions(
                "preprocessor: reward is missing. Name a Python function as module:function, or the output folder of a "
                "finished run of the task 'reward'."
            )
        chats = has_messages(train, (PROMPT, CONVERSATIONS)) if self.conversational is None else self.conversational
        columns = dict.fromkeys(self.reward_columns)
        if len(train):
            functions = [name for name in self.rewards if is_function(name)]
            columns |= dict.fromkeys(find_columns(functions, set(train[0])))
        return replace(
            self,
            chat_template=templates.load_template(self.chat_template),
            conversational=chats,
            reward_columns=tuple(columns),
        )

    def for_model(self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Return a copy for chats if its tokenizer has a template."""
        chats = self.conversational
        if chats is None:
            chats = bool(self.chat_template or tokenizer.chat_template)
        return replace(self, conversational=chats)

    def learn_form(self, examples: Sequence[Row]) -> Self:
        """Return a copy that knows the columns of its rewards."""
        return self.fit(examples)

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with the prompts of one split."""
        yield from check_unread(examples, self.needs())
        repeated = DuplicateCounter()
        for position, row in enumerate(examples):
            prompt = read_prompt(row, self.converter)
            findings = list(check_text_or_messages(prompt, row=position, column=PROMPT, part="prompt", name="prompt"))
            yield from findings
            if not findings:
                repeated.add(position, prompt)
        yield from repeated.repeat_warning("rows repeat an earlier prompt.", column=PROMPT)

    def check_with_tokenizer(self, examples: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Iterator[Finding]:
        """Yield which messages the chat template refuses, and what it does not write or read of them."""
        if not self.conversational:
            return
        templates.set_template(tokenizer, self.chat_template)
        checker = TemplateChecker(tokenizer)
        keys = SHAREGPT_KEYS if self.converter == "sharegpt" else MESSAGE_KEYS
        for number, row in enumerate(examples):
            column = PROMPT if row.get(PROMPT) is not None else CONVERSATIONS
            places = turn_places(row.get(column), column, keys=keys)
            prompt = self._read(row)
            dialogue = Dialogue(messages=prompt, places=places, column=column, prompt=len(prompt))
            yield from checker.check([dialogue], row=number, inputs=templates.NO_INPUTS)
        yield from checker.findings()

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return the prompts, their ids and, if rewards need columns, their values.

        ``{"prompt": ["Who?"], "solution": ["Inès"]}`` gives
        ``{'prompt': ['Who?'], 'input_ids': [[1, 90, 4]], 'given': [{'solution': 'Inès'}]}``.
        """
        rows = rows_of(examples)
        prompts = list(map(self._read, rows))
        ensure_pad_token(tokenizer)
        if any(map(are_messages, prompts)):
            templates.set_template(tokenizer, self.chat_template)
        features = {PROMPT: prompts, "input_ids": encode_prompts(prompts, tokenizer)}
        if self.reward_columns and set(self.reward_columns) <= set(examples):
            features[GIVEN] = [{name: row[name] for name in self.reward_columns} for row in rows]
        return features

    def trainer_options(self) -> Mapping[str, Any]:
        """Return what the trainers of `rloo` and `grpo` read; see `finetune_trl.reinforcement.trainer.build`."""
        return {
            "conversational": bool(self.conversational),
            "rewards": self.rewards,
            "reward_columns": self.reward_columns,
            "allow_constant": self.allow_constant,
        }

    def _read(self, row: Row) -> Any:
        prompt = read_prompt(row, self.converter)
        return text_to_turn(prompt, USER) if self.conversational else prompt
