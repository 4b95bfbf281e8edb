"""
# Reinforcement learning: a reward model, and how rewards are cheated

Train a reward model on comparisons, then let a model write, and reward it with
the reward model's scores. This is reinforcement learning from human feedback,
RLHF. Then reward something silly, and see that the model does it.

**You will learn** what a reward model is and how to find out whether you can
trust it; how a model learns from its own answers (RLOO); how to show with an
interval that it has become better; what *reward hacking* looks like.

**You need** the [tutorial on preferences](11_preferences.md), which explains
pairs and the KL divergence, and an installation with TRL and matplotlib:
`pip install -c constraints.txt ".[llm,report]"` in a clone of the repository.
The program downloads nothing. The first time, it also trains its small base
model on your machine, which takes some minutes, and keeps it.
"""

# %%
# ## The reward model
#
# The model is the assistant from the tutorial before: it answers questions at
# the harbour office of Skerrow, sometimes politely, sometimes not. The pairs
# are the same, too: a `prompt`, a `chosen` answer, a `rejected` one.
#
# In that tutorial the pairs trained the model directly. Here they train a
# **reward model**: a copy of the assistant whose last layer is replaced by one
# that gives a single number, a score for a whole answer. Its loss requires that
# the chosen answer of each pair gets the higher score[^1]. The height of the
# score is free.
#
# [^1]: Bradley and Terry 1952 have the formula, for ranking players by games.
#
# `finetune.train` does in one call what the earlier tutorials did by hand.

import finetune
from finetune_samples.bases import base
from finetune_samples.catalogue import load

assistant = str(base("assistant"))
pairs = load("harbour-preferences")
usual = {"per_device_train_batch_size": 8, "per_device_eval_batch_size": 100}

reward_model = finetune.train(
    task="reward",
    model=assistant,
    dataset={"train": pairs["train"][:480], "validation": pairs["validation"],
             "test": pairs["test"]},
    strategy="full",
    preprocessor={"conversational": True},
    training={**usual, "num_train_epochs": 1, "learning_rate": 3e-4},
    output="reward-model",
)

# %% varies
# Can you trust the reward model? Test it on the pairs of `test`, with
# combinations of ships and people that it has never seen. *Accuracy* is the
# share of pairs in which the chosen answer scores higher. Guessing gives one
# half.


def compare(result, name):
    before, after = result.base_model_scores["test"], result.scores["test"]
    change = result.differences["test"]["base_model"][name]
    interval = f"{change['low']:+.2f} to {change['high']:+.2f}"
    print(f"| base model | {before[name]:.2f} | | |")
    print(f"| fine-tuned | {after[name]:.2f} "
          f"| {change['value']:+.2f} | {interval} |")


print("| | accuracy | difference | 95 % interval |\n|---|---:|---:|---:|")
compare(reward_model, "accuracy")

# %% hide
assert reward_model.scores["test"]["accuracy"] > 0.9, reward_model.scores["test"]

# %%
# The last layer of the base model is newly initialized, so its score means
# nothing, and may be far from one half by accident. The fine-tuned model is
# almost always right. Here are its scores for good answers and bad ones.

import json
from pathlib import Path

import matplotlib.pyplot as plt


