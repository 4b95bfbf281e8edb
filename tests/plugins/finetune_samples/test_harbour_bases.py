"""The bases: made once, whole or not at all, found again, and loadable as any model is."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from finetune import plan, recipe
from finetune.errors import BadOptions, UnknownName
from finetune.kit import PadRight
from finetune.plugins import discover
from finetune_samples import (
    bases,
    chats,
    corpora,
    decoders,
    encoder_decoders,
    pretraining,
    vocabularies,
)
from finetune_samples import making as makings
from finetune_samples.bases import KINDS, base, fingerprint
from finetune_samples.catalogue import load
from finetune_samples.induction import look_back
from finetune_samples.ingredients import Teaching
from finetune_samples.world import SEED, world
from finetune_trl.sft.preprocessor import SFTPreprocessor

CLASSES = {
    "encoder": AutoModelForMaskedLM,
    "seq2seq": AutoModelForSeq2SeqLM,
    "decoder": AutoModelForCausalLM,
    "assistant": AutoModelForCausalLM,
}
TEXT = "The Grey Heron lay at Widow's Landing with 57 sacks of salt, said Zoë Ørsund. 🦀"


@pytest.fixture(scope="module")
def cheap(tmp_path_factory):
    """Make bases of two steps on few texts, each once for all tests here."""
    patch = pytest.MonkeyPatch()
    few = corpora.corpus(SEED, world(SEED))[:300]
    patch.setattr(makings, "corpus", lambda seed, world: few)
    patch.setattr(bases, "KINDS", {kind: small(making) for kind, making in KINDS.items()})
    folder = tmp_path_factory.mktemp("bases")
    yield cache(lambda kind: base(kind, cache=folder, steps=2))
    patch.undo()


def small(making):
    less = {"steps": 2, "batch": 2}
    return bases.replace(making, **less if isinstance(making, Teaching) else {**less, "rehearsal": 1})


@pytest.mark.parametrize("kind", KINDS)
def test_a_base_loads_as_any_model_does_and_has_about_a_million_parameters(cheap, kind):
    model, info = CLASSES[kind].from_pretrained(cheap(kind), output_loading_info=True)
    assert not info["missing_keys"]
    assert 0.7e6 < model.num_parameters() < 1.4e6
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
    tokenizer = AutoTokenizer.from_pretrained(cheap(kind))
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
    assert not list(cheap(kind).glob("*.bin")) and (cheap(kind) / "model.safetensors").is_file()


@pytest.mark.parametrize("kind", KINDS)
def test_a_base_records_its_settings(cheap, kind):
    record = json.loads((cheap(kind) / bases.RECORD).read_text(encoding="utf-8"))
    assert record["kind"] == kind and record["steps"] == 2
    assert record["texts"] == (len(load("harbour-instructions")["train"]) + 2000 if kind == "assistant" else 300)
    assert cheap(kind).name == f"{kind}-{record['fingerprint'][:16]}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_reloaded_tokenizer_gives_the_ids_it_gave_before(cheap, kind):
    texts = makings.corpus(SEED, world(SEED))
    making = KINDS[getattr(KINDS[kind], "after", kind)]
    made = getattr(vocabularies, making.vocabulary)(texts, making.vocabulary_size)
    reloaded = AutoTokenizer.from_pretrained(cheap(kind))
    assert reloaded(TEXT)["input_ids"] == made(TEXT)["input_ids"]
    assert reloaded.padding_side == made.padding_side
    assert reloaded.model_max_length == vocabularies.LONGEST


def test_special_tokens_of_the_encoder_are_berts(cheap):
    tokenizer = AutoTokenizer.from_pretrained(cheap("encoder"))
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("The salt", "Salt")["input_ids"])
    assert (tokens[0], tokens[-1], tokens.count("[SEP]")) == ("[CLS]", "[SEP]", 2)
    assert tokenizer.mask_token == "[MASK]" and tokenizer.pad_token_id == 0


def test_special_tokens_of_the_encoder_decoder_are_t5s(cheap):
    tokenizer = AutoTokenizer.from_pretrained(cheap("seq2seq"))
    model = AutoModelForSeq2SeqLM.from_pretrained(cheap("seq2seq"))
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    assert tokenizer("The salt")["input_ids"][-1] == tokenizer.eos_token_id
    assert model.config.decoder_start_token_id == tokenizer.pad_token_id
    sentinels = [f"<extra_id_{number}>" for number in range(vocabularies.SENTINELS)]
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer) - len(sentinels), len(tokenizer))) == sentinels
    assert tokenizer.decode(tokenizer(f"a {sentinels[3]} b")["input_ids"], skip_special_tokens=True).split() == [
        "a",
        "b",
    ]


def test_beginning_end_and_padding_of_the_decoder_are_three_tokens(cheap):
    tokenizer = AutoTokenizer.from_pretrained(cheap("decoder"))
    model = AutoModelForCausalLM.from_pretrained(cheap("decoder"))
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert len(set(ids)) == 3 and None not in ids
    assert (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id) == ids
    assert tokenizer("The salt")["input_ids"][0] == tokenizer.bos_token_id
    assert tokenizer("The salt")["input_ids"].count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("kind", ["seq2seq", "decoder"])
@pytest.mark.parametrize("text", [TEXT, "日本 🙂 naïve Ω", "Igest torgulora morraka masken salgot."])
def test_any_text_survives_there_and_back(cheap, kind, text):
    tokenizer = AutoTokenizer.from_pretrained(cheap(kind))
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_another_decoder_gives_another_assistant(monkeypatch):
    before = fingerprint(KINDS["assistant"])
    monkeypatch.setitem(bases.KINDS, "decoder", bases.replace(KINDS["decoder"], steps=1))
    assert fingerprint(KINDS["assistant"]) != before


def test_the_features_of_the_assistant_are_those_of_supervised_fine_tuning(cheap):
    tokenizer = AutoTokenizer.from_pretrained(cheap("assistant"))
    chatty = [row for row in load("harbour-instructions", size=60)["train"] if len(row["messages"]) > 2]
    assert {message["role"] for row in chatty for message in row["messages"]} == {"system", "user", "assistant"}
    made = chats.features([row["messages"] for row in chatty], tokenizer)
    theirs = (
        SFTPreprocessor(chat_template="plain")
        .fit(chatty)
        .features({"messages": [r["messages"] for r in chatty]}, tokenizer)
    )
    assert [row["input_ids"] for row in made] == theirs["input_ids"]
    assert [row["labels"] for row in made] == theirs["labels"]


def test_chats_are_padded_where_nothing_is_seen_or_learned():
    rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8], "labels": [8]}]
    batch = {name: tensor.tolist() for name, tensor in PadRight(pad_token_id=0)(rows).items()}
    assert batch == {
        "input_ids": [[5, 6, 7], [8, 0, 0]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
        "labels": [[-100, 6, 7], [8, -100, -100]],
    }


def test_a_base_is_made_once(cheap, monkeypatch):
    folder = cheap("decoder")
    monkeypatch.setattr(bases, "_write", lambda *_: pytest.fail("made again"))
    assert base("decoder", cache=folder.parent, steps=2) == folder


def test_a_base_is_whole_or_not_there(tmp_path, monkeypatch):
    def fail(kind, making, folder, named):
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(bases, "_write", fail)
    with pytest.raises(KeyboardInterrupt):
        base("encoder", cache=tmp_path, steps=2)
    assert not list(tmp_path.iterdir())


def test_a_process_that_finishes_second_takes_the_base_of_the_first(tmp_path, monkeypatch):
    def race(kind, making, folder, named):
        theirs = tmp_path / f"{kind}-{named[:16]}"
        theirs.mkdir()
        (theirs / "theirs").touch()
        bases._write_files(theirs, {})
        (folder / "ours").touch()

    monkeypatch.setattr(bases, "_write", race)
    folder = base("encoder", cache=tmp_path, steps=2)
    assert {file.name for file in folder.iterdir()} == {"theirs", bases.RECORD}
    assert list(tmp_path.iterdir()) == [folder]


def test_every_option_and_every_line_of_code_counts_in_the_fingerprint(tmp_path, monkeypatch):
    making = KINDS["encoder"]
    others = [bases.replace(making, steps=making.steps + 1), bases.replace(making, seed=1), KINDS["decoder"]]
    assert len({fingerprint(each) for each in (making, *others)}) == 4
    for module in Path(bases.__file__).parent.glob("*.py"):
        (tmp_path / module.name).write_bytes(module.read_bytes())
    monkeypatch.setattr(bases, "__file__", str(tmp_path / "bases.py"))
    unchanged = fingerprint(making)
    for not_imported in ("bases", "demo", "decoders", "preferences"):
        (tmp_path / f"{not_imported}.py").write_text("")
    assert fingerprint(making) == unchanged
    (tmp_path / "ledgers.py").write_text("")
    assert fingerprint(making) != unchanged


MADE_ALONE = """
import sys
from pathlib import Path
from finetune_samples import bases, corpora
from finetune_samples.ingredients import Making
whole = corpora.corpus
corpora.corpus = lambda *given: whole(*given)[:300]
for kind, made in bases.KINDS.items():
    bases.KINDS[kind] = bases.replace(made, batch=2, **({"rehearsal": 1} if isinstance(made, Making) else {"steps": 1}))
