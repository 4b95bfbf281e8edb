"""Initialize a small T5 with heads that find the next token in the source.

A summary is to a large part a copy: names, goods, numbers. A model of a million parameters learns copying late and
suddenly, as `induction` says of the decoder; with random weights, this one did not in a thousand steps. The heads that
copying needs are therefore set in the initial weights (mimetic initialization, Trockman & Kolter 2023). In the encoder,
one head notes at each token which token came before it, and one which came two before; in the decoder, one notes what
was written before the last token. One head of the decoder's cross-attention finds what comes after the token that was
written last, another what comes two after the one before. Each cross-attention head passes on the token that it attends
to; training decides where the others attend. Training may change all these weights.
"""

from __future__ import annotations

from typing import Any

import torch

EMBEDDED = 0.05
"""Standard deviation of the embeddings, which are the output weights as well; T5's value, 1, is too large for those."""
NEAR = 6.5
"""Size of the bias that points to an earlier token."""
NOTE, PASSED = 0.2, 0.4
"""Scale of notes and of what is passed on from the source; the embedding of a token has 0.05 a dimension."""
QUIET = 0.1
"""Factor of the random weights, which would otherwise hide tokens and notes."""
LOUD = 2.0
"""Initial scale of the last norm, so that small embeddings give clear choices."""


def look_across(model: Any) -> None:
    """Set the heads in an untrained T5 with two heads or more on both sides; draws from torch's random numbers."""
    width = model.config.d_kv
    read, *notes = (_directions(width, model.config.d_model) for _ in range(3))
    encoder, decoder = model.encoder.block[0].layer, model.decoder.block[0].layer
    with torch.no_grad():
        model.shared.weight.normal_(0, EMBEDDED)
        model.decoder.final_layer_norm.weight.fill_(LOUD)
        for name, weight in model.named_parameters():
            if name.endswith((".o.weight", ".wo.weight")):
                weight.mul_(QUIET)
        for at, note in enumerate(notes):
            _point_back(encoder[0].SelfAttention, _rows(at, width), distance=at + 1, value=read, note=note)
        _point_back(decoder[0].SelfAttention, _rows(0, width), distance=1, value=read, note=notes[0])
        for block in model.decoder.block:
            _pass_on(block.layer[1].EncDecAttention)
        # the last token is matched with the notes of one token before, the one before it with the notes of two before
        for at, (sought, found) in enumerate(((read, notes[0]), (notes[0], notes[1]))):
            rows, attention = _rows(at, width), decoder[1].EncDecAttention
            attention.q.weight[rows], attention.k.weight[rows] = sought, found


def _point_back(attention: Any, rows: slice, *, distance: int, value: torch.Tensor, note: torch.Tensor) -> None:
    """Make a head of a first layer attend to the token at a distance before, and note it.

    The bias of a distance below 8 is in the row of that number, in encoder and decoder alike. Source:
    Raffel et al. 2020, §2.1; transformers' `_relative_position_bucket`.
    """
    head = rows.start // (rows.stop - rows.start)
    bias = torch.zeros_like(attention.relative_attention_bias.weight[:, head])
    bias[distance] = NEAR
    attention.relative_attention_bias.weight[:, head] = bias
    attention.q.weight[rows] *= QUIET
    attention.v.weight[rows], attention.o.weight[:, rows] = value, NOTE * note.T


def _pass_on(attention: Any) -> None:
    """Make each head write the token that it attends to: each some directions of it, and all together everything.

    Training then only has to learn where to attend, which is fast, because any token that a head attends to becomes
    more likely.
    """
    inner, dimensions = attention.v.weight.shape
    everything = torch.cat([_directions(min(inner, dimensions), dimensions)] * -(-inner // dimensions))[:inner]
    attention.v.weight.copy_(everything)
    attention.o.weight.copy_(PASSED * everything.T)


def _rows(head: int, width: int) -> slice:
    return slice(head * width, (head + 1) * width)


def _directions(count: int, dimensions: int) -> torch.Tensor:
    """Return random orthonormal directions, one in each row."""
    orthonormal: torch.Tensor = torch.linalg.qr(torch.randn(dimensions, count))[0]
    return orthonormal.T
