"""Files of a stranger run no code, open no socket and write nothing outside their folder: measured with canaries.

Each attack changes one thing in a copy of finished runs, of a base model or of data, as a stranger could, and calls the
commands that read it. A command runs in a process whose operations Python reports (`sys.addaudithook`):

* a canary module writes a file if it is imported or called, and a pickle does so if it is read;
* each socket that is connected or bound, and each program that is started, is written down and refused;
* so is each file that is opened for writing, renamed or removed outside the folder of the trial.

``python tests/campaigns/hostile.py`` tries everything.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import command
import hostile_files as files
from scorecard import ROOT, Line, record

sys.path.append(str(ROOT / "tests" / "core"))  # for `toy`, also in the processes of the commands

EVENTS, SUNG, OUTSIDE = "events.txt", "sung", "outside"
"""Names in the folder of a trial: what the hook wrote, what the canary wrote, and where nothing may change."""

SOCKETS = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname")
PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn")
WRITES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.link", "os.symlink", "os.truncate")
FOLLOWING = ("os.chmod", "os.truncate")
"""Those that change what a link leads to, and not the link."""
IPV6 = (("::1", 0),)
"""urllib3 binds a socket to this address, and closes it, to learn whether the machine has IPv6."""
HARMLESS_PROGRAMS = ("lscpu", "uname")

PREDICT = ["predict", "RUN", "--text", "the ship"]
READING = (
    PREDICT, ["evaluate", "RUN", "--data", "rows.csv"], ["card", "RUN"], ["report", "RUN"],
    ["push", "RUN", "someone/model", "--check"], ["compare", "RUN", "RUN"],
)  # fmt: skip
"""Commands that read a finished run."""
TRAINING = (["check", "RUN/recipe.yaml"], ["train", "RUN/recipe.yaml", "output=again", "--quiet"])
"""Commands that read the recipe of a run."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One change of files, and the commands that read them."""

    name: str
    kind: str
    """The line of the table in which it is counted."""
    plant: Callable[[Path], None]
    """Changes the copy that it gets the folder of."""
    commands: Sequence[Sequence[str]]
    seconds: float = 60
    """How long a command may take."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one command did."""

    attack: str
    kind: str
    command: str
    wrong: Sequence[str]
    """What must not happen and did."""
    exit_code: int
    output: str


def watch(folder: str) -> None:
    """Report what Python does outside a folder; runs in the process of a command before it."""
    place = Path(folder)
    sys.path.append(str(place / "modules"))
    os.environ["CANARY"] = str(place / SUNG)
    tempfile.tempdir = str(place / "tmp")
    written = os.open(place / EVENTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    allowed = (os.path.realpath(place), "/dev/", "/proc/")
    outside = os.path.realpath(place / OUTSIDE)

    def note(event: str, what: object) -> None:
        os.write(written, f"{event}: {str(what)[:300]}\n".encode())

    def is_outside(path: object, *, follow: bool = True) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        written = os.fsdecode(path)
        parent, name = os.path.split(os.path.abspath(written))
        whole = os.path.realpath(written) if follow else os.path.join(os.path.realpath(parent), name)
        return whole.startswith(outside) or not whole.startswith(allowed)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in SOCKETS and arguments[1:] != IPV6:
            note(event, arguments[1:])
            raise PermissionError("the campaign allows no socket")
        if event in PROGRAMS:
            called = str(arguments[0] if arguments else "")
            if os.path.basename(called) not in HARMLESS_PROGRAMS:
                note(event, arguments[:2])
                raise PermissionError("the campaign allows no program")
        if event == "open" and isinstance(arguments[2], int):
            if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) and is_outside(arguments[0]):
                note(event, arguments[0])
        elif event in WRITES and any(is_outside(path, follow=event in FOLLOWING) for path in arguments[:2]):
            note(event, arguments[:2])

    sys.addaudithook(hook)


