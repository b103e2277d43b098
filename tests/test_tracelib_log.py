"""The full log says what happened: an exec that came back, the name that mkstemp made, a call in every line."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

import pytest
from tracelib_session import Event, Session, compile_c

EXECS = r"""
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
extern char **environ;
int main(int argc, char **argv)
{
	char *const none[] = { (char *)"x", NULL };
	for (int i = 1; i < argc; i++) {
		pid_t pid;
		int error;
		execve(argv[i], none, environ);
		error = errno;
		printf("execve %s %d\n", argv[i], error);
		error = posix_spawn(&pid, argv[i], NULL, NULL, none, environ);
		printf("posix_spawn %s %d\n", argv[i], error);
		if (!error)
			waitpid(pid, NULL, 0);
	}
	return 0;
}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "directory").mkdir()
    (tmp_path / "plain").write_text("no program\n")
    (tmp_path / "broken").write_bytes(b"\x7fELF, it says\n")
    (tmp_path / "broken").chmod(0o755)
    return tmp_path


def accesses(session: Session, kind: str) -> list[Event]:
    return [e for e in session.events("access") if e.access == kind]


def test_an_exec_that_comes_back_is_logged_with_its_errno(place: Path) -> None:
    (place / "execs.c").write_text(EXECS)
    helper = compile_c(place / "execs.c", place / "execs")
    names = [str(place / name) for name in ("directory", "plain", "broken", "missing")]
    with Session("rw:/=+", log=True) as session:
        done = session.run(helper, *names)
        assert done.returncode == 0, done.stderr
        told = {(op, path): int(error) for op, path, error in (line.split() for line in done.stdout.splitlines())}
        logged = {(e.op, e.path): e.error for e in accesses(session, "exec")}
    assert told == logged
    assert told["execve", names[0]] == errno.EACCES
    assert told["execve", names[1]] == errno.EACCES
    assert told["execve", names[2]] == errno.ENOEXEC
    assert told["posix_spawn", names[3]] == errno.ENOENT


def test_a_path_search_is_logged_as_it_went(place: Path) -> None:
    with Session("rw:/=+", log=True) as session:
        env = {**os.environ, "PATH": f"{place}:/usr/bin"}
        assert session.run("/usr/bin/env", "true", env=env).returncode == 0
        found = [(e.path, e.error) for e in accesses(session, "exec")]
    assert found == [(str(place / "true"), errno.ENOENT), ("/usr/bin/true", 0)]


def test_what_runs_is_recorded_as_run(place: Path) -> None:
    """A script's interpreter, too, and what the library cannot enter. Nothing may be written here."""
    (place / "empty.c").write_text("int main(void) { return 0; }\n")
    static = compile_c(place / "empty.c", place / "static", "-static")
    script = place / "script"
    script.write_text(f"#!/bin/sh\nexec {static}\n")
    script.chmod(0o755)
    with Session("r:/=+", log=True) as session:
        assert session.run("/usr/bin/env", script).returncode == 0
        run = session.events("exec", "untraced")
        looked = {(e.op, e.path) for e in accesses(session, "exec")}
    assert {(e.kind, e.access) for e in run} == {("exec", "exec"), ("untraced", "exec")}
    assert {("execvp", str(script)), ("execvp", os.path.realpath("/bin/sh")), ("execve", str(static))} <= looked


@pytest.mark.parametrize("call", ["mkstemp", "mkdtemp"])
def test_a_made_up_name_is_logged_as_it_was_made(place: Path, call: str) -> None:
    program = f"import ctypes; b = ctypes.create_string_buffer({os.fsencode(place / 'tXXXXXX')!r}); "
    program += f"ctypes.CDLL(None).{call}(b); print(b.value.decode())"
    assert hasattr(ctypes.CDLL(None), call)
    with Session("rw:/=+", log=True) as session:
        done = session.run(sys.executable, "-IB", "-c", program)
        made = done.stdout.strip()
        logged = [e.path for e in accesses(session, "create") if e.op == call]
    assert Path(made).exists() and not made.endswith("XXXXXX")
    assert logged == [made]


