"""Reports and comparisons are made from the result alone, safe against hostile data, with paired verdicts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis.strategies import floats, integers, lists, none, one_of, text

import finetune
from finetune import report
from finetune.characters import visible
from finetune.cli import main
from finetune.errors import BadData
from finetune.evaluation import comparison, verdicts
from finetune.result import Result

HOSTILE = '</td><script>alert(1)</script><img src=x onerror="alert(2)">{{ 7 * 7 }}'


@pytest.fixture(scope="module")
def runs(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return two runs on the same rows; the second learned more. Labels and texts hold markup."""
    folder = tmp_path_factory.mktemp("report")
    rows = [{"text": f"{word} {HOSTILE} {n}", "label": label} for n in range(40)
            for word, label in (("fog", "bad" + HOSTILE), ("salt", "good"))]  # fmt: skip
    outputs = []
    for name, steps in (("short", 1), ("long", 40)):
        outputs.append(folder / name)
        finetune.train(
            task="text-classification",
            model=str(tiny_bert),
            dataset={"train": rows, "validation": rows[:20], "test": rows},
            strategy="full",
            preprocessor={"max_length": 16},
            training={
                "max_steps": steps, "learning_rate": 3e-3, "logging_steps": 1, "save_strategy": "no",
                "eval_strategy": "steps", "eval_steps": 10,
            },
            output=str(outputs[-1]),
        )  # fmt: skip
    return outputs


