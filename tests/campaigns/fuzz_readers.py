"""Mutate small valid data files of every format, and read them for every task until features are made.

``python tests/campaigns/fuzz_readers.py`` measures the line "fuzzed readers": for 10 minutes, every pair of a task and
a format gets one file after another, spoiled in a new way. The reader, the checks and the features either take the file
or refuse it with an error of finetune. Any other exception is a crash; a file that takes over 10 seconds is a hang.
``--first N --files 1`` repeats file N of a seed.
"""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import argparse
import copy
import csv
import faulthandler
import io
import json
import random
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))

import mutations
import pyarrow as pa
import pyarrow.parquet as pq
import small
from cases import case
from scorecard import Line, record

from finetune import plan as plans
from finetune import recipe as recipes
from finetune.data.preparation import prepare
from finetune.plan import Plan
from finetune.plugins import discover, resolve
from finetune.recipe import Source
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer

PLUGINS = discover()
GROWTH = 1024
"""MiB by which the peak memory of the process may grow while it reads."""

Row = dict[str, Any]
TEXTS = ("the pier lies in fog", "salt and tar, “rope”", "Zoë sails at noon.", "a quay", "two boats; one net", "gulls")


def _asked(text: str, number: int) -> Row:
    word = text.split()[0]
    answers = {"text": [word], "answer_start": [0]} if number % 3 else {"text": [], "answer_start": []}
    return {"id": str(number), "question": f"what {number}", "context": text, "answers": answers}


def _chat(text: str, number: int) -> Row:
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": f"yes {number}"}]
    return {"messages": [{"role": "system", "content": "be kind"}, *turns] if number % 2 else turns}


def _preferred(text: str, number: int) -> Row:
    if number < 0:
        return {}
    return {"prompt": text, "chosen": f" good {number}", "rejected": f" bad {number}"}


def _preferred_chat(text: str, number: int) -> Row:
    answers = [[{"role": "assistant", "content": f"{word} {number}"}] for word in ("good", "bad")]
    return {"prompt": [{"role": "user", "content": text}], "chosen": answers[0], "rejected": answers[1]}


TABLES = ("csv", "tsv", "jsonl", "json", "parquet", "arrow", "csv.gz", "jsonl.gz")
NESTED = ("jsonl", "json", "parquet", "arrow", "json.gz")

ROWS: Mapping[str, tuple[Callable[[str, int], Row], tuple[str, ...]]] = {
    "text-classification": (lambda text, n: {"text": text, "label": ["sea", "land"][n % 2]}, (*TABLES, "fasttext")),
    "text-regression": (lambda text, n: {"text": text, "label": n / 4}, TABLES),
    "multi-label-classification": (
        lambda text, n: {"text": text, "label": ["sea", "land", "air"][: 1 + n % 3]},
        (*NESTED, "fasttext"),
    ),
    "token-classification": (
        lambda text, n: {"tokens": text.split(), "ner_tags": ["B-X", *["O"] * (len(text.split()) - 1)]},
        (*NESTED, "conll", "conllu", "spans"),
    ),
    "question-answering": (_asked, (*NESTED, "squad")),
    "multiple-choice": (lambda text, n: {"context": text, "question": "which", "choices": ["a b", "c", "d", "e"],
                                         "label": n % 4}, NESTED),
    "summarization": (lambda text, n: {"document": text, "summary": text.split()[0]}, TABLES),
    "translation": (lambda text, n: {"source": text, "target": text.upper()}, TABLES),
    "text-to-text": (lambda text, n: {"source": text, "target": f"{n}"}, ("csv", "jsonl", "parquet")),
    "sft": (_chat, NESTED),
    "dpo": (_preferred, (*NESTED, "csv")),
    "dpo, chats": (_preferred_chat, ("jsonl", "parquet")),
    "kto": (lambda text, n: {"prompt": text, "completion": f" so {n}", "label": n % 2 == 0}, (*NESTED, "csv")),
    "reward": (_preferred, ("jsonl", "arrow")),
    "grpo": (lambda text, n: {"prompt": text}, ("jsonl", "csv")),
    "masked-language-modeling": (lambda text, n: {"text": text}, (*TABLES, "lines", "paragraphs")),
    "causal-language-modeling": (lambda text, n: {"text": text}, ("csv", "jsonl", "parquet", "lines", "paragraphs")),
}  # fmt: skip
"""Task, and what of it → what makes a good row, and the formats that can hold it."""


@dataclass(frozen=True)
class Pair:
    """A task and a format."""

    name: str
    """The task, with what of it its rows show."""
    form: str

    @property
    def task(self) -> str:
        """The task."""
        return self.name.partition(",")[0]

    def rows(self, shift: int) -> list[Row]:
        """Return twelve good rows."""
        make = ROWS[self.name][0]
        return [make(f"{TEXTS[(number + shift) % len(TEXTS)]} {number}", number) for number in range(12)]


PAIRS = tuple(Pair(name, form) for name, (_, forms) in ROWS.items() for form in forms)

