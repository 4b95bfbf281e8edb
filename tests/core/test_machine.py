"""Failures of the machine and signals outside training: one line, the right exit code, and nothing promised."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import toy
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from finetune import cli, failures
from finetune.cli import list_, main
from finetune.errors import BadRecipe, CannotWrite, Diverged, NoRoom, OutOfMemory
from finetune.training.callbacks import CheckRoom, StopOnNaN, all_finite, describe_longest

Raising = Callable[[BaseException], None]


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Raising:
    """Return a function that lets `finetune list` raise an error."""

    def prepare(error: BaseException) -> None:
        def fail(*_: Any) -> Any:
            raise error

        monkeypatch.setattr(list_, "installed", fail)

    return prepare


def caused(by: BaseException) -> BaseException:
    """Return an error of finetune with a cause."""
    error = BadRecipe("x.yaml cannot be read.")
    error.__cause__ = by
    return error


FAULTS = [
    (OSError(errno.ENOSPC, "x"), 4, "no room: No space left on device. The disk has "),
    (OSError(errno.EDQUOT, "x", "/tmp/page.html"), 4, "no room in '/tmp/page.html': Disk quota exceeded."),
    (OSError(errno.EIO, "x", "data.csv"), 6, "'data.csv': Input/output error. The disk fails."),
    (PermissionError(errno.EACCES, "x", "data.csv"), 6, "'data.csv': Permission denied. Change its permissions, or"),
    (IsADirectoryError(errno.EISDIR, "x", ".x.1", None, "x.html"), 6, "'x.html': Is a directory."),
    (MemoryError(), 5, "out of memory: MemoryError. Use a smaller model or less data"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried."), 5, "out of memory: CUDA out of memory. Tried. Use a"),
    (SafetensorError("Error while serializing: I/O error: No space (os error 28)"), 4, "No space left on device"),
    (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"), 4, "no room"),
    (caused(OSError(errno.ENOSPC, "x")), 4, "no room: No space left on device"),
    (caused(MemoryError()), 5, "out of memory"),
    (caused(PermissionError(errno.EACCES, "x", "y")), 2, "x.yaml cannot be read."),
]


@pytest.mark.parametrize(
    "words", [["report", "RUN"], ["clean", "RUN"], ["predict", "RUN", "--text", "a"], ["check", "RUN"]]
)
def test_no_message_holds_a_control_character_of_a_path(words: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run\x1b]0;owned\x07"
    run.mkdir()
    ended = CliRunner().invoke(main, [str(run) if word == "RUN" else word for word in words])
    assert ended.exit_code == 2
    assert not set(ended.output) & set("\x1b\x07") and "x1b" in ended.output


@pytest.mark.parametrize(
    ("words", "code"), [("list >&-", 0), ("list <&-", 0), ("train absent.yaml 2>&-", 2), ("list >&- 2>&- <&-", 0)]
)
def test_a_closed_stream_changes_no_exit_code(words: str, code: int, tmp_path: Path) -> None:
    call = f"exec {sys.executable} -m finetune {words}"
    ended = subprocess.run(["sh", "-c", call], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ended.returncode == code and not ended.stderr, ended.stderr


def test_an_interrupt_while_the_options_are_read_ends_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.Commands, "parse_args", interrupt)
    ended = CliRunner().invoke(main, ["list"])
    assert ended.exit_code == 130
    assert ended.output == "error: stopped by SIGINT. No file is half written; call the command again.\n"


@pytest.mark.parametrize(("error", "code", "message"), FAULTS, ids=lambda value: str(value)[:40])
def test_each_command_explains_a_failure_of_the_machine(
    error: BaseException, code: int, message: str, raising: Raising
) -> None:
    raising(error)
    ended = CliRunner().invoke(main, ["list"])
    assert ended.exit_code == code, ended.output
    assert message in ended.output
    assert len(ended.output.splitlines()) == 1
    assert "checkpoint" not in ended.output and "--resume" not in ended.output


@pytest.mark.parametrize(
    "error", [KeyError("x"), RuntimeError("shapes do not match"), OSError(errno.ENOENT, "x"), AssertionError()]
)
def test_a_fault_of_the_program_keeps_its_traceback(error: BaseException) -> None:
    assert failures.explain(error) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_any_command_with_one_line(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> Any:
        os.kill(os.getpid(), number)
        signal.pause()

    monkeypatch.setattr(list_, "installed", stop)
    before = signal.signal(number, signal.SIG_DFL)  # a shell lets a command in the background ignore SIGINT
    try:
        ended = CliRunner().invoke(main, ["list"])
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert ended.exit_code == 128 + number
    assert ended.output == f"error: stopped by {number.name}. No file is half written; call the command again.\n"


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with failures.stopping():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.fixture
def recipe(toy_base: Path, tmp_path: Path) -> Path:
    """Return a recipe whose data is in files."""
    data = {}
    for split, size in (("train", 16), ("test", 4)):
        data[split] = str(tmp_path / f"{split}.jsonl")
        Path(data[split]).write_text("".join(json.dumps(row) + "\n" for row in toy.rows(size, seed=size)))
    training = {"save_strategy": "steps", "save_steps": 1}
    quick = {"score_base_model": False, "general_text": "none"}
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(toy.recipe(toy_base, tmp_path / "run", dataset=data, training=training, **quick)))
    return path


@pytest.mark.parametrize(
    ("phase", "safe"),
    [
        ("prepare", "Nothing was changed in '{run}'; start again."),
        ("prepare_training", "Nothing was changed in '{run}'; start again."),
        ("save", "checkpoint-2 is complete; continue with --resume."),
        ("report.write", "checkpoint-2 is complete; continue with --resume."),
    ],
)
def test_a_signal_outside_training_says_what_is_safe(
    phase: str, safe: str, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

    monkeypatch.setattr(f"finetune.run.{phase}", stop)
    ended = CliRunner().invoke(main, ["train", str(recipe), "-q"])
    assert ended.exit_code == 143, ended.output
    assert ended.output == f"error: stopped by SIGTERM. {safe.format(run=recipe.parent / 'run')}\n"


@pytest.mark.parametrize(("output", "code", "message"), [("/dev/full", 4, "No space left on device"), ("pipe", 1, "")])
def test_output_that_nobody_takes_ends_a_command_without_a_traceback(output: str, code: int, message: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    if output == "pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open(output, os.O_WRONLY)
    ended = subprocess.run(
        [sys.executable, "-m", "finetune", "list"], stdout=writing, stderr=subprocess.PIPE, env=environment, check=False
    )
    os.close(writing)
    lines = ended.stderr.decode().splitlines()
    assert ended.returncode == code, lines
    assert len(lines) == bool(message)
    assert message in "".join(lines)


# --- memory -----------------------------------------------------------------------------------------------------------


class Words:
    """Decodes a token as the letter of its number."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(chr(96 + number) for number in ids)


