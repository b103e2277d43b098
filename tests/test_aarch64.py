"""For 64-bit ARM: compiled on every run, tables of system calls compared with that machine's own numbers.

Neither the compiler of the package ziglang nor Debian's cross compiler needs an ARM machine; the library runs in an
emulator.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import lief
import pytest
import tracelib_build
import tracelib_session
from tracelib_session import compile_c

ROOT = Path(__file__).parent.parent
CSRC = ROOT / "csrc"
TARGET = ["-target", "aarch64-linux-gnu.2.36", "-std=gnu11", "-D_GNU_SOURCE", f"-I{CSRC}", f"-I{CSRC / 'tracelib'}"]
STRICT = ["-Wall", "-Wextra", "-Werror", "-O2"]

#: As asm-generic/unistd.h has them; arm64 uses these numbers.
GENERIC = {
    "openat": 56, "openat2": 437, "newfstatat": 79, "statx": 291, "faccessat": 48, "faccessat2": 439, "readlinkat": 78,
    "execve": 221, "execveat": 281, "chdir": 49, "chroot": 51, "mkdirat": 34, "mknodat": 33, "symlinkat": 36,
    "unlinkat": 35, "renameat": 38, "renameat2": 276, "linkat": 37, "truncate": 45, "fchmodat": 53, "fchmodat2": 452,
    "fchmod": 52, "fchown": 55, "fchownat": 54, "utimensat": 88, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7,
    "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16, "getxattr": 8, "lgetxattr": 9, "listxattr": 11,
    "setuid": 146, "setgid": 144, "setreuid": 145, "setregid": 143, "setgroups": 159, "setresuid": 147,
    "setresgid": 149, "setfsuid": 151, "setfsgid": 152, "capset": 91, "unshare": 97,
    "clone": 220, "clone3": 435,
    "perf_event_open": 241, "sendto": 206, "sendmsg": 211, "sendmmsg": 269,
    "llistxattr": 12, "statfs": 43, "getdents64": 61, "connect": 203, "bind": 200, "inotify_add_watch": 27,
    "fanotify_mark": 263, "name_to_handle_at": 264, "open_by_handle_at": 265, "mount": 40, "umount2": 39,
    "pidfd_getfd": 438, "quotactl_fd": 443,
    "pivot_root": 41, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fspick": 433, "mount_setattr": 442,
    "setns": 268, "acct": 89, "swapon": 224, "swapoff": 225, "quotactl": 60, "bpf": 280, "ptrace": 117,
    "process_vm_writev": 271, "prlimit64": 261, "ioctl": 29, "init_module": 105, "finit_module": 273,
    "delete_module": 106, "kexec_load": 104, "kexec_file_load": 294,
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "setxattrat": 463, "getxattrat": 464,
    "listxattrat": 465, "removexattrat": 466, "open_tree_attr": 467, "file_getattr": 468, "file_setattr": 469,
}  # fmt: skip


def zig(*words: str | Path, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ziglang", "cc", *TARGET, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the build makes of the table of calls."""
    out = tmp_path_factory.mktemp("made")
    for kind, name in (("ops.h", "ops.h"), ("ops.c", "ops.c"), ("wrappers", "calls.inc")):
        command = [
            sys.executable,
            *(str(p) for p in (CSRC / "gen_calls.py", CSRC / "calls.table")),
            kind,
            str(out / name),
        ]
        subprocess.run(command, check=True)
    return out


def test_the_supervisor(made: Path, tmp_path: Path) -> None:
    own = tracelib_build.listed(r"executable\('porttrace-supervisor',(.*?)policy_sources")
    files = [*(CSRC / name for name in own), *tracelib_build.policy_sources()]
    done = zig(*STRICT, f"-I{made}", "-o", tmp_path / "s", *files, made / "ops.c", "-lpthread")
    assert done.returncode == 0, done.stderr
    binary = lief.ELF.parse(str(tmp_path / "s"))
    assert binary is not None
    assert binary.header.machine_type == lief.ELF.ARCH.AARCH64


LAUNCHER = [
    CSRC / name
    for pattern in (
        r"^launch_sources = files\((.*?)\)",
        r"^  launch_sources \+= files\((.*?)\)",
        r"launch_sources, ('.*?'),",
    )
    for name in tracelib_build.listed(pattern)
]


@pytest.mark.parametrize("source", LAUNCHER, ids=lambda path: path.stem)
def test_the_launcher(tmp_path: Path, source: Path) -> None:
    flags = [*STRICT, "-Wno-unknown-attributes", "-fno-builtin", "-fno-stack-protector", "-c", "-o", tmp_path / "x.o"]
    done = zig(*flags, source)
    assert done.returncode == 0, done.stderr


