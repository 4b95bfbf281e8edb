"""Questions and contexts → overlapping windows with the answer's tokens as labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.interfaces import Batch, Columns, Finding, Preprocessor, Row
from finetune_squad import answers as answer
from finetune_squad import checks
from finetune_squad.collate import PadRight
from finetune_squad.layout import Layout, Shape, alone, layout, spread
from finetune_squad.spans import Ints, Tokens, touching

NO_ANSWER, EXACT, WIDENED, NARROWED, LOST, UNSEEN = range(6)
"""What became of an example's answer, in the column `answer_fate` of its first window (0 elsewhere): its tokens stand
for exactly its characters, for more, or for less; no window holds it whole; no token stands for any of it."""


@dataclass(frozen=True, kw_only=True)
class SquadPreprocessor(Preprocessor):
    """Cuts long contexts into overlapping windows and points at the answer in those that hold all of it.

    Every other window is labelled "no answer": both labels at the CLS token, wherever the tokenizer puts it (the BOS
    token where there is no CLS, the first token where there is neither).

    Where this differs from the widespread `run_qa.py`, which it otherwise equals token by token: an answer that ends
    with a window's last token gets its own start (there, the start runs on into the padding); white space round an
    answer is not part of it (there, it drags in the next word); an emoji of several tokens is labelled with all of
    them; and a tokenizer that pads on the left still gets the question first.
    """

    max_length: int = 384
    """Longest window, in tokens, question and special tokens included."""
    stride: int = 128
    """Overlap of neighbouring windows, in tokens. (BERT's `doc_stride` was the step from one to the next.)"""
    max_question_length: int | None = None
    """Longest question, in tokens; the rest is cut off and counted. None refuses a question that leaves no room."""
    allow_unanswerable: bool = True
    """Whether a question may have no answer, as in SQuAD 2.0. If not, such rows are bad."""
    flat: bool = False
    """Whether an answer stands in two plain columns, `answer_text` and `answer_start`, as CSV files have it, and not in
    SQuAD's nested `answers`. No text means no answer."""

    def __post_init__(self) -> None:
        if self.stride < 0 or self.max_length <= self.stride:
            raise ValueError(
                f"stride={self.stride} must be at least 0 and less than max_length={self.max_length}: it is how many "
                "tokens neighbouring windows share"
            )
        if self.max_question_length is not None and self.max_question_length < 1:
            raise ValueError(f"max_question_length={self.max_question_length} must be at least 1")

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(
            required=("question", "context"),
            optional=("id", "title", "is_impossible"),
            answers=answer.FLAT if self.flat else (answer.NESTED,),
            group="context",
        )

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with questions, contexts and answers; see `finetune_squad.checks`."""
        return checks.findings(examples, flat=self.flat, allow_unanswerable=self.allow_unanswerable)

    def features(self, examples: Batch, tokenizer: Any) -> Batch:
        """Return the windows of a batch of examples, with labels when there are answers.

        Ids, types and windows are those of ``tokenizer(question, context, truncation="only_second", …)``, unpadded.
        Beside what the model takes: ``window`` counts the windows of an example from 0; the context stands at
        ``context_first_token`` and its tokens are the characters ``start_chars[i] : end_chars[i]`` of it;
        ``null_token`` is where "no answer" points; ``answer_fate`` and ``question_tokens_lost`` are for the data report.

        Examples:
            >>> from finetune.testing.tokenizers import tokenizer
            >>> batch = {"question": ["Who?"], "context": ["Gulls circle."]}
            >>> features = SquadWindows().features(batch, tokenizer("bert"))
            >>> features["start_chars"][0].tolist(), features["end_chars"][0].tolist()
            ([0, 6, 12], [5, 12, 13])

        Raises:
            BadData: A question is too long, or an answer does not stand at its place.
            Incompatible: The tokenizer keeps no offsets.
        """
        questions, lost = self._questions(examples["question"], tokenizer)
        shape = Shape(
            max_length=self.max_length, stride=self.stride, name=lambda index: answer.name_of(examples, index)
        )
        windows = layout(tokenizer, questions, list(examples["context"]), shape)
        first = np.diff(windows.example, prepend=-1) != 0
        number = np.arange(len(first)) - np.flatnonzero(first)[np.cumsum(first) - 1] if len(first) else windows.example
        made = _columns(windows, types="token_type_ids" in tokenizer.model_input_names)
        made["window"] = number.tolist()
        if lost is not None:
            made["question_tokens_lost"] = np.where(first, np.array(lost)[windows.example], 0).tolist()
        answers = answer.first_answers(examples, flat=self.flat)
        return made if answers is None else {**made, **_labels(windows, answers, first)}

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Count examples that became several windows, and what became of the answers."""
        numbers = np.asarray(features["window"])
        counts = {
            "examples": int((numbers == 0).sum()),
            "examples_in_several_windows": int((numbers == 1).sum()),
        }
        if "question_tokens_lost" in features:
            lost = np.asarray(features["question_tokens_lost"])
            counts |= {"questions_cut": int((lost > 0).sum()), "question_tokens_lost": int(lost.sum())}
        if "answer_fate" in features:
            fates = np.bincount(np.asarray(features["answer_fate"], np.int64), minlength=6).tolist()
            counts |= {
                "answers": sum(fates[EXACT:]),
                "answers_widened_to_tokens": fates[WIDENED],
                "answers_narrowed_to_tokens": fates[NARROWED],
                "answers_lost_between_windows": fates[LOST],
                "answers_without_tokens": fates[UNSEEN],
            }
        return counts

    def show(self, feature: Row, tokenizer: Any) -> str:
        """Return a window as text, with ``⟦…⟧`` round the tokens that the labels point at."""
        ids = list(feature["input_ids"])
        if feature.get("start_positions") is None:
            return _decoded(tokenizer, ids)
        first, last = int(feature["start_positions"]), int(feature["end_positions"])
        marked = _marked(tokenizer, ids, first, last)
        return f"{marked} (no answer here)" if first == last == feature.get("null_token") else marked

    def collator(self, tokenizer: Any, model: Any = None) -> PadRight:
        """Return what pads on the right, whatever the tokenizer's side; see `PadRight`."""
        return PadRight(pad_token_id=tokenizer.pad_token_id or 0, pad_token_type_id=tokenizer.pad_token_type_id)

    def _questions(self, given: Sequence[str], tokenizer: Any) -> tuple[list[str], list[int] | None]:
        """Return the questions without leading space, cut if asked to, and how many tokens each lost."""
        questions = [question.lstrip() for question in given]
        if self.max_question_length is None:
            return questions, None
        cut = {question: _cut(tokenizer, question, self.max_question_length) for question in set(questions)}
        return [cut[question][0] for question in questions], [cut[question][1] for question in questions]


def _columns(windows: Layout, *, types: bool) -> dict[str, Any]:
    """Return the columns that do not depend on answers; lists of numbers are small numpy arrays, one a window."""
    rows = list(zip(windows.pointer[:-1].tolist(), windows.pointer[1:].tolist(), strict=True))
    lengths = windows.stop - windows.begin
    context = spread(windows.tokens.pointer[windows.text] + windows.begin, lengths)
    stops = np.cumsum(lengths)
    held = list(zip((stops - lengths).tolist(), stops.tolist(), strict=True))

    def split(flat: Any, kind: Any, places: list[tuple[int, int]]) -> list[Any]:
        small = flat.astype(kind)
        return [small[start:stop] for start, stop in places]

    made: dict[str, Any] = {
        "input_ids": split(windows.input_ids, np.int32, rows),
        "attention_mask": split(np.ones(len(windows.input_ids)), np.int8, rows),
    }
    if types:
        made["token_type_ids"] = split(windows.token_type_ids, np.int8, rows)
    return made | {
        "overflow_to_sample_mapping": windows.example.tolist(),
        "context_first_token": windows.context_first_token.tolist(),
        "null_token": windows.null_token.tolist(),
        "start_chars": split(windows.tokens.start_chars[context], np.int32, held),
        "end_chars": split(windows.tokens.end_chars[context], np.int32, held),
    }


def _labels(windows: Layout, answers: Sequence[tuple[str, int] | None], first: Any) -> dict[str, list[int]]:
    """Return where each window's answer starts and ends, and what became of each example's answer.

    The tokens that touch the answer are found in the whole context; a window that lacks any of them has no answer, so
    a cut answer is never half-labelled.
    """
    tokens, opening = windows.tokens, np.flatnonzero(first)
    text = windows.text[opening]
    has = np.array([each is not None for each in answers], bool)
    begin = np.array([each[1] if each else 0 for each in answers], np.int64)
    end = np.array([each[1] + len(each[0]) if each else 0 for each in answers], np.int64)
    begin, end = tokens.seen_after(text, begin), tokens.seen_before(text, end)
    first_token, last_token = touching(tokens, text, begin, end)
    covered = has & (begin < end) & (first_token <= last_token)
    a, b = first_token[windows.example], last_token[windows.example]
    here = covered[windows.example] & (windows.begin <= a) & (b < windows.stop)
    shift = windows.context_first_token - windows.begin
    found = np.zeros(len(answers), bool)
    found[windows.example[here]] = True
    fate = _fates(tokens, text, (begin, end), (first_token, last_token), has=has, covered=covered, found=found)
    return {
        "start_positions": np.where(here, a + shift, windows.null_token).tolist(),
        "end_positions": np.where(here, b + shift, windows.null_token).tolist(),
        "answer_fate": np.where(first, fate[windows.example], NO_ANSWER).tolist(),
    }


def _fates(
    tokens: Tokens, text: Ints, chars: tuple[Ints, Ints], span: tuple[Ints, Ints], *, has: Any, covered: Any, found: Any
) -> Ints:
    if not len(tokens.ids):
        return np.where(has, UNSEEN, NO_ANSWER)
    base = tokens.pointer[text]
    start = tokens.start_chars[np.where(covered, base + span[0], 0)]
    stop = tokens.end_chars[np.where(covered, base + span[1], 0)]
    fate = np.where((start < chars[0]) | (stop > chars[1]), WIDENED, EXACT)
    fate = np.where((start > chars[0]) | (stop < chars[1]), NARROWED, fate)
    fate = np.where(found, fate, np.where(covered, LOST, UNSEEN))
    return np.where(has, fate, NO_ANSWER)


def _cut(tokenizer: Any, question: str, longest: int) -> tuple[str, int]:
    """Return a question cut to so many tokens, and how many it lost; a cut text may tokenise anew, so look again."""
    encoding = alone(tokenizer, [question])[0]
    length = kept = len(encoding)
    while kept > longest:
        end = min(encoding.offsets[longest - 1][1], len(question) - 1)
        question = question[:end].rstrip()
        encoding = alone(tokenizer, [question])[0]
        kept = len(encoding)
    return question, length - kept


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return text


def _marked(tokenizer: Any, ids: list[int], first: int, last: int) -> str:
    whole = _decoded(tokenizer, ids)
    before, upto = _decoded(tokenizer, ids[:first]), _decoded(tokenizer, ids[: last + 1])
    if not (whole.startswith(upto) and upto.startswith(before)):  # decoding a part gave something else: mark the parts
        parts = before, _decoded(tokenizer, ids[first : last + 1]), _decoded(tokenizer, ids[last + 1 :])
        return f"{parts[0]} ⟦{parts[1].strip()}⟧ {parts[2]}"
    inside = upto[len(before) :]
    gap = inside[: len(inside) - len(inside.lstrip())]
    return f"{before}{gap}⟦{inside.strip()}⟧{whole[len(upto) :]}"
