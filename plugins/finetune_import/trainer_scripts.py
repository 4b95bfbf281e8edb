"""Recipes made of the arguments of the example scripts of transformers: ``run_qa.py``, ``run_glue.py`` and others.

The arguments are those of a JSON file, as in ``python run_qa.py args.json``, or of the command in a shell script. Their
meaning is that of ``examples/pytorch`` of transformers 4.57, the last version that has these scripts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from finetune.interfaces import Importer
from finetune.kit import Conversion, Key, handled, mapped, missing, unneeded
from finetune_import.arguments import ARGUMENTS, follow_arguments

_FASTER = "It changes speed or memory only."

KEYS: Mapping[str, Key] = {
    **ARGUMENTS,
    "model_name_or_path": mapped("model.path"),
    "model_revision": handled("model.revision"),
    "tokenizer_name": mapped("model.tokenizer"),
    "config_name": unneeded("The configuration of the model is used."),
    "cache_dir": unneeded("Set the environment variable HF_HOME."),
    "use_fast_tokenizer": unneeded("Fast tokenizers are always used."),
    "token": unneeded("Log in with `hf auth login`, or set HF_TOKEN."),
    "trust_remote_code": unneeded("Code that comes with a model is never run."),
    "low_cpu_mem_usage": unneeded(_FASTER),
    "torch_dtype": mapped("model.options.dtype"),
    "ignore_mismatched_sizes": mapped("model.options.ignore_mismatched_sizes"),
    "model_type": missing("A model is not trained from nothing. Name a pretrained one."),
    "config_overrides": missing("Set entries of the model's configuration under model.options."),
    "dataset_name": handled("dataset.path"),
    "dataset_config_name": handled("dataset.name"),
    "task_name": handled("dataset", "a task of GLUE: `nyu-mll/glue`, with the columns of that task"),
    "train_file": handled("dataset.path.train"),
    "validation_file": handled("dataset.path.validation"),
    "test_file": handled("dataset.path.test"),
    "validation_split_percentage": handled("dataset.validation_size", "a share here"),
    "max_train_samples": handled("dataset.limit", "drawn at random; the scripts take the first rows"),
    "max_eval_samples": handled("dataset.limit", "drawn at random; the scripts take the first rows"),
    "max_predict_samples": handled("dataset.limit"),
    "max_seq_length": handled("preprocessor.max_length"),
    "block_size": handled("preprocessor.max_length"),
    "max_source_length": handled("preprocessor.max_source_length"),
    "max_target_length": handled("preprocessor.max_target_length"),
    "val_max_target_length": mapped("generation.max_length"),
    "num_beams": mapped("generation.num_beams"),
    "doc_stride": handled("preprocessor.stride"),
    "version_2_with_negative": handled("", "the data say whether some questions have no answer"),
    "n_best_size": handled("evaluator.n_best_size"),
    "max_answer_length": handled("evaluator.max_answer_length"),
    "null_score_diff_threshold": unneeded("The threshold is learned from the validation split."),
    "mlm_probability": handled("preprocessor.mlm_probability"),
    "line_by_line": missing("Each row or line is a document; see preprocessor.packing."),
    "text_column_name": handled("dataset.columns"),
    "text_column_names": handled("dataset.columns"),
    "label_column_name": handled("dataset.columns"),
    "text_column": handled("dataset.columns"),
    "summary_column": handled("dataset.columns"),
    "source_prefix": handled("preprocessor.prefix"),
    "source_lang": handled("preprocessor.source_lang"),
    "target_lang": handled("preprocessor.target_lang"),
    "forced_bos_token": missing("The token of the target language is found from preprocessor.target."),
    "do_regression": handled("task", "text-regression"),
    "return_entity_level_metrics": unneeded("Scores of each kind of entity are always in the report."),
    "metric_name": missing("Name metrics under metrics: `finetune list` shows them."),
    "shuffle_train_dataset": unneeded("Rows are shuffled at each epoch."),
    "shuffle_seed": unneeded("Rows are shuffled by the seed of the run."),
    "pad_to_max_length": unneeded("Batches are padded to their longest row."),
    "ignore_pad_token_for_loss": unneeded("Padding is never trained."),
    "overwrite_cache": unneeded("Features are made for each run, unless --cache is given."),
    "preprocessing_num_workers": unneeded(_FASTER),
    "keep_linebreaks": unneeded("Texts are read as they are."),
    "streaming": handled("dataset.streaming"),
}
"""The arguments of the scripts that are not options of `training` under their own name."""

GLUE: Mapping[str, tuple[str, str | None]] = {
    "cola": ("sentence", None),
    "mnli": ("premise", "hypothesis"),
    "mrpc": ("sentence1", "sentence2"),
    "qnli": ("question", "sentence"),
    "qqp": ("question1", "question2"),
    "rte": ("sentence1", "sentence2"),
    "sst2": ("sentence", None),
    "stsb": ("sentence1", "sentence2"),
    "wnli": ("sentence1", "sentence2"),
}
"""Task of GLUE → its columns of text, as ``run_glue.py`` knows them."""


@dataclass(frozen=True)
class _Script:
    """What one of the scripts trains."""

    task: str
    length: int
    """Its longest feature, where nothing is said."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Argument that names a column → the column of the task."""


