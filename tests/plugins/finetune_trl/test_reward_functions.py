"""Reward functions of users: they get the columns that they name, and what they return is checked."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from finetune import trust
from finetune.errors import BadOptions
from finetune_trl.reinforcement.functions import AsyncPythonReward, PythonReward, checked_rewards, python_reward
from finetune_trl.reinforcement.prompts import RLPreprocessor

ROWS = [{"prompt": "Who?", "gold": "Tomás", "unit": "m", "completion": "old"}]


@pytest.fixture
def name_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], str]:
    """Return a function that makes an object importable, and gives its name."""

    def name_of(value: Any) -> str:
        module = ModuleType("some_rewards")
        vars(module)["reward"] = value
        monkeypatch.setitem(sys.modules, "some_rewards", module)
        trust.allow("some_rewards:reward")
        return "some_rewards:reward"

    return name_of


# --- columns ----------------------------------------------------------------------------------------------------------

COLUMNS = {
    "no column": (lambda prompts, completions, **_: [], ()),
    "a column": (lambda prompts, gold, **_: [], ("gold",)),
    "a keyword": (lambda *, gold, **_: [], ("gold",)),
    "a column with a default": (lambda completions, unit="km", **_: [], ("unit",)),
    "a default without a column": (lambda completions, scale=2.0, **_: [], ()),
    "what TRL gives": (lambda completion_ids, trainer_state, log_extra, log_metric, **_: [], ()),
}


@pytest.mark.parametrize(("function", "columns"), COLUMNS.values(), ids=COLUMNS)
def test_columns_that_a_parameter_names_are_passed(
    function: Any, columns: tuple[str, ...], name_of: Callable[[Any], str]
) -> None:
    fitted = RLPreprocessor(reward=name_of(function)).fit(ROWS)
    assert fitted.reward_columns == columns and fitted.needs().answers == columns


def test_listed_columns_come_before_named_ones(name_of: Callable[[Any], str]) -> None:
    reward = name_of(lambda gold, **_: [])
    assert RLPreprocessor(reward=reward, reward_columns=("unit",)).fit(ROWS).reward_columns == ("unit", "gold")


SIGNATURES = {
    "an unknown column": (lambda golden, **_: [], "has the parameter 'golden'.* Did you mean 'gold'"),
    "the singular": (lambda prompts, completion, **_: [], "parameter 'completion'.* Did you mean 'completions'"),
    "no further arguments": (lambda prompts, completions: [], r"must accept further arguments.*\*\*columns"),
    "not a function": (7, "is not a function; it is a value of the type int"),
}


@pytest.mark.parametrize(("function", "message"), SIGNATURES.values(), ids=SIGNATURES)
def test_a_function_that_cannot_be_called_is_refused_by_check(
    function: Any, message: str, name_of: Callable[[Any], str]
) -> None:
    with pytest.raises(BadOptions, match=message):
        RLPreprocessor(reward=name_of(function)).fit(ROWS)


# --- what a function returns ------------------------------------------------------------------------------------------

GOOD = {
    "floats": ([1.5, 2.0], [1.5, 2.0]),
    "integers": ([1, 2], [1.0, 2.0]),
    "booleans": ([True, False], [1.0, 0.0]),
    "no opinion": ([None, 2], [None, 2.0]),
    "a tuple": ((1, None), [1.0, None]),
    "an array": (np.array([1.0, 2.0], np.float32), [1.0, 2.0]),
    "a tensor": (torch.tensor([1, 2]), [1.0, 2.0]),
    "scalars of arrays and tensors": ([np.float64(1), torch.tensor(2.0)], [1.0, 2.0]),
}
BAD = {
    "nothing": (None, "returned nothing. It must return a list of 2 numbers"),
    "one number": (1.0, "returned 1.0. It must return a list"),
    "a text": ("ab", "returned the text 'ab'. It must return a list"),
    "a mapping": ({"a": 1, "b": 2}, "a value of the type dict. It must return a list"),
    "a generator": ((number for number in (1, 2)), "a value of the type generator"),
    "too few": ([1.0], "returned 1 values for 2 completions"),
    "too many": ([1.0, 2.0, 3.0], "returned 3 values for 2 completions"),
    "texts": ([1.0, "good"], "returned the text 'good' for completion 1"),
    "a number as text": (["1.0", 1.0], "returned the text '1.0' for completion 0"),
    "lists": ([[1.0], [2.0]], "returned a value of the type list for completion 0"),
    "a tensor of several numbers": ([torch.ones(2), 1.0], "a value of the type Tensor for completion 0"),
    "not a number": ([float("nan"), 1.0], "returned nan for completion 0.* or None for no opinion"),
    "infinity": ([1.0, float("inf")], "returned inf for completion 1"),
}


@pytest.mark.parametrize(("returned", "rewards"), GOOD.values(), ids=GOOD)
def test_numbers_and_none_are_rewards(returned: Any, rewards: list[float | None]) -> None:
    assert checked_rewards(returned, name="some_rewards:reward", size=2) == rewards


@pytest.mark.parametrize(("returned", "message"), BAD.values(), ids=BAD)
def test_anything_else_is_refused_with_what_was_returned(returned: Any, message: str) -> None:
    with pytest.raises(BadOptions, match=f"^preprocessor: reward 'some_rewards:reward' .*{message}"):
        checked_rewards(returned, name="some_rewards:reward", size=2)


def test_an_error_in_a_function_is_named_with_its_line(name_of: Callable[[Any], str]) -> None:
    def reward(completions: Any, **columns: Any) -> Any:
        return columns["gold"]

    line = inspect.getsourcelines(reward)[1] + 1
    message = rf"raised KeyError: 'gold' \(.*test_reward_functions.py, line {line}\). .*preprocessor.reward_columns"
    with pytest.raises(BadOptions, match=message):
        python_reward(name_of(reward))(prompts=["Who?"], completions=["I."])


def test_asynchronous_functions_are_awaited_and_checked(name_of: Callable[[Any], str]) -> None:
    async def reward(completions: Any, **_: Any) -> Any:
        return [str(text) for text in completions] if "text" in completions else [1] * len(completions)

    made = python_reward(name_of(reward))
    assert isinstance(made, AsyncPythonReward) and inspect.iscoroutinefunction(type(made).__call__)
    assert asyncio.run(made(prompts=["Who?"], completions=["I."])) == [1.0]  # type: ignore[arg-type]
    with pytest.raises(BadOptions, match="returned the text"):
        asyncio.run(made(prompts=["Who?"], completions=["text"]))  # type: ignore[arg-type]


def test_a_reward_keeps_the_name_of_its_function(name_of: Callable[[Any], str]) -> None:
    def politeness(completions: Any, **_: Any) -> Any:
        return [0.0] * len(completions)

    assert python_reward(name_of(politeness)).__name__ == "politeness"
    assert isinstance(python_reward(name_of(politeness)), PythonReward)
