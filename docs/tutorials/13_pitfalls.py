"""
# Pitfalls: overfitting, underfitting, forgetting, leakage

Make the four commonest mistakes of fine-tuning on purpose, see how each shows
itself, cure it, and measure whether the cure has worked.

**You will learn** to read two loss curves side by side; why the loss can rise
while the score does; when a model is no better than one that does not read;
how to measure what a model forgets, and four ways to make it forget less; how
copies of rows in the test set make any score worthless, and where a report
tells of all this.

**You need** the first ideas of [Sentiment](02_sentiment.md), and an
installation with matplotlib: `pip install ".[demo,docs]"` in a clone of the
repository. The base, a decoder of 1.1 million parameters, is made the first
time, in a few minutes, and kept. Nothing is downloaded.
"""

# %%
# ## The board, and a run in one line
#
# On the quay of Skerrow, a harbour town that does not exist, hangs a board of
# notices under five headings. The task is to find the heading. The clerk puts
# one notice in twenty under a wrong one, so that nobody, man or model, is
# right about much more than 95 in 100.
#
# The rows come in three parts. `train` is to learn from. `validation` is to
# look at as often as you like, and to choose by. `test` is to look at once,
# when all is chosen: it goes into a file now, and stays there.

import json
import tempfile
from pathlib import Path
from textwrap import fill

from finetune_samples.catalogue import load

notices = load("harbour-notices")
train, validation = notices["train"], notices["validation"][:150]
folder = Path(tempfile.mkdtemp())


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


test = write(folder / "test.jsonl", notices["test"])
for row in train[:3]:
    print(fill(f"{row['label']}: {row['text']}", 76))
print(f"\n{len(train)} to learn from, {len(validation)} to choose by")

# %%
# Every run below is one call of `finetune.train`, and returns a **result**: the
# scores with their intervals, what the trainer logged, and more. The same is
# written to a folder. What the numbers mean, `finetune.evaluation.verdicts` says in words;
# `finetune train`, the report and the model card say the same.

import finetune
from finetune.evaluation import verdicts


def run(name, data, *, task="text-classification", strategy="full",
        general_text="none", **training):
    return finetune.train(
        task=task, model="sample:decoder", dataset=data, strategy=strategy,
        preprocessor={"max_length": 48}, general_text=general_text,
        training={"per_device_train_batch_size": 16,
                  "per_device_eval_batch_size": 50, "logging_steps": 8,
                  "save_strategy": "no", **training},
        output=str(folder / name),
    )


def say(sentences):
    for sentence in sentences:
        print(fill(sentence, 76, initial_indent="- ", subsequent_indent="  "))


# %%
# ## Overfitting: learnt by heart
#
# Give the model 64 notices, and let it read them twenty times over: 80 steps
# of 16. After every eighth step the validation rows are scored.

steps = {"max_steps": 80, "eval_strategy": "steps", "eval_steps": 8}
few = run("few", {"train": train[:64], "validation": validation},
          learning_rate=2e-3, **steps)
say(verdicts.fit(few))

# %%
# The first sentence compares two scores: on the rows that it learned from, and
# on rows that it has not seen. It has learnt the 64 by heart, the clerk's slips
# among them, and that is not the same as knowing what a heading means.
#
# The second sentence is about the curves. And here is what surprises: by the
# *loss* the model was best almost at once, and has become worse ever since. By
# *accuracy* it is best at the end.


def curve(result, name):
    return [(e["step"], e[name]) for e in result.log if name in e]


print("| | step | validation loss | validation accuracy |")
print("|---|---:|---:|---:|")
logged = [e for e in few.log if "eval_loss" in e]
lowest = min(logged, key=lambda e: e["eval_loss"])
for name, e in (("lowest loss", lowest), ("the end", logged[-1])):
    print(f"| {name} | {e['step']} | {e['eval_loss']:.2f} "
          f"| {e['eval_accuracy']:.2f} |")

# %% hide
assert logged[-1]["eval_loss"] > 1.15 * lowest["eval_loss"]
assert logged[-1]["eval_accuracy"] > lowest["eval_accuracy"] + 0.1
assert few.score("train") > 0.98 and few.score("validation") < 0.75
told = " ".join(verdicts.fit(few))
assert "Overfitted: accuracy is" in told, told
assert "while accuracy became better" in told and "Stop there" not in told

