"""Run the tutorials, Python scripts in ``# %%`` cells, and write the page that each one makes beside it.

    python docs/_build/tutorials.py            run what has changed
    python docs/_build/tutorials.py --force    run all
    python docs/_build/tutorials.py --check    run nothing; say what is out of date, and exit with 1

A script begins with a docstring: title and introduction. Then come cells, opened by ``# %%``: comment lines are
Markdown, the rest is code. ``# %% hide`` runs and is not shown; ``# %% varies`` prints what no test may compare.
What a cell prints stands under it, and so does each figure it leaves open. The pages are committed, so that the site
is built without torch. Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cells import parse
from page import render

FORMAT = "1"
"""Raise it when pages would look different: all are made again."""

HERE = Path(__file__).resolve().parent
TUTORIALS = HERE.parent / "tutorials"
LONGEST = 900
"""Longest a tutorial may run, in seconds."""

STAMP = re.compile(r'\A---\n#[^\n]*\nscript: "(\w+)"\npage: "(\w+)"\nseconds: [\d.]+\n---\n\n')

ENVIRONMENT = {
    "COLUMNS": "79",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_OFFLINE": "1",
    "MATPLOTLIBRC": str(HERE / "matplotlibrc"),
    "MPLBACKEND": "Agg",
    "NO_COLOR": "1",
    "OMP_NUM_THREADS": "2",  # sums are added in one order on every machine
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin cost several times the work on busy cores
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "TERM": "dumb",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}


class TutorialFailed(Exception):
    """A tutorial that did not run to its end."""


@dataclass(frozen=True)
class Stamp:
    """What a page was made from, and what it was when it was made."""

    script: str
    page: str


def scripts(folder: Path = TUTORIALS) -> list[Path]:
    """Return the tutorials of a folder, in order."""
    return sorted(folder.glob("[0-9][0-9]_*.py"))


def key(script: Path) -> str:
    """Return the digest of what a page is made from: this tool's format, the script, and its folder ``data``.

    The package is not in it: a change of the library is found by the test that runs every tutorial again.
    """
    extras = sorted(path for path in (script.parent / "data").rglob("*") if path.is_file())
    source = script.read_bytes().replace(b"\r\n", b"\n")  # git may have changed the line ends
    named = [(path.relative_to(script.parent).as_posix(), path.read_bytes()) for path in extras]
    return _digest([("format", FORMAT.encode()), (script.name, source), *named])


def stamp(page: Path) -> Stamp | None:
    """Return what a page says about itself; None where there is no page, or it was not made by this tool."""
    found = STAMP.match(page.read_text(encoding="utf-8")) if page.exists() else None
    return Stamp(found[1], found[2]) if found else None


def body(page: Path) -> str:
    """Return a page without its stamp."""
    return STAMP.sub("", page.read_text(encoding="utf-8"))


def stale(script: Path) -> str:
    """Say why a page must be made again; nothing where it is up to date."""
    page = script.with_suffix(".md")
    if not page.exists():
        return f"{page.name} is missing"
    made = stamp(page)
    if made is None:
        return f"{page.name} was not made by this tool"
    if made.script != key(script):
        return f"{script.name} has changed since {page.name} was made"
    if made.page != _made(body(page), script.with_suffix("")):
        return f"{page.name} or its pictures were edited by hand; edit {script.name}"
    return ""


def orphans(folder: Path = TUTORIALS) -> list[Path]:
    """Return pages and pictures whose script is gone."""
    made = [*folder.glob("[0-9][0-9]_*.md"), *(path for path in folder.glob("[0-9][0-9]_*") if path.is_dir())]
    return sorted(path for path in made if not path.with_suffix(".py").exists())


def run(script: Path, folder: Path) -> list[dict[str, Any]]:
    """Run a tutorial in a fresh process and an empty folder; its pictures go to ``folder``.

    Raises:
        TutorialFailed: It raised, took too long, was killed, or left before its last cell.
    """
    command = [sys.executable, str(HERE / "recorder.py"), str(script.resolve()), str(folder)]
    with tempfile.TemporaryDirectory() as empty:
        try:
            done = subprocess.run(
                command, cwd=empty, env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=LONGEST
            )
        except subprocess.TimeoutExpired as error:
            raise TutorialFailed(f"{script.name} ran longer than {LONGEST} s and was stopped.") from error
    if done.returncode < 0:
        raise TutorialFailed(f"{script.name} was killed by signal {-done.returncode}.\n{done.stderr[-2000:]}")
    if done.returncode:
        raise TutorialFailed(f"{script.name} failed:\n{done.stderr[-4000:]}")
    if not (folder / "record.json").exists():
        raise TutorialFailed(f"{script.name} left before its last cell; does it call sys.exit()?")
    record: list[dict[str, Any]] = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    return record


def build(script: Path) -> None:
    """Run a tutorial and write its page and pictures; a failure leaves the old ones as they were."""
    pictures = script.with_suffix("")
    digest, cells = key(script), parse(script.read_text(encoding="utf-8"))  # somebody may edit it while it runs
    with tempfile.TemporaryDirectory() as scratch:
        record = run(script, Path(scratch))
        shutil.rmtree(pictures, ignore_errors=True)
        for picture in sorted(Path(scratch).glob("*.png")):
            pictures.mkdir(exist_ok=True)
            shutil.copyfile(picture, pictures / picture.name)
    text = render(script.stem, cells, record)
    head = (
        f"---\n# made by docs/_build/tutorials.py: edit {script.name}, not this page\n"
        f'script: "{digest}"\npage: "{_made(text, pictures)}"\n'
        f"seconds: {sum(item['seconds'] for item in record):.1f}\n---\n\n"
    )
    script.with_suffix(".md").write_text(head + text, encoding="utf-8", newline="\n")
    index = script.with_name("index.md")
    if index.exists():
        index.write_text(with_times(index), encoding="utf-8", newline="\n")


def with_times(index: Path) -> str:
    """Return the index of a folder with the time of each lesson, as its page records it, in the last column."""

    def timed(row: re.Match[str]) -> str:
        page = index.with_name(row["page"])
        found = re.search(r"^seconds: ([\d.]+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        return f"{row['start']} {max(1, round(float(found[1]) / 60))} min |" if found else row[0]

    return _ROW.sub(timed, index.read_text(encoding="utf-8"))


_ROW = re.compile(r"^(?P<start>\| \[[^]]+\]\((?P<page>\d\d_\w+\.md)\) \| .* \|) \d+ min \|$", re.MULTILINE)
"""A lesson in the table of the index."""


def _made(text: str, pictures: Path) -> str:
    return _digest([("page", text.encode()), *((path.name, path.read_bytes()) for path in sorted(pictures.glob("*")))])


def _digest(parts: list[tuple[str, bytes]]) -> str:
    """Return a digest of named parts, in which no byte can move from one part to the next unseen."""
    digest = hashlib.sha256()
    for name, content in parts:
        digest.update(f"{name}:{len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def check(wanted: list[Path], folder: Path = TUTORIALS) -> Iterator[str]:
    """Yield what is out of date."""
    yield from filter(None, map(stale, wanted))
    yield from (f"{path.name} has no script" for path in orphans(folder))


def main(arguments: list[str] | None = None, *, folder: Path = TUTORIALS) -> int:
    """Bring the pages up to date, or say which are not; return the exit status."""
    summary, _, usage = (__doc__ or "").partition("\n\n")
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=summary, epilog=usage, formatter_class=form)
    parser.add_argument("names", nargs="*", help="tutorials, such as 02_sentiment; default: all")
    parser.add_argument("--force", action="store_true", help="run them even if nothing has changed")
    parser.add_argument("--check", action="store_true", help="run nothing; exit with 1 if a page is out of date")
    given = parser.parse_args(arguments)
    known = {script.stem: script for script in scripts(folder)}
    unknown = sorted(set(given.names) - set(known))
    if unknown:
        parser.error(f"no tutorial is called {', '.join(unknown)}; there are: {', '.join(known) or 'none'}")
    wanted = [known[name] for name in given.names or known]
    if given.check:
        problems = list(check(wanted, folder))
        print("\n".join([*problems, "run: python docs/_build/tutorials.py"] if problems else ["all up to date"]))
        return bool(problems)
    return max((_bring_up_to_date(script, force=given.force) for script in wanted), default=0)


def _bring_up_to_date(script: Path, *, force: bool) -> int:
    reason = "asked to" if force else stale(script)
    if not reason:
        print(f"{script.stem}: up to date")
        return 0
    print(f"{script.stem}: running ({reason}) ...", flush=True)
    try:
        build(script)
    except (TutorialFailed, SyntaxError) as error:
        print(f"{error}\nThe page of {script.stem} is left as it was.", file=sys.stderr)
        return 1
    print(f"{script.stem}: made {script.with_suffix('.md').name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
