"""The supervisor: what the library cannot enter is decided all the same, and nothing of it is fail-open."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ground import BUSYBOX, NEEDS, Ground

from porttrace.errors import PorttraceError
from porttrace.supervisor import Supervisor

pytestmark = NEEDS


def test_a_directory_deeper_than_the_kernel_tells(ground: Ground) -> None:
    """A static program works there as anywhere, and finds nothing hidden from there."""
    depth = 22
    script = f"""
        part=$(printf %0200d 0); up=..
        for i in $(seq {depth}); do mkdir $part && cd -P $part || exit 9; up=$up/..; done
        echo own text > own; ln -s {ground.base}/hidden/file link; ln -s own here
        cat own here ../$part/own; ls; cat $up/outside/file
        cat $up/hidden/file link /proc/self/cwd/$up/hidden/file; echo x > $up/outside/new
        chmod 700 $up/outside/file; true
    """
    done = ground.sh(script)
    assert done.stdout == "own text\n" * 3 + "here\nlink\nown\noutside text\n", done
    assert done.stderr.count("hidden/file': No such file or directory") == 2, done.stderr
    assert "'link': No such file or directory" in done.stderr
    assert not (ground.base / "outside" / "new").exists()
    found = {(f.kind, f.path) for f in ground.findings()}
    assert ("hidden", f"{ground.base}/hidden/file") in found, found
    assert ("write-outside", f"{ground.base}/outside/file") in found, found


def test_a_static_program_sees_what_a_dynamic_one_sees(ground: Ground) -> None:
    done = ground.sh(
        "cat ../hidden/file; ls ..; cat ../outside/file; echo new > made; cat made; echo x > ../outside/file"
    )
    assert done.stdout == "outside\nwork\noutside text\nnew\n"
    assert "can't open '../hidden/file': No such file or directory" in done.stderr
    assert "can't create ../outside/file: Permission denied" in done.stderr
    found = {(f.kind, f.path, f.access) for f in ground.findings()}
    assert ("hidden", str(ground.base / "hidden/file"), "read") in found
    assert ("write-outside", str(ground.base / "outside/file"), "write") in found


def test_the_program_is_named(ground: Ground) -> None:
    done = ground.run("/bin/sh", "-c", f"{BUSYBOX} cat ../hidden/file; true")
    assert "No such file" in done.stderr
    (finding,) = [f for f in ground.findings() if f.kind == "hidden"]
    (program,) = finding.programs
    assert program.exe == os.path.realpath(BUSYBOX)
    assert [Path(parent).name for parent in program.parents] == ["dash"]


def test_children_of_a_static_program_stay_held(ground: Ground) -> None:
    done = ground.sh(
        "env -i /bin/cat ../hidden/file; (cat ../hidden/file); setsid cat ../hidden/file; "
        "/bin/sh -c 'cat ../hidden/file'"
    )
    assert "hidden text" not in done.stdout
    assert done.stderr.count("No such file or directory") == 4


def test_listing_leaves_hidden_entries_out(ground: Ground) -> None:
    for number in range(3000):
        (ground.base / f"many{number:04}").touch()
    assert len(ground.sh("ls ..").stdout.split()) == 3002


@pytest.mark.parametrize(("program", "flag"), [("work/w", "-static"), ("w", "-O1")], ids=["supervisor", "tracelib"])
def test_a_watch_tells_no_hidden_name(ground: Ground, program: str, flag: str) -> None:
    """Of a directory with hidden entries nothing that is in it is told, of any other all."""
    source = ground.base / "w.c"
    source.write_text(
        "#include <stdio.h>\n#include <sys/inotify.h>\n#include <unistd.h>\nint main(int c, char **v) {\n"
        "char b[4096] __attribute__((aligned(8))); struct inotify_event *e = (void *)b; int w = inotify_init();\n"
        'printf("%d\\n", inotify_add_watch(w, "..", IN_ALL_EVENTS) > 0 && inotify_add_watch(w, ".", IN_CREATE) > 0);\n'
        "fflush(stdout); for (int last = 0; last != 2;) { int n = read(w, b, sizeof b);\n"
        "for (char *p = b; p < b + n; p += sizeof *e + e->len) puts((e = (void *)p)->name), last = e->wd;\n"
        "} return 0; }\n"
    )
    subprocess.run(["gcc", "-w", flag, "-o", ground.base / program, source], check=True)
    words = [*ground.trace.launch_argv, str(ground.base / program)]
    with subprocess.Popen(words, cwd=ground.base / "work", stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "1\n"
        assert list((ground.base / "hidden").iterdir())
        (ground.base / "work/new").touch()
        assert child.stdout.read() == "new\n"


def test_what_goes_around_all_files_is_refused(ground: Ground) -> None:
    """The machine's ports, another kernel, modules: refused also where this kernel has no such call."""
    source = ground.base / "d.c"
    source.write_text(
        "#include <errno.h>\n#include <stdio.h>\n#include <sys/syscall.h>\n#include <unistd.h>\nint main(void) {\n"
        "long calls[] = { SYS_kexec_load, SYS_kexec_file_load, SYS_delete_module, SYS_init_module,\n"
        "#ifdef SYS_iopl\nSYS_iopl, SYS_ioperm,\n#endif\n};\n"
        "for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++)\n"
        'if (syscall(calls[i], 0, 0, 0, 0, 0) != -1 || errno != EPERM) printf("%ld: %d\\n", calls[i], errno);\n'
        'puts("tried"); return 0; }\n'
    )
    subprocess.run(["gcc", "-w", "-static", "-o", ground.base / "work/d", source], check=True)
    assert ground.run(str(ground.base / "work/d")).stdout == "tried\n"


