"""Answers with a thumb up or down: what Kahneman-Tversky optimization learns from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Self

from finetune.errors import BadData
from finetune.interfaces import Batch, Columns, Finding, Preprocessor, Row
from finetune_trl.chat import messages as chat
from finetune_trl.chat import templates
from finetune_trl.chat.rows import PROMPT_CUT, TOKENS_LOST, columns_of, has_messages, names_of, rows_of
from finetune_trl.chat.tokens import answers_after, asked_ids, prompt_ids, whole_ids
from finetune_trl.padding import ensure_pad
from finetune_trl.preference.checks import Joined, check_form, check_forms_agree
from finetune_trl.preference.collate import COMPLETION_IDS, LABEL, PROMPT_IDS, PadKTO
from finetune_trl.preference.pairs import CHOSEN, COMPLETION, CONVERSATIONS, PROMPT, Converter, Pair, pair_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_WORDS = {"true": True, "false": False}


@dataclass(frozen=True, kw_only=True)
class KTOPreprocessor(Preprocessor):
    """A prompt with one answer, as text or as messages, and whether it is desirable: `label` is true or false."""

    max_length: int = 1024
    """Longest prompt with answer, in tokens; what is beyond is cut from the end and counted."""
    chat_template: str | None = None
    """How messages are written: `chatml`, `plain`, a `.jinja` file or a template; None for the tokenizer's own."""
    converter: Converter | None = None
    """`sharegpt` where messages are written `{from: human, value: …}`; the prompt may then be `conversations`."""
    conversational: bool | None = None
    """Whether the answers are turns of a chat. True makes turns of text, for a model that was trained on chats; None
    for what the data are."""
    kinds: tuple[bool, ...] | None = None
    """Labels that train holds; always learned."""

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(optional=(PROMPT, CONVERSATIONS), answers=(COMPLETION, LABEL), group=PROMPT)

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy that knows the labels and whether the data are chats, and holds its template as text."""
        chats = has_messages(train, (PROMPT, COMPLETION)) if self.conversational is None else self.conversational
        found = {value for row in train if (value := truth(row.get(LABEL))) is not None}
        template = templates.load(self.chat_template)
        return replace(self, chat_template=template, conversational=chats, kinds=tuple(sorted(found)))

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split; where no row has a label, the prompts are to be answered."""
        answered = not self.kinds or any(row.get(LABEL) is not None for row in examples)
        found: set[bool] = set()
        seen, joined = _Seen(), Joined()
        for position, row in enumerate(examples):
            pair = self._pair_of(row, conversational=False)
            form = [*check_form(pair.prompt, row=position, column=PROMPT, part="prompt", empty="prompt-missing")]
            if not answered:
                yield from form
                continue
            form += check_form(pair.chosen, row=position, column=COMPLETION, part="completion", empty="answer-empty")
            yield from form or check_forms_agree({PROMPT: pair.prompt, COMPLETION: pair.chosen}, row=position)
            yield from _check_label(row.get(LABEL), position)
            if pair.chosen and not self.conversational:
                joined.add(position, pair.prompt, pair.chosen)
            label = truth(row.get(LABEL))
            if label is not None:
                found.add(label)
                seen.add(position, pair, label)
        yield from seen.findings()
        yield from joined.findings()
        if len(found) == 1 and len(examples) > 1:
            (kind,) = found
            yield Finding(
                code="one-kind-of-label", message=f"every label is {str(kind).lower()}.", column=LABEL,
                fix="Give desirable and undesirable answers: each kind alone teaches to write more, or less, of all.",
                level="error" if self.kinds in {None, (kind,)} else "warning",
            )  # fmt: skip

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return the ids of prompts and, where there are any, of their answers with the labels.

        ``{"prompt": ["Who?"], "completion": ["Inès."], "label": ["true"]}`` gives
        ``{'prompt_ids': [[1, 90, 4]], 'completion_ids': [[77, 8, 2]], 'label': [True], …}``.

        Raises:
            BadData: A label is neither true nor false.
        """
        rows = rows_of(examples)
        pairs = [self._pair_of(row, conversational=bool(self.conversational)) for row in rows]
        ensure_pad(tokenizer)
        if any(chat.are_messages(pair.prompt) for pair in pairs):
            templates.ensure(tokenizer, self.chat_template)
        if all(row.get(LABEL) is None for row in rows):
            return {PROMPT_IDS: asked_ids([pair.prompt for pair in pairs], tokenizer)}
        return columns_of([self._row(pair, row[LABEL], tokenizer) for pair, row in zip(pairs, rows, strict=True)])

    def _pair_of(self, row: Row, *, conversational: bool) -> Pair:
        """Return a prompt with its one answer, in the chosen one's place."""
        asked = {PROMPT: row.get(PROMPT), CONVERSATIONS: row.get(CONVERSATIONS), CHOSEN: row.get(COMPLETION)}
        return pair_of(asked, self.converter, conversational=conversational)

    def _row(self, pair: Pair, label: Any, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        kind = truth(label)
        if kind is None:
            raise BadData(f"{label!r} is neither true nor false; see `finetune check`.")
        whole = whole_ids(pair.prompt, pair.chosen, tokenizer)
        prompt, (answer,), cut = answers_after(prompt_ids(pair.prompt, tokenizer), [whole])
        return {
            PROMPT_IDS: prompt[: self.max_length],
            COMPLETION_IDS: answer[: max(self.max_length - len(prompt), 0)],
            LABEL: kind,
            TOKENS_LOST: max(len(whole) - self.max_length, 0),
            PROMPT_CUT: cut,
        }

    def lengths(self, features: Batch) -> Sequence[int]:
        """Return the tokens of each prompt with its answer."""
        prompts = [len(ids) for ids in features[PROMPT_IDS]]
        if COMPLETION_IDS not in names_of(features):
            return prompts
        return [prompt + len(ids) for prompt, ids in zip(prompts, features[COMPLETION_IDS], strict=True)]

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Return how many rows were truncated, and of how many nothing of the answer is left."""
        if COMPLETION_IDS not in names_of(features):
            return {}
        lost = features[TOKENS_LOST]
        return {
            "truncated": sum(count > 0 for count in lost),
            TOKENS_LOST: sum(lost),
            "answers_lost": sum(not ids for ids in features[COMPLETION_IDS]),
            "prompt_not_prefix": sum(features[PROMPT_CUT]),
        }

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the prompt with its answer, and whether that is desirable."""
        prompt = str(tokenizer.decode(feature[PROMPT_IDS]))
        if feature.get(COMPLETION_IDS) is None:
            return prompt
        answer = tokenizer.decode(feature[COMPLETION_IDS])
        return f"{prompt}⟦{answer}⟧ → {'desirable' if feature[LABEL] else 'undesirable'}"

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: Any = None) -> PadKTO:
        """Return what pads answers, or prompts alone."""
        return PadKTO(pad_token_id=tokenizer.pad_token_id, max_length=self.max_length)


