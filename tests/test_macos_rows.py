"""Each macOS row of csrc/calls.table is called by its own name, in the compiled library, on the made-up macOS."""

from __future__ import annotations

import ctypes
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from darwin_calls import FTS_D, FTS_DP, FTS_F, FTS_SKIP, FileActions, Walk
from darwin_machine import (
    AT_FDCWD,
    EFAULT,
    ELOOP,
    ENOENT,
    ENOEXEC,
    ENOMEM,
    Library,
    Taken,
    described,
    paths_of,
    there_on,
)
from test_macos_behaviour import KINDS, RULES, STARTS, Machine, bulk, dirent, machine, programs, protected
from tracelib_session import SOURCE, Session

__all__ = ["machine", "programs"]  # fixtures

EACCES = 13
HERE = {kind: there_on(kind) for kind in KINDS}
WITH_PATHS = {name for kind in KINDS for name in HERE[kind] if paths_of(name)}


def each(names: Iterable[str]) -> pytest.MarkDecorator:
    """Functions by name, each on the machines that have it."""
    cases = [(kind, name) for kind in KINDS for name in names if name in HERE[kind]]
    ids = [f"on_{kind}-{name}" for kind, name in cases]
    return pytest.mark.parametrize(("machine", "name"), cases, indirect=["machine"], ids=ids)


DIRECTORIES = ("chdir", "__pthread_chdir", "__opendir2", "__opendir2$INODE64", "posix_spawn_file_actions_addchdir_np")
MADE_OF = {"copyfile": ("open",), "__opendir2": ("open",), "__opendir2$INODE64": ("open",)}  # which say the rest
WRITES = {"write", "delete", "rename", "link", "attributes", "create"}


def is_made(path: Taken) -> bool:
    """Whether there need be nothing by that name."""
    return bool({"x", "m"} & set(path.letters)) or path.access == ("create",)


def good(name: str, path: Taken) -> str:
    if is_made(path):
        return "/opt/work/new"
    if described(name).name in DIRECTORIES:
        return "/opt/work/sub"
    return "/opt/work/out" if "readlink" in path.access else "/opt/work/a"


def refusal(path: Taken) -> int:
    """What a hidden file answers, which is there."""
    return EACCES if is_made(path) else ENOENT


