"""The trainers of reinforcement learning: RLOO and GRPO."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from finetune.errors import BadCheckpoint, BadOptions
from finetune.interfaces import Job
from finetune.kit import (
    build_arguments,
    evaluation_mode,
    mask_after_eos,
    preserve_rng_state,
    replaced,
    upstream_changed,
)
from finetune_trl.chat.converters import message
from finetune_trl.chat.messages import ASSISTANT, are_messages, text_of
from finetune_trl.chat.rows import PROMPT, columns_of
from finetune_trl.chat.tokens import encode_prompts, pad_prompts
from finetune_trl.generation import generate_answers, without_padding
from finetune_trl.patched import (
    PatchedTRLTrainer,
    built_by_trl,
    delete_copied_adapter,
    prepare_model,
    refuse_changed_base,
)
from finetune_trl.reference import reference_of
from finetune_trl.refused_options import RL, refuse_options, required_option
from finetune_trl.reinforcement.prompts import GIVEN
from finetune_trl.reinforcement.rewards import load_reward

PROBE_PROMPTS = 8
"""Prompts that the base model answers before the first step, each as often as training will."""
CONSTANT_ENTRIES = 3
"""Log entries in a row without a difference in reward after which a warning is given."""
ANSWERS = "answers.pth"
"""File of a checkpoint with the answers that training still uses; TRL keeps them in memory alone."""
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
"""Training options that are options of ``generate`` too."""
Rows = Sequence[Mapping[str, Any]]


class OnPolicyTrainer(PatchedTRLTrainer):
    """Scores one answer to each prompt, in order; TRL's trainers would generate several, and shuffle.

    Its checkpoints hold the answers in use, so that a resumed run trains on the same ones. TRL 1.16 would count its
    batches from 0, and generate new answers.

    Put it before `trl.RLOOTrainer` or `trl.GRPOTrainer`.
    """

    processing_class: Any
    reward_weights: torch.Tensor
    num_iterations: int
    _calculate_rewards: Any

    def __init__(
        self,
        *args: Any,
        data_collator: Any = None,
        compute_metrics: Any = None,
        reward_columns: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)  # TRL's class takes none of the three arguments
        self.compute_metrics, self.reward_columns = compute_metrics, reward_columns
        delete_copied_adapter(self.model)
        self.add_callback(ConstantRewardWarning())

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            directory = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
            in_use = self._buffered_inputs if self._step % self._steps_per_round() else None
            torch.save({"step": self._step, "answers": in_use}, directory / ANSWERS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        saved = Path(resume_from_checkpoint) / ANSWERS
        if not saved.is_file():
            raise BadCheckpoint(
                f"{saved.parent.name} lacks {saved.name}: an older version of finetune wrote it, without the answers "
                "in use. Start again with --overwrite."
            )
        content = torch.load(saved, map_location=self.accelerator.device, weights_only=True)
        self._step, self._buffered_inputs = content["step"], content["answers"]

    def _steps_per_round(self) -> int:
        """Return how many batches are trained on before new answers are generated."""
        args: Any = self.args
        return int(args.steps_per_generation * self.num_iterations)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        return SequentialSampler(eval_dataset)

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return encode_prompts(prompts, self.processing_class), None, {}

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """Return the generated ids, (B, T), and their rewards, (B,); there is no loss."""
        ids, completions = self.answer(model, inputs)
        rewards = self.reward(inputs, ids, completions)
        # The labels are not used: transformers computes no metrics without any.
        return None, (ids, rewards), torch.ones_like(rewards)

    def answer(self, model: Any, rows: Rows) -> tuple[torch.Tensor, list[Any]]:
        """Return the generated answers, as ids up to and with the end, and as text or messages, like the prompt."""
        prompts = pad_prompts([row["input_ids"] for row in rows], self.processing_class.pad_token_id)
        batch = {name: tensor.to(self.accelerator.device) for name, tensor in prompts.items()}
        ids = generate_answers(self, model, batch)
        ids, _ = mask_after_eos(ids, self.generation["eos_token_id"], keep_end=True)
        texts = self.processing_class.batch_decode(without_padding(ids.cpu()), skip_special_tokens=True)
        completions: list[Any] = []
        for row, text in zip(rows, texts, strict=True):
            completions.append([message(ASSISTANT, text)] if are_messages(row[PROMPT]) else text)
        return ids, completions

    def reward(self, rows: Rows, ids: torch.Tensor, completions: list[Any]) -> torch.Tensor:
        """Return the weighted sum of the rewards of each completion, (B,); NaN if no reward function gives one.

        Prompts that come without the columns of the rewards have no reward.
        """
        if self.reward_columns and any(row.get(GIVEN) is None for row in rows):
            return torch.full((len(rows),), torch.nan, device=ids.device)
        inputs = [{PROMPT: row[PROMPT], **(row.get(GIVEN) or {})} for row in rows]
        prompts = [row[PROMPT] for row in rows]
        # TRL's own method, so that scoring and training use the same rewards; it gathers those of all processes
        rewards = self._calculate_rewards(inputs, prompts, completions, without_padding(ids.cpu()))
        start = self.accelerator.process_index * len(rows)
        rewards = rewards[start : start + len(rows)]
        total: torch.Tensor = (rewards * self.reward_weights.to(rewards.device)).nansum(1)
        return total.masked_fill(rewards.isnan().all(1), torch.nan)


class PatchedRLOOTrainer(OnPolicyTrainer, RLOOTrainer):
    """TRL's trainer of REINFORCE with a leave-one-out baseline.

    Source: Ahmadian et al. 2024, "Back to Basics: Revisiting REINFORCE Style Optimization".
    """


class PatchedGRPOTrainer(OnPolicyTrainer, GRPOTrainer):
    """TRL's trainer of group relative policy optimization.

    Source: Shao et al. 2024, "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models".
    """


def rloo(job: Job) -> PatchedRLOOTrainer:
    """Build the trainer of the task `rloo`; see `build`."""
    built: PatchedRLOOTrainer = build(job, PatchedRLOOTrainer, RLOOConfig)
    return built


def grpo(job: Job) -> PatchedGRPOTrainer:
    """Build the trainer of the task `grpo`; see `build`."""
    built: PatchedGRPOTrainer = build(job, PatchedGRPOTrainer, GRPOConfig)
    return built


def build(job: Job, cls: Any, config: Any) -> Any:
    """Build a trainer, and try its reward on answers of the base model.

    It reads the preprocessor's trainer options ``rewards`` (names of rewards; required), ``reward_columns`` (columns
    that they are given; default none), ``allow_constant`` (whether a constant reward is accepted; default false) and
    ``conversational`` (whether prompts are turns of a chat; default false).

    Raises:
        BadOptions: The batches hold no whole groups; or the reward is not named, does not exist, or is the same for
            every answer.
        Incompatible: The strategy and TRL's loss do not go together.
    """
    options = job.preprocessor.trainer_options()
    rewards = required_option(job.preprocessor, "rewards", example=("my_rewards:brevity",))
    refuse_options(job, config, RL)
    refuse_split_groups(job, config)
    refuse_changed_base(job.model)
    generation = prepare_model(job)
    if job.train is None:
        job = replace(job, arguments=_prediction_arguments(job.arguments))
    if "max_new_tokens" not in job.generation:
        generation["max_new_tokens"] = build_arguments(job).max_completion_length
    with _our_reference(job, cls) as references:
        built = built_by_trl(
            job,
            cls,
            reward_funcs=list(map(load_reward, rewards)),
            reward_columns=options.get("reward_columns", ()),
            train_dataset=_training_rows(job.train),
            generation=generation,
        )
    _require_our_reference(built, references)
    if job.train is not None and not options.get("allow_constant"):
        with preserve_rng_state():
            refuse_constant_reward(built, job.train, rewards)
    return built


@contextmanager
def _our_reference(job: Job, cls: type) -> Iterator[list[Any]]:
    """Make TRL take the run's base model as its reference, where TRL would load one itself.

    TRL 1.16 loads the reference by the name in the model's configuration: without the recipe's revision and options,
    and from pickled weights if there are no others. Its trainers of reinforcement learning have no argument for it.

    Yields:
        A list that holds the reference once TRL has asked for it; see `_require_our_reference`.

    Raises:
        UpstreamChanged: TRL's module no longer loads the reference by that function.
    """
    references: list[Any] = []

    def create_model_from_path(*_: Any, **__: Any) -> Any:
        references.append(reference_of(job))
        return references[-1]

    module = next(base.__module__ for base in cls.__mro__ if base.__module__.startswith("trl."))
    with replaced(module, "create_model_from_path", create_model_from_path):
        yield references


def _require_our_reference(built: Any, references: list[Any]) -> None:
    """Check that the reference of a trainer is the one from `_our_reference`.

    Raises:
        UpstreamChanged: TRL loaded it by itself.
    """
    if built.ref_model is not None and not references:
        raise upstream_changed(
            "trl",
            f"loads the reference model of {type(built).__name__} in a new way, so it may be a different "
            "model than the base of the recipe",
        )


def refuse_split_groups(job: Job, config: Any) -> None:
    """Refuse batches that split the answers to one prompt.

    If generation_batch_size or steps_per_generation is set, the check is left to TRL.

    Raises:
        BadOptions: With a size that works.
    """
    options = job.arguments
    if job.train is None or "generation_batch_size" in options or "steps_per_generation" in options:
        return

    def value(name: str) -> int:
        return int(options.get(name, getattr(config, name)))

    batch_size, steps = value("per_device_train_batch_size"), value("gradient_accumulation_steps")
    group = value("num_generations")
    if (batch_size * steps * PartialState().num_processes) % group:
        raise BadOptions(
            f"training: per_device_train_batch_size ({batch_size}) × gradient_accumulation_steps ({steps}) must hold "
            f"whole groups of num_generations ({group}), because the answers to one prompt are compared with each "
            f"other. Set per_device_train_batch_size to {-(-batch_size // group) * group}, "
            f"or num_generations to a divisor of {batch_size * steps}."
        )


def refuse_constant_reward(built: Any, train: Dataset, names: Sequence[str]) -> None:
    """Refuse a reward that is the same for all answers of the base model to each of some prompts.

    The prompts are answered as in training, until two answers to one of them differ in reward.

    Args:
        built: The trainer.
        train: Features to train on.
        names: Names of the rewards, for the message.

    Raises:
        BadOptions: No two answers differ in reward, so there is nothing to learn.
    """
    args, generation, model = built.args, built.generation, built.model
    sampling = {name: getattr(args, name) for name in SAMPLING}
    sampling |= {"do_sample": True, "max_new_tokens": args.max_completion_length}
    prompts = train.select(range(min(PROBE_PROMPTS, len(train))))
    rewards: list[float] = []
    try:
        built.generation = {**generation, **sampling, **(args.generation_kwargs or {})}
        with evaluation_mode(model):
            for row in prompts:
                group = [row] * args.num_generations
                ids, completions = built.answer(model, group)
                group_rewards = built.reward(group, ids, completions).tolist()
                if len(_numbers(group_rewards)) > 1:
                    return
                rewards += group_rewards
    finally:
        built.generation = generation
    raise BadOptions(_constant_reward(names, _numbers(rewards), len(prompts), text_of(completions[0])))


def _numbers(rewards: Sequence[float]) -> set[float]:
    return {reward for reward in rewards if not math.isnan(reward)}


def _constant_reward(names: Sequence[str], numbers: set[float], prompts: int, sample: str) -> str:
    """Say what is wrong with rewards that do not differ, and what to do."""
    if not numbers:
        problem = "gives no number to any answer"
    elif len(numbers) > 1:
        problem = "is the same for all answers to one prompt"
    else:
        problem = f"is {next(iter(numbers)):g} for every answer"
    return (
        f"preprocessor: the reward {', '.join(names)} {problem} that the base model writes to "
        f"{prompts} prompts, so there is nothing to learn from it. One of the answers: {sample[:200]!r}. Check the "
        "reward function; or start from a model that sometimes earns a reward (train it with 'sft' first); or raise "
        "training.max_completion_length or training.temperature. To train all the same, set "
        "preprocessor.allow_constant: true."
    )


class ConstantRewardWarning(TrainerCallback):
    """Warns when rewards no longer differ within groups: from then on nothing is learned."""

    def __init__(self) -> None:
        self.constant_entries = 0

    def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Look at TRL's share of groups without a difference."""
        logs = more["logs"]
        if "frac_reward_zero_std" not in logs:
            return
        self.constant_entries = self.constant_entries + 1 if logs["frac_reward_zero_std"] == 1 else 0
        if self.constant_entries == CONSTANT_ENTRIES:
            mean = logs.get("reward", float("nan"))
            warnings.warn(
                f"step {state.global_step}: in the last {CONSTANT_ENTRIES} entries of the log, all answers to one "
                f"prompt had the same reward (its mean is {mean:g}), so nothing is being learned. If that is the "
                "greatest possible reward, the run is done; otherwise look at the answers and at the reward.",
                stacklevel=2,
            )


def _training_rows(train: Dataset | None) -> Dataset:
    """Return what TRL trains on: prompts, and the columns that their rewards are given."""
    if train is None:
        return Dataset.from_dict({PROMPT: ["-"]})  # nothing is trained, and TRL wants one row
    columns = {PROMPT: train[PROMPT][:]}
    if GIVEN in train.column_names:
        columns |= columns_of(train[GIVEN][:])
    return Dataset.from_dict(columns)


def _prediction_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return training options for a job that trains nothing, and so has neither groups nor a reference."""
    kept = dict(arguments)
    kept.pop("generation_batch_size", None)
    kept.pop("steps_per_generation", None)
    return {**kept, "num_generations": 2, "per_device_train_batch_size": 2, "beta": 0.0}
