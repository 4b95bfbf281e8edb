"""The data sets by name: ``sample:harbour-qa`` in a recipe, `load` in Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from finetune.errors import BadOptions, UnknownName, did_you_mean
from finetune_samples import (
    choices,
    decisions,
    dialogues,
    documents,
    entities,
    instructions,
    notices,
    pairs,
    preferences,
    qa,
    reviews,
    translation,
)
from finetune_samples.voice import Rows, Sizes
from finetune_samples.world import SEED, World, world


class Maker(Protocol):
    """Makes one data set, ``{split: rows}``, as a pure function of its arguments."""

    def __call__(self, sizes: Sizes, *, seed: int, world: World) -> Rows: ...


@dataclass(frozen=True)
class Sample:
    """One data set of the small world."""

    make: Maker
    sizes: Sizes
    """Split → default number of rows."""
    summary: str


SAMPLES: dict[str, Sample] = {
    "harbour-notices": Sample(notices.notices, notices.SIZES, "Notices under one of five headings"),
    "harbour-topics": Sample(notices.topics, notices.SIZES, "Notices and all they touch on, none to three of five"),
    "harbour-pairs": Sample(pairs.pairs, pairs.SIZES, "Two sentences: entails, contradicts or unrelated"),
    "harbour-ratings": Sample(reviews.ratings, reviews.SIZES, "Reviews of inns and ferries, rated from 1.0 to 5.0"),
    "harbour-reviews": Sample(reviews.reviews, reviews.SIZES, "Letters for or against an inn or a ferry"),
    "harbour-qa": Sample(
        qa.rows, qa.SIZES, "Passages with questions in the columns of SQuAD 2.0, a fifth without answer"
    ),
    "harbour-choices": Sample(
        choices.choices, choices.SIZES, "Passages with questions and four answers each, of which one is right"
    ),
    "harbour-decisions": Sample(
        decisions.decisions, decisions.SIZES, "Letters with a choice, a yes/no question and a score for each"
    ),
    "harbour-entities": Sample(
        entities.entities, entities.SIZES, "Words with BIO tags of people, ships, places, trades and dates"
    ),
    "harbour-text": Sample(documents.documents, documents.SIZES, "Plain documents: passages, notices, letters"),
    "harbour-dialogues": Sample(dialogues.dialogues, dialogues.SIZES, "Bargains with a summary of what was settled"),
    "harbour-translation": Sample(
        translation.translations, translation.SIZES, "Sentences in English and in Harbourish, the town's language"
    ),
    "harbour-instructions": Sample(
        instructions.instructions, instructions.SIZES, "Instructions with their one right answer, as a chat"
    ),
    "harbour-questions": Sample(
        instructions.questions, instructions.SIZES, "The same instructions as prompt and completion"
    ),
    "harbour-preferences": Sample(
        preferences.preferences, preferences.SIZES, "Prompts with a courteous reply and one that is not"
    ),
    "harbour-thumbs": Sample(preferences.thumbs, preferences.SIZES, "Prompts with one reply and whether it pleased"),
    "harbour-replies": Sample(
        preferences.replies, preferences.SIZES, "Prompts with one reply of either kind, as a chat"
    ),
    "harbour-prompts": Sample(preferences.prompts, preferences.SIZES, "Prompts alone, for replies that earn a reward"),
}


def names() -> dict[str, str]:
    """Return what each data set is."""
    return {name: sample.summary for name, sample in SAMPLES.items()}


def load(name: str, *, size: int | None = None, seed: int = SEED) -> dict[str, list[dict[str, Any]]]:
    """Return a data set of the small world: split → rows, the same on every machine.

    >>> load("harbour-notices", size=1)["train"]
    [{'text': 'From Sunday Inês Pellam will trade at Customs Quay with coal from Cape Dorrit.', 'label': 'market'}]

    Args:
        name: One of `SAMPLES`.
        size: Rows of train; the other splits are scaled by the same factor.
        seed: Another seed gives another town.

    Raises:
        UnknownName: There is no such data set; the message names the nearest.
        BadOptions: The size is not at least 1.
    """
    if name not in SAMPLES:
        raise UnknownName(f"there is no sample {name!r}.{did_you_mean(name, SAMPLES)} There are: {', '.join(SAMPLES)}.")
    if size is not None and (not isinstance(size, int) or size < 1):
        raise BadOptions(f"sample:{name}: size must be a whole number of at least 1, not {size!r}.")
    sample = SAMPLES[name]
    return sample.make(_scaled(sample.sizes, size), seed=seed, world=world(seed))


def _scaled(sizes: Sizes, size: int | None) -> Sizes:
    if size is None:
        return sizes
    return {split: max(1, round(count * size / sizes["train"])) for split, count in sizes.items()}
