"""Training tags: the loss whatever the batches, and a model that learns, is reloaded and predicts."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import BertConfig, BertForTokenClassification, Trainer, TrainingArguments

import finetune
from finetune.errors import Incompatible
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_text.losses import TagCrossEntropy
from finetune_text.token_classification import TokenClassificationPreprocessor

LABELS = st.lists(st.lists(st.sampled_from([-100, 0, 1, 2]), min_size=4, max_size=4), min_size=2, max_size=6)


@given(LABELS, st.sampled_from([0.0, 0.1]), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_loss_is_torchs_and_the_shares_of_accumulated_batches_add_up_to_it(labels, smoothing, seed):
    labels = torch.tensor(labels)
    logits = torch.randn(*labels.shape, 3, generator=torch.Generator().manual_seed(seed))
    loss = TagCrossEntropy(label_smoothing=smoothing)
    items = (labels != -100).sum()
    if items == 0:
        assert loss({"logits": logits}, labels).item() == loss((logits,), labels, items).item() == 0.0
        return
    expected = nn.CrossEntropyLoss(label_smoothing=smoothing)(logits.view(-1, 3), labels.view(-1))
    assert torch.allclose(loss({"logits": logits}, labels), expected, atol=1e-6)
    shares = [loss({"logits": some[None]}, those[None], items) for some, those in zip(logits, labels, strict=True)]
    assert torch.allclose(sum(shares), expected, atol=1e-5)
    assert torch.allclose(loss((logits,), labels, int(items)), expected, atol=1e-6)


def test_logits_of_virtual_tokens_are_refused_before_they_shift_the_tags():
    with pytest.raises(Incompatible, match="logits for 9 tokens where it got 5"):
        TagCrossEntropy()({"logits": torch.zeros(2, 9, 3)}, torch.zeros(2, 5, dtype=torch.long))


def one_step(folder, *, batch, accumulation):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=1000, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=2,
    )  # fmt: skip
    model, bert = BertForTokenClassification(config), tokenizer("bert")
    task = TokenClassificationPreprocessor(labels=("B-PER", "O"), label_ids=False, tag_counts={})
    sizes = (1, 9, 2, 7, 3, 8, 1, 5)  # words: batches of two hold different numbers of labels
    rows = {
        "tokens": [["salt", *["tar"] * (n - 1)] for n in sizes],
        "ner_tags": [["B-PER", *["O"] * (n - 1)] for n in sizes],
    }
    made = task.features(rows, bert)
    train = Dataset.from_dict({name: made[name] for name in ("input_ids", "attention_mask", "labels")})
    arguments = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation,
        max_steps=1, learning_rate=0.5, optim="sgd", max_grad_norm=0.0, use_cpu=True, disable_tqdm=True,
        report_to="none", save_strategy="no", logging_strategy="no", lr_scheduler_type="constant",
        dataloader_pin_memory=False,
    )  # fmt: skip
    Trainer(
        model=model, args=arguments, train_dataset=train, compute_loss_func=task.loss(),
        data_collator=task.collator(bert, model),
    ).train()  # fmt: skip
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_four_accumulated_batches_make_the_step_of_one(tmp_path):
    whole = one_step(tmp_path, batch=8, accumulation=1)
    parts = one_step(tmp_path, batch=2, accumulation=4)
    assert torch.allclose(whole, parts, atol=1e-6)


SENTENCES = (
    "Inès/B-PER Moreau/I-PER sold/O the/O Grey/B-SHIP Heron/I-SHIP",
    "Gulls/O circle/O",
    "Tomás/B-PER keeps/O the/O Gannet/B-SHIP",
    "the/O town/O wakes/O and/O Inès/B-PER Moreau/I-PER does/O not/O",
)
TRAIN = [
    dict(
        zip(
            ("tokens", "ner_tags"),
            map(list, zip(*(pair.split("/") for pair in sentence.split()), strict=True)),
            strict=True,
        )
    )
    for sentence in SENTENCES
]


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_model_learns_few_sentences_by_heart_and_predicts_them_once_reloaded(family, tmp_path):
    # GPT-2's tokenizer pads on the left and needs a space before each word; its model reads from the left alone.
    words = tokenizer(family)
    base = tiny_model(family, words, tmp_path / "base")
    result = finetune.train(
        task="token-classification", model=str(base), strategy="full", output=str(tmp_path / "run"),
        dataset={"train": TRAIN, "validation": TRAIN, "test": TRAIN},
        preprocessor={"max_length": 24},
        training={
            "max_steps": 60, "learning_rate": 1e-2, "per_device_train_batch_size": 4, "per_device_eval_batch_size": 2,
            "eval_strategy": "no", "save_strategy": "no", "lr_scheduler_type": "constant",
        },
        score_base_model=False,
    )  # fmt: skip
    assert (result.scores["test"]["f1"], result.scores["test"]["accuracy"]) == (1.0, 1.0)
    model = finetune.load(tmp_path / "run")
    assert model.model.config.id2label[0] == "B-PER"
    record = model.predict(tokens="Tomás keeps the Gannet")
    assert [(found["entity"], found["text"]) for found in record["prediction"]] == [
        ("PER", "Tomás"),
        ("SHIP", "Gannet"),
    ]
    assert model.predict(tokens=["Gulls", "circle"]) == {"prediction": [], "tags": ["O", "O"]}
