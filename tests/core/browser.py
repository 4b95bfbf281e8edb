"""Chromium without a window, by the protocol of its developer tools."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """A page of the browser.

    Args:
        socket: The connection to the page.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self.events: list[dict[str, Any]] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = json.loads((await self._socket.receive(timeout=30)).data)
            if message.get("id") == self._number:
                assert "error" not in message, message
                found: dict[str, Any] = message["result"]
                return found
            self.events.append(message)

    async def run(self, script: str) -> Any:
        """Run JavaScript, and return its value."""
        done = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    async def wait(self, script: str, seconds: float = 30) -> None:
        """Wait until a script is true."""
        for _ in range(int(seconds / 0.1)):
            if await self.run(script):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{script} did not become true")

    async def open(self, url: str, *, width: int, dark: bool) -> None:
        """Open an address in a window of some width."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call("Page.navigate", url=url)
        await self.wait("document.readyState === 'complete'")

    async def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def addresses(self) -> set[str]:
        """Return the hosts that were asked for something."""
        asked = [
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        ]
        return {"/".join(url.split("/")[:3]) for url in asked}

    def problems(self) -> list[dict[str, Any]]:
        """Return what the page wrote to the console, and errors that nothing caught."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event for event in self.events if event["method"] in kinds]


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Page]:
    """Start Chromium, and return an empty page of it.

    Args:
        folder: Its profile.
    """
    assert CHROMIUM is not None
    options = (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--remote-debugging-port=0",
    )
    process = subprocess.Popen(
        [CHROMIUM, *options, f"--user-data-dir={folder}", "about:blank"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        address = ""
        for line in process.stderr:
            if found := re.search(r"ws://([^/]+)/", line):
                address = found[1]
                break
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://{address}/json") as answer:
                pages = [page for page in await answer.json() if page["type"] == "page"]
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=1 << 28) as socket:
                page = Page(socket)
                for domain in ("Page", "Runtime", "Network", "Log"):
                    await page.call(f"{domain}.enable")
                yield page
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
