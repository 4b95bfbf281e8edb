"""A source, or a mixture of several → examples."""

from __future__ import annotations

from finetune import recipe
from finetune.data import examples, mixture
from finetune.data.bars import without_bars
from finetune.data.examples import Examples
from finetune.interfaces import Preprocessor
from finetune.plugins import Plugins
from finetune.recipe import Source


def load(
    source: Source, preprocessor: Preprocessor, *, plugins: Plugins, seed: int, fit: bool = True, answers: bool = True
) -> Examples:
    """Return the examples of a source, read strictly and checked; see `finetune.data.examples.load`.

    Raises:
        BadData: Something stops the run; all that was found in all splits is told, with its place.
    """
    parts = recipe.parts(source)
    if not parts:
        return examples.load(source, preprocessor, plugins=plugins, seed=seed, fit=fit, answers=answers)
    gathered = {
        name: examples.gather(part, preprocessor, plugins=plugins, seed=seed, fit=fit, answers=answers)
        for name, (part, _) in parts.items()
    }
    loaded = examples.settle(gathered, preprocessor, fit=fit)
    weights = {name: weight for name, (_, weight) in parts.items()}
    with without_bars():
        return mixture.mixed(loaded, weights=weights, temperature=source.temperature, seed=seed)
