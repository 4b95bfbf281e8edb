"""What becomes of runs and checkpoints that other versions wrote: ``python tests/campaigns/upgrades.py``.

``fixtures/format-N`` holds, for each format of `result.json` that was written so far, two finished runs and one that
was stopped, with their base model, data and predictions; `make_fixtures.py` makes them. Each run must work or resume
with the same outputs, or be refused in one line. A run of a newer format must be refused. Takes a minute.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import command
import make_fixtures
from scorecard import Line, record

TOLERANCE = 1e-4
"""Greatest change of a probability: other versions of PyTorch sum in another order."""
REFUSALS = ("an older version wrote", "this version reads format")

WORKS, REFUSED = "works", "refused in one line"


def outcomes(fixtures: Path) -> dict[str, str]:
    """Return what each use of each fixture of a format comes to: `WORKS`, `REFUSED`, or what went wrong."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        place = shutil.copytree(fixtures, Path(scratch) / "runs")
        expected = json.loads((place / "expected.json").read_text(encoding="utf-8"))
        base = ["--base", str(place / "base")]
        for run in ("full", "lora"):
            folder, data = str(place / run), str(place / "data" / "test.csv")
            uses = {
                "predict": ["predict", folder, str(examples(place)), *base],
                "evaluate": ["evaluate", folder, "--data", data, "--json", *base],
                "report": ["report", folder],
                "card": ["card", folder],
                "compare": ["compare", str(place / "full"), folder, "--json"],
                "clean": ["clean", folder, "--yes"],
            }
            for use, arguments in uses.items():
                ended = command.call(arguments, folder=place)
                found[f"{use} {run}"] = judge(ended, lambda text, use=use, run=run: equal(use, text, expected[run]))
        found["resume unfinished"] = resume(place)
    return found


def resume(place: Path) -> str:
    """Resume the run that did not finish; its predictions must be those of the run that was never stopped."""
    output = place / "unfinished"
    recipe = make_fixtures.recipe(place, output, "full")
    file = place / "recipe.yaml"
    file.write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
    outcome = judge(command.call(["train", str(file), "--resume", "--quiet"], folder=place), lambda text: True)
    if outcome != WORKS:
        return outcome
    expected = json.loads((place / "expected.json").read_text(encoding="utf-8"))["full"]
    ended = command.call(["predict", str(output), str(examples(place))], folder=place)
    return judge(ended, lambda text: equal("predict", text, expected))


def newer(fixtures: Path) -> dict[str, str]:
    """Return what becomes of runs whose format this version does not know."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        place = shutil.copytree(fixtures, Path(scratch) / "runs")
        change(place / "full" / "result.json", format=99, a_new_field={})
        for use in ("predict", "evaluate", "report", "card", "clean"):
            more = [str(examples(place))] if use == "predict" else []
            found[f"{use} newer"] = judge(command.call([use, str(place / "full"), *more], folder=place), None)
        manifest = next((place / "unfinished").glob("checkpoint-*")) / "manifest.json"
        change(manifest, format=99)
        content = json.loads(manifest.read_text(encoding="utf-8"))
        del content["sha256"]
        change(manifest, sha256=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest())
        found["resume newer"] = resume(place)
        if found["resume newer"] == REFUSED and not manifest.is_file():
            found["resume newer"] = "the checkpoint was moved or removed"
    return found


def change(file: Path, **keys: Any) -> None:
    """Change keys of a JSON file."""
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**content, **keys}), encoding="utf-8")


def examples(place: Path) -> Path:
    """Write the examples whose predictions are known."""
    file = place / "examples.csv"
    file.write_text("\n".join(["text", *make_fixtures.EXAMPLES]) + "\n", encoding="utf-8")
    return file


def judge(ended: command.Ended, is_right: Any) -> str:
    """Return the outcome of a call.

    Args:
        ended: The call.
        is_right: Takes the output of a call that succeeded; None if it must be refused.
    """
    if ended.exit_code == 0:
        return WORKS if is_right is not None and is_right(ended.output) else "other outputs, or not refused"
    message = [line for line in ended.output.splitlines() if line.startswith("error: ")]
    is_clear = len(message) == 1 and not ended.is_traceback and any(words in message[0] for words in REFUSALS)
    return REFUSED if ended.exit_code == 2 and is_clear else f"exit {ended.exit_code}: {ended.output[-300:]}"


def equal(use: str, output: str, expected: dict[str, Any]) -> bool:
    """Return whether predictions or scores are those of the version that wrote the run."""
    if use == "predict":
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        return close(lines, expected["predictions"])
    if use == "evaluate":
        return close(json.loads(output[output.index("{") :])["scores"], expected["scores"])
    return True


def close(found: Any, expected: Any) -> bool:
    """Return whether two values are equal, their numbers to `TOLERANCE`; more keys than expected are right."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(
            name in found and close(found[name], expected[name]) for name in expected
        )
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(close, found, expected))
    if isinstance(expected, float):
        return isinstance(found, float) and abs(found - expected) <= TOLERANCE
    return bool(found == expected)


def main() -> None:
    """Measure every fixture, and record the line."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    started = time.monotonic()
    formats = sorted(make_fixtures.FIXTURES.glob("format-*"))
    found = {f"{each.name}: {use}": outcome for each in formats for use, outcome in outcomes(each).items()}
    found |= {f"{formats[-1].name}: {use}": outcome for use, outcome in newer(formats[-1]).items()}
    count = Counter(outcome if outcome in {WORKS, REFUSED} else "failed" for outcome in found.values())
    for name, outcome in found.items():
        print(f"{name:40} {outcome}", file=sys.stderr)
    record(
        Line(
            name="upgrades",
            goal="runs and checkpoints of other versions work with the same outputs, or are refused in one line",
            stock="not measured: transformers writes no format number, and refuses nothing",
            ours=f"{len(found)} uses of runs in {len(formats)} format(s) and of a newer one: {count[WORKS]} work, "
            f"{count[REFUSED]} refused in one line, {count['failed']} fail",
            met=not count["failed"],
            not_covered="Nothing was released yet, so the fixtures are of the present format; each release adds its "
            "own. The lowest versions of the dependencies were not run. `bash tests/newest` runs the newest.",
        ),
        started=started,
    )


if __name__ == "__main__":
    main()
