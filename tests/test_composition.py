"""Every task with every strategy: it trains, or it is refused before the first step with the reason.

The suite tries every task and every strategy at least once, and every cell in which something once was wrong.
``pytest -m slow tests/test_composition.py`` tries all cells and writes `docs/reference/compatibility.md`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import compatibility
import pytest
import trial
from cases import case
from compatibility import FAILS, TRAINS, Cell, Trap
from trial import in_new_process
from variants import installed

import finetune
from finetune.interfaces import Task
from finetune.plugins import discover
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer

ROOT = Path(__file__).parents[1]
COMMAND = "pytest -m slow tests/test_composition.py"
TASKS: dict[str, Task] = dict(discover().catalogues["tasks"].targets)
VARIANTS = installed()
ENCODERS = {"bert": "bert", "roberta": "roberta", "distilbert": "bert", "electra": "bert", "deberta": "deberta"}
"""Family of models → family of tokenizers."""
HEADED = ("text-classification", "question-answering", "token-classification")
TIED = ("summarization", "translation")

FREEZE, PEFT = "tests/plugins/finetune_freeze", "tests/plugins/finetune_peft"
TRAPS = (
    Trap(
        what="T5's and BART's head is tied to their embeddings: freezing the body leaves nothing to train.",
        cells=[(task, "frozen") for task in TIED],
        tests=[f"{FREEZE}/test_tied_heads.py::test_frozen_trains_the_last_block_and_the_norm_after_it_and_says_so"],
    ),
    Trap(
        what="A layer that is frozen before the optimizer exists is never trained, whatever is unfrozen later.",
        cells=[("text-classification", "gradual")],
        tests=[
            f"{FREEZE}/test_freeze_runs.py::"
            "test_a_layer_keeps_its_bits_until_its_stage_and_moves_at_every_step_from_then_on"
        ],
    ),
    Trap(
        what="Thin matrices next to every linear layer replace a newly initialized head: it is lost at reload, or PEFT "
        "cannot wrap it.",
        cells=[(task, "lora-all-linear") for task in (*HEADED, "reward")],
    ),
    Trap(
        what="BERT's pooler is missing from most bases; PEFT neither trains nor saves it.",
        cells=[("text-classification", "lora")],
        tests=[f"{PEFT}/test_peft_runs.py::test_what_trains_is_what_the_method_adds_and_what_was_newly_initialized"],
    ),
    Trap(
        what="transformers' own loader drops DoRA's magnitudes when it is given an adapter.",
        cells=[("question-answering", "dora")],
    ),
    Trap(
        what="Evaluating a 4-bit layer on a CPU with AVX512-BF16 repacks it: gradients and saved weights are wrong "
        "after that.",
        cells=[("text-classification", "qlora")],
    ),
    Trap(what="A 4-bit head cannot be trained completely.", cells=[("question-answering", "qlora")]),
    Trap(
        what="TRL casts the trained parameters of a 4-bit model to bfloat16: a reward model crashes, others reload as "
        "another model.",
        cells=[("reward", "qlora"), ("dpo", "qlora")],
    ),
    Trap(
        what="A checkpoint of P-tuning, or of prefixes with a projection, lacks the network: resuming silently "
        "continues with another one, or crashes.",
        cells=[("text-classification", "ptuning"), ("causal-language-modeling", "prefix-projection")],
        tests=[f"{PEFT}/test_peft_runs.py::test_a_checkpoint_without_its_network_is_refused"],
    ),
    Trap(
        what="With prompts and P-tuning, a tagger's outputs are longer than its labels.",
        cells=[("token-classification", "prompt"), ("token-classification", "ptuning")],
        tests=[f"{PEFT}/test_virtual.py::test_tags_belong_to_the_tokens_of_the_text"],
    ),
    Trap(
        what="PEFT has no type for masked language modelling, which methods with virtual tokens need.",
        cells=[("masked-language-modeling", name) for name in ("prefix", "prompt", "ptuning")],
        tests=[f"{PEFT}/test_virtual.py::test_a_task_without_a_type_of_peft_is_refused_virtual_tokens"],
    ),
    Trap(
        what="PEFT does not know the names of BERT's norms.",
        cells=[("multi-label-classification", "layernorm")],
        tests=[f"{PEFT}/test_virtual.py::test_every_family_of_encoders_has_targets_without_target_modules"],
    ),
    Trap(
        what="With a prefix, TRL's RLOO and GRPO stop with an error while they generate.",
        cells=[("rloo", "prefix"), ("grpo", "prefix")],
    ),
    Trap(
        what="A prefix is stored in the key-value cache, which activation checkpointing (TRL's default) disables.",
        tests=[f"{PEFT}/test_peft_runs.py::test_a_prefix_under_activation_checkpointing_is_refused"],
    ),
    Trap(
        what="TRL's reference model is a copy of the prefix that is trainable, too.",
        cells=[("dpo", "prefix")],
        tests=[f"{PEFT}/test_virtual.py::test_the_reference_of_an_adapter_is_its_base_model_and_no_second_copy"],
    ),
)


def cells() -> list[Cell]:
    """Return every task with every variant."""
    return [(task, variant) for task in sorted(TASKS) for variant in VARIANTS]


def quick() -> Iterator[Cell]:
    """Yield the cells of the traps, and as few others as it takes to try every task and every variant."""
    chosen = [cell for trap in TRAPS for cell in trap.cells if cell[0] in TASKS and cell[1] in VARIANTS]
    yield from dict.fromkeys(chosen)
    tasks = [task for task in sorted(TASKS) if task not in {task for task, _ in chosen}]
    variants = [name for name in VARIANTS if name not in {name for _, name in chosen}]
    for number in range(max(len(tasks), len(variants))):
        task = tasks[number] if number < len(tasks) else sorted(TASKS)[number % len(TASKS)]
        yield task, variants[number] if number < len(variants) else list(VARIANTS)[number % len(VARIANTS)]


@cache
def page() -> dict[Cell, str]:
    """Return what the committed page says of every cell."""
    return compatibility.written(compatibility.PAGE.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return what writes, once, a tiny model of a family: encoders without a head and, for BERT, without a pooler."""
    folder = tmp_path_factory.mktemp("bases")

    @cache
    def base(family: str, words: str, positions: int = 128) -> Path:
        heads = {"bert": "AutoModelForMaskedLM", "gpt2": "AutoModelForCausalLM", "llama": "AutoModelForCausalLM",
                 "t5": "AutoModelForSeq2SeqLM", "bart": "AutoModelForSeq2SeqLM"}  # fmt: skip
        made = tokenizer(words, vocab_size=600)
        # the dropout of these is louder than what ten steps of a few parameters teach
        still = {"bart": {"dropout": 0.0}, "distilbert": {"dropout": 0.0, "seq_classif_dropout": 0.0}}.get(family, {})
        room = {} if positions == 128 else {"max_position_embeddings": positions}
        where = folder / f"{family}-{words}-{positions}"
        return tiny_model(family, made, where, model_class=heads.get(family, "AutoModel"), **still, **room)

    return base


