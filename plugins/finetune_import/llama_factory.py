"""Recipes made of LLaMA-Factory's YAML, and of the ``dataset_info.json`` that says what its data sets are.

The meaning of each key is that of LLaMA-Factory of August 2026: ``hparams`` and ``data/parser.py`` of its source.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from finetune.errors import BadRecipe
from finetune.interfaces import Importer
from finetune.kit import Conversion, Key, handled, mapped, missing, unneeded
from finetune_import.arguments import ARGUMENTS, STOPS_EARLY, follow_arguments
from finetune_import.strategies import put_lora

_FASTER = "It changes speed or memory only."
_IMAGES = "There is no task for images, videos or sound."
_LATER = "It belongs to another command than training."
_OPTIMIZER = "Name an optimizer of transformers: training.optim, with optim_args and optim_target_modules."
_NO_ADAPTER = "A run does not begin from an adapter. Merge it: `finetune merge`, then name the model."

KEYS: Mapping[str, Key] = {
    **ARGUMENTS,
    # model
    "model_name_or_path": mapped("model.path"),
    "model_revision": mapped("model.revision"),
    "adapter_name_or_path": missing(_NO_ADAPTER),
    "trust_remote_code": unneeded(
        "Code that comes with a model is never run. Most models no longer need it; one that does is refused."
    ),
    "flash_attn": handled("model.options.attn_implementation", "fa2 is `flash_attention_2`, disabled is `eager`"),
    "rope_scaling": missing("Set entries of the model's configuration under model.options."),
    "enable_liger_kernel": mapped("training.use_liger_kernel"),
    "resize_vocab": missing("No token is added to the vocabulary."),
    "add_tokens": missing("Save a model with these tokens, and name it in model.path."),
    "add_special_tokens": missing("Save a model with these tokens, and name it in model.path."),
    "new_special_tokens_config": missing("Save a model with these tokens, and name it in model.path."),
    "init_special_tokens": missing("No token is added to the vocabulary."),
    "use_unsloth": unneeded(_FASTER),
    "use_unsloth_gc": unneeded(_FASTER),
    "use_v1_kernels": unneeded(_FASTER),
    "low_cpu_mem_usage": unneeded(_FASTER),
    "use_fast_tokenizer": unneeded("Fast tokenizers are always used."),
    "upcast_layernorm": unneeded("Weights are in float32."),
    "use_reentrant_gc": unneeded(_FASTER),
    "cache_dir": unneeded("Set the environment variable HF_HOME."),
    "hf_hub_token": unneeded("Log in with `hf auth login`, or set HF_TOKEN."),
    "mixture_of_depths": missing("There are no mixtures of depths."),
    "shift_attn": missing("There is no shifted sparse attention."),
    "moe_aux_loss_coef": mapped("model.options.router_aux_loss_coef"),
    # data
    "dataset": handled("dataset", "looked up in dataset_info.json"),
    "dataset_dir": handled("dataset.path", "the folder of dataset_info.json"),
    "eval_dataset": handled("dataset.path", "its file becomes the split validation"),
    "val_size": handled(
        "dataset.validation_size", "a share; LLaMA-Factory's default is 0, and a recipe's is 0.1", takes=(int, float)
    ),
    "max_samples": handled(
        "dataset.limit", "a random sample there is the first rows; it holds for each data set", takes=(int,)
    ),
    "cutoff_len": handled("preprocessor.max_length", "LLaMA-Factory cuts prompt and answer; a recipe cuts the end"),
    "template": handled("preprocessor.chat_template", "the tokenizer's own template is used"),
    "packing": handled("preprocessor.packing", "no row sees another and none is cut, as with neat_packing"),
    "neat_packing": handled("preprocessor.packing"),
    "train_on_prompt": handled("preprocessor.loss_on", "`all`"),
    "mask_history": handled("preprocessor.loss_on", "`completion`: the last turn"),
    "streaming": handled("dataset.streaming"),
    "buffer_size": handled("dataset.shuffle_buffer"),
    "mix_strategy": handled("dataset.mixture", "concat keeps all rows, as a mixture does"),
    "interleave_probs": handled("dataset.mixture", "weights take its place"),
    "default_system": missing("Put the system message into the data."),
    "enable_thinking": handled("preprocessor.chat_template_kwargs", "only where it is false"),
    "tool_format": unneeded("The chat template writes calls of tools."),
    "tokenized_path": unneeded("`--cache DIR` keeps the features."),
    "overwrite_cache": unneeded("Features are made for each run, unless --cache is given."),
    "preprocessing_num_workers": unneeded(_FASTER),
    "preprocessing_batch_size": unneeded(_FASTER),
    "data_shared_file_system": unneeded(_FASTER),
    "ignore_pad_token_for_loss": unneeded("Padding is never trained."),
    "eval_num_beams": mapped("generation.num_beams"),
    "media_dir": unneeded("Only texts are read."),
    # method
    "stage": handled("task", "pt, sft, rm, dpo and kto; ppo is refused"),
    "finetuning_type": handled("strategy.name", "lora and full; `lora` on a quantized model is `qlora` here"),
    "lora_rank": handled("strategy.r", takes=(int,)),
    "lora_alpha": handled("strategy.lora_alpha", "by default twice the rank"),
    "lora_dropout": handled("strategy.lora_dropout"),
    "lora_target": handled("strategy.target_modules", "all is `all-linear`", takes=(str, list)),
    "additional_target": handled("strategy.modules_to_save", takes=(str, list)),
    "use_rslora": handled("strategy.use_rslora"),
    "use_dora": handled("strategy.use_dora"),
    "pissa_init": handled("strategy.config.init_lora_weights", "`pissa`, with the exact decomposition"),
    "pissa_iter": handled("", "The exact decomposition is computed.", takes=(int,)),
    "pissa_convert": missing("The adapter is saved as it was trained."),
    "loraplus_lr_ratio": handled("strategy.loraplus_lr_ratio", takes=(int, float)),
    "create_new_adapter": unneeded("A run always makes a new adapter."),
    "freeze_trainable_layers": missing("See the page 'Choose which layers train'."),
    "freeze_trainable_modules": missing("See the page 'Choose which layers train'."),
    "quantization_bit": handled("strategy.bits"),
    "quantization_method": handled("", "only bnb"),
    "quantization_type": handled("", "only nf4"),
    "double_quantization": handled("strategy.double_quant"),
    "quantization_device_map": unneeded(_FASTER),
    "pref_beta": handled("training.beta"),
    "pref_loss": handled("training.loss_type", "sigmoid, hinge and ipo; orpo, simpo and kto_pair are refused"),
    "pref_ftx": handled("training.loss_weights", "the loss sft, with this weight"),
    "dpo_label_smoothing": mapped("training.label_smoothing"),
    "kto_chosen_weight": mapped("training.desirable_weight"),
    "kto_rejected_weight": mapped("training.undesirable_weight"),
    "ref_model": missing("The reference is the pretrained model."),
    "use_dft_loss": handled("training.loss_type", "`dft`"),
    "use_asft_loss": missing("There is no loss of this kind."),
    "asft_alpha": missing("There is no loss of this kind."),
    "use_eaft_loss": missing("There is no loss of this kind."),
    "use_galore": missing(_OPTIMIZER),
    "galore_layerwise": missing(_OPTIMIZER),
    "galore_target": missing(_OPTIMIZER),
    "galore_rank": missing(_OPTIMIZER),
    "galore_scale": missing(_OPTIMIZER),
    "use_apollo": missing(_OPTIMIZER),
    "apollo_layerwise": missing(_OPTIMIZER),
    "apollo_target": missing(_OPTIMIZER),
    "apollo_rank": missing(_OPTIMIZER),
    "apollo_scale": missing(_OPTIMIZER),
    "apollo_scale_type": missing(_OPTIMIZER),
    "use_badam": missing("There is no BAdam."),
    "badam_mode": missing("There is no BAdam."),
    "badam_switch_mode": missing("There is no BAdam."),
    "badam_switch_interval": missing("There is no BAdam."),
    "badam_verbose": missing("There is no BAdam."),
    "use_adam_mini": missing("There is no Adam-mini."),
    "use_muon": missing("There is no Muon."),
    "use_llama_pro": missing("There is no LLaMA Pro."),
    "pure_bf16": handled("model.options.dtype", "`bfloat16`"),
    "disable_gradient_checkpointing": handled("training.activation_checkpointing", "LLaMA-Factory turns it on"),
    "compute_accuracy": unneeded("Each run is scored."),
    "early_stopping_steps": mapped("training.early_stopping_patience", STOPS_EARLY, takes=(int,)),
    "plot_loss": unneeded("The report has the curves."),
    "include_effective_tokens_per_second": unneeded("The result has the tokens for each second."),
    "use_swanlab": missing("Set training.report_to: [swanlab]."),
    "ray_num_workers": missing("Use `finetune train --processes N`."),
    "fp8": missing("There is no training in fp8. Set training.bf16."),
    "fp8_backend": missing("There is no training in fp8."),
    "fp8_enable_fsdp_float8_all_gather": missing("There is no training in fp8."),
    "freeze_vision_tower": unneeded("Only texts are trained on."),
    "freeze_multi_modal_projector": unneeded("Only texts are trained on."),
    "freeze_language_model": missing(_IMAGES),
    "image_max_pixels": missing(_IMAGES),
    "image_min_pixels": missing(_IMAGES),
    "video_max_pixels": missing(_IMAGES),
    "video_fps": missing(_IMAGES),
    "video_maxlen": missing(_IMAGES),
    "max_new_tokens": mapped("generation.max_new_tokens"),
    "temperature": mapped("generation.temperature"),
    "top_p": mapped("generation.top_p"),
    "infer_backend": unneeded(_LATER),
    "fsdp_transformer_layer_cls_to_wrap": unneeded("The layers of a model are found."),
    "use_kt": missing("There is no KTransformers."),
    "kt_cpu_activation": missing("There is no KTransformers."),
    "kt_config": missing("There is no KTransformers."),
    "kt_weight_path": missing("There is no KTransformers."),
    "kt_non_expert_weight_path": missing("There is no KTransformers."),
}  # fmt: skip
"""Every key of LLaMA-Factory that its training examples use, and the common ones of its reference."""

_STAGES = {"pt": "causal-language-modeling", "sft": "sft", "rm": "reward", "dpo": "dpo", "kto": "kto"}
_ATTENTION = {"fa2": "flash_attention_2", "fa3": "flash_attention_3", "sdpa": "sdpa", "disabled": "eager"}
_MARKS = {"stage", "finetuning_type", "cutoff_len", "template", "dataset_dir", "lora_target", "pref_beta"}
_INFO = "dataset_info.json"
_DEFAULTS = {
    "learning_rate": 5e-5,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "lr_scheduler_type": "linear",
}


class LlamaFactoryImporter(Importer):
    """Makes recipes of LLaMA-Factory's YAML: plain text, instructions, chats, preferences and reward models."""

    title: ClassVar[str] = "LLaMA-Factory"
    keys: ClassVar[Mapping[str, Key]] = KEYS

    def recognises(self, content: Mapping[str, Any]) -> bool:
        """Return whether settings are LLaMA-Factory's."""
        is_old = "model_name_or_path" in content and not _MARKS.isdisjoint(content)
        return is_old or {"model", "train_dataset"} <= content.keys()

    def convert(self, conversion: Conversion) -> None:
        """Write the recipe of a configuration."""
        if "model_name_or_path" not in conversion.content and "train_dataset" in conversion.content:
            raise conversion.refuse("train_dataset", "it belongs to version 1 of LLaMA-Factory, which cannot be read.")
        if conversion.get("model_name_or_path") is None:
            raise conversion.refuse("model_name_or_path", "LLaMA-Factory needs the model. Write its id or its folder.")
        task = _task(conversion)
        conversion.put("task", task)
        conversion.follow({"model_name_or_path": KEYS["model_name_or_path"]})
        _model(conversion)
        _data(conversion, task)
        _strategy(conversion)
        _objective(conversion, task)
        if conversion.get("disable_gradient_checkpointing"):
            conversion.put("training.activation_checkpointing", False, source="disable_gradient_checkpointing")
        elif conversion.get("gradient_checkpointing") is None:
            note = "LLaMA-Factory turns it on by default"
            conversion.put("training.activation_checkpointing", True, note=note)
        if conversion.get("pure_bf16"):
            conversion.put("model.options.dtype", "bfloat16", source="pure_bf16")
        follow_arguments(conversion, task, keys=KEYS, defaults=_DEFAULTS)
        if conversion.get("output_dir") is None:
            conversion.put("output", "runs/llama-factory", note="output_dir is not set")


