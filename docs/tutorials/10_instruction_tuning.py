"""
# Instruction tuning: from continuing a text to answering

A pretrained language model continues a text. Ask it a question, and the
continuation may be anything but an answer. Teach a small model to follow
instructions, by showing it 4,000 conversations with the right answers.

**You will learn** how a conversation becomes one row of tokens, and which of
them the model is trained on; what LoRA trains, and how little that is; how to
let a model write, and how to count its right answers.

**You need** the [tutorial on sentiment](02_sentiment.md), which explains tokens
and training, and an installation with TRL and matplotlib:
`pip install -c constraints.txt ".[llm,report]"` in a clone of the repository.
The program downloads nothing. The first time, it also trains its small base
model on your machine, which takes some minutes, and keeps it.
"""

# %%
# ## A model that continues texts
#
# Our base is a small Llama: the same layers as the large ones, four of them,
# and 1.1 million parameters. It has read the chronicles, notices and letters of
# Skerrow, an invented harbour town. It has never seen an instruction.

import torch
from finetune_samples.bases import base
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = base("decoder")
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
print(f"{model.num_parameters():,} parameters, {len(tokenizer):,} tokens")

# %% varies
# A language model does one thing: it reads tokens and says how likely each
# token is to come next. To write, take the most likely token, append it, and
# repeat, until the end token comes or a limit is reached.


def continuation(text, most=40):
    ids = tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        out = model.generate(**ids, max_new_tokens=most, do_sample=False)
    return tokenizer.decode(out[0, ids["input_ids"].shape[1]:])


from textwrap import fill

question = "The Grey Heron carries salt. What does the Grey Heron carry?"
for text in ("The Grey Heron came in at Salt Quay on", question):
    print(fill(f"{text} ⟹ {continuation(text)}", 76), end="\n\n")

# %%
# It writes like the texts that it read. After the question it writes no answer.
# It does not know that a question needs one. (`</s>` is the end of a text.)
#
# ## Instructions with answers
#
# The solution is *supervised fine-tuning*, SFT: show the model instructions
# with their answers. A row is a list of **messages**, each with the **role** of
# the speaker: `user`, `assistant`, and sometimes first a `system` message that
# says how to behave. A conversation may have several turns.

from finetune_samples.catalogue import load

data = load("harbour-instructions")
train, test = data["train"], data["test"]
print(f"{len(train):,} conversations for training, {len(test)} for testing")
for row in train[:3]:
    print()
    for message in row["messages"]:
        print(fill(f"{message['role']}: {message['content']}", 76))

# %%
# What does it prove if the model is right on the rows of `test`? It depends on
# how they differ from those of `train`. Here they have the same nine kinds of
# instruction, and the same names of ships and goods. But what an answer depends
# on, such as *this* ship with *that* load, never occurs in two rows. A model
# that memorised the answers would fail; a model that learned the instructions
# can pass. This split does not say whether it would understand a tenth kind.
#
# ## A chat template
#
# The model knows no roles, only tokens. So a conversation is written as one
# text, and the **chat template** says how. Which template you choose matters
# little. But it must be *the same* in training and in use, so it is saved with
# the tokenizer. Ours is called `plain`.

from finetune_trl.sft.preprocessor import SFTPreprocessor

preprocessor = SFTPreprocessor(chat_template="plain", max_length=256).fit(train)


def features_of(rows):
    columns = {"messages": [row["messages"] for row in rows]}
    return preprocessor.features(columns, tokenizer)


features = features_of(train)
print(tokenizer.apply_chat_template(train[1]["messages"], tokenize=False))

# %%
# Each answer ends with `</s>`, the end-of-text token. Without it, the model
# would never learn to stop.
#
# When we ask the model, the template writes everything before the answer, up to
# and including `Assistant:`, and the model continues from there. So *answering
# becomes a kind of continuing*.
#
# ## What is trained, token by token
#
# The model could learn to continue the whole conversation. But it should not
# learn to ask the questions. So each token gets a **label**, the token that the
# model should have predicted there. If the label is −100, the loss skips it.
# The token is *masked*: the model reads it, but is not trained on it.

short = next(i for i, row in enumerate(train)
             if row["messages"][0]["content"].startswith("Wish"))
