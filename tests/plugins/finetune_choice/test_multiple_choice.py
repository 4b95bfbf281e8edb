"""Multiple choice: nested features, what is refused and why, and training by strategies that know nothing of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import finetune
from finetune.cli import main
from finetune.errors import BadData, BadOptions, Incompatible, TrainingFailed
from finetune.interfaces import Predictions
from finetune.testing import tiny_model
from finetune.testing.laws import check_finding
from finetune.testing.tokenizers import tokenizer
from finetune_choice.evaluator import MultipleChoiceEvaluator
from finetune_choice.preprocessor import MultipleChoicePreprocessor
from finetune_samples.catalogue import load

WORDS = tokenizer("bert", [json.dumps(row) for row in load("harbour-choices", size=60)["train"]], vocab_size=600)
ROW = {"context": "Fog came in.", "question": "What came?", "choices": ["Rain", "Fog", "Snow"], "label": 1}


def batch(*rows: dict[str, Any]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def codes(preprocessor: MultipleChoicePreprocessor, *rows: dict[str, Any]) -> list[str]:
    found = list(preprocessor.check(rows))
    for finding in found:
        check_finding(finding)
    return [finding.code for finding in found]


def test_each_choice_is_a_sequence_after_the_context_and_the_question() -> None:
    made = MultipleChoicePreprocessor().features(batch(ROW), WORDS)
    one = [WORDS.decode(ids) for ids in made["input_ids"][0]]
    end = "[SEP]"
    assert [text.replace(" ", "") for text in one] == [
        f"[CLS]fogcamein.{end}whatcame?{choice}{end}" for choice in ("rain", "fog", "snow")
    ]
    assert made["labels"] == [1]
    assert made["token_type_ids"][0][0][-1] == 1


def test_without_context_the_choice_follows_the_question() -> None:
    made = MultipleChoicePreprocessor(context=False).features(batch(ROW), WORDS)
    assert WORDS.decode(made["input_ids"][0][1]).replace(" ", "") == "[CLS]whatcame?[SEP]fog[SEP]"


@pytest.mark.parametrize(
    ("form", "label"),
    [("index", 1), ("index", "1"), ("index", 1.0), ("number", "2"), ("letter", "B"), ("letter", "b"), ("text", "Fog")],
)
def test_a_label_is_an_index_a_number_a_letter_or_a_text(form: Any, label: Any) -> None:
    preprocessor = MultipleChoicePreprocessor(label_form=form)
    row = {**ROW, "label": label}
    assert preprocessor.features(batch(row), WORDS)["labels"] == [1]
    assert codes(preprocessor, row) == []


def test_a_label_that_is_no_letter_of_the_alphabet_is_found() -> None:
    preprocessor = MultipleChoicePreprocessor(label_form="letter")
    for label in ("ß", "É", "1", "", "BC", "D"):
        row = {**ROW, "label": label}
        assert codes(preprocessor, row) == ["label-names-no-choice"], label
        with pytest.raises(BadData, match=r"names none of the choices .*Correct the label"):
            preprocessor.features(batch(row), WORDS)


def test_a_number_from_1_is_no_position_from_0() -> None:
    preprocessor = MultipleChoicePreprocessor(label_form="number")
    assert [codes(preprocessor, {**ROW, "label": label}) for label in (0, 3, 4)] == [
        ["label-names-no-choice"], [], ["label-names-no-choice"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "written",
    [
        '["Rain", "Fog", "Snow"]', "['Rain', 'Fog', 'Snow']", "['Rain' 'Fog'\n 'Snow']",
        {"text": ["Rain", "Fog", "Snow"], "label": ["1", "2", "3"]},
        "{'text': array(['Rain', 'Fog', 'Snow'], dtype=object), 'label': array(['1', '2', '3'], dtype=object)}",
    ],
)  # fmt: skip
def test_choices_are_read_as_pandas_and_arc_write_them(written: Any) -> None:
    is_named = "label" in written
    preprocessor = MultipleChoicePreprocessor(label_form="letter" if is_named else "index")
    row = {**ROW, "choices": written, "label": "2" if is_named else 1}
    assert codes(preprocessor, row) == []
    assert preprocessor.canonical(row) == {"question": "What came?", "choices": ["Rain", "Fog", "Snow"], "label": 1}
    assert preprocessor.features(batch(row), WORDS) == MultipleChoicePreprocessor().features(batch(ROW), WORDS)


def test_choices_may_stand_in_columns_as_in_a_csv() -> None:
    preprocessor = MultipleChoicePreprocessor(choice_columns=("a", "b"), context=False)
    row = {"question": "What came?", "a": "Rain", "b": "Fog", "label": "1"}
    assert preprocessor.needs().required == ("question", "a", "b")
    assert preprocessor.canonical(row) == {"question": "What came?", "choices": ["Rain", "Fog"], "label": 1}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"choices": "Rain, Fog"}, "choices-not-list"),
        ({"choices": ["Fog"], "label": 0}, "choice-count"),
        ({"choices": ["Rain", "Fog"]}, "choice-count"),
        ({"choices": ["Fog", "Fog", "Rain"]}, "choice-repeats"),
        ({"choices": ["", "Fog", "Rain"]}, "choice-empty"),
        ({"choices": [None, "Fog", "Rain"]}, "choice-missing"),
        ({"question": " "}, "question-empty"),
        ({"context": None}, "context-missing"),
        ({"label": 3}, "label-names-no-choice"),
        ({"label": "B"}, "label-names-no-choice"),
        ({"label": None}, "label-names-no-choice"),
        ({"label": -1}, "label-names-no-choice"),
    ],
)
def test_what_is_wrong_with_a_row_is_found(change: dict[str, Any], code: str) -> None:
    preprocessor = MultipleChoicePreprocessor().fit([ROW, ROW, {**ROW, "choices": ["Rain"]}])
    assert preprocessor.num_choices == 3
    good = {**ROW, "question": "And then?"}
    assert codes(preprocessor, good, {**ROW, **change}) == [code]


def test_rows_that_repeat_are_counted_and_rows_without_labels_are_rows_to_predict() -> None:
    preprocessor = MultipleChoicePreprocessor()
    assert codes(preprocessor, ROW, ROW, {**ROW, "label": 0}) == ["duplicate-rows", "label-conflict"]
    unlabelled = {name: value for name, value in ROW.items() if name != "label"}
    assert codes(preprocessor, unlabelled) == []
    assert "labels" not in preprocessor.features(batch(unlabelled), WORDS)


def test_what_is_cut_is_cut_from_the_context_and_counted() -> None:
    preprocessor = MultipleChoicePreprocessor(max_length=24)
    long = {**ROW, "context": "fog " * 40}
    made = preprocessor.features(batch(ROW, long), WORDS)
    assert [len(ids) <= 24 for ids in made["input_ids"][1]] == [True] * 3
    assert WORDS.decode(made["input_ids"][1][2]).replace(" ", "").endswith("whatcame?snow[SEP]")
    whole = MultipleChoicePreprocessor(max_length=512).features(batch(ROW, long), WORDS)
    lost = sum(preprocessor.lengths(whole)) - sum(preprocessor.lengths(made))
    assert lost > 60
    assert preprocessor.counts(made) == {"truncated": 1, "tokens_lost": lost}


def test_a_limit_without_room_for_the_context_is_refused() -> None:
    with pytest.raises(BadOptions, match=r"a question and one of its choices take (\d+) tokens .* max_length is 6"):
        MultipleChoicePreprocessor(max_length=6).features(batch(ROW), WORDS)


def test_a_batch_is_padded_to_three_axes() -> None:
    preprocessor = MultipleChoicePreprocessor()
    made = preprocessor.features(batch(ROW, {**ROW, "context": "Fog. Snow. Rain. And fog."}), WORDS)
    collate = preprocessor.collator(WORDS, torch.nn.Module())  # type: ignore[arg-type]  # any model without a summary
    together = collate([{name: values[place] for name, values in made.items()} for place in range(2)])
    width = preprocessor.longest(made)
    assert {name: tuple(table.shape) for name, table in together.items()} == {
        "input_ids": (2, 3, width), "attention_mask": (2, 3, width), "token_type_ids": (2, 3, width), "labels": (2,),
    }  # fmt: skip
    assert together["attention_mask"][0, 1].sum() == len(made["input_ids"][0][1])
    fog = made["input_ids"][0][1]
    assert together["input_ids"][0, 1, : len(fog)].tolist() == fog


def test_a_tokenizer_that_cannot_pad_is_refused() -> None:
    unpadded = tokenizer("gpt2")
    unpadded.pad_token = None
    with pytest.raises(Incompatible, match=r"\(\w+\) has no padding token.*under model\.tokenizer"):
        MultipleChoicePreprocessor().collator(unpadded, None)  # type: ignore[arg-type]  # it needs no model


def predictions(logits: Any, *rows: dict[str, Any], preprocessor: Any = None) -> Predictions:
    return Predictions(
        examples=rows, features=[{}] * len(rows), outputs=np.array(logits), tokenizer=WORDS,
        preprocessor=preprocessor or MultipleChoicePreprocessor(),
    )  # fmt: skip


def test_accuracy_baselines_and_slices_of_a_table_made_by_hand() -> None:
    rows = [ROW, {**ROW, "label": 0}, {**ROW, "choices": ["Rain", "A thick fog", "Snow"]}]
    seen = predictions([[0, 2, 1], [0, 2, 1], [0, 2, 1]], *rows)
    evaluator = MultipleChoiceEvaluator()
    records = evaluator.records(seen)
    assert evaluator.scores(records) == {"accuracy": pytest.approx(2 / 3)}
    baselines = evaluator.baselines(seen, train=seen)
    scores = {name: evaluator.scores(found)["accuracy"] for name, found in baselines.items()}
    # position 1 is right in two of three rows; the longest choice is the first of equals
    assert scores == {"majority position": pytest.approx(2 / 3), "longest": pytest.approx(2 / 3)}
    assert evaluator.slices(records, rows) == {
        "position of the right choice": ["2", "1", "2"], "the right choice is the longest": ["no", "yes", "yes"],
    }  # fmt: skip
    assert evaluator.details(records) == {"positions": {"chosen": [0, 3, 0], "right": [1, 2, 0]}}
    losses = evaluator.losses(records)
    assert losses[0] == losses[2] == 0
    assert losses[1] == pytest.approx(np.log(np.exp([0, 2, 1]).sum()))


@pytest.mark.parametrize(("logits", "message"), [([[0, np.nan, 1]], "not finite"), ([0, 1, 2], "of the shape")])
def test_outputs_that_no_choice_can_be_read_from_are_refused(logits: Any, message: str) -> None:
    with pytest.raises(TrainingFailed, match=message):
        MultipleChoiceEvaluator().records(predictions(logits, ROW))
    with pytest.raises(BadData, match="no question"):
        MultipleChoiceEvaluator().scores([])


@dataclass(frozen=True, kw_only=True)
class Foreign(MultipleChoicePreprocessor):
    """A preprocessor of someone else, for rows of another form."""

    keys: tuple[str, ...] = ("choices", "label")
    """What it gives the evaluator."""

    def canonical(self, example: Any) -> Any:
        known = {"choices": [example["yes"], example["no"]], "label": example["answer"]}
        return {key: known[key] for key in self.keys}


def test_the_evaluator_reads_what_any_preprocessor_gives() -> None:
    row = {"yes": "Aye", "no": "Nay", "answer": 1}
    (record,) = MultipleChoiceEvaluator().records(predictions([[0, 1]], row, preprocessor=Foreign()))
    assert (record["prediction"], record["reference"]) == ("Nay", "Nay")
    with pytest.raises(BadOptions, match=r"Foreign\.canonical\(\) gives no 'label'.* Return \{'choices'"):
        MultipleChoiceEvaluator().records(predictions([[0, 1]], row, preprocessor=Foreign(keys=("choices",))))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("bert", WORDS, tmp_path_factory.mktemp("choice") / "base")


def recipe(base: Path, output: Path, **changes: Any) -> dict[str, Any]:
    return {
        "task": "multiple-choice",
        "model": str(base),
        "dataset": {"path": "sample:harbour-choices", "options": {"size": 40}},
        "strategy": "full",
        "preprocessor": {"max_length": 96},
        "training": {"max_steps": 4, "learning_rate": 5e-3, "save_strategy": "no", "eval_strategy": "no"},
        "general_text": "none",
        "output": str(output),
        **changes,
    }


@pytest.mark.parametrize("strategy", ["frozen", "lora", "gradual"])
def test_it_trains_reloads_and_predicts(strategy: str, base: Path, tmp_path: Path) -> None:
    result = finetune.train(**recipe(base, tmp_path / "run", strategy=strategy))
    assert 0 <= result.scores["test"]["accuracy"] <= 1
    assert set(result.baselines["test"]) == {"majority position", "longest"}
    assert finetune.evaluate(tmp_path / "run") == pytest.approx(result.scores["test"])
    row = {name: value for name, value in ROW.items() if name != "label"} | {"choices": ["Rain", "Fog", "Snow", "Hail"]}
    (record,) = finetune.load(tmp_path / "run").predict([row])
    assert record["prediction"] in row["choices"]
    assert sum(record["probabilities"]) == pytest.approx(1)


def written(base: Path, folder: Path, **changes: Any) -> str:
    path = folder / "recipe.json.yaml"
    path.write_text(json.dumps(recipe(base, folder / "run", **changes)))
    return str(path)


def test_check_counts_the_tokens_of_every_choice(base: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["check", written(base, tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    rows = load("harbour-choices", size=40)["test"]
    made = MultipleChoicePreprocessor(max_length=96).features(batch(*rows), WORDS)
    tokens = sum(len(ids) for choices in made["input_ids"] for ids in choices)
    assert report["data_report"]["test"]["tokens"] == tokens
    assert report["samples"][0].count("[CLS]") == 4
    assert report["samples"][0].count("⟦") == 1


def test_sequences_longer_than_the_model_are_refused_before_the_first_step(base: Path, tmp_path: Path) -> None:
    rows = [
        {**ROW, "context": f"{n} " + "fog " * 150, "question": f"What came {n}?", "label": n % 3} for n in range(12)
    ]
    long = recipe(base, tmp_path / "run", dataset={"train": rows, "test": rows[:3]}, preprocessor={"max_length": 600})
    with pytest.raises(BadOptions, match=r"the model has 128 positions\. Set preprocessor.max_length to 128 or less"):
        finetune.train(**long)
