"""The collator of windows in worker processes, which receive it pickled where processes are spawned."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch.utils.data import DataLoader

import finetune_squad
from finetune_squad.preprocessor import SquadPreprocessor

BATCH = {
    "question": ["Who?", "Where is it?"],
    "context": ["Gulls circle.", "Gulls circle over the old quay."],
    "answers": [{"text": ["Gulls"], "answer_start": [0]}, {"text": ["quay"], "answer_start": [26]}],
}


@pytest.mark.parametrize("name", ["bert", "xlnet", "gpt2"])
def test_the_collator_makes_the_same_batch_after_pickling_and_in_a_spawned_worker(family, name):
    windows = SquadPreprocessor()
    made = windows.features(BATCH, family(name))
    columns = [column for column in made if column in finetune_squad.tasks()["question-answering"].features]
    features = [{column: made[column][k] for column in columns} for k in range(2)]
    collator = windows.collator(family(name))
    batch = collator(features)
    assert set(batch) >= {"input_ids", "attention_mask", "start_positions", "end_positions"}
    loader = DataLoader(features, batch_size=2, collate_fn=collator, num_workers=1, multiprocessing_context="spawn")
    for other in (pickle.loads(pickle.dumps(collator))(features), *loader):
        assert set(other) == set(batch)
        assert all(torch.equal(batch[column], other[column]) for column in batch)
