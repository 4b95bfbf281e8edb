"""
# Summarisation: write a text, token by token

Train an encoder-decoder to summarise a dialogue in two sentences. See what it
learns from, how writing differs from learning, and why the same model writes
differently with other options.

**You will learn** what encoder, decoder and labels are, on real token ids;
what teacher forcing is; how to compute ROUGE by hand; what greedy search, beam
search, temperature and top-p do.

**You need** the [tutorial on sentiment](02_sentiment.md), which explains
tokens, and an installation with ROUGE and matplotlib:
`pip install -c constraints.txt ".[seq2seq,report]"` in a clone of the
repository. The program downloads nothing. The first time, it also trains its
small base model on your machine, which takes some minutes, and keeps it.
"""

# %%
# ## The dialogues
#
# In Skerrow, an invented harbour town, people make deals: about salt, a passage
# on a ship, lessons on the church organ. Each row has a `document`, the
# dialogue, and a `summary`: who wanted what, and what they agreed on.

from finetune_samples.catalogue import load

talk = load("harbour-dialogues")
train, test = (
    [{"document": row["dialogue"], "summary": row["summary"]} for row in rows]
    for rows in (talk["train"], talk["test"][:100])
)
print(f"{len(train)} dialogues for training, {len(test)} for testing\n")
print(test[1]["document"])

# %%
# And this is its summary:

from textwrap import fill

print(fill(test[1]["summary"], 76))

# %%
# No sentence of the summary appears in the dialogue. The first turns are only
# greetings. There are two prices and two days, and only one of each is agreed
# on. The writer must find a few words in distant places and put them into new
# sentences.
#
# ## Two halves
#
# Our model is built like T5, with 1.2 million parameters. It was trained on
# this machine on texts about the town, but on no summary. It has two halves.
# The **encoder** reads the whole dialogue at once. The **decoder** writes one
# token after the other. Before each token, it looks at what it has written so
# far and, by **cross-attention**, at everything that the encoder has read.

from finetune_samples.bases import base
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

folder = base("seq2seq")  # the first time, this takes some minutes
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSeq2SeqLM.from_pretrained(folder)
for name in ("encoder", "decoder"):
    half = sum(p.numel() for n, p in model.named_parameters() if name in n)
    print(f"{name}: {half:,} parameters")
print(f"embeddings, used by both: {model.shared.weight.numel():,}")

# %%
# ## What it learns from
#
# The **preprocessor** turns both texts into token ids: `input_ids` for the
# encoder, and `labels` for what the decoder should write. `counts` says that
# nothing was truncated.

from finetune_seq2seq.summarization import SummarizationPreprocessor

preprocessor = SummarizationPreprocessor(max_source_length=256, max_target_length=64)


def features_of(rows):
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    made = preprocessor.features(columns, tokenizer)
    return made, [dict(zip(made, row)) for row in zip(*made.values())]


columns, features = features_of(train)
for name, count in preprocessor.counts(columns).items():
    print(f"{name}: {count:,}")

# %%
# Texts of a batch must have the same length, so shorter ones are padded. The
# **collator** does that, and it also makes the `decoder_input_ids`. To see
# them, take two very short summaries.

collate = preprocessor.collator(tokenizer, model)
_, short = features_of([
    {"document": "Is the salt in?", "summary": "The salt is in Skerrow."},
    {"document": "Is he old?", "summary": "He is."},
])
batch = collate(
    [{n: f[n] for n in ("input_ids", "attention_mask", "labels")} for f in short]
)


def shown(id_):
    return "" if id_ == -100 else f" `{tokenizer.convert_ids_to_tokens(id_)}`"


for row in (0, 1):
    print("| decoder reads | and must write |\n|:--|:--|")
    read = batch["decoder_input_ids"][row].tolist()
    write = batch["labels"][row].tolist()
    for before, after in zip(read, write):
        print(f"| {before}{shown(before)} | {after}{shown(after)} |")
    print()

# %%
# Read the first table line by line. The decoder starts with a token without
# meaning (T5 uses `<pad>`, 0), and should write the first token. Then it reads
# that token and should write the second, and so on, until it should write
# `</s>`, the end. The decoder inputs are the labels, **shifted** by one.
#
# In the second table, the summary is shorter and is padded. The label there is
# −100, which the loss skips, because a model should not learn to write padding.
# (What the decoder reads there does not matter.)
#
# Note what the decoder reads: the *right* tokens, whatever it would have
# written itself. This is **teacher forcing**. It makes training fast: all
# positions of a summary are learned at once, because each already has the right
# past.
#
# ## The loss
#
# For each position, the model gives a number to each of its 2,304 tokens. The
# loss is −ln of the probability of the right one, averaged over all positions
# except those with −100. By hand, and by the model:

import torch

with torch.no_grad():
    out = model(**batch)
