"""Run one tutorial, cell by cell, and record what each printed and drew.

    python recorder.py SCRIPT FOLDER

A process of its own, started by `tutorials.py`: the script finds what ``python SCRIPT`` would give it. What cells print is
caught at the file descriptor, so that child processes and C code are caught too.
"""

from __future__ import annotations

import codeop
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from cells import parse

LIGHT_INK = "#1a1a1b"
"""Ink on light ground: every default colour of `matplotlibrc`; nobody else's, so that what was chosen stays."""

DARK_INK = "#e2e4e9"
"""Ink on dark ground."""


def main(script: Path, folder: Path) -> None:
    """Run every cell; write ``record.json`` and the pictures when all have run."""
    cells = parse(script.read_text(encoding="utf-8"))
    module = ModuleType("__main__")
    module.__file__ = str(script)
    sys.modules["__main__"] = module  # inspect and pickle look classes up here
    sys.argv, sys.path[0] = [str(script)], str(script.parent)
    sys.excepthook = _report(script)
    compiled = codeop.Compile()  # remembers `from __future__` from one cell to the next, and inherits none of ours
    record = []
    for number, cell in enumerate(cells):
        began = time.perf_counter()
        with _caught() as printed:
            padding = "\n" * (cell.line - 1)  # so that a traceback's lines are the script's
            exec(compiled(padding + cell.code, str(script), "exec"), vars(module))
        seconds = time.perf_counter() - began
        pictures = _pictures(folder, number)
        record.append({"printed": printed[0], "pictures": pictures, "seconds": seconds})
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")


def _report(script: Path) -> Any:
    """Return an excepthook that leaves this file out of the traceback."""

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        start = trace
        while start and start.tb_frame.f_code.co_filename != str(script):
            start = start.tb_next
        traceback.print_exception(kind, error, start or trace)

    return report


@contextmanager
def _caught() -> Iterator[list[str]]:
    """Catch what is written to descriptor 1; the list holds it afterwards."""
    printed: list[str] = []
    stdout = os.dup(1)
    with tempfile.TemporaryFile() as sink:
        sys.stdout.flush()
        os.dup2(sink.fileno(), 1)
        try:
            yield printed
        finally:
            sys.stdout.flush()
            os.dup2(stdout, 1)
            os.close(stdout)
            sink.seek(0)
            printed.append(sink.read().decode("utf-8", "replace"))


def _pictures(folder: Path, number: int) -> list[dict[str, str]]:
    """Save every open pyplot figure twice, in dark ink and in light, and close it."""
    plt = sys.modules.get("matplotlib.pyplot")
    pictures = []
    for index, figure_number in enumerate(plt.get_fignums() if plt else (), start=1):
        figure = plt.figure(figure_number)  # type: ignore[union-attr]
        name = f"{number:02d}-{index}"
        # Without the metadata, the same figure gives the same bytes with every matplotlib.
        figure.savefig(folder / f"{name}-light.png", metadata={"Software": None})
        _ink(figure)
        figure.savefig(folder / f"{name}-dark.png", metadata={"Software": None})
        pictures.append({"name": name, "title": _title(figure)})
        plt.close(figure)  # type: ignore[union-attr]
    return pictures


def _ink(figure: Any) -> None:
    """Turn what has the default ink into light ink; colours that the tutorial chose stay."""
    from matplotlib.colors import same_color
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.text import Text

    parts = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")
    for artist in figure.findobj(lambda artist: isinstance(artist, Text | Line2D | Patch)):
        for part in parts:
            value = getattr(artist, f"get_{part}", lambda: "none")()
            if same_color(value, LIGHT_INK):
                getattr(artist, f"set_{part}")(DARK_INK)


def _title(figure: Any) -> str:
    """Return what the figure is called, for those who cannot see it."""
    titles = [figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)]
    return "; ".join(" ".join(title.split()) for title in titles if title)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
