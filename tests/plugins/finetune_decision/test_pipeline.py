"""The folder of a run is a decision model of transformers, with the probabilities of `finetune predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from decided import probabilities_of, request_of, train, unanswered
from transformers import AutoTokenizer, pipeline
from transformers.decision import DecisionConfig

import finetune
from finetune.testing.models import tiny_model
from finetune_decision.configuration import plain_code
from finetune_peft.merging import merge

PEFT_WARNS = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

CHATML = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def compare(run: Path, rows: Any, decide: Any) -> None:
    """Check that a pipeline gives the answers of `finetune predict`."""
    ours = finetune.load(run).predict(unanswered(rows))
    assert {record["type"] for record in ours} == {"choice", "noul", "score"}
    for row, record in zip(rows, ours, strict=True):
        answer = decide(request_of(row))["asked"]
        assert record["probabilities"] == pytest.approx(probabilities_of(answer), abs=1e-5)
        assert record.get("confidence") == pytest.approx(answer.get("confidence"), abs=1e-5)
        if answer["type"] == "noul":
            assert record["prediction"] == ("true" if answer["noul"] > 0.5 else "false")
        elif answer["type"] == "score":
            assert record["prediction"] == pytest.approx(answer["score"], abs=1e-5)
        else:
            assert record["prediction"] == answer["choice"]


def test_a_whole_model_opens_from_its_folder(full: Path, rows: Any) -> None:
    decide = pipeline("decision", model=str(full))
    fitted = finetune.load(full).result.evaluator["options"]["temperatures"]
    assert decide.decision_config.temperature == fitted and set(fitted) == {"choice", "noul", "score"}
    assert all(value != 1 for value in fitted.values())
    compare(full, rows["test"][:6], decide)


def test_an_adapter_opens_with_its_settings(lora: Path, base: Path, rows: Any) -> None:
    given = {"tokenizer": str(lora), "decision_config": str(lora)}
    compare(lora, rows["test"][:6], pipeline("decision", model=str(lora), **given))
    # why the settings must be named: transformers 5.23 reads those of the base model
    alone = pipeline("decision", model=str(lora))
    assert alone.model.name_or_path == str(base) and alone.decision_config == DecisionConfig()


def test_a_merged_adapter_opens_from_its_folder(lora: Path, rows: Any, tmp_path: Path) -> None:
    merged = tmp_path / "merged"
    merge(lora, merged)
    assert json.loads((merged / "decision.json").read_text()) == json.loads((lora / "decision.json").read_text())
    compare(lora, rows["test"][:6], pipeline("decision", model=str(merged)))


def test_a_model_with_a_chat_template_and_labels_of_its_own(words: Any, rows: Any, tmp_path: Path) -> None:
    words = AutoTokenizer.from_pretrained(words.save_pretrained(tmp_path / "words")[0].rpartition("/")[0])
    words.chat_template = CHATML
    base = tiny_model("gpt2", words, tmp_path / "base", model_class="AutoModelForCausalLM", n_positions=512)
    labels = {"choice": ["1", "2", "3", "4", "5"], "noul": ["T", "F"]}
    run = train(base, tmp_path / "run", rows, preprocessor={"max_length": 512, "labels": labels})
    assert not (run / "decision_template.jinja").exists()
    settings = json.loads((run / "decision.json").read_text())
    assert settings["labels"] == labels and settings["adapter"] is None
    compare(run, rows["test"][:3], pipeline("decision", model=str(run)))


@PEFT_WARNS
def test_the_card_shows_code_that_runs(full: Path, lora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run in (full, lora):
        card = (run / "README.md").read_text(encoding="utf-8")
        code = card.partition("alone:\n\n```python\n")[2].partition("```")[0]
        assert 'pipeline("decision"' in code
        exec(code, {})
        assert "{'type': 'noul', 'noul': 0." in capsys.readouterr().out


@PEFT_WARNS
@pytest.mark.filterwarnings("ignore:Unsupported layer type .*Norm:UserWarning")
@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy", [{"name": "lora", "use_dora": True}, {"name": "ia3"}, {"name": "layernorm"}, {"name": "prefix"}]
)
def test_the_code_of_the_card_gives_the_probabilities_of_every_adapter(
    strategy: dict[str, Any], base: Path, rows: Any, tmp_path: Path
) -> None:
    run = train(base, tmp_path / "run", rows, strategy=strategy)
    found: dict[str, Any] = {}
    exec(plain_code(str(run), adapter=True), found)
    compare(run, rows["test"][:6], found["decide"])


@pytest.mark.slow
def test_virtual_tokens_before_the_text_have_no_such_code(base: Path, rows: Any, tmp_path: Path) -> None:
    run = train(base, tmp_path / "run", rows, strategy="prompt")
    assert 'pipeline("decision"' not in (run / "README.md").read_text(encoding="utf-8")
