"""
# Translation: another language, and how to evaluate it

Teach a small encoder-decoder the language of an invented town. Score its
translations with BLEU and chrF, and see what these scores do not notice.

**You will learn** to train with one call and to read its result; how BLEU and
chrF are computed; why a translation is compared with a copy of its source;
what beams and length do; how to sort errors by kind.

**You need** the [tutorial on summarisation](05_summarisation.md), which
explains encoder, decoder and the ways of writing, and an installation with
sacrebleu and matplotlib: `pip install -c constraints.txt ".[seq2seq,report]"`
in a clone of the repository. The program downloads nothing. The first time, it
also trains its small base model on your machine, which takes some minutes, and
keeps it.
"""

# %%
# ## Harbourish
#
# The people of Skerrow speak English with strangers and Harbourish at home.
# Here are some sentences in both languages.

from finetune_samples.catalogue import load

data = load("harbour-translation")
print("| English | Harbourish |\n|---|---|")
for row in data["train"][:8]:
    print(f"| {row['translation']['en']} | {row['translation']['hb']} |")

# %%
# Look for the rules before you read on. The verb comes last. Time and place
# come first. There is no word for *the*: it is an ending, `-a`. The object ends
# in `-en`, and the adjective, which follows its noun, has the same ending as
# the noun. Questions end in `ko`.
#
# So a translator cannot go word by word. It cannot memorise sentences either:
# each combination of subject, verb and object in the test set is missing from
# the training set.
#
# ## Train with one call
#
# In the last tutorial we wrote the training loop ourselves. `finetune.train`
# does the same, checks more, and keeps a record.

import tempfile

import finetune

output = tempfile.mkdtemp() + "/harbourish"
result = finetune.train(
    task="translation",
    model="sample:seq2seq",
    dataset={**data, "validation": data["validation"][:50]},
    preprocessor={"source_lang": "en", "target_lang": "hb",
                  "max_source_length": 64, "max_target_length": 64},
    strategy="full",
    training={"num_train_epochs": 6, "learning_rate": 3e-3,
              "per_device_train_batch_size": 32,
              "per_device_eval_batch_size": 100,
              "warmup_steps": 0.1, "logging_steps": 50,
              "eval_strategy": "no", "save_strategy": "no"},
    generation={"num_beams": 1, "max_new_tokens": 40},
    output=output,
)
scores = result.scores["test"]
print(f"steps: {result.steps}")
for name in ("bleu", "chrf", "length"):
    print(f"{name}: {scores[name]:.1f}")

# %%
# The loss during training is in the result's `log`.

import matplotlib.pyplot as plt

logged = [entry for entry in result.log if "loss" in entry]
fig, ax = plt.subplots(figsize=(6.4, 2.8))
ax.plot([e["step"] for e in logged], [e["loss"] for e in logged])
ax.set(xlabel="step", ylabel="loss", ylim=(0, None),
       title="A grammar is learned quickly, a dictionary slowly")
plt.show()

# %%
# ## What BLEU counts
#
# **BLEU** looks for parts of the translation in the reference: single words,
# and sequences of two, three and four words (n-grams). For each length it
# computes the precision: the share of n-grams that occur in the reference. By
# hand, for one sentence:

from collections import Counter

wrote = "Igest torgulora morraka masken koppot .".split()
reference = "Igest torgulora morraka masken salgot .".split()


def runs(words, n):
    return Counter(zip(*(words[at:] for at in range(n))))


precisions = []
for n in (1, 2, 3, 4):
    ours, theirs = runs(wrote, n), runs(reference, n)
    common = sum((ours & theirs).values())
    precisions.append(common / sum(ours.values()))
    print(f"runs of {n}: {common} of {sum(ours.values())}")

# %%
# The score is the geometric mean of the four (the fourth root of their
# product). Precision alone would reward a translation with few, safe words. So
# a text that is shorter than the reference gets a **brevity penalty**, exp(1 −
# reference / length). Here the lengths are equal, and there is no penalty.

from sacrebleu.metrics import BLEU, CHRF

product = 1.0
for precision in precisions:
    product *= precision
by_hand = 100 * product**0.25
library = BLEU(effective_order=True).sentence_score(
    "Igest torgulora morraka masken koppot.",
    ["Igest torgulora morraka masken salgot."],
).score
print(f"by hand {by_hand:.1f}, by sacrebleu {library:.1f}")

# %% hide
assert abs(by_hand - library) < 1e-6, (by_hand, library)

# %%
# One of five words is wrong (the full stop counts as a sixth), and almost half
# of the score is gone, because each n-gram with that word is wrong, too. BLEU
# is made for whole collections: the n-grams of all sentences are counted
# together.
#
# **chrF** does the same with characters, and also counts recall. A word with a
# wrong ending is almost right. For a language with many endings, that is
# fairer.
#
# ## What scores do not notice
#
# Here are translations of *The sailor sold a net at the market yesterday*. The
# first one is right:

