"""Recipes made of Axolotl's YAML.

The meaning of each key is that of Axolotl 0.16 of July 2026: ``utils/schemas``, ``core/builders`` and
``utils/config/__init__.py`` of its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from finetune.interfaces import Importer
from finetune.kit import Conversion, Key, handled, mapped, missing, unneeded
from finetune_import.arguments import ARGUMENTS, STOPS_EARLY, put_direction
from finetune_import.axolotl_data import convert_data, convert_stream
from finetune_import.strategies import put_lora

_LOADED = "The class is found from the model."
_FASTER = "It changes speed or memory only."
_WANDB = "Set training.report_to and training.run_name; further options are environment variables of the tracker."
_DIVIDE = "Several GPUs: see the page 'Train on several GPUs'. fsdp: true divides the weights."
_MOE = "There is nothing of this kind for mixtures of experts."
_PUSH = "A run is never pushed while it trains. Use `finetune push` afterwards."

KEYS: Mapping[str, Key] = {
    # model
    "base_model": mapped("model.path"),
    "revision_of_model": mapped("model.revision"),
    "tokenizer_config": mapped("model.tokenizer"),
    "base_model_config": unneeded("The configuration of the model is used."),
    "model_type": unneeded(_LOADED),
    "tokenizer_type": unneeded(_LOADED),
    "processor_type": handled("", "a model of images or sound; see below the table"),
    "is_llama_derived_model": unneeded(_LOADED),
    "is_falcon_derived_model": unneeded(_LOADED),
    "is_mistral_derived_model": unneeded(_LOADED),
    "is_qwen_derived_model": unneeded(_LOADED),
    "num_labels": unneeded("The task reward has one score."),
    "tokenizer_use_fast": unneeded("Fast tokenizers are always used."),
    "tokenizer_legacy": missing("The tokenizer of the model is used as it is.", (True,)),
    "trust_remote_code": unneeded(
        "Code that comes with a model is never run. Most models no longer need it; one that does is refused."
    ),
    "model_config": missing("Set entries of the model's configuration under model.options."),
    "overrides_of_model_config": missing("Set entries of the model's configuration under model.options."),
    "overrides_of_model_kwargs": missing("Set arguments of from_pretrained under model.options."),
    "attn_implementation": mapped("model.options.attn_implementation"),
    "flash_attention": handled("model.options.attn_implementation", "`flash_attention_2`"),
    "sdp_attention": handled("model.options.attn_implementation", "`sdpa`"),
    "flex_attention": handled("model.options.attn_implementation", "`flex_attention`"),
    "eager_attention": handled("model.options.attn_implementation", "`eager`"),
    "xformers_attention": unneeded("transformers picks the attention; set model.options.attn_implementation."),
    "s2_attention": missing("There is no shifted sparse attention."),
    "experts_implementation": mapped("model.options.experts_implementation"),
    "special_tokens": handled(
        "", "a pad token is not needed; other tokens must be saved with the model", takes=(dict,)
    ),
    "tokens": missing("No token is added to a vocabulary. Save a model with these, and name it in model.path."),
    "added_tokens_overrides": missing("Save a tokenizer with these tokens, and name it in model.tokenizer."),
    "resize_token_embeddings_to_32x": unneeded("The vocabulary keeps its size."),
    # data
    "datasets": handled("dataset", "see the table of types"),
    "pretraining_dataset": handled("dataset", "with `streaming: true`, and the task causal-language-modeling"),
    "test_datasets": handled("dataset.path", "files become the split validation", takes=(list,)),
    "val_set_size": handled(
        "dataset.validation_size", "a share; Axolotl's default is 0, and a recipe's is 0.1", takes=(int, float)
    ),
    "dataset_prepared_path": unneeded("`--cache DIR` keeps the features."),
    "dataset_processes": unneeded(_FASTER),
    "dataset_num_proc": unneeded(_FASTER),
    "dataset_keep_in_memory": unneeded(_FASTER),
    "skip_prepare_dataset": unneeded("The data are always prepared, and checked."),
    "shuffle_merged_datasets": unneeded("Rows are shuffled at each epoch."),
    "push_dataset_to_hub": missing("Features are not pushed. `--cache DIR` keeps them."),
    "hf_use_auth_token": unneeded("Log in with `hf auth login`, or set HF_TOKEN."),
    "dataset_exact_deduplication": handled("", "`finetune check` counts repeated rows, and leaves them in"),
    "streaming": handled("dataset.streaming"),
    "streaming_multipack_buffer_size": handled("dataset.shuffle_buffer"),
    "sequence_len": handled("preprocessor.max_length", "Axolotl drops longer rows; a recipe cuts them, and counts it"),
    "excess_length_strategy": handled("", "longer rows are cut"),
    "min_sample_len": missing("Short rows are kept. Remove them from the data."),
    "sample_packing": handled("preprocessor.packing", "as in Axolotl, no row sees another, and none is cut"),
    "eval_sample_packing": unneeded("Packing does not change scores here: rows are scored one by one."),
    "pad_to_sequence_len": unneeded("Batches are padded to their longest row."),
    "sample_packing_eff_est": unneeded(_FASTER),
    "total_num_tokens": unneeded("`finetune check` counts the tokens."),
    "max_packed_sequence_len": missing("It is a deprecated form of packing. Set preprocessor.packing."),
    "sample_packing_group_size": unneeded(_FASTER),
    "sample_packing_bin_size": unneeded(_FASTER),
    "sample_packing_sequentially": unneeded("Rows are packed after they are shuffled.", ),
    "pretrain_multipack_attn": unneeded("No text sees another in a packed block."),
    "curriculum_sampling": missing("Set training.train_sampling_strategy: sequential; it keeps the order of rows."),
    "train_on_inputs": handled("preprocessor.loss_on", "`all`"),
    "chat_template": handled("preprocessor.chat_template", "`chatml` stays; for other names, the tokenizer's own"),
    "chat_template_jinja": handled("preprocessor.chat_template"),
    "default_system_message": missing("Put the system message into the data."),
    "eot_tokens": unneeded("The tokens that end a turn are found in the chat template."),
    "group_by_length": handled("training.train_sampling_strategy", "`group_by_length`"),
    # strategy
    "adapter": handled("strategy.name", "`lora` on a quantized model is `qlora` here"),
    "load_in_8bit": handled("strategy.bits", "8"),
    "load_in_4bit": handled("strategy.bits", "4"),
    "lora_r": handled("strategy.r"),
    "lora_alpha": handled("strategy.lora_alpha"),
    "lora_dropout": handled("strategy.lora_dropout"),
    "lora_target_modules": handled("strategy.target_modules"),
    "lora_target_linear": handled("strategy.target_modules", "`all-linear`"),
    "lora_target_parameters": handled("strategy.config.target_parameters"),
    "lora_modules_to_save": handled("strategy.modules_to_save"),
    "peft_use_rslora": handled("strategy.use_rslora"),
    "peft_use_dora": handled("strategy.use_dora"),
    "peft_layers_to_transform": handled("strategy.config.layers_to_transform"),
    "peft_layer_replication": handled("strategy.config.layer_replication"),
    "peft_init_lora_weights": handled("strategy.config.init_lora_weights"),
    "lora_fan_in_fan_out": unneeded("It is found from the model."),
    "lora_on_cpu": unneeded(_FASTER),
    "lora_mlp_kernel": unneeded(_FASTER),
    "lora_qkv_kernel": unneeded(_FASTER),
    "lora_o_kernel": unneeded(_FASTER),
    "lora_model_dir": missing("A run does not begin from an adapter. Merge it: `finetune merge`, then name the model."),
    "bnb_config_kwargs": missing("Set strategy.double_quant and strategy.compute_dtype."),
    "peft": missing("Set fields of peft.LoraConfig under strategy.config."),
    "peft_autocast_adapter_dtype": unneeded("New weights are always in float32."),
    "loraplus_lr_ratio": handled("strategy.loraplus_lr_ratio", takes=(int, float)),
    "relora": missing("There is no ReLoRA."),
    "relora_prune_ratio": missing("There is no ReLoRA."),
    "relora_cpu_offload": missing("There is no ReLoRA."),
    "jagged_restart_steps": missing("The learning rate does not start again."),
    "jagged_restart_warmup_steps": missing("The learning rate does not start again."),
    "jagged_restart_anneal_steps": missing("The learning rate does not start again."),
    "unfrozen_parameters": missing("Regular expressions of parameters: see the page 'Choose which layers train'."),
    "model_quantization_config": missing("Name the unquantized model, with strategy: qlora."),
    "model_quantization_config_kwargs": missing("Name the unquantized model, with strategy: qlora."),
    "nvfp4_merge_aware": missing("There is no training in 4-bit floats."),
    "gptq": missing("Models in GPTQ are not trained. Name the unquantized model, with strategy: qlora."),
    "quantize_moe_experts": missing(_MOE),
    # training
    "micro_batch_size": mapped("training.per_device_train_batch_size", takes=(int,)),
    "eval_batch_size": mapped("training.per_device_eval_batch_size"),
    "gradient_accumulation_steps": mapped("training.gradient_accumulation_steps", takes=(int,)),
    "batch_size": handled("training.gradient_accumulation_steps", "batch_size // micro_batch_size", takes=(int,)),
    "num_epochs": mapped("training.num_train_epochs", takes=(int, float)),
    "max_steps": mapped("training.max_steps"),
    "learning_rate": mapped("training.learning_rate"),
    "lr_scheduler": handled("training.lr_scheduler_type"),
    "lr_scheduler_kwargs": mapped("training.lr_scheduler_kwargs"),
    "cosine_min_lr_ratio": handled("training.lr_scheduler_kwargs", "`cosine_with_min_lr` with `min_lr_rate`"),
    "cosine_constant_lr_ratio": missing("The rate falls until the last step. No schedule stays at its lowest rate."),
    "lr_quadratic_warmup": missing("The warmup is linear."),
    "eta_min": unneeded("Axolotl does not read it."),
    "warmup_steps": handled("training.warmup_steps"),
    "warmup_ratio": handled("training.warmup_steps", "below 1, it is a share of the steps"),
    "optimizer": handled("training.optim"),
    "optim_args": handled("training.optim_args"),
    "optim_target_modules": mapped("training.optim_target_modules"),
    "weight_decay": mapped("training.weight_decay"),
    "adam_beta1": mapped("training.adam_beta1"),
    "adam_beta2": mapped("training.adam_beta2"),
    "adam_epsilon": mapped("training.adam_epsilon"),
    "adam_eps": unneeded("Axolotl does not read it; its key is adam_epsilon."),
    "max_grad_norm": mapped("training.max_grad_norm"),
    "neftune_noise_alpha": mapped("training.neftune_noise_alpha"),
    "embedding_lr": missing("All parameters have one learning rate; see the strategy discriminative."),
    "embedding_lr_scale": missing("All parameters have one learning rate; see the strategy discriminative."),
    "lr_groups": missing("All parameters have one learning rate; see the strategy discriminative."),
    "bf16": handled("training.bf16", "`auto` is true"),
    "bfloat16": handled("model.options.dtype", "`bfloat16`"),
    "fp16": mapped("training.fp16"),
    "float16": missing("Weights in float16 do not train well. Set training.bf16."),
    "tf32": mapped("training.tf32"),
    "torch_dtype": mapped("model.options.dtype"),
    "gradient_checkpointing": handled("training.activation_checkpointing"),
    "gradient_checkpointing_kwargs": mapped("training.activation_checkpointing_kwargs"),
    "activation_offloading": handled("training.activation_offloading", "for tasks of TRL"),
    "torch_compile": mapped("training.torch_compile"),
    "torch_compile_backend": mapped("training.torch_compile_backend"),
    "torch_compile_mode": mapped("training.torch_compile_mode"),
    "dataloader_num_workers": mapped("training.dataloader_num_workers"),
    "dataloader_pin_memory": unneeded(_FASTER),
    "dataloader_prefetch_factor": mapped("training.dataloader_prefetch_factor"),
    "accelerator_config": mapped("training.accelerator_config"),
    "early_stopping_patience": mapped("training.early_stopping_patience", STOPS_EARLY, takes=(int,)),
    "load_best_model_at_end": mapped("training.load_best_model_at_end"),
    "metric_for_best_model": mapped("training.metric_for_best_model"),
    "greater_is_better": mapped("training.greater_is_better"),
    "seed": mapped("seed"),
    "local_rank": unneeded("torchrun or accelerate sets it."),
    # saving and logging
    "output_dir": mapped("output"),
    "logging_steps": mapped("training.logging_steps"),
    "evals_per_epoch": handled(
        "training.eval_steps", "1 / (evals_per_epoch × num_epochs), a share of all steps", takes=(int, float)
    ),
    "eval_steps": handled("training.eval_steps"),
    "eval_strategy": mapped("training.eval_strategy"),
    "evaluation_strategy": mapped("training.eval_strategy"),
    "saves_per_epoch": handled(
        "training.save_steps", "1 / (saves_per_epoch × num_epochs), a share of all steps", takes=(int, float)
    ),
    "save_steps": handled("training.save_steps"),
    "save_strategy": mapped("training.save_strategy"),
    "save_total_limit": mapped("training.save_total_limit"),
    "save_only_model": ARGUMENTS["save_only_model"],
    "save_safetensors": unneeded("safetensors are always written."),
    "save_first_step": missing("A checkpoint is written at the end of each epoch, or after save_steps."),
    "resume_from_checkpoint": unneeded("Use `finetune train recipe.yaml --resume`."),
    "auto_resume_from_checkpoints": unneeded("Use `finetune train recipe.yaml --auto-resume`."),
    "hub_model_id": missing(_PUSH),
    "hub_strategy": missing(_PUSH),
    "remove_unused_columns": unneeded("The model gets the columns that the task reads, and no others."),
    "strict": unneeded("Unknown keys are always refused."),
    "debug": missing("Use `finetune check recipe.yaml`, which shows features and what is trained."),
    "eval_table_size": unneeded("Every prediction is in predictions.jsonl and in the report."),
    "eval_max_new_tokens": mapped("generation.max_new_tokens"),
    "do_causal_lm_eval": unneeded("Each run is scored with its task's scores."),
    "eval_causal_lm_metrics": missing("Name metrics under metrics: `finetune list` shows them."),
    "loss_watchdog_threshold": unneeded("A loss that is not finite stops the run, and nothing of it is saved."),
    "loss_watchdog_patience": unneeded("A loss that is not finite stops the run, and nothing of it is saved."),
    "low_cpu_mem_usage": unneeded(_FASTER),
    "use_wandb": handled("training.report_to", "`wandb`"),
    "use_mlflow": handled("training.report_to", "`mlflow`"),
    "use_tensorboard": handled("training.report_to", "`tensorboard`"),
    "use_comet": handled("training.report_to", "`comet_ml`"),
    "use_trackio": handled("training.report_to", "`trackio`"),
    "use_swanlab": handled("training.report_to", "`swanlab`"),
    "wandb_project": handled("training.report_to", "`wandb`, and the environment variable WANDB_PROJECT"),
    "wandb_name": handled("training.run_name"),
    "wandb_run_id": missing(_WANDB),
    "wandb_entity": missing("Set the environment variable WANDB_ENTITY."),
    "wandb_watch": missing("Set the environment variable WANDB_WATCH."),
    "wandb_log_model": missing("Set the environment variable WANDB_LOG_MODEL."),
    "swanlab_project": missing("Set the environment variables of SwanLab."),
    "swanlab_experiment_name": missing("Set training.run_name."),
    "swanlab_description": missing("Set the environment variables of SwanLab."),
    "swanlab_mode": missing("Set the environment variables of SwanLab."),
    "swanlab_workspace": missing("Set the environment variables of SwanLab."),
    "swanlab_log_model": missing("Set the environment variables of SwanLab."),
    "swanlab_log_completions": unneeded("Every prediction is in predictions.jsonl and in the report."),
    "swanlab_completion_log_interval": unneeded("Every prediction is in predictions.jsonl and in the report."),
    "swanlab_completion_max_buffer": unneeded("Every prediction is in predictions.jsonl and in the report."),
    "trackio_project_name": handled("training.project"),
    "trackio_run_name": handled("training.run_name"),
    "trackio_space_id": handled("training.trackio_space_id"),
    "use_otel_metrics": missing("Use a tracker: training.report_to."),
    # speed, memory and several GPUs
    "plugins": handled("", "kernels change speed or memory only; other plugins are named", takes=(list,)),
    "deepspeed": missing(f"{_DIVIDE} DeepSpeed is not used: its checkpoints are pickles."),
    "fsdp": handled("training.fsdp", "a list of options is `fsdp: true`"),
    "fsdp_version": unneeded("fsdp: true is FSDP2."),
    "fsdp_config": handled("training.fsdp", "`true`; its options have other names here"),
    "fsdp_final_state_dict_type": unneeded("The weights are always saved whole."),
    "dp_shard_size": missing(_DIVIDE),
    "dp_replicate_size": missing(_DIVIDE),
    "tensor_parallel_size": missing(_DIVIDE, (1,)),
    "context_parallel_size": missing(_DIVIDE, (1,)),
    "expert_parallel_size": missing(_DIVIDE, (1,)),
    "ddp": unneeded("`finetune train --processes N` does it."),
    "ddp_find_unused_parameters": mapped("training.ddp_find_unused_parameters"),
    "ddp_timeout": mapped("training.ddp_timeout"),
    "device_map": missing("The model is on one device, or divided by fsdp: true.", ("auto",)),
    "use_ray": missing("Use `finetune job` for a cluster."),
    "ray_num_workers": missing("Use `finetune train --processes N`."),
    "use_kernels": unneeded(_FASTER),
    "cut_cross_entropy": unneeded(_FASTER),
    "flash_attn_cross_entropy": unneeded(_FASTER),
    "flash_attn_fuse_mlp": unneeded(_FASTER),
    "flash_attn_rms_norm": unneeded(_FASTER),
    "flash_optimum": unneeded(_FASTER),
    "fused_attn_kernel": unneeded(_FASTER),
    "gemma4_hybrid_attn_impl": unneeded(_FASTER),
    "flex_attn_compile_kwargs": unneeded(_FASTER),
    "use_dsv4_kernels": unneeded(_FASTER),
    "use_glm_dsa_kernels": unneeded(_FASTER),
    "dsv4_fp4_grouped_mode": unneeded(_FASTER),
    "tiled_mlp": unneeded(_FASTER),
    "use_scattermoe": unneeded(_FASTER),
    "use_sonicmoe": unneeded(_FASTER),
    "llama4_linearized_experts": unneeded(_FASTER),
    "liger_rms_norm": unneeded("It changes speed or memory only. training.use_liger_kernel: true turns Liger on."),
    "liger_rope": unneeded(_FASTER),
    "liger_glu_activation": unneeded(_FASTER),
    "liger_layer_norm": unneeded(_FASTER),
    "liger_swiglu": unneeded(_FASTER),
    "liger_cross_entropy": unneeded(_FASTER),
    "liger_fused_linear_cross_entropy": unneeded(_FASTER),
    "liger_rms_norm_gated": unneeded(_FASTER),
    "torchdistx_path": unneeded("It belongs to adamw_anyprecision."),
    "experimental_skip_move_to_device": unneeded(_FASTER),
    "fp8": missing("There is no training in fp8. Set training.bf16."),
    "qat": missing("There is no training that prepares a model for quantization."),
    "vllm": missing("Answers are generated by transformers."),
    "tokenizer_use_mistral_common": missing("The tokenizer of transformers is used."),
    "freeze_mm_modules": missing("There is no task for images."),
    # objectives
    "rl": handled("task", "dpo, ipo (dpo with that loss), kto and grpo; others are refused"),
    "reward_model": handled("task", "reward"),
    "process_reward_model": handled("", "refused: there is no task for it"),
    "rl_beta": handled("training.beta"),
    "dpo_loss_type": handled("training.loss_type"),
    "dpo_loss_weights": handled("training.loss_weights"),
    "dpo_label_smoothing": mapped("training.label_smoothing"),
    "dpo_use_weighting": mapped("training.use_weighting"),
    "dpo_padding_free": unneeded(_FASTER),
    "precompute_ref_log_probs": unneeded("The reference is computed at each step."),
    "kto_desirable_weight": mapped("training.desirable_weight"),
    "kto_undesirable_weight": mapped("training.undesirable_weight"),
    "center_rewards_coefficient": mapped("training.center_rewards_coefficient"),
    "trl": handled("training", "`trl.num_generations` is `training.num_generations`, and so on", takes=(dict,)),
    "diffusion": missing("There is no task for diffusion models of text."),
    "use_eaft": missing("There is no loss of this kind."),
}  # fmt: skip
"""Every key of Axolotl that its examples use, and the common ones of its reference."""

_OPTIMIZERS = {"ao_adamw_4bit": "adamw_torch_4bit", "ao_adamw_8bit": "adamw_torch_8bit", "lion_pytorch": "lion_32bit"}
"""Names of optimizers that transformers does not know → its own."""

_CUSTOM_OPTIMIZERS = (
    "muon", "dion", "sinkgd", "optimi_adamw", "ao_adamw_fp8", "adopt_adamw", "came_pytorch", "q_galore_adamw8bit",
    "flash_adamw", "flash_adam", "flash_sgd", "flash_sgdw", "flash_lion",
)  # fmt: skip
_KERNEL_PLUGINS = ("LigerPlugin", "CutCrossEntropyPlugin", "KernelsPlugin")
_ATTENTION = {
    "flash_attention": "flash_attention_2",
    "sdp_attention": "sdpa",
    "flex_attention": "flex_attention",
    "eager_attention": "eager",
}
_TRACKERS = ("wandb", "mlflow", "tensorboard", "comet", "trackio", "swanlab")


class AxolotlImporter(Importer):
    """Makes recipes of Axolotl's YAML: instructions, chats, plain text, preferences and reward models."""

    title: ClassVar[str] = "Axolotl"
    keys: ClassVar[Mapping[str, Key]] = KEYS

    def recognises(self, content: Mapping[str, Any]) -> bool:
        """Return whether settings are Axolotl's."""
        return "base_model" in content

    def convert(self, conversion: Conversion) -> None:
        """Write the recipe of a configuration."""
        if conversion.get("base_model") is None:
            raise conversion.refuse("base_model", "Axolotl needs the model. Write its id or its folder.")
        task = _task(conversion)
        conversion.put("task", task)
        conversion.follow({"base_model": KEYS["base_model"], "revision_of_model": KEYS["revision_of_model"]})
        _model(conversion)
        if conversion.get("pretraining_dataset") is not None:
            convert_stream(conversion)
        else:
            convert_data(conversion, task)
        _strategy(conversion)
        _batches(conversion)
        _schedule(conversion)
        _precision(conversion)
        _rhythm(conversion)
        put_direction(conversion)
        _trackers(conversion)
        _objective(conversion)
        _plugins(conversion)
        _sharding(conversion)
        if conversion.get("output_dir") is None:
            conversion.put("output", "./model-out", note="the default of Axolotl")


