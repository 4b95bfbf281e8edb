"""A damaged checkpoint is noticed, and the run continues from the older one; the campaign sees damage that is not."""

from __future__ import annotations

from pathlib import Path

import damaged
import pytest
from transformers import TrainerState

from finetune.training import checkpoints


def test_every_file_of_a_checkpoint_is_checked(tmp_path: Path) -> None:
    found = damaged.measure(seed=1, folder=tmp_path, kinds=["full"], flips=2, resumes=1)
    assert found.problems == []
    assert found.files >= 7 and found.noticed == found.trials >= found.files * 8
    assert found.equal == found.resumed == 1


def test_damage_that_is_not_noticed_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer, older = tmp_path / f"checkpoint-{damaged.NEWER}", tmp_path / f"checkpoint-{damaged.OLDER}"
    identity = checkpoints.Identity({}, {})
    for step, folder in ((damaged.NEWER, newer), (damaged.OLDER, older)):
        folder.mkdir()
        (folder / "optimizer.pt").write_bytes(bytes(range(40)) + bytes([step]))
        TrainerState(global_step=step).save_to_json(str(folder / checkpoints.TRAINER_STATE))
        checkpoints.seal(folder, identity=identity, step=step)
    figures = damaged.Figures(1)
    path = newer / "optimizer.pt"
    done = list(damaged.damages(path, older / path.name, damaged.random.Random(1), flips=3))
    for what, damage in done:
        damaged.try_to_find(tmp_path, path, damage, what, identity, figures)
    assert figures.noticed == figures.trials == len(done) and figures.problems == []
    monkeypatch.setattr(checkpoints, "file_sha256", lambda path: checkpoints.json.loads(
        (path.parent / checkpoints.MANIFEST).read_text())["files"][path.name]["sha256"])  # fmt: skip
    damaged.try_to_find(tmp_path, path, done[-1][1], done[-1][0], identity, figures)
    assert len(figures.problems) == 1 and "bit" in figures.problems[0]