def prepare(folder: Path) -> None:
    """Train the runs that are attacked."""
    import toy

    toy.base(folder / "base")
    lines = [f"{row['text']},{row['label']}\n" for row in toy.rows(24)]
    (folder / "rows.csv").write_text("text,label\n" + "".join(lines))
    chats = []
    for row in toy.rows(12):
        turns = [{"role": "user", "content": row["text"]}, {"role": "assistant", "content": row["label"]}]
        chats.append(json.dumps({"messages": turns}) + "\n")
    (folder / "chats.jsonl").write_text("".join(chats))
    _decoder(folder / "decoder")
    for name, task, model, data, strategy in (
        ("run", "text-classification", "base", "rows.csv", "full"),
        ("lora", "text-classification", "base", "rows.csv", "lora"),
        ("adapters", "text-classification", "base", "rows.csv", "bottleneck"),
        ("chat", "sft", "decoder", "chats.jsonl", "full"),
    ):
        recipe = {
            "task": task, "model": {"path": str(folder / model)}, "dataset": {"path": str(folder / data)},
            "strategy": {"name": strategy}, "output": str(folder / name), "score_base_model": False,
            "general_text": "none",
            "training": {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "per_device_train_batch_size": 4},
        }  # fmt: skip
        if task == "sft":
            recipe["preprocessor"] = {"chat_template": "chatml"}
        path = folder / f"{name}.yaml"
        path.write_text(json.dumps(recipe))
        ended = command.call(["train", str(path), "--quiet"], folder=folder)
        if ended.exit_code:
            raise RuntimeError(ended.output)
    # as if it had been killed after its first step
    shutil.copytree(folder / "run", folder / "killed")
    for name in ("result.json", "report.html", "model.safetensors", "predictions.jsonl"):
        (folder / "killed" / name).unlink()
    shutil.rmtree(folder / "killed" / "checkpoint-2")
    (folder / "modules").mkdir()
    (folder / "modules" / "canary.py").write_text(files.CANARY)
    (folder / "tmp").mkdir()
    (folder / OUTSIDE).mkdir()
    (folder / OUTSIDE / "file").write_text("untouched")


def _decoder(folder: Path) -> None:
    import toy

    from finetune.testing.models import tiny_model
    from finetune.testing.tokenizers import tokenizer

    words = tokenizer("llama", [row["text"] for row in toy.rows(50)], vocab_size=300)
    tiny_model("llama", words, folder)


def copied(prepared: Path, folder: Path) -> Path:
    """Return a copy of the prepared runs whose recipes name the folders of the copy, and whose results no digests."""
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    for name in ("run", "lora", "adapters", "chat", "killed"):
        for path in (folder / name).glob("re*.*"):
            if path.suffix in {".json", ".yaml"}:
                path.write_text(path.read_text().replace(str(prepared), str(folder)))
        if (folder / name / "result.json").is_file():
            forge(folder / name, {"base": {}})  # a stranger would write digests that fit
    return folder


def forge(run: Path, changes: Mapping[str, Any]) -> None:
    """Change the result and the recipe of a run: place, with dots → value."""
    import yaml

    path = run / "result.json"
    content = (
        json.loads(path.read_text())
        if path.is_file()
        else {"recipe": yaml.safe_load((run / "recipe.yaml").read_text())}
    )
    for place, value in changes.items():
        *sections, last = place.split(".")
        section = content
        for name in sections:
            section = section[int(name)] if isinstance(section, list) else section[name]
        section[int(last) if isinstance(section, list) else last] = value
    if path.is_file():
        path.write_text(json.dumps(content))
    (run / "recipe.yaml").write_text(json.dumps(content["recipe"]))  # JSON is YAML


def edited(path: Path, **changes: Any) -> None:
    """Change entries of a JSON file."""
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**content, **changes}))


def resealed(checkpoint: Path) -> None:
    """Write a manifest that fits the files of a checkpoint, as a stranger would."""
    from finetune.training import checkpoints

    manifest = json.loads((checkpoint / "manifest.json").read_text())
    facts = checkpoints.Identity(manifest["identity"], manifest["circumstances"])
    checkpoints.seal(checkpoint, identity=facts, step=manifest["step"])


