"""How text is written: the model's own way, and what a recipe changes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch
from transformers import GenerationConfig

from finetune.errors import BadOptions
from finetune.interfaces import Preprocessor
from finetune_seq2seq import languages
from finetune_seq2seq.collator import decoder_start
from finetune_seq2seq.encoding import special_ids
from finetune_seq2seq.preprocessor import Seq2SeqPreprocessor

LENGTHS = ("max_new_tokens", "max_length")


def config(model: Any, tokenizer: Any, preprocessor: Preprocessor, given: Mapping[str, Any]) -> GenerationConfig:
    """Return how a model shall write: its own configuration, changed by what is given.

    Writing begins as training did: with the decoder's first token, and the language where the tokenizer marks it.

    Args:
        model: Without wrappers; left as it is.
        tokenizer: Set to the languages, as `Seq2SeqPreprocessor.features` leaves it.
        preprocessor: Its `max_target_length` is the limit where nothing else is given.
        given: The recipe's ``generation`` section.

    Raises:
        BadOptions: The options contradict each other, the model's own, or the number of its positions; or they ask for
            more than a text.
        Incompatible: The model cannot tell how its decoder starts.
    """
    found = deepcopy(model.generation_config)
    limits = {name: given[name] for name in LENGTHS if given.get(name) is not None}
    if not limits and isinstance(preprocessor, Seq2SeqPreprocessor):
        limits = {"max_new_tokens": preprocessor.max_target_length}
    if limits:  # a limit of the base, such as bart-large-cnn's 142, does not stand beside another
        found.max_length = found.max_new_tokens = None
    found.decoder_start_token_id = decoder_start(model, tokenizer)
    if languages.known(tokenizer) is not None:
        opening = special_ids(tokenizer, target=True)[0]
        found.forced_bos_token_id = None if opening == tokenizer.eos_token_id else opening
    found._from_model_config = False  # else transformers holds it for something of its own making
    try:
        found.update(**{**given, **limits})
        found.validate(strict=True)
    except ValueError as error:
        raise BadOptions(f"generation, together with what the model brings: {' '.join(str(error).split())}") from error
    if (found.num_return_sequences or 1) != 1 or found.return_dict_in_generate:
        raise BadOptions(
            "generation: one text is written for each source, and nothing beside it. Leave num_return_sequences and "
            "return_dict_in_generate out."
        )
    _check_lengths(found, model, preprocessor)
    return found


def limit(wanted: GenerationConfig) -> int:
    """Return how many tokens are written at most, the decoder's first not counted."""
    if wanted.max_new_tokens is not None:
        return int(wanted.max_new_tokens)
    return int(wanted.max_length or GenerationConfig()._get_default_generation_params()["max_length"]) - 1


def _check_lengths(wanted: GenerationConfig, model: Any, preprocessor: Preprocessor) -> None:
    most, least = limit(wanted), wanted.min_length or 0
    if least > most:
        raise BadOptions(
            f"generation: the model's own generation_config asks for {least} tokens or more (min_length), and at most "
            f"{most} may be written. Set generation.min_length to 0, or generation.max_new_tokens to more."
        )
    positions = dict(_positions(model))
    asked = [("decoder", "generation.max_new_tokens", most)]
    if isinstance(preprocessor, Seq2SeqPreprocessor):
        asked.append(("decoder", "preprocessor.max_target_length", preprocessor.max_target_length))
        asked.append(("encoder", "preprocessor.max_source_length", preprocessor.max_source_length))
    for side, option, length in asked:
        if length > positions.get(side, length):
            raise BadOptions(
                f"{option} is {length:,}, and the model's {side} has {positions[side]:,} positions. Set it to "
                f"{positions[side]:,} or less."
            )


def _positions(model: Any) -> Iterator[tuple[str, int]]:
    """Yield the positions that encoder and decoder know; T5's are relative and M2M100's computed, so without end."""
    for name, module in model.named_modules():
        side, _, last = name.rpartition(".")
        if last == "embed_positions" and isinstance(module, torch.nn.Embedding):
            # BART's table begins with two rows that are no positions
            yield side.rpartition(".")[2], module.num_embeddings - getattr(module, "offset", 0)
