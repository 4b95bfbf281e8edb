"""Batches are padded and shifted as the model expects, and the loss is the mean over tokens."""

from __future__ import annotations

import pickle
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from finetune.errors import Incompatible
from finetune.plugins import discover
from finetune.testing.models import tiny_model
from finetune.training.losses import TokenCrossEntropy
from finetune_seq2seq import tasks
from finetune_seq2seq.collator import Seq2SeqCollator
from finetune_seq2seq.summarization import SummarizationPreprocessor
from finetune_seq2seq.training import row_losses

FAMILIES = ("t5", "bart")


@pytest.fixture(scope="module")
def models(build, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        family: transformers.AutoModelForSeq2SeqLM.from_pretrained(
            tiny_model(family, build(family), folder / family, model_class="AutoModelForSeq2SeqLM")
        )
        for family in FAMILIES
    }


ROWS = st.lists(
    st.tuples(
        st.lists(st.integers(4, 99), min_size=1, max_size=6), st.lists(st.integers(4, 99), min_size=1, max_size=6)
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("family", FAMILIES)
@settings(deadline=None, max_examples=25)
@given(rows=ROWS)
def test_labels_are_padded_with_the_ignored_index_and_decoder_inputs_are_shifted_by_one(family, models, build, rows):
    tokenizer, model = build(family), models[family]
    end = tokenizer.eos_token_id
    batch = Seq2SeqCollator(tokenizer, model)(
        [{"input_ids": [*source, end], "labels": [*target, end]} for source, target in rows]
    )
    start, width = model.config.decoder_start_token_id, max(len(target) for _, target in rows) + 1
    for number, (source, target) in enumerate(rows):
        missing = width - len(target) - 1
        assert batch["labels"][number].tolist() == [*target, end] + [-100] * missing
        decoded = [start, *target, *[end] * (missing > 0), *[tokenizer.pad_token_id] * (missing - 1)]
        assert batch["decoder_input_ids"][number].tolist() == decoded
        assert batch["input_ids"][number, : len(source)].tolist() == source
        assert batch["attention_mask"][number].sum() == len(source) + 1


def test_features_to_predict_make_a_batch_of_sources_alone(models, t5):
    batch = Seq2SeqCollator(t5, models["t5"])([{"input_ids": [5, 2]}, {"input_ids": [5, 6, 2]}])
    assert sorted(batch) == ["attention_mask", "input_ids"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_peft_wraps_makes_the_same_batch(family, build, tmp_path):
    tokenizer = build(family)
    base = tiny_model(family, tokenizer, tmp_path, model_class="AutoModelForSeq2SeqLM")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(base)
    rows = [{"input_ids": [5, 2], "labels": [7, 2]}, {"input_ids": [5, 2], "labels": [7, 8, 2]}]
    before = Seq2SeqCollator(tokenizer, model)(rows)
    wrapped = discover().find("strategies", "lora")().prepare(model, tasks()["summarization"])
    assert hasattr(wrapped, "peft_config")
    after = Seq2SeqCollator(tokenizer, wrapped)(rows)
    assert {name: part.tolist() for name, part in before.items()} == {
        name: part.tolist() for name, part in after.items()
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_a_collator_in_a_worker_makes_the_same_batch_without_the_weights(family, models, build):
    tokenizer, model = build(family), models[family]
    collator = Seq2SeqCollator(tokenizer, model)
    rows = [{"input_ids": [5, 2], "labels": [7, 2]}, {"input_ids": [5, 2], "labels": [7, 8, 2]}]
    # what a data loader does to the collator when it starts a worker by spawn
    copy = pickle.loads(ForkingPickler.dumps(collator))
    here, there = collator(rows), copy(rows)
    assert here.keys() == there.keys()
    assert all(torch.equal(here[name], there[name]) for name in here)
    assert {parameter.device.type for parameter in copy._model.parameters()} == {"meta"}
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


def test_a_model_that_cannot_start_its_decoder_is_refused(t5):
    config = transformers.T5Config(vocab_size=len(t5), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    model = transformers.AutoModelForSeq2SeqLM.from_config(config)
    with pytest.raises(Incompatible, match=r"(?s)cannot make decoder inputs .*decoder_start_token_id: …"):
        SummarizationPreprocessor().collator(t5, model)


def test_a_tokenizer_that_pads_on_the_left_is_refused(build, models):
    tokenizer = build("t5")
    tokenizer.padding_side = "left"
    with pytest.raises(Incompatible, match="decoder inputs would begin with padding"):
        Seq2SeqCollator(tokenizer, models["t5"])


def random_batch(rows, *, seed=0, vocabulary=11):
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(rows), max(rows), vocabulary, generator=draw)
    labels = torch.randint(0, vocabulary, (len(rows), max(rows)), generator=draw)
    for number, length in enumerate(rows):
        labels[number, length:] = -100
    return logits, labels


LENGTHS = st.lists(st.integers(1, 7), min_size=2, max_size=8)


@settings(deadline=None, max_examples=40)
@given(lengths=LENGTHS, smoothing=st.sampled_from([0.0, 0.1]), parts=st.integers(1, 3))
def test_the_loss_of_a_step_is_the_mean_over_its_tokens_however_it_is_accumulated(lengths, smoothing, parts):
    logits, labels = random_batch(lengths)
    kept = labels.ne(-100)
    whole = cross_entropy(logits[kept], labels[kept], label_smoothing=smoothing)
    loss = TokenCrossEntropy(label_smoothing=smoothing)
    assert loss({"logits": logits}, labels) == pytest.approx(whole.item(), rel=1e-5)
    size = -(-len(lengths) // parts)
    shares = [
        loss((logits[k : k + size],), labels[k : k + size], num_items_in_batch=kept.sum())
        for k in range(0, len(lengths), size)
    ]
    assert sum(shares).item() == pytest.approx(whole.item(), rel=1e-5)


@settings(deadline=None, max_examples=20)
@given(lengths=LENGTHS)
def test_the_loss_of_each_row_is_the_sum_over_its_tokens(lengths):
    logits, labels = random_batch(lengths)
    sums, tokens = row_losses(logits, labels)
    assert tokens.tolist() == lengths
    for number, length in enumerate(lengths):
        one = cross_entropy(logits[number, :length], labels[number, :length], reduction="sum")
        assert sums[number].item() == pytest.approx(one.item(), rel=1e-5)
