"""Features → batches: padded sources and labels, and decoder inputs made from the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DataCollatorForSeq2Seq
from transformers.models.bart.modeling_bart import shift_tokens_right

from finetune.errors import Incompatible
from finetune.interfaces import IGNORE_INDEX, Row
from finetune.kit import base_model_of
from finetune_seq2seq.encoding import special_ids


class Seq2SeqCollator:
    """transformers' collator, with decoder inputs as the model makes them from labels.

    Labels ``[[7, 8, 2], [9, 2]]`` become ``[[7, 8, 2], [9, 2, -100]]``. For a T5, whose decoder
    starts with its padding token 0, the decoder inputs are ``[[0, 7, 8], [0, 9, 2]]``. A copy in a
    worker process has no weights.

    Raises:
        Incompatible: The model cannot make decoder inputs, or the tokenizer pads on the left.
    """

    def __init__(self, tokenizer: Any, model: Any) -> None:
        if tokenizer.padding_side != "right":
            raise Incompatible(
                f"the tokenizer ({type(tokenizer).__name__}) pads on the left, so decoder inputs would begin with "
                "padding. Save a copy of it with `tokenizer.padding_side = 'right'`, and name that copy under "
                "model.tokenizer."
            )
        self._model = base_model_of(model)
        self._pad = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORE_INDEX)
        decoder_start(self._model, tokenizer)

    def __call__(self, features: Sequence[Row]) -> dict[str, Any]:
        """Return a batch; without labels there are no decoder inputs either."""
        padded = self._pad([dict(feature) for feature in features])
        batch = {name: value for name, value in padded.items() if value is not None}
        if "labels" in batch:
            batch["decoder_input_ids"] = decoder_inputs(self._model, batch["labels"])
        return batch

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle, without weights: decoder inputs depend on the model's configuration alone.

        A data loader worker that is started by spawn unpickles the collator. It must not get the
        weights, which may lie on a GPU.
        """
        with torch.device("meta"):
            without_weights = type(self._model)(self._model.config)
        return {**self.__dict__, "_model": without_weights}


def decoder_inputs(model: Any, labels: torch.Tensor) -> Any:
    """Return what the decoder reads while it learns to write the labels: the labels, shifted by one token."""
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        return model.prepare_decoder_input_ids_from_labels(labels=labels)
    # M2M100, NLLB and Blenderbot shift in `forward` alone, by BART's rule; upstream's collator does
    # not shift for them
    return shift_tokens_right(labels, model.config.pad_token_id, model.config.decoder_start_token_id)


def decoder_start(model: Any, tokenizer: Any) -> int:
    """Return the token that the model's decoder starts with in training.

    mBART takes it from the end of the target (its language), T5 and BART from their configuration.

    Raises:
        Incompatible: The model's configuration lacks it.
    """
    target = torch.tensor([special_ids(tokenizer, target=True) or [0]], device=model.device)
    try:
        return int(decoder_inputs(model, target)[0, 0])
    except (AttributeError, TypeError, ValueError) as error:
        raise Incompatible(
            f"{type(model).__name__} cannot make decoder inputs from labels: {error} Set "
            "model.options: {decoder_start_token_id: …, pad_token_id: …} to the values of pretraining: for T5 the id "
            "of its padding token, for BART the id of its end token."
        ) from error
