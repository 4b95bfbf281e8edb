"""Mutate the recipe and the files of a run folder, and read them as the commands do.

``python tests/campaigns/fuzz_documents.py`` measures the line "fuzzed recipes and results": for 4 minutes, it spoils
recipes (read and planned), `result.json` (loaded, and made into a report, a card and a comparison), the manifest and
the trainer's state of a checkpoint (verified, resumed from, cleaned), `predictions.jsonl` (compared), `log.jsonl` (the
run is cleaned), the card of the base model and the configuration of an adapter (made into a card). Each is taken, or
refused with an error of finetune. ``--first N --files 1`` repeats file N of a seed.
"""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import argparse
import faulthandler
import json
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))

import mutations
import toy
import yaml
from make_fixtures import FIXTURES
from scorecard import Line, record

import finetune
from finetune import cleaning, report
from finetune import plan as plans
from finetune import recipe as recipes
from finetune.evaluation import comparison
from finetune.plugins import discover
from finetune.recipe import starter
from finetune.result import Result
from finetune.training import checkpoints
from finetune_hub import card
from finetune_hub.push import files_to_upload, find_problems

RUNS = sorted(FIXTURES.glob("format-*"))[-1]
PLUGINS = discover()


class Folder:
    """Finished runs, one that was stopped and their base model, copied so that they can be spoiled."""

    def __init__(self, place: Path, *, with_toy: bool = True) -> None:
        """Copy the fixtures, and train the toy task.

        Args:
            place: An empty folder.
            with_toy: Whether to train; it takes some seconds.
        """
        self.place = Path(shutil.copytree(RUNS, place / "runs"))
        self.kept = Path(shutil.copytree(RUNS, place / "kept"))
        for run in ("full", "lora"):
            for folder in (self.place, self.kept):
                for name in ("result.json", "recipe.yaml"):  # the base model lies here
                    path = folder / run / name
                    text = path.read_text(encoding="utf-8").replace("/srv/fixture/runs", str(self.place))
                    path.write_text(text, encoding="utf-8")
        self.finished = ["full", "lora"]
        if with_toy:
            content = toy.recipe(toy.base(place / "toy-base"), self.place / "toy")
            finetune.train(**content)
            shutil.copytree(self.place / "toy", self.kept / "toy")
            self.finished.append("toy")
        (self.kept / "base" / "README.md").write_text(README, encoding="utf-8")
        self.checkpoint = next(self.kept.glob("unfinished/checkpoint-*")).relative_to(self.kept)
        self.recipes = [(self.kept / "full" / "recipe.yaml").read_text(encoding="utf-8")]
        for name in PLUGINS.catalogues["tasks"].targets:
            text = starter.write(name, PLUGINS, strategy="lora", output="run")
            content = yaml.safe_load(text)
            self.recipes.append(recipes.dump({**content, "model": str(self.place / "base")}))

    def restore(self, name: str) -> Path:
        """Return a folder as it was before anything was spoiled."""
        shutil.rmtree(self.place / name, ignore_errors=True)
        return Path(shutil.copytree(self.kept / name, self.place / name))


README = """---
license: apache-2.0
language: [en, de]
base_model: user/name
datasets:
- user/data
model-index:
- name: it
  results: []
---

# It
"""

Use = Callable[[], object]


def spoil_json(text: str, other: str, draw: random.Random) -> tuple[bytes, str]:
    """Return a JSON document that is spoiled in its structure, or in its bytes."""
    if draw.random() < 0.8:
        content = json.loads(text)
        done = [mutations.mutate_tree(content, draw) for _ in range(draw.choice([1, 1, 1, 2, 4]))]
        return json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass"), ", ".join(done)
    changed, names = mutations.mutated(text.encode(), other.encode(), draw)
    return changed, ", ".join(names)


def spoil_yaml(text: str, other: str, draw: random.Random) -> tuple[bytes, str]:
    """Return a YAML document that is spoiled in its structure, or in its text."""
    if draw.random() < 0.6:
        content = yaml.safe_load(text)
        done = [mutations.mutate_tree(content, draw) for _ in range(draw.choice([1, 1, 1, 2, 4]))]
        written = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=draw.choice([20, 1000]))
        return written.encode("utf-8", "surrogatepass"), ", ".join(done)
    changed, names = mutations.mutated(text.encode(), other.encode(), draw)
    return changed, ", ".join(names)


