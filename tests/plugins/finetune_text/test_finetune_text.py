"""The plugin as a whole: its table of contents, its documentation, and real data."""

from __future__ import annotations

import pytest

from finetune.interfaces import Evaluator, Preprocessor
from finetune.plugins import resolve
from finetune.recipe.options import document
from finetune_text import tasks


@pytest.mark.parametrize(("name", "task"), tasks().items())
def test_every_task_names_nouns_that_exist_and_are_documented(name, task):
    for target, base in ((task.preprocessor, Preprocessor), (task.evaluator, Evaluator)):
        cls = resolve(target)
        assert issubclass(cls, base)
        assert all(option.doc for option in document(cls))
        assert cls().__class__ is cls


def test_nothing_is_found_wrong_with_sst2(shared_data):
    import csv

    with (shared_data / "sst2" / "test.tsv").open(encoding="utf-8", newline="") as file:
        rows = [
            {"text": row["sentence"], "label": row["label"]}
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]
    preprocessor = resolve(tasks()["text-classification"].preprocessor)
    fitted = preprocessor().fit(rows)
    assert fitted.labels == ("0", "1")
    assert {finding.code for finding in fitted.check(rows)} <= {"duplicate-rows", "label-conflict"}
