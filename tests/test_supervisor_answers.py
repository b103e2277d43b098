"""The supervisor answers as the library would, redirects and live asks too, and lets nothing past unseen."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from porttrace.filemap import Action, Filemap, Rule
from porttrace.identity import Identity
from porttrace.policy import Ownership, Policy
from porttrace.session import Session
from porttrace.supervisor import supervisor_available

BUSYBOX = "/bin/busybox"
pytestmark = [
    pytest.mark.skipif(not supervisor_available(), reason="NOT CHECKED: no seccomp user notification in this kernel"),
    pytest.mark.skipif(not Path(BUSYBOX).exists(), reason="NOT CHECKED: the package busybox-static is not installed"),
]


@pytest.fixture
def place() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(dir="/var/tmp"))
    base.chmod(0o755)
    for name in ("work", "hidden", "outside", "target"):
        (base / name).mkdir()
        (base / name / "file").write_text(f"{name} text\n")
        for path in (base / name, base / name / "file"):
            if os.geteuid() == 0:
                shutil.chown(path, "macports", "macports")
    yield base
    shutil.rmtree(base)


def who() -> Identity:
    return Identity.named("macports") if os.geteuid() == 0 else Identity.current()


def run(
    policy: Policy, place: Path, *words: str | Path
) -> tuple[subprocess.CompletedProcess[str], list[tuple[str, str]]]:
    """The command in a session of its own, and what was found (kind, path)."""
    with Session(who()) as session:
        trace = session.start(policy, place / "work")
        done = subprocess.run(
            [*trace.launch_argv, *map(str, words)],
            cwd=place / "work",
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={"PATH": "/usr/bin:/bin"},
        )
        return done, [(f.kind, f.path) for f in trace.stop().findings]


def rules(place: Path, *read: Rule) -> Policy:
    write = Filemap([Rule(os.fsencode(place / "work"), Action.ALLOW), Rule(b"/dev/null", Action.ALLOW)])
    return Policy(read=Filemap([*read, Rule(b"/", Action.ALLOW)]), write=write)


def hidden(place: Path) -> Rule:
    return Rule(os.fsencode(place / "hidden"), Action.DENY)


def compiled(place: Path, text: str, *flags: str) -> Path:
    source = place / "x.c"
    source.write_text("#define _GNU_SOURCE\n" + text)
    out = place / "work" / "x"
    subprocess.run(["gcc", "-O1", "-w", "-o", out, source, *flags], check=True)
    return out


def test_redirects_reach_open_stat_access_and_listing(place: Path) -> None:
    (place / "target/only").write_text("twelve bytes")
    redirect = Rule(os.fsencode(place / "hidden"), Action.REDIRECT, os.fsencode(place / "target"))
    script = (
        "cat ../hidden/file; stat -c %s ../hidden/only; test -r ../hidden/only && echo readable; "
        "test -e ../hidden/none || echo none; ls ../hidden; cd ../hidden; cat file"
    )
    done, _ = run(rules(place, redirect), place, BUSYBOX, "sh", "-c", script)
    assert done.stdout == "target text\n12\nreadable\nnone\nfile\nonly\ntarget text\n", done.stderr


def test_a_live_ask_is_answered_by_the_session(place: Path) -> None:
    directory = os.fsencode(place / "hidden")
    owners = Ownership([(directory + b"/file", "stray"), (directory + b"/other", "dependency")])
    policy = rules(place, Rule(directory, Action.ASK, live=True))
    policy.owners, policy.closure = owners, frozenset({"dependency"})
    with Session(who()) as session:
        trace = session.start(policy, place / "work")
        words = [*trace.launch_argv, BUSYBOX, "cat", str(place / "hidden/file")]
        by_image = subprocess.run(words, capture_output=True, text=True, check=False)
        assert "No such file" in by_image.stderr
        trace.answer_with(lambda path: "dependency")  # it has changed hands since the image was made
        asked = session.server.asked
        live = subprocess.run(words, capture_output=True, text=True, check=False)
        assert live.stdout == "hidden text\n", live.stderr
        assert session.server.asked > asked
        session.server.close()  # no answer: the image's stands
        none = subprocess.run(words, capture_output=True, text=True, check=False)
        assert "No such file" in none.stderr
        trace.stop()


def test_a_program_that_does_not_let_itself_be_looked_at_opens_nothing(place: Path) -> None:
    """PR_SET_DUMPABLE: then only root can read the path, and what cannot be read is not let through."""
    text = (
        "#include <fcntl.h>\n#include <stdio.h>\n#include <sys/prctl.h>\n#include <unistd.h>\n"
        "int main(int c, char **v) { char b[64]; prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); int fd = open(v[1], O_RDONLY);\n"
        'if (fd < 0) { perror("open"); return 1; } write(1, b, read(fd, b, sizeof b)); return 0; }\n'
    )
    program = compiled(place, text, "-static")
    script = (
        "import os, sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[1])\n"
        "import test_supervisor_answers as t\nfrom porttrace.identity import Identity\n"
        "t.who = Identity.current\nplace = Path(sys.argv[2])\n"
        "done, _ = t.run(t.rules(place, t.hidden(place)), place, sys.argv[3], place / 'hidden/file')\n"
        "print(done.stdout, done.stderr, done.returncode)\n"
    )
    drop = ["setpriv", "--reuid=macports", "--regid=macports", "--clear-groups"] if os.geteuid() == 0 else []
    words = [*drop, sys.executable, "-c", script, str(Path(__file__).parent), str(place), str(program)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/", env={"PATH": os.environ["PATH"]})
    if "ModuleNotFoundError" in done.stderr or "PermissionError" in done.stderr or "Permission denied:" in done.stderr:
        pytest.skip("NOT CHECKED: the user macports cannot get at this checkout")
    assert "hidden text" not in done.stdout
    assert done.stdout.split()[-1] == "1", done.stdout + done.stderr


@pytest.mark.parametrize("flags", [["-static"], ["-static-pie"], []])
def test_files_are_made_with_the_programs_own_umask_and_ids(place: Path, flags: list[str]) -> None:
    text = (
        "#include <fcntl.h>\n#include <sys/stat.h>\n#include <unistd.h>\n"
        'int main(void) { umask(027); int fd = open("made", O_CREAT | O_RDONLY, 0666);\n'
        'return fd < 0 || write(fd, "x", 1) == 1; }\n'
    )
    done, _ = run(rules(place, hidden(place)), place, compiled(place, text, *flags))
    assert done.returncode == 0, done.stderr
    info = (place / "work/made").stat()
    assert (info.st_mode & 0o777, info.st_uid) == (0o640, who().uid)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="NOT CHECKED: one processor only, none to be kept from")
def test_a_program_keeps_its_processors(place: Path) -> None:
    """While it receives a descriptor it is kept on one."""
    text = """
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>
int main(void)
{
	cpu_set_t before, after;
	sched_getaffinity(0, sizeof before, &before);
	for (int i = 0; i < 1000; i++) {
		close(open("/etc/passwd", O_RDONLY));
		if (sched_getaffinity(0, sizeof after, &after) || !CPU_EQUAL(&before, &after))
			return 1;
	}
	return 0;
}
"""
    done, _ = run(rules(place, hidden(place)), place, compiled(place, text, "-D_GNU_SOURCE", "-static"))
    assert done.returncode == 0


def test_metadata_changes_are_done_and_refused_like_a_dynamic_programs(place: Path) -> None:
    script = (
        "chmod 600 file && chmod 700 . && touch -d '2001-01-01 00:00:00' file && stat -c '%a %Y' file; "
        "chmod 600 ../outside/file; touch -d '2001-01-01' ../outside/file; touch new; ln -s file l; readlink l"
    )
    (place / "work/file").chmod(0o644)
    done, found = run(rules(place, hidden(place)), place, BUSYBOX, "env", "TZ=UTC", BUSYBOX, "sh", "-c", script)
    assert done.stdout == "600 978307200\nfile\n", done.stderr
    assert done.stderr.count("Permission denied") == 2
    assert ("write-outside", str(place / "outside/file")) in found


@pytest.mark.parametrize(
    ("line", "error", "found"),
    [
        (b"#! /bin/true\n", 0, False),
        (b"#!{hidden}\n", errno.ENOENT, True),
        (b"#!" + b" " * 300 + b"{hidden}\n", errno.ENOEXEC, False),  # the kernel reads 256 bytes, and finds no name
        (b"#!/bin/true\0{hidden}\n", 0, False),
    ],
)
def test_the_line_of_a_script_is_read_as_the_kernel_does(place: Path, line: bytes, error: int, found: bool) -> None:
    secret = place / "hidden/file"
    secret.chmod(0o755)
    script = place / "work/script"
    script.write_bytes(line.replace(b"{hidden}", os.fsencode(secret)))
    script.chmod(0o755)
    text = (
        "#include <errno.h>\n#include <sys/wait.h>\n#include <unistd.h>\n"
        "int main(void) { int status; if (fork() == 0) {\n"
        'char *words[] = { "script", 0 }; execv("script", words); _exit(errno); }\n'
        "wait(&status); return WEXITSTATUS(status); }\n"
    )
    done, said = run(rules(place, hidden(place)), place, compiled(place, text, "-static"))
    assert done.returncode == error, done.stderr
    assert (("hidden", str(secret)) in said) == found, said


def test_a_fifo_blocks_only_the_program_that_opens_it(place: Path) -> None:
    script = (
        "mkfifo p; (sleep 0.3; echo through > p) & cat p; wait; "
        "(cat p & c=$!; sleep 0.2; kill $c; wait $c); sleep 0.1; echo on > p & sleep 0.1; cat p"
    )
    done, _ = run(rules(place, hidden(place)), place, BUSYBOX, "sh", "-c", script)
    assert done.stdout == "through\non\n", done.stderr


def test_strace_and_gdb_like_tools_still_work_on_what_they_start(place: Path) -> None:
    """A supervised program may trace its children: they are held as it is."""
    text = """
        #include <stdio.h>
        #include <signal.h>
        #include <sys/ptrace.h>
        #include <sys/wait.h>
        #include <unistd.h>
        int main(void) {
            int s;
            pid_t p = fork();
            if (!p) { ptrace(PTRACE_TRACEME, 0, 0, 0); raise(SIGSTOP); _exit(7); }
            waitpid(p, &s, 0);
            if (!WIFSTOPPED(s)) return 1;
            ptrace(PTRACE_CONT, p, 0, 0);
            waitpid(p, &s, 0);
            p = fork();
            if (!p) { pause(); _exit(0); }
            if (ptrace(PTRACE_SEIZE, p, 0, 0)) return 2;
            kill(p, SIGKILL);
            puts("traced");
            return 0;
        }
    """
    done, _ = run(rules(place, hidden(place)), place, compiled(place, text, "-static"))
    assert done.stdout == "traced\n"


def test_what_the_build_made_is_supervised_and_the_systems_own_is_not(place: Path) -> None:
    state = '#include <stdlib.h>\nint main(void) { return system("grep Seccomp: /proc/self/status"); }\n'
    own = compiled(place, state)
    done, _ = run(rules(place, hidden(place)), place, "/bin/sh", "-c", f"grep Seccomp: /proc/self/status; {own}")
    assert done.stdout.split() == ["Seccomp:", "0", "Seccomp:", "2"]
    script = "import ctypes\nprint([l for l in open('/proc/self/status') if l.startswith('Seccomp:')])"
    done, _ = run(rules(place, hidden(place)), place, "/bin/sh", "-c", f'/usr/bin/python3 -c "{script}"')
    assert "2" in done.stdout


REACHES = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
void *mmap64(void *, size_t, int, int, int, off_t);

static int held(void)
{
    char line[256];
    int found = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        sscanf(line, "Seccomp: %d", &found);
    fclose(f);
    return found;
}

int main(int argc, char **argv)
{
    const char *how = argv[1];
    int before = held(), raw = !strncmp(how, "number ", 7), status;
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), byte = 0;
    struct iovec here = { &byte, 1 }, there = { page, 1 };
    how += raw ? 7 : 0;
    if (!strcmp(how, "mmap"))
        raw ? syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
            : (long)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    else if (!strcmp(how, "mmap64"))
        mmap64(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    else if (!strcmp(how, "mprotect"))
        raw ? syscall(SYS_mprotect, page, 4096, PROT_READ | PROT_EXEC) : mprotect(page, 4096, PROT_READ | PROT_EXEC);
    else if (!strcmp(how, "pkey_mprotect"))
        raw ? syscall(SYS_pkey_mprotect, page, 4096, PROT_READ | PROT_EXEC, -1)
            : pkey_mprotect(page, 4096, PROT_READ | PROT_EXEC, -1);
    else if (!strcmp(how, "ptrace"))
        raw ? syscall(SYS_ptrace, PTRACE_PEEKTEXT, 0, 0, 0) : ptrace(PTRACE_PEEKTEXT, 0, 0, 0);
    else if (!strcmp(how, "process_vm_writev"))
        raw ? syscall(SYS_process_vm_writev, getpid(), &here, 1, &there, 1, 0)
            : process_vm_writev(getpid(), &here, 1, &there, 1, 0);
    else if (!strcmp(how, "traceme")) {   /* it alone, not its parent */
        if (!fork()) {
            ptrace(PTRACE_TRACEME, 0, 0, 0);
            _exit(held());
        }
        wait(&status);
        printf("%d %d %d\n", before, held(), WEXITSTATUS(status));
        return 0;
    }
    printf("%d %d\n", before, held());
    return 0;
}
"""


