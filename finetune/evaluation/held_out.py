"""What a result holds of one split that was scored after the training, such as that of an adopted or exported model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune.data import Examples, features
from finetune.data.preparation import Prepared
from finetune.evaluation.analysis import analyse, score_examples, split_into_slices
from finetune.evaluation.evidence import compute_evidence
from finetune.evaluation.scoring import Scored, all_scores, details_of, write_predictions
from finetune.interfaces import Record
from finetune.plan import Plan


def describe(plan: Plan, examples: Examples, records: list[Record], *, tokenizer: Any, output: Path) -> dict[str, Any]:
    """Write `predictions.jsonl` and the evaluator's files of one split, and return the fields of its result.

    Args:
        plan: With the fitted preprocessor and evaluator, and the metrics of the run.
        examples: The rows of the split, and of no other one; what it says of other splits is left out.
        records: The record of each row.
        tokenizer: That of the model.
        output: The run folder.

    Returns:
        Field of `Result` → its value.
    """
    ((split, rows),) = examples.splits.items()
    examples = replace(
        examples,
        places={name: places for name, places in examples.places.items() if name == split},
        data_report={split: examples.data_report[split]},
        fingerprints={split: examples.fingerprints[split]},
    )
    made = features.make(
        rows, preprocessor=plan.preprocessor, tokenizer=tokenizer, task=plan.task, split=split, answers=True
    )
    prepared = Prepared(
        plan=plan, examples=examples, leakage={}, tokenizer=tokenizer, features={split: made}, limits={split: ()}
    )
    scored = Scored(
        evaluator=plan.evaluator,
        records={split: records},
        scores={split: all_scores(plan.evaluator, plan, records, examples=rows)},
        baselines={},
        details={split: details_of(plan.evaluator, records)},
    )
    slices = split_into_slices(prepared, scored)
    write_predictions(output, prepared, scored, score_examples(scored, slices))
    return {
        "scores": scored.scores,
        "details": scored.details,
        **vars(compute_evidence(prepared, scored, None)),
        **vars(analyse(prepared, scored, slices)),
        "data_report": prepared.data_report,
        "findings": examples.counts,
        "fingerprints": dict(examples.fingerprints),
    }


__all__ = ["describe"]
