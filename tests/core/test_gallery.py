"""Each recipe of the gallery is read, planned and checked on a small file of the form that it names."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cases import case

from finetune import plan as plans
from finetune import recipe as recipes
from finetune.data import preparation
from finetune.errors import UnknownName
from finetune.plugins import discover
from finetune.recipe import gallery
from finetune.recipe.options import build
from finetune.testing import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune.training import rates

PLUGINS = discover()
READY = gallery.found(PLUGINS)
RNG = random.Random(3)
WORDS = [
    f"{stem}{end}"
    for stem in ["boat", "deck", "crew", "harbour", "market", "rope", "tide", "wind"]
    for end in ("", "s", "er")
]
ROWS = 24


def text(words: int = 9) -> str:
    return " ".join(RNG.sample(WORDS, words)).capitalize() + "."


def jsonl(make: Callable[[], Any]) -> str:
    return "".join(json.dumps(make()) + "\n" for _ in range(ROWS))


def written(make: Callable[[], str], header: str = "") -> str:
    return header + "".join(f"{make()}\n" for _ in range(ROWS))


def pick(*values: Any) -> Any:
    return RNG.choice(values)


def pair() -> dict[str, str]:
    return {"prompt": text(), "chosen": text(), "rejected": text()}


def chat() -> dict[str, Any]:
    turns = [("user", text()), ("assistant", text())]
    return {"messages": [{"role": role, "content": said} for role, said in turns]}


def decision() -> dict[str, Any]:
    asked = {"state": text(), "type": pick("choice", "score"), "instructions": text(4), "criteria": ["fair", "foul"]}
    return {**asked, "answer": "fair"}


def entity() -> dict[str, Any]:
    words = text().split()
    return {"tokens": words, "ner_tags": ["B-PER", *["O"] * (len(words) - 1)]}


def sentence() -> str:
    return "".join(f"{word} {'B-PER' if place == 0 else 'O'}\n" for place, word in enumerate(text().split()))


def question() -> str:
    context = text(12)
    return f"{text(4)},{context},{' '.join(context.split()[2:4])}"


def article() -> dict[str, Any]:
    context = text(12)
    answer = " ".join(context.split()[2:4])
    answers = [{"text": answer, "answer_start": context.index(answer)}]
    qas = [{"id": text(12), "question": text(4), "is_impossible": False, "answers": answers}]
    return {"title": text(2), "paragraphs": [{"context": context, "qas": qas}]}


FILES: dict[str, Callable[[], str]] = {
    "reviews-csv": lambda: written(lambda: f"{text()},{pick(1, 3, 5)}", "review,stars\n"),
    "messages-without-header": lambda: written(lambda: f"{pick('spam', 'ham')}\t{text()}"),
    "rare-class-csv": lambda: written(lambda: f"{text()};{pick('complaint', 'other')}", "letter;kind\n"),
    "sentence-pairs-tsv": lambda: written(
        lambda: f"{text()}\t{text()}\t{pick('entailment', 'neutral')}", "premise\thypothesis\tlabel\n"
    ),
    "toxic-comments-csv": lambda: written(
        lambda: f"{text()},{pick(0, 1)},{pick(0, 1)},{pick(0, 1)}",
        "comment_text,toxic,obscene,insult\n",
    ),
    "exam-csv": lambda: written(
        lambda: f"{text()},{text(2)},{text(3)},{text(4)},{pick('A', 'B', 'C')}", "question,A,B,C,answer\n"
    ),
    "topics-csv": lambda: written(lambda: f"{text()},{pick('market', 'market|weather', '')}", "text,topics\n"),
    "similarity-csv": lambda: written(lambda: f"{text()},{text()},{RNG.random():.2f}", "sentence1,sentence2,score\n"),
    "entities-conll": lambda: "\n".join(sentence() for _ in range(ROWS)),
    "entities-jsonl": lambda: jsonl(entity),
    "questions-squad": lambda: json.dumps({"version": "1.1", "data": [article() for _ in range(ROWS)]}),
    "questions-csv": lambda: written(question, "question,context,answer\n"),
    "decisions-jsonl": lambda: jsonl(decision),
    "exam-jsonl": lambda: jsonl(lambda: {"question": text(), "choices": [text(2), text(3)], "answer": pick("A", "B")}),
    "domain-texts-masked": lambda: written(text),
    "domain-texts-causal": lambda: written(lambda: f"{text()}\n{text()}\n"),
    "dialogues-jsonl": lambda: jsonl(lambda: {"dialogue": text(20), "summary": text(4)}),
    "translation-csv": lambda: written(lambda: f"{text()},{text()}", "en,de\n"),
    "corrections-csv": lambda: written(lambda: f"{text()},{text()}", "written,corrected\n"),
    "chats-jsonl": lambda: jsonl(chat),
    "instructions-json": lambda: json.dumps(
        [{"instruction": text(), "input": "", "output": text()} for _ in range(ROWS)]
    ),
    "preferences-jsonl": lambda: jsonl(pair),
    "thumbs-jsonl": lambda: jsonl(lambda: {"prompt": text(), "completion": text(), "label": pick(True, False)}),
    "reward-pairs-jsonl": lambda: jsonl(pair),
    "prompts-grpo-jsonl": lambda: jsonl(lambda: {"prompt": text()}),
    "prompts-rloo-jsonl": lambda: jsonl(lambda: {"prompt": text()}),
}
"""Name of a recipe → a file of its form."""


def test_each_task_has_a_recipe_and_each_recipe_a_file() -> None:
    assert {recipe.task for recipe in READY} == set(PLUGINS.catalogues["tasks"].available)
    assert {recipe.name for recipe in READY} == set(FILES)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[tuple[str, str], Path] = {}

    def model(task: str) -> Path:
        of = case(task)
        key = (of.family, of.words)
        if key not in made:
            made[key] = tiny_model(of.family, tokenizer(of.words, vocab_size=600), tmp_path_factory.mktemp("base"))
        return made[key]

    return model


@pytest.mark.parametrize("ready", READY, ids=lambda ready: ready.name)
def test_a_recipe_of_the_gallery_is_planned_and_checked(
    ready: gallery.Ready, models: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(ready.content["dataset"]["path"])
    if not path.suffix:
        path.mkdir()
        path = path / "train.conll"
    path.write_text(FILES[ready.name]())
    overrides = [f"model={models(ready.task)}"]
    if "conversational" in ready.text or '{"messages"' in ready.text:  # the model that it names has a chat template
        overrides.append("preprocessor.chat_template=plain")
    recipe = recipes.parse(ready.content, overrides)
    prepared = preparation.prepare(plans.make(recipe, PLUGINS))
    report = prepared.data_report
    assert report["train"]["kept"] + report["validation"]["kept"] == ROWS
    assert {"unread-columns", "other-delimiter"}.isdisjoint(prepared.examples.counts)


@pytest.mark.parametrize("ready", READY, ids=lambda ready: ready.name)
def test_a_recipe_takes_other_data_and_keeps_its_comments(ready: gallery.Ready) -> None:
    changed = ready.with_paths(data="my: data.csv", output="runs/# mine")
    content = recipes.load(changed)
    assert content == {
        **ready.content, "dataset": {**ready.content["dataset"], "path": "my: data.csv"}, "output": "runs/# mine",
    }  # fmt: skip
    comments = [line for line in ready.text.splitlines() if line.lstrip().startswith("#")]
    assert comments and all(line in changed.splitlines() for line in comments)
    assert ready.with_paths(data=None, output=None) == ready.text
    assert len(ready.title) < 100 and not ready.title.endswith(".")


@pytest.mark.parametrize("ready", READY, ids=lambda ready: ready.name)
def test_a_recipe_states_no_learning_rate_that_the_run_would_choose(ready: gallery.Ready) -> None:
    recipe = recipes.parse(ready.content)
    cls = PLUGINS.find("strategies", recipe.strategy.name)
    strategy = build(cls, recipe.strategy.options, where="strategy")
    suggested = rates.suggest(recipe.model, PLUGINS.find("tasks", recipe.task), strategy, offline=True)
    assert suggested is not None and suggested.training["learning_rate"] > 0
    assert recipe.training.get("learning_rate") != suggested.training["learning_rate"]


def test_an_unknown_recipe_lists_all() -> None:
    with pytest.raises(UnknownName) as caught:
        gallery.find("revews-csv", PLUGINS)
    assert "Did you mean 'reviews-csv'" in str(caught.value)
    assert all(ready.name in str(caught.value) for ready in READY)