class Call:
    """One function, called with paths of the test's choice; nothing depends on its other parameters."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine, self.name, self.paths = machine, name, paths_of(name)
        self.kept: list[object] = []

    def __call__(self, changed: Taken | None = None, path: str = "", dirfd: int = AT_FDCWD, flag: int = 0) -> int:
        """The errno, 0 for none. `flag` is given for the parameter that decides about links."""
        words: list[object] = []
        for n, (declaration, word) in enumerate(described(self.name).parameters):
            one = next((p for p in self.paths if p.at == n), None)
            if one:
                words.append((path if one == changed else good(self.name, one)).encode())
            elif word in ("dirfd", "olddir"):
                words.append(dirfd if changed and changed.dirfd == n else AT_FDCWD)
            elif changed and changed.switch and changed.switch[0] == n:
                words.append(flag)
            elif declaration.startswith("posix_spawn_file_actions_t"):
                self.kept.append(FileActions())
                words.append(self.kept[-1].address)  # type: ignore[attr-defined]
            elif word in ("actions", "attr", "args"):
                words.append(0)
            elif "*" in declaration or "[" in declaration:
                words.append(bytes(4096))
            else:
                words.append(0)
        result, errno = self.machine.library.call(self.name, *words)
        assert errno or result != -1
        return errno


@each(sorted(WITH_PATHS))
def test_a_row(machine: Machine, name: str) -> None:
    call, mac, session = Call(machine, name), machine.mac, machine.session
    adds = name.startswith("posix_spawn_file_actions_")
    # A refused name becomes an empty one for the child, or one that is nowhere for the loader.
    for path in call.paths:
        hidden = "secret/new" if "x" in path.letters else "secret/x"
        ways: list[tuple[str, str, int]] = [
            ("", f"/opt/{hidden}", AT_FDCWD),
            ("", f"/opt/work/../{hidden}", AT_FDCWD),
            ("", f"/opt/work/dir/{hidden[7:]}", AT_FDCWD),
            ("", f"/opt/Secret/{hidden[7:]}", AT_FDCWD),
            ("/opt", hidden, AT_FDCWD),
        ]
        if path.dirfd is not None:
            ways.append(("", hidden, machine.library.call("open", b"/opt", 0x100000)[0]))
        expected = refusal(path)
        for cwd, asked, dirfd in ways:
            if cwd:
                assert machine.library.call("chdir", cwd.encode()) == (0, 0)
            mac.passed.clear()
            errno = call(path, asked, dirfd)
            if adds:
                assert mac.passed[-1] == (described(name).name, [""])
            else:
                assert errno == expected, f"{asked} for parameter {path.at}"
            if cwd:
                assert machine.library.call("chdir", b"/") == (0, 0)
        if path.access[0] in WRITES:
            asked = "/Users/new" if is_made(path) else "/Users/old"
            assert call(path, asked) == EACCES
        if not is_made(path) and "read" not in path.access:  # open's own flags: test_the_link_itself
            for flag in (0, path.switch[1]) if path.switch else (0,):
                words = tuple(flag for _ in described(name).parameters)
                follows = path.follows(words)
                errno = call(path, "/opt/work/out", flag=flag)
                assert (errno == ENOENT) is (follows and not adds), f"flag {flag}"
        told = [event.op for event in session.findings()]
        assert told and set(told) <= {described(name).name, *MADE_OF.get(name, ())}
        # and then what may be done is done, by the function that was called
        mac.passed.clear()
        assert call() == (ENOEXEC if described(name).name == "execve" else 0)
        real = [good(name, p) for p in call.paths]
        own = name if described(name).form == "plain" else None
        assert any((n == own if own else True) and paths == real for n, paths in mac.passed), mac.passed
        assert call(path, f"/opt/{hidden}") == (0 if adds else expected), "also when the directory is known"


@pytest.mark.parametrize("plus", ["/..namedfork/rsrc", "/..namedfork/data"])
def test_a_fork_is_opened_as_a_fork(machine: Machine, plus: str) -> None:
    """Where the directory may change the library opens by the real path; a fork has none of its own."""
    machine.mac.files["/opt/work/inside"] = "l a"
    for name in ("a", "inside", "sub/../a"):
        machine.mac.reached.clear()
        assert machine.open(f"/opt/work/{name}{plus}") == 0
        assert machine.mac.reached[-1][1] == f"/opt/work/a{plus}"


OPENS = [
    name
    for name in sorted(WITH_PATHS)
    if "read,write,create" in described(name).paths
    and {"...", "int mode"} & {word for word, _ in described(name).parameters}
]


@each(OPENS)
def test_the_mode_of_a_new_file_arrives(machine: Machine, name: str) -> None:
    """For arm64 what "..." stands for lies on the stack, where a parameter with a name would not be."""
    given = {"path": b"/opt/work/new", "dirfd": AT_FDCWD, "flags": 0x201, "mode": 0o640, "": 0o640}
    words = [given.get(word, bytes(64) if "*" in kind else 0) for kind, word in described(name).parameters]
    assert machine.library.call(name, *words)[1] == 0
    assert machine.mac.modes == [0o640]


OPENING = [name for name in sorted(WITH_PATHS) if "read,write,create" in described(name).paths]
WRITE_ONLY, BOTH_WAYS, NO_FOLLOW, CREATE, TRUNCATE, EXCLUSIVE, THE_LINK = 1, 2, 0x100, 0x200, 0x400, 0x800, 0x200000
FLAGS = [
    ("/Users/old", 0, 0),
    ("/Users/old", WRITE_ONLY, EACCES),
    ("/Users/old", BOTH_WAYS, EACCES),
    ("/Users/old", TRUNCATE, EACCES),
    ("/Users/old", CREATE, 0),  # which is there, and is only read
    ("/Users/old", CREATE | TRUNCATE, EACCES),
    ("/Users/new", CREATE, EACCES),
    ("/opt/work/a", WRITE_ONLY | TRUNCATE, 0),
    ("/opt/work/a", BOTH_WAYS | CREATE, 0),
    ("/opt/work/new", CREATE | EXCLUSIVE | WRITE_ONLY, 0),
    ("/opt/work/out", 0, ENOENT),
    ("/opt/work/out", THE_LINK, 0),
    ("/opt/work/out", NO_FOLLOW, ELOOP),
]


@each(OPENING)
def test_flags_of_open_say_what_is_meant(machine: Machine, name: str) -> None:
    for path, flags, errno in FLAGS:
        given = {"path": path.encode(), "dirfd": AT_FDCWD, "flags": flags, "mode": 0o640, "": 0o640}
        words = [given.get(word, bytes(64) if "*" in kind else 0) for kind, word in described(name).parameters]
        if name.startswith("posix_spawn_file_actions_"):
            actions = FileActions()
            words[0] = actions.address
            machine.library.call(name, *words)
            assert machine.mac.passed[-1][1] == [path if errno in (0, ELOOP) else ""], "the child is told an empty name"
        else:
            assert machine.library.call(name, *words)[1] == errno, (path, hex(flags))


def test_copyfile_has_its_name_in_what_is_told(machine: Machine) -> None:
    assert machine.library.call("copyfile", b"/opt/secret/x", b"/opt/work/new", 0, 0) == (-1, ENOENT)
    assert {event.op for event in machine.session.findings()} == {"copyfile"}


# ---- rows without a path of their own ----


def listed(machine: Machine) -> int:
    fd = machine.library.call("open", b"/opt", 0x100000)[0]
    assert fd > 0
    return fd


def test_opendir_is_known_for_its_listing(machine: Machine) -> None:
    for name in ("__opendir2", "__opendir2$INODE64"):
        if not machine.library.has(name):
            continue
        stream, errno = machine.library.call(name, b"/opt", 0)
        assert stream and not errno
        (fd,) = {machine.mac.streams[stream][0]}
        machine.mac.listings = [dirent("secret", 4) + dirent("seen", 8)]
        buffer = ctypes.create_string_buffer(4096)
        left = machine.library.call("__getdirentries64", fd, buffer, 4096, bytes(8))[0]
        assert buffer.raw[:left] == dirent("seen", 8)


def old_dirent(name: str, kind: int) -> bytes:
    """struct dirent with 32-bit inodes."""
    size = (8 + len(name) + 1 + 3) // 4 * 4
    return (struct.pack("<IHBB", 7, size, kind, len(name)) + name.encode()).ljust(size, b"\0")


def test_getdirentries_leaves_out(machine: Machine) -> None:
    fd, buffer = listed(machine), ctypes.create_string_buffer(4096)
    seen, secret, work = old_dirent("seen", 8), old_dirent("secret", 4), old_dirent("work", 4)
    machine.mac.listings = [secret, secret + seen + secret + work]
    assert machine.library.call("getdirentries", fd, buffer, 4096, bytes(8))[0] == len(seen + work)
    assert buffer.raw.startswith(seen + work)
    assert machine.library.call("getdirentries", fd, buffer, 4096, bytes(8))[0] == 0


def attributes(name: str) -> bytes:
    """An entry of getdirentriesattr with ATTR_CMN_NAME: length, then where the name lies."""
    text = name.encode() + b"\0"
    body = struct.pack("<iI", 8, len(text)) + text.ljust((len(text) + 3) // 4 * 4, b"\0")
    return struct.pack("<I", 4 + len(body)) + body


def test_getdirentriesattr_leaves_out(machine: Machine) -> None:
    fd, buffer, count = listed(machine), ctypes.create_string_buffer(4096), ctypes.c_int(5)
    want = struct.pack("<HHIIIII", 5, 0, 1, 0, 0, 0, 0)
    machine.mac.listings = [attributes("secret"), attributes("seen") + attributes("secret") + attributes("work")]
    more = (bytes(4), bytes(4), 0)
    where = ctypes.addressof(count)
    assert machine.library.call("getdirentriesattr", fd, want, buffer, 4096, where, *more) == (1, 0)
    assert count.value == 2
    assert buffer.raw.startswith(attributes("seen") + attributes("work"))
    machine.mac.listings = [attributes("secret")]
    assert machine.library.call("getdirentriesattr", fd, want, buffer, 4096, where, *more) == (1, 0)
    assert count.value == 0, "the last ones, and none of them is to be seen"


def test_getattrlistbulk_knows_the_end(machine: Machine) -> None:
    fd, buffer = listed(machine), ctypes.create_string_buffer(4096)
    want = struct.pack("<HHIIIII", 5, 0, 0x80000001, 0, 0, 0, 0)
    machine.mac.listings = [bulk("secret"), bulk("secret")]
    assert machine.library.call("getattrlistbulk", fd, want, buffer, 4096, 0) == (0, 0)


TREE = [
    ("/opt/secret", 0, FTS_D),  # the root of a walk is the program's own
    ("/opt/secret", 0, FTS_DP),
    ("/opt/seen", 1, FTS_F),
    ("/opt/secret", 1, FTS_D),
    ("/opt/secret/x", 2, FTS_F),
    ("/opt/secret", 1, FTS_DP),
    ("/opt/work", 1, FTS_D),
    ("/opt/work/a", 2, FTS_F),
    ("/opt/work", 1, FTS_DP),
]


def is_old(machine: Machine, name: str) -> bool:
    """Whether entries of fts have inodes of 32 bits."""
    return bool(machine.library.image.inode64) and "$" not in name


@each(["fts_read", "fts_read$INODE64"])
def test_fts_passes_over_what_is_hidden(machine: Machine, name: str) -> None:
    walk = machine.mac.walks[77] = Walk(TREE, old=is_old(machine, name))
    seen = []
    while entry := machine.library.call(name, 77)[0]:
        seen.append(walk.last)
        assert entry == walk._entry(walk.last)
    assert [TREE[n][0] for n in seen] == ["/opt/secret"] * 2 + ["/opt/seen", "/opt/work", "/opt/work/a", "/opt/work"]
    assert walk.instruction(3) == FTS_SKIP, "nobody goes down into it"


@each(["fts_children", "fts_children$INODE64"])
@pytest.mark.parametrize("names", ["secret", "seen", "secret seen secret work secret", "seen secret", "secret secret"])
def test_fts_children_leaves_out(machine: Machine, name: str, names: str) -> None:
    entries = [(f"/opt/{name}", 1, FTS_F) for name in names.split()]
    walk = machine.mac.walks[77] = Walk(entries, old=is_old(machine, name))
    first = machine.library.call(name, 77, 0)[0]
    assert walk.paths(first) == [path for path, _, _ in entries if path != "/opt/secret"]
    for n, (path, _, _) in enumerate(entries):
        assert walk.instruction(n) == (FTS_SKIP if path == "/opt/secret" else 0)


def test_the_old_entry_of_fts_is_that_of_the_header(tmp_path: Path) -> None:
    struct_text = re.search(
        r"^struct entry32 \{.*?^\};", (SOURCE / "csrc/tracelib/listings_darwin.c").read_text(), re.S | re.M
    )
    assert struct_text
    fields = ("link", "accpath", "level", "info", "instr")
    asserts = "".join(
        f'_Static_assert(offsetof(FTSENT, fts_{f}) == offsetof(struct entry32, fts_{f}), "{f}");\n' for f in fields
    )
    source = tmp_path / "layout.c"
    source.write_text(f"#include <stddef.h>\n#include <stdint.h>\n#include <fts.h>\n{struct_text[0]}\n{asserts}")
    words = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-macos.10.15", "-c", "-o", tmp_path / "o", source]
    subprocess.run([*words, "-D_DARWIN_NO_64_BIT_INODE"], check=True)
    assert subprocess.run(words, capture_output=True).returncode, "the other layout differs, or this says nothing"


def forgotten(machine: Machine, fd: int) -> bool:
    """Whether the library asks anew what a descriptor is, when it comes again for another directory."""
    machine.mac.descriptors[fd] = "/opt/secret"
    errno = machine.library.call(f"fstatat{machine.library.image.inode64}", fd, b"x", bytes(144), 0)[1]
    return errno == ENOENT


CLOSES = ["close", "close$NOCANCEL", "__close_nocancel", "guarded_close_np"]


@pytest.mark.parametrize("name", [*CLOSES, "dup2", "dup3"])
def test_what_is_known_of_a_descriptor_ends_with_it(machine: Machine, name: str) -> None:
    fd = machine.library.call("open", b"/opt/work", 0x100000)[0]
    assert machine.library.call(f"fstatat{machine.library.image.inode64}", fd, b"a", bytes(144), 0) == (0, 0)
    spare = os.open("/dev/null", os.O_RDONLY)
    machine.mac.descriptors[spare] = "/opt/work"
    if name in CLOSES:
        assert machine.library.call(name, fd, 0) == (0, 0)
        os.dup2(spare, fd)
    else:
        assert machine.library.call(name, spare, fd, 0)[0] == fd
    assert forgotten(machine, fd)
    os.close(spare)
    machine.mac.close(fd)


@pytest.mark.parametrize("kept", ["pipe", "nothing"])
def test_what_is_no_directory_is_said_as_the_kernel_does(machine: Machine, kept: str) -> None:
    """Of a pipe, whose path the kernel does not tell either, otherwise than of a number that is not open."""
    call, stat = machine.library.call, f"fstatat{machine.library.image.inode64}"
    ends = os.pipe()
    if kept == "nothing":
        os.close(ends[0])
    expected = 20 if kept == "pipe" else 9  # ENOTDIR, EBADF
    assert [call(stat, ends[0], b"x", bytes(144), 0)[1] for _ in range(2)] == [expected] * 2
    assert call("openat", ends[0], b"x", 0)[1] == expected
    assert call(stat, ends[0], b"/opt/secret/x", bytes(144), 0)[1] == ENOENT, (
        "of which an absolute path takes no notice"
    )
    for end in ends[kept == "nothing" :]:
        os.close(end)


def test_fchdir_and_the_working_directory(machine: Machine) -> None:
    call = machine.library.call
    fd = call("open", b"/opt", 0x100000)[0]
    assert machine.stat("Users/old") == 0
    assert call("fchdir", fd) == (0, 0)
    assert (machine.stat("seen"), machine.stat("secret/x"), machine.stat("Users/old")) == (0, ENOENT, ENOENT)
    buffer = ctypes.create_string_buffer(1024)
    assert call("getcwd", buffer, 1024)[0] and buffer.value == b"/opt"


def test_a_thread_may_stand_elsewhere(machine: Machine) -> None:
    """What is remembered of the process' directory is then no longer believed; each thread's is asked."""
    call, mac = machine.library.call, machine.mac
    assert call("chdir", b"/opt/work") == (0, 0)
    assert machine.stat("a") == 0
    assert call("__pthread_chdir", b"/opt") == (0, 0)
    assert (machine.stat("seen"), machine.stat("secret/x")) == (0, ENOENT)
    mac.thread_cwd = ""  # another thread goes on
    assert (machine.stat("a"), machine.stat("../secret/x"), machine.stat("seen")) == (0, ENOENT, ENOENT)


def test_a_thread_may_stand_where_a_descriptor_is(machine: Machine) -> None:
    call = machine.library.call
    assert call("chdir", b"/opt/work") == (0, 0)
    assert machine.stat("a") == 0
    fd = call("open", b"/opt", 0x100000)[0]
    assert call("__pthread_fchdir", fd) == (0, 0)
    assert (machine.stat("seen"), machine.stat("secret/x")) == (0, ENOENT)
    assert call("__pthread_fchdir", -1) == (0, 0)
    assert machine.stat("a") == 0


def address(path: str) -> bytes:
    return (struct.pack("<BB", 106, 1) + path.encode()).ljust(106, b"\0")


SOCKETS = [name for name in HERE["x86_64"] if "sun_path" in described(name).paths]


@each(SOCKETS)
def test_a_socket_is_a_file(machine: Machine, name: str) -> None:
    base = described(name).name
    makes = base == "bind"

    def call(path: str) -> tuple[int, int]:
        buffer = ctypes.create_string_buffer(address(path), 106)
        where = ctypes.addressof(buffer)
        if base in ("bind", "connect"):
            return machine.library.call(name, 3, where, 106)
        if base == "sendto":
            return machine.library.call(name, 3, b"x", 1, 0, where, 106)
        if base == "sendmsg":
            return machine.library.call(name, 3, struct.pack("<QI36x", where, 106), 0)
        return machine.library.call(name, 3, struct.pack("<I4xQI4xQI4x", 0, 0, 0, where, 106), 0, 0, 0, 0, 0, 0)

    for hidden in ("/opt/secret/x", "/opt/work/dir/x", "/OPT/secret/x"):
        machine.mac.folding += ("",)
        assert call(hidden) == (-1, EACCES if makes else ENOENT)
    assert call("/opt/work/new" if makes else "/opt/work/a") == (0, 0)
    assert machine.mac.passed[-1] == (base, ["/opt/work/new" if makes else "/opt/work/a"])
    assert {event.op for event in machine.session.findings()} == {base}


@pytest.mark.parametrize("name", ["accessx_np", "__access_extended"])
def test_accessx_np_judges_each_path(machine: Machine, name: str) -> None:
    paths = ["/opt/seen", "/opt/secret/x", "/opt/work/dir/x", "/opt/work/a", "/opt/work/out"]
    asked = [(0, 0), (1, 0), (None, 0), (2, 0), (3, 2), (0, 2), (4, 0)]  # which path (None: the one before), and W_OK
    texts = b"".join(path.encode() + b"\0" for path in paths)
    head = 16 * len(asked)
    starts = [head + texts.index(path.encode() + b"\0") for path in paths]
    block = b"".join(struct.pack("<Ii8x", 0 if n is None else starts[n], mode) for n, mode in asked) + texts
    results = ctypes.create_string_buffer(4 * len(asked))
    assert machine.library.call(name, block, len(block), results, 0) == (0, 0)
    assert struct.unpack(f"<{len(asked)}i", results.raw) == (0, ENOENT, ENOENT, ENOENT, 0, EACCES, ENOENT)


@pytest.mark.parametrize("name", ["fsgetpath", "fsgetpath_ext"])
def test_no_name_of_what_is_hidden_is_told(machine: Machine, name: str) -> None:
    buffer = ctypes.create_string_buffer(1024)
    seen, secret = machine.mac.inode("/opt/seen"), machine.mac.inode("/opt/secret/x")
    assert machine.library.call(name, buffer, 1024, bytes(8), seen, 0) == (len("/opt/seen") + 1, 0)
    assert buffer.value == b"/opt/seen"
    assert machine.library.call(name, buffer, 1024, bytes(8), secret, 0) == (-1, ENOENT)
    assert buffer.raw.strip(b"\0") == b""


LOADERS = [
    "dlopen",
    "dlopen_preflight",
    "dlopen_audited",
    "dlopen_from",
    "NSAddImage",
    "NSAddLibrary",
    "NSCreateObjectFileImageFromFile",
]
RETURN_ADDRESS = {
    "x86_64": bytes.fromhex("488b0424 c3"),  # mov (%rsp), %rax; ret
    "arm64": bytes.fromhex("e0031eaa c0035fd6"),  # mov x0, x30; ret
}


@each(LOADERS)
@pytest.mark.parametrize("path", [b"/opt/seen", b"/opt/secret/x", b"seen", b"@loader_path/x", b"@rpath/x"])
def test_the_loader_sees_who_asks(machine: Machine, name: str, path: bytes) -> None:
    """Whose @loader_path and @rpath count it tells by the return address: the program's, not one of ours."""
    machine.library.put_code(name, RETURN_ADDRESS[machine.kind])
    for _ in range(2):
        caller = machine.library.enter(name, ctypes.addressof(ctypes.create_string_buffer(path)))
        assert caller & 0xFFFFFFFFFFFFFFFF > 4096 and not machine.library.inside(caller & 0xFFFFFFFFFFFFFFFF)