def test_every_access_names_its_call(place: Path) -> None:
    with Session("rw:/=+", log=True) as session:
        session.run("/bin/sh", "-c", "ls >/dev/null; mktemp -d; echo x | cat; rm -f nothing", cwd=place)
        events = session.events("access")
    assert len(events) > 5
    assert all(e.op not in ("", "none") for e in events), [e for e in events if e.op in ("", "none")]


LOOP = r"""
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	struct stat st;
	int rounds = argc > 3;
	rename(argv[1], argv[2]);              /* a link that was followed: what is known of real paths goes stale once */
	for (int i = 0; i < (rounds ? 101 : 1); i++) {
		int fd = open("work/file", O_WRONLY | O_TRUNC);
		fchmod(fd, 0600);
		close(fd);
		stat("work/file", &st);
		lstat("/usr/bin/env", &st);
		access("/usr/bin/env", R_OK);
		stat("work/none", &st);
	}
	return 0;
}
"""


def system_calls(session: Session, log: Path, *argv: object) -> int:
    strace = ["strace", "-f", "-qq", "-o", log, "-E", f"LD_PRELOAD={session.library}"]
    assert session.run(*strace, *argv, env={"PATH": os.environ["PATH"]}, cwd=log.parent).returncode == 0
    return len(log.read_text().splitlines())


def test_the_log_costs_an_access_no_system_call(place: Path) -> None:
    (place / "work").mkdir()
    (place / "work/file").touch()
    (place / "loop.c").write_text(LOOP)
    helper = compile_c(place / "loop.c", place / "loop")
    calls = {}
    for log in (False, True):
        with Session("r:/=+", f"w:{os.path.realpath(place)}=+", log=log) as session:
            (place / "a").symlink_to("work")
            session.run("cat", "a/file", cwd=place)
            once = system_calls(session, place / "trace", helper, "a", "b")
            often = system_calls(session, place / "trace", helper, "b", "a", "often")
            calls[log] = often - once
            told = [e.op for e in session.events("access") if e.path == f"{os.path.realpath(place)}/work/file"]
        (place / "a").unlink()
    assert calls == {False: 700, True: 700}
    assert {op: told.count(op) for op in ("open", "fchmod", "stat")} == {"open": 102 + 1, "fchmod": 102, "stat": 102}


def test_a_library_that_is_not_there_is_logged_as_missing(place: Path) -> None:
    names = [str(place / "none.so"), "/bin/true"]  # the second is there: that it is no library is the loader's business
    program = f"import ctypes\nfor n in {names}:\n try: ctypes.CDLL(n)\n except OSError: pass"
    with Session("rw:/=+", log=True) as session:
        assert session.run(sys.executable, "-IB", "-c", program).returncode == 0
        logged = {e.asked or e.path: e.error for e in session.events("access") if e.op == "dlopen"}
    assert logged[names[0]] == errno.ENOENT
    assert logged[names[1]] == 0


KNOWN = r"""
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* In a directory that the first call has made known: each the first access to its name. */
int main(int argc, char **argv)
{
	struct stat st;
	struct statx stx;
	if (argc != 2 || chdir(argv[1]) || access("none", F_OK) == 0)
		return 1;
	return stat("by-stat", &st) || lstat("by-lstat", &st) || fstatat(AT_FDCWD, "by-fstatat", &st, 0) ||
		statx(AT_FDCWD, "by-statx", 0, STATX_ALL, &stx) || open("by-open", O_RDONLY) < 0 ||
		open("by-openat", O_WRONLY) < 0;
}
"""


def test_an_access_in_a_known_directory_is_logged_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "known.c").write_text(KNOWN)
    helper = compile_c(tmp_path / "known.c", tmp_path / "known")
    expected = {
        **dict.fromkeys(("by-stat", "by-lstat", "by-fstatat", "by-statx"), "stat"),
        "by-open": "read",
        "by-openat": "write",
    }
    for name in expected:
        (tmp_path / name).touch()
    with Session("rw:/=+", log=True) as session:
        assert session.run(helper, tmp_path).returncode == 0
        found = {Path(e.path).name: e.access for e in session.events("access") if "/by-" in e.path}
    assert found == expected
