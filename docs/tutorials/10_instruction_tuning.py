"""
# Instruction tuning: from a model that goes on to one that answers

A pretrained language model goes on with a text. Ask it a question, and it may
go on with anything but an answer. Teach a small one to do as it is told, by
showing it some thousand instructions with their answers.

**You will learn** how a conversation becomes one row of tokens, and which of
them the model is trained on; what LoRA trains, and how little that is; how to
let a model write, and how to count its right answers.

**You need** some Python, a first idea of how a model is trained ([sentiment
](02_sentiment.md) gives one), and an installation with matplotlib: `pip install
".[docs]"` in a clone of the repository. Nothing is downloaded. The base, a
model of a million parameters, is made on your machine the first time it is
wanted, which takes two to four minutes, and kept.
"""

# %%
# ## A model that goes on
#
# Our base is a little Llama: the same layers as the large ones, four of them,
# and 1.1 million parameters. It has read the chronicles, notices and letters
# of Skerrow, a harbour town that does not exist. Nobody ever asked it
# anything.

import torch
from finetune_samples.bases import base
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = base("decoder")
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
print(f"{model.num_parameters():,} parameters, {len(tokenizer):,} tokens")

# %% varies
# A language model does one thing: it reads tokens and says how likely each
# token is to come next. To write, take the likeliest, append it, and ask
# again, until the token that means "end of text" comes or patience ends.


def go_on(text, most=40):
    ids = tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        out = model.generate(**ids, max_new_tokens=most, do_sample=False)
    return tokenizer.decode(out[0, ids["input_ids"].shape[1]:])


from textwrap import fill

question = "The Grey Heron carries salt. What does the Grey Heron carry?"
for text in ("The Grey Heron came in at Salt Quay on", question):
    print(fill(f"{text} ⟹ {go_on(text)}", 76), end="\n\n")

# %%
# It writes like the books that it read. After the question it goes on, too:
# with more text of the kind, for it has no notion that a question wants an
# answer, or that an answer has an end. (`</s>` is the end of a text.)
#
# ## Instructions with answers
#
# The cure is called *supervised fine-tuning*, SFT: show the model
# instructions with their answers. A row is a list of **messages**, each with
# the **role** of whoever speaks: `user`, `assistant`, sometimes first a
# `system` that says how to behave. A conversation may have more than one turn.

from finetune_samples.catalogue import load

data = load("harbour-instructions")
train, test = data["train"], data["test"]
print(f"{len(train):,} conversations to learn from, {len(test)} to judge with")
for row in train[:3]:
    print()
    for message in row["messages"]:
        print(fill(f"{message['role']}: {message['content']}", 76))

# %%
# What would it prove, to be right about the rows of `test`? It depends on how
# they differ from those of `train`. Here they have the same nine kinds of
# instruction, and the same names of ships and goods. But what an answer
# depends on, such as *this* ship with *that* load, occurs in no two rows. A
# model that learned the answers by heart would fail; one that learned what is
# asked of it can pass. Whether it would also understand a tenth kind, this
# split does not say.
#
# ## A chat template
#
# The model knows no roles, only tokens. So a conversation is written as one
# text, and the **chat template** says how. Which one is chosen matters little;
# that it is *the same* in training and in use matters very much, so it is
# saved with the tokenizer. Ours is called `plain`.

from finetune_trl.sft.preprocessor import SFTPreprocessor

preprocessor = SFTPreprocessor(chat_template="plain", max_length=256).fit(train)


def features_of(rows):
    columns = {"messages": [row["messages"] for row in rows]}
    return preprocessor.features(columns, tokenizer)


features = features_of(train)
print(tokenizer.apply_chat_template(train[1]["messages"], tokenize=False))

# %%
# Each answer ends with `</s>`, the end-of-text token. Mark it: without it, the
# model would never learn to stop.
#
# When the model is asked, the template writes all that stands before the
# answer, up to and with `Assistant:`, and the model goes on from there. That
# is the whole trick: *answering is made a kind of going on*.
#
# ## What is trained, token by token
#
# The model could learn to go on with the whole conversation. But we do not
# want it to ask the questions. So every token gets a **label**, the token that
# the model should have guessed there; and where the label is −100, the loss
# looks away. The token is *masked*: the model reads it and is not judged by it.

short = next(i for i, row in enumerate(train)
             if row["messages"][0]["content"].startswith("Wish"))
ids, labels = features["input_ids"][short], features["labels"][short]
print("| token | id | label | |\n|---|---:|---:|---|")
for id_, label in zip(ids, labels):
    token = tokenizer.decode([id_]).replace("\n", "⏎")
    print(f"| `{token}` | {id_} | {label} | {'' if label < 0 else 'trained'} |")

