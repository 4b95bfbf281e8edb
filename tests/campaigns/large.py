"""Give the command large inputs, and measure CPU time and memory of each: ``python tests/campaigns/large.py``.

Each input is read in a process of its own, by ``finetune check`` and by the stock stack (``datasets.load_dataset`` and,
where rows are read, ``map`` with the tokenizer). Inputs that no run can use have to be refused within `REFUSED` CPU
seconds and mebibytes. Documents and rows that are used must not take more memory than the stock stack does, and not
more memory with four times the rows. The records and details of an evaluation with many labels are measured too. Memory
is the peak of the process, less what it had before.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import math
import multiprocessing
import resource
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from command import PRELOADED, TRACEBACK
from scorecard import Line, record

REFUSED = (5.0, 500.0)
"""CPU seconds and MiB that a refusal may take."""
LIMIT = 15
"""CPU seconds after which the stock stack is stopped with an input that should be refused."""
LONGEST = 150
"""CPU seconds after which any other process is stopped."""
ROWS = (25_000, 100_000)
LABELS = 5_000


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a process took, and how it ended."""

    seconds: float
    """CPU time."""
    mebibytes: float
    """Peak of its memory, less what it had before."""
    outcome: str
    """``refused``, ``done``, ``stopped`` or the error."""
    size: int = 0
    """Of what it made, in bytes."""

    def __str__(self) -> str:
        memory = "" if math.isnan(self.mebibytes) else f", {self.mebibytes:,.0f} MiB"  # a killed process tells none
        return f"{self.outcome} ({self.seconds:.1f} s{memory})"


def cost_of(function: Callable[..., tuple[str, int]], *arguments: Any, limit: int = LONGEST) -> Cost:
    """Call a function of a module in a process of its own that has imported the libraries.

    Args:
        function: Returns how it ended and the size of what it made.
        *arguments: Of the function.
        limit: CPU seconds after which the process is stopped.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, function, arguments, limit))
    process.start()
    sender.close()
    try:
        found: Cost | None = receiver.recv()
    except EOFError:
        found = None
    process.join()
    if found is not None:
        return found
    is_stopped = process.exitcode == -signal.SIGXCPU
    outcome = "stopped" if is_stopped else f"died with exit code {process.exitcode}"
    return Cost(seconds=limit, mebibytes=float("nan"), outcome=outcome)


def _child(sender: Any, function: Callable[..., tuple[str, int]], arguments: tuple[Any, ...], limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (limit + int(time.process_time()) + 1, resource.RLIM_INFINITY))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before, started = _memory("VmRSS"), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        outcome, size = function(*arguments)
    seconds = time.process_time() - started
    sender.send(Cost(seconds=seconds, mebibytes=_memory("VmHWM") - before, outcome=outcome, size=size))


def _memory(name: str) -> float:
    """Return one of the figures of this process's memory, in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(name)


# --- what is called


def check(recipe: str) -> tuple[str, int]:
    """Check the data of a recipe with the command."""
    from finetune.cli import main

    said, code = io.StringIO(), 1
    with contextlib.redirect_stderr(said):
        try:
            main(["check", recipe, "--samples", "0"], prog_name="finetune", standalone_mode=True)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except Exception as error:  # noqa: BLE001, what a user would see as a traceback
            return f"{TRACEBACK}: {type(error).__name__}", 0
    return {0: "done", 2: "refused"}.get(code, f"exit code {code}"), 0


def greedy(recipe: str) -> tuple[str, int]:
    """Refuse a recipe with much memory; the campaign must notice it."""
    held = bytearray(b"x") * (600 << 20)
    return "refused", len(held)


