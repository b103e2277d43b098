"""port shell: back into the work directory of a failed phase, with its environment, user and fence."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import BIN, PATIENCE, PORT_HEAD, Prefix, Result, prefix_script, processes_of, sessions
from terminal import Terminal

PORTFILE = (
    PORT_HEAD.format(name="needs")
    + """\
test.run            yes
variant doc description {documentation} {
    build.env-append    DOC=1
}
build.env-append    FLAVOUR=plain
build {
    system -W ${worksrcpath} "echo ok > made; cat ${prefix}/include/stray.h > out"
}
destroot {
    xinstall -d ${destroot}${prefix}/share/needs
    system "cp ${worksrcpath}/made ${destroot}${prefix}/share/needs"
}
test {
    system "exit 1"
}
"""
)
SHELL_LINE = re.compile(r"^Error: A shell where it failed: (.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def failed() -> Iterator[tuple[Prefix, Result]]:
    """A prefix with the port stray, and a port whose build fails because stray's header is hidden from it."""
    directory = Path(tempfile.mkdtemp(prefix="porttrace-test-"))
    directory.chmod(0o755)
    prefix = Prefix(prefix_script.make(directory / "prefix"))
    prefix.add_port("devel", "needs", PORTFILE)
    prefix.port("install", "stray")
    yield prefix, prefix.fails("-t", "build", "needs", "+doc")
    shutil.rmtree(directory)


def shell(line: str | list[str], commands: str) -> subprocess.CompletedProcess[str]:
    """Run a command line through sh with commands on its standard input."""
    text = line if isinstance(line, str) else shlex.join(line)
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "FOREIGN": "1"}
    return subprocess.run(
        ["sh", "-c", text], input=commands, capture_output=True, text=True, env=env, timeout=PATIENCE, check=False
    )


def test_the_message_names_a_line_that_leads_back(failed: tuple[Prefix, Result]) -> None:
    prefix, result = failed
    (line,) = SHELL_LINE.findall(result.err)
    program, *words = shlex.split(line)
    assert words == ["--prefix", str(prefix.path), "-t", "shell", "needs", "+doc", "--phase", "build"]
    assert program == str(BIN / "port") or shutil.which(program) is not None
    tries = f"cat {prefix.path}/include/stray.h\ntouch {prefix.path}/bin/x"
    done = shell(line, f"pwd\nid -un\nenv\n{tries}\ncat needs-1.0/made\nexit 7\n")
    assert done.returncode == 7, done.stderr
    work = prefix.work("needs")
    lines = done.stdout.splitlines()
    assert lines[0] == str(work)
    assert lines[1] == ("macports" if os.geteuid() == 0 else lines[1])
    env = dict(line.split("=", 1) for line in lines[2:] if "=" in line)
    assert env["HOME"] == f"{work}/.home" and env["TMPDIR"] == f"{work}/.tmp"
    assert env["PATH"].startswith(f"{prefix.path}/bin:") and "FOREIGN" not in env
    assert (env["FLAVOUR"], env["DOC"], env["CPATH"]) == ("plain", "1", f"{prefix.path}/include")
    library = Path(env.get("LD_PRELOAD") or env["DYLD_INSERT_LIBRARIES"])
    assert library.is_absolute() and not library.parent.exists()  # the session is gone
    assert lines[-1] == "ok"
    assert "stray.h: No such file" in done.stderr and not (prefix.path / "bin/x").exists()
    # what was found in the shell is told at its end
    end = done.stderr.partition("Warning: ")[2]
    assert "belongs to port stray, which needs does not declare" in end and "in phase build" in end
    assert f"{prefix.path}/bin/x" in end


def test_the_failed_phase_is_the_default_and_others_can_be_named(failed: tuple[Prefix, Result]) -> None:
    prefix, _ = failed
    assert "FLAVOUR=plain" in shell(prefix.argv("-t", "shell", "needs"), "env").stdout
    configure = shell(prefix.argv("-t", "shell", "--phase", "configure", "needs"), "echo $CC $CFLAGS; env").stdout
    assert configure.splitlines()[0].endswith("-Os") and "FLAVOUR" not in configure
    report = prefix.path / "report.json"
    words = prefix.argv("-t", "--report", report, "shell", "needs", "--phase=destroot")
    assert shell(words, f"cat {prefix.path}/include/stray.h").returncode == 1
    assert '"phase": "destroot"' in report.read_text() and "include/stray.h" in report.read_text()


def test_a_later_failure_is_the_default(failed: tuple[Prefix, Result]) -> None:
    prefix, _ = failed
    portdir = prefix.add_port(
        "devel", "needs2", PORTFILE.replace("needs", "needs2").replace("cat ${prefix}", ": ${prefix}")
    )
    result = prefix.fails("-D", portdir, "-t", "test")
    (line,) = SHELL_LINE.findall(result.err)
    assert f"-D {portdir} shell needs2 --phase test" in line
    report = prefix.path / "report2.json"
    assert shell(prefix.argv("-t", "--report", report, "shell", "needs2"), "exit 0").returncode == 0
    assert '"phase": "test"' in report.read_text()
    # what works is not the default any more
    prefix.port("-t", "destroot", "needs2")
    assert shell(line, "cat needs2-1.0/made").stdout.splitlines()[-1] == "ok"


