"""The table against the C libraries of this machine: each function of theirs has a row, or a line that says why not."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tracelib_session import LIBRARY, MUSL_LIBRARY, SOURCE

sys.path += [str(SOURCE / "csrc"), str(SOURCE / "bench")]
import gen_calls
from strace_log import CALLS

ROWS = gen_calls.read(SOURCE / "csrc" / "calls.table")
WRAPPED = {row.name for row in ROWS if row.form != "not"}
NOT = [pattern for row in ROWS if row.form == "not" for pattern in row.name.split()]
MACHINES = ("x86_64", "aarch64")
GLIBC = [p for m in MACHINES for d in ("/lib", "/lib64") for p in Path(d).glob(f"{m}-linux-gnu/libc.so.6")]
GLIBC += [p for p in (Path("/lib64/libc.so.6"), Path("/lib/i386-linux-gnu/libc.so.6")) if p.exists() and not GLIBC]
MUSL = [
    p
    for m in MACHINES
    for p in (Path(f"/usr/lib/{m}-linux-musl/libc.so"), Path(f"/lib/ld-musl-{m}.so.1"))
    if p.exists()
]
LIBRARIES = GLIBC + MUSL[:1]
#: What headers call a parameter that is a path.
PATHS = re.compile(
    r"char \*(?:__restrict )?_*(?:file|filename|path|pathname|dir|dirname|from|to|old|new|target|template)$"
)
HEADERS = """
aliases argp dirent dlfcn err error fcntl fnmatch fstab fts ftw glob grp gshadow iconv langinfo libgen libintl link
locale mntent mqueue netdb nl_types poll pty pwd regex resolv sched search semaphore shadow signal spawn stdio stdlib
string syslog termios time ttyent ucontext unistd utime utmp utmpx wchar wordexp sys/acct sys/epoll sys/eventfd
sys/fanotify sys/file sys/gmon sys/inotify sys/ipc sys/klog sys/mman sys/mount sys/msg sys/pidfd sys/prctl sys/ptrace
sys/quota sys/random sys/reboot sys/sem sys/sendfile sys/shm sys/socket sys/stat sys/statfs sys/statvfs sys/swap
sys/time sys/timerfd sys/timex sys/uio sys/un sys/vfs sys/wait sys/xattr
"""


def no_path() -> list[str]:
    """Names and families of csrc/nopath.txt."""
    found = []
    for line in (SOURCE / "csrc" / "nopath.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            reason, colon, names = line.partition(": ")
            assert colon and reason, f"nopath.txt: no reason in {line!r}"
            found += names.split()
    return found


NO_PATH = no_path()


def matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def exported(library: Path) -> set[str]:
    """Functions that a program can be linked with, or could be once."""
    listing = subprocess.run(
        ["readelf", "--dyn-syms", "-W", library], capture_output=True, text=True, check=True
    ).stdout
    names = set()
    for line in listing.splitlines():
        cells = line.split()
        if len(cells) > 7 and cells[3] in ("FUNC", "IFUNC") and cells[6] != "UND" and "GLIBC_PRIVATE" not in cells[7]:
            names.add(cells[7].split("@")[0])
    return names


def unlisted(names: set[str]) -> list[str]:
    return sorted(n for n in names if n not in WRAPPED and not matches(n, NOT) and not matches(n, NO_PATH))


@pytest.mark.parametrize("library", LIBRARIES, ids=str)
def test_every_exported_function_is_listed(library: Path) -> None:
    names = exported(library)
    assert len(names) > 1000
    missing = unlisted(names)
    assert not missing, f"give it a row in csrc/calls.table, or a reason there or in csrc/nopath.txt: {missing}"


def test_a_function_that_nobody_knows_is_found() -> None:
    assert unlisted({"open", "strlen", "open_by_telepathy"}) == ["open_by_telepathy"]


def test_both_libraries_were_found() -> None:
    assert GLIBC
    if not MUSL:
        pytest.skip("NOT CHECKED: there is no musl on this machine (Debian: musl-tools)")


def prototypes() -> dict[str, str]:
    """Parameters of each function that the headers declare, by its name."""
    found = {}
    for header in HEADERS.split():
        text = subprocess.run(
            ["cc", "-E", "-P", "-D_GNU_SOURCE", "-x", "c", "-"],
            input=f"#include <{header}.h>\n",
            capture_output=True,
            text=True,
        ).stdout
        for m in re.finditer(r"\b(\w+) \(((?:[^();]|\([^()]*\))*)\)[^;(]*(?:\([^;]*)?;", " ".join(text.split())):
            found.setdefault(m[1], m[2])
    return found


def test_what_a_header_gives_a_path_to_is_not_among_those_without_one() -> None:
    takes = {n for n, text in prototypes().items() if any(PATHS.search(p.strip()) for p in text.split(","))}
    assert {"open", "rename", "setmntent", "scandirat", "mkfifo", "tempnam"} <= takes
    wrong = sorted(n for n in takes if n not in WRAPPED and not matches(n, NOT))
    assert not wrong, f"csrc/nopath.txt calls these without a path: {wrong}"


def test_nothing_has_a_row_and_a_reason_against_it() -> None:
    explicit = {p for p in (*NOT, *NO_PATH) if "*" not in p and "[" not in p}
    linux = {row.name for row in ROWS if row.form != "not"}
    assert not explicit & linux
    assert len(explicit) == len([p for p in (*NOT, *NO_PATH) if "*" not in p and "[" not in p]), (
        "a name is listed twice"
    )


def test_library_exports_what_has_a_row() -> None:
    assert defined(LIBRARY) == WRAPPED | {"__asan_default_options"}  # which no C library has


#: Not in the musl that the library was built with, but in a later one, or made of system calls alone.
BEYOND_MUSL = {
    "__vfork",
    "canonicalize_file_name",
    "close_range",
    "closefrom",
    "execveat",
    "getwd",
    "openat2",
    "pkey_mprotect",
    "posix_getdents",
    "posix_spawn_file_actions_addchdir",
    "posix_spawn_file_actions_addfchdir",
    "renameat2",
    "scandirat",
    "scandirat64",
    "statx",
}


def test_library_for_musl_stands_before_functions_that_musl_has() -> None:
    if not MUSL or not MUSL_LIBRARY.exists():
        pytest.skip("NOT CHECKED: there is no musl on this machine (Debian: musl-tools)")
    theirs = {line.split()[2].partition("@")[0] for line in symbols(MUSL[0], "--defined-only")}
    ours = defined(MUSL_LIBRARY)
    assert ours - theirs <= BEYOND_MUSL
    assert theirs & WRAPPED == ours & theirs
    needs = {line.split()[-1] for line in symbols(MUSL_LIBRARY, "--undefined-only") if line.split()[0] == "U"}
    assert needs <= theirs


def symbols(library: Path, which: str) -> list[str]:
    assert shutil.which("nm")
    return subprocess.run(["nm", "-D", which, library], capture_output=True, text=True, check=True).stdout.splitlines()


def defined(library: Path) -> set[str]:
    return {line.split()[2] for line in symbols(library, "--defined-only")}


def test_coverage_document_is_up_to_date() -> None:
    document = (SOURCE / "docs" / "coverage.md").read_text()
    assert gen_calls.coverage(ROWS) in document, "run csrc/gen_calls.py csrc/calls.table coverage"


def as_strace_has_it(row: gen_calls.Row) -> list[tuple[int | None, int, str]]:
    """Numbers of the parameters and the kind of access, for each path of a row."""
    names = [name for _, name in row.parameters]
    return [
        (None if a.dirfd == "AT_FDCWD" else names.index(a.dirfd), names.index(a.name), a.access)
        for a in row.path_args()
    ]


@pytest.mark.parametrize("row", [r for r in ROWS if r.form == "plain" and r.name in CALLS], ids=lambda r: r.name)
def test_a_row_says_of_a_system_call_what_the_reader_of_strace_says(row: gen_calls.Row) -> None:
    """Two lists that were made apart: a wrong parameter, descriptor or kind in one of them shows."""
    assert as_strace_has_it(row) == CALLS[row.name]
