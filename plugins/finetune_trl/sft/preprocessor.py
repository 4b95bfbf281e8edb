"""Supervised fine-tuning: instructions and dialogues → token ids, and which of them the loss sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from finetune.errors import BadData
from finetune.interfaces import IGNORE_INDEX, Batch, Columns, Finding, Preprocessor, Row
from finetune_trl.chat import messages as chat
from finetune_trl.chat import templates
from finetune_trl.chat.converters import CONVERTERS
from finetune_trl.padding import PadSequences, ensure_pad
from finetune_trl.sft import checks as sft_checks
from finetune_trl.sft.checks import COLUMNS, Form
from finetune_trl.sft.faults import refuse_faults
from finetune_trl.sft.labels import Labelled, LossOn, Pair, TurnStatus, label, prompts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

COUNTED = {
    "prompt_not_prefix": TurnStatus.NOT_A_PREFIX,
    "end_of_turn_outside_loss": TurnStatus.END_OUTSIDE_LOSS,
    "double_bos": TurnStatus.DOUBLE_BOS,
    "control_tokens": TurnStatus.CONTROL_TOKENS,
    "padded_with_eos": TurnStatus.PADDED_WITH_EOS,
}
"""What the data report counts rows of."""


@dataclass(frozen=True, kw_only=True)
class SFTPreprocessor(Preprocessor):
    """Instructions with answers, as `messages`, as `prompt` and `completion` (texts or messages), or as `text`.

    What is trained is decided here, and shown by `finetune check`: the trainer gets these ids and labels, and changes
    neither. To predict, give a `prompt`, or `messages` that end with the user.
    """

    max_length: int = 1024
    """Longest row, in tokens; what is beyond is cut from the end, and counted. A prompt to answer is never cut."""
    converter: Literal["alpaca", "sharegpt"] | None = None
    """Whose columns the data has, where they are not ours: `alpaca` (instruction, input, output) or `sharegpt`
    (conversations of from and value)."""
    chat_template: str | None = None
    """How messages become text: None for the tokenizer's own template; `chatml` or `plain`, for a model that has none;
    or the path of a .jinja file. It is saved with the model. No token is added to the vocabulary."""
    loss_on: LossOn | None = None
    """What is trained: `completion` (the completion, or the last turn), `assistant` (every turn of the assistant) or
    `all`. None for `assistant` with messages, `completion` with prompts, and `all` with texts."""
    packing: bool = False
    """Whether training puts several rows into one sequence of at most `max_length` tokens, so that less is padding. No
    row is cut for it, none sees another, and `per_device_train_batch_size` counts sequences. Models that cannot keep
    rows apart are refused."""
    tolerance: float = 0.2
    """Greatest share of training rows whose answer may be cut by `max_length`, be trained without its end, begin with
    two BOS tokens, or follow other tokens than its prompt; beyond it, training is refused."""
    untrained_rows: Literal["error", "keep"] = "error"
    """What to do about training rows of which not one token is trained, since the prompt alone fills `max_length`."""
    form: Form | None = None
    """Which columns hold the examples; always learned."""
    conversational: bool | None = None
    """Whether prompts are messages, and a text given as a prompt becomes one; always learned."""

    def __post_init__(self) -> None:
        if self.max_length < 2:
            raise ValueError("max_length must be at least 2")
        if not 0 <= self.tolerance <= 1:
            raise ValueError("tolerance is a share, from 0 to 1")

    def needs(self) -> Columns:
        """Return the columns of the converter, or of the form of the data; before `fit`, any form will do."""
        if self.converter is not None:
            return CONVERTERS[self.converter].needs
        if self.form is None:
            return Columns(optional=tuple(column for columns in COLUMNS.values() for column in columns))
        if self.form == "prompt-completion":
            return Columns(required=("prompt",), answers=("completion",), group="prompt")
        columns = COLUMNS[self.form]
        return Columns(optional=("prompt",), answers=columns, group=columns[0])

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy that knows the form of the data, and holds its chat template as text."""
        form: Form | None = None
        conversational = None
        for row in map(self._ours, train):
            known = sft_checks.forms(row)
            if known and self._answered(row):
                form = next(form for form in COLUMNS if form in known)
                conversational = form == "messages" or chat.are_messages(row["prompt"]) if form != "text" else False
                break
        return replace(self, form=form, conversational=conversational, chat_template=templates.load(self.chat_template))

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split; rows without any answer are rows to predict."""
        rows = _Converted(examples, self)
        answered = any(self._answered(row) for row in rows)
        yield from sft_checks.check_mixture(rows if answered else (), self.form)
        if self.form is None:
            return
        if self.form == "text" and self.loss_on not in (None, "all"):
            yield Finding(
                code="no-prompt", message=f"loss_on is {self.loss_on!r}, and a text has no prompt to leave out.",
                fix="Set preprocessor.loss_on: all, or give prompt and completion.", level="error",
            )  # fmt: skip
        if self.chat_template is not None and not self.conversational:
            yield Finding(
                code="chat-template-unused", level="warning",
                message="chat_template is set, and the data are texts and no chats, so that it is not used.",
                fix="Leave it out. Or, to make a question and an answer turns of a chat, rename their columns to "
                "instruction and output, and set preprocessor.converter: alpaca.",
            )  # fmt: skip
        seen = sft_checks.Seen()
        for number, row in enumerate(rows):
            seen.add(number, row)
            for finding in self._check_row(row, number, answered=answered):
                yield replace(finding, column=self._place(finding.column))
        yield from seen.findings()

    def _check_row(self, row: Row, number: int, *, answered: bool) -> Iterator[Finding]:
        asked = not answered and row.get("prompt") is not None
        if self.form == "prompt-completion" or asked:
            found = list(sft_checks.check_pair(row, number, answered=answered))
            yield from found
            if not found and self.conversational is False and chat.are_messages(row["prompt"]):
                yield Finding(
                    code="mixed-forms", message="the prompt is messages, and the run was made for text.",
                    fix="Write all rows in one way.", row=number, column="prompt",
                )  # fmt: skip
        elif self.form == "messages":
            yield from chat.check(
                row.get("messages"), row=number, column="messages", part="dialogue" if answered else "prompt"
            )
        else:
            yield from sft_checks.check_text(row.get("text"), number, "text")

    def _place(self, place: str | None) -> str | None:
        """Return where something stands by the names of the data's own columns."""
        if place is None or self.converter is None:
            return place
        if self.converter == "sharegpt":
            return place.replace("messages", "conversations", 1)
        return "output" if place.startswith("completion") else "instruction"

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return ids and, where there are answers, labels and the ids of the prompt alone.

        Beside what the model takes: ``fate``, what became of the row, and ``tokens_lost`` to `max_length`.

        Raises:
            BadData: Some rows have answers and others do not, or the template refuses one.
            BadOptions: The data are messages, and there is no chat template.
        """
        names = list(examples)
        pairs = [self.pair(dict(zip(names, values, strict=True))) for values in zip(*examples.values(), strict=True)]
        if self.conversational:
            templates.ensure(tokenizer, self.chat_template)
        shared = TurnStatus.PADDED_WITH_EOS if ensure_pad(tokenizer) else TurnStatus.FINE
        answered = {pair.completion is not None for pair in pairs}
        if len(answered) > 1:
            raise BadData("some rows have answers and others have none. Give them as two data sets.")
        if True not in answered:
            ids = prompts(pairs, tokenizer)
            return {"input_ids": ids, "fate": [int(shared)] * len(ids), "tokens_lost": [0] * len(ids)}
        rows = label(pairs, tokenizer, loss_on=self._loss_on())
        return {
            "input_ids": [row.ids[: self.max_length] for row in rows],
            "labels": [row.labels[: self.max_length] for row in rows],
            "prompt_ids": [row.prompt for row in rows],
            "fate": [int(row.fate | shared) for row in rows],
            "tokens_lost": [max(len(row.ids) - self.max_length, 0) for row in rows],
        }

    def pair(self, row: Row) -> Pair:
        """Return what a row asks, and what it answers."""
        row = self._ours(row)
        if row.get("messages") is not None:
            messages = chat.messages_of(row["messages"])
            if chat.answered(messages):
                return Pair(prompt=messages[:-1], completion=messages[-1:])
            return Pair(prompt=messages)
        prompt, completion = row.get("prompt"), row.get("completion")
        if prompt is None or (self.form == "text" and row.get("text") is not None):
            return Pair(prompt="", completion=row.get("text"), continues=True)
        if isinstance(prompt, str) and self.conversational:
            prompt = [{"role": chat.USER, "content": prompt}]
            if isinstance(completion, str):
                completion = [{"role": chat.ASSISTANT, "content": completion}]
        if chat.are_messages(prompt):
            answer = None if completion is None else chat.messages_of(completion)
            return Pair(prompt=chat.messages_of(prompt), completion=answer)
        return Pair(prompt=prompt, completion=completion)

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Count trained tokens, rows without any, what was cut, and what is odd about rows."""
        lost = features["tokens_lost"]
        counts = Counter({"truncated": sum(count > 0 for count in lost), "tokens_lost": sum(lost)})
        if "labels" in features:
            trained = [trained_tokens(labels) for labels in features["labels"]]
            counts["trained_tokens"] = sum(trained)
            counts["rows_without_trained_tokens"] = trained.count(0)
        for name, fate in COUNTED.items():
            counts[name] = sum(bool(value & fate) for value in features["fate"])
        return counts

    def validate_counts(self, counts: Mapping[str, int], *, split: str) -> None:
        """Refuse training rows that spoil a model, beyond what `tolerance` and `untrained_rows` allow.

        Raises:
            BadData: With the number of such rows, and what to do.
        """
        if split == "train":
            keep = self.untrained_rows == "keep"
            refuse_faults(counts, split=split, max_length=self.max_length, tolerance=self.tolerance, keep=keep)

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the row as the model reads it, the tokens that are trained in ``⟦…⟧``."""
        ids, labels = feature["input_ids"], feature.get("labels") or [IGNORE_INDEX] * len(feature["input_ids"])
        trained = [place > 0 and wanted != IGNORE_INDEX for place, wanted in enumerate(labels)]
        changes = [place for place in range(1, len(ids)) if trained[place] != trained[place - 1]]
        text = str(tokenizer.decode(ids))
        for number, place in reversed(list(enumerate(changes))):
            # Decoding a part alone would lose the space that SentencePiece keeps at its beginning.
            at = len(str(tokenizer.decode(ids[:place])))
            text = f"{text[:at]}{'⟧' if number % 2 else '⟦'}{text[at:]}"
        return text + ("⟧" if len(changes) % 2 else "")

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Any:
        """Return what pads rows on the right, and prompts to answer on the left."""
        return PadSequences(int(tokenizer.pad_token_id))

    def _loss_on(self) -> LossOn:
        usual: dict[Form | None, LossOn] = {"messages": "assistant", "prompt-completion": "completion"}
        return self.loss_on or usual.get(self.form, "all")

    def _ours(self, row: Row) -> Row:
        """Return a row with our columns."""
        return CONVERTERS[self.converter].convert(row) if self.converter else row

    def _answered(self, row: Row) -> bool:
        """Say whether a row has an answer."""
        if row.get("messages") is not None:
            return chat.answered(row["messages"])
        return row.get("completion") is not None or row.get("text") is not None


class _Converted(Sequence[Row]):
    """Examples with our columns, made as they are asked for."""

    def __init__(self, examples: Sequence[Row], preprocessor: SFTPreprocessor) -> None:
        self._examples, self._preprocessor = examples, preprocessor

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: Any) -> Any:
        return self._preprocessor._ours(self._examples[index])

    def __iter__(self) -> Iterator[Row]:
        return map(self._preprocessor._ours, self._examples)


def trained_tokens(labels: Sequence[int]) -> int:
    """Return how many tokens the loss sees; the first is never predicted.

    >>> trained_tokens([1, -100, 5, 2])
    2
    """
    return sum(label != IGNORE_INDEX for label in labels[1:])


__all__ = ["Labelled", "SFTPreprocessor", "trained_tokens"]