def predictions(folder):
    lines = Path(folder, "predictions.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if row["split"] == "test"]


scored = predictions("reward-model")
fig, ax = plt.subplots(figsize=(6.4, 2.8))
for name, color in (("chosen", "C0"), ("rejected", "C1")):
    ax.hist([row[f"{name}_reward"] for row in scored], bins=40, range=(-8, 5),
            alpha=0.7, label=name, color=color)
ax.set(xlabel="score of an answer", ylabel="answers of test",
       title="The reward model separates them")
ax.legend()
plt.show()

# %% varies
# ## Learning from four answers
#
# Now the assistant *writes*. It samples several answers to one question, and
# each gets its score. What is a good score? One that is better than the others.
# **RLOO**, *REINFORCE, leave one out*[^2], compares each answer with the mean
# of the others. The difference is the **advantage** of the answer.
#
# [^2]: Ahmadian et al. 2024, *Back to Basics: Revisiting REINFORCE Style
#     Optimization for Learning from Human Feedback in LLMs*.

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def answers(folder, prompts, **sampling):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    batch = tokenizer.apply_chat_template(
        [[{"role": "user", "content": prompt}] for prompt in prompts],
        add_generation_prompt=True, padding=True,
        return_tensors="pt", return_dict=True,
    )
    with torch.inference_mode():
        out = model.generate(**batch, max_new_tokens=48, **sampling)
    new = out[:, batch["input_ids"].shape[1]:]
    return [t.strip() for t in tokenizer.batch_decode(new, skip_special_tokens=True)]


prompts = {name: [{"prompt": row["prompt"]} for row in rows]
           for name, rows in pairs.items()}
question = prompts["test"][7]["prompt"]
torch.manual_seed(4)
four = answers(assistant, [question] * 4, do_sample=True)
asked = [{"prompt": question, "completion": answer} for answer in four]
scores = [r["prediction"] for r in finetune.load("reward-model").predict(asked)]

print(question + "\n\n| answer | score | advantage |\n|---|---:|---:|")
for answer, score in zip(four, scores):
    others = (sum(scores) - score) / (len(scores) - 1)
    print(f"| {answer} | {score:.2f} | {score - others:+.2f} |")

# %%
# Training then makes answers with a positive advantage more likely, and those
# with a negative one less likely, in proportion to the advantage. If all four
# scores are equal, there is nothing to learn. So the model must already do well
# sometimes: *reinforcement increases what is there*. What the model never
# writes is never rewarded.
#
# There is also a limit. For each token that the model finds more likely than
# the base model does, β times that difference is subtracted from the reward:
# this is the KL divergence of the last tutorial, as a price.
#
# ## Reinforcement
#
# One step: 8 questions, 4 answers to each, their scores, one small update. We
# do 25 steps. `reward` names the reward model's folder; this is the only
# connection between the two recipes.

import warnings

warnings.filterwarnings("ignore", message="step .* all answers")


def reinforce(reward, output):
    return finetune.train(
        task="rloo",
        model=assistant,
        dataset={**prompts, "validation": prompts["validation"][:50]},
        strategy="full",
        preprocessor={"conversational": True, "reward": reward},
        training={**usual, "per_device_train_batch_size": 32,
                  "num_generations": 4, "max_completion_length": 48,
                  "max_steps": 25, "learning_rate": 3e-4, "beta": 0.05,
                  "logging_steps": 1},
        output=output,
    )


polite = reinforce("reward-model", "polite")

# %% varies
# The answers to the questions of `test`, before and after, scored by the reward
# model. The interval is that of the difference: other questions of the same
# kind would give a difference within it, 19 times out of 20.

print("| | mean reward | difference | 95 % interval |\n|---|---:|---:|---:|")
compare(polite, "reward")

# %% hide
change = polite.differences["test"]["base_model"]["reward"]
assert change["low"] > 1, change

# %%
# The interval of the difference is far above zero, so this is not chance. The
# curve is noisier than any loss so far, because each step sees 32 sampled
# answers:

steps = [entry for entry in polite.log if "reward" in entry]
fig, ax = plt.subplots(figsize=(6.4, 2.8))
ax.plot([e["step"] for e in steps], [e["reward"] for e in steps], color="C0")
ax.set(xlabel="step", ylabel="mean score of 32 sampled answers",
       title="The reward model gives higher and higher scores")
plt.show()

# %%
# ## Measure with something else
#
# The reward model gives high scores, but the assistant was trained to get them.
# So never rely on a reward alone. Measure what you *wanted* with something that
# was not used in training. Two things can be counted here: whether an answer
# starts and ends politely, and whether it contains the true detail.

from finetune_samples.rewards import courtesy

truth = [row["chosen"].partition(": ")[2].partition(". ")[0]
         for row in pairs["test"]]


def measured(written):
    true = [detail.lower() in text.lower() for detail, text in zip(truth, written)]
    return {
        "courtesy": sum(courtesy(written)) / len(written),
        "true": sum(true) / len(written),
        "words": sum(len(text.split()) for text in written) / len(written),
    }


asked = [row["prompt"] for row in prompts["test"]]
written = {
    "base model": answers(assistant, asked, do_sample=False),
    "trained by the reward model": [row["prediction"] for row in predictions("polite")],
}
print("| | courtesy | true | words |\n|---|---:|---:|---:|")
for name, texts in written.items():
    m = measured(texts)
    print(f"| {name} | {m['courtesy']:.2f} | {m['true']:.2f} | {m['words']:.0f} |")

# %% hide
was, became = (measured(texts) for texts in written.values())
assert became["courtesy"] > 0.98 > was["courtesy"] + 0.05, (was, became)
assert 0.75 < became["true"] < was["true"] + 0.01, (was, became)

# %%
# The style is perfect now. But look at the next column: the truth has not
# improved; it has become slightly worse. Only one in ten of the reward model's
# pairs had an untrue answer, so the reward model knows much more about style
# than about truth. The assistant learned what the reward model knows. The
# scores of the reward model alone could not show this.
#
# ## Reward hacking
#
# That was a small effect. Here is a large one. Suppose that there was no time
# to collect pairs, and someone says: "Good answers are thorough. Let us reward
# length." A reward may be any Python function of the answers, and this one is
# quickly written. (It is realistic: reward models that were trained on people's
# comparisons have been found to reward little else[^3].)
#
# [^3]: Singhal et al. 2023, *A Long Way to Go: Investigating Length
#     Correlations in RLHF*.


def thorough(completions, **_):
    """Reward words: 0 for none, 1 for forty or more."""
    return [min(len(answer[0]["content"].split()) / 40, 1.0)
            for answer in completions]


wordy = reinforce("__main__:thorough", "wordy")
written["rewarded for length"] = [r["prediction"] for r in predictions("wordy")]

print("| | mean reward | difference | 95 % interval |\n|---|---:|---:|---:|")
compare(wordy, "reward")

# %%
# This table alone looks like a success: the reward has risen far beyond chance.
# Now the other measurement.

print("| | courtesy | true | words |\n|---|---:|---:|---:|")
for name, texts in written.items():
    m = measured(texts)
    print(f"| {name} | {m['courtesy']:.2f} | {m['true']:.2f} | {m['words']:.0f} |")

# %% varies
from textwrap import fill

for n in range(2):
    print(fill(asked[n], 76))
    for name, texts in written.items():
        print(fill(f"{name}: {texts[n]}", 74, initial_indent="  ",
                   subsequent_indent="    "))
    print()

# %% hide
cheat = measured(written["rewarded for length"])
assert wordy.differences["test"]["base_model"]["reward"]["low"] > 0.1
assert cheat["words"] > 1.5 * was["words"], cheat
assert cheat["courtesy"] < was["courtesy"] - 0.2, cheat

# %%
# The model did exactly what it was rewarded for, and nothing of what was meant.
# This is **reward hacking**. It needs no bad intention and no large model: 25
# steps of a model with a million parameters are enough. Three habits help:
#
# * *Read answers*, at every stage. No number would have shown you this text.
# * *Measure with something else* that was not used in training.
# * *Keep the model close to its start*: a larger β, fewer steps. The further a
#   model has moved, the more likely it writes texts of a kind that the reward
#   model never saw in training.
#
# ## Next steps
#
# * [Train on preferences and rewards](../how-to/preferences-and-rewards.md) has
#   the two recipes as files.
# * Reward both: `reward: [reward-model, "my_rewards:brevity"]` adds them up,
#   weighted by `training: {reward_weights: [1.0, 0.5]}`.
# * `task="grpo"` instead of `rloo` divides advantages by their standard
#   deviation. The rest is the same.
# * What a run records about itself: [the life of a
#   run](../explanation/life-of-a-run.md).
