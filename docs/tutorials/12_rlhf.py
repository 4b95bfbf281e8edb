"""
# Reinforcement: a judge, a pupil, and how pupils cheat

Learn a judge from comparisons, then let a model write, and reward it by what
the judge says. That is reinforcement learning from human feedback, RLHF. Then
reward something silly, and see that the model obliges.

**You will learn** what a reward model is and how to tell whether it can be
trusted; how a model learns from its own answers (RLOO); how to say with an
interval that it has become better; what *reward hacking* looks like.

**You need** the [tutorial on preferences](11_preferences.md), or to know what
it teaches, and an installation with matplotlib: `pip install ".[docs]"` in a
clone of the repository. Nothing is downloaded. The assistant that is taught
here is made on your machine the first time it is wanted, which takes some
minutes, and kept.
"""

# %%
# ## The judge
#
# The pupil is the assistant of the tutorial before: it answers at the harbour
# office of Skerrow, sometimes courteously, sometimes not. The pairs are the
# same, too: a `prompt`, a `chosen` answer, a `rejected` one.
#
# In that tutorial the pairs taught the model directly. Here they teach a
# **reward model**: a copy of the assistant whose last layer is replaced by one
# that gives a single number, a score for a whole answer. Its loss asks that of
# each pair the chosen answer get the greater score[^1]; nobody says how great.
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

judge = finetune.train(
    task="reward",
    model=assistant,
    dataset={"train": pairs["train"][:480], "validation": pairs["validation"],
             "test": pairs["test"]},
    strategy="full",
    preprocessor={"conversational": True},
    training={**usual, "num_train_epochs": 1, "learning_rate": 3e-4},
    output="judge",
)

# %% varies
# Can the judge be trusted? Ask it about the pairs of `test`, whose ships and
# people stand in combinations that it has never seen. *Accuracy* is the share
# of pairs in which the chosen answer scores higher; guessing gives one half.


def shown(scores, name):
    low, high = scores[f"{name}_low"], scores[f"{name}_high"]
    return f"{scores[name]:.2f} | {low:.2f} to {high:.2f}"


print("| | accuracy | 95 % interval |\n|---|---:|---:|")
print(f"| untouched | {shown(judge.base_model_scores['test'], 'accuracy')} |")
print(f"| trained | {shown(judge.scores['test'], 'accuracy')} |")

# %% hide
assert judge.scores["test"]["accuracy"] > 0.9, judge.scores["test"]

# %%
# The untouched one has a fresh last layer, newly initialized, so its figure means
# nothing, and may be far from one half by accident. The trained one is right
# almost always. Let us see its scores, of good answers and bad.

import json
from pathlib import Path

import matplotlib.pyplot as plt


def predictions(folder):
    lines = Path(folder, "predictions.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if row["split"] == "test"]


judged = predictions("judge")
fig, ax = plt.subplots(figsize=(6.4, 2.8))
for name, color in (("chosen", "C0"), ("rejected", "C1")):
    ax.hist([row[f"{name}_reward"] for row in judged], bins=40, range=(-8, 5),
            alpha=0.7, label=name, color=color)
ax.set(xlabel="score of an answer", ylabel="answers of test",
       title="The judge tells them apart")
ax.legend()
plt.show()

# %% varies
# ## A lesson of four answers
#
# Now the pupil *writes*. It draws several answers to one question, and each
# gets its score. What is a good score? One that is better than the others.
# **RLOO**, *REINFORCE, leave one out*[^2], compares each answer with the mean of
# the others; the difference is the **advantage** of the answer.
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
scores = [r["prediction"] for r in finetune.load("judge").predict(asked)]

print(question + "\n\n| answer | score | advantage |\n|---|---:|---:|")
for answer, score in zip(four, scores):
    others = (sum(scores) - score) / (len(scores) - 1)
    print(f"| {answer} | {score:.2f} | {score - others:+.2f} |")

# %%
# Then the loop does the obvious thing: make answers with a positive advantage
# likelier, and those with a negative one less likely, each by as much as its
# advantage says. Where all four scores are the same, there is nothing to
# learn. That is why the pupil must already know, now and then, how to do well:
# *reinforcement makes more of what is there*. What the model never writes, it
# is never rewarded for.
#
# And there is a leash. For every token that the pupil finds likelier than the
# untouched assistant does, β times that surprise is taken off the reward: it
# is the KL divergence of the last tutorial, as a price.
#
# ## Reinforcement
#
# A step: 8 questions, 4 answers to each, their scores, one small change. We do
# 25 steps. `reward` names the judge's folder; that is the whole connection
# between the two recipes.

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


polite = reinforce("judge", "polite")

# %% varies
# The answers to `test`'s questions, before and after, scored by the judge. The
# interval is one of the mean: if another three hundred questions had been
# asked, it would lie about there.

print("| | mean reward | 95 % interval |\n|---|---:|---:|")
print(f"| untouched | {shown(polite.base_model_scores['test'], 'reward')} |")
print(f"| reinforced | {shown(polite.scores['test'], 'reward')} |")

# %% hide
before, after = polite.base_model_scores["test"], polite.scores["test"]
assert after["reward_low"] > before["reward_high"], (before, after)

# %%
# The intervals are far apart, so this is no luck. The course of it is noisier
# than that of any loss so far, because each step sees 32 answers, drawn by
# chance:

steps = [entry for entry in polite.log if "reward" in entry]
fig, ax = plt.subplots(figsize=(6.4, 2.8))
ax.plot([e["step"] for e in steps], [e["reward"] for e in steps], color="C0")
ax.set(xlabel="step", ylabel="mean score of 32 drawn answers",
       title="The judge is more and more content")
plt.show()

# %%
# ## Measure with another ruler
#
# The judge is content, but the judge is a model, and the pupil was trained to
# please it. So never believe a reward alone: measure what you *wanted* by
# something that was not trained on. We want two things that can be counted:
# that an answer opens and closes with courtesy, and that it holds the true
# detail.

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
    "base_model": answers(assistant, asked, do_sample=False),
    "pleases the judge": [row["prediction"] for row in predictions("polite")],
}
print("| | courtesy | true | words |\n|---|---:|---:|---:|")
for name, texts in written.items():
    m = measured(texts)
    print(f"| {name} | {m['courtesy']:.2f} | {m['true']:.2f} | {m['words']:.0f} |")