# ---- posix_spawn ----

SETEXEC = struct.pack("<h", 0x40)


def spawn(
    machine: Machine,
    name: str,
    path: str,
    actions: FileActions | None,
    attributes: bytes | None,
    arguments: Sequence[str] = (),
) -> int:
    """The errno; the child's environment is in machine.mac.started."""
    pid = ctypes.c_int(0)
    kept_words = [ctypes.create_string_buffer(word.encode()) for word in arguments]
    argv = (ctypes.c_void_p * (len(kept_words) + 1))(*(ctypes.addressof(word) for word in kept_words), None)
    envp = (ctypes.c_void_p * 1)(None)
    words = [ctypes.addressof(pid), path.encode()]
    if name == "posix_spawn":
        words += [actions.address if actions else 0, attributes or 0]
    else:
        kept = ctypes.create_string_buffer(attributes or bytes(2))
        words.append(struct.pack("<QQQQ", 2, ctypes.addressof(kept), 0, actions.block if actions else 0))
    result, errno = machine.library.call(name, *words, ctypes.addressof(argv), ctypes.addressof(envp))
    assert (result == 0) is (errno == 0)
    assert errno or attributes or pid.value == 4242
    return errno


SPAWNS = pytest.mark.parametrize("name", ["posix_spawn", "__posix_spawn"])