SCRIPTS: Mapping[str, _Script] = {
    "run_qa.py": _Script("question-answering", 384),
    "run_glue.py": _Script("text-classification", 128),
    "run_classification.py": _Script(
        "text-classification", 128, {"text_column_names": "text", "label_column_name": "label"}
    ),
    "run_ner.py": _Script("token-classification", 512, {"text_column_name": "tokens", "label_column_name": "ner_tags"}),
    "run_summarization.py": _Script("summarization", 1024, {"text_column": "document", "summary_column": "summary"}),
    "run_translation.py": _Script("translation", 1024),
    "run_mlm.py": _Script("masked-language-modeling", 512),
    "run_clm.py": _Script("causal-language-modeling", 1024),
    "run_swag.py": _Script("multiple-choice", 512),
}
"""Script → what it trains. Lengths are the defaults of the scripts."""

_MARKS = {
    "run_qa.py": {"doc_stride", "version_2_with_negative", "n_best_size", "max_answer_length"},
    "run_translation.py": {"source_lang", "target_lang"},
    "run_summarization.py": {"summary_column", "max_source_length", "source_prefix"},
    "run_mlm.py": {"mlm_probability", "line_by_line"},
    "run_clm.py": {"block_size"},
    "run_ner.py": {"return_entity_level_metrics"},
    "run_classification.py": {"text_column_names"},
    "run_glue.py": {"task_name"},
}
"""Script → arguments that only it has."""
_OWN = {"train_file", "max_seq_length", "max_train_samples", "dataset_config_name", "text_column_name"}
_DEFAULTS = {
    "learning_rate": 5e-5,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "lr_scheduler_type": "linear",
}


class TrainerImporter(Importer):
    """Makes recipes of the arguments of run_qa.py, run_glue.py and the other example scripts of transformers."""

    title: ClassVar[str] = "the example scripts of transformers"
    keys: ClassVar[Mapping[str, Key]] = KEYS

    def recognises(self, content: Mapping[str, Any]) -> bool:
        """Return whether settings are those of an example script."""
        if "model_name_or_path" not in content or {"stage", "finetuning_type", "template"} & content.keys():
            return False
        return bool(_OWN & content.keys()) or any(marks & content.keys() for marks in _MARKS.values())

    def convert(self, conversion: Conversion) -> None:
        """Write the recipe of a script's arguments."""
        script = _script(conversion)
        task = script.task
        if conversion.get("do_regression") or conversion.get("task_name") == "stsb":
            task = "text-regression"
            if conversion.get("do_regression"):
                conversion.tell("do_regression", "mapped")
        conversion.put("task", task)
        conversion.follow({"model_name_or_path": KEYS["model_name_or_path"]})
        if conversion.get("model_revision") not in (None, "main"):
            conversion.put("model.revision", conversion.content["model_revision"], source="model_revision")
        elif "model_revision" in conversion.content:
            conversion.tell("model_revision", "unneeded", "It is the default.")
        _data(conversion, script, task)
        _lengths(conversion, script, task)
        _answers(conversion, task)
        conversion.put("strategy", "full", note="the scripts train all parameters")
        follow_arguments(conversion, task, keys=KEYS, defaults=_DEFAULTS)
        if conversion.get("output_dir") is None:
            conversion.put("output", f"runs/{task}", note="output_dir is not set")


def _script(conversion: Conversion) -> _Script:
    """Return the script: the one of the command, of the task that the user names, or the one that has the arguments.

    Raises:
        BadRecipe: Several have them.
    """
    for word in conversion.command:
        name = word.replace("_no_trainer", "")
        if name in SCRIPTS:
            return SCRIPTS[name]
    if conversion.task is not None:
        for script in SCRIPTS.values():
            if script.task == conversion.task:
                return script
        raise conversion.refuse("model_name_or_path", f"no example script trains {conversion.task!r}.")
    for name, marks in _MARKS.items():
        if any(conversion.get(mark) is not None for mark in marks):
            return SCRIPTS[name]
    tasks = sorted({script.task for script in SCRIPTS.values()})
    raise conversion.refuse(
        "model_name_or_path", f"the file does not say which script it is for. Name the task: --task {', '.join(tasks)}."
    )


