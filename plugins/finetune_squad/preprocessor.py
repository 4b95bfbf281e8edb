"""Questions and contexts → overlapping windows with the answer's tokens as labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from finetune.interfaces import Batch, Columns, DataForm, Finding, Preprocessor, Row, Values
from finetune.kit import PadRight, within_context
from finetune_squad import answers as answer
from finetune_squad import checks
from finetune_squad.layout import Layout, Shape, encode_without_specials, layout, spread
from finetune_squad.spans import Ints, Tokens, pointer_of, touching

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

NO_ANSWER, EXACT, WIDENED, NARROWED, LOST, UNSEEN = range(6)
"""Status of an example's answer, in the column `answer_status` of its first window (0 in the
others): its tokens cover exactly its characters, more, or less; no window holds all of it; no token
covers any of it."""


@dataclass(frozen=True, kw_only=True)
class SquadPreprocessor(Preprocessor):
    """Cuts long contexts into overlapping windows and points at the answer in those that hold all of it.

    Every other window is labelled "no answer": both labels at the CLS token, wherever the tokenizer
    puts it (the BOS token where there is no CLS, the first token where there is neither).

    `answers` is a mapping with the lists `text` and `answer_start`, or a list of mappings with one of each. A cell of a
    CSV file holds either as JSON or as a Python literal. An offset can be written as 10, 10.0, "10" or (10, 16).

    It equals the widely used `run_qa.py` token by token, with five exceptions. An answer that ends
    with a window's last token keeps its own start (there, the start moves into the padding). White
    space around an answer is not part of it (there, it adds the next word). An emoji of several
    tokens is labelled with all of them. A tokenizer that pads on the left still gets the question
    first. A special token that is written in a text, such as `</s>`, is read as text.
    """

    max_length: int = 384
    """Longest window, in tokens, question and special tokens included."""
    stride: int = 128
    """Overlap of neighbouring windows, in tokens. (BERT's `doc_stride` was the step from one to the next.)"""
    max_question_length: int | None = None
    """Longest question, in tokens; the rest is cut off and counted. With None, a question that
    leaves no room is an error."""
    allow_unanswerable: bool = True
    """Whether a question may have no answer, as in SQuAD 2.0. If not, such rows are bad."""
    flat: bool = False
    """Whether an answer is in two plain columns, `answer_text` and `answer_start`, as in CSV files,
    and not in `answers`. No text means no answer."""
    fix_offsets: bool = False
    """Whether an offset that is missing or wrong is corrected, if there is no doubt: the answer occurs
    once in the context, only one of its places touches the given one, or the offset counts bytes,
    UTF-16 units or line ends otherwise. Other such rows stay bad. The corrections are counted."""
    no_answer_words: tuple[str, ...] = answer.NO_ANSWER_WORDS
    """Texts of an answer that mean "no answer", as SubjQA and QuAC write them."""

    def __post_init__(self) -> None:
        if self.stride < 0 or self.max_length <= self.stride:
            raise ValueError(
                f"stride={self.stride} must be at least 0 and less than max_length={self.max_length}: it is the number "
                "of tokens that neighbouring windows share"
            )
        if self.max_question_length is not None and self.max_question_length < 1:
            raise ValueError(f"max_question_length={self.max_question_length} must be at least 1")

    def needs(self) -> Columns:
        """Return the columns that are read."""
        offsets = [name for name in answer.FLAT if self.flat and name not in self._form.columns]
        return Columns(
            required=("question", "context"),
            optional=("id", "title", *offsets),
            answers=self._form.columns,
            optional_answers=("is_impossible",),
            group="context",
        )

    def forms(self) -> Sequence[DataForm]:
        """Return the forms of the data: SQuAD's answers, and plain columns with or without an offset."""
        question = Values(what="a question", kind="text", names=("query", "q"))
        context = Values(
            what="the text with the answer", kind="text", names=("passage", "paragraph", "document", "text")
        )
        text = Values(
            what="the answer, as it stands in the context; empty for no answer",
            kind="phrase",
            names=("answer", "answers", "text", "human_ans_spans", "a"),
        )
        start = Values(
            what="the first character of the answer, from 0",
            kind="offset",
            names=("start", "answer_offset", "offset", "human_ans_indices"),
        )
        nested = Values(what='{"text": ["…"], "answer_start": [0]}, with empty lists for no answer', kind="answers")
        optional = {"id": Values(what="a name for the row"), "title": Values(what="a title")}
        both = {"question": question, "context": context}
        return (
            DataForm(columns={**both, answer.NESTED: nested}, optional=optional),
            DataForm(
                columns={**both, answer.NESTED: nested}, optional=optional, options={"fix_offsets": True}, weight=0.95
            ),
            DataForm(
                columns={**both, answer.FLAT[0]: text, answer.FLAT[1]: start},
                optional=optional,
                options={"flat": True},
            ),
            DataForm(
                columns={**both, answer.FLAT[0]: text},
                optional=optional,
                options={"flat": True, "fix_offsets": True},
                weight=0.95,
            ),
        )

    def for_model(self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Return a copy with windows that a trained model takes."""
        shorter = within_context(replace(self, stride=0), config)
        return replace(shorter, stride=min(self.stride, shorter.max_length // 3))

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with questions, contexts and answers; see `finetune_squad.checks`."""
        return checks.check_examples(examples, form=self._form, allow_unanswerable=self.allow_unanswerable)

    def canonical(self, example: Row) -> Row:
        """Return an example with its answers as in SQuAD's nested column, with corrected offsets."""
        try:
            answers = self._form.answers(example)
        except answer.MalformedAnswers:
            return example  # a finding of `check`
        if answers is None:
            return example
        texts, starts = [text for text, _ in answers], [start for _, start in answers]
        return {**example, answer.NESTED: {"text": texts, "answer_start": starts}}

    def features(self, examples: Batch, tokenizer: Any) -> Batch:
        """Return the windows of a batch of examples, with labels if there are answers.

        Ids, types and windows are those of ``tokenizer(question, context, truncation="only_second",
        …)``, unpadded. Helper columns: ``window`` counts the windows of an example from 0. The
        context begins at ``context_first_token``, and its token ``i`` is its characters
        ``start_chars[i] : end_chars[i]``. ``null_token`` is where "no answer" points.
        ``answer_status`` and ``question_tokens_lost`` are for the data report.

        Examples:
            >>> from finetune.testing.tokenizers import tokenizer
            >>> batch = {"question": ["Who?"], "context": ["Gulls circle."]}
            >>> features = SquadPreprocessor().features(batch, tokenizer("bert"))
            >>> features["start_chars"][0].tolist(), features["end_chars"][0].tolist()
            ([0, 6, 12], [5, 12, 13])

        Raises:
            BadData: A question is too long, or an answer is not at its offset.
            Incompatible: The tokenizer keeps no offsets.
        """
        questions, lost = self._questions(examples["question"], tokenizer)
        shape = Shape(
            max_length=self.max_length, stride=self.stride, name=lambda index: answer.name_of(examples, index)
        )
        windows = layout(tokenizer, questions, list(examples["context"]), shape)
        first = np.diff(windows.example, prepend=-1) != 0
        number = windows.example  # of the right length where there are no windows
        if len(first):
            first_of_example = np.flatnonzero(first)[np.cumsum(first) - 1]
            number = np.arange(len(first)) - first_of_example
        columns = _columns(windows, types="token_type_ids" in tokenizer.model_input_names)
        columns["window"] = number.tolist()
        if lost is not None:
            columns["question_tokens_lost"] = np.where(first, np.array(lost)[windows.example], 0).tolist()
        answers = answer.first_answers(examples, self._form)
        return columns if answers is None else {**columns, **_labels(windows, answers, first)}

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Count the examples, those with several windows, and the answers by status."""
        numbers = np.asarray(features["window"])
        counts = {
            "examples": int((numbers == 0).sum()),
            "examples_in_several_windows": int((numbers == 1).sum()),
        }
        if "question_tokens_lost" in features:
            lost = np.asarray(features["question_tokens_lost"])
            counts |= {"questions_cut": int((lost > 0).sum()), "question_tokens_lost": int(lost.sum())}
        if "answer_status" in features:
            of_status = np.bincount(np.asarray(features["answer_status"], np.int64), minlength=6).tolist()
            counts |= {
                "answers": sum(of_status[EXACT:]),
                "answers_widened_to_tokens": of_status[WIDENED],
                "answers_narrowed_to_tokens": of_status[NARROWED],
                "answers_lost_between_windows": of_status[LOST],
                "answers_without_tokens": of_status[UNSEEN],
            }
        return counts

    def show(self, feature: Row, tokenizer: Any) -> str:
        """Return a window as text, with ``⟦…⟧`` around the tokens that the labels point at."""
        ids = list(feature["input_ids"])
        if feature.get("start_positions") is None:
            return _decoded(tokenizer, ids)
        first, last = int(feature["start_positions"]), int(feature["end_positions"])
        marked = _marked(tokenizer, ids, first, last)
        return f"{marked} (no answer here)" if first == last == feature.get("null_token") else marked

    def collator(self, tokenizer: Any, model: Any = None) -> PadRight:
        """Return the collator that pads on the right, whatever the tokenizer's side; see `finetune.kit.PadRight`."""
        return PadRight(pad_token_id=tokenizer.pad_token_id or 0, pad_token_type_id=tokenizer.pad_token_type_id)

    @property
    def _form(self) -> answer.Form:
        return answer.Form(flat=self.flat, fix_offsets=self.fix_offsets, no_answer_words=self.no_answer_words)

    def _questions(self, given: Sequence[str], tokenizer: Any) -> tuple[list[str], list[int] | None]:
        """Return the questions without leading space, cut to `max_question_length`, and how many tokens each lost."""
        questions = [question.lstrip() for question in given]
        if self.max_question_length is None:
            return questions, None
        cut: dict[str, tuple[str, int]] = {}
        for question in questions:
            if question not in cut:
                cut[question] = _cut(tokenizer, question, self.max_question_length)
        pairs = [cut[question] for question in questions]
        return [text for text, _ in pairs], [lost for _, lost in pairs]


def _columns(windows: Layout, *, types: bool) -> dict[str, Any]:
    """Return the columns that do not depend on answers; lists of numbers are small numpy arrays, one per window."""
    lengths = windows.stop - windows.begin
    context = spread(windows.tokens.pointer[windows.text] + windows.begin, lengths)
    in_context = pointer_of(lengths.tolist())
    columns: dict[str, Any] = {
        "input_ids": _split(windows.input_ids, np.int32, windows.pointer),
        "attention_mask": _split(np.ones(len(windows.input_ids)), np.int8, windows.pointer),
    }
    if types:
        columns["token_type_ids"] = _split(windows.token_type_ids, np.int8, windows.pointer)
    return columns | {
        "overflow_to_sample_mapping": windows.example.tolist(),
        "context_first_token": windows.context_first_token.tolist(),
        "null_token": windows.null_token.tolist(),
        "start_chars": _split(windows.tokens.start_chars[context], np.int32, in_context),
        "end_chars": _split(windows.tokens.end_chars[context], np.int32, in_context),
    }


def _split(flat: Any, dtype: Any, pointer: Ints) -> list[Any]:
    """Return the rows that are end to end in an array, as a smaller type: row ``w`` begins at ``pointer[w]``."""
    small = flat.astype(dtype)
    return [small[start:stop] for start, stop in pairwise(pointer.tolist())]


def _labels(windows: Layout, answers: Sequence[tuple[str, int] | None], first: Any) -> dict[str, list[int]]:
    """Return where each window's answer starts and ends, and the status of each example's answer.

    The tokens that touch the answer are found in the whole context. A window that lacks any of them
    has no answer, so that a cut answer is never half-labelled.
    """
    tokens = windows.tokens
    text = windows.text[np.flatnonzero(first)]
    has, begin, end = _characters(answers)
    begin, end = tokens.seen_after(text, begin), tokens.seen_before(text, end)
    first_token, last_token = touching(tokens, text, begin, end)
    covered = has & (begin < end) & (first_token <= last_token)
    # From examples to windows: a window has the answer if it holds its first and its last token.
    start, stop = first_token[windows.example], last_token[windows.example]
    here = covered[windows.example] & (windows.begin <= start) & (stop < windows.stop)
    shift = windows.context_first_token - windows.begin
    found = np.zeros(len(answers), bool)
    found[windows.example[here]] = True
    status = _statuses(tokens, text, (begin, end), (first_token, last_token), has=has, covered=covered, found=found)
    return {
        "start_positions": np.where(here, start + shift, windows.null_token).tolist(),
        "end_positions": np.where(here, stop + shift, windows.null_token).tolist(),
        "answer_status": np.where(first, status[windows.example], NO_ANSWER).tolist(),
    }


def _characters(answers: Sequence[tuple[str, int] | None]) -> tuple[Any, Ints, Ints]:
    """Return which examples have an answer, and where it begins and ends in characters; 0 and 0 without one."""
    has = np.zeros(len(answers), bool)
    begin, end = np.zeros(len(answers), np.int64), np.zeros(len(answers), np.int64)
    for index, found in enumerate(answers):
        if found is not None:
            text, start = found
            has[index], begin[index], end[index] = True, start, start + len(text)
    return has, begin, end


def _statuses(
    tokens: Tokens, text: Ints, chars: tuple[Ints, Ints], span: tuple[Ints, Ints], *, has: Any, covered: Any, found: Any
) -> Ints:
    """Return the status of each example's answer.

    Args:
        tokens: The tokens of the contexts.
        text: Which context each answer is in.
        chars: Where the answers begin and end, in visible characters.
        span: Their first and last tokens.
        has: Whether there is an answer.
        covered: Whether a token touches it.
        found: Whether a window holds all of it.
    """
    if not len(tokens.ids):
        return np.where(has, UNSEEN, NO_ANSWER)
    base = tokens.pointer[text]
    start = tokens.start_chars[np.where(covered, base + span[0], 0)]
    stop = tokens.end_chars[np.where(covered, base + span[1], 0)]
    status = np.where((start < chars[0]) | (stop > chars[1]), WIDENED, EXACT)
    status = np.where((start > chars[0]) | (stop < chars[1]), NARROWED, status)
    status = np.where(found, status, np.where(covered, LOST, UNSEEN))
    return np.where(has, status, NO_ANSWER)


def _cut(tokenizer: Any, question: str, longest: int) -> tuple[str, int]:
    """Return a question cut to at most ``longest`` tokens, and how many tokens it lost."""
    encoding = encode_without_specials(tokenizer, [question])[0]
    length = kept = len(encoding.ids)
    while kept > longest:  # the cut text may have other tokens, and more of them
        end = min(encoding.offsets[longest - 1][1], len(question) - 1)
        question = question[:end].rstrip()
        encoding = encode_without_specials(tokenizer, [question])[0]
        kept = len(encoding.ids)
    return question, length - kept


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return text


def _marked(tokenizer: Any, ids: list[int], first: int, last: int) -> str:
    whole = _decoded(tokenizer, ids)
    before, upto = _decoded(tokenizer, ids[:first]), _decoded(tokenizer, ids[: last + 1])
    if not (whole.startswith(upto) and upto.startswith(before)):  # a part decodes to something else than in the whole
        middle, rest = _decoded(tokenizer, ids[first : last + 1]), _decoded(tokenizer, ids[last + 1 :])
        return f"{before} ⟦{middle.strip()}⟧ {rest}"
    inside = upto[len(before) :]
    gap = inside[: len(inside) - len(inside.lstrip())]
    return f"{before}{gap}⟦{inside.strip()}⟧{whole[len(upto) :]}"