@SPAWNS
@pytest.mark.parametrize("attributes", [None, SETEXEC])
def test_a_spawned_program_has_the_library(machine: Machine, name: str, attributes: bytes | None) -> None:
    """Told as a start of the child, or, where it takes this process' place, of this one."""
    assert spawn(machine, name, "/opt/work/prog", None, attributes) == 0
    ((path, environment),) = machine.mac.started
    assert path == "/opt/work/prog"
    assert environment == [f"DYLD_INSERT_LIBRARIES={machine.session.dir}/tracelib.dylib"]
    starts = [event for event in machine.session.events("exec") if event.path == "/opt/work/prog"]
    assert [(event.op, event.pid) for event in starts] == [(name, os.getpid() if attributes else 4242)]


@SPAWNS
@pytest.mark.parametrize("attributes", [None, SETEXEC])
def test_a_spawn_that_fails_is_no_start(machine: Machine, name: str, attributes: bytes | None) -> None:
    """What takes this process' place is told before, and taken back."""
    actions = FileActions()
    actions.add(struct.pack("<ii", 5, 0) + b"/opt/none")
    assert spawn(machine, name, "/opt/work/prog", actions, attributes) == ENOENT
    told = [(event.pid, event.error) for event in machine.session.events("exec")]
    assert told == ([(os.getpid(), 0), (os.getpid(), ENOENT)] if attributes else [])


