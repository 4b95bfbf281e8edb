"""The boundary to the libraries below: what finetune assumes of them holds, and fails loudly where it does not."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import families
import pytest
import torch
import transformers
from packaging.requirements import Requirement
from transformers import Trainer

from finetune import models
from finetune.errors import FinetuneError, UpstreamChanged
from finetune.testing.tokenizers import tokenizer
from finetune.training import upstream
from finetune.training.collate import padded_by_tokenizer
from finetune.training.trainer import PatchedTrainer

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "finetune").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")])
FOREIGN = ("transformers", "trl", "peft", "bitsandbytes", "accelerate")
PROMISED = {
    "put", "end", "connection_made", "data_received", "connection_lost",
    "__init__", "train", "evaluate", "predict", "evaluation_loop", "prediction_step", "get_eval_dataloader",
    "get_test_dataloader", "get_train_dataloader", "create_model_card", "training_step", "compute_loss", "state", "log",
    "create_accelerator_and_postprocess", "setup",
}  # fmt: skip
"""Public methods of other libraries' trainers that finetune overrides on purpose; callbacks' begin with `on_`, and
`setup` of a tracker's callback is there to be overridden."""
WRAPPERS = {
    "get_decay_parameter_names": "decay_parameter_names",
    "_from_model_config": "keep_generation_options",
}
"""Private names that a function of `upstream` uses for the files that an assumption names."""


# The assumptions


@pytest.mark.parametrize("assumption", upstream.ASSUMPTIONS, ids=lambda assumption: assumption.name)
def test_an_assumption_holds(assumption: upstream.Assumption) -> None:
    upstream.check(assumption)


@pytest.mark.parametrize("assumption", upstream.ASSUMPTIONS, ids=lambda assumption: assumption.name)
def test_an_assumption_names_files_that_use_it(assumption: upstream.Assumption) -> None:
    name = WRAPPERS.get(assumption.attribute, assumption.attribute)
    for path in assumption.used_by.split(", "):
        content = (ROOT / path).read_text(encoding="utf-8")
        assert name in content or assumption.kind == "text", f"{path} does not use {name}"


def test_a_name_that_is_gone_is_an_error_that_says_what_why_and_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert issubclass(UpstreamChanged, FinetuneError)
    monkeypatch.delattr(Trainer, "_load_best_model")
    message = (
        f"transformers {version('transformers')} has no transformers.Trainer._load_best_model, which finetune needs to "
        "read a strategy's checkpoint when a run resumes, and when it keeps the best model "
        '(finetune/training/trainer.py). pip install "transformers>=5.23,<5.24".'
    )
    with pytest.raises(UpstreamChanged, match=re.escape(message)):
        upstream.require("transformers.Trainer", "_load_best_model")
    assert upstream.problems()["transformers.Trainer._load_best_model"] == message


@pytest.mark.parametrize("method", ["_load_best_model", "_get_eval_sampler", "_save_checkpoint", "_get_output_dir"])
def test_a_trainer_whose_base_lacks_a_method_is_not_built(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Trainer, method)
    with pytest.raises(UpstreamChanged, match=rf"has no transformers\.Trainer\.{method}, which finetune needs to"):
        PatchedTrainer(model=None, args=None)


def test_a_trainer_of_trl_that_would_report_runs_again_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    import trl

    from finetune_trl.sft.trainer import PatchedSFTTrainer

    base = next(cls for cls in trl.SFTTrainer.__mro__ if "_send_telemetry" in vars(cls))
    monkeypatch.delattr(base, "_send_telemetry")
    message = r'has no trl\.SFTTrainer\._send_telemetry, .* reported to the Hub .* pip install "trl>=1\.16,<1\.17"'
    with pytest.raises(UpstreamChanged, match=message):
        PatchedSFTTrainer(model=None, args=None)


def test_an_attribute_that_a_base_no_longer_sets_is_missed_when_the_object_is_made() -> None:
    built = object.__new__(PatchedTrainer)
    with pytest.raises(UpstreamChanged, match=r"has no transformers\.Trainer\.model_accepts_loss_kwargs"):
        upstream.require_attributes(built)


