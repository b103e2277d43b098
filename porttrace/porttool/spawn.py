"""Children of port: started with the build user's ids, their output read line by line, never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import FrameType

from porttrace.errors import PorttraceError
from porttrace.identity import Identity, privileged
from porttrace.procstat import running
from porttrace.waiting import end_of, read_lines

__all__ = ["id_prefix", "run"]

_GRACE = 3.0  # seconds between asking a process to end and making it


def id_prefix(identity: Identity | None, shelf: Path) -> list[str]:
    """The words before a command line that make it run as `identity` for good; empty where nothing has to change.

    `shelf` is a directory that everybody can reach and root alone can change: the launcher is copied to it where this
    installation lies below a directory that is closed to the build user. PorttraceError where it cannot be.
    """
    if identity is None or identity.is_current:
        return []
    groups = ",".join(str(group) for group in identity.groups)
    return [_launcher(shelf), "--uid", str(identity.uid), "--gid", str(identity.gid), "--groups", groups, "--"]


@cache
def _launcher(shelf: Path) -> str:
    with privileged():
        installed = Path(str(files("porttrace") / "porttrace-launch")).resolve()
        if all(directory.stat().st_mode & 0o001 for directory in installed.parents):
            return str(installed)
        copy = shelf / "libexec" / installed.name
        try:
            content = installed.read_bytes()
            if not copy.is_file() or copy.read_bytes() != content:
                copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                with tempfile.NamedTemporaryFile(dir=copy.parent, delete=False) as file:
                    file.write(content)
                    os.fchmod(file.fileno(), 0o755)
                Path(file.name).replace(copy)
        except OSError as error:
            raise PorttraceError(
                f"{installed} lies where the build user cannot reach it, and {copy} cannot be made: {error.strerror}"
            ) from None
        return str(copy)


def run(
    argv: Sequence[str],
    *,
    launcher: Sequence[str] = (),
    directory: str,
    env: Mapping[str, str],
    line: Callable[[str], None],
    nice: int | None = None,
) -> int:
    """Run a command to its end behind the words of `launcher`; `line` gets each line of its output (both streams).

    Returns its exit status; negative: the signal that ended it.

    The command has a process group of its own: where we are interrupted, all of the group is ended before the
    exception goes on. Its standard input is empty. OSError where it cannot be started.
    """
    words = [*(["nice", "-n", str(nice)] if nice else []), *launcher, *argv]
    # The launcher gives root's ids up itself. Started with different real and effective ids it would be in
    # secure-execution mode, where the loader takes TMPDIR and others out of the environment.
    process: subprocess.Popen[bytes] | None = None
    try:
        with _held_back() as interrupt, privileged() if launcher else contextlib.nullcontext():
            process = subprocess.Popen(
                words,
                cwd=directory,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        interrupt()
        assert process.stdout is not None
        with process.stdout as output:
            read_lines(output.fileno(), lambda raw: line(raw.decode("utf-8", "replace")))
        return end_of(process)
    except BaseException:
        if process is not None:
            end_group(process)
        raise


@contextlib.contextmanager
def _held_back() -> Iterator[Callable[[], None]]:
    """Keep what a signal's handler raises out of this block: a process that is started in it would be nobody's.

    What is given is to be called after it: then the handlers of those that came have their turn.
    """
    came: list[int] = []
    held: dict[int, Callable[[int, FrameType | None], object]] = {}

    def interrupt() -> None:
        for number in came:
            held[number](number, None)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            handler = signal.getsignal(number)
            if callable(handler):
                held[number] = handler
                signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield interrupt
    finally:
        for caught, handler in held.items():
            signal.signal(caught, handler)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it started: TERM, and KILL for what is still there after a while."""
    with privileged():
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            deadline = time.monotonic() + _GRACE
            while time.monotonic() < deadline:
                process.poll()
                if not _group_lives(process.pid):
                    return
                time.sleep(0.02)


def _group_lives(group: int) -> bool:
    for entry in Path("/proc").glob("[0-9]*"):
        process = running(int(entry.name))
        if process is not None and process.group == group and process.lives:
            return True
    if Path("/proc/self/stat").exists():
        return False
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
