"""What is remembered of descriptors: dates and modes are judged anew wherever a number may mean another file."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
from tracelib_session import SOURCE, Session, compile_c

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="clone and vfork of Linux")

PROGRAM = r"""
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "sysraw.h"

static const char *own, *other;
static char stack[65536];

static int exchange(void *fd)
{
	close(*(int *)fd);
	return open(other, O_RDONLY) == *(int *)fd ? 0 : 1;
}

static const char *call = "fchmod";

static int made(int fd)
{
	static const struct timespec then[2];
	static const struct timeval long_ago[2];
	if (!strcmp(call, "fchmod"))
		return fchmod(fd, 0777);
	if (!strcmp(call, "fchown"))
		return fchown(fd, geteuid(), getegid());
	if (!strcmp(call, "futimens"))
		return futimens(fd, then);
	if (!strcmp(call, "futimes"))
		return futimes(fd, long_ago);
	if (!strcmp(call, "futimesat"))
		return futimesat(fd, NULL, long_ago);
	if (!strcmp(call, "utimensat"))         /* the function refuses a missing path, the kernel does not */
		return (int)syscall(SYS_utimensat, fd, NULL, then, 0);
	if (!strcmp(call, "fsetxattr"))
		return fsetxattr(fd, "user.t", "w", 1, 0);
	if (!strcmp(call, "fremovexattr"))
		return fremovexattr(fd, "user.t");
	_exit(3);
}

/* 0: allowed, 1: refused, 2: something else went wrong */
static int change(int fd)
{
	return made(fd) == 0 ? 0 : errno == EACCES ? 1 : 2;
}

/* The directory in which a path is. */
static const char *above(const char *path)
{
	static char name[4096];
	strcpy(name, path);
	*strrchr(name, '/') = 0;
	return name;
}

int main(int argc, char **argv)
{
	const char *how = argv[1];
	int fd, status = 0;
	if (argc > 4)
		call = argv[4];
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
	} else if (!strcmp(how, "freopen")) {   /* it closes, also where it comes to nothing */
		if (freopen("/nowhere", "r", fdopen(fd, "w")))
			return 2;
		return pt_raw4(SYS_openat, AT_FDCWD, other, O_RDONLY, 0) == fd ? change(fd) : 2;
	} else if (!strcmp(how, "past us") || !strcmp(how, "past us, create")) {
		pt_raw1(SYS_close, fd);         /* the directory is known: there is a quick way for the one */
		access(other, F_OK);
		return open(other, O_RDONLY | (strstr(how, "create") ? O_CREAT : 0), 0600) == fd ? change(fd) : 2;
	} else if (!strcmp(how, "opendir")) {
		pt_raw1(SYS_close, fd);
		return dirfd(opendir(above(other))) == fd ? change(fd) : 2;
	} else if (!strcmp(how, "handle")) {
		union {
			struct file_handle head;
			char room[256];
		} h = { .head = { .handle_bytes = 128 } };
		int id, mount = open(above(other), O_RDONLY | O_DIRECTORY);
		if (name_to_handle_at(AT_FDCWD, other, &h.head, &id, 0) < 0)
			return 4;
		pt_raw1(SYS_close, fd);
		int again = open_by_handle_at(mount, &h.head, O_RDONLY);
		return again < 0 ? 4 : again == fd ? change(fd) : 2;
	}
	wait(&status);
	return status ? 2 : change(fd);
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("fds") / "fds.c"
    source.write_text(PROGRAM)
    return compile_c(source, source.with_suffix(""), f"-I{SOURCE}/csrc")


#: Ways in which a number comes to mean another file.
AGAIN = ("dup2", "freopen", "past us", "past us, create", "opendir", "handle")


@pytest.mark.parametrize("log", [False, True], ids=["plain", "log"])
@pytest.mark.parametrize("how", ["own", "other", "fork", "vfork", "clone", "syscall", "fclose", *AGAIN])
def test_a_mode_is_changed_only_where_writing_is_allowed(program: Path, tmp_path: Path, how: str, log: bool) -> None:
    top = Path(os.path.realpath(tmp_path))
    own, other = top / "work/own", top / "other"
    own.parent.mkdir()
    for path in (own, other):
        path.touch(0o600)
    with Session("r:/=+", f"w:{own.parent}=+", log=log) as session:
        status = session.run(program, how, own, other).returncode
        changed = [(e.access, e.path) for e in session.events("access") if e.op == "fchmod" and not e.error]
    if status == 4:
        pytest.skip("NOT CHECKED: this user, or this file system, opens nothing by handle")
    assert status == (0 if how == "own" else 1)
    assert stat.S_IMODE(other.stat().st_mode) == 0o600
    assert changed == ([("attributes", str(own))] if how == "own" and log else [])


def test_the_mode_of_what_lies_deep_is_changed_where_writing_is_allowed(program: Path, tmp_path: Path) -> None:
    """Its name has no room where the names of others are looked at, and it was opened for reading only."""
    top = Path(os.path.realpath(tmp_path))
    deep = top / "work" / "/".join(["n" * 200] * 4)
    deep.mkdir(parents=True)
    (deep / "file").touch(0o600)
    (top / "work/link").symlink_to(deep / "file")
    with Session("r:/=+", f"w:{top}/work=+") as session:
        done = session.run(program, "other", "-", top / "work/link")
        assert (done.returncode, session.findings()) == (0, [])
    assert stat.S_IMODE((deep / "file").stat().st_mode) == 0o777