# %%
# Accuracy asks only which heading got the most probability. The loss asks how
# much the right one got. A model that has learnt its rows by heart is *sure*,
# and it is sure where it is wrong, too: a few errors made with conviction cost
# more than many made in doubt. The result measures that as well. **ECE**, the
# expected calibration error, is how far the model's sureness lies, on average,
# from the share that is right:


def ece(result, split="validation"):
    return result.details[split]["calibration"]["ece"]


print(f"accuracy {few.score('validation'):.2f}, ECE {ece(few):.2f}")

# %%
# So do not believe its probabilities, and do not stop at the lowest loss if it
# is answers that you need. What chooses must be what you want:
# `training: {load_best_model_at_end: true}` goes by the task's own score.
#
# Which cure helps? Two are often named: let fewer parameters move, or get more
# rows. Try both, and change nothing else: the same 80 steps. LoRA moves one
# parameter in sixty, at the higher rate that it needs; of 1,280 rows, each is
# seen once.

thin = run("thin", {"train": train[:64], "validation": validation},
           strategy={"name": "lora", "r": 8}, learning_rate=5e-3, **steps)
many = run("many", {"train": train[:1280], "validation": validation},
           learning_rate=2e-3, **steps)

print("| | accuracy on train | on validation | loss at the end | ECE |")
print("|---|---:|---:|---:|---:|")
for name, result in (("64 rows", few), ("64 rows, LoRA", thin),
                     ("1,280 rows, once", many)):
    print(f"| {name} | {result.score('train'):.2f} "
          f"| {result.score('validation'):.2f} "
          f"| {curve(result, 'eval_loss')[-1][1]:.2f} "
          f"| {ece(result):.2f} |")

# %%
import matplotlib.pyplot as plt

fig, axes = plt.subplots(1, 2, figsize=(6.8, 2.8), sharey=True)
for ax, result, title in zip(
    axes, (few, many), ("64 rows, twenty times", "1,280 rows, once")
):
    ax.plot(*zip(*curve(result, "loss")), label="train")
    ax.plot(*zip(*curve(result, "eval_loss")), label="validation")
    ax.set(title=title, xlabel="step", ylim=(0, None))
axes[0].set_ylabel("loss")
axes[0].legend()
plt.show()

# %% hide
assert thin.score("train") > 0.95 and thin.score("validation") < 0.75
assert many.score("validation") > 0.85
assert ece(few) > 0.2 > 2 * ece(many)
assert many.score("validation") - few.score("validation") > 0.15
assert abs(many.score("train") - many.score("validation")) < 0.07
assert not any("Overfitted" in s for s in verdicts.fit(many))
assert curve(many, "eval_loss")[-1][1] < 0.5 * curve(few, "eval_loss")[-1][1]

# %%
# On the left, two curves that part: the mark of overfitting. On the right they
# fall together. Fewer parameters were no cure: seventeen thousand are plenty to
# learn 64 notices by heart. Rows were. It is not always so; but try rows first,
# and believe in no setting that you have not measured.
#
# ## Underfitting: hardly learnt at all
#
# The same 1,280 notices, the same 80 steps, and a learning rate that is usual
# for models a hundred times this size.

cautious = run("cautious", {"train": train[:1280], "validation": validation},
               learning_rate=2e-5, **steps)
say(verdicts.headline(cautious))
print()
say(verdicts.fit(cautious))

# %% hide
told = " ".join(verdicts.fit(cautious))
assert "Underfitted: by accuracy" in told, told
assert cautious.score("train") < 0.4

# %%
# The **baseline** “majority” always names the heading that is most frequent in
# train. It does not read. A model that cannot be told apart from it has learnt
# nothing that you could rely on, whatever its loss did. To look at the score
# alone would not have shown it: 0.27 of five headings is more than one in five.
#
# Look also at the train score. Where *that* is low, it is no lack of rows. Then
# either the model does not see what it would need (too short a `max_length`,
# say), or it has not moved far enough: too few steps, or too low a rate. Try
# rates that are ten times apart, and choose by validation.

middle = run("middle", {"train": train[:1280], "validation": validation},
             learning_rate=2e-4, **steps)
rates = {"2e-5": cautious, "2e-4": middle, "2e-3": many}
print("| learning rate | train | validation | better than “majority” by |")
print("|---:|---:|---:|---:|")
for rate, result in rates.items():
    gain = result.differences["validation"]["majority"]["accuracy"]
    print(f"| {rate} | {result.score('train'):.2f} "
          f"| {result.score('validation'):.2f} "
          f"| {gain['value']:+.2f} ({gain['low']:+.2f} to {gain['high']:+.2f}) |")

