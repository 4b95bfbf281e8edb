"""The page to try a model: it loads nothing from elsewhere, fits a phone, and shows answers of every kind."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Page, browser
from served import serving
from starlette.testclient import TestClient


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_loads_nothing_from_elsewhere(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ") and "http" not in policy and "connect-src 'self'" in policy
    assert not re.findall(r"https?:|//[a-z]|<link|src=|@import|url\(", answer.text.replace("http-equiv", ""))


def test_columns_that_no_row_may_have_are_not_asked_for(client: TestClient) -> None:
    """The run read single texts, so a row with a second one is refused."""
    assert [column["name"] for column in client.get("/info").json()["columns"]] == ["text"]
    answer = client.post("/predict", json={"text": "a ship", "text_pair": "a tree"})
    assert answer.status_code == 422 and answer.json()["error"]["code"] == "input-differs"


QUESTION = {
    "question": "Where is the ship?",
    "context": "Zoë ⚓ 🚢 keeps the quay. The ship is at Coal Quay <b>today</b>.",
}
FORMS = {
    "notices": ({"text": "the ship a harbour <b>"}, "sea|land"),
    "words": ({"tokens": "Inês sails <b> on Sunday"}, "Inês|nothing"),
    "questions": (QUESTION, "Best answers|BEST ANSWERS"),
}


async def fill(page: Page, row: dict[str, Any]) -> None:
    for name, value in row.items():
        await page.run(f"document.querySelector('textarea[name={name}]').value = {json.dumps(value)}; 1")
    await page.run("document.querySelector('form').requestSubmit(); 1")
    await page.wait("document.querySelector('section.answer details') !== null")


async def chat(page: Page) -> None:
    for number in (1, 2):
        await page.run("document.querySelector('textarea').value = 'Name a ship.'; 1")
        await page.run("document.querySelector('form').requestSubmit(); 1")
        await page.wait(
            f"document.querySelectorAll('.turn:not(.user)').length === {number} && "
            "!document.querySelector('button').disabled"
        )


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.parametrize("kind", [*FORMS, "chats"])
def test_a_page_works_on_phones_and_desktops_light_and_dark(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run = request.getfixturevalue(kind)

    async def look(address: str) -> None:
        async with browser(tmp_path / "profile") as page:
            for width, dark in ((390, False), (390, True), (1440, False), (1440, True)):
                await page.open(address, width=width, dark=dark)
                await page.wait("document.querySelector('textarea') !== null")
                if kind == "chats":
                    await chat(page)
                    assert await page.run("document.querySelector('.turn:not(.user)').textContent.trim() !== ''")
                else:
                    row, shown = FORMS[kind]
                    await fill(page, row)
                    text = await page.run("document.querySelector('section.answer').innerText")
                    assert re.search(shown, text), text
                    marked = "[...document.querySelectorAll('mark')].map(each => each.textContent)"
                    if kind == "questions":
                        big = await page.run("document.querySelector('.big').textContent")
                        assert await page.run(marked) == ([] if big == "no answer in the text" else [big])
                    assert await page.run("document.querySelector('section.answer b') === null"), "a text became HTML"
                assert await page.run("document.documentElement.scrollWidth <= innerWidth")
                colour = await page.run("getComputedStyle(document.body).backgroundColor")
                assert (sum(map(int, re.findall(r"\d+", colour))) < 200) == dark
            assert page.addresses() == {address} and not page.problems()

    with serving(run) as served:
        asyncio.run(look(f"http://127.0.0.1:{served.port}"))
