"""Damage every file of a checkpoint in every way, and look whether it is noticed and the older checkpoint taken.

``python tests/campaigns/damaged.py`` measures the line "damaged checkpoints", for a full fine-tuning and for LoRA. Each
file of the newest checkpoint, its manifest too, is deleted, truncated at 5 places, filled with zeros, made longer,
replaced by the same file of the older checkpoint, and has one bit flipped at 50 places. What `finetune train --resume`
asks then has to name the file and return the older checkpoint. One damage of each file is also resumed for real, with
the command: the run has to end with the weights of one that was never stopped.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import command
import small
from scorecard import Line, record

from finetune.errors import BadCheckpoint
from finetune.training.checkpoints import MANIFEST, Identity, newest

KINDS = ("full", "LoRA")
OLDER, NEWER = 4, 5
"""Steps of the two checkpoints."""
FLIPS = 50

Damage = tuple[str, Callable[[Path], None]]
"""What is done, and the function that does it to a file."""


@dataclass
class Figures:
    """What the trials showed."""

    seed: int
    files: int = 0
    trials: int = 0
    noticed: int = 0
    """The damage was noticed, the file named, and the older checkpoint taken."""
    resumed: int = 0
    """Runs that were really resumed."""
    equal: int = 0
    """Resumed runs that ended with the weights, predictions and scores of the run that was never stopped."""
    extra: int = 0
    """Files that were added to a checkpoint."""
    harmless: int = 0
    """Added files that changed nothing: the run resumed from the checkpoint, and ended equal to the bit."""
    problems: list[str] = field(default_factory=list)


def damages(path: Path, older: Path, draw: random.Random, *, flips: int) -> Iterator[Damage]:
    """Yield every damage of a file.

    Args:
        path: The file.
        older: The same file of the older checkpoint; it need not exist.
        draw: Chooses the bits.
        flips: How many bits to flip, one at a time.
    """
    size, content = path.stat().st_size, path.read_bytes()
    yield "deleted", Path.unlink
    for length in sorted({0, 1, size // 4, size // 2, size - 1} - {size}):
        yield f"truncated at {length}", lambda file, length=length: file.write_bytes(content[:length])
    if content.strip(b"\0"):
        yield "zeros", lambda file: file.write_bytes(bytes(size))
    yield "longer", lambda file: file.write_bytes(content + b"\0")
    if older.is_file() and older.read_bytes() != content:
        yield "from the older checkpoint", lambda file: file.write_bytes(older.read_bytes())
    for bit in sorted(draw.sample(range(8 * size), min(flips, 8 * size))):
        yield f"bit {bit} flipped", lambda file, bit=bit: file.write_bytes(flipped(content, bit))


def flipped(content: bytes, bit: int) -> bytes:
    """Return content with one bit flipped."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def interrupted(recipes: small.Recipes, kind: str, *, steps: int) -> tuple[Path, Path]:
    """Return a run that was never stopped, and the same one as a crash after step `NEWER` would leave it."""
    whole = recipes.folder / f"{kind}-whole"
    recipe = recipes.write(kind, whole, steps=steps, save_total_limit=steps)
    ended = command.call(["train", str(recipe), "--quiet"])
    if ended.exit_code:
        raise RuntimeError(f"{kind}: {ended.output}")
    run = recipes.folder / f"{kind}-stopped"
    run.mkdir()
    recipes.write(kind, run, steps=steps, save_total_limit=steps)
    for name in ("recipe.yaml", "log.jsonl", *(f"checkpoint-{step}" for step in (OLDER, NEWER))):
        copy = shutil.copytree if (whole / name).is_dir() else shutil.copy2
        copy(whole / name, run / name)
    return whole, run


def measure(*, seed: int, folder: Path, kinds: Sequence[str] = KINDS, flips: int = FLIPS, resumes: int = 99) -> Figures:
    """Damage the checkpoints of kinds of recipe.

    Args:
        seed: Seed of the places.
        folder: Holds bases, data and runs.
        kinds: Names of `small.KINDS`.
        flips: How many bits of each file to flip.
        resumes: How many runs of each kind to resume for real; at most one for each file.
    """
    draw, recipes, figures = random.Random(seed), small.Recipes(folder), Figures(seed)
    for kind in kinds:
        whole, run = interrupted(recipes, kind, steps=NEWER + 2)
        manifest = json.loads((run / f"checkpoint-{NEWER}" / MANIFEST).read_text(encoding="utf-8"))
        identity = Identity(manifest["identity"], manifest["circumstances"])
        names = sorted(path.name for path in (run / f"checkpoint-{NEWER}").iterdir())
        for number, name in enumerate(names):
            figures.files += 1
            path, older = (run / f"checkpoint-{step}" / name for step in (NEWER, OLDER))
            done = list(damages(path, older, draw, flips=flips))
            for what, damage in done:
                try_to_find(run, path, damage, f"{kind}: {name}: {what}", identity, figures)
            if number < resumes:
                what, damage = done[number % len(done)]
                try_to_resume(whole, run, name, damage, f"{kind}: {name}: {what}", figures)
        unlisted(run, identity, f"{kind}: a file removed with its entry", figures)
        if resumes >= len(names):
            for name in ("notes.txt", "pytorch_model.bin", "model.safetensors.index.json", "scaler.pt"):
                extra_file(whole, run, name, kind, figures)
    return figures


