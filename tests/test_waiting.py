"""A signal that comes in the moment before a wait begins ends that wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the moment is made by LD_PRELOAD")

# In the main thread, where handlers run: behind the interpreter's last look, before the system call.
LATE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>
static void late(void)
{
	static int done;
	if (syscall(SYS_gettid) == getpid() && !done++)
		syscall(SYS_tgkill, getpid(), getpid(), SIGINT);
}
int poll(struct pollfd *fds, nfds_t count, int timeout)
{
	if (timeout < 0)
		late();
	return ((int (*)(struct pollfd *, nfds_t, int))dlsym(RTLD_NEXT, "poll"))(fds, count, timeout);
}
pid_t waitpid(pid_t pid, int *status, int options)
{
	if (!options)
		late();
	return ((pid_t (*)(pid_t, int *, int))dlsym(RTLD_NEXT, "waitpid"))(pid, status, options);
}
"""

LINES = """
import os
from porttrace.waiting import read_lines
read, write = os.pipe()
os.write(write, b"one\\ntwo\\n\\nthr")
seen = []
def note(line):
    seen.append(line)
    if len(seen) == 3:
        os.write(write, b"ee")
        os.close(write)
try:
    read_lines(read, note)
except KeyboardInterrupt:
    print("interrupted", end=" ")
print(seen)
"""

END = """
import subprocess, sys
from porttrace.waiting import end_of
process = subprocess.Popen(["sleep", "300"])
try:
    end_of(process)
except KeyboardInterrupt:
    print("interrupted")
    process.kill()
    print(end_of(process))
"""


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with the library that sends SIGINT late."""
    directory = tmp_path_factory.mktemp("late")
    (directory / "late.c").write_text(LATE)
    library = directory / "late.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, directory / "late.c"], check=True)
    return {**os.environ, "LD_PRELOAD": str(library)}


def script(text: str, env: dict[str, str]) -> str:
    return subprocess.run(
        [sys.executable, "-P", "-c", text], env=env, stdout=-1, timeout=30, check=True
    ).stdout.decode()


def test_all_lines_come() -> None:
    assert script(LINES, dict(os.environ)) == "[b'one', b'two', b'', b'three']\n"


def test_a_signal_before_a_read(late: dict[str, str]) -> None:
    nothing_yet = LINES.replace("os.write", "# ", 1)
    assert script(nothing_yet, late) == "interrupted []\n"


def test_a_signal_before_a_process_is_waited_for(late: dict[str, str]) -> None:
    assert script(END, late) == "interrupted\n-9\n"


def test_a_signal_before_the_wait_ends_a_run(late: dict[str, str], tmp_path: Path) -> None:
    porttrace = Path(sys.executable).with_name("porttrace")
    done = subprocess.run(
        [porttrace, "run", "--tiers", "tracelib", "--", "sleep", "300"], cwd=tmp_path, env=late, timeout=30, check=False
    )
    assert done.returncode == 128 + signal.SIGINT