def _task(conversion: Conversion) -> str:
    stage = conversion.get("stage", "sft")
    if stage not in _STAGES:
        raise conversion.refuse("stage", f"there is no task for {stage!r}. Tasks of this kind: rloo, grpo, dpo, kto.")
    if conversion.get("do_train") is None and conversion.get("export_dir") is not None:
        raise conversion.refuse("export_dir", "the file merges an adapter, and trains nothing. Use `finetune merge`.")
    if conversion.get("do_train") is not True and conversion.get("dataset") is None:
        raise conversion.refuse("stage", "the file trains nothing: it has no `do_train: true` and no `dataset`.")
    if conversion.get("pref_loss") in ("orpo", "simpo", "kto_pair"):
        loss = conversion.content["pref_loss"]
        raise conversion.refuse("pref_loss", f"there is no task for {loss!r}. Losses of dpo: sigmoid, hinge, ipo.")
    if conversion.get("use_mca") or conversion.get("tensor_model_parallel_size"):
        raise conversion.refuse("stage", "the file is for Megatron, which finetune does not use.")
    if "stage" in conversion.content:
        conversion.tell("stage", "mapped")
    return _STAGES[stage]


def _model(conversion: Conversion) -> None:
    attention = conversion.get("flash_attn")
    if attention == "auto":
        conversion.tell("flash_attn", "unneeded", "transformers picks the attention.")
    elif attention is not None:
        found = _ATTENTION.get(str(attention), str(attention))
        conversion.put("model.options.attn_implementation", found, source="flash_attn")
    if conversion.get("model_revision") == "main":
        conversion.tell("model_revision", "unneeded", "It is the default.")


