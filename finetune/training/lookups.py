"""How many tokens and positions a model has: measured, because each family of models counts them in its own way.

A position is a row of a table: an embedding (BERT), an embedding whose first rows are not positions (BART and OPT skip
two, RoBERTa as many as its padding token says), or computed numbers (CTRL, GPT-J). What a model looks up shows which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

SHORT, LONGER = 9, 17
"""Lengths of the two texts whose lookups are compared. T5's relative positions, which have no end, grow by less."""

Table = tuple[str, int, int]
"""The function that looks up rows, the number of rows of the table, and its address in memory (0 if it is computed)."""


class BeyondTableError(IndexError):
    """A model looks up a row that a table does not have."""

    def __init__(self, rows: int) -> None:
        super().__init__(f"a table has {rows} rows")
        self.rows = rows


class WatchLookups(TorchFunctionMode):
    """Notes the greatest row that is looked up in each table inside a `with` block.

    A row that a table does not have is an error here, before the lookup. On a GPU, the lookup itself would make the
    whole process unusable.

    Raises:
        BeyondTableError: A row does not exist.
    """

    def __init__(self) -> None:
        super().__init__()
        self.greatest: dict[Table, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the lookups of a call, and run it."""
        kwargs = kwargs or {}
        for table, dim, index in _lookups(func, args, kwargs):
            if index.numel() and not index.is_meta:
                rows, greatest = table.shape[dim], int(index.max())
                if greatest >= rows:
                    raise BeyondTableError(rows)
                address = table.data_ptr() if isinstance(table, nn.Parameter) else 0
                key = (func.__name__, rows, address)
                self.greatest[key] = max(greatest, self.greatest.get(key, 0))
        return func(*args, **kwargs)


def _lookups(func: Any, args: Any, kwargs: Any) -> Iterator[tuple[torch.Tensor, int, torch.Tensor]]:
    """Yield each table of a call, the dimension of its rows, and the rows that are looked up."""
    if func is functional.embedding:
        index, table = [*args, *(kwargs[name] for name in ("input", "weight") if name in kwargs)][:2]
        yield table, 0, index
    elif func in (torch.gather, torch.Tensor.gather, torch.index_select, torch.Tensor.index_select):
        names = ("input", "dim", "index")
        table, dim, index = [*args, *(kwargs[name] for name in names if name in kwargs)][:3]
        yield table, dim, index
    elif func is torch.Tensor.__getitem__:
        yield from _indexed(*args)


def _indexed(table: torch.Tensor, key: Any) -> Iterator[tuple[torch.Tensor, int, torch.Tensor]]:
    """Yield the same for `table[key]`."""
    keys = key if isinstance(key, tuple) else (key,)
    taken = sum(part is not None and part is not Ellipsis for part in keys)
    dim = 0
    for part in keys:
        if part is None:
            continue
        if part is Ellipsis:
            dim += table.dim() - taken
            continue
        if isinstance(part, torch.Tensor):
            if part.dtype is torch.bool:
                return  # it takes several dimensions
            if not part.is_floating_point():
                yield table, dim, part
        dim += 1


@torch.no_grad()
def most_positions(read: Callable[[int], Any], *, longest: int, stated: int | None = None) -> int | None:
    """Return how many tokens a model can read if that is less than `longest`; else None.

    Args:
        read: Runs the model on a text of so many tokens.
        longest: Tokens of the longest text.
        stated: How many positions the configuration of the model states.
    """
    limit = 0
    if longest > LONGER and _fits(read, LONGER):
        limit = min(longest if stated is None else stated, longest, *_limits(read))
    # A table can also be smaller than the text because the model limits the distance between tokens (DeBERTa), or
    # because it makes a larger one when it needs it (M2M100). A model can also read more than the text, because it
    # adds padding to whole windows (LED). So the longest text decides.
    if limit >= longest or _fits(read, longest):
        return None
    fitting, beyond = limit if limit and _fits(read, limit) else 0, longest
    while beyond - fitting > 1:
        middle = (fitting + beyond) // 2
        if _fits(read, middle):
            fitting = middle
        else:
            beyond = middle
    if not fitting:
        read(longest)  # the error has nothing to do with lengths
    return fitting


def _limits(read: Callable[[int], Any]) -> Iterator[int]:
    """Yield how many tokens fit each table in which a longer text takes one row more for each token."""
    with WatchLookups() as short:
        read(SHORT)
    with WatchLookups() as longer:
        read(LONGER)
    for table, greatest in longer.greatest.items():
        if greatest - short.greatest.get(table, greatest) == LONGER - SHORT:
            _, rows, _ = table
            yield rows - (greatest - (LONGER - 1))


def _fits(read: Callable[[int], Any], length: int) -> bool:
    try:
        with WatchLookups():
            read(length)
    except torch.OutOfMemoryError:
        raise
    except (IndexError, RuntimeError):
        return False
    return True
