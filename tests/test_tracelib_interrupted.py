"""A handler at each instruction of a call, which makes a call of its own: both end as they would alone, and are told.

Room is claimed for one event at a time, so that nobody has to block signals meanwhile, at two calls for each event.
"""

from __future__ import annotations

import collections
import errno
import platform
from pathlib import Path

import pytest
from tracelib_session import Session, compile_c

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="NOT CHECKED: only on x86 a program can step through itself"
)

#: MAIN HANDLER ERRNO STRIDE [apart]: opens MAIN/n, interrupted at its n-th instruction by a handler that opens
#: HANDLER/n, for n = 0, STRIDE, … until an open ends before that; `apart`: each in a process whose first call it is.
STEPS = r"""
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define BELOW "lea -128(%%rsp), %%rsp; pushfq; "        /* what a leaf function keeps there */
#define FLAGS(change) __asm__ volatile(BELOW change ", (%%rsp); popfq; lea 128(%%rsp), %%rsp" ::: "memory", "cc")

static char *of_main, *of_handler;
static int want;
static long number, left;
static volatile int reached, wrong;

static void look(const char *directory)
{
	char path[4096];
	size_t n = strlen(directory);
	memcpy(path, directory, n);                     /* no stdio: this runs in a handler */
	path[n++] = '/';
	long power = 1;
	while (power * 10 <= number)
		power *= 10;
	for (; power; power /= 10)
		path[n++] = (char)('0' + number / power % 10);
	path[n] = 0;
	errno = 0;
	int fd = open(path, O_RDONLY);
	wrong += errno != want || fd >= 0;
}

static void on(int signal, siginfo_t *info, void *context)
{
	ucontext_t *at = context;
	int error = errno;
	(void)signal, (void)info;
	if (left-- > 0)
		return;
	at->uc_mcontext.gregs[REG_EFL] &= ~0x100L;
	reached = 1;
	look(of_handler);
	errno = error;
}

static int step(void)
{
	reached = 0;
	left = number;
	FLAGS("orq $0x100");
	look(of_main);
	FLAGS("andq $~0x100");
	return reached ? wrong : 100;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_sigaction = on, .sa_flags = SA_SIGINFO };
	of_main = argv[1];
	of_handler = argv[2];
	want = atoi(argv[3]);
	sigaction(SIGTRAP, &action, NULL);
	for (;; number += atoi(argv[4])) {
		int status = 0;
		if (argc > 5) {
			pid_t child = fork();
			if (!child)
				_exit(step());
			waitpid(child, &status, 0);
			status = WIFEXITED(status) ? WEXITSTATUS(status) : 99;
		} else {
			status = step();
		}
		if (status == 100)
			break;
		if (status) {
			printf("wrong at %ld: %d\n", number, status);
			return 1;
		}
	}
	printf("%ld", number);
	return 0;
}
"""


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    (tmp_path / "steps.c").write_text(STEPS)
    for name in ("main", "handler"):
        (tmp_path / name).mkdir()
    return compile_c(tmp_path / "steps.c", tmp_path / "steps")


#: A call does some 1300 to 3400 instructions, a first one 12000; a step costs ten microseconds. All were tried once.
SORTS = pytest.mark.parametrize(
    ("stride", "apart"), [(31, ()), (211, ("apart",))], ids=["one process", "a process each"]
)


@SORTS
def test_each_access_is_in_the_log(steps: Path, stride: int, apart: tuple[str, ...]) -> None:
    base = steps.parent
    with Session("rw:/=+", log=True) as session:
        done = session.run(steps, base / "main", base / "handler", errno.ENOENT, stride, *apart)
        assert done.returncode == 0, done
        last = int(done.stdout)
        told = collections.Counter(e.path for e in session.events("access") if e.op == "open")
    numbers = range(0, last, stride)
    assert last > 200
    # The last one ended before it was interrupted.
    wanted = [f"{base}/{name}/{n}" for n in numbers for name in ("main", "handler")] + [f"{base}/main/{last}"]
    assert told == collections.Counter(wanted)


@SORTS
def test_each_refusal_is_a_finding(steps: Path, stride: int, apart: tuple[str, ...]) -> None:
    """Handler and call meet the same hidden file: one finding, counted twice."""
    base = steps.parent
    for number in range(0, 60_000, stride):
        (base / "main" / str(number)).touch()
    with Session(f"r:{base}/main=-", "rw:/=+") as session:
        done = session.run(steps, base / "main", base / "main", errno.ENOENT, stride, *apart)
        assert done.returncode == 0, done
        last = int(done.stdout)
        found = [(e.path, e.outcome, e.count) for e in session.findings()]
    assert last > 200
    numbers = range(0, last, stride)
    wanted = [(f"{base}/main/{n}", "hide", 2) for n in numbers] + [(f"{base}/main/{last}", "hide", 1)]
    assert sorted(found) == sorted(wanted)
