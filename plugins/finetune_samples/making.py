"""Make a base model from scratch: vocabulary, random weights, pretraining."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import torch

from finetune_samples import pretraining, vocabularies
from finetune_samples.corpora import corpus, rehearsals
from finetune_samples.ingredients import Made, Making
from finetune_samples.world import world


def pretrained(making: Making) -> Made:
    """Return a base model that was trained on roll calls, if it has any, and then on the texts of the town."""
    own = import_module(f"finetune_samples.{making.module}")
    town = world(making.seed)
    texts = corpus(making.seed, town)
    tokenizer = getattr(vocabularies, making.vocabulary)(texts, making.vocabulary_size)
    with torch.random.fork_rng():
        torch.manual_seed(making.seed)
        model = own.model(tokenizer, dict(making.size))
    schedule = pretraining.Schedule(
        steps=making.steps, batch=making.batch, learning_rate=making.learning_rate, seed=making.seed
    )
    if making.rehearsal:
        rolls = rehearsals(making.seed, town, making.rehearsal * making.batch * 2)
        features, collate = own.objective(tokenizer, rolls, making.seed)
        pretraining.fit(model, features, collate, replace(schedule, steps=making.rehearsal))
    features, collate = own.objective(tokenizer, texts, making.seed)
    loss = pretraining.fit(model, features, collate, schedule)
    return Made(model=model, tokenizer=tokenizer, texts=len(texts), loss=loss)
