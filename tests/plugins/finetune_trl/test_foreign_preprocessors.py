"""What trainers and evaluators read of a preprocessor, any preprocessor can give: no class of this plugin is needed."""

from __future__ import annotations

import importlib
import multiprocessing
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import finetune
from finetune.errors import BadOptions
from finetune.interfaces import Batch, Columns, Predictions, Preprocessor, Row
from finetune.testing.tokenizers import tokenizer
from finetune_trl.generation import prepare_generation
from finetune_trl.preference.collate import PadKTO, PadPairs, PadWhole
from finetune_trl.refused_options import required_option
from finetune_trl.reinforcement.rewards import brevity, load_reward
from finetune_trl.sft.collate import PadLabelled
from finetune_trl.sft.evaluator import SFTEvaluator


@dataclass(frozen=True, kw_only=True)
class RiddlePreprocessor(Preprocessor):
    """Another plugin's preprocessor for `sft`: rows of a riddle and its solution."""

    def needs(self) -> Columns:
        """Return the columns."""
        return Columns(required=("riddle",), answers=("solution",))

    def features(self, examples: Batch, tokenizer: Any) -> Batch:
        """Return ids, labels and prompts."""
        prompts = [tokenizer(riddle)["input_ids"] for riddle in examples["riddle"]]
        if "solution" not in examples:
            return {"input_ids": prompts}
        ids, labels = [], []
        for prompt, solution in zip(prompts, examples["solution"], strict=True):
            answer = [*tokenizer(solution)["input_ids"], tokenizer.eos_token_id]
            ids.append([*prompt, *answer])
            labels.append([-100] * len(prompt) + answer)
        return {"input_ids": ids, "labels": labels, "prompt_ids": prompts}

    def collator(self, tokenizer: Any, model: Any) -> PadLabelled:
        """Return this plugin's collator."""
        return PadLabelled(pad_token_id=tokenizer.pad_token_id)

    def canonical(self, example: Row) -> Row:
        """Return what `SFTEvaluator` reads."""
        return {"prompt": example["riddle"], "completion": example.get("solution")}


@dataclass(frozen=True, kw_only=True)
class SilentPreprocessor(RiddlePreprocessor):
    """The same, without `canonical`."""

    canonical = Preprocessor.canonical


def predictions(preprocessor: Preprocessor) -> Predictions:
    words = tokenizer("gpt2")
    return Predictions(
        examples=[{"riddle": "Who?", "solution": " Fog."}],
        features=[{"labels": [-100, 5, 7]}],
        outputs=(np.array([words(" Fog.").input_ids]), np.array([[1.0, 2, 1, 1]])),
        tokenizer=words,
        preprocessor=preprocessor,
    )


def test_the_sft_evaluator_scores_another_plugins_rows() -> None:
    records = SFTEvaluator().records(predictions(RiddlePreprocessor()))
    assert records[0]["prediction"] == records[0]["reference"].strip() == "Fog."
    given = predictions(RiddlePreprocessor())
    assert list(SFTEvaluator().baselines(given, train=given)) == ["most frequent"]


def test_a_preprocessor_without_the_keys_of_the_sft_evaluator_is_named_with_what_to_do() -> None:
    with pytest.raises(BadOptions, match=r"SilentPreprocessor.canonical\(\) gives no 'prompt', .* Return \{'prompt'"):
        SFTEvaluator().records(predictions(SilentPreprocessor()))


