"""The proof that an exported model still does what its source does, on rows that were held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from finetune.errors import listed
from finetune.interfaces import Evaluator, Record
from finetune.kit import limits_of, paired_difference, verdicts

ROUNDING = 1e-4
"""Greatest change of an output by rounding, of the greatest output, for a format that stores every weight as it is.
Runtimes that compute in float32 stay a hundred times below it; computing in bfloat16 changes ten times as much."""
ROUNDING_OF_LOW_PRECISION = 0.05
"""The same if the source computes in 16 bits and the exported model in 32."""
TIES = 1000
"""In an exact format, one prediction of so many may change: rounding decides between answers of the same score."""
SAME = 1e-3
"""Relative change of a predicted number that counts as none."""
COMPARED = 256
"""Most features on which outputs are compared."""
BATCH = 8
TOKENIZER = ("model_input_names", "padding_side", "truncation_side", "all_special_ids", "pad_token_id")
"""Settings of a tokenizer that change what a model reads."""


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A row whose prediction changed."""

    index: int
    source: Any
    """What the source predicts."""
    exported: Any
    """What the exported model predicts."""
    worse: float
    """Loss of the exported model − loss of the source: how wrong each is by its evaluator; 0 if it gives none."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the two models read, and what they compute of it."""

    changed: int
    """Features that the tokenizer in the folder makes in another way."""
    compared: int
    """Features whose outputs were compared."""
    output_change: float | None
    """Greatest change of an output, of the greatest output; None for a model that writes texts."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What an export changed."""

    split: str
    rows: int
    primary: str
    greater_is_better: bool
    source: float
    """The score of the source."""
    exported: float
    """The score of the exported model."""
    difference: Mapping[str, float] | None
    """``value``, ``low`` and ``high`` of exported − source, with its 95% interval; None if it cannot be computed."""
    point: float
    """How much of the score is one point: a hundredth of a score that goes to 1."""
    flips: Sequence[Flip]
    inputs: Inputs
    settings: Mapping[str, tuple[Any, Any]]
    """What differs between the labels and the tokenizers: setting → that of the source, and that of the folder."""

    @property
    def lost(self) -> float:
        """How many points worse the exported model is; negative if it is better."""
        change = (self.exported - self.source) / self.point
        return -change if self.greater_is_better else change


def prove(
    source: Any, exported: Any, *, split: str, records: tuple[list[Record], list[Record]], rows: Any, units: Any
) -> Proof:
    """Compare an exported model with its source.

    Args:
        source: The source, as `finetune.load` returns it.
        exported: The exported model, as `finetune.load` returns it.
        split: Name of the split.
        records: The records of source and exported model on its rows.
        rows: The rows.
        units: The independent unit of each row, numbered from 0; None if each row is independent.
    """
    evaluator: Evaluator = source.plan.evaluator
    before, after = (evaluator.scores(own)[evaluator.primary] for own in records)
    found = paired_difference(evaluator, [records[1]], [records[0]], units=units)
    difference = None
    if found is not None:
        difference = {"value": found.value, "low": found.rows.low, "high": found.rows.high}
    return Proof(
        split=split,
        rows=len(rows),
        primary=evaluator.primary,
        greater_is_better=evaluator.greater_is_better,
        source=before,
        exported=after,
        difference=difference,
        point=point_of(evaluator),
        flips=flips_of(evaluator, *records),
        inputs=compare_inputs(source.inference(), exported.inference(), rows),
        settings=settings_that_differ(source, exported),
    )


def settings_that_differ(source: Any, exported: Any) -> dict[str, tuple[Any, Any]]:
    """Return the labels and the settings of the tokenizer that differ between two models.

    finetune itself pads as the model needs it, and knows the labels from the run. Other programs read both here.
    """
    found = {}
    one, two = (list((each.model.config.id2label or {}).values()) for each in (source, exported))
    if one != two:
        found["labels"] = (one, two)
    for name in TOKENIZER:
        one, two = (getattr(each.tokenizer, name) for each in (source, exported))
        if one != two:
            found[f"the tokenizer's {name}"] = (one, two)
    return found


def point_of(evaluator: Evaluator) -> float:
    """Return how much of the primary score is one point: a hundredth of a score of at most 1, and 1 of any other."""
    limits = limits_of(evaluator.scales().get(evaluator.primary, ""))
    return 0.01 if limits is not None and limits[1] <= 1 else 1.0


def flips_of(evaluator: Evaluator, before: Sequence[Record], after: Sequence[Record]) -> list[Flip]:
    """Return the rows whose prediction changed, those that became most wrong first."""
    one, two = evaluator.losses(before), evaluator.losses(after)
    found = []
    for index, (then, now) in enumerate(zip(before, after, strict=True)):
        was, is_ = then.get("prediction"), now.get("prediction")
        if differs(was, is_):
            worse = float(two[index]) - float(one[index]) if len(one) == len(two) == len(before) else 0.0
            found.append(Flip(index=index, source=was, exported=is_, worse=worse))
    return sorted(found, key=lambda flip: (-flip.worse, flip.index))


