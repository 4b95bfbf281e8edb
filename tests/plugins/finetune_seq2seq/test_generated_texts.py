"""Generated ids become text, and text becomes scores: those of rouge_score and sacrebleu, to the digit."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import sacrebleu
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from finetune.errors import BadData, BadOptions, TrainingFailed
from finetune.interfaces import Predictions
from finetune_seq2seq.baselines import copy, lead_3
from finetune_seq2seq.outputs import decode
from finetune_seq2seq.sentences import sentences, turns
from finetune_seq2seq.summarization import SummarizationPreprocessor
from finetune_seq2seq.summarization_evaluator import SummarizationEvaluator, lines
from finetune_seq2seq.text_to_text_evaluator import TextToTextEvaluator
from finetune_seq2seq.translation import TranslationPreprocessor
from finetune_seq2seq.translation_evaluator import TranslationEvaluator

WORDS = ("the", "ferry", "sails", "sailing", "late", "from", "pier", "to", "with", "salt", "and", "tar", ".", "Storm!")


def record(prediction, reference, **more):
    return {"prediction": prediction, "reference": reference, "tokens": 3, "at_limit": False, **more}


def texts(count, *, seed):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(count)]


# --- ids → texts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["t5", "bart"])
@settings(deadline=None, max_examples=30)
@given(rows=st.lists(st.lists(st.integers(5, 480), max_size=8), min_size=1, max_size=4), wide=st.integers(0, 3))
def test_no_padding_of_any_kind_reaches_a_text(family, build, rows, wide):
    tokenizer = build(family)
    width = max(map(len, rows)) + 1 + wide
    ended = [[*row, tokenizer.eos_token_id] for row in rows]
    by_pad, by_ignored = (
        np.array([row + [fill] * (width - len(row)) for row in ended]) for fill in (tokenizer.pad_token_id, -100)
    )
    wanted = [tokenizer.decode(row, skip_special_tokens=True).strip() for row in rows]
    assert decode(by_pad, tokenizer) == decode(by_ignored, tokenizer)
    assert decode(by_ignored, tokenizer)[0] == wanted
    assert decode(by_ignored, tokenizer)[1] == [len(row) for row in rows]


def predictions(rows, preprocessor, tokenizer, *, outputs):
    return Predictions(
        examples=Dataset.from_list(rows), features=[], outputs=outputs, tokenizer=tokenizer, preprocessor=preprocessor
    )


def test_a_record_holds_the_generated_text_and_the_loss_of_the_target(t5):
    ids = np.array([[*t5.encode("tar", add_special_tokens=False), t5.eos_token_id, -100, -100, -100, -100][:5]])
    outputs = (ids, np.array([0]), np.array([4.5], np.float32), np.array([3]))
    rows = [{"document": "One. Two. Three. Four.", "summary": "salt"}]
    (made,) = SummarizationEvaluator().records(predictions(rows, SummarizationPreprocessor(), t5, outputs=outputs))
    length = len(t5.encode("tar", add_special_tokens=False))
    assert made == {"prediction": "tar", "tokens": length, "at_limit": False, "reference": "salt", "loss": 4.5,
                    "target_tokens": 3, "lead_3": "One. Two. Three."}  # fmt: skip
    rows = [{"translation": {"en": "Fog", "de": None}}]
    preprocessor = TranslationPreprocessor(source_lang="en", target_lang="de")
    (made,) = TranslationEvaluator().records(predictions(rows, preprocessor, t5, outputs=(ids, np.array([1]))))
    assert made == {"prediction": "tar", "tokens": length, "at_limit": True}


def test_a_loss_that_is_not_finite_stops(t5):
    outputs = (np.array([[5]]), np.array([0]), np.array([np.nan]), np.array([3]))
    with pytest.raises(TrainingFailed, match="1 of 1 targets is not finite"):
        SummarizationEvaluator().records(
            predictions([{"document": "a", "summary": "b"}], SummarizationPreprocessor(), t5, outputs=outputs)
        )


# --- scores -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stemmer", [True, False])
def test_rouge_is_that_of_rouge_score(stemmer):
    pairs = list(zip(texts(20, seed=1), texts(20, seed=2), strict=True))
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=stemmer)
    each = [scorer.score(lines(reference), lines(prediction)) for prediction, reference in pairs]
    scores = SummarizationEvaluator(use_stemmer=stemmer).scores([record(*pair) for pair in pairs])
    for name in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
        assert scores[name] == pytest.approx(np.mean([score[name].fmeasure for score in each]), abs=1e-12)
    assert scores["rouge2"] < scores["rougeL"] < scores["rouge1"] < 1


def test_rouge_of_several_references_is_that_of_the_best():
    found = SummarizationEvaluator().scores([record("salt and tar", ["fog", "salt and tar", "tar"])])
    assert found["rouge1"] == found["rougeL"] == 1


def test_rouge_lsum_matches_sentence_by_sentence():
    swapped = SummarizationEvaluator().scores([record("Fog came. Tar went.", "Tar went. Fog came.")])
    assert swapped["rougeLsum"] == pytest.approx(1)
    assert swapped["rougeL"] == pytest.approx(0.5)


def test_ascii_words_of_another_script_are_refused_rather_than_zero():
    rows = [record("Туман в порту", "Туман в порту")]
    with pytest.raises(BadOptions, match=r"every score would be 0\. Leave evaluator\.words out"):
        SummarizationEvaluator(words="ascii").scores(rows)
    with pytest.raises(ValueError, match="use_stemmer"):
        SummarizationEvaluator(words="unicode", use_stemmer=True)


LANGUAGES = {
    "English": ("The boat sails at ten.", "The boat sailed at nine.", "13a", "ascii", "yes"),
    "English with a foreign name": ("Anna was here today. " * 9 + "Tomás", "Tomás", "13a", "unicode", "no"),
    "German": ("Die Fähre fährt um neun.", "Die Fähre fuhr um neun.", "13a", "unicode", "no"),
    "Russian": ("Туман в порту", "Туман ушёл", "13a", "unicode", "no"),
    "Arabic": ("السفينة في الميناء", "السفينة بعيدة", "13a", "unicode", "no"),
    "Hindi": ("नाव बंदरगाह में है", "नाव दूर है", "13a", "unicode", "no"),
    "Chinese": ("渡輪今天早上遲到了一個小時。", "渡輪今天早上遲到了兩個小時。", "zh", "unicode", "no"),
    "Chinese with a Latin name": ("渡輪 Rosa 今天早上遲到了。", "渡輪 Rosa 今天準時到達。", "zh", "unicode", "no"),
    "Japanese": ("船は今朝遅れています。", "船は今朝来ました。", "char", "unicode", "no"),
    "Korean": ("배가 오늘 아침 늦었습니다.", "배가 오늘 늦게 왔습니다.", "char", "unicode", "no"),
    "Thai": ("เรือมาสายเช้านี้", "เรือมาเช้านี้", "char", "unicode", "no"),
    "Burmese": ("သင်္ဘောနောက်ကျသည်", "သင်္ဘောရောက်သည်", "char", "unicode", "no"),
}


@pytest.mark.parametrize(("predicted", "wanted", "tokenize", "words", "stem"), LANGUAGES.values(), ids=LANGUAGES)
def test_words_are_those_of_the_script_of_the_references(predicted, wanted, tokenize, words, stem):
    rows = [{**record(predicted, wanted, copy="x"), "lead_3": "x"}]
    translation, summarization = TranslationEvaluator(), SummarizationEvaluator()
    assert translation.scores(rows)["bleu"] == sacrebleu.corpus_bleu([predicted], [[wanted]], tokenize=tokenize).score
    assert f"tok:{tokenize}|" in translation.details(rows)["signature"]["bleu"]
    assert 0 < summarization.scores(rows)["rouge1"] < 1
    rouge = summarization.details(rows)["signature"]
    assert list(rouge) == ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    assert f"nrefs:1|words:{words}|stem:{stem}|version:" in rouge["rougeL"]


def test_a_chosen_tokenizer_and_chosen_words_are_kept():
    rows = [{**record("渡輪遲到了", "渡輪遲到", copy="x"), "lead_3": "x"}]
    assert "tok:char|" in TranslationEvaluator(tokenize="char").details(rows)["signature"]["bleu"]
    german = [{**record("Die Fähre", ["Die Fähre", "Ein Boot"]), "lead_3": "x"}]
    details = SummarizationEvaluator(words="ascii", use_stemmer=False).details(german)
    assert "nrefs:2|words:ascii|stem:no|" in details["signature"]["rouge1"]


def test_scores_of_text_to_text_have_signatures():
    signatures = TextToTextEvaluator().details([record("Nebel", "Nebel")])["signature"]
    assert sorted(signatures) == ["chrf", "exact_match", "rougeL"]
    assert "words:unicode" in signatures["rougeL"] and "nc:6" in signatures["chrf"]


@pytest.mark.parametrize(("tokenize", "lowercase"), [("13a", False), ("char", False), ("13a", True)])
def test_bleu_and_chrf_are_those_of_sacrebleu(tokenize, lowercase):
    predicted, wanted = texts(20, seed=3), texts(20, seed=4)
    evaluator = TranslationEvaluator(tokenize=tokenize, lowercase=lowercase)
    rows = [record(*pair, copy="x") for pair in zip(predicted, wanted, strict=True)]
    scores = evaluator.scores(rows)
    bleu = sacrebleu.corpus_bleu(predicted, [wanted], tokenize=tokenize, lowercase=lowercase)
    assert scores["bleu"] == bleu.score
    chrf = sacrebleu.CHRF(lowercase=lowercase).corpus_score(predicted, [wanted])
    assert scores["chrf"] == chrf.score
    assert 0 < scores["chrf"] < 100
    assert f"tok:{tokenize}" in evaluator.details(rows)["signature"]["bleu"]


def test_rows_may_have_different_numbers_of_references():
    predicted = ["the ferry is late today", "salt and tar"]
    several = [["a boat is late", "the ferry is late today"], ["salt and tar and rope"]]
    scores = TranslationEvaluator().scores([record(*pair) for pair in zip(predicted, several, strict=True)])
    padded = [["a boat is late", "salt and tar and rope"], ["the ferry is late today", None]]
    assert scores["bleu"] == sacrebleu.corpus_bleu(predicted, padded).score
    single = [record("the ferry is late today", "the ferry is late today")]
    assert TranslationEvaluator().scores(single)["bleu"] == pytest.approx(100)


def test_perplexity_counts_every_token_once_whatever_its_row():
    rows = [record("a", "b", loss=2.0, target_tokens=1), record("a", "b", loss=3.0, target_tokens=9)]
    found = SummarizationEvaluator().scores(rows)
    assert found["loss"] == pytest.approx(0.5)
    assert found["perplexity"] == pytest.approx(math.exp(0.5))
    assert "loss" not in SummarizationEvaluator().scores([record("a", "b")])
    assert not SummarizationEvaluator(primary="loss").greater_is_better
    assert TranslationEvaluator().greater_is_better


def test_length_and_limit_are_means():
    rows = [{**record("a", "b"), "tokens": 4, "at_limit": True}, {**record("a", "b"), "tokens": 7, "at_limit": False}]
    found = SummarizationEvaluator().scores(rows)
    assert (found["length"], found["at_limit"]) == (5.5, 0.5)


def test_nothing_cannot_be_scored():
    for evaluator in (SummarizationEvaluator(), TranslationEvaluator()):
        with pytest.raises(BadData, match="no example with a target"):
            evaluator.scores([])


# --- baselines --------------------------------------------------------------------------------------------------------


def test_lead_3_is_the_first_three_turns_of_a_dialogue_and_sentences_of_all_else():
    dialogue = "\n".join(f"#Person{k % 2 + 1}#: I see. Turn {k}." for k in range(5))
    assert lead_3(dialogue) == "\n".join(dialogue.splitlines()[:3])
    article = "The ferry sank. All were saved.\nThe harbour master spoke. No one listened."
    assert lead_3(article) == "The ferry sank. All were saved. The harbour master spoke."
    assert lead_3("Short.") == "Short."
    assert copy("Fog.") == "Fog."


def test_the_details_hold_the_scores_of_the_baselines():
    rows = [record("fog", "the ferry is late", lead_3="The ferry is late."), record("fog", "salt", lead_3="Tar.")]
    assert SummarizationEvaluator().details(rows)["baseline"]["lead-3"]["rougeL"] == 0.5
    rows = [record("fog", "the ferry is late now", copy="the ferry is late now")]
    assert TranslationEvaluator().details(rows)["baseline"]["copy"] == pytest.approx({"bleu": 100, "chrf": 100})


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("One. Two! Three?", 3),
        ("Mr. Moss met Dr. Elm. They spoke.", 2),
        ("J. R. Elm wrote it. It sold.", 2),
        ("It cost 4.50 crowns. Too much.", 2),
        ('He said "No." She left.', 2),
        ("wait... what? no. ok", 1),
        ("One line\nanother line", 2),
        ("今日は霧です。船は遅れます。", 2),
        ("Ende. Über dem Hafen liegt Nebel.", 2),
        ("", 0),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text, pieces):
    assert len(sentences(text)) == pieces


@given(text=st.text(st.sampled_from("aB. !?\n\"'Mr)(。1"), max_size=40))
def test_splitting_loses_nothing_but_space(text):
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


def test_an_article_with_colons_is_not_a_dialogue():
    assert turns("Note: the ferry.\nIt sank. No one spoke.\nThe end.") == []
    assert turns("Ann: Fog?") == []
