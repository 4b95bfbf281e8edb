"""`finetune clean`: what the run needs stays, what is not the run's stays, and the rest is gone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import toy
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import finetune
from finetune import base as bases
from finetune import cleaning, folder
from finetune.cli import main
from finetune.errors import BadRecipe, CannotWrite, OutputExists
from finetune.training.checkpoints import verify

TRAINING = {
    "max_steps": 6, "save_strategy": "steps", "save_steps": 2, "save_total_limit": 3, "lr_scheduler_type": "constant",
    "eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True, "metric_for_best_model": "loss",
    "greater_is_better": True,
}  # fmt: skip
"""The loss falls, and the trainer takes a high one for good: the best checkpoint is the first."""

NEEDED = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "recipe.yaml", "result.json",
          "predictions.jsonl", "log.jsonl", "report.html", "README.md")  # fmt: skip


def content(base: Path, output: Path) -> dict[str, Any]:
    return toy.recipe(base, output, training=TRAINING, score_base_model=False, general_text="none")


@pytest.fixture(scope="module")
def trained(toy_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run with checkpoints of the steps 2, 4 and 6. Tests must not change it."""
    output = tmp_path_factory.mktemp("cleaning") / "run"
    finetune.train(**content(toy_base, output))
    assert {path.name for path in output.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4", "checkpoint-6"}
    return output


@pytest.fixture
def finished(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "runs" / "finished")


@pytest.fixture
def unfinished(trained: Path, tmp_path: Path) -> Path:
    return stop(shutil.copytree(trained, tmp_path / "runs" / "unfinished"))


def stop(run: Path) -> Path:
    """Leave of a finished run what one that was killed after step 5 leaves."""
    for name in ("result.json", "report.html", "README.md", "predictions.jsonl", "model.safetensors", "config.json"):
        (run / name).unlink()
    shutil.rmtree(run / "checkpoint-6")
    return run


def digests(place: Path) -> dict[str, str]:
    """Return every file and link below a folder, with its content."""
    found = {}
    for path in sorted(place.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(place))] = os.readlink(path)
        elif path.is_file():
            found[str(path.relative_to(place))] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[str(path.relative_to(place))] = "folder"
    return found


def invoke(*arguments: str, code: int = 0) -> str:
    result = CliRunner(catch_exceptions=False).invoke(main, ["clean", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_a_cleaned_run_predicts_the_same_and_every_command_that_reads_it_works(finished: Path) -> None:
    rows = [{"text": row["text"]} for row in toy.rows(20, seed=3)]
    before = finetune.load(finished).predict(rows)
    scores = json.loads((finished / "result.json").read_text())["scores"]["test"]
    shown = invoke(str(finished))
    assert "Nothing was removed." in shown and (finished / "checkpoint-2").is_dir()
    assert "work as before" in invoke(str(finished), "--yes")
    assert not list(finished.glob("checkpoint-*"))
    assert finetune.load(finished).predict(rows) == before
    assert finetune.evaluate(finished, rows_file(finished.parent)) == pytest.approx(scores)
    for command in ("report", "card"):
        assert CliRunner().invoke(main, [command, str(finished)]).exit_code == 0
    assert CliRunner().invoke(main, ["compare", str(finished), str(finished)]).exit_code == 0
    assert "There is nothing to free." in invoke(str(finished), "--yes")


def rows_file(place: Path) -> Path:
    path = place / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in toy.rows(12, seed=12)))
    return path


@pytest.mark.parametrize("keep_weights", [False, True])
def test_an_unfinished_run_resumes_to_the_same_bits(
    trained: Path, unfinished: Path, toy_base: Path, keep_weights: bool
) -> None:
    toy.copy_checkpoint(unfinished / "checkpoint-4", 5)
    (unfinished / "checkpoint-5" / "optimizer.pt").write_bytes(b"torn")
    toy.copy_checkpoint(unfinished / "checkpoint-2", 3)
    found = cleaning.clean(unfinished, keep_weights=keep_weights).examined
    assert found.resumes_from == "checkpoint-4" and not found.finished
    # the best model is in checkpoint-2: without it, the run would end with other weights
    assert found.kept == {
        "checkpoint-4": "the run can be resumed from it",
        "checkpoint-2": "it has the best model so far",
    }
    left = {path.name for path in unfinished.glob("checkpoint-*")}
    assert left == {"checkpoint-2", "checkpoint-4", *(["checkpoint-3"] if keep_weights else [])}
    finetune.train(**content(toy_base, unfinished), resume=True)
    expected, weights = load_file(trained / "model.safetensors"), load_file(unfinished / "model.safetensors")
    assert all(weights[name].equal(expected[name]) for name in expected)
    best = load_file(trained / "checkpoint-2" / "model.safetensors")
    assert all(best[name].equal(expected[name]) for name in expected)