# %%
# Read the last rows. The space before the answer is part of its first token,
# so it is trained; `</s>` is trained; the line break after it, which the
# template writes, is not. `finetune check` shows the same in one line, with
# `⟦…⟧` round what the loss sees:

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
# In both turns of this conversation the answer is trained. What you mask is
# the commonest silent error of this kind of training: the loss falls whatever
# the mask is, and only the answers tell.
#
# ## LoRA
#
# We could move all 1.1 million parameters. With a model of seven billion, that
# needs a very large machine, for training keeps four numbers for each. **LoRA**
# leaves every weight matrix as it is and puts two thin matrices beside it,
# whose product is added. Only these move.

from finetune_peft.lora import LoraStrategy
from finetune_trl import tasks

torch.manual_seed(0)  # one of each two begins random, the other at zero
strategy = LoraStrategy(r=32, lora_alpha=64, target_modules="all-linear")
untouched = go_on(question)
model = strategy.prepare(model, tasks()["sft"])
moving = [p for p in model.parameters() if p.requires_grad]
count = sum(p.numel() for p in moving)
print(f"{count:,} parameters move, {count / model.num_parameters():.0%}")
print(f"writes the same as before: {go_on(question) == untouched}")

# %% hide
assert go_on(question) == untouched

# %% varies
# Since one of each two matrices begins at zero, the product is zero, and
# nothing has changed yet. In a large model the share is smaller still, often
# below 1 %: the matrices are thin, and the weights beside them are wide.
#
# ## Before
#
# First the exam, on the base model. Each question of `test` is asked as
# the template asks it, and the answer must equal the expected one, letter by
# letter. This is called **exact match**; it is severe, and here it is fair,
# because every instruction has one right answer.

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
# The loop is that of every training. A batch of 16 conversations; the loss,
# over the unmasked tokens alone; which way each parameter reduces it; a step.
# The learning rate is high, because the model is tiny and little of it moves:
# for a large one, 1e-4 or 2e-4 is usual with LoRA.

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
# The model starts by writing answers as it would go on with a book. It first
# learns the form of answers, in a few dozen steps; then, slowly, what is asked.

import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(6.4, 3))
ax.plot(losses, color="C0", alpha=0.3)
smooth = torch.tensor(losses).unfold(0, 20, 1).mean(1)
ax.plot(range(19, len(losses)), smooth, color="C0")
ax.set(xlabel="step", ylabel="loss of the answers' tokens", yscale="log",
       title="First the form, then what is asked")
plt.show()

# %%
# ## After
#
# The same exam. An instruction's kind can be told from how it begins.

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
# From none to most. And where it errs, how?

# %% varies
wrong = [n for n in range(len(test)) if after[n] != expected[n]]
for n in wrong[:5]:
    print(fill(first[n][-1]["content"], 76))
    print(f"  wrote:    {after[n]}\n  expected: {expected[n]}\n")

# %% varies
# The form is right almost always; what is wrong is a name, or the order of a
# list. And look at the last two rows of the table. Where two or three things
# are stated, whoever picks one of them blindly is right in a third to a half of
# cases, and the model does no better: it has learned to say what *somebody*
# loves, and not to look up who. That is the typical fault of a model that is
# too small or was trained too little: it sounds like an answer. Neither the
# loss nor the last line would have told you; counting by kind does.
#
# ## What was learned, and what was not
#
# Here is the first question again, and one of a kind that it never saw.

for text in (question, "Sing me a song about the Grey Heron."):
    print(f"{text}\n  ⟹ {answers([[{'role': 'user', 'content': text}]])[0]}\n")

# %%
# What is asked for in a way that it knows, it does. Anything else it takes for
# the nearest thing that it knows. Large models are taught with thousands of
# kinds of instruction, and so seem to understand the next one.
#
# ## Next steps
#
# * In a recipe all of this takes a few lines: `finetune init sft` writes them,
#   and [Train on preferences and rewards](../how-to/preferences-and-rewards.md)
#   begins with one. It also counts what `max_length` cuts, refuses a template
#   that would be read otherwise than it was trained, and shows the mask.
# * `strategy.save(model, folder)` writes the thin matrices alone, about 1.2 MB.
# * Train all parameters instead: `Full` from `finetune_freeze.full`, with a
#   learning rate of 2e-3. Is it better, and by how much?
# * Next tutorial: [preferences](11_preferences.md), where two answers are
#   compared, and nobody says which words are right.
