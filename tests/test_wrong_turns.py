"""Wrong turns that other sandboxes took, one test each: they must not be here."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import three_places

from porttrace.filemap import Action, Filemap, Rule
from porttrace.identity import Identity
from porttrace.policy import Policy
from porttrace.session import Session
from porttrace.supervisor import supervisor_available
from porttrace.trace import Trace

pytestmark = [
    pytest.mark.skipif(not supervisor_available(), reason="NOT CHECKED: this kernel has no seccomp user notification"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="NOT CHECKED: no C compiler"),
]
SOURCE = Path(__file__).parent / "endings/wrong_turns.c"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        base = Path(name)
        base.chmod(0o755)
        yield three_places(base)


@pytest.fixture(params=["macports", "current"])
def traces(request: pytest.FixtureRequest, place: Path) -> Iterator[tuple[Trace, Trace]]:
    """One that allows everything, as a former phase may have, and the one that counts."""
    if request.param == "macports" and os.geteuid() != 0:
        pytest.skip("NOT CHECKED: only root can start a build as another user")
    who = Identity.named("macports") if request.param == "macports" else Identity.current()
    for part in ("in", "outside", "hidden"):  # to be its owner is what changing metadata takes
        os.chown(place / part / "file", who.uid, who.gid)
    everything = Filemap([Rule(b"/", Action.ALLOW)])
    read = Filemap([Rule(os.fsencode(place / "hidden"), Action.DENY), Rule(b"/", Action.ALLOW)])
    write = Filemap([Rule(os.fsencode(place / "in"), Action.ALLOW), Rule(b"/dev/null", Action.ALLOW)])
    with Session(who) as session:
        wide = session.start(Policy(everything, everything.copy()), place)
        yield wide, session.start(Policy(read, write), place / "in")


@pytest.fixture
def run(traces: tuple[Trace, Trace], place: Path) -> Run:
    """Run words under the policy that counts."""

    def under(*words: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*traces[1].launch_argv, *words],
            cwd=place / "in",
            env=env,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
        )

    return under


def program(place: Path, *options: str) -> Path:
    made = place / f"program{''.join(options)}"
    subprocess.run(["cc", "-pthread", *options, "-o", made, SOURCE], check=True)
    return made


SWITCHES = {
    "no library": "env LD_PRELOAD= {command}",
    "unset": "unset LD_PRELOAD; {command}",
    "another library": "env LD_PRELOAD=libm.so.6 {command}",
    "a wider phase's library": "env LD_PRELOAD={wide}/tracelib.so {command}",
    "a wider phase's launcher": "{wide}/../launch --session {wide} -- {command}",
    "the launcher without library": "{wide}/../launch --session {wide} --no-preload -- {command}",
    "made-up names": "env SANDBOX_ON=0 PORTTRACE=off SANDBOX_READ=/ SANDBOX_WRITE=/ {command}",
    "loader's": "env LD_LIBRARY_PATH=/usr/lib LD_BIND_NOW=1 LD_DEBUG= {command}",
    "nothing at all": "env -i {command}",
}


@pytest.mark.parametrize("how", SWITCHES.values(), ids=SWITCHES.keys())
def test_the_environment_neither_switches_off_nor_widens(
    run: Run, traces: tuple[Trace, Trace], place: Path, how: str
) -> None:
    for command in ("cat {0}/hidden/file", "busybox cat {0}/hidden/file"):
        line = how.format(command=command.format(place), wide=traces[0].directory)
        done = run("/bin/sh", "-c", f"({line}) 2>&1")
        assert "secret" not in done.stdout, line
        told = "belongs to another phase" if "/launch " in how else "No such file"
        assert told in done.stdout, (line, done.stdout)
    for command in ("cp {0}/in/file {0}/outside/new", "busybox cp {0}/in/file {0}/outside/new"):
        line = how.format(command=command.format(place), wide=traces[0].directory)
        run("/bin/sh", "-c", line)
        assert not (place / "outside/new").exists(), line


def test_the_library_alone_keeps_its_policy(place: Path) -> None:
    """No supervisor follows the static launcher here, and no fence stands behind it."""
    everything = Filemap([Rule(b"/", Action.ALLOW)])
    read = Filemap([Rule(os.fsencode(place / "hidden"), Action.DENY), Rule(b"/", Action.ALLOW)])
    with Session(tiers=["tracelib"]) as session:
        wide = session.start(Policy(everything, everything.copy()), place)
        narrow = session.start(Policy(read, everything.copy()), place / "in")
        for how in SWITCHES.values():
            command = how.format(command=f"cat {place}/hidden/file", wide=wide.directory)
            words = [*narrow.launch_argv, "/bin/sh", "-c", f"({command}) 2>&1"]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            told = "belongs to another phase" if "/launch " in how else "No such file"
            assert told in done.stdout, (command, done.stdout)
            # nor does another spelling of the directory
        spelled = f"{wide.directory}/../launch --session {narrow.directory}/../1/ -- cat {place}/hidden/file"
        done = subprocess.run([*narrow.launch_argv, "sh", "-c", spelled], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (125, ""), done.stderr
        words = [*wide.launch_argv, *narrow.launch_argv, "cat", place / "hidden/file"]
        assert subprocess.run(words, capture_output=True, check=False).returncode == 125, "in neither direction"


DEEP = """
    part=$(printf %0200d 0)
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22; do
        mkdir $part && cd -P $part || exit 9; up=$up/..
    done
