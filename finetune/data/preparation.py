"""From `Plan` to `Prepared`: read and check the data and make features, everything that needs no weights."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune import data, limits, models
from finetune.data import Examples, features, lengths, unknown
from finetune.data.feature_cache import FeatureCache
from finetune.data.features import Features
from finetune.data.findings import UNREAD, Report
from finetune.errors import BadOptions, listed
from finetune.interfaces import Predictions
from finetune.plan import Plan
from finetune.progress import Reporter

MOST_NAMED = 12
"""Most columns that the warning about unread columns names."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Checked data and its features: everything that needs no weights."""

    plan: Plan
    """With the fitted preprocessor."""
    examples: Examples
    """The kept rows of each split, and the findings."""
    leakage: Mapping[str, Mapping[str, Any]]
    """Split → how many of its rows are also in train; see `finetune.data.leaks`."""
    tokenizer: Any
    """The tokenizer of the model."""
    features: Mapping[str, Features]
    """Split → its features."""
    limits: Mapping[str, Sequence[Mapping[str, Any]]]
    """Split → for each option that limits how long an answer can be, how many answers are too long; see
    `finetune.limits.count`."""

    @property
    def data_report(self) -> dict[str, dict[str, int]]:
        """Split → counts of its rows, features and tokens, and of the answers that are too long."""
        report = {}
        for split, rows in self.examples.data_report.items():
            part = self.features[split]
            size = len(part.examples)
            sampled = {"sampled": size} if size < rows["kept"] and self.examples.stream is not None else {}
            cached = {"features_from_cache": part.counts["features"]} if part.from_cache else {}
            report[split] = {**rows, **sampled, **part.counts, **cached, **limits.counts(self.limits[split])}
        return report


def prepare(
    plan: Plan,
    *,
    rows: Mapping[str, Any] | None = None,
    reporter: Reporter | None = None,
    cache: Path | None = None,
) -> Prepared:
    """Read, check and split the data, and make features.

    Args:
        plan: Names the data and the preprocessor.
        rows: Split → examples, instead of the recipe's data set.
        reporter: Shows the progress.
        cache: Folder that keeps the features for later runs; None for none.

    Raises:
        BadData: A finding stops the run. The error holds all findings with their places.
        BadOptions: A column of `slices` does not exist, or the cache is not a folder.
    """
    reporter = reporter or Reporter()
    kept = None if cache is None else FeatureCache(cache, plugins=plan.plugins, note=reporter.note)
    source, seed = plan.recipe.dataset, plan.recipe.data_seed
    load_tokenizer = functools.cache(lambda: models.tokenizer(plan.model))
    with reporter.phase("read and check the data"):
        if rows is None:
            examples = data.load(source, plan.preprocessor, plugins=plan.plugins, seed=seed, tokenizer=load_tokenizer)
        else:
            examples = data.from_rows(
                rows,
                plan.preprocessor,
                seed=seed,
                source=source,
                tokenizer=load_tokenizer,
            )
    _require_slices(examples, plan.recipe.slices)
    examples = _with_unread_columns(examples, plan.recipe.slices)
    plan = replace(plan, preprocessor=examples.preprocessor)
    with reporter.phase("search the other splits for rows of train"):
        leaked = examples.leakage
        if leaked is None:
            leaked = data.leakage(examples.splits, plan.preprocessor)
    with reporter.phase("make features"):
        tokenizer = load_tokenizer()
        made = {
            split: features.make(
                part,
                preprocessor=plan.preprocessor,
                tokenizer=tokenizer,
                task=plan.task,
                split=split,
                reporter=reporter,
                cache=kept,
                fingerprint=examples.fingerprints[split],
            )
            for split, part in examples.splits.items()
        }
    read = [split for split, part in made.items() if part.from_cache]
    if kept is not None and read:
        reporter.note(f"the features of {' and '.join(read)} come from the cache {str(kept.folder)!r}")
    limited = {split: _limits(part, plan, tokenizer) for split, part in made.items()}
    examples = _with_token_findings(examples, made, limited, plan, tokenizer)
    return Prepared(
        plan=plan, examples=examples, leakage=leaked, tokenizer=tokenizer, features=made, limits=limited
    )  # fmt: skip


def _limits(part: Features, plan: Plan, tokenizer: Any) -> list[dict[str, Any]]:
    """Return, for each limit of the evaluator, how many answers of a split are too long."""
    given = Predictions(
        examples=part.examples,
        features=part.features,
        outputs=None,
        tokenizer=tokenizer,
        preprocessor=plan.preprocessor,
    )
    return [limits.count(limit) for limit in plan.evaluator.limits(given, generation=plan.recipe.generation)]


def _with_token_findings(
    examples: Examples,
    made: Mapping[str, Features],
    limited: Mapping[str, Sequence[Mapping[str, Any]]],
    plan: Plan,
    tokenizer: Any,
) -> Examples:
    """Return the examples with the findings that need a tokenizer: unknown text, long texts, and answers that
    are too long.

    Raises:
        BadData: Half of the tokens of a column are unknown.
        BadRecipe: The model has no configuration.
    """
    report = Report()
    try:
        config = models.config_of(plan.model)
    except (OSError, ValueError) as error:
        raise models.cannot_load(plan.model.path, error) from error
    for split, part in made.items():
        for finding in unknown.check(
            part.examples, part.counts, preprocessor=plan.preprocessor, tokenizer=tokenizer, split=split
        ):
            report.add(finding)
        for finding in lengths.check(part, config=config, preprocessor=plan.preprocessor, split=split):
            report.add(finding)
    for finding in limits.check(limited):
        report.add(finding)
    report.stop()
    return replace(
        examples,
        findings=(*examples.findings, *report.findings),
        counts={**examples.counts, **report.counts},
    )


def _with_unread_columns(examples: Examples, slices: Sequence[str]) -> Examples:
    """Return the examples with one warning that names the columns which neither the task nor `slices` read.

    A column about which the preprocessor has a warning of this kind is not named again.
    """
    known = {finding.column for finding in examples.findings if finding.code == UNREAD}
    unread = {found.column: found for found in examples.unread if found.column not in {*known, *slices}}
    if not unread:
        return examples
    names = [repr(name) for name in unread]
    (first, *others) = unread.values()
    if others:
        shown = ", ".join(names[:MOST_NAMED]) + (" …" if len(names) > MOST_NAMED else "")
        first = replace(first, message=f"the task does not read {len(names)} columns: {shown}.", column=None)
    hints = [found.fix for found in unread.values() if found.fix]
    first = replace(first, fix=" ".join(hints[:1]))
    counts = Counter(examples.counts) + Counter({UNREAD: 1})
    return replace(examples, findings=(*examples.findings, first), counts=dict(counts))


def _require_slices(examples: Examples, names: Sequence[str]) -> None:
    """Check before training that every held-out split has the columns of the recipe's `slices`."""
    for split, rows in examples.splits.items():
        for name in names:
            if split != "train" and name not in rows.column_names:
                raise BadOptions(f"slices: {split} has no column {name!r}. It has: {listed(rows.column_names)}.")
