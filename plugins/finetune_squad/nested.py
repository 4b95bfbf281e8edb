"""The official nested SQuAD files, versions 1.1 and 2.0 → flat rows, article by article, with lines and paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from finetune.interfaces import Finding, Reader, Row
from finetune_squad.scanner import Broken, Located, Scanner

_STRING = r'"(?:[^"\\]|\\.)*"'
_BEFORE_DATA = re.compile(rf'\ufeff?\s*\{{\s*(?:{_STRING}\s*:\s*(?:{_STRING}|[-+.\w]+)\s*,\s*)*"data"\s*:\s*\[')


class SquadReader(Reader):
    """Reads ``{"data": [{"title": …, "paragraphs": [{"context": …, "qas": [{"id": …, "question": …, …}]}]}]}``.

    A row is a question: ``id`` (text, even where the file has numbers), ``title`` (``""`` where absent), ``context``,
    ``question``, ``is_impossible``, and ``answers`` as ``{"text": […], "answer_start": […]}`` where the file has
    answers. Other keys, ``plausible_answers`` among them, are left out. Its line is that of the question's opening
    brace. One article is held in memory at a time.

    What is wrong with the structure is a finding with its path: ``data[3].paragraphs[0].qas[5]``. The official files
    are one line each, so that only the path tells the place.
    """

    suffixes = (".json",)

    def recognises(self, head: str) -> bool:
        """Say whether a file begins as these do: an object whose ``data`` is a list of articles."""
        return _BEFORE_DATA.match(head) is not None and ('"paragraphs"' in head or '"qas"' in head)

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        """Yield every question with its line, and a finding for whatever is not as it should be."""
        scanner = Scanner(text)
        try:
            yield from _file(scanner, file)
        except Broken as error:
            yield Finding(
                code="json-broken",
                message=f"{error.message}.",
                fix=error.fix,
                level="error",
                file=file,
                line=error.line,
                column=error.path or None,
                value=error.value,
            )


def _file(scanner: Scanner, file: str) -> Iterator[tuple[int, Row] | Finding]:
    found = False
    for key in scanner.members(path=""):
        if key != "data":
            scanner.value(path=key)
            continue
        if found:
            raise scanner.wrong("the key 'data' stands here a second time", path="data", fix="Join the two lists.")
        found = True
        if scanner.peek() != "[":
            raise scanner.broken("'data' is not a list of articles", path="data", fix="Put the articles in [ and ].")
        for number in scanner.elements(path="data"):
            path = f"data[{number}]"
            yield from _article(scanner.value(path=path), path, file)
    if not found:
        raise scanner.wrong("there is no key 'data'", path="", fix="A SQuAD file holds its articles under 'data'.")
    scanner.end()


def _article(article: Any, path: str, file: str) -> Iterator[tuple[int, Row] | Finding]:
    paragraphs = article.get("paragraphs") if isinstance(article, Located) else None
    if not isinstance(paragraphs, list):
        line = article.line if isinstance(article, Located) else None
        yield _finding("article-without-paragraphs", "the article has no list 'paragraphs'.", path, file, line, article)
        return
    title = article.get("title", "")
    for number, paragraph in enumerate(paragraphs):
        here = f"{path}.paragraphs[{number}]"
        if not isinstance(paragraph, Located):
            yield _finding(
                "paragraph-not-object", "the paragraph is not an object.", here, file, article.line, paragraph
            )
            continue
        context, questions = paragraph.get("context"), paragraph.get("qas")
        if not isinstance(context, str):
            message = "the paragraph has no text 'context'; its questions are lost."
            yield _finding("paragraph-without-context", message, here, file, paragraph.line, context)
        elif not isinstance(questions, list):
            message = "the paragraph has no list 'qas'."
            yield _finding("paragraph-without-questions", message, here, file, paragraph.line, questions)
        else:
            common = {"title": title if isinstance(title, str) else str(title), "context": context}
            for place, question in enumerate(questions):
                yield _question(question, common, f"{here}.qas[{place}]", file, paragraph.line)


def _question(question: Any, common: dict[str, str], path: str, file: str, line: int) -> tuple[int, Row] | Finding:
    if not isinstance(question, Located):
        return _finding("question-not-object", "the question is not an object.", path, file, line, question)
    line, asked, name = question.line, question.get("question"), question.get("id", path)
    if not isinstance(asked, str):
        return _finding("question-without-text", "there is no text 'question'.", path, file, line, asked)
    if isinstance(name, bool) or not isinstance(name, str | int):
        return _finding("id-not-text", "the id is neither text nor a whole number.", f"{path}.id", file, line, name)
    row: dict[str, Any] = {"id": str(name), **common, "question": asked}
    impossible = question.get("is_impossible", False)
    if not isinstance(impossible, bool):
        message = "is_impossible is neither true nor false."
        return _finding("is-impossible-not-boolean", message, f"{path}.is_impossible", file, line, impossible)
    if "answers" not in question and not impossible:  # a test file: nothing is known
        return line, {**row, "is_impossible": False}
    answers = question.get("answers", [])
    wrong = _wrong_answer(answers)
    if wrong is not None:
        place, message, value = wrong
        return _finding("answers-malformed", message, f"{path}.answers{place}", file, line, value)
    row["answers"] = {
        "text": [answer["text"] for answer in answers],
        "answer_start": [answer["answer_start"] for answer in answers],
    }
    # Version 1.1 has no is_impossible; there, no answers at all means the same.
    row["is_impossible"] = impossible if "is_impossible" in question else not answers
    return line, row


def _wrong_answer(answers: Any) -> tuple[str, str, Any] | None:
    if not isinstance(answers, list):
        return "", "'answers' is not a list.", answers
    for number, answer in enumerate(answers):
        if not isinstance(answer, Located) or not isinstance(answer.get("text"), str):
            return f"[{number}]", "the answer has no text 'text'.", answer
        start = answer.get("answer_start")
        if not isinstance(start, int) or isinstance(start, bool) or abs(start) >= 2**53:
            return f"[{number}].answer_start", "'answer_start' is not a whole number of sensible size.", start
    return None


def _finding(code: str, message: str, path: str, file: str, line: int | None, value: Any) -> Finding:
    return Finding(
        code=code,
        message=message,
        fix="See the form of the official SQuAD files; correct it, or drop it (dataset.on_bad: drop).",
        file=file,
        line=line,
        column=path,
        value=repr(value),
    )