def test_without_t_it_is_the_same_place_without_the_fence(failed: tuple[Prefix, Result]) -> None:
    prefix, _ = failed
    done = shell(
        prefix.argv("shell", "needs"), f"id -un; echo $FLAVOUR; head -c 2 {prefix.path}/include/stray.h; kill -9 $$"
    )
    assert done.stdout.splitlines()[-2:] == ["plain", "/*"]
    assert done.returncode == 128 + signal.SIGKILL and done.stderr == ""


def test_a_changed_portfile_does_not_cost_the_work_directory(failed: tuple[Prefix, Result]) -> None:
    prefix, _ = failed
    portfile = prefix.tree / "devel/needs/Portfile"
    before = portfile.read_text()
    portfile.write_text(before + "# edited\n")
    try:
        done = shell(prefix.argv("-t", "shell", "needs"), "cat needs-1.0/made")
    finally:
        portfile.write_text(before)
    assert done.stdout == "ok\n" and "was changed since this work directory was made" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("needs", "--phase", "nosuch"), 2, 'no shell for the phase "nosuch": expected one of fetch, checksum'),
        (("needs", "--phase", "activate"), 2, 'no shell for the phase "activate"'),
        (("needs", "--phase"), 2, "--phase needs the name of a phase"),
        (("needs", "-doc"), 1, 'was started with the variants "+doc", not "-doc"'),
        (("nosuch",), 1, "port nosuch not found in"),
        (("foo",), 1, "there is no work directory of foo ("),
        (("needs", "foo"), 2, "port shell takes one port"),
        ((), 2, "port shell takes one port"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    failed: tuple[Prefix, Result], words: tuple[str, ...], status: int, said: str
) -> None:
    prefix, _ = failed
    result = prefix.fails("-t", "shell", *words)
    assert said in result.err and len(result.err.splitlines()) == 1 and result.status == status


def test_where_nothing_was_built_the_message_names_a_line_that_does(prefix: Prefix) -> None:
    err = prefix.fails("-t", "shell", "tally", "+doc").err
    assert err.endswith(" makes one\n"), err
    assert shell(err.rpartition("; ")[2].removesuffix(" makes one\n"), "").returncode == 0
    assert shell(prefix.argv("-t", "shell", "tally"), "ls").stdout.split()[0] == "tally-1.0"


# --- on a terminal -------------------------------------------------------------------------------------------------


def enter(prefix: Prefix) -> Terminal:
    terminal = Terminal(prefix.argv("-t", "shell", "needs"), SHELL="/bin/bash")
    terminal.read("[needs build] ")
    return terminal


def test_a_person_at_a_terminal(failed: tuple[Prefix, Result]) -> None:
    prefix, _ = failed
    terminal = enter(prefix)
    assert "A shell in the work directory of needs, as build works there" in terminal.text
    terminal.type("test -t 0 && echo is-a-$((40+2))-terminal; echo $- $FLAVOUR\r")
    terminal.read("is-a-42-terminal")
    terminal.read("plain")
    # job control, and Ctrl-C ends the program and not the shell, nor port
    terminal.type("sleep 97.5\r")
    time.sleep(0.5)
    terminal.type("\x03")
    terminal.read("[needs build] ")
    terminal.type("sleep 97.5\r")
    time.sleep(0.5)
    terminal.type("\x1a")
    terminal.read("Stopped")
    terminal.type("kill %1; wait; echo $((6*7))-lives\r")
    terminal.read("42-lives")
    terminal.type(f"cat {prefix.path}/include/stray.h\r")
    terminal.read("No such file or directory")
    terminal.type("exit 5\r")
    assert os.waitstatus_to_exitcode(terminal.wait()) == 5
    assert "belongs to port stray, which needs does not declare" in terminal.text
    assert "sleep 97.5" not in " ".join(processes_of("macports" if os.geteuid() == 0 else "root").values())


@pytest.mark.parametrize("how", ["TERM", "hang up"])
def test_it_ends_with_port(failed: tuple[Prefix, Result], how: str) -> None:
    prefix, _ = failed
    terminal = enter(prefix)
    terminal.type("sleep 97.75 & echo $((6*7))-started\r")
    terminal.read("42-started")
    if how == "TERM":
        os.kill(terminal.pid, signal.SIGTERM)
    else:
        terminal.hang_up()
    ended = os.waitstatus_to_exitcode(terminal.wait())
    assert ended == -(signal.SIGTERM if how == "TERM" else signal.SIGHUP)
    assert not [line for line in _processes() if "sleep 97.75" in line]
    assert str(terminal.pid) not in sessions()


def _processes() -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found
