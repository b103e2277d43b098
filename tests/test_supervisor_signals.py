"""Signals of a program, while the supervisor makes a call in its place: the call is made once, and a wait ends."""

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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile long seen;
static void on(int number) { seen++; }
static void every(int microseconds, int flags)
{
    struct sigaction action = { .sa_handler = on, .sa_flags = flags };
    struct itimerval t = { { 0, microseconds }, { 0, microseconds } };
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &t, NULL);
}
"""

ONCE = """int main(void)
{
    int failed = 0;
    every(100, SA_RESTART);
    for (int i = 0; i < 2000; i++)
        failed += mkdir("d", 0755) + rename("d", "e") + rmdir("e") != 0;
    printf("%d %d", failed, seen > 100);
    return 0;
}
"""

#: A fifo that nobody opens to write, unless a handler has run five times.
WAITS = """static void *opens(void *flags)
{
    while (seen < 5)
        usleep(1000);
    return (void *)(long)open("p", O_WRONLY);
}
int main(void)
{
    pthread_t other;
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    mkfifo("p", 0644);
    every(50000, 0);
    int r = open("p", O_RDONLY);
    printf("%d ", r < 0 ? errno : 0);
    pthread_sigmask(SIG_BLOCK, &alarm, NULL); /* of the other thread */
    pthread_create(&other, NULL, opens, NULL);
    pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
    seen = 0;
    every(50000, SA_RESTART);
    r = open("p", O_RDONLY);
    printf("%d %d", r < 0 ? errno : 0, seen >= 5);
    return 0;
}
"""

#: More than the socket holds, to a reader that does not read until handlers have run.
SENDS = """int main(void)
{
    const size_t all = 4000000;
    int s[2];
    long got = 0, sent = 0, n;
    char *data = calloc(1, all);
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    if (!fork()) {
        close(s[0]);
        usleep(400000);
        while ((n = read(s[1], data, all)) > 0)
            got += n;
        printf("%ld", got);
        return 0;
    }
    close(s[1]);
    every(50000, SA_RESTART);
    int parts = 0;
    while (sent < all) {
        struct iovec v = { data, all - sent };
        struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
        n = sendmsg(s[0], &m, 0);
        if (n < 0)
            return 1;
        sent += n;
        parts += n < all;
    }
    struct itimerval none = { { 0, 0 }, { 0, 0 } };
    setitimer(ITIMER_REAL, &none, NULL);
    shutdown(s[0], SHUT_WR);
    wait(NULL);
    printf(" %ld %d", sent, parts > 1);
    return 0;
}
"""


@pytest.fixture
def work() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(dir="/var/tmp"))
    base.chmod(0o755)
    (base / "work").mkdir()
    if os.geteuid() == 0:
        shutil.chown(base / "work", "macports", "macports")
    yield base / "work"
    shutil.rmtree(base)


def said(work: Path, text: str) -> str:
    """What the program says, compiled statically."""
    source = work.parent / "x.c"
    source.write_text(HEAD + text)
    subprocess.run(["gcc", "-O1", "-w", "-static", "-o", work / "x", source], check=True)
    write = Filemap([Rule(os.fsencode(work), Action.ALLOW)])
    policy = Policy(read=Filemap([Rule(b"/", Action.ALLOW)]), write=write)
    with Session(Identity.named("macports") if os.geteuid() == 0 else Identity.current()) as session:
        trace = session.start(policy, work)
        done = subprocess.run(
            [*trace.launch_argv, "./x"], cwd=work, capture_output=True, text=True, check=False, timeout=30
        )
        trace.stop()
    assert done.stderr == ""
    return done.stdout


def test_a_signal_does_not_make_a_call_twice(work: Path) -> None:
    """A directory that is made, then made again because a handler ran meanwhile, would be there already."""
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    if release < (5, 19):
        pytest.skip("NOT CHECKED: this kernel interrupts what is under way")
    assert said(work, ONCE) == "0 1"


def test_what_waits_hears_a_signal(work: Path) -> None:
    """As the kernel has it: EINTR, or once more after the handler where that was asked for."""
    assert said(work, WAITS) == "4 0 1"


def test_a_signal_in_the_middle_of_a_long_message_sends_nothing_twice(work: Path) -> None:
    """What went out counts, as the kernel counts it: only the rest is sent by the next call."""
    assert said(work, SENDS) == "4000000 4000000 1"