def test_a_text_that_upstream_changed_is_missed() -> None:
    changed = upstream.Assumption(
        owner="transformers.modeling_utils",
        attribute="ANOTHER_VARIABLE",
        needed_to="load no pickle",
        used_by="finetune/models.py",
        kind="text",
    )
    with pytest.raises(UpstreamChanged, match=r"has no 'ANOTHER_VARIABLE' in transformers\.modeling_utils, which"):
        upstream.check(changed)


def test_the_weight_decay_of_a_trainer_that_reads_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))
    assert upstream.decay_parameter_names(model) == {"0.weight"}
    monkeypatch.setattr(Trainer, "get_decay_parameter_names", lambda self, model: self.args.decayed)
    with pytest.raises(UpstreamChanged, match="that works without a trainer"):
        upstream.decay_parameter_names(model)


def test_the_installed_versions_are_supported_and_no_assumption_fails() -> None:
    assert upstream.problems() == {}


def test_the_supported_versions_are_those_of_the_package_and_have_a_ceiling() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stated = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        stated += extra
    supported = {Requirement(text).name: Requirement(text) for text in upstream.SUPPORTED}
    found = {}
    for text in stated:
        requirement = Requirement(text)
        if requirement.name in supported:
            found[requirement.name] = requirement.specifier
    assert found == {name: requirement.specifier for name, requirement in supported.items()}
    for name, requirement in supported.items():
        assert any(part.operator == "<" for part in requirement.specifier), f"{name} has no ceiling"
    libraries = {assumption.owner.partition(".")[0] for assumption in upstream.ASSUMPTIONS}
    assert libraries <= set(supported), "an assumption about a library without a ceiling"


def test_a_version_that_finetune_does_not_support_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "version", lambda name: {"transformers": "5.24.0", "trl": "1.16.3"}[name])
    monkeypatch.setattr(upstream, "SUPPORTED", {"transformers>=5.23,<5.24": "", "trl>=1.16,<1.17": ""})
    (sentence,) = upstream.unsupported()
    assert sentence == (
        "transformers 5.24.0 is installed, and finetune is tested with transformers>=5.23,<5.24: results may be wrong "
        'without an error. pip install "transformers>=5.23,<5.24".'
    )


# Overrides: a method that overrides nothing is never called, and nothing says so


