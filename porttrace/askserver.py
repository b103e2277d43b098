"""Live asks: a thread that answers on the session's socket (protocol: csrc/ask.h).

Clients are programs of a build: they may send anything, stop reading, or die half way. A client can lose its own
connection by that, and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from porttrace.filemap import Action
from porttrace.policy import Image

__all__ = ["Answer", "AskServer", "Asked", "ask"]

MapName = Literal["read", "write"]
UNOWNED = 1  # PT_V_UNOWNED
_PACKET = 20480  # PT_ASK_PACKET
_MOST_CLIENTS = 256
_COPY = 2  # PT_ASK_COPY
#: macOS has no packets for AF_UNIX: there a stream carries one question and one answer, each ended by its sender.
_KIND = socket.SOCK_STREAM if sys.platform == "darwin" else socket.SOCK_SEQPACKET
_MAPS: tuple[MapName, MapName] = ("read", "write")


class Answer(NamedTuple):
    """ALLOW or DENY, whether the file is in the ask area and no port's, and the owning port ("" where none)."""

    action: Action
    unowned: bool
    port: str

    def to_bytes(self) -> bytes:
        """As a packet."""
        name = self.port.encode("utf-8", "surrogateescape")[:500]
        return bytes((self.action, UNOWNED if self.unowned else 0)) + name

    @classmethod
    def from_bytes(cls, packet: bytes) -> Answer:
        """From a packet. Raises ValueError where it is none."""
        if len(packet) < 2:
            raise ValueError("an answer has at least two bytes")
        return cls(Action(packet[0]), bool(packet[1] & UNOWNED), packet[2:].decode("utf-8", "surrogateescape"))


class Asked:
    """What one policy answers: by its image, and where a rule asks, by `owner` (path -> port, None: no port's)."""

    def __init__(self, image: Image, owner: Callable[[bytes], str | None], strict: bool, audit: bool = False) -> None:
        self.image = image
        self._owner = owner
        self._refuse = Action.ALLOW if audit else Action.DENY
        self._strict = strict

    def answer(self, path: bytes, which: MapName) -> Answer:
        """The answer for a real, absolute path."""
        decision = self.image.decide(path, which)
        if decision.rule is None or decision.rule.action is not Action.ASK:
            allowed = decision.action is not Action.DENY
            return Answer(Action.ALLOW if allowed else self._refuse, decision.unowned, decision.port or "")
        port = self._owner(path)
        if os.path.isdir(path):  # noqa: PTH112 - bytes
            return Answer(Action.ALLOW, port is None, port or "")
        if port is None:
            return Answer(self._refuse if self._strict else Action.ALLOW, True, "")
        return Answer(Action.ALLOW if self.image.in_closure(port) else self._refuse, False, port)