def test_the_launcher_with_a_younger_glibc(tmp_path: Path) -> None:
    """From 2.38 on strtoul has another name behind the header's back; there it is called, and there it has to be."""
    header = tmp_path / "younger.h"
    header.write_text(
        "#include <stdlib.h>\n"
        'unsigned long strtoul(const char *restrict, char **restrict, int) __asm__("__isoc23_strtoul");\n'
    )
    flags = [*STRICT, "-Wno-unknown-attributes", "-fno-builtin", "-fno-stack-protector", "-include", header, "-c"]
    symbols: dict[str, list[str]] = {}
    for name in ("main", "mini"):
        done = zig(*flags, "-o", tmp_path / f"{name}.o", CSRC / "launch" / f"{name}.c")
        assert done.returncode == 0, done.stderr
        binary = lief.ELF.parse(str(tmp_path / f"{name}.o"))
        assert binary is not None
        symbols[name] = [str(s.name) for s in binary.symbols if str(s.name).endswith("strtoul") and bool(s.shndx)]
    assert symbols == {"main": [], "mini": ["__isoc23_strtoul"]}


def test_the_injected_library_with_a_younger_musl(made: Path, tmp_path: Path) -> None:
    """Debian's is older, and lacks what the system's own headers are taken for."""
    flags = ["-target", "aarch64-linux-musl", *STRICT, "-Wno-pointer-bool-conversion", f"-I{made}"]
    done = zig(*flags, "-c", "-o", tmp_path / "x.o", CSRC / "tracelib" / "files.c")
    assert done.returncode == 0, done.stderr