@SPAWNS
@pytest.mark.parametrize("attributes", [None, SETEXEC])
@pytest.mark.parametrize(("path", "words", "given"), STARTS)
def test_a_protected_program_is_spawned_from_its_copy(
    machine: Machine,
    programs: dict[str, bytes],
    name: str,
    attributes: bytes | None,
    path: str,
    words: list[str],
    given: list[str],
) -> None:
    copy = protected(machine, programs["x86_64+arm64e"], True)
    assert spawn(machine, name, path, None, attributes, words) == 0
    ((started_as, environment),) = machine.mac.started
    assert (started_as, machine.mac.arguments) == (copy, given)
    assert any(word.startswith("DYLD_INSERT_LIBRARIES=") for word in environment)
    assert machine.session.events("untraced") == []


@SPAWNS
@pytest.mark.parametrize("attributes", [None, SETEXEC])
def test_a_program_is_judged_where_the_child_will_stand(machine: Machine, name: str, attributes: bytes | None) -> None:
    """addchdir and addfchdir: from there the kernel takes a relative name."""
    machine.mac.folding += ("",)
    work, opt = (machine.library.call("open", where, 0x100000)[0] for where in (b"/opt/work", b"/opt"))
    chdir, fchdir = lambda path: struct.pack("<ii", 5, 0) + path, lambda fd: struct.pack("<ii", 6, fd)
    hidden = [
        ("secret/x", [chdir(b"/opt")]),
        ("x", [chdir(b"/opt/work"), chdir(b"../secret")]),
        ("x", [chdir(b"/opt"), chdir(b"/opt/work/dir")]),
        ("secret/x", [fchdir(opt)]),
        ("x", [fchdir(work), chdir(b"dir")]),
        ("secret/x", [chdir(b"/opt/work"), fchdir(opt)]),
    ]
    for path, made in hidden:
        actions = FileActions()
        for action in made:
            actions.add(action)
        assert spawn(machine, name, path, actions, attributes) == ENOENT, (path, made)
    assert not machine.mac.started
    assert machine.library.call("chdir", b"/opt") == (0, 0)
    visible = [
        ("prog", [chdir(b"/opt/work")]),
        ("work/prog", [chdir(b"/"), fchdir(opt)]),
        ("prog", [chdir(b"/opt"), chdir(b"/opt/work")]),
        ("../prog", [chdir(b"/opt/work"), chdir(b"sub")]),
        ("prog", [chdir(b"work")]),  # the name is the child's, and not taken from here once more
    ]
    for path, made in visible:
        actions = FileActions()
        for action in made:
            actions.add(action)
        assert spawn(machine, name, path, actions, attributes) == 0
    assert [path for path, _ in machine.mac.started] == ["/opt/work/prog"] * 5
    assert machine.found() == {"/opt/secret/x"}