@pytest.mark.parametrize("harmed", ["checkpoint-2/model.safetensors", "checkpoint-*/trainer_state.json"])
def test_a_run_without_a_valid_checkpoint_keeps_what_it_has(unfinished: Path, harmed: str) -> None:
    for path in unfinished.glob(harmed):  # checkpoint-4 needs checkpoint-2, the best one
        path.write_bytes(b"damaged")
    shutil.copytree(unfinished / "checkpoint-4", unfinished / "invalid-checkpoint-6")
    shutil.copytree(unfinished / "checkpoint-4", unfinished / ".deleted-checkpoint-1")
    found = cleaning.clean(unfinished).examined
    assert [item.name for item in found.items] == [".deleted-checkpoint-1"] and found.resumes_from is None
    assert set(found.kept) == {"checkpoint-2", "checkpoint-4", "invalid-checkpoint-6"}
    assert len(cleaning.clean(unfinished, everything=True).examined.items) == 3


@pytest.mark.parametrize("is_finished", [False, True])
def test_a_copy_of_a_checkpoint_that_the_user_made_stays(finished: Path, is_finished: bool) -> None:
    run = finished if is_finished else stop(finished)
    for name in ("checkpoint-1", "checkpoint-9", "checkpoint-good-9", "checkpoint-good"):
        shutil.copytree(run / "checkpoint-2", run / name)
    found = cleaning.clean(run).examined
    assert found.resumes_from == (None if is_finished else "checkpoint-4")
    assert found.kept["checkpoint-9"] == "its manifest.json is that of step 2, so it is a copy"
    assert {"checkpoint-1", "checkpoint-9", "checkpoint-good-9", "checkpoint-good"} <= {p.name for p in run.iterdir()}


def test_all_frees_the_last_checkpoint_of_an_unfinished_run(unfinished: Path) -> None:
    assert "The run cannot be resumed; start again with --overwrite." in invoke(str(unfinished), "--all", "--yes")
    assert not list(unfinished.glob("checkpoint-*"))


def test_keep_weights_frees_the_optimizer_states_alone(finished: Path) -> None:
    weights = (finished / "checkpoint-2" / "model.safetensors").read_bytes()
    cleaned = cleaning.clean(finished, keep_weights=True)
    assert cleaned.before - cleaned.after == cleaned.examined.freed > 3 * 200_000
    assert (finished / "checkpoint-2" / "model.safetensors").read_bytes() == weights
    assert not [path for path in finished.rglob("*") if path.suffix in {".pt", ".pth"}]
    assert not cleaning.examine(finished, keep_weights=True).items
    assert [item.name for item in cleaning.examine(finished).items] == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]


EXTRAS = (
    "notes.txt", ".notes.1", "checkpoint-best/weights.safetensors", "checkpoint-07/model.safetensors",
    "checkpoint-٣/model.safetensors", "checkpoint-8/notes.txt", "checkpoint-4/notes.txt", "checkpoint-4/more/own.txt",
    "checkpoint-before-2/notes.txt", "checkpoint-good-9/model.safetensors", "checkpoint-9/notes.txt",
    "invalid-checkpoint-x/model.safetensors", "plots/checkpoint-9/model.safetensors", ".result.json.bak",
    ".own.json.5", "my/.result.json.5", "result.json.7", "optimizer.pt",
)  # fmt: skip
"""Files of the user: each must stay."""
LINKS = ("checkpoint-11", "invalid-checkpoint-12", ".result.json.13", "test", "checkpoint-4/link")
"""Links to what lies outside: each must stay, and what it leads to."""
LEFTOVERS = (
    "invalid-checkpoint-8/model.safetensors", "torn-checkpoint-8.2/config.json", ".result.json.4242",
    ".predictions.jsonl.1.scratch", ".deleted-checkpoint-2/optimizer.pt", "validation/.nbest.json.77", ".lock",
)  # fmt: skip
"""What a run that was stopped leaves: each must go."""


