"""Bottleneck adapters: where they go in every family, what they change and train, and how many parameters they have."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from finetune.errors import BadOptions, Incompatible
from finetune.interfaces import Task
from finetune.plugins import discover
from finetune.recipe.options import build
from finetune.testing.models import ARCHITECTURES
from finetune_adapters import adapters
from finetune_adapters.bottleneck import BottleneckStrategy, inserted
from finetune_adapters.places import find

CLASSIFIER, MASKED, CAUSAL, WRITER, TAGGER = (
    f"AutoModelFor{name}"
    for name in ("SequenceClassification", "MaskedLM", "CausalLM", "Seq2SeqLM", "TokenClassification")
)
TASK: Task = discover().find("tasks", "text-classification")  # facts that this strategy does not need


def built(family: str, model_class: str, **options: Any) -> Any:
    config_class, size = ARCHITECTURES[family]
    special = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    config = getattr(transformers, config_class)(**{**size, "vocab_size": 50, **special, **options})
    return getattr(transformers, model_class).from_config(config).eval()


BERT = ("attention.output.dense", "output.dense")
LLAMA = ("self_attn.o_proj", "mlp.down_proj")
PLACES: dict[str, tuple[str, list[tuple[str, tuple[str, ...]]]]] = {
    "bert": (CLASSIFIER, [("bert.encoder.layer", BERT)]),
    "roberta": (MASKED, [("roberta.encoder.layer", BERT)]),
    "electra": (TAGGER, [("electra.encoder.layer", BERT)]),
    "deberta": (CLASSIFIER, [("deberta.encoder.layer", BERT)]),
    "distilbert": (CLASSIFIER, [("distilbert.transformer.layer", ("attention.out_lin", "ffn.lin2"))]),
    "gpt2": (CAUSAL, [("transformer.h", ("attn.c_proj", "mlp.c_proj"))]),
    "llama": (CLASSIFIER, [("model.layers", LLAMA)]),
    "mistral": (CAUSAL, [("model.layers", LLAMA)]),
    "qwen": (CAUSAL, [("model.layers", LLAMA)]),
    "t5": (
        WRITER,
        [
            ("encoder.block", ("layer.0.SelfAttention.o", "layer.1.DenseReluDense.wo")),
            ("decoder.block", ("layer.0.SelfAttention.o", "layer.1.EncDecAttention.o", "layer.2.DenseReluDense.wo")),
        ],
    ),
    "bart": (
        WRITER,
        [
            ("model.encoder.layers", ("self_attn.out_proj", "fc2")),
            ("model.decoder.layers", ("self_attn.out_proj", "encoder_attn.out_proj", "fc2")),
        ],
    ),
    "albert": (
        MASKED,
        [("albert.encoder.albert_layer_groups", ("albert_layers.0.attention.dense", "albert_layers.0.ffn_output"))],
    ),
}  # fmt: skip
"""Family → class, and for each stack of two blocks what gets an adapter: written down by hand."""


def batch(model: Any) -> dict[str, torch.Tensor]:
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    return {"input_ids": ids, **({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})}


def logits(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        found: torch.Tensor = model(**batch(model)).logits
    return found


def test_every_family_that_we_can_build_is_tried() -> None:
    assert set(PLACES) == set(ARCHITECTURES)


@pytest.mark.parametrize("family", PLACES)
def test_adapters_come_after_every_attention_and_every_feed_forward_network(family: str) -> None:
    model_class, stacks = PLACES[family]
    model = built(family, model_class)
    shared = 1 if family == "albert" else 2  # ALBERT's layers are one block
    houlsby = [f"{stack}.{n}.{name}" for stack, names in stacks for n in range(shared) for name in names]
    assert find(model, "houlsby") == houlsby
    assert find(model, "pfeiffer") == [f"{stack}.{n}.{names[-1]}" for stack, names in stacks for n in range(shared)]


@pytest.mark.parametrize("family", PLACES)
def test_nothing_changes_before_the_first_step_and_every_adapter_is_used_after_it(family: str) -> None:
    model = built(family, PLACES[family][0])
    names, before = set(model.state_dict()), logits(model)
    model = BottleneckStrategy(reduction_factor=8).prepare(model, TASK)
    assert isinstance(model, transformers.PreTrainedModel)
    assert names < set(model.state_dict()), "a parameter of the base was renamed"
    assert torch.equal(logits(model), before)
    for name in inserted(model):
        up = model.get_submodule(name).adapter.up
        with torch.no_grad():
            up.bias.copy_(torch.linspace(-1, 1, len(up.bias)))
        assert not torch.equal(logits(model), before), f"{name} reaches no output"
        torch.nn.init.zeros_(up.bias)


@pytest.mark.parametrize("family", PLACES)
def test_exactly_the_adapters_and_newly_initialized_modules_train(family: str) -> None:
    model = built(family, PLACES[family][0])
    new = [name for name, _ in model.named_children()][-1:] if PLACES[family][0] == CLASSIFIER else []
    model = BottleneckStrategy().prepare(model, TASK, newly_initialized=new)
    wanted = {name for name, _ in model.named_parameters() if ".adapter." in name or name.startswith(tuple(new))}
    assert {name for name, p in model.named_parameters() if p.requires_grad} == wanted
    # as the first step leaves the upward projections, every adapter has a gradient in each of its parts
    with torch.no_grad():
        for name in inserted(model):
            model.get_submodule(name).adapter.up.weight.normal_()
    model(**batch(model)).logits.square().sum().backward()
    unused = [name for name, p in model.named_parameters() if ".adapter." in name and not p.grad.abs().sum()]
    assert unused == []


@pytest.mark.parametrize("reduction_factor", [2, 16])
def test_the_number_of_parameters_is_that_of_houlsby(reduction_factor: float) -> None:
    # section 2.1: 2md + d + m for each adapter, of which there are two a layer
    width, units, layers = 32, 32 // int(reduction_factor), 2
    for placement, adapters_per_layer in (("houlsby", 2), ("pfeiffer", 1)):
        strategy = BottleneckStrategy(placement=placement, reduction_factor=reduction_factor)  # type: ignore[arg-type]
        model = strategy.prepare(built("bert", MASKED), TASK)
        count = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert count == layers * adapters_per_layer * (2 * width * units + units + width)


def test_a_head_tied_to_the_embeddings_stays_frozen_with_them() -> None:
    model = BottleneckStrategy().prepare(built("gpt2", CAUSAL), TASK)
    assert not model.lm_head.weight.requires_grad
    assert model.lm_head.weight is model.transformer.wte.weight


def test_a_model_with_adapters_generates() -> None:
    model = BottleneckStrategy().prepare(built("t5", WRITER, decoder_start_token_id=0), TASK)
    written = model.generate(input_ids=batch(model)["input_ids"], max_new_tokens=3, do_sample=False)
    plain = built("t5", WRITER, decoder_start_token_id=0)
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if ".adapter." not in name})
    assert torch.equal(written, plain.generate(input_ids=batch(model)["input_ids"], max_new_tokens=3, do_sample=False))


def test_layer_norms_train_if_they_are_named() -> None:
    model = BottleneckStrategy(unfrozen_parameters=("*.layer.*LayerNorm*",)).prepare(built("bert", MASKED), TASK)
    norms = [name for name, p in model.named_parameters() if "LayerNorm" in name and p.requires_grad]
    assert len(norms) == 2 * 2 * 2  # two blocks, two norms, weight and bias


def test_adapters_are_float32_in_a_model_of_bfloat16() -> None:
    model = built("llama", CAUSAL).to(torch.bfloat16)
    before = logits(model)
    model = BottleneckStrategy().prepare(model, TASK)
    assert torch.equal(logits(model), before)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


def test_places_may_be_named() -> None:
    model = built("llama", CAUSAL)
    strategy = BottleneckStrategy(target_modules=("down_proj",))
    assert strategy.modules(model) == ["model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"]
    with pytest.raises(
        BadOptions, match=r"'wo' matches no module of LlamaForCausalLM.*like 'model\.layers\.0\.self_attn"
    ):
        BottleneckStrategy(target_modules=("wo",)).prepare(model, TASK)
    with pytest.raises(BadOptions, match="'mlp' is not a linear layer of LlamaForCausalLM"):
        BottleneckStrategy(target_modules=("mlp",)).prepare(model, TASK)
    with pytest.raises(BadOptions, match=r"'down_porj' matches no module .* Did you mean 'down_proj'\?"):
        BottleneckStrategy(target_modules=("o_proj", "down_porj")).prepare(model, TASK)
    with pytest.raises(BadOptions, match=r"unfrozen_parameters: '\*Norm\*' matches no parameter of LlamaForCausalLM"):
        BottleneckStrategy(unfrozen_parameters=("*Norm*",)).prepare(model, TASK)


def test_a_model_of_unknown_structure_is_refused_with_the_reason() -> None:
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
            "intermediate_size": 64, "vocab_size": 50, "num_local_experts": 2}  # fmt: skip
    mixture = transformers.AutoModelForCausalLM.from_config(transformers.MixtralConfig(**size))
    with pytest.raises(
        Incompatible, match=r"model\.layers\.0 holds several layers in one tensor.*strategy\.target_modules"
    ):
        BottleneckStrategy().prepare(mixture, TASK)
    strategy = BottleneckStrategy(target_modules=("o_proj",))
    assert inserted(strategy.prepare(mixture, TASK)) == ["model.layers.0.self_attn.o_proj"]
    mamba = transformers.MambaConfig(hidden_size=32, num_hidden_layers=1, vocab_size=50)
    with pytest.raises(
        Incompatible, match=r"no attention that ends in a linear layer was found in backbone\.layers\.0"
    ):
        BottleneckStrategy().prepare(transformers.AutoModelForCausalLM.from_config(mamba), TASK)


def test_an_option_that_means_nothing_is_refused() -> None:
    for options, message in (
        ({"non_linearity": "gelo"}, "gelo.*Did you mean 'gelu'"),
        ({"reduction_factor": 0}, "more than 0"),
        ({"placement": "hulsby"}, "placement"),
    ):
        with pytest.raises(BadOptions, match=message):
            build(BottleneckStrategy, options, where="strategy")


# --- saved and loaded -------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Any, Path, Path]:
    """Return a model that was changed, the folder it was saved to, and its base: without pooler and head."""
    base = tmp_path / "base"
    built("bert", MASKED).save_pretrained(base)
    model, info = transformers.AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=3, output_loading_info=True
    )
    new = {key.rpartition(".")[0] for key in info["missing_keys"]}
    strategy = BottleneckStrategy()
    model = strategy.prepare(model, TASK, newly_initialized=new)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    strategy.save(model, tmp_path / "run")
    return model, tmp_path / "run", base


def test_what_was_saved_is_small_and_comes_back_to_the_bit(saved: tuple[Any, Path, Path]) -> None:
    model, run, base = saved
    names = set(adapters.load_file(run / adapters.WEIGHTS))
    assert names == {name for name, p in model.named_parameters() if p.requires_grad}
    assert (run / adapters.WEIGHTS).stat().st_size < 0.25 * (base / "model.safetensors").stat().st_size
    options = {"num_labels": 3}
    model_class = transformers.AutoModelForSequenceClassification
    reloaded = BottleneckStrategy().load(run, model_class=model_class, base=str(base), options=options)
    assert torch.equal(logits(reloaded), logits(model))
    assert torch.equal(logits(adapters.load(run)), logits(model))
    assert not torch.equal(logits(model_class.from_pretrained(base, **options)), logits(model))


def test_a_moved_base_is_named_and_another_base_is_refused(saved: tuple[Any, Path, Path], tmp_path: Path) -> None:
    model, run, base = saved
    base = base.rename(tmp_path / "elsewhere")
    assert torch.equal(logits(adapters.load(run, base)), logits(model))
    built("bert", MASKED, num_hidden_layers=1).save_pretrained(tmp_path / "other")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "other", num_labels=3)
    other = transformers.AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(ValueError, match=r"an adapter for 'bert\.encoder\.layer\.1\.attention\.output\.dense'"):
        adapters.attach(other, run)
    weights = adapters.load_file(run / adapters.WEIGHTS)
    adapters.save_file({name: value for name, value in weights.items() if "pooler" not in name}, run / adapters.WEIGHTS)
    with pytest.raises(ValueError, match=r"it lacks \['bert\.pooler\.dense\.bias'"):
        adapters.load(run, base)


def test_adapters_py_needs_nothing_else_of_this_library(saved: tuple[Any, Path, Path], tmp_path: Path) -> None:
    # as docs/how-to/use-adapters.md says: copied, and run where neither finetune nor its plugins can be imported
    model, run, _ = saved
    page = (Path(__file__).parents[3] / "docs/how-to/use-adapters.md").read_text(encoding="utf-8")
    snippet = re.search(r'```text title="use\.py"\n(.*?)```', page, re.DOTALL)
    assert snippet, "the page lost its snippet"
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(adapters.__file__, alone / "adapters.py")
    guard = "import sys\nfor name in ('finetune', 'finetune_adapters', 'peft'): sys.modules[name] = None\n"
    end = (
        "\nimport torch\nids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])\n"
        "print(model(input_ids=ids).logits.tolist())\n"
    )
    code = guard + snippet[1].replace("runs/reviews", str(run)) + end
    ran = subprocess.run([sys.executable, "-c", code], cwd=alone, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == logits(model).tolist()
