"""What a search saves: `finetune tune` against a full sweep of the same trials, each trained to its end.

Both winners are trained with the same new seeds and compared on test. A call that was stopped is repeated.

    python tests/benchmarks/tune_cost.py recipe.yaml --trials 12 --seeds 3
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from finetune.evaluation.comparison import compare, listed
from finetune.evaluation.verdicts import signed
from finetune.kit import Plan, Reporter, discover, make_plan, read_recipe, run
from finetune_tune import conclusion
from finetune_tune.space import recipe_of_trial, space_of
from finetune_tune.study import Study, open_study
from finetune_tune.trial import Trial
from finetune_tune.tune import tune


def main() -> None:
    """Print the steps of both, and the difference of their winners on test."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    tuned = tune(given.recipe, trials=given.trials, seeds=given.seeds)
    plan = make_plan(read_recipe(given.recipe), discover())
    study = open_study(plan, space_of(plan), tuned.settings, storage=None)
    found = tuned.conclusion
    print(f"search: {found.steps:,} of {found.full_steps:,} steps ({found.steps / found.full_steps:.0%})")
    scores = {trial.number: score_at_end(study, plan, trial) for trial in tuned.trials}
    for number, score in sorted(scores.items(), key=lambda each: -tuned.settings.sign * each[1]):
        print(f"  trial {number}: {tuned.settings.primary} {score:.4f} on validation, {tuned.trials[number].state}")
    best = max(scores, key=lambda number: (tuned.settings.sign * scores[number], -number))
    if best == found.winner:
        print(f"the full sweep has the same winner, trial {best}")
        return
    name = f"full-sweep-{tuned.trials[best].name}"
    again, seeds = conclusion.folder_of(study, name), conclusion.seeds_at_end(tuned.settings)
    conclusion.train(study, conclusion.best_recipe(study, tuned.trials[best]), again, seeds)
    assert found.claim is not None, "the data have no test split"
    folders = [again, Path(found.claim.folders[0])]
    compared = compare(folders, split=conclusion.TEST)
    own = compared.runs[1]
    first = compared.runs[0]
    assert own.difference is not None
    low, high = signed(own.difference["low"]), signed(own.difference["high"])
    print(f"winner of the search − winner of the full sweep: {signed(own.difference['value'])} ({low} to {high}) on")
    print(f"{compared.size:,} rows of test, seeds {listed(own.seeds)}: {own.verdict}")
    print(f"{compared.primary} on test: {own.score:.4f}, and {first.score:.4f} of the full sweep")


def score_at_end(study: Study, plan: Plan, trial: Trial) -> float:
    """Return the best score on validation of a trial that makes all its steps."""
    if trial.state == "complete":
        return trial.rungs[-1].score
    output = study.output / "to-the-end" / trial.name
    recipe = recipe_of_trial(plan.recipe, study.space, trial.chosen, output=str(output))
    training = {**recipe.training, "save_strategy": "no", "load_best_model_at_end": False}
    result = run(make_plan(replace(recipe, training=training), plan.plugins), auto_resume=True, reporter=Reporter())
    name = f"eval_{study.settings.primary}"
    found = [float(each[name]) for each in result.log if name in each]
    return max(found, key=lambda score: study.settings.sign * score)


if __name__ == "__main__":
    main()
