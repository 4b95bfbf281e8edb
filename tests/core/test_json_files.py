"""Every file that finetune writes as JSON is JSON, also if a number is not finite; reading it gives NaN again."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune import folder
from finetune.errors import BadData
from finetune.evaluation import comparison
from finetune.progress import Reporter
from finetune.result import (
    NON_FINITE,
    PREDICTIONS,
    Result,
    as_plain,
    find_non_finite,
    json_problem,
    restore_non_finite,
    to_json,
)
from finetune.training.callbacks import WriteLog

ROOT = Path(__file__).parents[2]
NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.integers() | st.none() | st.text(max_size=3)
CONTENT = st.recursive(
    NUMBERS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


def strict(text: str) -> Any:
    """Read JSON as other programs do, which know no NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@given(st.dictionaries(st.text(max_size=3), CONTENT, max_size=3), st.none() | st.just(1))
def test_json_is_strict_and_numbers_that_are_not_finite_can_be_restored(content: Any, indent: int | None) -> None:
    read = strict(to_json(content, indent=indent))
    restore_non_finite(read, strict(to_json(find_non_finite(content))))
    assert repr(read) == repr(json.loads(json.dumps(content)))


@pytest.mark.parametrize("content", [{"a": {1, 2}}, object()])
def test_what_json_cannot_hold_is_an_error_or_text(content: Any) -> None:
    with pytest.raises(TypeError):
        to_json(content)
    assert to_json([content, math.nan], default=lambda _: "text").endswith("null]")


@given(st.dictionaries(st.text(max_size=3), CONTENT, max_size=3), st.none() | st.just(1))
def test_a_mapping_of_any_class_is_written_as_a_dict_is(content: dict[str, Any], indent: int | None) -> None:
    wrapped = {"a": [MappingProxyType(content)]}
    assert to_json(wrapped, indent=indent) == to_json({"a": [content]}, indent=indent)
    assert repr(as_plain(wrapped)) == repr({"a": [content]}) and json_problem(wrapped) == ""
    assert find_non_finite(wrapped) == find_non_finite({"a": [content]})


def test_lines_are_written_one_by_one(tmp_path: Path) -> None:
    held, most = 0, 0

    class Row(dict[str, Any]):
        def __init__(self) -> None:
            nonlocal held, most
            dict.__init__(self, a=1)
            held += 1
            most = max(most, held)

        def __del__(self) -> None:
            nonlocal held
            held -= 1

    folder.write_lines(tmp_path / PREDICTIONS, (Row() for _ in range(100)))
    assert (tmp_path / PREDICTIONS).read_text(encoding="utf-8") == '{"a": 1}\n' * 100
    assert most <= 2


def test_the_predictions_of_a_run_keep_numbers_that_are_not_finite(tmp_path: Path) -> None:
    records = [{"reward": math.nan, "reference": None}, {"reward": -math.inf, "margins": [1.0, math.nan]}]
    lines = list(folder.lines_of("test", [{"text": "a"}] * 2, records, [{"loss": math.inf}] * 2, places=[{}] * 2))
    folder.write_lines(tmp_path / PREDICTIONS, lines)
    for line in (tmp_path / PREDICTIONS).read_text(encoding="utf-8").splitlines():
        assert strict(line)["evaluation"] == {"loss": None}
    assert repr(comparison.records_of(tmp_path, "test")) == repr(records)


@pytest.mark.parametrize("places", [[["absent", "nan"]], [["margins", 9, "nan"]], [["reward", "word"]], [[]], 5, "ab"])
def test_odd_places_are_a_damaged_line(places: Any, tmp_path: Path) -> None:
    line = {"split": "test", "index": 0, "margins": [1.0], "reward": 1.0, NON_FINITE: places}
    if places == [["absent", "nan"]]:
        line[NON_FINITE] = [["absent", "deeper", "nan"]]
    (tmp_path / PREDICTIONS).write_text(json.dumps(line) + "\n")
    with pytest.raises(BadData, match="the line is damaged"):
        comparison.records_of(tmp_path, "test")


