"""Other servers for large language models: the exact command, and a start of it where it is installed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.errors import BadOptions, MissingLibrary

ADAPTER = "adapter_config.json"
"""A file of a run that holds only an adapter."""
CONFIG = "config.json"
ENGINES = ("vllm", "transformers")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How another engine serves a run."""

    merge: tuple[str, ...] | None
    """The command that merges the adapter before; None if the run holds whole weights."""
    serve: tuple[str, ...]
    """The command of the engine."""
    model: Path
    """The folder that it reads."""


def plan(run: Path, engine: str, *, host: str, port: int) -> Plan:
    """Return the commands with which another engine serves a run.

    Args:
        run: The run folder.
        engine: One of `ENGINES`.
        host: The address.
        port: The port.

    Raises:
        BadOptions: The run's model does not write texts from left to right, which is all that these engines serve.
    """
    _require_decoder(run, engine)
    merged, merge = run, None
    if (run / ADAPTER).is_file():
        merged = run.with_name(f"{run.name}-merged")
        merge = ("finetune", "merge", str(run), "--output", str(merged))
    name = run.absolute().name
    serve: tuple[str, ...]
    if engine == "vllm":
        serve = ("vllm", "serve", str(merged), "--served-model-name", name, "--host", host, "--port", str(port))
    else:
        serve = ("transformers", "serve", str(merged), "--host", host, "--port", str(port))
    return Plan(merge=merge, serve=serve, model=merged)


def _require_decoder(run: Path, engine: str) -> None:
    names: list[str] = []
    if (run / ADAPTER).is_file():
        names = [str(_read(run / ADAPTER).get("task_type"))]
    elif (run / CONFIG).is_file():
        names = [str(name) for name in _read(run / CONFIG).get("architectures") or ()]
    if not any(name == "CAUSAL_LM" or name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        raise BadOptions(
            f"--with {engine}: the model in {str(run)!r} is {' or '.join(names) or 'unknown'}, and {engine} serves "
            "decoders that write texts. Leave --with out: `finetune serve` serves it itself."
        )


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadOptions(f"{str(file)!r} is not JSON: {error}. Restore it.") from error
    return content if isinstance(content, dict) else {}


def lines(planned: Plan) -> list[str]:
    """Return the commands as a shell takes them."""
    return [shlex.join(words) for words in (planned.merge, planned.serve) if words is not None]


def start(planned: Plan) -> None:
    """Merge the adapter if that is not done, then replace this process by the engine.

    Raises:
        MissingLibrary: The engine is not installed.
        BadOptions: The adapter cannot be merged.
    """
    program = planned.serve[0]
    found = shutil.which(program)
    if found is None:
        raise MissingLibrary(f"--with {program}: it is not installed here. Run the commands above where it is.")
    if planned.merge is not None and not planned.model.is_dir():
        done = subprocess.run([sys.executable, "-m", *planned.merge], check=False)
        if done.returncode:
            raise BadOptions(f"--with {program}: the adapter cannot be merged; see above.")
    os.execv(found, list(planned.serve))
