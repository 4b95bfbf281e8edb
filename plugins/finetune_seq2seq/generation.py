"""How text is generated: the model's own configuration, and what a recipe changes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch
from transformers import GenerationConfig

from finetune.errors import BadOptions
from finetune.interfaces import Preprocessor
from finetune.kit import keep_generation_options, require_key
from finetune_seq2seq import languages
from finetune_seq2seq.collator import decoder_start
from finetune_seq2seq.encoding import special_ids

LENGTHS = ("max_new_tokens", "max_length")


def config(model: Any, tokenizer: Any, preprocessor: Preprocessor, given: Mapping[str, Any]) -> GenerationConfig:
    """Return the model's own generation configuration, changed by what is given.

    Generation begins as in training: with the decoder's first token, and the language if the
    tokenizer marks it.

    Args:
        model: Without wrappers; stays as it is.
        tokenizer: Set to the languages, as `Seq2SeqPreprocessor.features` leaves it.
        preprocessor: Its `trainer_options` hold ``max_target_length``, the limit if nothing else is
            given, and ``max_source_length``.
        given: The recipe's ``generation`` section.

    Raises:
        BadOptions: The options contradict each other, the model's own, or the number of its
            positions; they ask for more than one text; or there is no limit.
        Incompatible: The model's configuration does not say how its decoder starts.
    """
    generation: GenerationConfig = deepcopy(model.generation_config)
    limits = {name: given[name] for name in LENGTHS if given.get(name) is not None}
    if not limits:
        limits = {"max_new_tokens": _max_target_length(preprocessor)}
    # a limit of the base, such as bart-large-cnn's 142, must not stay next to another limit
    generation.max_length = generation.max_new_tokens = None
    generation.decoder_start_token_id = decoder_start(model, tokenizer)
    if languages.language_codes(tokenizer) is not None:
        opening = special_ids(tokenizer, target=True)[0]
        generation.forced_bos_token_id = None if opening == tokenizer.eos_token_id else opening
    keep_generation_options(generation)
    try:
        generation.update(**{**given, **limits})  # type: ignore[no-untyped-call]  # upstream's
        generation.validate(strict=True)
    except ValueError as error:
        problem = " ".join(str(error).split())
        raise BadOptions(f"generation, together with the model's generation_config: {problem}") from error
    if (generation.num_return_sequences or 1) != 1 or generation.return_dict_in_generate:
        raise BadOptions(
            "generation: one text is written for each source, and nothing else is returned. Remove "
            "num_return_sequences and return_dict_in_generate."
        )
    _check_lengths(generation, model, preprocessor)
    return generation


def limit(generation: GenerationConfig) -> int:
    """Return how many tokens are generated at most, without the decoder's first token."""
    if generation.max_new_tokens is not None:
        return int(generation.max_new_tokens)
    assert generation.max_length is not None, "config() sets one of the two limits"
    return int(generation.max_length) - 1


def _max_target_length(preprocessor: Preprocessor) -> int:
    options = preprocessor.trainer_options()
    remedy = "So it is unknown how many tokens to write. Return it there, or set generation.max_new_tokens."
    key = "max_target_length"
    return int(require_key(options, key, preprocessor, method="trainer_options()", remedy=remedy))


def _check_lengths(generation: GenerationConfig, model: Any, preprocessor: Preprocessor) -> None:
    most, least = limit(generation), generation.min_length or 0
    if least > most:
        raise BadOptions(
            f"generation: the model's own generation_config asks for {least} tokens or more (min_length), and the "
            f"limit is {most} tokens. Set generation.min_length to 0, or raise generation.max_new_tokens."
        )
    lengths = [("decoder", "generation.max_new_tokens", most)]
    options = preprocessor.trainer_options()
    for side, name in (("decoder", "max_target_length"), ("encoder", "max_source_length")):
        if name in options:
            lengths.append((side, f"preprocessor.{name}", options[name]))
    positions = dict(_positions(model))
    for side, option, length in lengths:
        if length > positions.get(side, length):
            raise BadOptions(
                f"{option} is {length:,}, and the model's {side} has {positions[side]:,} positions. Set it to "
                f"{positions[side]:,} or less."
            )


def _positions(model: Any) -> Iterator[tuple[str, int]]:
    """Yield the number of positions of encoder and decoder if it is limited.

    T5's positions are relative and M2M100's are computed, so they have no limit.
    """
    for name, module in model.named_modules():
        side, _, last = name.rpartition(".")
        if last == "embed_positions" and isinstance(module, torch.nn.Embedding):
            # BART's table begins with two rows that are not positions
            yield side.rpartition(".")[2], module.num_embeddings - getattr(module, "offset", 0)
