"""Every finding names a place in the user's file: the named line, path and id hold the named value."""

from __future__ import annotations

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from finetune import data
from finetune.data.findings import one_line
from finetune.errors import BadData
from finetune.plugins import discover
from finetune.recipe import Source
from finetune_squad.preprocessor import SquadPreprocessor

OTHER = re.compile(r"The other row is ([^ ]+):(\d+)\.$")


def question(number, kind):
    """Return a question whose texts hold its number, with one thing wrong."""
    context = f"Crate {number} stands on the quay by crate {number}."
    row = {"id": f"id-{number}", "question": f"What is on quay {number}?", "context": context}
    answer, start = f"Crate {number}", 0
    if kind == "offset":
        answer, start = f"crate {number}", 3
    elif kind == "lost":
        answer = f"Barrel {number}"
    elif kind == "several":
        return {**row, "answers": {"text": [answer, f"crate {number}"], "answer_start": [0, context.index("crate")]}}
    elif kind == "special":
        row["question"] += " </s>"
    elif kind == "malformed":
        return {**row, "answers": {"text": [answer], "answer_start": []}}
    return {**row, "answers": {"text": [answer], "answer_start": [start]}}


kinds = st.sampled_from(["good", "good", "offset", "lost", "several", "special", "malformed", "same id", "conflict"])


def rows_of(chosen):
    rows = []
    for number, kind in enumerate(chosen):
        row = question(number, kind)
        if kind == "same id" and rows:
            row["id"] = rows[0]["id"]
        if kind == "conflict" and rows:
            row = {**rows[0], "id": f"id-{number}", "answers": {"text": ["quay"], "answer_start": [0]}}
            row["answers"]["answer_start"] = [row["context"].index("quay")]
        rows.append(row)
    return rows


def findings_of(path, tmp_path, **options):
    source = Source(path=str(path), **options)
    try:
        return data.load(source, SquadPreprocessor(), plugins=discover(), seed=3).findings
    except BadData as error:
        return error.findings


@given(
    chosen=st.lists(kinds, min_size=4, max_size=12),
    validation_size=st.sampled_from([0, 0.4]),
    limit=st.sampled_from([{}, {"train": 3}]),
    on_bad=st.sampled_from(["error", "drop"]),
)
@settings(max_examples=25, deadline=None)
def test_the_named_line_of_a_jsonl_file_holds_the_named_value(tmp_path_factory, chosen, validation_size, limit, on_bad):
    folder = tmp_path_factory.mktemp("lines")
    rows = rows_of(chosen)
    path = folder / "train.jsonl"
    lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for finding in findings_of(path, folder, validation_size=validation_size, limit=limit, on_bad=on_bad):
        if finding.row is None:
            continue
        line = lines[finding.line - 1]
        assert finding.file == str(path)
        assert finding.row == finding.line - 1
        assert finding.path is None
        if finding.value and finding.code != "answers-uneven":
            assert finding.value in line, finding
        match = OTHER.search(finding.message)
        assert bool(match) == (finding.code in {"duplicate-id", "conflicting-answers"})
        if match:
            other = json.loads(lines[int(match[2]) - 1])
            assert match[1] == str(path)
            assert int(match[2]) != finding.line
            key = "id" if finding.code == "duplicate-id" else "question"
            assert other[key] == json.loads(line)[key] == finding.value
        assert "counted from" not in finding.message


@given(
    chosen=st.lists(kinds, min_size=4, max_size=9),
    form=st.sampled_from(["nested", "rows", "array"]),
    validation_size=st.sampled_from([0, 0.4]),
)
@settings(max_examples=25, deadline=None)
def test_a_file_of_one_line_gives_path_and_id(tmp_path_factory, chosen, form, validation_size):
    folder = tmp_path_factory.mktemp("paths")
    rows = rows_of(chosen)
    content = {"rows": {"data": rows}, "array": rows}.get(form)
    if form == "nested":
        paragraphs = []
        for row in rows:
            answers = row["answers"]
            pairs = [{"text": text, "answer_start": 0} for text in answers["text"]]
            for pair, start in zip(pairs, answers["answer_start"], strict=False):
                pair["answer_start"] = start
            kept = {"id": row["id"], "question": row["question"], "answers": pairs}
            paragraphs.append({"context": row["context"], "qas": [kept]})
        content = {"version": "1.1", "data": [{"title": "Elm", "paragraphs": paragraphs}]}
    path = folder / "train.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    for finding in findings_of(path, folder, validation_size=validation_size):
        if finding.row is None:
            continue
        number = finding.row
        place = {"nested": f"data[0].paragraphs[{number}].qas[0]", "rows": f"data[{number}]", "array": f"[{number}]"}
        assert finding.path == f"{place[form]} (id {rows[number]['id']!r})"
        assert finding.line == 1
        assert one_line(finding).startswith(f"{path}:1: {finding.path}: ")
        if finding.value and finding.code != "answers-uneven":
            assert finding.value in json.dumps(rows[number])
        if finding.other is not None:
            key = "id" if finding.code == "duplicate-id" else "question"
            assert rows[finding.other][key] == finding.value
            assert f"The other row is {path}:1: " in finding.message
            assert repr(rows[finding.other]["id"]) in finding.message
