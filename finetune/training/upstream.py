"""The boundary to transformers, TRL, PEFT and bitsandbytes: every name of theirs that may go without notice.

Some of what finetune does needs names that these libraries do not promise: methods with a leading underscore, names
that their documentation leaves out, the text of a warning. This module lists them (`ASSUMPTIONS`), checks them, and
makes the few temporary changes to other libraries (`replaced`). No other module changes another library in place.

If a release of a library removes a name, the code that needs the name raises `UpstreamChanged`, which says what is
missing and which version to install. `finetune doctor` and tests/core/test_upstream.py check all names at once.

The module imports the standard library only. It imports another library when it checks a name of that library.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Literal, cast

from finetune.errors import UpstreamChanged

_MISSING = object()

SUPPORTED: Mapping[str, str] = {
    "accelerate>=1.15,<2": "documented names only (`PartialState`, `is_peft_model`); 1.x deprecates before it removes",
    "bitsandbytes>=0.50,<0.51": "`has_avx512bf16` decides whether 4-bit weights are packed",
    "datasets>=5.2,<6": "documented names only",
    "evaluate>=0.4.6,<0.5": "below 1.0 a minor may break; a metric of finetune overrides `_info` and `_compute`",
    "huggingface_hub>=2.4,<3": "documented names only",
    "peft>=0.21,<0.22": "`_adjust_prompt_learning_kwargs`, `utils.constants`; PEFT 0.21 must agree with transformers "
    "about the name of the cache",
    "sacrebleu>=2.6,<2.7": "`_extract_corpus_statistics` and `_compute_score_from_stats`: no public name for either",
    "safetensors>=0.8,<0.9": "below 1.0 a minor may break; `load_file` and `save_file`",
    "tokenizers>=0.23,<0.24": "below 1.0 a minor may break; transformers pins it as well",
    "torch>=2.10,<3": "private names for `finetune plan` alone, which are checked when it computes",
    "transformers>=5.23,<5.24": "methods of `Trainer` with a leading underscore; 5.24 renames the argument and output "
    "`past_key_values` to `cache`",
    "trl>=1.16,<1.17": "methods of all six trainers with a leading underscore, and the fused head",
}
"""Which versions of a library finetune supports, and why not every later one.

pyproject.toml states the same ranges; a test compares them.
"""

CACHE_OUTPUTS = ("past_key_values", "cache")
"""Names of the output that holds a decoder's cache: the first up to transformers 5.23, the second from 5.24 on."""

Kind = Literal["attribute", "instance", "text"]


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """A name of another library that finetune uses although the library does not promise it."""

    owner: str
    """Where the name is: a module, or a class in a module (`transformers.Trainer`)."""
    attribute: str
    """The name itself, or a text where `kind` is `text`."""
    needed_to: str
    """What finetune cannot do without it; completes "finetune needs it to …"."""
    used_by: str
    """Which file uses it."""
    kind: Kind = "attribute"
    """What the name is: an `attribute` of the owner, an attribute of an `instance` of the owner, or a `text` in the
    source code of the owner, which then is a module."""

    @property
    def name(self) -> str:
        """The owner and the name: `transformers.Trainer._save_checkpoint`."""
        return f"{self.owner}.{self.attribute}" if self.kind != "text" else f"{self.owner}: {self.attribute!r}"


def _assume(owners: str, attributes: str, *, to: str, by: str, kind: Kind = "attribute") -> Iterator[Assumption]:
    """Return one assumption for each pair of an owner and an attribute, both separated by spaces."""
    for owner in owners.split():
        for attribute in [attributes] if kind == "text" else attributes.split():
            yield Assumption(owner=owner, attribute=attribute, needed_to=to, used_by=by, kind=kind)


_HERE = "finetune/training/upstream.py"
_CORE = "finetune/training/trainer.py"
_INFERENCE = "finetune/prediction/inference.py"
_SHARDING = "finetune/training/sharding.py"
_RL = "plugins/finetune_trl/reinforcement/trainer.py"
_SFT = "plugins/finetune_trl/sft/trainer.py"
_PATCHED = "plugins/finetune_trl/patched.py"
_EXPORT = "plugins/finetune_export/graphs.py"
_RUNTIME = "plugins/finetune_export/runtime.py"
_OFFLINE = "trl.SFTTrainer trl.DPOTrainer trl.KTOTrainer trl.RewardTrainer"
_ONLINE = "trl.GRPOTrainer trl.RLOOTrainer"
_GGUF = "finetune/gguf.py"
_TRAINERS = " ".join(f"trl.trainer.{name}_trainer" for name in ("sft", "dpo", "kto", "reward", "grpo", "rloo"))
_MAPPINGS = "transformers.models.auto.modeling_auto"

