"""Several workers answer the programs of one supervised tree, and share what is known of it without harm."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracelib_build import policy_sources

from porttrace import session as session_module
from porttrace.filemap import Action, Filemap, Rule
from porttrace.identity import Identity
from porttrace.policy import Ownership, Policy
from porttrace.session import Session
from porttrace.supervisor import supervisor_available
from porttrace.trace import Trace

CSRC = Path(__file__).parent.parent / "csrc"
pytestmark = pytest.mark.skipif(not supervisor_available(), reason="NOT CHECKED: no seccomp user notification here")

#: One program waits for the session's answer, and so does a second; what a third asks meanwhile is answered.
WAITING = """
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    int waits[2], begins[2];
    struct stat st;
    pipe(waits);
    pipe(begins);
    for (int i = 0; i < 2; i++)
        if (!fork()) {
            write(begins[1], "x", 1);
            int fd = open(argv[1], O_RDONLY);
            write(waits[1], fd < 0 ? "n" : "y", 1);
            _exit(0);
        }
    char c;
    for (int i = 0; i < 2; i++)
        read(begins[0], &c, 1);
    usleep(200000);
    int seen = 0;
    for (int i = 0; i < 100; i++)
        seen += stat("file", &st) == 0;
    struct pollfd p = { waits[0], POLLIN, 0 };
    printf("%d %s ", seen, poll(&p, 1, 0) ? "after" : "meanwhile");
    for (int i = 0; i < 2; i++)
        if (read(waits[0], &c, 1) == 1)
            putchar(c);
    return 0;
}
"""

#: Processes and threads that ask all kinds of things at the same time, and know what the answers must be.
STORM = """
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
static int rounds, wrong;
static const char *hidden, *self;
static void must(int ok, const char *what)
{
    if (!ok) {
        dprintf(2, "wrong: %s (%d)\\n", what, errno);
        __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
    }
}
static void *ask(void *argument)
{
    char name[64], text[16];
    struct stat st;
    for (int i = 0; i < rounds; i++) {
        must(stat("file", &st) == 0 && st.st_size == 10, "stat");
        must(stat(hidden, &st) < 0 && errno == ENOENT, "hidden stat");
        must(open(hidden, O_RDONLY) < 0 && errno == ENOENT, "hidden open");
        int fd = open("file", O_RDONLY);
        must(read(fd, text, sizeof text) == 10 && !memcmp(text, "work text\\n", 10), "read");
        close(fd);
        snprintf(name, sizeof name, "d-%d-%ld", getpid(), (long)argument);
        must(mkdir(name, 0755) == 0 && mkdir(name, 0755) < 0 && errno == EEXIST, "mkdir");
        must(rmdir(name) == 0 && rmdir(name) < 0 && errno == ENOENT, "rmdir");
        int entries = 0;
        DIR *d = opendir("..");
        while (d && readdir(d))
            entries++;
        if (d)
            closedir(d);
        must(entries == 4, "listing");
        if (i % 8 == 0) {
            int status;
            pid_t child = fork();
            if (!child) {
                execl(i % 16 ? self : hidden, "x", NULL);
                _exit(errno == ENOENT ? 7 : 8);
            }
            int expected = i % 16 ? 5 : 7;
            must(waitpid(child, &status, 0) == child && status == expected << 8, "exec");
        }
    }
    return NULL;
}
int main(int argc, char **argv)
{
    if (argc < 3)
        return access("file", R_OK) == 0 ? 5 : 6;
    self = argv[0];
    hidden = argv[1];
    rounds = atoi(argv[2]);
    int processes = atoi(argv[3]), threads = atoi(argv[4]);
    for (int i = 1; i < processes; i++)
        if (!fork())
            goto work;
work:;
    pthread_t others[16];
    for (long i = 1; i < threads; i++)
        pthread_create(&others[i], NULL, ask, (void *)i);
    ask(NULL);
    for (int i = 1; i < threads; i++)
        pthread_join(others[i], NULL);
    int status;
    while (wait(&status) > 0)
        must(status == 0, "child");
    return wrong != 0;
}
"""


@pytest.fixture
def place() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(dir="/var/tmp"))
    base.chmod(0o755)
    for name in ("work", "hidden"):
        (base / name).mkdir()
        (base / name / "file").write_text(f"{name} text\n")
        for path in (base / name, base / name / "file"):
            if os.geteuid() == 0:
                shutil.chown(path, "macports", "macports")
    (base / "more").mkdir()
    yield base
    shutil.rmtree(base)


def who() -> Identity:
    return Identity.named("macports") if os.geteuid() == 0 else Identity.current()


def compiled(place: Path, text: str) -> Path:
    source, out = place / "more/x.c", place / "work/x"
    source.write_text(text)
    subprocess.run(["gcc", "-O1", "-w", "-static", "-pthread", "-o", out, source], check=True)
    return out


def policy(place: Path, rule: Rule) -> Policy:
    write = Filemap([Rule(os.fsencode(place / "work"), Action.ALLOW), Rule(b"/dev/null", Action.ALLOW)])
    return Policy(read=Filemap([rule, Rule(b"/", Action.ALLOW)]), write=write)


def hiding(place: Path) -> Policy:
    return policy(place, Rule(os.fsencode(place / "hidden"), Action.DENY))


def start(trace: Trace, place: Path, *words: str | Path) -> subprocess.Popen[str]:
    command = [*trace.launch_argv, *map(str, words)]
    return subprocess.Popen(
        command, cwd=place / "work", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={}
    )


def test_a_question_that_takes_long_keeps_nobody_waiting(place: Path) -> None:
    directory = os.fsencode(place / "hidden")
    rules = policy(place, Rule(directory, Action.ASK, live=True))
    owned = [(directory + b"/file", "stray"), (directory + b"/other", "dependency")]
    rules.owners, rules.closure = Ownership(owned), frozenset({"dependency"})
    program = compiled(place, WAITING)

    def think(_: bytes) -> str:
        time.sleep(0.6)
        return "dependency"

    with Session(who()) as session:
        trace = session.start(rules, place / "work")
        trace.answer_with(think)
        said = start(trace, place, program, place / "hidden/file").communicate(timeout=30)
        trace.stop()
    assert said == ("100 meanwhile yy", "")


def workers(trace: Trace) -> int:
    supervisor = trace._supervisor
    if supervisor is None or supervisor.pid is None:
        return 0
    return len(list(Path(f"/proc/{supervisor.pid}/task").iterdir())) - 1  # one listens for programs


def replaced(monkeypatch: pytest.MonkeyPatch, made: Path, command: str) -> None:
    """The command in the supervisor's place."""
    wrapped = made / "wrapped"
    wrapped.write_text(f'#!/bin/sh\nexec {command} --workers=4 "$@"\n')
    wrapped.chmod(0o755)
    files = session_module._package_file
    monkeypatch.setattr(
        session_module, "_package_file", lambda name: wrapped if name == "porttrace-supervisor" else files(name)
    )


