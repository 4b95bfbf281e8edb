"""The loss is the cross entropy over the options, at the place that the pipeline reads, however a batch is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from decided import request_of, train
from torch.nn.functional import cross_entropy as torch_cross_entropy
from transformers import AutoModelForCausalLM
from transformers.decision import DecisionConfig, label_token_ids

import finetune
from finetune.interfaces import IGNORE_INDEX
from finetune_decision.collator import NO_OPTION, PadDecisions, cross_entropy, option_logits
from finetune_decision.preprocessor import DecisionPreprocessor
from finetune_decision.prompts import Prompts, config_of


def features_of(rows: Any, words: Any) -> list[dict[str, Any]]:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    made = DecisionPreprocessor().features(columns, words)
    return [dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True)]


def test_prompts_and_tokens_are_those_of_the_pipeline(rows: Any, words: Any) -> None:
    config = config_of(words, {})
    for row, feature in zip(rows["test"], features_of(rows["test"], words), strict=True):
        ((inputs, (question,)),) = config.prepare_inputs(request_of(row), Prompts(words, {}).tokenizer)
        assert feature["input_ids"] == inputs["input_ids"][0].tolist() and int(inputs["marks"][0]) == len(
            feature["input_ids"]
        )
        assert feature["option_ids"] == label_token_ids(words, tuple(question.labels))


def test_the_tokenizer_of_the_run_gets_no_tokens(words: Any, rows: Any, full: Path) -> None:
    size = len(words)
    features_of(rows["test"], words)
    assert len(words) == size == len(finetune.load(full).tokenizer)


def test_text_that_looks_like_a_token_stays_text(words: Any) -> None:
    prompts = Prompts(words, {})
    ids = prompts.tokens("A <|mark|> and <|endoftext|> and <|split|>.", {"type": "noul"})
    assert words.eos_token_id not in ids and max(ids) < len(words)


def test_the_loss_is_the_cross_entropy_over_the_options_alone(base: Path, rows: Any, words: Any) -> None:
    features = features_of(rows["train"][:6], words)
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    total = 0.0
    with torch.no_grad():
        for feature in features:
            logits = model(torch.tensor([feature["input_ids"]])).logits[0, -1, feature["option_ids"]]
            total += torch_cross_entropy(logits, torch.tensor(feature["labels"])).item()
        collator = DecisionPreprocessor().collator(words, model)
        assert isinstance(collator, PadDecisions)
        batch = collator(features)
        outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        logits = option_logits(outputs.logits, batch["attention_mask"], batch["option_ids"])
        assert cross_entropy({"logits": logits}, batch["labels"]).item() == pytest.approx(total / 6, abs=1e-5)
        # accumulated: each batch is its share of the questions of the step
        assert cross_entropy({"logits": logits}, batch["labels"], 12).item() == pytest.approx(total / 12, abs=1e-5)
        # the last logits alone, or logits of virtual tokens before those of the text, give the same
        kept = outputs.logits[:, int(batch["attention_mask"].sum(1).min()) - 1 :]
        virtual = torch.cat([torch.zeros_like(outputs.logits[:, :4]), outputs.logits], dim=1)
        for other in (kept, virtual):
            assert torch.equal(option_logits(other, batch["attention_mask"], batch["option_ids"]), logits)
    assert (logits == -torch.inf).sum() == (batch["option_ids"] == NO_OPTION).sum() > 0


def test_transformers_counts_one_label_for_each_question(rows: Any, words: Any) -> None:
    batch = PadDecisions(pad=DecisionPreprocessor().collator(words, None).pad)(features_of(rows["train"][:6], words))
    # a causal model's labels are counted from the second on, any other's all
    assert (batch["labels"] != IGNORE_INDEX).sum() == (batch["labels"][:, 1:] != IGNORE_INDEX).sum() == 6


def test_accumulated_batches_train_as_one(base: Path, rows: Any, tmp_path: Path) -> None:
    losses = []
    for number, (size, steps) in enumerate(((8, 1), (2, 4))):
        training = {
            "max_steps": 2, "per_device_train_batch_size": size, "gradient_accumulation_steps": steps,
            "learning_rate": 1e-2, "save_strategy": "no", "logging_steps": 1, "eval_strategy": "no",
        }  # fmt: skip
        run = train(base, tmp_path / str(number), rows, training=training, dataset={"train": rows["train"][:16]})
        losses.append([entry["loss"] for entry in finetune.load(run).result.log if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_prediction_does_not_depend_on_its_batch(full: Path, rows: Any) -> None:
    model = finetune.load(full)
    together = model.predict([{**row, "answer": None} for row in rows["test"][:9]])
    for row, record in zip(rows["test"][:9], together, strict=True):
        alone = model.predict([{**row, "answer": None}])[0]
        assert alone["probabilities"] == pytest.approx(record["probabilities"], abs=1e-5)


def test_settings_hold_the_prompt_only_if_it_is_not_that_of_the_tokenizer(words: Any, full: Path) -> None:
    assert DecisionConfig.from_pretrained(full).chat_template == config_of(words, {}).chat_template is not None