ASSUMPTIONS: tuple[Assumption, ...] = (
    # transformers: the trainer
    *_assume("transformers.Trainer", "_save_checkpoint _get_output_dir", by=_CORE,
             to="add what a strategy keeps to each checkpoint"),
    *_assume("transformers.Trainer", "_load_from_checkpoint _load_best_model", by=_CORE,
             to="read a strategy's checkpoint when a run resumes, and when it keeps the best model"),
    *_assume("transformers.Trainer", "_run_epoch _init_training_state _load_rng_state _get_train_sampler", by=_CORE,
             to="make the same steps with the same rows when a run resumes, and none after the last"),
    *_assume("transformers.Trainer", "_load_callback_state _maybe_log_save_evaluate _evaluate _determine_best_metric",
             by=_CORE, to="resume a run that stops early, that keeps the best model, or that was evaluating"),
    *_assume("transformers.trainer", "self._tr_loss", by=_CORE, kind="text",
             to="log the losses of a resumed run as one without a stop logs them"),
    *_assume("transformers.trainer", "self._globalstep_last_logged", by=_CORE, kind="text",
             to="log the losses of a resumed run as one without a stop logs them"),
    *_assume("transformers.trainer", "self._total_loss_scalar", by=_CORE, kind="text",
             to="log the losses of a resumed run as one without a stop logs them"),
    *_assume("transformers.Trainer", "_prepare_for_training", by=_CORE,
             to="train one model in several processes after the base model was scored"),
    *_assume("accelerate.accelerator", "_is_accelerate_prepared", by=_CORE, kind="text",
             to="train one model in several processes after the base model was scored"),
    *_assume("accelerate.accelerator", "_dataloaders", by=_INFERENCE, kind="text",
             to="forget the rows that it has predicted, so that a server does not keep all of them"),
    *_assume("transformers.Trainer", "create_accelerator_and_postprocess", by=_CORE,
             to="divide the weights among the processes on CPUs, too"),
    *_assume("transformers.TrainingArguments", "fsdp_plugin_args", by=_SHARDING, kind="instance",
             to="divide the weights among the processes on CPUs, too"),
    *_assume("transformers.PreTrainedModel", "_no_split_modules", by=_SHARDING,
             to="choose the layers whose weights are gathered at a time"),
    *_assume("accelerate.state", 'PartialState._shared_state["distributed_type"]', by=_SHARDING, kind="text",
             to="divide the weights among the processes on CPUs, too"),
    *_assume("transformers.Trainer", "_load_optimizer_and_scheduler _load_scaler", by=_CORE,
             to="name the checkpoint whose state of the training cannot be read"),
    *_assume("transformers.trainer", "rotate_checkpoints", by=_CORE,
             to="delete old checkpoints after the newest is complete, in the order of their steps"),
    *_assume("transformers.trainer", "skip_first_batches", by=_CORE,
             to="resume a run that streams its data at its place, without making the features before it again"),
    *_assume("transformers.Trainer", "_get_eval_sampler", by=_CORE,
             to="evaluate in the order of the data, so that predictions belong to their examples"),
    *_assume("transformers.Trainer", "_get_grad_norm", by=_CORE,
             to="see by the norm of all gradients that each of them is finite, without a look at each"),
    *_assume("transformers.Trainer", "_prepare_inputs", by=_CORE,
             to="move a batch to the model's device"),
    *_assume("transformers.Trainer", "model_accepts_loss_kwargs", by=_CORE, kind="instance",
             to="divide an accumulated loss once, not n times or never"),
    *_assume("transformers.Trainer", "optimizer_cls_and_kwargs", by=_CORE, kind="instance",
             to="train with a strategy's parameter groups"),
    *_assume("transformers.Trainer", "is_fsdp_enabled", by=_CORE, kind="instance",
             to="divide the weights among the processes on CPUs, too"),
    *_assume("transformers.Trainer", "get_decay_parameter_names", by="plugins/finetune_freeze/rates.py",
             to="leave biases and norms without weight decay, as the trainer does"),
    *_assume("transformers.Trainer", "_remove_unused_columns", by="plugins/finetune_lm/training.py",
             to="keep the columns that a collator of finetune takes"),
    *_assume("transformers.Trainer", "_set_signature_columns_if_needed", by=_SFT,
             to="keep the columns that the trainers of finetune take"),
    *_assume("transformers.Trainer", "_signature_columns", by=_SFT, kind="instance",
             to="keep the columns that the trainers of finetune take"),
    # transformers: models
    *_assume("transformers.modeling_layers", "GenericForSequenceClassification", by="finetune/models.py",
             to="recognise a decoder that classifies, and set its padding token to the tokenizer's"),
    *_assume(_MAPPINGS, "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES MODEL_FOR_MASKED_LM_MAPPING_NAMES",
             by="finetune/models.py, finetune/evaluation/forgetting.py",
             to="know how a family of models was pretrained"),
    *_assume(_MAPPINGS, "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES", by="finetune/evaluation/forgetting.py",
             to="know how a family of models was pretrained"),
    *_assume("transformers.integrations.gguf", "GgufHeader read_gguf_metadata GGUF_CONFIG_ARCHS", by=_GGUF,
             to="check a GGUF file before it is converted"),
    *_assume("transformers.integrations.gguf.gguf_tokenizer_mapping", "GGUF_PRE_TOKENIZER_SPLITS", by=_GGUF,
             to="split texts as the GGUF file of a model says"),
    *_assume("transformers.modeling_gguf_pytorch_utils", "GGUF_SUPPORTED_ARCHITECTURES tqdm", by=_GGUF,
             to="name the architectures of GGUF files that can be converted, and show no bar meanwhile"),
    *_assume("transformers.utils.chat_template_utils", "_compile_jinja_template", by=_GGUF,
             to="check the chat template of a GGUF file"),
    *_assume("transformers.modeling_utils", "DISABLE_SAFETENSORS_CONVERSION", by="finetune/models.py", kind="text",
             to="keep transformers from asking a web service to convert pickled weights, and from loading the answer"),
    *_assume("transformers.initialization", "zeros_", by="finetune/models.py",
             to="keep the row of the padding token as it was saved"),
    *_assume("transformers.modeling_utils", "ignore_mismatched_sizes", by="finetune/models.py", kind="text",
             to="recognise the error about a head of another size"),
    *_assume("transformers.PreTrainedConfig", "_attn_implementation",
             by="plugins/finetune_freeze/cached.py, plugins/finetune_trl/sft/packing.py",
             to="name the attention in messages, and keep cached features of different attentions apart"),
    *_assume("transformers.PreTrainedConfig", "_name_or_path",
             by="plugins/finetune_adapters/adapters.py, plugins/finetune_peft/prompt.py", kind="instance",
             to="write into an adapter which model it belongs to"),
    *_assume("transformers.GenerationConfig", "_from_model_config", kind="instance",
             by="plugins/finetune_trl/generation.py, plugins/finetune_seq2seq/generation.py",
             to="save generation options that are still there when the model is loaded"),
    *_assume("transformers.models.bart.modeling_bart", "shift_tokens_right", by="plugins/finetune_seq2seq/collator.py",
             to="make decoder inputs of labels"),
    *_assume("transformers.pytorch_utils", "Conv1D", by="plugins/finetune_peft/targets.py",
             to="recognise the linear layers of GPT-2"),
    *_assume("transformers.utils.chat_template_utils", "render_jinja_template",
             by="plugins/finetune_trl/chat/templates.py",
             to="render a chat as transformers does"),
    *_assume("transformers.modeling_utils", "`is_gradient_checkpointing` is deprecated",
             by=f"{_PATCHED}, plugins/finetune_peft/strategy.py", kind="text",
             to="silence that warning, which the user cannot act on"),
    # TRL
    *_assume(_OFFLINE, "_prepare_dataset", by=_PATCHED,
             to="train on the features of finetune, which TRL must not tokenize and cut a second time"),
    *_assume(f"{_OFFLINE} {_ONLINE}", "_send_telemetry", by=_PATCHED,
             to="keep a run from being reported to the Hub"),
    *_assume(f"{_OFFLINE} {_ONLINE}", "create_model_card", by=_PATCHED,
             to="keep TRL from writing its own model card over that of the run"),
    *_assume(f"{_OFFLINE} {_ONLINE}", "loss_is_scaled_for_ga", by=_PATCHED,
             to="leave the scaling of accumulated losses to TRL"),
    *_assume(_ONLINE, "_get_eval_sampler _tokenize_prompts", by=_RL,
             to="score one answer to each prompt, in order, from the ids of finetune"),
    *_assume(_ONLINE, "_calculate_rewards", by=_RL,
             to="score answers by the rewards that training uses"),
    *_assume(_ONLINE, "_step _buffered_inputs", by=_RL, kind="instance",
             to="resume a run at the batch where it stopped, with the answers in use"),
    *_assume(_ONLINE, "ref_model", by=_RL, kind="instance",
             to="compare the model with the base that the recipe names"),
    *_assume("trl.trainer.grpo_trainer trl.trainer.rloo_trainer", "create_model_from_path", by=_RL,
             to="compare the model with the base that the recipe names, not with one that TRL loads by itself"),
    *_assume("trl.trainer.utils.FusedCausalLMOutput", "log_probs label_mask is_top1", by=_SFT,
             to="measure answers without keeping logits"),
    *_assume("trl.trainer.utils", "fused_lm_head=False", by=_SFT, kind="text",
             to="measure answers without keeping logits"),
    *_assume("trl.trainer.utils", "add_fused_lm_head", by=_PATCHED,
             to="take a fused head off a model before the next trainer adds its own"),
    *_assume(_TRAINERS, 'getattr(model, "is_loaded_in_4bit", False)', by="plugins/finetune_peft/qlora.py", kind="text",
             to="keep TRL from casting the trained weights next to a quantized base model to bfloat16"),
    # transformers: exporters, which it calls experimental
    *_assume("transformers.exporters", "ExportedModel OnnxExporter OnnxConfig OpenVINOExporter OpenVINOConfig "
             "DynamoExporter DynamoConfig OnnxRuntimeQuantizer OnnxRuntimeDynamicConfig OnnxRuntimeStaticConfig "
             "NNCFOpenVINOQuantizer NNCFQuantizationConfig NNCFWeightCompressionConfig", by=_EXPORT,
             to="export a model for another runtime"),
    *_assume("transformers.exporters.base", 'EXPORT_MANIFEST_FILE = "export.json"', by=_RUNTIME, kind="text",
             to="read which inputs an exported graph has"),
    *_assume("transformers.exporters.HfExporter", "export program_files", by=_EXPORT,
             to="export a model for another runtime"),
    # PEFT
    *_assume("peft.PeftModel", "_adjust_prompt_learning_kwargs", by="plugins/finetune_peft/virtual.py",
             to="drop positions without a warning at each text that is written"),
    *_assume("peft.utils.constants", "TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING",
             by="plugins/finetune_peft/targets.py",
             to="choose the layers that PEFT would choose"),
    *_assume("peft.utils.constants", "TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING",
             by="plugins/finetune_peft/targets.py",
             to="choose the layers that PEFT would choose"),
    *_assume("peft.utils", "ModulesToSaveWrapper", by="plugins/finetune_peft/merging.py",
             to="merge modules that were trained whole"),
    *_assume("peft.mapping_func", "should not be contained in the prefix", by=_PATCHED, kind="text",
             to="silence that warning about TRL's adapter 'ref', which finetune deletes"),
    *_assume("peft.tuners.tuners_utils", "Unsupported layer type", by="plugins/finetune_peft/strategy.py", kind="text",
             to="silence that warning about norms, which the user cannot act on"),
    *_assume("peft.tuners.tuners_utils", "a tied layer is part of the adapter", by="plugins/finetune_peft/strategy.py",
             kind="text", to="silence that warning; tied embeddings are saved and merged correctly"),
    *_assume("peft.tuners.beft.layer", "Detected that the base layer has no bias", kind="text",
             by="plugins/finetune_peft/strategy.py", to="silence that warning; a merge says it"),
    *_assume("peft.tuners.boft.layer", "Failed to load the CUDA extension", by="plugins/finetune_peft/strategy.py",
             kind="text", to="silence that warning about a kernel for GPUs"),
    *_assume("peft.tuners.boft.layer", "Setting boft_n_butterfly_factor to 1", by="plugins/finetune_peft/strategy.py",
             kind="text", to="silence that warning; another value is refused"),
    *_assume("peft.mapping", "PEFT_TYPE_TO_CONFIG_MAPPING PEFT_TYPE_TO_TUNER_MAPPING",
             by="plugins/finetune_peft/types.py", to="know the configuration and the class of each type"),
    *_assume("peft.tuners.tuners_utils", "Input and output embeddings are no longer tied", kind="text",
             by="plugins/finetune_peft/merging.py", to="silence that warning about a merge, which is as it should be"),
    *_assume("torch.UntypedStorage", "_cdata", by="finetune/planning/activations.py",
             to="count the bytes of tensors that share memory once, for a plan"),
    *_assume("torch", "_scaled_dot_product_attention_math", by="finetune/planning/activations.py",
             to="count the memory of attention with dropout on a CPU"),
    *_assume("transformers.quantizers.AutoHfQuantizer", "from_config", by="finetune/planning/step.py",
             to="quantize the layers of a model without weights, for a plan"),
    *_assume("transformers.Trainer", "hf_device_map", by="finetune/planning/step.py", kind="text",
             to="keep a trainer from moving a model without weights to its device, for a plan"),
    # bitsandbytes
    *_assume("bitsandbytes.nn.modules", "has_avx512bf16", by="plugins/finetune_peft/qlora.py",
             to="keep 4-bit weights as they are stored; packed weights give wrong gradients"),
    *_assume("bitsandbytes.nn.Linear4bit", "support_avx512bf16_for_cpu",
             by="plugins/finetune_peft/qlora.py", kind="instance",
             to="see that a layer does not pack its weights"),
    *_assume("bitsandbytes.nn.modules", "self.quant_state = quant_state", by="finetune/training/checks.py", kind="text",
             to="count the parameters of a 4-bit layer"),
    *_assume("bitsandbytes.backends.cpu.ops", "logging.getLogger(__name__)", by=_HERE, kind="text",
             to="silence its warning about a kernel that it could not download"),
    # sacrebleu
    *_assume("sacrebleu.metrics.BLEU sacrebleu.metrics.CHRF", "_extract_corpus_statistics _compute_score_from_stats",
             by="plugins/finetune_seq2seq/translation_evaluator.py",
             to="give BLEU and chrF an interval"),
)  # fmt: skip
"""Every name that finetune uses and that no library promises, with the reason and the place."""


