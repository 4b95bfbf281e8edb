"""Compute the features of a frozen body when training begins, check them, and release the body when it ends."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from finetune.errors import Incompatible
from finetune.kit import CACHE_OUTPUTS, evaluation_mode, preserve_rng_state
from finetune_freeze import cached
from finetune_freeze.cached import CachedBody

logger = logging.getLogger(__name__)

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-5}
"""How far a loss may differ, as a share of the loss or of 1; in other precisions `COARSE`."""
COARSE = 2e-2
HINT = "Leave out strategy.cache."


class KeepFeatures(TrainerCallback):
    """Runs a frozen body once for each text, and takes its features from a store after that.

    This holds from the first step to the last. The final scores are those of the model as anyone loads it.

    Args:
        folder: Where features are kept for later runs; None for a store that ends with the run.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.body: CachedBody | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Compute or read the features of each training text, and put the store in place of the body.

        Raises:
            Incompatible: The features from the store do not give the loss that the body gives.
        """
        model, loader = given["model"], given["train_dataloader"]
        rows = _rows_of(loader)
        precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "model"
        with preserve_rng_state(), torch.no_grad(), _autocast(args, model.device), evaluation_mode(model):
            batch = _probe(rows, loader.collate_fn, model)
            before = model(**batch)
            states = model.base_model(**_body_inputs(batch))
            directory = self.folder or Path(args.output_dir)
            body = CachedBody(model.base_model, width=states.last_hidden_state.shape[-1], directory=directory)
            self.body = body
            _check_outputs(body, states)
            self._fill(body, model, rows, precision)
            body.install()
            _check_features(body, model, batch, before, states)

    def _fill(self, body: CachedBody, model: Any, rows: Any, precision: str) -> None:
        """Read the features of the training texts from the folder, or compute them and keep them there."""
        if self.folder is None:
            body.precompute(rows, model.device)
            return
        distinct = {text.key: text for text in cached.texts(rows)}
        name = cached.fingerprint(model, sorted(distinct), precision=precision)
        path = self.folder / f"{name}.f32"
        ranges = cached.row_ranges(distinct, pooled=body.pooler is not None)
        existed = path.exists()
        if not body.train_store.load(path, ranges):
            if existed:
                logger.warning("%s has changed since it was written, or another user can write it: made again", path)
            body.precompute(rows, model.device)
            body.train_store.save(path)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Put the body back."""
        if self.body is not None:
            self.body.remove()
            self.body = None


def _body_inputs(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: batch[name] for name in cached.COLUMNS if name in batch}


def _check_features(body: CachedBody, model: Any, batch: dict[str, Any], before: Any, states: Any) -> None:
    """Check that the store gives what the body gave.

    Args:
        body: The store, in place of the body.
        model: The model around it.
        batch: The texts to compare.
        before: Outputs of the model with its own body.
        states: Outputs of the body itself.

    Raises:
        Incompatible: It does not.
    """
    if body.output is None:  # the features were read from a file, not computed
        body.output, body.dtype = type(states), states.last_hidden_state.dtype
    after = model(**batch)
    stored = model.base_model(**_body_inputs(batch))
    mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
    limit = TOLERANCE.get(states.last_hidden_state.dtype, COARSE)
    expected = states.last_hidden_state[mask]
    difference = (expected - stored.last_hidden_state[mask]).abs().max().item()
    size = max(1.0, expected.abs().max().item())
    loss_before, loss_after = before.loss.item(), after.loss.item()
    reason = None
    if body.rows_read != 2 * len(batch["input_ids"]):
        reason = "the model does not get texts as they are in the data (something changes them each time)"
    elif difference > 10 * limit * size:
        reason = f"padding changes the features of a text, by {difference:.2g}"
    elif abs(loss_before - loss_after) > limit * max(1.0, abs(loss_before)):
        losses = f"{loss_before:.6g}, and with stored features {loss_after:.6g}"
        reason = f"the loss of eight texts is {losses}: the head looks at padding"
    if reason:
        body.remove()
        raise Incompatible(f"strategy: cache: {reason}. {HINT}")


def _rows_of(loader: Any) -> Any:
    """Return the rows of a loader.

    Raises:
        Incompatible: They are a stream, or the trainer makes the model's inputs of something else.
    """
    rows: Any = getattr(loader, "dataset", None)
    try:
        has_ids = len(rows) > 0 and "input_ids" in rows[0]
    except (TypeError, NotImplementedError) as error:
        raise Incompatible(f"strategy: cache: the data are a stream. {HINT}") from error
    if not has_ids:
        raise Incompatible(f"strategy: cache: the trainer makes the model's inputs itself. {HINT}")
    return rows


def _probe(rows: Any, collate: Any, model: Any) -> dict[str, Any]:
    """Return a batch of the four shortest and the four longest texts, so that there is as much padding as possible.

    Raises:
        Incompatible: The model does not compute the loss from such a batch.
    """
    lengths = [len(row["input_ids"]) for row in rows]
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    chosen = dict.fromkeys([*order[:4], *order[-4:]])
    collated = collate([rows[number] for number in chosen])
    batch = {name: value.to(model.device) for name, value in collated.items()}
    unknown = set(batch) - set(inspect.signature(type(model).forward).parameters)
    if unknown or not {"labels", "start_positions"} & set(batch):
        raise Incompatible(f"strategy: cache: the trainer of this task computes the loss in its own way. {HINT}")
    return batch


def _check_outputs(body: CachedBody, states: Any) -> None:
    """Check that a body returns nothing but what the store can give.

    Raises:
        Incompatible: It returns more, or a pooled output that cannot be computed from the states.
    """
    returned = {name for name, value in states.items() if value is not None} - set(CACHE_OUTPUTS)
    expected = {"last_hidden_state"}
    if body.pooler is not None:
        expected.add("pooler_output")
    pooled = states.get("pooler_output")
    has_other_width = pooled is not None and pooled.shape[-1] != states.last_hidden_state.shape[-1]
    if returned != expected or has_other_width:
        raise Incompatible(f"strategy: cache: the body returns {', '.join(sorted(returned))}. {HINT}")
    if body.pooler is None or not body.pooler_trains:
        return
    if not torch.equal(body.pooler(states.last_hidden_state), pooled):
        raise Incompatible(f"strategy: cache: how the pooler uses the features is unknown. {HINT}")


def _autocast(args: Any, device: Any) -> Any:
    """Return a context in which the model computes in the trainer's precision."""
    kind = torch.bfloat16 if args.bf16 else torch.float16
    return torch.autocast(device.type, dtype=kind, enabled=args.bf16 or args.fp16)