@settings(max_examples=25)
@given(
    extras=st.sets(st.sampled_from(EXTRAS)),
    links=st.sets(st.sampled_from(LINKS)),
    leftovers=st.sets(st.sampled_from(LEFTOVERS)),
    is_finished=st.booleans(),
    keep_weights=st.booleans(),
    everything=st.booleans(),
)
def test_what_the_run_needs_and_what_is_not_its_own_stays(
    trained: Path,
    tmp_path_factory: pytest.TempPathFactory,
    extras: set[str],
    links: set[str],
    leftovers: set[str],
    is_finished: bool,
    keep_weights: bool,
    everything: bool,
) -> None:
    place = tmp_path_factory.mktemp("property")
    run = shutil.copytree(trained, place / "run")
    (place / "outside").mkdir()
    for name in ("model.safetensors", "optimizer.pt", ".deep.json.3"):
        (place / "outside" / name).write_text("not the run's")
    if not is_finished:
        stop(run)
    needed = {name: digest for name, digest in digests(run).items() if name in NEEDED}
    for name in extras | leftovers:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("own")
    for name in links:
        (run / name).symlink_to(place / "outside", target_is_directory=True)
    before = digests(place)
    found = cleaning.examine(run, keep_weights=keep_weights, everything=everything)
    assert digests(place) == before
    cleaned = cleaning.clean(run, keep_weights=keep_weights, everything=everything)
    after = digests(place)
    assert cleaned.examined == found
    assert cleaned.before - cleaned.after == found.freed
    stays = {f"run/{name}" for name in (*extras, *links, *needed)} | {name for name in before if "outside" in name}
    assert {name: after.get(name) for name in stays} == {name: before[name] for name in stays}
    assert not {name for name in leftovers if f"run/{name}" in after}
    assert set(after) < set(before) or not found.items
    if not is_finished and not everything:
        assert found.resumes_from == "checkpoint-4"
        assert verify(run / "checkpoint-4") and verify(run / "checkpoint-2")
    assert not cleaning.examine(run, keep_weights=keep_weights, everything=everything).items
    shutil.rmtree(place)


def test_a_run_that_is_being_written_is_refused_and_its_neighbours_are_cleaned(
    finished: Path, unfinished: Path
) -> None:
    with folder.lock(unfinished):
        before = digests(unfinished)
        for call in (cleaning.examine, cleaning.clean):
            with pytest.raises(OutputExists, match=f"process {os.getpid()} on .* is writing"):
                call(unfinished)
        assert "is writing" in invoke(str(unfinished), "--yes", code=2)
        assert "is left as it is" in invoke(str(finished.parent), "--yes")
        assert digests(unfinished) == before
    assert not list(finished.glob("checkpoint-*"))


def test_a_refused_run_stops_the_call_before_anything_is_removed(finished: Path, unfinished: Path) -> None:
    with folder.lock(unfinished):
        invoke(str(finished), str(unfinished), "--yes", code=2)
    assert (finished / "checkpoint-2").is_dir()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda run: (run / "recipe.yaml").unlink(), "is not a run folder, and holds none"),
        (lambda run: shutil.rmtree(run), "is not a folder"),
        (lambda run: (run / "result.json").write_text("{"), "is damaged"),
        (lambda run: os.truncate(run / "model.safetensors", 1000), "may hold the only good weights"),
        (lambda run: (run / "model.safetensors").unlink(), "model.safetensors is not as the run saved it"),
        (lambda run: (run / ".lock").symlink_to(run / "log.jsonl"), "Check who owns it"),
    ],
)
def test_what_is_no_whole_run_is_refused_and_nothing_is_removed(finished: Path, harm: Any, message: str) -> None:
    harm(finished)
    before = digests(finished)
    assert message in invoke(str(finished), "--yes", code=6 if "lock" in message or "owns" in message else 2)
    assert digests(finished) == before