bases.base(sys.argv[1], cache=Path(sys.argv[2]), steps=1)
print(*(name.partition(".")[2] for name in sys.modules if name.startswith("finetune_samples.")))
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_fingerprint_covers_every_module_that_making_the_base_imports(kind, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MADE_ALONE, kind, tmp_path], capture_output=True, text=True, check=True
    )
    imported = set(done.stdout.split()) - {"bases"}
    covered = set(bases.sources(KINDS[kind]))
    if isinstance(KINDS[kind], Teaching):
        covered |= set(bases.sources(KINDS[KINDS[kind].after]))
    assert imported == covered


def test_bases_are_kept_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert bases.cache_folder() == tmp_path / "finetune" / "bases"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert bases.cache_folder() == tmp_path / ".cache" / "finetune" / "bases"


def test_an_unknown_base_is_answered_with_the_nearest_and_no_steps_are_refused(tmp_path):
    with pytest.raises(UnknownName, match=r"no base model 'decodr'\. Did you mean 'decoder'\?"):
        base("decodr", cache=tmp_path)
    with pytest.raises(BadOptions, match="steps must be a whole number of at least 1"):
        base("decoder", cache=tmp_path, steps=0)


def test_making_a_base_leaves_the_callers_random_numbers_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(makings, "corpus", lambda seed, world: load("harbour-text", size=100)["train"] and TEXTS)
    monkeypatch.setattr(bases, "KINDS", {"encoder": small(KINDS["encoder"])})
    torch.manual_seed(5), random.seed(5)
    expected = torch.rand(1).item(), random.random()
    torch.manual_seed(5), random.seed(5)
    base("encoder", cache=tmp_path, steps=1)
    assert (torch.rand(1).item(), random.random()) == expected


