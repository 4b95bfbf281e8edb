"""Folders as Trainer, Seq2SeqTrainer, PEFT and TRL leave them, adopted, scored, used and compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import trl
from click.testing import CliRunner
from datasets import Dataset
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
)

import finetune
from finetune.cli import main
from finetune.errors import BadOptions, Incompatible
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_peft.strategy import suppress_warnings

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # TRL sets options that transformers renames
CHATS = [
    {"messages": [{"role": "user", "content": "Name a ship."}, {"role": "assistant", "content": "The Tern."}]},
    {"messages": [{"role": "user", "content": "Name a quay."}, {"role": "assistant", "content": "Coal Quay."}]},
] * 4
PAIRS = [
    {
        "prompt": [{"role": "user", "content": "Name a ship."}],
        "chosen": [{"role": "assistant", "content": "The Tern."}],
        "rejected": [{"role": "assistant", "content": "Coal Quay."}],
    }
] * 8
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TAGS = ["O", "B-PER", "I-PER"]
QUESTION = {"question": "Who sails?", "context": "Anna sails to Coal Quay."}


def arguments(place: Path) -> dict[str, Any]:
    return {
        "output_dir": str(place / "output"), "max_steps": 2, "per_device_train_batch_size": 4, "logging_steps": 1,
        "save_strategy": "steps", "save_steps": 2, "report_to": "none", "disable_tqdm": True,
        "dataloader_pin_memory": False, "learning_rate": 1e-2, "use_cpu": True,
    }  # fmt: skip


def finish(trainer: Any) -> Path:
    with suppress_warnings():
        trainer.train()
        trainer.save_model()
    return Path(trainer.args.output_dir)


def questions(place: Path) -> Path:
    base = tiny_model("bert", tokenizer("bert"), place / "base", model_class="AutoModelForQuestionAnswering")
    words = AutoTokenizer.from_pretrained(base)
    row = {**words(QUESTION["question"], QUESTION["context"]), "start_positions": 5, "end_positions": 6}
    model = AutoModelForQuestionAnswering.from_pretrained(base)
    return finish(
        Trainer(model, TrainingArguments(**arguments(place)), train_dataset=[row] * 8, processing_class=words)
    )


def summaries(place: Path) -> Path:
    base = tiny_model("bart", tokenizer("roberta"), place / "base", model_class="AutoModelForSeq2SeqLM")
    words, model = AutoTokenizer.from_pretrained(base), AutoModelForSeq2SeqLM.from_pretrained(base)
    row = {**words("the ship sails past the quay"), "labels": words("the ship")["input_ids"]}
    return finish(
        Seq2SeqTrainer(
            model,
            Seq2SeqTrainingArguments(**arguments(place)),
            train_dataset=[row] * 8,
            processing_class=words,
            data_collator=DataCollatorForSeq2Seq(words, model),
        )
    )


def tagger(place: Path) -> Path:
    names = {"id2label": dict(enumerate(TAGS)), "label2id": {tag: number for number, tag in enumerate(TAGS)}}
    base = tiny_model("bert", tokenizer("bert"), place / "base", model_class="AutoModelForTokenClassification", **names)
    words = AutoTokenizer.from_pretrained(base)
    encoded = words(["Anna", "sails"], is_split_into_words=True)
    row = {**encoded, "labels": [1] * len(encoded["input_ids"])}
    settings = peft.LoraConfig(task_type="TOKEN_CLS", r=2, target_modules=["query", "value"])
    model = peft.get_peft_model(AutoModelForTokenClassification.from_pretrained(base), settings)
    return finish(
        Trainer(
            model,
            TrainingArguments(**arguments(place)),
            train_dataset=[row] * 8,
            processing_class=words,
            data_collator=DataCollatorForTokenClassification(words),
        )
    )


def chat_base(place: Path) -> tuple[Path, Any]:
    texts = [message["content"] for row in CHATS for message in row["messages"]]
    base = tiny_model("llama", tokenizer("llama", texts), place / "base", model_class="AutoModelForCausalLM")
    words = AutoTokenizer.from_pretrained(base)
    words.chat_template = TEMPLATE
    words.save_pretrained(base)
    return base, words


def chats(place: Path) -> Path:
    base, words = chat_base(place)
    return finish(
        trl.SFTTrainer(
            str(base),
            trl.SFTConfig(**arguments(place)),
            train_dataset=Dataset.from_list(CHATS),
            processing_class=words,
            peft_config=peft.LoraConfig(r=2),
        )
    )


def preferences(place: Path) -> Path:
    base, words = chat_base(place)
    settings = trl.DPOConfig(**arguments(place))
    return finish(
        trl.DPOTrainer(str(base), args=settings, train_dataset=Dataset.from_list(PAIRS), processing_class=words)
    )


def rewards(place: Path) -> Path:
    base, words = chat_base(place)
    settings = trl.RewardConfig(**arguments(place))
    return finish(
        trl.RewardTrainer(str(base), args=settings, train_dataset=Dataset.from_list(PAIRS), processing_class=words)
    )


Maker = Callable[[Path], Path]
FOLDERS: dict[str, tuple[Maker, str | None, list[Any], Any]] = {
    "questions": (
        questions, None, [{**QUESTION, "answers": {"text": ["Anna"], "answer_start": [0]}}] * 4, QUESTION,
    ),
    "summaries": (
        summaries, "summarization", [{"document": "the ship sails", "summary": "the ship"}] * 4,
        {"document": "the ship sails"},
    ),
    "tagger": (
        tagger, None, [{"tokens": ["Anna", "sails"], "ner_tags": ["B-PER", "O"]}] * 4, {"tokens": ["Anna", "sails"]},
    ),
    "chats": (chats, "sft", CHATS, {"messages": CHATS[0]["messages"][:1]}),
    "rewards": (rewards, "reward", PAIRS, PAIRS[0]),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_another_program_is_adopted_scored_used_and_compared(name: str, tmp_path: Path) -> None:
    make, task, rows, row = FOLDERS[name]
    folder = make(tmp_path)
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    direct = finetune.load(folder, task=task)
    assert direct.predict(row)["prediction"] is not None
    result = finetune.adopt(folder, tmp_path / "run", file, task=task)
    assert result.steps == 2 and result.scores["test"][result.primary] == result.scores["test"][result.primary]
    assert result.primary in result.intervals["test"]
    assert finetune.evaluate(tmp_path / "run") == result.scores["test"] == direct.evaluate(file)
    assert finetune.load(tmp_path / "run").predict(row) == direct.predict(row)
    compared = CliRunner().invoke(main, ["compare", str(tmp_path / "run"), str(tmp_path / "run")])
    assert compared.exit_code == 0, compared.output


def test_a_model_that_is_compared_with_its_base_needs_it(tmp_path: Path) -> None:
    folder = preferences(tmp_path)
    with pytest.raises(Incompatible, match="Name its folder or id with --base"):
        finetune.load(folder, task="dpo").evaluate(PAIRS)
    against_base = finetune.load(folder, task="dpo", base=tmp_path / "base").evaluate(PAIRS)
    assert against_base["margin"] > 0  # against itself it would be 0
    finetune.adopt(folder, tmp_path / "run", PAIRS, task="dpo", base=str(tmp_path / "base"))
    with pytest.raises(Incompatible, match="--base"):
        finetune.load(tmp_path / "run").evaluate(PAIRS)
    assert finetune.load(tmp_path / "run", base=tmp_path / "base").evaluate(PAIRS) == against_base
    with pytest.raises(BadOptions, match="Leave it out"):
        finetune.load(folder, task="sft", base=tmp_path / "base")
