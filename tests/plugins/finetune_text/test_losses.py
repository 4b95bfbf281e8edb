"""Losses: torch's own, and the same step however a batch is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from finetune_text.classification import TextClassificationPreprocessor
from finetune_text.losses import CrossEntropy
from finetune_text.multi_label import MultiLabelPreprocessor
from finetune_text.regression import TextRegressionPreprocessor


def fitted(labels, **options):
    rows = [{"text": "x", "label": f"c{label}"} for label in labels]
    return TextClassificationPreprocessor(labels=tuple(f"c{k}" for k in range(max(labels) + 1)), **options).fit(rows)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=30), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_over_the_training_rows_balanced_weights_give_torchs_weighted_cross_entropy(labels, seed):
    width = max(labels) + 1
    logits = torch.randn(len(labels), width, generator=torch.Generator().manual_seed(seed))
    there = np.unique(labels)
    weights = torch.zeros(width)
    balanced = compute_class_weight("balanced", classes=there, y=np.array(labels))
    weights[there] = torch.tensor(balanced, dtype=torch.float32)
    expected = nn.CrossEntropyLoss(weight=weights)(logits, torch.tensor(labels))
    ours = fitted(labels, class_weights="balanced").loss()({"logits": logits}, torch.tensor(labels))
    assert ours.item() == pytest.approx(expected.item(), rel=1e-4)


def test_given_weights_give_torchs_weighted_cross_entropy_whatever_their_scale():
    labels, logits = [0, 1, 1, 2, 1, 0], torch.randn(6, 3, generator=torch.Generator().manual_seed(7))
    expected = nn.CrossEntropyLoss(weight=torch.tensor([3.0, 1.0, 0.5]))(logits, torch.tensor(labels)).item()
    for scale in (1, 10):
        loss = fitted(labels, class_weights={"c0": 3.0 * scale, "c1": 1.0 * scale, "c2": 0.5 * scale}).loss()
        assert loss({"logits": logits}, torch.tensor(labels)).item() == pytest.approx(expected, rel=1e-5)


def test_a_label_without_weight_weighs_one():
    assert fitted([0, 1], class_weights={"c0": 3.0}).loss().weights == pytest.approx((1.5, 0.5))


def test_no_weights_and_no_smoothing_are_plain_cross_entropy():
    labels, logits = torch.tensor([0, 1, 1]), torch.randn(3, 2)
    assert torch.allclose(fitted([0, 1]).loss()((logits,), labels), nn.CrossEntropyLoss()(logits, labels))
    smooth = fitted([0, 1], label_smoothing=0.1).loss()
    assert torch.allclose(smooth((logits,), labels), nn.CrossEntropyLoss(label_smoothing=0.1)(logits, labels))


@given(st.lists(st.integers(0, 2), min_size=1, max_size=12), st.sampled_from([1.0, 2.0, 5.0]), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_the_focal_loss_is_that_of_the_paper(labels, gamma, seed):
    """Lin et al. 2017: FL(p) = -weight · (1 - p)^gamma · log p, for each row, and for each label of each row."""
    logits = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(seed)).double().requires_grad_()
    weights, expected = (0.5, 1.0, 2.0), []
    for row, label in zip(logits.softmax(-1).tolist(), labels, strict=True):
        expected.append(-weights[label] * (1 - row[label]) ** gamma * np.log(row[label]))
    loss = CrossEntropy(weights=weights, focal_gamma=gamma)((logits,), torch.tensor(labels))
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-4)

    truth, expected = torch.eye(3)[labels], []
    for row, wanted in zip(logits.sigmoid().tolist(), truth.tolist(), strict=True):
        for there, right in zip(row, wanted, strict=True):
            probability = there if right else 1 - there
            expected.append(-((1 - probability) ** gamma) * np.log(probability))
    loss = MultiLabelPreprocessor(focal_gamma=gamma).loss()((logits,), truth)
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-4)


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_a_sure_answer_has_a_gradient(gamma):
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    for loss, labels in (
        (fitted([0, 1], focal_gamma=gamma).loss(), torch.tensor([0, 0])),
        (MultiLabelPreprocessor(focal_gamma=gamma).loss(), torch.tensor([[1.0, 0.0], [1.0, 0.0]])),
    ):
        (gradient,) = torch.autograd.grad(loss((logits,), labels), logits)
        assert gradient.isfinite().all() and gradient[0].abs().max() == 0 and gradient[1].abs().min() > 0


@pytest.mark.parametrize(
    "options", [{"focal_gamma": -1.0}, {"focal_gamma": 0.5}, {"focal_gamma": 2.0, "label_smoothing": 0.1}]
)
def test_focal_options_without_a_meaning_are_refused(options):
    with pytest.raises(ValueError, match="focal_gamma"):
        TextClassificationPreprocessor(**options)


def test_multi_label_and_regression_losses_are_torchs():
    logits, truth = torch.randn(4, 3), torch.tensor([[1.0, 0, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    assert torch.allclose(
        MultiLabelPreprocessor().loss()({"logits": logits}, truth), nn.BCEWithLogitsLoss()(logits, truth)
    )
    numbers, wanted = torch.randn(4, 1), torch.tensor([1.0, 2.0, -3.0, 0.5])
    assert torch.allclose(
        TextRegressionPreprocessor().loss()({"logits": numbers}, wanted), nn.MSELoss()(numbers[:, 0], wanted)
    )


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_the_shares_of_accumulated_batches_add_up_to_the_loss_of_all(sizes, seed):
    torch.manual_seed(seed)
    total = sum(sizes)
    single = torch.randint(0, 3, (total,))
    for loss, labels, items in (
        (fitted([0, 1, 2, 2], class_weights="balanced").loss(), single, total),
        (MultiLabelPreprocessor().loss(), torch.randint(0, 2, (total, 3)).float(), 3 * total),
    ):
        logits = torch.randn(total, 3)
        parts = zip(logits.split(sizes), labels.split(sizes), strict=True)
        shares = [loss({"logits": some}, those, num_items_in_batch=torch.tensor(items)) for some, those in parts]
        assert torch.allclose(sum(shares), loss({"logits": logits}, labels), rtol=1e-4, atol=1e-5)


def one_step(preprocessor, labels, folder, *, batch, accumulation):
    torch.manual_seed(0)
    options = {name: value for name, value in preprocessor.model_options().items() if not name.endswith("2label")}
    config = BertConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **options,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    ids = [[k, k + 3, 2 * k] for k in range(len(labels))]
    train = Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * 3] * len(labels), "labels": labels})
    arguments = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation,
        max_steps=1, learning_rate=0.5, optim="sgd", max_grad_norm=0.0, use_cpu=True, disable_tqdm=True,
        report_to="none", save_strategy="no", logging_strategy="no", lr_scheduler_type="constant",
        dataloader_pin_memory=False,
    )  # fmt: skip
    Trainer(model=model, args=arguments, train_dataset=train, compute_loss_func=preprocessor.loss()).train()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize(
    ("preprocessor", "labels"),
    [
        (fitted([0, 1, 1, 1], class_weights="balanced"), [0, 1, 1, 1, 0, 1, 1, 1]),
        (fitted([0, 1]), [0, 1, 1, 1, 0, 1, 1, 1]),
        (fitted([0, 1], focal_gamma=2.0), [0, 1, 1, 1, 0, 1, 1, 1]),
        (MultiLabelPreprocessor(labels=("a", "b", "c")), [[1.0, 0.0, 0.0]] * 4 + [[0.0, 1.0, 1.0]] * 4),
        (TextRegressionPreprocessor(), [1.0, 2.0, 3.0, -1.0, 0.0, 5.0, 2.0, 2.0]),
    ],
    ids=["weighted", "plain", "focal", "multi-label", "regression"],
)
def test_four_accumulated_batches_make_the_step_of_one(preprocessor, labels, tmp_path):
    whole = one_step(preprocessor, labels, tmp_path, batch=8, accumulation=1)
    parts = one_step(preprocessor, labels, tmp_path, batch=2, accumulation=4)
    assert torch.allclose(whole, parts, atol=1e-6)
