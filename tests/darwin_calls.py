"""The part of libSystem for darwin_machine.py that no row describes: what functions of a form of their own do.

Each does what the real one does with files, over the made-up tree; where the real one is made of other calls of
libSystem, these go through the wrappers here as they do there.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from darwin_machine import Library

ENOENT, ENOMEM, EFAULT, ENOTDIR, ERANGE = 2, 12, 14, 20, 34
O_WRONLY, O_CREAT = 1, 0x200
AF_UNIX = 1
# struct _posix_spawn_file_actions of the kernel's <sys/spawn_internal.h>: room, count, then actions
ACTIONS, ACTION = 8, 1040
OPEN, CHDIR, FCHDIR = 0, 5, 6


def texts(at: int) -> list[str]:
    """A list that ends with NULL, as argv does; none at all is an empty one."""
    found: list[str] = []
    while at and (each := ctypes.c_uint64.from_address(at + 8 * len(found)).value):
        found.append(text(each))
    return found


def text(at: int) -> str:
    return os.fsdecode(ctypes.string_at(at))


def word(at: int, kind: Any = ctypes.c_int) -> int:
    return int(kind.from_address(at).value)


class FileActions:
    """posix_spawn_file_actions_t: a pointer to what posix_spawn_file_actions_init has made."""

    def __init__(self) -> None:
        self._block = ctypes.create_string_buffer(ACTIONS + 16 * ACTION)
        struct.pack_into("<ii", self._block, 0, 16, 0)
        self._handle = ctypes.c_void_p(ctypes.addressof(self._block))
        self.address = ctypes.addressof(self._handle)
        self.block = ctypes.addressof(self._block)

    def add(self, action: bytes) -> None:
        add_action(self.address, action)


FTS_D, FTS_DP, FTS_F, FTS_SKIP = 1, 6, 8, 4


@dataclass
class Walk:
    """A walk of fts over entries `(path, level, info)` in its order; `old`: inodes of 32 bits."""

    entries: list[tuple[str, int, int]]
    old: bool
    at: int = 0
    last: int = -1
    _made: dict[int, ctypes.Array[ctypes.c_char]] = field(default_factory=dict)

    def _entry(self, n: int) -> int:
        path, level, info = self.entries[n]
        if n not in self._made:
            name = ctypes.create_string_buffer(os.fsencode(path))
            block = ctypes.create_string_buffer(256)
            struct.pack_into("<Q", block, 40, ctypes.addressof(name))
            struct.pack_into("<hH", block, 78 if self.old else 86, level, info)
            self._made[n], self._made[-1 - n] = block, name
        return ctypes.addressof(self._made[n])

    def instruction(self, n: int) -> int:
        return word(self._entry(n) + (84 if self.old else 92), ctypes.c_uint16)

    def read(self) -> int:
        """A directory that is to be skipped comes at once a second time, as after all that is in it."""
        if self.last >= 0 and self.entries[self.last][2] == FTS_D and self.instruction(self.last) == FTS_SKIP:
            path, level, _ = self.entries[self.last]
            self.at = self.entries.index((path, level, FTS_DP))
        if self.at >= len(self.entries):
            return 0
        self.last, self.at = self.at, self.at + 1
        return self._entry(self.last)

    def children(self) -> int:
        places = [self._entry(n) for n in range(len(self.entries))]
        for here, then in zip(places, [*places[1:], 0], strict=True):
            struct.pack_into("<Q", (ctypes.c_char * 24).from_address(here), 16, then)
        return places[0]

    def paths(self, first: int) -> list[str]:
        """What a list of fts_children names."""
        found = []
        while first:
            found.append(text(word(first + 40, ctypes.c_uint64)))
            first = word(first + 16, ctypes.c_uint64)
        return found


def add_action(handle: int, action: bytes) -> int:
    block = word(handle, ctypes.c_uint64)
    count = word(block + 4)
    ctypes.memmove(block + ACTIONS + count * ACTION, action.ljust(ACTION, b"\0"), ACTION)
    ctypes.c_int.from_address(block + 4).value = count + 1
    return 0


def bodies(library: Library) -> dict[str, Callable[..., int]]:
    """By the name of the row."""
    from darwin_machine import Failure

    mac = library.mac

    def note(name: str, *paths: str) -> int:
        mac.passed.append((name, list(paths)))
        return 0

    # ---- listings: the parts that the test has laid out, one for each call ----

    def getdirentries64(fd: int, buffer: int, *_: int) -> int:
        part = mac.listings.pop(0) if mac.listings else b""
        ctypes.memmove(buffer, part, len(part))
        return len(part)

    def lengths(part: bytes) -> int:
        count = at = 0
        while at < len(part):
            at, count = at + struct.unpack_from("<I", part, at)[0], count + 1
        return count

    def getattrlistbulk(fd: int, want: int, buffer: int, *_: int) -> int:
        part = mac.listings.pop(0) if mac.listings else b""
        ctypes.memmove(buffer, part, len(part))
        return lengths(part)

    def getdirentriesattr(fd: int, want: int, buffer: int, size: int, count: int, *_: int) -> int:
        part = mac.listings.pop(0) if mac.listings else b""
        assert lengths(part) <= word(count), "more is asked for than there is"
        ctypes.memmove(buffer, part, len(part))
        ctypes.c_int.from_address(count).value = lengths(part)
        return int(not mac.listings)

    def opendir2(path: int, flags: int, *_: int) -> int:
        fd = ctypes.c_int(library.enter("open", path, 0x100000)).value
        if fd < 0:
            raise Failure(library.errno)
        return mac.stream(fd)

    def fts_read(fts: int, *_: int) -> int:
        return mac.walks[fts].read()

    def fts_children(fts: int, *_: int) -> int:
        return mac.walks[fts].children()

    # ---- several paths, or none ----

    def copyfile(old: int, path: int, state: int, flags: int, *_: int) -> int:
        for at, how in ((old, 0), (path, O_WRONLY | O_CREAT)):
            fd = ctypes.c_int(library.enter("open", at, how, 0o644)).value
            if fd < 0:
                raise Failure(library.errno)
            mac.close(fd)
        return note("copyfile", mac.placed(mac.absolute(text(old))), mac.placed(mac.absolute(text(path))))

    def accessx_np(what: int, size: int, results: int, uid: int, *_: int) -> int:
        count, path, i = size // 16, "", 0
        while i < count:
            offset = word(what + 16 * i)
            if offset:
                path, count = text(what + offset), min(count, offset // 16)
            try:
                note("accessx_np", mac.walk(mac.absolute(path), True))
                ctypes.c_int.from_address(results + 4 * i).value = 0
            except Failure as failure:
                ctypes.c_int.from_address(results + 4 * i).value = failure.errno
            i += 1
        return 0

    def fsgetpath(buffer: int, size: int, fsid: int, number: int, *_: int) -> int:
        found = next((p for p in mac.files if mac.inode(p) == number), None)
        if not found:
            raise Failure(ENOENT)
        data = os.fsencode(found) + b"\0"
        ctypes.memmove(buffer, data, len(data))
        return len(data)

    def getcwd(buffer: int, size: int, *_: int) -> int:
        data = os.fsencode(mac.thread_cwd or mac.cwd) + b"\0"
        if len(data) > size:
            raise Failure(ERANGE)
        ctypes.memmove(buffer, data, len(data))
        return buffer

    # ---- where a process stands ----

    def directory(where: str) -> str:
        found = mac.walk(mac.absolute(where), True)
        if mac.files[found] != "d":
            raise Failure(ENOTDIR)
        return found

    def chdir(path: int, *_: int) -> int:
        mac.cwd = directory(text(path))
        return note("chdir", mac.cwd)

    def fchdir(fd: int, *_: int) -> int:
        mac.cwd = mac.descriptors[fd]
        return note("fchdir", mac.cwd)

    def thread_chdir(path: int, *_: int) -> int:
        mac.thread_cwd = directory(text(path))
        return note("__pthread_chdir", mac.thread_cwd)

    def thread_fchdir(fd: int, *_: int) -> int:
        mac.thread_cwd = "" if ctypes.c_int(fd).value == -1 else mac.descriptors[fd]
        return note("__pthread_fchdir", mac.thread_cwd)

    # ---- descriptors ----

    def close(fd: int, *_: int) -> int:
        note("close", str(fd))
        return mac.close(fd)

    def dup2(old: int, fd: int, *_: int) -> int:
        os.dup2(old, fd)
        mac.descriptors[fd] = mac.descriptors[old]
        note("dup2", str(fd))
        return fd

    # ---- programs ----

    def child(path: str, block: int, argv: int, environment: int) -> None:
        """The kernel's part of a spawn: the actions in their order, from where the parent stands; then the program."""
        stood = mac.cwd
        try:
            for n in range(word(block + 4) if block else 0):
                at = block + ACTIONS + n * ACTION
                kind, fd = word(at), word(at + 4)
                if kind == CHDIR:
                    mac.cwd = directory(text(at + 8))
                elif kind == FCHDIR:
                    mac.cwd = mac.descriptors[fd]
                elif kind == OPEN:
                    flags, name = word(at + 8), text(at + 8 + 6)
                    where = mac.absolute(name)
                    note("open of a child", mac.placed(where) if flags & O_CREAT else mac.walk(where, True))
            found = path if mac.real(path) else mac.walk(mac.absolute(path), True)  # a copy of ours
        finally:
            mac.cwd = stood
        mac.started.append((found, texts(environment)))
        mac.arguments = texts(argv)

    def posix_spawn(pid: int, path: int, actions: int, attributes: int, argv: int, envp: int, *_: int) -> int:
        if path < 4096:
            raise Failure(EFAULT)
        child(text(path), word(actions, ctypes.c_uint64) if actions else 0, argv, envp)
        if pid:
            ctypes.c_int.from_address(pid).value = 4242
        return note("posix_spawn", mac.started[-1][0])

    def raw_posix_spawn(pid: int, path: int, args: int, argv: int, envp: int, *_: int) -> int:
        child(text(path), word(args + 24, ctypes.c_uint64) if args else 0, argv, envp)
        if pid:
            ctypes.c_int.from_address(pid).value = 4242
        return note("__posix_spawn", mac.started[-1][0])

    def addopen(handle: int, fd: int, path: int, flags: int, mode: int, *_: int) -> int:
        if mac.full:
            raise Failure(ENOMEM)
        note("posix_spawn_file_actions_addopen", text(path))
        return add_action(handle, struct.pack("<iiiH", OPEN, fd, flags, mode) + os.fsencode(text(path)))

    def addchdir(handle: int, path: int, *_: int) -> int:
        if mac.full:
            raise Failure(ENOMEM)
        note("posix_spawn_file_actions_addchdir_np", text(path))
        return add_action(handle, struct.pack("<ii", CHDIR, 0) + os.fsencode(text(path)))

    # ---- the loader, which opens by itself ----

    def load(name: str) -> Callable[..., int]:
        def opened(path: int, *_: int) -> int:
            note(name, mac.walk(mac.absolute(text(path)), True))
            return 1

        return opened

    # ---- sockets ----

    def named(name: str, at: int, length: int) -> Callable[..., int]:
        def answer(*words: int) -> int:
            address, size = words[at], words[length] & 0xFFFFFFFF
            if word(address + 1, ctypes.c_uint8) == AF_UNIX:
                path = os.fsdecode(ctypes.string_at(address + 2, size - 2).split(b"\0")[0])
                if mac.real(path) and mac.sockets is not None:
                    mac.sockets[words[0]].connect(path)
                    return 0
                where = mac.absolute(path)
                note(name, mac.placed(where) if name == "bind" else mac.walk(where, True))
            return 0

        return answer

    def sendmsg(fd: int, message: int, *_: int) -> int:
        return named("sendmsg", 0, 1)(word(message, ctypes.c_uint64), word(message + 8))

    def connectx(fd: int, ends: int, *_: int) -> int:
        return named("connectx", 0, 1)(word(ends + 24, ctypes.c_uint64), word(ends + 32))

    loads = ("dlopen dlopen_preflight dlopen_audited dlopen_from NSAddImage NSAddLibrary NSAddLibraryWithSearching "
             "NSCreateObjectFileImageFromFile")  # fmt: skip
    return {name: load(name) for name in loads.split()} | {
        "__getdirentries64": getdirentries64,
        "getdirentries": getdirentries64,
        "getattrlistbulk": getattrlistbulk,
        "getdirentriesattr": getdirentriesattr,
        "__opendir2": opendir2,
        "__opendir2$INODE64": opendir2,
        "fts_read": fts_read,
        "fts_read$INODE64": fts_read,
        "fts_children": fts_children,
        "fts_children$INODE64": fts_children,
        "copyfile": copyfile,
        "accessx_np": accessx_np,
        "fsgetpath": fsgetpath,
        "fsgetpath_ext": fsgetpath,
        "getcwd": getcwd,
        "chdir": chdir,
        "fchdir": fchdir,
        "__pthread_chdir": thread_chdir,
        "__pthread_fchdir": thread_fchdir,
        "close": close,
        "guarded_close_np": close,
        "dup2": dup2,
        "dup3": dup2,
        "posix_spawn": posix_spawn,
        "__posix_spawn": raw_posix_spawn,
        "posix_spawn_file_actions_addopen": addopen,
        "posix_spawn_file_actions_addchdir_np": addchdir,
        "bind": named("bind", 1, 2),
        "connect": named("connect", 1, 2),
        "sendto": named("sendto", 4, 5),
        "sendmsg": sendmsg,
        "connectx": connectx,
    }
