"""Children of port: started with the build user's ids, their output read line by line, never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from porttrace.identity import Identity, privileged

__all__ = ["id_prefix", "run"]

_GRACE = 3.0  # seconds between asking a process to end and making it


def id_prefix(identity: Identity | None) -> list[str]:
    """The words before a command line that make it run as `identity` for good; empty where nothing has to change."""
    if identity is None or identity.is_current:
        return []
    launcher = str(files("porttrace") / "porttrace-launch")
    groups = ",".join(str(group) for group in identity.groups)
    return [launcher, "--uid", str(identity.uid), "--gid", str(identity.gid), "--groups", groups, "--"]


def run(
    argv: Sequence[str],
    *,
    directory: str,
    env: Mapping[str, str],
    line: Callable[[str], None],
    nice: int | None = None,
) -> int:
    """Run a command to its end; `line` gets each line of its output (both streams).

    Returns its exit status; negative: the signal that ended it.

    The command has a process group of its own: where we are interrupted, all of the group is ended before the
    exception goes on. Its standard input is empty. OSError where it cannot be started.
    """
    words = [*(["nice", "-n", str(nice)] if nice else []), *argv]
    process = subprocess.Popen(
        words,
        cwd=directory,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        with process.stdout as output:
            for raw in output:
                line(raw.decode("utf-8", "replace").rstrip("\n"))
        return process.wait()
    except BaseException:
        end_group(process)
        raise


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
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = entry.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] not in ("Z", "X"):
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