def _task(conversion: Conversion) -> str:
    """Return the task of a configuration.

    Raises:
        BadRecipe: There is none.
    """
    if conversion.get("process_reward_model"):
        raise conversion.refuse("process_reward_model", "there is no task for rewards of single steps.")
    if conversion.get("processor_type") and not conversion.get("rl"):
        raise conversion.refuse("processor_type", "it makes a model of images or sound. finetune trains on text alone.")
    if conversion.get("reward_model"):
        conversion.tell("reward_model", "mapped")
        return "reward"
    rl = conversion.get("rl")
    if rl is not None:
        tasks = {"dpo": "dpo", "ipo": "dpo", "kto": "kto", "grpo": "grpo"}
        if rl not in tasks:
            raise conversion.refuse("rl", f"there is no task for {rl!r}. Tasks of this kind: dpo, kto, grpo, rloo.")
        conversion.tell("rl", "mapped")
        return tasks[rl]
    if conversion.get("diffusion"):
        raise conversion.refuse("diffusion", "there is no task for diffusion models of text.")
    if conversion.get("pretraining_dataset") is not None:
        return "causal-language-modeling"
    types = {row.get("type") for row in conversion.get("datasets", []) if isinstance(row, dict) and "type" in row
             and isinstance(row["type"], str)}  # fmt: skip
    return "causal-language-modeling" if types and types <= {"completion", "pretrain"} else "sft"


