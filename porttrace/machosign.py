"""Ad hoc signatures of Mach-O programs: made as linkers make them, and checked.

A copy of a program needs a signature of its own, else macOS does not start it. An ad hoc one says nothing of who made
the program: it is a list of the hashes of its pages (`CodeDirectory` of the kernel's ``osfmk/kern/cs_blobs.h``). What
linkers put into every program for arm64 is just that, so no certificate and no other program is needed for it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from porttrace.errors import PorttraceError

__all__ = ["SignatureError", "Slice", "check", "sign", "slices"]

# <mach-o/fat.h>, <mach-o/loader.h>
_FAT, _FAT_64, _MACHO_64 = 0xCAFEBABE, 0xCAFEBABF, 0xFEEDFACF
_HEADER = 32
_LC_SEGMENT_64, _LC_CODE_SIGNATURE = 0x19, 0x1D
_MH_EXECUTE = 2
# osfmk/kern/cs_blobs.h
_SUPER_BLOB, _CODE_DIRECTORY = 0xFADE0CC0, 0xFADE0C02
_SLOT_CODE_DIRECTORY = 0
_SLOT_ALTERNATES = range(0x1000, 0x1005)
_VERSION_EXEC_SEGMENT = 0x20400
_AD_HOC, _LINKER_SIGNED, _RUNTIME = 0x2, 0x20000, 0x10000
_MAIN_BINARY = 1
_SHA256 = 2
_PAGE_BITS = 12
_DIRECTORY = struct.Struct(">IIIIIIIIIBBBBIIIIQQQQ")
_ALIGNED = 16


class SignatureError(PorttraceError):
    """A program cannot be signed, or its signature does not fit it."""


@dataclass
class Slice:
    """A program for one machine: the commands that matter for a signature."""

    data: bytes
    kind: int
    signature: tuple[int, int, int] | None
    """Where the command is, and the place and size that it tells."""
    text: tuple[int, int]
    """Place and size of __TEXT in the file."""
    linkedit: tuple[int, int, int, int] | None
    """Where the command is; place and size in the file, size in memory."""
    commands_end: int
    first_section: int

    @classmethod
    def read(cls, data: bytes) -> Slice:
        """Raises SignatureError where it is no sound program for a 64-bit machine."""
        if len(data) < _HEADER or struct.unpack_from("<I", data)[0] != _MACHO_64:
            raise SignatureError("it is no program for a 64-bit machine")
        _, _, _, kind, count, size, _ = struct.unpack_from("<7I", data)
        at, end = _HEADER, _HEADER + size
        if end > len(data):
            raise SignatureError("its load commands are damaged")
        found = cls(data, kind, None, (0, 0), None, end, len(data))
        for _ in range(count):
            if at + 8 > end:
                raise SignatureError("its load commands are damaged")
            command, length = struct.unpack_from("<II", data, at)
            if length < 8 or at + length > end:
                raise SignatureError("its load commands are damaged")
            if command == _LC_SEGMENT_64 and length >= 72:
                found._segment(at, length)
            elif command == _LC_CODE_SIGNATURE and length >= 16:
                found.signature = (at, *struct.unpack_from("<II", data, at + 8))
            at += length
        return found

    def _segment(self, at: int, length: int) -> None:
        name = self.data[at + 8 : at + 24].rstrip(b"\0")
        _, memory, place, size = struct.unpack_from("<4Q", self.data, at + 24)
        if name == b"__TEXT":
            self.text = (place, size)
        elif name == b"__LINKEDIT":
            self.linkedit = (at, place, size, memory)
        for n in range(struct.unpack_from("<I", self.data, at + 64)[0]):
            if 72 + 80 * (n + 1) > length:
                raise SignatureError("its sections are damaged")
            offset = struct.unpack_from("<I", self.data, at + 72 + 80 * n + 48)[0]
            if offset:
                self.first_section = min(self.first_section, offset)


def slices(data: bytes) -> list[tuple[int, int, bytes]]:
    """`(cputype, cpusubtype, bytes)` of each slice of a program. Raises SignatureError."""
    magic = struct.unpack_from(">I", data)[0] if len(data) >= 8 else 0
    if magic in (_FAT, _FAT_64):
        count = struct.unpack_from(">I", data, 4)[0]
        entry = struct.Struct(">IIIII" if magic == _FAT else ">IIQQII")
        if count > 32 or len(data) < 8 + entry.size * count:
            raise SignatureError("its fat header is damaged")
        found = []
        for n in range(count):
            cpu, subtype, at, size, *_ = entry.unpack_from(data, 8 + entry.size * n)
            if at + size > len(data):
                raise SignatureError("its fat header is damaged")
            found.append((cpu, subtype, data[at : at + size]))
        return found
    if len(data) >= _HEADER and struct.unpack_from("<I", data)[0] == _MACHO_64:
        cpu, subtype = struct.unpack_from("<II", data, 4)
        return [(cpu, subtype, data)]
    raise SignatureError("it is no program for a 64-bit machine")


def _directory(code: bytes, identifier: str, text: tuple[int, int], main: bool) -> bytes:
    name = identifier.encode() + b"\0"
    pages = [code[at : at + (1 << _PAGE_BITS)] for at in range(0, len(code), 1 << _PAGE_BITS)]
    hashes = b"".join(hashlib.sha256(page).digest() for page in pages)
    start = _DIRECTORY.size + len(name)
    return (
        _DIRECTORY.pack(
            _CODE_DIRECTORY, start + len(hashes), _VERSION_EXEC_SEGMENT, _AD_HOC | _LINKER_SIGNED, start,
            _DIRECTORY.size, 0, len(pages), len(code), 32, _SHA256, 0, _PAGE_BITS, 0, 0, 0, 0, 0,
            *text, _MAIN_BINARY if main else 0,
        )
        + name
        + hashes
    )  # fmt: skip


def _blob(directory: bytes) -> bytes:
    head = struct.pack(">IIIII", _SUPER_BLOB, 20 + len(directory), 1, _SLOT_CODE_DIRECTORY, 20)
    return head + directory


def sign(data: bytes, identifier: str) -> bytes:
    """One slice with an ad hoc signature in place of the one that it had. Raises SignatureError.

    Nothing else of an old signature stays: entitlements, requirements, the hardened runtime are gone.
    """
    program = Slice.read(data)
    if not program.linkedit:
        raise SignatureError("it has no segment __LINKEDIT")
    command, place, _, _ = program.linkedit
    out = bytearray(data)
    if program.signature:
        where, start, _ = program.signature
        if not place <= start <= len(data):
            raise SignatureError("its signature lies nowhere")
    else:
        where, start = program.commands_end, len(data) + -len(data) % _ALIGNED
        if where + 16 > program.first_section:
            raise SignatureError("there is no room for the command of a signature")
        count, size = struct.unpack_from("<II", data, 16)
        struct.pack_into("<II", out, 16, count + 1, size + 16)
    out = out[:start].ljust(start, b"\0")
    length = len(_blob(_directory(bytes(out), identifier, program.text, program.kind == _MH_EXECUTE)))
    struct.pack_into("<IIII", out, where, _LC_CODE_SIGNATURE, 16, start, length)
    size = start + length - place
    struct.pack_into("<Q", out, command + 32, size + -size % (1 << 14))
    struct.pack_into("<Q", out, command + 48, size)
    blob = _blob(_directory(bytes(out), identifier, program.text, program.kind == _MH_EXECUTE))
    return bytes(out) + blob


def _directories(blob: bytes) -> Iterator[bytes]:
    if len(blob) < 12:
        raise SignatureError("its signature is damaged")
    magic, length, count = struct.unpack_from(">III", blob)
    if magic != _SUPER_BLOB or length > len(blob) or 12 + 8 * count > length:
        raise SignatureError("its signature is damaged")
    for n in range(count):
        slot, at = struct.unpack_from(">II", blob, 12 + 8 * n)
        if slot != _SLOT_CODE_DIRECTORY and slot not in _SLOT_ALTERNATES:
            continue
        if at + 44 > length or struct.unpack_from(">I", blob, at)[0] != _CODE_DIRECTORY:
            raise SignatureError("its signature is damaged")
        size = struct.unpack_from(">I", blob, at + 4)[0]
        if size < 44 or at + size > length:
            raise SignatureError("its signature is damaged")
        yield blob[at : at + size]


def check(data: bytes) -> int:
    """The flags of one slice's signature. Raises SignatureError where its hashes are not those of the pages."""
    program = Slice.read(data)
    if not program.signature:
        raise SignatureError("it is not signed")
    _, start, size = program.signature
    if start + size > len(data) or not program.linkedit or start < program.linkedit[1]:
        raise SignatureError("its signature lies nowhere")
    flags = -1
    for directory in _directories(data[start : start + size]):
        fields = struct.unpack_from(">9I4B", directory)
        _, _, _, these, hashes, _, _, count, limit, width, kind, _, bits = fields
        if kind not in (1, 2, 3):
            raise SignatureError("its signature has hashes of a kind that is not known")
        if limit != start:
            raise SignatureError("its signature is not about all of it")
        algorithm = hashlib.sha1 if kind == 1 else hashlib.sha256
        if count != -(-limit >> bits) or hashes + count * width > len(directory):
            raise SignatureError("its signature has not one hash for each page")
        for n in range(count):
            page = data[n << bits : min((n + 1) << bits, limit)]
            if algorithm(page).digest()[:width] != directory[hashes + n * width : hashes + (n + 1) * width]:
                raise SignatureError(f"page {n} is another one than was signed")
        flags = these
    if flags < 0:
        raise SignatureError("its signature has no list of pages")
    return flags
