"""Supervised fine-tuning: instructions and dialogues → token ids, and the tokens that the loss sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from finetune.errors import BadData, BadOptions
from finetune.interfaces import IGNORE_INDEX, LEARNED, Batch, Columns, DataForm, Finding, Preprocessor, Row, Values
from finetune.kit import check_text, within_context
from finetune_trl.chat import templates
from finetune_trl.chat.columns import check_unread
from finetune_trl.chat.converters import CONVERTERS, text_to_turn
from finetune_trl.chat.messages import (
    ASSISTANT,
    ROLES,
    USER,
    WEIGHT_KEYS,
    TurnPlace,
    are_messages,
    check_messages,
    check_tools,
    ends_with_answer,
    last_trained,
    plain_messages,
    plain_tools,
    turn_places,
)
from finetune_trl.chat.rows import TOOLS, PromptCompletion, rows_of
from finetune_trl.chat.template_checks import Dialogue, TemplateChecker
from finetune_trl.chat.tokens import encode_prompts, ensure_pad_token
from finetune_trl.row_limits import WHOLE
from finetune_trl.sft.checks import (
    COLUMNS,
    Form,
    SplitWarnings,
    check_form,
    check_prompt_completion,
    forms,
    no_form,
    refuse_spoiled_rows,
)
from finetune_trl.sft.collate import PadLabelled
from finetune_trl.sft.labels import LossOn, RowIssue, explain_other_prompt, label

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

COUNTED_ISSUES = {
    "prompt_not_prefix": RowIssue.NOT_A_PREFIX,
    "end_of_turn_outside_loss": RowIssue.END_OUTSIDE_LOSS,
    "double_bos": RowIssue.DOUBLE_BOS,
    "control_tokens": RowIssue.CONTROL_TOKENS,
    "padded_with_eos": RowIssue.PADDED_WITH_EOS,
    "rewritten_turns": RowIssue.REWRITTEN,
}
"""Name in the data report → the issue whose rows it counts."""


@dataclass(frozen=True, kw_only=True)
class SFTPreprocessor(Preprocessor):
    """Instructions with answers, as `messages`, as `prompt` and `completion` (texts or messages), or as `text`.

    This class decides which tokens are trained, and `finetune check` shows them. The trainer gets these ids and labels
    and changes neither. To predict, give a `prompt`, or `messages` that end with the user.
    """

    max_length: int = 1024
    """Longest row, in tokens; the rest is cut from the end, and counted. A prompt to answer is never cut."""
    converter: Literal["alpaca", "sharegpt"] | None = None
    """Data set whose columns the data have: `alpaca` (instruction, input, output) or `sharegpt` (conversations of from
    and value)."""
    chat_template: str | None = None
    """How messages become text: None for the tokenizer's own template; `chatml` or `plain`, for a model without one; or
    the path of a .jinja file. It is saved with the model. No token is added to the vocabulary."""
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the chat template, for training and prediction, such as `enable_thinking: false` of Qwen
    3."""
    loss_on: LossOn | None = None
    """The tokens to train: `completion` (the completion, or the last turn), `assistant` (every turn of the assistant)
    or `all`. None for `assistant` with messages, `completion` with prompts, and `all` with texts. A turn of the
    assistant with `weight: 0`, `train: false`, `training: false` or `loss: false` is never trained, nor is a turn of
    the user in a completion."""
    packing: bool = False
    """Whether training puts several rows into one sequence of at most `max_length` tokens, so that less is padding. No
    row is cut for it, none sees another, and `per_device_train_batch_size` counts sequences. Models that cannot keep
    rows apart are refused."""
    tolerance: float = 0.2
    """Greatest share of training rows that may have each of these issues: an answer cut by `max_length`, trained
    without its end, or after other tokens than its prompt; two BOS tokens. Beyond it, training is refused."""
    untrained_rows: Literal["error", "keep"] = "error"
    """What to do with training rows that have no trained token, because the prompt alone fills `max_length`."""
    form: Form | None = field(default=None, metadata=LEARNED)
    """Which columns hold the examples; always learned."""
    conversational: bool | None = field(default=None, metadata=LEARNED)
    """Whether prompts are messages, and a text given as a prompt becomes one; always learned."""

    def __post_init__(self) -> None:
        if self.max_length < 2:
            raise ValueError("max_length must be at least 2")
        if not 0 <= self.tolerance <= 1:
            raise ValueError("tolerance is a share, from 0 to 1")

    def needs(self) -> Columns:
        """Return the columns of the converter, or of the form of the data; before `fit`, any form is possible."""
        if self.converter is not None:
            return CONVERTERS[self.converter].needs
        if self.form is None:
            return Columns(optional=("messages", "prompt", "completion", "text", TOOLS))
        tools = (TOOLS,) if self.conversational else ()
        if self.form == "prompt-completion":
            return Columns(required=("prompt",), optional=tools, answers=("completion",), group="prompt")
        columns = COLUMNS[self.form]
        return Columns(optional=("prompt", *columns, *tools), answers=columns, group=columns[0])

    def forms(self) -> Sequence[DataForm]:
        """Return the forms of the data: chats, chats of ShareGPT, instructions, prompts with completions, and texts."""
        messages = Values(
            what='a chat: [{"role": "user", "content": "…"}, …]', kind="messages", names=("conversation",)
        )
        turns = Values(what='a chat: [{"from": "human", "value": "…"}, …]', kind="turns", names=("messages",))
        instruction = Values(what="what to do", kind="text", names=("question",))
        prompt = Values(what="a question: a text, or messages", kind="text", names=("question", "query", "input"))
        answer = Values(what="the answer", kind="text", names=("response", "answer", "output"))
        tools = {TOOLS: Values(what="the functions that the model may call")}
        more = {
            "input": Values(what="what the instruction is about", names=("context",)),
            "system": Values(what="a system message"),
        }
        return (
            DataForm(columns={"messages": messages}, optional=tools),
            DataForm(columns={"conversations": turns}, options={"converter": "sharegpt"}),
            DataForm(
                columns={"instruction": instruction, "output": answer}, optional=more, options={"converter": "alpaca"}
            ),
            DataForm(
                columns={"prompt": prompt, "completion": answer},
                optional=tools,
                options={"chat_template": None},
                weight=0.97,
            ),
            DataForm(
                columns={"text": Values(what="a whole text, all of which is learned", kind="text")},
                options={"chat_template": None},
                weight=0.5,
            ),
        )

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy that knows the form of the data, and holds its chat template as text."""
        form: Form | None = None
        conversational = None
        for example in train:
            row = self._convert(example)
            filled = forms(row)
            if filled and self._is_answered(row):
                form = next(form for form in COLUMNS if form in filled)
                has_turns = form == "messages" or are_messages(row.get("prompt"))
                conversational = has_turns and form != "text"
                break
        template = templates.load_template(self.chat_template)
        return replace(self, form=form, conversational=conversational, chat_template=template)

    def for_model(self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Return a copy with the length that a trained model takes, for chats if its tokenizer has a template."""
        chats = bool(self.chat_template or tokenizer.chat_template)
        form: Form = "messages" if chats else "prompt-completion"
        return replace(within_context(self, config), form=form, conversational=chats)

    def learn_form(self, examples: Sequence[Row]) -> Self:
        """Return a copy that knows the form of the rows; the same if none has an answer."""
        fitted = self.fit(examples)
        return self if fitted.form is None else fitted

    # --- checks -------------------------------------------------------------------------------------------------------

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split; if no row has an answer, the rows are to be predicted."""
        rows = _Converted(examples, self)
        answered = any(map(self._is_answered, rows))
        if self.form is None:
            yield no_form(list(examples[0]) if len(examples) else [], converter=self.converter)
            return
        yield from check_unread(examples, self.needs())
        yield from check_form(rows if answered else (), self.form)
        yield from self._check_options()
        names = CONVERTERS[self.converter].names if self.converter else {}
        warnings = SplitWarnings()
        for number, (example, row) in enumerate(zip(examples, rows, strict=True)):
            warnings.add(number, row)
            for finding in self._check_row(row, number, answered=answered, example=example):
                yield replace(finding, column=names.get(finding.column or "", finding.column))
        for finding in warnings.findings():
            yield replace(finding, column=names.get(finding.column or "", finding.column))

    def _check_options(self) -> Iterator[Finding]:
        if self.form == "text" and self.loss_on not in (None, "all"):
            yield Finding(
                code="no-prompt",
                message=f"loss_on is {self.loss_on!r}, and a text has no prompt to leave out of the loss.",
                fix="Set preprocessor.loss_on: all, or give prompt and completion.",
                level="error",
            )
        if self.chat_template is not None and not self.conversational:
            yield Finding(
                code="chat-template-unused",
                message="chat_template is set, and it is not used: the data are texts and not chats.",
                fix="Leave it out. Or make a question and its answer turns of a chat: rename their columns to "
                "instruction and output, and set preprocessor.converter: alpaca.",
                level="warning",
            )

    def _check_row(self, row: Row, number: int, *, answered: bool, example: Row) -> Iterator[Finding]:
        """Yield what is wrong with a row.

        Args:
            row: With the columns of this plugin.
            number: Its position.
            answered: Whether it must have an answer.
            example: The row as the data give it.
        """
        converter = CONVERTERS[self.converter] if self.converter else None
        places = converter.places(example) if converter else {}
        if self.conversational:
            yield from check_tools(row.get(TOOLS), row=number)
        only_prompt = not answered and row.get("prompt") is not None
        if self.form == "prompt-completion" or only_prompt:
            findings = list(check_prompt_completion(row, number, answered=answered, places=places))
            yield from findings
            if not findings and self.conversational is False and are_messages(row["prompt"]):
                yield Finding(
                    code="mixed-forms",
                    message="the prompt is a list of messages, and the training rows are text.",
                    fix="Write all rows in one form.",
                    row=number,
                    column="prompt",
                )
        elif self.form == "messages":
            part: Literal["dialogue", "prompt"] = "dialogue" if answered else "prompt"
            yield from check_messages(
                row.get("messages"),
                row=number,
                column="messages",
                part=part,
                places=places.get("messages"),
                roles=converter.roles if converter else ROLES,
                weights=True,
            )
        else:
            yield from check_text(row.get("text"), row=number, column="text")

    def check_with_tokenizer(self, examples: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Iterator[Finding]:
        """Yield which messages the chat template refuses, and what it does not write or read of them."""
        if not self.conversational:
            return
        templates.set_template(tokenizer, self.chat_template)
        checker = TemplateChecker(tokenizer, read_keys=WEIGHT_KEYS)
        for number, example in enumerate(examples):
            row = self.prompt_completion(example)
            inputs = templates.TemplateInputs(tools=row.tools, options=self.chat_template_kwargs)
            yield from checker.check([self._dialogue(example, row)], row=number, inputs=inputs)
        yield from checker.findings()

    def _dialogue(self, example: Row, row: PromptCompletion) -> Dialogue:
        """Return the messages of a row with their places in the data."""
        converter = CONVERTERS[self.converter] if self.converter else None
        known = converter.places(example) if converter else {}
        names = converter.names if converter else {}
        whole = self._convert(example)
        columns = ("messages",) if whole.get("messages") is not None else ("prompt", "completion")
        places: list[TurnPlace] = []
        for column in columns:
            places += known.get(column) or turn_places(whole.get(column), column)
        messages = [*row.prompt, *(row.completion or ())]
        column = names.get(columns[0], columns[0])
        return Dialogue(messages=messages, places=places[: len(messages)], column=column, prompt=len(row.prompt))

    # --- features -----------------------------------------------------------------------------------------------------

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return ids and, if there are answers, labels and the ids of the prompt alone.

        Further columns are ``issues``, a `RowIssue` of the row, and ``tokens_lost``, the tokens beyond `max_length`.

        Raises:
            BadData: Some rows have answers and others do not, or the template refuses one.
            BadOptions: The data are messages, and there is no chat template.
        """
        rows = list(map(self.prompt_completion, rows_of(examples)))
        if self.conversational:
            templates.set_template(tokenizer, self.chat_template)
        shared = RowIssue.PADDED_WITH_EOS if ensure_pad_token(tokenizer) else RowIssue.NONE
        answered = [row.completion is not None for row in rows]
        if not any(answered):
            inputs = [templates.TemplateInputs(tools=row.tools, options=self.chat_template_kwargs) for row in rows]
            ids = encode_prompts([row.prompt for row in rows], tokenizer, inputs)
            return {"input_ids": ids, "issues": [int(shared)] * len(ids), "tokens_lost": [0] * len(ids)}
        if not all(answered):
            raise BadData("some rows have answers and others have none. Give them as two data sets.")
        features: dict[str, list[Any]] = {
            "input_ids": [],
            "labels": [],
            "prompt_ids": [],
            "issues": [],
            "tokens_lost": [],
            WHOLE: [],
        }
        options = self.chat_template_kwargs
        for row in label(rows, tokenizer, loss_on=self._loss_on(), template_options=options):
            features["input_ids"].append(row.ids[: self.max_length])
            features["labels"].append(row.labels[: self.max_length])
            features["prompt_ids"].append(row.prompt_ids)
            features["issues"].append(int(row.issues | shared))
            features[WHOLE].append(len(row.ids))
            features["tokens_lost"].append(max(len(row.ids) - self.max_length, 0))
        return features

    def prompt_completion(self, example: Row) -> PromptCompletion:
        """Return an example of any form as a prompt and its completion."""
        row = self._convert(example)
        tools = plain_tools(row.get(TOOLS)) if self.conversational else None
        if row.get("messages") is not None:
            messages = plain_messages(row["messages"])
            if not ends_with_answer(messages):
                return PromptCompletion(prompt=messages, tools=tools)
            last = len(messages) - 1
            if self.loss_on != "all":
                last = last_trained(messages)  # nothing is learned from what follows, and nothing is compared with it
            return PromptCompletion(prompt=messages[:last], completion=messages[last : last + 1], tools=tools)
        prompt, completion, text = row.get("prompt"), row.get("completion"), row.get("text")
        if prompt is None or (self.form == "text" and text is not None):
            return PromptCompletion(prompt=None, completion=text)
        if isinstance(prompt, str) and self.conversational:
            prompt, completion = text_to_turn(prompt, USER), text_to_turn(completion, ASSISTANT)
        if are_messages(prompt):
            prompt = plain_messages(prompt)
            completion = None if completion is None else plain_messages(completion)
        return PromptCompletion(prompt=prompt, completion=completion, tools=tools)

    def canonical(self, example: Row) -> Row:
        """Return ``prompt`` and ``completion``, texts or messages.

        The prompt is None where nothing is asked, as with plain texts; the completion, where no answer is known.
        """
        row = self.prompt_completion(example)
        return {"prompt": row.prompt, "completion": row.completion}

    def check_streaming(self) -> None:
        """Check that rows are not packed.

        Raises:
            BadOptions: They are.
        """
        if self.packing:
            raise BadOptions(
                "preprocessor: packing puts the rows of all train together, and dataset.streaming reads them only "
                "while it trains. Set preprocessor.packing: false."
            )

    def trainer_options(self) -> Mapping[str, Any]:
        """Return what the trainer of `sft` reads; see `finetune_trl.sft.trainer.trainer`."""
        return {
            "conversational": bool(self.conversational),
            "packing": self.packing,
            "max_length": self.max_length,
        }

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Return counts of trained tokens, rows without any, lost tokens, and rows with each issue."""
        lost = features["tokens_lost"]
        counts = Counter({"truncated": len(lost) - list(lost).count(0), "tokens_lost": sum(lost)})
        if "labels" in features:
            trained = list(map(trained_tokens, features["labels"]))
            counts["trained_tokens"] = sum(trained)
            counts["rows_without_trained_tokens"] = trained.count(0)
        for name, issue in COUNTED_ISSUES.items():
            counts[name] = sum(bool(value & issue) for value in features["issues"])
        return counts

    def validate_counts(self, counts: Mapping[str, int], *, split: str) -> None:
        """Refuse training rows that spoil a model, beyond what `tolerance` and `untrained_rows` allow.

        Raises:
            BadData: With the number of such rows, and what to do.
        """
        self._refuse_spoiled_rows(counts, split, lambda name: None)

    def validate_features(
        self,
        features: Sequence[Row],
        examples: Sequence[Row],
        tokenizer: PreTrainedTokenizerBase,
        *,
        counts: Mapping[str, int],
        split: str,
    ) -> None:
        """Refuse what `validate_counts` refuses, and explain prompts that differ between training and prediction.

        Raises:
            BadData: With the number of such rows, and what to do.
        """

        def explain(name: str) -> str | None:
            if name != "prompt_not_prefix" or not self.conversational:
                return None
            for feature, example in zip(features, examples, strict=True):
                if feature["issues"] & RowIssue.NOT_A_PREFIX:
                    row = self.prompt_completion(example)
                    options = self.chat_template_kwargs
                    return explain_other_prompt(row, tokenizer, loss_on=self._loss_on(), template_options=options)
            return None

        self._refuse_spoiled_rows(counts, split, explain)

    def _refuse_spoiled_rows(self, counts: Mapping[str, int], split: str, explain: Callable[[str], str | None]) -> None:
        if split == "train":
            refuse_spoiled_rows(
                counts,
                split=split,
                max_length=self.max_length,
                tolerance=self.tolerance,
                keep=self.untrained_rows == "keep",
                explain=explain,
            )

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the row as the model reads it, with ``⟦…⟧`` around the trained tokens."""
        ids = feature["input_ids"]
        labels = feature.get("labels") or [IGNORE_INDEX] * len(ids)
        text = str(tokenizer.decode(ids))
        pieces: list[str] = []
        written, is_open = 0, False
        for place in range(1, len(ids)):
            if (labels[place] != IGNORE_INDEX) == is_open:
                continue
            # Decoding a piece alone would lose the space that SentencePiece keeps at its beginning.
            end = len(str(tokenizer.decode(ids[:place])))
            pieces += [text[written:end], "⟧" if is_open else "⟦"]
            written, is_open = end, not is_open
        pieces += [text[written:], "⟧" if is_open else ""]
        return "".join(pieces)

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> PadLabelled:
        """Return what pads rows on the right, and prompts to answer on the left."""
        return PadLabelled(pad_token_id=int(tokenizer.pad_token_id))

    def _loss_on(self) -> LossOn:
        if self.loss_on is not None:
            return self.loss_on
        if self.form == "messages":
            return "assistant"
        return "completion" if self.form == "prompt-completion" else "all"

    def _convert(self, row: Row) -> Row:
        """Return a row with the columns of this plugin."""
        return CONVERTERS[self.converter].convert(row) if self.converter else row

    def _is_answered(self, row: Row) -> bool:
        """Say whether a row, with the columns of this plugin, has an answer."""
        if row.get("messages") is not None:
            return ends_with_answer(row["messages"])
        return row.get("completion") is not None or row.get("text") is not None


class _Converted(Sequence[Row]):
    """Examples with the columns of this plugin, each converted when it is asked for."""

    def __init__(self, examples: Sequence[Row], preprocessor: SFTPreprocessor) -> None:
        self._examples, self._preprocessor = examples, preprocessor

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: Any) -> Any:
        return self._preprocessor._convert(self._examples[index])

    def __iter__(self) -> Iterator[Row]:
        return map(self._preprocessor._convert, self._examples)


def trained_tokens(labels: Sequence[int]) -> int:
    """Return how many tokens the loss sees; the first is never predicted.

    >>> trained_tokens([1, -100, 5, 2])
    2
    """
    return len(labels[1:]) - list(labels[1:]).count(IGNORE_INDEX)
