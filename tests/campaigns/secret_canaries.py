"""No credential reaches a file, a log, a report, a card or a message: measured with canaries.

Canaries lie in environment variables, in the file of ``hf auth login``, in the URL of a proxy, in arguments, in recipes
and in the errors of libraries. Each command runs with them, also commands that fail and that are interrupted. After
that, everything that it printed and every file that it wrote is searched. ``python tests/campaigns/secret_canaries.py``
tries everything.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import command
from scorecard import ROOT, Line, record

sys.path.append(str(ROOT / "tests" / "core"))  # for `toy`, also in the processes of the commands

TOKEN = "hf_" + "CanaryOfTheHub" + "A1b2" * 5
KEY = "canary-of-a-service-0123456789"
PASSWORD = "canary/of?a proxy"
STORED = "hf_" + "CanaryThatIsStored" + "C3d4" * 4
GIVEN = "hf_" + "CanaryInARecipe" + "E5f6" * 5
IN_URL = "canary-in-a-url"
IN_QUERY = "canary-in-a-query-0123456789"
GITHUB = "github_pat_" + "11CanaryOfGitHub" + "a1B2" * 6
GITLAB = "glpat-" + "CanaryOfGitLab" + "x9Y8" * 2
CANARIES = (TOKEN, KEY, PASSWORD, quote(PASSWORD, safe=""), STORED, GIVEN, IN_URL, IN_QUERY, GITHUB, GITLAB)
ENVIRONMENT = {
    "HF_TOKEN": TOKEN, "WANDB_API_KEY": KEY, "MY_PASSWORD": PASSWORD,
    "HTTPS_PROXY": f"http://me:{quote(PASSWORD, safe='')}@127.0.0.1:9",
}  # fmt: skip
URL = f"https://me:{IN_URL}@127.0.0.1/rows.csv"
SIGNED = f"https://127.0.0.1/rows.csv?token={IN_QUERY}"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One command, with canaries in one more place."""

    name: str
    words: Sequence[str]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Changes of ``recipe.yaml``: place, with dots → value."""
    before: Callable[[], None] | None = None
    interrupted: bool = False
    """Whether it gets SIGINT while it trains."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a trial showed."""

    trial: str
    exit_code: int
    places: Sequence[str]
    """Where canaries were: ``output``, or files."""
    output: str


def fail(kind: str) -> None:
    """Let a library fail, warn or log with credentials in its words; runs before a command."""
    import transformers

    proxy = ENVIRONMENT["HTTPS_PROXY"]
    words = (
        f"401 Client Error for url https://me:{TOKEN}@127.0.0.1/x (key {KEY}, proxy {proxy}, {STORED}), "
        f"after {SIGNED}: {GITHUB} {GITLAB}"
    )

    def broken(*arguments: Any, **options: Any) -> Any:
        logging.getLogger("transformers").warning("retrying: %s", words)
        logging.getLogger("somebody").error(words)
        warnings.warn(words, stacklevel=1)
        print(words, file=sys.stderr)
        raise {"OSError": OSError, "ValueError": ValueError, "RuntimeError": RuntimeError}[kind](words)

    transformers.AutoConfig.from_pretrained = broken  # type: ignore[method-assign]
    transformers.AutoTokenizer.from_pretrained = broken  # type: ignore[method-assign]


def trials() -> Iterator[Trial]:
    """Yield every trial."""
    for words in (
        ["list"], ["show", "lora"], ["init", "text-classification"], ["schema"], ["doctor"], ["check", "recipe.yaml"],
        ["train", "recipe.yaml", "--quiet"], ["predict", "run", "--text", "the ship"], ["report", "run"],
        ["card", "run"],
        ["evaluate", "run", "--data", "rows.csv"], ["compare", "run", "run"], ["push", "run", "me/model", "--check"],
        ["merge", "run"], ["train", "absent.yaml"], ["predict", "absent"], ["nothing"], ["train", TOKEN], ["show", KEY],
    ):  # fmt: skip
        yield Trial(name=" ".join(words), words=words)
    in_recipe: list[tuple[str, Any]] = [
        ("model.options.token", GIVEN), ("model.options.use_auth_token", IN_URL), ("model.path", URL),
        ("dataset.path", URL), ("dataset.options.password", IN_URL), ("training.hub_token", GIVEN),
        ("card.author", GIVEN), ("metrics", [GIVEN]), ("training.run_name", KEY), ("output", f"out-{TOKEN}"),
        ("strategy.name", GIVEN), ("task", GIVEN), ("preprocessor.api_key", IN_URL), ("general_text", URL),
        ("training.report_to", GIVEN), ("dataset.columns", {GIVEN: "text"}), ("slices", [GIVEN]),
        ("model.revision", GIVEN), ("seed", GIVEN), ("model.path", SIGNED), ("dataset.path", SIGNED),
        ("card.author", GITHUB), ("training.run_name", GITLAB),
    ]  # fmt: skip
    for place, value in in_recipe:
        for words in (["check", "recipe.yaml"], ["train", "recipe.yaml", "--quiet"]):
            yield Trial(name=f"{words[0]} with {place} in the recipe: {value}", words=words, recipe={place: value})
        if isinstance(value, str) and value != IN_URL:
            words = ["train", "recipe.yaml", f"{place}={value}", "--quiet"]
            yield Trial(name=f"train with {place} as an argument", words=words)
    for words in (
        ["card", "run", f"author={GIVEN}"],
        ["card", "run", f"license={KEY}"],
        ["predict", "run", "--text", KEY],
    ):
        yield Trial(name=" ".join(words), words=words)
    for kind in ("OSError", "ValueError", "RuntimeError"):
        for words in (
            ["check", "recipe.yaml"], ["train", "recipe.yaml"], ["predict", "run", "--text", "a"], ["merge", "run"],
            ["evaluate", "run", "--data", "rows.csv"],
        ):  # fmt: skip
            yield Trial(name=f"{words[0]}, {kind}", words=words, before=functools.partial(fail, kind))
    yield Trial(name="interrupted", words=["train", "recipe.yaml", "training.max_steps=2000"], interrupted=True)
    yield Trial(name="cannot write", words=["train", "recipe.yaml", "output=/proc/run"])