# %% hide
was, became = (measured(texts) for texts in written.values())
assert became["courtesy"] > was["courtesy"] + 0.1, (was, became)
assert 0.75 < became["true"] < was["true"] + 0.01, (was, became)

# %%
# The manners are perfect now. But look at the next column: the truth has gained
# nothing, and has lost a little. The judge learned from pairs of which one in
# ten showed a lie, so it knows manners far better than truth; and the pupil
# learned what the judge knows. The judge's own figures could not tell you.
#
# ## Reward hacking
#
# That was a small crack. Here is a wide one. Suppose that nobody had time for pairs. Somebody says: "Good answers are
# thorough ones. Let us reward length." A reward may be any Python function of
# the answers, and this one is quickly written. (It is no straw man: reward
# models that were learned from people's comparisons have been found to reward
# little else[^3].)
#
# [^3]: Singhal et al. 2023, *A Long Way to Go: Investigating Length Correlations
#     in RLHF*.


def thorough(completions, **_):
    """Reward words: 0 for none, 1 for forty or more."""
    return [min(len(answer[0]["content"].split()) / 40, 1.0)
            for answer in completions]


wordy = reinforce("__main__:thorough", "wordy")
written["rewarded for length"] = [r["prediction"] for r in predictions("wordy")]

print("| | mean reward | 95 % interval |\n|---|---:|---:|")
print(f"| untouched | {shown(wordy.base_model_scores['test'], 'reward')} |")
print(f"| reinforced | {shown(wordy.scores['test'], 'reward')} |")

# %%
# A splendid success, if this table is all you look at: the reward has risen far
# beyond its interval. Now the other ruler.

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
assert wordy.scores["test"]["reward_low"] > wordy.base_model_scores["test"]["reward_high"]
assert cheat["words"] > 1.5 * was["words"], cheat
assert cheat["courtesy"] < was["courtesy"] - 0.2, cheat

# %%
# The model did exactly what it was rewarded for, and nothing that was meant.
# This is **reward hacking**. It needs no malice and no great mind: 25 steps of
# a model with a million parameters are enough. Three habits help:
#
# * *Read answers*, at every stage. No figure would have shown you that drone.
# * *Measure with a second ruler* that nothing was trained on.
# * *Keep the leash short*: a larger β, fewer steps. The further a model has
#   moved, the likelier it has found what the judge never saw.
#
# ## Next steps
#
# * [Train on preferences and rewards](../how-to/preferences-and-rewards.md)
#   has the two recipes as files.
# * Reward both: `reward: [judge, "my_rewards:brevity"]` adds them up, weighted
#   by `training: {reward_weights: [1.0, 0.5]}`.
# * `task="grpo"` in place of `rloo` divides advantages by their spread. The
#   rest is the same.
# * What a run writes down of itself is told in [the life of a
#   run](../explanation/life-of-a-run.md).