def _data(conversion: Conversion, script: _Script, task: str) -> None:
    glue = conversion.get("task_name")
    files = {
        split: conversion.content[f"{split}_file"]
        for split in ("train", "validation", "test")
        if conversion.get(f"{split}_file") is not None
    }
    if glue is not None and task in ("text-classification", "text-regression"):
        _put_glue(conversion, str(glue).lower())
    elif files:
        for split, name in files.items():
            conversion.put(("dataset", "path", split), name, source=f"{split}_file")
    elif conversion.get("dataset_name") is not None:
        conversion.put("dataset.path", conversion.content["dataset_name"], source="dataset_name")
        if conversion.get("dataset_config_name") is not None:
            conversion.put("dataset.name", conversion.content["dataset_config_name"], source="dataset_config_name")
    else:
        raise conversion.refuse("model_name_or_path", "the file names no data: dataset_name or train_file.")
    columns: dict[str, str] = {}
    for key, column in script.columns.items():
        given = conversion.get(key)
        if given is None:
            continue
        names = str(given).split(",") if isinstance(given, str) else list(given)
        conversion.tell(key, "mapped")
        for name, target in zip(names, [column, "text_pair"], strict=False):
            if name != target:
                columns[name] = target
        if len(names) > 2:
            conversion.tell(key, "missing", "More than two texts: join them in the data.")
    if columns:
        conversion.put("dataset.columns", columns, source=next(key for key in script.columns if conversion.get(key)))
    limit = {}
    for key, split in (("max_train_samples", "train"), ("max_eval_samples", "validation"),
                       ("max_predict_samples", "test")):  # fmt: skip
        if conversion.get(key) is not None:
            limit[split] = conversion.content[key]
            conversion.tell(key, "mapped", "Drawn at random; the scripts take the first rows.")
    if limit:
        conversion.put("dataset.limit", limit)
    percent = conversion.get("validation_split_percentage")
    if percent is not None:
        conversion.put("dataset.validation_size", percent / 100, source="validation_split_percentage")
    elif task.endswith("language-modeling"):
        conversion.put("dataset.validation_size", 0.05, note="5 %: the default of the script")
    elif "validation" not in files and files:
        conversion.put("dataset.validation_size", 0, note="there is no validation_file, so the script scores nothing")
    if conversion.get("streaming"):
        conversion.put("dataset.streaming", True, source="streaming")


def _put_glue(conversion: Conversion, name: str) -> None:
    if name not in GLUE:
        raise conversion.refuse("task_name", f"{name!r} is not a task of GLUE: {', '.join(GLUE)}.")
    conversion.put("dataset.path", "nyu-mll/glue", source="task_name")
    conversion.put("dataset.name", name, source="task_name")
    first, second = GLUE[name]
    columns = {first: "text"} if second is None else {first: "text", second: "text_pair"}
    conversion.put("dataset.columns", columns, note=f"the columns of {name}")
    splits = {"test": None}
    note = "the test split of GLUE has no labels"
    if name == "mnli":
        splits["validation"] = "validation_matched"  # type: ignore[assignment]
    conversion.put("dataset.splits", splits, note=note)
    if conversion.get("dataset_name") is not None:
        conversion.tell("dataset_name", "unneeded", "task_name names the data.")


def _lengths(conversion: Conversion, script: _Script, task: str) -> None:
    if task in ("summarization", "translation"):
        for key, default in (("max_source_length", 1024), ("max_target_length", 128)):
            given = conversion.get(key)
            note = "" if given is not None else "the default of the script"
            conversion.put(f"preprocessor.{key}", given or default, source=key if given else "", note=note)
        return
    for key in ("max_seq_length", "block_size"):
        if conversion.get(key) is not None:
            conversion.put("preprocessor.max_length", conversion.content[key], source=key)
            return
    if task == "multiple-choice":
        return
    conversion.put("preprocessor.max_length", script.length, note="the default of the script")


def _answers(conversion: Conversion, task: str) -> None:
    """Convert what only some tasks have."""
    for key, place in (
        ("doc_stride", "preprocessor.stride"),
        ("n_best_size", "evaluator.n_best_size"),
        ("max_answer_length", "evaluator.max_answer_length"),
        ("mlm_probability", "preprocessor.mlm_probability"),
        ("source_lang", "preprocessor.source_lang"),
        ("target_lang", "preprocessor.target_lang"),
    ):
        if conversion.get(key) is not None:
            conversion.put(place, conversion.content[key], source=key)
    if task == "question-answering" and conversion.get("doc_stride") is None:
        conversion.put("preprocessor.stride", 128, note="the default of the script")
    if conversion.get("source_prefix") is not None:
        conversion.put("preprocessor.prefix", conversion.content["source_prefix"], source="source_prefix")