SUFFIXES = {"fasttext": "txt", "lines": "txt", "paragraphs": "txt", "spans": "jsonl", "squad": "json"}


def written(rows: Sequence[Row], form: str) -> bytes:
    """Return rows as the content of a file, not compressed.

    Raises:
        ValueError, OverflowError: The format cannot hold them.
    """
    form = form.removesuffix(".gz")
    if form in ("parquet", "arrow"):
        return _binary(rows, form)
    return _text(rows, form).encode("utf-8", "surrogatepass")


def _binary(rows: Sequence[Row], form: str) -> bytes:
    stream, table = io.BytesIO(), pa.Table.from_pylist(list(rows))
    if form == "parquet":
        pq.write_table(table, stream)
    else:
        with pa.ipc.new_file(stream, table.schema) as file:
            file.write_table(table)
    return stream.getvalue()


def _text(rows: Sequence[Row], form: str) -> str:
    if form in ("csv", "tsv"):
        cells = io.StringIO()
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.writer(cells, delimiter="," if form == "csv" else "\t", lineterminator="\n")
        writer.writerow(names)
        for row in rows:
            values = [row.get(name, "") for name in names]
            writer.writerow([json.dumps(each) if isinstance(each, list | dict) else each for each in values])
        return cells.getvalue()
    if form == "json":
        return json.dumps(rows, indent=1)
    if form == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    texts = [str(row.get("text", "")) for row in rows]
    if form in ("lines", "paragraphs"):
        return ("\n" if form == "lines" else "\n\n").join(texts) + "\n"
    if form == "fasttext":
        labels = [row.get("label") for row in rows]
        marks = [
            " ".join(f"__label__{each}" for each in (label if isinstance(label, list) else [label])) for label in labels
        ]
        return "".join(f"{mark} {text}\n" for mark, text in zip(marks, texts, strict=True))
    if form == "squad":
        return _squad(rows)
    return _tagged(rows, form)


def _squad(rows: Sequence[Row]) -> str:
    paragraphs = []
    for row in rows:
        answers = row.get("answers")
        listed: Any = answers
        if isinstance(answers, dict) and all(isinstance(answers.get(name), list) for name in ("text", "answer_start")):
            pairs = zip(answers["text"], answers["answer_start"], strict=False)
            listed = [{"text": text, "answer_start": start} for text, start in pairs]
        question = {"id": row.get("id"), "question": row.get("question"), "answers": listed}
        paragraphs.append({"context": row.get("context"), "qas": [{**question, "is_impossible": not listed}]})
    return json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]})


def _tagged(rows: Sequence[Row], form: str) -> str:
    lines = []
    for number, row in enumerate(rows):
        words, tags = row.get("tokens"), row.get("ner_tags")
        words, tags = (each if isinstance(each, list) else [each] for each in (words, tags))
        if form == "spans":
            end = len(str(words[0])) if words else 0
            marks = [[0, end, "PER"]] if number % 2 else [{"start_offset": 0, "end_offset": end, "label": "PER"}]
            lines.append(json.dumps({"text": " ".join(map(str, words)), "entities": marks}))
        elif form == "conllu":
            lines.append(f"# sent_id = {number}")
            for place, (word, tag) in enumerate(zip(words, tags, strict=False), 1):
                lines.append("\t".join([str(place), str(word), "_", str(tag), *"_" * 5, "SpaceAfter=No"]))
            lines.append("")
        else:
            lines += [f"{word} {tag}" for word, tag in zip(words, tags, strict=False)] + [""]
    return "\n".join(lines) + "\n"


def spoiled(pair: Pair, draw: random.Random) -> tuple[bytes, str]:
    """Return a file of a pair that is spoiled in some way, and in which."""
    rows, done = copy.deepcopy(pair.rows(0)), []
    if draw.random() < 0.5:
        for _ in range(draw.choice([1, 1, 2, 4])):
            if draw.random() < 0.3:  # a column of one kind, which Parquet can hold too
                name, value = draw.choice(list(rows[0])), draw.choice(mutations.VALUES)
                for row in rows:
                    row[name] = value
                done.append(f"column {name!r} is {str(value)[:20]!r}")
            else:
                done.append(mutations.mutate_tree(rows, draw))
            rows = [row for row in rows if isinstance(row, dict) and row] or pair.rows(0)
    try:
        content = written(rows, pair.form)
    except (ValueError, TypeError, OverflowError, pa.ArrowException):
        content, done = written(pair.rows(0), pair.form), []
    if not done or draw.random() < 0.2:
        forms = [each for each in ("csv", "jsonl", "json", "parquet") if each in ROWS[pair.name][1]]
        other = written(pair.rows(3), draw.choice([pair.form, *forms]))
        content, names = mutations.mutated(content, other, draw)
        done += names
    if pair.form.endswith(".gz"):
        content = mutations.gzipped(content, draw)
    return content, ", ".join(done)


