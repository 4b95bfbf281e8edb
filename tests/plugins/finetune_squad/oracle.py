"""The published algorithms in plain loops, written for these tests alone: slow, obvious, and sharing no code with ours.

Labels: the loop of transformers' `run_qa.py` (`prepare_train_features`). Answers: `postprocess_qa_predictions` of its
`utils_qa.py`. Where chance decides there (an unstable sort), the later of two equal logits ranks first here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def windows(tokenizer: Any, question: str, context: str, *, max_length: int, stride: int) -> list[dict[str, Any]]:
    """Return the tokenizer's own windows, each with the offsets of its context tokens and None elsewhere."""
    made = tokenizer(
        [question.lstrip()],
        [context],
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
    )
    found = []
    for index in range(len(made["input_ids"])):
        owners = made.sequence_ids(index)
        offsets = [o if owner == 1 else None for o, owner in zip(made["offset_mapping"][index], owners, strict=True)]
        found.append(
            {
                "input_ids": made["input_ids"][index],
                "token_type_ids": made["token_type_ids"][index],
                "offsets": offsets,
                "raw_offsets": made["offset_mapping"][index],
                "owners": owners,
            }
        )
    return found


def label(tokenizer: Any, window: dict[str, Any], answer: tuple[str, int] | None, *, fixed: bool) -> tuple[int, int]:
    """Return the published labels of one window; ``fixed`` stops the start from running past the context."""
    ids, owners, offsets = window["input_ids"], window["owners"], window["raw_offsets"]
    if tokenizer.cls_token_id in ids:
        null = ids.index(tokenizer.cls_token_id)
    elif tokenizer.bos_token_id in ids:
        null = ids.index(tokenizer.bos_token_id)
    else:
        null = 0
    if answer is None or 1 not in owners:
        return null, null
    text, start_char = answer
    end_char = start_char + len(text)
    first, last = owners.index(1), len(owners) - 1 - owners[::-1].index(1)
    if offsets[first][0] > start_char or offsets[last][1] < end_char:
        return null, null
    bound = last + 1 if fixed else len(ids)
    start, end = first, last
    while start < bound and offsets[start][0] <= start_char:
        start += 1
    while offsets[end][1] >= end_char:
        end -= 1
    return start - 1, end + 1


def answer(
    context: str,
    features: list[dict[str, Any]],
    start_logits: list[np.ndarray],
    end_logits: list[np.ndarray],
    *,
    n_best_size: int = 20,
    max_answer_length: int = 30,
    null: bool = True,
    threshold: float = 0.0,
    kind: str = "stable",
) -> dict[str, Any]:
    """Return the published prediction for one example: text, n-best list and null odds.

    Each feature has ``offsets`` (None outside the context) and ``null_token``; each row of logits is one number a
    token, without padding.
    """
    candidates: list[dict[str, Any]] = []
    least: dict[str, Any] | None = None
    for feature, starts, ends in zip(features, start_logits, end_logits, strict=True):
        offsets, cls = feature["offsets"], feature["null_token"]
        score = starts[cls] + ends[cls]
        if least is None or least["score"] > score:
            least = {"text": "", "place": None, "score": score, "start_logit": starts[cls], "end_logit": ends[cls]}
        for i in np.argsort(starts, kind=kind)[::-1][:n_best_size]:
            for j in np.argsort(ends, kind=kind)[::-1][:n_best_size]:
                if offsets[i] is None or offsets[j] is None or j < i or j - i + 1 > max_answer_length:
                    continue
                place = (offsets[i][0], offsets[j][1])
                candidates.append(
                    {
                        "text": context[place[0] : place[1]],
                        "place": place,
                        "score": starts[i] + ends[j],
                        "start_logit": starts[i],
                        "end_logit": ends[j],
                    }
                )
    assert least is not None
    candidates = [each for each in candidates if each["text"]]
    if null:
        candidates.append(least)
    best = sorted(candidates, key=lambda each: -float(each["score"]))[:n_best_size]
    if null and not any(each["place"] is None for each in best):
        best.append(least)
    powers = [math.exp(float(each["score"]) - float(best[0]["score"])) for each in best]
    for each, power in zip(best, powers, strict=True):
        each["probability"] = power / sum(powers)
    chosen = next((each for each in best if each["place"] is not None), None)
    if chosen is None:
        return {"prediction": "", "nbest": best, "null_odds": least["score"], "place": None}
    odds = (least["score"] - chosen["start_logit"]) - chosen["end_logit"]
    silent = null and odds > threshold
    return {
        "prediction": "" if silent else chosen["text"],
        "place": None if silent else chosen["place"],
        "nbest": best,
        "null_odds": odds,
    }
