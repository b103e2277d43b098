"""Runs the macOS library where no Mac is: a small loader for its halves, and a made-up macOS under it.

On x86_64 Linux and macOS pass arguments alike, so that the very code which a Mac would run can be mapped and called
here; the arm64 half runs in darwin_arm.py's engine. Only what it asks of libSystem has to be answered. `Mac` answers: a
tree of files with volumes that ignore case, second names (/.vol, /System/Volumes/Data), listings in the kernel's own
form. The session's own files are real ones.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import socket
import struct
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import darwin_calls
import lief
from darwin_arm import Engine
from tracelib_session import SOURCE

sys.path.insert(0, str(SOURCE / "csrc"))
import gen_calls

# of macOS, <sys/errno.h>
ENOENT, EINTR, EBADF, ENOMEM, EACCES, EFAULT, EEXIST, ENOTDIR, EINVAL = 2, 4, 9, 12, 13, 14, 17, 20, 22
ENOEXEC, ELOOP, ENAMETOOLONG, ENOSYS = 8, 62, 63, 78
O_ACCMODE, O_NOFOLLOW, O_CREAT, O_SYMLINK, O_NOFOLLOW_ANY = 3, 0x100, 0x200, 0x200000, 0x20000000  # <sys/fcntl.h>
F_GETPATH = 50
FSOPT_NOFOLLOW = 1
DT_DIR, DT_REG, DT_LNK = 4, 8, 10
DATA = "/System/Volumes/Data"
FIRMLINKS = ("/Users", "/opt", "/private", "/usr/local", "/Applications")
#: What is a matter of memory alone is the C library's of this machine.
MEMORY = """
__bzero bzero memchr memcmp memcpy memmove memset strchr strcmp strcspn strlen strncmp strnlen strrchr strstr
pthread_self
"""

AT_FDCWD = -2
#: Flags that rows name, as macOS' headers have them.
FLAGS = {"AT_SYMLINK_NOFOLLOW": 0x20, "AT_SYMLINK_FOLLOW": 0x40, "FSOPT_NOFOLLOW": 1, "CLONE_NOFOLLOW": 1,
         "XATTR_NOFOLLOW": 1}  # fmt: skip

ROWS = {row.name: row for row in gen_calls.read(SOURCE / "csrc" / "calls.table", "darwin") if row.form != "not"}


@dataclass(frozen=True)
class Taken:
    """A path parameter of an exchanged function, by the numbers of its parameters."""

    at: int
    dirfd: int | None
    letters: str
    access: tuple[str, ...]
    switch: (
        tuple[int, int, bool] | None
    )  # parameter and flag that decide whether a last link is followed; flag set: it is

    def follows(self, words: tuple[int, ...]) -> bool:
        if not self.switch:
            return "f" in self.letters
        at, flag, where_set = self.switch
        return bool(words[at] & flag) is where_set


def there_on(machine: str) -> list[str]:
    """The rows of a machine, as Apple calls it."""
    return [name for name, row in ROWS.items() if row.machine in ("", machine.replace("arm64", "aarch64"))]


def described(name: str) -> gen_calls.Row:
    """The row with the parameters of a function: its own, or that of which it is a twin."""
    row = ROWS[name]
    return ROWS[row.target] if row.target else row


#: What tells an error by its result.
RETURN_ERRNO = ("posix_spawn", "posix_spawn_file_actions_addopen", "posix_spawn_file_actions_addchdir_np")


def fails_with_null(name: str) -> bool:
    result = described(name).result if name in ROWS else ""
    return "*" in result or result == "bool" or name == "NSCreateObjectFileImageFromFile"


def paths_of(name: str) -> list[Taken]:
    """The path parameters of an exchanged function, as its row has them."""
    row = described(name)
    names = [n for _, n in row.parameters]
    found = []
    for m in re.finditer(r"(\w+)(?:@(\w+))?(?::([a-z0]*))?(?:\?\((.*?)\))?=([\w,]+)(?:\s+|$)", row.paths):
        if m[1] not in names or not row.parameters[names.index(m[1])][0].startswith("const char *"):
            continue  # entries of a listing, an address, a block
        condition = re.search(r"(!?)\(?(\w+) & (\w+)\)?", m[4] or "")
        switch = (names.index(condition[2]), FLAGS[condition[3]], not condition[1]) if condition else None
        found.append(
            Taken(names.index(m[1]), names.index(m[2]) if m[2] else None, m[3] or "", tuple(m[5].split(",")), switch)
        )
    return found


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def memory(size: int) -> int:
    """Writable and executable: it is only a test."""
    base = _libc.mmap(None, size, 7, 0x22, -1, 0)
    assert base not in (None, ctypes.c_void_p(-1).value)
    return int(base)


#: Functions with "..." that have no row, and how many parameters stand before it.
DOTTED = {"fcntl$NOCANCEL": 2, "sandbox_check": 3}


def before_dots(name: str) -> int:
    """How many parameters stand before "..."; -1: there is none."""
    if name not in ROWS or "..." not in described(name).signature:
        return DOTTED.get(name, -1)
    return len([word for word in described(name).parameters if word[0] != "..."])


CALL = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_long] * 8)


class Failure(Exception):
    """A call of the made-up system fails with this errno."""

    def __init__(self, errno: int) -> None:
        self.errno = errno


def alike(path: str) -> str:
    """The same for names that a volume takes for one: in whatever letters, however their accents are put together."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())


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
    passed: list[tuple[str, list[str]]] = field(default_factory=list)  # function and real paths that came to the system
    cwd: str = "/"
    thread_cwd: str = ""
    bits: dict[str, tuple[int, int]] = field(default_factory=dict)  # mode and st_flags, where not the usual ones
    sandboxed: bool = True  # whether the process is in a sandbox already
    profiles: list[str] = field(default_factory=list)  # that it has asked to be put in; one that begins with "!" fails
    freed: list[int] = field(default_factory=list)  # what sandbox_init had said of why
    sockets: dict[int, socket.socket] | None = None  # real ones, to the session's; None: there is none
    images: list[str | None] = field(default_factory=list)  # that the loader has opened before the library
    words: tuple[int, ...] = ()  # of the exchanged function that was called last
    program: str = "/bin/x"  # that the process runs
    interruptions: dict[str, int] = field(default_factory=dict)  # how many calls of a function a signal is to interrupt
    full: bool = False  # whether there is no memory for another action of a spawn
    unreadable: set[str] = field(default_factory=set)
    modes: list[int] = field(default_factory=list)  # that opens were given
    firmlinks: tuple[str, ...] = FIRMLINKS
    arguments: list[str] = field(default_factory=list)  # of the program started last
    walks: dict[int, darwin_calls.Walk] = field(default_factory=dict)
    streams: dict[int, Any] = field(default_factory=dict)
    started: list[tuple[str, list[str]]] = field(default_factory=list)  # program and environment of each execve

    def inode(self, path: str) -> int:
        return 1000 + list(self.files).index(path)

    def absolute(self, path: str, dirfd: int = AT_FDCWD) -> str:
        """A path from where it begins; that a descriptor is none the system says."""
        if path.startswith("/"):
            return path
        if not path:
            raise Failure(ENOENT)
        dirfd = ctypes.c_int(dirfd).value
        if dirfd != AT_FDCWD and dirfd not in self.descriptors:
            os.fstat(dirfd)  # OSError: EBADF, the same number as on macOS
            raise Failure(ENOTDIR)
        base = (self.thread_cwd or self.cwd) if dirfd == AT_FDCWD else self.descriptors[dirfd]
        return f"{base.rstrip('/')}/{path}"

    def placed(self, path: str) -> str:
        """The real path of what is to be made: its directory is there."""
        directory, _, name = path.rstrip("/").rpartition("/")
        return f"{self.walk(directory or '/', True).rstrip('/')}/{name}"

    def named(self, directory: str, name: str) -> str | None:
        """The entry as it stands on the disk."""
        path = f"{'' if directory == '/' else directory}/{name}"
        if len(os.fsencode(name)) > 255:
            raise Failure(ENAMETOOLONG)
        if path in self.files:
            return path
        if any(path.lower().startswith(f"{volume}/") for volume in self.folding):
            return next((p for p in self.files if alike(p) == alike(path)), None)
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
        for link in self.firmlinks:
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
            if found in self.unreadable:
                raise Failure(EACCES)
        except Failure as failure:
            if failure.errno != ENOENT or not flags & O_CREAT:
                raise
            found = path
        fd = os.open("/dev/null", os.O_RDONLY)
        self.descriptors[fd] = found
        return fd

    def close(self, fd: int) -> int:
        self.descriptors.pop(fd, None)
        if self.sockets and fd in self.sockets:
            self.sockets.pop(fd).close()
            return 0
        os.close(fd)
        return 0

    def stream(self, fd: int) -> int:
        """DIR of <dirent.h>, which begins with the descriptor."""
        made = (ctypes.c_int * 64)(fd)
        self.streams[ctypes.addressof(made)] = made
        return ctypes.addressof(made)

    def stat_of(self, path: str, follow: bool) -> bytes:
        found = self.walk(path, follow)
        mode = {"d": 0o40755, "f": 0o100644, "l": 0o120777}[self.files[found][0]]
        bits, flags = self.bits.get(found, (mode & 0o7777, 0))
        size = len(self.content.get(found, b""))
        return self.stat_words(1, mode & 0o170000 | bits, self.inode(found), size, flags)

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
        if fd not in self.descriptors:
            raise Failure(EBADF)
        return os.fsencode(self.descriptors[fd]) + b"\0"


