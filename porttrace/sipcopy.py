"""Copies of programs that macOS protects, so that the injected library can enter them.

The loader drops DYLD_* for what System Integrity Protection covers (/bin/sh, /usr/bin/make). A copy elsewhere, signed
anew ad hoc, is an ordinary program. Copies are made once: kept under the identity of the original (path, device,
inode, size, time of change: csrc/tracelib/sip.c makes the same name) and, below that, by content, so that a program
with several names, or one whose dates alone changed, is signed once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import stat
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from porttrace import machosign
from porttrace.errors import PorttraceError

__all__ = ["SipCache", "SipError", "cache_directory", "identity", "is_protected", "runnable_slices", "thin"]

# <mach/machine.h>, <mach-o/fat.h>, <mach-o/loader.h>
_FAT = 0xCAFEBABE
_MACHO_64 = 0xFEEDFACF
_X86_64, _ARM64 = 0x01000007, 0x0100000C
_SUBTYPE_MASK, _ARM64E = 0x00FFFFFF, 2
_ARM64_ALL, _X86_64_ALL = 0, 3
_LC_SEGMENT_64 = 0x19
_RESTRICTED = 0x00080000  # SF_RESTRICTED of <sys/stat.h>
_NAMES = {"x86_64": _X86_64, "arm64": _ARM64}
_PROTECTED = (b"/System/", b"/bin/", b"/sbin/", b"/usr/")
_LONGEST = 200 << 20  # bytes; no program that a build starts comes near


class SipError(PorttraceError):
    """A protected program cannot be copied."""


def cache_directory(base: Path) -> Path:
    """Where copies are kept from one session to the next; `base`: the directory of all sessions, for root's."""
    return base / ".sip-0" if os.geteuid() == 0 else Path.home() / "Library" / "Caches" / "porttrace" / "sip"


def is_protected(path: bytes, info: os.stat_result) -> bool:
    """Whether the loader would keep the library out of this program; the same rule as in csrc/tracelib."""
    if getattr(info, "st_flags", 0) & _RESTRICTED:
        return True
    return path.startswith(_PROTECTED) and not path.startswith(b"/usr/local/")


