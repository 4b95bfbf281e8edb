"""Values that are written where there is no label, labels in another form, and several spellings of one label."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.testing.laws import check_finding
from finetune_text import label_checks
from finetune_text.classification import TextClassificationPreprocessor
from finetune_text.multi_label import MultiLabelPreprocessor
from finetune_text.regression import TextRegressionPreprocessor


def rows(*labels: Any) -> list[dict[str, Any]]:
    return [{"text": f"text {number}", "label": label} for number, label in enumerate(labels)]


def codes(preprocessor: Any, *labels: Any) -> dict[str, str]:
    found = {}
    for finding in preprocessor.fit(rows(*labels)).check(rows(*labels)):
        check_finding(finding)
        found[finding.code] = finding.level
    return found


ONE = TextClassificationPreprocessor()
MANY = MultiLabelPreprocessor()
NUMBER = TextRegressionPreprocessor()


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ([0.0, 1.4, 2.6] * 4, {"label-is-a-number": "error"}),
        (["0", "1.4", "2.6"] * 4, {"label-is-a-number": "warning"}),
        (["1.0", "2.0"] * 4, {}),
        ([1.0, 2.0] * 4, {}),
        (["v1.4", "v2.6"] * 4, {}),
        ([-1, 0, 1] * 4, {}),
        ([-1, 1] * 4, {}),
        ([-2, -1, 0, 1, 2] * 4, {}),
        ([-100, 0, 1] * 4, {"label-sentinel": "row"}),
        (["-100", "a", "b"] * 4, {"label-sentinel": "row"}),
        (["-1", "a", "b"] * 4, {}),
        (["NaN", "a", "b"] * 4, {"label-sentinel": "warning"}),
        (["?", "a", "b"] * 4, {"label-sentinel": "warning"}),
        (["none", "a", "b"] * 4, {}),
        (["not spam", "not_spam", "spam"] * 4, {"labels-similar": "warning"}),
        (["positive"] * 40 + ["negative"] * 40 + ["postive"] * 2, {"labels-similar": "warning"}),
        (["positive"] * 4 + ["negative"] * 4 + ["postive"] * 4, {}),
        (["class1"] * 40 + ["class2"] * 2, {}),
        (["A", "A-", "B"] * 4, {}),
        (["type a"] * 136 + ["type b"] * 6, {}),
        (["very positive"] * 40 + ["negative"] * 40 + ["very postive"] * 2, {"labels-similar": "warning"}),
        ([-1, 0, 1, 2] * 4, {"label-sentinel": "warning"}),
        (["1", "0", "1.0"] * 4, {"labels-alike": "error"}),
        (["fog", "fog\u200b", "rain"] * 4, {"labels-alike": "error"}),
    ],
)
def test_single_labels(labels: list[Any], wanted: dict[str, str]) -> None:
    assert codes(ONE, *labels) == wanted


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (["a", "a,b", "b, a", ""] * 4, {"label-joined": "error"}),
        (["a", "a;b", "b;a", ""] * 4, {"label-joined": "error"}),
        (["tar;salt", "salt;rope", "rope;tar"] * 4, {"label-joined": "error"}),
        ([["a", "a,b"], ["b"], []] * 4, {"label-joined": "error"}),
        (["a", "b", "a b"] * 4, {"label-joined": "warning"}),
        (["a", "a|b", "b|a", ""] * 4, {}),
        (["sea, air", "salt"] * 4, {}),
        ([["a", None], ["b"], ["a"]] * 4, {"label-sentinel": "row"}),
        ([["a"], ["b"], None] * 4, {"label-missing": "row"}),
        ([["a", "-100"], ["b"], ["a"]] * 4, {"label-sentinel": "row"}),
        ([[0, 1, -1], [1, 1, 0], [0, 0, 1]] * 4, {"label-sentinel": "row"}),
        ([[0, 1, None], [1, 1, 0], [0, 0, 1]] * 4, {"label-sentinel": "row"}),
        ([[0.0, 0.7, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]] * 4, {"label-vector": "error"}),
        ([[0, 1], [1, 0]] * 4, {"label-one-hot": "warning"}),
        ([[0, 1], [1, 0], [1, 1]] * 4, {}),
        ([[0, 1], [0, 1]] * 4, {"constant-label": "error"}),
        ([["a", "b"], ["a"], ["a", "b"]] * 4, {"constant-label": "warning"}),
        ([["a", "b"], ["b", "a"]] * 4, {"constant-label": "error"}),
        ([["news"]] * 40 + [["sport"]] * 40 + [["sprot"], ["sprot"]], {"labels-similar": "warning"}),
    ],
)
def test_several_labels(labels: list[Any], wanted: dict[str, str]) -> None:
    assert codes(MANY, *labels) == wanted


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ([0.5, 3, -1, -1], {"label-sentinel": "warning"}),
        ([0.5, 3, -100], {"label-sentinel": "warning"}),
        ([0.5, 3, 9999], {"label-sentinel": "warning"}),
        ([-1, -0.5, 0.5, 1], {}),
        ([900, 999, 850], {}),
        ([0.5, None, 3], {"label-missing": "row"}),
    ],
)
def test_numbers(labels: list[Any], wanted: dict[str, str]) -> None:
    assert codes(NUMBER, *labels) == wanted


def test_rows_without_a_label_can_be_dropped_and_are_no_class() -> None:
    fitted = MANY.fit(rows(["a", None], ["b"], ["a"]))
    assert fitted.labels == ("a", "b")


NAMES = st.lists(st.sampled_from(["tar", "salt", "rope", "net"]), min_size=1, max_size=3, unique=True)


@given(st.lists(NAMES, min_size=4, max_size=12), st.sampled_from([",", ";", "/", ", ", "; "]))
def test_labels_joined_by_another_separator_are_found(labels: list[list[str]], separator: str) -> None:
    singles = [[name] for name in sorted({name for names in labels for name in names})]
    written = [separator.join(names) for names in labels + singles]
    found = codes(MANY, *written)
    assert ("label-joined" in found) == any(len(names) > 1 for names in labels)
    right = MultiLabelPreprocessor(separator=separator.strip())
    assert "label-joined" not in codes(right, *written)
    assert right.fit(rows(*written)).labels == tuple(name for (name,) in singles)


@given(st.lists(st.text(alphabet="ab,; |", max_size=5), max_size=8))
def test_the_parts_of_joined_labels_are_labels_or_occur_again(labels: list[str]) -> None:
    for separator, names in label_checks.joined(labels).items():
        others = [part.strip() for name in set(labels) for part in set(name.split(separator))]
        for name in names:
            parts = [part.strip() for part in name.split(separator)]
            assert len(parts) > 1 and all(part in labels or others.count(part) > 1 for part in parts)


def test_a_space_between_labels_is_not_recommended_as_a_separator() -> None:
    for preprocessor in (ONE, MANY):
        made = rows(*["a", "b", "a b"] * 4)
        (found,) = [each for each in preprocessor.fit(made).check(made) if each.code == "label-joined"]
        assert "separator" not in found.fix and "list" in found.fix
