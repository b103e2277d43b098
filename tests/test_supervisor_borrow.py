"""What the supervisor makes a program's own thread do (chdir, O_PATH), and bind: as the kernel answers, and once."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
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

HEAD = """#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
static int e(long r) { return r < 0 ? errno : 0; }
"""

#: Compared with the same without porttrace, line by line.
SAME = """static const char *where(void)
{
    static char buf[4096];
    char *end = getcwd(buf, sizeof buf) ? strrchr(buf, '/') : NULL;
    return end ? end : "nowhere";
}
static void named(const char *path, unsigned size)
{
    static struct sockaddr_un a, b;
    socklen_t n = sizeof b;
    struct stat st = { 0 };
    int s = socket(AF_UNIX, SOCK_DGRAM, 0);
    memset(&b, 0, sizeof b);
    a.sun_family = AF_UNIX;
    strcpy(a.sun_path, path);
    int r = e(bind(s, (void *)&a, size ? size : 3 + strlen(path)));
    getsockname(s, (void *)&b, &n);
    lstat(path, &st);
    printf("bind %d %s %u %o %d\\n", r, b.sun_path, size == 2 ? 0 : n, st.st_mode, e(bind(s, (void *)&a, sizeof a)));
}
static void kept(const char *path, int flags)
{
    char text[16];
    struct stat st = { 0 };
    int fd = open(path, O_PATH | flags), error = e(fd);
    printf("%s %o: %d %d %o %d ", path, flags, fd, error, fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
    printf("%d %d ", e(read(fd, text, 1)), e(fstat(fd, &st)));
    printf("%o %d\\n", st.st_mode, e(openat(fd, "..", O_RDONLY | O_DIRECTORY)));
    close(fd);
    closefrom(3);
}
int main(void)
{
    static char *ways[] = { "d", "..", "way", "..", "unlisted", "..", "closed", "f", "f/", "none", "link", "", NULL };
    int status;
    mkdir("d", 0755), mkdir("unlisted", 0311), mkdir("closed", 0);
    close(open("f", O_CREAT | O_WRONLY, 0));
    symlink("f", "link"), symlink("d", "way");
    for (char **p = ways; *p; p++) {
        int r = e(chdir(*p));
        printf("chdir %s %d %s\\n", *p, r, strcmp(*p, "..") ? where() : "");
    }
    kept("f", 0), kept("f", O_CLOEXEC), kept("d", 0), kept("d", O_DIRECTORY), kept("f", O_DIRECTORY), kept("closed", 0);
    kept("link", 0), kept("link", O_NOFOLLOW), kept("link", O_NOFOLLOW | O_DIRECTORY);
    kept("none", 0), kept("closed/x", 0);
    umask(027);
    named("sock", 0), named("sock", 0), named("d/../d/sock", 0), named("d/cut", 5);
    named("closed/sock", 0), named("none/sock", 0);
    named("f/sock", 0), named("link", 0), named("d/", 0), named("any", 2);
    if (!vfork()) {
        chdir("d");
        _exit(access("sock", F_OK));
    }
    wait(&status);
    printf("vfork %d %d\\n", status, access("f", F_OK));
    struct rlimit_ { unsigned long a, b; } one = { 3, 3 };
    setrlimit(7, (void *)&one);
    printf("full %d\\n", e(open("d", O_PATH)));
    return 0;
}
"""

#: Handlers run all the time, and none is lost or runs in the middle.
SIGNALS = """static volatile long seen;
static void on(int number) { seen++; }
int main(void)
{
    struct sigaction action = { .sa_handler = on, .sa_flags = SA_RESTART };
    struct itimerval t = { { 0, 100 }, { 0, 100 } };
    int failed = 0;
    mkdir("d", 0755);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &t, NULL);
    for (int i = 0; i < 1000; i++) {
        int fd = open("d", O_PATH);
        failed += fd != 3 || close(fd) || chdir("d") || chdir("..");
    }
    printf("%d %d", failed, seen > 50);
    return 0;
}
"""

#: The thread that is made to do it is killed, or its process executes another program, at any moment.
ENDS = """static void *goes(void *unused)
{
    for (;;) {
        close(open(".", O_PATH));
        chdir(".");
    }
}
static void *execs(void *unused)
{
    usleep(1000 + rand() % 3000);
    execl("./x", "x", "new", NULL);
    return NULL;
}
int main(int argc, char **argv)
{
    int good = 0, status;
    pthread_t t;
    if (argc > 1)
        return chdir("/") ? 1 : 7;
    for (int i = 0; i < 60; i++) {
        pid_t child = fork();
        srand(i);
        if (!child) {
            if (i % 2)
                pthread_create(&t, NULL, execs, NULL);
            goes(NULL);
        }
        if (i % 2 == 0) {
            usleep(2000 + rand() % 3000);
            kill(child, SIGKILL);
        }
        waitpid(child, &status, 0);
        good += i % 2 ? WIFEXITED(status) && WEXITSTATUS(status) == 7 : WIFSIGNALED(status);
    }
    printf("%d %d", good, chdir("/"));
    return 0;
}
"""

#: Another program traces it: there the kernel does it, as ever.
TRACED = """int main(void)
{
    int status;
    pid_t child = fork();
    if (!child) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        return chdir("/") || open(".", O_PATH) != 3;
    }
    waitpid(child, &status, 0);
    printf("%d ", WIFSTOPPED(status));
    ptrace(PTRACE_CONT, child, 0, 0);
    waitpid(child, &status, 0);
    printf("%d", WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return 0;
}
"""

#: Stopped and continued by job control meanwhile.
STOPPED = """int main(void)
{
    int status;
    pid_t child = fork();
    if (!child) {
        for (int i = 0; i < 1000; i++)
            if (chdir(".") || close(open(".", O_PATH)))
                return 1;
        return 0;
    }
    while (waitpid(child, &status, WNOHANG) == 0) {
        kill(child, SIGSTOP);
        usleep(300);
        kill(child, SIGCONT);
        usleep(1000);
    }
    printf("%d", status);
    return 0;
}
"""

WAYS = {"64": ["-static"], "32": ["-m32", "-idirafter", "/usr/include/x86_64-linux-gnu"]}


def who() -> Identity:
    return Identity.named("macports") if os.geteuid() == 0 else Identity.current()


@pytest.fixture(params=WAYS)
def work(request: pytest.FixtureRequest) -> Iterator[tuple[Path, list[str]]]:
    base = Path(tempfile.mkdtemp(dir="/var/tmp"))
    base.chmod(0o755)
    (base / "work").mkdir()
    if os.geteuid() == 0:
        shutil.chown(base / "work", "macports", "macports")
    yield base / "work", WAYS[request.param]
    subprocess.run(["chmod", "-R", "u+rwx", base], check=True)
    shutil.rmtree(base)


def compiled(place: tuple[Path, list[str]], text: str) -> Path:
    work, flags = place
    source = work.parent / "x.c"
    source.write_text(HEAD + text)
    done = subprocess.run(["gcc", "-O1", "-w", "-o", work / "x", source, *flags], capture_output=True, check=False)
    if done.returncode and "-m32" in flags:
        pytest.skip("NOT CHECKED: no compiler for 32-bit programs is here")
    assert done.returncode == 0, done.stderr
    return work


def run(work: Path, *argv: str) -> str:
    done = subprocess.run([*argv, "./x"], cwd=work, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


def supervised(place: tuple[Path, list[str]], text: str) -> str:
    """What the program says under the supervisor alone."""
    work = compiled(place, text)
    write = Filemap([Rule(os.fsencode(work), Action.ALLOW)])
    policy = Policy(read=Filemap([Rule(b"/", Action.ALLOW)]), write=write)
    with Session(who(), ("supervisor", "fence")) as session:
        trace = session.start(policy, work)
        said = run(work, *trace.launch_argv)
        trace.stop()
    return said


def test_it_answers_as_the_kernel_does(work: tuple[Path, list[str]]) -> None:
    there = supervised(work, SAME)
    subprocess.run(["chmod", "-R", "u+rwx", work[0]], check=True)
    for entry in work[0].iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    user = who()
    words = ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups"] if os.geteuid() == 0 else []
    compiled(work, SAME)
    assert there.splitlines() == run(work[0], *words).splitlines()
    assert "unlisted" in there


def test_signals_come_before_or_after(work: tuple[Path, list[str]]) -> None:
    assert supervised(work, SIGNALS) == "0 1"


def test_a_program_may_end_in_the_middle(work: tuple[Path, list[str]]) -> None:
    """Killed, or replaced by another thread: the supervisor answers on."""
    assert supervised(work, ENDS) == "60 0"


def test_a_program_that_is_traced_goes_on(work: tuple[Path, list[str]]) -> None:
    assert supervised(work, TRACED) == "1 1"


def test_job_control_holds(work: tuple[Path, list[str]]) -> None:
    assert supervised(work, STOPPED) == "0"