# %%
# The validation rows chose 2e-3, so what they say of it flatters a little: the
# best of three is best partly by luck. *Now* `test` is opened, for the chosen
# one alone.

best = max(rates, key=lambda rate: rates[rate].score("validation"))
once = finetune.evaluate(rates[best].directory, str(test))["accuracy"]
print(f"{best}: {rates[best].score('validation'):.2f} on validation, "
      f"{once:.2f} on test")

# %% hide
assert best == "2e-3" and once > 0.85
gains = [r.differences["validation"]["majority"]["accuracy"]
         for r in rates.values()]
assert gains[0]["low"] <= 0 < gains[1]["low"] < gains[2]["low"]
scores = [r.score("validation") for r in rates.values()]
assert scores[0] + 0.2 < scores[1] < scores[2] - 0.15, scores

# %%
# ## Forgetting: the new drives out the old
#
# What a base knew, training can destroy, and no score of the new task will ever
# tell. Our base has read the papers of Skerrow, in English, and a little
# Harbourish, the town's own language. Now it shall become good at Harbourish,
# by going on with Harbourish sentences alone. What becomes of its English?
#
# Put aside texts of the kind that it must not forget, a text a line, and name
# the file: `general_text`. The library brings some plain English sentences,
# which are right for most bases of the Hub; but this base has never read
# anything but Skerrow, and what was never known cannot be forgotten.

papers = load("harbour-text")
old = folder / "papers.txt"
old.write_text("".join(
    row["text"].replace("\n", " ")[:200] + "\n" for row in papers["test"][:30]
))
speech = {
    split: [{"text": row["translation"]["hb"]} for row in rows[:400]]
    for split, rows in load("harbour-translation").items()
}
new = {"train": speech["train"], "validation": speech["validation"][:60]}
print(new["train"][0]["text"])


def teach(name, data=new, **options):
    return run(name, data, task="causal-language-modeling",
               general_text=str(old), num_train_epochs=2,
               eval_strategy="no", **options)


rash = teach("rash", learning_rate=3e-3)
say(verdicts.headline(rash))
print()
say(verdicts.forgetting(rash))

# %%
# The headline is a success: **perplexity**, the number of tokens among which
# the model is on average torn, has fallen. (Lower is better.) Only the last
# sentence tells the price. *Surprise* is the logarithm of that number; it is
# measured before and after, on the same thirty papers, and `Forgot` is said
# where it has certainly grown, and by 0.1 nats or more: a tenth more tokens to
# be torn among.
#
# Four cures, each by itself:
#
# * a **lower rate**: it moves less;
# * **LoRA**: the weights stay, and thin matrices beside them move (at a rate
#   that suits them);
# * **discriminative** rates: each layer moves at half the rate of the one above;
# * **mixing**: some of the old among the new, so that it is not forgotten
#   because it is still being learnt. The papers mixed in are others than those
#   measured on.

mixed = [{"text": row["text"][:200]} for row in papers["train"][:120]]
taught = {
    "rash (3e-3)": rash,
    "lower rate (2e-4)": teach("lower", learning_rate=2e-4),
    "LoRA": teach("lora", strategy={"name": "lora", "r": 8},
                  learning_rate=1e-2),
    "discriminative": teach(
        "discriminative", strategy={"name": "discriminative", "layer_decay": 0.5},
        learning_rate=3e-3),
    "mixing": teach("mixed", {**new, "train": new["train"] + mixed},
                    learning_rate=3e-3),
}
print("| | new: perplexity of Harbourish | old: surprise grew by | verdict |")
print("|---|---:|---:|---|")
print(f"| the base | {rash.base_model_scores['validation']['perplexity']:.1f} | | |")
for name, result in taught.items():
    growth = result.forgetting["growth"]["value"]
    verdict = "forgot" if result.forgetting["forgot"] else ""
    print(f"| {name} | {result.score('validation'):.1f} | {growth:+.2f} "
          f"| {verdict} |")

# %%
fig, ax = plt.subplots(figsize=(6.4, 3))
ax.axvline(0.1, linestyle=":", color="gray")
ax.text(0.104, 0.97, "said to have forgotten →", color="gray", va="top",
        transform=ax.get_xaxis_transform())
for name, result in taught.items():
    x, forgot = result.forgetting["growth"]["value"], result.forgetting["forgot"]
    ax.plot(x, result.score("validation"), "o")
    ax.annotate(name, (x, result.score("validation")), va="center",
                xytext=(8 if forgot else -8, 0), textcoords="offset points",
                ha="left" if forgot else "right")