def try_to_find(
    run: Path, path: Path, damage: Callable[[Path], None], where: str, identity: Identity, figures: Figures
) -> None:
    """Damage a file, ask for the newest checkpoint, and restore the checkpoint."""
    pristine = run.with_name("pristine")
    shutil.copytree(path.parent, pristine)
    figures.trials += 1
    damage(path)
    try:
        found, notes = newest(run, identity)
    except BadCheckpoint as error:
        figures.problems.append(f"{where}: {error}")
    else:
        named = path.name in " ".join(notes) or where.endswith("from the older checkpoint")
        if found.name == f"checkpoint-{OLDER}" and named and path.parent.name in " ".join(notes):
            figures.noticed += 1
        else:
            figures.problems.append(f"{where}: {found.name}, {notes}")
    for aside in (*run.glob("invalid-*"), path.parent):
        shutil.rmtree(aside, ignore_errors=True)
    pristine.rename(path.parent)


def unlisted(run: Path, identity: Identity, where: str, figures: Figures) -> None:
    """Remove a file together with its entry in the manifest."""
    newer = run / f"checkpoint-{NEWER}"

    def remove(manifest: Path) -> None:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        del content["files"]["optimizer.pt"]
        (newer / "optimizer.pt").unlink()
        manifest.write_text(json.dumps(content), encoding="utf-8")

    try_to_find(run, newer / MANIFEST, remove, where, identity, figures)


def try_to_resume(
    whole: Path, run: Path, name: str, damage: Callable[[Path], None], where: str, figures: Figures
) -> None:
    """Resume a copy of a run whose newest checkpoint is damaged, with the command."""
    copy = copied(run)
    damage(copy / f"checkpoint-{NEWER}" / name)
    ended = command.call(["train", str(run.with_suffix(".yaml")), "--quiet", "--resume", f"output={copy}"])
    figures.resumed += 1
    if ended.exit_code or f"checkpoint-{NEWER}" not in " ".join(small.notes(copy)):
        figures.problems.append(f"{where}: exit code {ended.exit_code}: {ended.output[-300:]}")
    elif small.digests(copy) != small.digests(whole) or small.scores(copy) != small.scores(whole):
        figures.problems.append(f"{where}: the run ended with other weights, predictions or scores")
    else:
        figures.equal += 1
    shutil.rmtree(copy)


def extra_file(whole: Path, run: Path, name: str, kind: str, figures: Figures) -> None:
    """Resume a copy of a run whose newest checkpoint holds one more file."""
    copy = copied(run)
    (copy / f"checkpoint-{NEWER}" / name).write_bytes(b"not part of the checkpoint")
    ended = command.call(["train", str(run.with_suffix(".yaml")), "--quiet", "--resume", f"output={copy}"])
    figures.extra += 1
    if ended.exit_code == 0 and small.digests(copy) == small.digests(whole):
        figures.harmless += 1
    else:
        figures.problems.append(f"{kind}: {name} added: exit code {ended.exit_code}: {ended.output[-300:]}")
    shutil.rmtree(copy)


def copied(run: Path) -> Path:
    """Return a copy of a run folder."""
    copy = run.with_name(f"{run.name}-copy")
    shutil.copytree(run, copy)
    return copy


def main() -> None:
    """Measure the line, and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=FLIPS, help="bits of each file to flip, one at a time")
    parser.add_argument("--seed", type=int, default=0)
    options, started = parser.parse_args(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="campaign-damaged-") as folder:
        found = measure(seed=options.seed, folder=Path(folder), flips=options.flips)
    print(f"seed {options.seed}: {found}")
    record(
        Line(
            name="damaged checkpoints",
            goal="every damage of every file is noticed, the file is named, and the older checkpoint is taken",
            stock="18 damages: 7 were accepted, and the run continued with other weights",
            ours=f"{found.noticed} of {found.trials} damages of {found.files} files noticed, the file named, the older "
            f"checkpoint taken; {found.equal} of {found.resumed} runs that were then resumed ended equal to the bit; "
            f"{found.harmless} of {found.extra} added files changed nothing",
            met=not found.problems,
            not_covered="A manifest that somebody rewrites on purpose, with digests that fit.",
        ),
        started=started,
    )


if __name__ == "__main__":
    main()