def test_redirecting_an_open_file_works(ground: Ground) -> None:
    done = ground.sh(
        "exec 3<file; head -c4 <&3; cat <&3; for i in 1 2 3; do echo $i; done | while read x; do cat file; done"
    )
    assert done.stdout == "work text\n" * 4


def test_fifos_block_the_program_and_nobody_else(ground: Ground) -> None:
    assert ground.sh("mkfifo p; (sleep 0.2; echo through > p) & cat p; wait").stdout == "through\n"


def test_many_fifos_on_a_busy_machine(ground: Ground) -> None:
    """What waits is looked at now and then; that never comes between a program and the descriptor that it is given."""
    each = "mkfifo p$i; (sleep 0.1; echo through$i > p$i) & cat p$i > out$i &"
    spin = "(i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done) &"
    script = f"{spin * 8} for i in $(seq 200); do {each} done; wait; cat out* | sort -u | wc -l"
    assert ground.sh(script).stdout.split() == ["200"]


def test_statements_about_oneself(ground: Ground) -> None:
    """/proc/self means the one that asks, whoever looks it up."""
    done = ground.sh("readlink /proc/self/cwd; cat /proc/self/comm; ls -d /proc/self/fd")
    assert done.stdout == f"{ground.base}/work\ncat\n/proc/self/fd\n"


def test_permissions_of_files_hold(ground: Ground) -> None:
    """What the supervisor opens for a program, the program could have opened itself."""
    if os.geteuid() != 0 or ground.session.identity.uid == 0:
        pytest.skip("needs a root session and another build user")
    secret = ground.base / "work" / "roots"
    secret.write_text("of root\n")
    secret.chmod(0o600)
    done = ground.sh("cat roots")
    assert done.stdout == ""
    assert "Permission denied" in done.stderr


