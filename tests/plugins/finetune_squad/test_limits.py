"""Answers of more than `max_answer_length` tokens are counted before training, and the report repeats it."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner
from datasets import Dataset

import finetune
from finetune.cli import main
from finetune.evaluation.verdicts import all_verdicts
from finetune.interfaces import Predictions
from finetune.report import page
from finetune.result import Result
from finetune.testing.tokenizers import tokenizer
from finetune_squad.evaluator import SquadEvaluator
from finetune_squad.preprocessor import SquadPreprocessor

BERT = tokenizer("bert")
LETTERS = "a b c d e f g h i j k l m n o p"


def row(number, size):
    """Return a question whose answer is some letters, each of them a token; 0 letters are no answer."""
    text = LETTERS[4 : 4 + 2 * size - 1] if size else ""
    answers = {"text": [text], "answer_start": [4]} if size else {"text": [], "answer_start": []}
    return {"id": str(number), "question": f"q {number}?", "context": f"{LETTERS} {number}.", "answers": answers}


def limits(sizes, *, labelled=True, **options):
    rows = [row(number, size) for number, size in enumerate(sizes)]
    columns = {key: [each[key] for each in rows] for key in rows[0] if labelled or key != "answers"}
    preprocessor = SquadPreprocessor(**options)
    made = dict(preprocessor.features(columns, BERT))
    made["example"] = made.pop("overflow_to_sample_mapping")
    predictions = Predictions(
        examples=rows, features=Dataset.from_dict(made), outputs=None, tokenizer=BERT,
        preprocessor=preprocessor,
    )  # fmt: skip
    return SquadEvaluator(max_answer_length=2).limits(predictions, generation={})


def test_answers_are_measured_in_tokens():
    (limit,) = limits([3, 0, 1, 2, 5])
    assert (limit.option, limit.value, limit.lengths) == ("evaluator.max_answer_length", 2, [3, 1, 2, 5])


def test_an_answer_in_several_windows_counts_once_and_a_lost_one_not_at_all():
    # windows of the context: the tokens of the question and three special tokens leave 6 for it
    length = len(BERT("q 0?")["input_ids"]) + 1 + 6
    (limit,) = limits([2, 8, 3], max_length=length, stride=4)
    assert limit.lengths == [2, 3]


def test_features_without_labels_have_no_lengths():
    (limit,) = limits([3, 4], labelled=False)
    assert limit.lengths == []


def test_check_and_the_report_of_a_run_name_the_limit_and_the_value_that_is_enough(tiny_bert, tmp_path):
    dataset = {}
    for split, sizes in (("train", [3, 4, 1, 1]), ("validation", [6, 2])):
        dataset[split] = str(tmp_path / f"{split}.json")
        rows = [row(number, size) for number, size in enumerate(sizes)]
        Path(dataset[split]).write_text(json.dumps(rows), encoding="utf-8")
    recipe = {
        "task": "question-answering",
        "model": str(tiny_bert),
        "dataset": dataset,
        "strategy": "full",
        "output": str(tmp_path / "run"),
        "training": {"max_steps": 1, "use_cpu": True},
        "evaluator": {"max_answer_length": 3},
    }
    file = tmp_path / "letters.yaml"
    file.write_text(json.dumps(recipe), encoding="utf-8")
    shown = CliRunner().invoke(main, ["check", str(file), "--json"])
    assert shown.exit_code == 0, shown.output
    content = json.loads(shown.stdout)
    assert content["counts"]["answers-over-limit"] == 2
    assert [counts["over_max_answer_length"] for counts in content["data_report"].values()] == [1, 1]
    sentence = "1 of 2 answers (50.0%) is longer than evaluator.max_answer_length, which is 3,"
    printed = CliRunner().invoke(main, ["check", str(file)]).output
    assert f"validation: {sentence}" in " ".join(printed.split())

    result = finetune.train(file)
    assert result.limits == content["limits"]
    assert [split[0]["enough"] for split in result.limits.values()] == [4, 6]
    repeated = f"On validation, {sentence} so the model can never give it in full. Set it to 6 for all answers."
    assert repeated in page(result)
    assert repeated in all_verdicts(result)
    assert Result.load(tmp_path / "run").limits == result.limits