@SPAWNS
def test_a_program_need_not_ask_for_the_childs_number(machine: Machine, name: str) -> None:
    kept = (ctypes.c_void_p * 1)(None)
    nothing = ctypes.addressof(kept)
    between = [0, 0] if name == "posix_spawn" else [0]
    assert machine.library.call(name, 0, b"/opt/work/prog", *between, nothing, nothing) == (0, 0)
    assert [path for path, _ in machine.mac.started] == ["/opt/work/prog"]


@pytest.mark.parametrize("twin", ["", "_np"])
def test_a_childs_opens_are_judged_from_where_it_then_stands(machine: Machine, twin: str) -> None:
    call = machine.library.call
    actions = FileActions()
    assert call(f"posix_spawn_file_actions_addchdir{twin}", actions.address, b"/opt") == (0, 0)
    assert call("posix_spawn_file_actions_addopen", actions.address, 0, b"secret/x", 0, 0) == (0, 0)
    assert spawn(machine, "posix_spawn", "work/prog", actions, None) == ENOENT
    assert not machine.mac.started
    actions = FileActions()
    assert call(f"posix_spawn_file_actions_addchdir{twin}", actions.address, b"/opt") == (0, 0)
    assert call("posix_spawn_file_actions_addopen", actions.address, 0, b"seen", 0, 0) == (0, 0)
    assert call("posix_spawn_file_actions_addopen", actions.address, 1, b"work/new", 0x201, 0o644) == (0, 0)
    assert spawn(machine, "posix_spawn", "work/prog", actions, None) == 0
    opens = [paths for name, paths in machine.mac.passed if name == "open of a child"]
    assert opens == [["/opt/seen"], ["/opt/work/new"]]
    actions = FileActions()
    assert call(f"posix_spawn_file_actions_addchdir{twin}", actions.address, b"/opt/secret") == (0, 0)
    assert spawn(machine, "posix_spawn", "/opt/work/prog", actions, None) == ENOENT
    actions = FileActions()
    assert call(f"posix_spawn_file_actions_addchdir{twin}", actions.address, b"/opt/work/dir") == (0, 0)
    assert spawn(machine, "posix_spawn", "/opt/work/prog", actions, None) == ENOENT, "a link that leads there"
    assert {event.path for event in machine.session.findings()} == {"/opt/secret/x", "/opt/secret"}


