"""CPU seconds, wall time and peak memory of each phase before a model is loaded, for growing data sets.

Texts of 20 to 40 words are generated, and a WordPiece tokenizer is trained on such texts. Each measurement is a process
of its own: without a cache, with an empty one, and with the features of the second one.

python tests/benchmarks/preparation.py                       # 1,000, 10,000 and 100,000 rows, 1 thread
python tests/benchmarks/preparation.py --rows 1000000        # some 10 CPU minutes
python tests/benchmarks/preparation.py --threads 1,2         # the threads of the tokenizer
python tests/benchmarks/preparation.py --task token-classification --rows 20000
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

HELD_OUT = 2_000
WORK = """
import json, resource, sys, time
from contextlib import contextmanager
from pathlib import Path
from finetune import plan, recipe
from finetune.data.preparation import prepare
from finetune.plugins import discover
from finetune.progress import Reporter

class Measured(Reporter):
    found = []
    @contextmanager
    def phase(self, name):
        began = time.process_time()
        with super().phase(name):
            yield
        self.found.append([name, time.process_time() - began, self.phases[-1].seconds, self.phases[-1].peak_memory_mb])

content, cache = json.loads(sys.argv[1]), sys.argv[2]
made = plan.make(recipe.from_mapping(content), discover())
prepare(made, reporter=Measured(), cache=Path(cache) if cache else None)
print(json.dumps(Measured.found))
"""


def vocabulary(random: np.random.Generator) -> list[str]:
    """Return 20,000 invented words, the shorter ones first."""
    syllables = [first + second for first in "bdfghklmnprstvw" for second in ("a", "e", "i", "o", "u", "an", "er")]
    words = set(syllables)
    while len(words) < 20_000:
        words.add("".join(random.choice(syllables, size=random.integers(2, 4))))
    return sorted(words, key=lambda word: (len(word), word))


def texts(rows: int, *, seed: int) -> Iterator[list[str]]:
    """Yield the words of each text; their frequencies follow Zipf's law."""
    words = vocabulary(np.random.default_rng(0))
    shares = np.cumsum(1 / np.arange(1, len(words) + 1))
    random = np.random.default_rng(seed)
    for _ in range(rows):
        drawn = np.searchsorted(shares, random.random(random.integers(20, 41)) * shares[-1])
        yield [words[place] for place in drawn]


def write_rows(path: Path, rows: int, *, seed: int, task: str) -> None:
    """Write a file of JSON lines."""
    with path.open("w") as file:
        for number, words in enumerate(texts(rows, seed=seed)):
            row: dict[str, Any] = {"text": " ".join(words).capitalize() + ".", "label": "abcd"[number % 4]}
            if task == "token-classification":
                row = {
                    "tokens": words,
                    "ner_tags": [("O", "B-PER")[(place + number) % 7 == 0] for place in range(len(words))],
                }
            file.write(json.dumps(row) + "\n")


def write_model(folder: Path) -> None:
    """Write a tiny model and a WordPiece tokenizer of 8,000 tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    from finetune.testing.models import tiny_model

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(
        map(" ".join, texts(20_000, seed=1)), trainers.WordPieceTrainer(vocab_size=8_000, special_tokens=special)
    )
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    tiny_model("bert", PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=512, **names), folder)


def measure(recipe: dict[str, Any], *, cache: str, threads: int) -> list[tuple[str, float, float, float]]:
    """Return the name, CPU seconds, seconds and peak memory of each phase of one preparation."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": str(threads)}
    environment["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
    done = subprocess.run(
        [sys.executable, "-c", WORK, json.dumps(recipe), cache],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return [tuple(row) for row in json.loads(done.stdout.splitlines()[-1])]


def main() -> None:
    """Print a row for each data set, setting and phase."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="1000,10000,100000")
    parser.add_argument("--threads", default="1")
    parser.add_argument(
        "--task", default="text-classification", choices=("text-classification", "token-classification")
    )
    given = parser.parse_args()
    print(f"{'rows':>9} {'threads':>7}  {'cache':7}{'phase':46}{'CPU s':>8}{'wall s':>8}{'peak MiB':>10}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_model(folder / "model")
        write_rows(folder / "test.jsonl", HELD_OUT, seed=2, task=given.task)
        for rows in map(int, given.rows.split(",")):
            write_rows(folder / "train.jsonl", rows, seed=3, task=given.task)
            recipe = {
                "task": given.task, "model": str(folder / "model"), "strategy": "full", "output": str(folder / "run"),
                "dataset": {"path": {split: str(folder / f"{split}.jsonl") for split in ("train", "test")}},
            }  # fmt: skip
            for threads in map(int, given.threads.split(",")):
                for name, cache in (("none", ""), ("empty", f"{rows}-{threads}"), ("full", f"{rows}-{threads}")):
                    path = str(folder / cache) if cache else ""
                    for phase, cpu, wall, peak in measure(recipe, cache=path, threads=threads):
                        print(
                            f"{rows:>9,} {threads:>7}  {name:7}{phase:46}{cpu:>8.2f}{wall:>8.2f}{peak:>10.0f}",
                            flush=True,
                        )


if __name__ == "__main__":
    main()
