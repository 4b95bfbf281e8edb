"""What stands after `evaluate:` → a module of evaluate, loaded before anything is trained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import datasets
import evaluate

from finetune.errors import BadRecipe
from finetune.kit import resolve
from finetune_evaluate.folders import in_memory

_PYTHON = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_PATH = re.compile(r"\.{0,2}/|~")
_CANONICAL = re.compile(r"(?P<name>[\w-]+)(/(?P<config>[\w.-]+))?")
_COMMUNITY = re.compile(r"spaces/(?P<name>[\w-][\w.-]*/[\w-]+)(/(?P<config>[\w.-]+))?")
FORMS = (
    "`evaluate:NAME` or `evaluate:NAME/CONFIG` for one of evaluate's own, `evaluate:spaces/OWNER/NAME` for another of "
    "the Hub, `evaluate:./FOLDER` for a local script, `evaluate:my_module:MyMetric` for a class"
)


def load(name: str) -> Any:
    """Return the `evaluate.Metric` that a name stands for.

    Raises:
        BadRecipe: It is none, it is not there, or it cannot be had without a network.
        UnknownName: A module of Python, or what should be in it, does not exist.
    """
    if _PYTHON.fullmatch(name):
        return _from_python(name)
    if _PATH.match(name):
        return _from_script(name)
    if found := _COMMUNITY.fullmatch(name) or _CANONICAL.fullmatch(name):
        return _from_hub(name, found["name"], found["config"])
    raise BadRecipe(f"metrics: {name!r} names no module of evaluate. Write {FORMS}.")


def _from_python(name: str) -> Any:
    found = resolve(name)
    if isinstance(found, type) and issubclass(found, evaluate.EvaluationModule):
        return in_memory(found)
    if isinstance(found, evaluate.EvaluationModule):
        return found
    raise BadRecipe(
        f"metrics: {name!r} is {found!r}; a subclass of evaluate.Metric, or an instance of one, was wanted. A function "
        "from records to scores needs no `evaluate:` before it."
    )


def _from_script(name: str) -> Any:
    path = Path(name).expanduser().resolve()
    script = path if path.suffix == ".py" else path / f"{path.name}.py"
    if not script.is_file():
        raise BadRecipe(f"metrics: {name!r}: there is no script {script}. evaluate wants FOLDER/FOLDER.py, or a file.")
    return _load(name, str(script))


def _from_hub(name: str, module: str, config: str | None) -> Any:
    """Load a module of the Hub; its code is run."""
    last = module.rpartition("/")[2]
    if (Path(module) / f"{last}.py").is_file():
        raise BadRecipe(
            f"metrics: {name!r} names a module of the Hub, but here lies {Path(module) / last}.py, which evaluate "
            f"would run in its stead. If you want that one, write `evaluate:./{module}`; if not, start from another "
            "folder."
        )
    kept = Path(evaluate.config.HF_MODULES_CACHE) / "evaluate_modules" / "metrics"
    kept /= module.replace("/", "--") if "/" in module else f"evaluate-metric--{module}"
    if (datasets.config.HF_HUB_OFFLINE or evaluate.config.HF_EVALUATE_OFFLINE) and not kept.is_dir():
        # evaluate itself would try for 1.5 seconds, and then say that the module does not exist
        raise BadRecipe(
            f"metrics: {name!r} is a module of the Hub that was never loaded on this machine, and the Hub is switched "
            "off (HF_HUB_OFFLINE). Load it once where there is a network, or name a local script: "
            "`evaluate:./FOLDER`. The task's own scores need neither."
        )
    # Without the kind, evaluate asks for a metric, a comparison and a measurement, one after the other.
    return _load(name, module, config_name=config, module_type=None if "/" in module else "metric")


def _load(name: str, path: str, **options: Any) -> Any:
    try:
        return evaluate.load(path, keep_in_memory=True, **options)
    except Exception as error:  # the script is a stranger's, and may raise what it likes
        said = " ".join(str(error).split()) or "no more was said"
        raise BadRecipe(f"metrics: evaluate cannot load {name!r}: {type(error).__name__}: {said}") from error
