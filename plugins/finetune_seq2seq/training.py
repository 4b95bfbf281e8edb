"""`Job` → a trainer that learns from targets, and writes texts of its own to be scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from transformers import GenerationConfig, Seq2SeqTrainer

from finetune.errors import BadOptions
from finetune.interfaces import Job
from finetune.kit import PatchedTrainer, build_trainer, preserve_rng_state
from finetune_seq2seq import generation, losses
from finetune_seq2seq.collator import plain

OVERFLOWS = ("t5", "mt5", "umt5", "longt5", "switch_transformers")
"""Models whose activations are beyond what float16 holds: pretrained in bfloat16, they give NaN (transformers#5651)."""


def trainer(job: Job) -> PatchedSeq2SeqTrainer:
    """Build the trainer of a task whose model writes.

    How it writes is also put into the model, where the job is to train it, so that the saved `generation_config.json`
    says the same.

    Raises:
        BadOptions: Training options that would give NaN or score nothing; generation options that contradict what the
            model brings.
        Incompatible: The model cannot make decoder inputs, or the tokenizer does not suit it.
    """
    model = plain(job.model)
    _check_arguments(job.arguments, model.config.model_type)
    writing = generation.config(model, job.tokenizer, job.preprocessor, job.generation)
    if job.train is not None:
        model.generation_config = deepcopy(writing)
    built = build_trainer(job, PatchedSeq2SeqTrainer)
    built.writing = writing
    return built


def _check_arguments(arguments: Mapping[str, Any], model_type: str) -> None:
    if not arguments.get("predict_with_generate", True):
        raise BadOptions("training: 'predict_with_generate' is off, and what is scored are texts. Leave it out.")
    if arguments.get("sortish_sampler"):
        raise BadOptions(
            "training: 'sortish_sampler' does nothing in transformers 5. Write "
            "train_sampling_strategy: group_by_length."
        )
    half = [name for name in ("fp16", "fp16_full_eval") if arguments.get(name)]
    if half and model_type in OVERFLOWS:
        raise BadOptions(
            f"training: {half[0]!r} with a {model_type} model: its activations are beyond what float16 holds, and the "
            "loss becomes NaN (transformers#5651). Use bf16, or neither."
        )


class PatchedSeq2SeqTrainer(PatchedTrainer, Seq2SeqTrainer):
    """transformers' trainer of encoder-decoders, mended.

    - Its predictions are ``(ids, at_limit)``, and with labels ``(ids, at_limit, loss, tokens)``: what was written,
      without the decoder's first token; whether that is as long as it may be; and the cross entropy of the target's
      tokens, summed, with their number. Upstream's mean of the means of batches tells no perplexity.
    - Upstream leaves its defaults, such as a length of 20, in the model that is saved; here writing leaves no trace.
    - What is drawn at random while writing depends on the seed alone.
    """

    writing: GenerationConfig
    """How to write."""

    def __init__(self, *args: Any, optimizer_cls_and_kwargs: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.optimizer_cls_and_kwargs = optimizer_cls_and_kwargs  # Seq2SeqTrainer does not know this argument

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate or predict, by the seed."""
        with preserve_rng_state():
            torch.manual_seed(self.args.seed)
            return super().evaluation_loop(*args, **kwargs)

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None, **more: Any
    ) -> tuple[Any, Any, Any]:
        """Measure the targets of one batch, where it has any, and write texts of its sources."""
        inputs = self._prepare_inputs(inputs)
        labels, loss = inputs.get("labels"), None
        measured: tuple[torch.Tensor, ...] = ()
        if labels is not None:
            given = {name: value for name, value in inputs.items() if name != "labels"}
            with torch.no_grad(), self.compute_loss_context_manager():
                measured = losses.by_row(model(**given).logits, labels)
            loss = measured[0].sum() / measured[1].sum()
        if prediction_loss_only:
            return loss, None, None
        # Decoder inputs would be taken for the beginning of what is to be written.
        source = {name: value for name, value in inputs.items() if name not in ("labels", "decoder_input_ids")}
        with self._writing():
            _, ids, _ = super().prediction_step(model, source, False, ignore_keys, **more)
        ids = ids[:, 1:]
        last = ids[:, generation.limit(self.writing) - 1 :][:, :1]
        at_limit = last.ne(self.processing_class.pad_token_id).any(dim=1)
        return loss, (ids, at_limit.long(), *measured), labels

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Give the model our way of writing; upstream fills in defaults, and they go with it."""
        model = plain(self.model)
        kept, model.generation_config = model.generation_config, deepcopy(self.writing)
        try:
            yield
        finally:
            model.generation_config = kept
