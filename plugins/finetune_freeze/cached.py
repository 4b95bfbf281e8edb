"""The outputs of a frozen body, computed once for each text and read from the disk in every epoch.

The key of a text is its tokens without padding, and its hidden states are stored without padding as well; a batch of
any padded length is filled with them. An epoch then costs only the head.

Padding to another length changes the last digits of a model's outputs, so losses and scores equal those of a run
without the cache to about 1e-5, not to the bit. Two runs with the cache are equal to the bit, resumed or not, because
the features are computed in an order that depends only on the texts.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finetune.errors import Incompatible
from finetune_freeze.store import FeatureStore, RowRange, consecutive_ranges

COLUMNS = ("input_ids", "attention_mask", "token_type_ids")
"""The inputs that make the key of a text. The cache is bypassed if a body gets any other input."""
WITHOUT_EFFECT = frozenset({"use_cache", "return_dict", "num_items_in_batch"})
"""Inputs that do not change the last hidden states."""
TOKENS_PER_BATCH = 4096
"""Size of a batch whose features are computed in advance."""


@dataclass(frozen=True)
class Text:
    """One row without its padding."""

    ids: Any
    """Token ids, an array (length,)."""
    types: Any
    """Token types, an array (length,), or None."""

    @property
    def key(self) -> bytes:
        """A digest of ids and types."""
        content = self.ids.tobytes()
        if self.types is not None:
            content += b"|" + self.types.tobytes()
        return hashlib.blake2b(content, digest_size=16).digest()


def texts(rows: Iterable[Mapping[str, Any]]) -> Iterator[Text]:
    """Yield the rows of a batch or a data set without their padding."""
    for row in rows:
        ids = np.asarray(row["input_ids"], np.int64)
        mask, types = row.get("attention_mask"), row.get("token_type_ids")
        is_token = np.ones(len(ids), bool) if mask is None else np.asarray(mask, bool)
        yield Text(ids[is_token], None if types is None else np.asarray(types, np.int64)[is_token])


class CachedBody:
    """Replaces the `forward` of a model's body, from `install` to `remove`.

    Args:
        body: The body; frozen, except possibly its pooler.
        width: Its hidden size.
        directory: The folder of the stored features.
    """

    def __init__(self, body: Any, *, width: int, directory: Path) -> None:
        self.body = body
        self.original_forward = body.forward
        self.signature = inspect.signature(type(body).forward)
        self.pooler = getattr(body, "pooler", None)
        self.pooler_trains = self.pooler is not None and any(p.requires_grad for p in self.pooler.parameters())
        self.train_store = FeatureStore(width, directory=directory)
        """Features of training texts, computed in advance in an order that depends only on the texts."""
        self.evaluation_store = FeatureStore(width, directory=directory)
        """Features of evaluation texts, stored when they are first computed."""
        self.output: Any = None
        """The class of the body's outputs."""
        self.dtype = torch.float32
        """The precision of its hidden states."""
        self.rows_read = 0
        """How many rows were read from the stores."""

    def install(self) -> None:
        """Replace the body's `forward`."""
        self.body.forward = self.forward

    def remove(self) -> None:
        """Restore the body's `forward`, and delete the stored features."""
        if "forward" in vars(self.body):
            del self.body.forward
        self.train_store.close()
        self.evaluation_store.close()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the body would return, from the stored features if all rows are there."""
        inputs = self._cacheable_inputs(args, kwargs)
        if inputs is None:
            return self.original_forward(*args, **kwargs)
        batch = list(texts(_rows(inputs)))
        features = self._look_up(batch)
        if features is None:
            output = self.original_forward(*args, **kwargs)
            if not torch.is_grad_enabled():
                self._write(self.evaluation_store, batch, output, inputs.get("attention_mask"))
            return output
        self.rows_read += len(batch)
        return self._output_of(inputs, features)

    @torch.no_grad()
    def precompute(self, rows: Iterable[Mapping[str, Any]], device: Any) -> list[bytes]:
        """Compute and store the features of all texts, and return their keys in the order of writing.

        Texts of equal length are computed together, so that none is padded.
        """
        order = sort_texts({text.key: text for text in texts(rows)})
        for length, group in groupby(order, key=_length):
            same_length = list(group)
            size = max(1, TOKENS_PER_BATCH // max(1, length))
            for start in range(0, len(same_length), size):
                batch = same_length[start : start + size]
                self._write(self.train_store, batch, self.original_forward(**_model_inputs(batch, device)), None)
        return [text.key for text in order]

    def _cacheable_inputs(self, args: Any, kwargs: Any) -> dict[str, Any] | None:
        """Return the inputs that make the keys of texts, or None if there are other inputs."""
        bound = self.signature.bind(self.body, *args, **kwargs).arguments
        arguments = {**bound, **bound.get("kwargs", {})}
        inputs: dict[str, Any] = {}
        for name, value in arguments.items():
            if name in COLUMNS and value is not None:
                if value.ndim != 2:
                    return None
                inputs[name] = value
            elif name not in {"self", "kwargs"} and not _has_no_effect(name, value):
                return None
        return inputs if "input_ids" in inputs else None

    def _look_up(self, batch: list[Text]) -> list[Any] | None:
        """Return the stored features of each text, or None if any text has none."""
        features = []
        for text in batch:
            key = text.key
            if key in self.train_store:
                features.append(self.train_store.get(key))
            elif key in self.evaluation_store:
                features.append(self.evaluation_store.get(key))
            else:
                return None
        return features

    def _write(self, store: FeatureStore, batch: list[Text], output: Any, mask: Any) -> None:
        """Store the hidden states of each text: one row for each token, then one of the pooler if there is one."""
        self.output, self.dtype = type(output), output.last_hidden_state.dtype
        hidden = output.last_hidden_state.float().cpu().numpy()
        pooled = getattr(output, "pooler_output", None)
        is_token = np.ones(hidden.shape[:2], bool) if mask is None else mask.cpu().numpy().astype(bool)
        for number, text in enumerate(batch):
            key = text.key
            if key in store:
                continue
            rows = [hidden[number][is_token[number]]]
            if pooled is not None:
                rows.append(pooled[number].float().cpu().numpy()[None])
            store.put(key, np.concatenate(rows))

    def _output_of(self, inputs: Mapping[str, Any], features: list[Any]) -> Any:
        """Return the body's output for a padded batch."""
        ids = inputs["input_ids"]
        is_token = inputs.get("attention_mask", torch.ones_like(ids)).bool()
        token_rows = features if self.pooler is None else [rows[:-1] for rows in features]
        states = np.concatenate(token_rows)
        hidden = torch.zeros(*ids.shape, states.shape[1], dtype=self.dtype, device=ids.device)
        hidden[is_token] = torch.from_numpy(states).to(ids.device, self.dtype)
        if self.pooler is None:
            return self.output(last_hidden_state=hidden)
        if self.pooler_trains:
            pooled = self.pooler(hidden)
        else:
            pooled = torch.from_numpy(np.stack([rows[-1] for rows in features])).to(ids.device, self.dtype)
        return self.output(last_hidden_state=hidden, pooler_output=pooled)