def _model(conversion: Conversion) -> None:
    for key, implementation in _ATTENTION.items():
        if conversion.get(key):
            conversion.put("model.options.attn_implementation", implementation, source=key)
    if conversion.get("bfloat16"):
        conversion.put("model.options.dtype", "bfloat16", source="bfloat16")
    tokens = dict(conversion.get("special_tokens", {}))
    if tokens:
        others = [name for name in tokens if name != "pad_token" and tokens[name]]
        if others:
            note = f"{', '.join(others)}: if the tokenizer has others, save it with these (model.tokenizer)."
            conversion.tell("special_tokens", "missing", note)
        else:
            conversion.tell(
                "special_tokens", "unneeded", "A model without a pad token gets one, and it is never trained."
            )


def _strategy(conversion: Conversion) -> None:
    adapter = conversion.get("adapter")
    bits = 4 if conversion.get("load_in_4bit") else 8 if conversion.get("load_in_8bit") else 0
    bits_key = f"load_in_{bits}bit" if bits else ""
    for key in ("load_in_4bit", "load_in_8bit"):
        if conversion.get(key) is not None and not conversion.content[key]:
            conversion.tell(key, "unneeded", "It is off.")
    if adapter is None:
        conversion.put("strategy", "full", note="adapter is empty: all parameters train")
        unused = [key for key in conversion.content if key.startswith(("lora_", "peft_")) and conversion.get(key)]
        for key in unused:
            conversion.tell(key, "unneeded", "adapter is empty, so it has no effect.")
        if bits:
            conversion.tell(bits_key, "missing", "All parameters train, which quantized weights cannot. Set adapter.")
        return
    if adapter not in ("lora", "qlora"):
        raise conversion.refuse("adapter", f"there is no importer for {adapter!r}. `finetune list` shows strategies.")
    conversion.tell(
        "adapter", "mapped", "LoRA on a quantized model is qlora here." if adapter == "lora" and bits else ""
    )
    if adapter == "qlora" and not bits:
        bits, bits_key = 4, "adapter"
    modules, modules_key = conversion.get("lora_target_modules"), "lora_target_modules"
    note = ""
    if conversion.get("lora_target_linear"):
        if modules is not None:
            note = "Axolotl adds these to all linear layers, which hold them."
            conversion.tell("lora_target_modules", "unneeded", note)
        modules, modules_key = "all-linear", "lora_target_linear"
        note = ""
    if modules is None and conversion.get("lora_target_parameters") is None:
        conversion.tell("adapter", "mapped", "No target modules are named; strategy.target_modules has its default.")
    options = {
        "r": (conversion.get("lora_r", 8), "lora_r" if conversion.get("lora_r") else "", ""),
        "lora_alpha": (conversion.get("lora_alpha", 16), "lora_alpha" if conversion.get("lora_alpha") else "", ""),
        "lora_dropout": (conversion.get("lora_dropout"), "lora_dropout", ""),
        "target_modules": (modules, modules_key, note),
        "modules_to_save": (conversion.get("lora_modules_to_save"), "lora_modules_to_save", ""),
        "use_rslora": (conversion.get("peft_use_rslora"), "peft_use_rslora", ""),
        "use_dora": (conversion.get("peft_use_dora"), "peft_use_dora", ""),
        "target_parameters": (conversion.get("lora_target_parameters"), "lora_target_parameters", ""),
        "layers_to_transform": (conversion.get("peft_layers_to_transform"), "peft_layers_to_transform", ""),
        "layer_replication": (conversion.get("peft_layer_replication"), "peft_layer_replication", ""),
        "init_lora_weights": (conversion.get("peft_init_lora_weights"), "peft_init_lora_weights", ""),
        "loraplus_lr_ratio": (conversion.get("loraplus_lr_ratio"), "loraplus_lr_ratio", ""),
    }
    put_lora(conversion, options, bits=bits, bits_key=bits_key, is_bf16=bool(conversion.get("bf16")))