ids, labels = features["input_ids"][short], features["labels"][short]
print("| token | id | label | |\n|---|---:|---:|---|")
for id_, label in zip(ids, labels):
    token = tokenizer.decode([id_]).replace("\n", "⏎")
    print(f"| `{token}` | {id_} | {label} | {'' if label < 0 else 'trained'} |")

# %%
# Look at the last rows. The space before the answer is part of its first token,
# so it is trained. `</s>` is trained. The line break after it, which the
# template writes, is not. `finetune check` shows the same in one line, with
# `⟦…⟧` around what the loss sees:

row = {name: column[1] for name, column in features.items()}
print(preprocessor.show(row, tokenizer))
trained = sum(label >= 0 for row in features["labels"] for label in row)
tokens = sum(len(row) for row in features["input_ids"])
print(f"{trained:,} of {tokens:,} tokens are trained, {trained / tokens:.0%}")

# %% hide
assert 0.15 < trained / tokens < 0.5
assert labels[-2] == tokenizer.eos_token_id and labels[-1] == -100
assert all(label in (-100, id_) for id_, label in zip(ids, labels))

# %%
# In this conversation, the answers of both turns are trained. A wrong mask is
# the most common silent error of this kind of training: the loss falls with any
# mask, and only the answers show it.
#
# ## LoRA
#
# We could train all 1.1 million parameters. For a model with seven billion,
# that needs a very large machine, because training keeps four numbers for each
# parameter. **LoRA** leaves each weight matrix as it is and adds the product of
# two thin matrices. Only these train.

from finetune_peft.lora import LoraStrategy
from finetune_trl import tasks

torch.manual_seed(0)  # one of each two begins random, the other at zero
strategy = LoraStrategy(r=32, lora_alpha=64, target_modules="all-linear")
before_lora = continuation(question)
model = strategy.prepare(model, tasks()["sft"])
moving = [p for p in model.parameters() if p.requires_grad]
count = sum(p.numel() for p in moving)
print(f"{count:,} parameters move, {count / model.num_parameters():.0%}")
print(f"writes the same as before: {continuation(question) == before_lora}")

# %% hide
assert continuation(question) == before_lora

# %% varies
# One of the two matrices starts at zero, so the product is zero, and nothing
# has changed yet. In a large model the share is even smaller, often below 1%:
# the matrices are thin, and the weights next to them are wide.
#
# ## Before training
#
# First test the base model. Each question of `test` is written with the
# template, and the answer must equal the expected one, character by character.
# This is called **exact match**. It is strict. Here it is fair, because each
# instruction has one right answer.

rows = [row["messages"] for row in test]
roles = [[message["role"] for message in row] for row in rows]
first = [row[: said.index("assistant")] for row, said in zip(rows, roles)]
expected = [row[len(asked)]["content"] for row, asked in zip(rows, first)]


def answers(prompts, most=40):
    written = []
    for at in range(0, len(prompts), 100):
        batch = tokenizer.apply_chat_template(
            prompts[at : at + 100], add_generation_prompt=True, padding=True,
            return_tensors="pt", return_dict=True,
        )
        with torch.inference_mode():
            out = model.generate(**batch, max_new_tokens=most, do_sample=False)
        new = out[:, batch["input_ids"].shape[1]:]
        written += tokenizer.batch_decode(new, skip_special_tokens=True)
    return [text.strip() for text in written]


model.eval()
before = answers(first)
for asked, answer in list(zip(first, before))[:3]:
    print(fill(f"{asked[-1]['content']} ⟹ {answer}", 76), end="\n\n")
right = sum(map(str.__eq__, before, expected))
print(f"exact match: {right} of {len(test)}")

# %%
# ## Train
#
# The loop is the usual one: a batch of 16 conversations, the loss over the
# unmasked tokens, the gradients, a step. The learning rate is high, because the
# model is tiny and few parameters train. For a large model, 1e-4 or 2e-4 is
# usual with LoRA.

from torch.nn.utils.rnn import pad_sequence

BATCH, EPOCHS, LEARNING_RATE = 16, 3, 3e-3


def batch_of(numbers):
    def padded(rows, value):
        return pad_sequence([torch.tensor(row) for row in rows], True, value)

    rows = [features["input_ids"][i] for i in numbers]
    return {
        "input_ids": padded(rows, tokenizer.pad_token_id),
        "attention_mask": padded([[1] * len(row) for row in rows], 0),
        "labels": padded([features["labels"][i] for i in numbers], -100),
    }


