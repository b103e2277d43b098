"""The core as a co-process: what happens when it dies, hangs or cannot start, and that nothing of it is left."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pace import pace
from test_tcl_package import LIBRARY, command, run, scratch  # noqa: F401 - scratch is a fixture

from porttrace.tclbridge import tcllist
from porttrace.tiers import available_tiers


@pytest.fixture(params=["tclsh8.6", "tclsh9.0"])
def tclsh(request: pytest.FixtureRequest) -> str:
    """A Tcl that needs the co-process."""
    command(request.param)
    return str(request.param)


def script(directory: Path, body: str) -> Path:
    path = directory / "script.tcl"
    path.write_text(
        "lassign $argv scratch library\nset dir $library/porttrace\nsource $dir/pkgIndex.tcl\n"
        "package require porttrace\n"
        "file mkdir $scratch/work\n"
        "proc attempt {script} {\n"
        "    set begun [clock milliseconds]\n"
        "    set failed [catch {uplevel 1 $script} message options]\n"
        "    puts [list $failed $message [expr {$failed ? [dict get $options -errorcode] : {}}]]\n"
        "    puts [expr {[clock milliseconds] - $begun}]\n"
        "}\n" + body,
        encoding="utf-8",
    )
    return path


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def gone(pid: int, seconds: float = 3.0) -> bool:
    """Whether a process ends within a time."""
    end = time.monotonic() + seconds
    while alive(pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_killed_core(tclsh: str, scratch: Path) -> None:  # noqa: F811
    done = run(
        tclsh,
        script(
            scratch,
            "porttrace::trace_start $scratch/work\n"
            "exec kill -KILL [porttrace::call pid]\n"
            "after 50\n"
            "attempt {exec true}\n"  # nothing runs untraced
            "attempt {exec true}\n"
            "attempt {open /root/any}\n"  # what the policy leaves open needs no answer, this does
            "attempt {porttrace::trace_check_violations}\n"
            "attempt {porttrace::trace_stop}\n"
            "puts [info exists env(LD_PRELOAD)][llength [interp alias {} ::exec]]\n"
            "porttrace::trace_start $scratch/work\n"  # a new phase gets a new core
            "puts [exec echo again]\n"
            "porttrace::trace_stop\n",
        ),
        str(scratch),
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout
    failed, message, code = tcllist.split(lines[0])
    assert (failed, code) == ("1", "PORTTRACE CORE DIED")
    assert message.startswith("porttrace: the core ") and message.endswith("its trace is lost")
    for line in lines[2:8:2]:
        failed, message, code = tcllist.split(line)
        assert (failed, code) == ("1", "PORTTRACE CORE DIED"), done.stdout
    assert lines[8].startswith("0 "), done.stdout
    assert lines[-2:] == ["00", "again"], done.stdout


def test_a_request_that_finds_the_core_gone(tclsh: str, scratch: Path) -> None:  # noqa: F811
    """Whether its end or a broken pipe is seen first, what is said is the same."""
    done = run(
        tclsh,
        script(
            scratch,
            "set core [porttrace::call pid]\n"
            "set ask {\n"
            "    exec kill -KILL $core\n"
            "    after 200\n"
            "    porttrace::pipe::send 77 {x pid}\n"
            "}\n"
            "if {$porttrace::transport::thread eq {none}} {\n"
            "    eval $ask\n"
            "    puts [lrange [dict get $porttrace::transport::answers 77] 1 2]\n"
            "} else {\n"
            "    thread::send $porttrace::transport::thread [list set core $core]\n"
            "    thread::send $porttrace::transport::thread $ask\n"
            "    puts [lrange [tsv::get porttrace_answers 77] 1 2]\n"
            "}\n",
        ),
        str(scratch),
    )
    message, code = tcllist.split(done.stdout)
    assert message == "porttrace: the core has ended unexpectedly; its trace is lost", done.stdout
    assert code == "PORTTRACE CORE DIED"


def test_hung_core(tclsh: str, scratch: Path) -> None:  # noqa: F811
    done = run(
        tclsh,
        script(
            scratch,
            "porttrace::trace_start $scratch/work\n"
            "set core [porttrace::call pid]\n"
            "exec kill -STOP $core\n"
            "attempt {porttrace::tracelib::command closesocket}\n"
            "puts [info exists env(LD_PRELOAD)][llength [interp alias {} ::exec]]\n"
            "puts $core\n",
        ),
        str(scratch),
    )
    lines = done.stdout.splitlines()
    failed, message, code = tcllist.split(lines[0])
    assert (failed, code) == ("1", "PORTTRACE CORE HUNG"), done.stdout
    assert message == "porttrace: the core has not answered for 4.0 seconds and was ended; its trace is lost"
    assert 4000 <= int(lines[1]) < 5000
    assert lines[2] == "00", "this process has back what it gave up"
    assert gone(int(lines[3])), "a core that hangs is ended"


def test_no_python(tclsh: str, scratch: Path) -> None:  # noqa: F811
    done = run(
        tclsh,
        script(scratch, "attempt {porttrace::trace_start $scratch/work}\n"),
        str(scratch),
        PORTTRACE_PYTHON="/nowhere/python3",
    )
    assert "no Python to run the core with (tried /nowhere/python3): set PORTTRACE_PYTHON" in done.stdout, done.stdout
    assert done.returncode == 0


def test_python_without_porttrace(tclsh: str, scratch: Path) -> None:  # noqa: F811
    python = shutil.which("python3", path="/usr/bin:/bin")
    assert python is not None
    if subprocess.run([python, "-I", "-c", "import porttrace"], capture_output=True, check=False).returncode == 0:
        pytest.skip("NOT CHECKED: the system's Python has porttrace")
    done = run(
        tclsh,
        script(scratch, "attempt {porttrace::trace_start $scratch/work}\n"),
        str(scratch),
        PORTTRACE_PYTHON=python,
    )
    assert "PORTTRACE CORE DIED" in done.stdout, done.stdout


@pytest.mark.parametrize("ending", ["", "exit 0\n", "exec kill -KILL [pid]\n", "error oops\n"])
def test_ends_with_its_program(tclsh: str, scratch: Path, ending: str) -> None:  # noqa: F811
    done = run(
        tclsh,
        script(
            scratch,
            "porttrace::trace_start $scratch/work\n"
            "puts [pid]\nputs [porttrace::call pid]\nflush stdout\nporttrace::inport::uninstall\n" + ending,
        ),
        str(scratch),
    )
    port, core = map(int, done.stdout.splitlines()[:2])
    if "KILL" in ending:
        assert gone(core)
    else:
        assert not alive(core), "the core is gone before its program is"
    assert not Path(f"/tmp/macports/{port}").exists()


def test_start_cost(tclsh: str, scratch: Path) -> None:  # noqa: F811
    """The co-process needs at most 80 ms of a processor until it answers (the clock also counts its neighbours)."""
    done = run(
        tclsh,
        script(
            scratch,
            "porttrace::call hello utf-8\n"
            "set channel [open /proc/[porttrace::call pid]/schedstat]\nputs [lindex [gets $channel] 0]\n",
        ),
        str(scratch),
    )
    assert int(done.stdout.split()[0]) / 1e6 <= 80 * pace(), done.stdout


def test_a_core_loads_no_more_than_a_phase_needs() -> None:
    """What costs milliseconds at each start and is of use in rare cases only."""
    rare = ["tempfile", "subprocess", "platform", "importlib.resources", "zipfile", "tarfile", "zstandard", "secrets",
            "dataclasses", "inspect", "json", "porttrace.archive", "porttrace.absent", "porttrace.sipcopy", "tkinter",
            "argparse", "shutil", "bz2", "lzma"]  # fmt: skip
    script = (
        "import sys, porttrace.tclbridge.coprocess\n"
        "from porttrace.tclbridge.backend import Backend\n"
        "Backend.prepare()\nprint(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "porttrace.session" in loaded
    assert not loaded & set(rare)


def test_threads_share_the_core(tclsh: str, scratch: Path) -> None:  # noqa: F811
    done = run(
        tclsh,
        script(
            scratch,
            "if {[catch {package require Thread}]} {puts none; exit}\n"
            "set t [thread::create]\n"
            "thread::send $t [list package ifneeded porttrace 1.1 [package ifneeded porttrace 1.1]]\n"
            "puts [thread::send $t {package require porttrace 1.0; porttrace::call pid}]\n"
            "puts [porttrace::call pid]\n",
        ),
        str(scratch),
    )
    assert done.returncode == 0, done.stdout
    if done.stdout == "none\n":
        pytest.skip(f"NOT CHECKED: {tclsh} has no Thread package; each interpreter has a core of its own there")
    first, second = done.stdout.split()
    assert first == second


def core_told(said: bytes) -> subprocess.CompletedProcess[bytes]:
    """A core by itself that is told this, and then nothing more."""
    argv = [sys.executable, "-I", "-m", "porttrace.tclbridge.coprocess"]
    return subprocess.run(argv, input=said, capture_output=True, timeout=10, check=False)


def test_protocol_garbage() -> None:
    done = core_told(b"GET / HTTP/1.0\r\n\r\n")
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"not its protocol" in done.stderr


def test_a_request_of_too_few_words_is_answered() -> None:
    done = core_told(b"0\n1\nx8\nx finish6\n{} pid")
    assert (done.returncode, done.stderr) == (0, b"")
    answers = done.stdout.decode().splitlines()[1:]
    assert [answer.split()[0] for answer in answers] == ["error", "error", "ok", "ok"], done.stdout


def test_no_descriptor_reaches_children(tclsh: str, scratch: Path) -> None:  # noqa: F811
    """A build's background process must not keep the core alive by holding its pipe."""
    done = run(
        tclsh,
        script(
            scratch,
            "set core [porttrace::call pid]\n"
            "puts [exec sh -c {ls -l /proc/self/fd | grep -c pipe}]\n"
            "puts [exec readlink /proc/$core/fd/0]\n",
        ),
        str(scratch),
    )
    pipes, stdin = done.stdout.split()[:2]
    assert stdin == "/dev/null"
    assert int(pipes) <= 3, "standard output and error, and the one that grep reads"


