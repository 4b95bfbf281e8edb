"""Several rows in one sequence: which go together, and whether a model keeps them apart."""

from __future__ import annotations

import uuid
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import is_peft_model
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence

from finetune.errors import Incompatible
from finetune.interfaces import IGNORE_INDEX
from finetune.kit import preserve_rng_state, suppress_progress_bars

POSITIONS = "position_ids"
"""Column of a packed sequence: where each token stands in its own row, which begins anew at 0."""
_ROWS = "rows"
_PROBE = 32
"""Tokens of a row that are enough to see whether another sees it."""


def best_fit(lengths: Sequence[int], *, room: int) -> list[list[int]]:
    """Return which rows share a sequence of at most ``room`` tokens: each row in one, none cut.

    The longest is placed first, each where it leaves the least room; sequences stand in the order of their first rows.
    A row longer than ``room`` has a sequence for itself.

    >>> best_fit([5, 3, 2, 6, 1], room=8)
    [[0, 1], [2, 3], [4]]

    Source: Johnson 1973, "Near-optimal bin packing algorithms" (best fit decreasing).
    """
    rows: list[list[int]] = []
    spaces: list[int] = []  # ascending, each once
    holders: dict[int, list[int]] = defaultdict(list)
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        place = bisect_left(spaces, lengths[row])
        if place == len(spaces):
            rows.append([])
            sequence, space = len(rows) - 1, room
        else:
            space = spaces[place]
            sequence = holders[space].pop()
            if not holders[space]:
                spaces.pop(place)
        rows[sequence].append(row)
        left = space - lengths[row]
        if left > 0:
            if not holders[left]:
                insort(spaces, left)
            holders[left].append(sequence)
    return sorted(sorted(together) for together in rows)


def packed(features: Dataset, *, room: int) -> Dataset:
    """Return sequences of several features: their ids, labels, and positions that begin anew at each.

    The first token of a row is predicted by nothing, so its label is dropped: the token before it is another row's.
    """
    together = best_fit([len(ids) for ids in features["input_ids"]], room=room)

    def join(batch: Mapping[str, Sequence[Any]]) -> dict[str, list[list[int]]]:
        made: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], POSITIONS: []}
        for rows in batch[_ROWS]:
            chosen = features[rows]
            made["input_ids"].append([token for ids in chosen["input_ids"] for token in ids])
            made["labels"].append([label for row in chosen["labels"] for label in [IGNORE_INDEX, *row[1:]][: len(row)]])
            made[POSITIONS].append([place for ids in chosen["input_ids"] for place in range(len(ids))])
        return made

    with suppress_progress_bars():
        return Dataset.from_dict({_ROWS: together}).map(
            join, batched=True, remove_columns=[_ROWS], load_from_cache_file=False, new_fingerprint=uuid.uuid4().hex
        )


def probe(features: Dataset, *, sequences: int) -> dict[str, torch.Tensor]:
    """Return some sequences of two rows each, cut to a few tokens: enough to see whether a model keeps rows apart."""
    few = features.select(range(min(len(features), 2 * sequences)))["input_ids"][:]
    rows = [torch.tensor(ids[:_PROBE]) for ids in few]
    rows = [rows[place % len(rows)] for place in range(2 * sequences)]
    pairs = [(rows[place], rows[place + 1]) for place in range(0, len(rows), 2)]
    positions = [torch.cat([torch.arange(len(row)) for row in pair]) for pair in pairs]
    return {
        "input_ids": pad_sequence([torch.cat(pair) for pair in pairs], batch_first=True),
        POSITIONS: pad_sequence(positions, batch_first=True),
    }


def refuse_crossing(model: Any, batch: Mapping[str, torch.Tensor]) -> None:
    """Refuse a model that lets rows of one sequence see each other, or counts their positions on.

    It is tried: other tokens in the first row of each sequence must change nothing in the rows after it, and the second
    row of the first sequence must give what it gives alone.

    Raises:
        Incompatible: With what was seen.
    """
    if is_peft_model(model) and model.active_peft_config.is_prompt_learning:
        raise Incompatible(
            "packing: a strategy that puts virtual tokens before a sequence puts them before its first row alone. Set "
            "preprocessor.packing: false, or take another strategy, such as lora."
        )
    ids, positions = (batch[name].to(model.device) for name in ("input_ids", POSITIONS))
    starts = positions == 0
    later = starts.cumsum(1) > 1
    begin, end = [*starts[0].nonzero().flatten().tolist(), ids.shape[1]][1:3]
    others = torch.where(later, ids, (ids + 1) % model.get_input_embeddings().weight.shape[0])
    training = model.training
    with preserve_rng_state(), torch.no_grad():
        model.eval()
        given = {POSITIONS: positions, "use_cache": False}
        before, after = (model(input_ids=each, **given).logits.float() for each in (ids, others))
        alone = model(input_ids=ids[:1, begin:end], use_cache=False).logits[0].float()
        model.train(training)
    largest = float(before.abs().max())
    if not torch.allclose(before[later], after[later], rtol=0, atol=1e-5 * largest):
        raise Incompatible(_refusal(model, "sees earlier rows of its sequence", before[later] - after[later]))
    narrow = next(model.parameters()).dtype in (torch.float16, torch.bfloat16)
    if not torch.allclose(before[0, begin:end], alone, rtol=0, atol=(5e-2 if narrow else 1e-4) * largest):
        raise Incompatible(_refusal(model, "is read otherwise than alone", before[0, begin:end] - alone))


def _refusal(model: Any, what: str, difference: torch.Tensor) -> str:
    implementation = getattr(model.config, "_attn_implementation", None)
    return (
        f"packing: with {type(model).__name__} and attention {implementation!r}, a row {what} (its logits differ by "
        f"{difference.abs().max().item():.2g}). Set preprocessor.packing: false; training: {{train_sampling_strategy: "
        "group_by_length} saves most of the padding too."
    )
