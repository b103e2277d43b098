"""Packing a destroot."""

from __future__ import annotations

import bz2
import grp
import hashlib
import io
import os
import pwd
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, cast

import zstandard

from porttrace.archive.model import TYPES, ArchiveError, Contents, Metadata, archive_type
from porttrace.identity import Identity

_ZSTD_LEVEL: Final = 15
_MAGIC: Final = (
    b"\x7fELF",
    b"\xfe\xed\xfa\xce",
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
)


def is_binary(path: Path) -> bool:
    """Whether a regular file is an ELF or Mach-O program or library."""
    with path.open("rb") as file:
        return file.read(4).startswith(_MAGIC)


def _walk(top: Path) -> list[tuple[str, os.stat_result]]:
    """Everything below ``top`` with its relative path, sorted by that path's bytes, parents before their children."""
    found: list[tuple[str, os.stat_result]] = []
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(top / below) as entries:
            for entry in entries:
                relative = f"{below}/{entry.name}" if below else entry.name
                status = entry.stat(follow_symlinks=False)
                found.append((relative, status))
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(relative)
    return sorted(found, key=lambda item: os.fsencode(item[0]).split(b"/"))


def scan(destroot: Path) -> Contents:
    """The files of a destroot. Raises ArchiveError for what an archive cannot hold."""
    files: list[bytes] = []
    binary: dict[bytes, bool] = {}
    try:
        for relative, status in _walk(destroot):
            path = os.fsencode(f"/{relative}")
            if "\n" in relative:
                raise ArchiveError(
                    f"the name {f'/{relative}'!r} has a line break, which +CONTENTS cannot hold; rename the file"
                )
            if relative.startswith("+"):
                raise ArchiveError(f"/{relative} is in the way of the archive's own files; install it below the prefix")
            if stat.S_ISDIR(status.st_mode):
                continue
            if stat.S_ISREG(status.st_mode):
                binary[path] = is_binary(destroot / relative)
            elif not stat.S_ISLNK(status.st_mode):
                raise ArchiveError(f"/{relative} is neither file, directory nor link; do not install it in destroot")
            files.append(path)
    except OSError as error:
        raise ArchiveError(f"the destroot {destroot} cannot be read: {error.strerror}: {error.filename!s}") from error
    return Contents(tuple(files), binary)


def outside_prefix(contents: Contents, prefix: Path, also: tuple[Path, ...] = ()) -> list[bytes]:
    """The files that a port would install outside its prefix (and outside the directories in ``also``)."""
    allowed = tuple(os.fsencode(directory) + b"/" for directory in (prefix, *also))
    return [path for path in contents.files if not path.startswith(allowed)]