# --- data -------------------------------------------------------------------------------------------------------------


def _data(conversion: Conversion, task: str) -> None:
    names = _listed(conversion.get("dataset"))
    if not names:
        raise conversion.refuse("dataset", "LLaMA-Factory needs at least one data set: a name of dataset_info.json.")
    conversion.tell("dataset", "mapped")
    info, folder = _dataset_info(conversion)
    forms: set[str | None] = set()
    for name in names:
        place = ("dataset",) if len(names) == 1 else ("dataset", "mixture", name.replace("/", "-"))
        forms.add(_put_source(conversion, place, name, info, folder, task))
        if conversion.get("max_samples") is not None:
            note = "of each data set, drawn at random; LLaMA-Factory takes the first rows"
            limit = {"train": int(conversion.content["max_samples"])}
            conversion.put((*place, "limit"), limit, source="max_samples", note=note)
    _put_mixing(conversion, names)
    _put_validation(conversion, info, folder)
    converter = next(iter(forms))
    if len(forms) > 1:
        known = ", ".join(sorted(str(each or "none") for each in forms))
        note = f"The data sets have several forms (converters: {known}), and a run reads one. Bring them into one form."
        conversion.tell("dataset", "missing", note)
        converter = sorted(str(each) for each in forms if each)[0]
    _put_preprocessor(conversion, task, converter)