"""
UNRESOLVED = {
    "deeper than a path can say": DEEP + "{cat} $up/{file}",
    "a link from there": DEEP + "ln -s $up/{file} link; {cat} link",
    "where nobody may look": "mkdir shut; cd shut; chmod 0 ../shut; {cat} ../$up/{file}",
    "in a directory that is gone": "mkdir gone; cd gone; rmdir ../gone; {cat} ../$up/{file}",
    "a name of bytes that are no text": "d=$(printf '\\377\\376'); mkdir $d; {cat} $d/../$up/{file}",
    "through a descriptor": "{cat} /proc/self/fd/9/{file} 9<$up",
    "a chain of links": "ln -s $up/{file} 0; for i in 1 2 3 4 5 6 7 8 9; do ln -s $((i-1)) $i; done; {cat} 9",
}


@pytest.mark.parametrize("cat", ["cat", "busybox cat"])
@pytest.mark.parametrize("how", UNRESOLVED)
def test_a_path_that_is_hard_to_resolve_is_not_let_through(run: Run, how: str, cat: str) -> None:
    done = {}
    for part in ("hidden", "outside"):
        script = f"mkdir {part}; cd {part}; up=../..; " + UNRESOLVED[how].replace("{cat}", cat)
        done[part] = run("/bin/sh", "-c", script.replace("{file}", f"{part}/file"))
    assert done["hidden"].stdout == ""
    assert done["hidden"].returncode not in (0, 9), done["hidden"].stderr
    # From there no way leads anywhere, and root alone may pass a directory that is shut.
    nowhere = how == "in a directory that is gone" or (how == "where nobody may look" and not done["outside"].stdout)
    assert nowhere or done["outside"].stdout == "secret\n", done["outside"].stderr


@pytest.mark.parametrize("options", [["-static"], []], ids=["static", "dynamic"])
def test_children_and_threads_of_a_supervised_program_are_supervised(run: Run, place: Path, options: list[str]) -> None:
    made = program(place / "in", *options)
    assert run(made, "children", place / "hidden/file").stdout.split() == [*[str(errno.ENOENT)] * 4, "alive"]
    assert run(made, "children", place / "outside/file").stdout.split() == [*"0000", "alive"]


@pytest.mark.parametrize("options", [["-static"], []], ids=["static", "dynamic"])
@pytest.mark.parametrize("where", ["in", "."], ids=["made by the build", "a tool"])
def test_a_denied_fchmod_is_an_error_and_no_crash(run: Run, place: Path, options: list[str], where: str) -> None:
    made = program(place / where, *options)
    before = (place / "outside/file").stat()
    done = run(made, "metadata", place / "outside/file")
    words = done.stdout.split()
    assert (done.returncode, words[-1]) == (0, "alive"), done.stderr
    assert words[:-1] == [str(errno.EACCES)] * 6
    after = (place / "outside/file").stat()
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (before.st_mode, before.st_uid, before.st_mtime_ns)
    inside = run(made, "metadata", place / "in/file").stdout.split()
    assert inside == [*"000000", "alive"]


def test_the_librarys_name_is_absolute_after_a_cleaned_environment(run: Run, traces: tuple[Trace, Trace]) -> None:
    """A bare name is looked for where the loader looks, which is nowhere once LD_LIBRARY_PATH is gone."""
    done = run("/bin/sh", "-c", "env -i PATH=/usr/bin:/bin sh -c 'cd /; env -i /usr/bin/env; cat /proc/self/maps'")
    assert f"LD_PRELOAD={traces[1].library}\n" in done.stdout
    assert f"{traces[1].library}\n" in done.stdout.partition("LD_PRELOAD=")[2].partition("\n")[2]
    assert "cannot be preloaded" not in done.stderr
    assert traces[1].library.is_absolute()


def flags_of(path: Path) -> int:
    """What chattr changes."""
    with path.open("rb") as file:
        return int.from_bytes(fcntl.ioctl(file, 0x80086601, bytes(8))[:4], sys.byteorder)  # FS_IOC_GETFLAGS


@pytest.mark.skipif(shutil.which("chattr") is None, reason="NOT CHECKED: no chattr")
def test_flags_are_changed_inside_only(run: Run, place: Path) -> None:
    try:
        before = flags_of(place / "outside/file")
    except OSError:
        pytest.skip("NOT CHECKED: this file system has no such flags")
    refused = run("chattr", "+d", place / "outside/file")
    assert refused.returncode != 0
    assert "Permission denied" in refused.stderr
    assert flags_of(place / "outside/file") == before
    assert run("chattr", "+d", place / "in/file").returncode == 0
    assert flags_of(place / "in/file") == before | 0x40


@pytest.mark.parametrize("options", [["-static"], []], ids=["static", "dynamic"])
def test_limits_of_processes_outside_stay(run: Run, place: Path, options: list[str]) -> None:
    """RLIMIT_CPU of 0 ends any process of the same user, RLIMIT_NOFILE of 3 stops what it does."""
    source = place / "limit.c"
    source.write_text(
        "#define _GNU_SOURCE\n#include <errno.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <sys/resource.h>\n"
        "int main(int n, char **a)\n{\n\tstruct rlimit r = { 3, 3 };\n"
        '\tprintf("%d\\n", prlimit(atoi(a[1]), RLIMIT_NOFILE, &r, NULL) ? errno : 0);\n}\n'
    )
    subprocess.run(["cc", *options, "-o", place / "limit", source], check=True)
    owner = (place / "in/file").stat()
    group = {"group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "60"], user=owner.st_uid if group else None, **group) as victim:  # type: ignore[call-overload]
        try:
            limits = Path(f"/proc/{victim.pid}/limits")
            before = limits.read_text()
            assert run(place / "limit", str(victim.pid)).stdout == f"{errno.EPERM}\n"
            assert run("prlimit", "--nofile=3", "--pid", str(victim.pid)).returncode != 0
            assert limits.read_text() == before
        finally:
            victim.kill()
    assert run(place / "limit", "0").stdout == "0\n"
    assert run("sh", "-c", "prlimit --core=0 --pid $$ && ulimit -c").stdout == "0\n"


@pytest.mark.parametrize("kind", ["address", "leak", "address,undefined"])
def test_sanitizers_work(run: Run, place: Path, kind: str) -> None:
    """gcc's AddressSanitizer wants to be the first library, LeakSanitizer traces its own process from a child."""
    source, made = place / "lost.c", place / "lost"
    source.write_text(
        "#include <stdlib.h>\nint main(int n, char **a)\n{\n\tchar *volatile p = n > 1 ? malloc(9) : 0;\n\tp = 0;\n}\n"
    )
    if subprocess.run(["cc", f"-fsanitize={kind}", "-o", made, source], capture_output=True, check=False).returncode:
        pytest.skip("NOT CHECKED: the compiler has no such sanitizer")
    clean, lost = run(made), run(made, "lose")
    assert (clean.returncode, clean.stderr) == (0, "")
    assert lost.returncode != 0
    assert "9 byte(s) leaked in 1 allocation(s)" in lost.stderr
