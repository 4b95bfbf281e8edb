"""The recipe's ``training`` section → the trainer's arguments."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from enum import Enum
from importlib.util import find_spec
from typing import Any

from pydantic import TypeAdapter, ValidationError

from finetune.errors import BadOptions, MissingLibrary, did_you_mean
from finetune.interfaces import Evaluator, Job, Strategy, Task
from finetune.plugins import resolve
from finetune.recipe import Recipe
from finetune.training import auto_batch, averaging, early_stopping, sharding_options
from finetune.training.auto_batch import AutoBatch
from finetune.training.averaging import Averaging
from finetune.training.device_defaults import device_defaults, this_device
from finetune.training.early_stopping import EarlyStopping
from finetune.training.training_names import check_name
from finetune.user_code import one_line, place_of

OUR_OPTIONS = (EarlyStopping, AutoBatch, Averaging)
"""Classes with the training options that are not upstream's."""

_PUSHED = "a run is never pushed while it trains; use `finetune push`"
_SCORED = "scores need the outputs of the model for every row"
NEUTRAL: Mapping[str, tuple[Any, str]] = {
    "prediction_loss_only": (False, _SCORED),
    "eval_do_concat_batches": (True, _SCORED),
    "batch_eval_metrics": (False, "scores are computed once, of all rows"),
    "include_for_metrics": ([], "no evaluator reads it; a record can hold what a metric needs"),
    "predict_with_generate": (True, "scores need the texts that the model writes"),
    "label_names": (None, "the task says which features are labels"),
    "dataloader_in_order": (True, "predictions would come back in another order than the rows"),
    "dataloader_drop_last": (False, "the last rows of each split would get no prediction"),
    "logging_nan_inf_filter": (False, "it would log the NaN of a broken run as 0.0"),
    "enable_jit_checkpoint": (False, "on SIGTERM, finetune saves a checkpoint without it"),
    "sortish_sampler": (False, "nothing reads it; write train_sampling_strategy: group_by_length"),
    "do_train": (False, "nothing reads it; `finetune train` trains, and then scores every split"),
    "do_eval": (False, "nothing reads it; write eval_strategy"),
    "do_predict": (False, "nothing reads it; use `finetune predict`"),
    "local_rank": (-1, "torchrun or accelerate sets it"),
    "hub_strategy": ("every_save", _PUSHED),
    "hub_private_repo": (None, _PUSHED),
    "hub_always_push": (False, _PUSHED),
    "hub_revision": (None, _PUSHED),
    "hub_token": (None, "log in with `hf auth login`, or set HF_TOKEN"),
    "deepspeed": (None, "its checkpoints are pickles, which can run code; fsdp: true divides the weights too"),
    "parallelism_config": (None, "it is not tested; fsdp: true divides the weights among the processes"),
}
"""Training arguments that would do nothing, or break what a run records → the only value they may have, and why."""

LEAST: Mapping[str, tuple[float, str]] = {
    "learning_rate": (0, ""),
    "weight_decay": (0, ""),
    "warmup_steps": (0, ""),
    "max_grad_norm": (0, " Write 0 to leave gradients as they are."),
    "label_smoothing_factor": (0, ""),
    "neftune_noise_alpha": (0, ""),
    "eval_delay": (0, ""),
    early_stopping.THRESHOLD: (0, ""),
    "save_total_limit": (2, " A crash while the only checkpoint is replaced would lose the run."),
    "data_seed": (0, ""),
}
"""Training arguments → the least value that does something, and a further sentence.

Every other whole number has to be at least 1, or as large as its default if that is less. See `least_of`.
"""

ABOVE_ZERO = frozenset({"logging_steps", "eval_steps", "save_steps"})
"""Training arguments that count steps if they are at least 1, and are a share of all steps below that."""

LIMITS = frozenset({"max_length", "max_new_tokens"})
"""Generation options that exclude each other."""

_CODE = "transformers runs it as code from the Hub, and finetune runs no remote code"
UNSUPPORTED: Mapping[str, str] = {
    "num_beam_groups": _CODE,
    "diversity_penalty": _CODE,
    "force_words_ids": _CODE,
    "constraints": _CODE,
    "dola_layers": _CODE,
    "penalty_alpha": _CODE,
    "stop_strings": "only end tokens stop a text; cut the generated text afterwards",
    "guidance_scale": "it needs a second, unconditional prompt",
}
"""Options of `transformers.GenerationConfig` that would fail at the first generated text, and why."""


