"""Try every text architecture of transformers with the task that fits each of its heads.

``python tests/core/probe.py --minutes 10`` tries the cells that have no outcome in `probe.jsonl` for the installed
transformers and the code of this checkout, the most common families first, and writes `docs/reference/models.md`. Each
outcome is written at once, so a run can be stopped and started again. ``--family bart``, ``--task text-to-text`` and
``--outcome fails`` choose cells; ``--again`` also tries those that have an outcome.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import math
import os
import random
import re
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import families
import torch
import transformers
from compatibility import as_written, table
from transformers.models.auto import modeling_auto, tokenization_auto
from transformers.pytorch_utils import Conv1D

import finetune
from finetune.errors import FinetuneError
from finetune.plugins import discover
from finetune.progress import Reporter
from finetune.testing.tokenizers import tokenizer

OUTCOMES = Path(__file__).with_name("probe.jsonl")
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "models.md"
WORKS, REFUSED, FAILS, NOT_BUILT = "works", "refused", "fails", "not built"
MOST_PARAMETERS = 5_000_000
SECONDS = 60
"""Most processor time for building a model, and for trying a cell."""
RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""How far two numbers of equal predictions may differ. Tensors of other shapes are summed in another order."""
LOADED = 0.5
"""Least share of a base model's values that must come from its file: the heads of tiny models are large."""
TASKS = {
    "text-classification": ("AutoModelForSequenceClassification", "SEQUENCE_CLASSIFICATION"),
    "token-classification": ("AutoModelForTokenClassification", "TOKEN_CLASSIFICATION"),
    "question-answering": ("AutoModelForQuestionAnswering", "QUESTION_ANSWERING"),
    "multiple-choice": ("AutoModelForMultipleChoice", "MULTIPLE_CHOICE"),
    "masked-language-modeling": ("AutoModelForMaskedLM", "MASKED_LM"),
    "causal-language-modeling": ("AutoModelForCausalLM", "CAUSAL_LM"),
    "text-to-text": ("AutoModelForSeq2SeqLM", "SEQ_TO_SEQ_CAUSAL_LM"),
}
"""Task → its class of transformers, and the mapping of the families that have it."""
COMMON = """
bert roberta distilbert llama gpt2 qwen3 qwen2 mistral t5 bart deberta-v2 xlm-roberta electra albert modernbert gemma
gemma2 gemma3_text phi3 phi mixtral mpnet camembert xlnet deberta longformer big_bird opt gpt_neo gpt_neox bloom falcon
mbart pegasus marian m2m_100 mt5 umt5 longt5 led olmo2 smollm3 granite starcoder2 stablelm gptj codegen openai-gpt
convbert ernie funnel squeezebert mobilebert xlm flaubert fnet rembert roformer
"""
"""The families that are tried first."""
_LAYOUT = "it needs the places of words on a page"
_TABLES = "it needs the cells of a table"
_IMAGES, _AUDIO = "it needs images", "it needs audio"
EXCLUDED: Mapping[str, str] = {
    **dict.fromkeys(("layoutlm", "layoutlmv2", "layoutlmv3", "lilt", "bros"), _LAYOUT),
    "markuplm": "it needs the paths of words in a page of HTML", "tapas": _TABLES,
    **dict.fromkeys(("lxmert", "trocr", "git", "got_ocr2", "fuyu"), _IMAGES),
    **dict.fromkeys(("whisper", "moshi", "musicgen", "musicgen_melody", "seamless_m4t", "seamless_m4t_v2"), _AUDIO),
    **dict.fromkeys(("esm", "esmc"), "it reads proteins"),
    **dict.fromkeys(("granite_speech", "granite_speech_plus", "vibevoice_asr"), _AUDIO),
    "emu3": _IMAGES, "t5gemma2": _IMAGES,
    **dict.fromkeys(("gemma4_assistant", "gemma4_unified_assistant"), "it drafts tokens for another model"),
    "encoder-decoder": "it is made of two other models",
}  # fmt: skip
"""Family → why it is not tried. Families whose configuration has a part for images or audio are left out too."""
KINDS = {
    "AlbertTokenizer": "albert", "XLNetTokenizer": "xlnet", "DebertaV2Tokenizer": "deberta",
    **dict.fromkeys((
        "RobertaTokenizer", "LEDTokenizer", "MvpTokenizer", "BlenderbotTokenizer", "LukeTokenizer", "DebertaTokenizer",
        "FSMTTokenizer", "XLMTokenizer", "FlaubertTokenizer", "BioGptTokenizer", "PhobertTokenizer",
    ), "roberta"),
    **dict.fromkeys((
        "CamembertTokenizer", "XLMRobertaTokenizer", "MBartTokenizer", "NllbTokenizer", "M2M100Tokenizer",
        "MarianTokenizer", "PegasusTokenizer", "T5Tokenizer", "BigBirdTokenizer", "FNetTokenizer", "RemBertTokenizer",
        "ReformerTokenizer", "XGLMTokenizer", "CpmAntTokenizer", "PLBartTokenizer", "BertGenerationTokenizer",
        "BlenderbotSmallTokenizer",
    ), "xlm-roberta"),
    **dict.fromkeys((
        "GPT2Tokenizer", "GPTNeoXTokenizer", "GPTNeoXJapaneseTokenizer", "Qwen2Tokenizer", "Qwen3_5Tokenizer",
        "CohereTokenizer", "OpenAIGPTTokenizer", "CTRLTokenizer",
    ), "gpt2"),
    **dict.fromkeys(("GemmaTokenizer", "GPTSw3Tokenizer"), "llama"),
}  # fmt: skip
"""Class of tokenizers → the tiny tokenizer of its kind."""
LIKE = {
    **dict.fromkeys(("bloom", "falcon", "gpt_bigcode", "modernbert-decoder", "gpt_oss"), "gpt2"),
    **dict.fromkeys(("xlm-roberta-xl", "bigbird_pegasus", "pegasus_x", "umt5", "longt5", "nystromformer"),
                    "xlm-roberta"),
    "prophetnet": "albert",  # its positions need the padding token to be the first, as in the published models
}  # fmt: skip
"""Family → tiny tokenizer, where transformers names no class or one for all."""
MIXTURE = {
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "n_group": 1, "topk_group": 1, "n_shared_experts": 1, "kv_lora_rank": 8,
    "q_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "shared_expert_intermediate_size":
    32,
}  # fmt: skip
"""Small sizes of mixtures of experts and of latent attention."""
TRAINING = {
    "max_steps": 2, "per_device_train_batch_size": 4, "per_device_eval_batch_size": 4, "save_strategy": "no",
    "logging_steps": 1, "report_to": "none", "use_cpu": True,
}  # fmt: skip
GENERATION = {"max_new_tokens": 4}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "text-to-text": {"max_source_length": 32, "max_target_length": 8},
    "question-answering": {"max_length": 48, "stride": 8},
    "multiple-choice": {"max_length": 96},
}
LAST: Mapping[str, Mapping[str, Any]] = {
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
}
"""Values of some families that replace those of the tokenizer."""
GENERATING = ("causal-language-modeling", "text-to-text")
OWN = ("CanineTokenizer", "PerceiverTokenizer")
"""Tokenizers that have no vocabulary: they read characters or bytes."""
LENGTH = {"max_length": 32}
_PIER = ["harbour", "pier", "quay", "boat", "ship", "net", "crate", "rope", "salt", "tar", "gull", "storm"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What happened to one cell."""

    family: str
    task: str
    outcome: str
    cause: str = ""
    """The sentence of a refusal, or the error."""
    seconds: float = 0.0
    date: str = ""
    version: str = ""
    """Of transformers."""
    code: str = ""
    """Digest of the code that was tried; see `digest`."""


def reason(family: str) -> str | None:
    """Return why a family is not tried; None if it is."""
    if family in EXCLUDED:
        return EXCLUDED[family]
    parts = set(getattr(families.config_class(family), "sub_configs", {}))
    if any("vision" in part or "image" in part for part in parts):
        return _IMAGES
    if any("audio" in part or "codec" in part for part in parts):
        return _AUDIO
    return None


def cells() -> list[tuple[str, str]]:
    """Return every family with every task that it has a head for, the most common families first."""
    found = []
    for task, (_, mapping) in TASKS.items():
        for family in getattr(modeling_auto, f"MODEL_FOR_{mapping}_MAPPING_NAMES"):
            found.append((family, task))
    rank = {family: place for place, family in enumerate(COMMON.split())}
    order = list(TASKS)
    return sorted(found, key=lambda cell: (rank.get(cell[0], len(rank)), cell[0], order.index(cell[1])))


def rows(task: str, count: int, *, seed: int) -> list[dict[str, Any]]:
    """Return rows of a task, short and long ones."""
    draw = random.Random(seed)
    made: list[dict[str, Any]] = []
    for number in range(count):
        words = [draw.choice(_PIER) for _ in range(3 + 5 * (number % 2))]
        text = " ".join(words)
        if task == "text-classification":
            made.append({"text": text, "label": ("sea", "land")[number // 2 % 2]})
        elif task == "token-classification":
            tags = [("O", "B-A", "B-B")[len(word) % 3] for word in words]
            made.append({"tokens": words, "ner_tags": tags})
        elif task == "question-answering":
            answers = {"text": [words[0]], "answer_start": [0]}
            made.append({"id": f"{seed}-{number}", "question": "what?", "context": text, "answers": answers})
        elif task == "multiple-choice":
            context = " ".join(draw.choice(_PIER) for _ in range(3))
            choices = [f"{text} a", f"{words[0]} b"]
            made.append({"context": context, "question": "what?", "choices": choices, "label": number % 2})
        elif task == "text-to-text":
            made.append({"source": text, "target": words[0]})
        else:
            made.append({"text": text})
    return made


def tokenizer_of(family: str, task: str) -> Any:
    """Return a tiny tokenizer of the kind that a family has."""
    kind = tokenization_auto.TOKENIZER_MAPPING_NAMES.get(family)
    if kind in OWN:
        return getattr(transformers, kind)()
    usual = "bert"
    if family in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not _is_encoder(family):
        usual = "llama"
    if task == "text-to-text":
        usual = "xlm-roberta"
    return tokenizer(LIKE.get(family) or KINDS.get(str(kind)) or usual, vocab_size=400)


def _is_encoder(family: str) -> bool:
    return family in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES


def build(family: str, task: str, directory: Path) -> None:
    """Write a tiny model and its tokenizer to a folder: with its head for a language model, else without a head.

    Raises:
        ValueError: The model would not be tiny.
    """
    words = tokenizer_of(family, task)
    given = {"vocab_size": len(words), "max_position_embeddings": 128, "initializer_range": 0.2, **MIXTURE}
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"):
        given[name] = getattr(words, name)
    given["vocab_size_per_layer_input"] = len(words)
    accepted = families.accepted(family)
    more = {name: value for name, value in given.items() if name in accepted and value is not None}
    more.update({name: value for name, value in families.FURTHER.get(family, {}).items() if name not in given})
    more.update({name: value for name, value in families.FURTHER.get(family, {}).items() if name in MIXTURE})
    if task == "causal-language-modeling" and "is_decoder" in accepted:
        more["is_decoder"] = True
    if task == "text-to-text":
        more["decoder_start_token_id"] = words.pad_token_id
    more.update(LAST.get(family, {}))
    config = families.tiny_config(family, **more)
    headless = (
        "language-modeling" not in task and task != "text-to-text" and family in modeling_auto.MODEL_MAPPING_NAMES
    )
    if headless and isinstance(bodies := modeling_auto.MODEL_MAPPING_NAMES[family], tuple):
        config.architectures = [bodies[0]]
    model_class = transformers.AutoModel if headless else getattr(transformers, TASKS[task][0])
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in model_class.from_config(config).parameters())
    if parameters > MOST_PARAMETERS:
        raise ValueError(f"the configuration with small sizes still makes {parameters:,} parameters")
    torch.manual_seed(0)
    model = model_class.from_config(config)
    _widen(model)
    model.save_pretrained(directory)
    words.save_pretrained(directory)


@torch.no_grad()
def _widen(model: Any) -> None:
    """Give the matrices of a model values so large that its outputs depend on every token and position."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding | Conv1D):
            module.weight.normal_(0, 1 / math.sqrt(module.weight.shape[-1]))


def try_cell(family: str, task: str) -> Outcome:
    """Train two steps, save, reload, and predict alone and in a batch."""
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        outcome, cause = _tried(family, task, Path(folder))
        cause = cause.replace(str(Path(folder)), "…")
    return Outcome(
        family=family,
        task=task,
        outcome=outcome,
        cause=cause,
        seconds=round(time.process_time() - started, 1),
        date=str(datetime.now(UTC).date()),
        version=version("transformers"),
        code=digest(task),
    )


def _tried(family: str, task: str, folder: Path) -> tuple[str, str]:
    try:
        with _limited():
            build(family, task, folder / "base")
    except Exception as error:  # noqa: BLE001, every error is an outcome
        return NOT_BUILT, f"{type(error).__name__}: {_words(error)}"
    dataset = {split: rows(task, size, seed=size) for split, size in (("train", 12), ("validation", 6), ("test", 4))}
    reporter = Phases()
    try:
        with _limited():
            result = finetune.train(
                task=task, model=str(folder / "base"), dataset=dataset, strategy="full", output=str(folder / "run"),
                preprocessor=dict(OPTIONS.get(task, LENGTH)), training=TRAINING, general_text="none",
                generation=GENERATION if task in GENERATING else None, score_base_model=False, reporter=reporter,
            )  # fmt: skip
            fault = _fault(result, finetune.load(str(folder / "run")), rows(task, 4, seed=9))
    except Exception as error:  # noqa: BLE001, every error is an outcome
        if isinstance(error, FinetuneError) and "train" not in reporter.begun:
            return REFUSED, _words(error)
        return FAILS, f"{type(error).__name__}: {_words(error)}"
    return (FAILS, fault) if fault else (WORKS, "")


def _fault(result: Any, trained: Any, questions: list[dict[str, Any]]) -> str:
    """Return what is wrong with a trained model; an empty text if nothing is."""
    losses = [entry["loss"] for entry in result.log if "loss" in entry]
    if len(losses) != TRAINING["max_steps"] or not all(map(math.isfinite, losses)):
        return f"the losses of the two steps are {losses}"
    sizes = {name: parameter.numel() for name, parameter in trained.model.named_parameters()}
    new = sum(size for name, size in sizes.items() if name.rpartition(".")[0] in result.newly_initialized)
    if new > (1 - LOADED) * sum(sizes.values()):
        return f"{new:,} of {sum(sizes.values()):,} values of the base model are not loaded"
    mask = trained.tokenizer.mask_token
    if "masked" in result.recipe["task"]:
        questions = [{"text": f"{question['text']} {mask} ."} for question in questions]
    together = trained.predict(questions)
    for question, record in zip(questions, together, strict=True):
        if not _alike(trained.predict(question), record):
            return "the prediction of a row alone differs from that in a batch"
    words = trained.tokenizer
    words.padding_side = "left" if words.padding_side == "right" else "right"
    try:
        other = trained.predict(questions)
    except FinetuneError:
        return ""  # the other side is refused by name
    return "" if _alike(other, together) else "predictions depend on the tokenizer's padding side"


class Phases(Reporter):
    """Notes which phases of a run begin."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[str] = []

    def began(self, name: str) -> None:
        """Note a phase."""
        self.begun.append(name)


def digest(task: str) -> str:
    """Return a digest of the code on which the outcome of a task's cells depends."""
    package = discover().find("tasks", task).preprocessor.partition(".")[0]
    root = OUTCOMES.parents[2]
    paths = [root / "finetune" / "models.py", root / "finetune" / "run.py", Path(families.__file__), Path(__file__)]
    paths += sorted((root / "finetune" / "training").glob("*.py")) + sorted((root / "plugins" / package).glob("*.py"))
    content = hashlib.sha256()
    for path in paths:
        content.update(path.read_bytes())
    return content.hexdigest()[:12]


@contextmanager
def _limited() -> Iterator[None]:
    """Stop what takes more than `SECONDS` of processor time."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"it takes more than {SECONDS} seconds of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _words(error: BaseException) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 300 else f"{words[:299]}…"


def _alike(first: Any, second: Any) -> bool:
    """Return whether two records are equal but for the last digits of their numbers."""
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(_alike(first[name], second[name]) for name in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(_alike, first, second))
    if isinstance(first, float):
        return math.isclose(first, second, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return bool(first == second)


def read(path: Path = OUTCOMES) -> dict[tuple[str, str], Outcome]:
    """Return the outcomes of a file; of several for a cell, the last."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        outcome = Outcome(**json.loads(line))
        found[outcome.family, outcome.task] = outcome
    return found


def page(outcomes: Mapping[tuple[str, str], Outcome]) -> str:
    """Return the page of models."""
    every = cells()
    notes: dict[str, int] = {}
    lines, left_out, not_run = {}, {}, []
    for family, task in every:
        why = reason(family)
        if why is not None:
            left_out[family] = why
            continue
        line = lines.setdefault(family, dict.fromkeys(TASKS, ""))
        outcome = outcomes.get((family, task))
        line[task] = _mark(outcome, notes)
        if outcome is None:
            not_run.append((family, task))
    tried = [outcome for cell, outcome in outcomes.items() if cell in every and reason(cell[0]) is None]
    counts = {kind: sum(outcome.outcome == kind for outcome in tried) for kind in (WORKS, REFUSED, FAILS, NOT_BUILT)}
    dates = sorted({outcome.date for outcome in tried})
    versions = sorted({outcome.version for outcome in tried})
    grid = [[f"`{family}`", *(line[task] for task in TASKS)] for family, line in sorted(lines.items())]
    excluded = [[f"`{family}`", why] for family, why in sorted(left_out.items())]
    parts = [
        HEAD,
        f"{len(tried) + len(not_run)} cells: {counts[WORKS]} work, refused {counts[REFUSED]}, fails {counts[FAILS]}, "
        f"not built small {counts[NOT_BUILT]}, not run {len(not_run)}.",
        f"Run on {', '.join(dates)} with transformers {', '.join(versions)}." if dates else "",
        table(["Family", *(f"`{task}`" for task in TASKS)], grid),
        "## Families that are left out",
        table(["Family", "Why"], excluded),
        "## Causes" if notes else "",
        "\n".join(f"[^{number}]: {as_written(words)}" for words, number in notes.items()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _mark(outcome: Outcome | None, notes: dict[str, int]) -> str:
    if outcome is None:
        return "not run"
    if outcome.outcome == WORKS:
        return "✓"
    number = notes.setdefault(outcome.cause, len(notes) + 1)
    return {REFUSED: f"refused[^{number}]", FAILS: f"**fails**[^{number}]"}.get(outcome.outcome, f"–[^{number}]")


HEAD = """\
---
hide: [toc]
---

# Models

Every text architecture of transformers with every task that it has a head for. This page is generated from the results
of `python tests/core/probe.py`.

A **✓** means that a tiny model of the family with random weights, and a tiny tokenizer of the family's kind, went
through this:

- the data was checked, and two steps of training with `full` had finite losses;
- the weights came from the file of the base model, not from a new start;
- the saved model was loaded again, and gave the same outputs to the bit;
- the predictions for four texts were the same alone and in one batch (numbers within 1e-3 of each other, relatively, or
  within 1e-5), and did not depend on the side on which the tokenizer pads.

It does not say how well the family learns, and it says nothing about its published models.

**refused** leads to the sentence with which the library refuses the pair before the first step. **fails** leads to the
error. **–** leads to the reason why the probe could not build a small model of the family. An empty cell means that
transformers has no such head. A cell that was **not run** may work.

To try the cells with your own versions, run `python tests/core/probe.py --minutes 60` in a checkout. It goes on where
it stopped. `--family`, `--task` and `--outcome` choose cells, and `--again` tries those that have an outcome."""


def written(text: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Return the mark and the cause that a page states for each cell."""
    causes = dict(re.findall(r"^\[\^(\d+)\]: (.*)$", text, flags=re.MULTILINE))
    marks = {"✓": WORKS, "refused": REFUSED, "**fails**": FAILS, "–": NOT_BUILT, "not run": "not run"}
    found = {}
    for line in text.splitlines():
        cut = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("| `") or len(cut) != len(TASKS) + 1:
            continue
        for task, cell in zip(TASKS, cut[1:], strict=True):
            mark, _, note = cell.partition("[^")
            if mark:
                found[cut[0].strip("`"), task] = (marks[mark], causes.get(note.rstrip("]"), ""))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Try cells until the time is over, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=0, help="how long to try cells; 0 only writes the page")
    parser.add_argument("--family", action="append", default=[])
    parser.add_argument("--task", action="append", choices=list(TASKS), default=[])
    parser.add_argument("--outcome", choices=[WORKS, REFUSED, FAILS, NOT_BUILT], help="only cells that ended so")
    parser.add_argument("--again", action="store_true", help="try cells again that have an outcome")
    given = parser.parse_args(arguments)
    end = time.monotonic() + 60 * given.minutes
    outcomes, code = read(), {task: digest(task) for task in TASKS}
    with OUTCOMES.open("a", encoding="utf-8") as file:
        for family, task in cells():
            known = outcomes.get((family, task))
            chosen = family in (given.family or [family]) and task in (given.task or [task])
            if given.outcome:
                chosen = chosen and known is not None and known.outcome == given.outcome
            if not chosen or reason(family) is not None or time.monotonic() > end:
                continue
            if known and not given.again and (known.version, known.code) == (version("transformers"), code[task]):
                continue
            outcome = try_cell(family, task)
            outcomes[family, task] = outcome
            file.write(line_of(outcome))
            file.flush()
            print(f"{family} {task}: {outcome.outcome} {outcome.cause} ({outcome.seconds} s)", flush=True)
            gc.collect()
    known_cells = [cell for cell in cells() if cell in outcomes and reason(cell[0]) is None]
    OUTCOMES.write_text("".join(line_of(outcomes[cell]) for cell in known_cells), encoding="utf-8")
    PAGE.write_text(page(outcomes), encoding="utf-8")


def line_of(outcome: Outcome) -> str:
    """Return the line of an outcome."""
    return json.dumps(asdict(outcome), ensure_ascii=False) + "\n"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    transformers.logging.disable_progress_bar()
    main()
