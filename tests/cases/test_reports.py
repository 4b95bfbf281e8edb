"""Inputs from public reports, and what `finetune check` says of each; `README.md` in this folder lists the sources."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finetune import data
from finetune import plan as plans
from finetune import recipe as recipes
from finetune.data.findings import one_line
from finetune.errors import BadData
from finetune.plugins import discover

WORDS = ["ferry", "quay", "salt", "tar", "rope", "mast", "gull", "net", "pier", "tide", "lamp", "crate", "wool", "fog"]


def text(number: int) -> str:
    """Return a text that no other number has."""
    return f"the {WORDS[number % 14]} and the {WORDS[number // 14]}"


def lines(rows: Iterable[Any]) -> str:
    """Return rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def csv(rows: Iterable[tuple[Any, ...]], header: str = "text,label", between: str = ",") -> str:
    """Return rows as csv."""
    return "".join(between.join(map(str, row)) + "\n" for row in [tuple(header.split(",")), *rows])


def labelled(label: Callable[[int], Any], count: int = 24) -> str:
    """Return a csv file of texts with labels."""
    return csv((text(number), label(number)) for number in range(count))


def squad(answer: Callable[[int, str], dict[str, Any]]) -> str:
    """Return questions with the given answers."""
    rows = []
    for number in range(12):
        context = f"🚢 Boat {number} lies in Elm harbour."
        rows.append({"question": f"Where is {number}?", "context": context, "answers": answer(number, context)})
    return lines(rows)