def prepare(folder: Path) -> None:
    """Train the run that commands read, without canaries."""
    import toy

    toy.base(folder / "base")
    lines = [f"{row['text']},{row['label']}\n" for row in toy.rows(24)]
    (folder / "rows.csv").write_text("text,label\n" + "".join(lines))
    recipe = {
        "task": "text-classification", "model": {"path": str(folder / "base")},
        "dataset": {"path": str(folder / "rows.csv")}, "strategy": {"name": "full"}, "output": "again",
        "score_base_model": False, "general_text": "none", "preprocessor": {}, "card": {},
        "training": {"max_steps": 1, "per_device_train_batch_size": 4},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    ended = command.call(["train", "recipe.yaml", "output=run", "--quiet"], folder=folder)
    if ended.exit_code:
        raise RuntimeError(ended.output)


def tried(trial: Trial, prepared: Path, scratch: Path) -> Found:
    """Run one trial, and search all that it printed and wrote."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    home = folder / "home"
    home.mkdir()
    (home / "token").write_text(STORED + "\n")
    path = folder / "recipe.yaml"
    content = json.loads(path.read_text())
    for place, value in trial.recipe.items():
        *sections, last = place.split(".")
        section = content
        for name in sections:
            section = section.setdefault(name, {})
        section[last] = value
    path.write_text(json.dumps(content))
    environment = {**ENVIRONMENT, "HF_HOME": str(home), "TMPDIR": str(folder / "home")}
    running = command.start(trial.words, folder=folder, environment=environment, before=trial.before)
    if trial.interrupted:
        log, ends = folder / "again" / "log.jsonl", time.monotonic() + 120
        while time.monotonic() < ends and not (log.is_file() and log.stat().st_size):
            time.sleep(0.1)
        os.kill(running.pid, signal.SIGINT)
    ended = running.wait(120)
    places = ["output"] if _holds(ended.output) else []
    for one in sorted(folder.rglob("*")):
        is_input = one in (path, home / "token")
        if one.is_file() and not is_input and _holds(one.read_bytes().decode(errors="replace") + one.name):
            places.append(str(one.relative_to(folder)))
    shutil.rmtree(folder)
    return Found(trial=trial.name, exit_code=ended.exit_code, places=places, output=ended.output)


def _holds(text: str) -> bool:
    return any(canary in text for canary in CANARIES)


def speak() -> None:
    """Print a canary in a way that the command cannot hide, to see that it is noticed."""
    os.write(2, f"the token is {TOKEN}\n".encode())


CONTROL = Trial(name="control", words=["list"], before=speak)
"""A planted fault."""


def campaign(wanted: Callable[[Trial], bool] = lambda trial: True) -> list[Found]:
    """Run the trials that are wanted, and the control last."""
    with tempfile.TemporaryDirectory() as name:
        prepared, scratch = Path(name) / "prepared", Path(name) / "scratch"
        prepared.mkdir()
        scratch.mkdir()
        prepare(prepared)
        return [tried(trial, prepared, scratch) for trial in (*filter(wanted, trials()), CONTROL)]


def main() -> None:
    """Try everything, and record the line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=None, help="How many of the trials; all by default.")
    parser.add_argument("--seed", type=int, default=0, help="Nothing is drawn.")
    chosen, started = parser.parse_args(), time.monotonic()
    kept = {trial.name for trial in list(trials())[: chosen.trials]}
    *found, control = campaign(lambda trial: trial.name in kept)
    hits = [one for one in found if one.places]
    for one in hits:
        print(one.trial, "|", one.exit_code, "|", ", ".join(one.places))
    failed = sum(one.exit_code != 0 for one in found)
    record(
        Line(
            name="secrets",
            goal="0 canaries in what is printed and written",
            stock="training_args.bin holds the token, and logs and errors hold whatever a library writes",
            ours=(
                f"{len(found)} commands, {failed} of them failing, with {len(CANARIES)} canaries: {len(hits)} hits; "
                f"the planted one is {'noticed' if control.places else 'not noticed'}"
            ),
            met=not hits and bool(control.places),
            not_covered="A credential in the rows of your data, or one that looks like an ordinary word.",
        ),
        started=started,
    )


if __name__ == "__main__":
    main()
