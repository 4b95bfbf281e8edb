"""Virtual tokens: they stand before the text, and the code that reads the model's outputs needs no special case."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from finetune.errors import Incompatible
from finetune.interfaces import IGNORE_INDEX, Task
from finetune.kit import base_model_of, finds_end_by_padding, require_upstream
from finetune_peft.whole_checkpoint import WholeCheckpoint

PER_TOKEN: Mapping[str, tuple[str, ...]] = {"TOKEN_CLS": ("logits",), "QUESTION_ANS": ("start_logits", "end_logits")}
"""PEFT's task type → outputs that have one row a token."""


@dataclass(frozen=True, kw_only=True)
class VirtualTokensStrategy(WholeCheckpoint):
    """Trains virtual tokens, which stand before the text, and the head."""

    num_virtual_tokens: int = 20
    """How many virtual tokens."""
    modules_to_save: tuple[str, ...] = ()
    """Further modules to train whole, besides the head and what the base model lacks."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of PEFT's configuration of the method, verbatim."""

    @abstractmethod
    def method_options(self, model: Any) -> dict[str, Any]:
        """Return the fields of PEFT's configuration that only this method has."""

    def peft_options(self, model: Any, task: Task, *, whole: Collection[str]) -> dict[str, Any]:
        """Return fields of PEFT's configuration.

        Raises:
            Incompatible: PEFT has no type for the task.
        """
        check_task_type(task)
        return {"num_virtual_tokens": self.num_virtual_tokens, **self.method_options(model)}


def check_task_type(task: Task) -> None:
    """Check that PEFT has a type for a task; without one it cannot put virtual tokens before the text.

    Raises:
        Incompatible: PEFT has none.
    """
    if task.peft_type is None:
        raise Incompatible(
            "strategy: PEFT has no type for this task (it has none for masked language modeling), and methods with "
            "virtual tokens need one. Use a method that adapts the layers: lora, ia3, layernorm."
        )


def encoder_width(model: Any, width: int | None) -> int:
    """Return the width of the network that makes virtual tokens; None is the model's hidden size."""
    return width or int(model.config.get_text_config().hidden_size)


def align_outputs(model: Any) -> Any:
    """Make a wrapped model return outputs for the tokens of the text only.

    PEFT 0.21 puts virtual tokens before the text and leaves the rest to the user. Token classification then fails,
    because there are more logits than labels. Question answering trains and reads spans that are `num_virtual_tokens`
    tokens too far left. The hooks added here pad the labels and shift the positions before the forward pass, and cut
    the logits after it.
    """
    config = model.active_peft_config
    if config.task_type == "CAUSAL_LM":
        _drop_position_ids(model)
    if config.task_type == "SEQ_CLS" and finds_end_by_padding(base_model_of(model)):
        _read_last_token(base_model_of(model))
    outputs = PER_TOKEN.get(config.task_type, ())
    if not outputs:
        return model
    count = config.num_virtual_tokens

    def before(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, _shift_targets(kwargs, count)

    def after(module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        return _trim_outputs(output, kwargs, outputs, count)

    base = base_model_of(model)
    base.register_forward_pre_hook(before, with_kwargs=True)
    base.register_forward_hook(after, with_kwargs=True)
    return model


def _read_last_token(base: Any) -> None:
    """Make a decoder classify by the last token of each text, not by the last position of the batch.

    Virtual tokens reach the model as vectors, without ids. transformers 5.23 then cannot see where a text ends, and
    reads the last position, which is padding in every text but the longest: the probabilities of a text depend on the
    batch that it is in. The hooks added here find the end by the attention mask.

    Raises:
        Incompatible: The head has another name than those of transformers' decoders.
    """
    if base.config.is_encoder_decoder:
        return
    head = getattr(base, "score", None)
    if head is None:
        raise Incompatible(
            f"strategy: {type(base).__name__} has no head called `score`, so the end of a text cannot be found behind "
            "virtual tokens. Use a method that adapts the layers: lora, ia3, layernorm."
        )
    masks: dict[str, Any] = {"now": None}

    def keep_mask(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        masks["now"] = kwargs.get("attention_mask") if kwargs.get("inputs_embeds") is not None else None

    def move_last(module: Any, args: Any, logits: torch.Tensor) -> torch.Tensor:
        mask = masks["now"]
        if mask is None:
            return logits
        last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
        moved = logits.clone()
        moved[:, -1] = logits[torch.arange(len(logits), device=logits.device), last]
        return moved

    base.register_forward_pre_hook(keep_mask, with_kwargs=True)
    head.register_forward_hook(move_last)


def _drop_position_ids(model: Any) -> None:
    """Drop position ids as PEFT does, but without its warning at each text that is generated.

    For models that learn positions this changes the outputs; `job_checks` refuses them. With relative positions it
    has no effect.
    """
    adjust = require_upstream("peft.PeftModel", "_adjust_prompt_learning_kwargs", of=model)

    def adjust_quietly(config: Any, *, kwargs: dict[str, Any], **more: Any) -> None:
        if "position_ids" in kwargs:
            kwargs["position_ids"] = None
        adjust(config, kwargs=kwargs, **more)

    model._adjust_prompt_learning_kwargs = adjust_quietly


def _shift_targets(kwargs: dict[str, Any], count: int) -> dict[str, Any]:
    """Return arguments of a forward pass with labels and positions moved right by the virtual tokens."""
    if kwargs.get("inputs_embeds") is None:  # the adapter is switched off
        return kwargs
    shifted = dict(kwargs)
    labels = kwargs.get("labels")
    if labels is not None:
        shifted["labels"] = nn.functional.pad(labels, (count, 0), value=IGNORE_INDEX)
    for name in ("start_positions", "end_positions"):
        positions = kwargs.get(name)
        if positions is not None:
            shifted[name] = positions + count
    return shifted


def _trim_outputs(output: Any, kwargs: Mapping[str, Any], names: tuple[str, ...], count: int) -> Any:
    """Return the outputs of a forward pass without the rows of the virtual tokens."""
    if kwargs.get("inputs_embeds") is not None:
        for name in names:
            output[name] = output[name][:, count:].contiguous()
    return output


def encode_prefix_once(model: Any) -> Any:
    """Make a prefix-tuning model compute its prefix once a batch, not once an example.

    The prefixes of a batch are equal except for the last bits, which depend on the batch size: the saved prefix would
    differ from the trained one.
    """
    encoder = model.prompt_encoder[model.active_adapter]
    if hasattr(encoder, "transform"):
        encoder.transform.register_forward_pre_hook(_keep_first_row)
        encoder.register_forward_hook(_repeat_for_batch)
    return model


def _keep_first_row(module: Any, args: Any) -> Any:
    return (args[0][:1],)


def _repeat_for_batch(module: Any, args: Any, prefix: Any) -> Any:
    return prefix.expand(len(args[0]), -1, -1).contiguous()