def zero(path: Path) -> None:
    """Write zeros over the second half of a file."""
    half = path.stat().st_size // 2
    path.write_bytes(path.read_bytes()[:half] + bytes(path.stat().st_size - half))


def truncate_behind_another(path: Path) -> None:
    """Cut a file, and lay a larger one of the same kind next to it."""
    shutil.copy(path, path.with_name("own" + path.suffix))
    os.truncate(path, path.stat().st_size // 2)


def keep_the_times(path: Path) -> None:
    """Change one byte, as a failing disk does: nothing else shows it."""
    found, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


HARMS = (zero, truncate_behind_another, keep_the_times, Path.unlink, lambda path: path.write_bytes(b""))
SEEN_WITHOUT_DIGESTS = (truncate_behind_another, Path.unlink, HARMS[-1])
"""What the sizes and the form of the files show, if an older version wrote the result."""


@pytest.mark.parametrize("keep_weights", [False, True])
@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_checkpoints_of_a_damaged_model_stay(finished: Path, name: str, harm: Any, keep_weights: bool) -> None:
    harm(finished / name)
    before = digests(finished)
    for call in (cleaning.examine, cleaning.clean):
        with pytest.raises(BadRecipe, match=rf"damaged: {name} is not as the run saved it\. Its checkpoints are kept"):
            call(finished, keep_weights=keep_weights)
    assert digests(finished) == before


@pytest.mark.parametrize("harm", SEEN_WITHOUT_DIGESTS)
def test_checkpoints_of_an_older_version_stay_if_the_weights_are_damaged(finished: Path, harm: Any) -> None:
    path = finished / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps({**result, "base": {}}))
    assert cleaning.examine(finished).items
    harm(finished / "model.safetensors")
    with pytest.raises(BadRecipe, match="Its checkpoints are kept"):
        cleaning.clean(finished)


def test_a_damage_of_which_the_recorded_state_shows_nothing_is_noticed(finished: Path) -> None:
    path = finished / "result.json"
    result = json.loads(path.read_text())
    keep_the_times(finished / "model.safetensors")
    state = result["base"]["saved_model"]["model.safetensors"]
    state["state"] = bases._state(finished / "model.safetensors")
    path.write_text(json.dumps(result))
    with pytest.raises(BadRecipe, match=r"model\.safetensors is not as the run saved it"):
        cleaning.clean(finished)


def test_a_file_of_the_user_next_to_the_weights_does_not_stop_clean(finished: Path) -> None:
    shutil.copy(finished / "model.safetensors", finished / "own.safetensors")
    invoke(str(finished), "--yes")
    assert not list(finished.glob("checkpoint-*")) and (finished / "own.safetensors").is_file()


def test_a_folder_is_removed_or_named(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(CannotWrite, match=r"checkpoint-2': Permission denied\. Check who owns it"):
        cleaning.clean(finished)
    assert not (finished / ".lock").exists()


def test_a_folder_of_runs_stands_for_the_runs_directly_in_it(finished: Path, unfinished: Path) -> None:
    runs = finished.parent
    (runs / "link").symlink_to(finished, target_is_directory=True)
    shutil.copytree(finished, runs / "group" / "deep")
    assert cleaning.find_runs(runs) == [finished, unfinished]
    shown = json.loads(invoke(str(runs), str(finished), "--json"))
    assert [run["run"] for run in shown["runs"]] == [str(finished), str(unfinished)]
    assert shown["freed"] == 0 and not shown["runs"][0]["removed"]
    done = json.loads(invoke(str(runs), "--yes", "--json"))
    assert [run["after"] for run in done["runs"]] == [run["after"] for run in shown["runs"]]
    assert [run["removed"] for run in done["runs"]] == [True, False]  # the unfinished run needs both its checkpoints
    assert done["freed"] == sum(run["before"] - run["after"] for run in shown["runs"]) > 1_000_000
    assert (runs / "group" / "deep" / "checkpoint-2").is_dir()
    with pytest.raises(BadRecipe, match="holds none"):
        cleaning.find_runs(runs.parent)