REPORTERS: Mapping[str, str] = {
    "azure_ml": "azureml-mlflow", "clearml": "clearml", "codecarbon": "codecarbon", "comet_ml": "comet-ml",
    "dagshub": "dagshub", "dvclive": "dvclive", "flyte": "flytekit", "kubeflow": "kubeflow", "mlflow": "mlflow",
    "neptune": "neptune", "swanlab": "swanlab", "tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb",
}  # fmt: skip
"""Values of `report_to` → the package that each needs."""

_BITSANDBYTES = (
    "adamw_bnb_8bit", "adamw_8bit", "ademamix", "ademamix_8bit", "lion_8bit", "lion_32bit", "paged_adamw_32bit",
    "paged_adamw_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit", "paged_lion_32bit", "paged_lion_8bit",
    "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit",
)  # fmt: skip
OPTIMIZERS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(_BITSANDBYTES, ("bitsandbytes", "bitsandbytes")),
    "adamw_anyprecision": ("torchdistx", "torchdistx"),
    "adamw_torch_4bit": ("torchao", "torchao"),
    "adamw_torch_8bit": ("torchao", "torchao"),
    "adamw_torch_npu_fused": ("torch_npu", "torch-npu"),
    "adamw_torch_xla": ("torch_xla", "torch-xla"),
    "adalomo": ("lomo_optim", "lomo-optim"),
    "apollo_adamw": ("apollo_torch", "apollo-torch"),
    "apollo_adamw_layerwise": ("apollo_torch", "apollo-torch"),
    "galore_adafactor": ("galore_torch", "galore-torch"),
    "galore_adafactor_layerwise": ("galore_torch", "galore-torch"),
    "galore_adamw": ("galore_torch", "galore-torch"),
    "galore_adamw_8bit": ("galore_torch", "galore-torch"),
    "galore_adamw_8bit_layerwise": ("galore_torch", "galore-torch"),
    "galore_adamw_layerwise": ("galore_torch", "galore-torch"),
    "grokadamw": ("grokadamw", "grokadamw"),
    "lomo": ("lomo_optim", "lomo-optim"),
    "schedule_free_adamw": ("schedulefree", "schedulefree"),
    "schedule_free_radam": ("schedulefree", "schedulefree"),
    "schedule_free_sgd": ("schedulefree", "schedulefree"),
    "stable_adamw": ("optimi", "torch-optimi"),
}
"""Values of `optim` that need a library → its module, and what ``pip install`` takes."""
UNSAVED = ("galore_", "apollo_")
"""Beginnings of the values of `optim` whose state holds Python objects, or is kept outside the optimizer.

Measured with galore-torch 1.0 and apollo-torch 1.0.3: their checkpoints cannot be read as data alone, and those of
`galore_adamw_layerwise` lack the state, so that a resumed run would go another way.
"""


TRAINERS = (
    "transformers.trainer", "transformers.training_args", "transformers.integrations", "transformers.optimization",
    "torch.optim", "trl.", "accelerate.",
)  # fmt: skip
"""How the names of the modules begin that refuse options of training."""


def _check_resumable(training: Mapping[str, Any]) -> None:
    """Check that a run whose optimizer no checkpoint can hold saves none.

    Raises:
        BadOptions: It would.
    """
    optimizer = str(training.get("optim"))
    if optimizer.startswith(UNSAVED) and training.get("save_strategy") != "no":
        raise BadOptions(
            f"training: the state of 'optim': {optimizer!r} cannot be read from a checkpoint without running code, so "
            "the run could not be resumed. Set save_strategy: 'no'."
        )


def check_arguments(cls: type, training: Mapping[str, Any]) -> None:
    """Check the recipe's training options against the class that takes them.

    Raises:
        BadOptions: An option is unknown, was removed, is set elsewhere in the recipe, or has a value of the wrong type.
    """
    known = {f.name: f for each in (cls, *OUR_OPTIONS) for f in dataclasses.fields(each) if f.init}
    hints = {name: hint for each in (cls, *OUR_OPTIONS) for name, hint in typing.get_type_hints(each).items()}
    _check_length(training)
    _check_resumable(training)
    for name, value in training.items():
        where = f"training: {name!r}"
        check_name(name, known=known, of=cls.__name__)
        if name == "fsdp":
            sharding_options.check_fsdp(value)
            continue
        if name == "fsdp_config":
            sharding_options.check_config(value, training)
            continue
        try:
            read = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            raise BadOptions(f"{where}: {error.errors()[0]['msg']}, not {value!r}.") from error
        check_choice(where, value, choices_of(known[name], hints[name]))
        if isinstance(value, str) and isinstance(read, bool | int | float):  # upstream would take 'no' for true
            raise BadOptions(f"{where}: write {read!r} without quotes, not the text {value!r}.")
        if name in NEUTRAL:
            neutral, why = NEUTRAL[name]
            if value != neutral and value not in (None, "", [], {}):
                raise BadOptions(f"{where} cannot be {value!r}: {why}. Leave it out.")
        _check_least(where, read, least_of(known[name], hints[name]))
        if name in ABOVE_ZERO and read is not None and read <= 0:
            raise BadOptions(f"{where} cannot be {value}. Write a number above 0.")


