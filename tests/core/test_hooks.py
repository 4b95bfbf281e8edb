"""The hooks `preprocessors`, `evaluators` and `card_sections`: a plugin provides them, and a run uses them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import toy

import finetune
from finetune.errors import UnknownName
from finetune.plugins import discover
from finetune.result import Result

PLUGIN = """
from finetune import hookimpl

@hookimpl
def preprocessors():
    return {"first-words": "stranger_hooks_parts:FirstWordsPreprocessor"}

@hookimpl
def evaluators():
    return {"cost": "stranger_hooks_parts:CostEvaluator"}

@hookimpl
def card_sections():
    return {
        "Energy": "stranger_hooks_parts:energy",
        "Left out": "stranger_hooks_parts:nothing",
    }
"""
PARTS = """
from dataclasses import dataclass
from typing import ClassVar

from toy import Accuracy, SeaOrLand


@dataclass(frozen=True, kw_only=True)
class FirstWordsPreprocessor(SeaOrLand):
    words: int = 3

    def features(self, examples, tokenizer):
        texts = [" ".join(text.split()[: self.words]) for text in examples["text"]]
        return super().features({**examples, "text": texts}, tokenizer)


@dataclass(frozen=True, kw_only=True)
class CostEvaluator(Accuracy):
    primary: ClassVar[str] = "cost"
    missed_sea: float = 5.0

    @property
    def greater_is_better(self):
        return False

    def scores(self, records):
        costs = []
        for record in records:
            wrong = record["prediction"] != record["reference"]
            costs.append(wrong * (self.missed_sea if record["reference"] == "sea" else 1.0))
        return {"cost": sum(costs) / len(costs)}


def energy(result, directory):
    steps = result.steps
    return f"{steps} steps, measured in {directory.name}."


def nothing(result, directory):
    return ""
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Install the plugin as pip would leave it, and make one run whose recipe names what it brings."""
    site = tmp_path_factory.mktemp("site")
    (site / "stranger_hooks.py").write_text(textwrap.dedent(PLUGIN))
    (site / "stranger_hooks_parts.py").write_text(textwrap.dedent(PARTS))
    info = site / "stranger_hooks-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger_hooks\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[finetune]\nstranger_hooks = stranger_hooks\n")
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        finetune.train(
            task="toy:TASK",
            model=str(toy.base(folder / "base")),
            dataset={"train": toy.rows(24, seed=1), "validation": toy.rows(12, seed=2)},
            preprocessor={"name": "first-words", "words": 2},
            evaluator={"name": "cost", "missed_sea": 7.0},
            strategy="full",
            training={"max_steps": 2, "per_device_train_batch_size": 8},
            general_text="none",
            output=str(folder / "run"),
        )
        yield folder / "run"


def test_the_names_of_the_plugin_are_listed_with_their_owner(run: Path) -> None:
    catalogues = discover().catalogues
    for hook, name in (("preprocessors", "first-words"), ("evaluators", "cost"), ("card_sections", "Energy")):
        assert catalogues[hook].owners[name] == "stranger_hooks"


def test_the_preprocessor_of_the_recipe_makes_the_features(run: Path) -> None:
    result = Result.load(run)
    assert result.preprocessor["class"] == "stranger_hooks_parts:FirstWordsPreprocessor"
    assert result.preprocessor["options"]["words"] == 2
    train = result.data_report["train"]
    # two words of one token or more each, [CLS] and [SEP]; the texts have eight words
    assert 4 * 24 <= train["tokens"] < 8 * 24


def test_the_evaluator_of_the_recipe_scores_the_run(run: Path) -> None:
    result = Result.load(run)
    assert result.primary == "cost"
    assert not result.greater_is_better
    costs = []
    for line in (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        wrong = record["prediction"] != record["reference"]
        costs.append(wrong * (7.0 if record["reference"] == "sea" else 1.0))
    assert len(costs) == 12
    assert result.scores["validation"] == {"cost": pytest.approx(sum(costs) / len(costs))}
    assert 0 < result.scores["validation"]["cost"] < 7


def test_a_saved_run_predicts_with_the_preprocessor_of_the_plugin(run: Path) -> None:
    model = finetune.load(run)
    whole, cut = model.predict([{"text": "the wave tree hill road"}, {"text": "the wave"}])
    assert whole == cut


def test_the_card_has_the_section_of_the_plugin_and_leaves_an_empty_one_out(run: Path) -> None:
    card = (run / "README.md").read_text(encoding="utf-8")
    assert "## Energy\n\n2 steps, measured in run." in card
    assert "Left out" not in card
    assert "| cost |" in card


def test_a_misspelt_preprocessor_is_answered_with_the_nearest_name(run: Path) -> None:
    with pytest.raises(UnknownName, match=r"unknown preprocessor 'first-word'. Did you mean 'first-words'\?"):
        discover().find("preprocessors", "first-word")
