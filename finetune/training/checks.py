"""Checks between the steps of a run, each at the earliest place where it can fail."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from finetune.errors import BadOptions, Incompatible, TrainingFailed
from finetune.models import base_model_of, stated_positions
from finetune.training import lookups, upstream
from finetune.training.collate import pad, pad_mask, padding_side


def model_takes_features(
    model: Any,
    tokenizer: Any,
    *,
    longest: int,
    longest_target: int | None = None,
    padded: bool = True,
) -> None:
    """Check that every token id has an embedding, and every feature has positions.

    Args:
        model: The base model.
        tokenizer: The tokenizer that made the features.
        longest: Tokens of the longest sequence.
        longest_target: Tokens of the longest target, for a model that writes targets.
        padded: Whether the tokenizer pads; a preprocessor's own collator may not need a padding
            token.

    Raises:
        BadOptions: Features are longer than the model's positions, or cannot be padded.
        Incompatible: The tokenizer knows more tokens than the model, or the model cannot read a text.
    """
    rows = _embedding_rows(model)
    if rows is not None and len(tokenizer) > rows:
        raise Incompatible(
            f"the tokenizer has {len(tokenizer):,} tokens, but the model has {rows:,} embeddings. Set "
            "model.tokenizer to the tokenizer of the model."
        )
    _positions_suffice(model, tokenizer, longest=longest, longest_target=longest_target)
    _outputs_fit(model, tokenizer)
    if padded and tokenizer.pad_token_id is None:
        raise BadOptions(
            "the tokenizer has no padding token, so features cannot be batched. Set model.tokenizer to one that has."
        )


def _embedding_rows(model: Any) -> int | None:
    """Return how many tokens have an embedding; None for a model without a table of tokens, such as CANINE."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError):
        return None


@torch.no_grad()
def _outputs_fit(model: Any, tokenizer: Any) -> None:
    """Check that a model that labels tokens gives one output for each token.

    Perceiver gives one for each of its positions, whatever the length of the text.
    """
    name = type(base_model_of(model)).__name__
    if not name.endswith(("ForMaskedLM", "ForTokenClassification")):
        return
    with evaluation_mode(model), torch.random.fork_rng(devices=[]):
        given = model(**_inputs(model, _text(tokenizer, lookups.SHORT))).logits.shape[1]
    if given != lookups.SHORT:
        raise Incompatible(
            f"model: {name} of transformers gives {given} outputs for a text of {lookups.SHORT} tokens. It is not "
            "supported here. Use a model that gives one output for each token."
        )


