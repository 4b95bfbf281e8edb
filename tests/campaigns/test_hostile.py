"""A few attacks of a stranger, and the faults that the campaign must notice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import hostile
import hostile_attacks
import pytest
from hostile_attacks import every


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    hostile.prepare(folder)
    return folder


WANTED = (
    "function of Python", "attn_implementation of run", "weights_only with an index of pickles, zip",
    "index of pickles",
    "config.json of run: auto_map", "adapter_model.bin: exec, zip", "checkpoint's optimizer.pt: os.system, zip",
    "checkpoint's scaler.pt: exec, zip", "checkpoint's pytorch_model.bin: exec, zip",
    "saved data set of images", "parquet of unknown types",
    "parquet with a pickled type", "link log.jsonl, resumed", "adapter_config.json: multitask",
)  # fmt: skip
"""One attack for each way in."""


@pytest.fixture
def attacks(prepared: Path) -> Iterator[hostile.Attack]:
    found = {attack.name: attack for attack in every(prepared, seed=0, keys=0)}
    return iter(found[name] for name in WANTED)


def test_nothing_of_a_stranger_runs(prepared: Path, attacks: Iterator[hostile.Attack], tmp_path: Path) -> None:
    for attack in attacks:
        outcome = next(hostile.tried(attack, prepared, tmp_path))  # the campaign tries the other commands, too
        assert not outcome.wrong, outcome
        harmless = outcome.attack == "parquet with a pickled type"  # it is read as the type below it
        assert outcome.exit_code != 0 or harmless, outcome


def test_the_campaign_notices_a_canary_and_other_faults(prepared: Path, tmp_path: Path) -> None:
    assert hostile.controlled(prepared, tmp_path)
    assert hostile.noticed(prepared, tmp_path) == {"socket", "program", "file"}


def test_every_key_of_result_and_recipe_is_tried(prepared: Path) -> None:
    tried = {attack.name.split(" = ")[0] for attack in every(prepared, seed=0) if attack.kind == "keys"}
    content = json.loads((prepared / "run" / "result.json").read_text())
    assert {f"run: {key}" for key in content} <= tried
    assert {f"run: recipe.{key}" for key in content["recipe"]} <= tried
    assert len(hostile_attacks.VALUES) < len(tried)