def named(run: str, commands: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return commands with a run in place of ``RUN``."""
    return [[word.replace("RUN", run) for word in words] for words in commands]


def tried(attack: Attack, prepared: Path, scratch: Path, *, flags: Sequence[str] = ()) -> Iterator[Outcome]:
    """Yield what each command of an attack does, in a fresh copy of the runs."""
    for words in attack.commands:
        folder = copied(prepared, Path(tempfile.mkdtemp(dir=scratch)))
        try:
            attack.plant(folder)
            before = _state(folder / OUTSIDE)
            wrong = []
            try:
                ended = command.call(
                    [*words, *flags], folder=folder, before=functools.partial(watch, str(folder)),
                    environment={"HF_HOME": str(folder / "tmp"), "HF_HUB_OFFLINE": "0"}, seconds=attack.seconds,
                )  # fmt: skip
                code, output = ended.exit_code, ended.output
                if ended.is_traceback:
                    wrong.append("traceback")
            except TimeoutError as error:
                code, output = -9, str(error)
                wrong.append(f"still running after {attack.seconds} s")
            if (folder / SUNG).exists():
                wrong.append(f"canary {(folder / SUNG).read_text()}")
            if (folder / EVENTS).exists():
                wrong += (folder / EVENTS).read_text().splitlines()
            if _state(folder / OUTSIDE) != before:
                wrong.append("a file outside changed")
            yield Outcome(
                attack=attack.name, kind=attack.kind, command=" ".join(words), wrong=wrong, exit_code=code,
                output=output,
            )  # fmt: skip
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _state(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def controlled(prepared: Path, scratch: Path) -> bool:
    """Return whether the canary sings if the user trusts the folder: else the campaign could not notice anything."""

    def plant(folder: Path) -> None:
        forge(folder / "run", {"recipe.dataset.path": "canary:sing"})

    attack = Attack(name="control", kind="control", plant=plant, commands=[["evaluate", "run", "--split", "train"]])
    silent = next(tried(attack, prepared, scratch))
    sung = next(tried(attack, prepared, scratch, flags=["--trust-code"]))
    return not silent.wrong and any("canary" in each for each in sung.wrong)


def noticed(prepared: Path, scratch: Path) -> set[str]:
    """Return which planted faults are noticed: a socket, a program, a file outside, a change through a link."""
    found = set()
    for fault in ("socket", "program", "file"):
        folder = copied(prepared, Path(tempfile.mkdtemp(dir=scratch)))
        command.call(["list"], folder=folder, before=functools.partial(misbehave, str(folder), fault))
        if (folder / EVENTS).exists():
            found.add(fault)
        shutil.rmtree(folder)
    return found


def misbehave(folder: str, fault: str) -> None:
    """Do what no command may do, to see that it is noticed."""
    import socket
    import subprocess
    from contextlib import suppress

    watch(folder)
    with suppress(PermissionError):
        if fault == "socket":
            socket.create_connection(("127.0.0.1", 9))
        elif fault == "program":
            subprocess.run(["true"], check=False)
        else:
            (Path(folder) / OUTSIDE / "file").write_text("changed")


def campaign(*, keys: int | None, seed: int) -> tuple[list[Outcome], bool, set[str]]:
    """Try the attacks, and return what every command did, whether the control sang, and which faults are noticed.

    Args:
        keys: How many keys of result and recipe are tried; None for all.
        seed: Of what is drawn.
    """
    import hostile_attacks

    with tempfile.TemporaryDirectory() as name:
        prepared, scratch = Path(name) / "prepared", Path(name) / "scratch"
        prepared.mkdir()
        scratch.mkdir()
        prepare(prepared)
        outcomes: list[Outcome] = []
        for attack in hostile_attacks.every(prepared, seed=seed, keys=keys):
            outcomes += tried(attack, prepared, scratch)
        return outcomes, controlled(prepared, scratch), noticed(prepared, scratch)


def is_harm(problem: str) -> bool:
    """Return whether something that a command did is code, a socket or a file outside, and not a bad message."""
    return not problem.startswith(("traceback", "still running"))


def main() -> None:
    """Try everything, and record the line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=None, help="How many keys are tried; all by default.")
    parser.add_argument("--seed", type=int, default=0)
    chosen, started = parser.parse_args(), time.monotonic()
    outcomes, sang, faults = campaign(keys=chosen.trials, seed=chosen.seed)
    harmful = [one for one in outcomes if any(map(is_harm, one.wrong))]
    rough = [one for one in outcomes if one.wrong and one not in harmful]
    for one in [*harmful, *rough]:
        print(one.kind, "|", one.attack, "|", one.command, "|", one.exit_code, "|", "; ".join(one.wrong))
    attacks = len({one.attack for one in outcomes})
    refused = sum(one.exit_code == 2 for one in outcomes)
    record(
        Line(
            name="hostile files",
            goal="0 canaries executed, 0 sockets opened, nothing written outside the folder; each answer in 60 s",
            stock="not run: transformers reads models, and has no run folders",
            ours=(
                f"{attacks} attacks, {len(outcomes)} commands: {len(harmful)} ran code, opened a socket or wrote "
                f"outside; {refused} refused in words, {len(rough)} ended in a traceback or too late; with --trust-code"
                f" the canary {'sings' if sang else 'is silent'}; {len(faults)} of 3 planted faults noticed"
            ),
            met=not harmful and not rough and sang and len(faults) == 3,
            not_covered="Flaws of torch, safetensors, Arrow or tokenizers themselves, and kernels of GPUs.",
        ),
        started=started,
    )


if __name__ == "__main__":
    main()