def _listed(value: Any) -> list[str]:
    names = value.split(",") if isinstance(value, str) else value or []
    return [str(name).strip() for name in names]


def _dataset_info(conversion: Conversion) -> tuple[Mapping[str, Any], Path]:
    """Return the content of dataset_info.json and its folder; empty if it is not found."""
    directory = conversion.get("dataset_dir", "data")
    if isinstance(directory, Mapping):
        conversion.tell("dataset_dir", "mapped")
        return directory, Path()
    if "dataset_dir" in conversion.content:
        conversion.tell("dataset_dir", "mapped")
    above = [Path(), conversion.folder, *conversion.folder.resolve().parents]
    for folder in (parent / str(directory) for parent in above):
        path = folder / _INFO
        if path.is_file():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise BadRecipe(f"{path} cannot be read: {error}.") from error
            return found, folder
    note = (
        f"No {directory}/{_INFO} is found here or above the file. Run this where you run LLaMA-Factory, or write path "
    )
    conversion.tell("dataset", "missing", f"{note}and columns of dataset yourself.")
    return {}, Path(str(directory))


def _put_source(
    conversion: Conversion, place: tuple[str, ...], name: str, info: Mapping[str, Any], folder: Path, task: str
) -> str | None:
    """Write where the rows of one data set come from, and return its converter."""
    known = info.get(name)
    if known is None:
        if info:
            conversion.tell("dataset", "missing", f"{name}: {_INFO} has no such name.")
        conversion.put((*place, "path"), name, source="dataset")
        return None
    path = _path(conversion, known, name, folder)
    conversion.put((*place, "path"), path, note=f"{name} in {_INFO}")
    if known.get("subset"):
        conversion.put((*place, "name"), known["subset"], note=f"subset in {_INFO}")
    if known.get("split", "train") != "train":
        conversion.put((*place, "splits"), {"train": known["split"]}, note=f"split in {_INFO}")
    for key in ("folder", "num_samples"):
        if known.get(key):
            conversion.tell("dataset", "missing", f"{name}: {key} {known[key]!r} of {_INFO} is not used.")
    columns, converter = _columns(conversion, known, name, task)
    if task == "sft" and "history" in (known.get("columns") or {}) and not conversion.get("mask_history"):
        note = "LLaMA-Factory trains the answers of the history too"
        conversion.put("preprocessor.loss_on", "assistant", note=note)
    if columns:
        conversion.put((*place, "columns"), columns, note=f"columns in {_INFO}")
    return converter


