"""What `check` finds: every finding has a case, and good data has none."""

from __future__ import annotations

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from finetune.testing.laws import check_finding
from finetune_text.classification import TextClassificationPreprocessor
from finetune_text.multi_label import MultiLabelPreprocessor
from finetune_text.regression import TextRegressionPreprocessor

GOOD = [{"text": f"{kind} {number}", "label": kind} for kind in ("fog", "rain") for number in range(5)]


def found(preprocessor, rows, *, train=None):
    findings = list(preprocessor.fit(rows if train is None else train).check(rows))
    for finding in findings:
        check_finding(finding)
    return findings


def only(findings):
    assert len(findings) == 1, [(finding.code, finding.message) for finding in findings]
    return findings[0]


def labelled(*labels, text="text"):
    return [{"text": f"{text} {number}", "label": label} for number, label in enumerate(labels)]


def test_good_rows_have_no_findings():
    assert found(TextClassificationPreprocessor(), GOOD) == []
    assert found(TextClassificationPreprocessor(), GOOD[:3], train=GOOD) == []


def test_rows_to_predict_have_no_findings():
    assert found(TextClassificationPreprocessor(), [{"text": "fog"}, {"text": "fog"}], train=GOOD) == []
    assert found(TextClassificationPreprocessor(), [{"text": "fog", "label": None}], train=GOOD) == []
    assert found(MultiLabelPreprocessor(), [{"text": "fog"}], train=labelled(["a"], ["b"], ["a"], ["b"])) == []
    assert found(TextRegressionPreprocessor(), [{"text": "fog"}], train=labelled(1, 2)) == []


@pytest.mark.parametrize("empty", ["", " \t\n", "\u200b\ufeff", "\u00a0\u3000", "\x00\x07", "\u200d"])
def test_a_text_without_anything_to_see_is_found(empty):
    finding = only(found(TextClassificationPreprocessor(), [*GOOD, {"text": empty, "label": "fog"}]))
    assert (finding.code, finding.level, finding.row, finding.column) == ("text-empty", "row", 10, "text")


@pytest.mark.parametrize("text", ["🦀", "é", "…", "–", "´", "\u0301e", "\u200bfog"])
def test_a_text_with_anything_to_see_is_not_empty(text):
    assert found(TextClassificationPreprocessor(), [*GOOD, {"text": text, "label": "fog"}]) == []


def test_a_missing_text_is_found():
    finding = only(found(TextClassificationPreprocessor(), [*GOOD, {"text": None, "label": "fog"}]))
    assert (finding.code, finding.level, finding.row, finding.value) == ("text-missing", "row", 10, None)


@pytest.mark.parametrize("value", [7, ["a"], 1.5])
def test_a_text_that_is_no_text_is_an_error(value):
    finding = only(found(TextClassificationPreprocessor(), [*GOOD, {"text": value, "label": "fog"}]))
    assert (finding.code, finding.level, finding.row) == ("text-not-text", "error", 10)


def test_half_a_surrogate_pair_is_an_error_that_can_be_printed():
    finding = only(found(TextClassificationPreprocessor(), [*GOOD, {"text": "fog \ud83e", "label": "fog"}]))
    assert (finding.code, finding.level) == ("text-surrogate", "error")
    assert finding.value.encode("utf-8")


def test_a_pair_that_lacks_its_second_text_is_found():
    rows = [{**row, "text_pair": "and rain"} for row in GOOD]
    finding = only(found(TextClassificationPreprocessor(), [*rows, {"text": "fog", "text_pair": None, "label": "fog"}]))
    assert (finding.code, finding.column, finding.row) == ("text-missing", "text_pair", 10)


@pytest.mark.parametrize("missing", [None, "", float("nan")])
def test_a_missing_label_is_found(missing):
    finding = only(found(TextClassificationPreprocessor(), [*GOOD, {"text": "x", "label": missing}]))
    assert (finding.code, finding.level, finding.row, finding.column) == ("label-missing", "row", 10, "label")


def test_an_unseen_label_is_an_error_with_its_row_and_the_label_that_was_meant():
    finding = only(found(TextClassificationPreprocessor(), labelled("rain", "Rain "), train=GOOD))
    assert (finding.code, finding.level, finding.row, finding.value) == ("unseen-label", "error", 1, "Rain ")
    assert "Did you mean 'rain'?" in finding.fix
    assert "Did you mean" not in only(found(TextClassificationPreprocessor(), labelled("zebra"), train=GOOD)).fix
    assert "Did you mean 'rain'?" in only(found(TextClassificationPreprocessor(), labelled("rian"), train=GOOD)).fix


