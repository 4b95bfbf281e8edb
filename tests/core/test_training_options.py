"""Every option of every class of training options is known: it is passed on, or refused with what to do instead."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import toy
from safetensors.torch import load_file
from transformers import TrainingArguments

import finetune
from finetune import hookimpl
from finetune.errors import BadOptions
from finetune.plugins import discover, resolve
from finetune.training.arguments import ABOVE_ZERO, LEAST, NEUTRAL, check_arguments
from finetune.training.trainer import settle
from finetune.training.training_names import OURS

FOUND = discover()

_PASSED = """
    per_device_train_batch_size num_train_epochs max_steps learning_rate lr_scheduler_type lr_scheduler_kwargs
    warmup_steps optim optim_args weight_decay adam_beta1 adam_beta2 adam_epsilon optim_target_modules
    gradient_accumulation_steps average_tokens_across_devices max_grad_norm label_smoothing_factor
    bf16 fp16 bf16_full_eval fp16_full_eval tf32
    activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing gradient_checkpointing_kwargs
    torch_compile torch_compile_backend torch_compile_mode use_liger_kernel liger_kernel_config use_cache
    neftune_noise_alpha torch_empty_cache_steps
    logging_strategy logging_steps logging_first_step log_on_each_node include_num_input_tokens_seen log_level
    log_level_replica disable_tqdm report_to run_name project trackio_space_id trackio_bucket_id
    trackio_static_space_id
    eval_strategy eval_steps eval_delay per_device_eval_batch_size eval_on_start eval_use_gather_object
    eval_accumulation_steps
    save_strategy save_steps save_on_each_node save_total_limit load_best_model_at_end metric_for_best_model
    greater_is_better restore_callback_states_from_checkpoint
    full_determinism data_seed use_cpu accelerator_config
    dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor
    dataloader_multiprocessing_context remove_unused_columns train_sampling_strategy length_column_name
    fsdp fsdp_config
    ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout
    debug skip_memory_metrics
"""
PASSED = frozenset(_PASSED.split())
"""Options of `transformers.TrainingArguments` 5.23 that do what their documentation says. Before a new one is added
here: does it start a run again, skip rows, change their order, or write somewhere? Then it belongs in `NEUTRAL`."""

_TRL = """
    router_aux_loss_coef activation_offloading loss_type disable_dropout loss_weights ld_alpha f_divergence_type
    f_alpha_divergence_coef label_smoothing beta use_weighting discopop_tau ref_model_mixup_alpha ref_model_sync_steps
    desirable_weight undesirable_weight center_rewards_coefficient
    num_generations max_completion_length ds3_gather_for_generation generation_batch_size steps_per_generation
    temperature top_p top_k min_p generation_kwargs repetition_penalty cache_implementation num_iterations epsilon
    epsilon_high reward_weights normalize_advantages reward_clip_range mask_truncated_completions log_completions
    log_multimodal num_completions_to_print log_unique_prompts use_transformers_continuous_batching
    transformers_continuous_batching_config use_transformers_paged
    use_vllm vllm_mode vllm_model_impl vllm_enable_sleep_mode vllm_structured_outputs_regex vllm_server_base_url
    vllm_server_host vllm_server_port vllm_server_timeout vllm_group_port vllm_gpu_memory_utilization
    vllm_max_model_length vllm_tensor_parallel_size vllm_importance_sampling_correction vllm_importance_sampling_mode
    vllm_importance_sampling_clip_max vllm_importance_sampling_clip_min vllm_importance_sampling_cap
    cast_lm_head_to_fp32 delta sapo_temperature_neg sapo_temperature_pos vespo_k_pos vespo_lambda_pos vespo_k_neg
    vespo_lambda_neg importance_sampling_level multi_objective_aggregation scale_rewards top_entropy_quantile
    entropy_coef use_adaptive_entropy entropy_coef_min entropy_coef_max entropy_coef_delta entropy_target
    max_tool_calling_iterations off_policy_mask_threshold use_bias_correction_kl
    pad_to_multiple_of shuffle_dataset