right = batch["labels"] != -100
nll = -out.logits.log_softmax(-1)
by_hand = nll[right].gather(1, batch["labels"][right][:, None]).mean()
print(f"by hand {by_hand:.4f}, by the model {out.loss:.4f}")

# %% hide
assert abs(by_hand - out.loss) < 1e-4
assert (batch["decoder_input_ids"][:, 0] == tokenizer.pad_token_id).all()
assert (batch["labels"][1] == -100).any()

# %%
# ## Train
#
# We train for two epochs over all dialogues, eight at a time. The learning rate
# is high, because the model is small. For a T5 from the Hub, use a tenth of it.

EPOCHS, BATCH, RATE = 2, 8, 3e-3
NAMES = ("input_ids", "attention_mask", "labels")


def fine_tune(model, features):
    draw = torch.Generator().manual_seed(0)
    order = torch.cat([
        torch.randperm(len(features), generator=draw) for _ in range(EPOCHS)
    ])
    steps = -(-len(order) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / (0.1 * steps), (1 - step / steps) / 0.9),
    )
    losses = []
    model.train()
    for numbers in order.split(BATCH):
        rows = [{n: features[i][n] for n in NAMES} for i in numbers.tolist()]
        loss = model(**collate(rows)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


losses = fine_tune(model, features)
model.eval()

import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(6.4, 2.8))
ax.plot(losses)
ax.set(xlabel="step", ylabel="loss", ylim=(0, None),
       title="First the sentences, then the facts")
plt.show()

# %%
# The curve falls steeply while the model learns what all summaries have in
# common. Then it falls slowly: the day, the price and the quay are different in
# each dialogue and must be found there.
#
# ## Writing is different
#
# Now there is no teacher. The model reads its own tokens, right or wrong. The
# simplest way to write is **greedy** search: take the most likely token, append
# it, and continue until the end token.

def source_of(rows):
    _, made = features_of([{"document": row["document"]} for row in rows])
    names = ("input_ids", "attention_mask")
    return collate([{n: f[n] for n in names} for f in made])


written = [model.config.decoder_start_token_id]
source = source_of(test[1:2])
with torch.no_grad():
    while written[-1] != tokenizer.eos_token_id and len(written) < 64:
        logits = model(**source, decoder_input_ids=torch.tensor([written])).logits
        written.append(int(logits[0, -1].argmax()))
greedy = tokenizer.decode(written, skip_special_tokens=True)
print(fill(greedy, 76))

# %%
# `generate` does the same for many rows at once, and keeps what it has already
# computed.


def write(rows, **how):
    texts = []
    for at in range(0, len(rows), 50):
        ids = model.generate(
            **source_of(rows[at : at + 50]), max_new_tokens=64, **how
        )
        texts += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return texts


GREEDY = {"num_beams": 1, "do_sample": False}
summaries = write(test, **GREEDY)
print(summaries[1] == greedy)

# %% hide
assert summaries[1] == greedy

# %%
# How much harder is it without a teacher? Compare the share of right tokens, if
# each has the right past, with the share of completely right summaries.

_, held = features_of(test)
right = places = 0
with torch.no_grad():
    for at in range(0, len(held), 50):
        batch = collate([{n: f[n] for n in NAMES} for f in held[at : at + 50]])
        guess, labels = model(**batch).logits.argmax(-1), batch["labels"]
        right += int(((guess == labels) & (labels != -100)).sum())
        places += int((labels != -100).sum())
whole = sum(s == row["summary"] for s, row in zip(summaries, test))
print(f"right tokens, the teacher at hand: {right / places:.0%}")
print(f"right summaries, all alone: {whole / len(test):.0%}")

# %%
# Many tokens are easy (`They will meet on`), and a summary is right only if all
# its hard ones are right. A low loss does not mean that the texts are good. You
# must let the model write, and look at the texts.
#
# ## ROUGE by hand
#
# There is more than one good summary, so we measure how much a text has in
# common with the reference. **ROUGE-L** finds the longest sequence of words
# that occurs in both in the same order, with other words in between allowed.
# Precision is its share of the written words, recall its share of the words of
# the reference, and F1 their harmonic mean.

wrote = "he wants six loads of salt for ten crowns".split()
reference = "he wants two loads of rope for ten crowns from her".split()


