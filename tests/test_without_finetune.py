"""The programs of the page "Use a model without finetune", run where finetune cannot be imported."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toy

import finetune
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_export.exporting import export

PAGE = Path(__file__).parents[1] / "docs/how-to/use-without-finetune.md"
PROGRAMS = dict(re.findall(r'```text title="(\w+\.py)"\n(.*?)```', PAGE.read_text(encoding="utf-8"), re.DOTALL))
TEXTS = ["the ship and the wave", "the field"]
WORDS = ["The", "Tern", "sails", "from", "Coal", "Quay"]
QUESTION = {"question": "When was the quay built?", "context": "The quay was built in 1702. It stands."}
CHATS = [
    {"messages": [{"role": "user", "content": "Name a ship."}, {"role": "assistant", "content": "The Tern."}]},
    {"messages": [{"role": "user", "content": "Name a quay."}, {"role": "assistant", "content": "Coal Quay."}]},
]
PAIRS = [
    {"document": f"the {each} sails past the quay in the fog", "summary": f"the {each}"} for each in ("ship", "boat")
]


def train(output: Path, **recipe: Any) -> finetune.api.FineTuned:
    training = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "save_strategy": "no"}
    finetune.train(output=output, training=training, score_base_model=False, general_text="none", **recipe)
    return finetune.load(output)


def notices(place: Path, strategy: Any) -> list[str]:
    rows = toy.rows(24)
    model = train(
        place,
        task="text-classification",
        model=toy.base(place.parent / "base"),
        dataset={"train": rows, "validation": rows[:8]},
        preprocessor={"max_length": 16},
        strategy=strategy,
    )
    return [f"{record['prediction']} {record['probability']:.4f}" for record in model.predict(TEXTS)]


def words(place: Path) -> list[str]:
    dataset = {"path": "sample:harbour-entities", "options": {"size": 16}}
    options = {"max_length": 64}
    model = train(
        place, task="token-classification", model=encoder(place), dataset=dataset, preprocessor=options, strategy="full"
    )
    tags = model.predict({"tokens": WORDS})["tags"]
    return [f"{word} {tag}" for word, tag in zip(WORDS, tags, strict=True)]


def questions(place: Path) -> list[str]:
    dataset = {"path": "sample:harbour-qa", "options": {"size": 16}}
    options = {"max_length": 64, "stride": 16}
    model = train(
        place, task="question-answering", model=encoder(place), dataset=dataset, preprocessor=options, strategy="full"
    )
    return [repr(model.predict(QUESTION)["prediction"])]


def summaries(place: Path) -> list[str]:
    texts = [text for row in PAIRS for text in row.values()]
    model = train(
        place,
        task="summarization",
        model=tiny_model(
            "bart", tokenizer("roberta", texts), place.parent / "base", model_class="AutoModelForSeq2SeqLM"
        ),
        dataset={"train": PAIRS * 4, "validation": PAIRS},
        preprocessor={"max_source_length": 64, "max_target_length": 16},
        generation={"max_new_tokens": 8},
        strategy="full",
    )
    return [model.predict({"document": PAIRS[0]["document"]})["prediction"].strip()]


def chats(place: Path) -> list[str]:
    texts = [message["content"] for row in CHATS for message in row["messages"]]
    model = train(
        place,
        task="sft",
        model=tiny_model("llama", tokenizer("llama", texts), place.parent / "base"),
        dataset={"train": CHATS * 4, "validation": CHATS},
        preprocessor={"chat_template": "chatml"},
        generation={"max_new_tokens": 8},
        strategy="full",
    )
    return [model.predict({"messages": CHATS[0]["messages"][:1]})["prediction"].strip()]


def encoder(place: Path) -> Path:
    return tiny_model("bert", tokenizer("bert"), place.parent / "base")


def labels_of(lines: list[str]) -> list[str]:
    return [line.split()[0] for line in lines]


def exported(place: Path) -> list[str]:
    predicted = labels_of(notices(place.parent / "run", "full"))
    export(place.parent / "run", place, format="onnx", data=toy.rows(8))
    return predicted


MADE: dict[str, Callable[[Path], list[str]]] = {
    "classify.py": lambda place: notices(place, "full"),
    "tag.py": words,
    "answer.py": questions,
    "summarise.py": summaries,
    "chat.py": chats,
    "onnx.py": exported,
    "adapter.py": lambda place: labels_of(notices(place, {"name": "lora", "r": 2})),
}


def test_every_program_of_the_page_is_run() -> None:
    assert PROGRAMS.keys() == MADE.keys()


@pytest.mark.parametrize("name", MADE)
def test_a_program_prints_what_finetune_predicts(name: str, tmp_path: Path) -> None:
    folder = re.search(r'folder = (?:Path\()?"(.*?)"', PROGRAMS[name])
    assert folder is not None
    wanted = MADE[name](tmp_path / folder[1])
    absent = ["finetune", "torch", "transformers"] if name == "onnx.py" else ["finetune"]
    blocked = f"import sys\nsys.modules.update(dict.fromkeys({absent}))\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", blocked + PROGRAMS[name]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == wanted
