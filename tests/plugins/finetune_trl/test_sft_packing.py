"""Several rows in one sequence: none lost, none cut, and none that another can see."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from peft import PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import finetune
from finetune.data import features
from finetune.errors import Incompatible
from finetune.interfaces import IGNORE_INDEX, Job
from finetune.plugins import discover
from finetune.recipe import parse
from finetune.training.arguments import device_arguments
from finetune_trl.patched import suppress_deprecations
from finetune_trl.sft.evaluator import SFTEvaluator
from finetune_trl.sft.packing import POSITIONS, best_fit, pack, probe, refuse_unseparated_rows
from finetune_trl.sft.preprocessor import SFTPreprocessor
from finetune_trl.sft.trainer import trainer

FOUND = discover()
TASK = FOUND.find("tasks", "sft")
ROWS = [{"prompt": f"Who is {'very ' * (n % 4)}old, {n}?", "completion": " I," * (1 + n % 5)} for n in range(12)]


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(40, 90))
def test_every_row_is_in_one_sequence_which_it_fits(lengths: list[int], room: int) -> None:
    together = best_fit(lengths, room=room)
    assert sorted(row for rows in together for row in rows) == list(range(len(lengths)))
    sums = [sum(lengths[row] for row in rows) for rows in together]
    assert all(total <= room for total in sums)
    # any first-fit or best-fit packing leaves at most one sequence half empty
    assert sum(2 * total <= room for total in sums) <= 1
    assert together == sorted(together) and all(rows == sorted(rows) for rows in together)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=20))
def test_no_token_is_lost_or_comes_twice_and_no_row_is_predicted_from_another(lengths: list[int]) -> None:
    rows = [[100 * number + place for place in range(length)] for number, length in enumerate(lengths)]
    made = pack(Dataset.from_dict({"input_ids": rows, "labels": rows}), room=12)
    found = []
    for sequence in made:
        starts = [place for place, position in enumerate(sequence[POSITIONS]) if position == 0]
        for begin, end in zip(starts, [*starts[1:], len(sequence["input_ids"])], strict=True):
            ids = sequence["input_ids"][begin:end]
            assert sequence["labels"][begin:end] == [IGNORE_INDEX, *ids[1:]]
            assert sequence[POSITIONS][begin:end] == list(range(len(ids)))
            found.append(ids)
    assert sorted(found) == rows


def job_of(base: Path, *, packing: bool, attention: str = "sdpa", **options: Any) -> Job:
    words = AutoTokenizer.from_pretrained(base)
    preprocessor = SFTPreprocessor(max_length=96, packing=packing).fit(ROWS)
    made = features.make(Dataset.from_list(ROWS), preprocessor=preprocessor, tokenizer=words, task=TASK, split="train")
    return Job(
        recipe=parse({"task": "sft", "model": str(base), "dataset": "rows.jsonl", "strategy": "full",
                             "output": str(base / "scratch")}),
        output=base / "scratch", seed=42, task=TASK,
        model=AutoModelForCausalLM.from_pretrained(base, attn_implementation=attention), tokenizer=words,
        preprocessor=preprocessor, strategy=FOUND.find("strategies", "full")(), evaluator=SFTEvaluator(),
        train=made.features, validation=None, validation_examples=None, generation={},
        arguments={**TASK.training, **device_arguments(), "output_dir": str(base / "scratch"),
                   "report_to": "none",
                   "disable_tqdm": True, "per_device_train_batch_size": 2, **options},
    )  # fmt: skip


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_trained_token_is_as_likely_as_in_its_row_alone(attention: str, llama_base: Any) -> None:
    # weights of this size make attention matter: a row that saw another would differ in the first digit
    job = job_of(llama_base(num_hidden_layers=2, initializer_range=0.3), packing=True, attention=attention)
    built = trainer(job)
    assert len(built.train_dataset) < len(ROWS) / 2
    alone, together = [], []
    job.model.eval()
    with torch.no_grad():
        for row in job.train or ():
            ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
            alone += likelihoods(job.model(input_ids=ids, use_cache=False).logits, ids, labels)
        for batch in built.get_train_dataloader():
            assert "attention_mask" not in batch
            logits = job.model(input_ids=batch["input_ids"], position_ids=batch[POSITIONS], use_cache=False).logits
            together += likelihoods(logits, batch["input_ids"], batch["labels"])
    assert len(together) == len(alone) > 50
    assert torch.allclose(torch.tensor(sorted(together)), torch.tensor(sorted(alone)), rtol=0, atol=1e-5)


def likelihoods(logits: torch.Tensor, ids: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """Return the log-probabilities of the trained tokens."""
    found = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    return [float(value) for value in found[labels[:, 1:] != IGNORE_INDEX]]


def test_a_step_on_packed_rows_is_the_step_on_the_rows(llama_base: Any) -> None:
    base, weights = llama_base(), []
    for packing in (False, True):
        options = {"max_steps": 1, "learning_rate": 0.1, "optim": "sgd", "max_grad_norm": 0.0}
        job = job_of(base, packing=packing, **{**options, "per_device_train_batch_size": 12, "save_strategy": "no"})
        before = job.model.lm_head.weight.detach().clone()
        trainer(job).train()
        weights.append(job.model.lm_head.weight.detach())
        assert not torch.equal(before, weights[-1])
    assert torch.allclose(*weights, rtol=0, atol=1e-6)


def test_a_packed_run_scores_and_answers_each_row_by_itself_and_resumes_to_the_same_bits(
    llama_base: Any, tmp_path: Path
) -> None:
    data, names = {"train": ROWS * 4, "validation": ROWS[:5], "test": ROWS[:5]}, ("straight", "broken")
    recipe: dict[str, Any] = {
        "task": "sft", "model": str(llama_base()), "strategy": "full", "dataset": data, "score_base_model": False,
        "preprocessor": {"max_length": 96, "packing": True}, "generation": {"max_new_tokens": 4},
        "training": {"max_steps": 4, "per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 2},
    }  # fmt: skip
    straight, _ = (finetune.train(**recipe, output=str(tmp_path / name)) for name in names)
    shutil.rmtree(tmp_path / "broken/checkpoint-4")
    (tmp_path / "broken/result.json").unlink()
    resumed = finetune.train(tmp_path / "broken/recipe.yaml", resume=True, dataset=data)
    assert resumed.resumed_from == "checkpoint-2"
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in names)
    assert one == other
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, ROWS[:5])))
    assert finetune.evaluate(tmp_path / "straight", str(tmp_path / "test.jsonl")) == straight.scores["test"]
    assert len(finetune.load(tmp_path / "straight").predict([{"prompt": row["prompt"]} for row in ROWS[:5]])) == 5


TINY = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1}
KEPT_APART = {
    "Qwen2": {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32},
    "Mistral": {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32, "sliding_window": 4},
    "GPT2": {"n_head": 2, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 2},
}
REFUSED = {
    "OPT": {"num_attention_heads": 2, "ffn_dim": 32, "word_embed_proj_dim": 32, "max_position_embeddings": 64},
    "Bloom": {"n_head": 2},
    "Falcon": {"num_attention_heads": 2},
}


def model_of(family: str, options: dict[str, Any]) -> Any:
    config: Any = getattr(transformers, f"{family}Config")(**{**TINY, **options})
    config.initializer_range = 0.3
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("family", [*KEPT_APART, *REFUSED])
def test_a_family_keeps_rows_apart_or_is_refused(family: str) -> None:
    rows = Dataset.from_dict({"input_ids": [[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16, 17, 18]]})
    batch = probe(rows, sequences=2)
    model = model_of(family, {**KEPT_APART, **REFUSED}[family])
    if family in REFUSED:
        with pytest.raises(Incompatible, match=f"with {family}ForCausalLM .* sees earlier rows of its sequence"):
            refuse_unseparated_rows(model, batch)
    else:
        refuse_unseparated_rows(model, batch)


def test_a_model_that_counts_positions_on_is_refused(llama_base: Any) -> None:
    """One that is deaf to positions, as some adapters make it, masks nothing and counts on."""
    model = AutoModelForCausalLM.from_pretrained(llama_base(initializer_range=0.3))
    heard = model.forward
    model.forward = lambda position_ids=None, **given: heard(**given)
    with pytest.raises(Incompatible, match="sees earlier rows"):
        refuse_unseparated_rows(model, probe(Dataset.from_dict({"input_ids": [[5, 6, 7], [8, 9, 10]]}), sequences=1))

    def counting_on(position_ids: Any = None, **given: Any) -> Any:
        later = (position_ids == 0).cumsum(1) - 1 if position_ids is not None else None
        return heard(position_ids=None if position_ids is None else position_ids * (1 + later), **given)

    model.forward = counting_on
    with pytest.raises(Incompatible, match=r"has other logits than alone|sees earlier rows"):
        refuse_unseparated_rows(model, probe(Dataset.from_dict({"input_ids": [[5, 6, 7], [8, 9, 10]]}), sequences=1))


def test_virtual_tokens_and_packing_are_refused(llama_base: Any) -> None:
    job = job_of(llama_base(), packing=True)
    with suppress_deprecations():
        model: Any = get_peft_model(job.model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(Incompatible, match="virtual tokens"):
        trainer(replace(job, model=model))