def test_a_spawn_without_a_name_is_the_kernels_to_refuse(machine: Machine) -> None:
    """Also where actions say from where the name would be looked for."""
    actions, nothing = FileActions(), (ctypes.c_void_p * 1)(None)
    assert machine.library.call("posix_spawn_file_actions_addchdir_np", actions.address, b"/opt") == (0, 0)
    words = ctypes.addressof(nothing)
    assert machine.library.call("posix_spawn", 0, 0, actions.address, 0, words, words) == (-1, EFAULT)


@pytest.mark.parametrize("twin", ["", "_np"])
def test_a_child_is_given_names_as_they_were_given(machine: Machine, twin: str) -> None:
    """It goes where they begin by itself: what they were judged by here would lead elsewhere there."""
    call = machine.library.call
    assert call("chdir", b"/opt") == (0, 0)
    actions = FileActions()
    for path in (b"work", b"sub", b".."):
        assert call(f"posix_spawn_file_actions_addchdir{twin}", actions.address, path) == (0, 0)
    assert call("posix_spawn_file_actions_addopen", actions.address, 0, b"a", 0, 0) == (0, 0)
    assert call("posix_spawn_file_actions_addopen", actions.address, 1, b"sub/../new", 0x201, 0o644) == (0, 0)
    assert spawn(machine, "posix_spawn", "prog", actions, None) == 0
    assert [paths for name, paths in machine.mac.passed if name == "open of a child"] == [
        ["/opt/work/a"],
        ["/opt/work/new"],
    ]


