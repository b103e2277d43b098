"""A headless Chromium, spoken to over its debugging pipe: what a test of a page needs, with real keys."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"))), None
)


class Browser:
    """One page of one browser; a context manager."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        self._low: list[int] = []
        # The pipe has to be descriptors 3 and 4 of the browser: ours must not be these when they are moved there.
        there, self._out, self._in, back = (
            fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (*self._pipe(), *self._pipe())
        )
        words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        words += [f"--user-data-dir={profile}", "--disable-background-networking", "--remote-debugging-pipe"]
        # A plain sh knows descriptors of one digit only.
        shell = ["bash", "-c", f'exec "$@" 3<&{there} 4>&{back} {there}<&- {back}>&-', "bash", *words]
        self._process = subprocess.Popen(
            shell, pass_fds=(there, back), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        for end in (there, back, *self._low):
            os.close(end)
        self._data, self._number, self._session = b"", 0, ""
        self.complaints: list[str] = []
        """Messages of the console, errors of scripts, and requests for anything but the page itself."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page", "Network"):
            self.call(f"{domain}.enable")

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        self._low += ends
        return ends

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(10)
        os.close(self._in)
        os.close(self._out)

    def _message(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._data:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            chunk = os.read(self._in, 1 << 20)
            if not chunk:
                raise EOFError("the browser has ended")
            self._data += chunk
        text, _, self._data = self._data.partition(b"\0")
        return dict(json.loads(text))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol; RuntimeError where it is refused."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session and not method.startswith("Target."):
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        deadline = time.monotonic() + 30
        while True:
            answer = self._message(deadline)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        what, values = event.get("method", ""), event.get("params", {})
        if what in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.complaints.append(json.dumps(values)[:5000])
        if what == "Network.requestWillBeSent" and not values["request"]["url"].startswith(
            ("file:", "data:", "about:")
        ):
            self.complaints.append(f"request: {values['request']['url']}")

    def open(self, page: Path, *, width: int = 1200, height: int = 1600, dark: bool = False) -> None:
        """Show a page at this size, and wait until its script has run."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        self.call("Page.navigate", url=page.as_uri())
        deadline = time.monotonic() + 20
        while not self.js(f"document.readyState === 'complete' && location.href === {json.dumps(page.as_uri())}"):
            assert time.monotonic() < deadline, "the page does not load"
            time.sleep(0.05)

    def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def eventually(self, expression: str) -> Any:
        """The value of an expression as soon as it is true; the last one after 5 seconds."""
        deadline = time.monotonic() + 5
        while not (value := self.js(expression)) and time.monotonic() < deadline:
            time.sleep(0.02)
        return value

    def key(self, name: str, text: str = "") -> None:
        """Press a key as a user does."""
        codes = {"Tab": 9, "Enter": 13, " ": 32}
        known = {"key": name, "windowsVirtualKeyCode": codes.get(name, ord(name[0].upper()))}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **known)
        self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    def screenshot(self, file: Path) -> None:
        """A PNG of what is seen."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
