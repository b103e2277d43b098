"""Changing the file system so that it can be taken back: by us where something fails, by the next start where we died.

Each step is written to a journal before it is done. The journal's first line names the registry entry and the state
that it has once the change is final; whoever finds a journal that nobody works on looks there to know whether to finish
or to take back.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from porttrace.errors import PorttraceError

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class NotTakenBackError(PorttraceError):
    """A change failed, and a part of it could not be taken back; the journal is kept."""


class Undo:
    """A list of steps back, in a file. As a context: kept on success (:meth:`commit`), taken back otherwise."""

    def __init__(self, journal: Path, expect: dict[str, object]) -> None:
        """``journal`` must not exist; ``expect`` is what the finder of the journal is to look for."""
        self.journal = journal
        self._steps: list[list[object]] = []
        self._after: list[list[object]] = []
        self._signals: _Later | None = None
        try:
            self._file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise PorttraceError(f"the journal {journal} cannot be written: {error.strerror}") from error
        self._write(["expect", expect])

    def _write(self, line: list[object]) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def _step(self, *step: object) -> None:
        self._write(["back", *step])
        self._steps.append(list(step))

    def _later(self, *step: object) -> None:
        self._write(["after", *step])
        self._after.append(list(step))

    # Each of these is called before what it takes back is done.

    def creates(self, path: Path) -> None:
        """A file or link is about to appear at ``path``, where nothing is now."""
        self._step("remove", str(path))

    def makes_directory(self, path: Path) -> None:
        self._step("rmdir", str(path))

    def moves(self, source: Path, target: Path) -> None:
        self._step("rename", str(target), str(source))

    def removes_directory(self, path: Path) -> None:
        status = path.stat()
        self._step("mkdir", str(path), status.st_mode & 0o7777, status.st_uid, status.st_gid)

    def removes_at_the_end(self, path: Path) -> None:
        """``path`` (a file, or a directory with all in it) goes once the change is final, and only then."""
        self._later("rmtree", str(path))

    def temporary(self, path: Path) -> None:
        """``path`` goes in either case."""
        self._step("rmtree", str(path))
        self._later("rmtree", str(path))

    def commit(self) -> None:
        """The last step before the change is final: from here to the end of the context no signal comes between."""
        if self._signals is None:
            self._signals = _Later()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.commit()
        failed = []
        try:
            if kind is None:
                _run(self._after)
            else:
                failed = _run(reversed(self._steps), lambda number: self._write(["done", number]))
            os.close(self._file)
            if not failed:
                self.journal.unlink(missing_ok=True)
        finally:
            if self._signals is not None:
                self._signals.deliver()
        if failed:
            raise NotTakenBackError(
                f"{_sentence(error)}; and not all of it could be taken back: {'; '.join(failed)}. {self.journal} says"
                " what is left: the next port command that changes the prefix tries again"
            ) from error


def _sentence(error: BaseException | None) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return str(error) or type(error).__name__


class _Later:
    """Holds signals up. Python runs their handlers in the main thread only, so elsewhere nothing is to be done."""

    def __init__(self) -> None:
        self._pending: list[int] = []
        self._handlers: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not None:
                    self._handlers[number] = signal.signal(number, lambda number, _: self._pending.append(number))

    def deliver(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(self._pending):
            signal.raise_signal(number)


def _run(
    steps: Iterable[list[object]], done: Callable[[int], object] = lambda number: None, skip: Container[int] = ()
) -> list[str]:
    """Do the steps but those in ``skip``, whatever fails; ``done`` gets the number of each that succeeded.

    After a failure no tree is removed: it may hold the file that could not be put back. Returns what failed.
    """
    failed: list[str] = []
    for number, (name, *arguments) in enumerate(steps):
        if number in skip or (failed and name == "rmtree"):
            continue
        try:
            _STEPS[str(name)](*arguments)
        except FileNotFoundError:
            pass  # it was announced and not done any more
        except (OSError, TypeError, KeyError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            failed.append(f"{name} {' '.join(map(str, arguments[:2]))}: {reason}")
            continue
        done(number)
    return failed


def _remove(path: str) -> None:
    Path(path).unlink()


def _rmdir(path: str) -> None:
    with suppress(OSError):  # somebody else's file came into it
        Path(path).rmdir()


def _rename(source: str, target: str) -> None:
    if not os.path.lexists(source):
        raise FileNotFoundError(source)
    move(Path(source), Path(target))


def _mkdir(path: str, mode: int, uid: int, gid: int) -> None:
    directory = Path(path)
    with suppress(FileExistsError):
        directory.mkdir()
        directory.chmod(mode)
        if os.geteuid() == 0:
            os.chown(directory, uid, gid)


def _rmtree(path: str) -> None:
    target = Path(path)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink()


_STEPS: Final[dict[str, Callable[..., None]]] = {
    "remove": _remove,
    "rmdir": _rmdir,
    "rename": _rename,
    "mkdir": _mkdir,
    "rmtree": _rmtree,
}


def move(source: Path, target: Path) -> None:
    """Rename, also from one file system to another; ``target`` is replaced in one step."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != 18:  # EXDEV
            raise
        beside = target.with_name(f".{target.name}.porttrace-{os.getpid()}")
        status = source.lstat()
        try:
            shutil.copy2(source, beside, follow_symlinks=False)
            if os.geteuid() == 0:
                os.chown(beside, status.st_uid, status.st_gid, follow_symlinks=False)
                if not beside.is_symlink():
                    beside.chmod(status.st_mode & 0o7777)
            beside.rename(target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        source.unlink()


def recover(journal: Path, is_final: Callable[[dict[str, object]], bool]) -> bool:
    """Finish or take back what a dead process left in ``journal``; True where there was something.

    The caller holds the lock under which journals are written. ``is_final`` is asked with what the journal expects.
    Raises PorttraceError where the journal makes no sense.
    """
    try:
        lines = journal.read_bytes().split(b"\n")[:-1]  # a line without its end was never acted upon
    except FileNotFoundError:
        return False
    expect: dict[str, object] | None = None
    back: list[list[object]] = []
    after: list[list[object]] = []
    done: set[int] = set()
    try:
        for line in lines:
            kind, *rest = json.loads(line)
            if kind == "expect":
                expect = rest[0]
            elif kind == "done":
                done.add(int(rest[0]))
            else:
                (back if kind == "back" else after).append(rest)
    except (ValueError, TypeError, IndexError) as error:
        raise PorttraceError(f"the journal {journal} is damaged; look at it, repair by hand and remove it") from error
    if expect is not None:
        if is_final(expect):
            failed = _run(after)
        else:
            # Steps that were taken back already must not be repeated: what is there now is what was there at first.
            with journal.open("ab", buffering=0) as file:
                failed = _run(reversed(back), lambda number: file.write(b'["done", %d]\n' % number), done)
        if failed:
            raise PorttraceError(
                f"a change of the prefix that failed earlier is still not taken back ({journal}): {'; '.join(failed)};"
                " see to that and run port again"
            )
    journal.unlink()
    return True


@contextmanager
def exclusive(lock: Path, waiting: Callable[[], None], timeout: float | None = None) -> Iterator[None]:
    """Hold the lock file ``lock`` (it is MacPorts' own, so the two exclude each other).

    ``waiting`` is called once where another process has it; after ``timeout`` seconds (None: never) PorttraceError.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise PorttraceError(f"the lock {lock} cannot be made: {error.strerror}") from error
    try:
        until = None if timeout is None else time.monotonic() + timeout
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    waiting()
                    told = True
                if until is not None and time.monotonic() >= until:
                    raise PorttraceError(
                        f"another port process is changing this prefix ({lock} is locked); try again later"
                    ) from None
                time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)
