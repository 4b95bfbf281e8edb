"""Computes a frozen body's features when training begins, proves them, and lets the body go when it ends."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from finetune.errors import Incompatible
from finetune.kit import preserve_rng_state
from finetune_freeze import cached
from finetune_freeze.cached import CachedBody

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-5}
"""How far a loss may differ, as a share of it or of 1; in other precisions `COARSE`."""
COARSE = 2e-2
HINT = "Leave out strategy.cache."


class KeepFeatures(TrainerCallback):
    """Lets the body be run once for each text.

    From the first step to the last. Final scores are those of the model as anyone will load it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.body: CachedBody | None = None

    def on_train_begin(
        self, args: Any, state: Any, control: Any, *, model: Any, train_dataloader: Any, **_: Any
    ) -> None:
        """Compute, or read, the features of every training text, and take over from the body.

        Raises:
            Incompatible: Features put back do not give the loss that the body gives.
        """
        rows = _rows_of(train_dataloader)
        precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "model"
        with preserve_rng_state(), torch.no_grad(), _autocast(args, model.device):
            training = model.training
            model.eval()
            batch = _probe(rows, train_dataloader.collate_fn, model)
            plain = model(**batch)
            states = model.base_model(**{name: batch[name] for name in cached.COLUMNS if name in batch})
            directory = self.folder or Path(args.output_dir)
            self.body = CachedBody(model.base_model, width=states.last_hidden_state.shape[-1], directory=directory)
            _check_outputs(self.body, states)
            self._learn(model, rows, precision)
            self.body.install()
            self._prove(model, batch, plain, states)
            model.train(training)

    def _learn(self, model: Any, rows: Any, precision: str) -> None:
        assert self.body is not None
        if self.folder is None:
            self.body.learn(rows, model.device)
            return
        distinct = {text.key: text for text in cached.texts(rows)}
        name = cached.fingerprint(model, sorted(distinct), precision=precision)
        path, pooled = self.folder / f"{name}.f32", self.body.pooler is not None
        if not self.body.learned.adopt(path, cached.places(distinct, pooled=pooled)):
            self.body.learn(rows, model.device)
            self.body.learned.keep(path)

    def _prove(self, model: Any, batch: Any, plain: Any, states: Any) -> None:
        assert self.body is not None
        if self.body.output is None:  # read from a file, not computed
            self.body.output, self.body.dtype = type(states), states.last_hidden_state.dtype
        again = model(**batch)
        back = model.base_model(**{name: batch[name] for name in cached.COLUMNS if name in batch})
        found, real = self.body.found, batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
        limit = TOLERANCE.get(states.last_hidden_state.dtype, COARSE)
        apart = (states.last_hidden_state[real] - back.last_hidden_state[real]).abs().max().item()
        size = max(1.0, states.last_hidden_state[real].abs().max().item())
        reason = None
        if found != 2 * len(batch["input_ids"]):
            reason = "texts are given to the model otherwise than they stand in the data (made anew each time, say)"
        elif apart > 10 * limit * size:
            reason = f"padding changes the features of a text, by {apart:.2g}"
        elif abs(plain.loss.item() - again.loss.item()) > limit * max(1.0, abs(plain.loss.item())):
            losses = f"{plain.loss.item():.6g}, and with features put back {again.loss.item():.6g}"
            reason = f"the loss of eight texts is {losses}: the head looks at padding"
        if reason:
            self.body.remove()
            raise Incompatible(f"strategy: cache: {reason}. {HINT}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Give the body back."""
        if self.body is not None:
            self.body.remove()
            self.body = None


def _rows_of(loader: Any) -> Any:
    rows = getattr(loader, "dataset", None)
    try:
        has = len(rows) > 0 and "input_ids" in rows[0]  # type: ignore[arg-type, index]
    except (TypeError, NotImplementedError) as error:
        raise Incompatible(f"strategy: cache: these data are read as a stream. {HINT}") from error
    if not has:
        raise Incompatible(f"strategy: cache: the trainer makes the model's inputs itself. {HINT}")
    return rows


def _probe(rows: Any, collate: Any, model: Any) -> dict[str, Any]:
    """Return a batch of the shortest and the longest texts, with as much padding as there can be."""
    lengths = [len(row["input_ids"]) for row in rows]
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    chosen = list(dict.fromkeys([*order[:4], *order[-4:]]))
    batch = {name: value.to(model.device) for name, value in collate([rows[i] for i in chosen]).items()}
    strange = set(batch) - set(inspect.signature(type(model).forward).parameters)
    if strange or not {"labels", "start_positions"} & set(batch):
        raise Incompatible(f"strategy: cache: this task's trainer computes the loss in a way of its own. {HINT}")
    return batch


def _check_outputs(body: CachedBody, states: Any) -> None:
    returned = {name for name, value in states.items() if value is not None} - {"past_key_values"}
    pooled = states.get("pooler_output")
    expected = {"last_hidden_state"} | ({"pooler_output"} if body.pooler is not None else set())
    if returned != expected or (pooled is not None and pooled.shape[-1] != states.last_hidden_state.shape[-1]):
        raise Incompatible(f"strategy: cache: the body returns {', '.join(sorted(returned))}. {HINT}")
    if (
        body.pooler is not None
        and body.pooler_trains
        and not torch.equal(body.pooler(states.last_hidden_state), pooled)
    ):
        raise Incompatible(f"strategy: cache: what the pooler does with the features is not known. {HINT}")


def _autocast(args: Any, device: Any) -> Any:
    """Return the precision that the trainer computes in."""
    kind = torch.bfloat16 if args.bf16 else torch.float16
    return torch.autocast(device.type, dtype=kind, enabled=args.bf16 or args.fp16)