def storm(place: Path, *numbers: int) -> tuple[int, set[str]]:
    """The most workers that were seen, and what was found."""
    program, most, until = compiled(place, STORM), 0, time.monotonic() + 120
    with Session(who()) as session:
        trace = session.start(hiding(place), place / "work")
        running = start(trace, place, program, place / "hidden/file", *map(str, numbers))
        while running.poll() is None and time.monotonic() < until:
            most = max(most, workers(trace))
            time.sleep(0.002)
        assert running.communicate(timeout=1) == ("", "")
        assert running.returncode == 0
        return most, {finding.path for finding in trace.stop().findings}


def test_there_are_as_many_workers_as_find_work(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, tmp_path, str(session_module._package_file("porttrace-supervisor")))
    assert storm(place, 300, 1, 1)[0] <= 2  # the other one while a program starts
    assert storm(place, 300, 4, 1)[0] in (2, 3, 4)


def test_workers_do_not_race(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor under the thread sanitizer, while many programs and threads ask it."""
    for kind in ("ops.h", "ops.c"):
        words = [sys.executable, str(CSRC / "gen_calls.py"), str(CSRC / "calls.table"), kind, str(tmp_path / kind)]
        subprocess.run(words, check=True)
    (place / "more").chmod(0o777)
    (tmp_path / "options.c").write_text(
        "const char *__tsan_default_options(void);\n"
        f'const char *__tsan_default_options(void) {{ return "log_path={place}/more/races"; }}\n'
    )
    parts = ("elf_linux", "fence_linux", "longpath_linux", "procstat", "supervisor")
    sources = [*policy_sources(), *(CSRC / f"{part}.c" for part in parts), *sorted(CSRC.glob("supervisor_*.c"))]
    sources += tmp_path.glob("*.c")
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-g", "-O1", "-fsanitize=thread", f"-I{CSRC}", f"-I{tmp_path}"]
    subprocess.run(["gcc", *flags, "-o", tmp_path / "supervisor", *sources, "-lpthread"], check=True)
    # The sanitizer knows not every place where the kernel puts things.
    replaced(monkeypatch, tmp_path, f"/usr/bin/setarch -R {tmp_path}/supervisor")
    most, found = storm(place, 60, 3, 3)
    assert most > 1
    assert found == {str(place / "hidden/file")}
    races = "".join(path.read_text() for path in (place / "more").glob("races*"))
    assert not re.findall(r"SUMMARY: .*", races), races[:3000]
