"""A start for a small T5: heads that find in the source what comes next.

To write a summary is to a good part to copy: names, goods, numbers. A model of a million parameters learns that late
and all at once, as `induction` says of the decoder; left to chance, ours did not in a thousand steps. So the heads that
copying takes are laid out in the first weights (mimetic initialisation, Trockman & Kolter 2023). In the encoder, one
head notes at every token which token came before it, and one which came two before; in the decoder, one notes what was
written before the last token. One head of the decoder's attention to the source finds what comes after the token that
was written last, another what comes two after the one before. Every head that looks at the source passes on what stands
there; where the others look, training finds out. All weights stay free.
"""

from __future__ import annotations

from typing import Any

import torch

EMBEDDED = 0.05
"""Standard deviation of the embeddings, which are also the output's: T5's own 1 would be far too loud for those."""
NEAR = 6.5
"""Size of the bias that points to a token before."""
NOTE, PASSED = 0.2, 0.4
"""How loud notes are, and what is passed on from the source; a token's own embedding has 0.05 a dimension."""
QUIET = 0.1
"""What is left to chance is turned down, or it would drown tokens and notes."""
LOUD = 2.0
"""First scale of the last norm, so that small embeddings make clear choices."""


def look_across(model: Any) -> None:
    """Lay out the heads in a fresh T5; draws from torch's random numbers. Needs two heads or more on both sides."""
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
        # What was written last is sought among the notes of what came before; what was written before it, two before.
        for at, (sought, found) in enumerate(((read, notes[0]), (notes[0], notes[1]))):
            rows, attention = _rows(at, width), decoder[1].EncDecAttention
            attention.q.weight[rows], attention.k.weight[rows] = sought, found


def _point_back(attention: Any, rows: slice, *, distance: int, value: torch.Tensor, note: torch.Tensor) -> None:
    """Make a head of a first layer attend to the token at a distance before, and note it.

    The bias of a distance below 8 stands in the row of that number, in encoder and decoder alike. Source:
    Raffel et al. 2020, §2.1; transformers' `_relative_position_bucket`.
    """
    head = rows.start // (rows.stop - rows.start)
    bias = torch.zeros_like(attention.relative_attention_bias.weight[:, head])
    bias[distance] = NEAR
    attention.relative_attention_bias.weight[:, head] = bias
    attention.q.weight[rows] *= QUIET
    attention.v.weight[rows], attention.o.weight[:, rows] = value, NOTE * note.T


def _pass_on(attention: Any) -> None:
    """Make every head write what it looks at, each some directions of it and all together everything.

    Then it is enough to learn where to look, and that is learned at once: whatever a head looks at becomes likelier.
    """
    inner, dimensions = attention.v.weight.shape
    everything = torch.cat([_directions(min(inner, dimensions), dimensions)] * -(-inner // dimensions))[:inner]
    attention.v.weight.copy_(everything)
    attention.o.weight.copy_(PASSED * everything.T)


def _rows(head: int, width: int) -> slice:
    return slice(head * width, (head + 1) * width)


def _directions(count: int, dimensions: int) -> torch.Tensor:
    """Return orthonormal directions at random, one a row."""
    orthonormal: torch.Tensor = torch.linalg.qr(torch.randn(dimensions, count))[0]
    return orthonormal.T