ticks = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]
ax.set(xscale="log", xlabel="old: growth of surprise (nats a token)",
       ylabel="new: perplexity", title="Left is kept, down is learnt")
ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
ax.set_xlim(0.018, 2.2)
ax.minorticks_off()
plt.show()

# %% hide
grew = {n: r.forgetting["growth"]["value"] for n, r in taught.items()}
learnt = {n: r.score("validation") for n, r in taught.items()}
rash_grew = grew["rash (3e-3)"]
assert rash.forgetting["forgot"] and rash_grew > 0.5, grew
assert any(s.startswith("Forgot: ") for s in verdicts.forgetting(rash))
for cure in ("lower rate (2e-4)", "LoRA"):
    assert not taught[cure].forgetting["forgot"], grew
assert all(g < 0.6 * rash_grew for n, g in grew.items() if "rash" not in n)
assert all(p < 0.75 * rash.base_model_scores["validation"]["perplexity"]
           for p in learnt.values()), learnt
assert learnt["lower rate (2e-4)"] < learnt["rash (3e-3)"]
assert learnt["discriminative"] == min(learnt.values())
assert grew["mixing"] == sorted(grew.values())[-2]

# %%
# All four forget less, and none learns less than the rash run did. The high
# rate has bought nothing: a rate at a tenth of it or less is the first thing to
# try, and it costs nothing. LoRA keeps as much. Discriminative rates learn the
# most and forget a little: what Harbourish asks for is learnt in the upper
# layers. Mixing alone, at so high a rate, is half a cure: what is destroyed in
# one step is only partly rebuilt by the next. It goes well with the others.
#
# Where two aims pull in two directions, say beforehand which you want. Ours:
# of those that did not forget, the one that learnt most. That choice was made
# on validation; now the test sentences, once.

kept = {n: r for n, r in taught.items() if not r.forgetting["forgot"]}
chosen = min(kept, key=lambda name: kept[name].score("validation"))
unseen = write(folder / "harbourish.jsonl", speech["test"])
final = finetune.evaluate(kept[chosen].directory, str(unseen))["perplexity"]
print(f"{chosen}: {kept[chosen].score('validation'):.1f} on validation, "
      f"{final:.1f} on test")

# %% hide
assert chosen == "lower rate (2e-4)", learnt
assert final < 0.8 * rash.base_model_scores["validation"]["perplexity"]

# %%
# ## Leakage: the answers were in the book
#
# The clerk means well. He has 120 notices, thinks them too few, and makes more:
# each is hung up again word for word, once with an exclamation mark, and once
# with “Notice:” before it. Then he shuffles all, and puts a quarter aside as a
# test. It is the commonest leak there is: first copied, then split.

import random

own = train[1400:1520]


def copies(row):
    text = row["text"]
    again = [text, text, text.rstrip(".") + "!", "Notice: " + text]
    return [{**row, "text": copy} for copy in again]


shuffled = [copy for row in own for copy in copies(row)]
random.Random(0).shuffle(shuffled)
memorise = {"learning_rate": 2e-3, "num_train_epochs": 4,
            "eval_strategy": "no"}
leaky = run("leaky", {"train": shuffled[120:], "test": shuffled[:120],
                      "validation": validation}, **memorise)
say(verdicts.headline(leaky))

# %%
# Near perfect, in a narrow interval, and better than anybody can be on this
# board but by luck. Already the first sentence says that the score flatters.
# The result counts how:

say(verdicts.leaks(leaky.leakage))
print()
pair = leaky.leakage["test"]["pairs"][0]
print(f"test:  {pair['text']}\ntrain: {pair['train']}")
print(f"alike: {pair['similarity']:.0%}")

# %%
# *Nearly* alike are texts that share seven tenths of their runs of five
# characters. (The one notice of validation is a chance likeness in a small
# town.) All this is counted in every run, and by `finetune check` before any
# model is loaded.
#
# A leak blinds the other warnings, too. This model has learnt its notices by
# heart like the first one on this page, and nothing says so, because the gap
# between train and test is gone:

print(f"train {leaky.score('train'):.2f}, test {leaky.score('test'):.2f}; "
      f"called overfitted: "
      f"{any('Overfitted' in s for s in verdicts.fit(leaky))}")

# %%
# The cure is one of order: split first, then copy what is to be trained on, and
# nothing else. As many rows train as before.

