"""The session directory: ours or refused, gone with its session, stale ones swept."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from porttrace import runtime_dir
from porttrace.errors import PorttraceError
from porttrace.runtime_dir import RuntimeDir, remove_tree

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to act for two users")


@pytest.fixture
def base() -> Iterator[Path]:
    """A place for session directories that other users can reach."""
    with tempfile.TemporaryDirectory(prefix="porttrace-test-", dir="/tmp") as name:
        Path(name).chmod(0o1777)
        yield Path(name) / "macports"


def test_whatever_is_in_it_goes_and_no_link_is_followed(base: Path) -> None:
    outside = base.parent / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    top = base / "1"
    (top / "a/b").mkdir(parents=True)
    (top / "a/b/file").write_text("")
    (top / "a/empty").mkdir()
    (top / "a/locked").mkdir(mode=0)
    (top / "gone").symlink_to("nowhere")
    (top / "file").symlink_to(outside / "kept")
    remove_tree(base / "none")
    remove_tree(top / "a/b")
    assert not (top / "a/b").exists()
    (top / "directory").symlink_to(outside)
    remove_tree(top)
    assert not top.exists()
    assert (outside / "kept").exists()


def as_user(uid: int, action: Callable[[], None]) -> int:
    """Exit status of a forked child that runs `action` as `uid`: 0, or 9 where it raised PorttraceError."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            action()
            status = 0
        except PorttraceError as error:
            print(error, file=sys.stderr)
            status = 9
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def dead_pid() -> int:
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def test_layout_and_end(base: Path) -> None:
    directory = RuntimeDir([base])
    assert directory.path == base / str(os.getpid())
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o755
    assert stat.S_IMODE(base.stat().st_mode) == 0o1777
    assert directory.notices == []
    (directory.path / "1").mkdir()
    (directory.path / "1" / "policy").write_bytes(b"x")
    directory.close()
    assert not directory.path.exists()
    directory.close()


def test_default_place_is_tmp_macports() -> None:
    directory = RuntimeDir()
    try:
        assert directory.path == Path(f"/tmp/macports/{os.getpid()}")
    finally:
        directory.close()
    assert not directory.path.exists()


def test_base_that_is_a_symlink_is_refused(base: Path, tmp_path: Path) -> None:
    base.symlink_to(tmp_path)
    with pytest.raises(PorttraceError, match="symbolic link"):
        RuntimeDir([base])
    assert list(tmp_path.iterdir()) == []


@as_root
def test_base_of_another_user_is_refused(base: Path) -> None:
    base.mkdir()
    os.chown(base, NOBODY, NOBODY)
    with pytest.raises(PorttraceError, match=r"belongs to nobody"):
        RuntimeDir([base])
    assert list(base.iterdir()) == []


def test_base_that_others_may_rearrange_is_refused(base: Path) -> None:
    base.mkdir()
    base.chmod(0o777)
    with pytest.raises(PorttraceError, match="not sticky"):
        RuntimeDir([base])


def test_own_name_as_symlink_is_refused_and_not_followed(base: Path, tmp_path: Path) -> None:
    base.mkdir(mode=0o755)
    (base / str(os.getpid())).symlink_to(tmp_path)
    with pytest.raises(PorttraceError, match="symbolic link"):
        RuntimeDir([base])
    assert list(tmp_path.iterdir()) == []
    assert [entry.name for entry in base.iterdir()] == [str(os.getpid())]


@as_root
@pytest.mark.parametrize("filled", [False, True])
def test_own_name_made_by_another_user_is_refused(base: Path, filled: bool) -> None:
    base.mkdir()
    base.chmod(0o1777)
    foreign = base / str(os.getpid())
    foreign.mkdir()
    if filled:
        (foreign / "lock").touch()
        (foreign / "tracelib.so").write_bytes(b"evil")
    os.chown(foreign, NOBODY, NOBODY)
    with pytest.raises(PorttraceError, match="was made by nobody"):
        RuntimeDir([base])
    assert foreign.exists()