def _contents_text(metadata: Metadata, contents: Contents, destroot: Path, control: list[str]) -> bytes:
    lines: list[bytes] = [
        f"@name {metadata.name}-{metadata.version}_{metadata.revision}{metadata.variants}".encode(),
        f"@portname {metadata.name}".encode(),
        f"@portepoch {metadata.epoch}".encode(),
        f"@portversion {metadata.version}".encode(),
        f"@portrevision {metadata.revision}".encode(),
        f"@archs {' '.join(metadata.archs)}".encode(),
    ]
    lines += [f"@portvariant +{name}".encode() for name in sorted(metadata.variants.split("+")[1:])]
    lines += [f"@pkgdep {needed}".encode() for needed in metadata.depends]
    lines += [f"@{key} {value}".encode() for key, value in sorted(metadata.extra.items())]
    for path in contents.files:
        lines.append(path[1:])
        if path in contents.binary:
            with (destroot / os.fsdecode(path[1:])).open("rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            lines.append(f"@comment MD5:{digest}".encode())
            lines.append(f"@comment binary:{int(contents.binary[path])}".encode())
    for name in control:
        lines += [b"@ignore", name.encode()]
    return b"\n".join(lines) + b"\n"


class _Owners:
    """Who owns what in an archive: what the build user made is root's, as is everything that an ordinary user packs."""

    def __init__(self, build: Identity | None) -> None:
        self.build = build
        self.all_root = os.geteuid() != 0

    def apply(self, info: tarfile.TarInfo, status: os.stat_result) -> None:
        uid, gid = status.st_uid, status.st_gid
        if self.all_root or (self.build is not None and uid == self.build.uid):
            uid = 0
        if self.all_root or (self.build is not None and gid == self.build.gid):
            gid = 0
        info.uid, info.gid = uid, gid
        info.uname, info.gname = _user_name(uid), _group_name(gid)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""


@contextmanager
def _compressor(file: IO[bytes], kind: str) -> Iterator[IO[bytes]]:
    if kind == "tar.zst":
        # One thread: the frames, and so the bytes, depend on the number of threads.
        with zstandard.ZstdCompressor(level=_ZSTD_LEVEL, threads=0, write_checksum=True).stream_writer(
            file, closefd=False
        ) as writer:
            yield cast(IO[bytes], writer)
    elif kind in ("tbz2", "tbz"):
        with bz2.BZ2File(file, "wb", compresslevel=9) as stream:
            yield cast(IO[bytes], stream)
    else:
        raise ArchiveError(f"archives of type {kind} are not written; portarchivetype is one of {', '.join(TYPES)}")


def create(
    destroot: Path, archive: Path, metadata: Metadata, *, epoch: int, build_user: Identity | None = None
) -> Contents:
    """Pack ``destroot`` into ``archive`` and return what is in it; nothing is left behind where it fails.

    ``epoch`` (seconds since 1970) is the latest time that a member may carry. ``build_user``'s files become root's.
    Raises ArchiveError.
    """
    kind = archive_type(archive)
    contents = scan(destroot)
    control = {
        "+COMMENT": f"{metadata.description}\n".encode(),
        "+CONTENTS": b"",
        "+DESC": f"{metadata.long_description}\n\nWWW: {metadata.homepage}\n".encode(),
        "+PORTFILE": metadata.portfile,
        "+STATE": metadata.state,
    }
    if metadata.trace:
        control["+TRACE"] = metadata.trace
    try:
        control["+CONTENTS"] = _contents_text(metadata, contents, destroot, list(control))
        archive.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{archive.name}.", dir=archive.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                with _compressor(file, kind) as stream:
                    _write_tar(stream, destroot, control, epoch, _Owners(build_user))
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(archive)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        raise ArchiveError(f"the archive {archive} cannot be written: {error.strerror}{name}") from error
    return contents


def _write_tar(stream: IO[bytes], destroot: Path, control: dict[str, bytes], epoch: int, owners: _Owners) -> None:
    seen: dict[tuple[int, int], str] = {}
    # GNU format: names of any length and of any bytes, and no header that holds a time of packing.
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        for name, data in control.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size, info.mtime, info.mode = len(data), epoch, 0o644
            info.uname, info.gname = _user_name(0), _group_name(0)
            tar.addfile(info, io.BytesIO(data))
        for relative, status in _walk(destroot):
            info = tarfile.TarInfo(f"./{relative}")
            info.mode = stat.S_IMODE(status.st_mode)
            info.mtime = min(int(status.st_mtime), epoch)
            owners.apply(info, status)
            path = destroot / relative
            if stat.S_ISDIR(status.st_mode):
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif stat.S_ISLNK(status.st_mode):
                info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)  # noqa: PTH115 -- Path would tidy the target up
                # Links have no mode of their own; what the kernel says differs between systems.
                info.mode = 0o777
                tar.addfile(info)
            elif status.st_nlink > 1 and (status.st_dev, status.st_ino) in seen:
                info.type, info.linkname = tarfile.LNKTYPE, seen[status.st_dev, status.st_ino]
                tar.addfile(info)
            else:
                seen[status.st_dev, status.st_ino] = info.name
                info.size = status.st_size
                with path.open("rb") as file:
                    tar.addfile(info, file)
