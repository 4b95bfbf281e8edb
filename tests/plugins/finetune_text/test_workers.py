"""Collators in worker processes, which receive them pickled where processes are spawned."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest
import torch
from transformers import DataCollatorWithPadding

from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_text.classification import TextClassificationPreprocessor
from finetune_text.multi_label import MultiLabelPreprocessor
from finetune_text.regression import TextRegressionPreprocessor
from finetune_text.token_classification import TokenClassificationPreprocessor

TEXTS = ["tar", "salt and tar"]
TASKS = [
    (TextClassificationPreprocessor(), {"text": TEXTS, "label": ["a", "b"]}),
    (MultiLabelPreprocessor(), {"text": TEXTS, "label": [["a"], ["a", "b"]]}),
    (TextRegressionPreprocessor(), {"text": TEXTS, "label": [1.5, 2.0]}),
    (TokenClassificationPreprocessor(), {"tokens": [["tar"], ["salt", "tar"]], "ner_tags": [["O"], ["B-A", "O"]]}),
]
MODEL_COLUMNS = ("input_ids", "attention_mask", "token_type_ids", "labels")


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize(("preprocessor", "columns"), TASKS)
def test_a_collator_makes_the_same_batch_after_pickling(preprocessor, columns, family):
    used = tokenizer(family)
    examples = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    made = preprocessor.fit(examples).features(columns, used)
    features = [{name: made[name][k] for name in MODEL_COLUMNS if name in made} for k in range(2)]
    collator = preprocessor.collator(used, None) or DataCollatorWithPadding(used)  # as the core falls back
    batch, unpickled = collator(features), pickle.loads(pickle.dumps(collator))(features)
    assert set(batch) == set(unpickled) >= {"input_ids", "attention_mask", "labels"}
    assert all(torch.equal(batch[name], unpickled[name]) for name in batch)


SCRIPT = """
import multiprocessing, json, sys
import finetune

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    recipe = json.loads(sys.argv[1])
    result = finetune.train(**recipe)
    print(json.dumps(result.scores["test"]))
"""


def test_a_run_with_a_spawned_worker_trains_and_scores(tmp_path):
    rows = [{"tokens": ["Inès", "sails"], "ner_tags": ["B-PER", "O"]}, {"tokens": ["it"], "ner_tags": ["O"]}] * 2
    (tmp_path / "run.py").write_text(SCRIPT, encoding="utf-8")  # a worker imports the main module from its file
    recipe = {
        "task": "token-classification",
        "model": str(tiny_model("bert", tokenizer("bert"), tmp_path / "base")),
        "strategy": "full",
        "output": str(tmp_path / "run"),
        "dataset": {"train": rows, "validation": rows, "test": rows},
        "preprocessor": {"max_length": 16},
        "training": {"dataloader_num_workers": 1, "max_steps": 2, "eval_strategy": "no", "save_strategy": "no"},
        "score_base_model": False,
    }
    command = [sys.executable, str(tmp_path / "run.py"), json.dumps(recipe)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 0 <= json.loads(done.stdout.splitlines()[-1])["accuracy"] <= 1
