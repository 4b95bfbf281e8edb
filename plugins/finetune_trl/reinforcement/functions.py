"""Rewards that are Python functions: which columns they need, and whether they return numbers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.errors import BadOptions, UnknownName, did_you_mean
from finetune.kit import calling, find_code, resolve

RewardFunction = Callable[..., Any]
"""TRL's signature: ``f(prompts, completions, **columns)`` gives a number for each completion, or None to abstain."""

GIVEN_BY_TRL = (
    "prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments",
)  # fmt: skip
"""Arguments of a reward function that are no columns."""
NO_ARGUMENTS = ("prompt", "completion")
"""Columns that TRL does not pass: the arguments are called ``prompts`` and ``completions``."""
_HINT = (
    "A reward function gets the columns of the data that its parameters name; list those that it finds in another way "
    "under preprocessor.reward_columns."
)


OWN = frozenset({"finetune_trl.reinforcement.rewards:brevity"})
"""Reward functions of this plugin; a run folder can name them."""


@dataclass(frozen=True, kw_only=True)
class ColumnsOfReward:
    """The columns that the parameters of a reward function name."""

    required: tuple[str, ...]
    """Those without a default."""
    optional: tuple[str, ...]


def is_function(name: str) -> bool:
    """Say whether the name of a reward stands for a function, and not for a folder."""
    return ":" in name and not Path(name).expanduser().is_dir()


def find_function(name: str) -> RewardFunction:
    """Return the function that ``my_rewards:brevity`` names.

    Raises:
        BadOptions: It does not exist, is no function, or does not accept further arguments.
    """
    try:
        function: RewardFunction = resolve(name) if name in OWN else find_code(name, where="preprocessor.reward")
    except UnknownName as error:
        raise BadOptions(f"preprocessor: reward {error}") from error
    if not callable(function):
        raise BadOptions(
            f"preprocessor: reward {name!r} is not a function; it is a value of the type {type(function).__name__}."
        )
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in _parameters(function)):
        raise BadOptions(
            f"preprocessor: reward {name!r} must accept further arguments, because it is called with all of "
            f"{', '.join(GIVEN_BY_TRL[:4])} and more. End its parameters with **columns."
        )
    return function


def columns_of_reward(function: RewardFunction) -> ColumnsOfReward:
    """Return the columns that a reward function needs.

    >>> columns_of_reward(lambda completions, solution, unit="m", **columns: [])
    ColumnsOfReward(required=('solution',), optional=('unit',))
    """
    required: list[str] = []
    optional: list[str] = []
    for parameter in _parameters(function):
        is_named = parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        if not is_named or parameter.name in GIVEN_BY_TRL:
            continue
        (required if parameter.default is inspect.Parameter.empty else optional).append(parameter.name)
    return ColumnsOfReward(required=tuple(required), optional=tuple(optional))


def find_columns(names: Sequence[str], available: Collection[str]) -> list[str]:
    """Return the columns that reward functions name and the data has.

    Args:
        names: Of the functions.
        available: Columns of the data.

    Raises:
        BadOptions: The data lacks a column without which a function cannot be called.
    """
    passed = set(available) - set(NO_ARGUMENTS)
    found: dict[str, None] = {}
    for name in names:
        columns = columns_of_reward(find_function(name))
        missing = [column for column in columns.required if column not in passed]
        if missing:
            hint = did_you_mean(missing[0], [*GIVEN_BY_TRL, *passed])
            raise BadOptions(
                f"preprocessor: reward {name!r} has the parameter {missing[0]!r}, and there is no such column to pass."
                f"{hint} The data has: {', '.join(sorted(available))}. Rename one under dataset.columns, or give the "
                "parameter a default."
            )
        found |= dict.fromkeys(columns.required)
        for column in columns.optional:
            if column in passed:
                found[column] = None
    return list(found)


class PythonReward:
    """Calls a reward function, and checks what it returns."""

    def __init__(self, name: str, function: RewardFunction) -> None:
        self.name, self.function = name, function
        self.__name__ = getattr(function, "__name__", type(function).__name__)  # what TRL calls it in its log

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **more: Any) -> list[float | None]:
        """Return the reward of every completion."""
        with calling(f"preprocessor: reward {self.name!r}", hint=_HINT):
            rewards = self.function(prompts=prompts, completions=completions, **more)
        return checked_rewards(rewards, name=self.name, size=len(completions))


class AsyncPythonReward(PythonReward):
    """Awaits a reward function, and checks what it returns; TRL awaits several together."""

    async def __call__(  # type: ignore[override]  # a trainer of TRL asks which of the two a reward is
        self, prompts: Sequence[Any], completions: Sequence[Any], **more: Any
    ) -> list[float | None]:
        """Return the reward of every completion."""
        with calling(f"preprocessor: reward {self.name!r}", hint=_HINT):
            rewards = await self.function(prompts=prompts, completions=completions, **more)
        return checked_rewards(rewards, name=self.name, size=len(completions))


def python_reward(name: str) -> PythonReward:
    """Return the reward that a name stands for; see `find_function`."""
    function = find_function(name)
    is_async = any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))
    return (AsyncPythonReward if is_async else PythonReward)(name, function)


def checked_rewards(rewards: Any, *, name: str, size: int) -> list[float | None]:
    """Return rewards as numbers, with None where the function has no opinion.

    Raises:
        BadOptions: There is not one number, or None, for each completion.
    """
    where, wanted = f"preprocessor: reward {name!r}", f"a list of {size} numbers, one for each completion"
    is_list = hasattr(rewards, "__len__") and hasattr(rewards, "__iter__") and not isinstance(rewards, str | dict)
    if not is_list:
        raise BadOptions(f"{where} returned {_kind(rewards)}. It must return {wanted}.")
    if len(rewards) != size:
        raise BadOptions(f"{where} returned {len(rewards)} values for {size} completions. It must return {wanted}.")
    return [_number(reward, where, place) for place, reward in enumerate(rewards)]


def _number(reward: Any, where: str, place: int) -> float | None:
    if reward is None:
        return None
    try:
        number = math.nan if isinstance(reward, str | bytes) else float(reward)
    except (TypeError, ValueError, RuntimeError):  # the last from a tensor of several numbers
        number = math.nan
    if math.isfinite(number):
        return number
    raise BadOptions(
        f"{where} returned {_kind(reward)} for completion {place}. Return a finite number for each completion, or None "
        "for no opinion."
    )


def _kind(value: Any) -> str:
    """Describe a value of the wrong type."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, float):
        return str(value)
    return f"a value of the type {type(value).__name__}"


def _parameters(function: RewardFunction) -> list[inspect.Parameter]:
    """Return the parameters of a function; one that accepts anything where Python cannot tell."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some functions of compiled modules have no signature
        return [inspect.Parameter("columns", inspect.Parameter.VAR_KEYWORD)]
