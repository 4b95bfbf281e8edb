"""
# Preferences: teach a style by comparing answers

Often it is hard to write the perfect answer, but easy to say which of two
answers is better. Direct preference optimization (DPO) turns such comparisons
into a loss of five lines, and changes how a model writes.

**You will learn** what a preference pair is; the loss of DPO, written by hand
and compared with the library's; what beta does; how to read rewards and
margins; how far a model has moved from its start, and what that cost.

**You need** the [tutorial on instruction tuning](10_instruction_tuning.md),
which explains roles, templates and masks, and an installation with TRL and
matplotlib: `pip install -c constraints.txt ".[llm,report]"` in a clone of the
repository. The program downloads nothing. The first time, it also trains its
small base model on your machine, which takes some minutes, and keeps it.
"""

# %%
# ## An assistant with two styles
#
# The assistant works in the harbour office of Skerrow. It learned to answer
# from old conversations (its base and its training are those of the tutorial
# before). The clerks in them were of two kinds: some polite, others rude,
# long-winded or wrong. It learned from all of them.

import torch
from finetune_samples.bases import base
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = base("assistant")
tokenizer = AutoTokenizer.from_pretrained(folder)


def new_model():
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def answers(model, prompts, **sampling):
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    batch = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, padding=True,
        return_tensors="pt", return_dict=True,
    )
    with torch.inference_mode():
        out = model.generate(**batch, max_new_tokens=56, **sampling)
    new = out[:, batch["input_ids"].shape[1]:]
    return [t.strip() for t in tokenizer.batch_decode(new, skip_special_tokens=True)]


# %% varies
# An answer is *sampled*: each next token is drawn by its probability, so the
# same question gets different answers.

from textwrap import fill

reference = new_model()  # this one stays as it is
question = "The Grey Heron lies at Salt Quay. Oda Rook asks where the Grey Heron lies."
torch.manual_seed(0)
print(fill(question, 76), end="\n\n")
for answer in answers(reference, [question] * 6, do_sample=True):
    print(fill(answer, 76, initial_indent="* ", subsequent_indent="  "))

# %%
# ## Pairs
#
# The harbourmaster does not write rules. He reads two answers to the same
# question and chooses the better one. A row has the `prompt`, the **chosen**
# answer and the **rejected** one.

from finetune_samples.catalogue import load

data = load("harbour-preferences")
train, test = data["train"][:480], data["test"]
print(f"{len(train)} pairs for training, {len(test)} for testing\n")
for row in train[:3]:
    for name in ("prompt", "chosen", "rejected"):
        print(fill(f"{name}: {row[name]}", 76, subsequent_indent="  "))
    print()

# %%
# We can see what he likes: the answer starts politely, names the person who
# asks, tells the truth, and ends with a good wish. Length does not matter: the
# rejected answer is longer about as often as it is shorter. In one pair of ten
# it is polite too, and untrue.
#
# The preprocessor turns prompt and answers into ids. `conversational` turns
# them into chat messages, because our model was trained on chats.

from finetune_trl.preference.dpo import DPOPreprocessor

preprocessor = DPOPreprocessor(conversational=True, max_length=160).fit(train)


def features_of(rows):
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    made = preprocessor.features(columns, tokenizer)
    return [dict(zip(made, row)) for row in zip(*made.values())]


features, held_out = features_of(train), features_of(test)
print(fill(preprocessor.show(features[0], tokenizer), 76))

# %% varies
# ## How likely is an answer?
#
# The probability of an answer is the product of the probabilities of its
# tokens, so its logarithm is a sum. A batch from the preprocessor's collator
# has all chosen answers first and all rejected ones below them.
# `completion_mask` is 1 on the tokens of the answers.

collate = preprocessor.collator(tokenizer)


