"""A program maps the first part of the event file, and the rest of it only when it has something new to tell."""

from __future__ import annotations

import itertools
import mmap
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tracelib_session import Session

from porttrace._core import ffi, lib

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere all is mapped at once")


@pytest.fixture
def hidden(tmp_path: Path) -> Path:
    (tmp_path / "hidden").touch()
    return tmp_path / "hidden"


def sizes(maps: str, session: Session) -> list[int]:
    """How large the maps of the event file are, in a text of /proc/PID/maps."""
    lines = [line.split() for line in maps.splitlines() if line.endswith(str(session.dir / "events"))]
    bounds = [[int(bound, 16) for bound in line[0].split("-")] for line in lines]
    return sorted(end - begin for begin, end in bounds)


@pytest.mark.parametrize("log", [False, True], ids=["findings", "log"])
def test_the_rest_is_mapped_by_who_tells_something(hidden: Path, log: bool) -> None:
    script = f'm() {{ while read -r line; do echo "$line"; done </proc/self/maps; }}; m; [ -e {hidden} ]; echo ==; m'
    with Session("rw:/=+", log=log) as session, Session(f"r:{hidden}=-", "rw:/=+", log=log) as other:
        whole = (session.dir / "events").stat().st_size
        before, after = (sizes(text, session) for text in session.run("sh", "-c", script).stdout.split("=="))
        assert before == after == [whole if log else lib.PT_EVENTS_PART]
        before, after = (sizes(text, other) for text in other.run("sh", "-c", script).stdout.split("=="))
        assert (before, after) == (([whole], [whole]) if log else ([lib.PT_EVENTS_PART], [lib.PT_EVENTS_PART, whole]))
        assert [e.path for e in other.findings()] == [str(hidden)]


def test_what_another_has_told_needs_no_more_of_the_file(hidden: Path) -> None:
    """Each shell of a configure script looks for the same programs at the same places in vain."""
    script = f"[ -e {hidden} ]; while read -r line; do echo $line; done </proc/self/maps"
    with Session(f"r:{hidden}=-", "rw:/=+") as session:
        whole = (session.dir / "events").stat().st_size
        first, second = (sizes(session.run("sh", "-c", script).stdout, session) for _ in range(2))
        assert (first, second) == ([lib.PT_EVENTS_PART, whole], [lib.PT_EVENTS_PART])
        assert [e.count for e in session.findings()] == [2]


def told(session: Session) -> list[tuple[str, str]]:
    return [(e.kind, Path(e.path).name) for e in session.events("process", "exec")]


def name(program: str) -> str:
    return Path(os.path.realpath(f"/bin/{program}")).name


def test_starts_need_no_map() -> None:
    """They are appended to the file, and its tables are not even looked at."""
    with Session("rw:/=+") as session:
        before = session.arena()
        assert session.run("sh", "-c", "/bin/true; sh -c '/bin/false; exit 3'").returncode == 3
        assert [program for kind, program in told(session) if kind == "process"] == [
            name(program) for program in ("sh", "true", "sh", "false")
        ]
        assert len([kind for kind, _ in told(session) if kind == "exec"]) == 3
        assert session.arena() == before


def test_starts_of_programs_with_a_limit_for_files_go_through_the_map() -> None:
    """A write beyond the limit would end them (SIGXFSZ)."""
    with Session("rw:/=+") as session:
        before = session.arena()
        done = session.run("sh", "-c", "ulimit -f 1; /bin/true; /bin/true; echo $?")
        assert (done.stdout, done.stderr) == ("0\n", "")
        assert [program for kind, program in told(session) if kind == "process"] == ["dash", name("true"), name("true")]
        assert session.arena() > before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_exec_of_who_cannot_open_the_file_any_more_goes_through_the_map() -> None:
    with Session("rw:/=+") as session:
        session.run("perl", "-e", "use POSIX; POSIX::setuid(65534) or die; exec '/bin/true'")
        assert ("exec", name("true")) in told(session)


def test_an_exec_beside_other_threads_goes_through_the_map() -> None:
    """Another thread could take the descriptor's number for a file of its own, and would find our records there."""
    code = "import os, threading, time; {} os.posix_spawn('/bin/true', ['true'], os.environ)"
    with Session("rw:/=+") as session:
        before = session.arena()
        session.run("/usr/bin/python3", "-S", "-c", code.format(""))
        assert session.arena() == before
        thread = "threading.Thread(target=time.sleep, args=(0.2,)).start();"
        session.run("/usr/bin/python3", "-S", "-c", code.format(thread))
        assert session.arena() > before
        assert [program for kind, program in told(session) if kind == "exec"] == [name("true")] * 2


FILTER = r"""
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	(void)argc;
	unsigned number = (unsigned)atoi(argv[1]);
	unsigned action = argv[2][0] == 'k' ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | EPERM;
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { 4, rules };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		return 99;
	execv(argv[3], argv + 3);
	return 98;
}
"""


@pytest.fixture(scope="module")
def filtering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that has one system call refused, by its number, and becomes another."""
    program = tmp_path_factory.mktemp("filtering") / "filtering"
    subprocess.run(["cc", "-o", program, "-x", "c", "-"], input=FILTER, text=True, check=True)
    return program


@pytest.mark.parametrize(
    ("call", "action"),
    [("prlimit64", "errno"), *itertools.product(["pwrite64", "writev", "lseek", "fcntl"], ["kill", "errno"])],
)
def test_who_filters_its_calls_tells_through_the_map(hidden: Path, filtering: Path, call: str, action: str) -> None:
    """It may be ended by a call that it does not make itself, or be told that there is none."""
    numbers = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not numbers.exists():
        numbers = Path("/usr/include/asm-generic/unistd.h")
    number = re.search(rf"#define __NR(?:3264)?_{call} (\d+)", numbers.read_text())
    assert number is not None
    with Session(f"r:{hidden}=-", "rw:/=+") as session:
        hide = f"[ -e {hidden} ] || exec /bin/true"
        done = session.run(filtering, number[1], action, "/bin/sh", "-c", hide)
        assert (done.returncode, done.stderr) == (0, "")
        kinds = [kind for kind, program in told(session) if program in ("dash", name("true"))]
        assert kinds == ["exec", "process", "exec", "process"]


def test_starts_that_find_their_part_full_go_through_the_map() -> None:
    with Session("rw:/=+") as session:
        before = session.arena()
        os.truncate(session.dir / "events", (session.dir / "events").stat().st_size + (256 << 20))
        assert session.run("sh", "-c", "/bin/true; echo done").stdout == "done\n"
        assert session.arena() > before


def test_what_cannot_be_told_is_counted(hidden: Path) -> None:
    """The map of the whole file does not fit into the address space that this program lets itself have."""
    with Session(f"r:{hidden}=-", "rw:/=+") as session:
        done = session.run("sh", "-c", f"ulimit -v 30000; [ -e {hidden} ] || echo absent")
        assert (done.stdout, done.stderr) == ("absent\n", "")
        with (session.dir / "events").open("r+b") as f:
            m = mmap.mmap(f.fileno(), 0)
        assert lib.pt_events_lost(ffi.cast("struct pt_events *", ffi.from_buffer(m))) == 1
