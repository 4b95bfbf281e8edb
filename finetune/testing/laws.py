"""The laws that every preprocessor, strategy and evaluator must obey.

Each function runs an object of a plugin on examples that you give. If it breaks a law, the function
raises an `AssertionError` that names the law.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finetune.data.features import OVERFLOW
from finetune.evaluation import temperature
from finetune.evaluation.calibration import with_temperature
from finetune.interfaces import Evaluator, Finding, Predictions, Preprocessor, Record, Row, Strategy, Task
from finetune.recipe.options import document
from finetune.result import to_json


def check_preprocessor(
    preprocessor: Preprocessor, *, examples: Sequence[Row], tokenizer: Any, task: Task, model: Any = None
) -> None:
    """Check a preprocessor on good examples with answers.

    The laws:

    * Its options are frozen, keyword-only and documented, and it can be pickled.
    * The examples have the columns that `needs` declares.
    * `fit` returns an object of the same class and does not change the one it is called on.
    * `check` finds nothing wrong with good examples, except warnings.
    * `canonical` returns a mapping and does not change the example.
    * Features have the task's labels if there are answers, and only then. All their columns have
      the same length.
    * Features do not depend on how examples are batched, unless `is_packed`.
    * `lengths` counts at least every token id in ``input_ids``, nested ones included.
    * `longest` is at least the length of every list of token ids.
    * `counts` returns integers, and JSON can hold `model_options`.
    * The collator for `model` can be pickled, as the workers of a data loader require.

    Args:
        preprocessor: The one to check, not fitted.
        examples: At least two good rows with answers.
        tokenizer: Makes the features.
        task: The task that the features are for.
        model: The model that the collator is made for; None to leave the collator unchecked.

    Raises:
        AssertionError: It breaks a law.
    """
    _check_options(preprocessor)
    before = repr(preprocessor)
    fitted = preprocessor.fit(examples)
    assert type(fitted) is type(preprocessor), "fit() returns another class"
    assert repr(preprocessor) == before, "fit() changed the preprocessor it was called on"
    assert pickle.loads(pickle.dumps(fitted)) == fitted, "pickling changes it"
    needs = fitted.needs()
    for column in (*needs.required, *needs.answers):
        assert column in examples[0], f"the examples lack the declared column {column!r}"
    serious = [finding for finding in fitted.check(examples) if finding.level != "warning"]
    assert not serious, f"check() objects to good examples: {serious[0]}"
    _check_canonical(fitted, examples)
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
    unanswered = [_without(example, needs.answers) for example in examples]
    unexpected = task.labels & set(_features(fitted, unanswered, tokenizer))
    # If no column is declared as an answer, the answers are inside another column, and cannot be
    # removed here.
    assert not (needs.answers and unexpected), (
        f"features have the labels {sorted(unexpected)} although there are no answers"
    )
    _check_lengths(fitted, whole)
    counts = fitted.counts(whole)
    assert all(isinstance(count, int) for count in counts.values()), f"counts() must return integers, not {counts}"
    json.dumps(fitted.model_options())
    if model is not None:
        pickle.loads(pickle.dumps(fitted.collator(tokenizer, model)))


def _check_canonical(preprocessor: Preprocessor, examples: Sequence[Row]) -> None:
    for example in examples:
        before = repr(example)
        found = preprocessor.canonical(example)
        assert isinstance(found, Mapping) and found, f"canonical() must return a mapping with columns, not {found!r}"
        assert repr(example) == before, "canonical() changed the example"


def _check_lengths(preprocessor: Preprocessor, features: Mapping[str, Any]) -> None:
    if "input_ids" not in features:
        return
    lengths = preprocessor.lengths(features)
    assert len(lengths) == len(features["input_ids"]), f"lengths() must have one entry for each feature, not {lengths}"
    longest = preprocessor.longest(features)
    for ids, length in zip(features["input_ids"], lengths, strict=True):
        sequences = list(_token_lists(_plain(ids)))
        tokens = sum(map(len, sequences))
        assert length >= tokens, f"lengths() counts {length} for a feature with {tokens} tokens"
        most = max(map(len, sequences), default=0)
        assert longest >= most, f"longest() is {longest}, but one sequence has {most} tokens"


def _token_lists(ids: list[Any]) -> Iterator[list[int]]:
    """Yield the lists of token ids in a feature, however deep they are nested."""
    if ids and isinstance(ids[0], list):
        for inner in ids:
            yield from _token_lists(inner)
    else:
        yield ids


def _without(example: Row, columns: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in example.items() if name not in columns}


def check_strategy(
    strategy: Strategy, *, model: Any, task: Task, batch: Mapping[str, Any], begins_as_the_base: bool = True
) -> None:
    """Check a strategy on a loaded model and one batch with labels.

    The laws:

    * Its options are frozen, keyword-only and documented.
    * `prepare` leaves something to train, and changes no output before the first step.
    * Ten steps on the batch lower the loss.
    * A parameter that requires no gradient does not change.
    * `save` writes safetensors and no pickle.

    Args:
        strategy: The one to check.
        model: Loaded with the strategy's `load_options`, inside its `loading`.
        task: The task of the model.
        batch: Inputs of the model, with labels.
        begins_as_the_base: Whether `prepare` must keep the outputs; set False for virtual tokens,
            which change them.

    Raises:
        AssertionError: It breaks a law.
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
    frozen = {name: p.detach().clone() for name, p in prepared.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW(trainable, lr=1e-2)
    for _ in range(10):
        loss = prepared(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < after, f"ten steps on one batch did not lower the loss: {after} before, {loss.item()} after"
    for name, parameter in prepared.named_parameters():
        if name in frozen:
            assert torch.equal(parameter, frozen[name]), f"{name} is frozen, but training changed it"
    with tempfile.TemporaryDirectory() as folder:
        strategy.save(prepared, Path(folder))
        names = {path.suffix for path in Path(folder).iterdir()}
    assert ".safetensors" in names, "save() wrote no safetensors"
    assert not names & {".bin", ".pt", ".pth", ".pkl"}, "save() wrote a pickle"


def check_evaluator(evaluator: Evaluator, *, predictions: Predictions) -> None:
    """Check an evaluator on predictions whose examples have answers.

    The laws:

    * Its options are frozen, keyword-only and documented.
    * `records` returns one record for each example, in order, with ``prediction`` and
      ``reference``.
    * JSON can hold records, details and files, and records read back from JSON have the same
      scores.
    * Scores are finite numbers, the primary score among them.
    * `fit` returns an object of the same class and does not change the one it is called on.
    * `tallies` add up to the scores.
    * `losses` and `slices` have one value for each record. Losses are not negative, and slices are
      texts.
    * A baseline has one record for each example, and can be scored.
    * If it gives `decisions`, it has the option ``temperature``, which changes no prediction and no decision;
      `confidence` is the probability of the prediction at each temperature; and `label_probabilities` add up to 1 and
      hold the `true_label`.

    Args:
        evaluator: The one to check, not fitted.
        predictions: Examples with answers, their features, and outputs.

    Raises:
        AssertionError: It breaks a law.
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
    again = evaluator.scores(json.loads(to_json(records)))
    assert scores == again, "records read back from JSON have other scores"
    assert evaluator.primary in scores, f"the primary score {evaluator.primary!r} is not among {sorted(scores)}"
    for name, score in scores.items():
        assert isinstance(score, float | int), f"score {name!r} is a {type(score).__name__}"
        assert score == score and abs(score) != float("inf"), f"score {name!r} is {score}"
    json.dumps([evaluator.details(records), dict(evaluator.files(records))])
    _check_tallies(evaluator, records, scores)
    _check_probabilities(evaluator, predictions)
    losses = evaluator.losses(records)
    assert len(losses) == len(records), f"losses() returns {len(losses)} numbers for {len(records)} records"
    assert all(loss >= 0 for loss in losses), "losses() returns a negative number"
    for by, values in evaluator.slices(records, predictions.examples).items():
        assert len(values) == len(records), f"slice {by!r} has {len(values)} values for {len(records)} records"
        assert all(isinstance(value, str) for value in values), f"slice {by!r} has a value that is not text"
    for name, guesses in evaluator.baselines(predictions, train=dataclasses.replace(predictions, outputs=None)).items():
        assert len(guesses) == len(records), f"baseline {name!r} has {len(guesses)} records for {len(records)} examples"
        assert evaluator.scores(json.loads(to_json(guesses))), f"baseline {name!r} has no score"


def _check_probabilities(evaluator: Evaluator, predictions: Predictions) -> None:
    decisions = evaluator.decisions(predictions)
    if decisions is None:
        return
    shape = np.shape(decisions.scores)
    assert np.shape(decisions.predicted) == np.shape(decisions.true) == shape, "arrays of decisions differ in shape"
    rows = np.arange(shape[0]) if decisions.rows is None else np.asarray(decisions.rows)
    assert len(rows) == shape[0], f"decisions have {len(rows)} rows for {shape[0]} decisions"
    assert np.isfinite(temperature.losses(decisions, 1.0)).all(), "a decision has nothing that can be true"
    plain = [_without_scores(record["prediction"]) for record in evaluator.records(predictions)]
    for value in (0.5, 1.0, 3.0):
        changed = with_temperature(evaluator, value)
        records = changed.records(predictions)
        again = changed.decisions(predictions)
        predicted = [_without_scores(record["prediction"]) for record in records]
        assert predicted == plain, "a temperature changes predictions"
        assert again is not None and np.array_equal(again.scores, decisions.scores), "a temperature changes decisions"
        expected = temperature.confidence(decisions, value)
        for row, sure in zip(rows.tolist(), expected.tolist(), strict=True):
            found = changed.confidence(records[row])
            assert found is None or abs(found - sure) < 1e-5, f"confidence() is {found}, and decisions() give {sure}"
        for record in records:
            shares = changed.label_probabilities(record)
            if shares is not None:
                assert abs(sum(shares.values()) - 1) < 1e-6, f"label_probabilities() add up to {sum(shares.values())}"
                assert changed.true_label(record) in shares, "label_probabilities() lack the true label"


def _without_scores(prediction: Any) -> Any:
    """Return a prediction without numbers that are no whole numbers, such as the probability of an entity."""
    if isinstance(prediction, Mapping):
        return {key: _without_scores(value) for key, value in prediction.items() if not isinstance(value, float)}
    return [_without_scores(each) for each in prediction] if isinstance(prediction, list) else prediction


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
    """Check a finding: its code is in kebab-case, its message is a sentence, and a bad row has a place.

    Raises:
        AssertionError: It breaks a law.
    """
    assert finding.code == finding.code.lower().replace(" ", "-"), f"code {finding.code!r} is not in kebab-case"
    assert finding.message.rstrip().endswith((".", "?", "!")), f"message is not a sentence: {finding.message!r}"
    assert finding.row is not None or finding.line is not None or finding.level != "row", (
        f"finding has no place: {finding}"
    )


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
    """Return arrays and tuples as nested lists of plain numbers."""
    values = values.tolist() if hasattr(values, "tolist") else values
    return [_plain(value) for value in values] if isinstance(values, list | tuple) else values
