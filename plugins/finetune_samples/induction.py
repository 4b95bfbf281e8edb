"""Initialize a small Llama with induction heads.

A model of a million parameters learns to copy from its context only after many millions of tokens, and then suddenly
(Olsson et al. 2022, *In-context Learning and Induction Heads*). This one is trained on one or two million. The two
layers of heads that copying needs are therefore set in the initial weights, as in mimetic initialization (Trockman &
Kolter 2023). In the first layer, one head notes at each token which token came before it, and one which came two
before. In the second layer, one head finds what came after the last occurrence of the present token, and one what came
two after the last occurrence of the previous token, with any token between ("Heron carries salt"). Both pass on the
token that they find. Training may change all these weights.
"""

from __future__ import annotations

from typing import Any

import torch

NEAR, PAIRS = 6.5, 3
"""Size of the bias that points to an earlier token, and how many of the fastest rotating pairs carry it."""
MATCH = 1.5
"""How sharply a token looks for the notes that name it."""
NOTE = 0.1
"""Scale of a note; the embedding of a token has 0.05 a dimension."""
QUIET_MLP, QUIET_HEADS = 0.1, 0.3
"""Factor of the random weights, which would otherwise hide the notes."""


def look_back(model: Any) -> None:
    """Set the heads in an untrained Llama whose attention has biases; draws from torch's random numbers.

    Needs at least two layers, two heads, and `initializer_range` at about 0.05.
    """
    config = model.config
    width = config.hidden_size // config.num_attention_heads
    first, second = (model.model.layers[at].self_attn for at in (0, 1))
    read, passed, *notes = (_directions(width, config.hidden_size) for _ in range(4))
    # what the second layer compares: the present token, and the notes at other tokens
    sought = (read, notes[0])
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.down_proj.weight.mul_(QUIET_MLP)
            layer.self_attn.o_proj.weight.mul_(QUIET_HEADS)
        for at, note in enumerate(notes):
            rows = slice(at * width, (at + 1) * width)
            _point_back(first, rows, config.rope_parameters["rope_theta"], distance=at + 1)
            _set(first, rows, value=read, out=NOTE * note)
            second.q_proj.weight[rows] = MATCH * sought[at]
            second.k_proj.weight[rows] = MATCH * note
            _set(second, rows, value=passed, out=NOTE * passed)


def _point_back(attention: Any, rows: slice, theta: float, *, distance: int) -> None:
    """Make a head attend to the token at a distance before, whichever token it is.

    Rotary embeddings rotate a pair of dimensions by its frequency times the position, so a key's bias that is rotated
    by a distance more than the query's matches it at that distance. Source: Su et al. 2021, §3.2; pairs are halves, as
    in transformers' `rotate_half`.
    """
    width = rows.stop - rows.start
    half = width // 2
    turn = distance * theta ** (-torch.arange(PAIRS) / half)
    query, key = torch.zeros(width), torch.zeros(width)
    query[:PAIRS] = NEAR
    key[:PAIRS] = NEAR * torch.cos(turn)
    key[half : half + PAIRS] = NEAR * torch.sin(turn)
    attention.q_proj.bias[rows], attention.k_proj.bias[rows] = query, key
    attention.q_proj.weight[rows] *= QUIET_MLP
    attention.k_proj.weight[rows] *= QUIET_MLP


def _set(attention: Any, rows: slice, *, value: torch.Tensor, out: torch.Tensor) -> None:
    attention.v_proj.weight[rows] = value
    attention.o_proj.weight[:, rows] = out.T


def _directions(count: int, dimensions: int) -> torch.Tensor:
    """Return random orthonormal directions, one in each row."""
    orthonormal: torch.Tensor = torch.linalg.qr(torch.randn(dimensions, count))[0]
    return orthonormal.T