def program_header() -> bytes:
    """As a program's begins: all that lies below it, a command that is no segment, and a page of code."""
    commands = [
        struct.pack("<II16sQQQQIIII", 0x19, 72, b"__PAGEZERO", 0, 1 << 63, 0, 0, 0, 0, 0, 0),
        struct.pack("<II64s", 0x1B, 72, b"\xff" * 64),  # LC_UUID
        struct.pack("<II16sQQQQIIII", 0x19, 72, b"__TEXT", 1 << 32, 0x1000, 0, 0x1000, 5, 5, 0, 0),
    ]
    return struct.pack("<IIIIIIII", 0xFEEDFACF, 0x01000007, 3, 2, len(commands), 72 * len(commands), 0, 0) + b"".join(
        commands
    )


class Image:
    """A half of the library, read once."""

    def __init__(self, universal: bytes, machine: str) -> None:
        fat = lief.MachO.parse(list(universal))
        assert fat is not None
        self.inode64 = "$INODE64" if machine == "x86_64" else ""  # what functions for inodes of 64 bits are called
        kind = lief.MachO.Header.CPU_TYPE.X86_64 if machine == "x86_64" else lief.MachO.Header.CPU_TYPE.ARM64
        (binary,) = [b for b in fat if b.header.cpu_type == kind]
        self.size = max(s.virtual_address + s.virtual_size for s in binary.segments)
        self.segments = [(s.virtual_address, bytes(s.content)) for s in binary.segments]
        self.relocations = [r.address for r in binary.relocations]
        self.bound = {
            b.address: b.symbol.name.removeprefix("_")
            for b in binary.bindings
            if b.has_symbol and b.symbol.name != "dyld_stub_binder"
        }
        (section,) = [s for s in binary.sections if s.name == "__interpose"]
        # with 64-bit addresses, or 32-bit distances from the beginning
        (start,) = [s for s in binary.sections if s.name in ("__mod_init_func", "__init_offsets")]
        self.start = start.virtual_address, start.name == "__init_offsets"
        self.pairs = range(section.virtual_address, section.virtual_address + section.size, 16)
        self.engine = Engine(memory) if machine == "arm64" else None
        self.base = memory(self.size) if self.engine else 0  # there its code has been translated


