"""Evaluation while training: no score depends on the order or the number of rows in a batch, and none is made twice."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback

import finetune
from finetune.training import evaluating
from finetune.training import trainer as training
from finetune.training.evaluating import Kept, MeanLoss, Order, digest


class Lengths:
    """Stands for a preprocessor whose features are their lengths."""

    def lengths(self, features: Any) -> Any:
        return features


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=12))
def test_an_order_is_undone(lengths: list[int]) -> None:
    order: Any = Order.of(lengths, Lengths())  # type: ignore[arg-type]
    table = np.array(lengths)
    assert (np.diff(table[order.places]) >= 0).all()
    one, two = order.undo((table[order.places], -table[order.places]))
    assert (one == table).all() and (two == -table).all()
    assert (order.undo(table[order.places]) == table).all()


def batches(rows: list[Any], cuts: list[int]) -> Iterator[list[Any]]:
    ends = sorted({cut % len(rows) for cut in cuts} - {0})
    for start, end in zip([0, *ends], [*ends, len(rows)], strict=True):
        yield rows[start:end]


@given(data=st.data())
def test_the_mean_loss_does_not_depend_on_the_batches(data: st.DataObject) -> None:
    """Also if a row has no label at all: the mean of its losses is NaN."""
    shifted = data.draw(st.booleans())
    label = st.integers(0, 4) | st.just(-100)
    rows = data.draw(st.lists(st.lists(label, min_size=3, max_size=3), min_size=1, max_size=6))
    cuts = data.draw(st.lists(st.integers(0, 9), max_size=4))
    torch.manual_seed(0)
    logits = torch.randn(len(rows), 3, 5, dtype=torch.float64)

    def loss(numbers: list[int], reduction: str) -> torch.Tensor:
        labels, scores = torch.tensor([rows[n] for n in numbers]), logits[numbers]
        if shifted:
            labels, scores = labels[:, 1:], scores[:, :-1]
        return functional.cross_entropy(scores.reshape(-1, 5), labels.reshape(-1), reduction=reduction)

    mean = MeanLoss(shifted=shifted)
    order = data.draw(st.permutations(range(len(rows))))
    for numbers in batches(list(order), cuts):
        labels = torch.tensor([rows[n] for n in numbers])
        mean.add(loss(numbers, "mean"), mean.labels_in({"input_ids": torch.ones(1), "labels": labels}))
    everything = list(range(len(rows)))
    count = sum(label != -100 for row in rows for label in row[int(shifted) :])
    expected = loss(everything, "sum").item() / count if count else float("nan")
    assert mean.value(type("One", (), {"num_processes": 1})) == pytest.approx(expected, nan_ok=True)


def test_rows_are_counted_where_labels_belong_to_rows() -> None:
    mean = MeanLoss(shifted=True)
    for labels in (torch.tensor([1, 0, 1]), torch.ones(3, 7), None):
        inputs = {"input_ids": torch.ones(3, 4, dtype=torch.int64), "labels": labels}
        assert mean.labels_in(inputs) == 3
    assert mean.labels_in([{"prompt": "x"}]) is None


# --- whole runs -------------------------------------------------------------------------------------------------------


def of_many_lengths(size: int) -> list[dict[str, str]]:
    draw = random.Random(size)
    rows = toy.rows(size, seed=size)
    for row in rows:
        words = row["text"].split()
        row["text"] = " ".join(words[: draw.randint(2, 8)] * draw.randint(1, 3))
    return rows


ROWS = {"train": of_many_lengths(24), "validation": of_many_lengths(11), "test": of_many_lengths(5)}
EVALUATED = {"num_train_epochs": 2, "max_steps": -1, "eval_strategy": "epoch", "save_strategy": "epoch"}


def trained(base: Path, output: Path, **more: Any) -> Any:
    options = {"training": {**EVALUATED, **more.pop("training", {})}, "dataset": ROWS, "general_text": "none"}
    return finetune.train(**toy.recipe(base, output, **{"score_base_model": False, **options, **more}))


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the numbers of rows that are predicted to score a run."""
    numbers: list[int] = []
    really = training._predicted

    def note(built: Any, features: Any, *args: Any) -> Any:
        numbers.append(len(features))
        return really(built, features, *args)

    monkeypatch.setattr(training, "_predicted", note)
    return numbers


