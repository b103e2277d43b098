"""Runs the macOS library where no Mac is: a small loader for its x86_64 half, and a made-up macOS under it.

On x86_64 Linux and macOS pass arguments alike, so that the very code which a Mac would run can be mapped and called
here; only what it asks of libSystem has to be answered. `Mac` answers: a tree of files with volumes that ignore case,
second names (/.vol, /System/Volumes/Data), listings in the kernel's own form. The session's own files are real ones.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import lief
from tracelib_session import SOURCE

sys.path.insert(0, str(SOURCE / "csrc"))
import gen_calls

ENOENT, EEXIST, ENOTDIR, EINVAL, ENOEXEC, ELOOP, ENOSYS = 2, 17, 20, 22, 8, 62, 78  # of macOS, <sys/errno.h>
O_ACCMODE, O_NOFOLLOW, O_CREAT, O_SYMLINK, O_NOFOLLOW_ANY = 3, 0x100, 0x200, 0x200000, 0x20000000  # <sys/fcntl.h>
F_GETPATH = 50
FSOPT_NOFOLLOW = 1
DT_DIR, DT_REG, DT_LNK = 4, 8, 10
DATA = "/System/Volumes/Data"
FIRMLINKS = ("/Users", "/opt", "/private", "/usr/local", "/Applications")
#: What is a matter of memory alone is the C library's of this machine.
MEMORY = """
__bzero memchr memcmp memcpy memmove memset strchr strcmp strcspn strlen strncmp strnlen strrchr strstr pthread_self
"""

_ROWS = {row.name: row for row in gen_calls.read(SOURCE / "csrc" / "calls.table", "darwin") if row.form != "not"}
_PATH_AT = {}  # which parameter of an exchanged function is its first path
for _name, _row in _ROWS.items():
    _row = _ROWS[_row.target] if _row.target else _row
    _paths = [
        n for n, (_, word) in enumerate(_row.parameters) if word == (_row.paths + ":").partition(":")[0].split("@")[0]
    ]
    _PATH_AT[_name] = _paths[0] if _paths else 0

_MAKES = ("mkdir", "symlink", "link", "clonefile", "clonefileat", "rename", "renamex_np", "renameatx_np")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_CALL = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_long] * 6)


class Failure(Exception):
    """A call of the made-up system fails with this errno."""

    def __init__(self, errno: int) -> None:
        self.errno = errno


@dataclass
class Mac:
    """The system under the library. `files`: real path to a kind of file, "d", "f" or "l TARGET"."""

    session: str
    files: dict[str, str]
    folding: tuple[str, ...] = ()  # volumes that do not tell letters' case apart
    reached: list[tuple[str, str]] = field(
        default_factory=list
    )  # (call, path) of what a wrapper passed on, and did not fail
    listings: list[bytes] = field(default_factory=list)
    descriptors: dict[int, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    content: dict[str, bytes] = field(default_factory=dict)
    links: int = 0  # that the last walk followed
    started: list[tuple[str, list[str]]] = field(default_factory=list)  # program and environment of each execve

    def inode(self, path: str) -> int:
        return 1000 + list(self.files).index(path)

    def named(self, directory: str, name: str) -> str | None:
        """The entry as it stands on the disk."""
        path = f"{'' if directory == '/' else directory}/{name}"
        if path in self.files:
            return path
        if any(path.lower().startswith(f"{volume}/") for volume in self.folding):
            return next((p for p in self.files if p.lower() == path.lower()), None)
        return None

    def walk(self, path: str, follow: bool, depth: int = 0) -> str:
        """The real path, as the kernel finds it."""
        self.links = depth and self.links
        if depth > 32:
            raise Failure(ELOOP)
        if path.startswith("/.vol/"):
            _, _, device, number, *rest = path.split("/")
            found = next((p for p in self.files if str(self.inode(p)) == number), None)
            if device != "1" or not found:
                raise Failure(ENOENT)
            return self.walk("/".join([found, *rest]), follow, depth + 1) if rest else found
        for link in FIRMLINKS:
            if path.lower() == (DATA + link).lower() or path.lower().startswith((DATA + link).lower() + "/"):
                return self.walk(path[len(DATA) :], follow, depth + 1)
        at, parts = "/", [p for p in path.split("/") if p not in ("", ".")]
        for n, part in enumerate(parts):
            if part == "..namedfork":
                return at
            if part == "..":
                at = at.rpartition("/")[0] or "/"
                continue
            found = self.named(at, part)
            if not found:
                raise Failure(ENOENT)
            kind, last = self.files[found], n == len(parts) - 1
            if kind[0] == "l" and (follow or not last):
                self.links += 1
                target = kind[2:] if kind[2:].startswith("/") else f"{at}/{kind[2:]}"
                return self.walk("/".join([target, *parts[n + 1 :]]), follow, depth + 1)
            if kind != "d" and not last and parts[n + 1] != "..namedfork":
                raise Failure(ENOTDIR)
            at = found
        return at

    # ---- what the library calls by itself ----

    def real(self, path: str) -> bool:
        return path.startswith(self.session)

    def opened(self, path: str, flags: int) -> int:
        if self.real(path):
            return os.open(path, flags & O_ACCMODE)
        try:
            found = self.walk(path, not flags & (O_NOFOLLOW | O_NOFOLLOW_ANY | O_SYMLINK))
            if self.files[found][0] == "l" and not flags & O_SYMLINK:
                raise Failure(ELOOP)
            if flags & O_NOFOLLOW_ANY and self.links:
                raise Failure(ELOOP)
        except Failure as failure:
            if failure.errno != ENOENT or not flags & O_CREAT:
                raise
            found = path
        fd = os.open("/dev/null", os.O_RDONLY)
        self.descriptors[fd] = found
        return fd

    def close(self, fd: int) -> int:
        self.descriptors.pop(fd, None)
        os.close(fd)
        return 0

    def stat_of(self, path: str, follow: bool) -> bytes:
        found = self.walk(path, follow)
        mode = {"d": 0o40755, "f": 0o100644, "l": 0o120777}[self.files[found][0]]
        return self.stat_words(1, mode, self.inode(found), len(self.content.get(found, b"")), 0)

    @staticmethod
    def stat_words(device: int, mode: int, inode: int, size: int, flags: int) -> bytes:
        """struct stat of <sys/stat.h>, with 64-bit inodes."""
        head = struct.pack("<iHHQIIi4x", device, mode, 1, inode, 0, 0, 0)
        return head + struct.pack("<8q", *[1] * 8) + struct.pack("<qqiIII16x", size, 0, 4096, flags, 0, 0)

    def fstat(self, fd: int) -> bytes:
        if fd in self.descriptors:
            return self.stat_of(self.descriptors[fd], False)
        info = os.fstat(fd)
        return self.stat_words(1, info.st_mode, info.st_ino, info.st_size, 0)

    def true_name(self, path: str, options: int) -> bytes:
        """An answer of getattrlist to ATTR_CMN_NAME."""
        name = os.fsencode(self.walk(path, not options & FSOPT_NOFOLLOW).rpartition("/")[2]) + b"\0"
        return struct.pack("<IiI", 12 + len(name), 8, len(name)) + name

    def path_of(self, fd: int) -> bytes:
        return os.fsencode(self.descriptors[fd]) + b"\0"


class Library:
    """The x86_64 half of the library, mapped anew, over `mac`."""

    def __init__(self, universal: bytes, mac: Mac) -> None:
        self.mac = mac
        self._kept: list[Any] = []
        self._errno = ctypes.c_int(0)
        fat = lief.MachO.parse(list(universal))
        assert fat is not None
        (binary,) = [b for b in fat if b.header.cpu_type == lief.MachO.Header.CPU_TYPE.X86_64]
        size = max(s.virtual_address + s.virtual_size for s in binary.segments)
        base = _libc.mmap(None, size, 7, 0x22, -1, 0)  # one piece, writable and executable: it is only a test
        assert base not in (None, ctypes.c_void_p(-1).value)
        self.base = int(base)
        for segment in binary.segments:
            content = bytes(segment.content)
            ctypes.memmove(self.base + segment.virtual_address, content, len(content))
        for relocation in binary.relocations:
            place = ctypes.c_uint64.from_address(self.base + relocation.address)
            place.value += self.base
        where: dict[int, str] = {}
        for binding in binary.bindings:
            if binding.has_symbol and binding.symbol.name != "dyld_stub_binder":
                where[binding.address] = binding.symbol.name
        made: dict[str, int] = {}
        for address, name in where.items():
            if name not in made:
                made[name] = self._answer(name.removeprefix("_"))
            ctypes.c_uint64.from_address(self.base + address).value = made[name]
        (section,) = [s for s in binary.sections if s.name == "__interpose"]
        self.exchanged: dict[str, int] = {}
        for at in range(section.virtual_address, section.virtual_address + section.size, 16):
            ours = ctypes.c_uint64.from_address(self.base + at).value
            self.exchanged[where[at + 8].removeprefix("_")] = ours
        self._fat = fat

    def call(self, name: str, *words: Any) -> tuple[int, int]:
        """An exchanged function as a program calls it: result and errno (0 where it did not fail)."""
        given = []
        for word in words:
            buffer = ctypes.create_string_buffer(word) if isinstance(word, bytes) else word
            given.append(ctypes.addressof(buffer) if isinstance(buffer, ctypes.Array) else buffer)
            self._kept.append(buffer)
        self._errno.value = 0
        result = _CALL(self.exchanged[name])(*given, *[0] * (6 - len(given)))
        result = ctypes.c_int(result).value
        return result, self._errno.value if result == -1 else 0

    # ---- libSystem ----

    def _answer(self, name: str) -> int:
        if name in MEMORY.split():
            return int(ctypes.cast(getattr(_libc, name.removeprefix("__")), ctypes.c_void_p).value or 0)
        body = self._bodies().get(name)
        exchanged = self._exchanged_body(name)

        def answer(*words: int) -> int:
            try:
                if body:
                    return body(*words)
                return exchanged(*words)
            except Failure as failure:
                self._errno.value = failure.errno
                return -1
            except OSError as error:
                self._errno.value = error.errno or EINVAL
                return -1

        kept = _CALL(answer)
        self._kept.append(kept)
        return int(ctypes.cast(kept, ctypes.c_void_p).value or 0)

    def _exchanged_body(self, name: str) -> Callable[..., int]:
        """The function behind a wrapper: notes what it was given."""
        first = name.removeprefix("__").split("$")[0]

        def answer(*words: int) -> int:
            mac = self.mac
            if first in ("getdirentries64", "getattrlistbulk"):
                if not mac.listings:
                    return 0
                answer = mac.listings.pop(0)
                ctypes.memmove(words[1 if first == "getdirentries64" else 2], answer, len(answer))
                if first == "getattrlistbulk":
                    count = at = 0
                    while at < len(answer):
                        at, count = at + struct.unpack_from("<I", answer, at)[0], count + 1
                    return count
                return len(answer)
            at = _PATH_AT.get(name, 0)
            if name not in self.exchanged or not words[at] > 4096:
                mac.unknown.append(name)
                raise Failure(ENOSYS)
            path = os.fsdecode(ctypes.string_at(words[at]))
            done = 0
            if first in ("open", "openat"):
                done = mac.opened(path, words[at + 1])
            elif first not in _MAKES:
                mac.walk(path, not first.startswith("l") and first != "readlink")
            mac.reached.append((first, path))
            return done

        return answer

    def _bodies(self) -> dict[str, Callable[..., int]]:
        mac = self.mac
        name = ctypes.create_string_buffer(os.fsencode(mac.session + "/1/tracelib.dylib"))
        self._kept.append(name)

        def text(at: int) -> str:
            return os.fsdecode(ctypes.string_at(at))

        def put(at: int, data: bytes) -> int:
            ctypes.memmove(at, data, len(data))
            return 0

        def readlink(path: int, buffer: int, size: int, *_: int) -> int:
            found = mac.walk(text(path), False)
            if mac.files[found][0] != "l":
                raise Failure(EINVAL)
            target = os.fsencode(mac.files[found][2:])[:size]
            put(buffer, target)
            return len(target)

        def mmap(at: int, size: int, protection: int, flags: int, fd: int, offset: int) -> int:
            flags = flags & 3 | (0x20 if flags & 0x1000 else 0)
            return int(_libc.mmap(at, size, protection, flags, ctypes.c_int(fd).value, offset) or 0)

        def fcntl(fd: int, command: int, buffer: int, *_: int) -> int:
            return put(buffer, mac.path_of(fd)) if command == F_GETPATH else 0

        def pread(fd: int, buffer: int, size: int, offset: int, *_: int) -> int:
            data = mac.content.get(mac.descriptors.get(fd, ""), b"")[offset : offset + size]
            put(buffer, data)
            return len(data)

        def execve(path: int, argv: int, envp: int, *_: int) -> int:
            words = []
            while at := ctypes.c_uint64.from_address(envp + 8 * len(words)).value:
                words.append(text(at))
            mac.started.append((text(path), words))
            raise Failure(ENOEXEC)

        def fstatat(dirfd: int, path: int, buffer: int, flags: int, *_: int) -> int:
            return put(buffer, mac.stat_of(text(path), not flags & 0x20))

        return {
            "__error": lambda *_: ctypes.addressof(self._errno),
            "_dyld_image_count": lambda *_: 1,
            "_dyld_get_image_header": lambda *_: self.base,
            "_dyld_get_image_name": lambda *_: ctypes.addressof(name),
            "proc_pidpath": lambda pid, buffer, size, *_: put(buffer, b"/bin/x") or 6,
            "getpid": lambda *_: os.getpid(),
            "getppid": lambda *_: os.getppid(),
            "open$NOCANCEL": lambda path, flags, *_: mac.opened(text(path), flags),
            "close$NOCANCEL": lambda fd, *_: mac.close(fd),
            "fstat$INODE64": lambda fd, buffer, *_: put(buffer, mac.fstat(fd)),
            "lstat$INODE64": lambda path, buffer, *_: put(buffer, mac.stat_of(text(path), False)),
            "fstatat$INODE64": fstatat,
            "readlink": readlink,
            "getattrlist": lambda path, want, buffer, size, options, *_: put(
                buffer, mac.true_name(text(path), options)
            ),
            "fcntl": fcntl,
            "sandbox_check": lambda *_: 1,
            "pread": pread,
            "execve": execve,
            "geteuid": lambda *_: 501,
            "getegid": lambda *_: 20,
            "pthread_is_threaded_np": lambda *_: 0,
            "mmap": mmap,
            "munmap": lambda at, size, *_: int(_libc.munmap(at, size)),
        }
