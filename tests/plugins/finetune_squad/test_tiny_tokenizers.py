"""The tokenizers that other tests stand on."""

from __future__ import annotations

import subprocess
import sys

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from finetune.errors import UnknownName
from finetune.testing.tokenizers import FAMILIES, tokenizer

TEXTS = ("Who keeps the lighthouse?", "Old Tomás, in the café by the pier 🙂; ﬁsh costs £12.54.")


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_and_loaded_it_gives_the_same_ids(family, tmp_path):
    made = tokenizer(family)
    made.save_pretrained(tmp_path)
    for again in (PreTrainedTokenizerFast.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        assert again(*TEXTS)["input_ids"] == made(*TEXTS)["input_ids"]
        assert again.padding_side == made.padding_side


def test_every_process_builds_the_same_vocabulary():
    program = (
        "from finetune.testing.tokenizers import *; "
        "print(*(ascii(sorted(tokenizer(family).get_vocab().items())) for family in FAMILIES), sep='\\n')"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    here = [ascii(sorted(tokenizer(family).get_vocab().items())) for family in FAMILIES]
    assert elsewhere.stdout.splitlines() == here


def test_the_families_differ_in_what_matters():
    joined = {
        name: tokenizer(name).convert_ids_to_tokens(tokenizer(name)("tar", "pier").input_ids) for name in FAMILIES
    }
    assert joined["bert"] == ["[CLS]", "tar", "[SEP]", "pier", "[SEP]"]
    assert joined["roberta"].count("</s>") == 3
    assert joined["xlnet"][-1] == "<cls>"
    assert joined["llama"].count("<s>") == 2
    assert not set(joined["gpt2"]) & set(tokenizer("gpt2").all_special_tokens)
    spaced = {name: tokenizer(name)("a pier", return_offsets_mapping=True)["offset_mapping"] for name in FAMILIES}
    assert (1, 6) in spaced["gpt2"]  # takes in the space
    assert (2, 6) in spaced["roberta"]  # does not
    assert tokenizer("bert")("Café").input_ids == tokenizer("bert")("cafe").input_ids
    assert tokenizer("bert-cased")("Café").input_ids != tokenizer("bert-cased")("cafe").input_ids


def test_a_misspelt_family_is_answered():
    with pytest.raises(UnknownName, match="Did you mean 'roberta'"):
        tokenizer("robarta")
