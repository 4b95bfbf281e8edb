"""Packing: which rows share a sequence, and whether a model keeps them apart."""

from __future__ import annotations

import uuid
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import is_peft_model
from datasets import Dataset

from finetune.errors import Incompatible
from finetune.interfaces import IGNORE_INDEX
from finetune.kit import evaluation_mode, pad, preserve_rng_state, suppress_progress_bars

POSITIONS = "position_ids"
"""Column of a packed sequence: the position of each token in its own row; it restarts at 0 with each row."""
_ROWS = "rows"
_PROBE_TOKENS = 32
"""Tokens of a row that are enough to see whether it changes the logits of another row."""


def best_fit(lengths: Sequence[int], *, room: int) -> list[list[int]]:
    """Return which rows share a sequence of at most ``room`` tokens: each row is in one sequence, and none is cut.

    Longer rows are placed first, each in the sequence where it leaves the least space. Sequences are in the order of
    their first rows. A row longer than ``room`` gets its own sequence.

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


def pack(features: Dataset, *, room: int) -> Dataset:
    """Return sequences of several features: their ids, labels, and positions that restart at 0 with each.

    The label of the first token of a row is removed: the token before it belongs to another row.
    """
    together = best_fit([len(ids) for ids in features["input_ids"]], room=room)

    def join(batch: Mapping[str, Sequence[Any]]) -> dict[str, list[list[int]]]:
        columns: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], POSITIONS: []}
        for numbers in batch[_ROWS]:
            ids: list[int] = []
            labels: list[int] = []
            positions: list[int] = []
            rows = features[numbers]
            for row_ids, row_labels in zip(rows["input_ids"], rows["labels"], strict=True):
                ids += row_ids
                labels += [IGNORE_INDEX, *row_labels[1:]][: len(row_ids)]
                positions += range(len(row_ids))
            columns["input_ids"].append(ids)
            columns["labels"].append(labels)
            columns[POSITIONS].append(positions)
        return columns

    with suppress_progress_bars():
        return Dataset.from_dict({_ROWS: together}).map(
            join, batched=True, remove_columns=[_ROWS], load_from_cache_file=False, new_fingerprint=uuid.uuid4().hex
        )


def probe(features: Dataset, *, sequences: int) -> dict[str, torch.Tensor]:
    """Return some sequences of two short rows each, which are enough to see whether a model keeps rows apart."""
    rows = features.select(range(min(len(features), 2 * sequences)))["input_ids"][:]
    ids, positions = [], []
    for number in range(sequences):
        first = list(rows[(2 * number) % len(rows)][:_PROBE_TOKENS])
        second = list(rows[(2 * number + 1) % len(rows)][:_PROBE_TOKENS])
        ids.append([*first, *second])
        positions.append([*range(len(first)), *range(len(second))])
    return {"input_ids": pad(ids, 0), POSITIONS: pad(positions, 0)}


def refuse_unseparated_rows(model: Any, batch: Mapping[str, torch.Tensor]) -> None:
    """Refuse a model in which rows of one sequence see each other, or whose positions do not restart.

    Two forward passes test it. Other tokens in the first row of each sequence must change nothing in the later rows.
    The second row of the first sequence must give the same logits as it gives alone.

    Args:
        model: As the strategy prepared it.
        batch: Packed sequences, see `probe`.

    Raises:
        Incompatible: With the difference that was seen.
    """
    if is_peft_model(model) and model.active_peft_config.is_prompt_learning:
        raise Incompatible(
            "packing: a strategy with virtual tokens puts them before the first row of a sequence alone. Set "
            "preprocessor.packing: false, or use another strategy, such as lora."
        )
    ids, positions = batch["input_ids"].to(model.device), batch[POSITIONS].to(model.device)
    starts = positions == 0
    in_later_row = starts.cumsum(1) > 1
    begin, end = [*starts[0].nonzero().flatten().tolist(), ids.shape[1]][1:3]
    vocabulary_size = model.get_input_embeddings().weight.shape[0]
    changed_ids = torch.where(in_later_row, ids, (ids + 1) % vocabulary_size)
    with preserve_rng_state(), torch.no_grad(), evaluation_mode(model):
        options = {POSITIONS: positions, "use_cache": False}
        before = model(input_ids=ids, **options).logits.float()
        after = model(input_ids=changed_ids, **options).logits.float()
        alone = model(input_ids=ids[:1, begin:end], use_cache=False).logits[0].float()
    largest = float(before.abs().max())
    if not torch.allclose(before[in_later_row], after[in_later_row], rtol=0, atol=1e-5 * largest):
        difference = before[in_later_row] - after[in_later_row]
        raise Incompatible(_refusal(model, "sees earlier rows of its sequence", difference))
    is_half_precision = next(model.parameters()).dtype in (torch.float16, torch.bfloat16)
    tolerance = (5e-2 if is_half_precision else 1e-4) * largest
    if not torch.allclose(before[0, begin:end], alone, rtol=0, atol=tolerance):
        difference = before[0, begin:end] - alone
        raise Incompatible(_refusal(model, "has other logits than alone", difference))


def _refusal(model: Any, problem: str, difference: torch.Tensor) -> str:
    implementation = getattr(model.config, "_attn_implementation", None)
    return (
        f"packing: with {type(model).__name__} and attention {implementation!r}, a row {problem} (its logits differ by "
        f"{difference.abs().max().item():.2g}). Set preprocessor.packing: false; training: {{train_sampling_strategy: "
        "group_by_length} saves most of the padding too."
    )