def differs(one: Any, two: Any) -> bool:
    """Return whether predictions differ; numbers may differ by rounding.

    >>> differs("sea", "land"), differs([1.0, "a"], [1.0000001, "a"]), differs(1.0, 1.1)
    (True, False, True)
    """
    if isinstance(one, float) and isinstance(two, float | int):
        return abs(one - two) > SAME * max(1.0, abs(one))
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        return set(one) != set(two) or any(differs(one[name], two[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        return len(one) != len(two) or any(map(differs, one, two))
    return bool(one != two)


def compare_inputs(source: Any, exported: Any, rows: Any) -> Inputs:
    """Compare what two models read of the same rows, and what they compute of it.

    Args:
        source: An `Inference`.
        exported: Another one.
        rows: Checked rows.
    """
    one, two = (each.features(rows, answers=False) for each in (source, exported))
    changed, compared, change, greatest = abs(len(one.features) - len(two.features)), 0, 0.0, 0.0
    has_numbers = False
    for left, right in zip(source.batches(one, size=BATCH), exported.batches(two, size=BATCH), strict=False):
        changed += rows_that_differ(left, right)
        if compared >= COMPARED:
            continue
        compared += len(left["input_ids"])
        for then, now in zip(*(_tensors(model.answer(left)) for model in (source, exported)), strict=True):
            has_numbers = True
            greatest = max(greatest, float(then.abs().max()) if then.numel() else 0.0)
            same_shape = then.shape == now.shape
            change = max(change, float((then - now).abs().max()) if same_shape and then.numel() else 0.0)
            if not same_shape:
                change = float("inf")
    relative = (change / greatest if greatest else change) if has_numbers else None
    return Inputs(changed=changed, compared=compared, output_change=relative)


def rows_that_differ(left: Mapping[str, Any], right: Mapping[str, Any]) -> int:
    """Return how many rows of two batches differ, in any input."""
    size = len(left["input_ids"])
    if left.keys() != right.keys() or any(left[name].shape != right[name].shape for name in left):
        return size
    same = torch.ones(size, dtype=torch.bool)
    for name in left:
        same &= (left[name] == right[name]).reshape(size, -1).all(dim=1)
    return int((~same).sum())


def _tensors(outputs: Any) -> list[torch.Tensor]:
    """Return outputs that are numbers, on the processor; those that are ids of tokens say nothing about rounding."""
    parts = outputs if isinstance(outputs, tuple | list) else (outputs,)
    return [part.detach().float().cpu() for part in parts if torch.is_tensor(part) and part.is_floating_point()]


def problems(proof: Proof, *, is_exact: bool, low_precision: bool, tolerance: float | None) -> list[str]:
    """Return why an exported model must not be used, each as a sentence; empty if nothing speaks against it."""
    found = []
    for name, (one, two) in proof.settings.items():
        found.append(f"{name} differ: {_shown(two)} in the folder, and {_shown(one)} in the source.")
    if proof.inputs.changed:
        found.append(
            f"its tokenizer reads the rows in another way: {proof.inputs.changed:,} of the features differ from those "
            "of the source."
        )
    limit = ROUNDING_OF_LOW_PRECISION if low_precision else ROUNDING
    change = proof.inputs.output_change
    if is_exact and change is not None and not change <= limit:
        found.append(
            f"its outputs differ by up to {change:.2g} of the greatest, and the format stores "
            f"every weight as it is: rounding explains at most {limit:g}."
        )
    if is_exact and len(proof.flips) > max(1, proof.rows // TIES):
        found.append(f"{len(proof.flips):,} of {proof.rows:,} predictions changed, and rounding does not explain that.")
    if tolerance is not None and not proof.lost <= tolerance:
        found.append(f"{proof.primary} is {proof.lost:.2f} points worse, and --tolerance allows {tolerance:g}.")
    return found


def _shown(value: Any) -> str:
    return listed(value) if isinstance(value, list | tuple) else str(value)


def verdict(proof: Proof, *, tolerance: float | None = None) -> str:
    """Return what the export changed, in words."""
    changed, change = len(proof.flips), proof.inputs.output_change
    if not changed:
        same = f"The same predictions on all {proof.rows:,} rows of {proof.split}."
        text = same if change is None else f"{same} Outputs differ by at most {change:.2g} of the greatest."
        is_same = change is not None and change <= ROUNDING
        return text if is_same else text + _too_few(proof, tolerance)
    scores = f"{verdicts.format_score(proof.source)} → {verdicts.format_score(proof.exported)}"
    text = f"{verdicts.capitalize(proof.primary)} {scores}: {_in_points(proof)}."
    worse = sum(flip.worse > 0 for flip in proof.flips)
    better = sum(flip.worse < 0 for flip in proof.flips)
    kinds = f", {worse:,} for the worse and {better:,} for the better" if worse or better else ""
    text += f" {changed:,} of {proof.rows:,} predictions changed{kinds}."
    return text + _too_few(proof, tolerance)


def _too_few(proof: Proof, tolerance: float | None) -> str:
    """Return how much can be lost if the rows are too few to show that no more than the tolerance is."""
    if tolerance is None or proof.difference is None or _loss_at_most(proof) <= tolerance:
        return ""
    most = _loss_at_most(proof)
    return f" The rows are too few to show that it loses at most {tolerance:g} points: the loss can be {most:.2f}."


def _in_points(proof: Proof) -> str:
    size = f"{abs(proof.lost):.2f} points"
    if proof.difference is None:
        return f"{size} {'worse' if proof.lost > 0 else 'better'}" if proof.lost else "no change"
    low, high = (proof.difference[name] / proof.point for name in ("low", "high"))
    interval = f"95% interval of the paired difference {_signed(low)} to {_signed(high)} points"
    found = verdicts.verdict(proof.difference, greater_is_better=proof.greater_is_better)
    if found == "inconclusive":
        return f"not shown to be better or worse ({interval})"
    return f"{size} {found} ({interval})"


def _signed(points: float) -> str:
    return f"{'−' if points < 0 else '+'}{abs(points):.2f}"


def _loss_at_most(proof: Proof) -> float:
    assert proof.difference is not None
    low, high = (proof.difference[name] / proof.point for name in ("low", "high"))
    return -low if proof.greater_is_better else high
