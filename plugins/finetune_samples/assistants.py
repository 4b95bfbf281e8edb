"""Make a chat model: a decoder trained further on chats."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune.kit import PadRight
from finetune_samples import catalogue, chats, pretraining
from finetune_samples.ingredients import Made, Teaching


def taught(teaching: Teaching, start: Path) -> Made:
    """Return a model trained on chats, starting from the base model in a folder."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(start), AutoTokenizer.from_pretrained(start)
    tokenizer.chat_template = chats.TEMPLATE
    rows = [row for name in teaching.chats for row in catalogue.load(name, seed=teaching.seed)["train"]]
    features = chats.features([row["messages"] for row in rows], tokenizer)
    schedule = pretraining.Schedule(
        steps=teaching.steps, batch=teaching.batch, learning_rate=teaching.learning_rate, seed=teaching.seed
    )
    loss = pretraining.fit(model, features, PadRight(pad_token_id=tokenizer.pad_token_id), schedule)
    return Made(model=model, tokenizer=tokenizer, texts=len(rows), loss=loss)