def require(owner: str, attribute: str, *, of: object = _MISSING) -> Any:
    """Return a name of another library that must be there.

    Args:
        owner: A module, or a class in a module.
        attribute: The name.
        of: An instance of the owner that must have the attribute; left out, the owner itself must have it.

    Returns:
        What the name stands for.

    Raises:
        UpstreamChanged: The library has no such name.

    Examples:
        >>> require("logging.Logger", "setLevel").__name__
        'setLevel'
        >>> require("logging.Logger", "set_level")
        Traceback (most recent call last):
        finetune.errors.UpstreamChanged: logging has no logging.Logger.set_level. Install a version that finetune knows.
    """
    holder = _resolve(owner) if of is _MISSING else of
    found = getattr(holder, attribute, _MISSING) if holder is not _MISSING else _MISSING
    if found is _MISSING and not _has_field(holder, attribute):
        raise _lacks(owner, attribute, _reason(owner, attribute))
    return None if found is _MISSING else found


def check(assumption: Assumption) -> None:
    """Check one assumption, and import the library for it.

    Raises:
        UpstreamChanged: It does not hold.
    """
    owner, attribute = assumption.owner, assumption.attribute
    if assumption.kind == "attribute":
        require(owner, attribute)
        return
    holder = _resolve(owner)
    if holder is _MISSING:
        holds = False
    elif assumption.kind == "instance":
        holds = _is_assigned(holder, attribute)
    else:
        holds = attribute in inspect.getsource(holder)
    if not holds:
        raise _lacks(owner, attribute, assumption)


