"""One error of a model, as a page shows it: a chat, two answers, marked text, or columns.

What an example looks like is decided by the form of its values (messages with roles, a prompt with two answers, a list
of choices), never by the task, so that examples of any plugin are shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from finetune.evaluation import verdicts

ONE_LINE = 200
"""A JSON value with at most this many characters is shown on one line."""
LONG = 900
"""A text with more characters is folded."""
AROUND = 240
"""Characters of a folded text that are shown around each of its highlights."""
MOST_SHARES = 5
"""Most probabilities that are shown of one example."""
_SIDES = {
    "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "model": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip
"""Role of a message → how it is drawn; other roles, such as `tool`, are drawn as the assistant's."""
_ANSWERS = ("chosen", "rejected", "completion")
"""Columns that hold answers to a prompt, in the forms of TRL."""


def view(error: Mapping[str, Any], *, split: str) -> dict[str, Any]:
    """Return one of the worst errors of a split, as the page shows it.

    It has ``place`` and ``loss``; ``turns``, the messages before the answer; ``columns``, other values of the example;
    ``answers``, the predicted and the right one; ``shares``, probabilities; and whether something is ``marked``.
    """
    example, record = dict(error["example"]), error["record"]
    shown: dict[str, Any] = {"place": place_of(error, split=split), "loss": error["loss"]}
    turns, answers = _conversation(example, record)
    shares = _shares(example, record)
    right = [value for key, value in record.items() if key.startswith("reference") and value is not None]
    columns = []
    for name, value in example.items():
        spans = error["highlights"].get(name, ())
        answer = value.get("text") if isinstance(value, Mapping) else value
        if spans or answer not in right:  # the right answer is shown as such
            columns += _column(name, value, spans)
    tagged = any(spans and _is_texts(example.get(name)) for name, spans in error["highlights"].items())
    if not answers and not tagged:
        answers = _prediction_and_reference(record)
    marked = any(error["highlights"].values())
    return {**shown, "turns": turns, "columns": columns, "answers": answers, "shares": shares, "marked": marked}


def place_of(error: Mapping[str, Any], *, split: str) -> str:
    """Return where the row of an error is, for people: its file and line if they are known, and its id.

    >>> place_of({"index": 4, "place": {"file": "data/reviews.csv", "line": 12, "id": "b7"}}, split="test")
    'data/reviews.csv, line 12, id b7'
    >>> place_of({"index": 4}, split="test")
    'row 4 of test'
    """
    place = error.get("place")
    known = place if isinstance(place, Mapping) else {}
    parts = []
    if known.get("file") is not None:
        parts.append(str(known["file"]))
        if known.get("line") is not None:
            parts.append(f"line {known['line']}")
        elif known.get("row") is not None:
            parts.append(f"row {known['row']}")
        if known.get("path") is not None:
            parts.append(str(known["path"]))
    else:
        parts.append(f"row {error['index']} of {split}")
    if known.get("id") is not None:
        parts.append(f"id {known['id']}")
    return ", ".join(parts)


# --- conversations ----------------------------------------------------------------------------------------------------


def _conversation(example: dict[str, Any], record: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[Any]]:
    """Return the turns before the answer and the answers of an example, and take both out of its columns.

    Both are empty if the example is no conversation.
    """
    names = [name for name, value in example.items() if _is_chat(value)]
    prompted = isinstance(example.get("prompt"), str) and (
        any(name in example for name in _ANSWERS) or "reward" in record or record.get("prediction") is None
    )
    if not names and not prompted:
        return [], []
    turns: list[dict[str, Any]] = []
    if "prompt" in example and (prompted or "prompt" in names):
        turns += _as_turns(example.pop("prompt"), role="user")
    if "chosen" in example and "rejected" in example:
        shared, answers = _pair(example.pop("chosen"), example.pop("rejected"), record)
        return turns + shared, answers
    if "completion" in example:
        return turns, _completion(example, record)
    for name in names:
        if name in example:
            turns += _as_turns(example.pop(name), role="user")
    return _last_turn_apart(turns, record)