def a_recipe(folder: Folder, draw: random.Random) -> tuple[Use, str]:
    """Spoil a recipe; it is read and planned."""
    content, done = spoil_yaml(draw.choice(folder.recipes), draw.choice(folder.recipes), draw)
    path = folder.place / "recipe.yaml"
    path.write_bytes(content)
    return lambda: plans.make(recipes.read(path), PLUGINS), done


def pages(run: Path, others: Path) -> None:
    """Load a result, and make everything that is made of it."""
    result = Result.load(run)
    report.write(result, run)
    card.write(result, run)
    card.write(result, run, repo="user/name")
    list(find_problems(result, run, files_to_upload(run, with_data=False)))
    report.comparison_page(comparison.compare([others, run]))
    cleaning.examine(run)


def a_result(folder: Folder, draw: random.Random) -> tuple[Use, str]:
    """Spoil the result of a finished run."""
    run = folder.restore(draw.choice(folder.finished))
    path = run / "result.json"
    other = (folder.kept / draw.choice(folder.finished) / "result.json").read_text(encoding="utf-8")
    content, done = spoil_json(path.read_text(encoding="utf-8"), other, draw)
    path.write_bytes(content)
    return lambda: pages(run, folder.kept / run.name), f"{run.name}, {done}"


def lines_of_a_run(name: str, folder: Folder, draw: random.Random) -> tuple[Use, str]:
    """Spoil a file of JSON lines of a finished run."""
    run = folder.restore(draw.choice(folder.finished))
    path = run / name
    lines = path.read_text(encoding="utf-8").splitlines()
    if draw.random() < 0.7:
        number = draw.choice([0, draw.randrange(len(lines))])
        content = json.loads(lines[number])
        done = mutations.mutate_tree(content, draw)
        lines[number] = json.dumps(content)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        changed, names = mutations.mutated(path.read_bytes(), path.read_bytes(), draw)
        path.write_bytes(changed)
        done = ", ".join(names)
    return lambda: pages(run, folder.kept / run.name), f"{run.name}, {done}"


def predictions(folder: Folder, draw: random.Random) -> tuple[Use, str]:
    """Spoil the predictions of a run."""
    return lines_of_a_run("predictions.jsonl", folder, draw)


def a_log(folder: Folder, draw: random.Random) -> tuple[Use, str]:
    """Spoil the log of a run."""
    return lines_of_a_run("log.jsonl", folder, draw)


def a_manifest(folder: Folder, draw: random.Random) -> tuple[Use, str]:
    """Spoil the manifest of a checkpoint; in half of the cases with a digest that fits."""
    run = folder.restore(folder.checkpoint.parent.name)
    checkpoint = run / folder.checkpoint.name
    path = checkpoint / checkpoints.MANIFEST
    text = path.read_text(encoding="utf-8")
    identity = identity_of(json.loads(text))
    content, done = spoil_json(text, text, draw)
    if draw.random() < 0.7:
        content, fits = with_digest(content)
        done += ", with a digest that fits" * fits
    path.write_bytes(content)
    return lambda: resume(run, checkpoint, identity), done


def a_state(folder: Folder, draw: random.Random) -> tuple[Use, str]:
    """Spoil the trainer's state in a checkpoint that then says that it is whole, and that the best one counts."""
    run = folder.restore(folder.checkpoint.parent.name)
    checkpoint = run / folder.checkpoint.name
    path = checkpoint / checkpoints.TRAINER_STATE
    text = path.read_text(encoding="utf-8")
    manifest = json.loads((checkpoint / checkpoints.MANIFEST).read_text(encoding="utf-8"))
    facts = {**manifest["identity"], "training.load_best_model_at_end": True}
    identity = identity_of({**manifest, "identity": facts})
    content, done = spoil_json(text, text, draw)
    path.write_bytes(content)
    checkpoints.seal(checkpoint, identity=identity, step=manifest["step"])
    return lambda: resume(run, checkpoint, identity), done


def identity_of(manifest: Mapping[str, Any]) -> checkpoints.Identity:
    """Return what a manifest says about its run."""
    return checkpoints.Identity(manifest["identity"], manifest["circumstances"])


def with_digest(content: bytes) -> tuple[bytes, bool]:
    """Return a manifest with a digest that fits it, and whether it is a JSON object, so that it can have one."""
    try:
        manifest = json.loads(content)
        fitting = {**manifest, checkpoints.OWN: checkpoints._own_digest(manifest)}
        return json.dumps(fitting).encode(), True
    except (ValueError, AttributeError, TypeError, RecursionError):
        return content, False


