"""The official nested files: read in pieces, with lines and paths, and every fault named."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.interfaces import Finding
from finetune.testing.laws import check_finding
from finetune_squad.nested import SquadReader


def question(name="q1", text="Where?", answers=(("pier", 4),), **more):
    return {
        "id": name,
        "question": text,
        "answers": [{"text": answer, "answer_start": start} for answer, start in answers],
        **more,
    }


def file(*questions, context="The pier.", **article):
    return {
        "version": "v2.0",
        "data": [{"title": "Elm", "paragraphs": [{"context": context, "qas": list(questions)}], **article}],
    }


def items(text, size=7):
    return list(SquadReader().rows([text[at : at + size] for at in range(0, len(text), size)], file="f.json"))


def read(text, size=7):
    """Return the rows with their lines, without paths, and the findings."""
    return [item if isinstance(item, Finding) else item[:2] for item in items(text, size)]


def one(text, size=7):
    """Return the only finding."""
    (finding,) = [each for each in read(text, size) if isinstance(each, Finding)]
    check_finding(finding)
    assert finding.file == "f.json"
    return finding


def test_a_question_is_a_flat_row():
    content = file(
        question(), question("q2", answers=(), is_impossible=True, plausible_answers=[{"text": "x", "answer_start": 0}])
    )
    assert read(json.dumps(content)) == [
        (
            1,
            {
                "id": "q1",
                "title": "Elm",
                "context": "The pier.",
                "question": "Where?",
                "answers": {"text": ["pier"], "answer_start": [4]},
                "is_impossible": False,
            },
        ),
        (
            1,
            {
                "id": "q2",
                "title": "Elm",
                "context": "The pier.",
                "question": "Where?",
                "answers": {"text": [], "answer_start": []},
                "is_impossible": True,
            },
        ),
    ]


def test_ids_become_text_and_titles_and_answers_may_be_absent():
    content = file({"id": 262, "question": "Where?"}, document_id=7)
    del content["data"][0]["title"], content["version"]
    ((_, row),) = read(json.dumps(content))
    assert row == {"id": "262", "title": "", "context": "The pier.", "question": "Where?", "is_impossible": False}
    ((_, row),) = read(json.dumps(file({"question": "Where?", "answers": []})))
    assert row["id"] == "data[0].paragraphs[0].qas[0]"
    assert row["is_impossible"] is True


names = st.text(max_size=6)


@given(
    contents=st.lists(st.lists(st.lists(names, max_size=3), max_size=3), max_size=3),
    size=st.integers(1, 50),
    indent=st.sampled_from([None, 1, 4]),
    ascii_only=st.booleans(),
    ends=st.sampled_from(["\n", "\r\n"]),
)
@settings(max_examples=150, deadline=None)
def test_rows_and_lines_do_not_depend_on_the_pieces_or_the_layout(contents, size, indent, ascii_only, ends):
    """Against `json.loads` of the whole text, and the line where each question's brace really stands."""
    data = [
        {
            "title": "t",
            "paragraphs": [
                {
                    "context": "c" * n,
                    "qas": [{"id": f"{a}.{n}.{k}", "question": q, "answers": []} for k, q in enumerate(qs)],
                }
                for n, qs in enumerate(paragraphs)
            ],
        }
        for a, paragraphs in enumerate(contents)
    ]
    text = json.dumps({"data": data}, indent=indent, ensure_ascii=ascii_only).replace("\n", ends)
    if any("\ud800" <= character <= "\udfff" for character in text):
        return
    found = read(text, size)
    wanted = [q for article in data for paragraph in article["paragraphs"] for q in paragraph["qas"]]
    assert [(row["id"], row["question"]) for _, row in found] == [(q["id"], q["question"]) for q in wanted]
    lines = text.split("\n")
    for line, row in found:
        place = lines[line - 1].strip()
        assert place == "{" if indent else line == 1
        assert not indent or json.dumps(row["id"]) in lines[line]


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_file_cut_anywhere_is_an_error_and_loses_no_earlier_article(size, indent):
    content = file(question())
    content["data"] *= 3
    text = json.dumps(content, indent=indent)
    for cut in range(1, len(text), 11):
        if not text[:cut].strip() or text[:cut].rstrip() == text.rstrip():
            continue
        found = read(text[:cut], size)
        assert isinstance(found[-1], Finding)
        assert found[-1].level == "error"
        assert found[-1].line == text[:cut].count("\n") + 1 or "without an end" in found[-1].message
        assert not any(isinstance(each, Finding) for each in found[:-1])