class Seen(HTMLParser):
    """Keeps the tags of a page, what they ask for from elsewhere, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.handlers: list[str] = []
        self.clips: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "rect" and self.tags[-1] == "clippath":
            self.clips.append(dict(attrs).get("height", ""))
        self.tags.append(tag)
        for name, value in attrs:
            is_link = tag == "a" and (value or "").startswith("./")
            if name in {"src", "href", "xlink:href"} and not (value or "").startswith("#") and not is_link:
                self.fetched.append(value)
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_hostile_label_or_text_cannot_inject_markup(runs: list[Path]) -> None:
    page = Seen((runs[0] / "report.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert not page.handlers
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text


def test_a_report_fetches_nothing(runs: list[Path]) -> None:
    text = (runs[1] / "report.html").read_text(encoding="utf-8")
    page = Seen(text)
    assert page.fetched == []
    assert "link" not in page.tags
    assert "url(http" not in text
    assert "@import" not in text


def test_a_report_shows_the_headline_the_curves_the_matrix_and_the_worst(runs: list[Path]) -> None:
    page = Seen((runs[1] / "report.html").read_text(encoding="utf-8"))
    result = Result.load(runs[1])
    for sentence in verdicts.headline(result):
        assert sentence in page.text
    assert page.tags.count("svg") >= 5  # loss, primary score, learning rate, gradient norm and calibration
    assert page.clips.count("") == 0  # a clip without a height hides the curves
    assert "Confusion matrix" in page.text
    assert result.fingerprints["test"] in page.text
    assert "majority" in page.text
    first = Seen((runs[0] / "report.html").read_text(encoding="utf-8"))
    assert "Worst errors" in first.text


def test_a_report_is_made_again_from_the_result_alone(runs: list[Path], tmp_path: Path) -> None:
    shutil.copy(runs[1] / "result.json", tmp_path)
    done = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "report.html").read_bytes() == (runs[1] / "report.html").read_bytes()
    done = CliRunner().invoke(main, ["report", str(runs[1]), "--output", str(tmp_path / "other.html")])
    assert done.output.strip() == str(tmp_path / "other.html")


def test_the_better_run_is_called_better_and_a_run_against_itself_is_inconclusive(runs: list[Path]) -> None:
    found = comparison.compare([*runs, runs[0]])
    assert [run.verdict for run in found.runs] == ["first", "better", "inconclusive"]
    assert found.runs[1].difference is not None
    assert found.runs[1].difference["low"] > 0
    assert found.runs[1].difference["value"] == pytest.approx(found.runs[1].score - found.runs[0].score)
    assert found.recipes["training.max_steps"] == [1, 40, 1]
    assert not any(key.startswith("output") for key in found.recipes)


def test_compare_says_by_its_exit_status_whether_the_last_is_better(runs: list[Path], tmp_path: Path) -> None:
    short, long = map(str, runs)
    assert CliRunner().invoke(main, ["compare", short, long, "--require-better"]).exit_code == 0
    assert CliRunner().invoke(main, ["compare", long, short, "--require-better"]).exit_code == 3
    shown = CliRunner().invoke(main, ["compare", short, long, "--json", "--html", str(tmp_path / "both.html")])
    assert [run["verdict"] for run in json.loads(shown.output)["runs"]] == ["first", "better"]
    assert "better" in Seen((tmp_path / "both.html").read_text(encoding="utf-8")).text
    shown = CliRunner().invoke(main, ["compare", short, long])
    assert "training.max_steps" in shown.output
    assert CliRunner().invoke(main, ["compare", short]).exit_code == 2


def test_runs_on_other_rows_or_by_another_score_are_not_compared(runs: list[Path], tmp_path: Path) -> None:
    for change, message in (
        ({"fingerprints": {"test": "0" * 64, "validation": "1", "train": "2"}}, "were scored on different rows"),
        ({"primary": "mcc"}, "The primary score of .* is 'accuracy'"),
    ):
        folder = tmp_path / next(iter(change))
        folder.mkdir()
        content = json.loads((runs[0] / "result.json").read_text(encoding="utf-8"))
        (folder / "result.json").write_text(json.dumps({**content, **change}), encoding="utf-8")
        with pytest.raises(BadData, match=message):
            comparison.compare([runs[0], folder])


def test_damaged_predictions_are_refused_with_their_line(runs: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs[0], folder)
    with (folder / "predictions.jsonl").open("a", encoding="utf-8") as file:
        file.write("{\n")
    with pytest.raises(BadData, match=r"predictions.jsonl:101: the line is damaged"):
        comparison.compare([runs[0], folder])


def test_a_validation_loss_that_rises_is_called_overfitted(runs: list[Path]) -> None:
    result = Result.load(runs[1])
    log = [{"step": step, "eval_loss": loss} for step, loss in ((1, 0.9), (2, 0.5), (3, 0.8))]
    assert any("lowest at step 2" in sentence for sentence in verdicts.fit(replace(result, log=log)))
    falling = [{"step": step, "loss": 1 - step / 25} for step in range(1, 21)]
    assert any("Not finished" in sentence for sentence in verdicts.fit(replace(result, log=falling)))
    ended = [{"step": step, "loss": max(1 - step / 10, 0.4 / step)} for step in range(1, 21)]
    assert not any("Not finished" in sentence for sentence in verdicts.fit(replace(result, log=ended)))
    split = verdicts.report_split(result) or ""
    apart = {"train": {result.primary: 1.0}, split: {result.primary: 0.5}}
    bounds = {split: {result.primary: {"low": 0.4, "high": 0.6}}}
    sentences = list(verdicts.fit(replace(result, log=falling, scores=apart, intervals=bounds)))
    assert sentences[0].startswith("Overfitted"), sentences
    assert not any("Train longer" in sentence for sentence in sentences), "more of what overfits is no cure"
    near = replace(
        result, log=[], scores={"train": {result.primary: 0.61}, split: {result.primary: 0.5}}, intervals=bounds
    )
    assert not any("Overfitted" in sentence for sentence in verdicts.fit(near)), "the rows of train are a sample, too"
    flat = [{"step": step, "loss": 0.5, "eval_loss": 0.5} for step in range(1, 21)]
    with_head = replace(result, log=flat, newly_initialized=[])
    assert not any("loss" in sentence for sentence in verdicts.fit(with_head))


def test_a_loss_that_stays_near_its_start_is_called_underfitted(runs: list[Path]) -> None:
    result = Result.load(runs[1])
    slow = [{"step": step, "loss": 1.386 - step * 0.0175} for step in range(10)]
    sentence = "Underfitted: the training loss is still near its start, 1.386 at first and 1.237 at the end."
    assert any(each.startswith(sentence) for each in verdicts.fit(replace(result, log=slow)))
    learned = [{"step": step, "loss": 1.386 - step * 0.05} for step in range(10)]
    assert not any("near its start" in each for each in verdicts.fit(replace(result, log=learned)))
    has_head = replace(result, log=slow, newly_initialized=[])
    assert not any("near its start" in each for each in verdicts.fit(has_head)), "it may be good from the first step"


@given(
    size=integers(1, 60),
    train=floats(0, 1),
    score=floats(0, 1),
    width=one_of(none(), floats(0, 0.5)),
    losses=lists(floats(0.01, 9), min_size=2, max_size=6),
)
def test_no_verdict_on_the_fit_rests_on_a_handful_of_rows_or_on_no_interval(
    runs: list[Path], size: int, train: float, score: float, width: float | None, losses: list[float]
) -> None:
    bounds = {} if width is None else {"accuracy": {"low": score - width, "high": score + width}}
    difference = {"majority": {"accuracy": {"value": -0.1, "low": -0.2, "high": 0.1}}}
    result = replace(
        Result.load(runs[1]),
        primary="accuracy",
        scores={"train": {"accuracy": train}, "validation": {"accuracy": score}},
        intervals={"validation": bounds},
        units={"validation": {"size": size, "column": None}},
        baselines={"validation": {"majority": {"accuracy": score}}},
        differences={"validation": difference if bounds else {}},
        newly_initialized=[],
        log=[{"step": step, "eval_loss": loss} for step, loss in enumerate(losses)],
    )
    sentences = list(verdicts.fit(result))
    if size < verdicts.LEAST_UNITS:
        assert sentences == []
    if width is None:
        assert not any("on training rows" in each or each.startswith("Underfitted") for each in sentences)


def test_a_run_that_improved_or_kept_the_best_checkpoint_is_not_advised_to_keep_it(runs: list[Path]) -> None:
    result = Result.load(runs[1])
    name = f"eval_{result.primary}"

    def warning(*scores: float, **arguments: bool) -> str:
        log = [{"step": n, "eval_loss": loss, name: score}
               for n, loss, score in zip((1, 2, 3), (0.9, 0.5, 0.8), scores, strict=True)]  # fmt: skip
        changed = replace(result, log=log, arguments={**result.arguments, **arguments})
        return next(sentence for sentence in verdicts.fit(changed) if "lowest at step 2" in sentence)

    advice = "set training.load_best_model_at_end: true"
    assert advice in warning(0.4, 0.6, 0.5)
    assert "improved from 0.500 to 0.700" in warning(0.4, 0.5, 0.7) and advice not in warning(0.4, 0.5, 0.7)
    assert "The run kept the best checkpoint." in warning(0.4, 0.6, 0.5, load_best_model_at_end=True)
    assert advice not in warning(0.4, 0.6, 0.5, load_best_model_at_end=True)


def test_a_model_that_is_no_better_than_a_baseline_is_called_so(runs: list[Path]) -> None:
    said = "is not clearly better than that of the baseline"
    assert any(said in sentence for sentence in verdicts.fit(Result.load(runs[0])))
    assert not any(said in sentence for sentence in verdicts.fit(Result.load(runs[1])))


def test_a_validation_split_that_selected_the_model_is_called_optimistic(runs: list[Path]) -> None:
    result = Result.load(runs[1])
    scores = {split: score for split, score in result.scores.items() if split != "test"}
    result = replace(result, leakage={})
    sentences = list(verdicts.headline(replace(result, scores=scores, selection_split="validation")))
    assert sentences[0].endswith("20 rows of validation (optimistic: the model was selected on this split).")
    sentences = list(verdicts.headline(replace(result, scores=scores, selection_split=None)))
    assert sentences[0].endswith("20 rows of validation, because there is no test split.")
    assert not any("selection" in sentence for sentence in verdicts.headline(result))


def test_a_score_on_rows_of_train_is_called_optimistic(runs: list[Path]) -> None:
    result = Result.load(runs[1])
    split = verdicts.report_split(result) or ""
    found = {"rows": 80, "exact": 3, "normalized": 2, "near": None, "columns": ["text"], "pairs": []}

    def headline(**changed: int) -> str:
        return next(verdicts.headline(replace(result, leakage={split: {**found, **changed}})))

    assert headline().endswith("on 80 rows of test (optimistic: 5 of these rows are also in train).")
    assert "optimistic" not in headline(exact=2), "a row or two do not change a score, and are counted elsewhere"
    chosen = replace(result, leakage={split: found}, selection_split=split)
    assert "5 of these rows are also in train and the model was selected" in next(verdicts.headline(chosen))


def test_the_headline_states_the_score_and_each_difference_with_its_interval(runs: list[Path]) -> None:
    result = replace(
        Result.load(runs[1]),
        primary="accuracy",
        scores={"test": {"accuracy": 0.945}},
        intervals={"test": {"accuracy": {"low": 0.93, "high": 0.96}}},
        base_model_scores={"test": {"accuracy": 0.175}},
        baselines={"test": {"majority": {"accuracy": 0.96}}},
        differences={
            "test": {
                "base_model": {"accuracy": {"value": 0.77, "low": 0.704, "high": 0.825}},
                "majority": {"accuracy": {"value": -0.015, "low": -0.03, "high": 0.001}},
            }
        },
        leakage={},
    )
    assert list(verdicts.headline(result)) == [
        "Accuracy 0.945 (95% interval 0.930 to 0.960) on 80 rows of test.",
        "Better than the base model (0.175) by 0.770 (95% interval 0.704 to 0.825).",
        "Not clearly better or worse than the baseline “majority” (0.960): difference −0.015 (95% interval −0.030 to "
        "+0.001).",
    ]


def test_a_report_of_numbers_needs_no_torch() -> None:
    import subprocess
    import sys

    program = "import sys, finetune.report; print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
    assert report.REPORT == "report.html"


UNSEEN = "\u202e\u2066\u200e\u200f\u061c\u200b\ufeff\x1b\x00\u2028\U000e0041"


def test_unseen_characters_of_the_data_are_shown_in_a_report(runs: list[Path]) -> None:
    result = Result.load(runs[0])
    split = verdicts.report_split(result)
    assert split
    worst = dict(result.worst[split][0])
    worst["example"] = {"text": f"evil{UNSEEN}txt.exe", "label": UNSEEN}
    hostile = replace(result, recipe={**result.recipe, "slices": [UNSEEN]}, worst={**result.worst, split: [worst]})
    page = report.page(hostile)
    assert not set(UNSEEN) & set(page)
    assert "evil\\u202e\\u2066" in page


@given(text())
def test_a_visible_text_keeps_every_character_that_is_seen(written: str) -> None:
    shown = visible(written)
    assert not set(UNSEEN) & set(shown)
    assert visible(shown) == shown
    assert shown == "".join(visible(character) for character in written)
    assert all(visible(character) == character for character in "aé漢🙂\t\n\r\u200c\u200d\ufe0f ")


def test_settings_of_matplotlib_in_the_current_folder_change_no_chart(tmp_path: Path) -> None:
    code = "from finetune.report import charts\nprint(charts.losses([{'step': n, 'loss': 1 / n} for n in range(1, 9)]))"
    pages = []
    for settings in ("", "text.usetex: True\nlines.linewidth: 9\nfont.size: 40\n"):
        (tmp_path / "matplotlibrc").write_text(settings)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, env=environment
        )
        pages.append(done.stdout)
    assert pages[0] == pages[1] and "<svg" in pages[0]
