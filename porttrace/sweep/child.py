"""The process that tests one port: makes a prefix, fills it from archives, and runs port in it.

Reads one line, a :class:`porttrace.sweep.job.Job` as JSON, from standard input; writes one, how it went. Where
standard input closes it ends, and port with it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from porttrace.errors import PorttraceError
from porttrace.registry import Registry
from porttrace.sweep.place import Place, take
from porttrace.sweep.plan import TEST

__all__ = ["main"]

_GRACE = 10.0  # seconds for port to put things in order


class Stopped(BaseException):
    """The lifeline was cut."""


class Worker:
    """One job in one place."""

    def __init__(self, job: dict[str, Any], place: Place) -> None:
        self.job, self.place = job, place
        self.process: subprocess.Popen[str] | None = None
        self.stopping = False

    def port(self, *words: str, output: IO[str] | int | None = None) -> tuple[int, str]:
        """Run port in the prefix of this job; its status and, with PIPE, its standard output."""
        if self.stopping:
            raise Stopped
        argv = [sys.executable, "-P", "-m", "porttrace.porttool.main", f"--prefix={self.place.prefix}", *words]
        print(f"$ port {' '.join(words)}", file=sys.stderr, flush=True)
        # The lock goes with it: the place is not free while any of it lives.
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if output is None else output,
            text=True,
            pass_fds=(self.place.lock,),
        )
        out = self.process.communicate()[0]
        if self.stopping:
            raise Stopped
        return self.process.returncode, out or ""

    def stop(self) -> None:
        """End port and the ports that it runs, from another thread: they are our process group."""
        self.stopping = True
        os.killpg(0, signal.SIGTERM)
        process = self.process
        if process is not None:
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                os.killpg(0, signal.SIGKILL)  # us too; the next sweep removes what we leave

    def make_prefix(self) -> None:
        """Configuration, and links to what all jobs share."""
        prefix = self.place.prefix
        etc, var = prefix / "etc" / "macports", prefix / "var" / "macports"
        for directory in (etc, var):
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        own = f"prefix {prefix}\nportdbpath {var}\n"
        (etc / "macports.conf").write_text(own + self.job["settings"], encoding="utf-8")
        (etc / "sources.conf").write_text(self.job["sources"], encoding="utf-8")
        Registry.make(var / "registry" / "registry.db")
        (var / "packages").symlink_to(self.place.archives)
        (var / "distfiles").symlink_to(self.job["distfiles"])

    def _mark(self, name: str) -> Path:
        return self.place.archives / f".{name}.key"

    def has_archive(self, name: str, key: str) -> bool:
        """Whether there is an archive of the port as it is now."""
        mark = self._mark(name)
        return mark.is_file() and mark.read_text() == key

    def archive(self, name: str, key: str) -> bool:
        """Pack a port, building it where nothing of it is there; whether that went well."""
        self._mark(name).unlink(missing_ok=True)
        if self.port("-t", "archive", name)[0]:
            return False
        # Whole or not at all, as it is read by others at any time.
        part = self._mark(name).with_suffix(f".{os.getpid()}")
        part.write_text(key)
        part.replace(self._mark(name))
        return True

    def fill(self) -> None:
        """Install what the port needs, then everything else that is to be there, all from archives."""
        ready = []
        for name, key in [*self.job["needed"], *self.job["others"]]:
            # Another path, other archives: for this one the port may not have been built yet.
            if self.has_archive(name, key) or self.archive(name, key):
                ready.append(name)
            elif [name, key] in self.job["needed"]:
                raise PorttraceError(f"its dependency {name} could not be built for {self.place.prefix}")
        if ready:
            # What is in the way of another is left out: a port's own dependencies come first.
            self.port("-q", "-p", "-n", "-b", "install", *ready)

    def work(self) -> dict[str, Any]:
        """The outcome."""
        name, start = self.job["name"], time.monotonic()
        self.make_prefix()
        self.fill()
        known = {"prefix_seconds": round(time.monotonic() - start, 3)}
        verdict: dict[str, Any] = {}
        if self.job["kind"] == TEST:
            status, said = self.port("deptest", "--json", name, output=subprocess.PIPE)
            if status not in (0, 3):
                return known | {"status": "failed"} | ({"error": _ended(status)} if status < 0 else {})
            verdict = json.loads(said)
        if not self.archive(name, self.job["key"]):
            return known | {"status": "failed"}
        findings = verdict.pop("findings", [])
        status_word = "built" if self.job["kind"] != TEST else "change" if findings else "right"
        return known | {"status": status_word, "findings": findings, "verdict": verdict}


def _ended(status: int) -> str:
    return f"port was killed by signal {-status}"


def main() -> int:
    """The exit status: 0 where an outcome was written, whatever it is."""
    os.umask(0o022)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which port would inherit
    job = json.loads(sys.stdin.readline())
    try:
        with take(Path(job["directory"])) as place:
            worker = Worker(job, place)

            def watch() -> None:
                while os.read(0, 1):  # not sys.stdin: its lock would be held when this process ends
                    pass
                worker.stop()

            threading.Thread(target=watch, daemon=True).start()
            try:
                outcome = worker.work()
            except PorttraceError as error:
                outcome = {"status": "failed", "error": str(error)}
    except Stopped:
        return 1
    except OSError as error:
        outcome = {"status": "crashed", "error": f"{error.filename or 'the sweep'}: {error.strerror}"}
    json.dump(outcome, sys.stdout)
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
