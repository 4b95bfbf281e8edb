"""Tiny tokenizers of every kind that encoder-decoders have, multilingual ones among them."""

from __future__ import annotations

import io
import json

import pytest
import sentencepiece
from transformers import M2M100Tokenizer, MBart50Tokenizer, MBartTokenizer, NllbTokenizer
from transformers.models.mbart50.tokenization_mbart50 import FAIRSEQ_LANGUAGE_CODES

from finetune.testing.tokenizers import TEXTS, tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz."


def _vocabulary(languages):
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{letter}", -3.0) for letter in LETTERS] + [(letter, -4.0) for letter in LETTERS]
    return [*pieces, *((code, 0.0) for code in languages), ("<mask>", 0.0)]


def _m2m100(folder):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=model, vocab_size=150, minloglevel=2
    )
    (folder / "spm.model").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    names = [*("<s>", "<pad>", "</s>", "<unk>"), *(pieces.IdToPiece(k) for k in range(3, len(pieces)))]
    (folder / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names)}))
    return M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "spm.model"))


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Return a function that makes a new tokenizer of a family: they are changed by what they are asked."""

    def make(family):
        if family == "mbart":
            return MBartTokenizer(vocab=_vocabulary(FAIRSEQ_LANGUAGE_CODES))
        if family == "mbart50":
            return MBart50Tokenizer(vocab=_vocabulary(FAIRSEQ_LANGUAGE_CODES))
        if family == "nllb":
            return NllbTokenizer()
        if family == "m2m100":
            return _m2m100(tmp_path_factory.mktemp("m2m100"))
        return tokenizer({"t5": "xlm-roberta", "bart": "roberta"}.get(family, family), vocab_size=500)

    return make


@pytest.fixture(scope="session")
def t5(build):
    return build("t5")


@pytest.fixture(scope="session")
def bart(build):
    return build("bart")
