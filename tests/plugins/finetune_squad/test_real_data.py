"""Real questions, the real tokenizer: equal to the published loops, row by row; skipped where the data is absent."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter

import numpy as np
import pytest

from finetune.interfaces import Finding, Predictions
from finetune_squad.evaluator import SquadEvaluator
from finetune_squad.nested import SquadReader
from finetune_squad.preprocessor import SquadPreprocessor


def read(path):
    with open(path, encoding="utf-8", newline="") as stream:
        found = list(SquadReader().rows(iter(lambda: stream.read(65536), ""), file=str(path)))
    assert not any(isinstance(each, Finding) for each in found)
    return [item[:2] for item in found]


def columns(rows):
    return {name: [row[name] for row in rows] for name in ("id", "question", "context", "answers")}


@pytest.mark.parametrize(("shape", "several"), [((384, 128), False), ((96, 32), True)])
def test_windows_and_labels_equal_the_published_ones_on_squad(shared_data, minilm, oracle, shape, several):
    rows = [row for _, row in read(shared_data / "squad-v2" / "validation.json")][:: 7 if several else 5]
    max_length, stride = shape
    made = SquadPreprocessor(max_length=max_length, stride=stride).features(columns(rows), minilm)
    place = differs = 0
    for row in rows:
        answers = row["answers"]
        answer = (answers["text"][0], answers["answer_start"][0]) if answers["text"] else None
        for window in oracle.windows(minilm, row["question"], row["context"], max_length=max_length, stride=stride):
            assert made["input_ids"][place].tolist() == window["input_ids"]
            assert made["token_type_ids"][place].tolist() == window["token_type_ids"]
            ours = made["start_positions"][place], made["end_positions"][place]
            theirs = oracle.label(minilm, window, answer, fixed=True)
            if ours != theirs:
                differs += 1
                context, (text, start) = row["context"], answer
                near = context[max(start - 1, 0) : start + len(text) + 1]
                assert any(unicodedata.combining(character) for character in unicodedata.normalize("NFD", near))
            published = oracle.label(minilm, window, answer, fixed=False)
            assert published == theirs or published[0] > published[1], "wrong only where the start runs past the end"
            place += 1
    assert place == len(made["input_ids"])
    assert differs <= 2


@pytest.mark.parametrize("kind", ["random", "ties"])
def test_answers_equal_the_published_ones_on_squad(shared_data, minilm, oracle, kind):
    rows = [row for _, row in read(shared_data / "squad-v2" / "validation.json")][::40]
    made = dict(SquadPreprocessor(max_length=192, stride=64).features(columns(rows), minilm))
    made["example"] = made.pop("overflow_to_sample_mapping")
    features = [dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True)]
    rng = np.random.default_rng(5)
    tables = [(rng.normal(size=(len(features), 192)) * 4).astype(np.float32) for _ in range(2)]
    if kind == "ties":
        tables = [np.round(table) for table in tables]
    records = SquadEvaluator().records(
        Predictions(
            examples=rows, features=features, outputs=tuple(tables), tokenizer=minilm, preprocessor=SquadPreprocessor()
        )
    )
    for index, (row, record) in enumerate(zip(rows, records, strict=True)):
        mine = [number for number, feature in enumerate(features) if feature["example"] == index]
        raw = oracle.windows(minilm, row["question"], row["context"], max_length=192, stride=64)
        windows = [{"offsets": window["offsets"], "null_token": 0} for window in raw]
        cut = [[table[n, : len(features[n]["input_ids"])] for n in mine] for table in tables]
        wanted = oracle.answer(row["context"], windows, *cut)
        assert record["null_odds"] == float(wanted["null_odds"])
        if record["prediction"] != wanted["prediction"]:  # only by an accent that the raw offsets leave out
            assert record["prediction"].startswith(wanted["prediction"])
            assert unicodedata.combining(record["prediction"][-1])
        assert [entry["start_logit"] for entry in record["nbest"]] == [float(e["start_logit"]) for e in wanted["nbest"]]


def test_every_wrong_offset_of_covid_qa_is_found_and_the_rest_can_be_labelled(shared_data, minilm):
    path = shared_data / "covidqa" / "200421_covidQA.json"
    found = read(path)
    rows = [row for _, row in found]
    findings = list(SquadPreprocessor().check(rows))
    counts = Counter(finding.code for finding in findings if finding.level != "warning")
    assert counts == {"answer-not-at-offset": 229}
    # Counted by hand, in the plainest way there is:
    wrong = {
        number
        for number, row in enumerate(rows)
        for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
        if row["context"][start : start + len(text)] != text
    }
    assert {finding.row for finding in findings if finding.level == "row"} == wrong
    lines = path.read_text(encoding="utf-8").split("\n")
    for line, row in found:
        assert lines[line - 1].strip() == "{"
        assert '"question":' in lines[line]
        assert json.loads("{" + lines[line].strip().rstrip(",") + "}") == {"question": row["question"]}
    good = [row for number, row in enumerate(rows) if number not in wrong][::10]
    windows = SquadPreprocessor()
    counts = windows.counts(windows.features(columns(good), minilm))
    assert counts["examples"] == counts["answers"] == len(good)
    assert counts["answers_narrowed_to_tokens"] == counts["answers_without_tokens"] == 0