right = "Igest torgulora morraka masken salgot."
others = {
    "right": right,
    "bought, not sold": "Igest torgulora morraka masken koppot.",
    "sold no net": "Igest torgulora morraka masken ne salgot.",
    "wrong endings": "Igest torgulor morrak maskena salgar.",
    "time last": "Torgulora morraka masken salgot igest.",
    "nothing but a start": "Igest torgulora.",
}
bleu, chrf = BLEU(effective_order=True), CHRF()
scored = {}
print("| | BLEU | chrF |\n|---|---:|---:|")
for name, text in others.items():
    scored[name] = (bleu.sentence_score(text, [right]).score,
                    chrf.sentence_score(text, [right]).score)
    print(f"| {name} | {scored[name][0]:.0f} | {scored[name][1]:.0f} |")

# %% hide
assert sorted(scored.values(), key=lambda both: both[1])[-2] == scored["sold no net"]
assert scored["wrong endings"][0] < 15 and 55 < scored["wrong endings"][1] < 70

# %%
# *Sold no net* says the opposite, and has the best chrF of the wrong ones.
# Wrong endings, which anyone in Skerrow would understand, cost almost all of
# BLEU, and a third of chrF. Scores count characters and words. They do not know
# what a sentence means, or how bad an error is. They are good for comparing two
# models on the same test, and bad for promising that one is good.
#
# ## A copy
#
# Names and ports are the same in both languages. So the English sentence itself
# gets a score, too, if we take it as the translation. This is the **copy
# baseline**. It is in the result.

copied = result.details["test"]["baseline"]["copy"]
before = result.base_model_scores["test"]
print("| | BLEU | chrF |\n|---|---:|---:|")
for name, found in (("the source, copied", copied),
                    ("base model", before),
                    ("trained", scores)):
    print(f"| {name} | {found['bleu']:.1f} | {found['chrf']:.1f} |")
print()
print(result.details["test"]["signature"]["bleu"])

# %% hide
assert scores["bleu"] >= 40 and scores["bleu"] > copied["bleu"] + 30, scores

# %%
# The last line is sacrebleu's **signature**: how words were split, whether case
# counts, which version counted. You can compare two BLEU scores only if their
# signatures are equal.
#
# ## Read the translations
#
# The run folder is a model. Load it and translate.

model = finetune.load(output)
for text in ("The old captain does not sell the ship.",
             "Did two children hide a key at the chapel yesterday?",
             "Zoë carried the lamps to Vinterhavn."):
    row = {"translation": {"en": text}}
    print(f"{text}\n    {model.predict(row)['prediction']}")

# %%
# Now the test set, and only where model and reference differ. Sort the
# differences by kind: a wrong stem is an error of vocabulary, a wrong ending is
# an error of grammar.

import os

test = data["test"]
records = model.predict(test)
kinds, examples = Counter(), []
for row, record in zip(test, records):
    said = record["prediction"].rstrip(".?").split()
    wanted = row["translation"]["hb"].rstrip(".?").split()
    if said == wanted:
        continue
    if len(said) != len(wanted):
        kind = "words missing or added"
    else:
        a, b = next((a, b) for a, b in zip(said, wanted) if a != b)
        stem = len(os.path.commonprefix([a.lower(), b.lower()]))
        kind = "wrong ending" if stem >= 3 else "wrong word"
    kinds[kind] += 1
    examples.append((kind, record["prediction"], row["translation"]))

# %% varies
print("| kind | sentences |\n|---|---:|")
for kind, count in kinds.most_common():
    print(f"| {kind} | {count} |")
print(f"| none: the same as the reference | {len(test) - sum(kinds.values())} |")
print()
for kind, said, pair in examples[:4]:
    print(f"{pair['en']}\n    written:   {said}\n    reference: {pair['hb']}"
          f"\n    ({kind})")

# %%
# ## Beams and length
#
# **Beam search** keeps several beginnings at a time and takes the text that is
# most likely as a whole. There is a catch: each further token makes a text less
# likely, so short texts have an advantage. `length_penalty` divides by the
# length, raised to that power: 0 keeps the advantage of short texts, 1 takes
# the mean, and more favours long texts.

print("| | BLEU | chrF | tokens |\n|---|---:|---:|---:|")
ways = {
    "greedy": {"num_beams": 1},
    "four beams, length_penalty 1": {"num_beams": 4, "length_penalty": 1.0},
    "four beams, length_penalty 0": {"num_beams": 4, "length_penalty": 0.0},
}
found = {}
references = [[row["translation"]["hb"] for row in test[:150]]]
for name, how in ways.items():
    several = model.with_generation(**how).predict(test[:150])
    texts = [record["prediction"] for record in several]
    found[name] = BLEU().corpus_score(texts, references).score
    tokens = sum(record["tokens"] for record in several) / len(several)
    print(f"| {name} | {found[name]:.1f} "
          f"| {CHRF().corpus_score(texts, references).score:.1f} "
          f"| {tokens:.1f} |")

# %% hide
assert max(found.values()) - min(found.values()) < 15, found

# %%
# A model that is certain writes almost the same in each way: compare the rows.
# Beams help if several beginnings are about equally likely, which is common in
# real languages.
#
# ## Next steps
#
# * Swap `source_lang` and `target_lang`, and the same data teaches Harbourish
#   to English. It is harder: the model must guess *the* and *a* from an ending.
# * Train on 500 sentences, and see which kind of error grows.
# * Your own data: a column `translation` as here, or two columns, `source` and
#   `target`. `finetune show translation` lists all options.
# * The same recipe trains models for many languages: mBART, M2M100 and NLLB.
#   `source_lang` and `target_lang` are then the codes of that model.