def recipe(task: str, strategy: Any, base: Path, output: Path) -> dict[str, Any]:
    return {
        "task": task,
        "model": str(base),
        "dataset": {**TASKS[task].starter["dataset"], "limit": {"train": case(task).rows, "validation": 8, "test": 8}},
        "strategy": strategy,
        "preprocessor": case(task).preprocessor,
        "training": {"max_steps": 2 * trial.HALF, "per_device_train_batch_size": 64, "learning_rate": 1e-2,
                     "logging_steps": 1, "save_strategy": "no", "eval_strategy": "no",
                     "lr_scheduler_type": "constant", **case(task).training},
        "generation": case(task).generation,
        "score_base_model": False,
        "general_text": "none",
        "output": str(output),
    }  # fmt: skip


def outcome(cell: Cell, base: Path, folder: Path) -> str:
    """Try a cell: return `TRAINS`, once everything that the page promises was so, or the words of the refusal."""
    task, variant = cell[0], VARIANTS[cell[1]]
    tried = recipe(task, variant.section, base, folder / "run")
    # two batches an epoch: what is resumed stands in the middle of one
    size = min(case(task).rows // 2, tried["training"]["per_device_train_batch_size"])
    tried["training"] |= {"save_strategy": "steps", "save_steps": trial.HALF, "per_device_train_batch_size": size}
    tried["training"] |= variant.training
    expected = variant.refused.get(task) or case(task).refused.get(cell[1])
    seen = in_new_process(trial.straight, tried)
    if seen.refusal or expected:
        assert seen.refusal and expected and expected in seen.refusal, (
            f"{seen.refusal!r} was not expected: {expected!r}"
        )
        return str(seen.refusal)
    first, last = sum(seen.losses[:4]), sum(seen.losses[-4:])  # two epochs each: the same rows
    assert not case(task).learns or last < first, f"the loss did not fall: {seen.losses}"
    assert seen.moved == seen.trainable, "what moved is not what trains"
    parts = {part for name in seen.moved for part in name.split(".")}
    assert {module.rpartition(".")[2] for module in seen.newly_initialized} <= parts, (
        "what was newly initialized did not move"
    )
    assert seen.moved == variant.parameters(seen.parameters, seen.moved), "other parameters train than should"
    differences = in_new_process(trial.again, tried)
    assert not differences
    return TRAINS


@pytest.mark.parametrize(("task", "variant"), list(quick()))
def test_what_once_was_wrong_and_every_task_and_strategy_are_as_the_page_says(
    task: str, variant: str, bases: Any, tmp_path: Path
) -> None:
    of = case(task)
    seen = outcome((task, variant), bases(of.family, of.words, of.positions), tmp_path)
    assert compatibility.as_written(seen) == page()[task, variant]


def test_the_page_has_every_task_and_strategy_that_is_installed() -> None:
    assert sorted(page()) == sorted(cells()), f"the page is stale; write it again with `{COMMAND}`"
    assert [cell for cell, outcome in page().items() if outcome == FAILS] == []


def test_what_holds_a_trap_exists() -> None:
    for trap in TRAPS:
        assert trap.cells or trap.tests, trap.what
        assert set(trap.cells) <= set(quick()), trap.what
        for test in trap.tests:
            path, _, name = test.partition("::")
            defined = {node.name for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
                       if isinstance(node, ast.FunctionDef)}  # fmt: skip
            assert name in defined, f"{path} has no {name}"


def test_what_goes_wrong_is_seen(bases: Any, tmp_path: Path) -> None:
    tried = recipe("text-classification", "crooked:Crooked", bases("bert", "bert"), tmp_path / "run")
    tried["training"] |= {"save_strategy": "steps", "save_steps": trial.HALF}
    seen = in_new_process(trial.straight, tried)
    assert seen.moved - seen.trainable == {"bert.embeddings.word_embeddings.weight"}
    (difference,) = in_new_process(trial.again, tried)
    assert difference == "resumed: model.safetensors: bert.embeddings.word_embeddings.weight differs"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are counted in /proc")
def test_a_new_process_is_forked_from_one_that_has_imported_everything_and_runs_nothing_beside() -> None:
    seen = in_new_process(trial.forkserver_state)
    assert seen["not imported"] == []
    # pyarrow's allocator has a thread of its own, and takes care of it when a process is forked
    main, *others = sorted(seen["threads"], key=lambda name: name == "jemalloc_bg_thd")
    assert main != "jemalloc_bg_thd" and set(others) <= {"jemalloc_bg_thd"}


OUTCOMES: dict[Cell, str] = {}
"""What the cells of this session came to."""


@pytest.mark.slow
@pytest.mark.parametrize(("task", "variant"), cells())
def test_every_task_trains_by_every_strategy(task: str, variant: str, bases: Any, tmp_path: Path) -> None:
    of = case(task)
    OUTCOMES[task, variant] = FAILS
    OUTCOMES[task, variant] = outcome((task, variant), bases(of.family, of.words, of.positions), tmp_path)


@pytest.mark.slow
def test_the_page_is_written_when_every_cell_was_tried() -> None:
    if missing := set(cells()) - set(OUTCOMES):
        pytest.skip(f"{len(missing)} cells were not tried in this session; the page stays as it is")
    compatibility.PAGE.write_text(compatibility.page(OUTCOMES, VARIANTS, TRAPS, COMMAND), encoding="utf-8")
    assert compatibility.written(compatibility.PAGE.read_text(encoding="utf-8")) == {
        cell: compatibility.as_written(seen) for cell, seen in OUTCOMES.items()
    }


NO_ATTENTION_DROPOUT: dict[str, dict[str, float]] = {
    "question-answering": {"attention_probs_dropout_prob": 0.0},
    "token-classification": {"attention_probs_dropout_prob": 0.0},
    "summarization": {"attention_dropout": 0.0, "activation_dropout": 0.0},
}
TAGS = ["O", *(f"{place}-{kind}" for kind in ("DATE", "PER", "PLACE", "SHIP", "TRADE") for place in "BI")]
TOLERANCE = {"question-answering": 1e-3, "token-classification": 1e-4, "summarization": 1e-4}


@pytest.mark.parametrize("task", ["question-answering", "token-classification", "summarization"])
def test_accumulated_gradients_are_those_of_one_batch_whoever_makes_the_loss(
    task: str, bases: Any, tmp_path: Path
) -> None:
    base, logs = bases(case(task).family, case(task).words), []
    rows = {} if task != "token-classification" else {"labels": TAGS}
    still = {"dropout": 0.0} if case(task).family == "bart" else {"hidden_dropout_prob": 0.0}
    for size, steps in ((16, 1), (4, 4)):
        written = recipe(task, "full", base, tmp_path / str(steps))
        training = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "max_steps": 1}
        model = {"path": str(base), "options": {**still, "attn_implementation": "eager", **NO_ATTENTION_DROPOUT[task]}}
        source = {**written["dataset"], "limit": {"train": 16, "validation": 4, "test": 4}}
        changes = {"training": {**written["training"], **training}, "model": model, "dataset": source}
        changes["preprocessor"] = {**written["preprocessor"], **rows}
        logs.append(finetune.train(**{**written, **changes}).log[0])
    assert logs[0]["loss"] == pytest.approx(logs[1]["loss"], rel=TOLERANCE[task])


@pytest.mark.parametrize("variant", ["frozen", "lora-all-linear"])
@pytest.mark.parametrize("family", [family for family in ENCODERS if family != "bert"])
def test_every_family_of_encoders_trains_and_reloads(family: str, variant: str, bases: Any, tmp_path: Path) -> None:
    for task in ("text-classification", "question-answering"):
        output = tmp_path / task
        result = finetune.train(**recipe(task, VARIANTS[variant].section, bases(family, ENCODERS[family]), output))
        losses = [entry["loss"] for entry in result.log if "loss" in entry]
        assert sum(losses[-3:]) < sum(losses[:3]), f"the loss did not fall: {losses}"
        assert finetune.evaluate(output) == pytest.approx(result.scores["test"], nan_ok=False)