def _path(conversion: Conversion, known: Mapping[str, Any], name: str, folder: Path) -> str:
    if known.get("hf_hub_url"):
        return str(known["hf_hub_url"])
    if known.get("file_name"):
        return str(folder / str(known["file_name"]))
    other = next((key for key in ("ms_hub_url", "om_hub_url", "script_url", "cloud_file_name") if known.get(key)), "")
    note = f"{name}: {other or 'its entry'} is not read. Download the data, and name the file."
    conversion.tell("dataset", "missing", note)
    return str(known.get(other, name))


def _columns(
    conversion: Conversion, known: Mapping[str, Any], name: str, task: str
) -> tuple[dict[str, str], str | None]:
    """Return the columns to rename, and the converter."""
    given: dict[str, str] = {key: str(column) for key, column in dict(known.get("columns") or {}).items()}
    tags = dict(known.get("tags") or {})
    if {"images", "videos", "audios"} & given.keys():
        raise conversion.refuse("dataset", f"{name} holds images, videos or sound. finetune trains on text alone.")
    if task == "causal-language-modeling":
        column = given.get("prompt", "instruction")
        return ({} if column == "text" else {column: "text"}), None
    if known.get("formatting", "alpaca") == "alpaca":
        return _alpaca_columns(given, task)
    tag_names = (tags.get("role_tag", "from"), tags.get("content_tag", "value"))
    if known.get("formatting") == "openai":
        tag_names = (tags.get("role_tag", "role"), tags.get("content_tag", "content"))
    converter = "sharegpt" if tag_names == ("from", "value") else None
    if converter is None and tag_names != ("role", "content"):
        note = f"{name}: turns of {tag_names[0]} and {tag_names[1]}. Rename them to role and content in the data."
        conversion.tell("dataset", "missing", note)
    source = given.get("messages", "conversations")
    target = "conversations" if converter else "messages"
    if task in ("dpo", "reward", "kto"):
        target = "prompt"
    renamed = {source: target, given.get("tools", "tools"): "tools", given.get("system", "system"): "system"}
    if task in ("dpo", "reward"):
        renamed |= {given.get("chosen", "chosen"): "chosen", given.get("rejected", "rejected"): "rejected"}
    if task == "kto":
        renamed[given.get("kto_tag", "kto_tag")] = "label"
        note = f"{name}: the last turn is the answer. Move it into a column completion in the data."
        conversion.tell("dataset", "missing", note)
    return {old: new for old, new in renamed.items() if old != new}, converter


def _alpaca_columns(given: Mapping[str, str], task: str) -> tuple[dict[str, str], str | None]:
    """Return the columns of Alpaca rows under the names of a task."""
    names = {"prompt": "instruction", "query": "input", "response": "output", "history": "history", "system": "system"}
    if task == "sft":
        renamed = {given.get(key, column): column for key, column in names.items() if key in given}
        return {old: new for old, new in renamed.items() if old != new}, "alpaca"
    renamed = {given.get("prompt", "instruction"): "prompt"}
    if task == "kto":
        renamed[given.get("response", "output")] = "completion"
        renamed[given.get("kto_tag", "kto_tag")] = "label"
    else:
        renamed |= {given.get("chosen", "chosen"): "chosen", given.get("rejected", "rejected"): "rejected"}
    return {old: new for old, new in renamed.items() if old != new}, None