def unsupported() -> list[str]:
    """Return a sentence for each installed library whose version is not in `SUPPORTED`."""
    from packaging.requirements import Requirement

    sentences = []
    for text in SUPPORTED:
        requirement = Requirement(text)
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:  # an extra that is not installed
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            sentences.append(
                f"{requirement.name} {installed} is installed, and finetune is tested with {text}: results may be "
                f'wrong without an error. pip install "{text}".'
            )
    return sentences


def problems() -> dict[str, str]:
    """Check the versions of the installed libraries and every assumption about them; return what → what is wrong."""
    found = {sentence.partition(" is ")[0]: sentence for sentence in unsupported()}
    for assumption in ASSUMPTIONS:
        if find_spec(assumption.owner.partition(".")[0]) is None:
            continue
        try:
            check(assumption)
        except UpstreamChanged as error:
            found[assumption.name] = str(error)
    return found


def require_bases(cls: type) -> None:
    """Check the assumptions about the classes of other libraries that a class extends.

    A method that overrides nothing is never called, and nothing says so. Call this when an object is made.

    Raises:
        UpstreamChanged: A base lacks a method that finetune overrides or calls.
    """
    for assumption, base in _of_bases(cls):
        if assumption.kind == "attribute" and not hasattr(base, assumption.attribute):
            raise _lacks(assumption.owner, assumption.attribute, assumption)


