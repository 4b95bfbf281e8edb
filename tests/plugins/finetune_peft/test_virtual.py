"""Virtual tokens need no special case outside the model; targets are found by structure."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy

from finetune import run as runs
from finetune.errors import Incompatible
from finetune.interfaces import IGNORE_INDEX
from finetune.plugins import discover
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_peft.ia3 import IA3Strategy
from finetune_peft.job_checks import check_learned_positions, learned_positions
from finetune_peft.layernorm import LayerNormStrategy
from finetune_peft.lora import LoraStrategy
from finetune_peft.prefix import PrefixStrategy
from finetune_peft.prompt import PromptStrategy
from finetune_peft.ptuning import PTuningStrategy

COUNT = 3
TASKS = dict(discover().catalogues["tasks"].targets)
TOKENS, SPANS = TASKS["token-classification"], TASKS["question-answering"]
METHODS = (
    PromptStrategy(num_virtual_tokens=COUNT),
    PTuningStrategy(num_virtual_tokens=COUNT),
    PrefixStrategy(num_virtual_tokens=COUNT),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what writes, once, a tiny model of a family."""
    folder = tmp_path_factory.mktemp("bases")

    def written(family: str, words: str) -> Path:
        path: Path = folder / family
        return path if path.exists() else tiny_model(family, tokenizer(words, vocab_size=400), path)

    return written