def test_a_run_of_sft_takes_another_plugins_preprocessor(
    llama_base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    rows = [{"riddle": f"What is {n}?", "solution": " Fog."} for n in range(6)]
    result = finetune.train(
        task="sft", model=str(llama_base("gpt2")), dataset={"train": rows, "test": rows[:2]}, strategy="full",
        preprocessor={"name": "test_foreign_preprocessors:RiddlePreprocessor"}, output=str(tmp_path / "run"),
        score_base_model=False,
        training={"max_steps": 1, "per_device_train_batch_size": 2, "save_strategy": "no"},
        generation={"max_new_tokens": 2},
    )  # fmt: skip
    assert {"perplexity", "exact_match"} <= result.scores["test"].keys()


def test_a_missing_trainer_option_is_named_with_what_to_return() -> None:
    with pytest.raises(
        BadOptions, match=r"RiddlePreprocessor.trainer_options\(\) gives no 'rewards'.*Return \{'rewards'"
    ):
        required_option(RiddlePreprocessor(), "rewards", example=("my_rewards:brevity",))


def test_the_end_of_a_turn_ends_an_answer_if_the_preprocessor_says_that_prompts_are_chats(llama_base: Any) -> None:
    from transformers import AutoModelForCausalLM

    words = tokenizer("gpt2")
    words.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    words.chat_template = "{% for m in messages %}{{ m['content'] + '<|im_end|>' }}{% endfor %}"
    turn_end = words.convert_tokens_to_ids("<|im_end|>")
    for conversational in (True, False):
        model = AutoModelForCausalLM.from_pretrained(llama_base("gpt2"))
        options: Mapping[str, Any] = {"conversational": conversational} if conversational else {}
        preprocessor = SimpleNamespace(trainer_options=lambda options=options: options)
        job: Any = SimpleNamespace(model=model, tokenizer=words, preprocessor=preprocessor, generation={})
        ends = prepare_generation(job)["eos_token_id"]
        assert (turn_end in ends) == conversational and words.eos_token_id in ends
        assert model.generation_config.eos_token_id == ends


def test_the_starters_reward_is_of_this_plugin_and_counts_words_of_text_and_of_messages() -> None:
    from finetune_trl import tasks

    name = tasks()["rloo"].starter["preprocessor"]["reward"]
    assert load_reward(name).function is brevity  # type: ignore[attr-defined]
    messages = [[{"role": "assistant", "content": text}] for text in ("Aye.", "", "a " * 40)]
    assert brevity(messages) == brevity(["Aye.", "", "a " * 40]) == [1.0, 0.0, 0.0]


def test_brevity_falls_with_every_word_up_to_its_limit() -> None:
    values = brevity(["word " * count for count in range(40)])
    assert values[0] == 0.0 and values[1] == 1.0
    assert all(first > second for first, second in pairwise(values[1:31]))
    assert values[31:] == [0.0] * 9


@dataclass(frozen=True, kw_only=True)
class QuizPreprocessor(Preprocessor):
    """Another plugin's preprocessor for `rloo`: its questions are prompts, and it names the reward."""

    def needs(self) -> Columns:
        """Return the columns."""
        return Columns(required=("question",))

    def features(self, examples: Batch, tokenizer: Any) -> Batch:
        """Return prompts and their ids."""
        prompts = list(examples["question"])
        return {"prompt": prompts, "input_ids": [tokenizer(prompt)["input_ids"] for prompt in prompts]}

    def trainer_options(self) -> Mapping[str, Any]:
        """Return what the trainer of `rloo` reads."""
        return {"rewards": ("finetune_trl.reinforcement.rewards:brevity",), "allow_constant": True}


def test_a_run_of_rloo_takes_another_plugins_preprocessor(
    llama_base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    rows = [{"question": f"Who keeps pier {n}?"} for n in range(8)]
    result = finetune.train(
        task="rloo", model=str(llama_base("gpt2")), dataset={"train": rows, "test": rows[:2]}, strategy="full",
        preprocessor={"name": "test_foreign_preprocessors:QuizPreprocessor"}, output=str(tmp_path / "run"),
        score_base_model=False,
        training={"max_steps": 1, "per_device_train_batch_size": 4, "save_strategy": "no", "max_completion_length": 4},
    )  # fmt: skip
    assert 0 <= result.scores["test"]["reward"] <= 1


class LengthModel(torch.nn.Module):
    """A model whose one number is how many tokens it reads."""

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.config, self.device = SimpleNamespace(num_labels=num_labels), torch.device("cpu")

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        """Return a logit for each row."""
        return SimpleNamespace(logits=attention_mask.sum(1, keepdim=True).float())


class AnswerPreprocessor(RiddlePreprocessor):
    """Another plugin's preprocessor of a reward model."""

    def needs(self) -> Columns:
        """Return the columns."""
        return Columns(required=("prompt", "completion"))

    def features(self, examples: Batch, tokenizer: Any) -> Batch:
        """Return the ids of prompts with their completions."""
        texts = [prompt + answer for prompt, answer in zip(examples["prompt"], examples["completion"], strict=True)]
        return {"input_ids": [tokenizer(text)["input_ids"] for text in texts]}


@pytest.mark.parametrize(
    ("preprocessor", "num_labels", "works"),
    [(AnswerPreprocessor(), 1, True), (AnswerPreprocessor(), 2, False), (RiddlePreprocessor(), 1, False)],
)
def test_a_reward_model_is_known_by_what_it_reads_and_gives(
    preprocessor: Any, num_labels: int, works: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = tokenizer("gpt2")
    plan = SimpleNamespace(preprocessor=preprocessor, recipe=SimpleNamespace(task="judge"))
    run = SimpleNamespace(plan=plan, tokenizer=words, model=LengthModel(num_labels))
    monkeypatch.setattr(finetune, "load", lambda folder: run)
    if not works:
        with pytest.raises(
            BadOptions, match="holds a run of the task 'judge', and a run of the task 'reward' is needed"
        ):
            load_reward(str(tmp_path))
        return
    rewards = load_reward(str(tmp_path))(prompts=["Who?", "Who?"], completions=[" Fog.", " Fog and fog."])
    assert rewards == [len(words(text).input_ids) for text in ("Who? Fog.", "Who? Fog and fog.")]


# --- collators survive the workers of a data loader ------------------------------------------------------------------

PAIR = {"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5]}
COLLATORS: list[tuple[Any, list[dict[str, Any]]]] = [
    (PadLabelled(pad_token_id=0), [{"input_ids": [1, 2], "labels": [-100, 2], "prompt_ids": [1]},
                                   {"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "prompt_ids": [1]}]),
    (PadPairs(pad_token_id=0), [PAIR, {**PAIR, "chosen_ids": [3, 3, 3]}]),
    (PadWhole(pad_token_id=0), [PAIR, {**PAIR, "chosen_ids": [3, 3, 3]}]),
    (PadKTO(pad_token_id=0, max_length=9, spare=(7, 8)), [{"prompt_ids": [1, 2], "completion_ids": [3], "label": True},
                                                          {"prompt_ids": [1], "completion_ids": [4], "label": False}]),
]  # fmt: skip


@pytest.mark.parametrize(("collator", "rows"), COLLATORS, ids=lambda value: type(value).__name__)
def test_a_collator_can_be_pickled_and_is_equal_after_it(collator: Any, rows: Sequence[Any]) -> None:
    again = pickle.loads(pickle.dumps(collator))
    assert again == collator
    same_batch(again(rows), collator(rows))


def test_every_collator_works_in_a_worker_that_is_spawned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))  # the worker gets this path, and imports the class by name
    collate = importlib.import_module("test_foreign_preprocessors").CollateAll([collator for collator, _ in COLLATORS])
    features = [[rows[number] for _, rows in COLLATORS] for number in range(2)]
    loader = DataLoader(
        cast(Any, features), batch_size=2, num_workers=1, collate_fn=collate,
        multiprocessing_context=multiprocessing.get_context("spawn"),
    )  # fmt: skip
    (batches,) = loader
    for batch, (collator, rows) in zip(batches, COLLATORS, strict=True):
        same_batch(batch, collator(rows))


@dataclass(frozen=True)
class CollateAll:
    """Applies each collator to its own features, so that one worker tests all."""

    collators: list[Any]

    def __call__(self, examples: Sequence[Sequence[Any]]) -> list[Any]:
        """Return a batch for each collator."""
        return [collate(list(rows)) for collate, rows in zip(self.collators, zip(*examples, strict=True), strict=True)]


def same_batch(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(other[name])), name