def require_attributes(built: object) -> None:
    """Check the assumptions about attributes that the bases of an object set when the object is made.

    Raises:
        UpstreamChanged: The object lacks one.
    """
    for assumption, _ in _of_bases(type(built)):
        if assumption.kind == "instance":
            require(assumption.owner, assumption.attribute, of=built)


def _of_bases(cls: type) -> Iterator[tuple[Assumption, type]]:
    bases = {f"{base.__module__.partition('.')[0]}.{base.__qualname__}": base for base in cls.__mro__}
    for assumption in ASSUMPTIONS:
        if assumption.owner in bases:
            yield assumption, bases[assumption.owner]


_Key = tuple[int, str]
_lock = threading.RLock()
_replacements: dict[_Key, list[object]] = {}
_originals: dict[_Key, Any] = {}


@contextmanager
def replaced(module: str, name: str, value: object) -> Iterator[Any]:
    """Replace a name in another library's module inside a `with` block.

    Blocks may be nested, and threads may leave theirs in any order: the value of the block that began last holds, and
    the library's own value is back when the last block ends.

    Args:
        module: Full name of the module.
        name: What to replace.
        value: The value inside the block.

    Yields:
        The library's own value.

    Raises:
        UpstreamChanged: The module has no such name.
    """
    require(module, name)
    holder = _resolve(module)
    yield from _held(
        (id(holder), name),
        value,
        read=lambda: getattr(holder, name),
        write=lambda new: setattr(holder, name, new),
    )


