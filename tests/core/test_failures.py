"""When the machine or the numbers fail: each failure is one line with its own exit code, and the run can continue."""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import toy
from safetensors.torch import load_file
from transformers import TrainerCallback

import finetune
from finetune import failures, folder, secrets
from finetune.errors import (
    BadCheckpoint,
    BadOptions,
    BadRecipe,
    CannotWrite,
    Diverged,
    FinetuneError,
    NoRoom,
    OutOfMemory,
    OutputExists,
)
from finetune.training import checkpoints
from finetune.training.callbacks import StopOnSignal, describe_batch

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("data")
    for split, size in (("train", 48), ("validation", 12), ("test", 12)):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in toy.rows(size, seed=size)))
    return {split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")}


def content(base: Path, examples: Any, output: Path, **changes: Any) -> dict[str, Any]:
    """Return the recipe of five steps inside an epoch of twelve, with a checkpoint at each step."""
    training = {"max_steps": 5, "save_strategy": "steps", "save_steps": 1, "lr_scheduler_type": "constant"}
    training.update(changes.pop("training", {}))
    quick = {"score_base_model": False, "general_text": "none"}
    return toy.recipe(base, output, **{"dataset": examples, "training": training, **quick, **changes})


@pytest.fixture(scope="module")
def run(toy_base: Path, examples: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("failures") / "run"
    finetune.train(**content(toy_base, examples, output))
    return output


# --- after the last step ----------------------------------------------------------------------------------------------


def test_a_run_stopped_after_its_last_step_makes_no_further_step(
    run: Path, toy_base: Path, examples: Any, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    shutil.copytree(run, output)
    for name in ("result.json", "model.safetensors", "predictions.jsonl"):
        (output / name).unlink()
    result = finetune.train(**content(toy_base, examples, output), resume=True)
    assert (result.steps, result.resumed_from) == (5, "checkpoint-5")
    trained, resumed = load_file(run / "model.safetensors"), load_file(output / "model.safetensors")
    assert all(torch.equal(trained[name], resumed[name]) for name in trained)
    assert json.loads((run / "result.json").read_text())["scores"] == result.scores


# --- numbers ----------------------------------------------------------------------------------------------------------


class NaNInTheLossAlone(toy.SeaOrLand):
    """Adds a NaN to the loss that no gradient shows."""

    def loss(self) -> Any:
        calls = iter(range(1, 100))

        def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
            right = torch.nn.functional.cross_entropy(outputs.logits, labels)
            return right + torch.tensor(float("nan")) if next(calls) == 3 else right

        return loss


def all_finite(folder: Path) -> bool:
    found = list(folder.rglob("*.safetensors"))
    return all(tensor.isfinite().all() for path in found for tensor in load_file(path).values())


def test_a_loss_that_is_nan_with_finite_gradients_stops_the_run_and_names_the_rows(
    toy_base: Path, examples: Any, tmp_path: Path
) -> None:
    wrong = content(toy_base, examples, tmp_path / "x", preprocessor={"name": f"{__name__}:NaNInTheLossAlone"})
    with pytest.raises(Diverged, match=r"step 3: the loss .* The batch has 4 rows; they begin: '\w+ .*checkpoints are"):
        finetune.train(**wrong)
    assert {path.name for path in (tmp_path / "x").glob("checkpoint-*")} == {"checkpoint-1", "checkpoint-2"}
    assert all_finite(tmp_path / "x")


class Breaking(TrainerCallback):
    """Breaks a gradient after it was clipped."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        next(kwargs["model"].parameters()).grad.fill_(float("nan"))


@pytest.mark.parametrize("largest", [1.0, 0.0])
def test_a_gradient_that_a_callback_breaks_after_it_was_clipped_stops_the_run(
    largest: float, toy_base: Path, examples: Any, tmp_path: Path
) -> None:
    training = {"max_grad_norm": largest, "max_steps": 2, "save_strategy": "no"}
    with pytest.raises(Diverged, match="step 1: a gradient"):
        finetune.train(**content(toy_base, examples, tmp_path / "x", training=training), callbacks=[Breaking()])


@pytest.mark.parametrize("rate", [1e30, 1e39])
def test_weights_that_are_not_finite_are_never_saved(
    rate: float, toy_base: Path, examples: Any, tmp_path: Path
) -> None:
    wrong = content(toy_base, examples, tmp_path / "x", training={"learning_rate": rate})
    with pytest.raises(Diverged, match="is not a finite number") as caught:
        finetune.train(**wrong)
    assert caught.value.exit_code == 3
    assert all_finite(tmp_path / "x")


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"labels": torch.ones(2)}, ""),
        ([{"prompt": "Say"}, {"prompt": "Do"}], "The batch has 2 rows; they begin: 'Say', 'Do'. "),
        ([{"prompt": "x" * 99}] * 4, f"The batch has 4 rows; they begin: {', '.join([repr('x' * 60)] * 3)}, .... "),
        (None, ""),
    ],
)
def test_a_batch_is_described_by_its_first_rows(inputs: Any, sentence: str) -> None:
    assert describe_batch(inputs, None) == sentence


def test_a_run_under_nohup_outlives_its_terminal() -> None:
    arguments, state = SimpleNamespace(), SimpleNamespace(global_step=1, max_steps=9)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        callback = StopOnSignal()
        callback.on_train_begin(arguments, state, None)
        os.kill(os.getpid(), signal.SIGHUP)
        callback.restore()
        assert callback.received is None
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        callback.on_train_begin(arguments, state, None)
        os.kill(os.getpid(), signal.SIGHUP)
        callback.restore()
        assert callback.received == signal.SIGHUP
    finally:
        signal.signal(signal.SIGHUP, before)


# --- the machine ------------------------------------------------------------------------------------------------------

FAULTS: list[tuple[BaseException, type[FinetuneError], str]] = [
    (OSError(errno.ENOSPC, "No space left on device"), NoRoom, "No space left on device. The disk has"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), NoRoom, "Disk quota exceeded"),
    (OSError(errno.EFBIG, "File too large"), NoRoom, "File too large"),
    (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), NoRoom, "no room in"),
    (OSError(errno.EROFS, "Read-only file system"), CannotWrite, "Read-only file system"),
    (OSError(errno.EIO, "Input/output error", "model.safetensors"), CannotWrite, "'model.safetensors': Input/output"),
    (PermissionError(errno.EACCES, "Permission denied"), CannotWrite, "Permission denied"),
    (MemoryError(), OutOfMemory, "per_device_train_batch_size 4: MemoryError. Lower per_device_train_batch_size"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), OutOfMemory, "Tried to allocate 2 GiB"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), OutOfMemory, "can't allocate memory"),
]


@pytest.mark.parametrize(("left", "named"), [(0, "/temporary"), (10**9, "run")])
def test_the_disk_with_less_room_is_named_if_the_error_names_no_file(
    left: int, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat
    device = SimpleNamespace(st_dev=-1)
    monkeypatch.setattr(failures.tempfile, "gettempdir", lambda: "/temporary")
    monkeypatch.setattr(
        failures.os, "stat", lambda path, **more: device if path == "/temporary" else stat(path, **more)
    )
    monkeypatch.setattr(
        failures.shutil, "disk_usage", lambda path: Usage(0, 0, left if path == "/temporary" else 10**8)
    )
    with pytest.raises(NoRoom) as caught, failures.explained(tmp_path / "absent" / "run", {}):
        raise OSError(errno.ENOSPC, "x")
    assert str(caught.value).split("'")[1].endswith(named)
    assert f"The disk has 95 MiB, and that of the temporary folder '/temporary' has {left / 2**20:,.0f} MiB." in str(
        caught.value
    )


@pytest.mark.parametrize(("fault", "error", "message"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_failure_of_the_machine_says_what_to_do_and_the_run_continues_to_the_bit(
    fault: BaseException, error: type[FinetuneError], message: str, run: Path, toy_base: Path, examples: Any,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    seal = checkpoints.seal

    def failing(directory: Path, **facts: Any) -> None:
        if directory.name == "checkpoint-3":
            raise fault
        seal(directory, **facts)

    monkeypatch.setattr(checkpoints, "seal", failing)
    recipe = content(toy_base, examples, tmp_path / "x")
    with pytest.raises(error) as caught:
        finetune.train(**recipe)
    assert message in str(caught.value)
    assert "checkpoint-2 is complete; then continue with --resume" in str(caught.value)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(checkpoints, "seal", seal)
    if error is OutOfMemory:  # as the message says: with a smaller batch
        assert "--resume --accept-changes" in str(caught.value)
        recipe["training"] |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
        assert finetune.train(**recipe, resume=True, accept_changes=True).steps == 5
        return
    finetune.train(**recipe, resume=True)
    trained, resumed = load_file(run / "model.safetensors"), load_file(tmp_path / "x" / "model.safetensors")
    assert all(torch.equal(trained[name], resumed[name]) for name in trained)


def test_each_failure_has_its_own_exit_code() -> None:
    assert [error.exit_code for error in (Diverged, NoRoom, OutOfMemory, CannotWrite)] == [3, 4, 5, 6]


def test_another_error_stays_as_it_is(tmp_path: Path) -> None:
    for error in (OSError(errno.ENOENT, "No such file"), RuntimeError("shapes do not match"), KeyError("x")):
        with pytest.raises(type(error)) as caught, failures.explained(tmp_path, {}):
            raise error
        assert caught.value is error


def test_too_little_room_is_noticed_before_the_first_step(
    toy_base: Path, examples: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(tensor.nbytes for tensor in load_file(toy_base / "model.safetensors").values())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, int(3.5 * size)))
    with pytest.raises(NoRoom, match=r"needs [\d,]+ MiB for a checkpoint and the final model, and the disk has"):
        finetune.train(**content(toy_base, examples, tmp_path / "x"))
    assert not list((tmp_path / "x").glob("checkpoint-*"))
    without = content(toy_base, examples, tmp_path / "y", training={"save_strategy": "no"})
    finetune.train(**without)  # it needs the room of the final model alone


@pytest.mark.parametrize("option", ["auto_find_batch_size", "ignore_data_skip", "save_only_model"])
def test_options_that_break_what_a_run_records_are_refused(option: str, toy_base: Path, tmp_path: Path) -> None:
    with pytest.raises(BadOptions, match=f"'{option}' cannot be set here: "):
        finetune.train(**toy.recipe(toy_base, tmp_path / "x", training={option: True}))


# --- the lock ---------------------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from finetune import folder

with folder.lock(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_locked_by_a_file_in_it_whatever_the_temporary_folder(tmp_path: Path) -> None:
    output = tmp_path / "run"
    elsewhere = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", HOLDER, output], stdout=subprocess.PIPE, env=elsewhere) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(OutputExists, match=rf"process {holder.pid} on \S+ is writing into"), folder.lock(output):
            pass
        holder.send_signal(signal.SIGKILL)
    with folder.lock(output):
        assert (output / folder.LOCK).is_file()
    assert list(tmp_path.iterdir()) == [output]
    assert not list(output.iterdir())


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "mine.txt"
    victim.write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / folder.LOCK).symlink_to(victim)
    with pytest.raises(CannotWrite), failures.explained(tmp_path, {}), folder.lock(tmp_path / "run"):
        pass
    assert victim.read_text() == "mine"


def test_a_run_that_ends_leaves_no_lock(run: Path) -> None:
    assert not (run / folder.LOCK).exists()


# --- manifests --------------------------------------------------------------------------------------------------------


def test_each_change_of_one_bit_of_a_manifest_is_noticed(run: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-5"
    shutil.copytree(run / "checkpoint-5", checkpoint)
    manifest = checkpoint / checkpoints.MANIFEST
    right, draw = manifest.read_bytes(), random.Random(0)
    parsed = checkpoints.verify(checkpoint)
    for _ in range(60):
        changed = bytearray(right)
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        manifest.write_bytes(changed)
        try:
            found = checkpoints.verify(checkpoint)
        except BadCheckpoint:
            continue
        assert found == parsed  # a change of white space


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", '{"files": {}}', '{"sha256": null}', '{"files": [], "sha256": "x"}', "[" * 9000, "\x00"],
)
def test_an_odd_manifest_is_no_valid_one(text: str, run: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-5"
    shutil.copytree(run / "checkpoint-5", checkpoint)
    (checkpoint / checkpoints.MANIFEST).write_text(text)
    with pytest.raises(BadCheckpoint):
        checkpoints.verify(checkpoint)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": []}, {"files": {"optimizer.pt": 1}}, {"files": {"optimizer.pt": {"size": "x", "sha256": 1}}},
        {"files": {"x" * 5000: {"size": 1, "sha256": ""}}}, {"files": {"../a/optimizer.pt": {"size": 1, "sha256": ""}}},
        {"files": {"\0": {"size": 1, "sha256": ""}}}, {"identity": None}, {"identity": {"model": "bert"}},
        {"identity": {"model": {"path": 1}}}, {"identity": {"base": [1]}}, {"identity": {"base": {"files": "x"}}},
        {"circumstances": 1}, {"format": "3"}, {"format": None}, {"format": 0.5}, {"step": "5"}, {"step": None},
    ],
)  # fmt: skip
def test_a_manifest_of_another_form_is_no_valid_one_even_if_its_digest_fits(
    changes: dict[str, Any], run: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint-5"
    shutil.copytree(run / "checkpoint-5", checkpoint)
    path = checkpoint / checkpoints.MANIFEST
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({**content, checkpoints.OWN: checkpoints._own_digest(content)}))
    with pytest.raises(BadCheckpoint):
        checkpoints.verify(checkpoint)
    with pytest.raises(BadCheckpoint, match="no checkpoint to resume from"):
        checkpoints.newest(tmp_path, checkpoints.Identity({}, {}))


ODD_BEST = [json.dumps({"best_model_checkpoint": best}) for best in (1, [1], "/", ".", "..", "a/b", "\0", "x" * 5000)]


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "[" * 9000, "\x00", *ODD_BEST])
def test_an_odd_state_of_the_trainer_makes_a_checkpoint_invalid(text: str, run: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-5"
    shutil.copytree(run / "checkpoint-5", checkpoint)
    (checkpoint / checkpoints.TRAINER_STATE).write_text(text)
    checkpoints.seal(checkpoint, identity=checkpoints.Identity({"training.load_best_model_at_end": True}, {}), step=5)
    with pytest.raises(BadCheckpoint, match=r"trainer_state\.json"):
        checkpoints.newest(tmp_path, checkpoints.Identity({}, {}))


@pytest.mark.parametrize(
    "name",
    ["scaler.pt", "pytorch_model.bin", "x/rng_state_1.pth", "model-2.safetensors", "model.safetensors.index.json"],
)
def test_a_file_that_the_trainer_would_read_and_the_run_did_not_write_is_noticed(
    name: str, run: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint-5"
    shutil.copytree(run / "checkpoint-5", checkpoint)
    (checkpoint / ".DS_Store").touch()
    checkpoints.verify(checkpoint)
    (checkpoint / name).parent.mkdir(exist_ok=True)
    (checkpoint / name).touch()
    with pytest.raises(BadCheckpoint, match=f"checkpoint-5 holds {name}, which the run did not write"):
        checkpoints.verify(checkpoint)


# --- secrets ----------------------------------------------------------------------------------------------------------

SECRET = "hf_" + "aB3" * 11


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"model": {"options": {"token": "plain words"}}}, "model.options.token"),
        ({"model": {"options": {"use_auth_token": "x"}}}, "model.options.use_auth_token"),
        ({"dataset": {"options": {"api_key": "x"}}}, "dataset.options.api_key"),
        ({"dataset": {"options": {"password": "x"}}}, "dataset.options.password"),
        ({"card": {"notes": f"run with {SECRET}"}}, "card.notes"),
        ({"metrics": ["a", SECRET]}, "metrics[1]"),
        ({"card": {"author": "of-the-environment"}}, "card.author"),
    ],
)
def test_a_credential_in_a_recipe_is_refused_and_not_repeated(
    content: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SERVICE_API_KEY", "of-the-environment")
    with pytest.raises(BadRecipe) as caught:
        secrets.refuse(content)
    message = str(caught.value)
    assert message.startswith(f"{place} looks like a credential.")
    assert SECRET not in message
    assert "of-the-environment" not in message


@pytest.mark.parametrize(
    "content",
    [
        {"model": {"options": {"pad_token": "<pad>", "eos_token": "</s>"}}, "training": {"max_tokens": 3}},
        {"dataset": {"columns": {"token": "tokens", "password": "text"}, "constants": {"token": "x"}}},
        {"dataset": {"mixture": {"one": {"columns": {"token": "tokens"}}}, "options": {"word": "token"}}},
        {"slices": ["token"], "card": {"notes": "trained without a token"}},
    ],
)
def test_names_of_special_tokens_and_of_columns_are_no_credentials(content: Any) -> None:
    try:
        secrets.refuse(content)
    except BadRecipe as error:
        raise AssertionError("it is taken for a credential") from error


def test_a_token_among_the_options_of_the_model_reaches_no_file(toy_base: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match=r"model\.options\.token looks like"):
        finetune.train(
            **toy.recipe(toy_base, tmp_path / "x", model={"path": str(toy_base), "options": {"token": SECRET}})
        )
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


# --- credentials in messages ------------------------------------------------------------------------------------------

PLANTED = {
    "HF_TOKEN": SECRET,
    "MY_SERVICE_API_KEY": "of-the-environment",
    "aws_secret_access_key": "of/the cloud?",
    "https_proxy": "http://me:of-the-proxy@127.0.0.1:9",
}


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "token").write_text("of-the-login\n")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    return [SECRET, "of-the-environment", "of/the cloud?", "of%2Fthe%20cloud%3F", "of-the-proxy", "of-the-login"]


def test_a_message_holds_no_credential(planted: list[str]) -> None:
    for value in planted:
        for text in (f"401 for {value}.", f"https://h/{value}/x", f"Bearer {value}", f"{value}{value}"):
            assert value not in str(BadRecipe(text)), text
    assert str(BadRecipe("https://me:word@host/x")) == "https://***@host/x"
    assert str(BadRecipe("mail me@host, see https://host/@me")) == "mail me@host, see https://host/@me"
    assert str(BadRecipe(f"{'sk-' + 'a' * 20} and {'ghp_' + 'b' * 20}")) == "*** and ***"


@pytest.mark.parametrize("value", ["short", __file__])
def test_short_values_and_paths_are_no_credentials(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANY_TOKEN", value)
    assert str(BadRecipe(f"see {value}")) == f"see {value}"


def test_what_is_printed_and_logged_holds_no_credential(
    planted: list[str], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with secrets.hidden():
        for value in planted:
            print(f"row {value}")
            print(f"error {value}", file=sys.stderr)
            logging.getLogger("somebody").warning("retrying %s", value)
        print("https://me:word@host in the data")
    shown = capsys.readouterr()
    assert not [value for value in planted if value in shown.out + shown.err + caplog.text]
    assert "https://me:word@host in the data" in shown.out  # rows of data are printed as they are
    print(SECRET)
    assert SECRET in capsys.readouterr().out


def test_a_traceback_holds_no_credential(planted: list[str]) -> None:
    code = "\n".join([
        "from finetune import secrets",
        "with secrets.hidden():",
        f"    raise RuntimeError({SECRET!r})",
    ])  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "RuntimeError: ***" in done.stderr
    assert SECRET not in done.stderr


def test_a_url_with_a_password_in_a_recipe_is_refused() -> None:
    with pytest.raises(BadRecipe, match=r"^dataset\.path looks like a credential\."):
        secrets.refuse({"dataset": {"path": "https://me:word@host/rows.csv"}})


def test_a_library_that_closes_its_stream_does_not_close_standard_error() -> None:
    code = """
import logging, sys
from finetune import secrets
with secrets.hidden():
    handler = logging.StreamHandler(sys.stderr)
handler.stream.close()
print("still here", file=sys.stderr)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr == "still here\n"
