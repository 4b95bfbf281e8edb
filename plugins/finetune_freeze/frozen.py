"""The head trains; the pretrained body stays frozen."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from finetune.errors import BadOptions, Incompatible
from finetune.interfaces import Base, Strategy, Suggestion, Task
from finetune_freeze import cached
from finetune_freeze.features import KeepFeatures
from finetune_freeze.freeze_dropout import disable_dropout_of
from finetune_freeze.groups import head, last_block, match_parameters, parameters_of

_SMALL = 50_000_000
"""Parameters below which the rate that was measured on MiniLM is used."""


@dataclass(frozen=True, kw_only=True)
class FrozenStrategy(Strategy):
    """Trains only the head, on the features that the pretrained body extracts.

    What the base model lacks trains as well, wherever it is: many checkpoints are saved without BERT's pooler, for
    example. If the head is tied to the embeddings of the body (GPT-2, T5, BART, most small language models), there is
    no head that could train alone. The last block trains instead, of the decoder if there are two stacks, with the norm
    after it; or the parameters of `unfrozen_parameters`, if you name any.
    """

    # layers that are unfrozen later need DDP to find unused parameters, which excludes it
    trains_with_activation_checkpointing: ClassVar[bool] = False
    unfrozen_parameters: tuple[str, ...] = ()
    """Further parameters to train, by name, with shell wildcards: `["*.layer.11.*"]`."""
    dropout: bool = False
    """Whether dropout stays active in frozen modules. Without it, a text has the same features in every epoch."""
    cache: bool | str = False
    """Whether to run the body once for each text and to read its features from the disk in every epoch. `true` keeps
    them until the run ends (4 bytes × tokens of the data × hidden size); a folder keeps them for further runs on the
    same texts as well. Losses and scores equal those of a run without the cache to about 1e-5. The whole body must be
    frozen, and the head must ignore padding."""

    def __post_init__(self) -> None:
        if self.cache and self.dropout:
            raise ValueError("cache stores features, and with dropout=true they change at every step; choose one")

    def suggest(self, task: Task, base: Base) -> Suggestion:
        """Return a high learning rate for a head, and a moderate one if the last block trains in its place."""
        if "LM" in task.model_class:
            source = f"three times that of full fine-tuning, which is {base.learning_rate:g}: {base.source}"
            return Suggestion(training={"learning_rate": 3 * base.learning_rate}, source=source)
        if base.parameters < _SMALL:
            source = "measured on MiniLM, see the page “Which strategy”"
            return Suggestion(training={"learning_rate": 1e-1}, source=source)
        source = "between Peters et al. 2019 (“To Tune or Not to Tune?”), 1e-3, and what was measured on MiniLM, 1e-1"
        return Suggestion(training={"learning_rate": 1e-2}, source=source)

    def prepare(self, model: Any, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Return the model with the body frozen.

        Raises:
            Incompatible: The model has neither a head apart from the body nor a list of blocks, so nothing would train;
                or `cache` is set, and the features change.
            BadOptions: A pattern of `unfrozen_parameters` matches no parameter.
        """
        option = "strategy.unfrozen_parameters"
        trainable = set(match_parameters(model, self.unfrozen_parameters, option=option))
        trainable.update(head(model))
        trainable.update(parameters_of(model, newly_initialized))
        if not trainable:
            trainable.update(last_block(model))
        if not trainable:
            raise Incompatible(
                f"strategy: {type(model).__name__} has no separate head (it is tied to the embeddings of the body) "
                "and no list of blocks of which the last could train, so nothing would train. Name parameters under "
                f"{option}, or use another strategy."
            )
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trainable)
        if not self.dropout:
            disable_dropout_of(model)
        if self.cache:
            cached.check_cacheable(model)
        return model

    def check_streaming(self) -> None:
        """Check that no features are cached.

        Raises:
            BadOptions: They are.
        """
        if self.cache:
            raise BadOptions(
                "strategy: cache computes the features of all rows before the first step, and dataset.streaming reads "
                "them only while it trains. Leave out one of the two."
            )

    def callbacks(self) -> Sequence[Any]:
        """Return the callback that caches features, if `cache` is set."""
        if not self.cache:
            return []
        folder = Path(self.cache).expanduser() if isinstance(self.cache, str) else None
        return [KeepFeatures(folder)]

    def notes(self, model: Any) -> Sequence[str]:
        """Return which modules train, and whether features are cached."""
        notes = [f"frozen except: {', '.join(trainable_modules(model))}"]
        if self.cache:
            notes.append("cache: the body runs once for each text; losses equal those without the cache to about 1e-5")
        return notes


def trainable_modules(model: Any) -> list[str]:
    """Return the outermost modules that train whole, and then the trainable parameters outside these modules."""
    modules: list[str] = []
    for path, module in model.named_modules():
        if not path and _trains_whole(model):
            return [type(model).__name__]
        if _trains_whole(module) and not _is_inside(path, modules):
            modules.append(path)
    return [*modules, *_trainable_outside(model, modules)]


def _trainable_outside(model: Any, modules: Sequence[str]) -> Iterator[str]:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not _is_inside(name, modules):
            yield name


def _trains_whole(module: Any) -> bool:
    trainable = [parameter.requires_grad for parameter in module.parameters()]
    return bool(trainable) and all(trainable)


def _is_inside(path: str, modules: Sequence[str]) -> bool:
    return any(path.startswith(f"{module}.") for module in modules)