def _batches(conversion: Conversion) -> None:
    micro = conversion.get("micro_batch_size", 1)
    accumulate = conversion.get("gradient_accumulation_steps")
    if conversion.get("micro_batch_size") is None:
        conversion.put("training.per_device_train_batch_size", 1, note="the default of Axolotl")
    else:
        conversion.put("training.per_device_train_batch_size", micro, source="micro_batch_size")
    if accumulate is None:
        whole = conversion.get("batch_size")
        accumulate = whole // micro if whole else 1
        note = f"{whole} // {micro}" if whole else "the default of Axolotl"
        source = "batch_size" if whole else ""
        conversion.put("training.gradient_accumulation_steps", accumulate, source=source, note=note)
    else:
        conversion.put("training.gradient_accumulation_steps", accumulate, source="gradient_accumulation_steps")
        if conversion.get("batch_size") is not None:
            conversion.tell("batch_size", "unneeded", "gradient_accumulation_steps is set, and counts.")
    place = ("training", "gradient_accumulation_steps")
    known = conversion.comments[place]
    conversion.comments[place] = f"{known}; a step has {micro * accumulate} rows on one GPU".removeprefix("; ")
    if conversion.get("eval_batch_size") is None:
        note = "as micro_batch_size: the default of Axolotl"
        conversion.put("training.per_device_eval_batch_size", micro, note=note)
    if conversion.get("group_by_length"):
        conversion.put("training.train_sampling_strategy", "group_by_length", source="group_by_length")


