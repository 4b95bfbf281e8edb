"""The name after `evaluate:` → a module of evaluate, loaded before training begins."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import evaluate

from finetune.errors import BadRecipe
from finetune.kit import resolve

_PYTHON = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_PATH = re.compile(r"\.{0,2}/|~")
_CANONICAL = re.compile(r"(?P<name>[\w-]+)(/(?P<config>[\w.-]+))?")
_COMMUNITY = re.compile(r"spaces/(?P<name>[\w-][\w.-]*/[\w-]+)(/(?P<config>[\w.-]+))?")
FORMS = (
    "`evaluate:NAME` or `evaluate:NAME/CONFIG` for a module of evaluate itself, `evaluate:spaces/OWNER/NAME` for "
    "another module of the Hub, `evaluate:./FOLDER` for a local script, `evaluate:my_module:MyMetric` for a class"
)


def load(name: str) -> Any:
    """Return the `evaluate.Metric` that a name stands for.

    Raises:
        BadRecipe: The name has none of `FORMS`, there is no such module, or it needs a network and
            there is none.
        UnknownName: A Python module, or its attribute, does not exist.
    """
    if _PYTHON.fullmatch(name):
        return _from_python(name)
    if _PATH.match(name):
        return _from_script(name)
    match = _COMMUNITY.fullmatch(name) or _CANONICAL.fullmatch(name)
    if match:
        return _from_hub(name, match["name"], match["config"])
    raise BadRecipe(f"metrics: {name!r} is not the name of a module of evaluate. Write {FORMS}.")


def _from_python(name: str) -> Any:
    value = resolve(name)
    if isinstance(value, type) and issubclass(value, evaluate.EvaluationModule):
        # Even in memory, evaluate makes an empty folder for each module and never uses it; this one
        # is deleted.
        with TemporaryDirectory() as folder:
            return value(keep_in_memory=True, cache_dir=folder)
    if isinstance(value, evaluate.EvaluationModule):
        return value
    raise BadRecipe(
        f"metrics: {name!r} is {value!r}, and not a subclass of evaluate.Metric or an instance of one. If it is a "
        f"function from records to scores, write it without `evaluate:`."
    )


def _from_script(name: str) -> Any:
    path = Path(name).expanduser().resolve()
    script = path if path.suffix == ".py" else path / f"{path.name}.py"
    if not script.is_file():
        raise BadRecipe(
            f"metrics: {name!r}: there is no script {script}. Name a file, or a folder FOLDER that contains FOLDER.py."
        )
    return _load(name, str(script))


def _from_hub(name: str, module: str, config: str | None) -> Any:
    """Load a module of the Hub; this runs its code."""
    script = Path(module) / f"{module.rpartition('/')[2]}.py"
    if script.is_file():
        raise BadRecipe(
            f"metrics: {name!r} names a module of the Hub, but the current folder contains {script}, which evaluate "
            f"would run instead. To use that script, write `evaluate:./{module}`; otherwise start from another folder."
        )
    cache = Path(evaluate.config.HF_MODULES_CACHE) / "evaluate_modules" / "metrics"
    cache /= module.replace("/", "--") if "/" in module else f"evaluate-metric--{module}"
    is_offline = datasets.config.HF_HUB_OFFLINE or evaluate.config.HF_EVALUATE_OFFLINE
    if is_offline and not cache.is_dir():
        # evaluate itself would try for 1.5 seconds, and then say that the module does not exist
        raise BadRecipe(
            f"metrics: {name!r} is a module of the Hub that was never loaded on this machine, and the Hub is switched "
            "off (HF_HUB_OFFLINE). Load it once with a network, or name a local script: `evaluate:./FOLDER`. The "
            "task's own scores need neither."
        )
    # Without the kind, evaluate asks for a metric, a comparison and a measurement, one after the
    # other.
    kind = None if "/" in module else "metric"
    return _load(name, module, config_name=config, module_type=kind)


def _load(name: str, path: str, **options: Any) -> Any:
    try:
        return evaluate.load(path, keep_in_memory=True, **options)
    except Exception as error:  # the script is third-party code, and may raise anything
        reason = " ".join(str(error).split()) or "no reason given"
        raise BadRecipe(f"metrics: evaluate cannot load {name!r}: {type(error).__name__}: {reason}") from error
