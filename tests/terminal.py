"""A command on a terminal of its own, for tests of what people see and type."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import time

import pytest
from conftest import PATIENCE


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, argv: list[str], **env: str) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execve(argv[0], argv, {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TERM": "xterm", **env})
        self.text, self._seen = "", 0

    def read(self, until: str, seconds: float = PATIENCE / 4) -> None:
        """Wait until `until` comes after what was waited for before."""
        end = time.monotonic() + seconds
        while until not in self.text[self._seen :]:
            if not select.select([self._fd], [], [], max(0.0, end - time.monotonic()))[0]:
                pytest.fail(f"{until!r} did not come:\n{self.text}")
            try:
                data = os.read(self._fd, 65536)
            except OSError:
                data = b""
            if not data:
                pytest.fail(f"it ended before {until!r} came:\n{self.text}")
            self.text += data.decode(errors="replace")
        self._seen = self.text.index(until, self._seen) + len(until)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def hang_up(self) -> None:
        os.close(self._fd)

    def wait(self) -> int:
        """Read what is left; the wait status."""
        with contextlib.suppress(OSError):
            while data := os.read(self._fd, 65536):
                self.text += data.decode(errors="replace")
        return os.waitpid(self.pid, 0)[1]