def resume(run: Path, checkpoint: Path, identity: checkpoints.Identity) -> None:
    """Look for the newest checkpoint, and for what can be cleaned."""
    cleaning.examine(run)
    checkpoints.newest(run, identity)
    checkpoints.verify(checkpoint)


def a_readme(folder: Folder, draw: random.Random) -> tuple[Use, str]:
    """Spoil the card of the base model."""
    run, path = folder.restore("full"), folder.place / "base" / "README.md"
    head = README.split("---\n")[1]
    content, done = spoil_yaml(head, head, draw)
    path.write_bytes(b"---\n" + content + b"---\n\n# It\n" if draw.random() < 0.9 else content)

    def use() -> None:
        result = Result.load(run)
        card.write(result, run)
        list(find_problems(result, run, files_to_upload(run, with_data=False)))

    return use, done


def an_adapter(folder: Folder, draw: random.Random) -> tuple[Use, str]:
    """Spoil the configuration of an adapter."""
    run = folder.restore("lora")
    path = run / "adapter_config.json"
    text = path.read_text(encoding="utf-8")
    content, done = spoil_json(text, text, draw)
    path.write_bytes(content)
    return lambda: pages(run, folder.kept / "lora"), done


KINDS: Mapping[str, Callable[[Folder, random.Random], tuple[Use, str]]] = {
    "recipe": a_recipe,
    "result": a_result,
    "manifest": a_manifest,
    "recipe again": a_recipe,  # it is fast, and the file that people write
    "predictions": predictions,
    "state of the trainer": a_state,
    "result again": a_result,
    "log": a_log,
    "card of the base model": a_readme,
    "configuration of an adapter": an_adapter,
}
"""What is spoiled, in turn."""


@dataclass
class Figures(mutations.Tally):
    """What the documents showed."""

    documents: Counter[str] = field(default_factory=Counter)
    """Kind → how many were read."""


def measure(
    *, seed: int, folder: Folder, seconds: float, files: int | None = None, first: int = 0,
    kinds: Mapping[str, Callable[[Folder, random.Random], tuple[Use, str]]] = KINDS,
) -> Figures:  # fmt: skip
    """Read spoiled documents, each kind in turn.

    Args:
        seed: Seed of everything.
        folder: What is spoiled.
        seconds: When to stop.
        files: How many to read at most.
        first: Number of the first one.
        kinds: What to spoil, and how.
    """
    figures, names = Figures(seed), list(kinds)
    for run in folder.finished:  # what is not spoiled is taken
        pages(folder.restore(run), folder.kept / run)
    ends = time.monotonic() + seconds
    for number in mutations.numbers(first, files):
        if time.monotonic() > ends:
            break
        name, draw = names[number % len(names)], random.Random(f"{seed}-{number}")
        use, done = kinds[name](folder, draw)
        figures.attempt(use, f"{number}: {name}: {done}")
        figures.documents[name.removesuffix(" again")] += 1
        if name == "card of the base model":
            folder.restore("base")
    return figures


def main() -> None:
    """Measure the line, and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--files", type=int, help="most documents to read")
    parser.add_argument("--first", type=int, default=0, help="number of the first document")
    parser.add_argument("--seed", type=int, default=0)
    options, started = parser.parse_args(), time.monotonic()
    warnings.simplefilter("ignore")
    faulthandler.enable()
    with tempfile.TemporaryDirectory(prefix="campaign-fuzz-") as place:
        found = measure(
            seed=options.seed,
            folder=Folder(Path(place)),
            seconds=60 * options.minutes,
            files=options.files,
            first=options.first,
        )
    print("\n".join([*found.crashes, *(f"hang: {where}" for where in found.hangs), f"{found.kinds} {found.documents}"]))
    counts = ", ".join(f"{count:,} × {name}" for name, count in found.documents.items())
    record(
        Line(
            name="fuzzed recipes and results",
            goal="0 exceptions other than errors of finetune, 0 hangs in 4 minutes",
            stock="not measured",
            ours=f"{found.files:,} documents in {options.minutes:g} minutes ({counts}): {found.refused:,} refused, "
            f"{found.loaded:,} taken, {found.crashed} crashes, {len(found.hangs)} hangs",
            met=not found.crashes and not found.hangs and options.minutes >= 4,
            not_covered="Weights and states in a binary format; the line of damaged checkpoints has these.",
        ),
        started=started,
    )


if __name__ == "__main__":
    main()
