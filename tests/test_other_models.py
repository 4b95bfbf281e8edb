"""Models that another program trained: what finetune makes of their files, against transformers and PEFT themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from click.testing import CliRunner
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

import finetune
from finetune.cli import main
from finetune.errors import BadOptions, BadRecipe, Incompatible
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_peft.strategy import suppress_warnings

TEXTS = ["the boat is late", "fog over the quay and the nets", "salt, tar and a fine inn", "no"]
NAMES = {"id2label": {0: "bad", 1: "good", 2: "odd"}, "label2id": {"bad": 0, "good": 1, "odd": 2}}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `Trainer.save_model` writes it."""
    place = tmp_path_factory.mktemp("models") / "classifier"
    return tiny_model("roberta", tokenizer("roberta"), place, model_class="AutoModelForSequenceClassification", **NAMES)


def by_transformers(folder: Path, texts: list[str], model: Any = None) -> torch.Tensor:
    """Return the logits of each text, as the user's own code would compute them."""
    model = model or AutoModelForSequenceClassification.from_pretrained(folder)
    words = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return torch.cat([model.eval()(**words(text, return_tensors="pt")).logits for text in texts])


def test_a_folder_of_transformers_predicts_what_transformers_predicts(classifier: Path) -> None:
    model = finetune.load(classifier)
    wanted = torch.softmax(by_transformers(classifier, TEXTS), dim=-1)
    records = model.predict(TEXTS)
    assert [record["prediction"] for record in records] == [
        NAMES["id2label"][row] for row in wanted.argmax(-1).tolist()
    ]
    found = torch.tensor([list(record["probabilities"].values()) for record in records])
    assert torch.allclose(found, wanted, atol=1e-6)
    assert model.result.recipe["task"] == "text-classification"
    assert "labels, in the order of their ids: bad, good, odd" in model.result.notes


def test_the_longest_text_is_that_of_the_model_and_not_the_default(classifier: Path) -> None:
    long = " ".join(["fog"] * 400)
    model = finetune.load(classifier)
    words = AutoTokenizer.from_pretrained(classifier)
    positions = 128  # RoBERTa counts them from the padding token, so two of its 130 are not used
    assert getattr(model.plan.preprocessor, "max_length") == min(words.model_max_length, positions)  # noqa: B009
    assert model.predict(long)["prediction"] in NAMES["id2label"].values()


@pytest.mark.parametrize("form", ["names", "ids", "class_label"])
def test_scores_do_not_depend_on_how_the_rows_write_labels(classifier: Path, form: str, tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset

    labels = [0, 1, 2, 1]
    rows: Any = [{"text": text, "label": label} for text, label in zip(TEXTS, labels, strict=True)]
    if form == "names":
        rows = [{**row, "label": NAMES["id2label"][row["label"]]} for row in rows]
    if form == "class_label":
        rows = Dataset.from_list(rows).cast_column("label", ClassLabel(names=list(NAMES["label2id"])))
    wanted = (by_transformers(classifier, TEXTS).argmax(-1) == torch.tensor(labels)).float().mean().item()
    assert finetune.load(classifier).evaluate(rows)["accuracy"] == pytest.approx(wanted)
    if form == "ids":
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        found = finetune.evaluate(classifier, file, output=tmp_path / "out", processes=1)
        assert found["accuracy"] == pytest.approx(wanted)


def test_a_loaded_model_with_options_predicts_files_and_scores_them(classifier: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("review,label\nfog,good\nquay,bad\n", encoding="utf-8")
    model = finetune.load(classifier, columns={"review": "text"})
    finetune.predict(model, tmp_path / "rows.csv", tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    wanted = model.predict(["fog", "quay"])
    assert [json.loads(line)["probabilities"] for line in lines] == [record["probabilities"] for record in wanted]
    assert finetune.evaluate(model, tmp_path / "rows.csv") == model.evaluate(tmp_path / "rows.csv")
    with pytest.raises(finetune.errors.BadData, match="text"):
        finetune.predict(classifier, tmp_path / "rows.csv", tmp_path / "other.jsonl")


def test_other_names_than_those_of_the_model_are_refused(classifier: Path) -> None:
    rows = [{"text": "fog", "label": "terrible"}, {"text": "quay", "label": "good"}]
    with pytest.raises(finetune.errors.BadData, match="terrible"):
        finetune.load(classifier).evaluate(rows)


def test_one_label_in_the_rows_is_no_error(classifier: Path) -> None:
    scores = finetune.load(classifier).evaluate([{"text": "fog", "label": "good"}, {"text": "quay", "label": "good"}])
    assert 0 <= scores["accuracy"] <= 1


def test_a_tagger_keeps_its_tags_and_converts_those_of_the_rows(tmp_path: Path) -> None:
    tags = ["O", "B-PER", "I-PER"]
    options = {"id2label": dict(enumerate(tags)), "label2id": {tag: place for place, tag in enumerate(tags)}}
    place = tiny_model("bert", tokenizer("bert"), tmp_path / "tagger", model_class="AutoModelForTokenClassification",
                       **options)  # fmt: skip
    words = ["Ada", "Stone", "sails", "home"]
    found = finetune.load(place).predict(tokens=words)
    encoded = AutoTokenizer.from_pretrained(place)(words, is_split_into_words=True, return_tensors="pt")
    with torch.no_grad():
        logits = AutoModelForTokenClassification.from_pretrained(place).eval()(**encoded).logits[0]
    firsts = [encoded.word_ids().index(word) for word in range(len(words))]
    assert found["tags"] == [tags[logits[first].argmax()] for first in firsts]
    bio = [{"tokens": words, "tags": ["B-PER", "I-PER", "O", "O"]}] * 2
    bilou = [{"tokens": words, "tags": ["B-PER", "L-PER", "O", "O"]}] * 2
    model = finetune.load(place, columns={"tags": "ner_tags"})
    assert model.evaluate(bio) == model.evaluate(bilou)


def test_an_adapter_of_peft_predicts_what_peft_predicts(classifier: Path, tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    words = tokenizer("roberta")
    tiny_model("roberta", words, base)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=4)
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"], init_lora_weights=False)
    with suppress_warnings():
        wrapped = peft.get_peft_model(model, config)
    wrapped.save_pretrained(adapter)
    words.save_pretrained(adapter)
    wanted = by_transformers(adapter, TEXTS, wrapped).argmax(-1).tolist()
    loaded = finetune.load(adapter)
    assert [record["prediction"] for record in loaded.predict(TEXTS)] == [f"LABEL_{row}" for row in wanted]
    assert any("does not name its labels" in note for note in loaded.result.notes)
    named = finetune.load(adapter, preprocessor={"labels": ["a", "b", "c", "d"]})
    assert [record["prediction"] for record in named.predict(TEXTS)] == ["abcd"[row] for row in wanted]
    shutil.move(base, tmp_path / "moved")
    with pytest.raises(BadRecipe, match="--base"):
        finetune.load(adapter)
    assert finetune.load(adapter, base=tmp_path / "moved").predict("fog")["prediction"].startswith("LABEL_")


def test_an_adapter_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    tiny_model("bert", tokenizer("bert"), base)
    model = AutoModelForSequenceClassification.from_pretrained(base)
    config = peft.LoraConfig(r=2, target_modules=["query"])  # without a task, PEFT does not save the head
    with suppress_warnings():
        peft.get_peft_model(model, config).save_pretrained(adapter)
    with pytest.raises(Incompatible, match="no trained weights of classifier"):
        finetune.load(adapter, task="text-classification")


def test_a_model_without_a_trained_head_is_refused_by_name(tmp_path: Path) -> None:
    place = tiny_model("bert", tokenizer("bert"), tmp_path / "body")
    with pytest.raises(BadRecipe, match="does not say what it was trained for"):
        finetune.load(place)
    with pytest.raises(Incompatible, match="was saved as BertModel, so it has no trained head"):
        finetune.load(place, task="question-answering")
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, "architectures": None}))
    with pytest.raises(Incompatible, match="no trained weights of qa_outputs"):
        finetune.load(place, task="question-answering")