@pytest.fixture(scope="module")
def reaches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("reaches") / "reaches.c"
    source.write_text(f"#define _GNU_SOURCE\n{REACHES}")
    subprocess.run(["gcc", "-O1", "-w", "-o", source.with_suffix(""), source], check=True)
    return source.with_suffix("")


@pytest.mark.parametrize(
    "how",
    [
        *("mmap", "mmap64", "mprotect", "pkey_mprotect", "ptrace", "process_vm_writev", "traceme", "nothing"),
        *(f"number {name}" for name in ("mmap", "mprotect", "pkey_mprotect", "ptrace", "process_vm_writev")),
    ],
)
def test_a_program_is_supervised_from_when_it_reaches_past_the_library(place: Path, reaches: Path, how: str) -> None:
    """Code of its own making, another process's memory. The program is not the build's, so it is not held before."""
    program = Path(shutil.copy(reaches, place / "outside"))
    done, _ = run(rules(place, hidden(place)), place, program, how)
    assert done.stdout == {"nothing": "0 0\n", "traceme": "0 0 2\n"}.get(how, "0 2\n"), done.stderr


ROOTS_RIGHTS = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/xattr.h>
#include <unistd.h>
#define SAY(call) { errno = 0; long r = (long)(call); printf("%s %d %d\n", #call, r >= 0, r < 0 ? errno : 0); }
int main(int count, char **words) {
    char b[4096];
    chdir(words[1]); /* /proc/PID of a process of root */
    int fd = -1;
    SAY(fd = open("maps", O_RDONLY)) SAY(read(fd, b, 99) > 0 ? 0 : -1) SAY(open("environ", O_RDONLY))
    SAY(open("mem", O_RDONLY)) SAY(readlink("exe", b, 99)) SAY(readlink("cwd", b, 99))
    SAY(readlink("/proc/self/exe", b, 99) > 0) SAY(open("/proc/self/maps", O_RDONLY))
    SAY(open("/proc/self/mem", O_RDWR)) SAY(open("stat", O_RDONLY)) SAY(open("/proc/cpuinfo", O_RDONLY))
    chdir(words[2]);
    SAY(open("/proc/sys/kernel/printk", O_CREAT | O_RDONLY)) SAY(open("/proc/sys/kernel/printk", O_CREAT | O_WRONLY))
    SAY(open("/proc/sys/kernel/printk", O_RDWR)) SAY(truncate("/proc/sys/kernel/printk", 0))
    SAY(access("/proc/sys/kernel/printk", W_OK)) SAY(getxattr("file", "trusted.x", b, 99))
    SAY(setxattr("file", "trusted.y", "y", 1, 0)) SAY(setxattr("file", "user.y", "y", 1, 0))
    SAY(chown("file", 0, 0)) SAY(chmod("/etc/passwd", 0644)) SAY(open("roots", O_RDONLY)) SAY(open("roots", O_WRONLY))
    return 0;
}
"""


def test_it_does_nothing_that_the_program_could_not_do_itself(place: Path) -> None:
    """Root's rights are not lent: not in /proc, not for kernel settings, not for attributes that only root sees."""
    if os.geteuid() != 0:
        pytest.skip("NOT CHECKED: needs root, whose rights are the question")
    program = compiled(place, ROOTS_RIGHTS, "-static")
    os.setxattr(place / "work/file", "trusted.x", b"x")
    (place / "work/roots").touch(0o600)
    everything = Policy(read=Filemap([Rule(b"/", Action.ALLOW)]), write=Filemap([Rule(b"/", Action.ALLOW)]))
    where = [f"/proc/{os.getpid()}", str(place / "work")]
    done, _ = run(everything, place, program, *where)
    words = ["setpriv", f"--reuid={who().uid}", f"--regid={who().gid}", "--clear-groups", program, *where]
    alone = subprocess.run(words, cwd=place / "work", capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == alone.stdout.splitlines()
    assert len(alone.stdout.splitlines()) == 23


WAYS = {"64-bit": ["gcc"], "32-bit": ["gcc", "-m32", "-idirafter", "/usr/include/x86_64-linux-gnu"]}


@pytest.mark.parametrize("way", WAYS)
def test_what_it_does_in_a_programs_place_goes_as_without_it(place: Path, way: str) -> None:
    """Ground truth is the same program where nobody stands in between."""
    me = who()
    said = []
    for supervised in (True, False):
        shutil.rmtree(place / "work")
        for name in ("work", "work/acl", "work/sticky", "work/roots"):
            (place / name).mkdir()
        for name in ("sticky/roots", "roots/hers"):
            (place / "work" / name).touch()
        if os.geteuid() == 0:
            shutil.chown(place / "work", me.uid, me.gid)
            shutil.chown(place / "work/acl", me.uid, me.gid)
        (place / "work/sticky").chmod(0o1777)
        # setfacl -d -m u::rwx,g::r-x,o::r--: takes the place of the umask
        entries = ((1, 7), (4, 5), (0x20, 4))
        acl = b"\2\0\0\0" + b"".join(struct.pack("<HHI", tag, mode, 0xFFFFFFFF) for tag, mode in entries)
        os.setxattr(place / "work/acl", "system.posix_acl_default", acl)
        program = place / "work/x"
        source = Path(__file__).parent / "supervised_calls.c"
        words = [*WAYS[way], "-D_GNU_SOURCE", "-O1", "-w", "-static", "-o", program, source, "-lpthread"]
        if subprocess.run(words, capture_output=True, check=False).returncode:
            pytest.skip(f"NOT CHECKED: no compiler for {way} programs")
        if supervised:
            write = Filemap([Rule(os.fsencode(p), Action.ALLOW) for p in (place / "work", "/dev", "/proc")])
            policy = Policy(read=Filemap([hidden(place), Rule(b"/", Action.ALLOW)]), write=write)
            done, _ = run(policy, place, program)
        else:
            alone = ["setpriv", f"--reuid={me.uid}", f"--regid={me.gid}", "--clear-groups"] if os.geteuid() == 0 else []
            done = subprocess.run(
                [*alone, program], cwd=place / "work", capture_output=True, text=True, check=False, timeout=60
            )
        assert done.returncode == 0, (supervised, done)
        said.append(done.stdout.splitlines())
    assert said[0] == said[1]
    assert len(said[1]) > 280


LIMITS = """
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#define SAY(call) do { long r = call; printf("%s ", r ? "no" : "yes"); } while (0)
int main(void)
{
	struct { unsigned long long soft, hard; } old, few = { 7, 7 };
	unsigned long narrow[2] = { 7, 7 };
	SAY(syscall(SYS_prlimit64, 0, RLIMIT_LOCKS, 0, &old));
	SAY(syscall(SYS_prlimit64, 0, RLIMIT_LOCKS, &few, 0));
	SAY(syscall(SYS_prlimit64, getpid(), RLIMIT_LOCKS, &few, 0));
	SAY(syscall(SYS_setrlimit, RLIMIT_LOCKS, narrow));
	SAY(syscall(SYS_prlimit64, 0, RLIMIT_CORE, &few, 0));
	SAY(syscall(SYS_setrlimit, RLIMIT_CORE, narrow));
	SAY(syscall(SYS_prlimit64, 0, RLIMIT_CORE, 0, &few));
	printf("%d %d %d\\n", old.soft == old.hard, (int)(old.hard >> 62), (int)few.soft);
	return 0;
}
"""


@pytest.mark.parametrize("way", WAYS)
def test_nobody_gets_rid_of_what_tells_whose_he_is(place: Path, way: str) -> None:
    source, program = place / "work/limits.c", place / "work/limits"
    source.write_text(LIMITS)
    words = [*WAYS[way], "-O1", "-w", "-static", "-o", program, source]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip(f"NOT CHECKED: no compiler for {way} programs")
    done, _ = run(rules(place, hidden(place)), place, program)
    assert done.stdout == "yes no no no yes yes yes 1 1 7\n", done


@pytest.mark.parametrize("tool", ["gdb", "strace"])
def test_the_systems_own_debuggers_change_no_program_that_nobody_holds(place: Path, tool: str) -> None:
    """What is started by them they may change as ever: it is held as they are, and finds nothing hidden."""
    if shutil.which(tool) is None:
        pytest.skip(f"NOT CHECKED: {tool} is not installed")
    attach = {"gdb": "gdb -nx -batch -p $p -ex detach", "strace": "timeout 1 strace -p $p"}[tool]
    started = {
        "gdb": "gdb -nx -batch -ex 'set startup-with-shell off' -ex run --args /bin/cat file ../hidden/file",
        "strace": "strace -f -e trace=openat /bin/cat file ../hidden/file",
    }[tool]
    script = f"sleep 5 & p=$!; {attach} 2>&1; kill $p; {started} 2>&1; true"
    done, _ = run(rules(place, hidden(place)), place, "/bin/sh", "-c", script)
    assert "Operation not permitted" in done.stdout, done
    assert "work text" in done.stdout, done
    assert "hidden text" not in done.stdout


def test_memory_is_written_as_a_file_only_where_the_supervisor_lets_it(place: Path) -> None:
    policy = rules(place, hidden(place))
    policy.write.append(Rule(b"/proc", Action.ALLOW))
    script = "sleep 5 & p=$!; dd if=/dev/null of=/proc/$p/mem conv=notrunc; echo $?; kill $p"
    done, _ = run(policy, place, "/bin/sh", "-c", script)
    assert done.stdout == "1\n", done
    assert "Permission denied" in done.stderr
    done, _ = run(policy, place, "/bin/sh", "-c", "dd if=/dev/null of=/proc/self/mem conv=notrunc; echo $?")
    assert done.stdout == "0\n", done


BECOMES = r"""
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#define SAY(call, path) do { errno = 0; long r = (call); int e = errno; struct stat s; \
    printf("%s: %d %d", #call, r >= 0, r < 0 ? e : 0); \
    if (!lstat(path, &s)) printf(" %d:%d %o", s.st_uid, s.st_gid, s.st_mode); puts(""); } while (0)
static void work(const char *who) {
    char dir[32], file[64];
    printf("as %s\n", who);
    snprintf(dir, sizeof dir, "by-%s", who);
    snprintf(file, sizeof file, "open/%s", who);
    SAY(mkdir(dir, 0755), dir);
    SAY(open(file, O_CREAT | O_WRONLY, 0640), file);
    SAY(open("roots", O_RDONLY), "none");
    SAY(open("roots", O_WRONLY), "none");
    SAY(chown(file, 77, 77), file);
    SAY(unlink("sticky/roots"), "sticky/roots");
    SAY(truncate("roots", 0), "none");
    SAY(open("of-group", O_RDONLY), "none");
    SAY(open("/proc/1/environ", O_RDONLY), "none");
    SAY(open("/proc/self/environ", O_RDONLY), "none");
    fflush(stdout);
}
static void forked(int how, uid_t uid, gid_t gid) {
    gid_t groups[] = { 78, 79 };
    struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct none[2] = { { 0 } };
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        if (how == 1) { setgroups(0, NULL); setresgid(gid, gid, gid); setresuid(uid, uid, uid); work("user"); }
        if (how == 2) { setgroups(2, groups); setfsuid(uid); work("fsuser"); setfsuid(0); work("again"); }
        if (how == 3) { setegid(gid); seteuid(uid); work("effective"); }
        if (how == 4) { syscall(SYS_capset, &h, none); work("bare"); }
        exit(0);
    }
    waitpid(pid, NULL, 0);
}
int main(int count, char **words) {
    uid_t uid = atoi(words[1]);
    gid_t gid = atoi(words[2]);
    umask(0);
    work("root");
    for (int how = 1; how <= 4; how++)
        forked(how, uid, gid);
    work("last");
    return 0;
}
"""


@pytest.mark.parametrize("way", WAYS)
def test_a_program_of_roots_that_becomes_somebody_else_is_somebody_else(place: Path, way: str) -> None:
    """What is done in its place is done with its ids, groups and capabilities of that moment."""
    if os.geteuid() != 0:
        pytest.skip("NOT CHECKED: needs root, who alone can become somebody else")
    user = Identity.named("macports")
    source, program = place / "becomes.c", place / "work/x"
    source.write_text("#define _GNU_SOURCE\n" + BECOMES)
    said = []
    for supervised in (True, False):
        shutil.rmtree(place / "work")
        for name, mode in (("work", 0o755), ("work/open", 0o777), ("work/sticky", 0o1777)):
            (place / name).mkdir()
            (place / name).chmod(mode)
        for name, mode in (("roots", 0o600), ("sticky/roots", 0o666), ("of-group", 0o040)):
            (place / "work" / name).touch()
            (place / "work" / name).chmod(mode)
        os.chown(place / "work/of-group", 0, 78)
        if subprocess.run([*WAYS[way], "-w", "-static", "-o", program, source], check=False).returncode:
            pytest.skip(f"NOT CHECKED: no compiler for {way} programs")
        words = [str(program), str(user.uid), str(user.gid)]
        write = Filemap([Rule(os.fsencode(p), Action.ALLOW) for p in (place / "work", "/proc")])
        policy = Policy(read=Filemap([hidden(place), Rule(b"/", Action.ALLOW)]), write=write)
        with Session(Identity(0, 0, (0,), "root")) as session:
            trace = session.start(policy, place / "work")
            command = [*trace.launch_argv, *words] if supervised else words
            done = subprocess.run(command, cwd=place / "work", capture_output=True, text=True, check=False, timeout=60)
            trace.stop()
        assert done.returncode == 0, done
        said.append(done.stdout.splitlines())
    assert said[0] == said[1]
    assert len(said[1]) == 77


OTHER_USERS = r"""
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static int reads(void) {
    int fd = open("of-somebody", O_RDONLY);
    return fd < 0 ? errno : 0;
}
static void say(const char *how, long pid) {
    int status = 0;
    if (!pid)
        _exit(reads());
    waitpid(pid, &status, 0);
    printf("%s: %s\n", how, pid < 0 ? "no child" : strerror(WEXITSTATUS(status)));
    fflush(stdout);
}
int main(int count, char **words) {
    const char *how = count > 1 ? words[1] : "";
    if (!strcmp(how, "clone"))
        say(how, syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
    if (!strcmp(how, "clone3")) {
        uint64_t args[8] = { CLONE_NEWUSER, 0, 0, 0, SIGCHLD };
        long pid = syscall(SYS_clone3, args, sizeof args);
        say(how, pid < 0 && errno == ENOSYS ? syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0) : pid);
    }
    if (!strcmp(how, "setns")) {
        int users = open(words[2], O_RDONLY);
        if (users < 0 || setns(users, CLONE_NEWUSER))
            perror("setns");
    }
    say("child", fork());
    return 0;
}
"""


@pytest.mark.parametrize("entry", ["clone", "clone3", "setns", "unshare", "bounded", "noroot", "plain"])
@pytest.mark.parametrize("way", WAYS)
def test_among_other_users_root_has_no_rights_here(place: Path, way: str, entry: str) -> None:
    """In another user namespace, or with fewer capabilities, a program of root may do as much as without us."""
    if os.geteuid() != 0:
        pytest.skip("NOT CHECKED: needs root, whose capabilities the supervisor has")
    source, program, somebodys = place / "users.c", place / "work/x", place / "work/of-somebody"
    source.write_text("#define _GNU_SOURCE\n" + OTHER_USERS)
    if subprocess.run([*WAYS[way], "-w", "-static", "-o", program, source], check=False).returncode:
        pytest.skip(f"NOT CHECKED: no compiler for {way} programs")
    place.joinpath("work").chmod(0o755)
    os.chown(place / "work", 0, 0)
    somebodys.touch()
    somebodys.chmod(0o600)
    os.chown(somebodys, 77, 77)
    words = {
        "unshare": ["unshare", "--user"],
        "bounded": ["setpriv", "--bounding-set=-all"],
        "noroot": ["setpriv", "--securebits=+noroot"],
    }.get(entry, [])
    policy = rules(place, hidden(place))
    policy.audit = entry == "setns"  # refused otherwise
    said = []
    with subprocess.Popen(["unshare", "--user", "sleep", "60"]) as others:
        users = Path(f"/proc/{others.pid}/ns/user")
        while users.readlink() == Path("/proc/self/ns/user").readlink():
            time.sleep(0.01)
        for supervised in (True, False):
            with Session(Identity(0, 0, (0,), "root")) as session:
                trace = session.start(policy, place / "work")
                command = [*words, str(program), entry, str(users)]
                done = subprocess.run(
                    [*trace.launch_argv, *command] if supervised else command,
                    cwd=place / "work", capture_output=True, text=True, check=False, timeout=60,
                )  # fmt: skip
                trace.stop()
            assert done.returncode == 0, done
            assert not done.stderr, done
            said.append(done.stdout)
        others.kill()
    assert said[0] == said[1]
    assert ("Permission denied" in said[1]) == (entry != "plain")


def test_programs_that_ask_nothing_take_no_place_from_others(place: Path) -> None:
    """What was started is looked at when it asks something, or when many have not."""
    quiet = place / "work/quiet"
    source = place / "quiet.c"
    pause = '__asm__ volatile("syscall" : : "a"(34L) : "rcx", "r11")'
    source.write_text(f"void _start(void) {{ for (;;) {pause}; }}\n")
    subprocess.run(["gcc", "-O1", "-static", "-nostdlib", "-o", quiet, source], check=True)
    text = """
        #include <errno.h>
        #include <fcntl.h>
        #include <signal.h>
        #include <stdio.h>
        #include <sys/wait.h>
        #include <unistd.h>
        int main(void) {
            int pids[150], failed = 0, p[2];
            char *argv[] = { "quiet", NULL };
            for (int i = 0; i < 150; i++) {
                char byte;
                pipe2(p, O_CLOEXEC);
                if (!(pids[i] = fork())) {
                    execve("./quiet", argv, NULL);
                    write(p[1], "x", 1);
                    _exit(1);
                }
                close(p[1]);
                failed += read(p[0], &byte, 1) == 1;
                close(p[0]);
            }
            for (int i = 0; i < 150; i++) { kill(pids[i], SIGKILL); waitpid(pids[i], NULL, 0); }
            printf("%d failed\\n", failed);
            return 0;
        }
    """
    done, _ = run(rules(place, hidden(place)), place, compiled(place, text, "-static"))
    assert done.stdout == "0 failed\n", done


def test_the_library_lets_no_keys_be_typed(place: Path) -> None:
    """Asked of what is no terminal: there the kernel, whichever it is, says ENOTTY, and only our own refusal is EIO."""
    ask = """
import fcntl, os
fd = os.open("/dev/null", os.O_RDWR)
for request in (0x5412, 0x541C, 0x5401):
    try:
        fcntl.ioctl(fd, request, bytes(64))
    except OSError as error:
        print(error.errno, end=" ")
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("Seccomp:")])
"""
    done, _ = run(rules(place), place, "/usr/bin/python3", "-c", ask)
    assert done.stdout == "5 5 25 ['0']\n", done  # no supervisor: the library's answer
