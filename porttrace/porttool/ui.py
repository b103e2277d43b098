"""What port says: on the terminal by level, and everything into the log of the port that is worked on."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

__all__ = ["LEVELS", "Ui"]

#: From silent to talkative. A message is shown where its level is at most the user's.
LEVELS = {"error": 0, "warn": 0, "msg": 1, "notice": 1, "info": 2, "debug": 3}
_PREFIX = {"error": "Error: ", "warn": "Warning: ", "debug": "DEBUG: "}


class _Log:
    """The log of a port. Where it cannot be written any more it ends there, and the build does not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)  # nothing is left over that would fail once more at the end

    def write(self, text: str) -> OSError | None:
        """Add lines. What went wrong, the first time only."""
        data = memoryview(text.encode("utf-8", "replace"))
        try:
            while data and not self._file.closed:
                data = data[self._file.write(data) :]
        except OSError as error:
            self.close()
            return error
        return None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


class Ui:
    """Messages of one run. ``level`` is 0 with -q, 1 by default, 2 with -v, 3 with -d.

    ``output_taken``: standard output is wanted for something else, all messages go to the standard error.
    """

    def __init__(self, level: int = 1) -> None:
        self.level = level
        self.phase = "main"
        self.output_taken = False
        self._logs: list[_Log] = []
        self._progress = ""
        self.terminal = sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")

    def say(self, level: str, text: str) -> None:
        """Show a message of `level` (a key of :data:`LEVELS`) and log it."""
        for log in self._logs[-1:]:
            failed = log.write("".join(f":{level}:{self.phase} {line}\n" for line in text.split("\n")))
            if failed is not None:
                self._show("warn", f"the log {log.path} ends before the build does: {failed.strerror}")
        self._show(level, text)

    def _show(self, level: str, text: str) -> None:
        if LEVELS[level] > self.level:
            return
        self.progress("")
        stream = sys.stderr if self.output_taken or level in ("error", "warn", "debug") else sys.stdout
        # Who reads our output may have gone, or the disk be full: that must not stop a build half-way.
        with contextlib.suppress(OSError):
            stream.write(f"{_PREFIX.get(level, '')}{text}\n".encode("utf-8", "replace").decode("utf-8"))
            stream.flush()

    def progress(self, text: str) -> None:
        """A line on the terminal that the next message replaces; nothing where there is no terminal."""
        if not self.terminal or self.level != 1 or text == self._progress:
            return
        with contextlib.suppress(OSError):
            sys.stderr.write("\r\x1b[K" + text)
            sys.stderr.flush()
        self._progress = text

    def push_log(self, path: Path) -> None:
        """Log to `path` from now on. Raises OSError where it cannot be written."""
        self._logs.append(_Log(path))

    def pop_log(self) -> None:
        """Go back to the former log."""
        if self._logs:
            self._logs.pop().close()
