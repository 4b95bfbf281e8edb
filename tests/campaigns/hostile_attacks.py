"""The attacks of ``hostile.py``: what a stranger changes, and which commands read it."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import hostile_files as files
from hostile import OUTSIDE, PREDICT, READING, SUNG, TRAINING, Attack, edited, forge, named, resealed

RESUME = [["train", "killed/recipe.yaml", "output=killed", "--resume", "--quiet"]]
"""The command that reads an unfinished run."""

NAMES = {
    "task": {"recipe.task": "canary:sing"},
    "strategy": {"recipe.strategy": {"name": "canary:Bird"}},
    "preprocessor of the recipe": {"recipe.preprocessor": {"name": "canary:Bird"}},
    "evaluator of the recipe": {"recipe.evaluator": {"name": "canary:Bird"}},
    "metric": {"recipe.metrics": ["canary:sing"]},
    "metric of a scheme": {"recipe.metrics": ["evaluate:canary:Bird"]},
    "data": {"recipe.dataset": {"path": "canary:sing"}},
    "data of a mixture": {"recipe.dataset": {"mixture": {"one": {"path": "canary:sing"}}}},
    "data at a URL": {"recipe.dataset": {"path": "http://127.0.0.1:9/rows.csv"}},
    "data of a file URL": {"recipe.dataset": {"path": "file:///etc/passwd"}},
    "reader": {"recipe.dataset": {"path": "rows.csv", "format": "canary:Bird"}},
    "preprocessor": {"preprocessor": {"class": "canary:Bird", "options": {}}},
    "evaluator": {"evaluator": {"class": "canary:Bird", "options": {}}},
    "function of Python": {"preprocessor": {"class": "os:system", "options": {"command": f"touch {SUNG}"}}},
    "web server": {"evaluator": {"class": "http.server:test", "options": {}}},
    "function of the core": {"evaluator": {"class": "finetune.result:write_atomically", "options": {}}},
    "function of a plugin": {"preprocessor": {"class": "finetune_hub.push:push", "options": {}}},
    "dotted name": {"recipe.task": "canary.sing"},
    "general text": {"recipe.general_text": "canary:sing"},
}
"""Names of code in `result.json` and `recipe.yaml`."""

MODEL_OPTIONS: dict[str, Any] = {
    "weights_only": False, "trust_remote_code": True, "use_safetensors": False, "code_revision": "main",
    "gguf_file": "weights.gguf", "attn_implementation": "someone/canary", "allow_all_kernels": True,
    "use_kernels": True, "config": "canary:Bird", "adapter_kwargs": {"trust_remote_code": True},
    "offload_folder": "OUTSIDE", "cache_dir": "OUTSIDE", "subfolder": "../outside", "variant": "canary",
    "proxies": {"https": "http://127.0.0.1:9"}, "quantization_config": {"quant_method": "canary"},
    "device_map": {"": "disk"}, "state_dict": "canary", "custom_generate": "someone/canary", "local_files_only": False,
    "key_mapping": {"(a+)+$": "b"}, "tp_plan": "auto", "experts_implementation": "someone/canary",
    "kernel_config": {"a": "someone/canary"}, "use_auth_token": True,
}  # fmt: skip
"""Arguments of `from_pretrained` that load something else, or load it in another way."""

CONFIGS: dict[str, dict[str, Any]] = {
    "auto_map": {
        "auto_map": {"AutoConfig": "canary.Bird", "AutoModelForSequenceClassification": "canary.Bird",
                     "AutoModelForCausalLM": "canary.Bird", "AutoModel": "canary.Bird"},
        "model_type": "bird", "architectures": ["Bird"],
    },
    "auto_map of a known type": {"auto_map": {"AutoModelForSequenceClassification": "canary.Bird"}},
    "auto_map elsewhere": {"auto_map": {"AutoConfig": "someone/canary--canary.Bird"}, "model_type": "bird"},
    "custom_pipelines": {"custom_pipelines": {"text-classification": {"impl": "canary.Bird", "pt": ["Bird"]}}},
    "kernel": {"attn_implementation": "someone/canary"},
    "kernel of a known group": {"attn_implementation": "kernels-community/canary"},
    "kernel, internal": {"_attn_implementation_internal": "someone/canary"},
    "experts": {"experts_implementation": "someone/canary"},
    "weights elsewhere": {"transformers_weights": "adapter_model.bin"},
    "weights outside": {"transformers_weights": "../outside/model.safetensors"},
    "quantized": {"quantization_config": {"quant_method": "gptq", "bits": 4, "checkpoint_format": "canary.Bird"}},
    "quantized by code": {"quantization_config": {"quant_method": "canary.Bird"}},
    "class by name": {"architectures": ["canary.Bird"], "tokenizer_class": "canary.Bird"},
    "type by path": {"model_type": "../canary"},
}  # fmt: skip
"""Entries of config.json."""

TOKENIZERS: dict[str, dict[str, Any]] = {
    "auto_map": {"auto_map": {"AutoTokenizer": ["canary.Bird", "canary.Bird"]}, "tokenizer_class": "Bird"},
    "auto_map elsewhere": {"auto_map": {"AutoTokenizer": ["someone/canary--canary.Bird", None]}},
    "class": {"tokenizer_class": "canary.Bird"},
    "class with a colon": {"tokenizer_class": "canary:Bird"},
    "processor": {"processor_class": "canary.Bird", "feature_extractor_type": "canary.Bird"},
    "files outside": {"tokenizer_file": "../outside/file", "vocab_file": "../outside/file"},
    "file of a URL": {"vocab_file": "http://127.0.0.1:9/vocab.txt"},
}
"""Entries of tokenizer_config.json."""

ADAPTERS: dict[str, dict[str, Any]] = {
    "auto_mapping": {
        "auto_mapping": {"base_model_class": "Bird", "parent_library": "canary"}, "task_type": None,
    },
    "megatron": {"megatron_config": {"a": 1}, "megatron_core": "canary"},
    "megatron of a known library": {"megatron_config": {"a": 1}, "megatron_core": "transformers.canary"},
    "peft_type": {
        "peft_type": "PROMPT_TUNING", "tokenizer_kwargs": {"trust_remote_code": True}, "num_virtual_tokens": 2,
        "prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "a", "tokenizer_name_or_path": "someone/canary",
    },
    "multitask": {"peft_type": "MULTITASK_PROMPT_TUNING", "prompt_tuning_init_state_dict_path": "../pickle.bin",
                  "prompt_tuning_init": "AVERAGE_SOURCE_TASKS", "num_virtual_tokens": 2},
    "xlora": {"peft_type": "XLORA", "adapters": {"one": "someone/canary"}, "hidden_size": 4},
    "unknown type": {"peft_type": "canary.Bird"},
    "base elsewhere": {"base_model_name_or_path": "someone/canary", "revision": "canary"},
    "eva": {"init_lora_weights": "canary:Bird", "eva_config": {"a": 1}},
    "unknown field": {"canary": "canary:Bird"},
    "runtime": {"runtime_config": {"ephemeral_gpu_offload": True}},
    "regular expression": {"target_modules": "(a+)+$"},
}  # fmt: skip
"""Entries of adapter_config.json."""

TEMPLATES = {
    "escape": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "escape by attr": "{{ (''|attr('__class__')).mro()[1] }}",
    "escape by format": "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "escape by a global": "{{ cycler.__init__.__globals__.os.system('touch sung') }}",
    "escape by raise_exception": "{{ raise_exception.__globals__['json'].codecs.sys.modules['os'].system('ls') }}",
    "include": "{% include '/etc/passwd' %}",
    "long range": "{% for i in range(10**9) %}{% endfor %}",
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "power": "{{ 10**(10**9) }}",
    "product": "{{ 'a' * 10**11 }}",
    "doubling": "{% set n = namespace(t='aa') %}{% for i in range(60) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
    "doubling by plus": "{% set n = namespace(t='aa') %}{% for i in range(60) %}{% set n.t = n.t + n.t %}{% endfor %}",
    "wide": "{{ 'a'.center(10**11) }}",
    "format width": "{{ '%100000000000d' % 1 }}",
    "recursion": "{% macro a() %}{{ a() }}{{ a() }}{% endmacro %}{{ a() }}",
    "lipsum": "{{ lipsum(n=10**8) }}",
}
"""Chat templates: those that try to reach Python, and those that do not end."""

RC = "text.usetex: True\nbackend: module://canary\ntext.latex.preamble: \\immediate\\write18{touch sung}\n"
LOADABLE = (
    "sitecustomize",
    "usercustomize",
    "conftest",
    "click",
    "yaml",
    "kernels",
    "wandb",
    "deepspeed",
    "my_metrics",
)
"""Modules that Python or a library could take from the current folder."""

WEIGHTS = ("pytorch_model.bin", "model.pt", "training_args.bin", "model.bin", "adapter_model.bin", "vocab.pkl")
STATES = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt", "training_args.bin", "pytorch_model.bin")


def every(prepared: Path, *, seed: int, keys: int | None = None) -> Iterator[Attack]:
    """Yield all attacks.

    Args:
        prepared: The runs that are attacked.
        seed: Of what is drawn.
        keys: How many keys of result and recipe are tried; None for all.
    """
    yield from _names()
    yield from _options()
    yield from _model_files()
    yield from _pickles()
    yield from _templates()
    yield from _data()
    yield from _links()
    yield from _lying_around()
    yield from _keys(prepared, Random(seed), keys)


def _names() -> Iterator[Attack]:
    for name, changes in NAMES.items():
        yield Attack(
            name=name, kind="names of code", plant=functools.partial(_forge, "run", changes),
            commands=[*named("run", [*READING, ["evaluate", "RUN", "--split", "train"], *TRAINING]), ["merge", "lora"]],
        )  # fmt: skip


def _forge(run: str, changes: Mapping[str, Any], folder: Path) -> None:
    given = {}
    for place, value in changes.items():
        section = place.rpartition(".")[2]
        if isinstance(value, dict) and section in {"dataset", "preprocessor", "evaluator"} and "class" not in value:
            value = {**json.loads((folder / run / "result.json").read_text())["recipe"][section], **value}
            if section == "dataset" and "mixture" in value:
                value = {"mixture": value["mixture"]}
        given[place] = value
    forge(folder / run, given)


def _options() -> Iterator[Attack]:
    for option, value in MODEL_OPTIONS.items():
        for run in ("run", "lora"):
            yield Attack(
                name=f"{option} of {run}", kind="options of the model",
                plant=functools.partial(_set_option, run, option, value),
                commands=named(run, [PREDICT, TRAINING[1]]),
            )  # fmt: skip
    for kind in ("zip", "pickle"):
        yield Attack(
            name=f"weights_only with an index of pickles, {kind}", kind="options of the model",
            plant=functools.partial(_index_of_pickles, kind), commands=named("run", [PREDICT]),
        )  # fmt: skip


def _set_option(run: str, option: str, value: Any, folder: Path) -> None:
    if value == "OUTSIDE":
        value = str(folder / OUTSIDE)
    forge(folder / run, {"recipe.model.options": {option: value}})


def _payload(folder: Path, name: str = "exec", kind: str = "zip") -> bytes:
    return files.pickled(files.payloads(folder / SUNG)[name], kind)


def _index_of_pickles(kind: str, folder: Path) -> None:
    forge(folder / "run", {"recipe.model.options": {"weights_only": False}})
    _index(folder / "run", _payload(folder, kind=kind))


def _index(run: Path, payload: bytes) -> None:
    """Replace the weights by an index that names a pickle."""
    from safetensors import safe_open

    with safe_open(run / "model.safetensors", "pt") as weights:
        names = list(weights.keys())
    (run / "model.safetensors").unlink()
    (run / "pytorch_model-1.bin").write_bytes(payload)
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, "pytorch_model-1.bin")}
    (run / "model.safetensors.index.json").write_text(json.dumps(index))


def _model_files() -> Iterator[Attack]:
    def config(name: str, place: str, entries: Mapping[str, Any], folder: Path) -> None:
        edited(folder / place / name, **entries)
        for module in ("canary.py", "configuration_bird.py", "modeling_bird.py", "tokenization_bird.py"):
            shutil.copy(folder / "modules" / "canary.py", folder / place / module)

    for name, entries in CONFIGS.items():
        for place, run in (("run", "run"), ("base", "lora"), ("chat", "chat")):
            commands = named(run, [PREDICT] if run != "chat" else [["predict", "RUN", "--messages", "[]"]])
            if place == "base":
                commands += named(run, [["merge", "RUN"], TRAINING[1]])
            plant = functools.partial(config, "config.json", place, entries)
            yield Attack(name=f"config.json of {place}: {name}", kind="config.json", plant=plant, commands=commands)
    for name, entries in TOKENIZERS.items():
        for place in ("run", "base"):
            plant = functools.partial(config, "tokenizer_config.json", place, entries)
            commands = named("run", [PREDICT] if place == "run" else [*TRAINING])
            yield Attack(
                name=f"tokenizer_config.json of {place}: {name}", kind="tokenizer_config.json", plant=plant,
                commands=commands,
            )  # fmt: skip
    for name, entries in ADAPTERS.items():
        plant = functools.partial(config, "adapter_config.json", "lora", entries)
        commands = named("lora", [PREDICT, ["merge", "RUN"], ["card", "RUN"], READING[4]])
        yield Attack(name=f"adapter_config.json: {name}", kind="adapter_config.json", plant=plant, commands=commands)
        plant = functools.partial(_set_strategy, entries)
        commands = named("lora", [PREDICT, TRAINING[1]])
        yield Attack(name=f"strategy.config: {name}", kind="adapter_config.json", plant=plant, commands=commands)
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "BASE", "auto_mapping": None, "task_type": "SEQ_CLS"}
    plant = functools.partial(_adapter_in_full_run, adapter)
    yield Attack(
        name="an adapter in a full run", kind="adapter_config.json", plant=plant, commands=named("run", [PREDICT])
    )
    for name, entries in {
        "class": {"model_class": "canary:Bird"}, "base": {"base_model_name_or_path": "someone/canary"},
        "modules": {"modules": ["__class__", "canary"]}, "placement": {"placement": "canary:Bird"},
        "function": {"non_linearity": "canary.sing"},
    }.items():  # fmt: skip
        plant = functools.partial(config, "bottleneck_adapters.json", "adapters", entries)
        yield Attack(
            name=f"bottleneck_adapters.json: {name}", kind="adapter_config.json", plant=plant,
            commands=named("adapters", [PREDICT]),
        )  # fmt: skip
    for name, entries in {
        "custom_generate": {"custom_generate": "someone/canary", "trust_remote_code": True},
        "cache": {"cache_implementation": "canary.Bird", "cache_config": {"a": "canary:Bird"}},
        "assistant": {"prompt_lookup_num_tokens": 1, "assistant_model": "someone/canary"},
        "watermark": {"watermarking_config": {"watermarking_type": "canary:Bird"}},
    }.items():
        plant = functools.partial(config, "generation_config.json", "chat", entries)
        commands = [["predict", "chat", "--messages", '[{"role": "user", "content": "the ship"}]']]
        yield Attack(name=f"generation_config.json: {name}", kind="config.json", plant=plant, commands=commands)


def _set_strategy(entries: Mapping[str, Any], folder: Path) -> None:
    content = json.loads((folder / "lora" / "result.json").read_text())["recipe"]["strategy"]
    forge(folder / "lora", {"recipe.strategy": {**content, "config": dict(entries)}})


def _adapter_in_full_run(entries: Mapping[str, Any], folder: Path) -> None:
    edited(folder / "run" / "adapter_config.json", **{**entries, "base_model_name_or_path": str(folder / "base")})
    (folder / "run" / "adapter_model.bin").write_bytes(_payload(folder))


def _pickles() -> Iterator[Attack]:
    def plant(run: str, name: str, payload: str, kind: str, removed: Sequence[str], folder: Path) -> None:
        for each in removed:
            for path in (folder / run).glob(each):
                path.unlink()
        (folder / run / name).write_bytes(_payload(folder, payload, kind))
        checkpoint = (folder / run / name).parent
        if (checkpoint / "manifest.json").is_file():
            resealed(checkpoint)

    kinds = [(payload, kind) for kind in ("zip", "pickle", "legacy") for payload in files.payloads(Path())]
    for number, name in enumerate(WEIGHTS):
        for run in ("run", "lora", "adapters"):
            payload, kind = kinds[(5 * number + len(run)) % len(kinds)]
            yield Attack(
                name=f"{name} of {run}: {payload}, {kind}", kind="pickles",
                plant=functools.partial(plant, run, name, payload, kind, ["*.safetensors"]),
                commands=named(run, [PREDICT, READING[4]]),
            )  # fmt: skip
    for payload, kind in kinds:
        yield Attack(
            name=f"adapter_model.bin: {payload}, {kind}", kind="pickles",
            plant=functools.partial(plant, "lora", "adapter_model.bin", payload, kind, ["*.safetensors"]),
            commands=named("lora", [PREDICT]),
        )  # fmt: skip
        for name in STATES:
            yield Attack(
                name=f"checkpoint's {name}: {payload}, {kind}", kind="pickles",
                plant=functools.partial(
                    plant, "killed", f"checkpoint-1/{name}", payload, kind,
                    ["checkpoint-1/*.safetensors"] if name == "pytorch_model.bin" else [],
                ),
                commands=RESUME,
            )  # fmt: skip
        yield Attack(
            name=f"base's pytorch_model.bin: {payload}, {kind}", kind="pickles",
            plant=functools.partial(plant, "base", "pytorch_model.bin", payload, kind, ["*.safetensors"]),
            commands=named("lora", [PREDICT]),
        )  # fmt: skip

    def index(folder: Path) -> None:
        _index(folder / "run", _payload(folder))

    def header(run: str, name: str, folder: Path) -> None:
        (folder / run / name).write_bytes(files.oversized_header())

    yield Attack(name="index of pickles", kind="pickles", plant=index, commands=named("run", [PREDICT]))
    for run, name in (
        ("run", "model.safetensors"),
        ("lora", "adapter_model.safetensors"),
        ("base", "model.safetensors"),
    ):
        yield Attack(
            name=f"header of {run}/{name}", kind="pickles", plant=functools.partial(header, run, name),
            commands=named("lora" if run == "base" else run, [PREDICT]),
        )  # fmt: skip


def _templates() -> Iterator[Attack]:
    def plant(place: str, template: str, folder: Path) -> None:
        (folder / place / "chat_template.jinja").write_text(template)
        edited(folder / place / "tokenizer_config.json", chat_template=template)
        changed = {"preprocessor.options.chat_template": None, "recipe.preprocessor.chat_template": None}
        forge(folder / "chat", changed)

    message = '[{"role": "user", "content": "the ship"}]'
    for name, template in TEMPLATES.items():
        yield Attack(
            name=f"chat template: {name}", kind="chat templates", plant=functools.partial(plant, "chat", template),
            commands=[["predict", "chat", "--messages", message]], seconds=30,
        )  # fmt: skip
        yield Attack(
            name=f"chat template of the base model: {name}", kind="chat templates",
            plant=functools.partial(plant, "decoder", template), commands=named("chat", TRAINING[:1]), seconds=30,
        )  # fmt: skip


def _data() -> Iterator[Attack]:
    evaluated = [
        ["evaluate", "run", "--data", "DATA"],
        ["predict", "run", "DATA"],
        ["check", "run.yaml", "dataset=DATA"],
    ]

    def attack(name: str, plant: Any, data: str) -> Attack:
        commands = [[word.replace("DATA", data) for word in words] for words in evaluated]
        return Attack(name=name, kind="data files", plant=plant, commands=commands)

    def write(name: str, content: bytes, folder: Path) -> None:
        (folder / name).write_bytes(content)

    def pickle(name: str, folder: Path) -> None:
        (folder / name).write_bytes(_payload(folder, kind="pickle"))

    for suffix in ("csv", "json", "jsonl", "parquet", "arrow", "txt", "pkl", "npy", "npz", "pt", "gz", "csv.gz", "zip"):
        yield attack(f"pickle as .{suffix}", functools.partial(pickle, f"rows2.{suffix}"), f"rows2.{suffix}")
    slip = files.archive({"../outside/file": "changed", "rows.csv": "text,label\na,sea\n"})
    yield attack("archive with ..", functools.partial(write, "rows2.zip", slip), "rows2.zip")
    types = {"info": {"features": {"text": {"_type": "Image"}, "label": {"_type": "Value", "dtype": "string"}}}}
    audio = {"info": {"features": {"text": {"_type": "Audio"}, "label": {"_type": "Value", "dtype": "string"}}}}
    unknown = {"info": {"features": {"text": {"_type": "canary.Bird"}}}}
    for name, metadata in {"images": types, "sound": audio, "unknown types": unknown}.items():
        yield attack(f"parquet of {name}", lambda folder, m=metadata: files.parquet(folder, metadata=m), "rows.parquet")
    yield attack(
        "parquet with a pickled type",
        lambda folder: files.parquet(folder, extension=_payload(folder, kind="pickle")), "rows.parquet",
    )  # fmt: skip

    def saved(entries: Mapping[str, Any], features: Mapping[str, Any] | None, folder: Path) -> None:
        import datasets

        rows = datasets.Dataset.from_dict({"text": ["http://127.0.0.1:9/a"] * 4, "label": ["sea", "land"] * 2})
        rows.save_to_disk(str(folder / "saved"))
        edited(folder / "saved" / "state.json", **entries)
        if features is not None:
            edited(folder / "saved" / "dataset_info.json", features=dict(features))

    yield attack(
        "saved data set with a file outside",
        functools.partial(saved, {"_data_files": [{"filename": "../outside/file"}]}, None),
        "saved",
    )
    yield attack("saved data set of images", functools.partial(saved, {}, types["info"]["features"]), "saved")
    yield attack(
        "saved data set with a format", functools.partial(saved, {"_format_type": "canary.Bird"}, None), "saved"
    )

    def recipe(text: str, folder: Path) -> None:
        (folder / "hostile.yaml").write_text(text)

    for name, text in {
        "python/object/apply": "task: !!python/object/apply:os.system ['touch sung']",
        "python/module": "task: !!python/module:canary",
        "python/name": "task: !!python/name:canary.sing",
        "python/object/new": "!!python/object/new:canary.Bird []",
        "merge key": "a: &a {x: 1}\ntask: {<<: *a}",
        "include": "task: !include /etc/passwd",
    }.items():
        yield Attack(
            name=f"YAML: {name}", kind="recipes", plant=functools.partial(recipe, text),
            commands=[["check", "hostile.yaml"], ["train", "hostile.yaml"]],
        )  # fmt: skip


def _links() -> Iterator[Attack]:
    def link(run: str, name: str, folder: Path) -> None:
        path = folder / run / name
        target = folder / OUTSIDE / "file"
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            target = folder / OUTSIDE
        else:
            path.unlink(missing_ok=True)
        path.symlink_to(target)

    for name in ("report.html", "README.md", "predictions.jsonl"):
        yield Attack(
            name=f"link {name}", kind="links", plant=functools.partial(link, "run", name),
            commands=named("run", READING),
        )  # fmt: skip
    for name in (
        "log.jsonl", "tokenizer.json", "tokenizer_config.json", "config.json", "model.safetensors", ".lock",
        "recipe.yaml", "result.json", "report.html", "predictions.jsonl", "dropped.jsonl", "files", "checkpoint-2",
        "runs", "checkpoint-1/trainer_state.json", "torn-checkpoint-2", "training_args.bin", "README.md",
    ):  # fmt: skip
        yield Attack(
            name=f"link {name}, resumed", kind="links", plant=functools.partial(link, "killed", name), commands=RESUME
        )

    def guessed(run: str, name: str, folder: Path) -> None:
        """Lay a link for the temporary file of each process that may come."""
        now = os.getpid()
        for process in range(now, now + 3000):
            (folder / run / f".{name}.{process}").symlink_to(folder / OUTSIDE / "file")

    for run, name, words in (
        ("run", "report.html", READING[3]), ("run", "README.md", READING[2]), ("killed", "recipe.yaml", RESUME[0]),
    ):  # fmt: skip
        yield Attack(
            name=f"link at the temporary name of {name}", kind="links", plant=functools.partial(guessed, run, name),
            commands=named(run, [words]),
        )  # fmt: skip


def _lying_around() -> Iterator[Attack]:
    def plant(folder: Path) -> None:
        for name in LOADABLE:
            shutil.copy(folder / "modules" / "canary.py", folder / f"{name}.py")
            shutil.copy(folder / "modules" / "canary.py", folder / "run" / f"{name}.py")
        for place in (folder, folder / "run"):
            (place / "matplotlibrc").write_text(RC)
            (place / "setup.cfg").write_text("[finetune]\nplugins = canary\n")
            (place / "pyproject.toml").write_text("[project.entry-points.finetune]\nbird = 'canary'\n")
            (place / "bird.dist-info").mkdir()
            (place / "bird.dist-info" / "entry_points.txt").write_text("[finetune]\nbird = canary\n")
            (place / "bird.dist-info" / "METADATA").write_text("Name: bird\nVersion: 1\n")

    others = (
        ["init", "text-classification"], ["list"], ["show", "lora"], ["schema"], ["doctor"],
        ["plugin", "new", "finetune-bird"], ["merge", "lora"], ["demo", "--help"],
    )  # fmt: skip
    yield Attack(
        name="modules and settings in the current folder", kind="current folder", plant=plant,
        commands=[*others, *named("run", [*READING, *TRAINING]), *RESUME],
    )  # fmt: skip


VALUES: Sequence[Any] = (
    "canary:sing", "canary.sing", "file:///etc/passwd", "http://127.0.0.1:9/x", "../outside/file", "someone/canary",
    ["canary:sing"], {"name": "canary:Bird"}, {"path": "canary:sing"}, {"class": "canary:Bird", "options": {}},
    {"canary:sing": "canary:sing"}, "evaluate:canary:Bird", "package:canary/x", "~/.ssh", "{{ cycler }}", None, -1, "",
)  # fmt: skip
"""What each key of result and recipe is set to."""

NOT_KEYS = ("arguments", "environment", "log", "findings", "phases")
"""Parts of a result that are shown, and in which no single key is tried."""


def _keys(prepared: Path, random: Random, most: int | None) -> Iterator[Attack]:
    def plant(run: str, place: str, value: Any, folder: Path) -> None:
        forge(folder / run, {place: value})

    places = []
    for run, beginning in (("run", ""), ("lora", "recipe.strategy"), ("lora", "recipe.model")):
        content = json.loads((prepared / run / "result.json").read_text())
        places += [(run, place) for place in _walk(content, "") if place.startswith(beginning)]
    random.shuffle(places)
    for number, (run, place) in enumerate(places[:most]):
        value = VALUES[number % len(VALUES)]
        reading = PREDICT if number % 2 else READING[number % len(READING)]
        yield Attack(
            name=f"{run}: {place} = {value!r}", kind="keys", plant=functools.partial(plant, run, place, value),
            commands=named(run, [reading, *(TRAINING[1:] if place.startswith("recipe.") else ())]),
        )  # fmt: skip


def _walk(value: Any, place: str) -> Iterator[str]:
    """Yield the place of each key, with dots."""
    if place:
        yield place
    if isinstance(value, dict) and place.count(".") < 3 and not place.startswith(NOT_KEYS):
        for key, below in value.items():
            if "." not in key:
                yield from _walk(below, f"{place}.{key}" if place else key)
