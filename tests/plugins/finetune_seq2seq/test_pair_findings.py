"""Problems with sources and targets are found, with their row."""

from __future__ import annotations

import json

import pytest

from finetune.errors import BadData
from finetune.testing.laws import check_finding
from finetune_seq2seq.baselines import lead_3
from finetune_seq2seq.summarization import SummarizationPreprocessor
from finetune_seq2seq.translation import TranslationPreprocessor

BOTH = TranslationPreprocessor(source_lang="en", target_lang="de")


def found(preprocessor, *rows):
    findings = list(preprocessor.check(rows))
    for finding in findings:
        check_finding(finding)
    return [(finding.code, finding.level, finding.row, finding.column) for finding in findings]


def summary(document, text):
    return {"document": document, "summary": text}


GOOD = summary("The ferry is late.", "A delay.")


def test_good_pairs_have_no_findings():
    assert found(SummarizationPreprocessor(), GOOD, summary("Fog.", "Weather.")) == []
    assert found(BOTH, {"translation": {"en": "Fog", "de": "Nebel"}}) == []
    assert found(BOTH, {"source": "Fog", "target": "Nebel"}) == []
    assert found(SummarizationPreprocessor()) == []


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (summary("", "b"), ("source-empty", "row", 1, "document")),
        (summary("\u200b \n", "b"), ("source-empty", "row", 1, "document")),
        (summary(None, "b"), ("source-missing", "row", 1, "document")),
        (summary(7, "b"), ("source-not-text", "error", 1, "document")),
        (summary("a", " "), ("target-empty", "row", 1, "summary")),
        (summary("\ud800", "b"), ("source-surrogate", "error", 1, "document")),
        (summary("a", []), ("target-empty", "row", 1, "summary")),
        (summary("a", None), ("target-missing", "error", 1, "summary")),
        (summary("a", 4.5), ("target-not-text", "error", 1, "summary")),
    ],
)
def test_a_bad_text_is_found_at_its_row(row, expected):
    assert found(SummarizationPreprocessor(), GOOD, row) == [expected]


def test_rows_to_predict_need_no_target():
    assert found(SummarizationPreprocessor(), {"document": "Fog."}) == []
    assert found(BOTH, {"source": "Fog."}) == []
    assert found(BOTH, {"translation": {"en": "Fog."}}) == []
    assert found(BOTH, {"translation": {"en": "Fog.", "de": None}}) == []


def test_copies_are_warned_of_above_one_in_twenty():
    rows = [summary(f"text {k}", f"summary {k}") for k in range(19)]
    assert found(SummarizationPreprocessor(), *rows, summary("same", "same")) == []
    again = found(SummarizationPreprocessor(), *rows, summary("same", "same"), summary("same", "same"))
    assert again == [("source-equals-target", "warning", 19, None)]


@pytest.mark.parametrize("token", ["</s>", "<pad>", "<extra_id_0>", "<|endoftext|>", "[MASK]", "__en__"])
def test_special_tokens_in_a_text_are_warned_of(token):
    rows = [GOOD, summary("a", f"b {token}"), summary(token, "c")]
    findings = list(SummarizationPreprocessor().check(rows))
    assert [(each.code, each.level, each.row, each.value) for each in findings] == [
        ("special-token-in-text", "warning", 1, token)
    ]
    assert "2 texts" in findings[0].message


def test_several_targets_are_warned_of_and_each_is_checked():
    assert found(SummarizationPreprocessor(), summary("a", ["b", "c"])) == [("several-targets", "warning", 0, None)]
    assert found(SummarizationPreprocessor(), summary("a", ["b", ""]))[0] == ("target-empty", "row", 0, "summary")


def test_a_translation_without_the_language_is_found_with_its_languages():
    rows = [{"translation": {"en": "Fog", "de": "Nebel"}}, {"translation": {"en": "Fog", "fr": "Brume"}}]
    (finding,) = BOTH.check(rows)
    assert (finding.code, finding.level, finding.row) == ("translation-without-language", "row", 1)
    assert (finding.message, finding.value) == ("'de' is not among the languages of the row.", "en, fr")


def test_a_bad_cell_is_found_and_a_bad_text_in_it_has_its_place():
    assert found(BOTH, {"translation": "{'en': 'Fog'}"}) == [("translation-not-an-object", "error", 0, "translation")]
    assert found(BOTH, {"translation": None}) == [("translation-not-an-object", "row", 0, "translation")]
    rows = [{"translation": {"en": "Fog", "de": "Nebel"}}, {"translation": {"en": "", "de": None}}]
    assert found(BOTH, *rows) == [
        ("source-empty", "row", 1, "translation.en"),
        ("target-missing", "error", 1, "translation.de"),
    ]


def test_a_translation_whose_languages_are_not_named_is_an_error():
    row = {"translation": {"en": "Fog", "de": "Nebel"}}
    assert found(TranslationPreprocessor(), row) == [("languages-not-named", "error", None, "translation")]
    assert found(TranslationPreprocessor(keys=("en", "de")), row) == []


def test_data_without_either_form_of_the_columns_are_refused_with_their_columns():
    assert found(BOTH, {"english": "Fog"}) == [("no-source", "error", None, None)]
    with pytest.raises(BadData, match=r"one column `translation`; the data has: english, source\. Rename them"):
        BOTH.fit([{"source": "Fog", "english": "Fog"}])
    assert BOTH.fit([{"source": "a", "target": "b"}]) == BOTH
    assert BOTH.fit([{"translation": {}}]) == BOTH


def test_nothing_is_found_wrong_with_dialogsum_and_its_lead_is_three_turns(shared_data):
    lines = (shared_data / "dialogsum" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [{"document": row["dialogue"], "summary": row["summary"]} for row in map(json.loads, lines)]
    assert found(SummarizationPreprocessor(), *rows) == []
    for row in rows:
        assert lead_3(row["document"]).splitlines() == [line.strip() for line in row["document"].splitlines()[:3]]