REPRODUCIBLE_SUMS, STRICT = "MKL_CBWR", "AUTO,STRICT"
"""Variable of Intel's library and its value; without it, last bits depend on where in memory a matrix lies."""


def sum_reproducibly() -> None:
    """Ask Intel's library for sums that do not depend on places in memory; it reads the variable at its first sum."""
    os.environ.setdefault(REPRODUCIBLE_SUMS, STRICT)


@contextmanager
def environment(name: str, value: str) -> Iterator[str | None]:
    """Set a variable of the environment inside a `with` block; nesting and threads as in `replaced`.

    Yields:
        The value that it had before, or None.
    """

    def write(new: Any) -> None:
        if new is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = new

    yield from _held((0, name), value, read=lambda: os.environ.get(name), write=write)


def _held(key: _Key, value: object, *, read: Callable[[], Any], write: Callable[[Any], None]) -> Iterator[Any]:
    token = [value]  # a list, because two blocks may hold equal values, and each must find its own
    with _lock:
        tokens = _replacements.setdefault(key, [])
        if not tokens:
            _originals[key] = read()
        tokens.append(token)
        write(value)
        original = _originals[key]
    try:
        yield original
    finally:
        with _lock:
            at = next(place for place, other in enumerate(tokens) if other is token)
            del tokens[at]
            if tokens:
                write(cast(list[object], tokens[-1])[0])
            else:
                write(_originals.pop(key))
                del _replacements[key]


