"""One port of a sweep, from the side that waits for it: a thread of port, or a Dask worker.

The work is done by a process of its own (:mod:`porttrace.sweep.child`), so that nothing that happens to it reaches
the other ports. Its standard input is its lifeline: where that closes, because we were killed or want it, it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from porttrace import _version

__all__ = ["Job", "probe", "run", "stop_all"]

_GRACE = 20.0  # seconds between cutting the lifeline and killing the process
_TAIL = 20_000  # characters of a log that are kept with the results
_running: dict[str, set[subprocess.Popen[str]]] = {}
_stopped: set[str] = set()


@dataclass(frozen=True)
class Job:
    """What a worker has to know. `needed` and `others`: (name, key) of ports, in the order of installation."""

    name: str
    key: str
    kind: str
    directory: str
    """Where the sweep works: archives, prefixes and logs. All workers see it under this path."""
    token: str
    """The name of this sweep, as it stands in the file `token` of that directory."""
    settings: str
    """macports.conf, without the prefix."""
    sources: str
    """sources.conf."""
    distfiles: str
    needed: tuple[tuple[str, str], ...] = ()
    others: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0
    """After which the port is given up; 0: never."""


def probe(directory: str, token: str) -> str:
    """What hinders this worker from working for a sweep; empty: nothing does."""
    try:
        found = (Path(directory) / "token").read_text()
    except OSError as error:
        return (
            f"cannot read {error.filename}: {error.strerror}; the directory of the sweep must be shared (--directory)"
        )
    return "" if found == token else f"sees another {directory} than this machine (--directory names a shared one)"


def version() -> str:
    """The porttrace of this worker."""
    return _version.version()


def _tail(log: Path) -> str:
    try:
        return log.read_bytes()[-_TAIL:].decode("utf-8", "replace")
    except OSError:
        return ""


def _reason(log: str) -> str:
    errors = [line.removeprefix("Error: ") for line in log.splitlines() if line.startswith("Error: ")]
    real = [line for line in errors if not line.startswith(("See ", "A shell where"))]
    return real[0] if real else (log.strip().splitlines() or ["it said nothing"])[-1]


def run(job: Job) -> dict[str, Any]:
    """Do it. Returns `status`, `error`, `findings`, `verdict`, `seconds`, `prefix_seconds`, `worker` and `log`."""
    worker = socket.gethostname()
    hindered = probe(job.directory, job.token)
    if hindered:
        return {"status": "crashed", "error": f"the worker {worker} {hindered}", "worker": worker}
    log = Path(job.directory) / "logs" / f"{job.name}.log"
    start = time.monotonic()
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "porttrace.sweep.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # Ctrl-C reaches us, and we tell it
        )
    live = _running.setdefault(job.token, set())
    live.add(process)
    late = threading.Event()

    def give_up() -> None:
        late.set()
        _cut(process)

    timer = threading.Timer(job.seconds, give_up)
    timer.daemon = True
    if job.seconds:
        timer.start()
    try:
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError, ValueError):  # it has ended, or was told to: its status says more
            process.stdin.write(json.dumps(asdict(job)) + "\n")
            process.stdin.flush()
        if job.token in _stopped:
            _cut(process)
        said = process.stdout.read()
        status = process.wait()
        if status != 0:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)  # port, which it left behind
    finally:
        timer.cancel()
        live.discard(process)
        _cut(process)
    text = _tail(log)
    known = {"worker": worker, "seconds": round(time.monotonic() - start, 3), "log": text}
    if late.is_set():
        return known | {"status": "failed", "error": f"given up after {job.seconds:g} s"}
    try:
        outcome: Mapping[str, Any] = json.loads(said)
    except ValueError:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return known | {"status": "crashed", "error": f"its process {how}: {_reason(text)}"}
    error = _reason(text) if outcome["status"] == "failed" and not outcome.get("error") else outcome.get("error", "")
    return known | dict(outcome) | {"error": error}


def _cut(process: subprocess.Popen[str]) -> None:
    """Cut the lifeline; kill what does not end by it."""
    if process.stdin is not None and not process.stdin.closed:
        with contextlib.suppress(OSError, ValueError):
            process.stdin.close()
    if process.poll() is None:
        killer = threading.Timer(_GRACE, process.kill)
        killer.daemon = True
        killer.start()


def stop_all(token: str) -> None:
    """End the jobs of one sweep in this process."""
    _stopped.add(token)
    for process in list(_running.get(token, ())):
        _cut(process)
