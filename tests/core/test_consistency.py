"""Every split, and the rows to predict, have the columns that change what a model reads as train has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.data import consistency, from_rows
from finetune.errors import BadData
from finetune.interfaces import Columns, Finding, Preprocessor, Row
from finetune.testing.laws import check_finding

CELLS = st.lists(st.sampled_from([None, "", "salt", "tar"]), min_size=1, max_size=6)


@dataclass(frozen=True, kw_only=True)
class Pairs(Preprocessor):
    def needs(self) -> Columns:
        return Columns(required=("text",), optional=("second",), consistent=("second",), answers=("label",),
                       optional_answers=("hint",))  # fmt: skip

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        for number, row in enumerate(examples):
            if row.get("label") == "bad":
                yield Finding(code="label-bad", message="bad.", row=number, column="label")

    def features(self, examples: Any, tokenizer: Any) -> Any:
        raise NotImplementedError


def rows(seconds: Sequence[str | None], **more: Any) -> list[dict[str, Any]]:
    return [{"text": f"t{number}", "label": "a", "second": second, **more} for number, second in enumerate(seconds)]


def codes(*arguments: Any, **options: Any) -> set[str]:
    try:
        from_rows(*arguments, **options)
    except BadData as error:
        return {finding.code for finding in error.findings}
    return set()


@given(CELLS, CELLS)
def test_held_out_rows_differ_if_and_only_if_train_has_all_or_no_values(train: list[Any], test: list[Any]) -> None:
    use, other = consistency.use_of(train), consistency.use_of(test)
    findings = list(consistency.check("second", test, train=use, file=None))
    assert bool(findings) == (use != "some" and use != other)
    for finding in findings:
        check_finding(finding)
        if finding.row is not None:
            assert consistency.is_there(test[finding.row]) == (use == "none")
    expected = {"input-differs"} if findings else set()
    assert codes({"train": rows(train), "test": rows(test)}, Pairs()) == expected


@pytest.mark.parametrize("role", ["validation", "test"])
def test_a_split_without_the_second_text_is_refused(role: str) -> None:
    single = [{"text": "t", "label": "a"}]
    with pytest.raises(BadData, match="every row of train has a value in 'second', and no row here has one"):
        from_rows({"train": rows(["x", "y"]), role: single}, Pairs())
    with pytest.raises(BadData, match="1 of 1 rows have a value in 'second', and no row of train has one"):
        from_rows({"train": single, role: rows(["x"])}, Pairs())


def test_rows_that_lack_a_value_are_bad_rows() -> None:
    splits = {"train": rows(["x", "y"]), "test": rows(["x", None, "y"])}
    with pytest.raises(BadData) as caught:
        from_rows(splits, Pairs())
    (finding,) = caught.value.findings
    assert (finding.code, finding.level, finding.row, finding.column) == ("input-differs", "row", 1, "second")
    found = from_rows(splits, Pairs(), on_bad="drop")
    assert [row["row"] for row in found.dropped] == [1]
    assert found.column_use == {"second": "all"}


@pytest.mark.parametrize(
    ("use", "seconds", "refused"),
    [("all", [None], True), ("all", ["x"], False), ("none", ["x"], True), ("none", [None], False),
     ("some", [None], False), ("some", ["x"], False)],
)  # fmt: skip
def test_rows_to_predict_are_as_those_of_the_run(use: str, seconds: list[Any], refused: bool) -> None:
    found = codes({"test": rows(seconds)}, Pairs(), fit=False, answers=False, column_use={"second": use})
    assert found == ({"input-differs"} if refused else set())
    # a run of an earlier version does not say how it used the column
    assert codes({"test": rows(seconds)}, Pairs(), fit=False, answers=False) == set()


@pytest.mark.parametrize("label", ["bad", None, "", 7, ["a", "b"], {"a": 1}])
def test_prediction_does_not_look_at_answers(label: Any) -> None:
    given = [{"text": "t", "label": label, "hint": label, "id": 3}]
    found = from_rows({"test": given}, Pairs(), fit=False, answers=False)
    assert found.splits["test"].to_list() == [{"text": "t", "id": 3}]


def test_evaluation_does_look_at_answers() -> None:
    assert codes({"test": rows([None], hint="h")[:1] + rows([None], hint="h", label="bad")}, Pairs(), fit=False) == {
        "label-bad"
    }
