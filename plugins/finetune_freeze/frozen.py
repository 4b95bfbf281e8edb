"""The head trains; the body that was pretrained stays as it is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from finetune.errors import BadOptions, Incompatible
from finetune.interfaces import Strategy, Task


@dataclass(frozen=True, kw_only=True)
class Frozen(Strategy):
    """Trains the head alone, on the features that the pretrained body extracts.

    What the base model lacks trains as well, wherever it is: BERT's pooler, say, which many checkpoints are saved
    without.
    """

    train: tuple[str, ...] = ()
    """Further parameters to train, by name, with shell wildcards: `["*.layer.11.*"]`."""

    def prepare(self, model: Any, task: Task, *, fresh: Collection[str] = ()) -> Any:
        """Return the model with the body frozen.

        Raises:
            Incompatible: There is no head apart from the body, so nothing would train.
            BadOptions: A pattern of `train` matches no parameter.
        """
        names = [name for name, _ in model.named_parameters()]
        for pattern in self.train:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise BadOptions(
                    f"strategy: train: {pattern!r} matches no parameter of {type(model).__name__}. "
                    f"They are called like {names[0]!r}."
                )
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not _in_body(model, name) or self._trains(name, fresh))
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise Incompatible(
                f"strategy: {type(model).__name__} has no head of its own (it is tied to the embeddings of the body), "
                "so freezing the body leaves nothing to train. Name what shall train under strategy.train, or use "
                "another strategy."
            )
        return model

    def _trains(self, name: str, fresh: Collection[str]) -> bool:
        chosen = any(fnmatchcase(name, pattern) for pattern in self.train)
        return chosen or any(name.startswith(f"{module}.") for module in fresh)


def _in_body(model: Any, name: str) -> bool:
    """Tell a parameter of the body from one of the head, also where the body has no name of its own, as in T5."""
    if model.base_model is not model:
        return name.startswith(f"{model.base_model_prefix}.")
    head = model.get_output_embeddings()
    return not any(module is head and name.startswith(f"{place}.") for place, module in model.named_modules())
