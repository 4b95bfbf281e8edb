"""Multilingual tokenizers mark source and target with their languages, each family in its own form."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import AutoTokenizer

from finetune.errors import BadOptions
from finetune_seq2seq import generation, languages
from finetune_seq2seq.summarization import SummarizationPreprocessor
from finetune_seq2seq.translation import TranslationPreprocessor

CODES = {"mbart": ("en_XX", "ro_RO"), "mbart50": ("en_XX", "ro_RO"), "nllb": ("eng_Latn", "ron_Latn"),
         "m2m100": ("en", "ro")}  # fmt: skip
SIZE = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
        "max_position_embeddings": 64}  # fmt: skip


def model(family, tokenizer):
    config = {"mbart": "MBartConfig", "mbart50": "MBartConfig"}.get(family, "M2M100Config")
    start = {} if family == "mbart" else {"decoder_start_token_id": tokenizer.eos_token_id}
    made = getattr(transformers, config)(vocab_size=max(len(tokenizer), 300), **SIZE, **start)
    return transformers.AutoModelForSeq2SeqLM.from_config(made)


@pytest.mark.parametrize("family", CODES)
def test_source_and_target_are_marked_with_their_language(family, build):
    tokenizer, (source, target) = build(family), CODES[family]
    preprocessor = TranslationPreprocessor(source_lang=source, target_lang=target)
    made = preprocessor.features({"source": ["a tar"], "target": ["tar a"]}, tokenizer)
    token = {"m2m100": "__{}__"}.get(family, "{}").format
    ids = tokenizer.convert_tokens_to_ids([token(source), token(target)])
    assert ids[0] in made["input_ids"][0]
    assert ids[1] not in made["input_ids"][0]
    assert ids[1] in made["labels"][0]
    assert ids[0] not in made["labels"][0]
    assert tokenizer.eos_token_id in made["labels"][0]


@pytest.mark.parametrize("family", CODES)
def test_generated_text_begins_like_the_targets_of_training(family, build):
    tokenizer, (source, target) = build(family), CODES[family]
    preprocessor = TranslationPreprocessor(
        source_lang=source, target_lang=target, max_source_length=32, max_target_length=5
    )
    made = preprocessor.features({"source": ["a tar"], "target": ["tar a b c d e f g h"]}, tokenizer)
    translator = model(family, tokenizer)
    batch = preprocessor.collator(tokenizer, translator)([{k: made[k][0] for k in ("input_ids", "labels")}])
    wanted = generation.config(translator, tokenizer, preprocessor, {})
    generated = translator.generate(torch.tensor(made["input_ids"]), generation_config=wanted)[0]
    trained = [batch["decoder_input_ids"][0, 0].item(), batch["labels"][0, 0].item()]
    assert generated[0] == trained[0]
    language = tokenizer.convert_tokens_to_ids({"m2m100": "__ro__"}.get(family, target))
    if family == "mbart":
        assert trained[0] == language
        assert wanted.forced_bos_token_id is None
    else:
        assert generated[1] == trained[1] == language


@pytest.mark.parametrize("family", CODES)
def test_decoder_inputs_are_those_that_the_model_makes_itself(family, build):
    tokenizer, (source, target) = build(family), CODES[family]
    preprocessor = TranslationPreprocessor(source_lang=source, target_lang=target)
    made = preprocessor.features({"source": ["a tar", "b"], "target": ["tar a", "b c d e f"]}, tokenizer)
    translator = model(family, tokenizer).eval()
    rows = [{name: made[name][k] for name in ("input_ids", "attention_mask", "labels")} for k in range(2)]
    batch = preprocessor.collator(tokenizer, translator)(rows)
    shifted = translator(**{name: part for name, part in batch.items() if name != "labels"})
    own = translator(**{name: part for name, part in batch.items() if name != "decoder_input_ids"})
    assert torch.equal(shifted.logits, own.logits)
    loss = preprocessor.loss()(shifted, batch["labels"])
    assert loss.item() == pytest.approx(own.loss.item(), rel=1e-5)


@pytest.mark.parametrize("family", CODES)
def test_a_cut_target_keeps_its_language_and_its_end(family, build):
    tokenizer, (source, target) = build(family), CODES[family]
    preprocessor = TranslationPreprocessor(source_lang=source, target_lang=target, max_target_length=4)
    made = preprocessor.features({"source": ["a"], "target": ["abcdefgh " * 5]}, tokenizer)
    assert len(made["labels"][0]) == 4
    specials = set(tokenizer("", text_target="")["labels"])
    assert specials < set(made["labels"][0])


def test_languages_survive_saving_and_loading(build, tmp_path):
    tokenizer = build("mbart50")
    preprocessor = TranslationPreprocessor(source_lang="en_XX", target_lang="ro_RO")
    rows = {"source": ["a tar"], "target": ["tar a"]}
    made = preprocessor.features(rows, tokenizer)
    tokenizer.save_pretrained(tmp_path)
    assert preprocessor.features(rows, AutoTokenizer.from_pretrained(tmp_path)) == made


@pytest.mark.parametrize(
    ("family", "code", "message"),
    [
        ("mbart50", "en", "it has no language 'en'. Did you mean 'en_XX'?"),
        ("nllb", "deu", "Did you mean 'deu_Latn'?"),
        ("m2m100", "rro", "Did you mean 'ro'?"),
        ("mbart", None, "none is given. It has: ar_AR, cs_CZ"),
    ],
)
def test_an_unknown_language_is_refused_and_the_nearest_named(family, code, message, build):
    with pytest.raises(BadOptions) as refused:
        TranslationPreprocessor(source_lang=code, target_lang=CODES[family][1]).features(
            {"source": ["a"]}, build(family)
        )
    assert "preprocessor.source_lang" in str(refused.value)
    assert message in str(refused.value)


def test_a_summary_has_the_language_of_its_document(build):
    tokenizer = build("mbart50")
    made = SummarizationPreprocessor(lang="ro_RO").features({"document": ["a"], "summary": ["b"]}, tokenizer)
    language = tokenizer.convert_tokens_to_ids("ro_RO")
    assert made["input_ids"][0][0] == made["labels"][0][0] == language
    with pytest.raises(BadOptions, match=r"preprocessor\.lang"):
        SummarizationPreprocessor().features({"document": ["a"]}, tokenizer)


def test_other_tokenizers_have_no_languages(t5, bart):
    assert languages.language_codes(t5) is languages.language_codes(bart) is None
