"""The head trains; the body that was pretrained stays as it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from finetune.errors import BadOptions, Incompatible
from finetune.interfaces import Strategy, Task
from finetune_freeze import cached
from finetune_freeze.features import KeepFeatures
from finetune_freeze.freeze_dropout import disable_dropout_of
from finetune_freeze.groups import head, last_block, parameters_of


@dataclass(frozen=True, kw_only=True)
class FrozenStrategy(Strategy):
    """Trains the head alone, on the features that the pretrained body extracts.

    What the base model lacks trains as well, wherever it is: BERT's pooler, say, which many checkpoints are saved
    without. Where the head is tied to the embeddings of the body (GPT-2, T5, BART, most small language models), there
    is no head that could train alone: then the last block trains instead, of the decoder where there are two, with the
    norm after it; or, if you name any, the parameters of `train`.
    """

    train: tuple[str, ...] = ()
    """Further parameters to train, by name, with shell wildcards: `["*.layer.11.*"]`."""
    dropout: bool = False
    """Whether dropout stays active in what is frozen. Without it, a text has the same features at every epoch."""
    cache: bool | str = False
    """Whether to run the body once for each text and read its features back at every epoch, from the disk: `true` keeps
    them while the run lasts (4 bytes × tokens of the data × width of the hidden states), a folder for further runs on
    the same texts as well. Losses and scores are those of a run without it to about 1e-5. Needs a body that is frozen
    whole, and a head that reads no padding."""

    def __post_init__(self) -> None:
        if self.cache and self.dropout:
            raise ValueError("cache keeps features, and with dropout=true they change at every step; choose one")

    def prepare(self, model: Any, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Return the model with the body frozen.

        Raises:
            Incompatible: There is neither a head apart from the body nor a list of blocks, so nothing would train; or
                features are to be kept, and change.
            BadOptions: A pattern of `train` matches no parameter.
        """
        names = [name for name, _ in model.named_parameters()]
        for pattern in self.train:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise BadOptions(
                    f"strategy: train: {pattern!r} matches no parameter of {type(model).__name__}. "
                    f"They are called like {names[0]!r}."
                )
        chosen = [name for name in names if any(fnmatchcase(name, pattern) for pattern in self.train)]
        trains = {*head(model), *parameters_of(model, newly_initialized), *chosen} or set(last_block(model))
        if not trains:
            raise Incompatible(
                f"strategy: {type(model).__name__} has no head of its own (it is tied to the embeddings of the body), "
                "and no list of blocks of which the last could train, so freezing the body leaves nothing to train. "
                "Name what shall train under strategy.train, or use another strategy."
            )
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trains)
        if not self.dropout:
            disable_dropout_of(model)
        if self.cache:
            cached.check(model)
        return model

    def callbacks(self) -> Sequence[Any]:
        """Return what keeps features, where they are to be kept."""
        folder = Path(self.cache).expanduser() if isinstance(self.cache, str) else None
        return [KeepFeatures(folder)] if self.cache else []

    def notes(self, model: Any) -> Sequence[str]:
        """Return which modules train, and whether features are kept."""
        kept = ["the body is run once for each text (cache): losses equal a run without to about 1e-5"]
        return [f"frozen but for: {', '.join(whole_modules(model))}", *(kept if self.cache else [])]


def whole_modules(model: Any) -> list[str]:
    """Return the outermost modules of which every parameter trains, and parameters that train without their module."""
    found: list[str] = []
    for path, module in model.named_modules():
        parameters = list(module.parameters())
        if (
            parameters
            and all(p.requires_grad for p in parameters)
            and not path.startswith(tuple(f"{m}." for m in found))
        ):
            found.append(path or type(model).__name__)
    alone = [name for name, p in model.named_parameters() if p.requires_grad]
    return [*found, *(name for name in alone if not name.startswith(tuple(f"{m}." for m in found)))]