@pytest.mark.parametrize("label", [5, "5", -1])
def test_a_label_number_out_of_range_is_an_error_with_its_row(label):
    finding = only(found(TextClassificationPreprocessor(), labelled(0, label), train=labelled(0, 1, 0, 1)))
    assert (finding.code, finding.level, finding.row, finding.value) == ("label-out-of-range", "error", 1, str(label))
    given = TextClassificationPreprocessor(labels=("neg", "pos"))
    finding = only(found(given, labelled(0, label), train=labelled(0, 1, 0, 1)))
    assert (finding.code, finding.row, finding.message) == ("label-out-of-range", 1, "the labels are 0, 1.")


def test_a_fraction_for_a_label_points_to_regression():
    finding = only(found(TextClassificationPreprocessor(), labelled(1, 2.5), train=labelled(1, 2, 1, 2)))
    assert (finding.code, finding.level) == ("label-is-a-number", "error")
    assert "text-regression" in finding.fix


def test_whole_floats_are_labels():
    assert found(TextClassificationPreprocessor(), labelled(1.0, 2.0), train=labelled(1, 2, 1, 2)) == []


def test_a_list_for_a_label_points_to_multi_label_classification():
    finding = only(found(TextClassificationPreprocessor(), labelled(["fog", "rain"]), train=GOOD))
    assert (finding.code, finding.level) == ("label-not-single", "error")
    assert "multi-label-classification" in finding.fix


def test_labels_that_join_others_are_a_warning():
    rows = [*GOOD, *labelled("fog;rain", "fog;rain", text="both")]
    finding = only(found(TextClassificationPreprocessor(), rows))
    assert (finding.code, finding.level, finding.value) == ("label-joined", "warning", "fog;rain")


@pytest.mark.parametrize("other", ["Fog", "fog ", "fo\u0067\u200a", "FOG"])
def test_labels_that_hardly_differ_are_an_error_that_lists_them(other):
    rows = [*GOOD, *labelled(other, other, text="other")]
    finding = only(found(TextClassificationPreprocessor(), rows))
    assert (finding.code, finding.level) == ("labels-alike", "error")
    assert repr(other) in finding.message
    assert "'fog'" in finding.message


def test_labels_that_differ_by_unicode_form_are_alike():
    codes = {finding.code for finding in found(TextClassificationPreprocessor(), labelled(*["é", "e\u0301", "a"] * 2))}
    assert codes == {"labels-alike"}


def test_a_label_with_a_line_break_is_an_error():
    finding = only(found(TextClassificationPreprocessor(), [*GOOD, *labelled("a\nb", "a\nb", text="x")]))
    assert (finding.code, finding.value) == ("label-unprintable", "'a\\nb'")


def test_a_given_label_without_rows_is_an_error():
    finding = only(found(TextClassificationPreprocessor(labels=("fog", "hail", "rain")), GOOD))
    assert (finding.code, finding.level, finding.value) == ("class-without-rows", "error", "hail")


def test_a_label_with_one_row_is_a_warning():
    finding = only(found(TextClassificationPreprocessor(), [*GOOD, {"text": "x", "label": "hail"}]))
    assert (finding.code, finding.level, finding.value) == ("class-with-one-row", "warning", "hail")


def test_one_class_is_an_error():
    finding = only(found(TextClassificationPreprocessor(), labelled("fog", "fog")))
    assert (finding.code, finding.level) == ("one-class", "error")


def test_no_label_at_all_is_an_error():
    finding = only(
        found(TextClassificationPreprocessor(), [{"text": "x", "label": None}, {"text": "y", "label": None}])
    )
    assert (finding.code, finding.message) == ("one-class", "no row has a label.")


def test_imbalance_is_a_warning_that_states_what_the_majority_gives():
    rows = [*labelled(*["fog"] * 202, text="f"), *labelled(*["rain"] * 2, text="r")]
    finding = only(found(TextClassificationPreprocessor(), rows))
    assert (finding.code, finding.level) == ("imbalance", "warning")
    assert "99.0%" in finding.message  # 202 / 204
    assert found(TextClassificationPreprocessor(), rows[2:]) == []  # 200 to 2


def test_more_labels_than_half_the_rows_is_a_warning():
    codes = [finding.code for finding in found(TextClassificationPreprocessor(), labelled(*range(12)))]
    assert codes.count("many-labels") == 1
    assert set(codes) == {"many-labels", "class-with-one-row"}


def test_a_weight_for_no_class_is_an_error():
    finding = only(found(TextClassificationPreprocessor(class_weights={"fgo": 2.0}), GOOD))
    assert (finding.code, finding.level, finding.value) == ("weight-without-class", "error", "fgo")