def test_the_filter_with_an_older_musl(tmp_path: Path) -> None:
    """Which has the names of the calls with 64 as other words for those without, unasked."""
    flags = ["-target", "aarch64-linux-musl", *STRICT, "-D_LARGEFILE64_SOURCE"]
    done = zig(*flags, "-c", "-o", tmp_path / "x.o", CSRC / "supervise_linux.c")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def by_gcc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the build itself makes with Debian's cross compiler: a directory."""
    gcc, place = "aarch64-linux-gnu-gcc", tmp_path_factory.mktemp("by-gcc")
    if not shutil.which(gcc):
        pytest.skip(f"NOT CHECKED: no {gcc} here")
    (place / "cross.ini").write_text(
        f"[binaries]\nc = '{gcc}'\nar = 'aarch64-linux-gnu-ar'\nstrip = 'true'\n"
        "[host_machine]\nsystem = 'linux'\ncpu_family = 'aarch64'\ncpu = 'aarch64'\nendian = 'little'\n"
    )
    # A compiler for musl that makes nothing for this machine: whoever takes it has taken the build machine's.
    (place / "bin").mkdir()
    wrong = place / "bin" / "musl-gcc"
    wrong.write_text("#!/bin/sh\necho the wrong compiler >&2\nexit 1\n")
    wrong.chmod(0o755)
    environment = {**os.environ, "PATH": f"{place}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    names = ("libtracelib.so", "porttrace-launch", "porttrace-supervisor")
    configure = ["meson", "setup", place / "b", ROOT, "--cross-file", place / "cross.ini"]
    done = subprocess.run(configure, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    if not shutil.which("aarch64-linux-musl-gcc"):
        assert "built without the library for programs whose C library is musl" in done.stdout
    planned = subprocess.run(["ninja", "-C", place / "b", "-n", "-v"], env=environment, capture_output=True, text=True)
    assert planned.returncode == 0 and str(wrong) not in planned.stdout
    make = ["ninja", "-C", place / "b", *(f"csrc/{name}" for name in names)]
    done = subprocess.run(make, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "b" / "csrc"


def test_by_gcc(by_gcc: Path) -> None:
    """As the build does it: what has no C library calls none of the functions that GCC has for atomic operations."""
    names = ("libtracelib.so", "porttrace-launch", "porttrace-supervisor")
    library, launcher, supervisor = (lief.ELF.parse(str(by_gcc / name)) for name in names)
    assert library and launcher and supervisor
    assert not launcher.has_interpreter and not list(launcher.libraries) and not list(launcher.imported_symbols)
    assert set(library.libraries) <= {"libc.so.6", "ld-linux-aarch64.so.1"}
    # A constructor of the compiler's would be one more that runs in every process of a build.
    assert "__aarch64_have_lse_atomics" not in {symbol.name for symbol in library.symbols}
    assert not [s.name for s in library.imported_symbols if str(s.name).startswith("__aarch64_")]


PROGRAM = r"""
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void tell(const char *what, int r)
{
	printf("%s %s\n", what, r < 0 ? strerror(errno) : "done");
}

int main(int argc, char **argv)
{
	struct stat st;
	struct dirent *e;
	if (argc != 2 || chdir(argv[1]) < 0)
		return 1;
	tell("open", open("secret", O_RDONLY));
	tell("stat", stat("../home/secret", &st));
	tell("lstat of what may be seen", lstat("seen", &st));
	tell("access through a link", access("link", R_OK));
	tell("mkdir", mkdir("new", 0777));
	tell("create", open("new", O_CREAT | O_WRONLY, 0666));
	DIR *d = opendir(".");
	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, "secret") == 0)
			puts("listed");
	return 0;
}
"""


def test_the_library_in_a_program(by_gcc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an emulator of that machine. It knows no mremap of what is to stay, so that nothing can be told but starts."""
    emulator, system = shutil.which("qemu-aarch64"), Path("/usr/aarch64-linux-gnu")
    if not emulator or not (system / "lib" / "ld-linux-aarch64.so.1").exists():
        pytest.skip("NOT CHECKED: no qemu-aarch64 or no C library for it here")
    home = tmp_path.resolve() / "home"
    home.mkdir()
    for name in ("secret", "seen"):
        (home / name).write_text(name)
    (home / "link").symlink_to("secret")
    (tmp_path / "p.c").write_text(PROGRAM)
    compile_c(tmp_path / "p.c", tmp_path / "p", compiler="aarch64-linux-gnu-gcc")
    monkeypatch.setattr(tracelib_session, "LIBRARY", by_gcc / "libtracelib.so")
    with tracelib_session.Session(f"r:{home}/secret=-", f"w:{home}=-", "rw:/=+") as s:
        words = [emulator, "-L", system, "-E", f"LD_PRELOAD={s.library}", tmp_path / "p", home]
        done = subprocess.run(words, capture_output=True, text=True, env={"LC_ALL": "C"}, timeout=60)
    assert done.stdout.splitlines() == [
        "open No such file or directory",
        "stat No such file or directory",
        "lstat of what may be seen done",
        "access through a link No such file or directory",
        "mkdir Permission denied",
        "create Permission denied",
    ]
    assert done.returncode == 0 and not done.stderr


def test_the_injected_library(made: Path, tmp_path: Path) -> None:
    done = zig(
        *STRICT, f"-I{made}", "-shared", "-fPIC", "-fvisibility=hidden", "-fno-builtin", "-Wno-pointer-bool-conversion",
        "-Wno-unknown-warning-option", "-fno-stack-protector", "-o", tmp_path / "tracelib.so",
        *tracelib_build.sources(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    binary = lief.ELF.parse(str(tmp_path / "tracelib.so"))
    assert binary is not None
    exported = {str(symbol.name) for symbol in binary.exported_functions}
    assert {"openat", "execve", "fstatat", "dlopen", "mprotect"} <= exported


def test_the_old_names_of_stat_know_one_structure(made: Path) -> None:
    """The kernel's: a program for another, which glibc refuses there, was built for another machine."""
    done = zig("-E", "-P", f"-I{made}", CSRC / "tracelib" / "files.c")
    assert done.returncode == 0, done.stderr
    versions = re.findall(r"return (.*?) \? stat_any\(PT_OP___", done.stdout)
    assert versions == ["((version) == 0)"] * 3


def test_the_supervised_calls_have_that_machines_numbers(tmp_path: Path) -> None:
    """A number of x86 in the filter would watch the wrong call, and leave the right one alone."""
    source = tmp_path / "numbers.c"
    source.write_text(
        '#include "supervisor_calls.h"\n'
        "#define PT_SC(name, nr64, nr32, shape, access, dir, path, flags) "
        "ROW #name PT_SC_NATIVE(name, nr64) PT_SC_COMPAT(nr32) END\nPT_SUPERVISED_CALLS\n"
    )
    done = zig("-E", "-P", source)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r'ROW "(\w+)" (\(?-?\w+\)?) (\(?-?\w+\)?) END', done.stdout.replace("\n", " "))
    numbers = {name: int(native.strip("()")) for name, native, _ in rows}
    assert len(numbers) > 100
    assert {compat for _, _, compat in rows} == {"(-1)"}
    there = {name: number for name, number in numbers.items() if number >= 0}
    assert there == GENERIC
