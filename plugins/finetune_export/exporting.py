"""Export a model: write it, load it through its runtime, and score it against its source."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

import finetune
from finetune.errors import Incompatible, OutputExists
from finetune.interfaces import Record
from finetune.kit import (
    LOG,
    RECIPE,
    Reporter,
    Result,
    RuntimeStrategy,
    base_model_of,
    describe_saved,
    describe_split,
    dump_yaml,
    find_non_finite,
    make_readable,
    padding_side,
    recipe_to_mapping,
    to_json,
    units_of_examples,
    visible,
    write_atomically,
    write_report,
)
from finetune_export import formats, proof, speed
from finetune_export.formats import Format, Source
from finetune_export.proof import Proof
from finetune_export.runtime import PT2, pickle_name
from finetune_export.speed import Speed

PROOF = "proof.json"
"""The file of an exported folder that says what it is, where it comes from, and what the export changed."""
FLIPS = "flips.jsonl"
"""The rows whose prediction changed."""
SHOWN = 5
"""Most flips that a message shows."""
TRACED = 64
"""Rows among which those are chosen with which a model is traced."""
LIBRARIES = ("torch", "transformers", "onnx", "onnxruntime", "onnxscript", "openvino", "nncf")


class Refused(Incompatible):
    """The exported model is not as good as its source. Nothing was kept."""

    exit_code = 3


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An exported model, and what the export changed."""

    directory: str
    format: str
    calibrated_on: int
    """Rows of train with which activations were quantized; 0 if they were not."""
    proof: Proof
    verdict: str
    bytes: Mapping[str, int]
    """``source`` and ``exported`` → size of the weights."""
    speed: Mapping[str, Sequence[Speed]]
    """``source`` and ``exported`` → times of batches."""
    threads: int


def export(
    model: str | Path,
    output: str | Path,
    *,
    format: str,  # noqa: A002, the word of the command
    data: Any = None,
    split: str | None = None,
    tolerance: float | None = None,
    calibrate: int = 0,
    reporter: Reporter | None = None,
    **opening: Any,
) -> Exported:
    """Export a model for another runtime, and score it through that runtime.

    The new folder is used as a run folder: by `finetune predict`, `evaluate`, `serve`, `compare` and `report`, and by
    `finetune.load`. It is written only if the exported model is as good as `tolerance` asks.

    Args:
        model: The run folder, or a model as `finetune.load` takes it.
        output: The new folder.
        format: A name of `formats.FORMATS`.
        data: Rows with answers, as `finetune.evaluate` takes them; None for those that the run held out.
        split: The split to score; None for `test`, or for `validation` if there is no `test`.
        tolerance: How many points of the primary score may be lost; None for any number. A point is a hundredth of a
            score that goes to 1.
        calibrate: Rows of train with which activations are quantized; 0 to quantize them as they come.
        reporter: Shows the progress.
        **opening: Further arguments of `finetune.load`.

    Raises:
        Refused: The exported model lost more than `tolerance`, or computes something else than its source.
        Incompatible: The format cannot hold the model.
        OutputExists: The folder is not empty.
    """
    reporter, output = reporter or Reporter(), Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputExists(f"output: {str(output)!r} is not empty. Name another folder.")
    with reporter.phase("load the model"):
        source = finetune.load(model, **opening)
    source.say(reporter)
    chosen = formats.find(format, model_class=source.plan.task.model_class, calibrate=calibrate)
    with reporter.phase("read and check the data"):
        to_score = source.to_score(data, split=split, reporter=reporter)
        calibration = _calibration(source, calibrate, reporter) if calibrate else []
    with reporter.phase("prepare the model"):
        plain = _plain(source, model, opening)
        ((_, rows),) = to_score.examples.splits.items()
        exported_from = Source(model=plain, batch=_sample(source, rows), calibration=calibration)
        output.parent.mkdir(parents=True, exist_ok=True)
        place = output.parent / f".{output.name}-{uuid4().hex[:8]}"
        place.mkdir()  # with the mode of other folders, which `tempfile` would not give
    try:
        with reporter.phase(f"write {format}"):
            _write(source, exported_from, chosen, place, output)
        found = _prove(source, chosen, to_score, place, tolerance=tolerance, calibrate=calibrate, reporter=reporter)
        result = found.finish(output)
        if output.exists():
            output.rmdir()  # it is empty
        place.rename(output)
    except BaseException:  # half a model, or a wrong one, must not look like a whole one
        shutil.rmtree(place, ignore_errors=True)
        raise
    source.plan.plugins.announce("after_run", result=result, directory=output)
    return found.exported(output)