def _check_length(training: Mapping[str, Any]) -> None:
    """Check that a run makes steps.

    Raises:
        BadOptions: It would make none.
    """
    steps = training.get("max_steps", -1)
    if isinstance(steps, int) and steps != -1 and steps < 1:
        raise BadOptions(
            f"training: 'max_steps' cannot be {steps}. Write the number of steps, or leave it out to train "
            "num_train_epochs."
        )
    epochs = training.get("num_train_epochs", 1)
    if steps == -1 and isinstance(epochs, int | float) and not epochs > 0:
        raise BadOptions(f"training: 'num_train_epochs' cannot be {epochs}. Write a number above 0.")


def least_of(option: dataclasses.Field[Any], hint: Any) -> tuple[float, str]:
    """Return the least number that an option can have, and a further sentence.

    A whole number counts something, so it is at least 1. A default below 1 has a meaning: no workers, or no limit.

    Args:
        option: The option.
        hint: Its annotation: ``int | None``.
    """
    if option.name in LEAST:
        return LEAST[option.name]
    if int not in (hint, *typing.get_args(hint)):
        return -math.inf, ""
    return min(1, option.default) if isinstance(option.default, int) else 1, ""


def _check_least(where: str, value: Any, least_and_more: tuple[float, str]) -> None:
    """Check that a number does something: transformers takes a wrong one for another, or fails later.

    Raises:
        BadOptions: It is too small, or not finite.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    if not math.isfinite(value):
        raise BadOptions(f"{where} cannot be {value}. Write a finite number.")
    least, more = least_and_more
    if value < least:
        raise BadOptions(f"{where} cannot be {value}. Write at least {least}.{more}")


def choices_of(option: dataclasses.Field[Any], hint: Any) -> list[str]:
    """Return which values an option can have, if upstream says so; empty if it does not.

    Args:
        option: The option. Its metadata can have ``choices``.
        hint: Its annotation, which can name an enumeration: ``SchedulerType | str``.
    """
    for part in (hint, *typing.get_args(hint)):
        if isinstance(part, type) and issubclass(part, Enum):
            return [str(member.value) for member in part]
    return [str(choice) for choice in option.metadata.get("choices") or ()]


def check_choice(where: str, value: Any, choices: Collection[str]) -> None:
    """Check that a text is one of the values that an option can have.

    Args:
        where: The option, for the message: ``training: 'optim'``.
        value: What the recipe says. A value that is not text is not checked; of a list, each text is.
        choices: What it can be; empty if everything is allowed.

    Raises:
        BadOptions: It is something else. The message has the nearest value.
    """
    for each in value if isinstance(value, list | tuple) else (value,):
        if choices and isinstance(each, str) and each not in choices:
            raise BadOptions(
                f"{where} cannot be {each!r}.{did_you_mean(each, choices)} Write one of {', '.join(choices)}."
            )


def check_installed(training: Mapping[str, Any]) -> None:
    """Check that the libraries which training options need are installed.

    Raises:
        BadOptions: transformers knows no such tool.
        MissingLibrary: A library is not installed. The message has the command that installs it.
    """
    check_reporters(training.get("report_to"))
    needed = {}
    if training.get("use_liger_kernel"):
        needed["'use_liger_kernel'"] = ("liger_kernel", "liger-kernel")
    optimizer = str(training.get("optim"))
    if optimizer in OPTIMIZERS:
        needed[f"'optim': {optimizer!r}"] = OPTIMIZERS[optimizer]
    for option, (module, package) in needed.items():
        if find_spec(module) is None:
            raise MissingLibrary(
                f"training: {option} needs {module}, which is not installed. Install it: pip install {package}; or "
                "leave the option out."
            )


def arguments(
    recipe: Recipe, task: Task, strategy: Strategy, *, evaluator: Evaluator, validation: bool
) -> dict[str, Any]:
    """Return the training options of a recipe, with the defaults of finetune, of the task and of the device.

    The run's `recipe.yaml` holds them, and what the configuration of accelerate says about FSDP.

    Raises:
        BadOptions: `load_best_model_at_end` is set, but there is no validation split, or the direction of its score is
            unknown; or the configuration of accelerate is not supported.
    """
    epochs = recipe.training.get("num_train_epochs", 3)
    best: dict[str, Any] = {}
    stops_early, averages = early_stopping.is_on(recipe.training), averaging.is_on(recipe.training)
    if recipe.training.get("load_best_model_at_end") or stops_early or averages:
        if not validation:
            option = averaging.OPTION if averages else "load_best_model_at_end"
            option = early_stopping.PATIENCE if stops_early else option
            raise BadOptions(
                f"training: {option!r} needs a validation split to choose by. Set dataset.validation_size, or give one."
            )
        metric = str(recipe.training.get("metric_for_best_model", evaluator.primary)).removeprefix("eval_")
        if metric != evaluator.primary and "greater_is_better" not in recipe.training:
            raise BadOptions(
                f"training: 'metric_for_best_model' is {metric!r}, and the evaluator's primary score is "
                f"{evaluator.primary!r}. Set evaluator.primary, or set training.greater_is_better as well."
            )
        # The trainer would guess the direction from the name, and would guess wrong for perplexity.
        best = {
            "load_best_model_at_end": True,
            "metric_for_best_model": evaluator.primary,
            "greater_is_better": evaluator.greater_is_better,
        }
    defaults: dict[str, Any] = {
        **best,
        "logging_steps": 10,
        "logging_first_step": True,
        # True would log the NaN of a broken run as 0.0
        "logging_nan_inf_filter": False,
        "eval_strategy": "epoch" if validation and (epochs > 1 or best) else "no",
        "save_strategy": "epoch",
        # 1 would leave nothing to resume from while the next one is being written
        "save_total_limit": averaging.CHECKPOINTS if averages else 2,
        "report_to": "none",
        "disable_tqdm": True,
    }
    divided = {} if "fsdp" in recipe.training else sharding_options.from_accelerate()
    steps: dict[str, Any] = {}
    if recipe.dataset.streaming:
        steps = {"save_strategy": "steps", "save_steps": SHARE_OF_STEPS}
        if validation:
            steps = {**steps, "eval_strategy": "steps", "eval_steps": SHARE_OF_STEPS}
    on_device = device_defaults(task, strategy, recipe.training, device=this_device(recipe.training))
    values = {**defaults, **task.training, **on_device, **divided, **steps, **auto_batch.without(recipe.training)}
    return {**values, **early_stopping.aligned(values, recipe.training)} if best else values


def check_reporters(report_to: str | Sequence[str] | None) -> None:
    """Check before training that the tools of ``report_to`` are known and installed.

    Raises:
        BadOptions: transformers knows no such tool.
        MissingLibrary: A tool is not installed; the message has the command that installs it.
    """
    from transformers.integrations import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

    find_installed: Callable[[], list[str]] = get_available_reporting_integrations  # upstream leaves it without types
    names = [report_to] if isinstance(report_to, str) else report_to or ()
    for name in names:
        if name in ("none", "all"):
            continue
        if name not in INTEGRATION_TO_CALLBACK:
            raise BadOptions(
                f"training: 'report_to' is {name!r}, which transformers does not know."
                f"{did_you_mean(name, INTEGRATION_TO_CALLBACK)} Write none, or one of "
                f"{', '.join(sorted(INTEGRATION_TO_CALLBACK))}."
            )
        lacks = name not in find_installed() or (name == "tensorboard" and find_spec(name) is None)  # or tensorboardX
        if name in REPORTERS and lacks:
            raise MissingLibrary(
                f"training: 'report_to' is {name!r}, which is not installed. Install it: pip install "
                f"{REPORTERS[name]}; or write report_to: none."
            )


STREAMED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "num_train_epochs": ((), "Leave it out: max_steps says when training ends"),
    "eval_strategy": (("no", "steps"), "Write steps, and eval_steps"),
    "save_strategy": (("no", "steps", "best"), "Write steps, and save_steps"),
    "logging_strategy": (("no", "steps"), "Write steps, and logging_steps"),
    "train_sampling_strategy": (("random",), "Rows are drawn from dataset.shuffle_buffer; 1 keeps their order"),
    "dataloader_num_workers": ((0,), "Each process makes its own features, without further workers"),
}
"""Training arguments that a streamed train split limits → the values that it allows, and what to do instead."""

SHARE_OF_STEPS = 0.1
"""How often a streamed run is evaluated and saved, as a share of its steps: it has no epochs."""


def check_streaming(task: Task, recipe: Recipe) -> None:
    """Check that a task and its training options fit a train split that is streamed.

    Raises:
        BadOptions: They do not; the message names the option.
    """
    if not task.streams:
        raise BadOptions(
            f"dataset.streaming: the trainer of the task {recipe.task!r} needs all rows of train before the first "
            "step. Leave dataset.streaming out."
        )
    steps = recipe.training.get("max_steps")
    if not isinstance(steps, int):
        if steps is not None:
            return  # the check of types says so
        steps = -1
    if steps < 1:
        raise BadOptions("dataset.streaming: set training.max_steps, the number of steps. A stream has no epochs.")
    for name, (allowed, instead) in STREAMED.items():
        if name in recipe.training and recipe.training[name] not in allowed:
            raise BadOptions(
                f"training: {name!r} cannot be {recipe.training[name]!r} with dataset.streaming. {instead}."
            )


@contextmanager
def upstream_refusals(trainer: Any) -> Iterator[None]:
    """Turn what transformers or TRL refuses before the first step into one sentence.

    Args:
        trainer: Its ``state`` tells whether a step was made.

    Raises:
        BadOptions: An option has a value that the trainer does not know.
        MissingLibrary: An option needs a library that is not installed.
    """
    try:
        yield
    except (ImportError, ValueError, NotImplementedError) as error:
        if place_of(error):  # code of the user raised it, such as a strategy
            raise
        if isinstance(error, ImportError):
            raise MissingLibrary(f"training: {one_line(error)}") from error
        if trainer.state.global_step or not _raised_by_trainer(error):
            raise
        raise BadOptions(f"training: the trainer refuses an option: {one_line(error)}") from error


def _raised_by_trainer(error: BaseException) -> bool:
    """Return whether code of a trainer raised an error, and not a model or a collator that it called."""
    module, step = "", error.__traceback__
    while step is not None:
        module = str(step.tb_frame.f_globals.get("__name__", ""))
        step = step.tb_next
    return module.startswith(TRAINERS)


def device_arguments() -> dict[str, Any]:
    """Return the training options that depend on the machine, and so are no part of a recipe."""
    import torch

    accelerated = torch.accelerator.is_available()
    return {"use_cpu": not accelerated, "dataloader_pin_memory": accelerated}


FP16_ON_CPU = "it has no effect without a GPU: training runs in float32. Leave it out."
"""What accelerate 1.15 does with ``fp16`` on a CPU, without a message."""


def without_effect(arguments: Mapping[str, Any]) -> list[str]:
    """Return a note for each training option that has no effect on this machine."""
    on_cpu = arguments.get("use_cpu", device_arguments()["use_cpu"])
    return [f"training.fp16: {FP16_ON_CPU}"] if arguments.get("fp16") and on_cpu else []


def build_arguments(job: Job) -> Any:
    """Build the trainer's arguments.

    Raises:
        BadOptions: The arguments contradict each other, or the machine does not support them.
    """
    try:
        given = averaging.without(early_stopping.without(job.arguments))
        given = deepcopy(given)  # transformers writes its defaults into `fsdp_config`
        return resolve(job.task.arguments)(**{"output_dir": str(job.output), "seed": job.seed, **given})
    except (ValueError, TypeError, ImportError) as error:
        raise BadOptions(f"training: {one_line(error)}") from error


def check_generation(task: Task, recipe: Recipe) -> None:
    """Check the recipe's generation options against `transformers.GenerationConfig`.

    Raises:
        BadOptions: The task generates no text, or an option is unknown or contradicts another.
    """
    if not recipe.generation:
        return
    if not task.generates:
        raise BadOptions(f"generation: the task {recipe.task!r} generates no text. Leave the section out.")
    from transformers import GenerationConfig

    make: Callable[..., GenerationConfig] = GenerationConfig  # upstream leaves its constructor without types
    known = set(make().to_dict()) - {"transformers_version", "_from_model_config"}
    for name in recipe.generation:
        if name not in known:
            raise BadOptions(f"generation: {name!r} is not an option of GenerationConfig.{did_you_mean(name, known)}")
        if name in UNSUPPORTED:
            raise BadOptions(f"generation: {name!r} cannot be used here: {UNSUPPORTED[name]}.")
    if set(recipe.generation) >= LIMITS:
        raise BadOptions(f"generation: give one of {', '.join(sorted(LIMITS))}; transformers would ignore the first.")
    try:
        make(**recipe.generation).validate(strict=True)
    except (ValueError, TypeError) as error:
        raise BadOptions(f"generation: {one_line(error)}") from error