steps = EPOCHS * len(train) // BATCH
optimizer = torch.optim.AdamW(moving, lr=LEARNING_RATE, weight_decay=0.0)
schedule = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda step: min((step + 1) / 20, 1 - step / steps)
)
drawn = torch.Generator().manual_seed(0)
order = torch.cat([torch.randperm(len(train), generator=drawn)
                   for _ in range(EPOCHS)])
losses = []
model.train()
for numbers in order.split(BATCH):
    loss = model(**batch_of(numbers.tolist())).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(moving, 1.0)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    losses.append(loss.item())
model.eval()
print(f"{len(losses)} steps")

# %%
# At first the model answers as if it continued a book. In a few dozen steps it
# learns the form of answers. Then it learns, slowly, to follow the
# instructions.

import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(6.4, 3))
ax.plot(losses, color="C0", alpha=0.3)
smooth = torch.tensor(losses).unfold(0, 20, 1).mean(1)
ax.plot(range(19, len(losses)), smooth, color="C0")
ax.set(xlabel="step", ylabel="loss of the answers' tokens", yscale="log",
       title="First the form, then what is asked")
plt.show()

# %%
# ## After training
#
# The same test again. The kind of an instruction can be seen from its first
# words.

KINDS = {"Answer": "a detail of a passage", "Reverse": "a list backwards",
         "Say this": "a list backwards", "Say the": "the opposite",
         "Count": "how many", "How": "how many", "Name": "the first or last",
         "Write": "in capitals", "Wish": "a wish"}


def kind_of(asked):
    text = asked[-1]["content"]
    if "love?" in text:
        return "who loves what"
    found = (kind for start, kind in KINDS.items() if text.startswith(start))
    return next(found, "what a ship carries")


after = answers(first)
table = {}
for asked, answer, wanted in zip(first, after, expected):
    table.setdefault(kind_of(asked), []).append(answer == wanted)
exact = sum(map(sum, table.values())) / len(test)

# %% varies
print("| asked for | questions | right |\n|---|---:|---:|")
for kind, hits in sorted(table.items(), key=lambda item: -sum(item[1]) / len(item[1])):
    print(f"| {kind} | {len(hits)} | {sum(hits) / len(hits):.0%} |")
print(f"| **all** | **{len(test)}** | **{exact:.0%}** |")

# %% hide
assert len(table) == 9, table.keys()
assert right <= 3, right
assert exact > 0.7, exact

# %%
# Before training, no answer was right. Now most are. What are the errors?

# %% varies
wrong = [n for n in range(len(test)) if after[n] != expected[n]]
for n in wrong[:5]:
    print(fill(first[n][-1]["content"], 76))
    print(f"  wrote:    {after[n]}\n  expected: {expected[n]}\n")

# %% varies
# The form is almost always right. Most errors are a wrong name or thing, or the
# order of a list. Look at the rows *what a ship carries* and *who loves what*
# of the table. If two or three things are stated, a blind guess among them is
# right in a third to a half of the cases. The model is not better than that. It
# has learned to name something that *someone* loves, but not to look up who.
# This is the typical error of a model that is too small or trained too little:
# it sounds like an answer. Neither the loss nor the last line shows it;
# counting by kind does.
#
# ## What was learned, and what was not
#
# Here is the first question again, and one of a kind that the model never saw.

for text in (question, "Sing me a song about the Grey Heron."):
    print(f"{text}\n  ⟹ {answers([[{'role': 'user', 'content': text}]])[0]}\n")

# %%
# If an instruction has a form that it knows, the model follows it. It treats
# anything else as the nearest kind that it knows. Large models are trained on
# thousands of kinds of instruction, and so seem to understand the next one.
#
# ## Next steps
#
# * In a recipe, all of this takes a few lines. `finetune init sft` prints one
#   for a model from the Hub, and [Train on preferences and
#   rewards](../how-to/preferences-and-rewards.md) starts with one for
#   `sample:decoder`, the model of this page. A run also counts what
#   `max_length` truncates, and refuses a template that would be read
#   differently from training. `finetune check` shows the mask.
# * `strategy.save(model, folder)` writes only the thin matrices, about 1.2 MB.
# * Train all parameters instead: `FullStrategy` from `finetune_freeze.full`,
#   with a learning rate of 2e-3. Is it better, and by how much?
# * Next tutorial: [preferences](11_preferences.md), where two answers are
#   compared, and no one says which words are right.