def _schedule(conversion: Conversion) -> None:
    name = conversion.get("lr_scheduler")
    if name in ("one_cycle", "rex", "log_sweep"):
        note = f"{name} is Axolotl's own. The closest of transformers is cosine."
        conversion.put("training.lr_scheduler_type", "cosine", source="lr_scheduler", note=note)
        conversion.tell("lr_scheduler", "missing", "")
    elif conversion.get("cosine_min_lr_ratio") and name in (None, "cosine"):
        ratio = conversion.content["cosine_min_lr_ratio"]
        source = "lr_scheduler" if name else "cosine_min_lr_ratio"
        conversion.put("training.lr_scheduler_type", "cosine_with_min_lr", source=source)
        note = f"the last rate is {ratio} of the first"
        conversion.put("training.lr_scheduler_kwargs.min_lr_rate", ratio, source="cosine_min_lr_ratio", note=note)
    elif name is not None:
        conversion.put("training.lr_scheduler_type", name, source="lr_scheduler")
        if conversion.get("cosine_min_lr_ratio"):
            conversion.tell("cosine_min_lr_ratio", "unneeded", f"It has no effect with {name}.")
    else:
        conversion.put("training.lr_scheduler_type", "cosine", note="the default of Axolotl")
    steps, ratio = conversion.get("warmup_steps"), conversion.get("warmup_ratio")
    if steps is not None:
        conversion.put("training.warmup_steps", 2 if steps == 1 else steps, source="warmup_steps",
                       note="Axolotl makes 2 of 1" if steps == 1 else "")  # fmt: skip
        if ratio is not None:
            conversion.tell("warmup_ratio", "unneeded", "warmup_steps is set, and counts.")
    elif ratio is not None:
        note = "a share of the steps, as it is below 1"
        conversion.put("training.warmup_steps", ratio, source="warmup_ratio", note=note)
    else:
        note = "a share of the steps: the default of Axolotl, which warms up for 100 steps at most"
        conversion.put("training.warmup_steps", 0.03, note=note)
    if conversion.get("num_epochs") is None and conversion.get("max_steps") is None:
        conversion.put("training.num_train_epochs", 1, note="the default of Axolotl")
    elif conversion.get("num_epochs") is not None and conversion.recipe["dataset"].get("streaming"):
        conversion.tell("num_epochs", "unneeded", "A stream has no epochs; max_steps counts.")
    optimizer = conversion.get("optimizer")
    if optimizer in _CUSTOM_OPTIMIZERS:
        conversion.tell("optimizer", "missing", f"{optimizer} is Axolotl's own. Without it, AdamW trains.")
    elif optimizer is not None:
        conversion.put("training.optim", _OPTIMIZERS.get(optimizer, optimizer), source="optimizer")
    given = conversion.get("optim_args")
    if isinstance(given, Mapping):
        text = ",".join(f"{key}={value}" for key, value in given.items())
        conversion.put("training.optim_args", text, source="optim_args")
    elif given is not None:
        conversion.put("training.optim_args", given, source="optim_args")