if sys.platform == "darwin":
    pytest.skip("NOT CHECKED on macOS: /proc is used to look at processes", allow_module_level=True)


@pytest.mark.skipif("supervisor" not in available_tiers(), reason="this machine has no supervisor")
def test_the_supervisor_of_a_configure_script_is_there_before_it_is_asked_for(scratch: Path) -> None:  # noqa: F811
    """A core with nothing to do starts it, once; that of a build may never be needed."""
    argv = [sys.executable, "-I", "-m", "porttrace.tclbridge.coprocess"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as core:
        assert core.stdin is not None and core.stdout is not None

        def tell(*words: str) -> None:
            assert core.stdin is not None and core.stdout is not None
            said = " ".join(words).encode()
            core.stdin.write(b"%d\n%s" % (len(said), said))
            core.stdin.flush()
            while not (length := int(core.stdout.readline())):
                pass  # it is still at work
            assert core.stdout.read(length).startswith(b"ok "), words

        def supervisors() -> list[str]:
            lists = [each.read_text() for each in Path(f"/proc/{core.pid}/task").glob("*/children")]
            children = " ".join(lists).split()
            return [pid for pid in children if b"/supervisor" in Path(f"/proc/{pid}/cmdline").read_bytes()]

        for phase, wanted in (("configure", 1), ("build", 0)):
            tell("{}", "context", "phase", phase)
            tell("{}", "trace_start", str(scratch))
            deadline = time.monotonic() + 10
            while len(supervisors()) < wanted and time.monotonic() < deadline:
                time.sleep(0.02)
            for _ in range(3):
                tell("{}", "pid")
                time.sleep(0.2)
            assert len(supervisors()) == wanted, phase
            tell("{}", "finish")
            assert not supervisors()
        core.stdin.close()
