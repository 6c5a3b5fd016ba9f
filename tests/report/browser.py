"""Headless Chromium, driven through a pipe in the DevTools protocol (https://chromedevtools.github.io/devtools-protocol)."""

import base64
import json
import os
import select
import shutil
import subprocess
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless", "--remote-debugging-pipe", "--hide-scrollbars", "--no-first-run", "--disable-gpu"),
    *("--disable-background-networking", "--disable-dev-shm-usage", "--disable-component-update"),
    "--host-resolver-rules=MAP * ~NOTFOUND",  # should a page ask for something, nothing leaves the machine
)
PATIENCE = 120.0  # seconds: a browser that says nothing for so long hangs


def find_chromium() -> str | None:
    """The executable of Chromium, if it is installed."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """A running Chromium. `profile` is an empty folder for its files."""

    def __init__(self, executable: str, profile: Path) -> None:
        read, self._write = os.pipe()
        self._read, write = os.pipe()
        sandbox = ["--no-sandbox"] if os.getuid() == 0 else []  # Chromium refuses to sandbox root
        # It reads from descriptor 3 and writes to 4.
        shell = ["bash", "-c", f'exec "$0" "$@" 3<&{read} 4>&{write}']
        self._process = subprocess.Popen(
            [*shell, executable, *FLAGS, *sandbox, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(read, write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write)
        self._number, self._rest = 0, b""
        self.events: list[dict[str, Any]] = []

    def close(self) -> None:
        """Ends the browser."""
        self.call("Browser.close")
        self._process.wait(PATIENCE)
        os.close(self._read)
        os.close(self._write)

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """The result of a method. Events that come before it are added to `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def wait_for(self, event: str, session: str) -> None:
        """Waits until an event has come."""
        while not any(each.get("method") == event and each.get("sessionId") == session for each in self.events):
            self.events.append(self._message())

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], PATIENCE)
            assert ready, "the browser hangs"
            data = os.read(self._read, 1 << 20)
            assert data, "the browser has ended"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message


class Page:
    """A file that the browser shows, `width` CSS pixels wide. scheme: `light` or `dark`. media: `screen` or `print`."""

    def __init__(self, browser: Browser, file: Path, width: int, scheme: str = "light", media: str = "screen") -> None:
        self._browser, self.width, self.media = browser, width, media
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600
        )
        self.call(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        self.call("Page.navigate", url=file.as_uri())
        browser.wait_for("Page.loadEventFired", self._session)
        self._target = target

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def value(self, script: str) -> Any:
        """The value of a JavaScript expression on the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"]["value"]

    def seen(self, event: str) -> list[dict[str, Any]]:
        """The parameters of all events of this kind."""
        return [
            each["params"]
            for each in self._browser.events
            if each.get("method") == event and each.get("sessionId") == self._session
        ]

    def screenshot(self) -> bytes:
        """The whole page as a PNG file."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)
