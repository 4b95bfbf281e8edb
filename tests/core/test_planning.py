"""A plan says what a run needs: what it counts is compared with the bytes of real models, optimizers and steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from finetune import plan as plans
from finetune import planning
from finetune import recipe as recipes
from finetune.cli import main
from finetune.data.preparation import prepare
from finetune.errors import BadData, BadOptions, UnknownName
from finetune.planning import batches, devices, memory
from finetune.planning.activations import GpuKernels, MemoryCount, count_step, counting_saved
from finetune.planning.computed import compute
from finetune.planning.step import StepModel
from finetune.plugins import discover
from finetune.recipe import Recipe
from finetune.testing.models import ARCHITECTURES
from finetune.testing.tokenizers import tokenizer

ROWS, TOKENS = 4, 96
WITHIN = 0.01
"""How far the counted bytes may be from those of a real step. Most are equal to the byte."""
WITHIN_OF = {"bart": 0.08}
"""The same for models that look at the numbers of a mask: a plan assumes that the mask hides something."""

HEADS = {"bert": "SequenceClassification", "deberta": "SequenceClassification", "t5": "ConditionalGeneration",
         "bart": "ConditionalGeneration"}  # fmt: skip


def a_model(family: str, device: str, **changes: Any) -> tuple[Any, dict[str, Any]]:
    """Return a model of a family, and a batch for it, in which one row has padding."""
    config_class, size = ARCHITECTURES[family]
    start = {"decoder_start_token_id": 0} if family in ("t5", "bart") else {}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    config = getattr(transformers, config_class)(**{**size, "vocab_size": 300, **start, **ends, **changes})
    prefix = config_class.removesuffix("Config")
    head = HEADS.get(family, "LMHeadModel" if family == "gpt2" else "ForCausalLM")
    name = f"{prefix}{head if head.startswith(('For', 'LM')) else f'For{head}'}"
    with torch.device(device):
        model = getattr(transformers, name)(config)
    model.train()
    ids = torch.randint(3, 250, (ROWS, TOKENS))
    mask = torch.ones_like(ids)
    mask[0, 60:] = 0
    labels = torch.randint(0, 2, (ROWS,)) if "Sequence" in name else ids
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    moved = {key: value.to(device) for key, value in batch.items()}
    return model, moved if "Sequence" in name else {**moved, "use_cache": False}


def real_step(model: Any, loss_of: Any) -> tuple[int, int]:
    """Return what a real step saves for backward, and its peak."""
    count = MemoryCount()
    with count, counting_saved(model) as saved:
        loss = loss_of(model)
        kept = sum(saved.values())
        saved.clear()
        loss.backward()
    return kept, count.peak


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5", "bart", "deberta"])
def test_the_memory_of_a_step_without_numbers_is_that_of_a_real_step(family: str, checkpointing: bool) -> None:
    found = {}
    for device in ("cpu", "meta"):
        model, batch = a_model(family, device)
        kernels = GpuKernels(fused=False)
        if checkpointing:
            again = {"context_fn": kernels.recomputing} if device == "meta" else {}
            model.activation_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False, **again})

        def loss_of(model: Any, batch: Any = batch) -> Any:
            return model(**batch).loss

        if device == "cpu":
            found["real"] = real_step(model, loss_of)
        else:
            counted = count_step(model, loss_of, kernels=kernels)
            found["counted"] = (counted.saved, counted.peak + counted.gradients_at_peak)
    assert found["counted"] == pytest.approx(found["real"], rel=WITHIN_OF.get(family, WITHIN))
    if family in ("gpt2", "bert"):
        assert found["counted"] == found["real"]


def test_a_layer_keeps_what_korthikanti_et_al_derive() -> None:
    """Equation 1 without the scores of attention, which fused kernels do not keep: 34 bytes for each number."""
    width = 256
    kept = []
    for layers in (2, 3):
        size = {"n_embd": width, "n_head": 4, "n_layer": layers, "activation_function": "gelu"}
        model, batch = a_model("gpt2", "meta", **size)
        model = model.to(torch.bfloat16)
        kept.append(count_step(model, lambda m, batch=batch: m(**batch).loss, kernels=GpuKernels()).saved)
    assert kept[1] - kept[0] == pytest.approx(34 * ROWS * TOKENS * width, rel=0.03)


def test_autocast_keeps_half_of_what_products_read_and_a_copy_of_each_weight() -> None:
    model, rows, width = torch.nn.Linear(64, 64, device="meta"), 10, 64
    inputs = torch.empty(rows, width, device="meta", requires_grad=True)
    step = count_step(model, lambda m: m(inputs).sum(), kernels=GpuKernels(torch.bfloat16))
    assert step.saved == 2 * rows * width + 2 * width * width


def test_each_function_of_autocast_has_a_kernel_in_pytorch() -> None:
    products = ["linear", "matmul", "bmm", "addmm", "baddbmm", "scaled_dot_product_attention"]
    others = ["softmax.int", "log_softmax.int", "layer_norm", "nll_loss", "pow.Tensor_Scalar", "rsqrt", "sum", "exp"]
    for name in products + others:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "AutocastCUDA"), name


OPTIMIZERS = ["adamw_torch", "adamw_torch_fused", "sgd", "adagrad", "rmsprop", "adafactor"]


@pytest.mark.parametrize("optim", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_state_of_an_optimizer_has_the_computed_bytes(optim: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(70, 90), torch.nn.LayerNorm(90), torch.nn.Conv1d(3, 5, 7)).to(dtype)
    arguments = transformers.TrainingArguments(output_dir=str(tmp_path), optim=optim, use_cpu=True)
    make, settings = transformers.Trainer.get_optimizer_cls_and_kwargs(arguments)
    if optim == "adamw_torch_fused" and dtype is torch.bfloat16:
        settings = {**settings, "fused": False}  # the CPU has no such kernel; the state is the same
    built = make(model.parameters(), **settings)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    built.step()
    state = 0
    for entry in built.state.values():
        state += sum(value.nbytes for value in entry.values() if isinstance(value, torch.Tensor))
    assert memory.optimizer_state(memory.tensors_of(model.parameters()), optim) == state


def test_an_optimizer_whose_state_is_not_known_is_refused() -> None:
    with pytest.raises(BadOptions, match="'galore_adamw' is not known"):
        memory.optimizer_state([memory.Tensor(shape=(3,), itemsize=4)], "galore_adamw")


@pytest.mark.parametrize("double_quant", [False, True])
@pytest.mark.parametrize("shape", [(64, 64), (100, 30), (513, 257)])
def test_a_weight_in_4_bits_has_the_computed_bytes(shape: tuple[int, int], double_quant: bool) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    packed, state = bitsandbytes.functional.quantize_4bit(
        torch.randn(shape), quant_type="nf4", compress_statistics=double_quant
    )
    tensors = [packed, state.absmax, state.code]
    if double_quant:
        tensors += [state.offset, state.state2.absmax, state.state2.code]
    numbers = shape[0] * shape[1]
    assert memory.four_bit(numbers, double_quant=double_quant) == sum(tensor.nbytes for tensor in tensors)


@given(shape=st.lists(st.integers(1, 40), min_size=1, max_size=3), processes=st.integers(1, 9))
def test_a_shard_is_the_largest_part_of_its_tensor(shape: list[int], processes: int) -> None:
    tensor = memory.Tensor(shape=tuple(shape), itemsize=4)
    parts = torch.empty(shape, device="meta").chunk(processes)  # FSDP2 cuts by `torch.chunk`
    assert tensor.shard(processes).shape == tuple(parts[0].shape)


SIZES = st.lists(st.integers(1, 500), min_size=8, max_size=60)


@given(lengths=SIZES, rows=st.integers(1, 4), fixed=st.floats(0, 2), each=st.floats(0.001, 1))
def test_times_that_grow_with_the_tokens_are_found_again(
    lengths: list[int], rows: int, fixed: float, each: float
) -> None:
    import numpy as np

    places = list(range(len(lengths)))
    drawn = [places[start : start + rows] for start in range(0, len(places), rows)]
    steps = batches.steps_of(drawn, (np.asarray(lengths), np.zeros(len(lengths), dtype=int)), accumulated=1)
    points = [(step.tokens, fixed + each * step.tokens) for step in (min(steps, key=tokens), max(steps, key=tokens))]
    expected = sum(fixed + each * step.tokens for step in steps)
    assert batches.total_seconds(steps, points) == pytest.approx(expected)


def tokens(step: batches.Step) -> int:
    return step.tokens


@given(lengths=SIZES, rows=st.integers(1, 4), accumulated=st.integers(1, 3))
def test_the_largest_batch_is_measured_and_no_bucket_is_empty(lengths: list[int], rows: int, accumulated: int) -> None:
    import numpy as np

    places = list(range(len(lengths) // (rows * accumulated) * rows * accumulated))
    drawn = [places[start : start + rows] for start in range(0, len(places), rows)]
    steps = batches.steps_of(
        drawn or [[0]], (np.asarray(lengths), np.zeros(len(lengths), dtype=int)), accumulated=accumulated
    )
    found = batches.buckets(steps)
    assert max(step.largest for step in found[0].steps) == max(step.largest for step in steps)
    assert all(bucket.steps for bucket in found)


OCCASIONS = [
    ({"eval_strategy": "no"}, "eval", 0),
    ({"eval_strategy": "epoch"}, "eval", 3),
    ({"eval_strategy": "steps", "eval_steps": 4}, "eval", 2),
    ({"eval_strategy": "steps", "eval_steps": 0.5}, "eval", 2),
    ({"save_strategy": "epoch"}, "save", 3),
    ({"save_strategy": "steps", "save_steps": 4}, "save", 3),
    ({"save_strategy": "steps", "save_steps": 5}, "save", 2),
    ({"save_strategy": "no"}, "save", 0),
]
"""Options, what happens, and how often in 10 steps, of which an epoch has 4. A run also saves after its last step."""


@pytest.mark.parametrize(("settings", "what", "times"), OCCASIONS)
def test_how_often_a_run_evaluates_and_saves(settings: dict[str, Any], what: str, times: int, tmp_path: Path) -> None:
    from types import SimpleNamespace

    from finetune.planning.probe import _occasions

    arguments = transformers.TrainingArguments(output_dir=str(tmp_path), use_cpu=True, **settings)
    assert _occasions(SimpleNamespace(args=arguments), what, 10, 4) == times


def test_a_gpu_has_at_most_7_5_percent_more_than_its_vendor_says() -> None:
    """GB and GiB differ by 7.4 %, and vendors write either as GB."""
    for name, gpu in devices.GPUS.items():
        stated = int(gpu.vendor.split()[0])
        assert name.endswith(f"-{stated}gb")
        assert 0.93 * stated * devices.GIB <= gpu.memory <= 1.075 * stated * devices.GB


def test_an_unknown_gpu_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'h100-80gb'"):
        devices.find("h100-80")


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Return a folder of data whose texts have different lengths."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split, count in (("train", 60), ("validation", 12), ("test", 12)):
        rows = []
        for number in range(count):
            text = " ".join(["a fine inn by the sea"] * (1 + number % 9)) + f" {split} {number}"
            rows.append(json.dumps({"text": text, "label": "good" if number % 2 else "bad"}))
        (folder / f"{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder


def a_recipe(model: Path, data: Path, output: Path, **changes: Any) -> Recipe:
    content: dict[str, Any] = {
        "task": "text-classification",
        "model": str(model),
        "dataset": {"path": str(data)},
        "strategy": "full",
        "output": str(output),
        "general_text": "none",
        "training": {"per_device_train_batch_size": 4, "num_train_epochs": 1},
    }
    return recipes.from_mapping({**content, **changes})


@pytest.mark.parametrize("strategy", ["full", "lora", "qlora"])
def test_a_model_without_weights_has_the_sizes_of_the_loaded_one(
    strategy: str, tiny_bert: Path, reviews: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    from finetune import run as runs
    from finetune.progress import Reporter

    recipe = a_recipe(tiny_bert, reviews, tmp_path / "run", strategy=strategy)
    prepared = prepare(plans.make(recipe, discover()))
    model = StepModel(prepared)
    loaded = runs.prepare_training(prepared, Reporter())[0].job.model
    trained = [parameter for parameter in loaded.parameters() if parameter.requires_grad]
    assert sorted(tensor.shape for tensor in model.sizes.trained) == sorted(tuple(each.shape) for each in trained)
    real = 0
    for name, parameter in loaded.named_parameters():
        real += parameter.nbytes
        if state := getattr(parameter, "quant_state", None):
            assert strategy == "qlora", name
            parts = [state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
            real += sum(part.nbytes for part in parts)
    assert model.sizes.weights == real + sum(buffer.nbytes for buffer in loaded.buffers())


def test_the_step_of_a_recipe_without_numbers_is_that_of_its_trainer(
    tiny_bert: Path, reviews: Path, tmp_path: Path
) -> None:
    from finetune import run as runs
    from finetune.plugins import resolve
    from finetune.progress import Reporter

    prepared = prepare(plans.make(a_recipe(tiny_bert, reviews, tmp_path / "run"), discover()))
    model = StepModel(prepared)
    counted = model.step(rows=4, kernels=GpuKernels(fused=False))
    job = runs.prepare_training(prepared, Reporter())[0].job
    trainer = resolve(job.task.trainer)(job)
    job.model.train()
    shapes = model.batch(4)
    longest = {name: torch.ones(value.shape, dtype=value.dtype) for name, value in shapes.items()}
    longest["labels"] = torch.zeros_like(longest["labels"])
    real = real_step(job.model, lambda m: trainer.compute_loss(m, dict(longest)))
    assert (counted.saved, counted.peak + counted.gradients_at_peak) == pytest.approx(real, rel=WITHIN)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model with 1.1 billion parameters, of which only the configuration exists."""
    folder = tmp_path_factory.mktemp("wide")
    vocabulary = tokenizer("bert", vocab_size=400)
    config = transformers.LlamaConfig(
        hidden_size=4096,
        num_hidden_layers=5,
        num_attention_heads=32,
        num_key_value_heads=8,
        intermediate_size=14336,
        vocab_size=len(vocabulary),
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(folder)
    vocabulary.save_pretrained(folder)
    return folder


def test_a_run_that_does_not_fit_gets_changes_until_it_fits(wide: Path, reviews: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    recipe = a_recipe(wide, reviews, tmp_path / "run", training={"per_device_train_batch_size": 8})
    prepared = prepare(plans.make(recipe, discover()))
    found = compute(prepared, gpu="t4-16gb")
    billions = found.parameters / 1e9
    assert 1.0 < billions < 1.3
    assert found.needs.weights + found.needs.optimizer == pytest.approx(12 * found.parameters, rel=0.001)
    assert not found.fits
    assert [change.fits for change in found.changes] == [False] * (len(found.changes) - 1) + [True]
    assert "lora" in found.changes[-1].what
    larger = compute(prepared, gpu="h100-80gb", gpus=2)
    assert larger.fits
    assert larger.needs.exchange == 4 * larger.parameters  # the buckets of DDP


def test_fsdp_gives_each_gpu_its_share(tiny_bert: Path, reviews: Path, tmp_path: Path) -> None:
    from finetune.planning.computed import needs_of

    prepared = prepare(plans.make(a_recipe(tiny_bert, reviews, tmp_path / "run"), discover()))
    model = StepModel(prepared)
    whole, shared = needs_of(model, rows=4, gpus=4), needs_of(model, rows=4, gpus=4, sharded=True)
    assert shared.optimizer == pytest.approx(whole.optimizer / 4, rel=0.1)
    assert shared.weights == pytest.approx(whole.weights / 4, rel=0.1)


def test_a_recipe_that_divides_its_weights_is_computed_and_not_measured(
    tiny_bert: Path, reviews: Path, tmp_path: Path
) -> None:
    from finetune.planning.computed import needs_of

    recipe = a_recipe(tiny_bert, reviews, tmp_path / "run", training={"fsdp": True, "per_device_train_batch_size": 4})
    for options in ({}, {"gpu": "l4-24gb"}):
        with pytest.raises(BadOptions, match=r"Name the GPUs.* --gpus 4"):
            planning.plan(recipe, **options)  # type: ignore[arg-type]
    found = planning.plan(recipe, gpu="l4-24gb", gpus=4).computed
    prepared = prepare(plans.make(a_recipe(tiny_bert, reviews, tmp_path / "run"), discover()))
    assert found is not None
    assert found.needs == needs_of(StepModel(prepared), rows=4, gpus=4, sharded=True)
    assert not any("DDP" in note for note in found.notes)


def test_a_stream_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    recipe = a_recipe(tmp_path / "no-model", tmp_path / "no-data", tmp_path / "run",
                      dataset={"path": str(tmp_path / "no-data"), "streaming": True})  # fmt: skip
    with pytest.raises(BadOptions, match="Plan without streaming and shuffle_buffer"):
        planning.plan(recipe)


def test_fsdp_is_offered_with_a_strategy_that_can_train_divided_weights(
    tiny_bert: Path, reviews: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    from finetune.planning.computed import Setting, _candidates

    plan = plans.make(a_recipe(tiny_bert, reviews, tmp_path / "run"), discover())
    model = StepModel(prepare(plan))
    *_, (what, _, change) = _candidates(model, plan.plugins, plan.strategy, gpus=4, sharded=False)
    assert what == "training: fsdp: true, over 4 GPUs, with strategy: lora"
    assert change(Setting(strategy="qlora")) == Setting(strategy="lora", sharded=True)
    divided = [what for what, _, _ in _candidates(model, plan.plugins, plan.strategy, gpus=4, sharded=True)]
    assert "strategy: lora" in divided and not any("qlora" in what or "fsdp" in what for what in divided)


def test_the_gradients_of_gathered_weights_do_not_pile_up() -> None:
    """Under FSDP, more layers keep more activations, but no more gradients at one time."""
    peaks = []
    for layers in (2, 12):
        model, batch = a_model("gpt2", "meta", n_layer=layers, n_embd=512, n_head=4)
        kernels = GpuKernels(torch.bfloat16)
        again = {"use_reentrant": False, "preserve_rng_state": False, "context_fn": kernels.recomputing}
        model.activation_checkpointing_enable(again)
        kernels.copy_weights(model)
        step = count_step(model, lambda m, batch=batch: m(**batch).loss, kernels=kernels, keeps_gradients=False)
        peaks.append(step.peak)
    layer = 2 * 12 * 512**2  # bytes of a layer in 16 bits
    inputs = 4 * ROWS * TOKENS * 512  # what a layer keeps: its input
    assert peaks[1] - peaks[0] < 10 * inputs + 2 * layer


def test_a_plan_measures_what_the_run_then_needs(tiny_bert: Path, reviews: Path, tmp_path: Path) -> None:
    import finetune

    output = tmp_path / "run"
    recipe = a_recipe(tiny_bert, reviews, output)
    found = planning.plan(recipe).measured
    assert not output.exists()
    assert found is not None
    result = finetune.train(recipe)
    assert found.steps == result.steps == found.steps_per_epoch
    assert found.trainable_parameters == result.trainable_parameters
    saved = sum(path.stat().st_size for path in output.glob("checkpoint-*/*") if path.is_file())
    assert found.checkpoint_bytes == pytest.approx(saved, rel=0.02)
    assert found.model_bytes == pytest.approx(result.saved_bytes, rel=0.05)  # without its header
    assert {bucket.name for bucket in found.buckets} > {"longest", "50%"}
    assert found.peak_memory > found.memory_before_model > 0
    assert found.checkpoints == len(list(output.glob("checkpoint-*")))
    whole = found.step.seconds * found.steps
    assert found.training.seconds == pytest.approx(whole + found.checkpoint.seconds, rel=0.01)


def test_bad_data_are_refused_as_in_a_run(tiny_bert: Path, reviews: Path, tmp_path: Path) -> None:
    (reviews / "train.jsonl").write_text('{"text": "a fine inn"}\n', encoding="utf-8")
    recipe = a_recipe(tiny_bert, reviews, tmp_path / "run")
    with pytest.raises(BadData) as refused:
        planning.plan(recipe)
    with pytest.raises(BadData) as expected:
        prepare(plans.make(recipe, discover()))
    assert str(refused.value) == str(expected.value)
    assert refused.value.findings == expected.value.findings


def test_the_command_prints_the_memory_of_another_device(tiny_bert: Path, reviews: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    content = recipes.to_mapping(a_recipe(tiny_bert, reviews, tmp_path / "run"))
    recipe.write_text(json.dumps(content), encoding="utf-8")
    done = CliRunner().invoke(main, ["plan", str(recipe), "--gpu", "l4-24gb", "--json"])
    assert done.exit_code == 0, done.output
    computed = json.loads(done.stdout)["computed"]
    assert computed["fits"]
    parts = ("weights", "gradients", "optimizer", "exchange", "activations")
    assert computed["needs"]["total"] >= sum(computed["needs"][part] for part in parts)
    shown = CliRunner().invoke(main, ["plan", str(recipe), "--gpu", "l4-24gb", "--gpus", "2"])
    assert "It fits" in shown.output
    assert "not predicted" in shown.output
    refused = CliRunner().invoke(main, ["plan", str(recipe), "--gpus", "2"])
    assert refused.exit_code == 2
    assert "--gpus has an effect with --gpu only" in refused.output