def _put_mixing(conversion: Conversion, names: list[str]) -> None:
    strategy = conversion.get("mix_strategy", "concat")
    if "mix_strategy" in conversion.content:
        conversion.tell("mix_strategy", "mapped")
    if strategy != "concat" and len(names) > 1:
        note = f"{strategy}: set weight of each data set in dataset.mixture, which repeats or leaves out rows."
        conversion.tell("mix_strategy", "missing", note)
    if conversion.get("interleave_probs") is not None:
        note = "Set weight of each data set in dataset.mixture: its share divided by its number of rows."
        conversion.tell("interleave_probs", "missing", note)


def _put_validation(conversion: Conversion, info: Mapping[str, Any], folder: Path) -> None:
    place = "dataset.validation_size"
    size = conversion.get("val_size", 0)
    names = _listed(conversion.get("eval_dataset"))
    if names:
        conversion.tell("eval_dataset", "mapped")
        files = [str(folder / str(info[name]["file_name"])) for name in names if info.get(name, {}).get("file_name")]
        path = conversion.recipe["dataset"].get("path")
        is_same = names == _listed(conversion.get("dataset"))
        if len(files) == len(names) and isinstance(path, str) and not is_same:
            paths = {"train": path, "validation": files if len(files) > 1 else files[0]}
            conversion.put("dataset.path", paths, source="eval_dataset")
        elif is_same:
            note = "It is the data set that trains, so its scores say nothing. A share is held out: validation_size."
            conversion.tell("eval_dataset", "missing", note)
            return
        else:
            note = "Write train and validation as files: dataset.path: {train: …, validation: …}."
            conversion.tell("eval_dataset", "missing", note)
        conversion.put(place, 0, note="the validation rows are in a file of their own")
    elif size and size >= 1:
        note = f"{int(size)} rows there. Here it is a share: {int(size)} divided by the number of rows."
        conversion.tell("val_size", "missing", note)
    elif conversion.get("val_size") is None:
        conversion.put(place, 0, note="val_size is not set, so LLaMA-Factory holds out nothing")
    else:
        conversion.put(place, size, source="val_size")
    if conversion.get("streaming"):
        conversion.put("dataset.streaming", True, source="streaming")
        if conversion.get("buffer_size") is not None:
            conversion.put("dataset.shuffle_buffer", conversion.content["buffer_size"], source="buffer_size")


def _put_preprocessor(conversion: Conversion, task: str, converter: str | None) -> None:
    length = conversion.get("cutoff_len")
    if length is None:
        conversion.put("preprocessor.max_length", 2048, note="the default of LLaMA-Factory")
    else:
        note = "" if task == "causal-language-modeling" else "here the end of a longer row is cut, and counted"
        conversion.put("preprocessor.max_length", length, source="cutoff_len", note=note)
    if converter is not None:
        conversion.put("preprocessor.converter", converter, note=f"from the formatting in {_INFO}")
    template = conversion.get("template")
    if task == "causal-language-modeling":
        if template is not None:
            conversion.tell("template", "unneeded", "Plain text has no template.")
        packing = conversion.get("packing")
        if packing is not None:
            conversion.put("preprocessor.packing", bool(packing), source="packing")
        return
    if template in ("chatml", "qwen"):
        conversion.tell("template", "mapped", "The tokenizer's own template is used. If it has none, set chatml.")
    elif template == "empty":
        conversion.put("preprocessor.chat_template", "plain", source="template", note="the closest to empty")
    elif template is not None:
        note = f"{template}: the tokenizer's own template is used. If it has none, set preprocessor.chat_template."
        conversion.tell("template", "mapped", note)
    if conversion.content.get("enable_thinking") is False:
        conversion.put("preprocessor.chat_template_kwargs", {"enable_thinking": False}, source="enable_thinking")
    elif "enable_thinking" in conversion.content:
        conversion.tell("enable_thinking", "unneeded", "It is the default of the chat template.")
    if task == "sft":
        if conversion.get("train_on_prompt"):
            conversion.put("preprocessor.loss_on", "all", source="train_on_prompt")
        elif conversion.get("mask_history"):
            conversion.put("preprocessor.loss_on", "completion", source="mask_history", note="the last turn")
        for key in ("packing", "neat_packing"):
            if conversion.get(key) is not None:
                note = ""
                if key == "packing" and conversion.content[key] and not conversion.get("neat_packing"):
                    note = "no row sees another here, as with neat_packing"
                is_packed = bool(conversion.get("packing") or conversion.get("neat_packing"))
                conversion.put("preprocessor.packing", is_packed, source=key, note=note)
    elif converter is None:
        conversion.put("preprocessor.conversational", True, note="texts become turns of a chat, as there")
    for key in ("train_on_prompt", "mask_history", "packing", "neat_packing"):
        if conversion.content.get(key) is False and key not in conversion.outcomes:
            conversion.tell(key, "unneeded", "It is off.")


