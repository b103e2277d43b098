"""The policy's beginning in the library: as good as the file beside it; where that is gone nothing is let through."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tracelib_session import LIBRARY, Session, compile_c

from porttrace._core import ffi, lib
from porttrace.filemap import Action, Filemap, Rule
from porttrace.inject import InjectedLibrary, policy_in
from porttrace.policy import Ownership, Policy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a library on macOS is signed as it is")

ROOT = Rule(b"/", Action.ALLOW)


@pytest.fixture
def top(open_tmp: Path) -> Path:
    for name in ("mine.h", "other.h", "hidden"):
        (open_tmp / name).write_text("x\n")
    (open_tmp / "sub").mkdir()
    (open_tmp / "sub/nobody.h").touch()
    (open_tmp / "sub/other.h").touch()
    return open_tmp


def session(top: Path, *entries: str, in_library: bool = True) -> Session:
    owned = {"mine.h": "mine", "other.h": "other", "sub/other.h": "other"}
    owners = Ownership([(os.fsencode(top / path), port) for path, port in owned.items()])
    rules = (*entries, f"r:{top}/hidden=-", f"rw:{top}=?", "r:/=+", "w:/dev=+")
    return Session(*rules, owners=owners, closure=["mine"], prefix=top, in_library=in_library)


def seen(session: Session, top: Path) -> list[str]:
    said = session.run("/bin/cat", top / "mine.h", top / "other.h", top / "hidden").stderr
    return [name for name in ("mine.h", "other.h", "hidden") if name not in said]


def opened(session: Session, *argv: object) -> list[str]:
    """Names of the session's files that a program opens itself, which the loader does not."""
    words = ["strace", "-f", "-E", f"LD_PRELOAD={session.library}", "-e", "trace=openat", *map(str, argv)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    return [name for name in ("policy", "events") if f"{session.dir}/{name}" in done.stderr]


def test_what_has_no_room_is_left_alone(tmp_path: Path) -> None:
    image = Policy(Filemap([ROOT]), Filemap()).compile()
    built = LIBRARY.read_bytes()
    library = InjectedLibrary(built)
    library.write(tmp_path / "l.so")
    empty = (tmp_path / "l.so").read_bytes()
    assert empty == built and policy_in(empty) == b""
    assert (tmp_path / "l.so").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "l.so").stat().st_blocks * 512 < len(built) * 2 / 3, "the room takes no space"
    many = Policy(Filemap([Rule(b"/some/where/%d" % n, Action.ALLOW) for n in range(20_000)]), Filemap()).compile()
    assert not library.put(tmp_path / "l.so", many)
    assert (tmp_path / "l.so").read_bytes() == built
    assert library.put(tmp_path / "l.so", image)
    whole = (tmp_path / "l.so").read_bytes()
    assert len(whole) == len(built)
    assert policy_in(whole) == image, "and comes out as it went in"
    assert policy_in(whole[: len(whole) // 4]) == b"", "where there is no more of it than its beginning"
    assert not InjectedLibrary(b"no room at all").has_room


def test_the_front_is_all_but_the_owners() -> None:
    few = Policy(Filemap([ROOT]), Filemap())
    many = Policy(Filemap([ROOT]), Filemap(), owners=Ownership([(b"/p/%d" % n, "p") for n in range(10_000)]))
    image = many.compile()
    front = lib.pt_image_front(ffi.from_buffer(image), len(image))
    assert len(image) - front >= 10_000 * 16
    assert lib.pt_image_front(ffi.from_buffer(few.compile()), len(few.compile())) == len(few.compile())
    assert lib.pt_image_front(ffi.from_buffer(image), 16) == 0
    for at in range(0, 200, 8):  # a header that is not sound: no more than is there is taken from it
        broken = bytearray(image)
        broken[at : at + 8] = b"\xff" * 8
        assert lib.pt_image_front(ffi.from_buffer(broken), len(broken)) in (0, front, (1 << 64) - 1)


@pytest.mark.parametrize("in_library", [True, False], ids=["in-the-library", "beside-it"])
def test_both_decide_alike(top: Path, in_library: bool) -> None:
    with session(top, in_library=in_library) as s:
        assert seen(s, top) == ["mine.h"]
        assert s.run("/bin/ls", top / "sub").stdout == "nobody.h\n"
        assert sorted({(e.path, e.outcome) for e in s.findings()}) == [
            (str(top / "hidden"), "hide"),
            (str(top / "other.h"), "hide"),
        ]


def test_the_file_is_opened_by_those_only_who_ask_whose_a_file_is(top: Path) -> None:
    with session(top) as s:
        assert opened(s, "/bin/cat", "/etc/passwd") == ["events"]
        assert opened(s, "/bin/cat", top / "mine.h") == ["policy", "events"]
    with session(top, in_library=False) as s:
        assert opened(s, "/bin/cat", "/etc/passwd") == ["policy", "events"]


def test_without_the_file_nothing_is_let_through_that_it_has_a_say_in(top: Path) -> None:
    with session(top) as s:
        (s.dir / "policy").unlink()
        assert seen(s, top) == []
        assert s.run("/bin/ls", top / "sub").stdout == "", "nor listed"
        assert s.run("/bin/cat", "/etc/passwd").returncode == 0, "where nobody asks for an owner the front is enough"


def test_another_policy_s_file_is_not_taken(top: Path) -> None:
    owners = Ownership([(os.fsencode(top / name), "mine") for name in ("mine.h", "other.h")])
    other = Policy(Filemap([ROOT]), Filemap(), owners=owners, closure=frozenset({"mine"})).compile()
    with session(top) as s:
        (s.dir / "policy").unlink()
        (s.dir / "policy").write_bytes(other)
        assert seen(s, top) == []


FULL = """
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	struct stat st;
	struct rlimit before, after;
	getrlimit(RLIMIT_NOFILE, &before);
	before.rlim_cur = 20;
	if (argc != 3 || setrlimit(RLIMIT_NOFILE, &before))
		return 9;
	while (dup(0) >= 0)
		;
	if (stat(argv[1], &st))
		return 1;
	if (!stat(argv[2], &st) || errno != ENOENT)
		return 2;
	getrlimit(RLIMIT_NOFILE, &after);
	return after.rlim_cur != 20 || dup(0) >= 0 ? 3 : 0;
}
"""


def test_a_program_without_a_descriptor_left_is_answered(top: Path, tmp_path: Path) -> None:
    (tmp_path / "full.c").write_text(FULL)
    program = compile_c(tmp_path / "full.c", tmp_path / "full")
    with session(top) as s:
        assert s.run(program, top / "mine.h", top / "other.h").returncode == 0


LANDLOCK = """
#include <errno.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	struct landlock_ruleset_attr attr = { .handled_access_fs = LANDLOCK_ACCESS_FS_READ_FILE };
	int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0), mine;
	struct stat st;
	if (argc != 2 || fd < 0)
		return 77;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_landlock_restrict_self, fd, 0))
		return 1;
	if ((mine = open("/etc/passwd", O_RDONLY)) >= 0)
		return 2;
	return stat(argv[1], &st) ? 3 : 0;
}
"""


def test_a_program_in_a_fence_of_its_own_is_answered(top: Path, tmp_path: Path) -> None:
    (tmp_path / "own.c").write_text(LANDLOCK)
    program = compile_c(tmp_path / "own.c", tmp_path / "own")
    with session(top) as s:
        status = s.run(program, top / "mine.h").returncode
    if status == 77:
        pytest.skip("NOT CHECKED: this kernel has no Landlock")
    assert status == 0
