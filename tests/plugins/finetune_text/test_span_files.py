"""Files of annotation tools: spans become tags of words, and a span that is no whole words is a finding."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune import data
from finetune.errors import BadData
from finetune.interfaces import Finding
from finetune.plugins import discover
from finetune.recipe import Source
from finetune.testing.laws import check_finding
from finetune_text.span_files import SpansReader
from finetune_text.tags import entities
from finetune_text.token_classification import TokenClassificationPreprocessor
from finetune_text.words import spaces_between, split

TEXT = "Zoë Moreau sails to Port Elm."
SPANS = [(0, 10, "PER"), (20, 28, "PLACE")]
ROW = {
    "text": TEXT,
    "tokens": ["Zoë", "Moreau", "sails", "to", "Port", "Elm", "."],
    "ner_tags": ["B-PER", "I-PER", "O", "O", "B-PLACE", "I-PLACE", "O"],
    "space_after": [True, True, True, True, True, False, True],
}


def read(content, **options):
    found = list(SpansReader(**options).rows([content], file="a.json"))
    for item in found:
        if isinstance(item, Finding):
            check_finding(item)
    return found


def label_studio(text, spans):
    results = [
        {
            "type": "labels", "from_name": "label", "to_name": "text",
            "value": {"start": s, "end": e, "text": text[s:e], "labels": [label]},
        }
        for s, e, label in spans
    ]  # fmt: skip
    relation = {"type": "relation", "from_id": "a", "to_id": "b"}
    cancelled = {"was_cancelled": True, "result": []}
    return {"data": {"text": text}, "annotations": [cancelled, {"result": [*results, relation]}], "meta": {}}


def prodigy(text, spans):
    tokens = []
    for number, (start, end) in enumerate(split(text)):
        tokens.append({"text": text[start:end], "start": start, "end": end, "id": number})
    marked = [{"start": s, "end": e, "label": label, "token_start": 0} for s, e, label in spans]
    return {"text": text, "tokens": tokens, "spans": marked, "answer": "accept"}


TOOLS = {
    "spaCy": lambda text, spans: {"text": text, "entities": [list(span) for span in spans]},
    "doccano": lambda text, spans: {"text": text, "label": [list(span) for span in spans]},
    "doccano, older": lambda text, spans: {"text": text, "labels": [list(span) for span in spans]},
    "doccano, relations": lambda text, spans: {
        "text": text,
        "entities": [{"id": 1, "label": label, "start_offset": s, "end_offset": e} for s, e, label in spans],
        "relations": [],
    },
    "Prodigy": prodigy,
    "Prodigy, without tokens": lambda text, spans: {
        "text": text, "spans": [{"start": s, "end": e, "label": label} for s, e, label in spans],
    },
    "Label Studio": label_studio,
    "Label Studio, JSON-MIN": lambda text, spans: {
        "text": text,
        "label": [
            {"start": s, "end": e, "text": text[s:e], "labels": [label]}
            for s, e, label in spans
        ],
    },
}  # fmt: skip


def written(rows, *, array):
    if array:
        return json.dumps(rows, indent=2)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def bare(row):
    return {name: row[name] for name in ROW}


@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize("tool", TOOLS)
def test_the_file_of_every_tool_gives_words_and_tags(tool, array):
    content = written([TOOLS[tool](TEXT, SPANS), TOOLS[tool]("Gulls circle.", [])], array=array)
    first, second = read(content)
    assert bare(first[1]) == ROW
    assert second[1]["ner_tags"] == ["O", "O", "O"]
    assert second[0] > first[0]
    assert SpansReader().recognises(content[:4096])


@st.composite
def annotated(draw):
    """Return a text and spans of whole words that do not overlap."""
    text = draw(st.text(st.sampled_from("aé7 .'-\n船ท😀ि\u200b\u0301"), min_size=1, max_size=20))
    places = split(text)
    spans, word = [], 0
    while word < len(places):
        last = min(word + draw(st.integers(0, 2)), len(places) - 1)
        if draw(st.booleans()):
            spans.append((places[word][0], places[last][1], draw(st.sampled_from(["PER", "PLACE"]))))
        word = last + 1
    return text, spans


@given(st.lists(annotated(), min_size=1, max_size=4), st.sampled_from(sorted(TOOLS)), st.booleans())
def test_what_a_tool_writes_is_read_as_the_same_words_and_spans(rows, tool, array):
    found = read(written([TOOLS[tool](*row) for row in rows], array=array))
    for (text, spans), (_, row) in zip(rows, found, strict=True):
        places = split(text)
        assert row["tokens"] == [text[start:end] for start, end in places]
        assert row["space_after"] == spaces_between(places)
        back = [(places[e.first_word][0], places[e.last_word][1], e.type) for e in entities(row["ner_tags"])]
        assert back == spans


@given(st.text())
def test_the_words_of_a_text_are_its_visible_characters_in_order(text):
    places = split(text)
    assert all(start < end for start, end in places)
    assert all(end <= start for (_, end), (start, _) in pairwise(places))
    assert not any(set(" \t\n") & set(text[start:end]) for start, end in places)
    covered = {position for start, end in places for position in range(start, end)}
    assert all(position in covered for position, character in enumerate(text) if character.isalnum())


@pytest.mark.parametrize("before", ["🚢 ", "🚢🚢 ", "a 🧭 b "])
def test_offsets_that_count_an_emoji_as_two_are_named_with_the_right_ones(before):
    text = f"{before}Zoë sails."
    start, shift = text.index("Zoë"), sum(ord(character) > 0xFFFF for character in before)
    [finding] = read(json.dumps({"text": text, "label": [[start + shift, start + shift + 3, "PER"]]}))
    assert (finding.code, finding.level) == ("span-cuts-word", "row")
    assert finding.fix == f"Count a character such as an emoji as one, not as two: here from {start} to {start + 3}."
    [finding] = read(json.dumps({"text": text, "label": [[start + 1, start + 3, "PER"]]}))
    assert "emoji" not in finding.fix


@pytest.mark.parametrize(
    ("spans", "code", "message"),
    [
        ([[0, 8, "PER"]], "span-cuts-word", "the span 'Zoë More' (PER) ends inside the word 'Moreau'."),
        ([[5, 10, "PER"]], "span-cuts-word", "the span 'oreau' (PER) begins inside the word 'Moreau'."),
        (
            [[0, 10, "PER"], [4, 10, "SHIP"]],
            "spans-overlap",
            "the span 'Zoë Moreau' (PER) and the span 'Moreau' (SHIP) share a word.",
        ),
        (
            [[0, 3, "PER"], [0, 3, "SHIP"]],
            "spans-overlap",
            "the span 'Zoë' (PER) and the span 'Zoë' (SHIP) share a word.",
        ),
        (
            [[20, 40, "PLACE"]],
            "span-outside-text",
            "the span from 20 to 40 (PLACE) is not inside the text, which ends at 29.",
        ),
        ([[3, 3, "PER"]], "span-outside-text", "the span from 3 to 3 (PER) is not inside the text, which ends at 29."),
        (
            [[-3, 3, "PER"]],
            "span-outside-text",
            "the span from -3 to 3 (PER) is not inside the text, which ends at 29.",
        ),
        ([[3, 4, "PER"]], "span-empty", "the span ' ' (PER) holds no word."),
        ([["0", 3, "PER"]], "span-not-read", "a span has no start, end and label."),
        ([[0, 3, None]], "span-not-read", "a span has no start, end and label."),
        ([{"start": 0, "end": 3}], "span-not-read", "a span has no start, end and label."),
        ([7], "span-not-read", "a span has no start, end and label."),
        (
            [{"start": 0, "end": 3, "label": "PER", "text": "Zoe"}],
            "span-text-differs",
            "the span from 0 to 3 holds 'Zoë', but its text is 'Zoe'.",
        ),
    ],
)  # fmt: skip
def test_a_span_that_is_no_whole_words_is_a_finding(spans, code, message):
    first, finding = read(written([TOOLS["spaCy"](TEXT, SPANS), {"text": TEXT, "entities": spans}], array=False))
    assert bare(first[1]) == ROW
    assert (finding.code, finding.level, finding.line, finding.column) == (code, "row", 2, "entities")
    assert finding.message == message


def test_a_cut_word_says_where_the_whole_words_are():
    _, finding = read(written([TOOLS["spaCy"](TEXT, SPANS), {"text": TEXT, "entities": [[0, 8, "PER"]]}], array=False))
    assert finding.fix == "Mark whole words, here from 0 to 10, or drop the row."


def test_offsets_that_count_an_emoji_as_two_are_corrected_by_the_text_of_the_spans():
    text = "⚓😀 Zoë sails 😀 to Port Elm."
    spans = [(3, 6, "PER"), (18, 26, "PLACE")]
    row = label_studio(text, spans)
    ((_, right, _),) = read(json.dumps([row]))
    for result in row["annotations"][1]["result"][:2]:
        for side in ("start", "end"):
            result["value"][side] = len(text[: result["value"][side]].encode("utf-16-le")) // 2
    assert row["annotations"][1]["result"][1]["value"]["start"] == 20
    assert read(json.dumps([row])) == [(1, right, "[0]")]
    assert [right["tokens"][e.first_word] for e in entities(right["ner_tags"])] == ["Zoë", "Port"]


def test_white_space_at_the_ends_of_a_span_and_a_span_given_twice_do_no_harm():
    spans = [(0, 11, "PER"), (0, 10, "PER"), (19, 28, "PLACE")]
    ((_, row),) = read(written([TOOLS["doccano"](TEXT, spans)], array=False))
    assert bare(row) == ROW


def test_other_columns_of_text_and_numbers_are_kept():
    given = {"id": 7, "text": TEXT, "label": [[0, 10, "PER"], [20, 28, "PLACE"]], "meta": {"a": 1}, "source": "log"}
    assert read(json.dumps(given))[0][1] == {"id": 7, "source": "log", **ROW}


def test_the_options_name_other_columns():
    given = {"sentence": TEXT, "ner": [list(span) for span in SPANS], "spans": []}
    ((_, row),) = read(json.dumps(given), text="sentence", spans="ner")
    assert row == {"sentence": TEXT, **{name: ROW[name] for name in ROW if name != "text"}}
    (finding,) = read(json.dumps(given))
    assert finding.message == "the row has no text under the key 'text'. Its keys are 'sentence', 'ner', 'spans'."


def test_rejected_rows_of_prodigy_are_left_out_with_a_word():
    rows = [{**prodigy(TEXT, SPANS), "answer": answer} for answer in ("accept", "reject", "ignore")]
    (_, row), *findings = read(written(rows, array=False))
    assert bare(row) == ROW
    assert [(f.code, f.level, f.line) for f in findings] == [
        ("answer-not-accepted", "warning", line) for line in (2, 3)
    ]


def test_an_answer_that_is_not_prodigys_does_no_harm():
    ((_, row),) = read(json.dumps({**TOOLS["spaCy"](TEXT, SPANS), "spans": None, "answer": ["reject"]}))
    assert {name: row[name] for name in ROW} == ROW


def test_the_tokens_of_prodigy_are_the_words():
    given = {"text": "Zoë's boat", "spans": [], "tokens": []}
    for start, end in ((0, 3), (3, 5), (6, 10)):
        given["tokens"].append({"text": given["text"][start:end], "start": start, "end": end})
    assert read(json.dumps(given))[0][1]["tokens"] == ["Zoë", "'s", "boat"]
    given["tokens"][1]["start"] = 4
    (finding,) = read(json.dumps(given))
    assert (finding.code, finding.message) == ("token-misplaced", 'the token "\'s" is not in the text from 4 to 5.')


def test_annotations_that_differ_are_a_finding_unless_one_is_the_truth():
    row = label_studio(TEXT, SPANS)
    row["annotations"].append(label_studio(TEXT, SPANS[:1])["annotations"][1])
    (finding,) = read(json.dumps([row]))
    assert (finding.code, finding.message) == ("annotations-differ", "2 annotations of this text differ.")
    row["annotations"][1]["ground_truth"] = True
    assert bare(read(json.dumps([row]))[0][1]) == ROW
    row["annotations"] = []
    assert read(json.dumps([row]))[0][1]["ner_tags"] is None


@pytest.mark.parametrize(
    "head",
    [
        '{"text": "a", "label": "pos"}\n',
        '{"text": "a", "label": ["pos", "neg"]}\n',
        '{"text": "a", "labels": [0, 1]}\n',
        '{"tokens": ["a"], "ner_tags": ["O"]}\n',
        '{"context": "a", "answers": {"text": ["a"], "answer_start": [0]}}\n',
        '[{"messages": [{"role": "user", "content": "a"}]}]',
        '{"text": "a", "intent": "b", "entities": [{"start": 0, "end": 1, "value": "a", "entity": "c"}]}\n',
    ],
)
def test_other_files_are_not_recognised(head):
    assert not SpansReader().recognises(head)


@pytest.mark.parametrize("name", ["train.jsonl", "train.json"])
def test_a_recipe_needs_only_the_path(tmp_path, name):
    path = tmp_path / name
    rows = [TOOLS["doccano"](TEXT, SPANS), TOOLS["doccano"]("Gulls circle.", [])]
    path.write_text(written(rows, array=name.endswith(".json")), encoding="utf-8")
    source = Source(path=str(path), validation_size=0)
    found = data.load(source, TokenClassificationPreprocessor(), plugins=discover(), seed=0)
    assert found.splits["train"]["tokens"][0] == ROW["tokens"]
    assert found.preprocessor.labels == ("B-PER", "B-PLACE", "I-PER", "I-PLACE", "O")
    path.write_text(written([*rows, {"text": TEXT, "label": [[0, 8, "PER"]]}], array=False), encoding="utf-8")
    with pytest.raises(BadData, match=r"3: label: the span 'Zoë More' \(PER\) ends inside the word 'Moreau'"):
        data.load(Source(path=str(path), format="spans", validation_size=0), TokenClassificationPreprocessor(),
                  plugins=discover(), seed=0)  # fmt: skip


@pytest.mark.parametrize("form", ["lines", "array", "spread", "under a key"])
def test_pairs_of_text_and_entities_are_read(form):
    rows = [[TEXT, {"entities": [list(span) for span in SPANS]}], ["Gulls circle.", {"entities": []}], [TEXT, "PER"]]
    content = {
        "lines": written(rows, array=False),
        "array": json.dumps(rows),
        "spread": written(rows, array=True),
        "under a key": json.dumps({"classes": ["PER"], "annotations": rows}),
    }[form]
    assert SpansReader().recognises(content[:4096])
    found = read(content)
    made = [item for item in found if isinstance(item, tuple)]
    codes = [item.code for item in found if not isinstance(item, tuple)]
    assert bare(made[0][1]) == ROW
    assert made[1][1]["ner_tags"] == ["O", "O", "O"]
    assert codes == (["rows-in-object"] if form == "under a key" else []) + ["text-missing"] or codes == [
        "text-missing",
        "rows-in-object",
    ]