def test_several_tasks_are_listed(tmp_path: Path) -> None:
    place = tiny_model("llama", tokenizer("llama"), tmp_path / "decoder", model_class="AutoModelForCausalLM")
    with pytest.raises(BadRecipe, match=r"several tasks.*causal-language-modeling.*sft"):
        finetune.load(place)
    assert finetune.load(place, task="causal-language-modeling").plan.recipe.task == "causal-language-modeling"


@pytest.mark.parametrize(
    ("labels", "problem", "task"),
    [(3, "multi_label_classification", "multi-label-classification"), (1, None, "text-regression")],
)
def test_the_configuration_tells_tasks_of_one_class_apart(
    labels: int, problem: str | None, task: str, tmp_path: Path
) -> None:
    place = tiny_model("bert", tokenizer("bert"), tmp_path / "m", model_class="AutoModelForSequenceClassification",
                       num_labels=labels, problem_type=problem)  # fmt: skip
    assert finetune.load(place).plan.recipe.task == task


def test_an_id_of_the_hub_needs_its_task(classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "models--harbour--reviews" / "snapshots" / "abc"
    shutil.copytree(classifier, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadRecipe, match=r"there is no folder 'harbour/reviews'.*--task"):
        finetune.load("harbour/reviews")
    ours = finetune.load("harbour/reviews", task="text-classification").predict(TEXTS)
    assert ours == finetune.load(classifier).predict(TEXTS)
    with pytest.raises(BadRecipe, match="no model can be loaded from 'harbour/nothing'"):
        finetune.load("harbour/nothing", task="text-classification")


def test_it_has_no_data_of_its_own_and_a_run_has_its_own_task(classifier: Path) -> None:
    model = finetune.load(classifier)
    with pytest.raises(BadOptions, match="no data of its own"):
        model.evaluate()


def test_checkpoints_of_trainer_are_named(classifier: Path, tmp_path: Path) -> None:
    for step in (9, 10):
        shutil.copytree(classifier, tmp_path / f"checkpoint-{step}")
    with pytest.raises(BadRecipe, match=r"checkpoint-9, checkpoint-10\. Name one: .*checkpoint-10"):
        finetune.load(tmp_path)
    assert finetune.load(tmp_path / "checkpoint-9").predict("fog")["prediction"] in NAMES["id2label"].values()


def test_the_commands_take_it(classifier: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n" + "".join(f'"{text}",good\n' for text in TEXTS), encoding="utf-8")
    run = CliRunner()
    predicted = run.invoke(main, ["predict", str(classifier), str(file), 'preprocessor.labels=["x","good","z"]'])
    assert predicted.exit_code == 0, predicted.output
    lines = [json.loads(line) for line in predicted.stdout.splitlines()]
    assert [line["input"]["text"] for line in lines] == TEXTS
    assert {line["prediction"] for line in lines} <= {"x", "good", "z"}
    file.write_text(file.read_text().replace("text,label", "review,label"))
    scored = run.invoke(main, ["evaluate", str(classifier), "--data", str(file), "columns.review=text"])
    assert scored.exit_code == 0, scored.output
    assert "no run of finetune made this model" in scored.output
    wrong = run.invoke(main, ["predict", str(classifier), str(file), "preprocessor.max_lenth=3"])
    assert wrong.exit_code != 0
    assert "Did you mean 'max_length'?" in wrong.output
