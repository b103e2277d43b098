"""What is remembered of descriptors: dates and modes are judged anew wherever a number may mean another file."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
from tracelib_session import Session, compile_c

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="clone and vfork of Linux")

PROGRAM = r"""
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *own, *other;
static char stack[65536];

static int exchange(void *fd)
{
	close(*(int *)fd);
	return open(other, O_RDONLY) == *(int *)fd ? 0 : 1;
}

/* 0: allowed, 1: refused, 2: something else went wrong */
static int change(int fd)
{
	return fchmod(fd, 0777) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	const char *how = argv[argc - 3];
	int fd, status = 0;
	own = argv[2], other = argv[3];
	if (!strcmp(how, "own"))
		return change(open(own, O_WRONLY));
	if (!strcmp(how, "other"))
		return change(open(other, O_RDONLY));
	if (!strcmp(how, "fork")) {
		fd = open(own, O_WRONLY);
		if (!fork())
			_exit(exchange(&fd) ? 2 : change(fd));
		wait(&status);
		return WEXITSTATUS(status);
	}
	if (!strcmp(how, "vfork")) {    /* the child's descriptors are its own, its memory is the parent's */
		fd = open(other, O_RDONLY);
		if (!vfork()) {
			close(fd);
			_exit(open(own, O_WRONLY) == fd ? 0 : 2);
		}
		wait(&status);
		return status ? 2 : change(fd);
	}
	fd = open(own, O_WRONLY);
	if (!strcmp(how, "clone")) {
		if (clone(exchange, stack + sizeof stack, CLONE_FILES | SIGCHLD, &fd) < 0)
			return 2;
	} else if (!strcmp(how, "syscall")) {
		if (!syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0))
			_exit(exchange(&fd));
	} else if (!strcmp(how, "fclose")) {
		fclose(fdopen(fd, "w"));
		return open(other, O_RDONLY) == fd ? change(fd) : 2;
	} else if (!strcmp(how, "dup2")) {
		dup2(open(other, O_RDONLY), fd);
		return change(fd);
	}
	wait(&status);
	return status ? 2 : change(fd);
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("fds") / "fds.c"
    source.write_text(PROGRAM)
    return compile_c(source, source.with_suffix(""))


@pytest.mark.parametrize("log", [False, True], ids=["plain", "log"])
@pytest.mark.parametrize("how", ["own", "other", "fork", "vfork", "clone", "syscall", "fclose", "dup2"])
def test_a_mode_is_changed_only_where_writing_is_allowed(program: Path, tmp_path: Path, how: str, log: bool) -> None:
    top = Path(os.path.realpath(tmp_path))
    own, other = top / "work/own", top / "other"
    own.parent.mkdir()
    for path in (own, other):
        path.touch(0o600)
    with Session("r:/=+", f"w:{own.parent}=+", log=log) as session:
        status = session.run(program, how, own, other).returncode
        changed = [e.path for e in session.events("access") if e.op == "fchmod" and not e.error]
    assert status == (0 if how == "own" else 1)
    assert stat.S_IMODE(other.stat().st_mode) == 0o600
    assert changed == ([str(own)] if how == "own" and log else [])