def _pair(chosen: Any, rejected: Any, record: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """Return the turns that two answers share, and the two answers with their rewards."""
    good, bad = _as_turns(chosen, role="assistant"), _as_turns(rejected, role="assistant")
    shared = 0
    while shared < min(len(good), len(bad)) - 1 and good[shared] == bad[shared]:
        shared += 1
    answers = []
    for title, turns, tone in (("chosen", good[shared:], "good"), ("rejected", bad[shared:], "bad")):
        notes = []
        if record.get("prediction") == title:
            notes.append("the model prefers this")
        reward = record.get(f"{title}_reward")
        if isinstance(reward, int | float):
            notes.append(f"reward {verdicts.format_score(reward)}")
        answers.append(_answer(title, turns, tone, ", ".join(notes)))
    return good[:shared], answers


def _completion(example: dict[str, Any], record: Mapping[str, Any]) -> list[Any]:
    """Return the answers of an example with one: it is labelled, or it is what the model should write."""
    given = _as_turns(example.pop("completion"), role="assistant")
    reward = _reward(record)
    if isinstance(example.get("label"), bool):
        wanted = example.pop("label")
        title = "labelled desirable" if wanted else "labelled undesirable"
        return [_answer(title, given, "good" if wanted else "bad", reward)]
    answers = [_answer("reference", given, "good", "")]
    if isinstance(record.get("prediction"), str):
        answers.insert(0, _answer("prediction", [_turn("assistant", record["prediction"])], "bad", reward))
    return answers


def _last_turn_apart(turns: list[dict[str, Any]], record: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """Return turns and answers; the last turn of the assistant is the right answer, as in fine-tuning on dialogues."""
    answers = []
    if isinstance(record.get("prediction"), str):
        answers.append(_answer("prediction", [_turn("assistant", record["prediction"])], "bad", _reward(record)))
    if len(turns) > 1 and turns[-1]["side"] == "assistant" and record.get("reference") is not None:
        answers.append(_answer("reference", [turns[-1]], "good", ""))
        turns = turns[:-1]
    elif isinstance(record.get("reference"), str):
        answers.append(_answer("reference", [_turn("assistant", record["reference"])], "good", ""))
    return turns, answers


def _reward(record: Mapping[str, Any]) -> str:
    return f"reward {verdicts.format_score(record['reward'])}" if _is_number(record.get("reward")) else ""


def _is_chat(value: Any) -> bool:
    """Return whether a value is a list of messages: with role and content (or calls of tools), or from and value."""
    if not isinstance(value, list | tuple) or not value:
        return False
    return all(isinstance(each, Mapping) and ("role" in each or {"from", "value"} <= set(each)) for each in value)


def _as_turns(value: Any, *, role: str) -> list[dict[str, Any]]:
    """Return a text as one turn of a role, or messages as turns."""
    if not _is_chat(value):
        return [_turn(role, value if isinstance(value, str) else pretty(value))]
    turns = []
    for message in value:
        content = message.get("content", message.get("value"))
        parts = [] if content is None or content == "" else [_content(content)]
        calls = message.get("tool_calls")
        if calls:
            parts.append(pretty(calls))
        turns.append(_turn(str(message.get("role", message.get("from"))), "\n".join(parts)))
    return turns


def _content(content: Any) -> str:
    """Return the content of a message as text; content in parts is joined."""
    if isinstance(content, str):
        return content
    if isinstance(content, list | tuple):
        parts: list[Any] = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        if all(isinstance(part, str) for part in parts):
            return "".join(parts)
    return pretty(content)


def _turn(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "side": _SIDES.get(role.lower(), "assistant"), "text": passage(text)}


def _answer(title: str, turns: list[dict[str, Any]], tone: str, note: str) -> dict[str, Any]:
    """Return an answer: one turn of the assistant is shown as text, several turns as turns."""
    if len(turns) == 1 and turns[0]["side"] == "assistant":
        return {"title": title, "tone": tone, "note": note, "turns": [], "text": turns[0]["text"]}
    return {"title": title, "tone": tone, "note": note, "turns": turns, "text": passage("")}


# --- other examples ---------------------------------------------------------------------------------------------------


def _prediction_and_reference(record: Mapping[str, Any]) -> list[Any]:
    """Return the prediction and the right answer, side by side."""
    answers = []
    for side, tone in (("prediction", "bad"), ("reference", "good")):
        if side in record and not (side == "reference" and record[side] is None):
            text = pretty(record[side]) if record[side] not in ("", [], None) else "(nothing)"
            notes = [_reward(record)] if side == "prediction" else []
            probability = record.get("probability")
            if side == "prediction" and isinstance(probability, float):
                notes.append(f"probability {verdicts.format_score(probability)}")
            note = ", ".join(filter(None, notes))
            answers.append({"title": side, "tone": tone, "note": note, "turns": [], "text": passage(text)})
    return answers


def _shares(example: dict[str, Any], record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the greatest probabilities of a record: of labels, or of choices, which it takes out of the example."""
    given = record.get("probabilities")
    names: list[tuple[str, float]] = []
    if isinstance(given, Mapping) and given and all(_is_number(each) for each in given.values()):
        names = sorted(given.items(), key=lambda each: -each[1])[:MOST_SHARES]
    elif isinstance(given, list) and given and all(_is_number(each) for each in given):
        for column, value in example.items():
            if _is_texts(value) and len(value) == len(given):
                example.pop(column)
                names = list(zip(value, given, strict=True))
                break
    right = record.get("reference")
    shares = []
    for name, share in names:
        wanted = name == right or (isinstance(right, list) and name in right)
        percent = round(100 * min(max(share, 0.0), 1.0), 1)
        note = "the right answer" if wanted else ""
        shares.append({"name": name, "note": note, "percent": percent, "shown": verdicts.format_score(share)})
    return shares


def _column(name: str, value: Any, highlights: Sequence[Sequence[Any]]) -> list[tuple[str, Any]]:
    """Return a column of an example with its title; a list of words with highlights is shown once for each side."""
    if isinstance(value, str):
        return [(name, passage(value, highlights))]
    if _is_texts(value) and highlights:
        return [(f"{name}, {side}", words(value, spans)) for side, spans in _sides(highlights)]
    return [(name, passage(pretty(value)))]


def _sides(highlights: Sequence[Sequence[Any]]) -> list[tuple[str, list[Sequence[Any]]]]:
    """Return the highlights of the prediction, then those of the reference; a side can have none."""
    return [(side, [span for span in highlights if _kind(span[2])[0] == side]) for side in ("prediction", "reference")]


def passage(text: str, highlights: Sequence[Sequence[Any]] = ()) -> dict[str, Any]:
    """Return a text for a page: its pieces; if it is long, what is around its highlights, and the whole to unfold."""
    whole = segments(text, highlights)
    shown = {"pieces": whole, "whole": [], "characters": len(text), "entities": False}
    if len(text) <= LONG:
        return shown
    shown["pieces"] = _excerpt(whole)
    return shown if shown["pieces"] == whole else {**shown, "whole": whole}


def _excerpt(pieces: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the highlighted pieces of a long text and some characters around each; its beginning if there is none."""
    if not any(piece["kinds"] for piece in pieces):
        text = "".join(piece["text"] for piece in pieces)
        return [_piece(text[: LONG - AROUND] + "…")]
    short = []
    for number, piece in enumerate(pieces):
        text, first, last = piece["text"], number == 0, number == len(pieces) - 1
        if piece["kinds"] or len(text) <= 2 * AROUND:
            short.append(dict(piece))
            continue
        before = "" if first else text[:AROUND]
        after = "" if last else text[-AROUND:]
        short.append(_piece(f"{before} … {after}"))
    return short


def words(tokens: Sequence[str], spans: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """Return words as a text with marked spans: a span holds the words from start up to, but not including, end."""
    places = [0]
    for token in tokens:
        places.append(places[-1] + len(token) + 1)
    marks = []
    for start, end, kind in spans:
        if 0 <= start < end <= len(tokens):
            marks.append((places[start], places[end] - 1, kind))
    text = " ".join(tokens)
    return {"pieces": segments(text, marks), "whole": [], "characters": len(text), "entities": True}


def segments(text: str, highlights: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Return a text in pieces, each with the kinds of the highlights that cover it, and the labels of those that end.

    >>> pieces = segments("the old pier", [[4, 12, "prediction"], [8, 12, "reference"]])
    >>> [(piece["text"], piece["kinds"]) for piece in pieces]
    [('the ', ''), ('old ', 'prediction'), ('pier', 'prediction reference')]
    >>> segments("in Trondheim", [[3, 12, "prediction:PLACE"]])[1]
    {'text': 'Trondheim', 'kinds': 'prediction', 'label': 'PLACE'}
    """
    size = len(text)
    spans = []
    for start, end, kind in highlights:
        first, last = min(max(start, 0), size), min(max(end, 0), size)
        if first < last:
            spans.append((first, last, *_kind(kind)))
    edges = {0, size}
    for first, last, _, _ in spans:
        edges |= {first, last}
    found = []
    for start, end in pairwise(sorted(edges)):
        covering = [span for span in spans if span[0] <= start and end <= span[1]]
        kinds = dict.fromkeys(side for _, _, side, _ in covering)
        labels = dict.fromkeys(label for _, last, _, label in covering if label and last == end)
        found.append(_piece(text[start:end], " ".join(kinds), " ".join(labels)))
    return found


def _piece(text: str, kinds: str = "", label: str = "") -> dict[str, Any]:
    return {"text": text, "kinds": kinds, "label": label}


def _kind(kind: str) -> tuple[str, str]:
    """Return the side of a highlight, and its label: ``prediction:PLACE``."""
    side, _, label = str(kind).partition(":")
    return side, label


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(each, str) for each in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def pretty(value: Any) -> str:
    """Return a value as text: a list of texts on one line, other values as JSON, on one line if it is short.

    >>> pretty(["the pier", "pier"]), pretty({"text": ["pier"], "answer_start": [4]})
    ('the pier · pier', '{"text": ["pier"], "answer_start": [4]}')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return " · ".join(value)
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= ONE_LINE else json.dumps(value, ensure_ascii=False, indent=1)
