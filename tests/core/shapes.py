"""Files as people have them: exports of Kaggle, of pandas and of spreadsheets, and what each is for."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

STEMS = ("room", "cold", "bed", "hard", "soup", "warm", "staff", "kind", "view", "boat", "late", "deck", "wet", "crew")
WORDS = [f"{stem}{ending}" for stem in STEMS for ending in ("", "s", "er", "ish", "ly", "less", "ful")]
RNG = random.Random(7)
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    name: str
    content: str
    task: str
    columns: Mapping[str, str]
    """Column of the task → column of the file."""
    options: Mapping[str, Any] | None = None
    """Options of the preprocessor."""
    dataset: Mapping[str, Any] | None = None
    """Other keys of the section."""
    bad: int = 0
    """Rows that the task refuses."""
    encoding: str = "utf-8"
    others: Sequence[str] = field(default_factory=tuple)
    """Tasks that must be named as possible, too."""


def text(words: int = 12) -> str:
    return " ".join(RNG.sample(WORDS, words)).capitalize() + "."


def word() -> str:
    return RNG.choice(WORDS)


def pick(*values: Any) -> Any:
    return RNG.choice(values)


def table(rows: Sequence[Row], *, delimiter: str = ",", header: bool = True, end: str = "\n") -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end)
    if header:
        writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return out.getvalue()


def lines(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def times(make: Callable[[int], Row], count: int = 60) -> list[Row]:
    return [make(number) for number in range(count)]


def bits(*names: str) -> dict[str, int]:
    return {name: RNG.randint(0, 1) for name in names}


def choices(*names: str) -> dict[str, str]:
    return {name: text(3) for name in names}


def tagged() -> list[Row]:
    rows: list[Row] = []
    for number in range(40):
        for place in range(RNG.randint(5, 9)):
            first = f"Sentence: {number + 1}" if place == 0 else ""
            rows.append({"Sentence #": first, "Word": pick(word(), ",", 'sh"ip'), "POS": pick("NN", "VB", ","),
                         "Tag": pick("O", "O", "B-geo")})  # fmt: skip
    return rows


def squad(number: int, form: str) -> Row:
    context = text(40)
    answer = " ".join(context.split()[5:8])
    start = context.index(answer)
    answers = {
        "python": f"{{'text': [{answer!r}], 'answer_start': [{start}]}}",
        "numpy": f"{{'text': array([{answer!r}], dtype=object), 'answer_start': array([{start}], dtype=int32)}}",
    }
    return {"id": f"q{number}", "title": word(), "context": context, "question": text(6), "answers": answers[form]}


def chats(number: int) -> Row:
    asked = [{"role": "user", "content": text()}]
    answered = [[*asked, {"role": "assistant", "content": text()}] for _ in range(2)]
    return {"prompt": asked[0]["content"], "chosen": answered[0], "rejected": answered[1], "score_chosen": 8.5,
            "score_rejected": 2.0}  # fmt: skip


def helpful(number: int) -> Row:
    asked = f"\n\nHuman: {text()}\n\nAssistant: "
    return {"chosen": asked + text(), "rejected": asked + text()}


def right_one(number: int) -> Row:
    found = [text(2) for _ in range(4)]
    named = {f"option{place}": choice for place, choice in enumerate(found, 1)}
    return {"question": text(), **named, "correct": pick(*found)}


CHOICE = {"context": False}
JIGSAW = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
TOPICS = ("Computer Science", "Physics", "Mathematics")

SHAPES = [
    # Several choices
    Case("mcq.csv", table(times(lambda n: {"question": text(), **choices(*"ABCD"), "answer": pick(*"ABCD")})),
         "multiple-choice", {"question": "question", "label": "answer"},
         {**CHOICE, "label_form": "letter", "choice_columns": [*"ABCD"]}),
    Case("science_exam.csv", table(times(lambda n: {"id": n, "prompt": text(), **choices(*"ABCDE"),
                                                    "answer": pick(*"ABCDE")})),
         "multiple-choice", {"question": "prompt", "label": "answer"},
         {**CHOICE, "label_form": "letter", "choice_columns": [*"ABCDE"]}),
    Case("options.csv", table(times(right_one)), "multiple-choice", {"question": "question", "label": "correct"},
         {**CHOICE, "label_form": "text", "choice_columns": ["option1", "option2", "option3", "option4"]}),
    Case("capitals.csv", table(times(lambda n: {"Question": text(), **choices("Option A", "Option B", "Option C"),
                                                "Answer": RNG.randint(1, 3)})),
         "multiple-choice", {"question": "Question", "label": "Answer"},
         {**CHOICE, "label_form": "number", "choice_columns": ["Option A", "Option B", "Option C"]}),
    Case("mmlu.jsonl", lines(times(lambda n: {"question": text(), "subject": pick("law", "art"),
                                              "choices": [text(2) for _ in range(4)], "answer": RNG.randint(0, 3)})),
         "multiple-choice", {"question": "question", "choices": "choices", "label": "answer"}, CHOICE),
    Case("mmlu.csv", table(times(lambda n: {"question": text(), "choices": f"['{text(2)}' '{text(2)}'\n '{text(2)}']",
                                            "answer": RNG.randint(0, 2)})),
         "multiple-choice", {"question": "question", "choices": "choices", "label": "answer"}, CHOICE),
    Case("arc.jsonl", lines(times(lambda n: {"id": f"Mercury_{n}", "question": text(), "answerKey": pick(*"ABCD"),
                                             "choices": {"text": [text(2) for _ in range(4)], "label": [*"ABCD"]}})),
         "multiple-choice", {"question": "question", "choices": "choices", "label": "answerKey"},
         {**CHOICE, "label_form": "letter"}),
    Case("race.jsonl", lines(times(lambda n: {"example_id": f"high{n}.txt", "article": text(40), "question": text(6),
                                              "answer": pick(*"ABCD"), "options": [text(2) for _ in range(4)]})),
         "multiple-choice", {"context": "article", "question": "question", "choices": "options", "label": "answer"},
         {"label_form": "letter"}),
    Case("swag.csv", table(times(lambda n: {"": n, "video-id": f"anetv_{n}", "startphrase": text(), "sent1": text(),
                                            "sent2": text(2), **choices("ending0", "ending1", "ending2", "ending3"),
                                            "label": RNG.randint(0, 3)})),
         "multiple-choice", {"question": "sent1", "label": "label"},
         {**CHOICE, "choice_columns": ["ending0", "ending1", "ending2", "ending3"]}),
    Case("copa.jsonl", lines(times(lambda n: {"premise": text(6), **choices("choice1", "choice2"), "idx": n,
                                              "question": pick("cause", "effect"), "label": RNG.randint(0, 1)})),
         "multiple-choice", {"context": "premise", "question": "question", "label": "label"},
         {"choice_columns": ["choice1", "choice2"]}),
    Case("medmcqa.csv", table(times(lambda n: {"id": f"{n:x}", "question": text(),
                                               **choices("opa", "opb", "opc", "opd"), "cop": RNG.randint(0, 3),
                                               "exp": text(20), "topic_name": word()})),
         "multiple-choice", {"question": "question", "label": "cop"},
         {**CHOICE, "choice_columns": ["opa", "opb", "opc", "opd"]}),
    # One column for each label
    Case("jigsaw.csv", table(times(lambda n: {"id": f"{n:016x}", "comment_text": text(), **bits(*JIGSAW)})),
         "multi-label-classification", {"text": "comment_text"}, {"label_columns": [*JIGSAW]}),
    Case("arxiv.csv", table(times(lambda n: {"ID": n, "TITLE": text(6), "ABSTRACT": text(40), **bits(*TOPICS)})),
         "multi-label-classification", {"text": "ABSTRACT"}, {"label_columns": [*TOPICS]}),
    Case("genres.csv", table(times(lambda n: {"plot": text(30), "drama": pick("True", "False"),
                                              "crime": pick("True", "False"), "war": pick("True", "False")})),
         "multi-label-classification", {"text": "plot"}, {"label_columns": ["drama", "crime", "war"]}),
    # Tags of words
    Case("ner_dataset.csv", table(tagged()), "token-classification", {"tokens": "tokens", "ner_tags": "ner_tags"}),
    # One label
    Case("disaster.csv", table(times(lambda n: {"id": n, "keyword": pick("", "fire", "flood"), "location": word(),
                                                "text": text(), "target": RNG.randint(0, 1)})),
         "text-classification", {"text": "text", "label": "target"}),
    Case("spam.csv", table(times(lambda n: {"v1": pick("ham", "ham", "spam"), "v2": f"{text()} £5", "": "", " ": ""})),
         "text-classification", {"text": "v2", "label": "v1"}, None, {"encoding": "cp1252"}, encoding="cp1252"),
    Case("unnamed_index.csv", table(times(lambda n: {"": n, "text": text(), "label": pick("a", "b")})),
         "text-classification", {"text": "text", "label": "label"}),
    Case("pandas_twice.csv", table(times(lambda n: {"": n, "Unnamed: 0": n, "text": text(), "label": pick("a", "b")})),
         "text-classification", {"text": "text", "label": "label"}),
    Case("sentiment140.csv", table(times(lambda n: {"a": pick(0, 4), "b": 1467810369 + n, "d": "NO_QUERY",
                                                    "c": f"Mon Apr 06 22:19:{n:02} PDT 2009", "e": f"{word()}{n}",
                                                    "f": f"@{word()} {text()}"}), header=False),
         "text-classification", {"text": "column_6", "label": "column_1"}, None,
         {"options": {"names": [f"column_{place}" for place in range(1, 7)]}}),
    Case("agnews.csv", table(times(lambda n: {"Class Index": RNG.randint(1, 4), "Title": text(6),
                                              "Description": text(30)})),
         "text-classification", {"text": "Description", "label": "Class Index"}, others=["summarization"]),
    Case("sarcasm.json", lines(times(lambda n: {"article_link": f"https://x.org/{n}", "headline": text(8),
                                                "is_sarcastic": RNG.randint(0, 1)})),
         "text-classification", {"text": "headline", "label": "is_sarcastic"}, None, {"format": "jsonl"}),
    Case("quora.csv", table(times(lambda n: {"id": n, "qid1": 2 * n, "qid2": 2 * n + 1, "question1": text(8),
                                             "question2": text(8), "is_duplicate": RNG.randint(0, 1)})),
         "text-classification", {"text": "question1", "text_pair": "question2", "label": "is_duplicate"}),
    Case("airline.csv", table(times(lambda n: {"tweet_id": 570306133677760513 + n, "name": f"{word()}{n}",
                                               "airline_sentiment": pick("neutral", "positive", "negative"),
                                               "airline_sentiment_confidence": RNG.random(), "text": text()})),
         "text-classification", {"text": "text", "label": "airline_sentiment"}),
    Case("women.csv", table(times(lambda n: {"": n, "Clothing ID": RNG.randint(700, 1100), "Age": RNG.randint(18, 80),
                                             "Title": text(3), "Review Text": text(30), "Rating": RNG.randint(1, 5),
                                             "Recommended IND": RNG.randint(0, 1)})),
         "text-classification", {"text": "Review Text", "label": "Rating"}, others=["text-regression"]),
    # A number
    Case("sick.tsv", table(times(lambda n: {"pair_ID": n, "sentence_A": text(), "sentence_B": text(),
                                            "relatedness_score": round(RNG.random() * 5, 1)}), delimiter="\t"),
         "text-regression", {"text": "sentence_A", "text_pair": "sentence_B", "label": "relatedness_score"}),
    # Questions
    Case("squad.csv", table(times(lambda n: squad(n, "python"))), "question-answering",
         {"question": "question", "context": "context", "answers": "answers", "id": "id", "title": "title"}),
    Case("squad_pandas.csv", table(times(lambda n: squad(n, "numpy"))), "question-answering",
         {"question": "question", "context": "context", "answers": "answers", "id": "id", "title": "title"}),
    # Two texts
    Case("headlines.csv", table(times(lambda n: {"headlines": text(6), "text": text(30)})),
         "summarization", {"document": "text", "summary": "headlines"}),
    Case("source_target.csv", table(times(lambda n: {"source": text(), "target": text()})),
         "translation", {"source": "source", "target": "target"}, others=["text-to-text"]),
    Case("sentences.csv", table(times(lambda n: {"English words/sentences": text(5),
                                                 "French words/sentences": text(5)})),
         "translation", {"source": "English words/sentences", "target": "French words/sentences"}),
    # Chats and preferences
    Case("completions.jsonl", lines(times(lambda n: {"prompt": text(), "completion": text()})),
         "sft", {"prompt": "prompt", "completion": "completion"}),
    Case("responses.csv", table(times(lambda n: {"prompt": text(), "response": text()})),
         "sft", {"prompt": "prompt", "completion": "response"}),
    Case("dolly.jsonl", lines(times(lambda n: {"instruction": text(), "context": pick("", text(20)),
                                               "response": text(), "category": pick("qa", "open")})),
         "sft", {"instruction": "instruction", "input": "context", "output": "response"}, {"converter": "alpaca"}),
    Case("faq.csv", table(times(lambda n: {"Question": text(6), "Answer": text(20)})),
         "sft", {"instruction": "Question", "output": "Answer"}, {"converter": "alpaca"}, others=["text-to-text"]),
    Case("binarized.jsonl", lines(times(chats)), "dpo",
         {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}, others=["reward"]),
    Case("helpful.jsonl", lines(times(helpful)), "dpo", {"chosen": "chosen", "rejected": "rejected"},
         others=["reward"]),
    Case("no_prompt.jsonl", lines(times(lambda n: {"chosen": f"{n} {text()}", "rejected": f"No {n} {text()}"})),
         "dpo", {"chosen": "chosen", "rejected": "rejected"}, bad=60),
]  # fmt: skip
