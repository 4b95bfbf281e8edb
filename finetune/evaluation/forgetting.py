"""What a model forgets: its surprise at general text before and after training.

A model that was pretrained to fill gaps (encoders), to go on (decoders) or to mend a text (encoder-decoders) is asked
to do so once more with the body that training leaves, under the head that the base came with. Whatever the task's own
head is, the body can be compared.

Source: McCloskey and Cohen 1989, "Catastrophic interference in connectionist networks"; cross entropy on held-out
general text as in Gururangan et al. 2020, "Don't Stop Pretraining", table 3.
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

BUNDLED, NONE = "bundled", "none"
NOTABLE = 0.1
"""Nats a token from which it is said that a model forgot: its perplexity on general text grew by a tenth."""
LONGEST = 128
"""Tokens of a text that are read."""
MOST_TEXTS = 200
"""Texts that are read of a file."""
BATCH = 16
MASKED = 0.15
"""Share of tokens that encoders must guess. Source: Devlin et al. 2019, section 3.1."""
_HEADS = {
    "denoising": ("AutoModelForSeq2SeqLM", MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
    "masked": ("AutoModelForMaskedLM", MODEL_FOR_MASKED_LM_MAPPING_NAMES),
    "causal": ("AutoModelForCausalLM", MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
}
"""How a family was pretrained; the first that it has counts."""


class UnmeasurableError(Exception):
    """Why nothing can be said of forgetting."""


@dataclass(frozen=True, kw_only=True)
class NLL:
    """How surprised a model was by each text: in nats, and by how many tokens."""

    nll: Sequence[float]
    tokens: Sequence[int]


def require_general_text(general_text: str) -> None:
    """Check that there is something to measure on, where something is to be measured, before anything is trained.

    Raises:
        BadData: The recipe's file of general text cannot be read, or is empty.
    """
    if general_text != NONE:
        general_texts(general_text)


def measure(plan: Plan, tokenizer: Any, trained: Any, *, seed: int = 0) -> dict[str, Any]:
    """Return what training did to the surprise at general text, as data.

    ``before``, ``after`` and ``growth`` (``value``, ``low``, ``high``: with a 95 % interval over texts) are in nats a
    token; ``forgot`` says whether the growth is told apart from 0 and at least `NOTABLE`; ``guessing`` is the surprise
    of whoever holds all tokens for equally likely. Where nothing can be measured there is ``why_not`` alone.

    Args:
        plan: Says which base and which general text.
        tokenizer: The model's.
        trained: The model after training; it is left in evaluation mode.
        seed: Of the interval.

    Raises:
        BadData: The recipe's file of general text cannot be read, or is empty.
    """
    if plan.recipe.general_text == NONE:
        return {"why_not": "the recipe says general_text: none"}
    texts = general_texts(plan.recipe.general_text)
    try:
        objective, base = _pretrained(plan)
        make = _objective(objective, tokenizer)
        pairs = [make(text) for text in texts]
        before = _read(base, pairs, tokenizer, objective=objective)
        guessing = math.log(base.get_input_embeddings().weight.shape[0])
        after = _read(_with_body_of(base, trained), pairs, tokenizer, objective=objective)
        return {**_compared(objective, before, after, seed=seed), "guessing": guessing}
    except UnmeasurableError as reason:
        return {"why_not": str(reason)}


def _compared(objective: str, before: NLL, after: NLL, *, seed: int) -> dict[str, Any]:
    tallies = [bootstrap.ratios({"nats": (side.nll, side.tokens)}) for side in (after, before)]
    growth = bootstrap.differences(*tallies, seed=seed).get("nats")
    if growth is None:
        raise UnmeasurableError("one text alone has no interval; write several, a line each")
    return {
        "objective": objective,
        "texts": len(before.nll),
        "tokens": sum(before.tokens),
        "before": sum(before.nll) / sum(before.tokens),
        "after": sum(after.nll) / sum(after.tokens),
        "growth": asdict(growth),
        "forgot": growth.low > 0 and growth.value >= NOTABLE,
    }


def general_texts(name: str) -> list[str]:
    """Return the texts of a file, one a line, or those that come with this package.

    Raises:
        BadData: The file cannot be read, or no line holds anything.
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
        raise BadData(f"general_text: {name!r} holds no text. Write a text a line.")
    return texts


