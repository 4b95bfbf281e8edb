"""Make features from examples, and count what is lost."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from numpy.random import default_rng

from finetune.data import unknown
from finetune.errors import BadData, BadOptions
from finetune.interfaces import Preprocessor, Task
from finetune.progress import Reporter, suppress_progress_bars

BATCH = 1000
EXAMPLE = "example"
"""Feature column: index of the example that a feature was made from."""
OVERFLOW = "overflow_to_sample_mapping"


@dataclass(frozen=True, kw_only=True)
class Features:
    """The features of one split, and their counts."""

    examples: Dataset
    """The examples, in order."""
    features: Dataset
    """Their features; the column `EXAMPLE` holds the position of the example that each was made
    from."""
    counts: Mapping[str, int]
    """``features``, ``tokens``, and what `Preprocessor.counts` counts."""
    longest: int
    """Tokens of the longest sequence."""

    def sample(self, size: int, *, seed: int) -> Features:
        """Return a random sample of the examples, with their features.

        Args:
            size: Number of examples; all of them if there are no more.
            seed: Seed of the sample.
        """
        if size >= len(self.examples):
            return self
        chosen = sorted(default_rng(seed).choice(len(self.examples), size=size, replace=False).tolist())
        place = {example: position for position, example in enumerate(chosen)}
        owners = self.features[EXAMPLE]
        features = self.features.select([row for row, owner in enumerate(owners) if owner in place])
        moved = [place[owner] for owner in features[EXAMPLE]]
        with suppress_progress_bars():
            features = features.remove_columns(EXAMPLE).add_column(EXAMPLE, moved)
        return Features(
            examples=self.examples.select(chosen), features=features, counts=self.counts, longest=self.longest
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
        preprocessor: A fitted one.
        tokenizer: The tokenizer of the model.
        task: The task that the features are for.
        split: Name of the split, for messages.
        answers: Whether the examples have answers, so that the features have labels.
        reporter: Shows the progress.

    Raises:
        BadData: There are no features, or `Preprocessor.validate_features` refuses them.
        BadOptions: The features lack a column that the task needs.
    """
    reporter = reporter or Reporter()

    def batch(columns: Mapping[str, Sequence[Any]], indices: Sequence[int]) -> dict[str, Any]:
        made = dict(preprocessor.features(columns, tokenizer))
        _check_lengths(made, preprocessor)
        owners = made.pop(OVERFLOW, range(len(indices)))
        reporter.step(indices[-1] + 1, len(examples))
        return {**made, EXAMPLE: [indices[owner] for owner in owners]}

    with suppress_progress_bars():
        features = examples.map(
            batch,
            batched=True,
            batch_size=BATCH,
            with_indices=True,
            remove_columns=examples.column_names,
            load_from_cache_file=False,
            new_fingerprint=uuid.uuid4().hex,  # otherwise datasets hashes the tokenizer for a cache that is not used
        )
    features_fit_task(features, task, preprocessor, split=split, answers=answers)
    counts: Counter[str] = Counter(features=len(features), tokens=0)
    longest = 0
    for part in features.iter(BATCH):
        counts["tokens"] += sum(preprocessor.lengths(part))
        longest = max(longest, preprocessor.longest(part))
        counts.update(preprocessor.counts(part))
    counts.update(unknown.counts(features, tokenizer, task))
    if answers:
        preprocessor.validate_features(features, examples, tokenizer, counts=counts, split=split)
    return Features(examples=examples, features=features, counts=dict(counts), longest=longest)


def _check_lengths(made: Mapping[str, Sequence[Any]], preprocessor: Preprocessor) -> None:
    """Check that the columns of a batch of features have one length.

    Raises:
        BadOptions: They have several; the message gives the length of each.
    """
    sizes = {name: len(values) for name, values in made.items()}
    if len(set(sizes.values())) > 1:
        raise BadOptions(
            f"preprocessor: {type(preprocessor).__name__}.features returned columns of different lengths: "
            f"{', '.join(f'{name} {size}' for name, size in sizes.items())}."
        )


def features_fit_task(
    features: Any, task: Task, preprocessor: Preprocessor, *, split: str, answers: bool = True
) -> None:
    """Check that a split has features, and the columns that the task's model takes.

    Raises:
        BadOptions: The features lack a column that the task needs.
        BadData: There are no features.
    """
    if len(features) == 0:
        raise BadData(f"{type(preprocessor).__name__} made no features from {split!r}. Check its options and the data.")
    made = set(features.column_names)
    needed = {*({"input_ids"} & task.features), *(task.labels if answers else ())}
    if needed - made:
        raise BadOptions(
            f"preprocessor: the features of {type(preprocessor).__name__} lack the columns "
            f"{', '.join(sorted(needed - made))}, which the task needs. They have: {', '.join(sorted(made))}."
        )
