"""Rows of ``csrc/calls.table`` whose call is no expression, and walks that the kernel does not help with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracelib_session import MUSL_LIBRARY, SOURCE, Session, compile_c

CALLS = SOURCE / "tests" / "calls"
MUSL = (shutil.which("musl-gcc") or "") if MUSL_LIBRARY.exists() else ""
NO_MUSL = pytest.mark.skipif(not MUSL, reason="NOT CHECKED: programs of musl (Debian: musl-tools)")
COMPILERS = ["cc", pytest.param("musl", marks=NO_MUSL)]
CASES = {  # what has to be among the findings: call, kind of access, last name of the path
    "sockets": {
        ("bind", "create", "sock"),
        ("connect", "read", "there"),
    },
    "entries": set(),
    "standing": {("chroot", "list", "hidden")},
    "hidden_place": {("stat", "stat", "hidden")},
    "daemon": {("access", "stat", "file")},
    "script": {("execve", "exec", "tool")},
    "tempnam": {("tempnam", "stat", "hidden")},
    "mount": {("mount", "stat", "hidden"), ("mount", "attributes", "hidden")},
    "openat2": {("openat2", "read", "file"), ("openat2", "create", "new")},
    "becomes_a_link": set(),
    "descriptors": {("fexecve", "exec", "tool")},
    "file_actions": set(),
    "unseen_link": set(),
    "unseen_way": set(),
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("other")
    made = {"cc": compile_c(CALLS / "other.c", place / "cc", "-Wno-format-truncation", "-Wno-deprecated-declarations")}
    if MUSL:
        after = ("-idirafter", "/usr/include", f"-idirafter/usr/include/{os.uname().machine}-linux-gnu")
        made["musl"] = compile_c(CALLS / "other.c", place / "musl", "-Wno-format-truncation", *after, compiler=MUSL)
    made["late"] = compile_c(CALLS / "late.c", place / "late.so", "-shared", "-fPIC")
    return made


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    place = Path(os.path.realpath(tmp_path)) / "t"
    for name in ("seen", "hidden", "readonly", "writeonly"):
        (place / name).mkdir(parents=True)
        (place / name / "file").write_text("content")
        shutil.copy("/bin/cat", place / name / "tool")
    (place / "seen/link").symlink_to("../hidden/file")
    (place / "seen/way").symlink_to("../hidden")
    (place / "hidden/sub").mkdir()
    (place / "seen/down").symlink_to("../hidden/sub")
    yield place
    assert (place / "hidden/file").read_text() == "content"
    assert {p.name for p in (place / "hidden").iterdir()} == {"file", "tool", "sub"}


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("case", CASES)
def test_call_without_an_expression(case: str, compiler: str, programs: dict[str, Path], tree: Path) -> None:
    start = tree / "hidden" if case == "hidden_place" else tree
    with Session(f"rw:{tree}/hidden=-", f"r:{tree}/writeonly=-", f"w:{tree}/readonly=-", "rw:/=+") as session:
        done = session.run("/usr/bin/env", programs[compiler], case, tree, cwd=start)
        found = {(e.op, e.access, Path(e.path).name) for e in session.findings()}
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
    assert CASES[case] <= found


def test_programs_started_by_descriptor(programs: dict[str, Path], tree: Path) -> None:
    with Session(f"rw:{tree}/hidden=-", "rw:/=+") as session:
        preload = f"LD_PRELOAD={session.library}:{programs['late']}"
        done = session.run("/usr/bin/env", preload, programs["cc"], "pidfd", tree)
        found = {(e.op, e.access, e.path) for e in session.findings()}
        started = [e.path for e in session.events("process")]
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
    assert ("pidfd_spawn", "exec", f"{tree}/hidden/tool") in found
    assert ("pidfd_spawnp", "exec", f"{tree}/hidden/found") in found
    assert started.count(f"{tree}/seen/tool") == 2


MOUNTS = pytest.mark.skipif(os.geteuid() != 0, reason="NOT CHECKED: only root can make mounts")


@MOUNTS
@pytest.mark.parametrize("audit", [False, True], ids=["", "audited"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_nothing_hidden_gets_another_name_by_a_mount(
    compiler: str, audit: bool, programs: dict[str, Path], tree: Path
) -> None:
    with Session(f"rw:{tree}/hidden=-", "rw:/=+", audit=audit) as session:
        done = session.run("/usr/bin/env", programs[compiler], "name_above_audited" if audit else "name_above", tree)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


@MOUNTS
def test_a_tree_that_is_put_together(programs: dict[str, Path], tree: Path) -> None:
    with Session(f"rw:{tree}/hidden=-", "rw:/=+") as session:
        done = session.run(programs["cc"], "fsconfig", tree)
        found = [(e.op, e.access, e.path, e.count) for e in session.findings()]
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
    assert found == [("fsconfig", "stat", f"{tree}/hidden", 2)]


def test_where_one_is_under_a_redirect(programs: dict[str, Path], tree: Path) -> None:
    with Session(f"rw:{tree}/redirected=>{tree}/seen", "rw:/=+") as session:
        done = session.run(programs["cc"], "where", tree)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


EXEC_OBJECT = r"""
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

/* Runs what has no path any more: object-of-memory, deleted file; by its link in /proc or by its descriptor. */
int main(int argc, char **argv)
{
	char name[64];
	const char *how = argv[1];
	int from = open("/bin/echo", O_RDONLY | O_CLOEXEC), to;
	struct stat st;
	fstat(from, &st);
	if (strstr(how, "memory")) {
		to = memfd_create("x", 0);
	} else {
		to = open(argv[2], O_CREAT | O_RDWR | O_EXCL, 0755);
	}
	while (sendfile(to, from, NULL, (size_t)st.st_size) > 0)
		;
	if (!strstr(how, "memory")) {
		close(to);
		to = open(argv[2], O_RDONLY);
		unlink(argv[2]);
	}
	char *words[] = { "echo", "ran", NULL };
	if (strstr(how, "fexecve")) {
		fexecve(to, words, (char *[]){ NULL });
	} else {
		snprintf(name, sizeof name, "/proc/self/fd/%d", to);
		execve(name, words, (char *[]){ NULL });
	}
	perror("exec");
	return argc;
}
"""


@pytest.mark.parametrize("how", ["memory, /proc", "memory, fexecve", "deleted, /proc", "deleted, fexecve"])
def test_what_has_no_path_is_run(tmp_path: Path, how: str) -> None:
    (tmp_path / "run.c").write_text(EXEC_OBJECT)
    run = compile_c(tmp_path / "run.c", tmp_path / "run")
    with Session("r:/=+", f"w:{os.path.realpath(tmp_path)}=+") as session:
        done = session.run(run, how, tmp_path / "copy")
    assert (done.stdout, done.stderr, done.returncode) == ("ran\n", "", 0)