def _plain(source: Any, model: str | Path, opening: Mapping[str, Any]) -> Any:
    """Return the model to export: that of the source, or of a copy whose adapter is merged.

    Raises:
        Incompatible: The model has no form that can be exported.
    """
    plain: Any
    if base_model_of(source.model) is not source.model:
        copy = finetune.load(model, **opening)  # merging changes the model, and the source is still compared
        plain = copy.plan.strategy.whole(copy.model)
    else:
        plain = source.plan.strategy.whole(source.model)
    if padding_side(plain) == "left":
        raise Incompatible(f"--format: {type(plain).__name__} reads texts padded on the left, which no format keeps.")
    if plain.dtype != torch.float32:
        if plain is source.model:
            plain = finetune.load(model, **opening).model
        plain = plain.float()
    return plain.eval()


def _sample(source: Any, rows: Any) -> Mapping[str, Any]:
    """Return a batch of rows of different lengths, so that its padding and its shape stand for no constant."""
    inference = source.inference()
    made = inference.features(rows.select(range(min(TRACED, len(rows)))), answers=False)
    lengths = list(inference.job.preprocessor.lengths(made.features))
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    chosen = [order[0], order[len(order) // 2], order[-1]]
    ((batch),) = inference.batches(replace(made, features=made.features.select(chosen)), size=len(chosen))
    return {name: value.to("cpu") for name, value in batch.items()}


def _calibration(source: Any, size: int, reporter: Reporter) -> list[Mapping[str, Any]]:
    """Return batches of one row each, drawn from train."""
    to_score = source.to_score(None, split="train", reporter=reporter)
    rows = to_score.examples.splits["train"]
    drawn = random.Random(source.plan.recipe.seed).sample(range(len(rows)), min(size, len(rows)))
    inference = source.inference()
    made = inference.features(rows.select(sorted(drawn)), answers=False)
    return [dict(batch) for batch in inference.batches(made, size=1)]


def _write(source: Any, exported_from: Source, chosen: Format, place: Path, output: Path) -> None:
    """Write the model, its tokenizer, and the recipe and the result with which the folder is loaded."""
    files = list(chosen.write(exported_from, place))
    source.tokenizer.save_pretrained(place)
    make_readable(place)
    recipe = dict(source.result.recipe) if source.is_run else recipe_to_mapping(source.plan.recipe)
    strategy = {
        "name": f"{RuntimeStrategy.__module__}:{RuntimeStrategy.__name__}",
        "runtime": chosen.runtime,
        "format": chosen.name,
        "trained_by": dict(recipe["strategy"]),
        "trained_on": dict(recipe["model"]),
        "unpickles": pickle_name(place / PT2) if PT2 in files else None,
    }
    recipe |= {"strategy": strategy, "output": str(output)}
    write_atomically(place / RECIPE, dump_yaml(recipe))
    if (log := Path(source.place) / LOG).is_file():
        shutil.copyfile(log, place / LOG)
    replace(
        source.result,
        recipe=recipe,
        base={**source.result.base, **describe_saved(place, others=files)},
        directory=str(place),
        adopted_from=source.result.adopted_from if source.is_run else source.place,
    ).save(place)


@dataclass(frozen=True, kw_only=True)
class _Proved:
    """A folder that is written and proved, and not yet in its place."""

    place: Path
    chosen: Format
    source: Any
    to_score: Any
    tokenizer: Any
    records: list[Record]
    """Those of the exported model."""
    result: Result
    """As it was written to load the folder."""
    proof: Proof
    verdict: str
    bytes: Mapping[str, int]
    speed: Mapping[str, Sequence[Speed]]
    calibrated_on: int

    def exported(self, output: Path) -> Exported:
        """Return what was exported."""
        return Exported(
            directory=str(output),
            format=self.chosen.name,
            calibrated_on=self.calibrated_on,
            proof=self.proof,
            verdict=self.verdict,
            bytes=self.bytes,
            speed=self.speed,
            threads=torch.get_num_threads(),
        )

    def finish(self, output: Path) -> Result:
        """Write the proof, the predictions, the result and the report of the folder; return the result."""
        examples = self.to_score.examples
        found = describe_split(self.to_score.plan, examples, self.records, tokenizer=self.tokenizer, output=self.place)
        note = f"exported as {self.chosen.name} from {Path(self.source.place).name}; {self.verdict}"
        result = replace(
            self.result,
            **found,
            base_model_scores={},
            calibration={},  # what was measured of the source; its temperature is an option of the evaluator
            leakage={name: value for name, value in self.result.leakage.items() if name in found["scores"]},
            limits={},
            saved_bytes=self.bytes["exported"],
            notes=[*self.result.notes, note.rstrip(".")],
            directory=str(output),
        )
        if self.proof.flips:
            write_atomically(self.place / FLIPS, "".join(self._lines(examples)))
        write_atomically(self.place / PROOF, to_json(self._described(output), indent=1) + "\n")
        write_report(result, self.place)
        result.save(self.place)
        return result

    def _lines(self, examples: Any) -> list[str]:
        """Return one JSON object for each flip, with its row."""
        ((split, rows),) = examples.splits.items()
        lines = []
        for flip in self.proof.flips:
            line = {"split": split, **asdict(flip), "example": dict(rows[flip.index])}
            lines.append(to_json({**line, "non_finite": find_non_finite(line)}) + "\n")
        return lines

    def _described(self, output: Path) -> dict[str, Any]:
        summary = asdict(self.exported(output))
        summary["proof"] = {**summary["proof"], "flips": len(self.proof.flips), "lost": self.proof.lost}
        del summary["directory"]
        files = {name: entry["sha256"] for name, entry in self.result.base["saved_model"].items()}
        return {
            **summary,
            "files": files,
            "source": {"name": Path(self.source.place).name, "fingerprint": self.source.fingerprint()},
            "versions": _versions(),
            "exported": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def _versions() -> dict[str, str]:
    found = {"finetune": finetune.__version__}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _prove(
    source: Any,
    chosen: Format,
    to_score: Any,
    place: Path,
    *,
    tolerance: float | None,
    calibrate: int,
    reporter: Reporter,
) -> _Proved:
    """Load a folder that was just written as anyone would, and compare it with its source.

    Raises:
        Refused: It is not as good.
    """
    ((split, rows),) = to_score.examples.splits.items()
    exported = finetune.load(place, trust_code=True)  # this process wrote it
    with reporter.phase("score the source"):
        before = source.records_to_score(to_score, reporter=reporter, cache=None)
    with reporter.phase("score the exported model"):
        after = exported.records_to_score(to_score, reporter=reporter, cache=None)
    with reporter.phase("compare"):
        found = proof.prove(
            source,
            exported,
            split=split,
            records=(before, after),
            rows=rows,
            units=units_of_examples(source.plan.preprocessor, rows),
        )
    words = proof.verdict(found, tolerance=tolerance)
    against = proof.problems(
        found,
        is_exact=chosen.is_exact,
        low_precision=base_model_of(source.model).dtype != torch.float32,
        tolerance=tolerance,
    )
    if against:
        raise Refused(_refusal(chosen, found, words, against, rows))
    with reporter.phase("measure the speed"):
        times = speed.measure({"source": source.inference(), "exported": exported.inference()}, rows)
    return _Proved(
        place=place,
        chosen=chosen,
        source=source,
        to_score=to_score,
        tokenizer=exported.tokenizer,
        records=after,
        result=exported.result,
        proof=found,
        verdict=words,
        bytes={"source": _size_of_parameters(source.model), "exported": _size_of_files(exported.result, place)},
        speed=times,
        calibrated_on=calibrate,
    )


def _refusal(chosen: Format, found: Proof, words: str, against: Sequence[str], rows: Any) -> str:
    lines = [f"the model exported as {chosen.name} is not as good as its source, and was not kept.", *against, words]
    lines += [f"  row {flip.index}: {line_of(flip, rows)}" for flip in found.flips[:SHOWN]]
    return "\n".join(lines)


def line_of(flip: proof.Flip, rows: Any) -> str:
    """Return a flip as one line: what the source said, what the exported model says, and the row."""
    example = ", ".join(str(value) for value in dict(rows[flip.index]).values() if isinstance(value, str))
    return f"{_short(flip.source)} → {_short(flip.exported)}: {_short(example, 60)}"


def _short(value: Any, most: int = 40) -> str:
    text = visible(str(value))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _size_of_parameters(model: Any) -> int:
    """Return the bytes of all weights of a model, each counted once."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def _size_of_files(result: Result, place: Path) -> int:
    """Return the bytes of the files from which an exported model is loaded."""
    return sum((place / name).stat().st_size for name in result.base["saved_model"])
