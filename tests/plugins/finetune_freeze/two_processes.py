"""Four steps of gradual unfreezing by transformers' own trainer, a checkpoint after each: for `torchrun`.

python -m torch.distributed.run --nproc_per_node=2 two_processes.py BASE OUTPUT
"""

from __future__ import annotations

import sys
from copy import copy

import torch
import toy
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

from finetune.errors import Incompatible
from finetune_freeze.gradual import GradualStrategy

base, output = sys.argv[1:]
model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
strategy = GradualStrategy()
strategy.prepare(model, toy.TASK, newly_initialized={"bert.pooler.dense", "classifier"})
rows = [
    {"input_ids": torch.randint(5, 40, (8,), generator=torch.Generator().manual_seed(row)), "labels": row % 2}
    for row in range(32)
]
arguments = TrainingArguments(
    output, max_steps=4, per_device_train_batch_size=2, weight_decay=0.1, learning_rate=1e-3, use_cpu=True,
    save_strategy="steps", save_steps=1, report_to="none", disable_tqdm=True, dataloader_pin_memory=False,
)  # fmt: skip
assert arguments.world_size == 2
Trainer(model, arguments, train_dataset=rows, callbacks=list(strategy.callbacks())).train()

for refused in ({"ddp_find_unused_parameters": False}, {"activation_checkpointing": True}, {"ddp_static_graph": True}):
    other = copy(arguments)
    vars(other).update(refused)
    try:
        strategy.callbacks()[0].on_train_begin(other, None, None, model=model, train_dataloader=None)
    except Incompatible:
        continue
    raise AssertionError(f"{refused} was not refused")