IDS = torch.tensor([[1, 2, 0, 0], [1, 2, 3, 0]])


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"input_ids": IDS, "attention_mask": IDS.gt(0)}, "2 rows; the longest has 3 tokens and begins: 'abc'. "),
        ({"input_ids": IDS[None], "attention_mask": IDS[None].gt(0)}, "1 rows; the longest has 3 tokens and begins"),
        ({"prompt_input_ids": IDS + 1}, "2 rows; the longest has 4 tokens and begins: 'bcaa'. "),
        ([{"prompt": "Say"}], "1 rows; they begin: 'Say'. "),
    ],
)
def test_the_longest_row_of_a_batch_is_described(inputs: Any, sentence: str) -> None:
    assert describe_longest(inputs, Words()).startswith(f"The batch has {sentence}")


@pytest.mark.parametrize("inputs", [{}, {"labels": torch.ones(2)}, {"input_ids": "x"}, None])
def test_a_batch_without_tokens_is_not_described(inputs: Any) -> None:
    assert describe_longest(inputs, Words()) == ""


@pytest.mark.parametrize("option", ["per_device_train_batch_size", "per_device_eval_batch_size"])
def test_memory_names_the_batch_that_was_too_large(option: str, tmp_path: Path) -> None:
    error = torch.OutOfMemoryError("out of memory")
    failures.add_batch(error, "The longest has 9 tokens. ", option=option, size=4)
    message = f"with {option} 4: .*The longest has 9 tokens. Lower {option}"
    training = {"per_device_train_batch_size": 4}
    with pytest.raises(OutOfMemory, match=message), failures.explained(tmp_path, training, began=True):
        raise error
    for began, message in ((True, "no checkpoint"), (False, "Nothing was changed")):
        with pytest.raises(OutOfMemory, match=message), failures.explained(tmp_path, {}, began=began):
            raise MemoryError