def _precision(conversion: Conversion) -> None:
    bf16 = conversion.get("bf16")
    if bf16 == "full":
        conversion.put("model.options.dtype", "bfloat16", source="bf16", note="full: the weights are in bfloat16")
    elif bf16 is not None:
        note = "auto: where the GPU has bfloat16" if bf16 == "auto" else ""
        conversion.put("training.bf16", bool(bf16), source="bf16", note=note)
    checkpointing = conversion.get("gradient_checkpointing")
    if checkpointing is not None:
        note = f"{checkpointing!r} there; nothing is moved to the CPU" if isinstance(checkpointing, str) else ""
        conversion.put(
            "training.activation_checkpointing", bool(checkpointing), source="gradient_checkpointing", note=note
        )
    if conversion.get("activation_offloading"):
        conversion.put("training.activation_offloading", True, source="activation_offloading")


def _rhythm(conversion: Conversion) -> None:
    """Convert how often a run is saved and scored."""
    epochs = conversion.get("num_epochs", 1)
    has_validation = bool(conversion.get("val_set_size") or conversion.get("test_datasets"))
    for key, steps_key, kind in (("evals_per_epoch", "eval_steps", "eval"), ("saves_per_epoch", "save_steps", "save")):
        times, steps = conversion.get(key), conversion.get(steps_key)
        strategy = f"training.{kind}_strategy"
        if kind == "eval" and not has_validation and (times or steps):
            for each in (key, steps_key):
                if conversion.get(each) is not None:
                    conversion.tell(each, "unneeded", "There is no validation split, so nothing is scored meanwhile.")
            continue
        if times:
            share = 1 / (times * epochs)
            if share >= 1:
                note = "Once at the end of the run."
                conversion.tell(key, "unneeded", note)
                continue
            conversion.put(strategy, "steps", source=key)
            note = f"1 / ({times} × {epochs} epochs), a share of all steps"
            conversion.put(f"training.{steps_key}", round(share, 6), source=key, note=note)
        elif times is not None:
            conversion.tell(key, "unneeded", "0: not within an epoch.")
        if steps:
            if conversion.get(f"{kind}_strategy") is None:
                conversion.put(strategy, "steps", source=steps_key)
            conversion.put(f"training.{steps_key}", steps, source=steps_key)


