"""The laws that every preprocessor, strategy and evaluator obeys, ours and a stranger's alike.

Each function runs a plugin's class on examples that you give, and fails with an `AssertionError` that says which law is
broken.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finetune.data.features import OVERFLOW
from finetune.interfaces import Evaluator, Finding, Predictions, Preprocessor, Record, Row, Strategy, Task
from finetune.recipe.options import document


def check_preprocessor(preprocessor: Preprocessor, *, examples: Sequence[Row], tokenizer: Any, task: Task) -> None:
    """Check a preprocessor on good examples with answers.

    Laws: its options are frozen, keyword-only and documented; its columns are declared; `fit` returns another object
    of the same class and leaves this one as it was; `check` finds nothing wrong with good examples; features carry the
    task's labels exactly when there are answers; they do not depend on how examples are batched, unless it packs;
    they are lists of one length; `counts` counts in integers; it survives pickling.
    """
    _check_options(preprocessor)
    before = repr(preprocessor)
    fitted = preprocessor.fit(examples)
    assert type(fitted) is type(preprocessor), "fit() returns another class"
    assert repr(preprocessor) == before, "fit() changed the preprocessor it was called on"
    assert pickle.loads(pickle.dumps(fitted)) == fitted, "it does not survive pickling"
    needs = fitted.needs()
    for column in (*needs.required, *needs.answers):
        assert column in examples[0], f"the examples lack the declared column {column!r}"
    serious = [finding for finding in fitted.check(examples) if finding.level != "warning"]
    assert not serious, f"check() objects to good examples: {serious[0]}"
    whole = _features(fitted, examples, tokenizer)
    singles = [_features(fitted, [example], tokenizer) for example in examples]
    for name, values in whole.items():
        if name == OVERFLOW or fitted.is_packed:
            continue
        joined = [value for single in singles for value in single[name]]
        assert _plain(values) == _plain(joined), f"feature {name!r} depends on how examples are batched"
    assert len({len(values) for values in whole.values()}) == 1, "feature columns differ in length"
    missing = task.labels - set(whole)
    assert not missing, f"features lack the labels {sorted(missing)} although there are answers"
    asked = [{key: value for key, value in example.items() if key not in needs.answers} for example in examples]
    unexpected = task.labels & set(_features(fitted, asked, tokenizer))
    # without columns of answers, answers stand inside another column, where only its own tests can take them away
    assert not (needs.answers and unexpected), (
        f"features have the labels {sorted(unexpected)} although there are no answers"
    )
    counts = fitted.counts(whole)
    assert all(isinstance(count, int) for count in counts.values()), f"counts() counts in integers, not {counts}"
    json.dumps(fitted.model_options())


def check_strategy(
    strategy: Strategy, *, model: Any, task: Task, batch: Mapping[str, Any], begins_as_the_base: bool = True
) -> None:
    """Check a strategy on a loaded model and one batch with labels.

    Laws: its options are frozen, keyword-only and documented; `prepare` leaves something to train and changes no
    output before the first step; after some steps the loss is lower; what did not require a gradient did not move;
    `save` writes safetensors and no pickle.

    Args:
        strategy: The one to check.
        model: Loaded as the strategy asks.
        task: What the model is for.
        batch: With labels.
        begins_as_the_base: Whether outputs stay as they are before the first step; tokens of no text, put before every
            text, change them at once.
    """
    _check_options(strategy)
    model.eval()
    with torch.no_grad():
        before = model(**batch).loss.item()
    prepared = strategy.prepare(model, task)
    with torch.no_grad():
        after = prepared(**batch).loss.item()
    same = abs(before - after) < 1e-5
    assert same or not begins_as_the_base, f"prepare() changed the loss from {before} to {after} before any step"
    trainable = [p for p in prepared.parameters() if p.requires_grad]
    assert trainable, "prepare() left nothing to train"
    still = {name: p.detach().clone() for name, p in prepared.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW(trainable, lr=1e-2)
    for _ in range(10):
        loss = prepared(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < after, f"ten steps on one batch did not lower the loss: {after} before, {loss.item()} after"
    for name, parameter in prepared.named_parameters():
        if name in still:
            assert torch.equal(parameter, still[name]), f"{name} moved, and was not to train"
    with tempfile.TemporaryDirectory() as folder:
        strategy.save(prepared, Path(folder))
        names = {path.suffix for path in Path(folder).iterdir()}
    assert ".safetensors" in names, "save() wrote no safetensors"
    assert not names & {".bin", ".pt", ".pth", ".pkl"}, "save() wrote a pickle"


def check_evaluator(evaluator: Evaluator, *, predictions: Predictions) -> None:
    """Check an evaluator on predictions whose examples have answers.

    Laws: its options are frozen, keyword-only and documented; there is one record for each example, in order, with
    `prediction` and `reference`; records, details and files can be written as JSON, and scores read back from there
    are the same; scores are finite numbers that hold the primary one; `fit` leaves the evaluator as it was; `tallies`
    add up to the scores; costs are not negative, slices are texts, and both have one for each record; a baseline has
    one record for each example, and can be scored.
    """
    _check_options(evaluator)
    before = repr(evaluator)
    records = evaluator.records(predictions)
    fitted = evaluator.fit(records)
    assert repr(evaluator) == before, "fit() changed the evaluator it was called on"
    assert type(fitted) is type(evaluator), "fit() returns another class"
    assert len(records) == len(predictions.examples), "there must be one record for each example"
    for record in records:
        assert {"prediction", "reference"} <= set(record), f"a record lacks prediction or reference: {sorted(record)}"
    scores = evaluator.scores(records)
    again = evaluator.scores(json.loads(json.dumps(records)))
    assert scores == again, "scores differ once the records have been written and read"
    assert evaluator.primary in scores, f"the primary score {evaluator.primary!r} is not among {sorted(scores)}"
    for name, score in scores.items():
        assert isinstance(score, float | int), f"score {name!r} is a {type(score).__name__}"
        assert score == score and abs(score) != float("inf"), f"score {name!r} is {score}"
    json.dumps([evaluator.details(records), dict(evaluator.files(records))])
    _check_tallies(evaluator, records, scores)
    costs = evaluator.losses(records)
    assert len(costs) == len(records), f"there are {len(costs)} costs for {len(records)} records"
    assert all(cost >= 0 for cost in costs), "losses() gave a negative cost"
    for by, values in evaluator.slices(records, predictions.examples).items():
        assert len(values) == len(records), f"slice {by!r} has {len(values)} values for {len(records)} records"
        assert all(isinstance(value, str) for value in values), f"slice {by!r} has a value that is no text"
    for name, guesses in evaluator.baselines(predictions, train=dataclasses.replace(predictions, outputs=None)).items():
        assert len(guesses) == len(records), f"baseline {name!r} has {len(guesses)} records for {len(records)} examples"
        assert evaluator.scores(json.loads(json.dumps(guesses))), f"baseline {name!r} has no score"


def _check_tallies(evaluator: Evaluator, records: Sequence[Record], scores: Mapping[str, float]) -> None:
    tallies = evaluator.tallies(records)
    if tallies is None:
        return
    sums = np.asarray(tallies.values, dtype=float).sum(axis=0)
    assert len(tallies.values) == len(records), "tallies() must have one row for each record"
    found = tallies.scores(sums)
    both = tallies.scores(np.stack([sums, sums]))
    for name, score in found.items():
        assert np.shape(score) == (), f"tallies: {name!r} has not the shape of its sums"
        assert np.shape(both[name]) == (2,), f"tallies: {name!r} has not the shape of its sums"
    for rows in (records, records[: (len(records) + 1) // 2]):
        part = tallies.scores(np.asarray(tallies.values, dtype=float)[: len(rows)].sum(axis=0))
        for name, score in evaluator.scores(rows).items():
            if name in part and np.isfinite(part[name]):
                near = abs(part[name] - score) <= 1e-6 * max(1.0, abs(score))
                assert near, f"tallies of {len(rows)} records give {name} = {part[name]}, scores() gives {score}"
    assert set(found) & set(scores), f"tallies give none of the scores: {sorted(found)}"
    assert set(tallies.most) <= set(found), f"tallies: most names {sorted(set(tallies.most) - set(found))}, no score"


def check_finding(finding: Finding) -> None:
    """Check that a finding says what, where and what to do."""
    assert finding.code == finding.code.lower().replace(" ", "-"), f"code {finding.code!r} is not in kebab-case"
    assert finding.message.rstrip().endswith((".", "?", "!")), f"message is no sentence: {finding.message!r}"
    assert finding.row is not None or finding.line is not None or finding.level != "row", f"no place: {finding}"


def _check_options(built: Any) -> None:
    cls = type(built)
    if not dataclasses.is_dataclass(cls):
        return
    assert cls.__dataclass_params__.frozen, f"{cls.__name__} is not frozen"  # type: ignore[attr-defined]
    for field in dataclasses.fields(cls):
        assert field.kw_only or not field.init, f"option {field.name!r} of {cls.__name__} is not keyword-only"
    for option in document(cls):
        assert option.doc, f"option {option.name!r} of {cls.__name__} has no docstring"


def _features(preprocessor: Preprocessor, examples: Sequence[Row], tokenizer: Any) -> dict[str, Any]:
    batch = {name: [example[name] for example in examples] for name in examples[0]}
    return dict(preprocessor.features(batch, tokenizer))


def _plain(values: Any) -> Any:
    """Return nested lists of plain numbers, whatever array they came in."""
    values = values.tolist() if hasattr(values, "tolist") else values
    return [_plain(value) for value in values] if isinstance(values, list | tuple) else values
