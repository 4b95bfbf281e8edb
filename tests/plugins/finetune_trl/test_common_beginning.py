"""The prompt that two answers begin with ends at a border of words or turns, wherever they differ."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_trl.preference.pairs import PreferencePair, read_pair

U = {"role": "user", "content": "Is the harbour open?"}
YES, NO = {"role": "assistant", "content": "Yes, till nine."}, {"role": "assistant", "content": "No."}

TEXTS = {
    "one begins the other": ("The net is wet", "The net is wet and torn", "The net is"),
    "they differ inside a word": ("The net is wet", "The net is weathered", "The net is"),
    "they differ after a word": ("The net is wet.", "The net is wet!", "The net is wet"),
    "they differ between words": ("The net is wet today", "The net is wet again", "The net is wet"),
    "inside a number": ("It weighs 3.14 kg", "It weighs 3.15 kg", "It weighs"),
    "inside a contraction": ("We can't sail", "We can't row", "We can't"),
    "before an apostrophe": ("We can't sail", "We can sail", "We"),
    "after a line break": ("Open?\nYes", "Open?\nNo", "Open?\n"),
    "after a bracket": ("f(alpha)", "f(all)", "f("),
    "a letter with a separate accent": ("Le bateau de Rene", "Le bateau de Rene\u0301", "Le bateau de"),
    "an emoji of several characters": ("ok 👩\u200d🚀", "ok 👩\u200d🔧", "ok"),
    "Chinese has no spaces": ("渡輪今天早上遲到了", "渡輪今天早上準時", "渡輪今天早上"),
    "Japanese has no spaces": ("船は赤いです", "船は白いです", "船は"),
    "Thai has no spaces": ("เรือสีแดง", "เรือสีขาว", "เรือสี"),
    "Hindi has spaces": ("नाव लाल है", "नाव लंबी है", "नाव"),
    "nothing would be left": ("Aye, sir. ", "Aye, sir. Gladly.", "Aye, sir"),
    "no word in common": ("harbour", "harmony", ""),
    "equal texts": ("The net", "The net", "The"),
    "turns of a dialogue": (
        "\n\nHuman: Open?\n\nAssistant: It is open.",
        "\n\nHuman: Open?\n\nAssistant: It is not.",
        "\n\nHuman: Open?\n\nAssistant:",
    ),
    "the last turn of a dialogue": (
        "Human: Hi\nAssistant: Hello\nHuman: Open?\nAssistant: Yes",
        "Human: Hi\nAssistant: Hello\nHuman: Open?\nAssistant: Yesterday",
        "Human: Hi\nAssistant: Hello\nHuman: Open?\nAssistant:",
    ),
    "ChatML": (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nI am here",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nI am not",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    ),
    "instructions": ("[INST] Hi [/INST] I am here", "[INST] Hi [/INST] I am not", "[INST] Hi [/INST]"),
}


@pytest.mark.parametrize(("chosen", "rejected", "prompt"), TEXTS.values(), ids=TEXTS)
def test_a_prompt_in_texts_ends_at_a_border(chosen: str, rejected: str, prompt: str) -> None:
    for one, other in ((chosen, rejected), (rejected, chosen)):
        pair = read_pair({"chosen": one, "rejected": other}, None)
        assert pair == PreferencePair(
            prompt=prompt, chosen=one[len(prompt) :], rejected=other[len(prompt) :], implicit=True
        )


@given(st.lists(st.sampled_from(["net", "nets", "salt", "3", "it's", "é", "—"]), min_size=1, max_size=6), st.data())
def test_no_word_is_cut_and_no_answer_is_empty(words: list[str], data: st.DataObject) -> None:
    text = " ".join(words)
    other = text[: data.draw(st.integers(0, len(text)))] + data.draw(st.sampled_from(["", "s", " and", ".", "9"]))
    pair = read_pair({"chosen": text, "rejected": other}, None)
    assert [pair.prompt + pair.chosen, pair.prompt + pair.rejected] == [text, other]
    assert not pair.prompt.endswith(" ")
    if pair.prompt:
        assert pair.chosen.strip() and pair.rejected.strip()
        assert not (pair.prompt[-1].isalnum() and (pair.chosen[0].isalnum() or pair.rejected[0].isalnum()))
        assert set(pair.prompt.split()) <= {*text.split(), *(word.rstrip(".") for word in other.split())}


@pytest.mark.parametrize(
    ("chosen", "rejected", "turns"),
    [([U, YES], [U, NO], 1), ([U, YES], [U, YES, U, NO], 1), ([U, YES, U, YES], [U, YES, U, NO], 3), ([YES], [NO], 0)],
)
def test_a_prompt_in_messages_ends_at_a_turn(chosen: list[object], rejected: list[object], turns: int) -> None:
    pair = read_pair({"chosen": chosen, "rejected": rejected}, None)
    assert (pair.prompt, pair.chosen, pair.rejected) == (chosen[:turns], chosen[turns:], rejected[turns:])
