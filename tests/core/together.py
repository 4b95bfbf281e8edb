"""Tiny runs in several processes, for tests and campaigns."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import command
import torch
import yaml
from cases import case
from safetensors.torch import load_file

from finetune.plugins import discover
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer

TASKS = dict(discover().catalogues["tasks"].targets)
STEPS = 4
DROPOUTS = ("dropout", "hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "dropout_rate")


def bases_in(folder: Path) -> Callable[[str, str], Path]:
    """Return what writes, once, a tiny model of a family without dropout, which depends on the process."""
    heads = {"bert": "AutoModelForMaskedLM", "llama": "AutoModelForCausalLM", "t5": "AutoModelForSeq2SeqLM",
             "bart": "AutoModelForSeq2SeqLM"}  # fmt: skip

    @cache
    def base(family: str, words: str) -> Path:
        made = tiny_model(
            family, tokenizer(words, vocab_size=600), folder / f"{family}-{words}", model_class=heads[family]
        )
        config = json.loads((made / "config.json").read_text())
        config |= {name: 0.0 for name in DROPOUTS if name in config}
        (made / "config.json").write_text(json.dumps(config))
        return made

    return base


def recipe(task: str, strategy: str, base: Path, output: Path, *, batch: int, **training: Any) -> dict[str, Any]:
    of = case(task)
    return {
        "task": task,
        "model": str(base),
        "dataset": {**TASKS[task].starter["dataset"], "limit": {"train": 24, "validation": 8, "test": 13}},
        "strategy": strategy,
        "preprocessor": dict(of.preprocessor),
        "training": {"learning_rate": 1e-2, **of.training, "max_steps": STEPS, "save_strategy": "steps",
                     "save_steps": STEPS // 2, "logging_steps": 1, "eval_strategy": "no",
                     "lr_scheduler_type": "constant", "optim": "sgd", "per_device_train_batch_size": batch,
                     "per_device_eval_batch_size": 4, **training},
        "generation": dict(of.generation),
        "score_base_model": False,
        "general_text": "none",
        "output": str(output),
    }  # fmt: skip


def train(content: Mapping[str, Any], count: int, *flags: str, **options: Any) -> list[command.Call]:
    """Start a run in some processes."""
    file = Path(f"{content['output']}.yaml")
    file.write_text(yaml.safe_dump(dict(content)))
    arguments = ["train", str(file), "--quiet", *flags]
    if count == 1:
        return [command.start(arguments, **options)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    size = str(count)
    return [
        command.start(
            arguments,
            environment={"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": size,
                         "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port},
            **options,
        )
        for number in range(count)
    ]  # fmt: skip


def succeed(calls: Sequence[command.Call]) -> list[str]:
    """Wait for the end of each process, and return what each showed."""
    ended = [call.wait(300) for call in calls]
    assert [each.exit_code for each in ended] == [0] * len(ended), "\n".join(each.output[-3000:] for each in ended)
    return [each.output for each in ended]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def result(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return content


def watch_parts(file: str) -> None:
    """Let a trainer write at its first step which part of each weight its process holds; for `command.start`.

    Args:
        file: Gets the number of the process at its end. Name of a weight → its kind, its size, and that of the part.
    """
    from torch.distributed.tensor import DTensor

    from finetune.training.callbacks import StopOnNaN

    check = StopOnNaN.on_pre_optimizer_step

    def watched(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        parts = {}
        for name, weight in kwargs["model"].named_parameters():
            divided = isinstance(weight, DTensor)
            kind = str(weight.placements) if divided else type(weight).__name__
            gradient = None if weight.grad is None else str(getattr(weight.grad, "placements", "whole"))
            parts[name] = [kind, weight.numel(), (weight.to_local() if divided else weight).numel(), gradient]
        Path(f"{file}-{args.process_index}.json").write_text(json.dumps(parts))
        check(self, args, state, control, **kwargs)

    StopOnNaN.on_pre_optimizer_step = watched  # type: ignore[method-assign]


def break_a_gradient(number: int, step: int) -> None:
    """Let one process find a gradient that is not finite, in its own part of it; for `command.start`.

    Args:
        number: The process.
        step: The step.
    """
    from transformers import Trainer

    clip = Trainer._clip_grad_norm

    def broken(self: Any, model: Any) -> Any:
        if self.args.process_index == number and self.state.global_step == step:
            weight = next(weight for weight in model.parameters() if weight.grad is not None)
            weight.grad.to_local().fill_(float("inf"))
        return clip(self, model)

    Trainer._clip_grad_norm = broken
