"""Make features from examples, and count what is lost."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from numpy.random import default_rng

from finetune.data import feature_table, unknown
from finetune.data.feature_cache import EXAMPLE, FeatureCache, Make
from finetune.errors import BadData, BadOptions
from finetune.interfaces import Preprocessor, Task
from finetune.progress import Reporter, suppress_progress_bars

BATCH = 1000
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
    from_cache: bool = False
    """Whether they were read from a cache."""

    def sample(self, size: int, *, seed: int) -> Features:
        """Return a random sample of the examples, with their features.

        Args:
            size: Number of examples; all of them if there are no more.
            seed: Seed of the sample.
        """
        if size >= len(self.examples):
            return self
        return self.select(sorted(default_rng(seed).choice(len(self.examples), size=size, replace=False).tolist()))

    def select(self, chosen: Sequence[int]) -> Features:
        """Return some of the examples with their features; the counts stay those of all.

        Args:
            chosen: Positions of the examples, in order.
        """
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
    cache: FeatureCache | None = None,
    fingerprint: str = "",
) -> Features:
    """Make the features of one split, or read them from a cache.

    Args:
        examples: Good rows.
        preprocessor: A fitted one.
        tokenizer: The tokenizer of the model.
        task: The task that the features are for.
        split: Name of the split, for messages.
        answers: Whether the examples have answers, so that the features have labels.
        reporter: Shows the progress.
        cache: Keeps the features; None for none.
        fingerprint: That of the examples, if there is a cache.

    Raises:
        BadData: There are no features, or `Preprocessor.validate_features` refuses them.
        BadOptions: The features lack a column that the task needs.
    """
    reporter = reporter or Reporter()

    def made_of(columns: Mapping[str, Sequence[Any]], indices: Sequence[int]) -> dict[str, Any]:
        made = dict(preprocessor.features(columns, tokenizer))
        _check_lengths(made, preprocessor)
        owners = made.pop(OVERFLOW, range(len(indices)))
        return {**made, EXAMPLE: [indices[owner] for owner in owners]}

    entry = None
    if cache is not None:
        entry = cache.entry(
            fingerprint, preprocessor=preprocessor, tokenizer=tokenizer, task=task, answers=answers, batch=BATCH
        )
    found = entry.load(examples, made_of) if entry is not None else None
    if found is not None:
        features, counts, longest = found
    else:
        features, counts, longest = _made(
            examples, made_of, preprocessor=preprocessor, task=task, split=split, answers=answers, reporter=reporter
        )
        counts.update(unknown.counts(features, tokenizer, task))
        if entry is not None:
            entry.save(features, counts, longest)
    if answers:
        preprocessor.validate_features(features, examples, tokenizer, counts=counts, split=split)
    return Features(examples=examples, features=features, counts=counts, longest=longest, from_cache=found is not None)


def _made(
    examples: Dataset,
    made_of: Make,
    *,
    preprocessor: Preprocessor,
    task: Task,
    split: str,
    answers: bool,
    reporter: Reporter,
) -> tuple[Dataset, dict[str, int], int]:
    """Return the features of one split, their counts and the length of the longest; see `make`."""
    counts: Counter[str] = Counter(features=0, tokens=0)
    longest = 0
    taken = set(examples.column_names)  # `datasets` keeps the type of a column that features replace

    def batch(columns: Mapping[str, Sequence[Any]], indices: Sequence[int]) -> Any:
        nonlocal longest
        made = made_of(columns, indices)
        reporter.step(indices[-1] + 1, len(examples))
        if not made[EXAMPLE]:
            return made
        require_columns(made, task, preprocessor, answers=answers)
        counts["features"] += len(made[EXAMPLE])
        counts["tokens"] += int(sum(preprocessor.lengths(made)))
        counts.update({name: int(count) for name, count in preprocessor.counts(made).items()})
        longest = max(longest, int(preprocessor.longest(made)))
        return made if taken & made.keys() else feature_table.table(made)

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
    if not counts["features"]:
        raise BadData(f"{type(preprocessor).__name__} made no features from {split!r}. Check its options and the data.")
    return features, dict(counts), longest


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


def require_columns(made: Mapping[str, Any], task: Task, preprocessor: Preprocessor, *, answers: bool) -> None:
    """Check that features have the columns that the task's model takes.

    Raises:
        BadOptions: They lack a column that the task needs.
    """
    needed = {*({"input_ids"} & task.features), *(task.labels if answers else ())}
    if needed - made.keys():
        raise BadOptions(
            f"preprocessor: the features of {type(preprocessor).__name__} lack the columns "
            f"{', '.join(sorted(needed - made.keys()))}, which the task needs. They have: {', '.join(sorted(made))}."
        )
