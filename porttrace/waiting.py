"""Waits that no signal comes too late for.

A signal's handler runs between two instructions of Python. One that arrives after the interpreter has looked and before
the system call that waits has begun would be seen when that returns, be it in an hour. Here its arrival ends the wait.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator

__all__ = ["end_of", "read_lines"]

_PIECE = 65536  # bytes


@contextlib.contextmanager
def _alert() -> Iterator[Callable[[int], None]]:
    """Gives a function that returns when its descriptor can be read; the handlers of what comes meanwhile run in it.

    What a handler raises leaves that function. Outside of the main thread, which alone runs handlers, it only waits.
    """
    watched = select.poll()
    woken, wake = os.pipe()
    try:
        os.set_blocking(woken, False)
        os.set_blocking(wake, False)
        main = threading.current_thread() is threading.main_thread()
        former = signal.set_wakeup_fd(wake, warn_on_full_buffer=False) if main else -1
        watched.register(woken, select.POLLIN)

        def ready(descriptor: int) -> None:
            watched.register(descriptor, select.POLLIN)
            try:
                while descriptor not in dict(watched.poll()):
                    os.read(woken, _PIECE)
            finally:
                watched.unregister(descriptor)

        try:
            yield ready
        finally:
            if main:
                signal.set_wakeup_fd(former)
    finally:
        os.close(woken)
        os.close(wake)


def read_lines(descriptor: int, line: Callable[[bytes], object]) -> None:
    """Call `line` with each line that comes from a pipe, without its end, until nobody holds that open for writing."""
    begun: list[bytes] = []
    with _alert() as ready:
        while True:
            ready(descriptor)
            piece = os.read(descriptor, _PIECE)
            if not piece:
                break
            first, *others = piece.split(b"\n")
            begun.append(first)
            if others:
                line(b"".join(begun))
                begun = [others.pop()]
                for whole in others:
                    line(whole)
    if any(begun):
        line(b"".join(begun))


def end_of(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process: its exit status; negative: the signal that ended it."""
    if process.poll() is None:
        over, end = os.pipe()

        def wait() -> None:
            process.wait()
            os.close(end)

        try:
            # A daemon: where a handler's exception ends the wait, nobody stays for the process.
            threading.Thread(target=wait, daemon=True).start()
            with _alert() as ready:
                ready(over)
        finally:
            os.close(over)
    return process.wait()
