"""The place in a finding about a message holds the wrong value, in the keys and columns of the data."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.interfaces import Finding
from finetune_trl.sft.preprocessor import SFTPreprocessor

WRONG = 7
"""A value that is neither a role nor a content."""


def at(row: Any, place: str | None) -> Any:
    """Return what a row holds at a place such as ``conversations[1].from``.

    Raises:
        LookupError: The row has no such place.
    """
    assert place is not None
    for key in re.findall(r"[^.\[\]]+", place):
        row = row[int(key)] if key.isdigit() else row[key]
    return row


def findings(row: dict[str, Any], **options: Any) -> list[Finding]:
    sound = {
        "sharegpt": {"conversations": [{"from": "human", "value": "Fog?"}, {"from": "gpt", "value": "Aye."}]},
        "alpaca": {"instruction": "Fog?", "output": "Aye."},
        None: {"messages": [{"role": "user", "content": "Fog?"}, {"role": "assistant", "content": "Aye."}]},
    }[options.get("converter")]
    rows = [sound, row]
    found = list(SFTPreprocessor(**options).fit(rows).check(rows))
    assert all(finding.row == 1 for finding in found)
    return found


@pytest.mark.parametrize(("converter", "column"), [("sharegpt", "conversations"), (None, "messages")])
@given(turns=st.integers(1, 4), wrong=st.integers(0, 7), key=st.integers(0, 1), system=st.booleans())
def test_the_place_of_a_wrong_role_or_content_holds_it(
    converter: Any, column: str, turns: int, wrong: int, key: int, system: bool
) -> None:
    keys = ("from", "value") if converter else ("role", "content")
    roles = ("human", "gpt") if converter else ("user", "assistant")
    dialogue = [{keys[0]: roles[number % 2], keys[1]: "Aye."} for number in range(2 * turns)]
    wrong %= len(dialogue)
    dialogue[wrong][keys[key]] = WRONG
    row: dict[str, Any] = {column: dialogue}
    if converter and system:
        row = {"system": "Be brief.", **row}
    places = [finding.column for finding in findings(row, converter=converter)]
    assert places == [f"{column}[{wrong}].{keys[key]}"]
    assert at(row, places[0]) == WRONG


@given(history=st.integers(0, 3), system=st.booleans(), data=st.data())
def test_the_place_of_a_wrong_cell_of_alpaca_holds_it(history: int, system: bool, data: Any) -> None:
    row: dict[str, Any] = {"instruction": "Fog?", "input": "At Elm.", "output": "Aye."}
    row["history"] = [["Who?", "Inès."] for _ in range(history)]
    places = ["instruction", "input", "output"]
    if system:
        row["system"] = "Be brief."
        places.append("system")
    places += [f"history[{turn}][{part}]" for turn in range(history) for part in range(2)]
    place = data.draw(st.sampled_from(places))
    if place.startswith("history"):
        turn, part = map(int, re.findall(r"\d+", place))
        row["history"][turn][part] = WRONG
    else:
        row[place] = WRONG
    assert [finding.column for finding in findings(row, converter="alpaca")] == [place]
    assert at(row, place) == WRONG


def test_a_system_column_of_sharegpt_is_the_place_of_its_value() -> None:
    row = {"system": WRONG, "conversations": [{"from": "human", "value": "Fog?"}, {"from": "gpt", "value": "Aye."}]}
    (finding,) = findings(row, converter="sharegpt")
    assert (finding.code, finding.column) == ("content-not-text", "system")


@pytest.mark.parametrize(
    ("turn", "code", "place", "said"),
    [
        ({"from": "robot", "value": "Aye."}, "unknown-role", "conversations[1].from", "the roles are human, gpt,"),
        ({"from": "GPT", "value": "Aye."}, "unknown-role", "conversations[1].from", "Did you mean 'gpt'?"),
        ({"value": "Aye."}, "role-missing", "conversations[1].from", "has no 'from'; it has: 'value'."),
        ({"from": "gpt", "valu": "Aye."}, "content-missing", "conversations[1].value", "Rename 'valu' to 'value'."),
        ({"role": "assistant"}, "content-missing", "conversations[1].content", "it has: 'role'."),
        ({"from": "human", "value": "No."}, "role-twice", "conversations[1].from", "the user has two turns"),
    ],
)
def test_a_turn_of_sharegpt_is_described_by_its_own_keys(
    turn: dict[str, str], code: str, place: str, said: str
) -> None:
    row = {"system": "Be brief.", "conversations": [{"from": "human", "value": "Fog?"}, turn]}
    first = findings(row, converter="sharegpt")[0]
    assert (first.code, first.column) == (code, place)
    assert said in f"{first.message} {first.fix}"
