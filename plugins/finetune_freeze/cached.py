"""A frozen body's outputs, computed once for each text and read back at every epoch.

A text is known by its tokens without padding, and so are its states kept: padding of any length is put round them anew.
What an epoch then costs is the head. Padding to another length changes the last digits of what a model computes, so
losses and scores are those of a run without this to about 1e-5, not to the bit; two runs with it are equal to the bit,
resumed or not, because features are computed in an order that the texts alone decide.
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
from finetune_freeze.store import Store, laid_out

COLUMNS = ("input_ids", "attention_mask", "token_type_ids")
"""What a text is known by. With anything else among a body's inputs, nothing is looked up."""
WITHOUT_EFFECT = frozenset({"use_cache", "return_dict", "num_items_in_batch"})
"""Inputs that do not change the last hidden states."""
TOKENS = 4096
"""How many are computed at once."""


@dataclass(frozen=True)
class Text:
    """One row without its padding."""

    ids: Any
    types: Any

    @property
    def key(self) -> bytes:
        """What it is known by."""
        parts = self.ids.tobytes() + (b"" if self.types is None else b"|" + self.types.tobytes())
        return hashlib.blake2b(parts, digest_size=16).digest()


def texts(rows: Iterable[Mapping[str, Any]]) -> Iterator[Text]:
    """Yield rows of a batch or a data set without their padding."""
    for row in rows:
        ids = np.asarray(row["input_ids"], np.int64)
        mask, types = row.get("attention_mask"), row.get("token_type_ids")
        real = np.ones(len(ids), bool) if mask is None else np.asarray(mask, bool)
        yield Text(ids[real], None if types is None else np.asarray(types, np.int64)[real])


