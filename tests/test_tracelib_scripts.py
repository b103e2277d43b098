"""A script that the build can write is started by its interpreter, with the words that the kernel would have made."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracelib_session import Session

#: What a program was started with, and as what it runs.
SHOW = "tr '\\0' '|' </proc/$$/cmdline; readlink /proc/$$/exe; printf '%s|' \"$0\" \"$@\""


@pytest.fixture
def session(work: Path) -> Iterator[Session]:
    with Session("r:/=+", f"w:{work}=+", "w:/dev=+") as session:
        yield session


def script(path: Path, line: str, text: str = SHOW + "\n") -> Path:
    path.write_text(line + text)
    path.chmod(0o755)
    return path


def both(session: Session, work: Path, *words: object, perl: str = "exec @ARGV; print $!+0") -> str:
    """What perl, which the library holds alone, comes to by starting `words`: the same with and without porttrace."""
    command = ["/usr/bin/perl", "-e", perl, *map(str, words)]
    bare = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    traced = session.run(*command, cwd=work)
    assert (traced.returncode, traced.stdout) == (bare.returncode, bare.stdout)
    return bare.stdout


LINES = {
    "plain": "#!/bin/sh\n",
    "blanks": "#! \t /bin/sh \t \n",
    "argument": "#!/bin/sh -e\n",
    "argument, then blanks": "#!/bin/sh -e \t\n",
    "two arguments are one": "#!/usr/bin/printf %s|  a  b \n",
    "of env": "#!/usr/bin/env sh\n",
    "of env, split": "#!/usr/bin/env -S sh -e\n",
    "no name": "#!\n",
    "blanks alone": "#!  \t\n",
    "missing": "#!/no/such/sh\n",
    "a directory": "#!/usr\n",
    "relative": "#!bin\n",
    "long name": "#!/" + "x" * 300 + "\n",
    "long argument": "#!/bin/sh " + "x" * 300 + "\n",
    "no end of line": "#!/bin/sh",
    "a NUL": "#!/bin/sh\0 -e\n",
    "no script": "\n",
    "binary": "\1\2\3\n",
}


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("given", ["./s", "absolute", "s"])
def test_it_starts_as_without_us(session: Session, work: Path, name: str, given: str) -> None:
    script(work / "s", LINES[name], "" if name == "no end of line" else SHOW + "\n")
    asked = {"./s": "./s", "absolute": str(work / "s"), "s": "s"}[given]
    path = '$ENV{PATH}=".:$ENV{PATH}";' if given == "s" else ""
    both(session, work, asked, "one", "", "two words", perl=path + "exec {$ARGV[0]} @ARGV; print $!+0")


def test_a_script_interprets_a_script(session: Session, work: Path) -> None:
    script(work / "inner", "#!/bin/sh -e\n")
    script(work / "outer", f"#!{work}/inner for outer\n", "")
    said = both(session, work, "./outer", "x")
    assert f"/bin/sh|-e|{work}/inner|for outer|./outer|x|" in said


@pytest.mark.parametrize("depth", range(3, 8))
def test_scripts_interpret_scripts_as_often_as_the_kernel_lets_them(session: Session, work: Path, depth: int) -> None:
    script(work / "0", "#!/bin/sh\n")
    for n in range(1, depth):
        script(work / str(n), f"#!{work}/{n - 1}\n", "")
    both(session, work, f"./{depth - 1}")


def test_more_than_fits_a_page(session: Session, work: Path) -> None:
    script(work / "s", "#!/bin/sh\n", "echo $# $1; shift $(($# - 1)); echo $1\n")
    for count in (40, 80, 500, 3000, 20000):
        both(session, work, perl=f"exec './s', 1..{count}; print $!+0")


def test_without_a_name_of_its_own(session: Session, work: Path) -> None:
    """argv[0] is not what was started."""
    script(work / "s", "#!/bin/sh\n")
    both(session, work, perl="exec {'./s'} 'another', 'x'; print $!+0")


@pytest.mark.parametrize("mode", [0o644, 0o444, 0o755, 0o711])
def test_the_right_to_execute_is_asked_for(session: Session, work: Path, mode: int) -> None:
    for line in ("#!/bin/sh\n", "echo text\n"):
        script(work / "s", line).chmod(mode)
        both(session, work, "./s")


def test_a_link_of_the_build_is_followed_before(session: Session, work: Path) -> None:
    """The program is found by its real path, and still told the name by which it was called."""
    (work / "link").symlink_to("/bin/sh")
    script(work / "s", f"#!{work}/link -e\n")
    both(session, work, "./link", "-c", SHOW, "zero")
    both(session, work, "./s", "x")
    script(work / "comm", f"#!{work}/link\n", "cat /proc/$$/comm\n")
    real = Path(os.path.realpath("/bin/sh")).name
    for words in (["./link", "comm"], ["./comm"]):
        seen = session.run("/usr/bin/perl", "-e", "exec @ARGV", *words, cwd=work)
        assert seen.stdout == f"{real}\n", "the kernel was given the real path"


def test_spawned_as_well(session: Session, work: Path) -> None:
    script(work / "s", "#!/bin/sh -e\n")
    spawn = "import os; os.waitpid(os.posix_spawn('./s', ['s', 'a b'], os.environ), 0)"
    bare = subprocess.run(["/usr/bin/python3", "-c", spawn], cwd=work, capture_output=True, text=True, check=True)
    assert "/bin/sh|-e|./s|a b|" in bare.stdout
    assert session.run("/usr/bin/python3", "-c", spawn, cwd=work).stdout == bare.stdout


def test_the_kernel_is_not_given_the_script(session: Session, work: Path) -> None:
    """What the process is called tells by which name it was started."""
    script(work / "s", "#!/bin/sh\n", "cat /proc/$$/comm\n")
    assert session.run("/usr/bin/perl", "-e", "exec './s'", cwd=work).stdout == "sh\n"


def test_a_script_that_nobody_can_change_is_left_to_the_kernel(work: Path) -> None:
    script(work / "s", "#!/bin/sh\n", "cat /proc/$$/comm\n")
    with Session("r:/=+", "w:/dev=+") as session:
        assert session.run("/usr/bin/perl", "-e", "exec './s'", cwd=work).stdout == "s\n"


def test_what_is_not_there_is_not_asked_for_twice(session: Session, work: Path) -> None:
    (work / "loop").symlink_to("loop")
    (work / "file").touch()
    errors = [
        both(session, work, name, perl="exec {$ARGV[0]} 'x'; print $!+0")
        for name in ("none", "./none", "none/x", "file/x", "loop/x", "loop", "", ".", "./", "/", "x" * 300, "x/" * 3000)
    ]
    assert len(set(errors)) == 5
    for line in ("none/sh", "loop/sh", "file/sh"):
        script(work / "s", f"#!{work}/{line}\n")
        both(session, work, "./s")


@pytest.mark.parametrize("program", ["/bin/busybox sh", "/bin/sh", "./s"])
def test_without_a_free_descriptor_a_program_is_looked_at_all_the_same(
    session: Session, work: Path, program: str
) -> None:
    """And it gets the limit that it was to have. A dynamic program's loader can do nothing without."""
    script(work / "s", "#!/bin/busybox sh\n", "ulimit -Sn\n")
    run = f"ulimit -Sn 3; exec {program}" + (" -c 'ulimit -Sn'" if program != "./s" else "")
    both(session, work, run, perl="exec '/bin/sh', '-c', @ARGV")
    if "busybox" in program:
        assert [(e.path, e.asked) for e in session.events("untraced")] == [(os.path.realpath("/bin/busybox"), "static")]
