"""A supervised program starts another one: held before its first instruction, and else as without the supervisor."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from porttrace.filemap import Action, Filemap, Rule
from porttrace.identity import Identity
from porttrace.policy import Policy
from porttrace.session import Session
from porttrace.supervisor import supervisor_available

pytestmark = pytest.mark.skipif(
    not supervisor_available(), reason="NOT CHECKED: no seccomp user notification in this kernel"
)

BUSYBOX = "/bin/busybox"

HEAD = """#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
static char *none[] = { NULL }, *words[] = { "x", NULL };
"""

#: Says one letter, without a C library: nothing is asked after its start.
SAYS = """
void _start(void)
{
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(1L), "D"(1L), "S"("%s"), "d"(1L) : "rcx", "r11", "memory");
    __asm__ volatile("syscall" : "=a"(r) : "a"(60L), "D"(0L) : "rcx", "r11", "memory");
}
"""

#: argv[1] starts of one/says, while another process exchanges the directory with a link to the hidden one.
RACE = """int main(int argc, char **argv)
{
    pid_t swapper = fork();
    while (!swapper)
        syscall(SYS_renameat2, AT_FDCWD, "one", AT_FDCWD, "two", 2);
    int killed = 0, status;
    for (int i = 0; i < atoi(argv[1]); i++) {
        pid_t pid = fork();
        if (!pid) {
            execve("one/says", words, none);
            _exit(errno == ENOENT ? 0 : errno);
        }
        waitpid(pid, &status, 0);
        killed += status == SIGKILL;
        if (status && status != SIGKILL)
            printf("?%d?", status);
    }
    kill(swapper, SIGKILL);
    printf("\\n%d", killed);
    return 0;
}
"""

#: Compared with the same without porttrace, line by line.
FAILS = """static void try(const char *what, const char *path, char **argv)
{
    execve(path, argv, none);
    printf("%s %d\\n", what, errno);
    execveat(AT_FDCWD, path, argv, none, AT_SYMLINK_NOFOLLOW);
    printf("%s %d\\n", what, errno);
}
int main(void)
{
    static char *many[300000];
    static char name[5000];
    int fd = open("text", O_CREAT | O_WRONLY, 0755);
    write(fd, "no program", 10);
    close(fd);
    close(open("empty", O_CREAT | O_WRONLY, 0755));
    close(open("plain", O_CREAT | O_WRONLY, 0644));
    fd = open("script", O_CREAT | O_WRONLY, 0755);
    write(fd, "#!/nowhere/x\\n", 13);
    close(fd);
    mkdir("directory", 0755);
    symlink("loop", "loop");
    symlink("text", "link");
    for (int i = 0; i < 299999; i++)
        many[i] = "words that are too many for the kernel, which wants to have fewer of them";
    try("none", "none", words);
    try("text", "text", words);
    try("empty", "empty", words);
    try("plain", "plain", words);
    try("script", "script", words);
    try("directory", "directory", words);
    try("below", "text/x", words);
    try("loop", "loop", words);
    try("link", "link", words);
    try("too much", "/bin/true", many);
    try("bad words", "/bin/true", (char **)8);
    memset(name, 'x', sizeof name - 1);
    try("long", name, words);
    execve((char *)8, words, none);
    printf("bad name %d\\n", errno);
    fd = open("text", O_RDONLY);
    syscall(SYS_execveat, fd, "", words, none, AT_EMPTY_PATH);
    printf("open %d\\n", errno);
    syscall(SYS_execveat, 77, "", words, none, AT_EMPTY_PATH);
    printf("closed %d\\n", errno);
    return 0;
}
"""

#: Children by each call that makes some, and how they end.
CHILDREN = """extern char **environ;
static void *thread(void *end)
{
    execl("/bin/sh", "sh", "-c", "exit 5", NULL);
    return end;
}
static int ends(pid_t pid)
{
    int status;
    return waitpid(pid, &status, 0) == pid ? status : -1;
}
int main(void)
{
    char *sh[] = { "sh", "-c", "exit 3", NULL };
    pid_t pid = vfork();
    if (!pid) {
        execv("/bin/sh", sh);
        _exit(1);
    }
    printf("%x ", ends(pid));
    pid = vfork();
    if (!pid) {
        execv("nowhere", sh);
        _exit(errno);
    }
    printf("%x ", ends(pid));
    int r = posix_spawn(&pid, "/bin/sh", NULL, NULL, sh, environ);
    printf("%d:%x ", r, ends(pid));
    printf("%d ", posix_spawn(&pid, "nowhere", NULL, NULL, sh, environ));
    r = posix_spawnp(&pid, "sh", NULL, NULL, sh, environ);
    printf("%d:%x ", r, ends(pid));
    printf("%x ", system("exit 4"));
    pid = fork();
    if (!pid) { /* a thread that is not the first one executes: the process goes on by its number */
        pthread_t t;
        pthread_create(&t, NULL, thread, NULL);
        for (;;)
            pause();
    }
    printf("%x ", ends(pid));
    pid = fork();
    if (!pid) { /* the first thread has ended before */
        pthread_t t;
        pthread_create(&t, NULL, thread, NULL);
        pthread_exit(NULL);
    }
    printf("%x", ends(pid));
    return 0;
}
"""

#: Signals while programs start, or fail to: each is handled, none makes a call fail that would not.
SIGNALS = """static volatile int came;
static void count(int n) { came++; }
int main(void)
{
    struct itimerval often = { { 0, 200 }, { 0, 200 } };
    struct sigaction act = { .sa_handler = count, .sa_flags = SA_RESTART };
    int odd = 0, status;
    sigaction(SIGALRM, &act, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < 2000 || came < 20; i++)
        if (execve("none", words, none) != -1 || errno != ENOENT)
            odd = errno;
    setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
    printf("%d %d ", came > 0, odd);
    int ended = 0, through = 0;
    for (int i = 0; i < 300; i++) {
        pid_t pid = fork();
        if (!pid) {
            signal(SIGTERM, SIG_DFL);
            execl("/bin/sleep", "sleep", "100", NULL);
            _exit(1);
        }
        usleep(i * 7 % 1500);
        kill(pid, SIGTERM);
        if (waitpid(pid, &status, 0) == pid)
            ended += status == SIGTERM;
    }
    printf("%d ", ended);
    for (int i = 0; i < 100; i++) { /* a handler is lost with the program that has it, a signal before that is not */
        pid_t pid = fork();
        if (!pid) {
            execl("/bin/true", "true", NULL);
            _exit(1);
        }
        int seen = 0;
        while (waitpid(pid, &status, WNOHANG | WUNTRACED) != pid || WIFSTOPPED(status)) {
            kill(pid, SIGSTOP);
            if (waitpid(pid, &status, WUNTRACED) == pid && !WIFSTOPPED(status))
                break;
            kill(pid, SIGCONT);
            usleep(50 * ++seen);
        }
        through += status == 0;
    }
    printf("%d", through);
    return 0;
}
"""

#: As strace and gdb do it.
TRACED = """int main(void)
{
    int status, stops = 0;
    pid_t child = fork();
    if (!child) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        execl("./says", "says", NULL);
        return 1;
    }
    waitpid(child, &status, 0);
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEEXEC);
    for (;;) {
        ptrace(PTRACE_CONT, child, 0, 0);
        if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
            break;
        stops += status >> 8 == (SIGTRAP | PTRACE_EVENT_EXEC << 8);
    }
    printf(" %d %x", stops, status);
    return 0;
}
"""

#: Threads that execute, or try to, each in its own way; with another argument their processes are killed meanwhile.
CROWD = """static void *fails(void *p)
{
    for (;;)
        execve(p, words, none);
}
static void *works(void *p)
{
    usleep(rand() % 500);
    for (;;)
        execve("./says", words, none);
    return p;
}
int main(int argc, char **argv)
{
    int good = 0, status;
    for (int i = 0; i < atoi(argv[1]); i++) {
        pid_t pid = fork();
        if (!pid) {
            pthread_t t;
            srand(i);
            for (int j = 0; j < 8; j++)
                while (pthread_create(&t, NULL, j & 1 ? works : fails, j & 2 ? "none" : "text"))
                    ; /* EAGAIN, as long as another one is about to execute */
            if (i % 3 == 0)
                pthread_exit(NULL);
            if (i % 3 == 1)
                works(NULL);
            for (;;)
                pause();
        }
        if (argc > 2) {
            usleep(rand() % 2000);
            kill(pid, SIGKILL);
        }
        if (waitpid(pid, &status, 0) == pid && (status == 0 || (argc > 2 && status == SIGKILL)))
            good++;
        else
            printf("?%x?", status);
    }
    printf(" %d", good);
    return 0;
}
"""


def who() -> Identity:
    return Identity.named("macports") if os.geteuid() == 0 else Identity.current()


@pytest.fixture
def base() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(dir="/var/tmp"))
    base.chmod(0o755)
    for name, text in (("work", "."), ("hidden", "!")):
        (base / name).mkdir()
        (base / "x.c").write_text(SAYS % text)
        words = ["gcc", "-O1", "-w", "-nostdlib", "-static", "-o", base / name / "says", base / "x.c"]
        subprocess.run(words, check=True)
        os.chown(base / name, who().uid, who().gid)
    yield base
    shutil.rmtree(base)


def compiled(base: Path, text: str) -> None:
    (base / "x.c").write_text(HEAD + text)
    words = ["gcc", "-O1", "-w", "-static", "-o", base / "work/x", base / "x.c", "-lpthread"]
    subprocess.run(words, check=True)


def run(base: Path, *words: str, timeout: float = 60) -> str:
    done = subprocess.run(words, cwd=base / "work", capture_output=True, text=True, check=False, timeout=timeout)
    assert (done.stderr, done.returncode) == ("", 0), done
    return done.stdout


def supervised(base: Path, *words: str, more: tuple[Rule, ...] = (), timeout: float = 60) -> str:
    """What the command says under the supervisor alone."""
    read = Filemap([Rule(os.fsencode(base / "hidden"), Action.DENY), *more, Rule(b"/", Action.ALLOW)])
    write = Filemap([Rule(os.fsencode(base / "work"), Action.ALLOW), Rule(b"/dev/null", Action.ALLOW)])
    with Session(who(), ("supervisor", "fence")) as session:
        trace = session.start(Policy(read=read, write=write), base / "work")
        said = run(base, *trace.launch_argv, *words, timeout=timeout)
        trace.stop()
    return said


def ready_to_race(base: Path) -> None:
    (base / "work/one").mkdir()
    shutil.copy(base / "work/says", base / "work/one")
    (base / "work/two").symlink_to(base / "hidden")
    compiled(base, RACE)


def test_a_program_that_was_not_judged_says_nothing(base: Path) -> None:
    """It needs no file, so that nothing would be asked before it has said what it has to say."""
    ready_to_race(base)
    letters, killed = supervised(base, "./x", "1500").split("\n")
    assert "!" not in letters
    assert set(letters) == {"."}
    assert int(killed) > 20, "the race was not won once: this proves nothing"
    assert len(letters) + int(killed) <= 1500


def test_where_places_are_redirected_either(base: Path) -> None:
    ready_to_race(base)
    (base / "there").mkdir()
    elsewhere = Rule(os.fsencode(base / "elsewhere"), Action.REDIRECT, os.fsencode(base / "there"))
    letters, killed = supervised(base, "./x", "500", more=(elsewhere,)).split("\n")
    assert "!" not in letters
    assert int(killed) > 5


def test_what_fails_fails_as_without_it(base: Path) -> None:
    compiled(base, FAILS)
    there = supervised(base, "./x").splitlines()
    for path in (base / "work").iterdir():
        if path.name != "x":
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    user = who()
    words = ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups"] if os.geteuid() == 0 else []
    assert there == run(base, *words, "./x").splitlines()


def test_children_end_as_they_do(base: Path) -> None:
    compiled(base, CHILDREN)
    assert supervised(base, "./x") == "300 200 0:300 2 0:300 400 500 500"


def test_signals_come_before_or_after(base: Path) -> None:
    compiled(base, SIGNALS)
    assert supervised(base, "./x") == "1 0 300 100"


def test_a_program_that_another_one_traces_starts(base: Path) -> None:
    compiled(base, TRACED)
    assert supervised(base, "./x") == ". 1 0"


@pytest.mark.skipif(not shutil.which("strace"), reason="NOT CHECKED: strace is not installed")
def test_strace_works(base: Path) -> None:
    compiled(base, CHILDREN)
    said = supervised(base, "strace", "-f", "-qq", "-o", "trace", "-e", "trace=execve", "./x")
    assert said == "300 200 0:300 2 0:300 400 500 500"
    assert (base / "work/trace").read_text().count("execve(") >= 9


def test_threads_that_all_execute_come_to_an_end(base: Path) -> None:
    compiled(base, CROWD)
    (base / "work/text").write_text("no program")
    (base / "work/text").chmod(0o755)
    begin = time.monotonic()
    assert supervised(base, "./x", "100") == "." * 100 + " 100"
    killed = supervised(base, "./x", "100", "kill")
    assert killed.lstrip(".") == " 100"
    assert time.monotonic() - begin < 30


def test_a_shell_that_looks_along_its_path(base: Path) -> None:
    script = (
        "PATH=/nowhere:/etc:/etc/passwd:$PWD:/usr/bin:/bin; says; env true && ls x.none; no-such-program; "
        'PATH=/nowhere; env; i=0; while [ $i -lt 50 ]; do i=$((i+1)); ./says; done; echo " $?"'
    )
    said = supervised(base, "/bin/sh", "-c", f"({script}) 2>&1")
    assert said.startswith(".ls: ")
    assert "no-such-program: not found" in said
    assert "env: not found" in said
    assert said.endswith("." * 50 + " 0\n")
