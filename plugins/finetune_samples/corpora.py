"""The corpus of the base models: plain text of the town, without any row of a task's validation or test split."""

from __future__ import annotations

from random import Random

from finetune_samples import dialogues, documents, translation
from finetune_samples.world import World

DOCUMENTS = 12000
"""Number of documents like those of `harbour-text`; its train split is among them."""
TOGETHER = 6
"""Sentences of one language in a text."""
ROLL_CALLS = 0.15
"""Roll calls for each other text; without them the model would forget the rehearsal."""

JOINING = ("has", "is", "and", "for", "brought", "sold", "from", "in")


def rehearsals(seed: int, world: World, count: int) -> list[str]:
    """Return roll calls: names repeated two or three times in the same order, or pairs of names in changing order.

    Each repetition follows from the text before it and from nothing else. A small model thus learns to copy from its
    context before it learns to guess.
    """
    rng = Random(f"harbour-rehearsals/{seed}")
    kinds = tuple(world.names)

    def names(most: int) -> list[str]:
        return [rng.choice(world.names[rng.choice(kinds)]) for _ in range(rng.randint(3, most))]

    def in_order() -> str:
        return " ".join(names(14) * rng.choice((2, 3)))

    def in_pairs() -> str:
        word = rng.choice(JOINING)
        pairs = [f"{first} {word} {second}" for first, second in zip(names(6), names(6), strict=False)]
        return ", ".join(pair for _ in range(3) for pair in rng.sample(pairs, len(pairs)))

    return [rng.choice((in_order, in_pairs))() for _ in range(count)]


def corpus(seed: int, world: World) -> list[str]:
    """Return texts in a fixed, mixed order: documents, dialogues without summaries, and both languages separately.

    No text shows the solution of a task: no dialogue has its summary, no sentence its translation, no question its
    answer.
    """
    shown = documents.documents(documents.SIZES, seed=seed, world=world)
    held = {row["text"] for split in ("validation", "test") for row in shown[split]}
    read = documents.documents({"train": DOCUMENTS}, seed=seed, world=world)["train"]
    texts = [row["text"] for row in read if row["text"] not in held]
    texts += [row["dialogue"] for row in dialogues.dialogues(dialogues.SIZES, seed=seed, world=world)["train"]]
    spoken = translation.translations(translation.SIZES, seed=seed, world=world)["train"]
    pairs = [row["translation"] for row in spoken]
    for language in ("en", "hb"):
        said = [pair[language] for pair in pairs]
        # a separate order for each language, so that no position links a sentence to its translation
        Random(f"harbour-corpus/{seed}/{language}").shuffle(said)
        texts += [" ".join(said[at : at + TOGETHER]) for at in range(0, len(said), TOGETHER)]
    texts += rehearsals(seed, world, round(ROLL_CALLS * len(texts)))
    Random(f"harbour-corpus/{seed}").shuffle(texts)
    return texts