honest = run("honest", {"train": [c for row in own[30:] for c in copies(row)],
                        "test": own[:30], "validation": validation},
             **memorise)
say([next(verdicts.headline(honest)), *verdicts.leaks(honest.leakage),
     *verdicts.fit(honest)])

# %%
# Who is right? The file `test.jsonl` holds 300 notices that neither has seen.
# Each is judged on it once, and nothing is chosen by it.

print("| | rows of train | its own test says | interval | 300 fresh notices |")
print("|---|---:|---:|---|---:|")
truth = {}
for name, result in (("copied, then split", leaky),
                     ("split, then copied", honest)):
    truth[name] = finetune.evaluate(result.directory, str(test))["accuracy"]
    bounds = result.intervals["test"]["accuracy"]
    print(f"| {name} | {result.data_report['train']['kept']} "
          f"| {result.score('test'):.2f} "
          f"| {bounds['low']:.2f} to {bounds['high']:.2f} "
          f"| {truth[name]:.2f} |")

# %% hide
first, second = truth.values()
found = leaky.leakage["test"]
assert found["exact"] + found["normalized"] + found["near"] == found["rows"]
assert min(found["exact"], found["normalized"], found["near"]) > 10
leak = honest.leakage["test"]
assert leak["exact"] + leak["normalized"] + leak["near"] == 0
assert "it flatters" in next(verdicts.headline(leaky))
assert "it flatters" not in next(verdicts.headline(honest))
assert leaky.score("test") > 0.9 and abs(first - second) < 0.08, truth
assert first < leaky.intervals["test"]["accuracy"]["low"] - 0.1
bounds = honest.intervals["test"]["accuracy"]
assert bounds["low"] < second < bounds["high"]
assert not any("Overfitted" in s for s in verdicts.fit(leaky))
assert any("Overfitted" in s for s in verdicts.fit(honest))
assert leaky.data_report["train"]["kept"] == honest.data_report["train"]["kept"]

# %%
# The two models are alike. What differs is what was believed of them: one test
# is narrow and wrong, the other wide and right. An interval tells how far chance
# goes, and nothing of a leak. Copies do not make notices, either: 360 rows, and
# the model knows what a hundred notices tell.
#
# ## Where it stands in a report
#
# Each run folder holds `report.html`: one file, which any browser opens
# (`xdg-open runs/inns/report.html`, or a double click), and which fetches
# nothing. `finetune report runs/inns` writes it again. It is made of the same
# result, so it says the same:

import html
import re

report = (folder / "leaky" / "report.html").read_text()
print(" · ".join(re.findall("<h2>(.*?)</h2>", report)))

# %%
# | Pitfall | In words, at the top | In numbers, below |
# |---|---|---|
# | overfitting | *Overfitted: …* | *Scores*, *Curves* |
# | underfitting | *Underfitted: …* | *What training changed*, *Curves* |
# | forgetting | *Forgot: …* | in that sentence |
# | leakage | *… are in train too* | *The data* |
#
# A warning is set off above all tables, so that nobody has to look for it.
# Below, unfold the scores of train and compare them with those held out; look
# for curves that part, or that never fall; in *What training changed*, look for
# intervals that hold 0; and in *The data*, for pairs that are nearly alike.

# %% hide
for result in (few, cautious, rash, leaky):
    page = html.unescape(Path(result.directory, "report.html").read_text())
    for sentence in verdicts.all_verdicts(result):
        assert sentence in page, sentence
    for heading in ("Scores", "Curves", "The data"):
        assert f"<h2>{heading}</h2>" in page
assert 'class="note">Forgot' in (folder / "rash" / "report.html").read_text()
assert "% alike" in report and "What training changed" in report

# %%
# ## Next steps
#
# * Four habits, one for each: look at *two* curves; keep a *baseline* beside
#   every score; put aside *old* texts before you teach new ones; *split* before
#   you copy.
# * Mix *and* lower the rate: call `teach` with both. How little can it forget?
# * Give the first run 128, 256, 512 rows. Where does overfitting end?
# * Put ten notices of `test.jsonl` into train, and see at which number of leaked
#   rows you begin to notice it in the score. The count notices the first.
# * [What an interval says](../explanation/what-an-interval-says.md), and what it
#   does not; [How parameters move](07_how_parameters_move.md) has the strategies
#   that forget less.
# * Next tutorial: [share a model](15_share.md), with a card that tells all this
#   to others.
