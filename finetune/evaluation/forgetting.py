"""What a model forgets: its NLL per token on general text before and after training.

The measure repeats the pretraining objective: encoders fill masked tokens, decoders predict the
next token, encoder-decoders restore a corrupted text. The body is the trained one and the head is
the base model's, so models with any task head can be compared.

Source: McCloskey and Cohen 1989, "Catastrophic interference in connectionist networks"; cross
entropy on held-out general text as in Gururangan et al. 2020, "Don't Stop Pretraining", table 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from finetune import models
from finetune.errors import BadData, BadRecipe, Incompatible
from finetune.evaluation import bootstrap
from finetune.interfaces import IGNORE_INDEX
from finetune.plan import Plan
from finetune.training.collate import pad, pad_mask
from finetune.training.losses import align_logits

BUNDLED, NONE = "bundled", "none"
NOTABLE = 0.1
"""Increase in nats per token from which a model is said to have forgotten: a perplexity about a
tenth higher."""
LONGEST = 128
"""Tokens after which a text is cut."""
MOST_TEXTS = 200
"""Texts after which the rest of a file is ignored."""
BATCH = 16
MASKED = 0.15
"""Share of tokens that are masked. Source: Devlin et al. 2019, section 3.1."""
_HEADS = {
    "denoising": ("AutoModelForSeq2SeqLM", MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
    "masked": ("AutoModelForMaskedLM", MODEL_FOR_MASKED_LM_MAPPING_NAMES),
    "causal": ("AutoModelForCausalLM", MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
}
"""Objective → its head, and the model types that have one. The first objective that a model type
has is used."""


class UnmeasurableError(Exception):
    """Why forgetting cannot be measured."""


@dataclass(frozen=True, kw_only=True)
class NLL:
    """Negative log-likelihood of each text."""

    nll: Sequence[float]
    """In nats, summed over the tokens of a text."""
    tokens: Sequence[int]
    """Tokens of each text that are scored."""


def require_general_text(general_text: str) -> None:
    """Check before training that the recipe's general text can be read.

    Raises:
        BadData: The recipe's file of general text cannot be read, or is empty.
    """
    if general_text != NONE:
        general_texts(general_text)


def measure(plan: Plan, tokenizer: Any, trained: Any, *, seed: int = 0) -> dict[str, Any]:
    """Return how training changed the NLL per token on general text.

    ``before``, ``after`` and ``increase`` (``value``, ``low`` and ``high`` of its 95% interval over
    texts) are in nats per token. ``forgot`` is true if the interval of the increase lies above 0
    and its value is at least `NOTABLE`. ``chance`` is the NLL of a model that gives all tokens the
    same probability. If nothing can be measured, the only key is ``not_measured``, with the reason.

    Args:
        plan: Names the base model and the general text.
        tokenizer: The tokenizer of the model.
        trained: The model after training; it is left in evaluation mode.
        seed: Seed of the interval.

    Raises:
        BadData: The recipe's file of general text cannot be read, or is empty.
    """
    if plan.recipe.general_text == NONE:
        return {"not_measured": "the recipe says general_text: none"}
    texts = general_texts(plan.recipe.general_text)
    try:
        objective, base = _pretrained(plan)
        make = _objective(objective, tokenizer)
        pairs = [make(text) for text in texts]
        before = _read(base, pairs, tokenizer, objective=objective)
        chance = math.log(base.get_input_embeddings().weight.shape[0])
        after = _read(_with_body_of(base, trained), pairs, tokenizer, objective=objective)
        return {**_compared(objective, before, after, seed=seed), "chance": chance}
    except UnmeasurableError as reason:
        return {"not_measured": str(reason)}


def _compared(objective: str, before: NLL, after: NLL, *, seed: int) -> dict[str, Any]:
    tallies = [bootstrap.ratios({"nats": (side.nll, side.tokens)}) for side in (after, before)]
    increase = bootstrap.differences(*tallies, seed=seed).get("nats")
    if increase is None:
        raise UnmeasurableError("a single text has no interval; write several texts, one per line")
    return {
        "objective": objective,
        "texts": len(before.nll),
        "tokens": sum(before.tokens),
        "before": sum(before.nll) / sum(before.tokens),
        "after": sum(after.nll) / sum(after.tokens),
        "increase": asdict(increase),
        "forgot": increase.low > 0 and increase.value >= NOTABLE,
    }


def general_texts(name: str) -> list[str]:
    """Return the texts of a file, one per line, or those that come with this package.

    Args:
        name: Path of a text file, or ``bundled``.

    Raises:
        BadData: The file cannot be read, or every line is blank.
    """
    if name == BUNDLED:
        content = files("finetune.evaluation").joinpath("general.txt").read_text(encoding="utf-8")
    else:
        try:
            content = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadData(f"general_text: {name!r} cannot be read: {error}. Name a text file, or none.") from error
    texts = [line.strip() for line in content.splitlines() if line.strip()][:MOST_TEXTS]
    if not texts:
        raise BadData(f"general_text: {name!r} holds no text. Write one text per line.")
    return texts


def _pretrained(plan: Plan) -> tuple[str, Any]:
    """Return the base model's pretraining objective, and the base model with its pretraining head."""
    config = models.config_of(plan.model)
    heads = [(objective, name) for objective, (name, types) in _HEADS.items() if config.model_type in types]
    if not heads:
        raise UnmeasurableError(f"{config.model_type} has no language modeling head")
    objective, name = heads[0]
    try:
        with torch.random.fork_rng(), plan.strategy.loading():
            loaded = models.load(plan.model, getattr(transformers, name), plan.strategy.load_options())
    except (BadRecipe, Incompatible) as error:
        raise UnmeasurableError(f"the base model cannot be loaded as a language model: {error}") from error
    prefix = loaded.model.base_model_prefix
    missing = sorted(module for module in loaded.newly_initialized if not module.startswith(f"{prefix}."))
    if missing:
        raise UnmeasurableError(f"the base model was saved without its pretraining head ({missing[0]})")
    return objective, loaded.model


