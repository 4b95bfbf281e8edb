"""TRL's trainers, without what they do and do not say."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from accelerate.utils import is_peft_model
from datasets import Dataset

from finetune.errors import Incompatible
from finetune.interfaces import Job
from finetune.kit import PatchedTrainer, build_trainer

T = TypeVar("T")

ADDED_BESIDE = ("gaussian", "orthogonal", "eva")
"""Ways to begin a LoRA adapter that leave the weights beside it alone, beside the usual one."""


class PatchedTRLTrainer(PatchedTrainer):
    """What all of TRL's trainers need to run one of our jobs. Put it before TRL's class.

    - The features are ours: TRL 1.16 would tokenize again, and drop what is too long without a count.
    - A strategy's parameter groups reach the optimizer, though most of TRL's trainers take no such argument.
    - Nothing is written into the run folder but checkpoints, and nothing is told to a server: TRL writes a model card
      at every checkpoint, and reports each run to the Hub.
    """

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
        """Train, without what TRL 1.16 does that transformers 5.23 deprecates."""
        with suppress_deprecations():
            return super().train(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Predict, likewise."""
        with suppress_deprecations():
            return super().predict(*args, **kwargs)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _loss_heeds_items(self) -> bool:
        return True  # TRL says itself whether its losses are scaled: `loss_is_scaled_for_ga`

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write no card: the run's is written from its result."""

    def _send_telemetry(self) -> None:
        """Tell nobody."""


@contextmanager
def suppress_deprecations() -> Iterator[None]:
    """Silence TRL 1.16's use of names that transformers 5.23 deprecates, and PEFT's of a copy soon deleted."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Adapter name 'ref' should not be contained in the prefix")
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def built_by_trl(job: Job, cls: Callable[..., T], **more: Any) -> T:
    """Build a trainer; what TRL refuses, such as an adapter on the output embeddings, is ours to tell.

    Raises:
        Incompatible: TRL refuses the model or its adapter.
    """
    try:
        return build_trainer(job, cls, **more)
    except ValueError as error:
        raise Incompatible(f"TRL refuses: {error}") from error


def train_features(job: Job, *, columns: tuple[str, ...]) -> dict[str, Any]:
    """Return what to give as ``train_dataset`` where there is nothing to train on: TRL's trainers want one row."""
    if job.train is not None:
        return {}
    return {"train_dataset": Dataset.from_dict({name: [[0]] for name in columns})}


def refuse_moved_base(model: Any) -> None:
    """Refuse an adapter whose beginning changes the pretrained weights: switching it off would not give them back.

    Raises:
        Incompatible: So it does.
    """
    for config in model.peft_config.values() if is_peft_model(model) else ():
        start = getattr(config, "init_lora_weights", True)
        if isinstance(start, str) and start.lower() not in ADDED_BESIDE:
            raise Incompatible(
                f"strategy: init_lora_weights {start!r} changes the pretrained weights themselves, and this task needs "
                "them as they were, to hold the trained model against. Leave it out, or use one of "
                f"{', '.join(ADDED_BESIDE)}."
            )


def forget_copied_adapter(model: Any) -> None:
    """Delete the adapter ``ref``, a copy that TRL 1.16 makes of the adapter that is to be trained.

    With it gone, TRL switches the adapter off to see the reference, which then is the pretrained model: now, when the
    run is resumed, and when a trained adapter is scored, of which `ref` would be a copy.
    """
    if is_peft_model(model) and "ref" in model.peft_config:
        model.delete_adapter("ref")
