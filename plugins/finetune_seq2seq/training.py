"""`Job` → a trainer that learns from targets, and generates texts to be scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch.nn import functional
from transformers import GenerationConfig, Seq2SeqTrainer

from finetune.errors import BadOptions
from finetune.interfaces import IGNORE_INDEX, Job
from finetune.kit import PatchedTrainer, base_model_of, build_trainer, preserve_rng_state
from finetune_seq2seq import generation

OVERFLOWS = ("t5", "mt5", "umt5", "longt5", "switch_transformers")
"""Models whose activations exceed float16: pretrained in bfloat16, they give NaN
(transformers#5651)."""


def trainer(job: Job) -> PatchedSeq2SeqTrainer:
    """Build the trainer of a task whose model generates text.

    If the job trains the model, the generation configuration is also put into the model, so that
    the saved `generation_config.json` is the same.

    Raises:
        BadOptions: Training options that would give NaN or no scores; generation options that
            contradict the model.
        Incompatible: The model cannot make decoder inputs, or the tokenizer does not fit.
    """
    model = base_model_of(job.model)
    _check_arguments(job.arguments, model.config.model_type)
    config = generation.config(model, job.tokenizer, job.preprocessor, job.generation)
    if job.train is not None:
        model.generation_config = deepcopy(config)
    built = build_trainer(job, PatchedSeq2SeqTrainer)
    built.generation = config
    built.pad_token_id = job.tokenizer.pad_token_id
    return built


def _check_arguments(arguments: Mapping[str, Any], model_type: str) -> None:
    half = [name for name in ("fp16", "fp16_full_eval") if arguments.get(name)]
    if half and model_type in OVERFLOWS:
        raise BadOptions(
            f"training: {half[0]!r} with a {model_type} model: its activations exceed float16, so the loss becomes NaN "
            "(transformers#5651). Use bf16, or neither."
        )


class PatchedSeq2SeqTrainer(PatchedTrainer, Seq2SeqTrainer):
    """transformers' trainer of encoder-decoders, with three changes.

    - Its predictions are ``(ids, at_limit)``, and with labels ``(ids, at_limit, loss, tokens)``:
      what was generated, without the decoder's first token; whether that is as long as the limit
      allows; and the sum of the cross entropy of the target's tokens, with their number. Upstream's
      mean of the means of batches does not give a perplexity.
    - Upstream leaves its defaults, such as a length of 20, in the model that is saved; here
      generation leaves the model as it is.
    - Sampling depends on the seed alone.
    """

    seeds_evaluation = True
    generation: GenerationConfig
    """How to generate."""
    pad_token_id: int
    """The tokenizer's."""

    def __init__(self, *args: Any, optimizer_cls_and_kwargs: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.optimizer_cls_and_kwargs = optimizer_cls_and_kwargs  # Seq2SeqTrainer does not know this argument

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate or predict, with the seed of the run."""
        with preserve_rng_state():
            torch.manual_seed(self.args.seed)
            return super().evaluation_loop(*args, **kwargs)

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None, **more: Any
    ) -> tuple[Any, Any, Any]:
        """Measure the targets of one batch, if it has any, and generate texts from its sources."""
        inputs = dict(self._prepare_inputs(inputs))
        labels, loss = inputs.pop("labels", None), None
        measured: tuple[torch.Tensor, ...] = ()
        if labels is not None:
            with torch.no_grad(), self.compute_loss_context_manager():
                measured = row_losses(model(**inputs).logits, labels)
            loss = measured[0].sum() / measured[1].sum()
        if prediction_loss_only:
            return loss, None, None
        # Upstream would generate after the decoder inputs.
        inputs.pop("decoder_input_ids", None)
        with self._generation_config():
            _, generated, _ = super().prediction_step(model, inputs, False, ignore_keys, **more)
        assert generated is not None  # upstream returns None only if prediction_loss_only is true
        ids = generated[:, 1:]
        last = ids[:, generation.limit(self.generation) - 1 :][:, :1]
        at_limit = last.ne(self.pad_token_id).any(dim=1)
        return loss, (ids, at_limit.long(), *measured), labels

    @contextmanager
    def _generation_config(self) -> Iterator[None]:
        """Give the model our generation configuration; upstream's defaults are written into a copy."""
        model = base_model_of(self.model)
        kept, model.generation_config = model.generation_config, deepcopy(self.generation)
        try:
            yield
        finally:
            model.generation_config = kept


def row_losses(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sum of the cross entropy of each row's target tokens, and how many tokens those are: (B,), (B,)."""
    token_losses = functional.cross_entropy(
        logits.float().transpose(1, 2), labels, ignore_index=IGNORE_INDEX, reduction="none"
    )  # (B, T)
    return token_losses.sum(dim=1), labels.ne(IGNORE_INDEX).sum(dim=1)
