"""What the system tells of processes (csrc/procstat.h)."""

from __future__ import annotations

import os
from typing import Any

from porttrace._core import ffi, lib
from porttrace.records import record

__all__ = ["Running", "all_pids", "executable", "parse", "running"]


@record(frozen=True)
class Running:
    """A process at the moment of the look. `started`: clock ticks after boot, on macOS microseconds since 1970."""

    pid: int
    ppid: int
    group: int
    session: int
    state: str
    threads: int
    started: int
    name: str = ""
    """Of its program, cut short by the kernel."""
    ending: bool = False
    """Whether it has given its memory back already, and will be gone in a moment."""

    @property
    def lives(self) -> bool:
        # The first thread may have ended while others work on: it looks like a zombie then.
        return self.state not in "ZX" or (self.state == "Z" and self.threads > 1)

    @classmethod
    def of(cls, process: Any) -> Running:
        """From a ``struct pt_process`` of csrc/procstat.h."""
        return cls(
            process.pid,
            process.ppid,
            process.group,
            process.session,
            process.state.decode("latin-1"),
            process.threads,
            process.started,
            os.fsdecode(ffi.string(process.name)),
            not process.memory and process.state != b"Z",
        )


def parse(text: bytes) -> Running | None:
    """From the text of such a file; None where it is none."""
    process = ffi.new("struct pt_process *")
    return Running.of(process) if lib.pt_process_parse(text, process) else None


def running(pid: int) -> Running | None:
    """The process with this id; None where there is none."""
    process = ffi.new("struct pt_process *")
    return Running.of(process) if lib.pt_process_look(pid, process) else None


def all_pids() -> list[int]:
    """The ids of all processes that the system tells of."""
    room = 4096
    while True:
        found = ffi.new("int32_t[]", room)
        count = lib.pt_process_all(found, room)
        if count < room:
            return list(found[0:count])
        room *= 2


def executable(pid: int) -> str:
    """The path of a process' program; empty where the system does not tell."""
    path = ffi.new("char[]", 4096)
    length = lib.pt_process_exe(pid, path, 4096)
    return os.fsdecode(ffi.buffer(path, length)[:]).removesuffix(" (deleted)") if length > 0 else ""