TEXTS = [TEXT] * 50


def test_bases_read_nothing_of_what_is_kept_for_validation_or_test():
    read = "\n".join(corpora.corpus(SEED, world(SEED)))
    for name, column in (("harbour-text", "text"), ("harbour-dialogues", "dialogue"), ("harbour-dialogues", "summary")):
        for split in ("validation", "test"):
            assert not any(row[column] in read for row in load(name)[split])
    assert not any(row["summary"] in read for row in load("harbour-dialogues")["train"])


def test_the_target_is_the_stretch_that_the_source_marks():
    rng, text = random.Random(0), list(range(100, 228))
    for _ in range(50):
        source, target = encoder_decoders.look_up(text, 90, rng)
        assert source[4:] == text and source[0] == source[3] == 90
        at = text.index(source[1])
        assert target == text[at : at + encoder_decoders.STRETCH] and source[1:3] == target[: encoder_decoders.CUE]
        assert len(target) == encoder_decoders.STRETCH
    assert encoder_decoders.look_up([5, 6, 7], 90, rng) == ([90, 5, 6, 90, 5, 6, 7], [5, 6, 7])


def test_an_untrained_encoder_decoder_finds_in_the_source_what_comes_next(cheap):
    tokenizer = AutoTokenizer.from_pretrained(cheap("seq2seq"))
    torch.manual_seed(0)
    model = encoder_decoders.model(tokenizer, dict(KINDS["seq2seq"].size))
    model.set_attn_implementation("eager")
    ids = torch.randperm(len(tokenizer) - 3)[:24][None] + 3
    with torch.no_grad():
        seen = model(input_ids=ids, labels=ids, output_attentions=True)
    encoder, decoder, across = (part[0][0] for part in (seen.encoder_attentions, seen.decoder_attentions,
                                                        seen.cross_attentions))  # fmt: skip
    assert encoder[0].diagonal(-1).mean() > 0.8 and encoder[1].diagonal(-2).mean() > 0.8
    assert decoder[0].diagonal(-1).mean() > 0.8
    # While the decoder reads the token before, both heads look at the one to be written. By chance: about 0.04.
    assert across[0].diagonal()[1:].mean() > 0.3
    assert across[1].diagonal()[2:].mean() > 0.3