def lines(folder: Path) -> Any:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_the_loss_of_an_evaluation_is_that_of_one_row_at_a_time(toy_base: Path, tmp_path: Path) -> None:
    found = []
    for size in (1, 4):
        result = trained(toy_base, tmp_path / f"{size}", training={"per_device_eval_batch_size": size})
        found.append([entry for entry in result.log if "eval_loss" in entry])
    for one, other in zip(*found, strict=True):
        assert one["eval_loss"] == pytest.approx(other["eval_loss"], rel=1e-5)
        assert one["eval_accuracy"] == other["eval_accuracy"]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "4").eval()
    words = AutoTokenizer.from_pretrained(tmp_path / "4")
    losses = []
    for row in ROWS["validation"]:
        with torch.no_grad():
            label = torch.tensor([sorted(toy.WORDS).index(row["label"])])
            losses.append(model(**words(row["text"], return_tensors="pt"), labels=label).loss.item())
    assert found[1][-1]["eval_loss"] == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("best", [False, True])
def test_the_last_evaluation_is_not_made_again_and_the_scores_are_the_same_to_the_bit(
    best: bool, toy_base: Path, tmp_path: Path, predicted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"learning_rate": 0.02, "num_train_epochs": 3}
    if best:
        options |= {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": False}
    once = trained(toy_base, tmp_path / "once", training=options)
    assert predicted == [5, 24]
    predicted.clear()
    monkeypatch.setattr(Kept, "take", lambda *_, **__: None)
    twice = trained(toy_base, tmp_path / "twice", training=options)
    assert predicted == [11, 5, 24]
    assert once.scores == twice.scores and lines(tmp_path / "once") == lines(tmp_path / "twice")


class Changing(TrainerCallback):
    """Changes a weight after the last evaluation, without a trace in the counters of torch."""

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        next(kwargs["model"].parameters()).data.add_(1e-3)


def test_weights_that_changed_since_the_evaluation_are_evaluated_again(
    toy_base: Path, tmp_path: Path, predicted: list[int]
) -> None:
    trained(toy_base, tmp_path / "run", callbacks=[Changing()])
    assert predicted == [11, 5, 24]


def test_outputs_belong_to_weights() -> None:
    model, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    output = type("Output", (), {"predictions": 1, "label_ids": 2})
    kept = Kept()
    kept.put(output, model=model)
    assert kept.take(model=other) is None
    kept.put(output, model=model)
    assert kept.take(model=model) is not None and kept.take(model=model) is None, "once"
    kept.put(output, model=model)
    kept.chosen()
    kept.put(type("Output", (), {"predictions": 3, "label_ids": 4}), model=other)
    model.weight.data = model.weight.data.clone()  # other memory, the same bits
    found = kept.take(model=model)
    assert found is not None and found.outputs == 1


@given(data=st.data())
def test_a_digest_changes_with_any_bit(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.int8, torch.bool]))
    size = data.draw(st.integers(1, 40))
    model = torch.nn.Module()
    model.register_buffer("x", torch.zeros(size).to(kind))
    before = digest(model)
    assert digest(model) == before
    place = data.draw(st.integers(0, size - 1))
    model.x[place] = 1  # type: ignore[index,operator]
    changed = digest(model)
    assert changed != before
    if size > 1:
        model.x[place] = 0  # type: ignore[index,operator]
        model.x[(place + 1) % size] = 1  # type: ignore[index,operator]
        assert digest(model) not in (before, changed), "in another place"


def test_a_part_of_a_tensor_and_an_empty_one_have_a_digest() -> None:
    whole = torch.arange(21, dtype=torch.float32)
    model = torch.nn.Module()
    for name, value in (("part", whole[1:]), ("copy", whole[1:].clone()), ("none", whole[:0]), ("one", whole[0])):
        model.register_buffer(name, value)
    part, copy, none, one = digest(model)
    assert part == copy != 0 and none == one == 0


def test_a_digest_tells_where_a_large_weight_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluating, "CHUNK", 4)
    monkeypatch.setattr(evaluating, "_factors", lambda _: torch.tensor([3, 5, 7, 9]))
    model = torch.nn.Module()
    model.register_buffer("x", torch.zeros(20, dtype=torch.int64))
    found = set()
    for place in range(20):
        model.x.zero_()  # type: ignore[operator]
        model.x[place] = 7  # type: ignore[index,operator]
        found.add(digest(model))
    assert len(found) == 20