class Library:
    """An image, mapped anew, over `mac`."""

    def __init__(self, image: Image, mac: Mac) -> None:
        self.mac = mac
        self.image = image
        self._kept: list[Any] = []
        self._errno = ctypes.c_int(0)
        self._by_hand = darwin_calls.bodies(self)
        self._own = self._bodies()
        self.engine = image.engine
        if self.engine:
            self.engine.forget()
            self.engine.answers.clear()
        self.base = image.base or memory(image.size)
        ctypes.memset(self.base, 0, image.size)  # what a test before has left behind
        for at, content in image.segments:
            ctypes.memmove(self.base + at, content, len(content))
        for at in image.relocations:
            ctypes.c_uint64.from_address(self.base + at).value += self.base
        made: dict[str, int] = {}
        for at, name in image.bound.items():
            if name not in made:
                made[name] = self._answer(name)
            ctypes.c_uint64.from_address(self.base + at).value = made[name]
        self.exchanged = {image.bound[at + 8]: ctypes.c_uint64.from_address(self.base + at).value for at in image.pairs}

    def has(self, name: str) -> bool:
        return name in self.exchanged

    def start(self) -> None:
        """The library's own initialiser, as the loader calls it: before those of the program, after libSystem's."""
        at, short = self.image.start
        kind = ctypes.c_uint32 if short else ctypes.c_uint64
        address = kind.from_address(self.base + at).value + (self.base if short else 0)
        if self.engine:
            self.engine.call(address, [0, 0, 0, 0], -1)
        else:
            CALL(address)(*[0] * 8)

    def enter(self, name: str, *words: int) -> int:
        """An exchanged function by its address, as code calls it."""
        if self.engine:
            return self.engine.call(self.exchanged[name], list(words), before_dots(name))
        return int(CALL(self.exchanged[name])(*words, *[0] * (8 - len(words))))

    def call(self, name: str, *words: Any) -> tuple[int, int]:
        """An exchanged function as a program calls it: result and errno (0 where it did not fail)."""
        given = []
        for word in words:
            buffer = ctypes.create_string_buffer(word) if isinstance(word, bytes) else word
            given.append(ctypes.addressof(buffer) if isinstance(buffer, ctypes.Array) else buffer)
            self._kept.append(buffer)
        self._errno.value = 0
        result = self.enter(name, *given)
        if fails_with_null(name):
            result = result & 0xFF if described(name).result == "bool" else result
            return result, 0 if result else self._errno.value
        result = ctypes.c_int(result).value
        if name in RETURN_ERRNO:
            return (-1, result) if result else (0, 0)
        return result, self._errno.value if result == -1 else 0

    @property
    def errno(self) -> int:
        return self._errno.value

    def put_code(self, name: str, code: bytes) -> None:
        """Machine code in place of one of libSystem's functions."""
        page = memory(4096)
        ctypes.memmove(page, code, len(code))
        for at, bound in self.image.bound.items():
            if bound == name and at - 8 not in self.image.pairs:  # what dyld exchanges stays as it is
                ctypes.c_uint64.from_address(self.base + at).value = page

    def inside(self, address: int) -> bool:
        return self.base <= address < self.base + self.image.size

    # ---- libSystem ----

    def _answer(self, name: str) -> int:
        if name in MEMORY.split():
            here = int(ctypes.cast(getattr(_libc, name.removeprefix("__")), ctypes.c_void_p).value or 0)
            return self.engine.gate(CALL(here)) if self.engine else here
        body = self._own.get(name)
        exchanged = self._exchanged_body(name)

        def answer(*words: int) -> int:
            try:
                return body(*words) if body else exchanged(*words)
            except Failure as failure:
                error = failure.errno
            except OSError as failed:
                error = failed.errno or EINVAL
            except Exception as trouble:  # ctypes would print it and go on
                self.mac.unknown.append(f"{name}: {trouble!r}")
                error = ENOSYS
            if name in RETURN_ERRNO:
                return error
            self._errno.value = error
            return 0 if fails_with_null(name) else -1

        if self.engine:
            return self.engine.gate(answer, before_dots(name))
        kept = CALL(answer)
        self._kept.append(kept)
        return int(ctypes.cast(kept, ctypes.c_void_p).value or 0)

    def _exchanged_body(self, name: str) -> Callable[..., int]:
        """The function behind a wrapper: does with its paths what the kernel would, and notes what it was given."""
        first = name.removeprefix("__").split("$")[0]
        row = described(name) if name in ROWS else None
        taken = paths_of(name) if row else []
        by_hand = self._by_hand.get(row.name if row else "")

        def answer(*words: int) -> int:
            mac = self.mac
            if not row or not (by_hand or taken):
                mac.unknown.append(name)
                raise Failure(ENOSYS)
            mac.words = words
            if by_hand:
                return by_hand(*words)
            found, done, text = [], 0, ""
            for path in taken:
                if not words[path.at] > 4096:
                    mac.unknown.append(name)
                    raise Failure(EFAULT)
                text = os.fsdecode(ctypes.string_at(words[path.at]))
                where = mac.absolute(text, words[path.dirfd] if path.dirfd is not None else AT_FDCWD)
                if "create" in path.access and "read" in path.access:
                    numbers = {n: at for at, (_, n) in enumerate(row.parameters)}
                    done = mac.opened(where, words[numbers["flags"]])
                    mode = numbers.get("mode", before_dots(name))
                    mac.modes.append(words[mode] & 0xFFFFFFFF if mode >= 0 else 0)
                    found.append(mac.descriptors.get(done, where))
                elif "x" in path.letters or "m" in path.letters or path.access == ("create",):
                    real = mac.placed(where)
                    if "x" in path.letters and real in mac.files:
                        raise Failure(EEXIST)
                    found.append(real)
                else:
                    found.append(mac.walk(where, path.follows(words)))
            mac.passed.append((name, found))
            mac.reached.append((first, os.fsdecode(ctypes.string_at(words[taken[0].at]))))
            return done

        return answer

    def _bodies(self) -> dict[str, Callable[..., int]]:
        mac = self.mac
        paths = [*mac.images, f"{mac.session}/1/tracelib.dylib"]
        names = [ctypes.create_string_buffer(os.fsencode(path)) if path else None for path in paths]
        other = ctypes.create_string_buffer(program_header())
        plus = self.image.inode64
        self._kept += [names, other]

        def text(at: int) -> str:
            return os.fsdecode(ctypes.string_at(at))

        def put(at: int, data: bytes) -> int:
            ctypes.memmove(at, data, len(data))
            return 0

        def readlink(path: int, buffer: int, size: int, *_: int) -> int:
            found = mac.walk(mac.absolute(text(path)), False)
            mac.passed.append(("readlink", [found]))
            if mac.files[found][0] != "l":
                raise Failure(EINVAL)
            target = os.fsencode(mac.files[found][2:])[:size]
            put(buffer, target)
            return len(target)

        def mmap(at: int, size: int, protection: int, flags: int, fd: int, offset: int, *_: int) -> int:
            flags = flags & 3 | (0x20 if flags & 0x1000 else 0)
            return int(_libc.mmap(at, size, protection, flags, ctypes.c_int(fd).value, offset) or 0)

        def fcntl(fd: int, command: int, buffer: int, *_: int) -> int:
            return put(buffer, mac.path_of(fd)) if command == F_GETPATH else 0

        def pread(fd: int, buffer: int, size: int, offset: int, *_: int) -> int:
            data = mac.content.get(mac.descriptors.get(fd, ""), b"")[offset : offset + size]
            put(buffer, data)
            return len(data)

        def proc_pidpath(pid: int, buffer: int, size: int, *_: int) -> int:
            if not 1024 <= size & 0xFFFFFFFF <= 4096:  # PROC_PIDPATHINFO_SIZE and _MAXSIZE
                self._errno.value = ENOMEM
                return 0
            return put(buffer, os.fsencode(mac.program) + b"\0") or len(os.fsencode(mac.program))

        def execve(path: int, argv: int, envp: int, *_: int) -> int:
            mac.started.append((text(path), darwin_calls.texts(envp)))
            mac.arguments = darwin_calls.texts(argv)
            if mac.real(text(path)):  # a copy of ours
                raise Failure(ENOEXEC)
            mac.passed.append(("execve", [mac.walk(mac.absolute(text(path)), True)]))
            raise Failure(ENOEXEC)

        def sandbox_init(profile: int, flags: int, error: int, *_: int) -> int:
            mac.profiles.append(text(profile))
            if mac.profiles[-1].startswith("!"):
                ctypes.c_uint64.from_address(error).value = 4242
                raise Failure(EINVAL)
            return 0

        def make_socket(*_: int) -> int:
            if mac.sockets is None:
                raise Failure(EINVAL)  # nobody there who could be asked
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            mac.sockets[made.fileno()] = made
            return made.fileno()

        def sockets() -> dict[int, socket.socket]:
            assert mac.sockets is not None
            return mac.sockets

        def interrupt(name: str) -> None:
            if mac.interruptions.get(name):
                mac.interruptions[name] -= 1
                raise Failure(EINTR)

        def send(fd: int, data: int, size: int, *_: int) -> int:
            interrupt("send")
            return sockets()[fd].send(ctypes.string_at(data, min(size, 3)))

        def recv(fd: int, buffer: int, size: int, *_: int) -> int:
            interrupt("recv")
            data = sockets()[fd].recv(min(size, 1))  # as little at a time as a stream may bring
            put(buffer, data)
            return len(data)

        def poll(at: int, count: int, timeout: int, *_: int) -> int:
            assert count == 1
            interrupt("poll")
            asked = select.poll()
            asked.register(darwin_calls.word(at), select.POLLIN)
            return len(asked.poll(timeout))

        def lstat(path: int, buffer: int, *_: int) -> int:
            where = mac.absolute(text(path))
            if mac.real(where):
                info = os.lstat(where)
                return put(buffer, mac.stat_words(1, info.st_mode, info.st_ino, info.st_size, 0))
            mac.passed.append((f"lstat{plus}", [mac.walk(where, False)]))
            return put(buffer, mac.stat_of(where, False))

        def getattrlist(path: int, want: int, buffer: int, size: int, options: int, *_: int) -> int:
            where = mac.absolute(text(path))
            mac.passed.append(("getattrlist", [mac.walk(where, not options & FSOPT_NOFOLLOW)]))
            return put(buffer, mac.true_name(where, options))

        def fstatat(dirfd: int, path: int, buffer: int, flags: int, *_: int) -> int:
            where = mac.absolute(text(path), dirfd)
            answer = put(buffer, mac.stat_of(where, not flags & 0x20))
            mac.passed.append((f"fstatat{plus}", [mac.walk(where, not flags & 0x20)]))
            return answer

        return {
            "__error": lambda *_: ctypes.addressof(self._errno),
            "_dyld_image_count": lambda *_: len(mac.images) + 1,
            "_dyld_get_image_header": lambda at, *_: ctypes.addressof(other) if at < len(mac.images) else self.base,
            "_dyld_get_image_name": lambda at, *_: ctypes.addressof(names[at]) if names[at] else 0,
            "proc_pidpath": proc_pidpath,
            "getpid": lambda *_: os.getpid(),
            "getppid": lambda *_: os.getppid(),
            "open$NOCANCEL": lambda path, flags, *_: mac.opened(mac.absolute(text(path)), flags),
            "close$NOCANCEL": lambda fd, *_: mac.close(fd),
            f"fstat{plus}": lambda fd, buffer, *_: put(buffer, mac.fstat(fd)),
            f"lstat{plus}": lstat,
            f"fstatat{plus}": fstatat,
            "readlink": readlink,
            "getattrlist": getattrlist,
            "fcntl$NOCANCEL": fcntl,
            "socket": make_socket,
            "setsockopt": lambda *_: 0,
            "send$NOCANCEL": send,
            "shutdown": lambda fd, how, *_: sockets()[fd].shutdown(how) or 0,
            "poll$NOCANCEL": poll,
            "recv$NOCANCEL": recv,
            "sandbox_check": lambda *_: int(mac.sandboxed),
            "sandbox_init": sandbox_init,
            "sandbox_free_error": lambda why, *_: mac.freed.append(why) or 0,
            "pread$NOCANCEL": pread,
            "dirfd": lambda stream, *_: darwin_calls.word(stream),
            "posix_spawnattr_getflags": lambda attributes, flags, *_: put(flags, ctypes.string_at(attributes, 2)),
            "execve": execve,
            "geteuid": lambda *_: 501,
            "getegid": lambda *_: 20,
            "pthread_is_threaded_np": lambda *_: 0,
            "mmap": mmap,
            "munmap": lambda at, size, *_: int(_libc.munmap(at, size)),
        }
