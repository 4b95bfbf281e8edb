"""Tokenizers of three families, trained on the texts of the town, with the same ids in every process."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SENTINELS = 32
"""Number of sentinels (``<extra_id_0>`` and so on) of the encoder-decoder."""
LONGEST = 512
"""Greatest number of tokens of an input."""


def wordpiece(texts: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """Return a cased WordPiece tokenizer like BERT's: frequent words are one token, all others are letters."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    splitter = pre_tokenizers.BertPreTokenizer()
    words = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    letters = sorted({letter for word in words for letter in word})
    always = [*special, *letters, *(f"##{letter}" for letter in letters)]
    # not the library's trainer: it numbers pieces differently in every process
    ranked = sorted(words, key=lambda word: (-words[word], word))
    pieces = dict.fromkeys([*always, *ranked])
    ids = {piece: number for number, piece in enumerate(list(pieces)[: max(size, len(always))])}
    backend = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(lowercase=False), splitter
    backend.decoder = decoders.WordPiece(cleanup=False)
    backend.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves __init__ untyped
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
    )


def sentencepiece(texts: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer like T5's: spaces are ``▁``, each text ends with ``</s>``, sentinels come last.

    Characters without a token are encoded as bytes, so there is no unknown token.
    """
    sentinels = [f"<extra_id_{number}>" for number in range(SENTINELS)]
    special = ["<pad>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    backend.train_from_iterator(texts, _trainer(size - SENTINELS, special, sorted({c for text in texts for c in text})))
    backend = _spelled_out(backend)
    # added after training, so that they have the last ids, as in T5
    backend.add_special_tokens([AddedToken(sentinel, special=True) for sentinel in sentinels])
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", special.index("</s>"))]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves __init__ untyped
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=sentinels,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
    )


def byte_level(texts: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer like Llama 3's: ``<s>`` before each text.

    Begin, end and padding are three different tokens. Padding is on the left, as generation needs it. The tokenizer
    does not add the end token; the code that makes training features does.
    """
    special = ["<pad>", "<s>", "</s>"]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(texts, _trainer(size, special, sorted(pre_tokenizers.ByteLevel.alphabet())))
    begin = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", special.index("<s>"))]
    )
    backend.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), begin])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves __init__ untyped
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
    )


def _spelled_out(backend: Tokenizer) -> Tokenizer:
    """Return a tokenizer whose byte tokens are not special: special tokens would not be decoded."""
    state = json.loads(backend.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if not token["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(state))


def _trainer(size: int, special: list[str], letters: list[str]) -> trainers.BpeTrainer:
    return trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=letters, show_progress=False, max_token_length=20
    )
