"""The macOS library: compiled here for both machines, joined, looked at. What only a Mac shows: docs/macos.md."""

from __future__ import annotations

import os
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lief
import pytest
from conftest import made_once
from test_macos_symbols import MACHINES, libraries
from tracelib_session import SOURCE

sys.path.insert(0, str(SOURCE / "csrc"))
sys.path.insert(0, str(SOURCE / "scripts"))
import gen_calls
import macos_library

ROWS = [row for row in gen_calls.read(SOURCE / "csrc" / "calls.table", "darwin") if row.form != "not"]

# What the library may call besides the functions that it stands in front of: nothing that allocates or takes a lock,
# and nothing that ends a thread there which another has cancelled: its wrapper may be of a function that does not.
HELPED_BY = """
__dyld_get_image_header __dyld_get_image_name __dyld_image_count dyld_stub_binder ___error
_memchr _memcmp _memcpy _memmove _memset _bzero _strchr _strcmp _strcspn _strlen _strncmp _strnlen
_strrchr _strstr ___bzero
_fcntl$NOCANCEL _fstat _fstat$INODE64 _mmap _munmap _pread$NOCANCEL _connect$NOCANCEL _poll$NOCANCEL _socket
_setsockopt _send$NOCANCEL _recv$NOCANCEL _shutdown
_getpid _getppid _geteuid _getegid _pthread_self _proc_pidpath _dirfd _posix_spawnattr_getflags
_sandbox_check _sandbox_init _sandbox_free_error
"""
# getcwd gives memory of the program's back to it.
HELPERS = {*HELPED_BY.split(), "_free", "_malloc", "_realloc", "_pthread_is_threaded_np"}


def built(factory: pytest.TempPathFactory) -> Path:
    """The library for both machines, as scripts/macos_library.py makes it; or one with a mistake planted in it."""
    if planted := os.environ.get("PORTTRACE_TEST_MACOS_LIBRARY"):
        return Path(planted)
    name = "libtracelib.dylib"
    return made_once(factory, "macos-library", lambda directory: macos_library.build(directory / name)) / name


@pytest.fixture(scope="module")
def universal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory)


@pytest.fixture(scope="module", params=list(MACHINES))
def half(request: pytest.FixtureRequest, universal: Path) -> Iterator[tuple[str, Any]]:
    machine: str = request.param
    fat = lief.MachO.parse(str(universal))
    assert fat is not None
    wanted = {"x86_64": lief.MachO.Header.CPU_TYPE.X86_64, "aarch64": lief.MachO.Header.CPU_TYPE.ARM64}[machine]
    (binary,) = [b for b in fat if b.header.cpu_type == wanted]
    yield machine, binary  # the halves live as long as what they came from


def rows_of(machine: str) -> list[gen_calls.Row]:
    return [row for row in ROWS if row.machine in ("", machine)]


def pairs(binary: Any) -> list[tuple[str, str]]:
    """(wrapper's name, exchanged function's name) of each pair in the section that the loader reads."""
    (section,) = [s for s in binary.sections if s.name == "__interpose"]
    assert section.segment_name == "__DATA"
    bound = {b.address: b for b in binary.bindings if b.has_symbol}
    defined = {s.value: s.name for s in binary.symbols if s.value and s.name}
    values = struct.unpack(f"<{section.size // 8}Q", bytes(section.content))
    found = []
    for at in range(0, section.size, 16):
        symbol = bound[section.virtual_address + at + 8]
        assert symbol.weak_import, f"{symbol.symbol.name}: a system without it could not load the library"
        found.append((defined[values[at // 8]], symbol.symbol.name))
    return found


def system_names(machine: str) -> set[str]:
    """What libSystem exports for a machine, as symbols."""
    return {f"_{name}" for library in libraries().values() for name in library[machine]}


def test_every_row_is_exchanged_and_nothing_else(half: tuple[str, Any]) -> None:
    machine, binary = half
    assert sorted(theirs for _, theirs in pairs(binary)) == sorted(f"_{row.name}" for row in rows_of(machine))


def test_each_is_exchanged_for_its_own_wrapper(half: tuple[str, Any]) -> None:
    machine, binary = half
    by_name = {row.name: row for row in ROWS}
    expected = {}
    for row in rows_of(machine):
        target = by_name[row.target] if row.target else row
        expected[f"_{row.name}"] = f"_pt_wrap_{(row if target.form == 'plain' else target).identifier}"
    # one address may have two names where the compiler found two wrappers alike
    wrong = {theirs: ours for ours, theirs in pairs(binary) if ours != expected[theirs]}
    assert not wrong


def test_every_exchanged_function_exists(half: tuple[str, Any]) -> None:
    machine, _ = half
    assert not {f"_{row.name}" for row in rows_of(machine)} - system_names(machine)


def test_nothing_but_libsystem_is_used(half: tuple[str, Any]) -> None:
    machine, binary = half
    assert [library.name for library in binary.libraries if library.command.name == "LOAD_DYLIB"] == [
        "/usr/lib/libSystem.B.dylib"
    ]
    undefined = {b.symbol.name for b in binary.bindings if b.has_symbol}
    assert undefined <= {f"_{row.name}" for row in ROWS} | HELPERS
    assert undefined - {"dyld_stub_binder"} <= system_names(machine)


def test_minimum_version_and_kind(half: tuple[str, Any]) -> None:
    _, binary = half
    assert binary.header.file_type == lief.MachO.Header.FILE_TYPE.DYLIB
    assert list(binary.build_version.minos)[:2] == [int(n) for n in macos_library.MINIMUM.split(".")]


def test_arm64_is_signed(half: tuple[str, Any]) -> None:
    machine, binary = half
    if machine == "aarch64":  # the kernel runs nothing else there; x86_64 needs none
        assert binary.has_code_signature
        assert binary.code_signature.data_size


def test_no_thread_local_data_and_no_static_constructor_but_ours(half: tuple[str, Any]) -> None:
    _, binary = half
    names = {s.name for s in binary.sections}
    assert not {n for n in names if n.startswith("__thread")}
    starts = [s for s in binary.sections if s.name in ("__mod_init_func", "__init_offsets")]
    assert sum(s.size for s in starts) in (4, 8)


def test_slices_lie_on_pages_of_their_own(universal: Path) -> None:
    data = universal.read_bytes()
    magic, count = struct.unpack_from(">II", data)
    assert (magic, count) == (0xCAFEBABE, 2)
    for n in range(count):
        _, _, at, size, align = struct.unpack_from(">IIIII", data, 8 + 20 * n)
        assert at % (1 << align) == 0
        assert at + size <= len(data)
        assert data[at : at + 4] == b"\xcf\xfa\xed\xfe"


def test_the_judging_half_is_the_same_on_linux() -> None:
    meson = (SOURCE / "csrc" / "meson.build").read_text()
    shared = re.search(r"^tracelib_common = files\((.*?)^\)", meson, re.S | re.M)
    assert shared
    assert {"tracelib/judge.c", "tracelib/dirs.c", "tracelib/exec.c", "tracelib/environ.c"} <= set(
        re.findall(r"'([^']+)'", shared[1])
    )
    assert meson.count("tracelib_common,") == 2  # one library each