def test_many_at_a_time(ground: Ground) -> None:
    script = "for i in $(seq 40); do cat file ../hidden/file & done 2>/dev/null; wait"
    running = [
        subprocess.Popen(
            [*ground.trace.launch_argv, BUSYBOX, "sh", "-c", script],
            cwd=ground.base / "work", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        for _ in range(4)
    ]  # fmt: skip
    assert [child.communicate(timeout=30)[0] for child in running] == [b"work text\n" * 40] * 4


def test_signals_in_the_middle_do_no_harm(ground: Ground) -> None:
    done = ground.sh(
        "for i in $(seq 30); do (while :; do stat file; done) & sleep 0.01; kill -9 $!; done >/dev/null 2>&1; cat file"
    )
    assert done.stdout == "work text\n", done


def test_a_stopped_supervisor_hands_over_what_it_was_about_to(ground: Ground) -> None:
    """A program's open must not end with another descriptor: 0 would be its standard input, read in silence."""
    assert ground.sh("true").returncode == 0
    supervisor = ground.trace._supervisor
    assert supervisor is not None and supervisor.pid is not None
    child = subprocess.Popen(
        [*ground.trace.launch_argv, BUSYBOX, "sh", "-c", "for i in $(seq 1000); do cat file; done"],
        cwd=ground.base / "work", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    out: list[tuple[str, str]] = []
    reader = threading.Thread(target=lambda: out.append(child.communicate(timeout=60)))
    reader.start()
    while reader.is_alive():
        os.kill(supervisor.pid, signal.SIGSTOP)
        os.kill(supervisor.pid, signal.SIGCONT)
        reader.join(0.001)
    assert (child.returncode, out) == (0, [("work text\n" * 1000, "")])


def test_a_program_that_gets_no_processor_still_goes_to_its_directory(ground: Ground) -> None:
    """What it is handed it takes when it runs again: on a full machine long after the supervisor's next tick."""
    cpu = {min(os.sched_getaffinity(0))}

    def last_of_all() -> None:
        os.sched_setaffinity(0, cpu)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

    spin = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(spin, preexec_fn=lambda: os.sched_setaffinity(0, cpu)) as other:
        try:
            script = "mkdir sub; for i in 1 2 3 4 5 6; do cd sub; cd ..; done; pwd"
            done = ground.run(BUSYBOX, "sh", "-c", script, preexec_fn=last_of_all)
        finally:
            other.kill()
    assert (done.stdout, done.stderr) == (f"{ground.base}/work\n", "")


def test_without_a_supervisor_nothing_starts(ground: Ground) -> None:
    """Closed, not open: a static program that nobody would watch is refused."""
    (ground.trace.directory / "supervise").unlink()
    done = ground.sh("cat ../hidden/file")
    assert (done.returncode, done.stdout) == (125, "")
    assert "no supervisor answers" in done.stderr


def test_when_the_supervisor_dies_calls_fail(ground: Ground) -> None:
    child = subprocess.Popen(
        [*ground.trace.launch_argv, BUSYBOX, "sh", "-c", "read x; cat ../hidden/file; cat file"],
        cwd=ground.base / "work", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    supervisor = ground.trace._supervisor
    assert supervisor is not None
    patience = time.monotonic() + 20  # it starts when the first program asks for it
    while supervisor.pid is None and time.monotonic() < patience:
        time.sleep(0.02)
    assert supervisor.pid is not None
    time.sleep(0.3)
    os.kill(supervisor.pid, signal.SIGKILL)
    time.sleep(0.1)
    out, _ = child.communicate("\n", timeout=10)
    assert "text" not in out


def test_strangers_at_the_socket(ground: Ground) -> None:
    path = str(ground.trace.directory / "supervise")
    spare = os.open("/dev/null", os.O_RDONLY)
    hello = b"porttrace-supervise 2"
    hello += bytes(-len(hello) % 4)  # the number of the descriptor follows
    for said in (
        b"",
        b"x" * 5000,
        hello,
        hello + (-1).to_bytes(4, sys.byteorder, signed=True),
        hello + (9999).to_bytes(4, sys.byteorder),
        hello + spare.to_bytes(4, sys.byteorder),
    ):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            stranger.connect(path)
            if said:
                stranger.send(said)
                stranger.settimeout(5)
                assert stranger.recv(10) == b""
    os.close(spare)
    assert ground.sh("cat file").stdout == "work text\n"


def test_a_cut_event_file_costs_the_report_only(ground: Ground) -> None:
    os.truncate(ground.trace.directory / "events", 0)
    done = ground.sh("cat ../hidden/file; cat file")
    assert done.stdout == "work text\n"
    supervisor = ground.trace._supervisor
    assert supervisor is not None
    assert supervisor.running


def test_an_event_file_that_is_cut_later_costs_the_report_only(ground: Ground) -> None:
    assert ground.sh("cat file").stdout == "work text\n"
    test_a_cut_event_file_costs_the_report_only(ground)


def test_it_starts_with_the_first_program_that_needs_it(ground: Ground) -> None:
    supervisor = ground.trace._supervisor
    assert supervisor is not None
    subprocess.run(["true"], env={**os.environ, **ground.trace.env}, check=True)
    assert not supervisor.running, "a dynamic program needs none"
    assert ground.sh("cat ../hidden/file; cat file").stdout == "work text\n"
    assert supervisor.running
    first = supervisor.pid
    assert first in ground.session.spared
    assert ground.sh("cat file").stdout == "work text\n"
    assert supervisor.pid == first, "one for all"
    ground.trace.stop()
    assert not supervisor.running


def test_one_that_does_not_start_is_told_and_nothing_runs_unheld(ground: Ground) -> None:
    supervisor = ground.trace._supervisor
    assert supervisor is not None
    supervisor._program = Path("/bin/false")
    done = ground.sh("cat ../hidden/file; cat file")
    assert done.returncode != 0
    assert done.stdout == ""
    assert [line for line in ground.session.notices if line.startswith("static programs run untraced: ")]


def test_all_of_a_tree(ground: Ground) -> None:
    """Under the supervisor alone a dynamic program is held like a static one."""
    with_it = [word for word in ground.trace.launch_argv[:-1] if not word.startswith("--supervise")]
    done = subprocess.run(
        [*with_it, "--supervise", "--no-preload", "--", "/bin/sh", "-c", "cat ../hidden/file; ls ..; cat file"],
        cwd=ground.base / "work", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "outside\nwork\nwork text\n"


def test_a_go_program(ground: Ground) -> None:
    if shutil.which("go") is None:
        pytest.skip("no go compiler here")
    source = ground.base / "x.go"
    source.write_text(
        'package main\nimport ("fmt"; "os"; "sync")\nfunc main() {\n\tvar wait sync.WaitGroup\n'
        '\tfor i := 0; i < 8; i++ { wait.Add(1); go func() { defer wait.Done(); _, e := os.ReadFile("../hidden/file"); '
        'if e == nil || !os.IsNotExist(e) { fmt.Println("saw", e) } }() }\n\twait.Wait()\n'
        '\tt, e := os.ReadFile("file")\n\tfmt.Print(string(t), e, "\\n")\n'
        '\te = os.WriteFile("../outside/file", []byte("x"), 0644)\n\tfmt.Println(os.IsPermission(e))\n}\n'
    )
    env = {**os.environ, "GOCACHE": str(ground.base / "cache"), "GO111MODULE": "off", "CGO_ENABLED": "0", "HOME": "/"}
    subprocess.run(["go", "build", "-o", ground.base / "work/x", source], env=env, check=True, cwd=ground.base)
    assert ground.run("./x").stdout == "work text\n<nil>\ntrue\n"
    assert ("hidden", 8) in [(f.kind, f.count) for f in ground.findings()]


def test_it_ends_with_the_trace(ground: Ground) -> None:
    supervisor = ground.trace._supervisor
    assert supervisor is not None
    pid = supervisor.pid
    ground.trace.stop()
    assert not Path(f"/proc/{pid}").exists()


def test_a_directory_without_a_policy_is_told(tmp_path: Path) -> None:
    with pytest.raises(PorttraceError, match=r"policy: No such file"):
        Supervisor(tmp_path).start()


def test_a_supervised_stat_costs_little(ground: Ground) -> None:
    """A wide bound for busy machines: the synchronous wake-up alone makes the difference between 9 and 54 µs."""
    source = ground.base / "s.c"
    source.write_text(
        "#include <stdio.h>\n#include <sys/stat.h>\n#include <time.h>\n"
        "int main(void) { struct stat s; struct timespec a, b; double best = 1e9;\n"
        "for (int k = 0; k < 20; k++) { clock_gettime(CLOCK_MONOTONIC, &a); for (int i = 0; i < 500; i++) "
        'stat("/usr/bin/env", &s);\nclock_gettime(CLOCK_MONOTONIC, &b);\n'
        "double t = ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / 500; if (t < best) best = t; }\n"
        'printf("%f", best / 1000); return 0; }\n'
    )
    subprocess.run(["gcc", "-O1", "-static", "-o", ground.base / "work/s", source], check=True)
    assert float(ground.run("./s").stdout) < 30


def test_it_ends_with_port_whatever_happens(tmp_path: Path) -> None:
    script = (
        "import os, sys, time\nfrom pathlib import Path\nfrom porttrace.filemap import Filemap\n"
        "from porttrace.policy import Policy\nfrom porttrace.session import Session\n"
        "with Session() as s:\n"
        "    t = s.start(Policy(Filemap(), Filemap(), None, None, frozenset()), Path(sys.argv[1]))\n"
        "    t._supervisor.start()\n    print(t._supervisor.pid, flush=True)\n    time.sleep(60)\n"
    )
    port = subprocess.Popen([sys.executable, "-P", "-c", script, tmp_path], stdout=subprocess.PIPE, text=True)
    assert port.stdout is not None
    pid = int(port.stdout.readline())
    port.kill()
    port.wait()
    for _ in range(100):
        if not Path(f"/proc/{pid}/exe").exists():
            break
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}/exe").exists()
