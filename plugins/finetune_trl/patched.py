"""What all trainers of TRL need to run a job: finetune's features, no telemetry, no second model card."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from accelerate.utils import is_peft_model
from datasets import Dataset
from transformers import Trainer

from finetune.errors import Incompatible
from finetune.interfaces import Job
from finetune.kit import PatchedTrainer, base_model_of, build_trainer, require_upstream
from finetune_trl.generation import prepare_generation

T = TypeVar("T", bound=Trainer)

KEEPS_PRETRAINED_WEIGHTS = ("gaussian", "orthogonal", "eva")
"""Values of LoRA's `init_lora_weights` that leave the pretrained weights as they are; True does so too."""


class PatchedTRLTrainer(PatchedTrainer):
    """Adapts a trainer of TRL to a job. Put it before TRL's class.

    - It trains on finetune's features. TRL 1.16 would tokenize again, and drop rows that are too long uncounted.
    - It gives a strategy's parameter groups to the optimizer; most of TRL's trainers take no such argument.
    - It writes nothing but checkpoints into the run folder, and sends nothing to a server. TRL writes a model card with
      each checkpoint, and reports each run to the Hub.

    The methods that it overrides are private to TRL. If a release of TRL lacks one, `PatchedTrainer` raises
    `UpstreamChanged` before the trainer is built.
    """

    learns_from_logits = False  # from log-probabilities of whole answers, or without a table of logits

    def __init__(
        self,
        *args: Any,
        optimizer_cls_and_kwargs: Any = None,
        generation: Mapping[str, Any] = {},
        **kwargs: Any,
    ) -> None:
        self.generation = generation
        with suppress_deprecations():
            super().__init__(*args, **kwargs)
        if optimizer_cls_and_kwargs is not None:
            self.optimizer_cls_and_kwargs = optimizer_cls_and_kwargs

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, without the warnings of `suppress_deprecations`."""
        with suppress_deprecations():
            return super().train(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Predict, without the warnings of `suppress_deprecations`."""
        with suppress_deprecations():
            return super().predict(*args, **kwargs)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _loss_depends_on_items(self) -> bool:
        return True  # TRL's trainers state whether they scale their losses: `loss_is_scaled_for_ga`

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write no card; finetune writes the card of a run from its result."""

    def _send_telemetry(self) -> None:
        """Send nothing to the Hub."""


@contextmanager
def suppress_deprecations() -> Iterator[None]:
    """Suppress two warnings inside a `with` block that the user cannot act on.

    TRL 1.16 uses a name that transformers 5.23 deprecates, and it makes a copy of the adapter with a name that PEFT
    warns of; finetune deletes that copy.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Adapter name 'ref' should not be contained in the prefix")
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def built_by_trl(job: Job, cls: Callable[..., T], **more: Any) -> T:
    """Build a trainer of TRL; report what TRL refuses, such as an adapter on the output embeddings.

    Raises:
        Incompatible: TRL refuses the model or its adapter, or cannot read its output embeddings.
    """
    refuse_wrapped_head(job.model)
    try:
        return build_trainer(job, cls, **more)
    except ValueError as error:
        raise Incompatible(f"TRL refuses: {error}") from error


def refuse_wrapped_head(model: Any) -> None:
    """Refuse output embeddings whose weights TRL 1.16 cannot read for its loss.

    Such are those that are tied to input embeddings of which an adapter trains some tokens.

    Raises:
        Incompatible: The output embeddings are of this kind.
    """
    head = base_model_of(model).get_output_embeddings()
    if head is not None and not hasattr(head, "bias"):
        raise Incompatible(
            f"strategy: the output embeddings are wrapped ({type(head).__name__}), and TRL's loss cannot read them. "
            "Leave out trainable_token_indices, or use a model whose input and output embeddings are not tied."
        )


def train_features(job: Job, *, columns: tuple[str, ...]) -> dict[str, Any]:
    """Return the `train_dataset` of a job that trains nothing: one row, because TRL's trainers want one."""
    if job.train is not None:
        return {}
    return {"train_dataset": Dataset.from_dict({name: [[0]] for name in columns})}


def prepare_model(job: Job) -> dict[str, Any]:
    """Undo what an earlier trainer did to a job's model, write the ends of an answer into it, and return the options.

    Raises:
        BadOptions: See `prepare_generation`.
    """
    restore_forward(job.model)
    return prepare_generation(job)


def restore_forward(model: Any) -> None:
    """Restore a model's ``forward`` as it was before the first trainer of TRL.

    Each trainer of TRL 1.16 wraps the ``forward`` of the model that it gets (`add_fused_lm_head`), and accelerate wraps
    it once more under bf16, so the wrappers of several trainers would pile up. The model keeps what was there first,
    because it outlives the trainers.

    Raises:
        UpstreamChanged: TRL no longer wraps the model by that function.
    """
    require_upstream("trl.trainer.utils", "add_fused_lm_head")
    attributes = vars(base_model_of(model))
    first = attributes.setdefault("_forward_before_trl", attributes.get("forward"))
    attributes.pop("forward", None)
    if first is not None:
        attributes["forward"] = first


def refuse_changed_base(model: Any) -> None:
    """Refuse an adapter whose start changes the pretrained weights: switching it off would not restore them.

    Raises:
        Incompatible: The adapter has such a start.
    """
    if not is_peft_model(model):
        return
    for config in model.peft_config.values():
        start = getattr(config, "init_lora_weights", True)
        if isinstance(start, str) and start.lower() not in KEEPS_PRETRAINED_WEIGHTS:
            raise Incompatible(
                f"strategy: init_lora_weights {start!r} changes the pretrained weights, and this task compares the "
                "trained model with the unchanged ones. Leave it out, or use one of "
                f"{', '.join(KEEPS_PRETRAINED_WEIGHTS)}."
            )


def delete_copied_adapter(model: Any) -> None:
    """Delete the adapter ``ref``, a copy that TRL 1.16 makes of the adapter that is to be trained.

    Without it, TRL switches the adapter off to get the reference, which is then the pretrained model: in this run, when
    the run is resumed, and when a trained adapter is scored, of which `ref` would be a copy.
    """
    if is_peft_model(model) and "ref" in model.peft_config:
        model.delete_adapter("ref")