def _trackers(conversion: Conversion) -> None:
    names = {"comet": "comet_ml"}
    report_to = [names.get(tool, tool) for tool in _TRACKERS if conversion.get(f"use_{tool}")]
    source = next((f"use_{tool}" for tool in _TRACKERS if conversion.get(f"use_{tool}")), "")
    for tool in _TRACKERS:
        if conversion.get(f"use_{tool}"):
            conversion.tell(f"use_{tool}", "mapped")
    if conversion.get("wandb_project"):
        if "wandb" not in report_to:
            report_to.append("wandb")
            source = source or "wandb_project"
        conversion.tell("wandb_project", "mapped", "Set the environment variable WANDB_PROJECT too.")
    if conversion.get("trackio_project_name"):
        if "trackio" not in report_to:
            report_to.append("trackio")
            source = source or "trackio_project_name"
        conversion.put("training.project", conversion.content["trackio_project_name"], source="trackio_project_name")
    if report_to:
        conversion.put("training.report_to", report_to, source=source)
    name = next((key for key in ("wandb_name", "trackio_run_name") if conversion.get(key)), None)
    if name is not None:
        conversion.put("training.run_name", conversion.content[name], source=name)
    if conversion.get("trackio_space_id"):
        conversion.put("training.trackio_space_id", conversion.content["trackio_space_id"], source="trackio_space_id")


