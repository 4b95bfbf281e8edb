"""What is trained of real questions and answers, counted a second time by the tokenizer alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune.testing.tokenizers import tokenizer
from finetune_trl.sft.preprocessor import SFTPreprocessor, trained_tokens

ROWS, MAX_LENGTH = 300, 256


@pytest.fixture(scope="module")
def medquad(shared_data: Path) -> list[dict[str, str]]:
    with (shared_data / "medquad" / "train.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for _, line in zip(range(ROWS), file, strict=False)]


def tokens_within(text: str, first_char: int, end_char: int, words: Any) -> list[bool]:
    """Return, for each token of a text, whether it has a character of a part; the tokenizer's own begin is none."""
    made = words(text, add_special_tokens=False, return_offsets_mapping=True)
    return [start < end and end > first_char and start < end_char for start, end in made["offset_mapping"]]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("chat", [False, True], ids=["completions", "chats"])
def test_the_trained_tokens_of_medquad_are_those_that_the_tokenizer_alone_counts(
    family: str, chat: bool, medquad: list[dict[str, str]]
) -> None:
    words = tokenizer(family, [row["answer"] for row in medquad[:100]], 1500)
    begin = words("a").input_ids[0] == words.bos_token_id
    rows: list[dict[str, Any]] = []
    wanted: list[tuple[int, int]] = []
    for row in medquad:
        question, answer, end = row["question"], row["answer"], words.eos_token
        if chat:
            rows.append({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})
            before, said, after = f"User: {question}\nAssistant:", f" {answer}{end}", "\n"
        else:
            rows.append({"prompt": question + "\n", "completion": answer})
            before, said, after = question + "\n", answer + end, ""
        trained = [False] * begin + tokens_within(before + said + after, len(before), len(before + said), words)
        wanted.append((sum(trained[:MAX_LENGTH]), max(len(trained) - MAX_LENGTH, 0)))
    sft = SFTPreprocessor(max_length=MAX_LENGTH, chat_template="plain").fit(rows)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    features: Any = sft.features(columns, words)
    found = [
        (trained_tokens(labels), lost) for labels, lost in zip(features["labels"], features["tokens_lost"], strict=True)
    ]
    assert found == wanted
    report = sft.counts(features)
    assert report["trained_tokens"] == sum(trained for trained, _ in wanted) > 10_000
    assert report["tokens_lost"] == sum(lost for _, lost in wanted) > 10_000
    assert report["truncated"] == sum(lost > 0 for _, lost in wanted) > 10
