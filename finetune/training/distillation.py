"""Knowledge distillation: a loss that draws the outputs of a model to those of a trained one, its teacher.

For outputs that are probabilities of classes, the loss of a batch is

    alpha × T² × KL(teacher ‖ student) + (1 - alpha) × the loss of the task

where both distributions are softmax(logits / T), and the sum of the divergences is divided by what the loss of the task
is divided by: rows, or labelled tokens. The teacher's distribution comes first in the divergence, so its gradient is
that of the cross entropy with the teacher's probabilities as soft labels. T² keeps the size of that gradient, which
shrinks with 1 / T².

What is compared depends on the outputs alone, not on the task:

- ``logits`` (B, C) with one label a row: the classes, or the choices of a question;
- ``logits`` (B, L, C) with labels (B, L): the classes, or the vocabulary, of each position that has a label;
- ``start_logits`` and ``end_logits`` (B, L): the positions of a text without its padding, the mean of the two;
- several labels a row: two classes for each label;
- a regression: the squared difference of the two numbers, in place of T² × the divergence.

Source: Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", section 2, for temperature, T²
and the weighted mean of both losses; Sanh et al. 2019, "DistilBERT", whose `run_squad_w_distillation.py` has the
defaults T = 2 and alpha = 0.5, and compares start and end; Sun et al. 2019, "Patient Knowledge Distillation", section
3.1, for alpha × soft + (1 - alpha) × hard (they searched alpha in 0.2, 0.5, 0.7 and T in 5, 10, 20); Kim and Rush 2016,
"Sequence-Level Knowledge Distillation", section 3.1, for the tokens of a target; Ba and Caruana 2014, "Do Deep Nets
Really Need to be Deep?", equation 1, for the squared difference.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn import functional

from finetune.errors import BadOptions, Incompatible
from finetune.interfaces import IGNORE_INDEX
from finetune.models import base_model_of
from finetune.recipe import Teacher
from finetune.training.losses import align_logits, batch_share

Kind = Literal["classes", "labels", "numbers"]
SPANS = ("start_logits", "end_logits")
"""Outputs of a model that finds answers in a text."""
NEXT_TOKEN = "ForCausalLM"
"""How the classes are called whose output at a position predicts the label of the next one."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The outputs of student and teacher that are compared."""

    student: torch.Tensor
    """Logits, (N, C)."""
    teacher: torch.Tensor
    """Logits of the same rows, (N, C)."""
    kind: Kind
    """What they are: of classes, of which one is right; of labels, each of which is right or not; or numbers."""