READING_ERRORS = (
    AssertionError, AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""What the models of transformers raise if they cannot read a text."""


def _positions_suffice(model: Any, tokenizer: Any, *, longest: int, longest_target: int | None) -> None:
    def read(length: int) -> None:
        model(**_inputs(model, _text(tokenizer, length, pair=_reads_pairs(model))))

    def write(length: int) -> None:
        given = _inputs(model, _text(tokenizer, lookups.SHORT))
        model(**{**given, "decoder_input_ids": _inputs(model, _text(tokenizer, length))["input_ids"]})

    positions = targets = None
    stated = stated_positions(model.config)
    with evaluation_mode(model), torch.random.fork_rng(devices=[]):
        try:
            positions = lookups.most_positions(read, longest=longest, stated=stated)
            if longest_target is not None:
                targets = lookups.most_positions(write, longest=longest_target, stated=stated)
        except READING_ERRORS as error:
            raise cannot_read(model, error) from error
    if positions is not None:
        raise BadOptions(
            f"preprocessor: features have up to {longest} tokens, but the model has {positions} positions. Set "
            f"preprocessor.{'max_length' if longest_target is None else 'max_source_length'} to {positions} or less."
        )
    if targets is not None:
        raise BadOptions(
            f"preprocessor: targets have up to {longest_target} tokens, but the model has {targets} positions for "
            f"them. Set preprocessor.max_target_length to {targets} or less."
        )


def cannot_read(model: Any, error: Exception, *, what: str = "a plain text") -> Incompatible:
    """Return the refusal of a model that fails on a text, with the words of its error."""
    words = " ".join(str(error).split()) or type(error).__name__
    return Incompatible(
        f"model: {type(base_model_of(model)).__name__} of transformers cannot read {what}. It stops with: {words}"
    )


def can_read(model: Any, batch: dict[str, Any], *, what: str = "a plain text") -> None:
    """Run a model on a batch.

    Args:
        model: The model.
        batch: The arguments of its ``forward``.
        what: What the batch holds, for the message.

    Raises:
        BadOptions: The model knows fewer types of tokens than the tokenizer gives.
        Incompatible: The model fails.
    """
    try:
        with lookups.WatchLookups():
            model(**batch)
    except torch.OutOfMemoryError:
        raise
    except READING_ERRORS as error:
        types = batch.get("token_type_ids")
        if types is not None and types.any():
            zeros = {**batch, "token_type_ids": torch.zeros_like(types)}
            can_read(model, zeros, what=what)
            raise BadOptions(
                f"the tokenizer gives token types up to {int(types.max())}, but "
                f"{type(base_model_of(model)).__name__} has fewer. Save a copy of the tokenizer without "
                "'token_type_ids' in its model_input_names, and name that copy under model.tokenizer."
            ) from error
        raise cannot_read(model, error, what=what) from error


def depends_on_batch(model: Any, tokenizer: Any) -> bool:
    """Return whether a model computes other outputs for a text if a longer text is in its batch.

    Measured with two texts. In transformers 5.23, such models read the padding (ConvBERT and CANINE convolve over it,
    MobileBERT joins each token with the next one, FNet takes no attention mask), or let the tokens of a batch compete
    for experts (Switch Transformers, NLLB-MoE).

    Raises:
        Incompatible: The model cannot read the texts.
    """
    model = base_model_of(model)
    pair = _reads_pairs(model)
    short, long = (_text(tokenizer, length, pair=pair) for length in (lookups.SHORT, lookups.LONGER))
    side = padding_side(model)
    rows = pad([short, long], tokenizer.pad_token_id or 0, side=side)
    mask = pad_mask([short, long], side=side)
    kept = slice(None, len(short)) if side == "right" else slice(-len(short), None)
    with evaluation_mode(model), torch.no_grad(), torch.random.fork_rng():
        try:
            alone = _float_outputs(model(**_batch(model, rows[:1, kept], mask[:1, kept])))
            together = _float_outputs(model(**_batch(model, rows, mask)))
        except READING_ERRORS as error:
            raise cannot_read(model, error) from error
    for one, two in zip(alone, together, strict=True):
        two = two[:1]
        if two.shape[1:2] == (len(long),) != one.shape[1:2]:
            two = two[:, kept]
        tolerance = torch.finfo(one.dtype).eps ** 0.5  # other shapes are summed in another order
        if one.shape == two.shape and (one - two).abs().max() > tolerance * one.abs().max():
            return True
    return False


def _float_outputs(outputs: Any) -> list[torch.Tensor]:
    """Return the logits of a model, also those of the two ends of a span."""
    names = ("logits", "start_logits", "end_logits")
    found = [outputs.get(name) for name in names]
    return [tensor for tensor in found if tensor is not None]


def _reads_pairs(model: Any) -> bool:
    """Return whether a model's head is for pairs of texts; Longformer's looks for the three separators of a pair."""
    return type(base_model_of(model)).__name__.endswith(("ForMultipleChoice", "ForQuestionAnswering"))


def _text(tokenizer: Any, length: int, *, pair: bool = False) -> list[int]:
    """Return the ids of a text of so many tokens, with the special tokens that the tokenizer adds to each text."""
    ids: list[int] = tokenizer(*(["a"] * (1 + pair)))["input_ids"] or [0]
    special = set(tokenizer.all_special_ids)
    at = next((place for place, token in enumerate(ids) if token not in special), len(ids) // 2)
    stretched = [*ids[:at], *([ids[at]] * (length - len(ids) + 1)), *ids[at + 1 :]]
    return stretched[-length:]


def _inputs(model: Any, ids: list[int]) -> dict[str, torch.Tensor]:
    """Return one text as the inputs of a model."""
    rows = torch.tensor([ids])
    return _batch(model, rows, torch.ones_like(rows))


def _batch(model: Any, rows: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return texts as the inputs of a model; one of multiple choice gets each text as an only choice.

    A model that writes targets gets the first token of each text as the beginning of its target.
    """
    inputs = {"input_ids": rows.to(model.device), "attention_mask": mask.to(model.device)}
    base = base_model_of(model)
    if type(base).__name__.endswith("ForMultipleChoice"):
        inputs = {name: tensor[:, None] for name, tensor in inputs.items()}
    if base.config.is_encoder_decoder and base.can_generate():
        inputs["decoder_input_ids"] = inputs["input_ids"][:, :1]
    accepted = inspect.signature(type(base).forward).parameters
    return {name: tensor for name, tensor in inputs.items() if name in accepted}


def labels_mean_the_same(base_labels: Any, model: Any, newly_initialized: Collection[str]) -> None:
    """Check that the head of the base model keeps the order of its labels.

    Raises:
        Incompatible: The base model has the same labels in another order.
    """
    ours = model.config.id2label
    same_names = sorted(base_labels.values()) == sorted(ours.values())
    if not newly_initialized and same_names and base_labels != ours:
        order = [base_labels[key] for key in sorted(base_labels)]
        raise Incompatible(
            f"the head of the model has these labels in the order {order}, but the data gives "
            f"{[ours[key] for key in sorted(ours)]}. Set preprocessor.labels: {order}."
        )


def something_trains(model: Any, *, newly_initialized: Collection[str]) -> tuple[int, int]:
    """Return the numbers of trainable and of all parameters.

    Raises:
        Incompatible: Nothing is trainable, or a newly initialized module is not.
    """
    trainable = sum(_size(p) for p in model.parameters() if p.requires_grad)
    total = sum(_size(p) for p in model.parameters())
    if trainable == 0:
        raise Incompatible(
            "the strategy leaves nothing to train. Check whether the head is tied to a frozen embedding."
        )
    # With duplicates, because a parameter that is tied to another one trains with it.
    names = [name for name, p in model.named_parameters(remove_duplicate=False) if p.requires_grad]
    for module in sorted(newly_initialized):
        if module and not any(_inside(name, module) for name in names):
            raise Incompatible(
                f"{module!r} is missing in the base model, so it was newly initialized, but the strategy does not "
                "train it. Its output would be noise. Use a strategy that trains and saves it."
            )
    return trainable, total


def _size(parameter: Any) -> int:
    """Return the number of values of a parameter; a quantized parameter packs several into one element."""
    state = getattr(parameter, "quant_state", None)
    return int(parameter.numel() if state is None else state.shape.numel())


def _inside(parameter: str, module: str) -> bool:
    """Return whether a parameter belongs to a module, with any wrappers in between.

    >>> _inside("base_model.model.classifier.modules_to_save.default.dense.weight", "classifier.dense")
    True
    """
    parts = iter(parameter.split("."))
    return all(part in parts for part in module.split("."))


@torch.no_grad()
def align_memory(model: Any) -> Any:
    """Return a model on a CPU with every weight copied to memory that torch allocates; other models as they are.

    Weights that are read from a file can be aligned differently. MKL then adds in another order,
    and two equal models differ in the last digits.
    """
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.device.type == "cpu" and tensor.is_floating_point():
            tensor.data = tensor.data.clone()
    return model


@contextmanager
def evaluation_mode(model: Any) -> Iterator[Any]:
    """Put a model into evaluation mode inside a `with` block, and back into its former mode after it.

    Gradients are not switched off: add `torch.no_grad()` where none are needed.

    Examples:
        >>> model = torch.nn.Dropout().train()
        >>> with evaluation_mode(model):
        ...     model.training
        False
        >>> model.training
        True
    """
    was_training = model.training
    model.eval()
    try:
        yield model
    finally:
        model.train(was_training)


@torch.no_grad()
def model_outputs(model: Any, batch: dict[str, Any]) -> Any:
    """Return the outputs of a model in evaluation mode, in its own precision, for a batch without labels."""
    with evaluation_mode(model):
        # accelerate leaves its bf16 autocast on the trained object, as an attribute `forward`; the
        # class's has none
        outputs = type(model).forward(model, **batch)
    # some models return a cache if their configuration has never been saved without one
    return tuple(value for name, value in outputs.items() if name not in upstream.CACHE_OUTPUTS)


def reloads_equal(trained: Any, reloaded: Any) -> None:
    """Check that what was saved is what was trained, to the bit.

    Raises:
        TrainingFailed: An output differs.
    """
    for position, (before, after) in enumerate(zip(trained, reloaded, strict=True)):
        if isinstance(before, torch.Tensor) and not torch.equal(before, after):
            difference = (before.float() - after.float()).abs().max().item()
            raise TrainingFailed(
                f"the saved model is not the trained one: output {position} differs by {difference:.3g} after "
                "reloading. Some trained weights were not saved; do not use the saved model. Please report this."
            )