def _pretrained(plan: Plan) -> tuple[str, Any]:
    """Return how the base was pretrained, and the base with the head it was pretrained with."""
    config = transformers.AutoConfig.from_pretrained(
        models.locate(plan.model), revision=plan.model.revision or "main", trust_remote_code=False
    )
    heads = [(objective, name) for objective, (name, families) in _HEADS.items() if config.model_type in families]
    if not heads:
        raise UnmeasurableError(f"{config.model_type} has no head for language modelling")
    objective, name = heads[0]
    try:
        with torch.random.fork_rng():
            loaded = models.load(plan.model, getattr(transformers, name), plan.strategy.load_options())
    except (BadRecipe, Incompatible) as error:
        raise UnmeasurableError(f"the base cannot be loaded as a language model: {error}") from error
    prefix = loaded.model.base_model_prefix
    lacking = sorted(module for module in loaded.newly_initialized if not module.startswith(f"{prefix}."))
    if lacking:
        raise UnmeasurableError(f"the base came without the head it was pretrained with ({lacking[0]})")
    return objective, loaded.model


def _with_body_of(model: Any, trained: Any) -> Any:
    """Put a trained body under the base's head; the trained model itself, where it has that head."""
    inner = trained.get_base_model() if hasattr(trained, "get_base_model") else trained
    if type(inner) is type(model):
        return inner
    body, ours = inner.base_model, model.base_model
    if type(body) is not type(ours) or body is inner:
        raise UnmeasurableError(f"the body of {type(inner).__name__} is not that of {type(model).__name__}")
    sizes = [part.get_input_embeddings().weight.shape[0] for part in (body, ours)]
    if sizes[0] != sizes[1]:
        raise UnmeasurableError(f"training changed the size of the vocabulary from {sizes[1]:,} to {sizes[0]:,}")
    setattr(model, model.base_model_prefix, body)
    if model.config.tie_word_embeddings and model.get_output_embeddings() is not None:
        model.get_output_embeddings().weight = body.get_input_embeddings().weight
    return model.to(next(body.parameters()).device)


Pair = Mapping[str, list[int]]


def _objective(name: str, tokenizer: Any) -> Any:
    """Return what makes ids and labels of a text, in the way that a family was pretrained."""
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
        raise UnmeasurableError("the tokenizer has neither a mask token nor sentinels")
    return partial(_spans, tokenizer=tokenizer, sentinels=sentinels)


def _ids(text: str, tokenizer: Any) -> list[int]:
    ids: list[int] = tokenizer(text, truncation=True, max_length=LONGEST)["input_ids"]
    return ids


def _next(text: str, *, tokenizer: Any) -> Pair:
    ids = _ids(text, tokenizer)
    return {"input_ids": ids, "labels": [IGNORE_INDEX, *ids[1:]]}


def _hidden(ids: Sequence[int], tokenizer: Any) -> list[int]:
    """Return the places that are hidden: the same of the same text, at least one."""
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
    """BART's: the whole text from one with gaps. Source: Lewis et al. 2020, section 2.2."""
    return {"input_ids": list(_masked(text, tokenizer=tokenizer)["input_ids"]), "labels": _ids(text, tokenizer)}


def _spans(text: str, *, tokenizer: Any, sentinels: Sequence[int]) -> Pair:
    """T5's: what stood behind each sentinel. Source: Raffel et al. 2020, section 3.1.4."""
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
    """Return the negative log-likelihood of the labels of each text, and their number."""
    model.eval()
    device, padding = next(model.parameters()).device, tokenizer.pad_token_id or 0
    nll: list[float] = []
    tokens: list[int] = []
    for at in range(0, len(pairs), BATCH):
        part = pairs[at : at + BATCH]
        ids = _padded([pair["input_ids"] for pair in part], padding).to(device)
        mask = _padded([[1] * len(pair["input_ids"]) for pair in part], 0).to(device)
        labels = _padded([pair["labels"] for pair in part], IGNORE_INDEX).to(device)
        given = {"labels": labels} if objective == "denoising" else {}
        logits = model(input_ids=ids, attention_mask=mask, **given).logits.float()
        if objective == "causal":
            logits, labels = logits[:, :-1], labels[:, 1:]
        each = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), labels, ignore_index=IGNORE_INDEX, reduction="none"
        )
        nll += each.sum(dim=1).tolist()
        tokens += labels.ne(IGNORE_INDEX).sum(dim=1).tolist()
    return NLL(nll=nll, tokens=tokens)


def _padded(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])
