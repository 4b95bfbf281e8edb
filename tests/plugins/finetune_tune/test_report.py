"""The report of a study, and the command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

import finetune_tune
from finetune.cli import main
from finetune.kit import render_page
from finetune_tune import charts
from finetune_tune.trial import Rung, Settings, Trial
from finetune_tune.tune import Tuned


def test_the_report_shows_each_trial_and_nothing_from_elsewhere(study: Tuned) -> None:
    page = (study.output / "report.html").read_text()
    for trial in study.trials:
        assert f'<th scope="row">{trial.number}</th>' in page
        assert f"<code>training.learning_rate={trial.chosen['training.learning_rate']:.3g}</code>" in page
    assert page.count("<polyline") == 2 * len([trial for trial in study.trials if trial.rungs])
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page
    assert not re.findall(r'(?:src|href)="(?!#)', page)
    assert "the recipe as it is written" in page


def test_the_text_of_a_value_is_escaped(study: Tuned) -> None:
    trial = Trial(number=0, chosen={"strategy": "<script>"}, state="failed", reason="<b>bad</b>")
    values = {
        "settings": study.settings, "trials": [trial], "parameters": (), "conclusion": study.conclusion,
        "sentences": ["<i>"], "rows": [{"trial": trial, "shown": "strategy=<script>"}], "rungs": None, "values": None,
        "importance": {}, "scores": None, "difference": None, "source": "", "space": "", "best": "",
    }  # fmt: skip
    page = render_page(Path(finetune_tune.__path__[0]), "report.html", **values)
    assert "<script>" not in page and "<b>bad" not in page and "<i>" not in page


def test_points_lie_in_the_picture() -> None:
    rungs = tuple(Rung(step=step, score=score, best_step=step, seconds=1) for step, score in ((1, 0.5), (3, 0.9)))
    trials = [Trial(number=0, chosen={}, state="paused", rungs=rungs)]
    found = charts.rungs(trials, Settings(trials=1, seed=0, greater_is_better=True, primary="f1"), winner=0)
    assert found is not None
    (line,) = found["lines"]
    assert line["tone"] == "main" and [x for x, _ in line["points"]] == [16.67, 50.0]
    assert line["points"][0][1] > line["points"][1][1]  # places count from the top
    assert all(0 <= place <= 100 for _, place in line["points"])


def test_the_command_shows_a_finished_study(study: Tuned) -> None:
    recipe = study.output.parent / "recipe.yaml"
    result = CliRunner(catch_exceptions=False).invoke(
        main, ["tune", str(recipe), "--trials", "4", "--seeds", "2", "-q"]
    )
    assert result.exit_code == 0, result.output
    assert result.output.startswith("trial  accuracy  rung") and f"Study: {study.output}" in result.output
    assert "rows of test that no trial has read, with 2 new seeds" in result.output


def test_the_help_imports_no_optuna() -> None:
    program = (
        "import sys, finetune_tune\nfrom click.testing import CliRunner\nfrom finetune.cli import main\n"
        "assert CliRunner().invoke(main, ['tune', '--help']).exit_code == 0\n"
        "print(sorted({'optuna', 'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