# --- room -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("training", "step", "checkpoints"),
    [
        ({"save_strategy": "steps", "save_total_limit": 2}, 1, 2),
        ({"save_strategy": "steps", "save_total_limit": None}, 1, 9),
        ({"save_strategy": "steps", "save_total_limit": 2}, 9, 1),
        ({"save_strategy": "epoch", "save_total_limit": 5}, 1, 3),
    ],
)
def test_after_the_first_checkpoint_its_size_is_known(
    training: Any, step: int, checkpoints: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / f"checkpoint-{step}"
    checkpoint.mkdir()
    (checkpoint / "optimizer.pt").write_bytes(bytes(3 * 2**20 - len('{"step": 1}')))
    (checkpoint / "manifest.json").write_text(f'{{"step": {step}}}')
    arguments = SimpleNamespace(output_dir=str(tmp_path), num_train_epochs=4, **training)
    state = SimpleNamespace(global_step=step, max_steps=10, save_steps=1, epoch=1.0, is_world_process_zero=True)
    needed = 2**20 + checkpoints * 3 * 2**20
    usage = SimpleNamespace(free=needed)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    CheckRoom(2**20).on_save(arguments, state, None)
    usage.free = needed - 1
    with pytest.raises(NoRoom, match=f"needs {1 + 3 * checkpoints} MiB .* checkpoint-{step} is complete"):
        CheckRoom(2**20).on_save(arguments, state, None)
    done = CheckRoom(2**20)
    done.checked = True
    done.on_save(arguments, state, None)  # once is enough


@pytest.mark.parametrize("name", ["adamw_torch", "sgd", "adagrad", "rmsprop"])
def test_the_size_of_a_checkpoint_is_known_before_the_first_step(name: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from finetune.run import room

    kinds: dict[str, Any] = {
        "adamw_torch": torch.optim.AdamW, "sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad,
        "rmsprop": torch.optim.RMSprop,
    }  # fmt: skip
    model = torch.nn.Linear(300, 300)
    optimizer = kinds[name](model.parameters(), lr=0.1)
    model(torch.ones(1, 300)).sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    measured = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert room(model, {"optim": name})["checkpoint"] == pytest.approx(measured, rel=0.1)


# --- numbers ----------------------------------------------------------------------------------------------------------


def model_with(gradient: float) -> torch.nn.Module:
    """Return a model with a gradient."""
    model = torch.nn.Linear(1, 1)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    return model


def test_a_scaler_may_skip_some_steps_but_not_all() -> None:
    callback, state = StopOnNaN(), SimpleNamespace(global_step=0)
    half, whole = SimpleNamespace(fp16=True), SimpleNamespace(fp16=False)
    for _ in range(callback.PATIENCE - 1):
        callback.on_pre_optimizer_step(half, state, None, model=model_with(float("inf")))
    callback.on_pre_optimizer_step(half, state, None, model=model_with(1.0))
    for _ in range(callback.PATIENCE - 1):
        callback.on_pre_optimizer_step(half, state, None, model=model_with(float("inf")))
    with pytest.raises(Diverged, match="step 1: a gradient"):
        callback.on_pre_optimizer_step(half, state, None, model=model_with(float("inf")))
    with pytest.raises(Diverged, match="step 1: a gradient"):
        StopOnNaN().on_pre_optimizer_step(whole, state, None, model=model_with(float("nan")))


@given(data=st.data())
def test_the_norm_says_of_numbers_what_a_look_at_each_of_them_says(data: st.DataObject) -> None:
    special = st.sampled_from([3e38, -3e38, float("nan"), float("inf")])  # the norm of 3e38 is infinite
    numbers = st.floats(width=32) | special
    tensors = []
    for kind in data.draw(st.lists(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]), max_size=3)):
        tensors.append(torch.tensor(data.draw(st.lists(numbers, max_size=20))).to(kind))
    assert all_finite(tensors) == all(bool(tensor.isfinite().all()) for tensor in tensors)


def test_the_norm_of_one_step_says_nothing_of_the_next() -> None:
    callback, state, arguments = StopOnNaN(), SimpleNamespace(global_step=0), SimpleNamespace(fp16=False)
    callback.take_norm(torch.tensor(1.0), [callback])
    callback.on_pre_optimizer_step(arguments, state, None, model=model_with(float("nan")))  # the norm is trusted
    with pytest.raises(Diverged, match="step 1: a gradient"):
        callback.on_pre_optimizer_step(arguments, state, None, model=model_with(float("nan")))
    callback.take_norm(float("inf"), [callback])  # finite gradients of 3e38 have it
    callback.on_pre_optimizer_step(arguments, state, None, model=model_with(3e38))


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_chooses_no_checkpoint(score: float) -> None:
    state, metrics = SimpleNamespace(global_step=3), {"eval_loss": score}
    for name in ("loss", "eval_loss"):
        arguments = SimpleNamespace(load_best_model_at_end=True, metric_for_best_model=name)
        with pytest.raises(Diverged, match=r"step 3: eval_loss is -?(nan|inf), so it cannot choose the best"):
            StopOnNaN().on_evaluate(arguments, state, None, metrics=metrics)
        StopOnNaN().on_evaluate(arguments, state, None, metrics={"eval_loss": 1.0})
    arguments = SimpleNamespace(load_best_model_at_end=False, metric_for_best_model=None)
    StopOnNaN().on_evaluate(arguments, state, None, metrics=metrics)


def test_a_link_or_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    message = r"'.*/x': Is a directory\. .*no checkpoint"
    with pytest.raises(CannotWrite, match=message), failures.explained(tmp_path, {}, began=True):
        (tmp_path / "x").write_text("")