def log_probs(model, batch):
    """Return the log-probability of every answer in a batch."""
    ids = batch["input_ids"]
    logits = model(ids, attention_mask=batch["attention_mask"]).logits
    log_p = logits[:, :-1].log_softmax(-1)  # of the next token
    each = log_p.gather(-1, ids[:, 1:, None]).squeeze(-1)
    return (each * batch["completion_mask"][:, 1:]).sum(-1)


with torch.inference_mode():
    chosen, rejected = log_probs(reference, collate(features[:1]))
print(f"log-probability: chosen {chosen:.1f}, rejected {rejected:.1f}")

# %%
# ## The loss
#
# The chosen answer should become more likely and the rejected one less likely,
# *compared with the model that we started from*. That model is called the
# **reference**, and it does not change. The logarithm of the ratio of the two,
# times a number β, is the **implicit reward** of an answer:
#
# > reward = β · (log p(answer, model) − log p(answer, reference))
#
# The chosen answer should have the higher reward. The difference of the two
# rewards is the **margin**, and the loss is −log σ of it: large if the margin
# is negative, almost zero if it is large.

from torch.nn.functional import logsigmoid


def dpo_loss(model_log_probs, reference_log_probs, beta):
    rewards = beta * (model_log_probs - reference_log_probs)
    chosen, rejected = rewards.chunk(2)
    margin = chosen - rejected
    return -logsigmoid(margin).mean()


# %%
# That is all of direct preference optimization[^1]. There is no separate reward
# model, and nothing is generated in training.
#
# [^1]: Rafailov et al. 2023, *Direct Preference Optimization: Your Language
#     Model is Secretly a Reward Model*, equation 7.
#
# The reference never changes, so we compute its values once for each pair. Then
# comes the usual loop.

from collections import defaultdict


def asked_once(rows):
    with torch.inference_mode():
        parts = [log_probs(reference, collate(rows[at : at + 60]))
                 for at in range(0, len(rows), 60)]
    return torch.cat([part.view(2, -1) for part in parts], dim=1)  # (2, N)


known = asked_once(features)
BATCH, LEARNING_RATE, BETA = 8, 2e-4, 0.1


def train_dpo(beta):
    model = new_model()
    steps = len(features) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 6, 1 - step / steps)
    )
    drawn = torch.Generator().manual_seed(0)
    order = torch.randperm(len(features), generator=drawn)
    log = defaultdict(list)
    for numbers in order.split(BATCH):
        batch = collate([features[i] for i in numbers])
        ours, theirs = log_probs(model, batch), known[:, numbers].flatten()
        loss = dpo_loss(ours, theirs, beta)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        chosen, rejected = (beta * (ours - theirs)).detach().chunk(2)
        log["loss"].append(loss.item())
        log["chosen"].append(chosen.mean().item())
        log["rejected"].append(rejected.mean().item())
    return model, log


model, log = train_dpo(BETA)
print(f"{len(log['loss'])} steps; loss {log['loss'][0]:.3f} at the first")

# %%
# At the first step, model and reference are the same, each reward is 0, and the
# loss is −log ½ = 0.693, for any data. If you ever see another number there,
# the reference is not the model that you started from.

import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(6.4, 3))
ax.axhline(0, linestyle=":", color="gray")
ax.plot(log["chosen"], label="chosen", color="C0")
ax.plot(log["rejected"], label="rejected", color="C1")
ax.set(xlabel="step", ylabel="implicit reward, mean of a batch",
       title="Most of the margin comes from below")
ax.legend()
plt.show()

# %%
# Look at both lines, not only at their difference. A margin also grows if
# rejected answers become less likely and chosen ones do not become more likely.
# Both may fall together. This is not an error in the code. But other answers
# then become more likely, and these may be bad ones.
#
# ## The same with TRL
#
# Was our loss right? The task `dpo` trains with TRL's trainer. We give it our
# trained model and a batch that neither has seen.

from pathlib import Path