def longest_common(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = (
                table[i][j] + 1 if x == y
                else max(table[i][j + 1], table[i + 1][j])
            )
    return table[-1][-1]


common = longest_common(wrote, reference)
precision, recall = common / len(wrote), common / len(reference)
f1 = 2 * precision * recall / (precision + recall)
print(f"{common} words in common: he wants … loads of … for ten crowns")
print(f"precision {common}/{len(wrote)} = {precision:.2f}, "
      f"recall {common}/{len(reference)} = {recall:.2f}, F1 = {f1:.2f}")

# %%
# The library gives the same. **ROUGE-1** counts common words in any order, and
# **ROUGE-2** common pairs of neighbours.

from rouge_score.rouge_scorer import RougeScorer

scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
library = scorer.score(" ".join(reference), " ".join(wrote))
for name, score in library.items():
    print(f"{name}: {score.fmeasure:.2f}")

# %% hide
assert abs(library["rougeL"].fmeasure - f1) < 1e-9

# %%
# Note what it does not see: *six* loads of *salt* are not *two* of *rope*, and
# yet the score is high. ROUGE counts words, not facts.
#
# ## The scores, and a baseline
#
# A number alone says little. The classical baseline is **lead-3**: the first
# three sentences (or turns) as they are. For news it is hard to beat, because
# journalists start with the news. The people in our dialogues start with the
# weather.

from finetune_seq2seq.baselines import lead_3

leads = [lead_3(row["document"]) for row in test]


def rouge(texts):
    found = [scorer.score(row["summary"], t) for row, t in zip(test, texts)]
    return {
        name: sum(each[name].fmeasure for each in found) / len(found)
        for name in ("rouge1", "rouge2", "rougeL")
    }


base_model = AutoModelForSeq2SeqLM.from_pretrained(folder)
trained, model = model, base_model.eval()
before = write(test[:20], **GREEDY)  # some of it is enough
model = trained
table = {
    "lead-3": rouge(leads),
    "base model (20 texts)": rouge(before),
    "trained, greedy": rouge(summaries),
}
print("| | ROUGE-1 | ROUGE-2 | ROUGE-L |\n|---|---:|---:|---:|")
for name, scores in table.items():
    cells = " | ".join(f"{value:.2f}" for value in scores.values())
    print(f"| {name} | {cells} |")

# %% hide
assert table["trained, greedy"]["rougeL"] >= 0.6, table
assert table["lead-3"]["rougeL"] < 0.3, table

# %%
# ## Other ways to write
#
# Greedy search never looks ahead. **Beam search** keeps several beginnings
# (four, for example), continues each, and keeps the four most likely ones. It
# finds texts that are more likely for the model as a whole.
#
# We can also **sample**: draw each token by its probability. The
# **temperature** divides the logits first: below 1, likely tokens become even
# more likely; above 1, the chances become more equal. **Top-p** keeps only the
# most likely tokens that together have the probability p, so that very unlikely
# tokens are never drawn.

ways = {
    "greedy": GREEDY,
    "four beams": {"num_beams": 4, "do_sample": False},
    "temperature 0.7": {"do_sample": True, "temperature": 0.7, "top_k": 0},
    "temperature 1.5": {"do_sample": True, "temperature": 1.5, "top_k": 0},
    "temperature 1.5, top-p 0.8": {
        "do_sample": True, "temperature": 1.5, "top_k": 0, "top_p": 0.8,
    },
}
texts, rouge_l = {}, {}
print("| | ROUGE-L |\n|---|---:|")
for name, how in ways.items():
    torch.manual_seed(0)
    texts[name] = summaries if name == "greedy" else write(test, **how)
    rouge_l[name] = rouge(texts[name])["rougeL"]
    print(f"| {name} | {rouge_l[name]:.2f} |")

# %% hide
assert rouge_l["temperature 1.5"] < rouge_l["greedy"] - 0.05, rouge_l
assert rouge_l["temperature 1.5"] < rouge_l["temperature 1.5, top-p 0.8"], rouge_l
assert rouge_l["four beams"] > rouge_l["greedy"] - 0.05, rouge_l

# %%
# The same dialogue, written in each way:

for name, several in texts.items():
    print(f"{name}:\n{fill(several[1], 76)}\n")

# %%
# If there is one right answer, as here, beams help little, and sampling at a
# high temperature does harm: at 1.5, ROUGE-L falls from 0.99 to 0.89. If there
# are many right answers (a story, a reply), greedy search and beams become dull
# and repetitive, and sampling gives more varied texts.
#
# ## What is wrong
#
# Read the errors.

# %% varies
wrong = [
    (s, row["summary"]) for s, row in zip(summaries, test)
    if s != row["summary"]
]
print(f"{len(wrong)} of {len(test)} differ from the reference. Two of them:\n")
for text, reference in wrong[:2]:
    print(fill(f"written:   {text}", 76))
    print(fill(f"reference: {reference}", 76), end="\n\n")

# %%
# The sentences are perfect, and a fact is wrong. Large generative models make
# such errors, too: the text is fluent and wrong. No score that counts common
# words shows it. You see it if you read the texts.
#
# ## Next steps
#
# * The same as a recipe: `finetune init summarization > recipe.yaml`, then
#   `finetune train recipe.yaml`. The section `generation` of a recipe says how
#   to write, and `finetune predict` takes other options of it: [Fine-tune a
#   model that writes](../how-to/write-text.md).
# * Give the model only 500 of the dialogues, or six epochs, and watch the share
#   of completely right summaries.
# * Next tutorial: [translation](06_translation.md), where the words must be put
#   into another order.
