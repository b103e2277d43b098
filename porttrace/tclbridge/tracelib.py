"""MacPorts' `tracelib` command as it is used without this package's trace_start: state of the whole process.

The names and their order are MacPorts': setname, opensocket and run come from a helper thread, setsandbox, setdeps,
enablefence, closesocket and clean from another. The socket is made because callers look for it; our processes do not
use it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Final

from porttrace.errors import PorttraceError
from porttrace.filemap import Action, Filemap, Rule
from porttrace.findings import FindingKind
from porttrace.records import field, record
from porttrace.tclbridge import tcllist
from porttrace.tclbridge.client import Client, TclError

if TYPE_CHECKING:
    from porttrace.tclbridge.tcllist import TclValue

__all__ = ["Tracelib", "as_asked", "parse_sandbox"]

_SIGNS: Final = {"+": Action.ALLOW, "-": Action.DENY, "?": Action.ASK}
_VIOLATIONS: Final = frozenset(
    {FindingKind.UNDECLARED, FindingKind.HIDDEN, FindingKind.WRITE_OUTSIDE, FindingKind.ABSENT}
)


def parse_sandbox(source: str) -> list[tuple[str, Action]]:
    r"""The entries of ``path=action:path=action``; ``\\``, ``\:`` and ``\=`` stand for the sign itself.

    Raises TclError with the character's number where the text is something else.
    """
    if not source:
        return []
    entries: list[tuple[str, Action]] = []
    path: list[str] = []
    at, end = 0, len(source)
    while at < end:
        char = source[at]
        if char == "\\":
            if source[at + 1 : at + 2] not in ("\\", ":", "="):
                raise TclError(f"Unknown escape sequence (at character {at}).", "PORTTRACE", "SANDBOX", str(at))
            path.append(source[at + 1])
            at += 2
        elif char == ":":
            raise TclError(
                f"Unexpected colon before action specification (at character {at}).", "PORTTRACE", "SANDBOX", str(at)
            )
        elif char == "=":
            action = _SIGNS.get(source[at + 1 : at + 2])
            if action is None or source[at + 2 : at + 3] not in ("", ":"):
                raise TclError(
                    f"Unknown control character. Possible values are +, -, and ? (at character {at + 1}).",
                    "PORTTRACE",
                    "SANDBOX",
                    str(at + 1),
                )
            entries.append(("".join(path), action))
            path = []
            at += 3
        else:
            path.append(char)
            at += 1
    if path:
        raise TclError(f"{''.join(path)}: the action is missing (at character {at}).", "PORTTRACE", "SANDBOX", str(at))
    return entries


def as_asked(asked: str, real: str) -> str:
    """The name that the user knows a file by: ``/bin/sh`` where ``/bin`` leads to ``/usr/bin`` and was asked for so.

    Only links of directories may lie between: a link that is itself what was asked for is not where the file is. An
    asked path that is relative counts where it climbs to the root.
    """
    name = os.path.normpath(asked) if asked else real
    while name.startswith("../"):
        name = name[3:]
    directory, tail = os.path.split("/" + name.lstrip("/"))
    real_directory, real_tail = os.path.split(real)
    same = tail == real_tail and os.path.realpath(directory) == os.path.realpath(real_directory)
    return os.path.join(directory, tail) if same else real  # noqa: PTH118 - text of Tcl's


@record
class Tracelib:
    """The one state of a process; `client` carries its trace."""

    client: Client
    name: str = ""
    listener: socket.socket | None = None
    running: bool = False
    closing: bool = False
    closed: bool = True
    told: set[tuple[str, str]] = field(default_factory=set)

    def setname(self, path: str) -> str:
        """Where the socket is to be."""
        self.name = path
        return ""

    def opensocket(self) -> str:
        """Make the socket, and begin."""
        if not self.name:
            raise TclError("tracelib opensocket called without first calling tracelib setname")
        self._drop_listener()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(os.fsdecode(self.client.encode(self.name)))
            listener.listen()
        except OSError as error:
            listener.close()
            raise TclError(f"bind: {(error.strerror or str(error)).lower()}", "POSIX") from None
        os.chmod(self.client.encode(self.name), 0o777)  # noqa: PTH101 - bytes
        self.listener = listener
        self.closing = self.closed = False
        self.told.clear()
        self.client.context["enforce"] = "0"
        self.client.start("/")
        return ""

    def setsandbox(self, source: str) -> TclValue:
        """Replace the filemap, for reading and writing alike; first match wins."""
        rules = [
            Rule(self.client.rule_path(path), action, None, "tracelib setsandbox")
            for path, action in parse_sandbox(source)
        ]
        self.client.base = Filemap(rules)
        self.client.dirty = True
        return self._environment()

    def setdeps(self, names: str) -> TclValue:
        """The ports that an ask allows. The list is complete as it is."""
        try:
            self.client.set_deps(tcllist.split(names))
        except ValueError as error:
            raise TclError(str(error), "TCL", "VALUE", "LIST") from None
        return self._environment()

    def enablefence(self) -> TclValue:
        """Put the filemap in force; before that everything is allowed."""
        if self.client.active:
            self.client.enable_fence()
        else:
            self.client.fence = True
        return self._environment()

    def _environment(self) -> TclValue:
        return self.client.environment() if self.client.active else ""

    def run(self) -> str:
        """`tracelib run` has begun to wait in some thread."""
        self.running = True
        return ""

    def poll(self) -> TclValue:
        """For `run`: {state, {kind path …}}. The findings come once everything has ended."""
        if not self.closing and self.listener is not None:
            return ["open", ""]
        self.running = False
        return ["closed", [word for pair in self._news() for word in pair]]

    def waiting(self) -> bool:
        """For `closesocket`: whether `run` has still to fetch its findings."""
        return self.running

    def closesocket(self) -> str:
        """Take no more processes in; what they did is complete from here on."""
        self.closing = True
        with contextlib.suppress(PorttraceError):
            self.client.stop()
        self._drop_listener()
        return ""

    def account(self) -> TclValue:
        """For `closesocket`: what the report is worth, a list of {level text}."""
        trace = self.client.trace or self.client.ended
        if trace is None:
            return []
        backend = self.client.core.backend
        ended = backend.leftovers(trace) if trace is self.client.ended else []
        return [list(pair) for pair in (*backend.account(trace), *ended)]

    def clean(self) -> str:
        """Forget everything but the interpreter's filemap edits."""
        self.client.stop()
        self._drop_listener()
        if self.name:
            with contextlib.suppress(OSError):
                os.unlink(self.client.encode(self.name))  # noqa: PTH108 - bytes
        self.name, self.closed = "", True
        self.client.base, self.client.fence, self.client.deps = None, False, []
        return ""

    def _drop_listener(self) -> None:
        if self.listener is not None:
            self.listener.close()
            self.listener = None

    def _news(self) -> list[tuple[str, str]]:
        fresh: list[tuple[str, str]] = []
        for finding in self.client.findings():
            if finding.kind in _VIOLATIONS:
                kind = "violation"
            elif finding.kind is FindingKind.UNOWNED:
                kind = "unknown"
            else:
                continue
            entry = (kind, self.client.decode(os.fsencode(as_asked(finding.asked, finding.path))))
            if entry not in self.told:
                self.told.add(entry)
                fresh.append(entry)
        return fresh
