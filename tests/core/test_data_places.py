"""The file, the line, the row and the path of a finding lead to the row that has the fault, for every code.

Each code of docs/reference/findings.md is in one of the tables of this module: `ROWS` (faults of a row), `FILES`
(faults of the text of a file), or `NO_ROW` (faults of a file, a column or a whole split).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finetune.data import load
from finetune.data.findings import one_line
from finetune.errors import BadData
from finetune.interfaces import Finding, Preprocessor
from finetune.plugins import discover
from finetune.recipe import Source
from finetune_choice.preprocessor import MultipleChoicePreprocessor
from finetune_decision.preprocessor import DecisionPreprocessor
from finetune_lm.causal import CausalLMPreprocessor
from finetune_seq2seq.text_to_text import TextToTextPreprocessor
from finetune_seq2seq.translation import TranslationPreprocessor
from finetune_squad.preprocessor import SquadPreprocessor
from finetune_text.classification import TextClassificationPreprocessor
from finetune_text.multi_label import MultiLabelPreprocessor
from finetune_text.regression import TextRegressionPreprocessor
from finetune_text.token_classification import TokenClassificationPreprocessor
from finetune_trl.preference.dpo import DPOPreprocessor
from finetune_trl.preference.kto import KTOPreprocessor
from finetune_trl.sft.preprocessor import SFTPreprocessor

PLUGINS = discover()
PAGE = Path(__file__).parents[2] / "docs/reference/findings.md"

NAMES = ["ada", "bo", "cy", "dee", "eve", "fay", "gus", "hal", "ivy", "jo", "kit", "lou"]


@dataclass(frozen=True)
class Task:
    """A preprocessor, and good rows for it."""

    preprocessor: Preprocessor
    good: Callable[[int], dict[str, Any]]


def qa(number: int) -> dict[str, Any]:
    context = f"The boat of {NAMES[number]} is at pier {number}."
    answers = {"text": [f"pier {number}"], "answer_start": [context.index("pier")]}
    return {"id": f"q{number}", "question": f"Where is {NAMES[number]}?", "context": context, "answers": answers}


def chat(number: int) -> dict[str, Any]:
    question, answer = f"Where is {NAMES[number]}?", f"At pier {number}."
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def tagged(number: int) -> dict[str, Any]:
    return {"tokens": [NAMES[number], "sails", "home"], "ner_tags": ["B-PER", "O", "I-PER" if number < 0 else "O"]}


def called(name: str) -> list[dict[str, Any]]:
    """Return a chat in which the assistant calls a tool, whose answer follows."""
    call = {"type": "function", "function": {"name": name, "arguments": {"who": "ada"}}}
    return [
        {"role": "user", "content": "Where is ada?", "tool_calls": None},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "pier 4", "tool_calls": None},
        {"role": "assistant", "content": "At pier 4.", "tool_calls": None},
    ]


LABELS = ("fog", "rain", "snow")
TASKS = {
    "class": Task(
        TextClassificationPreprocessor(labels=LABELS),
        lambda i: {"text": f"{NAMES[i]} sees it,\nat noon", "label": LABELS[i % 3]},
    ),
    "learned": Task(
        TextClassificationPreprocessor(),
        lambda i: {"text": f"{NAMES[i]} sees it,\nat noon", "label": LABELS[i % 2]},
    ),
    "digits": Task(
        TextClassificationPreprocessor(labels=("0", "1", "2")),
        lambda i: {"text": f"{NAMES[i]} waits", "label": float(i % 3)},
    ),
    "learned tags": Task(TokenClassificationPreprocessor(), tagged),
    "number": Task(TextRegressionPreprocessor(), lambda i: {"text": f"{NAMES[i]} waits", "label": 0.5 + i}),
    "several": Task(
        MultiLabelPreprocessor(labels=LABELS), lambda i: {"text": f"{NAMES[i]} waits", "label": [LABELS[i % 3]]}
    ),
    "vector": Task(
        MultiLabelPreprocessor(labels=LABELS),
        lambda i: {"text": f"{NAMES[i]} waits", "label": [int(i % 3 == j) for j in range(3)]},
    ),
    "tags": Task(TokenClassificationPreprocessor(labels=("O", "B-PER", "I-PER"), scheme="BIO"), tagged),
    "bilou": Task(
        TokenClassificationPreprocessor(labels=("O", "U-PER", "B-PER", "L-PER"), scheme="BILOU"),
        lambda i: {"tokens": [NAMES[i], "sails"], "ner_tags": ["U-PER", "O"]},
    ),
    "iob1": Task(
        TokenClassificationPreprocessor(data_scheme="IOB1"),
        lambda i: {"tokens": [NAMES[i], "sails"], "ner_tags": ["I-PER", "O"]},
    ),
    "qa": Task(SquadPreprocessor(), qa),
    "answerable": Task(SquadPreprocessor(allow_unanswerable=False), qa),
    "fixed": Task(SquadPreprocessor(fix_offsets=True), qa),
    "choice": Task(
        MultipleChoicePreprocessor(choice_columns=("a", "b"), context=False),
        lambda i: {"question": f"Who is at pier {i}?", "a": NAMES[i], "b": "nobody", "label": 0},
    ),
    "choices": Task(
        MultipleChoicePreprocessor(context=False, num_choices=2),
        lambda i: {"question": f"Who is at pier {i}?", "choices": [NAMES[i], "nobody"], "label": 0},
    ),
    "decision": Task(
        DecisionPreprocessor(),
        lambda i: {
            "state": f"{NAMES[i]} sails.",
            "type": "score",
            "instructions": "How far?",
            "criteria": ["near", "far"],
            "answer": "near",
        },
    ),
    "text": Task(CausalLMPreprocessor(), lambda i: {"text": f"{NAMES[i]} sails home,\nat noon"}),
    "pair": Task(TextToTextPreprocessor(), lambda i: {"source": f"{NAMES[i]} sails,", "target": f"home, {i}"}),
    "translation": Task(
        TranslationPreprocessor(source_lang="en", target_lang="nl"),
        lambda i: {"translation": {"en": f"boat {i}", "nl": f"boot {i}"}},
    ),
    "chat": Task(SFTPreprocessor(), chat),
    "notes": Task(TextClassificationPreprocessor(), lambda i: {"text": NAMES[i], "label": LABELS[i % 2], "note": "x"}),
    "targets": Task(TextToTextPreprocessor(), lambda i: {"source": f"{NAMES[i]} sails,", "target": [f"home, {i}"]}),
    "tools": Task(
        SFTPreprocessor(),
        lambda i: {
            "messages": called("find"),
            "tools": json.dumps([{"type": "function", "function": {"name": "find"}}]),
        },
    ),
    "split": Task(
        SFTPreprocessor(), lambda i: {"prompt": chat(i)["messages"][:1], "completion": chat(i)["messages"][1:]}
    ),
    "weights": Task(
        SFTPreprocessor(), lambda i: {"messages": [turn | {"weight": i} for i, turn in enumerate(chat(i)["messages"])]}
    ),
    "completion": Task(SFTPreprocessor(), lambda i: {"prompt": f"Where is {NAMES[i]}?", "completion": f" At {i}."}),
    "document": Task(SFTPreprocessor(), lambda i: {"text": f"{NAMES[i]} sails home"}),
    "dpo": Task(
        DPOPreprocessor(),
        lambda i: {"prompt": f"Where is {NAMES[i]}?", "chosen": f" At {i}.", "rejected": " Who knows."},
    ),
    "implicit": Task(
        DPOPreprocessor(),
        lambda i: {"chosen": f"Where is {NAMES[i]}? At {i}.", "rejected": f"Where is {NAMES[i]}? Who knows."},
    ),
    "kto": Task(
        KTOPreprocessor(),
        lambda i: {"prompt": f"Where is {NAMES[i]}?", "completion": f" At {i}.", "label": i % 2 == 0},
    ),
}


@dataclass(frozen=True)
class Fault:
    """Bad rows, as changes of good ones, with a finding about one of them."""

    task: str
    changes: dict[str, Any]
    also: dict[str, Any] | None = None
    """Another row that the fault needs, such as the first of two duplicates."""
    without: str = ""
    """A column to leave out of the bad row."""
    value: str = ""
    """What the row that the finding names must contain."""
    forms: tuple[str, ...] = ("lines", "array")


def answer(text: Any, start: Any) -> dict[str, Any]:
    return {"answers": {"text": [text], "answer_start": [start]}}


def turns(*pairs: tuple[Any, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


def weighted(user: int, assistant: int) -> dict[str, Any]:
    question, reply = ({"role": role, "content": "hi", "weight": 0} for role in ("user", "assistant"))
    return {"messages": [question | {"weight": user}, reply | {"weight": assistant}]}


HALF = "half \ud83d of it"
SAME = {"id": "twice", "question": "Who?", "context": "Ada and Bo sail."}
ROWS: dict[str, list[Fault]] = {
    # the table
    "not-an-object": [Fault("class", {"": "a list of"})],
    "missing-key": [Fault("class", {}, without="label")],
    "extra-key": [Fault("class", {"odd": "extra"})],
    "missing-nested-key": [Fault("qa", {"answers": {"text": ["pier"]}})],
    "type-changed": [Fault("class", {"label": 7, "text": "odd"})],
    "number-too-large": [Fault("number", {"label": 2**70})],
    "lone-surrogate": [Fault("class", {"text": HALF})],
    "column-left-out": [Fault("notes", {"note": ["odd"]})],
    "nul": [Fault("class", {"text": "a\0b"})],
    # multiple choice
    "choices-not-list": [Fault("choices", {"choices": None})],
    "choice-count": [Fault("choices", {"choices": ["ada", "bo", "cy"]})],
    "choice-repeats": [Fault("choice", {"a": "nobody"})],
    "choice-missing": [Fault("choice", {"a": None})],
    "choice-empty": [Fault("choice", {"a": " "})],
    "label-names-no-choice": [Fault("choice", {"label": 5})],
    # typed decisions
    "state-missing": [Fault("decision", {"state": None})],
    "state-empty": [Fault("decision", {"state": " "})],
    "instructions-empty": [Fault("decision", {"instructions": " "})],
    "question-type-unknown": [Fault("decision", {"type": "yes/no"})],
    "question-not-valid": [Fault("decision", {"criteria": None})],
    "answer-not-an-option": [Fault("decision", {"answer": "nowhere"})],
    "answer-ambiguous": [Fault("decision", {"criteria": ["1", "2"], "answer": "1"})],
    # question answering
    "question-missing": [Fault("qa", {"question": None})],
    "question-empty": [Fault("qa", {"question": " "}), Fault("choice", {"question": " "})],
    "context-missing": [Fault("qa", {"context": None})],
    "context-empty": [Fault("qa", {"context": " "})],
    "duplicate-id": [Fault("qa", {"id": "twice"}, also={"id": "twice"}, value="twice")],
    "answers-malformed": [Fault("qa", {"answers": None})],
    "answers-uneven": [Fault("qa", {"answers": {"text": ["pier"], "answer_start": []}})],
    "answer-outside-context": [Fault("qa", answer("pier", 500))],
    "answer-not-at-offset": [Fault("qa", answer("boat", 0))],
    "answer-in-other-unicode-form": [Fault("qa", {"context": "At the quay of Zoe\u0301.", **answer("Zo\u00e9", 15)})],
    "answer-without-offset": [Fault("qa", answer("pier", None))],
    "offset-corrected": [Fault("fixed", answer("pier", 3))],
    "no-answer-word": [Fault("qa", answer("ANSWERNOTFOUND", 0))],
    "special-token-in-text": [
        Fault("qa", {"question": "Who </s>?"}, value="</s>"),
        Fault("class", {"text": "an </s>"}, value="</s>"),
        Fault("pair", {"source": "an </s>"}, value="</s>"),
        Fault("text", {"text": "an </s>"}, value="</s>"),
    ],
    "answer-outer-space": [Fault("qa", {"context": "At a quay or so.", **answer("quay ", 5)})],
    "impossible-with-answer": [Fault("qa", {"is_impossible": True})],
    "possible-without-answer": [
        Fault("qa", {"is_impossible": False, "answers": {"text": [], "answer_start": []}}),
    ],
    "no-answer": [Fault("answerable", {"answers": {"text": [], "answer_start": []}})],
    "several-answers": [
        Fault("qa", {"context": "Ada and Bo.", "answers": {"text": ["Ada", "Bo"], "answer_start": [0, 8]}})
    ],
    "conflicting-answers": [
        Fault("qa", {**SAME, **answer("Ada", 0)}, also={**SAME, "id": "once", **answer("Bo", 8)}, value="Who?")
    ],
    # text classification and regression
    "text-missing": [Fault("class", {"text": None}), Fault("text", {"text": None})],
    "text-empty": [
        Fault("class", {"text": ""}, forms=("lines", "array", "spread", "csv")),
        Fault("text", {"text": " "}, forms=("lines", "array", "spread", "csv")),
        Fault("document", {"text": " "}),
    ],
    "duplicate-rows": [
        Fault("class", {"text": "twice", "label": "fog"}, also={"text": "twice", "label": "fog"}, value="twice"),
        Fault("text", {"text": "twice"}, also={"text": "twice"}, value="twice"),
        Fault("tags", {"tokens": ["bo", "x", "twice"]}, also={"tokens": ["bo", "x", "twice"]}, value="twice"),
        Fault("choice", {"question": "twice", "a": "x"}, also={"question": "twice", "a": "x"}, value="twice"),
    ],
    "label-conflict": [
        Fault("class", {"text": "twice", "label": "fog"}, also={"text": "twice", "label": "rain"}, value="twice"),
        Fault(
            "kto",
            {"prompt": "twice", "completion": " x", "label": True},
            also={"prompt": "twice", "completion": " x", "label": False},
            value="twice",
        ),
    ],
    "control-character": [Fault("class", {"text": "a\x07bell"}), Fault("pair", {"source": "a\x07bell"})],
    "label-missing": [
        Fault("class", {"label": ""}, forms=("lines", "array", "csv")),
        Fault("several", {"label": None}),
        Fault("number", {"label": None}),
        Fault("kto", {"label": None}),
    ],
    "label-is-a-number": [Fault("digits", {"label": 2.5}, value="2.5")],
    "label-sentinel": [
        Fault("several", {"label": ["fog", None]}),
        Fault("learned", {"label": "?"}, value="?"),
        Fault("number", {"label": -999.0}, value="-999"),
    ],
    "class-with-one-row": [Fault("learned", {"label": "hail"}, value="hail")],
    "label-joined": [Fault("learned", {"label": "fog,rain"}, value="fog,rain")],
    "label-out-of-range": [Fault("digits", {"label": 9}, value="9")],
    "unseen-label": [Fault("class", {"label": "hail"}, value="hail", forms=("lines", "array", "spread", "csv"))],
    "label-vector": [Fault("vector", {"label": [1, 0]}, value="[1, 0]")],
    # token classification
    "tokens-missing": [Fault("tags", {"tokens": None})],
    "tokens-empty": [Fault("tags", {"tokens": []})],
    "token-empty": [Fault("tags", {"tokens": ["ada", "", "home"]})],
    "token-invisible": [Fault("tags", {"tokens": ["ada", "\u200b", "home"]})],
    "tags-missing": [Fault("tags", {"ner_tags": None})],
    "tags-uneven": [Fault("tags", {"ner_tags": ["O"]})],
    "tag-missing": [Fault("tags", {"ner_tags": ["O", "", "O"]})],
    "unseen-tag": [Fault("tags", {"ner_tags": ["B-SHIP", "O", "O"]}, value="B-SHIP")],
    "inside-without-begin": [Fault("tags", {"ner_tags": ["O", "I-PER", "O"]}, value="I-PER")],
    "broken-bilou": [Fault("bilou", {"ner_tags": ["B-PER", "O"]})],
    "tag-outside-scheme": [Fault("iob1", {"ner_tags": ["PER", "O"]}, value="PER")],
    # messages
    "messages-empty": [Fault("chat", {"messages": []})],
    "role-missing": [Fault("chat", turns((None, "hi"), ("assistant", "yes")))],
    "unknown-role": [Fault("chat", turns(("skipper", "hi"), ("assistant", "yes")), value="skipper")],
    "content-missing": [Fault("chat", turns(("user", None), ("assistant", "yes")))],
    "content-empty": [Fault("chat", turns(("user", " "), ("assistant", "yes")))],
    "bad-turn-weight": [Fault("weights", weighted(1, 3))],
    "no-trained-turn": [Fault("weights", weighted(0, 0))],
    "weight-unused": [Fault("weights", weighted(1, 1))],
    "bad-tool-call": [Fault("tools", {"messages": called("")})],
    "bad-tools": [Fault("tools", {"tools": "none"})],
    "tool-without-call": [
        Fault("chat", turns(("user", "hi"), ("assistant", "yes"), ("tool", "4"), ("assistant", "4")))
    ],
    "system-not-first": [Fault("chat", turns(("user", "hi"), ("system", "be"), ("assistant", "yes")))],
    "system-only": [Fault("chat", turns(("system", "be")))],
    "assistant-first": [Fault("chat", turns(("assistant", "hi"), ("user", "be"), ("assistant", "yes")))],
    "role-twice": [Fault("chat", turns(("user", "hi"), ("user", "be"), ("assistant", "yes")))],
    "last-not-assistant": [Fault("chat", turns(("user", "hi"), ("assistant", "be"), ("user", "yes")))],
    # supervised fine-tuning
    "mixed-forms": [Fault("completion", {"text": "said"})],
    "completion-not-assistant": [
        Fault("split", {"completion": turns(("user", "hi"), ("assistant", "yes"))["messages"]})
    ],
    "prompt-missing": [Fault("completion", {"prompt": None}), Fault("kto", {"prompt": None})],
    "completion-missing": [Fault("completion", {"completion": None})],
    "prompt-empty": [Fault("completion", {"prompt": " "}), Fault("dpo", {"prompt": " "})],
    "completion-empty": [Fault("completion", {"completion": " "})],
    "answer-missing": [Fault("dpo", {"rejected": None}), Fault("kto", {"completion": None})],
    "answer-empty": [Fault("dpo", {"rejected": " "}), Fault("qa", answer(" ", 0))],
    "no-space-between": [Fault("completion", {"completion": "At"})],
    "control-token-in-text": [Fault("document", {"text": "an <|im_end|>"}, value="<|im_end|>")],
    "row-much-longer": [
        Fault("document", {"text": "long " * 900}, also={"text": "long " * 700}, value="long " * 800),
    ],
    # pairs of texts
    "source-missing": [Fault("pair", {"source": None})],
    "source-empty": [Fault("pair", {"source": " "}, forms=("lines", "array", "spread", "csv"))],
    "target-missing": [Fault("pair", {"target": None})],
    "target-empty": [Fault("pair", {"target": " "}, forms=("lines", "array", "spread", "csv"))],
    "several-targets": [Fault("targets", {"target": ["home", "out"]}, value="out")],
    "source-equals-target": [Fault("pair", {"source": "same", "target": "same"}, value="same")],
    "translation-not-an-object": [Fault("translation", {"translation": None})],
    # preferences
    "no-common-prompt": [Fault("implicit", {"chosen": "At quay.", "rejected": "Who knows."})],
    "prompt-repeated": [
        Fault("dpo", {"prompt": "Where?", "chosen": "Where? At quay.", "rejected": "Where? Who knows."})
    ],
    "identical-answers": [Fault("dpo", {"chosen": " Same.", "rejected": " Same. "})],
    "contradictory-preferences": [
        Fault(
            "dpo",
            {"prompt": "twice", "chosen": " A.", "rejected": " B."},
            also={"prompt": "twice", "chosen": " B.", "rejected": " A."},
            value="twice",
        )
    ],
}

EVERY_ROW = {
    "answer-start-not-integer", "content-not-text", "label-not-boolean", "message-not-an-object",
    "neither-text-nor-messages", "no-prompt-for-turns", "source-not-text", "target-not-text",
    "state-not-text", "instructions-not-text",
    "question-not-text", "context-not-text", "choice-not-text", "text-not-text", "label-not-single",
    "label-not-a-number", "label-list-as-text", "tokens-not-list", "token-not-text", "tags-not-list", "tag-not-text",
    "messages-not-a-list",
}  # fmt: skip
"""Faults of the type of a column, which all of its rows have."""


PYTHON = {
    "unsupported-type", "text-surrogate", "question-surrogate", "context-surrogate", "answer-surrogate",
    "choice-surrogate", "state-surrogate", "instructions-surrogate", "content-surrogate", "prompt-surrogate",
    "completion-surrogate",
}  # fmt: skip
"""Faults that only rows of Python code can have; in a file, half of a surrogate pair is `lone-surrogate`."""
TEMPLATES = "tests/plugins/finetune_trl/test_template_findings.py"
DECISIONS = "tests/plugins/finetune_decision/test_findings.py"
ELSEWHERE = {
    "template-refuses": TEMPLATES,
    "template-leaves-out": TEMPLATES,
    "tools-not-written": TEMPLATES,
    "unread-keys": TEMPLATES,
    "bad-margin": TEMPLATES,
    "negative-margin": TEMPLATES,
    "label-not-a-token": DECISIONS,
    "labels-share-a-token": DECISIONS,
    "prompt-not-rendered": DECISIONS,
    "prompt-too-long": DECISIONS,
    "input-differs": "tests/core/test_consistency.py",
    "annotations-differ": "tests/plugins/finetune_text/test_span_files.py",
    "last-not-user": "tests/plugins/finetune_trl/test_rl.py",
    "translation-without-language": "tests/plugins/finetune_seq2seq/test_pair_findings.py",
}
"""Faults of a row whose place another test checks, because they need other data than these."""
NO_ROW = {
    # the source, the bytes and the first line of a file
    "no-such-file", "not-a-file", "unreadable-file", "same-file", "unknown-format", "mixed-formats", "columns-differ",
    "unknown-split", "unused-split", "unlabelled-split", "source-failed", "truncated-gzip", "corrupt-gzip", "not-gzip",
    "unnamed-gzip", "record-too-long", "corrupt-file", "no-rows", "blank-line", "no-header", "not-an-array",
    "folder-left-out", "no-such-column", "too-few-rows-for-coverage", "too-many-keys", "too-many-columns",
    # columns and splits
    "too-much-held-out", "not-all-compared",
    "unknown-rename", "rename-clash", "constant-exists", "missing-column", "unknown-tokens", "answers-over-limit",
    "longer-than-context", "cannot-split", "no-form", "unread-columns", "label-only-in-train", "label-left-out",
    "split-without-answers", "no-prompt", "no-source", "languages-not-named",
    "chat-template-unused", "corpus-smaller-than-block",
    # all labels or tags
    "labels-similar", "label-one-hot", "label-order", "labels-alike", "label-unprintable", "class-without-rows",
    "one-class", "many-labels", "imbalance", "weight-without-class", "constant-label", "one-kind-of-label",
    "tags-converted", "tags-are-numbers", "tags-without-scheme", "tag-without-words",
}  # fmt: skip
"""Faults of a source, a file, a column or a whole split."""


def test_every_code_of_the_reference_has_a_case() -> None:
    cells = re.findall(r"^\| (`[^|]*`) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    documented = {code for cell in cells for code in re.findall("`([a-z0-9-]+)`", cell)}
    known = [set(ROWS), set(FILES), EVERY_ROW, PYTHON, set(ELSEWHERE), NO_ROW]
    assert documented == set().union(*known)
    assert sum(map(len, known)) == len(documented)
    for code, path in ELSEWHERE.items():
        assert code in (PAGE.parents[2] / path).read_text(encoding="utf-8")


def write(path: Path, rows: list[Any], form: str) -> None:
    if form == "lines":
        path.write_text("\n\n".join(map(json.dumps, rows)) + "\n")
    elif form == "array":
        path.write_text(json.dumps(rows))
    elif form == "spread":
        path.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[-1]), lineterminator="\n")
            writer.writeheader()
            for row in rows:
                if isinstance(row, dict):
                    writer.writerow(row)
                else:
                    file.write(f"{row}\n")


def places(path: Path, rows: list[Any], form: str) -> Iterator[tuple[int | None, str | None]]:
    """Yield the line of each row of a file, and its path if rows share a line; made without the code under test."""
    line = 2  # after a header
    for number, row in enumerate(rows):
        if form == "lines":
            yield 2 * number + 1, None
        elif form == "spread":
            yield number + 2, None
        elif form == "array":
            name = f" (id {row['id']!r})" if isinstance(row, dict) and "id" in row else ""
            yield 1, f"[{number}]{name}"
        else:
            yield line, None
            line += 1 + sum(str(value).count("\n") for value in row.values()) if isinstance(row, dict) else 1


SUFFIX = {"lines": ".jsonl", "array": ".json", "spread": ".json", "csv": ".csv"}
LAYOUTS: list[dict[str, Any]] = [
    {"validation_size": 0},
    {"validation_size": 0.4, "limit": {"train": 7, "validation": 4}},
]
FAULTS = [pytest.param(code, fault, id=f"{code}-{fault.task}") for code, faults in ROWS.items() for fault in faults]


@pytest.mark.parametrize(("code", "fault"), FAULTS)
def test_a_finding_names_the_row_that_has_the_fault(code: str, fault: Fault, tmp_path: Path) -> None:
    task = TASKS[fault.task]
    for form in fault.forms:
        rows = {"a": [task.good(i) for i in range(6)], "b": [task.good(i) for i in range(6, 12)]}
        changed: Any = {**rows["b"][4], **fault.changes}
        changed.pop(fault.without, None)
        rows["b"][4] = changed.get("", changed)
        bad = [rows["b"][4]]
        if fault.also is not None:
            rows["a"][3] |= fault.also
            bad.append(rows["a"][3])
        rows["b"].insert(0, 7)  # a row that cannot be read, before the others
        bad.append(7)
        known = {}
        for name, content in rows.items():
            path = tmp_path / f"{form}-{name}{SUFFIX[form]}"
            write(path, content, form)
            for number, place in enumerate(places(path, content, form)):
                known[str(path), number] = (*place, content[number])
        paths = list(dict.fromkeys(path for path, _ in known))
        for layout in LAYOUTS if form == "lines" else LAYOUTS[:1]:
            source = Source(path={"train": paths}, on_bad="drop", **layout)
            try:
                examples = load(source, task.preprocessor, plugins=PLUGINS, seed=1)
                findings, dropped = examples.findings, examples.dropped
            except BadData as error:
                findings, dropped = error.findings, ()
            for finding in findings:
                check_place(finding, known, bad=bad, value=fault.value if finding.code == code else "")
            for entry in dropped:
                line, path, row = known[entry["file"], entry["row"]]
                assert (entry["line"], entry["path"]) == (line, path)
                assert row in bad
            if layout is LAYOUTS[0]:
                assert any(finding.code == code and finding.row is not None for finding in findings), findings


OTHER = re.compile(r"The other row is (.*)\.$")


def check_place(finding: Finding, known: dict[Any, Any], *, bad: list[Any], value: str) -> None:
    """Check that a finding with a place names one of the rows that have a fault."""
    if finding.row is None:
        assert finding.line is None
        return
    line, path, row = known[finding.file, finding.row]
    if finding.code == "class-with-one-row":  # which a limit can cause
        assert str(row["label"]) in {finding.value, f"{finding.value}.0"}
    else:
        assert row in bad, finding
    assert (finding.line, finding.path) == (line, path), finding
    where = f"{finding.file}:{line}: {path}: " if path else f"{finding.file}:{line}: "
    assert one_line(finding).startswith(where)
    if value:
        assert value in json.dumps(row, ensure_ascii=False), finding
        assert finding.value is None or finding.value in json.dumps(row, ensure_ascii=False) + repr(row), finding
    other = OTHER.search(finding.message)
    if other:
        lines = [f"{file}:{line}" + (f": {path}" if path else "") for (file, _), (line, path, row) in known.items()
                 if row in bad]  # fmt: skip
        assert other[1] in lines
        assert other[1] != where.removesuffix(": ")


@dataclass(frozen=True)
class Text:
    """The text of a file that has a fault in one of its lines."""

    suffix: str
    content: str
    line: int
    task: str = "class"
    path: str | None = None
    good: str = ""
    """The text of another file; by default, good rows of the task."""


CSV = 'text,label\n"a\nb",fog\n\nc,rain\n'
WORDS = "Ada\tB-PER\nsails\tO\n\nBo\tB-PER\nrows\tO\n\n"
COUNTED = "1\tAda\tB-PER\n2\tsails\tO\n\n1\tBo\tB-PER\n2\trows\tO\n\n"
BRACKETS = "#begin document (a)\n" + "a 0 0 Ada NN * - - - Ada (PERSON)\na 0 1 sails NN * - - - Ada *\n\n" * 2
SPANS = [{"text": "Ada sails home", "entities": [[0, 3, "PER"]]}, {"text": "Bo rows", "entities": [[0, 2, "PER"]]}]
MARKED = "".join(json.dumps(row) + "\n\n" for row in SPANS)


def marked(spans: Any, **rest: Any) -> str:
    return MARKED + json.dumps({"text": "Ada sails home", "entities": spans, **rest})


def squad(**changes: Any) -> str:
    """Return an official file of one line whose second article has something wrong."""
    answers = [{"text": "Ada", "answer_start": 0}]
    asked = {"id": "q1", "question": "Who?", "answers": answers}
    paragraph = {"context": "Ada sails.", "qas": [asked]}
    article = {"title": "b", "paragraphs": [paragraph]}
    for name, value in changes.items():
        holder: Any = {"paragraphs": article, "context": paragraph, "qas": paragraph}.get(name, asked)
        holder[name] = value
    if changes.get("qas") == "odd":
        paragraph["qas"] = ["odd"]
    whole = {
        "context": "Bo rows.",
        "qas": [{"id": "q0", "question": "Who?", "answers": [{"text": "Bo", "answer_start": 0}]}],
    }
    return json.dumps({"version": "1", "data": [{"title": "a", "paragraphs": [whole]}, article]})


PLACE = "data[1].paragraphs[0]"
FILES: dict[str, Text] = {
    "bad-fasttext-line": Text("txt", "__label__fog a\n\n__label__rain b\nno label\n", 4),
    "ragged-row": Text("csv", CSV + "d\n", 6),
    "stray-quote": Text("csv", CSV + 'd"d,fog\n', 6),
    "unclosed-quote": Text("csv", CSV + '"d,fog\n', 6),
    "bare-carriage-return": Text("csv", CSV + "d\rd,fog\n", 6),
    "bad-column-name": Text("csv", "\ntext,te\0xt\na,b\n", 2),
    "duplicate-column": Text("csv", "\ntext,text\na,b\n", 2),
    "other-delimiter": Text("csv", "\ntext;label\na;fog\n", 2),
    "wrong-delimiter": Text("tsv", "\ntext,label\na,fog\n", 2),
    "bad-json": Text("jsonl", '{"text": "a", "label": "fog"}\n\n{"text": "b", "label"}\n', 3),
    "duplicate-key": Text("jsonl", '{"text": "a", "label": "fog"}\n\n{"text": "b", "text": "c"}\n', 3),
    "not-a-number": Text("json", '[{"text": "a", "label": "fog"}, {"text": "b", "label": NaN}]', 1, path="[1]"),
    "truncated-json": Text("json", '[{"text": "a", "label": "fog"},\n{"text": "b"', 2),
    "text-after-end": Text("json", '[{"text": "a", "label": "fog"}]\n\n{"text": "b"}', 3),
    "rows-in-object": Text("json", '\n{"rows": [{"text": "a", "label": "fog"}]}', 2),
    "wrong-encoding": Text("csv", CSV + "\udcff,fog\n", 6),
    "ragged-line": Text("conll", "# a = b\n" + WORDS + "Cy B-PER O\n", 8, "tags", good=WORDS),
    "columns-unclear": Text("conll", WORDS.replace("\tO", "\tO\tO").replace("\tB", "\tB-X\tB"), 1, "tags", good=WORDS),
    "columns-detected": Text("conll", COUNTED, 1, "tags", good=WORDS),
    "empty-column": Text("conll", WORDS.replace("O\n", "O\t\n").replace("R\n", "R\t\n"), 1, "tags", good=WORDS),
    "word-number": Text("conll", COUNTED * 6 + "1\tCy\tO\n3\trows\tO\n", 38, "tags", good=WORDS),
    "broken-brackets": Text("conll", BRACKETS + "a 0 0 Cy NN * - - - Ada PERSON)\n", 8, "learned tags", good=WORDS),
    "span-cuts-word": Text("jsonl", marked([[0, 2, "PER"]]), 5, "tags", good=MARKED),
    "spans-overlap": Text("jsonl", marked([[0, 9, "PER"], [4, 9, "PER"]]), 5, "tags", good=MARKED),
    "span-outside-text": Text("jsonl", marked([[0, 99, "PER"]]), 5, "tags", good=MARKED),
    "span-empty": Text("jsonl", marked([[3, 4, "PER"]]), 5, "tags", good=MARKED),
    "span-not-read": Text("jsonl", marked([[3, "PER"]]), 5, "tags", good=MARKED),
    "span-text-differs": Text(
        "jsonl", marked([{"start": 0, "end": 3, "label": "PER", "text": "Bo"}]), 5, "tags", good=MARKED
    ),
    "token-misplaced": Text(
        "jsonl", marked([[0, 3, "PER"]], tokens=[{"text": "Bo", "start": 0, "end": 3}]), 5, "tags", good=MARKED
    ),
    "answer-not-accepted": Text(
        "jsonl", MARKED + json.dumps({"text": "Ada sails", "spans": [], "answer": "reject"}), 5, "tags", good=MARKED
    ),
    "json-broken": Text("json", '\n{"version": "1", "data": [{"paragraphs": [}]}', 2, "qa"),
    "article-without-paragraphs": Text("json", squad(paragraphs=None), 1, "qa", path="data[1]"),
    "paragraph-not-object": Text("json", squad(paragraphs=["odd"]), 1, "qa", path=PLACE),
    "paragraph-without-context": Text("json", squad(context=None), 1, "qa", path=PLACE),
    "paragraph-without-questions": Text("json", squad(qas=None), 1, "qa", path=PLACE),
    "question-not-object": Text("json", squad(qas="odd"), 1, "qa", path=f"{PLACE}.qas[0]"),
    "question-without-text": Text("json", squad(question=None), 1, "qa", path=f"{PLACE}.qas[0] (id 'q1')"),
    "id-not-text": Text("json", squad(id=1.5), 1, "qa", path=f"{PLACE}.qas[0]"),
    "is-impossible-not-boolean": Text("json", squad(is_impossible="no"), 1, "qa", path=f"{PLACE}.qas[0]"),
}


@pytest.mark.parametrize("code", FILES)
def test_a_finding_names_the_line_that_has_the_fault(code: str, tmp_path: Path) -> None:
    text = FILES[code]
    task = TASKS[text.task]
    first, second = tmp_path / f"a.{text.suffix}", tmp_path / f"b.{text.suffix}"
    if text.good:
        first.write_text(text.good)
    else:
        form = {"jsonl": "lines", "json": "spread"}.get(text.suffix, "csv")
        write(first, [task.good(i) for i in range(4)], form)
        if text.suffix == "tsv":
            first.write_text("text\tlabel\na\tfog\n")
    second.write_bytes(text.content.encode("utf-8", "surrogateescape"))
    source = Source(path={"train": [str(first), str(second)]}, on_bad="drop", validation_size=0)
    try:
        findings = load(source, task.preprocessor, plugins=PLUGINS, seed=1).findings
    except BadData as error:
        findings = error.findings
    places = {(finding.file, finding.line) for finding in findings if finding.code == code}
    assert places == {(str(second), text.line)}, findings
    for finding in findings:
        if finding.code == code and text.path is not None:
            assert str(finding.path).startswith(text.path), finding


def test_rows_under_the_keys_of_one_line_are_named_by_their_key(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"w1": {"text": "a", "label": "fog"}, "w2": {"text": "", "label": "fog"}}')
    with pytest.raises(BadData) as caught:
        load(Source(path=str(path), validation_size=0), TASKS["class"].preprocessor, plugins=PLUGINS, seed=0)
    assert f"{path}:1: ['w2']: text: the text has no visible character." in str(caught.value)


def test_each_file_of_a_binary_split_counts_its_own_rows(tmp_path: Path) -> None:
    paths = []
    for name in "ab":
        paths.append(str(tmp_path / f"{name}.parquet"))
        pq.write_table(pa.Table.from_pylist([TASKS["class"].good(0), {"text": "", "label": "fog"}]), paths[-1])
    with pytest.raises(BadData) as caught:
        load(Source(path={"train": paths}, validation_size=0), TASKS["class"].preprocessor, plugins=PLUGINS, seed=0)
    empty = [(finding.file, finding.row) for finding in caught.value.findings if finding.code == "text-empty"]
    assert empty == [(paths[0], 1), (paths[1], 1)]


def test_the_rows_of_each_file_are_counted_with_those_that_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n7\n{"text": ""}\n')
    (tmp_path / "b.jsonl").write_text('{"text": ""}\n{"text": "b"}\n')
    paths = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]
    source = Source(path={"test": paths}, on_bad="drop", validation_size=0)
    fitted = TASKS["class"].preprocessor.fit([TASKS["class"].good(i) for i in range(6)])
    found = load(source, fitted, plugins=PLUGINS, seed=0, fit=False, answers=False)
    assert found.sizes == {"test": dict(zip(paths, (3, 2), strict=True))}
    assert {(row["file"], row["row"]) for row in found.dropped} == {(paths[0], 1), (paths[0], 2), (paths[1], 0)}
