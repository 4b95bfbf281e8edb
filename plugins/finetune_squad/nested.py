"""Reads the official nested SQuAD files, versions 1.1 and 2.0, as flat rows with lines and paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from finetune.interfaces import Finding, Reader, ReadRow
from finetune_squad.answers import MalformedAnswers, nested
from finetune_squad.scanner import JsonError, Located, Scanner

_STRING = r'"(?:[^"\\]|\\.)*"'
_BEFORE_DATA = re.compile(rf'\ufeff?\s*\{{\s*(?:{_STRING}\s*:\s*(?:{_STRING}|[-+.\w]+)\s*,\s*)*"data"\s*:\s*\[')


class SquadReader(Reader):
    """Reads ``{"data": [{"title": …, "paragraphs": [{"context": …, "qas": [{"id": …, "question": …, …}]}]}]}``.

    A row is a question: ``id`` (text, even if the file has numbers), ``title`` (``""`` if absent),
    ``context``, ``question``, ``is_impossible``, and, if the file has answers, ``answers`` as
    ``{"text": […], "answer_start": […]}``. Other keys, such as ``plausible_answers``, are left out.
    Its line is that of the question's opening brace. One article is held in memory at a time.

    ``{"data": [{"question": …, "context": …, "answers": …}]}``, where ``data`` holds the rows themselves, is read too,
    with all keys of the rows.

    A finding has the path of its question: ``data[3].paragraphs[0].qas[5]``. The official files are one line each, so
    that only the path gives the place.
    """

    suffixes = (".json",)

    def recognises(self, head: str) -> bool:
        """Say whether a file begins like these: an object whose ``data`` is a list of articles or of questions."""
        if _BEFORE_DATA.match(head) is None:
            return False
        return '"paragraphs"' in head or '"qas"' in head or ('"question"' in head and '"context"' in head)

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[ReadRow | Finding]:
        """Yield every question with its line and path, and a finding for each error in the structure."""
        scanner = Scanner(text)
        try:
            yield from _file(scanner, file)
        except JsonError as error:
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


def _file(scanner: Scanner, file: str) -> Iterator[ReadRow | Finding]:
    found = False
    for key in scanner.members(path=""):
        if key != "data":
            scanner.value(path=key)
            continue
        if found:
            raise scanner.error_here("the key 'data' is here a second time", path="data", fix="Join the two lists.")
        found = True
        if scanner.peek() != "[":
            raise scanner.error("'data' is not a list of articles", path="data", fix="Put the articles in [ and ].")
        for number in scanner.elements(path="data"):
            path = f"data[{number}]"
            yield from _article(scanner.value(path=path), path, file)
    if not found:
        raise scanner.error_here("there is no key 'data'", path="", fix="A SQuAD file holds its articles under 'data'.")
    scanner.end()


def _article(article: Any, path: str, file: str) -> Iterator[ReadRow | Finding]:
    if isinstance(article, Located) and "paragraphs" not in article and article.keys() & {"question", "context"}:
        yield article.line, _plain(article), path
        return
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
            message = "the paragraph has no text 'context', so that its questions cannot be used."
            yield _finding("paragraph-without-context", message, here, file, paragraph.line, context)
        elif not isinstance(questions, list):
            message = "the paragraph has no list 'qas'."
            yield _finding("paragraph-without-questions", message, here, file, paragraph.line, questions)
        else:
            common = {"title": str(title), "context": context}
            for place, question in enumerate(questions):
                yield _question(question, common, f"{here}.qas[{place}]", file, paragraph.line)


def _plain(value: Any) -> Any:
    """Return a value with plain mappings instead of `Located` ones."""
    if isinstance(value, Located):
        return {key: _plain(below) for key, below in value.items()}
    return [_plain(below) for below in value] if isinstance(value, list) else value


def _question(question: Any, common: dict[str, str], path: str, file: str, line: int) -> ReadRow | Finding:
    """Return the row of a question, or what is wrong with it.

    Args:
        question: The question.
        common: Columns that it shares with the other questions of its paragraph.
        path: Its path in the file; its id, if it has none.
        file: The file.
        line: The line of the paragraph, in case the question has none.
    """
    if not isinstance(question, Located):
        return _finding("question-not-object", "the question is not an object.", path, file, line, question)
    line, text, name = question.line, question.get("question"), question.get("id", path)
    shown = f"{path} (id {str(name)!r})" if "id" in question else path
    if not isinstance(text, str):
        return _finding("question-without-text", "there is no text 'question'.", shown, file, line, text, "question")
    if isinstance(name, bool) or not isinstance(name, str | int):
        return _finding("id-not-text", "the id is neither text nor a whole number.", path, file, line, name, "id")
    row: dict[str, Any] = {"id": str(name), **common, "question": text}
    impossible = question.get("is_impossible", False)
    if not isinstance(impossible, bool):
        message = "is_impossible is neither true nor false."
        return _finding("is-impossible-not-boolean", message, shown, file, line, impossible, "is_impossible")
    if "answers" not in question and not impossible:  # a test file, without answers
        return line, {**row, "is_impossible": False}, path
    try:
        answers = nested(question.get("answers", []))
    except MalformedAnswers as error:
        return _finding(error.code, str(error), shown, file, line, error.value, f"answers{error.place}")
    row["answers"] = {"text": [text for text, _ in answers], "answer_start": [start for _, start in answers]}
    # Version 1.1 has no is_impossible; an empty list of answers means the same.
    row["is_impossible"] = impossible if "is_impossible" in question else not answers
    return line, row, path


def _finding(
    code: str, message: str, path: str, file: str, line: int | None, value: Any, column: str | None = None
) -> Finding:
    return Finding(
        code=code,
        message=message,
        fix="Compare it with the official SQuAD files; correct it, or drop it (dataset.on_bad: drop).",
        file=file,
        line=line,
        column=column,
        path=path,
        value=repr(value),
    )
