"""The directory of a running session, `/tmp/macports/{pid}`.

Traced processes load the injected library and read their policy from here, so nobody else may be able to put
anything in its place: what is not ours is refused and never followed. A directory lives as long as its session; what
a killed session leaves is recognised by its free lock and removed by the next start.

No build may write there, or see another session than its own. A session that a build starts lies in a directory which
its own session has for that.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from porttrace.errors import PorttraceError

__all__ = ["NESTED", "RuntimeDir", "base_candidates", "remove_tree"]

NESTED = "nested"
"""Of each trace: where the sessions lie that its build starts."""
_PREPARED = re.compile(r"\.new-([0-9]+)-")
_LOCK = "lock"
_PATIENCE = 5.0  # seconds


def base_candidates() -> list[Path]:
    """Where session directories may lie, best first; the later ones serve where an earlier cannot carry programs."""
    # by their real names (macOS: /private/tmp), by which rules speak of them
    bases = [Path(temporary).resolve() / "macports" for temporary in ("/tmp", "/var/tmp")]
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        bases.append(Path(runtime) / "macports")
    return bases


def _user(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _carries_programs(directory: Path) -> bool:
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    return not os.statvfs(directory).f_flag & getattr(os, "ST_NOEXEC", 0)


def _in_session(base: Path) -> Path:
    """`base`, or where the session that this process is in lets others lie; it alone is to be seen there."""
    if base.is_dir() and not os.access(base, os.W_OK):
        for nested in base.glob(f"[0-9]*/[0-9]*/{NESTED}"):
            if (found := _in_session(nested)) != nested or os.access(nested, os.W_OK):
                return found
    return base


def _make_base(base: Path) -> None:
    """Make or accept `base`; raises PorttraceError where another user could swap what lies in it."""
    try:
        base.mkdir(mode=0o755)
    except FileExistsError:
        pass
    except OSError as error:
        raise PorttraceError(f"cannot make {base}: {error.strerror}") from None
    else:
        base.chmod(0o1777)
    info = base.lstat()
    if stat.S_ISLNK(info.st_mode):
        raise PorttraceError(f"{base} is a symbolic link, which is not followed: remove it")
    if not stat.S_ISDIR(info.st_mode):
        raise PorttraceError(f"{base} is not a directory: remove it")
    if info.st_uid not in (0, os.geteuid()):
        raise PorttraceError(f"{base} belongs to {_user(info.st_uid)}, who could replace what lies there: remove it")
    if info.st_mode & 0o022 and not info.st_mode & stat.S_ISVTX:
        raise PorttraceError(
            f"{base} can be written by others and is not sticky, so that they could replace what lies there: "
            f"chmod +t {base}, or remove it"
        )


class RuntimeDir:
    """A session's own directory; exists from construction to `close()`, while its lock is held.

    `notices` says where it had to lie elsewhere than in /tmp/macports. `on_stale` is called with each directory that
    a dead session left, before it is removed. `pid`: the process after which it is named (default: this one).

    Raises PorttraceError where the place is taken by something that is not ours.
    """

    def __init__(
        self, bases: list[Path] | None = None, on_stale: Callable[[Path], None] | None = None, pid: int | None = None
    ) -> None:
        self.notices: list[str] = []
        self._maker = os.getpid()
        self.pid = self._maker if pid is None else pid
        self._lock = -1
        candidates = bases if bases is not None else base_candidates()
        for base in candidates:
            if _carries_programs(base):
                break
            self.notices.append(f"{base} is on a file system mounted noexec, from which no library can be loaded")
        else:
            raise PorttraceError(
                "no place for the session directory: "
                + ", ".join(map(str, candidates))
                + " are all mounted noexec; set XDG_RUNTIME_DIR to a directory from which programs can be run"
            )
        self.bases = candidates
        self.base = _in_session(base)
        self._nested = self.base != base
        if self.notices:
            self.notices.append(f"the session directory lies in {base}")
        self.path = self.base / str(self.pid)
        for attempt in range(10):
            _make_base(self.base)
            try:
                self._sweep(on_stale)
                self._create()
                return
            except FileNotFoundError:
                # The last session of this user has just removed the base.
                if attempt == 9:
                    raise PorttraceError(f"{self.base} vanishes while a session directory is made in it") from None

    def _create(self) -> None:
        try:
            info = self.path.lstat()
        except FileNotFoundError:
            pass
        else:
            what = "is a symbolic link" if stat.S_ISLNK(info.st_mode) else f"was made by {_user(info.st_uid)}"
            raise PorttraceError(f"{self.path} {what} and is not this session's: it is not used; remove it")
        # Locked before it gets its name, so that no other start can take it for a dead session's.
        prepared = self.base / f".new-{self._maker}-{os.urandom(8).hex()}"
        prepared.mkdir(mode=0o700)
        try:
            prepared.chmod(0o755)
            self._lock = os.open(prepared / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            prepared.rename(self.path)
        except OSError as error:
            remove_tree(prepared)
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1
            if isinstance(error, FileNotFoundError):
                raise
            raise PorttraceError(f"cannot make {self.path}: {error.strerror}") from None

    def _sweep(self, on_stale: Callable[[Path], None] | None) -> None:
        """Remove what dead sessions left; only ours, or as root everybody's."""
        for entry in list(self.base.iterdir()):
            prepared = _PREPARED.match(entry.name)
            if not prepared and not entry.name.isdecimal():
                continue
            try:
                info = entry.lstat()
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(info.st_mode) or (os.geteuid() not in (0, info.st_uid)):
                continue
            foreign = info.st_uid not in (0, os.geteuid())
            if foreign and entry == self.path:
                continue  # refused by _create
            if prepared:
                if not _alive(int(prepared[1])):
                    remove_tree(entry)
                continue
            # The lock is held until the directory is gone: where the process id comes back meanwhile, the new
            # session's directory has the same name and must not be the one that is removed.
            with _stale(entry, patience=_PATIENCE if entry == self.path else 0) as stale:
                if stale:
                    # What runs in another user's directory is that user's affair, and nothing in it is to be trusted.
                    if on_stale is not None and not foreign:
                        on_stale(entry)
                    remove_tree(entry)

    def close(self) -> None:
        """Remove the directory and all that is in it. Can be called again; a forked child's call does nothing."""
        if self._lock < 0:
            return
        if os.getpid() == self._maker:
            remove_tree(self.path)
            if not self._nested and self.base.exists() and self.base.lstat().st_uid == os.geteuid() != 0:
                # Another user's start refuses a base that is ours; root's may stay, it serves all.
                with contextlib.suppress(OSError):
                    self.base.rmdir()
        os.close(self._lock)
        self._lock = -1


def remove_tree(top: Path) -> None:
    """Remove a directory with what is in it, as far as that can be done, and follow no link."""
    try:
        for _, directories, files, here in os.fwalk(top, topdown=False):
            for name in files:
                os.unlink(name, dir_fd=here)
            for name in directories:
                os.rmdir(name, dir_fd=here)
        top.rmdir()
    except (OSError, RecursionError):
        # Somebody else put something there. Not loaded before: that takes longer than to remove a session's directory.
        import shutil

        shutil.rmtree(top, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _stale(directory: Path, patience: float = 0) -> Iterator[bool]:
    """True for a dead session's directory, whose lock is ours for the while, and for an empty one.

    `patience`: seconds to wait for somebody who is removing it.
    """
    try:
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        yield directory.is_dir() and not any(directory.iterdir())
        return
    except OSError:
        yield False
        return
    try:
        until = time.monotonic() + patience
        while not (locked := _try_lock(lock)) and time.monotonic() < until:
            time.sleep(0.01)
        # Whoever held it may have removed the directory, and another session may stand under its name.
        yield locked and _same(lock, directory / _LOCK)
    finally:
        os.close(lock)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False