def test_a_result_is_read_back_with_nan_where_a_number_is_wanted(toy_run: Path, tmp_path: Path) -> None:
    content = json.loads((toy_run / "result.json").read_text(encoding="utf-8"))
    content["scores"]["test"]["accuracy"] = math.nan
    content["log"].append({"loss": math.nan, "step": 3})
    content["worst"]["test"] = [
        {"index": 0, "loss": math.inf, "example": {"text": None}, "record": {}, "highlights": {}}
    ]
    content["intervals"]["test"] = {"accuracy": {"low": math.nan, "high": 1.0}}
    result = Result.load(toy_run)
    changed = Result(**{**vars(result), **{key: content[key] for key in ("scores", "log", "worst", "intervals")}})
    changed.save(tmp_path)
    strict((tmp_path / "result.json").read_text(encoding="utf-8"))
    read = Result.load(tmp_path)
    assert math.isnan(read.scores["test"]["accuracy"]) and math.isnan(read.log[-1]["loss"])
    assert math.isnan(read.worst["test"][0]["loss"]) and read.worst["test"][0]["example"] == {"text": None}
    assert math.isnan(read.intervals["test"]["accuracy"]["low"]) and read.intervals["test"]["accuracy"]["high"] == 1
    for entry in read.units.values():
        assert entry["column"] is None, "what is None stays None"


def test_the_log_of_a_run_is_json(tmp_path: Path) -> None:
    class State:
        is_world_process_zero, global_step, log_history = True, 2, [{"loss": 1.0, "step": 1}, {"loss": 0.5, "step": 2}]

    log = WriteLog(tmp_path / "log.jsonl", Reporter())
    log.on_log(None, State, None, {"loss": math.nan})
    log.on_log(None, State, None, {"eval_loss": 1.0})
    assert [strict(line) for line in log.path.read_text().splitlines()] == [
        {"step": 2, "loss": None}, {"step": 2, "eval_loss": 1.0}
    ]  # fmt: skip
    log.on_train_begin(None, State, None)  # a resume: what its checkpoint does not hold is made again
    assert [strict(line) for line in log.path.read_text().splitlines()] == [
        {"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}
    ]  # fmt: skip


def test_every_file_is_written_without_nan() -> None:
    """`json.dumps` writes the bare word NaN, which is no JSON, unless it is forbidden."""
    allowed = {
        "finetune/result.py", "finetune/report/page.py", "finetune/training/checkpoints.py", "finetune/base.py",
        "finetune/fine_tuned.py", "finetune/secrets.py",  # what is hashed, and what is searched for
        "finetune/report/examples.py",  # what is shown
        "finetune/data/feature_cache.py",
        "finetune/recipe/search.py",  # a label
        "plugins/finetune_decision/systemone.py", "plugins/finetune_decision/questions.py",
        "plugins/finetune_decision/scores.py", "plugins/finetune_samples/decisions.py",
        "finetune/data/leaks.py", "finetune/data/splits.py", "finetune/data/readers/delimited.py",
        "finetune/testing/laws.py", "finetune/testing/tokenizers.py", "plugins/finetune_samples/vocabularies.py",
        "plugins/finetune_samples/bases.py", "plugins/finetune_trl/chat/messages.py",
        "plugins/finetune_trl/chat/templates.py", "plugins/finetune_hub/hub_rules.py",
        "plugins/finetune_hub/testing.py",
    }  # fmt: skip
    for path in [*(ROOT / "finetune").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) not in ("json.dumps", "json.dump"):
                continue
            forbids = any(word.arg == "allow_nan" for word in node.keywords)
            name = str(path.relative_to(ROOT))
            assert forbids or name in allowed, f"{name}:{node.lineno} writes JSON: use finetune.result.to_json"
