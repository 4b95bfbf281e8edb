"""The building kit for plugins: everything that a plugin may import beyond the interfaces.

Stable names for plugin authors are in `finetune.interfaces`, `finetune.errors`, `finetune.hookspecs`,
`finetune.testing` and here; all other modules of `finetune` may change without notice. What "stable" means, and how
long a deprecated name stays, is on the page "What is stable" of the documentation.

A name is imported when it is first used, so a reader of files does not load torch. Still, import the kit in
implementation modules, not in the module that holds your hooks: most names need torch and transformers.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # also read at run time, by `_sources`
    from finetune.base import check_saved, describe_saved, describe_tokenizer
    from finetune.characters import visible
    from finetune.checkpoint_folders import named_like_checkpoints
    from finetune.cli import output as cli_output
    from finetune.cli import parameters as cli_parameters
    from finetune.conversion import Conversion, Key, handled, mapped, missing, unneeded
    from finetune.data import from_rows
    from finetune.data.cells import parse_cell
    from finetune.data.findings import blank_line
    from finetune.data.preparation import prepare
    from finetune.data.readers.delimited import CsvReader
    from finetune.data.readers.json_array import JsonArrayReader
    from finetune.data.readers.json_lines import JsonLinesReader
    from finetune.data.readers.text import LONGEST, lines, too_long
    from finetune.data.strata import nested as nested_subsets
    from finetune.data.text_checks import DuplicateCounter, TextWarnings, check_text, is_blank, special_token_in
    from finetune.data.truncation import MODEL_INPUTS, encode_truncated
    from finetune.evaluation import seed_verdicts, verdicts
    from finetune.evaluation.bootstrap import intervals, ratios, safe_divide
    from finetune.evaluation.comparison import compare as compare_runs
    from finetune.evaluation.comparison import evaluator_of, records_of, units_of
    from finetune.evaluation.held_out import describe as describe_split
    from finetune.evaluation.optimism import optimism
    from finetune.evaluation.required import check_primary, check_temperature, require_key
    from finetune.evaluation.sides import difference as paired_difference
    from finetune.evaluation.sides import limits_of
    from finetune.evaluation.sides import sampled as resampled_scores
    from finetune.evaluation.temperature import decisions_of, fit_temperature
    from finetune.evaluation.units import units_of_examples
    from finetune.failures import newest_checkpoint
    from finetune.folder import lock as lock_folder
    from finetune.folder import make_readable, size_of_weights
    from finetune.jobs.needs import packages as packages_of
    from finetune.models import (
        base_model_of,
        bf16_is_fast,
        config_of,
        context_length,
        finds_end_by_padding,
        gpu_has_bf16,
        locate,
        suppress_output,
        within_context,
    )
    from finetune.plan import Plan
    from finetune.plan import make as make_plan
    from finetune.plugins import Plugins, add_recipe_folder, discover, find_code, resolve
    from finetune.prediction import EncodedRow, Predictor
    from finetune.processes import count as count_processes
    from finetune.progress import Console, Reporter, suppress_progress_bars
    from finetune.python_objects import PythonObjects
    from finetune.recipe import Recipe, as_trained, seed_folder
    from finetune.recipe import dump as dump_yaml
    from finetune.recipe import from_mapping as recipe_from_mapping
    from finetune.recipe import read as read_recipe
    from finetune.recipe import to_mapping as recipe_to_mapping
    from finetune.recipe.options import build as build_options
    from finetune.recipe.options import rebuild
    from finetune.recipe.search import Parameter
    from finetune.recipe.search import apply as apply_search
    from finetune.recipe.search import label as search_label
    from finetune.recipe.search import parse as parse_search
    from finetune.report import render_page
    from finetune.report import write as write_report
    from finetune.report.axes import Point as AxisPoint
    from finetune.report.axes import panel as axis_panel
    from finetune.report.axes import ticks as axis_ticks
    from finetune.result import (
        DROPPED,
        LOG,
        PREDICTIONS,
        RECIPE,
        RESULT,
        Result,
        find_non_finite,
        restore_non_finite,
        to_json,
        write_atomically,
    )
    from finetune.run import reload, run
    from finetune.run_seeds import run as run_seeds
    from finetune.runtimes import RuntimeStrategy
    from finetune.secrets import refuse as refuse_credentials
    from finetune.seed_folders import BASELINES, seeds_of
    from finetune.seeds_result import SeedsResult
    from finetune.seeds_result import load_any as load_result
    from finetune.tracking import Tracked, tracked
    from finetune.training.arguments import build_arguments, check_choice
    from finetune.training.callbacks import PauseAfter, RecordsCallback
    from finetune.training.checks import align_memory, evaluation_mode, model_outputs
    from finetune.training.collate import PadLeft, PadRight, pad, pad_mask, padding_side
    from finetune.training.generation import (
        GENERATION_DEFAULTS,
        generate,
        generation_options,
        mask_after_eos,
        max_prompt_length,
    )
    from finetune.training.losses import TokenCrossEntropy, align_logits, batch_share, logits_of
    from finetune.training.rates import choose as choose_rate
    from finetune.training.trainer import (
        PatchedTrainer,
        build_trainer,
        model_columns,
        predict,
        preserve_rng_state,
        trainer,
    )
    from finetune.training.upstream import (
        CACHE_OUTPUTS,
        at_level,
        decay_parameter_names,
        environment,
        keep_generation_options,
        replaced,
    )
    from finetune.training.upstream import changed as upstream_changed
    from finetune.training.upstream import require as require_upstream
    from finetune.trust import require as require_trust
    from finetune.user_code import calling
    from finetune.wheels import is_local as is_local_package
    from finetune.wheels import wheel as wheel_of

__all__ = [
    "BASELINES",
    "CACHE_OUTPUTS",
    "DROPPED",
    "GENERATION_DEFAULTS",
    "LOG",
    "LONGEST",
    "MODEL_INPUTS",
    "PREDICTIONS",
    "RECIPE",
    "RESULT",
    "AxisPoint",
    "Console",
    "Conversion",
    "CsvReader",
    "DuplicateCounter",
    "EncodedRow",
    "JsonArrayReader",
    "JsonLinesReader",
    "Key",
    "PadLeft",
    "PadRight",
    "Parameter",
    "PatchedTrainer",
    "PauseAfter",
    "Plan",
    "Plugins",
    "Predictor",
    "PythonObjects",
    "Recipe",
    "RecordsCallback",
    "Reporter",
    "Result",
    "RuntimeStrategy",
    "SeedsResult",
    "TextWarnings",
    "TokenCrossEntropy",
    "Tracked",
    "add_recipe_folder",
    "align_logits",
    "align_memory",
    "apply_search",
    "as_trained",
    "at_level",
    "axis_panel",
    "axis_ticks",
    "base_model_of",
    "batch_share",
    "bf16_is_fast",
    "blank_line",
    "build_arguments",
    "build_options",
    "build_trainer",
    "calling",
    "check_choice",
    "check_primary",
    "check_saved",
    "check_temperature",
    "check_text",
    "choose_rate",
    "cli_output",
    "cli_parameters",
    "compare_runs",
    "config_of",
    "context_length",
    "count_processes",
    "decay_parameter_names",
    "decisions_of",
    "describe_saved",
    "describe_split",
    "describe_tokenizer",
    "discover",
    "dump_yaml",
    "encode_truncated",
    "environment",
    "evaluation_mode",
    "evaluator_of",
    "find_code",
    "find_non_finite",
    "finds_end_by_padding",
    "fit_temperature",
    "from_rows",
    "generate",
    "generation_options",
    "gpu_has_bf16",
    "handled",
    "intervals",
    "is_blank",
    "is_local_package",
    "keep_generation_options",
    "limits_of",
    "lines",
    "load_result",
    "locate",
    "lock_folder",
    "logits_of",
    "make_plan",
    "make_readable",
    "mapped",
    "mask_after_eos",
    "max_prompt_length",
    "missing",
    "model_columns",
    "model_outputs",
    "named_like_checkpoints",
    "nested_subsets",
    "newest_checkpoint",
    "optimism",
    "packages_of",
    "pad",
    "pad_mask",
    "padding_side",
    "paired_difference",
    "parse_cell",
    "parse_search",
    "predict",
    "prepare",
    "preserve_rng_state",
    "ratios",
    "read_recipe",
    "rebuild",
    "recipe_from_mapping",
    "recipe_to_mapping",
    "records_of",
    "refuse_credentials",
    "reload",
    "render_page",
    "replaced",
    "require_key",
    "require_trust",
    "require_upstream",
    "resampled_scores",
    "resolve",
    "restore_non_finite",
    "run",
    "run_seeds",
    "safe_divide",
    "search_label",
    "seed_folder",
    "seed_verdicts",
    "seeds_of",
    "size_of_weights",
    "special_token_in",
    "suppress_output",
    "suppress_progress_bars",
    "to_json",
    "too_long",
    "tracked",
    "trainer",
    "units_of",
    "units_of_examples",
    "unneeded",
    "upstream_changed",
    "verdicts",
    "visible",
    "wheel_of",
    "within_context",
    "write_atomically",
    "write_report",
]


@cache
def _sources() -> dict[str, tuple[str, str]]:
    """Return the module and the attribute behind each name: the imports above, read from this file."""
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    sources: dict[str, tuple[str, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("finetune."):
            for alias in node.names:
                sources[alias.asname or alias.name] = (node.module, alias.name)
    return sources


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    if name not in _sources():
        raise AttributeError(f"module 'finetune.kit' has no attribute {name!r}")
    module, attribute = _sources()[name]
    try:
        value = getattr(import_module(module), attribute)
    except AttributeError:  # a module of a package
        value = import_module(f"{module}.{attribute}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