def _with_body_of(model: Any, trained: Any) -> Any:
    """Return the base model's head on the trained body; the trained model itself if it has the same head."""
    inner = models.base_model_of(trained)
    if type(inner) is type(model):
        return inner
    body, ours = inner.base_model, model.base_model
    if type(body) is not type(ours) or body is inner:
        raise UnmeasurableError(f"{type(inner).__name__} and {type(model).__name__} have different bodies")
    sizes = [part.get_input_embeddings().weight.shape[0] for part in (body, ours)]
    if sizes[0] != sizes[1]:
        raise UnmeasurableError(f"training changed the size of the vocabulary from {sizes[1]:,} to {sizes[0]:,}")
    setattr(model, model.base_model_prefix, body)
    if model.config.tie_word_embeddings and model.get_output_embeddings() is not None:
        model.get_output_embeddings().weight = body.get_input_embeddings().weight
    return model.to(next(body.parameters()).device)


Pair = Mapping[str, list[int]]


def _objective(name: str, tokenizer: Any) -> Any:
    """Return the function that makes ids and labels of a text for a pretraining objective."""
    if name == "causal":
        return partial(_next, tokenizer=tokenizer)
    if name == "masked" or tokenizer.mask_token_id is not None:
        if tokenizer.mask_token_id is None:
            raise UnmeasurableError("the tokenizer has no mask token")
        return partial(_masked if name == "masked" else _infilled, tokenizer=tokenizer)
    sentinels = sorted(
        (number for token, number in tokenizer.get_vocab().items() if token.startswith("<extra_id_")), reverse=True
    )
    if len(sentinels) < 2:
        raise UnmeasurableError("the tokenizer has neither a mask token nor sentinel tokens")
    return partial(_spans, tokenizer=tokenizer, sentinels=sentinels)


def _ids(text: str, tokenizer: Any) -> list[int]:
    ids: list[int] = tokenizer(text, truncation=True, max_length=LONGEST)["input_ids"]
    return ids


def _next(text: str, *, tokenizer: Any) -> Pair:
    ids = _ids(text, tokenizer)
    return {"input_ids": ids, "labels": [IGNORE_INDEX, *ids[1:]]}


def _hidden(ids: Sequence[int], tokenizer: Any) -> list[int]:
    """Return the positions to mask, at least one. The same text always gets the same positions."""
    words = [place for place, token in enumerate(ids) if token not in set(tokenizer.all_special_ids)]
    count = max(1, round(MASKED * len(words)))
    return sorted(np.random.default_rng(list(ids)).choice(words, size=min(count, len(words)), replace=False).tolist())


def _masked(text: str, *, tokenizer: Any) -> Pair:
    ids = _ids(text, tokenizer)
    hidden = set(_hidden(ids, tokenizer))
    return {
        "input_ids": [tokenizer.mask_token_id if place in hidden else token for place, token in enumerate(ids)],
        "labels": [token if place in hidden else IGNORE_INDEX for place, token in enumerate(ids)],
    }


def _infilled(text: str, *, tokenizer: Any) -> Pair:
    """Return BART's features: the whole text from a masked one. Source: Lewis et al. 2020, section 2.2."""
    return {"input_ids": list(_masked(text, tokenizer=tokenizer)["input_ids"]), "labels": _ids(text, tokenizer)}


def _spans(text: str, *, tokenizer: Any, sentinels: Sequence[int]) -> Pair:
    """Return T5's features: the spans that the sentinels replace. Source: Raffel et al. 2020, section 3.1.4."""
    ids = _ids(text, tokenizer)
    hidden = set(_hidden(ids, tokenizer))
    source: list[int] = []
    target: list[int] = []
    used = 0
    for place, token in enumerate(ids):
        if place not in hidden:
            source.append(token)
            continue
        if place - 1 not in hidden:
            if used + 1 >= len(sentinels):
                source.append(token)
                hidden.discard(place)
                continue
            source.append(sentinels[used])
            target.append(sentinels[used])
            used += 1
        target.append(token)
    return {"input_ids": source, "labels": [*target, sentinels[used], tokenizer.eos_token_id]}


@torch.no_grad()
def _read(model: Any, pairs: Sequence[Pair], tokenizer: Any, *, objective: str) -> NLL:
    """Return the negative log-likelihood of the labels of each text, and the number of labels."""
    model.eval()
    device, padding = next(model.parameters()).device, tokenizer.pad_token_id or 0
    nll: list[float] = []
    tokens: list[int] = []
    for at in range(0, len(pairs), BATCH):
        part = pairs[at : at + BATCH]
        ids = pad([pair["input_ids"] for pair in part], padding).to(device)
        mask = pad_mask([pair["input_ids"] for pair in part]).to(device)
        labels = pad([pair["labels"] for pair in part], IGNORE_INDEX).to(device)
        given = {"labels": labels} if objective == "denoising" else {}
        logits = model(input_ids=ids, attention_mask=mask, **given).logits.float()
        logits, labels = align_logits(logits, labels, shift=objective == "causal")
        each = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), labels, ignore_index=IGNORE_INDEX, reduction="none"
        )
        nll += each.sum(dim=1).tolist()
        tokens += labels.ne(IGNORE_INDEX).sum(dim=1).tolist()
    return NLL(nll=nll, tokens=tokens)