def sort_texts(distinct: Mapping[bytes, Text]) -> list[Text]:
    """Return texts by length and then by key: an order that does not depend on the order of the rows."""
    return sorted(distinct.values(), key=lambda text: (len(text.ids), text.key))


def _length(text: Text) -> int:
    return len(text.ids)


def _has_no_effect(name: str, value: Any) -> bool:
    return value is None or value is False or name in WITHOUT_EFFECT


def _rows(inputs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a batch as arrays."""
    arrays = {name: tensor.cpu().numpy() for name, tensor in inputs.items()}
    for number in range(len(arrays["input_ids"])):
        yield {name: array[number] for name, array in arrays.items()}


def _model_inputs(batch: list[Text], device: Any) -> dict[str, Any]:
    """Return the inputs of a body for texts of equal length."""
    ids = torch.from_numpy(np.stack([text.ids for text in batch])).to(device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if batch[0].types is not None:
        inputs["token_type_ids"] = torch.from_numpy(np.stack([text.types for text in batch])).to(device)
    return inputs


def check_cacheable(model: Any) -> None:
    """Check that a model's body is frozen and separate from its head, so that its outputs never change.

    Raises:
        Incompatible: It is not.
    """
    body, name = model.base_model, type(model).__name__
    if body is model or model.config.is_encoder_decoder:
        raise Incompatible(
            f"strategy: cache: {name} has no body that runs separately from its head. Leave out strategy.cache."
        )
    for parameter_name, parameter in body.named_parameters():
        if parameter.requires_grad and not parameter_name.startswith("pooler."):
            raise Incompatible(
                f"strategy: cache: the body of {name} is not completely frozen ({parameter_name!r} trains), so its "
                "outputs change. Leave out strategy.cache."
            )


def fingerprint(model: Any, keys: Iterable[bytes], *, precision: str) -> str:
    """Return a digest of all that the features of some texts depend on.

    That is body, configuration, texts, precision, version of torch, and number of threads.
    """
    digest = hashlib.sha256()
    settings = (
        type(model.base_model).__name__,
        model.config.to_json_string(),
        model.config._attn_implementation,
        precision,
        torch.__version__,
        torch.get_num_threads(),
    )
    digest.update(repr(settings).encode())
    for name, parameter in model.base_model.named_parameters():
        if not parameter.requires_grad:
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    for key in keys:
        digest.update(key)
    return digest.hexdigest()[:32]


def row_ranges(distinct: Mapping[bytes, Text], *, pooled: bool) -> dict[bytes, RowRange]:
    """Return the rows of each text in the file that `CachedBody.precompute` writes."""
    order = sort_texts(distinct)
    keys = [text.key for text in order]
    lengths = [len(text.ids) + pooled for text in order]
    return consecutive_ranges(keys, lengths)