def is_foreign(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in FOREIGN


@functools.cache
def own_classes() -> list[type]:
    """Return every class of the project that extends a class of a library below it."""
    found: dict[type, None] = {}
    for package in ("finetune", *(path.name for path in sorted((ROOT / "plugins").glob("finetune_*")))):
        root = importlib.import_module(package)
        for entry in pkgutil.walk_packages(root.__path__, f"{package}."):
            if entry.name.endswith("__main__"):
                continue
            for value in vars(importlib.import_module(entry.name)).values():
                if inspect.isclass(value) and value.__module__ == entry.name and any(map(is_foreign, value.__mro__)):
                    found[value] = None
    return list(found)


def bases_of(cls: type) -> list[type]:
    """Return the foreign bases of a class and of every class that extends it: a mixin overrides what those have."""
    family = [other for other in own_classes() if issubclass(other, cls)]
    return list(dict.fromkeys(base for member in family for base in member.__mro__ if is_foreign(base)))


def methods_of(cls: type) -> Iterator[str]:
    for name, value in vars(cls).items():
        if not name.startswith("__") and (callable(value) or isinstance(value, property | staticmethod | classmethod)):
            yield name


@functools.cache
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@functools.cache
def names_in_use() -> set[str]:
    """Return every name that the project reads as an attribute of anything but `super()`."""
    used = set()
    for path in FILES:
        for node in nodes_of(path):
            if isinstance(node, ast.Attribute) and not is_super(node.value):
                used.add(node.attr)
    return used


def is_super(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def test_the_classes_that_extend_another_library_are_found() -> None:
    names = {cls.__name__ for cls in own_classes()}
    assert {"PatchedTrainer", "PatchedTRLTrainer", "PatchedSFTTrainer", "PatchedGRPOTrainer", "WriteLog"} <= names


def test_every_method_overrides_one_of_upstream_or_is_called() -> None:
    for cls in own_classes():
        bases = bases_of(cls)
        for name in methods_of(cls):
            exists = any(name in vars(base) for base in bases)
            assert exists or name in names_in_use(), f"{cls.__name__}.{name} overrides nothing, and nothing calls it"


def test_every_override_of_a_private_method_is_an_assumption() -> None:
    listed = {(each.owner.rpartition(".")[2], each.attribute) for each in upstream.ASSUMPTIONS}
    for cls in own_classes():
        for name in methods_of(cls):
            bases = [base for base in bases_of(cls) if name in vars(base)]
            if not bases:
                continue
            if name.startswith("_"):
                owners = {base.__name__ for base in bases_of(cls)}
                known = any((owner, name) in listed for owner in owners)
                assert known, f"{cls.__name__}.{name} overrides a private method that ASSUMPTIONS lacks"
            else:
                promised = name in PROMISED or name.startswith("on_")
                assert promised, f"{cls.__name__}.{name} hides {bases[0].__name__}.{name}; rename it, or add it here"


# No module but one reaches into another library


def test_every_private_name_of_another_library_is_an_assumption() -> None:
    own: set[str] = {"_exit"}  # `os._exit` is in Python's documentation
    read: dict[str, str] = {}
    for path in FILES:
        for node in nodes_of(path):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                own.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
            elif isinstance(node, ast.Attribute):
                private = node.attr.startswith("_") and not node.attr.startswith("__")
                on_self = isinstance(node.value, ast.Name) and node.value.id == "self"
                if private and on_self and isinstance(node.ctx, ast.Store):
                    own.add(node.attr)
                elif private:
                    read[node.attr] = f"{path.relative_to(ROOT)}:{node.lineno}"
    listed = {assumption.attribute for assumption in upstream.ASSUMPTIONS}
    unlisted = {name: place for name, place in read.items() if name not in own | listed}
    assert not unlisted, f"private names of other libraries that ASSUMPTIONS lacks: {unlisted}"


def test_no_module_but_one_changes_another_library_or_the_environment() -> None:
    for path in FILES:
        if path.name in {"upstream.py", "demo.py"}:  # `finetune demo` sets OMP_WAIT_POLICY before it loads torch
            continue
        imported = set()
        for node in nodes_of(path):
            if isinstance(node, ast.Import):
                imported |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        for node in nodes_of(path):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                assert root_of(node) not in imported, f"{where} changes another module; use `replaced`"
            elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
                assert not is_environ(node.value), f"{where} changes os.environ; use `environment`"
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                changes = node.func.attr in {"setdefault", "update", "pop"} and is_environ(node.func.value)
                assert not changes, f"{where} changes os.environ; use `environment`"
                assert node.func.attr != "setLevel", f"{where} changes a logger; use `suppress_logger`"


def root_of(node: ast.expr) -> str:
    """Return the first name of `a.b.c`."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def is_environ(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "environ"


def test_an_import_changes_no_logger_no_variable_and_no_other_library() -> None:
    code = """
import logging, os, warnings
import torch, transformers
before = dict(os.environ), list(warnings.filters), logging.root.level, list(logging.root.handlers)
names = ("Trainer", "PreTrainedModel", "AutoModel", "TrainingArguments")
classes = [dict(vars(getattr(transformers, name))) for name in names]
import finetune, finetune.models, finetune.plan
finetune.train
after = dict(os.environ), list(warnings.filters), logging.root.level, list(logging.root.handlers)
assert after[0] == before[0], after[0].keys() ^ before[0].keys()
assert after[2:] == before[2:], after
assert [dict(vars(getattr(transformers, name))) for name in names] == classes
for name, logger in logging.Logger.manager.loggerDict.items():
    if name.startswith("bitsandbytes") and isinstance(logger, logging.Logger):
        assert not logger.filters and not logger.disabled and logger.level == logging.NOTSET, name
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


WARNING_AT_IMPORT = """
import logging, sys

class Warns:
    def find_spec(name, path=None, target=None):
        if name == "bitsandbytes.backends.cpu.ops":  # as it does on a CPU with AVX512-BF16
            logging.getLogger(name).warning("no kernel")
            print("imported", name)

sys.meta_path.insert(0, Warns)
"""


@pytest.mark.parametrize(
    ("code", "warns"),
    [
        ("import finetune; finetune.train", False),
        ("import finetune.plan", False),  # as in `finetune check`
        ("import transformers; transformers.Trainer", True),
    ],
)
def test_the_api_imports_bitsandbytes_without_its_warning(code: str, warns: bool) -> None:
    command = [sys.executable, "-c", WARNING_AT_IMPORT + code]
    found = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    assert "imported bitsandbytes" in found.stdout
    assert ("no kernel" in found.stderr) == warns


# Temporary changes


def test_a_replacement_ends_with_its_block_whatever_happens() -> None:
    own = transformers.utils.logging.set_verbosity
    with upstream.replaced("transformers.utils.logging", "set_verbosity", 1) as original:
        assert original is own
        assert transformers.utils.logging.set_verbosity == 1
        with upstream.replaced("transformers.utils.logging", "set_verbosity", 1) as original:
            assert original is own
        assert transformers.utils.logging.set_verbosity == 1
        inner = upstream.replaced("transformers.utils.logging", "set_verbosity", 2)
        with pytest.raises(ValueError, match="inside"), inner:
            raise ValueError("inside")
        assert transformers.utils.logging.set_verbosity == 1
    assert transformers.utils.logging.set_verbosity is own


def test_what_is_not_there_is_not_replaced() -> None:
    with (
        pytest.raises(UpstreamChanged, match=r"has no transformers\.utils\.logging\.set_loudness"),
        upstream.replaced("transformers.utils.logging", "set_loudness", 1),
    ):
        pytest.fail("the block must not begin")
    assert not hasattr(transformers.utils.logging, "set_loudness")
    with (
        pytest.raises(UpstreamChanged, match=r"has no transformers\.no_such_module\.name"),
        upstream.replaced("transformers.no_such_module", "name", 1),
    ):
        pytest.fail("the block must not begin")


def test_threads_may_leave_their_blocks_in_any_order() -> None:
    own = transformers.utils.logging.set_verbosity
    begun, may_end = threading.Event(), threading.Event()

    def first() -> None:
        with upstream.replaced("transformers.utils.logging", "set_verbosity", "first"):
            begun.set()
            may_end.wait(60)

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(60)
    with upstream.replaced("transformers.utils.logging", "set_verbosity", "second") as original:
        assert original is own
        may_end.set()
        thread.join(60)
        assert transformers.utils.logging.set_verbosity == "second"
    assert transformers.utils.logging.set_verbosity is own


def test_a_variable_of_the_environment_gets_its_value_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_ONE", "before")
    monkeypatch.delenv("FINETUNE_TWO", raising=False)
    with upstream.environment("FINETUNE_ONE", "inside") as one, upstream.environment("FINETUNE_TWO", "inside") as two:
        assert (one, two) == ("before", None)
        assert os.environ["FINETUNE_ONE"] == os.environ["FINETUNE_TWO"] == "inside"
    assert os.environ["FINETUNE_ONE"] == "before"
    assert "FINETUNE_TWO" not in os.environ


def test_a_logger_is_silent_inside_the_block_alone(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    with upstream.suppress_logger(logger.name), upstream.suppress_logger(logger.name):
        logger.warning("unheard")
    logger.warning("heard")
    assert [record.message for record in caplog.records] == ["heard"]
    assert not logger.filters


# Decoders that classify

PAD_OF_TOKENIZER, PAD_OF_CONFIG = 5, 7
ANY_SIDE = (
    "llama", "mistral", "qwen3", "opt", "bloom", "falcon", "gpt_neox", "gptj", "phi", "gemma", "stablelm", "mpt",
    "modernbert-decoder",
)  # fmt: skip
"""Decoders whose positions are relative, or counted without padding."""
RIGHT_SIDE = ("gpt2", "openai-gpt", "gpt_neo", "biogpt", "ctrl", "gpt_bigcode", "mbart", "plbart")
"""Decoders that count positions from the first token of the batch, so that padding on the left moves a text."""
OTHERS = ("bert", "roberta", "distilbert", "electra", "albert", "deberta-v2", "xlm", "flaubert")
"""Encoders, which pool the first token."""


def tiny_classifier(family: str) -> Any:
    special = {"pad_token_id": PAD_OF_CONFIG, "bos_token_id": 1, "eos_token_id": 2, "num_labels": 3}
    return families.tiny(family, "AutoModelForSequenceClassification", **special)


@torch.no_grad()
def logits_alone_and_in_a_batch(model: Any, *, side: str) -> tuple[torch.Tensor, torch.Tensor]:
    text, longer, padding = [1, 20, 21, 22, 2], [1, 10, 11, 12, 13, 14, 15, 2], [PAD_OF_TOKENIZER] * 3
    row = text + padding if side == "right" else padding + text
    batch = torch.tensor([longer, row])
    alone = model(input_ids=torch.tensor([text]), attention_mask=torch.ones(1, len(text), dtype=torch.long)).logits[0]
    together = model(input_ids=batch, attention_mask=(batch != PAD_OF_TOKENIZER).long()).logits[1]
    return alone, together


@pytest.mark.parametrize(
    ("family", "side"),
    [(family, "right") for family in ANY_SIDE + RIGHT_SIDE] + [(family, "left") for family in ANY_SIDE],
)
def test_a_decoder_classifies_a_text_alone_as_in_a_batch_padded_by_the_tokenizer(family: str, side: str) -> None:
    model = tiny_classifier(family)
    alone, together = logits_alone_and_in_a_batch(model, side=side)
    if side == "right":
        assert (alone - together).abs().max() > 1e-5, "the padding token of the configuration would do as well"
    models.set_pad_token(model, SimpleNamespace(pad_token_id=PAD_OF_TOKENIZER))
    assert model.config.get_text_config().pad_token_id == PAD_OF_TOKENIZER
    alone, together = logits_alone_and_in_a_batch(model, side=side)
    assert torch.allclose(alone, together, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", [*ANY_SIDE, *RIGHT_SIDE, *OTHERS, "xlnet"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_text_is_classified_alone_as_in_a_batch_regardless_of_the_side_of_the_tokenizer(
    family: str, side: str
) -> None:
    model = tiny_classifier(family)
    words = tokenizer("roberta", vocab_size=300)
    words.padding_side = side
    models.set_pad_token(model, words)
    rows = [{"input_ids": [5, 20, 21, 22, 2]}, {"input_ids": [5, 10, 11, 12, 13, 14, 15, 2]}]
    collate = padded_by_tokenizer(words, model)
    with torch.no_grad():
        alone, together = (model(**collate(batch)).logits[0] for batch in (rows[:1], rows))
    assert torch.allclose(alone, together, rtol=0, atol=1e-6)
    assert words.padding_side == side


@pytest.mark.parametrize("family", OTHERS)
def test_a_classifier_that_pools_otherwise_keeps_the_padding_token_of_its_configuration(family: str) -> None:
    model = tiny_classifier(family)
    before = logits_alone_and_in_a_batch(model, side="right")
    models.set_pad_token(model, SimpleNamespace(pad_token_id=PAD_OF_TOKENIZER))
    assert model.config.get_text_config().pad_token_id == PAD_OF_CONFIG
    after = logits_alone_and_in_a_batch(model, side="right")
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert torch.allclose(*after, atol=1e-5)


def test_a_model_without_a_padding_token_gets_that_of_the_tokenizer() -> None:
    model = tiny_classifier("bert")
    model.config.pad_token_id = None
    models.set_pad_token(model, SimpleNamespace(pad_token_id=PAD_OF_TOKENIZER))
    assert model.config.pad_token_id == PAD_OF_TOKENIZER


@pytest.mark.parametrize("family", ["llama", "modernbert-decoder"])
def test_a_decoder_keeps_its_padding_token_if_the_tokenizer_has_none(family: str) -> None:
    model = tiny_classifier(family)
    models.set_pad_token(model, SimpleNamespace(pad_token_id=None))
    assert model.config.pad_token_id == PAD_OF_CONFIG
