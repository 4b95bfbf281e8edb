"""What the bases read: the world's plain text, and nothing of what a task's validation or test split says."""

from __future__ import annotations

from random import Random

from finetune_samples import dialogues, documents, translation
from finetune_samples.world import World

DOCUMENTS = 12000
"""Documents of `harbour-text`'s kind; its own train split and as many more as it takes."""
TOGETHER = 6
"""Sentences of one language that make up a text."""
ROLL_CALLS = 0.15
"""Roll calls for every other text: they keep alive what was rehearsed."""

JOINING = ("has", "is", "and", "for", "brought", "sold", "from", "in")


def rehearsals(seed: int, world: World, count: int) -> list[str]:
    """Return roll calls: names of any kinds read out twice or more in one order, or pairs of names in another order.

    All but the first reading follows from what stands before it, and from nothing else: so a small model learns to
    look back before it learns to guess.
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
    """Return texts in a fixed, mixed order: documents, dialogues without their summaries, and both languages, apart.

    Nothing here shows a task solved: no dialogue stands with its summary, no sentence with its translation, no
    question with its answer.
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
        # Each language in an order of its own, so that no place in the text joins a sentence to its translation.
        Random(f"harbour-corpus/{seed}/{language}").shuffle(said)
        texts += [" ".join(said[at : at + TOGETHER]) for at in range(0, len(said), TOGETHER)]
    texts += rehearsals(seed, world, round(ROLL_CALLS * len(texts)))
    Random(f"harbour-corpus/{seed}").shuffle(texts)
    return texts