from finetune.interfaces import Job
from finetune_freeze.full import FullStrategy
from finetune_trl import tasks
from finetune_trl.preference.evaluator import PreferenceEvaluator
from finetune_trl.preference.dpo_trainer import trainer

evaluator = PreferenceEvaluator()
job = Job(
    task=tasks()["dpo"], model=model, tokenizer=tokenizer,
    preprocessor=preprocessor, strategy=FullStrategy(), evaluator=evaluator,
    train=None, validation=None, validation_examples=None, base=new_model,
    output=Path("unused"), seed=42,
    arguments={"beta": BETA, "bf16": False,
               "activation_checkpointing": False, "max_length": None,
               "use_cpu": True, "report_to": "none"},
)
batch = collate(held_out[:8])
with torch.inference_mode():
    ours = dpo_loss(log_probs(model, batch), log_probs(reference, batch), BETA)
    theirs = trainer(job).compute_loss(model, batch)
print(f"ours {ours:.6f}, TRL's {theirs:.6f}")

# %% hide
assert abs(ours - theirs) < 1e-5, (ours, theirs)
assert abs(log["loss"][0] - 0.6931) < 1e-3, log["loss"][0]

# %%
# ## Accuracy
#
# The *accuracy* of a preference model is the share of pairs whose chosen answer
# has the higher reward. Before training, all rewards are 0. These are ties, and
# a tie counts half. The pairs of `test` are about ships, people and loads in
# combinations that no pair of `train` has.

from finetune.interfaces import Predictions
from finetune.kit import intervals

once = asked_once(held_out)


def records_of(model, beta):
    with torch.inference_mode():
        parts = [log_probs(model, collate(held_out[at : at + 60]))
                 for at in range(0, len(held_out), 60)]
    both = torch.stack([torch.cat([p.view(2, -1) for p in parts], 1), once])
    outputs = both.permute(2, 0, 1)  # (pairs, model and reference, two answers)
    rewards = beta * (outputs[:, 0] - outputs[:, 1])
    return evaluator.records(Predictions(
        examples=test, features=held_out, tokenizer=tokenizer,
        outputs=(outputs.numpy(), rewards.numpy()), preprocessor=preprocessor,
    ))


records = {"before": records_of(reference, BETA), "after": records_of(model, BETA)}
scores = {name: evaluator.scores(rows) for name, rows in records.items()}
print("| | accuracy | 95 % interval | margin |\n|---|---:|---:|---:|")
for name, s in scores.items():
    bounds = intervals(evaluator.tallies(records[name]))["accuracy"]
    print(f"| {name} | {s['accuracy']:.2f} "
          f"| {bounds.low:.2f} to {bounds.high:.2f} | {s['margin']:.2f} |")

# %% hide
assert scores["before"]["accuracy"] == 0.5
assert scores["after"]["accuracy"] > 0.9, scores["after"]
assert scores["after"]["rejected_reward"] < 0 < scores["after"]["margin"]

# %%
# Which pairs does it still get wrong?

# %% varies
missed = [row for row, record in zip(test, records_of(model, BETA))
          if record["prediction"] != "chosen"]
print(f"{len(missed)} of {len(test)}:")
for row in missed[:3]:
    for name in ("chosen", "rejected"):
        print(fill(f"{name}: {row[name]}", 76, subsequent_indent="  "))
    print()

# %% varies
# In these pairs, both answers are polite and one is untrue. The style can be
# seen from the words alone. To find out what is true, the model must read the
# question, and only one pair in ten taught it that.
#
# ## How the style changes
#
# Accuracy says how the model *compares* answers. What counts is how it
# *writes*. We can count three things in an answer: whether it starts and ends
# politely (from 0 to 1), whether it contains the true detail, and how long it
# is.

from finetune_samples.rewards import courtesy

prompts = [row["prompt"] for row in test]
truth = [row["chosen"].partition(": ")[2].partition(". ")[0] for row in test]


def drawn(model):
    torch.manual_seed(0)
    return answers(model, prompts, do_sample=True)