CHANGES = ("fchown", "futimens", "futimes", "futimesat", "utimensat", "fsetxattr", "fremovexattr")


@pytest.mark.parametrize("call", CHANGES)
def test_nothing_is_changed_by_a_descriptor_where_nothing_may_be_written(
    program: Path, tmp_path: Path, call: str
) -> None:
    top = Path(os.path.realpath(tmp_path))
    own, other = top / "work/own", top / "other"
    own.parent.mkdir()
    for path in (own, other):
        path.touch(0o600)
        if "xattr" in call:
            try:
                os.setxattr(path, "user.t", b"v")
            except OSError as e:
                pytest.skip(f"NOT CHECKED: extended attributes, which {top} has not: {e.strerror}")
    before = other.stat().st_ctime_ns
    with Session("r:/=+", f"w:{own.parent}=+") as session:
        status = [session.run(program, how, own, other, call).returncode for how in ("own", "other")]
        found = [(e.op, e.access, e.path) for e in session.findings()]
    assert status == [0, 1]
    assert other.stat().st_ctime_ns == before
    assert found == [("futimens" if call == "utimensat" else call, "attributes", str(other))]


DIRECTORIES = r"""
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a directory shows by listing and by name, and whether a second look gives the same. */
static void look(const char *label, int fd)
{
	struct stat st;
	printf("%s", label);
	DIR *d = fdopendir(openat(fd, ".", O_RDONLY | O_DIRECTORY));
	for (struct dirent *e; d && (e = readdir(d));)
		if (e->d_name[0] != '.')
			printf(" %s", e->d_name);
	closedir(d);
	printf(" %s\n", fstatat(fd, "secret", &st, AT_SYMLINK_NOFOLLOW) ? "absent" : "present");
}

/* The same by whole paths: the second look is at what was remembered of the first. */
static void look_from_root(const char *label, const char *top, const char *below)
{
	char path[8192];
	struct stat st;
	snprintf(path, sizeof path, "%s/%s/secret", top, below);
	printf("%s", label);
	for (int i = 0; i < 2; i++)
		printf(" %s", stat(path, &st) ? "absent" : "present");
	printf("\n");
}

int main(int argc, char **argv)
{
	int top = open(argv[argc - 1], O_RDONLY | O_DIRECTORY), a = -1, b = -1;
	struct stat st;
	fstatat(top, "a", &st, 0);      /* the directory above is known from here on */
	a = openat(top, "a", O_RDONLY | O_DIRECTORY);
	b = openat(top, "b", O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	int ways[] = { a, dup(a), fcntl(a, F_DUPFD, 40), fcntl(a, F_DUPFD_CLOEXEC, 40) };
	const char *names[] = { "open", "dup", "fcntl", "cloexec" };
	for (int i = 0; i < 4; i++)
		look(names[i], ways[i]);
	int second = fcntl(b, F_DUPFD, 60);
	look("b", second);
	close(second);
	second = fcntl(a, F_DUPFD, 60); /* the same number, another directory */
	look("again", second);
	look_from_root("whole-a", argv[argc - 1], "a");
	look_from_root("whole-b", argv[argc - 1], "b");
	symlinkat("b", top, "link");
	look_from_root("link-b", argv[argc - 1], "link");
	unlinkat(top, "link", 0);
	symlinkat("a", top, "link");
	look_from_root("link-a", argv[argc - 1], "link");
	renameat(top, "a", top, "c");
	renameat(top, "b", top, "a");   /* neither: what is hidden in a would come out of hiding */
	look("moved", b);
	look("away", ways[2]);
	look_from_root("whole-c", argv[argc - 1], "c");
	return 0;
}
"""


@pytest.mark.parametrize("length", [100, 420, 1000, 3000])
def test_a_directory_is_known_by_each_of_its_descriptors(tmp_path: Path, length: int) -> None:
    """Short paths and such as the library has no room for in its usual places."""
    top = Path(os.path.realpath(tmp_path)) / "top"
    while len(str(top)) < length:
        top /= "n" * min(200, length - len(str(top)))
    for name in ("a", "b"):
        (top / name).mkdir(parents=True)
        (top / name / "secret").touch()
        (top / name / "open").touch()
    (tmp_path / "walk.c").write_text(DIRECTORIES)
    walk = compile_c(tmp_path / "walk.c", tmp_path / "walk")
    with Session(f"r:{top}/a/secret=-", "r:/=+", f"w:{top}=+") as session:
        done = session.run(walk, top)
    seen = {line.split()[0]: sorted(line.split()[1:]) for line in done.stdout.splitlines()}
    hidden, shown = ["absent", "open"], ["open", "present", "secret"]
    never, always = ["absent", "absent"], ["present", "present"]
    assert seen == {
        **dict.fromkeys(["open", "dup", "fcntl", "cloexec", "again", "away"], hidden),
        **dict.fromkeys(["b", "moved"], shown),
        **dict.fromkeys(["whole-a", "link-a", "whole-c"], never),
        **dict.fromkeys(["whole-b", "link-b"], always),
    }