@contextmanager
def suppress_logger(name: str) -> Iterator[None]:
    """Drop what a logger says inside a `with` block."""
    logger = logging.getLogger(name)

    def drop(_: logging.LogRecord) -> bool:
        return False

    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)


@contextmanager
def at_level(name: str, level: int) -> Iterator[None]:
    """Set the level of a logger, and so that of the loggers below it, inside a `with` block."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


def import_bitsandbytes() -> None:
    """Import bitsandbytes, if it is installed, without its warning about a kernel that it could not download.

    transformers' trainer imports PEFT, and PEFT imports bitsandbytes. On a CPU with AVX512-BF16, bitsandbytes 0.50 then
    warns every user, those who quantize nothing included.
    """
    if find_spec("bitsandbytes") is not None:
        with suppress_logger("bitsandbytes.backends.cpu.ops"):
            importlib.import_module("bitsandbytes")


def decay_parameter_names(model: Any) -> set[str]:
    """Return the names of the parameters that transformers' trainer gives weight decay.

    The trainer's method reads nothing of the trainer, which does not exist yet when a strategy makes its groups.

    Raises:
        UpstreamChanged: There is no such method, or it does read the trainer.
    """
    owner, name = "transformers.Trainer", "get_decay_parameter_names"
    method = require(owner, name)
    try:
        return set(method(None, model))
    except (AttributeError, TypeError) as error:
        problem = f"has no {owner}.{name} that works without a trainer ({error})"
        raise changed("transformers", problem, _reason(owner, name)) from error


def keep_generation_options(config: Any) -> None:
    """Mark generation options as set on purpose: else transformers replaces them when the saved model is loaded.

    Args:
        config: A `transformers.GenerationConfig`.

    Raises:
        UpstreamChanged: There is no such mark.
    """
    require("transformers.GenerationConfig", "_from_model_config", of=config)
    config._from_model_config = False


def _resolve(path: str) -> Any:
    """Return the module or class of a dotted name, or `_MISSING`."""
    first, *rest = path.split(".")
    found: Any = importlib.import_module(first)
    at = first
    for part in rest:
        at = f"{at}.{part}"
        below = getattr(found, part, _MISSING)
        if below is _MISSING and inspect.ismodule(found) and find_spec(at) is not None:
            below = importlib.import_module(at)
        if below is _MISSING:
            return _MISSING
        found = below
    return found


def _has_field(holder: Any, attribute: str) -> bool:
    """Return whether a class declares a field, which is no attribute of the class if it has no default."""
    return attribute in getattr(holder, "__dataclass_fields__", ())


def _is_assigned(cls: type, attribute: str) -> bool:
    """Return whether the source code of a class or of one of its bases assigns `self.attribute`."""
    assignment = re.compile(rf"\bself\.{re.escape(attribute)}\s*(:[^=\n]+)?=[^=]")
    modules = {base.__module__ for base in cls.__mro__} - {"builtins"}
    # of the whole module, because to find a class in it takes Python a second
    return any(assignment.search(inspect.getsource(sys.modules[name])) for name in modules)


def _reason(owner: str, attribute: str) -> Assumption | None:
    same = [each for each in ASSUMPTIONS if each.attribute == attribute and each.owner == owner]
    return same[0] if same else None


def changed(library: str, problem: str, assumption: Assumption | None = None) -> UpstreamChanged:
    """Return the error that says what a release of a library changed, and which release to install.

    Args:
        library: Its name.
        problem: What is wrong with it: "has no …", "loads … in another way".
        assumption: Adds what finetune needs it for, and where.
    """
    try:
        name = f"{library} {version(library)}"
    except PackageNotFoundError:  # the standard library, or a local package
        name = library
    need = f", which finetune needs to {assumption.needed_to} ({assumption.used_by})" if assumption else ""
    known = [requirement for requirement in SUPPORTED if re.split(r"[<>=]", requirement)[0] == library]
    remedy = f'pip install "{known[0]}"' if known else "Install a version that finetune knows"
    return UpstreamChanged(f"{name} {problem}{need}. {remedy}.")


def _lacks(owner: str, attribute: str, assumption: Assumption | None) -> UpstreamChanged:
    library = owner.partition(".")[0]
    if assumption is not None and assumption.kind == "text":
        return changed(library, f"has no {attribute!r} in {owner}", assumption)
    return changed(library, f"has no {owner}.{attribute}", assumption)
