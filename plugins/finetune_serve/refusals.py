"""What the server refuses, with a code for programs and a sentence for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetune.errors import BadData
from finetune.interfaces import Finding

CODES: dict[str, tuple[int, str]] = {
    "bad-length": (400, "the header `Content-Length` is not a number"),
    "bad-json": (400, "the body is not JSON in UTF-8, holds NaN or Infinity, or is nested too deeply"),
    "slow-body": (408, "the body did not arrive in time"),
    "body-too-large": (413, "the body has more bytes than `--max-body-mb` allows"),
    "text-too-long": (413, "the texts of a row have more characters than `--max-characters` allows"),
    "too-many-rows": (413, "a request has more rows than the server takes at once"),
    "not-an-object": (422, "the body, or a row, is not a JSON object"),
    "no-rows": (422, "the body has no rows"),
    "bad-request": (422, "the body is not what the API of the path describes; the message says where"),
    "bad-row": (422, "the task cannot use the row; the message says why"),
    "bad-parameter": (422, "a parameter of a chat is unknown, or has a value that it cannot have"),
    "prompt-too-long": (422, "the messages of a chat leave no room for an answer"),
    "too-many-requests": (429, "more requests wait than `--max-requests` allows; send it again later"),
    "prediction-failed": (500, "the model failed on the row; the log of the server says why"),
    "stopping": (503, "the server is stopping"),
}
"""Code → status of the answer, and what it means. A row that the task cannot read has a code of the page "Findings",
and the status 422."""


class Refused(Exception):
    """A request that is not answered.

    Args:
        code: One of `CODES`.
        message: What is wrong, as a sentence.
        fix: What to do, as a sentence.
    """

    def __init__(self, code: str, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.fix = code, message, fix
        self.status = CODES[code][0]

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {"retry-after": "1"} if self.status in (429, 503) else {}

    def content(self) -> dict[str, Any]:
        """Return the body of the answer."""
        return {"error": {"code": self.code, "message": self.message, "fix": self.fix}}


def error_of(error: BadData) -> dict[str, Any]:
    """Return what is wrong with a row: the first finding that makes it bad, and all findings."""
    bad = [finding for finding in error.findings if finding.level != "warning"]
    bad = [finding for finding in bad if finding.row is not None] or bad  # that no row is left is no news
    if not bad:
        return {"code": "bad-row", "message": str(error), "fix": ""}
    return {**_described(bad[0]), "findings": _all(bad)}


def _all(findings: Sequence[Finding]) -> list[Mapping[str, Any]]:
    return [_described(finding) for finding in findings]


def _described(finding: Finding) -> dict[str, Any]:
    """Return a finding without its place, which is the row itself."""
    found = {"code": finding.code, "message": finding.message, "fix": finding.fix}
    if finding.column is not None:
        found["column"] = finding.column
    if finding.value is not None:
        found["value"] = finding.value
    return found