def test_what_a_dead_session_left_is_swept_and_told(base: Path) -> None:
    base.mkdir(mode=0o755)
    stale = base / str(dead_pid())
    (stale / "3").mkdir(parents=True)
    (stale / "lock").touch()
    told: list[Path] = []
    directory = RuntimeDir([base], on_stale=told.append)
    assert told == [stale]
    assert [entry.name for entry in base.iterdir()] == [str(os.getpid())]
    directory.close()


def test_a_recycled_pid_does_not_keep_a_stale_directory(base: Path) -> None:
    base.mkdir(mode=0o755)
    stale = base / "1"  # a process that surely lives
    stale.mkdir()
    (stale / "lock").touch()
    RuntimeDir([base]).close()
    assert not stale.exists()


def test_a_living_session_is_not_swept(base: Path) -> None:
    base.mkdir(mode=0o755)
    living = base / str(dead_pid())  # its holder may be another process than the one in its name
    living.mkdir()
    lock = os.open(living / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    RuntimeDir([base]).close()
    assert living.exists()
    os.close(lock)


def test_what_is_no_session_is_left_alone(base: Path) -> None:
    base.mkdir(mode=0o755)
    (base / "notes").mkdir()
    strange = base / "77777777"
    strange.mkdir()
    (strange / "precious").touch()
    RuntimeDir([base]).close()
    assert (strange / "precious").exists()
    assert (base / "notes").exists()


def test_a_forked_child_does_not_remove_it(base: Path) -> None:
    directory = RuntimeDir([base])
    pid = os.fork()
    if pid == 0:
        directory.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert directory.path.exists()
    directory.close()


@as_root
def test_an_ordinary_user_works_alone_and_beside_root(base: Path) -> None:
    def session() -> None:
        directory = RuntimeDir([base])
        assert directory.path.stat().st_uid == NOBODY
        directory.close()

    assert as_user(NOBODY, session) == 0
    assert not base.exists(), "a base that belongs to one user would shut out all others"
    root = RuntimeDir([base])
    assert as_user(NOBODY, session) == 0
    assert root.path.exists()
    root.close()


@as_root
def test_an_ordinary_user_cannot_sweep_or_take_roots(base: Path) -> None:
    base.mkdir()
    base.chmod(0o1777)
    stale = base / str(dead_pid())
    stale.mkdir()
    (stale / "lock").touch()
    assert as_user(NOBODY, lambda: RuntimeDir([base]).close()) == 0
    assert stale.exists()
    assert as_user(NOBODY, lambda: RuntimeDir([base], pid=int(stale.name)).close()) == 9


def test_no_library_can_be_loaded_from_noexec(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = base.parent / "elsewhere"
    monkeypatch.setattr("porttrace.runtime_dir._carries_programs", lambda directory: directory != base)
    directory = RuntimeDir([base, other])
    assert directory.path.parent == other
    assert any("noexec" in notice for notice in directory.notices)
    directory.close()
    monkeypatch.setattr("porttrace.runtime_dir._carries_programs", lambda directory: False)
    with pytest.raises(PorttraceError, match="noexec"):
        RuntimeDir([base, other])


def test_a_directory_whose_process_id_came_back_is_not_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweeper that is slow over a dead session must not remove the live one that has its name by then."""
    base = tmp_path / "macports"
    base.mkdir()
    base.chmod(0o1777)
    dead = base / "4242"
    dead.mkdir()
    (dead / "lock").touch()
    seen: list[Path] = []

    def slow(directory: Path) -> None:
        # While the sweeper is at it, the same process id starts a session; it has to wait for the sweeper.
        seen.append(directory)
        monkeypatch.setattr(runtime_dir, "_PATIENCE", 0.05)
        with pytest.raises(PorttraceError, match="is not this session's"):
            RuntimeDir([base], pid=4242)

    other = RuntimeDir([base], on_stale=slow, pid=4243)
    assert seen == [dead]
    assert not dead.exists()
    live = RuntimeDir([base], pid=4242)
    try:
        RuntimeDir([base], pid=4244).close()
        assert (base / "4242" / "lock").exists()
    finally:
        live.close()
        other.close()