def stock(path: str, base: str, column: str) -> tuple[str, int]:
    """Read a file with `datasets`, and tokenize a column."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    kind = "csv" if ".csv" in path else "json"
    with tempfile.TemporaryDirectory(prefix="campaign-stock-") as cache:
        try:
            rows = datasets.load_dataset(kind, data_files=path, cache_dir=cache)["train"]
            rows.map(
                lambda batch: tokenizer(batch[column], truncation=True, max_length=64),
                batched=True, remove_columns=rows.column_names,
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001, every error is an outcome
            return f"error {type(error).__name__}", 0
    return "done", 0


def evaluate(rows: int, labels: int) -> tuple[str, int]:
    """Make the records, scores and details of an evaluation, and return the size of the details as JSON."""
    import datasets
    import numpy as np

    from finetune.interfaces import Predictions
    from finetune_text.classification import TextClassificationPreprocessor
    from finetune_text.classification_evaluator import TextClassificationEvaluator

    names = tuple(f"label{number}" for number in range(labels))
    draw = np.random.default_rng(0)
    own = [{"labels": number % labels} for number in range(rows)]
    evaluator = TextClassificationEvaluator()
    records = evaluator.records(
        Predictions(
            examples=datasets.Dataset.from_dict({"text": ["a"] * rows}), features=own,
            outputs=draw.normal(size=(rows, labels)).astype(np.float32), tokenizer=None,
            preprocessor=TextClassificationPreprocessor(labels=names),
        )
    )  # fmt: skip
    evaluator.scores(records)
    return "done", len(json.dumps(evaluator.details(records)))


# --- the inputs


@dataclass(frozen=True, kw_only=True)
class Input:
    """A file that no run can use; written when it is needed."""

    name: str
    file: str
    write: Callable[[Path], None]
    is_recipe: bool = False
    """Whether it is a recipe; else it is data of text classification."""


def _gzip_bomb(path: Path, *, mebibytes: int = 1024) -> None:
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(b'{"text": "')
        for _ in range(mebibytes):
            file.write(b"x" * (1 << 20))


def _long(path: Path, opening: str, *, mebibytes: int = 100) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(opening)
        for _ in range(mebibytes):
            file.write("x" * (1 << 20))
        file.write('"\n')


def _deep(path: Path) -> None:
    good = '{"text": "fine", "label": "a"}\n'
    path.write_text(good + '{"text": "a", "label": "b", "tree": ' + "[" * 900 + "]" * 900 + "}\n", encoding="utf-8")


def _new_keys(path: Path) -> None:
    rows = [json.dumps({"text": "a", "label": "b", f"key{number}": 1}) for number in range(3_000)]
    path.write_text("\n".join(rows), encoding="utf-8")


def _wide(path: Path, *, columns: int = 1_000_000) -> None:
    names = ",".join(f"c{number}" for number in range(columns))
    path.write_text(f"text,label,{names}\na,b{',1' * columns}\n", encoding="utf-8")


def _aliases(path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 12):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    path.write_text("\n".join(lines), encoding="utf-8")


def _many_keys(path: Path) -> None:
    path.write_text("".join(f"key{number}: 1\n" for number in range(60_000)), encoding="utf-8")


REFUSALS = (
    Input(name="900 levels of JSON in an unused column", file="a.jsonl", write=_deep),
    Input(name="3,000 rows with a new key each", file="a.jsonl", write=_new_keys),
    Input(name="a CSV of 1,000,000 columns", file="a.csv", write=_wide),
    Input(name="1 MB of gzip, 1 GB of text", file="a.jsonl.gz", write=_gzip_bomb),
    Input(name="a line of 100 MB", file="a.jsonl", write=lambda path: _long(path, '{"text": "')),
    Input(name="a quoted field of 100 MB", file="a.csv", write=lambda path: _long(path, 'text,label\na,b\n"')),
    Input(name="YAML aliases that multiply", file="r.yaml", write=_aliases, is_recipe=True),
    Input(name="YAML 5,000 deep", file="r.yaml", is_recipe=True,
          write=lambda path: path.write_text("a: " + "[" * 5_000, encoding="utf-8") and None),
    Input(name="YAML of 60,000 keys", file="r.yaml", write=_many_keys, is_recipe=True),
)  # fmt: skip


@dataclass
class Figures:
    """What the inputs took."""

    refused: dict[str, Cost] = field(default_factory=dict)
    used: dict[str, Cost] = field(default_factory=dict)
    stock: dict[str, Cost] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def recipe_for(path: Path, base: Path) -> Path:
    """Write the recipe that classifies the rows of a file."""
    from finetune import recipe as recipes

    content = {
        "task": "text-classification", "model": str(base), "strategy": "full", "general_text": "none",
        "dataset": {"path": {"train": str(path)}, "validation_size": 0}, "score_base_model": False,
        "preprocessor": {"max_length": 64}, "output": str(path.parent / "run"),
    }  # fmt: skip
    written = path.with_name("recipe.yaml")
    written.write_text(recipes.dump(content), encoding="utf-8")
    return written


def refuse(chosen: Mapping[str, Input], base: Path, folder: Path, figures: Figures, *, stock_too: bool) -> None:
    """Measure inputs that have to be refused."""
    for name, each in chosen.items():
        path = folder / each.file
        each.write(path)
        found = cost_of(check, str(path if each.is_recipe else recipe_for(path, base)))
        figures.refused[name] = found
        seconds, mebibytes = REFUSED
        if found.outcome != "refused" or found.seconds > seconds or not found.mebibytes <= mebibytes:
            figures.problems.append(f"{name}: {found}")
        if stock_too and not each.is_recipe:
            figures.stock[name] = cost_of(stock, str(path), str(base), "text", limit=LIMIT)
        path.unlink()


def use(base: Path, folder: Path, figures: Figures, *, megabytes: int, rows: tuple[int, int]) -> None:
    """Measure a long document and many rows, beside the stock stack."""
    words = "the ship lay at the quay and the fog was thick . "
    document = words * (megabytes * 1_000_000 // len(words))
    texts = [(f"a document of {megabytes} MB", [document, "a short one", "a third", "a fourth"])]
    texts += [(f"{count:,} rows", [f"{words}{number}" for number in range(count)]) for count in rows]
    for name, content in texts:
        path = folder / "a.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for number, text in enumerate(content):
                file.write(json.dumps({"text": text, "label": "ab"[number % 2]}) + "\n")
        ours = figures.used[name] = cost_of(check, str(recipe_for(path, base)))
        theirs = figures.stock[name] = cost_of(stock, str(path), str(base), "text")
        if ours.outcome != "done":
            figures.problems.append(f"{name}: {ours}")
        elif ours.mebibytes > 1.05 * theirs.mebibytes + 10:
            figures.problems.append(f"{name}: more memory than stock: {ours}, {theirs}")
        path.unlink()
    few, many = (figures.used[f"{count:,} rows"] for count in rows)
    factor = rows[1] / rows[0]
    if many.seconds > 1.3 * factor * few.seconds or many.mebibytes > 1.3 * factor * few.mebibytes:
        figures.problems.append(f"not linear: {few}, {many}")


def score(rows: int, labels: int, figures: Figures, *, most: float = 500.0, bytes_per_label: int = 1_000) -> None:
    """Measure an evaluation with many labels."""
    found = figures.used[f"an evaluation of {rows:,} rows and {labels:,} labels"] = cost_of(evaluate, rows, labels)
    if found.outcome != "done" or found.size > bytes_per_label * labels:
        figures.problems.append(f"an evaluation: {found}, {found.size:,} bytes of details")
    logits = rows * labels * 4 / 2**20
    if found.mebibytes > most:
        figures.problems.append(
            f"the records of an evaluation of {rows:,} rows and {labels:,} labels take {found.mebibytes:,.0f} MiB, "
            f"where the logits are {logits:,.0f}: each row is a mapping of its labels"
        )


def summary(figures: Figures) -> Iterator[str]:
    """Yield what is said of each part."""
    refused = figures.refused.values()
    yield f"{sum(cost.outcome == 'refused' for cost in refused)} of {len(refused)} refused, the slowest in "
    yield f"{max(cost.seconds for cost in refused):.1f} CPU s, with {max(cost.mebibytes for cost in refused):,.0f} MiB "
    yield "at most; "
    yield "; ".join(f"{name}: {cost.seconds:.1f} s, {cost.mebibytes:,.0f} MiB" for name, cost in figures.used.items())
    if figures.problems:
        yield ". Not met: " + "; ".join(figures.problems)


def main() -> None:
    """Measure the line, and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=20, help="size of the long document")
    options, started = parser.parse_args(), time.monotonic()
    from finetune.testing.models import tiny_model
    from finetune.testing.tokenizers import tokenizer

    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="campaign-large-") as name:
        folder = Path(name)
        base = tiny_model("bert", tokenizer("bert", vocab_size=400), folder / "base")
        refuse({each.name: each for each in REFUSALS}, base, folder, figures, stock_too=True)
        use(base, folder, figures, megabytes=options.megabytes, rows=ROWS)
    score(2_000, LABELS, figures)
    for kind in ("refused", "used", "stock"):
        for what, cost in getattr(figures, kind).items():
            print(f"{kind:8} {what}: {cost}")
    record(
        Line(
            name="large inputs",
            goal=f"what no run can use is refused within {REFUSED[0]:.0f} CPU s and {REFUSED[1]:.0f} MiB; time and "
            "memory linear in rows; never more memory than stock; an evaluation within 500 MiB",
            stock="; ".join(f"{what}: {cost}" for what, cost in figures.stock.items()),
            ours="".join(summary(figures)),
            met=not figures.problems,
            not_covered="A document of the greatest size that a file may hold, 64 Mi characters; GPUs.",
        ),
        started=started,
    )


if __name__ == "__main__":
    main()