class Reader:
    """Reads files of a pair as ``finetune check`` does: everything that needs no weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plans: dict[str, Plan] = {}

    def plan(self, pair: Pair) -> Plan:
        """Return the plan of a task, with a tiny model."""
        if pair.task not in self.plans:
            of = case(pair.task)
            base = self.folder / f"{of.family}-{of.words}"
            if not base.exists():
                tiny_model(of.family, tokenizer(of.words, vocab_size=600), base, model_class=small.HEADS[of.family])
            preprocessor = dict(of.preprocessor)
            known = {each.name for each in fields(resolve(PLUGINS.find("tasks", pair.task).preprocessor))}
            if "chat_template" in known:
                preprocessor["chat_template"] = "plain"
            content = {"task": pair.task, "model": str(base), "dataset": "none", "strategy": "full", "output": "none",
                       "preprocessor": preprocessor, "generation": dict(of.generation)}  # fmt: skip
            self.plans[pair.task] = plans.make(recipes.parse(content), PLUGINS)
        return self.plans[pair.task]

    def __call__(self, pair: Pair, path: Path, source: Mapping[str, Any]) -> object:
        """Read a file, check its rows and make features."""
        plan = self.plan(pair)
        dataset = Source(path={"train": str(path)}, **source)
        return prepare(replace(plan, recipe=replace(plan.recipe, dataset=dataset)))


Read = Callable[[Pair, Path, Mapping[str, Any]], object]


@dataclass
class Figures(mutations.Tally):
    """What the files showed."""

    pairs: set[Pair] = field(default_factory=set)
    """Those that got a file."""
    growth: int = 0
    """MiB by which the peak memory grew, after every pair had read a valid file."""


def source_of(pair: Pair, draw: random.Random) -> dict[str, Any]:
    """Return the keys of `dataset` with which a file is read."""
    form = pair.form.removesuffix(".gz").replace("conllu", "conll")
    options = {"multi_label": True} if form == "fasttext" and pair.task.startswith("multi") else {}
    given = form if form in SUFFIXES or options or draw.random() < 0.3 else None
    bad, size = draw.choice(["error", "drop", "drop"]), draw.choice([0.0, 0.0, 0.3])
    return {"format": given, "options": options, "on_bad": bad, "validation_size": size}


def measure(
    *, seed: int, folder: Path, seconds: float, files: int | None = None, first: int = 0,
    pairs: Sequence[Pair] = PAIRS, read: Read | None = None,
) -> Figures:  # fmt: skip
    """Read spoiled files, each pair in turn.

    Args:
        seed: Seed of everything.
        folder: Where the files and the models are written.
        seconds: When to stop.
        files: How many files to read at most.
        first: Number of the first file.
        pairs: Tasks and formats.
        read: What reads the files; None for the product.
    """
    read, figures = read or Reader(folder), Figures(seed)
    for pair in pairs:
        path = folder / f"valid.{SUFFIXES.get(pair.form, pair.form)}"
        content = written(pair.rows(0), pair.form)
        path.write_bytes(mutations.gzip.compress(content) if pair.form.endswith(".gz") else content)
        # a valid file is read, or the mutations would stop at the door
        read(pair, path, {**source_of(pair, random.Random(0)), "on_bad": "error", "validation_size": 0.0})
    before, ends = _peak(), time.monotonic() + seconds
    for number in mutations.numbers(first, files):
        if time.monotonic() > ends:
            break
        pair, draw = pairs[number % len(pairs)], random.Random(f"{seed}-{number}")
        content, done = spoiled(pair, draw)
        path = folder / f"{number}.{SUFFIXES.get(pair.form, pair.form)}"
        path.write_bytes(content)
        source, where = source_of(pair, draw), f"{number}: {pair.name}, {pair.form}: {done}"
        figures.attempt(lambda pair=pair, path=path, source=source: read(pair, path, source), where)
        figures.pairs.add(pair)
        path.unlink()
    figures.growth = _peak() - before
    return figures


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Measure the line, and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--files", type=int, help="most files to read")
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--seed", type=int, default=0)
    options, started = parser.parse_args(), time.monotonic()
    warnings.simplefilter("ignore")
    faulthandler.enable()
    with tempfile.TemporaryDirectory(prefix="campaign-fuzz-") as folder:
        found = measure(
            seed=options.seed,
            folder=Path(folder),
            seconds=60 * options.minutes,
            files=options.files,
            first=options.first,
        )
    print("\n".join([*found.crashes, *(f"hang: {where}" for where in found.hangs), f"{found.kinds}"]))
    record(
        Line(
            name="fuzzed readers",
            goal="0 crashes, 0 hangs in 10 minutes",
            stock="not measured",
            ours=f"{found.files:,} files of {len(found.pairs)} pairs of task and format in {options.minutes:g} "
            f"minutes: {found.refused:,} refused, {found.loaded:,} loaded, {found.crashed} crashes, {len(found.hangs)} "
            f"hangs; the slowest took {found.slowest:.1f} seconds, and the peak memory grew by {found.growth} MiB",
            met=not found.crashes and not found.hangs and found.growth < GROWTH and options.minutes >= 10,
            not_covered="Files of more than some hundred kilobytes; data sets of the Hub; the training itself.",
        ),
        started=started,
    )


if __name__ == "__main__":
    main()
