"""Headless Chromium over its DevTools pipe, by the standard library: what a page shows, logs and asks the network for.

By hand: ``python -m tests.browser PAGE.html FOLDER`` takes the pictures that people are to look at.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Browser", "Page", "find_browser"]

_PATIENCE_S = 60.0
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)  # fmt: skip


def find_browser() -> str | None:
    """Chromium or Chrome on the path."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


class Browser:
    """A process of Chromium with a profile of its own. Messages are JSON, each ended by a zero byte."""

    def __init__(self, executable: str) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # The browser reads at descriptor 3 and writes at 4; a shell puts the pipes there, wherever they were.
        script = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", script, executable, *_FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._unread, self._turn = b"", 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._write)  # the end of its commands is what a browser on a pipe quits at
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        self._profile.cleanup()

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Sends a command and gives its answer; events that come before it are kept."""
        self._turn += 1
        turn = self._turn
        said = {"id": turn, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self._write, json.dumps(said).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == turn:
                assert "error" not in message, f"{method}: {message['error']}"
                answer: dict[str, Any] = message["result"]
                return answer
            self.events.append(message)

    def wait_for(self, event: str, session: str) -> None:
        """Until the event has come."""
        while not any(e.get("method") == event and e.get("sessionId") == session for e in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + _PATIENCE_S
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            chunk = os.read(self._read, 1 << 16) if ready else b""
            if not chunk:
                raise RuntimeError("the browser said nothing more" if ready else "the browser does not answer")
            self._unread += chunk
        raw, self._unread = self._unread.split(b"\0", 1)
        message: dict[str, Any] = json.loads(raw)
        return message


class Page:
    """A file opened on a screen of some size, by day or by night."""

    def __init__(self, browser: Browser, path: Path, width: int, height: int, *, dark: bool = False) -> None:
        self._browser = browser
        target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._ask(f"{domain}.enable")
        is_phone = width < 600
        self._ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=is_phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])
        self._first = len(browser.events)
        self.url = path.resolve().as_uri()
        self._ask("Page.navigate", url=self.url)
        browser.wait_for("Page.loadEventFired", self._session)

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.ask(method, self._session, **parameters)

    def _said(self, method: str) -> list[dict[str, Any]]:
        news = self._browser.events[self._first :]
        return [e["params"] for e in news if e.get("method") == method and e.get("sessionId") == self._session]

    def evaluate(self, script: str) -> Any:
        """What a script gives; the page itself runs none."""
        answer = self._ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def print_media(self) -> None:
        """From now on as it would be printed, on a machine that prefers the dark."""
        scheme = {"name": "prefers-color-scheme", "value": "dark"}
        self._ask("Emulation.setEmulatedMedia", media="print", features=[scheme])

    @property
    def complaints(self) -> list[str]:
        """What the page put on the console: errors, warnings, what its policy blocked."""
        logged = [f"{e['entry']['level']}: {e['entry']['text']}" for e in self._said("Log.entryAdded")]
        return logged + [f"console {e['type']}" for e in self._said("Runtime.consoleAPICalled")]

    @property
    def requests(self) -> list[str]:
        """What it asked for besides itself."""
        urls = [event["request"]["url"] for event in self._said("Network.requestWillBeSent")]
        return [url for url in urls if url != self.url]

    def picture(self, path: Path, *, whole: bool = True) -> Path:
        """A PNG of the page, down to its end or as high as the screen."""
        answer = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))
        return path


def _take_pictures(page: Path, folder: Path) -> None:
    executable = find_browser()
    assert executable, "there is no chromium here"
    folder.mkdir(parents=True, exist_ok=True)
    with Browser(executable) as browser:
        for width, height in ((360, 800), (1280, 900)):
            for dark in (False, True):
                shown = Page(browser, page, width, height, dark=dark)
                name = f"{page.stem}-{width}-{'dark' if dark else 'light'}.png"
                print(shown.picture(folder / name), shown.complaints, shown.requests)


if __name__ == "__main__":
    _take_pictures(Path(sys.argv[1]), Path(sys.argv[2]))