def truth(value: Any) -> bool | None:
    """Return a label as true or false; None for anything else.

    >>> truth(True), truth("False"), truth("yes"), truth(1)
    (True, False, None, None)
    """
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _check_label(label: Any, row: int) -> Iterator[Finding]:
    if label is None:
        yield Finding(code="label-missing", message="the row has no label.", fix="Label the row, or drop it.",
                      row=row, column=LABEL)  # fmt: skip
    elif truth(label) is None:
        yield Finding(code="label-not-boolean", message="true or false was wanted.", row=row, column=LABEL,
                      fix="Write true for a desirable answer, false for another.", value=str(label),
                      level="error")  # fmt: skip


class _Seen:
    """Counts answers that come back to the same prompt, with the same label or with the other."""

    def __init__(self) -> None:
        self._labels: dict[bytes, bool] = {}
        self._rows: dict[bool, list[int]] = {True: [], False: []}

    def add(self, number: int, pair: Pair, label: bool) -> None:
        """Take in one row."""
        key = blake2b(repr((pair.prompt, pair.chosen)).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if key in self._labels:
            self._rows[self._labels[key] is label].append(number)
        self._labels.setdefault(key, label)

    def findings(self) -> Iterator[Finding]:
        """Yield a warning for answers that come back, and one for answers that come back with the other label."""
        same, other = self._rows[True], self._rows[False]
        if same:
            yield Finding(
                code="duplicate-rows", message=f"{len(same):,} rows repeat an earlier answer with the same label.",
                fix="Remove them, or know that they count more than once.", level="warning", column=COMPLETION,
                row=same[0],
            )  # fmt: skip
        if other:
            yield Finding(
                code="label-conflict", message=f"{len(other):,} rows repeat an earlier answer with the other label.",
                fix="Decide which label is right: the two cancel each other.", level="warning", column=LABEL,
                row=other[0],
            )  # fmt: skip