class CachedBody:
    """Stands in for a body's `forward`, from `install` to `remove`."""

    def __init__(self, body: Any, *, width: int, directory: Path) -> None:
        self.body = body
        self.plain = body.forward
        self.signature = inspect.signature(type(body).forward)
        self.pooler = getattr(body, "pooler", None)
        self.pooler_trains = self.pooler is not None and any(p.requires_grad for p in self.pooler.parameters())
        self.learned = Store(width, directory=directory)
        """What training reads: computed beforehand, in an order of its own."""
        self.seen = Store(width, directory=directory)
        """What evaluation has met."""
        self.output: Any = None
        """The class of the body's outputs, and the precision of its states."""
        self.dtype = torch.float32
        self.found = 0

    def install(self) -> None:
        """Take over."""
        self.body.forward = self.forward

    def remove(self) -> None:
        """Give back, and forget everything."""
        if "forward" in vars(self.body):
            del self.body.forward
        self.learned.close()
        self.seen.close()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the body would, from what is kept."""
        given = self._inputs(args, kwargs)
        if given is None:
            return self.plain(*args, **kwargs)
        batch = list(texts(_rows(given)))
        keys = [text.key for text in batch]
        stores = [next((s for s in (self.learned, self.seen) if key in s), None) for key in keys]
        if any(store is None for store in stores):
            output = self.plain(*args, **kwargs)
            if not torch.is_grad_enabled():
                self._write(self.seen, batch, output, given.get("attention_mask"))
            return output
        self.found += len(keys)
        return self._read(given, [store.get(key) for store, key in zip(stores, keys, strict=True) if store])

    @torch.no_grad()
    def learn(self, rows: Iterable[Mapping[str, Any]], device: Any) -> list[bytes]:
        """Compute the features of all texts, texts of one length together, so that none is padded."""
        distinct = {text.key: text for text in texts(rows)}
        order = ordered(distinct)
        for _, same in groupby(order, key=lambda text: len(text.ids)):
            of_length = list(same)
            size = max(1, TOKENS // max(1, len(of_length[0].ids)))
            for start in range(0, len(of_length), size):
                part = of_length[start : start + size]
                given = {"input_ids": _stacked([text.ids for text in part], device)}
                given["attention_mask"] = torch.ones_like(given["input_ids"])
                if part[0].types is not None:
                    given["token_type_ids"] = _stacked([text.types for text in part], device)
                self._write(self.learned, part, self.plain(**given), None)
        return [text.key for text in order]

    def _inputs(self, args: Any, kwargs: Any) -> dict[str, Any] | None:
        """Return the inputs that a text is known by, or None where there are others."""
        bound = self.signature.bind(self.body, *args, **kwargs).arguments
        rest = bound.pop("kwargs", {})
        given = {name: value for name, value in {**bound, **rest}.items() if name != "self"}
        known = {name: given.pop(name) for name in COLUMNS if given.get(name) is not None}
        others = [name for name, value in given.items() if value is not None and value is not False]
        fits = "input_ids" in known and all(value.ndim == 2 for value in known.values())
        return known if fits and not set(others) - WITHOUT_EFFECT else None

    def _write(self, store: Store, batch: list[Text], output: Any, mask: Any) -> None:
        self.output, self.dtype = type(output), output.last_hidden_state.dtype
        hidden = output.last_hidden_state.float().cpu().numpy()
        pooled = getattr(output, "pooler_output", None)
        real = np.ones(hidden.shape[:2], bool) if mask is None else mask.cpu().numpy().astype(bool)
        for number, text in enumerate(batch):
            if text.key not in store:
                own = hidden[number][real[number]]
                last = [] if pooled is None else [pooled[number].float().cpu().numpy()[None]]
                store.put(text.key, np.concatenate([own, *last]))

    def _read(self, given: Mapping[str, Any], kept: list[Any]) -> Any:
        ids = given["input_ids"]
        real = given.get("attention_mask", torch.ones_like(ids)).bool()
        extra = 0 if self.pooler is None else 1
        rows = np.concatenate([rows[: len(rows) - extra] for rows in kept])
        hidden = torch.zeros(*ids.shape, rows.shape[1], dtype=self.dtype, device=ids.device)
        hidden[real] = torch.from_numpy(rows).to(ids.device, self.dtype)
        if self.pooler is None:
            return self.output(last_hidden_state=hidden)
        last = torch.from_numpy(np.stack([rows[-1] for rows in kept])).to(ids.device, self.dtype)
        pooled = self.pooler(hidden) if self.pooler_trains else last
        return self.output(last_hidden_state=hidden, pooler_output=pooled)


def ordered(distinct: Mapping[bytes, Text]) -> list[Text]:
    """Return texts by length, and then by key: an order that no shuffle and no order of the rows changes."""
    return sorted(distinct.values(), key=lambda text: (len(text.ids), text.key))


def _rows(given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    arrays = {name: tensor.cpu().numpy() for name, tensor in given.items()}
    for number in range(len(arrays["input_ids"])):
        yield {name: array[number] for name, array in arrays.items()}


def _stacked(rows: list[Any], device: Any) -> Any:
    return torch.from_numpy(np.stack(rows)).to(device)


def check(model: Any) -> None:
    """Check that a model's body is frozen and apart from its head, so that its outputs never change.

    Raises:
        Incompatible: It is not.
    """
    body, name = model.base_model, type(model).__name__
    if body is model or model.config.is_encoder_decoder:
        raise Incompatible(
            f"strategy: cache: {name} has no body that would be run by itself. Leave out strategy.cache."
        )
    trains = [n for n, p in body.named_parameters() if p.requires_grad and not n.startswith("pooler.")]
    if trains:
        raise Incompatible(
            f"strategy: cache: the body of {name} is not frozen whole ({trains[0]!r} trains), so its outputs change. "
            "Leave out strategy.cache."
        )


def fingerprint(model: Any, keys: Iterable[bytes], *, precision: str) -> str:
    """Return what the features of some texts depend on: body, configuration, texts, precision, versions, threads."""
    digest = hashlib.sha256()
    circumstances = (type(model.base_model).__name__, model.config.to_json_string(), model.config._attn_implementation,
                     precision, torch.__version__, torch.get_num_threads())  # fmt: skip
    digest.update(repr(circumstances).encode())
    for name, parameter in model.base_model.named_parameters():
        if not parameter.requires_grad:
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    for key in keys:
        digest.update(key)
    return digest.hexdigest()[:32]


def places(distinct: Mapping[bytes, Text], *, pooled: bool) -> dict[bytes, tuple[int, int]]:
    """Return where the rows of each text stand once `learn` has written them."""
    order = ordered(distinct)
    return laid_out([text.key for text in order], [len(text.ids) + pooled for text in order])
