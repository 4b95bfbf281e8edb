"""The trainers of reinforcement learning: RLOO and GRPO."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from finetune.errors import BadOptions
from finetune.interfaces import IGNORE_INDEX, Job
from finetune.kit import build_arguments, preserve_rng_state
from finetune_trl.chat.messages import ASSISTANT, are_messages, text_of
from finetune_trl.chat.tokens import asked_ids
from finetune_trl.patched import PatchedTRLTrainer, built_by_trl, forget_copied_adapter, refuse_moved_base
from finetune_trl.preference.collate import PROMPT_IDS, padded_prompts
from finetune_trl.preference.pairs import PROMPT
from finetune_trl.reference import prepared, reference_of
from finetune_trl.refused_options import RL, refuse_options
from finetune_trl.reinforcement.preprocessor import GIVEN, RLPreprocessor
from finetune_trl.reinforcement.rewards import reward_of
from finetune_trl.writing import written

PROBE = 8
"""Prompts that the base model answers before the first step, as often each as training will."""
STILL = 3
"""Log entries in a row without a difference in reward after which that is said."""
Rows = Sequence[Mapping[str, Any]]


class OnPolicyTrainer(PatchedTRLTrainer):
    """Scores what the model writes to each prompt once, in order; TRL's would write several answers, and shuffle.

    Put it before `trl.RLOOTrainer` or `trl.GRPOTrainer`.
    """

    processing_class: Any
    reward_weights: torch.Tensor

    def __init__(
        self,
        *args: Any,
        data_collator: Any = None,
        compute_metrics: Any = None,
        reward_columns: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)  # none of the three is an argument of TRL's
        self.compute_metrics, self.reward_columns = compute_metrics, reward_columns
        forget_copied_adapter(self.model)
        self.add_callback(RewardWatch())
        self.add_callback(KeepStep(self))

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        return SequentialSampler(eval_dataset)

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return asked_ids(prompts, self.processing_class), None, {}

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """Return the ids that the model writes, (B, T), and their rewards, (B,); there is no loss."""
        ids, completions = self.answers(model, inputs)
        rewards = self.rewarded(inputs, ids, completions)
        # The labels are nobody's: without any, transformers computes no metrics.
        return None, (ids, rewards), torch.ones_like(rewards)

    def answers(self, model: Any, rows: Rows) -> tuple[torch.Tensor, list[Any]]:
        """Return what the model writes, as ids up to and with the end, and as text or messages, like its prompt."""
        device, ends = self.accelerator.device, self.generation["eos_token_id"]
        batch = padded_prompts([{PROMPT_IDS: row["input_ids"]} for row in rows], self.processing_class.pad_token_id)
        ids = written(self, model, {name: tensor.to(device) for name, tensor in batch.items()})
        ended = torch.isin(ids, torch.tensor(ends, device=device))
        ids = ids.masked_fill(ended.cumsum(1) - ended.long() > 0, IGNORE_INDEX)
        texts = self.processing_class.batch_decode(_kept(ids), skip_special_tokens=True)
        return ids, [
            [{"role": ASSISTANT, "content": text}] if are_messages(row[PROMPT]) else text
            for row, text in zip(rows, texts, strict=True)
        ]

    def rewarded(self, rows: Rows, ids: torch.Tensor, completions: list[Any]) -> torch.Tensor:
        """Return the weighted sum of the rewards of each completion; NaN where no reward has an opinion.

        Prompts alone, without the columns that rewards are given, have none.
        """
        if self.reward_columns and any(row.get(GIVEN) is None for row in rows):
            return torch.full((len(rows),), torch.nan, device=ids.device)
        inputs = [{PROMPT: row[PROMPT], **(row.get(GIVEN) or {})} for row in rows]
        # TRL's own, so that what is scored is what is trained; it gathers the rewards of all processes
        each = self._calculate_rewards(inputs, [row[PROMPT] for row in rows], completions, _kept(ids))
        start = self.accelerator.process_index * len(rows)
        each = each[start : start + len(rows)]
        total: torch.Tensor = (each * self.reward_weights.to(each.device)).nansum(1)
        return total.masked_fill(each.isnan().all(1), torch.nan)


class PatchedRLOOTrainer(OnPolicyTrainer, RLOOTrainer):
    """TRL's trainer of REINFORCE with a leave-one-out baseline.

    Source: Ahmadian et al. 2024, "Back to Basics: Revisiting REINFORCE Style Optimization".
    """


class PatchedGRPOTrainer(OnPolicyTrainer, GRPOTrainer):
    """TRL's trainer of group relative policy optimization.

    Source: Shao et al. 2024, "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models".
    """


def rloo(job: Job) -> PatchedRLOOTrainer:
    """Build the trainer of the task `rloo`; see `_build`."""
    built: PatchedRLOOTrainer = _build(job, PatchedRLOOTrainer, RLOOConfig)
    return built


def grpo(job: Job) -> PatchedGRPOTrainer:
    """Build the trainer of the task `grpo`; see `_build`."""
    built: PatchedGRPOTrainer = _build(job, PatchedGRPOTrainer, GRPOConfig)
    return built


def _build(job: Job, cls: Any, upstream: Any) -> Any:
    """Build a trainer, and try its reward on what the base model writes.

    Raises:
        BadOptions: The batches hold no whole groups, the reward does not exist, or is the same for every answer.
        Incompatible: The strategy and TRL's loss do not go together.
    """
    if not isinstance(job.preprocessor, RLPreprocessor):
        raise BadOptions(f"preprocessor: {type(job.preprocessor).__name__} names no reward; use `RLPreprocessor`.")
    refuse_options(job, upstream, RL)
    refuse_groups(job, upstream)
    refuse_moved_base(job.model)
    given = job if job.train is not None else replace(job, arguments=_to_write(job.arguments))
    generation = prepared(job)
    if "max_new_tokens" not in job.generation:
        generation["max_new_tokens"] = build_arguments(given).max_completion_length
    with _our_reference(given, cls):
        built = built_by_trl(
            given,
            cls,
            reward_funcs=[reward_of(name) for name in job.preprocessor.rewards],
            reward_columns=job.preprocessor.reward_columns,
            train_dataset=_train_rows(job.train),
            generation=generation,
        )
    if job.train is not None and not job.preprocessor.allow_constant:
        with preserve_rng_state():
            refuse_constant(built, job.train, job.preprocessor)
    return built


@contextmanager
def _our_reference(job: Job, cls: Any) -> Iterator[None]:
    """Have TRL take the run's base as its reference where it would load one itself.

    TRL 1.16 loads it by the name in the model's configuration: without the recipe's revision and options, and pickled
    weights as well as safetensors. No argument of its trainers says otherwise.
    """
    module: Any = inspect.getmodule(cls.__bases__[-1])  # of TRL's own class
    load = module.create_model_from_path
    module.create_model_from_path = lambda *_, **__: reference_of(job)
    try:
        yield
    finally:
        module.create_model_from_path = load


def refuse_groups(job: Job, upstream: Any) -> None:
    """Refuse batches that part the answers to one prompt.

    Raises:
        BadOptions: With a size that would do. Where generation_batch_size or steps_per_generation is set, TRL judges.
    """
    options = job.arguments
    if job.train is None or "generation_batch_size" in options or "steps_per_generation" in options:
        return

    def value(name: str) -> int:
        return int(options.get(name, getattr(upstream, name)))

    one, steps, group = (
        value(name) for name in ("per_device_train_batch_size", "gradient_accumulation_steps", "num_generations")
    )
    if (one * steps * PartialState().num_processes) % group:
        raise BadOptions(
            f"training: per_device_train_batch_size ({one}) × gradient_accumulation_steps ({steps}) must hold whole "
            f"groups of num_generations ({group}), since the answers to one prompt are compared with each other. Set "
            f"per_device_train_batch_size to {-(-one // group) * group}, "
            f"or num_generations to a divisor of {one * steps}."
        )


def refuse_constant(built: Any, train: Dataset, preprocessor: RLPreprocessor) -> None:
    """Refuse a reward that is the same for all that the base model writes to one prompt, whichever it is.

    Some prompts are answered as in training, until two answers to one of them differ in reward.

    Raises:
        BadOptions: There is no difference to learn from.
    """
    args, generation, model = built.args, built.generation, built.model
    sampling = {name: getattr(args, name) for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")}
    length = {"max_new_tokens": args.max_completion_length}
    built.generation = {**generation, "do_sample": True, **sampling, **length, **(args.generation_kwargs or {})}
    was_training = model.training
    model.eval()
    try:
        prompts = train.select(range(min(PROBE, len(train))))
        rewards: list[float] = []
        for row in prompts:
            group = [row] * args.num_generations
            ids, completions = built.answers(model, group)
            rewards += built.rewarded(group, ids, completions).tolist()
            if len({reward for reward in rewards[-len(group) :] if not math.isnan(reward)}) > 1:
                return
    finally:
        built.generation = generation
        model.train(was_training)
    raise BadOptions(_constant(preprocessor, rewards, len(prompts), text_of(completions[0])))


def _constant(preprocessor: RLPreprocessor, rewards: Sequence[float], prompts: int, sample: str) -> str:
    """Say what is wrong with rewards that do not differ, and what to do."""
    numbers = {reward for reward in rewards if not math.isnan(reward)}
    if not numbers:
        what = "gives no number to any answer"
    else:
        what = (
            "is the same for all answers to one prompt"
            if len(numbers) > 1
            else f"is {numbers.pop():g} for every answer"
        )
    return (
        f"preprocessor: the reward {', '.join(preprocessor.rewards)} {what} that the base model writes to "
        f"{prompts} prompts, so there is nothing to learn from it. One of the answers: {sample[:200]!r}. Look at the "
        "reward function; begin with a model that sometimes earns a reward (train it by 'sft' first); or raise "
        "training.max_completion_length or training.temperature. To train all the same, set "
        "preprocessor.allow_constant: true."
    )


class KeepStep(TrainerCallback):
    """Tells TRL 1.16 at which batch a resumed run stands: it would count from 0, and write answers out of step."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        """Count on, and warn where answers that are to be used once more are written anew."""
        if not state.global_step:
            return
        accumulated = args.gradient_accumulation_steps
        epoch = max(-(-len(train_dataloader) // accumulated), 1)
        every = args.steps_per_generation * self.trainer.num_iterations
        self.trainer._step = state.global_step % epoch * accumulated
        if self.trainer._step % every:
            warnings.warn(
                f"step {state.global_step}: not the same to the bit, because the checkpoint stands between two rounds "
                f"of answers, which no checkpoint holds: those in use are written anew. Where steps_per_generation × "
                f"num_iterations is {every}, save every {math.lcm(every, accumulated) // accumulated} steps or a "
                "multiple of that.",
                stacklevel=2,
            )


class RewardWatch(TrainerCallback):
    """Warns when the rewards have stopped to differ within groups: from then on nothing is learned."""

    def __init__(self) -> None:
        self.still = 0

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **_: Any) -> None:
        """Look at TRL's share of groups without a difference."""
        if "frac_reward_zero_std" not in logs:
            return
        self.still = self.still + 1 if logs["frac_reward_zero_std"] == 1 else 0
        if self.still == STILL:
            warnings.warn(
                f"step {state.global_step}: in the last {STILL} entries of the log, all answers to one prompt had the "
                f"same reward (its mean is {logs.get('reward', float('nan')):g}), so nothing is being learned. If that "
                "is the best reward there is, the run is done; else look at the answers and at the reward.",
                stacklevel=2,
            )


def _kept(ids: torch.Tensor) -> list[list[int]]:
    """Return written ids up to and with their ends."""
    return [row[row != IGNORE_INDEX].tolist() for row in ids]


def _train_rows(train: Any) -> Dataset:
    """Return what TRL trains on: prompts, and what their rewards are given."""
    if train is None:
        return Dataset.from_dict({PROMPT: ["-"]})  # nothing is trained, and TRL wants one row
    given = train[GIVEN][:] if GIVEN in train.column_names else []
    extra = {name: [row[name] for row in given] for name in (given[0] if given else ())}
    return Dataset.from_dict({PROMPT: train[PROMPT][:], **extra})


def _to_write(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return training options for a job that trains nothing, and so has neither groups nor a reference."""
    groups = {"generation_batch_size", "steps_per_generation"}
    kept = {name: value for name, value in arguments.items() if name not in groups}
    return {**kept, "num_generations": 2, "per_device_train_batch_size": 2, "beta": 0.0}