def style(written):
    true = [detail.lower() in text.lower() for detail, text in zip(truth, written)]
    return {
        "courtesy": sum(courtesy(written)) / len(written),
        "true": sum(true) / len(written),
        "words": sum(len(text.split()) for text in written) / len(written),
    }


texts = {"before": drawn(reference), "after": drawn(model)}
print("| | courtesy | true | words |\n|---|---:|---:|---:|")
for name, written in texts.items():
    s = style(written)
    print(f"| {name} | {s['courtesy']:.2f} | {s['true']:.2f} | {s['words']:.0f} |")

# %%
# And some of its answers to the same questions, sampled:

# %% varies
for n in range(4):
    print(fill(prompts[n], 76))
    for name, written in texts.items():
        print(fill(f"{name}: {written[n]}", 74, initial_indent="  ",
                   subsequent_indent="    "))
    print()

# %% hide
changed = {name: style(written) for name, written in texts.items()}
assert changed["after"]["courtesy"] > changed["before"]["courtesy"] + 0.2, changed
assert changed["after"]["true"] >= changed["before"]["true"] - 0.02, changed

# %% varies
# ## What beta does
#
# How far should the model go for a better margin? The distance from the
# reference is called the **Kullback-Leibler divergence**, KL. Let the *model*
# write. KL is how much more likely it finds its own text than the reference
# does, on average. It is 0 for the reference itself, and never negative.
#
# A small β makes rewards cheap in distance: for the same margin, the ratios
# must be larger. So a small β lets the model go far, and a large one keeps it
# close.


def kl(model, written):
    rows = [{"prompt": p, "chosen": w, "rejected": w}
            for p, w in zip(prompts, written) if w]
    total, tokens = 0.0, 0
    made = features_of(rows)
    with torch.inference_mode():
        for at in range(0, len(made), 60):
            batch = collate(made[at : at + 60])
            half = {k: v[: len(v) // 2] for k, v in batch.items()}
            ratio = log_probs(model, half) - log_probs(reference, half)
            total += ratio.sum().item()
            tokens += half["completion_mask"].sum().item()
    return total / tokens


table = {}
for beta in (0.02, BETA, 1.0):
    other = model if beta == BETA else train_dpo(beta)[0]
    said = texts["after"] if beta == BETA else drawn(other)
    accuracy = evaluator.scores(records_of(other, beta))["accuracy"]
    table[beta] = {"accuracy": accuracy, "KL": kl(other, said), **style(said)}
print("| β | accuracy | KL, nats a token | courtesy | true |")
print("|---:|---:|---:|---:|---:|")
for beta, s in table.items():
    print(f"| {beta} | {s['accuracy']:.2f} | {s['KL']:.2f} "
          f"| {s['courtesy']:.2f} | {s['true']:.2f} |")

# %% hide
distances = [s["KL"] for s in table.values()]
assert 0 < distances[-1] < 0.5 * min(distances[:-1]), table
assert min(table, key=lambda beta: table[beta]["courtesy"]) == 1.0, table

# %%
# All three have about the same accuracy. They differ in how far they moved, and
# in how they write: with β = 1 the model stayed near its reference, and its
# style improved least. The two smaller values are too close to compare: each
# model was trained once, and the KL comes from one sample of answers. So choose
# β by what the model writes, not by the accuracy. TRL's default, 0.1, is a good
# start.
#
# ## Next steps
#
# * `finetune init dpo` prints a recipe for a model from the Hub. [Train on
#   preferences and rewards](../how-to/preferences-and-rewards.md) has one for
#   `sample:assistant`, the model of this page. Its scores have `accuracy`,
#   `margin`, both rewards and a `kl`.
# * `kto` learns from single answers with a label "good" or "bad", without
#   comparisons: try it on `sample:harbour-thumbs`.
# * Set the learning rate ten times as high, and compare the loss and the
#   answers that the model writes.