def parquet(columns: dict[str, pa.Array]) -> bytes:
    """Return a parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


def pairs(one: str, other: str, rows: Callable[[int], tuple[Any, Any]]) -> str:
    """Return rows with a prompt and two more columns."""
    made = []
    for number in range(12):
        first, second = rows(number)
        made.append({"prompt": f"Name boat {number}.", one: first, other: second})
    return lines(made)


def chats(content: Callable[[int], str], more: Callable[[int], dict[str, Any]] = lambda number: {}) -> str:
    """Return chats of one turn."""
    rows = []
    for number in range(12):
        answer = {"role": "assistant", "content": content(number), **more(number)}
        rows.append({"messages": [{"role": "user", "content": f"Name boat {number}."}, answer]})
    return lines(rows)


TEXTS = pa.array([text(number) for number in range(20)])
LABELS = pa.array(["ab"[number % 2] for number in range(20)])
GERMAN = csv([(f"Fähre {number} fährt", "gut" if number % 2 else "schlecht") for number in range(20)], between=";")
NO_ANSWER: dict[str, list[Any]] = {"text": [], "answer_start": []}


@dataclass(frozen=True)
class Report:
    """What a file of a report holds, and what is found in it."""

    task: str
    file: str
    content: str | bytes
    codes: tuple[str, ...] = ()
    """Codes of the findings; none if the rows are read."""
    says: str = ""
    """Part of the first finding of the first code, as the command shows it."""
    stops: bool = True
    """Whether the findings stop the run."""
    more: dict[str, str] = field(default_factory=dict)
    """Split → content of another file."""
    dataset: dict[str, Any] = field(default_factory=dict)
    preprocessor: dict[str, Any] = field(default_factory=dict)


def at(shift: int) -> Callable[[int, str], dict[str, Any]]:
    """Return answers whose offsets are wrong by so many characters."""
    return lambda number, context: {"text": ["Elm"], "answer_start": [context.index("Elm") + shift]}


REPORTS = {
    "labels from 1": Report("text-classification", "a.csv", labelled(lambda n: n % 4 + 1)),
    "labels of one split only": Report(
        "text-classification",
        "a.csv",
        labelled(lambda n: "abc"[n % 3]),
        ("unseen-label",),
        ":4: label: no training row has this label (found: d)",
        more={"validation": labelled(lambda n: "abd"[n % 3], 6)},
    ),
    "ids in train, names in validation": Report(
        "text-classification",
        "a.csv",
        labelled(lambda n: n % 2),
        ("unseen-label",),
        "(found: neg)",
        more={"validation": labelled(lambda n: ["neg", "pos"][n % 2], 6)},
    ),
    "the word null": Report(
        "text-classification",
        "a.csv",
        csv([("null", "a"), ("NA", "b"), ("None", "a"), ("nan", "b")] + [(text(n), "ab"[n % 2]) for n in range(9)]),
    ),
    "an empty second text": Report(
        "text-classification",
        "a.csv",
        csv([(text(n), "" if n == 7 else text(n + 50), "ab"[n % 2]) for n in range(20)], "text,text_pair,label"),
        ("text-empty",),
        "a.csv:9: text_pair",
    ),
    "whole numbers for regression": Report("text-regression", "a.csv", labelled(lambda n: n % 5)),
    "decimal commas": Report(
        "text-regression",
        "a.csv",
        labelled(lambda n: f'"{n},5"'),
        ("label-not-a-number",),
        "(found: 0,5). Write a decimal point",
    ),
    "numbers with a fraction as classes": Report(
        "text-classification",
        "a.jsonl",
        lines({"text": text(n), "label": n / 4} for n in range(20)),
        ("label-is-a-number",),
        "(found: 0.25)",
    ),
    "a label that is missing": Report(
        "text-classification",
        "a.csv",
        labelled(lambda n: "" if n == 3 else float(n % 3)),
        ("label-missing",),
        "a.csv:5",
    ),
    "Excel, utf-8 with a byte order mark": Report(
        "text-classification", "a.csv", b"\xef\xbb\xbf" + GERMAN.encode(), ("other-delimiter",), stops=False
    ),
    "Excel, Windows code page": Report(
        "text-classification", "a.csv", GERMAN.encode("cp1252"), ("wrong-encoding",), "set dataset.encoding: cp1252"
    ),
    "Excel, Unicode text": Report(
        "text-classification", "a.csv", GERMAN.encode("utf-16"), ("wrong-encoding",), "Set dataset.encoding: utf-16"
    ),
    "Excel, line with the delimiter": Report("text-classification", "a.csv", "sep=;\n" + GERMAN),
    "span offsets that count an emoji as two": Report(
        "token-classification",
        "a.jsonl",
        lines(
            {
                "text": f"💩 boat {n} in Unst now",
                "label": [[len(f"💩 boat {n} in ") + 1, len(f"💩 boat {n} in ") + 5, "LOC"]],
            }
            for n in range(12)
        ),
        ("span-cuts-word",),
        "Count a character such as an emoji as one, not as two: here from 12 to 16",
        dataset={"format": "spans"},
    ),
    "span with outer space": Report(
        "token-classification",
        "a.jsonl",
        lines({"text": f"stars Frankie James {n}", "label": [[5, 20, "PER"]]} for n in range(9)),
        dataset={"format": "spans"},
    ),
    "span of white space": Report(
        "token-classification",
        "a.jsonl",
        lines({"text": f"only  {text(n)}", "label": [[4, 6, "PER"]]} for n in range(9)),
        ("span-empty",),
        "holds no word",
        dataset={"format": "spans"},
    ),
    "span that cuts a word": Report(
        "token-classification",
        "a.jsonl",
        lines({"text": f"Susan went to {n}", "label": [[0, 3, "PER"]]} for n in range(9)),
        ("span-cuts-word",),
        "here from 0 to 5",
        dataset={"format": "spans"},
    ),
    "questions without an answer": Report(
        "question-answering", "a.jsonl", squad(lambda n, c: NO_ANSWER if n % 3 else at(0)(n, c))
    ),
    "no question with an answer": Report(
        "question-answering",
        "a.jsonl",
        squad(lambda n, c: NO_ANSWER),
        ("split-without-answers",),
        "no question of this split has one",
        stops=False,
    ),
    "an empty answer": Report(
        "question-answering",
        "a.jsonl",
        squad(lambda n, c: {"text": [""], "answer_start": [0]} if n == 4 else at(0)(n, c)),
        ("answer-empty",),
        "leave the lists empty",
    ),
    "answer offsets of JavaScript": Report(
        "question-answering",
        "a.jsonl",
        squad(at(1)),
        ("answer-not-at-offset",),
        "counts UTF-16 units, as JavaScript does",
    ),
    "desirable as text": Report(
        "kto", "a.jsonl", pairs("completion", "label", lambda n: (f" Elm {n}", ["true", "false"][n % 2]))
    ),
    "desirable as 0 and 1": Report(
        "kto",
        "a.jsonl",
        pairs("completion", "label", lambda n: (f" Elm {n}", n % 2)),
        ("label-not-boolean",),
        "expected true or false, found 0",
    ),
    "an empty preferred answer": Report(
        "dpo",
        "a.jsonl",
        pairs("chosen", "rejected", lambda n: ("" if n == 2 else f" Elm {n}", f" Oak {n}")),
        ("answer-empty",),
        "a.jsonl:3: chosen",
    ),
    "equal answers": Report(
        "dpo",
        "a.jsonl",
        pairs("chosen", "rejected", lambda n: (f" Elm {n}", f" Elm {n if n % 4 == 0 else n + 1}")),
        ("identical-answers",),
        "a.jsonl:1: chosen",
    ),
    "an empty output": Report(
        "sft",
        "a.jsonl",
        lines({"instruction": f"Name {n}", "input": "", "output": "" if n == 3 else f"Elm {n}"} for n in range(12)),
        ("content-empty",),
        "a.jsonl:4: output",
        preprocessor={"converter": "alpaca"},
    ),
    "messages with other keys": Report(
        "sft",
        "a.jsonl",
        chats(lambda n: f"Elm {n}", lambda n: {"type": "x"} if n < 6 else {"note": 1}),
        ("missing-nested-key",),
        "messages.type",
        stops=False,
    ),
    "labels as true and false": Report(
        "text-classification",
        "a.jsonl",
        lines({"text": text(n), "label": n % 2 == 0} for n in range(12)),
        more={"validation": labelled(lambda n: n % 2 == 0, 6)},
    ),
    "an empty line": Report("text-classification", "a.csv", labelled(lambda n: "ab"[n % 2]).replace("b\n", "b\n\n", 1)),
    "labels with space and case": Report(
        "text-classification",
        "a.csv",
        labelled(lambda n: ["pos", " pos", "neg", "Neg"][n % 4]),
        ("labels-alike",),
        "' pos'/'pos', 'Neg'/'neg'",
    ),
    "dates as labels": Report(
        "text-classification",
        "a.csv",
        labelled(lambda n: f"2024-01-{n + 1:02}"),
        ("many-labels",),
        "Check that this is the label column",
        stops=False,
    ),
    "ids of more than 64 bits": Report(
        "text-classification",
        "a.jsonl",
        lines({"id": 2**64 + n, "text": text(n), "label": "ab"[n % 2]} for n in range(9)),
        ("number-too-large",),
        "Write it as text",
    ),
    "NaN in JSON": Report(
        "text-classification",
        "a.json",
        json.dumps([{"text": text(n), "label": "ab"[n % 2], "score": float("nan")} for n in range(9)]),
        ("not-a-number",),
        "Write null",
    ),
    "a translation that is missing": Report(
        "translation",
        "a.jsonl",
        lines({"translation": {"en": text(n), "de": None if n == 4 else f"das {n}"}} for n in range(9)),
        ("target-missing",),
        "a.jsonl:5: translation.de",
        preprocessor={"source_lang": "en", "target_lang": "de"},
    ),
    "other names of columns": Report(
        "reward",
        "a.jsonl",
        lines({"question": "Q", "response_j": f"{n}", "response_k": "b"} for n in range(9)),
        ("missing-column",),
        "dataset.columns: {NAME: chosen}",
    ),
    "null and blank texts": Report(
        "causal-language-modeling",
        "a.jsonl",
        lines({"text": None if n == 2 else text(n)} for n in range(9)),
        ("text-missing",),
        "a.jsonl:3",
    ),
    "parquet with categories": Report(
        "text-classification", "a.parquet", parquet({"text": TEXTS, "label": LABELS.dictionary_encode()})
    ),
    "parquet with large strings": Report(
        "text-classification", "a.parquet", parquet({"text": TEXTS.cast(pa.large_string()), "label": LABELS})
    ),
    "parquet with views": Report(
        "text-classification",
        "a.parquet",
        parquet({"text": TEXTS.cast(pa.string_view()), "label": LABELS.cast(pa.string_view())}),
        dataset={"validation_size": 0.2},
    ),
    "parquet with bytes": Report(
        "text-classification",
        "a.parquet",
        parquet({"text": TEXTS.cast(pa.binary()), "label": LABELS}),
        ("text-not-text",),
        "Write the column as text",
    ),
    "csv.gz": Report("text-classification", "a.csv.gz", gzip.compress(labelled(lambda n: "ab"[n % 2]).encode())),
}


@pytest.mark.parametrize("name", REPORTS)
def test_what_people_reported_is_read_or_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = REPORTS[name]
    monkeypatch.chdir(tmp_path)
    whole = report.content if isinstance(report.content, bytes) else report.content.encode()
    Path(report.file).write_bytes(whole)
    files = {"train": report.file}
    for split, content in report.more.items():
        files[split] = f"{split}.csv"
        Path(files[split]).write_text(content, encoding="utf-8")
    wanted = {
        "task": report.task, "model": "none", "strategy": "full", "output": "out",
        "dataset": {"path": files, **({} if report.more else {"validation_size": 0}), **report.dataset},
        "preprocessor": report.preprocessor,
    }  # fmt: skip
    Path("recipe.yaml").write_text(json.dumps(wanted), encoding="utf-8")
    plan = plans.make(recipes.read("recipe.yaml"), discover())
    try:
        findings = data.load(plan.recipe.dataset, plan.preprocessor, plugins=plan.plugins, seed=0).findings
        stopped = False
    except BadData as error:
        findings, stopped = error.findings, True
    assert stopped == bool(report.codes and report.stops)
    named = [finding for finding in findings if finding.code in report.codes]
    others = [finding for finding in findings if finding.code not in report.codes]
    assert {finding.code for finding in named} == set(report.codes)
    assert all(finding.level == "warning" or finding.code == "no-rows" for finding in others)
    if report.codes:
        assert report.says in one_line(named[0])


def test_every_report_is_in_the_log_with_its_source() -> None:
    page = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    kept = set(re.findall(r"\| `([^`|]+)` \|$", page, flags=re.MULTILINE))
    assert kept >= REPORTS.keys()
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert all(name in REPORTS or f"def {name}(" in tests for name in kept)