def loaded(path: Path, task: Any) -> Any:
    return getattr(transformers, task.model_class).from_pretrained(path).eval()


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 300, (4, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def without_hooks(model: Any) -> Any:
    base = model.get_base_model()
    base._forward_pre_hooks.clear()
    base._forward_hooks.clear()
    return model


@pytest.mark.parametrize("strategy", METHODS, ids=lambda strategy: type(strategy).__name__)
def test_tags_belong_to_the_tokens_of_the_text(strategy: Any, base: Any) -> None:
    model = strategy.prepare(loaded(base("bert", "bert"), TOKENS), TOKENS, newly_initialized={"classifier"}).eval()
    labels = torch.tensor([[0, 1, IGNORE_INDEX, 1, 0, 1, 0, 1, 1]] * 4)
    made = model(**batch(), labels=labels)
    assert made.logits.shape == (4, 9, 2)
    expected = cross_entropy(made.logits.reshape(-1, 2), labels.reshape(-1), ignore_index=IGNORE_INDEX)
    torch.testing.assert_close(made.loss, expected)  # summed in another order
    raw = without_hooks(model)(**batch()).logits
    assert torch.equal(made.logits, raw[:, -9:])


@pytest.mark.parametrize("strategy", METHODS, ids=lambda strategy: type(strategy).__name__)
def test_spans_are_counted_from_the_first_token_of_the_text(strategy: Any, base: Any) -> None:
    model = strategy.prepare(loaded(base("bert", "bert"), SPANS), SPANS, newly_initialized={"qa_outputs"}).eval()
    starts, ends = torch.tensor([0, 2, 4, 8]), torch.tensor([1, 2, 8, 8])
    made = model(**batch(), start_positions=starts, end_positions=ends)
    assert made.start_logits.shape == made.end_logits.shape == (4, 9)
    raw = without_hooks(model)(**batch())
    before = raw.start_logits.shape[1] - 9
    assert before == (0 if isinstance(strategy, PrefixStrategy) else COUNT)
    assert torch.equal(made.start_logits, raw.start_logits[:, before:])
    both = [cross_entropy(raw.start_logits, starts + before), cross_entropy(raw.end_logits, ends + before)]
    assert made.loss.item() == pytest.approx(sum(loss.item() for loss in both) / 2, rel=1e-6)


@pytest.mark.parametrize("task", [TOKENS, SPANS], ids=["tokens", "spans"])
def test_the_base_model_inside_virtual_tokens_does_not_change(task: Any, base: Any) -> None:
    plain = loaded(base("bert", "bert"), task)
    before = plain(**batch()).to_tuple()[0]
    model = METHODS[0].prepare(plain, task).eval()
    assert not torch.equal(model(**batch()).to_tuple()[0], before)
    assert torch.equal(model.get_base_model()(**batch()).to_tuple()[0], before)


def test_a_projected_prefix_is_the_same_to_the_bit_whatever_the_batch(tmp_path: Path) -> None:
    wide = tiny_model(
        "bert", tokenizer("bert", vocab_size=300), tmp_path / "wide", hidden_size=192, intermediate_size=64
    )
    strategy, task = PrefixStrategy(prefix_projection=True), TASKS["text-classification"]
    model = strategy.prepare(loaded(wide, task), task).eval()
    encoder, tokens = model.prompt_encoder["default"], model.prompt_tokens["default"]
    saved = model.get_prompt_embedding_to_save("default")
    with torch.no_grad():
        for size in (1, 7, 32):
            made = encoder(tokens.unsqueeze(0).expand(size, -1))
            assert made.shape == (size, *saved.shape)
            assert all(torch.equal(row, saved) for row in made)


@pytest.mark.parametrize("strategy", METHODS, ids=lambda strategy: type(strategy).__name__)
def test_a_task_without_a_type_of_peft_is_refused_virtual_tokens(strategy: Any, base: Any) -> None:
    task = TASKS["masked-language-modeling"]
    with pytest.raises(Incompatible, match=r"PEFT has no type for this task .* lora, ia3, layernorm"):
        strategy.prepare(loaded(base("bert", "bert"), task), task)


def test_a_decoder_that_learns_its_positions_is_refused_virtual_tokens(tmp_path: Path) -> None:
    task = TASKS["causal-language-modeling"]
    path = tiny_model("gpt2", tokenizer("gpt2", vocab_size=400), tmp_path / "base", model_class=task.model_class)
    for strategy in METHODS[:2]:
        job: Any = SimpleNamespace(model=strategy.prepare(loaded(path, task), task))
        with pytest.raises(Incompatible, match="has a learned embedding for each position"):
            check_learned_positions(job)


# --- targets ----------------------------------------------------------------------------------------------------------

FAMILIES = {"bert": "bert", "roberta": "roberta", "distilbert": "bert", "electra": "bert", "deberta": "deberta"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "strategy", [LoraStrategy(), IA3Strategy(), LayerNormStrategy()], ids=["lora", "ia3", "layernorm"]
)
def test_every_family_of_encoders_has_targets_without_target_modules(strategy: Any, family: str, base: Any) -> None:
    task = TASKS["text-classification"]
    plain = loaded(base(family, FAMILIES[family]), task)
    heads = {name for name, _ in plain.named_children() if name != plain.base_model_prefix}
    heads = {name for name in heads if any(True for _ in getattr(plain, name).parameters())}
    model = strategy.prepare(plain, task, newly_initialized=heads)
    trains = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    added = [name for name in trains if "modules_to_save" not in name]
    for layer in range(2):
        assert any(f"layer.{layer}." in name for name in added), f"layer {layer} has nothing to train"
    assert {name for name in heads if any(f".{name}.modules_to_save." in each for each in trains)} == heads


def test_a_head_that_came_with_the_base_model_gets_no_adapter(base: Any) -> None:
    # the head of a base that answers questions already is not newly initialized
    model = LoraStrategy(target_modules="all-linear").prepare(loaded(base("bert", "bert"), SPANS), SPANS)
    trains = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert [name for name in trains if "qa_outputs" in name and "lora" in name] == []
    assert len([name for name in trains if "qa_outputs.modules_to_save" in name]) == 2


def test_positions_are_counted_as_each_family_counts_them(base: Any) -> None:
    for family in ("bert", "roberta"):
        model = loaded(base(family, FAMILIES[family]), TOKENS)
        skipped = model.config.pad_token_id + 1 if family == "roberta" else 0
        assert list(learned_positions(model)) == [model.config.max_position_embeddings - skipped]


# --- preferences ------------------------------------------------------------------------------------------------------


def test_the_reference_of_an_adapter_is_its_base_model_and_no_second_copy(tmp_path: Path, monkeypatch: Any) -> None:
    from cases import case

    import finetune

    of, loads, load = case("dpo"), [], runs.load_base
    base = tiny_model(
        of.family, tokenizer(of.words, vocab_size=600), tmp_path / "base", model_class="AutoModelForCausalLM"
    )
    monkeypatch.setattr(runs, "load_base", lambda plan: loads.append(plan) or load(plan))  # type: ignore[func-returns-value]
    finetune.train(
        task="dpo", model=str(base), strategy="lora", output=str(tmp_path / "run"), general_text="none",
        dataset={**TASKS["dpo"].starter["dataset"], "limit": {"train": 8, "validation": 4, "test": 4}},
        preprocessor=of.preprocessor, training={**of.training, "max_steps": 1, "per_device_train_batch_size": 4},
    )  # fmt: skip
    assert len(loads) == 1


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral"])
@pytest.mark.parametrize("strategy", METHODS, ids=lambda strategy: type(strategy).__name__)
def test_a_text_gets_the_same_class_alone_and_in_a_padded_batch(strategy: Any, family: str, base: Any) -> None:
    task = TASKS["text-classification"]
    model = loaded(base(family, {"llama": "llama", "gpt2": "gpt2", "mistral": "llama"}[family]), task)
    model.config.pad_token_id = 0
    model = strategy.prepare(model, task, newly_initialized={"score"}).eval()
    texts = batch()
    texts["input_ids"] = texts["input_ids"] * texts["attention_mask"]  # the padding token is 0
    with torch.no_grad():
        together = model(**texts).logits[1]
        alone = model(input_ids=texts["input_ids"][1:2, :6], attention_mask=texts["attention_mask"][1:2, :6]).logits[0]
        longest = model(input_ids=texts["input_ids"][2:3], attention_mask=texts["attention_mask"][2:3]).logits[0]
        torch.testing.assert_close(model(**texts).logits[2], longest)
    torch.testing.assert_close(together, alone)