"""
TRL = frozenset(_TRL.split())
"""The same for the classes of TRL 1.16."""


def classes() -> list[type]:
    """Return each class of training options of a task."""
    found = []
    for name in FOUND.catalogues["tasks"].available:
        found.append(resolve(FOUND.find("tasks", name).arguments))
    return list(dict.fromkeys(found))


def refused_by_task(cls: type) -> set[str]:
    """Return the options that a plugin refuses for a class of TRL."""
    if not cls.__module__.startswith("trl."):
        return set()
    from finetune_trl.refused_options import REFUSED

    return set(REFUSED[cls.__name__])


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_each_option_of_the_installed_version_is_known(cls: type) -> None:
    names = {field.name for field in dataclasses.fields(cls) if field.init}
    passed = PASSED | TRL if cls.__module__.startswith("trl.") else PASSED
    unknown = names - passed - OURS.keys() - NEUTRAL.keys() - refused_by_task(cls)
    assert not unknown, f"{cls.__name__} has new options: {sorted(unknown)}. Sort them in: see `PASSED`."


def test_no_option_is_both_passed_on_and_refused() -> None:
    assert not PASSED & (OURS.keys() | NEUTRAL.keys())
    assert not OURS.keys() & NEUTRAL.keys()
    gone = PASSED - {field.name for field in dataclasses.fields(TrainingArguments)}
    assert not gone, f"transformers has dropped {sorted(gone)}"


def owner(name: str) -> type:
    """Return a class that has an option."""
    for cls in classes():
        if any(field.name == name for field in dataclasses.fields(cls)):
            return cls
    raise AssertionError(f"no class has {name}")


OTHER: Mapping[str, Any] = {
    "include_for_metrics": ["inputs"], "label_names": ["labels"], "local_rank": 0, "hub_strategy": "end",
    "hub_private_repo": True, "hub_revision": "x", "hub_token": "x",
    "deepspeed": "x.json", "parallelism_config": {"tp_size": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", NEUTRAL)
def test_an_option_that_breaks_what_a_run_records_is_refused_with_the_reason(name: str) -> None:
    neutral, why = NEUTRAL[name]
    cls = owner(name)
    wrong = OTHER.get(name, not neutral)
    with pytest.raises(BadOptions) as caught:
        check_arguments(cls, {name: wrong})
    if name != "parallelism_config":  # a value of it is no JSON, so its type is refused
        assert str(caught.value) == f"training: {name!r} cannot be {wrong!r}: {why}. Leave it out."
    if neutral is not None:
        check_arguments(cls, {name: neutral})  # as the recipe in a run folder has it


@pytest.mark.parametrize(
    "training",
    [
        {"max_steps": 0}, {"max_steps": -5}, {"num_train_epochs": 0}, {"num_train_epochs": -1.0},
        {"learning_rate": math.inf}, {"weight_decay": math.nan}, {"adam_epsilon": math.nan},
        *({name: least - 1} for name, (least, _) in LEAST.items()),
    ],
    ids=str,
)  # fmt: skip
def test_a_number_that_means_something_else_to_transformers_is_refused(training: Mapping[str, Any]) -> None:
    ((name, value),) = training.items()
    with pytest.raises(BadOptions, match=f"training: '{name}' cannot be {value}"):
        check_arguments(TrainingArguments, training)


MAY_BE_ZERO = frozenset({"dataloader_num_workers", "top_k", "data_seed"})
"""Options with a whole number that may be 0: no workers, no limit, a seed."""
OWN_CHECK = frozenset({"max_steps", "save_total_limit"})
"""Whole numbers that have a test of their own."""


def whole_numbers() -> Iterator[tuple[type, str]]:
    """Yield each class of training options with the name of each option that is a whole number, once."""
    seen = OWN_CHECK | OURS.keys() | NEUTRAL.keys()
    for cls in classes():
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            hint = hints[field.name]
            if field.init and field.name not in seen and int in (hint, *typing.get_args(hint)):
                seen |= {field.name}
                yield cls, field.name


@pytest.mark.parametrize(("cls", "name"), list(whole_numbers()), ids=lambda value: getattr(value, "__name__", value))
def test_a_whole_number_counts_something(cls: type, name: str) -> None:
    least = 0 if name in MAY_BE_ZERO else 1
    for wrong in {least - 1, -7}:
        with pytest.raises(BadOptions, match=f"^training: '{name}' cannot be {wrong}. Write at least {least}.$"):
            check_arguments(cls, {name: wrong})
    check_arguments(cls, {name: least})


def test_many_whole_numbers_are_tried() -> None:
    names = {name for _, name in whole_numbers()}
    assert names >= {"per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"}
    assert len(names) > 20 and names >= MAY_BE_ZERO


@pytest.mark.parametrize("name", sorted(ABOVE_ZERO))
def test_a_share_of_the_steps_is_above_zero(name: str) -> None:
    for wrong in (0, -1, -0.5):
        with pytest.raises(BadOptions, match=f"^training: '{name}' cannot be {wrong}. Write a number above 0.$"):
            check_arguments(TrainingArguments, {name: wrong})
    for right in (0.25, 1, 10):
        check_arguments(TrainingArguments, {name: right})
    if name == "eval_steps":
        check_arguments(TrainingArguments, {name: None})


def test_usual_numbers_are_accepted() -> None:
    for training in (
        {"max_steps": -1}, {"max_steps": 1, "num_train_epochs": 0}, {"num_train_epochs": 0.5}, {"warmup_steps": 0.06},
        {"max_grad_norm": 0.0, "weight_decay": 0.0, "learning_rate": 1e39}, {"save_total_limit": None},
    ):  # fmt: skip
        check_arguments(TrainingArguments, training)


@pytest.mark.parametrize("optimizer", ["galore_adamw", "galore_adamw_layerwise", "apollo_adamw"])
def test_an_optimizer_that_no_checkpoint_can_hold_needs_a_run_without_checkpoints(optimizer: str) -> None:
    given = {"optim": optimizer, "optim_target_modules": ["attention"]}
    with pytest.raises(BadOptions, match=rf"the state of 'optim': '{optimizer}' cannot be read .* save_strategy: 'no'"):
        check_arguments(TrainingArguments, given)
    check_arguments(TrainingArguments, {**given, "save_strategy": "no"})


def test_a_name_that_is_no_optimizer_is_refused_with_those_that_are() -> None:
    with pytest.raises(BadOptions, match=r"'optim' cannot be 'muon'\. Write one of adamw_torch, .*schedule_free_adamw"):
        check_arguments(TrainingArguments, {"optim": "muon"})


def test_an_optimizer_with_two_sets_of_weights_ends_with_those_that_it_evaluates() -> None:
    class ScheduleFree(torch.optim.SGD):
        has_changed = False

        def eval(self) -> None:
            self.has_changed = True

    optimizer = ScheduleFree(torch.nn.Linear(2, 2).parameters(), lr=0.1)
    settle(SimpleNamespace(optimizer=optimizer))
    assert optimizer.has_changed
    settle(SimpleNamespace(optimizer=torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=0.1)))
    settle(SimpleNamespace(optimizer=None))


@pytest.mark.skipif(not find_spec("schedulefree"), reason="schedulefree is not installed")
@pytest.mark.parametrize("best", [False, True])
def test_a_schedule_free_run_saves_the_weights_that_it_scores(best: bool, tmp_path: Path) -> None:
    class Watch:
        @hookimpl
        def before_training(self, job: Any) -> None:
            self.job = job

    watch, plugins = Watch(), discover()
    plugins.manager.register(watch)
    recipe = toy.recipe(toy.base(tmp_path / "base"), tmp_path / "run", score_base_model=False)
    recipe["training"] |= {"optim": "schedule_free_adamw", "max_steps": 6, "learning_rate": 1e-2}
    if best:
        recipe["training"] |= {"save_strategy": "steps", "save_steps": 3, "eval_strategy": "steps", "eval_steps": 3}
        recipe["training"] |= {"load_best_model_at_end": True}
    else:
        recipe["dataset"].pop("validation")
    finetune.train(**recipe, plugins=plugins)
    scored = watch.job.model.state_dict()
    saved = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(scored[name], weights) for name, weights in saved.items())
