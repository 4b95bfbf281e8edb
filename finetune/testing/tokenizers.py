"""Tiny tokenizers of every family: they need no download, and give the same ids every time.

Families differ in the places of special tokens, in whether offsets include the space before a word,
in how they treat accents, and in the side of the padding.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from finetune.errors import UnknownName, did_you_mean

Build = Callable[[list[str], int], PreTrainedTokenizerFast]

TEXTS = (
    "The harbour of Port Elm wakes before the town does. Gulls circle over the quay, and the first boats come in.",
    "Captain Inès Moreau sold forty crates of mackerel in 1987; her brother kept the ledger in a café by the pier.",
    "Who keeps the lighthouse? Old Tomás keeps it, with his daughter, since the storm of 2003 took the north wall.",
    "Ærøskøbing, naïve, façade, Straße, İzmir, ﬁsh: words with marks. שלום and مرحبا read from right to left.",
    "Prices rose by 4.5 % (from £12 to £12.54) – the council’s own figures; nobody knows why. What is it worth?",
    "東京は日本の首都です。 Москва 🙂👍 fish-and-chips, ropes, nets, salt, tar, and an unreasonably long breakwater.",
)
"""Texts from which the vocabularies are built by default."""


def tokenizer(family: str, texts: Iterable[str] | None = None, vocab_size: int = 1000) -> PreTrainedTokenizerFast:
    """Build a tokenizer of one of `FAMILIES` from texts; it can be saved and loaded again.

    The same texts give the same ids, in every process.

    Examples:
        >>> bert = tokenizer("bert")
        >>> bert.convert_ids_to_tokens(bert("The pier", "tar").input_ids)[0]
        '[CLS]'
        >>> tokenizer("xlnet")("The pier", "tar").token_type_ids[-1]  # [CLS] stands at the end, with a type of its own
        2

    Raises:
        UnknownName: There is no such family.
    """
    if family not in _FAMILIES:
        raise UnknownName(
            f"unknown tokenizer family {family!r}.{did_you_mean(family, FAMILIES)} Known: {', '.join(FAMILIES)}."
        )
    return _FAMILIES[family](list(TEXTS if texts is None else texts), vocab_size)


def _wordpiece(lowercase: bool) -> Build:
    def build(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
        normalizer, splitter = normalizers.BertNormalizer(lowercase=lowercase), pre_tokenizers.BertPreTokenizer()
        words = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
        special = list(_BERT_NAMES.values())
        letters = sorted({letter for word in words for letter in word})
        always = [*special, *letters, *(f"##{letter}" for letter in letters)]
        pieces = [begin + piece for (begin, piece) in _pieces(words, "", "##", vocab_size - len(always))]
        ids = {piece: number for number, piece in enumerate(dict.fromkeys([*always, *pieces]))}
        backend = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
        backend.normalizer, backend.pre_tokenizer = normalizer, splitter
        backend.decoder = decoders.WordPiece(cleanup=False)
        backend.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
        return _wrapped(backend, types=True, **_BERT_NAMES)

    return build


def _gpt2(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    backend = _byte_level(texts, vocab_size, ["<|endoftext|>"], add_prefix_space=False)
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    end = "<|endoftext|>"
    return _wrapped(backend, bos_token=end, eos_token=end, unk_token=end, pad_token=end, padding_side="left")


def _roberta(add_prefix_space: bool) -> Build:
    def build(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        backend = _byte_level(texts, vocab_size, special, add_prefix_space=add_prefix_space)
        begin, end = (("<s>", special.index("<s>")), ("</s>", special.index("</s>")))  # special tokens come first
        backend.post_processor = processors.RobertaProcessing(end, begin, True, add_prefix_space)
        return _wrapped(backend, **_ROBERTA_NAMES)

    return build


def _byte_level(texts: list[str], vocab_size: int, special: list[str], *, add_prefix_space: bool) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def _unigram(texts: list[str], vocab_size: int, special: list[str], unknown: str, *, plain: bool = False) -> Tokenizer:
    steps = [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()] if plain else [normalizers.NFKC()]
    normalizer = normalizers.Sequence([*steps, normalizers.Replace(Regex(" {2,}"), " ")])
    words = Counter(f"▁{word}" for text in texts for word in normalizer.normalize_str(text).split())
    letters = Counter({letter: 1 for word in words for letter in word})
    pieces = Counter({piece: count for (_, piece), count in _pieces(words, "", "", vocab_size).items()})
    counts = {piece: count for piece, count in (letters | pieces).items() if piece not in special}
    total = sum(counts.values())
    vocabulary = [(token, 0.0) for token in special]
    vocabulary += [(piece, math.log(count / total)) for piece, count in sorted(counts.items())]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=special.index(unknown)))
    backend.normalizer, backend.pre_tokenizer = normalizer, pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return backend


def _pieces(words: Counter[str], first: str, later: str, size: int) -> dict[tuple[str, str], int]:
    """Return the pieces that save most, with their counts: ``(mark, piece)``; the mark shows what begins a word."""
    counts: Counter[tuple[str, str]] = Counter()
    for word, count in words.items():
        for start in range(len(word)):
            for stop in range(start + 2, min(len(word), start + 12) + 1):
                counts[later if start else first, word[start:stop]] += count
    ranked = sorted(counts, key=lambda piece: (-counts[piece] * (len(piece[1]) - 1), piece))
    return {piece: counts[piece] for piece in ranked[: max(size, 0)]}


def _template(backend: Tokenizer, single: str, pair: str, special: list[str]) -> None:
    ids = [(token, backend.token_to_id(token)) for token in special]
    backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)


def _xlm_roberta(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    backend = _unigram(texts, vocab_size, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<unk>")
    _template(backend, "<s> $A </s>", "<s> $A </s> </s> $B </s>", ["<s>", "</s>"])
    return _wrapped(backend, **_ROBERTA_NAMES)


def _deberta(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    backend = _unigram(texts, vocab_size, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], "[UNK]")
    _template(backend, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ["[CLS]", "[SEP]"])
    return _wrapped(backend, types=True, **_BERT_NAMES)


def _albert(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    backend = _unigram(texts, vocab_size, ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], "<unk>", plain=True)
    _template(backend, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ["[CLS]", "[SEP]"])
    return _wrapped(backend, types=True, **{**_BERT_NAMES, "pad_token": "<pad>", "unk_token": "<unk>"})


def _xlnet(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    backend = _unigram(texts, vocab_size, ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>"], "<unk>")
    _template(backend, "$A <sep> <cls>:2", "$A <sep> $B:1 <sep>:1 <cls>:2", ["<sep>", "<cls>"])
    names = {"cls_token": "<cls>", "sep_token": "<sep>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return _wrapped(backend, types=True, padding_side="left", unk_token="<unk>", mask_token="<mask>", **names)


def _llama(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False)
    backend.train_from_iterator(texts, trainer)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    _template(backend, "<s> $A", "<s> $A <s> $B", ["<s>"])
    return _wrapped(
        backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>", padding_side="left"
    )


def _wrapped(backend: Tokenizer, *, types: bool = False, **names: Any) -> PreTrainedTokenizerFast:
    inputs = ["input_ids", "token_type_ids", "attention_mask"] if types else ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # upstream's constructor is untyped
        tokenizer_object=backend, model_input_names=inputs, clean_up_tokenization_spaces=False, **names
    )


_BERT_NAMES: dict[str, Any] = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}
_ROBERTA_NAMES: dict[str, Any] = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
_FAMILIES: dict[str, Build] = {
    "bert": _wordpiece(True),
    "bert-cased": _wordpiece(False),
    "gpt2": _gpt2,
    "roberta": _roberta(False),
    "roberta-prefix-space": _roberta(True),
    "xlm-roberta": _xlm_roberta,
    "deberta": _deberta,
    "albert": _albert,
    "xlnet": _xlnet,
    "llama": _llama,
}
FAMILIES: tuple[str, ...] = tuple(_FAMILIES)
"""Names of the families: WordPiece (`bert`, `bert-cased`), byte-level BPE (`gpt2`, `roberta`,
`roberta-prefix-space`), Unigram (`xlm-roberta`, `deberta`, `albert`, `xlnet`), and BPE with byte
fallback (`llama`)."""
