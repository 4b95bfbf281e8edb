"""
# Translation: another language, and how to judge it

Teach a small encoder-decoder the language of an invented town. Judge its
translations with BLEU and chrF, and see what these scores do not notice.

**You will learn** to train with one call and to read its result; how BLEU is
put together, and chrF; why a translation is compared with a copy of its
source; how beams and length play in; how to sort errors by their kind.

**You need** [Summaries](05_summarisation.md), which explains encoder, decoder
and the ways of writing, and an installation with `pip install ".[docs]"` in a
clone of the repository. Nothing is downloaded. If the small model of the town
is not there yet, it is made first, which takes some minutes.
"""

# %%
# ## Harbourish
#
# The people of Skerrow speak English with strangers and Harbourish among
# themselves. Here are some sentences in both.

from finetune_samples.catalogue import load

data = load("harbour-translation")
print("| English | Harbourish |\n|---|---|")
for row in data["train"][:8]:
    print(f"| {row['translation']['en']} | {row['translation']['hb']} |")

# %%
# Look for the rules before you read on. The verb stands last. When and where
# come first. There is no word for *the*: it is an ending, `-a`. Who suffers
# the deed ends in `-en`, and the adjective, which follows its noun, ends as the
# noun does. Questions end in `ko`.
#
# So a translator cannot go word by word. Nor can it learn sentences by heart:
# who does what to whom in a sentence of the test occurs in none of the
# training.
#
# ## Train, with one call
#
# The tutorials before this one wrote the training loop out.
# `finetune.train` does the same, checks more, and keeps a record.

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
# The loss while it learned stands in the result's `log`, as everything does.

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
# **BLEU** looks for pieces of the translation in the reference: single words,
# and runs of two, three and four. For each length it computes the precision:
# the share of runs that occur. By hand, for one sentence:

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
# The four are multiplied, and the fourth root is taken (their geometric mean).
# Precision alone would reward whoever writes little and sure, so a text shorter
# than the reference pays a **brevity penalty**, exp(1 − reference / length).
# Here the lengths are equal, and nothing is paid.

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
# One wrong word of five, and nearly half of the score is gone, because that word
# spoils every run it stands in. BLEU is made for whole collections: there, the
# runs of all sentences are counted together.
#
# **chrF** does the same with letters, and minds recall as well: a word that is
# right but for its ending is nearly right. For a language that lives by its
# endings, that is fairer.
#
# ## What scores do not notice
#
# Translations of *The sailor sold a net at the market yesterday*, the first of
# them right:

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
judged = {}
print("| | BLEU | chrF |\n|---|---:|---:|")
for name, text in others.items():
    judged[name] = (bleu.sentence_score(text, [right]).score,
                    chrf.sentence_score(text, [right]).score)
    print(f"| {name} | {judged[name][0]:.0f} | {judged[name][1]:.0f} |")

# %% hide
assert sorted(judged.values(), key=lambda both: both[1])[-2] == judged["sold no net"]
assert judged["wrong endings"][0] < 15 and 55 < judged["wrong endings"][1] < 70

# %%
# *Sold no net* says the contrary, and has the best chrF of the wrong ones; wrong
# endings, which every child of Skerrow would understand, cost BLEU nearly
# everything, and chrF a third. Scores count what is on the paper. What it means, and how bad an
# error is, they do not know. They are good for comparing two models on the
# same test, and bad for promising that one is good.
#
# ## A copy
#
# Names and ports are the same in both languages, so even the English sentence
# itself, handed in as its own translation, scores something. That is the
# **copy baseline**; the result holds it.

copied = result.details["test"]["baseline"]["copy"]
before = result.base_model_scores["test"]
print("| | BLEU | chrF |\n|---|---:|---:|")
for name, found in (("the source, copied", copied),
                    ("the base, untouched", before),
                    ("trained", scores)):
    print(f"| {name} | {found['bleu']:.1f} | {found['chrf']:.1f} |")
print()
print(result.details["test"]["signature"]["bleu"])

# %% hide
assert scores["bleu"] >= 40 and scores["bleu"] > copied["bleu"] + 30, scores

# %%
# The last line is sacrebleu's **signature**: how words were told apart, whether
# case counts, which version counted. Two values of BLEU can be compared only if
# their signatures are equal.
#
# ## Read the translations
#
# The run folder is a model. Load it and ask.

model = finetune.load(output)
for text in ("The old captain does not sell the ship.",
             "Did two children hide a key at the chapel yesterday?",
             "Zoë carried the lamps to Vinterhavn."):
    row = {"translation": {"en": text}}
    print(f"{text}\n    {model.predict(row)['prediction']}")

# %%
# Now the test, and only where model and reference differ. Sort the differences
# by their kind: a wrong stem is an error of the dictionary, a wrong ending one
# of the grammar.

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
# likeliest as a whole. Whole texts have a catch: each further token makes a
# text less likely, so short ones have an advantage. `length_penalty` divides by
# the length, raised to that power: 0 leaves the advantage to short texts, 1
# takes the mean, and more favours long ones.

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
# A model that is sure of itself writes the same in each way: compare the rows.
# Beams pay where several beginnings look equally good, as in languages that
# nobody has invented for a tutorial.
#
# ## Next steps
#
# * Swap `source_lang` and `target_lang`, and the same data teach Harbourish to
#   English. It is harder: *the* and *a* must be guessed from an ending.
# * Train on 500 sentences, and see which kind of error grows.
# * Data of your own: a column `translation` as here, or two columns,
#   `source` and `target`; `finetune show translation` lists all options.
# * Many words, many languages: mBART, M2M100 and NLLB are trained by the same
#   recipe, with their own codes for `source_lang` and `target_lang`.
