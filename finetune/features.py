"""Examples → features, with an account of what was lost on the way."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from numpy.random import default_rng

from finetune import checks
from finetune.data.bars import without_bars
from finetune.interfaces import Preprocessor, Task
from finetune.progress import Reporter

BATCH = 1000
EXAMPLE = "example"
"""Feature column: index of the example that a feature was made from."""
OVERFLOW = "overflow_to_sample_mapping"


@dataclass(frozen=True, kw_only=True)
class Features:
    """The features of one split, and what was counted while they were made."""

    examples: Dataset
    features: Dataset
    ledger: Mapping[str, int]
    longest: int
    """Tokens of the longest feature."""

    def sample(self, size: int, *, seed: int) -> Features:
        """Return a random part of the examples, with their features."""
        if size >= len(self.examples):
            return self
        chosen = sorted(default_rng(seed).choice(len(self.examples), size=size, replace=False).tolist())
        place = {example: position for position, example in enumerate(chosen)}
        owners = self.features[EXAMPLE]
        rows = [row for row, owner in enumerate(owners) if owner in place]
        features = self.features.select(rows)
        moved = [place[owner] for owner in features[EXAMPLE]]
        with without_bars():
            features = features.remove_columns(EXAMPLE).add_column(EXAMPLE, moved)
        return Features(
            examples=self.examples.select(chosen), features=features, ledger=self.ledger, longest=self.longest
        )


def make(
    examples: Dataset,
    *,
    preprocessor: Preprocessor,
    tokenizer: Any,
    task: Task,
    split: str,
    answers: bool = True,
    reporter: Reporter | None = None,
) -> Features:
    """Make the features of one split.

    Args:
        examples: Good rows.
        preprocessor: Fitted.
        tokenizer: The model's.
        task: What the features are for.
        split: Its name, for messages.
        answers: Whether the examples have answers, and the features therefore labels.
        reporter: Told how far it is.

    Raises:
        BadOptions: They are not what the task needs.
    """
    reporter = reporter or Reporter()

    def batch(columns: Mapping[str, Sequence[Any]], indices: Sequence[int]) -> dict[str, Any]:
        made = dict(preprocessor.features(columns, tokenizer))
        owners = made.pop(OVERFLOW, range(len(indices)))
        reporter.step(indices[-1] + 1, len(examples))
        return {**made, EXAMPLE: [indices[owner] for owner in owners]}

    with without_bars():
        features = examples.map(
            batch,
            batched=True,
            batch_size=BATCH,
            with_indices=True,
            remove_columns=examples.column_names,
            load_from_cache_file=False,
            new_fingerprint=uuid.uuid4().hex,  # else datasets hashes the tokenizer, for a cache we do not use
        )
    checks.features_fit_task(features, task, preprocessor, split=split, answers=answers)
    ledger: Counter[str] = Counter(features=len(features), tokens=0)
    longest = 0
    for part in features.iter(BATCH):
        lengths = preprocessor.lengths(part)
        ledger["tokens"] += sum(lengths)
        longest = max(longest, *lengths)
        ledger.update(preprocessor.ledger(part))
    if answers:
        preprocessor.accept(ledger, split=split)
    return Features(examples=examples, features=features, ledger=dict(ledger), longest=longest)