# --- method -----------------------------------------------------------------------------------------------------------


def _strategy(conversion: Conversion) -> None:
    kind = conversion.get("finetuning_type", "lora")
    if "finetuning_type" in conversion.content:
        conversion.tell("finetuning_type", "mapped")
    bits = int(conversion.get("quantization_bit", 0))
    if kind == "full":
        conversion.put("strategy", "full", source="finetuning_type")
        return
    if kind != "lora":
        note = f"there is no importer for {kind!r}. `finetune list` shows the strategies."
        raise conversion.refuse("finetuning_type", note)
    if bits not in (0, 4, 8) or conversion.get("quantization_method", "bnb") not in ("bnb", "bitsandbytes", "BNB"):
        key = "quantization_bit" if bits not in (0, 4, 8) else "quantization_method"
        raise conversion.refuse(key, "the strategy qlora has 4 or 8 bits of bitsandbytes. Write one of these.")
    if conversion.get("quantization_method") is not None:
        conversion.tell("quantization_method", "mapped")
    kind = conversion.get("quantization_type")
    if kind is not None:
        conversion.tell("quantization_type", "mapped" if kind == "nf4" else "missing", "It is always nf4.")
    rank = conversion.get("lora_rank", 8)
    pissa = conversion.get("pissa_init")
    init = "pissa" if pissa else None
    if "pissa_iter" in conversion.content:
        conversion.get("pissa_iter", 16)
        why = "The exact decomposition is computed, which draws no random numbers." if pissa else "pissa_init is off."
        conversion.tell("pissa_iter", "unneeded", why)

    def given(key: str, default: Any, note: str = "the default of LLaMA-Factory") -> tuple[Any, str, str]:
        value = conversion.get(key)
        return (default, "", note) if value is None else (value, key, "")

    options = {
        "r": given("lora_rank", 8),
        "lora_alpha": given("lora_alpha", 2 * rank, "twice the rank: the default of LLaMA-Factory"),
        "lora_dropout": given("lora_dropout", 0.0),
        "target_modules": given("lora_target", "all"),
        "modules_to_save": (_listed(conversion.get("additional_target")) or None, "additional_target", ""),
        "use_rslora": (conversion.get("use_rslora"), "use_rslora", ""),
        "use_dora": (conversion.get("use_dora"), "use_dora", ""),
        "init_lora_weights": (init, "pissa_init", ""),
        "loraplus_lr_ratio": (conversion.get("loraplus_lr_ratio"), "loraplus_lr_ratio", ""),
    }
    double = conversion.content.get("double_quantization", True)
    is_bf16 = bool(conversion.get("bf16") or conversion.get("pure_bf16"))
    put_lora(
        conversion, options, bits=bits, bits_key="quantization_bit", is_bf16=is_bf16,
        double_quant=(double, "double_quantization" if "double_quantization" in conversion.content else ""),
    )  # fmt: skip


def _objective(conversion: Conversion, task: str) -> None:
    if task in ("dpo", "kto"):
        beta = conversion.get("pref_beta")
        note = "" if beta is not None else "the default of LLaMA-Factory"
        conversion.put("training.beta", 0.1 if beta is None else beta, source="pref_beta" if beta is not None else "",
                       note=note)  # fmt: skip
    if task == "dpo":
        loss, ftx = conversion.get("pref_loss", "sigmoid"), conversion.get("pref_ftx", 0)
        if ftx:
            conversion.put("training.loss_type", [loss, "sft"], source="pref_ftx")
            conversion.put("training.loss_weights", [1.0, ftx], source="pref_ftx")
            if "pref_loss" in conversion.content:
                conversion.tell("pref_loss", "mapped")
        elif "pref_loss" in conversion.content:
            conversion.put("training.loss_type", [loss], source="pref_loss")
    if conversion.get("use_dft_loss"):
        conversion.put("training.loss_type", "dft", source="use_dft_loss")