def test_repeated_rows_and_contradictions_are_counted_separately():
    rows = [*GOOD, GOOD[0], GOOD[1], {"text": GOOD[2]["text"], "label": "rain"}]
    same, differing = found(TextClassificationPreprocessor(), rows)
    assert (same.code, same.level, same.row, same.message[:2]) == ("duplicate-rows", "warning", 10, "2 ")
    assert (differing.code, differing.level, differing.row, differing.message[:2]) == (
        "label-conflict",
        "warning",
        12,
        "1 ",
    )


def test_the_same_text_with_another_pair_is_no_repetition():
    rows = [{"text": "a", "text_pair": pair, "label": label} for pair in "xyzw" for label in ["fog"]]
    rows += [{"text": "b", "text_pair": pair, "label": "rain"} for pair in "xyzw"]
    assert found(TextClassificationPreprocessor(), rows) == []


def test_a_split_that_numbers_its_labels_otherwise_is_an_error():
    train, validation = (
        Dataset.from_dict(
            {"text": list("abcd"), "label": [0, 1, 0, 1]},
            features=Features({"text": Value("string"), "label": ClassLabel(names=names)}),
        )
        for names in (["neg", "pos"], ["pos", "neg"])
    )
    assert only(found(TextClassificationPreprocessor(), validation, train=train)).code == "label-order"
    assert found(TextClassificationPreprocessor(), train) == []


def test_findings_of_the_training_split_are_given_for_no_other():
    rows = labelled("fog", "fog", "fog")
    assert found(TextClassificationPreprocessor(), rows, train=GOOD) == []


def test_check_before_fit_takes_the_rows_for_train():
    assert [finding.code for finding in TextClassificationPreprocessor().check(labelled("fog", "fog"))] == ["one-class"]


MANY = labelled(["fog"], ["rain"], ["fog", "rain"], [])


def test_good_multi_label_rows_have_no_findings():
    assert found(MultiLabelPreprocessor(), MANY) == []
    assert found(MultiLabelPreprocessor(), labelled("fog|rain", "", "rain", "fog")) == []


def test_an_unseen_label_among_several_is_an_error_with_its_row():
    finding = only(found(MultiLabelPreprocessor(), labelled(["fog", "Rain"]), train=MANY))
    assert (finding.code, finding.level, finding.row, finding.value) == ("unseen-label", "error", 0, "Rain")
    assert "Did you mean 'rain'?" in finding.fix


def test_a_list_written_as_text_is_an_error():
    finding = only(found(MultiLabelPreprocessor(), labelled("['fog', 'rain']"), train=MANY))
    assert (finding.code, finding.level) == ("label-list-as-text", "error")


def test_missing_labels_differ_from_no_label():
    finding = only(found(MultiLabelPreprocessor(), labelled(["fog"], None, []), train=MANY))
    assert (finding.code, finding.level, finding.row) == ("label-missing", "row", 1)


@pytest.mark.parametrize("vector", [[0, 1], [0, 1, 2], [0.5, 0, 0]])
def test_a_vector_of_another_length_or_value_is_an_error(vector):
    train = labelled([0, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 1])
    finding = only(found(MultiLabelPreprocessor(), labelled(vector), train=train))
    assert (finding.code, finding.level, finding.row) == ("label-vector", "error", 0)


def test_multi_label_rows_without_any_label_are_an_error():
    assert only(found(MultiLabelPreprocessor(), labelled([], []))).code == "one-class"


def test_a_multi_label_class_without_rows_is_an_error():
    finding = only(found(MultiLabelPreprocessor(labels=("fog", "hail", "rain")), MANY))
    assert (finding.code, finding.value) == ("class-without-rows", "hail")


@pytest.mark.parametrize(
    ("label", "fix"), [("3,5", "point, not a comma"), ("good", "finite"), (float("inf"), "finite")]
)
def test_a_label_that_is_no_number_is_an_error_with_its_row(label, fix):
    finding = only(found(TextRegressionPreprocessor(), labelled(1.0, label, "2")))
    assert (finding.code, finding.level, finding.row) == ("label-not-a-number", "error", 1)
    assert fix in finding.fix


def test_a_missing_number_is_found():
    assert only(found(TextRegressionPreprocessor(), labelled(1.0, None, "2"))).code == "label-missing"


def test_a_constant_number_is_an_error_in_train_and_a_warning_elsewhere():
    assert only(found(TextRegressionPreprocessor(), labelled(3, 3.0))).level == "error"
    assert only(found(TextRegressionPreprocessor(), labelled(3, 3.0), train=labelled(1, 3))).level == "warning"
    assert found(TextRegressionPreprocessor(), labelled(1, 3)) == []
