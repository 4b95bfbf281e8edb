"""What a run saves opens with transformers or PEFT alone, by the lines that its card shows."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from finetune import models
from finetune.plugins import discover
from finetune.recipe import Model, options
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune.training import checks
from finetune_hub import usage
from finetune_peft.merging import compare, merge_adapter, random_batch

HEADS = {"bert": "AutoModelForMaskedLM", "llama": "AutoModelForCausalLM", "bart": "AutoModelForSeq2SeqLM"}
NAMES = {0: "ebb", 1: "flood", 2: "slack"}


def labelled(count: int, **more: Any) -> dict[str, Any]:
    names = {number: NAMES[number] for number in range(count)}
    return {"num_labels": count, "id2label": names, "label2id": {name: n for n, name in names.items()}, **more}


TASKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "two classes": ("text-classification", "bert", labelled(2)),
    "three classes": ("text-classification", "bert", labelled(3)),
    "several labels": ("multi-label-classification", "bert", labelled(3, problem_type="multi_label_classification")),
    "a number": ("text-classification", "bert", {"num_labels": 1, "problem_type": "regression"}),
    "tags": ("token-classification", "bert", labelled(3)),
    "answers": ("question-answering", "bert", {}),
    "choices": ("multiple-choice", "bert", {}),
    "masks": ("masked-language-modeling", "bert", {}),
    "text": ("causal-language-modeling", "llama", {}),
    "targets": ("summarization", "bart", {}),
    "rewards": ("reward", "llama", {"num_labels": 1}),
}
"""What is predicted → task, family of the model, options with which the base model is loaded."""
CELLS = [(predicted, strategy) for predicted in TASKS for strategy in ("full", "lora")]
CELLS += [(predicted, "ia3") for predicted in ("three classes", "answers", "masks")]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("bases")

    @cache
    def base(family: str) -> Path:
        made = tokenizer("roberta" if family == "bart" else family, vocab_size=400)
        return tiny_model(family, made, folder / family, model_class=HEADS[family])

    return base


def saved(task_name: str, strategy_name: str, base: Path, labels: dict[str, Any], folder: Path) -> tuple[Any, Any]:
    """Save a model whose trainable parameters have moved, and return task and model."""
    plugins = discover()
    task = plugins.find("tasks", task_name)
    strategy = options.build(plugins.find("strategies", strategy_name), {}, where="strategy")
    loaded = models.load(Model(path=str(base)), getattr(transformers, task.model_class), labels)
    models.set_pad_token(loaded.model, transformers.AutoTokenizer.from_pretrained(base))
    model = strategy.prepare(loaded.model, task, newly_initialized=loaded.newly_initialized)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
    strategy.save(model, folder)
    transformers.AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return task, model


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize(("predicted", "strategy"), CELLS)
def test_the_lines_of_the_card_load_what_was_trained(predicted: str, strategy: str, bases: Any, tmp_path: Path) -> None:
    task_name, family, labels = TASKS[predicted]
    task, model = saved(task_name, strategy, bases(family), labels, tmp_path)
    adapter = usage.read_adapter(tmp_path)
    assert (adapter is None) == (strategy == "full")
    code = usage.loading_code(task.model_class, adapter, labels=labels, place=str(tmp_path))
    found: dict[str, Any] = {}
    exec(compile(code, "card", "exec"), found)
    batch = random_batch(model)
    trained = checks.model_outputs(model.eval(), batch)
    assert compare(trained, checks.model_outputs(found["model"].eval(), batch)) < 1e-5
    if strategy != "full":
        assert compare(trained, checks.model_outputs(merge_adapter(model).eval(), batch)) < 1e-5
    for name, value in labels.items():
        assert getattr(found["model"].config, name) == value
    if "num_labels" not in labels or adapter is None:
        assert "labels" not in code
    elif labels["num_labels"] != 2:
        # PEFT's configuration has no place for the labels: without the argument, the head has another size
        with pytest.raises(RuntimeError, match="size mismatch"):
            exec(compile(code.replace(", **labels", ""), "card", "exec"), {})


@pytest.mark.parametrize(
    ("adapter", "is_right"),
    [
        ({"peft_type": "LORA", "task_type": "TOKEN_CLS"}, True),
        ({"peft_type": "PREFIX_TUNING", "task_type": "QUESTION_ANS"}, True),
        ({"peft_type": "PROMPT_TUNING", "task_type": "SEQ_CLS"}, True),
        ({"peft_type": "PROMPT_TUNING", "task_type": "TOKEN_CLS"}, False),
        ({"peft_type": "P_TUNING", "task_type": "QUESTION_ANS"}, False),
    ],
)
def test_no_code_is_shown_with_which_peft_shifts_the_tokens(adapter: dict[str, str], is_right: bool) -> None:
    assert usage.computes_the_same(adapter) is is_right