def test_a_few_steps_of_pretraining_lower_the_loss_of_the_encoder_decoder(cheap):
    tokenizer = AutoTokenizer.from_pretrained(cheap("seq2seq"))
    model = AutoModelForSeq2SeqLM.from_pretrained(cheap("seq2seq"))
    learned = encoder_decoders.objective(tokenizer, corpora.corpus(SEED, world(SEED))[:150], SEED)
    losses = [
        pretraining.fit(model, *learned, pretraining.Schedule(steps=12, batch=4, learning_rate=3e-3, seed=SEED))
        for _ in range(2)
    ]
    assert losses[1] < losses[0] - 0.3


def test_blocks_lose_nothing_but_the_end_and_every_text_is_ended(cheap):
    tokenizer = AutoTokenizer.from_pretrained(cheap("decoder"))
    texts = [row["text"] for row in load("harbour-text", size=40)["train"]]
    whole = [token for text in texts for token in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]]
    cut = pretraining.blocks(tokenizer, texts)
    assert {len(block) for block in cut} == {pretraining.BLOCK}
    joined = [token for block in cut for token in block]
    assert joined == whole[: len(joined)] and len(whole) - len(joined) < pretraining.BLOCK


def test_an_untrained_decoder_looks_back_to_the_token_before_and_to_what_followed_it(cheap):
    tokenizer = AutoTokenizer.from_pretrained(cheap("decoder"))
    torch.manual_seed(0)
    model = decoders.model(tokenizer, dict(KINDS["decoder"].size))
    model.set_attn_implementation("eager")
    half = torch.randperm(len(tokenizer) - 3)[:16] + 3
    ids = torch.cat([half, half])[None]
    with torch.no_grad():
        first, second, *_ = model(ids, output_attentions=True).attentions
    assert first[0, 0].diagonal(-1).mean() > 0.8
    assert first[0, 1].diagonal(-2).mean() > 0.8
    # In the second reading, what came after this token in the first: 15 back. By chance it would be about 0.04.
    assert second[0, 0].diagonal(-15)[2:].mean() > 0.3
    assert second[0, 1].diagonal(-15)[2:].mean() > 0.3


def test_look_back_depends_on_the_seed_only():
    def weights():
        torch.manual_seed(3)
        config = decoders.LlamaConfig(vocab_size=64, hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
                                         intermediate_size=64, attention_bias=True)  # fmt: skip
        model = decoders.LlamaForCausalLM(config)
        look_back(model)
        return model.state_dict()

    first, second = weights(), weights()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_recipe_names_a_base_by_its_kind() -> None:
    written = {"task": "causal-language-modeling", "dataset": "sample:harbour-text", "strategy": "full", "output": "o"}
    with pytest.raises(UnknownName, match=r"no base model 'decodr'\. Did you mean 'decoder'"):
        plan.make(recipe.parse({**written, "model": "sample:decodr"}), discover())
