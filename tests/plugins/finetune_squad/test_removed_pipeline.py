"""The answers of the pipeline for question answering that transformers 5.3 removed, by its published algorithm.

Source: `postprocess` and `decode` of `QuestionAnsweringPipeline` in transformers 4: in each window, the logits of the
context are normalised by softmax, and the pair with the greatest product of its two probabilities is taken; then its
answer is widened to whole words, which is left out here. For a text in one window, it is the pair with the greatest sum
of logits.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

import finetune
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer

LENGTH = 512
LONGEST_ANSWER = 15
"""The default of the pipeline; that of the published search of the example scripts is 30."""


def by_pipeline(model: Any, encoded: Any) -> tuple[int, int]:
    """Return the tokens of the answer, from the first to the last, as the pipeline chose them."""
    with torch.no_grad():
        output = model(
            **{name: torch.tensor([encoded[name]]) for name in ("input_ids", "attention_mask", "token_type_ids")}
        )
    in_context = np.array([part == 1 for part in encoded.sequence_ids(0)])
    cls = np.arange(len(in_context)) == 0  # takes part in the softmax, and is no candidate
    shares = []
    for logits in (output.start_logits, output.end_logits):
        masked = np.where(in_context | cls, logits[0].numpy().astype(np.float64), -10000.0)
        share = np.exp(masked - np.log(np.exp(masked).sum()))
        share[0] = 0.0
        shares.append(share)
    pairs = np.tril(np.triu(np.outer(*shares)), LONGEST_ANSWER - 1)
    first, last = np.unravel_index(pairs.argmax(), pairs.shape)
    return int(first), int(last)


def test_answers_are_those_of_the_pipeline_on_500_questions_of_squad(shared_data: Path, tmp_path: Path) -> None:
    content = json.loads((shared_data / "squad-v1.1" / "validation.json").read_text(encoding="utf-8"))
    words = tokenizer("bert")
    place = tiny_model("bert", words, tmp_path / "qa", model_class="AutoModelForQuestionAnswering",
                       max_position_embeddings=LENGTH, initializer_range=0.3)  # fmt: skip
    model, words = AutoModelForQuestionAnswering.from_pretrained(place).eval(), AutoTokenizer.from_pretrained(place)
    rows, wanted, encodings = [], [], []
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"][:1]:
                encoded = words(question["question"].strip(), paragraph["context"])
                if len(encoded["input_ids"]) <= LENGTH and len(rows) < 500:
                    rows.append({"question": question["question"], "context": paragraph["context"]})
                    wanted.append(by_pipeline(model, encoded))
                    encodings.append(encoded)
    if len(rows) < 500:
        pytest.skip(f"only {len(rows)} questions fit into one window")
    ours = finetune.load(
        place,
        preprocessor={"max_length": LENGTH},
        # the pipeline looks at all pairs, and always answers
        evaluator={"max_answer_length": LONGEST_ANSWER, "n_best_size": LENGTH, "always_answer": True},
    ).predict(rows)
    equal = 0
    for row, record, (first, last), encoded in zip(rows, ours, wanted, encodings, strict=True):
        start, end = encoded.token_to_chars(first).start, encoded.token_to_chars(last).end
        equal += record["prediction"] == row["context"][start:end]
    assert equal == len(rows)