@pytest.mark.parametrize(
    ("path", "full", "errors"),
    [(b"/opt/seen", False, [0]), (b"/opt/seen", True, [ENOMEM]), (b"/opt/secret/x", True, [ENOENT])],
)
def test_what_is_told_of_a_childs_open_and_directory(
    machine: Machine, path: bytes, full: bool, errors: list[int]
) -> None:
    """The log has what came of the call; where the policy has refused, that is why."""
    with Session(*RULES, log=True) as session:
        machine.mac.session, machine.mac.full = str(session.top), full
        library, actions = Library(machine.library.image, machine.mac), FileActions()
        result = (-1, ENOMEM) if full else (0, 0)
        assert library.call("posix_spawn_file_actions_addopen", actions.address, 0, path, 0, 0) == result
        assert library.call("posix_spawn_file_actions_addchdir_np", actions.address, path) == result
        told = {event.op: event.error for event in session.events("access") if event.path == path.decode()}
        assert told == dict.fromkeys(told, errors[0]) and len(told) == 2


def test_an_open_is_given_what_authenticates_it(machine: Machine) -> None:
    """The last parameter, which younger releases have."""
    assert machine.library.call("__openat_dprotected_np", AT_FDCWD, b"/opt/seen", 0, 1, 2, 0o640, 77)[1] == 0
    assert [word & 0xFFFFFFFF for word in machine.mac.words[3:7]] == [1, 2, 0o640, 77]


# ---- completeness ----

BY_HAND = {
    test_getdirentries_leaves_out: "getdirentries",
    test_getdirentriesattr_leaves_out: "getdirentriesattr",
    test_getattrlistbulk_knows_the_end: "getattrlistbulk",
    test_opendir_is_known_for_its_listing: "__getdirentries64",
    test_fts_passes_over_what_is_hidden: "fts_read fts_read$INODE64",
    test_fts_children_leaves_out: "fts_children fts_children$INODE64",
    test_what_is_known_of_a_descriptor_ends_with_it: " ".join([*CLOSES, "dup2", "dup3"]),
    test_fchdir_and_the_working_directory: "fchdir getcwd",
    test_a_thread_may_stand_where_a_descriptor_is: "__pthread_fchdir",
    test_a_socket_is_a_file: " ".join(SOCKETS),
    test_accessx_np_judges_each_path: "accessx_np __access_extended",
    test_no_name_of_what_is_hidden_is_told: "fsgetpath fsgetpath_ext",
}


def test_each_row_is_tried() -> None:
    assert {*WITH_PATHS, *" ".join(BY_HAND.values()).split()} == {*HERE["x86_64"], *HERE["arm64"]}
