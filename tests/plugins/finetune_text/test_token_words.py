"""Words and their tokens: every word has one labelled token, in order, whatever the tokenizer and the length."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from finetune.errors import BadData, BadOptions, Incompatible
from finetune.interfaces import IGNORE_INDEX, Predictions
from finetune.testing.laws import check_preprocessor
from finetune.testing.tokenizers import FAMILIES, tokenizer
from finetune_text import tasks
from finetune_text.token_classification import TokenClassificationPreprocessor
from finetune_text.token_evaluator import TokenClassificationEvaluator
from finetune_text.words import spaces_between

TOKENIZERS = {family: tokenizer(family) for family in FAMILIES}
WITH_SPACE = {"gpt2", "roberta"}
"""Families that read a word without a space before it as the rest of another."""
TAGS = ("B-PER", "B-SHIP", "I-PER", "I-SHIP", "O")
SOUND = ["salt", "harbour", "naïve", "Straße", "🙂", "1987", "ﬁsh", "breakwater", "Inès", "'s", "東京", "."]
ODD = ["\u0301", "\x01", "\u200b", "\u00ad", "\ufe0f", "\u00a0"]
"""Words of which some tokenizers have no token: marks, control characters, zero-width ones."""
SENTENCE = st.lists(st.tuples(st.sampled_from(SOUND + ODD), st.sampled_from(TAGS)), min_size=1, max_size=12)
TASK = TokenClassificationPreprocessor(labels=TAGS, scheme="BIO", label_ids=False, tag_counts={})


def columns(sentences):
    return {
        "tokens": [[word for word, _ in sentence] for sentence in sentences],
        "ner_tags": [[tag for _, tag in sentence] for sentence in sentences],
    }


def tokens_of(family, word):
    """Return the tokens of a word inside a text."""
    return TOKENIZERS[family](f" {word}" if family in WITH_SPACE else word, add_special_tokens=False)["input_ids"]


def usable(family, sentences):
    """Leave out sentences that a tokenizer without special tokens sees nothing in."""
    used = TOKENIZERS[family]
    kept = [s for s in sentences if used.num_special_tokens_to_add() or any(tokens_of(family, word) for word, _ in s)]
    return kept or [[("salt", "O")]]


def windows_of(features, owner):
    return [number for number, of in enumerate(features["overflow_to_sample_mapping"]) if of == owner]


@pytest.mark.parametrize("family", TOKENIZERS)
@given(sentences=st.lists(SENTENCE, min_size=1, max_size=4), max_length=st.integers(6, 24))
@settings(max_examples=15, deadline=None)
def test_every_word_has_one_labelled_token_in_order_or_is_counted_as_having_none(family, sentences, max_length):
    sentences = usable(family, sentences)
    features = replace(TASK, max_length=max_length).features(columns(sentences), TOKENIZERS[family])
    for owner, sentence in enumerate(sentences):
        mine = windows_of(features, owner)
        labelled = [
            (word, TAGS[label])
            for number in mine
            for word, label in zip(features["word_ids"][number], features["labels"][number], strict=True)
            if label != IGNORE_INDEX
        ]
        seen = [place for place, (word, _) in enumerate(sentence) if tokens_of(family, word)]
        assert labelled == [(place, sentence[place][1]) for place in seen]
        assert [features["words_without_tokens"][number] for number in mine] == [
            len(sentence) - len(seen), *[0] * (len(mine) - 1)
        ]  # fmt: skip


@pytest.mark.parametrize("family", TOKENIZERS)
@given(sentences=st.lists(SENTENCE, min_size=1, max_size=4), max_length=st.integers(6, 24))
@settings(max_examples=15, deadline=None)
def test_windows_hold_the_tokens_of_whole_words_and_what_is_lost_is_counted(family, sentences, max_length):
    sentences = usable(family, sentences)
    used = TOKENIZERS[family]
    room = max_length - used.num_special_tokens_to_add()
    features = replace(TASK, max_length=max_length).features(columns(sentences), used)
    for owner, sentence in enumerate(sentences):
        tokens, begun = [], []
        for number in windows_of(features, owner):
            assert len(features["input_ids"][number]) <= max_length
            own = [
                (w, t)
                for w, t in zip(features["word_ids"][number], features["input_ids"][number], strict=True)
                if w >= 0
            ]
            tokens += own
            begun.append(own[0][0] if own else 0)
        expected = [
            (place, token) for place, (word, _) in enumerate(sentence) for token in tokens_of(family, word)[:room]
        ]
        assert tokens == expected
        lost = sum(max(0, len(tokens_of(family, word)) - room) for word, _ in sentence)
        assert sum(features["tokens_lost"][number] for number in windows_of(features, owner)) == lost
        sizes = [len(tokens_of(family, word)[:room]) for word, _ in sentence]
        for first, after in pairwise(begun):
            assert sum(sizes[first : after + 1]) > room, "the window was closed before it was full"


@pytest.mark.parametrize("family", TOKENIZERS)
@given(sentences=st.lists(SENTENCE, min_size=2, max_size=5), data=st.data())
@settings(max_examples=8, deadline=None)
def test_features_do_not_depend_on_how_examples_are_batched(family, sentences, data):
    sentences, used = usable(family, sentences), TOKENIZERS[family]
    at = data.draw(st.integers(1, len(sentences)))
    task = replace(TASK, max_length=9)
    whole = dict(task.features(columns(sentences), used))
    parts = [dict(task.features(columns(part), used)) for part in (sentences[:at], sentences[at:]) if part]
    del whole["overflow_to_sample_mapping"]
    assert {name: [value for part in parts for value in part[name]] for name in whole} == whole


@pytest.mark.parametrize("label_all", [False, True])
@pytest.mark.parametrize("family", TOKENIZERS)
@given(sentences=st.lists(SENTENCE, min_size=1, max_size=4), max_length=st.integers(6, 24))
@settings(max_examples=8, deadline=None)
def test_a_model_that_gives_the_labels_back_predicts_the_tags(family, label_all, sentences, max_length):
    sentences = usable(family, sentences)
    task = replace(TASK, max_length=max_length, label_all=label_all)
    features = dict(task.features(columns(sentences), TOKENIZERS[family]))
    owners = features.pop("overflow_to_sample_mapping")
    rows = [dict(zip(features, values, strict=True)) for values in zip(*features.values(), strict=True)]
    logits = np.full((len(rows), max(len(row["labels"]) for row in rows), len(TAGS)), -100.0, np.float32)
    for number, row in enumerate(rows):
        for place, label in enumerate(row["labels"]):
            logits[number, place] = 9 * np.eye(len(TAGS))[label] if label >= 0 else 5.0
    given_columns = columns(sentences)
    examples = [dict(zip(given_columns, values, strict=True)) for values in zip(*given_columns.values(), strict=True)]
    records = TokenClassificationEvaluator().records(
        Predictions(
            examples=examples, outputs=logits, tokenizer=TOKENIZERS[family], preprocessor=task,
            features=[{**row, "example": owner} for row, owner in zip(rows, owners, strict=True)],
        )
    )  # fmt: skip
    for sentence, record in zip(sentences, records, strict=True):
        assert record["tags"] == [tag if tokens_of(family, word) else None for word, tag in sentence]
        assert record["reference_tags"] == [tag for _, tag in sentence]


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "gpt2"])
@pytest.mark.parametrize("options", [{"max_length": 8}, {"label_all": True}])
def test_the_laws_of_preprocessors_hold(family, options):
    examples = [
        {
            "tokens": ["Inès", "keeps", "the", "Gull", *["salt"] * number],
            "ner_tags": ["B-PER", "O", "O", "B-SHIP", *["O"] * number],
        }
        for number in range(4)
    ]
    task = tasks()["token-classification"]
    check_preprocessor(
        TokenClassificationPreprocessor(**options), examples=examples, tokenizer=TOKENIZERS[family], task=task
    )


def one(task, words, tags, family="bert"):
    made = task.features({"tokens": [words], "ner_tags": [tags]}, TOKENIZERS[family])
    return {name: values[0] for name, values in made.items()}


@pytest.mark.parametrize(
    ("tag", "rest"), [("B-PER", "I-PER"), ("I-PER", "I-PER"), ("U-PER", "I-PER"), ("L-PER", "I-PER"), ("O", "O")]
)
def test_where_all_tokens_are_labelled_those_after_a_words_first_lie_inside_its_entity(tag, rest):
    labels = ("O", "B-PER", "I-PER", "L-PER", "U-PER")
    task = TokenClassificationPreprocessor(labels=labels, label_all=True, label_ids=False, tag_counts={})
    feature = one(task, ["Harrowmouth"], [tag])
    names = [labels[label] if label >= 0 else None for label in feature["labels"]]
    assert len(names) > 3
    assert names == [None, tag, *[rest] * (len(names) - 3), None]


def test_labels_that_labelling_all_tokens_needs_are_added_after_the_others():
    rows = [{"tokens": ["Inès", "sails"], "ner_tags": ["B-PER", "O"]}, {"tokens": ["it"], "ner_tags": ["O"]}]
    assert TokenClassificationPreprocessor().fit(rows).labels == ("B-PER", "O")
    assert TokenClassificationPreprocessor(label_all=True).fit(rows).labels == ("B-PER", "O", "I-PER")
    assert TokenClassificationPreprocessor(label_all=True, scheme="none").fit(rows).labels == ("B-PER", "O")


def test_a_word_has_the_tokens_that_it_has_inside_a_text():
    for family in FAMILIES:
        used = TOKENIZERS[family]
        feature = one(TASK, ["salt", "harbour"], ["O", "O"], family)
        inside = [t for w, t in zip(feature["word_ids"], feature["input_ids"], strict=True) if w == 1]
        text = used("salt harbour", add_special_tokens=False)["input_ids"]
        # Our tiny Llama has no pre-tokenizer, and may join the end of a word with the space after it.
        assert family == "llama" or text[-len(inside) :] == inside


@pytest.mark.parametrize("family", sorted(WITH_SPACE))
def test_words_without_a_space_between_them_have_the_tokens_of_their_text(family):
    used = TOKENIZERS[family]
    text, places = " tar, salt and pier.", [(1, 4), (4, 5), (6, 10), (11, 14), (15, 19), (19, 20)]
    row = {"tokens": [text[start:end] for start, end in places], "space_after": spaces_between(places)}
    assert row["space_after"] == [False, True, True, True, False, True]
    whole = used(text)["input_ids"]
    assert TASK.features({name: [value] for name, value in row.items()}, used)["input_ids"] == [whole]
    assert TASK.features({"tokens": [text]}, used)["input_ids"] == [whole]
    assert TASK.features({"tokens": [row["tokens"]]}, used)["input_ids"] != [whole]
    mixed = {"tokens": [row["tokens"], row["tokens"]], "space_after": [None, row["space_after"]]}
    assert [ids == whole for ids in TASK.features(mixed, used)["input_ids"]] == [False, True]


def test_a_word_longer_than_a_window_keeps_its_first_tokens_on_whichever_side_the_tokenizer_cuts():
    for side in ("right", "left"):
        bert = tokenizer("bert")
        bert.truncation_side = side
        task = replace(TASK, max_length=5)
        made = task.features({"tokens": [["tar", "kbkbkb", "tar"]], "ner_tags": [["O", "B-PER", "O"]]}, bert)
        assert made["word_ids"] == [[-1, 0, -1], [-1, 1, 1, 1, -1], [-1, 2, -1]]
        assert bert.convert_ids_to_tokens(made["input_ids"][1])[1:4] == ["k", "##b", "##k"]
        assert bert.truncation_side == side
        assert task.counts(made) == {
            "words": 3, "words_without_tokens": 0, "sentences_in_several_windows": 1, "words_truncated": 1,
            "tokens_lost": 3,
        }  # fmt: skip


def test_text_is_split_into_words_and_labels_appear_when_answers_do():
    bert = TOKENIZERS["bert"]
    made = TASK.features({"tokens": ["Inès  keeps\tthe pier"]}, bert)
    assert made == TASK.features({"tokens": [["Inès", "keeps", "the", "pier"]]}, bert)
    assert "labels" not in made
    assert "labels" not in TASK.features({"tokens": [["pier"]], "ner_tags": [None]}, bert)
    with pytest.raises(BadData, match="are not one tag for each of 1 words"):
        TASK.features({"tokens": [["pier"], ["tar"]], "ner_tags": [["O"], None]}, bert)
    with pytest.raises(BadData, match=r"\['B-DATE'\] are not one tag.*of the tags B-PER, B-SHIP"):
        TASK.features({"tokens": [["pier"]], "ner_tags": [["B-DATE"]]}, bert)


def test_tags_may_be_positions_in_a_list_of_names():
    task = TokenClassificationPreprocessor(labels=("O", "B-PER")).fit([{"tokens": ["a", "b"], "ner_tags": [0, 1]}])
    assert (task.label_ids, task.tag_scheme, task.tag_counts) == (True, "BIO", {"O": 1, "B-PER": 1})
    assert one(task, ["tar", "salt"], [1, 0])["labels"] == [-100, 1, 0, -100]
    assert task.canonical({"tokens": ["tar", "salt"], "ner_tags": [1, 0]})["tags"] == ["B-PER", "O"]


def test_show_marks_the_tokens_that_the_loss_sees():
    feature = one(TASK, ["tar", "kb"], ["O", "B-PER"])
    assert TASK.show(feature, TOKENIZERS["bert"]) == "[CLS] ⟦tar O⟧ ⟦k B-PER⟧ ##b [SEP]"
    del feature["labels"]
    assert TASK.show(feature, TOKENIZERS["bert"]) == "[CLS] tar k ##b [SEP]"


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_batches_are_padded_on_the_right_whatever_the_tokenizer_does(family):
    used = TOKENIZERS[family]
    before = used.padding_side
    made = TASK.features({"tokens": [["tar"], ["tar", "and", "salt"]], "ner_tags": [["O"], ["O", "O", "B-PER"]]}, used)
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids", "labels") if name in made]
    batch = TASK.collator(used, None)([{name: made[name][k] for name in names} for k in (0, 1)])
    size = len(made["input_ids"][0])
    assert batch["input_ids"][0, :size].tolist() == made["input_ids"][0]
    assert batch["labels"][0, :size].tolist() == made["labels"][0]
    assert batch["labels"][0, size:].eq(IGNORE_INDEX).all()
    assert batch["attention_mask"][0].tolist() == [1] * size + [0] * (batch["labels"].shape[1] - size)
    assert used.padding_side == before


def test_tokenizers_and_lengths_that_cannot_be_are_refused():
    with pytest.raises(Incompatible, match=r"ByT5Tokenizer\) does not say which word a token belongs to"):
        TASK.features({"tokens": [["x"]]}, ByT5Tokenizer())
    with pytest.raises(BadOptions, match=r"max_length 2 leaves no room for text"):
        TokenClassificationPreprocessor(max_length=2).features({"tokens": [["x"]]}, TOKENIZERS["bert"])
    with pytest.raises(BadData, match=r"the tokenizer makes no token of \[''\]"):
        TASK.features({"tokens": [[""]]}, TOKENIZERS["gpt2"])
    with pytest.raises(ValueError, match="label_smoothing must be at least 0"):
        TokenClassificationPreprocessor(label_smoothing=1.0)