def _objective(conversion: Conversion) -> None:
    """Convert the options of preferences and rewards."""
    rl = conversion.get("rl")
    if rl is None:
        return
    given = dict(conversion.get("trl", {}))
    beta = given.pop("beta", None)
    if beta is not None:
        conversion.put("training.beta", beta, source="trl")
    elif conversion.get("rl_beta") is not None:
        conversion.put("training.beta", conversion.content["rl_beta"], source="rl_beta")
    if rl == "ipo":
        conversion.put("training.loss_type", ["ipo"], source="rl")
    elif conversion.get("dpo_loss_type") is not None:
        conversion.put("training.loss_type", conversion.content["dpo_loss_type"], source="dpo_loss_type")
        if conversion.get("dpo_loss_weights") is not None:
            conversion.put("training.loss_weights", conversion.content["dpo_loss_weights"], source="dpo_loss_weights")
    rewards = given.pop("reward_funcs", None)
    if rewards:
        functions = [
            name.replace(".", ":") if name.count(".") == 1 else ":".join(name.rsplit(".", 1)) for name in rewards
        ]
        note = "Functions get prompts, completions and columns, as in TRL."
        conversion.put("preprocessor.reward", functions, source="trl", note=note)
    elif rl == "grpo":
        conversion.tell("rl", "missing", "Name the rewards: preprocessor.reward.")
    for name, value in given.items():
        if value is not None:
            conversion.put(f"training.{name}", value, source="trl")


def _plugins(conversion: Conversion) -> None:
    names = conversion.get("plugins", [])
    if not names:
        return
    others = [name for name in names if not str(name).endswith(_KERNEL_PLUGINS)]
    if others:
        conversion.tell("plugins", "missing", f"{', '.join(map(str, others))}: there is no counterpart.")
    else:
        conversion.tell("plugins", "unneeded", _FASTER)


def _sharding(conversion: Conversion) -> None:
    if conversion.get("fsdp") or conversion.get("fsdp_config"):
        key = "fsdp" if conversion.get("fsdp") else "fsdp_config"
        conversion.put("training.fsdp", True, source=key, note="as FSDP2, which divides parameters and gradients")