class AskServer:
    """Listens on `path` from construction to `close()`; only processes of the users `uids` (and root) are answered."""

    def __init__(self, path: Path, uids: set[int], kind: int = _KIND) -> None:
        self.copier: Callable[[bytes], object] | None = None
        """Makes the copy of a protected program (macOS); raises PorttraceError where it cannot."""
        self._stream = kind == socket.SOCK_STREAM
        self._begun: dict[socket.socket, bytes] = {}
        self.policies: dict[int, Asked] = {}
        self.asked = 0
        self._closed = False
        self.uids = uids | {0}
        self._listener = socket.socket(socket.AF_UNIX, kind)
        self._listener.bind(os.fspath(path))
        self._listener.listen(_MOST_CLIENTS)
        self._listener.setblocking(False)
        self._wake_read, self._wake_write = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._clients: dict[socket.socket, None] = {}  # in the order of their last question
        self._thread = threading.Thread(target=self._serve, name="porttrace-ask", daemon=True)
        self._thread.start()

    def watch(self, listener: socket.socket, call: Callable[[], None]) -> None:
        """Have the server's thread make `call` whenever somebody connects to `listener`, until `forget`."""
        self._selector.register(listener, selectors.EVENT_READ, call)

    def forget(self, listener: socket.socket) -> None:
        """End a `watch`. Nothing to do where the server is closed, or knows nothing of it."""
        with contextlib.suppress(KeyError, ValueError, RuntimeError, OSError):
            self._selector.unregister(listener)

    def close(self) -> None:
        """Stop answering and drop all clients."""
        if not self._closed:
            self._closed = True  # the pipe's number may be somebody else's after this
            os.write(self._wake_write, b"x")
            self._thread.join(timeout=5)

    def _serve(self) -> None:
        try:
            while True:
                for key, _ in self._selector.select():
                    if key.fd == self._wake_read:
                        return
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.data is not None:
                        key.data()
                    elif isinstance(key.fileobj, socket.socket):
                        self._read(key.fileobj)
        finally:
            for client in list(self._clients):
                self._drop(client)
            self._selector.close()
            self._listener.close()
            os.close(self._wake_read)
            os.close(self._wake_write)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE) and self._clients:
                self._drop(next(iter(self._clients)))
            return
        try:
            client.setblocking(False)
            if hasattr(socket, "SO_PEERCRED"):
                _, uid, _ = struct.unpack("iII", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                if uid not in self.uids:
                    client.close()
                    return
            elif sys.platform == "darwin":  # LOCAL_PEERCRED of <sys/un.h>: struct xucred
                _, uid = struct.unpack_from("II", client.getsockopt(0, 1, 76))
                if uid not in self.uids:
                    client.close()
                    return
            if len(self._clients) >= _MOST_CLIENTS:
                self._drop(next(iter(self._clients)))
            self._clients[client] = None
            self._selector.register(client, selectors.EVENT_READ)
        except OSError:
            client.close()

    def _drop(self, client: socket.socket) -> None:
        self._clients.pop(client, None)
        self._begun.pop(client, None)
        with contextlib.suppress(KeyError, ValueError, OSError):
            self._selector.unregister(client)
        client.close()

    def _read(self, client: socket.socket) -> None:
        if client not in self._clients:
            return  # dropped since the selector named it
        try:
            packet = client.recv(_PACKET + 1)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if self._stream:
            begun = self._begun.get(client, b"") + packet
            if packet and len(begun) <= _PACKET:
                self._begun[client] = begun
                return
            packet = begun
        answer = self._reply(packet) if packet else None
        if answer is None:
            self._drop(client)
            return
        try:
            client.send(answer.to_bytes(), getattr(socket, "MSG_NOSIGNAL", 0))
        except OSError:  # gone, or it does not read its answers
            self._drop(client)
            return
        if self._stream:
            self._drop(client)
            return
        self._clients.pop(client, None)
        self._clients[client] = None

    def _reply(self, packet: bytes) -> Answer | None:
        number, nul, rest = packet.partition(b"\0")
        if not nul or not number.isdigit() or len(number) > 9 or len(packet) > _PACKET:
            return None
        policy = self.policies.get(int(number))
        path = rest[1:]
        if policy is None or rest[:1] not in (b"\0", b"\1", b"\2") or not path.startswith(b"/") or b"\0" in path:
            return None
        self.asked += 1
        try:
            if rest[0] == _COPY:
                if self.copier is None:
                    return None
                self.copier(path)
                return Answer(Action.ALLOW, False, "")
            return policy.answer(path, _MAPS[rest[0]])
        except Exception:
            # Without an answer the client decides by its image; the thread must live on for the others.
            return None


def ask(
    path: Path, policy: int, question: bytes, which: MapName = "read", timeout: float = 2.0, kind: int = _KIND
) -> Answer:
    """Ask the server at `path` as a process under policy number `policy` would.

    Raises OSError (TimeoutError after `timeout` seconds), or ValueError where the answer is none.
    """
    with socket.socket(socket.AF_UNIX, kind) as client:
        client.settimeout(timeout)
        client.connect(os.fspath(path))
        client.send(b"%d\0" % policy + bytes((_MAPS.index(which),)) + question)
        if kind == socket.SOCK_STREAM:
            client.shutdown(socket.SHUT_WR)
        return Answer.from_bytes(client.recv(512))
