"""What finetune changes in TRL for a while, and what it takes off a model that TRL changed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import trl.trainer.grpo_trainer
from transformers import AutoConfig, AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from finetune.errors import UpstreamChanged
from finetune_trl.patched import restore_forward
from finetune_trl.reinforcement import trainer as reinforcement


@pytest.fixture
def model() -> Any:
    sizes = {"vocab_size": 20, "n_embd": 8, "n_layer": 1, "n_head": 1, "n_positions": 16}
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model("gpt2", **sizes, bos_token_id=1, eos_token_id=1)
    ).eval()


def test_the_reference_comes_from_the_job_and_trl_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    own = trl.trainer.grpo_trainer.create_model_from_path
    job: Any = object()
    monkeypatch.setattr(reinforcement, "reference_of", lambda given: ("the reference of", given))
    with reinforcement._our_reference(job, reinforcement.PatchedGRPOTrainer) as references:
        assert trl.trainer.grpo_trainer.create_model_from_path("a name", dtype="auto") == ("the reference of", job)
        assert references == [("the reference of", job)]
    assert trl.trainer.grpo_trainer.create_model_from_path is own


def test_a_reference_that_trl_loaded_by_itself_is_an_error() -> None:
    reinforcement._require_our_reference(SimpleNamespace(ref_model=None), [])
    reinforcement._require_our_reference(SimpleNamespace(ref_model="ours"), ["ours"])
    with pytest.raises(
        UpstreamChanged, match=r"^trl .* may be a different model than the base .*\"trl>=1\.16,<1\.17\""
    ):
        reinforcement._require_our_reference(SimpleNamespace(ref_model="TRL's"), [])


def test_a_trl_that_loads_its_reference_otherwise_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(trl.trainer.grpo_trainer, "create_model_from_path")
    with (
        pytest.raises(UpstreamChanged, match=r"has no trl\.trainer\.grpo_trainer\.create_model_from_path"),
        reinforcement._our_reference(object(), reinforcement.PatchedGRPOTrainer),  # type: ignore[arg-type]
    ):
        pytest.fail("the block must not begin")


def test_the_heads_of_trainers_do_not_pile_up_on_a_model(model: Any) -> None:
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        before = model(input_ids=ids).logits
        for _ in range(3):
            restore_forward(model)
            assert "forward" not in vars(model)
            add_fused_lm_head(model)
            assert model(input_ids=ids, labels=ids, fused_lm_head=True).log_probs.shape == (1, 3)
        restore_forward(model)
        assert torch.equal(model(input_ids=ids).logits, before)


def test_a_forward_from_before_the_first_trainer_comes_back(model: Any) -> None:
    def own(*args: Any, **kwargs: Any) -> str:
        return "own"

    model.forward = own
    restore_forward(model)
    add_fused_lm_head(model)
    restore_forward(model)
    assert model.forward is own