def identity(path: bytes, info: os.stat_result) -> str:
    """The name under which a file's copy lies: it changes with the file. Must agree with csrc/tracelib/sip.c."""
    fnv = 0xCBF29CE484222325
    for byte in path:
        fnv = ((fnv ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    seconds, nanoseconds = divmod(info.st_mtime_ns, 10**9)
    device = info.st_dev & 0xFFFFFFFF
    return f"{fnv:x}-{device:x}-{info.st_ino:x}-{info.st_size:x}-{seconds & 0xFFFFFFFFFFFFFFFF:x}.{nanoseconds:x}"


def _as_arm64(data: bytes) -> bytes:
    return data[:8] + struct.pack("<I", _ARM64_ALL) + data[12:]


def _unrestricted(data: bytes) -> bytes:
    """A slice without a segment that makes the loader drop DYLD_*: it keeps its place under another name."""
    at, end = 32, min(len(data), 32 + struct.unpack_from("<I", data, 20)[0])
    while at + 72 <= end:
        command, length = struct.unpack_from("<II", data, at)
        if command == _LC_SEGMENT_64 and data[at + 8 : at + 24].rstrip(b"\0") == b"__RESTRICT":
            data = data[: at + 8] + b"__UNRESTRICTED".ljust(16, b"\0") + data[at + 24 :]
        if length < 8:
            break
        at += length
    return data


def thin(data: bytes, machines: tuple[str, ...]) -> bytes:
    """A program with slices for `machines` (`x86_64`, `arm64`) only, as a file of one slice or a fat one.

    arm64e is refused by the kernel in programs that are not Apple's, so such a slice is labelled as plain arm64 where
    there is no other for arm64: outside an arm64e process its pointer authentication is switched off, and the
    instructions for it do what their plain forms do. Raises SipError where no slice is left.
    """
    chosen: dict[int, bytes] = {}
    labelled: set[int] = set()
    for cpu, subtype, body in _slices(data):
        if not any(_NAMES[machine] == cpu for machine in machines):
            continue
        pointer_authentication = cpu == _ARM64 and subtype & _SUBTYPE_MASK == _ARM64E
        if cpu in chosen and (pointer_authentication or cpu not in labelled):
            continue
        if len(body) < 32 or struct.unpack_from("<I", body)[0] != _MACHO_64:
            raise SipError("a slice of it is damaged")
        chosen[cpu] = _unrestricted(_as_arm64(body) if pointer_authentication else body)
        (labelled.add if pointer_authentication else labelled.discard)(cpu)
    if not chosen:
        raise SipError(f"it has no slice for {' or '.join(machines)}")
    return _join(chosen)


def _slices(data: bytes) -> list[tuple[int, int, bytes]]:
    try:
        return machosign.slices(data)
    except machosign.SignatureError as error:
        raise SipError(str(error)) from None


def _join(parts: dict[int, bytes]) -> bytes:
    """A file of one slice, or a fat one, each slice on a page of its own."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    page = 1 << 14
    header = struct.pack(">II", _FAT, len(parts))
    body = b""
    for cpu, part in parts.items():
        subtype = _ARM64_ALL if cpu == _ARM64 else _X86_64_ALL
        header += struct.pack(">IIIII", cpu, subtype, page + len(body), len(part), 14)
        body += part + b"\0" * (-len(part) % page)
    return header.ljust(page, b"\0") + body


def sign_ourselves(path: Path) -> None:
    """Sign ad hoc as linkers do: no other program is needed for it. Raises SipError."""
    try:
        signed = {cpu: machosign.sign(body, path.name) for cpu, _, body in machosign.slices(path.read_bytes())}
    except machosign.SignatureError as error:
        raise SipError(f"cannot sign it: {error}") from None
    path.write_bytes(_join(signed))


def sign_with_codesign(path: Path) -> None:
    """Sign ad hoc with the system's own program. Raises SipError with codesign's own words."""
    try:
        done = subprocess.run(
            ["/usr/bin/codesign", "--force", "--sign", "-", os.fspath(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={"PATH": "/usr/bin:/bin"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SipError(f"codesign could not be run: {error}") from None
    if done.returncode:
        raise SipError(f"codesign: {done.stderr.strip() or done.returncode}")


#: Ways to sign, in the order in which they are tried.
SIGNERS: tuple[Callable[[Path], None], ...] = (sign_ourselves, sign_with_codesign)


def _checked(path: Path) -> None:
    """Raises SipError where the signature does not fit the file: the system would kill what is started from it."""
    try:
        for _, _, body in machosign.slices(path.read_bytes()):
            machosign.check(body)
    except machosign.SignatureError as error:
        raise SipError(f"its signature does not fit it: {error}") from None


def _starts(program: Path) -> bool:
    try:
        return subprocess.run([program], timeout=20, check=False, capture_output=True).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def runnable_slices(
    directory: Path,
    sign: Callable[[Path], None] = sign_ourselves,
    starts: Callable[[Path], bool] = _starts,
    sample: Path = Path("/usr/bin/true"),
) -> tuple[str, ...]:
    """Which slices of a copied program this machine runs, tried with a copy of `sample`: native first.

    What the kernel lets pass has changed between releases, so it is asked and not assumed.
    """
    native = "arm64" if platform.machine() == "arm64" else "x86_64"
    order = ("arm64", "x86_64") if native == "arm64" else ("x86_64",)
    found = []
    for machine in order:
        with tempfile.TemporaryDirectory(dir=directory) as scratch, contextlib.suppress(SipError, OSError):
            copy = Path(scratch) / sample.name
            copy.write_bytes(thin(sample.read_bytes(), (machine,)))
            copy.chmod(0o755)
            sign(copy)
            if starts(copy):
                found.append(machine)
    return tuple(found)


class SipCache:
    """The copies in one directory, which only its owner may write; several processes may use it at once.

    `machines`, `sign`: the slices that copies keep, and how they are signed (default: the first of SIGNERS with which
    `runnable_slices` finds any, tried when the first copy is made). Raises SipError where the directory cannot be ours.
    """

    def __init__(
        self,
        directory: Path,
        machines: tuple[str, ...] | None = None,
        sign: Callable[[Path], None] | None = None,
    ) -> None:
        self.directory = directory
        self._machines = machines
        self._sign = sign or sign_ourselves
        self._signers = (sign,) if sign else SIGNERS
        self.made = 0
        """Copies that were signed by this object."""
        try:
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            info = directory.lstat()
        except OSError as error:
            raise SipError(f"cannot make {directory}: {error.strerror}") from None
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o022:
            raise SipError(f"{directory} could be changed by others, who could put programs there: remove it")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def lookup(self, path: bytes) -> Path | None:
        """The copy of the program at `path` (absolute, real) as it is now, or None."""
        try:
            info = os.lstat(path)
        except OSError:
            return None
        copy = self.directory / identity(path, info) / os.fsdecode(os.path.basename(path))  # noqa: PTH119 (bytes)
        return copy if copy.is_file() else None

    def copy(self, path: bytes) -> Path:
        """Make the copy, or find it. Raises SipError where the program is not protected, or cannot be copied."""
        text = os.fsdecode(path)
        try:
            info = os.lstat(path)
            if not stat.S_ISREG(info.st_mode) or not is_protected(path, info):
                raise SipError(f"{text} is not a program that the system protects")
            if info.st_mode & (stat.S_ISUID | stat.S_ISGID):
                raise SipError(f"{text} changes its user: a copy could not")
            if info.st_size > _LONGEST:
                raise SipError(f"{text} is too long to be copied")
            found = self.lookup(path)
            if found:
                return found
            with self._locked():
                return self.lookup(path) or self._make(path, info)
        except OSError as error:
            raise SipError(f"cannot copy {text}: {error.strerror}") from None
        except SipError as error:
            raise error if text in str(error) else SipError(f"cannot copy {text}: {error}") from None

    def _choose(self) -> None:
        for sign in self._signers:
            self._sign, self._machines = sign, runnable_slices(self.directory, sign)
            if self._machines:
                break

    def _make(self, path: bytes, info: os.stat_result) -> Path:
        if self._machines is None:
            self._choose()
        if not self._machines:
            raise SipError("this system runs no copies of its programs")
        name = os.fsdecode(os.path.basename(path))  # noqa: PTH119 (bytes)
        data = Path(os.fsdecode(path)).read_bytes()
        kept = f"{hashlib.sha256(data).hexdigest()}-{'-'.join(self._machines)}"
        object_directory = self.directory / "objects"
        object_directory.mkdir(mode=0o755, exist_ok=True)
        content = object_directory / kept
        if not content.exists():
            scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=self.directory))
            try:
                fresh = scratch / name  # the signature's identifier is made of the name
                fresh.write_bytes(thin(data, self._machines))
                fresh.chmod(0o755)
                self._sign(fresh)
                _checked(fresh)
                fresh.rename(content)
                self.made += 1
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=self.directory))
        try:
            scratch.chmod(0o755)
            os.link(content, scratch / name)
            target = self.directory / identity(path, info)
            if target.exists():  # of another name, or left without its copy
                shutil.rmtree(target)
            scratch.rename(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return target / name