@pytest.mark.parametrize(
    ("broken", "wanted", "message"),
    [
        (",\n  ]", "data[0].paragraphs", "trailing comma before ]"),
        (",\n  }", "data[0]", "trailing comma before }"),
    ],
)
def test_a_trailing_comma_is_named_with_line_and_path(broken, wanted, message):
    text = json.dumps(file(question()), indent=1)
    end = {"]": text.rindex("]", 0, text.rindex("]")), "}": text.rindex("}", 0, text.rindex("]"))}[broken[-1]]
    text = text[:end].rstrip() + broken + text[end + 1 :]
    finding = one(text)
    assert message in finding.message
    assert finding.column == wanted
    assert finding.line == text[: text.index(broken)].count("\n") + 2
    assert finding.level == "error"
    assert finding.fix


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"data": [{"paragraphs": []}], "data": []}', "'data' is here a second time"),
        ('{"data": [{"title": "a", "title": "b"}]}', "'title' is here a second time"),
        ('{"data": {}}', "'data' is not a list"),
        ('{"version": "2.0"}', "no key 'data'"),
        ('{"data": []} {}', "more after the end"),
        ('{"data": [NaN]}', "not a JSON value"),
        ("{'data': []}", "double quotes"),
        ('{"data": [{"title": "a\nb"}]}', "nvalid control character"),
        ('{"data": [{"title": "\\x"}]}', "nvalid \\escape"),
        ('{"version": [1 2], "data": []}', "expected a comma"),
        ('{"data": [' + "[" * 5000 + "]" * 5000 + "]}", "nested more than"),
        ('{"data": [{"n": ' + "9" * 5000 + "}]}", "more than 40 digits"),
        ('{"data" []}', "expected :"),
        ("[]", "expected {"),
        ("", "ends inside"),
    ],
)
@pytest.mark.parametrize("size", [1, 100_000])
def test_what_is_no_strict_json_or_no_squad_is_named(text, message, size):
    finding = one(text, size)
    assert message in finding.message
    assert finding.level == "error"
    assert finding.line == 1


def broken(change):
    content = file(question(), question("q2"))
    content["data"].append(file(question("q3"))["data"][0])
    change(content["data"][0])
    return json.dumps(content, indent=1)


@pytest.mark.parametrize(
    ("change", "code", "path", "left"),
    [
        (lambda a: a["paragraphs"][0].pop("context"), "paragraph-without-context", "data[0].paragraphs[0]", 1),
        (lambda a: a["paragraphs"][0].update(qas={}), "paragraph-without-questions", "data[0].paragraphs[0]", 1),
        (lambda a: a["paragraphs"].__setitem__(0, "text"), "paragraph-not-object", "data[0].paragraphs[0]", 1),
        (lambda a: a.pop("paragraphs"), "article-without-paragraphs", "data[0]", 1),
        (
            lambda a: a["paragraphs"][0]["qas"][1].pop("question"),
            "question-without-text",
            "data[0].paragraphs[0].qas[1].question",
            2,
        ),
        (
            lambda a: a["paragraphs"][0]["qas"].__setitem__(1, 5),
            "question-not-object",
            "data[0].paragraphs[0].qas[1]",
            2,
        ),
        (lambda a: a["paragraphs"][0]["qas"][1].update(id=1.5), "id-not-text", "data[0].paragraphs[0].qas[1].id", 2),
        (
            lambda a: a["paragraphs"][0]["qas"][1].update(is_impossible="no"),
            "is-impossible-not-boolean",
            "data[0].paragraphs[0].qas[1].is_impossible",
            2,
        ),
        (
            lambda a: a["paragraphs"][0]["qas"][1].update(answers={}),
            "answers-malformed",
            "data[0].paragraphs[0].qas[1].answers",
            2,
        ),
        (
            lambda a: a["paragraphs"][0]["qas"][1]["answers"][0].pop("text"),
            "answers-malformed",
            "data[0].paragraphs[0].qas[1].answers[0]",
            2,
        ),
        (
            lambda a: a["paragraphs"][0]["qas"][1]["answers"][0].update(answer_start="four"),
            "answer-start-not-integer",
            "data[0].paragraphs[0].qas[1].answers[0].answer_start",
            2,
        ),
    ],
)
def test_a_fault_of_structure_is_named_by_path_and_the_rest_is_read(change, code, path, left):
    text = broken(change)
    finding = one(text)
    assert finding.path is not None
    where, _, name = finding.path.partition(" (id ")
    assert (finding.code, ".".join(filter(None, (where, finding.column))), finding.level) == (code, path, "row")
    assert bool(name) == (".qas[" in path and code not in {"id-not-text", "question-not-object"})
    rows = [each for each in read(text) if not isinstance(each, Finding)]
    assert len(rows) == left
    assert rows[-1][1]["id"] == "q3"
    lines = text.split("\n")
    assert 1 < finding.line <= len(lines)


