"""For 64-bit ARM: compiled on every run, tables of system calls compared with that machine's own numbers.

Nothing runs here: neither the compiler of the package ziglang nor Debian's cross compiler needs an ARM machine.
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


def sources(text: str, variable: str) -> list[Path]:
    """The files of one list in ``csrc/meson.build``."""
    match = re.search(variable + r" = files\((.*?)^\)", text, re.DOTALL | re.MULTILINE)
    assert match, variable
    return [CSRC / name for name in re.findall(r"'([^']+\.c)'", re.sub(r"#.*", "", match[1]))]


def supervisor_sources() -> list[Path]:
    """As the build has them."""
    text = (CSRC / "meson.build").read_text()
    match = re.search(r"executable\('porttrace-supervisor',(.*?)policy_sources", text, re.DOTALL)
    assert match
    own = [CSRC / name for name in re.findall(r"'([^']+\.c)'", match[1])]
    return own + sources(text, "policy_sources")


def test_the_supervisor(made: Path, tmp_path: Path) -> None:
    done = zig(*STRICT, f"-I{made}", "-o", tmp_path / "s", *supervisor_sources(), made / "ops.c", "-lpthread")
    assert done.returncode == 0, done.stderr
    binary = lief.ELF.parse(str(tmp_path / "s"))
    assert binary is not None
    assert binary.header.machine_type == lief.ELF.ARCH.AARCH64


LAUNCHER = [*sorted((CSRC / "launch").glob("*.c")), *(CSRC / f"{n}_linux.c" for n in ("supervise", "elf", "fence"))]


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


def test_by_gcc(tmp_path: Path) -> None:
    """As the build does it: what has no C library calls none of the functions that GCC has for atomic operations."""
    gcc = "aarch64-linux-gnu-gcc"
    if not shutil.which(gcc):
        pytest.skip(f"NOT CHECKED: no {gcc} here")
    (tmp_path / "cross.ini").write_text(
        f"[binaries]\nc = '{gcc}'\nar = 'aarch64-linux-gnu-ar'\nstrip = 'true'\n"
        "[host_machine]\nsystem = 'linux'\ncpu_family = 'aarch64'\ncpu = 'aarch64'\nendian = 'little'\n"
    )
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    names = ("libtracelib.so", "porttrace-launch", "porttrace-supervisor")
    for words in (
        ["meson", "setup", tmp_path / "b", ROOT, "--cross-file", tmp_path / "cross.ini"],
        ["ninja", "-C", tmp_path / "b", *(f"csrc/{name}" for name in names)],
    ):
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    library, launcher, supervisor = (lief.ELF.parse(str(tmp_path / "b" / "csrc" / name)) for name in names)
    assert library and launcher and supervisor
    assert not launcher.has_interpreter and not list(launcher.libraries) and not list(launcher.imported_symbols)
    assert set(library.libraries) <= {"libc.so.6", "ld-linux-aarch64.so.1"}
    # A constructor of the compiler's would be one more that runs in every process of a build.
    assert "__aarch64_have_lse_atomics" not in {symbol.name for symbol in library.symbols}
    assert not [s.name for s in library.imported_symbols if str(s.name).startswith("__aarch64_")]


def test_the_injected_library(made: Path, tmp_path: Path) -> None:
    text = (CSRC / "meson.build").read_text()
    files: list[str | Path] = [
        source for name in ("linux_first", "common", "linux") for source in sources(text, f"tracelib_{name}")
    ]
    shared = [CSRC / name for name in ("policy.c", "redirect.c", "path.c", "events.c")]
    done = zig(
        *STRICT, f"-I{made}", "-shared", "-fPIC", "-fvisibility=hidden", "-fno-builtin", "-Wno-pointer-bool-conversion",
        "-Wno-unknown-warning-option", "-fno-stack-protector", "-o", tmp_path / "tracelib.so", *files, *shared,
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