def divergence(outputs: Outputs, *, temperature: float) -> torch.Tensor:
    """Return the sum over the rows of T² × KL(teacher ‖ student); of numbers, the sum of their squared differences."""
    student, teacher = outputs.student.float(), outputs.teacher.float()
    if outputs.kind == "numbers":
        return functional.mse_loss(student, teacher, reduction="sum")
    student, teacher = student / temperature, teacher / temperature
    if outputs.kind == "labels":
        soft = teacher.sigmoid()
        cross = functional.binary_cross_entropy_with_logits(student, soft, reduction="sum")
        own = functional.binary_cross_entropy_with_logits(teacher, soft, reduction="sum")
        return temperature**2 * (cross - own)
    found = functional.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="sum", log_target=True)
    return temperature**2 * found


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """A teacher, and how a student learns from it."""

    teacher: Any
    """The model, in evaluation mode and without gradients."""
    options: Teacher
    labels: frozenset[str] = frozenset()
    """Columns of a batch that hold labels: the teacher does not read them."""

    def loss(
        self, own: torch.Tensor, outputs: Any, batch: Mapping[str, Any], *, student: Any, items: Any, scale: float = 1
    ) -> torch.Tensor:
        """Return the loss of a batch: that of the task, mixed with the distance to the teacher.

        Args:
            own: The loss of the task.
            outputs: Those of the student.
            batch: What the student read.
            student: The model.
            items: By which number of items of the step the loss of the task is divided; None for those of the batch.
            scale: By what else the loss of the task was multiplied.

        Raises:
            Incompatible: The outputs cannot be compared.
        """
        alpha = self.options.alpha
        if not alpha:
            return own
        with torch.no_grad():
            taught = self.teacher(**self._inputs(batch))
        compared = pairs(outputs, taught, batch, student=student)
        total = own.new_zeros(())
        for each in compared:
            rows = each.student.numel() if each.kind == "labels" else len(each.student)
            distance = divergence(each, temperature=self.options.temperature)
            total = total + batch_share(distance, rows if items is None else items)
        return alpha * scale * total / len(compared) + (1 - alpha) * own

    def _inputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the teacher reads of a batch: all that it takes, without the labels."""
        model = base_model_of(self.teacher)
        accepted = set(inspect.signature(type(model).forward).parameters)
        hidden = {*self.labels, "labels"}
        if model.config.is_encoder_decoder and "decoder_input_ids" not in batch:
            hidden.discard("labels")  # it makes the inputs of the decoder of them
        given = {name: value for name, value in batch.items() if name in accepted and name not in hidden}
        if "use_cache" in accepted:
            given["use_cache"] = False
        return given


def pairs(outputs: Any, taught: Any, batch: Mapping[str, Any], *, student: Any) -> list[Outputs]:
    """Return the outputs of student and teacher that are compared, for one batch.

    Args:
        outputs: Those of the student.
        taught: Those of the teacher.
        batch: What both read, with labels.
        student: The model; its configuration says what its outputs mean.

    Raises:
        Incompatible: They have no logits, or logits of another shape.
    """
    if isinstance(outputs, Mapping) and all(name in outputs and name in taught for name in SPANS):
        return [_positions(outputs[name], taught[name], batch) for name in SPANS]
    labels, both = batch.get("labels"), (outputs, taught)
    if labels is None or not all(isinstance(each, Mapping) and torch.is_tensor(each.get("logits")) for each in both):
        raise Incompatible(
            f"teacher: the outputs of {_name(student)} for this task are no logits with labels, which a teacher could "
            "be compared with. Leave out the teacher."
        )
    one, other = outputs["logits"], taught["logits"]
    if one.dim() == 3 and labels.dim() == 2:
        shift = NEXT_TOKEN in _name(student)
        one, aligned = align_logits(one, labels, shift=shift)
        other, _ = align_logits(other, labels, shift=shift)
        seen = aligned != IGNORE_INDEX
        _same_shape(one, other)
        return [Outputs(student=one[seen], teacher=other[seen], kind="classes")]
    _same_shape(one, other)
    return [Outputs(student=one, teacher=other, kind=kind_of(one, labels, student))]


def kind_of(logits: torch.Tensor, labels: torch.Tensor, student: Any) -> Kind:
    """Return what the logits of a row are, by the rule with which transformers chooses the loss of a classifier."""
    problem = base_model_of(student).config.problem_type
    if problem == "regression" or (problem is None and logits.shape[-1] == 1):
        return "numbers"
    if problem == "multi_label_classification" or (problem is None and labels.is_floating_point()):
        return "labels"
    return "classes"


def _positions(one: torch.Tensor, other: torch.Tensor, batch: Mapping[str, Any]) -> Outputs:
    """Return the logits of the positions of texts; those of padding get none of the probability."""
    ids = batch.get("input_ids")
    length = one.shape[1] if ids is None else ids.shape[1]
    one, other = one[:, one.shape[1] - length :], other[:, other.shape[1] - length :]  # without virtual tokens
    _same_shape(one, other)
    mask = batch.get("attention_mask")
    if mask is not None:
        # a large number, not infinity: 0 × infinity is no number. The square root leaves room for a low temperature.
        least = -(torch.finfo(torch.float32).max ** 0.5)
        one, other = (each.float().masked_fill(mask == 0, least) for each in (one, other))
    return Outputs(student=one, teacher=other, kind="classes")


def _same_shape(one: torch.Tensor, other: torch.Tensor) -> None:
    if one.shape != other.shape:
        raise Incompatible(
            f"teacher: its logits have the shape {tuple(other.shape)}, and those of the student {tuple(one.shape)}. "
            "Both must have the same labels, or the same vocabulary."
        )


def _name(model: Any) -> str:
    return type(base_model_of(model)).__name__


def check(distillation: Distillation, batch: Mapping[str, Any], *, student: Any) -> None:
    """Check that a temperature has an effect on what is compared.

    Raises:
        BadOptions: Numbers are compared, and the recipe has a temperature for them.
    """
    labels = batch.get("labels")
    if labels is None or distillation.options.temperature == Teacher.temperature:
        return
    if labels.is_floating_point() and base_model_of(student).config.num_labels == 1:
        raise BadOptions("teacher.temperature: has no effect on a number that is predicted. Leave it out.")


__all__ = ["Distillation", "Outputs", "check", "divergence", "kind_of", "pairs"]