def test_only_nested_files_are_recognised():
    recognises = SquadReader().recognises
    assert recognises(json.dumps(file(question())))
    assert recognises(json.dumps(file(question()), indent=2))
    assert recognises("\ufeff" + json.dumps(file(question())))
    assert recognises(json.dumps({"version": "1.1", "year": 2016, "data": file(question())["data"]}))
    assert recognises(json.dumps({"data": [{"question": "Where?", "context": "The pier."}]}))
    assert not recognises(json.dumps({"data": [{"text": "a", "label": 1}]}))
    assert not recognises(json.dumps([{"data": [{"paragraphs": 1}]}]))
    assert not recognises('{"question": "data", "context": "paragraphs"}')
    assert not recognises("")


def test_memory_does_not_grow_with_the_file():
    import tracemalloc

    article = json.dumps(file(question(), context="x" * 20_000)["data"][0])

    def pieces(count):
        yield '{"data": ['
        for number in range(count):
            yield ("," if number else "") + article
        yield "]}"

    peaks = []
    for count in (200, 1000):  # 4 MB, 20 MB
        tracemalloc.start()
        assert sum(1 for _ in SquadReader().rows(pieces(count), file="f")) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_every_question_has_its_path():
    content = file(question(), question("q2"))
    content["data"].append(file(question("q3"))["data"][0])
    paths = [(row["id"], path) for _, row, path in items(json.dumps(content))]
    assert paths == [
        ("q1", "data[0].paragraphs[0].qas[0]"),
        ("q2", "data[0].paragraphs[0].qas[1]"),
        ("q3", "data[1].paragraphs[0].qas[0]"),
    ]


def test_rows_under_data_are_read_as_they_are():
    given = [
        {"id": "a", "question": "Where?", "context": "The pier.", "answers": {"text": ["pier"], "answer_start": [4]}},
        {"id": "b", "question": "Why?", "context": "The pier.", "answers": [], "note": {"by": ["x"]}},
    ]
    found = items(json.dumps({"version": "0.1.0", "data": given}, indent=1))
    assert [(row, path) for _, row, path in found] == [(given[0], "data[0]"), (given[1], "data[1]")]
    assert [type(row) for _, row, _ in found] == [dict, dict]
    assert type(found[1][1]["note"]) is dict
    assert found[0][0] == 4


@pytest.mark.parametrize(
    "answers",
    [
        [{"text": "pier", "answer_start": 4.0}],
        [{"text": "pier", "answer_start": "4"}],
        {"text": ["pier"], "answer_start": [4]},
        {"text": "pier", "answer_start": [4, 8]},
    ],
)
def test_answers_of_nested_files_have_every_known_form(answers):
    ((_, row),) = read(json.dumps(file({"id": "q", "question": "Where?", "answers": answers})))
    assert row["answers"] == {"text": ["pier"], "answer_start": [4]}
    assert row["is_impossible"] is False
